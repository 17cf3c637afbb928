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
    /// These columns, where a connector has them.
    #[must_use]
    pub fn of(names: impl IntoIterator<Item = String>) -> Self {
        Self(names.into_iter().collect())
    }

    /// Whether nothing is wanted.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Rows that came at a time, in microseconds since 1970, with what is wanted before each;
    /// `known` is what there is besides.
    #[must_use]
    pub fn at(&self, micros: i64, known: &[(&str, Option<&str>)], rows: &[u8]) -> Vec<u8> {
        let mut time = String::new();
        holm_lanes::write_timestamp(micros, 3, &mut time);
        time.push('Z');
        let all = [known, &[("timestamp", Some(time.as_str()))]].concat();
        self.before(&all, rows)
    }

    /// Rows with what is wanted before each. What is not known is NULL.
    #[must_use]
    pub fn before(&self, known: &[(&str, Option<&str>)], rows: &[u8]) -> Vec<u8> {
        if self.is_empty() {
            return rows.to_vec();
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
        let mut out = Vec::with_capacity(rows.len() + head.len() + 1);
        for line in rows.split_inclusive(|byte| *byte == b'\n') {
            if !line.trim_ascii().is_empty() {
                out.extend_from_slice(head.as_bytes());
                out.push(MARK);
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
        let rows = wanted.before(&[("topic", Some("a\"\\\n\u{1e}"))], b"{}\n\n{\"n\":1}");
        let head = "{\"topic\":\"a\\\"\\\\\\u000a\\u001e\",\"key\":null}\u{1e}";
        assert_eq!(
            String::from_utf8(rows).unwrap(),
            format!("{head}{{}}\n\n{head}{{\"n\":1}}")
        );
        assert_eq!(Beside::default().before(&[], b"{}"), b"{}");
    }
}
