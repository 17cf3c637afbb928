//! When history is forgotten by itself: after a time, or beyond a number of revisions.
//!
//! [`Keeper`] only decides; it is given the time and the revision, and says where to compact. By time, it looks every
//! tenth of the retention, so that history is let go in small pieces rather than once an hour in one.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use holm_kv::Refusal;
use holm_kv::command::{Command, Proposal};
use holm_runtime::Handle;

use crate::config::Retention;

/// How often revisions are counted, as etcd does.
const REVISION_INTERVAL: Duration = Duration::from_secs(300);
/// Samples that make up one retention.
const SAMPLES: u32 = 10;
const INTERVAL_MIN: Duration = Duration::from_millis(100);

/// Decides where to compact.
#[derive(Clone, Debug)]
pub(super) struct Keeper {
    retention: Retention,
    /// When each revision was the newest, oldest first; only by time.
    samples: VecDeque<(Duration, i64)>,
    compacted: i64,
}

impl Keeper {
    /// A keeper that has seen nothing yet.
    pub(super) const fn new(retention: Retention) -> Self {
        Self {
            retention,
            samples: VecDeque::new(),
            compacted: 0,
        }
    }

    /// How often to ask; `None` if never.
    pub(super) fn interval(&self) -> Option<Duration> {
        match self.retention {
            Retention::Everything => None,
            Retention::Time(time) => Some((time / SAMPLES).max(INTERVAL_MIN)),
            Retention::Revisions(_) => Some(REVISION_INTERVAL),
        }
    }

    /// The revision to compact at, given a monotone time and the newest revision.
    pub(super) fn due(&mut self, now: Duration, revision: i64) -> Option<i64> {
        let target = match self.retention {
            Retention::Everything => None,
            Retention::Revisions(kept) => i64::try_from(kept).ok().map(|kept| revision - kept),
            Retention::Time(time) => self.aged(now, revision, time),
        };
        let target = target.filter(|target| *target > self.compacted)?;
        self.compacted = target;
        Some(target)
    }

    /// The newest revision that is older than `time`.
    fn aged(&mut self, now: Duration, revision: i64, time: Duration) -> Option<i64> {
        self.samples.push_back((now, revision));
        let mut aged = None;
        while let Some(&(seen, revision)) = self.samples.front() {
            if seen + time > now {
                break;
            }
            aged = Some(revision);
            self.samples.pop_front();
        }
        aged
    }
}

/// Compacts for as long as it is polled.
pub(super) async fn keep(handle: Handle, retention: Retention) {
    let mut keeper = Keeper::new(retention);
    let Some(interval) = keeper.interval() else {
        return;
    };
    let began = Instant::now();
    loop {
        tokio::time::sleep(interval).await;
        let newest = handle.view().root.revision().value();
        if let Some(revision) = keeper.due(began.elapsed(), newest) {
            compact(&handle, revision).await;
        }
    }
}

async fn compact(handle: &Handle, revision: i64) {
    let proposal = Proposal {
        caller: None,
        command: Command::Compact { revision },
    };
    let refused = match handle.propose(proposal).await {
        Ok(applied) => applied.result.err(),
        Err(refused) => Some(refused),
    };
    match refused {
        None => tracing::info!(revision, "compacted by itself"),
        // Somebody compacted further before us.
        Some(Refusal::Compacted { .. }) => {}
        Some(refusal) => tracing::warn!(revision, ?refusal, "compaction by itself was refused"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn minutes(count: u64) -> Duration {
        Duration::from_secs(count * 60)
    }

    #[test]
    fn everything_is_kept_without_retention() {
        let mut keeper = Keeper::new(Retention::Everything);
        assert_eq!(keeper.interval(), None);
        assert_eq!(keeper.due(minutes(1), 100), None);
    }

    #[test]
    fn revisions_beyond_the_number_go() {
        let mut keeper = Keeper::new(Retention::Revisions(100));
        assert_eq!(keeper.due(minutes(5), 90), None);
        assert_eq!(keeper.due(minutes(10), 150), Some(50));
        assert_eq!(keeper.due(minutes(15), 150), None);
    }

    #[test]
    fn revisions_older_than_the_time_go_and_younger_stay() {
        let mut keeper = Keeper::new(Retention::Time(minutes(10)));
        assert_eq!(keeper.interval(), Some(minutes(1)));
        let due: Vec<Option<i64>> = (0..13)
            .map(|minute| keeper.due(minutes(minute), i64::try_from(minute).unwrap() + 1))
            .collect();
        assert_eq!(due[..10], [None; 10]);
        assert_eq!(due[10..], [Some(1), Some(2), Some(3)]);
        assert!(keeper.samples.len() <= 11);
    }

    #[test]
    fn idle_store_is_not_compacted_twice_at_one_revision() {
        let mut keeper = Keeper::new(Retention::Time(minutes(10)));
        assert_eq!(
            (0..40)
                .filter_map(|minute| keeper.due(minutes(minute), 7))
                .count(),
            1
        );
    }
}
