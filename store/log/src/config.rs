//! What a log is told when it is opened, and its fixed limits.

use holm_base::{ByteCount, ClusterId, NodeId};

use crate::error::LogError;
use crate::layout::RECORD_HEADER;

/// The largest record, header included.
pub(crate) const RECORD_BYTES_MAX: u64 = 16 << 20;
/// A flush takes records up to this size together; a larger record has a flush of its own.
pub(crate) const FLUSH_BYTES_TARGET: u64 = 4 << 20;
/// A group with at most this many needed bytes, none of them new, does not hold a segment.
pub(crate) const CARRY_BYTES_MAX: u64 = 1 << 20;
/// How many blank segments to keep: the next one, and the reserve for a full disk.
pub(crate) const SPARES: usize = 2;
/// How much of a spare is zeroed at a time: what a flush may have to wait for.
pub(crate) const ZERO_SLICE: u64 = 256 << 10;
/// How many files that are let go may wait for an idle moment.
pub(crate) const RETIRED_MAX: usize = 2;
/// How much of a file that is let go is freed at a time.
pub(crate) const FREE_SLICE: u64 = 8 << 20;

const SEGMENT_LEAST: u64 = 16 << 10;

/// How a log is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// The cluster that the log belongs to; another cluster's log is refused.
    pub cluster: ClusterId,
    /// The node that the log belongs to; another node's log is refused.
    pub node: NodeId,
    /// The size of new segments: 64 MiB, or 8 MiB on small cards. Older ones keep theirs.
    pub segment_bytes: ByteCount,
    /// Whether other nodes have the entries too: then a log that is damaged opens, provided that
    /// no hard state can be missing. See [`crate::Log::is_damaged`].
    pub has_peers: bool,
}

impl LogConfig {
    /// A configuration with segments of 64 MiB, for a node alone.
    #[must_use]
    pub const fn new(cluster: ClusterId, node: NodeId) -> Self {
        Self {
            cluster,
            node,
            segment_bytes: ByteCount::new(64 << 20),
            has_peers: false,
        }
    }

    /// The longest body of an entry that a log of such segments takes, however many groups it
    /// serves.
    #[must_use]
    pub const fn entry_bytes_max(&self) -> ByteCount {
        let quarter = self.segment_bytes.value() / 4;
        let record = if quarter < RECORD_BYTES_MAX {
            quarter
        } else {
            RECORD_BYTES_MAX
        };
        ByteCount::new(record - RECORD_HEADER as u64)
    }

    /// Refuses a segment size that cannot be.
    pub(crate) fn check(&self) -> Result<(), LogError> {
        let bytes = self.segment_bytes.value();
        if bytes.is_multiple_of(4096) && bytes >= SEGMENT_LEAST {
            return Ok(());
        }
        Err(LogError::Config {
            segment: self.segment_bytes,
            least: ByteCount::new(SEGMENT_LEAST),
        })
    }
}
