//! `holm bench`: how fast a server is, measured by a generator that costs little itself.
//!
//! A stock client spends several times what the server may spend on an operation, so on one machine it measures
//! itself. Here requests are bytes made in advance ([`message`]), HTTP/2 is spoken by hand ([`frame`], [`hpack`],
//! [`session`], [`connection`]) and one thread serves all connections ([`poller`], [`load`], [`timetable`], [`watch`]). What the server used is read
//! from outside ([`observe`]); [`report`] writes it all down.

pub(crate) mod calibrate;
mod call;
mod connection;
mod floor;
mod frame;
mod hpack;
mod keys;
mod load;
mod message;
mod observe;
mod options;
mod poller;
mod ready;
mod report;
mod session;
mod tally;
mod timetable;
mod watch;

use std::fmt::Display;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, ensure};

use keys::Keys;
use load::{Naming, Plan};
use message::Template;
use observe::{ProcessSample, SyncSample};
pub(crate) use options::Bench;
use options::{KvOptions, Workload};
use report::Report;
use serde::Serialize;
use session::Route;
use tally::{Clock, Tally, in_nanos};

use crate::progress::Progress;

/// What a benchmark has to say.
pub(crate) struct Said {
    pub(crate) text: String,
    /// Why its figures are of nothing.
    pub(crate) failure: Option<String>,
}

impl Said {
    fn of(figures: &(impl Serialize + Display), is_json: bool) -> anyhow::Result<Self> {
        let text = if is_json {
            serde_json::to_string(figures)?
        } else {
            figures.to_string()
        };
        let failure = None;
        Ok(Self { text, failure })
    }
}

/// Runs one benchmark and returns what it has to say.
pub(crate) fn run(bench: &Bench) -> anyhow::Result<Said> {
    match bench {
        Bench::Calibrate(options) => {
            let text = calibrate::run(options).context("calibrate")?;
            let failure = None;
            Ok(Said { text, failure })
        }
        Bench::Floor(options) => Said::of(&floor::run(options)?, options.json),
        Bench::Ready(options) => {
            let ready = ready::run(options)
                .with_context(|| format!("wait for the server at {}", options.endpoint))?;
            Said::of(&ready, options.json)
        }
        Bench::Kv(options) => {
            let endpoints = options.endpoint.join(",");
            let report =
                kv(options).with_context(|| format!("benchmark the server at {endpoints}"))?;
            let failure = report.failure();
            let failure = failure.map(|it| format!("benchmark the server at {endpoints}: {it}"));
            let said = Said::of(&report, options.json)?;
            Ok(Said { failure, ..said })
        }
    }
}

fn kv(options: &KvOptions) -> anyhow::Result<Report> {
    let has_own_end = matches!(options.workload, Workload::Watch | Workload::Fill);
    ensure!(
        !(options.until_eof && has_own_end),
        "--until-eof is for put, get, list, txn and echo; fill and watch end by themselves"
    );
    match options.workload {
        Workload::Put | Workload::Txn | Workload::Echo => unary(options),
        Workload::Get | Workload::List => {
            call::fill(options, options.keys)?;
            unary(options)
        }
        Workload::Watch => watching(options),
        Workload::Fill => filling(options),
    }
}

/// Start and end of the measured time.
fn window(options: &KvOptions) -> (u64, u64) {
    let from = in_nanos(options.warmup);
    (from, from + in_nanos(options.duration))
}

/// The part of thread `thread` of a unary workload.
fn plan(options: &KvOptions, thread: u32, stop: &Arc<AtomicU64>) -> anyhow::Result<Plan> {
    let value_bytes = usize::try_from(options.value_bytes)?;
    let space = options.keys;
    let span = options.range_keys.min(space);
    let (path, template, naming, space) = match options.workload {
        Workload::Echo => (
            "/grpc.health.v1.Health/Check",
            Template::echo(),
            Naming::Following,
            space,
        ),
        Workload::Get => (
            "/etcdserverpb.KV/Range",
            Template::get(options.serializable),
            Naming::Following,
            space,
        ),
        Workload::List => {
            let template = Template::list(options.serializable);
            (
                "/etcdserverpb.KV/Range",
                template,
                Naming::Span(span),
                space - span + 1,
            )
        }
        Workload::Txn | Workload::Fill => {
            let puts = usize::try_from(options.txn_puts)?;
            (
                "/etcdserverpb.KV/Txn",
                Template::txn(puts, value_bytes),
                Naming::Following,
                space,
            )
        }
        Workload::Put | Workload::Watch => (
            "/etcdserverpb.KV/Put",
            Template::put(value_bytes),
            Naming::Following,
            space,
        ),
    };
    let threads = options.threads;
    let share = |total: u32| total / threads + u32::from(thread < total % threads);
    let clients = share(options.clients);
    Ok(Plan {
        endpoints: options.endpoint.clone(),
        route: Route::new(options.first(), path, options.token.as_deref()),
        template,
        naming,
        keys: Keys::new(options.order, space, u64::from(thread) + 1),
        clients,
        connections: share(options.connections(options.clients)).clamp(1, clients.max(1)),
        interval: options.rate.map(|rate| 1e9 * f64::from(threads) / rate),
        window: window(options),
        limit: None,
        stop: Arc::clone(stop),
    })
}

fn unary(options: &KvOptions) -> anyhow::Result<Report> {
    let stop = Arc::new(AtomicU64::new(u64::MAX));
    let mut plans = Vec::new();
    for thread in 0..options.threads.min(options.clients) {
        plans.push(plan(options, thread, &stop)?);
    }
    let counters: Vec<AtomicU64> = plans.iter().map(|_plan| AtomicU64::new(0)).collect();
    let clock = Clock::start();
    if options.until_eof {
        stop_at_eof(clock, window(options).0 + 1, &stop);
    }
    thread::scope(|scope| {
        let mut workers = Vec::new();
        for (plan, counter) in plans.iter().zip(&counters) {
            workers.push(scope.spawn(move || load::run(plan, clock, counter)));
        }
        let is_over = || {
            let has_ended = stop.load(Ordering::Relaxed) < u64::MAX;
            has_ended || workers.iter().any(thread::ScopedJoinHandle::is_finished)
        };
        let used = observe_window(options, clock, &counters, is_over);
        let mut tally = Tally::new();
        for worker in workers {
            tally.merge(
                worker
                    .join()
                    .map_err(|_panic| anyhow::anyhow!("a load thread panicked"))??,
            );
        }
        let (from, until) = window(options);
        let ended = stop.load(Ordering::Relaxed).min(until);
        let took = KvOptions {
            duration: Duration::from_nanos(ended - from),
            ..options.clone()
        };
        Ok(Report::unary(&took, &tally, &used))
    })
}

/// Notes when the standard input ends, but not before `first`. Nothing wakes a thread that
/// reads, so it is left to itself and ends with the process.
fn stop_at_eof(clock: Clock, first: u64, stop: &Arc<AtomicU64>) {
    let stop = Arc::clone(stop);
    thread::spawn(move || {
        // What cannot be read any more is at its end, too.
        io::copy(&mut io::stdin(), &mut io::sink()).ok();
        stop.store(clock.now().max(first), Ordering::Relaxed);
    });
}

/// Writes keys until all are there; the measured time is what that takes.
fn filling(options: &KvOptions) -> anyhow::Result<Report> {
    let before = sample(options);
    let clock = Clock::start();
    let tally = call::passes(options)?;
    let took = KvOptions {
        duration: Duration::from_nanos(clock.now()),
        ..options.clone()
    };
    let used = before.until(sample(options));
    Ok(Report::unary(&took, &tally, &used))
}

fn watching(options: &KvOptions) -> anyhow::Result<Report> {
    let counter = [AtomicU64::new(0)];
    // One message: the clock of the run, once the watchers stand.
    let (sender, receiver) = std::sync::mpsc::sync_channel(1);
    thread::scope(|scope| {
        let worker = scope.spawn(|| {
            let tell = |clock| {
                sender
                    .send(clock)
                    .expect("the receiver waits for this thread");
            };
            watch::run(options, window(options), &counter[0], tell)
        });
        let used = loop {
            match receiver.recv_timeout(Duration::from_millis(100)) {
                Ok(clock) => {
                    break observe_window(options, clock, &counter, || worker.is_finished());
                }
                Err(_nothing_yet) if worker.is_finished() => break Used::default(),
                Err(_nothing_yet) => {}
            }
        };
        let tally = worker
            .join()
            .map_err(|_panic| anyhow::anyhow!("the watch thread panicked"))??;
        Ok(Report::watch(options, &tally, &used))
    })
}

/// What was used within the measured time.
#[derive(Clone, Copy, Debug, Default)]
struct Used {
    client: (ProcessSample, ProcessSample),
    server: Option<(ProcessSample, ProcessSample)>,
    syncs: Option<(SyncSample, SyncSample)>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Sample {
    client: ProcessSample,
    server: Option<ProcessSample>,
    syncs: Option<SyncSample>,
}

impl Sample {
    fn until(self, after: Self) -> Used {
        Used {
            client: (self.client, after.client),
            server: self.server.zip(after.server),
            syncs: self.syncs.zip(after.syncs),
        }
    }
}

fn sample(options: &KvOptions) -> Sample {
    // First what is spent all the time: a server may take seconds to tell of its syncs.
    let (server, client) = (observe::processes(&options.pid), observe::process(None));
    Sample {
        server,
        client: client.unwrap_or_default(),
        syncs: observe::syncs_of(match options.metrics.as_slice() {
            [] => &options.endpoint,
            said => said,
        }),
    }
}

/// Sleeps through the warm-up and the measured time, looking at both processes at its ends.
fn observe_window(
    options: &KvOptions,
    clock: Clock,
    counters: &[AtomicU64],
    is_over: impl Fn() -> bool,
) -> Used {
    let (from, until) = window(options);
    let mut progress = Progress::new();
    wait(clock, from, &is_over, || progress.show("warming up"));
    let before = sample(options);
    wait(clock, until, &is_over, || {
        let done: u64 = counters
            .iter()
            .map(|counter| counter.load(Ordering::Relaxed))
            .sum();
        let left = Duration::from_nanos(until.saturating_sub(clock.now())).as_secs();
        progress.show(&format!(
            "measuring: {} done, {left} s left",
            crate::quantity::count(done)
        ));
    });
    before.until(sample(options))
}

fn wait(clock: Clock, until: u64, is_over: &impl Fn() -> bool, mut show: impl FnMut()) {
    while clock.now() < until && !is_over() {
        show();
        let left = Duration::from_nanos(until.saturating_sub(clock.now()));
        thread::sleep(left.min(Duration::from_millis(500)));
    }
}
