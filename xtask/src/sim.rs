//! `sim`: the shipped scenarios, and the bank of mutants that they must find.
//!
//! A mutant is a patch in `sim/mutants` with a page above it: what is wrong, and what should find
//! it. It is applied to a copy of the tree, never to the tree.

mod bank;
mod gate;
mod kept;
mod scratch;
mod table;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::process::{cargo, must};
use crate::tally::{Counts, Tally};
use crate::tree::root;

pub(crate) use bank::check;

pub(crate) const PAGE: &str = "
  cargo xtask sim                         every scenario in scenarios/
  cargo xtask sim hunt-members            only that one
  cargo xtask sim --seeds 200             so many runs of each, instead of 20
  cargo xtask sim --mutants               every mutant in sim/mutants must be found
  cargo xtask sim --mutants R3 E          only R3, and all of group E
  cargo xtask sim --mutants --cpu-seconds 60
                                          so many CPU seconds for each, instead of 600
  cargo xtask sim --mutants --json        the table as JSON, on standard output
  cargo xtask sim --mutants --scratch DIR where the copy is made and built, instead of a folder
                                          for temporary files
  cargo xtask sim --mutants --afresh      nothing is taken over from a call before

A mutant is found by a rehearsal that breaks a promise, or by a test of ours that fails, as the
page above its patch says; the same rehearsals and tests then pass without any patch, or the
command fails. It also fails if a mutant does not compile, if one is missed that is not marked as
missed, or if less than 95 of 100 of a group are found. What cannot be rebuilt in our code stands
in sim/waivers.toml, with the reason, and counts for nothing. What rehearsals found lies as tapes
in DIR/tapes.

A line is printed as each mutant is done, and kept in DIR/results.jsonl: a call that is ended, in
whatever way, is taken up by the next one on the same tree. Budgets are of CPU time, without
builds, so a busy machine changes none of them. Runs on Linux, for its accounts of CPU time.
";

/// The small program that rehearses, without the rest of the binary.
const BUILD: [&str; 5] = ["build", "-p", "holm-rehearse", "--example", "rehearse"];

/// What was asked for.
#[derive(Debug, PartialEq, Eq)]
struct Request {
    seeds: u64,
    cpu_s: u64,
    are_mutants: bool,
    is_json: bool,
    is_afresh: bool,
    scratch: PathBuf,
    names: Vec<String>,
}

/// Runs scenarios, or hunts mutants.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let request = parse(arguments)?;
    let root = root()?;
    if request.are_mutants {
        gate::run(&root, &request)
    } else {
        scenarios(&root, &request)
    }
}

fn parse(arguments: &[String]) -> Result<Request> {
    let mut request = Request {
        seeds: 20,
        cpu_s: bank::BUDGET_S,
        are_mutants: false,
        is_json: false,
        is_afresh: false,
        scratch: std::env::temp_dir().join("holm-mutants"),
        names: Vec::new(),
    };
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        let mut after = || {
            let next = words.next();
            next.with_context(|| format!("{word} needs a value"))
        };
        let number = |text: &String| {
            let count = text.parse().ok().filter(|count| *count > 0);
            count.with_context(|| format!("{word} takes a number from 1 on, not {text}"))
        };
        match word.as_str() {
            "--seeds" => request.seeds = number(after()?)?,
            "--cpu-seconds" => request.cpu_s = number(after()?)?,
            "--scratch" => request.scratch = PathBuf::from(after()?),
            "--mutants" => request.are_mutants = true,
            "--json" => request.is_json = true,
            "--afresh" => request.is_afresh = true,
            flag if flag.starts_with('-') => bail!("sim knows no {flag}"),
            name => request.names.push(name.to_owned()),
        }
    }
    if (request.is_json || request.is_afresh) && !request.are_mutants {
        bail!("--json and --afresh go with --mutants");
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
    for name in names {
        if !found.iter().any(|(other, _)| other == name) {
            bail!("{} holds no {name}{ending}", folder.display());
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_read_and_unknown_ones_refused() {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let request = parse(&words("--mutants --cpu-seconds 2 --scratch /x R3")).unwrap();
        assert!(request.are_mutants && request.cpu_s == 2 && request.names == ["R3"]);
        assert_eq!(request.scratch, Path::new("/x"));
        for wrong in [
            "--seeds",
            "--seeds no",
            "--mutants --cpu-seconds 0",
            "--mutant",
            "--json",
        ] {
            assert!(parse(&words(wrong)).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_name_that_is_not_there_is_refused() {
        let folder = root().unwrap().join("sim/mutants");
        let names = ["R1".to_owned(), "R99".to_owned()];
        let error = named(&folder, ".patch", &names).unwrap_err();
        assert!(error.to_string().contains("R99.patch"), "{error}");
    }
}
