//! The flags of `holm bench`.

use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

use super::{calibrate, floor, ready};
use crate::quantity::{parse_duration, parse_rate};

/// What to measure.
#[derive(Debug, Subcommand)]
pub(crate) enum Bench {
    /// Load a server through etcd's API and report throughput, latency and cost
    #[command(after_help = KV_EXAMPLES)]
    Kv(KvOptions),
    /// Measure what work costs on this machine, for rehearsals of it
    #[command(after_help = calibrate::EXAMPLES)]
    Calibrate(calibrate::CalibrateOptions),
    /// Measure what one durable write costs on a disk
    #[command(after_help = floor::EXAMPLES)]
    Floor(floor::FloorOptions),
    /// Wait until a server answers, and say how long that took
    #[command(after_help = ready::EXAMPLES)]
    Ready(ready::ReadyOptions),
}

const KV_EXAMPLES: &str = "\
Examples:
  holm bench kv put                                  64 clients, 256-byte values, 10 s
  holm bench kv put --clients 1000 --pid $(pidof etcd)   with the server's CPU, memory and syncs
  holm bench kv get --rate 20000                     at a fixed rate, latency from the intended send time
  holm bench kv list --range-keys 10000 --value-bytes 1024 --clients 4
  holm bench kv watch --watchers 1000 --stalled 1    1 writer, 1000 watchers, and one that never reads
  holm bench kv fill --keys 1000000 --txn-puts 100   a million keys, each once, and then no more

The generator runs in one thread, keeps its requests prepared as bytes and speaks HTTP/2 itself, so that it costs a
few microseconds per operation. It works against any etcd v3 server without TLS. Keys are /bench/<16 digits>; get and
list first write those that are missing.";

/// One kind of load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Workload {
    /// Put one key
    Put,
    /// Get one key
    Get,
    /// Get a range of keys
    List,
    /// Put several keys in one transaction
    Txn,
    /// Put every key once, in transactions of --txn-puts, and end; --passes writes them again
    Fill,
    /// One writer puts, many watchers receive
    Watch,
    /// Ask whether the server is well: the cheapest request there is, the floor beneath the others
    Echo,
}

/// In which order keys are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Order {
    /// A fixed pseudo-random sequence
    Random,
    /// One after the other
    Sequential,
}

/// Flags of `holm bench kv`.
#[derive(Clone, Debug, Args)]
pub(crate) struct KvOptions {
    /// What to do
    #[arg(value_enum)]
    pub(crate) workload: Workload,

    /// The server, host:port, plain TCP; several, commas between, are members of one cluster and share the connections
    #[arg(
        long,
        alias = "endpoints",
        value_name = "ADDRESS",
        default_value = "127.0.0.1:2379",
        value_delimiter = ','
    )]
    pub(crate) endpoint: Vec<String>,

    /// Requests in flight at most; each client sends its next request when its last was answered
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) clients: u32,

    /// Connections that the clients share [default: a tenth of the clients, 1 to 100]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) connections: Option<u32>,

    /// How long to measure
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = parse_duration)]
    pub(crate) duration: Duration,

    /// put, get, list, txn, echo: end when the standard input does, at --duration at the latest; for load beside
    /// something that takes nobody knows how long
    #[arg(long)]
    pub(crate) until_eof: bool,

    /// Load before measuring begins
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = parse_duration)]
    pub(crate) warmup: Duration,

    /// Send at this many operations per second instead of as fast as answers come; latency then counts from the
    /// moment each request was due, so a stalled server cannot hide the requests it delayed
    #[arg(long, value_name = "PER_SECOND", value_parser = parse_rate)]
    pub(crate) rate: Option<f64>,

    /// Bytes of each value
    #[arg(long, value_name = "BYTES", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=1_048_576))]
    pub(crate) value_bytes: u32,

    /// Keys in use
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) keys: u64,

    /// In which order keys are used
    #[arg(long, value_enum, default_value_t = Order::Random)]
    pub(crate) order: Order,

    /// get, list: let the server answer from what it has, without asking whether that is the newest
    #[arg(long)]
    pub(crate) serializable: bool,

    /// list: keys per request
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) range_keys: u64,

    /// txn, fill: puts per transaction
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=128))]
    pub(crate) txn_puts: u32,

    /// fill: how often to write the keys: first in their order, then in --order
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) passes: u32,

    /// watch: watchers, each on its own stream
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) watchers: u32,

    /// watch: further watchers that never read what they are sent, each on its own connection with a window of
    /// 64 KiB, as stock clients have
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) stalled: u32,

    /// Threads of the generator
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub(crate) threads: u32,

    /// The server's process, on this machine: also report its CPU per operation, memory and write system calls; of
    /// several, commas between, the sum
    #[arg(long, value_name = "PID", value_delimiter = ',')]
    pub(crate) pid: Vec<u32>,

    /// Where the server's /metrics are, host:port; of several, commas between, the sum [default: the endpoints]
    #[arg(long, value_name = "ADDRESS", value_delimiter = ',')]
    pub(crate) metrics: Vec<String>,

    /// Token to send with each request, if the server wants one (see `holm auth token`)
    #[arg(long, value_name = "TOKEN")]
    pub(crate) token: Option<String>,

    /// Print one JSON object instead of a table
    #[arg(long)]
    pub(crate) json: bool,
}

impl KvOptions {
    /// The first endpoint: where keys are filled in, and where watchers and their writer are.
    pub(crate) fn first(&self) -> &str {
        self.endpoint.first().map_or("", String::as_str)
    }

    /// Connections to open for `clients` clients.
    pub(crate) fn connections(&self, clients: u32) -> u32 {
        self.connections
            .unwrap_or_else(|| (clients / 10).clamp(1, 100))
            .min(clients)
    }
}
