//! `holm up`: a node, from its configuration to its last answer.
//!
//! Starting goes from the inside out: configuration, log, the node's threads, listeners, banner. A refusal comes
//! before anything was changed. Stopping goes the other way: listeners close, requests in hand are answered, the
//! node's threads end; a second signal ends the process at once.

mod alarms;
mod banner;
mod calling;
mod compaction;
mod doors;
mod keyspace_port;
mod keyspaces;
mod parting;
mod parts;
mod peers;
mod serve;
mod signals;
mod streams;

use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context;
use holm_base::ByteCount;
use holm_net::Listener;
use holm_runtime::{Node, NodeConfig};
use holm_telemetry::Metrics;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::sync::watch;

pub(crate) use calling::{Calling, as_up, asks_version};
pub(crate) use serve::until;
pub(crate) use signals::Ends;

use crate::command::ETCD_VERSION;
use crate::config::{Config, Environment, Flags};
use crate::{join, sites};
use doors::Doors;
use keyspaces::{Hosting, Means, Shown};
use peers::Links;

/// One file of the log.
const LOG_SEGMENT_BYTES: ByteCount = ByteCount::new(64 << 20);

pub(crate) const EXAMPLES: &str = "\
Examples:
  holm up                                        etcd clients connect to 127.0.0.1:2379
  holm up --data-dir /var/lib/holm --config /etc/holm.toml
  holm up --listen 10.0.0.7:2379 --cert-file node.pem --key-file node.key
  HOLM_QUOTA_BACKEND_BYTES=8GiB holm up          any flag as a variable
  holm up --sites 3                              three sites on this machine; `holm link` cuts their links
  holm up --names oslo,bergen,tromso --data-dir demo
  holm up --name a --peer 10.0.0.1:2380 --cluster shop   found a cluster that sites on other machines can join
  holm up --name b --peer 10.0.0.2:2380 --join TOKEN     join it; `holm site add b` at a member makes the token

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
    if flags.sites.is_some() || flags.names.is_some() {
        return sites::run(flags);
    }
    let environment = Environment::of_process(calling);
    let mut config = Config::load(calling, flags, environment).context("read the configuration")?;
    anyhow::ensure!(
        !sites::holds_sites(&config.data_dir),
        "{} holds the data of several sites: start them with --sites, or choose another --data-dir",
        config.data_dir.display()
    );
    holm_telemetry::log_to_stderr(&config.log)?;
    for remark in &config.remarks {
        tracing::warn!(remark, "a setting without effect");
    }
    raise_file_limit()?;
    join::settle(&mut config)?;
    let metrics = Arc::new(Metrics::new(env!("CARGO_PKG_VERSION"), ETCD_VERSION));
    let (on_failure, failure) = signals::failure();
    let links = Arc::new(Links::default());
    let node_config = node_config(&config, &links);
    let record = config.record.clone();
    let node = holm_runtime::start_recorded(node_config, record, Arc::clone(&metrics), on_failure)?;
    let threads = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("holm-front")
        .build()
        .context("start the front's threads")?;
    let ends = (failure, flags.ends_with_input);
    let ended = threads.block_on(live(&config, (&node, links), metrics, ends));
    threads.shutdown_background();
    // After a failure of the disk the node's threads may wait for ever; the process's end is theirs.
    if ended.is_ok() {
        node.stop();
        tracing::info!("stopped");
    }
    ended
}

/// Everything between the listeners' opening and their closing.
async fn live(
    config: &Config,
    (node, links): (&Node, Arc<Links>),
    metrics: Arc<Metrics>,
    (failure, ends_with_input): (watch::Receiver<Option<String>>, bool),
) -> anyhow::Result<()> {
    let ends = Ends::listen(failure, ends_with_input).context("listen for signals")?;
    let doors = Doors::open(config)?;
    if let Some(cluster) = &config.cluster {
        let address = links.start(config, cluster, node.keyspaces(), node.boot())?;
        tracing::info!(%address, members = cluster.members.len(), "links to the other sites");
    }
    let (front, web, services) = parts::fronts(
        config,
        (node.handle(), Arc::clone(&links)),
        &doors.room,
        &metrics,
    )?;
    let clients: Vec<SocketAddr> = doors.clients.iter().map(Listener::address).collect();
    let console = doors.console.as_ref().map(Listener::address);
    let room = doors.room.clone();
    let keeper = tokio::spawn(compaction::keep(node.handle().clone(), config.retention));
    let shown = Arc::new(Shown::default());
    let means = Means {
        config: config.clone(),
        keyspaces: node.keyspaces().clone(),
        links: Arc::clone(&links),
        room: doors.room.clone(),
        certificates: doors.certificates.clone(),
    };
    let mut hosting = Hosting::new(means, services, Arc::clone(&shown))?;
    hosting.begin().await;
    let greeting = banner::text(config, &clients, console, &shown);
    // A node whose standard output is gone serves all the same.
    drop(writeln!(std::io::stdout(), "{greeting}"));
    let address = clients.first().map(ToString::to_string);
    tracing::info!(
        address,
        replayed = node.replayed(),
        "ready to serve client requests"
    );
    let streams = streams::open(config, &room, &clients)?;
    let (stop_hosting, stopped) = watch::channel(false);
    let hosting = tokio::spawn(hosting.run(stopped));
    let parting = async {
        parting::hand_lead_on(node.handle(), config.cluster.as_ref(), &links).await;
        stop_hosting.send_replace(true);
    };
    let ended = serve::serve(doors, front, web, ends, parting).await;
    stop_hosting.send_replace(true);
    if let Some(streams) = streams {
        streams.stop().await;
    }
    if ended.is_ok() && hosting.await.is_err() {
        tracing::error!("what looks after keyspaces has failed");
    }
    keeper.abort();
    ended
}

/// What the node's threads need to know.
fn node_config(config: &Config, links: &Arc<Links>) -> NodeConfig {
    let cluster = config.cluster.as_ref();
    NodeConfig {
        cluster: cluster.map(|cluster| peers::cluster_config(config, cluster, links)),
        data_dir: config.data_dir.clone(),
        name: config.name.clone(),
        site: config.site.clone(),
        peer_urls: config.peer_urls.clone(),
        client_urls: config.client_urls.clone(),
        log_segment_bytes: LOG_SEGMENT_BYTES,
        kv: parts::engine(config),
    }
}

/// Below this there is no room for the node's own files and a client.
const FILES_MIN: u64 = 48;
/// Below this connections are few; the system's usual limit is above.
const FILES_FEW: u64 = 1024;

/// As many files as the system lets us have: each connection is one.
fn raise_file_limit() -> anyhow::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    let mut files = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, files = limit.current, "the limit on open files stays low");
        files = limit.current;
    }
    if let Some(files) = files
        && files < FILES_FEW
    {
        anyhow::ensure!(
            files >= FILES_MIN,
            "only {files} files may be open, {FILES_MIN} are needed: raise the limit (`ulimit -n {FILES_FEW}`, or \
             LimitNOFILE={FILES_FEW} in the systemd unit)"
        );
        tracing::warn!(
            files,
            "few files may be open, so few clients can connect: raise `ulimit -n`"
        );
    }
    Ok(())
}
