//! Words that must not stand in the tree, and names that say nothing.

use anyhow::Result;

use crate::tidy::Complaint;
use crate::tree::Tree;

/// File and folder names that would hold anything, and therefore hold everything.
const EMPTY_NAMES: &[&str] = &[
    "utils", "util", "common", "helpers", "misc", "core", "manager", "types",
];

/// The words are built from halves, so that this file may stand in the tree itself.
const WORDS: &[(&str, &str, &str)] = &[
    (
        "todo",
        "!(",
        "finish it, or answer with an error that says what is missing",
    ),
    (
        "unimplemented",
        "!(",
        "finish it, or answer with an error that says what is missing",
    ),
    ("FIX", "ME", "fix it, or write an adr that says why not"),
    (
        "#[ign",
        "ore",
        "a test runs or goes; assert the wrong result and say so",
    ),
];

/// Checks every Rust file's words and name.
pub(crate) fn check(tree: &Tree) -> Result<Vec<Complaint>> {
    let mut complaints = Vec::new();
    for (path, text) in tree.rust() {
        names(path, &mut complaints);
        if crate::tidy::lengths::generated(text) {
            continue;
        }
        for (index, line) in text.lines().enumerate() {
            words(path, index, line, &mut complaints);
            floats(path, index, line, &mut complaints);
        }
    }
    Ok(complaints)
}

fn names(path: &str, complaints: &mut Vec<Complaint>) {
    let parts = path.split('/').map(|part| part.trim_end_matches(".rs"));
    for part in parts.filter(|part| EMPTY_NAMES.contains(part)) {
        complaints.push(Complaint::at(
            path,
            format!("`{part}` says nothing: name what it holds"),
        ));
    }
}

fn words(path: &str, index: usize, line: &str, complaints: &mut Vec<Complaint>) {
    for (left, right, advice) in WORDS {
        if line.contains(&format!("{left}{right}")) {
            complaints.push(Complaint::on(
                path,
                index,
                format!("`{left}{right}`: {advice}"),
            ));
        }
    }
    let note = ["TO", "DO"].concat();
    let ownerless = |rest: &str| !rest.starts_with('(') || !rest.contains("20");
    if line
        .split_once(&note)
        .is_some_and(|(before, rest)| before.contains("//") && ownerless(rest))
    {
        let text = format!("write `{note}(owner, date)`, or do it");
        complaints.push(Complaint::on(path, index, text));
    }
}

/// Protocols and engines decide with whole numbers: a float's last bit is the platform's.
fn floats(path: &str, index: usize, line: &str, complaints: &mut Vec<Complaint>) {
    let is_decider = path.starts_with("spine/") || path.starts_with("store/");
    // The front of the keyspace, and tests, look at figures.
    if !is_decider || path.starts_with("store/etcd/") || !path.contains("/src/") {
        return;
    }
    let code = line.split("//").next().unwrap_or_default();
    let mut words = code.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
    if words.any(is_float) {
        let text = "a float decides nothing here: count in whole numbers";
        complaints.push(Complaint::on(path, index, text));
    }
}

fn is_float(word: &str) -> bool {
    let ends = |float| word == float || word.ends_with(&format!("_{float}"));
    ends("f32") || ends("f64")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::texts;

    fn found(line: &str) -> String {
        texts(&check(&Tree::default().with("store/kv/src/index.rs", line)).unwrap())
    }

    #[test]
    fn each_forbidden_word_is_named_with_its_line() {
        for (left, right, _) in WORDS {
            let text = format!("fn fine() {{}}\n    {left}{right}");
            assert!(
                found(&text).contains("index.rs:2:"),
                "{left}{right} went through"
            );
        }
    }

    #[test]
    fn a_note_without_owner_and_date_is_named() {
        let note = ["TO", "DO"].concat();
        assert!(found(&format!("// {note}: later")).contains("owner"));
        assert_eq!(
            found(&format!("// {note}(ada, 2026-11-21): measure it")),
            ""
        );
    }

    #[test]
    fn a_float_below_the_front_is_named_and_one_above_it_is_not() {
        for line in ["fn rate() -> f64 {", "let half = 1_f32 / 2.0;"] {
            assert!(found(line).contains("index.rs:1: a float"), "{line}");
            let front = Tree::default().with("store/etcd/src/metrics.rs", line);
            assert_eq!(texts(&check(&front).unwrap()), "");
        }
        assert_eq!(found("let hash = 0xf64; // not an f64"), "");
    }

    #[test]
    fn a_file_called_utils_is_refused() {
        let tree = Tree::default().with("store/kv/src/utils.rs", "");
        assert!(texts(&check(&tree).unwrap()).contains("`utils` says nothing"));
    }
}
