//! Questions about leases that this node, which leads, cannot answer yet (I9).
//!
//! Either an op must be applied first, or a round of a quorum must say that this node knows
//! all that was acknowledged. What would surprise: a question waits for an op that it found
//! when it was asked, not for those that came since, or it would wait as long as there is load.

use std::collections::BTreeMap;

use holm_base::{Op, RequestId, Time};
use holm_kv::Refusal;
use holm_raft::Refused;

use crate::cluster::refusal;
use crate::input::Answer;
use crate::message::Wish;
use crate::replica::{Asker, Replica, Sequencer};

/// How many questions may wait. One more from here is answered [`Refusal::Busy`], one more from
/// another site is dropped, and asked again.
pub const QUESTIONS_MAX: usize = 65_536;

/// Something that who leads is asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Question {
    pub(crate) asker: Asker,
    /// What the asker has applied.
    pub(crate) op: Op,
    pub(crate) wish: Wish,
    pub(crate) with_keys: bool,
}

/// What a read must come before.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Doubt {
    /// That something is unknown.
    Question(Question),
    /// The list of all leases, for a client of this node.
    List(RequestId),
}

/// What waits.
#[derive(Debug, Default)]
pub(crate) struct Room {
    early: BTreeMap<Op, Vec<Question>>,
    /// By the read that they wait for.
    doubts: BTreeMap<RequestId, Vec<Doubt>>,
    /// A read of which Raft does not know yet: one more may wait for it too.
    open: Option<RequestId>,
    count: usize,
}

impl Room {
    pub(crate) const fn is_empty(&self) -> bool {
        self.count == 0
    }

    const fn is_full(&self) -> bool {
        self.count >= QUESTIONS_MAX
    }

    fn await_op(&mut self, op: Op, question: Question) {
        self.count += 1;
        self.early.entry(op).or_default().push(question);
    }

    fn await_read(&mut self, read: RequestId, doubt: Doubt) {
        self.count += 1;
        self.open = Some(read);
        self.doubts.entry(read).or_default().push(doubt);
    }

    /// Raft is told now of what came in: what comes later needs a read of its own.
    pub(crate) const fn close(&mut self) {
        self.open = None;
    }

    /// Questions whose op is applied.
    pub(crate) fn take_due(&mut self, applied: Op) -> Vec<Question> {
        let mut due = Vec::new();
        while let Some(first) = self.early.first_entry()
            && *first.key() <= applied
        {
            due.extend(first.remove());
        }
        self.count -= due.len();
        due
    }

    /// All questions, for this node leads no longer. Lists may be had anywhere, and stay.
    pub(crate) fn take_questions(&mut self) -> Vec<Question> {
        let early = core::mem::take(&mut self.early);
        let mut taken: Vec<Question> = early.into_values().flatten().collect();
        for doubts in self.doubts.values_mut() {
            doubts.retain(|doubt| match doubt {
                Doubt::Question(question) => {
                    taken.push(*question);
                    false
                }
                Doubt::List(_) => true,
            });
        }
        self.count -= taken.len();
        taken
    }

    /// The term is another, so the ops that were waited for may never come to be. If this node
    /// leads again by the next look, then with everything of earlier terms applied.
    pub(crate) fn forget_ops(&mut self) {
        let early = core::mem::take(&mut self.early);
        let all: Vec<Question> = early.into_values().flatten().collect();
        if !all.is_empty() {
            self.early.insert(Op::ZERO, all);
        }
    }

    /// What waited for a read; nothing if it was nobody's here.
    pub(crate) fn take_read(&mut self, read: RequestId) -> Option<Vec<Doubt>> {
        let doubts = self.doubts.remove(&read)?;
        self.count -= doubts.len();
        if self.open == Some(read) {
            self.open = None;
        }
        Some(doubts)
    }
}

impl Replica {
    /// Answers a question as soon as that is right, if this node leads; hands it on or back if
    /// it does not.
    pub(crate) fn consider(&mut self, now: Time, question: Question) {
        self.look_for_stall(now);
        let applied = self.keyspace.applied();
        let must_see = match &self.sequencer {
            Sequencer::Solo { .. } => Op::ZERO,
            Sequencer::Raft(group) if group.leads.is_none() => Op::ZERO,
            Sequencer::Raft(group) => match question.wish {
                // That the log is stuck may be said at once.
                Wish::Renew { .. } if self.is_stalled => Op::ZERO,
                Wish::Renew { .. } | Wish::TimeToLive { .. } => {
                    let acknowledged = group.raft.acknowledged_through();
                    acknowledged.map_or(question.op, |op| op.max(question.op))
                }
                Wish::Change(_) => question.op,
            },
        };
        match &mut self.sequencer {
            Sequencer::Raft(group) if must_see > applied => {
                if group.room.is_full() {
                    self.turn_away(question.asker);
                } else {
                    group.room.await_op(must_see, question);
                }
            }
            Sequencer::Raft(_) | Sequencer::Solo { .. } => self.judge(now, question, false),
        }
    }

    /// Answers a question from what is applied here. `is_sure` says that a read has shown since
    /// it was asked that what is unknown here was acknowledged to nobody.
    pub(crate) fn judge(&mut self, now: Time, question: Question, is_sure: bool) {
        if !self.is_leading() {
            self.hand_on(now, question);
            return;
        }
        let is_doubtful = self.is_of_group() && !is_sure;
        match question.wish {
            Wish::Renew { lease } => match self.renewed(now, lease) {
                Err(Refusal::LeaseNotFound) if is_doubtful => {
                    self.doubt(Doubt::Question(question), question.asker);
                }
                answer => self.answer_renewal(question.asker, lease, answer),
            },
            Wish::TimeToLive { lease } => {
                let with_keys = question.with_keys;
                let view = self.keyspace.time_to_live(now, lease, with_keys);
                if view.ttl < 0 && is_doubtful {
                    self.doubt(Doubt::Question(question), question.asker);
                } else {
                    let answer = Answer::Lease(Ok(view));
                    self.answers.push((question.asker, answer));
                }
            }
            Wish::Change(change) => self.change(question.asker, change),
        }
    }

    /// Lists all leases once all that was acknowledged is applied; any node can.
    pub(crate) fn list_later(&mut self, request: RequestId) {
        self.doubt(Doubt::List(request), Asker::Here(request));
    }

    fn doubt(&mut self, doubt: Doubt, asker: Asker) {
        let Some(group) = self.group() else {
            unreachable!("a node alone doubts nothing");
        };
        if group.room.is_full() {
            self.turn_away(asker);
            return;
        }
        let read = group.room.open.unwrap_or_else(|| {
            let request = group.foreign_id();
            group.inputs.push(holm_raft::Input::Read { request });
            request
        });
        group.room.await_read(read, doubt);
    }

    /// There is no room: a client is told, another site asks again.
    fn turn_away(&mut self, asker: Asker) {
        match asker {
            Asker::Here(_) => self.answers.push((asker, Answer::Refused(Refusal::Busy))),
            Asker::Peer(..) => {}
        }
    }

    /// A question that came to a node that does not lead, or does so no longer.
    fn hand_on(&mut self, now: Time, question: Question) {
        let Question {
            asker,
            wish,
            with_keys,
            ..
        } = question;
        match asker {
            Asker::Here(request) if self.ask_leader(now, request, wish, with_keys) => {}
            Asker::Here(_) => self.answers.push((asker, Answer::Refused(Refusal::Busy))),
            Asker::Peer(..) => {
                let answer = Answer::Refused(Refusal::NoLeader);
                self.answers.push((asker, answer));
            }
        }
    }

    /// A read is done, or refused. Whether questions waited for it, rather than a client.
    pub(crate) fn read_ended(
        &mut self,
        now: Time,
        read: RequestId,
        how: Result<(), Refused>,
    ) -> bool {
        let Some(doubts) = self.group().and_then(|group| group.room.take_read(read)) else {
            return false;
        };
        for doubt in doubts {
            match (doubt, how) {
                (Doubt::Question(question), Ok(())) => self.judge(now, question, true),
                (Doubt::List(request), Ok(())) => {
                    let leases = Answer::Leases(Ok(self.keyspace.leases()));
                    self.answers.push((Asker::Here(request), leases));
                }
                // Another site asks again.
                (Doubt::Question(question), Err(reason)) => {
                    let answer = Answer::Refused(refusal(reason));
                    self.answers.push((question.asker, answer));
                }
                (Doubt::List(request), Err(reason)) => {
                    let answer = Answer::Leases(Err(refusal(reason)));
                    self.answers.push((Asker::Here(request), answer));
                }
            }
        }
        true
    }
}
