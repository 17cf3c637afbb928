//! Each invariant that is cited is defined: a bare number in the crate's own pages, one with
//! a crate's name before it (`machine`) in the pages of that crate.
//!
//! A definition is a line of a crate's `//!` documentation that begins with the number, as a
//! list item, a table row or plain words.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;

use crate::packages::{self, Package};
use crate::tidy::Complaint;
use crate::tree::Tree;

type Defined = BTreeMap<String, BTreeSet<u32>>;

/// Checks every citation in the sources and tests of every crate.
pub(crate) fn check(tree: &Tree) -> Result<Vec<Complaint>> {
    let packages = packages::read(tree)?;
    let defined: Defined = packages
        .values()
        .map(|package| (short(package).to_owned(), definitions(tree, package)))
        .collect();
    let mut complaints = Vec::new();
    // This crate's own tests cite what does not exist, to see it refused.
    for package in packages.values().filter(|package| package.name != "xtask") {
        for (path, text) in sources(tree, package) {
            for (index, line) in text.lines().enumerate() {
                let found = unknown(line, short(package), &defined);
                complaints.extend(found.map(|text| Complaint::on(path, index, text)));
            }
        }
    }
    Ok(complaints)
}

/// The word by which other crates cite a crate: the last folder.
fn short(package: &Package) -> &str {
    package.folder.rsplit('/').next().unwrap_or(&package.folder)
}

fn sources<'tree>(
    tree: &'tree Tree,
    package: &Package,
) -> impl Iterator<Item = (&'tree str, &'tree str)> {
    let below = [
        format!("{}/src/", package.folder),
        format!("{}/tests/", package.folder),
    ];
    tree.rust()
        .filter(move |(path, _)| below.iter().any(|folder| path.starts_with(folder)))
}

fn definitions(tree: &Tree, package: &Package) -> BTreeSet<u32> {
    sources(tree, package)
        .flat_map(|(_, text)| text.lines())
        .filter_map(|line| line.trim_start().strip_prefix("//!"))
        .filter_map(|line| number(line.trim_start_matches([' ', '-', '*', '|', '`'])))
        .collect()
}

/// The number of a word that begins with `I` and digits, if nothing else hangs on to it.
fn number(text: &str) -> Option<u32> {
    let digits = text.strip_prefix('I')?;
    let end = digits
        .find(|letter: char| !letter.is_ascii_digit())
        .unwrap_or(digits.len());
    let (digits, rest) = digits.split_at(end);
    if rest.starts_with(|letter: char| letter.is_alphanumeric() || letter == '_') {
        return None;
    }
    digits.parse().ok()
}

/// The first citation on a line that no page defines.
fn unknown(line: &str, own: &str, defined: &Defined) -> Option<String> {
    let mut before = "";
    for word in line.split(|letter: char| !letter.is_alphanumeric() && letter != '_') {
        if let Some(cited) = number(word) {
            let owner = if defined.contains_key(before) {
                before
            } else {
                own
            };
            let known = defined
                .get(owner)
                .is_some_and(|numbers| numbers.contains(&cited));
            if !known {
                return Some(format!("I{cited} is not defined in the pages of {owner}"));
            }
        }
        if !word.is_empty() {
            before = word;
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::texts;

    fn found(line: &str) -> String {
        let tree = Tree::default()
            .with("store/kv/Cargo.toml", "[package]\nname = \"holm-kv\"\n")
            .with("store/kv/src/lib.rs", "//! - I1 A batch is whole.\n")
            .with(
                "spine/machine/Cargo.toml",
                "[package]\nname = \"holm-machine\"\n",
            )
            .with("spine/machine/src/lib.rs", "//! | I2 | held |\n")
            .with("store/kv/src/frame.rs", line);
        texts(&check(&tree).unwrap())
    }

    #[test]
    fn a_defined_invariant_may_be_cited_here_and_from_elsewhere() {
        assert_eq!(found("assert!(whole, \"I1\"); // as machine I2 says"), "");
    }

    #[test]
    fn an_undefined_invariant_is_named() {
        assert!(found("// by I7").contains("frame.rs:1: I7 is not defined in the pages of kv"));
        assert!(found("// by machine I1").contains("I1 is not defined in the pages of machine"));
    }

    #[test]
    fn a_word_that_only_looks_like_one_is_left_alone() {
        assert_eq!(found("type I3x = u8; let b = \"BI9\";"), "");
    }
}
