//! Every Rust file begins with `//!` and a sentence that says what it holds.

use anyhow::Result;

use crate::tidy::Complaint;
use crate::tree::Tree;

/// Shorter than this says nothing.
const WORDS_MIN: usize = 3;

/// Checks the first line of every Rust file.
pub(crate) fn check(tree: &Tree) -> Result<Vec<Complaint>> {
    Ok(tree
        .rust()
        .filter_map(|(path, text)| complaint(text).map(|why| Complaint::at(path, why)))
        .collect())
}

fn complaint(text: &str) -> Option<&'static str> {
    let first = text.lines().next().unwrap_or_default();
    let Some(words) = first.strip_prefix("//! ") else {
        return Some("begin with `//!`: what the file holds, and what would surprise");
    };
    (words.split_whitespace().count() < WORDS_MIN)
        .then_some("say in the header what the file holds")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::texts;

    #[test]
    fn a_file_without_a_header_is_named() {
        let tree = Tree::default()
            .with("store/kv/src/index.rs", "use std::fmt;\n")
            .with("store/kv/src/view.rs", "//! view\n")
            .with("store/kv/src/lease.rs", "//! The table of leases.\n");
        let found = texts(&check(&tree).unwrap());
        assert!(found.contains("index.rs: begin with"), "{found}");
        assert!(found.contains("view.rs: say in the header"), "{found}");
        assert!(!found.contains("lease.rs"), "{found}");
    }
}
