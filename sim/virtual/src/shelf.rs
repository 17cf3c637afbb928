//! Where a node's records are kept, and what a crash leaves of them.
//!
//! A protocol in a world of its own needs no bytes: [`Records`] keeps typed records and loses a
//! tail of them. [`Filed`] keeps encoded ones on the virtual disk, with everything that can
//! happen there. A node that brings a real log implements [`Shelf`] over it.

use std::collections::VecDeque;
use std::fmt::Debug;

use holm_base::{ByteCount, WriteId};
use holm_machine::{Disk, DiskError};

use crate::disk::{Storage, Survival};
use crate::tape::{Place, Tape};

const KEEP: Place = Place::new("disk.keep");
const SURVIVAL: Place = Place::new("disk.survival");

/// Keeps records in order, through crashes.
pub trait Shelf<R>: Debug {
    /// Puts records behind all others, not durably yet.
    ///
    /// # Errors
    ///
    /// As the disk says; the node ends then, as it would in the world.
    fn append(&mut self, records: Vec<(WriteId, R)>) -> Result<(), DiskError>;

    /// Makes durable what was appended through this write, at least.
    ///
    /// # Errors
    ///
    /// [`DiskError::Full`]: nothing has changed, and it is tried again later. Otherwise what was not durable before is gone, and the node ends.
    fn sync(&mut self, through: WriteId) -> Result<(), DiskError>;

    /// The node has ended. What is durable stays; the tape decides of the rest.
    fn crash(&mut self, tape: &mut Tape);

    /// What a start finds, oldest first.
    fn records(&self) -> Vec<R>;

    /// The next sync fails, and what it was to save is lost.
    fn fail_next_sync(&mut self);

    /// The disk has no room for more than it holds, or has it again. Where records take no room,
    /// that changes nothing.
    fn set_full(&mut self, _is_full: bool) {}

    /// No failure is to come any more, and there is room.
    fn heal(&mut self);
}

/// What a disk says of a sync that failed.
#[must_use]
pub fn sync_failed(what: &str, through: WriteId) -> DiskError {
    DiskError::Failed {
        attempted: format!("sync {what} through {through}"),
        reason: "input/output error".to_owned(),
    }
}

/// Typed records that are not durable yet. A crash keeps a beginning of them, since a log cuts
/// its torn tail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsynced<R> {
    records: VecDeque<(WriteId, R)>,
    fails: bool,
}

impl<R> Default for Unsynced<R> {
    fn default() -> Self {
        Self {
            records: VecDeque::new(),
            fails: false,
        }
    }
}

impl<R> Unsynced<R> {
    /// Puts records behind all others.
    pub fn append(&mut self, records: Vec<(WriteId, R)>) {
        self.records.extend(records);
    }

    /// Gives what is durable now, oldest first.
    ///
    /// # Errors
    ///
    /// The sync was to fail; everything is lost then.
    pub fn sync(&mut self, through: WriteId) -> Result<impl Iterator<Item = R>, DiskError> {
        if std::mem::take(&mut self.fails) {
            self.records.clear();
            return Err(sync_failed("records", through));
        }
        Ok(self.take(through))
    }

    /// What was appended through this write, oldest first; it stays.
    pub fn through(&self, through: WriteId) -> impl Iterator<Item = &R> {
        let records = self.records.iter();
        let until = records.take_while(move |(write, _)| *write <= through);
        until.map(|(_, record)| record)
    }

    /// Takes what was appended through this write, oldest first, for a log that syncs it.
    pub fn take(&mut self, through: WriteId) -> impl Iterator<Item = R> {
        let count = self.records.partition_point(|(write, _)| *write <= through);
        self.records.drain(..count).map(|(_, record)| record)
    }

    /// Gives what a crash makes durable; the rest is lost.
    pub fn crash(&mut self, tape: &mut Tape) -> impl Iterator<Item = R> {
        // 0 keeps everything: the operating system outlives a process, as a rule.
        let count = u32::try_from(self.records.len()).unwrap_or(u32::MAX - 1);
        let lost = usize::try_from(tape.choose(KEEP, count + 1)).expect("it is a count");
        self.records.truncate(self.records.len() - lost);
        self.records.drain(..).map(|(_, record)| record)
    }

    /// Says whether the next sync fails.
    pub const fn set_fails(&mut self, fails: bool) {
        self.fails = fails;
    }
}

/// Typed records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Records<R> {
    durable: Vec<R>,
    unsynced: Unsynced<R>,
}

impl<R> Default for Records<R> {
    fn default() -> Self {
        Self {
            durable: Vec::new(),
            unsynced: Unsynced::default(),
        }
    }
}

impl<R: Clone + Debug> Shelf<R> for Records<R> {
    fn append(&mut self, records: Vec<(WriteId, R)>) -> Result<(), DiskError> {
        self.unsynced.append(records);
        Ok(())
    }

    fn sync(&mut self, through: WriteId) -> Result<(), DiskError> {
        self.durable.extend(self.unsynced.sync(through)?);
        Ok(())
    }

    fn crash(&mut self, tape: &mut Tape) {
        self.durable.extend(self.unsynced.crash(tape));
    }

    fn records(&self) -> Vec<R> {
        self.durable.clone()
    }

    fn fail_next_sync(&mut self) {
        self.unsynced.set_fails(true);
    }

    fn heal(&mut self) {
        self.unsynced.set_fails(false);
    }
}

/// A record that can be bytes.
pub trait Encoded: Sized {
    /// Its bytes.
    fn encode(&self) -> Vec<u8>;

    /// The record of those bytes; `None` if they are no record.
    fn decode(bytes: &[u8]) -> Option<Self>;
}

const FILE: &str = "records";
const FRAME_HEADER: usize = 8;

/// Encoded records in one file of a virtual disk.
///
/// ```text
///   length u32 | crc32c u32 | bytes      again and again; the first that is not whole ends it
/// ```
#[derive(Debug, Default)]
pub struct Filed {
    storage: Storage,
    len: u64,
    fails: bool,
}

impl Filed {
    /// The disk beneath, to damage it or to look.
    #[must_use]
    pub const fn storage(&self) -> &Storage {
        &self.storage
    }

    fn with_file(
        &self,
        act: impl FnOnce(&mut dyn Disk) -> Result<(), DiskError>,
    ) -> Result<(), DiskError> {
        let root = self.storage.root();
        let mut file = match root.open(FILE) {
            Err(DiskError::NotFound { .. }) => {
                let made = root.create(FILE, ByteCount::ZERO)?;
                root.sync()?;
                made
            }
            opened => opened?,
        };
        act(&mut *file)
    }

    /// The whole frames at the file's beginning, and where they end.
    fn frames(&self) -> (Vec<Vec<u8>>, usize) {
        let bytes = self.storage.bytes(FILE).unwrap_or_default();
        let (mut frames, mut at) = (Vec::new(), 0);
        while let Some(frame) = frame(&bytes[at..]) {
            at += FRAME_HEADER + frame.len();
            frames.push(frame.to_vec());
        }
        (frames, at)
    }
}

fn frame(bytes: &[u8]) -> Option<&[u8]> {
    let length = u32::from_le_bytes(*bytes.first_chunk()?);
    let crc = u32::from_le_bytes(*bytes.get(4..)?.first_chunk()?);
    let length = usize::try_from(length).ok()?;
    let body = bytes.get(FRAME_HEADER..FRAME_HEADER.checked_add(length)?)?;
    // A hole of zeros is not a record of no bytes.
    (length > 0 && crc32c::crc32c(body) == crc).then_some(body)
}

impl Clone for Filed {
    /// A disk of its own, so that a world goes on from a checkpoint without touching another.
    fn clone(&self) -> Self {
        Self {
            storage: self.storage.fork(),
            ..*self
        }
    }
}

impl<R: Encoded> Shelf<R> for Filed {
    fn append(&mut self, records: Vec<(WriteId, R)>) -> Result<(), DiskError> {
        let mut bytes = Vec::new();
        for (_, record) in &records {
            let body = record.encode();
            let length = u32::try_from(body.len()).expect("records are small");
            bytes.extend_from_slice(&length.to_le_bytes());
            bytes.extend_from_slice(&crc32c::crc32c(&body).to_le_bytes());
            bytes.extend_from_slice(&body);
        }
        let at = ByteCount::new(self.len);
        self.with_file(|file| file.write(at, &bytes))?;
        self.len += u64::try_from(bytes.len()).expect("records are small");
        Ok(())
    }

    fn sync(&mut self, through: WriteId) -> Result<(), DiskError> {
        if self.fails {
            self.fails = false;
            self.storage = self.storage.reopen(Survival::Drop);
            return Err(sync_failed(FILE, through));
        }
        self.with_file(|file| file.sync())
    }

    fn crash(&mut self, tape: &mut Tape) {
        // 0 keeps everything, 1 nothing; beyond, each sector has its own fate.
        let survival = match tape.choose(SURVIVAL, 1 << 10) {
            0 => Survival::Keep,
            1 => Survival::Drop,
            seed if seed % 2 == 0 => Survival::Torn {
                seed: u64::from(seed),
            },
            seed => Survival::Reordered {
                seed: u64::from(seed),
            },
        };
        self.storage = self.storage.reopen(survival);
        // A log cuts its torn tail before it writes behind it, and syncs the cut.
        let (_, end) = self.frames();
        self.len = u64::try_from(end).expect("files are small");
        if let Some(mut bytes) = self.storage.bytes(FILE) {
            bytes.truncate(end);
            self.storage.put(FILE, &bytes);
        }
    }

    fn records(&self) -> Vec<R> {
        let decoded = self.frames().0.into_iter().map(|bytes| R::decode(&bytes));
        decoded
            .map(|record| record.expect("a frame with its checksum was written by encode"))
            .collect()
    }

    fn fail_next_sync(&mut self) {
        self.fails = true;
    }

    fn heal(&mut self) {
        self.fails = false;
    }
}
