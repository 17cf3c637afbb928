//! What is asked of a rehearsal besides its scenario, and who is told how it goes.

use std::num::NonZeroUsize;
use std::time::Duration;

use crate::scenario::Scenario;

/// What is asked of a rehearsal besides its scenario.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The seed of the first run; 1 if none is given. Each further run adds one.
    pub seed: Option<u64>,
    /// Exactly so many runs, instead of what the scenario says.
    pub runs: Option<u64>,
    /// Hunt for a broken promise for so long, whatever the scenario says.
    pub explore: Option<Duration>,
    /// Replay this tape, and nothing else.
    pub tape: Option<Vec<u8>>,
    /// For how long a failure is made smaller; a minute if nothing is said.
    pub shrink: Option<Duration>,
    /// On how many threads runs are made; on one if nothing is said. What comes of it is the same.
    pub jobs: Option<NonZeroUsize>,
    /// Whether a hunt learns from its runs.
    pub feedback: Feedback,
    /// Write down each step of a replay.
    pub steps: bool,
    /// SHA-256 of the program, so that a tape knows who made it.
    pub build: [u8; 32],
    /// Run this with the same seeds, and give ratios.
    pub against: Option<Box<Scenario>>,
}

/// Whether a hunt learns from its runs which orders are new, and tries more like those.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Feedback {
    /// Each run is as its seed and scheduler have it.
    #[default]
    Off,
    /// So too, and what they show is counted.
    Counted,
    /// Runs are made from those that showed something new; one in ten is not.
    On,
}

/// Told how a rehearsal goes. It brings the only clock there is.
pub trait Progress {
    /// How much real time has passed since the beginning.
    fn elapsed(&mut self) -> Duration;

    /// A run begins.
    fn begins(&mut self, _run: u64, _seed: u64) {}

    /// So many runs are done.
    fn ran(&mut self, _done: u64) {}

    /// A failure was found, and is made smaller.
    fn shrinks(&mut self, _runs: u64) {}
}

/// Tells nobody, and has no clock: budgets of time never end, so give a number of runs.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Progress for Silent {
    fn elapsed(&mut self) -> Duration {
        Duration::ZERO
    }
}
