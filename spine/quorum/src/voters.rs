//! The voters of a group, in one half or in two.

use alloc::vec::Vec;

use holm_base::NodeId;

/// How many values are sorted without allocating.
const SORTED_IN_PLACE: usize = 16;

/// How a vote stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// A quorum said yes.
    Won,
    /// So many said no that a quorum can no longer say yes.
    Lost,
    /// Neither.
    Open,
}

/// Who decides: a majority of `incoming`, and of `outgoing` too unless that is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Voters {
    incoming: Vec<NodeId>,
    outgoing: Vec<NodeId>,
}

impl Voters {
    /// One set of voters. Order and repetition do not matter.
    #[must_use]
    pub fn new(incoming: impl IntoIterator<Item = NodeId>) -> Self {
        Self::joint(incoming, [])
    }

    /// Two sets, which must both agree (I2).
    #[must_use]
    pub fn joint(
        incoming: impl IntoIterator<Item = NodeId>,
        outgoing: impl IntoIterator<Item = NodeId>,
    ) -> Self {
        Self {
            incoming: set(incoming),
            outgoing: set(outgoing),
        }
    }

    /// The set that will remain, sorted.
    #[must_use]
    pub fn incoming(&self) -> &[NodeId] {
        &self.incoming
    }

    /// The set that will go, sorted; empty unless a change is under way.
    #[must_use]
    pub fn outgoing(&self) -> &[NodeId] {
        &self.outgoing
    }

    /// Whether two sets decide.
    #[must_use]
    pub const fn is_joint(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// Whether this node has a vote in either half.
    #[must_use]
    pub fn contains(&self, node: NodeId) -> bool {
        self.incoming.binary_search(&node).is_ok() || self.outgoing.binary_search(&node).is_ok()
    }

    /// All voters, each once, sorted.
    pub fn iter(&self) -> impl Iterator<Item = NodeId> + '_ {
        let mut old = self.outgoing.iter().copied().peekable();
        let mut new = self.incoming.iter().copied().peekable();
        core::iter::from_fn(move || match (old.peek(), new.peek()) {
            (Some(left), Some(right)) if left == right => {
                old.next();
                new.next()
            }
            (Some(left), Some(right)) if left < right => old.next(),
            (Some(_), None) => old.next(),
            (Some(_) | None, Some(_)) => new.next(),
            (None, None) => None,
        })
    }

    /// The largest value that a quorum has reached; `None` without voters (I3).
    #[must_use]
    pub fn agreed<T: Copy + Ord>(&self, value: impl Fn(NodeId) -> T) -> Option<T> {
        let incoming = reached(&self.incoming, &value)?;
        if self.outgoing.is_empty() {
            return Some(incoming);
        }
        Some(incoming.min(reached(&self.outgoing, &value)?))
    }

    /// How a vote stands, where `None` means not heard yet.
    #[must_use]
    pub fn verdict(&self, vote: impl Fn(NodeId) -> Option<bool>) -> Verdict {
        // Unheard voters count as yes for what is still possible, as no for what is certain.
        let certain = self.agreed(|node| vote(node) == Some(true));
        let possible = self.agreed(|node| vote(node) != Some(false));
        match (certain, possible) {
            (Some(true), _) => Verdict::Won,
            (_, Some(true)) => Verdict::Open,
            (None, None) => Verdict::Open,
            (Some(false) | None, Some(false) | None) => Verdict::Lost,
        }
    }
}

/// How many of `count` voters are a majority.
#[must_use]
pub const fn majority(count: usize) -> usize {
    count / 2 + 1
}

fn set(nodes: impl IntoIterator<Item = NodeId>) -> Vec<NodeId> {
    let mut nodes: Vec<NodeId> = nodes.into_iter().collect();
    nodes.sort_unstable();
    nodes.dedup();
    nodes
}

fn reached<T: Copy + Ord>(half: &[NodeId], value: impl Fn(NodeId) -> T) -> Option<T> {
    let first = value(*half.first()?);
    let mut small = [first; SORTED_IN_PLACE];
    let mut large = Vec::new();
    let values = if half.len() <= SORTED_IN_PLACE {
        &mut small[..half.len()]
    } else {
        large.resize(half.len(), first);
        &mut large[..]
    };
    for (slot, &node) in values.iter_mut().zip(half) {
        *slot = value(node);
    }
    values.sort_unstable();
    // With the values ascending, a majority holds at least the one that has a majority from
    // itself to the end.
    Some(values[half.len() - majority(half.len())])
}
