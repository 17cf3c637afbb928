//! What a node of an island knows of itself and the others as it starts: what the table of sites in keyspace `default`
//! says then, or what its scenario says while that is as it was in the beginning.

use holm_base::NodeId;
use holm_kv::IslandConfig;
use holm_local_first::{Rules, Slot};
use holm_replica::Shores;

use super::store_site::BEGIN_UNIX_MS;
use super::{Isles, Setup};

/// The slot of a node's island and its neighbours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seat {
    pub(crate) slot: Slot,
    /// Since when the island has its slot, in milliseconds of Unix time.
    pub(crate) since_unix_ms: u64,
    /// The nodes of the other islands.
    pub(crate) peers: Vec<(Slot, NodeId)>,
}

impl Seat {
    /// In the beginning each island knows all those that begin.
    fn first(isles: &Isles, node: NodeId) -> Self {
        let all = (1..=isles.count).map(NodeId::new);
        let others = all.filter(|other| isles.place(*other) != isles.place(node));
        Self {
            slot: isles.slot(node),
            since_unix_ms: BEGIN_UNIX_MS,
            peers: others.map(|other| (isles.slot(other), other)).collect(),
        }
    }

    /// What a node starts with; none if it is of no island. `told` is what the table said last.
    pub(super) fn of(setup: &Setup, node: NodeId, told: Option<Self>) -> Option<Self> {
        let isles = setup.islands.as_ref()?;
        Some(told.unwrap_or_else(|| Self::first(isles, node)))
    }

    pub(super) fn shores(&self) -> Shores {
        Shores::new(self.peers.clone())
    }

    pub(super) fn island(&self, isles: &Isles) -> IslandConfig {
        IslandConfig {
            slot: self.slot,
            epoch: 1,
            since_unix_ms: self.since_unix_ms,
            rules: Rules {
                kind: isles.kind,
                ..Rules::default()
            },
            updates_bytes_max: usize::try_from(isles.updates).unwrap_or(usize::MAX),
        }
    }
}
