//! The schema of rows that nobody described, from the first of them.

use holm_lanes::{Field, Kind, parse_boolean, parse_date, parse_double, parse_timestamp};

use crate::csv;
use crate::json;
use crate::reader::{Format, Reader, names};
use crate::value::Raw;

/// How many rows are looked at.
const ROWS_MAX: usize = 1_000;

/// A schema as the first rows show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guess {
    /// The columns, in the order in which they first appear.
    pub fields: Vec<Field>,
    /// From how many rows.
    pub rows: usize,
    /// The column of event time, if there is one.
    pub time: Option<String>,
    /// By how much rows are out of order, in microseconds, at most.
    pub disorder: i64,
    /// Columns that hold objects or lists, and therefore are none.
    pub nested: Vec<String>,
}

#[derive(Clone, Debug)]
struct Column {
    name: String,
    kind: Option<Kind>,
    is_nested: bool,
}

/// Looks at whole lines. `time` names the column of event time; without it that is the only
/// column of times.
#[must_use]
pub fn infer(format: Format, text: &[u8], time: Option<&str>) -> Guess {
    let text = String::from_utf8_lossy(text);
    let mut lines = text.lines().filter(|line| !line.trim_ascii().is_empty());
    let header = (format == Format::Csv).then(|| lines.next().unwrap_or_default().to_owned());
    let header_names = header.as_deref().map(names).unwrap_or_default();
    let mut columns: Vec<Column> = Vec::new();
    for name in &header_names {
        see(&mut columns, name, &Raw::Null);
    }
    let mut rows = 0;
    let sample: Vec<&str> = lines.take(ROWS_MAX).collect();
    for line in &sample {
        rows += 1;
        match format {
            Format::JsonLines => {
                // A row that is none is refused when it is read; here it says nothing.
                json::members(line, |name, value| see(&mut columns, &name, &value)).ok();
            }
            // Its schema is in its file.
            Format::Parquet => {}
            Format::Csv => {
                let values = csv::values(line).unwrap_or_default();
                for (name, value) in header_names.iter().zip(&values) {
                    see(&mut columns, name, value);
                }
            }
        }
    }
    let (nested, flat): (Vec<Column>, Vec<Column>) =
        columns.into_iter().partition(|column| column.is_nested);
    let fields: Vec<Field> = flat
        .into_iter()
        .map(|column| Field {
            name: column.name,
            kind: column.kind.unwrap_or(Kind::String),
            nullable: true,
        })
        .collect();
    let time = time_of(&fields, time);
    let text = sample.join("\n");
    let disorder = time.as_ref().map_or(0, |time| {
        disorder((format, header.as_deref()), &fields, time, text.as_bytes())
    });
    Guess {
        fields,
        rows,
        time,
        disorder,
        nested: nested.into_iter().map(|column| column.name).collect(),
    }
}

pub(crate) fn time_of(fields: &[Field], wanted: Option<&str>) -> Option<String> {
    let times = fields.iter().filter(|field| field.kind.is_time());
    if let Some(wanted) = wanted {
        let found = times
            .clone()
            .find(|field| field.name.eq_ignore_ascii_case(wanted));
        return found.map(|field| field.name.clone());
    }
    let mut times = times.map(|field| field.name.clone());
    let first = times.next();
    first.filter(|_| times.next().is_none())
}

fn see(columns: &mut Vec<Column>, name: &str, value: &Raw<'_>) {
    let found = columns.iter().position(|column| column.name == name);
    let at = found.unwrap_or_else(|| {
        columns.push(Column {
            name: name.to_owned(),
            kind: None,
            is_nested: false,
        });
        columns.len() - 1
    });
    let column = &mut columns[at];
    let kind = match value {
        Raw::Null => return,
        Raw::Nested(_) => {
            column.is_nested = true;
            return;
        }
        Raw::Bare(text) => bare(text),
        Raw::Text(text) => quoted(text),
    };
    column.kind = Some(match column.kind {
        None => kind,
        Some(before) => join(before, kind),
    });
}

/// What a value without quotes is.
fn bare(text: &str) -> Kind {
    if parse_boolean(text).is_some() {
        Kind::Boolean
    } else if text.parse::<i64>().is_ok() {
        Kind::BigInt
    } else if parse_double(text).is_some() {
        Kind::Double
    } else {
        quoted(text)
    }
}

fn quoted(text: &str) -> Kind {
    if parse_date(text).is_some() {
        return Kind::Date;
    }
    let Some((_, offset)) = parse_timestamp(text) else {
        return Kind::String;
    };
    let part = text.split_once('.').map_or("", |(_, part)| part);
    let count = part.bytes().take_while(u8::is_ascii_digit).count();
    let digits = if count > 3 { 6 } else { 3 };
    match offset {
        None => Kind::Timestamp { digits },
        Some(_) => Kind::TimestampLtz { digits },
    }
}

/// The kind that has the values of both.
fn join(before: Kind, now: Kind) -> Kind {
    match (before, now) {
        (before, now) if before == now => before,
        (Kind::BigInt | Kind::Double, Kind::BigInt | Kind::Double) => Kind::Double,
        (Kind::Timestamp { .. }, Kind::Timestamp { .. }) => Kind::Timestamp { digits: 6 },
        (
            Kind::Timestamp { digits } | Kind::TimestampLtz { digits },
            Kind::Timestamp { digits: other } | Kind::TimestampLtz { digits: other },
        ) => Kind::TimestampLtz {
            digits: digits.max(other),
        },
        _ => Kind::String,
    }
}

/// By how much a time lies below one before it, at most.
fn disorder(
    (format, header): (Format, Option<&str>),
    fields: &[Field],
    time: &str,
    text: &[u8],
) -> i64 {
    let needed = fields.iter().map(|field| field.name == time).collect();
    let Ok(reader) = Reader::new(format, fields.to_vec(), needed, header) else {
        return 0;
    };
    let read = reader.read(text, 1);
    let at = fields
        .iter()
        .position(|field| field.name == time)
        .unwrap_or(0);
    let lane = &read.batch.lanes[at];
    let mut most = i64::MIN;
    let mut worst = 0;
    for (row, value) in lane.ints().unwrap_or_default().iter().enumerate() {
        if !lane.is_null(row) {
            most = most.max(*value);
            worst = worst.max(most - value);
        }
    }
    worst
}
