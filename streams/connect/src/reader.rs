//! Whole lines into batches.

use std::fmt;
use std::sync::Arc;

use holm_lanes::{Batch, Fault, Field, Lane, LaneBuilder, Marks, Narrow, Origin, Scalar, Shape};
use thiserror::Error;

use crate::beside::MARK;
use crate::csv;
use crate::json;
use crate::value::{Raw, push};

/// The longest row.
const ROW_MAX: usize = 1 << 20;

/// How rows are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// An object of JSON a line.
    JsonLines,
    /// Values between commas; the first line has the names.
    Csv,
    /// Columns; it has no lines, and is read by [`ParquetSource`](crate::ParquetSource).
    Parquet,
}

/// A header that lacks a column.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("the header has no column {column}; it has {header}")]
pub struct HeaderError {
    /// The column.
    pub column: String,
    /// What is there.
    pub header: String,
}

/// A row that is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bad {
    /// Its line.
    pub line: u64,
    /// The column where that shows.
    pub column: Option<String>,
    /// Why, where a value is wrong.
    pub fault: Option<Fault>,
    /// Why, where the row is.
    pub reason: String,
}

impl fmt::Display for Bad {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(column) = &self.column {
            write!(formatter, "{column}: ")?;
        }
        match &self.fault {
            Some(fault) => write!(formatter, "{fault}"),
            None => formatter.write_str(&self.reason),
        }
    }
}

/// What was read of some lines.
#[derive(Clone, Debug)]
pub struct Read {
    /// The rows.
    pub batch: Batch,
    /// Those that are none.
    pub bad: Vec<Bad>,
    /// How many lines there were, blank ones too.
    pub lines: u64,
}

/// Reads rows of one schema.
#[derive(Clone, Debug)]
pub struct Reader {
    format: Format,
    fields: Vec<Field>,
    needed: Vec<bool>,
    /// For each value of a line of CSV the field that it is.
    places: Vec<Option<usize>>,
    /// For each column what a connector calls it, if it is not in the row but beside it.
    beside: Vec<Option<String>>,
}

impl Reader {
    /// A reader of these columns, of which only those that are needed are understood. CSV has a
    /// header.
    ///
    /// # Errors
    ///
    /// If the header lacks a column that is needed.
    pub fn new(
        format: Format,
        fields: Vec<Field>,
        needed: Vec<bool>,
        header: Option<&str>,
    ) -> Result<Self, HeaderError> {
        let names = header.map(names).unwrap_or_default();
        let places: Vec<Option<usize>> = names
            .iter()
            .map(|name| fields.iter().position(|field| field.name == *name))
            .collect();
        if format == Format::Csv {
            for (at, field) in fields.iter().enumerate() {
                if needed[at] && !places.contains(&Some(at)) {
                    return Err(HeaderError {
                        column: field.name.clone(),
                        header: names.join(", "),
                    });
                }
            }
        }
        Ok(Self {
            beside: vec![None; fields.len()],
            format,
            fields,
            needed,
            places,
        })
    }

    /// The same, with columns that stand beside each row, by what the connector calls them.
    #[must_use]
    pub fn with(mut self, beside: &[Option<String>]) -> Self {
        for (own, name) in self.beside.iter_mut().zip(beside) {
            own.clone_from(name);
        }
        self
    }

    /// Reads whole lines, the first of which has this number.
    #[must_use]
    pub fn read(&self, text: &[u8], first_line: u64) -> Read {
        let mut rows = Rows::new(self);
        let mut lines = 0;
        let text = text.strip_suffix(b"\n").unwrap_or(text);
        for line in text.split(|byte| *byte == b'\n') {
            rows.line(line, first_line + lines);
            lines += 1;
        }
        Read {
            batch: rows.batch(),
            bad: rows.bad,
            lines,
        }
    }
}

/// The names of a header.
pub(crate) fn names(header: &str) -> Vec<String> {
    let values = csv::values(header).unwrap_or_default();
    let name = |raw: &Raw<'_>| match raw {
        Raw::Text(text) => text.clone().into_owned(),
        Raw::Bare(text) | Raw::Nested(text) => text.trim().to_owned(),
        Raw::Null => String::new(),
    };
    values.iter().map(name).collect()
}

/// A name and the field that it is, as it stood at this place of the row before.
type Learned = (String, Option<usize>);

#[derive(Debug)]
struct Rows<'r> {
    reader: &'r Reader,
    lanes: Vec<LaneBuilder>,
    lines: Vec<u64>,
    bad: Vec<Bad>,
    learned: Vec<Learned>,
}

impl<'r> Rows<'r> {
    fn new(reader: &'r Reader) -> Self {
        let lane = |field: &Field| LaneBuilder::new(field.kind.shape());
        Self {
            reader,
            lanes: reader.fields.iter().map(lane).collect(),
            lines: Vec::new(),
            bad: Vec::new(),
            learned: Vec::new(),
        }
    }

    fn refuse(&mut self, line: u64, reason: impl Into<String>) {
        self.bad.push(Bad {
            line,
            column: None,
            fault: None,
            reason: reason.into(),
        });
    }

    fn line(&mut self, bytes: &[u8], number: u64) {
        if bytes.len() > ROW_MAX {
            return self.refuse(
                number,
                format!("a row of {} bytes; the limit is {ROW_MAX}", bytes.len()),
            );
        }
        let Ok(line) = std::str::from_utf8(bytes) else {
            return self.refuse(number, "the row is not UTF-8");
        };
        if line.trim_ascii().is_empty() {
            return;
        }
        let mut row: Vec<Raw<'_>> = vec![Raw::Null; self.reader.fields.len()];
        let line = match line.split_once(char::from(MARK)) {
            Some((head, line)) if self.reader.beside.iter().any(Option::is_some) => {
                if let Err(reason) = self.beside(head, &mut row) {
                    return self.refuse(number, reason);
                }
                line
            }
            Some(_) | None => line,
        };
        let found = match self.reader.format {
            Format::JsonLines => self.json(line, &mut row),
            Format::Csv => self.csv(line, &mut row),
            Format::Parquet => Err("Parquet has columns, not lines".to_owned()),
        };
        match found {
            Ok(()) => self.add(&row, number),
            Err(reason) => self.refuse(number, reason),
        }
    }

    /// What a connector said of the row.
    fn beside<'a>(&self, head: &'a str, row: &mut [Raw<'a>]) -> Result<(), String> {
        let members = json::members(head, |name, value| {
            for (own, place) in self.reader.beside.iter().zip(row.iter_mut()) {
                if own.as_deref() == Some(&*name) {
                    place.clone_from(&value);
                }
            }
        });
        members.map_err(|broken| format!("beside it, column {}", broken.at + 1))
    }

    fn json<'a>(&mut self, line: &'a str, row: &mut [Raw<'a>]) -> Result<(), String> {
        let (learned, reader) = (&mut self.learned, self.reader);
        let is_it =
            |at: usize, name: &str| reader.beside[at].is_none() && reader.fields[at].name == name;
        let mut at = 0;
        let members = json::members(line, |name, value| {
            let place = match learned.get(at) {
                Some((known, place)) if *known == name => *place,
                _ => {
                    let mut places = 0..reader.fields.len();
                    let place = places.find(|at| is_it(*at, &name));
                    if learned.len() <= at {
                        learned.push((name.into_owned(), place));
                    } else {
                        learned[at] = (name.into_owned(), place);
                    }
                    place
                }
            };
            at += 1;
            if let Some(place) = place {
                row[place] = value;
            }
        });
        members.map_err(|broken| format!("column {}: expected {}", broken.at + 1, broken.wanted))
    }

    fn csv<'a>(&self, line: &'a str, row: &mut [Raw<'a>]) -> Result<(), String> {
        let Some(values) = csv::values(line) else {
            return Err(
                "a quote without end, or something behind it; values have no line breaks".into(),
            );
        };
        let wanted = self.reader.places.len();
        if values.len() != wanted {
            return Err(format!(
                "{} values, and the header has {wanted}",
                values.len()
            ));
        }
        for (place, value) in self.reader.places.iter().zip(values) {
            if let Some(place) = place {
                row[*place] = value;
            }
        }
        Ok(())
    }

    /// Adds a row to all columns, or to none.
    fn add(&mut self, row: &[Raw<'_>], number: u64) {
        for (at, field) in self.reader.fields.iter().enumerate() {
            if !self.reader.needed[at] {
                continue;
            }
            let pushed = if row[at] == Raw::Null && !field.nullable {
                Err(Fault::Null)
            } else {
                push(&row[at], field.kind, &mut self.lanes[at])
            };
            if let Err(fault) = pushed {
                self.bad.push(Bad {
                    line: number,
                    column: Some(field.name.clone()),
                    fault: Some(fault),
                    reason: String::new(),
                });
                let rows = self.lines.len();
                self.lanes[..at]
                    .iter_mut()
                    .for_each(|lane| lane.truncate(rows));
                return;
            }
        }
        self.lines.push(number);
    }

    fn batch(&mut self) -> Batch {
        let rows = self.lines.len();
        let lanes = std::mem::take(&mut self.lanes);
        let lanes = lanes.into_iter().zip(&self.reader.fields).enumerate();
        let lanes = lanes.map(|(at, (lane, field))| {
            Arc::new(if self.reader.needed[at] {
                lane.finish()
            } else {
                blank(field.kind.shape(), rows)
            })
        });
        Batch {
            lanes: lanes.collect(),
            rows,
            origin: Origin::Rows(std::mem::take(&mut self.lines)),
            marks: Marks {
                after: Marks::START,
                rows: None,
            },
        }
    }
}

/// What stands where nobody reads.
pub(crate) fn blank(shape: Shape, rows: usize) -> Lane {
    let scalar = match shape {
        Shape::Int => return Lane::narrow(Narrow::Bytes(vec![0; rows])),
        Shape::Real => return Lane::narrow(Narrow::Singles(vec![0.0; rows])),
        Shape::Bool => Scalar::Bool(false),
        Shape::Wide => Scalar::Wide(0),
        Shape::Text => Scalar::Text(String::new()),
    };
    Lane::repeated(&scalar, shape, rows)
}
