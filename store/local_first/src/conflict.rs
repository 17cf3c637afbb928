//! Conflicts: which concurrent writes met at a key, which of them is shown, and what the others
//! said.
//!
//! ```text
//! entry     u8 version 1, u8 kind; 0: varint n (so many were dropped), else
//!           [32] id, varint revision, varint unix_ms, key, path, party, varint n, n x party
//! party     u8 slot, varint seq, u64 hlc, [32] digest, varint length, first bytes of the value
//! key, path, first bytes: varint length, bytes; the first byte of a path's, see json.rs
//! ```
//!
//! What would surprise: an entry names all writes that stand side by side at its key, not only
//! the two that just met. So whatever the order in which sites took them in, the last entry of a
//! key is the same everywhere, and has the same id. A put that met a concurrent delete is told
//! where the put was first; where the delete was, only if the engine still knows of it.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use sha2::{Digest as _, Sha256};

use crate::clock::Hlc;
use crate::document::{self, Row};
use crate::encode::{DecodeError, Reader, put_body, put_varint};
use crate::kind::Type;
use crate::ranges::Digest;
use crate::state::{Sibling, State};
use crate::update::{Change, Update};
use crate::vector::{Dot, Slot, Vector};
use crate::wire::Mark;

const VERSION: u8 = 1;
/// As much of a value is kept in an entry.
pub const VALUE_MAX: usize = 4 << 10;
/// How long an entry is kept.
pub const KEPT_FOR: Duration = Duration::from_secs(7 * 24 * 3_600);
/// How many bytes of entries are kept.
pub const KEPT_BYTES: usize = 64 << 20;

/// What met.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ConflictKind {
    /// Two puts, neither of which saw the other.
    ConcurrentPut,
    /// A put and a delete that did not see it; the put stays.
    PutBeatDelete,
    /// Likewise, where deletes win.
    DeleteBeatPut,
    /// Two bases of a counter.
    BaseLost,
    /// Two values at one path of a document.
    PathLost,
    /// A site that was left out made a write again.
    Reissued,
    /// A key is hidden, for its lease's site is not heard.
    HiddenLease,
    /// A site that was left out came back with writes that count for nobody and are not made again.
    LeftOut,
}

const KINDS: [ConflictKind; 8] = [
    ConflictKind::ConcurrentPut,
    ConflictKind::PutBeatDelete,
    ConflictKind::DeleteBeatPut,
    ConflictKind::BaseLost,
    ConflictKind::PathLost,
    ConflictKind::Reissued,
    ConflictKind::HiddenLease,
    ConflictKind::LeftOut,
];

impl ConflictKind {
    /// Its name in the conflicts stream.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ConcurrentPut => "concurrent_put",
            Self::PutBeatDelete => "put_beat_delete",
            Self::DeleteBeatPut => "delete_beat_put",
            Self::BaseLost => "base_lost",
            Self::PathLost => "path_lost",
            Self::Reissued => "reissued",
            Self::HiddenLease => "hidden_lease",
            Self::LeftOut => "left_out",
        }
    }

    const fn number(self) -> u8 {
        match self {
            Self::ConcurrentPut => 1,
            Self::PutBeatDelete => 2,
            Self::DeleteBeatPut => 3,
            Self::BaseLost => 4,
            Self::PathLost => 5,
            Self::Reissued => 6,
            Self::HiddenLease => 7,
            Self::LeftOut => 8,
        }
    }
}

/// One of the writes that met.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Party {
    /// Which update it is.
    pub dot: Dot,
    /// Its time.
    pub hlc: Hlc,
    /// SHA-256 of the whole value; of nothing for a delete.
    pub digest: Digest,
    /// How long the value is.
    pub length: u64,
    /// Its first [`VALUE_MAX`] bytes.
    pub value: Bytes,
}

impl Party {
    /// A write with its value; a delete has none.
    #[must_use]
    pub fn new(mark: Mark, value: &Bytes) -> Self {
        Self {
            dot: mark.dot,
            hlc: mark.hlc,
            digest: Digest(Sha256::digest(value).into()),
            length: u64::try_from(value.len()).expect("a length fits 64 bits"),
            value: Bytes::copy_from_slice(&value[..value.len().min(VALUE_MAX)]),
        }
    }

    fn of(sibling: &Sibling) -> Self {
        let (dot, hlc) = (sibling.dot, sibling.hlc);
        Self::new(Mark { dot, hlc }, &sibling.value)
    }

    fn of_row(row: &Row) -> Self {
        let (dot, hlc) = (row.dot, row.hlc);
        Self::new(Mark { dot, hlc }, &row.value)
    }
}

/// Writes that did not see each other and met at a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// SHA-256 of kind, key, path and the sorted dots: the same everywhere.
    pub id: [u8; 32],
    /// What met.
    pub kind: ConflictKind,
    /// Where.
    pub key: Bytes,
    /// Where in a document; empty for all others.
    pub path: Bytes,
    /// The one that is shown.
    pub winner: Party,
    /// The others, by dot.
    pub losers: Vec<Party>,
}

impl Conflict {
    /// A conflict of these.
    #[must_use]
    pub fn new(
        kind: ConflictKind,
        (key, path): (&Bytes, &Bytes),
        winner: Party,
        mut losers: Vec<Party>,
    ) -> Self {
        losers.sort_unstable();
        let mut dots: Vec<Dot> = losers.iter().map(|it| it.dot).collect();
        dots.push(winner.dot);
        dots.sort_unstable();
        let mut hash = Sha256::new();
        hash.update([kind.number()]);
        for name in [key, path] {
            let length = u64::try_from(name.len()).expect("a length fits 64 bits");
            hash.update(length.to_le_bytes());
            hash.update(name);
        }
        for dot in dots {
            hash.update([dot.slot.value()]);
            hash.update(dot.seq.to_le_bytes());
        }
        Self {
            id: hash.finalize().into(),
            kind,
            key: key.clone(),
            path: path.clone(),
            winner,
            losers,
        }
    }
}

impl Conflict {
    /// What a site came back with, and was left out for good.
    #[must_use]
    pub fn left_out(kind: Type, key: &Bytes, after: &State, losers: Vec<Party>) -> Self {
        let nothing = Bytes::new();
        let shown = kind.shown(after);
        let winner = shown.map(|it| Party::new(it.mark, &it.value));
        // Nothing is shown: of what was left out one stands for itself.
        let winner = winner.unwrap_or_else(|| losers.last().cloned().expect("there is one"));
        Self::new(ConflictKind::LeftOut, (key, &nothing), winner, losers)
    }

    /// It is because of a write that was made again: a site that was left out came back.
    fn be_of_what_was_made_again(&mut self) {
        if matches!(
            self.kind,
            ConflictKind::ConcurrentPut | ConflictKind::PutBeatDelete
        ) {
            let (kind, place) = (ConflictKind::Reissued, (&self.key, &self.path));
            *self = Self::new(kind, place, self.winner.clone(), self.losers.clone());
        }
    }
}

/// Why a key's state is another.
#[derive(Clone, Copy, Debug)]
pub enum Cause<'a> {
    /// A change of an update was carried out.
    Update(&'a Update, &'a Change),
    /// A session was installed.
    Install,
}

/// What met at a key, given its state before and after; mostly nothing.
///
/// `removed` is the delete that the engine's history still knows as the key's last change, if it
/// is one: with it, a put that comes after a delete which it did not see is told too.
#[must_use]
pub fn conflicts(
    kind: Type,
    key: &Bytes,
    (before, after): (&State, &State),
    cause: Cause<'_>,
    removed: Option<Mark>,
) -> Vec<Conflict> {
    if let Cause::Update(update, change) = cause
        && let Some((then, change)) = change.in_its_time(update)
    {
        let cause = Cause::Update(&then, change);
        let mut met = conflicts(kind, key, (before, after), cause, removed);
        met.iter_mut().for_each(Conflict::be_of_what_was_made_again);
        return met;
    }
    let mut met = match kind {
        // That members stand side by side is what a set is for.
        Type::Set => return Vec::new(),
        Type::Lww | Type::Mv => siblings(ConflictKind::ConcurrentPut, key, (before, after)),
        Type::Counter => siblings(ConflictKind::BaseLost, key, (before, after)),
        Type::Json => document::lost(before, after)
            .into_iter()
            .map(|it| {
                let losers = it.losers.iter().map(Party::of_row).collect();
                let winner = Party::of_row(&it.winner);
                Conflict::new(ConflictKind::PathLost, (key, &it.path), winner, losers)
            })
            .collect(),
    };
    if met.is_empty() {
        met.extend(against_delete(kind, key, (before, after), (cause, removed)));
    }
    met
}

/// Whole values that stand side by side, one of which is new.
fn siblings(kind: ConflictKind, key: &Bytes, (before, after): (&State, &State)) -> Vec<Conflict> {
    let has = |it: &Sibling| before.siblings().iter().any(|was| was.dot == it.dot);
    let Some(shown) = after.shown() else {
        return Vec::new();
    };
    if after.siblings().len() < 2 || after.siblings().iter().all(has) {
        return Vec::new();
    }
    let losers = after.siblings().iter().filter(|it| it.dot != shown.dot);
    let losers = losers.map(Party::of).collect();
    let place = (key, &Bytes::new());
    vec![Conflict::new(kind, place, Party::of(shown), losers)]
}

/// A write and a delete, of which at least one did not see the other.
fn against_delete(
    kind: Type,
    key: &Bytes,
    (before, after): (&State, &State),
    (cause, removed): (Cause<'_>, Option<Mark>),
) -> Option<Conflict> {
    let (Cause::Update(update, change), nothing) = (cause, Bytes::new()) else {
        return None;
    };
    let (dot, hlc) = (update.dot, update.hlc);
    let own = Mark { dot, hlc };
    let lost = match change {
        Change::Delete { .. } | Change::DeleteRange { .. } => own,
        Change::Erase { .. } => {
            let losers = unseen(before, &update.deps);
            return of_erased((key, &nothing), own, losers);
        }
        Change::Put { .. } | Change::Add { .. } | Change::Paths { .. } => {
            let unseen = after
                .markers()
                .iter()
                .filter(|it| !update.deps.covers(it.dot));
            if let Some(marker) = unseen.max_by_key(|it| (it.hlc, it.dot.slot)) {
                let value = match change {
                    Change::Put { value, .. } => value,
                    Change::Add { .. }
                    | Change::Paths { .. }
                    | Change::Delete { .. }
                    | Change::DeleteRange { .. }
                    | Change::Erase { .. }
                    | Change::Again { .. } => &nothing,
                };
                return of_erased((key, &nothing), *marker, vec![Party::new(own, value)]);
            }
            removed.filter(|it| before.is_gone() && !update.deps.covers(it.dot))?
        }
        // Its own change was asked for.
        Change::Again { .. } => return None,
    };
    let shown = kind.shown(after)?;
    let winner = Party::new(shown.mark, &shown.value);
    let losers = vec![Party::new(lost, &nothing)];
    let kind = ConflictKind::PutBeatDelete;
    Some(Conflict::new(kind, (key, &nothing), winner, losers))
}

/// The writes of a key that a vector does not cover, each once. A part of a document and an
/// addition have no value of their own to tell.
fn unseen(state: &State, deps: &Vector) -> Vec<Party> {
    let nothing = Bytes::new();
    let named = |dot, hlc| Party::new(Mark { dot, hlc }, &nothing);
    let rows = state.rows().iter().map(|it| named(it.dot, it.hlc));
    let deltas = state.deltas().iter().map(|it| named(it.dot, it.hlc));
    let wholes = state.siblings().iter().map(Party::of);
    let mut all: Vec<Party> = wholes.chain(rows).chain(deltas).collect();
    all.retain(|it| !deps.covers(it.dot));
    all.sort_unstable();
    all.dedup_by_key(|it| it.dot);
    all
}

fn of_erased(place: (&Bytes, &Bytes), by: Mark, losers: Vec<Party>) -> Option<Conflict> {
    let winner = Party::new(by, &Bytes::new());
    let is_any = !losers.is_empty();
    is_any.then(|| Conflict::new(ConflictKind::DeleteBeatPut, place, winner, losers))
}

/// A line of a site's conflicts stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// So many older entries were dropped.
    Dropped(u64),
    /// A conflict.
    Met {
        /// At which revision of this site.
        revision: i64,
        /// When, in milliseconds of Unix time.
        unix_ms: u64,
        /// What.
        conflict: Box<Conflict>,
    },
}

impl Entry {
    /// Writes it down.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(256);
        out.put_u8(VERSION);
        match self {
            Self::Dropped(count) => {
                out.put_u8(0);
                put_varint(&mut out, *count);
            }
            Self::Met {
                revision,
                unix_ms,
                conflict,
            } => {
                out.put_u8(conflict.kind.number());
                out.put_slice(&conflict.id);
                put_varint(&mut out, revision.cast_unsigned());
                put_varint(&mut out, *unix_ms);
                put_body(&mut out, &conflict.key);
                put_body(&mut out, &conflict.path);
                put_party(&mut out, &conflict.winner);
                let count = u64::try_from(conflict.losers.len());
                put_varint(&mut out, count.expect("a length fits 64 bits"));
                conflict
                    .losers
                    .iter()
                    .for_each(|it| put_party(&mut out, it));
            }
        }
        out.freeze()
    }

    /// Reads what [`Entry::encode`] wrote.
    ///
    /// # Errors
    ///
    /// As [`DecodeError`] says.
    pub fn decode(bytes: Bytes) -> Result<Self, DecodeError> {
        let what = "a conflict";
        let mut reader = Reader::new(bytes);
        let version = reader.byte(what)?;
        if version != VERSION {
            return Err(DecodeError::Version { what, version });
        }
        let number = reader.byte(what)?;
        if number == 0 {
            let count = reader.varint(what)?;
            reader.end(what)?;
            return Ok(Self::Dropped(count));
        }
        let kind = KINDS.into_iter().find(|it| it.number() == number);
        let kind = kind.ok_or(DecodeError::Wrong { what })?;
        let id = reader.take(32, what)?;
        let revision = reader.varint(what)?.cast_signed();
        let unix_ms = reader.varint(what)?;
        let (key, path) = (reader.body(what)?, reader.body(what)?);
        let winner = take_party(&mut reader)?;
        let mut losers: Vec<Party> = Vec::new();
        for _ in 0..reader.varint(what)? {
            losers.push(take_party(&mut reader)?);
        }
        reader.end(what)?;
        let is_sorted = losers.is_sorted();
        let conflict = Box::new(Conflict::new(kind, (&key, &path), winner, losers));
        if conflict.id != *id || !is_sorted {
            return Err(DecodeError::Wrong { what });
        }
        Ok(Self::Met {
            revision,
            unix_ms,
            conflict,
        })
    }
}

fn put_party(out: &mut BytesMut, party: &Party) {
    out.put_u8(party.dot.slot.value());
    put_varint(out, party.dot.seq);
    out.put_u64_le(party.hlc.value());
    out.put_slice(&party.digest.0);
    put_varint(out, party.length);
    put_body(out, &party.value);
}

fn take_party(reader: &mut Reader) -> Result<Party, DecodeError> {
    let what = "a conflict";
    let slot: Slot = reader.slot()?;
    let dot = Dot {
        slot,
        seq: reader.varint(what)?,
    };
    let hlc = Hlc::new(reader.u64(what)?);
    let mut digest = Digest([0; 32]);
    digest.0.copy_from_slice(&reader.take(32, what)?);
    let length = reader.varint(what)?;
    let value = reader.body(what)?;
    let kept = u64::try_from(value.len()).expect("a length fits 64 bits");
    let most = u64::try_from(VALUE_MAX).expect("it is small");
    if dot.seq == 0 || kept != length.min(most) {
        return Err(DecodeError::Wrong { what });
    }
    Ok(Party {
        dot,
        hlc,
        digest,
        length,
        value,
    })
}

/// The newest conflicts of a site, as they are written: for some days and so many bytes.
///
/// What would surprise: the place of the oldest is taken by a line that says how many are gone.
#[derive(Clone, Debug)]
pub struct Conflicts {
    entries: VecDeque<(u64, Bytes)>,
    bytes: usize,
    dropped: u64,
    kept_ms: u64,
    bytes_max: usize,
}

impl Default for Conflicts {
    fn default() -> Self {
        Self::new(KEPT_FOR, KEPT_BYTES)
    }
}

impl Conflicts {
    /// Keeps entries for that long, and that many bytes of them.
    ///
    /// # Panics
    ///
    /// If that is half a billion years or more.
    #[must_use]
    pub fn new(kept_for: Duration, bytes_max: usize) -> Self {
        Self {
            entries: VecDeque::new(),
            bytes: 0,
            dropped: 0,
            kept_ms: u64::try_from(kept_for.as_millis()).expect("a time that ends"),
            bytes_max,
        }
    }

    /// Adds a conflict that was met at a revision, at a time, and lets go of what is too old or
    /// too much. Gives the entry as it is written, for those that follow.
    pub fn push(&mut self, revision: i64, unix_ms: u64, conflict: Conflict) -> Bytes {
        let conflict = Box::new(conflict);
        let entry = Entry::Met {
            revision,
            unix_ms,
            conflict,
        };
        let bytes = entry.encode();
        self.bytes += bytes.len();
        self.entries.push_back((unix_ms, bytes.clone()));
        self.forget(unix_ms);
        bytes
    }

    /// Lets go of what is too old at a time, or too much.
    pub fn forget(&mut self, unix_ms: u64) {
        let is_old = |(at, _): &(u64, Bytes)| at.saturating_add(self.kept_ms) < unix_ms;
        while self.bytes > self.bytes_max || self.entries.front().is_some_and(is_old) {
            let (_, gone) = self.entries.pop_front().expect("there is one");
            self.bytes -= gone.len();
            self.dropped += 1;
        }
    }

    /// How many are kept.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nothing is kept and nothing was dropped.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.dropped == 0
    }

    /// How many were dropped since the first.
    #[must_use]
    pub const fn dropped(&self) -> u64 {
        self.dropped
    }

    /// All lines, the oldest first, as they are written.
    pub fn lines(&self) -> impl Iterator<Item = Bytes> + '_ {
        let gone = (self.dropped > 0).then(|| Entry::Dropped(self.dropped).encode());
        let kept = self.entries.iter().map(|(_, bytes)| bytes.clone());
        gone.into_iter().chain(kept)
    }

    /// Adds a line that [`Conflicts::lines`] gave, after a start; in their order.
    ///
    /// # Errors
    ///
    /// As [`DecodeError`] says.
    pub fn restore(&mut self, line: &Bytes) -> Result<(), DecodeError> {
        match Entry::decode(line.clone())? {
            Entry::Dropped(count) => self.dropped += count,
            Entry::Met { unix_ms, .. } => {
                self.bytes += line.len();
                self.entries.push_back((unix_ms, line.clone()));
            }
        }
        Ok(())
    }
}
