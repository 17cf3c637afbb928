//! Search with feedback: runs that showed something new are kept, and runs like them are tried.
//!
//! Three signals are followed, each with a corpus of its own: orders of labels, shapes of the
//! group, and progress towards goals. A run is kept for how unlike the kept ones it is and how
//! much it showed first. What is kept is bounded: a hundred tapes a signal, a million marks.
//!
//! What would surprise: the budget goes by steps of nodes, not by time of the processor, so that
//! a hunt is a function of its seed (sim I3).

use std::collections::BTreeSet;
use std::sync::Arc;

use holm_base::Prng;
use holm_virtual::{Aim, Tape, mix, mutate};

/// How many tapes each signal keeps, and how many marks it has seen at most.
const SAVED_MAX: usize = 100;
const SEEN_MAX: usize = 1 << 20;
/// How many hashes tell how alike two runs are.
const HASHES: usize = 50;
/// How many runs like it a kept one is worth, times one more than it showed first; and at most.
const CHILDREN: u64 = 50;
const CHILDREN_MAX: u64 = 500;
/// So many changed orders without anything new, and inputs are changed instead.
const STALE: u32 = 25;
/// One run in so many is made as if nothing had been learned.
const PLAIN: u64 = 10;
/// A signal's gain for a step of a node is counted in these.
const SCALE: u64 = 1 << 24;

/// What a run showed, a list of marks for each signal.
pub(crate) type Showing = [Vec<u64>; SIGNALS];

/// Orders of labels, shapes of the group, goals.
pub(crate) const SIGNALS: usize = 3;

/// A run like a kept one.
#[derive(Debug)]
pub(super) struct Mutant {
    pub(super) tape: Tape,
    /// Which of the scenario's schedulers fills its holes.
    pub(super) scheduler: usize,
    /// Whose parent it has.
    pub(super) signal: usize,
}

#[derive(Debug)]
struct Saved {
    tape: Arc<Tape>,
    scheduler: usize,
    sketch: [u64; HASHES],
    priority: u64,
    children: u64,
    is_visited: bool,
}

/// The parent whose children are being made.
#[derive(Debug)]
struct Walk {
    tape: Arc<Tape>,
    scheduler: usize,
    left: u64,
    /// Children in a row that showed nothing new.
    stale: u32,
}

#[derive(Debug, Default)]
struct Signal {
    seen: BTreeSet<u64>,
    saved: Vec<Saved>,
    walk: Option<Walk>,
    /// What was gained lately for a step, in parts of [`SCALE`].
    rate: u64,
}

/// Everything that was learned.
#[derive(Debug)]
pub(super) struct Search {
    seed: u64,
    signals: [Signal; SIGNALS],
    /// Hashes of all marks of orders that a run had, one a run.
    timelines: BTreeSet<u64>,
}

impl Search {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            seed,
            signals: Default::default(),
            timelines: BTreeSet::new(),
        }
    }

    /// How many marks of each signal, and different timelines, were seen.
    pub(super) fn coverage(&self) -> ([usize; SIGNALS], usize) {
        let seen = [0, 1, 2].map(|at: usize| self.signals[at].seen.len());
        (seen, self.timelines.len())
    }

    /// The run of that number as a child of a kept one; none, if it is to be a plain one.
    pub(super) fn mutant(&mut self, run: u64) -> Option<Mutant> {
        let mut prng = Prng::at(self.seed ^ 0x6d75_7461_6e74, run);
        if run.is_multiple_of(PLAIN) {
            return None;
        }
        let signal = self.pick(&mut prng)?;
        let walk = self.signals[signal].walk()?;
        let aim = if walk.stale < STALE {
            Aim::Order
        } else {
            Aim::Inputs
        };
        walk.left -= 1;
        Some(Mutant {
            tape: mutate(&walk.tape, aim, prng.next() | 1),
            scheduler: walk.scheduler,
            signal,
        })
    }

    /// A signal that has something, in proportion to what it gained lately; none gets less than
    /// a twentieth.
    fn pick(&self, prng: &mut Prng) -> Option<usize> {
        let rates = self.signals.iter().map(|one| one.rate);
        let least = rates.sum::<u64>() / 20 + 1;
        let weight = |one: &Signal| {
            if one.saved.is_empty() {
                0
            } else {
                one.rate.max(least)
            }
        };
        let total: u64 = self.signals.iter().map(weight).sum();
        if total == 0 {
            return None;
        }
        let mut left = prng.below(total);
        self.signals.iter().position(|one| {
            let is_it = left < weight(one);
            left = left.saturating_sub(weight(one));
            is_it
        })
    }

    /// Learns from a run: what it showed, in how many steps, and from whose parent it came.
    pub(super) fn learn(
        &mut self,
        showing: &Showing,
        (tape, scheduler): (&Tape, usize),
        steps: u64,
        parent: Option<usize>,
    ) {
        let whole = showing[0].iter().fold(0, |all, &mark| mix(all, mark));
        if self.timelines.len() < SEEN_MAX {
            self.timelines.insert(whole);
        }
        let mut kept: Option<Arc<Tape>> = None;
        for (at, (signal, marks)) in self.signals.iter_mut().zip(showing).enumerate() {
            let gained = signal.see(marks);
            if parent == Some(at) {
                let now = gained * SCALE / steps.max(1);
                signal.rate = (signal.rate * 15 + now) / 16;
                if let Some(walk) = &mut signal.walk {
                    walk.stale = if gained > 0 { 0 } else { walk.stale + 1 };
                }
            }
            let Some(entry) = signal.entry(marks, gained) else {
                continue;
            };
            let tape = kept.get_or_insert_with(|| Arc::new(tape.clone()));
            signal.keep(Saved {
                tape: Arc::clone(tape),
                scheduler,
                ..entry
            });
        }
    }
}

impl Signal {
    /// How many of the marks are new.
    fn see(&mut self, marks: &[u64]) -> u64 {
        let mut gained = 0;
        for &mark in marks {
            if self.seen.len() < SEEN_MAX {
                gained += u64::from(self.seen.insert(mark));
            }
        }
        gained
    }

    /// What the run would be kept as, without its tape; none if it is like a kept one, or not
    /// worth any of their places.
    fn entry(&self, marks: &[u64], gained: u64) -> Option<Saved> {
        let sketch = sketch(marks);
        let closest = self.saved.iter().map(|one| alike(&one.sketch, &sketch));
        let diversity = HASHES - closest.max().unwrap_or(0);
        let priority = u64::try_from(diversity).ok()? * (1 + gained);
        let least = self.saved.iter().map(|one| one.priority).min();
        let is_worth = self.saved.len() < SAVED_MAX || least < Some(priority);
        (priority > 0 && !marks.is_empty() && is_worth).then(|| Saved {
            tape: Arc::new(Tape::normal()),
            scheduler: 0,
            sketch,
            priority,
            children: (CHILDREN * (1 + gained)).min(CHILDREN_MAX),
            is_visited: false,
        })
    }

    fn keep(&mut self, entry: Saved) {
        if self.saved.len() == SAVED_MAX {
            let least = (0..SAVED_MAX).min_by_key(|&at| self.saved[at].priority);
            self.saved.swap_remove(least.expect("there are many"));
        }
        self.saved.push(entry);
    }

    /// The parent to make a child of: the one at hand, else the best that was not visited, else
    /// all begin anew.
    fn walk(&mut self) -> Option<&mut Walk> {
        if self.walk.as_ref().is_none_or(|walk| walk.left == 0) {
            if self.saved.iter().all(|one| one.is_visited) {
                self.saved.iter_mut().for_each(|one| one.is_visited = false);
            }
            let fresh = self.saved.iter_mut().filter(|one| !one.is_visited);
            let best = fresh.max_by_key(|one| one.priority)?;
            best.is_visited = true;
            self.walk = Some(Walk {
                tape: Arc::clone(&best.tape),
                scheduler: best.scheduler,
                left: best.children,
                stale: 0,
            });
        }
        self.walk.as_mut()
    }
}

/// The least of fifty hashes of all marks (Broder 1997): two sets agree in one as often as their
/// intersection is of their union.
fn sketch(marks: &[u64]) -> [u64; HASHES] {
    let mut least = [u64::MAX; HASHES];
    for &mark in marks {
        let mut salt = mix(mark, 0x5eed);
        for slot in &mut least {
            // A multiplication each, from one good hash.
            salt = salt.wrapping_mul(0xd134_2543_de82_ef95).wrapping_add(1);
            *slot = (*slot).min(salt ^ (salt >> 31));
        }
    }
    least
}

fn alike(left: &[u64; HASHES], right: &[u64; HASHES]) -> usize {
    let pairs = left.iter().zip(right);
    pairs.filter(|(left, right)| left == right).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sketch_says_how_alike_two_sets_are() {
        let mut off = 0;
        for trial in 0..40 {
            let set =
                |from: u64| -> Vec<u64> { (from..from + 300).map(|it| mix(it, trial)).collect() };
            // 200 in common, of 400.
            let found = alike(&sketch(&set(0)), &sketch(&set(100)));
            off += found.abs_diff(25);
        }
        // The standard error of one is 3.5 of 50.
        assert!(off < 40 * 5, "off by {off} in 40 trials");
        assert_eq!(alike(&sketch(&[1, 2]), &sketch(&[2, 1])), HASHES);
    }

    fn show(search: &mut Search, marks: Vec<u64>, parent: Option<usize>) {
        let tape = Tape::fresh(marks[0]);
        search.learn(&[marks, vec![1], vec![1]], (&tape, 0), 1_000, parent);
    }

    #[test]
    fn what_is_like_a_kept_run_is_not_kept_and_what_is_kept_is_bounded() {
        let mut search = Search::new(1);
        assert!(search.mutant(1).is_none(), "nothing is there to change");
        show(&mut search, vec![1, 2, 3], None);
        show(&mut search, vec![1, 2, 3], None);
        assert_eq!(search.signals[0].saved.len(), 1);
        assert_eq!(search.coverage(), ([3, 1, 1], 1));
        for from in 0..300 {
            show(
                &mut search,
                (from * 9..from * 9 + 9).map(|it| it + 10).collect(),
                None,
            );
        }
        assert_eq!(search.signals[0].saved.len(), SAVED_MAX);
        assert_eq!(search.coverage().1, 301);
    }

    #[test]
    fn a_tenth_is_plain_and_every_signal_gets_some() {
        let mut search = Search::new(1);
        show(&mut search, vec![1, 2, 3], None);
        search.signals[0].rate = 1_000_000;
        let made: Vec<Option<usize>> = (0..1_000)
            .map(|run| search.mutant(run).map(|one| one.signal))
            .collect();
        let count = |wanted| made.iter().filter(|&&one| one == wanted).count();
        assert_eq!(count(None), 100);
        for signal in [Some(1), Some(2)] {
            assert!(count(signal) > 20, "{}", count(signal));
        }
        assert!(count(Some(0)) > 700);
    }

    #[test]
    fn parents_take_turns_from_the_best_on() {
        let mut search = Search::new(1);
        show(&mut search, (1..4).collect(), None);
        show(&mut search, (100..150).collect(), None);
        let signal = &mut search.signals[0];
        let mut turns = Vec::new();
        for _ in 0..4 {
            let walk = signal.walk().unwrap();
            turns.push(walk.tape.seed());
            walk.left = 0;
        }
        assert_eq!(turns, [100, 1, 100, 1]);
    }
}
