//! Runs the gate: one copy of the tree, one target folder, one patch after the other.
//!
//! What would surprise: the copy is built many times, so cargo compiles only what a patch
//! touches and what stands on it. At the end the copy is whole again and all finders run once
//! more: what fails there too has found nothing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, bail, ensure};

use super::bank::{self, BUDGET_S, Finder, Mutant};
use super::table::{self, Fate, Row};
use super::{BUILD, Request};
use crate::process::{cargo, output};
use crate::tally::SaidAlready;

/// Ticks of the kernel's account of CPU time in a second; Linux shows no other to programs.
const TICKS: f64 = 100.0;

/// The longest a finder is waited for, in budgets: a machine may be busy, a test may hang.
const PATIENCE: u64 = 3;

/// What a finder said about the tree in hand.
struct Said {
    /// In a few words, if something broke.
    broken: Option<String>,
    /// Why it said nothing of use.
    failed: Option<String>,
    runs: Option<u64>,
    cpu_s: f64,
}

/// The copy and where it is built.
struct Scratch {
    tree: PathBuf,
    target: PathBuf,
    /// Where rehearsals leave the tapes of what they found.
    tapes: PathBuf,
}

/// Hunts all mutants, then the tree itself.
pub(super) fn run(root: &Path, request: &Request) -> Result<()> {
    let bank = bank::read(root, &request.names)?;
    let budget_s = BUDGET_S.min(request.minutes * 60);
    let scratch = Scratch::new(root, &request.scratch)?;
    let (mut rows, mut costs) = (Vec::new(), BTreeMap::new());
    eprintln!("{}", table::head());
    for (done, mutant) in bank.iter().enumerate() {
        let row = match hunt(&scratch, mutant, budget_s, &mut costs) {
            Ok(row) => row,
            Err(error) => {
                // One that cannot be hunted does not keep the others from it.
                copy(root, &scratch.tree)?;
                let why = format!("{error:#}");
                Row::new(mutant, Fate::Spoiled { why })
            }
        };
        eprintln!("{} ({} of {})", row.line(), done + 1, bank.len());
        rows.push(row);
    }
    let mut problems = table::problems(&rows);
    for (finder, seconds) in costs {
        let words = describe(&finder);
        if let Some(problem) = baseline(&scratch, &finder, seconds)? {
            problems.push(format!("without a patch, {words}: {problem}"));
        } else {
            eprintln!("without a patch, {words} finds nothing");
        }
    }
    conclude(root, request, &rows, &problems)
}

fn conclude(root: &Path, request: &Request, rows: &[Row], problems: &[String]) -> Result<()> {
    if request.is_json {
        println!("{}", table::to_json(rows, problems));
    } else {
        println!("\n{}", table::head());
        for row in rows {
            println!("{}", row.line());
        }
    }
    for (group, (found, all)) in table::shares(rows) {
        eprintln!("group {group}: {found} of {all} found");
    }
    let missed: Vec<&str> = rows
        .iter()
        .filter(|row| !row.is_found())
        .map(|row| row.mutant.name.as_str())
        .collect();
    if !missed.is_empty() {
        eprintln!("not found: {}", missed.join(", "));
    }
    for (name, why) in bank::waivers(root)? {
        eprintln!("waived {name}: {why}");
    }
    for problem in problems {
        eprintln!("problem: {problem}");
    }
    if problems.is_empty() {
        Ok(())
    } else {
        Err(SaidAlready.into())
    }
}

/// Tries a mutant's finders in turn. Notes for each that found it how long that took.
fn hunt(
    scratch: &Scratch,
    mutant: &Mutant,
    budget_s: u64,
    costs: &mut BTreeMap<Finder, u64>,
) -> Result<Row> {
    scratch.apply(mutant, false)?;
    let mut row = Row::new(mutant, Fate::Missed);
    for finder in &mutant.finders {
        let budget_s = budget_s.min(mutant.budget_s);
        let said = match scratch.build(finder) {
            Ok(()) => scratch.ask(finder, budget_s)?,
            Err(error) => {
                eprintln!("{}: {error:#}", mutant.name);
                let why = "does not compile".to_owned();
                row.fate = Fate::Spoiled { why };
                break;
            }
        };
        row.cpu_s += said.cpu_s;
        row.runs = said.runs;
        let by = describe(finder);
        if let Some(said) = said.broken {
            row.fate = Fate::Found { by, said };
            let cost = costs.entry(finder.clone()).or_default();
            *cost = (*cost).max(whole(row.cpu_s));
            break;
        }
        if let Some(why) = said.failed {
            let why = format!("{by}: {why}");
            row.fate = Fate::Spoiled { why };
        }
    }
    scratch.apply(mutant, true)?;
    Ok(row)
}

/// What a finder says of the tree without a patch, in at least the time that mutants took.
fn baseline(scratch: &Scratch, finder: &Finder, seconds: u64) -> Result<Option<String>> {
    scratch.build(finder)?;
    let budget_s = match finder {
        Finder::Scenario(_) => (seconds + 5).min(BUDGET_S),
        Finder::Suite(_) => BUDGET_S,
    };
    let said = scratch.ask(finder, budget_s)?;
    Ok(said.broken.or(said.failed))
}

impl Scratch {
    fn new(root: &Path, folder: &Path) -> Result<Self> {
        std::fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
        let folder = folder.canonicalize()?;
        ensure!(
            !folder.starts_with(root),
            "--scratch lies outside the repository"
        );
        let scratch = Self {
            tree: folder.join("tree"),
            target: folder.join("target"),
            tapes: folder.join("tapes"),
        };
        std::fs::create_dir_all(&scratch.tapes)?;
        copy(root, &scratch.tree)?;
        Ok(scratch)
    }

    /// Applies a patch to the copy, or takes it back.
    fn apply(&self, mutant: &Mutant, is_back: bool) -> Result<()> {
        let mut program = bank::patch(&self.tree, &mutant.patch);
        if is_back {
            program.arg("--reverse");
        }
        let status = program
            .stdout(Stdio::null())
            .status()
            .context("start patch")?;
        ensure!(status.success(), "mutant {} no longer applies", mutant.name);
        Ok(())
    }

    fn cargo(&self, arguments: &[&str]) -> Command {
        let mut program = cargo(arguments);
        program
            .current_dir(&self.tree)
            .env("CARGO_TARGET_DIR", &self.target);
        // Lines in traces are worth less here than quick links.
        program.env("CARGO_PROFILE_DEV_DEBUG", "0");
        program
    }

    /// Builds what a finder needs, apart from running it: what does not build finds nothing.
    fn build(&self, finder: &Finder) -> Result<()> {
        let mut program = match finder {
            Finder::Scenario(_) => self.cargo(&BUILD),
            Finder::Suite(words) => {
                let mut program = self.cargo(&["test", "--no-run"]);
                program.args(words.iter().take_while(|word| *word != "--"));
                program
            }
        };
        output(program.arg("--quiet")).map(drop)
    }

    fn ask(&self, finder: &Finder, budget_s: u64) -> Result<Said> {
        match finder {
            Finder::Scenario(name) => self.rehearse(name, budget_s),
            Finder::Suite(words) => self.test(words, budget_s),
        }
    }

    fn rehearse(&self, name: &str, budget_s: u64) -> Result<Said> {
        let mut program = Command::new(self.target.join("debug/examples/rehearse"));
        program.arg(self.tree.join("scenarios").join(format!("{name}.toml")));
        program.args(["--seed", "1", "--shrink", "0", "--cpu", "--explore"]);
        program
            .arg(budget_s.to_string())
            .arg("--tapes")
            .arg(&self.tapes);
        let (said, cpu_s) = bounded(&program, &self.tree, budget_s + 60)?;
        let text = String::from_utf8_lossy(&said.stdout).into_owned();
        let runs = text.lines().nth(1).and_then(|line| line.split(' ').next());
        let mut verdict = Said {
            broken: None,
            failed: None,
            runs: runs.and_then(|runs| runs.parse().ok()),
            cpu_s,
        };
        match said.status.code() {
            Some(0) => {}
            Some(1) => {
                let line = text.lines().find(|line| line.starts_with("BROKEN"));
                verdict.broken = Some(short(line.unwrap_or("a promise broke")));
            }
            Some(101) => verdict.broken = Some(short(&panic_of(&said))),
            Some(3) => verdict.failed = Some("too few answers to tell anything".to_owned()),
            _ => verdict.failed = Some(format!("ended with {}", said.status)),
        }
        Ok(verdict)
    }

    fn test(&self, words: &[String], budget_s: u64) -> Result<Said> {
        let mut program = self.cargo(&["test", "--quiet"]);
        program.args(words);
        let (said, cpu_s) = bounded(&program, &self.tree, budget_s)?;
        let text = String::from_utf8_lossy(&said.stdout).into_owned();
        let (broken, failed) = match suite_said(said.status.code(), &text) {
            Ok(broken) => (broken, None),
            Err(why) => (None, Some(why)),
        };
        Ok(Said {
            broken,
            failed,
            runs: None,
            cpu_s,
        })
    }
}

/// Which test failed, if one did; an error if the suite tells nothing.
fn suite_said(code: Option<i32>, text: &str) -> Result<Option<String>, String> {
    let has_passed = |line: &str| {
        let rest = line.strip_prefix("test result: ok. ");
        rest.is_some_and(|rest| !rest.starts_with("0 passed"))
    };
    match code {
        Some(0) if text.lines().any(has_passed) => Ok(None),
        Some(0) => Err("no test of that name".to_owned()),
        Some(101) if text.contains("test result: FAILED") => {
            let list = text.lines().skip_while(|line| *line != "failures:");
            let names = list.filter_map(|line| line.strip_prefix("    "));
            let last = names.filter(|name| !name.contains(' ')).last();
            Ok(Some(short(last.unwrap_or("a test failed"))))
        }
        Some(code) => Err(format!("ended with exit code {code}")),
        None => Err("took too long, and was ended".to_owned()),
    }
}

/// Runs a program that may hang or eat time, and says what CPU it and its children took.
fn bounded(program: &Command, folder: &Path, cpu_s: u64) -> Result<(Output, f64)> {
    let before = children_cpu_s()?;
    let mut outer = Command::new("timeout");
    outer.arg((cpu_s * PATIENCE).to_string());
    outer.args(["sh", "-c", "ulimit -t \"$1\" && shift && exec \"$@\"", "sh"]);
    outer.arg(cpu_s.to_string());
    outer.arg(program.get_program()).args(program.get_args());
    for (key, value) in program.get_envs() {
        if let Some(value) = value {
            outer.env(key, value);
        }
    }
    let said = outer
        .current_dir(folder)
        .output()
        .context("start timeout")?;
    Ok((said, children_cpu_s()? - before))
}

/// What ended children of this process have used, as the kernel accounts it.
fn children_cpu_s() -> Result<f64> {
    let text = std::fs::read_to_string("/proc/self/stat").context("read the kernel's accounts")?;
    let rest = text
        .rsplit_once(')')
        .map_or(text.as_str(), |(_, rest)| rest);
    let fields: Vec<&str> = rest.split_whitespace().collect();
    // Fields 16 and 17 of the whole line; the name and what stands before it are two.
    let ticks = |at: usize| fields.get(at).and_then(|text| text.parse::<f64>().ok());
    match (ticks(13), ticks(14)) {
        (Some(user), Some(system)) => Ok((user + system) / TICKS),
        _ => bail!("the kernel's accounts read `{}`", text.trim()),
    }
}

/// The first words of a panic.
fn panic_of(said: &Output) -> String {
    let text = String::from_utf8_lossy(&said.stderr).into_owned();
    let mut lines = text
        .lines()
        .skip_while(|line| !line.contains("panicked at"));
    lines.next();
    let words = lines.next().unwrap_or("a node panicked");
    format!("PANIC {words}")
}

fn short(text: &str) -> String {
    text.chars().take(90).collect()
}

fn whole(seconds: f64) -> u64 {
    std::time::Duration::try_from_secs_f64(seconds).map_or(BUDGET_S, |it| it.as_secs() + 1)
}

/// A finder as one names it.
fn describe(finder: &Finder) -> String {
    match finder {
        Finder::Scenario(name) => name.clone(),
        Finder::Suite(words) => {
            let words: Vec<&str> = words
                .iter()
                .map(String::as_str)
                .filter(|word| !word.starts_with("--") && *word != "-p")
                .collect();
            words.join(" ")
        }
    }
}

/// Makes the copy equal to the tree: what git knows and what it does not ignore. What has not
/// changed keeps its time, so that it is not built again.
fn copy(root: &Path, to: &Path) -> Result<()> {
    let mut list = Command::new("git");
    list.current_dir(root);
    list.args([
        "ls-files",
        "-z",
        "--cached",
        "--others",
        "--exclude-standard",
    ]);
    let listed = output(&mut list)?;
    let files: Vec<&str> = listed.split('\0').filter(|file| !file.is_empty()).collect();
    for file in &files {
        let (from, to) = (root.join(file), to.join(file));
        let Ok(bytes) = std::fs::read(&from) else {
            // Removed and not committed.
            continue;
        };
        if std::fs::read(&to).is_ok_and(|old| old == bytes) {
            continue;
        }
        if let Some(folder) = to.parent() {
            std::fs::create_dir_all(folder)?;
        }
        std::fs::write(&to, &bytes).with_context(|| format!("copy {file}"))?;
    }
    // Cargo would find tests and modules that are no longer there.
    remove_others(to, to, &files)
}

fn remove_others(top: &Path, folder: &Path, files: &[&str]) -> Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.strip_prefix(top)?.to_string_lossy().into_owned();
        if path.is_dir() {
            remove_others(top, &path, files)?;
        } else if !files.contains(&name.as_str()) && name != "Cargo.lock" {
            std::fs::remove_file(&path)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_bounded_and_its_cost_known() {
        let folder = std::env::temp_dir();
        let mut burn = Command::new("sh");
        burn.args(["-c", "while :; do :; done"]);
        let (said, cpu_s) = bounded(&burn, &folder, 1).unwrap();
        assert!(!said.status.success());
        assert!((0.5..4.0).contains(&cpu_s), "{cpu_s} s");
        let mut fail = Command::new("sh");
        fail.args(["-c", "echo said; exit 7"]);
        let (said, _) = bounded(&fail, &folder, 9).unwrap();
        assert_eq!(
            (said.status.code(), said.stdout.as_slice()),
            (Some(7), &b"said\n"[..])
        );
    }

    #[test]
    fn the_words_of_a_panic_stand_behind_its_place() {
        let mut program = Command::new("printf");
        let text = "before\nthread 'main' panicked at a.rs:1:2:\nI3: what is committed\n";
        let mut said = program.arg("x").output().unwrap();
        said.stderr = text.as_bytes().to_vec();
        assert_eq!(panic_of(&said), "PANIC I3: what is committed");
    }

    #[test]
    fn a_suite_fails_by_name_and_one_that_tests_nothing_is_useless() {
        let failed = "failures:\n\n---- a::b stdout ----\n    said a thing\n\nfailures:\n    a::b\n\ntest result: FAILED. 1 passed; 1 failed\n";
        assert_eq!(suite_said(Some(101), failed), Ok(Some("a::b".to_owned())));
        let passed = "test result: ok. 0 passed; 0 failed\ntest result: ok. 2 passed; 0 failed\n";
        assert_eq!(suite_said(Some(0), passed), Ok(None));
        let none = "running 0 tests\ntest result: ok. 0 passed; 0 failed\n";
        assert!(suite_said(Some(0), none).is_err());
        assert!(suite_said(Some(101), "error: could not compile\n").is_err());
        assert!(suite_said(None, "").is_err());
    }

    #[test]
    fn finders_have_short_names() {
        let words = ["-p", "holm-raft", "--test", "paper", "s5"].map(str::to_owned);
        assert_eq!(
            describe(&Finder::Suite(words.to_vec())),
            "holm-raft paper s5"
        );
    }
}
