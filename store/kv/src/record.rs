//! A key's value as it is stored and as it is sent: the bytes of one `KeyValue` message.
//!
//! What would surprise: records are never taken apart on the way to a client. A reply copies
//! them. The layout is Protocol Buffers' (fields 1 key, 2 create_revision, 3 mod_revision,
//! 4 version, 5 value, 6 lease, and Holm's own 100 mark; zero and empty fields absent; always in
//! that order). Clients of etcd skip the mark, which only local-first keyspaces write.

use bytes::{BufMut, Bytes, BytesMut};

/// The bytes of one `KeyValue` message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record(Bytes);

/// The parts of a [`Record`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parts {
    /// The key.
    pub key: Bytes,
    /// The revision that created it.
    pub create: i64,
    /// The revision that last changed it.
    pub modified: i64,
    /// Writes since it was created, the first included.
    pub version: i64,
    /// The value.
    pub value: Bytes,
    /// The lease it hangs on; 0 for none.
    pub lease: i64,
    /// Which island's update wrote it, as its keyspace notes that; empty elsewhere.
    pub mark: Bytes,
}

/// The tag of field 100 with a length.
const MARK: u64 = 100 << 3 | 2;

impl Record {
    /// Takes bytes that [`Record::encode`] made and a checksum has vouched for.
    #[must_use]
    pub const fn from_bytes(bytes: Bytes) -> Self {
        Self(bytes)
    }

    /// The message's bytes.
    #[must_use]
    pub const fn bytes(&self) -> &Bytes {
        &self.0
    }

    /// Encodes the parts. Cost: one allocation and one copy of key and value.
    #[must_use]
    pub fn encode(parts: &Parts) -> Self {
        let mut out = BytesMut::with_capacity(parts.key.len() + parts.value.len() + 80);
        Self::encode_into(parts, &mut out);
        Self(out.freeze())
    }

    /// Appends the message to `out`.
    pub(crate) fn encode_into(parts: &Parts, out: &mut BytesMut) {
        put_bytes(out, 1, &parts.key);
        put_number(out, 2, parts.create);
        put_number(out, 3, parts.modified);
        put_number(out, 4, parts.version);
        put_bytes(out, 5, &parts.value);
        put_number(out, 6, parts.lease);
        if !parts.mark.is_empty() {
            put_varint(out, MARK);
            put_varint(out, parts.mark.len() as u64);
            out.put_slice(&parts.mark);
        }
    }

    /// The parts, sharing this record's memory. `None` if the bytes are not such a message.
    #[must_use]
    pub fn decode(&self) -> Option<Parts> {
        let mut parts = Parts::default();
        let mut at = 0;
        while at < self.0.len() {
            let tag = number(&self.0, &mut at)?;
            match tag {
                0x0a => parts.key = field(&self.0, &mut at)?,
                0x10 => parts.create = number(&self.0, &mut at)?.cast_signed(),
                0x18 => parts.modified = number(&self.0, &mut at)?.cast_signed(),
                0x20 => parts.version = number(&self.0, &mut at)?.cast_signed(),
                0x2a => parts.value = field(&self.0, &mut at)?,
                0x30 => parts.lease = number(&self.0, &mut at)?.cast_signed(),
                MARK => parts.mark = field(&self.0, &mut at)?,
                _ => return None,
            }
        }
        Some(parts)
    }

    /// Whether it says which island's update wrote it. O(1) where it does not.
    #[must_use]
    pub fn is_marked(&self) -> bool {
        self.decode().is_some_and(|parts| !parts.mark.is_empty())
    }

    /// The same record with an empty value and all else kept, as `keys_only` wants it.
    #[must_use]
    pub fn without_value(&self) -> Option<Self> {
        let mut parts = self.decode()?;
        parts.value = Bytes::new();
        Some(Self::encode(&parts))
    }
}

fn put_bytes(out: &mut BytesMut, number: u8, bytes: &[u8]) {
    if !bytes.is_empty() {
        out.put_u8(number << 3 | 2);
        put_varint(out, bytes.len() as u64);
        out.put_slice(bytes);
    }
}

fn put_number(out: &mut BytesMut, number: u8, value: i64) {
    if value != 0 {
        out.put_u8(number << 3);
        put_varint(out, value.cast_unsigned());
    }
}

/// Appends a base-128 varint, 1 to 10 bytes.
pub fn put_varint(out: &mut BytesMut, mut value: u64) {
    while value >= 0x80 {
        out.put_u8(u8::try_from(value & 0x7f).expect("seven bits") | 0x80);
        value >>= 7;
    }
    out.put_u8(u8::try_from(value).expect("seven bits are left"));
}

fn number(bytes: &[u8], at: &mut usize) -> Option<u64> {
    let mut value = 0_u64;
    for shift in 0..10_u32 {
        let byte = *bytes.get(*at)?;
        *at += 1;
        value |= u64::from(byte & 0x7f).checked_shl(7 * shift)?;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

fn field(bytes: &Bytes, at: &mut usize) -> Option<Bytes> {
    let len = usize::try_from(number(bytes, at)?).ok()?;
    let end = at.checked_add(len)?;
    if end > bytes.len() {
        return None;
    }
    let part = bytes.slice(*at..end);
    *at = end;
    Some(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_gives_back_its_parts() {
        let parts = Parts {
            key: Bytes::from_static(b"k"),
            create: 2,
            modified: 300,
            version: 7,
            value: Bytes::from_static(b"value"),
            lease: -1,
            mark: Bytes::from_static(b"1.7"),
        };
        let record = Record::encode(&parts);
        assert_eq!(record.decode(), Some(parts));
        let bare = record.without_value().and_then(|it| it.decode());
        assert_eq!(bare.map(|it| (it.value.len(), it.lease)), Some((0, -1)));
    }

    #[test]
    fn cut_or_foreign_bytes_are_no_record() {
        let parts = Parts {
            key: Bytes::from_static(b"key"),
            ..Parts::default()
        };
        let whole = Record::encode(&parts).bytes().clone();
        for len in 1..whole.len() {
            assert_eq!(Record::from_bytes(whole.slice(..len)).decode(), None);
        }
        assert_eq!(
            Record::from_bytes(Bytes::from_static(b"\xff\xff")).decode(),
            None
        );
    }
}
