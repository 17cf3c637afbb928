//! What clients ask of a keyspace and hear from it, and what the answers should be.
//!
//! The model is small enough to be copied, and exact in what a client of etcd can see of order,
//! revisions and transactions. Values are marks, unique in a run; how long they are is of no
//! account here.

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

/// What a client asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Call {
    /// Write.
    Put { key: Key, mark: u64 },
    /// Remove, if it is there.
    Delete { key: Key, mark: u64 },
    /// If `key` was made at `expected`, 0 being never, write it and `other`; else read it.
    Txn {
        key: Key,
        other: Key,
        expected: u64,
        mark: u64,
    },
    /// Read all keys from `first` to `last`.
    Range { first: Key, last: Key },
    /// Forget what was before a revision.
    Compact { revision: u64 },
    /// Write a key that goes when a lease does.
    Attach { key: Key, lease: i64, mark: u64 },
    /// Add to a number, in a keyspace of counters.
    Add { key: Key, amount: i32, mark: u64 },
    /// Nobody asks for this: a lease has ended, and its keys with it. Bit `n` of `keys` is key
    /// `first + n`.
    Gone { first: Key, keys: u64, mark: u64 },
}

impl Call {
    /// What makes a write unlike any other of the run.
    pub(crate) const fn mark(&self) -> Option<u64> {
        match self {
            Self::Put { mark, .. }
            | Self::Delete { mark, .. }
            | Self::Txn { mark, .. }
            | Self::Attach { mark, .. }
            | Self::Add { mark, .. }
            | Self::Gone { mark, .. } => Some(*mark),
            Self::Range { .. } | Self::Compact { .. } => None,
        }
    }

    /// The first and the last key that it reads, if it may be answered with what is there.
    pub(crate) const fn reads(&self) -> Option<(Key, Key)> {
        match *self {
            Self::Range { first, last } => Some((first, last)),
            Self::Txn { key, .. } => Some((key, key)),
            Self::Put { .. }
            | Self::Delete { .. }
            | Self::Compact { .. }
            | Self::Attach { .. }
            | Self::Add { .. }
            | Self::Gone { .. } => None,
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

/// What a revision did to one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Touch {
    pub(crate) key: Key,
    /// Which write did it; 0 where a deletion does not say.
    pub(crate) mark: u64,
    pub(crate) is_delete: bool,
}

/// What a revision changed, in the order that watchers are told.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Change {
    pub(crate) revision: u64,
    pub(crate) touches: Vec<Touch>,
}

impl Change {
    /// Which write it was; 0 if it does not say.
    pub(crate) fn mark(&self) -> u64 {
        let marks = self.touches.iter().map(|touch| touch.mark);
        marks.max().unwrap_or(0)
    }

    /// Which keys it wrote, and which it removed.
    pub(crate) fn keys(&self) -> Vec<(Key, bool)> {
        let keys = self.touches.iter();
        let mut keys: Vec<_> = keys.map(|touch| (touch.key, touch.is_delete)).collect();
        keys.sort_unstable();
        keys
    }
}

/// What is there, as a client could see it.
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

    /// Puts a cell there.
    pub(crate) fn set(&mut self, key: Key, cell: Cell) {
        let at = place(key);
        if self.cells.len() <= at {
            self.cells.resize(at + 1, Cell::default());
        }
        self.cells[at] = cell;
    }

    fn write(&mut self, key: Key, mark: u64) {
        let made = if mark == 0 { 0 } else { self.revision };
        self.set(key, Cell { mark, made });
    }

    /// What a call would write or remove.
    fn touched(&self, call: &Call) -> Vec<Touch> {
        let write = |key, mark| Touch {
            key,
            mark,
            is_delete: false,
        };
        let remove = |key, mark| Touch {
            key,
            mark,
            is_delete: true,
        };
        let is_there = |key: &Key| self.cell(*key).mark != 0;
        match *call {
            Call::Put { key, mark }
            | Call::Attach { key, mark, .. }
            | Call::Add { key, mark, .. } => {
                vec![write(key, mark)]
            }
            Call::Delete { key, mark } if is_there(&key) => vec![remove(key, mark)],
            Call::Txn {
                key,
                other,
                expected,
                mark,
            } if self.cell(key).made == expected => vec![write(key, mark), write(other, mark)],
            Call::Gone { first, keys, mark } => {
                let keys = (0..64).filter(|bit| keys >> bit & 1 == 1);
                let keys = keys.map(|bit: u32| first + bit).filter(is_there);
                keys.map(|key| remove(key, mark)).collect()
            }
            Call::Delete { .. } | Call::Txn { .. } | Call::Range { .. } | Call::Compact { .. } => {
                Vec::new()
            }
        }
    }

    /// Carries out a call; says what changed, if anything did.
    pub(crate) fn carry(&mut self, call: &Call) -> Option<Change> {
        let touches = self.touched(call);
        if touches.is_empty() {
            return None;
        }
        self.revision += 1;
        for touch in &touches {
            self.write(touch.key, if touch.is_delete { 0 } else { touch.mark });
        }
        Some(Change {
            revision: self.revision,
            touches,
        })
    }

    /// Answers what changes nothing.
    pub(crate) fn read(&self, call: &Call) -> Reply {
        let revision = self.revision;
        let Some((first, last)) = call.reads() else {
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
pub(crate) const FIRST: u64 = 1;

/// A keyspace as the judges know it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Keyspace;

impl Model for Keyspace {
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
        if state.touched(call).is_empty() {
            state.read(call)
        } else {
            Reply::Wrote {
                revision: state.revision + 1,
            }
        }
    }
}

impl Numbered for Keyspace {
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

    fn filled() -> State {
        let mut state = State::new();
        for mark in 1..=9 {
            let key = u32::try_from(mark % 4).unwrap();
            state.carry(&match mark % 3 {
                0 => Call::Delete { key, mark },
                1 => Call::Put { key, mark },
                _ => Call::Txn {
                    key,
                    other: 7,
                    expected: state.cell(key).made,
                    mark,
                },
            });
        }
        state
    }

    #[test]
    fn peeking_answers_as_carrying_out_does() {
        let (state, mark) = (filled(), 90);
        for (key, expected) in (0..4).flat_map(|key| (0..4).map(move |made| (key, made))) {
            let txn = Call::Txn {
                key,
                other: 5,
                expected,
                mark,
            };
            let (range, compact) = (
                Call::Range {
                    first: 0,
                    last: key,
                },
                Call::Compact { revision: 2 },
            );
            let gone = Call::Gone {
                first: key,
                keys: 0b1001,
                mark,
            };
            for call in [
                Call::Put { key, mark },
                Call::Delete { key, mark },
                txn,
                range,
                compact,
                gone,
            ] {
                let mut copy = state.clone();
                let carried = Keyspace.apply(&mut copy, &call);
                assert_eq!(Keyspace.peek(&state, &call), carried, "{call:?}");
            }
        }
    }

    #[test]
    fn a_transaction_writes_both_keys_or_reads_the_first() {
        let mut state = State::new();
        let txn = |expected| Call::Txn {
            key: 1,
            other: 2,
            expected,
            mark: 8,
        };
        assert_eq!(state.carry(&txn(5)), None);
        let cells = Vec::new();
        let nothing = Reply::Found { revision: 1, cells };
        assert_eq!(state.read(&txn(5)), nothing);
        let change = state.carry(&txn(0)).expect("neither key was ever made");
        assert_eq!(
            (change.revision, change.keys()),
            (2, vec![(1, false), (2, false)])
        );
        let cell = Cell { mark: 8, made: 2 };
        assert_eq!([state.cell(1), state.cell(2)], [cell; 2]);
    }

    #[test]
    fn a_lease_takes_its_keys_along_in_one_revision() {
        let mut state = State::new();
        for (key, mark) in [(10, 1), (12, 2)] {
            state.carry(&Call::Attach {
                key,
                lease: 7,
                mark,
            });
        }
        let gone = Call::Gone {
            first: 10,
            keys: 0b111,
            mark: 3,
        };
        let change = state.carry(&gone).expect("there were two keys");
        assert_eq!(
            (change.revision, change.keys()),
            (4, vec![(10, true), (12, true)])
        );
        assert_eq!(state.carry(&gone), None);
    }
}
