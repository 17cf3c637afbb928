//! Starting and stopping a node.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use holm_base::{ByteCount, ClusterId, GroupId, NodeId};
use holm_disk::{Lock, LockError, RealFolder};
use holm_log::LogConfig;
use holm_machine::{DiskError, Folder};
use holm_replica::{GroupConfig, OpenError, Opened};
use holm_telemetry::Metrics;

use crate::background;
use crate::clock::Clock;
use crate::engine::{self, ANSWERS_MAX, Desk, Engine};
use crate::handle::{Handle, Identity, Shared};
use crate::identity::{self, IdentityError};
use crate::inbox::{Inbox, Letter};
use crate::log_writer::{LogWriter, Outbox, Shelf};
use crate::network::{ClusterConfig, Network};
use crate::recording::RecordingConfig;

/// The group of keyspace `default`.
pub(crate) const DEFAULT: GroupId = GroupId::new(1);

/// What a command of a cluster carries around its body, and room for more.
const COMMAND_BYTES: u64 = 256;

/// How often a start that waits looks whether something has failed.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What a node is told when it starts.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// Where its files lie; created if missing.
    pub data_dir: PathBuf,
    /// The name it gives itself.
    pub name: String,
    /// Where other sites reach it.
    pub peer_urls: Vec<String>,
    /// Where clients reach it.
    pub client_urls: Vec<String>,
    /// The size of the log's segments.
    pub log_segment_bytes: ByteCount,
    /// The cluster that it belongs to; none if it is alone.
    pub cluster: Option<ClusterConfig>,
    /// The engine's limits; the node's id is filled in from the data directory.
    pub kv: holm_kv::Config,
}

/// Called once, from the thread that noticed, when the node can serve no longer: what was
/// attempted and why it failed. The process is to end.
pub type OnFailure = Arc<dyn Fn(&str) + Send + Sync>;

/// How a thread reports that the node can serve no longer.
#[derive(Clone)]
pub(crate) struct Failure {
    inbox: Arc<Inbox>,
    tell: OnFailure,
}

impl Failure {
    #[cfg(test)]
    pub(crate) const fn new(inbox: Arc<Inbox>, tell: OnFailure) -> Self {
        Self { inbox, tell }
    }

    pub(crate) fn report(&self, attempted: &str, error: &dyn std::error::Error) {
        self.inbox.close();
        let mut text = format!("{attempted}: {error}");
        let mut cause = error.source();
        while let Some(next) = cause {
            text = format!("{text}: {next}");
            cause = next.source();
        }
        tracing::error!(error = text, "the node cannot serve any longer");
        (self.tell)(&text);
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Failure").finish_non_exhaustive()
    }
}

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Another process has the directory.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The directory could not be reached.
    #[error("open the data directory {}", place.display())]
    Folder {
        /// Which one.
        place: PathBuf,
        /// Why.
        source: DiskError,
    },
    /// The directory is not ours, or of another release.
    #[error("{}", place.display())]
    Identity {
        /// Which one.
        place: PathBuf,
        /// Why.
        source: IdentityError,
    },
    /// The recording that was asked for cannot be made.
    #[error("record this run in {}", place.display())]
    Recording {
        /// The directory.
        place: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Its keyspace could not be opened.
    #[error("open keyspace default in {}", place.display())]
    Open {
        /// Which directory.
        place: PathBuf,
        /// Why.
        source: OpenError,
    },
    /// The log or the engine failed before the first request was taken.
    #[error("the node failed before it could serve; its log line says why")]
    NeverLed,
    /// The system gave no thread or no random bytes.
    #[error("{attempted}")]
    System {
        /// What was attempted.
        attempted: &'static str,
        /// Why it failed.
        source: io::Error,
    },
}

/// A running node. Dropping it without [`Node::stop`] leaves its threads running.
#[derive(Debug)]
pub struct Node {
    handle: Handle,
    threads: Vec<JoinHandle<()>>,
    replayed: u64,
    boot: u64,
    _lock: Lock,
}

impl Node {
    /// The door for fronts.
    #[must_use]
    pub const fn handle(&self) -> &Handle {
        &self.handle
    }

    /// How many log entries were applied at start.
    #[must_use]
    pub const fn replayed(&self) -> u64 {
        self.replayed
    }

    /// Which run of this node this is: how often its log was opened.
    #[must_use]
    pub const fn boot(&self) -> u64 {
        self.boot
    }

    /// Finishes what was taken, refuses the rest, and ends the threads. Blocks for as long as
    /// the requests under way take, but no longer than ten seconds and a disk's answer: what a
    /// full disk keeps waiting is then answered with [`holm_kv::Refusal::Stopped`], for nobody
    /// knows whether it was kept.
    pub fn stop(self) {
        self.handle.shared.inbox.close();
        self.handle.shared.inbox.tell(Letter::Stop);
        for thread in self.threads {
            if thread.join().is_err() {
                tracing::error!("a thread of the node had panicked");
            }
        }
    }
}

/// Opens the data directory and starts the threads; returns once requests are taken.
///
/// Cost: reading the newest checkpoint and the log beyond it, and one flush of the log.
///
/// # Errors
///
/// As [`StartError`] says; nothing in the directory was changed but the repair of a torn tail.
pub fn start(
    config: NodeConfig,
    metrics: Arc<Metrics>,
    on_failure: OnFailure,
) -> Result<Node, StartError> {
    start_recorded(config, None, metrics, on_failure)
}

/// As [`start`], and records what happens to this run's replica, if a recording is given.
///
/// # Errors
///
/// As [`start`]; [`StartError::Recording`] also for a node alone, which has no such replica.
pub fn start_recorded(
    config: NodeConfig,
    recording: Option<RecordingConfig>,
    metrics: Arc<Metrics>,
    on_failure: OnFailure,
) -> Result<Node, StartError> {
    if let (Some(recording), None) = (&recording, &config.cluster) {
        let what = "a node alone has no replicated log to record";
        return Err(StartError::Recording {
            place: recording.place.clone(),
            source: io::Error::new(io::ErrorKind::Unsupported, what),
        });
    }
    let lock = holm_disk::lock(&config.data_dir)?;
    let Found {
        mut opened,
        identity: (cluster, node),
        quota_bytes,
        request_bytes_max,
    } = open(&config, recording.is_some())?;
    if let Some(recording) = recording {
        record(&mut opened, &recording, node)?;
    }
    let inbox = Inbox::new(usize::try_from(request_bytes_max).unwrap_or(usize::MAX));
    let inbox = Arc::new(inbox);
    if let Some(damage) = &opened.healed {
        tracing::warn!(%damage, "the engine's files are damaged; the log made that good");
    }
    let keyspace = opened.replica.keyspace();
    let bootstrap = config.cluster.as_ref().map(ClusterConfig::bootstrap);
    let shared = Arc::new(Shared {
        inbox: Arc::clone(&inbox),
        reader: keyspace.reader(),
        hub: keyspace.hub(),
        clock: Clock::start(),
        identity: Identity {
            cluster,
            node,
            name: config.name,
            peer_urls: config.peer_urls,
            client_urls: config.client_urls,
        },
        quota_bytes,
        metrics: Arc::clone(&metrics),
        last: AtomicU64::new(opened.replica.last().value()),
        pending: AtomicU64::new(0),
        leader: AtomicU64::new(0),
        term: AtomicU64::new(opened.replica.term().value()),
        dropped: AtomicU64::new(0),
        patience: bootstrap.as_ref().map(|it| it.request_timeout),
        bootstrap,
    });
    let (replayed, boot) = (opened.replayed, opened.log.opens());
    let failure = Failure {
        inbox,
        tell: on_failure,
    };
    let (rung, leads) = sync_channel(1);
    let handle = Handle {
        shared,
        engine: Arc::new(Mutex::new(None)),
        may_stay: std::thread::available_parallelism().is_ok_and(|cores| cores.get() > 1),
    };
    let network = config.cluster.map(|cluster| cluster.network);
    let is_alone = network.is_none();
    let threads = spawn_all(opened, &handle, (&metrics, &failure), (rung, network))?;
    if is_alone {
        wait_to_lead(&leads, &handle.shared.inbox)?;
    }
    Ok(Node {
        handle,
        threads,
        replayed,
        boot,
        _lock: lock,
    })
}

fn record(
    opened: &mut Opened,
    recording: &RecordingConfig,
    node: NodeId,
) -> Result<(), StartError> {
    let sink = recording.create(node, opened.log.opens());
    let sink = sink.map_err(|source| StartError::Recording {
        place: recording.place.clone(),
        source,
    })?;
    let is_taken = opened.replica.record(Box::new(sink));
    assert!(is_taken, "a node of a cluster was opened to be recorded");
    Ok(())
}

/// What lies in a data directory.
struct Found {
    opened: Opened,
    identity: (ClusterId, NodeId),
    quota_bytes: u64,
    /// The longest request that the log takes.
    request_bytes_max: u64,
}

/// Opens a data directory that this process has locked.
fn open(config: &NodeConfig, is_recorded: bool) -> Result<Found, StartError> {
    let place = config.data_dir.clone();
    let folder = open_folder(&place)?;
    refuse_foreign(&place)?;
    let (cluster, node) = match &config.cluster {
        None => identity_of(&*folder, &place)?,
        Some(cluster) => claim(&*folder, &place, cluster)?,
    };
    let log_config = LogConfig {
        segment_bytes: config.log_segment_bytes,
        has_peers: config.cluster.is_some(),
        ..LogConfig::new(cluster, node)
    };
    let request_bytes_max = log_config.entry_bytes_max().value();
    let store = holm_kv::StoreConfig {
        cluster,
        group: DEFAULT,
        ..config.kv.store.clone()
    };
    let mut kv = holm_kv::Config {
        node,
        store,
        ..config.kv.clone()
    };
    if let Some(cluster) = &config.cluster {
        kv.election_timeout = cluster.election_timeout;
    }
    let quota_bytes = kv.quota();
    let opened = match &config.cluster {
        None => holm_replica::open(&*folder, DEFAULT, log_config, kv),
        Some(cluster) => {
            let mut group = group_config(cluster, request_bytes_max);
            group.is_recorded = is_recorded;
            holm_replica::open_in_group(&*folder, DEFAULT, (log_config, kv), &group)
        }
    };
    let opened = opened.map_err(|source| StartError::Open { place, source })?;
    Ok(Found {
        opened,
        identity: (cluster, node),
        quota_bytes,
        request_bytes_max,
    })
}

/// Waits until requests are taken, or something has failed.
fn wait_to_lead(leads: &Receiver<()>, inbox: &Inbox) -> Result<(), StartError> {
    loop {
        match leads.recv_timeout(LOOK_EVERY) {
            Ok(()) => return Ok(()),
            Err(RecvTimeoutError::Timeout) if !inbox.is_closed() => {}
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                return Err(StartError::NeverLed);
            }
        }
    }
}

pub(crate) fn open_folder(place: &Path) -> Result<Arc<dyn Folder>, StartError> {
    RealFolder::open(place).map_err(|source| StartError::Folder {
        place: place.to_owned(),
        source,
    })
}

/// Refuses a directory that is not ours and holds anything, folders included: a mistyped path
/// loses nothing.
fn refuse_foreign(place: &Path) -> Result<(), StartError> {
    let unreadable = |source| StartError::System {
        attempted: "list the data directory",
        source,
    };
    let mut names = Vec::new();
    for entry in std::fs::read_dir(place).map_err(unreadable)? {
        let name = entry.map_err(unreadable)?.file_name();
        names.push(name.to_string_lossy().into_owned());
    }
    identity::refuse_foreign(&mut names).map_err(|source| StartError::Identity {
        place: place.to_owned(),
        source,
    })
}

pub(crate) fn identity_of(
    folder: &dyn Folder,
    place: &Path,
) -> Result<(ClusterId, NodeId), StartError> {
    let mut random = [0; 16];
    rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty()).map_err(
        |errno| StartError::System {
            attempted: "draw random ids",
            source: errno.into(),
        },
    )?;
    // The highest bit stays clear, for some clients read ids as signed; zero means "none".
    let id = u128::from_le_bytes(random);
    let half = |bits: u128| {
        u64::try_from(bits & 0x7fff_ffff_ffff_ffff)
            .unwrap_or(1)
            .max(1)
    };
    let fresh = || (ClusterId::new(half(id)), NodeId::new(half(id >> 64)));
    identity::read_or_create(folder, fresh).map_err(|source| StartError::Identity {
        place: place.to_owned(),
        source,
    })
}

/// Makes the directory that of a member, or refuses it.
fn claim(
    folder: &dyn Folder,
    place: &Path,
    cluster: &ClusterConfig,
) -> Result<(ClusterId, NodeId), StartError> {
    let wanted = (cluster.cluster, cluster.node);
    identity::read_or_claim(folder, wanted).map_err(|source| StartError::Identity {
        place: place.to_owned(),
        source,
    })?;
    Ok(wanted)
}

fn group_config(cluster: &ClusterConfig, entry_bytes_max: u64) -> GroupConfig {
    GroupConfig {
        election_timeout: cluster.election_timeout,
        heartbeat_interval: cluster.heartbeat_interval,
        patience: Some(cluster.request_timeout),
        // What the log takes, less what a command carries around its body.
        request_bytes_max: entry_bytes_max.saturating_sub(COMMAND_BYTES),
        ..GroupConfig::new(cluster.node, cluster.voters())
    }
}

fn spawn_all(
    opened: Opened,
    handle: &Handle,
    (metrics, failure): (&Arc<Metrics>, &Failure),
    (leads, network): (SyncSender<()>, Option<Arc<dyn Network>>),
) -> Result<Vec<JoinHandle<()>>, StartError> {
    let (jobs, worker_jobs) = sync_channel(background::JOBS_MAX);
    let outbox = Arc::new(Outbox::default());
    let shared = &handle.shared;
    let shelf = Arc::new(Shelf::new(opened.log, DEFAULT, Arc::clone(metrics)));
    let writer = LogWriter {
        shelf: Arc::clone(&shelf),
        outbox: Arc::clone(&outbox),
        inbox: Arc::clone(&shared.inbox),
        failure: failure.clone(),
    };
    let engine = Engine {
        replica: opened.replica,
        shared: Arc::clone(shared),
        outbox,
        shelf,
        jobs,
        metrics: Arc::clone(metrics),
        failure: failure.clone(),
        network,
        leads: Some(leads),
        answers_within: ANSWERS_MAX,
        desk: Desk::default(),
    };
    let (seat, letters) = (Arc::clone(&handle.engine), Arc::clone(&shared.inbox));
    *seat.lock().unwrap_or_else(PoisonError::into_inner) = Some(engine);
    let (inbox, metrics) = (Arc::clone(&shared.inbox), Arc::clone(metrics));
    Ok(vec![
        spawn("holm-log", || writer.run())?,
        spawn("holm-engine", move || engine::run(&seat, &letters))?,
        spawn("holm-background", move || {
            background::run(&worker_jobs, &inbox, &metrics);
        })?,
    ])
}

fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, StartError> {
    Builder::new()
        .name(name.to_owned())
        .spawn(body)
        .map_err(|source| StartError::System {
            attempted: "start a thread",
            source,
        })
}
