//! The holm binary: the command line, the configuration, and the composition of all the parts.
//!
//! Route map: [`command`] names every command; [`bench`] measures servers; [`quantity`] reads and writes durations,
//! sizes and counts.

mod bench;
mod command;
mod quantity;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let line = command::CommandLine::parse();
    command::run(&line)
}
