//! Events as goals see them: a name, and fields that are numbers.
//!
//! Every variant of the protocol's events is here, or this does not compile: each is a goal by
//! itself.

use holm_base::{ByteCount, NodeId, Op, Term};
use holm_raft::Event as RaftEvent;
use holm_replica as replica;

use crate::scenario::OP_NAMES;

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fact {
    pub(crate) name: &'static str,
    pub(crate) fields: Vec<(&'static str, u64)>,
}

impl Fact {
    pub(crate) fn field(&self, name: &str) -> Option<u64> {
        let found = self.fields.iter().find(|(field, _)| *field == name);
        found.map(|&(_, value)| value)
    }
}

/// What can be a number in a test.
trait Numbered {
    fn number(&self) -> u64;
}

macro_rules! numbered {
    ($($kind:ty: $read:expr),* $(,)?) => {
        $(impl Numbered for $kind {
            fn number(&self) -> u64 {
                let read: fn(&$kind) -> u64 = $read;
                read(self)
            }
        })*
    };
}

numbered!(
    Term: |it| it.value(),
    Op: |it| it.value(),
    NodeId: |it| it.value(),
    ByteCount: |it| it.value(),
    u64: |it| *it,
    u32: |it| u64::from(*it),
    bool: |it| u64::from(*it),
    Option<NodeId>: |it| it.map_or(0, NodeId::value),
);

macro_rules! events {
    ($list:ident, $reader:ident, $kind:ident, $($event:ident { $($field:ident),* })*) => {
        const $list: &[(&str, &[&str])] =
            &[$((stringify!($event), &[$(stringify!($field)),*])),*];

        fn $reader(event: &$kind) -> Fact {
            match event {
                $($kind::$event { $($field,)* .. } => Fact {
                    name: stringify!($event),
                    fields: vec![$((stringify!($field), $field.number())),*],
                },)*
            }
        }
    };
}

events!(RAFT, of_raft, RaftEvent,
    LeaderElected { term }
    Followed { term, leader }
    LeaderSuspected { term, leader }
    PreCampaigned { term }
    Campaigned { term, is_transfer }
    SteppedDown { term }
    LogTruncated { last }
    OriginCounted { commit }
    CommandRepeated { origin, sequence }
    ForwardShed { origin }
    RequestShed { waiting }
    ReadShed {}
    Rejected { from }
    PeerForgot { peer, acknowledged, last }
    Recovering {}
    Recovered { term }
    ConfigurationChanged { op, is_joint }
    SnapshotMissing { peer, first }
    SnapshotOffered { peer, op }
    SnapshotRefused { op }
    ChunkSpoiled { index }
    SnapshotInstalled { op }
    TransferStarted { to }
    TransferAbandoned { to }
);

/// What a replica adds to its sequencer's events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Bound {
    Leads { term: Term },
    Follows,
    Flooded { from: NodeId },
    SnapshotMade { op: Op, bytes: u64, chunks: u32 },
}

impl Bound {
    /// None for what is told in another way.
    pub(crate) const fn of(event: &replica::Event) -> Option<Self> {
        Some(match *event {
            replica::Event::Leads { term } => Self::Leads { term },
            replica::Event::Follows => Self::Follows,
            replica::Event::Flooded { from } => Self::Flooded { from },
            replica::Event::SnapshotMade { op, bytes, chunks } => {
                Self::SnapshotMade { op, bytes, chunks }
            }
            replica::Event::Solo(_)
            | replica::Event::Raft(_)
            | replica::Event::Island(_)
            | replica::Event::Broken { .. } => return None,
        })
    }
}

events!(BOUND, of_bound, Bound,
    Leads { term }
    Follows {}
    Flooded { from }
    SnapshotMade { op, bytes, chunks }
);

/// An operation of that number was answered.
const ACKS: [&str; OP_NAMES.len()] = [
    "ack put",
    "ack delete",
    "ack txn",
    "ack range",
    "ack compact",
    "ack lease",
    "ack add",
];
const ACK_FIELDS: &[&str] = &["key", "client", "revision"];

/// All events that a goal can name, with their fields besides `node`.
pub(crate) fn all() -> impl Iterator<Item = (&'static str, &'static [&'static str])> {
    let acks = ACKS.into_iter().map(|name| (name, ACK_FIELDS));
    RAFT.iter().chain(BOUND).copied().chain(acks)
}

/// Names of the events that nodes tell of themselves.
pub(crate) fn told(has_store: bool) -> impl Iterator<Item = &'static str> {
    let bound = if has_store { BOUND } else { &[] };
    RAFT.iter().chain(bound).map(|(name, _)| *name)
}

fn at(node: NodeId, mut fact: Fact) -> Fact {
    fact.fields.push(("node", node.value()));
    fact
}

pub(crate) fn raft(node: NodeId, event: &RaftEvent) -> Fact {
    at(node, of_raft(event))
}

pub(crate) fn bound(node: NodeId, event: &Bound) -> Fact {
    at(node, of_bound(event))
}

/// A client's operation was answered by that node.
pub(crate) fn ack(node: NodeId, op: usize, key: u64, client: u64, revision: u64) -> Fact {
    let fields = vec![("key", key), ("client", client), ("revision", revision)];
    let name = ACKS[op];
    at(node, Fact { name, fields })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_has_its_name_and_its_fields() {
        let fact = raft(
            NodeId::new(2),
            &RaftEvent::LeaderElected { term: Term::new(7) },
        );
        assert_eq!(fact.name, "LeaderElected");
        assert_eq!((fact.field("term"), fact.field("node")), (Some(7), Some(2)));
        assert_eq!(fact.field("op"), None);
        let names: Vec<&str> = all().map(|(name, _)| name).collect();
        let mut sorted = names.clone();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(sorted.len(), names.len(), "names are unique");
    }
}
