//! `test`: every test that needs no process but its own, and the doctests.

use std::process::Command;

use anyhow::{Result, bail};

use crate::process::{cargo, find, tests};
use crate::tally::Tally;

pub(crate) const PAGE: &str = "
  cargo xtask test           all tests of the workspace but tests/process, then the doctests
  cargo xtask test NAME      only tests whose name contains NAME

Uses cargo-nextest where it is installed and `cargo test` elsewhere; the tests are the same.
Tests that start real servers and clients are in tests/process; `cargo xtask ci` runs them,
and so does `cargo test -p holm-process-tests`.
";

/// Runs the tests and closes with their count.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let filter = match arguments {
        [] => None,
        [name] => Some(name.as_str()),
        many => bail!("test takes one name at most, not {}", many.len()),
    };
    let mut tally = Tally::default();
    all(&mut tally, filter, Built::These);
    tally.close()
}

/// What is built for the tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Built {
    /// What they need.
    These,
    /// What tests/process needs, too, for it is next: with other features it would be built again.
    All,
}

/// The tests and the doctests, counted by whoever asks.
pub(crate) fn all(tally: &mut Tally, filter: Option<&str>, built: Built) {
    tally.step("tests", || tests(&mut runner(filter, built)));
    if filter.is_none() {
        tally.step("doctests", || {
            tests(&mut cargo(&["test", "--workspace", "--doc", "--quiet"]))
        });
    }
}

fn runner(filter: Option<&str>, built: Built) -> Command {
    let has_nextest = has_nextest();
    let mut command = if has_nextest {
        cargo(&["nextest", "run", "--no-fail-fast", "--status-level", "fail"])
    } else {
        cargo(&["test", "--all-targets", "--no-fail-fast", "--quiet"])
    };
    if has_nextest && built == Built::All {
        command.args(["--workspace", "-E", "not package(holm-process-tests)"]);
    } else {
        command.args(["--workspace", "--exclude", "holm-process-tests"]);
    }
    command.args(filter);
    command
}

/// Whether the runner is there that runs tests of several binaries beside each other.
pub(crate) fn has_nextest() -> bool {
    find("cargo-nextest").is_some()
}
