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
use crate::assertion;
use crate::bench;
use crate::cache::{self, CacheOptions};
use crate::client::ConnectionOptions;
use crate::config::Flags;
use crate::help::laid_out;
use crate::rehearse::{self, Rehearse};
use crate::screen::Screen;
use crate::sites::{self, LinkCommand, SiteCommand};
use crate::stream::{self, StreamCommand};
use crate::up::{self, Calling};

const EXAMPLES: &str = "\
Examples:
  holm up                       start a node for etcd clients on 127.0.0.1:2379
  holm put a 1 && holm get a    talk to it
  holm status                   how it is
  holm bench kv put             how fast it is
  holm up --sites 3             three sites on this machine, and links to cut
  holm up --cluster shop        found a cluster; `holm site add b` lets another machine join
  holm keyspace create fleet --guarantee local-first
                                one that every site writes to, cut off or not
  holm stream run cm.sql < events.jsonl
                                windows over events
  holm rehearse cut-wan.toml    what would happen, in virtual time

Exit codes: 0 done, 1 failed, refused or not found, 2 the command line is wrong.";

const BENCH_EXAMPLES: &str = "\
Examples:
  holm bench floor                  what this machine's disk and loopback could do
  holm bench kv put                 how fast a running node is";

const COMPLETIONS_EXAMPLES: &str = "\
Examples:
  source <(holm completions bash)                                    for this shell
  holm completions bash > /etc/bash_completion.d/holm                for all
  holm completions zsh > \"${fpath[1]}/_holm\"
  holm completions fish > ~/.config/fish/completions/holm.fish";

/// State and streams at sites that may be cut off: keyspaces for any etcd client, SQL over events,
/// and rehearsals of both in virtual time
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
    /// Cut, slow and heal the links between sites of this machine
    #[command(after_help = sites::LINK_EXAMPLES)]
    Link(LinkCommand),
    /// Let sites of other machines join; kill, start, stop and pause those of this one
    #[command(after_help = sites::SITE_EXAMPLES)]
    Site(SiteCommand),
    /// Answer reads of another site's keyspace here, never older than a bound
    #[command(after_help = cache::EXAMPLES)]
    Cache(CacheOptions),
    /// Measure a server, or the floor beneath it
    #[command(subcommand, after_help = BENCH_EXAMPLES)]
    Bench(bench::Bench),
    /// Play a scenario in virtual time, faults and all, and check every promise
    #[command(after_help = rehearse::EXAMPLES)]
    Rehearse(Rehearse),
    /// Run SQL over events: windows over files and standard input
    #[command(subcommand, after_help = stream::EXAMPLES)]
    Stream(StreamCommand),
    /// Print the completions of a shell
    #[command(after_help = COMPLETIONS_EXAMPLES)]
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Fail an assertion, to see what becomes of a process that does
    #[command(hide = true)]
    Fail,
    /// Show the version of this binary
    #[command(after_help = "Examples:\n  holm version\n  holm version --json")]
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
        .mut_subcommands(show_examples)
}

/// Where a subcommand has no examples of its own, it shows its parent's.
fn show_examples(command: clap::Command) -> clap::Command {
    let Some(examples) = command.get_after_help().cloned() else {
        return command;
    };
    let shown = laid_out(&examples.to_string());
    command.after_help(shown).mut_subcommands(|inner| {
        let has_own = inner.get_after_help().is_some();
        show_examples(if has_own {
            inner
        } else {
            inner.after_help(examples.clone())
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
        Command::Link(link) => sites::link(link),
        Command::Site(site) => sites::site(site),
        Command::Bench(bench) => bench::run(bench).and_then(|said| {
            let found = say(&said.text)?;
            said.failure
                .map_or(Ok(found), |it| Err(anyhow::anyhow!(it)))
        }),
        Command::Cache(options) => cache::run(options).map(|()| Found::Yes),
        Command::Rehearse(asked) => return rehearse::command(asked),
        Command::Stream(asked) => return stream::command(asked),
        Command::Fail => {
            assertion::fails();
            Ok(Found::Yes)
        }
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

    fn lacking_examples(command: &clap::Command, path: &str, found: &mut Vec<String>) {
        let path = format!("{path} {}", command.get_name());
        let help = command.get_after_help().map(ToString::to_string);
        let is_shown = !command.is_hide_set();
        if is_shown && !help.is_some_and(|text| text.contains("Examples:\n  ")) {
            found.push(path.clone());
        }
        for inner in command.get_subcommands() {
            lacking_examples(inner, &path, found);
        }
    }

    #[test]
    fn every_command_shows_examples() {
        let mut found = Vec::new();
        lacking_examples(&grammar(), "", &mut found);
        assert!(found.is_empty(), "{found:?}");
    }

    /// The words of a line, those between quotes as one.
    fn words(line: &str) -> Vec<String> {
        let mut words = Vec::new();
        for (at, part) in line.split('\'').enumerate() {
            if at % 2 == 1 {
                words.push(part.to_owned());
            } else {
                words.extend(part.split_whitespace().map(str::to_owned));
            }
        }
        words
    }

    /// The words after `holm` in each example are a command line that is understood.
    #[test]
    fn every_example_is_understood() {
        fn examples(command: &clap::Command, found: &mut Vec<String>) {
            let help = command.get_after_help().map(ToString::to_string);
            let help = help.unwrap_or_default();
            let parts = help.split("Examples:\n").nth(1).unwrap_or_default();
            let lines = parts.lines().take_while(|line| line.starts_with("  "));
            for line in lines.flat_map(|line| line.split("&&")) {
                // What a shell would put in is any number here.
                let line = line.replace("$(pidof etcd)", "1");
                let line = line.split(" | ").next().unwrap_or_default();
                let words = line.trim().split("   ").next().unwrap_or_default();
                let words = words.split(['<', '>']).next().unwrap_or_default();
                found.extend(words.starts_with("holm ").then(|| words.to_owned()));
            }
            command.get_subcommands().for_each(|it| examples(it, found));
        }
        let mut found = Vec::new();
        examples(&grammar(), &mut found);
        assert!(found.len() > 30, "{found:?}");
        for line in found {
            let parsed = grammar().try_get_matches_from(words(&line));
            assert!(parsed.is_ok(), "{line}: {}", parsed.unwrap_err());
        }
    }

    #[test]
    fn completions_name_every_command() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut grammar(), "holm", &mut text);
            let text = String::from_utf8(text).unwrap();
            for command in grammar().get_subcommands() {
                assert!(
                    text.contains(command.get_name()),
                    "{shell}: {}",
                    command.get_name()
                );
            }
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
