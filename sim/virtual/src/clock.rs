//! A node's clocks: one that never goes back, and one that claims to know the date.
//!
//! Both are functions of true virtual time. The monotone one drifts and may freeze; the wall
//! clock adds an offset that may step, and claims an error that may be a lie. No safety
//! argument may rest on the second, so the simulator makes it as wrong as it likes.

use std::time::Duration;

use holm_base::Time;

/// What a wall clock says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WallTime {
    /// Nanoseconds since the beginning of the world, as this node believes.
    pub nanos: i64,
    /// How far off it claims to be at most.
    pub error: Duration,
}

/// How a node's clocks begin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClockSpec {
    /// How far the wall clock is ahead of true time, in nanoseconds.
    pub offset: i64,
    /// How much faster than true time both run, in parts per billion.
    pub drift_ppb: i64,
    /// The error that the wall clock claims.
    pub error: Duration,
}

const BILLION: i128 = 1_000_000_000;

/// The clocks of one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Clock {
    spec: ClockSpec,
    /// True time of the last change, and what the monotone clock said then.
    anchor: (Time, Time),
    /// Whether both stand still.
    is_frozen: bool,
    /// How far the wall clock lies ahead of the monotone one.
    wall_ahead: i64,
}

impl Clock {
    pub(crate) fn new(spec: ClockSpec) -> Self {
        assert!(
            i128::from(spec.drift_ppb).abs() < BILLION,
            "a clock does not run backwards"
        );
        Self {
            spec,
            anchor: (Time::ZERO, Time::ZERO),
            is_frozen: false,
            wall_ahead: spec.offset,
        }
    }

    /// A restart: the monotone clock begins at zero again, the wall clock goes on.
    pub(crate) fn restart(&mut self, now: Time) {
        let wall = self.wall(now).nanos;
        self.anchor = (now, Time::ZERO);
        self.is_frozen = false;
        self.wall_ahead = wall;
    }

    /// What the monotone clock says. It never goes back.
    #[inline]
    pub(crate) fn monotone(&self, now: Time) -> Time {
        let (then, said) = self.anchor;
        if self.is_frozen {
            return said;
        }
        let passed = now.nanos().saturating_sub(then.nanos());
        if self.spec.drift_ppb == 0 {
            return Time::from_nanos(said.nanos() + passed);
        }
        let passed = i128::from(passed);
        let local = passed * (BILLION + i128::from(self.spec.drift_ppb)) / BILLION;
        Time::from_nanos(said.nanos() + u64::try_from(local).unwrap_or(0))
    }

    /// The first moment of true time at which the monotone clock says `local` or more; `None`
    /// while it is frozen before that.
    pub(crate) fn true_time(&self, local: Time) -> Option<Time> {
        let (then, said) = self.anchor;
        let Some(ahead) = local
            .nanos()
            .checked_sub(said.nanos())
            .filter(|&gap| gap > 0)
        else {
            return Some(then);
        };
        if self.is_frozen {
            return None;
        }
        if self.spec.drift_ppb == 0 {
            return Some(Time::from_nanos(then.nanos().saturating_add(ahead)));
        }
        let rate = BILLION + i128::from(self.spec.drift_ppb);
        // The clock rounds down, so the least moment that suffices rounds up.
        let passed = (i128::from(ahead) * BILLION + rate - 1) / rate;
        let passed = u64::try_from(passed).unwrap_or(u64::MAX);
        Some(Time::from_nanos(then.nanos().saturating_add(passed)))
    }

    /// What the wall clock says.
    pub(crate) fn wall(&self, now: Time) -> WallTime {
        self.wall_at(self.monotone(now))
    }

    /// What the wall clock says when the monotone one says `local`.
    #[inline]
    pub(crate) fn wall_at(&self, local: Time) -> WallTime {
        let local = i64::try_from(local.nanos()).unwrap_or(i64::MAX);
        WallTime {
            nanos: local.saturating_add(self.wall_ahead),
            error: self.spec.error,
        }
    }

    /// The wall clock jumps by so many nanoseconds; the monotone one does not.
    pub(crate) const fn step(&mut self, by: i64) {
        self.wall_ahead = self.wall_ahead.saturating_add(by);
    }

    /// Whether both stand still.
    pub(crate) const fn is_frozen(&self) -> bool {
        self.is_frozen
    }

    /// Both clocks stand still until [`Clock::thaw`].
    pub(crate) fn freeze(&mut self, now: Time) {
        self.anchor = (now, self.monotone(now));
        self.is_frozen = true;
    }

    pub(crate) const fn thaw(&mut self, now: Time) {
        if self.is_frozen {
            self.anchor = (now, self.anchor.1);
            self.is_frozen = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn at(nanos: u64) -> Time {
        Time::from_nanos(nanos)
    }

    fn drifting(drift_ppb: i64) -> Clock {
        Clock::new(ClockSpec {
            drift_ppb,
            offset: -5,
            error: Duration::from_millis(1),
        })
    }

    #[test]
    fn a_fast_clock_runs_ahead_and_a_slow_one_behind() {
        assert_eq!(drifting(1_000).monotone(at(SECOND)), at(SECOND + 1_000));
        assert_eq!(drifting(-1_000).monotone(at(SECOND)), at(SECOND - 1_000));
    }

    #[test]
    fn the_first_true_moment_of_a_deadline_is_exact() {
        for drift in [-500_000_000, -20_001, 0, 7, 20_001, 500_000_000] {
            let clock = drifting(drift);
            for local in [1, 2, 3, 1_000, 999_999_937, 7 * SECOND + 1] {
                let moment = clock.true_time(at(local)).expect("it runs");
                assert!(clock.monotone(moment) >= at(local), "drift {drift}");
                let before = at(moment.nanos() - 1);
                assert!(
                    clock.monotone(before) < at(local),
                    "drift {drift} at {local}"
                );
            }
        }
    }

    #[test]
    fn the_monotone_clock_never_goes_back() {
        let mut clock = drifting(-300_000_000);
        let mut last = Time::ZERO;
        for moment in 0..1_000_u64 {
            match moment % 10 {
                3 => clock.step(-1_000_000),
                5 => clock.freeze(at(moment)),
                8 => clock.thaw(at(moment)),
                _ => {}
            }
            let said = clock.monotone(at(moment));
            assert!(said >= last);
            last = said;
        }
    }

    #[test]
    fn wall_and_monotone_disagree_after_a_step() {
        let mut clock = drifting(0);
        clock.step(-2_000);
        assert_eq!(clock.monotone(at(SECOND)), at(SECOND));
        assert_eq!(clock.wall(at(SECOND)).nanos, 1_000_000_000 - 2_005);
    }

    #[test]
    fn a_frozen_clock_has_no_deadline_to_come() {
        let mut clock = drifting(0);
        clock.freeze(at(10));
        assert_eq!(clock.true_time(at(11)), None);
        assert_eq!(clock.true_time(at(10)), Some(at(10)));
        clock.thaw(at(50));
        assert_eq!(clock.true_time(at(11)), Some(at(51)));
    }

    #[test]
    fn a_restart_begins_at_zero_and_the_date_goes_on() {
        let mut clock = drifting(0);
        clock.restart(at(SECOND));
        assert_eq!(clock.monotone(at(SECOND + 3)), at(3));
        assert_eq!(clock.wall(at(SECOND + 3)).nanos, 1_000_000_003 - 5);
    }
}
