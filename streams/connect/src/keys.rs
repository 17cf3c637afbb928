//! Names under which clients send rows again, and how many of them are remembered.
//!
//! A client that heard no answer sends the same rows again under the same name. Whether they
//! count already is known for the last [`KEYS_MAX`] names of a source; both the log's side and the
//! way in count in the order in which rows came, so that they agree.

use std::collections::VecDeque;
use std::sync::Arc;

/// How many names are remembered for each source.
pub const KEYS_MAX: usize = 1 << 16;
/// The longest name, in bytes.
pub const KEY_BYTES_MAX: usize = 256;

/// A name, with a digest of what was sent under it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// What the client called it.
    pub name: Arc<str>,
    /// Tells another body under the same name.
    pub digest: u64,
}

impl Key {
    /// The name of a body.
    #[must_use]
    pub fn of(name: &str, body: &[u8]) -> Self {
        Self {
            name: name.into(),
            digest: digest(body),
        }
    }
}

/// FNV-1a of the length and of all bytes: it guards against mistakes, not against an enemy, who
/// could as well take another name.
fn digest(body: &[u8]) -> u64 {
    const BASIS: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    let length = body.len().to_le_bytes();
    let bytes = length.iter().chain(body);
    bytes.fold(BASIS, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(PRIME)
    })
}

/// The last names of a source, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyRing(VecDeque<Key>);

impl KeyRing {
    /// One more, for which the oldest is forgotten if there are too many.
    pub fn add(&mut self, key: Key) -> Option<Key> {
        self.0.push_back(key);
        (self.0.len() > KEYS_MAX)
            .then(|| self.0.pop_front())
            .flatten()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All of them, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &Key> {
        self.0.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_name_is_forgotten_first() {
        let mut ring = KeyRing::default();
        for number in 0..KEYS_MAX {
            assert_eq!(ring.add(Key::of(&number.to_string(), b"x")), None);
        }
        let gone = ring.add(Key::of("one more", b"x")).unwrap();
        assert_eq!((&*gone.name, ring.len()), ("0", KEYS_MAX));
    }

    #[test]
    fn another_body_has_another_digest() {
        assert_eq!(Key::of("a", b"x"), Key::of("a", b"x"));
        assert_ne!(Key::of("a", b"x").digest, Key::of("a", b"y").digest);
        assert_ne!(Key::of("a", b"").digest, Key::of("a", b"\0").digest);
    }
}
