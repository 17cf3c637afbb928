//! Which other islands there are, once they are others than those that it began with.

use holm_base::NodeId;
use holm_local_first::{Applied, Charter, Slot, Vector};

use super::{Shore, Shores};
use crate::replica::Replica;

impl Replica {
    /// It is an island. Where its log has a table of members, that says which others there are.
    pub(crate) fn enter_shore(&mut self, shores: Shores) {
        self.shore = Some(Box::new(Shore::new(shores)));
        self.follow_charter();
    }

    /// Another node leads: what was taken in is of account here only as far as it says which
    /// other islands there are.
    pub(super) fn follow_on(&mut self) {
        let applied = self.keyspace.take_applied();
        let moves = |it: &Applied| matches!(it, Applied::Followed(_) | Applied::Rebased(_));
        if applied.iter().any(moves) {
            self.follow_charter();
        }
    }

    /// Goes by what its log says by now: entries may have come since it was last looked at.
    pub(crate) fn follow_charter(&mut self) {
        let charter = self.keyspace.charter().zip(self.keyspace.island());
        if let (Some(shore), Some((charter, island))) = (&mut self.shore, charter) {
            shore.follow(charter, island.slot());
        }
    }
}

impl Shore {
    /// The island goes by this from here on.
    pub(super) fn follow(&mut self, charter: &Charter, own: Slot) {
        self.ended = charter.limits();
        let Some(roster) = charter.roster() else {
            return;
        };
        // One that was left out speaks to nobody under its heir until it is back.
        let heir = roster.members.heir(own);
        let others = roster.members.active().keys();
        let others = others.filter(|it| **it != own && Some(**it) != heir);
        let nodes = |slot: &Slot| {
            let (slot, nodes) = (*slot, roster.nodes.get(slot).into_iter().flatten());
            nodes.map(move |node| (slot, NodeId::new(*node)))
        };
        self.shores.peers = others.flat_map(nodes).collect();
        self.stability.become_of(self.shores.slots());
        let peers = &self.shores.peers;
        self.heard
            .retain(|slot, heard| peers.contains(&(*slot, heard.from)));
        self.pins
            .retain(|slot, _| roster.members.active().contains_key(slot));
        self.to_pin
            .retain(|slot, _| roster.members.active().contains_key(slot));
    }

    /// Up to where nothing concurrent can come any more. Of a slot that does not go on nobody
    /// reports: all of it that counts must be here.
    pub(super) fn stable(&self, ours: &Vector) -> Vector {
        let is_here = |(slot, through): (&Slot, &u64)| ours.seq(*slot) >= *through;
        if self.ended.iter().all(is_here) {
            self.stability.stable(ours)
        } else {
            Vector::new()
        }
    }
}
