//! The stand-in at work: Raft, the table that it orders, and everything a driver does between
//! the two.
//!
//! Applying, reading, fetching and saving happen inside a step; what leaves are records,
//! messages, answers and events. Snapshots travel as the table's bytes, in chunks.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use holm_base::{NodeId, Op, RequestId, Time, WriteId};
use holm_machine::{Effects, Machine};
use holm_raft::{
    self as raft, Checkpoint, ChunkId, Config, Configuration, Entry, Manifest, Raft, Refused,
    Restored,
};
use sha2::{Digest, Sha256};

use super::journal::{Journal, Record, Saved};
use super::table::{Table, body_size, decode_call, encode_call};
use super::{Answer, Effect, Event, Holding, Input, Request, Setup, Stand, Stored, Words};
use crate::calls::{Call, Change};

/// A node over the table.
#[derive(Clone, Debug)]
pub(crate) struct TableSite {
    raft: Raft,
    table: Table,
    save_every: u64,
    kept_ops: u64,
    /// The log as it stands, for peers that lag further than Raft remembers.
    log: VecDeque<Entry>,
    /// Reads that Raft has not let go yet.
    reads: BTreeMap<RequestId, Call>,
    /// Who watches, and the next revision of each.
    watchers: BTreeMap<RequestId, u64>,
    /// The snapshot that is kept for others, in chunks.
    snapshot: Option<(Arc<Manifest>, Vec<Bytes>)>,
    /// Chunks received so far.
    chunks: BTreeMap<ChunkId, Bytes>,
    /// A table that goes out with the next record.
    to_save: Option<Arc<Saved>>,
    /// A table that is on its way to the disk, with that record's number.
    saving: Option<(WriteId, Arc<Saved>)>,
    last_saved: Op,
    applied: Vec<Change>,
    scratch: Effects<raft::Effect>,
    /// What Raft is told next, within the same step.
    inputs: VecDeque<raft::Input>,
}

const CHUNK_BYTES: usize = 16 << 10;

impl TableSite {
    pub(super) fn start(setup: &Setup, node: NodeId, seed: u64, journal: &Journal) -> Self {
        let config = config(setup, node, journal.boot(), seed);
        let kept = journal.kept();
        let voters = if node.value() <= setup.voters {
            setup.voters
        } else {
            0
        };
        let (checkpoint, table) = match &kept.saved {
            Some(saved) => (saved.checkpoint.clone(), saved.table.clone()),
            None => {
                let first = Configuration::new((1..=voters).map(NodeId::new));
                (Checkpoint::genesis(first), Table::new())
            }
        };
        let last_saved = checkpoint.at.op;
        let restored = Restored {
            hard: kept.hard,
            checkpoint,
            base: kept.base,
            entries: kept.entries.iter().cloned().collect(),
            is_damaged: kept.is_damaged,
        };
        let kept_ops = config.kept_ops;
        let raft = Raft::restore(config, restored, Time::ZERO);
        let mut log = kept.entries.clone();
        if raft.last().op < log.back().map_or(Op::ZERO, |last| last.op) || raft.base() != kept.base
        {
            log.clear();
        }
        Self {
            raft,
            table,
            save_every: if setup.is_tight { 7 } else { 10_000 },
            kept_ops,
            log,
            reads: BTreeMap::new(),
            watchers: BTreeMap::new(),
            snapshot: kept.saved.as_deref().map(pack),
            chunks: BTreeMap::new(),
            to_save: None,
            saving: None,
            last_saved,
            applied: Vec::new(),
            scratch: Effects::new(),
            inputs: VecDeque::new(),
        }
    }

    pub(super) fn stand(&self) -> Stand {
        let raft = &self.raft;
        Stand {
            role: raft.role(),
            term: raft.term(),
            leader: raft.leader_known(),
            commit: raft.commit(),
            applied: raft.applied(),
            last: raft.last().op,
            durable: raft.durable_op(),
        }
    }

    pub(super) const fn raft(&self) -> &Raft {
        &self.raft
    }

    pub(super) fn configuration(&self) -> &Configuration {
        self.raft.configuration()
    }

    pub(super) const fn revision(&self) -> u64 {
        self.table.state.revision
    }

    pub(super) fn holding(&self) -> Holding {
        Holding {
            state: self.table.state.clone(),
            leases: Vec::new(),
        }
    }

    /// What it has applied it has told.
    pub(super) fn watched_through(&self, request: RequestId) -> Option<u64> {
        let is_served = self.watchers.contains_key(&request);
        is_served.then_some(self.table.state.revision)
    }

    /// Steps Raft, and again for what the driver answers at once.
    fn feed(&mut self, now: Time, input: raft::Input, effects: &mut Effects<Effect>) {
        self.inputs.push_back(input);
        while let Some(input) = self.inputs.pop_front() {
            let mut wanted = std::mem::take(&mut self.scratch);
            self.raft.step(now, input, &mut wanted);
            for effect in wanted.drain() {
                self.perform(now, effect, effects);
            }
            self.scratch = wanted;
        }
    }

    fn perform(&mut self, now: Time, effect: raft::Effect, effects: &mut Effects<Effect>) {
        match effect {
            raft::Effect::Persist { write, record } => self.persist(write, record, effects),
            raft::Effect::Send { to, message, after } => {
                let message = Words::Raft(message);
                effects.push(Effect::Send { to, message, after });
            }
            raft::Effect::Apply {
                command, request, ..
            } => {
                let call = decode_call(&command.body).expect("a request was encoded here");
                let (reply, change) = self.table.apply(&call);
                self.applied.extend(change);
                if let Some(request) = request {
                    let answer = Answer::Done(reply);
                    effects.push(Effect::Answer { request, answer });
                }
            }
            raft::Effect::Advance { .. } => {}
            raft::Effect::ReadAt { request, until, .. } => {
                let is_late = until.is_some_and(|until| now >= until || !self.raft.has_lease(now));
                if is_late {
                    self.inputs.push_back(raft::Input::Read { request });
                } else if let Some(call) = self.reads.remove(&request) {
                    let answer = Answer::Done(self.table.state.read(&call));
                    effects.push(Effect::Answer { request, answer });
                }
            }
            raft::Effect::Refuse { request, reason } => self.refuse(request, reason, effects),
            raft::Effect::Reply { request, outcome } => {
                let answer = Answer::Operated(Ok(outcome));
                effects.push(Effect::Answer { request, answer });
            }
            raft::Effect::Fetch {
                first,
                last,
                bytes_max,
                peer,
            } => {
                let entries = self.fetch(first, last, bytes_max);
                self.inputs
                    .push_back(raft::Input::Fetched { peer, entries });
            }
            raft::Effect::Cut { through } => {
                while self.log.front().is_some_and(|first| first.op <= through) {
                    self.log.pop_front();
                }
            }
            raft::Effect::Note(event) => effects.push(Effect::Note(Event::Raft(event))),
            raft::Effect::Receive { manifest } => self.receive(&manifest),
            raft::Effect::Load { peer, op, index } => self.load(peer, op, index),
            raft::Effect::Store {
                op,
                index,
                id,
                bytes,
            } => {
                let is_good = chunk_id(&bytes) == id;
                if is_good {
                    self.chunks.insert(id, bytes);
                }
                let stored = raft::Input::Stored { op, index, is_good };
                self.inputs.push_back(stored);
            }
            raft::Effect::Install { manifest, .. } => self.install(&manifest, effects),
        }
    }

    fn persist(&mut self, write: WriteId, record: raft::Record, effects: &mut Effects<Effect>) {
        let mut saved = self.to_save.take();
        match &record {
            raft::Record::Entry(entry) => self.log.push_back(entry.clone()),
            raft::Record::Hard(_) => {}
            raft::Record::CutTo { last } => {
                while self.log.back().is_some_and(|entry| entry.op > *last) {
                    self.log.pop_back();
                }
            }
            raft::Record::Installed {
                manifest,
                is_suffix_kept,
            } => {
                let through = manifest.checkpoint.at.op;
                self.log
                    .retain(|entry| *is_suffix_kept && entry.op > through);
                saved = Some(Arc::new(self.received(manifest)));
            }
        }
        let through = saved.as_ref().map_or(0, |saved| saved.op().value());
        let cut = Op::new(through.saturating_sub(self.kept_ops));
        if let Some(saved) = &saved {
            self.saving = Some((write, Arc::clone(saved)));
        }
        let record = Record {
            raft: record,
            saved,
            cut,
        };
        let record = Stored::Table(record);
        effects.push(Effect::Persist { write, record });
    }

    fn refuse(&mut self, request: RequestId, reason: Refused, effects: &mut Effects<Effect>) {
        self.reads.remove(&request);
        let answer = match reason {
            Refused::Busy | Refused::TooLarge => Answer::Refused,
            // Whether it was ordered before its outbox was dropped, nobody here can tell.
            Refused::NotMember | Refused::TimedOut => Answer::Unknown,
            Refused::NotLeader { .. }
            | Refused::NotReady
            | Refused::LeaderChanged
            | Refused::NoSuchChange
            | Refused::NotInSync
            | Refused::NoLiveQuorum
            | Refused::TooManyMembers
            | Refused::TransferTimedOut
            | Refused::Unsupported => Answer::Operated(Err(reason)),
        };
        effects.push(Effect::Answer { request, answer });
    }

    fn fetch(&self, first: Op, last: Op, bytes_max: u64) -> Vec<Entry> {
        let mut room = bytes_max;
        let begin = self.log.partition_point(|entry| entry.op < first);
        let wanted = self.log.iter().skip(begin);
        let wanted = wanted.take_while(|entry| entry.op <= last);
        let fits = |entry: &&Entry| {
            let had_room = room > 0;
            room = room.saturating_sub(entry.weight());
            had_room
        };
        wanted.take_while(fits).cloned().collect()
    }

    fn receive(&mut self, manifest: &Manifest) {
        let chunks = (0..).zip(&manifest.chunks);
        let missing = chunks.filter(|(_, id)| !self.chunks.contains_key(id));
        let chunks = missing.map(|(index, _)| index).collect();
        let op = manifest.checkpoint.at.op;
        self.inputs.push_back(raft::Input::Lacking { op, chunks });
    }

    fn load(&mut self, peer: NodeId, op: Op, index: u32) {
        let held = self.snapshot.as_ref();
        let held = held.filter(|(manifest, _)| manifest.checkpoint.at.op == op);
        let at = usize::try_from(index).expect("chunks are few");
        let bytes = held.and_then(|(_, chunks)| chunks.get(at)).cloned();
        self.inputs.push_back(raft::Input::Loaded {
            peer,
            op,
            index,
            bytes,
        });
    }

    /// The table that the chunks of a manifest make.
    fn received(&self, manifest: &Manifest) -> Saved {
        let chunks = manifest.chunks.iter().filter_map(|id| self.chunks.get(id));
        let bytes: Vec<u8> = chunks.flat_map(|chunk| chunk.iter().copied()).collect();
        Saved {
            checkpoint: manifest.checkpoint.clone(),
            table: Table::decode(&bytes).expect("each chunk was checked when it was stored"),
        }
    }

    fn install(&mut self, manifest: &Arc<Manifest>, effects: &mut Effects<Effect>) {
        let saved = self.received(manifest);
        self.last_saved = saved.op();
        self.snapshot = Some(pack(&saved));
        self.chunks.clear();
        self.applied.clear();
        self.table = saved.table;
        let revision = self.table.state.revision;
        effects.push(Effect::Note(Event::Replaced(revision)));
    }

    fn request(
        &mut self,
        now: Time,
        request: RequestId,
        body: Request,
        effects: &mut Effects<Effect>,
    ) {
        match body {
            Request::Write(call, padding) => {
                let body = encode_call(&call, padding);
                self.feed(now, raft::Input::Request { request, body }, effects);
            }
            Request::Read(call) => {
                self.reads.insert(request, call);
                self.feed(now, raft::Input::Read { request }, effects);
            }
            Request::Watch(from) => {
                let next = self.table.state.revision + 1;
                let from = if from == 0 { next } else { from };
                let first = self.table.first_kept();
                let answer = if from < first && from < next {
                    Answer::Compacted(first)
                } else {
                    self.watchers.insert(request, from);
                    Answer::Watching(from)
                };
                effects.push(Effect::Answer { request, answer });
            }
            Request::Unwatch(watch) => {
                self.watchers.remove(&watch);
            }
            Request::Progress(_) => {}
            Request::Lease(_) => unreachable!("a scenario that asks a table for leases is refused"),
            Request::Isle(_) => unreachable!("a table is no island"),
            Request::Suspect(peer) => self.feed(now, raft::Input::Suspect { peer }, effects),
            Request::Operate(operation) => {
                let operate = raft::Input::Operate { request, operation };
                self.feed(now, operate, effects);
            }
        }
    }

    /// Tells watchers and observers what was applied, and saves the table when it is time.
    fn settle(&mut self, effects: &mut Effects<Effect>) {
        if !self.applied.is_empty() {
            let changes = std::mem::take(&mut self.applied);
            effects.push(Effect::Note(Event::Applied(changes)));
        }
        self.serve(effects);
        let applied = self.raft.applied();
        let is_due = applied.value() >= self.last_saved.value() + self.save_every;
        if is_due && self.saving.is_none() {
            self.last_saved = applied;
            self.to_save = Some(Arc::new(Saved {
                checkpoint: self.raft.checkpoint(),
                table: self.table.clone(),
            }));
        }
    }

    fn serve(&mut self, effects: &mut Effects<Effect>) {
        let revision = self.table.state.revision;
        let first = self.table.first_kept();
        let mut gone = Vec::new();
        for (&request, next) in &mut self.watchers {
            if *next > revision {
                continue;
            }
            let answer = if *next < first {
                gone.push(request);
                Answer::Compacted(first)
            } else {
                Answer::Changes(self.table.changes(*next).collect())
            };
            *next = revision + 1;
            effects.push(Effect::Answer { request, answer });
        }
        for request in gone {
            self.watchers.remove(&request);
        }
    }

    fn durable(&mut self, now: Time, through: WriteId, effects: &mut Effects<Effect>) {
        self.feed(now, raft::Input::Durable { through }, effects);
        let Some((_, saved)) = self.saving.take_if(|(write, _)| *write <= through) else {
            return;
        };
        let held = self.snapshot.as_ref();
        if held.is_none_or(|(held, _)| held.checkpoint.at.op < saved.op()) {
            self.snapshot = Some(pack(&saved));
        }
        self.offer(now, effects);
    }

    /// Tells Raft which snapshot is kept.
    fn offer(&mut self, now: Time, effects: &mut Effects<Effect>) {
        if let Some((manifest, _)) = &self.snapshot {
            let manifest = Arc::clone(manifest);
            self.feed(now, raft::Input::Saved { manifest }, effects);
        }
    }
}

/// A saved table as a snapshot for others.
fn pack(saved: &Saved) -> (Arc<Manifest>, Vec<Bytes>) {
    let bytes = saved.table.encode();
    let begins = (0..bytes.len()).step_by(CHUNK_BYTES);
    let chunks = begins.map(|at| bytes.slice(at..bytes.len().min(at + CHUNK_BYTES)));
    let chunks: Vec<Bytes> = chunks.collect();
    let manifest = Manifest {
        checkpoint: saved.checkpoint.clone(),
        chunk_bytes: u32::try_from(CHUNK_BYTES).expect("chunks are small"),
        chunks: chunks.iter().map(|chunk| chunk_id(chunk)).collect(),
        context: Bytes::new(),
    };
    (Arc::new(manifest), chunks)
}

fn chunk_id(bytes: &[u8]) -> ChunkId {
    ChunkId(Sha256::digest(bytes).into())
}

impl TableSite {
    pub(super) fn step(&mut self, now: Time, input: Input, effects: &mut Effects<Effect>) {
        match input {
            Input::Start => self.offer(now, effects),
            Input::Wake => self.feed(now, raft::Input::Wake, effects),
            Input::Durable { through } => self.durable(now, through, effects),
            Input::Message {
                from,
                message: Words::Raft(message),
            } => self.feed(now, raft::Input::Message { from, message }, effects),
            Input::Message {
                message: Words::Frame(_),
                ..
            } => unreachable!("all nodes of a run are of one kind"),
            Input::Request { request, body } => self.request(now, request, body, effects),
        }
        self.settle(effects);
    }

    pub(super) fn wake_at(&self) -> Option<Time> {
        self.raft.wake_at()
    }
}

fn config(setup: &Setup, node: NodeId, boot: u64, seed: u64) -> Config {
    let mut config = Config::new(node, boot);
    config.seed = seed;
    config.election_timeout = setup.election_timeout;
    config.heartbeat_interval = setup.heartbeat_interval;
    config.read_mode = setup.read_mode;
    if setup.is_tight {
        config.kept_ops = 4;
        config.cache_bytes_max = 2_000;
        config.append_bytes_max = 100;
        config.promotion_lag_max = 20;
        config.origin_window = 256;
    }
    config
}

/// How many bytes a message would take, values included.
pub(super) fn size(message: &raft::Message) -> u64 {
    let entry = |entry: &Entry| match &entry.payload {
        raft::Payload::Command(command) => 48 + body_size(&command.body),
        raft::Payload::Blank | raft::Payload::Configuration(_) => 64,
    };
    let content = match &message.body {
        raft::Body::Append { entries, .. } => entries.iter().map(entry).sum(),
        raft::Body::Forward { commands } => {
            let bodies = commands.iter().map(|one| 32 + body_size(&one.body));
            bodies.sum()
        }
        raft::Body::Chunk { bytes, .. } => u64::try_from(bytes.len()).expect("chunks are small"),
        raft::Body::PreVote { .. }
        | raft::Body::PreVoteReply { .. }
        | raft::Body::Vote { .. }
        | raft::Body::VoteReply { .. }
        | raft::Body::Commit { .. }
        | raft::Body::Ack { .. }
        | raft::Body::Conflict { .. }
        | raft::Body::Heartbeat { .. }
        | raft::Body::HeartbeatReply { .. }
        | raft::Body::ReadProbe { .. }
        | raft::Body::ReadProbeReply { .. }
        | raft::Body::TimeoutNow
        | raft::Body::Offer { .. }
        | raft::Body::Want { .. } => 32,
    };
    content + 64
}
