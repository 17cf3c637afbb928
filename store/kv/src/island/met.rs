//! Which concurrent writes met at this island: the newest of them, as facts that readers see.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use holm_base::Revision;
use holm_local_first::{Cause, Conflict, Entry, Update, conflicts};

use super::gone::removed_by;
use super::{Isle, Turn};
use crate::checkpoint::Fact;
use crate::index::Index;
use crate::layout::count;
use crate::refusal::Refusal;
use crate::store::{FactKind, Store, scan_facts};

/// How many bytes of them are kept; all nodes of an island agree on it.
const BYTES_MAX: u64 = 16 << 20;

/// How long one is kept, in milliseconds: a week.
const KEPT_MS: u64 = 7 * 24 * 3_600 * 1_000;

/// A conflict as it is kept, and its number, which rises.
pub type MetLine = (u64, Bytes);

/// What is kept, in order of numbers.
#[derive(Debug, Default)]
pub(super) struct Met {
    /// The number, time and length of each.
    kept: VecDeque<(u64, u64, u64)>,
    bytes: u64,
    next: u64,
}

impl Met {
    /// What a store has.
    pub(super) fn open(store: &Store) -> Self {
        let mut met = Self::default();
        store.facts(FactKind::Conflict, &mut |id, line| {
            let unix_ms = match Entry::decode(line.clone()) {
                Ok(Entry::Met { unix_ms, .. }) => unix_ms,
                Ok(Entry::Dropped(_)) | Err(_) => 0,
            };
            met.add(number(id), unix_ms, count(line.len()));
        });
        met
    }

    fn add(&mut self, number: u64, unix_ms: u64, bytes: u64) {
        self.kept.push_back((number, unix_ms, bytes));
        self.bytes += bytes;
        self.next = number + 1;
    }

    /// Adds one that was met at a revision and a time; the oldest go.
    pub(super) fn push(
        &mut self,
        store: &mut Store,
        (revision, unix_ms): (Revision, u64),
        conflict: Conflict,
    ) {
        let revision = revision.value();
        let line = Entry::Met {
            revision,
            unix_ms,
            conflict: Box::new(conflict),
        }
        .encode();
        let (number, bytes) = (self.next, count(line.len()));
        store.set_fact(FactKind::Conflict, &id(number), Some(line));
        self.add(number, unix_ms, bytes);
        while let Some((oldest, at, bytes)) = self.kept.front().copied()
            && (self.bytes > BYTES_MAX || at.saturating_add(KEPT_MS) < unix_ms)
        {
            self.kept.pop_front();
            self.bytes -= bytes;
            store.set_fact(FactKind::Conflict, &id(oldest), None);
        }
    }
}

impl Isle {
    /// Which concurrent writes meet at keys that are about to become others.
    pub(super) fn met_at(
        &self,
        store: &Store,
        turns: &BTreeMap<Bytes, Turn>,
        update: Option<&Update>,
    ) -> Result<Vec<Conflict>, Refusal> {
        let mut met = Vec::new();
        for (key, turn) in turns {
            let change = update.zip(turn.by);
            let cause = change.map_or(Cause::Install, |(update, at)| {
                Cause::Update(update, &update.changes[at])
            });
            let states = (&turn.was, &turn.is);
            let removed = if turn.was.is_gone() {
                removed_by(store.root(), key)?
            } else {
                None
            };
            let kind = self.config.rules.kind;
            met.extend(conflicts(kind, key, states, cause, removed));
        }
        Ok(met)
    }
}

/// Those behind a number, at most so many, and the number of the oldest that is kept.
pub(crate) fn behind(facts: &Index<Fact>, after: Option<u64>, most: usize) -> (Vec<MetLine>, u64) {
    let (mut found, mut oldest) = (Vec::new(), None);
    scan_facts(facts, FactKind::Conflict, &mut |id, line| {
        let number = number(id);
        oldest.get_or_insert(number);
        if after.is_none_or(|after| number > after) && found.len() < most {
            found.push((number, line.clone()));
        }
    });
    (found, oldest.unwrap_or(0))
}

/// Facts are sorted by their bytes.
#[expect(clippy::big_endian_bytes, reason = "bytes are to sort as numbers do")]
const fn id(number: u64) -> [u8; 8] {
    number.to_be_bytes()
}

fn number(id: &[u8]) -> u64 {
    id.try_into().map_or(0, u64::from_be_bytes)
}
