//! The application of a rehearsal: a table of numbered keys, with etcd's revisions.
//!
//! It stands in for the engine: small enough to be copied at every checkpoint, and exact in
//! what a client can see. Values are marks, unique in a run; how long they would be is carried
//! as a number, so that links and disks are charged and memory is not.

use std::collections::VecDeque;

use bytes::{BufMut, Bytes, BytesMut};
use holm_check::{Model, Numbered};

/// A key.
pub(crate) type Key = u32;

/// What a key holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Cell {
    /// Which write made it; 0 if there is nothing.
    pub(crate) mark: u64,
    /// The revision of that write.
    pub(crate) made: u64,
}

/// What a client asks of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Call {
    /// Write.
    Put { key: Key, mark: u64 },
    /// Remove, if it is there.
    Delete { key: Key, mark: u64 },
    /// If `key` was made at `expected`, write it and `other`.
    Txn {
        key: Key,
        other: Key,
        expected: u64,
        mark: u64,
    },
    /// Read all keys from `first` to `last`.
    Range { first: Key, last: Key },
}

impl Call {
    /// What makes a write unlike any other of the run.
    pub(crate) const fn mark(&self) -> Option<u64> {
        match self {
            Self::Put { mark, .. } | Self::Delete { mark, .. } | Self::Txn { mark, .. } => {
                Some(*mark)
            }
            Self::Range { .. } => None,
        }
    }
}

/// What it answers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Reply {
    /// It changed something, at this revision.
    Wrote { revision: u64 },
    /// It changed nothing.
    Unchanged { revision: u64 },
    /// What was there.
    Found {
        revision: u64,
        cells: Vec<(Key, Cell)>,
    },
}

impl Reply {
    pub(crate) const fn revision(&self) -> u64 {
        match self {
            Self::Wrote { revision }
            | Self::Unchanged { revision }
            | Self::Found { revision, .. } => *revision,
        }
    }
}

/// What a revision changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Change {
    pub(crate) revision: u64,
    pub(crate) mark: u64,
    pub(crate) key: Key,
    /// A transaction's second key.
    pub(crate) other: Option<Key>,
    pub(crate) is_delete: bool,
}

/// The table's state as a client could see it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct State {
    pub(crate) revision: u64,
    pub(crate) cells: Vec<Cell>,
}

impl State {
    pub(crate) const fn new() -> Self {
        Self {
            revision: FIRST,
            cells: Vec::new(),
        }
    }

    pub(crate) fn cell(&self, key: Key) -> Cell {
        self.cells.get(place(key)).copied().unwrap_or_default()
    }

    fn write(&mut self, key: Key, mark: u64) {
        let at = place(key);
        if self.cells.len() <= at {
            self.cells.resize(at + 1, Cell::default());
        }
        let made = self.revision;
        self.cells[at] = if mark == 0 {
            Cell::default()
        } else {
            Cell { mark, made }
        };
    }

    /// Carries out a call; says what changed, if anything did.
    pub(crate) fn carry(&mut self, call: &Call) -> Option<Change> {
        let (key, mark) = match *call {
            Call::Range { .. } => return None,
            Call::Delete { key, .. } if self.cell(key).mark == 0 => return None,
            Call::Txn { key, expected, .. } if self.cell(key).made != expected => return None,
            Call::Put { key, mark } | Call::Delete { key, mark } | Call::Txn { key, mark, .. } => {
                (key, mark)
            }
        };
        self.revision += 1;
        let is_delete = matches!(call, Call::Delete { .. });
        self.write(key, if is_delete { 0 } else { mark });
        let other = match *call {
            Call::Txn { other, .. } => {
                self.write(other, mark);
                Some(other)
            }
            Call::Put { .. } | Call::Delete { .. } | Call::Range { .. } => None,
        };
        Some(Change {
            revision: self.revision,
            mark,
            key,
            other,
            is_delete,
        })
    }

    /// Answers a read.
    pub(crate) fn read(&self, call: &Call) -> Reply {
        let revision = self.revision;
        let Call::Range { first, last } = *call else {
            return Reply::Unchanged { revision };
        };
        let there = |key: &Key| self.cell(*key).mark != 0;
        let cells = (first..=last).filter(there);
        Reply::Found {
            revision,
            cells: cells.map(|key| (key, self.cell(key))).collect(),
        }
    }
}

fn place(key: Key) -> usize {
    usize::try_from(key).expect("keys are few")
}

/// The revision before the first write, as etcd has it.
const FIRST: u64 = 1;

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
        self.history.push_back(change);
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
        self.history.iter().skip(behind).copied()
    }

    /// All of it as bytes.
    ///
    /// ```text
    ///   revision u64 | cells u32 x {mark u64, made u64} | changes u32 x {change}
    ///   change: revision u64, mark u64, key u32, other u32, flags u8: 1 other, 2 delete
    /// ```
    pub(crate) fn encode(&self) -> Bytes {
        let room = 16 + self.state.cells.len() * 16 + self.history.len() * 25;
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
            bytes.put_u64_le(change.mark);
            bytes.put_u32_le(change.key);
            bytes.put_u32_le(change.other.unwrap_or(0));
            bytes.put_u8(u8::from(change.other.is_some()) + 2 * u8::from(change.is_delete));
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
            let (revision, mark) = (reader.u64()?, reader.u64()?);
            let (key, other, flags) = (reader.u32()?, reader.u32()?, reader.u8()?);
            history.push_back(Change {
                revision,
                mark,
                key,
                other: (flags & 1 != 0).then_some(other),
                is_delete: flags & 2 != 0,
            });
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

/// The table as the judges know it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TableModel;

impl Model for TableModel {
    type Call = Call;
    type Reply = Reply;
    type State = State;

    fn start(&self) -> State {
        State::new()
    }

    fn apply(&self, state: &mut State, call: &Call) -> Reply {
        match state.carry(call) {
            Some(change) => Reply::Wrote {
                revision: change.revision,
            },
            None => state.read(call),
        }
    }

    fn peek(&self, state: &State, call: &Call) -> Reply {
        match call {
            Call::Range { .. } => state.read(call),
            Call::Put { .. } | Call::Delete { .. } | Call::Txn { .. } => {
                // What it changes is one cell or two: a copy of those is enough.
                let keys = match *call {
                    Call::Put { key, .. } | Call::Delete { key, .. } => (key, key),
                    Call::Txn { key, other, .. } => (key, other),
                    Call::Range { first, last } => (first, last),
                };
                let is_void = match *call {
                    Call::Delete { .. } => state.cell(keys.0).mark == 0,
                    Call::Txn { expected, .. } => state.cell(keys.0).made != expected,
                    Call::Put { .. } | Call::Range { .. } => false,
                };
                if is_void {
                    state.read(call)
                } else {
                    Reply::Wrote {
                        revision: state.revision + 1,
                    }
                }
            }
        }
    }
}

impl Numbered for TableModel {
    const FIRST: u64 = FIRST;

    fn mark(&self, call: &Call) -> Option<u64> {
        call.mark()
    }

    fn revision(&self, reply: &Reply) -> Option<u64> {
        Some(reply.revision())
    }

    fn wrote(&self, _: &Call, reply: &Reply) -> bool {
        matches!(reply, Reply::Wrote { .. })
    }
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

    #[test]
    fn peeking_answers_as_carrying_out_does() {
        let table = filled();
        for key in 0..4 {
            for expected in 0..4 {
                for call in [
                    Call::Put { key, mark: 90 },
                    Call::Delete { key, mark: 90 },
                    Call::Txn {
                        key,
                        other: 5,
                        expected,
                        mark: 90,
                    },
                    Call::Range {
                        first: 0,
                        last: key,
                    },
                ] {
                    let mut copy = table.state.clone();
                    let carried = TableModel.apply(&mut copy, &call);
                    assert_eq!(TableModel.peek(&table.state, &call), carried);
                }
            }
        }
    }

    #[test]
    fn a_transaction_writes_both_keys_or_none() {
        let mut table = Table::new();
        let txn = |expected| Call::Txn {
            key: 1,
            other: 2,
            expected,
            mark: 8,
        };
        assert_eq!(table.apply(&txn(5)).0, Reply::Unchanged { revision: 1 });
        assert_eq!(table.apply(&txn(0)).0, Reply::Wrote { revision: 2 });
        let cell = Cell { mark: 8, made: 2 };
        assert_eq!([table.state.cell(1), table.state.cell(2)], [cell; 2]);
        assert_eq!(table.first_kept(), 2);
    }
}
