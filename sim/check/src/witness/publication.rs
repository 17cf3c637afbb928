//! What is published, laid out to be asked by mark.

use crate::verdict::Violation;
use crate::witness::{Published, broken};

/// Which number is published for which mark, by place: counted from 1 in the order of the numbers, 0 being none.
pub(super) struct Publication {
    /// The number in each place.
    numbers: Vec<u64>,
    places: Places,
}

/// In which place a mark is.
enum Places {
    /// Marks of a run lie close together, and each has a slot then.
    Close { least: u64, slots: Vec<u32> },
    /// Sorted by marks.
    Apart(Vec<(u64, u32)>),
}

impl Publication {
    pub(super) fn new(published: &Published) -> Result<Self, Violation> {
        let pairs = published.iter().map(|(&number, &mark)| (number, mark));
        let (numbers, marks): (Vec<u64>, Vec<u64>) = pairs.unzip();
        match Places::new(&marks) {
            Some(places) => Ok(Self { numbers, places }),
            None => broken("a write happens once", "a mark has two numbers".to_owned()),
        }
    }

    pub(super) fn place(&self, mark: u64) -> u32 {
        match &self.places {
            Places::Close { least, slots } => {
                let slot = mark.checked_sub(*least).map(usize::try_from);
                let slot = slot.and_then(|slot| slots.get(slot.ok()?));
                slot.copied().unwrap_or(0)
            }
            Places::Apart(pairs) => {
                let found = pairs.binary_search_by_key(&mark, |&(mark, _)| mark);
                found.map_or(0, |at| pairs[at].1)
            }
        }
    }

    /// The number in a place, if it is one.
    pub(super) fn number(&self, place: u32) -> Option<u64> {
        Some(self.numbers[index(place)?])
    }

    /// All of them, rising.
    pub(super) fn numbers(&self) -> &[u64] {
        &self.numbers
    }
}

impl Places {
    /// `None` if a mark has two places.
    fn new(marks: &[u64]) -> Option<Self> {
        let least = marks.iter().copied().min().unwrap_or(0);
        let most = marks.iter().copied().max().unwrap_or(0);
        let pairs = marks.iter().copied().zip(1..);
        let slot = |mark: u64| usize::try_from(mark - least).expect("a slot fits the memory");
        if (most - least) / 4 > marks.len() as u64 {
            let mut pairs: Vec<(u64, u32)> = pairs.collect();
            pairs.sort_unstable();
            let mut neighbours = pairs.array_windows();
            let is_twice = neighbours.any(|[(one, _), (next, _)]| one == next);
            return (!is_twice).then_some(Self::Apart(pairs));
        }
        let mut slots = vec![0; slot(most) + 1];
        for (mark, place) in pairs {
            if std::mem::replace(&mut slots[slot(mark)], place) != 0 {
                return None;
            }
        }
        Some(Self::Close { least, slots })
    }
}

/// An index where 0 has a seat too.
pub(super) fn seat(count: u32) -> usize {
    usize::try_from(count).expect("32 bits fit an index")
}

/// The index of what is counted from 1; none of 0.
pub(super) fn index(count: u32) -> Option<usize> {
    count.checked_sub(1).map(seat)
}

/// What is at an index, counted from 1.
pub(super) fn counted(index: usize) -> u32 {
    u32::try_from(index + 1).expect("a history is bounded")
}
