//! All keys of an island with their states, as they were at a moment: what a session is told of.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use bytes::{BufMut, Bytes, BytesMut};
use holm_local_first::{Ask, Slot, Tell, Tip, Tree, tell};

use super::digests::named;
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
    pub(super) tree: Option<Tree>,
}

/// Keys with their states, as they are sent, and whether they are the last.
pub(super) type Listed = (Vec<(Bytes, Bytes)>, bool);

impl States {
    /// How far it was.
    #[must_use]
    pub const fn tips(&self) -> &BTreeMap<Slot, Tip> {
        &self.tips
    }

    /// The index of its keys, if there was one.
    #[must_use]
    pub const fn tree(&self) -> Option<&Tree> {
        self.tree.as_ref()
    }

    /// Answers a session's question. `None` if there was no index. Cost: what [`tell`] says,
    /// and a read for each state.
    ///
    /// # Errors
    ///
    /// If a record is damaged: that must not pass for a key that is not there.
    pub fn tell(&self, ask: &Ask, bytes_max: usize) -> Result<Option<Tell>, Refusal> {
        let Some(tree) = &self.tree else {
            return Ok(None);
        };
        let mut failed = None;
        let told = tell(ask, tree, bytes_max, |name| {
            let key = named(&self.root, &self.facts, name)?;
            match self.state(&key) {
                Ok(state) => Some((key, state)),
                Err(refusal) => {
                    failed = Some(refusal);
                    None
                }
            }
        });
        failed.map_or(Ok(Some(told)), Err)
    }

    fn state(&self, key: &[u8]) -> Result<Bytes, Refusal> {
        let kept = self.facts.get(&FactKind::State.key(key));
        let kept = kept.map(|fact| fact.0.clone());
        let (state, _recorded) = state_of(&self.root, key, kept)?;
        Ok(state.encode())
    }

    /// Keys behind one, as many as fit and at least one, as sessions of old logs listed them; only
    /// tests ask for it now. Cost: a read for each.
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
                match self.state(key) {
                    Ok(state) => {
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
