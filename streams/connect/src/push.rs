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

/// Why nothing of a body is taken in.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum BodyError {
    /// A row is none.
    #[error(transparent)]
    Bad(#[from] BadBody),
    /// With what stands beside each row it is too much.
    #[error("{bytes} bytes at once, with METADATA beside each row; the limit is {limit}")]
    TooLong {
        /// How many there are.
        bytes: usize,
        /// How many there may be.
        limit: usize,
    },
}

/// The rows of a body, as lines, after each was looked at.
///
/// # Errors
///
/// If one has no value where its column wants one, or is no row at all.
pub fn rows_of(body: &[u8], reader: &Reader) -> Result<Vec<u8>, BadBody> {
    understood(as_lines(body)?, reader)
}

/// The same of a body that came at a time, in microseconds since 1970, with what is wanted before
/// each row. No more than `limit` bytes are made of it.
///
/// # Errors
///
/// As for rows without it, or if there were more bytes.
pub fn rows_with(
    body: &[u8],
    reader: &Reader,
    (beside, micros): (&Beside, i64),
    limit: usize,
) -> Result<Vec<u8>, BodyError> {
    let mut rows = as_lines(body)?;
    let head = beside.at(micros, &[]);
    if !head.is_empty() {
        let bytes = head.length(&rows);
        if bytes > limit {
            return Err(BodyError::TooLong { bytes, limit });
        }
        rows = head.before(&rows);
    }
    Ok(understood(rows, reader)?)
}

fn understood(rows: Vec<u8>, reader: &Reader) -> Result<Vec<u8>, BadBody> {
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
    fn what_would_grow_beyond_the_limit_is_not_made() {
        let beside = Beside::of(["timestamp".to_owned()]);
        let body = b"{\"n\":1}\n{\"n\":2}";
        let whole = beside.at(0, &[]).before(body);
        let reader = reader().with(&[None, Some("timestamp".to_owned())]);
        let of = |limit| rows_with(body, &reader, (&beside, 0), limit);
        assert_eq!(of(whole.len()), Ok(whole.clone()));
        let (bytes, limit) = (whole.len(), whole.len() - 1);
        assert_eq!(of(limit), Err(BodyError::TooLong { bytes, limit }));
        // Of a million rows 60 MB would be made.
        let many = b"{\"n\":1}\n".repeat(1_000_000);
        let refused = rows_with(&many, &reader, (&beside, 0), 1 << 20);
        assert!(matches!(refused, Err(BodyError::TooLong { .. })));
        let none = Beside::default();
        assert_eq!(rows_with(body, &reader, (&none, 0), 0), Ok(body.to_vec()));
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
