//! Applying one command: checks, effects, and the events that watchers will see.
//!
//! What would surprise: nothing here knows the time or this node's flags, so every replica,
//! and every replay, comes to the same. Once the first effect is made nothing refuses any
//! more; damage that a read meets then takes the answer's place, and the effects stay.

use std::cell::Cell;
use std::ops::ControlFlow;

use bytes::Bytes;
use holm_base::Revision;

use crate::command::{Compare, CompareResult, CompareTarget, DeleteRange, Put, Range, Txn, TxnOp};
use crate::counts::Counts;
use crate::hub::{Event, Hub, Previous};
use crate::island::{Isle, Room};
use crate::lease::{Leases, Removed};
use crate::outcome::Outcome;
use crate::range::KeyRange;
use crate::read;
use crate::record::Record;
use crate::refusal::Refusal;
use crate::root::{ChangeKind, Meta, Root};
use crate::store::{FactKind, NewVersion, Store};
use crate::txn::{Path, Runner};

/// Says that revision 0 was compacted: by etcd's rules that can be done once.
const COMPACTED_AT_ZERO: &[u8] = b"compacted at 0";

/// What applying changes: keys, their leases, and the events of the batch.
#[derive(Debug)]
pub(crate) struct Work<'a> {
    pub(crate) store: &'a mut Store,
    pub(crate) leases: &'a mut Leases,
    pub(crate) events: &'a mut Vec<Event>,
    pub(crate) hub: &'a Hub,
    pub(crate) counts: &'a mut Counts,
    /// The island that the keyspace is, if it is one.
    pub(crate) isle: Option<&'a mut Isle>,
}

impl Work<'_> {
    /// A put by itself.
    pub(crate) fn put_alone(&mut self, put: &Put) -> Result<Outcome, Refusal> {
        check_lease(self.leases, put)?;
        check_kept(self.store, put)?;
        if let Some(isle) = &self.isle {
            isle.check(self.store, put, &mut Room::default())?;
        }
        let outcome = self.put(put);
        self.store.end_revision();
        outcome
    }

    /// A delete by itself.
    pub(crate) fn delete_alone(&mut self, delete: &DeleteRange) -> Result<Outcome, Refusal> {
        if let Some(isle) = &self.isle {
            isle.check_delete(self.store, delete, &mut Room::default())?;
        }
        let outcome = self.delete(delete);
        self.store.end_revision();
        outcome
    }

    /// A transaction.
    pub(crate) fn txn(&mut self, txn: &Txn) -> Result<Outcome, Refusal> {
        if self.isle.is_some() {
            check_island(self.store.root(), txn)?;
        }
        let (store, leases, isle) = (&*self.store, &*self.leases, self.isle.as_deref());
        let room = Cell::new(Room::default());
        let path = Path::choose(store.root(), txn, &|put| {
            check_kept(store, put)?;
            check_lease(leases, put)?;
            let mut left = room.get();
            isle.map_or(Ok(()), |isle| isle.check(store, put, &mut left))?;
            room.set(left);
            Ok(())
        })?;
        if let Some(isle) = isle {
            let mut left = room.get();
            path.check(txn, &mut 0, &mut |op| match op {
                TxnOp::DeleteRange(delete) => isle.check_delete(store, delete, &mut left),
                TxnOp::Range(_) | TxnOp::Put(_) | TxnOp::Txn(_) => Ok(()),
            })?;
        }
        let before = self.counts.operations();
        let outcome = path.walk(txn, &mut 0, self);
        self.counts.txns += u64::from(self.counts.operations() - before > 1);
        self.store.end_revision();
        outcome
    }

    /// Moves the compaction line.
    pub(crate) fn compact(&mut self, revision: i64) -> Result<Outcome, Refusal> {
        let (compacted, current) = (self.store.root().compacted(), self.store.root().revision());
        if self.store.root().is_foreign(revision) {
            let compacted = self.store.root().oldest();
            return Err(Refusal::Compacted { compacted });
        }
        // Revision 0 can be compacted once, as etcd's line starts below it.
        let is_first = revision == 0
            && compacted == Revision::ZERO
            && self
                .store
                .fact(FactKind::Option, COMPACTED_AT_ZERO)
                .is_none();
        if revision <= compacted.value() && !is_first {
            return Err(Refusal::Compacted { compacted });
        }
        if revision > current.value() {
            return Err(Refusal::FutureRevision { current });
        }
        if is_first {
            let mark = Some(Bytes::new());
            self.store
                .set_fact(FactKind::Option, COMPACTED_AT_ZERO, mark);
        } else {
            self.store.compact(Revision::new(revision));
        }
        Ok(Outcome::Done)
    }

    /// Ends a lease: its keys go in sorted order and one revision; at an island in several, if
    /// they are more than an update holds.
    pub(crate) fn end_lease(&mut self, id: i64) -> Option<Removed> {
        let removed = self.leases.remove(self.store, id)?;
        for key in &removed.keys {
            if self.isle.is_some() {
                self.end_key(key, id);
            } else {
                self.delete_key(key, Bytes::new());
            }
        }
        self.store.end_revision();
        Some(removed)
    }

    /// A client's command deletes these keys of a range: an island's others shall hear of it.
    /// Gives the mark of its records.
    fn note_deleted(&mut self, range: &KeyRange, keys: &[Bytes]) -> Bytes {
        let isle = self.isle.as_deref_mut();
        isle.map_or_else(Bytes::new, |isle| isle.deleted(self.store, range, keys))
    }

    /// A client's command writes a key.
    pub(crate) fn put_own(
        &mut self,
        key: &Bytes,
        value: &Bytes,
        lease: i64,
    ) -> Result<(), Refusal> {
        if self.isle.is_some() {
            return self.put_island(key, (value, lease));
        }
        self.write(key, (value, lease), Bytes::new(), lease);
        Ok(())
    }

    /// Writes a key; `holder` is the lease that ends it here.
    pub(crate) fn write(
        &mut self,
        key: &Bytes,
        (value, lease): (&Bytes, i64),
        mark: Bytes,
        holder: i64,
    ) {
        let written = self
            .store
            .put_marked(NewVersion { key, value, lease }, mark);
        let before = written.previous;
        let previous = before.map_or(Previous::Absent, |meta| self.previous(key, &meta));
        let old_lease = before.map_or(0, |meta| meta.lease);
        if old_lease != holder {
            self.leases.detach(old_lease, key);
            self.leases.attach(holder, key);
        }
        self.events.push(Event {
            main: written.meta.modified,
            kind: ChangeKind::Put,
            key: key.clone(),
            record: written.record,
            previous,
        });
    }

    pub(crate) fn delete_key(&mut self, key: &Bytes, mark: Bytes) {
        let Some(deleted) = self.store.delete_marked(key, mark) else {
            return;
        };
        let previous = self.previous(key, &deleted.previous);
        self.leases.detach(deleted.previous.lease, key);
        self.events.push(Event {
            main: deleted.main,
            kind: ChangeKind::Delete,
            key: key.clone(),
            record: deleted.record,
            previous,
        });
    }

    /// What watchers may want to know of the version before: read only if one in range does.
    fn previous(&self, key: &[u8], meta: &Meta) -> Previous {
        let is_older = meta.modified <= self.store.root().revision();
        if !is_older || !self.hub.wants_previous(key) {
            return Previous::Unread;
        }
        match self.store.root().read(meta) {
            Ok(record) => Previous::Read(record),
            Err(_damage) => Previous::Unread,
        }
    }

    fn read_all(&self, metas: &[Meta]) -> Result<Vec<Record>, Refusal> {
        let mut records = Vec::with_capacity(metas.len());
        let root = self.store.root();
        root.read_many(metas, &mut |record| records.push(record))?;
        Ok(records)
    }

    /// What a put writes: its own value and lease, or those that are there.
    fn kept(&self, put: &Put, before: Option<&Meta>) -> Result<(Bytes, i64), Refusal> {
        let value = match before {
            Some(meta) if put.ignore_value => read::value_of(&self.store.root().read(meta)?),
            Some(_) | None => put.value.clone(),
        };
        let lease = match before {
            // Another island's lease is not ours to hang a key on.
            Some(meta) if put.ignore_lease && self.isle.is_some() => {
                if self.leases.contains(meta.lease) {
                    meta.lease
                } else {
                    0
                }
            }
            Some(meta) if put.ignore_lease => meta.lease,
            Some(_) | None => put.lease,
        };
        Ok((value, lease))
    }
}

impl Runner for Work<'_> {
    fn range(&mut self, range: &Range) -> Result<Outcome, Refusal> {
        self.counts.ranges += 1;
        let at = (range.revision > 0).then(|| Revision::new(range.revision));
        Ok(Outcome::Range(read::outcome(self.store.root(), range, at)?))
    }

    fn put(&mut self, put: &Put) -> Result<Outcome, Refusal> {
        self.counts.puts += 1;
        // Looked up only by who wants to know: writing looks it up again.
        let is_read = put.ignore_value || put.ignore_lease || put.prev_kv;
        let before = is_read.then(|| self.store.root().get(&put.key)).flatten();
        let (value, lease) = self.kept(put, before.as_ref())?;
        let prev = match &before {
            Some(meta) if put.prev_kv => Some(self.store.root().read(meta)?),
            Some(_) | None => None,
        };
        self.put_own(&put.key, &value, lease)?;
        Ok(Outcome::Put { prev })
    }

    fn delete(&mut self, delete: &DeleteRange) -> Result<Outcome, Refusal> {
        self.counts.deletes += 1;
        let range = KeyRange::new(delete.key.clone(), delete.range_end.clone());
        let (mut keys, mut metas) = (Vec::new(), Vec::new());
        let root = self.store.root();
        if let KeyRange::One(key) = &range {
            if let Some(meta) = root.get(key) {
                keys.push(key.clone());
                metas.push(meta);
            }
        } else {
            root.scan(&range, None, &mut |key, meta| {
                keys.push(Bytes::copy_from_slice(key));
                metas.push(*meta);
                ControlFlow::Continue(())
            });
        }
        let prev = if delete.prev_kv {
            self.read_all(&metas)?
        } else {
            Vec::new()
        };
        let mark = self.note_deleted(&range, &keys);
        for key in &keys {
            self.delete_key(key, mark.clone());
        }
        let deleted = i64::try_from(keys.len()).expect("keys are fewer than their bytes");
        Ok(Outcome::DeleteRange { deleted, prev })
    }
}

fn check_lease(leases: &Leases, put: &Put) -> Result<(), Refusal> {
    if put.lease == 0 || leases.contains(put.lease) {
        Ok(())
    } else {
        Err(Refusal::LeaseNotFound)
    }
}

/// What an island cannot promise: a place in a queue of all, and an order with other islands'
/// revisions.
fn check_island(root: &Root, txn: &Txn) -> Result<(), Refusal> {
    if is_place_in_queue(txn) {
        return Err(Refusal::NoMutualExclusion);
    }
    for compare in &txn.compare {
        let (CompareTarget::Create(named) | CompareTarget::Mod(named)) = compare.target else {
            continue;
        };
        let is_equal = compare.result == CompareResult::Equal;
        if !is_equal && named > 0 && root.is_foreign(named) {
            let revision = Revision::new(named);
            return Err(Refusal::ForeignRevision { revision });
        }
    }
    let ops = txn.success.iter().chain(&txn.failure);
    for op in ops {
        if let TxnOp::Txn(inner) = op {
            check_island(root, inner)?;
        }
    }
    Ok(())
}

/// Whether a transaction is what etcd's own clients make locks and elections of: a key that ends
/// with a lease's number is put, on that lease, if it is not there.
fn is_place_in_queue(txn: &Txn) -> bool {
    txn.success.iter().any(|op| {
        let TxnOp::Put(put) = op else {
            return false;
        };
        let place = format!("/{:x}", put.lease);
        let is_absent = |it: &Compare| {
            it.key == put.key
                && it.result == CompareResult::Equal
                && it.target == CompareTarget::Create(0)
        };
        put.lease != 0 && put.key.ends_with(place.as_bytes()) && txn.compare.iter().any(is_absent)
    })
}

/// A put that keeps a value or lease needs the key; a value that is kept must be readable.
fn check_kept(store: &Store, put: &Put) -> Result<(), Refusal> {
    if !put.ignore_value && !put.ignore_lease {
        return Ok(());
    }
    let meta = store.root().get(&put.key).ok_or(Refusal::KeyNotFound)?;
    if put.ignore_value {
        drop(store.root().read(&meta)?);
    }
    Ok(())
}
