//! `holm up`: a node, from its configuration to its last answer.
//!
//! Starting goes from the inside out: configuration, log, the node's threads, listeners, banner. A refusal comes
//! before anything was changed. Stopping goes the other way: listeners close, requests in hand are answered, the
//! node's threads end; a second signal ends the process at once.

mod banner;
mod calling;
mod compaction;
mod doors;
mod signals;

use anyhow::Context;

pub(crate) use calling::{Calling, as_up, asks_version};

use crate::config::{Config, Environment, Flags};

pub(crate) const EXAMPLES: &str = "\
Examples:
  holm up                                        etcd clients connect to 127.0.0.1:2379
  holm up --data-dir /var/lib/holm --config /etc/holm.toml
  holm up --listen 10.0.0.7:2379 --cert-file node.pem --key-file node.key
  HOLM_QUOTA_BACKEND_BYTES=8GiB holm up          any flag as a variable

A flag wins over its HOLM_ variable, the variable over the file, the file over the default. The file is TOML:
  data-dir = \"/var/lib/holm\"
  quota-backend-bytes = \"8GiB\"

SIGTERM or Ctrl-C stop the node when its requests are answered; a second one stops it at once. Called as `etcd`
(a link with that name), the binary takes etcd's flags and ETCD_ variables.";

/// Runs a node until it is told to stop.
///
/// # Errors
///
/// Why it did not start, or why it could not go on.
pub(crate) fn run(calling: Calling, flags: &Flags) -> anyhow::Result<()> {
    let environment = Environment::of_process(calling);
    let config = Config::load(calling, flags, environment).context("read the configuration")?;
    holm_telemetry::log_to_stderr(&config.log)?;
    for remark in &config.remarks {
        tracing::warn!(remark, "a setting without effect");
    }
    anyhow::bail!("this build cannot start a node: its engine is not wired in yet")
}
