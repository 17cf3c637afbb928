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
    for update in &here {
        for change in &update.changes {
            let Change::Put { key, .. } = change else {
                continue;
            };
            let touches = |other: &Update| other.changes.iter().any(|it| it.touches(key));
            let is_seen = |other: &&Update| other.deps.covers(update.dot) && touches(other);
            if !here.iter().any(is_seen) {
                let alone = Update {
                    deps: Vector::new(),
                    ..(*update).clone()
                };
                change.apply(&alone, keys.entry(key.clone()).or_default());
            }
        }
    }
    keys
}
