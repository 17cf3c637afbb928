//! The bytes of a chunk: see the layout in `snapshot`.

use bytes::{BufMut, Bytes, BytesMut};
use sha2::{Digest, Sha256};

use super::ChunkId;
use crate::layout::{Bad, count, i64_at, narrow, u32_at, u64_at, wide};
use crate::root::{Change, ChangeKind};

const MAGIC: &[u8; 8] = b"HOLMKVS1";
const VERSION: u16 = 1;
const HEAD: usize = 16;
const ITEM_HEAD: usize = 24;

const PUT: u8 = 1;
const DELETE: u8 = 2;
const FACT: u8 = 3;
const END: u8 = 4;
/// A delete with a mark, which only islands have: its whole record.
const ERASED: u8 = 5;

/// A chunk that is nearly full ends behind an item whose checksum has these bits clear, one of
/// 128: so two streams that differ in one place agree again soon.
const BORDER: u32 = 0x7f;

/// The name of a chunk with these bytes.
pub(super) fn name(bytes: &[u8]) -> ChunkId {
    Sha256::digest(bytes).into()
}

/// What the last chunk ends with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct End {
    pub(super) revision: i64,
    pub(super) compacted: i64,
    pub(super) applied: u64,
    pub(super) term: u64,
}

/// One piece of a state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Item {
    Put { main: i64, sub: u32, record: Bytes },
    Delete { main: i64, sub: u32, key: Bytes },
    Erased { main: i64, sub: u32, record: Bytes },
    Fact { key: Bytes, value: Bytes },
    End(End),
}

/// Takes items until the chunk is full.
#[derive(Debug)]
pub(super) struct Writer {
    out: BytesMut,
    goal: usize,
    is_border: bool,
}

impl Writer {
    pub(super) fn new(goal: usize) -> Self {
        let mut out = BytesMut::with_capacity(goal.min(64 << 10));
        out.put_slice(MAGIC);
        out.put_u16_le(VERSION);
        out.put_bytes(0, HEAD - MAGIC.len() - 2);
        Self {
            out,
            goal,
            is_border: false,
        }
    }

    /// Whether the next item belongs to the next chunk. Depends on nothing but what this one
    /// holds, so that the same items end in the same chunks.
    pub(super) fn is_full(&self) -> bool {
        let len = self.out.len();
        len >= self.goal || (self.is_border && len >= self.goal / 8 * 7)
    }

    fn item(&mut self, kind: u8, (main, sub): (i64, u32), body: &[&[u8]]) {
        let len = body.iter().map(|part| part.len()).sum();
        self.out.reserve(ITEM_HEAD + len);
        self.out.put_u8(kind);
        self.out.put_bytes(0, 3);
        self.out.put_u32_le(sub);
        self.out.put_u32_le(narrow(len));
        self.out.put_u32_le(0);
        self.out.put_i64_le(main);
        let mut sum = 0;
        for part in body {
            self.out.put_slice(part);
            sum = crc32c::crc32c_append(sum, part);
        }
        self.is_border = sum & BORDER == 0;
    }

    pub(super) fn change(&mut self, change: &Change) {
        let at = (change.main.value(), change.sub);
        match change.kind {
            ChangeKind::Put => self.item(PUT, at, &[change.record.bytes()]),
            ChangeKind::Delete if change.record.is_marked() => {
                self.item(ERASED, at, &[change.record.bytes()]);
            }
            ChangeKind::Delete => self.item(DELETE, at, &[&change.key]),
        }
    }

    pub(super) fn fact(&mut self, key: &[u8], value: &[u8]) {
        let key_bytes = i64::from(narrow(key.len()));
        self.item(FACT, (key_bytes, 0), &[key, value]);
    }

    pub(super) fn end(&mut self, end: &End) {
        let parts = [
            end.compacted.to_le_bytes(),
            end.applied.to_le_bytes(),
            end.term.to_le_bytes(),
        ];
        let parts = [&parts[0][..], &parts[1][..], &parts[2][..]];
        self.item(END, (end.revision, 0), &parts);
    }

    pub(super) fn finish(self) -> Bytes {
        self.out.freeze()
    }
}

/// Reads a chunk's items, whatever its bytes are.
pub(super) fn items(chunk: &Bytes) -> Result<Vec<Item>, Bad> {
    if chunk.len() < HEAD || &chunk[..8] != MAGIC {
        return Err(Bad("it is no chunk of a snapshot"));
    }
    if u16::from_le_bytes([chunk[8], chunk[9]]) != VERSION {
        return Err(Bad("it is a chunk of another version"));
    }
    let (mut at, mut items) = (HEAD, Vec::new());
    while at < chunk.len() {
        if chunk.len() - at < ITEM_HEAD {
            return Err(Bad("an item is cut off"));
        }
        let head = &chunk[at..at + ITEM_HEAD];
        let (sub, len, main) = (u32_at(head, 4), wide(u32_at(head, 8)), i64_at(head, 16));
        let start = at + ITEM_HEAD;
        if len > chunk.len() - start {
            return Err(Bad("an item is cut off"));
        }
        items.push(item(head[0], (main, sub), chunk.slice(start..start + len))?);
        at = start + len;
    }
    Ok(items)
}

fn item(kind: u8, (main, sub): (i64, u32), body: Bytes) -> Result<Item, Bad> {
    match kind {
        PUT => {
            let record = body;
            Ok(Item::Put { main, sub, record })
        }
        DELETE => Ok(Item::Delete {
            main,
            sub,
            key: body,
        }),
        ERASED => {
            let record = body;
            Ok(Item::Erased { main, sub, record })
        }
        FACT => match usize::try_from(main) {
            Ok(key) if key > 0 && key <= body.len() => Ok(Item::Fact {
                key: body.slice(..key),
                value: body.slice(key..),
            }),
            Ok(_) | Err(_) => Err(Bad("a fact's key is longer than the fact")),
        },
        END if count(body.len()) == 24 => Ok(Item::End(End {
            revision: main,
            compacted: i64_at(&body, 0),
            applied: u64_at(&body, 8),
            term: u64_at(&body, 16),
        })),
        _ => Err(Bad("an item is of an unknown kind")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arbitrary_bytes_are_refused_or_read_but_never_panic() {
        arbtest::arbtest(|input| {
            let mut out = Writer::new(1 << 10);
            out.fact(b"\x01key", b"value");
            let mut bytes = BytesMut::from(&out.finish()[..]);
            let more: &[u8] = input.arbitrary()?;
            bytes.extend_from_slice(more);
            if !more.is_empty() {
                let at = input.choose_index(bytes.len())?;
                bytes[at] ^= input.arbitrary::<u8>()?;
            }
            if let Ok(items) = items(&bytes.freeze()) {
                assert!(!items.is_empty());
            }
            Ok(())
        })
        .budget_ms(300);
    }

    #[test]
    fn what_is_written_is_read() {
        let mut out = Writer::new(1 << 10);
        let end = End {
            revision: 7,
            compacted: 3,
            applied: 9,
            term: 2,
        };
        out.fact(b"\x02", b"");
        out.end(&end);
        let fact = Item::Fact {
            key: Bytes::from_static(b"\x02"),
            value: Bytes::new(),
        };
        assert_eq!(items(&out.finish()), Ok(vec![fact, Item::End(end)]));
    }
}
