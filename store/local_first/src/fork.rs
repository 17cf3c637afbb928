//! A site that has told two stories: the proof of it, and what is done with its slot.
//!
//! ```text
//! head    u8 version 1, [16] keyspace, u32 epoch, u8 slot, u64 seq, [32] hash, [64] signature
//! fork    u8 version 1, head, head
//! ```
//!
//! A site signs the newest update of its slot with each push. Two heads of one number with
//! different hashes, both signed, prove a fork to anybody. This code signs and verifies nothing:
//! its callers do, over [`Head::signed`].

use alloc::collections::BTreeMap;

use bytes::{BufMut, Bytes, BytesMut};

use crate::encode::{DecodeError, Reader};
use crate::update::Chain;
use crate::vector::{Dot, Slot};

const VERSION: u8 = 1;

/// The newest update of a slot, as its site signed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Head {
    /// Of which keyspace.
    pub keyspace: [u8; 16],
    /// In which table of members.
    pub epoch: u32,
    /// The update.
    pub dot: Dot,
    /// Its hash, and so that of all before it.
    pub chain: Chain,
    /// The site's signature over the rest.
    pub signature: [u8; 64],
}

impl Head {
    /// What the signature is over.
    #[must_use]
    pub fn signed(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(126);
        out.put_u8(VERSION);
        out.put_slice(&self.keyspace);
        out.put_u32_le(self.epoch);
        out.put_u8(self.dot.slot.value());
        out.put_u64_le(self.dot.seq);
        out.put_slice(&self.chain.0);
        out.freeze()
    }

    /// Adds its bytes to `out`.
    pub fn encode(&self, out: &mut BytesMut) {
        out.put_slice(&self.signed());
        out.put_slice(&self.signature);
    }

    fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
        let what = "a head";
        let version = reader.byte(what)?;
        if version != VERSION {
            return Err(DecodeError::Version { what, version });
        }
        let mut keyspace = [0; 16];
        keyspace.copy_from_slice(&reader.take(16, what)?);
        let epoch = reader.u32(what)?;
        let (slot, seq) = (reader.slot()?, reader.u64(what)?);
        let mut chain = Chain::default();
        chain.0.copy_from_slice(&reader.take(32, what)?);
        let mut signature = [0; 64];
        signature.copy_from_slice(&reader.take(64, what)?);
        Ok(Self {
            keyspace,
            epoch,
            dot: Dot { slot, seq },
            chain,
            signature,
        })
    }

    /// Reads what [`Head::encode`] wrote.
    ///
    /// # Errors
    ///
    /// As [`DecodeError`] says.
    pub fn decode(bytes: Bytes) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let head = Self::read(&mut reader)?;
        reader.end("a head")?;
        Ok(head)
    }
}

/// Two heads of one update: its site has told two stories.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fork {
    one: Head,
    other: Head,
}

impl Fork {
    /// The proof that two heads are, whose signatures the caller has verified; nothing if they
    /// prove nothing.
    #[must_use]
    pub fn of(one: Head, other: Head) -> Option<Self> {
        let is_same = one.keyspace == other.keyspace && one.dot == other.dot;
        let fork = Self {
            one: one.min(other),
            other: one.max(other),
        };
        (is_same && one.chain != other.chain).then_some(fork)
    }

    /// Whose slot it is.
    #[must_use]
    pub const fn slot(&self) -> Slot {
        self.one.dot.slot
    }

    /// Both stories' heads.
    #[must_use]
    pub const fn heads(&self) -> [Head; 2] {
        [self.one, self.other]
    }

    /// Writes it down.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(253);
        out.put_u8(VERSION);
        self.one.encode(&mut out);
        self.other.encode(&mut out);
        out.freeze()
    }

    /// Reads what [`Fork::encode`] wrote. Its signatures are still to be verified.
    ///
    /// # Errors
    ///
    /// As [`DecodeError`] says, and if it proves nothing.
    pub fn decode(bytes: Bytes) -> Result<Self, DecodeError> {
        let what = "a fork";
        let mut reader = Reader::new(bytes);
        let version = reader.byte(what)?;
        if version != VERSION {
            return Err(DecodeError::Version { what, version });
        }
        let (one, other) = (Head::read(&mut reader)?, Head::read(&mut reader)?);
        reader.end(what)?;
        let fork = Self::of(one, other).filter(|it| it.one == one);
        fork.ok_or(DecodeError::Wrong { what })
    }
}

/// The slots of which a fork is proved: nothing more of them is taken in, until a table of
/// members says which story counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Forks {
    proved: BTreeMap<Slot, Fork>,
    /// The newest head that was seen of each slot.
    heads: BTreeMap<Slot, Head>,
}

impl Forks {
    /// A head came whose signature is right, by any way; the proof, if it makes one.
    pub fn see(&mut self, head: Head) -> Option<Fork> {
        let slot = head.dot.slot;
        let known = self.heads.get(&slot).copied();
        if known.is_none_or(|known| head.dot.seq > known.dot.seq) {
            self.heads.insert(slot, head);
        }
        let fork = Fork::of(head, known?)?;
        self.prove(fork).then_some(fork)
    }

    /// A proof came whose signatures are right; whether it is the first of its slot, which is
    /// then to be passed on.
    pub fn prove(&mut self, fork: Fork) -> bool {
        let is_first = !self.proved.contains_key(&fork.slot());
        self.proved.entry(fork.slot()).or_insert(fork);
        is_first
    }

    /// Whether something more of a slot may be taken in.
    #[must_use]
    pub fn lets_in(&self, slot: Slot) -> bool {
        !self.proved.contains_key(&slot)
    }

    /// The proof of a slot.
    #[must_use]
    pub fn of(&self, slot: Slot) -> Option<&Fork> {
        self.proved.get(&slot)
    }

    /// A table of members says which story of a slot counts: it is done with.
    pub fn settle(&mut self, slot: Slot) {
        self.proved.remove(&slot);
        self.heads.remove(&slot);
    }
}
