//! The copy of the tree that patches are applied to, and what is built and asked there.
//!
//! What would surprise: the copy is built many times, so cargo compiles only what a patch
//! touches and what stands on it. A copy stays where it is between calls, with what was built.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, bail, ensure};

use super::BUILD;
use super::bank::{self, Finder, Mutant};
use crate::process::{cargo, output};

/// Ticks of the kernel's account of CPU time in a second; Linux shows no other to programs.
const TICKS: f64 = 100.0;

/// The longest a finder is waited for, in budgets: a machine may be busy, a test may hang.
const PATIENCE: u64 = 3;
/// And it is waited for at least so long.
const WALL_MIN_S: u64 = 180;

/// What a finder said about the tree in hand.
pub(super) struct Said {
    /// In a few words, if something broke.
    pub(super) broken: Option<String>,
    /// Why it said nothing of use.
    pub(super) failed: Option<String>,
    pub(super) runs: Option<u64>,
    pub(super) cpu_s: f64,
}

/// The copy and where it is built.
pub(super) struct Scratch {
    tree: PathBuf,
    target: PathBuf,
    /// Where rehearsals leave the tapes of what they found.
    tapes: PathBuf,
    /// What was found out so far, by this call and those before it.
    pub(super) results: PathBuf,
    /// Stands for all that is built from the tree.
    pub(super) digest: String,
}

impl Scratch {
    pub(super) fn new(root: &Path, folder: &Path) -> Result<Self> {
        std::fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
        let folder = folder.canonicalize()?;
        ensure!(
            !folder.starts_with(root),
            "--scratch lies outside the repository"
        );
        let mut scratch = Self {
            tree: folder.join("tree"),
            target: folder.join("target"),
            tapes: folder.join("tapes"),
            results: folder.join("results.jsonl"),
            digest: String::new(),
        };
        std::fs::create_dir_all(&scratch.tapes)?;
        scratch.digest = copy(root, &scratch.tree)?;
        Ok(scratch)
    }

    /// Makes the copy whole again, whatever was applied to it.
    pub(super) fn restore(&self, root: &Path) -> Result<()> {
        copy(root, &self.tree).map(drop)
    }

    /// Applies a patch to the copy; [`Scratch::restore`] takes it back.
    pub(super) fn apply(&self, mutant: &Mutant) -> Result<()> {
        let mut program = bank::patch(&self.tree, &mutant.patch);
        let status = program.stdout(Stdio::null()).status();
        let status = status.context("start patch")?;
        ensure!(status.success(), "mutant {} no longer applies", mutant.name);
        Ok(())
    }

    fn cargo(&self, arguments: &[&str]) -> Command {
        let mut program = cargo(arguments);
        program
            .current_dir(&self.tree)
            .env("CARGO_TARGET_DIR", &self.target);
        // A crate is compiled a hundred times here: only what changed in it, without lines for
        // A crate is compiled a hundred times here: only what changed, without lines for traces.
        program
            .env("CARGO_PROFILE_DEV_DEBUG", "0")
            .env("CARGO_INCREMENTAL", "1");
        program
    }

    /// Builds what a finder needs, apart from running it: what does not build finds nothing.
    /// Says what CPU that took.
    pub(super) fn build(&self, finder: &Finder) -> Result<f64> {
        let before = children_cpu_s()?;
        let mut program = match finder {
            Finder::Scenario(_) => self.cargo(&BUILD),
            Finder::Suite(words) => {
                let mut program = self.cargo(&["test", "--no-run"]);
                program.args(words.iter().take_while(|word| *word != "--"));
                program
            }
        };
        output(program.arg("--quiet"))?;
        Ok(children_cpu_s()? - before)
    }

    pub(super) fn ask(&self, finder: &Finder, budget_s: u64) -> Result<Said> {
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
    outer.arg((cpu_s * PATIENCE).max(WALL_MIN_S).to_string());
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

/// Makes the copy equal to the tree: what git knows and what it does not ignore. What has not
/// changed keeps its time, so that it is not built again. Gives a digest of what is built: all
/// but texts for people, patches and this program.
fn copy(root: &Path, to: &Path) -> Result<String> {
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
    let mut digest = Digest::default();
    for file in &files {
        let (from, to) = (root.join(file), to.join(file));
        let Ok(bytes) = std::fs::read(&from) else {
            // Removed and not committed.
            continue;
        };
        let is_built = !["docs/", "sim/mutants/", "xtask/"]
            .iter()
            .any(|folder| file.starts_with(folder));
        if is_built && !file.ends_with(".md") {
            digest.add(file.as_bytes());
            digest.add(&bytes);
        }
        if std::fs::read(&to).is_ok_and(|old| old == bytes) {
            continue;
        }
        if let Some(folder) = to.parent() {
            std::fs::create_dir_all(folder)?;
        }
        std::fs::write(&to, &bytes).with_context(|| format!("copy {file}"))?;
    }
    // Cargo would find tests and modules that are no longer there.
    remove_others(to, to, &files)?;
    Ok(digest.text())
}

/// FNV-1a, twice as wide as a number: it keeps results apart, it need not stand up to anybody.
#[derive(Debug)]
pub(super) struct Digest(u128);

impl Default for Digest {
    fn default() -> Self {
        Self(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d)
    }
}

impl Digest {
    pub(super) fn add(&mut self, bytes: &[u8]) {
        for byte in bytes.len().to_le_bytes().iter().chain(bytes) {
            self.0 ^= u128::from(*byte);
            self.0 = self
                .0
                .wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b);
        }
    }

    pub(super) fn text(&self) -> String {
        format!("{:032x}", self.0)
    }
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
}
