//! Is there any order that explains a history? The search of Wing and Gong, with Lowe's memory.
//!
//! For histories without published numbers, and to check the witness. It is exponential, so it
//! has a limit, and beyond it the answer is *undecided*.

use std::collections::BTreeSet;

use crate::history::{History, Model, Operation, Outcome};
use crate::verdict::{Verdict, Violation};

const JUDGE: &str = "linearizable";

/// How many operations fit the set of those that are done.
const OPERATIONS_MAX: usize = 128;

/// Looks for an order in which the model gives every answer, and which no two operations
/// contradict of which one returned before the other was invoked.
///
/// An operation without a known end may come at any place after its invocation, or nowhere.
/// Each pair of operations done and state reached is looked at once; after `states_max` of them
/// the search gives up.
#[must_use]
pub fn wgl<M: Model>(
    model: &M,
    history: &History<M::Call, M::Reply>,
    states_max: usize,
) -> Verdict {
    let operations: Vec<&Operation<M::Call, M::Reply>> = history
        .operations()
        .iter()
        .filter(|operation| operation.outcome != Outcome::Refused)
        .collect();
    if operations.len() > OPERATIONS_MAX {
        return Verdict::Undecided { states: 0 };
    }
    let all = mask(&operations, |operation| operation.reply().is_some());
    let mut seen: BTreeSet<(u128, M::State)> = BTreeSet::new();
    let mut stack = vec![(0_u128, model.start())];
    let mut furthest = 0_u128;
    while let Some((done, state)) = stack.pop() {
        if done & all == all {
            return Verdict::Kept;
        }
        if seen.len() >= states_max {
            return Verdict::Undecided { states: seen.len() };
        }
        if !seen.insert((done, state.clone())) {
            continue;
        }
        if (done & all).count_ones() > (furthest & all).count_ones() {
            furthest = done;
        }
        follow(model, &operations, done, &state, &mut stack);
    }
    Verdict::Broken(stuck(&operations, furthest))
}

/// Pushes what can come next: whatever was invoked before the first return still to come.
fn follow<M: Model>(
    model: &M,
    operations: &[&Operation<M::Call, M::Reply>],
    done: u128,
    state: &M::State,
    stack: &mut Vec<(u128, M::State)>,
) {
    let left = || bits().zip(operations).filter(|(bit, _)| done & bit == 0);
    let first_return = left()
        .filter_map(|(_, operation)| operation.returned_at())
        .min();
    for (bit, operation) in left() {
        if first_return.is_some_and(|at| operation.invoked > at) {
            continue;
        }
        let mut next = state.clone();
        let reply = model.apply(&mut next, &operation.call);
        if operation.reply().is_none_or(|seen| *seen == reply) {
            stack.push((done | bit, next));
        }
    }
}

fn bits() -> impl Iterator<Item = u128> {
    (0..128).map(|shift| 1_u128 << shift)
}

fn mask<T>(items: &[T], is_in: impl Fn(&T) -> bool) -> u128 {
    let chosen = bits().zip(items).filter(|(_, item)| is_in(item));
    chosen.fold(0, |mask, (bit, _)| mask | bit)
}

fn stuck<C, R>(operations: &[&Operation<C, R>], done: u128) -> Violation {
    let left = bits().zip(operations).filter(|(bit, _)| done & bit == 0);
    let next = left
        .filter(|(_, operation)| operation.returned_at().is_some())
        .min_by_key(|(_, operation)| operation.returned_at());
    let place = next.map_or_else(String::new, |(_, operation)| {
        format!(
            "no order explains the answer to client {}, asked at {}",
            operation.client, operation.invoked
        )
    });
    Violation::new(JUDGE, "some order explains all answers", place)
}
