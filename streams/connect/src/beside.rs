//! What a connector knows of a row that is not in it: its METADATA columns.
//!
//! It stands before the row, as an object of JSON and the sign 0x1E:
//!
//! ```text
//! {"topic":"plant/7/task","timestamp":"2026-01-05T10:00:00.000Z"} 0x1E {"cpu":0.5}
//! ```
//!
//! So it is logged, checked and read again with the row. No row can say it itself: of a line that
//! has several of these signs the first one counts, and that is ours, for a string of JSON has
//! none.

/// What stands between.
pub(crate) const MARK: u8 = 0x1E;

/// What is wanted of a connector, by its names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Beside(Vec<String>);

impl Beside {
    /// These columns, where a connector has them; one that is named twice is said once.
    #[must_use]
    pub fn of(names: impl IntoIterator<Item = String>) -> Self {
        let mut own: Vec<String> = Vec::new();
        for name in names {
            if !own.contains(&name) {
                own.push(name);
            }
        }
        Self(own)
    }

    /// Whether nothing is wanted.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What stands before rows that came at a time, in microseconds since 1970; `known` is what
    /// there is besides.
    #[must_use]
    pub fn at(&self, micros: i64, known: &[(&str, Option<&str>)]) -> Head {
        if self.is_empty() {
            return self.head(&[]);
        }
        let mut time = String::new();
        holm_lanes::write_timestamp(micros, 3, &mut time);
        time.push('Z');
        self.head(&[known, &[("timestamp", Some(time.as_str()))]].concat())
    }

    /// What stands before each row. What is not known is NULL.
    #[must_use]
    pub fn head(&self, known: &[(&str, Option<&str>)]) -> Head {
        if self.is_empty() {
            return Head(String::new());
        }
        let mut head = String::from("{");
        for name in &self.0 {
            let found = known.iter().find(|(own, _)| own == name);
            if head.len() > 1 {
                head.push(',');
            }
            string(name, &mut head);
            head.push(':');
            match found.and_then(|(_, value)| *value) {
                Some(value) => string(value, &mut head),
                None => head.push_str("null"),
            }
        }
        head.push('}');
        head.push(char::from(MARK));
        Head(head)
    }
}

/// What stands before each row of a message, the same for all of them. It may be longer than they
/// are: whoever puts it there looks first how much that will be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head(String);

impl Head {
    /// Whether nothing stands there.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many bytes rows have with it.
    #[must_use]
    pub fn length(&self, rows: &[u8]) -> usize {
        let lines = rows.split_inclusive(|byte| *byte == b'\n');
        lines.map(|line| self.length_of(line)).sum()
    }

    fn length_of(&self, line: &[u8]) -> usize {
        let is_row = !line.trim_ascii().is_empty();
        line.len() + if is_row { self.0.len() } else { 0 }
    }

    /// How many bytes of these rows have no more than `most` with it: whole lines, one at least.
    #[must_use]
    pub fn fit(&self, rows: &[u8], most: usize) -> usize {
        if self.is_empty() && rows.len() <= most {
            return rows.len();
        }
        let (mut bytes, mut length) = (0, 0);
        for line in rows.split_inclusive(|byte| *byte == b'\n') {
            length += self.length_of(line);
            if bytes > 0 && length > most {
                break;
            }
            bytes += line.len();
        }
        bytes
    }

    /// Rows with it before each.
    #[must_use]
    pub fn before(&self, rows: &[u8]) -> Vec<u8> {
        if self.is_empty() {
            return rows.to_vec();
        }
        let mut out = Vec::with_capacity(self.length(rows));
        for line in rows.split_inclusive(|byte| *byte == b'\n') {
            if !line.trim_ascii().is_empty() {
                out.extend_from_slice(self.0.as_bytes());
            }
            out.extend_from_slice(line);
        }
        out
    }
}

/// Text as a string of JSON.
fn string(text: &str, out: &mut String) {
    out.push('"');
    for letter in text.chars() {
        match letter {
            '"' | '\\' => out.extend(['\\', letter]),
            '\0'..='\u{1f}' => *out += &format!("\\u{:04x}", u32::from(letter)),
            other => out.push(other),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_stands_before_each_row_that_is_one() {
        let wanted = Beside::of(["topic".to_owned(), "key".to_owned()]);
        let rows = wanted.head(&[("topic", Some("a\"\\\n\u{1e}"))]);
        let rows = rows.before(b"{}\n\n{\"n\":1}");
        let head = "{\"topic\":\"a\\\"\\\\\\u000a\\u001e\",\"key\":null}\u{1e}";
        assert_eq!(
            String::from_utf8(rows).unwrap(),
            format!("{head}{{}}\n\n{head}{{\"n\":1}}")
        );
        assert_eq!(Beside::default().head(&[]).before(b"{}"), b"{}");
        let twice = Beside::of(["topic".to_owned(), "topic".to_owned()]);
        assert_eq!(twice, Beside::of(["topic".to_owned()]));
    }

    #[test]
    fn rows_are_measured_before_it_stands_there() {
        let head = Beside::of(["key".to_owned()]).head(&[("key", Some("12345"))]);
        let rows = b"{}\n\n{\"n\":1}\n{}";
        assert_eq!(head.length(rows), head.before(rows).len());
        let (first, second) = (b"{}\n\n".len(), b"{}\n\n{\"n\":1}\n".len());
        let most = head.length(&rows[..second]);
        assert_eq!(head.fit(rows, most), second);
        assert_eq!(head.fit(rows, most - 1), first);
        assert_eq!(head.fit(rows, most + 1), second);
        assert_eq!(head.fit(rows, 0), b"{}\n".len(), "one line at least");
        assert_eq!(head.fit(rows, usize::MAX), rows.len());
        assert_eq!(head.fit(b"", 0), 0);
    }
}
