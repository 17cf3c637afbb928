//! An update: a transaction of one site, as every site gets it.
//!
//! ```text
//!  0 u32 length          4 u32 crc32c of the rest
//!  8 u8 version 1        9 u8 slot       10 u16 flags: 1 full deps, 2 reissued
//! 12 u32 epoch          16 u64 seq       24 u64 hlc
//! 32 [32] prev: SHA-256 of the previous update's bytes from 8 on; zeros before the first
//! 64 vector: u8 n, n x (u8 slot, varint seq); all of deps, or what moved since the previous one
//! .. u16 changes: u8 kind (put 1, delete 2, add 3, paths 5, delete_range 6, erase 7)
//!       1 varint key length, key; varint lease; varint value length, value
//!       2 varint key length, key
//!       3 varint key length, key; zigzag amount
//!       5 varint key length, key; varint lease; varint n, n x (u8 0 or node + 1, varint shared,
//!         varint length, rest of path; of those that are set: varint length, value)
//!       6 varint key length, key; varint end length, end (exclusive; empty for none)
//!       7 varint key length, key
//!       8 u64 hlc; vector; a change of another kind but 6
//! ```
//!
//! All numbers are little-endian. A slot's updates are a chain: each names the hash of the one
//! before it, so two sites that have the same newest one have the same whole.

use alloc::boxed::Box;
use alloc::vec::Vec;

use bytes::{BufMut, Bytes, BytesMut};
use sha2::{Digest, Sha256};

use crate::clock::Hlc;
use crate::counter::{unzigzag, zigzag};
use crate::document::{Write, decode_writes, encode_writes};
use crate::encode::{DecodeError, Reader, put_body, put_varint};
use crate::vector::{Dot, Vector};

const VERSION: u8 = 1;
const FULL: u16 = 1;
const REISSUED: u16 = 2;
const HEAD: usize = 8;
/// Deps are written whole in each update whose number is one more than a multiple of this, so
/// that what is cut off or asked for can begin there.
pub(crate) const FULL_EVERY: u64 = 64;
/// The longest update, in bytes.
pub const UPDATE_MAX: usize = 4 << 20;
/// How many changes an update has at most.
pub const CHANGES_MAX: usize = 0xffff;
/// How many bytes of changes always fit an update, whatever it has seen.
pub const CHANGES_BYTES_MAX: usize = UPDATE_MAX - HEAD_MAX;
/// What comes before the changes: as much of all slots as there can be.
const HEAD_MAX: usize = 64 + 1 + 255 * 11 + 2;

/// A hash of an update, and so of all updates of its slot up to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Chain(pub [u8; 32]);

impl Chain {
    /// Its beginning: two that differ by chance agree in it once in 2^64.
    #[must_use]
    pub fn short(&self) -> u64 {
        let mut begin = [0; 8];
        begin.copy_from_slice(&self.0[..8]);
        u64::from_le_bytes(begin)
    }
}

/// A change to one key, or to all of a range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A key gets a value.
    Put {
        /// The key.
        key: Bytes,
        /// The lease that it is attached to, of the update's site; 0 for none.
        lease: i64,
        /// The value.
        value: Bytes,
    },
    /// A key is removed.
    Delete {
        /// The key.
        key: Bytes,
    },
    /// All keys from one on, and before another, are removed: those of this site, and those of
    /// others that the update has seen.
    DeleteRange {
        /// The first.
        key: Bytes,
        /// The first that is not; empty if there is none.
        end: Bytes,
    },
    /// Something is added to a counter.
    Add {
        /// The key.
        key: Bytes,
        /// How much.
        amount: i64,
    },
    /// Parts of a document are written or removed.
    Paths {
        /// The key.
        key: Bytes,
        /// The lease that it is attached to, of the update's site; 0 for none.
        lease: i64,
        /// What is done to which path.
        writes: Vec<Write>,
    },
    /// A key is removed, and writes that did not see that do not count.
    Erase {
        /// The key.
        key: Bytes,
    },
    /// What a site that was left out makes again: as of what it had seen of the key, and then.
    Again {
        /// What it replaces: of each slot up to there, and no more.
        seen: Vector,
        /// When it was made first.
        hlc: Hlc,
        /// What it is.
        change: Box<Self>,
    },
}

impl Change {
    /// How many bytes of an update it takes.
    #[must_use]
    pub fn size(&self) -> usize {
        let mut out = BytesMut::with_capacity(32 + size_hint(self));
        encode_change(self, &mut out);
        out.len()
    }

    /// The key, value and lease of a put.
    #[must_use]
    pub const fn put(&self) -> Option<(&Bytes, &Bytes, i64)> {
        match self {
            Self::Put { key, lease, value } => Some((key, value, *lease)),
            Self::Delete { .. }
            | Self::DeleteRange { .. }
            | Self::Add { .. }
            | Self::Paths { .. }
            | Self::Erase { .. }
            | Self::Again { .. } => None,
        }
    }

    /// The key that it changes; none if it is a range.
    #[must_use]
    pub fn key(&self) -> Option<&Bytes> {
        match self {
            Self::Put { key, .. }
            | Self::Delete { key }
            | Self::Add { key, .. }
            | Self::Paths { key, .. }
            | Self::Erase { key } => Some(key),
            Self::DeleteRange { .. } => None,
            Self::Again { change, .. } => change.key(),
        }
    }

    /// The update as it is of account for this change, and what is changed: what is made again is
    /// of another time, and saw something else.
    #[must_use]
    pub fn in_its_time<'a>(&'a self, update: &Update) -> Option<(Update, &'a Self)> {
        let Self::Again { seen, hlc, change } = self else {
            return None;
        };
        let then = Update {
            hlc: *hlc,
            deps: seen.clone(),
            changes: Vec::new(),
            ..*update
        };
        Some((then, change))
    }
}

/// A transaction of one site, as every site gets it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Update {
    /// Its name.
    pub dot: Dot,
    /// In which table of members it was made.
    pub epoch: u32,
    /// Its time.
    pub hlc: Hlc,
    /// What its site had seen when it made it.
    pub deps: Vector,
    /// The update before it, of the same slot.
    pub prev: Chain,
    /// Whether a site that had been left out made it again under another name.
    pub is_reissued: bool,
    /// What it changes; a key stands in it once.
    pub changes: Vec<Change>,
}

/// An update together with its bytes, so that what one site made goes on unchanged, and its
/// hash is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// What it says.
    pub update: Update,
    /// How it is written.
    pub bytes: Bytes,
    /// Its hash, which the next one names.
    pub chain: Chain,
}

impl Sealed {
    /// Writes an update down. `before` are the deps of the one before it, of the same slot.
    ///
    /// # Panics
    ///
    /// If it has more than [`CHANGES_MAX`] changes. Whoever makes it has counted them, and their
    /// bytes: one longer than [`UPDATE_MAX`] would be read nowhere.
    #[must_use]
    pub fn new(update: Update, before: &Vector) -> Self {
        Self::new_in(update, before, &mut BytesMut::new())
    }

    /// As [`Sealed::new`], in the memory of `out`, which is empty before and after: updates that
    /// are made one after the other share it.
    pub(crate) fn new_in(update: Update, before: &Vector, out: &mut BytesMut) -> Self {
        assert!(out.is_empty(), "what was written before was split off");
        let is_full = update.dot.seq % FULL_EVERY == 1;
        let bodies: usize = update.changes.iter().map(size_hint).sum();
        out.reserve(256 + bodies);
        out.put_bytes(0, HEAD);
        out.put_u8(VERSION);
        out.put_u8(update.dot.slot.value());
        let reissued = if update.is_reissued { REISSUED } else { 0 };
        out.put_u16_le(reissued | if is_full { FULL } else { 0 });
        out.put_u32_le(update.epoch);
        out.put_u64_le(update.dot.seq);
        out.put_u64_le(update.hlc.value());
        out.put_slice(&update.prev.0);
        if is_full {
            update.deps.encode(out);
        } else {
            update.deps.since(before).encode(out);
        }
        let count = u16::try_from(update.changes.len());
        out.put_u16_le(count.expect("its changes were counted before they were made"));
        for change in &update.changes {
            encode_change(change, out);
        }
        let length = u32::try_from(out.len() - HEAD).expect("an update is short");
        let sum = crc32c::crc32c(&out[HEAD..]);
        out[..4].copy_from_slice(&length.to_le_bytes());
        out[4..HEAD].copy_from_slice(&sum.to_le_bytes());
        let chain = hash(&out[HEAD..]);
        Self {
            update,
            bytes: out.split().freeze(),
            chain,
        }
    }

    /// Reads an update. `before` are the deps of the one before it; of no account where deps are
    /// written whole.
    ///
    /// # Errors
    ///
    /// As [`DecodeError`] says.
    pub fn decode(bytes: &Bytes, before: &Vector) -> Result<Self, DecodeError> {
        let what = "an update";
        let mut reader = Reader::new(bytes.clone());
        let (length, sum) = (reader.u32(what)?, reader.u32(what)?);
        if bytes.len() > UPDATE_MAX || usize::try_from(length) != Ok(bytes.len() - HEAD) {
            return Err(DecodeError::Wrong { what });
        }
        if crc32c::crc32c(&bytes[HEAD..]) != sum {
            return Err(DecodeError::Checksum { what });
        }
        let version = reader.byte(what)?;
        if version != VERSION {
            return Err(DecodeError::Version { what, version });
        }
        let slot = reader.slot()?;
        let flags = reader.u16(what)?;
        let (epoch, seq) = (reader.u32(what)?, reader.u64(what)?);
        let hlc = Hlc::new(reader.u64(what)?);
        let prev = Chain(reader.array(what)?);
        let mut deps = Vector::decode(&mut reader)?;
        let is_full = flags & FULL != 0;
        if flags & !(FULL | REISSUED) != 0 || seq == 0 || is_full != (seq % FULL_EVERY == 1) {
            return Err(DecodeError::Wrong { what });
        }
        if !is_full {
            deps.join(before);
        }
        // A site has seen all of its own, and nothing of what comes after.
        if deps.seq(slot) != seq - 1 {
            return Err(DecodeError::Wrong { what });
        }
        let mut changes = Vec::new();
        for _ in 0..reader.u16(what)? {
            changes.push(decode_change(&mut reader)?);
        }
        reader.end(what)?;
        // What was made again saw nothing that its site lacks: others could not have it either.
        let is_behind = |change: &Change| match change {
            Change::Again { seen, .. } => deps.is_at_least(seen),
            Change::Put { .. }
            | Change::Delete { .. }
            | Change::DeleteRange { .. }
            | Change::Add { .. }
            | Change::Paths { .. }
            | Change::Erase { .. } => true,
        };
        if !changes.iter().all(is_behind) {
            return Err(DecodeError::Wrong { what });
        }
        let update = Update {
            dot: Dot { slot, seq },
            epoch,
            hlc,
            deps,
            prev,
            is_reissued: flags & REISSUED != 0,
            changes,
        };
        Ok(Self {
            update,
            bytes: bytes.clone(),
            chain: hash(&bytes[HEAD..]),
        })
    }
}

fn hash(bytes: &[u8]) -> Chain {
    Chain(Sha256::digest(bytes).into())
}

/// About how many bytes a change takes beside its head.
fn size_hint(change: &Change) -> usize {
    match change {
        Change::Put { key, value, .. } => key.len() + value.len(),
        Change::DeleteRange { key, end } => key.len() + end.len(),
        Change::Delete { key }
        | Change::Add { key, .. }
        | Change::Paths { key, .. }
        | Change::Erase { key } => key.len(),
        Change::Again { change, .. } => size_hint(change) + 64,
    }
}

fn encode_change(change: &Change, out: &mut BytesMut) {
    match change {
        Change::Put { key, lease, value } => {
            out.put_u8(1);
            put_body(out, key);
            put_varint(out, lease.cast_unsigned());
            put_body(out, value);
        }
        Change::Delete { key } => {
            out.put_u8(2);
            put_body(out, key);
        }
        Change::DeleteRange { key, end } => {
            out.put_u8(6);
            put_body(out, key);
            put_body(out, end);
        }
        Change::Add { key, amount } => {
            out.put_u8(3);
            put_body(out, key);
            put_varint(out, zigzag(*amount));
        }
        Change::Paths { key, lease, writes } => {
            out.put_u8(5);
            put_body(out, key);
            put_varint(out, lease.cast_unsigned());
            encode_writes(writes, out);
        }
        Change::Erase { key } => {
            out.put_u8(7);
            put_body(out, key);
        }
        Change::Again { seen, hlc, change } => {
            out.put_u8(8);
            out.put_u64_le(hlc.value());
            seen.encode(out);
            encode_change(change, out);
        }
    }
}

fn decode_change(reader: &mut Reader) -> Result<Change, DecodeError> {
    let what = "a change";
    match reader.byte(what)? {
        8 => {
            let hlc = Hlc::new(reader.u64(what)?);
            let seen = Vector::decode(reader)?;
            let kind = reader.byte(what)?;
            if kind == 6 {
                return Err(DecodeError::Wrong { what });
            }
            let change = Box::new(decode_kind(kind, reader)?);
            Ok(Change::Again { seen, hlc, change })
        }
        kind => decode_kind(kind, reader),
    }
}

/// A change of any kind that stands in no other.
fn decode_kind(kind: u8, reader: &mut Reader) -> Result<Change, DecodeError> {
    let what = "a change";
    match kind {
        1 => Ok(Change::Put {
            key: reader.body(what)?,
            lease: reader.varint(what)?.cast_signed(),
            value: reader.body(what)?,
        }),
        2 => Ok(Change::Delete {
            key: reader.body(what)?,
        }),
        3 => Ok(Change::Add {
            key: reader.body(what)?,
            amount: unzigzag(reader.varint(what)?),
        }),
        5 => Ok(Change::Paths {
            key: reader.body(what)?,
            lease: reader.varint(what)?.cast_signed(),
            writes: decode_writes(reader)?,
        }),
        7 => Ok(Change::Erase {
            key: reader.body(what)?,
        }),
        6 => Ok(Change::DeleteRange {
            key: reader.body(what)?,
            end: reader.body(what)?,
        }),
        _unknown => Err(DecodeError::Wrong { what }),
    }
}
