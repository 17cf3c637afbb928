//! What replicas say to each other, and what the log holds.
//!
//! The group is implied; the term is the sender's, except in [`Body::PreVote`] and a granted
//! reply to it, which name the term that an election *would* have.

use alloc::sync::Arc;
use alloc::vec::Vec;

use bytes::Bytes;
use holm_base::{NodeId, Op, Term, Time};

use crate::membership::Configuration;
use crate::snapshot::Manifest;

/// A place in a log: which term wrote which op. Ordered as I8 wants: term before op.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// The term of the entry.
    pub term: Term,
    /// Its place.
    pub op: Op,
}

impl Position {
    /// The place before the first entry of any log.
    pub const ZERO: Self = Self {
        term: Term::ZERO,
        op: Op::ZERO,
    };
}

/// One run of a node: how often its log was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin {
    /// The node where the command came in.
    pub node: NodeId,
    /// The run of that node.
    pub boot: u64,
}

/// What a command asks of the protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Flags {
    /// Its reply quotes a revision. Raft numbers everything; a door for other protocols.
    pub is_numbered: bool,
    /// Its origin may count its quorum before the leader does (I7). Set by the leader.
    pub is_origin_counted: bool,
}

/// Something to be ordered and then, at most once, applied (I18).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Command {
    /// Where it came in.
    pub origin: Origin,
    /// Its number there, dense from 1 in each run.
    pub sequence: u64,
    /// What it asks of the protocol.
    pub flags: Flags,
    /// The engine's bytes; never looked into.
    pub body: Bytes,
}

/// What stands at an op.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Payload {
    /// Nothing: a leader's first entry.
    Blank,
    /// A client's command.
    Command(Command),
    /// Who belongs to the group from here on.
    Configuration(Arc<Configuration>),
}

/// One entry of the log.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Entry {
    /// Its place.
    pub op: Op,
    /// The term it was ordered in.
    pub term: Term,
    /// What it holds.
    pub payload: Payload,
}

impl Entry {
    /// Its term and op.
    #[must_use]
    pub const fn position(&self) -> Position {
        Position {
            term: self.term,
            op: self.op,
        }
    }

    /// What it weighs against limits, with a fixed share for its header.
    #[must_use]
    pub fn weight(&self) -> u64 {
        let body = match &self.payload {
            Payload::Blank => 0,
            Payload::Command(command) => command.body.len(),
            Payload::Configuration(configuration) => configuration.weight(),
        };
        body as u64 + HEADER_WEIGHT
    }

    /// The node that may count this entry's quorum by itself, if any.
    #[must_use]
    pub const fn counting_origin(&self) -> Option<NodeId> {
        match &self.payload {
            Payload::Command(command) if command.flags.is_origin_counted => {
                Some(command.origin.node)
            }
            Payload::Command(_) | Payload::Blank | Payload::Configuration(_) => None,
        }
    }
}

/// What an entry weighs beyond its body.
pub(crate) const HEADER_WEIGHT: u64 = 64;

/// Stands in a heartbeat's answer that answers none of the rounds of its term, which begin at 1.
pub(crate) const NO_ROUND: u64 = 0;

/// One round of a reader's questions. Two runs of a node never share one (I7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Round {
    /// The reader's run.
    pub boot: u64,
    /// Its number in that run.
    pub number: u64,
}

/// A leader's answer to a reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ReadPoint {
    /// Covers everything acknowledged to anyone before it was asked (I7).
    pub op: Op,
    /// The configuration the leader counts with. A reader that knows another cannot tell what
    /// a quorum is, and asks again.
    pub configuration: Position,
}

/// A message with its sender's term.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Message {
    /// See the page of this module.
    pub term: Term,
    /// The rest.
    pub body: Body,
}

/// What a message says.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Body {
    /// Would you vote for me in the term of this message?
    PreVote {
        /// The asker's last entry.
        last: Position,
    },
    /// The answer.
    PreVoteReply {
        /// Yes or no.
        is_granted: bool,
    },
    /// Vote for me in this term.
    Vote {
        /// The candidate's last entry.
        last: Position,
        /// The leader asked for this election, so its recent contact is no reason to refuse.
        is_transfer: bool,
    },
    /// The answer, sent once it is durable (I1).
    VoteReply {
        /// Yes or no.
        is_granted: bool,
    },
    /// Entries that follow `previous`.
    Append {
        /// The entry before the first of these.
        previous: Position,
        /// Never beyond the last of these (I6).
        commit: Op,
        /// Dense.
        entries: Vec<Entry>,
    },
    /// What moved the commit point; not answered.
    Commit {
        /// Never beyond what the receiver acknowledged (I6).
        commit: Op,
    },
    /// All entries through `matched` are durable here and are the leader's.
    Ack {
        /// The last of them.
        matched: Op,
        /// True while the sender mends its log: the entries must not be counted.
        is_recovering: bool,
    },
    /// `previous` did not match.
    Conflict {
        /// The op of that `previous`.
        at: Op,
        /// The term that stands there instead, zero if the log ends before.
        term: Term,
        /// The first op of that term here, or the first missing op.
        first: Op,
    },
    /// The leader lives.
    Heartbeat {
        /// Rises by one each time.
        round: u64,
        /// Never beyond what the receiver acknowledged (I6).
        commit: Op,
        /// The leader's clock at sending; comes back unread.
        stamp: Time,
    },
    /// So does the follower.
    HeartbeatReply {
        /// As asked; 0 if a leader of an earlier term asked, who is only told of this one.
        round: u64,
        /// As asked.
        stamp: Time,
        /// Entries through here have arrived and are the leader's, durable or not.
        seen: Op,
        /// The durable part of them, which counts as an acknowledgement.
        matched: Op,
        /// The end of the log, whoever wrote it.
        last: Op,
        /// As in [`Body::Ack`].
        is_recovering: bool,
    },
    /// Which term are you in, and, if you lead, what must a read see?
    ReadProbe {
        /// Whose question.
        round: Round,
    },
    /// The answer.
    ReadProbeReply {
        /// As asked.
        round: Round,
        /// From a leader that has committed in its term.
        read: Option<ReadPoint>,
    },
    /// Commands for the leader.
    Forward {
        /// All of one origin.
        commands: Vec<Command>,
    },
    /// Become leader now.
    TimeoutNow,
    /// Entries you lack are gone; here is a snapshot.
    Offer {
        /// What it consists of.
        manifest: Arc<Manifest>,
    },
    /// Send these chunks.
    Want {
        /// The snapshot's op.
        op: Op,
        /// Indexes into its manifest.
        chunks: Vec<u32>,
    },
    /// One chunk.
    Chunk {
        /// The snapshot's op.
        op: Op,
        /// Its index in the manifest.
        index: u32,
        /// Its bytes.
        bytes: Bytes,
    },
}
