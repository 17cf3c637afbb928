//! What a node of a cluster knows of its own standing between two looks: since when it has had
//! no leader, when it last found one, and whether it has a vote.
//!
//! A node alone has none of this to look at, and nothing here is ever asked there.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use holm_base::Time;
use tokio::sync::watch;

/// How many election timeouts without a leader end the streams that demand one. New calls are
/// refused at once; an open stream costs more to begin again.
const ELECTIONS_MAX: u32 = 3;

/// A node's standing, as it was when somebody last looked.
#[derive(Debug)]
pub(crate) struct Pulse {
    leadership: Mutex<Leadership>,
    is_learner: AtomicBool,
    is_long_lost: watch::Sender<bool>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Leadership {
    /// Since when there has been no leader; `None` while there is one.
    lost: Option<Time>,
    /// When a leader was found after there had been none.
    found: Option<Time>,
}

impl Pulse {
    pub(crate) fn new() -> Self {
        Self {
            leadership: Mutex::default(),
            is_learner: AtomicBool::new(false),
            is_long_lost: watch::Sender::new(false),
        }
    }

    /// Takes down whether there is a leader now.
    pub(crate) fn look(&self, now: Time, has_leader: bool, election_timeout: Duration) {
        let mut leadership = self.lock();
        if has_leader {
            if leadership.lost.take().is_some() {
                leadership.found = Some(now);
            }
        } else {
            leadership.lost.get_or_insert(now);
        }
        let lost = leadership.lost;
        drop(leadership);
        let is_long = lost.is_some_and(|it| now.since(it) >= election_timeout * ELECTIONS_MAX);
        self.is_long_lost.send_if_modified(|was| {
            let is_news = *was != is_long;
            *was = is_long;
            is_news
        });
    }

    /// For how long there has been no leader; nothing if that is news.
    pub(crate) fn lost_for(&self, now: Time) -> Duration {
        self.lock().lost.map_or(Duration::ZERO, |it| now.since(it))
    }

    /// Whether the leader of the time failed what was begun then: another one was found while
    /// it waited, or not much later than its own election took.
    pub(crate) fn was_leader_lost(&self, begun: Time, election_timeout: Duration) -> bool {
        self.lock()
            .found
            .is_some_and(|found| begun < found && found.since(begun) < election_timeout * 2)
    }

    /// Resolves once there has been no leader for long.
    pub(crate) async fn long_lost(&self) {
        let mut is_lost = self.is_long_lost.subscribe();
        // An error means that the node is gone, which ends all streams by itself.
        is_lost.wait_for(|is_lost| *is_lost).await.ok();
    }

    pub(crate) fn is_learner(&self) -> bool {
        self.is_learner.load(Ordering::Acquire)
    }

    pub(crate) fn set_learner(&self, is_learner: bool) {
        self.is_learner.store(is_learner, Ordering::Release);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Leadership> {
        self.leadership
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    const T: Duration = Duration::from_secs(1);

    fn at(millis: u64) -> Time {
        Time::from_nanos(millis * 1_000_000)
    }

    #[test]
    fn three_election_timeouts_without_a_leader_are_long() {
        let pulse = Pulse::new();
        pulse.look(at(0), true, T);
        for (now, is_long) in [(500, false), (3_400, false), (3_500, true)] {
            pulse.look(at(now), false, T);
            let told = pulse.long_lost().now_or_never();
            assert_eq!(told.is_some(), is_long, "{now}");
        }
        assert_eq!(pulse.lost_for(at(4_000)), Duration::from_millis(3_500));
        pulse.look(at(4_100), true, T);
        assert!(pulse.long_lost().now_or_never().is_none());
        assert_eq!(pulse.lost_for(at(9_000)), Duration::ZERO);
    }

    #[test]
    fn what_was_begun_shortly_before_an_election_was_lost_with_the_leader() {
        let pulse = Pulse::new();
        pulse.look(at(0), false, T);
        pulse.look(at(5_000), true, T);
        let lost = |begun| pulse.was_leader_lost(at(begun), T);
        assert!(lost(4_900) && lost(3_001));
        assert!(!lost(3_000) && !lost(5_000) && !lost(6_000));
    }
}
