//! All keys of an island with their states, as they were at a moment: what a session is sent.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use bytes::{BufMut, Bytes, BytesMut};
use holm_local_first::{Slot, Tip};

use super::state_of;
use crate::checkpoint::Fact;
use crate::index::Index;
use crate::range::KeyRange;
use crate::refusal::Refusal;
use crate::root::Root;
use crate::store::FactKind;

/// How many keys one list holds at most.
const KEYS_MAX: usize = 4_096;

/// An island as it was. Holding it costs a few reference counts, and what is removed meanwhile
/// stays on the disk.
#[derive(Clone, Debug)]
pub struct States {
    pub(super) root: Root,
    pub(super) facts: Index<Fact>,
    pub(super) tips: BTreeMap<Slot, Tip>,
}

/// Keys with their states, as they are sent, and whether they are the last.
pub(super) type Listed = (Vec<(Bytes, Bytes)>, bool);

impl States {
    /// How far it was.
    #[must_use]
    pub const fn tips(&self) -> &BTreeMap<Slot, Tip> {
        &self.tips
    }

    /// Keys behind one, as many as fit and at least one. Cost: a read for each.
    ///
    /// # Errors
    ///
    /// If a record is damaged.
    pub fn list(&self, after: Option<&Bytes>, bytes_max: usize) -> Result<Listed, Refusal> {
        let from = after.map_or_else(Bytes::new, |after| {
            let mut from = BytesMut::with_capacity(after.len() + 1);
            from.put_slice(after);
            from.put_u8(0);
            from.freeze()
        });
        let (mut found, mut bytes) = (Vec::new(), 0);
        let (mut is_last, mut failed) = (true, None);
        self.root
            .scan(&KeyRange::From(from), None, &mut |key, _meta| {
                if found.len() >= KEYS_MAX || (bytes >= bytes_max && !found.is_empty()) {
                    is_last = false;
                    return ControlFlow::Break(());
                }
                let kept = self.facts.get(&FactKind::State.key(key));
                let kept = kept.map(|fact| fact.0.clone());
                match state_of(&self.root, key, kept) {
                    Ok((state, _recorded)) => {
                        let state = state.encode();
                        bytes += key.len() + state.len();
                        found.push((Bytes::copy_from_slice(key), state));
                        ControlFlow::Continue(())
                    }
                    Err(refusal) => {
                        failed = Some(refusal);
                        ControlFlow::Break(())
                    }
                }
            });
        match failed {
            Some(refusal) => Err(refusal),
            None => Ok((found, is_last)),
        }
    }
}
