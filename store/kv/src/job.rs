//! Work that is done beside the engine: a job carries all it needs and gives back what came
//! of it.

use crate::checkpoint::Checkpoint;
use crate::clean::Clean;
use crate::error::StoreError;
use crate::flush::{Flush, Flushed};
use crate::free::Free;
use crate::snapshot::{self, Task};

/// What kind of work a job is, for a log line and for metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum JobKind {
    /// Writes frames and makes them durable.
    Flush,
    /// Writes a part of the index.
    Checkpoint,
    /// Copies a part of what is alive out of old segments.
    Clean,
    /// Gives back a part of a file that is not needed any more.
    Free,
    /// A part of giving or taking a snapshot.
    Snapshot,
}

/// A bounded piece of work for the background thread: at most a few MiB of reading and
/// writing and two or three syncs. Blocks while it runs.
#[derive(Debug)]
pub struct Job {
    work: Work,
    /// Which of the stores that a keyspace has had this belongs to.
    pub(crate) era: u32,
}

#[derive(Debug)]
pub(crate) enum Work {
    Flush(Box<Flush>),
    Checkpoint(Box<Checkpoint>),
    Clean(Box<Clean>),
    Free(Box<Free>),
    Snapshot(Task),
}

/// What came of a [`Job`]. Give it to [`crate::Store::finish`].
#[derive(Debug)]
pub struct JobDone {
    pub(crate) done: Done,
    pub(crate) era: u32,
}

#[derive(Debug)]
pub(crate) enum Done {
    Flush(Box<Flushed>),
    Checkpoint(Box<Checkpoint>, Result<(), StoreError>),
    Clean(Box<Clean>, Result<(), StoreError>),
    Free(Box<Free>, Result<(), StoreError>),
    Snapshot(snapshot::Done),
}

impl Job {
    pub(crate) const fn new(work: Work) -> Self {
        Self { work, era: 0 }
    }

    /// A piece of a snapshot's work, to be run like any other. See [`JobDone::snapshot`].
    #[must_use]
    pub const fn snapshot(task: Task) -> Self {
        Self::new(Work::Snapshot(task))
    }

    /// What kind of work this is.
    #[must_use]
    pub const fn kind(&self) -> JobKind {
        match &self.work {
            Work::Flush(_) => JobKind::Flush,
            Work::Checkpoint(_) => JobKind::Checkpoint,
            Work::Clean(_) => JobKind::Clean,
            Work::Free(_) => JobKind::Free,
            Work::Snapshot(_) => JobKind::Snapshot,
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
            Work::Free(mut free) => {
                let result = free.run().map_err(|source| StoreError::Disk {
                    attempted: "give back a file's space".to_owned(),
                    source,
                });
                Done::Free(free, result)
            }
            Work::Snapshot(task) => Done::Snapshot(task.run()),
        };
        let era = self.era;
        JobDone { done, era }
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
            Done::Free(..) => JobKind::Free,
            Done::Snapshot(_) => JobKind::Snapshot,
        }
    }

    /// What came of a snapshot's work.
    ///
    /// # Errors
    ///
    /// Itself, if it is of a store's own work: [`crate::Keyspace::finish`] takes that.
    pub fn snapshot(self) -> Result<snapshot::Done, Self> {
        match self.done {
            Done::Snapshot(done) => Ok(done),
            done @ (Done::Flush(_) | Done::Checkpoint(..) | Done::Clean(..) | Done::Free(..)) => {
                Err(Self {
                    done,
                    era: self.era,
                })
            }
        }
    }
}
