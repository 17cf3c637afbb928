//! The generator's requests as bytes, built once and then only patched, and the little it reads of answers.
//!
//! Encoding a request with a library costs more than sending it. A [`Template`] holds a whole gRPC message (five
//! bytes of prefix, then protobuf) in which each key has a fixed width, so a new request is a copy and a few digits.

use super::frame;

/// Digits of the number in each key.
const KEY_DIGITS: usize = 16;
/// What every key of a benchmark begins with.
pub(crate) const KEY_PREFIX: &str = "/bench/";

/// A request in which the keys stand at known places.
#[derive(Clone, Debug)]
pub(crate) struct Template {
    bytes: Vec<u8>,
    /// Where the digits of each key begin.
    keys: Vec<usize>,
    /// Where eight bytes of the value may hold a time.
    stamp: Option<usize>,
}

impl Template {
    fn new(body: Body) -> Self {
        let mut bytes = vec![0];
        let length =
            u32::try_from(body.bytes.len()).expect("value sizes are limited far below 4 GiB");
        bytes.extend_from_slice(&frame::network_order(length));
        let shift = bytes.len();
        bytes.extend_from_slice(&body.bytes);
        Self {
            bytes,
            keys: body.keys.iter().map(|at| at + shift).collect(),
            stamp: body.stamp.map(|at| at + shift),
        }
    }

    /// `PutRequest` with a value of `value_bytes`.
    pub(crate) fn put(value_bytes: usize) -> Self {
        Self::new(Body::put(value_bytes))
    }

    /// `RangeRequest` for one key.
    pub(crate) fn get(serializable: bool) -> Self {
        let mut body = Body::default();
        body.key(1);
        body.serializable(serializable);
        Self::new(body)
    }

    /// `RangeRequest` from one key to another.
    pub(crate) fn list(serializable: bool) -> Self {
        let mut body = Body::default();
        body.key(1);
        body.key(2);
        body.serializable(serializable);
        Self::new(body)
    }

    /// `RangeRequest` that counts all keys of the benchmark.
    pub(crate) fn count() -> Self {
        let mut body = Body::default();
        body.text(1, KEY_PREFIX.as_bytes());
        body.text(2, b"/bench0");
        body.number(9, 1);
        Self::new(body)
    }

    /// `TxnRequest` without compares that puts `puts` keys.
    pub(crate) fn txn(puts: usize, value_bytes: usize) -> Self {
        let mut body = Body::default();
        for _ in 0..puts {
            let mut operation = Body::default();
            operation.nested(2, Body::put(value_bytes));
            body.nested(2, operation);
        }
        Self::new(body)
    }

    /// A request without any field.
    pub(crate) fn echo() -> Self {
        Self::new(Body::default())
    }

    /// `WatchRequest` that creates a watch on one key.
    pub(crate) fn watch() -> Self {
        let mut create = Body::default();
        create.key(1);
        let mut body = Body::default();
        body.nested(1, create);
        Self::new(body)
    }

    /// How many keys the request names.
    pub(crate) fn key_count(&self) -> usize {
        self.keys.len()
    }

    /// Bytes of the whole message.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Writes `number` into the key of that index.
    pub(crate) fn set_key(&mut self, index: usize, number: u64) {
        let at = self.keys[index];
        let mut rest = number;
        for digit in self.bytes[at..at + KEY_DIGITS].iter_mut().rev() {
            *digit = b'0' + u8::try_from(rest % 10).expect("a digit is below ten");
            rest /= 10;
        }
    }

    /// Writes a time into the value, for the watchers to find again.
    pub(crate) fn set_stamp(&mut self, time: u64) {
        let at = self.stamp.expect("only puts are stamped");
        self.bytes[at..at + 8].copy_from_slice(&time.to_le_bytes());
    }

    /// The message as it stands.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// A protobuf message under construction.
#[derive(Clone, Debug, Default)]
struct Body {
    bytes: Vec<u8>,
    keys: Vec<usize>,
    stamp: Option<usize>,
}

impl Body {
    fn put(value_bytes: usize) -> Self {
        let mut body = Self::default();
        body.key(1);
        body.value(2, value_bytes);
        body
    }

    fn key(&mut self, field: u32) {
        let text = format!("{KEY_PREFIX}{:0KEY_DIGITS$}", 0);
        self.text(field, text.as_bytes());
        self.keys.push(self.bytes.len() - KEY_DIGITS);
    }

    /// A value whose bytes look random and whose first eight may hold a time.
    fn value(&mut self, field: u32, length: usize) {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut value = Vec::with_capacity(length + 8);
        while value.len() < length {
            state = scatter(state);
            value.extend_from_slice(&state.to_le_bytes());
        }
        value.truncate(length);
        self.text(field, &value);
        self.stamp = (length >= 8).then(|| self.bytes.len() - length);
    }

    fn serializable(&mut self, serializable: bool) {
        if serializable {
            self.number(7, 1);
        }
    }

    fn text(&mut self, field: u32, text: &[u8]) {
        self.varint(u64::from(field) << 3 | 2);
        self.varint(u64::try_from(text.len()).expect("usize fits into 64 bits"));
        self.bytes.extend_from_slice(text);
    }

    fn number(&mut self, field: u32, value: u64) {
        self.varint(u64::from(field) << 3);
        self.varint(value);
    }

    fn nested(&mut self, field: u32, inner: Self) {
        self.text(field, &inner.bytes);
        let shift = self.bytes.len() - inner.bytes.len();
        self.keys.extend(inner.keys.iter().map(|at| at + shift));
        self.stamp = inner.stamp.map(|at| at + shift);
    }

    fn varint(&mut self, mut value: u64) {
        loop {
            let low = u8::try_from(value & 0x7f).expect("seven bits fit into a byte");
            value >>= 7;
            self.bytes.push(if value == 0 { low } else { low | 0x80 });
            if value == 0 {
                break;
            }
        }
    }
}

/// The next of a sequence of numbers that look random (SplitMix64's finish).
pub(crate) fn scatter(state: u64) -> u64 {
    let mut z = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}

/// One field of a protobuf message.
pub(crate) enum Field<'a> {
    /// A number.
    Number(u64),
    /// Text, bytes or a nested message.
    Text(&'a [u8]),
    /// A field of fixed width, which no message here uses.
    Fixed,
}

/// Reads the next field: its number and content. `None` at the end, or where the bytes are no message.
pub(crate) fn next_field<'a>(rest: &mut &'a [u8]) -> Option<(u64, Field<'a>)> {
    let tag = varint(rest)?;
    let field = match tag & 7 {
        0 => Field::Number(varint(rest)?),
        2 => {
            let length = usize::try_from(varint(rest)?).ok()?;
            Field::Text(split(rest, length)?)
        }
        1 => split(rest, 8).map(|_skipped| Field::Fixed)?,
        5 => split(rest, 4).map(|_skipped| Field::Fixed)?,
        _ => return None,
    };
    Some((tag >> 3, field))
}

fn split<'a>(rest: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (first, after) = rest.split_at_checked(length)?;
    *rest = after;
    Some(first)
}

fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, after) = rest.split_first()?;
        *rest = after;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn text_field(message: &[u8], wanted: u64) -> Option<&[u8]> {
    let mut rest = message;
    while let Some((number, field)) = next_field(&mut rest) {
        if let (true, Field::Text(text)) = (number == wanted, field) {
            return Some(text);
        }
    }
    None
}

/// The number in field `wanted` of a message, 0 if it is absent.
pub(crate) fn number_field(message: &[u8], wanted: u64) -> u64 {
    let mut rest = message;
    while let Some((number, field)) = next_field(&mut rest) {
        if let (true, Field::Number(value)) = (number == wanted, field) {
            return value;
        }
    }
    0
}

/// What a `WatchResponse` says, as far as the generator asks.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct WatchSummary {
    /// The watch now exists.
    pub(crate) created: bool,
    /// The watch has ended.
    pub(crate) canceled: bool,
    /// Events in this answer.
    pub(crate) events: u64,
}

/// Reads a `WatchResponse`; `stamp` is called with the time in the value of each event that has one.
pub(crate) fn read_watch(message: &[u8], mut stamp: impl FnMut(u64)) -> WatchSummary {
    let mut summary = WatchSummary::default();
    let mut rest = message;
    while let Some((number, field)) = next_field(&mut rest) {
        match (number, field) {
            (3, Field::Number(value)) => summary.created = value != 0,
            (4, Field::Number(value)) => summary.canceled = value != 0,
            (11, Field::Text(event)) => {
                summary.events += 1;
                let value = text_field(event, 2).and_then(|record| text_field(record, 5));
                if let Some(time) = value.and_then(|value| value.first_chunk::<8>()) {
                    stamp(u64::from_le_bytes(*time));
                }
            }
            _ => {}
        }
    }
    summary
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn put_holds_the_key_that_was_set() {
        let mut put = Template::put(10);
        put.set_key(0, 4_711);
        let body = &put.bytes()[5..];
        assert_eq!(
            text_field(body, 1),
            Some(b"/bench/0000000000004711".as_slice())
        );
        assert_eq!(text_field(body, 2).map(<[u8]>::len), Some(10));
        assert_eq!(put.bytes()[..5], [0, 0, 0, 0, 37]);
    }

    #[test]
    fn txn_names_each_key_apart() {
        let mut txn = Template::txn(3, 200);
        (0..3).for_each(|index| txn.set_key(index, 7 + u64::try_from(index).unwrap()));
        let text = String::from_utf8_lossy(txn.bytes()).into_owned();
        for key in 7..10 {
            assert!(
                text.contains(&format!("/bench/000000000000000{key}")),
                "key {key}"
            );
        }
        assert_eq!(txn.key_count(), 3);
    }

    #[test]
    fn watch_answer_gives_events_and_their_times() {
        let mut put = Template::put(8);
        put.set_stamp(99);
        let stamp = text_field(&put.bytes()[5..], 2)
            .expect("a put has a value")
            .to_vec();
        let mut record = Body::default();
        record.text(1, b"key");
        record.text(5, &stamp);
        let mut event = Body::default();
        event.nested(2, record);
        let mut answer = Body::default();
        answer.number(2, 5);
        answer.nested(11, event.clone());
        answer.nested(11, event);
        let mut times = Vec::new();
        let summary = read_watch(&answer.bytes, |time| times.push(time));
        assert_eq!(
            summary,
            WatchSummary {
                created: false,
                canceled: false,
                events: 2
            }
        );
        assert_eq!(times, [99, 99]);
    }

    #[test]
    fn cut_messages_end_quietly() {
        assert!(next_field(&mut [0x12, 0x05, 1].as_slice()).is_none());
        assert!(next_field(&mut [0x80].as_slice()).is_none());
    }
}
