//! Snapshots: what they consist of, and how one travels in chunks.
//!
//! The bytes never pass through the machine's memory for longer than one step: chunks are read
//! and kept outside, by id, so that a transfer goes on where it stopped.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;

use bytes::Bytes;
use holm_base::{NodeId, Op, Time};

use crate::effect::{Effect, Record};
use crate::event::Event;
use crate::membership::Configuration;
use crate::message::{Body, Position};
use crate::node::{Cx, Raft};
use crate::origin::Windows;
use crate::progress::Mode;
use crate::timers::Timer;

/// The SHA-256 of a chunk's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChunkId(pub [u8; 32]);

/// What a replica knows at one applied op, beside the engine's data. Kept with that data.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Checkpoint {
    /// The last applied entry.
    pub at: Position,
    /// The configuration in force there, and where it stands.
    pub configuration: Arc<Configuration>,
    /// Where that configuration stands.
    pub configured: Position,
    /// Which commands were applied (I18).
    pub windows: Windows,
}

impl Checkpoint {
    /// The state of a group that has done nothing yet.
    #[must_use]
    pub fn genesis(configuration: Configuration) -> Self {
        Self {
            at: Position::ZERO,
            configuration: Arc::new(configuration),
            configured: Position::ZERO,
            windows: Windows::new(),
        }
    }
}

/// What a snapshot consists of.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Manifest {
    /// What the replica must know beside the data.
    pub checkpoint: Checkpoint,
    /// How long a chunk is at most, unless it holds a single record that is longer.
    pub chunk_bytes: u32,
    /// Its chunks, by content, in order.
    pub chunks: Vec<ChunkId>,
    /// The engine's own words about it: revision, chain.
    pub context: Bytes,
}

/// A snapshot on its way in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Receiving {
    pub(crate) manifest: Arc<Manifest>,
    from: NodeId,
    /// Chunks that nobody was asked for; `None` until the driver said what it has.
    missing: Option<BTreeSet<u32>>,
    /// Chunks that were asked for, and until when they are waited for.
    asked: BTreeMap<u32, Time>,
    /// Chunks that are being checked and kept.
    storing: BTreeSet<u32>,
    /// Before this no more is asked for, so that the rate is kept.
    next_ask: Time,
}

impl Receiving {
    fn op(&self) -> Op {
        self.manifest.checkpoint.at.op
    }
}

impl Raft {
    /// A leader's offer arrived.
    pub(crate) fn offered(&mut self, cx: &mut Cx<'_>, from: NodeId, manifest: Arc<Manifest>) {
        let op = manifest.checkpoint.at.op;
        if op <= self.volatile.commit {
            // What is committed here is in the snapshot too: say so, and entries will come.
            let commit = self.volatile.commit;
            cx.note(Event::SnapshotRefused { op });
            if let Some(follower) = self.follower_mut() {
                follower.verified = follower.verified.max(commit);
                follower.is_ack_due = true;
            }
            return;
        }
        if let Some(receiving) = &mut self.volatile.receiving
            && receiving.manifest == manifest
        {
            receiving.from = from;
            return;
        }
        cx.push(Effect::Receive {
            manifest: Arc::clone(&manifest),
        });
        self.volatile.receiving = Some(Receiving {
            manifest,
            from,
            missing: None,
            asked: BTreeMap::new(),
            storing: BTreeSet::new(),
            next_ask: cx.now,
        });
    }

    /// The driver said which chunks it has not.
    pub(crate) fn lacking(&mut self, cx: &mut Cx<'_>, op: Op, chunks: &[u32]) {
        let Some(receiving) = self.receiving(op) else {
            return;
        };
        let count = receiving.manifest.chunks.len();
        let known = |index: &u32| usize::try_from(*index).is_ok_and(|index| index < count);
        receiving.missing = Some(chunks.iter().copied().filter(known).collect());
        self.ask(cx);
    }

    /// A chunk arrived.
    pub(crate) fn chunk(&mut self, cx: &mut Cx<'_>, op: Op, index: u32, bytes: Bytes) {
        let Some(receiving) = self.receiving(op) else {
            return;
        };
        if receiving.asked.remove(&index).is_none() {
            return;
        }
        let at = usize::try_from(index).expect("what was asked for is in the manifest");
        let id = receiving.manifest.chunks[at];
        receiving.storing.insert(index);
        cx.push(Effect::Store {
            op,
            index,
            id,
            bytes,
        });
    }

    /// A chunk was kept, or was not what it should be.
    pub(crate) fn stored(&mut self, cx: &mut Cx<'_>, op: Op, index: u32, is_good: bool) {
        let Some(receiving) = self.receiving(op) else {
            return;
        };
        if !receiving.storing.remove(&index) {
            return;
        }
        if !is_good {
            cx.note(Event::ChunkSpoiled { index });
            let missing = receiving.missing.get_or_insert_default();
            missing.insert(index);
        }
        self.ask(cx);
    }

    /// Asks for as many chunks as limit and rate allow, or installs if none is missing.
    pub(crate) fn ask(&mut self, cx: &mut Cx<'_>) {
        let (limit, timeout) = (self.config.chunks_in_flight_max, self.config.chunk_timeout);
        let rate = self.config.chunk_rate;
        let Some(receiving) = &mut self.volatile.receiving else {
            return;
        };
        let op = receiving.op();
        let Some(missing) = &mut receiving.missing else {
            return;
        };
        let late: Vec<u32> = receiving
            .asked
            .iter()
            .filter(|(_, until)| **until <= cx.now)
            .map(|(index, _)| *index)
            .collect();
        for index in late {
            receiving.asked.remove(&index);
            missing.insert(index);
        }
        if missing.is_empty() && receiving.asked.is_empty() && receiving.storing.is_empty() {
            self.install(cx);
            return;
        }
        let mut chunks = Vec::new();
        while receiving.next_ask <= cx.now
            && receiving.asked.len() + receiving.storing.len() < limit
            && let Some(index) = missing.pop_first()
        {
            receiving.asked.insert(index, cx.now + timeout);
            chunks.push(index);
            let bytes = u64::from(receiving.manifest.chunk_bytes);
            let nanos = bytes.saturating_mul(1_000_000_000) / rate;
            receiving.next_ask = cx.now + core::time::Duration::from_nanos(nanos);
        }
        let next = receiving.asked.values().min().copied();
        let next = if missing.is_empty() || receiving.next_ask <= cx.now {
            next
        } else {
            Some(next.map_or(receiving.next_ask, |at| at.min(receiving.next_ask)))
        };
        let from = receiving.from;
        match next {
            Some(at) => self.volatile.timers.set(Timer::Chunk, at),
            None => self.volatile.timers.clear(Timer::Chunk),
        }
        if !chunks.is_empty() {
            self.send(cx, from, Body::Want { op, chunks }, None);
        }
    }

    /// A peer wants chunks of the snapshot that is kept here.
    pub(crate) fn wanted(&mut self, cx: &mut Cx<'_>, peer: NodeId, op: Op, chunks: &[u32]) {
        let limit = self.config.chunks_in_flight_max;
        let Some(manifest) = &self.volatile.manifest else {
            return;
        };
        let held = manifest.checkpoint.at.op;
        let count = manifest.chunks.len();
        if held != op {
            // An older one was on offer; this one replaces it.
            self.offer(cx, peer);
            return;
        }
        let now = cx.now;
        if let Some(peer) = self.leader_mut().and_then(|leading| leading.peer_mut(peer))
            && let Mode::Snapshot { offered, .. } = &mut peer.mode
        {
            // It has the offer; no need to repeat it while it goes on asking.
            *offered = now;
        }
        for &index in chunks.iter().take(limit) {
            if usize::try_from(index).is_ok_and(|index| index < count) {
                cx.push(Effect::Load { peer, op, index });
            }
        }
    }

    /// A chunk was read for a peer.
    pub(crate) fn loaded(
        &mut self,
        cx: &mut Cx<'_>,
        peer: NodeId,
        op: Op,
        index: u32,
        bytes: Option<Bytes>,
    ) {
        if self.leader_mut().is_none() {
            return;
        }
        match bytes {
            Some(bytes) => self.send(cx, peer, Body::Chunk { op, index, bytes }, None),
            None => self.offer(cx, peer),
        }
    }

    fn receiving(&mut self, op: Op) -> Option<&mut Receiving> {
        self.volatile
            .receiving
            .as_mut()
            .filter(|receiving| receiving.op() == op)
    }

    /// Takes the received state for its own (I11).
    fn install(&mut self, cx: &mut Cx<'_>) {
        self.volatile.timers.clear(Timer::Chunk);
        let receiving = self.volatile.receiving.take();
        let manifest = receiving
            .expect("only what was received is installed")
            .manifest;
        let checkpoint = &manifest.checkpoint;
        let at = checkpoint.at;
        if at.op <= self.volatile.commit {
            // Entries were faster. Older state never replaces newer.
            cx.note(Event::SnapshotRefused { op: at.op });
            return;
        }
        let is_suffix_kept = self.durable.log.term_of(at.op) == Some(at.term);
        let write = self.persist(
            cx,
            Record::Installed {
                manifest: Arc::clone(&manifest),
                is_suffix_kept,
            },
        );
        cx.push(Effect::Install {
            manifest: Arc::clone(&manifest),
            after: write,
        });
        self.durable
            .log
            .install(checkpoint, is_suffix_kept, write, cx.now);
        self.volatile.commit = at.op;
        self.volatile.applied = at.op;
        self.volatile.windows = checkpoint.windows.clone();
        // What is below it is not here: whoever lags further needs this snapshot.
        self.volatile.manifest = Some(Arc::clone(&manifest));
        if let Some(follower) = self.follower_mut() {
            follower.verified = if is_suffix_kept {
                follower.verified.max(at.op)
            } else {
                at.op
            };
            follower.is_ack_due = true;
        }
        cx.note(Event::SnapshotInstalled { op: at.op });
        self.settle_outbox(cx);
        self.release_reads(cx);
    }

    /// A snapshot is kept outside: peers that lag get it, and the log below may go.
    pub(crate) fn saved(&mut self, cx: &mut Cx<'_>, manifest: Arc<Manifest>) {
        let op = manifest.checkpoint.at.op;
        if op > self.volatile.applied {
            assert!(
                op <= self.volatile.commit,
                "I10: a snapshot holds only what was applied"
            );
        }
        let is_newer = self
            .volatile
            .manifest
            .as_ref()
            .is_none_or(|held| held.checkpoint.at.op < op);
        if !is_newer {
            return;
        }
        self.volatile.manifest = Some(manifest);
        let through = Op::new(op.value().saturating_sub(self.config.kept_ops));
        if through > self.durable.log.base().op && through <= self.volatile.applied {
            self.durable.log.cut(through);
            cx.push(Effect::Cut { through });
        }
    }
}
