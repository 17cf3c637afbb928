//! The twin of plain values, shared by the tests of islands with and without engines: it keeps
//! all updates and merges nothing.

use std::collections::BTreeMap;

use bytes::Bytes;
use holm_local_first::{Change, State, Update, Vector};

/// What the keys must be where exactly these updates were taken in: each put that no other
/// update saw that touches its key.
pub(crate) fn twin(all: &[Update], vector: &Vector) -> BTreeMap<Bytes, State> {
    let here: Vec<&Update> = all.iter().filter(|it| vector.covers(it.dot)).collect();
    let mut keys: BTreeMap<Bytes, State> = BTreeMap::new();
    // What was made again is of account as of then.
    let then = |update: &Update, change: &Change| {
        let again = change.in_its_time(update).map(|(then, _)| then);
        again.unwrap_or_else(|| update.clone())
    };
    for update in &here {
        for change in &update.changes {
            let again = change.in_its_time(update);
            let plain = again.as_ref().map_or(change, |(_, it)| it);
            let Change::Put { key, .. } = plain else {
                continue;
            };
            let is_seen = |other: &&Update| {
                let mut changes = other.changes.iter().filter(|it| it.touches(key));
                changes.any(|it| then(other, it).deps.covers(update.dot))
            };
            if !here.iter().any(is_seen) {
                let alone = Update {
                    deps: Vector::new(),
                    ..then(update, change)
                };
                plain.apply(&alone, keys.entry(key.clone()).or_default());
            }
        }
    }
    keys
}
