//! The disk of a rehearsed process, of a store's and of a stream's: its room, what is under way on it, and what a crash
//! leaves.
//!
//! What would surprise: a crash may strike in the middle of a write or a job. It is carried out up to a step that the
//! tape chooses, and the power fails there.

use holm_base::{ByteCount, Time};
use holm_virtual::{Place, Storage, Survival, Tape};

const TORN: Place = Place::new("disk.torn");
const JOB: Place = Place::new("disk.job");
const SURVIVAL: Place = Place::new("disk.survival");
/// How many steps of a job a crash may leave, at most.
const JOB_STEPS: u32 = 24;

/// The virtual storage of a process, which each crash replaces.
#[derive(Debug)]
pub(crate) struct Drive {
    storage: Storage,
    is_full: bool,
}

impl Default for Drive {
    fn default() -> Self {
        let storage = Storage::new();
        storage.forget_trace();
        Self {
            storage,
            is_full: false,
        }
    }
}

impl Drive {
    pub(crate) const fn storage(&self) -> &Storage {
        &self.storage
    }

    pub(crate) const fn is_full(&self) -> bool {
        self.is_full
    }

    /// It has no room for more than it holds, or has it again.
    pub(crate) fn set_full(&mut self, is_full: bool) {
        self.is_full = is_full;
        let capacity = if is_full {
            self.storage.used()
        } else {
            ByteCount::new(u64::MAX)
        };
        self.storage.set_capacity(capacity);
    }

    /// All faults end.
    pub(crate) fn heal(&mut self) {
        self.set_full(false);
        self.storage.heal();
    }

    /// Another storage takes the place of this one.
    pub(crate) fn replace(&mut self, storage: Storage) {
        self.storage = storage;
    }

    /// What survives is found.
    pub(crate) fn reopen(&mut self, survival: Survival) {
        self.storage = self.storage.reopen(survival);
        self.set_full(self.is_full);
    }

    /// What the tape lets survive a crash is found.
    pub(crate) fn survive(&mut self, tape: &mut Tape) {
        let survival = match tape.choose(SURVIVAL, 1 << 10) {
            0 => Survival::Keep,
            seed if seed % 4 == 0 => Survival::Drop,
            seed if seed % 4 == 1 => Survival::Torn {
                seed: u64::from(seed),
            },
            seed => Survival::Reordered {
                seed: u64::from(seed),
            },
        };
        self.reopen(survival);
    }

    /// A write begins in which the power may fail.
    pub(crate) fn tear(&self, tape: &mut Tape) {
        self.end_within(tape.choose(TORN, 3));
    }

    /// A job begins in which the power fails; whether it had begun at all.
    pub(crate) fn interrupt(&self, tape: &mut Tape) -> bool {
        let steps = tape.choose(JOB, JOB_STEPS);
        self.end_within(steps);
        steps > 0
    }

    /// The power fails during this step from now on; not at all, if 0.
    fn end_within(&self, steps: u32) {
        if steps > 0 && !self.storage.has_crashed() {
            let at = self.storage.steps() + u64::from(steps);
            self.storage.crash_at(at);
        }
    }
}

/// What is done beside the log, and when it ends.
#[derive(Debug)]
pub(crate) struct Jobs<J> {
    under_way: Vec<(Time, J)>,
}

impl<J> Default for Jobs<J> {
    fn default() -> Self {
        Self {
            under_way: Vec::new(),
        }
    }
}

impl<J> Jobs<J> {
    /// One begins, and will end then.
    pub(crate) fn begin(&mut self, ends: Time, job: J) {
        self.under_way.push((ends, job));
    }

    /// When the next one ends.
    pub(crate) fn ends(&self) -> Option<Time> {
        self.under_way.iter().map(|(ends, _)| *ends).min()
    }

    /// The one that ended first by now.
    pub(crate) fn done(&mut self, now: Time) -> Option<J> {
        let ends = self.ends().filter(|ends| *ends <= now)?;
        let at = self.under_way.iter().position(|(own, _)| *own == ends)?;
        Some(self.under_way.remove(at).1)
    }

    /// All of them, at a crash.
    pub(crate) fn take(&mut self) -> impl Iterator<Item = J> + use<J> {
        std::mem::take(&mut self.under_way)
            .into_iter()
            .map(|(_, job)| job)
    }
}
