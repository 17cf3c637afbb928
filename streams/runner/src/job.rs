//! What a stream is: its plan, how its input is written, what it may hold.

use std::time::Duration;

use holm_connect::{Format, Sink};
use holm_engine::{Class, Limits, Plan, Several, Source};
use holm_lanes::{Batch, Field};

use crate::error::RunnerError;
use crate::turns::Turns;

/// How the rows of a source are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Input {
    /// The format.
    pub format: Format,
    /// The columns.
    pub fields: Vec<Field>,
    /// Which of them are read.
    pub needed: Vec<bool>,
    /// Whether rows that cannot be had again are logged as they came, whatever that takes.
    pub keeps_all: bool,
    /// After how much silence it is left out of watermarks; never, if nothing is said.
    pub idle: Option<Duration>,
    /// For each column what its connector calls it, if it stands beside the rows.
    pub beside: Vec<Option<String>>,
}

/// A stream that is to run.
#[derive(Clone, Debug)]
pub struct Job {
    /// What is done with the rows: one query or several, over the same sources.
    pub plans: Vec<Plan>,
    /// For each source of all queries how its rows are written; [`sources`](Self::sources) has
    /// their order.
    pub inputs: Vec<Input>,
    /// What makes this stream another one than the next: a folder that holds the state of one
    /// description is refused to every other.
    pub description: Vec<u8>,
    /// What the engine may hold.
    pub limits: Limits,
    /// Whom it takes turns with, and how urgent it is; without it never waits.
    pub turns: Option<(Turns, Class)>,
}

impl Job {
    /// The sources of all queries, each once.
    #[must_use]
    pub fn sources(&self) -> Vec<Source> {
        holm_engine::sources(&self.plans)
    }

    /// For each sink the query that it is of: one query may have several sinks, and each of several
    /// queries has one.
    pub(crate) fn sinks(&self, count: usize) -> Vec<usize> {
        match self.plans.len() {
            1 => vec![0; count],
            queries => {
                assert_eq!(queries, count, "each of several queries has a sink");
                (0..count).collect()
            }
        }
    }

    /// The queries, nothing seen yet, with the rows of their tables: those of the first come first.
    pub(crate) fn run(&self, tables: &[Batch]) -> Several {
        let mut rest = tables;
        let mut queries = Vec::new();
        for plan in &self.plans {
            let (own, others) = rest.split_at(plan.tables());
            queries.push((plan, own));
            rest = others;
        }
        Several::new(&queries, self.limits)
    }

    /// What tells plans apart.
    pub(crate) fn digest(&self) -> u32 {
        let texts: String = self.plans.iter().map(|plan| format!("{plan:?}")).collect();
        crc32c::crc32c(texts.as_bytes())
    }
}

/// Both ends of a stream.
#[derive(Debug)]
pub struct Ends {
    /// Where rows come from.
    pub sources: Vec<Box<dyn holm_connect::Source>>,
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
    /// About how many bytes of state its queries may keep; with more it stops, and says so.
    pub state_bytes_max: usize,
    /// The least time between snapshots.
    pub snapshot_interval_ms: u64,
    /// What may have to be done again after a crash, as the time that it took; a snapshot is made
    /// before it is more, and earlier where it costs next to nothing.
    pub replay_max: Duration,
    /// The log.
    pub log: holm_durable::Config,
}

impl Default for Settings {
    /// 32 MiB of credit, pieces of 256 KiB, 1 Mi rows that wait, 4 GiB of state, a snapshot for
    /// each 250 ms of work and for no less than that.
    fn default() -> Self {
        Self {
            credit_bytes: 32 << 20,
            piece_bytes: 256 << 10,
            pending_rows_max: 1 << 20,
            state_bytes_max: 4 << 30,
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
