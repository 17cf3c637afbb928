//! What a stream is: its plan, how its input is written, what it may hold.

use std::time::Duration;

use holm_connect::{Format, Sink, Source};
use holm_engine::{Limits, Plan};
use holm_lanes::{Batch, Field};

use crate::error::RunnerError;

/// How the rows of a source are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Input {
    /// The format.
    pub format: Format,
    /// The columns.
    pub fields: Vec<Field>,
    /// Which of them are read.
    pub needed: Vec<bool>,
}

/// A stream that is to run.
#[derive(Clone, Debug)]
pub struct Job {
    /// What is done with the rows.
    pub plan: Plan,
    /// For each source how its rows are written.
    pub inputs: Vec<Input>,
    /// What makes this stream another one than the next: a folder that holds the state of one
    /// description is refused to every other.
    pub description: Vec<u8>,
    /// What the engine may hold.
    pub limits: Limits,
}

/// Both ends of a stream.
#[derive(Debug)]
pub struct Ends {
    /// Where rows come from.
    pub sources: Vec<Box<dyn Source>>,
    /// Where they go.
    pub sinks: Vec<Box<dyn Sink>>,
}

/// Bounds, and how often state is saved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Bytes of rows that were taken and are not yet durable and run.
    pub credit_bytes: usize,
    /// Bytes that are taken at once.
    pub piece_bytes: usize,
    /// Rows that came out and are not yet with a sink; sources pause above.
    pub pending_rows_max: usize,
    /// The least time between snapshots.
    pub snapshot_interval_ms: u64,
    /// What may have to be done again after a crash, as the time that it took; a snapshot is made
    /// before it is more, and earlier where it costs next to nothing.
    pub replay_max: Duration,
    /// The log.
    pub log: holm_durable::Config,
}

impl Default for Settings {
    /// 32 MiB of credit, pieces of 256 KiB, 1 Mi rows that wait, a snapshot for
    /// each 250 ms of work and for no less than that.
    fn default() -> Self {
        Self {
            credit_bytes: 32 << 20,
            piece_bytes: 256 << 10,
            pending_rows_max: 1 << 20,
            snapshot_interval_ms: 250,
            replay_max: Duration::from_millis(250),
            log: holm_durable::Config::default(),
        }
    }
}

/// A row that was set aside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Aside {
    /// The source, and the number of the row; `None` for a result.
    pub row: Option<(usize, u64)>,
    /// Why; `None` for a row that came too late.
    pub why: Option<String>,
}

/// Rows of the tables that a plan looks up, when a stream is made.
pub(crate) type Tables<'a> = &'a mut dyn FnMut() -> Result<Vec<Batch>, RunnerError>;
