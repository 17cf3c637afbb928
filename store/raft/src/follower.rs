//! A follower, sound or recovering: it takes its leader's entries and says what it has.

use alloc::vec::Vec;

use holm_base::{NodeId, Op, RequestId, Term, Time};

use crate::effect::{Effect, Outcome, Record, Refused};
use crate::event::{Event, Rejected};
use crate::message::{Body, Command, Entry, Payload, Position};
use crate::node::{Cx, Raft};
use crate::state::{Follower, Recovering, Role};
use crate::timers::Timer;

impl Raft {
    /// Follows, in this term, whoever leads it.
    pub(crate) fn become_follower(&mut self, cx: &mut Cx<'_>, leader: Option<NodeId>) {
        let follower = Follower::new(self.volatile.commit);
        let was = core::mem::replace(
            &mut self.volatile.role,
            Role::Follower(Follower::new(Op::ZERO)),
        );
        self.volatile.role = match was {
            // Damage is not healed by a new term; a target of an old one may never come.
            Role::Recovering(_) => {
                self.volatile.reads.push_recovery();
                Role::Recovering(Recovering {
                    follower,
                    target: None,
                })
            }
            Role::Leader(leading) => {
                let changing = leading.changing.and_then(|changing| changing.request);
                self.abandon(cx, changing);
                self.volatile.moving = leading.transfer.map(|transfer| transfer.request);
                Role::Follower(follower)
            }
            Role::Follower(_) | Role::PreCandidate(_) | Role::Candidate(_) => {
                Role::Follower(follower)
            }
        };
        self.volatile.leader = None;
        self.volatile.timers.clear(Timer::Heartbeat);
        self.volatile.receiving = None;
        self.volatile.timers.clear(Timer::Chunk);
        self.requeue_reads();
        self.await_leader(cx.now);
        match leader {
            Some(leader) => self.follow(cx, leader),
            None => {
                let term = self.term();
                cx.note(Event::Followed { term, leader });
            }
        }
    }

    /// The term's leader is known now.
    pub(crate) fn follow(&mut self, cx: &mut Cx<'_>, leader: NodeId) {
        assert!(
            self.follower().is_some() && self.volatile.leader.is_none(),
            "I1: a term has one leader"
        );
        let term = self.term();
        self.volatile.leader = Some(leader);
        cx.note(Event::Followed {
            term,
            leader: Some(leader),
        });
        // What the last leader had may be lost with it; it knows repetitions (I18).
        self.volatile.outbox.resend(None);
        if let Some(request) = self.volatile.moving.take() {
            let outcome = Outcome::Moved { leader };
            cx.push(Effect::Reply { request, outcome });
        }
    }

    /// Entries from the leader.
    pub(crate) fn append(
        &mut self,
        cx: &mut Cx<'_>,
        from: NodeId,
        previous: Position,
        commit: Op,
        entries: Vec<Entry>,
    ) {
        if !are_dense(previous, &entries, self.term()) {
            let why = Rejected::Malformed;
            cx.note(Event::Rejected { from, why });
            return;
        }
        // Through the commit point all logs are equal, and ours may be cut below it.
        let own = self.durable.log.term_of(previous.op);
        let is_match = previous.op <= self.volatile.commit || own == Some(previous.term);
        if !is_match {
            self.refuse_append(cx, from, previous.op);
            return;
        }
        let end = Op::new(previous.op.value() + entries.len() as u64);
        let is_moved = self.write(cx, entries);
        if let Some(follower) = self.follower_mut() {
            follower.verified = follower.verified.max(end);
            follower.is_ack_due = true;
        }
        if is_moved {
            self.reconfigured(cx);
        }
        self.told_commit(cx, commit);
        self.count_at_origin(cx);
        self.finish_recovery(cx);
    }

    /// Says what stands where `previous` should, a whole term at a time.
    fn refuse_append(&mut self, cx: &mut Cx<'_>, from: NodeId, at: Op) {
        let log = &self.durable.log;
        let last = log.last();
        let floor = self.volatile.commit.next();
        let (term, first) = log.term_of(at).map_or_else(
            || (Term::ZERO, last.next()),
            |term| (term, log.first_of_term_at(at)),
        );
        let first = first.max(floor);
        self.send(cx, from, Body::Conflict { at, term, first }, None);
    }

    /// Writes what is new; says whether the configuration is another one now.
    fn write(&mut self, cx: &mut Cx<'_>, entries: Vec<Entry>) -> bool {
        let before = self.durable.log.configured().at;
        let own = self.config.node;
        let leader = self.volatile.leader;
        for entry in entries {
            if entry.op <= self.volatile.commit {
                continue;
            }
            match self.durable.log.term_of(entry.op) {
                Some(term) if term == entry.term => {}
                Some(_) => {
                    // Only a real mismatch cuts, never a short message (I2).
                    self.truncate(cx, Op::new(entry.op.value() - 1));
                    self.persist_entry(cx, entry.clone());
                }
                None => self.persist_entry(cx, entry.clone()),
            }
            if let Some(origin) = entry.counting_origin()
                && origin != own
                && Some(origin) != leader
                && let Some(follower) = self.follower_mut()
                && !follower.ack_to.contains(&origin)
            {
                follower.ack_to.push(origin);
            }
        }
        self.durable.log.configured().at != before
    }

    fn truncate(&mut self, cx: &mut Cx<'_>, last: Op) {
        assert!(
            last >= self.volatile.commit,
            "I3: what is committed is never cut: {last} below {}",
            self.volatile.commit
        );
        self.durable.log.truncate(last);
        self.persist(cx, Record::CutTo { last });
        if let Some(follower) = self.follower_mut() {
            assert!(
                follower.verified <= last,
                "I2: a leader never rewrites its own log"
            );
        }
        cx.note(Event::LogTruncated { last });
    }

    /// The leader says what is committed; it counts as far as our log is known to be its own.
    pub(crate) fn told_commit(&mut self, cx: &mut Cx<'_>, commit: Op) {
        if let Some(follower) = self.follower() {
            let commit = commit.min(follower.verified);
            self.advance_commit(cx, commit);
        }
    }

    /// The leader lives.
    pub(crate) fn heartbeat(
        &mut self,
        cx: &mut Cx<'_>,
        from: NodeId,
        round: u64,
        commit: Op,
        stamp: Time,
    ) {
        self.told_commit(cx, commit);
        let body = self.pulse(round, stamp);
        self.send(cx, from, body, None);
    }

    /// The answer to a heartbeat. It states only what is durable already, so it waits for
    /// nothing.
    pub(crate) fn pulse(&self, round: u64, stamp: Time) -> Body {
        let seen = self.follower().map_or(Op::ZERO, |own| own.verified);
        Body::HeartbeatReply {
            round,
            stamp,
            seen,
            matched: seen.min(self.durable.log.durable()),
            last: self.durable.log.last(),
            is_recovering: self.is_recovering(),
        }
    }

    /// Sends the acknowledgement that is due, to the leader and to origins that count.
    pub(crate) fn flush_follower(&mut self, cx: &mut Cx<'_>) {
        let is_recovering = self.is_recovering();
        let after = self.durable.log.pending_write();
        let leader = self.volatile.leader;
        let Some(follower) = self.follower_mut() else {
            return;
        };
        if !core::mem::take(&mut follower.is_ack_due) {
            return;
        }
        let others = core::mem::take(&mut follower.ack_to);
        let body = Body::Ack {
            matched: follower.verified,
            is_recovering,
        };
        for to in others.into_iter().chain(leader) {
            self.send(cx, to, body.clone(), after);
        }
    }

    /// Another replica has made entries durable that came in here: count (I3).
    pub(crate) fn tallied(&mut self, cx: &mut Cx<'_>, from: NodeId, matched: Op) {
        let Some(follower) = self.follower_mut() else {
            return;
        };
        let held = follower.tally.entry(from).or_insert(Op::ZERO);
        *held = (*held).max(matched);
        self.count_at_origin(cx);
    }

    /// Finds the commit point from what voters acknowledged in this term.
    ///
    /// Only as far as flagged ops: the leader answers reads with the last of those, so what is
    /// committed here beyond them could be seen here and then missed elsewhere (I7).
    pub(crate) fn count_at_origin(&mut self, cx: &mut Cx<'_>) {
        let own = self.config.node;
        let term = self.term();
        let log = &self.durable.log;
        let Role::Follower(follower) = &self.volatile.role else {
            return;
        };
        if log.last_flagged().is_none() || follower.tally.is_empty() {
            return;
        }
        let mine = follower.verified.min(log.durable());
        let reached = log.agreed(|node| {
            if node == own {
                mine
            } else {
                follower.tally.get(&node).copied().unwrap_or(Op::ZERO)
            }
        });
        let reached = reached.min(follower.verified);
        let Some(commit) = log.flagged_through(reached) else {
            return;
        };
        if log.term_of(commit) == Some(term) && commit > self.volatile.commit {
            cx.note(Event::OriginCounted { commit });
            self.advance_commit(cx, commit);
        }
    }

    /// A client of this node wants something ordered.
    pub(crate) fn request(&mut self, cx: &mut Cx<'_>, request: RequestId, body: bytes::Bytes) {
        let reason = self.refusal(body.len() as u64);
        if let Some(reason) = reason {
            if reason == Refused::Busy {
                let waiting = holm_base::ByteCount::new(self.volatile.outbox.bytes());
                cx.note(Event::RequestShed { waiting });
            }
            cx.push(Effect::Refuse { request, reason });
            return;
        }
        self.volatile.outbox.push(cx.now, request, body);
        self.set_patience();
        if !self.volatile.timers.is_set(Timer::Retry) {
            let at = cx.now + self.config.election_timeout;
            self.volatile.timers.set(Timer::Retry, at);
        }
    }

    fn refusal(&self, bytes: u64) -> Option<Refused> {
        let outbox = &self.volatile.outbox;
        let span = outbox.span() as u64;
        let is_full = outbox.bytes() + bytes > self.config.origin_bytes_max
            || outbox.count() >= self.config.origin_count_max
            || span >= self.config.origin_window;
        let is_full_here = self.leader().is_some()
            && self.durable.log.uncommitted_bytes() + bytes > self.config.uncommitted_bytes_max;
        if bytes > self.config.request_bytes_max {
            Some(Refused::TooLarge)
        } else if !self.configuration().contains(self.config.node) {
            Some(Refused::NotMember)
        } else if is_full || is_full_here {
            Some(Refused::Busy)
        } else {
            None
        }
    }

    /// Brings what waits to the leader, here or elsewhere.
    pub(crate) fn flush_outbox(&mut self, cx: &mut Cx<'_>) {
        let Some(leader) = self.volatile.leader else {
            return;
        };
        let (bytes_max, count_max) = (self.config.append_bytes_max, self.config.append_count_max);
        loop {
            if leader == self.config.node && !self.takes_commands() {
                return;
            }
            let outbox = &mut self.volatile.outbox;
            let commands = outbox.take_unsent(cx.now, bytes_max, count_max);
            if commands.is_empty() {
                return;
            }
            if leader == self.config.node {
                self.propose(cx, commands);
            } else {
                self.send(cx, leader, Body::Forward { commands }, None);
            }
        }
    }

    /// What got no answer for an election timeout goes out again.
    pub(crate) fn retry_due(&mut self, cx: &mut Cx<'_>) {
        if self.volatile.outbox.is_empty() {
            return;
        }
        let timeout = self.config.election_timeout;
        let limit = cx
            .now
            .nanos()
            .checked_sub(u64::try_from(timeout.as_nanos()).expect("an election timeout fits"));
        if let Some(limit) = limit {
            self.volatile.outbox.resend(Some(Time::from_nanos(limit)));
        }
        self.volatile.timers.set(Timer::Retry, cx.now + timeout);
    }

    fn set_patience(&mut self) {
        let oldest = self.volatile.outbox.oldest();
        if let (Some(oldest), Some(patience)) = (oldest, self.config.origin_patience) {
            self.volatile.timers.set(Timer::GiveUp, oldest + patience);
        }
    }

    /// Whoever has waited for too long is told so, and what was never sent is dropped: it must
    /// not be carried out long after its client was told that its time is up.
    pub(crate) fn give_up_due(&mut self, cx: &mut Cx<'_>) {
        let Some(patience) = self.config.origin_patience else {
            return;
        };
        let patience = u64::try_from(patience.as_nanos()).unwrap_or(u64::MAX);
        let Some(limit) = cx.now.nanos().checked_sub(patience) else {
            return;
        };
        let limit = Time::from_nanos(limit);
        while let Some(request) = self.volatile.outbox.take_late(limit) {
            let reason = Refused::TimedOut;
            cx.push(Effect::Refuse { request, reason });
        }
        self.set_patience();
    }

    /// Orders commands, here at the leader.
    pub(crate) fn propose(&mut self, cx: &mut Cx<'_>, commands: Vec<Command>) {
        let own = self.config.node;
        let size = self.config.origin_window;
        for mut command in commands {
            let Some(leading) = self.leader_mut() else {
                return;
            };
            // A retry of what is in the log already would only fill it.
            if !leading
                .proposed
                .admit(command.origin, command.sequence, size)
            {
                continue;
            }
            command.flags.is_origin_counted = command.origin.node != own;
            self.append_own(cx, Payload::Command(command));
        }
        self.count_commit(cx);
    }

    /// Nothing acknowledged is missing any more: this replica counts again (I14).
    pub(crate) fn finish_recovery(&mut self, cx: &mut Cx<'_>) {
        let term = self.term();
        let Role::Recovering(recovering) = &mut self.volatile.role else {
            return;
        };
        let held = recovering.follower.verified.min(self.durable.log.durable());
        let is_whole = recovering.target.is_some_and(|target| held >= target);
        let Some(leader) = self.volatile.leader.filter(|_| is_whole) else {
            return;
        };
        let mut follower = recovering.follower.clone();
        follower.is_ack_due = true;
        self.volatile.role = Role::Follower(follower);
        self.durable.hard.is_recovering = false;
        // It may have voted in this term and forgotten for whom; the leader is who won.
        self.set_hard(cx, term, Some(leader));
        cx.note(Event::Recovered { term });
    }
}

fn are_dense(previous: Position, entries: &[Entry], limit: Term) -> bool {
    let mut before = previous;
    for entry in entries {
        let is_next = entry.op.value().checked_sub(1) == Some(before.op.value());
        if !is_next || entry.term < before.term || entry.term > limit {
            return false;
        }
        before = entry.position();
    }
    true
}
