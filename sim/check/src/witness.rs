//! The order that a store publishes, taken at its word and held against real time.
//!
//! Five steps: unknown ends are settled by a complete stream of what happened; the numbers are
//! dense and unique; the writes are replayed by number, and every answer must be the model's;
//! reads equal the state at their number; and no number contradicts real time.

use std::collections::BTreeMap;
use std::fmt::Debug;

use crate::history::{History, Model, Operation, Outcome};
use crate::verdict::Violation;

const JUDGE: &str = "linearizable";

/// A model whose writes are numbered one by one.
pub trait Numbered: Model {
    /// The number before the first write.
    const FIRST: u64;

    /// What makes this write unlike any other of the run; `None` for what never writes.
    fn mark(&self, call: &Self::Call) -> Option<u64>;

    /// The number that an answer quotes; `None` if it quotes none.
    fn revision(&self, reply: &Self::Reply) -> Option<u64>;

    /// Whether this answer says that something was written.
    fn wrote(&self, call: &Self::Call, reply: &Self::Reply) -> bool;
}

/// What a complete watch, read after healing, says has happened: the mark of each number.
pub type Published = BTreeMap<u64, u64>;

/// Judges a history by the numbers of its writes.
///
/// `published` must be complete: a mark that is not in it has not been written and never will.
///
/// # Errors
///
/// The first violation, in the order of the five steps.
pub fn witness<M>(
    model: &M,
    history: &History<M::Call, M::Reply>,
    published: &Published,
) -> Result<(), Violation>
where
    M: Numbered,
    M::Call: Debug,
    M::Reply: Debug,
{
    let operations = history.operations();
    let writes = settle(model, operations, published)?;
    dense::<M>(&writes)?;
    replay(model, operations, &writes)?;
    in_time(model, operations, &writes)
}

fn broken<T>(rule: &'static str, place: String) -> Result<T, Violation> {
    Err(Violation::new(JUDGE, rule, place))
}

/// Which operation made each number.
fn settle<M: Numbered>(
    model: &M,
    operations: &[Operation<M::Call, M::Reply>],
    published: &Published,
) -> Result<BTreeMap<u64, usize>, Violation>
where
    M::Call: Debug,
{
    let by_mark: BTreeMap<u64, u64> = published.iter().map(|(&at, &mark)| (mark, at)).collect();
    if by_mark.len() != published.len() {
        return broken("a write happens once", "a mark has two numbers".to_owned());
    }
    let mut writes: BTreeMap<u64, usize> = BTreeMap::new();
    for (index, operation) in operations.iter().enumerate() {
        let found = model
            .mark(&operation.call)
            .and_then(|mark| by_mark.get(&mark));
        let quoted = match &operation.outcome {
            Outcome::Returned { reply, .. } if model.wrote(&operation.call, reply) => {
                let quoted = model.revision(reply).or_else(|| found.copied());
                if quoted.is_none() || quoted != found.copied() {
                    let (call, told) = (&operation.call, quoted.unwrap_or(0));
                    let place = format!("{call:?} was told {told}, published is {found:?}");
                    return broken("an acknowledged write is published", place);
                }
                quoted
            }
            Outcome::Returned { .. } | Outcome::Refused => {
                if let Some(at) = found {
                    let place = format!("{:?} is published at {at}", operation.call);
                    return broken("what was refused did not happen", place);
                }
                None
            }
            Outcome::Unknown => found.copied(),
        };
        if let Some(revision) = quoted
            && let Some(other) = writes.insert(revision, index)
        {
            let place = format!("{revision} of operations {other} and {index}");
            return broken("a number names one write", place);
        }
    }
    match published.keys().find(|at| !writes.contains_key(at)) {
        None => Ok(writes),
        Some(at) => broken("somebody asked for every write", format!("not for {at}")),
    }
}

fn dense<M: Numbered>(writes: &BTreeMap<u64, usize>) -> Result<(), Violation> {
    for (&revision, expected) in writes.keys().zip(M::FIRST + 1..) {
        if revision != expected {
            return broken("numbers have no gap", format!("{expected} is missing"));
        }
    }
    Ok(())
}

fn replay<M: Numbered>(
    model: &M,
    operations: &[Operation<M::Call, M::Reply>],
    writes: &BTreeMap<u64, usize>,
) -> Result<(), Violation>
where
    M::Call: Debug,
    M::Reply: Debug,
{
    let mut reads: BTreeMap<u64, Vec<usize>> = BTreeMap::new();
    for (index, operation) in operations.iter().enumerate() {
        if let Some(reply) = operation.reply()
            && !model.wrote(&operation.call, reply)
            && let Some(revision) = model.revision(reply)
        {
            reads.entry(revision).or_default().push(index);
        }
    }
    let last = writes.keys().next_back().copied().unwrap_or(M::FIRST);
    if let Some((&revision, _)) = reads.range(last + 1..).next() {
        let place = format!("{revision} was read, the last write is {last}");
        return broken("nobody reads what was never written", place);
    }
    let mut state = model.start();
    for revision in M::FIRST..=last {
        if let Some(write) = writes.get(&revision).map(|&index| &operations[index]) {
            let reply = model.apply(&mut state, &write.call);
            equal(write, &reply, revision)?;
        }
        for &index in reads.get(&revision).into_iter().flatten() {
            let read = &operations[index];
            let reply = model.peek(&state, &read.call);
            equal(read, &reply, revision)?;
        }
    }
    Ok(())
}

fn equal<C: Debug, R: PartialEq + Debug>(
    operation: &Operation<C, R>,
    reply: &R,
    revision: u64,
) -> Result<(), Violation> {
    match operation.reply() {
        Some(seen) if seen != reply => {
            let call = &operation.call;
            let place = format!("{call:?} at {revision} was told {seen:?}, not {reply:?}");
            broken("every answer is the model's", place)
        }
        Some(_) | None => Ok(()),
    }
}

/// No number contradicts real time: neither is anything older than what was already returned,
/// nor does anybody quote what nobody has asked for yet.
fn in_time<M: Numbered>(
    model: &M,
    operations: &[Operation<M::Call, M::Reply>],
    writes: &BTreeMap<u64, usize>,
) -> Result<(), Violation>
where
    M::Call: Debug,
{
    let number_of: BTreeMap<usize, u64> = writes.iter().map(|(&at, &index)| (index, at)).collect();
    let number = |index: usize| {
        let written = number_of.get(&index).copied();
        written.or_else(|| {
            operations[index]
                .reply()
                .and_then(|reply| model.revision(reply))
        })
    };
    let mut returns: Vec<(u64, u64)> = (0..operations.len())
        .filter_map(|index| Some((operations[index].returned_at()?, number(index)?)))
        .collect();
    returns.sort_unstable();
    let (mut behind, mut newest) = (returns.iter().peekable(), 0);
    for (index, operation) in operations.iter().enumerate() {
        while let Some((_, revision)) = behind.next_if(|(at, _)| *at < operation.invoked) {
            newest = newest.max(*revision);
        }
        let Some(own) = number(index) else { continue };
        let call = &operation.call;
        let place = format!("{call:?} got {own} after {newest} had been answered");
        // A write is new: its number was quoted before anybody asked for it, or it is older
        // than what was quoted. A read may see what was already seen.
        if number_of.contains_key(&index) && own <= newest {
            return broken("nobody quotes the future", place);
        }
        if own < newest {
            return broken("nothing is older than what was answered before", place);
        }
    }
    Ok(())
}
