//! The types of value that a keyspace can have: what concurrent writes of a key become.

use alloc::string::{String, ToString};
use core::fmt;

use bytes::Bytes;

use crate::document;
use crate::schema::Schema;
use crate::state::State;
use crate::update::Change;
use crate::wire::Mark;

/// What the values of a keyspace are. Fixed when the keyspace is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Type {
    /// One of concurrent writes is shown, that of the latest time.
    #[default]
    Lww,
    /// Likewise, and readers are told how many stand beside it.
    Mv,
    /// A key is a member of a set; concurrent writes are no conflict.
    Set,
    /// Numbers: concurrent additions all count.
    Counter,
    /// Documents: concurrent changes of different parts all count.
    Json,
}

impl Type {
    /// All of them, by number.
    pub const ALL: [Self; 5] = [Self::Lww, Self::Mv, Self::Set, Self::Counter, Self::Json];

    /// Its name, as a user writes it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Lww => "lww",
            Self::Mv => "mv",
            Self::Set => "set",
            Self::Counter => "counter",
            Self::Json => "json",
        }
    }

    /// The type of a name; none if there is none.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.name() == name)
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.name().fmt(f)
    }
}

/// Whether a key of which one site writes and another deletes exists.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Exists {
    /// The write stays.
    #[default]
    AddWins,
    /// The delete wins.
    DeleteWins,
}

/// Why a value cannot be put.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// A counter takes numbers only.
    #[error("a counter takes a whole number of 64 bits, or +n or -n to add to it")]
    Number,
    /// An addition hangs on no lease.
    #[error("an addition to a counter cannot have a lease")]
    Lease,
    /// A document is text.
    #[error("a document must be UTF-8")]
    Utf8,
    /// It is no JSON.
    #[error("a document must be JSON: it is not at byte {at}")]
    Syntax {
        /// Where.
        at: usize,
    },
    /// A field stands in an object twice.
    #[error("a document's object has field {name:?} twice")]
    Twice {
        /// Its name.
        name: String,
    },
    /// It is too long.
    #[error("a document has at most 1 MiB")]
    Length,
    /// It is too deep.
    #[error("a document is at most 64 deep")]
    Depth,
    /// It has too many parts.
    #[error("a document has at most 10000 paths")]
    Paths,
    /// An item of a set has parts.
    #[error("the items of a list of type set are text, numbers, true, false or null")]
    Member,
    /// An item has nothing that tells it apart.
    #[error("each item of a list of type map is an object with one of its key fields")]
    Keys,
    /// Two items are the same.
    #[error("a list that merges has {name} twice")]
    Item {
        /// What tells them apart.
        name: String,
    },
    /// A schema says what is not known.
    #[error("the schema says {found:?}, which is not known")]
    Schema {
        /// What it says.
        found: String,
    },
}

/// What a key shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// The newest write that it is made of.
    pub mark: Mark,
    /// The lease that it is attached to, of the site of the write that brought it; 0 for none.
    pub lease: i64,
    /// The value.
    pub value: Bytes,
}

/// How the keys of a keyspace behave. Fixed when the keyspace is made, but for the schema.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// What the values are.
    pub kind: Type,
    /// Who wins, a write or a delete.
    pub exists: Exists,
    /// Which parts of documents merge.
    pub schema: Schema,
}

impl Rules {
    /// What a client's put changes, at a site that has this state of the key.
    ///
    /// # Errors
    ///
    /// If the value does not fit the type; the reason is for the client.
    pub fn put(
        &self,
        state: &State,
        (key, lease, value): (Bytes, i64, Bytes),
    ) -> Result<Change, Unfit> {
        match self.kind {
            Type::Lww | Type::Mv | Type::Set => Ok(Change::Put { key, lease, value }),
            Type::Counter => counter(key, lease, &value),
            Type::Json => document::put(state, &self.schema, (key, lease, value)),
        }
    }

    /// What a client's delete of a key changes. Where deletes win, a range is its keys.
    #[must_use]
    pub const fn delete(&self, key: Bytes) -> Change {
        match self.exists {
            Exists::AddWins => Change::Delete { key },
            Exists::DeleteWins => Change::Erase { key },
        }
    }
}

impl Type {
    /// What a key of that state shows; nothing if it does not exist.
    #[must_use]
    pub fn shown(self, state: &State) -> Option<Shown> {
        let mark = state.newest()?;
        let (value, lease) = match self {
            Self::Lww | Self::Mv | Self::Set => {
                let shown = state.shown()?;
                (shown.value.clone(), shown.lease)
            }
            Self::Counter => {
                let base = state.shown();
                let number = base.map_or(0, |it| number(&it.value).unwrap_or(0));
                let total = i128::from(number) + state.additions().total();
                let lease = base.map_or(0, |it| it.lease);
                (Bytes::from(total.to_string()), lease)
            }
            Self::Json => document::shown(state)?,
        };
        Some(Shown { mark, lease, value })
    }
}

/// `+n` and `-n` add, a bare number is a base.
fn counter(key: Bytes, lease: i64, value: &Bytes) -> Result<Change, Unfit> {
    let is_addition = matches!(value.first(), Some(b'+' | b'-'));
    let amount = number(value).ok_or(Unfit::Number)?;
    if !is_addition {
        let value = Bytes::from(amount.to_string());
        return Ok(Change::Put { key, lease, value });
    }
    if lease != 0 {
        return Err(Unfit::Lease);
    }
    Ok(Change::Add { key, amount })
}

/// A sign or none, and 1 to 19 digits.
fn number(value: &[u8]) -> Option<i64> {
    core::str::from_utf8(value).ok()?.parse().ok()
}
