//! How a replica stands, for observers.

use crate::shore::Neighbour;
use holm_base::{NodeId, Op, Term};
use holm_raft::{Configuration, PeerView, RoleName};

/// How a replica stands at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Its role; a node alone leads.
    pub role: RoleName,
    /// Its term.
    pub term: Term,
    /// Who leads, if known; `None` at a node alone, which has no other to tell from.
    pub leader: Option<NodeId>,
    /// Whether leases run here.
    pub leads: bool,
    /// Ops through here are committed.
    pub commit: Op,
    /// Ops through here are applied.
    pub applied: Op,
    /// The end of the log.
    pub last: Op,
    /// Ops through here survive a crash of this node.
    pub durable: Op,
    /// The first op that the log still has.
    pub first: Op,
    /// Who belongs to the group; empty at a node alone.
    pub configuration: Configuration,
    /// What a leader knows of the others.
    pub peers: Vec<PeerView>,
    /// The other islands of a local-first keyspace.
    pub neighbours: Vec<Neighbour>,
    /// Whether those know more of this island than it does itself.
    pub is_set_back: bool,
}
