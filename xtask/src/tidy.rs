//! The rules of the tree that a program can hold: each a function from a tree to complaints.
//!
//! A rule never stops at its first complaint, for a person who mends one wants to see all.

mod clippy_copies;
mod crate_table;
mod documents;
mod forbidden;
mod headers;
mod invariants;
mod lengths;
mod walls;

use std::fmt;

use anyhow::Result;

use crate::tally::Counts;
use crate::tree::{Tree, root};

/// Something that breaks a rule: where, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Complaint {
    path: String,
    line: Option<usize>,
    text: String,
}

impl Complaint {
    fn at(path: &str, text: impl Into<String>) -> Self {
        Self {
            path: path.to_owned(),
            line: None,
            text: text.into(),
        }
    }

    /// `index` counts from zero, as enumerated lines do.
    fn on(path: &str, index: usize, text: impl Into<String>) -> Self {
        Self {
            path: path.to_owned(),
            line: Some(index + 1),
            text: text.into(),
        }
    }
}

impl fmt::Display for Complaint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(formatter, "{}:{line}: {}", self.path, self.text),
            None => write!(formatter, "{}: {}", self.path, self.text),
        }
    }
}

type Rule = fn(&Tree) -> Result<Vec<Complaint>>;

const RULES: &[(&str, Rule)] = &[
    ("walls", walls::check),
    ("headers", headers::check),
    ("lengths", lengths::check),
    ("forbidden", forbidden::check),
    ("clippy", clippy_copies::check),
    ("documents", documents::check),
    ("crate table", crate_table::check),
    ("invariants", invariants::check),
];

/// Holds the whole tree against every rule and prints what breaks one.
pub(crate) fn run() -> Result<Counts> {
    let tree = Tree::read(&root()?)?;
    let mut counts = Counts {
        passed: 0,
        failed: 0,
        untested: 0,
    };
    for (name, rule) in RULES {
        let complaints = rule(&tree)?;
        for complaint in &complaints {
            println!("tidy {name}: {complaint}");
        }
        counts = counts.and(if complaints.is_empty() {
            Counts::PASSED
        } else {
            Counts::FAILED
        });
    }
    Ok(counts)
}

pub(crate) use crate_table::renew as with_crate_table;

/// The longest that a file at this path may be.
pub(crate) fn wall(path: &str) -> usize {
    lengths::wall(path)
}

/// Whether a file's header marks it as generated.
pub(crate) fn is_generated(text: &str) -> bool {
    lengths::generated(text)
}

#[cfg(test)]
fn texts(complaints: &[Complaint]) -> String {
    complaints
        .iter()
        .map(|complaint| format!("{complaint}\n"))
        .collect()
}
