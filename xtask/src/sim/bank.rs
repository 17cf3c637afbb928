//! The bank: what stands above each patch, whether it still applies, and what was waived.
//!
//! ```text
//! R3: entry of an earlier term committed by counting.
//! checker: invariants                    who should see it
//! scenario: hunt-votes                   a rehearsal that finds it
//! suite: -p holm-raft --test paper       or a test of ours that fails; tried in this order
//! budget: 600                            CPU seconds for all of that together
//! missed: why                            only if nothing finds it yet
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use super::scratch::Digest;

/// Groups that must be whole: each number has a patch or a waiver.
const WHOLE: [(&str, u32); 5] = [("R", 32), ("E", 13), ("L", 29), ("C", 11), ("S", 16)];
/// The letters of all groups.
const GROUPS: [&str; 6] = ["R", "E", "K", "L", "C", "S"];

/// How many CPU seconds a mutant gets, if its page says nothing.
pub(super) const BUDGET_S: u64 = 600;

/// One way to find a mutant.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Finder {
    /// A rehearsal, by the name of its scenario.
    Scenario(String),
    /// Arguments of `cargo test`.
    Suite(Vec<String>),
}

impl fmt::Display for Finder {
    /// As one names it.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Scenario(name) => formatter.write_str(name),
            Self::Suite(words) => {
                let words = words.iter().map(String::as_str);
                let words: Vec<&str> = words
                    .filter(|word| !word.starts_with("--") && *word != "-p")
                    .collect();
                formatter.write_str(&words.join(" "))
            }
        }
    }
}

/// A patch and its page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mutant {
    pub(super) name: String,
    pub(super) patch: PathBuf,
    pub(super) what: String,
    pub(super) checker: String,
    pub(super) finders: Vec<Finder>,
    pub(super) budget_s: u64,
    /// The folder of the crate that the patch begins in.
    pub(super) folder: String,
    /// Stands for page and patch.
    pub(super) digest: String,
    /// Why nothing finds it, if that is known.
    pub(super) missed: Option<String>,
}

impl Mutant {
    pub(super) fn read(name: &str, patch: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(patch)?;
        Self::of(name, patch, &text).with_context(|| format!("the page of {}", patch.display()))
    }

    fn of(name: &str, patch: &Path, text: &str) -> Result<Self> {
        let mut lines = text.lines();
        let first = lines.next().unwrap_or_default();
        let what = first.strip_prefix(&format!("{name}: "));
        let what = what.with_context(|| format!("it begins with `{name}: ` and what is wrong"))?;
        let mut mutant = Self {
            name: name.to_owned(),
            patch: patch.to_owned(),
            what: what.trim().to_owned(),
            checker: String::new(),
            finders: Vec::new(),
            budget_s: BUDGET_S,
            folder: folder(text),
            digest: digest(text),
            missed: None,
        };
        for line in lines.take_while(|line| !line.is_empty()) {
            let (key, value) = line
                .split_once(": ")
                .context("its lines are `key: value`")?;
            let value = value.trim();
            match key {
                "checker" => value.clone_into(&mut mutant.checker),
                "scenario" => mutant.finders.push(Finder::Scenario(value.to_owned())),
                "suite" => {
                    let words = value.split_whitespace().map(str::to_owned);
                    mutant.finders.push(Finder::Suite(words.collect()));
                }
                "budget" => mutant.budget_s = value.parse().context("a budget is in seconds")?,
                "missed" => mutant.missed = Some(value.to_owned()),
                other => bail!("it has no `{other}`"),
            }
        }
        ensure!(!mutant.checker.is_empty(), "it names no checker");
        ensure!(
            !mutant.finders.is_empty(),
            "it names no scenario and no suite"
        );
        ensure!(mutant.budget_s <= BUDGET_S, "ten minutes are the most");
        Ok(mutant)
    }
}

/// The crate that a patch begins in: what stands before `/src/` in its first path.
fn folder(text: &str) -> String {
    let path = text.lines().find_map(|line| line.strip_prefix("+++ b/"));
    let path = path.unwrap_or_default();
    path.split_once("/src/").map_or(path, |it| it.0).to_owned()
}

fn digest(text: &str) -> String {
    let mut digest = Digest::default();
    digest.add(text.as_bytes());
    digest.text()
}

/// Every mutant, or those that were asked for by name or by the letter of their group, by group
/// and number.
pub(super) fn read(root: &Path, names: &[String]) -> Result<Vec<Mutant>> {
    let folder = root.join("sim/mutants");
    let is_group = |name: &String| GROUPS.iter().any(|group| group == name);
    let (groups, single): (Vec<_>, Vec<_>) = names.iter().cloned().partition(is_group);
    let mut found = super::named(&folder, ".patch", &[])?;
    if !names.is_empty() {
        found.retain(|(name, _)| groups.iter().any(|group| group == split(name).0));
        if !single.is_empty() {
            found.extend(super::named(&folder, ".patch", &single)?);
        }
        found.sort();
        found.dedup();
    }
    let read = found.iter().map(|(name, patch)| Mutant::read(name, patch));
    let mut bank = read.collect::<Result<Vec<Mutant>>>()?;
    bank.sort_by_key(|mutant| place(&mutant.name));
    Ok(bank)
}

/// The order in which least is built: crate by crate, and in each first those that its own tests
/// find, which need nothing that stands on it.
pub(super) fn in_turn(bank: &[Mutant]) -> Vec<&Mutant> {
    let mut turns: Vec<&Mutant> = bank.iter().collect();
    turns.sort_by_key(|mutant| {
        let first = mutant.finders.first();
        (
            &mutant.folder,
            first.map(|it| matches!(it, Finder::Scenario(_))),
        )
    });
    turns
}

pub(super) fn place(name: &str) -> (String, u32) {
    let (group, number) = split(name);
    (group.to_owned(), number)
}

/// The letters and the number of a name.
pub(super) fn split(name: &str) -> (&str, u32) {
    let digits = name.find(|letter: char| letter.is_ascii_digit());
    let (group, number) = name.split_at(digits.unwrap_or(name.len()));
    (group, number.parse().unwrap_or(0))
}

/// What cannot be rebuilt in our code, and why not.
pub(super) fn waivers(root: &Path) -> Result<BTreeMap<String, String>> {
    let file = root.join("sim/waivers.toml");
    let text = std::fs::read_to_string(&file).context("read sim/waivers.toml")?;
    let table: toml::Table = text.parse().context("parse sim/waivers.toml")?;
    let mut waived = BTreeMap::new();
    for (name, why) in table
        .get("mutant")
        .and_then(|it| it.as_table())
        .into_iter()
        .flatten()
    {
        let why = why.as_str().filter(|why| why.len() > 20);
        let why = why.with_context(|| format!("the waiver of {name} says why"))?;
        waived.insert(name.clone(), why.to_owned());
    }
    Ok(waived)
}

/// Whether each patch has its page and applies, each finder exists, and no number is missing.
pub(crate) fn check(root: &Path) -> Result<u64> {
    let bank = read(root, &[])?;
    let waived = waivers(root)?;
    for mutant in &bank {
        let name = &mutant.name;
        ensure!(
            GROUPS.contains(&split(name).0),
            "{name} is of no known group: these are {}",
            GROUPS.join(", ")
        );
        ensure!(
            !waived.contains_key(name),
            "{name} has a patch and a waiver"
        );
        for finder in &mutant.finders {
            let path = match finder {
                Finder::Scenario(scenario) => format!("scenarios/{scenario}.toml"),
                Finder::Suite(_) => continue,
            };
            ensure!(
                root.join(&path).is_file(),
                "{name} names {path}, which is not there"
            );
        }
        let mut program = patch(root, &mutant.patch);
        program.arg("--dry-run").stdout(Stdio::null());
        let status = program.status().context("start patch")?;
        ensure!(status.success(), "mutant {name} no longer applies");
    }
    for (group, count) in WHOLE {
        for number in 1..=count {
            let name = format!("{group}{number}");
            let is_there = bank.iter().any(|mutant| mutant.name == name);
            ensure!(
                is_there || waived.contains_key(&name),
                "there is no mutant {name}"
            );
        }
    }
    Ok(bank.len() as u64)
}

/// A program that applies a patch to a tree, and takes no near fit.
pub(super) fn patch(tree: &Path, patch: &Path) -> Command {
    let mut program = Command::new("patch");
    program
        .current_dir(tree)
        .args(["--strip=1", "--silent", "--force", "--fuzz=0"]);
    program
        .args(["--no-backup-if-mismatch", "--reject-file=-", "--input"])
        .arg(patch);
    program
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bank_is_whole_and_every_mutant_applies() {
        let count = check(&crate::tree::root().unwrap()).unwrap();
        assert!(count > 40, "{count} mutants");
    }

    fn page(text: &str) -> Result<Mutant> {
        Mutant::of("R1", Path::new("R1.patch"), text)
    }

    #[test]
    fn a_page_names_fault_checker_and_finders_in_order() {
        let text = "R1: too early.\nchecker: durable\nsuite: -p holm-raft --test paper\nscenario: hunt-votes\nbudget: 60\n\ndiff: x";
        let mutant = page(text).unwrap();
        assert_eq!((mutant.what.as_str(), mutant.budget_s), ("too early.", 60));
        let suite = ["-p", "holm-raft", "--test", "paper"].map(str::to_owned);
        let finders = [
            Finder::Suite(suite.to_vec()),
            Finder::Scenario("hunt-votes".to_owned()),
        ];
        assert_eq!(mutant.finders, finders);
    }

    #[test]
    fn a_page_without_its_parts_is_refused() {
        for wrong in [
            "R2: another.\nchecker: x\nscenario: y\n",
            "R1: no checker.\nscenario: y\n",
            "R1: no finder.\nchecker: x\n",
            "R1: too long.\nchecker: x\nscenario: y\nbudget: 601\n",
            "R1: what is this.\nchecker: x\nscenario: y\nflavour: sweet\n",
        ] {
            assert!(page(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn finders_have_short_names() {
        let words = ["-p", "holm-raft", "--test", "paper", "s5"].map(str::to_owned);
        let suite = Finder::Suite(words.to_vec());
        assert_eq!(suite.to_string(), "holm-raft paper s5");
    }

    #[test]
    fn crates_come_one_by_one_and_their_own_tests_first() {
        let of = |folder: &str, finder: &str| {
            let text = format!("R1: x.\nchecker: y\n{finder}\n\n+++ b/{folder}/src/a/b.rs\n");
            page(&text).unwrap()
        };
        let bank = [
            of("store/raft", "scenario: hunt"),
            of("store/kv", "scenario: hunt"),
            of("store/raft", "suite: -p holm-raft"),
        ];
        let turns = in_turn(&bank);
        let turns: Vec<(&str, String)> = turns
            .iter()
            .map(|it| (it.folder.as_str(), it.finders[0].to_string()))
            .collect();
        let wanted = ["store/kv", "store/raft", "store/raft"];
        let finders = ["hunt", "holm-raft", "hunt"].map(str::to_owned);
        assert!(
            turns.iter().map(|it| it.0).eq(wanted) && turns.iter().map(|it| &it.1).eq(&finders)
        );
    }

    #[test]
    fn a_group_is_asked_for_by_its_letter() {
        let root = crate::tree::root().unwrap();
        let names = ["K", "R3"].map(str::to_owned);
        let bank = read(&root, &names).unwrap();
        let raft = bank.iter().filter(|it| it.name.starts_with('R')).count();
        assert!(raft == 1 && bank.len() > 8);
    }

    #[test]
    fn names_are_ordered_by_number() {
        assert!(place("R9") < place("R10") && place("E13") < place("R1"));
    }
}
