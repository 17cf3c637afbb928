//! The replica itself: which step follows which.

use bytes::Bytes;
use holm_base::{Op, RequestId, Revision, Term, Time};
use holm_kv::command::{AlarmKind, Proposal};
use holm_kv::{JobDone, Keyspace, Refusal, StoreError, StreamId};
use holm_machine::{Effects, Machine};
use holm_sequencer::{Command, Refused, Solo};

use crate::input::{Answer, Effect, Input};
use crate::stall::Outstanding;

/// Requests that the replica itself proposes carry this id: nobody waits for their answers.
const OWN: RequestId = RequestId::ZERO;

/// How many renewals may wait until a restart would give their leases all their time.
const RENEWALS_MAX: usize = 65_536;

/// How many requests may wait for a sweep; one more is told that there are too many.
pub const SWEEP_WAITS_MAX: usize = 1024;

/// One keyspace on one node.
#[derive(Debug)]
pub struct Replica {
    sequencer: Solo,
    keyspace: Keyspace,
    /// The sequencer's effects, drained within each step.
    wanted: Effects<holm_sequencer::Effect>,
    /// Answers that wait for the view to be published (I1).
    answers: Vec<(RequestId, Answer)>,
    /// Renewals of leases of which less than all their time is on record (I5).
    renewals: Vec<(RequestId, i64, Answer)>,
    /// The log's writes under way.
    outstanding: Outstanding,
    /// Whether one of them was too old when last looked at (I6).
    is_stalled: bool,
    /// Whether something was applied since the last publication.
    is_unpublished: bool,
    /// Watch streams with something to send; kept to reuse its memory.
    streams: Vec<StreamId>,
    /// Who waits for the sweep to pass which revision.
    sweep_waits: Vec<(RequestId, Revision)>,
    /// The op that the log was last cut to.
    cut: Op,
}

impl Replica {
    /// A replica over an engine that has applied all that its log holds.
    #[must_use]
    pub const fn new(sequencer: Solo, keyspace: Keyspace) -> Self {
        Self {
            sequencer,
            keyspace,
            wanted: Effects::new(),
            answers: Vec::new(),
            renewals: Vec::new(),
            outstanding: Outstanding::new(),
            is_stalled: false,
            is_unpublished: true,
            streams: Vec::new(),
            sweep_waits: Vec::new(),
            cut: Op::ZERO,
        }
    }

    /// The engine.
    #[must_use]
    pub const fn keyspace(&self) -> &Keyspace {
        &self.keyspace
    }

    /// The newest op that was given out.
    #[must_use]
    pub const fn last(&self) -> Op {
        self.sequencer.last()
    }

    /// The term of this run.
    #[must_use]
    pub const fn term(&self) -> Term {
        self.sequencer.term()
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
            Input::Start => self.sequence(now, holm_sequencer::Input::Start, effects),
            Input::Propose {
                request,
                body,
                takes_space,
            } => self.propose(now, request, body, takes_space, effects),
            Input::Durable { through } => {
                self.outstanding.durable(through);
                self.sequence(now, holm_sequencer::Input::Durable { through }, effects);
            }
            Input::LeaseRenew { request, lease } => self.renew(now, request, lease),
            Input::LeaseTimeToLive {
                request,
                lease,
                with_keys,
            } => {
                let answer = self.led(|it| Ok(it.keyspace.time_to_live(now, lease, with_keys)));
                self.answers.push((request, Answer::Lease(answer)));
            }
            Input::Leases { request } => {
                let answer = self.led(|it| Ok(it.keyspace.leases()));
                self.answers.push((request, Answer::Leases(answer)));
            }
            Input::Swept { request, revision } => self.await_sweep(request, revision),
            Input::WorkDone(done) => self.work_done(done)?,
            Input::Wake => {}
        }
        Ok(())
    }

    /// Ends a batch of steps: publishes what was applied, then lets the answers go (I1), and
    /// asks for the work that has become due.
    pub fn settle(&mut self, now: Time, effects: &mut Effects<Effect>) {
        self.look_for_stall(now);
        self.propose_due(now, effects);
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
        let renewed = renewed.map(|(request, _, answer)| (request, answer));
        for (request, answer) in self.answers.drain(..).chain(renewed) {
            if request != OWN {
                effects.push(Effect::Answer { request, answer });
            }
        }
        while let Some(job) = self.keyspace.next_job(now) {
            effects.push(Effect::Work(job));
        }
        let durable = self.keyspace.durable_op();
        if durable > self.cut {
            self.cut = durable;
            effects.push(Effect::CutLog { through: durable });
        }
    }

    /// When something becomes due by time alone. What is due while the log is stalled waits for
    /// the log.
    #[must_use]
    pub fn wake_at(&self) -> Option<Time> {
        if self.is_stalled {
            return self.sequencer.wake_at();
        }
        match (self.sequencer.wake_at(), self.keyspace.wake_at()) {
            (Some(left), Some(right)) => Some(left.min(right)),
            (left, right) => left.or(right),
        }
    }

    /// Whether so much waits for the disk that nothing more should be applied until a job is
    /// done.
    #[must_use]
    pub fn must_wait(&self) -> bool {
        self.keyspace.must_wait()
    }

    /// Makes all background work due at once: for a clean stop.
    pub const fn hurry(&mut self) {
        self.keyspace.hurry();
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
            self.answers.push((request, answer));
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
                answers.push((*request, Answer::Swept(Ok(()))));
            }
            !is_swept
        });
        // Who is answered sees it in the view too.
        self.is_unpublished |= self.sweep_waits.len() < waiting;
    }

    /// Lease calls need a leader (I2).
    fn led<T>(&mut self, call: impl FnOnce(&mut Self) -> Result<T, Refusal>) -> Result<T, Refusal> {
        if self.sequencer.is_leader() {
            call(self)
        } else {
            Err(Refusal::Busy)
        }
    }

    fn look_for_stall(&mut self, now: Time) {
        let limit = self.keyspace.election_timeout();
        self.is_stalled = self.outstanding.is_older_than(limit, now);
    }

    fn renew(&mut self, now: Time, request: RequestId, lease: i64) {
        self.look_for_stall(now);
        let is_full = self.renewals.len() >= RENEWALS_MAX;
        let answer = self.led(|it| {
            if it.is_stalled {
                return Err(Refusal::Stalled);
            }
            if is_full && it.keyspace.is_shortened(lease) {
                return Err(Refusal::Busy);
            }
            it.keyspace.renew(now, lease)
        });
        let must_wait = answer.is_ok() && self.keyspace.is_shortened(lease);
        let answer = Answer::Renewed(answer);
        if must_wait {
            self.renewals.push((request, lease, answer));
        } else {
            self.answers.push((request, answer));
        }
    }

    fn propose(
        &mut self,
        now: Time,
        request: RequestId,
        body: Bytes,
        takes_space: bool,
        effects: &mut Effects<Effect>,
    ) {
        if takes_space && self.keyspace.has_alarm(AlarmKind::NoSpace) {
            let answer = Answer::Applied(Err(Refusal::NoSpace));
            self.answers.push((request, answer));
            return;
        }
        let command = Command { request, body };
        self.sequence(now, holm_sequencer::Input::Request { command }, effects);
    }

    /// Leases to expire, alarms to raise: the leader proposes them like anyone else's command.
    fn propose_due(&mut self, now: Time, effects: &mut Effects<Effect>) {
        if !self.sequencer.is_leader() || self.is_stalled {
            return;
        }
        while let Some(command) = self.keyspace.due(now) {
            let proposal = Proposal {
                caller: None,
                command,
            };
            let answered = self.answers.len();
            self.propose(now, OWN, proposal.encode(), false, effects);
            if self.answers.len() > answered {
                // Told at once, for the keyspace remembers only what it gave last.
                self.answers.truncate(answered);
                self.keyspace.refused(now);
                return;
            }
        }
    }

    fn work_done(&mut self, done: JobDone) -> Result<(), StoreError> {
        self.keyspace.finish(done)?;
        self.is_unpublished = true;
        Ok(())
    }

    fn sequence(&mut self, now: Time, input: holm_sequencer::Input, effects: &mut Effects<Effect>) {
        let mut wanted = core::mem::take(&mut self.wanted);
        self.sequencer.step(now, input, &mut wanted);
        for effect in wanted.drain() {
            self.obey(now, effect, effects);
        }
        self.wanted = wanted;
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
                self.answers.push((command.request, answer));
            }
            holm_sequencer::Effect::Refuse { request, reason } => {
                let refusal = match reason {
                    Refused::Busy | Refused::Starting => Refusal::Busy,
                };
                self.answers.push((request, Answer::Applied(Err(refusal))));
            }
            holm_sequencer::Effect::Note(event) => {
                if let holm_sequencer::Event::LeaderElected { term } = event {
                    self.keyspace.lead(now, term);
                    self.is_unpublished = true;
                }
                effects.push(Effect::Note(event));
            }
        }
    }
}
