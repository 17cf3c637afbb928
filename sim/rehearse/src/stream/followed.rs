//! A file that a stream follows: how the source reads it, and which of its rows were due when.

use std::io::{Error, ErrorKind, Read, Seek, SeekFrom};

use holm_base::{ByteCount, Time};
use holm_machine::{Disk, DiskError};

/// An open file of the virtual disk, as a source reads it.
#[derive(Debug)]
pub(crate) struct Followed {
    disk: Box<dyn Disk>,
    at: u64,
}

impl Followed {
    pub(crate) const fn new(disk: Box<dyn Disk>) -> Self {
        Self { disk, at: 0 }
    }
}

impl Read for Followed {
    fn read(&mut self, into: &mut [u8]) -> Result<usize, Error> {
        let end = self.disk.len().map_err(failed)?.value();
        let left = usize::try_from(end.saturating_sub(self.at)).unwrap_or(usize::MAX);
        let length = left.min(into.len());
        let at = ByteCount::new(self.at);
        self.disk.read(at, &mut into[..length]).map_err(failed)?;
        self.at += wide(length);
        Ok(length)
    }
}

impl Seek for Followed {
    fn seek(&mut self, to: SeekFrom) -> Result<u64, Error> {
        let end = self.disk.len().map_err(failed)?.value();
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => end.checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = at.ok_or_else(|| Error::from(ErrorKind::InvalidInput))?;
        Ok(self.at)
    }
}

fn failed(error: DiskError) -> Error {
    Error::other(error)
}

/// What was written to the file, and how far it has run.
#[derive(Debug, Default)]
pub(crate) struct Written {
    /// Where each piece ends, and when it was due.
    pieces: Vec<(u64, Time)>,
    /// The bytes that have run, of the log as it is now.
    ran: u64,
}

impl Written {
    /// More is there.
    pub(crate) fn add(&mut self, bytes: usize, at: Time) {
        let end = self.pieces.last().map_or(0, |last| last.0);
        self.pieces.push((end + wide(bytes), at));
    }

    /// The stream came back, and so many bytes of its log have run.
    pub(crate) const fn go_on(&mut self, ran: u64) {
        self.ran = ran;
    }

    /// The next bytes run; when the last of them were due.
    pub(crate) fn run(&mut self, bytes: usize) -> Option<Time> {
        self.ran += wide(bytes);
        let at = self.pieces.partition_point(|(end, _)| *end < self.ran);
        self.pieces.get(at).map(|(_, at)| *at)
    }
}

fn wide(count: usize) -> u64 {
    u64::try_from(count).expect("memory is smaller")
}
