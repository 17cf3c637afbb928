//! Everything that is to happen, in a slab, with lanes and a heap over it.
//!
//! Timed order takes the earliest, ties by the order of arrival here. A hunt takes any: the entry
//! of an item that was taken out of turn is stale and is skipped when it comes up.
//!
//! What would surprise: most of what is added is due behind something that was added before, for
//! delays are much alike. So there are a few lanes in which times rise, and only what fits none
//! of them goes to the heap.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use holm_base::Time;

/// In how many lanes times rise.
const LANES: usize = 4;

/// An item and when it is due.
#[derive(Clone, Debug)]
pub(crate) struct Entry<T> {
    pub(crate) at: Time,
    /// Which it is of all that were ever added.
    pub(crate) seq: u64,
    pub(crate) item: T,
}

/// When, which, and in which slot.
type Due = (Time, u64, usize);

/// Of two that are due at once the older comes first.
fn comes_before((at, seq, _): Due, (other, other_seq, _): Due) -> bool {
    at < other || (at == other && seq < other_seq)
}

/// What is to happen.
#[derive(Clone, Debug)]
pub(crate) struct Agenda<T> {
    slots: Vec<Option<Entry<T>>>,
    free: Vec<usize>,
    lanes: [VecDeque<Due>; LANES],
    heap: BinaryHeap<Reverse<Due>>,
    /// Where the earliest was last: a lane, or the heap.
    near: Option<usize>,
    next_seq: u64,
    len: usize,
}

impl<T> Agenda<T> {
    pub(crate) const fn new() -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            lanes: [const { VecDeque::new() }; LANES],
            heap: BinaryHeap::new(),
            near: None,
            next_seq: 0,
            len: 0,
        }
    }

    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn add(&mut self, at: Time, item: T) {
        let seq = self.next_seq;
        self.next_seq += 1;
        self.len += 1;
        let entry = Some(Entry { at, seq, item });
        let slot = match self.free.pop() {
            Some(slot) => {
                self.slots[slot] = entry;
                slot
            }
            None => {
                self.slots.push(entry);
                self.slots.len() - 1
            }
        };
        match self.lane(at) {
            Some(lane) => self.lanes[lane].push_back((at, seq, slot)),
            None => self.heap.push(Reverse((at, seq, slot))),
        }
    }

    /// The lane whose last entry is the latest that is due no later than this, else an empty one.
    fn lane(&self, at: Time) -> Option<usize> {
        let mut best: Option<(Option<Time>, usize)> = None;
        for (lane, dues) in self.lanes.iter().enumerate() {
            let last = dues.back().map(|&(last, ..)| last);
            if last <= Some(at) && best.is_none_or(|(most, _)| last > most) {
                best = Some((last, lane));
            }
        }
        best.map(|(_, lane)| lane)
    }

    /// The first entry of all, and the lane that it is in; of the heap if that is `None`.
    fn first(&self) -> Option<(Due, Option<usize>)> {
        let mut best = self.heap.peek().map(|&Reverse(due)| (due, None));
        for (lane, dues) in self.lanes.iter().enumerate() {
            if let Some(&due) = dues.front()
                && best.is_none_or(|(least, _)| comes_before(due, least))
            {
                best = Some((due, Some(lane)));
            }
        }
        best
    }

    fn pop(&mut self, lane: Option<usize>) {
        match lane {
            Some(lane) => drop(self.lanes[lane].pop_front()),
            None => drop(self.heap.pop()),
        }
    }

    /// The slot and time of the earliest item.
    pub(crate) fn earliest(&mut self) -> Option<(usize, Time)> {
        while let Some(((at, seq, slot), lane)) = self.first() {
            if self.slots[slot]
                .as_ref()
                .is_some_and(|entry| entry.seq == seq)
            {
                self.near = lane;
                return Some((slot, at));
            }
            self.pop(lane);
        }
        None
    }

    /// Takes an item out, whatever its turn.
    pub(crate) fn take(&mut self, slot: usize) -> Option<Entry<T>> {
        let taken = self.slots.get_mut(slot)?.take()?;
        self.free.push(slot);
        self.len -= 1;
        let front = match self.near {
            Some(lane) => self.lanes[lane].front(),
            None => self.heap.peek().map(|Reverse(due)| due),
        };
        if front.is_some_and(|&(_, seq, _)| seq == taken.seq) {
            self.pop(self.near);
        }
        Some(taken)
    }

    /// What is in a slot.
    pub(crate) fn entry(&self, slot: usize) -> Option<&Entry<T>> {
        self.slots.get(slot)?.as_ref()
    }

    /// All items with their slots, in no particular order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (usize, &Entry<T>)> {
        let slots = self.slots.iter().enumerate();
        slots.filter_map(|(slot, entry)| Some((slot, entry.as_ref()?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(nanos: u64) -> Time {
        Time::from_nanos(nanos)
    }

    #[test]
    fn the_earliest_comes_first_and_ties_by_arrival() {
        let mut agenda = Agenda::new();
        for (time, item) in [(5, 'c'), (1, 'a'), (5, 'd'), (2, 'b')] {
            agenda.add(at(time), item);
        }
        let mut order = String::new();
        while let Some((slot, _)) = agenda.earliest() {
            order.push(agenda.take(slot).expect("it is there").item);
        }
        assert_eq!((order.as_str(), agenda.len()), ("abcd", 0));
    }

    #[test]
    fn an_item_taken_out_of_turn_does_not_come_again() {
        let mut agenda = Agenda::new();
        agenda.add(at(1), 'a');
        agenda.add(at(2), 'b');
        assert_eq!(agenda.take(1).map(|entry| entry.item), Some('b'));
        agenda.add(at(3), 'c');
        assert!(agenda.take(7).is_none());
        let mut order = String::new();
        while let Some((slot, _)) = agenda.earliest() {
            order.push(agenda.take(slot).expect("it is there").item);
        }
        assert_eq!(order, "ac");
    }

    #[test]
    fn lanes_and_heap_keep_the_order_of_a_sorted_list() {
        let mut agenda = Agenda::new();
        let mut expected = Vec::new();
        let (mut luck, mut now) = (holm_base::Prng::new(7), 0);
        for round in 0..2_000_u64 {
            let delay = [1, 1, 100, 5_000, luck.below(300)][usize::try_from(round % 5).expect("5")];
            agenda.add(at(now + delay), round);
            expected.push((now + delay, round));
            if luck.below(3) > 0 {
                expected.sort_unstable();
                let (slot, due) = agenda.earliest().expect("one was added");
                let taken = agenda.take(slot).expect("it is there");
                assert_eq!((due.nanos(), taken.item), expected.remove(0));
                now = due.nanos();
            }
        }
        expected.sort_unstable();
        for (due, item) in expected {
            let (slot, when) = agenda.earliest().expect("it is left");
            let taken = agenda.take(slot).map(|entry| entry.item);
            assert_eq!((when.nanos(), taken), (due, Some(item)));
        }
        assert_eq!(agenda.earliest(), None);
    }
}
