//! Work that is done beside the engine: a job carries all it needs and gives back what came
//! of it.

/// What kind of work a job is, for a log line and for metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum JobKind {
    /// Writes frames and makes them durable.
    Flush,
    /// Writes the index.
    Checkpoint,
    /// Copies what is alive out of old segments.
    Clean,
}

/// A bounded piece of work for the background thread. Blocks while it runs.
#[derive(Debug)]
pub struct Job {
    pub(crate) kind: JobKind,
}

/// What came of a [`Job`]. Give it to [`crate::Store::finish`].
#[derive(Debug)]
pub struct JobDone {
    pub(crate) kind: JobKind,
}

impl Job {
    /// What kind of work this is.
    #[must_use]
    pub const fn kind(&self) -> JobKind {
        self.kind
    }

    /// Does the work. Errors travel inside the answer.
    #[must_use]
    pub fn run(self) -> JobDone {
        JobDone { kind: self.kind }
    }
}

impl JobDone {
    /// What kind of work this was.
    #[must_use]
    pub const fn kind(&self) -> JobKind {
        self.kind
    }
}
