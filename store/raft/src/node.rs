//! The replica: one door in, the term check, and what all roles share.
//!
//! A step first lets the input change the state, then flushes: what there is to say to each
//! peer is decided once for a whole batch, so that messages coalesce.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use holm_base::{NodeId, Op, RequestId, Term, Time, WriteId};
use holm_machine::{Effects, Machine};

use crate::config::Config;
use crate::effect::{Advance, Effect, Hard, Record, Refused};
use crate::event::{Event, Rejected, SteppedDown};
use crate::input::{Input, Operation};
use crate::log::Log;
use crate::membership::Configuration;
use crate::message::{Body, Command, Entry, Message, NO_ROUND, Origin, Payload, Position};
use crate::origin::Outbox;
use crate::snapshot::Checkpoint;
use crate::state::{Durable, Follower, Recovering, Role, Volatile};
use crate::timers::Timer;

/// What one step works with.
pub(crate) struct Cx<'a> {
    pub(crate) now: Time,
    effects: &'a mut Effects<Effect>,
}

impl Cx<'_> {
    pub(crate) fn push(&mut self, effect: Effect) {
        self.effects.push(effect);
    }

    pub(crate) fn note(&mut self, event: Event) {
        self.effects.push(Effect::Note(event));
    }
}

/// What a run finds when it begins.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Restored {
    /// The newest hard state of the log.
    pub hard: Hard,
    /// What belongs to the applied state.
    pub checkpoint: Checkpoint,
    /// The entry below the first of `entries`; not beyond the checkpoint.
    pub base: Position,
    /// What the log holds behind `base`, dense.
    pub entries: Vec<Entry>,
    /// Entries that were acknowledged may be missing: the log was damaged, and `entries` end
    /// before the damage.
    pub is_damaged: bool,
}

impl Restored {
    /// A node that has never run. Voters begin with the group's first configuration, a joiner
    /// with an empty one, which it replaces by what its leader sends.
    #[must_use]
    pub fn fresh(configuration: Configuration) -> Self {
        Self {
            hard: Hard::default(),
            checkpoint: Checkpoint::genesis(configuration),
            base: Position::ZERO,
            entries: Vec::new(),
            is_damaged: false,
        }
    }
}

/// What a replica is at the moment, for observers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RoleName {
    /// Listens to a leader, or waits for one.
    Follower,
    /// Asks whether it could win.
    PreCandidate,
    /// Asks for votes.
    Candidate,
    /// Orders commands.
    Leader,
    /// Mends its log.
    Recovering,
}

/// A replica of one group: a [`Machine`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Raft {
    pub(crate) config: Config,
    pub(crate) durable: Durable,
    pub(crate) volatile: Volatile,
}

impl Raft {
    /// A replica that goes on where its log ends. `now` begins its first election timeout.
    ///
    /// # Panics
    ///
    /// If the configuration does not pass [`Config::check`], or the entries are not dense: the
    /// driver built both.
    #[must_use]
    pub fn restore(config: Config, restored: Restored, now: Time) -> Self {
        assert!(config.check() == Ok(()), "the configuration was checked");
        let mut restored = restored;
        let checkpoint = &restored.checkpoint;
        let reaches = restored.base.op.value() + restored.entries.len() as u64;
        if reaches < checkpoint.at.op.value() {
            // The engine is ahead of a log that was cut, dropped or damaged.
            restored.base = checkpoint.at;
            restored.entries.clear();
        }
        let log = Log::restore(restored.base, checkpoint, restored.entries);
        let mut hard = restored.hard;
        if log.last_position().term > hard.term {
            hard.term = log.last_position().term;
            hard.vote = None;
        }
        hard.is_recovering |= restored.is_damaged;
        let origin = Origin {
            node: config.node,
            boot: config.boot,
        };
        let seed = config.seed ^ config.boot.rotate_left(32);
        let applied = checkpoint.at.op;
        let follower = Follower::new(applied);
        let role = if hard.is_recovering {
            Role::Recovering(Recovering {
                follower,
                target: None,
            })
        } else {
            Role::Follower(follower)
        };
        let mut volatile = Volatile::new(role, applied, Outbox::new(origin), seed);
        volatile.windows = restored.checkpoint.windows;
        volatile.is_damage_unsaved = restored.is_damaged;
        let mut raft = Self {
            config,
            durable: Durable { hard, log },
            volatile,
        };
        raft.volatile.loyal_until = now + raft.config.election_timeout;
        if raft.is_alone() {
            raft.volatile.loyal_until = now;
            raft.volatile.timers.set(Timer::Election, now);
        } else {
            raft.await_leader(now);
        }
        if raft.durable.hard.is_recovering {
            raft.volatile.reads.push_recovery();
            raft.volatile.timers.set(Timer::Probe, now);
        }
        raft
    }

    /// This node.
    #[must_use]
    pub const fn node(&self) -> NodeId {
        self.config.node
    }

    /// Its term.
    #[must_use]
    pub const fn term(&self) -> Term {
        self.durable.hard.term
    }

    /// Its vote in that term.
    #[must_use]
    pub const fn vote(&self) -> Option<NodeId> {
        self.durable.hard.vote
    }

    /// What it is.
    #[must_use]
    pub const fn role(&self) -> RoleName {
        match self.volatile.role {
            Role::Follower(_) => RoleName::Follower,
            Role::PreCandidate(_) => RoleName::PreCandidate,
            Role::Candidate(_) => RoleName::Candidate,
            Role::Leader(_) => RoleName::Leader,
            Role::Recovering(_) => RoleName::Recovering,
        }
    }

    /// Who leads, as far as it knows.
    #[must_use]
    pub const fn leader_known(&self) -> Option<NodeId> {
        self.volatile.leader
    }

    /// Ops through here are committed.
    #[must_use]
    pub const fn commit(&self) -> Op {
        self.volatile.commit
    }

    /// Ops through here were handed out to be applied.
    #[must_use]
    pub const fn applied(&self) -> Op {
        self.volatile.applied
    }

    /// The end of the log, durable or not.
    #[must_use]
    pub fn last(&self) -> Position {
        self.durable.log.last_position()
    }

    /// Ops through here survive a crash.
    #[must_use]
    pub const fn durable_op(&self) -> Op {
        self.durable.log.durable()
    }

    /// The entry below the first that the log keeps.
    #[must_use]
    pub const fn base(&self) -> Position {
        self.durable.log.base()
    }

    /// An entry that is still in memory.
    #[must_use]
    pub fn entry(&self, op: Op) -> Option<&Entry> {
        self.durable.log.entry(op)
    }

    /// The configuration in force.
    #[must_use]
    pub fn configuration(&self) -> &Configuration {
        &self.durable.log.configured().configuration
    }

    /// The term of the entry at an op and the configurations that may decide on it, as far as
    /// both are known here: the one in force there, and those behind it, each of which stands
    /// in a log only once the one before it is committed or joint with it.
    #[must_use]
    pub fn decided_by(&self, op: Op) -> Option<(Term, Vec<&Configuration>)> {
        let log = &self.durable.log;
        Some((log.term_of(op)?, log.configurations_from(op)?))
    }

    /// Whether the entry of that term at an op would survive a crash of this node.
    #[must_use]
    pub fn keeps(&self, op: Op, term: Term) -> bool {
        let log = &self.durable.log;
        let is_there = op <= log.base().op || log.term_of(op) == Some(term);
        is_there && op <= log.durable().max(log.base().op)
    }

    /// What belongs to the state at [`Raft::applied`], to be kept with the engine's data.
    #[must_use]
    pub fn checkpoint(&self) -> Checkpoint {
        let applied = self.volatile.applied;
        let term = self.durable.log.term_of(applied);
        let placed = self.durable.log.configured_at_applied();
        Checkpoint {
            at: Position {
                term: term.expect("the log is cut no higher than what is applied"),
                op: applied,
            },
            configuration: Arc::clone(&placed.configuration),
            configured: placed.at,
            windows: self.volatile.windows.clone(),
        }
    }

    /// Takes several inputs and decides once what to say about them.
    ///
    /// Equal to stepping them one by one, but for fewer and larger messages.
    pub fn step_batch(
        &mut self,
        now: Time,
        inputs: impl IntoIterator<Item = Input>,
        effects: &mut Effects<Effect>,
    ) {
        let mut cx = Cx { now, effects };
        let before = self.mark();
        if core::mem::take(&mut self.volatile.is_damage_unsaved) {
            // Before anything new stands in the log, which would make it look sound.
            let Hard { term, vote, .. } = self.durable.hard;
            self.set_hard(&mut cx, term, vote);
        }
        for input in inputs {
            self.take(&mut cx, input);
        }
        self.flush(&mut cx);
        self.check_invariants(before);
    }

    fn take(&mut self, cx: &mut Cx<'_>, input: Input) {
        match input {
            Input::Wake => self.wake(cx),
            Input::Message { from, message } => self.receive(cx, from, message),
            Input::Suspect { peer } => self.suspect(cx, peer),
            Input::Request { request, body } => self.request(cx, request, body),
            Input::Read { request } => self.read(cx, request),
            Input::Durable { through } => self.written(cx, through),
            Input::Fetched { peer, entries } => self.fetched(cx, peer, entries),
            Input::Saved { manifest } => self.saved(cx, manifest),
            Input::Release { through, limit } => self.release(cx, through, limit),
            Input::Lacking { op, chunks } => self.lacking(cx, op, &chunks),
            Input::Loaded {
                peer,
                op,
                index,
                bytes,
            } => self.loaded(cx, peer, op, index, bytes),
            Input::Stored { op, index, is_good } => self.stored(cx, op, index, is_good),
            Input::Operate { request, operation } => match operation {
                Operation::Change(change) => self.change(cx, request, change),
                Operation::MoveLeader { to } => self.move_leader(cx, request, to),
                Operation::Seal => cx.push(Effect::Refuse {
                    request,
                    reason: Refused::Unsupported,
                }),
            },
        }
    }

    fn wake(&mut self, cx: &mut Cx<'_>) {
        let mut from = 0;
        while let Some((next, timer)) = self.volatile.timers.take_due(cx.now, from) {
            from = next;
            match timer {
                Timer::Election => self.election_due(cx),
                Timer::Heartbeat => self.heartbeat_due(cx),
                Timer::Retry => self.retry_due(cx),
                Timer::GiveUp => self.give_up_due(cx),
                Timer::Probe => self.probe_due(cx),
                Timer::Chunk => self.ask(cx),
            }
        }
    }

    /// The term check, then the message's own rule.
    fn receive(&mut self, cx: &mut Cx<'_>, from: NodeId, message: Message) {
        if from == self.config.node {
            return;
        }
        let Message { term, body } = message;
        match &body {
            // These move no term: they ask about one, or the sender may have left the group.
            Body::PreVote { .. }
            | Body::ReadProbe { .. }
            | Body::ReadProbeReply { .. }
            | Body::Forward { .. }
            | Body::Want { .. } => {}
            Body::PreVoteReply { is_granted: true } => {}
            Body::Vote { is_transfer, .. } => {
                if !is_transfer && self.is_loyal(cx) {
                    return;
                }
                self.adopt(cx, term);
            }
            // Answers to a leader count only from those it talks to: who was removed deposes
            // nobody.
            Body::Ack { .. } | Body::Conflict { .. } | Body::HeartbeatReply { .. } => {
                if self
                    .leader()
                    .is_some_and(|leading| leading.peer(from).is_none())
                {
                    let why = Rejected::Stranger;
                    cx.note(Event::Rejected { from, why });
                    return;
                }
                self.adopt(cx, term);
            }
            Body::PreVoteReply { .. } | Body::VoteReply { .. } => {
                if !self.configuration().contains(from) {
                    return;
                }
                self.adopt(cx, term);
            }
            Body::Append { .. }
            | Body::Commit { .. }
            | Body::Heartbeat { .. }
            | Body::TimeoutNow
            | Body::Offer { .. }
            | Body::Chunk { .. } => {
                self.adopt(cx, term);
                if term < self.term() {
                    self.answer_stale(cx, from, &body);
                    return;
                }
                if !self.hear_leader(cx, from) {
                    return;
                }
            }
        }
        self.obey(cx, from, term, body);
    }

    fn obey(&mut self, cx: &mut Cx<'_>, from: NodeId, term: Term, body: Body) {
        let is_current = term == self.term();
        match body {
            Body::PreVote { last } => self.pre_vote(cx, from, term, last),
            Body::PreVoteReply { is_granted } => {
                self.pre_vote_reply(cx, from, term, is_granted);
            }
            Body::Vote { last, .. } => self.vote_for(cx, from, term, last),
            Body::VoteReply { is_granted } if is_current => self.vote_reply(cx, from, is_granted),
            Body::Append {
                previous,
                commit,
                entries,
            } => self.append(cx, from, previous, commit, entries),
            Body::Commit { commit } => self.told_commit(cx, commit),
            Body::Ack {
                matched,
                is_recovering,
            } if is_current => self.acknowledged(cx, from, matched, is_recovering),
            Body::Conflict { at, term, first } if is_current => {
                self.conflict(cx, from, at, Position { term, op: first });
            }
            Body::Heartbeat {
                round,
                commit,
                stamp,
            } => self.heartbeat(cx, from, round, commit, stamp),
            Body::HeartbeatReply { .. } if is_current => self.heartbeat_reply(cx, from, body),
            Body::ReadProbe { round } => self.read_probe(cx, from, round),
            Body::ReadProbeReply { round, read } => {
                self.read_probe_reply(cx, from, term, round, read);
            }
            Body::Forward { commands } => self.forwarded(cx, from, commands),
            Body::TimeoutNow => self.timeout_now(cx),
            Body::Offer { manifest } => self.offered(cx, from, manifest),
            Body::Want { op, chunks } => {
                if self
                    .leader()
                    .is_some_and(|leading| leading.peer(from).is_some())
                {
                    self.wanted(cx, from, op, &chunks);
                }
            }
            Body::Chunk { op, index, bytes } => self.chunk(cx, op, index, bytes),
            // Of an earlier term: what it says no longer holds.
            Body::VoteReply { .. }
            | Body::Ack { .. }
            | Body::Conflict { .. }
            | Body::HeartbeatReply { .. } => {}
        }
    }

    /// A higher term was seen: nothing of this one counts any more.
    fn adopt(&mut self, cx: &mut Cx<'_>, term: Term) {
        if term > self.term() {
            if self.leader().is_some() {
                self.step_down(cx, SteppedDown::HigherTerm);
            }
            self.set_hard(cx, term, None);
            self.become_follower(cx, None);
        }
    }

    /// A leader of an earlier term must learn that it is one, or it waits for ever.
    fn answer_stale(&mut self, cx: &mut Cx<'_>, from: NodeId, body: &Body) {
        match body {
            Body::Append { previous, .. } => {
                let body = Body::Conflict {
                    at: previous.op,
                    term: Term::ZERO,
                    first: self.durable.log.last().next(),
                };
                self.send(cx, from, body, None);
            }
            Body::Heartbeat { .. } => {
                // It carries this term, in which the sender may lead by the time it arrives, with
                // rounds and stamps of another run: so it answers none of them.
                let body = self.pulse(NO_ROUND, Time::ZERO);
                self.send(cx, from, body, None);
            }
            Body::Offer { .. } | Body::Commit { .. } | Body::Chunk { .. } | Body::TimeoutNow => {}
            Body::PreVote { .. }
            | Body::PreVoteReply { .. }
            | Body::Vote { .. }
            | Body::VoteReply { .. }
            | Body::Ack { .. }
            | Body::Conflict { .. }
            | Body::HeartbeatReply { .. }
            | Body::ReadProbe { .. }
            | Body::ReadProbeReply { .. }
            | Body::Forward { .. }
            | Body::Want { .. } => unreachable!("only a leader's words can be stale"),
        }
    }

    /// The leader of this term spoke. False if it cannot be the leader.
    fn hear_leader(&mut self, cx: &mut Cx<'_>, from: NodeId) -> bool {
        let known = self.volatile.leader;
        if self.leader().is_some() || known.is_some_and(|leader| leader != from) {
            let why = Rejected::SecondLeader;
            cx.note(Event::Rejected { from, why });
            return false;
        }
        match self.volatile.role {
            Role::PreCandidate(_) | Role::Candidate(_) => self.become_follower(cx, Some(from)),
            Role::Follower(_) | Role::Recovering(_) => {
                if known.is_none() {
                    self.follow(cx, from);
                }
            }
            Role::Leader(_) => unreachable!("a second leader was refused"),
        }
        self.volatile.loyal_until = cx.now + self.config.election_timeout;
        self.volatile.suspicious_until = None;
        self.await_leader(cx.now);
        true
    }

    /// Whether votes are refused: a leader was heard, or leads here, or this run just began.
    pub(crate) fn is_loyal(&self, cx: &Cx<'_>) -> bool {
        cx.now < self.volatile.loyal_until || self.leader().is_some()
    }

    /// Whether this node decides alone.
    pub(crate) fn is_alone(&self) -> bool {
        let voters = self.configuration().voters();
        voters.incoming() == [self.config.node] && !voters.is_joint()
    }

    pub(crate) const fn follower_mut(&mut self) -> Option<&mut Follower> {
        match &mut self.volatile.role {
            Role::Follower(follower) => Some(follower),
            Role::Recovering(recovering) => Some(&mut recovering.follower),
            Role::PreCandidate(_) | Role::Candidate(_) | Role::Leader(_) => None,
        }
    }

    pub(crate) const fn follower(&self) -> Option<&Follower> {
        match &self.volatile.role {
            Role::Follower(follower) => Some(follower),
            Role::Recovering(recovering) => Some(&recovering.follower),
            Role::PreCandidate(_) | Role::Candidate(_) | Role::Leader(_) => None,
        }
    }

    pub(crate) const fn is_recovering(&self) -> bool {
        matches!(self.volatile.role, Role::Recovering(_))
    }

    /// Draws how long to wait for a leader: in [T, 2T), or the length of a turn if the last one
    /// has perhaps ended.
    pub(crate) fn await_leader(&mut self, now: Time) {
        if self.is_suspicious(now) {
            self.volatile.timers.set(Timer::Election, now + self.turn());
            return;
        }
        let timeout = self.config.election_timeout;
        let nanos = u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX / 4);
        let extra = self.volatile.prng.below(nanos.max(1));
        let due = now + timeout + Duration::from_nanos(extra);
        self.volatile.timers.set(Timer::Election, due);
    }

    pub(crate) fn persist(&mut self, cx: &mut Cx<'_>, record: Record) -> WriteId {
        let write = self.volatile.next_write;
        self.volatile.next_write = write.next();
        self.durable.log.asked(write, cx.now);
        cx.push(Effect::Persist { write, record });
        write
    }

    /// Sets term and vote, and asks for both to be kept.
    pub(crate) fn set_hard(
        &mut self,
        cx: &mut Cx<'_>,
        term: Term,
        vote: Option<NodeId>,
    ) -> WriteId {
        if term > self.term() {
            // One hasty campaign a term: whatever comes of it, the next wait is a random one.
            self.volatile.suspicious_until = None;
        }
        self.durable.hard.term = term;
        self.durable.hard.vote = vote;
        let hard = self.durable.hard;
        self.persist(cx, Record::Hard(hard))
    }

    pub(crate) fn persist_entry(&mut self, cx: &mut Cx<'_>, entry: Entry) {
        let write = self.volatile.next_write;
        self.volatile.next_write = write.next();
        self.durable.log.append(entry.clone(), write, cx.now);
        let record = Record::Entry(entry);
        cx.push(Effect::Persist { write, record });
    }

    pub(crate) fn send(&mut self, cx: &mut Cx<'_>, to: NodeId, body: Body, after: Option<WriteId>) {
        let term = self.term();
        self.send_in(cx, to, Message { term, body }, after);
    }

    pub(crate) fn send_in(
        &mut self,
        cx: &mut Cx<'_>,
        to: NodeId,
        message: Message,
        after: Option<WriteId>,
    ) {
        assert!(to != self.config.node, "nobody sends to itself");
        let after = after.filter(|write| !self.durable.log.is_durable(*write));
        cx.push(Effect::Send { to, message, after });
    }

    /// Writes became durable.
    fn written(&mut self, cx: &mut Cx<'_>, through: WriteId) {
        self.durable.log.durable_through(through, cx.now);
        self.count_own_vote(cx);
        self.count_commit(cx);
        self.count_at_origin(cx);
        self.apply(cx);
        self.finish_recovery(cx);
    }

    /// Moves the commit point, and applies what that allows.
    pub(crate) fn advance_commit(&mut self, cx: &mut Cx<'_>, commit: Op) {
        let before = self.volatile.commit;
        if commit <= before {
            return;
        }
        assert!(
            commit <= self.durable.log.last(),
            "I3: only what is in the log is committed"
        );
        self.durable.log.committed(before, commit);
        self.volatile.commit = commit;
        self.apply(cx);
    }

    /// Hands out what is committed and durable here, in order (I10).
    fn apply(&mut self, cx: &mut Cx<'_>) {
        let through = self.volatile.commit.min(self.durable.log.durable());
        if through <= self.volatile.applied {
            return;
        }
        while self.volatile.applied < through {
            let op = self.volatile.applied.next();
            let entry = self.durable.log.entry(op);
            let entry = entry.expect("what was not applied is in memory").clone();
            self.volatile.applied = op;
            self.apply_entry(cx, entry);
        }
        self.durable
            .log
            .applied(through, self.config.cache_bytes_max);
        self.release_reads(cx);
    }

    fn apply_entry(&mut self, cx: &mut Cx<'_>, entry: Entry) {
        let Entry { op, term, payload } = entry;
        let because = match payload {
            Payload::Blank => Advance::Blank,
            Payload::Command(command) => {
                self.apply_command(cx, Position { term, op }, command);
                return;
            }
            Payload::Configuration(configuration) => {
                self.volatile
                    .windows
                    .retain(|node| configuration.contains(node));
                // What the new members' windows hold is decided by this op on all replicas.
                self.durable.log.applied(op, u64::MAX);
                cx.push(Effect::Advance {
                    op,
                    term,
                    because: Advance::Configuration(Arc::clone(&configuration)),
                });
                if !configuration.contains(self.config.node) {
                    self.refuse_outbox(cx, Refused::NotMember);
                }
                return;
            }
        };
        cx.push(Effect::Advance { op, term, because });
    }

    fn apply_command(&mut self, cx: &mut Cx<'_>, at: Position, command: Command) {
        let Position { term, op } = at;
        let Origin { node, boot } = command.origin;
        let sequence = command.sequence;
        let is_own = node == self.config.node && boot == self.config.boot;
        let request = if is_own {
            self.volatile.outbox.take(sequence)
        } else {
            None
        };
        // The configuration at this op, not the newest: all replicas must decide the same.
        let members = &self.durable.log.configured_at_applied().configuration;
        let because = if !members.contains(node) {
            Advance::Stranger
        } else if !self
            .volatile
            .windows
            .admit(command.origin, sequence, self.config.origin_window)
        {
            cx.note(Event::CommandRepeated {
                origin: node,
                sequence,
            });
            Advance::Repeated
        } else {
            cx.push(Effect::Apply {
                op,
                term,
                command,
                request,
            });
            return;
        };
        cx.push(Effect::Advance { op, term, because });
        if let Some(request) = request {
            let reason = Refused::NotMember;
            cx.push(Effect::Refuse { request, reason });
        }
    }

    /// Tells the clients of this node that what they asked for will not be answered.
    pub(crate) fn refuse_outbox(&mut self, cx: &mut Cx<'_>, reason: Refused) {
        for sequence in self.volatile.outbox.sequences() {
            if let Some(request) = self.volatile.outbox.take(sequence) {
                cx.push(Effect::Refuse { request, reason });
            }
        }
    }

    /// A snapshot may hold commands of this node whose answers nobody computed here.
    pub(crate) fn settle_outbox(&mut self, cx: &mut Cx<'_>) {
        let (node, boot) = (self.config.node, self.config.boot);
        for sequence in self.volatile.outbox.sequences() {
            let origin = Origin { node, boot };
            let size = self.config.origin_window;
            if self.volatile.windows.is_fresh(origin, sequence, size) {
                continue;
            }
            if let Some(request) = self.volatile.outbox.take(sequence) {
                let reason = Refused::LeaderChanged;
                cx.push(Effect::Refuse { request, reason });
            }
        }
    }

    /// Says what there is to say.
    fn flush(&mut self, cx: &mut Cx<'_>) {
        self.flush_outbox(cx);
        self.flush_reads(cx);
        self.flush_leader(cx);
        self.flush_follower(cx);
    }

    /// Gives leadership up without a higher term.
    pub(crate) fn step_down(&mut self, cx: &mut Cx<'_>, why: SteppedDown) {
        let term = self.term();
        assert!(self.leader().is_some(), "only a leader steps down");
        cx.note(Event::SteppedDown { term, why });
        self.become_follower(cx, None);
    }

    /// Answers those who wait for this leader's own work.
    pub(crate) fn abandon(&self, cx: &mut Cx<'_>, request: Option<RequestId>) {
        if let Some(request) = request {
            let reason = Refused::LeaderChanged;
            cx.push(Effect::Refuse { request, reason });
        }
    }
}

impl Machine for Raft {
    type Input = Input;
    type Effect = Effect;

    fn step(&mut self, now: Time, input: Input, effects: &mut Effects<Effect>) {
        self.step_batch(now, [input], effects);
    }

    fn wake_at(&self) -> Option<Time> {
        self.volatile.timers.next()
    }
}
