//! The boundary itself: the closed sets of inputs and effects that every sequencer shares.

use bytes::Bytes;
use holm_base::{ByteCount, NodeId, Op, RequestId, Term, WriteId};

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
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Record {
    /// A command at its place in the order.
    Entry {
        /// The term it was ordered in.
        term: Term,
        /// Its place.
        op: Op,
        /// What the body is.
        form: Form,
        /// The bytes.
        body: Bytes,
    },
    /// What must not be forgotten about elections.
    Hard {
        /// The newest term.
        term: Term,
        /// The vote in it.
        vote: Option<NodeId>,
        /// Whether acknowledged entries may be missing here.
        is_recovering: bool,
    },
    /// Entries behind this op are void; the next one follows it.
    CutTo {
        /// The last entry that stays.
        last: Op,
    },
    /// The state comes from a snapshot now.
    Installed {
        /// The term of the last entry that the snapshot covers.
        term: Term,
        /// That entry's place.
        op: Op,
        /// Whether the entries behind it stay. If not, the log is empty and goes on behind it.
        is_suffix_kept: bool,
        /// What the snapshot consists of, in the sequencer's own bytes.
        body: Bytes,
    },
}

/// What the body of an entry is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Form {
    /// The engine's bytes and nothing else: what a node alone writes.
    #[default]
    Plain,
    /// A payload of Raft, which may hold the engine's bytes.
    Raft,
}

impl Record {
    /// The hard state of a node that needs nobody's vote.
    #[must_use]
    pub const fn of_term(term: Term) -> Self {
        Self::Hard {
            term,
            vote: None,
            is_recovering: false,
        }
    }

    /// A command as a node alone keeps it.
    #[must_use]
    pub const fn plain(term: Term, op: Op, body: Bytes) -> Self {
        let form = Form::Plain;
        Self::Entry {
            term,
            op,
            form,
            body,
        }
    }

    /// The size of its variable part.
    #[must_use]
    pub fn body_bytes(&self) -> ByteCount {
        match self {
            Self::Entry { body, .. } | Self::Installed { body, .. } => {
                ByteCount::new(body.len() as u64)
            }
            Self::Hard { .. } | Self::CutTo { .. } => ByteCount::ZERO,
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
