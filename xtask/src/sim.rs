//! `sim`: the shipped scenarios, and the bank of mutants that they must find.
//!
//! A mutant is a patch in `sim/mutants` with a page above it: what is wrong, and which scenario
//! should find it. It is applied to a copy of the tree, never to the tree.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::process::{cargo, must};
use crate::tally::{Counts, Tally};
use crate::tree::{Tree, root};

pub(crate) const PAGE: &str = "
  cargo xtask sim                         every scenario in scenarios/
  cargo xtask sim hunt-members            only that one
  cargo xtask sim --seeds 200             so many runs of each, instead of 20
  cargo xtask sim --mutants               every mutant in sim/mutants must be found
  cargo xtask sim --mutants R3 R18        only these
  cargo xtask sim --mutants --minutes 2   so long for each, instead of ten

A mutant that is not found is named, and the command fails.
";

/// The small program that rehearses, without the rest of the binary.
const BUILD: [&str; 5] = ["build", "-p", "holm-rehearse", "--example", "rehearse"];

/// What was asked for.
#[derive(Debug, PartialEq, Eq)]
struct Request {
    seeds: u64,
    minutes: u64,
    are_mutants: bool,
    names: Vec<String>,
}

/// Runs scenarios, or hunts mutants.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let request = parse(arguments)?;
    let root = root()?;
    if request.are_mutants {
        mutants(&root, &request)
    } else {
        scenarios(&root, &request)
    }
}

fn parse(arguments: &[String]) -> Result<Request> {
    let mut request = Request {
        seeds: 20,
        minutes: 10,
        are_mutants: false,
        names: Vec::new(),
    };
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        let mut number = || {
            let next = words.next().and_then(|text| text.parse().ok());
            next.with_context(|| format!("{word} needs a number"))
        };
        match word.as_str() {
            "--seeds" => request.seeds = number()?,
            "--minutes" => request.minutes = number()?,
            "--mutants" => request.are_mutants = true,
            flag if flag.starts_with('-') => bail!("sim knows no {flag}"),
            name => request.names.push(name.to_owned()),
        }
    }
    Ok(request)
}

/// The files of a folder with an ending, by name, or those that were asked for.
fn named(folder: &Path, ending: &str, names: &[String]) -> Result<Vec<(String, PathBuf)>> {
    let mut found = Vec::new();
    let entries =
        std::fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))?;
    for entry in entries {
        let path = entry?.path();
        let file = path.file_name().and_then(|name| name.to_str());
        if let Some(name) = file.and_then(|file| file.strip_suffix(ending))
            && (names.is_empty() || names.iter().any(|wanted| wanted == name))
        {
            found.push((name.to_owned(), path.clone()));
        }
    }
    if found.is_empty() {
        bail!("{} holds nothing of that name", folder.display());
    }
    found.sort();
    Ok(found)
}

fn scenarios(root: &Path, request: &Request) -> Result<()> {
    let found = named(&root.join("scenarios"), ".toml", &request.names)?;
    let seeds = request.seeds.to_string();
    let mut tally = Tally::default();
    must(&mut cargo(&BUILD))?;
    for (name, path) in found {
        let file = path.display().to_string();
        tally.step(&name, || {
            let arguments = [
                "run",
                "-q",
                "-p",
                "holm-rehearse",
                "--example",
                "rehearse",
                "--",
            ];
            must(cargo(&arguments).args([&file, "--runs", &seeds])).map(|()| Counts::PASSED)
        });
    }
    tally.close()
}

fn mutants(root: &Path, request: &Request) -> Result<()> {
    let bank = named(&root.join("sim/mutants"), ".patch", &request.names)?;
    let scratch = root.join("target/mutants");
    copy(root, &scratch.join("tree"))?;
    let mut missed = Vec::new();
    for (name, patch) in &bank {
        let page = Page::read(patch)?;
        apply(&scratch, patch, false)?;
        let found = hunt(root, &scratch, &page, request.minutes);
        apply(&scratch, patch, true)?;
        let found = found.with_context(|| format!("hunt mutant {name}"))?;
        println!("{name} ({}): {}", page.what, found.text);
        if !found.is_found {
            missed.push(name.clone());
        }
    }
    println!(
        "{} of {} mutants were found",
        bank.len() - missed.len(),
        bank.len()
    );
    if missed.is_empty() {
        Ok(())
    } else {
        bail!("not found: {}", missed.join(", "))
    }
}

/// What stands above a patch.
#[derive(Debug, PartialEq, Eq)]
struct Page {
    what: String,
    scenario: String,
}

impl Page {
    fn read(patch: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(patch)?;
        Self::of(&text).with_context(|| format!("{} has no page", patch.display()))
    }

    fn of(text: &str) -> Option<Self> {
        let what = text.lines().next()?.trim().to_owned();
        let scenario = text
            .lines()
            .find_map(|line| line.strip_prefix("scenario: "))?;
        let scenario = scenario.trim().to_owned();
        Some(Self { what, scenario })
    }
}

/// What came of hunting one mutant.
#[derive(Debug)]
struct Found {
    is_found: bool,
    text: String,
}

fn hunt(root: &Path, scratch: &Path, page: &Page, minutes: u64) -> Result<Found> {
    let tree = scratch.join("tree");
    let mut build = cargo(&BUILD);
    build
        .current_dir(&tree)
        .env("CARGO_TARGET_DIR", scratch.join("target"));
    must(build.stdout(Stdio::null()).stderr(Stdio::null()))?;
    let scenario = root
        .join("scenarios")
        .join(format!("{}.toml", page.scenario));
    let begun = Instant::now();
    let mut program = Command::new(scratch.join("target/debug/examples/rehearse"));
    let program = program.arg(&scenario).stderr(Stdio::null());
    let seconds = (minutes * 60).to_string();
    let said = program
        .args(["--seed", "1", "--shrink", "0", "--explore", &seconds])
        .output()?;
    let text = String::from_utf8_lossy(&said.stdout).into_owned();
    let line = |start: &str| text.lines().find(|line| line.starts_with(start));
    let runs = text.lines().nth(1).and_then(|line| line.split(',').next());
    let runs = runs.unwrap_or("no runs").to_owned();
    let seconds = begun.elapsed().as_secs_f64();
    let is_found = said.status.code() == Some(1);
    let why = line("BROKEN").unwrap_or("NOT FOUND");
    let text = format!("{why}; {runs}, {seconds:.1} s");
    Ok(Found { is_found, text })
}

/// Applies a patch to the copy, or takes it back.
fn apply(scratch: &Path, patch: &Path, is_back: bool) -> Result<()> {
    let mut program = Command::new("patch");
    program.current_dir(scratch.join("tree"));
    program.args(["--strip=1", "--silent", "--force"]);
    if is_back {
        program.arg("--reverse");
    }
    must(program.arg("--input").arg(patch)).with_context(|| format!("apply {}", patch.display()))
}

/// Writes the tree's text files there, as they lie here.
fn copy(root: &Path, to: &Path) -> Result<()> {
    if to.exists() {
        std::fs::remove_dir_all(to)?;
    }
    for (file, text) in Tree::read(root)?.files() {
        let to = to.join(file);
        if let Some(folder) = to.parent() {
            std::fs::create_dir_all(folder)?;
        }
        std::fs::write(&to, text).with_context(|| format!("copy {file}"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mutant_still_applies_and_names_a_scenario() {
        let root = root().unwrap();
        for (name, patch) in named(&root.join("sim/mutants"), ".patch", &[]).unwrap() {
            let page = Page::read(&patch).unwrap();
            assert!(page.what.starts_with(&format!("{name}: ")), "{name}");
            let scenario = root.join(format!("scenarios/{}.toml", page.scenario));
            assert!(scenario.is_file(), "{name}");
            let mut program = Command::new("patch");
            let program = program.current_dir(&root).arg("--input").arg(&patch);
            let program = program.args(["--strip=1", "--dry-run", "--force", "--silent"]);
            assert!(
                program.status().unwrap().success(),
                "{name} no longer applies"
            );
        }
    }

    #[test]
    fn a_page_names_fault_and_scenario() {
        let page = Page::of("R1: too early.\nscenario: hunt-members\n\ndiff").unwrap();
        assert_eq!(
            (page.what.as_str(), page.scenario.as_str()),
            ("R1: too early.", "hunt-members")
        );
        assert_eq!(Page::of("R1: too early.\n"), None);
    }

    #[test]
    fn arguments_are_read_and_unknown_ones_refused() {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let request = parse(&words("--mutants --minutes 2 R3")).unwrap();
        assert!(request.are_mutants && request.minutes == 2 && request.names == ["R3"]);
        assert!(parse(&words("--seeds")).is_err());
        assert!(parse(&words("--mutant")).is_err());
    }
}
