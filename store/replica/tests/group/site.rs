//! One site: its replica, its log, its disk, and a driver that keeps the contract.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use holm_base::{ByteCount, ClusterId, GroupId, NodeId, RequestId, Time, WriteId};
use holm_kv::{Config, IslandConfig};
use holm_local_first::{State, Vector};
use holm_log::{Log, LogConfig, Urgency};
use holm_machine::Effects;
use holm_replica::{
    Answer, Effect, Event, GroupConfig, Input, Message, OpenError, Opened, Replica, Shores,
    open_in_group,
};
use holm_sequencer::Record;
use holm_virtual::{Storage, Survival};

pub const GROUP: GroupId = GroupId::new(1);

/// A frame on its way.
pub type Frame = (NodeId, u8, Bytes);

/// What runs while a site is up.
pub struct Running {
    pub replica: Replica,
    log: Log,
    effects: Effects<Effect>,
    records: Vec<Record>,
    through: WriteId,
    durable: WriteId,
    held: Vec<(WriteId, NodeId, Message)>,
}

/// One site.
pub struct Site {
    pub node: NodeId,
    pub voters: Vec<NodeId>,
    pub kept_ops: u64,
    pub laggard_bytes_min: u64,
    pub storage: Storage,
    pub up: Option<Running>,
    pub answers: Vec<(RequestId, Answer)>,
    pub out: Vec<Frame>,
    pub events: Vec<Event>,
    /// How often something was sent, by kind of frame less 16.
    pub sent: [u64; 5],
    /// How many chunks of snapshots were sent, and how many of the next are to be spoiled.
    pub chunks_sent: u64,
    pub spoils: u64,
    /// What it is among islands, and the others, if it is one.
    pub island: Option<(IslandConfig, Shores)>,
}

impl Site {
    pub fn new(node: u64, voters: &[u64]) -> Self {
        Self {
            node: NodeId::new(node),
            voters: voters.iter().map(|it| NodeId::new(*it)).collect(),
            kept_ops: 1_000,
            laggard_bytes_min: 16 << 20,
            storage: Storage::new(),
            up: None,
            answers: Vec::new(),
            out: Vec::new(),
            events: Vec::new(),
            sent: [0; 5],
            island: None,
            chunks_sent: 0,
            spoils: 0,
        }
    }

    pub fn try_open(&self) -> Result<Opened, OpenError> {
        let log_config = LogConfig {
            segment_bytes: ByteCount::new(256 << 10),
            has_peers: true,
            ..LogConfig::new(ClusterId::new(1), self.node)
        };
        let config = Config {
            node: self.node,
            island: self.island.as_ref().map(|(island, _)| island.clone()),
            ..Config::default()
        };
        let group = GroupConfig {
            kept_ops: self.kept_ops,
            laggard_bytes_min: self.laggard_bytes_min,
            chunk_bytes: 2048,
            shores: self.island.as_ref().map(|(_, shores)| shores.clone()),
            ..GroupConfig::new(self.node, self.voters.clone())
        };
        open_in_group(&*self.storage.root(), GROUP, (log_config, config), &group)
    }

    pub fn start(&mut self, now: Time) {
        assert!(self.up.is_none(), "it is down");
        let Opened { replica, log, .. } = self.try_open().expect("the folder opens");
        self.up = Some(Running {
            replica,
            log,
            effects: Effects::new(),
            records: Vec::new(),
            through: WriteId::ZERO,
            durable: WriteId::ZERO,
            held: Vec::new(),
        });
        self.step(now, Input::Start);
        self.settle(now);
    }

    /// Power is lost: what was not synced is gone.
    pub fn crash(&mut self) {
        self.end(Survival::Drop);
    }

    /// It ends in an instant; of what was not synced, this is left.
    pub fn end(&mut self, survival: Survival) {
        self.up = None;
        self.storage = self.storage.reopen(survival);
        self.answers.clear();
        self.out.clear();
    }

    pub fn running(&self) -> &Running {
        self.up.as_ref().expect("it is up")
    }

    pub fn replica(&self) -> &Replica {
        &self.running().replica
    }

    /// The states of all keys of an island.
    pub fn states(&self) -> BTreeMap<Bytes, State> {
        let states = self.replica().keyspace().states();
        let states = states.expect("it is an island");
        let (found, is_last) = states.list(None, usize::MAX).expect("nothing is damaged");
        assert!(is_last, "a few keys");
        let read = |bytes| State::decode(bytes).expect("it was just written");
        found.into_iter().map(|(key, it)| (key, read(it))).collect()
    }

    /// What an island has taken in.
    pub fn vector(&self) -> Vector {
        let island = self.replica().keyspace().island();
        island.expect("it is one").vector().clone()
    }

    pub fn step(&mut self, now: Time, input: Input) {
        let up = self.up.as_mut().expect("it is up");
        let stepped = up.replica.step(now, input, &mut up.effects);
        stepped.expect("no job has failed");
    }

    /// The engine's own work between batches.
    pub fn sweep(&mut self) {
        let up = self.up.as_mut().expect("it is up");
        while up.replica.sweep() {}
    }

    pub fn hear(&mut self, now: Time, from: NodeId, kind: u8, body: &Bytes) {
        let message = Message::decode(kind, body).expect("it came from a replica");
        self.step(now, Input::Message { from, message });
    }

    /// Settles and does what is wanted; jobs run on the spot, but the log waits for
    /// [`Site::flush`].
    pub fn settle(&mut self, now: Time) {
        loop {
            let up = self.up.as_mut().expect("it is up");
            up.replica.settle(now, &mut up.effects);
            let wanted: Vec<Effect> = up.effects.drain().collect();
            let mut again = false;
            for effect in wanted {
                again |= self.obey(now, effect);
            }
            if !again {
                return;
            }
        }
    }

    fn obey(&mut self, now: Time, effect: Effect) -> bool {
        let up = self.up.as_mut().expect("it is up");
        match effect {
            Effect::Persist { write, record } => {
                assert!(write == up.through.next(), "writes are numbered densely");
                up.records.push(record);
                up.through = write;
            }
            Effect::Answer { request, answer } => self.answers.push((request, answer)),
            Effect::Work(job) => {
                let done = job.run();
                if self.storage.has_crashed() {
                    // Power is gone: what came of it nobody will ever know.
                    return false;
                }
                self.step(now, Input::WorkDone(done));
                return true;
            }
            Effect::CutLog { through } => {
                let cut = up.log.cut(GROUP, through);
                assert!(cut.is_ok() || self.storage.has_crashed(), "{cut:?}");
            }
            Effect::Send { to, message, after } => match after {
                Some(after) if after > up.durable => up.held.push((after, to, message)),
                Some(_) | None => self.send(to, &message),
            },
            Effect::Fetch {
                first,
                last,
                bytes_max,
                peer,
            } => {
                let entries = up.log.entries(GROUP, first, last, bytes_max);
                let entries = entries.expect("they are in the log");
                self.step(now, Input::Fetched { peer, entries });
                return true;
            }
            Effect::WakeStreams(_) => {}
            Effect::Note(event) => self.events.push(event),
        }
        false
    }

    fn send(&mut self, to: NodeId, message: &Message) {
        let mut body = BytesMut::new();
        message.encode(&mut body);
        if let Message::Raft(message) = message
            && let holm_raft::Body::Chunk { .. } = message.body
        {
            self.chunks_sent += 1;
            if self.spoils > 0 {
                self.spoils -= 1;
                // Its last byte is one of the chunk's.
                let last = body.len() - 1;
                body[last] ^= 1;
            }
        }
        self.sent[usize::from(message.kind() - 16)] += 1;
        self.out.push((to, message.kind(), body.freeze()));
    }

    pub fn has_unflushed(&self) -> bool {
        self.up.as_ref().is_some_and(|up| !up.records.is_empty())
    }

    /// Makes what waits durable, and sends what waited for that.
    pub fn flush(&mut self, now: Time) {
        let up = self.up.as_mut().expect("it is up");
        let records = core::mem::take(&mut up.records);
        let flushed = up.log.flush(GROUP, &records, Urgency::Ordinary);
        if self.storage.has_crashed() {
            return;
        }
        flushed.expect("the virtual disk holds it");
        up.durable = up.through;
        let through = up.durable;
        let held = core::mem::take(&mut up.held);
        for (after, to, message) in held {
            assert!(after <= through, "nothing waits for what was never written");
            self.send(to, &message);
        }
        self.step(now, Input::Durable { through });
        self.settle(now);
    }

    pub fn value(&self, key: &str) -> Option<(Bytes, i64)> {
        let view = self.replica().keyspace().reader().view();
        let meta = view.root.get(key.as_bytes())?;
        let record = view.root.read(&meta).expect("the record is sound");
        let value = record.decode().expect("a record");
        Some((value.value, value.version))
    }

    pub fn revision(&self) -> i64 {
        let view = self.replica().keyspace().reader().view();
        view.root.revision().value()
    }
}
