//! Rows that a client pushes: lines, or a list of JSON. All of them have their values, or the
//! client hears which has not and nothing is taken in.

use thiserror::Error;

use crate::beside::Beside;
use crate::json::{Broken, elements};
use crate::reader::Reader;

/// Why a body is refused: the first row that is none, and the column where that shows.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("line {line}{}: {reason}", .field.as_ref().map_or_else(String::new, |field| format!(", {field}")))]
pub struct BadBody {
    /// The line, or the element of a list, counted from one.
    pub line: u64,
    /// The column.
    pub field: Option<String>,
    /// What is wrong with it.
    pub reason: String,
}

/// The rows of a body, as lines, after each was looked at.
///
/// # Errors
///
/// If one has no value where its column wants one, or is no row at all.
pub fn rows_of(body: &[u8], reader: &Reader) -> Result<Vec<u8>, BadBody> {
    rows_with(body, reader, (&Beside::default(), 0))
}

/// The same of a body that came at a time, in microseconds since 1970, with what is wanted before
/// each row.
///
/// # Errors
///
/// As for rows without it.
pub fn rows_with(
    body: &[u8],
    reader: &Reader,
    (beside, micros): (&Beside, i64),
) -> Result<Vec<u8>, BadBody> {
    let mut rows = as_lines(body)?;
    if !beside.is_empty() {
        rows = beside.at(micros, &[], &rows);
    }
    let read = reader.read(&rows, 1);
    match read.bad.into_iter().next() {
        None => Ok(rows),
        Some(bad) => Err(BadBody {
            line: bad.line,
            reason: bad
                .fault
                .map_or_else(|| bad.reason.clone(), |fault| fault.to_string()),
            field: bad.column,
        }),
    }
}

/// A body as lines: a list gives a line for each of its elements.
pub(crate) fn as_lines(body: &[u8]) -> Result<Vec<u8>, BadBody> {
    if body.trim_ascii_start().first() != Some(&b'[') {
        return Ok(body.to_vec());
    }
    let text = std::str::from_utf8(body).map_err(|_wrong| broken("the list is not UTF-8"))?;
    lines(text)
}

fn broken(reason: impl Into<String>) -> BadBody {
    BadBody {
        line: 1,
        field: None,
        reason: reason.into(),
    }
}

/// The elements of a list, one a line. Line breaks between values become blanks; within a string
/// there are none.
fn lines(text: &str) -> Result<Vec<u8>, BadBody> {
    let mut rows = Vec::with_capacity(text.len());
    let mut count = 0_u64;
    let found = elements(text, |element| {
        count += 1;
        rows.extend(element.bytes().map(|byte| match byte {
            b'\n' | b'\r' => b' ',
            other => other,
        }));
        rows.push(b'\n');
    });
    found.map_err(|Broken { at, wanted }| BadBody {
        line: count + 1,
        field: None,
        reason: format!("byte {}: expected {wanted}", at + 1),
    })?;
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use holm_lanes::{Field, Kind};

    use super::*;
    use crate::Format;

    fn reader() -> Reader {
        let field = |name: &str, kind| Field {
            name: name.into(),
            kind,
            nullable: name != "n",
        };
        let fields = vec![field("n", Kind::Int), field("s", Kind::String)];
        Reader::new(Format::JsonLines, fields, vec![true, true], None).unwrap()
    }

    fn refused(body: &str) -> String {
        rows_of(body.as_bytes(), &reader()).unwrap_err().to_string()
    }

    #[test]
    fn lines_and_lists_are_rows() {
        let lines = b"{\"n\":1}\n{\"n\":2,\"s\":\"x\"}";
        assert_eq!(rows_of(lines, &reader()), Ok(lines.to_vec()));
        let list = b" [ {\"n\":1,\n \"s\":\"],[\"} , {\"n\":2} ]\n";
        let rows = rows_of(list, &reader()).unwrap();
        assert_eq!(
            String::from_utf8(rows).unwrap(),
            "{\"n\":1,  \"s\":\"],[\"}\n{\"n\":2}\n"
        );
        assert_eq!(rows_of(b"[]", &reader()), Ok(Vec::new()));
    }

    #[test]
    fn the_first_bad_row_is_named() {
        assert_eq!(
            refused("{\"n\":1}\n{\"n\":\"x\"}\n{\"n\":{}}"),
            "line 2, n: \"x\" is not INT"
        );
        assert_eq!(
            refused("[{\"n\":1},{}]"),
            "line 2, n: NULL where a value must be"
        );
        assert_eq!(
            refused("[{\"n\":1} {}]"),
            "line 2: byte 10: expected a comma or ]"
        );
        assert_eq!(
            refused("[1]"),
            "line 1: column 1: expected an object, {...}"
        );
        assert_eq!(
            refused("nonsense"),
            "line 1: column 1: expected an object, {...}"
        );
    }
}
