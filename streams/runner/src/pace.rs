//! How often the state is saved: as seldom as recovery allows.
//!
//! What a snapshot spares is work: after a crash, whatever was done since the newest one is done
//! again, and that takes about as long as it took. So a snapshot is due when that work, or the
//! bytes of the log that it would read, reach a limit, however much or little time has passed;
//! before that it is due when it would cost next to nothing.

use std::collections::VecDeque;
use std::time::Duration;

use holm_base::Time;

/// A snapshot that takes less than this part of the time since the last one is always due.
const CHEAP: u32 = 50;
/// Bytes of the log that are read again in a fraction of a second.
const LOG_BYTES: u64 = 64 << 20;

/// When the next snapshot is due.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    replay_max: Duration,
    /// What replay would take by now.
    work: Duration,
    /// How long the last one took: to freeze, and then to write.
    cost: Duration,
    at: Time,
    log_bytes: u64,
}

impl Pace {
    pub(crate) const fn new(replay_max: Duration) -> Self {
        Self {
            replay_max,
            work: Duration::ZERO,
            cost: Duration::ZERO,
            at: Time::ZERO,
            log_bytes: 0,
        }
    }

    /// Rows were read and run for so long.
    pub(crate) fn worked(&mut self, work: Duration) {
        self.work += work;
    }

    pub(crate) fn is_due(&mut self, now: Time, log_bytes: u64) -> bool {
        // What was let go was not added.
        self.log_bytes = self.log_bytes.min(log_bytes);
        self.work >= self.replay_max
            || log_bytes.saturating_sub(self.log_bytes) >= LOG_BYTES
            || self.cost * CHEAP <= now - self.at
    }

    /// What was frozen is written, which took so long.
    pub(crate) fn wrote(&mut self, took: Duration) {
        self.cost += took;
    }

    /// The state was frozen.
    pub(crate) fn froze(&mut self, begun: Time, ended: Time, log_bytes: u64) {
        *self = Self {
            cost: ended - begun,
            at: ended,
            log_bytes,
            ..Self::new(self.replay_max)
        };
    }
}

/// What a crash would cost: the work since the newest snapshot that it could go back to.
///
/// A snapshot spares nothing before it is written, nor while a sink lacks rows from before it. So
/// where the disk or a sink is slow, work piles up that would have to be done again.
#[derive(Debug, Default)]
pub(crate) struct Redo {
    total: Duration,
    /// The work before each snapshot that was frozen, by its last record, oldest first.
    frozen: VecDeque<(u64, Duration)>,
    /// The work before the one that a crash would go back to.
    spared: Duration,
}

impl Redo {
    /// Rows were read and run for so long.
    pub(crate) fn worked(&mut self, work: Duration) {
        self.total += work;
    }

    /// The state was frozen behind a record.
    pub(crate) fn froze(&mut self, through: u64) {
        const FROZEN_MAX: usize = 256;
        if self.frozen.len() == FROZEN_MAX {
            // What it would have spared counts as if it would not.
            self.frozen.remove(FROZEN_MAX / 2);
        }
        self.frozen.push_back((through, self.total));
    }

    /// The work that a crash would do again, if it spares what is up to a record.
    pub(crate) fn since(&mut self, spared: u64) -> Duration {
        while let Some((_, work)) = self.frozen.pop_front_if(|it| it.0 <= spared) {
            self.spared = work;
        }
        self.total - self.spared
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Time {
        Time::from_nanos(millis * 1_000_000)
    }

    #[test]
    fn work_makes_it_due_whatever_it_costs() {
        let mut pace = Pace::new(Duration::from_millis(250));
        pace.froze(at(0), at(100), 0);
        assert!(!pace.is_due(at(1_000), 0), "it costs a tenth of that");
        pace.worked(Duration::from_millis(249));
        assert!(!pace.is_due(at(1_000), 0));
        pace.worked(Duration::from_millis(1));
        assert!(pace.is_due(at(1_000), 0));
        pace.froze(at(1_000), at(1_100), 0);
        assert!(!pace.is_due(at(1_200), 0), "the work is spared now");
    }

    #[test]
    fn what_is_not_spared_would_be_done_again() {
        let millis = Duration::from_millis;
        let mut redo = Redo::default();
        redo.worked(millis(100));
        redo.froze(7);
        redo.worked(millis(30));
        redo.froze(9);
        redo.worked(millis(5));
        assert_eq!(
            redo.since(0),
            millis(135),
            "no snapshot can be gone back to"
        );
        assert_eq!(redo.since(8), millis(35));
        assert_eq!(redo.since(9), millis(5));
        for through in 10..2_000 {
            redo.froze(through);
        }
        assert_eq!(redo.since(3_000), millis(0));
    }

    #[test]
    fn what_costs_little_is_due_at_once() {
        let mut pace = Pace::new(Duration::from_millis(250));
        pace.froze(at(0), at(1), 0);
        assert!(!pace.is_due(at(50), 0));
        assert!(pace.is_due(at(51), 0));
    }

    #[test]
    fn writing_is_part_of_the_cost() {
        let mut pace = Pace::new(Duration::from_millis(250));
        pace.froze(at(0), at(1), 0);
        pace.wrote(Duration::from_millis(9));
        assert!(!pace.is_due(at(500), 0));
        assert!(pace.is_due(at(501), 0));
    }

    #[test]
    fn a_long_log_makes_it_due() {
        let mut pace = Pace::new(Duration::from_millis(250));
        pace.froze(at(0), at(100), 10);
        assert!(!pace.is_due(at(101), LOG_BYTES));
        assert!(pace.is_due(at(101), LOG_BYTES + 10));
    }
}
