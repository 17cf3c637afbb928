//! Sorted keys in two allocations, with what they all begin with stored once.
//!
//! What would surprise: a position's key is not contiguous in memory. Compare through
//! [`Keys::search`], copy through [`Keys::write`].

use std::cmp::Ordering;

/// The keys of one node of the index.
#[derive(Debug, Default)]
pub(crate) struct Keys {
    prefix: Box<[u8]>,
    bytes: Vec<u8>,
    ends: Vec<u32>,
}

impl Clone for Keys {
    /// Leaves room for one more key: nodes are copied because one is about to be changed.
    fn clone(&self) -> Self {
        let mut bytes = Vec::with_capacity(self.bytes.len() + 32);
        bytes.extend_from_slice(&self.bytes);
        let mut ends = Vec::with_capacity(self.ends.len() + 1);
        ends.extend_from_slice(&self.ends);
        Self {
            prefix: self.prefix.clone(),
            bytes,
            ends,
        }
    }
}

impl Keys {
    pub(crate) const fn len(&self) -> usize {
        self.ends.len()
    }

    /// Bytes in use, without the shared ones.
    pub(crate) const fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Where `key` is, or where it would have to be inserted.
    pub(crate) fn search(&self, key: &[u8]) -> Result<usize, usize> {
        let Some(suffix) = key.strip_prefix(self.prefix.as_ref()) else {
            let below = key < self.prefix.as_ref();
            return Err(if below { 0 } else { self.len() });
        };
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = usize::midpoint(low, high);
            match self.suffix(middle).cmp(suffix) {
                Ordering::Less => low = middle + 1,
                Ordering::Greater => high = middle,
                Ordering::Equal => return Ok(middle),
            }
        }
        Err(low)
    }

    /// Replaces what `into` holds by the key at `at`.
    pub(crate) fn write(&self, at: usize, into: &mut Vec<u8>) {
        into.clear();
        into.extend_from_slice(&self.prefix);
        into.extend_from_slice(self.suffix(at));
    }

    pub(crate) fn key(&self, at: usize) -> Vec<u8> {
        let mut key = Vec::with_capacity(self.prefix.len() + self.suffix(at).len());
        self.write(at, &mut key);
        key
    }

    pub(crate) fn insert(&mut self, at: usize, key: &[u8]) {
        if !key.starts_with(&self.prefix) {
            let kept = common(&self.prefix, key);
            self.set_prefix(kept);
        }
        let suffix = &key[self.prefix.len()..];
        let start = self.start(at);
        reserve(&mut self.bytes, suffix.len());
        reserve(&mut self.ends, 1);
        if start == self.bytes.len() {
            self.bytes.extend_from_slice(suffix);
        } else {
            self.bytes.splice(start..start, suffix.iter().copied());
        }
        let added = narrow(suffix.len());
        self.ends.insert(at, narrow(start));
        for end in &mut self.ends[at..] {
            *end += added;
        }
    }

    pub(crate) fn remove(&mut self, at: usize) {
        let (start, end) = (self.start(at), self.end(at));
        self.bytes.drain(start..end);
        self.ends.remove(at);
        for later in &mut self.ends[at..] {
            *later -= narrow(end - start);
        }
    }

    /// Cuts off the keys from `at` on. Both halves find their shared prefix anew.
    pub(crate) fn split_off(&mut self, at: usize) -> Self {
        let mut right = Self::default();
        let mut key = Vec::new();
        for position in at..self.len() {
            self.write(position, &mut key);
            right.insert(position - at, &key);
        }
        self.bytes.truncate(self.start(at));
        self.ends.truncate(at);
        self.compress();
        right.compress();
        right
    }

    /// Adds all keys of `other`, which lie above all of these.
    pub(crate) fn append(&mut self, other: &Self) {
        let mut key = Vec::new();
        for position in 0..other.len() {
            other.write(position, &mut key);
            self.insert(self.len(), &key);
        }
    }

    /// Moves what all keys begin with into the prefix and gives back spare memory.
    pub(crate) fn compress(&mut self) {
        if let Some(last) = self.len().checked_sub(1) {
            let shared = common(self.suffix(0), self.suffix(last));
            self.set_prefix(self.prefix.len() + shared);
        }
        self.bytes.shrink_to_fit();
        self.ends.shrink_to_fit();
    }

    fn set_prefix(&mut self, len: usize) {
        if len == self.prefix.len() {
            return;
        }
        let mut whole = Vec::new();
        let mut bytes = Vec::with_capacity(self.bytes.len());
        let mut ends = Vec::with_capacity(self.ends.len() + 1);
        for at in 0..self.len() {
            self.write(at, &mut whole);
            bytes.extend_from_slice(&whole[len..]);
            ends.push(narrow(bytes.len()));
        }
        if self.ends.is_empty() {
            whole.extend_from_slice(&self.prefix);
        }
        self.prefix = whole[..len].into();
        self.bytes = bytes;
        self.ends = ends;
    }

    fn suffix(&self, at: usize) -> &[u8] {
        &self.bytes[self.start(at)..self.end(at)]
    }

    fn start(&self, at: usize) -> usize {
        at.checked_sub(1).map_or(0, |before| self.end(before))
    }

    fn end(&self, at: usize) -> usize {
        usize::try_from(self.ends[at]).expect("an offset in memory fits")
    }
}

/// Makes room for `more` with little to spare: nodes are many and live long.
pub(crate) fn reserve<T>(vec: &mut Vec<T>, more: usize) {
    if vec.capacity() - vec.len() < more {
        vec.reserve_exact(more + vec.len() / 8 + 1);
    }
}

fn common(left: &[u8], right: &[u8]) -> usize {
    left.iter()
        .zip(right)
        .take_while(|(one, other)| one == other)
        .count()
}

fn narrow(len: usize) -> u32 {
    u32::try_from(len).expect("a node splits long before its keys fill 4 GiB")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_foreign_key_shortens_the_prefix_and_nothing_is_lost() {
        let mut keys = Keys::default();
        for key in ["pods/a", "pods/b", "pods/c"] {
            keys.insert(keys.len(), key.as_bytes());
        }
        keys.compress();
        assert_eq!(keys.prefix.as_ref(), b"pods/");
        assert_eq!(keys.search(b"pod"), Err(0));
        assert_eq!(keys.search(b"pods0"), Err(3));
        keys.insert(0, b"poa");
        assert_eq!(keys.prefix.as_ref(), b"po");
        let all: Vec<_> = (0..keys.len()).map(|at| keys.key(at)).collect();
        assert_eq!(all, [&b"poa"[..], b"pods/a", b"pods/b", b"pods/c"]);
        let right = keys.split_off(2);
        assert_eq!(right.search(b"pods/c"), Ok(1));
        assert_eq!(keys.search(b"pods/a"), Ok(1));
    }

    #[test]
    fn one_key_that_is_all_prefix_can_be_removed_and_replaced() {
        let mut keys = Keys::default();
        keys.insert(0, b"alone");
        keys.compress();
        keys.remove(0);
        keys.insert(0, b"b");
        assert_eq!(keys.search(b"b"), Ok(0));
        assert_eq!(keys.key(0), b"b");
    }
}
