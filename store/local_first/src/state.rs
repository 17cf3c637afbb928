//! What is known of one key: the writes that none of the others saw, and how two islands' join.
//!
//! There is no tombstone. A dot that is missing here and covered by the vector was removed; one
//! that is not covered is news. That is why a state is merged together with the vectors of both
//! sides, and never alone.
//!
//! ```text
//! u8 version 1, u8 type, u8 n, n x (u8 slot, varint seq, u64 hlc, varint lease, varint length, body)
//! ```
//!
//! What would surprise: the losers stay, values too, until a write that saw them comes. Were
//! they dropped early, then an island that had only the winner could delete that, and the loser
//! would come back from a third.

use alloc::vec::Vec;

use bytes::{BufMut, Bytes, BytesMut};

use crate::clock::Hlc;
use crate::encode::{DecodeError, Reader, put_body, put_varint};
use crate::vector::{Dot, Vector};

const VERSION: u8 = 1;
/// Plain bytes, one or several of them.
const REGISTER: u8 = 1;

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
    /// Sorted by dot; at most one a slot.
    siblings: Vec<Sibling>,
}

impl State {
    /// A key that does not exist.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            siblings: Vec::new(),
        }
    }

    /// Whether the key does not exist.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.siblings.is_empty()
    }

    /// All of them, by dot.
    #[must_use]
    pub fn siblings(&self) -> &[Sibling] {
        &self.siblings
    }

    /// The one that is shown: of the latest time, and of the highest slot among equal ones.
    #[must_use]
    pub fn shown(&self) -> Option<&Sibling> {
        self.siblings.iter().max_by_key(|it| (it.hlc, it.dot.slot))
    }

    /// A write that saw `deps`: it replaces what it saw, and stands beside the rest.
    pub fn put(&mut self, deps: &Vector, sibling: Sibling) {
        self.delete(deps);
        match self
            .siblings
            .binary_search_by_key(&sibling.dot, |it| it.dot)
        {
            Ok(at) => self.siblings[at] = sibling,
            Err(at) => self.siblings.insert(at, sibling),
        }
    }

    /// A delete that saw `deps`: what it saw goes, a concurrent write stays.
    pub fn delete(&mut self, deps: &Vector) {
        self.siblings.retain(|it| !deps.covers(it.dot));
    }

    /// What both sides have, and of each what is news to the other: I6 in both directions.
    ///
    /// Each state must be as of its vector. Cost: as many steps as there are siblings.
    #[must_use]
    pub fn joined((ours, seen): (&Self, &Vector), (theirs, told): (&Self, &Vector)) -> Self {
        let has = |state: &Self, dot: Dot| state.siblings.iter().any(|it| it.dot == dot);
        let kept = ours.siblings.iter();
        let kept = kept.filter(|it| has(theirs, it.dot) || !told.covers(it.dot));
        let news = theirs.siblings.iter();
        let news = news.filter(|it| !has(ours, it.dot) && !seen.covers(it.dot));
        let mut siblings: Vec<Sibling> = kept.chain(news).cloned().collect();
        siblings.sort_unstable_by_key(|it| it.dot);
        Self { siblings }
    }

    /// Writes it down.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let bodies: usize = self.siblings.iter().map(|it| it.value.len() + 32).sum();
        let mut out = BytesMut::with_capacity(3 + bodies);
        out.put_u8(VERSION);
        out.put_u8(REGISTER);
        out.put_u8(u8::try_from(self.siblings.len()).expect("one a slot"));
        for it in &self.siblings {
            out.put_u8(it.dot.slot.value());
            put_varint(&mut out, it.dot.seq);
            out.put_u64_le(it.hlc.value());
            put_varint(&mut out, it.lease.cast_unsigned());
            put_body(&mut out, &it.value);
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
        if reader.byte(what)? != REGISTER {
            return Err(DecodeError::Wrong { what });
        }
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
        reader.end(what)?;
        Ok(Self { siblings })
    }
}
