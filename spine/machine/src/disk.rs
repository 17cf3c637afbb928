//! Storage as a store sees it: a value per file, and the folder that holds them.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt::Debug;

use holm_base::ByteCount;

/// One open file. All calls block.
///
/// A write is durable once a later `sync` has returned; until then a crash may keep it, drop
/// it or tear it at any 512-byte border. After a failed `write` or `sync` every further call
/// answers [`DiskError::Poisoned`].
pub trait Disk: Send + Sync + Debug {
    /// Fills `into` from `at`. Reading past the end is [`DiskError::Short`].
    ///
    /// # Errors
    ///
    /// As [`DiskError`] says.
    fn read(&self, at: ByteCount, into: &mut [u8]) -> Result<(), DiskError>;

    /// Writes all of `bytes` at `at`, growing the file if it ends before.
    ///
    /// # Errors
    ///
    /// As [`DiskError`] says; the handle refuses everything afterwards.
    fn write(&mut self, at: ByteCount, bytes: &[u8]) -> Result<(), DiskError>;

    /// As [`Disk::write`], of bytes that are synced next and seldom read: whole blocks of 4 KiB
    /// need not stay in the system's memory. No more durable than any write: `sync` must follow.
    ///
    /// # Errors
    ///
    /// As [`Disk::write`] says.
    fn write_through(&mut self, at: ByteCount, bytes: &[u8]) -> Result<(), DiskError> {
        self.write(at, bytes)
    }

    /// Makes all earlier writes of this handle durable (`fdatasync`).
    ///
    /// # Errors
    ///
    /// As [`DiskError`] says; the handle refuses everything afterwards, and the sync is never
    /// tried again.
    fn sync(&mut self) -> Result<(), DiskError>;

    /// The file's length.
    ///
    /// # Errors
    ///
    /// As [`DiskError`] says.
    fn len(&self) -> Result<ByteCount, DiskError>;

    /// Whether the file holds no byte.
    ///
    /// # Errors
    ///
    /// As [`DiskError`] says.
    fn is_empty(&self) -> Result<bool, DiskError> {
        Ok(self.len()? == ByteCount::ZERO)
    }

    /// Cuts the file, or grows it with zeros.
    ///
    /// # Errors
    ///
    /// As [`DiskError`] says.
    fn set_len(&mut self, len: ByteCount) -> Result<(), DiskError>;
}

/// A folder of files, named by plain file names without separators.
///
/// Creating, renaming and removing are durable once a later [`Folder::sync`] has returned.
pub trait Folder: Send + Sync + Debug {
    /// Creates a file of `len` zero bytes with its blocks allocated, so that writing inside it
    /// cannot find the disk full.
    ///
    /// # Errors
    ///
    /// [`DiskError::Exists`] if the name is taken; [`DiskError::Full`] if there is no room, and
    /// then the name is free again.
    fn create(&self, name: &str, len: ByteCount) -> Result<Box<dyn Disk>, DiskError>;

    /// Opens a file to read and write.
    ///
    /// # Errors
    ///
    /// [`DiskError::NotFound`] if there is none.
    fn open(&self, name: &str) -> Result<Box<dyn Disk>, DiskError>;

    /// Opens a second handle that only reads, beside one that writes. It sees all writes that
    /// have returned. Writing through it fails.
    ///
    /// # Errors
    ///
    /// [`DiskError::NotFound`] if there is none.
    fn open_read_only(&self, name: &str) -> Result<Box<dyn Disk>, DiskError>;

    /// Gives a file another name, replacing what had that name.
    ///
    /// # Errors
    ///
    /// [`DiskError::NotFound`] if there is no `from`.
    fn rename(&self, from: &str, to: &str) -> Result<(), DiskError>;

    /// Removes a file. Open handles go on reading it; its space is free once they are closed.
    ///
    /// # Errors
    ///
    /// [`DiskError::NotFound`] if there is none.
    fn remove(&self, name: &str) -> Result<(), DiskError>;

    /// The names of all files, sorted; folders within are left out.
    ///
    /// # Errors
    ///
    /// As [`DiskError`] says.
    fn list(&self) -> Result<Vec<String>, DiskError>;

    /// Makes all earlier creations, renames and removals durable.
    ///
    /// # Errors
    ///
    /// As [`DiskError`] says.
    fn sync(&self) -> Result<(), DiskError>;

    /// How many bytes may still be allocated here.
    ///
    /// # Errors
    ///
    /// As [`DiskError`] says.
    fn free(&self) -> Result<ByteCount, DiskError>;

    /// The folder of that name within this one, created (durably) if it is missing.
    ///
    /// # Errors
    ///
    /// As [`DiskError`] says.
    fn folder(&self, name: &str) -> Result<Arc<dyn Folder>, DiskError>;
}

/// Why storage refused. Each says what was attempted, on what.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DiskError {
    /// There is no such file.
    #[error("open {name}: no such file")]
    NotFound {
        /// The file's name.
        name: String,
    },
    /// The name is taken.
    #[error("create {name}: it exists")]
    Exists {
        /// The file's name.
        name: String,
    },
    /// No room to allocate; nothing was changed, and the caller may go on.
    #[error("{attempted}: no space left")]
    Full {
        /// What was attempted, on what.
        attempted: String,
    },
    /// The file ends before what was asked for.
    #[error("read {name} at {at}: the file ends {missing} bytes early")]
    Short {
        /// The file's name.
        name: String,
        /// Where the read began.
        at: ByteCount,
        /// How many bytes were missing.
        missing: ByteCount,
    },
    /// The device or the operating system failed.
    #[error("{attempted}: {reason}")]
    Failed {
        /// What was attempted, on what.
        attempted: String,
        /// What the system answered.
        reason: String,
    },
    /// An earlier write or sync failed, so what the device holds is unknown.
    #[error("{name}: refused, because an earlier write or sync of it failed")]
    Poisoned {
        /// The file's name.
        name: String,
    },
}
