//! Who wrote what: slots, dots, and vectors that say how far each slot is known.
//!
//! What would surprise: a vector names sites, not nodes, so it has at most 255 entries and
//! usually three; it is a sorted list and searched from the front.

use alloc::vec::Vec;
use core::fmt;

use bytes::BufMut;

use crate::encode::{DecodeError, Reader, put_varint};

/// A site's place in a keyspace: 1 to 255, never used again once its site has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(u8);

impl Slot {
    /// A slot of that number; none for 0, which stands for nobody.
    #[must_use]
    pub const fn new(number: u8) -> Option<Self> {
        if number == 0 {
            None
        } else {
            Some(Self(number))
        }
    }

    /// The bare number, for the wire or the disk.
    #[must_use]
    pub const fn value(self) -> u8 {
        self.0
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The name of one update: the how many-th of its slot, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Dot {
    /// Whose it is.
    pub slot: Slot,
    /// Its number there.
    pub seq: u64,
}

impl fmt::Display for Dot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.slot, self.seq)
    }
}

/// A version vector: of each slot, all updates up to a number.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Vector {
    /// Sorted by slot; who has nothing is not listed.
    seqs: Vec<(Slot, u64)>,
}

impl Clone for Vector {
    fn clone(&self) -> Self {
        let seqs = self.seqs.clone();
        Self { seqs }
    }

    /// Into the memory that is there: each update moves a few vectors.
    fn clone_from(&mut self, other: &Self) {
        self.seqs.clone_from(&other.seqs);
    }
}

impl Vector {
    /// Covers nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self { seqs: Vec::new() }
    }

    /// Up to which update of a slot it covers all; 0 if none.
    #[must_use]
    pub fn seq(&self, slot: Slot) -> u64 {
        let found = self.seqs.iter().find(|(it, _)| *it == slot);
        found.map_or(0, |(_, seq)| *seq)
    }

    /// Whether it covers an update.
    #[must_use]
    pub fn covers(&self, dot: Dot) -> bool {
        dot.seq <= self.seq(dot.slot)
    }

    /// Whether it covers all that `other` does.
    #[must_use]
    pub fn is_at_least(&self, other: &Self) -> bool {
        other.seqs.iter().all(|(slot, seq)| self.seq(*slot) >= *seq)
    }

    /// Covers a slot up to `seq`, at least.
    pub fn raise(&mut self, slot: Slot, seq: u64) {
        if seq == 0 {
            return;
        }
        match self.seqs.binary_search_by_key(&slot, |(it, _)| *it) {
            Ok(at) => self.seqs[at].1 = self.seqs[at].1.max(seq),
            Err(at) => self.seqs.insert(at, (slot, seq)),
        }
    }

    /// Covers a slot up to `seq`, at most.
    pub(crate) fn lower(&mut self, slot: Slot, seq: u64) {
        if let Ok(at) = self.seqs.binary_search_by_key(&slot, |(it, _)| *it) {
            self.seqs[at].1 = self.seqs[at].1.min(seq);
            if seq == 0 {
                self.seqs.remove(at);
            }
        }
    }

    /// Covers all that either covers.
    pub fn join(&mut self, other: &Self) {
        for (slot, seq) in other.iter() {
            self.raise(slot, seq);
        }
    }

    /// Covers only what both cover.
    pub fn meet(&mut self, other: &Self) {
        for (slot, seq) in &mut self.seqs {
            *seq = (*seq).min(other.seq(*slot));
        }
        self.seqs.retain(|(_, seq)| *seq > 0);
    }

    /// Every slot that has something, with how far it is covered, by slot.
    pub fn iter(&self) -> impl Iterator<Item = (Slot, u64)> + '_ {
        self.seqs.iter().copied()
    }

    /// How many updates it covers.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.seqs.iter().map(|(_, seq)| *seq).sum()
    }

    /// Those slots of it that are further than in `before`.
    pub(crate) fn since(&self, before: &Self) -> Self {
        let moved = self.iter().filter(|(slot, seq)| *seq > before.seq(*slot));
        Self {
            seqs: moved.collect(),
        }
    }

    pub(crate) fn encode(&self, out: &mut impl BufMut) {
        let count = u8::try_from(self.seqs.len()).expect("there are 255 slots");
        out.put_u8(count);
        for (slot, seq) in self.iter() {
            out.put_u8(slot.value());
            put_varint(out, seq);
        }
    }

    pub(crate) fn decode(reader: &mut Reader) -> Result<Self, DecodeError> {
        let mut seqs: Vec<(Slot, u64)> = Vec::new();
        for _ in 0..reader.byte("a vector")? {
            let (slot, seq) = (reader.slot()?, reader.varint("a vector")?);
            let is_in_order = seqs.last().is_none_or(|(last, _)| *last < slot);
            if !is_in_order || seq == 0 {
                return Err(DecodeError::Wrong { what: "a vector" });
            }
            seqs.push((slot, seq));
        }
        Ok(Self { seqs })
    }
}

impl fmt::Display for Vector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut comma = "";
        for (slot, seq) in self.iter() {
            write!(f, "{comma}{slot}.{seq}")?;
            comma = " ";
        }
        Ok(())
    }
}
