//! What the threads of a stream tell one another.

use std::sync::Arc;
use std::time::Duration;

use holm_base::WriteId;
use holm_connect::{SinkError, SourceError};
use holm_durable::LogError;
use holm_machine::DiskError;

use crate::keeper::{Arrived, Filed, Save};

/// What a thread tells the keeper.
#[derive(Debug)]
pub(crate) enum Mail {
    Look,
    Taken {
        source: usize,
        arrived: Arrived,
        bytes: usize,
        /// How long it took to understand them.
        took: Duration,
    },
    /// A source has nothing for now.
    Idle {
        source: usize,
    },
    /// A source's thread takes no more.
    Gone {
        source: usize,
    },
    SourceFailed(SourceError),
    SourceWaits {
        source: usize,
        why: String,
    },
    Flushed {
        records: Vec<Arc<Filed>>,
        write: WriteId,
        /// Bytes of the log, and of these records.
        ended: Result<(u64, u64), LogError>,
    },
    Put {
        sink: usize,
        output: u64,
        ended: Result<(), SinkError>,
    },
    SinkWaits {
        sink: usize,
        why: String,
    },
    Saved {
        through: u64,
        committed: Vec<u64>,
        /// How long it took to make its bytes and to write them.
        took: Duration,
        /// How many bytes it has.
        ended: Result<u64, DiskError>,
    },
    Truncated(Result<(), LogError>),
}

/// What is to be done with the log.
#[derive(Debug)]
pub(crate) enum LogWork {
    Append(Vec<Arc<Filed>>, WriteId),
    Truncate(u64),
}

/// What is to be done with snapshots.
#[derive(Debug)]
pub(crate) enum FileWork {
    Save(Save),
    Forget(String),
}
