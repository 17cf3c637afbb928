//! What a cache and its home say to each other, on one ordered stream each way.

use alloc::vec::Vec;

use bytes::Bytes;
use holm_base::Revision;

/// A key's number between one home and one cache, for as long as their connection lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeyId(pub u64);

/// A value as of a revision; none if the key does not exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The value, in whatever form reads are answered with.
    pub value: Option<Bytes>,
    /// When the key changed last; of a key that does not exist, any revision since then.
    pub revision: Revision,
}

/// What a home says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToCache {
    /// All that happened to the cache's keys since the frame before.
    Frame {
        /// Its number, from 1.
        number: u64,
        /// The newest report after whose arrival the home made sure that it lacks nothing; 0 if
        /// there is none.
        echo: u64,
        /// All up to this revision is in this frame and those before.
        revision: Revision,
        /// What happened, a key once.
        items: Vec<Item>,
    },
    /// The answer to a fetch.
    Value {
        /// The number of the fetch.
        number: u64,
        /// The key.
        key: Bytes,
        /// Its number, if the home tells of its changes from here on; none if its table is full.
        id: Option<KeyId>,
        /// What it holds.
        found: Found,
    },
}

/// What happened to a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// It has another value.
    Update(KeyId, Found),
    /// What the cache has is over.
    Invalidate(KeyId),
}

/// What a cache says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToHome {
    /// A moment, and what was read.
    Report {
        /// Its number, from 1.
        number: u64,
        /// Keys that were read for the first time since their last update.
        read: Vec<KeyId>,
    },
    /// Asks for a key's value.
    Fetch {
        /// Its number, rising.
        number: u64,
        /// The key.
        key: Bytes,
    },
    /// The cache has thrown a key out.
    Evict {
        /// Its number.
        id: KeyId,
    },
}
