//! Partial order sampling: a priority for each event, drawn anew when it lost a race.

use std::collections::BTreeMap;

use holm_base::Prng;

use crate::order::Candidate;

/// The priorities of everything that could happen.
#[derive(Clone, Debug)]
pub(crate) struct Pos {
    prng: Prng,
    priorities: BTreeMap<u64, u64>,
}

impl Pos {
    pub(crate) const fn new(seed: u64) -> Self {
        Self {
            prng: Prng::new(seed),
            priorities: BTreeMap::new(),
        }
    }

    /// The candidate with the highest priority among those that `may` go.
    pub(crate) fn pick(
        &mut self,
        candidates: &[Candidate],
        may: impl Fn(&Candidate) -> bool,
    ) -> usize {
        let Self { prng, priorities } = self;
        let known = std::mem::take(priorities);
        for one in candidates {
            let priority = known.get(&one.seq).copied();
            priorities.insert(one.seq, priority.unwrap_or_else(|| prng.next()));
        }
        let free = candidates.iter().enumerate().filter(|(_, one)| may(one));
        let highest = free.max_by_key(|(_, one)| (priorities[&one.seq], one.seq));
        let picked = highest.map_or(0, |(index, _)| index);
        // What happens at the same node could have gone before it: it gets another chance.
        let target = candidates[picked].target;
        for one in candidates.iter().filter(|one| one.target == target) {
            priorities.remove(&one.seq);
        }
        picked
    }
}
