//! Who goes next: time, chance, or one of the schedulers that hunt for bad orders.
//!
//! A scheduler names a candidate; the tape records which, as its place in timed order. A replay
//! therefore needs no scheduler, and a tape of zeros is timed order.

mod clocks;
mod pct;
mod pos;

use holm_base::{Prng, Time};
use holm_machine::Label;

pub(crate) use clocks::Clocks;
pub use clocks::Races;
use pct::Pct;
use pos::Pos;

/// How the next event is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// By virtual time; ties by the order in which they were caused.
    Timed,
    /// By a scheduler, among all that is due within `reach_nanos` of the earliest. An odd order
    /// is an odd delay of at most that much, so time still only rises.
    Hunt {
        /// Who chooses.
        scheduler: Scheduler,
        /// How far ahead it may choose.
        reach_nanos: u64,
    },
}

/// A way to hunt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scheduler {
    /// Every candidate is equally likely.
    Random,
    /// Each node has a random priority; at `depth` random moments of about `length` the one that
    /// would go next drops below all others (Burckhardt and others, ASPLOS 2010).
    Pct {
        /// How many times.
        depth: u32,
        /// How many events a run is expected to have.
        length: u32,
    },
    /// Each candidate has a random priority; those that race with the one that goes are drawn
    /// anew (Yuan, Yang and Gu, CAV 2018).
    Pos,
    /// As `Pos` for what is known to race; everything else goes first, in timed order.
    PosPlus {
        /// What earlier runs learned. A run adds to it.
        races: Races,
    },
}

/// One thing that could happen next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// When it is due.
    pub at: Time,
    /// What tells it from all others of the run.
    pub seq: u64,
    /// Where it comes from; a timer or a disk comes from its own node.
    pub source: usize,
    /// Where it happens; what lies outside of all nodes has the number behind the last.
    pub target: usize,
    /// What kind of moment it would be.
    pub label: Label,
    /// Whether it is a message, and not a timer, a disk or something outside.
    pub is_message: bool,
}

/// A scheduler at work.
#[derive(Clone, Debug)]
pub(crate) enum Choosing {
    Random(Prng),
    Pct(Pct),
    Pos(Pos),
    PosPlus(Pos, Races),
}

impl Choosing {
    pub(crate) fn new(scheduler: &Scheduler, nodes: usize, seed: u64) -> Self {
        match scheduler {
            Scheduler::Random => Self::Random(Prng::new(seed)),
            Scheduler::Pct { depth, length } => Self::Pct(Pct::new(*depth, *length, nodes, seed)),
            Scheduler::Pos => Self::Pos(Pos::new(seed)),
            Scheduler::PosPlus { races } => Self::PosPlus(Pos::new(seed), races.clone()),
        }
    }

    /// Which of the candidates goes next. They are in timed order, and at least one.
    pub(crate) fn pick(&mut self, candidates: &[Candidate]) -> usize {
        match self {
            Self::Random(prng) => {
                let count = u64::try_from(candidates.len()).expect("candidates are few");
                usize::try_from(prng.below(count)).expect("candidates are few")
            }
            Self::Pct(pct) => pct.pick(candidates),
            Self::Pos(pos) => pos.pick(candidates),
            Self::PosPlus(pos, races) => {
                let calm = |one: &Candidate| one.is_message && !races.contains(one);
                match candidates.iter().position(calm) {
                    Some(first) => first,
                    None => pos.pick(candidates),
                }
            }
        }
    }

    /// What was seen to race with what.
    pub(crate) fn learn(&mut self, one: &Candidate, others: &[Candidate]) {
        if let Self::PosPlus(_, races) = self
            && !others.is_empty()
        {
            races.add(one);
            others.iter().for_each(|other| races.add(other));
        }
    }

    pub(crate) const fn races(&self) -> Option<&Races> {
        match self {
            Self::PosPlus(_, races) => Some(races),
            Self::Random(_) | Self::Pct(_) | Self::Pos(_) => None,
        }
    }
}
