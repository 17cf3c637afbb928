//! `sim`: the shipped scenarios, and the bank of mutants that they must find.
//!
//! A mutant is a patch in `sim/mutants` with a page above it: what is wrong, and what should find
//! it. It is applied to a copy of the tree, never to the tree.

mod bank;
mod gate;
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
  cargo xtask sim --mutants R3 R18        only these
  cargo xtask sim --mutants --minutes 2   so many CPU minutes for each, instead of ten
  cargo xtask sim --mutants --json        the table as JSON, on standard output
  cargo xtask sim --mutants --scratch DIR where copies are made and built, instead of a folder
                                          for temporary files

A mutant is found by a rehearsal that breaks a promise, or by a test of ours that fails, as the
page above its patch says; the same rehearsals and tests then pass without any patch, or the
command fails. It also fails if a mutant does not compile, if one is missed that is not marked as
missed, or if less than 95 of 100 of a group are found. What cannot be rebuilt in our code stands
in sim/waivers.toml, with the reason, and counts for nothing. What rehearsals found lies as tapes
in DIR/tapes. Runs on Linux, for its accounts of CPU time.
";

/// The small program that rehearses, without the rest of the binary.
const BUILD: [&str; 5] = ["build", "-p", "holm-rehearse", "--example", "rehearse"];

/// What was asked for.
#[derive(Debug, PartialEq, Eq)]
struct Request {
    seeds: u64,
    minutes: u64,
    are_mutants: bool,
    is_json: bool,
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
        minutes: 10,
        are_mutants: false,
        is_json: false,
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
            "--minutes" => request.minutes = number(after()?)?,
            "--scratch" => request.scratch = PathBuf::from(after()?),
            "--mutants" => request.are_mutants = true,
            "--json" => request.is_json = true,
            flag if flag.starts_with('-') => bail!("sim knows no {flag}"),
            name => request.names.push(name.to_owned()),
        }
    }
    if request.is_json && !request.are_mutants {
        bail!("--json goes with --mutants");
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
        let request = parse(&words("--mutants --minutes 2 --scratch /x R3")).unwrap();
        assert!(request.are_mutants && request.minutes == 2 && request.names == ["R3"]);
        assert_eq!(request.scratch, Path::new("/x"));
        for wrong in [
            "--seeds",
            "--seeds no",
            "--mutants --minutes 0",
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
