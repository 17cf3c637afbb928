//! One writer and many watchers: how many events per second arrive, and how late.
//!
//! Each value begins with the time of its put, so every delivered event tells its own delay. Stalled watchers take a
//! connection each and never read from it: a server must neither remember everything for them nor slow the others.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, bail};

use super::connection::Connection;
use super::frame::flag;
use super::message::{Template, read_watch};
use super::options::KvOptions;
use super::poller::Poller;
use super::session::{Failure, Route, Sink};
use super::tally::{Clock, Tally, in_nanos};

/// What a watch run has measured.
#[derive(Debug)]
pub(crate) struct WatchTally {
    /// Delivered events, and their delays from the put to the watcher.
    pub(crate) delivered: Tally,
    /// The writer's puts.
    pub(crate) puts: Tally,
    /// Events over the whole run that should have arrived and did not before the end.
    pub(crate) missing: u64,
}

const SETUP: Duration = Duration::from_secs(60);
const DRAIN: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(20);

/// Creates the watchers, then writes until the end of `window` (relative to the start of writing).
///
/// `measuring` is called once all watchers stand, with the clock that `window` is counted by.
pub(crate) fn run(
    options: &KvOptions,
    window: (u64, u64),
    progress: &AtomicU64,
    measuring: impl FnOnce(Clock),
) -> anyhow::Result<WatchTally> {
    let mut run = Run::open(options, window)?;
    run.create_watchers()?;
    let _stalled = stall(options)?;
    run.state.clock = Clock::start();
    measuring(run.state.clock);
    run.write(options, progress)?;
    run.drain()?;
    let expected = run.state.puts_done * u64::from(options.watchers);
    let missing = expected.saturating_sub(run.state.events);
    Ok(WatchTally {
        delivered: run.state.delivered,
        puts: run.state.puts,
        missing,
    })
}

struct State {
    clock: Clock,
    window: (u64, u64),
    created: u32,
    events: u64,
    delivered: Tally,
    puts: Tally,
    puts_done: u64,
    put_started: u64,
    writer_busy: bool,
    failure: Option<Failure>,
    /// Watch answers that have come in part, by connection and stream.
    partial: BTreeMap<(usize, u32), Vec<u8>>,
}

struct Run {
    poller: Poller,
    /// The writer's connection comes first.
    connections: Vec<Connection>,
    waits: Vec<bool>,
    watchers: u32,
    watch: Template,
    put: Template,
    state: State,
}

impl Run {
    fn open(options: &KvOptions, window: (u64, u64)) -> anyhow::Result<Self> {
        let token = options.token.as_deref();
        let poller = Poller::new().context("create an epoll set")?;
        let mut connections = Vec::new();
        for index in 0..=options.connections(options.watchers) {
            let path = if index == 0 {
                "/etcdserverpb.KV/Put"
            } else {
                "/etcdserverpb.Watch/Watch"
            };
            let route = Route::new(options.first(), path, token);
            let connection = Connection::open(options.first(), route)?;
            poller.add(connection.socket(), connections.len())?;
            connections.push(connection);
        }
        let state = State {
            clock: Clock::start(),
            window,
            created: 0,
            events: 0,
            delivered: Tally::new(),
            puts: Tally::new(),
            puts_done: 0,
            put_started: 0,
            writer_busy: false,
            failure: None,
            partial: BTreeMap::new(),
        };
        Ok(Self {
            poller,
            waits: vec![false; connections.len()],
            connections,
            watchers: options.watchers,
            watch: Template::watch(),
            put: Template::put(usize::try_from(options.value_bytes.max(8))?),
            state,
        })
    }

    fn create_watchers(&mut self) -> anyhow::Result<()> {
        let (end, mut asked) = (self.state.clock.now() + in_nanos(SETUP), 0);
        while self.state.created < self.watchers {
            for connection in 1..self.connections.len() {
                if asked < self.watchers && self.connections[connection].can_begin(self.watch.len())
                {
                    self.connections[connection].begin(asked, self.watch.bytes(), 0);
                    asked += 1;
                }
            }
            self.turn(if asked < self.watchers {
                Duration::ZERO
            } else {
                PAUSE
            })?;
            if self.state.clock.now() > end {
                let (created, wanted) = (self.state.created, self.watchers);
                bail!(
                    "only {created} of {wanted} watchers stood after {} s",
                    SETUP.as_secs()
                );
            }
        }
        Ok(())
    }

    fn write(&mut self, options: &KvOptions, progress: &AtomicU64) -> anyhow::Result<()> {
        let interval = options.rate.map(|rate| 1e9 / rate);
        let mut due = 0.0;
        loop {
            let now = self.state.clock.now();
            if now >= self.state.window.1 {
                return Ok(());
            }
            let is_due = interval.is_none() || due <= now as f64;
            if is_due && !self.state.writer_busy && self.connections[0].can_begin(self.put.len()) {
                self.begin_put(interval.map_or(now, |_interval| crate::quantity::rounded(due)));
                due += interval.unwrap_or(0.0);
            }
            let pause = match interval {
                Some(_) if !self.state.writer_busy => {
                    Duration::from_secs_f64((due - now as f64).max(0.0) / 1e9).min(PAUSE)
                }
                _ => PAUSE,
            };
            self.turn(pause)?;
            progress.store(self.state.events, Ordering::Relaxed);
        }
    }

    fn begin_put(&mut self, time: u64) {
        self.put.set_stamp(time);
        self.state.put_started = time;
        self.state.writer_busy = true;
        self.connections[0].begin(0, self.put.bytes(), flag::END_STREAM);
    }

    fn drain(&mut self) -> anyhow::Result<()> {
        let end = self.state.clock.now() + in_nanos(DRAIN);
        let watchers = u64::from(self.watchers);
        let is_done =
            |state: &State| !state.writer_busy && state.events >= state.puts_done * watchers;
        while !is_done(&self.state) && self.state.clock.now() < end {
            self.turn(PAUSE)?;
        }
        Ok(())
    }

    /// Writes what waits, waits for sockets, and takes what came.
    fn turn(&mut self, pause: Duration) -> anyhow::Result<()> {
        for at in 0..self.connections.len() {
            self.flush(at)?;
        }
        let mut ready = Vec::new();
        self.poller.wait(pause, &mut ready)?;
        for at in ready {
            let mut sink = Answers {
                state: &mut self.state,
                connection: at,
            };
            self.connections[at].receive(&mut sink)?;
        }
        match self.state.failure.take() {
            Some(failure) => Err(failure).context("a watch ended"),
            None => Ok(()),
        }
    }

    fn flush(&mut self, at: usize) -> anyhow::Result<()> {
        let connection = &mut self.connections[at];
        if connection.has_output() || self.waits[at] {
            connection.flush()?;
            let waits = connection.has_output();
            if waits != self.waits[at] {
                self.waits[at] = waits;
                self.poller.want_write(connection.socket(), at, waits)?;
            }
        }
        Ok(())
    }
}

struct Answers<'a> {
    state: &'a mut State,
    connection: usize,
}

impl Sink for Answers<'_> {
    fn data(&mut self, tag: u32, payload: &[u8]) {
        if self.connection == 0 {
            return;
        }
        let place = (self.connection, tag);
        let Some(mut partial) = self.state.partial.remove(&place) else {
            let rest = self.messages(payload).to_vec();
            if !rest.is_empty() {
                self.state.partial.insert(place, rest);
            }
            return;
        };
        partial.extend_from_slice(payload);
        let left = self.messages(&partial).len();
        if left > 0 {
            partial.drain(..partial.len() - left);
            self.state.partial.insert(place, partial);
        }
    }

    fn end(&mut self, _tag: u32, outcome: Result<(), Failure>) {
        let state = &mut *self.state;
        if self.connection != 0 {
            let message = "the server ended the stream".to_owned();
            state.failure = Some(outcome.err().unwrap_or(Failure { status: 0, message }));
            return;
        }
        let now = state.clock.now();
        state.writer_busy = false;
        match outcome {
            Err(failure) => state.puts.fail(failure),
            Ok(()) => {
                state.puts_done += 1;
                if (state.window.0..state.window.1).contains(&now) {
                    state.puts.completed += 1;
                    state.puts.record(now.saturating_sub(state.put_started));
                }
            }
        }
    }
}

impl Answers<'_> {
    /// Takes all whole messages; returns what is left.
    fn messages<'b>(&mut self, bytes: &'b [u8]) -> &'b [u8] {
        let mut rest = bytes;
        while let Some((prefix, behind)) = rest.split_at_checked(5) {
            let length = usize::try_from(super::frame::number(&prefix[1..])).unwrap_or(usize::MAX);
            let Some((message, after)) = behind.split_at_checked(length) else {
                break;
            };
            self.message(message);
            rest = after;
        }
        rest
    }

    fn message(&mut self, message: &[u8]) {
        let state = &mut *self.state;
        let now = state.clock.now();
        let counted = (state.window.0..state.window.1).contains(&now);
        let delivered = &mut state.delivered;
        let summary = read_watch(message, |time| {
            if counted {
                delivered.record(now.saturating_sub(time));
            }
        });
        state.created += u32::from(summary.created);
        state.events += summary.events;
        if counted {
            delivered.completed += summary.events;
            delivered.bytes += u64::try_from(message.len()).expect("usize fits into 64 bits");
        }
        if summary.canceled {
            let message = "the server canceled a watch".to_owned();
            state.failure = Some(Failure { status: 0, message });
        }
    }
}

/// Creates the watchers that will never read; they live as long as what is returned.
fn stall(options: &KvOptions) -> anyhow::Result<Vec<Connection>> {
    let mut stalled = Vec::new();
    for _ in 0..options.stalled {
        let route = Route::new(
            options.first(),
            "/etcdserverpb.Watch/Watch",
            options.token.as_deref(),
        );
        let mut connection = Connection::open_narrow(options.first(), route)?;
        let mut poller = Poller::new()?;
        poller.add(connection.socket(), 0)?;
        let watch = Template::watch();
        let mut ready = Vec::new();
        while connection.open_streams() == 0 {
            connection.flush()?;
            poller.wait(PAUSE, &mut ready)?;
            if !ready.is_empty() {
                ready.clear();
                connection.receive(&mut Nobody)?;
            }
            if connection.can_begin(watch.len()) {
                connection.begin(0, watch.bytes(), 0);
            }
        }
        connection.flush()?;
        stalled.push(connection);
    }
    Ok(stalled)
}

/// Takes no interest.
struct Nobody;

impl Sink for Nobody {
    fn data(&mut self, _tag: u32, _payload: &[u8]) {}
    fn end(&mut self, _tag: u32, _outcome: Result<(), Failure>) {}
}
