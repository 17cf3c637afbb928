//! The types of value that a keyspace can have: what concurrent writes of a key become.

use core::fmt;

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
