//! A file as a source: whole lines, by the byte behind them, and back to any of them.

use std::io::{Read, Seek, SeekFrom};
use std::thread::park_timeout;
use std::time::Duration;

use crate::reader::Format;
use crate::source::{Piece, Position, Repeats, Source, SourceError, Taken};

/// A piece is about so long: half of a core's second cache.
const PIECE: usize = 256 << 10;
/// A line that is longer is no line.
pub(crate) const LINE_MAX: usize = 16 << 20;
/// How often a file that grows is looked at.
const LOOK: Duration = Duration::from_millis(10);

/// What a file source reads: a file, or bytes in memory.
pub trait Bytes: Read + Seek + Send + std::fmt::Debug {}

impl<T: Read + Seek + Send + std::fmt::Debug> Bytes for T {}

/// What happens at the end of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AtEnd {
    /// The source ends; a last line without a line end counts.
    Stop,
    /// It waits for more; a line counts once it has its line end.
    Follow,
}

/// A file, line by line.
///
/// Its position is two numbers: the byte behind what was given, and the number of the line that
/// begins there.
#[derive(Debug)]
pub struct FileSource {
    name: String,
    bytes: Box<dyn Bytes>,
    header: Option<String>,
    /// Where rows begin, and the line there.
    begin: (u64, u64),
    /// Where what is held begins, and the line there.
    place: (u64, u64),
    /// Read and not yet given.
    held: Vec<u8>,
    at_end: AtEnd,
    is_stopped: bool,
}

impl FileSource {
    /// A source of these bytes; of CSV the first line is read.
    ///
    /// # Errors
    ///
    /// If they cannot be read.
    pub fn new(
        name: &str,
        bytes: Box<dyn Bytes>,
        format: Format,
        at_end: AtEnd,
    ) -> Result<Self, SourceError> {
        let mut source = Self {
            name: name.to_owned(),
            bytes,
            header: None,
            begin: (0, 1),
            place: (0, 1),
            held: Vec::new(),
            at_end,
            is_stopped: false,
        };
        if format == Format::Csv {
            source.read_header()?;
        }
        Ok(source)
    }

    fn read_header(&mut self) -> Result<(), SourceError> {
        let mut wanted = 1 << 12;
        loop {
            let is_over = self.fill(wanted)?;
            let end = self.held.iter().position(|byte| *byte == b'\n');
            let end = match end {
                Some(end) => end + 1,
                None if is_over => self.held.len(),
                None if self.held.len() > LINE_MAX => return Err(self.too_long()),
                None => {
                    wanted *= 2;
                    continue;
                }
            };
            let line: Vec<u8> = self.held.drain(..end).collect();
            self.header = Some(String::from_utf8_lossy(&line).trim_end().to_owned());
            self.begin = (long(end), 2);
            self.place = self.begin;
            return Ok(());
        }
    }

    fn too_long(&self) -> SourceError {
        let line = self.place.1;
        let reason = format!("line {line} has more than {} MiB", LINE_MAX >> 20);
        SourceError::refused(&self.name, reason)
    }

    /// Reads until so much is held; whether the file is over.
    fn fill(&mut self, wanted: usize) -> Result<bool, SourceError> {
        while self.held.len() < wanted {
            let from = self.held.len();
            self.held.resize(wanted, 0);
            let read = self.bytes.read(&mut self.held[from..]);
            self.held.truncate(from + *read.as_ref().unwrap_or(&0));
            match read {
                Ok(0) => return Ok(true),
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(SourceError::failed(&self.name, error)),
            }
        }
        Ok(false)
    }

    /// Gives the first bytes of what is held, which are whole rows.
    fn give(&mut self, end: usize) -> Taken {
        let rest = self.held.split_off(end);
        let rows = std::mem::replace(&mut self.held, rest);
        let lines = rows.iter().filter(|byte| **byte == b'\n').count();
        let is_cut = rows.last() != Some(&b'\n');
        let first_row = self.place.1;
        let lines = long(lines) + u64::from(is_cut);
        self.place = (self.place.0 + long(end), first_row + lines);
        Taken::Rows(Piece {
            rows,
            first_row,
            position: Position::of(&[self.place.0, self.place.1]),
            key: None,
        })
    }

    fn move_to(&mut self, place: (u64, u64)) -> Result<(), SourceError> {
        let failed = |error| SourceError::failed(&self.name, error);
        let end = self.bytes.seek(SeekFrom::End(0)).map_err(failed)?;
        if place.0 > end {
            let reason = format!(
                "it was read to byte {} and has only {end} now; it is another file, or it was cut",
                place.0
            );
            return Err(SourceError::refused(&self.name, reason));
        }
        if place.0 > self.begin.0 {
            let failed = |error| SourceError::failed(&self.name, error);
            let before = SeekFrom::Start(place.0 - 1);
            self.bytes.seek(before).map_err(failed)?;
            let mut last = [0];
            self.bytes.read_exact(&mut last).map_err(failed)?;
            if last != *b"\n" && place.0 != end {
                let reason = format!("no line ends at byte {}; it is another file", place.0);
                return Err(SourceError::refused(&self.name, reason));
            }
        } else {
            let failed = |error| SourceError::failed(&self.name, error);
            let begin = SeekFrom::Start(place.0);
            self.bytes.seek(begin).map_err(failed)?;
        }
        self.held.clear();
        self.place = place;
        Ok(())
    }
}

impl Source for FileSource {
    fn name(&self) -> &str {
        &self.name
    }

    fn header(&self) -> Option<&str> {
        self.header.as_deref()
    }

    fn take(&mut self, credit: usize, wait: Duration) -> Result<Taken, SourceError> {
        if self.is_stopped {
            return Ok(Taken::End);
        }
        let mut wanted = PIECE.min(credit);
        loop {
            let is_over = self.fill(wanted)?;
            let visible = &self.held[..self.held.len().min(credit)];
            if let Some(end) = visible.iter().rposition(|byte| *byte == b'\n') {
                return Ok(self.give(end + 1));
            }
            if is_over && self.at_end == AtEnd::Follow {
                park_timeout(wait.min(LOOK));
                return Ok(Taken::Nothing);
            }
            if is_over && self.held.is_empty() {
                return Ok(Taken::End);
            }
            if is_over && self.held.len() <= credit {
                return Ok(self.give(self.held.len()));
            }
            if self.held.len() > LINE_MAX {
                return Err(self.too_long());
            }
            if self.held.len() >= credit {
                park_timeout(wait.min(LOOK));
                return Ok(Taken::Nothing);
            }
            wanted = (self.held.len() * 2).max(PIECE).min(credit);
        }
    }

    fn acknowledge(&mut self, _through: &Position) {}

    fn seek(&mut self, position: &Position) -> Result<(), SourceError> {
        match position.numbers().as_deref() {
            Some([]) => self.move_to(self.begin),
            Some([byte, line]) if *byte >= self.begin.0 => self.move_to((*byte, *line)),
            _ => {
                let reason = "the position is none of a file's";
                Err(SourceError::refused(&self.name, reason))
            }
        }
    }

    fn replayable(&self) -> bool {
        true
    }

    fn repeats(&self) -> Repeats {
        Repeats::CountOnce
    }

    fn stop(&mut self) {
        self.is_stopped = true;
    }
}

fn long(length: usize) -> u64 {
    u64::try_from(length).expect("memory is smaller")
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    const WAIT: Duration = Duration::from_millis(1);

    fn source(text: &str, format: Format, at_end: AtEnd) -> FileSource {
        let bytes = Box::new(Cursor::new(text.as_bytes().to_vec()));
        FileSource::new("f", bytes, format, at_end).unwrap()
    }

    fn all(source: &mut FileSource, credit: usize) -> Vec<(u64, String, Position)> {
        let mut found = Vec::new();
        while let Taken::Rows(piece) = source.take(credit, WAIT).unwrap() {
            let text = String::from_utf8(piece.rows).unwrap();
            found.push((piece.first_row, text, piece.position));
        }
        found
    }

    #[test]
    fn whole_lines_come_on_credit() {
        let mut file = source("one\ntwo\nthree\nfour", Format::JsonLines, AtEnd::Stop);
        let found = all(&mut file, 9);
        let texts: Vec<(u64, &str)> = found
            .iter()
            .map(|(line, text, _)| (*line, text.as_str()))
            .collect();
        assert_eq!(texts, [(1, "one\ntwo\n"), (3, "three\n"), (4, "four")]);
        assert_eq!(file.take(100, WAIT), Ok(Taken::End));
    }

    #[test]
    fn a_row_beyond_the_credit_waits() {
        let mut file = source("1234567890\nx\n", Format::JsonLines, AtEnd::Stop);
        assert_eq!(file.take(5, WAIT), Ok(Taken::Nothing));
        assert!(matches!(file.take(11, WAIT), Ok(Taken::Rows(_))));
    }

    #[test]
    fn every_position_is_a_place_to_go_on() {
        for format in [Format::JsonLines, Format::Csv] {
            let text = "a,b\n1,2\n3,4\n\n5,6\n7,8";
            let whole = all(&mut source(text, format, AtEnd::Stop), 5);
            let mut again = source(text, format, AtEnd::Stop);
            for (at, (_, _, position)) in whole.iter().enumerate() {
                again.seek(position).unwrap();
                assert_eq!(all(&mut again, 5), whole[at + 1..]);
            }
            again.seek(&Position::START).unwrap();
            assert_eq!(all(&mut again, 5), whole);
        }
    }

    #[test]
    fn another_file_is_refused() {
        let position = Position::of(&[8, 3]);
        let mut short = source("one\n", Format::JsonLines, AtEnd::Stop);
        let refused = short.seek(&position).unwrap_err().to_string();
        assert!(refused.contains("has only 4 now"), "{refused}");
        let mut other = source("another line\n", Format::JsonLines, AtEnd::Stop);
        let refused = other.seek(&position).unwrap_err().to_string();
        assert!(refused.contains("no line ends at byte 8"), "{refused}");
        assert!(other.seek(&Position::new(b"odd").unwrap()).is_err());
    }

    #[test]
    fn a_file_that_grows_gives_lines_once_they_end() {
        let mut file = source("one\ntw", Format::JsonLines, AtEnd::Follow);
        assert_eq!(all(&mut file, 100).len(), 1);
        assert_eq!(file.take(100, WAIT), Ok(Taken::Nothing));
        file.stop();
        assert_eq!(file.take(100, WAIT), Ok(Taken::End));
    }
}
