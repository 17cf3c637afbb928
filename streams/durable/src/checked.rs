//! Small files that are there whole or not at all, with a checksum.

use holm_base::ByteCount;
use holm_machine::{DiskError, Folder};
use thiserror::Error;

use crate::frame::{small_at, word_at};

const MAGIC: &[u8; 8] = b"HOLMKEPT";
const VERSION: u32 = 1;
const HEADER: usize = 32;
const UNFINISHED: &str = ".new";

/// Why a checked file could not be read.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum CheckedError {
    /// The disk refused.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// Its bytes are not those that were written.
    #[error("{name} is damaged: {what}")]
    Damaged {
        /// The file.
        name: String,
        /// What is wrong.
        what: &'static str,
    },
}

/// Writes a file: under another name, synced, then renamed in the place of what was there.
///
/// # Errors
///
/// If the disk refuses; what was there before is still there then.
pub fn keep(folder: &dyn Folder, name: &str, kind: u32, body: &[u8]) -> Result<(), DiskError> {
    let unfinished = format!("{name}{UNFINISHED}");
    match folder.remove(&unfinished) {
        Ok(()) | Err(DiskError::NotFound { .. }) => {}
        Err(error) => return Err(error),
    }
    let bytes = written(kind, body);
    let size = u64::try_from(bytes.len()).expect("a size fits 64 bits");
    let mut disk = folder.create(&unfinished, ByteCount::new(size))?;
    disk.write(ByteCount::ZERO, &bytes)?;
    disk.sync()?;
    folder.rename(&unfinished, name)?;
    folder.sync()
}

/// Removes what crashes left of files that were never finished.
///
/// # Errors
///
/// If the disk refuses.
pub fn leftovers(folder: &dyn Folder) -> Result<(), DiskError> {
    for name in folder.list()? {
        if name.ends_with(UNFINISHED) {
            folder.remove(&name)?;
        }
    }
    Ok(())
}

/// Reads a file of a kind; `None` if there is none.
///
/// # Errors
///
/// If it is damaged or of another kind, or the disk refuses.
pub fn fetch(folder: &dyn Folder, name: &str, kind: u32) -> Result<Option<Vec<u8>>, CheckedError> {
    let disk = match folder.open_read_only(name) {
        Ok(disk) => disk,
        Err(DiskError::NotFound { .. }) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let len = usize::try_from(disk.len()?.value()).expect("what is in memory fits it");
    let mut bytes = vec![0; len];
    disk.read(ByteCount::ZERO, &mut bytes)?;
    match body(&bytes, kind) {
        Ok(body) => Ok(Some(body.to_vec())),
        Err(what) => Err(CheckedError::Damaged {
            name: name.to_owned(),
            what,
        }),
    }
}

fn written(kind: u32, body: &[u8]) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&kind.to_le_bytes());
    let size = u64::try_from(body.len()).expect("a size fits 64 bits");
    bytes.extend_from_slice(&size.to_le_bytes());
    let crc = crc32c::crc32c_append(crc32c::crc32c(&bytes[8..24]), body);
    bytes.extend_from_slice(&crc.to_le_bytes());
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(body);
    bytes
}

fn body(bytes: &[u8], kind: u32) -> Result<&[u8], &'static str> {
    let head = bytes.get(..HEADER).ok_or("it ends within its header")?;
    let body = &bytes[HEADER..];
    if &head[..8] != MAGIC {
        return Err("it is no file of a stream");
    }
    if small_at(head, 8) != Some(VERSION) {
        return Err("it has a version that this build does not read");
    }
    if word_at(head, 16) != u64::try_from(body.len()).ok() {
        return Err("it is longer or shorter than it says");
    }
    let crc = crc32c::crc32c_append(crc32c::crc32c(&head[8..24]), body);
    if small_at(head, 24) != Some(crc) {
        return Err("its checksum is another");
    }
    if small_at(head, 12) != Some(kind) {
        return Err("it is of another kind");
    }
    Ok(body)
}
