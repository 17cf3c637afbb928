//! Who belongs to a keyspace: the table of its sites, and those that were left out.
//!
//! ```text
//! u8 version 1, u32 epoch, [32] hash of the table before it
//! u8 n, n x (u8 slot, u64 since, Unix ms)                        active
//! u8 n, n x (u8 slot, varint F, [32] hash of its update F, u8 heir or 0)   frozen
//! ```
//!
//! A site that was silent for a month holds up what others may forget, so it is *frozen*: every
//! active site stops taking in of its slot, they agree on the most that one of them has (F), and
//! the next table says so. From then on nothing past F of that slot counts. What the site made
//! behind it, it makes again under its heir: see [`reissue`](crate::reissue).
//!
//! What would surprise: slots are never used again, so 255 sites are the most there can ever be.

use alloc::collections::BTreeMap;

use bytes::{BufMut, Bytes, BytesMut};
use sha2::{Digest, Sha256};

use crate::encode::{DecodeError, Reader, put_varint};
use crate::island::{Intake, Island, dot_of};
use crate::update::Chain;
use crate::vector::{Dot, Slot, Vector};

const VERSION: u8 = 1;

/// A slot of which nothing more counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frozen {
    /// The last update of it that counts; 0 if none does.
    pub through: u64,
    /// That update's hash.
    pub chain: Chain,
    /// The slot under which its site goes on.
    pub heir: Option<Slot>,
}

/// Why a table cannot follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MembersError {
    /// It is not active.
    #[error("slot {slot} is not active")]
    NotActive {
        /// Which.
        slot: Slot,
    },
    /// Slots are never used again.
    #[error("slot {slot} was used before")]
    Used {
        /// Which.
        slot: Slot,
    },
    /// None is left.
    #[error("all 255 slots were used: migrate the keyspace")]
    UsedUp,
    /// Somebody must be left.
    #[error("too few active sites would remain")]
    TooFew,
}

/// The table of a keyspace's sites.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Members {
    epoch: u32,
    before: Chain,
    active: BTreeMap<Slot, u64>,
    frozen: BTreeMap<Slot, Frozen>,
}

impl Members {
    /// The first table: these slots, since then.
    pub fn new(active: impl IntoIterator<Item = (Slot, u64)>) -> Self {
        Self {
            epoch: 1,
            before: Chain::default(),
            active: active.into_iter().collect(),
            frozen: BTreeMap::new(),
        }
    }

    /// The number of the table.
    #[must_use]
    pub const fn epoch(&self) -> u32 {
        self.epoch
    }

    /// The slots that count, with when each was given out.
    #[must_use]
    pub const fn active(&self) -> &BTreeMap<Slot, u64> {
        &self.active
    }

    /// The slots of which nothing more counts.
    #[must_use]
    pub const fn frozen(&self) -> &BTreeMap<Slot, Frozen> {
        &self.frozen
    }

    /// The hash by which the next table names this one.
    #[must_use]
    pub fn chain(&self) -> Chain {
        Chain(Sha256::digest(self.encode()).into())
    }

    fn next(&self) -> Self {
        Self {
            epoch: self.epoch + 1,
            before: self.chain(),
            ..self.clone()
        }
    }

    /// Whether a table is the one behind this.
    #[must_use]
    pub fn is_followed_by(&self, next: &Self) -> bool {
        next.epoch == self.epoch + 1 && next.before == self.chain()
    }

    /// A slot that was never used.
    ///
    /// # Errors
    ///
    /// If there is none.
    pub fn unused(&self) -> Result<Slot, MembersError> {
        let all = (1..=u8::MAX).filter_map(Slot::new);
        let mut unused = all.filter(|slot| !self.is_used(*slot));
        unused.next().ok_or(MembersError::UsedUp)
    }

    fn is_used(&self, slot: Slot) -> bool {
        let is_heir = self.frozen.values().any(|it| it.heir == Some(slot));
        self.active.contains_key(&slot) || self.frozen.contains_key(&slot) || is_heir
    }

    /// The next table, with one more site.
    ///
    /// # Errors
    ///
    /// If the slot was used before.
    pub fn with(&self, slot: Slot, since_unix_ms: u64) -> Result<Self, MembersError> {
        if self.is_used(slot) {
            return Err(MembersError::Used { slot });
        }
        let mut next = self.next();
        next.active.insert(slot, since_unix_ms);
        Ok(next)
    }

    /// The next table, with the same slots: the nodes of a site are others.
    #[must_use]
    pub fn again(&self) -> Self {
        self.next()
    }

    /// The next table, in which nothing behind `frozen.through` of a slot counts; its heir is
    /// active from then on.
    ///
    /// # Errors
    ///
    /// If the slot is not active, its heir was used before, or too few would be left.
    pub fn without(
        &self,
        slot: Slot,
        frozen: Frozen,
        since_unix_ms: u64,
    ) -> Result<Self, MembersError> {
        if !self.active.contains_key(&slot) {
            return Err(MembersError::NotActive { slot });
        }
        if let Some(heir) = frozen.heir.filter(|heir| self.is_used(*heir)) {
            return Err(MembersError::Used { slot: heir });
        }
        if self.active.len() < 3 {
            return Err(MembersError::TooFew);
        }
        let mut next = self.next();
        next.active.remove(&slot);
        next.frozen.insert(slot, frozen);
        if let Some(heir) = frozen.heir {
            next.active.insert(heir, since_unix_ms);
        }
        Ok(next)
    }

    /// The next table, without a site that is let go for ever: of its slot counts what is named,
    /// and nobody goes on for it. Where `without` freezes a site that may come back, this is for
    /// one that will not: it may leave one site alone.
    ///
    /// # Errors
    ///
    /// If the slot is not active, or is the last one.
    pub fn let_go(&self, slot: Slot, through: u64, chain: Chain) -> Result<Self, MembersError> {
        if !self.active.contains_key(&slot) {
            return Err(MembersError::NotActive { slot });
        }
        if self.active.len() < 2 {
            return Err(MembersError::TooFew);
        }
        let mut next = self.next();
        next.active.remove(&slot);
        let heir = None;
        let frozen = Frozen {
            through,
            chain,
            heir,
        };
        next.frozen.insert(slot, frozen);
        Ok(next)
    }

    /// Whether an update counts: its slot is active, or it is not behind what was frozen (I12).
    #[must_use]
    pub fn lets_in(&self, dot: Dot) -> bool {
        match self.frozen.get(&dot.slot) {
            Some(frozen) => dot.seq <= frozen.through,
            None => self.active.contains_key(&dot.slot),
        }
    }

    /// Whether all that a site has counts, of slots that do not go on.
    #[must_use]
    pub fn lets_in_all(&self, vector: &Vector) -> bool {
        let mut frozen = self.frozen.iter();
        frozen.all(|(slot, it)| vector.seq(*slot) <= it.through)
    }

    /// What is to be done with an update of another site, as [`Island::judge`] says; nothing if
    /// it does not count.
    #[must_use]
    pub fn judge(&self, island: &Island, bytes: &Bytes, unix_ms: u64) -> Option<Intake> {
        let counts = dot_of(bytes).is_none_or(|dot| self.lets_in(dot));
        counts.then(|| island.judge(bytes, unix_ms))
    }

    /// The slot under which the site of a slot goes on: its own while that is active. None while
    /// it was not taken in again.
    #[must_use]
    pub fn heir(&self, slot: Slot) -> Option<Slot> {
        // An heir may have been frozen too.
        let last = self.heirs(slot).last().unwrap_or(slot);
        self.active.contains_key(&last).then_some(last)
    }

    /// The slots that followed a slot, the latest last.
    pub fn heirs(&self, slot: Slot) -> impl Iterator<Item = Slot> {
        // A slot is never used twice, so this ends.
        let later = |slot: &Slot| self.frozen.get(slot).and_then(|it| it.heir);
        core::iter::successors(later(&slot), move |it| later(it))
    }

    /// Whether the site of a slot came back before, and others have what it made again then. Data that
    /// are still of that slot are a copy of before: nothing of it is made again, and all is told.
    #[must_use]
    pub fn was_back(&self, slot: Slot) -> bool {
        let counts = |it: Slot| self.frozen.get(&it).is_some_and(|it| it.through > 0);
        self.heirs(slot).any(counts)
    }

    /// The next table, in which a site that was left out is taken in again under a slot that was
    /// never used.
    ///
    /// # Errors
    ///
    /// If its slot goes on, or has an heir that does; if the new one was used before.
    pub fn taken_back(
        &self,
        slot: Slot,
        heir: Slot,
        since_unix_ms: u64,
    ) -> Result<Self, MembersError> {
        if self.is_used(heir) || heir < slot {
            return Err(MembersError::Used { slot: heir });
        }
        let mut next = self.next();
        let last = self.heirs(slot).last().unwrap_or(slot);
        let Some(frozen) = next.frozen.get_mut(&last) else {
            return Err(MembersError::Used { slot: last });
        };
        frozen.heir = Some(heir);
        next.active.insert(heir, since_unix_ms);
        Ok(next)
    }

    /// As much of a vector as counts.
    #[must_use]
    pub fn counted(&self, vector: &Vector) -> Vector {
        let mut counted = vector.clone();
        for (slot, frozen) in &self.frozen {
            counted.lower(*slot, frozen.through);
        }
        counted
    }

    /// Writes it down.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(64);
        out.put_u8(VERSION);
        out.put_u32_le(self.epoch);
        out.put_slice(&self.before.0);
        out.put_u8(u8::try_from(self.active.len()).expect("there are 255 slots"));
        for (slot, since) in &self.active {
            out.put_u8(slot.value());
            out.put_u64_le(*since);
        }
        out.put_u8(u8::try_from(self.frozen.len()).expect("there are 255 slots"));
        for (slot, frozen) in &self.frozen {
            out.put_u8(slot.value());
            put_varint(&mut out, frozen.through);
            out.put_slice(&frozen.chain.0);
            out.put_u8(frozen.heir.map_or(0, Slot::value));
        }
        out.freeze()
    }

    /// Reads what [`Members::encode`] wrote.
    ///
    /// # Errors
    ///
    /// As [`DecodeError`] says.
    pub fn decode(bytes: Bytes) -> Result<Self, DecodeError> {
        let what = "a table of members";
        let mut reader = Reader::new(bytes);
        let version = reader.byte(what)?;
        if version != VERSION {
            return Err(DecodeError::Version { what, version });
        }
        let epoch = reader.u32(what)?;
        let before = Chain(take_hash(&mut reader)?);
        let mut active = BTreeMap::new();
        for _ in 0..reader.byte(what)? {
            let (slot, since) = (reader.slot()?, reader.u64(what)?);
            if active
                .last_key_value()
                .is_some_and(|(last, _)| *last >= slot)
            {
                return Err(DecodeError::Wrong { what });
            }
            active.insert(slot, since);
        }
        let mut frozen = BTreeMap::new();
        for _ in 0..reader.byte(what)? {
            let slot = reader.slot()?;
            let through = reader.varint(what)?;
            let chain = Chain(take_hash(&mut reader)?);
            let heir = Slot::new(reader.byte(what)?);
            let is_in_order = frozen.last_key_value().is_none_or(|(last, _)| *last < slot);
            // An heir comes later than what it follows, so names end.
            let is_later = heir.is_none_or(|heir| heir > slot);
            if !is_in_order || !is_later || active.contains_key(&slot) {
                return Err(DecodeError::Wrong { what });
            }
            let it = Frozen {
                through,
                chain,
                heir,
            };
            frozen.insert(slot, it);
        }
        reader.end(what)?;
        Ok(Self {
            epoch,
            before,
            active,
            frozen,
        })
    }
}

fn take_hash(reader: &mut Reader) -> Result<[u8; 32], DecodeError> {
    let mut hash = [0; 32];
    hash.copy_from_slice(&reader.take(32, "a table of members")?);
    Ok(hash)
}

/// Freezing a slot: every active site but its own stops taking in of it and says how far it is.
#[derive(Clone, Debug)]
pub struct Freezing {
    slot: Slot,
    reports: BTreeMap<Slot, (u64, Chain)>,
}

impl Freezing {
    /// Nobody has said anything yet.
    #[must_use]
    pub const fn new(slot: Slot) -> Self {
        Self {
            slot,
            reports: BTreeMap::new(),
        }
    }

    /// Whose slot it is.
    #[must_use]
    pub const fn slot(&self) -> Slot {
        self.slot
    }

    /// A site has stopped, and this is the last of the slot that it has.
    pub fn report(&mut self, from: Slot, through: u64, chain: Chain) {
        self.reports.insert(from, (through, chain));
    }

    /// The most that an active site has, once all of them have stopped: F. Laggards fetch up to
    /// it. A site that is cut off only delays this.
    #[must_use]
    pub fn agreed(&self, members: &Members) -> Option<(u64, Chain)> {
        let others = members.active.keys().filter(|it| **it != self.slot);
        let said: Option<alloc::vec::Vec<_>> = others.map(|it| self.reports.get(it)).collect();
        said?
            .into_iter()
            .max_by_key(|(through, _)| *through)
            .copied()
    }
}
