//! A request's head: its fields, held against the rules (RFC 9113, section 8).
//!
//! What would surprise: `:authority` is taken as it comes. Some old clients send a URL, which
//! no rule allows and which servers that they were written against take.

use alloc::vec::Vec;

use bytes::Bytes;

use crate::hpack::Field;

/// A request's head.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// The method, `POST`.
    pub method: Bytes,
    /// The path, with its query.
    pub path: Bytes,
    /// The scheme; empty for `CONNECT`.
    pub scheme: Bytes,
    /// The authority; empty if there is none.
    pub authority: Bytes,
    /// All other fields, in their order.
    pub fields: Vec<Field>,
    /// How long the body is, if the head says so.
    pub length: Option<u64>,
}

impl Head {
    /// The first value of a field.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Bytes> {
        let found = self.fields.iter().find(|it| it.name == name.as_bytes());
        found.map(|it| &it.value)
    }
}

/// Makes a head of fields as they come.
#[derive(Debug, Default)]
pub(crate) struct Builder {
    head: Head,
    /// Which pseudo-fields have come: a bit for each.
    seen: u8,
    is_malformed: bool,
}

impl Builder {
    pub(crate) fn add(&mut self, field: Field) {
        if !self.take(field) {
            self.is_malformed = true;
        }
    }

    /// Whether the field is allowed where it stands.
    fn take(&mut self, field: Field) -> bool {
        let Field { name, value } = &field;
        if !value.iter().all(|it| is_of_value(*it)) {
            return false;
        }
        if name.first() == Some(&b':') {
            return self.head.fields.is_empty() && self.take_pseudo(field);
        }
        let is_name = !name.is_empty() && name.iter().all(|it| is_of_name(*it));
        if !is_name || is_of_connection(&field) {
            return false;
        }
        if name == "content-length" {
            let length = core::str::from_utf8(value).ok().and_then(digits);
            if length.is_none() || self.head.length.is_some_and(|it| Some(it) != length) {
                return false;
            }
            self.head.length = length;
        }
        self.head.fields.push(field);
        true
    }

    fn take_pseudo(&mut self, Field { name, value }: Field) -> bool {
        let (bit, place) = match &name[..] {
            b":method" => (1, &mut self.head.method),
            b":path" => (2, &mut self.head.path),
            b":scheme" => (4, &mut self.head.scheme),
            b":authority" => (8, &mut self.head.authority),
            _ => return false,
        };
        let is_first = self.seen & bit == 0;
        self.seen |= bit;
        *place = value;
        is_first
    }

    /// The head, if it is one.
    pub(crate) fn finish(self) -> Option<Head> {
        const REQUEST: u8 = 1 | 2 | 4;
        let is_whole = if self.head.method == "CONNECT" {
            self.seen == 1 | 8
        } else {
            self.seen & REQUEST == REQUEST && !self.head.path.is_empty()
        };
        (is_whole && !self.is_malformed && !self.head.method.is_empty()).then_some(self.head)
    }
}

/// What is about one hop of HTTP/1 has no place here (RFC 9113, section 8.2.2).
fn is_of_connection(field: &Field) -> bool {
    match &field.name[..] {
        b"connection" | b"proxy-connection" | b"keep-alive" | b"transfer-encoding" | b"upgrade" => {
            true
        }
        b"te" => field.value != "trailers",
        _ => false,
    }
}

fn digits(text: &str) -> Option<u64> {
    let is_plain = text.bytes().all(|it| it.is_ascii_digit());
    text.parse().ok().filter(|_| is_plain)
}

/// Tokens in lower case (RFC 9110, section 5.6.2).
const fn is_of_name(byte: u8) -> bool {
    matches!(byte,
        b'a'..=b'z' | b'0'..=b'9' | b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_'
        | b'`' | b'|' | b'~')
}

const fn is_of_value(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn built(fields: &[(&str, &str)]) -> Option<Head> {
        let mut builder = Builder::default();
        for (name, value) in fields {
            builder.add(Field {
                name: Bytes::copy_from_slice(name.as_bytes()),
                value: Bytes::copy_from_slice(value.as_bytes()),
            });
        }
        builder.finish()
    }

    const SOUND: [(&str, &str); 3] = [(":method", "POST"), (":scheme", "http"), (":path", "/a")];

    fn with(more: &[(&str, &str)]) -> Option<Head> {
        built(&[&SOUND[..], more].concat())
    }

    #[test]
    fn a_sound_head_is_taken_apart() {
        let head = with(&[
            (":authority", "http://a"),
            ("te", "trailers"),
            ("content-length", "7"),
        ]);
        let head = head.unwrap();
        assert_eq!(
            (&head.path[..], &head.authority[..]),
            (&b"/a"[..], &b"http://a"[..])
        );
        assert_eq!(
            (head.get("te"), head.length),
            (Some(&Bytes::from("trailers")), Some(7))
        );
        assert_eq!(head.get("token"), None);
    }

    #[test]
    fn what_the_rules_forbid_is_refused() {
        for bad in [
            (":method", "GET"),
            (":status", "200"),
            (":protocol", "websocket"),
            ("Upper", "a"),
            ("", "a"),
            ("a b", "a"),
            ("a", "line\nfeed"),
            ("a", "nul\0"),
            ("connection", "close"),
            ("transfer-encoding", "chunked"),
            ("te", "gzip"),
            ("content-length", "-1"),
            ("content-length", ""),
            ("content-length", "99999999999999999999"),
        ] {
            assert_eq!(with(&[bad]), None, "{bad:?}");
        }
        assert_eq!(with(&[("a", "b"), (":authority", "a")]), None, "it is late");
        assert_eq!(
            with(&[("content-length", "1"), ("content-length", "2")]),
            None
        );
        for left_out in 0..3 {
            let mut fields = SOUND.to_vec();
            fields.remove(left_out);
            assert_eq!(built(&fields), None, "without {left_out}");
        }
        assert_eq!(built(&[]), None);
    }
}
