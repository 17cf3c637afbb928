//! What a run looked like to an onlooker: which kinds of moment came before which.
//!
//! Of each node's deliveries, three things are noted: which label came before which, however
//! far apart; which two could have come in the other order; and which three came in a row. All
//! are hashes of labels, never of nodes or numbers, so that symmetric runs look alike.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};

use holm_machine::Label;

/// How many labels are told apart in a run; all others count as one.
const LABELS_MAX: usize = 256;
const WORDS: usize = LABELS_MAX / 64;

/// How many different marks a run keeps of each sort.
const MARKS_MAX: usize = 1 << 14;

/// Hashes of what was seen, each once; at most 16,384, and what comes later is not kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    /// Open addressing; 0 is free.
    slots: Vec<u64>,
    len: usize,
}

impl Marks {
    /// Notes a hash, and says whether it is new.
    pub fn add(&mut self, mark: u64) -> bool {
        if self.len >= MARKS_MAX {
            return false;
        }
        if self.len * 2 >= self.slots.len() {
            self.grow();
        }
        let mark = mark.max(1);
        let at = self.slot(mark);
        let is_new = self.slots[at] == 0;
        self.slots[at] = mark;
        self.len += usize::from(is_new);
        is_new
    }

    fn slot(&self, mark: u64) -> usize {
        let mask = self.slots.len() - 1;
        let mut at = usize::try_from(mark >> 32).expect("it has 32 bits") & mask;
        while self.slots[at] != 0 && self.slots[at] != mark {
            at = (at + 1) & mask;
        }
        at
    }

    fn grow(&mut self) {
        let size = (self.slots.len() * 2).max(64);
        let old = std::mem::replace(&mut self.slots, vec![0; size]);
        for mark in old.into_iter().filter(|&mark| mark != 0) {
            let at = self.slot(mark);
            self.slots[at] = mark;
        }
    }

    /// All of them, ascending.
    #[must_use]
    pub fn sorted(&self) -> Vec<u64> {
        let mut all: Vec<u64> = self.slots.iter().copied().filter(|&it| it != 0).collect();
        all.sort_unstable();
        all
    }
}

/// Mixes two hashes to a third, in which their order counts.
#[must_use]
pub const fn mix(left: u64, right: u64) -> u64 {
    let mut mixed = left.rotate_left(23) ^ right.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed ^= mixed >> 29;
    mixed = mixed.wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed ^ (mixed >> 32)
}

/// FNV-1a, which is the same everywhere.
struct Fnv(u64);

impl Hasher for Fnv {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
}

fn hash(label: &Label) -> u64 {
    let mut fnv = Fnv(0xcbf2_9ce4_8422_2325);
    (label.kind, label.role).hash(&mut fnv);
    mix(fnv.finish(), mix(sign(label.term), sign(label.op)))
}

const fn sign(order: Option<Ordering>) -> u64 {
    match order {
        None => 0,
        Some(Ordering::Less) => 1,
        Some(Ordering::Equal) => 2,
        Some(Ordering::Greater) => 3,
    }
}

/// The labels that one node has seen.
#[derive(Clone, Debug, Default)]
struct Past {
    seen: [u64; WORDS],
    last: Option<usize>,
    but_last: Option<usize>,
}

/// The orders of a run so far.
#[derive(Clone, Debug)]
pub(crate) struct Timeline {
    numbers: BTreeMap<Label, usize>,
    /// Of each label its hash, which labels came before it, and which could have come after it
    /// and did not.
    labels: Vec<(u64, [u64; WORDS], [u64; WORDS])>,
    nodes: Vec<Past>,
    in_a_row: Marks,
}

impl Timeline {
    pub(crate) fn new(nodes: usize) -> Self {
        Self {
            numbers: BTreeMap::new(),
            labels: Vec::new(),
            nodes: vec![Past::default(); nodes],
            in_a_row: Marks::default(),
        }
    }

    fn number(&mut self, label: Label) -> usize {
        if let Some(&known) = self.numbers.get(&label) {
            return known;
        }
        if self.labels.len() == LABELS_MAX {
            return LABELS_MAX - 1;
        }
        let number = self.labels.len();
        self.labels.push((hash(&label), [0; WORDS], [0; WORDS]));
        self.numbers.insert(label, number);
        number
    }

    /// A node takes an input of that kind.
    pub(crate) fn happened(&mut self, node: usize, label: Label) {
        let number = self.number(label);
        let past = &mut self.nodes[node];
        for (before, seen) in self.labels[number].1.iter_mut().zip(past.seen) {
            *before |= seen;
        }
        past.seen[number / 64] |= 1 << (number % 64);
        if let (Some(first), Some(second)) = (past.but_last, past.last) {
            let two = mix(self.labels[first].0, self.labels[second].0);
            self.in_a_row.add(mix(two, self.labels[number].0));
        }
        past.but_last = past.last;
        past.last = Some(number);
    }

    /// Two inputs of one node came in this order, and could have come in the other.
    pub(crate) fn raced(&mut self, earlier: Label, later: Label) {
        let (earlier, later) = (self.number(earlier), self.number(later));
        self.labels[later].2[earlier / 64] |= 1 << (earlier % 64);
    }

    /// Hashes of everything that was noted, ascending.
    pub(crate) fn marks(&self) -> Vec<u64> {
        let mut all = self.in_a_row.sorted();
        for &(later, before, raced) in &self.labels {
            for (earlier, &(hash, _, _)) in self.labels.iter().enumerate() {
                let has = |bits: [u64; WORDS]| bits[earlier / 64] >> (earlier % 64) & 1 == 1;
                if has(before) {
                    all.push(mix(mix(hash, later), 1));
                }
                if has(raced) {
                    all.push(mix(mix(hash, later), 2));
                }
            }
        }
        all.sort_unstable();
        all.dedup();
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marks(order: &[(usize, &'static str)]) -> Vec<u64> {
        let mut timeline = Timeline::new(2);
        for &(node, kind) in order {
            timeline.happened(node, Label::plain(kind, "any"));
        }
        timeline.marks()
    }

    #[test]
    fn order_counts_and_who_it_was_does_not() {
        let one = marks(&[(0, "a"), (0, "b")]);
        assert_eq!(one.len(), 1);
        assert_eq!(one, marks(&[(1, "a"), (1, "b")]));
        assert_ne!(one, marks(&[(0, "b"), (0, "a")]));
        assert!(marks(&[(0, "a"), (1, "b")]).is_empty());
        // a before b, a before c, b before c, and the three in a row.
        assert_eq!(marks(&[(0, "a"), (0, "b"), (0, "c")]).len(), 4);
    }

    #[test]
    fn a_race_is_a_mark_of_its_own() {
        let mut timeline = Timeline::new(1);
        timeline.raced(Label::plain("a", "any"), Label::plain("b", "any"));
        assert_eq!(timeline.marks().len(), 1);
    }

    #[test]
    fn marks_and_labels_are_bounded() {
        let mut marks = Marks::default();
        let added = (0..40_000).filter(|&it| marks.add(mix(it, 7))).count();
        assert_eq!((added, marks.sorted().len()), (MARKS_MAX, MARKS_MAX));
        assert!(!marks.add(mix(0, 7)));
        let mut timeline = Timeline::new(1);
        let kinds: Vec<&'static str> = (0..600)
            .map(|it| &*Box::leak(format!("k{it}").into_boxed_str()))
            .collect();
        for kind in kinds {
            timeline.happened(0, Label::plain(kind, "any"));
        }
        assert_eq!(timeline.labels.len(), LABELS_MAX);
    }
}
