//! The keyspaces of a node: opened, closed and removed while others go on.
//!
//! Each has an engine, its thread and a background worker of its own. All share the log: one
//! thread writes it, and one sync makes durable what waits of all of them.
//!
//! What would surprise: a keyspace has a clock of its own, which starts when it is opened. All
//! that its replica knows of time begins then.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use bytes::Bytes;
use holm_base::{ClusterId, GroupId, NodeId};
use holm_machine::Folder;
use holm_replica::{GroupConfig, MessageError, OpenedGroup, Shores};
use holm_telemetry::Metrics;

use crate::background;
use crate::clock::Clock;
use crate::engine::{self, ANSWERS_MAX, Desk, Engine};
use crate::handle::{Handle, Identity, Shared};
use crate::inbox::{Inbox, Letter};
use crate::log_writer::Shelf;
use crate::network::{ClusterConfig, MemberConfig};
use crate::node::{Failure, StartError};
use crate::outbox::Outbox;
use crate::removal;

/// The group of keyspace `default`.
pub const DEFAULT: GroupId = GroupId::new(1);

/// What a command of a cluster carries around its body, and room for more.
const COMMAND_BYTES: u64 = 256;

/// How often a start that waits looks whether something has failed.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What is to be known of a keyspace to open it.
#[derive(Clone, Debug)]
pub struct KeyspaceConfig {
    /// Its number, never used twice.
    pub group: GroupId,
    /// Its number in the log, in the names of files and among the nodes of this site. Another one
    /// where an island was let go from here and came back: what is left of the first is not its.
    pub place: GroupId,
    /// Its name.
    pub name: String,
    /// The id that its clients are shown as their cluster's.
    pub cluster: ClusterId,
    /// Where clients reach it.
    pub client_urls: Vec<String>,
    /// Who belongs to it at its beginning, or did when this node came to it. Of no account at a
    /// node alone.
    pub members: Vec<MemberConfig>,
    /// It is there already and will take this node in: the node waits for its leader.
    pub is_joining: bool,
    /// Its engine's limits; ids and groups are filled in.
    pub kv: holm_kv::Config,
    /// The other islands of a local-first keyspace, and the nodes of each.
    pub shores: Option<Shores>,
    /// What it counts.
    pub metrics: Arc<Metrics>,
}

/// What the keyspaces of a node share.
pub(crate) struct Base {
    pub(crate) data_dir: PathBuf,
    pub(crate) folder: Arc<dyn Folder>,
    pub(crate) shelf: Arc<Shelf>,
    pub(crate) outbox: Arc<Outbox>,
    pub(crate) failure: Failure,
    /// The cluster and the node, as the data directory has them.
    pub(crate) ids: (ClusterId, NodeId),
    /// The node's name.
    pub(crate) name: String,
    /// The site that it is of.
    pub(crate) site: String,
    /// Where other sites reach it.
    pub(crate) peer_urls: Vec<String>,
    pub(crate) cluster: Option<ClusterConfig>,
    /// The longest request that the log takes.
    pub(crate) request_bytes_max: u64,
    pub(crate) running: Mutex<BTreeMap<GroupId, Running>>,
    /// Where messages of other nodes go.
    pub(crate) doors: RwLock<BTreeMap<GroupId, Handle>>,
    /// Messages for keyspaces that are not here.
    pub(crate) strays: AtomicU64,
}

impl fmt::Debug for Base {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Base")
            .field("data_dir", &self.data_dir)
            .finish_non_exhaustive()
    }
}

/// A keyspace with its threads.
#[derive(Debug)]
pub(crate) struct Running {
    handle: Handle,
    threads: Vec<JoinHandle<()>>,
}

impl Running {
    fn ask_to_stop(&self) {
        self.handle.shared.inbox.close();
        self.handle.shared.inbox.tell(Letter::Stop);
    }

    fn join(self) {
        for thread in self.threads {
            if thread.join().is_err() {
                tracing::error!("a thread of the node had panicked");
            }
        }
    }
}

/// The keyspaces of a node. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Keyspaces {
    pub(crate) base: Arc<Base>,
}

impl Keyspaces {
    /// Opens a keyspace, or makes it if nothing is there yet. At a node alone it takes requests
    /// when this returns. Blocks, and the log with it while what it holds is read.
    ///
    /// # Errors
    ///
    /// As [`StartError`] says; other keyspaces go on.
    pub fn open(&self, config: KeyspaceConfig) -> Result<Handle, StartError> {
        let prepared = self.prepare(config, false)?;
        self.launch(prepared)
    }

    /// Ends a keyspace's threads once what it took is answered; its files stay. Blocks as
    /// [`crate::Node::stop`] does. Nothing if it is not open.
    pub fn close(&self, place: GroupId) {
        assert!(place != DEFAULT, "keyspace default ends with its node");
        let running = self.running().remove(&place);
        if let Some(running) = running {
            let mut doors = self.write_doors();
            doors.retain(|_, it| it.shared.place != place);
            drop(doors);
            running.ask_to_stop();
            running.join();
        }
    }

    /// Closes a keyspace and removes what it wrote: its files are deleted, its part of the log
    /// is free. Its number must never be used again. May be repeated, after a crash too.
    ///
    /// # Errors
    ///
    /// If the log or the files refuse; what was removed so far is.
    pub fn remove(&self, group: GroupId) -> Result<(), StartError> {
        self.close(group);
        let released = self.base.shelf.with(|log| log.release(group));
        if let Some(Err(error)) = released {
            let is_full = matches!(error, holm_log::LogError::Full { .. });
            if !is_full {
                self.base.failure.report("write the log", &error);
            }
            return Err(StartError::Release { source: error });
        }
        removal::remove_files(&self.base.data_dir.join("kv"), group).map_err(|source| {
            StartError::System {
                attempted: "delete the files of a removed keyspace",
                source,
            }
        })
    }

    /// Another node spoke, as [`Handle::hear`] says, of this group: an island by the keyspace's number,
    /// a node of this site by that of the place. [`Keyspaces::attend`] must
    /// follow. What is for a keyspace that is not here is dropped and counted.
    ///
    /// # Errors
    ///
    /// If it is no message.
    pub fn hear(
        &self,
        from: NodeId,
        group: GroupId,
        (kind, body): (u8, &Bytes),
    ) -> Result<(), MessageError> {
        let doors = self.base.doors.read();
        let doors = doors.unwrap_or_else(PoisonError::into_inner);
        let door = doors.get(&group);
        let Some(handle) = door.filter(|it| it.is_spoken_to(group, kind)) else {
            self.base.strays.fetch_add(1, Ordering::Relaxed);
            return Ok(());
        };
        handle.hear(from, kind, body)
    }

    /// Sees to what was heard of this group, as [`Handle::attend`] says.
    pub fn attend(&self, group: GroupId) {
        let doors = self.base.doors.read();
        let doors = doors.unwrap_or_else(PoisonError::into_inner);
        let handle = doors.get(&group).cloned();
        // Nobody waits for the list while the engine works.
        drop(doors);
        if let Some(handle) = handle {
            handle.attend();
        }
    }

    /// Another node has hung up, as [`Handle::suspect`] says, on all keyspaces.
    pub fn suspect(&self, peer: NodeId) {
        let doors = self.base.doors.read();
        let doors = doors.unwrap_or_else(PoisonError::into_inner);
        let each = doors.iter().filter(|(at, it)| **at == it.shared.place);
        each.for_each(|(_, handle)| handle.suspect(peer));
    }

    /// The node and its cluster, as the data directory has them.
    #[must_use]
    pub fn ids(&self) -> (ClusterId, NodeId) {
        self.base.ids
    }

    /// The groups beside that of `default` of which the log or the engines' folder holds
    /// something. Cost: listing a folder.
    #[must_use]
    pub fn found(&self) -> Vec<GroupId> {
        let in_log = self.base.shelf.with(|log| log.groups().collect::<Vec<_>>());
        let mut found = in_log.unwrap_or_default();
        let names = fs::read_dir(self.base.data_dir.join("kv"));
        for entry in names.into_iter().flatten().flatten() {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            let number = name.split('.').next().unwrap_or_default();
            found.extend(number.parse().ok().map(GroupId::new));
        }
        found.retain(|it| *it != DEFAULT);
        found.sort_unstable();
        found.dedup();
        found
    }

    /// How many messages were for keyspaces that are not here.
    #[must_use]
    pub fn strays(&self) -> u64 {
        self.base.strays.load(Ordering::Relaxed)
    }

    /// Ends all of them, each as [`Keyspaces::close`] does, at once.
    pub(crate) fn stop(&self) {
        let all = core::mem::take(&mut *self.running());
        all.values().for_each(Running::ask_to_stop);
        all.into_values().for_each(Running::join);
    }

    fn running(&self) -> MutexGuard<'_, BTreeMap<GroupId, Running>> {
        let running = self.base.running.lock();
        running.unwrap_or_else(PoisonError::into_inner)
    }

    fn write_doors(&self) -> std::sync::RwLockWriteGuard<'_, BTreeMap<GroupId, Handle>> {
        let doors = self.base.doors.write();
        doors.unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens what lies on the disk; no thread runs yet.
    pub(crate) fn prepare(
        &self,
        config: KeyspaceConfig,
        is_recorded: bool,
    ) -> Result<Prepared, StartError> {
        let base = &*self.base;
        let (cluster, node) = base.ids;
        let mut kv = config.kv.clone();
        kv.node = node;
        kv.store.cluster = cluster;
        kv.store.group = config.place;
        if let Some(cluster) = &base.cluster {
            kv.election_timeout = cluster.election_timeout;
        }
        let quota_bytes = kv.quota();
        let opened = base.shelf.with(|log| match &base.cluster {
            None => holm_replica::open_beside(&*base.folder, config.place, log, kv),
            Some(cluster) => {
                let mut group = group_config(cluster, &config, base.request_bytes_max);
                group.is_recorded = is_recorded;
                holm_replica::open_in_group_beside(&*base.folder, config.place, (log, kv), &group)
            }
        });
        let opened = opened.ok_or(StartError::NeverLed)?;
        let opened = opened.map_err(|source| StartError::Open {
            name: config.name.as_str().into(),
            place: base.data_dir.clone(),
            source,
        })?;
        if let Some(damage) = &opened.healed {
            let keyspace = config.name.as_str();
            tracing::warn!(%damage, keyspace, "the engine's files are damaged; the log made that good");
        }
        Ok(Prepared {
            config,
            opened,
            quota_bytes,
        })
    }

    /// Starts the threads of what was opened; waits until a node alone takes requests.
    pub(crate) fn launch(&self, prepared: Prepared) -> Result<Handle, StartError> {
        let Prepared {
            config,
            opened,
            quota_bytes,
        } = prepared;
        let base = &*self.base;
        let (group, place) = (config.group, config.place);
        let inbox = usize::try_from(base.request_bytes_max).unwrap_or(usize::MAX);
        let inbox = Arc::new(Inbox::new(inbox));
        base.failure.watch(&inbox);
        base.outbox.enter(place, Arc::clone(&inbox));
        let handle = Handle {
            shared: Arc::new(self.shared(&config, &opened, (quota_bytes, &inbox))),
            engine: Arc::new(Mutex::new(None)),
            may_stay: std::thread::available_parallelism().is_ok_and(|cores| cores.get() > 1),
        };
        let (jobs, worker_jobs) = sync_channel(background::JOBS_MAX);
        let (rung, leads) = sync_channel(1);
        let engine = Engine {
            group: place,
            replica: opened.replica,
            shared: Arc::clone(&handle.shared),
            outbox: Arc::clone(&base.outbox),
            shelf: Arc::clone(&base.shelf),
            jobs,
            metrics: Arc::clone(&config.metrics),
            failure: base.failure.clone(),
            network: base.cluster.as_ref().map(|it| Arc::clone(&it.network)),
            leads: Some(rung),
            answers_within: ANSWERS_MAX,
            desk: Desk::default(),
        };
        let (seat, letters) = (Arc::clone(&handle.engine), Arc::clone(&inbox));
        *seat.lock().unwrap_or_else(PoisonError::into_inner) = Some(engine);
        let (done, metrics) = (Arc::clone(&inbox), Arc::clone(&config.metrics));
        let threads = vec![
            spawn("holm-engine", move || engine::run(&seat, &letters))?,
            spawn("holm-background", move || {
                background::run(&worker_jobs, &done, &metrics);
            })?,
        ];
        let running = Running {
            handle: handle.clone(),
            threads,
        };
        self.running().insert(place, running);
        let mut doors = self.write_doors();
        doors.insert(place, handle.clone());
        doors.insert(group, handle.clone());
        drop(doors);
        if base.cluster.is_none() {
            wait_to_lead(&leads, &inbox)?;
        }
        Ok(handle)
    }

    fn shared(
        &self,
        config: &KeyspaceConfig,
        opened: &OpenedGroup,
        (quota_bytes, inbox): (u64, &Arc<Inbox>),
    ) -> Shared {
        let base = &*self.base;
        let keyspace = opened.replica.keyspace();
        let bootstrap = base.cluster.as_ref();
        let bootstrap = bootstrap.map(|it| it.bootstrap(config.members.clone()));
        Shared {
            keyspace: (config.group, config.name.clone()),
            place: config.place,
            inbox: Arc::clone(inbox),
            reader: keyspace.reader(),
            hub: keyspace.hub(),
            clock: Clock::start(),
            identity: Identity {
                cluster: config.cluster,
                node: base.ids.1,
                name: base.name.clone(),
                site: base.site.clone(),
                peer_urls: base.peer_urls.clone(),
                client_urls: config.client_urls.clone(),
            },
            quota_bytes,
            metrics: Arc::clone(&config.metrics),
            last: AtomicU64::new(opened.replica.last().value()),
            pending: AtomicU64::new(0),
            leader: AtomicU64::new(0),
            term: AtomicU64::new(opened.replica.term().value()),
            dropped: AtomicU64::new(0),
            patience: bootstrap.as_ref().map(|it| it.request_timeout),
            bootstrap,
            is_island: opened.replica.is_island(),
        }
    }
}

/// A keyspace that was opened and has no threads yet.
pub(crate) struct Prepared {
    config: KeyspaceConfig,
    pub(crate) opened: OpenedGroup,
    quota_bytes: u64,
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

fn group_config(
    cluster: &ClusterConfig,
    config: &KeyspaceConfig,
    entry_bytes_max: u64,
) -> GroupConfig {
    let voters = if config.is_joining {
        Vec::new()
    } else {
        config.members.iter().map(|member| member.node).collect()
    };
    GroupConfig {
        election_timeout: cluster.election_timeout,
        heartbeat_interval: cluster.heartbeat_interval,
        patience: Some(cluster.request_timeout),
        // What the log takes, less what a command carries around its body.
        request_bytes_max: entry_bytes_max.saturating_sub(COMMAND_BYTES),
        shores: config.shores.clone(),
        ..GroupConfig::new(cluster.node, voters)
    }
}

pub(crate) fn spawn(
    name: &str,
    body: impl FnOnce() + Send + 'static,
) -> Result<JoinHandle<()>, StartError> {
    Builder::new()
        .name(name.to_owned())
        .spawn(body)
        .map_err(|source| StartError::System {
            attempted: "start a thread",
            source,
        })
}
