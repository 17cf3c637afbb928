//! The engine's thread: steps the replica, settles, hands out what it wants.
//!
//! What would surprise: the thread is not always the one that works. While it sleeps over an
//! empty inbox, a front thread with a single write may do the work where it is
//! ([`work_here`]), and so may a thread that brings messages of other nodes ([`attend_here`]):
//! at one write at a time each hand-over between threads costs more than the engine does. A
//! write that is alone is flushed by whoever runs the engine.

#[cfg(test)]
mod drill;
mod words;

use std::sync::atomic::Ordering;
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::BytesMut;
use holm_base::{GroupId, NodeId, RequestId, Time, WriteId};
use holm_kv::{Job, StoreError};
use holm_machine::Effects;
use holm_replica::{
    Answer, Company, Effect, HERE_BYTES_MAX, HERE_RECORDS_MAX, Input, Message, Replica,
};
use holm_sequencer::Record;
use holm_telemetry::Metrics;
use tokio::sync::oneshot;

use crate::handle::{Shared, unix_ms};
use crate::inbox::{Ask, Hold, Inbox, Letter};
use crate::log_writer::Shelf;
use crate::network::{Network, Parcel};
use crate::node::Failure;
use crate::note;
use crate::outbox::{Fetch, Outbox};

/// The longest sleep, so that clocks of work that nobody announces are looked at.
const IDLE: Duration = Duration::from_millis(100);
/// How many writes are applied before their answers leave: later ones wait no longer than it
/// takes to apply so many.
const APPLY_SLICE: u64 = 256;
/// The same where there are other nodes, which are told of each slice.
const APPLY_SLICE_OF_GROUP: u64 = 4096;
/// An apply that takes longer is counted.
const SLOW_APPLY: Duration = Duration::from_millis(100);
/// Writes of at most so many bytes are flushed by whoever runs the engine, if they are alone.
const ALONE_BYTES_MAX: u64 = 64 << 10;
/// How often whoever does the engine's work looks for more before it leaves the rest to the
/// engine's thread.
const ROUNDS_MAX: usize = 4;
/// How long a clean stop waits for the requests under way: on a full disk for ever, otherwise.
pub(crate) const ANSWERS_MAX: Duration = Duration::from_secs(5);
/// How long a clean stop may spend on the engine's files.
const TIDY_UP_MAX: Duration = Duration::from_secs(5);

/// The thread's own state.
#[derive(Debug)]
pub(crate) struct Engine {
    pub(crate) group: GroupId,
    pub(crate) replica: Replica,
    pub(crate) shared: Arc<Shared>,
    pub(crate) outbox: Arc<Outbox>,
    pub(crate) shelf: Arc<Shelf>,
    pub(crate) jobs: SyncSender<Job>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) failure: Failure,
    /// How other nodes are reached, if there are any.
    pub(crate) network: Option<Arc<dyn Network>>,
    /// Rung once, when requests are taken; dropped unrung if that never comes.
    pub(crate) leads: Option<SyncSender<()>>,
    /// How long a clean stop waits for the requests under way.
    pub(crate) answers_within: Duration,
    pub(crate) desk: Desk,
}

/// What waits on the engine's thread between two batches.
#[derive(Debug, Default)]
pub(crate) struct Desk {
    /// Who waits for an answer, by request id less one.
    waiters: Vec<Option<oneshot::Sender<Answer>>>,
    /// Free places in `waiters`.
    free: Vec<u64>,
    /// Records for the log writer, gathered over a batch.
    records: Vec<Record>,
    /// The last of them.
    through: WriteId,
    /// The last write that was given to the log.
    logged: WriteId,
    /// Writes that were reported durable.
    durable: WriteId,
    /// Those of them that were applied; fewer while the engine's files are behind.
    applied: WriteId,
    /// Jobs that the background worker has not reported yet.
    jobs: usize,
    effects: Effects<Effect>,
    /// Until when a stop that was asked for waits for answers.
    stops_by: Option<Time>,
    /// Until when it waits for another node to lead.
    yields_by: Option<Time>,
    /// Words to others that state what is not durable yet.
    held: Vec<(WriteId, NodeId, Message)>,
    /// Entries and commit points that wait for company.
    company: Company,
    /// Empty: the memory for what leaves for a node at once.
    leaving: Vec<Message>,
    /// The same, encoded.
    parcels: Vec<Parcel>,
    /// Empty: the memory for what is obeyed behind the records.
    later: Vec<Effect>,
    /// Messages are encoded here, so that many share one allocation.
    arena: BytesMut,
}

impl Desk {
    fn seat(&mut self, waiter: oneshot::Sender<Answer>) -> RequestId {
        let place = self.free.pop().unwrap_or_else(|| {
            self.waiters.push(None);
            self.waiters.len() as u64 - 1
        });
        self.waiters[index(place)] = Some(waiter);
        RequestId::new(place + 1)
    }

    fn answer(&mut self, request: RequestId, answer: Answer) {
        let place = request.value() - 1;
        let waiter = self.waiters[index(place)].take();
        self.free.push(place);
        // Nobody may wait any more: the client has gone, or its time has run out.
        drop(waiter.map(|it| it.send(answer)));
    }

    /// How many requests have been taken and not answered.
    const fn seated(&self) -> usize {
        self.waiters.len() - self.free.len()
    }

    /// How many of them somebody waits for: who has gone holds up no stop.
    fn awaited(&self) -> usize {
        let waiters = self.waiters.iter().flatten();
        waiters.filter(|it| !it.is_closed()).count()
    }
}

fn index(place: u64) -> usize {
    usize::try_from(place).expect("places count what is in memory")
}

/// The engine, where its thread and the front reach it. `None` once it has ended, which drops
/// those who wait.
pub(crate) type Seat = Mutex<Option<Engine>>;

fn lock(seat: &Seat) -> MutexGuard<'_, Option<Engine>> {
    seat.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The engine's thread: runs until it is stopped or something fails.
pub(crate) fn run(seat: &Seat, inbox: &Inbox) {
    if with(seat, |it| it.work_off(core::iter::empty(), true)).is_ok() {
        attend(seat, inbox);
    }
    inbox.end();
}

/// Works off what comes until it is stopped or something fails.
fn attend(seat: &Seat, inbox: &Inbox) {
    let mut letters = Vec::new();
    while let Ok(patience) = with(seat, |it| Ok(it.patience())) {
        inbox.take(&mut letters, patience);
        let worked = with(seat, |it| it.work_off(letters.drain(..), false));
        match worked.and_then(|()| with(seat, |it| Ok(it.end()))) {
            Ok(None) => {}
            Ok(Some(End::Answered)) => {
                tidy_up(seat, inbox, &mut letters);
                if let Some(mut engine) = lock(seat).take() {
                    engine.replica.end_record();
                    engine.outbox.leave(engine.group);
                }
                return;
            }
            Ok(Some(End::Late)) => {
                if let Some(mut engine) = lock(seat).take() {
                    engine.replica.end_record();
                    // They go without an answer, which their clients are told as just that.
                    let unanswered = engine.desk.seated();
                    tracing::warn!(unanswered, "stops before all requests have an answer");
                    engine.outbox.leave(engine.group);
                }
                return;
            }
            Err(()) => return,
        }
    }
}

/// How a stop ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// Everybody has an answer.
    Answered,
    /// Some have none, and have waited long enough.
    Late,
}

/// Lets the engine do something; an error has been reported and ends it.
fn with<T>(seat: &Seat, act: impl FnOnce(&mut Engine) -> Result<T, ()>) -> Result<T, ()> {
    let mut slot = lock(seat);
    let result = slot.as_mut().ok_or(()).and_then(act);
    if result.is_err()
        && let Some(engine) = slot.take()
    {
        // The log's thread would wait for it for ever, and a stop for that thread.
        engine.outbox.give_up();
    }
    result
}

/// Works a request off on the calling thread, if the engine's own sleeps; gives it back
/// otherwise. Blocks for as long as a flush takes.
pub(crate) fn work_here(
    seat: &Seat,
    inbox: &Inbox,
    (ask, waiter): (Ask, oneshot::Sender<Answer>),
) -> Result<(), (Ask, oneshot::Sender<Answer>)> {
    let Some(hold) = inbox.hold(&ask) else {
        return Err((ask, waiter));
    };
    stand_in(seat, (inbox, &hold), vec![Letter::Ask(ask, waiter)]);
    Ok(())
}

/// Works off the messages that wait on the calling thread, if the engine's own sleeps and they
/// are few; wakes that otherwise.
pub(crate) fn attend_here(seat: &Seat, inbox: &Inbox) {
    if let Some((hold, letters)) = inbox.hold_waiting(HERE_BYTES_MAX) {
        stand_in(seat, (inbox, &hold), letters);
    }
}

/// Does the work of the engine's thread, which is held asleep, and that of a few messages that
/// come meanwhile: the answers to what was sent. Wakes the thread if it is to do something before
/// it would wake by itself.
fn stand_in(seat: &Seat, (inbox, hold): (&Inbox, &Hold<'_>), letters: Vec<Letter>) {
    let mut letters = letters;
    for round in 1..=ROUNDS_MAX {
        let worked = with(seat, |it| {
            it.work_off(letters.into_iter(), false)?;
            Ok(it.patience())
        });
        // An engine that has ended dropped those who wait, which tells them.
        let Ok(patience) = worked else {
            return;
        };
        inbox.remind(patience);
        let more = (round < ROUNDS_MAX).then(|| hold.more(HERE_BYTES_MAX));
        let Some(more) = more.flatten() else {
            return;
        };
        letters = more;
    }
}

/// Brings the engine's files up to date, so that the next start is quick. Nothing depends
/// on it, so it has a limit.
fn tidy_up(seat: &Seat, inbox: &Inbox, letters: &mut Vec<Letter>) {
    let hurried = with(seat, |it| {
        it.replica.hurry();
        let now = it.shared.clock.now();
        it.settle(now)?;
        Ok(now + TIDY_UP_MAX)
    });
    let Ok(end) = hurried else {
        return;
    };
    while let Ok(true) = with(seat, |it| Ok(it.is_tidying(end))) {
        inbox.take(letters, IDLE);
        if with(seat, |it| it.work_off(letters.drain(..), false)).is_err() {
            return;
        }
    }
}

impl Engine {
    /// How a stop that was asked for ends, once it does.
    fn end(&self) -> Option<End> {
        let stops_by = self.desk.stops_by?;
        if self.desk.awaited() == 0 && !self.is_yielding() {
            Some(End::Answered)
        } else if self.shared.clock.now() >= stops_by {
            Some(End::Late)
        } else {
            None
        }
    }

    /// Whether leadership is on its way to another node.
    fn is_yielding(&self) -> bool {
        let by = self.desk.yields_by;
        let is_time_left = by.is_some_and(|by| self.shared.clock.now() < by);
        is_time_left && self.replica.is_leader_of_others()
    }

    /// Whether jobs are under way and there is time for them.
    fn is_tidying(&mut self, end: Time) -> bool {
        let has_more = self.desk.jobs > 0 && self.shared.clock.now() < end;
        if has_more {
            self.replica.sweep();
        }
        has_more
    }

    /// How long to sleep: not at all while a sweep has more to do.
    fn patience(&mut self) -> Duration {
        if self.replica.sweep() {
            return Duration::ZERO;
        }
        let due = [self.replica.wake_at(), self.desk.company.due()];
        let due = due.into_iter().flatten().min();
        due.map_or(IDLE, |at| self.shared.clock.until(at).min(IDLE))
    }

    /// Takes a batch of letters; an error has been reported and ends the thread.
    fn work_off(
        &mut self,
        letters: impl Iterator<Item = Letter>,
        is_first: bool,
    ) -> Result<(), ()> {
        let now = self.shared.clock.now();
        if self.shared.is_island {
            self.replica.set_wall(now, unix_ms());
        }
        let result = if is_first {
            self.step(now, Input::Start)
        } else {
            self.open_letters(now, letters)
        };
        let result = result
            .and_then(|()| self.step(now, Input::Wake))
            .map_err(|error| self.failed(&error))
            .and_then(|()| self.apply(now));
        result?;
        self.settle(now)?;
        // What was alone is durable by now.
        let now = self.shared.clock.now();
        self.apply(now)?;
        self.send_late(now);
        Ok(())
    }

    fn failed(&self, error: &StoreError) {
        self.failure.report("keep the engine's files", error);
    }

    fn open_letters(
        &mut self,
        now: Time,
        letters: impl Iterator<Item = Letter>,
    ) -> Result<(), StoreError> {
        for letter in letters {
            match letter {
                Letter::Ask(ask, waiter) => {
                    let request = self.desk.seat(waiter);
                    self.step(now, input(request, ask))?;
                }
                Letter::Durable(through, took) => {
                    self.desk.durable = through;
                    self.release_held();
                    self.replica.log_synced(now, took);
                }
                Letter::Suspect(peer) => self.step(now, Input::Suspect { peer })?,
                Letter::Message(from, message) => {
                    self.desk.company.hear(now, from, &message);
                    self.step(now, Input::Message { from, message })?;
                }
                Letter::Fetched(peer, entries) => {
                    self.step(now, Input::Fetched { peer, entries })?;
                }
                Letter::WorkDone(done) => {
                    self.desk.jobs -= 1;
                    self.step(now, Input::WorkDone(done))?;
                }
                Letter::Stop => {
                    self.desk.stops_by = Some(now + self.answers_within);
                    self.desk.yields_by = Some(now + self.replica.yield_lead());
                }
            }
        }
        Ok(())
    }

    /// Applies what is durable, in slices, so that the first answers of a large flush do not
    /// wait for the last; and no more than the engine's files can follow.
    fn apply(&mut self, now: Time) -> Result<(), ()> {
        let slice = if self.network.is_some() {
            APPLY_SLICE_OF_GROUP
        } else {
            APPLY_SLICE
        };
        while self.desk.applied < self.desk.durable && !self.replica.must_wait() {
            let end = (self.desk.applied.value() + slice).min(self.desk.durable.value());
            self.desk.applied = WriteId::new(end);
            let through = self.desk.applied;
            let begun = self.shared.clock.now();
            self.step(now, Input::Durable { through })
                .map_err(|error| self.failed(&error))?;
            if self.shared.clock.now().since(begun) > SLOW_APPLY {
                self.metrics.server.slow_apply.inc();
            }
            self.settle(now)?;
        }
        Ok(())
    }

    fn step(&mut self, now: Time, input: Input) -> Result<(), StoreError> {
        let mut effects = core::mem::take(&mut self.desk.effects);
        let result = self.replica.step(now, input, &mut effects);
        self.desk.effects = effects;
        result
    }

    /// Publishes, then lets everything out: records first, for the log is what takes longest.
    /// A write that is alone goes to the log here and now, behind everything else.
    fn settle(&mut self, now: Time) -> Result<(), ()> {
        let mut effects = core::mem::take(&mut self.desk.effects);
        self.replica.settle(now, &mut effects);
        let last = self.replica.last().value();
        self.shared.last.store(last, Ordering::Release);
        if self.network.is_some() {
            let leader = self.replica.leader().map_or(0, NodeId::value);
            self.shared.leader.store(leader, Ordering::Release);
            let term = self.replica.term().value();
            self.shared.term.store(term, Ordering::Release);
        }
        let mut later = core::mem::take(&mut self.desk.later);
        for effect in effects.drain() {
            if let Effect::Persist { write, record } = effect {
                self.desk.records.push(record);
                self.desk.through = write;
            } else {
                later.push(effect);
            }
        }
        self.desk.effects = effects;
        let is_alone = self.is_alone();
        if !is_alone {
            self.persist();
        }
        for effect in later.drain(..) {
            self.obey(effect);
        }
        self.desk.later = later;
        if is_alone { self.flush_here() } else { Ok(()) }
    }

    /// Whether what is to be logged is one small write, or very few that came together from
    /// another node, no other is on its way to the log, and nobody else waits: then the log's
    /// thread could only do the same, later.
    fn is_alone(&self) -> bool {
        let records = &self.desk.records;
        let bytes: u64 = records.iter().map(|it| it.body_bytes().value()).sum();
        let is_small = match records.len() {
            0 => false,
            1 => bytes <= ALONE_BYTES_MAX,
            count => count <= HERE_RECORDS_MAX && bytes <= HERE_BYTES_MAX as u64,
        };
        is_small && self.desk.durable == self.desk.logged && self.desk.seated() <= 1
    }

    /// Gives what is to be logged to the log's thread.
    fn persist(&mut self) {
        if !self.desk.records.is_empty() {
            self.desk.logged = self.desk.through;
            let through = self.desk.through;
            self.outbox
                .persist(self.group, &mut self.desk.records, through);
        }
    }

    /// Logs what is alone; hands it on if the log is in use.
    fn flush_here(&mut self) -> Result<(), ()> {
        let begun = self.shared.clock.now();
        let records = &self.desk.records;
        match self.shelf.flush_here(self.group, records, &self.outbox) {
            Ok(true) => {
                let now = self.shared.clock.now();
                self.replica.log_synced(now, now.since(begun));
                self.desk.records.clear();
                self.desk.logged = self.desk.through;
                self.desk.durable = self.desk.through;
                self.release_held();
            }
            Ok(false) => self.persist(),
            Err(error) => {
                self.failure.report("write the log", &error);
                return Err(());
            }
        }
        Ok(())
    }

    fn obey(&mut self, effect: Effect) {
        match effect {
            Effect::Persist { .. } => unreachable!("records were taken out first"),
            Effect::Answer { request, answer } => self.desk.answer(request, answer),
            Effect::WakeStreams(streams) => self.shared.hub.wake(&streams),
            Effect::Work(job) => {
                // The channel holds one place for each kind, and a kind is never asked for
                // twice; the worker is gone only when the node is ending.
                match self.jobs.try_send(job) {
                    Ok(()) => self.desk.jobs += 1,
                    Err(error) => tracing::error!(%error, "background work was not taken"),
                }
            }
            Effect::CutLog { through } => self.outbox.cut(self.group, through),
            Effect::Send { to, message, after } => match after {
                Some(after) if after > self.desk.durable => {
                    self.desk.held.push((after, to, message));
                }
                Some(_) | None => self.say(to, message),
            },
            Effect::Fetch {
                first,
                last,
                bytes_max,
                peer,
            } => {
                let fetch = Fetch {
                    first,
                    last,
                    bytes_max,
                    peer,
                };
                self.outbox.fetch(self.group, fetch);
            }
            Effect::Note(event) => {
                note::note(&event, &self.metrics);
                if let Some(leads) = self.leads.take_if(|_| note::takes_requests(&event)) {
                    // Nobody waits if the start was given up.
                    leads.try_send(()).ok();
                }
            }
        }
    }
}

fn input(request: RequestId, ask: Ask) -> Input {
    match ask {
        Ask::Propose { body, takes_space } => Input::Propose {
            request,
            body,
            takes_space,
        },
        Ask::LeaseRenew { lease } => Input::LeaseRenew { request, lease },
        Ask::LeaseTimeToLive { lease, with_keys } => Input::LeaseTimeToLive {
            request,
            lease,
            with_keys,
        },
        Ask::Leases => Input::Leases { request },
        Ask::Swept { revision } => Input::Swept { request, revision },
        Ask::Read => Input::Read { request },
        Ask::Operate { operation } => Input::Operate { request, operation },
        Ask::Stand => Input::Stand { request },
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;
    use std::sync::mpsc::{Receiver, sync_channel};

    use bytes::Bytes;
    use holm_base::ClusterId;
    use holm_disk::RealFolder;
    use holm_kv::Config;
    use holm_kv::command::{Command, Proposal, Put};
    use holm_log::LogConfig;
    use holm_replica::GroupConfig;

    use super::*;
    use crate::clock::Clock;
    use crate::handle::Identity;

    /// What an engine is opened over.
    pub(super) enum Files<'a> {
        /// A node alone.
        Alone(&'a std::path::Path, LogConfig, Config),
        /// One of several.
        Group(&'a std::path::Path, LogConfig, Config, &'a GroupConfig),
    }

    /// An engine without its threads, where its jobs go, and how many entries its log held.
    pub(super) fn assemble(
        files: Files<'_>,
        network: Option<Arc<dyn Network>>,
    ) -> (Engine, Receiver<Job>, u64) {
        let folder = |place| RealFolder::open(place).expect("it was just made");
        let group = crate::keyspaces::DEFAULT;
        let opened = match files {
            Files::Alone(place, log, kv) => holm_replica::open(&*folder(place), group, log, kv),
            Files::Group(place, log, kv, config) => {
                holm_replica::open_in_group(&*folder(place), group, (log, kv), config)
            }
        };
        let opened = opened.expect("the files are sound");
        let replica = opened.replica;
        let inbox = Arc::new(Inbox::new(1 << 20));
        let metrics = Arc::new(Metrics::new("0", "0"));
        let shared = Shared {
            keyspace: (group, String::new()),
            place: group,
            inbox: Arc::clone(&inbox),
            reader: replica.keyspace().reader(),
            hub: replica.keyspace().hub(),
            clock: Clock::start(),
            identity: Identity {
                cluster: ClusterId::new(1),
                node: NodeId::new(2),
                name: String::new(),
                site: String::new(),
                peer_urls: Vec::new(),
                client_urls: Vec::new(),
            },
            quota_bytes: 1 << 30,
            metrics: Arc::clone(&metrics),
            last: AtomicU64::new(0),
            pending: AtomicU64::new(0),
            leader: AtomicU64::new(0),
            term: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            patience: None,
            bootstrap: None,
            is_island: false,
        };
        let (jobs, worker_jobs) = sync_channel(crate::background::JOBS_MAX);
        let outbox = Arc::new(Outbox::default());
        outbox.enter(group, Arc::clone(&inbox));
        let engine = Engine {
            group,
            replica,
            shared: Arc::new(shared),
            outbox,
            jobs,
            shelf: Arc::new(Shelf::new(opened.log, Arc::clone(&metrics))),
            metrics,
            failure: Failure::new(&inbox, Arc::new(|_: &str| {})),
            network,
            leads: None,
            answers_within: Duration::ZERO,
            desk: Desk::default(),
        };
        (engine, worker_jobs, opened.replayed)
    }

    fn engine(place: &std::path::Path) -> (Engine, Receiver<Job>) {
        let log_config = LogConfig {
            segment_bytes: holm_base::ByteCount::new(256 << 10),
            ..LogConfig::new(ClusterId::new(1), NodeId::new(2))
        };
        let files = Files::Alone(place, log_config, Config::default());
        let (engine, jobs, _replayed) = assemble(files, None);
        (engine, jobs)
    }

    fn batch(inbox: &Arc<Inbox>) -> crate::outbox::Batch {
        crate::outbox::Batch {
            group: crate::keyspaces::DEFAULT,
            records: Vec::new(),
            through: WriteId::ZERO,
            inbox: Arc::clone(inbox),
        }
    }

    #[test]
    fn an_engine_that_fails_takes_the_logs_thread_along() {
        let place = tempfile::tempdir().expect("a place for files");
        let (engine, _jobs) = engine(place.path());
        let (outbox, inbox) = (Arc::clone(&engine.outbox), Arc::clone(&engine.shared.inbox));
        let seat = Mutex::new(Some(engine));
        assert_eq!(with(&seat, |_| Ok(())), Ok(()));
        assert!(!outbox.is_given_up(&[batch(&inbox)]), "nothing has failed");
        assert_eq!(with(&seat, |_| Err::<(), ()>(())), Err(()));
        assert!(outbox.is_given_up(&[batch(&inbox)]));
        assert!(lock(&seat).is_none(), "it is over");
    }

    #[test]
    fn a_stop_ends_though_the_log_never_answers() {
        let place = tempfile::tempdir().expect("a place for files");
        let (mut engine, _jobs) = engine(place.path());
        assert_eq!(engine.work_off(core::iter::empty(), true), Ok(()));
        let put = Proposal {
            caller: None,
            command: Command::Put(Put {
                key: Bytes::from_static(b"key"),
                ..Put::default()
            }),
        };
        let ask = || Ask::Propose {
            body: put.encode(),
            takes_space: true,
        };
        let (first, mut answer) = oneshot::channel();
        let (second, other) = oneshot::channel();
        // Two are not alone: they go to the log's thread, which here says nothing.
        let letters = [
            Letter::Ask(ask(), first),
            Letter::Ask(ask(), second),
            Letter::Stop,
        ];
        assert_eq!(engine.work_off(letters.into_iter(), false), Ok(()));
        assert_eq!(engine.desk.seated(), 2, "the puts wait for the log");
        drop(other);
        assert_eq!(engine.desk.awaited(), 1, "one has gone");
        assert!(matches!(engine.end(), Some(End::Late)), "and one has not");
        let (outbox, inbox) = (Arc::clone(&engine.outbox), Arc::clone(&engine.shared.inbox));
        let group = engine.group;
        attend(&Mutex::new(Some(engine)), &inbox);
        let nothing = oneshot::error::TryRecvError::Closed;
        assert_eq!(answer.try_recv().err(), Some(nothing), "neither yes nor no");
        assert!(!outbox.has(group), "what waits there is dropped");
    }
}
