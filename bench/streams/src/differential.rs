//! Random queries over random rows, in the binary and in a peer that is installed: what both say is compared.
//!
//! Queries, rows and the comparison are Python's (`differential.py`), which reaches the peers, too.

use std::process::{Command, ExitCode};

use crate::files::binary;

const SCRIPT: &str = include_str!("differential.py");
const PAGE: &str = "
  cargo xtask bench streams --differential duckdb                 100 random queries
  cargo xtask bench streams --differential flink --queries 50 --seed 7

The binary is the one that HOLM_BIN names, or target/release/holm. Peers come from PyPI: python3 -m venv V,
V/bin/pip install duckdb (or apache-flink, which wants Java 17), and HOLM_PYTHON=V/bin/python.
";

/// Seed, queries and peer.
fn asked() -> Result<(u32, u32, String), String> {
    let (mut seed, mut queries, mut peer) = (1, 100, String::new());
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut number = || words.next().and_then(|text| text.parse().ok());
        match word.as_str() {
            "--differential" => peer = words.next().unwrap_or_default(),
            "--seed" => seed = number().ok_or("--seed N")?,
            "--queries" => queries = number().ok_or("--queries N")?,
            other => return Err(format!("{other} is nothing that is asked here{PAGE}")),
        }
    }
    if matches!(peer.as_str(), "duckdb" | "flink") {
        return Ok((seed, queries, peer));
    }
    Err(format!("it is compared with duckdb or with flink{PAGE}"))
}

fn compare() -> Result<ExitCode, String> {
    let (seed, queries, peer) = asked()?;
    let binary = binary()?;
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let python = std::env::var("HOLM_PYTHON").unwrap_or_else(|_unset| "python3".to_owned());
    let mut command = Command::new(&python);
    command.args(["-c", SCRIPT]).arg(binary).arg(folder.path());
    command.args([seed.to_string(), queries.to_string(), peer]);
    let ended = command.status();
    let ended = ended.map_err(|error| format!("{python}: {error}{PAGE}"))?;
    Ok(if ended.success() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Runs the comparison.
pub(crate) fn main() -> ExitCode {
    compare().unwrap_or_else(|text| crate::refuse(&text))
}
