//! `bench`: figures as ratios against a peer in the same run.

use anyhow::{Result, bail};

pub(crate) const PAGE: &str = "
  cargo xtask bench kv --peer etcd

Starts `holm up` and etcd on free loopback ports, each with a fresh data directory on the same
disk, runs `holm bench kv` against one and the other in turn, and prints the ratios of the
medians.
";

/// Runs a benchmark.
pub(crate) fn run(_arguments: &[String]) -> Result<()> {
    bail!("holm has no load generator yet")
}
