//! What is known of one key: the writes that none of the others saw, and how two islands' join.
//!
//! There is no tombstone. A dot that is missing here and covered by the vector was removed; one
//! that is not covered is news. That is why a state is merged together with the vectors of both
//! sides, and never alone.
//!
//! ```text
//! plain   u8 version 1, u8 1, siblings
//! other   u8 version 1, u8 2, siblings, additions, rows, markers
//! siblings  u8 n, n x (u8 slot, varint seq, u64 hlc, varint lease, varint length, body)
//! additions varint n, n x (u8 slot, varint seq, u64 hlc, zigzag amount)
//!           u8 n, n x (u8 slot, varint first, varint last - first, u64 hlc, i128 sum,
//!                      varint count, [32] digests)
//! rows      varint n, n x (varint shared, varint length, rest of path, u8 slot, varint seq,
//!                          u64 hlc, u8 node, varint lease, varint length, body)
//! markers   u8 n, n x (u8 slot, varint seq, u64 hlc)
//! ```
//!
//! What would surprise: the losers stay, values too, until a write that saw them comes. Were
//! they dropped early, then an island that had only the winner could delete that, and the loser
//! would come back from a third. And markers: where deletes win, each leaves one, and a put that
//! did not see all of them does not enter; it does not remove those that it saw, for a put that
//! did not see the delete may still be on its way.

use alloc::vec::Vec;

use bytes::{BufMut, Bytes, BytesMut};

use crate::clock::Hlc;
use crate::counter::{Additions, Delta, Run};
use crate::document::{Row, Rows, Write};
use crate::encode::{DecodeError, Reader, put_body, put_varint};
use crate::ranges::Digest;
use crate::vector::{Dot, Vector};
use crate::wire::Mark;

const VERSION: u8 = 1;
/// Plain bytes, one or several of them.
const REGISTER: u8 = 1;
/// All that there can be.
const OTHER: u8 = 2;

/// One write of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sibling {
    /// Which update wrote it.
    pub dot: Dot,
    /// Its time, which decides among concurrent ones.
    pub hlc: Hlc,
    /// The lease that it is attached to, of its own site; 0 for none.
    pub lease: i64,
    /// What was written.
    pub value: Bytes,
}

/// All writes of a key that no other of them saw. Empty: the key does not exist.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// Whole values. Sorted by dot; at most one a slot.
    siblings: Vec<Sibling>,
    additions: Additions,
    /// Parts of documents of which other parts were written since.
    rows: Rows,
    /// Deletes that win. Sorted by dot; at most one a slot.
    markers: Vec<Mark>,
}

impl State {
    /// A key that does not exist.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            siblings: Vec::new(),
            additions: Additions::new(),
            rows: Rows::new(),
            markers: Vec::new(),
        }
    }

    /// Whether nothing is known of the key. It may not exist and yet have [`State::markers`].
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.is_gone() && self.markers.is_empty()
    }

    /// Whether the key does not exist.
    #[must_use]
    pub const fn is_gone(&self) -> bool {
        self.siblings.is_empty() && self.additions.is_empty() && self.rows.is_empty()
    }

    /// Whether it is one value and nothing else, so that a record with its mark says it all.
    #[must_use]
    pub const fn is_plain(&self) -> bool {
        self.siblings.len() == 1 && self.is_made_of_siblings()
    }

    const fn is_made_of_siblings(&self) -> bool {
        self.additions.is_empty() && self.rows.is_empty() && self.markers.is_empty()
    }

    /// All whole values, by dot.
    #[must_use]
    pub fn siblings(&self) -> &[Sibling] {
        &self.siblings
    }

    /// The additions that are not folded, by dot.
    #[must_use]
    pub fn deltas(&self) -> &[Delta] {
        self.additions.deltas()
    }

    /// The additions that are folded, by slot.
    #[must_use]
    pub fn runs(&self) -> &[Run] {
        self.additions.runs()
    }

    /// Parts of documents, by path and dot.
    #[must_use]
    pub fn rows(&self) -> &[Row] {
        self.rows.all()
    }

    /// The deletes that win, by dot.
    #[must_use]
    pub fn markers(&self) -> &[Mark] {
        &self.markers
    }

    pub(crate) const fn additions(&self) -> &Additions {
        &self.additions
    }

    /// The one whole value that is shown: of the latest time, and of the highest slot among
    /// equal ones. What a counter or a document shows, [`Type::shown`](crate::Type::shown) says.
    #[must_use]
    pub fn shown(&self) -> Option<&Sibling> {
        self.siblings.iter().max_by_key(|it| (it.hlc, it.dot.slot))
    }

    /// The newest of all writes that stand: by which a record names what it shows.
    #[must_use]
    pub fn newest(&self) -> Option<Mark> {
        let siblings = self.siblings.iter().map(|it| (it.dot, it.hlc));
        let rows = self.rows.all().iter().map(|it| (it.dot, it.hlc));
        let both = siblings.chain(rows).map(|(dot, hlc)| Mark { dot, hlc });
        let all = both.chain(self.additions.marks());
        all.max_by_key(|it| (it.hlc, it.dot.slot))
    }

    /// A write that saw `deps`: it replaces what it saw, and stands beside the rest.
    pub fn put(&mut self, deps: &Vector, sibling: Sibling) {
        self.delete(deps);
        if !self.lets_in(deps) {
            return;
        }
        match self
            .siblings
            .binary_search_by_key(&sibling.dot, |it| it.dot)
        {
            Ok(at) => self.siblings[at] = sibling,
            Err(at) => self.siblings.insert(at, sibling),
        }
    }

    /// An addition that saw `deps`: it replaces nothing.
    pub fn add(&mut self, deps: &Vector, delta: Delta) {
        if self.lets_in(deps) {
            self.additions.add(delta);
        }
    }

    /// Changes of a document by an update that saw `deps`: of each path what it saw is replaced,
    /// or removed together with what lies beneath.
    pub fn write(&mut self, deps: &Vector, lease: i64, mark: Mark, writes: &[Write]) {
        // Whole documents that it saw lose the paths that it changes, and are whole no more.
        let (seen, rest): (Vec<Sibling>, Vec<Sibling>) = core::mem::take(&mut self.siblings)
            .into_iter()
            .partition(|it| deps.covers(it.dot));
        self.siblings = rest;
        seen.iter().for_each(|it| self.rows.break_up(it));
        let is_let_in = self.lets_in(deps);
        self.rows.write(deps, (lease, mark), writes, is_let_in);
    }

    /// A delete that saw `deps`: what it saw goes, a concurrent write stays.
    pub fn delete(&mut self, deps: &Vector) {
        self.siblings.retain(|it| !deps.covers(it.dot));
        self.additions.delete(deps);
        self.rows.delete(deps);
    }

    /// A delete that wins: everything goes, seen or not, and a marker stays.
    pub fn erase(&mut self, deps: &Vector, mark: Mark) {
        self.siblings.clear();
        self.additions.clear();
        self.rows.clear();
        self.markers.retain(|it| !deps.covers(it.dot));
        match self.markers.binary_search_by_key(&mark.dot, |it| it.dot) {
            Ok(at) => self.markers[at] = mark,
            Err(at) => self.markers.insert(at, mark),
        }
    }

    /// Whether a write enters that saw `deps`: it must have seen all deletes that win.
    fn lets_in(&self, deps: &Vector) -> bool {
        self.markers.iter().all(|it| deps.covers(it.dot))
    }

    /// Forgets what is for those only who may lack something: no site can lack what `stable`
    /// covers, and nothing concurrent to it can come any more. See
    /// [`Stability`](crate::Stability).
    pub fn settle(&mut self, stable: &Vector) {
        self.markers.retain(|it| !stable.covers(it.dot));
        self.additions.fold(stable);
    }

    /// What both sides have, and of each what is news to the other: I6 in both directions.
    ///
    /// Each state must be as of its vector. Cost: as many steps as there are siblings.
    #[must_use]
    pub fn joined((ours, seen): (&Self, &Vector), (theirs, told): (&Self, &Vector)) -> Self {
        if ours.is_made_of_siblings() && theirs.is_made_of_siblings() {
            let siblings = join_siblings((&ours.siblings, seen), (&theirs.siblings, told));
            return Self {
                siblings,
                ..Self::new()
            };
        }
        let (ours, theirs) = (ours.broken_like(theirs), theirs.broken_like(ours));
        // A delete that one side has not heard of takes what the other has not heard of.
        let ours = ours.without_what_falls(told, &theirs.markers_beyond(seen));
        let theirs = theirs.without_what_falls(seen, &ours.markers_beyond(told));
        let mut markers = ours.markers.clone();
        markers.extend(theirs.markers_beyond(seen));
        // Of one slot the last has seen the others.
        markers.sort_unstable_by_key(|it| core::cmp::Reverse(it.dot));
        markers.dedup_by_key(|it| it.dot.slot);
        markers.reverse();
        Self {
            siblings: join_siblings((&ours.siblings, seen), (&theirs.siblings, told)),
            additions: Additions::joined((&ours.additions, seen), (&theirs.additions, told)),
            rows: Rows::joined((&ours.rows, seen), (&theirs.rows, told)),
            markers,
        }
    }

    /// With those whole documents broken up that the other side has broken up.
    pub(crate) fn broken_like(&self, other: &Self) -> Self {
        let mut like = self.clone();
        like.siblings.clear();
        for sibling in &self.siblings {
            if other.rows.has_of(sibling.dot) {
                like.rows.break_up(sibling);
            } else {
                like.siblings.push(sibling.clone());
            }
        }
        like
    }

    /// The markers that a vector does not cover.
    fn markers_beyond(&self, vector: &Vector) -> Vec<Mark> {
        let beyond = self.markers.iter().filter(|it| !vector.covers(it.dot));
        beyond.copied().collect()
    }

    /// Without what the other side has not heard of, if that has deletes that are new here.
    fn without_what_falls(&self, heard: &Vector, markers: &[Mark]) -> Self {
        let mut rest = self.clone();
        if !markers.is_empty() {
            rest.siblings.retain(|it| heard.covers(it.dot));
            rest.additions.keep_covered(heard);
            rest.rows.keep_covered(heard);
        }
        rest
    }

    /// A digest of the key with all that is known of it: the same whether additions are folded
    /// or not.
    #[must_use]
    pub fn digest(&self, key: &[u8]) -> Digest {
        if self.additions.is_empty() {
            return Digest::of(key, &self.encode());
        }
        let mut rest = self.clone();
        rest.additions.clear();
        let mut out = BytesMut::from(&*rest.encode());
        let sum = self.additions.digests();
        put_varint(&mut out, sum.count);
        sum.digests.iter().for_each(|part| out.put_u64_le(*part));
        Digest::of(key, &out)
    }

    /// Writes it down.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let bodies: usize = self.siblings.iter().map(|it| it.value.len() + 32).sum();
        let mut out = BytesMut::with_capacity(3 + bodies);
        out.put_u8(VERSION);
        let is_plain = self.is_made_of_siblings();
        out.put_u8(if is_plain { REGISTER } else { OTHER });
        put_siblings(&mut out, &self.siblings);
        if !is_plain {
            self.additions.encode(&mut out);
            self.rows.encode(&mut out);
            out.put_u8(u8::try_from(self.markers.len()).expect("one a slot"));
            for it in &self.markers {
                out.put_u8(it.dot.slot.value());
                put_varint(&mut out, it.dot.seq);
                out.put_u64_le(it.hlc.value());
            }
        }
        out.freeze()
    }

    /// Reads what [`State::encode`] wrote.
    ///
    /// # Errors
    ///
    /// As [`DecodeError`] says.
    pub fn decode(bytes: Bytes) -> Result<Self, DecodeError> {
        let what = "a key's state";
        let mut reader = Reader::new(bytes);
        let version = reader.byte(what)?;
        if version != VERSION {
            return Err(DecodeError::Version { what, version });
        }
        let form = reader.byte(what)?;
        let mut state = Self {
            siblings: take_siblings(&mut reader)?,
            ..Self::new()
        };
        if form == OTHER {
            state.additions = Additions::decode(&mut reader)?;
            state.rows = Rows::decode(&mut reader)?;
            state.markers = take_markers(&mut reader)?;
        }
        reader.end(what)?;
        // One way to write each.
        let expected = if state.is_made_of_siblings() {
            REGISTER
        } else {
            OTHER
        };
        if form != expected {
            return Err(DecodeError::Wrong { what });
        }
        Ok(state)
    }
}

fn join_siblings(
    (ours, seen): (&[Sibling], &Vector),
    (theirs, told): (&[Sibling], &Vector),
) -> Vec<Sibling> {
    let has = |all: &[Sibling], dot: Dot| all.iter().any(|it| it.dot == dot);
    let kept = ours.iter();
    let kept = kept.filter(|it| has(theirs, it.dot) || !told.covers(it.dot));
    let news = theirs.iter();
    let news = news.filter(|it| !has(ours, it.dot) && !seen.covers(it.dot));
    let mut siblings: Vec<Sibling> = kept.chain(news).cloned().collect();
    siblings.sort_unstable_by_key(|it| it.dot);
    siblings
}

fn put_siblings(out: &mut BytesMut, siblings: &[Sibling]) {
    out.put_u8(u8::try_from(siblings.len()).expect("one a slot"));
    for it in siblings {
        out.put_u8(it.dot.slot.value());
        put_varint(out, it.dot.seq);
        out.put_u64_le(it.hlc.value());
        put_varint(out, it.lease.cast_unsigned());
        put_body(out, &it.value);
    }
}

fn take_siblings(reader: &mut Reader) -> Result<Vec<Sibling>, DecodeError> {
    let what = "a key's state";
    let mut siblings: Vec<Sibling> = Vec::new();
    for _ in 0..reader.byte(what)? {
        let slot = reader.slot()?;
        let seq = reader.varint(what)?;
        let hlc = Hlc::new(reader.u64(what)?);
        let lease = reader.varint(what)?.cast_signed();
        let value = reader.body(what)?;
        let is_in_order = siblings.last().is_none_or(|last| last.dot.slot < slot);
        if seq == 0 || !is_in_order {
            return Err(DecodeError::Wrong { what });
        }
        let dot = Dot { slot, seq };
        siblings.push(Sibling {
            dot,
            hlc,
            lease,
            value,
        });
    }
    Ok(siblings)
}

fn take_markers(reader: &mut Reader) -> Result<Vec<Mark>, DecodeError> {
    let what = "a key's state";
    let mut markers: Vec<Mark> = Vec::new();
    for _ in 0..reader.byte(what)? {
        let (slot, seq) = (reader.slot()?, reader.varint(what)?);
        let hlc = Hlc::new(reader.u64(what)?);
        let is_in_order = markers.last().is_none_or(|last| last.dot.slot < slot);
        if seq == 0 || !is_in_order {
            return Err(DecodeError::Wrong { what });
        }
        let dot = Dot { slot, seq };
        markers.push(Mark { dot, hlc });
    }
    Ok(markers)
}
