//! Writes of whole blocks past the system's cache.
//!
//! What would surprise: a file has a second handle for them, opened by what the system says of the
//! first, so that a renamed path cannot move it. Where the system or the place does not take such
//! writes the file is written as any other, for good.

use std::fmt;
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

/// Addresses, lengths and places are multiples of this; most devices would take less.
const BLOCK: usize = 4096;
/// Longer writes go through the cache: the copy would keep as much memory.
const COPY_MAX: usize = 1 << 20;

/// The way past the cache.
pub(crate) struct Direct {
    way: Way,
    /// Where bytes are copied that do not lie where they must.
    copy: Vec<u8>,
}

#[derive(Debug)]
enum Way {
    Untried,
    Open(OwnedFd),
    Refused,
}

impl Direct {
    pub(crate) const fn new() -> Self {
        Self {
            way: Way::Untried,
            copy: Vec::new(),
        }
    }

    /// Writes all of `bytes` past the cache. False if that cannot be: they are to be written as
    /// usual then, though some of them may stand there already.
    pub(crate) fn write(&mut self, file: &OwnedFd, at: u64, bytes: &[u8]) -> Result<bool, Errno> {
        let is_whole = bytes.len().is_multiple_of(BLOCK) && at.is_multiple_of(BLOCK as u64);
        if !is_whole || bytes.is_empty() {
            return Ok(false);
        }
        if matches!(self.way, Way::Untried) {
            self.way = reopen(file).map_or(Way::Refused, Way::Open);
        }
        let Way::Open(handle) = &self.way else {
            return Ok(false);
        };
        let Some(bytes) = aligned(bytes, &mut self.copy) else {
            return Ok(false);
        };
        match write_all(handle, at, bytes) {
            Ok(()) => Ok(true),
            Err(Errno::INVAL | Errno::OPNOTSUPP) => {
                self.way = Way::Refused;
                Ok(false)
            }
            Err(errno) => Err(errno),
        }
    }
}

impl fmt::Debug for Direct {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Direct")
            .field("way", &self.way)
            .finish_non_exhaustive()
    }
}

fn reopen(file: &OwnedFd) -> Result<OwnedFd, Errno> {
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    let flags = OFlags::WRONLY | OFlags::DIRECT | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty())
}

/// The bytes where they may be written from: where they are, or in `copy`.
fn aligned<'a>(bytes: &'a [u8], copy: &'a mut Vec<u8>) -> Option<&'a [u8]> {
    if bytes.as_ptr().align_offset(BLOCK) == 0 {
        return Some(bytes);
    }
    if bytes.len() > COPY_MAX {
        return None;
    }
    let room = bytes.len() + BLOCK;
    if copy.len() < room {
        copy.resize(room, 0);
    }
    let begin = copy.as_ptr().align_offset(BLOCK);
    let place = copy.get_mut(begin..begin + bytes.len())?;
    place.copy_from_slice(bytes);
    Some(place)
}

pub(crate) fn write_all(file: &OwnedFd, at: u64, mut bytes: &[u8]) -> Result<(), Errno> {
    let mut position = at;
    while !bytes.is_empty() {
        match rustix::io::pwrite(file, bytes, position) {
            Ok(0) => return Err(Errno::IO),
            Ok(written) => {
                position += written as u64;
                bytes = &bytes[written..];
            }
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}
