//! What can happen to a replica, and what it can ask for.

use bytes::Bytes;
use holm_base::{NodeId, Op, RequestId, Revision, Term, WriteId};
use holm_kv::outcome::{Applied, LeaseView};
use holm_kv::{Job, JobDone, Refusal, StreamId};
use holm_raft::{Operation, Outcome, Refused};
use holm_sequencer::{Form, Record};

use crate::message::Message;
use crate::standing::Standing;

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
    /// A client wants to read everything that was acknowledged to anyone.
    Read {
        /// Who waits for the moment.
        request: RequestId,
    },
    /// An operator wants something of the group.
    Operate {
        /// Who waits for the answer.
        request: RequestId,
        /// What.
        operation: Operation,
    },
    /// An observer wants to know how this replica stands.
    Stand {
        /// Who waits for the answer.
        request: RequestId,
    },
    /// The other end hung up on every link to this replica: its process has perhaps ended. Only a
    /// hint.
    Suspect {
        /// The replica.
        peer: NodeId,
    },
    /// Another replica spoke. `from` is what its connection proved, not what it claims.
    Message {
        /// The replica.
        from: NodeId,
        /// What it said.
        message: Message,
    },
    /// Entries came back from the log, as [`Effect::Fetch`] asked.
    Fetched {
        /// For whom they were.
        peer: NodeId,
        /// Dense, beginning where the fetch began; fewer than asked is allowed.
        entries: Vec<(Term, Op, Form, Bytes)>,
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
    /// Say this to another replica, once all writes through `after` are durable.
    Send {
        /// To whom.
        to: NodeId,
        /// What.
        message: Message,
        /// The newest write that it states, if it states any that is not durable.
        after: Option<WriteId>,
    },
    /// Read these entries from the log and give them back with [`Input::Fetched`].
    Fetch {
        /// The first op.
        first: Op,
        /// The last op.
        last: Op,
        /// Stop earlier rather than exceed this, but read one at least.
        bytes_max: u64,
        /// For whom.
        peer: NodeId,
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

/// What a replica tells its observers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The sequencer of a node alone said something.
    Solo(holm_sequencer::Event),
    /// Raft said something.
    Raft(holm_raft::Event),
    /// This node leads, and everything of earlier terms is applied: leases run here.
    Leads {
        /// Its term.
        term: Term,
    },
    /// It does so no longer.
    Follows,
    /// A message was dropped because more was ordered than the engine can follow.
    Flooded {
        /// Whose.
        from: NodeId,
    },
    /// A snapshot was made for a peer.
    SnapshotMade {
        /// The op that it includes.
        op: Op,
        /// How long its chunks are together.
        bytes: u64,
        /// How many they are.
        chunks: u32,
    },
    /// Something between this island and others.
    Island(holm_local_first::Note),
    /// What the log gave back is no entry of a group, or a snapshot cannot be made or makes no
    /// sense. A person must look.
    Broken {
        /// What was found.
        what: &'static str,
    },
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
    /// To any: it was not carried out, or, where the refusal says so, nobody knows.
    Refused(Refusal),
    /// To a read: what is published now holds all that was acknowledged before it was asked.
    Read,
    /// To an operator.
    Operated(Result<Outcome, Refused>),
    /// To an observer.
    Standing(Box<Standing>),
    /// To who waits for a sweep: it has passed, or there are too many who wait.
    Swept(Result<(), Refusal>),
}
