//! Linearizable reads at any node: a round of questions, asked after the read came in.
//!
//! A round is over when the leader has said what a read must see, and a quorum has said, since
//! the round began, that it is still in that leader's term.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;

use holm_base::{NodeId, Op, RequestId, Term};

use crate::config::ReadMode;
use crate::effect::{Effect, Refused};
use crate::event::Event;
use crate::message::{Body, ReadPoint, Round};
use crate::node::{Cx, Raft};
use crate::state::Role;
use crate::timers::Timer;

/// Who wants to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reader {
    /// A client.
    Request(RequestId),
    /// This replica, to learn when it has caught up (I14).
    Recovery,
}

/// Why a read may be answered from here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Proof {
    /// A quorum said so after the read was asked.
    Round,
    /// The lease, which must still hold when the read is executed and after.
    Lease,
}

/// An answer of one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Answer {
    term: Term,
    read: Option<ReadPoint>,
}

/// A round that is not over.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Asking {
    number: u64,
    readers: Vec<Reader>,
    answers: BTreeMap<NodeId, Answer>,
}

/// All reads of this node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reads {
    /// No round was begun for these.
    queued: VecDeque<Reader>,
    rounds: VecDeque<Asking>,
    /// What they must see is known, but not applied yet.
    waiting: BTreeMap<Op, Vec<(RequestId, Proof)>>,
    count: usize,
    next: u64,
}

impl Reads {
    pub(crate) fn push_recovery(&mut self) {
        let is_asked = |reader: &Reader| *reader == Reader::Recovery;
        let is_open = self.rounds.iter().flat_map(|round| &round.readers);
        if !self.queued.iter().chain(is_open).any(is_asked) {
            self.queued.push_back(Reader::Recovery);
        }
    }

    /// How many reads of clients are here.
    pub(crate) const fn count(&self) -> usize {
        self.count
    }

    pub(crate) fn round_count(&self) -> usize {
        self.rounds.len()
    }
}

impl Raft {
    /// A client of this node wants to read.
    pub(crate) fn read(&mut self, cx: &mut Cx<'_>, request: RequestId) {
        let reason = if !self.configuration().contains(self.config.node) {
            Refused::NotMember
        } else if self.volatile.reads.count >= self.config.reads_max {
            cx.note(Event::ReadShed);
            Refused::Busy
        } else {
            self.volatile.reads.count += 1;
            self.volatile
                .reads
                .queued
                .push_back(Reader::Request(request));
            return;
        };
        cx.push(Effect::Refuse { request, reason });
    }

    /// Begins a round for what is queued, or answers under a lease.
    pub(crate) fn flush_reads(&mut self, cx: &mut Cx<'_>) {
        if self.volatile.reads.queued.is_empty() {
            return;
        }
        if self.config.read_mode == ReadMode::Lease && self.lease(cx.now).is_some() {
            self.read_under_lease(cx);
        }
        let is_ready = match &self.volatile.role {
            Role::Leader(leading) => self.volatile.commit >= leading.blank,
            Role::Follower(_) | Role::Recovering(_) => self.volatile.leader.is_some(),
            Role::PreCandidate(_) | Role::Candidate(_) => false,
        };
        let reads = &mut self.volatile.reads;
        if !is_ready || reads.queued.is_empty() || reads.rounds.len() >= self.config.read_rounds_max
        {
            return;
        }
        reads.next += 1;
        let number = reads.next;
        let readers = reads.queued.drain(..).collect();
        reads.rounds.push_back(Asking {
            number,
            readers,
            answers: BTreeMap::new(),
        });
        self.ask_round(cx, number);
        if !self.volatile.timers.is_set(Timer::Probe) {
            let at = cx.now + self.config.heartbeat_interval;
            self.volatile.timers.set(Timer::Probe, at);
        }
        self.close_rounds(cx);
    }

    /// A leader with a lease asks nobody; who executes the read checks the lease again.
    fn read_under_lease(&mut self, cx: &mut Cx<'_>) {
        let op = self.read_point().map(|point| point.op);
        let queued = core::mem::take(&mut self.volatile.reads.queued);
        for reader in queued {
            match (reader, op) {
                (Reader::Request(request), Some(op)) => self.wait_for(op, request, Proof::Lease),
                (Reader::Request(_), None) | (Reader::Recovery, _) => {
                    self.volatile.reads.queued.push_back(reader);
                }
            }
        }
        self.release_reads(cx);
    }

    fn ask_round(&mut self, cx: &mut Cx<'_>, number: u64) {
        let own = self.config.node;
        let voters: Vec<NodeId> = self.configuration().voters().iter().collect();
        let round = Round {
            boot: self.config.boot,
            number,
        };
        for to in voters {
            if to != own {
                self.send(cx, to, Body::ReadProbe { round }, None);
            }
        }
        // A replica that may have forgotten its term is no witness, not even for itself.
        if self.is_recovering() {
            return;
        }
        let answer = Answer {
            term: self.term(),
            read: self.read_point(),
        };
        let rounds = &mut self.volatile.reads.rounds;
        if let Some(asking) = rounds.iter_mut().find(|asking| asking.number == number) {
            asking.answers.insert(own, answer);
        }
    }

    /// The op that holds all that was acknowledged to anyone in this term or before, if this
    /// replica leads and has committed an entry of its own. It lies beyond the commit point
    /// while an origin may know more. Whether another leads by now only a read can tell.
    #[must_use]
    pub fn acknowledged_through(&self) -> Option<Op> {
        self.read_point().map(|point| point.op)
    }

    /// What a read must see, if this node may say so (I7).
    fn read_point(&self) -> Option<ReadPoint> {
        let leading = self.leader()?;
        let commit = self.volatile.commit;
        if commit < leading.blank {
            return None;
        }
        // Its origin may have counted a flagged op, and answered, before it is committed here.
        let flagged = self.durable.log.last_flagged();
        Some(ReadPoint {
            op: flagged.map_or(commit, |flagged| flagged.max(commit)),
            configuration: self.durable.log.configured().at,
        })
    }

    /// A reader asks which term this is, and what it must see.
    pub(crate) fn read_probe(&mut self, cx: &mut Cx<'_>, from: NodeId, round: Round) {
        if self.is_recovering() {
            return;
        }
        let read = self.read_point();
        self.send(cx, from, Body::ReadProbeReply { round, read }, None);
    }

    /// An answer.
    pub(crate) fn read_probe_reply(
        &mut self,
        cx: &mut Cx<'_>,
        from: NodeId,
        term: Term,
        round: Round,
        read: Option<ReadPoint>,
    ) {
        if round.boot != self.config.boot {
            return;
        }
        let rounds = &mut self.volatile.reads.rounds;
        let Some(asking) = rounds
            .iter_mut()
            .find(|asking| asking.number == round.number)
        else {
            return;
        };
        let answer = Answer { term, read };
        let held = asking.answers.entry(from).or_insert(answer);
        if answer.term > held.term || (answer.term == held.term && answer.read.is_some()) {
            *held = answer;
        }
        self.close_rounds(cx);
    }

    /// Ends the rounds that can end.
    fn close_rounds(&mut self, cx: &mut Cx<'_>) {
        let placed = self.durable.log.configured();
        let at = placed.at;
        let mut closed = Vec::new();
        for (index, asking) in self.volatile.reads.rounds.iter().enumerate() {
            let point = asking.answers.values().find_map(|answer| {
                let read = answer.read.filter(|read| read.configuration == at)?;
                let voters = placed.configuration.voters();
                let is_same = |node: NodeId| {
                    asking
                        .answers
                        .get(&node)
                        .is_some_and(|other| other.term == answer.term)
                };
                (voters.agreed(is_same) == Some(true)).then_some(read.op)
            });
            if let Some(op) = point {
                closed.push((index, op));
            }
        }
        for (index, op) in closed.into_iter().rev() {
            let asking = self.volatile.reads.rounds.remove(index);
            let asking = asking.expect("it was just looked at");
            for reader in asking.readers {
                match reader {
                    Reader::Request(request) => self.wait_for(op, request, Proof::Round),
                    Reader::Recovery => {
                        if let Role::Recovering(recovering) = &mut self.volatile.role {
                            recovering.target = Some(op);
                        }
                    }
                }
            }
        }
        self.release_reads(cx);
        self.finish_recovery(cx);
    }

    fn wait_for(&mut self, op: Op, request: RequestId, proof: Proof) {
        let waiting = self.volatile.reads.waiting.entry(op).or_default();
        waiting.push((request, proof));
    }

    /// Lets reads go whose op is applied.
    pub(crate) fn release_reads(&mut self, cx: &mut Cx<'_>) {
        let applied = self.volatile.applied;
        let until = match self.config.read_mode {
            ReadMode::Lease => self.lease(cx.now),
            ReadMode::Quorum => None,
        };
        while let Some(first) = self.volatile.reads.waiting.first_entry()
            && *first.key() <= applied
        {
            let (op, requests) = first.remove_entry();
            for (request, proof) in requests {
                let reads = &mut self.volatile.reads;
                let until = match (proof, until) {
                    (Proof::Round, _) => None,
                    (Proof::Lease, Some(until)) => Some(until),
                    (Proof::Lease, None) => {
                        // The lease ended while it waited: a quorum must say.
                        reads.queued.push_back(Reader::Request(request));
                        continue;
                    }
                };
                reads.count -= 1;
                cx.push(Effect::ReadAt { request, op, until });
            }
        }
    }

    /// Questions without an answer are asked again, in the same rounds: what was answered to
    /// them was answered after the reads came in.
    pub(crate) fn probe_due(&mut self, cx: &mut Cx<'_>) {
        let numbers: Vec<u64> = self
            .volatile
            .reads
            .rounds
            .iter()
            .map(|asking| asking.number)
            .collect();
        for &number in &numbers {
            self.ask_round(cx, number);
        }
        self.close_rounds(cx);
        if !self.volatile.reads.rounds.is_empty() || self.is_recovering() {
            let at = cx.now + self.config.heartbeat_interval;
            self.volatile.timers.set(Timer::Probe, at);
        }
    }

    /// The term is another: what a lost leader said a read must see may never come to be, so
    /// these reads ask again.
    pub(crate) fn requeue_reads(&mut self) {
        let reads = &mut self.volatile.reads;
        let waiting = core::mem::take(&mut reads.waiting);
        let waiting = waiting.into_values().flatten();
        let waiting = waiting.map(|(request, _)| Reader::Request(request));
        let rounds = core::mem::take(&mut reads.rounds);
        let open = rounds.into_iter().flat_map(|asking| asking.readers);
        let queued = core::mem::take(&mut reads.queued);
        reads.queued = waiting.chain(open).chain(queued).collect();
    }
}
