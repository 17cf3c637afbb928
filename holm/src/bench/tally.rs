//! What a run has measured, and the clock it was measured with.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::session::Failure;

/// Nanoseconds since the run began.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    start: Instant,
}

impl Clock {
    /// A clock that stands at 0.
    pub(crate) fn start() -> Self {
        Self {
            start: Instant::now(),
        }
    }

    /// The time now.
    pub(crate) fn now(self) -> u64 {
        in_nanos(self.start.elapsed())
    }
}

/// A duration in nanoseconds; 584 years are the end.
pub(crate) fn in_nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Counts and latencies of one thread, or of all together.
#[derive(Debug)]
pub(crate) struct Tally {
    /// Latencies in nanoseconds.
    pub(crate) latency: Histogram<u64>,
    /// Answers within the measured time, or events for watches.
    pub(crate) completed: u64,
    /// Answers that were errors, at any time.
    pub(crate) failed: u64,
    /// Requests that never had an answer.
    pub(crate) unanswered: u64,
    /// Payload of the answers within the measured time.
    pub(crate) bytes: u64,
    /// The first error.
    pub(crate) first_failure: Option<Failure>,
}

/// Latencies above this are recorded as this.
const LATENCY_NANOS_MAX: u64 = 600_000_000_000;

impl Tally {
    /// Nothing measured yet.
    pub(crate) fn new() -> Self {
        let latency = Histogram::new_with_bounds(1, LATENCY_NANOS_MAX, 3)
            .expect("the bounds and three digits are within what a histogram takes");
        let (completed, failed, unanswered, bytes) = (0, 0, 0, 0);
        Self {
            latency,
            completed,
            failed,
            unanswered,
            bytes,
            first_failure: None,
        }
    }

    /// Records one latency.
    pub(crate) fn record(&mut self, nanos: u64) {
        self.latency.saturating_record(nanos);
    }

    /// Counts an error and keeps the first.
    pub(crate) fn fail(&mut self, failure: Failure) {
        self.failed += 1;
        self.first_failure.get_or_insert(failure);
    }

    /// Adds another thread's tally.
    pub(crate) fn merge(&mut self, other: Self) {
        self.latency
            .add(&other.latency)
            .expect("both histograms have the same bounds");
        self.completed += other.completed;
        self.failed += other.failed;
        self.unanswered += other.unanswered;
        self.bytes += other.bytes;
        if self.first_failure.is_none() {
            self.first_failure = other.first_failure;
        }
    }
}
