//! The order that a store publishes, taken at its word and held against real time.
//!
//! Five steps: unknown ends are settled by a complete stream of what happened; the numbers are
//! dense and unique; the writes are replayed by number, and every answer must be the model's;
//! reads equal the state at their number; and no number contradicts real time.
//!
//! What would surprise: nothing is sorted. The numbers of a run are dense, so each has a seat of its own, and along
//! the numbers time is held against them too. Only who breaks that is looked for along time.

mod order;
mod publication;

use std::collections::BTreeMap;
use std::fmt::Debug;

use crate::history::{History, Model, Operation};
use crate::verdict::Violation;
use order::{Fault, Order};
use publication::{Publication, index, seat};

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
    let published = Publication::new(published)?;
    let order = settle(model, operations, &published)?;
    dense::<M>(&published)?;
    let pace = replay(model, operations, &order)?;
    if pace.is_broken || order.has_older {
        return in_time(model, operations, &order);
    }
    Ok(())
}

fn broken<T>(rule: &'static str, place: String) -> Result<T, Violation> {
    Err(Violation::new(JUDGE, rule, place))
}

fn settle<M: Numbered>(
    model: &M,
    operations: &[Operation<M::Call, M::Reply>],
    published: &Publication,
) -> Result<Order, Violation>
where
    M::Call: Debug,
{
    let order = Order::new(model, operations, published);
    if let Some((at, fault)) = order.faulty {
        let call = &operations[at].call;
        return match fault {
            Fault::Unpublished { told, found } => {
                let place = format!("{call:?} was told {told}, published is {found:?}");
                broken("an acknowledged write is published", place)
            }
            Fault::Happened { at } => {
                let place = format!("{call:?} is published at {at}");
                broken("what was refused did not happen", place)
            }
        };
    }
    if let Some((&place, &other)) = order.claimed.first_key_value() {
        let (one, revision) = (order.writes[seat(place)], published.number(place));
        let (one, other) = (index(one).unwrap_or(0), index(other).unwrap_or(0));
        let place = format!("{} of operations {one} and {other}", revision.unwrap_or(0));
        return broken("a number names one write", place);
    }
    let made = published.numbers().iter().zip(&order.writes[1..]);
    match made.into_iter().find(|&(_, &write)| write == 0) {
        None => Ok(order),
        Some((at, _)) => broken("somebody asked for every write", format!("not for {at}")),
    }
}

fn dense<M: Numbered>(published: &Publication) -> Result<(), Violation> {
    for (&revision, expected) in published.numbers().iter().zip(M::FIRST + 1..) {
        if revision != expected {
            return broken("numbers have no gap", format!("{expected} is missing"));
        }
    }
    Ok(())
}

/// Holds time against the numbers as they rise: nobody is answered before everybody has asked who is to come earlier.
#[derive(Default)]
struct Pace {
    /// When the last one asked who has a smaller number, or wrote this one.
    asked: u64,
    /// And the last of those who read this one.
    read: u64,
    /// Whether somebody was answered too early.
    is_broken: bool,
}

impl Pace {
    /// The next number's write: all who were before have a smaller one.
    fn write<C, R>(&mut self, write: &Operation<C, R>) {
        self.asked = self.asked.max(self.read);
        self.hold(write);
        self.asked = self.asked.max(write.invoked);
    }

    /// A read at the same number.
    fn read<C, R>(&mut self, read: &Operation<C, R>) {
        self.hold(read);
        self.read = self.read.max(read.invoked);
    }

    fn hold<C, R>(&mut self, operation: &Operation<C, R>) {
        self.is_broken |= operation.returned_at().is_some_and(|at| at < self.asked);
    }
}

/// Carries out the writes by number, and asks each read at its own. Whether the numbers keep to time is seen on the way.
fn replay<M: Numbered>(
    model: &M,
    operations: &[Operation<M::Call, M::Reply>],
    order: &Order,
) -> Result<Pace, Violation>
where
    M::Call: Debug,
    M::Reply: Debug,
{
    if let Some(revision) = order.beyond {
        let last = M::FIRST + (order.writes.len() - 1) as u64;
        let place = format!("{revision} was read, the last write is {last}");
        return broken("nobody reads what was never written", place);
    }
    let (mut state, mut pace) = (model.start(), Pace::default());
    let places = order.writes.iter().zip(&order.reads);
    for ((&write, &read), revision) in places.zip(M::FIRST..) {
        if let Some(write) = index(write).map(|at| &operations[at]) {
            let reply = model.apply(&mut state, &write.call);
            equal(write, &reply, revision)?;
            pace.write(write);
        }
        let mut reads = index(read);
        while let Some(at) = reads {
            let read = &operations[at];
            let reply = model.peek(&state, &read.call);
            equal(read, &reply, revision)?;
            pace.read(read);
            reads = index(order.next[at]);
        }
    }
    Ok(pace)
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

/// Names the first who got a number that contradicts real time: neither is anything older than what was already
/// returned, nor does anybody quote what nobody has asked for yet.
///
/// Slower than [`Pace`], which knows whether there is anybody, except where a read quotes what lies before the first
/// number.
fn in_time<M: Numbered>(
    model: &M,
    operations: &[Operation<M::Call, M::Reply>],
    order: &Order,
) -> Result<(), Violation>
where
    M::Call: Debug,
{
    let quoted = operations.iter().map(|it| model.revision(it.reply()?));
    let mut numbers: Vec<Option<u64>> = quoted.collect();
    let mut is_write = vec![false; operations.len()];
    for (&write, revision) in order.writes.iter().zip(M::FIRST..) {
        if let Some(at) = index(write) {
            numbers[at] = Some(revision);
            is_write[at] = true;
        }
    }
    let returns = operations.iter().zip(&numbers);
    let returns = returns.filter_map(|(it, number)| Some((it.returned_at()?, number.unwrap_or(0))));
    let mut returns: Vec<(u64, u64)> = returns.collect();
    returns.sort_unstable();
    let (mut behind, mut newest) = (returns.iter().peekable(), 0);
    for ((operation, &own), is_write) in operations.iter().zip(&numbers).zip(is_write) {
        while let Some(&(_, number)) = behind.next_if(|(at, _)| *at < operation.invoked) {
            newest = newest.max(number);
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
