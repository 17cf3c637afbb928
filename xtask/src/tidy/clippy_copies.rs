//! The loose copies of clippy.toml are equal, and lie only where the strict one cannot hold.
//!
//! Clippy takes the nearest file and merges nothing, so a copy that drifts is a wall with a
//! hole that nobody sees.

use anyhow::Result;

use crate::tidy::Complaint;
use crate::tree::Tree;

/// Folders of real input and output, where the strict file would refuse the work itself.
const LOOSE: &[&str] = &[
    "world",
    "functions/wasm",
    "streams/runner",
    "streams/serve",
    "holm",
    "tests",
    "bench",
    "xtask",
];

/// Lines that strict and loose share: the sizes.
const SHARED_LINES: usize = 6;

/// Checks every clippy.toml below the root.
pub(crate) fn check(tree: &Tree) -> Result<Vec<Complaint>> {
    let mut complaints = Vec::new();
    let strict = tree.text("clippy.toml").unwrap_or_default();
    let mut first: Option<(&str, &str)> = None;
    for (path, text) in tree
        .files()
        .filter(|(path, _)| path.ends_with("/clippy.toml"))
    {
        let folder = path.trim_end_matches("/clippy.toml");
        if !LOOSE.contains(&folder) {
            complaints.push(Complaint::at(
                path,
                "this folder keeps the root's strict clippy.toml",
            ));
            continue;
        }
        if !strict
            .lines()
            .take(SHARED_LINES)
            .eq(text.lines().take(SHARED_LINES))
        {
            let text =
                format!("the first {SHARED_LINES} lines are those of the root's clippy.toml");
            complaints.push(Complaint::at(path, text));
        }
        match first {
            None => first = Some((path, text)),
            Some((other, equal)) if equal != text => {
                complaints.push(Complaint::at(
                    path,
                    format!("differs from {other}; the loose copies are equal"),
                ));
            }
            Some(_) => {}
        }
    }
    Ok(complaints)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::texts;

    fn lawful() -> Tree {
        let text = "1\n2\n3\n4\n5\n6\n";
        Tree::default()
            .with("clippy.toml", &format!("{text}strict\n"))
            .with("holm/clippy.toml", &format!("{text}loose\n"))
            .with("world/clippy.toml", &format!("{text}loose\n"))
    }

    #[test]
    fn equal_copies_pass() {
        assert_eq!(texts(&check(&lawful()).unwrap()), "");
    }

    #[test]
    fn a_copy_that_drifted_is_named() {
        let tree = lawful().with("world/clippy.toml", "1\n2\n3\n4\n5\n6\nlooser\n");
        assert!(texts(&check(&tree).unwrap()).contains("differs from holm/clippy.toml"));
    }

    #[test]
    fn a_copy_with_other_sizes_is_named() {
        let tree = lawful().with("holm/clippy.toml", "1\n2\n3\n4\n5\n99\nloose\n");
        assert!(texts(&check(&tree).unwrap()).contains("holm/clippy.toml: the first 6 lines"));
    }

    #[test]
    fn a_copy_in_a_strict_folder_is_refused() {
        let tree = lawful().with("store/kv/clippy.toml", "1\n2\n3\n4\n5\n6\nloose\n");
        assert!(texts(&check(&tree).unwrap()).contains("store/kv/clippy.toml: this folder keeps"));
    }
}
