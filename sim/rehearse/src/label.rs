//! What kind of moment a message is for its receiver.

use std::cmp::Ordering;

use holm_base::Op;
use holm_machine::Label;
use holm_raft::{Body, Message, Raft};

pub(crate) fn of(message: &Message, role: &'static str, raft: &Raft) -> Label {
    let (kind, op) = kind(&message.body);
    Label {
        kind,
        role,
        term: Some(message.term.cmp(&raft.term())),
        op: op.map(|op| -> Ordering { op.cmp(&raft.commit()) }),
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
