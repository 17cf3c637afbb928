//! What calls before this one found out, so that one that was ended goes on where it was.
//!
//! A file of lines of JSON, each whole by itself: the last may be torn by what ended the call.
//! What is kept holds for one tree and one patch; anything else is found out anew.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::bank::{Finder, Mutant};
use super::table::{Fate, Row};

/// The file, and what stood in it.
#[derive(Debug)]
pub(super) struct Kept {
    file: File,
    tree: String,
    lines: Vec<Value>,
}

impl Kept {
    /// Opens the file, and forgets it where all is to be found out afresh.
    pub(super) fn open(path: &Path, tree: &str, is_afresh: bool) -> Result<Self> {
        let mut options = OpenOptions::new();
        options.create(true);
        if is_afresh {
            options.write(true).truncate(true);
        } else {
            options.append(true);
        }
        let open = || format!("open {}", path.display());
        let mut file = options.open(path).with_context(open)?;
        let text = std::fs::read_to_string(path).with_context(open)?;
        if !text.is_empty() && !text.ends_with('\n') {
            writeln!(file)?;
        }
        let lines = text.lines().filter_map(|line| line.parse().ok());
        let lines = lines.filter(|line: &Value| line.get("tree") == Some(&json!(tree)));
        Ok(Self {
            lines: lines.collect(),
            tree: tree.to_owned(),
            file,
        })
    }

    /// What came of a mutant, if that says what a hunt of so many seconds would.
    pub(super) fn row(&self, mutant: &Mutant, budget_s: u64) -> Option<Row> {
        let of = |line: &&Value| line.get("patch") == Some(&json!(mutant.digest));
        self.lines.iter().rev().filter(of).find_map(|line| {
            let tried_s = line.get("budget")?.as_u64()?;
            let row = Row::of_json(mutant, line.get("row")?)?;
            let is_enough = match row.fate {
                Fate::Found { .. } => {
                    row.cpu_s <= std::time::Duration::from_secs(budget_s).as_secs_f64()
                }
                Fate::Missed | Fate::Spoiled { .. } => tried_s >= budget_s,
            };
            is_enough.then_some(row)
        })
    }

    /// Whether a finder passed without a patch, in so many seconds.
    pub(super) fn is_quiet(&self, finder: &Finder, seconds: u64) -> bool {
        self.lines.iter().any(|line| {
            let asked = line.get("seconds").and_then(Value::as_u64);
            line.get("quiet") == Some(&json!(finder.to_string()))
                && asked.is_some_and(|asked| asked >= seconds)
        })
    }

    /// Keeps what came of a mutant, if something did.
    pub(super) fn add(&mut self, row: &Row, budget_s: u64) -> Result<()> {
        if matches!(row.fate, Fate::Spoiled { .. }) {
            return Ok(());
        }
        let patch = &row.mutant.digest;
        let row = row.json();
        self.line(&json!({ "tree": self.tree, "patch": patch, "budget": budget_s, "row": row }))
    }

    pub(super) fn add_quiet(&mut self, finder: &Finder, seconds: u64) -> Result<()> {
        let quiet = finder.to_string();
        self.line(&json!({ "tree": self.tree, "quiet": quiet, "seconds": seconds }))
    }

    fn line(&mut self, value: &Value) -> Result<()> {
        writeln!(self.file, "{value}").context("keep what was found out")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "R1: x.\nchecker: y\nscenario: hunt\n\n+++ b/store/raft/src/a.rs\n";

    fn of(text: &str) -> Mutant {
        let folder = std::env::temp_dir().join(format!("holm-kept-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("R1.patch");
        std::fs::write(&path, text).unwrap();
        let mutant = Mutant::read("R1", &path).unwrap();
        std::fs::remove_dir_all(&folder).unwrap();
        mutant
    }

    fn file(name: &str) -> std::path::PathBuf {
        let name = format!("holm-kept-{name}-{}.jsonl", std::process::id());
        std::env::temp_dir().join(name)
    }

    #[test]
    fn a_result_holds_for_its_tree_its_patch_and_its_budget() {
        let (path, mutant) = (file("holds"), of(PAGE));
        let mut row = Row::new(&mutant, Fate::Missed);
        row.cpu_s = 60.0;
        let mut kept = Kept::open(&path, "t", true).unwrap();
        kept.add(&row, 60).unwrap();
        let by = mutant.finders[0].clone();
        kept.add_quiet(&by, 30).unwrap();
        drop(kept);
        let kept = Kept::open(&path, "t", false).unwrap();
        assert!(kept.row(&mutant, 60).is_some() && kept.row(&mutant, 61).is_none());
        assert!(kept.is_quiet(&by, 30) && !kept.is_quiet(&by, 31));
        let other = of(&PAGE.replace("a.rs", "b.rs"));
        assert!(kept.row(&other, 60).is_none());
        let elsewhere = Kept::open(&path, "u", false).unwrap();
        assert!(elsewhere.row(&mutant, 60).is_none() && !elsewhere.is_quiet(&by, 1));
        let afresh = Kept::open(&path, "t", true).unwrap();
        assert!(afresh.row(&mutant, 60).is_none());
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn a_torn_line_spoils_only_itself() {
        let (path, mutant) = (file("torn"), of(PAGE));
        std::fs::write(&path, "{\"tree\": \"t\", \"pat").unwrap();
        let by = mutant.finders[0].clone();
        let said = "BROKEN".to_owned();
        let row = Row::new(&mutant, Fate::Found { by, said });
        Kept::open(&path, "t", false)
            .unwrap()
            .add(&row, 600)
            .unwrap();
        let again = Kept::open(&path, "t", false).unwrap().row(&mutant, 600);
        assert!(again.is_some_and(|again| again.is_found()));
        std::fs::remove_file(&path).unwrap();
    }
}
