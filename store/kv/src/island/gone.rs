//! Deletes: those that win and leave a marker, and those that a put may still turn out not to have seen.
//!
//! What would surprise: that a key was deleted is not kept (local-first, section 5). The newest deletes since this node
//! started are remembered all the same, so that a put which saw none of them is told as a conflict here too, and not only
//! where it was made. That memory is of this process: after a crash such a conflict may be missing that was told before,
//! and its number may stand for the next one. Its id never does: it is made of what met.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use holm_local_first::{Change, Exists, Mark, State, Vector};

use super::Isle;
use crate::store::Store;

/// So many deletes are remembered.
const REMEMBERED: usize = 16_384;

/// The newest deletes, by key.
#[derive(Debug, Default)]
pub(super) struct Gone {
    by_key: BTreeMap<Bytes, Mark>,
    order: VecDeque<Bytes>,
}

impl Gone {
    /// A key went, and this update deleted it.
    pub(super) fn note(&mut self, key: &Bytes, mark: Mark) {
        if self.by_key.insert(key.clone(), mark).is_none() {
            self.order.push_back(key.clone());
        }
        while self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.by_key.remove(&oldest);
        }
    }

    /// The delete by which a key went, if that is remembered.
    pub(super) fn of(&self, key: &[u8]) -> Option<Mark> {
        self.by_key.get(key).copied()
    }
}

/// Whether nothing but a marker keeps a state from being told by a record: no writes stand side by side.
pub(super) fn is_calm(state: &State) -> bool {
    let is_one = state.siblings().len() <= 1 && state.rows().is_empty();
    is_one && state.deltas().is_empty() && state.runs().is_empty()
}

impl Isle {
    pub(super) fn deletes_win(&self) -> bool {
        self.config.rules.exists == Exists::DeleteWins
    }

    /// The update that the command in hand will be.
    fn own_mark(&self) -> Mark {
        let (dot, hlc) = self.island.next(self.unix_ms);
        Mark { dot, hlc }
    }

    /// A client deletes keys, and its delete wins: each leaves a marker in place of all that was seen of it.
    pub(super) fn erase(&mut self, store: &mut Store, keys: &[Bytes]) {
        let mark = self.own_mark();
        for key in keys {
            let mut state = State::new();
            state.erase(&Vector::new(), mark);
            self.keep_state(store, key, Some(&state));
            self.changes.push(Change::Erase { key: key.clone() });
        }
    }

    /// A client deletes keys.
    pub(super) fn note_gone(&mut self, keys: &[Bytes]) {
        let mark = self.own_mark();
        keys.iter().for_each(|key| self.gone.note(key, mark));
    }
}
