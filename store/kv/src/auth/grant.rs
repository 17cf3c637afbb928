//! What one user may do: the union of its roles' permissions, as disjoint intervals.
//!
//! What would surprise: two permissions that touch count as one. A user who may read [a, c)
//! and [c, e) may read [b, d), though neither permission covers it.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use bytes::{BufMut, Bytes, BytesMut};

use super::ROOT;
use crate::command::{Access, Permission};
use crate::range::KeyRange;

/// An interval of keys: from the first, below the second; to the end of all keys without it.
type Interval = (Bytes, Option<Bytes>);

/// What one user may do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Grants {
    is_root: bool,
    read: Vec<Interval>,
    write: Vec<Interval>,
}

impl Grants {
    pub(crate) fn new(names: &[String], roles: &BTreeMap<String, Vec<Permission>>) -> Self {
        let permissions = || names.iter().filter_map(|it| roles.get(it)).flatten();
        let reads = permissions().filter(|it| it.access != Access::Write);
        let writes = permissions().filter(|it| it.access != Access::Read);
        Self {
            is_root: names.iter().any(|it| it == ROOT),
            read: merge(reads.map(interval_of).collect()),
            write: merge(writes.map(interval_of).collect()),
        }
    }

    pub(crate) const fn is_root(&self) -> bool {
        self.is_root
    }

    pub(crate) fn may_read(&self, keys: &KeyRange) -> bool {
        covers(&self.read, keys)
    }

    pub(crate) fn may_write(&self, keys: &KeyRange) -> bool {
        covers(&self.write, keys)
    }
}

impl Grants {
    /// Whether all of `keys` may be written. O(intervals met * log keys), for it leaps from one
    /// interval's end to the next key: most users have one interval, and a lease many keys.
    pub(crate) fn may_write_all(&self, keys: &BTreeSet<Bytes>) -> bool {
        let mut next = keys.first();
        while let Some(key) = next {
            match within(&self.write, key) {
                None => return false,
                Some(None) => return true,
                Some(Some(end)) => {
                    let rest = (Bound::Included(end.as_ref()), Bound::Unbounded);
                    next = keys.range::<[u8], _>(rest).next();
                }
            }
        }
        true
    }
}

fn interval_of(permission: &Permission) -> Interval {
    let range = KeyRange::new(permission.key.clone(), permission.range_end.clone());
    interval(&range)
}

fn interval(keys: &KeyRange) -> Interval {
    match keys {
        KeyRange::One(key) => (key.clone(), Some(successor(key))),
        KeyRange::Between(first, end) => (first.clone(), Some(end.clone())),
        KeyRange::From(first) => (first.clone(), None),
    }
}

/// The lowest key above `key`.
fn successor(key: &[u8]) -> Bytes {
    let mut next = BytesMut::with_capacity(key.len() + 1);
    next.put_slice(key);
    next.put_u8(0);
    next.freeze()
}

/// Sorts, and joins what overlaps or touches.
fn merge(mut intervals: Vec<Interval>) -> Vec<Interval> {
    intervals.sort();
    let mut merged: Vec<Interval> = Vec::new();
    for (first, end) in intervals {
        if end.as_ref().is_some_and(|end| *end <= first) {
            continue;
        }
        match merged.last_mut() {
            Some((_, last)) if last.as_ref().is_none_or(|last| first <= *last) => {
                if last.is_some() && (end.is_none() || end > *last) {
                    *last = end;
                }
            }
            Some(_) | None => merged.push((first, end)),
        }
    }
    merged
}

fn covers(intervals: &[Interval], keys: &KeyRange) -> bool {
    if let KeyRange::One(key) = keys {
        return within(intervals, key).is_some();
    }
    let (first, end) = interval(keys);
    match (within(intervals, &first), end) {
        (None, _) | (Some(Some(_)), None) => false,
        (Some(None), _) => true,
        (Some(Some(last)), Some(end)) => end <= *last,
    }
}

/// The end of the interval that holds `key`.
fn within<'a>(intervals: &'a [Interval], key: &[u8]) -> Option<&'a Option<Bytes>> {
    let above = intervals.partition_point(|(first, _)| first.as_ref() <= key);
    let (_, end) = intervals.get(above.checked_sub(1)?)?;
    let holds = end.as_ref().is_none_or(|end| key < end.as_ref());
    holds.then_some(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(key: &'static str, end: &'static str) -> KeyRange {
        KeyRange::new(
            Bytes::from_static(key.as_bytes()),
            Bytes::from_static(end.as_bytes()),
        )
    }

    fn grants(ranges: &[(&'static str, &'static str)]) -> Vec<Interval> {
        merge(
            ranges
                .iter()
                .map(|(key, end)| interval(&range(key, end)))
                .collect(),
        )
    }

    #[test]
    fn permissions_that_touch_count_as_one() {
        let merged = grants(&[("c", "e"), ("a", "c")]);
        assert!(covers(&merged, &range("b", "d")));
        assert!(!covers(&merged, &range("b", "f")) && !covers(&merged, &range("e", "")));
    }

    #[test]
    fn many_keys_are_judged_as_each_of_them_would_be() {
        let write = grants(&[("a", "c"), ("d", ""), ("f", "h")]);
        let admits = Grants {
            write,
            ..Grants::default()
        };
        let all = ["a", "b", "bb", "c", "d", "da", "f", "g", "h"];
        for chosen in 0..1_u32 << all.len() {
            let is_chosen = |(at, _): &(usize, &&'static str)| chosen >> at & 1 == 1;
            let keys = all.iter().enumerate().filter(is_chosen);
            let keys: BTreeSet<Bytes> = keys
                .map(|(_, key)| Bytes::from_static(key.as_bytes()))
                .collect();
            let each = keys
                .iter()
                .all(|key| admits.may_write(&KeyRange::One(key.clone())));
            assert_eq!(admits.may_write_all(&keys), each, "{keys:?}");
        }
    }

    #[test]
    fn a_permission_on_one_key_never_admits_a_range() {
        let merged = grants(&[("a", "")]);
        assert!(covers(&merged, &range("a", "")));
        assert!(!covers(&merged, &range("a", "\0")) && !covers(&merged, &range("a", "b")));
        assert!(!covers(&merged, &range("aa", "")));
    }

    #[test]
    fn an_open_end_admits_everything_above() {
        let merged = grants(&[("b", "\0"), ("c", "d")]);
        assert!(covers(&merged, &range("c", "\0")) && covers(&merged, &range("z", "")));
        assert!(!covers(&merged, &range("a", "\0")));
    }
}
