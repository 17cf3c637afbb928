//! What a replica tells its observers; none of it is needed to be correct.

use holm_base::{ByteCount, NodeId, Op, Term};

/// What a replica tells its observers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// This node leads from now on.
    LeaderElected {
        /// Its term.
        term: Term,
    },
    /// This node follows, in a new term or a new leader.
    Followed {
        /// The term.
        term: Term,
        /// Whom, if known.
        leader: Option<NodeId>,
    },
    /// The leader's process has perhaps ended, and this node will not wait longer than it must.
    LeaderSuspected {
        /// Its term.
        term: Term,
        /// The leader.
        leader: NodeId,
    },
    /// It asks whether it could win.
    PreCampaigned {
        /// The term it would have.
        term: Term,
    },
    /// It asks for votes.
    Campaigned {
        /// The term.
        term: Term,
        /// Whether the leader asked for it.
        is_transfer: bool,
    },
    /// It leads no more.
    SteppedDown {
        /// The term it led in.
        term: Term,
        /// Why.
        why: SteppedDown,
    },
    /// Entries of a lost leader were dropped.
    LogTruncated {
        /// The last that stayed.
        last: Op,
    },
    /// The commit point was found here, before the leader told.
    OriginCounted {
        /// The commit point.
        commit: Op,
    },
    /// A command was seen again and not applied (I18).
    CommandRepeated {
        /// Its origin.
        origin: NodeId,
        /// Its number there.
        sequence: u64,
    },
    /// Forwarded commands were not taken because too much is uncommitted.
    ForwardShed {
        /// Their origin.
        origin: NodeId,
    },
    /// A request was refused because too much was waiting.
    RequestShed {
        /// Bytes waiting then.
        waiting: ByteCount,
    },
    /// A read was refused because too many were waiting.
    ReadShed,
    /// A peer said something that no correct peer says, or spoke without belonging here.
    Rejected {
        /// The peer.
        from: NodeId,
        /// What was wrong.
        why: Rejected,
    },
    /// A peer lost entries that it had acknowledged (I14). A person must look.
    PeerForgot {
        /// The peer.
        peer: NodeId,
        /// What it had acknowledged.
        acknowledged: Op,
        /// Where its log ends now.
        last: Op,
    },
    /// The log was damaged, and this replica counts for nothing until it has caught up.
    Recovering,
    /// It has caught up.
    Recovered {
        /// The leader's term.
        term: Term,
    },
    /// A new configuration is in force.
    ConfigurationChanged {
        /// Where it stands.
        op: Op,
        /// Whether two sets of voters decide.
        is_joint: bool,
    },
    /// A peer lacks entries that are gone here, and there is no snapshot to offer it: one is to
    /// be made, and told with [`crate::Input::Saved`].
    SnapshotMissing {
        /// The peer.
        peer: NodeId,
        /// The first op that this node still has.
        first: Op,
    },
    /// A snapshot was offered to a peer.
    SnapshotOffered {
        /// The peer.
        peer: NodeId,
        /// The snapshot's op.
        op: Op,
    },
    /// A snapshot was refused: what is applied here is as new.
    SnapshotRefused {
        /// Its op.
        op: Op,
    },
    /// A chunk's bytes were not what the manifest names; it is asked for again.
    ChunkSpoiled {
        /// Its index.
        index: u32,
    },
    /// The state comes from a snapshot now.
    SnapshotInstalled {
        /// Its op.
        op: Op,
    },
    /// Leadership is on its way to another.
    TransferStarted {
        /// To whom.
        to: NodeId,
    },
    /// It did not arrive in time.
    TransferAbandoned {
        /// To whom it was going.
        to: NodeId,
    },
}

/// Why a leader stopped leading.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SteppedDown {
    /// Somebody is in a higher term.
    HigherTerm,
    /// No quorum was heard for an election timeout.
    QuorumSilent,
    /// A committed change left it out.
    Removed,
}

/// What was wrong with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rejected {
    /// The sender is not a member.
    Stranger,
    /// Another leader in the same term: I1 is broken somewhere.
    SecondLeader,
    /// Entries are not dense, or their terms fall or exceed the message's.
    Malformed,
    /// It acknowledges or quotes what does not exist.
    Impossible,
    /// Commands were forwarded to a node that does not lead.
    NotLeader,
}
