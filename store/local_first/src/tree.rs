//! The keys of an island in order, each with a digest, and what any range of them amounts to.
//!
//! A B-tree whose pages are shared: a change copies one path, a copy that is kept for a session
//! is one reference. Each page
//! carries what all below it amounts to, so a range is summed at the cost of its two edges, many
//! bounds are found in one walk, one where a page begins costs nearly nothing, and
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

    fn before(&self, bounds: &[&[u8]]) -> Vec<Sum> {
        let mut found = Vec::with_capacity(bounds.len());
        let all = (&[][..], Sum::default());
        self.root.before_each(all, bounds, &mut found);
        found
    }

    fn bounds(&self, places: &[u64], near: u64) -> Vec<(Bytes, Sum)> {
        let mut found = Vec::with_capacity(places.len());
        let all = (&Bytes::new(), Sum::default());
        self.root.bounds(all, places, near, &mut found);
        found
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

    /// What all keys before each of some bounds amount to, which rise and lie in this node: one
    /// that it begins with needs no look into it. `low` is that, with what lies before it.
    fn before_each(&self, (low, mut sum): (&[u8], Sum), bounds: &[&[u8]], found: &mut Vec<Sum>) {
        let is_low = bounds.first().is_some_and(|it| *it == low);
        found.extend(is_low.then_some(sum));
        let mut bounds = &bounds[usize::from(is_low)..];
        let mut at = 0;
        match &self.kids {
            Kids::Leaf(keys) => {
                for bound in bounds {
                    let more = keys[at..].partition_point(|(key, _)| **key < **bound);
                    sum = sum.plus(&sum_of(&keys[at..at + more]));
                    at += more;
                    found.push(sum);
                }
            }
            Kids::Inner(children) => {
                while let Some(bound) = bounds.first() {
                    let more = children[at + 1..].partition_point(|it| *it.first <= **bound);
                    let passed = children[at..at + more].iter();
                    sum = passed.fold(sum, |sum, it| sum.plus(&it.sum));
                    at += more;
                    let end = children.get(at + 1).map(|it| &*it.first);
                    let is_here = |bound: &&&[u8]| end.is_none_or(|end| **bound < end);
                    let count = bounds.iter().take_while(is_here).count();
                    let (here, rest) = bounds.split_at(count);
                    let low = if at == 0 { low } else { &children[at].first };
                    children[at].node.before_each((low, sum), here, found);
                    bounds = rest;
                }
            }
        }
    }

    /// Bounds before the keys at some places, which lie in this node: where it or a page below it
    /// begins, if that is near before the place. `low` is where it begins, with what lies before.
    fn bounds(
        &self,
        (low, mut sum): (&Bytes, Sum),
        places: &[u64],
        near: u64,
        found: &mut Vec<(Bytes, Sum)>,
    ) {
        let is_low = places.first().is_some_and(|it| *it <= sum.count + near);
        found.extend(is_low.then(|| (low.clone(), sum)));
        let mut places = &places[usize::from(is_low)..];
        match &self.kids {
            Kids::Leaf(keys) => {
                let (begin, mut at) = (sum.count, 0);
                for place in places {
                    let to = usize::try_from(place - begin).expect("a page is short");
                    let key = |at: usize| keys.get(at).map(|(key, _)| &**key).unwrap_or_default();
                    sum = sum.plus(&sum_of(&keys[at..to]));
                    at = to;
                    let previous = at.checked_sub(1).map(key).unwrap_or_default();
                    found.push((separator(previous, key(at)), sum));
                }
            }
            Kids::Inner(children) => {
                for (at, child) in children.iter().enumerate() {
                    let end = sum.plus(&child.sum);
                    let count = places.iter().take_while(|it| **it < end.count).count();
                    let (here, rest) = places.split_at(count);
                    if !here.is_empty() {
                        let low = if at == 0 { low } else { &child.first };
                        child.node.bounds((low, sum), here, near, found);
                    }
                    (places, sum) = (rest, end);
                    if places.is_empty() {
                        break;
                    }
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
