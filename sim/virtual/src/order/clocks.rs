//! Vector clocks: which deliveries could have come in the other order.

use std::cmp::Ordering;
use std::collections::{BTreeSet, VecDeque};

use holm_machine::Label;

use crate::order::Candidate;

/// How many deliveries of each node are looked back at.
const WINDOW: usize = 16;

/// A kind of delivery: who sends, who receives, and how it looks to the receiver.
type Kind = (usize, usize, Label);

/// How many kinds are found without a search, at most. A power of two.
const NEAR: usize = 512;

/// Which kinds of delivery have been seen to race, by sender, receiver and label.
#[derive(Clone, Debug, Default)]
pub struct Races {
    seen: BTreeSet<Kind>,
    /// Some of them, each in the place that its numbers give it. Almost all that is asked is
    /// here, and telling two labels apart by their text costs more than all else.
    near: Vec<Option<Kind>>,
}

impl PartialEq for Races {
    fn eq(&self, other: &Self) -> bool {
        self.seen == other.seen
    }
}

impl Eq for Races {}

/// Where a kind would stand among the near ones. Texts of one length meet there, and are told
/// apart by where they lie, which decides nothing else.
fn place((source, target, label): &Kind) -> usize {
    let sign = |order: Option<Ordering>| match order {
        None => 0,
        Some(Ordering::Less) => 1,
        Some(Ordering::Equal) => 2,
        Some(Ordering::Greater) => 3,
    };
    let text = |text: &str| text.bytes().next().map_or(0, usize::from) * 7 + text.len();
    let signs = sign(label.term) * 4 + sign(label.op);
    let words = text(label.kind) * 13 + text(label.role);
    ((words * 16 + signs) * 67 + source * 8 + target) % NEAR
}

fn is_same(left: &Kind, right: &Kind) -> bool {
    let (a, b) = (&left.2, &right.2);
    (left.0, left.1, a.term, a.op) == (right.0, right.1, b.term, b.op)
        && std::ptr::eq(a.kind, b.kind)
        && std::ptr::eq(a.role, b.role)
}

impl Races {
    /// Whether deliveries like this one race.
    #[must_use]
    pub fn contains(&self, one: &Candidate) -> bool {
        let kind = (one.source, one.target, one.label);
        self.is_near(&kind) || self.seen.contains(&kind)
    }

    fn is_near(&self, kind: &Kind) -> bool {
        let near = self.near.get(place(kind));
        let near = near.and_then(Option::as_ref);
        near.is_some_and(|near| is_same(near, kind))
    }

    /// How many kinds are known.
    #[must_use]
    pub fn len(&self) -> usize {
        self.seen.len()
    }

    /// Whether none is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.seen.is_empty()
    }

    /// Remembers that deliveries like this one race.
    pub fn add(&mut self, one: &Candidate) {
        let kind = (one.source, one.target, one.label);
        if self.is_near(&kind) {
            return;
        }
        self.seen.insert(kind);
        if self.near.is_empty() {
            self.near.resize(NEAR, None);
        }
        self.near[place(&kind)] = Some(kind);
    }

    /// Adds what another run has learned.
    pub fn merge(&mut self, other: &Self) {
        self.seen.extend(other.seen.iter().copied());
    }
}

/// What each node has heard of, directly or through others.
#[derive(Clone, Debug)]
pub(crate) struct Clocks {
    nodes: Vec<Vec<u64>>,
    /// Of each node the last deliveries, and its own count at each.
    recent: Vec<VecDeque<(u64, Candidate)>>,
}

impl Clocks {
    pub(crate) fn new(nodes: usize) -> Self {
        Self {
            nodes: vec![vec![0; nodes]; nodes],
            recent: vec![VecDeque::with_capacity(WINDOW); nodes],
        }
    }

    /// What a node knows now, to travel with what it sends.
    pub(crate) fn snapshot(&self, node: usize) -> Box<[u64]> {
        self.nodes[node].as_slice().into()
    }

    /// Counts a delivery, and names the earlier ones that it could have come before: those
    /// which its sender had not heard of.
    pub(crate) fn deliver(&mut self, one: Candidate, sent: &[u64]) -> Vec<Candidate> {
        let target = one.target;
        let known = sent[target];
        let clock = &mut self.nodes[target];
        for (own, heard) in clock.iter_mut().zip(sent) {
            *own = (*own).max(*heard);
        }
        clock[target] += 1;
        let count = clock[target];
        let recent = &mut self.recent[target];
        let racing = recent.iter().filter(|(at, _)| *at > known);
        let racing = racing.map(|(_, earlier)| *earlier).collect();
        if recent.len() == WINDOW {
            recent.pop_front();
        }
        recent.push_back((count, one));
        racing
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use holm_base::Time;

    fn message(source: usize, target: usize, kind: &'static str) -> Candidate {
        Candidate {
            at: Time::ZERO,
            seq: 0,
            source,
            target,
            label: Label::plain(kind, "any"),
            is_message: true,
        }
    }

    #[test]
    fn a_message_sent_without_knowing_of_another_races_with_it() {
        let mut clocks = Clocks::new(3);
        let (first, second) = (clocks.snapshot(0), clocks.snapshot(1));
        assert!(clocks.deliver(message(0, 2, "a"), &first).is_empty());
        let racing = clocks.deliver(message(1, 2, "b"), &second);
        assert_eq!(racing, [message(0, 2, "a")]);
    }

    #[test]
    fn an_answer_does_not_race_with_what_caused_it() {
        let mut clocks = Clocks::new(2);
        let ask = clocks.snapshot(0);
        clocks.deliver(message(0, 1, "ask"), &ask);
        let answer = clocks.snapshot(1);
        assert!(clocks.deliver(message(1, 0, "answer"), &answer).is_empty());
        let again = clocks.snapshot(0);
        assert!(clocks.deliver(message(0, 1, "ask"), &again).is_empty());
    }
}
