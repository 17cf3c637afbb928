//! Opening: walks all segments, checks every byte, and judges what is not whole.
//!
//! At the first place that holds no whole flush there are three cases:
//!
//! ```text
//!  something was written after it    damage: one flush is outstanding at a time, so a later
//!                                    one proves that this one was durable
//!  nothing after, a sector is blank  torn: its sync never returned; zeroed, and the log goes on
//!  nothing after, no sector blank    damaged tail: it may have been acknowledged
//! ```
//!
//! The first flush of a segment and the segment's header are written at once and judged as one.

use std::collections::BTreeMap;

use holm_base::ByteCount;
use holm_machine::Folder;

use crate::config::LogConfig;
use crate::error::LogError;
use crate::group::{self, Group};
use crate::layout::{
    self, CLEAN_CLOSE, ENTRIES_ALONE, FLUSH_HEADER, FlushHeader, Kind, NoHeader, NoRecord,
    RecordView, SegmentHeader,
};
use crate::sector::{BLOCK, CARRIED, Place, Sector};
use crate::segment::{self, Broken, Read, SegmentReader};

/// How far the bytes of one flush can reach: what may be torn behind a tail.
pub(crate) const REACH: u64 = 24 << 20;

const HEADER_BLOCK: u64 = BLOCK as u64;

/// What the segments hold.
#[derive(Debug)]
pub(crate) struct Scanned {
    /// All groups, by number.
    pub(crate) groups: BTreeMap<u32, Group>,
    /// Segments with data, oldest first: first LSN and length.
    pub(crate) segments: Vec<(u64, u64)>,
    /// Blank segments behind them.
    pub(crate) spares: Vec<(u64, u64)>,
    /// How many bytes of the newest segment are taken.
    pub(crate) used: u64,
    /// The newest segment's number; zero with no segment.
    pub(crate) segment_number: u64,
    /// The newest flush's number; zero with no flush.
    pub(crate) flush_number: u64,
    /// The chain behind the newest flush.
    pub(crate) chain: u128,
    /// How often the log was opened so far.
    pub(crate) opens: u64,
    /// Whether the newest flush was written by a clean close.
    pub(crate) closed: bool,
    /// How many bytes of a torn flush there are.
    pub(crate) torn: u64,
    /// The oldest damage that records were lost to, if they are missed.
    pub(crate) damage: Option<LogError>,
}

/// Reads all segments of the folder and repairs a torn tail.
pub(crate) fn scan(folder: &dyn Folder, config: &LogConfig) -> Result<Scanned, LogError> {
    let mut firsts = Vec::new();
    for name in folder.list()? {
        firsts.extend(segment::parse_name(&name, ".seg"));
    }
    let mut walk = Walk::new(folder, *config);
    for (index, &first) in firsts.iter().enumerate() {
        walk.segment(first, &firsts[index + 1..])?;
    }
    walk.finish()
}

struct Walk<'a> {
    folder: &'a dyn Folder,
    config: LogConfig,
    scanned: Scanned,
    torn: Option<Torn>,
    /// Damage that may have taken a hard state with it.
    hidden: Option<LogError>,
    /// Whether the last flush was lost, so that the next one says itself where it stands.
    is_adrift: bool,
    stream: Vec<u8>,
    scratch: Vec<u8>,
}

/// A flush that was cut short: zeroed once all else was found whole.
struct Torn {
    name: String,
    from: u64,
    until: u64,
}

impl<'a> Walk<'a> {
    const fn new(folder: &'a dyn Folder, config: LogConfig) -> Self {
        Self {
            folder,
            config,
            scanned: Scanned {
                groups: BTreeMap::new(),
                segments: Vec::new(),
                spares: Vec::new(),
                used: 0,
                segment_number: 0,
                flush_number: 0,
                chain: 0,
                opens: 0,
                closed: false,
                torn: 0,
                damage: None,
            },
            torn: None,
            hidden: None,
            is_adrift: false,
            stream: Vec::new(),
            scratch: Vec::new(),
        }
    }

    fn segment(&mut self, first: u64, later: &[u64]) -> Result<(), LogError> {
        let mut reader = SegmentReader::open(self.folder, first)?;
        self.expect_neighbour(&reader)?;
        let is_blank = reader.written_end(0, REACH.min(reader.len))?.is_none();
        if is_blank {
            self.scanned.spares.push((first, reader.len));
            return Ok(());
        }
        if let Some(&(blank, _)) = self.scanned.spares.first() {
            let found = format!("a blank segment, though {} holds data", reader.name);
            return Err(damaged(&segment::name(blank), 0, "a segment header", found));
        }
        if !self.header(&mut reader, later)? {
            self.scanned.spares.push((first, reader.len));
            return Ok(());
        }
        self.scanned.segments.push((first, reader.len));
        self.flushes(&mut reader, later)
    }

    /// Segments follow each other without a gap, and are whole blocks.
    fn expect_neighbour(&self, reader: &SegmentReader) -> Result<(), LogError> {
        let before = {
            let spares = self.scanned.spares.last();
            spares.or_else(|| self.scanned.segments.last())
        };
        if let Some(&(first, len)) = before
            && first + len != reader.first
        {
            let found = format!("no such file before {}", reader.name);
            return Err(damaged(&segment::name(first + len), 0, "a segment", found));
        }
        if reader.len < 2 * HEADER_BLOCK || !reader.len.is_multiple_of(HEADER_BLOCK) {
            let found = format!("a file of {} bytes", reader.len);
            return Err(damaged(&reader.name, reader.len, "a whole segment", found));
        }
        Ok(())
    }

    /// Checks block 0 and says whether it and the first flush are whole; if they were torn, the
    /// segment is blank now.
    fn header(&mut self, reader: &mut SegmentReader, later: &[u64]) -> Result<bool, LogError> {
        let mut header = None;
        if reader.sector(0, Place::Inside)? == Sector::Valid {
            header = Some(self.read_header(reader)?);
        }
        let mut broken = None;
        for index in 0..HEADER_BLOCK / 512 {
            let found = match reader.sector(index * 512, Place::Inside)? {
                Sector::Valid => continue,
                Sector::Blank => "a blank sector",
                Sector::Bad => "a bad sector",
            };
            broken = Some((index * 512, found.to_owned()));
            break;
        }
        let first = reader.flush(HEADER_BLOCK, &mut self.stream)?;
        let (at, end, found) = match (broken, first) {
            (None, Read::Whole { .. }) => {
                let header = header.expect("block 0 is whole, so its first sector is");
                self.scanned.segment_number = header.number;
                self.scanned.chain = header.chain;
                return Ok(true);
            }
            (Some((at, found)), Read::Whole { disk, .. }) => (at, Some(HEADER_BLOCK + disk), found),
            (Some((at, found)), Read::Broken(broken)) => (at, broken.end, found),
            (None, Read::Broken(broken)) => (broken.at, broken.end, broken.found),
        };
        if self.scanned.segments.is_empty() && reader.first > 0 {
            // Older segments were removed, so a flush that is durable had let them go.
            return Err(damaged(&reader.name, at, "the oldest segment", found));
        }
        self.judge(reader, 0, &Broken { at, end, found }, later)?;
        Ok(false)
    }

    fn read_header(&self, reader: &mut SegmentReader) -> Result<SegmentHeader, LogError> {
        let name = reader.name.clone();
        let first = reader.first;
        let header = match SegmentHeader::decode(reader.bytes(0, CARRIED as u64)?) {
            Ok(header) => header,
            Err(NoHeader::Magic) => {
                let found = "other bytes".to_owned();
                return Err(damaged(&name, 0, "a segment header", found));
            }
            Err(NoHeader::Version(version)) => {
                let what = "format version";
                return Err(LogError::Version {
                    file: name,
                    what,
                    version,
                });
            }
        };
        if (header.cluster, header.node) != (self.config.cluster.value(), self.config.node.value())
        {
            let (cluster, node) = (header.cluster, header.node);
            return Err(LogError::Foreign {
                file: name,
                cluster,
                node,
            });
        }
        let (number, chain) = match (self.scanned.segments.is_empty(), first) {
            (true, 0) => (0, 0),
            (true, _) => (header.number, header.chain),
            (false, _) => (self.scanned.segment_number + 1, self.scanned.chain),
        };
        let is_next = header.chain == chain || self.is_adrift;
        if (header.first, header.number) != (first, number) || !is_next {
            let expected = format!("segment {number} on chain {chain:032x}");
            let found = format!("segment {} on chain {:032x}", header.number, header.chain);
            return Err(damaged(&name, 0, &expected, found));
        }
        Ok(header)
    }

    /// Takes all flushes, and judges what stands behind the last whole one.
    fn flushes(&mut self, reader: &mut SegmentReader, later: &[u64]) -> Result<(), LogError> {
        let mut at = HEADER_BLOCK;
        while at < reader.len {
            match reader.flush(at, &mut self.stream)? {
                Read::Whole { header, disk } => {
                    self.take(reader, at, &header)?;
                    at += disk;
                }
                Read::Broken(broken) => {
                    if reader.written_end(at, reader.len)?.is_none() {
                        break;
                    }
                    match self.judge(reader, at, &broken, later) {
                        Err(damage @ LogError::Damaged { .. }) if self.config.has_peers => {
                            at = self.skip_damage(reader, at, damage)?;
                        }
                        judged => {
                            judged?;
                            break;
                        }
                    }
                }
            }
        }
        self.scanned.used = at;
        Ok(())
    }

    /// Peers have what was lost: goes on behind it. Gives where the next flush begins.
    fn skip_damage(
        &mut self,
        reader: &mut SegmentReader,
        at: u64,
        damage: LogError,
    ) -> Result<u64, LogError> {
        let head = reader.flush_head(at)?;
        let is_harmless = head.is_some_and(|(header, _)| header.flags & ENTRIES_ALONE != 0);
        if !is_harmless {
            self.hidden.get_or_insert_with(|| damage.clone());
        }
        self.scanned.damage.get_or_insert(damage);
        self.is_adrift = true;
        self.scanned.closed = false;
        for group in self.scanned.groups.values_mut() {
            group.is_lost = true;
        }
        let mut next = at + HEADER_BLOCK;
        if let Some((header, disk)) = head {
            self.scanned.flush_number = self.scanned.flush_number.max(header.number);
            self.scanned.opens = self.scanned.opens.max(header.opens);
            next = at + disk;
        }
        while next < reader.len && reader.flush_head(next)?.is_none() {
            next += HEADER_BLOCK;
        }
        Ok(next.min(reader.len))
    }

    fn take(
        &mut self,
        reader: &SegmentReader,
        at: u64,
        header: &FlushHeader,
    ) -> Result<(), LogError> {
        if self.is_adrift && header.number > self.scanned.flush_number {
            self.scanned.flush_number = header.number - 1;
            self.scanned.chain = header.chain;
            self.is_adrift = false;
        }
        let is_oldest = self.scanned.flush_number == 0 && self.scanned.segments[0].0 > 0;
        let number = if is_oldest {
            header.number
        } else {
            self.scanned.flush_number + 1
        };
        if (header.number, header.chain) != (number, self.scanned.chain) {
            let expected = format!("flush {number} on chain {:032x}", self.scanned.chain);
            let found = format!("flush {} on chain {:032x}", header.number, header.chain);
            return Err(damaged(&reader.name, at, &expected, found));
        }
        self.records(reader, at, header)?;
        if at == HEADER_BLOCK {
            // It began with the state of every group.
            self.hidden = None;
        }
        self.scanned.flush_number = number;
        self.scanned.chain = layout::flush_chain(header.chain, &mut self.stream);
        self.scanned.opens = header.opens;
        self.scanned.closed = header.flags & CLEAN_CLOSE != 0;
        Ok(())
    }

    fn records(
        &mut self,
        reader: &SegmentReader,
        at: u64,
        header: &FlushHeader,
    ) -> Result<(), LogError> {
        let wrong = |found: String| damaged(&reader.name, at, "the records of a flush", found);
        let mut rest = &self.stream[FLUSH_HEADER..];
        for index in 0..header.records {
            let (record, size) = decode(rest, &reader.name, at)?;
            let place = group::Place {
                segment: reader.first,
                flush: header.lsn,
                record: index,
            };
            let groups = &mut self.scanned.groups;
            let is_lost = self.scanned.damage.is_some();
            if record.kind == Kind::State && !groups.contains_key(&record.group) {
                groups.insert(record.group, Group::from_state(&record));
            } else {
                groups
                    .entry(record.group)
                    .or_insert_with(|| Group::fresh(is_lost))
                    .take(&record, place, &mut self.scratch)
                    .map_err(|found| wrong(format!("{found} in group {}", record.group)))?;
            }
            rest = &rest[size..];
        }
        if !rest.is_empty() {
            return Err(wrong(format!("{} bytes too many", rest.len())));
        }
        Ok(())
    }

    /// Decides between torn and damaged; what was torn reaches from `start` on.
    fn judge(
        &mut self,
        reader: &mut SegmentReader,
        start: u64,
        broken: &Broken,
        later: &[u64],
    ) -> Result<(), LogError> {
        let Some(written) = reader.written_end(start, reader.len)? else {
            return Ok(());
        };
        let expected = if start == 0 {
            "a segment header and a flush"
        } else {
            "a whole flush"
        };
        let name = reader.name.clone();
        let wrong = |what: &str| {
            Err(damaged(
                &name,
                broken.at,
                expected,
                format!("{}{what}", broken.found),
            ))
        };
        let is_followed = match broken.end {
            Some(end) => written > end,
            // The header of a segment and its first flush are one: search behind both.
            None => {
                let behind = if start == 0 {
                    2 * HEADER_BLOCK
                } else {
                    start + HEADER_BLOCK
                };
                reader.has_flush_start(behind, written)?
            }
        };
        if is_followed || self.is_written(later)? {
            return wrong(", and later flushes behind it");
        }
        // A crash may leave the header of a segment alone, and of its first flush nothing.
        let least = if start == 0 { 2 * HEADER_BLOCK } else { 0 };
        let end = broken.end.unwrap_or_else(|| written.max(least));
        if !reader.has_blank_sector(start, end)? {
            return wrong(" in the newest flush, which may have been acknowledged");
        }
        self.scanned.torn = written - start;
        self.torn = Some(Torn {
            name,
            from: start,
            until: written,
        });
        Ok(())
    }

    fn is_written(&self, later: &[u64]) -> Result<bool, LogError> {
        for &first in later {
            let mut reader = SegmentReader::open(self.folder, first)?;
            let until = REACH.min(reader.len);
            if reader.written_end(0, until)?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn finish(mut self) -> Result<Scanned, LogError> {
        if let Some(damage) = self.hidden {
            return Err(damage);
        }
        if self.scanned.groups.values().all(|group| !group.is_lost) {
            self.scanned.damage = None;
        }
        if self.scanned.segments.is_empty()
            && let Some(&(first, _)) = self.scanned.spares.first()
            && first > 0
        {
            let found = "a blank segment".to_owned();
            return Err(damaged(
                &segment::name(first),
                0,
                "the oldest segment",
                found,
            ));
        }
        for (number, group) in &self.scanned.groups {
            if group.has_a_hole() {
                let (first, _) = self.scanned.segments[0];
                let expected = format!(
                    "an older segment with op {} of group {number}",
                    group.cut + 1
                );
                let found = format!("op {} as the oldest", group.first());
                return Err(damaged(&segment::name(first), 0, &expected, found));
            }
        }
        if let Some(torn) = &self.torn {
            zero(self.folder, torn)?;
        }
        Ok(self.scanned)
    }
}

/// Reads one record of a flush whose sectors are right.
pub(crate) fn decode<'b>(
    bytes: &'b [u8],
    file: &str,
    at: u64,
) -> Result<(RecordView<'b>, usize), LogError> {
    let file = file.to_owned();
    RecordView::decode(bytes).map_err(|why| match why {
        NoRecord::Broken => damaged(&file, at, "a record", "other bytes".to_owned()),
        NoRecord::Kind(version) => LogError::Version {
            file,
            what: "record kind",
            version,
        },
        NoRecord::Version(version) => LogError::Version {
            file,
            what: "record version",
            version,
        },
    })
}

/// The refusal for bytes that are not as they must be.
pub(crate) fn damaged(file: &str, at: u64, expected: &str, found: String) -> LogError {
    LogError::Damaged {
        file: file.to_owned(),
        at: ByteCount::new(at),
        expected: expected.to_owned(),
        found,
    }
}

/// Zeroes a torn flush, durably. A crash on the way leaves a blank sector, so the rest is still
/// torn the next time.
fn zero(folder: &dyn Folder, torn: &Torn) -> Result<(), LogError> {
    let mut disk = folder.open(&torn.name)?;
    let zeros = vec![0; segment::to_usize(torn.until - torn.from)];
    disk.write(ByteCount::new(torn.from), &zeros)?;
    disk.sync()?;
    Ok(())
}
