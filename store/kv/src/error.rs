//! Why the store could not be opened, read or written.

use holm_base::ByteCount;
use holm_machine::DiskError;

/// Why the store could not be opened, read or written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Stored bytes are not what was written.
    #[error(
        "{file} is damaged at byte {at}: {found}; nothing was changed: put back an undamaged copy \
         of this file, or restore a snapshot to an empty data directory"
    )]
    Damaged {
        /// The file's name within the store's folder.
        file: String,
        /// Where in it.
        at: ByteCount,
        /// What was wrong there.
        found: String,
    },
    /// The folder holds something that is no store, or another's.
    #[error("{file} does not belong to this store: {found}")]
    Foreign {
        /// The file's name within the store's folder.
        file: String,
        /// What it is.
        found: String,
    },
    /// A newer release wrote this.
    #[error("directory holds kv format {found}, this holm reads {reads}: use a newer holm")]
    Newer {
        /// The format found.
        found: u16,
        /// The newest that this code reads.
        reads: u16,
    },
    /// The disk refused. Unless it was [`DiskError::Full`] while allocating a file, the store
    /// must not be used any more.
    #[error("{attempted}")]
    Disk {
        /// What was attempted.
        attempted: String,
        /// Why it failed.
        source: DiskError,
    },
}

impl StoreError {
    /// Whether a file could not be allocated for want of room: nothing was changed, and the
    /// store goes on.
    #[must_use]
    pub const fn is_full(&self) -> bool {
        matches!(
            self,
            Self::Disk {
                source: DiskError::Full { .. },
                ..
            }
        )
    }
}
