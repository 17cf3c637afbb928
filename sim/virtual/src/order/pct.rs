//! Probabilistic concurrency testing: a bug that needs `d` orderings among `n` nodes and `k`
//! events is found by a run with probability at least 1 / (n k^(d-1)).

use holm_base::Prng;

use crate::order::Candidate;

/// Priorities of nodes, and the moments at which one drops.
#[derive(Clone, Debug)]
pub(crate) struct Pct {
    /// Higher goes first. Outside of the nodes is one more.
    priorities: Vec<u64>,
    /// The moments, ascending; counted in picks.
    drops: Vec<u64>,
    picks: u64,
    /// What the next one to drop gets: below all others.
    lowest: u64,
}

impl Pct {
    pub(crate) fn new(depth: u32, length: u32, nodes: usize, seed: u64) -> Self {
        let mut prng = Prng::new(seed);
        let mut drops: Vec<u64> = (0..depth)
            .map(|_| prng.below(u64::from(length.max(1))))
            .collect();
        drops.sort_unstable();
        let lowest = u64::from(depth);
        let mut priorities: Vec<u64> = (0..=nodes)
            .zip(lowest + 1..)
            .map(|(_, priority)| priority)
            .collect();
        for last in (1..priorities.len()).rev() {
            let bound = u64::try_from(last).expect("nodes are few") + 1;
            let other = usize::try_from(prng.below(bound)).expect("nodes are few");
            priorities.swap(last, other);
        }
        Self {
            priorities,
            drops,
            picks: 0,
            lowest,
        }
    }

    pub(crate) fn pick(&mut self, candidates: &[Candidate]) -> usize {
        while self.drops.first().is_some_and(|&at| at <= self.picks) {
            self.drops.remove(0);
            let running = candidates[self.highest(candidates)].target;
            self.priorities[running] = self.lowest;
            self.lowest = self.lowest.saturating_sub(1);
        }
        self.picks += 1;
        self.highest(candidates)
    }

    /// The earliest candidate of the node with the highest priority.
    fn highest(&self, candidates: &[Candidate]) -> usize {
        let mut best = 0;
        for (index, one) in candidates.iter().enumerate() {
            if self.priorities[one.target] > self.priorities[candidates[best].target] {
                best = index;
            }
        }
        best
    }
}
