//! One segment file: its name, and a reader that checks every sector it hands out.
//!
//! The reader keeps a window of 1 MiB (or of one flush, if that is larger), so opening a log
//! costs that much memory whatever the segments' size.

use holm_base::ByteCount;
use holm_machine::{Disk, DiskError, Folder};

use crate::layout::{FLUSH_HEADER, FlushHeader};
use crate::sector::{self, BLOCK, CARRIED, Place, SECTOR, Sector};

const WINDOW: u64 = 1 << 20;

/// The name of the segment that begins at `first`.
pub(crate) fn name(first: u64) -> String {
    format!("{first:016x}.seg")
}

/// The name of that segment while its zeros are still being written.
pub(crate) fn unready_name(first: u64) -> String {
    format!("{first:016x}.new")
}

/// The name of that segment once it is let go.
pub(crate) fn retired_name(first: u64) -> String {
    format!("{first:016x}.old")
}

/// The first LSN that a name of any form stands for; anything else is not ours.
pub(crate) fn parse_name(name: &str, ending: &str) -> Option<u64> {
    let digits = name.strip_suffix(ending)?;
    let is_ours = digits.len() == 16
        && digits
            .bytes()
            .all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    if !is_ours {
        return None;
    }
    u64::from_str_radix(digits, 16).ok()
}

/// What stands where a flush is expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Read {
    /// A flush whose sectors are all valid.
    Whole {
        /// What it begins with.
        header: FlushHeader,
        /// How many bytes it takes on disk.
        disk: u64,
    },
    /// Anything else.
    Broken(Broken),
}

/// Something that is not a whole flush.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Broken {
    /// Where the first sector that is not right stands in the file.
    pub(crate) at: u64,
    /// Where the flush would end, if its header can be read.
    pub(crate) end: Option<u64>,
    /// What stands there.
    pub(crate) found: String,
}

/// A segment being read.
#[derive(Debug)]
pub(crate) struct SegmentReader {
    disk: Box<dyn Disk>,
    pub(crate) name: String,
    pub(crate) first: u64,
    pub(crate) len: u64,
    window: Vec<u8>,
    window_at: u64,
}

impl SegmentReader {
    pub(crate) fn open(folder: &dyn Folder, first: u64) -> Result<Self, DiskError> {
        let name = name(first);
        let disk = folder.open_read_only(&name)?;
        let len = disk.len()?.value();
        Ok(Self {
            disk,
            name,
            first,
            len,
            window: Vec::new(),
            window_at: 0,
        })
    }

    /// The bytes `at..at + len`, which lie within the file.
    pub(crate) fn bytes(&mut self, at: u64, len: u64) -> Result<&[u8], DiskError> {
        assert!(at + len <= self.len, "a read stays within its segment");
        let window_end = self.window_at + self.window.len() as u64;
        if at < self.window_at || at + len > window_end {
            let wanted = len.max(WINDOW).min(self.len - at);
            self.window.resize(to_usize(wanted), 0);
            self.window_at = at;
            let answer = self.disk.read(ByteCount::new(at), &mut self.window);
            if let Err(failed) = answer {
                self.window.clear();
                return Err(failed);
            }
        }
        let start = to_usize(at - self.window_at);
        Ok(&self.window[start..start + to_usize(len)])
    }

    /// What the sector at `at` is.
    pub(crate) fn sector(&mut self, at: u64, place: Place) -> Result<Sector, DiskError> {
        let position = self.first + at;
        let bytes = self.bytes(at, SECTOR as u64)?;
        Ok(sector::classify(bytes, position, place))
    }

    /// The end of the last block in `from..until` that is not blank.
    pub(crate) fn written_end(&mut self, from: u64, until: u64) -> Result<Option<u64>, DiskError> {
        let mut end = None;
        let mut at = from;
        while at < until {
            let len = WINDOW.min(until - at);
            let bytes = self.bytes(at, len)?;
            if !sector::is_blank(bytes) {
                let last = bytes
                    .chunks(BLOCK)
                    .rposition(|block| !sector::is_blank(block));
                end = last.map(|index| at + (index as u64 + 1) * BLOCK as u64);
            }
            at += len;
        }
        Ok(end)
    }

    /// Whether some sector of `from..until` is blank.
    pub(crate) fn has_blank_sector(&mut self, from: u64, until: u64) -> Result<bool, DiskError> {
        let mut at = from;
        while at < until {
            if sector::is_blank(self.bytes(at, SECTOR as u64)?) {
                return Ok(true);
            }
            at += SECTOR as u64;
        }
        Ok(false)
    }

    /// Whether a flush begins in one of the blocks of `from..until`.
    pub(crate) fn has_flush_start(&mut self, from: u64, until: u64) -> Result<bool, DiskError> {
        let mut at = from;
        while at < until {
            if self.sector(at, Place::FlushStart)? == Sector::Valid {
                return Ok(true);
            }
            at += BLOCK as u64;
        }
        Ok(false)
    }

    /// What the flush at `at` begins with, and how many bytes it takes on disk, if its first
    /// sector can be read.
    pub(crate) fn flush_head(&mut self, at: u64) -> Result<Option<(FlushHeader, u64)>, DiskError> {
        if self.sector(at, Place::FlushStart)? != Sector::Valid {
            return Ok(None);
        }
        let lsn = self.first + at;
        let header = FlushHeader::decode(self.bytes(at, SECTOR as u64)?);
        let header = header.filter(|header| header.lsn == lsn);
        Ok(header.map(|header| {
            let stream = FLUSH_HEADER as u64 + u64::from(header.payload);
            (header, sector::disk_bytes(stream))
        }))
    }

    /// Reads the flush at `at` and puts its stream (header and payload) into `stream`.
    pub(crate) fn flush(&mut self, at: u64, stream: &mut Vec<u8>) -> Result<Read, DiskError> {
        let broken = |at, end, found: &str| {
            let found = found.to_owned();
            Ok(Read::Broken(Broken { at, end, found }))
        };
        match self.sector(at, Place::FlushStart)? {
            Sector::Valid => {}
            Sector::Blank => return broken(at, None, "a blank sector"),
            Sector::Bad => return broken(at, None, "a bad sector"),
        }
        let lsn = self.first + at;
        let first = self.bytes(at, SECTOR as u64)?;
        let header = match FlushHeader::decode(first) {
            Some(header) if header.lsn == lsn => header,
            Some(_) | None => return broken(at, None, "a stamped sector without a flush header"),
        };
        let stream_len = FLUSH_HEADER as u64 + u64::from(header.payload);
        let disk = sector::disk_bytes(stream_len);
        if disk > self.len - at {
            return broken(at, None, "a flush that is longer than its segment");
        }
        let bytes = self.bytes(at, disk)?;
        stream.clear();
        for (index, piece) in bytes.chunks_exact(SECTOR).enumerate() {
            let offset = (index * SECTOR) as u64;
            let place = if index == 0 {
                Place::FlushStart
            } else {
                Place::Inside
            };
            match sector::classify(piece, lsn + offset, place) {
                Sector::Valid => stream.extend_from_slice(&piece[..CARRIED]),
                Sector::Blank => return broken(at + offset, Some(at + disk), "a blank sector"),
                Sector::Bad => return broken(at + offset, Some(at + disk), "a bad sector"),
            }
        }
        stream.truncate(to_usize(stream_len));
        Ok(Read::Whole { header, disk })
    }
}

pub(crate) fn to_usize(value: u64) -> usize {
    usize::try_from(value).expect("sizes within a segment fit the address space")
}
