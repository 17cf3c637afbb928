//! Every command of the binary, and what it ends with.
//!
//! Exit codes: 0 done, 1 failed or refused, 2 the command line is wrong.

use std::io::Write;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::bench;

/// An etcd v3 compatible store, its client and its load generator in one binary
#[derive(Debug, Parser)]
#[command(name = "holm", version, arg_required_else_help = true)]
pub(crate) struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Measure a server, or the floor beneath it
    #[command(subcommand)]
    Bench(bench::Bench),
}

/// Runs what the command line says.
pub(crate) fn run(line: &CommandLine) -> ExitCode {
    let result = match &line.command {
        Command::Bench(bench) => bench::run(bench),
    };
    let written = match &result {
        Ok(text) => writeln!(std::io::stdout(), "{text}"),
        Err(error) => writeln!(std::io::stderr(), "error: {error:#}"),
    };
    if result.is_ok() && written.is_ok() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
