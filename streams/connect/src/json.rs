//! One row of JSON: a flat object. Names and values are found in one pass; what nobody reads is
//! passed over.

use std::borrow::Cow;

use crate::value::Raw;

/// Where a row is no object, in bytes from its start, and what was wanted there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Broken {
    pub(crate) at: usize,
    pub(crate) wanted: &'static str,
}

/// Finds the members of an object, in order.
pub(crate) fn members<'a>(
    line: &'a str,
    mut member: impl FnMut(Cow<'a, str>, Raw<'a>),
) -> Result<(), Broken> {
    let mut cursor = Cursor { line, at: 0 };
    cursor.blank();
    cursor.expect(b'{', "an object, {...}")?;
    cursor.blank();
    if cursor.take(b'}') {
        return cursor.end();
    }
    loop {
        cursor.blank();
        let name = cursor.string("a name in quotes")?;
        cursor.blank();
        cursor.expect(b':', "a colon")?;
        cursor.blank();
        let value = cursor.value()?;
        member(name, value);
        cursor.blank();
        if cursor.take(b'}') {
            return cursor.end();
        }
        cursor.expect(b',', "a comma or }")?;
    }
}

/// Finds the elements of a list, in order, as they are written. Line breaks are blanks here.
pub(crate) fn elements<'a>(text: &'a str, mut element: impl FnMut(&'a str)) -> Result<(), Broken> {
    let mut cursor = Cursor { line: text, at: 0 };
    cursor.space();
    cursor.expect(b'[', "a list, [...]")?;
    cursor.space();
    if !cursor.take(b']') {
        loop {
            cursor.space();
            let start = cursor.at;
            cursor.value()?;
            element(&text[start..cursor.at]);
            cursor.space();
            if cursor.take(b']') {
                break;
            }
            cursor.expect(b',', "a comma or ]")?;
        }
    }
    cursor.space();
    cursor.end()
}

#[derive(Debug)]
struct Cursor<'a> {
    line: &'a str,
    at: usize,
}

impl<'a> Cursor<'a> {
    fn byte(&self) -> Option<u8> {
        self.line.as_bytes().get(self.at).copied()
    }

    fn blank(&mut self) {
        while matches!(self.byte(), Some(b' ' | b'\t' | b'\r')) {
            self.at += 1;
        }
    }

    fn space(&mut self) {
        while matches!(self.byte(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    fn take(&mut self, byte: u8) -> bool {
        let is_here = self.byte() == Some(byte);
        self.at += usize::from(is_here);
        is_here
    }

    const fn broken<T>(&self, wanted: &'static str) -> Result<T, Broken> {
        Err(Broken {
            at: self.at,
            wanted,
        })
    }

    fn expect(&mut self, byte: u8, wanted: &'static str) -> Result<(), Broken> {
        if self.take(byte) {
            return Ok(());
        }
        self.broken(wanted)
    }

    fn end(&mut self) -> Result<(), Broken> {
        self.blank();
        if self.byte().is_none() {
            return Ok(());
        }
        self.broken("the end of the line")
    }

    fn string(&mut self, wanted: &'static str) -> Result<Cow<'a, str>, Broken> {
        self.expect(b'"', wanted)?;
        let start = self.at;
        let bytes = self.line.as_bytes();
        while let Some(byte) = bytes.get(self.at) {
            match byte {
                b'"' => {
                    let text = &self.line[start..self.at];
                    self.at += 1;
                    return Ok(Cow::Borrowed(text));
                }
                b'\\' => return self.escaped(start).map(Cow::Owned),
                0..=0x1f => return self.broken("no control character in a string"),
                _ => self.at += 1,
            }
        }
        self.broken("the end of the string")
    }

    /// The rest of a string that has an escape in it.
    fn escaped(&mut self, start: usize) -> Result<String, Broken> {
        let mut text = self.line[start..self.at].to_owned();
        loop {
            let rest = &self.line[self.at..];
            let Some(letter) = rest.chars().next() else {
                return self.broken("the end of the string");
            };
            self.at += letter.len_utf8();
            match letter {
                '"' => return Ok(text),
                '\\' => text.push(self.escape()?),
                '\0'..='\u{1f}' => return self.broken("no control character in a string"),
                letter => text.push(letter),
            }
        }
    }

    fn escape(&mut self) -> Result<char, Broken> {
        let letter = self.byte();
        self.at += 1;
        Ok(match letter {
            Some(letter @ (b'"' | b'\\' | b'/')) => char::from(letter),
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => return self.unicode(),
            _ => return self.broken("an escape"),
        })
    }

    fn unicode(&mut self) -> Result<char, Broken> {
        let first = self.hex()?;
        let code = if (0xd800..0xdc00).contains(&first) {
            // Half of a pair: the other half follows.
            if !self.line[self.at..].starts_with("\\u") {
                return self.broken("the second half of a pair");
            }
            self.at += 2;
            let second = self.hex()?;
            if !(0xdc00..0xe000).contains(&second) {
                return self.broken("the second half of a pair");
            }
            0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00)
        } else {
            first
        };
        char::from_u32(code).map_or_else(|| self.broken("a letter"), Ok)
    }

    fn hex(&mut self) -> Result<u32, Broken> {
        let digits = self.line.get(self.at..self.at + 4);
        let digits = digits.filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
        let code = digits.and_then(|digits| u32::from_str_radix(digits, 16).ok());
        let Some(code) = code else {
            return self.broken("four digits");
        };
        self.at += 4;
        Ok(code)
    }

    fn value(&mut self) -> Result<Raw<'a>, Broken> {
        match self.byte() {
            Some(b'"') => self.string("a string").map(Raw::Text),
            Some(b'{' | b'[') => self.nested(),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't' | b'f' | b'n') => {
                for (word, raw) in [
                    ("true", Raw::Bare("true")),
                    ("false", Raw::Bare("false")),
                    ("null", Raw::Null),
                ] {
                    if self.line[self.at..].starts_with(word) {
                        self.at += word.len();
                        return Ok(raw);
                    }
                }
                self.broken("a value")
            }
            _ => self.broken("a value"),
        }
    }

    fn number(&mut self) -> Result<Raw<'a>, Broken> {
        let start = self.at;
        let digits = |cursor: &mut Self| {
            let from = cursor.at;
            while cursor.byte().is_some_and(|byte| byte.is_ascii_digit()) {
                cursor.at += 1;
            }
            cursor.at > from
        };
        self.take(b'-');
        if !digits(self) {
            return self.broken("a digit");
        }
        if self.take(b'.') && !digits(self) {
            return self.broken("a digit");
        }
        if matches!(self.byte(), Some(b'e' | b'E')) {
            self.at += 1;
            if !self.take(b'+') {
                self.take(b'-');
            }
            if !digits(self) {
                return self.broken("a digit");
            }
        }
        Ok(Raw::Bare(&self.line[start..self.at]))
    }

    /// Passes over an object or a list, counting brackets (I3).
    fn nested(&mut self) -> Result<Raw<'a>, Broken> {
        let start = self.at;
        let mut open = Vec::new();
        loop {
            match self.byte() {
                Some(b'{') => open.push(b'}'),
                Some(b'[') => open.push(b']'),
                Some(b'"') => {
                    self.string("a string")?;
                    continue;
                }
                Some(byte @ (b'}' | b']')) if open.pop() != Some(byte) => {
                    return self.broken("brackets that match");
                }
                None => return self.broken("the end of a list or object"),
                Some(_) => {}
            }
            self.at += 1;
            if open.is_empty() {
                return Ok(Raw::Nested(&self.line[start..self.at]));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Vec<(String, String)>, Broken> {
        let mut found = Vec::new();
        members(line, |name, value| {
            found.push((name.into_owned(), format!("{value:?}")));
        })?;
        Ok(found)
    }

    #[test]
    fn members_are_found_in_order() {
        let line = r#" { "a" : 1.5e-3 , "b":"x\"\u00e9\ud83d\ude00", "c":null,"d":true,"e":[{"f":"]"}] } "#;
        let found = read(line).unwrap();
        let values: Vec<&str> = found.iter().map(|(_, value)| value.as_str()).collect();
        assert_eq!(
            values,
            [
                "Bare(\"1.5e-3\")",
                "Text(\"x\\\"\u{e9}\u{1f600}\")",
                "Null",
                "Bare(\"true\")",
                "Nested(\"[{\\\"f\\\":\\\"]\\\"}]\")"
            ]
        );
        assert!(read("{}").unwrap().is_empty());
    }

    #[test]
    fn what_is_no_object_is_refused_at_its_place() {
        for (line, at) in [
            ("", 0),
            ("[1]", 0),
            ("{\"a\"}", 4),
            ("{\"a\":}", 5),
            ("{\"a\":1,}", 7),
            ("{\"a\":1} x", 8),
            ("{\"a\":01x}", 7),
            ("{\"a\":\"x}", 8),
            ("{\"a\":[}", 6),
            ("{\"a\":-}", 6),
            ("{\"a\":\"\\ud800\"}", 12),
        ] {
            assert_eq!(read(line).unwrap_err().at, at, "{line}");
        }
    }

    #[test]
    fn deep_nesting_costs_no_stack() {
        let line = format!("{{\"a\":{}1{}}}", "[".repeat(200_000), "]".repeat(200_000));
        assert_eq!(read(&line).unwrap().len(), 1);
    }
}
