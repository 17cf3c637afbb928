//! The index of an island's keys by which two of them find what differs.
//!
//! It is made when a session first asks for it after a start, a slice at a time, and is kept up
//! to date from then on by each command that changes a key. An island that never needs a session
//! never pays for one.
//!
//! What would surprise: it is in memory only, about 130 bytes and a key, and a start forgets it.

use std::collections::BTreeSet;
use std::mem;
use std::ops::ControlFlow;

use bytes::Bytes;
use holm_local_first::{Digest, State, Tree};

use super::state_of;
use crate::range::KeyRange;
use crate::refusal::Refusal;
use crate::root::Root;
use crate::store::{FactKind, Store};

/// How many keys are read and hashed at a time.
const SLICE: usize = 64;

/// How far the index is.
#[derive(Debug, Default)]
pub(super) enum Digests {
    /// Nobody has asked for it.
    #[default]
    Off,
    /// It holds all keys up to this one; with none, nothing yet.
    Making(Tree, Option<Bytes>),
    /// It holds every key.
    Whole(Tree),
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
        if let Self::Off = self {
            *self = Self::Making(Tree::new(), None);
        }
    }

    pub(super) const fn is_making(&self) -> bool {
        matches!(self, Self::Making(..))
    }

    pub(super) fn indexed(&self) -> Indexed {
        match self {
            Self::Off | Self::Making(..) => Indexed::NotYet,
            Self::Whole(tree) => Indexed::Whole(tree.clone()),
            Self::Failed => Indexed::Damaged,
        }
    }

    /// The next keys; whether there are more.
    pub(super) fn make_some(&mut self, store: &Store) -> bool {
        let Self::Making(tree, behind) = self else {
            return false;
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
            *self = Self::Whole(mem::take(tree));
            return false;
        };
        *behind = Some(last);
        self.note(store, keys.iter());
        self.is_making()
    }

    /// These keys are otherwise now.
    fn note<'a>(&mut self, store: &Store, keys: impl Iterator<Item = &'a Bytes>) {
        let (tree, behind) = match self {
            Self::Off | Self::Failed => return,
            Self::Making(tree, behind) => (tree, Some(&*behind)),
            Self::Whole(tree) => (tree, None),
        };
        for key in keys {
            // What lies ahead is still to be read.
            if behind.is_some_and(|it| it.as_ref().is_none_or(|it| key > it)) {
                continue;
            }
            match digest(store, key) {
                Ok(digest) => tree.set(key, digest),
                Err(_damage) => {
                    *self = Self::Failed;
                    return;
                }
            }
        }
    }

    /// A command has ended that touched these keys.
    pub(super) fn note_touched(&mut self, store: &Store, touched: &mut BTreeSet<Bytes>) {
        if !touched.is_empty() {
            self.note(store, touched.iter());
            touched.clear();
        }
    }

    /// Whether commands are to say which keys they touch.
    pub(super) const fn is_kept(&self) -> bool {
        matches!(self, Self::Making(..) | Self::Whole(_))
    }
}

fn digest(store: &Store, key: &Bytes) -> Result<Option<Digest>, Refusal> {
    let kept = store.fact(FactKind::State, key);
    let (state, _recorded): (State, _) = state_of(store.root(), key, kept)?;
    Ok((!state.is_empty()).then(|| state.digest(key)))
}

/// The key that has a name in an index, if it is there.
pub(super) fn named(root: &Root, name: &Bytes) -> Option<Bytes> {
    let Some(begin) = Tree::cut_in(name) else {
        return root.get(name).map(|_| name.clone());
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
    found
}
