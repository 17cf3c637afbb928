//! Which snapshots and records are still needed.

use alloc::vec::Vec;

use crate::boundary::{Outputs, Snapshot};

/// Good snapshots, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Kept {
    good: Vec<Snapshot>,
}

impl Kept {
    pub(crate) const fn new(good: Vec<Snapshot>) -> Self {
        Self { good }
    }

    pub(crate) fn add(&mut self, snapshot: Snapshot) {
        self.good.push(snapshot);
    }

    pub(crate) fn newest(&self) -> Option<Snapshot> {
        self.good.last().copied()
    }

    /// The newest that sinks with so many outputs are not behind (I3).
    pub(crate) fn eligible(&self, outputs: &Outputs) -> Option<Snapshot> {
        self.good
            .iter()
            .rev()
            .find(|it| it.outputs.is_within(outputs))
            .copied()
    }

    /// Takes out one that cannot be read.
    pub(crate) fn remove(&mut self, through: u64) {
        self.good.retain(|it| it.through != through);
    }

    /// Takes out one in the middle of those that a sink is behind, when they are many: while a sink
    /// is gone they would pile up. What is gone back to may be older then; nothing is lost.
    pub(crate) fn thin(&mut self, outputs: &Outputs) -> Option<Snapshot> {
        const BEHIND_MAX: usize = 64;
        let eligible = self.eligible_at(outputs).unwrap_or(0);
        let middle = usize::midpoint(eligible, self.good.len());
        (self.good.len() - eligible > BEHIND_MAX).then(|| self.good.remove(middle))
    }

    /// The oldest one.
    pub(crate) fn oldest(&self) -> Option<Snapshot> {
        self.good.first().copied()
    }

    fn eligible_at(&self, outputs: &Outputs) -> Option<usize> {
        let fits = |it: &Snapshot| it.outputs.is_within(outputs);
        self.good.iter().rposition(fits)
    }

    /// Lets go of those that nobody can need when the slowest sinks have so many outputs (I4): what
    /// is kept is the newest that it is not behind, one before that in case it is damaged, and
    /// all that are newer.
    pub(crate) fn release(&mut self, outputs: &Outputs) -> Vec<Snapshot> {
        let eligible = self.eligible_at(outputs).unwrap_or(0);
        self.good.drain(..eligible.saturating_sub(1)).collect()
    }

    /// The first record that is needed then. None may go while there are fewer than two
    /// snapshots that the slowest sink is not behind.
    pub(crate) fn needed(&self, outputs: &Outputs) -> Option<u64> {
        let eligible = self.eligible_at(outputs)?;
        let oldest = self.good.get(eligible.checked_sub(1)?)?;
        Some(oldest.through + 1)
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;

    fn one(output: u64) -> Outputs {
        Outputs::of([output])
    }

    fn kept(of: &[(u64, u64)]) -> Kept {
        let snapshot = |(through, output): &(u64, u64)| Snapshot {
            through: *through,
            outputs: one(*output),
        };
        Kept::new(of.iter().map(snapshot).collect())
    }

    #[test]
    fn the_newest_that_no_sink_is_behind_is_eligible() {
        let kept = kept(&[(2, 5), (4, 9), (6, 12)]);
        assert_eq!(kept.eligible(&one(11)).map(|it| it.through), Some(4));
        assert_eq!(kept.eligible(&one(12)).map(|it| it.through), Some(6));
        assert_eq!(kept.eligible(&one(4)), None);
    }

    #[test]
    fn what_a_slow_sink_needs_stays_and_one_more() {
        let mut slow = kept(&[(2, 5), (4, 9), (6, 12), (8, 20)]);
        assert_eq!(
            (slow.release(&one(4)), slow.needed(&one(4))),
            (vec![], None)
        );
        assert_eq!(
            (slow.release(&one(8)), slow.needed(&one(8))),
            (vec![], None)
        );
        assert_eq!(
            (slow.release(&one(12)).len(), slow.needed(&one(12))),
            (1, Some(5))
        );
        let mut quick = kept(&[(2, 5), (4, 9), (6, 12), (8, 20)]);
        assert_eq!(
            (quick.release(&one(20)).len(), quick.needed(&one(20))),
            (2, Some(7))
        );
    }

    #[test]
    fn each_query_keeps_what_its_own_sink_needs() {
        let snapshot = |(through, each): (u64, [u64; 2])| Snapshot {
            through,
            outputs: Outputs::of(each),
        };
        let mut kept = Kept::new(
            [(2, [1, 9]), (4, [5, 9]), (6, [5, 12])]
                .map(snapshot)
                .into(),
        );
        let through = |it: Option<Snapshot>| it.map(|it| it.through);
        assert_eq!(through(kept.eligible(&Outputs::of([9, 11]))), Some(4));
        assert_eq!(through(kept.eligible(&Outputs::of([4, 99]))), Some(2));
        assert_eq!(through(kept.eligible(&Outputs::of([9, 8]))), None);
        assert_eq!(kept.needed(&Outputs::of([4, 99])), None);
        assert_eq!(kept.release(&Outputs::of([4, 99])), vec![]);
        assert_eq!(kept.needed(&Outputs::of([5, 12])), Some(5));
    }

    #[test]
    fn those_that_a_sink_is_behind_do_not_pile_up() {
        let mut kept = kept(&[(2, 5), (4, 9)]);
        for through in 5..1_000 {
            kept.add(Snapshot {
                through,
                outputs: one(through + 10),
            });
            kept.thin(&one(9));
        }
        assert_eq!(kept.good.len(), 65, "two of them no sink is behind");
        assert_eq!(kept.eligible(&one(9)).map(|it| it.through), Some(4));
        assert_eq!(kept.oldest().map(|it| it.through), Some(2));
        assert_eq!(kept.newest().map(|it| it.through), Some(999));
    }

    #[test]
    fn one_snapshot_frees_nothing() {
        let mut only = kept(&[(2, 5)]);
        let all = one(9);
        assert_eq!((only.release(&all).len(), only.needed(&all)), (0, None));
    }
}
