//! What applying a command gave.

use holm_base::{Op, Revision, Term};

use crate::command::{AlarmKind, Permission};
use crate::record::Record;
use crate::refusal::Refusal;

/// The answer to a proposal: from what state it was given, and what it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// The keyspace's revision after the command.
    pub revision: Revision,
    /// The term that it was ordered in.
    pub term: Term,
    /// Its op.
    pub op: Op,
    /// What it gave, or why it changed nothing.
    pub result: Result<Outcome, Refusal>,
}

/// What a command gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A put was done.
    Put {
        /// What was there before, if asked for and there.
        prev: Option<Record>,
    },
    /// A delete was done.
    DeleteRange {
        /// How many keys went.
        deleted: i64,
        /// What they held, if asked for.
        prev: Vec<Record>,
    },
    /// A read within a transaction.
    Range(RangeOutcome),
    /// A transaction was done.
    Txn {
        /// Which branch.
        succeeded: bool,
        /// One for each of its operations.
        responses: Vec<Self>,
    },
    /// A lease was created.
    LeaseGrant {
        /// Its id.
        id: i64,
        /// Its time to live, in seconds.
        ttl: i64,
    },
    /// The alarm that was raised or cleared; none if there was nothing to clear.
    Alarms(Vec<Alarm>),
    /// Done, and there is nothing more to say.
    Done,
}

/// What a read found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RangeOutcome {
    /// The keys, in the order asked for.
    pub records: Vec<Record>,
    /// Whether the limit cut some off.
    pub more: bool,
    /// How many keys the range holds at that revision, whatever the limit and the filters.
    pub count: i64,
}

/// A raised alarm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Alarm {
    /// The node that it concerns.
    pub member: u64,
    /// Which one.
    pub kind: AlarmKind,
}

/// What a lease looks like from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseView {
    /// Its id.
    pub id: i64,
    /// Seconds that are left, rounded down; -1 if there is no such lease.
    pub ttl: i64,
    /// Seconds that it was granted.
    pub granted_ttl: i64,
    /// The keys that hang on it, sorted, if asked for.
    pub keys: Vec<bytes::Bytes>,
}

/// A role as it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoleView {
    /// Its name.
    pub name: String,
    /// What it may do.
    pub permissions: Vec<Permission>,
}
