//! Deletes: those that win and leave a marker, and those that a put may still turn out not to have seen.
//!
//! What would surprise: that a key was deleted is not part of its state (local-first, section 5). The delete's record
//! says which update it was, and stays until compaction passes it: so a put which saw none of it is told as a conflict
//! here too, and not only where it was made, and a replay of the log tells the same.

use bytes::Bytes;
use holm_local_first::{Change, Exists, Mark, State, Vector};

use super::Isle;
use crate::refusal::Refusal;
use crate::root::Root;
use crate::store::Store;

/// The delete by which a key went, if it is told: that of a session is not, and none that was
/// compacted.
pub(super) fn removed_by(root: &Root, key: &[u8]) -> Result<Option<Mark>, Refusal> {
    let Some(deleted) = root.deleted(key) else {
        return Ok(None);
    };
    let corrupt = |found: String| Refusal::Corrupt {
        place: format!("the delete of a key of {} bytes: {found}", key.len()),
    };
    let parts = root.read(&deleted)?.decode();
    let parts = parts.ok_or_else(|| corrupt("its record is none".to_owned()))?;
    if parts.mark.is_empty() {
        return Ok(None);
    }
    let mark = Mark::decode(&parts.mark).map_err(|error| corrupt(error.to_string()))?;
    Ok(Some(mark))
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
    pub(super) fn own_mark(&self) -> Mark {
        let (dot, hlc) = self.island.next(self.unix_ms);
        Mark { dot, hlc }
    }

    /// A client deletes keys, and its delete wins: each leaves a marker in place of all that was seen of it.
    pub(super) fn erase(&mut self, store: &mut Store, keys: &[Bytes], mark: Mark) {
        for key in keys {
            let mut state = State::new();
            state.erase(&Vector::new(), mark);
            self.keep_state(store, key, Some(&state));
            self.changes.push(Change::Erase { key: key.clone() });
        }
    }
}
