//! What readers pin: one state of the keyspace, unchanged for as long as it is held.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;
use holm_base::Revision;

use crate::range::KeyRange;
use crate::record::Record;
use crate::store::StoreError;

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
    pub(crate) location: usize,
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
    /// A put's complete message; a delete's has the key and its modification revision only.
    pub record: Record,
}

/// One state of the keyspace.
///
/// Cloning costs a few reference counts, whatever the size. A clone never changes, and all
/// of it stays readable while it is held, whatever is compacted and cleaned meanwhile.
#[derive(Clone, Debug)]
pub struct Root {
    pub(crate) keys: Arc<BTreeMap<Bytes, Vec<(Meta, ChangeKind)>>>,
    pub(crate) log: Arc<Vec<Change>>,
    pub(crate) revision: Revision,
    pub(crate) compacted: Revision,
}

impl Root {
    /// The newest revision. A fresh keyspace is at 1.
    #[must_use]
    pub const fn revision(&self) -> Revision {
        self.revision
    }

    /// The revision that was compacted last: the oldest one that can be read. 0 if none was.
    #[must_use]
    pub const fn compacted(&self) -> Revision {
        self.compacted
    }

    /// The key's version now, changes of the command in hand included. O(log n), no I/O.
    #[must_use]
    pub fn get(&self, key: &[u8]) -> Option<Meta> {
        let (meta, kind) = self.keys.get(key)?.last()?;
        (*kind == ChangeKind::Put).then_some(*meta)
    }

    /// The key's version at a revision. The caller has checked that it lies within
    /// `compacted()..=revision()`; below, the answer is meaningless. O(log n) and O(log) of
    /// the key's versions, no I/O.
    #[must_use]
    pub fn get_at(&self, key: &[u8], at: Revision) -> Option<Meta> {
        version_at(self.keys.get(key)?, at)
    }

    /// How many keys of the range live now. O(log n).
    #[must_use]
    pub fn count(&self, range: &KeyRange) -> u64 {
        let mut count = 0;
        self.scan(range, None, &mut |_, _| {
            count += 1;
            ControlFlow::Continue(())
        });
        count
    }

    /// Visits the live keys of the range in order, as they are now or were at `at` (checked by
    /// the caller as in [`Root::get_at`]), until `each` breaks off. No I/O.
    pub fn scan(
        &self,
        range: &KeyRange,
        at: Option<Revision>,
        each: &mut dyn FnMut(&[u8], &Meta) -> ControlFlow<()>,
    ) {
        let at = at.unwrap_or(Revision::new(i64::MAX));
        for (key, versions) in self.keys.range(range.first().clone()..) {
            if !range.contains(key) {
                return;
            }
            if let Some(meta) = version_at(versions, at)
                && each(key, &meta).is_break()
            {
                return;
            }
        }
    }

    /// The message of a version that this root gave. From memory if it was not yet written,
    /// else one read, its checksum checked.
    ///
    /// # Errors
    ///
    /// [`StoreError::Damaged`] if the bytes are not what was written; everything else stays
    /// readable.
    pub fn read(&self, meta: &Meta) -> Result<Record, StoreError> {
        Ok(self.log[meta.location].record.clone())
    }

    /// The messages of many versions, in the order asked for. Versions that lie side by side
    /// share one read.
    ///
    /// # Errors
    ///
    /// As [`Root::read`]; `each` has then seen those before.
    pub fn read_many(
        &self,
        metas: &[Meta],
        each: &mut dyn FnMut(Record),
    ) -> Result<(), StoreError> {
        for meta in metas {
            each(self.read(meta)?);
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
        let mut bytes = 0;
        let mut last = None;
        for change in self.log.iter() {
            if change.main < from || !self.keeps(change) {
                continue;
            }
            if change.main > upto {
                break;
            }
            if bytes >= bytes_max && last != Some(change.main) {
                return Ok(change.main);
            }
            bytes += change.record.bytes().len();
            last = Some(change.main);
            each(change.clone());
        }
        Ok(upto.next())
    }

    fn keeps(&self, change: &Change) -> bool {
        change.main > self.compacted
            || (change.main == self.compacted && change.kind == ChangeKind::Delete)
            || self
                .get_at(&change.key, self.compacted)
                .is_some_and(|meta| (meta.modified, meta.sub) == (change.main, change.sub))
    }
}

fn version_at(versions: &[(Meta, ChangeKind)], at: Revision) -> Option<Meta> {
    let newer = versions.partition_point(|(meta, _)| meta.modified <= at);
    let (meta, kind) = versions.get(newer.checked_sub(1)?)?;
    (*kind == ChangeKind::Put).then_some(*meta)
}
