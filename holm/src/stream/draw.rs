//! A block of lines on the terminal that is drawn over and over: the latest rows, open windows
//! dimmed, and a line of figures with sparklines.

use std::collections::VecDeque;
use std::io::{IsTerminal, Write as _};
use std::time::Instant;

use holm_connect::{Figures, Format, write};
use holm_lanes::{Batch, Field, number};

use super::output::grouped;

/// Lines of rows.
const ROWS: usize = 12;
/// Of them, lines of open windows at most.
const OPEN: usize = 5;
/// Cells of a sparkline.
const SPARKS: usize = 24;
const SPARK: [char; 8] = [
    '\u{2581}', '\u{2582}', '\u{2583}', '\u{2584}', '\u{2585}', '\u{2586}', '\u{2587}', '\u{2588}',
];

/// A line of bars, the last value right.
pub(crate) fn sparkline(values: impl Iterator<Item = f64> + Clone) -> String {
    let most = values.clone().fold(0.0, f64::max);
    let bar = |value: f64| {
        let step = if most > 0.0 { value / most * 7.0 } else { 0.0 };
        let place = SPARK.iter().enumerate();
        let place = place.filter(|(at, _)| f64::from(number(*at)) <= step + 0.5);
        place.map(|(_, bar)| *bar).next_back().unwrap_or(SPARK[0])
    };
    values.map(bar).collect()
}

/// A rate for people.
pub(crate) fn rate(value: f64) -> String {
    match value {
        1e9.. => format!("{:.1} G", value / 1e9),
        1e6.. => format!("{:.1} M", value / 1e6),
        1e4.. => format!("{:.1} k", value / 1e3),
        _ => format!("{value:.0}"),
    }
}

/// A size for people.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [(u64, &str); 3] = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    for (unit, name) in UNITS {
        if bytes >= unit {
            let tenths = bytes / (unit / 10).max(1);
            return format!("{}.{} {name}", tenths / 10, tenths % 10);
        }
    }
    format!("{bytes} B")
}

/// The block.
#[derive(Debug)]
pub(crate) struct Block {
    fields: Vec<Field>,
    latest: VecDeque<String>,
    rates: VecDeque<f64>,
    before: (Instant, u64),
    drawn: usize,
    is_terminal: bool,
}

impl Block {
    pub(crate) fn new(fields: &[Field]) -> Self {
        Self {
            fields: fields.to_vec(),
            latest: VecDeque::new(),
            rates: VecDeque::new(),
            before: (Instant::now(), 0),
            drawn: 0,
            is_terminal: std::io::stderr().is_terminal(),
        }
    }

    /// Rows came out; the last of them are kept.
    pub(crate) fn rows(&mut self, rows: &Batch) {
        let from = rows.rows.saturating_sub(ROWS);
        for line in self.lines(rows, from..rows.rows) {
            if self.latest.len() == ROWS {
                self.latest.pop_front();
            }
            self.latest.push_back(line);
        }
    }

    fn lines(&self, rows: &Batch, range: std::ops::Range<usize>) -> Vec<String> {
        let wanted: Vec<u32> = range.map(number).collect();
        let mut text = String::new();
        write(
            Format::JsonLines,
            &self.fields,
            &rows.take(&wanted),
            &mut text,
        );
        text.lines().map(str::to_owned).collect()
    }

    /// Draws it anew. Without a terminal only the last of all is drawn, without open windows.
    pub(crate) fn draw(&mut self, figures: &Figures, open: Option<&Batch>) {
        let (at, rows) = self.before;
        let passed = at.elapsed().as_secs_f64();
        if passed > 0.0 && figures.rows > rows {
            let came = figures.rows - rows;
            self.rates.push_back(real(came) / passed);
            if self.rates.len() > SPARKS {
                self.rates.pop_front();
            }
        }
        self.before = (Instant::now(), figures.rows);
        if !self.is_terminal && !figures.is_ended {
            return;
        }
        let open = open.map_or_else(Vec::new, |open| self.lines(open, 0..open.rows.min(OPEN)));
        let text = self.text(figures, &open);
        // What cannot be drawn is no reason to stop the work it shows.
        drop(std::io::stderr().write_all(text.as_bytes()));
        self.drawn = text.matches('\n').count();
    }

    fn text(&self, figures: &Figures, open: &[String]) -> String {
        let (dim, plain, up) = if self.is_terminal {
            ("\x1b[2m", "\x1b[0m", self.drawn)
        } else {
            ("", "", 0)
        };
        let width = if self.is_terminal {
            width()
        } else {
            usize::MAX
        };
        let mut text = String::new();
        if up > 0 {
            text += &format!("\x1b[{up}A\x1b[J");
        }
        let kept = ROWS - open.len();
        for line in self
            .latest
            .iter()
            .skip(self.latest.len().saturating_sub(kept))
        {
            text += &cut(line, width);
            text.push('\n');
        }
        for line in open {
            text += &format!("{dim}{}{plain}\n", cut(&format!("{line} open"), width));
        }
        let line = format!(
            "{} rows in {} {}/s, {} late, {} diverted; {} out; {} open, {} keys, {}",
            grouped(figures.rows),
            sparkline(self.rates.iter().copied()),
            rate(self.rates.back().copied().unwrap_or(0.0)),
            grouped(figures.late),
            grouped(figures.diverted),
            grouped(figures.out),
            grouped(figures.panes),
            grouped(figures.keys),
            size(figures.state_bytes),
        );
        text += &cut(&line, width);
        text.push('\n');
        text
    }
}

/// A count as a float; exact as far as a person looks.
#[expect(clippy::cast_precision_loss, reason = "it is shown with two digits")]
pub(crate) const fn real(count: u64) -> f64 {
    count as f64
}

fn cut(line: &str, width: usize) -> String {
    line.chars().take(width.saturating_sub(1)).collect()
}

/// How wide the terminal is.
pub(crate) fn width() -> usize {
    let size = rustix::termios::tcgetwinsize(std::io::stderr());
    let columns = size.map_or(80, |size| usize::from(size.ws_col));
    if columns == 0 { 80 } else { columns }
}

#[cfg(test)]
mod tests {
    use holm_lanes::{Kind, Lane, Values};

    use super::*;

    #[test]
    fn sparklines_and_sizes_are_for_people() {
        let line = sparkline([0.0, 1.0, 7.0, 3.5].into_iter());
        assert_eq!(line, "\u{2581}\u{2582}\u{2588}\u{2585}");
        assert_eq!(sparkline([0.0; 2].into_iter()), "\u{2581}\u{2581}");
        assert_eq!(
            (rate(1_234.0), rate(12_345_678.0)),
            ("1234".into(), "12.3 M".into())
        );
        assert_eq!(
            (size(1_023), size(1_536)),
            ("1023 B".into(), "1.5 KiB".into())
        );
    }

    #[test]
    fn open_windows_are_dimmed_and_the_block_replaces_itself() {
        let field = Field {
            name: "n".into(),
            kind: Kind::BigInt,
            nullable: false,
        };
        let mut block = Block::new(&[field]);
        block.is_terminal = true;
        let rows = |values: Vec<i64>| Batch::of(vec![Lane::dense(Values::Int(values))]);
        block.rows(&rows((0..100).collect()));
        let open = block.lines(&rows(vec![7, 8]), 0..2);
        let text = block.text(&Figures::default(), &open);
        assert_eq!(text.lines().count(), ROWS + 1);
        assert!(text.contains("\n{\"n\":99}\n"), "{text}");
        assert!(text.contains("\x1b[2m{\"n\":8} open\x1b[0m\n"), "{text}");
        block.drawn = 13;
        let again = block.text(&Figures::default(), &[]);
        assert!(again.starts_with("\x1b[13A\x1b[J"), "{again}");
    }
}
