//! The tree as the rules see it: text files by path, read once.
//!
//! The rules take a [`Tree`] and not a folder, so that a test can feed each of them a tree
//! that breaks it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// Folders that hold nothing of ours.
const FOREIGN: &[&str] = &["target", ".git"];

/// File endings that the rules read; everything else is only known to exist.
const READ: &[&str] = &["rs", "toml", "md", "proto", "txt"];

/// Every file of the repository by its path from the root, with `/` between the parts.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tree {
    files: BTreeMap<String, String>,
}

impl Tree {
    /// Reads the tree below `root`.
    pub(crate) fn read(root: &Path) -> Result<Self> {
        let mut tree = Self::default();
        tree.read_folder(root, "")?;
        Ok(tree)
    }

    fn read_folder(&mut self, folder: &Path, prefix: &str) -> Result<()> {
        let listing = fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))?;
        for entry in listing {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if FOREIGN.contains(&name.as_str()) {
                continue;
            }
            let path = join(prefix, &name);
            let kind = entry.file_type()?;
            if kind.is_dir() {
                self.read_folder(&entry.path(), &path)?;
            } else if kind.is_file() {
                self.read_file(&entry.path(), path)?;
            }
        }
        Ok(())
    }

    fn read_file(&mut self, file: &Path, path: String) -> Result<()> {
        let readable = file
            .extension()
            .is_some_and(|ending| READ.iter().any(|known| ending == *known));
        let text = if readable {
            fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?
        } else {
            String::new()
        };
        self.files.insert(path, text);
        Ok(())
    }

    /// Adds or replaces a file; tests build their trees with it.
    #[cfg(test)]
    pub(crate) fn with(mut self, path: &str, text: &str) -> Self {
        self.files.insert(path.to_owned(), text.to_owned());
        self
    }

    /// The text of a file, if it exists.
    pub(crate) fn text(&self, path: &str) -> Option<&str> {
        self.files.get(path).map(String::as_str)
    }

    /// Whether a file or a folder of that path exists.
    pub(crate) fn exists(&self, path: &str) -> bool {
        let path = path.trim_end_matches('/');
        let below = format!("{path}/");
        self.files.contains_key(path)
            || self
                .files
                .range(below.clone()..)
                .next()
                .is_some_and(|(first, _)| first.starts_with(&below))
    }

    /// All files with their text, in order of path.
    pub(crate) fn files(&self) -> impl Iterator<Item = (&str, &str)> {
        self.files
            .iter()
            .map(|(path, text)| (path.as_str(), text.as_str()))
    }

    /// All Rust files with their text.
    pub(crate) fn rust(&self) -> impl Iterator<Item = (&str, &str)> {
        self.files().filter(|(path, _)| path.ends_with(".rs"))
    }

    /// All documents with their text.
    pub(crate) fn documents(&self) -> impl Iterator<Item = (&str, &str)> {
        self.files().filter(|(path, _)| path.ends_with(".md"))
    }
}

fn join(prefix: &str, name: &str) -> String {
    if prefix.is_empty() {
        name.to_owned()
    } else {
        format!("{prefix}/{name}")
    }
}

/// The root of the workspace: the folder above this crate's own.
pub(crate) fn root() -> Result<PathBuf> {
    // Cargo says where it runs us; where we were built is another clone's, if two share a target.
    let said = std::env::var_os("CARGO_MANIFEST_DIR");
    let own = said.map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    match own.parent() {
        Some(root) if root.join("Cargo.toml").is_file() => Ok(root.to_owned()),
        Some(_) | None => bail!("no workspace around {}", own.display()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_exists_when_a_file_lies_in_it() {
        let tree = Tree::default().with("store/kv/src/lib.rs", "");
        assert!(tree.exists("store/kv"));
        assert!(tree.exists("store/kv/"));
        assert!(!tree.exists("store/k"));
        assert!(!tree.exists("store/kv/src/lib"));
    }

    #[test]
    fn the_real_tree_holds_this_file() {
        let tree = Tree::read(&root().unwrap()).unwrap();
        assert!(tree.text("xtask/src/tree.rs").is_some());
        assert!(!tree.exists("target"));
    }
}
