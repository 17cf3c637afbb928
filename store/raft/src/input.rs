//! Everything that can happen to a replica.

use alloc::sync::Arc;
use alloc::vec::Vec;

use bytes::Bytes;
use holm_base::{NodeId, Op, RequestId, WriteId};

use crate::membership::Change;
use crate::message::{Entry, Message};
use crate::snapshot::Manifest;

/// Everything that can happen to a replica.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Input {
    /// Time has passed; before the deadline this changes nothing.
    Wake,
    /// A peer spoke. `from` is what its connection proved, not what it claims.
    Message {
        /// The peer.
        from: NodeId,
        /// What it said.
        message: Message,
    },
    /// The other end hung up on every link to this peer: its process has perhaps ended. A hint,
    /// which may be wrong. A follower of that peer ends its wait as soon as voters may agree to
    /// an election, not after a random part more; nobody's vote is given sooner for it.
    Suspect {
        /// The peer.
        peer: NodeId,
    },
    /// A client of this node wants this ordered.
    Request {
        /// Whose answer it will be.
        request: RequestId,
        /// The engine's bytes.
        body: Bytes,
    },
    /// A client of this node wants to read everything acknowledged so far.
    Read {
        /// Whose answer it will be.
        request: RequestId,
    },
    /// All writes up to and including this one survive a crash.
    Durable {
        /// The newest safe write.
        through: WriteId,
    },
    /// Entries read back from the log, as [`crate::Effect::Fetch`] asked.
    Fetched {
        /// For whom they were.
        peer: NodeId,
        /// Dense, beginning where the fetch began; fewer than asked is allowed.
        entries: Vec<Entry>,
    },
    /// A snapshot of the applied state is kept outside, or can be made again, and the engine's
    /// own files hold as much: the log may be cut below it.
    Saved {
        /// What it consists of.
        manifest: Arc<Manifest>,
    },
    /// What was applied through `through` is in the engine's own files: entries below may go,
    /// unless a peer that this node leads, or the count that is kept for such peers, needs
    /// them. Those through `limit` go even then, for the log takes too much room.
    Release {
        /// Where the engine's files and the checkpoint kept with them end.
        through: Op,
        /// Up to where nobody's need counts.
        limit: Op,
    },
    /// Which chunks of a snapshot on offer are not already here.
    Lacking {
        /// The snapshot's op.
        op: Op,
        /// Indexes into its manifest.
        chunks: Vec<u32>,
    },
    /// A chunk was read, as [`crate::Effect::Load`] asked; `None` if it is gone.
    Loaded {
        /// For whom.
        peer: NodeId,
        /// The snapshot's op.
        op: Op,
        /// Its index in the manifest.
        index: u32,
        /// Its bytes.
        bytes: Option<Bytes>,
    },
    /// A chunk was checked and kept, as [`crate::Effect::Store`] asked.
    Stored {
        /// The snapshot's op.
        op: Op,
        /// Its index in the manifest.
        index: u32,
        /// False if its bytes do not have the id that the manifest names.
        is_good: bool,
    },
    /// An operator wants something.
    Operate {
        /// Whose answer it will be.
        request: RequestId,
        /// What.
        operation: Operation,
    },
}

/// What an operator may want of a leader.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// Change who belongs to the group.
    Change(Change),
    /// Hand leadership to this voter.
    MoveLeader {
        /// The next leader.
        to: NodeId,
    },
    /// End this protocol so that another may go on. Refused: there is no other yet.
    Seal,
}
