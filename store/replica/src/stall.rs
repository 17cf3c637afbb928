//! How long the log has owed an answer.
//!
//! What would surprise: writes that were asked for within a hundredth of a second count as one,
//! as old as the oldest of them. So the queue stays short, and a stall is seen a little early,
//! never late.

use std::collections::VecDeque;
use std::time::Duration;

use holm_base::{Time, WriteId};

/// How close in time writes must be to count as one.
const GRAIN: Duration = Duration::from_millis(10);

/// The log writes that are not durable, oldest first. Bounded by what the sequencer lets wait.
#[derive(Debug, Default)]
pub(crate) struct Outstanding {
    writes: VecDeque<(WriteId, Time)>,
}

impl Outstanding {
    pub(crate) const fn new() -> Self {
        Self {
            writes: VecDeque::new(),
        }
    }

    /// A write was asked for.
    pub(crate) fn asked(&mut self, now: Time, write: WriteId) {
        match self.writes.back_mut() {
            Some((last, at)) if *at + GRAIN > now => *last = write,
            Some(_) | None => self.writes.push_back((write, now)),
        }
    }

    /// All writes up to this one are durable.
    pub(crate) fn durable(&mut self, through: WriteId) {
        while self.writes.front().is_some_and(|(it, _)| *it <= through) {
            self.writes.pop_front();
        }
    }

    /// Whether some write has been outstanding for longer than `limit`.
    pub(crate) fn is_older_than(&self, limit: Duration, now: Time) -> bool {
        let oldest = self.writes.front();
        oldest.is_some_and(|(_, at)| *at + limit < now)
    }
}
