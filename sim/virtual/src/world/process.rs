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
    /// When its next timer is due, in true time.
    pub(crate) wake: Option<Time>,
}

/// Where a node stands with its host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// It needs no core.
    Off,
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

/// Cores, first come first served.
#[derive(Clone, Debug)]
pub(crate) struct Host {
    cores: usize,
    busy: usize,
    ready: VecDeque<usize>,
}

impl Host {
    pub(crate) const fn new(cores: usize) -> Self {
        Self {
            cores,
            busy: 0,
            ready: VecDeque::new(),
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
            Standing::Queued => self.hosts[host].ready.retain(|&other| other != node),
            Standing::Off | Standing::Done => {}
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
        self.hosts[host].ready.push_back(node);
        self.dispatch(host);
    }

    fn dispatch(&mut self, host: usize) {
        while self.hosts[host].busy < self.hosts[host].cores {
            let Some(node) = self.hosts[host].ready.pop_front() else {
                return;
            };
            self.processes[node].standing = Standing::Off;
            self.begin(host, node);
            self.refresh_timer(node);
        }
    }

    fn begin(&mut self, host: usize, node: usize) {
        let mut outbox = std::mem::take(&mut self.processes[node].outbox);
        let works = self.step(node, &mut outbox);
        let process = &mut self.processes[node];
        if works {
            let count = |length: usize| u64::try_from(length).expect("batches are small");
            let work = process.spec.work;
            let takes = work.batch_nanos
                + count(outbox.steps) * work.input_nanos
                + count(outbox.leaving.len() + outbox.records.len()) * work.effect_nanos;
            process.standing = Standing::On;
            self.hosts[host].busy += 1;
            let at = Time::from_nanos(self.now.nanos().saturating_add(takes));
            let run = process.run;
            self.agenda.add(at, Item::Worked { node, run });
        }
        self.processes[node].outbox = outbox;
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
