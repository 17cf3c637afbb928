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

/// Sorts pairs whose second parts rise. Numbers and times of a run lie close together and are counted then, which is
/// several times faster than comparing.
fn sort(pairs: &mut Vec<(u64, usize)>) {
    let keys = || pairs.iter().map(|&(key, _)| key);
    let (Some(least), Some(most)) = (keys().min(), keys().max()) else {
        return;
    };
    if (most - least) / 4 >= pairs.len() as u64 {
        return pairs.sort_unstable();
    }
    let slot = |key: u64| usize::try_from(key - least).expect("no more than four for each pair");
    let mut starts = vec![0; slot(most) + 2];
    keys().for_each(|key| starts[slot(key) + 1] += 1);
    let mut sum = 0;
    for start in &mut starts {
        sum += *start;
        *start = sum;
    }
    let mut sorted = vec![(0, 0); pairs.len()];
    for &(key, other) in &*pairs {
        let place = &mut starts[slot(key)];
        sorted[*place] = (key, other);
        *place += 1;
    }
    *pairs = sorted;
}

/// Which operation made each number, in the order of the numbers.
type Writes = Vec<(u64, usize)>;

/// The number that is published for the mark of each operation.
fn found<M: Numbered>(
    model: &M,
    operations: &[Operation<M::Call, M::Reply>],
    published: &Published,
) -> Result<Vec<Option<u64>>, Violation> {
    let at: Vec<u64> = published.keys().copied().collect();
    let marks = published.values().copied();
    let mut by_mark: Vec<(u64, usize)> = marks.zip(0..).collect();
    sort(&mut by_mark);
    if by_mark
        .array_windows()
        .any(|[(one, _), (next, _)]| one == next)
    {
        return broken("a write happens once", "a mark has two numbers".to_owned());
    }
    let marked = operations.iter().enumerate();
    let marked = marked.filter_map(|(index, it)| Some((model.mark(&it.call)?, index)));
    let mut marked: Vec<(u64, usize)> = marked.collect();
    sort(&mut marked);
    let mut found = vec![None; operations.len()];
    let mut published = by_mark.into_iter().peekable();
    for (mark, index) in marked {
        while published.next_if(|&(other, _)| other < mark).is_some() {}
        let same = published.peek().filter(|&&(other, _)| other == mark);
        found[index] = same.map(|&(_, place)| at[place]);
    }
    Ok(found)
}

fn settle<M: Numbered>(
    model: &M,
    operations: &[Operation<M::Call, M::Reply>],
    published: &Published,
) -> Result<Writes, Violation>
where
    M::Call: Debug,
{
    let found = found(model, operations, published)?;
    let mut writes = Writes::new();
    for (index, (operation, &found)) in operations.iter().zip(&found).enumerate() {
        let made = match &operation.outcome {
            Outcome::Returned { reply, .. } if model.wrote(&operation.call, reply) => {
                let quoted = model.revision(reply).or(found);
                if quoted.is_none() || quoted != found {
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
            Outcome::Unknown => found,
        };
        writes.extend(made.map(|revision| (revision, index)));
    }
    sort(&mut writes);
    for [(revision, one), (next, other)] in writes.array_windows() {
        if revision == next {
            let place = format!("{revision} of operations {one} and {other}");
            return broken("a number names one write", place);
        }
    }
    // Each number of `writes` is published, so the first that differs was asked for by nobody.
    let made = writes.iter().map(|&(at, _)| Some(at)).chain([None]);
    match published
        .keys()
        .zip(made)
        .find(|&(&at, made)| made != Some(at))
    {
        None => Ok(writes),
        Some((at, _)) => broken("somebody asked for every write", format!("not for {at}")),
    }
}

fn dense<M: Numbered>(writes: &Writes) -> Result<(), Violation> {
    for (&(revision, _), expected) in writes.iter().zip(M::FIRST + 1..) {
        if revision != expected {
            return broken("numbers have no gap", format!("{expected} is missing"));
        }
    }
    Ok(())
}

fn replay<M: Numbered>(
    model: &M,
    operations: &[Operation<M::Call, M::Reply>],
    writes: &Writes,
) -> Result<(), Violation>
where
    M::Call: Debug,
    M::Reply: Debug,
{
    let reads = operations.iter().enumerate().filter_map(|(index, read)| {
        let reply = read
            .reply()
            .filter(|reply| !model.wrote(&read.call, reply))?;
        Some((model.revision(reply)?, index))
    });
    let mut reads: Vec<(u64, usize)> = reads.collect();
    sort(&mut reads);
    let last = writes.last().map_or(M::FIRST, |&(last, _)| last);
    let newer = reads.partition_point(|&(revision, _)| revision <= last);
    if let Some((revision, _)) = reads.get(newer) {
        let place = format!("{revision} was read, the last write is {last}");
        return broken("nobody reads what was never written", place);
    }
    let older = reads.partition_point(|&(revision, _)| revision < M::FIRST);
    let mut reads = reads[older..].iter().peekable();
    let mut state = model.start();
    let writes = writes.iter().map(|&(at, index)| (at, Some(index)));
    for (revision, write) in [(M::FIRST, None)].into_iter().chain(writes) {
        if let Some(write) = write.map(|index| &operations[index]) {
            let reply = model.apply(&mut state, &write.call);
            equal(write, &reply, revision)?;
        }
        while let Some(&(_, index)) = reads.next_if(|&&(at, _)| at == revision) {
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
    writes: &Writes,
) -> Result<(), Violation>
where
    M::Call: Debug,
{
    let quoted = operations.iter().map(|it| model.revision(it.reply()?));
    let mut numbers: Vec<Option<u64>> = quoted.collect();
    let mut is_write = vec![false; operations.len()];
    for &(revision, index) in writes {
        numbers[index] = Some(revision);
        is_write[index] = true;
    }
    let returns = operations.iter().enumerate();
    let returns = returns.filter_map(|(index, it)| Some((it.returned_at()?, index)));
    let mut returns: Vec<(u64, usize)> = returns.collect();
    sort(&mut returns);
    let (mut behind, mut newest) = (returns.iter().peekable(), 0);
    for ((operation, &own), is_write) in operations.iter().zip(&numbers).zip(is_write) {
        while let Some(&(_, index)) = behind.next_if(|(at, _)| *at < operation.invoked) {
            newest = newest.max(numbers[index].unwrap_or(0));
        }
        let Some(own) = own else { continue };
        // A write is new: its number was quoted before anybody asked for it, or it is older
        // than what was quoted. A read may see what was already seen.
        let rule = match is_write {
            true if own <= newest => "nobody quotes the future",
            _ if own < newest => "nothing is older than what was answered before",
            _ => continue,
        };
        let call = &operation.call;
        let place = format!("{call:?} got {own} after {newest} had been answered");
        return broken(rule, place);
    }
    Ok(())
}
