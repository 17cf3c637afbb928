//! How far a run comes with each goal, and which events it sees at all.

use std::collections::BTreeMap;

use holm_virtual::{Place, mix};

use super::facts::Fact;
use crate::scenario::{Goal, Operand, Relation, Step};

/// How many beginnings of a goal are followed at once. Of more, the shortest is let go.
const BEGINNINGS_MAX: usize = 64;

/// A goal's first steps, as they happened.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Beginning {
    steps: usize,
    bound: Vec<Option<u64>>,
}

/// What became of the goals in a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reached {
    /// Of each goal, how many of its steps happened in order.
    pub(crate) steps: Vec<usize>,
    /// How often each event was told.
    pub(crate) events: BTreeMap<&'static str, u64>,
}

impl Reached {
    /// Marks for a search: each step of each goal that happened, and each event, and about how
    /// often.
    pub(crate) fn marks(&self) -> Vec<u64> {
        let mut marks = Vec::new();
        for (goal, &steps) in (1..).zip(&self.steps) {
            let steps = u64::try_from(steps).expect("steps are few");
            marks.extend((1..=steps).map(|step| mix(goal, step)));
        }
        for (name, count) in &self.events {
            let place = Place::new(name).id();
            marks.push(mix(place, u64::from(u64::BITS - count.leading_zeros())));
        }
        marks.sort_unstable();
        marks
    }
}

/// Goals under way.
#[derive(Clone, Debug)]
pub(crate) struct Goals<'a> {
    goals: &'a [Goal],
    beginnings: Vec<Vec<Beginning>>,
    reached: Reached,
}

impl<'a> Goals<'a> {
    pub(crate) fn new(goals: &'a [Goal]) -> Self {
        Self {
            goals,
            beginnings: vec![Vec::new(); goals.len()],
            reached: Reached {
                steps: vec![0; goals.len()],
                events: BTreeMap::new(),
            },
        }
    }

    pub(crate) fn happened(&mut self, fact: &Fact) {
        *self.reached.events.entry(fact.name).or_default() += 1;
        for (at, goal) in self.goals.iter().enumerate() {
            if self.reached.steps[at] == goal.steps.len() {
                continue;
            }
            let longest = advance(goal, &mut self.beginnings[at], fact);
            self.reached.steps[at] = self.reached.steps[at].max(longest);
        }
    }

    pub(crate) fn reached(self) -> Reached {
        self.reached
    }
}

/// Lets every beginning that this fact goes on go on, and stay as it was too. Gives the length of
/// the longest.
fn advance(goal: &Goal, beginnings: &mut Vec<Beginning>, fact: &Fact) -> usize {
    let none = Beginning {
        steps: 0,
        bound: vec![None; goal.variables],
    };
    let longer: Vec<Beginning> = std::iter::once(&none)
        .chain(beginnings.iter())
        .filter_map(|one| {
            let bound = fit(goal.steps.get(one.steps)?, fact, &one.bound)?;
            let steps = one.steps + 1;
            Some(Beginning { steps, bound })
        })
        .collect();
    let longest = longer.iter().map(|one| one.steps).max().unwrap_or(0);
    for one in longer {
        if beginnings.contains(&one) {
            continue;
        }
        if beginnings.len() == BEGINNINGS_MAX {
            let shortest = (0..BEGINNINGS_MAX).min_by_key(|&at| beginnings[at].steps);
            beginnings.remove(shortest.expect("there are many"));
        }
        beginnings.push(one);
    }
    longest
}

/// What is bound after this fact, if it is what the step waits for.
fn fit(step: &Step, fact: &Fact, bound: &[Option<u64>]) -> Option<Vec<Option<u64>>> {
    if step.event != fact.name {
        return None;
    }
    let mut bound = bound.to_vec();
    for test in &step.tests {
        let value = fact.field(test.field)?;
        let other = match test.operand {
            Operand::Number(number) => number,
            Operand::Variable(at) => *bound[at].get_or_insert(value),
        };
        let holds = match test.relation {
            Relation::Equal => value == other,
            Relation::Unequal => value != other,
            Relation::Above => value > other,
            Relation::Below => value < other,
        };
        if !holds {
            return None;
        }
    }
    Some(bound)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::Test;

    fn term(relation: Relation) -> Step {
        Step {
            event: "LeaderElected",
            tests: vec![Test {
                field: "term",
                relation,
                operand: Operand::Variable(0),
            }],
        }
    }

    fn elected(term: u64) -> Fact {
        Fact {
            name: "LeaderElected",
            fields: vec![("term", term)],
        }
    }

    fn follow(steps: Vec<Step>, terms: &[u64]) -> usize {
        let goal = Goal {
            name: "g".to_owned(),
            steps,
            variables: 1,
        };
        let goals = [goal];
        let mut under_way = Goals::new(&goals);
        for &term in terms {
            under_way.happened(&elected(term));
        }
        under_way.reached().steps[0]
    }

    #[test]
    fn a_variable_is_bound_once_and_compared_from_then_on() {
        let rising = || vec![term(Relation::Equal), term(Relation::Above)];
        assert_eq!(follow(rising(), &[5]), 1);
        assert_eq!(follow(rising(), &[5, 4]), 1);
        assert_eq!(follow(rising(), &[5, 4, 5]), 2, "another beginning goes on");
        let same = || vec![term(Relation::Equal), term(Relation::Equal)];
        assert_eq!(follow(same(), &[1, 2, 3]), 1);
        assert_eq!(follow(same(), &[1, 2, 1]), 2);
    }

    #[test]
    fn beginnings_are_bounded_and_the_longest_stay() {
        let steps = vec![
            term(Relation::Equal),
            term(Relation::Below),
            term(Relation::Below),
        ];
        let terms: Vec<u64> = [900, 800]
            .into_iter()
            .chain(1_000..2_000)
            .chain([700])
            .collect();
        assert_eq!(follow(steps, &terms), 3);
    }
}
