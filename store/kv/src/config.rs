//! What a keyspace and its store are told when they are opened.
//!
//! What would surprise: nothing here alters what applying a command gives. Limits that do are
//! constants, for all nodes of a keyspace must agree on them.

use std::time::Duration;

use holm_base::{ByteCount, ClusterId, GroupId, NodeId};

use crate::head::Owner;
use crate::hub::HubConfig;
use crate::island::IslandConfig;

/// How a node runs a keyspace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// How many bytes may be retained before the node raises the alarm; 0 for the default.
    pub quota_bytes: u64,
    /// Free bytes of the disk, beside room for another checkpoint, below which the node raises
    /// the alarm; 0 for never. Three segments of the store and the log's reserve are enough.
    pub free_bytes_min: u64,
    /// The node, as alarms name it.
    pub node: NodeId,
    /// What a lease gets on top of its time to live when a leader takes over.
    pub election_timeout: Duration,
    /// How often leases' remaining time is made durable.
    pub lease_checkpoint_interval: Duration,
    /// How watches are served.
    pub hub: HubConfig,
    /// How the store lays out its files.
    pub store: StoreConfig,
    /// What it is among the islands of a local-first keyspace, if it is one.
    pub island: Option<IslandConfig>,
}

impl Config {
    /// etcd's default quota.
    pub const QUOTA_BYTES: u64 = 2 << 30;

    /// The quota in force.
    #[must_use]
    pub const fn quota(&self) -> u64 {
        if self.quota_bytes == 0 {
            Self::QUOTA_BYTES
        } else {
            self.quota_bytes
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            quota_bytes: Self::QUOTA_BYTES,
            free_bytes_min: 256 << 20,
            node: NodeId::ZERO,
            election_timeout: Duration::from_secs(1),
            lease_checkpoint_interval: Duration::from_secs(300),
            hub: HubConfig::default(),
            store: StoreConfig::default(),
            island: None,
        }
    }
}

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
