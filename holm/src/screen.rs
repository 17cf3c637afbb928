//! What commands show: text for people, or one JSON object a line.

use std::io::{self, ErrorKind, Write};

use serde_json::{Map, Value};

/// Where answers go.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Screen {
    json: bool,
}

impl Screen {
    /// A screen for people, or for programs.
    pub(crate) const fn new(json: bool) -> Self {
        Self { json }
    }

    /// Whether programs read along.
    pub(crate) const fn is_json(self) -> bool {
        self.json
    }

    /// Shows one answer. Empty text shows nothing.
    ///
    /// # Errors
    ///
    /// What the terminal or pipe says. A reader that has gone (`| head`) ends the process quietly instead.
    pub(crate) fn show(self, text: &str, json: &Value) -> io::Result<()> {
        let mut out = io::stdout().lock();
        let written = if self.json {
            writeln!(out, "{json}")
        } else if text.is_empty() {
            Ok(())
        } else {
            writeln!(out, "{}", text.trim_end_matches('\n'))
        };
        quiet(written.and_then(|()| out.flush()))
    }

    /// Shows bytes as they are, for values that go into files.
    pub(crate) fn raw(self, bytes: &[u8]) -> io::Result<()> {
        let mut out = io::stdout().lock();
        quiet(out.write_all(bytes).and_then(|()| out.flush()))
    }
}

/// A closed pipe is no failure of ours.
fn quiet(written: io::Result<()>) -> io::Result<()> {
    match written {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

/// Bytes as a person may read them: text as it is, anything else with escapes.
pub(crate) fn readable(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.chars().any(char::is_control) => text.to_owned(),
        _ => bytes.escape_ascii().to_string(),
    }
}

/// Puts bytes into a JSON object: as `name` if they are text, else as `name_base64`.
pub(crate) fn put_bytes(object: &mut Map<String, Value>, name: &str, bytes: &[u8]) {
    match std::str::from_utf8(bytes) {
        Ok(text) => object.insert(name.to_owned(), text.into()),
        Err(_not_text) => object.insert(format!("{name}_base64"), base64(bytes).into()),
    };
}

/// Base64 with padding.
pub(crate) fn base64(bytes: &[u8]) -> String {
    const SIGNS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let byte = |at: usize| usize::from(group.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for place in 0..4 {
            let sign = SIGNS[bits >> (18 - 6 * place) & 0x3f];
            text.push(if place <= group.len() {
                char::from(sign)
            } else {
                '='
            });
        }
    }
    text
}

/// Rows with their columns aligned; the last column is left as it is.
#[derive(Clone, Debug, Default)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

/// A column wider than this does not push the others further.
const COLUMN_WIDTH_MAX: usize = 48;

impl Table {
    /// A table with a line of titles.
    pub(crate) fn titled(titles: &[&str]) -> Self {
        Self {
            rows: vec![titles.iter().map(|title| (*title).to_owned()).collect()],
        }
    }

    /// Adds a row.
    pub(crate) fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// The table as lines.
    pub(crate) fn text(&self) -> String {
        let mut widths: Vec<usize> = Vec::new();
        for row in &self.rows {
            widths.resize(widths.len().max(row.len()), 0);
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count().min(COLUMN_WIDTH_MAX));
            }
        }
        let mut text = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                line.push_str(&format!("{cell:width$}  "));
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_padded() {
        let cases = [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
        ];
        for (bytes, text) in cases {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_marked() {
        let mut object = Map::new();
        put_bytes(&mut object, "key", b"a\n");
        put_bytes(&mut object, "value", &[0xff]);
        assert_eq!(
            Value::from(object).to_string(),
            r#"{"key":"a\n","value_base64":"/w=="}"#
        );
        assert_eq!(readable(b"a\n"), "a\\n");
        assert_eq!(readable("\u{e4}".as_bytes()), "\u{e4}");
    }

    #[test]
    fn columns_are_aligned() {
        let mut table = Table::titled(&["KEY", "VALUE"]);
        table.row(vec!["long key".to_owned(), "1".to_owned()]);
        table.row(vec!["k".to_owned(), String::new()]);
        assert_eq!(table.text(), "KEY       VALUE\nlong key  1\nk\n");
    }
}
