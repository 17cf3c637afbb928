//! Opening one of several: the engine first, then Raft over what the log holds.
//!
//! What would surprise: nothing is applied here. What the log holds beyond the engine may be
//! void; Raft says when it is committed.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use holm_base::{GroupId, NodeId, Op, Term, Time};
use holm_kv::snapshot::Places;
use holm_kv::{Config, Keyspace};
use holm_log::{Log, LogConfig, LogError, Urgency};
use holm_machine::Folder;
use holm_raft::{Checkpoint, Configuration, Entry, Hard, Manifest, Position, Raft, Restored};
use holm_sequencer::{Form, Record};

use crate::cluster::entry;
use crate::group::Group;
use crate::open::{OpenError, Opened, OpenedGroup};
use crate::replica::Replica;
use crate::shore::Shores;
use crate::snapshots::Snapshots;
use crate::tape::Tape;

/// How many bytes of what the engine knows already are read into memory for such peers.
const READ_BYTES: u64 = 64 << 20;

/// What one of several is told when it opens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupConfig {
    /// This node.
    pub node: NodeId,
    /// Who votes at the very beginning; of no account later. Empty at a node that joins.
    pub voters: Vec<NodeId>,
    /// The shortest silence after which an election begins.
    pub election_timeout: Duration,
    /// How often a leader speaks.
    pub heartbeat_interval: Duration,
    /// The largest command.
    pub request_bytes_max: u64,
    /// How long a command waits for a leader; then it is dropped.
    pub patience: Option<Duration>,
    /// How many ops the log keeps for peers that lag or join; who lags further gets a snapshot,
    /// unless a leader still has what it lacks.
    pub kept_ops: u64,
    /// How many bytes a leader's log keeps at least for a peer that lags. Beyond that it keeps
    /// what weighs less than a quarter of a snapshot, and 512 MiB at most.
    pub laggard_bytes_min: u64,
    /// About how long a snapshot's chunks are.
    pub chunk_bytes: u32,
    /// The other islands, if the keyspace is local-first.
    pub shores: Option<Shores>,
    /// Whether this run is to be recorded; [`Replica::record`] says where to.
    pub is_recorded: bool,
}

impl GroupConfig {
    /// etcd's timeouts, and its 5,000 ops for who lags.
    #[must_use]
    pub const fn new(node: NodeId, voters: Vec<NodeId>) -> Self {
        Self {
            node,
            voters,
            election_timeout: Duration::from_millis(1000),
            heartbeat_interval: Duration::from_millis(100),
            request_bytes_max: 3 << 19,
            patience: None,
            kept_ops: 5_000,
            laggard_bytes_min: 16 << 20,
            chunk_bytes: 1 << 20,
            shores: None,
            is_recorded: false,
        }
    }

    fn raft(&self, boot: u64) -> holm_raft::Config {
        holm_raft::Config {
            election_timeout: self.election_timeout,
            heartbeat_interval: self.heartbeat_interval,
            request_bytes_max: self.request_bytes_max,
            kept_ops: self.kept_ops,
            origin_patience: self.patience,
            ..holm_raft::Config::new(self.node, boot)
        }
    }
}

/// Opens a keyspace of several nodes, as [`crate::open`] opens that of one.
///
/// # Errors
///
/// As [`OpenError`] says; nothing was changed but the repair of a torn tail.
pub fn open_in_group(
    folder: &dyn Folder,
    group: GroupId,
    (log_config, config): (LogConfig, Config),
    group_config: &GroupConfig,
) -> Result<Opened, OpenError> {
    let mut log = Log::open(folder.folder("log")?, log_config)?;
    let opened = open_in_group_beside(folder, group, (&mut log, config), group_config)?;
    Ok(opened.with(log))
}

/// As [`open_in_group`], for one of several groups of a node: its log is open already.
///
/// # Errors
///
/// As [`OpenError`] says; nothing was changed but the log of a damaged group, which goes on
/// behind what the engine knows.
pub fn open_in_group_beside(
    folder: &dyn Folder,
    group: GroupId,
    (log, config): (&mut Log, Config),
    group_config: &GroupConfig,
) -> Result<OpenedGroup, OpenError> {
    // A crash may have come between the log's record of a snapshot and the engine's swap.
    let installed = log.installed(group).map(|it| (it.op, it.term));
    let places = Places::open(folder.folder("kv")?, group, installed)?;
    let engine = places.engine()?;
    let raft_config = group_config.raft(log.opens());
    raft_config.check()?;
    let (first, last) = (log.first(group), log.last(group));
    let store_config = config.store.clone();
    let keyspace = Keyspace::open_with(engine, config, (first, last))?;
    let (applied, healed) = (keyspace.applied(), keyspace.healed().cloned());
    let checkpoint = match keyspace.sequencer() {
        Some(bytes) => Checkpoint::decode(&bytes)?,
        None if applied > Op::ZERO => return Err(OpenError::Alone),
        None => Checkpoint::genesis(Configuration::new(group_config.voters.iter().copied())),
    };
    let known = checkpoint.at.op;
    if first > known.next() {
        let applied = known;
        return Err(OpenError::Gap { applied, first });
    }
    let is_damaged = log.is_damaged(group);
    if last < applied {
        if !is_damaged {
            return Err(OpenError::LogLost { applied, last });
        }
        skip_damage(log, group, &checkpoint)?;
    }
    let (base, entries) = read_log(log, group, (known, group_config.kept_ops))?;
    let replayed = entries.len() as u64;
    let hard = log.hard(group);
    let restored = Restored {
        hard: Hard {
            term: hard.term,
            vote: hard.vote,
            is_recovering: hard.is_recovering,
        },
        checkpoint,
        base,
        entries,
        is_damaged,
    };
    let tape = group_config
        .is_recorded
        .then(|| Tape::new(&raft_config, &restored));
    let raft = Raft::restore(raft_config, restored, Time::ZERO);
    let snapshots = Snapshots::new(places, store_config, group_config.chunk_bytes);
    let run = (log.opens(), keyspace.election_timeout());
    let mut group = Group::new(raft, run, snapshots, group_config.laggard_bytes_min);
    group.tape = tape;
    let mut replica = Replica::of_group(group, keyspace);
    if let Some(shores) = group_config.shores.clone() {
        replica.enter_shore(shores);
    }
    Ok(OpenedGroup {
        replica,
        replayed,
        healed,
    })
}

/// The log ends, before its damage, short of what the engine knows: it goes on behind that.
/// That the replica has to recover is said in the same flush, for then the log looks sound.
fn skip_damage(log: &mut Log, group: GroupId, checkpoint: &Checkpoint) -> Result<(), OpenError> {
    let hard = log.hard(group);
    let hard = Record::Hard {
        term: hard.term,
        vote: hard.vote,
        is_recovering: true,
    };
    go_on_behind(log, group, checkpoint, hard)?;
    Ok(())
}

/// The log goes on behind what the engine knows.
pub(crate) fn go_on_behind(
    log: &mut Log,
    group: GroupId,
    checkpoint: &Checkpoint,
    hard: Record,
) -> Result<(), LogError> {
    let manifest = Manifest {
        checkpoint: checkpoint.clone(),
        chunk_bytes: 1,
        chunks: Vec::new(),
        context: Bytes::new(),
    };
    let mut body = BytesMut::new();
    manifest.encode(&mut body);
    let installed = Record::Installed {
        term: checkpoint.at.term,
        op: checkpoint.at.op,
        is_suffix_kept: false,
        body: body.freeze(),
    };
    log.flush(group, &[hard, installed], Urgency::Reserve)?;
    log.cut(group, checkpoint.at.op)
}

/// What the log holds, from a little below what the engine knows.
fn read_log(
    log: &Log,
    group: GroupId,
    (known, kept): (Op, u64),
) -> Result<(Position, Vec<Entry>), OpenError> {
    let (term, op) = log.base(group);
    let mut base = Position { term, op };
    let start = Op::new(known.value().saturating_sub(kept)).max(op);
    let (mut entries, mut weight) = (VecDeque::<Entry>::new(), 0);
    let mut strange = None;
    let after = Op::new(start.value().saturating_sub(1)).max(op);
    let mut read = |term: Term, op: Op, form: Form, body: Bytes| {
        if op == start {
            base = Position { term, op };
        } else if strange.is_none() {
            match entry(term, op, form, &body) {
                Some(entry) => {
                    weight += entry.weight();
                    entries.push_back(entry);
                }
                None => strange = Some((op, form)),
            }
        }
        // What the engine knows is kept for others, within reason.
        while weight > READ_BYTES
            && let Some(first) = entries.pop_front_if(|first| first.op <= known)
        {
            weight -= first.weight();
            base = first.position();
        }
    };
    log.replay(group, after, &mut read)?;
    match strange {
        None => Ok((base, entries.into())),
        Some((_, Form::Plain)) => Err(OpenError::Alone),
        Some((op, Form::Raft)) => Err(OpenError::Entry { op }),
    }
}
