//! Sorted keys in two allocations, with what they all begin with stored once.
//!
//! ```text
//! bytes     shared prefix | rest of key 0 | rest of key 1 | ...
//! entries   (first four bytes of the rest, where the rest ends) for each key
//! ```
//!
//! A search compares the four bytes and touches `bytes` only where they are equal: it is
//! memory that costs the time, not comparing.
//!
//! What would surprise: a position's key is not contiguous in memory. Compare through
//! [`Keys::search`], copy through [`Keys::write`].

use std::cmp::Ordering;

use crate::layout::{narrow, wide};

/// The keys of one node of the index.
#[derive(Debug, Default)]
pub(crate) struct Keys {
    prefix: u32,
    bytes: Vec<u8>,
    entries: Vec<Entry>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    /// The first four bytes of the rest, the first one highest; zeros where there are none.
    first: u32,
    end: u32,
}

impl Clone for Keys {
    /// Leaves room for one more key: nodes are copied because one is about to be changed.
    fn clone(&self) -> Self {
        let mut bytes = Vec::with_capacity(self.bytes.len() + 32);
        bytes.extend_from_slice(&self.bytes);
        let mut entries = Vec::with_capacity(self.entries.len() + 1);
        entries.extend_from_slice(&self.entries);
        Self {
            prefix: self.prefix,
            bytes,
            entries,
        }
    }
}

impl Keys {
    pub(crate) const fn len(&self) -> usize {
        self.entries.len()
    }

    /// Bytes in use.
    pub(crate) const fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Where `key` is, or where it would have to be inserted.
    pub(crate) fn search(&self, key: &[u8]) -> Result<usize, usize> {
        let Some(suffix) = key.strip_prefix(self.prefix()) else {
            let below = key < self.prefix();
            return Err(if below { 0 } else { self.len() });
        };
        let first = first_bytes(suffix);
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = usize::midpoint(low, high);
            let order = self.entries[middle].first.cmp(&first);
            match order.then_with(|| self.suffix(middle).cmp(suffix)) {
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
        into.extend_from_slice(self.prefix());
        into.extend_from_slice(self.suffix(at));
    }

    pub(crate) fn key(&self, at: usize) -> Vec<u8> {
        let mut key = Vec::with_capacity(self.prefix().len() + self.suffix(at).len());
        self.write(at, &mut key);
        key
    }

    pub(crate) fn insert(&mut self, at: usize, key: &[u8]) {
        if !key.starts_with(self.prefix()) {
            let kept = common(self.prefix(), key);
            self.set_prefix(kept);
        }
        let suffix = &key[self.prefix().len()..];
        let start = self.start(at);
        reserve(&mut self.bytes, suffix.len());
        reserve(&mut self.entries, 1);
        if start == self.bytes.len() {
            self.bytes.extend_from_slice(suffix);
        } else {
            self.bytes.splice(start..start, suffix.iter().copied());
        }
        let added = narrow(suffix.len());
        let entry = Entry {
            first: first_bytes(suffix),
            end: narrow(start),
        };
        self.entries.insert(at, entry);
        for entry in &mut self.entries[at..] {
            entry.end += added;
        }
    }

    pub(crate) fn remove(&mut self, at: usize) {
        let (start, end) = (self.start(at), self.end(at));
        self.bytes.drain(start..end);
        self.entries.remove(at);
        for later in &mut self.entries[at..] {
            later.end -= narrow(end - start);
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
        self.entries.truncate(at);
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
            self.set_prefix(self.prefix().len() + shared);
        }
        self.bytes.shrink_to_fit();
        self.entries.shrink_to_fit();
    }

    fn set_prefix(&mut self, len: usize) {
        if len == self.prefix().len() {
            return;
        }
        let mut whole = self.prefix().to_vec();
        let mut bytes = Vec::with_capacity(self.bytes.len());
        let mut entries = Vec::with_capacity(self.entries.len() + 1);
        for at in 0..self.len() {
            self.write(at, &mut whole);
            if at == 0 {
                bytes.extend_from_slice(&whole[..len]);
            }
            bytes.extend_from_slice(&whole[len..]);
            entries.push(Entry {
                first: first_bytes(&whole[len..]),
                end: narrow(bytes.len()),
            });
        }
        if entries.is_empty() {
            bytes.extend_from_slice(&whole[..len]);
        }
        self.prefix = narrow(len);
        self.bytes = bytes;
        self.entries = entries;
    }

    fn prefix(&self) -> &[u8] {
        &self.bytes[..wide(self.prefix)]
    }

    fn suffix(&self, at: usize) -> &[u8] {
        &self.bytes[self.start(at)..self.end(at)]
    }

    fn start(&self, at: usize) -> usize {
        let before = at.checked_sub(1);
        before.map_or_else(|| wide(self.prefix), |before| self.end(before))
    }

    fn end(&self, at: usize) -> usize {
        wide(self.entries[at].end)
    }
}

/// Orders as the bytes do, as far as it goes.
fn first_bytes(suffix: &[u8]) -> u32 {
    let mut four = [0; 4];
    let len = suffix.len().min(4);
    four[..len].copy_from_slice(&suffix[..len]);
    u32::from_le_bytes(four).swap_bytes()
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
        assert_eq!(keys.prefix(), b"pods/");
        assert_eq!(keys.search(b"pod"), Err(0));
        assert_eq!(keys.search(b"pods0"), Err(3));
        keys.insert(0, b"poa");
        assert_eq!(keys.prefix(), b"po");
        let all: Vec<_> = (0..keys.len()).map(|at| keys.key(at)).collect();
        assert_eq!(all, [&b"poa"[..], b"pods/a", b"pods/b", b"pods/c"]);
        let right = keys.split_off(2);
        assert_eq!(right.search(b"pods/c"), Ok(1));
        assert_eq!(keys.search(b"pods/a"), Ok(1));
    }

    #[test]
    fn a_key_of_zeros_is_not_the_shorter_one() {
        let mut keys = Keys::default();
        for (at, key) in [&b""[..], b"\0", b"\0\0", b"a", b"a\0", b"a\0\0\0\0", b"aa"]
            .iter()
            .enumerate()
        {
            assert_eq!(keys.search(key), Err(at));
            keys.insert(at, key);
            assert_eq!(keys.search(key), Ok(at));
        }
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
