//! The keys of an island in order, each with a digest, and what any range of them amounts to.
//!
//! A B-tree whose pages are shared: a change copies one path, a copy that is kept for a session
//! is one reference. Each page
//! carries what all below it amounts to, so a range is summed at the cost of its two edges, and
//! [`Ranges`](crate::Ranges) finds what differs without looking at what agrees. Pages leave as
//! bytes when the engine makes a checkpoint, and only those that changed; a start reads them
//! and hashes nothing.
//!
//! What would surprise: a key of 1 KiB or more stands in it as its first 992 bytes and the
//! hash of all of it ([`Tree::name`]), so that each page holds several. Who finds such a name
//! to differ asks the engine which key it is. The tree never learns whether a page was written
//! in vain: pages that are not needed any more may be used again only once the new root is
//! durable.

mod page;

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};

use bytes::{Bytes, BytesMut};
use sha2::{Digest as _, Sha256};

use crate::ranges::{Digest, Index, Short, Sum, separator};

use page::{ENTRIES_BYTES, child_bytes, leaf_bytes};
pub use page::{PAGE_BYTES, Written};

/// A key of so many bytes or more stands as its beginning and its hash, which are as many.
const NAME_MAX: usize = 1024;
const HASH_BYTES: usize = 32;
/// A page of fewer bytes is put together with its neighbour if both fit into one.
const LOW_BYTES: usize = ENTRIES_BYTES / 4;
const HIGH_BYTES: usize = ENTRIES_BYTES / 4 * 3;

/// An index of keys that can be changed. Of two that were one, only one may be written: the
/// pages of the other would be freed.
#[derive(Clone, Debug, Default)]
pub struct Tree {
    root: Arc<Node>,
    /// Pages that were written and have been changed since.
    dead: Vec<u64>,
}

#[derive(Debug, Default)]
struct Node {
    /// Where it was written; 0 if it has changed since.
    page: AtomicU64,
    kids: Kids,
}

#[derive(Clone, Debug)]
enum Kids {
    Leaf(Vec<(Bytes, Digest)>),
    Inner(Vec<Child>),
}

/// A part of the keys.
#[derive(Clone, Debug)]
struct Child {
    /// No key in it is before this; empty for the first child of all.
    first: Bytes,
    sum: Sum,
    node: Arc<Node>,
}

/// What becomes of a key.
#[derive(Clone, Copy, Debug)]
struct Turn {
    was: Option<Digest>,
    is: Option<Digest>,
}

impl Turn {
    /// What something amounts to that has the key in it.
    fn on(&self, sum: &Sum) -> Sum {
        let one = |it: &Digest| Sum::default().with(it);
        let rest = self.was.map_or(*sum, |was| sum.minus(&one(&was)));
        self.is.map_or(rest, |is| rest.with(&is))
    }
}

impl Default for Kids {
    fn default() -> Self {
        Self::Leaf(Vec::new())
    }
}

impl Clone for Node {
    /// A copy that is not written anywhere.
    fn clone(&self) -> Self {
        Self::new(self.kids.clone())
    }
}

impl Tree {
    /// An index without keys.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// What a key is called in the index: itself, unless it is long.
    #[must_use]
    pub fn name(key: &Bytes) -> Bytes {
        if key.len() < NAME_MAX {
            return key.clone();
        }
        let mut name = BytesMut::with_capacity(NAME_MAX);
        name.extend_from_slice(&key[..NAME_MAX - HASH_BYTES]);
        name.extend_from_slice(&Sha256::digest(key));
        name.freeze()
    }

    /// How much of the key a name begins with that is not the key itself.
    #[must_use]
    pub fn cut_in(name: &Bytes) -> Option<Bytes> {
        (name.len() == NAME_MAX).then(|| name.slice(..NAME_MAX - HASH_BYTES))
    }

    /// A key has a digest from now on, or is gone. Cost: one page a level.
    pub fn set(&mut self, key: &Bytes, digest: Option<Digest>) {
        let was = self.digest(key);
        if was == digest {
            // Nothing is copied, nor written again, for what is so.
            return;
        }
        let turn = Turn { was, is: digest };
        // A copy: a slice would keep in memory what it was cut from.
        let name = Bytes::copy_from_slice(&Self::name(key));
        let Self { root, dead } = self;
        let split = own(root, dead).set(&name, turn, dead);
        if let Some((first, right)) = split {
            let left = core::mem::take(root);
            let kids = [(Bytes::new(), left), (first, right)];
            let children = kids
                .into_iter()
                .map(|(first, node)| Child::new(first, node));
            *root = Arc::new(Node::new(Kids::Inner(children.collect())));
        }
        while let Kids::Inner(children) = &root.kids
            && let [only] = &children[..]
        {
            let only = Arc::clone(&only.node);
            bury(root, dead);
            *root = only;
        }
    }

    /// What all of it amounts to.
    #[must_use]
    pub fn total(&self) -> Sum {
        self.root.kids.sum()
    }

    /// The digest of a key, if it is there.
    #[must_use]
    pub fn digest(&self, key: &Bytes) -> Option<Digest> {
        let name = Self::name(key);
        let mut node = &self.root;
        loop {
            match &node.kids {
                Kids::Inner(children) => node = &children[child_at(children, &name)].node,
                Kids::Leaf(keys) => {
                    let found = keys.binary_search_by(|(it, _)| it.cmp(&name));
                    return found.ok().map(|at| keys[at].1);
                }
            }
        }
    }

    /// How many levels it has.
    #[must_use]
    pub fn depth(&self) -> usize {
        let (mut node, mut depth) = (&self.root, 1);
        while let Kids::Inner(children) = &node.kids {
            node = &children[0].node;
            depth += 1;
        }
        depth
    }
}

impl Index for Tree {
    fn sum(&self, from: &[u8], to: &[u8]) -> Sum {
        self.root.sum(from, to)
    }

    fn key(&self, from: &[u8], to: &[u8], place: u64) -> Option<Bytes> {
        self.root.key(from, to, place)
    }

    fn list(&self, from: &[u8], to: &[u8]) -> Vec<(Bytes, Short)> {
        self.root.list(from, to)
    }

    fn bound(&self, place: u64) -> (Bytes, Sum) {
        self.root.bound(place)
    }
}

fn sum_of(keys: &[(Bytes, Digest)]) -> Sum {
    let digests = keys.iter();
    digests.fold(Sum::default(), |sum, (_, digest)| sum.with(digest))
}

/// A node to be changed: nobody else has it, and what was written of it is of no use any more.
fn own<'a>(node: &'a mut Arc<Node>, dead: &mut Vec<u64>) -> &'a mut Node {
    bury(node, dead);
    let node = Arc::make_mut(node);
    *node.page.get_mut() = 0;
    node
}

fn bury(node: &Node, dead: &mut Vec<u64>) {
    let page = node.page();
    if page > 0 {
        dead.push(page);
    }
}

impl Child {
    fn new(first: Bytes, node: Arc<Node>) -> Self {
        let sum = node.kids.sum();
        Self { first, sum, node }
    }
}

impl Node {
    const fn new(kids: Kids) -> Self {
        Self {
            page: AtomicU64::new(0),
            kids,
        }
    }

    fn page(&self) -> u64 {
        self.page.load(Ordering::Relaxed)
    }

    /// Changes a key below. What does not fit any more comes back, with the bound before it.
    fn set(&mut self, name: &Bytes, turn: Turn, dead: &mut Vec<u64>) -> Option<(Bytes, Arc<Self>)> {
        // Who adds keys in order leaves full pages behind.
        let mut is_last = false;
        match &mut self.kids {
            Kids::Leaf(keys) => match (keys.binary_search_by(|(it, _)| it.cmp(name)), turn.is) {
                (Ok(at), Some(digest)) => keys[at].1 = digest,
                (Ok(at), None) => drop(keys.remove(at)),
                (Err(at), Some(digest)) => {
                    is_last = at == keys.len();
                    keys.insert(at, (name.clone(), digest));
                }
                (Err(_), None) => {}
            },
            Kids::Inner(children) => {
                let at = child_at(children, name);
                let child = &mut children[at];
                let split = own(&mut child.node, dead).set(name, turn, dead);
                child.sum = turn.on(&child.sum);
                if let Some((first, right)) = split {
                    child.sum = child.node.kids.sum();
                    is_last = at + 1 == children.len();
                    children.insert(at + 1, Child::new(first, right));
                } else if child.node.kids.bytes() < LOW_BYTES {
                    merge(children, at, dead);
                }
            }
        }
        self.kids.split(is_last)
    }

    /// What all keys before a bound amount to.
    fn before(&self, bound: &[u8]) -> Sum {
        match &self.kids {
            // Keys lie here and there in memory: the fewer are looked at, the better.
            Kids::Leaf(keys) => sum_of(&keys[..keys.partition_point(|(key, _)| **key < *bound)]),
            Kids::Inner(children) => {
                let at = child_at(children, bound);
                let whole = children[..at].iter();
                let whole = whole.fold(Sum::default(), |sum, it| sum.plus(&it.sum));
                whole.plus(&children[at].node.before(bound))
            }
        }
    }

    /// A bound before the key at a place, and what lies before it: by counts alone.
    fn bound(&self, place: u64) -> (Bytes, Sum) {
        let (mut node, mut rest, mut sum) = (self, place, Sum::default());
        // What ends right before the page that it goes down to.
        let mut before: Option<&Self> = None;
        loop {
            match &node.kids {
                Kids::Inner(children) => {
                    let mut left = None;
                    let mut all = children.iter().peekable();
                    while let Some(child) = all.next_if(|it| rest >= it.sum.count) {
                        rest -= child.sum.count;
                        sum = sum.plus(&child.sum);
                        left = Some(child);
                    }
                    before = match (left, before.map(|it| &it.kids)) {
                        (Some(left), _) => Some(&left.node),
                        (None, Some(Kids::Inner(more))) => more.last().map(|it| &*it.node),
                        (None, Some(Kids::Leaf(_)) | None) => None,
                    };
                    let Some(child) = all.next() else {
                        return (Bytes::new(), sum);
                    };
                    node = &child.node;
                }
                Kids::Leaf(keys) => {
                    let at = usize::try_from(rest).expect("a page is short");
                    let last = match before.map(|it| &it.kids) {
                        Some(Kids::Leaf(keys)) => keys.last(),
                        Some(Kids::Inner(_)) | None => None,
                    };
                    let previous = at.checked_sub(1).map_or(last, |it| keys.get(it));
                    let previous = previous.map(|(key, _)| &**key).unwrap_or_default();
                    let key = keys.get(at).map(|(key, _)| &**key).unwrap_or_default();
                    let sum = sum.plus(&sum_of(&keys[..at.min(keys.len())]));
                    return (separator(previous, key), sum);
                }
            }
        }
    }

    fn sum(&self, from: &[u8], to: &[u8]) -> Sum {
        let end = if to.is_empty() {
            self.kids.sum()
        } else if from < to {
            self.before(to)
        } else {
            return Sum::default();
        };
        end.minus(&self.before(from))
    }

    fn key(&self, from: &[u8], to: &[u8], place: u64) -> Option<Bytes> {
        let mut place = self.before(from).count.checked_add(place)?;
        let mut node = self;
        let key = loop {
            match &node.kids {
                Kids::Leaf(keys) => break keys.get(usize::try_from(place).ok()?)?.0.clone(),
                Kids::Inner(children) => {
                    let found = children.iter().find(|it| {
                        let is_here = place < it.sum.count;
                        if !is_here {
                            place -= it.sum.count;
                        }
                        is_here
                    });
                    node = &found?.node;
                }
            }
        };
        (to.is_empty() || *key < *to).then_some(key)
    }

    fn list(&self, from: &[u8], to: &[u8]) -> Vec<(Bytes, Short)> {
        let mut found = Vec::new();
        self.collect(from, to, &mut found);
        found
    }

    fn collect(&self, from: &[u8], to: &[u8], found: &mut Vec<(Bytes, Short)>) {
        let is_before = |key: &[u8]| to.is_empty() || *key < *to;
        match &self.kids {
            Kids::Leaf(keys) => {
                let begin = keys.partition_point(|(key, _)| **key < *from);
                let keys = keys[begin..].iter().take_while(|(key, _)| is_before(key));
                found.extend(keys.map(|(key, digest)| (key.clone(), digest.short())));
            }
            Kids::Inner(children) => {
                let at = child_at(children, from);
                for child in children[at..].iter().take_while(|it| is_before(&it.first)) {
                    child.node.collect(from, to, found);
                }
            }
        }
    }
}

impl Kids {
    fn sum(&self) -> Sum {
        match self {
            Self::Leaf(keys) => sum_of(keys),
            Self::Inner(children) => {
                let sums = children.iter();
                sums.fold(Sum::default(), |sum, it| sum.plus(&it.sum))
            }
        }
    }

    /// How many bytes of a page it takes.
    fn bytes(&self) -> usize {
        match self {
            Self::Leaf(keys) => keys.iter().map(|(key, _)| leaf_bytes(key)).sum(),
            Self::Inner(children) => children.iter().map(|it| child_bytes(&it.first)).sum(),
        }
    }

    /// Cuts off what does not fit into a page, with the bound before it: the last entry, or half.
    fn split(&mut self, is_last: bool) -> Option<(Bytes, Arc<Node>)> {
        if self.bytes() <= ENTRIES_BYTES {
            return None;
        }
        match self {
            Self::Leaf(keys) => {
                let sizes = keys.iter().map(|(key, _)| leaf_bytes(key));
                let right = keys.split_off(place_to_split(sizes, is_last));
                let last = &keys.last().expect("something stays").0;
                let first = separator(last, &right[0].0);
                Some((first, Arc::new(Node::new(Self::Leaf(right)))))
            }
            Self::Inner(children) => {
                let sizes = children.iter().map(|it| child_bytes(&it.first));
                let right = children.split_off(place_to_split(sizes, is_last));
                let first = right[0].first.clone();
                Some((first, Arc::new(Node::new(Self::Inner(right)))))
            }
        }
    }
}

/// Before the last entry, if it is that one which was too much; behind half of the bytes
/// otherwise.
fn place_to_split(sizes: impl ExactSizeIterator<Item = usize> + Clone, is_last: bool) -> usize {
    let all: usize = sizes.clone().sum();
    let count = sizes.len();
    let last = sizes.clone().last().unwrap_or_default();
    if is_last && all - last <= ENTRIES_BYTES {
        return count - 1;
    }
    let mut bytes = 0;
    let half = sizes.take_while(|it| {
        bytes += it;
        bytes <= all / 2
    });
    half.count().clamp(1, count - 1)
}

/// The child that a key belongs to.
fn child_at(children: &[Child], name: &[u8]) -> usize {
    let behind = children.partition_point(|it| *it.first <= *name);
    behind.saturating_sub(1)
}

/// Puts a child together with a neighbour, if both fit into a page; an empty one goes.
fn merge(children: &mut Vec<Child>, at: usize, dead: &mut Vec<u64>) {
    let left = at.saturating_sub(1);
    let Some([one, other]) = children.get(left..left + 2) else {
        return;
    };
    let (few, more) = (one.node.kids.bytes(), other.node.kids.bytes());
    let most = if few == 0 || more == 0 {
        ENTRIES_BYTES
    } else {
        HIGH_BYTES
    };
    if few + more > most {
        return;
    }
    let other = children.remove(left + 1);
    bury(&other.node, dead);
    let one = &mut children[left];
    let kids = &mut own(&mut one.node, dead).kids;
    match (kids, other.node.kids.clone()) {
        (Kids::Leaf(keys), Kids::Leaf(more)) => keys.extend(more),
        (Kids::Inner(inner), Kids::Inner(mut more)) => {
            // The first child of a page begins where its page does.
            if let Some(first) = more.first_mut() {
                first.first = other.first;
            }
            inner.extend(more);
        }
        (Kids::Leaf(_), Kids::Inner(_)) | (Kids::Inner(_), Kids::Leaf(_)) => {
            unreachable!("all leaves are equally deep")
        }
    }
    one.sum = one.node.kids.sum();
}
