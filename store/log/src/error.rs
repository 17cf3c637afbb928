//! Why the log refused. Only [`LogError::Full`], [`LogError::TooLarge`] and [`LogError::Gone`]
//! leave the log as it was; after any other the process ends and opens the log again.

use holm_base::{ByteCount, GroupId, Op};
use holm_machine::DiskError;

/// What [`Log`](crate::Log) answers when it cannot do what was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LogError {
    /// No room for another segment. Nothing was written; try again when there is space.
    #[error("append to the log: no room for another segment of {segment} bytes")]
    Full {
        /// How many bytes could not be allocated.
        segment: ByteCount,
    },
    /// A record is larger than a flush may be. Nothing was written.
    #[error("append to the log: a record of {bytes} bytes is larger than the limit of {limit}")]
    TooLarge {
        /// The record's size.
        bytes: ByteCount,
        /// The largest size that fits.
        limit: ByteCount,
    },
    /// The entries asked for were cut away.
    #[error("replay group {group} after op {after}: the log begins at op {first}")]
    Gone {
        /// Whose entries.
        group: GroupId,
        /// Where the replay was to begin.
        after: Op,
        /// The oldest op that is still here.
        first: Op,
    },
    /// Bytes that may have been acknowledged cannot be read back. Nothing was changed.
    #[error(
        "the log is damaged: {file} at byte {at}: expected {expected}, found {found}; \
         nothing was changed; put back an undamaged copy of this file, or start from a \
         snapshot in an empty data directory"
    )]
    Damaged {
        /// The segment's file name.
        file: String,
        /// Where in the file.
        at: ByteCount,
        /// What belongs there.
        expected: String,
        /// What stands there.
        found: String,
    },
    /// The log belongs to another node or cluster.
    #[error(
        "{file} belongs to node {node:016x} of cluster {cluster:016x}, not to this node; \
         use that node's configuration, or another data directory"
    )]
    Foreign {
        /// The segment's file name.
        file: String,
        /// The cluster it belongs to.
        cluster: u64,
        /// The node it belongs to.
        node: u64,
    },
    /// A newer release wrote this.
    #[error("{file} has {what} {version}, which this release cannot read; use a newer holm")]
    Version {
        /// The segment's file name.
        file: String,
        /// What has a version: the format, a record kind.
        what: &'static str,
        /// The version or kind found.
        version: u16,
    },
    /// The configuration does not describe a possible log.
    #[error("segments of {segment} bytes: a segment is a multiple of 4096 and at least {least}")]
    Config {
        /// The size that was asked for.
        segment: ByteCount,
        /// The smallest size.
        least: ByteCount,
    },
    /// An earlier write or sync failed, so what the disk holds is unknown (I12).
    #[error("the log refuses everything, because an earlier write or sync of it failed")]
    Broken,
    /// The disk failed.
    #[error("the log's disk failed")]
    Disk(#[from] DiskError),
}
