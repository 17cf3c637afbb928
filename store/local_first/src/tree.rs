//! An index of keys that sums: what [`Ranges`](crate::Ranges) asks, in steps that follow the
//! depth and not the number of keys.
//!
//! ```text
//! inner   children in order: (first key beneath, node, what it amounts to)
//! leaf    keys in order: (key, digest of its state)
//! ```
//!
//! A B-tree whose nodes are shared: a copy costs a reference count, so a session pins one and
//! the island writes on. Who writes copies the nodes on one path that somebody else holds, and
//! changes the others in place.
//!
//! What would surprise: nodes that got small are not joined with their neighbours. One that is
//! empty goes, so the depth is that of the most keys there ever were; sums are right all the
//! same. Two trees of the same keys may differ in shape; what is asked of them does not.

use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use bytes::Bytes;

use crate::ranges::{Digest, Index, Short, Sum};

/// How many entries a node has at most.
const WIDTH: usize = 64;

#[derive(Clone, Debug)]
struct Child {
    first: Bytes,
    node: Arc<Node>,
    sum: Sum,
}

#[derive(Clone, Debug)]
enum Node {
    Leaf(Vec<(Bytes, Digest)>),
    Inner(Vec<Child>),
}

impl Default for Node {
    fn default() -> Self {
        Self::Leaf(Vec::new())
    }
}

/// Keys with the digests of their states, and what any range of them amounts to.
#[derive(Clone, Debug, Default)]
pub struct Tree {
    root: Arc<Node>,
    sum: Sum,
}

impl Tree {
    /// No keys.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// What all of it amounts to.
    #[must_use]
    pub const fn total(&self) -> Sum {
        self.sum
    }

    /// A key has a state of this digest now, or none. Cost: a node of 64 on each level.
    pub fn set(&mut self, key: &Bytes, digest: Option<Digest>) {
        match digest {
            Some(digest) => {
                if let Some(right) = Arc::make_mut(&mut self.root).insert(key, digest) {
                    let left = core::mem::take(&mut self.root);
                    let children = vec![Child::of(left), Child::of(Arc::new(right))];
                    self.root = Arc::new(Node::Inner(children));
                }
            }
            None => {
                if self.digest(key).is_none() {
                    // Nothing is copied for what is not there.
                    return;
                }
                Arc::make_mut(&mut self.root).remove(key);
                while let Node::Inner(children) = &*self.root {
                    match children.as_slice() {
                        [] => self.root = Arc::default(),
                        [only] => self.root = Arc::clone(&only.node),
                        _several => break,
                    }
                }
            }
        }
        self.sum = self.root.sum();
    }

    /// The digest of a key, if it is there.
    #[must_use]
    pub fn digest(&self, key: &[u8]) -> Option<Digest> {
        let mut node = &*self.root;
        loop {
            match node {
                Node::Inner(children) => node = &children[place(children, key)].node,
                Node::Leaf(keys) => {
                    let found = keys.binary_search_by(|(it, _)| (**it).cmp(key));
                    return found.ok().map(|at| keys[at].1);
                }
            }
        }
    }

    /// How many levels it has.
    #[must_use]
    pub fn depth(&self) -> usize {
        let (mut node, mut depth) = (&*self.root, 1);
        while let Node::Inner(children) = node {
            node = &children[0].node;
            depth += 1;
        }
        depth
    }

    /// What all keys before one amount to; an empty one is the end of all.
    fn before(&self, key: &[u8], is_end: bool) -> Sum {
        if is_end && key.is_empty() {
            return self.sum;
        }
        let (mut node, mut sum) = (&*self.root, Sum::default());
        loop {
            match node {
                Node::Inner(children) => {
                    let at = place(children, key);
                    sum = children[..at].iter().fold(sum, |sum, it| sum.plus(&it.sum));
                    node = &children[at].node;
                }
                Node::Leaf(keys) => {
                    let before = keys.iter().take_while(|(it, _)| **it < *key);
                    return before.fold(sum, |sum, (_, digest)| sum.with(digest));
                }
            }
        }
    }
}

impl Index for Tree {
    fn sum(&self, from: &[u8], to: &[u8]) -> Sum {
        let (begin, end) = (self.before(from, false), self.before(to, true));
        // Bounds may come from anybody, and the wrong way round.
        if begin.count > end.count {
            return Sum::default();
        }
        end.minus(&begin)
    }

    fn key(&self, from: &[u8], to: &[u8], at: u64) -> Option<Bytes> {
        let mut rest = self.before(from, false).count.checked_add(at)?;
        if rest >= self.before(to, true).count {
            return None;
        }
        let mut node = &*self.root;
        loop {
            match node {
                Node::Inner(children) => {
                    let mut children = children.iter();
                    let child = children.find(|it| {
                        let is_here = rest < it.sum.count;
                        rest -= if is_here { 0 } else { it.sum.count };
                        is_here
                    });
                    node = &child?.node;
                }
                Node::Leaf(keys) => {
                    let (key, _) = keys.get(usize::try_from(rest).ok()?)?;
                    return Some(key.clone());
                }
            }
        }
    }

    fn list(&self, from: &[u8], to: &[u8]) -> Vec<(Bytes, Short)> {
        let mut found = Vec::new();
        self.root.list((from, to), &mut found);
        found
    }
}

/// The child beneath which a key is, or would be.
fn place(children: &[Child], key: &[u8]) -> usize {
    children.partition_point(|it| *it.first <= *key).max(1) - 1
}

impl Child {
    fn of(node: Arc<Node>) -> Self {
        Self {
            first: node.first(),
            sum: node.sum(),
            node,
        }
    }
}

impl Node {
    fn first(&self) -> Bytes {
        match self {
            Self::Leaf(keys) => keys.first().map(|(key, _)| key.clone()).unwrap_or_default(),
            Self::Inner(children) => children
                .first()
                .map(|it| it.first.clone())
                .unwrap_or_default(),
        }
    }

    fn sum(&self) -> Sum {
        let none = Sum::default();
        match self {
            Self::Leaf(keys) => keys.iter().fold(none, |sum, (_, digest)| sum.with(digest)),
            Self::Inner(children) => children.iter().fold(none, |sum, it| sum.plus(&it.sum)),
        }
    }

    /// Adds a key; the right half, if the node became too wide.
    fn insert(&mut self, key: &Bytes, digest: Digest) -> Option<Self> {
        match self {
            Self::Leaf(keys) => {
                match keys.binary_search_by(|(it, _)| it.cmp(key)) {
                    Ok(at) => keys[at].1 = digest,
                    Err(at) => keys.insert(at, (key.clone(), digest)),
                }
                let is_wide = keys.len() > WIDTH;
                is_wide.then(|| Self::Leaf(keys.split_off(WIDTH / 2)))
            }
            Self::Inner(children) => {
                let at = place(children, key);
                let child = &mut children[at];
                let right = Arc::make_mut(&mut child.node).insert(key, digest);
                child.first = child.node.first();
                child.sum = child.node.sum();
                if let Some(right) = right {
                    children.insert(at + 1, Child::of(Arc::new(right)));
                }
                let is_wide = children.len() > WIDTH;
                is_wide.then(|| Self::Inner(children.split_off(WIDTH / 2)))
            }
        }
    }

    fn remove(&mut self, key: &[u8]) {
        match self {
            Self::Leaf(keys) => keys.retain(|(it, _)| **it != *key),
            Self::Inner(children) => {
                let at = place(children, key);
                let child = &mut children[at];
                Arc::make_mut(&mut child.node).remove(key);
                if child.node.sum().count == 0 {
                    children.remove(at);
                } else {
                    child.first = child.node.first();
                    child.sum = child.node.sum();
                }
            }
        }
    }

    fn list(&self, (from, to): (&[u8], &[u8]), found: &mut Vec<(Bytes, Short)>) {
        let is_before_end = |key: &[u8]| to.is_empty() || key < to;
        match self {
            Self::Leaf(keys) => {
                let inside = keys
                    .iter()
                    .filter(|(key, _)| **key >= *from && is_before_end(key));
                found.extend(inside.map(|(key, digest)| (key.clone(), digest.short())));
            }
            Self::Inner(children) => {
                for child in &children[place(children, from)..] {
                    if !is_before_end(&child.first) {
                        break;
                    }
                    child.node.list((from, to), found);
                }
            }
        }
    }
}
