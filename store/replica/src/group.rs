//! What a replica of a group has beside the engine: Raft, and what goes with it.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use holm_base::{NodeId, Op, RequestId, Term, Time};
use holm_machine::{Effects, Machine};
use holm_raft::{Entry, Manifest, Payload, Raft, RoleName};
use holm_sequencer::{Form, Record};

use crate::asks::Asks;
use crate::replica::Asker;
use crate::room::Room;
use crate::snapshots::Snapshots;
use crate::standing::Standing;
use crate::tape::Tape;

/// How many bytes of the log are kept for a peer that lags, however large a snapshot is.
const LAGGARD_BYTES_MAX: u64 = 512 << 20;

/// What the log keeps for a peer that lags weighs no more than this part of a snapshot.
pub(crate) const LAGGARD_SHARE: u64 = 4;

/// How many bytes of entries may wait while the engine cannot follow.
const UNAPPLIED_BYTES_MAX: u64 = 64 << 20;

/// How much is allocated at once for the entries of a batch.
const ARENA_BYTES: usize = 64 << 10;

/// Requests of operators at other sites carry ids from here downwards.
const FOREIGN: u64 = u64::MAX;

/// Raft, and what goes with it.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) raft: Raft,
    /// What came in since Raft last decided.
    pub(crate) inputs: Vec<holm_raft::Input>,
    /// Raft's effects; kept to reuse its memory.
    pub(crate) wanted: Effects<holm_raft::Effect>,
    /// The term that this node leads, once everything of earlier terms is applied here.
    pub(crate) leads: Option<Term>,
    /// Who waits for which operation.
    pub(crate) operations: BTreeMap<RequestId, Asker>,
    foreign: u64,
    pub(crate) asks: Asks,
    pub(crate) room: Room,
    pub(crate) kept: Kept,
    pub(crate) snapshots: Snapshots,
    /// Entries are encoded here, so that a batch shares one allocation.
    arena: BytesMut,
    /// Where the engine's files end, as Raft was last told.
    pub(crate) released: Op,
    /// What Raft is told and wants, if this run is recorded.
    pub(crate) tape: Option<Tape>,
}

impl Group {
    pub(crate) fn new(
        raft: Raft,
        (boot, election_timeout): (u64, Duration),
        snapshots: Snapshots,
        laggard_bytes_min: u64,
    ) -> Self {
        Self {
            raft,
            inputs: Vec::new(),
            wanted: Effects::new(),
            leads: None,
            operations: BTreeMap::new(),
            foreign: FOREIGN,
            asks: Asks::new(boot, election_timeout),
            room: Room::default(),
            kept: Kept::new(laggard_bytes_min),
            snapshots,
            arena: BytesMut::new(),
            released: Op::ZERO,
            tape: None,
        }
    }

    /// An id for an operation that was asked elsewhere.
    pub(crate) const fn foreign_id(&mut self) -> RequestId {
        self.foreign -= 1;
        RequestId::new(self.foreign)
    }

    /// The leader, if it is another node.
    pub(crate) fn other_leader(&self) -> Option<NodeId> {
        self.raft
            .leader_known()
            .filter(|it| *it != self.raft.node())
    }

    pub(crate) fn is_leader(&self) -> bool {
        self.raft.role() == RoleName::Leader
    }

    /// Whether an op that was just applied is the first of this node's own term of leading: a
    /// leader begins with an entry that changes no data.
    pub(crate) fn begins_to_lead(&self, term: Term) -> bool {
        self.leads.is_none() && self.is_leader() && self.raft.term() == term
    }

    /// Whether so much was ordered and not applied that no more is to be taken.
    pub(crate) const fn is_flooded(&self) -> bool {
        self.kept.unapplied > UNAPPLIED_BYTES_MAX
    }

    /// When Raft or an open question wants to be looked at.
    pub(crate) fn wake_at(&self) -> Option<Time> {
        let (raft, asks) = (self.raft.wake_at(), self.asks.wake_at());
        let raft = raft.filter(|_| !self.snapshots.is_installing());
        [raft, asks, self.snapshots.wake_at()]
            .into_iter()
            .flatten()
            .min()
    }

    /// Raft's record as the log keeps it.
    pub(crate) fn record(&mut self, record: holm_raft::Record) -> Record {
        match record {
            holm_raft::Record::Entry(entry) => {
                self.kept.appended(entry.op, entry.weight());
                let Entry { op, term, payload } = entry;
                let body = self.encode(&payload);
                let form = Form::Raft;
                Record::Entry {
                    term,
                    op,
                    form,
                    body,
                }
            }
            holm_raft::Record::Hard(hard) => Record::Hard {
                term: hard.term,
                vote: hard.vote,
                is_recovering: hard.is_recovering,
            },
            holm_raft::Record::CutTo { last } => {
                self.kept.cut_to(last);
                Record::CutTo { last }
            }
            holm_raft::Record::Installed {
                manifest,
                is_suffix_kept,
            } => {
                let at = manifest.checkpoint.at;
                self.kept.installed(at.op, is_suffix_kept);
                // The chunks' names are of no use any more.
                let manifest = Manifest {
                    chunks: Vec::new(),
                    ..(*manifest).clone()
                };
                let mut body = BytesMut::new();
                manifest.encode(&mut body);
                Record::Installed {
                    term: at.term,
                    op: at.op,
                    is_suffix_kept,
                    body: body.freeze(),
                }
            }
        }
    }

    fn encode(&mut self, payload: &Payload) -> Bytes {
        let body = match payload {
            Payload::Command(command) => command.body.len(),
            Payload::Blank | Payload::Configuration(_) => 0,
        };
        // What is long gets room of its own: it would keep its neighbours in memory.
        if body > ARENA_BYTES {
            let mut own = BytesMut::with_capacity(body + 64);
            payload.encode(&mut own);
            return own.freeze();
        }
        if self.arena.capacity() < body + 64 {
            self.arena.reserve(ARENA_BYTES + 64);
        }
        payload.encode(&mut self.arena);
        self.arena.split().freeze()
    }

    /// How the replica stands.
    pub(crate) fn standing(&self, applied: Op) -> Standing {
        let raft = &self.raft;
        Standing {
            role: raft.role(),
            term: raft.term(),
            leader: raft.leader_known(),
            leads: self.leads.is_some(),
            commit: raft.commit(),
            applied,
            last: raft.last().op,
            durable: raft.durable_op(),
            first: raft.base().op.next(),
            configuration: raft.configuration().clone(),
            peers: raft.peers().collect(),
            neighbours: Vec::new(),
            is_set_back: false,
        }
    }
}

/// How much of the log lies where, in bytes.
#[derive(Debug)]
pub(crate) struct Kept {
    /// Bytes appended in this run.
    total: u64,
    /// After about each mebibyte: the op, and `total` with it.
    marks: VecDeque<(Op, u64)>,
    /// Bytes of entries that are not applied; no less, for those cut away still count.
    unapplied: u64,
    last: Op,
    limit: Op,
    /// No less is kept.
    bytes_min: u64,
    mark_every: u64,
}

/// What an entry weighs beyond its body, as Raft counts.
const HEADER_WEIGHT: u64 = 64;

const MARK_EVERY: u64 = 1 << 20;

impl Kept {
    fn new(bytes_min: u64) -> Self {
        Self {
            total: 0,
            marks: VecDeque::new(),
            unapplied: 0,
            last: Op::ZERO,
            limit: Op::ZERO,
            bytes_min,
            mark_every: (bytes_min / 16).clamp(1, MARK_EVERY),
        }
    }

    /// The state comes from a snapshot now.
    fn installed(&mut self, op: Op, is_suffix_kept: bool) {
        if !is_suffix_kept {
            self.marks.clear();
            self.unapplied = 0;
            self.last = op;
        }
    }

    fn appended(&mut self, op: Op, bytes: u64) {
        self.total += bytes;
        self.unapplied += bytes;
        self.last = op;
        let marked = self.marks.back().map_or(0, |(_, total)| *total);
        if self.total - marked >= self.mark_every {
            self.marks.push_back((op, self.total));
        }
    }

    fn cut_to(&mut self, last: Op) {
        while self.marks.back().is_some_and(|(op, _)| *op > last) {
            self.marks.pop_back();
        }
        self.last = last;
    }

    /// An op was applied, with a body of so many bytes.
    pub(crate) fn applied(&mut self, op: Op, body: usize) {
        self.unapplied = if op >= self.last {
            0
        } else {
            let weight = body as u64 + HEADER_WEIGHT;
            self.unapplied.saturating_sub(weight)
        };
    }

    /// The op up to which entries go whoever needs them, so that about `bytes` remain, within
    /// limits.
    pub(crate) fn limit(&mut self, bytes: u64) -> Op {
        let bytes = bytes.max(self.bytes_min).min(LAGGARD_BYTES_MAX);
        while let Some((op, total)) = self.marks.front().copied()
            && self.total - total > bytes
        {
            self.limit = op;
            self.marks.pop_front();
        }
        self.limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_beyond_its_limit_is_found_to_a_mebibyte() {
        let mut kept = Kept::new(16 << 20);
        for op in 1..=100 {
            kept.appended(Op::new(op), 1 << 18);
        }
        // 25 MiB; the newest sixteen begin with op 37.
        assert_eq!(kept.limit(0), Op::new(32), "no less than the least");
        assert_eq!(kept.limit(20 << 20), Op::new(32), "it never falls");
        for op in 1..=100 {
            assert!(kept.unapplied > 0, "op {op} is not applied");
            kept.applied(Op::new(op), (1 << 18) - 64);
        }
        assert_eq!(kept.unapplied, 0);
    }
}
