//! `stats`: the sizes of our files, crate by crate, against the walls and the ratchet.
//!
//! Lines are counted as a reader meets them: comments, blanks and inline tests included.

use std::collections::BTreeMap;

use anyhow::{Result, bail};

use crate::tidy;
use crate::tree::{Tree, root};

pub(crate) const PAGE: &str = "
Prints, for each crate: files, lines, the median and the longest file, asserts per thousand
lines, and the share of lines in tests. Generated files are left out. Writes nothing.
";

/// What is counted of one crate.
#[derive(Debug, Default)]
struct Sizes {
    files: Vec<usize>,
    lines: usize,
    test_lines: usize,
    asserts: usize,
}

/// Prints the table.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    if !arguments.is_empty() {
        bail!("stats takes no arguments");
    }
    let tree = Tree::read(&root()?)?;
    let mut crates: BTreeMap<String, Sizes> = BTreeMap::new();
    for (path, text) in tree.rust().filter(|(_, text)| !tidy::is_generated(text)) {
        crates.entry(crate_of(path)).or_default().add(path, text);
    }
    println!("| crate | files | lines | median file | longest | asserts/kloc | in tests |");
    println!("|--|--|--|--|--|--|--|");
    let mut all = Sizes::default();
    for (name, sizes) in &mut crates {
        println!("{}", sizes.row(name));
        all.absorb(sizes);
    }
    println!("{}", all.row("all"));
    Ok(())
}

/// The folder of the crate that a file belongs to.
fn crate_of(path: &str) -> String {
    let before = path.split("/src/").next().unwrap_or(path);
    before.split("/tests/").next().unwrap_or(before).to_owned()
}

impl Sizes {
    fn add(&mut self, path: &str, text: &str) {
        let (product, tests) = split(path, text);
        self.files.push(product + tests);
        self.lines += product;
        self.test_lines += tests;
        self.asserts += text
            .lines()
            .take(product)
            .filter(|line| line.contains("assert"))
            .count();
    }

    fn absorb(&mut self, other: &Self) {
        self.files.extend(&other.files);
        self.lines += other.lines;
        self.test_lines += other.test_lines;
        self.asserts += other.asserts;
    }

    fn row(&mut self, name: &str) -> String {
        self.files.sort_unstable();
        let median = self.files.get(self.files.len() / 2).copied().unwrap_or(0);
        let longest = self.files.last().copied().unwrap_or(0);
        let per_thousand = self.asserts * 1000 / self.lines.max(1);
        let share = self.test_lines * 100 / (self.lines + self.test_lines).max(1);
        format!(
            "| {name} | {} | {} | {median} | {longest} | {per_thousand} | {share} % |",
            self.files.len(),
            self.lines
        )
    }
}

/// Lines of product and of tests: an inline test module is the rest of its file.
fn split(path: &str, text: &str) -> (usize, usize) {
    let all = text.lines().count();
    if path.contains("/tests/") || path.ends_with("/tests.rs") || path.starts_with("tests/") {
        return (0, all);
    }
    let product = text
        .lines()
        .take_while(|line| *line != "#[cfg(test)]")
        .count();
    (product, all - product)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_inline_test_module_counts_as_tests() {
        assert_eq!(
            split("a/src/b.rs", "fn a() {}\n#[cfg(test)]\nmod tests {\n}\n"),
            (1, 3)
        );
        assert_eq!(split("a/tests/b.rs", "fn a() {}\n"), (0, 1));
    }

    #[test]
    fn a_file_belongs_to_the_crate_around_it() {
        assert_eq!(crate_of("store/kv/src/index/leaf.rs"), "store/kv");
        assert_eq!(crate_of("store/kv/tests/model.rs"), "store/kv");
        assert_eq!(crate_of("tests/process/src/lib.rs"), "tests/process");
    }
}
