//! `holm cache`: keys of another site's keyspace, kept here and never older than a bound.
//!
//! ```text
//!  clients ─► front ─┬─ serializable get of one key ─► keeper: spine/freshness, from memory
//!                    └─ all else ─► pass ─► home            ▲ told by
//!                                           home ◄── link ──┘ holm.v1.Cache/Follow
//! ```
//!
//! Start at `front.rs`; `keeper.rs` has what connections share, `link.rs` the way home over which
//! the cache is told what happens, `pass.rs` the calls that only home can do, `pages.rs` what is
//! shown.

mod answer;
mod front;
mod keeper;
mod link;
mod pages;
mod pass;

use std::convert::Infallible;
use std::io::{IsTerminal as _, Write as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::{Args, ValueEnum};
use holm_etcd::holm::cache::BOUNDS;
use holm_freshness::{CacheConfig, OnCut};
use holm_net::{CertificateFiles, Certificates, Limits, ListenConfig, Listener, Room};
use holm_telemetry::{LogConfig, LogFormat};
use tokio::sync::watch;

use crate::client::ConnectionOptions;
use crate::quantity::{bytes, parse_bytes, parse_duration};
use crate::screen::Screen;
use crate::up::{Ends, until};
use front::Front;
use keeper::{Keeper, seconds};
use link::Home;

pub(crate) const EXAMPLES: &str = "\
Examples:
  holm cache                                     keys of the node at 127.0.0.1:2379, at most 1 s old, on 127.0.0.1:26379
  holm cache prices --from https://home.example:2379 --from-cacert ca.pem --staleness 5s
  holm cache --on-cut serve                      when cut off, answer with what there is, and say how old it is
  holm cache --json                              how it is, a JSON object a second

Answered here, from memory: a serializable read of one key as it is now,
  etcdctl --endpoints 127.0.0.1:26379 get --consistency=s KEY
or a Range with `serializable`, one key, no revision and no login. It is never older than --staleness, whatever the
network does: age counts from when the cache last asked whether it lacks anything. Every other call (puts, watches,
leases, transactions, linearizable reads, lists) is carried home and back as it is.

When nothing younger than --staleness is known, reads go home. When home cannot be reached either:
  --on-cut refuse   UNAVAILABLE, `cache is 4.2 s old, bound is 1 s`
  --on-cut serve    the newest that is known; `holm-age-ms` in the answer's head says how old that may be
Every answer from memory has `holm-age-ms`. A round trip above half of --staleness sends all reads home, with a warning.

Whether home sends new values or only says that old ones are over is decided for each key by how it is read and
written. When --bytes are full, what was not read for longest goes.

http://LISTEN/status, /metrics (Prometheus) and /health say how it is; on a terminal a line does, each second.";

/// How it is told to begin
#[derive(Clone, Debug, Args)]
pub(crate) struct CacheOptions {
    /// The keyspace
    #[arg(default_value = "default")]
    keyspace: String,

    /// Nodes that have it, host:port or URL, commas between; the first that answers is home
    #[arg(
        long,
        value_name = "ADDRESSES",
        value_delimiter = ',',
        default_value = "http://127.0.0.1:2379"
    )]
    from: Vec<String>,

    /// Where clients connect
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:26379")]
    listen: SocketAddr,

    /// How old an answer may be: 20ms to 1h
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = staleness)]
    staleness: Duration,

    /// How much memory keys and values may take
    #[arg(long, value_name = "SIZE", default_value = "64MiB", value_parser = parse_bytes)]
    bytes: u64,

    /// What becomes of reads when nothing young enough is known and home is out of reach
    #[arg(long, value_name = "WHAT", default_value = "refuse")]
    on_cut: Cut,

    /// Whom to trust for the home's certificate, PEM; makes the connection TLS
    #[arg(long, value_name = "FILE")]
    from_cacert: Option<PathBuf>,

    /// Our certificate for the home, PEM, where it asks for one
    #[arg(long, value_name = "FILE", requires = "from_key")]
    from_cert: Option<PathBuf>,

    /// That certificate's private key, PEM
    #[arg(long, value_name = "FILE", requires = "from_cert")]
    from_key: Option<PathBuf>,

    /// The certificate for our clients, PEM; needed off loopback
    #[arg(long, value_name = "FILE", requires = "key_file")]
    cert_file: Option<PathBuf>,

    /// That certificate's private key, PEM
    #[arg(long, value_name = "FILE", requires = "cert_file")]
    key_file: Option<PathBuf>,

    /// Say how it is as JSON, one object a second
    #[arg(long)]
    json: bool,
}

/// What becomes of a read that can be answered nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Cut {
    /// It is refused, and told how old the cache is
    Refuse,
    /// It is answered with what there is, and told how old that is
    Serve,
}

/// How many reads may wait for a fetch.
const WAITING_MAX: usize = 10_000;
/// How long calls in hand may take once it is told to stop, before those that go home are ended.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// And before all are cut.
const GRACE: Duration = Duration::from_secs(10);
/// How long a call to find the keyspace may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Runs a cache until it is told to stop.
///
/// # Errors
///
/// Why it did not start, or that the home has no such keyspace.
pub(crate) fn run(options: &CacheOptions) -> anyhow::Result<()> {
    holm_telemetry::log_to_stderr(&LogConfig {
        format: LogFormat::Text,
        level: String::new(),
    })?;
    let threads = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("holm-cache")
        .build()
        .context("start the cache's threads")?;
    let ended = threads.block_on(live(options));
    threads.shutdown_background();
    ended
}

async fn live(options: &CacheOptions) -> anyhow::Result<()> {
    // A cache has no disk that could fail.
    let (_never, failure) = watch::channel(None);
    let mut ends = Ends::listen(failure, false).context("listen for signals")?;
    let listener = Listener::bind(ListenConfig {
        address: options.listen,
        certificates: certificates(options)?,
        room: Room::of_process(),
        limits: Limits::default(),
    });
    let listener = listener.context("open --listen")?;
    let keeper = Arc::new(Keeper::new(CacheConfig {
        bound: options.staleness,
        bytes_max: usize::try_from(options.bytes).unwrap_or(usize::MAX),
        waiting_max: WAITING_MAX,
        on_cut: match options.on_cut {
            Cut::Refuse => OnCut::Refuse,
            Cut::Serve => OnCut::Serve,
        },
    }));
    greet(options, listener.address());
    let home = home(options);
    let front = Front {
        keeper: Arc::clone(&keeper),
        home: home.clone(),
    };
    let (stop, stopped) = watch::channel(false);
    let told = stopped.clone();
    let serving = listener.serve(until(stopped), move |connection| {
        front.clone().serve(connection, told.clone())
    });
    let mut serving = std::pin::pin!(serving);
    let linked = link::keep(&home, &keeper);
    let shown = show(options, &keeper);
    let mut working = std::pin::pin!(async {
        tokio::select! {
            missing = linked => missing,
            never = shown => match never {},
        }
    });
    tokio::select! {
        () = &mut serving => return Ok(()),
        missing = &mut working => return Err(missing),
        end = ends.next() => tracing::info!(?end, "stopping"),
    }
    stop.send_replace(true);
    let serving = async {
        // What has an end has a second for it; streams have none.
        if tokio::time::timeout(LAST_WORDS, &mut serving)
            .await
            .is_err()
        {
            keeper.give_up();
            serving.await;
        }
    };
    tokio::select! {
        () = serving => {}
        _ = working => {}
        () = tokio::time::sleep(GRACE) => tracing::warn!("calls did not end in time and are cut"),
        end = ends.next() => tracing::warn!(?end, "told again to stop: calls are cut"),
    }
    Ok(())
}

fn certificates(options: &CacheOptions) -> anyhow::Result<Option<Arc<Certificates>>> {
    let (Some(certificate), Some(key)) = (&options.cert_file, &options.key_file) else {
        return Ok(None);
    };
    let files = CertificateFiles {
        certificate: certificate.clone(),
        key: key.clone(),
        trusted_authorities: None,
        client_certificates_name_users: false,
    };
    Ok(Some(Certificates::load(files)?))
}

fn home(options: &CacheOptions) -> Home {
    let is_default = options.keyspace == "default";
    let connection = ConnectionOptions {
        endpoints: options.from.clone(),
        keyspace: (!is_default).then(|| options.keyspace.clone()),
        user: None,
        cacert: options.from_cacert.clone(),
        tls_cert: options.from_cert.clone(),
        tls_key: options.from_key.clone(),
        context: None,
        json: false,
        timeout: PATIENCE,
    };
    Home::new(connection, options.keyspace.clone())
}

fn greet(options: &CacheOptions, address: SocketAddr) {
    if options.json {
        return;
    }
    let text = format!(
        "cache of keyspace {} on {address}: at most {} old, {} of memory\nhome: {}",
        options.keyspace,
        seconds(options.staleness),
        bytes(options.bytes),
        options.from.join(", "),
    );
    // A cache whose standard output is gone serves all the same.
    writeln!(std::io::stdout(), "{text}").ok();
}

/// Says each second how it is, to a terminal or as JSON.
async fn show(options: &CacheOptions, keeper: &Arc<Keeper>) -> Infallible {
    if !options.json && !std::io::stdout().is_terminal() {
        return std::future::pending().await;
    }
    let screen = Screen::new(options.json);
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let (view, bound) = (keeper.view(), keeper.bound());
        let (line, json) = (pages::line(&view, bound), pages::json(&view, bound));
        if screen.show(&line, &json).is_err() {
            return std::future::pending().await;
        }
    }
}

/// Reads a bound, and refuses one that no home keeps.
fn staleness(text: &str) -> Result<Duration, String> {
    let time = parse_duration(text)?;
    if BOUNDS.contains(&time) {
        return Ok(time);
    }
    Err(format!("`{text}` cannot be kept: from 20ms to 1h can"))
}
