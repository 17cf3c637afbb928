//! A stream between its ends: which batch runs next, what each end is given, and when sources wait.
//!
//! Nothing here waits, and what the time is it is told: whoever has it gives it what the ends report and does what it
//! hands out, with threads or in virtual time.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use holm_base::{Time, WriteId};
use holm_connect::Position;

use crate::error::RunnerError;
use crate::job::Settings;
use crate::keeper::{Arrived, Commit, Filed, Keeper, Save, wide};
use crate::pace::{Pace, Redo};
use crate::silence::Silence;

/// Sources wait while a crash would cost so many times what state is saved for: then the disk or a
/// sink is behind, and recovery would grow with it.
const REDO: u32 = 3;
/// How often a full log is tried again.
const FULL_RETRY: Duration = Duration::from_millis(500);

/// What a source gave and the keeper has not taken: its bytes, and how long it took to read.
type Waiting = (Arrived, usize, Duration);

/// A stream, what its sources gave, and what its ends are doing.
#[derive(Debug)]
pub struct Flow {
    keeper: Keeper,
    settings: Settings,
    /// For each source what it gave and the keeper has not taken.
    taken: Vec<VecDeque<Waiting>>,
    is_idle: Vec<bool>,
    silence: Silence,
    is_flushing: bool,
    /// What found the log full, and when it is tried again.
    unflushed: Option<(Vec<Arc<Filed>>, WriteId, Time)>,
    is_putting: Vec<bool>,
    /// Bytes of batches that are not yet durable.
    undurable: usize,
    flushing: usize,
    log_bytes: u64,
    pace: Pace,
    redo: Redo,
}

/// What is to be done outside.
#[derive(Debug, Default)]
pub struct Given {
    /// Records to append and sync, and the write that they end with.
    pub append: Option<(Vec<Arc<Filed>>, WriteId)>,
    /// Rows to put, each with its sink.
    pub commits: Vec<(usize, Commit)>,
    /// Sources that are to hear how far they are safe.
    pub acknowledged: Vec<(usize, Position)>,
    /// State to save.
    pub save: Option<Save>,
    /// The first record that is needed.
    pub truncate: Option<u64>,
    /// Snapshots that are not.
    pub forget: Vec<String>,
}

impl Flow {
    /// A stream that has come back, with so many bytes of log. What coming back took would be done
    /// again by the next crash.
    #[must_use]
    pub fn new(keeper: Keeper, settings: Settings, log_bytes: u64, again: Duration) -> Self {
        let (sources, sinks) = (keeper.sources(), keeper.sinks.len());
        let mut flow = Self {
            settings,
            taken: (0..sources).map(|_| VecDeque::new()).collect(),
            is_idle: vec![false; sources],
            silence: Silence::new(keeper.idle.clone()),
            is_flushing: false,
            unflushed: None,
            is_putting: vec![false; sinks],
            undurable: 0,
            flushing: 0,
            log_bytes,
            pace: Pace::new(settings.replay_max),
            redo: Redo::default(),
            keeper,
        };
        flow.worked(again);
        flow
    }

    /// The stream.
    #[must_use]
    pub const fn keeper(&self) -> &Keeper {
        &self.keeper
    }

    /// The stream, to take from it what it has to say.
    pub const fn keeper_mut(&mut self) -> &mut Keeper {
        &mut self.keeper
    }

    /// Whether records are being appended.
    #[must_use]
    pub const fn is_flushing(&self) -> bool {
        self.is_flushing
    }

    /// Bytes of the log.
    #[must_use]
    pub const fn log_bytes(&self) -> u64 {
        self.log_bytes
    }

    /// A source gave rows of so many bytes, which took so long to understand; or has ended.
    pub fn arrived(&mut self, source: usize, arrived: Arrived, bytes: usize, took: Duration) {
        self.is_idle[source] = false;
        self.silence.rows(source);
        self.taken[source].push_back((arrived, bytes, took));
    }

    /// A source has nothing for now.
    pub fn idle(&mut self, source: usize) {
        self.is_idle[source] = true;
    }

    /// A source has nothing, or cannot be reached; if that has been so for long, the others no
    /// longer wait for it.
    ///
    /// # Errors
    ///
    /// If the engine holds more rows than it may.
    pub fn silent(&mut self, now: Time, source: usize) -> Result<(), RunnerError> {
        let is_open = !self.keeper.is_over(source) && self.taken[source].is_empty();
        if self.silence.nothing(now, source) && is_open && !self.keeper.is_idle(source) {
            self.keeper.take(now, source, Arrived::Idle)?;
        }
        Ok(())
    }

    /// Nobody asks sources for now.
    pub fn paused(&mut self) {
        self.silence.forget();
    }

    /// Whether all that a source gave was taken.
    #[must_use]
    pub fn is_dry(&self, source: usize) -> bool {
        self.taken[source].is_empty()
    }

    /// Runs the next batch: of several sources that of the one with the lowest watermark. How long it took to read it;
    /// none if there is none, or sources have to wait.
    ///
    /// # Errors
    ///
    /// If the engine holds more rows than it may.
    pub fn run_next(&mut self, now: Time) -> Result<Option<Duration>, RunnerError> {
        let is_full = self.keeper.pending() >= wide(self.settings.pending_rows_max);
        if is_full || self.is_too_far() {
            return Ok(None);
        }
        let next = self.next().and_then(|source| {
            let waiting = self.taken[source].pop_front()?;
            Some((source, waiting))
        });
        let Some((source, (arrived, bytes, took))) = next else {
            return Ok(None);
        };
        self.keeper.take(now, source, arrived)?;
        self.undurable += bytes;
        Ok(Some(took))
    }

    /// Batches were read and run for so long.
    pub fn worked(&mut self, work: Duration) {
        self.pace.worked(work);
        self.redo.worked(work);
    }

    /// Whether a crash would have too much to do again, and what is under way will change that.
    fn is_too_far(&mut self) -> bool {
        let redo = self.redo.since(self.keeper.spared());
        redo >= self.settings.replay_max * REDO && self.keeper.is_behind()
    }

    fn next(&self) -> Option<usize> {
        let open = |source: &usize| !self.keeper.is_over(*source);
        let sources = || (0..self.taken.len()).filter(open);
        let lowest = sources().min_by_key(|source| self.keeper.mark(*source))?;
        if !self.taken[lowest].is_empty() {
            return Some(lowest);
        }
        // Behind one that has nothing the others go on.
        let ready = sources().filter(|source| !self.taken[*source].is_empty());
        ready
            .min_by_key(|source| self.keeper.mark(*source))
            .filter(|_| self.is_idle[lowest])
    }

    /// Lets the state be saved if that is due. `clock` says what the time is by then.
    pub fn save_if_due(&mut self, now: Time, clock: &dyn Fn() -> Time) {
        let is_time = self.keeper.wake_at().is_some_and(|at| at <= now);
        if is_time && self.pace.is_due(now, self.log_bytes) {
            let begun = clock();
            if self.keeper.wake(now) {
                self.pace.froze(begun, clock(), self.log_bytes);
                self.redo.froze(self.keeper.records());
            }
        }
    }

    /// What is to be done for each end that waits.
    pub fn hand_out(&mut self, now: Time) -> Given {
        let mut given = Given::default();
        if !self.is_flushing {
            let retried = self.unflushed.take_if(|(_, _, at)| *at <= now);
            given.append = match retried {
                Some((records, write, _)) => Some((records, write)),
                None if self.unflushed.is_some() => None,
                None => {
                    let work = self.keeper.take_records();
                    if work.is_some() {
                        self.flushing = std::mem::take(&mut self.undurable);
                    }
                    work
                }
            };
            self.is_flushing = given.append.is_some();
        }
        for (sink, is_putting) in self.is_putting.iter_mut().enumerate() {
            if !*is_putting && let Some(commit) = self.keeper.take_commit(sink) {
                *is_putting = true;
                given.commits.push((sink, commit));
            }
        }
        given.acknowledged = self.keeper.take_acknowledged();
        given.save = self.keeper.take_save();
        (given.forget, given.truncate) = self.keeper.take_tidying();
        given
    }

    /// What was to be appended is durable, and the log has so many bytes now; how many bytes of rows are no longer held.
    pub fn flushed(&mut self, now: Time, write: WriteId, log_bytes: u64) -> usize {
        self.is_flushing = false;
        self.log_bytes = log_bytes;
        self.keeper.flushed(now, write);
        std::mem::take(&mut self.flushing)
    }

    /// There was no room for what was to be appended.
    pub fn found_full(&mut self, now: Time, records: Vec<Arc<Filed>>, write: WriteId) {
        self.is_flushing = false;
        self.unflushed = Some((records, write, now + FULL_RETRY));
    }

    /// A sink has so many rows.
    pub fn put(&mut self, now: Time, sink: usize, output: u64) {
        self.is_putting[sink] = false;
        self.keeper.committed(now, sink, output);
    }

    /// A snapshot is durable, which took so long.
    pub fn saved(&mut self, now: Time, through: u64, committed: &[u64], took: Duration) {
        self.pace.wrote(took);
        self.keeper.saved(now, through, committed);
    }

    /// Whether all sources have ended, and nothing is left to do.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        let mut sources = 0..self.taken.len();
        let is_over = sources.all(|source| self.keeper.is_over(source));
        is_over && self.keeper.is_settled() && self.unflushed.is_none()
    }
}
