//! Which snapshots and records are still needed.

use alloc::vec::Vec;

use crate::boundary::Snapshot;

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

    /// The newest that a sink with so many outputs is not behind (I3).
    pub(crate) fn eligible(&self, output: u64) -> Option<Snapshot> {
        self.good
            .iter()
            .rev()
            .find(|it| it.output <= output)
            .copied()
    }

    /// Takes out one that cannot be read.
    pub(crate) fn remove(&mut self, through: u64) {
        self.good.retain(|it| it.through != through);
    }

    fn eligible_at(&self, output: u64) -> Option<usize> {
        self.good.iter().rposition(|it| it.output <= output)
    }

    /// Lets go of those that nobody can need when the slowest sink has so many outputs (I4): what
    /// is kept is the newest that it is not behind, one before that in case it is damaged, and
    /// all that are newer.
    pub(crate) fn release(&mut self, output: u64) -> Vec<Snapshot> {
        let eligible = self.eligible_at(output).unwrap_or(0);
        self.good.drain(..eligible.saturating_sub(1)).collect()
    }

    /// The first record that is needed then. None may go while there are fewer than two
    /// snapshots that the slowest sink is not behind.
    pub(crate) fn needed(&self, output: u64) -> Option<u64> {
        let eligible = self.eligible_at(output)?;
        let oldest = self.good.get(eligible.checked_sub(1)?)?;
        Some(oldest.through + 1)
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;

    fn kept(of: &[(u64, u64)]) -> Kept {
        let snapshot = |(through, output): &(u64, u64)| Snapshot {
            through: *through,
            output: *output,
        };
        Kept::new(of.iter().map(snapshot).collect())
    }

    #[test]
    fn the_newest_that_no_sink_is_behind_is_eligible() {
        let kept = kept(&[(2, 5), (4, 9), (6, 12)]);
        assert_eq!(kept.eligible(11).map(|it| it.through), Some(4));
        assert_eq!(kept.eligible(12).map(|it| it.through), Some(6));
        assert_eq!(kept.eligible(4), None);
    }

    #[test]
    fn what_a_slow_sink_needs_stays_and_one_more() {
        let mut slow = kept(&[(2, 5), (4, 9), (6, 12), (8, 20)]);
        assert_eq!((slow.release(4), slow.needed(4)), (vec![], None));
        assert_eq!((slow.release(8), slow.needed(8)), (vec![], None));
        assert_eq!((slow.release(12).len(), slow.needed(12)), (1, Some(5)));
        let mut quick = kept(&[(2, 5), (4, 9), (6, 12), (8, 20)]);
        assert_eq!((quick.release(20).len(), quick.needed(20)), (2, Some(7)));
    }

    #[test]
    fn one_snapshot_frees_nothing() {
        let mut one = kept(&[(2, 5)]);
        assert_eq!((one.release(9).len(), one.needed(9)), (0, None));
    }
}
