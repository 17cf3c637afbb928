//! Runs side by side. What comes of them is handed over in the order of their numbers, so that
//! nobody can tell how many threads there were.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::sync_channel;

/// Does `work` for each number below `count`, on so many threads, and hands what comes of it to
/// `goes_on` in order, until that says no. What was begun by then is finished and thrown away.
pub(crate) fn in_order<T: Send>(
    jobs: NonZeroUsize,
    count: u64,
    work: impl Fn(u64) -> T + Sync,
    mut goes_on: impl FnMut(T) -> bool,
) {
    if jobs.get() == 1 {
        (0..count).map(work).all(goes_on);
        return;
    }
    let (next, is_over) = (AtomicU64::new(0), AtomicBool::new(false));
    let (sender, receiver) = sync_channel(jobs.get());
    #[expect(
        clippy::disallowed_methods,
        reason = "each run stays on one thread, and their results are put in order below"
    )]
    std::thread::scope(|scope| {
        for _ in 0..jobs.get() {
            let sender = sender.clone();
            let (next, is_over, work) = (&next, &is_over, &work);
            scope.spawn(move || {
                while !is_over.load(Ordering::Relaxed) {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count || sender.send((number, work(number))).is_err() {
                        break;
                    }
                }
            });
        }
        // Only the workers' ends are left, so that the last of them ends the loop.
        drop(sender);
        let mut early = BTreeMap::new();
        let mut due = 0;
        for (number, result) in &receiver {
            early.insert(number, result);
            while let Some(result) = early.remove(&due) {
                due += 1;
                if !is_over.load(Ordering::Relaxed) && !goes_on(result) {
                    is_over.store(true, Ordering::Relaxed);
                }
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(jobs: usize, until: u64) -> Vec<u64> {
        let mut seen = Vec::new();
        let jobs = NonZeroUsize::new(jobs).unwrap();
        // The first of each four takes longest.
        let work = |number: u64| {
            let rounds = if number.is_multiple_of(4) { 20_000 } else { 1 };
            (0..rounds).fold(number, |sum: u64, _| std::hint::black_box(sum))
        };
        in_order(jobs, 40, work, |number| {
            seen.push(number);
            number < until
        });
        seen
    }

    #[test]
    fn any_number_of_threads_hands_over_the_same_in_the_same_order() {
        for jobs in [1, 2, 3, 7, 64] {
            assert_eq!(all(jobs, 99), (0..40).collect::<Vec<_>>());
            assert_eq!(all(jobs, 13), (0..=13).collect::<Vec<_>>());
        }
    }
}
