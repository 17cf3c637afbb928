//! What documents name exists: paths, crates, commands of ours, linked files, tests.
//!
//! Prose that no check holds drifts from the tree. Only words in backticks and links are read.

use std::collections::BTreeSet;

use anyhow::Result;

use crate::packages;
use crate::tidy::Complaint;
use crate::tree::Tree;

const ADR_FOLDER: &str = "docs/adr/";
const ADR_WORDS_MAX: usize = 600;

/// Documents whose tables name a test in their last column.
const TABLES_OF_TESTS: &[&str] = &["docs/etcd-differences.md", "PROMISES.md"];

/// Names that begin like a crate's and are none.
const NO_CRATES: &[&str] = &["holm-version"];

/// What a document may name.
struct Known<'tree> {
    tree: &'tree Tree,
    crates: BTreeSet<String>,
    tops: BTreeSet<&'tree str>,
    commands: BTreeSet<&'static str>,
    tests: BTreeSet<&'tree str>,
}

/// Checks every document.
pub(crate) fn check(tree: &Tree) -> Result<Vec<Complaint>> {
    let known = Known {
        tree,
        crates: packages::read(tree)?.into_keys().collect(),
        tops: tree
            .files()
            .filter_map(|(path, _)| Some(path.split_once('/')?.0))
            .collect(),
        commands: crate::COMMANDS.iter().map(|command| command.name).collect(),
        tests: tree.rust().flat_map(|(_, text)| functions(text)).collect(),
    };
    let mut complaints = Vec::new();
    for (path, text) in tree.documents() {
        adr(path, text, &mut complaints);
        let mut fenced = false;
        for (index, line) in text.lines().enumerate() {
            fenced ^= line.trim_start().starts_with("```");
            let found = if fenced {
                Vec::new()
            } else {
                known.complaints(path, line)
            };
            complaints.extend(
                found
                    .into_iter()
                    .map(|text| Complaint::on(path, index, text)),
            );
        }
    }
    Ok(complaints)
}

impl Known<'_> {
    fn complaints(&self, document: &str, line: &str) -> Vec<String> {
        let mut found = Vec::new();
        found.extend(quoted(line).filter_map(|word| self.word(word)));
        found.extend(links(line).filter_map(|link| self.link(document, link)));
        if TABLES_OF_TESTS.contains(&document) {
            found.extend(self.test(line));
        }
        found
    }

    fn word(&self, word: &str) -> Option<String> {
        if let Some(rest) = word.strip_prefix("cargo xtask ") {
            let name = rest.split_whitespace().next().unwrap_or_default();
            let plain = name.chars().all(|letter| letter.is_ascii_lowercase());
            return (plain && !self.commands.contains(name))
                .then(|| format!("`cargo xtask {name}` is no command"));
        }
        if let Some(rest) = word.strip_prefix("holm-") {
            let plain = !rest.is_empty()
                && rest
                    .chars()
                    .all(|letter| letter.is_ascii_lowercase() || letter == '-');
            return (plain && !self.crates.contains(word) && !NO_CRATES.contains(&word))
                .then(|| format!("there is no crate `{word}`"));
        }
        (self.is_path(word) && !self.tree.exists(word)).then(|| format!("`{word}` does not exist"))
    }

    /// A word is a path of ours when it goes through one of our top folders.
    fn is_path(&self, word: &str) -> bool {
        let plain = |letter: char| letter.is_ascii_alphanumeric() || "/._-".contains(letter);
        word.chars().all(plain)
            && word
                .split_once('/')
                .is_some_and(|(top, rest)| self.tops.contains(top) && !rest.is_empty())
    }

    fn link(&self, document: &str, link: &str) -> Option<String> {
        let target = link.split('#').next().unwrap_or_default();
        if target.is_empty() || target.contains("://") || target.starts_with("mailto:") {
            return None;
        }
        let folder = document.rsplit_once('/').map_or("", |(folder, _)| folder);
        let path = resolve(folder, target);
        (!self.tree.exists(&path)).then(|| format!("the link to `{target}` leads nowhere"))
    }

    /// The last cell of a row names tests: each word in backticks is one, or a path or command.
    fn test(&self, line: &str) -> Option<String> {
        let cells: Vec<&str> = line
            .trim()
            .strip_prefix('|')?
            .trim_end_matches('|')
            .split('|')
            .collect();
        let last = cells.last()?;
        let missing = |word: &&str| {
            let plain = word.chars().all(|letter| {
                letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '_'
            });
            plain && word.contains('_') && !self.tests.contains(*word)
        };
        let name = quoted(last).find(missing)?;
        Some(format!("there is no test `{name}`"))
    }
}

fn adr(path: &str, text: &str, complaints: &mut Vec<Complaint>) {
    let Some(name) = path.strip_prefix(ADR_FOLDER) else {
        return;
    };
    let dated = name.len() > 11
        && name
            .bytes()
            .take(10)
            .enumerate()
            .all(|(at, byte)| match at {
                4 | 7 => byte == b'-',
                _ => byte.is_ascii_digit(),
            });
    if !dated {
        complaints.push(Complaint::at(path, "an adr is called YYYY-MM-DD-slug.md"));
    }
    let words = text.split_whitespace().count();
    if words > ADR_WORDS_MAX {
        complaints.push(Complaint::at(
            path,
            format!("{words} words; an adr has {ADR_WORDS_MAX} at most"),
        ));
    }
}

fn quoted(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}

fn links(line: &str) -> impl Iterator<Item = &str> {
    line.split("](")
        .skip(1)
        .filter_map(|rest| Some(rest.split_once(')')?.0))
}

fn functions(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter_map(|line| {
        let rest = line.trim_start();
        let rest = rest.strip_prefix("pub ").unwrap_or(rest);
        let rest = rest
            .strip_prefix("async ")
            .unwrap_or(rest)
            .strip_prefix("fn ")?;
        rest.split(['(', '<']).next()
    })
}

fn resolve(folder: &str, target: &str) -> String {
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in target.split('/') {
        match part {
            "." | "" => {}
            ".." => {
                parts.pop();
            }
            name => parts.push(name),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::texts;

    fn tree() -> Tree {
        Tree::default()
            .with("store/kv/Cargo.toml", "[package]\nname = \"holm-kv\"\n")
            .with("store/kv/src/lib.rs", "#[test]\nfn a_put_is_durable() {}\n")
            .with("docs/GLOSSARY.md", "words\n")
    }

    fn found(path: &str, text: &str) -> String {
        texts(&check(&tree().with(path, text)).unwrap())
    }

    #[test]
    fn what_exists_may_be_named() {
        let text =
            "`store/kv/src/lib.rs` of `holm-kv`, [words](docs/GLOSSARY.md), `cargo xtask check`.\n";
        assert_eq!(found("README.md", text), "");
        assert_eq!(
            found(
                "docs/ARCHITECTURE.md",
                "[words](GLOSSARY.md#op) and [web](https://a.b/c)\n"
            ),
            ""
        );
    }

    #[test]
    fn a_missing_path_is_named() {
        assert!(
            found("README.md", "see `store/kv/src/index.rs`\n")
                .contains("README.md:1: `store/kv/src/index.rs`")
        );
    }

    #[test]
    fn a_missing_crate_command_or_link_is_named() {
        assert!(found("README.md", "`holm-log`\n").contains("no crate `holm-log`"));
        assert!(
            found("README.md", "`cargo xtask polish`\n")
                .contains("`cargo xtask polish` is no command")
        );
        assert!(found("docs/A.md", "[it](../gone.md)\n").contains("leads nowhere"));
    }

    #[test]
    fn a_row_that_names_a_missing_test_is_refused() {
        let page = "docs/etcd-differences.md";
        assert_eq!(found(page, "| etcd | Holm | `a_put_is_durable` |\n"), "");
        assert!(
            found(page, "| etcd | Holm | `a_put_is_lost` |\n").contains("no test `a_put_is_lost`")
        );
    }

    #[test]
    fn an_adr_is_dated_and_short() {
        assert!(found("docs/adr/some-idea.md", "x\n").contains("YYYY-MM-DD"));
        assert!(found("docs/adr/2026-11-21-idea.md", &"word ".repeat(601)).contains("601 words"));
    }
}
