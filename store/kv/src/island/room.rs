//! How much of an update is left: what a command may still change so that others can take it in.
//!
//! An update has a longest length and a greatest number of changes. Whatever a command would
//! change is counted before it changes anything, and what does not fit is refused.
//!
//! What would surprise: where deletes win a range is its keys, one change each, so that a delete
//! which is one change elsewhere may be too large there.

use std::ops::ControlFlow;

use bytes::Bytes;
use holm_local_first::{CHANGES_BYTES_MAX, CHANGES_MAX, Change};

use super::Isle;
use crate::command::{DeleteRange, Put};
use crate::range::KeyRange;
use crate::refusal::Refusal;
use crate::store::Store;

/// What a change takes beside its key and value, at most.
const CHANGE_MORE: usize = 24;
/// What an erase takes beside its key, at most.
const ERASE_MORE: usize = 6;

/// What is left of an update.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room {
    changes: usize,
    bytes: usize,
}

impl Default for Room {
    fn default() -> Self {
        Self {
            changes: CHANGES_MAX,
            bytes: CHANGES_BYTES_MAX,
        }
    }
}

impl Room {
    /// Whether so much fitted; it is taken then.
    pub(super) fn take(&mut self, changes: usize, bytes: usize) -> bool {
        let left = self.changes.checked_sub(changes);
        let Some((changes, bytes)) = left.zip(self.bytes.checked_sub(bytes)) else {
            return false;
        };
        *self = Self { changes, bytes };
        true
    }

    fn ask(&mut self, changes: usize, bytes: usize) -> Result<(), Refusal> {
        let is_taken = self.take(changes, bytes);
        is_taken.then_some(()).ok_or(Refusal::TooLarge)
    }

    /// A key's value, whole.
    pub(super) fn take_value(&mut self, key: &Bytes, value: &Bytes) -> bool {
        self.take(1, key.len() + value.len() + CHANGE_MORE)
    }
}

impl Isle {
    /// Whether a client's put fits the keyspace's type and an update; changes nothing.
    pub(crate) fn check(&self, store: &Store, put: &Put, room: &mut Room) -> Result<(), Refusal> {
        // A delete of the same command may undo it: that is another change.
        room.ask(1, put.key.len() + CHANGE_MORE)?;
        if put.ignore_value {
            // What a put keeps was put once, and is part of the record.
            let there = store.root().get(&put.key);
            let bytes = there.map_or(0, |meta| meta.record_bytes);
            let bytes = usize::try_from(bytes).map_err(|_long| Refusal::TooLarge)?;
            return room.ask(1, put.key.len() + bytes + CHANGE_MORE);
        }
        if !self.reads_first() {
            return room.ask(1, put.key.len() + put.value.len() + CHANGE_MORE);
        }
        let (state, _recorded) = self.state(store, &put.key)?;
        let written = (put.key.clone(), put.lease, put.value.clone());
        let change: Change = self.config.rules.put(&state, written)?;
        room.ask(1, change.size())
    }

    /// Whether a client's delete fits an update; changes nothing. Cost: where deletes win, a look
    /// at each key of the range.
    pub(crate) fn check_delete(
        &self,
        store: &Store,
        delete: &DeleteRange,
        room: &mut Room,
    ) -> Result<(), Refusal> {
        if !self.deletes_win() {
            let bytes = delete.key.len() + delete.range_end.len();
            return room.ask(1, bytes + CHANGE_MORE);
        }
        let range = KeyRange::new(delete.key.clone(), delete.range_end.clone());
        let mut fits = Ok(());
        store.root().scan(&range, None, &mut |key, _meta| {
            fits = room.ask(1, key.len() + ERASE_MORE);
            if fits.is_ok() {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        });
        fits
    }
}
