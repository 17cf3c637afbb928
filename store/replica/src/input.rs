//! What can happen to a replica, and what it can ask for.

use bytes::Bytes;
use holm_base::{Op, RequestId, Revision, WriteId};
use holm_kv::outcome::{Applied, LeaseView};
use holm_kv::{Job, JobDone, Refusal, StreamId};
use holm_sequencer::{Event, Record};

/// Everything that can happen to a replica.
#[derive(Debug)]
pub enum Input {
    /// The node has started. Comes first, and once.
    Start,
    /// A client wants a command applied.
    Propose {
        /// Who waits for the answer.
        request: RequestId,
        /// The encoded proposal.
        body: Bytes,
        /// Whether it takes space, and so is refused while space is short.
        takes_space: bool,
    },
    /// All writes up to and including this one survive a crash.
    Durable {
        /// The newest safe write.
        through: WriteId,
    },
    /// A client keeps a lease alive.
    LeaseRenew {
        /// Who waits for the answer.
        request: RequestId,
        /// The lease.
        lease: i64,
    },
    /// A client asks how long a lease has to live.
    LeaseTimeToLive {
        /// Who waits for the answer.
        request: RequestId,
        /// The lease.
        lease: i64,
        /// Whether its keys are wanted.
        with_keys: bool,
    },
    /// A client asks for all leases.
    Leases {
        /// Who waits for the answer.
        request: RequestId,
    },
    /// A client waits for a compaction's sweep to have passed a revision.
    Swept {
        /// Who waits for the answer.
        request: RequestId,
        /// The revision that was compacted to.
        revision: Revision,
    },
    /// A job that was asked for is done.
    WorkDone(JobDone),
    /// Time has passed.
    Wake,
}

/// Everything a replica can ask for.
#[derive(Debug)]
pub enum Effect {
    /// Make this record durable, behind all earlier ones, and say so.
    Persist {
        /// The number to report it by.
        write: WriteId,
        /// What to keep.
        record: Record,
    },
    /// Answer a request.
    Answer {
        /// Which one.
        request: RequestId,
        /// With what.
        answer: Answer,
    },
    /// These watch streams have something to send.
    WakeStreams(Vec<StreamId>),
    /// Run this off the engine's path and report it with [`Input::WorkDone`].
    Work(Job),
    /// Entries up to here are not needed any more.
    CutLog {
        /// The newest op that may go.
        through: Op,
    },
    /// Something happened that an observer may want to know.
    Note(Event),
}

/// What a request gets.
#[derive(Debug)]
pub enum Answer {
    /// To a proposal: what applying it gave, or why it was not ordered.
    Applied(Result<Applied, Refusal>),
    /// To a renewal: the time to live in seconds.
    Renewed(Result<i64, Refusal>),
    /// To a question about one lease.
    Lease(Result<LeaseView, Refusal>),
    /// To a question about all leases.
    Leases(Result<Vec<i64>, Refusal>),
    /// To who waits for a sweep: it has passed, or there are too many who wait.
    Swept(Result<(), Refusal>),
}
