//! Everything that is to happen, in a slab with a heap over it.
//!
//! Timed order takes the earliest, ties by the order of arrival here. A hunt takes any: the
//! heap's entry of an item that was taken out of turn is stale and is skipped when it comes up.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use holm_base::Time;

/// An item and when it is due.
#[derive(Clone, Debug)]
pub(crate) struct Entry<T> {
    pub(crate) at: Time,
    /// Which it is of all that were ever added.
    pub(crate) seq: u64,
    pub(crate) item: T,
}

/// What is to happen.
#[derive(Clone, Debug)]
pub(crate) struct Agenda<T> {
    slots: Vec<Option<Entry<T>>>,
    free: Vec<usize>,
    heap: BinaryHeap<Reverse<(Time, u64, usize)>>,
    next_seq: u64,
    len: usize,
}

impl<T> Agenda<T> {
    pub(crate) const fn new() -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            heap: BinaryHeap::new(),
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
        self.heap.push(Reverse((at, seq, slot)));
    }

    /// The slot and time of the earliest item.
    pub(crate) fn earliest(&mut self) -> Option<(usize, Time)> {
        while let Some(&Reverse((at, seq, slot))) = self.heap.peek() {
            if self.slots[slot]
                .as_ref()
                .is_some_and(|entry| entry.seq == seq)
            {
                return Some((slot, at));
            }
            self.heap.pop();
        }
        None
    }

    /// Takes an item out, whatever its turn.
    pub(crate) fn take(&mut self, slot: usize) -> Option<Entry<T>> {
        let taken = self.slots.get_mut(slot)?.take()?;
        self.free.push(slot);
        self.len -= 1;
        if let Some(&Reverse((_, seq, _))) = self.heap.peek()
            && seq == taken.seq
        {
            self.heap.pop();
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
}
