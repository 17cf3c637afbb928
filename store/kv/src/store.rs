//! The engine's own half: takes changes, keeps the index, drops what compaction passed.
//!
//! What would surprise: nothing here reads or writes a file. A change goes into a frame in
//! memory (`tail`) and into the index; jobs (`upkeep`) carry frames to the disk.

use std::collections::{BTreeMap, VecDeque};
use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use holm_base::{ByteCount, Op, Revision, Term};
use holm_machine::Folder;

use crate::checkpoint::Fact;
use crate::config::StoreConfig;
use crate::error::StoreError;
use crate::frame::{RecordHead, RecordKind, record_len};
use crate::history::{Place, Slot};
use crate::index::Index;
use crate::layout::{count, narrow, wide};
use crate::open;
use crate::record::{Parts, Record};
use crate::root::{Meta, Root};
use crate::segment::{Segment, SegmentHead, SegmentKind};
use crate::tail::{Stamp, Tail};
use crate::upkeep::Upkeep;

/// A version to be written.
#[derive(Clone, Copy, Debug)]
pub struct NewVersion<'a> {
    /// The key.
    pub key: &'a Bytes,
    /// Its value.
    pub value: &'a Bytes,
    /// The lease it shall hang on; 0 for none.
    pub lease: i64,
}

/// What a put did.
#[derive(Clone, Debug)]
pub struct Put {
    /// The version that it replaced, if the key was there.
    pub previous: Option<Meta>,
    /// The version that it made.
    pub meta: Meta,
    /// The new version's message.
    pub record: Record,
}

/// What a delete did.
#[derive(Clone, Debug)]
pub struct Deleted {
    /// The version that it took away.
    pub previous: Meta,
    /// The revision that the delete belongs to.
    pub main: Revision,
    /// Which change of that revision it is.
    pub sub: u32,
    /// The delete's message: the key and its modification revision, at an island also which update
    /// it is.
    pub record: Record,
}

/// The tables beside the keys: small, durable, held in memory, changed with the same frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FactKind {
    /// A lease; the id is the lease's.
    Lease,
    /// The state of access control.
    Auth,
    /// A user; the id is the name.
    User,
    /// A role; the id is the name.
    Role,
    /// A raised alarm.
    Alarm,
    /// What the cluster agreed on: members, version.
    Cluster,
    /// An option of the keyspace; the id is its name.
    Option,
    /// A window of requests already answered.
    Window,
    /// What the sequencer must find again beside the data: see [`Store::set_sequencer`].
    Sequencer,
    /// What an island has taken in.
    Island,
    /// All that is known of an island's key, where its record does not say it; the id is the key.
    State,
    /// What another island has, until it is installed; the id is the key.
    Staged,
    /// Which concurrent writes met at an island; the id is a number.
    Conflict,
}

/// How far the work behind a compaction has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SweepProgress {
    /// Nothing is left to drop.
    Done,
    /// Call again.
    More,
}

/// What the store takes up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sizes {
    /// Bytes of all files.
    pub file_bytes: ByteCount,
    /// Bytes of the records that are still needed.
    pub retained_bytes: ByteCount,
    /// Bytes of the newest checkpoint; the next will take about as much.
    pub checkpoint_bytes: ByteCount,
    /// Live keys.
    pub keys: u64,
    /// Old versions and deletes that are still readable.
    pub old_versions: u64,
    /// Bytes that wait for a flush.
    pub unflushed_bytes: ByteCount,
    /// Whether the last attempt to allocate a file found the disk full. The store goes on
    /// until its reserve is used up; the next successful allocation clears it.
    pub full: bool,
}

/// All keys, their versions and the facts of one keyspace.
///
/// One thread owns it and makes all changes; readers hold [`Root`]s.
#[derive(Debug)]
pub struct Store {
    pub(crate) config: StoreConfig,
    pub(crate) folder: Arc<dyn Folder>,
    pub(crate) root: Root,
    pub(crate) facts: Index<Fact>,
    pub(crate) tail: Tail,
    /// Bytes of records in each segment that the index or the history point to (I10).
    pub(crate) uses: BTreeMap<u32, u64>,
    /// Deleted keys that are still in the index, oldest delete first.
    pub(crate) dead: VecDeque<(i64, Bytes)>,
    /// The sum of the lengths of all keys in the index, and of all facts.
    pub(crate) key_bytes: u64,
    pub(crate) fact_bytes: u64,
    /// Changes of the revision that is open.
    pub(crate) subs: u32,
    /// The revision that the command in hand makes, if that is not the next number.
    pub(crate) main: Option<i64>,
    /// Whether the command in hand wrote a record.
    pub(crate) dirty: bool,
    pub(crate) applied: Op,
    pub(crate) term: Term,
    /// The op that the sequencer's fact speaks of, once there is one.
    pub(crate) sequenced: Option<Op>,
    pub(crate) next_segment: u32,
    pub(crate) upkeep: Upkeep,
    /// Damage that opening came across and that what was held elsewhere makes good.
    pub(crate) healed: Option<StoreError>,
}

impl Store {
    /// Opens the store in `folder`, or makes one if it is empty: reads the newest checkpoint,
    /// then the frames behind it.
    ///
    /// # Errors
    ///
    /// As [`StoreError`] says. Nothing is changed on disk if a file is damaged or foreign.
    pub fn open(folder: Arc<dyn Folder>, config: StoreConfig) -> Result<Self, StoreError> {
        open::open(folder, config, None)
    }

    /// As [`Store::open`], where the caller still has all commands from the first of these ops
    /// to the last, and applies those above [`Store::applied`] again before anything else. With
    /// that, damage to frames that were durable is no loss, and does not keep the store shut:
    /// see [`Store::healed`].
    ///
    /// # Errors
    ///
    /// As [`Store::open`], if what is held does not reach from the damage to the durable mark.
    pub fn open_with(
        folder: Arc<dyn Folder>,
        config: StoreConfig,
        held: (Op, Op),
    ) -> Result<Self, StoreError> {
        open::open(folder, config, Some(held))
    }

    /// The damage that opening came across, if commands must be applied again because of it.
    #[must_use]
    pub const fn healed(&self) -> Option<&StoreError> {
        self.healed.as_ref()
    }

    /// The working state; it sees the changes of the command in hand.
    ///
    /// Its `revision()` moves at [`Store::end_revision`].
    #[must_use]
    pub const fn root(&self) -> &Root {
        &self.root
    }

    /// The state as it is now, to be held by readers. Call it between commands only. Costs a
    /// few reference counts; the nodes that later changes touch are then copied once.
    #[must_use]
    pub fn snapshot(&self) -> Root {
        self.root.clone()
    }

    /// The command in hand makes this revision, if it changes anything, rather than the next
    /// number. Until [`Store::end_command`].
    ///
    /// # Panics
    ///
    /// If revisions would not rise.
    pub fn begin_revision(&mut self, main: Revision) {
        assert!(
            main.value() > self.root.revision && self.subs == 0,
            "revisions rise"
        );
        self.main = Some(main.value());
    }

    fn open_revision(&self) -> i64 {
        self.main.unwrap_or(self.root.revision + 1)
    }

    /// An island's revisions begin there, not at the first number.
    pub(crate) fn begin_at(&mut self, since: holm_local_first::Stamp) {
        self.root.since = Some(since);
        self.root.revision = self.root.revision.max(since.revision().value());
    }

    /// Writes a version of a key, as part of revision `root().revision() + 1`, or of the one
    /// that [`Store::begin_revision`] named. No I/O.
    pub fn put(&mut self, put: NewVersion<'_>) -> Put {
        self.put_marked(put, Bytes::new())
    }

    /// As [`Store::put`], with a note of which island's update writes it.
    pub(crate) fn put_marked(&mut self, put: NewVersion<'_>, mark: Bytes) -> Put {
        let previous = self.root.index.get(put.key).copied();
        let lived = previous.filter(|slot| slot.version != 0);
        let main = self.open_revision();
        let parts = Parts {
            key: put.key.clone(),
            create: lived.map_or(main, |slot| slot.create),
            modified: main,
            version: lived.map_or(0, |slot| slot.version) + 1,
            value: put.value.clone(),
            lease: put.lease,
            mark,
        };
        let (place, record) = self.write(RecordKind::Put, &parts);
        let slot = Slot {
            modified: main,
            create: parts.create,
            version: parts.version,
            lease: put.lease,
            older: 0,
            sub: self.subs,
            place,
            bytes: narrow(record.bytes().len()),
        };
        let slot = self.enter(put.key, slot, previous);
        self.subs += 1;
        Put {
            previous: lived.as_ref().map(Meta::of),
            meta: Meta::of(&slot),
            record,
        }
    }

    /// Takes a key away, as part of the revision in hand. `None`, and nothing is
    /// changed, if it does not live. No I/O.
    pub fn delete(&mut self, key: &Bytes) -> Option<Deleted> {
        self.delete_marked(key, Bytes::new())
    }

    /// As [`Store::delete`], with a note of which island's update takes it away.
    pub(crate) fn delete_marked(&mut self, key: &Bytes, mark: Bytes) -> Option<Deleted> {
        let previous = *self.root.index.get(key)?;
        if previous.version == 0 {
            return None;
        }
        let main = self.open_revision();
        let parts = Parts {
            key: key.clone(),
            modified: main,
            mark,
            ..Parts::default()
        };
        let (place, record) = self.write(RecordKind::Delete, &parts);
        let slot = Slot {
            modified: main,
            sub: self.subs,
            place,
            bytes: narrow(record.bytes().len()),
            ..Slot::default()
        };
        self.enter(key, slot, Some(previous));
        self.dead.push_back((main, key.clone()));
        self.subs += 1;
        Some(Deleted {
            previous: Meta::of(&previous),
            main: Revision::new(main),
            sub: slot.sub,
            record,
        })
    }

    /// Makes a version the newest of its key, and the one before an old one.
    pub(crate) fn enter(&mut self, key: &[u8], mut slot: Slot, previous: Option<Slot>) -> Slot {
        match previous {
            Some(previous) if self.root.is_past(&previous) => self.unuse(&previous),
            Some(previous) => slot.older = self.root.history.push(previous, slot.modified),
            None => self.key_bytes += count(key.len()),
        }
        *self.uses.entry(slot.place.segment).or_default() += stored_bytes(&slot);
        self.root.index.insert(key, slot);
        slot
    }

    /// Makes the changes since the last call one revision, if there were any. A command may
    /// hold several.
    pub fn end_revision(&mut self) {
        if self.subs > 0 {
            self.root.revision = self.open_revision();
            self.main = None;
            self.subs = 0;
        }
    }

    /// Sets a fact, or removes it. Durable with the command in hand; takes no revision.
    pub fn set_fact(&mut self, kind: FactKind, id: &[u8], value: Option<Bytes>) {
        self.set_fact_at(&fact_key(kind, id), value);
    }

    /// As [`Store::set_fact`], by the whole key.
    pub(crate) fn set_fact_at(&mut self, key: &[u8], value: Option<Bytes>) {
        let record_kind = match value {
            Some(_) => RecordKind::Fact,
            None => RecordKind::FactRemoved,
        };
        let head = RecordHead {
            kind: record_kind,
            main: 0,
            sub: 0,
            key_bytes: narrow(key.len()),
        };
        let size = key.len() + value.as_ref().map_or(0, Bytes::len);
        let record = self.tail.encode(head, size, |out| {
            out.put_slice(key);
            out.put_slice(value.as_deref().unwrap_or_default());
        });
        self.place(0, record);
        self.enter_fact(key, value);
    }

    pub(crate) fn enter_fact(&mut self, key: &[u8], value: Option<Bytes>) {
        let added = value.as_ref().map(|value| count(key.len() + value.len()));
        let previous = match value {
            Some(value) => self.facts.insert(key, Fact(value)),
            None => self.facts.remove(key),
        };
        let gone = previous.map(|fact| count(key.len() + fact.0.len()));
        self.fact_bytes += added.unwrap_or_default();
        self.fact_bytes -= gone.unwrap_or_default();
    }

    /// A fact's value.
    #[must_use]
    pub fn fact(&self, kind: FactKind, id: &[u8]) -> Option<Bytes> {
        let fact = self.facts.get(&fact_key(kind, id));
        fact.map(|fact| fact.0.clone())
    }

    /// Keeps what the sequencer must find again beside the data: its words about the last command
    /// that ended. Call it between commands, whenever [`Store::is_sequencer_due`] says so, and
    /// first of all before the first command of a store that shall have it: from then on what is
    /// found after a crash has data, applied op and this fact of one and the same op (I16).
    pub fn set_sequencer(&mut self, value: Bytes) {
        self.set_beside(value, None);
    }

    /// As [`Store::set_sequencer`], with what an island has taken in.
    pub(crate) fn set_beside(&mut self, value: Bytes, island: Option<Bytes>) {
        assert!(!self.dirty && self.subs == 0, "not within a command");
        if island.is_some() {
            self.set_fact(FactKind::Island, b"", island);
        }
        self.sequenced = Some(self.applied);
        self.set_fact(FactKind::Sequencer, b"", Some(value));
        self.dirty = false;
    }

    /// The newest value that was set, if any was.
    #[must_use]
    pub fn sequencer(&self) -> Option<Bytes> {
        self.fact(FactKind::Sequencer, b"")
    }

    /// Whether the sequencer's fact is older than the data.
    pub(crate) fn is_sequencer_behind(&self) -> bool {
        self.sequenced.is_some_and(|op| op < self.applied)
    }

    /// Visits all facts of a kind in order of their ids.
    pub fn facts(&self, kind: FactKind, each: &mut dyn FnMut(&[u8], &Bytes)) {
        scan_facts(&self.facts, kind, each);
    }

    /// Moves the line below which nothing can be read, as part of the command in hand. What
    /// lies below is dropped by [`Store::sweep`] and given back to the disk by jobs.
    ///
    /// # Panics
    ///
    /// If the line would move backwards or past the current revision: the caller checks.
    pub fn compact(&mut self, revision: Revision) {
        let line = revision.value();
        assert!(
            line >= self.root.compacted && line <= self.root.revision,
            "the line moves forward, up to now"
        );
        let head = RecordHead {
            kind: RecordKind::Compacted,
            main: line,
            sub: 0,
            key_bytes: 0,
        };
        let record = self.tail.encode(head, 0, |_| {});
        self.place(0, record);
        self.root.compacted = line;
    }

    /// Does at most `limit` steps of what is due on the index after a compaction or a
    /// cleaning: drops old versions and deleted keys, points the index to records' copies.
    /// Call it between commands, until it says [`SweepProgress::Done`], after every
    /// [`Store::compact`] and every [`Store::finish`]; 128 steps take about 100 microseconds.
    pub fn sweep(&mut self, limit: usize) -> SweepProgress {
        for _ in 0..limit {
            if !self.sweep_one() {
                return SweepProgress::Done;
            }
        }
        SweepProgress::More
    }

    /// Whether all that the compacted line passed was dropped.
    #[must_use]
    pub fn is_swept(&self) -> bool {
        self.is_swept_to(self.root.compacted)
    }

    /// Whether all was dropped that a compaction to this revision passed. O(1).
    pub(crate) fn is_swept_to(&self, line: i64) -> bool {
        let old = self.root.history.get(self.root.history.base());
        old.is_none_or(|old| old.superseded > line)
            && self.dead.front().is_none_or(|dead| dead.0 >= line)
    }

    fn sweep_one(&mut self) -> bool {
        let line = self.root.compacted;
        if let Some(slot) = self.root.history.pop(line) {
            self.unuse(&slot);
            return true;
        }
        if self.dead.front().is_some_and(|dead| dead.0 < line) {
            let (modified, key) = self.dead.pop_front().expect("there is a front");
            let slot = self.root.index.get(&key).copied();
            let gone = |slot: &Slot| slot.version == 0 && slot.modified == modified;
            if let Some(slot) = slot.filter(gone) {
                self.root.index.remove(&key);
                self.key_bytes -= count(key.len());
                self.unuse(&slot);
            }
            return true;
        }
        self.relink_one()
    }

    fn unuse(&mut self, slot: &Slot) {
        let used = self.uses.get_mut(&slot.place.segment);
        let used = used.expect("I10: a segment that is pointed to is counted");
        *used -= stored_bytes(slot);
    }

    /// Ends the command: its changes, facts and `op` become durable together or not at all.
    ///
    /// # Panics
    ///
    /// If a revision is open, or `op` does not rise.
    pub fn end_command(&mut self, op: Op, term: Term) {
        assert!(self.subs == 0, "end_revision comes first");
        assert!(op > self.applied, "ops rise");
        self.applied = op;
        self.term = term;
        self.main = None;
        self.dirty = false;
        // I16: what has no sequencer's fact behind it is no state to be found after a crash.
        let continues = self.sequenced.is_some();
        self.tail.end_command(self.stamp(), continues);
    }

    /// Ends a part of a command that is not complete yet: what was written so far may go to the
    /// disk.
    pub(crate) fn end_part(&mut self) {
        assert!(self.subs == 0, "end_revision comes first");
        self.dirty = false;
        self.tail.end_command(self.stamp(), false);
    }

    pub(crate) const fn stamp(&self) -> Stamp {
        Stamp {
            op: self.applied.value(),
            term: self.term.value(),
            revision: self.root.revision,
        }
    }

    /// The op of the last command that ended.
    #[must_use]
    pub const fn applied(&self) -> Op {
        self.applied
    }

    /// The term of the last command that ended.
    #[must_use]
    pub const fn term(&self) -> Term {
        self.term
    }

    /// Encodes and places a put or a delete.
    pub(crate) fn write(&mut self, kind: RecordKind, parts: &Parts) -> (Place, Record) {
        let head = RecordHead {
            kind,
            main: parts.modified,
            sub: self.subs,
            key_bytes: narrow(parts.key.len()),
        };
        let size = parts.key.len() + parts.value.len() + parts.mark.len();
        let mut body = 0;
        let record = self.tail.encode(head, size, |out: &mut BytesMut| {
            let start = out.len();
            Record::encode_into(parts, out);
            body = out.len() - start;
        });
        let message = record.slice(crate::frame::RECORD_HEAD..crate::frame::RECORD_HEAD + body);
        let place = self.place(parts.modified, record);
        (place, Record::from_bytes(message))
    }

    /// Gives an encoded record its place, in a new segment if it must be.
    fn place(&mut self, main: i64, record: Bytes) -> Place {
        if !self.tail.fits(record.len()) {
            self.roll(record.len());
        }
        self.dirty = true;
        let place = self.tail.place(main, self.root.revision + 1, record);
        self.tail.bound(self.stamp());
        place
    }

    pub(crate) fn roll(&mut self, len: usize) {
        let continues = self.dirty || self.sequenced.is_some();
        let bytes = Tail::segment_bytes(len).next_multiple_of(4096);
        // Within an island's revision the next number is not the revision in hand: a reader that
        // begins at this one would begin here, and miss what lies in the segment before.
        let first = if self.subs > 0 {
            self.open_revision()
        } else {
            self.root.revision + 1
        };
        let head = SegmentHead {
            cluster: self.config.cluster,
            group: self.config.group,
            kind: SegmentKind::Tail,
            number: self.next_segment,
            first: (first, self.subs),
            first_frame: self.tail.next_frame(),
        };
        self.next_segment += 1;
        let bytes = bytes.max(self.config.segment_bytes.value());
        let segment = Arc::new(Segment::new(&head, bytes));
        Arc::make_mut(&mut self.root.table).insert(Arc::clone(&segment));
        let stamp = self.stamp();
        self.tail.roll(segment, stamp, continues);
    }

    /// What the store takes up. O(number of segments).
    #[must_use]
    pub fn sizes(&self) -> Sizes {
        Sizes {
            file_bytes: ByteCount::new(self.file_bytes()),
            retained_bytes: ByteCount::new(self.uses.values().sum()),
            checkpoint_bytes: ByteCount::new(self.upkeep.checkpoint_bytes()),
            keys: self.root.index.live(),
            old_versions: self.root.history.len(),
            unflushed_bytes: ByteCount::new(self.tail.waiting() + self.upkeep.in_flight()),
            full: self.upkeep.full(),
        }
    }

    /// Whether so much waits for the disk that no further command should be applied until a
    /// flush has finished. Not while the disk is full: then no flush finishes, and what must
    /// be applied is the alarm and the deletes behind it. What waits is bounded by the log,
    /// which takes nothing more once its reserve is used up.
    #[must_use]
    pub const fn must_wait(&self) -> bool {
        let waiting = self.tail.waiting() + self.upkeep.in_flight();
        waiting >= self.config.unflushed_bytes_max.value() && !self.upkeep.full()
    }

    /// The op through which a restart needs no log. The log may be cut up to here.
    #[must_use]
    pub const fn durable_op(&self) -> Op {
        Op::new(self.upkeep.durable().op)
    }

    /// Whether a flush, now, would bring [`Store::durable_op`] forward.
    pub(crate) fn is_behind(&self) -> bool {
        self.tail.is_behind(self.applied.value())
    }
}

/// Visits all facts of a kind in order of their ids.
pub(crate) fn scan_facts(facts: &Index<Fact>, kind: FactKind, each: &mut dyn FnMut(&[u8], &Bytes)) {
    let code = kind.code();
    let _end = facts.scan(&[code], &mut |key, fact| {
        if key[0] != code {
            return ControlFlow::Break(());
        }
        each(&key[1..], &fact.0);
        ControlFlow::Continue(())
    });
}

/// What a version's record takes up in its segment.
pub(crate) fn stored_bytes(slot: &Slot) -> u64 {
    count(record_len(wide(slot.bytes)))
}

fn fact_key(kind: FactKind, id: &[u8]) -> Vec<u8> {
    let mut key = Vec::with_capacity(id.len() + 1);
    key.push(kind.code());
    key.extend_from_slice(id);
    key
}

impl FactKind {
    /// A fact's whole key.
    pub(crate) fn key(self, id: &[u8]) -> Vec<u8> {
        fact_key(self, id)
    }

    /// Whether a fact's whole key is one of this kind.
    pub(crate) fn owns(self, key: &[u8]) -> bool {
        key.first() == Some(&self.code())
    }

    const fn code(self) -> u8 {
        match self {
            Self::Lease => 1,
            Self::Auth => 2,
            Self::User => 3,
            Self::Role => 4,
            Self::Alarm => 5,
            Self::Cluster => 6,
            Self::Option => 7,
            Self::Window => 8,
            Self::Sequencer => 9,
            Self::Island => 10,
            Self::State => 11,
            Self::Staged => 12,
            Self::Conflict => 13,
        }
    }
}
