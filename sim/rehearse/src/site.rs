//! A node: Raft, the table that it orders, and everything a driver does between the two.
//!
//! Applying, reading, fetching and saving happen inside a step; what leaves are records,
//! messages, answers and events. Snapshots travel as the table's bytes, in chunks.

use std::collections::{BTreeMap, VecDeque};
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use holm_base::{NodeId, Op, RequestId, Time, WriteId};
use holm_machine::{Class, Driven, Effects, Label, Machine, Observe, Order};
use holm_raft::{
    self as raft, Checkpoint, ChunkId, Config, Configuration, Entry, Manifest, Message, Operation,
    Outcome, Raft, ReadMode, Refused, Restored, RoleName,
};
use holm_virtual::{Node, Want};
use sha2::{Digest, Sha256};

use crate::journal::{Journal, Record, Saved};
use crate::label;
use crate::table::{Call, Change, Reply, Table, body_size, decode_call, encode_call};

/// What all starts of a node have in common.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    /// Nodes 1 to this one are the first voters; all others are spares.
    pub(crate) voters: u64,
    pub(crate) election_timeout: Duration,
    pub(crate) heartbeat_interval: Duration,
    pub(crate) read_mode: ReadMode,
    /// Small limits, so that short runs reach fetches, snapshots and full windows.
    pub(crate) is_tight: bool,
}

impl Setup {
    fn config(&self, node: NodeId, boot: u64, seed: u64) -> Config {
        let mut config = Config::new(node, boot);
        config.seed = seed;
        config.election_timeout = self.election_timeout;
        config.heartbeat_interval = self.heartbeat_interval;
        config.read_mode = self.read_mode;
        if self.is_tight {
            config.kept_ops = 4;
            config.cache_bytes_max = 2_000;
            config.append_bytes_max = 100;
            config.promotion_lag_max = 20;
            config.origin_window = 256;
        }
        config
    }

    /// How many ops are applied between two saved tables.
    const fn save_every(&self) -> u64 {
        if self.is_tight { 7 } else { 10_000 }
    }
}

/// Everything that can happen to a node.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Input {
    /// It starts.
    Start,
    /// Time has passed.
    Wake,
    /// Writes are safe.
    Durable {
        /// The newest.
        through: WriteId,
    },
    /// A peer spoke.
    Message {
        /// The peer.
        from: NodeId,
        /// What it said.
        message: Message,
    },
    /// A client asks.
    Request {
        /// Whose answer it will be.
        request: RequestId,
        /// What.
        body: Request,
    },
}

/// What a client can ask.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Request {
    /// A write, and how long its value is.
    Write(Call, u32),
    /// A read.
    Read(Call),
    /// All changes from a revision on; from the next one, if 0.
    Watch(u64),
    /// An operator's.
    Operate(Operation),
}

/// What a client hears.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Answer {
    /// It was carried out.
    Done(Reply),
    /// It was not, and never will be.
    Refused,
    /// Nobody knows.
    Unknown,
    /// The operator's wish was granted or not.
    Operated(Result<Outcome, Refused>),
    /// The watch begins at this revision.
    Watching(u64),
    /// Changes, in order.
    Changes(Vec<Change>),
    /// What was to be watched is gone; this is the first that is there.
    Compacted(u64),
}

/// What a node tells observers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Event {
    /// Something of the protocol.
    Raft(raft::Event),
    /// These changes were applied, in order.
    Applied(Vec<Change>),
    /// The table was replaced by one of this revision.
    Replaced(u64),
}

/// Everything a node can ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Make this durable.
    Persist {
        /// Its number.
        write: WriteId,
        /// What.
        record: Record,
    },
    /// Send this once a write is durable.
    Send {
        /// To whom.
        to: NodeId,
        /// What.
        message: Message,
        /// The write.
        after: Option<WriteId>,
    },
    /// Tell a client.
    Answer {
        /// Whose request it was.
        request: RequestId,
        /// What it hears.
        answer: Answer,
    },
    /// Tell observers.
    Note(Event),
}

impl Hash for Effect {
    /// Of a saved table its place is hashed, for the entries before it were.
    fn hash<H: Hasher>(&self, state: &mut H) {
        match self {
            Self::Persist { write, record } => {
                (0_u8, write, &record.raft).hash(state);
                let saved = record.saved.as_ref();
                saved.map(|saved| saved.checkpoint.at).hash(state);
            }
            Self::Send { to, message, after } => (1_u8, to, message, after).hash(state),
            Self::Answer { request, answer } => (2_u8, request, answer).hash(state),
            Self::Note(event) => (3_u8, event).hash(state),
        }
    }
}

/// A node of the store under rehearsal.
#[derive(Clone, Debug)]
pub(crate) struct Site {
    raft: Raft,
    pub(crate) table: Table,
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

impl Site {
    fn start(setup: &Setup, node: NodeId, seed: u64, journal: &Journal) -> Self {
        let config = setup.config(node, journal.boot(), seed);
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
            save_every: setup.save_every(),
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

    /// The protocol, to look at.
    pub(crate) const fn raft(&self) -> &Raft {
        &self.raft
    }

    /// Whether a watch is served.
    pub(crate) fn is_watched_by(&self, request: RequestId) -> bool {
        self.watchers.contains_key(&request)
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

impl Machine for Site {
    type Input = Input;
    type Effect = Effect;

    fn step(&mut self, now: Time, input: Input, effects: &mut Effects<Effect>) {
        match input {
            Input::Start => self.offer(now, effects),
            Input::Wake => self.feed(now, raft::Input::Wake, effects),
            Input::Durable { through } => self.durable(now, through, effects),
            Input::Message { from, message } => {
                self.feed(now, raft::Input::Message { from, message }, effects);
            }
            Input::Request { request, body } => self.request(now, request, body, effects),
        }
        self.settle(effects);
    }

    fn wake_at(&self) -> Option<Time> {
        self.raft.wake_at()
    }
}

impl Driven for Site {
    fn order(effect: &Effect) -> Order {
        match effect {
            Effect::Persist { write, .. } => Order::Persist { write: *write },
            Effect::Send { after, .. } => Order::Leave { after: *after },
            Effect::Answer { .. } | Effect::Note(_) => Order::Leave { after: None },
        }
    }

    fn class(input: &Input) -> Class {
        match input {
            Input::Start | Input::Wake | Input::Durable { .. } => Class::Own,
            Input::Message { .. } => Class::Peer,
            Input::Request { .. } => Class::Request,
        }
    }

    fn wake() -> Input {
        Input::Wake
    }

    fn durable(through: WriteId) -> Input {
        Input::Durable { through }
    }

    fn start() -> Option<Input> {
        Some(Input::Start)
    }
}

impl Observe for Site {
    fn label(&self, input: &Input) -> Label {
        let role = match self.raft.role() {
            RoleName::Follower => "follower",
            RoleName::PreCandidate => "pre-candidate",
            RoleName::Candidate => "candidate",
            RoleName::Leader => "leader",
            RoleName::Recovering => "recovering",
        };
        match input {
            Input::Start => Label::plain("start", role),
            Input::Wake => Label::plain("wake", role),
            Input::Durable { .. } => Label::plain("durable", role),
            Input::Request { .. } => Label::plain("request", role),
            Input::Message { message, .. } => label::of(message, role, &self.raft),
        }
    }
}

impl Node for Site {
    type Setup = Setup;
    type Message = Message;
    type Request = Request;
    type Answer = Answer;
    type Event = Event;
    type Record = Record;
    type Shelf = Journal;

    fn boot(setup: &Setup, id: NodeId, seed: u64, shelf: &Journal) -> Self {
        Self::start(setup, id, seed, shelf)
    }

    fn message(from: NodeId, message: Message) -> Input {
        Input::Message { from, message }
    }

    fn request(request: RequestId, body: Request) -> Input {
        Input::Request { request, body }
    }

    fn want(effect: Effect) -> Want<Self> {
        match effect {
            Effect::Persist { write, record } => Want::Persist { write, record },
            Effect::Send { to, message, .. } => Want::Send { to, message },
            Effect::Answer { request, answer } => Want::Answer { request, answer },
            Effect::Note(event) => Want::Note(event),
        }
    }

    fn unavailable() -> Answer {
        Answer::Refused
    }

    fn size(message: &Message) -> u64 {
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
            raft::Body::Chunk { bytes, .. } => {
                u64::try_from(bytes.len()).expect("chunks are small")
            }
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
}
