//! Work that is done beside the engine: a job carries all it needs and gives back what came
//! of it.

use crate::checkpoint::Checkpoint;
use crate::clean::Clean;
use crate::error::StoreError;
use crate::flush::{Flush, Flushed};

/// What kind of work a job is, for a log line and for metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum JobKind {
    /// Writes frames and makes them durable.
    Flush,
    /// Writes a part of the index; removes files that are not needed any more at the end.
    Checkpoint,
    /// Copies a part of what is alive out of old segments.
    Clean,
}

/// A bounded piece of work for the background thread: at most a few MiB of reading and
/// writing and two or three syncs. Blocks while it runs.
#[derive(Debug)]
pub struct Job {
    pub(crate) work: Work,
}

#[derive(Debug)]
pub(crate) enum Work {
    Flush(Box<Flush>),
    Checkpoint(Box<Checkpoint>),
    Clean(Box<Clean>),
}

/// What came of a [`Job`]. Give it to [`crate::Store::finish`].
#[derive(Debug)]
pub struct JobDone {
    pub(crate) done: Done,
}

#[derive(Debug)]
pub(crate) enum Done {
    Flush(Box<Flushed>),
    Checkpoint(Box<Checkpoint>, Result<(), StoreError>),
    Clean(Box<Clean>, Result<(), StoreError>),
}

impl Job {
    /// What kind of work this is.
    #[must_use]
    pub const fn kind(&self) -> JobKind {
        match &self.work {
            Work::Flush(_) => JobKind::Flush,
            Work::Checkpoint(_) => JobKind::Checkpoint,
            Work::Clean(_) => JobKind::Clean,
        }
    }

    /// Does the work. Errors travel inside the answer.
    #[must_use]
    pub fn run(self) -> JobDone {
        let done = match self.work {
            Work::Flush(flush) => Done::Flush(Box::new(flush.run())),
            Work::Checkpoint(mut checkpoint) => {
                let result = checkpoint.run().map_err(|source| StoreError::Disk {
                    attempted: "write a checkpoint".to_owned(),
                    source,
                });
                Done::Checkpoint(checkpoint, result)
            }
            Work::Clean(mut clean) => {
                let result = clean.run().map_err(|error| match clean.abandon() {
                    Ok(()) => error,
                    Err(source) => StoreError::Disk {
                        attempted: "remove an unfinished segment".to_owned(),
                        source,
                    },
                });
                Done::Clean(clean, result)
            }
        };
        JobDone { done }
    }
}

impl JobDone {
    /// What kind of work this was.
    #[must_use]
    pub const fn kind(&self) -> JobKind {
        match &self.done {
            Done::Flush(_) => JobKind::Flush,
            Done::Checkpoint(..) => JobKind::Checkpoint,
            Done::Clean(..) => JobKind::Clean,
        }
    }
}
