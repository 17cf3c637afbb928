//! What a key was before: the old versions of all keys, in the order in which they were
//! superseded, so that compaction drops them from the front.
//!
//! ```text
//! index: key -> newest version ──older──► entry 907 ──older──► entry 512 ──older──► (dropped)
//!                                              └────────────jump────────────────────────┘
//! ```
//!
//! Entries of one key are linked from new to old. Every eighth is a landmark, and so is the first
//! of a life and each delete. A landmark's `jump` skips some landmarks (Myers, "An applicative
//! random-access stack", 1983), so that a version among n is found in O(log n) steps; a key that
//! is written all the time has many. Other entries jump to the landmark below.
//!
//! What would surprise: to know where to jump, entries must be looked at that were written long
//! ago, and are in no cache any more. So the first seven of a life jump nowhere: most keys are
//! written a few times between two compactions, and need none of that.
//!
//! The queue is a tree of fixed shape (32 entries a block, 64 blocks a run, 64 runs a
//! stretch), so that pinning copies one block and two short lists, however long it is.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::index::Value;

const BLOCK: u64 = 32;
const RUN: u64 = 64 * BLOCK;
const STRETCH: u64 = 64 * RUN;
/// How many versions lie between two landmarks of a life.
const LANDMARK_EVERY: i64 = 8;

/// One version of a key, as the index holds it. 56 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Slot {
    pub(crate) modified: i64,
    pub(crate) create: i64,
    /// 0 marks a delete, which has no create revision either.
    pub(crate) version: i64,
    pub(crate) lease: i64,
    /// The history entry of the version before; 0 for none.
    pub(crate) older: u64,
    pub(crate) sub: u32,
    pub(crate) place: Place,
    /// How long the record's body is.
    pub(crate) bytes: u32,
}

/// Where a record begins: a segment, and an offset in units of 16 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) segment: u32,
    pub(crate) unit: u32,
}

impl Place {
    pub(crate) fn offset(self) -> u64 {
        u64::from(self.unit) * 16
    }
}

impl Value for Slot {
    fn is_live(&self) -> bool {
        self.version != 0
    }
}

impl Slot {
    /// The change's position among all changes.
    pub(crate) const fn change(&self) -> (i64, u32) {
        (self.modified, self.sub)
    }
}

/// A version that another one superseded.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Old {
    pub(crate) slot: Slot,
    /// The revision from which on it cannot be seen.
    pub(crate) superseded: i64,
    jump: u64,
    /// How many landmarks lie below, and itself; 0 for what is none.
    depth: u32,
}

/// The old versions of all keys. Clones share what was not changed since.
#[derive(Clone, Debug)]
pub(crate) struct History {
    /// The oldest entry that is still here.
    base: u64,
    /// The number of the next entry. The first is 1.
    next: u64,
    /// Which stretch `stretches[0]` is.
    first_stretch: u64,
    stretches: Arc<VecDeque<Arc<Stretch>>>,
}

#[derive(Clone, Debug, Default)]
struct Stretch {
    runs: Vec<Option<Arc<Run>>>,
}

#[derive(Clone, Debug, Default)]
struct Run {
    blocks: Vec<Arc<Block>>,
}

#[derive(Debug, Default)]
struct Block {
    entries: Vec<Old>,
}

impl Clone for Block {
    /// Room for all: blocks are copied because an entry is about to be added.
    fn clone(&self) -> Self {
        let mut entries = Vec::with_capacity(index(BLOCK));
        entries.extend_from_slice(&self.entries);
        Self { entries }
    }
}

impl History {
    /// An empty queue whose next entry is number `base`.
    pub(crate) fn starting_at(base: u64) -> Self {
        let mut stretch = Stretch::default();
        stretch.runs.resize(index(base % STRETCH / RUN), None);
        let mut run = Run::default();
        run.blocks
            .resize_with(index(base % RUN / BLOCK), Arc::default);
        let mut block = Block::default();
        block.entries.resize(index(base % BLOCK), Old::default());
        run.blocks.push(Arc::new(block));
        stretch.runs.push(Some(Arc::new(run)));
        Self {
            base,
            next: base,
            first_stretch: base / STRETCH,
            stretches: Arc::new(VecDeque::from([Arc::new(stretch)])),
        }
    }

    pub(crate) const fn len(&self) -> u64 {
        self.next - self.base
    }

    pub(crate) const fn base(&self) -> u64 {
        self.base
    }

    pub(crate) const fn next(&self) -> u64 {
        self.next
    }

    /// An entry, unless it was dropped or never was.
    pub(crate) fn get(&self, number: u64) -> Option<&Old> {
        if number < self.base || number >= self.next {
            return None;
        }
        let stretch = &self.stretches[index(number / STRETCH - self.first_stretch)];
        let run = stretch.runs[index(number % STRETCH / RUN)].as_ref()?;
        run.blocks[index(number % RUN / BLOCK)]
            .entries
            .get(index(number % BLOCK))
    }

    /// Adds a version that was superseded just now and gives its number, for the `older` link
    /// of the one that superseded it.
    pub(crate) fn push(&mut self, slot: Slot, superseded: i64) -> u64 {
        let (jump, depth) = self.jump(slot.version, slot.older);
        let number = self.next;
        let stretches = Arc::make_mut(&mut self.stretches);
        let at = index(number / STRETCH - self.first_stretch);
        if at == stretches.len() {
            stretches.push_back(Arc::default());
        }
        let stretch = Arc::make_mut(&mut stretches[at]);
        let at = index(number % STRETCH / RUN);
        if at == stretch.runs.len() {
            stretch.runs.push(Some(Arc::default()));
        }
        let run = stretch.runs[at].get_or_insert_default();
        let run = Arc::make_mut(run);
        let at = index(number % RUN / BLOCK);
        if at == run.blocks.len() {
            run.blocks.push(Arc::default());
        }
        Arc::make_mut(&mut run.blocks[at]).entries.push(Old {
            slot,
            superseded,
            jump,
            depth,
        });
        self.next += 1;
        number
    }

    /// Where the entry above `older` jumps to, which holds that version of its key, and its depth.
    fn jump(&self, version: i64, older: u64) -> (u64, u32) {
        let is_first = version <= 1;
        if !is_first && version < LANDMARK_EVERY {
            return (0, 0);
        }
        let Some((below, landmark)) = self.landmark(older) else {
            return (0, 1);
        };
        if !is_first && version % LANDMARK_EVERY != 0 {
            return (below, 0);
        }
        let far = self.get(landmark.jump).and_then(|near| {
            let span = near.depth.checked_sub(self.get(near.jump)?.depth)?;
            (landmark.depth.checked_sub(near.depth)? == span).then_some(near.jump)
        });
        (far.unwrap_or(below), landmark.depth.saturating_add(1))
    }

    /// The newest landmark from an entry downwards, if it is still here.
    fn landmark(&self, from: u64) -> Option<(u64, &Old)> {
        let mut number = from;
        loop {
            let entry = self.get(number)?;
            if entry.depth > 0 {
                return Some((number, entry));
            }
            number = if entry.jump > 0 {
                entry.jump
            } else {
                entry.slot.older
            };
        }
    }

    /// Takes the oldest entry away if it was superseded at or before `line`.
    pub(crate) fn pop(&mut self, line: i64) -> Option<Slot> {
        let oldest = *self.get(self.base)?;
        if oldest.superseded > line {
            return None;
        }
        self.base += 1;
        if self.base.is_multiple_of(STRETCH) {
            Arc::make_mut(&mut self.stretches).pop_front();
            self.first_stretch += 1;
        } else if self.base.is_multiple_of(RUN) {
            let stretches = Arc::make_mut(&mut self.stretches);
            let stretch = Arc::make_mut(&mut stretches[0]);
            stretch.runs[index(self.base % STRETCH / RUN) - 1] = None;
        }
        Some(oldest.slot)
    }

    /// Moves the record of an entry.
    pub(crate) fn relink(&mut self, number: u64, place: Place) {
        let stretches = Arc::make_mut(&mut self.stretches);
        let stretch = &mut stretches[index(number / STRETCH - self.first_stretch)];
        let run = Arc::make_mut(stretch).runs[index(number % STRETCH / RUN)].as_mut();
        let run = Arc::make_mut(run.expect("an entry that is still here has its run"));
        let block = Arc::make_mut(&mut run.blocks[index(number % RUN / BLOCK)]);
        block.entries[index(number % BLOCK)].slot.place = place;
    }

    /// The newest version that is not newer than `change`, and its entry's number, among the
    /// versions that `newest` superseded.
    pub(crate) fn find(&self, newest: &Slot, change: (i64, u32)) -> Option<(u64, &Old)> {
        let mut number = newest.older;
        loop {
            let entry = self.get(number)?;
            if entry.slot.change() <= change {
                return Some((number, entry));
            }
            let far = self.get(entry.jump);
            number = match far {
                Some(far) if far.slot.change() > change => entry.jump,
                Some(_) | None => entry.slot.older,
            };
        }
    }
}

fn index(number: u64) -> usize {
    usize::try_from(number).expect("an index of something in memory fits")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(modified: i64, older: u64) -> Slot {
        Slot {
            modified,
            older,
            version: 1,
            ..Slot::default()
        }
    }

    /// The next version of a key: of one that lives on, or of one that goes and comes.
    fn next(newest: &Slot, main: i64, older: u64, lives: bool) -> Slot {
        let number = if lives { newest.version + 1 } else { main % 2 };
        Slot {
            version: number,
            ..version(main, older)
        }
    }

    #[test]
    fn each_of_many_versions_is_found_and_dropped_ones_are_not() {
        let bases = [1, 31, 2047, 2048, 131_071, 131_072];
        for (base, lives) in bases.into_iter().flat_map(|it| [(it, true), (it, false)]) {
            let mut history = History::starting_at(base);
            let mut newest = version(1, 0);
            let mut pins = Vec::new();
            for main in 2..6000 {
                let older = history.push(newest, main);
                newest = next(&newest, main, older, lives);
                if main % 1000 == 0 {
                    pins.push((history.clone(), newest));
                }
            }
            for line in [1, 3000, 4500] {
                while history.pop(line).is_some() {}
                for at in 2..5999 {
                    let found = history.find(&newest, (at, 0)).map(|it| it.1.slot.modified);
                    assert_eq!(found, (at >= line).then_some(at), "line {line}");
                }
            }
            for (pin, newest) in pins {
                assert_eq!(
                    pin.find(&newest, (700, 0)).map(|it| it.1.slot.modified),
                    Some(700)
                );
            }
        }
    }

    #[test]
    fn a_version_among_many_takes_few_steps() {
        for lives in [true, false] {
            let mut history = History::starting_at(1);
            let mut newest = version(1, 0);
            for main in 2..100_000 {
                let older = history.push(newest, main);
                newest = next(&newest, main, older, lives);
            }
            for wanted in [17, 4_711, 31_002, 77_777] {
                let steps = steps(&history, &newest, wanted);
                assert!(steps < 80, "{steps} to {wanted}");
            }
        }
    }

    /// How many entries are looked at on the way to a version.
    fn steps(history: &History, newest: &Slot, wanted: i64) -> u32 {
        let (mut number, mut steps) = (newest.older, 0);
        while let Some(entry) = history.get(number) {
            steps += 1;
            if entry.slot.modified <= wanted {
                break;
            }
            let far = history.get(entry.jump).map_or(0, |far| far.slot.modified);
            number = if far > wanted {
                entry.jump
            } else {
                entry.slot.older
            };
        }
        steps
    }

    #[test]
    fn the_first_versions_of_a_life_are_linked_without_looking_back() {
        let mut history = History::starting_at(1);
        let mut newest = version(1, 0);
        let mut jumps = Vec::new();
        for main in 2..20 {
            let older = history.push(newest, main);
            newest = next(&newest, main, older, true);
            jumps.push(history.get(older).map_or(0, |it| it.jump));
        }
        let expected = [0, 0, 0, 0, 0, 0, 0, 1, 8, 8, 8, 8, 8, 8, 8, 8, 16, 16];
        assert_eq!(jumps, expected);
    }

    #[test]
    fn moving_a_record_leaves_pins_alone() {
        let mut history = History::starting_at(1);
        let number = history.push(version(1, 0), 2);
        let pin = history.clone();
        let place = Place {
            segment: 7,
            unit: 9,
        };
        history.relink(number, place);
        assert_eq!(history.get(number).map(|it| it.slot.place), Some(place));
        assert_eq!(
            pin.get(number).map(|it| it.slot.place),
            Some(Place::default())
        );
    }
}
