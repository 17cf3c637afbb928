//! How a pair of a key and a range end names a set of keys, by etcd's rules.

use bytes::Bytes;

/// A set of keys: one, an interval, or all from one on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum KeyRange {
    /// Exactly this key.
    One(Bytes),
    /// From the first, below the second. Empty if they are not in order.
    Between(Bytes, Bytes),
    /// From this key on.
    From(Bytes),
}

impl KeyRange {
    /// Reads a request's fields: an empty end means the key alone, a single zero byte means
    /// all from the key on (and a key of a single zero byte as well: all keys).
    #[must_use]
    pub fn new(key: Bytes, range_end: Bytes) -> Self {
        if range_end.is_empty() {
            Self::One(key)
        } else if range_end.as_ref() == b"\0" {
            Self::From(key)
        } else {
            Self::Between(key, range_end)
        }
    }

    /// The lowest key that may lie within.
    #[must_use]
    pub const fn first(&self) -> &Bytes {
        match self {
            Self::One(key) | Self::Between(key, _) | Self::From(key) => key,
        }
    }

    /// Whether `key` lies within.
    #[must_use]
    pub fn contains(&self, key: &[u8]) -> bool {
        match self {
            Self::One(one) => one.as_ref() == key,
            Self::Between(first, end) => first.as_ref() <= key && key < end.as_ref(),
            Self::From(first) => first.as_ref() <= key,
        }
    }

    /// Whether every key of `other` lies within.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (_, Self::One(key)) => self.contains(key),
            (Self::One(_), Self::Between(..) | Self::From(_))
            | (Self::Between(..), Self::From(_)) => false,
            (Self::From(first), Self::Between(key, _) | Self::From(key)) => first <= key,
            (Self::Between(first, end), Self::Between(key, key_end)) => {
                first <= key && key_end <= end
            }
        }
    }
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

    #[test]
    fn an_empty_end_is_one_key_and_a_zero_byte_is_all_from_it() {
        assert!(range("a", "").contains(b"a") && !range("a", "").contains(b"aa"));
        assert!(range("b", "\0").contains(b"c") && !range("b", "\0").contains(b"a"));
        assert!(range("\0", "\0").contains(b"\0") && range("\0", "\0").contains(b"zz"));
        assert!(range("a", "c").contains(b"b") && !range("a", "c").contains(b"c"));
    }

    #[test]
    fn one_key_never_covers_a_range() {
        assert!(!range("a", "").covers(&range("a", "\0")));
        assert!(range("a", "\0").covers(&range("b", "c")));
        assert!(
            range("a", "c").covers(&range("a", "b")) && !range("a", "c").covers(&range("a", "d"))
        );
    }
}
