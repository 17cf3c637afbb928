//! Vector clocks: which deliveries could have come in the other order.

use std::collections::{BTreeSet, VecDeque};

use holm_machine::Label;

use crate::order::Candidate;

/// How many deliveries of each node are looked back at.
const WINDOW: usize = 16;

/// Which kinds of delivery have been seen to race, by sender, receiver and label.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Races {
    seen: BTreeSet<(usize, usize, Label)>,
}

impl Races {
    /// Whether deliveries like this one race.
    #[must_use]
    pub fn contains(&self, one: &Candidate) -> bool {
        self.seen.contains(&(one.source, one.target, one.label))
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
        self.seen.insert((one.source, one.target, one.label));
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
    pub(crate) fn snapshot(&self, node: usize) -> Vec<u64> {
        self.nodes[node].clone()
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
