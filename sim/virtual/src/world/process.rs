//! Nodes as processes: the engine's thread and the log's, where work costs something.
//!
//! A node's threads are servers on its host's cores ([`super::host`]): the engine works off batches, the log's writes
//! what a batch wants durable, and workers ([`super::workers`]) carry messages and serve the caller's connections.

use std::collections::VecDeque;

use holm_base::{NodeId, Prng, Time, WriteId};
use holm_machine::{Driver, Label, Turn};

use crate::clock::Clock;
use crate::node::Node;
use crate::shelf::Shelf;
use crate::spec::{NodeSpec, SyncTime};
use crate::tape::{Place, Tape};
use crate::trace::{Recording, Trace};
use crate::world::host::Thread;
use crate::world::wakes::Waker;
use crate::world::workers::Pool;
use crate::world::{Item, World};

const SYNC: Place = Place::new("disk.sync");

/// A node and its surroundings.
#[derive(Clone, Debug)]
pub(crate) struct Process<N: Node> {
    pub(crate) spec: NodeSpec<N>,
    pub(crate) id: NodeId,
    /// Whether its work costs nothing.
    pub(crate) is_free: bool,
    /// `None` while it is down.
    pub(crate) driver: Option<Driver<N>>,
    pub(crate) shelf: N::Shelf,
    pub(crate) clock: Clock,
    /// Counts its ends, so that what belonged to an earlier run is known.
    pub(crate) run: u64,
    /// How many pauses hold it.
    pub(crate) pauses: u32,
    /// How many restarts are on their way.
    pub(crate) restarts: u32,
    pub(crate) standing: Standing,
    /// Its log's thread.
    writer: Writer,
    pub(crate) pool: Pool<N>,
    /// What its work wants, once it is done.
    outbox: Turn<N::Effect>,
    last_sync: Time,
    /// How many bytes the flush writes that is under way.
    flush_bytes: u64,
    /// The flush that found no room, if any, and those behind it.
    pub(crate) waiting: VecDeque<WriteId>,
    /// What waking it costs, which is not paid for yet.
    pub(crate) woken_nanos: u64,
    /// Whether it has written its log since a thread of it woke on a core that had slept for long.
    pub(crate) has_written: bool,
    /// What whoever ran the engine wrote to links, and has not paid for yet.
    pub(crate) spoken: Spoken,
    /// The worker that does the engine's work on its own core, and goes on behind it.
    pub(crate) stand_in: Option<usize>,
    pub(crate) usage: Usage,
    /// When its next timer is due, in true time.
    pub(crate) wake: Option<Time>,
}

/// Messages that whoever runs the engine wrote.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Spoken {
    pub(crate) writes: u64,
    pub(crate) nanos: u64,
}

/// Where a node stands with its host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It needs no core.
    Off,
    /// It sleeps, and a message has rung.
    Waking,
    /// It waits for one.
    Queued,
    /// It has one.
    On,
    /// It has one, and writes the log itself, through here.
    Writing(WriteId),
    /// It has one still, and writes to links.
    Speaking,
    /// It waits for the disk.
    Syncing,
    /// Its work is done, but it was paused before it could do what it wanted.
    Done,
}

/// Whether the engine's thread has a core when its batch is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Core {
    Held,
    /// It was paused.
    Gone,
}

/// What the log's thread does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Writer {
    Idle,
    /// It is woken for a flush, or waits for a core; what that takes beyond the usual.
    Called(WriteId, u64),
    /// It has a core.
    On(WriteId),
    /// It waits for the disk.
    Syncing,
    /// It waits for a core, to tell the engine.
    Telling(WriteId),
}

/// Who hears that a flush is on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answered {
    /// The engine's thread, which waited for it.
    Engine,
    /// The log's thread, which will tell the engine's.
    Log,
    /// The log's thread has heard, and tells the engine's.
    Told,
}

impl<N: Node> Process<N> {
    pub(crate) fn new(spec: NodeSpec<N>, id: NodeId, nodes: usize) -> Self {
        let clock = Clock::new(spec.clock);
        let pool = Pool::new(spec.work.workers, nodes);
        let shelf = N::shelf(&spec.setup);
        Self {
            is_free: spec.work.is_free(),
            spec,
            id,
            driver: None,
            shelf,
            clock,
            run: 0,
            pauses: 0,
            restarts: 0,
            standing: Standing::Off,
            writer: Writer::Idle,
            pool,
            outbox: Turn::new(),
            last_sync: Time::ZERO,
            flush_bytes: 0,
            waiting: VecDeque::new(),
            woken_nanos: 0,
            has_written: false,
            spoken: Spoken::default(),
            stand_in: None,
            usage: Usage::default(),
            wake: None,
        }
    }

    /// Whether it cannot begin a batch now.
    #[inline]
    pub(crate) fn is_held(&self) -> bool {
        self.pauses > 0 || self.standing != Standing::Off
    }

    /// Whether it does its part: up, and not paused.
    pub(crate) const fn is_well(&self) -> bool {
        self.driver.is_some() && self.pauses == 0
    }

    /// Whether it waits for the disk.
    fn is_syncing(&self) -> bool {
        self.standing == Standing::Syncing || self.writer == Writer::Syncing
    }

    /// Runs one batch, if there is anything to do; what it wants is in `turn`.
    #[inline(always)]
    pub(crate) fn step(
        &mut self,
        now: Time,
        trace: &mut Trace,
        turn: &mut Turn<N::Effect>,
    ) -> bool {
        let Some(driver) = &mut self.driver else {
            return false;
        };
        let local = self.clock.monotone(now);
        if !driver.is_ready(local) {
            return false;
        }
        turn.clear();
        let wall = self.clock.wall_at(local);
        driver.machine_mut().tell_wall(local, wall);
        let node = self.id;
        driver.turn(local, &mut Recording { trace, node }, turn);
        self.usage.turns += 1;
        true
    }

    /// Whoever runs the engine now pays for what it wrote.
    fn pays_for_words(&mut self) -> Spoken {
        let spoken = std::mem::take(&mut self.spoken);
        if self.stand_in.is_none() {
            self.usage.own_writes += spoken.writes;
        }
        spoken
    }

    /// When a flush that begins now is on disk; flushes end in the order of their beginning.
    pub(crate) fn sync_ends(&mut self, now: Time, tape: &mut Tape, is_beside: bool) -> Time {
        let takes = self.sync_takes(tape, is_beside);
        self.usage.sync_nanos += takes;
        let at = Time::from_nanos(now.nanos().saturating_add(takes));
        self.last_sync = self.last_sync.max(at);
        self.last_sync
    }

    /// How long a flush takes that begins now, by the two timed ones that are nearest in size.
    fn sync_takes<'a>(&'a self, tape: &mut Tape, is_beside: bool) -> u64 {
        let timed = &self.spec.sync_timed;
        let table = |one: &'a SyncTime| if is_beside { &one.beside } else { &one.alone };
        let above = timed
            .iter()
            .skip(1)
            .position(|one| one.bytes > self.flush_bytes);
        let last = timed.len().saturating_sub(2);
        let below = above.unwrap_or(last);
        match (timed.get(below), timed.get(below + 1)) {
            (Some(from), Some(to)) => {
                let more = self.flush_bytes.saturating_sub(from.bytes);
                let per_mille = more * 1_000 / (to.bytes - from.bytes);
                table(from).delay_between(table(to), per_mille, SYNC, tape)
            }
            (Some(only), None) => table(only).delay(SYNC, tape),
            (None, _) => self.spec.sync.delay(SYNC, tape),
        }
    }
}

/// What a node has used so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Time on a core, in nanoseconds; nothing where work is free. What the caller's errands used is the caller's.
    pub busy_nanos: u64,
    /// What of it was its engine's thread's.
    pub engine_nanos: u64,
    /// And its log's; the rest is its workers'.
    pub log_nanos: u64,
    /// Batches.
    pub turns: u64,
    /// Those of them that a worker did in the place of the engine's thread.
    pub turns_here: u64,
    /// Batches that wanted something logged.
    pub logging: u64,
    /// Those of them that a worker did in the engine's place.
    pub logging_here: u64,
    /// Times that its engine's thread woke.
    pub wakes: u64,
    /// Times that a thread of it woke on a core that had slept for long, after it had written its log.
    pub cold: u64,
    /// What it spent on that, on waking others and on flushes, in nanoseconds.
    pub timed_nanos: u64,
    /// The same of its log's thread.
    pub log_timed_nanos: u64,
    /// And of its workers.
    pub worker_timed_nanos: u64,
    /// Messages sent.
    pub sent: u64,
    /// Flushes begun.
    pub flushes: u64,
    /// How long they waited for the disk, in nanoseconds.
    pub sync_nanos: u64,
    /// Those of them that whoever ran the engine made itself.
    pub own_flushes: u64,
    /// Those of these that a worker made in its place.
    pub flushes_here: u64,
    /// Records that were logged.
    pub records: u64,
    /// Those of them that a worker's batches wanted logged, in the engine's place.
    pub records_here: u64,
    /// Times that a worker woke, whether it found something or not.
    pub worker_wakes: u64,
    /// Times that somebody wrote to a link.
    pub writes: u64,
    /// Those that the engine's own thread made.
    pub own_writes: u64,
    /// Times that a worker read from one.
    pub reads: u64,
    /// Bytes written.
    pub link_bytes: u64,
    /// Bytes read.
    pub read_bytes: u64,
}

impl Usage {
    /// Both together.
    #[must_use]
    pub const fn plus(self, more: Self) -> Self {
        Self {
            busy_nanos: self.busy_nanos + more.busy_nanos,
            engine_nanos: self.engine_nanos + more.engine_nanos,
            log_nanos: self.log_nanos + more.log_nanos,
            turns: self.turns + more.turns,
            turns_here: self.turns_here + more.turns_here,
            logging: self.logging + more.logging,
            logging_here: self.logging_here + more.logging_here,
            wakes: self.wakes + more.wakes,
            cold: self.cold + more.cold,
            sync_nanos: self.sync_nanos + more.sync_nanos,
            timed_nanos: self.timed_nanos + more.timed_nanos,
            log_timed_nanos: self.log_timed_nanos + more.log_timed_nanos,
            worker_timed_nanos: self.worker_timed_nanos + more.worker_timed_nanos,
            sent: self.sent + more.sent,
            flushes: self.flushes + more.flushes,
            own_flushes: self.own_flushes + more.own_flushes,
            flushes_here: self.flushes_here + more.flushes_here,
            records: self.records + more.records,
            records_here: self.records_here + more.records_here,
            worker_wakes: self.worker_wakes + more.worker_wakes,
            writes: self.writes + more.writes,
            own_writes: self.own_writes + more.own_writes,
            reads: self.reads + more.reads,
            link_bytes: self.link_bytes + more.link_bytes,
            read_bytes: self.read_bytes + more.read_bytes,
        }
    }

    /// What was used since an earlier look.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Self {
        Self {
            busy_nanos: self.busy_nanos - earlier.busy_nanos,
            engine_nanos: self.engine_nanos - earlier.engine_nanos,
            log_nanos: self.log_nanos - earlier.log_nanos,
            turns: self.turns - earlier.turns,
            turns_here: self.turns_here - earlier.turns_here,
            logging: self.logging - earlier.logging,
            logging_here: self.logging_here - earlier.logging_here,
            wakes: self.wakes - earlier.wakes,
            cold: self.cold - earlier.cold,
            sync_nanos: self.sync_nanos - earlier.sync_nanos,
            timed_nanos: self.timed_nanos - earlier.timed_nanos,
            log_timed_nanos: self.log_timed_nanos - earlier.log_timed_nanos,
            worker_timed_nanos: self.worker_timed_nanos - earlier.worker_timed_nanos,
            sent: self.sent - earlier.sent,
            flushes: self.flushes - earlier.flushes,
            own_flushes: self.own_flushes - earlier.own_flushes,
            flushes_here: self.flushes_here - earlier.flushes_here,
            records: self.records - earlier.records,
            records_here: self.records_here - earlier.records_here,
            worker_wakes: self.worker_wakes - earlier.worker_wakes,
            writes: self.writes - earlier.writes,
            own_writes: self.own_writes - earlier.own_writes,
            reads: self.reads - earlier.reads,
            link_bytes: self.link_bytes - earlier.link_bytes,
            read_bytes: self.read_bytes - earlier.read_bytes,
        }
    }
}

impl<N: Node> World<N> {
    /// Starts a node that is down.
    pub(crate) fn start(&mut self, node: usize) {
        let process = &mut self.processes[node];
        process.restarts = process.restarts.saturating_sub(1);
        if process.driver.is_some() {
            return;
        }
        let seed = Prng::at(self.tape.seed() ^ process.id.value(), process.run).next();
        process.clock.restart(self.now);
        process.last_sync = self.now;
        let machine = N::boot(&process.spec.setup, process.id, seed, &process.shelf);
        process.driver = Some(Driver::new(machine, self.limits));
        self.stir(node);
        self.refresh_timer(node);
    }

    /// Ends a node: what it held is lost, and its disk keeps what the tape says.
    pub(crate) fn end(&mut self, node: usize) {
        let process = &mut self.processes[node];
        if process.driver.take().is_none() {
            return;
        }
        self.counts.crashed += 1;
        if let Some(timeline) = &mut self.timeline {
            timeline.happened(node, Label::plain("ended", "down"));
        }
        process.run += 1;
        process.waiting.clear();
        process.outbox.clear();
        process.spoken = Spoken::default();
        process.pool.clear();
        process.shelf.crash(&mut self.tape);
        process.standing = Standing::Off;
        process.writer = Writer::Idle;
        let (host, stood_in) = (process.spec.host, process.stand_in);
        self.retire(node);
        self.refresh_timer(node);
        self.end_threads(host, node, stood_in);
    }

    #[inline]
    pub(crate) fn refresh_timer(&mut self, node: usize) {
        let process = &mut self.processes[node];
        let wake = if process.is_held() {
            None
        } else {
            process.driver.as_ref().and_then(Driver::wake_at)
        };
        process.wake = wake.and_then(|local| process.clock.true_time(local));
        match (process.wake, self.timer) {
            (Some(at), None) => self.timer = Some((at, node)),
            (Some(at), Some((best, _))) if at < best => self.timer = Some((at, node)),
            (_, Some((_, owner))) if owner == node => {
                let wakes = self.processes.iter().enumerate();
                let wakes = wakes.filter_map(|(index, one)| Some((one.wake?, index)));
                self.timer = wakes.min();
            }
            (_, _) => {}
        }
    }

    pub(crate) fn enqueue(&mut self, node: usize) {
        let process = &mut self.processes[node];
        let local = process.clock.monotone(self.now);
        let driver = process.driver.as_ref();
        if driver.is_some_and(|driver| driver.is_ready(local)) {
            process.standing = Standing::Queued;
            let host = process.spec.host;
            self.queue(host, self.runner(node));
        }
    }

    /// A message has come: a node that sleeps takes a while to notice.
    #[inline]
    pub(crate) fn rouse(&mut self, node: usize, waker: Waker) {
        let process = &mut self.processes[node];
        if process.is_held() || process.is_free || process.spec.work.wake_nanos == 0 {
            return self.stir(node);
        }
        process.standing = Standing::Waking;
        let run = process.run;
        let woken = self.wake(node, Thread::Engine(node), waker);
        let process = &mut self.processes[node];
        process.woken_nanos += woken.own_nanos;
        process.usage.cold += u64::from(woken.is_cold);
        let core = woken.core;
        self.agenda.add(woken.at, Item::Awake { node, run, core });
        self.refresh_timer(node);
    }

    /// A node's timer is due: where it has threads, that wakes the engine's.
    pub(crate) fn ring(&mut self, node: usize) {
        if self.processes[node].spec.work.workers > 0 {
            self.rouse(node, Waker::Clock);
        } else {
            self.stir(node);
        }
    }

    pub(crate) fn awake(&mut self, node: usize, run: u64, core: usize) {
        self.is_up_again(node, core);
        let process = &mut self.processes[node];
        if process.run != run || process.standing != Standing::Waking {
            return;
        }
        process.standing = Standing::Off;
        process.usage.wakes += 1;
        self.stir(node);
    }

    /// What a node has used so far, in all its runs.
    pub fn usage(&self, node: NodeId) -> Usage {
        self.processes[self.index(node)].usage
    }

    /// A node's thread has a core, and does the next thing with it; whether there was any.
    pub(crate) fn begin_batch(&mut self, node: usize) -> bool {
        let host = self.processes[node].spec.host;
        self.processes[node].standing = Standing::Off;
        let mut outbox = std::mem::take(&mut self.processes[node].outbox);
        let works = self.step(node, &mut outbox);
        let process = &mut self.processes[node];
        if works {
            let count = |length: usize| u64::try_from(length).expect("batches are small");
            let work = process.spec.work;
            let woken = std::mem::take(&mut process.woken_nanos);
            let spoken = process.pays_for_words();
            let driver = process.driver.as_ref();
            let own = driver.map_or(0, |it| it.machine().work_nanos(&outbox));
            let takes = work.batch_nanos
                + count(outbox.steps) * work.input_nanos
                + count(outbox.leaving.len() + outbox.records.len()) * work.effect_nanos
                + woken
                + spoken.nanos
                + u64::from(outbox.flush.is_some() && work.workers == 0) * work.flush_nanos
                + own;
            process.standing = Standing::On;
            process.usage.busy_nanos += takes;
            process.usage.timed_nanos += woken;
            let logs = u64::from(!outbox.records.is_empty());
            process.usage.records += count(outbox.records.len());
            process.usage.logging += logs;
            if process.stand_in.is_some() {
                process.usage.turns_here += 1;
                process.usage.records_here += count(outbox.records.len());
                process.usage.logging_here += logs;
            } else {
                process.usage.engine_nanos += takes;
            }
            self.hosts[host].queueing.busy_nanos += takes;
            self.run_for(host, self.runner(node), takes);
        }
        self.processes[node].outbox = outbox;
        self.refresh_timer(node);
        works
    }

    /// A batch has used up its time: what it wanted happens, and the thread goes on while there is something for it. Or
    /// it has written the log, and waits for the disk.
    pub(crate) fn worked(&mut self, node: usize) {
        let process = &mut self.processes[node];
        let (host, run) = (process.spec.host, process.run);
        let thread = self.runner(node);
        let process = &mut self.processes[node];
        if let Standing::Writing(through) = process.standing {
            process.standing = Standing::Syncing;
            self.sync(node, through);
            return self.release(host, thread);
        }
        if process.standing == Standing::Speaking {
            process.standing = Standing::Off;
        } else {
            if process.pauses > 0 {
                process.standing = Standing::Done;
                self.retire(node);
                return self.release(host, thread);
            }
            self.finish(node, Core::Held);
            let process = &mut self.processes[node];
            if matches!(process.standing, Standing::Writing(_)) {
                return;
            }
            let spoken = process.pays_for_words().nanos;
            if process.run == run && spoken > 0 {
                process.standing = Standing::Speaking;
                process.usage.engine_nanos += u64::from(process.stand_in.is_none()) * spoken;
                let nanos = self.spend(node, spoken);
                return self.run_for(host, thread, nanos);
            }
        }
        let process = &self.processes[node];
        let local = process.clock.monotone(self.now);
        let is_ready = process.driver.as_ref().is_some_and(|it| it.is_ready(local));
        if process.run == run
            && is_ready
            && self.hosts[host].is_calm(thread)
            && self.begin_batch(node)
        {
            return;
        }
        self.stir(node);
        match self.stands_back(node) {
            Some(worker) => self.stood_in(node, worker),
            None => self.release(host, thread),
        }
        self.refresh_timer(node);
    }

    /// The thread that does the engine's work: its own, or the worker that stands in for it.
    pub(crate) fn runner(&self, node: usize) -> Thread {
        let stand_in = self.processes[node].stand_in;
        stand_in.map_or(Thread::Engine(node), |worker| Thread::Worker(node, worker))
    }

    /// Whether a worker does the engine's work.
    pub(crate) fn is_stand_in(&self, node: usize, worker: usize) -> bool {
        self.processes[node].stand_in == Some(worker)
    }

    /// Nobody stands in for the engine's thread any more, in the middle of what it does.
    fn retire(&mut self, node: usize) {
        if let Some(worker) = self.processes[node].stand_in.take() {
            self.dismiss(node, worker);
        }
    }

    /// The worker that stood in for the engine's thread, if that has nothing more to do.
    fn stands_back(&mut self, node: usize) -> Option<usize> {
        let process = &mut self.processes[node];
        if process.standing == Standing::Off {
            process.stand_in.take()
        } else {
            None
        }
    }

    /// A worker that has a core does the engine's work with it, if that sleeps and there is some;
    /// whether it does.
    pub(crate) fn stand_in(&mut self, node: usize, worker: usize) -> bool {
        let process = &mut self.processes[node];
        let local = process.clock.monotone(self.now);
        let is_ready = process.driver.as_ref().is_some_and(|it| it.is_ready(local));
        if process.is_held() || !is_ready {
            return false;
        }
        process.stand_in = Some(worker);
        let works = self.begin_batch(node);
        if !works {
            self.processes[node].stand_in = None;
        }
        works
    }

    /// What a batch wanted happens. `core` is whether its thread still has one, to write the log with.
    fn finish(&mut self, node: usize, core: Core) {
        let process = &mut self.processes[node];
        process.standing = Standing::Off;
        let work = process.spec.work;
        let mut outbox = std::mem::take(&mut process.outbox);
        let has_writer = work.workers > 0;
        let flush = if has_writer {
            outbox.flush.take()
        } else {
            None
        };
        let machine = process.driver.as_ref().map(Driver::machine);
        let machine = machine.filter(|_| flush.is_some());
        let (is_own, more, bytes) = machine.map_or((false, 0, 0), |it| {
            (
                it.flushes_itself(&outbox),
                it.log_nanos(&outbox),
                it.log_bytes(&outbox),
            )
        });
        self.carry(node, &mut outbox);
        if let Some(through) = flush
            && self.store(node, &mut outbox)
        {
            self.processes[node].flush_bytes = bytes;
            self.write(node, (through, more), is_own && core == Core::Held);
        }
        self.processes[node].outbox = outbox;
    }

    /// The log is to be written: by the engine's thread, which has a core, or by its own.
    fn write(&mut self, node: usize, (through, more): (WriteId, u64), is_own: bool) {
        let process = &mut self.processes[node];
        process.usage.flushes += 1;
        process.has_written = true;
        let (run, host) = (process.run, process.spec.host);
        if is_own {
            process.standing = Standing::Writing(through);
            process.usage.own_flushes += 1;
            process.usage.flushes_here += u64::from(process.stand_in.is_some());
            let flush = self.flush_nanos(node, self.runner(node));
            let process = &mut self.processes[node];
            let more = more + process.pays_for_words().nanos;
            if process.stand_in.is_some() {
                process.usage.worker_timed_nanos += flush;
            } else {
                process.usage.timed_nanos += flush;
                process.usage.engine_nanos += flush + more;
            }
            let nanos = self.spend(node, flush + more);
            return self.run_for(host, self.runner(node), nanos);
        }
        assert_eq!(process.writer, Writer::Idle, "one flush is under way");
        let woken = self.wake(node, Thread::Log(node), Waker::Engine(node));
        let process = &mut self.processes[node];
        process.writer = Writer::Called(through, more + woken.own_nanos);
        process.usage.log_timed_nanos += woken.own_nanos;
        process.usage.cold += u64::from(woken.is_cold);
        let core = woken.core;
        self.agenda
            .add(woken.at, Item::WriterAwake { node, run, core });
    }

    pub(crate) fn writer_awake(&mut self, node: usize, run: u64, core: usize) {
        self.is_up_again(node, core);
        let process = &self.processes[node];
        if process.run == run && matches!(process.writer, Writer::Called(..)) {
            let host = process.spec.host;
            self.queue(host, Thread::Log(node));
        }
    }

    /// What a flush costs that begins now: more where its core will sleep meanwhile, and has to be woken.
    fn flush_nanos(&self, node: usize, thread: Thread) -> u64 {
        let spec = &self.processes[node].spec;
        if self.hosts[spec.host].is_calm(thread) {
            spec.work.flush_idle_nanos
        } else {
            spec.work.flush_nanos
        }
    }

    /// The log's thread has a core; whether it has something to write. What the disk has answered it tells at once.
    pub(crate) fn begin_write(&mut self, node: usize) -> bool {
        let flush = self.flush_nanos(node, Thread::Log(node));
        let process = &mut self.processes[node];
        let (run, host) = (process.run, process.spec.host);
        match process.writer {
            Writer::Called(through, more) => {
                process.writer = Writer::On(through);
                process.usage.log_timed_nanos += flush;
                process.usage.log_nanos += flush + more;
                let nanos = self.spend(node, flush + more);
                self.run_for(host, Thread::Log(node), nanos);
                true
            }
            Writer::Telling(through) => {
                process.writer = Writer::Idle;
                self.agenda
                    .add(self.now, Item::Synced { node, run, through });
                false
            }
            Writer::Idle | Writer::On(_) | Writer::Syncing => false,
        }
    }

    /// The log's thread has written, and waits for the disk.
    pub(crate) fn written(&mut self, node: usize) {
        let process = &mut self.processes[node];
        let host = process.spec.host;
        if let Writer::On(through) = process.writer {
            process.writer = Writer::Syncing;
            self.sync(node, through);
        }
        self.release(host, Thread::Log(node));
    }

    fn sync(&mut self, node: usize, through: WriteId) {
        let at = self.sync_ends(node);
        let run = self.processes[node].run;
        self.agenda.add(at, Item::Synced { node, run, through });
    }

    /// When a flush of this node that begins now is on disk.
    pub(crate) fn sync_ends(&mut self, node: usize) -> Time {
        let host = self.processes[node].spec.host;
        let mut all = self.processes.iter().enumerate();
        let is_beside = !self.processes[node].spec.sync_timed.is_empty()
            && all.any(|(at, one)| at != node && one.spec.host == host && one.is_syncing());
        self.processes[node].sync_ends(self.now, &mut self.tape, is_beside)
    }

    /// The disk has answered the thread that waits for it.
    pub(crate) fn disk_answered(&mut self, node: usize, through: WriteId) -> Answered {
        let process = &mut self.processes[node];
        if process.spec.work.workers == 0 {
            return Answered::Engine;
        }
        if process.standing == Standing::Syncing {
            process.standing = Standing::Off;
            return Answered::Engine;
        }
        if process.writer == Writer::Syncing {
            process.writer = Writer::Telling(through);
            let host = process.spec.host;
            self.queue(host, Thread::Log(node));
            return Answered::Log;
        }
        Answered::Told
    }

    /// Charges what a thread of the node is about to use of its core, and gives it back.
    pub(crate) fn spend(&mut self, node: usize, nanos: u64) -> u64 {
        let process = &mut self.processes[node];
        process.usage.busy_nanos += nanos;
        self.hosts[process.spec.host].queueing.busy_nanos += nanos;
        nanos
    }

    pub(crate) fn resumed(&mut self, node: usize) {
        let process = &mut self.processes[node];
        process.pauses = process.pauses.saturating_sub(1);
        if process.pauses > 0 {
            return;
        }
        if process.standing == Standing::Done {
            self.finish(node, Core::Gone);
        }
        self.stir(node);
        self.refresh_timer(node);
    }
}
