//! A node under rehearsal: what can happen to it, what it asks for, and of which kind it is.
//!
//! [`StoreSite`] is the real one: `store/replica` over the real log and the real engine, on a
//! virtual disk. [`TableSite`] is the stand-in, for scenarios that ask for it by name.

mod deck;
mod journal;
pub(crate) mod label;
mod labour;
mod readers;
mod seat;
mod store_site;
mod table;
mod table_site;
mod wire;

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use holm_base::{NodeId, Op, RequestId, Term, Time, WriteId};
use holm_local_first::{Reach, Slot, Type, Vector};
use holm_machine::{Class, Driven, Effects, Label, Machine, Observe, Order, Turn};
use holm_raft::{self as raft, Configuration, Operation, Outcome, ReadMode, Refused, RoleName};
use holm_replica::Neighbour;
use holm_virtual::{Node, WallTime, Want};

use crate::calls::{Call, Change, Key, Reply, State};
use crate::costs::Costs;
use crate::run::facts::Bound;
use deck::record_hash;
pub(crate) use deck::{Image, Shelf};
use label::Sketch;
pub(crate) use seat::Seat;
use store_site::StoreSite;
pub(crate) use store_site::unix_ms;
use table_site::TableSite;
pub(crate) use wire::LAST_KEY;

/// What orders and keeps the data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Engine {
    /// The real one.
    Store,
    /// The stand-in.
    Table,
}

/// What all starts of a node have in common.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    /// How many nodes of other keyspaces stand before those of its own, which count from 1.
    pub(crate) before: u64,
    pub(crate) engine: Engine,
    /// How many operations the log keeps for who lags.
    pub(crate) kept: Option<u64>,
    /// Nodes 1 to this one are the first voters; all others are spares.
    pub(crate) voters: u64,
    pub(crate) election_timeout: Duration,
    pub(crate) heartbeat_interval: Duration,
    pub(crate) read_mode: ReadMode,
    /// The longest value that anybody writes.
    pub(crate) value_bytes_max: u32,
    /// Small limits, so that short runs reach fetches, snapshots, checkpoints and full windows.
    pub(crate) is_tight: bool,
    /// What its work costs; none if it is free.
    pub(crate) costs: Option<Arc<Costs>>,
    /// Where nodes are islands, each one or some together: what their keyspace is.
    pub(crate) islands: Option<Isles>,
}

/// What islands have in common. They have as many nodes each, in order: the first island has the
/// first of them, and slot 1.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Isles {
    pub(crate) kind: Type,
    /// How many bytes of updates are kept for islands that lack them.
    pub(crate) updates: u64,
    /// How many nodes the islands of the beginning have, and how many of them each has.
    pub(crate) count: u64,
    pub(crate) each: u64,
    /// Each island leaves the mark of what it writes at a key of its own: the first of them.
    pub(crate) trace: Key,
}

/// What one node says to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Words {
    /// Between tables.
    Raft(raft::Message),
    /// Between replicas: the bytes that travel.
    Frame(Frame),
}

/// A frame's kind and body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    kind: u8,
    body: Bytes,
    sketch: Sketch,
}

impl Hash for Words {
    fn hash<H: Hasher>(&self, state: &mut H) {
        match self {
            Self::Raft(message) => message.hash(state),
            Self::Frame(frame) => (frame.kind, &frame.body).hash(state),
        }
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
        message: Words,
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
    /// Something about a lease.
    Lease(LeaseCall),
    /// All changes from a revision on; from the next one, if 0.
    Watch(u64),
    /// No more of a watch.
    Unwatch(RequestId),
    /// How far a watch has come.
    Progress(RequestId),
    /// An operator's.
    Operate(Operation),
    /// None of a client's: about which sites its keyspace has. No answer.
    Isle(IsleCall),
    /// None of a client's: that this node's process has perhaps ended, true or not. No answer.
    Suspect(NodeId),
}

/// What an island's log is to take about which sites its keyspace has.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum IsleCall {
    /// These sites, as a roster is written.
    Follow(Bytes),
    /// Nothing more of a slot.
    Stop(u8),
}

/// What a client can ask about a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum LeaseCall {
    /// A new one, that lives so many seconds.
    Grant { id: i64, ttl: i64 },
    /// Let it live on.
    Renew { id: i64 },
    /// End it.
    Revoke { id: i64 },
    /// Say how long it has to live.
    TimeToLive { id: i64 },
}

/// What a client hears about a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum LeaseReply {
    /// It is there, and lives so many seconds.
    Granted { ttl: i64 },
    /// It lives on, for so many seconds.
    Renewed { ttl: i64 },
    /// It was ended.
    Revoked,
    /// There is none.
    Missing,
    /// So many seconds are left, of so many granted.
    Left { ttl: i64, granted: i64 },
}

/// What a client hears.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Answer {
    /// It was carried out.
    Done(Reply),
    /// About a lease.
    Lease(LeaseReply),
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
    /// Everything through this revision has been told.
    Progress(u64),
    /// What was to be watched is gone; this is the first that is there.
    Compacted(u64),
}

/// What a node tells observers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Event {
    /// Something of the protocol.
    Raft(raft::Event),
    /// Something of what binds it to the engine.
    Bound(Bound),
    /// An update of this slot is held back, for its island's clock is too far ahead.
    Held(u8),
    /// An update of this slot does not follow on what is known of it.
    Forked(u8),
    /// What this site has of that slot, which does not go on, is not what counts of it.
    Astray(u8),
    /// These changes were applied, in order.
    Applied(Vec<Change>),
    /// The data was replaced by that of this revision.
    Replaced(u64),
    /// Something that only a fault of ours can bring about.
    Broken(String),
    /// The node cannot go on, and why.
    Failed(String),
}

/// What a node keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Stored {
    /// A table's.
    Table(journal::Record),
    /// A replica's.
    Store(holm_sequencer::Record),
}

/// Everything a node can ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Make this durable.
    Persist {
        /// Its number.
        write: WriteId,
        /// What.
        record: Stored,
    },
    /// Send this once a write is durable.
    Send {
        /// To whom.
        to: NodeId,
        /// What.
        message: Words,
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
                (0_u8, write).hash(state);
                match record {
                    Stored::Table(record) => {
                        let saved = record.saved.as_ref();
                        (&record.raft, saved.map(|saved| saved.checkpoint.at)).hash(state);
                    }
                    Stored::Store(record) => record_hash(record, state),
                }
            }
            Self::Send { to, message, after } => (1_u8, to, message, after).hash(state),
            Self::Answer { request, answer } => (2_u8, request, answer).hash(state),
            Self::Note(event) => (3_u8, event).hash(state),
        }
    }
}

/// How a node stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stand {
    pub(crate) role: RoleName,
    pub(crate) term: Term,
    pub(crate) leader: Option<NodeId>,
    pub(crate) commit: Op,
    pub(crate) applied: Op,
    pub(crate) last: Op,
    pub(crate) durable: Op,
}

/// What there is at the end, to be held against other nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Holding {
    pub(crate) state: State,
    /// Leases, and how many seconds they were granted.
    pub(crate) leases: Vec<(i64, i64)>,
}

/// How an island stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shore {
    /// How far it has taken in what each island did, by slot.
    pub(crate) vector: Vec<(u8, u64)>,
    /// The latest time that it has given or taken in, in milliseconds of Unix time.
    pub(crate) unix_ms: u64,
}

/// By which sites an island goes, and what it knows of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Berth {
    /// Its slot; of one that was left out and is not back, the one that it had.
    pub(crate) slot: Slot,
    /// The number of its table of members.
    pub(crate) epoch: u32,
    /// How far it has taken in what each island did.
    pub(crate) vector: Vector,
    /// Of which slots it takes in nothing more, and how far it is with each.
    pub(crate) stops: BTreeMap<Slot, Reach>,
    /// Of which slot of its own others know more than itself, as its log has it.
    pub(crate) set_back: Option<Slot>,
    /// Whether it has heard, or its log has it, that others know more of it than itself.
    pub(crate) is_set_back: bool,
    /// The others.
    pub(crate) neighbours: Vec<Neighbour>,
}

/// What an island shows of all keys at a revision, and which concurrent writes it names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Scene {
    /// Keys, values and leases, byte for byte.
    pub(crate) bytes: BTreeMap<Bytes, (Bytes, i64)>,
    /// The write of each key.
    pub(crate) marks: BTreeMap<Key, u64>,
    /// Keys and writes that were told of as concurrent, and at which revision first.
    pub(crate) named: BTreeMap<(Key, u64), u64>,
    /// Keys of which it told, as it came back, that a write was left out.
    pub(crate) left_out: BTreeSet<Key>,
}

/// A node of the store under rehearsal.
#[derive(Debug)]
pub(crate) struct Site {
    /// How many nodes of other keyspaces stand before those of its own, which it knows alone.
    before: u64,
    kind: Kind,
    wanted: Effects<Effect>,
}

#[derive(Debug)]
enum Kind {
    Store(Box<StoreSite>),
    Table(Box<TableSite>),
}

impl Site {
    pub(crate) fn stand(&self) -> Stand {
        match &self.kind {
            Kind::Store(site) => site.stand(),
            Kind::Table(site) => site.stand(),
        }
    }

    /// Who belongs to the group, as far as it knows.
    pub(crate) fn configuration(&self) -> &Configuration {
        match &self.kind {
            Kind::Store(site) => site.configuration(),
            Kind::Table(site) => site.configuration(),
        }
    }

    /// The newest revision that is applied.
    pub(crate) fn revision(&self) -> u64 {
        match &self.kind {
            Kind::Store(site) => site.revision(),
            Kind::Table(site) => site.revision(),
        }
    }

    /// All that it holds.
    pub(crate) fn holding(&self) -> Holding {
        match &self.kind {
            Kind::Store(site) => site.holding(),
            Kind::Table(site) => site.holding(),
        }
    }

    /// The term of its entry at an op and who may decide on it; none where that cannot be seen.
    pub(crate) fn decided_by(&self, op: Op) -> Option<(Term, Vec<&Configuration>)> {
        match &self.kind {
            Kind::Store(_) => None,
            Kind::Table(site) => site.raft().decided_by(op),
        }
    }

    /// Whether its entry of that term at an op survives its end; yes where that cannot be seen.
    pub(crate) fn keeps(&self, op: Op, term: Term) -> bool {
        match &self.kind {
            Kind::Store(_) => true,
            Kind::Table(site) => site.raft().keeps(op, term),
        }
    }

    /// How it stands among islands; none if it is none.
    pub(crate) fn shore(&self) -> Option<Shore> {
        match &self.kind {
            Kind::Store(site) => site.shore(),
            Kind::Table(_) => None,
        }
    }

    /// The slot of the island that it is, if it is one; until it is back, the one that it had.
    pub(crate) fn slot(&self) -> Option<Slot> {
        match &self.kind {
            Kind::Store(site) => site.slot(),
            Kind::Table(_) => None,
        }
    }

    /// Under which slot it is an island that takes no more writes, if it is one.
    pub(crate) fn ended(&self) -> Option<Slot> {
        match &self.kind {
            Kind::Store(site) => site.ended(),
            Kind::Table(_) => None,
        }
    }

    /// By which sites it goes; none if it is no island.
    pub(crate) fn berth(&self) -> Option<Berth> {
        match &self.kind {
            Kind::Store(site) => site.berth(),
            Kind::Table(_) => None,
        }
    }

    /// What an island shows.
    pub(crate) fn scene(&self) -> Scene {
        match &self.kind {
            Kind::Store(site) => site.scene(),
            Kind::Table(_) => Scene::default(),
        }
    }

    /// What an island showed of keys at a revision; none if that is compacted.
    pub(crate) fn read_at(&self, keys: (Key, Key), revision: u64) -> Option<Reply> {
        match &self.kind {
            Kind::Store(site) => site.read_at(keys, revision),
            Kind::Table(_) => None,
        }
    }

    /// Through which revision a watch has been served; none if it is not served.
    pub(crate) fn watched_through(&self, request: RequestId) -> Option<u64> {
        match &self.kind {
            Kind::Store(site) => site.watched_through(request),
            Kind::Table(site) => site.watched_through(request),
        }
    }
}

impl Kind {
    fn step(&mut self, now: Time, input: Input, effects: &mut Effects<Effect>) {
        match self {
            Self::Store(site) => site.step(now, input, effects),
            Self::Table(site) => site.step(now, input, effects),
        }
    }
}

impl Machine for Site {
    type Input = Input;
    type Effect = Effect;

    fn step(&mut self, now: Time, input: Input, effects: &mut Effects<Effect>) {
        let before = self.before;
        if before == 0 {
            self.kind.step(now, input, effects);
            return;
        }
        let input = match input {
            Input::Message { from, message } => Input::Message {
                from: NodeId::new(from.value() - before),
                message,
            },
            Input::Start | Input::Wake | Input::Durable { .. } | Input::Request { .. } => input,
        };
        self.kind.step(now, input, &mut self.wanted);
        for effect in self.wanted.drain() {
            effects.push(match effect {
                Effect::Send { to, message, after } => Effect::Send {
                    to: NodeId::new(to.value() + before),
                    message,
                    after,
                },
                Effect::Persist { .. } | Effect::Answer { .. } | Effect::Note(_) => effect,
            });
        }
    }

    fn wake_at(&self) -> Option<Time> {
        match &self.kind {
            Kind::Store(site) => site.wake_at(),
            Kind::Table(site) => site.wake_at(),
        }
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
        let stand = self.stand();
        match input {
            Input::Start => Sketch::plain("start"),
            Input::Wake => Sketch::plain("wake"),
            Input::Durable { .. } => Sketch::plain("durable"),
            Input::Request { .. } => Sketch::plain("request"),
            Input::Message {
                message: Words::Raft(message),
                ..
            } => Sketch::of(message),
            Input::Message {
                message: Words::Frame(frame),
                ..
            } => frame.sketch,
        }
        .label(&stand)
    }
}

impl Node for Site {
    type Setup = Setup;
    type Message = Words;
    type Request = Request;
    type Answer = Answer;
    type Event = Event;
    type Record = Stored;
    type Shelf = Shelf;

    fn shelf(setup: &Setup) -> Shelf {
        Shelf::new(setup.engine)
    }

    fn boot(setup: &Setup, id: NodeId, seed: u64, shelf: &Shelf) -> Self {
        let id = NodeId::new(id.value() - setup.before);
        let kind = match shelf {
            Shelf::Deck(deck) => Kind::Store(Box::new(StoreSite::start(setup, id, seed, deck))),
            Shelf::Journal(journal) => {
                Kind::Table(Box::new(TableSite::start(setup, id, seed, journal)))
            }
        };
        Self {
            before: setup.before,
            kind,
            wanted: Effects::new(),
        }
    }

    fn tell_wall(&mut self, now: Time, wall: WallTime) {
        match &mut self.kind {
            Kind::Store(site) => site.tell_wall(now, wall),
            Kind::Table(_) => {}
        }
    }

    fn message(from: NodeId, message: Words) -> Input {
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

    fn size(message: &Words) -> u64 {
        match message {
            Words::Raft(message) => table_site::size(message),
            Words::Frame(frame) => {
                let body = u64::try_from(frame.body.len()).expect("it is in memory");
                body + FRAME_HEADER
            }
        }
    }

    fn work_nanos(&self, turn: &Turn<Effect>) -> u64 {
        match &self.kind {
            Kind::Store(site) => site.work_nanos(turn),
            Kind::Table(_) => 0,
        }
    }

    fn log_nanos(&self, turn: &Turn<Effect>) -> u64 {
        match &self.kind {
            Kind::Store(site) => site.log_nanos(turn),
            Kind::Table(_) => 0,
        }
    }

    fn log_bytes(&self, turn: &Turn<Effect>) -> u64 {
        match &self.kind {
            Kind::Store(site) => site.log_bytes(turn),
            Kind::Table(_) => 0,
        }
    }

    fn flushes_itself(&self, turn: &Turn<Effect>) -> bool {
        match &self.kind {
            Kind::Store(site) => site.flushes_itself(turn),
            Kind::Table(_) => false,
        }
    }

    fn attends(&self, bytes: u64) -> bool {
        match &self.kind {
            Kind::Store(site) => site.attends(bytes),
            Kind::Table(_) => false,
        }
    }

    fn input_size(input: &Input) -> u64 {
        match input {
            Input::Message { message, .. } => Self::size(message),
            Input::Start | Input::Wake | Input::Durable { .. } | Input::Request { .. } => 0,
        }
    }

    fn has_failed(&self) -> bool {
        match &self.kind {
            Kind::Store(site) => site.has_failed(),
            Kind::Table(_) => false,
        }
    }
}

/// What stands before a frame's body on the wire.
const FRAME_HEADER: u64 = 16;
