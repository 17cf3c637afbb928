//! `holm bench ready`: how long until a server answers a linearizable get.

use std::thread;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use serde::Serialize;

use super::call::call;
use super::message::Template;
use super::session::Route;
use super::tally::{Clock, in_nanos};
use crate::quantity::{self, parse_duration};

/// Flags of `holm bench ready`.
#[derive(Clone, Debug, Args)]
pub(crate) struct ReadyOptions {
    /// The server, host:port, plain TCP
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:2379")]
    pub(super) endpoint: String,

    /// When to give up
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = parse_duration)]
    timeout: Duration,

    /// Print one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

pub(super) const EXAMPLES: &str = "\
Examples:
  holm bench ready --endpoint 127.0.0.1:2379    ends when the server there answers, and says how long that took

Asks for one key, linearizably, and asks again a millisecond after each refusal.";

/// What was found.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Ready {
    nanos: u64,
    attempts: u64,
}

/// The pause after a refusal.
const PAUSE: Duration = Duration::from_millis(1);

/// Asks until there is an answer.
pub(super) fn run(options: &ReadyOptions) -> anyhow::Result<Ready> {
    let clock = Clock::start();
    let mut attempts = 0;
    loop {
        attempts += 1;
        let route = Route::new(&options.endpoint, "/etcdserverpb.KV/Range", None);
        match call(&options.endpoint, route, &Template::get(false)) {
            Ok(_answer) => {
                return Ok(Ready {
                    nanos: clock.now(),
                    attempts,
                });
            }
            Err(error) if clock.now() > in_nanos(options.timeout) => {
                let waited = quantity::nanos(in_nanos(options.timeout) as f64);
                return Err(error).with_context(|| format!("no answer within {waited}"));
            }
            Err(_not_yet) => thread::sleep(PAUSE),
        }
    }
}

impl std::fmt::Display for Ready {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (took, attempts) = (quantity::nanos(self.nanos as f64), self.attempts);
        write!(out, "answered after {took}, at attempt {attempts}")
    }
}
