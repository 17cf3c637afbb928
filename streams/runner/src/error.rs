//! Why a stream does not start or cannot go on.

use holm_connect::{HeaderError, SinkError, SourceError};
use holm_durable::{CheckedError, LogError, RecordError};
use holm_engine::Full;
use holm_lanes::LoadError;
use holm_machine::DiskError;
use thiserror::Error;

/// Why a stream does not start or cannot go on.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum RunnerError {
    /// The log refused.
    #[error("log: {0}")]
    Log(#[from] LogError),
    /// A snapshot or a description could not be read.
    #[error(transparent)]
    Checked(#[from] CheckedError),
    /// The disk refused.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// A source failed.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// A sink failed.
    #[error(transparent)]
    Sink(#[from] SinkError),
    /// A source has no column that is needed.
    #[error("{source_name}: {source}")]
    Header {
        /// Which source.
        source_name: String,
        /// What it lacks.
        source: HeaderError,
    },
    /// A record of the log says nothing.
    #[error("record {sequence} of the log: {source}")]
    Record {
        /// Its number.
        sequence: u64,
        /// What is wrong.
        source: RecordError,
    },
    /// Saved state cannot be read.
    #[error("{name}: {source}")]
    State {
        /// The file.
        name: String,
        /// What is wrong.
        source: LoadError,
    },
    /// More rows wait than may.
    #[error(transparent)]
    Full(#[from] Full),
    /// It will not be done.
    #[error("{0}")]
    Refused(String),
    /// It was told to stop before it had come back.
    #[error("stopped before it had recovered")]
    Stopped,
}
