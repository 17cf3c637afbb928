//! Nodes as processes, and the cores they share.

use std::collections::VecDeque;

use holm_base::{NodeId, Prng, Time, WriteId};
use holm_machine::{Driver, Label, Turn};

use crate::clock::Clock;
use crate::node::Node;
use crate::shelf::Shelf;
use crate::spec::NodeSpec;
use crate::tape::{Place, Tape};
use crate::world::{Item, World};

const SYNC: Place = Place::new("disk.sync");
const WAKE: Place = Place::new("host.wake");

/// A node and its surroundings.
#[derive(Clone, Debug)]
pub(crate) struct Process<N: Node> {
    pub(crate) spec: NodeSpec<N>,
    pub(crate) id: NodeId,
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
    standing: Standing,
    /// What its work wants, once it is done.
    outbox: Turn<N::Effect>,
    last_sync: Time,
    /// The flush that found no room, if any, and those behind it.
    pub(crate) waiting: VecDeque<WriteId>,
    /// A message has woken it, and that is not paid for yet.
    was_woken: bool,
    pub(crate) usage: Usage,
    /// When its next timer is due, in true time.
    pub(crate) wake: Option<Time>,
}

/// Where a node stands with its host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// It needs no core.
    Off,
    /// It sleeps, and a message has rung.
    Waking,
    /// It waits for one.
    Queued,
    /// It has one.
    On,
    /// Its work is done, but it was paused before it could do what it wanted.
    Done,
}

impl<N: Node> Process<N> {
    pub(crate) fn new(spec: NodeSpec<N>, id: NodeId) -> Self {
        let clock = Clock::new(spec.clock);
        let shelf = N::shelf(&spec.setup);
        Self {
            spec,
            id,
            driver: None,
            shelf,
            clock,
            run: 0,
            pauses: 0,
            restarts: 0,
            standing: Standing::Off,
            outbox: Turn::new(),
            last_sync: Time::ZERO,
            waiting: VecDeque::new(),
            was_woken: false,
            usage: Usage::default(),
            wake: None,
        }
    }

    /// Whether it cannot begin a batch now.
    pub(crate) fn is_held(&self) -> bool {
        self.pauses > 0 || self.standing != Standing::Off
    }

    /// Whether it does its part: up, and not paused.
    pub(crate) const fn is_well(&self) -> bool {
        self.driver.is_some() && self.pauses == 0
    }

    /// When a flush that begins now is on disk; flushes end in the order of their beginning.
    pub(crate) fn sync_ends(&mut self, now: Time, tape: &mut Tape) -> Time {
        let takes = self.spec.sync.delay(SYNC, tape);
        let at = Time::from_nanos(now.nanos().saturating_add(takes));
        self.last_sync = self.last_sync.max(at);
        self.last_sync
    }
}

/// What a node has used so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Time on a core, in nanoseconds; nothing where work is free.
    pub busy_nanos: u64,
    /// Batches.
    pub turns: u64,
    /// Messages that woke it.
    pub wakes: u64,
    /// Messages sent.
    pub sent: u64,
    /// Flushes begun.
    pub flushes: u64,
}

impl Usage {
    /// Both together.
    #[must_use]
    pub const fn plus(self, more: Self) -> Self {
        Self {
            busy_nanos: self.busy_nanos + more.busy_nanos,
            turns: self.turns + more.turns,
            wakes: self.wakes + more.wakes,
            sent: self.sent + more.sent,
            flushes: self.flushes + more.flushes,
        }
    }

    /// What was used since an earlier look.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Self {
        Self {
            busy_nanos: self.busy_nanos - earlier.busy_nanos,
            turns: self.turns - earlier.turns,
            wakes: self.wakes - earlier.wakes,
            sent: self.sent - earlier.sent,
            flushes: self.flushes - earlier.flushes,
        }
    }
}

/// How much a host was asked for so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Queueing {
    /// Pieces of work that began.
    pub pieces: u64,
    /// How long all of them waited for a core, in nanoseconds.
    pub waited_nanos: u64,
    /// How long cores were in use, all together, in nanoseconds.
    pub busy_nanos: u64,
}

impl Queueing {
    /// What was asked for since an earlier look.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Self {
        Self {
            pieces: self.pieces - earlier.pieces,
            waited_nanos: self.waited_nanos - earlier.waited_nanos,
            busy_nanos: self.busy_nanos - earlier.busy_nanos,
        }
    }
}

/// What wants a core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Piece {
    Batch(usize),
    /// Of the world's caller, who hears this alarm.
    Errand(u64),
}

/// Cores, first come first served.
#[derive(Clone, Debug)]
pub(crate) struct Host {
    cores: usize,
    busy: usize,
    ready: VecDeque<(Time, Piece)>,
    pub(crate) queueing: Queueing,
}

impl Host {
    pub(crate) const fn new(cores: usize) -> Self {
        Self {
            cores,
            busy: 0,
            ready: VecDeque::new(),
            queueing: Queueing {
                pieces: 0,
                waited_nanos: 0,
                busy_nanos: 0,
            },
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
        process.shelf.crash(&mut self.tape);
        let standing = std::mem::replace(&mut process.standing, Standing::Off);
        let host = process.spec.host;
        self.refresh_timer(node);
        match standing {
            Standing::On => {
                self.hosts[host].busy -= 1;
                self.dispatch(host);
            }
            Standing::Queued => {
                let gone = Piece::Batch(node);
                self.hosts[host].ready.retain(|(_, piece)| *piece != gone);
            }
            Standing::Off | Standing::Waking | Standing::Done => {}
        }
    }

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
        if !process
            .driver
            .as_ref()
            .is_some_and(|driver| driver.is_ready(local))
        {
            return;
        }
        process.standing = Standing::Queued;
        let host = process.spec.host;
        let piece = (self.now, Piece::Batch(node));
        self.hosts[host].ready.push_back(piece);
        self.dispatch(host);
    }

    /// A message has come: a node that sleeps takes a while to notice.
    pub(crate) fn rouse(&mut self, node: usize) {
        let process = &mut self.processes[node];
        if process.is_held() || process.spec.work.is_free() || process.spec.work.wake_nanos == 0 {
            return self.stir(node);
        }
        process.standing = Standing::Waking;
        let takes = process.spec.wake.delay(WAKE, &mut self.tape);
        let run = process.run;
        let at = Time::from_nanos(self.now.nanos().saturating_add(takes));
        self.agenda.add(at, Item::Awake { node, run });
        self.refresh_timer(node);
    }

    pub(crate) fn awake(&mut self, node: usize, run: u64) {
        let process = &mut self.processes[node];
        if process.run != run || process.standing != Standing::Waking {
            return;
        }
        process.standing = Standing::Off;
        process.was_woken = true;
        process.usage.wakes += 1;
        self.stir(node);
    }

    /// Asks for a core of a host on the caller's behalf: [`World::advance`] answers
    /// [`Moment::Alarm`](crate::Moment::Alarm) with `token` once there is one. It is the
    /// caller's until it has used it.
    ///
    /// # Panics
    ///
    /// If there is no such host.
    pub fn ask_core(&mut self, host: usize, token: u64) {
        let piece = (self.now, Piece::Errand(token));
        self.hosts[host].ready.push_back(piece);
        self.dispatch(host);
    }

    /// Uses the core that was asked for so long; then it is free, and the alarm is `token`.
    ///
    /// # Panics
    ///
    /// If there is no such host, or none of its cores is in use.
    pub fn use_core(&mut self, host: usize, nanos: u64, token: u64) {
        assert!(self.hosts[host].busy > 0, "the core was given before");
        self.hosts[host].queueing.busy_nanos += nanos;
        let at = Time::from_nanos(self.now.nanos().saturating_add(nanos));
        self.agenda.add(at, Item::Errand { host, token });
    }

    /// What a node has used so far, in all its runs.
    pub fn usage(&self, node: NodeId) -> Usage {
        self.processes[self.index(node)].usage
    }

    /// How much a host was asked for so far.
    ///
    /// # Panics
    ///
    /// If there is no such host.
    pub fn queueing(&self, host: usize) -> Queueing {
        self.hosts[host].queueing
    }

    fn dispatch(&mut self, host: usize) {
        while self.hosts[host].busy < self.hosts[host].cores {
            let Some((since, piece)) = self.hosts[host].ready.pop_front() else {
                return;
            };
            let queueing = &mut self.hosts[host].queueing;
            queueing.pieces += 1;
            queueing.waited_nanos += self.now.nanos() - since.nanos();
            match piece {
                Piece::Batch(node) => {
                    self.processes[node].standing = Standing::Off;
                    self.begin(host, node);
                    self.refresh_timer(node);
                }
                Piece::Errand(token) => {
                    self.hosts[host].busy += 1;
                    self.agenda.add(self.now, Item::Alarm(token));
                }
            }
        }
    }

    /// An errand is done: its core is free.
    pub(crate) fn ran_errand(&mut self, host: usize) {
        self.hosts[host].busy -= 1;
        self.dispatch(host);
    }

    fn begin(&mut self, host: usize, node: usize) {
        let mut outbox = std::mem::take(&mut self.processes[node].outbox);
        let works = self.step(node, &mut outbox);
        let process = &mut self.processes[node];
        if works {
            let count = |length: usize| u64::try_from(length).expect("batches are small");
            let work = process.spec.work;
            let woken = u64::from(std::mem::take(&mut process.was_woken));
            let driver = process.driver.as_ref();
            let own = driver.map_or(0, |it| it.machine().work_nanos(&outbox));
            let takes = work.batch_nanos
                + count(outbox.steps) * work.input_nanos
                + count(outbox.leaving.len() + outbox.records.len()) * work.effect_nanos
                + woken * work.wake_nanos
                + u64::from(outbox.flush.is_some()) * work.flush_nanos
                + own;
            process.standing = Standing::On;
            process.usage.busy_nanos += takes;
            let run = process.run;
            self.hosts[host].busy += 1;
            self.hosts[host].queueing.busy_nanos += takes;
            let at = Time::from_nanos(self.now.nanos().saturating_add(takes));
            self.agenda.add(at, Item::Worked { node, run });
        }
        let process = &mut self.processes[node];
        process.outbox = outbox;
    }

    /// A batch has used up its time: its core is free, and what it wanted happens.
    pub(crate) fn worked(&mut self, node: usize, run: u64) {
        let process = &mut self.processes[node];
        if process.run != run || process.standing != Standing::On {
            return;
        }
        let host = process.spec.host;
        self.hosts[host].busy -= 1;
        if process.pauses > 0 {
            process.standing = Standing::Done;
        } else {
            self.finish(node);
        }
        self.dispatch(host);
    }

    fn finish(&mut self, node: usize) {
        self.processes[node].standing = Standing::Off;
        let mut outbox = std::mem::take(&mut self.processes[node].outbox);
        self.carry(node, &mut outbox);
        self.processes[node].outbox = outbox;
        self.stir(node);
        self.refresh_timer(node);
    }

    pub(crate) fn resumed(&mut self, node: usize) {
        let process = &mut self.processes[node];
        process.pauses = process.pauses.saturating_sub(1);
        if process.pauses > 0 {
            return;
        }
        if process.standing == Standing::Done {
            self.finish(node);
        } else {
            self.stir(node);
            self.refresh_timer(node);
        }
    }
}
