//! `ci`: all that CI runs, under one closing line.

use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::process::{cargo, find, must, tests};
use crate::tally::{Counts, Tally};
use crate::{check, peers, promises, test};

pub(crate) const PAGE: &str = "
Runs, one after the other, and goes on after a failure:

  cargo xtask check      formatting, tidy, clippy
  cargo xtask test       every test of one process, doctests
  tests/process          the holm binary beside real etcd and clients that we did not write
  cargo doc              with warnings as errors
  cargo xtask promises   each figure has its command
  cargo deny check       where cargo-deny is installed

Closes with `N passed, N failed` and, before it, what this machine could not test.

tests/process needs etcd and etcdctl (Debian: etcd-server, etcd-client), and for the foreign
suites python3, npm and cargo. As root on a machine with apt-get it installs the Debian
packages when they are missing; what pip, npm and cargo fetch goes below
$HOLM_CACHE (by default $XDG_CACHE_HOME/holm), never into the tree.

A newer etcd (3.5.1) is fetched there too. HOLM_ETCD=PATH holds Holm against another one instead,
with the etcdctl and etcdutl beside it, or those that HOLM_ETCDCTL and HOLM_ETCDUTL name.

  HOLM_KILLS=5000 cargo test -p holm-process-tests --test kill    the kill loop, by hand
";

/// Twice what a fresh machine of two cores takes: what is not done by then hangs.
const PATIENCE: Duration = Duration::from_secs(40 * 60);

/// Runs everything and closes with the count.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    if !arguments.is_empty() {
        bail!("ci takes no arguments");
    }
    thread::spawn(give_up_in_time);
    let mut tally = Tally::default();
    check::all(&mut tally);
    test::all(&mut tally, None, test::Built::All);
    process_tests(&mut tally);
    tally.step("doc", doc);
    tally.step("promises", promises::check);
    deny(&mut tally);
    tally.close()
}

/// Ends this process, and so the run, when something hangs: the last step shown is the one.
#[expect(clippy::exit, reason = "what hangs cannot be asked to return")]
fn give_up_in_time() {
    thread::sleep(PATIENCE);
    println!(
        "ci: not done within {} minutes, the step above hangs",
        PATIENCE.as_secs() / 60
    );
    println!("0 passed, 1 failed");
    std::process::exit(1);
}

fn process_tests(tally: &mut Tally) {
    for missing in peers::provide() {
        tally.untested(missing);
    }
    tally.step("process", || {
        let mut command = if test::has_nextest() {
            // With the features of the other tests, so that next to nothing is built again.
            must(&mut cargo(&[
                "build",
                "--quiet",
                "--workspace",
                "--bins",
                "--tests",
            ]))?;
            let mut command = cargo(&["nextest", "run", "--workspace", "--no-fail-fast"]);
            command.args([
                "-E",
                "package(holm-process-tests)",
                "--success-output",
                "immediate",
                "--test-threads",
            ]);
            // They wait for processes, disks and clocks more than they compute.
            let cores = thread::available_parallelism().map_or(2, usize::from);
            command.arg((2 * cores).to_string());
            command
        } else {
            must(&mut cargo(&["build", "--quiet", "--package", "holm"]))?;
            cargo(&["test", "--package", "holm-process-tests", "--no-fail-fast"])
        };
        command.env("HOLM_BIN", built("holm")?);
        tests(&mut command)
    });
}

/// Where cargo puts what it builds for debugging.
pub(crate) fn built(name: &str) -> Result<String> {
    Ok(format!("{}/debug/{name}", target()?))
}

/// The target folder, as cargo itself says it.
pub(crate) fn target() -> Result<String> {
    let mut command = cargo(&["metadata", "--format-version", "1", "--no-deps"]);
    let metadata: serde_json::Value = serde_json::from_str(&crate::process::output(&mut command)?)?;
    let folder = metadata
        .get("target_directory")
        .and_then(serde_json::Value::as_str);
    Ok(folder
        .context("cargo metadata names no target directory")?
        .to_owned())
}

fn doc() -> Result<Counts> {
    let mut command = cargo(&["doc", "--workspace", "--no-deps", "--quiet"]);
    must(command.env("RUSTDOCFLAGS", "-D warnings"))?;
    Ok(Counts::PASSED)
}

fn deny(tally: &mut Tally) {
    if find("cargo-deny").is_none() {
        tally.untested("deny.toml: cargo-deny is not installed");
        return;
    }
    tally.step("deny", || {
        must(Command::new("cargo-deny").args(["check", "bans", "licenses", "sources"]))?;
        Ok(Counts::PASSED)
    });
}
