//! `holm stream`: SQL over events. Files, threads and the terminal are here; the rest is the
//! libraries'.

mod aside;
mod draw;
mod explain;
mod flows;
mod generate;
mod input;
mod kept;
mod live;
mod named;
mod output;
mod run;
mod site;
mod top;

use std::io::Write;
use std::process::ExitCode;

use clap::Subcommand;

pub(crate) const EXAMPLES: &str = "\
Examples:
  holm stream gen cluster --rows 100000 > events.jsonl
  holm stream run query.sql < events.jsonl        windows over a file, rows to standard output
  holm stream explain query.sql --input events.jsonl
  holm stream create cm --file cm.sql             one that keeps running in a site

A query over the table `stdin` needs no CREATE TABLE: its columns are found from the first 1,000 rows.
docs/STREAMS.md has the dialect. Exit codes: 0 complete; 1 input or output failed; 2 refused; 3 rows late or
diverted (--strict).";

/// What can be done with streams
#[derive(Debug, Subcommand)]
pub(crate) enum StreamCommand {
    /// Run a query over input that ends, and print the rows that come out
    #[command(after_help = run::EXAMPLES)]
    Run(run::Asked),
    /// Show how a query would be run, and what each way to do it would cost
    #[command(after_help = explain::EXAMPLES)]
    Explain(explain::Asked),
    /// Make a stream that keeps running in a site
    #[command(after_help = site::EXAMPLES)]
    Create(site::Create),
    /// Show all streams of a site
    #[command(after_help = site::EXAMPLES)]
    List(site::At),
    /// Show how a stream is, what it promises and what it does
    #[command(after_help = site::EXAMPLES)]
    Show(site::One),
    /// Let a stream rest
    #[command(after_help = site::EXAMPLES)]
    Pause(site::One),
    /// Let a stream go on that rests or has failed
    #[command(after_help = site::EXAMPLES)]
    Resume(site::One),
    /// Drop a stream and all that it keeps; what its sink has stays
    #[command(after_help = site::EXAMPLES)]
    Drop(site::Drop),
    /// Read all that a stream keeps from its disk, and say whether it is whole
    #[command(after_help = site::EXAMPLES)]
    Verify(site::One),
    /// Show what the queries of a site do: rates, watermarks, late rows, state
    #[command(after_help = top::EXAMPLES)]
    Top(top::Asked),
    /// Make events for trying things out: the same ones for the same seed
    #[command(after_help = generate::EXAMPLES)]
    Gen(generate::Asked),
}

/// Why a command ended early, and with which code.
#[derive(Debug)]
pub(crate) enum Ended {
    /// The text or the command line cannot be: 2.
    Refused(String),
    /// Input or output failed: 1.
    Failed(String),
    /// Nobody reads the output any more: 0.
    Unread,
}

impl Ended {
    pub(crate) fn failed(what: impl std::fmt::Display, error: impl std::fmt::Display) -> Self {
        Self::Failed(format!("{what}: {error}"))
    }
}

/// Runs a command.
pub(crate) fn command(command: &StreamCommand) -> ExitCode {
    let ended = match command {
        StreamCommand::Run(asked) => run::run(asked),
        StreamCommand::Explain(asked) => explain::explain(asked),
        StreamCommand::Create(asked) => site::create(asked),
        StreamCommand::List(at) => site::list(at),
        StreamCommand::Show(asked) => site::show(asked),
        StreamCommand::Pause(asked) => site::pause(asked),
        StreamCommand::Resume(asked) => site::resume(asked),
        StreamCommand::Drop(asked) => site::drop(asked),
        StreamCommand::Verify(asked) => site::verify(asked),
        StreamCommand::Top(asked) => top::top(asked),
        StreamCommand::Gen(asked) => generate::generate(asked),
    };
    let (text, code) = match ended {
        Ok(code) => return ExitCode::from(code),
        Err(Ended::Unread) => return ExitCode::SUCCESS,
        Err(Ended::Refused(text)) => (format!("refused: {text}"), 2),
        Err(Ended::Failed(text)) => (format!("error: {text}"), 1),
    };
    // With standard error gone there is nobody left to tell.
    drop(writeln!(std::io::stderr(), "{text}"));
    ExitCode::from(code)
}
