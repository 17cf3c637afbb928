//! A sorted map that can be pinned: a copy-on-write B+ tree of shared nodes.
//!
//! ```text
//!            Inner: low keys, live counts, children
//!           /                  |                  \
//!     Inner ...              Inner                ...
//!                           /     \
//!                       Leaf       Leaf: up to 64 keys, their values
//! ```
//!
//! A node that nobody else holds is changed in place, any other is copied first. A copy of a
//! leaf moves about 4 KiB; a copy of an inner node counts up at most 24 children. Keys are shared
//! until one comes or goes: most copies are made to give a key another value.
//!
//! What would surprise: a node's first low key is only a hint. Whatever is below the second
//! one belongs to the first child.

use std::ops::ControlFlow;
use std::sync::Arc;

use crate::keys::{Keys, reserve};

const LEAF_MAX: usize = 64;
const INNER_MAX: usize = 24;
/// Leaves of very long keys split earlier, so that copying one stays cheap.
const KEY_BYTES_MAX: usize = 16 << 10;

/// What the map can hold.
pub(crate) trait Value: Clone {
    /// Whether [`Index::live`] and [`Index::rank`] count it.
    fn is_live(&self) -> bool;
}

/// A sorted map whose clones share everything that was not changed since.
#[derive(Clone, Debug)]
pub(crate) struct Index<V> {
    root: Arc<Node<V>>,
}

#[derive(Clone, Debug)]
enum Node<V> {
    Leaf(Leaf<V>),
    Inner(Inner<V>),
}

#[derive(Debug)]
struct Leaf<V> {
    keys: Arc<Keys>,
    values: Vec<V>,
}

#[derive(Clone, Debug)]
struct Inner<V> {
    keys: Arc<Keys>,
    live: Vec<u64>,
    nodes: Vec<Arc<Node<V>>>,
}

struct Split<V> {
    low: Vec<u8>,
    right: Arc<Node<V>>,
}

impl<V: Clone> Clone for Leaf<V> {
    /// Leaves room for the value that it is copied for.
    fn clone(&self) -> Self {
        let mut values = Vec::with_capacity(self.values.len() + 1);
        values.extend_from_slice(&self.values);
        Self {
            keys: Arc::clone(&self.keys),
            values,
        }
    }
}

impl<V: Value> Index<V> {
    pub(crate) fn new() -> Self {
        Self {
            root: Arc::new(Node::Leaf(Leaf {
                keys: Arc::default(),
                values: Vec::new(),
            })),
        }
    }

    /// How many live values there are. O(1).
    pub(crate) fn live(&self) -> u64 {
        self.root.live()
    }

    /// The value of a key. O(log n).
    pub(crate) fn get(&self, key: &[u8]) -> Option<&V> {
        let mut node = self.root.as_ref();
        loop {
            match node {
                Node::Leaf(leaf) => {
                    return leaf.keys.search(key).ok().map(|at| &leaf.values[at]);
                }
                Node::Inner(inner) => node = inner.nodes[inner.child(key)].as_ref(),
            }
        }
    }

    /// Sets the value of a key and gives the one before. O(log n).
    pub(crate) fn insert(&mut self, key: &[u8], value: V) -> Option<V> {
        let (previous, split) = insert(&mut self.root, key, value);
        if let Some(Split { low, right }) = split {
            let left = Arc::clone(&self.root);
            let mut keys = Keys::default();
            keys.insert(0, &left.low());
            keys.insert(1, &low);
            self.root = Arc::new(Node::Inner(Inner {
                keys: Arc::new(keys),
                live: vec![left.live(), right.live()],
                nodes: vec![left, right],
            }));
        }
        previous
    }

    /// Changes a value in place, if `change` finds that it wants to after a look at it. It
    /// must not change whether the value is live.
    pub(crate) fn update(
        &mut self,
        key: &[u8],
        wants: impl FnOnce(&V) -> bool,
        change: impl FnOnce(&mut V),
    ) -> bool {
        if !self.get(key).is_some_and(wants) {
            return false;
        }
        let mut node = &mut self.root;
        loop {
            match Arc::make_mut(node) {
                Node::Leaf(leaf) => {
                    let at = leaf.keys.search(key).expect("it was found above");
                    change(&mut leaf.values[at]);
                    return true;
                }
                Node::Inner(inner) => {
                    let at = inner.child(key);
                    node = &mut inner.nodes[at];
                }
            }
        }
    }

    /// Removes a key and gives its value. O(log n).
    pub(crate) fn remove(&mut self, key: &[u8]) -> Option<V> {
        self.get(key)?;
        let removed = remove(&mut self.root, key);
        while let Node::Inner(inner) = self.root.as_ref()
            && inner.nodes.len() == 1
        {
            self.root = Arc::clone(&inner.nodes[0]);
        }
        Some(removed)
    }

    /// How many live values lie below `key`. O(log n).
    pub(crate) fn rank(&self, key: &[u8]) -> u64 {
        let mut below = 0;
        let mut node = self.root.as_ref();
        loop {
            match node {
                Node::Leaf(leaf) => {
                    let (Ok(end) | Err(end)) = leaf.keys.search(key);
                    return below + live(&leaf.values[..end]);
                }
                Node::Inner(inner) => {
                    let at = inner.child(key);
                    below += inner.live[..at].iter().sum::<u64>();
                    node = inner.nodes[at].as_ref();
                }
            }
        }
    }

    /// Visits keys and values in order from `from` on, until `each` breaks off.
    pub(crate) fn scan(
        &self,
        from: &[u8],
        each: &mut dyn FnMut(&[u8], &V) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        scan(&self.root, Some(from), &mut Vec::new(), each)
    }
}

impl<V: Value> Node<V> {
    fn live(&self) -> u64 {
        match self {
            Self::Leaf(leaf) => live(&leaf.values),
            Self::Inner(inner) => inner.live.iter().sum(),
        }
    }

    fn low(&self) -> Vec<u8> {
        match self {
            Self::Leaf(leaf) => leaf.keys.key(0),
            Self::Inner(inner) => inner.keys.key(0),
        }
    }

    const fn len(&self) -> usize {
        match self {
            Self::Leaf(leaf) => leaf.values.len(),
            Self::Inner(inner) => inner.nodes.len(),
        }
    }

    const fn max(&self) -> usize {
        match self {
            Self::Leaf(_) => LEAF_MAX,
            Self::Inner(_) => INNER_MAX,
        }
    }
}

impl<V: Value> Inner<V> {
    fn child(&self, key: &[u8]) -> usize {
        match self.keys.search(key) {
            Ok(at) => at,
            Err(at) => at.saturating_sub(1),
        }
    }

    fn drop_child(&mut self, at: usize) {
        Arc::make_mut(&mut self.keys).remove(at);
        self.live.remove(at);
        self.nodes.remove(at);
    }

    /// Joins child `at` with its right neighbour if together they leave room to grow.
    fn merge(&mut self, at: usize) {
        let fits = |inner: &Self| {
            let (left, right) = (inner.nodes.get(at)?, inner.nodes.get(at + 1)?);
            (left.len() + right.len() <= left.max() / 4 * 3).then_some(())
        };
        if fits(self).is_none() {
            return;
        }
        let right = Arc::clone(&self.nodes[at + 1]);
        match (Arc::make_mut(&mut self.nodes[at]), right.as_ref()) {
            (Node::Leaf(left), Node::Leaf(right)) => {
                let keys = Arc::make_mut(&mut left.keys);
                keys.append(&right.keys);
                keys.compress();
                left.values.extend_from_slice(&right.values);
            }
            (Node::Inner(left), Node::Inner(right)) => {
                Arc::make_mut(&mut left.keys).append(&right.keys);
                left.live.extend_from_slice(&right.live);
                left.nodes.extend(right.nodes.iter().map(Arc::clone));
            }
            (Node::Leaf(_), Node::Inner(_)) | (Node::Inner(_), Node::Leaf(_)) => {
                unreachable!("all leaves are equally deep")
            }
        }
        self.live[at] += self.live[at + 1];
        self.drop_child(at + 1);
    }
}

fn insert<V: Value>(
    node: &mut Arc<Node<V>>,
    key: &[u8],
    value: V,
) -> (Option<V>, Option<Split<V>>) {
    match Arc::make_mut(node) {
        Node::Leaf(leaf) => insert_leaf(leaf, key, value),
        Node::Inner(inner) => {
            let at = match inner.keys.search(key) {
                Ok(at) => at,
                Err(0) => {
                    let keys = Arc::make_mut(&mut inner.keys);
                    keys.remove(0);
                    keys.insert(0, key);
                    0
                }
                Err(at) => at - 1,
            };
            let added = u64::from(value.is_live());
            let (previous, split) = insert(&mut inner.nodes[at], key, value);
            inner.live[at] += added;
            inner.live[at] -= u64::from(previous.as_ref().is_some_and(V::is_live));
            let split = split.and_then(|split| insert_child(inner, at, split));
            (previous, split)
        }
    }
}

fn insert_leaf<V: Value>(
    leaf: &mut Leaf<V>,
    key: &[u8],
    value: V,
) -> (Option<V>, Option<Split<V>>) {
    let at = match leaf.keys.search(key) {
        Ok(at) => return (Some(std::mem::replace(&mut leaf.values[at], value)), None),
        Err(at) => at,
    };
    let last = leaf.values.len();
    let keys = Arc::make_mut(&mut leaf.keys);
    keys.insert(at, key);
    reserve(&mut leaf.values, 1);
    leaf.values.insert(at, value);
    let long = keys.bytes() > KEY_BYTES_MAX && last > 0;
    if leaf.values.len() <= LEAF_MAX && !long {
        return (None, None);
    }
    // Keys often arrive in order; a leaf that is left behind by those stays full.
    let middle = if at == last {
        last
    } else {
        leaf.values.len() / 2
    };
    let right = Leaf {
        keys: Arc::new(keys.split_off(middle)),
        values: leaf.values.split_off(middle),
    };
    leaf.values.shrink_to_fit();
    let low = right.keys.key(0);
    let right = Arc::new(Node::Leaf(right));
    (None, Some(Split { low, right }))
}

fn insert_child<V: Value>(inner: &mut Inner<V>, at: usize, split: Split<V>) -> Option<Split<V>> {
    let moved = split.right.live();
    let last = inner.nodes.len();
    inner.live[at] -= moved;
    let keys = Arc::make_mut(&mut inner.keys);
    keys.insert(at + 1, &split.low);
    inner.live.insert(at + 1, moved);
    inner.nodes.insert(at + 1, split.right);
    if inner.nodes.len() <= INNER_MAX {
        return None;
    }
    let middle = if at + 1 == last {
        last
    } else {
        inner.nodes.len() / 2
    };
    let right = Inner {
        keys: Arc::new(keys.split_off(middle)),
        live: inner.live.split_off(middle),
        nodes: inner.nodes.split_off(middle),
    };
    let low = right.keys.key(0);
    let right = Arc::new(Node::Inner(right));
    Some(Split { low, right })
}

fn remove<V: Value>(node: &mut Arc<Node<V>>, key: &[u8]) -> V {
    match Arc::make_mut(node) {
        Node::Leaf(leaf) => {
            let at = leaf.keys.search(key).expect("the caller found it");
            Arc::make_mut(&mut leaf.keys).remove(at);
            leaf.values.remove(at)
        }
        Node::Inner(inner) => {
            let at = inner.child(key);
            let removed = remove(&mut inner.nodes[at], key);
            inner.live[at] -= u64::from(removed.is_live());
            let child = &inner.nodes[at];
            if child.len() == 0 {
                inner.drop_child(at);
            } else if child.len() < child.max() / 4 {
                inner.merge(at);
                if at > 0 {
                    inner.merge(at - 1);
                }
            }
            removed
        }
    }
}

fn scan<V: Value>(
    node: &Node<V>,
    from: Option<&[u8]>,
    key: &mut Vec<u8>,
    each: &mut dyn FnMut(&[u8], &V) -> ControlFlow<()>,
) -> ControlFlow<()> {
    match node {
        Node::Leaf(leaf) => {
            let start = from.map_or(0, |from| {
                let (Ok(at) | Err(at)) = leaf.keys.search(from);
                at
            });
            for at in start..leaf.values.len() {
                leaf.keys.write(at, key);
                each(key, &leaf.values[at])?;
            }
        }
        Node::Inner(inner) => {
            let start = from.map_or(0, |from| inner.child(from));
            for at in start..inner.nodes.len() {
                let from = from.filter(|_| at == start);
                scan(&inner.nodes[at], from, key, each)?;
            }
        }
    }
    ControlFlow::Continue(())
}

fn live<V: Value>(values: &[V]) -> u64 {
    values.iter().map(|value| u64::from(value.is_live())).sum()
}

/// Builds a map from keys that come in order, bottom up, with full nodes.
#[derive(Debug)]
pub(crate) struct Builder<V> {
    leaf: Leaf<V>,
    done: Vec<Arc<Node<V>>>,
}

impl<V: Value> Builder<V> {
    pub(crate) fn new() -> Self {
        Self {
            leaf: Leaf {
                keys: Arc::default(),
                values: Vec::new(),
            },
            done: Vec::new(),
        }
    }

    /// Adds a key above all earlier ones.
    pub(crate) fn push(&mut self, key: &[u8], value: V) {
        let long = self.leaf.keys.bytes() > KEY_BYTES_MAX;
        if self.leaf.values.len() == LEAF_MAX || long {
            self.close();
        }
        if self.leaf.values.is_empty() {
            self.leaf.values.reserve_exact(LEAF_MAX);
        }
        let keys = Arc::make_mut(&mut self.leaf.keys);
        keys.insert(keys.len(), key);
        self.leaf.values.push(value);
    }

    fn close(&mut self) {
        let mut keys = std::mem::take(&mut self.leaf.keys);
        let mut values = std::mem::take(&mut self.leaf.values);
        Arc::make_mut(&mut keys).compress();
        values.shrink_to_fit();
        self.done.push(Arc::new(Node::Leaf(Leaf { keys, values })));
    }

    pub(crate) fn finish(mut self) -> Index<V> {
        if !self.leaf.values.is_empty() || self.done.is_empty() {
            self.close();
        }
        let mut level = self.done;
        while level.len() > 1 {
            // One child alone would be a node that can be neither searched nor merged well.
            let groups = level.len().div_ceil(INNER_MAX);
            let size = level.len().div_ceil(groups);
            level = level.chunks(size).map(inner).collect();
        }
        let root = level.pop().expect("there is at least an empty leaf");
        Index { root }
    }
}

fn inner<V: Value>(children: &[Arc<Node<V>>]) -> Arc<Node<V>> {
    let mut keys = Keys::default();
    for child in children {
        keys.insert(keys.len(), &child.low());
    }
    keys.compress();
    Arc::new(Node::Inner(Inner {
        keys: Arc::new(keys),
        live: children.iter().map(|child| child.live()).collect(),
        nodes: children.to_vec(),
    }))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use holm_base::Prng;

    use super::*;

    impl Value for i32 {
        fn is_live(&self) -> bool {
            *self > 0
        }
    }

    fn check(index: &Index<i32>, twin: &BTreeMap<Vec<u8>, i32>, from: &[u8]) {
        let mut found = Vec::new();
        let _end = index.scan(from, &mut |key, value| {
            found.push((key.to_vec(), *value));
            ControlFlow::Continue(())
        });
        let wanted: Vec<_> = twin
            .range(from.to_vec()..)
            .map(|(key, value)| (key.clone(), *value))
            .collect();
        assert_eq!(found, wanted);
        let below = twin.range(..from.to_vec()).filter(|it| *it.1 > 0).count();
        assert_eq!(index.rank(from), u64::try_from(below).expect("fits"));
        let live = twin.values().filter(|value| **value > 0).count();
        assert_eq!(index.live(), u64::try_from(live).expect("fits"));
    }

    fn random_key(random: &mut Prng) -> Vec<u8> {
        let number = random.below(3000);
        if random.below(50) == 0 {
            return vec![b'k'; usize::try_from(number).expect("fits") * 3];
        }
        format!("registry/{}/{number}", number % 7).into_bytes()
    }

    #[test]
    fn it_does_what_a_sorted_map_does() {
        let mut random = Prng::new(5);
        let (mut index, mut twin) = (Index::new(), BTreeMap::new());
        let mut pinned = Vec::new();
        for step in 0..30_000 {
            let key = random_key(&mut random);
            let removes = if step / 6000 % 2 == 1 { 8 } else { 2 };
            if random.below(10) < removes {
                assert_eq!(index.remove(&key), twin.remove(&key));
            } else {
                let value = i32::try_from(random.below(5)).expect("fits") - 1;
                assert_eq!(index.insert(&key, value), twin.insert(key, value));
            }
            if step % 3000 == 0 {
                pinned.push((index.clone(), twin.clone()));
            }
            if step % 500 == 0 {
                check(&index, &twin, &random_key(&mut random));
            }
        }
        for (index, twin) in &pinned {
            check(index, twin, b"");
            check(index, twin, b"registry/3/");
        }
        for key in twin.keys() {
            index.remove(key);
        }
        assert_eq!(index.live(), 0);
    }

    #[test]
    fn a_built_map_is_the_same_and_can_be_changed() {
        for len in [0, 1, 63, 64, 65, 1600, 5000] {
            let mut builder = Builder::new();
            let mut twin = BTreeMap::new();
            for number in 0..len {
                let key = format!("key{number:06}").into_bytes();
                builder.push(&key, number % 3);
                twin.insert(key, number % 3);
            }
            let mut index = builder.finish();
            check(&index, &twin, b"");
            index.insert(b"a", 1);
            index.insert(b"key000100x", 1);
            twin.insert(b"a".to_vec(), 1);
            twin.insert(b"key000100x".to_vec(), 1);
            check(&index, &twin, b"key0001");
        }
    }

    #[test]
    fn an_update_that_is_not_wanted_changes_nothing() {
        let mut index = Index::new();
        index.insert(b"a", 1);
        assert!(!index.update(b"a", |value| *value == 2, |value| *value = 3));
        assert!(index.update(b"a", |value| *value == 1, |value| *value = 3));
        assert_eq!(index.get(b"a"), Some(&3));
    }
}
