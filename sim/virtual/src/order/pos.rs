//! Partial order sampling: a priority for each event, drawn anew when it lost a race.

use holm_base::Prng;

use crate::order::Candidate;

/// The priorities of everything that could happen.
#[derive(Clone, Debug)]
pub(crate) struct Pos {
    prng: Prng,
    /// By the candidates' numbers, ascending.
    priorities: Vec<(u64, u64)>,
    /// Those of the candidates at hand, in their order.
    drawn: Vec<(u64, u64)>,
}

impl Pos {
    pub(crate) const fn new(seed: u64) -> Self {
        Self {
            prng: Prng::new(seed),
            priorities: Vec::new(),
            drawn: Vec::new(),
        }
    }

    /// The candidate with the highest priority.
    pub(crate) fn pick(&mut self, candidates: &[Candidate]) -> usize {
        let Self {
            prng,
            priorities,
            drawn,
        } = self;
        drawn.clear();
        for one in candidates {
            let known = priorities.binary_search_by_key(&one.seq, |&(seq, _)| seq);
            let priority = known.map_or_else(|_| prng.next(), |at| priorities[at].1);
            drawn.push((priority, one.seq));
        }
        let highest = (0..drawn.len()).max_by_key(|&at| drawn[at]);
        let picked = highest.unwrap_or(0);
        // What happens at the same node could have gone before it: it gets another chance.
        let target = candidates[picked].target;
        priorities.clear();
        for (one, &(priority, seq)) in candidates.iter().zip(drawn.iter()) {
            if one.target != target {
                priorities.push((seq, priority));
            }
        }
        priorities.sort_unstable();
        picked
    }
}
