//! `holm stream top`: what the queries of a site do, as figures with sparklines.

use std::collections::{BTreeMap, VecDeque};
use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::Value;

use super::Ended;
use super::draw::{rate, real, size, sparkline};
use super::output::grouped;
use super::site::At;
use crate::quantity::parse_duration;
use crate::screen::Screen;

pub(crate) const EXAMPLES: &str = "\
Examples:
  holm stream top                              until Ctrl-C
  holm stream top --at 127.0.0.1:2385 --once
  holm stream top --json                       a line of JSON for each look

It reads the address where the site shows its queries, or where `holm stream run --page ADDRESS` does.
Exit codes: 0 complete; 1 nobody answers there.";

/// Cells of a sparkline.
const SPARKS: usize = 24;

/// What the command line says.
#[derive(Debug, Args)]
pub(crate) struct Asked {
    #[command(flatten)]
    at: At,
    /// Show it once
    #[arg(long)]
    once: bool,
    /// How often to look
    #[arg(long, value_name = "TIME", default_value = "500ms", value_parser = parse_duration)]
    every: Duration,
}

/// What was seen of a query before.
#[derive(Debug, Default)]
struct Seen {
    rows: u64,
    rates: VecDeque<f64>,
}

/// Shows figures until it is ended.
pub(crate) fn top(asked: &Asked) -> Result<u8, Ended> {
    let screen = Screen::new(asked.at.json);
    let mut seen: BTreeMap<String, Seen> = BTreeMap::new();
    let is_terminal = std::io::stdout().is_terminal();
    let mut before: Option<Instant> = None;
    let mut drawn = 0;
    loop {
        let answer = asked.at.ask("GET", "/views", None)?;
        let passed = before.map(|at| at.elapsed());
        before = Some(Instant::now());
        note(&mut seen, &answer, passed);
        // A rate needs two looks.
        let is_shown = asked.at.json || !asked.once || passed.is_some();
        if is_shown {
            let mut text = table(&answer, &seen);
            let lines = text.matches('\n').count();
            if is_terminal && drawn > 0 && !asked.at.json {
                text = format!("\x1b[{drawn}A\x1b[J{text}");
            }
            drawn = lines;
            let shown = screen.show(&text, &answer);
            shown.map_err(|error| Ended::failed("write to standard output", error))?;
        }
        if asked.once && is_shown {
            return Ok(0);
        }
        std::thread::sleep(asked.every.max(Duration::from_millis(50)));
    }
}

fn figure(view: &Value, name: &str) -> u64 {
    view["figures"][name].as_u64().unwrap_or(0)
}

fn name_of(view: &Value) -> &str {
    view["name"].as_str().unwrap_or_default()
}

fn views(answer: &Value) -> impl Iterator<Item = &Value> {
    answer["views"].as_array().into_iter().flatten()
}

fn note(seen: &mut BTreeMap<String, Seen>, answer: &Value, passed: Option<Duration>) {
    seen.retain(|name, _| views(answer).any(|view| name_of(view) == name));
    for view in views(answer) {
        let rows = figure(view, "rows");
        let known = seen.entry(name_of(view).to_owned()).or_default();
        if let Some(passed) = passed {
            let came = rows.saturating_sub(known.rows);
            known
                .rates
                .push_back(real(came) / passed.as_secs_f64().max(1e-3));
            if known.rates.len() > SPARKS {
                known.rates.pop_front();
            }
        }
        known.rows = rows;
    }
}

/// A time span in microseconds.
fn span(us: i64) -> String {
    let ms = us / 1_000;
    match ms.unsigned_abs() {
        0..1_000 => format!("{ms} ms"),
        1_000..120_000 => format!("{}.{} s", ms / 1_000, ms.unsigned_abs() % 1_000 / 100),
        120_000..7_200_000 => format!("{} min", ms / 60_000),
        7_200_000..172_800_000 => format!("{} h", ms / 3_600_000),
        _ => format!("{} d", ms / 86_400_000),
    }
}

fn line(view: &Value, seen: &Seen) -> [String; 14] {
    let rows = figure(view, "rows");
    let per = |name: &str, rows: u64| {
        if rows == 0 || figure(view, name) == 0 {
            return "-".to_owned();
        }
        format!("{:.1}", real(figure(view, name)) / real(rows))
    };
    // Since it was started; what was before is not known.
    let since = figure(view, "logged_rows");
    let time = view["figures"]["watermark_us"].as_i64().map(|us| {
        let mut text = String::new();
        holm_lanes::write_timestamp(us, 3, &mut text);
        text.get(11..19).unwrap_or_default().to_owned()
    });
    let is_ended = view["figures"]["ended"].as_bool().unwrap_or(false);
    [
        name_of(view).to_owned(),
        sparkline(seen.rates.iter().copied()),
        if is_ended {
            "ended".to_owned()
        } else {
            rate(seen.rates.back().copied().unwrap_or(0.0))
        },
        grouped(rows),
        per("busy_ns", if since > 0 { since } else { rows }),
        time.unwrap_or_else(|| "-".to_owned()),
        view["figures"]["lag_us"]
            .as_i64()
            .map_or_else(|| "-".to_owned(), span),
        grouped(figure(view, "late")),
        grouped(figure(view, "diverted")),
        grouped(figure(view, "panes")),
        grouped(figure(view, "keys")),
        size(figure(view, "state_bytes")),
        per("logged_bytes", since),
        match figure(view, "together") {
            0 | 1 => "-".to_owned(),
            queries => queries.to_string(),
        },
    ]
}

const HEAD: [&str; 14] = [
    "query",
    "",
    "rows/s",
    "rows",
    "ns/row",
    "watermark",
    "lag",
    "late",
    "diverted",
    "panes",
    "keys",
    "state",
    "log B/row",
    "shared by",
];

fn table(answer: &Value, seen: &BTreeMap<String, Seen>) -> String {
    let mut lines = vec![HEAD.map(str::to_owned)];
    for view in views(answer) {
        if let Some(seen) = seen.get(name_of(view)) {
            lines.push(line(view, seen));
        }
    }
    if lines.len() == 1 {
        return "no query is shown here\n".to_owned();
    }
    let widths: Vec<usize> = (0..HEAD.len())
        .map(|at| {
            lines
                .iter()
                .map(|line| line[at].chars().count())
                .max()
                .unwrap_or(0)
        })
        .collect();
    let mut text = String::new();
    for line in &lines {
        let mut shown = String::new();
        for (at, cell) in line.iter().enumerate() {
            let gap = " ".repeat(widths[at] - cell.chars().count());
            // Words stand left, numbers right.
            shown += &if at == 0 {
                format!("{cell}{gap}  ")
            } else {
                format!("{gap}{cell}  ")
            };
        }
        text += shown.trim_end();
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_table_shows_each_query() {
        let answer = json!({ "views": [
            { "name": "cm", "figures": { "rows": 1_200, "busy_ns": 6_000, "watermark_us": 1_000_000,
                "lag_us": 2_500_000, "late": 3, "diverted": 0, "panes": 61, "keys": 4, "state_bytes": 2_048,
                "log_bytes": 0, "ended": false } },
            { "name": "other", "figures": { "rows": 0, "watermark_us": null, "lag_us": null, "ended": true } },
        ] });
        let mut seen = BTreeMap::new();
        note(&mut seen, &answer, None);
        seen.get_mut("cm").unwrap().rows = 200;
        note(&mut seen, &answer, Some(Duration::from_secs(2)));
        let text = table(&answer, &seen);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3, "{text}");
        for word in ["cm", "500", "1,200", "5.0", "00:00:01", "2.5 s", "2.0 KiB"] {
            assert!(lines[1].contains(word), "{word} in {text}");
        }
        assert!(lines[2].contains("ended"), "{text}");
    }
}
