//! Hands the judge of transactions what clients saw: which versions, at which moments.
//!
//! What a revision wrote is taken from what nodes applied, so that a removal counts only for the
//! keys that were there.

use std::collections::BTreeMap;

use holm_check::{Outcome, Published, Transaction, Violation, transactions};

use super::Run;
use crate::calls::{Call, Cell, Key, Reply};

impl Run<'_> {
    /// Whether some order of all that happened explains what each client read.
    pub(super) fn judge_transactions(&self, published: &Published) -> Option<Violation> {
        let revisions: BTreeMap<u64, u64> =
            published.iter().map(|(&at, &mark)| (mark, at)).collect();
        let mut all = Vec::new();
        for operation in self.askers.history.operations() {
            let call = &operation.call;
            let revision = call.mark().and_then(|mark| revisions.get(&mark).copied());
            let reads = match (&operation.outcome, revision) {
                (Outcome::Refused, _) | (Outcome::Unknown, None) => continue,
                (Outcome::Returned { reply, .. }, _) => seen(call, Some(reply)),
                (Outcome::Unknown, Some(_)) => seen(call, None),
            };
            let writes = revision.and_then(|revision| self.ledger.change(revision));
            let writes = writes.into_iter().flat_map(|change| &change.touches);
            all.push(Transaction {
                invoked: operation.invoked,
                returned: operation.returned_at(),
                reads,
                revision,
                writes: writes.map(|touch| (touch.key, touch.is_delete)).collect(),
            });
        }
        transactions(&all).err()
    }
}

/// Which versions a call saw before it wrote; with no reply it is one that happened.
fn seen(call: &Call, reply: Option<&Reply>) -> Vec<(Key, Option<u64>)> {
    match (*call, reply) {
        // It wrote, so what it expected was there.
        (Call::Txn { key, expected, .. }, None | Some(Reply::Wrote { .. })) => {
            vec![(key, (expected > 0).then_some(expected))]
        }
        (Call::Txn { key, .. }, Some(Reply::Found { cells, .. })) => found((key, key), cells),
        (Call::Range { first, last }, Some(Reply::Found { cells, .. })) => {
            found((first, last), cells)
        }
        (Call::Delete { key, .. }, Some(Reply::Unchanged { .. } | Reply::Found { .. })) => {
            vec![(key, None)]
        }
        (
            Call::Put { .. }
            | Call::Delete { .. }
            | Call::Txn { .. }
            | Call::Range { .. }
            | Call::Compact { .. }
            | Call::Attach { .. }
            | Call::Add { .. }
            | Call::Gone { .. },
            _,
        ) => Vec::new(),
    }
}

fn found((first, last): (Key, Key), cells: &[(Key, Cell)]) -> Vec<(Key, Option<u64>)> {
    let version = |key| {
        let cell = cells.iter().find(|(other, _)| *other == key);
        cell.map(|(_, cell)| cell.made)
    };
    (first..=last).map(|key| (key, version(key))).collect()
}
