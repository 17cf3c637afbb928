//! One thread of unary load: sends requests over its connections and measures each answer.
//!
//! Closed loop: each client sends its next request when its last was answered. Open loop: requests are due at a fixed
//! rate, whoever is idle sends the next one, and its latency counts from the moment it was due. If all clients wait,
//! due requests queue up and their waiting is latency: a stall is charged to every request that it delayed, not only
//! to the few that were in flight (no coordinated omission).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, bail};

use super::connection::Connection;
use super::frame::flag;
use super::keys::Keys;
use super::message::Template;
use super::poller::Poller;
use super::session::{Failure, Route, Sink};
use super::tally::{Clock, Tally, in_nanos};
use super::timetable::Timetable;

/// How the keys of a request are chosen.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Naming {
    /// Each key of the request follows the one before it.
    Following,
    /// The same, from the first key of a block on: the sequence counts blocks of as many keys as a request names.
    Blocks,
    /// The second key is so many behind the first: a range.
    Span(u64),
}

/// What one thread does.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// The server.
    pub(crate) endpoints: Vec<String>,
    /// The fields of each request.
    pub(crate) route: Route,
    /// The request.
    pub(crate) template: Template,
    /// How to name keys in it.
    pub(crate) naming: Naming,
    /// Which keys.
    pub(crate) keys: Keys,
    /// Requests in flight at most.
    pub(crate) clients: u32,
    /// Connections that they share.
    pub(crate) connections: u32,
    /// Nanoseconds between due requests; `None` is the closed loop.
    pub(crate) interval: Option<f64>,
    /// The measured time, by the run's clock.
    pub(crate) window: (u64, u64),
    /// End after so many requests.
    pub(crate) limit: Option<u64>,
    /// When the measured time was ended early, by the run's clock; `u64::MAX` until then.
    pub(crate) stop: Arc<AtomicU64>,
}

/// How long to wait for the last answers.
const DRAIN: Duration = Duration::from_secs(30);
/// How often to look at the clock at least.
const PAUSE_MAX: Duration = Duration::from_millis(100);

/// Runs the plan to its end. `progress` counts answers while it runs.
pub(crate) fn run(plan: &Plan, clock: Clock, progress: &AtomicU64) -> anyhow::Result<Tally> {
    let mut load = Load::open(plan, clock)?;
    load.send(progress)?;
    load.drain()?;
    Ok(load.state.tally)
}

struct Link {
    connection: Connection,
    idle: Vec<u32>,
    waits_to_write: bool,
}

/// What the answers change, apart from the connections that bring them.
struct State {
    clock: Clock,
    window: (u64, u64),
    /// When each client's request was sent, or was due.
    started: Vec<u64>,
    in_flight: u64,
    answered: u64,
    tally: Tally,
}

struct Load<'a> {
    plan: &'a Plan,
    template: Template,
    keys: Keys,
    poller: Poller,
    links: Vec<Link>,
    state: State,
    sent: u64,
    /// When requests are due, in the open loop.
    timetable: Option<Timetable>,
    turn: usize,
}

impl<'a> Load<'a> {
    fn open(plan: &'a Plan, clock: Clock) -> anyhow::Result<Self> {
        let poller = Poller::new().context("create an epoll set")?;
        let mut links = Vec::new();
        for index in 0..plan.connections {
            // Connections go round the endpoints, clients round the connections.
            let at = step(index) % plan.endpoints.len();
            let connection = Connection::open(&plan.endpoints[at], plan.route.clone())?;
            poller.add(connection.socket(), links.len())?;
            // Client c belongs to connection c modulo connections.
            let idle = (index..plan.clients)
                .step_by(step(plan.connections))
                .collect();
            links.push(Link {
                connection,
                idle,
                waits_to_write: false,
            });
        }
        let state = State {
            clock,
            window: plan.window,
            started: vec![0; step(plan.clients)],
            in_flight: 0,
            answered: 0,
            tally: Tally::new(),
        };
        let timetable = plan
            .interval
            .map(|interval| Timetable::new(interval, clock.now(), plan.window.1));
        let (template, keys) = (plan.template.clone(), plan.keys.clone());
        Ok(Self {
            plan,
            template,
            keys,
            poller,
            links,
            state,
            sent: 0,
            timetable,
            turn: 0,
        })
    }

    fn send(&mut self, progress: &AtomicU64) -> anyhow::Result<()> {
        let mut ready = Vec::new();
        for link in 0..self.links.len() {
            self.flush(link)?;
        }
        while self.goes_on() {
            self.stop_early();
            self.send_due()?;
            self.poller.wait(self.pause(), &mut ready)?;
            for link in ready.drain(..) {
                self.receive(link)?;
                if self.timetable.is_none() {
                    self.refill(link)?;
                }
                self.flush(link)?;
            }
            progress.store(self.state.answered, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Takes the answers that are still under way, and charges those that never come.
    fn drain(&mut self) -> anyhow::Result<()> {
        let end = self.state.clock.now() + in_nanos(DRAIN);
        let mut ready = Vec::new();
        while self.state.in_flight > 0 && self.state.clock.now() < end {
            self.poller.wait(PAUSE_MAX, &mut ready)?;
            for link in ready.drain(..) {
                self.receive(link)?;
                self.flush(link)?;
            }
        }
        let left = self.timetable.as_ref().map_or(0, Timetable::left);
        self.state.tally.unanswered = self.state.in_flight + left;
        Ok(())
    }

    /// Ends the measured time where somebody has asked for that.
    fn stop_early(&mut self) {
        let stop = self.plan.stop.load(Ordering::Relaxed);
        if stop < self.state.window.1 {
            self.state.window.1 = stop;
            if let Some(timetable) = &mut self.timetable {
                timetable.end(stop);
            }
        }
    }

    /// Whether more is to be sent. The open loop sends what was due in time even after the end.
    fn goes_on(&self) -> bool {
        let now = self.state.clock.now();
        let end = self.state.window.1;
        match &self.timetable {
            Some(timetable) => !timetable.is_over() && now < end.saturating_add(in_nanos(DRAIN)),
            None => now < end && !self.is_exhausted(),
        }
    }

    fn is_exhausted(&self) -> bool {
        self.plan.limit.is_some_and(|limit| self.sent >= limit)
    }

    fn pause(&self) -> Duration {
        let Some(timetable) = &self.timetable else {
            return PAUSE_MAX;
        };
        let wait = timetable.wait(self.state.clock.now());
        Duration::from_secs_f64(wait / 1e9).min(PAUSE_MAX)
    }

    /// Closed loop: every idle client of a connection sends.
    fn refill(&mut self, at: usize) -> anyhow::Result<()> {
        while !self.is_exhausted() && self.can_send(at)? {
            let now = self.state.clock.now();
            self.start(at, now);
        }
        Ok(())
    }

    /// Open loop: sends what is due, connections taking turns.
    fn send_due(&mut self) -> anyhow::Result<()> {
        let now = self.state.clock.now();
        let mut refused = 0;
        while let Some(due) = self.due(now).filter(|_due| refused < self.links.len()) {
            let at = self.turn;
            self.turn = (self.turn + 1) % self.links.len();
            if self.can_send(at)? {
                refused = 0;
                self.start(at, due);
                if let Some(timetable) = &mut self.timetable {
                    timetable.take();
                }
            } else {
                refused += 1;
            }
        }
        for link in 0..self.links.len() {
            self.flush(link)?;
        }
        if refused == self.links.len() {
            // Everybody waits for an answer: an answer is the next thing that can happen.
            let mut ready = Vec::new();
            self.poller.wait(PAUSE_MAX, &mut ready)?;
            for link in ready {
                self.receive(link)?;
            }
        }
        Ok(())
    }

    fn due(&self, now: u64) -> Option<u64> {
        self.timetable
            .as_ref()
            .and_then(|timetable| timetable.due(now))
    }

    fn can_send(&self, at: usize) -> anyhow::Result<bool> {
        let link = &self.links[at];
        if link.connection.too_large(self.template.len()) {
            bail!(
                "a request of {} bytes exceeds the server's stream window: use smaller values",
                self.template.len()
            );
        }
        Ok(!link.idle.is_empty() && link.connection.can_begin(self.template.len()))
    }

    fn start(&mut self, at: usize, time: u64) {
        self.name_keys();
        let link = &mut self.links[at];
        let client = link
            .idle
            .pop()
            .expect("the caller has asked for an idle client");
        self.state.started[step(client)] = time;
        self.state.in_flight += 1;
        self.sent += 1;
        link.connection
            .begin(client, self.template.bytes(), flag::END_STREAM);
    }

    fn name_keys(&mut self) {
        match self.plan.naming {
            Naming::Span(span) => {
                let first = self.keys.next();
                self.template.set_key(0, first);
                self.template.set_key(1, first + span);
            }
            Naming::Blocks => {
                let count = self.template.key_count();
                let size = u64::try_from(count).expect("usize fits into 64 bits");
                let first = self.keys.next() * size;
                for (key, index) in (first..).zip(0..count) {
                    self.template.set_key(index, key);
                }
            }
            Naming::Following => {
                let first = self.keys.next();
                for (offset, index) in (0_u64..).zip(0..self.template.key_count()) {
                    self.template
                        .set_key(index, self.keys.behind(first, offset));
                }
            }
        }
    }

    fn receive(&mut self, at: usize) -> anyhow::Result<()> {
        let link = &mut self.links[at];
        let now = self.state.clock.now();
        let counted = (self.state.window.0..self.state.window.1).contains(&now);
        let mut sink = Answers {
            state: &mut self.state,
            idle: &mut link.idle,
            counted,
        };
        Ok(link.connection.receive(&mut sink)?)
    }

    fn flush(&mut self, at: usize) -> anyhow::Result<()> {
        let link = &mut self.links[at];
        if !link.connection.has_output() && !link.waits_to_write {
            return Ok(());
        }
        link.connection.flush()?;
        let waits = link.connection.has_output();
        if waits != link.waits_to_write {
            link.waits_to_write = waits;
            self.poller
                .want_write(link.connection.socket(), at, waits)?;
        }
        Ok(())
    }
}

/// The answers of one connection.
struct Answers<'a> {
    state: &'a mut State,
    idle: &'a mut Vec<u32>,
    counted: bool,
}

impl Sink for Answers<'_> {
    fn data(&mut self, _tag: u32, payload: &[u8]) {
        if self.counted {
            self.state.tally.bytes +=
                u64::try_from(payload.len()).expect("usize fits into 64 bits");
        }
    }

    fn end(&mut self, tag: u32, outcome: Result<(), Failure>) {
        let state = &mut *self.state;
        let now = state.clock.now();
        let started = state.started[step(tag)];
        self.idle.push(tag);
        state.in_flight -= 1;
        state.answered += 1;
        let (from, until) = state.window;
        match outcome {
            Err(failure) => state.tally.fail(failure),
            Ok(()) => {
                state.tally.completed += u64::from((from..until).contains(&now));
                if (from..until).contains(&started) {
                    state.tally.record(now.saturating_sub(started));
                }
            }
        }
    }
}

/// A count of clients as an index.
fn step(count: u32) -> usize {
    usize::try_from(count).expect("usize has at least 32 bits here")
}
