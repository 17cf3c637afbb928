//! The boundary itself: the closed sets of inputs and effects that every sequencer shares.

use bytes::Bytes;
use holm_base::{ByteCount, Op, RequestId, Term, WriteId};

/// Something to be ordered and then applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// Who waits for the answer, on the node where it came in.
    pub request: RequestId,
    /// The engine's bytes; a sequencer never looks inside.
    pub body: Bytes,
}

/// Everything that can happen to a sequencer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// The node has started. Comes first, and once.
    Start,
    /// A client wants this ordered.
    Request {
        /// What to order.
        command: Command,
    },
    /// All writes up to and including this one survive a crash.
    Durable {
        /// The newest safe write.
        through: WriteId,
    },
}

/// Everything a sequencer can ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Make this record durable, behind all earlier ones, and say so.
    Persist {
        /// The number to report it by.
        write: WriteId,
        /// What to keep.
        record: Record,
    },
    /// This command is committed: apply it, after all lower ops.
    Apply {
        /// Its place in the order.
        op: Op,
        /// The term it was ordered in.
        term: Term,
        /// The command.
        command: Command,
    },
    /// This request was not ordered and changed nothing.
    Refuse {
        /// Whose answer it is.
        request: RequestId,
        /// Why.
        reason: Refused,
    },
    /// Something happened that an observer may want to know.
    Note(Event),
}

/// What a sequencer needs to find again after a crash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// A command at its place in the order.
    Entry {
        /// The term it was ordered in.
        term: Term,
        /// Its place.
        op: Op,
        /// The engine's bytes.
        body: Bytes,
    },
    /// The newest term.
    Hard {
        /// That term.
        term: Term,
    },
}

impl Record {
    /// The size of its variable part.
    #[must_use]
    pub fn body_bytes(&self) -> ByteCount {
        match self {
            Self::Entry { body, .. } => ByteCount::new(body.len() as u64),
            Self::Hard { .. } => ByteCount::ZERO,
        }
    }
}

/// Why a request was not ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Too much waits for durability already; try again later.
    Busy,
    /// The sequencer's own first record is not durable yet.
    Starting,
}

/// What a sequencer tells its observers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// This node leads from now on.
    LeaderElected {
        /// Its term.
        term: Term,
    },
    /// A request was refused because too much was waiting.
    RequestShed {
        /// Bytes waiting then.
        waiting: ByteCount,
    },
}
