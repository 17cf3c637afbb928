//! Reading and writing JSON, as far as documents need it.
//!
//! Numbers stay as they were written: no double stands between. A document is written back with
//! sorted fields and without spaces, in one way only.
//!
//! What would surprise: a field that stands in an object twice is refused. Which of the two
//! counts, no two readers agree on.

use alloc::borrow::ToOwned;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use crate::kind::Unfit;

/// How deep a document may be.
pub const DEPTH_MAX: usize = 64;

/// A document, or a part of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Json {
    /// `null`, `true`, `false` or a number, as it is written.
    Word(String),
    Text(String),
    Array(Vec<Self>),
    Object(BTreeMap<String, Self>),
}

impl Json {
    /// Reads a whole document.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, Unfit> {
        let text = core::str::from_utf8(bytes).map_err(|_wrong| Unfit::Utf8)?;
        let mut parser = Parser {
            bytes: text.as_bytes(),
            at: 0,
        };
        let json = parser.value(0)?;
        parser.skip_space();
        if parser.at < parser.bytes.len() {
            return Err(parser.wrong());
        }
        Ok(json)
    }

    /// Adds it to `out`, fields sorted, without spaces.
    pub(crate) fn write(&self, out: &mut String) {
        match self {
            Self::Word(word) => out.push_str(word),
            Self::Text(text) => write_text(text, out),
            Self::Array(items) => {
                out.push('[');
                for (at, item) in items.iter().enumerate() {
                    if at > 0 {
                        out.push(',');
                    }
                    item.write(out);
                }
                out.push(']');
            }
            Self::Object(fields) => {
                out.push('{');
                for (at, (name, value)) in fields.iter().enumerate() {
                    if at > 0 {
                        out.push(',');
                    }
                    write_text(name, out);
                    out.push(':');
                    value.write(out);
                }
                out.push('}');
            }
        }
    }

    pub(crate) fn written(&self) -> String {
        let mut out = String::new();
        self.write(&mut out);
        out
    }

    /// Whether it has no parts.
    pub(crate) const fn is_scalar(&self) -> bool {
        matches!(self, Self::Word(_) | Self::Text(_))
    }

    pub(crate) const fn fields(&self) -> Option<&BTreeMap<String, Self>> {
        match self {
            Self::Object(fields) => Some(fields),
            Self::Word(_) | Self::Text(_) | Self::Array(_) => None,
        }
    }

    pub(crate) fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Word(_) | Self::Array(_) | Self::Object(_) => None,
        }
    }
}

/// Adds a text in quotes.
pub(crate) fn write_text(text: &str, out: &mut String) {
    out.push('"');
    for it in text.chars() {
        match it {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            control if control < ' ' => {
                out.push_str("\\u00");
                let code = u32::from(control);
                for digit in [code >> 4, code & 15] {
                    out.push(char::from_digit(digit, 16).expect("it is below 16"));
                }
            }
            other => out.push(other),
        }
    }
    out.push('"');
}

struct Parser<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Parser<'_> {
    const fn wrong(&self) -> Unfit {
        Unfit::Syntax { at: self.at }
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn take(&mut self, wanted: u8) -> bool {
        let is_there = self.peek() == Some(wanted);
        self.at += usize::from(is_there);
        is_there
    }

    fn demand(&mut self, wanted: u8) -> Result<(), Unfit> {
        if self.take(wanted) {
            Ok(())
        } else {
            Err(self.wrong())
        }
    }

    fn value(&mut self, depth: usize) -> Result<Json, Unfit> {
        if depth > DEPTH_MAX {
            return Err(Unfit::Depth);
        }
        self.skip_space();
        match self.peek() {
            Some(b'{') => self.object(depth),
            Some(b'[') => self.array(depth),
            Some(b'"') => self.text().map(Json::Text),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(_) | None => self.word(),
        }
    }

    fn word(&mut self) -> Result<Json, Unfit> {
        let rest = &self.bytes[self.at..];
        for word in ["null", "true", "false"] {
            if rest.starts_with(word.as_bytes()) {
                self.at += word.len();
                return Ok(Json::Word(word.to_owned()));
            }
        }
        Err(self.wrong())
    }

    fn digits(&mut self) -> Result<(), Unfit> {
        let begin = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        if self.at == begin {
            return Err(self.wrong());
        }
        Ok(())
    }

    fn number(&mut self) -> Result<Json, Unfit> {
        let begin = self.at;
        self.take(b'-');
        if !self.take(b'0') {
            self.digits()?;
        }
        if self.take(b'.') {
            self.digits()?;
        }
        if self.take(b'e') || self.take(b'E') {
            if !self.take(b'+') {
                self.take(b'-');
            }
            self.digits()?;
        }
        let word = core::str::from_utf8(&self.bytes[begin..self.at]);
        Ok(Json::Word(word.map_err(|_wrong| Unfit::Utf8)?.to_owned()))
    }

    fn text(&mut self) -> Result<String, Unfit> {
        self.demand(b'"')?;
        let mut text = String::new();
        loop {
            let begin = self.at;
            while self
                .peek()
                .is_some_and(|it| it >= b' ' && !matches!(it, b'"' | b'\\'))
            {
                self.at += 1;
            }
            let part = core::str::from_utf8(&self.bytes[begin..self.at]);
            text.push_str(part.map_err(|_wrong| Unfit::Utf8)?);
            if self.take(b'"') {
                return Ok(text);
            }
            self.demand(b'\\')?;
            text.push(self.escaped()?);
        }
    }

    fn escaped(&mut self) -> Result<char, Unfit> {
        let kind = self.peek().ok_or_else(|| self.wrong())?;
        self.at += 1;
        Ok(match kind {
            b'"' | b'\\' | b'/' => char::from(kind),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => return self.code(),
            _other => return Err(self.wrong()),
        })
    }

    fn code(&mut self) -> Result<char, Unfit> {
        let high = self.four()?;
        let code = if (0xd800..0xdc00).contains(&high) {
            self.demand(b'\\')?;
            self.demand(b'u')?;
            let low = self.four()?;
            if !(0xdc00..0xe000).contains(&low) {
                return Err(self.wrong());
            }
            0x1_0000 + ((high - 0xd800) << 10) + (low - 0xdc00)
        } else {
            high
        };
        char::from_u32(code).ok_or_else(|| self.wrong())
    }

    fn four(&mut self) -> Result<u32, Unfit> {
        let mut code = 0;
        for _ in 0..4 {
            let digit = self.peek().and_then(|it| char::from(it).to_digit(16));
            code = code * 16 + digit.ok_or_else(|| self.wrong())?;
            self.at += 1;
        }
        Ok(code)
    }

    fn array(&mut self, depth: usize) -> Result<Json, Unfit> {
        self.demand(b'[')?;
        let mut items = Vec::new();
        self.skip_space();
        if self.take(b']') {
            return Ok(Json::Array(items));
        }
        loop {
            items.push(self.value(depth + 1)?);
            self.skip_space();
            if self.take(b']') {
                return Ok(Json::Array(items));
            }
            self.demand(b',')?;
        }
    }

    fn object(&mut self, depth: usize) -> Result<Json, Unfit> {
        self.demand(b'{')?;
        let mut fields = BTreeMap::new();
        self.skip_space();
        if self.take(b'}') {
            return Ok(Json::Object(fields));
        }
        loop {
            self.skip_space();
            let name = self.text()?;
            self.skip_space();
            self.demand(b':')?;
            let value = self.value(depth + 1)?;
            if fields.insert(name.clone(), value).is_some() {
                return Err(Unfit::Twice { name });
            }
            self.skip_space();
            if self.take(b'}') {
                return Ok(Json::Object(fields));
            }
            self.demand(b',')?;
        }
    }
}
