//! How fast the cleaner may copy: fast enough to keep up, and out of the log's way.
//!
//! ```text
//! 8 MiB a second ── each second of work: a tenth more, up to 64 ──►
//!                ◄── halved in a second whose syncs were slow, down to 1 ──
//! ```
//!
//! A second's syncs are slow if the 99th percentile is more than twice the median of the last
//! minute's percentiles, and long enough to be felt: on a disk that syncs in a tenth of a
//! millisecond the copying itself doubles that, and would creep at the lowest pace for nothing.
//! What would surprise: while space is short none of this counts, and that is decided by who
//! asks.

use std::collections::VecDeque;
use std::time::Duration;

use holm_base::Time;

/// Where the cleaner begins, and begins again after a minute without work.
const START: u64 = 8 << 20;
const MAX: u64 = 64 << 20;
/// Cleaning that stopped would fill the disk.
const MIN: u64 = 1 << 20;
const SECOND: Duration = Duration::from_secs(1);
/// A 99th percentile up to so many microseconds is no slow one: answers have other reasons to
/// take that long.
const FELT: u32 = 2_000;
/// How many seconds are remembered.
const SECONDS: usize = 60;
/// How many syncs of a second are looked at: the first ones.
const SYNCS_MAX: usize = 16_384;

/// The cleaner's pace, in bytes a second.
#[derive(Debug)]
pub(crate) struct Pace {
    rate: u64,
    /// When the second in hand began.
    second: Option<Time>,
    /// Its syncs, in microseconds.
    syncs: Vec<u32>,
    has_worked: bool,
    /// Whole seconds since the cleaner last worked.
    idle: u64,
    /// The percentiles of the last seconds that had syncs.
    slowest: VecDeque<u32>,
}

impl Pace {
    pub(crate) const fn new() -> Self {
        Self {
            rate: START,
            second: None,
            syncs: Vec::new(),
            has_worked: false,
            idle: 0,
            slowest: VecDeque::new(),
        }
    }

    /// Bytes a second, as of the last second that has ended.
    pub(crate) const fn rate(&self) -> u64 {
        self.rate
    }

    /// The log was synced, which took so long.
    pub(crate) fn synced(&mut self, now: Time, took: Duration) {
        self.turn(now);
        if self.syncs.len() < SYNCS_MAX {
            let micros = u32::try_from(took.as_micros()).unwrap_or(u32::MAX);
            self.syncs.push(micros);
        }
    }

    /// The cleaner copies so many bytes now; how long it is to pause.
    pub(crate) fn pause(&mut self, now: Time, bytes: u64) -> Duration {
        self.turn(now);
        self.has_worked = true;
        Duration::from_micros(bytes.saturating_mul(1_000_000) / self.rate)
    }

    /// Ends the second in hand if it is over.
    fn turn(&mut self, now: Time) {
        let start = *self.second.get_or_insert(now);
        if start + SECOND > now {
            return;
        }
        self.second = Some(now);
        let passed = now.since(start).as_secs();
        let is_slow = self.end_of_syncs();
        if is_slow {
            self.rate = (self.rate / 2).max(MIN);
        } else if self.has_worked {
            self.rate = (self.rate + self.rate / 10).min(MAX);
        }
        // Seconds that nobody asked about were idle, but for the one in hand.
        self.idle = if self.has_worked {
            passed - 1
        } else {
            self.idle + passed
        };
        self.has_worked = false;
        if self.idle >= 60 {
            self.rate = START;
        }
    }

    /// Whether the second's syncs were slow, measured by those before.
    fn end_of_syncs(&mut self) -> bool {
        let Some(here) = percentile_99(&mut self.syncs) else {
            return false;
        };
        self.syncs.clear();
        let is_slow = here > FELT && median(&self.slowest).is_some_and(|usual| here / 2 > usual);
        if self.slowest.len() == SECONDS {
            self.slowest.pop_front();
        }
        self.slowest.push_back(here);
        is_slow
    }
}

fn percentile_99(values: &mut [u32]) -> Option<u32> {
    let last = values.len().checked_sub(1)?;
    let at = last - last / 100;
    Some(*values.select_nth_unstable(at).1)
}

fn median(values: &VecDeque<u32>) -> Option<u32> {
    let mut sorted: Vec<u32> = values.iter().copied().collect();
    sorted.sort_unstable();
    sorted.get(sorted.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    /// A pace and its clock.
    struct World {
        pace: Pace,
        now: Time,
    }

    impl World {
        fn new() -> Self {
            Self {
                pace: Pace::new(),
                now: Time::ZERO,
            }
        }

        /// A second of work, with a hundred syncs that take so long.
        fn work(&mut self, micros: u64) {
            for _ in 0..100 {
                self.pace.synced(self.now, Duration::from_micros(micros));
            }
            self.pace.pause(self.now, MIB);
            self.now = self.now + SECOND;
            self.pace.turn(self.now);
        }
    }

    #[test]
    fn it_begins_at_8_and_grows_by_a_tenth_a_second_to_64() {
        let mut world = World::new();
        assert_eq!(world.pace.rate(), 8 * MIB);
        assert_eq!(world.pace.pause(Time::ZERO, 2 * MIB).as_millis(), 250);
        world.work(100);
        assert_eq!(world.pace.rate(), 8 * MIB + 8 * MIB / 10);
        for _ in 0..22 {
            world.work(100);
        }
        assert_eq!(world.pace.rate(), 64 * MIB);
        assert_eq!(world.pace.pause(world.now, 2 * MIB).as_millis(), 31);
    }

    #[test]
    fn a_second_of_slow_syncs_halves_it_and_twice_the_usual_is_not_slow() {
        let mut world = World::new();
        for _ in 0..30 {
            world.work(4_000);
        }
        world.work(8_000);
        assert_eq!(world.pace.rate(), 64 * MIB);
        world.work(8_002);
        assert_eq!(world.pace.rate(), 32 * MIB);
        world.work(4_000);
        assert!(world.pace.rate() > 35 * MIB);
    }

    #[test]
    fn one_slow_sync_in_a_hundred_and_more_does_not_count_and_two_do() {
        let mut world = World::new();
        world.work(100);
        let slow = |world: &mut World, count: usize| {
            let before = world.pace.rate();
            for _ in 0..count {
                world.pace.synced(world.now, Duration::from_millis(50));
            }
            world.work(100);
            world.pace.rate() < before
        };
        assert!(!slow(&mut world, 1));
        assert!(slow(&mut world, 2));
    }

    #[test]
    fn what_nobody_feels_is_not_slow() {
        let mut world = World::new();
        for _ in 0..30 {
            world.work(100);
        }
        world.work(2_000);
        assert_eq!(world.pace.rate(), 64 * MIB);
        world.work(2_001);
        assert_eq!(world.pace.rate(), 32 * MIB);
    }

    #[test]
    fn it_never_stops() {
        let mut world = World::new();
        for second in 0..20 {
            world.work(100 << second);
        }
        assert_eq!(world.pace.rate(), MIB);
    }

    #[test]
    fn what_is_slow_for_a_minute_is_usual() {
        let mut world = World::new();
        for _ in 0..60 {
            world.work(100);
        }
        for _ in 0..60 {
            world.work(10_000);
        }
        let rate = world.pace.rate();
        world.work(10_000);
        assert!(world.pace.rate() > rate);
    }

    #[test]
    fn without_work_it_does_not_grow_and_a_minute_later_begins_anew() {
        let mut world = World::new();
        for _ in 0..30 {
            world.work(100);
        }
        for second in 1..=60 {
            assert_eq!(world.pace.rate(), 64 * MIB, "after {second} seconds");
            world.now = world.now + SECOND;
            world.pace.synced(world.now, Duration::from_micros(100));
        }
        assert_eq!(world.pace.rate(), 8 * MIB);
    }

    #[test]
    fn no_syncs_are_no_slow_ones() {
        let mut world = World::new();
        world.pace.pause(world.now, MIB);
        world.now = world.now + SECOND;
        world.pace.pause(world.now, MIB);
        assert_eq!(world.pace.rate(), 8 * MIB + 8 * MIB / 10);
    }
}
