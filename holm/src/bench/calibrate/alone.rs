//! What can be timed by itself: a thread that wakes another, and a write that is synced.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use anyhow::Context;
use holm_rehearse::TABLE;

use super::super::tally::in_nanos;
use super::sites::COUNT;
use super::threads::own_clock;

/// How often two threads wake each other, and how often is synced.
const ROUNDS: usize = 20_000;
const SYNCS: usize = 3_000;
/// What one batch writes, and the file it goes round in.
const BLOCK: usize = 4 << 10;
const FILE: usize = 8 << 20;

/// What was found, in nanoseconds.
#[derive(Clone, Debug)]
pub(super) struct Alone {
    /// CPU of both threads for each time that one wakes the other.
    pub(super) wake_cpu: f64,
    /// From one thread's call to the other's answer, less that.
    pub(super) wake: Vec<u64>,
    pub(super) flush_cpu: f64,
    pub(super) sync: Vec<u64>,
    /// The same while others sync.
    pub(super) sync_beside: Vec<u64>,
}

pub(super) fn measure(folder: &Path) -> anyhow::Result<Alone> {
    let (wake_cpu, wake) = wakes()?;
    let (flush_cpu, sync) = synced(folder, 1)?;
    let (_, sync_beside) = synced(folder, COUNT)?;
    Ok(Alone {
        wake_cpu,
        wake,
        flush_cpu,
        sync,
        sync_beside,
    })
}

/// So many threads sync at once, each a file of its own, as sites of one disk do.
fn synced(folder: &Path, threads: usize) -> anyhow::Result<(f64, Vec<u64>)> {
    let path = |at: usize| {
        let name = format!("holm-calibrate-{}-{at}.sync", std::process::id());
        folder.join(name)
    };
    let seen = thread::scope(|scope| {
        let begun = (0..threads).map(|at| scope.spawn(move || syncs(&path(at))));
        let begun: Vec<_> = begun.collect();
        let ended = begun.into_iter().map(thread::ScopedJoinHandle::join);
        ended.collect::<Vec<_>>()
    });
    let (mut cpu, mut spans) = (0.0, Vec::new());
    for at in 0..threads {
        // A file that never came into being cannot be removed; the measurement says why.
        drop(std::fs::remove_file(path(at)));
    }
    for (at, one) in seen.into_iter().enumerate() {
        let one = one.map_err(|_panic| anyhow::anyhow!("a thread that was to sync panicked"))?;
        let (own, mut waits) = one.with_context(|| format!("sync {}", path(at).display()))?;
        cpu += own / threads as f64;
        spans.append(&mut waits);
    }
    Ok((cpu, quantiles(spans)))
}

/// Two threads wake each other in turn, each asleep until then.
fn wakes() -> anyhow::Result<(f64, Vec<u64>)> {
    let (turn, bell) = (Mutex::new(0_usize), Condvar::new());
    let play = |own: usize| -> anyhow::Result<(f64, Vec<u64>)> {
        let before = own_clock()?;
        let mut spans = Vec::with_capacity(ROUNDS);
        for round in 0..ROUNDS {
            let begun = Instant::now();
            let mut held = turn.lock().unwrap_or_else(PoisonError::into_inner);
            while *held != 2 * round + own {
                held = bell.wait(held).unwrap_or_else(PoisonError::into_inner);
            }
            *held += 1;
            drop(held);
            bell.notify_one();
            spans.push(in_nanos(begun.elapsed()));
        }
        Ok((own_clock()? - before, spans))
    };
    let (first, second) = thread::scope(|scope| {
        let other = scope.spawn(|| play(1));
        let first = play(0);
        (first, other.join())
    });
    let second =
        second.map_err(|_panic| anyhow::anyhow!("a thread that was to be woken panicked"))??;
    let (first_cpu, spans) = first?;
    let cpu = (first_cpu + second.0) / (2 * ROUNDS) as f64;
    // A round is two wakes.
    let hops = spans.into_iter().map(|nanos| nanos as f64 / 2.0 - cpu);
    Ok((cpu, quantiles(hops.collect())))
}

/// Writes and syncs one block after the other, in a file that is written in full.
fn syncs(path: &Path) -> anyhow::Result<(f64, Vec<f64>)> {
    let file = File::create_new(path)?;
    file.write_all_at(&vec![0x5a; FILE], 0)?;
    file.sync_all()?;
    let block = [0xa5_u8; BLOCK];
    let mut spans = Vec::with_capacity(SYNCS);
    let before = own_clock()?;
    for round in 0..SYNCS {
        let begun = Instant::now();
        let at = round * BLOCK % FILE;
        file.write_all_at(&block, u64::try_from(at)?)?;
        file.sync_data()?;
        spans.push(in_nanos(begun.elapsed()) as f64);
    }
    let cpu = (own_clock()? - before) / SYNCS as f64;
    Ok((cpu, spans.into_iter().map(|nanos| nanos - cpu).collect()))
}

/// The middles of [`TABLE`] equal shares; what is below nothing is nothing.
fn quantiles(mut spans: Vec<f64>) -> Vec<u64> {
    spans.sort_by(f64::total_cmp);
    let at = |point: usize| spans[(2 * point + 1) * spans.len() / (2 * TABLE)];
    (0..TABLE)
        .map(|point| crate::quantity::rounded(at(point).max(0.0)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_rise_and_have_the_median_in_the_middle() {
        let table = quantiles((0..6_400).rev().map(f64::from).collect());
        assert_eq!((table.len(), table[0], table[63]), (TABLE, 50, 6_350));
        assert!(table.is_sorted());
        assert_eq!(quantiles(vec![-3.0; 100]), vec![0; TABLE]);
    }
}
