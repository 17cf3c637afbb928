//! Which nodes named faults hold down, so that one comes back only when the last of them is over.

use std::collections::BTreeMap;

use holm_base::NodeId;

/// How many outages hold each node.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outages {
    holds: BTreeMap<NodeId, u32>,
}

impl Outages {
    /// An outage of a node begins.
    pub(crate) fn begin(&mut self, node: NodeId) {
        *self.holds.entry(node).or_default() += 1;
    }

    /// One of its outages ends; whether none is left.
    pub(crate) fn end(&mut self, node: NodeId) -> bool {
        let left = self.holds.entry(node).or_default();
        *left = left.saturating_sub(1);
        *left == 0
    }

    /// Whether a node stays down, whoever would start it.
    pub(crate) fn holds(&self, node: NodeId) -> bool {
        self.holds.get(&node).is_some_and(|holds| *holds > 0)
    }
}
