//! How a store lays out its files and when it works.

use std::time::Duration;

use holm_base::{ByteCount, ClusterId, GroupId};

use crate::head::Owner;

/// How a [`crate::Store`] lays out its files and when it works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreConfig {
    /// The cluster that the files belong to; another's files are refused.
    pub cluster: ClusterId,
    /// The group that the files belong to; another's files are refused.
    pub group: GroupId,
    /// How large a segment file is.
    pub segment_bytes: ByteCount,
    /// How much may wait before a flush is due.
    pub flush_bytes: ByteCount,
    /// How long anything may wait before a flush is due.
    pub flush_after: Duration,
    /// How much may wait before [`crate::Store::must_wait`] says so.
    pub unflushed_bytes_max: ByteCount,
    /// How much must have been written since the last checkpoint for the next to be due.
    pub checkpoint_bytes_min: ByteCount,
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self {
            cluster: ClusterId::ZERO,
            group: GroupId::ZERO,
            segment_bytes: ByteCount::new(64 << 20),
            flush_bytes: ByteCount::new(4 << 20),
            flush_after: Duration::from_secs(1),
            unflushed_bytes_max: ByteCount::new(16 << 20),
            checkpoint_bytes_min: ByteCount::new(64 << 20),
        }
    }
}

impl StoreConfig {
    /// Whose files these are.
    pub(crate) const fn owner(&self) -> Owner {
        Owner {
            cluster: self.cluster,
            group: self.group,
        }
    }
}
