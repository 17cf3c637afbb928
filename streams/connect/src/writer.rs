//! Rows as lines.

use std::fmt::Write;

use holm_lanes::{
    Batch, Field, Kind, Lane, Scalar, write_base64, write_date, write_decimal, write_timestamp,
};

use crate::csv;
use crate::reader::Format;

/// The line before all others: the names, in CSV.
#[must_use]
pub fn header(format: Format, fields: &[Field]) -> String {
    match format {
        Format::JsonLines | Format::Parquet => String::new(),
        Format::Csv => {
            let mut line = String::new();
            for (at, field) in fields.iter().enumerate() {
                if at > 0 {
                    line.push(',');
                }
                csv::write(&field.name, &mut line);
            }
            line.push('\n');
            line
        }
    }
}

/// Writes each row of a batch as a line.
///
/// # Panics
///
/// If the format has no lines: whoever opens a sink refuses that.
pub fn write(format: Format, fields: &[Field], batch: &Batch, out: &mut String) {
    let names: Vec<String> = fields
        .iter()
        .enumerate()
        .map(|(at, field)| {
            let mut name = String::from(if at == 0 { "{" } else { "," });
            string(&field.name, &mut name);
            name.push(':');
            name
        })
        .collect();
    for row in 0..batch.rows {
        for (at, field) in fields.iter().enumerate() {
            let lane: &Lane = &batch.lanes[at];
            match format {
                Format::JsonLines => {
                    out.push_str(&names[at]);
                    json(&lane.scalar(row), field.kind, out);
                }
                Format::Csv => {
                    if at > 0 {
                        out.push(',');
                    }
                    comma(&lane.scalar(row), field.kind, out);
                }
                Format::Parquet => panic!("rows are written as lines"),
            }
        }
        if format == Format::JsonLines {
            out.push('}');
        }
        out.push('\n');
    }
}

/// A value as text, as both formats have it but for quotes. Whether it needs them in JSON.
fn plain(scalar: &Scalar, kind: Kind, out: &mut String) -> bool {
    match (scalar, kind) {
        (Scalar::Null, _) => out.push_str("null"),
        (Scalar::Bool(value), _) => out.push_str(if *value { "true" } else { "false" }),
        (Scalar::Int(days), Kind::Date) => {
            write_date(*days, out);
            return true;
        }
        (Scalar::Int(time), Kind::Timestamp { digits }) => {
            write_timestamp(*time, digits, out);
            return true;
        }
        (Scalar::Int(time), Kind::TimestampLtz { digits }) => {
            write_timestamp(*time, digits, out);
            out.push('Z');
            return true;
        }
        (Scalar::Int(value), _) => write!(out, "{value}").expect("a string takes all"),
        (Scalar::Wide(value), kind) => {
            write_decimal(*value, kind.decimal().map_or(0, |(_, scale)| scale), out);
        }
        (Scalar::Real(value), kind) => {
            let start = out.len();
            if kind == Kind::Float {
                #[expect(clippy::cast_possible_truncation, reason = "FLOAT has 32 bits")]
                let single = *value as f32;
                write!(out, "{single:?}").expect("a string takes all");
            } else {
                write!(out, "{value:?}").expect("a string takes all");
            }
            if !value.is_finite() {
                let word = if value.is_nan() {
                    "NaN"
                } else if *value > 0.0 {
                    "Infinity"
                } else {
                    "-Infinity"
                };
                out.replace_range(start.., word);
                return true;
            }
        }
        (Scalar::Text(letters), Kind::Bytes) => {
            write_base64(letters, out);
            return true;
        }
        (Scalar::Text(text), _) => out.push_str(text),
    }
    false
}

fn json(scalar: &Scalar, kind: Kind, out: &mut String) {
    if let (Scalar::Text(text), true) = (scalar, kind != Kind::Bytes) {
        return string(text, out);
    }
    let start = out.len();
    if plain(scalar, kind, out) {
        out.insert(start, '"');
        out.push('"');
    }
}

fn comma(scalar: &Scalar, kind: Kind, out: &mut String) {
    match scalar {
        Scalar::Null => {}
        Scalar::Text(text) if kind != Kind::Bytes => csv::write(text, out),
        Scalar::Text(_) | Scalar::Bool(_) | Scalar::Int(_) | Scalar::Wide(_) | Scalar::Real(_) => {
            plain(scalar, kind, out);
        }
    }
}

/// A string of JSON.
fn string(text: &str, out: &mut String) {
    out.push('"');
    for letter in text.chars() {
        match letter {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\0'..='\u{1f}' => {
                write!(out, "\\u{:04x}", u32::from(letter)).expect("a string takes all");
            }
            letter => out.push(letter),
        }
    }
    out.push('"');
}
