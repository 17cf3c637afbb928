//! How many rows made the state of each slot.
//!
//! Where neither NULLs nor filters keep rows away that is how many rows the slot has, which the
//! slice knows: then nothing is kept here, and nothing is added up twice.

use holm_lanes::{LoadError, Loader, Saver, index};

use crate::state::moved;

/// Rows by slot; `None` while they are those of the slice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts(Option<Vec<u64>>);

impl Counts {
    /// Of a slot that has so many rows.
    pub(crate) fn at(&self, slot: usize, rows: u64) -> u64 {
        self.0.as_ref().map_or(rows, |counts| counts[slot])
    }

    /// Whether they are those of the slice.
    pub(crate) const fn are_rows(&self) -> bool {
        self.0.is_none()
    }

    pub(crate) fn resize(&mut self, slots: usize) {
        match &mut self.0 {
            Some(_) if slots == 0 => self.0 = None,
            Some(counts) => counts.resize(slots, 0),
            None => {}
        }
    }

    pub(crate) fn relocate(&mut self, slots: usize, places: &[u32]) {
        if let Some(counts) = &mut self.0 {
            moved(counts, slots, places);
        }
    }

    /// The counts apart from the slice's rows, which are those before what now comes.
    pub(crate) fn apart(&mut self, rows: &[u64]) -> &mut Vec<u64> {
        self.0.get_or_insert_with(|| rows.to_vec())
    }

    /// Adds rows that all count: the slice counts them itself.
    pub(crate) fn add_all(&mut self, slots: &[u32]) {
        if let Some(counts) = &mut self.0 {
            slots.iter().for_each(|slot| counts[index(*slot)] += 1);
        }
    }

    /// Adds or takes away those of other slots, each given with the slot of ours.
    pub(crate) fn merge(
        &mut self,
        rows: &[u64],
        (other, other_rows): (&Self, &[u64]),
        pairs: impl Iterator<Item = (usize, usize)>,
        combine: impl Fn(u64, u64) -> u64,
    ) {
        if self.are_rows() && other.are_rows() {
            return;
        }
        let ours = self.apart(rows);
        for (from, to) in pairs {
            ours[to] = combine(ours[to], other.at(from, other_rows[from]));
        }
    }
}

/// State as bytes, and back: as if they were always kept.
impl Counts {
    pub(crate) fn save(&self, rows: &[u64], to: &mut Saver) {
        let counts = self.0.as_deref().unwrap_or(rows);
        counts.iter().for_each(|count| to.word(*count));
    }

    pub(crate) fn load(rows: &[u64], from: &mut Loader<'_>) -> Result<Self, LoadError> {
        let counts = from.many(rows.len(), Loader::word)?;
        Ok(Self((counts != rows).then_some(counts)))
    }
}
