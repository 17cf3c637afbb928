//! Why a row has no value: such a row is diverted, and everything else goes on.

use std::collections::BTreeMap;

use thiserror::Error;

/// What is wrong with one row.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Fault {
    /// A number is beyond its type.
    #[error("{what} does not fit {kind}")]
    Overflow {
        /// The operation or the value.
        what: String,
        /// The type.
        kind: String,
    },
    /// A division by zero.
    #[error("division by zero")]
    DivisionByZero,
    /// Text that is no value of a type.
    #[error("{text:?} is not {kind}")]
    NoValue {
        /// The text, cut if it is long.
        text: String,
        /// The type.
        kind: String,
    },
    /// A function has no value there.
    #[error("{function} of {argument} has no value")]
    Undefined {
        /// The function.
        function: &'static str,
        /// Its argument.
        argument: String,
    },
    /// More groups than the limit.
    #[error("a new key beyond the limit of {limit}")]
    Keys {
        /// The limit.
        limit: usize,
    },
    /// More open panes than the limit.
    #[error("its pane would be one more than the limit of {limit} open ones")]
    Panes {
        /// The limit.
        limit: usize,
    },
    /// A NULL where none may be.
    #[error("NULL where a value must be")]
    Null,
}

impl Fault {
    /// Text that is no value of a kind.
    #[must_use]
    pub fn no_value(text: &str, kind: impl ToString) -> Self {
        Self::NoValue {
            text: shown(text),
            kind: kind.to_string(),
        }
    }

    /// A function of text that has no value there.
    pub(crate) fn undefined(function: &'static str, text: &str) -> Self {
        Self::Undefined {
            function,
            argument: shown(text),
        }
    }

    /// A result that is beyond a kind.
    #[must_use]
    pub fn overflow(what: impl ToString, kind: impl ToString) -> Self {
        Self::Overflow {
            what: what.to_string(),
            kind: kind.to_string(),
        }
    }
}

/// Text, cut if it is long.
fn shown(text: &str) -> String {
    const SHOWN: usize = 40;
    let mut shown: String = text.chars().take(SHOWN).collect();
    if shown.len() < text.len() {
        shown.push_str("...");
    }
    shown
}

/// The first fault of each row that has one.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    rows: BTreeMap<usize, Fault>,
}

impl Faults {
    /// Notes a fault, unless the row has one already.
    pub fn note(&mut self, row: usize, fault: Fault) {
        self.rows.entry(row).or_insert(fault);
    }

    /// Whether no row has one.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Whether a row has one.
    #[must_use]
    pub fn has(&self, row: usize) -> bool {
        self.rows.contains_key(&row)
    }

    /// The rows in order.
    pub fn iter(&self) -> impl Iterator<Item = (usize, &Fault)> {
        self.rows.iter().map(|(row, fault)| (*row, fault))
    }

    /// Forgets what rows that are not wanted did.
    pub fn retain(&mut self, mut wanted: impl FnMut(usize) -> bool) {
        self.rows.retain(|row, _| wanted(*row));
    }
}
