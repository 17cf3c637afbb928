//! What a judge says.

use std::fmt;

/// A broken promise. Judge and rule are its identity; the words say where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{judge}: {rule}: {place}")]
pub struct Violation {
    /// Who found it.
    pub judge: &'static str,
    /// What is demanded.
    pub rule: &'static str,
    /// Where it was not so.
    pub place: String,
}

impl Violation {
    pub(crate) fn new(judge: &'static str, rule: &'static str, place: impl fmt::Display) -> Self {
        Self {
            judge,
            rule,
            place: place.to_string(),
        }
    }
}

/// What a judge with a limit says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The promise was kept.
    Kept,
    /// It was broken.
    Broken(Violation),
    /// The limit came first: neither is known.
    Undecided {
        /// How many states were looked at.
        states: usize,
    },
}
