//! The index of an island's keys by which two of them find what differs.
//!
//! It is made when a session first asks for it after a start, a slice at a time, and is kept up
//! to date from then on by each command that changes a key. An island that never needs a session
//! never pays for one.
//!
//! What would surprise: it is in memory only, about 200 bytes a key, and a start forgets it. So
//! does the island itself, once commands have touched as many keys since a session last asked as
//! there are: from then on it would cost more to keep than to make again.

use std::collections::BTreeSet;
use std::mem;
use std::ops::ControlFlow;

use bytes::Bytes;
use holm_local_first::{Digest, State, Tree};

use super::state_of;
use crate::checkpoint::Fact;
use crate::index::Index;
use crate::layout::count;
use crate::range::KeyRange;
use crate::refusal::Refusal;
use crate::root::Root;
use crate::store::{FactKind, Store};

/// How many keys are read and hashed at a time.
const SLICE: usize = 64;

/// An index is not let go before so many keys were touched.
const KEPT_MIN: u64 = 4_096;

/// How far the index is.
#[derive(Debug, Default)]
pub(super) enum Digests {
    /// Nobody has asked for it.
    #[default]
    Off,
    /// It holds all keys up to this one; with none, nothing yet.
    Making(Tree, Option<Bytes>),
    /// It holds all keys that are there, and up to this one those of which a marker says that
    /// they are not.
    Closing(Tree, Option<Bytes>),
    /// It holds every key; so many were touched since it was last asked for.
    Whole(Tree, u64),
    /// A key could not be read.
    Failed,
}

/// Whether there is an index.
#[derive(Clone, Debug)]
pub enum Indexed {
    /// Not yet: see [`crate::Keyspace::sweep`].
    NotYet,
    /// This is it.
    Whole(Tree),
    /// It cannot be made: a key's record is damaged.
    Damaged,
}

impl Digests {
    /// Makes one, if nobody has.
    pub(super) fn begin(&mut self) {
        match self {
            Self::Off => *self = Self::Making(Tree::new(), None),
            Self::Whole(_, touched) => *touched = 0,
            Self::Making(..) | Self::Closing(..) | Self::Failed => {}
        }
    }

    pub(super) const fn is_making(&self) -> bool {
        matches!(self, Self::Making(..) | Self::Closing(..))
    }

    pub(super) fn indexed(&self) -> Indexed {
        match self {
            Self::Off | Self::Making(..) | Self::Closing(..) => Indexed::NotYet,
            Self::Whole(tree, _) => Indexed::Whole(tree.clone()),
            Self::Failed => Indexed::Damaged,
        }
    }

    /// The next keys; whether there are more. `has_kept`: whether any key's whole state is kept
    /// beside its record.
    pub(super) fn make_some(&mut self, store: &Store, has_kept: bool) -> bool {
        let (tree, behind) = match self {
            Self::Making(tree, behind) => (tree, behind),
            Self::Closing(..) => return self.close_some(store),
            Self::Off | Self::Whole(..) | Self::Failed => return false,
        };
        let mut keys = Vec::new();
        let from = KeyRange::From(behind.clone().unwrap_or_default());
        store.root().scan(&from, None, &mut |key, _meta| {
            if behind.as_ref().is_none_or(|behind| **behind < *key) {
                keys.push(Bytes::copy_from_slice(key));
            }
            if keys.len() < SLICE {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        });
        let Some(last) = keys.last().cloned() else {
            let tree = mem::take(tree);
            *self = if has_kept {
                Self::Closing(tree, None)
            } else {
                Self::Whole(tree, 0)
            };
            return self.is_making();
        };
        *behind = Some(last);
        self.note(store, keys.iter(), has_kept);
        self.is_making()
    }

    /// The next keys that are not there, and of which a marker says so.
    fn close_some(&mut self, store: &Store) -> bool {
        let Self::Closing(tree, behind) = self else {
            return false;
        };
        let (mut keys, mut last, mut seen) = (Vec::new(), None, 0);
        let from = FactKind::State.key(behind.as_deref().unwrap_or_default());
        let _end = store.facts.scan(&from, &mut |fact, _state| {
            if !FactKind::State.owns(fact) {
                return ControlFlow::Break(());
            }
            let key = Bytes::copy_from_slice(&fact[1..]);
            if behind.as_ref().is_some_and(|behind| *behind >= key) {
                return ControlFlow::Continue(());
            }
            if store.root().get(&key).is_none() {
                keys.push(key.clone());
            }
            last = Some(key);
            seen += 1;
            if seen < SLICE {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        });
        if last.is_none() {
            *self = Self::Whole(mem::take(tree), 0);
            return false;
        }
        *behind = last;
        self.note(store, keys.iter(), true);
        self.is_making()
    }

    /// These keys are otherwise now.
    fn note<'a>(&mut self, store: &Store, keys: impl Iterator<Item = &'a Bytes>, has_kept: bool) {
        let (tree, behind) = match self {
            Self::Off | Self::Failed => return,
            Self::Making(tree, behind) => (tree, Some(&*behind)),
            Self::Closing(tree, _) | Self::Whole(tree, _) => (tree, None),
        };
        for key in keys {
            // What lies ahead is still to be read.
            if behind.is_some_and(|it| it.as_ref().is_none_or(|it| key > it)) {
                continue;
            }
            match digest(store, key, has_kept) {
                Ok(digest) => tree.set(key, digest),
                Err(_damage) => {
                    *self = Self::Failed;
                    return;
                }
            }
        }
    }

    /// A command has ended that touched these keys.
    pub(super) fn note_touched(
        &mut self,
        store: &Store,
        touched: &mut BTreeSet<Bytes>,
        has_kept: bool,
    ) {
        if touched.is_empty() {
            return;
        }
        if let Self::Whole(tree, all) = self {
            *all += count(touched.len());
            if *all > tree.total().count.max(KEPT_MIN) {
                *self = Self::Off;
            }
        }
        if self.is_kept() {
            self.note(store, touched.iter(), has_kept);
        }
        touched.clear();
    }

    /// Whether commands are to say which keys they touch.
    pub(super) const fn is_kept(&self) -> bool {
        matches!(self, Self::Making(..) | Self::Closing(..) | Self::Whole(..))
    }
}

fn digest(store: &Store, key: &Bytes, has_kept: bool) -> Result<Option<Digest>, Refusal> {
    let kept = has_kept.then(|| store.fact(FactKind::State, key)).flatten();
    let (state, _recorded): (State, _) = state_of(store.root(), key, kept)?;
    Ok((!state.is_empty()).then(|| state.digest(key)))
}

/// The key that has a name in an index, if it is there or something is known of it.
pub(super) fn named(root: &Root, facts: &Index<Fact>, name: &Bytes) -> Option<Bytes> {
    let Some(begin) = Tree::cut_in(name) else {
        let is_known = || facts.get(&FactKind::State.key(name)).is_some();
        let is_there = root.get(name).is_some() || is_known();
        return is_there.then(|| name.clone());
    };
    let mut found = None;
    let from = KeyRange::From(begin.clone());
    root.scan(&from, None, &mut |key, _meta| {
        let key = Bytes::copy_from_slice(key);
        if !key.starts_with(&begin) {
            return ControlFlow::Break(());
        }
        if Tree::name(&key) == *name {
            found = Some(key);
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    });
    if found.is_none() {
        let first = FactKind::State.key(&begin);
        let _end = facts.scan(&first, &mut |fact, _state| {
            if !fact.starts_with(&first) {
                return ControlFlow::Break(());
            }
            let key = Bytes::copy_from_slice(&fact[1..]);
            if Tree::name(&key) == *name {
                found = Some(key);
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        });
    }
    found
}
