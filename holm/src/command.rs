//! Every command of the binary, and what it ends with.
//!
//! Exit codes: 0 done, 1 failed, refused or not found, 2 the command line is wrong.

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use clap_complete::Shell;
use serde_json::json;

use crate::ask::{self, Ask, Found};
use crate::bench;
use crate::client::ConnectionOptions;
use crate::config::Flags;
use crate::screen::Screen;
use crate::up::{self, Calling};

const EXAMPLES: &str = "\
Examples:
  holm up                       start a node for etcd clients on 127.0.0.1:2379
  holm put a 1 && holm get a    talk to it
  holm status                   how it is
  holm bench kv put             how fast it is

Exit codes: 0 done, 1 failed, refused or not found, 2 the command line is wrong.";

/// An etcd v3 compatible store, its client and its load generator in one binary
#[derive(Debug, Parser)]
#[command(name = "holm", version, arg_required_else_help = true, after_help = EXAMPLES)]
#[command(max_term_width = 120, infer_subcommands = false)]
pub(crate) struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start a node
    #[command(after_help = up::EXAMPLES)]
    Up(Flags),
    #[command(flatten)]
    Ask(Ask),
    /// Measure a server, or the floor beneath it
    #[command(subcommand)]
    Bench(bench::Bench),
    /// Print the completions of a shell
    #[command(after_help = "Example:\n  holm completions bash > /etc/bash_completion.d/holm")]
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Show the version of this binary
    Version {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

/// The version of etcd's API that nodes advertise.
pub(crate) const ETCD_VERSION: &str = "3.6.12";

/// The command line as clap has it: client commands, and only they, have the connection's flags.
pub(crate) fn grammar() -> clap::Command {
    let asks = Ask::augment_subcommands(clap::Command::new("holm"));
    let names: Vec<String> = asks
        .get_subcommands()
        .map(|ask| ask.get_name().to_owned())
        .collect();
    names
        .into_iter()
        .fold(CommandLine::command(), |command, name| {
            command.mut_subcommand(name, |ask| {
                // Adding the flags also puts their own description in place of the command's.
                let about = ask.get_about().cloned().unwrap_or_default();
                ConnectionOptions::augment_args(ask).about(about)
            })
        })
}

/// Runs what the command line says.
pub(crate) fn run(words: Vec<OsString>) -> ExitCode {
    let calling = Calling::of(&words);
    let words = match calling {
        Calling::Holm => words,
        Calling::Etcd if up::asks_version(&words) => return finish(etcd_version()),
        Calling::Etcd => up::as_up(&words),
    };
    let matches = grammar().get_matches_from(words);
    let line = match CommandLine::from_arg_matches(&matches) {
        Ok(line) => line,
        Err(error) => error.format(&mut grammar()).exit(),
    };
    finish(match &line.command {
        Command::Up(flags) => up::run(calling, flags).map(|()| Found::Yes),
        Command::Ask(ask) => {
            let connection = matches.subcommand().map(|(_name, flags)| flags);
            let connection = connection.expect("a client command was read from these matches");
            ConnectionOptions::from_arg_matches(connection)
                .map_err(anyhow::Error::from)
                .and_then(|connection| ask_node(ask, &connection))
        }
        Command::Bench(bench) => bench::run(bench).and_then(|text| say(&text)),
        Command::Completions { shell } => completions(*shell),
        Command::Version { json } => version(*json),
    })
}

fn finish(result: anyhow::Result<Found>) -> ExitCode {
    match result {
        Ok(Found::Yes) => ExitCode::SUCCESS,
        Ok(Found::No) => ExitCode::FAILURE,
        Err(error) => {
            // With standard error gone there is nobody left to tell.
            drop(writeln!(std::io::stderr(), "error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn say(text: &str) -> anyhow::Result<Found> {
    Screen::new(false).show(text, &json!(null))?;
    Ok(Found::Yes)
}

fn ask_node(ask: &Ask, connection: &ConnectionOptions) -> anyhow::Result<Found> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(ask::run(ask, connection, Screen::new(connection.json)))
}

fn completions(shell: Shell) -> anyhow::Result<Found> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut grammar(), "holm", &mut text);
    Screen::new(false).raw(&text)?;
    Ok(Found::Yes)
}

fn version(json: bool) -> anyhow::Result<Found> {
    let holm = env!("CARGO_PKG_VERSION");
    let text = format!("holm {holm}, etcd API {ETCD_VERSION}");
    Screen::new(json).show(&text, &json!({ "holm": holm, "etcd_api": ETCD_VERSION }))?;
    Ok(Found::Yes)
}

/// What scripts that look for etcd read: the first line is etcd's.
fn etcd_version() -> anyhow::Result<Found> {
    say(&format!(
        "etcd Version: {ETCD_VERSION}\nholm Version: {}",
        env!("CARGO_PKG_VERSION")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_line_is_consistent() {
        grammar().debug_assert();
    }

    #[test]
    fn every_command_says_what_it_does() {
        let grammar = grammar();
        let abouts: Vec<String> = grammar
            .get_subcommands()
            .map(|command| {
                command
                    .get_about()
                    .map(ToString::to_string)
                    .unwrap_or_default()
            })
            .collect();
        for (at, about) in abouts.iter().enumerate() {
            assert!(
                !about.is_empty() && !abouts[..at].contains(about),
                "{about:?}"
            );
        }
    }

    #[test]
    fn connection_flags_belong_to_client_commands_alone() {
        assert!(
            grammar()
                .try_get_matches_from(["holm", "get", "a", "--endpoints", "x:1"])
                .is_ok()
        );
        assert!(
            grammar()
                .try_get_matches_from(["holm", "lease", "list", "--json"])
                .is_ok()
        );
        assert!(
            grammar()
                .try_get_matches_from(["holm", "version", "--endpoints", "x:1"])
                .is_err()
        );
    }
}
