//! Finding which keys two islands show differently, at a cost that follows the differences.
//!
//! Both sides can sum the digests of any range of keys. Ranges whose sums agree are done; a range
//! that differs is cut in sixteen by number of keys, or listed once it is short. Each message goes
//! a step deeper, so a million keys take three round trips. Range-based set reconciliation after
//! Meyer, *Range-Based Set Reconciliation* (2023), section 3.
//!
//! ```text
//! message    u8 version 1, varint n, n x (u8 kind, varint shared, varint length, bound ..)
//!   0 skip     -
//!   1 digest   [16]
//!   2 list     varint n, n x (varint shared, varint length, key, [16])
//! ```
//!
//! A range ends before its bound, and begins where the one before it ended; the empty bound is
//! the end of all. Who reads a list asks for what differs, or sends it. Bounds and keys are written as what they share with the one before and the
//! rest. What would surprise: the sum is of hashes and is not meant to stand against somebody
//! who forges keys to fit it; where members do not trust each other, two of them are asked.

use alloc::vec::Vec;

use bytes::{BufMut, Bytes, BytesMut};
use sha2::{Digest as _, Sha256};

use crate::encode::{DecodeError, Reader, put_body, put_varint};

const VERSION: u8 = 1;
/// Into how many a range that differs is cut.
pub const WAYS: u64 = 16;
/// A part may be a quarter longer than another: a bound is cheap where a page begins. Three steps
/// of it do not make of 15 keys more than are listed.
const NEAR: u64 = 4;
/// A range of so many keys is listed.
pub const LIST_MAX: u64 = 32;
/// Who has so many more keys than were listed says of which parts, instead of naming all.
const MANY: u64 = 4 * LIST_MAX;
/// How many ranges, and how many keys in all, one message may have.
const PARTS_MAX: u64 = 1 << 16;

/// What a range of keys amounts to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    /// How many keys it has.
    pub count: u64,
    /// The sum of their digests, modulo 2 to the 256th; the lowest part first.
    pub digests: [u64; 4],
}

/// A key's digest, of its name and its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Digest(pub [u8; 32]);

/// As much of a digest, or of a sum's, as is sent.
pub type Short = [u8; 16];

impl Digest {
    /// The digest of a key with a state as it is written.
    #[must_use]
    pub fn of(key: &[u8], state: &[u8]) -> Self {
        let mut hash = Sha256::new();
        let length = u64::try_from(key.len()).expect("a length fits 64 bits");
        hash.update(length.to_le_bytes());
        hash.update(key);
        hash.update(state);
        Self(hash.finalize().into())
    }

    /// What is sent of it.
    #[must_use]
    pub fn short(&self) -> Short {
        let mut short = Short::default();
        short.copy_from_slice(&self.0[..16]);
        short
    }
}

impl Sum {
    /// With one more key.
    #[must_use]
    pub fn with(self, digest: &Digest) -> Self {
        let mut one = Self {
            count: 1,
            digests: [0; 4],
        };
        let parts = one.digests.iter_mut().zip(digest.0.chunks_exact(8));
        for (part, bytes) in parts {
            let bytes = bytes.try_into().expect("eight of them");
            *part = u64::from_le_bytes(bytes);
        }
        self.plus(&one)
    }

    /// Of two ranges that have no key in common.
    #[must_use]
    pub fn plus(mut self, other: &Self) -> Self {
        self.count += other.count;
        let mut carry = false;
        for (part, more) in self.digests.iter_mut().zip(other.digests) {
            let (sum, over) = part.overflowing_add(more);
            let (sum, again) = sum.overflowing_add(u64::from(carry));
            *part = sum;
            carry = over || again;
        }
        self
    }

    /// Of this range without another that lies in it.
    #[must_use]
    pub fn minus(mut self, other: &Self) -> Self {
        self.count -= other.count;
        let mut borrow = false;
        for (part, less) in self.digests.iter_mut().zip(other.digests) {
            let (rest, under) = part.overflowing_sub(less);
            let (rest, again) = rest.overflowing_sub(u64::from(borrow));
            *part = rest;
            borrow = under || again;
        }
        self
    }

    /// What is sent of it.
    #[must_use]
    pub fn short(&self) -> Short {
        let mut hash = Sha256::new();
        for part in self.digests {
            hash.update(part.to_le_bytes());
        }
        hash.update(self.count.to_le_bytes());
        Digest(hash.finalize().into()).short()
    }
}

/// What a range search needs of an index of keys, as of one moment.
///
/// `from` is in the range, `to` is not; an empty `to` is the end of all keys.
pub trait Index {
    /// What a range amounts to.
    fn sum(&self, from: &[u8], to: &[u8]) -> Sum;
    /// The key at a place in a range, counted from 0; none behind the last.
    fn key(&self, from: &[u8], to: &[u8], place: u64) -> Option<Bytes>;
    /// All keys of a range with what is sent of their digests, in order.
    fn list(&self, from: &[u8], to: &[u8]) -> Vec<(Bytes, Short)>;
    /// What lies before each of some bounds, which rise; none is empty.
    fn before(&self, bounds: &[&[u8]]) -> Vec<Sum> {
        let all = bounds.iter();
        all.map(|bound| self.sum(b"", bound)).collect()
    }
    /// Bounds before the keys at some places among all, counted from 0, and what lies before each.
    ///
    /// Places rise by more than `near`, begin behind it, and none is behind the last key. A bound
    /// may lie up to `near` keys before its place, where that is cheaper.
    fn bounds(&self, places: &[u64], _near: u64) -> Vec<(Bytes, Sum)> {
        let bound = |place: &u64| {
            let before = place.checked_sub(1).and_then(|it| self.key(b"", b"", it));
            let key = self.key(b"", b"", *place).unwrap_or_default();
            let bound = separator(&before.unwrap_or_default(), &key);
            let sum = self.sum(b"", &bound);
            (bound, sum)
        };
        places.iter().map(bound).collect()
    }
}

/// What one side says of a range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    /// It is done with.
    Skip,
    /// It amounts to this.
    Digest(Short),
    /// It has these keys, each with what is sent of its digest. Who reads it knows which differ,
    /// and nothing more is to be said of the range.
    List(Vec<(Bytes, Short)>),
}

impl Claim {
    /// How many bytes it takes, at most.
    pub(crate) fn size_hint(&self) -> usize {
        match self {
            Self::Skip => 2,
            Self::Digest(_) => 18,
            Self::List(keys) => {
                let keys = keys.iter().map(|(key, _)| key.len() + 36);
                keys.sum::<usize>() + 12
            }
        }
    }

    /// About how many bytes it takes.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Skip => 2,
            Self::Digest(_) => 18,
            Self::List(keys) => keys.iter().map(|(key, _)| key.len() + 18).sum(),
        }
    }
}

/// A message: what is claimed of one range after the other, from the first key on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ranges {
    /// Where each range ends, and what is claimed of it.
    pub parts: Vec<(Bytes, Claim)>,
}

/// What a message leads to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// What to say next; empty if nothing is left to be said.
    pub ranges: Ranges,
    /// The keys found to differ, in order.
    pub differing: Vec<Bytes>,
}

impl Ranges {
    /// What the asker says first, once it knows what all of the other side amounts to; nothing if
    /// that is what it has.
    #[must_use]
    pub fn first(index: &impl Index, theirs: &Short) -> Self {
        let mut ranges = Self::default();
        let all = index.sum(b"", b"");
        if all.short() != *theirs {
            ranges.cut(
                index,
                (&Bytes::new(), &Bytes::new()),
                (&Sum::default(), &all),
            );
        }
        ranges
    }

    /// Whether nothing is said.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// Holds what the other side says against an index.
    ///
    /// Cost: one walk of the index for all bounds, one more for each digest that differs, a list
    /// for each list.
    #[must_use]
    pub fn answer(&self, index: &impl Index) -> Answer {
        self.answer_within(index, usize::MAX)
    }

    /// As [`Ranges::answer`], but once so many bytes are said, of what is left only whether it
    /// differs. Something is always said whole, so who asks on comes to an end.
    #[must_use]
    pub fn answer_within(&self, index: &impl Index, bytes_max: usize) -> Answer {
        let mut answer = Answer::default();
        let (mut from, mut bytes) = (Bytes::new(), 0);
        let mut before = Sum::default();
        for ((to, claim), end) in self.parts.iter().zip(self.ends(index)) {
            let ours = end.minus(&before);
            let is_short = bytes >= bytes_max;
            let (parts, keys) = (answer.ranges.parts.len(), answer.differing.len());
            match claim {
                Claim::Skip => answer.ranges.skip(to),
                Claim::Digest(_) | Claim::List(_) if is_short => {
                    let ours = ours.short();
                    if *claim == Claim::Digest(ours) {
                        answer.ranges.skip(to);
                    } else {
                        answer.ranges.parts.push((to.clone(), Claim::Digest(ours)));
                    }
                }
                Claim::Digest(short) if ours.short() == *short => answer.ranges.skip(to),
                Claim::List(theirs) if ours.count <= MANY => {
                    let ours = index.list(&from, to);
                    answer.differing.extend(differing(&ours, theirs));
                    answer.ranges.skip(to);
                }
                Claim::Digest(_) | Claim::List(_) => {
                    answer.ranges.cut(index, (&from, to), (&before, &ours));
                }
            }
            // What is done with costs nothing, or a message might say nothing else for ever.
            if *claim != Claim::Skip && !is_short {
                let said = answer.ranges.parts.iter().skip(parts);
                let said = said.map(|(bound, claim)| bound.len() + claim.bytes());
                let keys = answer.differing.iter().skip(keys);
                bytes += said.chain(keys.map(Bytes::len)).sum::<usize>();
            }
            (from, before) = (to.clone(), end);
        }
        let is_done = |(_, claim): &(Bytes, Claim)| *claim == Claim::Skip;
        if answer.ranges.parts.iter().all(is_done) {
            answer.ranges.parts.clear();
        }
        answer
    }

    /// A range is done with; neighbours become one.
    fn skip(&mut self, to: &Bytes) {
        match self.parts.last_mut() {
            Some((end, Claim::Skip)) => *end = to.clone(),
            Some(_) | None => self.parts.push((to.clone(), Claim::Skip)),
        }
    }

    /// What lies before the end of each range.
    fn ends(&self, index: &impl Index) -> Vec<Sum> {
        let ends = self.parts.iter().map(|(to, _)| &**to);
        let bounds: Vec<&[u8]> = ends.filter(|to| !to.is_empty()).collect();
        let mut sums = index.before(&bounds);
        if sums.len() < self.parts.len() {
            sums.push(index.sum(b"", b""));
        }
        sums
    }

    /// Says more of a range, of what lies before it and what it amounts to: in parts of about as
    /// many keys each, or key by key.
    fn cut(
        &mut self,
        index: &impl Index,
        (from, to): (&Bytes, &Bytes),
        (before, ours): (&Sum, &Sum),
    ) {
        let count = ours.count;
        if count <= LIST_MAX {
            let keys = index.list(from, to);
            self.parts.push((to.clone(), Claim::List(keys)));
            return;
        }
        let places: Vec<u64> = (1..WAYS)
            .map(|part| before.count + count * part / WAYS)
            .collect();
        let mut begin = *before;
        for (bound, end) in index.bounds(&places, count / WAYS / NEAR) {
            let short = end.minus(&begin).short();
            self.parts.push((bound, Claim::Digest(short)));
            begin = end;
        }
        let short = before.plus(ours).minus(&begin).short();
        self.parts.push((to.clone(), Claim::Digest(short)));
    }

    /// Writes it down.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::new();
        out.put_u8(VERSION);
        put_varint(&mut out, length(&self.parts));
        let mut before = Bytes::new();
        for (bound, claim) in &self.parts {
            let kind = match claim {
                Claim::Skip => 0,
                Claim::Digest(_) => 1,
                Claim::List(_) => 2,
            };
            out.put_u8(kind);
            put_after(&mut out, &before, bound);
            before = bound.clone();
            match claim {
                Claim::Skip => {}
                Claim::Digest(short) => out.put_slice(short),
                Claim::List(keys) => {
                    put_varint(&mut out, length(keys));
                    let mut before = Bytes::new();
                    for (key, short) in keys {
                        put_after(&mut out, &before, key);
                        out.put_slice(short);
                        before = key.clone();
                    }
                }
            }
        }
        out.freeze()
    }

    /// Reads what [`Ranges::encode`] wrote.
    ///
    /// # Errors
    ///
    /// As [`DecodeError`] says; bounds and keys must rise.
    pub fn decode(bytes: Bytes) -> Result<Self, DecodeError> {
        let what = "ranges";
        let mut reader = Reader::new(bytes);
        let version = reader.byte(what)?;
        if version != VERSION {
            return Err(DecodeError::Version { what, version });
        }
        let mut parts: Vec<(Bytes, Claim)> = Vec::new();
        let count = bounded(&mut reader)?;
        for part in 1..=count {
            let kind = reader.byte(what)?;
            let before = parts.last().map(|(bound, _)| bound.clone());
            let bound = take_after(&mut reader, &before.clone().unwrap_or_default())?;
            // Only the last range ends at the end of all.
            let rises = bound > before.unwrap_or_default();
            if (part < count && !rises) || (part == count && !bound.is_empty()) {
                return Err(DecodeError::Wrong { what });
            }
            let claim = match kind {
                0 => Claim::Skip,
                1 => Claim::Digest(reader.array(what)?),
                2 => Claim::List(take_keys(&mut reader)?),
                _unknown => return Err(DecodeError::Wrong { what }),
            };
            parts.push((bound, claim));
        }
        reader.end(what)?;
        Ok(Self { parts })
    }
}

/// The keys that only one of two lists has, or that have different digests; both are in order.
fn differing(ours: &[(Bytes, Short)], theirs: &[(Bytes, Short)]) -> Vec<Bytes> {
    let mut keys: Vec<Bytes> = Vec::new();
    for (one, other) in [(ours, theirs), (theirs, ours)] {
        let news = one.iter().filter(|it| other.binary_search(it).is_err());
        keys.extend(news.map(|(key, _)| key.clone()));
    }
    keys.sort_unstable();
    keys.dedup();
    keys
}

/// The shortest bound that is behind `before` and not behind `key`.
pub(crate) fn separator(before: &[u8], key: &[u8]) -> Bytes {
    let shared = before
        .iter()
        .zip(key)
        .take_while(|(one, other)| one == other);
    let length = shared.count() + 1;
    Bytes::copy_from_slice(&key[..length.min(key.len())])
}

pub(crate) fn put_after(out: &mut BytesMut, before: &[u8], bytes: &[u8]) {
    let shared = before
        .iter()
        .zip(bytes)
        .take_while(|(one, other)| one == other);
    let shared = shared.count();
    put_varint(out, u64::try_from(shared).expect("a length fits 64 bits"));
    put_body(out, &bytes[shared..]);
}

pub(crate) fn take_after(reader: &mut Reader, before: &Bytes) -> Result<Bytes, DecodeError> {
    let what = "ranges";
    let shared = usize::try_from(reader.varint(what)?).unwrap_or(usize::MAX);
    let rest = reader.body(what)?;
    let Some(begin) = before.get(..shared) else {
        return Err(DecodeError::Wrong { what });
    };
    // What is shared is shared, and nothing more is: one way to write it.
    if !rest.is_empty() && before.get(shared) == rest.first() {
        return Err(DecodeError::Wrong { what });
    }
    let mut bytes = BytesMut::with_capacity(shared + rest.len());
    bytes.put_slice(begin);
    bytes.put_slice(&rest);
    Ok(bytes.freeze())
}

fn take_keys(reader: &mut Reader) -> Result<Vec<(Bytes, Short)>, DecodeError> {
    let what = "ranges";
    let mut keys: Vec<(Bytes, Short)> = Vec::new();
    for _ in 0..bounded(reader)? {
        let before = keys.last().map(|(key, _)| key.clone());
        let key = take_after(reader, &before.clone().unwrap_or_default())?;
        if before.is_some_and(|before| before >= key) {
            return Err(DecodeError::Wrong { what });
        }
        keys.push((key, reader.array(what)?));
    }
    Ok(keys)
}

fn bounded(reader: &mut Reader) -> Result<u64, DecodeError> {
    let what = "ranges";
    let count = reader.varint(what)?;
    if count > PARTS_MAX {
        return Err(DecodeError::Wrong { what });
    }
    Ok(count)
}

fn length<T>(items: &[T]) -> u64 {
    u64::try_from(items.len()).expect("a length fits 64 bits")
}
