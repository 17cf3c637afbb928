//! Everything a replica can ask for.

use alloc::sync::Arc;

use bytes::Bytes;
use holm_base::{NodeId, Op, RequestId, Term, Time, WriteId};

use crate::event::Event;
use crate::membership::Configuration;
use crate::message::{Command, Entry, Message};
use crate::snapshot::{ChunkId, Manifest};

/// Everything a replica can ask for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Effect {
    /// Make this record durable, behind all earlier ones, and say so.
    Persist {
        /// The number to report it by.
        write: WriteId,
        /// What to keep.
        record: Record,
    },
    /// Send this once all writes through `after` are durable (I4), at once if they are.
    Send {
        /// To whom.
        to: NodeId,
        /// What.
        message: Message,
        /// The fact it states.
        after: Option<WriteId>,
    },
    /// This command is committed and durable here: apply it, after all lower ops.
    Apply {
        /// Its place in the order.
        op: Op,
        /// The term it was ordered in.
        term: Term,
        /// The command.
        command: Command,
        /// Who waits for it, if it came in here in this run.
        request: Option<RequestId>,
    },
    /// This op is committed and changes no data; the applied op still moves.
    Advance {
        /// Its place in the order.
        op: Op,
        /// The term it was ordered in.
        term: Term,
        /// Why there is nothing to apply.
        because: Advance,
    },
    /// The state applied so far covers `op`: execute this read now.
    ReadAt {
        /// Whose read.
        request: RequestId,
        /// What it must see.
        op: Op,
        /// For a read under a lease: reply only if the clock, after executing it, is before
        /// this and [`crate::Raft::has_lease`] still holds; else ask again.
        until: Option<Time>,
    },
    /// This request changed nothing, or its outcome is unknown where [`Refused`] says so.
    Refuse {
        /// Whose.
        request: RequestId,
        /// Why.
        reason: Refused,
    },
    /// An operation is done.
    Reply {
        /// Whose.
        request: RequestId,
        /// What came of it.
        outcome: Outcome,
    },
    /// Read these entries from the log and give them back as [`crate::Input::Fetched`].
    Fetch {
        /// The first op.
        first: Op,
        /// The last op; stop earlier rather than exceed `bytes_max`, but read one at least.
        last: Op,
        /// About how much is useful at once.
        bytes_max: u64,
        /// For whom.
        peer: NodeId,
    },
    /// Entries through this op are no longer needed.
    Cut {
        /// The last of them.
        through: Op,
    },
    /// A snapshot is on offer: answer [`crate::Input::Lacking`].
    Receive {
        /// What it consists of.
        manifest: Arc<Manifest>,
    },
    /// Read a chunk and answer [`crate::Input::Loaded`].
    Load {
        /// For whom.
        peer: NodeId,
        /// The snapshot's op.
        op: Op,
        /// Its index in the manifest.
        index: u32,
    },
    /// Check a chunk against its id, keep it, and answer [`crate::Input::Stored`].
    Store {
        /// The snapshot's op.
        op: Op,
        /// Its index in the manifest.
        index: u32,
        /// What its SHA-256 must be.
        id: ChunkId,
        /// The bytes.
        bytes: Bytes,
    },
    /// All chunks are here: once `after` is durable, swap the engine's state for them. Effects
    /// behind this one see the new state. Keep the chunks for others until a newer snapshot is
    /// [`crate::Input::Saved`].
    Install {
        /// What was received.
        manifest: Arc<Manifest>,
        /// The record that says so.
        after: WriteId,
    },
    /// Something happened that an observer may want to know.
    Note(Event),
}

/// What a replica needs to find again after a crash.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Record {
    /// An entry of the log.
    Entry(Entry),
    /// The newest term and the vote in it.
    Hard(Hard),
    /// Entries behind this op are void: another leader's stand there.
    CutTo {
        /// The last entry that stays.
        last: Op,
    },
    /// The state comes from a snapshot now.
    Installed {
        /// Which.
        manifest: Arc<Manifest>,
        /// Whether the entries behind it stay (I11). If not, the log is empty.
        is_suffix_kept: bool,
    },
}

/// What must not be forgotten about elections (I1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Hard {
    /// The newest term.
    pub term: Term,
    /// The vote in it.
    pub vote: Option<NodeId>,
    /// Acknowledged entries may be missing here: neither vote nor acknowledge (I14).
    pub is_recovering: bool,
}

/// Why an op changes no data.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Advance {
    /// A leader began its term.
    Blank,
    /// The group's members changed.
    Configuration(Arc<Configuration>),
    /// The command was applied before, or is of an earlier run of its origin (I18).
    Repeated,
    /// The command's origin does not belong to the group.
    Stranger,
}

/// What came of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The change is committed at this op.
    Changed {
        /// Where.
        op: Op,
    },
    /// This node leads now.
    Moved {
        /// The new leader.
        leader: NodeId,
    },
}

/// Why a request was not carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refused {
    /// Too much waits already; try again later.
    Busy,
    /// The request is larger than any may be.
    TooLarge,
    /// Only the leader does this.
    NotLeader {
        /// Who leads, if known.
        leader: Option<NodeId>,
    },
    /// The leader has not committed in its term, or another change or transfer is under way.
    NotReady,
    /// This node does not belong to the group, or no longer: the outcome is unknown.
    NotMember,
    /// It waited for too long. It changed nothing if it never went to a leader; else its outcome
    /// is unknown.
    TimedOut,
    /// Leadership was lost before the operation was done: its outcome is unknown.
    LeaderChanged,
    /// The change names a node that is, or is not, a member already.
    NoSuchChange,
    /// The learner has not caught up.
    NotInSync,
    /// The change would leave no quorum of nodes that were heard of lately.
    NoLiveQuorum,
    /// The group would be larger than the configured limit.
    TooManyMembers,
    /// Leadership could not be moved in time.
    TransferTimedOut,
    /// This build cannot do it.
    Unsupported,
}
