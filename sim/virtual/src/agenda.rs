//! Everything that is to happen, in lanes, with a heap beside them.
//!
//! Timed order takes the earliest, ties by the order of arrival here. A hunt takes any: the place of an item that was
//! taken out of turn is a hole, and holes are closed when they come to the front.
//!
//! What would surprise: most of what is added is due behind something that was added before, for delays are much
//! alike. So there are a few lanes in which times rise, which hold the items themselves, and only what fits none of
//! them goes to the heap.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use holm_base::Time;

/// In how many lanes times rise.
const LANES: usize = 4;

/// How many lanes a slot's number tells apart, the heap being one more.
const KINDS: usize = 8;

/// An item and when it is due.
#[derive(Clone, Debug)]
pub(crate) struct Entry<T> {
    pub(crate) at: Time,
    /// Which it is of all that were ever added.
    pub(crate) seq: u64,
    pub(crate) item: T,
}

/// When something is due, and which it is.
type Due = (Time, u64);

/// Behind everything.
const NEVER: Due = (Time::from_nanos(u64::MAX), u64::MAX);

/// Items whose times rise. The first is there, if any is.
#[derive(Clone, Debug)]
struct Lane<T> {
    entries: VecDeque<Option<Entry<T>>>,
    /// How many have left it.
    gone: usize,
    /// The first of them; never, if there is none.
    first: Due,
    /// When the last is due that ever came here: what comes behind it is due no earlier.
    last: Time,
}

impl<T> Lane<T> {
    const EMPTY: Self = Self {
        entries: VecDeque::new(),
        gone: 0,
        first: NEVER,
        last: Time::ZERO,
    };

    #[inline(always)]
    fn push(&mut self, entry: Entry<T>) {
        self.last = entry.at;
        if self.entries.is_empty() {
            self.first = (entry.at, entry.seq);
        }
        self.entries.push_back(Some(entry));
    }

    /// Takes the first. Nothing is left to do once it is in hand, for that would move it about.
    #[inline(always)]
    fn pop(&mut self) -> Option<Entry<T>> {
        match self.entries.get(1) {
            Some(Some(next)) => self.first = (next.at, next.seq),
            Some(None) => self.close(),
            None => self.first = NEVER,
        }
        self.gone += 1;
        self.entries.pop_front()?
    }

    /// Drops the holes behind the first.
    fn close(&mut self) {
        let is_there = |(_, entry): &(usize, &Option<Entry<T>>)| entry.is_some();
        let next = self.entries.iter().enumerate().skip(1).find(is_there);
        let (holes, due) = match next {
            Some((index, Some(next))) => (index - 1, (next.at, next.seq)),
            Some((_, None)) | None => (self.entries.len() - 1, NEVER),
        };
        self.first = due;
        self.gone += holes;
        self.entries.drain(1..=holes);
    }

    fn pick(&mut self, place: usize) -> Option<Entry<T>> {
        let index = place.checked_sub(self.gone)?;
        self.entries.get_mut(index)?.take()
    }
}

/// What fits no lane: the heap's entries lie in a slab.
#[derive(Clone, Debug)]
struct Rest<T> {
    slots: Vec<Option<Entry<T>>>,
    free: Vec<usize>,
    /// When, which, and in which slot. The first is there, if any is.
    heap: BinaryHeap<Reverse<(Time, u64, usize)>>,
}

impl<T> Rest<T> {
    fn push(&mut self, entry: Entry<T>) {
        let slot = self.free.pop().unwrap_or(self.slots.len());
        self.heap.push(Reverse((entry.at, entry.seq, slot)));
        if slot == self.slots.len() {
            self.slots.push(Some(entry));
        } else {
            self.slots[slot] = Some(entry);
        }
    }

    fn take(&mut self, slot: usize) -> Option<Entry<T>> {
        let taken = self.slots.get_mut(slot)?.take()?;
        self.free.push(slot);
        while let Some(&Reverse((_, seq, slot))) = self.heap.peek() {
            let entry = self.slots[slot].as_ref();
            if entry.is_some_and(|entry| entry.seq == seq) {
                break;
            }
            self.heap.pop();
        }
        Some(taken)
    }
}

/// What is to happen.
#[derive(Clone, Debug)]
pub(crate) struct Agenda<T> {
    lanes: [Lane<T>; LANES],
    /// The lane whose last is the latest of all.
    latest: usize,
    rest: Rest<T>,
    next_seq: u64,
    len: usize,
}

impl<T> Agenda<T> {
    pub(crate) const fn new() -> Self {
        Self {
            lanes: [Lane::EMPTY; LANES],
            latest: 0,
            rest: Rest {
                slots: Vec::new(),
                free: Vec::new(),
                heap: BinaryHeap::new(),
            },
            next_seq: 0,
            len: 0,
        }
    }

    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    #[inline(always)]
    pub(crate) fn add(&mut self, at: Time, item: T) {
        let seq = self.next_seq;
        self.next_seq += 1;
        self.len += 1;
        let entry = Entry { at, seq, item };
        let latest = &mut self.lanes[self.latest];
        if latest.last <= at {
            latest.push(entry);
        } else {
            self.squeeze(entry);
        }
    }

    /// Adds what is due before the last of all.
    fn squeeze(&mut self, entry: Entry<T>) {
        let lanes = self.lanes.iter_mut();
        let fitting = lanes.filter(|lane| lane.last <= entry.at);
        match fitting.max_by_key(|lane| lane.last) {
            Some(lane) => lane.push(entry),
            None => self.rest.push(entry),
        }
    }

    /// The slot and time of the earliest item.
    #[inline(always)]
    pub(crate) fn earliest(&self) -> Option<(usize, Time)> {
        let heap = self.rest.heap.peek();
        let heap = heap.map(|&Reverse((at, seq, slot))| ((at, seq), slot * KINDS + LANES));
        let mut best = heap.unwrap_or((NEVER, 0));
        for (kind, lane) in self.lanes.iter().enumerate() {
            if lane.first < best.0 {
                best = (lane.first, lane.gone * KINDS + kind);
            }
        }
        let (due, slot) = best;
        (due != NEVER).then_some((slot, due.0))
    }

    /// Takes an item out, whatever its turn.
    #[inline(always)]
    pub(crate) fn take(&mut self, slot: usize) -> Option<Entry<T>> {
        let (place, kind) = (slot / KINDS, slot % KINDS);
        if let Some(lane) = self.lanes.get_mut(kind)
            && lane.gone == place
            && !lane.entries.is_empty()
        {
            self.len -= 1;
            return lane.pop();
        }
        self.pick(place, kind)
    }

    /// Takes out what is not the first of a lane.
    fn pick(&mut self, place: usize, kind: usize) -> Option<Entry<T>> {
        let taken = match self.lanes.get_mut(kind) {
            Some(lane) => lane.pick(place),
            None => self.rest.take(place),
        };
        self.len -= usize::from(taken.is_some());
        taken
    }

    /// What is in a slot.
    pub(crate) fn entry(&self, slot: usize) -> Option<&Entry<T>> {
        let (place, kind) = (slot / KINDS, slot % KINDS);
        let found = match self.lanes.get(kind) {
            Some(lane) => lane.entries.get(place.checked_sub(lane.gone)?),
            None => self.rest.slots.get(place),
        };
        found?.as_ref()
    }

    /// Shows all that is due until then, with its slot, in no particular order.
    #[inline(always)]
    pub(crate) fn each_until(&self, last: Time, mut show: impl FnMut(usize, &Entry<T>)) {
        for (kind, lane) in self.lanes.iter().enumerate() {
            if lane.first.0 > last {
                continue;
            }
            let (one, other) = lane.entries.as_slices();
            let mut slot = lane.gone * KINDS + kind;
            for entry in one.iter().chain(other) {
                if let Some(entry) = entry {
                    if entry.at > last {
                        break;
                    }
                    show(slot, entry);
                }
                slot += KINDS;
            }
        }
        for (place, entry) in self.rest.slots.iter().enumerate() {
            if let Some(entry) = entry
                && entry.at <= last
            {
                show(place * KINDS + LANES, entry);
            }
        }
    }

    /// All items with their slots, in no particular order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (usize, &Entry<T>)> {
        let lanes = self.lanes.iter().enumerate().flat_map(|(kind, lane)| {
            let places = lane.entries.iter().zip(lane.gone..);
            places.map(move |(entry, place)| (place * KINDS + kind, entry))
        });
        let rest = self.rest.slots.iter().enumerate();
        let rest = rest.map(|(place, entry)| (place * KINDS + LANES, entry));
        let all = lanes.chain(rest);
        all.filter_map(|(slot, entry)| Some((slot, entry.as_ref()?)))
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

    fn slot_of(agenda: &Agenda<u64>, seq: u64) -> Option<usize> {
        let mut all = agenda.iter();
        let (slot, found) = all.find(|(_, entry)| entry.seq == seq)?;
        let entry = agenda.entry(slot).expect("a slot that was named holds it");
        assert_eq!(entry.item, found.item);
        Some(slot)
    }

    #[test]
    fn an_item_taken_out_of_turn_does_not_come_again() {
        let mut agenda = Agenda::new();
        agenda.add(at(1), 10);
        agenda.add(at(2), 20);
        let slot = slot_of(&agenda, 1).expect("it was added");
        assert_eq!(agenda.take(slot).map(|entry| entry.item), Some(20));
        assert!(agenda.take(slot).is_none());
        assert!(agenda.entry(slot).is_none());
        agenda.add(at(3), 30);
        let mut order = Vec::new();
        while let Some((slot, _)) = agenda.earliest() {
            order.push(agenda.take(slot).expect("it is there").item);
        }
        assert_eq!(order, [10, 30]);
    }

    #[test]
    fn lanes_and_heap_keep_the_order_of_a_sorted_list_whatever_is_taken_out_of_turn() {
        for odd in [0, 1, 3, 30] {
            keeps_order(odd);
        }
    }

    /// `odd` of a hundred are taken out of turn.
    fn keeps_order(odd: u64) {
        let mut agenda = Agenda::new();
        let mut expected = Vec::new();
        let (mut luck, mut now) = (holm_base::Prng::new(7), 0);
        for round in 0..2_000_u64 {
            let delay = [1, 1, 100, 5_000, luck.below(300)][usize::try_from(round % 5).expect("5")];
            agenda.add(at(now + delay), round);
            expected.push((now + delay, round));
            expected.sort_unstable();
            if luck.below(100) < odd {
                let count = u64::try_from(expected.len()).expect("few");
                let picked = usize::try_from(luck.below(count)).expect("few");
                let (due, seq) = expected.remove(picked);
                let slot = slot_of(&agenda, seq).expect("it is there");
                let taken = agenda.take(slot).map(|entry| (entry.at, entry.item));
                assert_eq!(taken, Some((at(due), seq)));
            } else if luck.below(3) > 0 {
                let (slot, due) = agenda.earliest().expect("one was added");
                let taken = agenda.take(slot).expect("it is there");
                assert_eq!((due.nanos(), taken.item), expected.remove(0));
                now = due.nanos();
            }
            assert_eq!(agenda.len(), expected.len());
            assert_eq!(agenda.iter().count(), expected.len());
            let mut due = 0;
            agenda.each_until(at(now + 100), |slot, entry| {
                due += 1;
                assert_eq!(slot_of(&agenda, entry.seq), Some(slot));
            });
            let within = expected.iter().filter(|(due, _)| *due <= now + 100);
            assert_eq!(due, within.count());
        }
        for (due, item) in expected {
            let (slot, when) = agenda.earliest().expect("it is left");
            let taken = agenda.take(slot).map(|entry| entry.item);
            assert_eq!((when.nanos(), taken), (due, Some(item)));
        }
        assert_eq!(agenda.earliest(), None);
    }
}
