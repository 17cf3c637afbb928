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
        /// The last pane before `flip` that has changed since its sum was made: sums up to it are
        /// made anew when the next window closes. That costs an addition of a pane for each, once,
        /// however many rows were late; to add each row to each sum costs more from a few rows on.
        stale: Option<i64>,
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
                stale: None,
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
                stale,
                back,
                to,
            } => {
                let changed = stale.take();
                if from >= *flip {
                    front.clear();
                    sum_up(calls, (panes, picked), (from, end - 1), front);
                    *flip = end;
                    *back = Slice::new(calls, false);
                } else {
                    if let Some(last) = changed {
                        sum_up(calls, (panes, picked), (from, last), front);
                    }
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

    /// Hears of a row that comes after its pane was taken in: whether it is to be added to
    /// [`sum`](Self::sum), too.
    pub(crate) fn amend(&mut self, pane: i64) -> bool {
        match self {
            Self::Recompute => false,
            Self::Running { to, .. } => pane < *to,
            Self::TwoStacks {
                flip, stale, to, ..
            } => {
                if pane < *flip {
                    *stale = (*stale).max(Some(pane));
                    return false;
                }
                pane < *to
            }
            Self::Prefix { from, to, .. } => (*from..*to).contains(&pane),
        }
    }

    /// The sum that panes are added to as they come, where there is one.
    pub(crate) const fn sum(&mut self) -> Option<&mut Slice> {
        match self {
            Self::Recompute => None,
            Self::Running { sum, .. } | Self::Prefix { sum, .. } => Some(sum),
            Self::TwoStacks { back, .. } => Some(back),
        }
    }

    /// The same with all sums as the panes are now, of which it needs those from one on.
    pub(crate) fn whole(
        &self,
        calls: &[Call],
        (panes, picked): (&Panes, Option<&[usize]>),
        needed: i64,
    ) -> Cow<'_, Self> {
        let mut whole = Cow::Borrowed(self);
        if let Self::TwoStacks {
            stale: Some(last), ..
        } = self
            && let Self::TwoStacks { front, stale, .. } = whole.to_mut()
        {
            sum_up(calls, (panes, picked), (needed, *last), front);
            *stale = None;
        }
        whole
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

/// Sums of the panes from each of some up to the last of all, which `front` has behind those.
fn sum_up(
    calls: &[Call],
    (panes, picked): (&Panes, Option<&[usize]>),
    (from, last): (i64, i64),
    front: &mut Panes,
) {
    if from > last {
        return;
    }
    let behind = front.range(last + 1..).next();
    let mut next = behind.map(|(_, sum)| sum.clone());
    for (number, pane) in panes.range(from..=last).rev() {
        let mut sum = seen(pane, picked).into_owned();
        if let Some(next) = &next {
            sum.merge(calls, next);
        }
        sum.seal();
        front.insert(*number, sum.clone());
        next = Some(sum);
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
                stale,
                back,
                to: end,
            } => {
                assert!(stale.is_none(), "what is saved is whole");
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
                stale: None,
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
