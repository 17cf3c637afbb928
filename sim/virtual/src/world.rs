//! The virtual world: nodes that think they run, and everything around them.
//!
//! One thread, one run. Whatever is not determined by what went before is asked of the tape, so
//! a world is a function of its spec, its tape and what its caller asks of it.
//!
//! What would surprise: the way of a message through here is compiled into one piece, from the agenda to a node and
//! back (`inline(always)`). Handed from function to function it is copied in parts that a processor cannot read back
//! at once, which cost a third of a delivery.

mod cores;
mod host;
mod hunt;
mod item;
mod process;
mod requests;
mod upkeep;
mod wakes;
mod workers;

use std::time::Duration;

use holm_base::{NodeId, RequestId, Time, WriteId};
use holm_machine::{DiskError, Offer, Turn};

use crate::agenda::{Agenda, Entry};
use crate::clock::WallTime;
use crate::link::{Link, Passage};
use crate::node::{Node, Want};
use crate::order::{Choosing, Clocks, Order, Races};
use crate::shelf::Shelf;
use crate::spec::WorldSpec;
use crate::tape::{Place, Tape, TapeFault};
use crate::timeline::Timeline;
use crate::trace::Trace;
use host::Host;
pub use host::Queueing;
use hunt::Due;
pub(crate) use item::Item;
pub use process::Usage;
use process::{Answered, Process};
use wakes::Waker;
pub use workers::Caller;

pub(crate) const SCHEDULE: Place = Place::new("schedule");

/// How many things may be about to happen.
const AGENDA_MAX: usize = 1 << 20;

/// How long a flush that found no room waits before it is tried again.
const ROOM_RETRY: Duration = Duration::from_millis(50);

/// How many answers and events may wait for the caller to take them.
const UNTAKEN_MAX: usize = 1 << 16;

/// Why a run cannot go on. None of these is a fault of the nodes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Halted {
    /// The tape does not fit the run.
    #[error(transparent)]
    Tape(#[from] TapeFault),
    /// More is about to happen than a world holds.
    #[error("world is crowded: {AGENDA_MAX} things are about to happen")]
    Crowded,
    /// The caller takes neither answers nor events.
    #[error("world is full: {UNTAKEN_MAX} answers or events were not taken")]
    Untaken,
}

/// What a step of the world was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// Something happened among the nodes.
    Happened,
    /// An alarm that the caller had set.
    Alarm(u64),
    /// A node's disk failed, or what it said of itself, and the node ended. Somebody has to
    /// start it again.
    Ended(NodeId),
    /// Nothing is left to happen.
    Idle,
}

/// What a client hears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply<A> {
    /// When, in true time.
    pub at: Time,
    /// From whom.
    pub node: NodeId,
    /// Its request.
    pub request: RequestId,
    /// What it hears.
    pub answer: A,
}

/// What a node told its observers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Noted<E> {
    /// When, in true time.
    pub at: Time,
    /// Who.
    pub node: NodeId,
    /// What.
    pub event: E,
}

/// What happened so far, in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Messages that reached a node.
    pub delivered: u64,
    /// Messages that no link carried: cut, lost, damaged, or no room in its queue.
    pub lost: u64,
    /// Messages whose receiver was down or had no room.
    pub dropped: u64,
    /// Flushes that completed.
    pub synced: u64,
    /// Nodes that ended, for whatever reason.
    pub crashed: u64,
}

/// The next thing to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    Slot(usize),
    Timer(usize),
}

/// A world. Its clones go on from where it stands, each on its own; there are such only where
/// nodes and disks can be copied.
#[derive(Debug)]
pub struct World<N: Node> {
    now: Time,
    tape: Tape,
    agenda: Agenda<Item<N>>,
    processes: Vec<Process<N>>,
    hosts: Vec<Host>,
    /// By source, then target.
    links: Vec<Link>,
    order: Order,
    choosing: Option<Choosing>,
    clocks: Option<Clocks>,
    /// What an onlooker notes, if there is one.
    timeline: Option<Timeline>,
    due: Vec<Due>,
    limits: holm_machine::Limits,
    trace: Trace,
    next_request: RequestId,
    /// The earliest timer of all nodes.
    timer: Option<(Time, usize)>,
    replies: Vec<Reply<N::Answer>>,
    notes: Vec<Noted<N::Event>>,
    turn: Turn<N::Effect>,
    counts: Counts,
    /// A node that says that it has failed, and has not been ended yet.
    failed: Option<usize>,
}

impl<N: Node + Clone> Clone for World<N>
where
    N::Shelf: Clone,
{
    fn clone(&self) -> Self {
        Self {
            now: self.now,
            tape: self.tape.clone(),
            agenda: self.agenda.clone(),
            processes: self.processes.clone(),
            hosts: self.hosts.clone(),
            links: self.links.clone(),
            order: self.order.clone(),
            choosing: self.choosing.clone(),
            clocks: self.clocks.clone(),
            timeline: self.timeline.clone(),
            due: self.due.clone(),
            limits: self.limits,
            trace: self.trace.clone(),
            next_request: self.next_request,
            timer: self.timer,
            replies: self.replies.clone(),
            notes: self.notes.clone(),
            turn: self.turn.clone(),
            counts: self.counts,
            failed: self.failed,
        }
    }
}

impl<N: Node> World<N> {
    /// A world at its beginning: all nodes start.
    ///
    /// # Panics
    ///
    /// If a node names a host, or a link a node, that the spec does not have; or a host has no
    /// core.
    #[must_use]
    pub fn new(spec: WorldSpec<N>, tape: Tape) -> Self {
        let count = spec.nodes.len();
        let mut links = vec![Link::new(spec.link); count * count];
        for (source, target, link) in spec.links {
            assert!(source < count, "a link begins at a node");
            assert!(target < count, "a link ends at a node");
            links[source * count + target] = Link::new(link);
        }
        assert!(
            spec.hosts.iter().all(|host| host.cores > 0),
            "a host has a core"
        );
        let hosts: Vec<Host> = spec.hosts.into_iter().map(Host::new).collect();
        let (choosing, clocks) = match &spec.order {
            Order::Timed => (None, None),
            Order::Hunt { scheduler, .. } => {
                let choosing = Choosing::new(scheduler, count, tape.luck() ^ SCHEDULE.id());
                let clocks = choosing.races().map(|_| Clocks::new(count));
                (Some(choosing), clocks)
            }
        };
        let ids = (1..).map(NodeId::new);
        let processes: Vec<Process<N>> = spec
            .nodes
            .into_iter()
            .zip(ids)
            .map(|(node, id)| Process::new(node, id, count))
            .collect();
        for process in &processes {
            assert!(process.spec.host < hosts.len(), "a node runs on a host");
            let is_whole = process.spec.work.workers == 0 || spec.limits.writes_in_flight_max == 1;
            assert!(is_whole, "a log's thread flushes one batch at a time");
        }
        let mut world = Self {
            now: Time::ZERO,
            tape,
            agenda: Agenda::new(),
            processes,
            hosts,
            links,
            order: spec.order,
            choosing,
            clocks,
            timeline: None,
            due: Vec::new(),
            limits: spec.limits,
            trace: Trace::new(spec.report),
            next_request: RequestId::ZERO,
            timer: None,
            replies: Vec::new(),
            notes: Vec::new(),
            turn: Turn::new(),
            counts: Counts::default(),
            failed: None,
        };
        for node in 0..count {
            world.start(node);
        }
        world
    }

    /// Lets the next thing happen.
    ///
    /// # Errors
    ///
    /// As [`Halted`] says; the world is then of no further use.
    pub fn advance(&mut self) -> Result<Moment, Halted> {
        if let Some(node) = self.failed.take() {
            let id = self.processes[node].id;
            self.end(node);
            return Ok(Moment::Ended(id));
        }
        let next = match self.order {
            Order::Timed => self.next_in_time(),
            Order::Hunt { reach_nanos, .. } => self.next_in_hunt(reach_nanos),
        };
        let moment = match next {
            None => Moment::Idle,
            Some(next) => self.execute(next),
        };
        self.is_within()?;
        Ok(moment)
    }

    /// Whether it can go on.
    #[inline]
    fn is_within(&self) -> Result<(), Halted> {
        if let Some(fault) = self.tape.fault() {
            return Err(Halted::Tape(fault.clone()));
        }
        if self.agenda.len() > AGENDA_MAX {
            return Err(Halted::Crowded);
        }
        if self.replies.len().max(self.notes.len()) > UNTAKEN_MAX {
            return Err(Halted::Untaken);
        }
        Ok(())
    }

    #[inline]
    fn next_in_time(&mut self) -> Option<Next> {
        match (self.agenda.earliest(), self.timer) {
            (None, None) => None,
            (Some((slot, _)), None) => Some(Next::Slot(slot)),
            (None, Some((_, node))) => Some(Next::Timer(node)),
            (Some((slot, due)), Some((at, node))) => Some(if due <= at {
                Next::Slot(slot)
            } else {
                Next::Timer(node)
            }),
        }
    }

    /// Lets this happen now, or when it is due if that lies ahead.
    #[inline]
    pub(crate) fn execute(&mut self, next: Next) -> Moment {
        match next {
            Next::Timer(node) => {
                let due = self.processes[node].wake.unwrap_or(self.now);
                self.now = self.now.max(due);
                self.ring(node);
                Moment::Happened
            }
            Next::Slot(slot) => match self.agenda.take(slot) {
                None => Moment::Happened,
                Some(entry) => {
                    self.now = self.now.max(entry.at);
                    self.happen(entry)
                }
            },
        }
    }

    #[inline]
    fn happen(&mut self, entry: Entry<Item<N>>) -> Moment {
        match entry.item {
            Item::Deliver {
                source,
                target,
                input,
                sent,
            } => {
                let numbers = (entry.at, entry.seq);
                if let Some(delivery) = self.delivery(numbers, source, target, &input) {
                    self.witness(delivery, &sent);
                }
                self.deliver((source, target), input);
            }
            Item::Synced { node, run, through } => return self.synced(node, run, through),
            Item::Ran { host, serial } => return self.ran(host, serial),
            Item::Awake { node, run, core } => self.awake(node, run, core),
            Item::WriterAwake { node, run, core } => self.writer_awake(node, run, core),
            Item::WorkerAwake { node, worker, core } => self.worker_awake(node, worker, core),
            Item::GoesOn { node, worker } => self.came_back(node, worker),
            Item::OwnAwake { node, core, token } => {
                self.is_up_again(node, core);
                return Moment::Alarm(token);
            }
            Item::Alarm(token) => return Moment::Alarm(token),
            Item::Restart(node) => self.start(node),
            Item::Resume(node) => self.resumed(node),
            Item::Thaw(node) => self.thawed(node),
            Item::Empty(node) => self.processes[node].shelf.set_full(false),
            Item::Mend { source, target } => self.link(source, target).mend(),
            Item::Hasten { source, target } => self.link(source, target).slow(0),
        }
        Moment::Happened
    }

    #[inline(always)]
    fn deliver(&mut self, (source, target): (usize, usize), input: N::Input) {
        let process = &self.processes[target];
        if process.pool.is_used() && process.driver.is_some() {
            let size = N::input_size(&input);
            self.take_in(source, target, (input, size));
        } else {
            self.offer(target, input);
        }
    }

    #[inline(always)]
    fn offer(&mut self, target: usize, input: N::Input) {
        if !self.take_or_drop(target, input) {
            return;
        }
        if self.processes[target].is_free {
            self.stir(target);
        } else {
            self.rouse(target, Waker::Worker(target));
        }
    }

    /// Whether a node that is up had room for an input.
    #[inline(always)]
    fn take_or_drop(&mut self, target: usize, input: N::Input) -> bool {
        let driver = self.processes[target].driver.as_mut();
        let is_taken = driver.is_some_and(|it| matches!(it.offer(input), Offer::Taken));
        if is_taken {
            self.counts.delivered += 1;
        } else {
            self.counts.dropped += 1;
        }
        is_taken
    }

    /// Has [`World::advance`] answer [`Moment::Alarm`] at that time.
    pub fn alarm(&mut self, at: Time, token: u64) {
        self.agenda.add(at.max(self.now), Item::Alarm(token));
    }

    fn synced(&mut self, node: usize, run: u64, through: WriteId) -> Moment {
        let process = &mut self.processes[node];
        if process.run != run || process.driver.is_none() {
            return Moment::Happened;
        }
        // Behind a flush that waits for room, the others wait too.
        let answered = self.disk_answered(node, through);
        if answered == Answered::Log {
            return Moment::Happened;
        }
        let process = &mut self.processes[node];
        let waiting = &mut process.waiting;
        let is_behind = waiting.front().is_some_and(|&oldest| oldest != through);
        if waiting.front() != Some(&through) {
            waiting.push_back(through);
        }
        if is_behind {
            return Moment::Happened;
        }
        while let Some(&through) = self.processes[node].waiting.front() {
            let process = &mut self.processes[node];
            match (process.shelf.sync(through), &mut process.driver) {
                (Ok(()), Some(driver)) => driver.completed(through),
                (Err(DiskError::Full { .. }), _) => {
                    let again = self.now + ROOM_RETRY;
                    self.agenda.add(again, Item::Synced { node, run, through });
                    break;
                }
                (Ok(()) | Err(_), _) => {
                    // A sync is never tried again: the process ends, and the log is the truth.
                    let id = process.id;
                    self.end(node);
                    return Moment::Ended(id);
                }
            }
            process.waiting.pop_front();
            self.counts.synced += 1;
            self.observe_own(node, &N::durable(through));
        }
        if answered == Answered::Told {
            self.rouse(node, Waker::Log(node));
        } else {
            self.stir(node);
        }
        Moment::Happened
    }

    /// Gives a node the time to do what it has to, at once or on a core.
    #[inline]
    pub(crate) fn stir(&mut self, node: usize) {
        let process = &self.processes[node];
        if process.is_held() {
            return;
        }
        if process.is_free {
            self.run_free(node);
        } else {
            self.enqueue(node);
        }
        self.refresh_timer(node);
    }

    #[inline]
    fn run_free(&mut self, node: usize) {
        // A batch leaves nothing to do at this moment but what came beyond its limit: what else makes a driver ready is
        // a timer, which has fired, or a flush, which the agenda has to end first.
        let mut is_over = false;
        while !is_over && self.processes[node].step(self.now, &mut self.trace, &mut self.turn) {
            self.note_failure(node);
            // One memory for all batches; the rest of a turn stays where it is unless it is flushed.
            let mut leaving = std::mem::take(&mut self.turn.leaving);
            for effect in leaving.drain(..) {
                self.fulfil(node, effect);
            }
            self.turn.leaving = leaving;
            if let Some(through) = self.turn.flush.take() {
                let mut turn = std::mem::take(&mut self.turn);
                self.flush(node, through, &mut turn);
                self.turn = turn;
            }
            let driver = self.processes[node].driver.as_ref();
            is_over = driver.is_none_or(|driver| driver.waiting() == 0);
        }
    }

    /// Runs one batch, if there is anything to do; what it wants is in `turn`.
    pub(crate) fn step(&mut self, node: usize, turn: &mut Turn<N::Effect>) -> bool {
        let works = self.processes[node].step(self.now, &mut self.trace, turn);
        if works {
            self.note_failure(node);
        }
        works
    }

    #[inline]
    fn note_failure(&mut self, node: usize) {
        let driver = self.processes[node].driver.as_ref();
        if driver.is_some_and(|driver| driver.machine().has_failed()) {
            self.failed = Some(node);
        }
    }

    /// Does what a batch asked for.
    pub(crate) fn carry(&mut self, node: usize, turn: &mut Turn<N::Effect>) {
        for effect in turn.leaving.drain(..) {
            self.fulfil(node, effect);
        }
        if let Some(through) = turn.flush.take() {
            self.flush(node, through, turn);
        }
    }

    #[inline(always)]
    fn fulfil(&mut self, node: usize, effect: N::Effect) {
        match N::want(effect) {
            Want::Send { to, message } => self.send(node, to, message),
            Want::Answer { request, answer } => self.replies.push(Reply {
                at: self.now,
                node: self.processes[node].id,
                request,
                answer,
            }),
            Want::Note(event) => self.notes.push(Noted {
                at: self.now,
                node: self.processes[node].id,
                event,
            }),
            Want::Persist { .. } => panic!("machine I2: a record does not leave"),
        }
    }

    fn flush(&mut self, node: usize, through: WriteId, turn: &mut Turn<N::Effect>) {
        if !self.store(node, turn) {
            return;
        }
        self.processes[node].usage.flushes += 1;
        let at = self.sync_ends(node);
        let run = self.processes[node].run;
        self.agenda.add(at, Item::Synced { node, run, through });
    }

    /// Puts records where a sync will find them; false if that ended the node.
    pub(crate) fn store(&mut self, node: usize, turn: &mut Turn<N::Effect>) -> bool {
        let mut records = Vec::with_capacity(turn.records.len());
        for effect in turn.records.drain(..) {
            match N::want(effect) {
                Want::Persist { write, record } => records.push((write, record)),
                Want::Send { .. } | Want::Answer { .. } | Want::Note(_) => {
                    panic!("machine I3: only records are flushed")
                }
            }
        }
        let is_stored = self.processes[node].shelf.append(records).is_ok();
        if !is_stored {
            self.end(node);
        }
        is_stored
    }

    #[inline(always)]
    fn send(&mut self, source: usize, to: NodeId, message: N::Message) {
        let target = self.index(to);
        assert_ne!(source, target, "a node does not send to itself");
        let size = N::size(&message);
        self.processes[source].usage.sent += 1;
        if self.processes[source].pool.is_used() {
            return if self.speaks(source, size) {
                self.speak(source, target, (message, size));
            } else {
                self.hand_out(source, target, (message, size));
            };
        }
        let link = &mut self.links[source * self.processes.len() + target];
        let passage = link.send(self.now, size, &mut self.tape);
        self.pass(source, target, (passage, message));
    }

    /// What a link has made of a message.
    #[inline(always)]
    fn pass(&mut self, source: usize, target: usize, (passage, message): (Passage, N::Message)) {
        let from = self.processes[source].id;
        let Passage::Arrives { at, again, flipped } = passage else {
            self.counts.lost += 1;
            return;
        };
        let message = match flipped {
            None => Some(message),
            Some(bit) => N::flipped(&message, bit),
        };
        let Some(message) = message else {
            self.counts.lost += 1;
            return;
        };
        if let Some(again) = again {
            self.post(source, target, again, N::message(from, message.clone()));
        }
        self.post(source, target, at, N::message(from, message));
    }

    #[inline(always)]
    fn post(&mut self, source: usize, target: usize, at: Time, input: N::Input) {
        let clocks = self.clocks.as_ref();
        let sent = clocks.map_or_else(Box::default, |clocks| clocks.snapshot(source));
        let item = Item::Deliver {
            source,
            target,
            input,
            sent,
        };
        self.agenda.add(at, item);
    }

    #[inline]
    pub(crate) fn index(&self, node: NodeId) -> usize {
        let index = usize::try_from(node.value()).ok();
        let index = index.and_then(|number| number.checked_sub(1));
        let index = index.filter(|&index| index < self.processes.len());
        index.expect("ids count from 1 to the number of nodes")
    }

    pub(crate) fn link(&mut self, source: usize, target: usize) -> &mut Link {
        let count = self.processes.len();
        &mut self.links[source * count + target]
    }

    /// True virtual time. No node knows it.
    pub const fn now(&self) -> Time {
        self.now
    }

    /// All nodes' ids.
    pub fn nodes(&self) -> impl Iterator<Item = NodeId> + use<N> {
        (1..).take(self.processes.len()).map(NodeId::new)
    }

    /// A node, if it runs.
    pub fn node(&self, node: NodeId) -> Option<&N> {
        let driver = self.processes[self.index(node)].driver.as_ref();
        driver.map(holm_machine::Driver::machine)
    }

    /// What a node's wall clock says now.
    pub fn wall(&self, node: NodeId) -> WallTime {
        self.processes[self.index(node)].clock.wall(self.now)
    }

    /// A node's disk, to look at or to damage.
    pub fn shelf(&mut self, node: NodeId) -> &mut N::Shelf {
        let index = self.index(node);
        &mut self.processes[index].shelf
    }

    /// Takes the answers since the last call.
    pub fn take_replies(&mut self) -> Vec<Reply<N::Answer>> {
        std::mem::take(&mut self.replies)
    }

    /// Takes the events since the last call.
    pub fn take_notes(&mut self) -> Vec<Noted<N::Event>> {
        std::mem::take(&mut self.notes)
    }

    /// Moves the answers since the last call behind those in `into`, and keeps the memory.
    pub fn move_replies(&mut self, into: &mut Vec<Reply<N::Answer>>) {
        into.append(&mut self.replies);
    }

    /// Moves the events since the last call behind those in `into`, and keeps the memory.
    pub fn move_notes(&mut self, into: &mut Vec<Noted<N::Event>>) {
        into.append(&mut self.notes);
    }

    /// The tape as it stands.
    pub const fn tape(&self) -> &Tape {
        &self.tape
    }

    /// The tape, for those who decide in the world's name: clients and faults.
    pub const fn tape_mut(&mut self) -> &mut Tape {
        &mut self.tape
    }

    /// SHA-256 over `(now, node, input, effects)` of every step so far.
    pub fn hash(&self) -> [u8; 32] {
        self.trace.hash()
    }

    /// Notes from here on which kinds of moment come before which. The run stays the same.
    pub fn watch_orders(&mut self) {
        let count = self.processes.len();
        self.timeline = Some(Timeline::new(count));
        self.clocks.get_or_insert_with(|| Clocks::new(count));
    }

    /// Hashes of the orders that were noted, ascending; none if nobody wanted them.
    pub fn orders(&self) -> Vec<u64> {
        let timeline = self.timeline.as_ref();
        timeline.map_or_else(Vec::new, Timeline::marks)
    }

    /// How many steps all nodes have made.
    pub const fn steps(&self) -> u64 {
        self.trace.steps()
    }

    /// The steps in words, if they were asked for.
    pub fn report(&self) -> &[String] {
        self.trace.lines()
    }

    /// What happened, in numbers.
    pub const fn counts(&self) -> Counts {
        self.counts
    }

    /// What a hunt with POS+ has learned, to start the next one with.
    pub fn races(&self) -> Option<&Races> {
        self.choosing.as_ref().and_then(Choosing::races)
    }
}
