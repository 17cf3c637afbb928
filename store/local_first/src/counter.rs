//! Counters: what was added to a key, each addition under its own dot.
//!
//! A counter is the base that is shown (a plain value, see [`State`](crate::State)) and all
//! additions that no base has seen. Totals a site, the usual counter, would not do: an addition
//! that is concurrent to a reset would carry its site's whole total past it.
//!
//! What would surprise: additions that nobody can be without any more become one *run*. Whatever
//! is still to come covers all of a run or nothing of it. Its digests are added up, so that who
//! has folded and who has not are told to have the same.

use alloc::vec::Vec;

use bytes::{BufMut, BytesMut};
use sha2::{Digest as _, Sha256};

use crate::clock::Hlc;
use crate::encode::{DecodeError, Reader, put_varint};
use crate::ranges::{Digest, Sum};
use crate::vector::{Dot, Slot, Vector};
use crate::wire::Mark;

/// One addition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delta {
    /// Which update made it.
    pub dot: Dot,
    /// Its time.
    pub hlc: Hlc,
    /// What is added.
    pub amount: i64,
}

impl Delta {
    fn digest(&self) -> Digest {
        let mut hash = Sha256::new();
        hash.update([self.dot.slot.value()]);
        hash.update(self.dot.seq.to_le_bytes());
        hash.update(self.hlc.value().to_le_bytes());
        hash.update(self.amount.to_le_bytes());
        Digest(hash.finalize().into())
    }
}

/// Additions of one slot that every site has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// Whose.
    pub slot: Slot,
    /// The first of them.
    pub first: u64,
    /// The last of them.
    pub last: u64,
    /// The latest time in it.
    pub hlc: Hlc,
    /// What they come to.
    pub sum: i128,
    /// How many they are, and their digests.
    pub digests: Sum,
}

impl Run {
    pub(crate) const fn begin(&self) -> Dot {
        let (slot, seq) = (self.slot, self.first);
        Dot { slot, seq }
    }

    pub(crate) const fn end(&self) -> Dot {
        let (slot, seq) = (self.slot, self.last);
        Dot { slot, seq }
    }

    fn has(&self, dot: Dot) -> bool {
        dot.slot == self.slot && (self.first..=self.last).contains(&dot.seq)
    }

    fn add(&mut self, delta: &Delta) {
        self.last = delta.dot.seq;
        self.hlc = self.hlc.max(delta.hlc);
        self.sum += i128::from(delta.amount);
        self.digests = self.digests.with(&delta.digest());
    }
}

/// All additions of a key that no base or delete has seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Additions {
    /// By dot.
    deltas: Vec<Delta>,
    /// By slot, at most one of each.
    runs: Vec<Run>,
}

impl Additions {
    pub(crate) const fn new() -> Self {
        Self {
            deltas: Vec::new(),
            runs: Vec::new(),
        }
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.deltas.is_empty() && self.runs.is_empty()
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::new();
    }

    pub(crate) fn deltas(&self) -> &[Delta] {
        &self.deltas
    }

    pub(crate) fn runs(&self) -> &[Run] {
        &self.runs
    }

    /// What they come to.
    pub(crate) fn total(&self) -> i128 {
        let deltas = self.deltas.iter().map(|it| i128::from(it.amount));
        deltas.chain(self.runs.iter().map(|it| it.sum)).sum()
    }

    /// The dots of all of them with their times; of a run the last.
    pub(crate) fn marks(&self) -> impl Iterator<Item = Mark> + '_ {
        let deltas = self.deltas.iter().map(|it| (it.dot, it.hlc));
        let runs = self.runs.iter().map(|it| (it.end(), it.hlc));
        deltas.chain(runs).map(|(dot, hlc)| Mark { dot, hlc })
    }

    pub(crate) fn add(&mut self, delta: Delta) {
        match self.deltas.binary_search_by_key(&delta.dot, |it| it.dot) {
            Ok(at) => self.deltas[at] = delta,
            Err(at) => self.deltas.insert(at, delta),
        }
    }

    /// What is covered goes.
    pub(crate) fn delete(&mut self, deps: &Vector) {
        self.deltas.retain(|it| !deps.covers(it.dot));
        self.runs.retain(|it| !deps.covers(it.end()));
    }

    pub(crate) fn keep_covered(&mut self, vector: &Vector) {
        self.deltas.retain(|it| vector.covers(it.dot));
        self.runs.retain(|it| vector.covers(it.end()));
    }

    /// What nobody can be without any more becomes a run a slot.
    pub(crate) fn fold(&mut self, stable: &Vector) {
        let mut rest = Vec::new();
        for delta in core::mem::take(&mut self.deltas) {
            if !stable.covers(delta.dot) {
                rest.push(delta);
                continue;
            }
            let slot = delta.dot.slot;
            let found = self.runs.binary_search_by_key(&slot, |it| it.slot);
            let at = found.unwrap_or_else(|at| {
                let empty = Run {
                    slot,
                    first: delta.dot.seq,
                    last: delta.dot.seq,
                    hlc: delta.hlc,
                    sum: 0,
                    digests: Sum::default(),
                };
                self.runs.insert(at, empty);
                at
            });
            self.runs[at].add(&delta);
        }
        self.deltas = rest;
    }

    /// How many there are with their digests, folded or not.
    pub(crate) fn digests(&self) -> Sum {
        let deltas = self.deltas.iter();
        let deltas = deltas.fold(Sum::default(), |sum, it| sum.with(&it.digest()));
        let runs = self.runs.iter();
        runs.fold(deltas, |sum, it| sum.plus(&it.digests))
    }

    fn has(&self, dot: Dot) -> bool {
        let alone = self.deltas.binary_search_by_key(&dot, |it| it.dot);
        alone.is_ok() || self.runs.iter().any(|it| it.has(dot))
    }

    fn run(&self, slot: Slot) -> Option<&Run> {
        self.runs.iter().find(|it| it.slot == slot)
    }

    /// Those of both sides that the other has or has not heard of.
    pub(crate) fn joined((ours, seen): (&Self, &Vector), (theirs, told): (&Self, &Vector)) -> Self {
        let mut joined = Self::new();
        let mut slots: Vec<Slot> = ours.runs.iter().map(|it| it.slot).collect();
        slots.extend(theirs.runs.iter().map(|it| it.slot));
        slots.sort_unstable();
        slots.dedup();
        for slot in slots {
            let run = match (ours.run(slot), theirs.run(slot)) {
                // Of equal beginning the longer has folded more; one that begins later was
                // folded after a base that took all of the other.
                (Some(one), Some(other)) => Some(one.max_by_age(other)),
                (Some(one), None) => lives(one, (theirs, told)).then_some(one),
                (None, Some(one)) => lives(one, (ours, seen)).then_some(one),
                (None, None) => None,
            };
            joined.runs.extend(run.copied());
        }
        let kept = ours.deltas.iter();
        let kept = kept.filter(|it| theirs.has(it.dot) || !told.covers(it.dot));
        let news = theirs.deltas.iter();
        let is_alone = |dot: Dot| ours.deltas.binary_search_by_key(&dot, |it| it.dot).is_ok();
        let is_news = |dot: Dot| ours.has(dot) || !seen.covers(dot);
        let news = news.filter(|it| !is_alone(it.dot) && is_news(it.dot));
        let is_folded = |it: &&Delta| joined.runs.iter().any(|run| run.has(it.dot));
        let mut deltas: Vec<Delta> = kept
            .chain(news)
            .filter(|it| !is_folded(it))
            .copied()
            .collect();
        deltas.sort_unstable_by_key(|it| it.dot);
        joined.deltas = deltas;
        joined
    }

    pub(crate) fn encode(&self, out: &mut BytesMut) {
        put_varint(
            out,
            u64::try_from(self.deltas.len()).expect("a length fits 64 bits"),
        );
        for it in &self.deltas {
            out.put_u8(it.dot.slot.value());
            put_varint(out, it.dot.seq);
            out.put_u64_le(it.hlc.value());
            put_varint(out, zigzag(it.amount));
        }
        out.put_u8(u8::try_from(self.runs.len()).expect("one a slot"));
        for it in &self.runs {
            out.put_u8(it.slot.value());
            put_varint(out, it.first);
            put_varint(out, it.last - it.first);
            out.put_u64_le(it.hlc.value());
            out.put_i128_le(it.sum);
            put_varint(out, it.digests.count);
            it.digests
                .digests
                .iter()
                .for_each(|part| out.put_u64_le(*part));
        }
    }

    pub(crate) fn decode(reader: &mut Reader) -> Result<Self, DecodeError> {
        let what = "a counter";
        let mut found = Self::new();
        for _ in 0..reader.varint(what)? {
            let (slot, seq) = (reader.slot()?, reader.varint(what)?);
            let delta = Delta {
                dot: Dot { slot, seq },
                hlc: Hlc::new(reader.u64(what)?),
                amount: unzigzag(reader.varint(what)?),
            };
            let is_in_order = found.deltas.last().is_none_or(|last| last.dot < delta.dot);
            if !is_in_order || seq == 0 {
                return Err(DecodeError::Wrong { what });
            }
            found.deltas.push(delta);
        }
        for _ in 0..reader.byte(what)? {
            let run = take_run(reader)?;
            let is_in_order = found.runs.last().is_none_or(|last| last.slot < run.slot);
            if !is_in_order {
                return Err(DecodeError::Wrong { what });
            }
            found.runs.push(run);
        }
        Ok(found)
    }
}

impl Run {
    /// The one of two runs of a slot that knows more.
    fn max_by_age<'a>(&'a self, other: &'a Self) -> &'a Self {
        if (self.first, self.last) >= (other.first, other.last) {
            self
        } else {
            other
        }
    }
}

/// Whether a run that a peer has not folded is still there: its first is live at the peer, or
/// the peer has never heard of it.
fn lives(run: &Run, (peer, vector): (&Additions, &Vector)) -> bool {
    peer.has(run.begin()) || !vector.covers(run.begin())
}

fn take_run(reader: &mut Reader) -> Result<Run, DecodeError> {
    let what = "a counter";
    let (slot, first) = (reader.slot()?, reader.varint(what)?);
    let more = reader.varint(what)?;
    let last = first.checked_add(more);
    let hlc = Hlc::new(reader.u64(what)?);
    let mut sum = [0; 16];
    sum.copy_from_slice(&reader.take(16, what)?);
    let count = reader.varint(what)?;
    let mut digests = [0; 4];
    for part in &mut digests {
        *part = reader.u64(what)?;
    }
    let sum = i128::from_le_bytes(sum);
    // What is added up later must not overflow, whoever sent it.
    let can_be = count < 1 << 48 && sum.unsigned_abs() <= u128::from(count) << 63;
    let last = last.filter(|_| can_be && first > 0 && count > 0 && count - 1 <= more);
    Ok(Run {
        slot,
        first,
        last: last.ok_or(DecodeError::Wrong { what })?,
        hlc,
        sum,
        digests: Sum { count, digests },
    })
}

pub(crate) const fn zigzag(amount: i64) -> u64 {
    (amount.cast_unsigned() << 1) ^ (amount >> 63).cast_unsigned()
}

pub(crate) const fn unzigzag(bits: u64) -> i64 {
    (bits >> 1).cast_signed() ^ -(bits & 1).cast_signed()
}
