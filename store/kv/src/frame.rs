//! The bytes of records and of the frames that they are written in. Little-endian.
//!
//! ```text
//! frame, from a 16-byte border          record, padded with zeros to 16 bytes
//!  0 4 "KVFR"                            0 4 crc32c of 4..end of body
//!  4 4 payload bytes                     4 4 body bytes
//!  8 8 frame number, dense               8 1 kind
//! 16 8 op that is complete after it      9 1 version, 1
//! 24 8 its term                         10 2 0
//! 32 8 revision after it                12 4 sub
//! 40 4 record count                     16 8 main
//! 44 4 flags: 1 continues, 2 copied     24 4 key bytes
//! 48 8 xxh3-64(previous chain,          28 4 0
//!      header 0..48, digest)            32 . body
//! 56 4 digest: crc32c over the
//!      records' checksums
//! 60 4 crc32c of 0..60
//! 64 . records
//! ```
//!
//! | kind | main | body |
//! |--|--|--|
//! | 1 put | its revision | the complete `KeyValue` message, as clients get it |
//! | 2 delete | its revision | a `KeyValue` with key and mod_revision |
//! | 3 fact | 0 | fact kind, id (together the key), value |
//! | 4 fact removed | 0 | fact kind, id |
//! | 7 compacted | the line | nothing |
//!
//! A batch is a run of frames of which only the last lacks `continues`; it counts wholly or
//! not at all. Once a sequencer is heard, a batch is all that a flush takes. The chain makes a frame that is left over from before a crash worthless: it
//! fits only behind the very frames that it was written behind.
//! Copied frames are the cleaner's; they have neither number nor chain.

use bytes::{Bytes, BytesMut};
use xxhash_rust::xxh3::xxh3_64;

use crate::layout::{Bad, i64_at, narrow, set_u32, set_u64, u32_at, u64_at, wide};

pub(crate) const RECORD_HEAD: usize = 32;
pub(crate) const FRAME_HEAD: usize = 64;
/// A frame is closed at the first command that brings it here.
pub(crate) const FRAME_GOAL: u64 = 64 << 10;
/// A frame continues in another before it grows beyond this.
pub(crate) const FRAME_MAX: u64 = 16 << 20;

const MAGIC: &[u8; 4] = b"KVFR";
const RECORD_VERSION: u8 = 1;
const CONTINUES: u32 = 1;
const COPIED: u32 = 2;

/// What a record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RecordKind {
    Put,
    Delete,
    Fact,
    FactRemoved,
    Compacted,
}

impl RecordKind {
    const fn code(self) -> u8 {
        match self {
            Self::Put => 1,
            Self::Delete => 2,
            Self::Fact => 3,
            Self::FactRemoved => 4,
            Self::Compacted => 7,
        }
    }

    const fn of(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::Put),
            2 => Some(Self::Delete),
            3 => Some(Self::Fact),
            4 => Some(Self::FactRemoved),
            7 => Some(Self::Compacted),
            _ => None,
        }
    }
}

/// A record's header, without what follows from the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RecordHead {
    pub(crate) kind: RecordKind,
    pub(crate) main: i64,
    pub(crate) sub: u32,
    pub(crate) key_bytes: u32,
}

/// A record in its place.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    pub(crate) head: RecordHead,
    pub(crate) body: Bytes,
    /// All of it as it is stored.
    pub(crate) raw: Bytes,
    pub(crate) checksum: u32,
}

/// How long a record is with a body of `len` bytes.
pub(crate) const fn record_len(len: usize) -> usize {
    (RECORD_HEAD + len).next_multiple_of(16)
}

/// Appends a record to an empty `block` and splits it off, sharing the block's memory.
pub(crate) fn encode_record(
    block: &mut BytesMut,
    head: RecordHead,
    body: impl FnOnce(&mut BytesMut),
) -> Bytes {
    assert!(block.is_empty(), "what was encoded before was split off");
    block.resize(RECORD_HEAD, 0);
    body(block);
    let end = block.len();
    block.resize(record_len(end - RECORD_HEAD), 0);
    set_u32(block, 4, narrow(end - RECORD_HEAD));
    block[8] = head.kind.code();
    block[9] = RECORD_VERSION;
    set_u32(block, 12, head.sub);
    set_u64(block, 16, head.main.cast_unsigned());
    set_u32(block, 24, head.key_bytes);
    let checksum = crc32c::crc32c(&block[4..end]);
    set_u32(block, 0, checksum);
    block.split().freeze()
}

/// Reads the record that `bytes` begin with and checks it.
pub(crate) fn decode_record(bytes: &Bytes) -> Result<Stored, Bad> {
    if bytes.len() < RECORD_HEAD {
        return Err(Bad("a record is cut off"));
    }
    let body = wide(u32_at(bytes, 4));
    let end = RECORD_HEAD
        .checked_add(body)
        .filter(|end| *end <= bytes.len());
    let end = end.ok_or(Bad("a record is cut off"))?;
    let checksum = u32_at(bytes, 0);
    if crc32c::crc32c(&bytes[4..end]) != checksum {
        return Err(Bad("a record's checksum is wrong"));
    }
    if bytes[9] != RECORD_VERSION {
        return Err(Bad("a record has an unknown version"));
    }
    let key_bytes = u32_at(bytes, 24);
    if wide(key_bytes) > body {
        return Err(Bad("a record's key is longer than the record"));
    }
    Ok(Stored {
        head: RecordHead {
            kind: RecordKind::of(bytes[8]).ok_or(Bad("a record has an unknown kind"))?,
            main: i64_at(bytes, 16),
            sub: u32_at(bytes, 12),
            key_bytes,
        },
        body: bytes.slice(RECORD_HEAD..end),
        raw: bytes.slice(..record_len(body).min(bytes.len())),
        checksum,
    })
}

/// The digest of a frame's records, taken one by one.
pub(crate) fn digest(before: u32, checksum: u32) -> u32 {
    crc32c::crc32c_append(before, &checksum.to_le_bytes())
}

/// A frame's header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct FrameHead {
    pub(crate) payload: u32,
    pub(crate) number: u64,
    pub(crate) op: u64,
    pub(crate) term: u64,
    pub(crate) revision: i64,
    pub(crate) records: u32,
    pub(crate) continues: bool,
    pub(crate) copied: bool,
    pub(crate) digest: u32,
}

impl FrameHead {
    /// The header's bytes behind a frame whose chain was `previous`, and its own chain.
    pub(crate) fn encode(&self, previous: u64) -> ([u8; FRAME_HEAD], u64) {
        let mut bytes = [0; FRAME_HEAD];
        bytes[..4].copy_from_slice(MAGIC);
        set_u32(&mut bytes, 4, self.payload);
        set_u64(&mut bytes, 8, self.number);
        set_u64(&mut bytes, 16, self.op);
        set_u64(&mut bytes, 24, self.term);
        set_u64(&mut bytes, 32, self.revision.cast_unsigned());
        set_u32(&mut bytes, 40, self.records);
        let continues = if self.continues { CONTINUES } else { 0 };
        set_u32(
            &mut bytes,
            44,
            continues | if self.copied { COPIED } else { 0 },
        );
        set_u32(&mut bytes, 56, self.digest);
        let chain = chain(previous, &bytes);
        set_u64(&mut bytes, 48, chain);
        let checksum = crc32c::crc32c(&bytes[..60]);
        set_u32(&mut bytes, 60, checksum);
        (bytes, chain)
    }

    /// Reads a header and checks it. Whether its chain fits is told by [`chain_of`].
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Bad> {
        if bytes.len() < FRAME_HEAD || &bytes[..4] != MAGIC {
            return Err(Bad("there is no frame"));
        }
        if crc32c::crc32c(&bytes[..60]) != u32_at(bytes, 60) {
            return Err(Bad("a frame header's checksum is wrong"));
        }
        let flags = u32_at(bytes, 44);
        Ok(Self {
            payload: u32_at(bytes, 4),
            number: u64_at(bytes, 8),
            op: u64_at(bytes, 16),
            term: u64_at(bytes, 24),
            revision: i64_at(bytes, 32),
            records: u32_at(bytes, 40),
            continues: flags & CONTINUES != 0,
            copied: flags & COPIED != 0,
            digest: u32_at(bytes, 56),
        })
    }
}

/// The chain that a header claims, if it fits behind `previous`.
pub(crate) fn chain_of(bytes: &[u8], previous: u64) -> Option<u64> {
    let claimed = u64_at(bytes, 48);
    (chain(previous, bytes) == claimed).then_some(claimed)
}

fn chain(previous: u64, bytes: &[u8]) -> u64 {
    let mut input = [0; 60];
    set_u64(&mut input, 0, previous);
    input[8..56].copy_from_slice(&bytes[..48]);
    input[56..].copy_from_slice(&bytes[56..60]);
    xxh3_64(&input)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Bytes {
        let head = RecordHead {
            kind: RecordKind::Put,
            main: 9,
            sub: 2,
            key_bytes: 1,
        };
        encode_record(&mut BytesMut::new(), head, |out| {
            out.extend_from_slice(b"body");
        })
    }

    #[test]
    fn a_record_with_any_bit_changed_is_refused() {
        let good = record();
        let stored = decode_record(&good).expect("it was just made");
        assert_eq!((stored.head.main, stored.body.as_ref()), (9, &b"body"[..]));
        for at in 0..36 {
            let mut bytes = good.to_vec();
            bytes[at] ^= 4;
            assert!(decode_record(&Bytes::from(bytes)).is_err(), "byte {at}");
        }
    }

    #[test]
    fn a_frame_header_fits_only_behind_its_own_past() {
        let head = FrameHead {
            number: 4,
            digest: 11,
            ..FrameHead::default()
        };
        let (bytes, chain) = head.encode(77);
        assert_eq!(FrameHead::decode(&bytes), Ok(head));
        assert_eq!(chain_of(&bytes, 77), Some(chain));
        assert_eq!(chain_of(&bytes, 78), None);
        for at in 0..FRAME_HEAD {
            let mut bytes = bytes;
            bytes[at] ^= 1;
            assert!(FrameHead::decode(&bytes).is_err(), "byte {at}");
        }
    }

    /// As if the checksum had matched by chance.
    #[test]
    fn arbitrary_bytes_with_a_right_checksum_never_panic() {
        arbtest::arbtest(|input| {
            let mut bytes: Vec<u8> = input.arbitrary()?;
            bytes.resize(bytes.len().max(FRAME_HEAD), 0);
            let checksum = crc32c::crc32c(&bytes[..60]);
            set_u32(&mut bytes, 60, checksum);
            if let Ok(head) = FrameHead::decode(&bytes) {
                assert_eq!(head.payload, u32_at(&bytes, 4));
            }
            let body = bytes.len() - RECORD_HEAD;
            set_u32(&mut bytes, 4, narrow(body));
            let checksum = crc32c::crc32c(&bytes[4..]);
            set_u32(&mut bytes, 0, checksum);
            if let Ok(stored) = decode_record(&Bytes::from(bytes)) {
                assert_eq!(stored.body.len(), body);
            }
            Ok(())
        })
        .budget_ms(300);
    }
}
