//! One value out of a text of JSON, by a path: what JSON_VALUE reads.
//!
//! A path is `$` with steps `.name`, `['name']` and `[0]`, behind `lax` or `strict`; without either it
//! is strict, as in Flink. The whole text is read, so that one that is no JSON is known as such.

use std::borrow::Cow;

use crate::cast::{convert, parse_double};
use crate::kind::Kind;
use crate::scalar::Scalar;

/// How deep a text may nest.
const DEPTH_MAX: usize = 512;

/// A path, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JsonPath {
    is_lax: bool,
    steps: Vec<Step>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Name(String),
    Index(usize),
}

/// What a path leads to.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Found {
    Value(Scalar),
    /// Nothing, which is no mistake.
    Empty,
    /// No JSON, no such place, or nothing of the wanted kind.
    Error,
}

/// What stands at a place.
enum Place<'a> {
    Missing,
    Null,
    Bool(bool),
    Number(&'a str),
    Text(Cow<'a, str>),
    /// An object or a list.
    Nested,
}

impl JsonPath {
    /// Takes a path apart.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub fn new(text: &str) -> Result<Self, &'static str> {
        let text = text.trim();
        let mode = |word: &str| {
            let (head, rest) = text.split_at_checked(word.len())?;
            let is_it = head.eq_ignore_ascii_case(word) && rest.starts_with(char::is_whitespace);
            is_it.then(|| rest.trim_start())
        };
        let lax = mode("lax");
        let rest = lax.or_else(|| mode("strict")).unwrap_or(text);
        let rest = rest.strip_prefix('$').ok_or("a path begins with $")?;
        Ok(Self {
            is_lax: lax.is_some(),
            steps: steps(rest)?,
        })
    }

    /// What it leads to in a text, as a kind.
    pub(crate) fn find(&self, text: &str, kind: Kind) -> Found {
        let mut scan = Scan {
            text,
            at: 0,
            depth: 0,
        };
        let found = scan.whole(&self.steps);
        match (found, self.is_lax) {
            (None | Some(Place::Missing | Place::Null | Place::Nested), true) => Found::Empty,
            (None | Some(Place::Missing | Place::Null | Place::Nested), false) => Found::Error,
            (Some(Place::Bool(value)), _) => value_of(Scalar::Bool(value), Kind::Boolean, kind),
            (Some(Place::Number(number)), _) => number_of(number, kind),
            (Some(Place::Text(text)), _) => {
                value_of(Scalar::Text(text.into_owned()), Kind::String, kind)
            }
        }
    }
}

/// A value of JSON as what was asked for: everything is text, nothing else is converted.
fn value_of(value: Scalar, from: Kind, to: Kind) -> Found {
    if from == to {
        return Found::Value(value);
    }
    // Truths are written small here.
    if let (Scalar::Bool(value), Kind::String) = (value, to) {
        return Found::Value(Scalar::Text(value.to_string()));
    }
    Found::Error
}

fn number_of(number: &str, to: Kind) -> Found {
    let is_whole = !number.contains(['.', 'e', 'E']);
    let value = match to {
        Kind::String if is_whole => {
            let digits = if number == "-0" { "0" } else { number };
            Some(Scalar::Text(digits.to_owned()))
        }
        Kind::String => parse_double(number)
            .and_then(|real| convert(&Scalar::Real(real), Kind::Double, Kind::String).ok()),
        Kind::Double => parse_double(number).map(Scalar::Real),
        Kind::Int if is_whole => {
            convert(&Scalar::Text(number.to_owned()), Kind::String, Kind::Int).ok()
        }
        Kind::Int
        | Kind::Boolean
        | Kind::Bytes
        | Kind::TinyInt
        | Kind::SmallInt
        | Kind::BigInt
        | Kind::Float
        | Kind::Decimal { .. }
        | Kind::Date
        | Kind::Timestamp { .. }
        | Kind::TimestampLtz { .. }
        | Kind::Interval => None,
    };
    value.map_or(Found::Error, Found::Value)
}

fn steps(mut rest: &str) -> Result<Vec<Step>, &'static str> {
    const KNOWN: &str = "a path has steps .name, ['name'] and [0], and no others";
    let mut steps = Vec::new();
    while !rest.is_empty() {
        // `.[` is `[`, as those have it who wrote Flink's.
        rest = rest
            .strip_prefix('.')
            .filter(|it| it.starts_with('['))
            .unwrap_or(rest);
        if let Some(inner) = rest.strip_prefix('.') {
            let is_end = |letter: char| " .[]()*'\"?@,:".contains(letter);
            let end = inner.find(is_end).unwrap_or(inner.len());
            if end == 0 {
                return Err(KNOWN);
            }
            steps.push(Step::Name(inner[..end].to_owned()));
            rest = &inner[end..];
            continue;
        }
        let inner = rest.strip_prefix('[').ok_or(KNOWN)?.trim_start();
        let quote = inner.chars().next().filter(|it| matches!(it, '\'' | '"'));
        let end = if let Some(quote) = quote {
            let (name, end) = quoted(&inner[1..], quote).ok_or(KNOWN)?;
            steps.push(Step::Name(name));
            1 + end
        } else {
            let is_digit = |letter: char| letter.is_ascii_digit();
            let end = inner.find(|it| !is_digit(it)).unwrap_or(inner.len());
            steps.push(Step::Index(inner[..end].parse().map_err(|_empty| KNOWN)?));
            end
        };
        rest = inner[end..].trim_start().strip_prefix(']').ok_or(KNOWN)?;
    }
    Ok(steps)
}

/// A name up to its quote, with `\` before what is meant as it is, and where it ends.
fn quoted(text: &str, quote: char) -> Option<(String, usize)> {
    let mut name = String::new();
    let mut letters = text.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '\\' => name.push(letters.next()?.1),
            letter if letter == quote => return Some((name, at + 1)),
            letter => name.push(letter),
        }
    }
    None
}

/// Reads a text once. `None` is what is no JSON.
struct Scan<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
}

impl<'a> Scan<'a> {
    fn whole(&mut self, steps: &[Step]) -> Option<Place<'a>> {
        let found = self.value(Some(steps))?;
        self.blank();
        (self.at == self.text.len()).then_some(found)
    }

    fn blank(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    /// The next sign behind blanks, if it is this one.
    fn take(&mut self, sign: u8) -> bool {
        self.blank();
        let is_here = self.peek() == Some(sign);
        self.at += usize::from(is_here);
        is_here
    }

    /// A value, and what the steps lead to in it; without steps it is only passed over.
    fn value(&mut self, steps: Option<&[Step]>) -> Option<Place<'a>> {
        self.blank();
        let place = match self.peek()? {
            b'{' | b'[' => return self.nested(steps),
            b'"' => Place::Text(self.string()?),
            b't' => self.word("true", Place::Bool(true))?,
            b'f' => self.word("false", Place::Bool(false))?,
            b'n' => self.word("null", Place::Null)?,
            _ => Place::Number(self.number()?),
        };
        Some(match steps {
            Some([]) => place,
            Some(_) | None => Place::Missing,
        })
    }

    fn nested(&mut self, steps: Option<&[Step]>) -> Option<Place<'a>> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return None;
        }
        let is_list = self.peek() == Some(b'[');
        let end = if is_list { b']' } else { b'}' };
        self.at += 1;
        let mut found = match steps {
            Some([]) => Place::Nested,
            Some(_) | None => Place::Missing,
        };
        let mut count = 0;
        while count > 0 || !self.take(end) {
            let is_it = if is_list {
                matches!(steps, Some([Step::Index(wanted), ..]) if *wanted == count)
            } else {
                self.blank();
                let name = self.string()?;
                if !self.take(b':') {
                    return None;
                }
                matches!(steps, Some([Step::Name(wanted), ..]) if *wanted == name)
            };
            let inner = steps.filter(|_| is_it).map(|steps| &steps[1..]);
            let value = self.value(inner)?;
            if is_it {
                // Of a name that is there twice the last counts.
                found = value;
            }
            count += 1;
            if self.take(end) {
                break;
            }
            if !self.take(b',') {
                return None;
            }
        }
        self.depth -= 1;
        Some(found)
    }

    fn word(&mut self, word: &str, place: Place<'a>) -> Option<Place<'a>> {
        let is_here = self.text[self.at..].starts_with(word);
        self.at += word.len();
        is_here.then_some(place)
    }

    fn number(&mut self) -> Option<&'a str> {
        let start = self.at;
        self.at += usize::from(self.peek() == Some(b'-'));
        let is_zero = self.peek() == Some(b'0');
        let digits = self.digits()?;
        if is_zero && digits > 1 {
            return None;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            self.at += usize::from(matches!(self.peek(), Some(b'+' | b'-')));
            self.digits()?;
        }
        Some(&self.text[start..self.at])
    }

    /// How many digits are here: one at least.
    fn digits(&mut self) -> Option<usize> {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        (self.at > start).then_some(self.at - start)
    }

    fn string(&mut self) -> Option<Cow<'a, str>> {
        if self.peek() != Some(b'"') {
            return None;
        }
        self.at += 1;
        let start = self.at;
        let mut made: Option<String> = None;
        let mut from = start;
        loop {
            match self.peek()? {
                b'"' => break,
                b'\\' => {
                    let made = made.get_or_insert_default();
                    made.push_str(&self.text[from..self.at]);
                    self.at += 1;
                    made.push(self.escaped()?);
                    from = self.at;
                }
                0..=0x1f => return None,
                _ => self.at += 1,
            }
        }
        let rest = &self.text[from..self.at];
        self.at += 1;
        Some(match made {
            None => Cow::Borrowed(rest),
            Some(made) => Cow::Owned(made + rest),
        })
    }

    /// The letter that is meant behind a `\`. Half of a pair stands for what it is no part of.
    fn escaped(&mut self) -> Option<char> {
        let sign = self.peek()?;
        self.at += 1;
        Some(match sign {
            b'"' | b'\\' | b'/' => char::from(sign),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let high = self.four()?;
                let is_pair =
                    (0xd800..0xdc00).contains(&high) && self.text[self.at..].starts_with("\\u");
                let mut code = high;
                if is_pair {
                    let before = self.at;
                    self.at += 2;
                    let low = self.four()?;
                    if (0xdc00..0xe000).contains(&low) {
                        code = 0x1_0000 + ((high - 0xd800) << 10) + (low - 0xdc00);
                    } else {
                        self.at = before;
                    }
                }
                char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER)
            }
            _ => return None,
        })
    }

    fn four(&mut self) -> Option<u32> {
        let digits = self.text.get(self.at..self.at + 4)?;
        let is_hex = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
        self.at += 4;
        u32::from_str_radix(digits, 16).ok().filter(|_| is_hex)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(path: &str, text: &str, kind: Kind) -> Found {
        JsonPath::new(path).expect("a path").find(text, kind)
    }

    fn text(value: &str) -> Found {
        Found::Value(Scalar::Text(value.to_owned()))
    }

    #[test]
    fn a_path_leads_to_what_stands_there() {
        let json = r#" {"a": {"b": [10, {"c.d": "x\u00e9\ud83d\ude00\n"}, [true, null]], "b2": -0}, "e": 1.50, "a2": {}} "#;
        for (path, wanted) in [
            ("$.a.b[0]", text("10")),
            ("$['a']['b'][1]['c.d']", text("xé😀\n")),
            ("$.a.b[ 1 ].[\"c.d\"]", text("xé😀\n")),
            ("lax $.a.b[2][0]", text("true")),
            ("$.a.b[2][1]", Found::Error),
            ("lax $.a.b[2][1]", Found::Empty),
            ("$.a.b2", text("0")),
            ("$.e", text("1.5")),
            ("$.a.b[7]", Found::Error),
            ("lax $.a.b[7]", Found::Empty),
            ("strict $.x", Found::Error),
            ("LAX $.x.y", Found::Empty),
            ("$.a", Found::Error),
            ("lax $.a2", Found::Empty),
            ("$", Found::Error),
            ("$.e.x", Found::Error),
        ] {
            assert_eq!(find(path, json, Kind::String), wanted, "{path}");
        }
        assert_eq!(find("$.a", r#"{"a":1,"a":2}"#, Kind::String), text("2"));
        assert_eq!(find("$", "7", Kind::Int), Found::Value(Scalar::Int(7)));
    }

    #[test]
    fn kinds_are_not_converted_but_to_text() {
        let of = |json: &str, kind| find("$", json, kind);
        assert_eq!(of("1", Kind::Double), Found::Value(Scalar::Real(1.0)));
        assert_eq!(of("true", Kind::Boolean), Found::Value(Scalar::Bool(true)));
        for (json, kind) in [
            ("1.0", Kind::Int),
            ("3000000000", Kind::Int),
            ("\"1\"", Kind::Int),
            ("\"true\"", Kind::Boolean),
            ("1", Kind::Boolean),
            ("true", Kind::Double),
            ("1e999", Kind::Double),
            ("1e999", Kind::String),
        ] {
            assert_eq!(of(json, kind), Found::Error, "{json}");
        }
        assert_eq!(
            of("123456789012345678901", Kind::String),
            text("123456789012345678901")
        );
    }

    /// A value as a tree, its text, and a path to a part of it with what stands there.
    struct Twin(u64);

    impl Twin {
        fn below(&mut self, bound: u64) -> u64 {
            self.0 = self
                .0
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (self.0 >> 33) % bound
        }

        fn blank(&mut self, out: &mut String) {
            for _ in 0..self.below(3) {
                out.push(if self.below(2) == 0 { ' ' } else { '\n' });
            }
        }

        /// Writes a value; a path that leads into it, or nothing, and what stands there as text.
        fn value(&mut self, depth: u64, out: &mut String) -> (String, Option<String>) {
            self.blank(out);
            let kind = self.below(if depth > 4 { 4 } else { 7 });
            let found = match kind {
                0 => {
                    out.push_str("null");
                    (String::new(), None)
                }
                1 => {
                    out.push_str("false");
                    (String::new(), Some("false".to_owned()))
                }
                2 => {
                    let number = self.below(1_000_000).to_string();
                    out.push_str(&number);
                    (String::new(), Some(number))
                }
                3 => {
                    out.push_str(r#""\"\u00e4\ud83d\ude00 ]},""#);
                    (String::new(), Some("\"ä😀 ]},".to_owned()))
                }
                kind => self.nested(kind > 4, depth, out),
            };
            self.blank(out);
            found
        }

        fn nested(
            &mut self,
            is_list: bool,
            depth: u64,
            out: &mut String,
        ) -> (String, Option<String>) {
            let count = self.below(4) + 1;
            let chosen = self.below(count);
            let mut found = None;
            out.push(if is_list { '[' } else { '{' });
            for at in 0..count {
                if at > 0 {
                    out.push(',');
                }
                let step = if is_list {
                    format!("[{at}]")
                } else {
                    format!("['n.{at}']")
                };
                if !is_list {
                    self.blank(out);
                    out.push_str(&format!("\"n\\u002e{at}\""));
                    self.blank(out);
                    out.push(':');
                }
                let inner = self.value(depth + 1, out);
                if at == chosen {
                    found = Some((step + &inner.0, inner.1));
                }
            }
            out.push(if is_list { ']' } else { '}' });
            found.expect("one is chosen")
        }
    }

    #[test]
    fn random_texts_have_what_stands_in_them_and_no_cut_of_them_is_one() {
        for seed in 0..400 {
            let mut json = String::new();
            let (path, wanted) = Twin(seed).value(0, &mut json);
            let wanted = wanted.as_deref().map_or(Found::Error, text);
            assert_eq!(
                find(&format!("${path}"), &json, Kind::String),
                wanted,
                "{path} {json}"
            );
            assert_eq!(
                find(&format!("${path}.no"), &json, Kind::String),
                Found::Error
            );
            let whole = json.trim_end().len();
            for end in (0..whole).filter(|end| json.is_char_boundary(*end)) {
                // A number that is cut is one still.
                if json[..end].trim().parse::<u64>().is_err() {
                    assert_eq!(
                        find("$", &json[..end], Kind::String),
                        Found::Error,
                        "{}",
                        &json[..end]
                    );
                }
            }
        }
    }

    #[test]
    fn what_is_no_json_is_an_error_or_nothing() {
        let deep = "[".repeat(DEPTH_MAX + 1) + &"]".repeat(DEPTH_MAX + 1);
        for json in [
            "",
            " ",
            "{",
            "[1",
            "{\"a\":1,}",
            "[1,]",
            "{a:1}",
            "01",
            "1.",
            "-",
            "1e",
            "\"a",
            "\"\\x\"",
            "\"\t\"",
            "\"\\u00g0\"",
            "tru",
            "nul",
            "{\"a\" 1}",
            "{\"a\":1} x",
            "[1 2]",
            "[,1]",
            "\"\\u12",
            &deep,
        ] {
            assert_eq!(find("$.a", json, Kind::String), Found::Error, "{json}");
            assert_eq!(find("lax $.a", json, Kind::String), Found::Empty, "{json}");
        }
        let deep = "[".repeat(DEPTH_MAX) + &"]".repeat(DEPTH_MAX);
        assert_eq!(find("lax $[0]", &deep, Kind::String), Found::Empty);
    }

    #[test]
    fn paths_that_lead_to_many_places_are_refused() {
        for path in [
            "",
            "a",
            "$.",
            "$..a",
            "$[*]",
            "$.*",
            "$[-1]",
            "$[",
            "$['a",
            "$[?(@.a)]",
            "$.a b",
            "$[0",
            "$x",
        ] {
            assert!(JsonPath::new(path).is_err(), "{path}");
        }
    }
}
