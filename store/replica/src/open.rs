//! Opening: the engine first, then what the log holds beyond it.

use std::sync::Arc;

use holm_base::{GroupId, Op, Time};
use holm_kv::snapshot::Places;
use holm_kv::{Config, Keyspace, StoreError};
use holm_log::{Log, LogConfig, LogError};
use holm_machine::{DiskError, Folder};
use holm_sequencer::{Durable, Form, Solo};

use crate::replica::Replica;

/// What opening gave: the replica for the engine thread, the log for the log thread.
#[derive(Debug)]
pub struct Opened {
    /// The replica, with all that the log holds applied.
    pub replica: Replica,
    /// The log, ready for the next flush.
    pub log: Log,
    /// How many entries were applied from the log.
    pub replayed: u64,
    /// Damage to the engine's files that the log made good.
    pub healed: Option<StoreError>,
}

/// What opening a group in a log that is open gave.
#[derive(Debug)]
pub struct OpenedGroup {
    /// The replica, with all that the log holds applied.
    pub replica: Replica,
    /// How many entries were applied from the log.
    pub replayed: u64,
    /// Damage to the engine's files that the log made good.
    pub healed: Option<StoreError>,
}

impl OpenedGroup {
    pub(crate) fn with(self, log: Log) -> Opened {
        let Self {
            replica,
            replayed,
            healed,
        } = self;
        Opened {
            replica,
            log,
            replayed,
            healed,
        }
    }
}

/// Why a keyspace could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A folder could not be reached.
    #[error("open the keyspace's folders")]
    Folder(#[from] DiskError),
    /// The log refused.
    #[error("open the write-ahead log")]
    Log(#[from] LogError),
    /// The engine refused.
    #[error("open the engine's files")]
    Store(#[from] StoreError),
    /// A node alone wrote the folder, and it was opened for one of several.
    #[error(
        "the data directory is that of a node alone: start it without a cluster, or take a \
         snapshot and restore that to the cluster's members"
    )]
    Alone,
    /// What the log holds is no entry.
    #[error("read op {op} of the log: it is no entry of this release")]
    Entry {
        /// Which one.
        op: Op,
    },
    /// What is kept about the group is damaged.
    #[error("read what is kept about the group with the engine's data")]
    Checkpoint(#[from] holm_raft::DecodeError),
    /// The settings cannot work together.
    #[error("check the settings of the group")]
    Group(#[from] holm_raft::ConfigError),
    /// The log begins after what the engine knows.
    #[error(
        "the engine knows everything up to op {applied}, the log begins at op {first}: files of \
         the folder `log` are missing; put them back, or restore a snapshot"
    )]
    Gap {
        /// The engine's newest op.
        applied: Op,
        /// The log's oldest op.
        first: Op,
    },
    /// The log ends before what the engine knows, and everything is in the log first.
    #[error(
        "the engine knows everything up to op {applied}, the log ends at op {last}: files of \
         the folder `log` are missing, and with them what was written last; put them back, or \
         restore a snapshot"
    )]
    LogLost {
        /// The engine's newest op.
        applied: Op,
        /// The log's newest op.
        last: Op,
    },
    /// The log is that of a node among others.
    #[error(
        "op {op} of the log was ordered together with other nodes: start this node with the \
         options of its cluster, or use another data directory"
    )]
    OfACluster {
        /// The first such op.
        op: Op,
    },
}

/// Opens the keyspace `group` in `folder` (its log in `log`, its engine in `kv`).
///
/// # Errors
///
/// As [`OpenError`] says; nothing was changed but the repair of a torn tail.
pub fn open(
    folder: &dyn Folder,
    group: GroupId,
    log_config: LogConfig,
    config: Config,
) -> Result<Opened, OpenError> {
    let log = Log::open(folder.folder("log")?, log_config)?;
    let opened = open_beside(folder, group, &log, config)?;
    Ok(opened.with(log))
}

/// As [`open`], for one of several groups of a node: its log is open already.
///
/// Cost: reading the newest checkpoint, and what the log holds of this group beyond it.
///
/// # Errors
///
/// As [`OpenError`] says; nothing was changed.
pub fn open_beside(
    folder: &dyn Folder,
    group: GroupId,
    log: &Log,
    config: Config,
) -> Result<OpenedGroup, OpenError> {
    let engine = engine_folder(folder, group)?;
    let (first, last) = (log.first(group), log.last(group));
    let mut keyspace = Keyspace::open_with(engine, config, (first, last))?;
    let (applied, healed) = (keyspace.applied(), keyspace.healed().cloned());
    if keyspace.sequencer().is_some() {
        return Err(OpenError::OfACluster { op: applied });
    }
    if first > applied.next() {
        return Err(OpenError::Gap { applied, first });
    }
    if last < applied {
        return Err(OpenError::LogLost { applied, last });
    }
    let mut replayed = 0;
    let mut foreign = None;
    log.replay(group, applied, &mut |term, op, form, body| match form {
        Form::Plain if foreign.is_none() => {
            // The answer went to a client of an earlier run, or to nobody.
            drop(keyspace.apply(Time::ZERO, op, term, &body));
            replayed += 1;
        }
        Form::Plain => {}
        Form::Raft => foreign = foreign.or(Some(op)),
    })?;
    if let Some(op) = foreign {
        return Err(OpenError::OfACluster { op });
    }
    let durable = Durable {
        term: log.hard(group).term.max(keyspace.term()),
        last,
    };
    let sequencer = Solo::restore(holm_sequencer::Config::default(), durable);
    Ok(OpenedGroup {
        replica: Replica::new(sequencer, keyspace),
        replayed,
        healed,
    })
}

/// Where the engine of a group has its files within a node's folder.
///
/// # Errors
///
/// If the folder could not be reached or made.
pub fn engine_folder(folder: &dyn Folder, group: GroupId) -> Result<Arc<dyn Folder>, OpenError> {
    let places = Places::open(folder.folder("kv")?, group, None)?;
    Ok(places.engine()?)
}
