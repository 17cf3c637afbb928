//! How the panes of a window are put together, and which way costs least.
//!
//! | strategy | when | what it does for a window of n panes |
//! |--|--|--|
//! | recompute | few panes | adds up all n |
//! | running | all aggregates can be taken back | adds the newest pane, takes the oldest away |
//! | two stacks | else | one sum of the older panes made ahead, one of the newer as they come |
//! | prefix | cumulating windows | adds the newest pane to what the cycle has so far |
//!
//! The unit of cost is one addition of a pane's states. A way that needs memory for every pane
//! pays for it in the unit, too: two stacks write what they read.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use holm_lanes::{LoadError, Loader, Saver};

use crate::aggregate::Call;
use crate::grid::Grid;
use crate::shared::seen;
use crate::slice::Slice;

/// A way to put panes together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strategy {
    /// Adds up all panes of each window.
    Recompute,
    /// Adds the newest and takes the oldest away.
    Running,
    /// Sums of older panes made ahead, of newer as they come.
    TwoStacks,
    /// Adds the newest to what the cycle has so far.
    Prefix,
}

impl fmt::Display for Strategy {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Recompute => "recompute",
            Self::Running => "running",
            Self::TwoStacks => "two stacks",
            Self::Prefix => "prefix",
        })
    }
}

/// What the ways would cost for each window, in additions of a pane; `None` where a way is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost {
    /// Of recompute.
    pub recompute: i64,
    /// Of running.
    pub running: Option<i64>,
    /// Of two stacks.
    pub two_stacks: Option<i64>,
    /// Of prefix.
    pub prefix: Option<i64>,
}

impl Cost {
    /// The costs of a grid and its aggregates.
    #[must_use]
    pub fn of(grid: &Grid, calls: &[Call]) -> Self {
        let slide = grid.slide();
        let has_inverse = calls.iter().all(|call| call.aggregate.is_invertible());
        let is_hopping = !grid.is_cumulating() && grid.panes() > 1;
        Self {
            recompute: grid.panes(),
            running: (is_hopping && has_inverse).then_some(2 * slide),
            two_stacks: is_hopping.then_some(2 * slide + 1),
            prefix: grid.is_cumulating().then_some(1),
        }
    }

    /// The way that costs least; the simpler one where two cost the same.
    #[must_use]
    pub fn cheapest(&self) -> Strategy {
        let mut best = (self.recompute, Strategy::Recompute);
        for (cost, strategy) in [
            (self.running, Strategy::Running),
            (self.two_stacks, Strategy::TwoStacks),
            (self.prefix, Strategy::Prefix),
        ] {
            if let Some(cost) = cost
                && cost < best.0
            {
                best = (cost, strategy);
            }
        }
        best.1
    }
}

/// Panes by their number; only those with rows.
pub(crate) type Panes = BTreeMap<i64, Slice>;

/// A strategy with what it keeps between windows.
#[derive(Clone, Debug)]
pub(crate) enum Assembler {
    Recompute,
    Running {
        sum: Slice,
        to: i64,
    },
    TwoStacks {
        /// Sums from a pane up to `flip`, by the pane.
        front: Panes,
        flip: i64,
        back: Slice,
        to: i64,
    },
    Prefix {
        sum: Slice,
        from: i64,
        to: i64,
    },
}

impl Assembler {
    pub(crate) fn new(strategy: Strategy, calls: &[Call]) -> Self {
        let empty = || Slice::new(calls, false);
        match strategy {
            Strategy::Recompute => Self::Recompute,
            Strategy::Running => Self::Running {
                sum: empty(),
                to: i64::MIN,
            },
            Strategy::TwoStacks => Self::TwoStacks {
                front: Panes::new(),
                flip: i64::MIN,
                back: empty(),
                to: i64::MIN,
            },
            Strategy::Prefix => Self::Prefix {
                sum: empty(),
                from: i64::MIN,
                to: i64::MIN,
            },
        }
    }

    /// About how many bytes it takes.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Recompute => 0,
            Self::Running { sum, .. } | Self::Prefix { sum, .. } => sum.bytes(),
            Self::TwoStacks { front, back, .. } => {
                front.values().map(Slice::bytes).sum::<usize>() + back.bytes()
            }
        }
    }

    /// Hands out the states of the window of panes `from..end`. Windows come in order.
    pub(crate) fn close(
        &mut self,
        calls: &[Call],
        (panes, picked): (&Panes, Option<&[usize]>),
        (from, end): (i64, i64),
        out: impl FnOnce(&Slice),
    ) {
        match self {
            Self::Recompute => {
                let panes = panes.range(from..end);
                sum_of(calls, panes.map(|(_, pane)| seen(pane, picked)), out);
            }
            Self::Running { sum, to } => {
                for (_, pane) in panes.range((*to).max(from)..end) {
                    sum.merge(calls, &seen(pane, picked));
                }
                *to = end;
                out(sum);
            }
            Self::TwoStacks {
                front,
                flip,
                back,
                to,
            } => {
                if from >= *flip {
                    front.clear();
                    let mut next: Option<Slice> = None;
                    for (number, pane) in panes.range(from..end).rev() {
                        let mut sum = seen(pane, picked).into_owned();
                        if let Some(next) = &next {
                            sum.merge(calls, next);
                        }
                        sum.seal();
                        front.insert(*number, sum.clone());
                        next = Some(sum);
                    }
                    *flip = end;
                    *back = Slice::new(calls, false);
                } else {
                    for (_, pane) in panes.range((*to).max(*flip)..end) {
                        back.merge(calls, &seen(pane, picked));
                    }
                }
                *to = end;
                let older = front.range(from..).next().map(|(_, sum)| sum);
                let newer = (!back.is_empty()).then_some(&*back);
                let both = older.into_iter().chain(newer);
                sum_of(calls, both.map(Cow::Borrowed), out);
            }
            Self::Prefix {
                sum,
                from: cycle,
                to,
            } => {
                if *cycle != from {
                    *sum = Slice::new(calls, false);
                    (*cycle, *to) = (from, from);
                }
                for (_, pane) in panes.range(*to..end) {
                    sum.merge(calls, &seen(pane, picked));
                }
                *to = end;
                out(sum);
            }
        }
    }

    /// Applies a row that came after its pane was taken in to all sums that hold the pane.
    pub(crate) fn amend(&mut self, pane: i64, mut add: impl FnMut(&mut Slice)) {
        match self {
            Self::Recompute => {}
            Self::Running { sum, to } => {
                if pane < *to {
                    add(sum);
                }
            }
            Self::TwoStacks {
                front,
                flip,
                back,
                to,
            } => {
                if pane < *flip {
                    // The pane may be a new one, and then has no sum of its own yet.
                    if !front.contains_key(&pane)
                        && let Some((_, next)) = front.range(pane..).next()
                    {
                        let next = next.clone();
                        front.insert(pane, next);
                    } else if front.range(pane..).next().is_none() {
                        let mut empty = back.clone();
                        empty.clear();
                        front.insert(pane, empty);
                    }
                    front.range_mut(..=pane).for_each(|(_, sum)| add(sum));
                } else if pane < *to {
                    add(back);
                }
            }
            Self::Prefix { sum, from, to } => {
                if (*from..*to).contains(&pane) {
                    add(sum);
                }
            }
        }
    }

    /// Lets go of a pane that no later window has.
    pub(crate) fn retire(&mut self, number: i64, (pane, picked): (&Slice, Option<&[usize]>)) {
        match self {
            Self::Recompute | Self::Prefix { .. } => {}
            Self::Running { sum, to } => {
                if number < *to {
                    sum.subtract(&seen(pane, picked));
                }
            }
            Self::TwoStacks { front, .. } => {
                front.remove(&number);
            }
        }
    }
}

fn sum_of<'a>(
    calls: &[Call],
    mut slices: impl Iterator<Item = Cow<'a, Slice>>,
    out: impl FnOnce(&Slice),
) {
    let Some(first) = slices.next() else {
        return out(&Slice::new(calls, false));
    };
    let Some(second) = slices.next() else {
        return out(&first);
    };
    let mut sum = first.into_owned();
    sum.merge(calls, &second);
    slices.for_each(|slice| sum.merge(calls, &slice));
    out(&sum);
}

pub(crate) fn save_panes(panes: &Panes, to: &mut Saver) {
    to.count(panes.len());
    for (number, slice) in panes {
        to.int(*number);
        slice.save(to);
    }
}

pub(crate) fn load_panes(calls: &[Call], from: &mut Loader<'_>) -> Result<Panes, LoadError> {
    let count = from.count(8)?;
    let panes = from.many(count, |from| Ok((from.int()?, Slice::load(calls, from)?)))?;
    Ok(panes.into_iter().collect())
}

/// State as bytes, and back.
impl Assembler {
    pub(crate) fn save(&self, to: &mut Saver) {
        match self {
            Self::Recompute => to.byte(0),
            Self::Running { sum, to: end } => {
                to.byte(1);
                to.int(*end);
                sum.save(to);
            }
            Self::TwoStacks {
                front,
                flip,
                back,
                to: end,
            } => {
                to.byte(2);
                to.int(*flip);
                to.int(*end);
                save_panes(front, to);
                back.save(to);
            }
            Self::Prefix { sum, from, to: end } => {
                to.byte(3);
                to.int(*from);
                to.int(*end);
                sum.save(to);
            }
        }
    }

    /// The strategy that was running, whatever would be chosen now: sums of floats depend on it.
    pub(crate) fn load(calls: &[Call], from: &mut Loader<'_>) -> Result<Self, LoadError> {
        Ok(match from.byte()? {
            0 => Self::Recompute,
            1 => Self::Running {
                to: from.int()?,
                sum: Slice::load(calls, from)?,
            },
            2 => Self::TwoStacks {
                flip: from.int()?,
                to: from.int()?,
                front: load_panes(calls, from)?,
                back: Slice::load(calls, from)?,
            },
            3 => Self::Prefix {
                from: from.int()?,
                to: from.int()?,
                sum: Slice::load(calls, from)?,
            },
            _ => return Err(LoadError::Invalid { what: "strategy" }),
        })
    }
}
