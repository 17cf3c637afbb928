//! What is known of a return before it: the writes that nobody else has, as a site that was left out has them itself.
//! For whoever is to decide whether it is taken in again.
//!
//! What would surprise: a return does more than is told here. What the site removed shows only beside what the others
//! have, and so does a base of a counter that saw a part of what they have added up since: that is told and not made
//! again, see [`Made::left_out`](crate::Made::left_out).

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::vec::Vec;

use bytes::Bytes;

use crate::clock::Hlc;
use crate::conflict::Party;
use crate::document::Node;
use crate::rebase::Absent;
use crate::state::State;
use crate::vector::{Dot, Slot};
use crate::wire::Mark;

/// What a write did to its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForetoldKind {
    /// Gave it a whole value.
    Put,
    /// Added to it: all additions of a slot are one.
    Add,
    /// Gave a part of a document a value: of an object or a list that there is one, its own parts
    /// are others.
    Part,
    /// Deleted it.
    Delete,
}

impl ForetoldKind {
    /// Its name for whoever reads.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Put => "put",
            Self::Add => "add",
            Self::Part => "part",
            Self::Delete => "delete",
        }
    }
}

/// A write of a key that nobody else has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Foretold {
    /// What it did.
    pub kind: ForetoldKind,
    /// Where in a document; empty for all others.
    pub path: Bytes,
    /// Which update it is, and its value; of additions the newest, and their sum.
    pub party: Party,
}

impl Foretold {
    fn new(kind: ForetoldKind, (dot, hlc): (Dot, Hlc), value: &Bytes) -> Self {
        Self {
            kind,
            path: Bytes::new(),
            party: Party::new(Mark { dot, hlc }, value),
        }
    }

    /// A delete of a whole key.
    #[must_use]
    pub fn delete(mark: Mark) -> Self {
        Self::new(ForetoldKind::Delete, (mark.dot, mark.hlc), &Bytes::new())
    }
}

impl Absent<'_> {
    /// What of a key counts for nobody: its own writes, which are made again, and those of others
    /// that were left out, which are told. The same for the same state, in the same order.
    #[must_use]
    pub fn foretold(&self, state: &State) -> Vec<Foretold> {
        let mut all = Vec::new();
        for it in state.siblings() {
            let mark = (it.dot, it.hlc);
            all.push(Foretold::new(ForetoldKind::Put, mark, &it.value));
        }
        all.extend(self.sums(state));
        for it in state.rows() {
            let value = match it.node {
                Node::Leaf => it.value.clone(),
                Node::Map => Bytes::from_static(b"{}"),
                Node::List => Bytes::from_static(b"[]"),
                Node::Member => Bytes::new(),
            };
            let part = Foretold::new(ForetoldKind::Part, (it.dot, it.hlc), &value);
            let path = it.path.clone();
            all.push(Foretold { path, ..part });
        }
        // A delete of another is not told.
        let own = state.markers().iter();
        let own = own.filter(|it| it.dot.slot == self.slot);
        all.extend(own.map(|it| Foretold::delete(*it)));
        all.retain(|it| self.is_beyond(it.party.dot));
        all
    }

    fn sums(&self, state: &State) -> Vec<Foretold> {
        let mut sums: BTreeMap<Slot, (Dot, Hlc, i128)> = BTreeMap::new();
        let deltas = state.deltas().iter();
        for it in deltas.filter(|it| self.is_beyond(it.dot)) {
            let sum = sums.entry(it.dot.slot).or_insert((it.dot, it.hlc, 0));
            *sum = (it.dot, it.hlc.max(sum.1), sum.2 + i128::from(it.amount));
        }
        let shown = |(dot, hlc, sum): &(Dot, Hlc, i128)| {
            let value = Bytes::from(format!("{sum:+}"));
            Foretold::new(ForetoldKind::Add, (*dot, *hlc), &value)
        };
        sums.values().map(shown).collect()
    }
}
