//! Why a scenario is refused: file, line, what is wrong, and what to do.

use std::fmt;

/// Why a scenario is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Refusal {
    /// The file, as the caller named it.
    pub file: String,
    /// The line, from 1; 0 for what was set on the command line.
    pub line: usize,
    /// What is wrong, and what to do.
    pub what: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, line, what } = self;
        if *line == 0 {
            write!(f, "{file}, --set: {what}")
        } else {
            write!(f, "{file}:{line}: {what}")
        }
    }
}
