//! What may go wrong in a run, how often, and for how long.

use crate::quantiles::Quantiles;
use crate::tape::Place;

pub(crate) const FAULT: Place = Place::new("fault.kind");
pub(crate) const TARGET: Place = Place::new("fault.target");
pub(crate) const LASTS: Place = Place::new("fault.lasts");

const MILLION: u32 = 1_000_000;

/// A kind of fault. Each strikes one node, or everything at its site.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FaultKind {
    /// The process ends, and starts again after a while.
    Crash,
    /// As a crash, of all nodes of a site.
    Power,
    /// It does nothing for a while.
    Pause,
    /// Nothing gets to it or from it for a while.
    Cut,
    /// Nothing gets from it for a while.
    CutOneWay,
    /// What it sends takes longer for a while.
    Slow,
    /// Its next sync fails, and what that was to save is lost.
    SyncFailure,
    /// Its wall clock jumps back.
    ClockStep,
    /// Its clocks stand still for a while.
    ClockFreeze,
    /// Its disk has no room for a while.
    Full,
}

impl FaultKind {
    /// All of them, in the order of their numbers on tapes.
    pub const ALL: [Self; 10] = [
        Self::Crash,
        Self::Power,
        Self::Pause,
        Self::Cut,
        Self::CutOneWay,
        Self::Slow,
        Self::SyncFailure,
        Self::ClockStep,
        Self::ClockFreeze,
        Self::Full,
    ];

    pub(crate) fn of_choice(choice: usize) -> Option<Self> {
        Self::ALL.get(choice.checked_sub(1)?).copied()
    }

    /// Whether its node does not do its part meanwhile.
    const fn takes_down(self) -> bool {
        match self {
            Self::Crash
            | Self::Power
            | Self::Pause
            | Self::SyncFailure
            | Self::ClockFreeze
            | Self::Full => true,
            Self::Cut | Self::CutOneWay | Self::Slow | Self::ClockStep => false,
        }
    }
}

/// One kind's share of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FaultRate {
    /// Which.
    pub kind: FaultKind,
    /// In how many of a million moments it strikes.
    pub per_million: u32,
    /// How often in a run at most.
    pub at_most: u32,
}

/// The faults of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FaultPlan {
    /// Which, how often.
    pub rates: Vec<FaultRate>,
    /// How many nodes may be down or paused at once before no other is taken down.
    pub down_max: usize,
    /// How long a fault lasts, in nanoseconds.
    pub lasts: Quantiles,
    /// How much longer a message takes on a slow link, and how far a clock steps.
    pub slow_nanos: u64,
    /// How often each kind has struck.
    struck: [u32; FaultKind::ALL.len()],
}

impl FaultPlan {
    /// A plan that has not begun.
    #[must_use]
    pub const fn new(rates: Vec<FaultRate>, down_max: usize, lasts: Quantiles) -> Self {
        Self {
            rates,
            down_max,
            lasts,
            slow_nanos: 50_000_000,
            struck: [0; FaultKind::ALL.len()],
        }
    }

    /// How often a kind has struck.
    #[must_use]
    pub fn struck(&self, kind: FaultKind) -> u32 {
        self.struck[index(kind)]
    }

    pub(crate) fn count(&mut self, kind: FaultKind) {
        self.struck[index(kind)] += 1;
    }

    /// The weight of each choice, none first.
    pub(crate) fn weights(&self, may_take_down: bool) -> [u32; FaultKind::ALL.len() + 1] {
        let mut weights = [0; FaultKind::ALL.len() + 1];
        for rate in &self.rates {
            let at = index(rate.kind);
            let is_offered = may_take_down || !rate.kind.takes_down();
            if is_offered && self.struck[at] < rate.at_most {
                weights[at + 1] = rate.per_million;
            }
        }
        let faults: u32 = weights.iter().sum();
        assert!(faults < MILLION, "no fault is the most normal choice");
        weights[0] = MILLION - faults;
        weights
    }
}

/// The kind's place in [`FaultKind::ALL`].
const fn index(kind: FaultKind) -> usize {
    match kind {
        FaultKind::Crash => 0,
        FaultKind::Power => 1,
        FaultKind::Pause => 2,
        FaultKind::Cut => 3,
        FaultKind::CutOneWay => 4,
        FaultKind::Slow => 5,
        FaultKind::SyncFailure => 6,
        FaultKind::ClockStep => 7,
        FaultKind::ClockFreeze => 8,
        FaultKind::Full => 9,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_and_kinds_match_and_nothing_is_the_first_choice() {
        for (at, kind) in FaultKind::ALL.into_iter().enumerate() {
            assert_eq!(index(kind), at);
        }
        assert_eq!(FaultKind::of_choice(0), None);
        for (kind, choice) in FaultKind::ALL.into_iter().zip(1..) {
            assert_eq!(FaultKind::of_choice(choice), Some(kind));
        }
        assert_eq!(FaultKind::of_choice(11), None);
    }

    #[test]
    fn what_would_take_down_too_many_or_has_struck_enough_is_not_offered() {
        let rates = vec![
            FaultRate {
                kind: FaultKind::Crash,
                per_million: 10,
                at_most: 9,
            },
            FaultRate {
                kind: FaultKind::Cut,
                per_million: 20,
                at_most: 1,
            },
        ];
        let mut plan = FaultPlan::new(rates, 1, Quantiles::fixed(1));
        assert_eq!(plan.weights(true)[..2], [MILLION - 30, 10]);
        assert_eq!(plan.weights(false)[..2], [MILLION - 20, 0]);
        plan.count(FaultKind::Cut);
        assert_eq!(plan.weights(false)[0], MILLION);
        assert_eq!(plan.struck(FaultKind::Cut), 1);
    }
}
