//! The node's monotone clock: the one place where a replica's time comes from.

use std::time::{Duration, Instant};

use holm_base::Time;

/// A clock that starts at [`Time::ZERO`] and never goes back, whatever the wall clock does.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: Instant,
}

impl Clock {
    /// A clock that starts now.
    #[must_use]
    pub fn start() -> Self {
        Self {
            origin: Instant::now(),
        }
    }

    /// The time since the start. Cost: one vDSO call, some 25 ns.
    #[must_use]
    pub fn now(&self) -> Time {
        Time::ZERO + self.origin.elapsed()
    }

    /// How long to wait from now until `at`; zero if that has passed.
    #[must_use]
    pub fn until(&self, at: Time) -> Duration {
        at.since(self.now())
    }
}
