//! `check`: formatting, clippy, and the rules of the tree. `fix`: what can be mended by a tool.

use anyhow::{Result, bail};

use crate::process::{cargo, must};
use crate::tally::{Counts, Tally};
use crate::tidy;

pub(crate) const PAGE: &str = "
Runs, and never writes:

  cargo fmt --all --check
  cargo clippy --workspace --all-targets -- -D warnings
  tidy: the rules of the tree that a program can hold

    walls        each crate declares its layer; edges go down, or sideways in one plane
    headers      every Rust file begins with `//!` and says what it holds
    lengths      no file over 800 lines, no lib.rs over 300; xtask/ratchet.toml only shrinks
    forbidden    no unfinished code, ignored test, note without owner, float that decides, or
                 file called utils
    clippy       the loose copies of clippy.toml are equal, and lie where they may
    documents    paths, crates, commands and tests that documents name do exist
    invariants   each cited invariant is defined in the pages of its crate

  mutants: each patch in sim/mutants still applies and says what finds it; none is missing

  cargo xtask check tidy     only the rules, which take a second
";

pub(crate) const FIX_PAGE: &str = "
Runs `cargo fmt --all` and `cargo clippy --fix`. Writes into the tree, also into files with
changes that are not committed; look at `git diff` after it.
";

/// Runs the checks and closes with their count.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let mut tally = Tally::default();
    match arguments {
        [] => all(&mut tally),
        [only] if only == "tidy" => tally.step("tidy", tidy),
        other => bail!("check takes nothing or `tidy`, not `{}`", other.join(" ")),
    }
    tally.close()
}

/// The three checks, counted by whoever asks.
pub(crate) fn all(tally: &mut Tally) {
    tally.step("fmt", || {
        must(&mut cargo(&["fmt", "--all", "--check"]))?;
        Ok(Counts::PASSED)
    });
    tally.step("tidy", tidy);
    tally.step("mutants", mutants);
    tally.step("clippy", || {
        must(&mut cargo(&[
            "clippy",
            "--workspace",
            "--all-targets",
            "--quiet",
            "--",
            "-D",
            "warnings",
        ]))?;
        Ok(Counts::PASSED)
    });
}

/// That every patch of the bank still applies; whether it is found is `sim --mutants`.
fn mutants() -> Result<Counts> {
    let passed = crate::sim::check(&crate::tree::root()?)?;
    Ok(Counts {
        passed,
        failed: 0,
        untested: 0,
    })
}

fn tidy() -> Result<Counts> {
    tidy::run()
}

/// Formats, and lets clippy mend what it can.
pub(crate) fn fix(arguments: &[String]) -> Result<()> {
    if !arguments.is_empty() {
        bail!("fix takes no arguments");
    }
    must(&mut cargo(&[
        "clippy",
        "--fix",
        "--workspace",
        "--all-targets",
        "--allow-dirty",
        "--allow-staged",
    ]))?;
    must(&mut cargo(&["fmt", "--all"]))
}
