//! What kind of moment a message is for its receiver.

use std::cmp::Ordering;

use holm_base::{Op, Term};
use holm_machine::Label;
use holm_raft::{Body, Message, RoleName};

use super::Stand;

/// What can be said of a message without knowing its receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sketch {
    kind: &'static str,
    term: Option<Term>,
    op: Option<Op>,
}

impl Sketch {
    pub(crate) const fn of(message: &Message) -> Self {
        let (kind, op) = kind(&message.body);
        Self {
            kind,
            term: Some(message.term),
            op,
        }
    }

    /// Of what is no word of Raft's.
    pub(crate) const fn plain(kind: &'static str) -> Self {
        Self {
            kind,
            term: None,
            op: None,
        }
    }

    /// What it is to a node that stands like this.
    pub(crate) fn label(&self, stand: &Stand) -> Label {
        Label {
            kind: self.kind,
            role: role(stand.role),
            term: self.term.map(|term| term.cmp(&stand.term)),
            op: self.op.map(|op| -> Ordering { op.cmp(&stand.commit) }),
        }
    }
}

/// A number for each role; a node that is down is 0.
pub(crate) const fn role_number(role: RoleName) -> usize {
    match role {
        RoleName::Follower => 1,
        RoleName::PreCandidate => 2,
        RoleName::Candidate => 3,
        RoleName::Leader => 4,
        RoleName::Recovering => 5,
    }
}

pub(crate) const fn role(role: RoleName) -> &'static str {
    match role {
        RoleName::Follower => "follower",
        RoleName::PreCandidate => "pre-candidate",
        RoleName::Candidate => "candidate",
        RoleName::Leader => "leader",
        RoleName::Recovering => "recovering",
    }
}

/// The message's name, and the op it brings.
const fn kind(body: &Body) -> (&'static str, Option<Op>) {
    match body {
        Body::PreVote { last } => ("pre-vote", Some(last.op)),
        Body::PreVoteReply { is_granted: true } => ("pre-vote granted", None),
        Body::PreVoteReply { is_granted: false } => ("pre-vote denied", None),
        Body::Vote { last, .. } => ("vote", Some(last.op)),
        Body::VoteReply { is_granted: true } => ("vote granted", None),
        Body::VoteReply { is_granted: false } => ("vote denied", None),
        Body::Append { previous, .. } => ("append", Some(previous.op)),
        Body::Commit { commit } => ("commit", Some(*commit)),
        Body::Ack { matched, .. } => ("ack", Some(*matched)),
        Body::Conflict { at, .. } => ("conflict", Some(*at)),
        Body::Heartbeat { commit, .. } => ("heartbeat", Some(*commit)),
        Body::HeartbeatReply { matched, .. } => ("heartbeat reply", Some(*matched)),
        Body::ReadProbe { .. } => ("read probe", None),
        Body::ReadProbeReply { .. } => ("read probe reply", None),
        Body::Forward { .. } => ("forward", None),
        Body::TimeoutNow => ("timeout now", None),
        Body::Offer { .. } => ("offer", None),
        Body::Want { .. } => ("want", None),
        Body::Chunk { .. } => ("chunk", None),
    }
}
