//! What goes in and what comes out.

use alloc::vec::Vec;

use holm_base::WriteId;

/// The most queries of a stream.
pub const QUERIES_MAX: usize = 10;

/// How many outputs there are of each query of a stream, from the first of them on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Outputs([u64; QUERIES_MAX]);

impl Outputs {
    /// None of any query.
    pub const NONE: Self = Self([0; QUERIES_MAX]);

    /// So many of each query.
    ///
    /// # Panics
    ///
    /// If there are more queries than may be.
    #[must_use]
    pub fn of(each: impl IntoIterator<Item = u64>) -> Self {
        let mut all = Self::NONE;
        for (query, count) in each.into_iter().enumerate() {
            all.0[query] = count;
        }
        all
    }

    /// How many a query has.
    #[must_use]
    pub const fn at(&self, query: usize) -> u64 {
        self.0.as_slice()[query]
    }

    /// Says how many a query has.
    pub fn set(&mut self, query: usize, count: u64) {
        self.0[query] = count;
    }

    /// Whether no query has more than in the other.
    #[must_use]
    pub fn is_within(&self, other: &Self) -> bool {
        self.0.iter().zip(&other.0).all(|(own, most)| own <= most)
    }
}

/// How a stream is kept.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Config {
    /// For each sink the query whose outputs it gets.
    pub sinks: Vec<usize>,
    /// The least time between two snapshots.
    pub snapshot_interval_ms: u64,
}

/// A snapshot: the state after a record of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Snapshot {
    /// The last record whose batch is in it.
    pub through: u64,
    /// How many outputs there were by then.
    pub outputs: Outputs,
}

/// What the disk held when it was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Found {
    /// The first record that is still there; 0 if there is none.
    pub first: u64,
    /// The last one; 0 if there is none.
    pub last: u64,
    /// The highest epoch.
    pub epoch: u64,
    /// The snapshots that have a file, oldest first.
    pub snapshots: Vec<Snapshot>,
}

/// Everything that can happen.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Input {
    /// The disk was opened; comes first, once.
    Opened(Found),
    /// A sink has all outputs up to this one.
    Answered {
        /// Which sink.
        sink: usize,
        /// The last output that it committed; 0 for none.
        output: u64,
    },
    /// The snapshot that was wanted is loaded, or there is a fresh start as wanted.
    Loaded,
    /// The snapshot that was wanted cannot be read.
    Damaged,
    /// A source gave a batch.
    Received {
        /// Which source.
        source: usize,
    },
    /// A batch ran.
    Assembled {
        /// Its record.
        sequence: u64,
        /// How many outputs there are by now.
        outputs: Outputs,
    },
    /// All writes up to this one are durable.
    Durable {
        /// The last of them.
        write: WriteId,
    },
    /// A sink has committed.
    Committed {
        /// Which sink.
        sink: usize,
        /// The last output that it has.
        output: u64,
    },
    /// The snapshot that was wanted is durable.
    Snapshotted {
        /// The last record in it.
        through: u64,
    },
    /// The time has come.
    Wake,
}

/// A record that the machine numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Record {
    /// The log was opened, in this epoch.
    Open {
        /// The epoch.
        epoch: u64,
    },
    /// A batch of a source.
    Batch {
        /// Which source.
        source: usize,
    },
}

/// Why it cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Refusal {
    /// A sink lacks outputs that no snapshot and no record can bring back.
    SinkBehind {
        /// Which sink.
        sink: usize,
        /// What it has.
        output: u64,
    },
    /// A sink has outputs that the log knows nothing of: it is another stream's, or the log is.
    SinkAhead {
        /// Which sink.
        sink: usize,
        /// What it has.
        output: u64,
        /// What there is.
        known: u64,
    },
    /// A snapshot is newer than the log: the end of the log is lost.
    LogLost {
        /// The last record in the snapshot.
        through: u64,
        /// The last record in the log.
        last: u64,
    },
    /// No snapshot can be read, and the log does not go back to its beginning.
    NoSnapshot {
        /// The first record that is there.
        first: u64,
    },
}

/// Everything that is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effect {
    /// Make a record durable, after all before it.
    Persist {
        /// The number of the write, dense in a run.
        write: WriteId,
        /// The number of the record, dense in a log.
        sequence: u64,
        /// What it is.
        record: Record,
    },
    /// Ask a sink what it has.
    Ask {
        /// Which sink.
        sink: usize,
        /// Not before this write is durable.
        after: Option<WriteId>,
    },
    /// Load a snapshot.
    Load {
        /// The last record in it; `None` for a fresh start.
        through: Option<u64>,
    },
    /// Run the batch of a record.
    Assemble {
        /// The record.
        sequence: u64,
    },
    /// Open the sources where the log ends: it has been replayed.
    Open,
    /// Tell a source that a batch is safe.
    Acknowledge {
        /// Which source.
        source: usize,
        /// The record.
        sequence: u64,
        /// Not before this write is durable.
        after: Option<WriteId>,
    },
    /// Give outputs to a sink.
    Commit {
        /// Which sink.
        sink: usize,
        /// The first output.
        first: u64,
        /// The last one.
        last: u64,
        /// Not before this write is durable.
        after: Option<WriteId>,
    },
    /// Save the state, which is that after a record.
    Snapshot {
        /// The record, and the outputs by then.
        of: Snapshot,
        /// Not to be found on disk before this write is durable.
        after: Option<WriteId>,
    },
    /// Records below this one are not needed.
    Truncate {
        /// The first that is.
        below: u64,
    },
    /// A snapshot is not needed.
    Forget {
        /// The last record in it.
        through: u64,
    },
    /// It cannot go on.
    Refuse(Refusal),
}

impl Effect {
    /// The write that it waits for.
    #[must_use]
    pub const fn after(&self) -> Option<WriteId> {
        match self {
            Self::Ask { after, .. }
            | Self::Acknowledge { after, .. }
            | Self::Commit { after, .. }
            | Self::Snapshot { after, .. } => *after,
            Self::Persist { .. }
            | Self::Load { .. }
            | Self::Assemble { .. }
            | Self::Open
            | Self::Truncate { .. }
            | Self::Forget { .. }
            | Self::Refuse(_) => None,
        }
    }
}
