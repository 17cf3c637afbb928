//! What the cases do with one server in one round, and the figures that come of it.

use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::bench::case::{
    EACH_KEPT, EVENTS_KEPT, GET_GROWTH, LOADED, MEMORY_GROWTH, MIDDLE_JOINED, PUT_GROWTH, RESTART,
    RESTARTED, SLOWEST, STALLED_TAIL, TAIL, TAIL_JOINED, Work,
};
use crate::bench::figure::{Sample, middle};
use crate::bench::generator::{Load, figures, floor, load, required};
use crate::bench::server::{Server, disk};
use crate::process::output;

/// How long the echoes beneath a case run at most.
const ECHO: Duration = Duration::from_secs(1);
/// How long puts run at most while space is reclaimed, whatever `--duration` says.
const RECLAIM_MAX: Duration = Duration::from_secs(90);
/// How long the disk is looked at for the floor beneath them.
const RECLAIM_FLOOR: &str = "20s";
/// Space is reclaimed once the files have not shrunk for so long, and the load goes on until then.
const SHRUNK: Duration = Duration::from_secs(5);
/// Of four versions of each key three go: at least so little is left of the files.
const GIVEN_BACK: f64 = 0.75;
/// Puts per second then.
const RECLAIM_RATE: &str = "500";
/// How often the million keys are restarted from.
const RESTARTS: usize = 3;
/// Until a server has flushed and freed what a load left behind.
const SETTLE: Duration = Duration::from_secs(3);

/// What all rounds of a case share.
pub(crate) struct Round<'a> {
    pub(crate) duration: Duration,
    /// What the disk takes for a write and a sync, alone.
    pub(crate) disk: &'a Floor,
}

/// The disk's floor, measured with nothing else running.
pub(crate) struct Floor {
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    /// The slowest of many; absent where no case needs it.
    pub(crate) max_ms: Option<f64>,
}

impl Floor {
    /// Measures fdatasync of one 4 KiB write; the slowest takes a while.
    pub(crate) fn measure(holm: &str, with_slowest: bool) -> Result<Self> {
        let fast = disk_floor(holm, &["--duration", "1s"])?;
        let max_ms = if with_slowest {
            let words = ["--duration", RECLAIM_FLOOR, "--rate", RECLAIM_RATE];
            let slow = disk_floor(holm, &words)?;
            Some(required(&slow, "/writes/0/latency_ns/max", 1e6)?)
        } else {
            None
        };
        Ok(Self {
            p50_ms: required(&fast, "/writes/0/latency_ns/p50", 1e6)?,
            p99_ms: required(&fast, "/writes/0/latency_ns/p99", 1e6)?,
            max_ms,
        })
    }
}

fn disk_floor(holm: &str, words: &[&str]) -> Result<Value> {
    let mut command = Command::new(holm);
    command.args(["bench", "floor", "--json", "--bytes", "4KiB", "--data-dir"]);
    command.arg(disk()).args(words);
    let text = output(&mut command).context("measure the disk's floor")?;
    serde_json::from_str(&text).context("the floor's report is JSON")
}

/// A duration as the generator's flags take it.
fn flag(duration: Duration) -> String {
    format!("{}ms", duration.as_millis())
}

impl Work {
    /// Prepares a fresh server for the rounds.
    pub(crate) fn prepare(&self, server: &Server) -> Result<()> {
        match self {
            Self::Load { .. }
            | Self::Apart { .. }
            | Self::Each { .. }
            | Self::Stalled
            | Self::Million => Ok(()),
            Self::Lists => fill(server, &["--keys", "100000", "--txn-puts", "50"], "1024"),
            Self::Reclaim => {
                let keys = ["--keys", "300000", "--txn-puts", "100", "--passes", "4"];
                fill(server, &keys, "256")
            }
        }
    }

    /// One round at one server.
    pub(crate) fn round(&self, server: &mut Server, round: &Round<'_>) -> Result<Sample> {
        match self {
            Self::Load { arguments, clients } => plain(server, round, arguments, clients),
            Self::Apart { arguments } => apart(server, round, arguments),
            Self::Each { arguments } => each(server, round, arguments),
            Self::Lists => lists(server, round),
            Self::Stalled => stalled(server, round),
            Self::Million => million(server),
            Self::Reclaim => reclaim(server, round),
        }
    }
}

fn fill(server: &Server, keys: &[&str], value_bytes: &str) -> Result<()> {
    let mut words = vec!["fill", "--value-bytes", value_bytes];
    words.extend(keys);
    load(server, &words)?;
    sleep(SETTLE);
    Ok(())
}

fn plain(server: &Server, round: &Round<'_>, arguments: &[&str], clients: &str) -> Result<Sample> {
    let duration = flag(round.duration);
    let mut words = arguments.to_vec();
    words.extend(["--duration", &duration]);
    let mut sample = figures(&load(server, &words)?);
    let writes = matches!(arguments.first(), Some(&("put" | "txn")));
    let duration = flag(round.duration.min(ECHO));
    let words = ["echo", "--clients", clients, "--duration", &duration];
    let echo = load(server, &[&words[..], &["--warmup", "300ms"]].concat())?;
    sample.extend(floor(&echo, writes.then_some(round.disk.p50_ms)));
    Ok(sample)
}

/// Joined, cut, and joined again, so that what drifts is not taken for the cut.
fn apart(server: &Server, round: &Round<'_>, arguments: &[&str]) -> Result<Sample> {
    let duration = flag(round.duration);
    let words = [arguments, &["--duration", &duration]].concat();
    let run = || -> Result<_> {
        let report = load(server, &words)?;
        let at = |place| required(&report, place, 1e6);
        Ok((at("/latency_ns/p50")?, at("/latency_ns/p99")?))
    };
    let before = run()?;
    server.hold_others(true)?;
    let cut = run()?;
    server.hold_others(false)?;
    let after = run()?;
    let middle = f64::midpoint(before.0, after.0);
    let tail = f64::midpoint(before.1, after.1);
    Ok(vec![
        ("p50 ms, joined", middle),
        ("p50 ms, cut", cut.0),
        (MIDDLE_JOINED, middle / cut.0),
        ("p99 ms, joined", tail),
        ("p99 ms, cut", cut.1),
        (TAIL_JOINED, tail / cut.1),
    ])
}

/// At one island while the others only take that in, and at each of all at once. An etcd has no
/// other, and is asked once.
fn each(server: &Server, round: &Round<'_>, arguments: &[&str]) -> Result<Sample> {
    let duration = flag(round.duration);
    let words = [arguments, &["--duration", &duration]].concat();
    let one = load(server, &words)?;
    let rate = |report: &Value| required(report, "/operations_per_second", 1.0);
    let tail = |report: &Value| required(report, "/latency_ns/p99", 1e6);
    let alone = rate(&one)?;
    let mut sample = vec![("puts/s of one", alone), ("p99 ms, one", tail(&one)?)];
    let islands = server.islands();
    if islands.is_empty() {
        return Ok(sample);
    }
    let start = |island: &String| Load::start_at(server, island, &words);
    let begun: Result<Vec<Load>> = islands.iter().map(start).collect();
    let (mut least, mut slowest) = (f64::INFINITY, 0.0_f64);
    for load in begun? {
        let report = load.finish()?;
        least = least.min(rate(&report)?);
        slowest = slowest.max(tail(&report)?);
    }
    sample.extend([
        ("puts/s of each of all, the least", least),
        (EACH_KEPT, least / alone),
        ("p99 ms, the slowest of all", slowest),
    ]);
    Ok(sample)
}

fn lists(server: &Server, round: &Round<'_>) -> Result<Sample> {
    let duration = flag(round.duration);
    let tail = |report: &Value| required(report, "/latency_ns/p99", 1e6);
    let both = |lists: Option<Load>| -> Result<_> {
        let start = |name| {
            let words = [name, "--rate", "300", "--value-bytes", "1024"];
            let more = ["--keys", "100000", "--duration", &duration];
            Load::start(server, &[&words[..], &more].concat())
        };
        let (puts, gets) = (start("put")?, start("get")?);
        let (puts, gets) = (puts.finish()?, gets.finish()?);
        let lists = lists.map(Load::finish).transpose()?;
        Ok((tail(&puts)?, tail(&gets)?, lists))
    };
    let (free_puts, free_gets, _) = both(None)?;
    let before = server.memory()?;
    server.forget_peak()?;
    let words = ["list", "--clients", "1", "--range-keys", "100000"];
    let more = ["--value-bytes", "1024", "--duration", &duration];
    let lister = Load::start_humble(server, &[&words[..], &more].concat())?;
    let (puts, gets, report) = both(Some(lister))?;
    let report = report.context("the lister has a report")?;
    let after = server.memory()?;
    Ok(vec![
        ("lists/s", required(&report, "/operations_per_second", 1.0)?),
        ("put p99 ms, without lists", free_puts),
        ("put p99 ms, with lists", puts),
        (PUT_GROWTH, puts / free_puts),
        ("get p99 ms, without lists", free_gets),
        ("get p99 ms, with lists", gets),
        (GET_GROWTH, gets / free_gets),
        ("resident MiB", before.resident),
        (MEMORY_GROWTH, after.peak - before.resident),
    ])
}

fn stalled(server: &Server, round: &Round<'_>) -> Result<Sample> {
    let duration = flag(round.duration);
    let run = |stalled| -> Result<_> {
        server.forget_peak()?;
        let words = ["watch", "--watchers", "1000", "--stalled", stalled];
        let report = load(server, &[&words[..], &["--duration", &duration]].concat())?;
        let rate = required(&report, "/operations_per_second", 1.0)?;
        let tail = required(&report, "/latency_ns/p99", 1e6)?;
        Ok((rate, tail, server.memory()?.peak))
    };
    let (free_rate, free_tail, free_peak) = run("0")?;
    let (rate, tail, peak) = run("1")?;
    Ok(vec![
        ("events/s, all read", free_rate),
        ("events/s, one stalled", rate),
        (EVENTS_KEPT, rate / free_rate),
        ("p99 ms, all read", free_tail),
        ("p99 ms, one stalled", tail),
        (STALLED_TAIL, tail / free_tail),
        ("peak MiB, all read", free_peak),
        (MEMORY_GROWTH, peak - free_peak),
    ])
}

fn million(server: &mut Server) -> Result<Sample> {
    let words = ["fill", "--keys", "1000000", "--txn-puts", "100"];
    let report = load(server, &words)?;
    sleep(SETTLE);
    let loaded = server.memory()?;
    let disk = server.disk_mib()?;
    let mut times = Vec::new();
    for _ in 0..RESTARTS {
        times.push(server.restart()?);
        sleep(SETTLE);
    }
    let restarted = server.memory()?;
    Ok(vec![
        (
            "keys loaded/s",
            required(&report, "/operations_per_second", 1.0)?,
        ),
        (LOADED, loaded.resident),
        ("anonymous MiB, loaded", loaded.anonymous),
        (RESTART, middle(times).context("it was restarted")?),
        (RESTARTED, restarted.resident),
        ("anonymous MiB, restarted", restarted.anonymous),
        ("disk MiB", disk),
    ])
}

/// Puts go on until compaction, defragmentation and what follows them in the background are
/// done, so that none of it escapes them; a server that is not done in time is an error.
fn reclaim(server: &Server, round: &Round<'_>) -> Result<Sample> {
    let words = ["put", "--rate", RECLAIM_RATE, "--keys", "300000"];
    let quiet = load(server, &[&words[..], &["--duration", "5s"]].concat())?;
    let before = server.disk_mib()?;
    let most = flag(RECLAIM_MAX);
    let puts = Load::start_ended(server, &[&words[..], &["--duration", &most]].concat())?;
    sleep(SETTLE);
    let began = Instant::now();
    let key = json!({"key": "L2JlbmNoLw=="});
    let now = server.post("/v3/kv/range", &key)?;
    let compact = json!({"revision": now["header"]["revision"], "physical": true});
    server.post("/v3/kv/compaction", &compact)?;
    let compacted = began.elapsed();
    // Holm needs none and answers at once; etcd gives nothing back without.
    server.post("/v3/maintenance/defragment", &json!({}))?;
    let defragmented = began.elapsed();
    let (after, reclaimed) = shrunk(server, before, began)?;
    let report = puts.finish()?;
    let at = |report, place| required(report, place, 1e6);
    let (median, slowest) = (
        at(&report, "/latency_ns/p50")?,
        at(&report, "/latency_ns/max")?,
    );
    let mut sample = vec![
        ("put p50 ms", median),
        (TAIL, at(&report, "/latency_ns/p99")?),
        ("put p99.9 ms", at(&report, "/latency_ns/p999")?),
        ("put max ms", slowest),
        (SLOWEST, slowest / median),
        ("put max ms, before", at(&quiet, "/latency_ns/max")?),
        ("puts/s", required(&report, "/operations_per_second", 1.0)?),
        ("compaction s", compacted.as_secs_f64()),
        ("with defragmentation s", defragmented.as_secs_f64()),
        ("until files shrink no more s", reclaimed.as_secs_f64()),
        ("disk MiB, before", before),
        ("disk MiB, after", after),
        ("floor: fdatasync p50 ms", round.disk.p50_ms),
    ];
    sample.extend(round.disk.max_ms.map(|it| ("floor: fdatasync max ms", it)));
    Ok(sample)
}

/// Waits until space was given back and the files shrink no more; their size then, and when they last shrank.
fn shrunk(server: &Server, before: f64, began: Instant) -> Result<(f64, Duration)> {
    let (mut least, mut last) = (before, began.elapsed());
    loop {
        let now = server.disk_mib()?;
        // A log that is cut is no sign: puts make it grow again.
        if now < least - 1.0 {
            (least, last) = (now, began.elapsed());
        }
        if least < before * GIVEN_BACK && began.elapsed() - last >= SHRUNK {
            return Ok((now, last));
        }
        ensure!(
            SETTLE + began.elapsed() < RECLAIM_MAX,
            "{} was not done in {RECLAIM_MAX:?}: {before:.0} MiB of files before, {now:.0} MiB now",
            server.name()
        );
        sleep(Duration::from_millis(500));
    }
}
