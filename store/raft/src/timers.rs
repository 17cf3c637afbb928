//! All that happens because time passes: one enum, one table.

use holm_base::Time;

/// What may fall due. They fire in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Timer {
    /// A follower or candidate waited long enough.
    Election,
    /// A leader speaks, and looks whether it is heard.
    Heartbeat,
    /// Commands that got no answer go out again.
    Retry,
    /// Commands have waited too long.
    GiveUp,
    /// Read probes that got no answer go out again.
    Probe,
    /// Chunks are asked for, or asked for again.
    Chunk,
}

impl Timer {
    const ALL: [Self; 6] = [
        Self::Election,
        Self::Heartbeat,
        Self::Retry,
        Self::GiveUp,
        Self::Probe,
        Self::Chunk,
    ];

    const fn index(self) -> usize {
        match self {
            Self::Election => 0,
            Self::Heartbeat => 1,
            Self::Retry => 2,
            Self::GiveUp => 3,
            Self::Probe => 4,
            Self::Chunk => 5,
        }
    }
}

/// When each timer falls due, if it is set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Timers {
    due: [Option<Time>; 6],
}

impl Timers {
    pub(crate) const fn set(&mut self, timer: Timer, at: Time) {
        self.due[timer.index()] = Some(at);
    }

    /// Sets a timer, unless it is due before that anyway.
    pub(crate) fn set_sooner(&mut self, timer: Timer, at: Time) {
        let due = &mut self.due[timer.index()];
        *due = Some(due.map_or(at, |before| before.min(at)));
    }

    pub(crate) const fn clear(&mut self, timer: Timer) {
        self.due[timer.index()] = None;
    }

    pub(crate) const fn is_set(&self, timer: Timer) -> bool {
        self.due[timer.index()].is_some()
    }

    /// The earliest deadline.
    pub(crate) fn next(&self) -> Option<Time> {
        self.due.iter().flatten().min().copied()
    }

    /// Takes the first due timer in table order, so that a timer set again for now waits.
    pub(crate) fn take_due(&mut self, now: Time, from: usize) -> Option<(usize, Timer)> {
        for timer in Timer::ALL.into_iter().skip(from) {
            let due = &mut self.due[timer.index()];
            if due.is_some_and(|at| at <= now) {
                *due = None;
                return Some((timer.index() + 1, timer));
            }
        }
        None
    }
}
