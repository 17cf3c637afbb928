//! What a cache keeps: values under their keys and numbers, and which was read last.
//!
//! What would surprise: what a home that is gone has sent is kept too, where it may be asked for.
//! It is never answered within a bound, and is the first to be thrown out.

use alloc::collections::BTreeMap;

use bytes::Bytes;
use holm_base::{Revision, Time};

use super::OnCut;
use crate::message::{Found, KeyId};

/// What an entry takes beside its key and value: three maps' nodes.
const OVERHEAD: usize = 256;

#[derive(Clone, Debug)]
struct Entry {
    id: KeyId,
    found: Found,
    /// Whether the home is to be told of the next read.
    is_unread: bool,
    /// When it was read last, as a count of reads.
    used: u64,
}

/// What a home that is gone has said of a key.
#[derive(Clone, Debug)]
struct Past {
    found: Found,
    revision: Revision,
    complete: Time,
}

/// The entries of a cache.
#[derive(Clone, Debug)]
pub(super) struct Entries {
    bytes_max: usize,
    on_cut: OnCut,
    entries: BTreeMap<Bytes, Entry>,
    names: BTreeMap<KeyId, Bytes>,
    /// Keys by when they were read last.
    order: BTreeMap<u64, Bytes>,
    past: BTreeMap<Bytes, Past>,
    bytes: usize,
    uses: u64,
}

impl Entries {
    pub(super) const fn new(bytes_max: usize, on_cut: OnCut) -> Self {
        Self {
            bytes_max,
            on_cut,
            entries: BTreeMap::new(),
            names: BTreeMap::new(),
            order: BTreeMap::new(),
            past: BTreeMap::new(),
            bytes: 0,
            uses: 0,
        }
    }

    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// What a key holds, and its number if the home has to be told of this read.
    pub(super) fn read(&mut self, key: &Bytes) -> Option<(Found, Option<KeyId>)> {
        let entry = self.entries.get_mut(key)?;
        let news = core::mem::take(&mut entry.is_unread).then_some(entry.id);
        self.uses += 1;
        let name = self.order.remove(&entry.used);
        entry.used = self.uses;
        // The same memory as in the other maps.
        self.order
            .insert(self.uses, name.expect("each entry has its turn"));
        Some((entry.found.clone(), news))
    }

    /// What is known of a key, as of which revision, and complete as of when.
    pub(super) fn stale(
        &self,
        key: &Bytes,
        complete: Option<Time>,
        revision: Revision,
    ) -> Option<(Found, Revision, Time)> {
        match self.entries.get(key) {
            Some(entry) => complete.map(|at| (entry.found.clone(), revision, at)),
            None => {
                let past = self.past.get(key)?;
                Some((past.found.clone(), past.revision, past.complete))
            }
        }
    }

    pub(super) fn insert(&mut self, key: Bytes, id: KeyId, found: Found) {
        self.remove(id);
        if let Some(known) = self.entries.get(&key).map(|it| it.id) {
            self.remove(known);
        }
        self.drop_past(&key);
        self.uses += 1;
        self.bytes += weight(&key, &found);
        let entry = Entry {
            id,
            found,
            is_unread: false,
            used: self.uses,
        };
        self.names.insert(id, key.clone());
        self.order.insert(self.uses, key.clone());
        self.entries.insert(key, entry);
    }

    pub(super) fn update(&mut self, id: KeyId, found: Found) {
        let Some(key) = self.names.get(&id) else {
            return;
        };
        let Some(entry) = self.entries.get_mut(key) else {
            return;
        };
        self.bytes = self.bytes - weight(key, &entry.found) + weight(key, &found);
        entry.found = found;
        entry.is_unread = true;
    }

    pub(super) fn remove(&mut self, id: KeyId) {
        if let Some(key) = self.names.remove(&id)
            && let Some(entry) = self.entries.remove(&key)
        {
            self.order.remove(&entry.used);
            self.bytes -= weight(&key, &entry.found);
        }
    }

    /// Throws one out if there is too much; its number, if the home knows it by one.
    pub(super) fn make_room(&mut self) -> Option<Option<KeyId>> {
        if self.bytes <= self.bytes_max {
            return None;
        }
        if let Some(key) = self.past.keys().next().cloned() {
            self.drop_past(&key);
            return Some(None);
        }
        let (_used, key) = self.order.first_key_value()?;
        let id = self.entries.get(key)?.id;
        self.remove(id);
        Some(Some(id))
    }

    /// The home is gone: what it has said was complete at `complete`, up to `revision`.
    pub(super) fn end(&mut self, complete: Option<Time>, revision: Revision) {
        self.names.clear();
        self.order.clear();
        for (key, entry) in core::mem::take(&mut self.entries) {
            self.bytes -= weight(&key, &entry.found);
            let Some(complete) = complete.filter(|_| self.on_cut == OnCut::Serve) else {
                continue;
            };
            self.drop_past(&key);
            self.bytes += weight(&key, &entry.found);
            let past = Past {
                found: entry.found,
                revision,
                complete,
            };
            self.past.insert(key, past);
        }
    }

    /// Keeps nothing.
    pub(super) fn forget(&mut self) {
        *self = Self::new(self.bytes_max, self.on_cut);
    }

    fn drop_past(&mut self, key: &Bytes) {
        if let Some(past) = self.past.remove(key) {
            self.bytes -= weight(key, &past.found);
        }
    }
}

fn weight(key: &Bytes, found: &Found) -> usize {
    let value = found.value.as_ref().map_or(0, Bytes::len);
    key.len() + value + OVERHEAD
}
