//! The stand-in for the engine, where a scenario asks for it: a table of numbered keys, with
//! etcd's revisions.
//!
//! It is a tenth of the work, and Raft's snapshots are rehearsed with it. How long values would
//! be is carried as a number, so that links are charged and memory is not.

use std::collections::VecDeque;

use bytes::{BufMut, Bytes, BytesMut};

use crate::calls::{Call, Cell, Change, Reply, State, Touch};

/// How many changes a table keeps for watchers that come back.
const HISTORY_MAX: usize = 4_096;

/// The table of one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Table {
    pub(crate) state: State,
    /// The newest changes, oldest first.
    history: VecDeque<Change>,
}

impl Table {
    pub(crate) const fn new() -> Self {
        Self {
            state: State::new(),
            history: VecDeque::new(),
        }
    }

    /// Carries out a write.
    pub(crate) fn apply(&mut self, call: &Call) -> (Reply, Option<Change>) {
        let change = self.state.carry(call);
        let revision = self.state.revision;
        let Some(change) = change else {
            return (self.state.read(call), None);
        };
        if self.history.len() == HISTORY_MAX {
            self.history.pop_front();
        }
        self.history.push_back(change.clone());
        (Reply::Wrote { revision }, Some(change))
    }

    /// The first revision whose change is still known.
    pub(crate) fn first_kept(&self) -> u64 {
        let first = self.history.front().map(|change| change.revision);
        first.unwrap_or(self.state.revision + 1)
    }

    /// The changes from a revision on, oldest first.
    pub(crate) fn changes(&self, from: u64) -> impl Iterator<Item = Change> + '_ {
        let behind = self.history.partition_point(|one| one.revision < from);
        self.history.iter().skip(behind).cloned()
    }

    /// All of it as bytes.
    ///
    /// ```text
    ///   revision u64 | cells u32 x {mark u64, made u64} | changes u32 x {change}
    ///   change: revision u64, touches u32 x {key u32, mark u64, is_delete u8}
    /// ```
    pub(crate) fn encode(&self) -> Bytes {
        let room = 16 + self.state.cells.len() * 16 + self.history.len() * 38;
        let mut bytes = BytesMut::with_capacity(room);
        bytes.put_u64_le(self.state.revision);
        bytes.put_u32_le(count(self.state.cells.len()));
        for cell in &self.state.cells {
            bytes.put_u64_le(cell.mark);
            bytes.put_u64_le(cell.made);
        }
        bytes.put_u32_le(count(self.history.len()));
        for change in &self.history {
            bytes.put_u64_le(change.revision);
            bytes.put_u32_le(count(change.touches.len()));
            for touch in &change.touches {
                bytes.put_u32_le(touch.key);
                bytes.put_u64_le(touch.mark);
                bytes.put_u8(u8::from(touch.is_delete));
            }
        }
        bytes.freeze()
    }

    /// What [`Table::encode`] made; `None` for anything else.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader { bytes };
        let revision = reader.u64()?;
        let mut cells = Vec::new();
        for _ in 0..reader.u32()? {
            let (mark, made) = (reader.u64()?, reader.u64()?);
            cells.push(Cell { mark, made });
        }
        let mut history = VecDeque::new();
        for _ in 0..reader.u32()? {
            let revision = reader.u64()?;
            let mut touches = Vec::new();
            for _ in 0..reader.u32()? {
                touches.push(Touch {
                    key: reader.u32()?,
                    mark: reader.u64()?,
                    is_delete: reader.u8()? != 0,
                });
            }
            history.push_back(Change { revision, touches });
        }
        let state = State { revision, cells };
        reader.bytes.is_empty().then_some(Self { state, history })
    }
}

fn count(len: usize) -> u32 {
    u32::try_from(len).expect("tables are small")
}

struct Reader<'a> {
    bytes: &'a [u8],
}

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.bytes.split_first_chunk()?;
        self.bytes = rest;
        Some(*head)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take().map(|[byte]| byte)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }
}

/// A call as the body of a command, and how many bytes its value would add to that.
///
/// ```text
///   kind u8 | padding u32 | key u32 | other u32 | expected u64 | mark u64
/// ```
pub(crate) fn encode_call(call: &Call, padding: u32) -> Bytes {
    let (kind, key, other, expected, mark) = match *call {
        Call::Put { key, mark } => (0, key, 0, 0, mark),
        Call::Delete { key, mark } => (1, key, 0, 0, mark),
        Call::Txn {
            key,
            other,
            expected,
            mark,
        } => (2, key, other, expected, mark),
        Call::Range { first, last } => (3, first, last, 0, 0),
        Call::Compact { .. } | Call::Attach { .. } | Call::Add { .. } | Call::Gone { .. } => {
            unreachable!("a scenario that asks a table for {call:?} was refused")
        }
    };
    let mut bytes = [0; BODY];
    let mut rest = &mut bytes[..];
    rest.put_u8(kind);
    rest.put_u32_le(padding);
    rest.put_u32_le(key);
    rest.put_u32_le(other);
    rest.put_u64_le(expected);
    rest.put_u64_le(mark);
    Bytes::copy_from_slice(&bytes)
}

const BODY: usize = 29;

/// What [`encode_call`] made.
pub(crate) fn decode_call(bytes: &[u8]) -> Option<Call> {
    let mut reader = Reader { bytes };
    let (kind, _padding) = (reader.u8()?, reader.u32()?);
    let (key, other) = (reader.u32()?, reader.u32()?);
    let (expected, mark) = (reader.u64()?, reader.u64()?);
    match kind {
        0 => Some(Call::Put { key, mark }),
        1 => Some(Call::Delete { key, mark }),
        2 => Some(Call::Txn {
            key,
            other,
            expected,
            mark,
        }),
        3 => Some(Call::Range {
            first: key,
            last: other,
        }),
        _ => None,
    }
}

/// How long a body would be with its value.
pub(crate) fn body_size(bytes: &[u8]) -> u64 {
    let padding = bytes.get(1..5).and_then(|four| four.first_chunk().copied());
    let padding = padding.map_or(0, u32::from_le_bytes);
    u64::from(padding) + u64::try_from(bytes.len()).expect("bodies are small")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled() -> Table {
        let mut table = Table::new();
        for mark in 1..=9 {
            let key = u32::try_from(mark % 4).unwrap();
            let call = match mark % 3 {
                0 => Call::Delete { key, mark },
                1 => Call::Put { key, mark },
                _ => Call::Txn {
                    key,
                    other: 7,
                    expected: table.state.cell(key).made,
                    mark,
                },
            };
            table.apply(&call);
        }
        table
    }

    #[test]
    fn tables_and_calls_survive_their_bytes() {
        let table = filled();
        assert_eq!(Table::decode(&table.encode()), Some(table.clone()));
        assert_eq!(Table::decode(&table.encode()[1..]), None);
        let call = Call::Txn {
            key: 1,
            other: 2,
            expected: 3,
            mark: 4,
        };
        let body = encode_call(&call, 256);
        assert_eq!(decode_call(&body), Some(call));
        assert_eq!(body_size(&body), 256 + 29);
    }
}
