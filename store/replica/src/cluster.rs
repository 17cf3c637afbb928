//! The part of a replica that is one of a group: what Raft wants, and questions to the leader.
//!
//! What would surprise: inputs of Raft are only gathered. [`Replica::settle`] hands them over
//! together, so that Raft says everything that a batch gives to say in as few messages as it
//! can.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use holm_base::{NodeId, Op, RequestId, Term, Time};
use holm_kv::{Job, Refusal, StoreError, snapshot};
use holm_machine::{Effects, Machine};
use holm_quorum::Voters;
use holm_raft::{Body, Change, Command, Entry, Operation, Payload, Refused};
use holm_sequencer::Form;

use crate::asks::{Ended, Open};
use crate::group::{Group, LAGGARD_SHARE};
use crate::input::{Answer, Effect, Event};
use crate::message::{Ask, Message, Told, Wish, Word};
use crate::replica::{Asker, OWN, Replica, Sequencer};
use crate::room::Question;
use crate::snapshots::News;

impl Replica {
    pub(crate) const fn group(&mut self) -> Option<&mut Group> {
        match &mut self.sequencer {
            Sequencer::Solo { .. } => None,
            Sequencer::Raft(group) => Some(group),
        }
    }

    /// Lets Raft decide about what came in, and about what time has brought.
    pub(crate) fn decide(&mut self, now: Time, effects: &mut Effects<Effect>) {
        // A question whose time has come may need Raft in its turn.
        while self.decide_once(now, effects) {}
    }

    /// Whether there is more to decide.
    fn decide_once(&mut self, now: Time, effects: &mut Effects<Effect>) -> bool {
        let Sequencer::Raft(group) = &mut self.sequencer else {
            return false;
        };
        if group.snapshots.is_installing() {
            // The state is about to be another: what comes in waits.
            return false;
        }
        if group.raft.wake_at().is_some_and(|at| at <= now) {
            group.inputs.push(holm_raft::Input::Wake);
        }
        if !group.inputs.is_empty() {
            let mut wanted = core::mem::take(&mut group.wanted);
            group.room.close();
            if let Some(tape) = &mut group.tape {
                tape.before(now, &group.inputs);
            }
            let inputs = group.inputs.drain(..);
            group.raft.step_batch(now, inputs, &mut wanted);
            if let Some(tape) = &mut group.tape {
                tape.after(wanted.as_slice());
            }
            for effect in wanted.drain() {
                self.obey_raft(now, effect, effects);
            }
            if let Some(group) = self.group() {
                group.wanted = wanted;
            }
        }
        self.tend_asks(now, effects);
        self.group().is_some_and(|group| !group.inputs.is_empty())
    }

    fn obey_raft(&mut self, now: Time, effect: holm_raft::Effect, effects: &mut Effects<Effect>) {
        let Sequencer::Raft(group) = &mut self.sequencer else {
            unreachable!("only a group has Raft's effects");
        };
        if let Some(held) = group.snapshots.held() {
            held.push_back(effect);
            return;
        }
        match effect {
            holm_raft::Effect::Persist { write, record } => {
                self.outstanding.asked(now, write);
                let record = group.record(record);
                effects.push(Effect::Persist { write, record });
            }
            holm_raft::Effect::Send { to, message, after } => {
                let message = Message::Raft(message);
                effects.push(Effect::Send { to, message, after });
            }
            holm_raft::Effect::Apply {
                op,
                term,
                command,
                request,
            } => self.apply(now, (op, term), &command, request),
            holm_raft::Effect::Advance { op, term, .. } => self.advance(now, (op, term), effects),
            holm_raft::Effect::ReadAt { request, op, .. } => {
                assert!(
                    self.keyspace.applied() >= op,
                    "raft I7: what a read must see is applied"
                );
                if !self.read_ended(now, request, Ok(())) {
                    self.answers.push((Asker::Here(request), Answer::Read));
                }
            }
            holm_raft::Effect::Refuse { request, reason } => self.refuse(now, request, reason),
            holm_raft::Effect::Reply { request, outcome } => {
                if let Some(asker) = group.operations.remove(&request) {
                    self.answers.push((asker, Answer::Operated(Ok(outcome))));
                }
            }
            holm_raft::Effect::Fetch {
                first,
                last,
                bytes_max,
                peer,
            } => effects.push(Effect::Fetch {
                first,
                last,
                bytes_max,
                peer,
            }),
            holm_raft::Effect::Cut { through } => {
                self.cut = through;
                effects.push(Effect::CutLog { through });
            }
            holm_raft::Effect::Note(event) => self.note(event, effects),
            holm_raft::Effect::Receive { manifest } => group.snapshots.receive(manifest),
            holm_raft::Effect::Load { peer, op, index } => {
                group.snapshots.load(now, peer, (op, index));
            }
            holm_raft::Effect::Store {
                op,
                index,
                id,
                bytes,
            } => group.snapshots.store(op, index, id.0, bytes),
            holm_raft::Effect::Install { manifest, after } => {
                group.snapshots.install(manifest.checkpoint.at.op, after);
            }
        }
    }

    /// Looks after snapshots: what is to be made, what is to be told, what is to be done next.
    pub(crate) fn tend_snapshots(&mut self, now: Time, effects: &mut Effects<Effect>) {
        let Sequencer::Raft(group) = &mut self.sequencer else {
            return;
        };
        if !group.is_leader() {
            group.snapshots.forget_want();
        } else if group.snapshots.is_due(now) {
            let checkpoint = group.raft.checkpoint();
            group.snapshots.make(now, checkpoint, self.keyspace.pin());
        }
        let (durable, has_old_jobs) = (self.keyspace.durable_op(), self.keyspace.has_old_jobs());
        if let Some(input) = group.snapshots.tend(now, durable, has_old_jobs) {
            group.inputs.push(input);
            self.decide(now, effects);
        }
        if let Some(group) = self.group()
            && let Some(task) = group.snapshots.next_task(now)
        {
            effects.push(Effect::Work(Job::snapshot(task)));
        }
    }

    /// A piece of a snapshot's work is done.
    pub(crate) fn shipped(
        &mut self,
        now: Time,
        done: snapshot::Done,
        effects: &mut Effects<Effect>,
    ) -> Result<(), StoreError> {
        let Some(group) = self.group() else {
            unreachable!("a node alone has no snapshots");
        };
        for news in group.snapshots.done(now, done)? {
            self.hear_news(now, news, effects)?;
        }
        Ok(())
    }

    fn hear_news(
        &mut self,
        now: Time,
        news: News,
        effects: &mut Effects<Effect>,
    ) -> Result<(), StoreError> {
        let Some(group) = self.group() else {
            return Ok(());
        };
        match news {
            News::Input(input) => group.inputs.push(input),
            News::Broken(what) => effects.push(Effect::Note(Event::Broken { what })),
            News::Made { op, bytes, chunks } => {
                effects.push(Effect::Note(Event::SnapshotMade { op, bytes, chunks }));
            }
            News::Swap(ready) => {
                let (op, held) = group.snapshots.installed();
                self.keyspace.replace(*ready)?;
                self.follow_charter();
                self.is_unpublished = true;
                // The engine holds it, so the log need not say so any more.
                effects.push(Effect::CutLog { through: op });
                self.cut = op;
                for effect in held {
                    self.obey_raft(now, effect, effects);
                }
            }
        }
        Ok(())
    }

    fn apply(
        &mut self,
        now: Time,
        (op, term): (Op, Term),
        command: &Command,
        request: Option<RequestId>,
    ) {
        if let Some(group) = self.group() {
            group.kept.applied(op, command.body.len());
        }
        let applied = self.keyspace.apply(now, op, term, &command.body);
        self.is_unpublished = true;
        if let Some(request) = request {
            let answer = Answer::Applied(Ok(applied));
            self.answers.push((Asker::Here(request), answer));
        }
    }

    fn advance(&mut self, now: Time, (op, term): (Op, Term), effects: &mut Effects<Effect>) {
        self.keyspace.advance(op, term);
        self.is_unpublished = true;
        let Some(group) = self.group() else {
            return;
        };
        group.kept.applied(op, 0);
        // Everything of earlier terms is applied now, so leases may run (I2).
        if group.begins_to_lead(term) {
            group.leads = Some(term);
            self.keyspace.lead(now, term);
            effects.push(Effect::Note(Event::Leads { term }));
        }
    }

    fn refuse(&mut self, now: Time, request: RequestId, reason: Refused) {
        if self.read_ended(now, request, Err(reason)) {
            return;
        }
        let Some(group) = self.group() else {
            return;
        };
        let (asker, answer) = match group.operations.remove(&request) {
            Some(asker) => (asker, Answer::Operated(Err(reason))),
            None => (Asker::Here(request), Answer::Refused(refusal(reason))),
        };
        self.answers.push((asker, answer));
    }

    fn note(&mut self, event: holm_raft::Event, effects: &mut Effects<Effect>) {
        if matches!(event, holm_raft::Event::SteppedDown { .. })
            && let Some(group) = self.group()
            && group.leads.take().is_some()
        {
            group.room.forget_ops();
            self.keyspace.follow();
            self.is_unpublished = true;
            effects.push(Effect::Note(Event::Follows));
        }
        if matches!(event, holm_raft::Event::SnapshotMissing { .. })
            && let Some(group) = self.group()
        {
            group.snapshots.want();
        }
        effects.push(Effect::Note(Event::Raft(event)));
    }

    /// Another replica spoke.
    pub(crate) fn hear(
        &mut self,
        now: Time,
        from: NodeId,
        message: Message,
        effects: &mut Effects<Effect>,
    ) {
        let must_wait = self.keyspace.must_wait();
        let applied = self.keyspace.applied();
        let Some(group) = self.group() else {
            return;
        };
        match message {
            Message::Raft(message) => {
                let is_load = matches!(message.body, Body::Append { .. } | Body::Forward { .. });
                if must_wait && is_load && group.is_flooded() {
                    // It is sent again; until then what waits here becomes less.
                    effects.push(Effect::Note(Event::Flooded { from }));
                } else {
                    group
                        .inputs
                        .push(holm_raft::Input::Message { from, message });
                }
            }
            Message::Island(by, word) => self.hear_island(now, (from, by), word),
            // Who does not belong here is not told anything.
            Message::Ask(_) if !group.raft.configuration().contains(from) => {}
            Message::Ask(Ask { id, op, wish }) => {
                let question = Question {
                    asker: Asker::Peer(from, id),
                    op,
                    wish,
                    with_keys: false,
                };
                self.consider(now, question);
            }
            Message::Told(told) => {
                let mut ended = Vec::new();
                let end = &mut |open, how| ended.push((open, how));
                group.asks.told((from, applied), told, end);
                self.end_asks(now, ended);
            }
        }
    }

    /// Somebody wants another group of members of this node, which leads.
    pub(crate) fn change(&mut self, asker: Asker, change: Change) {
        let Some(group) = self.group() else {
            unreachable!("a node alone asks no leader");
        };
        let request = match asker {
            Asker::Here(request) => request,
            Asker::Peer(..) => group.foreign_id(),
        };
        group.operations.insert(request, asker);
        let operation = Operation::Change(change);
        group
            .inputs
            .push(holm_raft::Input::Operate { request, operation });
    }

    /// Puts a question to the leader, if that is another node; whether it is.
    pub(crate) fn ask_leader(
        &mut self,
        now: Time,
        request: RequestId,
        wish: Wish,
        with_keys: bool,
    ) -> bool {
        let Some(group) = self.group() else {
            return false;
        };
        if group.leads.is_some() {
            return false;
        }
        if group.asks.is_full() {
            let answer = Answer::Refused(Refusal::Busy);
            self.answers.push((Asker::Here(request), answer));
        } else {
            group.asks.add(now, request, wish, with_keys);
        }
        true
    }

    /// An operator of this node wants something.
    pub(crate) fn operate(&mut self, now: Time, request: RequestId, operation: Operation) {
        let asker = Asker::Here(request);
        let Some(group) = self.group() else {
            let answer = Answer::Operated(Err(Refused::Unsupported));
            self.answers.push((asker, answer));
            return;
        };
        match operation {
            Operation::Change(change) if !group.is_leader() => {
                self.ask_leader(now, request, Wish::Change(change), false);
            }
            // Only the leader itself hands leadership on, as in etcd.
            Operation::Change(_) | Operation::MoveLeader { .. } | Operation::Seal => {
                group.operations.insert(request, asker);
                group
                    .inputs
                    .push(holm_raft::Input::Operate { request, operation });
            }
        }
    }

    /// This node is about to stop: hands leadership to the voter that has the most, if it has
    /// it and there is one that was heard of. Gives how long that may take.
    pub fn yield_lead(&mut self) -> Duration {
        let patience = self.keyspace.election_timeout();
        let Some(group) = self.group() else {
            return Duration::ZERO;
        };
        let voters = group.raft.configuration().voters();
        let peers = group.raft.peers().filter(|it| voters.contains(it.node));
        let best = peers
            .filter(|it| it.matched > Op::ZERO)
            .max_by_key(|it| it.matched);
        let Some(to) = best.map(|it| it.node) else {
            return Duration::ZERO;
        };
        let request = group.foreign_id();
        // Nobody waits for the answer.
        group.operations.insert(request, Asker::Here(OWN));
        let operation = Operation::MoveLeader { to };
        group
            .inputs
            .push(holm_raft::Input::Operate { request, operation });
        patience
    }

    /// Whether it leads, and not itself alone.
    #[must_use]
    pub fn is_leader_of_others(&self) -> bool {
        match &self.sequencer {
            Sequencer::Solo { .. } => false,
            Sequencer::Raft(group) => group.is_leader() && group.raft.peers().next().is_some(),
        }
    }

    /// This node and the voters of its group, itself perhaps among them, while it leads them.
    #[must_use]
    pub fn led(&self) -> Option<(NodeId, &Voters)> {
        match &self.sequencer {
            Sequencer::Solo { .. } => None,
            Sequencer::Raft(group) => {
                let led = (group.raft.node(), group.raft.configuration().voters());
                group.is_leader().then_some(led)
            }
        }
    }

    /// A peer's process has perhaps ended.
    pub(crate) fn suspect(&mut self, peer: NodeId) {
        if let Some(group) = self.group() {
            group.inputs.push(holm_raft::Input::Suspect { peer });
        }
    }

    /// Entries came back from the log.
    pub(crate) fn fetched(
        &mut self,
        peer: NodeId,
        entries: Vec<(Term, Op, Form, Bytes)>,
        effects: &mut Effects<Effect>,
    ) {
        let Some(group) = self.group() else {
            return;
        };
        let mut read = Vec::with_capacity(entries.len());
        for (term, op, form, body) in entries {
            match entry(term, op, form, &body) {
                Some(entry) => read.push(entry),
                None => {
                    let what = "an entry in the log is none of a group";
                    effects.push(Effect::Note(Event::Broken { what }));
                    break;
                }
            }
        }
        let entries = read;
        group
            .inputs
            .push(holm_raft::Input::Fetched { peer, entries });
    }

    /// Asks what is to be asked, answers what has become possible.
    fn tend_asks(&mut self, now: Time, effects: &mut Effects<Effect>) {
        let applied = self.keyspace.applied();
        let Some(group) = self.group() else {
            return;
        };
        if group.asks.is_idle() && group.room.is_empty() {
            return;
        }
        let leads = group.leads.is_some();
        let due = if leads {
            group.room.take_due(applied)
        } else {
            group.room.take_questions()
        };
        let mut ended = Vec::new();
        let own = if leads {
            group.asks.take_all()
        } else {
            let leader = group.other_leader();
            let end = &mut |open, how| ended.push((open, how));
            group.asks.caught_up(applied, end);
            let send = &mut |to, ask| {
                let (message, after) = (Message::Ask(ask), None);
                effects.push(Effect::Send { to, message, after });
            };
            group.asks.look(now, (leader, applied), send, end);
            Vec::new()
        };
        self.end_asks(now, ended);
        for open in own {
            self.serve_own(now, open);
        }
        for question in due {
            self.judge(now, question, false);
        }
    }

    /// A question of this site that this node can answer itself by now.
    fn serve_own(&mut self, now: Time, open: Open) {
        let asker = Asker::Here(open.request);
        match open.wish {
            Wish::Renew { .. } | Wish::TimeToLive { .. } => {
                let question = Question {
                    asker,
                    op: Op::ZERO,
                    wish: open.wish,
                    with_keys: open.with_keys,
                };
                self.consider(now, question);
            }
            Wish::Change(_) if open.was_sent() => {
                let answer = Answer::Operated(Err(Refused::LeaderChanged));
                self.answers.push((asker, answer));
            }
            Wish::Change(change) => self.change(asker, change),
        }
    }

    fn end_asks(&mut self, now: Time, ended: Vec<(Open, Ended)>) {
        for (open, how) in ended {
            let answer = match how {
                Ended::Told(word) => self.heard(now, &open, word),
                Ended::Lost => Answer::Operated(Err(Refused::LeaderChanged)),
                Ended::Late if self.leader().is_none() => Answer::Refused(Refusal::NoLeader),
                Ended::Late => Answer::Refused(Refusal::TimedOut),
            };
            self.answers.push((Asker::Here(open.request), answer));
        }
    }

    /// What a client hears of a leader's word.
    fn heard(&self, now: Time, open: &Open, word: Word) -> Answer {
        match (word, open.wish) {
            (Word::Renewed { ttl }, Wish::Renew { .. }) => Answer::Renewed(Ok(ttl)),
            (Word::NoLease, Wish::Renew { .. }) => Answer::Renewed(Err(Refusal::LeaseNotFound)),
            (Word::Left { ttl, granted }, Wish::TimeToLive { lease }) => {
                let mut view = self.keyspace.time_to_live(now, lease, open.with_keys);
                (view.ttl, view.granted_ttl) = (ttl, granted);
                Answer::Lease(Ok(view))
            }
            (Word::Done(outcome), Wish::Change(_)) => Answer::Operated(Ok(outcome)),
            (Word::NotDone(reason), Wish::Change(_)) => Answer::Operated(Err(reason)),
            (Word::Stalled, _) => Answer::Refused(Refusal::Stalled),
            (Word::NotLeader, _) => Answer::Refused(Refusal::LeaderChanged),
            // What does not fit the question comes from a leader that is not sound, or busy.
            (
                Word::Busy
                | Word::Renewed { .. }
                | Word::NoLease
                | Word::Left { .. }
                | Word::Done(_)
                | Word::NotDone(_),
                _,
            ) => Answer::Refused(Refusal::Busy),
        }
    }

    /// Keeps Raft's checkpoint with the engine's data, if the next job is about to take that.
    pub(crate) fn mark(&mut self, now: Time) {
        if self.is_of_group() && self.keyspace.is_sequencer_due(now) {
            self.mark_now();
        }
    }

    /// Keeps what Raft must find again with the engine's data (kv I16).
    pub(crate) fn mark_now(&mut self) {
        if let Sequencer::Raft(group) = &self.sequencer {
            let applied = self.keyspace.applied();
            assert!(
                group.raft.applied() == applied,
                "kv I16: Raft and the engine have applied the same"
            );
            let mut bytes = BytesMut::new();
            group.raft.checkpoint().encode(&mut bytes);
            self.keyspace.set_sequencer(bytes.freeze());
        }
    }

    /// Lets entries go that nobody needs (I4).
    pub(crate) fn release(&mut self, now: Time, effects: &mut Effects<Effect>) {
        let durable = self.keyspace.durable_op();
        match &mut self.sequencer {
            Sequencer::Solo { .. } => {
                if durable > self.cut {
                    self.cut = durable;
                    effects.push(Effect::CutLog { through: durable });
                }
            }
            Sequencer::Raft(group) => {
                if durable > group.released {
                    group.released = durable;
                    let through = durable;
                    let weight = self.keyspace.retained_bytes() / LAGGARD_SHARE;
                    let limit = group.kept.limit(weight);
                    let input = holm_raft::Input::Release { through, limit };
                    group.inputs.push(input);
                    self.decide(now, effects);
                }
            }
        }
    }
}

/// An entry as Raft knows it, from its bytes in the log.
pub(crate) fn entry(term: Term, op: Op, form: Form, body: &Bytes) -> Option<Entry> {
    let payload = match form {
        Form::Raft => Payload::decode(body).ok()?,
        Form::Plain => return None,
    };
    Some(Entry { op, term, payload })
}

/// An answer for another replica.
pub(crate) fn tell(to: NodeId, id: u64, op: Op, answer: Answer) -> Effect {
    let word = match answer {
        Answer::Renewed(Ok(ttl)) => Word::Renewed { ttl },
        Answer::Renewed(Err(refusal)) | Answer::Lease(Err(refusal)) => refused(&refusal),
        Answer::Lease(Ok(view)) => Word::Left {
            ttl: view.ttl,
            granted: view.granted_ttl,
        },
        Answer::Operated(Ok(outcome)) => Word::Done(outcome),
        Answer::Operated(Err(reason)) => Word::NotDone(reason),
        Answer::Refused(_) => Word::NotLeader,
        other @ (Answer::Applied(_)
        | Answer::Leases(_)
        | Answer::Swept(_)
        | Answer::Read
        | Answer::Standing(_)) => unreachable!("no replica asks for {other:?}"),
    };
    let message = Message::Told(Told { id, op, word });
    let after = None;
    Effect::Send { to, message, after }
}

fn refused(refusal: &Refusal) -> Word {
    if matches!(refusal, Refusal::LeaseNotFound) {
        Word::NoLease
    } else if matches!(refusal, Refusal::Stalled) {
        Word::Stalled
    } else {
        Word::Busy
    }
}

/// What a client hears.
pub(crate) const fn refusal(reason: Refused) -> Refusal {
    match reason {
        Refused::TooLarge => Refusal::TooLarge,
        Refused::NotMember => Refusal::Stopped,
        Refused::LeaderChanged => Refusal::LeaderChanged,
        Refused::TimedOut => Refusal::TimedOut,
        Refused::NotLeader { .. } => Refusal::NoLeader,
        Refused::Busy
        | Refused::NotReady
        | Refused::NoSuchChange
        | Refused::NotInSync
        | Refused::NoLiveQuorum
        | Refused::TooManyMembers
        | Refused::TransferTimedOut
        | Refused::Unsupported => Refusal::Busy,
    }
}
