//! Starting and stopping a node.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak};
use std::thread::JoinHandle;

use holm_base::{ByteCount, ClusterId, NodeId};
use holm_disk::{Lock, LockError, RealFolder};
use holm_log::{Log, LogConfig, LogError};
use holm_machine::{DiskError, Folder};
use holm_replica::OpenError;
use holm_telemetry::Metrics;

use crate::handle::Handle;
use crate::identity::{self, IdentityError};
use crate::inbox::Inbox;
use crate::keyspaces::{Base, DEFAULT, KeyspaceConfig, Keyspaces, Prepared, spawn};
use crate::log_writer::{LogWriter, Shelf};
use crate::network::ClusterConfig;
use crate::recording::RecordingConfig;

/// What a node is told when it starts.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// Where its files lie; created if missing.
    pub data_dir: PathBuf,
    /// The name it gives itself.
    pub name: String,
    /// The site that it is of; its own name where a site is one node.
    pub site: String,
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
    /// All that take requests.
    inboxes: Arc<Mutex<Vec<Weak<Inbox>>>>,
    tell: OnFailure,
}

impl Failure {
    #[cfg(test)]
    pub(crate) fn new(inbox: &Arc<Inbox>, tell: OnFailure) -> Self {
        let failure = Self::of_nobody(tell);
        failure.watch(inbox);
        failure
    }

    fn of_nobody(tell: OnFailure) -> Self {
        Self {
            inboxes: Arc::default(),
            tell,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Weak<Inbox>>> {
        self.inboxes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on a failure closes this one too.
    pub(crate) fn watch(&self, inbox: &Arc<Inbox>) {
        let mut inboxes = self.lock();
        inboxes.retain(|it| it.strong_count() > 0);
        inboxes.push(Arc::downgrade(inbox));
    }

    pub(crate) fn report(&self, attempted: &str, error: &dyn std::error::Error) {
        for inbox in self.lock().iter().filter_map(Weak::upgrade) {
            inbox.close();
        }
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
    /// A keyspace could not be opened.
    #[error("open keyspace {name} in {}", place.display())]
    Open {
        /// Which one.
        name: Box<str>,
        /// Which directory.
        place: PathBuf,
        /// Why.
        source: OpenError,
    },
    /// The log could not be opened.
    #[error("open the write-ahead log in {}", place.display())]
    Log {
        /// Which directory.
        place: PathBuf,
        /// Why.
        source: LogError,
    },
    /// The log could not let go of a removed keyspace.
    #[error("let go of a removed keyspace's part of the log")]
    Release {
        /// Why.
        source: LogError,
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
    keyspaces: Keyspaces,
    handle: Handle,
    log_thread: JoinHandle<()>,
    replayed: u64,
    boot: u64,
    _lock: Lock,
}

impl Node {
    /// The door for fronts of keyspace `default`.
    #[must_use]
    pub const fn handle(&self) -> &Handle {
        &self.handle
    }

    /// All keyspaces.
    #[must_use]
    pub const fn keyspaces(&self) -> &Keyspaces {
        &self.keyspaces
    }

    /// How many log entries of keyspace `default` were applied at start.
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
        self.keyspaces.stop();
        self.keyspaces.base.outbox.stop();
        if self.log_thread.join().is_err() {
            tracing::error!("a thread of the node had panicked");
        }
    }
}

/// Opens the data directory and starts the threads; returns once requests are taken in keyspace
/// `default`. Others are opened by [`Node::keyspaces`].
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
    let (keyspaces, boot) = base(&config, &metrics, on_failure)?;
    let (cluster, node) = keyspaces.base.ids;
    let members = config.cluster.as_ref();
    let default = KeyspaceConfig {
        group: DEFAULT,
        place: DEFAULT,
        name: "default".to_owned(),
        cluster,
        client_urls: config.client_urls,
        members: members.map_or_else(Vec::new, |it| it.members.clone()),
        is_joining: members.is_some_and(|it| it.is_joining),
        kv: config.kv,
        shores: None,
        metrics,
    };
    let mut prepared = keyspaces.prepare(default, recording.is_some())?;
    if let Some(recording) = recording {
        record(&mut prepared, &recording, node, boot)?;
    }
    let replayed = prepared.opened.replayed;
    let base = &keyspaces.base;
    let writer = LogWriter {
        shelf: Arc::clone(&base.shelf),
        outbox: Arc::clone(&base.outbox),
        failure: base.failure.clone(),
    };
    let log_thread = spawn("holm-log", || writer.run())?;
    let handle = keyspaces.launch(prepared)?;
    Ok(Node {
        keyspaces,
        handle,
        log_thread,
        replayed,
        boot,
        _lock: lock,
    })
}

fn record(
    prepared: &mut Prepared,
    recording: &RecordingConfig,
    node: NodeId,
    boot: u64,
) -> Result<(), StartError> {
    let sink = recording.create(node, boot);
    let sink = sink.map_err(|source| StartError::Recording {
        place: recording.place.clone(),
        source,
    })?;
    let is_taken = prepared.opened.replica.record(Box::new(sink));
    assert!(is_taken, "a node of a cluster was opened to be recorded");
    Ok(())
}

/// What all keyspaces stand on, of a data directory that this process has locked; and which run
/// this is.
fn base(
    config: &NodeConfig,
    metrics: &Arc<Metrics>,
    on_failure: OnFailure,
) -> Result<(Keyspaces, u64), StartError> {
    let place = config.data_dir.clone();
    let folder = open_folder(&place)?;
    refuse_foreign(&place)?;
    let (cluster, node) = match &config.cluster {
        None => identity_of(&*folder, &place)?,
        Some(it) => claim(&*folder, &place, (it.cluster, it.node))?,
    };
    let log_config = LogConfig {
        segment_bytes: config.log_segment_bytes,
        has_peers: config.cluster.is_some(),
        ..LogConfig::new(cluster, node)
    };
    let place_of_log = folder.folder("log").map_err(|source| StartError::Folder {
        place: place.clone(),
        source,
    })?;
    let log = Log::open(place_of_log, log_config);
    let log = log.map_err(|source| StartError::Log { place, source })?;
    let boot = log.opens();
    let base = Base {
        data_dir: config.data_dir.clone(),
        folder,
        shelf: Arc::new(Shelf::new(log, Arc::clone(metrics))),
        outbox: Arc::default(),
        failure: Failure::of_nobody(on_failure),
        ids: (cluster, node),
        name: config.name.clone(),
        site: config.site.clone(),
        peer_urls: config.peer_urls.clone(),
        cluster: config.cluster.clone(),
        request_bytes_max: log_config.entry_bytes_max().value(),
        running: Mutex::default(),
        doors: RwLock::default(),
        strays: AtomicU64::new(0),
    };
    let base = Arc::new(base);
    Ok((Keyspaces { base }, boot))
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
pub(crate) fn claim(
    folder: &dyn Folder,
    place: &Path,
    wanted: (ClusterId, NodeId),
) -> Result<(ClusterId, NodeId), StartError> {
    identity::read_or_claim(folder, wanted).map_err(|source| StartError::Identity {
        place: place.to_owned(),
        source,
    })?;
    Ok(wanted)
}
