//! What can be timed by itself: a thread that wakes another, and a write that is synced.

use std::ffi::OsStr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;
use holm_base::ByteCount;
use holm_disk::RealFolder;
use holm_rehearse::{IdleWake, SyncWait, TABLE};
use rustix::process::nice;
use rustix::thread::{CpuSet, sched_getaffinity, sched_getcpu, sched_setaffinity};

use super::super::tally::in_nanos;
use super::median;
use super::sites::COUNT;
use super::threads::own_clock;
use crate::quantity::rounded;

/// How often two threads wake each other in a round.
const WAKES: usize = 1_200;
/// How often one wakes another that may run on any core.
const MOVES: usize = 300;
/// How long they work between two wakes of a core that sleeps: so long it has slept.
const PAUSES: [Duration; 3] = [
    Duration::from_micros(10),
    Duration::from_micros(50),
    Duration::from_micros(250),
];
/// How long a thread rests between two syncs: a lone put's are half a millisecond apart.
const REST: Duration = Duration::from_micros(300);
const SYNCS: usize = 400;
/// The same beside work, where each waits for its core.
const SYNCS_BESIDE_WORK: usize = 100;
/// As low a priority as there is.
const NICENESS: i32 = 19;
/// What one batch writes: that of a lone put, of a hundred, and of a thousand.
const BLOCKS: [usize; 3] = [4 << 10, 32 << 10, 256 << 10];
/// The file it goes round in.
const FILE: usize = 8 << 20;

/// What was found, in nanoseconds.
#[derive(Clone, Debug)]
pub(super) struct Alone {
    /// CPU of both threads for each time that one wakes the other on the core that both use.
    pub(super) wake_cpu: f64,
    /// How often a thread whose core is busy woke on another that slept, as a share.
    pub(super) search: f64,
    /// From one thread's call until the other runs, less that.
    pub(super) wake: Vec<u64>,
    /// The same on a core that sleeps, by how long it has.
    pub(super) idle: Vec<IdleWake>,
    /// CPU of a small write that is synced, on cores that work meanwhile, and where they sleep.
    pub(super) flush_cpu: f64,
    pub(super) flush_idle_cpu: f64,
    /// How long a sync waits, by what was written.
    pub(super) sync: Vec<SyncWait>,
}

/// What has been timed so far, a round at a time: what a machine is slower at for a while, it is so for the loads that
/// are measured in between.
#[derive(Debug, Default)]
pub(super) struct Timing {
    busy: Vec<Wakes>,
    moved: Vec<f64>,
    idle: [Vec<Wakes>; PAUSES.len()],
    alone: [Vec<Synced>; BLOCKS.len()],
    beside: [Vec<Synced>; BLOCKS.len()],
    beside_work: Vec<Synced>,
}

impl Timing {
    /// Times each of them once.
    pub(super) fn round(&mut self, folder: &Path) -> anyhow::Result<()> {
        let [first, second] = cores()?;
        self.busy.push(wakes([first, first], Duration::ZERO)?);
        self.moved.push(moved([first, second])?);
        for (pause, rounds) in PAUSES.into_iter().zip(&mut self.idle) {
            rounds.push(wakes([first, second], pause)?);
        }
        for (at, block) in BLOCKS.into_iter().enumerate() {
            self.alone[at].push(synced(folder, (1, SYNCS, block))?);
            self.beside[at].push(synced(folder, (COUNT, SYNCS, block))?);
        }
        let small = (1, SYNCS_BESIDE_WORK, BLOCKS[0]);
        self.beside_work
            .push(beside_work(|| synced(folder, small))?);
        Ok(())
    }

    /// What follows from all rounds.
    pub(super) fn ended(self) -> anyhow::Result<Alone> {
        let less = |rounds: &[Wakes], cpu: f64| {
            let hops = rounds.iter().flat_map(|one| &one.hops);
            quantiles(hops.map(|hop| hop - cpu).collect())
        };
        let cpu = |rounds: &[Wakes]| median(rounds, |one| one.cpu);
        let idle = |(pause, rounds): (Duration, &Vec<Wakes>)| -> anyhow::Result<IdleWake> {
            let call = median(rounds, |one| one.call);
            let own = (cpu(rounds) - call).max(0.0);
            Ok(IdleWake {
                slept: u64::try_from(pause.as_nanos())?,
                wake: rounded(own),
                call: rounded(call),
                delay: less(rounds, own),
            })
        };
        let idle: anyhow::Result<Vec<IdleWake>> =
            PAUSES.into_iter().zip(&self.idle).map(idle).collect();
        let waits = |rounds: &[Synced]| {
            let all = rounds.iter().flat_map(|one| &one.waits);
            quantiles(all.copied().collect())
        };
        let sync = |(at, block): (usize, usize)| -> anyhow::Result<SyncWait> {
            Ok(SyncWait {
                bytes: u64::try_from(block)?,
                alone: waits(&self.alone[at]),
                beside: waits(&self.beside[at]),
                load: 1.0,
            })
        };
        let sync: anyhow::Result<Vec<SyncWait>> =
            BLOCKS.into_iter().enumerate().map(sync).collect();
        let flush = |rounds: &[Synced]| median(rounds, |one| one.cpu);
        let wake_cpu = cpu(&self.busy);
        Ok(Alone {
            wake_cpu,
            search: median(&self.moved, |one| *one),
            wake: less(&self.busy, wake_cpu),
            idle: idle?,
            flush_cpu: flush(&self.beside_work),
            flush_idle_cpu: flush(&self.alone[0]),
            sync: sync?,
        })
    }
}

/// Does something while all cores work, at a priority so low that it is not kept from them.
fn beside_work<T>(act: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
    let cores = thread::available_parallelism().context("count the cores")?;
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..cores.get() {
            scope.spawn(|| {
                // Where that is not granted, what is timed waits longer; its CPU is the same.
                nice(NICENESS).ok();
                while !is_over.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        let acted = act();
        is_over.store(true, Ordering::Relaxed);
        acted
    })
}

/// What syncs of one kind take, in nanoseconds.
#[derive(Debug)]
struct Synced {
    /// CPU of a thread for each.
    cpu: f64,
    /// How long it waits beyond that.
    waits: Vec<f64>,
}

/// So many threads sync so often at once, so many bytes each time, each a file of its own, as sites of one disk do.
fn synced(folder: &Path, (threads, syncs, block): (usize, usize, usize)) -> anyhow::Result<Synced> {
    let path = |at: usize| {
        let name = format!("holm-calibrate-{}-{at}.sync", std::process::id());
        folder.join(name)
    };
    let seen = thread::scope(|scope| {
        let begun = (0..threads).map(|at| scope.spawn(move || sync_often(&path(at), syncs, block)));
        let begun: Vec<_> = begun.collect();
        let ended = begun.into_iter().map(thread::ScopedJoinHandle::join);
        ended.collect::<Vec<_>>()
    });
    let (mut cpu, mut waits) = (0.0, Vec::new());
    for at in 0..threads {
        // A file that never came into being cannot be removed; the measurement says why.
        drop(std::fs::remove_file(path(at)));
    }
    for (at, one) in seen.into_iter().enumerate() {
        let one = one.map_err(|_panic| anyhow::anyhow!("a thread that was to sync panicked"))?;
        let (own, mut all) = one.with_context(|| format!("sync {}", path(at).display()))?;
        cpu += own / threads as f64;
        waits.append(&mut all);
    }
    Ok(Synced { cpu, waits })
}

/// Which cores two threads are bound to: the first two that this process may use, or one for both.
fn cores() -> anyhow::Result<[usize; 2]> {
    let allowed = sched_getaffinity(None).context("ask which cores this process may use")?;
    let mut all = (0..CpuSet::MAX_CPU).filter(|&core| allowed.is_set(core));
    let first = all.next().context("this process may use no core")?;
    Ok([first, all.next().unwrap_or(first)])
}

/// What one of two threads saw that wake each other.
#[derive(Debug)]
struct Woken {
    /// What it spent, in nanoseconds of CPU, without what it worked on purpose.
    cpu: f64,
    /// How long its calls took.
    calls: Vec<f64>,
    /// From the other's call until it ran, each time.
    hops: Vec<f64>,
}

/// Two threads wake each other in turn, each asleep until then, and work for so long before they call.
fn wakes(cores: [usize; 2], works: Duration) -> anyhow::Result<Wakes> {
    let (turn, bell) = (Mutex::new((0_usize, Instant::now())), Condvar::new());
    let play = |own: usize| -> anyhow::Result<Woken> {
        let mut core = CpuSet::new();
        core.set(cores[own]);
        sched_setaffinity(None, &core).context("bind a thread to a core")?;
        let before = own_clock()?;
        let mut seen = Woken {
            cpu: 0.0,
            calls: Vec::with_capacity(WAKES),
            hops: Vec::with_capacity(WAKES),
        };
        let mut worked = 0.0;
        for round in 0..WAKES {
            let mut held = turn.lock().unwrap_or_else(PoisonError::into_inner);
            while held.0 != 2 * round + own {
                held = bell.wait(held).unwrap_or_else(PoisonError::into_inner);
            }
            seen.hops.push(in_nanos(held.1.elapsed()) as f64);
            drop(held);
            let begun = Instant::now();
            while begun.elapsed() < works {
                std::hint::spin_loop();
            }
            worked += in_nanos(begun.elapsed()) as f64;
            let mut held = turn.lock().unwrap_or_else(PoisonError::into_inner);
            let called = Instant::now();
            *held = (held.0 + 1, called);
            drop(held);
            bell.notify_one();
            seen.calls.push(in_nanos(called.elapsed()) as f64);
        }
        seen.cpu = own_clock()? - before - worked;
        Ok(seen)
    };
    let (first, second) = thread::scope(|scope| {
        let other = scope.spawn(|| play(1));
        let first = scope.spawn(|| play(0)).join();
        (first, other.join())
    });
    let joined = |one: thread::Result<anyhow::Result<Woken>>| {
        one.map_err(|_panic| anyhow::anyhow!("a thread that was to be woken panicked"))?
    };
    let (first, second) = (joined(first)?, joined(second)?);
    let cpu = (first.cpu + second.cpu) / (2 * WAKES) as f64;
    let mut calls = [first.calls, second.calls].concat();
    calls.sort_by(f64::total_cmp);
    // The first of all waits until both threads are there.
    let hops = first
        .hops
        .into_iter()
        .skip(1)
        .chain(second.hops.into_iter().skip(1));
    Ok(Wakes {
        cpu,
        call: calls[calls.len() / 2],
        hops: hops.collect(),
    })
}

/// How often a thread wakes on a core that sleeps when the one that it ran on last is busy, as a share.
fn moved(cores: [usize; 2]) -> anyhow::Result<f64> {
    let (turn, bell) = (Mutex::new(0), Condvar::new());
    // Where the other thread has woken: no core before it has.
    let woke = AtomicUsize::new(usize::MAX);
    let bind = |cores: &[usize]| {
        let mut set = CpuSet::new();
        cores.iter().for_each(|core| set.set(*core));
        sched_setaffinity(None, &set).context("bind a thread to a core")
    };
    let wait = || -> anyhow::Result<()> {
        for round in 1..=MOVES {
            // It has run there last, and may run anywhere.
            bind(&cores[..1])?;
            bind(&cores)?;
            let mut held = turn.lock().unwrap_or_else(PoisonError::into_inner);
            while *held < round {
                held = bell.wait(held).unwrap_or_else(PoisonError::into_inner);
            }
            drop(held);
            woke.store(sched_getcpu(), Ordering::Release);
        }
        Ok(())
    };
    let call = || -> anyhow::Result<usize> {
        bind(&cores[..1])?;
        let mut moved = 0;
        for round in 1..=MOVES {
            thread::sleep(REST);
            woke.store(usize::MAX, Ordering::Release);
            *turn.lock().unwrap_or_else(PoisonError::into_inner) = round;
            bell.notify_one();
            let begun = Instant::now();
            while begun.elapsed() < PAUSES[1] {
                std::hint::spin_loop();
            }
            let at = woke.load(Ordering::Acquire);
            moved += usize::from(at != usize::MAX && at != cores[0]);
        }
        Ok(moved)
    };
    let (called, waited) = thread::scope(|scope| {
        let other = scope.spawn(wait);
        let called = scope.spawn(call).join();
        (called, other.join())
    });
    let panicked = |_panic| anyhow::anyhow!("a thread that was to be woken panicked");
    waited.map_err(panicked)??;
    Ok(called.map_err(panicked)?? as f64 / MOVES as f64)
}

/// What wakes of one kind take, in nanoseconds.
#[derive(Debug)]
struct Wakes {
    /// CPU of both threads for each.
    cpu: f64,
    /// How much of that is the call, at the median.
    call: f64,
    /// From a call until the other runs.
    hops: Vec<f64>,
}

/// Writes and syncs one block after the other as the log does, in a file that is written in full, and rests between.
fn sync_often(path: &Path, syncs: usize, block: usize) -> anyhow::Result<(f64, Vec<f64>)> {
    let (folder, name) = (path.parent(), path.file_name().and_then(OsStr::to_str));
    let folder = RealFolder::open(folder.context("a file lies in a folder")?)?;
    let name = name.context("the file has a plain name")?;
    let mut file = folder.create(name, ByteCount::new(u64::try_from(FILE)?))?;
    file.write(ByteCount::ZERO, &vec![0x5a; FILE])?;
    file.sync()?;
    let block = vec![0xa5_u8; block];
    let mut spans = Vec::with_capacity(syncs);
    let before = own_clock()?;
    for round in 0..syncs {
        thread::sleep(REST);
        let begun = Instant::now();
        let at = round * block.len() % FILE;
        file.write_through(ByteCount::new(u64::try_from(at)?), &block)?;
        file.sync()?;
        spans.push(in_nanos(begun.elapsed()) as f64);
    }
    let both = (own_clock()? - before) / syncs as f64;
    let cpu = both - rested(syncs)?;
    Ok((cpu, spans.into_iter().map(|nanos| nanos - cpu).collect()))
}

/// What a rest costs.
fn rested(rests: usize) -> anyhow::Result<f64> {
    let before = own_clock()?;
    for _ in 0..rests {
        thread::sleep(REST);
    }
    Ok((own_clock()? - before) / rests as f64)
}

/// The middles of [`TABLE`] equal shares; what is below nothing is nothing.
fn quantiles(mut spans: Vec<f64>) -> Vec<u64> {
    spans.sort_by(f64::total_cmp);
    let at = |point: usize| spans[(2 * point + 1) * spans.len() / (2 * TABLE)];
    (0..TABLE)
        .map(|point| rounded(at(point).max(0.0)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_core_that_sleeps_is_dearer_to_wake_than_one_that_works() {
        let [first, second] = cores().expect("there is a core");
        let busy = wakes([first, first], Duration::ZERO).expect("threads wake");
        assert!(busy.cpu > 0.0 && busy.call > 0.0, "{:?}", busy.call);
        assert_eq!(busy.hops.len(), 2 * WAKES - 2);
        if first != second {
            let idle = wakes([first, second], PAUSES[1]).expect("threads wake");
            assert!(idle.cpu > busy.cpu, "{} {}", idle.cpu, busy.cpu);
        }
    }

    #[test]
    fn a_thread_that_may_run_on_one_core_alone_wakes_on_no_other() {
        let [first, _] = cores().expect("there is a core");
        let share = moved([first, first]).expect("threads wake");
        assert!(share < 1e-9, "{share}");
    }

    #[test]
    fn quantiles_rise_and_have_the_median_in_the_middle() {
        let table = quantiles((0..6_400).rev().map(f64::from).collect());
        assert_eq!((table.len(), table[0], table[63]), (TABLE, 50, 6_350));
        assert!(table.is_sorted());
        assert_eq!(quantiles(vec![-3.0; 100]), vec![0; TABLE]);
    }
}
