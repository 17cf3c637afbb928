//! What readers pin: one state of the keyspace, unchanged for as long as it is held.

use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;
use holm_base::Revision;
use holm_local_first::{Stamp, Whose, whose};

use crate::error::StoreError;
use crate::frame::{RECORD_HEAD, RecordKind, Stored, decode_record, record_len};
use crate::history::{History, Place, Slot};
use crate::index::Index;
use crate::layout::{count, wide};
use crate::range::KeyRange;
use crate::record::Record;
use crate::scan::{Item, Scanner};
use crate::segment::{Pending, Segment, Table};

/// Records that lie this near to each other share a read.
const READ_GAP: u64 = 64 << 10;
const READ_MAX: u64 = 256 << 10;

/// What the index knows of one version of a key; everything but its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meta {
    /// The revision that created the key.
    pub create: Revision,
    /// The revision that wrote this version.
    pub modified: Revision,
    /// Which change of that revision it was, from 0.
    pub sub: u32,
    /// Writes since the key was created, this one included.
    pub version: i64,
    /// The lease it hangs on; 0 for none.
    pub lease: i64,
    /// How long [`Record::bytes`] is, so that replies can be sized before anything is read.
    pub record_bytes: u32,
    place: Place,
}

impl Meta {
    pub(crate) const fn of(slot: &Slot) -> Self {
        Self {
            create: Revision::new(slot.create),
            modified: Revision::new(slot.modified),
            sub: slot.sub,
            version: slot.version,
            lease: slot.lease,
            record_bytes: slot.bytes,
            place: slot.place,
        }
    }
}

/// What a change did to its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ChangeKind {
    /// Gave it a value.
    Put,
    /// Took it away.
    Delete,
}

/// One change, as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The revision that it belongs to.
    pub main: Revision,
    /// Which change of that revision it is, from 0.
    pub sub: u32,
    /// What it did.
    pub kind: ChangeKind,
    /// The key; shares memory with the record.
    pub key: Bytes,
    /// A put's complete message; a delete's has the key and its modification revision, at an
    /// island also its mark.
    pub record: Record,
}

/// One state of the keyspace.
///
/// Cloning costs a few reference counts, whatever the size. A clone never changes, and all
/// of it stays readable while it is held, whatever is compacted and cleaned meanwhile.
#[derive(Clone, Debug)]
pub struct Root {
    pub(crate) index: Index<Slot>,
    pub(crate) history: History,
    pub(crate) table: Arc<Table>,
    pub(crate) pending: Arc<Pending>,
    pub(crate) revision: i64,
    pub(crate) compacted: i64,
    /// Where an island's revisions begin, of which no other issues any.
    pub(crate) since: Option<Stamp>,
}

impl Root {
    /// The newest revision. A fresh keyspace is at 1.
    #[must_use]
    pub const fn revision(&self) -> Revision {
        Revision::new(self.revision)
    }

    /// The revision that was compacted last: the oldest one that can be read. 0 if none was.
    #[must_use]
    pub const fn compacted(&self) -> Revision {
        Revision::new(self.compacted)
    }

    /// Whether a revision that a client names is another island's; elsewhere none is.
    #[must_use]
    pub fn is_foreign(&self, revision: i64) -> bool {
        let at = Revision::new(revision);
        let is_foreign = |since: Stamp| whose(at, since) == Whose::Foreign;
        self.since.is_some_and(is_foreign)
    }

    /// The oldest revision that can be read, as a client is told of it whose own is older, or
    /// another island's: never 0, which would mean nothing to it.
    pub(crate) fn oldest(&self) -> Revision {
        let begin = self.since.map_or(Revision::ZERO, Stamp::revision);
        self.compacted().max(begin)
    }

    /// The key's version now, changes of the command in hand included. O(log n), no I/O.
    #[must_use]
    pub fn get(&self, key: &[u8]) -> Option<Meta> {
        self.index.get(key).and_then(live)
    }

    /// The delete by which a key went, unless compaction has passed it. No I/O.
    pub(crate) fn deleted(&self, key: &[u8]) -> Option<Meta> {
        let newest = self.index.get(key)?;
        (newest.version == 0 && !self.is_past(newest)).then(|| Meta::of(newest))
    }

    /// The key's version at a revision. The caller has checked that it lies within
    /// `compacted()..=revision()`; below, the answer is meaningless. O(log n) and O(log) of
    /// the key's versions, no I/O.
    #[must_use]
    pub fn get_at(&self, key: &[u8], at: Revision) -> Option<Meta> {
        let newest = self.index.get(key)?;
        self.version(newest, at.value()).and_then(live)
    }

    /// How many keys of the range live now. O(log n).
    #[must_use]
    pub fn count(&self, range: &KeyRange) -> u64 {
        match range {
            KeyRange::One(key) => u64::from(self.get(key).is_some()),
            KeyRange::Between(first, end) => {
                let below = self.index.rank(first);
                self.index.rank(end).saturating_sub(below)
            }
            KeyRange::From(first) => self.index.live() - self.index.rank(first),
        }
    }

    /// Visits the live keys of the range in order, as they are now or were at `at` (checked by
    /// the caller as in [`Root::get_at`]), until `each` breaks off. No I/O.
    pub fn scan(
        &self,
        range: &KeyRange,
        at: Option<Revision>,
        each: &mut dyn FnMut(&[u8], &Meta) -> ControlFlow<()>,
    ) {
        if let KeyRange::One(key) = range {
            let meta = at.map_or_else(|| self.get(key), |at| self.get_at(key, at));
            if let Some(meta) = meta {
                each(key, &meta).is_break();
            }
            return;
        }
        let _broke_off = self.index.scan(range.first(), &mut |key, newest| {
            if !range.contains(key) {
                return ControlFlow::Break(());
            }
            let slot = at.map_or(Some(newest), |at| self.version(newest, at.value()));
            match slot.and_then(live) {
                Some(meta) => each(key, &meta),
                None => ControlFlow::Continue(()),
            }
        });
    }

    /// The message of a version that this root gave. From memory if it was not yet written,
    /// else one read, its checksum checked.
    ///
    /// # Errors
    ///
    /// [`StoreError::Damaged`] if the bytes are not what was written; everything else stays
    /// readable.
    pub fn read(&self, meta: &Meta) -> Result<Record, StoreError> {
        let segment = self.segment(meta.place)?;
        let at = meta.place.offset();
        if at >= segment.written()
            && let Some(bytes) = self.pending.get(meta.place)
        {
            return checked(segment, meta, &bytes);
        }
        let len = record_len(wide(meta.record_bytes));
        checked(segment, meta, &segment.read(at, len)?)
    }

    /// The messages of many versions, in the order asked for. Versions that lie side by side
    /// share one read of at most 256 KiB.
    ///
    /// # Errors
    ///
    /// As [`Root::read`]; `each` has then seen those before.
    pub fn read_many(
        &self,
        metas: &[Meta],
        each: &mut dyn FnMut(Record),
    ) -> Result<(), StoreError> {
        let mut rest = metas;
        while let Some(first) = rest.first() {
            let segment = self.segment(first.place)?;
            let run = run(rest, segment.written());
            let (together, later) = rest.split_at(run.max(1));
            rest = later;
            let [only] = together else {
                read_run(segment, together, each)?;
                continue;
            };
            each(self.read(only)?);
        }
        Ok(())
    }

    /// Visits the changes of revisions `from..=upto` in order of revision and sub, whole
    /// revisions only, and stops after the first one that brings the records' bytes to
    /// `bytes_max`. Gives the next revision to ask for, `upto + 1` once all were seen.
    ///
    /// Revisions above `compacted()` are complete. Below and at it, what compaction keeps is
    /// visited: the versions visible at `compacted()`, and deletes exactly at it.
    ///
    /// Cost: a sequential read of the segments from at most 64 KiB before `from`; below
    /// `compacted()`, a look into the index for each record.
    ///
    /// # Errors
    ///
    /// As [`Root::read`]; `each` may then have seen a part of a revision.
    pub fn changes(
        &self,
        from: Revision,
        upto: Revision,
        bytes_max: usize,
        each: &mut dyn FnMut(Change),
    ) -> Result<Revision, StoreError> {
        self.changes_while(from, upto, (bytes_max, usize::MAX), &mut |change| {
            each(change);
            ControlFlow::Continue(())
        })
    }

    /// As [`Root::changes`], but ends behind the revision in which `each` first breaks, and
    /// before it has come by more revisions than it may, those included that compaction passed.
    pub(crate) fn changes_while(
        &self,
        from: Revision,
        upto: Revision,
        (bytes_max, revisions_max): (usize, usize),
        each: &mut dyn FnMut(Change) -> ControlFlow<()>,
    ) -> Result<Revision, StoreError> {
        let (from, upto) = (from.value(), upto.value().min(self.revision));
        let mut walk = Walk {
            root: self,
            from,
            upto,
            bytes_left: bytes_max,
            revisions_left: revisions_max,
            passed: None,
            last: None,
            each,
        };
        for segment in self.table.from(from) {
            if segment.first.0 > upto {
                break;
            }
            if let ControlFlow::Break(next) = walk.segment(segment, bytes_max)? {
                return Ok(Revision::new(next));
            }
        }
        Ok(Revision::new(upto + 1))
    }

    fn segment(&self, place: Place) -> Result<&Arc<Segment>, StoreError> {
        self.table
            .find(place.segment)
            .ok_or_else(|| StoreError::Damaged {
                file: Segment::name(place.segment),
                at: holm_base::ByteCount::new(place.offset()),
                found: "the index points to a segment that is not there".to_owned(),
            })
    }

    /// The version that was newest at a revision, be it a delete.
    pub(crate) fn version<'a>(&'a self, newest: &'a Slot, at: i64) -> Option<&'a Slot> {
        if newest.modified <= at {
            return Some(newest);
        }
        let found = self.history.find(newest, (at, u32::MAX));
        found.map(|(_, old)| &old.slot)
    }

    /// A change, if it is still to be found.
    pub(crate) fn find(&self, key: &[u8], change: (i64, u32)) -> Option<&Slot> {
        let newest = self.index.get(key)?;
        if newest.change() == change {
            return Some(newest);
        }
        let (_, old) = self.history.find(newest, change)?;
        (old.slot.change() == change).then_some(&old.slot)
    }

    /// Whether a newest version is a delete that compaction has passed, so that neither it
    /// nor what it superseded can be seen, whether the sweep has come there or not.
    pub(crate) const fn is_past(&self, newest: &Slot) -> bool {
        newest.version == 0 && newest.modified < self.compacted
    }

    /// Whether compaction keeps a change.
    fn keeps(&self, key: &[u8], main: i64, sub: u32) -> bool {
        if main > self.compacted {
            return true;
        }
        let newest = self.index.get(key);
        let kept = newest.and_then(|newest| self.version(newest, self.compacted));
        kept.is_some_and(|kept| {
            let seen = kept.version != 0 || kept.modified == self.compacted;
            seen && kept.change() == (main, sub)
        })
    }
}

fn live(slot: &Slot) -> Option<Meta> {
    (slot.version != 0).then(|| Meta::of(slot))
}

/// How many of `metas` lie in one segment's file, in rising order and near to each other.
fn run(metas: &[Meta], written: u64) -> usize {
    let first = metas[0].place;
    let mut end = first.offset();
    let start = end;
    let near = |meta: &&Meta| {
        let at = meta.place.offset();
        let next = at + count(record_len(wide(meta.record_bytes)));
        let fits = meta.place.segment == first.segment
            && at >= end
            && at - end <= READ_GAP
            && next - start <= READ_MAX
            && next <= written;
        end = next;
        fits
    };
    metas.iter().take_while(near).count()
}

fn read_run(
    segment: &Segment,
    metas: &[Meta],
    each: &mut dyn FnMut(Record),
) -> Result<(), StoreError> {
    let start = metas[0].place.offset();
    let last = &metas[metas.len() - 1];
    let end = last.place.offset() + count(record_len(wide(last.record_bytes)));
    let len = usize::try_from(end - start).expect("a run is bounded");
    let bytes = segment.read(start, len)?;
    for meta in metas {
        let from = usize::try_from(meta.place.offset() - start).expect("within the run");
        each(checked(segment, meta, &bytes.slice(from..))?);
    }
    Ok(())
}

fn checked(segment: &Segment, meta: &Meta, bytes: &Bytes) -> Result<Record, StoreError> {
    let at = meta.place.offset();
    let stored = decode_record(bytes).map_err(|bad| segment.damaged(at, bad.0))?;
    let found = (stored.head.main, stored.head.sub);
    let kind = if meta.version == 0 {
        RecordKind::Delete
    } else {
        RecordKind::Put
    };
    if stored.head.kind != kind || found != (meta.modified.value(), meta.sub) {
        return Err(segment.damaged(at, "another record is in this place"));
    }
    debug_assert!(bytes.len() >= RECORD_HEAD, "a decoded record has a header");
    Ok(Record::from_bytes(stored.body))
}

/// The key within the body of a put or delete: the message's first field.
pub(crate) fn key_in(stored: &Stored) -> Option<Bytes> {
    let len = wide(stored.head.key_bytes);
    if len == 0 {
        return Some(Bytes::new());
    }
    let mut at = 1;
    while *stored.body.get(at)? >= 0x80 {
        at += 1;
    }
    let start = at + 1;
    (start + len <= stored.body.len()).then(|| stored.body.slice(start..start + len))
}

struct Walk<'a, 'b> {
    root: &'a Root,
    from: i64,
    upto: i64,
    bytes_left: usize,
    revisions_left: usize,
    /// The last revision that it came by.
    passed: Option<i64>,
    last: Option<i64>,
    each: &'b mut dyn FnMut(Change) -> ControlFlow<()>,
}

impl Walk<'_, '_> {
    /// One segment: what its file holds, then what waits to be written to it.
    fn segment(
        &mut self,
        segment: &Segment,
        bytes_max: usize,
    ) -> Result<ControlFlow<i64>, StoreError> {
        let mut at = segment.before(self.from);
        let waiting = loop {
            let pending = &self.root.pending;
            if let Some(waiting) = pending.from(segment, at, self.from, bytes_max) {
                break waiting;
            }
            let end = segment.written();
            if let ControlFlow::Break(next) = self.file(segment, at, end)? {
                return Ok(ControlFlow::Break(next));
            }
            at = end;
        };
        let last = waiting.pieces.last().map(|piece| piece.main);
        for piece in waiting.pieces {
            let offset = piece.place.offset();
            let stored =
                decode_record(&piece.bytes).map_err(|bad| segment.damaged(offset, bad.0))?;
            if let ControlFlow::Break(next) = self.record(segment, offset, &stored)? {
                return Ok(ControlFlow::Break(next));
            }
        }
        Ok(match last {
            Some(main) if !waiting.all => ControlFlow::Break(main + 1),
            Some(_) | None => ControlFlow::Continue(()),
        })
    }

    fn file(
        &mut self,
        segment: &Segment,
        at: u64,
        end: u64,
    ) -> Result<ControlFlow<i64>, StoreError> {
        let mut scanner = Scanner::new(segment, at, end);
        while let Some(item) = scanner.next()? {
            if let Item::Record(place, stored) = item
                && let ControlFlow::Break(next) = self.record(segment, place.offset(), &stored)?
            {
                return Ok(ControlFlow::Break(next));
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    fn record(
        &mut self,
        segment: &Segment,
        at: u64,
        stored: &Stored,
    ) -> Result<ControlFlow<i64>, StoreError> {
        let kind = match stored.head.kind {
            RecordKind::Put => ChangeKind::Put,
            RecordKind::Delete => ChangeKind::Delete,
            RecordKind::Fact | RecordKind::FactRemoved | RecordKind::Compacted => {
                return Ok(ControlFlow::Continue(()));
            }
        };
        let (main, sub) = (stored.head.main, stored.head.sub);
        if main > self.upto {
            return Ok(ControlFlow::Break(self.upto + 1));
        }
        if main < self.from {
            return Ok(ControlFlow::Continue(()));
        }
        if self.passed != Some(main) {
            let is_enough = self.bytes_left == 0 && self.last.is_some();
            if is_enough || self.revisions_left == 0 {
                return Ok(ControlFlow::Break(main));
            }
            self.passed = Some(main);
            self.revisions_left -= 1;
        }
        let key = key_in(stored).ok_or_else(|| segment.damaged(at, "a record has no key"))?;
        if self.root.keeps(&key, main, sub) {
            self.last = Some(main);
            self.bytes_left = self.bytes_left.saturating_sub(stored.body.len());
            let flow = (self.each)(Change {
                main: Revision::new(main),
                sub,
                kind,
                key,
                record: Record::from_bytes(stored.body.clone()),
            });
            if flow.is_break() {
                self.bytes_left = 0;
            }
        }
        Ok(ControlFlow::Continue(()))
    }
}
