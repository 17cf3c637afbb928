//! A replica with a disk, an engine and a driver that keeps the contract, for tests.
//!
//! The disk holds records in the order in which they became durable; a crash keeps those and
//! nothing else. The engine is a list of applied commands; what it saved survives too.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test uses its own part of this"
)]

pub mod stage;
pub mod world;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use holm_base::{NodeId, Op, RequestId, Time, WriteId};
use holm_machine::{Effects, Machine};
use holm_raft::{
    Advance, Checkpoint, ChunkId, Config, Effect, Entry, Event, Hard, Input, Manifest, Message,
    Outcome, Position, Raft, Record, Refused, Restored,
};

/// What survives a crash.
#[derive(Clone, Debug)]
pub struct Disk {
    pub hard: Hard,
    pub base: Position,
    pub entries: Vec<Entry>,
    /// The engine's saved state.
    pub saved: (Checkpoint, Vec<(Op, Bytes)>),
    /// The snapshot that is kept for others.
    pub snapshot: Option<(Arc<Manifest>, Vec<Bytes>)>,
    /// Chunks received so far, by id.
    pub chunks: BTreeMap<ChunkId, Bytes>,
    pub is_damaged: bool,
}

/// What the outside sees of one step.
#[derive(Clone, Debug, PartialEq)]
pub enum Out {
    Sent(NodeId, Message),
    Applied {
        op: Op,
        body: Bytes,
        request: Option<RequestId>,
    },
    Advanced {
        op: Op,
        because: Advance,
    },
    Read {
        request: RequestId,
        applied: Op,
        until: Option<Time>,
    },
    Refused(RequestId, Refused),
    Done(RequestId, Outcome),
    Noted(Event),
    /// Writes wait for the disk.
    Writing,
}

/// A replica and all that a driver gives it.
#[derive(Clone, Debug)]
pub struct Host {
    pub config: Config,
    pub raft: Option<Raft>,
    pub disk: Disk,
    pub writing: VecDeque<(WriteId, Record)>,
    pub durable: WriteId,
    pub held: Vec<(WriteId, NodeId, Message)>,
    pub data: Vec<(Op, Bytes)>,
    pub applied: Op,
}

pub fn id(node: u64) -> NodeId {
    NodeId::new(node)
}

/// A stand-in for SHA-256: equal bytes have equal ids, and no test has others collide.
pub fn chunk_id(bytes: &[u8]) -> ChunkId {
    let mut id = [0; 32];
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for &byte in bytes {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    id[..8].copy_from_slice(&hash.to_le_bytes());
    id[8..16].copy_from_slice(&(bytes.len() as u64).to_le_bytes());
    ChunkId(id)
}

fn pack(data: &[(Op, Bytes)]) -> Vec<Bytes> {
    let pack_one = |(op, body): &(Op, Bytes)| {
        let mut bytes = op.value().to_le_bytes().to_vec();
        bytes.extend_from_slice(&u32::try_from(body.len()).expect("short").to_le_bytes());
        bytes.extend_from_slice(body);
        bytes
    };
    let chunk =
        |part: &[(Op, Bytes)]| Bytes::from(part.iter().flat_map(pack_one).collect::<Vec<u8>>());
    data.chunks(64).map(chunk).collect()
}

fn unpack(chunks: &[Bytes]) -> Vec<(Op, Bytes)> {
    let mut data = Vec::new();
    for chunk in chunks {
        let mut rest = &chunk[..];
        while !rest.is_empty() {
            let op = u64::from_le_bytes(rest[..8].try_into().expect("eight"));
            let len = u32::from_le_bytes(rest[8..12].try_into().expect("four"));
            let len = usize::try_from(len).expect("short");
            data.push((Op::new(op), Bytes::copy_from_slice(&rest[12..12 + len])));
            rest = &rest[12 + len..];
        }
    }
    data
}

impl Host {
    pub fn new(config: Config, restored: Restored, now: Time) -> Self {
        let disk = Disk {
            hard: restored.hard,
            base: restored.base,
            entries: restored.entries.clone(),
            saved: (restored.checkpoint.clone(), Vec::new()),
            snapshot: None,
            chunks: BTreeMap::new(),
            is_damaged: false,
        };
        let applied = restored.checkpoint.at.op;
        Self {
            raft: Some(Raft::restore(config.clone(), restored, now)),
            config,
            disk,
            writing: VecDeque::new(),
            durable: WriteId::ZERO,
            held: Vec::new(),
            data: Vec::new(),
            applied,
        }
    }

    pub fn raft(&self) -> &Raft {
        self.raft.as_ref().expect("the node is up")
    }

    pub fn crash(&mut self) {
        self.raft = None;
        self.writing.clear();
        self.held.clear();
    }

    pub fn restart(&mut self, now: Time) {
        self.config.boot += 1;
        self.durable = WriteId::ZERO;
        let (checkpoint, data) = self.disk.saved.clone();
        self.data = data;
        self.applied = checkpoint.at.op;
        let restored = Restored {
            hard: self.disk.hard,
            checkpoint,
            base: self.disk.base,
            entries: self.disk.entries.clone(),
            is_damaged: self.disk.is_damaged,
        };
        self.disk.is_damaged = false;
        self.raft = Some(Raft::restore(self.config.clone(), restored, now));
        if let Some((manifest, _)) = self.disk.snapshot.clone() {
            self.step(now, Input::Saved { manifest });
        }
    }

    /// Saves the engine's state, as a checkpoint, and if asked keeps a snapshot for others.
    pub fn save(&mut self, now: Time, is_snapshot: bool) -> Vec<Out> {
        let checkpoint = self.raft().checkpoint();
        self.disk.saved = (checkpoint.clone(), self.data.clone());
        if !is_snapshot {
            return Vec::new();
        }
        let chunks = pack(&self.data);
        let manifest = Arc::new(Manifest {
            checkpoint,
            chunk_bytes: 64,
            chunks: chunks.iter().map(|chunk| chunk_id(chunk)).collect(),
            context: Bytes::new(),
        });
        self.disk.snapshot = Some((Arc::clone(&manifest), chunks));
        self.step(now, Input::Saved { manifest })
    }

    /// The first `count` waiting writes become durable.
    pub fn sync(&mut self, now: Time, count: usize) -> Vec<Out> {
        let mut through = None;
        for _ in 0..count {
            let Some((write, record)) = self.writing.pop_front() else {
                break;
            };
            through = Some(write);
            self.keep(record);
        }
        let Some(through) = through else {
            return Vec::new();
        };
        self.durable = through;
        let mut out = Vec::new();
        for (after, to, message) in std::mem::take(&mut self.held) {
            if after <= through {
                out.push(Out::Sent(to, message));
            } else {
                self.held.push((after, to, message));
            }
        }
        out.extend(self.step(now, Input::Durable { through }));
        out
    }

    fn keep(&mut self, record: Record) {
        let disk = &mut self.disk;
        match record {
            Record::Entry(entry) => {
                let next = disk.base.op.value() + disk.entries.len() as u64 + 1;
                assert_eq!(entry.op.value(), next, "records leave no gap");
                disk.entries.push(entry);
            }
            Record::Hard(hard) => disk.hard = hard,
            Record::CutTo { last } => disk.entries.retain(|entry| entry.op <= last),
            Record::Installed {
                manifest,
                is_suffix_kept,
            } => {
                let at = manifest.checkpoint.at;
                disk.entries
                    .retain(|entry| is_suffix_kept && entry.op > at.op);
                disk.base = at;
                let chunks: Vec<Bytes> = manifest
                    .chunks
                    .iter()
                    .map(|chunk| disk.chunks[chunk].clone())
                    .collect();
                disk.saved = (manifest.checkpoint.clone(), unpack(&chunks));
                disk.snapshot = Some((manifest, chunks));
            }
        }
    }

    /// Steps once, and again for what the driver answers at once.
    pub fn step(&mut self, now: Time, input: Input) -> Vec<Out> {
        let mut inputs = VecDeque::from([input]);
        let mut out = Vec::new();
        while let Some(input) = inputs.pop_front() {
            let mut effects = Effects::new();
            let raft = self.raft.as_mut().expect("the node is up");
            let is_wake = input == Input::Wake;
            raft.step(now, input, &mut effects);
            if is_wake {
                assert!(raft.wake_at().is_none_or(|at| at > now), "machine I4");
            }
            for effect in effects.drain() {
                self.perform(effect, &mut inputs, &mut out);
            }
        }
        out
    }

    fn perform(&mut self, effect: Effect, inputs: &mut VecDeque<Input>, out: &mut Vec<Out>) {
        match effect {
            Effect::Persist { write, record } => {
                self.writing.push_back((write, record));
                if self.writing.len() == 1 {
                    out.push(Out::Writing);
                }
            }
            Effect::Send { to, message, after } => match after {
                Some(after) if after > self.durable => self.held.push((after, to, message)),
                Some(_) | None => out.push(Out::Sent(to, message)),
            },
            Effect::Apply {
                op,
                command,
                request,
                ..
            } => {
                self.advance(op);
                let body = command.body;
                self.data.push((op, body.clone()));
                out.push(Out::Applied { op, body, request });
            }
            Effect::Advance { op, because, .. } => {
                self.advance(op);
                out.push(Out::Advanced { op, because });
            }
            Effect::ReadAt { request, op, until } => {
                let applied = self.applied;
                assert!(applied >= op, "I7: the read's op is applied");
                out.push(Out::Read {
                    request,
                    applied,
                    until,
                });
            }
            Effect::Refuse { request, reason } => out.push(Out::Refused(request, reason)),
            Effect::Reply { request, outcome } => out.push(Out::Done(request, outcome)),
            Effect::Fetch {
                first, last, peer, ..
            } => {
                let wanted = |entry: &&Entry| first <= entry.op && entry.op <= last;
                let entries = self
                    .disk
                    .entries
                    .iter()
                    .filter(wanted)
                    .take(5)
                    .cloned()
                    .collect();
                inputs.push_back(Input::Fetched { peer, entries });
            }
            Effect::Cut { through } => {
                let at = self.disk.entries.iter().find(|entry| entry.op == through);
                if let Some(at) = at {
                    self.disk.base = at.position();
                    self.disk.entries.retain(|entry| entry.op > through);
                }
            }
            Effect::Note(event) => out.push(Out::Noted(event)),
            snapshot @ (Effect::Receive { .. }
            | Effect::Load { .. }
            | Effect::Store { .. }
            | Effect::Install { .. }) => self.snapshot(snapshot, inputs),
        }
    }

    fn advance(&mut self, op: Op) {
        assert_eq!(op, self.applied.next(), "I10: ops are applied in order");
        self.applied = op;
    }

    fn snapshot(&mut self, effect: Effect, inputs: &mut VecDeque<Input>) {
        match effect {
            Effect::Receive { manifest } => {
                let is_missing = |id: &ChunkId| !self.disk.chunks.contains_key(id);
                let chunks = (0..).zip(&manifest.chunks);
                let chunks = chunks
                    .filter(|(_, id)| is_missing(id))
                    .map(|(index, _)| index);
                inputs.push_back(Input::Lacking {
                    op: manifest.checkpoint.at.op,
                    chunks: chunks.collect(),
                });
            }
            Effect::Load { peer, op, index } => {
                let held = self.disk.snapshot.as_ref();
                let held = held.filter(|(manifest, _)| manifest.checkpoint.at.op == op);
                let at = usize::try_from(index).expect("small");
                inputs.push_back(Input::Loaded {
                    peer,
                    op,
                    index,
                    bytes: held.map(|(_, chunks)| chunks[at].clone()),
                });
            }
            Effect::Store {
                op,
                index,
                id,
                bytes,
            } => {
                let is_good = chunk_id(&bytes) == id;
                if is_good {
                    self.disk.chunks.insert(id, bytes);
                }
                inputs.push_back(Input::Stored { op, index, is_good });
            }
            Effect::Install { manifest, .. } => {
                let chunks: Vec<Bytes> = manifest
                    .chunks
                    .iter()
                    .map(|chunk| self.disk.chunks[chunk].clone())
                    .collect();
                self.data = unpack(&chunks);
                self.applied = manifest.checkpoint.at.op;
            }
            other => panic!("{other:?} is no part of a snapshot"),
        }
    }
}
