//! The newest updates of each slot, kept for sites that lack them.
//!
//! What would surprise: nothing is lost with them. A site that lacks one that is not kept gets
//! the keys that differ instead. After a start they are those that the log held above the
//! engine's last flush.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use holm_local_first::{Applied, Dot, Sealed, Slot, Vector};

use super::Isle;
use crate::layout::count;
use crate::store::Store;

/// Own updates share allocations of this size.
pub(super) const BLOCK: usize = 64 << 10;

/// Updates of one slot that are kept, dense from the first.
#[derive(Debug, Default)]
struct Stream {
    first: u64,
    kept: VecDeque<Bytes>,
    bytes: usize,
}

impl Stream {
    fn next(&self) -> u64 {
        self.first + count(self.kept.len())
    }
}

/// Updates of all slots.
#[derive(Debug)]
pub(super) struct Streams {
    slots: BTreeMap<Slot, Stream>,
    bytes: usize,
    bytes_max: usize,
}

impl Streams {
    pub(super) fn new(bytes_max: usize, vector: &Vector) -> Self {
        let mut streams = Self {
            slots: BTreeMap::new(),
            bytes: 0,
            bytes_max,
        };
        streams.skip_to(vector);
        streams
    }

    /// What lies up to there and is not kept was not taken in one by one: what is kept of that
    /// slot begins behind it.
    pub(super) fn skip_to(&mut self, vector: &Vector) {
        for (slot, seq) in vector.iter() {
            let stream = self.slots.entry(slot).or_default();
            if stream.next() <= seq {
                self.bytes -= stream.bytes;
                *stream = Stream {
                    first: seq + 1,
                    ..Stream::default()
                };
            }
        }
    }

    pub(super) fn push(&mut self, dot: Dot, bytes: Bytes) {
        let stream = self.slots.entry(dot.slot).or_default();
        stream.first = stream.first.max(1);
        assert_eq!(stream.next(), dot.seq, "local-first I4: in slot order");
        stream.bytes += bytes.len();
        self.bytes += bytes.len();
        stream.kept.push_back(bytes);
        while self.bytes > self.bytes_max && self.let_one_go() {}
    }

    /// The oldest of the slot that holds most.
    fn let_one_go(&mut self) -> bool {
        let most = self.slots.values_mut().max_by_key(|it| it.bytes);
        let Some((stream, gone)) = most.and_then(|it| {
            let gone = it.kept.pop_front()?;
            Some((it, gone))
        }) else {
            return false;
        };
        stream.first += 1;
        stream.bytes -= gone.len();
        self.bytes -= gone.len();
        true
    }

    /// Those of a slot behind `after`, as many as fit and at least one; `last` is the newest that
    /// was taken in. `None` if the first of them is not kept.
    pub(super) fn read(
        &self,
        slot: Slot,
        (after, last): (u64, u64),
        bytes_max: usize,
    ) -> Option<Vec<Bytes>> {
        if after >= last {
            return Some(Vec::new());
        }
        let stream = self.slots.get(&slot)?;
        let skipped = usize::try_from((after + 1).checked_sub(stream.first)?).ok()?;
        let mut bytes = 0;
        let found = stream.kept.iter().skip(skipped).take_while(|it| {
            let is_first = bytes == 0;
            bytes += it.len();
            is_first || bytes <= bytes_max
        });
        let found: Vec<Bytes> = found.cloned().collect();
        (!found.is_empty()).then_some(found)
    }
}

impl Isle {
    /// What was changed is an update.
    pub(super) fn originate(&mut self, store: &Store) {
        if self.changes.is_empty() {
            return;
        }
        let changes = std::mem::take(&mut self.changes);
        let sealed = self
            .island
            .originate_in(changes, self.unix_ms, &mut self.block);
        let (revision, vector) = (store.root().revision(), self.island.vector());
        self.written.note(revision, sealed.update.dot, vector);
        self.keep(sealed);
    }

    pub(super) fn keep(&mut self, sealed: Sealed) {
        self.streams.push(sealed.update.dot, sealed.bytes.clone());
        self.applied.push(Applied::Update(sealed));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dot(seq: u64) -> Dot {
        let slot = Slot::new(1).expect("it is not 0");
        Dot { slot, seq }
    }

    fn of(seq: u64) -> Bytes {
        Bytes::from(format!("{seq:010}"))
    }

    #[test]
    fn what_is_kept_is_bounded_and_what_is_gone_is_said() {
        let mut streams = Streams::new(50, &Vector::new());
        (1..=9).for_each(|seq| streams.push(dot(seq), of(seq)));
        let read = |after, most| streams.read(dot(1).slot, (after, 9), most);
        assert_eq!(read(3, 100), None, "4 is gone");
        assert_eq!(read(4, 100), Some((5..=9).map(of).collect()));
        assert_eq!(read(4, 25), Some(vec![of(5), of(6)]));
        assert_eq!(read(4, 1), Some(vec![of(5)]), "one at least");
        assert_eq!(read(9, 100), Some(Vec::new()));
        assert_eq!(streams.read(Slot::new(2).expect("2"), (0, 1), 9), None);
    }

    #[test]
    fn behind_what_was_jumped_over_it_begins_anew() {
        let mut streams = Streams::new(1_000, &Vector::new());
        (1..=3).for_each(|seq| streams.push(dot(seq), of(seq)));
        let mut vector = Vector::new();
        vector.raise(dot(1).slot, 3);
        streams.skip_to(&vector);
        assert_eq!(streams.read(dot(1).slot, (0, 3), 5), Some(vec![of(1)]));
        vector.raise(dot(1).slot, 7);
        streams.skip_to(&vector);
        assert_eq!(streams.read(dot(1).slot, (3, 7), 5), None);
        streams.push(dot(8), of(8));
        assert_eq!(streams.read(dot(1).slot, (7, 8), 5), Some(vec![of(8)]));
        assert_eq!(streams.bytes, 10);
    }
}
