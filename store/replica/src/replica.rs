//! The replica itself: which step follows which.

use bytes::Bytes;
use holm_base::{NodeId, Op, RequestId, Revision, Term, Time, WriteId};
use holm_kv::command::{AlarmKind, Proposal};
use holm_kv::{JobDone, Keyspace, Refusal, StoreError, StreamId};
use holm_machine::{Effects, Machine};
use holm_raft::RoleName;
use holm_sequencer::{Command, Refused, Solo};

use crate::cluster::tell;
use crate::group::Group;
use crate::input::{Answer, Effect, Event, Input};
use crate::message::Wish;
use crate::room::Question;
use crate::shore::Shore;
use crate::stall::Outstanding;
use crate::standing::Standing;

/// Requests that the replica itself proposes carry this id: nobody waits for their answers.
pub(crate) const OWN: RequestId = RequestId::ZERO;

/// What says which command is next.
#[derive(Debug)]
pub(crate) enum Sequencer {
    /// A node alone: its own log is the order.
    Solo {
        solo: Solo,
        /// Its effects, drained within each step.
        wanted: Effects<holm_sequencer::Effect>,
    },
    /// One of several.
    Raft(Box<Group>),
}

/// Who waits for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asker {
    /// A client of this node.
    Here(RequestId),
    /// Another replica, by its number for the question.
    Peer(NodeId, u64),
}

/// How many renewals may wait until a restart would give their leases all their time.
const RENEWALS_MAX: usize = 65_536;

/// How many requests may wait for a sweep; one more is told that there are too many.
pub const SWEEP_WAITS_MAX: usize = 1024;

/// One keyspace on one node.
#[derive(Debug)]
pub struct Replica {
    pub(crate) sequencer: Sequencer,
    pub(crate) keyspace: Keyspace,
    /// Answers that wait for the view to be published (I1).
    pub(crate) answers: Vec<(Asker, Answer)>,
    /// Renewals of leases of which less than all their time is on record (I5).
    renewals: Vec<(Asker, i64, Answer)>,
    /// The log's writes under way.
    pub(crate) outstanding: Outstanding,
    /// Whether one of them was too old when last looked at (I6).
    pub(crate) is_stalled: bool,
    /// Whether something was applied since the last publication.
    pub(crate) is_unpublished: bool,
    /// Watch streams with something to send; kept to reuse its memory.
    streams: Vec<StreamId>,
    /// Who waits for the sweep to pass which revision.
    sweep_waits: Vec<(RequestId, Revision)>,
    /// The op that the log was last cut to.
    pub(crate) cut: Op,
    /// Where a local-first keyspace's island meets the others.
    pub(crate) shore: Option<Box<Shore>>,
}

impl Replica {
    /// A replica over an engine that has applied all that its log holds.
    #[must_use]
    pub const fn new(solo: Solo, keyspace: Keyspace) -> Self {
        let wanted = Effects::new();
        Self::with(Sequencer::Solo { solo, wanted }, keyspace)
    }

    /// A replica of a group, over an engine that has applied what Raft has.
    pub(crate) fn of_group(group: Group, keyspace: Keyspace) -> Self {
        let mut replica = Self::with(Sequencer::Raft(Box::new(group)), keyspace);
        if replica.keyspace.sequencer().is_none() {
            replica.mark_now();
        }
        replica
    }

    const fn with(sequencer: Sequencer, keyspace: Keyspace) -> Self {
        Self {
            sequencer,
            keyspace,
            answers: Vec::new(),
            renewals: Vec::new(),
            outstanding: Outstanding::new(),
            is_stalled: false,
            is_unpublished: true,
            streams: Vec::new(),
            sweep_waits: Vec::new(),
            cut: Op::ZERO,
            shore: None,
        }
    }

    /// The engine.
    #[must_use]
    pub const fn keyspace(&self) -> &Keyspace {
        &self.keyspace
    }

    /// The end of the log, durable or not.
    #[must_use]
    pub fn last(&self) -> Op {
        match &self.sequencer {
            Sequencer::Solo { solo, .. } => solo.last(),
            Sequencer::Raft(group) => group.raft.last().op,
        }
    }

    /// Its term.
    #[must_use]
    pub const fn term(&self) -> Term {
        match &self.sequencer {
            Sequencer::Solo { solo, .. } => solo.term(),
            Sequencer::Raft(group) => group.raft.term(),
        }
    }

    /// Whether it is one of a group, rather than a node alone.
    #[must_use]
    pub const fn is_of_group(&self) -> bool {
        matches!(self.sequencer, Sequencer::Raft(_))
    }

    /// Who leads, if this node knows; `None` at a node alone.
    #[must_use]
    pub const fn leader(&self) -> Option<NodeId> {
        match &self.sequencer {
            Sequencer::Solo { .. } => None,
            Sequencer::Raft(group) => group.raft.leader_known(),
        }
    }

    /// How it stands.
    #[must_use]
    pub fn standing(&self) -> Standing {
        let applied = self.keyspace.applied();
        match &self.sequencer {
            Sequencer::Raft(group) => group.standing(applied),
            Sequencer::Solo { solo, .. } => Standing {
                role: RoleName::Leader,
                term: solo.term(),
                leader: None,
                leads: solo.is_leader(),
                commit: applied,
                applied,
                last: solo.last(),
                durable: applied,
                first: self.cut.next(),
                configuration: holm_raft::Configuration::default(),
                peers: Vec::new(),
                neighbours: Vec::new(),
                is_set_back: false,
            },
        }
    }

    /// Takes one input. Answers to applied commands wait for [`Replica::settle`].
    ///
    /// # Errors
    ///
    /// If finishing a job failed in a way that only ending the process can answer.
    pub fn step(
        &mut self,
        now: Time,
        input: Input,
        effects: &mut Effects<Effect>,
    ) -> Result<(), StoreError> {
        match input {
            Input::Start => self.start(now, effects),
            Input::Propose {
                request,
                body,
                takes_space,
            } => self.propose(now, request, body, takes_space, effects),
            Input::Durable { through } => self.durable(now, through, effects),
            Input::LeaseRenew { request, lease } => {
                self.ask_here(now, request, Wish::Renew { lease }, false);
            }
            Input::LeaseTimeToLive {
                request,
                lease,
                with_keys,
            } => {
                let wish = Wish::TimeToLive { lease };
                self.ask_here(now, request, wish, with_keys);
            }
            Input::Leases { request } => self.leases(request),
            Input::Swept { request, revision } => self.await_sweep(request, revision),
            Input::Read { request } => self.read(request),
            Input::Operate { request, operation } => self.operate(now, request, operation),
            Input::Stand { request } => {
                let mut standing = Box::new(self.standing());
                standing.neighbours = self.neighbours(now);
                standing.is_set_back = self.is_set_back();
                let standing = Answer::Standing(standing);
                self.answers.push((Asker::Here(request), standing));
            }
            Input::Suspect { peer } => self.suspect(peer),
            Input::Message { from, message } => self.hear(now, from, message, effects),
            Input::Fetched { peer, entries } => self.fetched(peer, entries, effects),
            Input::WorkDone(done) => self.work_done(now, done, effects)?,
            Input::Wake => {}
        }
        Ok(())
    }

    /// Ends a batch of steps: publishes what was applied, then lets the answers go (I1), and
    /// asks for the work that has become due.
    pub fn settle(&mut self, now: Time, effects: &mut Effects<Effect>) {
        self.look_for_stall(now);
        self.decide(now, effects);
        self.propose_due(now, effects);
        if self.shore.is_some() {
            self.tend_shore(now, effects);
        }
        self.answer_swept();
        if self.is_unpublished {
            self.is_unpublished = false;
            self.keyspace.publish(&mut self.streams);
            if !self.streams.is_empty() {
                effects.push(Effect::WakeStreams(core::mem::take(&mut self.streams)));
            }
        }
        let is_stalled = self.is_stalled;
        let is_whole = |it: &mut (_, i64, _)| !is_stalled && !self.keyspace.is_shortened(it.1);
        let renewed = self.renewals.extract_if(.., is_whole);
        let renewed = renewed.map(|(asker, _, answer)| (asker, answer));
        let applied = self.keyspace.applied();
        for (asker, answer) in self.answers.drain(..).chain(renewed) {
            match asker {
                Asker::Here(OWN) => {}
                Asker::Here(request) => effects.push(Effect::Answer { request, answer }),
                Asker::Peer(to, id) => effects.push(tell(to, id, applied, answer)),
            }
        }
        self.tend_snapshots(now, effects);
        if self.is_installing() {
            // The engine's state is about to be another; what it has is of no use any more.
            return;
        }
        self.mark(now);
        while let Some(job) = self.keyspace.next_job(now) {
            effects.push(Effect::Work(job));
        }
        self.release(now, effects);
    }

    const fn is_installing(&self) -> bool {
        match &self.sequencer {
            Sequencer::Solo { .. } => false,
            Sequencer::Raft(group) => group.snapshots.is_installing(),
        }
    }

    /// When something becomes due by time alone. What is due while the log is stalled waits for
    /// the log.
    #[must_use]
    pub fn wake_at(&self) -> Option<Time> {
        let sequencer = match &self.sequencer {
            Sequencer::Solo { solo, .. } => solo.wake_at(),
            Sequencer::Raft(group) => group.wake_at(),
        };
        if self.is_stalled {
            return sequencer;
        }
        let shore = self.shore.as_ref().and_then(|it| it.wake_at());
        let all = [sequencer, self.keyspace.wake_at(), shore];
        all.into_iter().flatten().min()
    }

    /// Whether so much waits for the disk that nothing more should be applied until a job is
    /// done.
    #[must_use]
    pub fn must_wait(&self) -> bool {
        self.keyspace.must_wait() && !self.is_installing()
    }

    /// Makes all background work due at once: for a clean stop.
    pub const fn hurry(&mut self) {
        self.keyspace.hurry();
        if let Sequencer::Raft(group) = &mut self.sequencer {
            group.snapshots.stop();
        }
    }

    /// The log was synced, which took so long.
    pub fn log_synced(&mut self, now: Time, took: core::time::Duration) {
        self.keyspace.log_synced(now, took);
    }

    /// Does a slice of the engine's own background work on this thread; whether more is left.
    /// An answer that has become possible counts as more: it leaves at the next settling.
    pub fn sweep(&mut self) -> bool {
        let had_work = self.keyspace.is_sweeping();
        let is_left = self.keyspace.sweep();
        // Readers are to see that it is over.
        self.is_unpublished |= had_work && !is_left;
        let keyspace = &self.keyspace;
        had_work || self.sweep_waits.iter().any(|it| keyspace.is_swept(it.1))
    }

    fn await_sweep(&mut self, request: RequestId, revision: Revision) {
        if self.sweep_waits.len() >= SWEEP_WAITS_MAX {
            let answer = Answer::Swept(Err(Refusal::Busy));
            self.answers.push((Asker::Here(request), answer));
        } else {
            self.sweep_waits.push((request, revision));
        }
    }

    fn answer_swept(&mut self) {
        let waiting = self.sweep_waits.len();
        let (keyspace, answers) = (&self.keyspace, &mut self.answers);
        self.sweep_waits.retain(|(request, revision)| {
            let is_swept = keyspace.is_swept(*revision);
            if is_swept {
                answers.push((Asker::Here(*request), Answer::Swept(Ok(()))));
            }
            !is_swept
        });
        // Who is answered sees it in the view too.
        self.is_unpublished |= self.sweep_waits.len() < waiting;
    }

    /// Whether leases run here.
    pub(crate) fn is_leading(&self) -> bool {
        match &self.sequencer {
            Sequencer::Solo { solo, .. } => solo.is_leader(),
            Sequencer::Raft(group) => group.leads.is_some(),
        }
    }

    fn start(&mut self, now: Time, effects: &mut Effects<Effect>) {
        match &self.sequencer {
            Sequencer::Solo { .. } => self.sequence(now, holm_sequencer::Input::Start, effects),
            Sequencer::Raft(_) => {}
        }
    }

    fn durable(&mut self, now: Time, through: WriteId, effects: &mut Effects<Effect>) {
        self.outstanding.durable(through);
        match &mut self.sequencer {
            Sequencer::Solo { .. } => {
                self.sequence(now, holm_sequencer::Input::Durable { through }, effects);
            }
            Sequencer::Raft(group) => {
                group.snapshots.durable(through);
                group.inputs.push(holm_raft::Input::Durable { through });
            }
        }
    }

    fn read(&mut self, request: RequestId) {
        match &mut self.sequencer {
            // What is applied at a node alone holds every acknowledged command.
            Sequencer::Solo { .. } => self.answers.push((Asker::Here(request), Answer::Read)),
            Sequencer::Raft(group) => group.inputs.push(holm_raft::Input::Read { request }),
        }
    }

    fn leases(&mut self, request: RequestId) {
        match &self.sequencer {
            Sequencer::Solo { .. } => {
                let leases = if self.is_leading() {
                    Ok(self.keyspace.leases())
                } else {
                    Err(Refusal::Busy)
                };
                let answer = Answer::Leases(leases);
                self.answers.push((Asker::Here(request), answer));
            }
            // Which there are is known everywhere; when they end is not, and is not asked.
            Sequencer::Raft(_) => self.list_later(request),
        }
    }

    fn ask_here(&mut self, now: Time, request: RequestId, wish: Wish, with_keys: bool) {
        let question = Question {
            asker: Asker::Here(request),
            op: Op::ZERO,
            wish,
            with_keys,
        };
        self.consider(now, question);
    }

    pub(crate) fn look_for_stall(&mut self, now: Time) {
        let limit = self.keyspace.election_timeout();
        self.is_stalled = self.outstanding.is_older_than(limit, now);
    }

    /// Renews a lease at this node, which leads.
    pub(crate) fn renewed(&mut self, now: Time, lease: i64) -> Result<i64, Refusal> {
        self.look_for_stall(now);
        if self.is_stalled {
            return Err(Refusal::Stalled);
        }
        if self.renewals.len() >= RENEWALS_MAX && self.keyspace.is_shortened(lease) {
            return Err(Refusal::Busy);
        }
        self.keyspace.renew(now, lease)
    }

    /// Answers a renewal as soon as that is right (I5).
    pub(crate) fn answer_renewal(
        &mut self,
        asker: Asker,
        lease: i64,
        answer: Result<i64, Refusal>,
    ) {
        let must_wait = answer.is_ok() && self.keyspace.is_shortened(lease);
        let answer = Answer::Renewed(answer);
        if must_wait {
            self.renewals.push((asker, lease, answer));
        } else {
            self.answers.push((asker, answer));
        }
    }

    pub(crate) fn propose(
        &mut self,
        now: Time,
        request: RequestId,
        body: Bytes,
        takes_space: bool,
        effects: &mut Effects<Effect>,
    ) {
        if takes_space && self.keyspace.has_alarm(AlarmKind::NoSpace) {
            let answer = Answer::Applied(Err(Refusal::NoSpace));
            self.answers.push((Asker::Here(request), answer));
            return;
        }
        match &mut self.sequencer {
            Sequencer::Solo { .. } => {
                let command = Command { request, body };
                self.sequence(now, holm_sequencer::Input::Request { command }, effects);
            }
            Sequencer::Raft(group) => {
                group
                    .inputs
                    .push(holm_raft::Input::Request { request, body });
                if request == OWN {
                    // Whether it is taken must be known at once.
                    self.decide(now, effects);
                }
            }
        }
    }

    /// Leases to expire, alarms to raise: the leader proposes them like anyone else's command.
    fn propose_due(&mut self, now: Time, effects: &mut Effects<Effect>) {
        // One of a group that follows has nothing to say but about its own disk.
        let may_speak = self.is_leading() || self.is_of_group();
        if !may_speak || self.is_stalled {
            return;
        }
        while let Some(command) = self.keyspace.due(now) {
            let proposal = Proposal {
                caller: None,
                command,
            };
            let answered = self.answers.len();
            let body = match &self.shore {
                Some(shore) => proposal.encode_at(shore.unix_ms(now)),
                None => proposal.encode(),
            };
            self.propose(now, OWN, body, false, effects);
            if self.answers.len() > answered {
                // Told at once, for the keyspace remembers only what it gave last.
                self.answers.truncate(answered);
                self.keyspace.refused(now);
                return;
            }
        }
    }

    fn work_done(
        &mut self,
        now: Time,
        done: JobDone,
        effects: &mut Effects<Effect>,
    ) -> Result<(), StoreError> {
        match done.snapshot() {
            Ok(done) => self.shipped(now, done, effects),
            Err(done) => {
                self.keyspace.finish(done)?;
                self.is_unpublished = true;
                Ok(())
            }
        }
    }

    fn sequence(&mut self, now: Time, input: holm_sequencer::Input, effects: &mut Effects<Effect>) {
        let Sequencer::Solo { solo, wanted } = &mut self.sequencer else {
            unreachable!("only a node alone has this sequencer");
        };
        solo.step(now, input, wanted);
        let mut wanted = core::mem::take(wanted);
        for effect in wanted.drain() {
            self.obey(now, effect, effects);
        }
        if let Sequencer::Solo { wanted: place, .. } = &mut self.sequencer {
            *place = wanted;
        }
    }

    fn obey(&mut self, now: Time, effect: holm_sequencer::Effect, effects: &mut Effects<Effect>) {
        match effect {
            holm_sequencer::Effect::Persist { write, record } => {
                self.outstanding.asked(now, write);
                effects.push(Effect::Persist { write, record });
            }
            holm_sequencer::Effect::Apply { op, term, command } => {
                let applied = self.keyspace.apply(now, op, term, &command.body);
                self.is_unpublished = true;
                let answer = Answer::Applied(Ok(applied));
                self.answers.push((Asker::Here(command.request), answer));
            }
            holm_sequencer::Effect::Refuse { request, reason } => {
                let refusal = match reason {
                    Refused::Busy | Refused::Starting => Refusal::Busy,
                };
                let answer = Answer::Applied(Err(refusal));
                self.answers.push((Asker::Here(request), answer));
            }
            holm_sequencer::Effect::Note(event) => {
                if let holm_sequencer::Event::LeaderElected { term } = event {
                    self.keyspace.lead(now, term);
                    self.is_unpublished = true;
                }
                effects.push(Effect::Note(Event::Solo(event)));
            }
        }
    }
}
