//! The log: records in segments, appended flush by flush, read again in order.
//!
//! A segment is written by one run only. Opening cuts the last one to its last whole frame, and
//! the next flush begins a new one, so that no old bytes ever lie behind new ones.

use std::borrow::Borrow;
use std::sync::Arc;

use holm_base::ByteCount;
use holm_machine::{Disk, DiskError, Folder};
use thiserror::Error;

use crate::frame::{self, Entry, word_at};

const MAGIC: &[u8; 8] = b"HOLMSTRM";
const VERSION: u32 = 1;
const SEGMENT_HEADER: usize = 32;
const PREFIX: &str = "log-";
/// A flush of so many bytes is large: a segment has room for so many more of them, up to a bound.
const LARGE: usize = 128 << 10;
const FLUSHES: usize = 32;
const ROOMY_MAX: usize = 32 << 20;

/// How a log is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// Bytes of a segment; one that begins with a large flush has room for more of them.
    pub segment_bytes: usize,
    /// The most bytes that all segments may take.
    pub bytes_max: u64,
}

impl Default for Config {
    /// Segments of 4 MiB, and 8 GiB in all.
    fn default() -> Self {
        Self {
            segment_bytes: 4 << 20,
            bytes_max: 8 << 30,
        }
    }
}

/// Why the log could not be opened, written or read.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum LogError {
    /// The disk refused.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// Bytes that were whole once are not.
    #[error("{segment} is damaged at byte {at}: {what}")]
    Damaged {
        /// The segment's file.
        segment: String,
        /// Where.
        at: usize,
        /// What is wrong there.
        what: String,
    },
    /// A layout that this build does not know.
    #[error("{segment} has version {version}, and this build reads version {VERSION}")]
    Version {
        /// The segment's file.
        segment: String,
        /// What it has.
        version: u32,
    },
    /// The log has as many bytes as it may.
    #[error("the log holds {held} bytes, and {limit} is the limit")]
    Full {
        /// What it holds.
        held: u64,
        /// The limit.
        limit: u64,
    },
}

impl LogError {
    /// Whether nothing was written, and it may be tried again when there is room.
    #[must_use]
    pub const fn is_full(&self) -> bool {
        matches!(self, Self::Full { .. } | Self::Disk(DiskError::Full { .. }))
    }
}

/// Which records a log has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extent {
    /// The first; 0 if there is none.
    pub first: u64,
    /// The last; 0 if there is none.
    pub last: u64,
    /// The highest epoch of any.
    pub epoch: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Segment {
    name: String,
    first: u64,
    bytes: u64,
}

/// A log that is open.
#[derive(Debug)]
pub struct Log {
    folder: Arc<dyn Folder>,
    config: Config,
    /// Oldest first.
    segments: Vec<Segment>,
    /// The last segment, if this run began it, and where the next flush goes.
    current: Option<(Box<dyn Disk>, usize, usize)>,
    next: u64,
    flush: Vec<u8>,
}

impl Log {
    /// Opens the log of a folder, cutting what the last crash tore.
    ///
    /// # Errors
    ///
    /// If what was whole once is damaged, or the disk refuses.
    pub fn open(folder: Arc<dyn Folder>, config: Config) -> Result<(Self, Extent), LogError> {
        let mut log = Self {
            folder,
            config,
            segments: Vec::new(),
            current: None,
            next: 1,
            flush: Vec::new(),
        };
        let mut extent = Extent::default();
        let names: Vec<String> = log.folder.list()?;
        let mut names: Vec<String> = names
            .into_iter()
            .filter(|name| name.starts_with(PREFIX))
            .collect();
        names.sort_unstable();
        // One that was begun and has no header yet comes before the one before it is cut.
        while let Some(name) = names.last() {
            if !is_unborn(&whole(&*log.folder, name)?) {
                break;
            }
            log.folder.remove(name)?;
            log.folder.sync()?;
            names.pop();
        }
        let last = names.last().cloned();
        for name in names {
            let is_last = last.as_ref() == Some(&name);
            log.enter(name, is_last, &mut extent)?;
        }
        log.next = extent.last + 1;
        Ok((log, extent))
    }

    fn enter(&mut self, name: String, is_last: bool, extent: &mut Extent) -> Result<(), LogError> {
        let bytes = whole(&*self.folder, &name)?;
        let first = opening(&name, &bytes)?;
        if extent.last > 0 && first != extent.last + 1 {
            let what = format!("record {} should be here", extent.last + 1);
            return Err(damaged(&name, 16, what));
        }
        let scan = scan(&name, &bytes, first)?;
        if scan.end < bytes.len() {
            if !is_last {
                return Err(damaged(&name, scan.end, "a record is not whole".into()));
            }
            if let Some(at) = frame::stranger(&bytes, scan.end, &scan.flushes) {
                let what = format!("not whole, though the record at byte {at} is");
                return Err(damaged(&name, scan.end, what));
            }
        }
        if scan.count == 0 && is_last {
            // It was begun and nothing was written, or nothing whole.
            self.folder.remove(&name)?;
            self.folder.sync()?;
            return Ok(());
        }
        if scan.end < bytes.len() {
            let mut disk = self.folder.open(&name)?;
            disk.set_len(size(scan.end))?;
            disk.sync()?;
        }
        if extent.first == 0 {
            extent.first = first;
        }
        extent.last = first + scan.count - 1;
        extent.epoch = extent.epoch.max(scan.epoch);
        self.segments.push(Segment {
            name,
            first,
            bytes: wide(scan.end),
        });
        Ok(())
    }

    /// The number that the next record has.
    #[must_use]
    pub const fn next(&self) -> u64 {
        self.next
    }

    /// Bytes of all segments, room that was made ahead among them.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.segments.iter().map(|it| it.bytes).sum()
    }

    /// Bytes of all segments that records take.
    #[must_use]
    pub fn used(&self) -> u64 {
        let room = self.current.as_ref().map_or(0, |(_, at, len)| len - at);
        self.bytes() - wide(room)
    }

    /// Makes records durable: one write, one sync (I1).
    ///
    /// # Errors
    ///
    /// If there is no room ([`LogError::is_full`]: nothing was written, try again later), or the
    /// disk refuses, after which the log refuses everything.
    ///
    /// # Panics
    ///
    /// If the records are not the next ones.
    pub fn append<E: Borrow<Entry>>(&mut self, entries: &[E]) -> Result<(), LogError> {
        self.flush.clear();
        for (entry, wanted) in entries.iter().zip(self.next..) {
            let entry: &Entry = entry.borrow();
            assert_eq!(entry.sequence, wanted, "I3: records are numbered densely");
            frame::write(entry, &mut self.flush);
        }
        let bytes = self.flush.len();
        let has_room = self
            .current
            .as_ref()
            .is_some_and(|(_, at, len)| at + bytes <= *len);
        if !has_room {
            self.roll(bytes)?;
        }
        let (disk, at, _) = self.current.as_mut().expect("a segment was just begun");
        disk.write(size(*at), &self.flush)?;
        disk.sync()?;
        *at += bytes;
        self.next += wide(entries.len());
        Ok(())
    }

    /// Ends the segment, and begins one with room for so many bytes.
    fn roll(&mut self, bytes: usize) -> Result<(), LogError> {
        let held = self.bytes();
        let limit = self.config.bytes_max;
        let mut len = self.config.segment_bytes.max(SEGMENT_HEADER + bytes);
        if held + wide(len) > limit {
            return Err(LogError::Full { held, limit });
        }
        // Each segment costs a few syncs: where flushes are large, it takes several of them.
        let roomy = len.max((bytes * FLUSHES).min(ROOMY_MAX));
        if bytes >= LARGE && held + wide(roomy) <= limit {
            len = roomy;
        }
        let name = format!("{PREFIX}{:020}", self.next);
        // First the new one, for which there may be no room; then the old one is cut.
        let mut disk = self.folder.create(&name, size(len))?;
        if let Some((mut old, at, _)) = self.current.take() {
            old.set_len(size(at))?;
            old.sync()?;
            if let Some(segment) = self.segments.last_mut() {
                segment.bytes = wide(at);
            }
        }
        disk.write(ByteCount::ZERO, &header(self.next))?;
        disk.sync()?;
        self.folder.sync()?;
        self.segments.push(Segment {
            name,
            first: self.next,
            bytes: wide(len),
        });
        self.current = Some((disk, SEGMENT_HEADER, len));
        Ok(())
    }

    /// Lets segments go all of whose records are below one.
    ///
    /// # Errors
    ///
    /// If the disk refuses.
    pub fn truncate(&mut self, below: u64) -> Result<(), LogError> {
        while let [oldest, next, ..] = self.segments.as_slice() {
            if next.first > below {
                break;
            }
            self.folder.remove(&oldest.name)?;
            // One by one: a crash may not take a later one and leave this.
            self.folder.sync()?;
            self.segments.remove(0);
        }
        Ok(())
    }

    /// The records from one on, in order, as they are on disk now.
    #[must_use]
    pub fn replay(&self, from: u64) -> Replay {
        let later = self.segments.iter().rposition(|it| it.first <= from);
        let segments = &self.segments[later.unwrap_or(0)..];
        Replay {
            folder: Arc::clone(&self.folder),
            names: segments.iter().rev().map(|it| it.name.clone()).collect(),
            from,
            bytes: Vec::new(),
            at: 0,
            name: String::new(),
        }
    }
}

/// Reads records, a segment at a time.
#[derive(Debug)]
pub struct Replay {
    folder: Arc<dyn Folder>,
    /// The next one last.
    names: Vec<String>,
    from: u64,
    name: String,
    bytes: Vec<u8>,
    at: usize,
}

impl Replay {
    fn read(&mut self) -> Result<Option<Entry>, LogError> {
        loop {
            if let Some((entry, end)) = frame::read(&self.bytes, self.at) {
                self.at = end;
                if entry.sequence >= self.from {
                    return Ok(Some(entry));
                }
                continue;
            }
            let Some(name) = self.names.pop() else {
                return Ok(None);
            };
            self.bytes = whole(&*self.folder, &name)?;
            opening(&name, &self.bytes)?;
            self.name = name;
            self.at = SEGMENT_HEADER;
        }
    }
}

impl Iterator for Replay {
    type Item = Result<Entry, LogError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.read().transpose()
    }
}

/// Reads every record of a log, which may be growing, and changes nothing.
///
/// # Errors
///
/// If something is damaged, or the disk refuses. What lies behind the last whole record of the
/// last segment is being written, or was torn: it is passed over.
pub fn inspect(folder: &dyn Folder, each: &mut dyn FnMut(&Entry)) -> Result<(), LogError> {
    let mut names = folder.list()?;
    names.retain(|name| name.starts_with(PREFIX));
    names.sort_unstable();
    let mut next = None;
    for (at, name) in names.iter().enumerate() {
        let is_last = at + 1 == names.len();
        let bytes = match whole(folder, name) {
            // It was let go meanwhile.
            Err(LogError::Disk(DiskError::NotFound { .. })) if next.is_none() => continue,
            other => other?,
        };
        if is_last && is_unborn(&bytes) {
            return Ok(());
        }
        let first = opening(name, &bytes)?;
        if next.is_some_and(|next| next != first) {
            let what = format!("record {} should be here", next.unwrap_or_default());
            return Err(damaged(name, 16, what));
        }
        let scan = scan(name, &bytes, first)?;
        let rest = &bytes[scan.end..];
        if !is_last && rest.iter().any(|byte| *byte != 0) {
            return Err(damaged(name, scan.end, "a record is not whole".into()));
        }
        if let Some(at) = frame::stranger(&bytes, scan.end, &scan.flushes) {
            let what = format!("not whole, though the record at byte {at} is");
            return Err(damaged(name, scan.end, what));
        }
        let mut place = SEGMENT_HEADER;
        while let Some((entry, end)) = frame::read(&bytes, place) {
            each(&entry);
            place = end;
        }
        next = Some(first + scan.count);
    }
    Ok(())
}

/// What a segment holds.
struct Scan {
    count: u64,
    epoch: u64,
    end: usize,
    /// Where the flushes begin to which a torn frame at the end may belong.
    flushes: [usize; 2],
}

fn scan(name: &str, bytes: &[u8], first: u64) -> Result<Scan, LogError> {
    let mut scan = Scan {
        count: 0,
        epoch: 0,
        end: SEGMENT_HEADER,
        flushes: [SEGMENT_HEADER; 2],
    };
    while let Some(seen) = frame::at(bytes, scan.end) {
        let wanted = first + scan.count;
        if seen.sequence != wanted {
            let what = format!("record {} where {wanted} should be", seen.sequence);
            return Err(damaged(name, scan.end, what));
        }
        scan.count += 1;
        scan.epoch = scan.epoch.max(seen.epoch);
        scan.flushes = [seen.flush, seen.end];
        scan.end = seen.end;
    }
    Ok(scan)
}

fn header(first: u64) -> Vec<u8> {
    let mut tail = first.to_le_bytes().to_vec();
    tail.extend_from_slice(&[0; 8]);
    let mut header = MAGIC.to_vec();
    header.extend_from_slice(&VERSION.to_le_bytes());
    header.extend_from_slice(&crc32c::crc32c(&tail).to_le_bytes());
    header.extend_from_slice(&tail);
    header
}

/// Whether a segment was created and never begun: nothing follows where its header should be.
fn is_unborn(bytes: &[u8]) -> bool {
    let has_header = opening("", bytes).is_ok();
    let rest = bytes.get(SEGMENT_HEADER..).unwrap_or_default();
    !has_header && rest.iter().all(|byte| *byte == 0)
}

/// The first record that a segment's header names.
fn opening(name: &str, bytes: &[u8]) -> Result<u64, LogError> {
    let wrong = |what: &str| damaged(name, 0, what.to_owned());
    let head = bytes
        .get(..SEGMENT_HEADER)
        .ok_or_else(|| wrong("it ends within its header"))?;
    if &head[..8] != MAGIC {
        return Err(wrong("this is no segment of a stream's log"));
    }
    let version = frame::small_at(head, 8).unwrap_or_default();
    if version != VERSION {
        let segment = name.to_owned();
        return Err(LogError::Version { segment, version });
    }
    if frame::small_at(head, 12) != Some(crc32c::crc32c(&head[16..])) {
        return Err(wrong("its header has another checksum"));
    }
    word_at(head, 16).ok_or_else(|| wrong("it has no first record"))
}

fn whole(folder: &dyn Folder, name: &str) -> Result<Vec<u8>, LogError> {
    let disk = folder.open_read_only(name)?;
    let len = usize::try_from(disk.len()?.value()).expect("a segment fits memory");
    let mut bytes = vec![0; len];
    disk.read(ByteCount::ZERO, &mut bytes)?;
    Ok(bytes)
}

fn damaged(segment: &str, at: usize, what: String) -> LogError {
    LogError::Damaged {
        segment: segment.to_owned(),
        at,
        what,
    }
}

fn size(bytes: usize) -> ByteCount {
    ByteCount::new(wide(bytes))
}

fn wide(count: usize) -> u64 {
    u64::try_from(count).expect("a size fits 64 bits")
}
