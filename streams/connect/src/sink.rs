//! Where rows go, as the runner of a query sees it: a port that commits them by number.
//!
//! Rows that leave a query are numbered from 0 without gaps, and numbered alike after a restart.
//! A sink that keeps the last number with the rows is therefore exactly once: it says how far it
//! is, and what it has is not sent again.

use std::fmt;
use std::time::Duration;

use holm_lanes::Batch;
use thiserror::Error;

/// What a sink promises across restarts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guarantee {
    /// Each row is there once: the sink keeps rows and number together.
    ExactlyOnce,
    /// A row may be there twice after a restart.
    AtLeastOnce,
}

/// Why rows were not committed.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum SinkError {
    /// These rows will never be taken: they are to be set aside and counted, and the next ones
    /// may be put.
    #[error("{sink}: {reason}")]
    Rejected {
        /// Which sink.
        sink: String,
        /// Why.
        reason: String,
    },
    /// Not now: the same rows are to be put again.
    #[error("{sink}: {reason}")]
    Unavailable {
        /// Which sink.
        sink: String,
        /// Why.
        reason: String,
        /// When to put them again.
        retry: Duration,
    },
    /// The sink is not what it was, or what it is written to failed: the stream stops.
    #[error("{sink}: {reason}")]
    Failed {
        /// Which sink.
        sink: String,
        /// Why, and what can be done.
        reason: String,
    },
}

impl SinkError {
    /// What stops the stream.
    #[must_use]
    pub fn failed(sink: &str, reason: impl fmt::Display) -> Self {
        Self::Failed {
            sink: sink.to_owned(),
            reason: reason.to_string(),
        }
    }
}

/// Where rows go.
///
/// One thread calls it: `begin` once, then `put` in the order of numbers.
pub trait Sink: Send + fmt::Debug {
    /// Its name, for messages.
    fn name(&self) -> &str;

    /// What it promises.
    fn guarantee(&self) -> Guarantee;

    /// Makes it ready after a start: what was written and not committed is gone afterwards. Gives
    /// the number of the last row that it committed; `None` if there is none, or if it keeps no
    /// numbers.
    ///
    /// # Errors
    ///
    /// As [`SinkError`] says.
    fn begin(&mut self) -> Result<Option<u64>, SinkError>;

    /// Commits all rows of a batch or none; the first has this number. Rows that it has already
    /// are passed over, so a repetition is harmless.
    ///
    /// # Errors
    ///
    /// As [`SinkError`] says.
    fn put(&mut self, first: u64, rows: &Batch) -> Result<(), SinkError>;
}

/// The rows of a batch that a sink lacks, which wants row `next`, and how many it has.
///
/// # Errors
///
/// If rows are missing between what it has and what it is given: that is a bug of the caller's,
/// or a sink that lost rows.
pub(crate) fn missing(
    sink: &str,
    next: u64,
    first: u64,
    rows: &Batch,
) -> Result<Option<Batch>, SinkError> {
    if first > next {
        return Err(SinkError::failed(
            sink,
            format!("it wants row {next} and is given row {first}; rows between them are lost"),
        ));
    }
    let has = usize::try_from(next - first).unwrap_or(usize::MAX);
    if has >= rows.rows {
        return Ok(None);
    }
    if has == 0 {
        return Ok(Some(rows.clone()));
    }
    let lacking: Vec<u32> = (has..rows.rows).map(holm_lanes::number).collect();
    Ok(Some(rows.take(&lacking)))
}
