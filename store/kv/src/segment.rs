//! Segment files, the table of them, and what is not written yet.
//!
//! ```text
//! segment header, 4 KiB, little-endian
//!  0 8 "HOLMKVS1"
//!  8 2 version, 1
//! 10 2 kind: 1 tail, 2 cleaned
//! 12 4 group
//! 16 8 cluster
//! 24 4 segment number, 28 4 0
//! 32 8 first main, 40 4 first sub, 44 4 0
//! 48 8 first frame's number (0 if cleaned)
//! .. 0
//! 4092 4 crc32c of 0..4092
//! 4096 frames
//! ```
//!
//! Segments hold disjoint, rising ranges of changes (I4): reading them in the order of their
//! first change is reading history.
//!
//! What would surprise: where revisions begin inside a segment is kept in memory and in
//! checkpoints, not in a footer of the file; a segment needs no write when it is full.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use bytes::Bytes;
use holm_base::{ByteCount, ClusterId, GroupId};
use holm_machine::{Disk, DiskError};

use crate::error::StoreError;
use crate::history::Place;
use crate::layout::{Bad, i64_at, set_u32, set_u64, u32_at, u64_at};

/// Where a segment's frames begin.
pub(crate) const SEGMENT_HEAD: u64 = 4096;
/// The newest layout that this code reads and writes, of all files here.
pub(crate) const FORMAT: u16 = 1;
/// How far apart the known beginnings of revisions are.
const MARK_EVERY: u64 = 64 << 10;

const MAGIC: &[u8; 8] = b"HOLMKVS1";

/// Who wrote a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SegmentKind {
    /// The engine, in the order of commands.
    Tail,
    /// The cleaner, from older segments.
    Cleaned,
}

/// The bytes of a segment's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHead {
    pub(crate) cluster: ClusterId,
    pub(crate) group: GroupId,
    pub(crate) kind: SegmentKind,
    pub(crate) number: u32,
    pub(crate) first: (i64, u32),
    pub(crate) first_frame: u64,
}

impl SegmentHead {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![0; 4096];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..10].copy_from_slice(&FORMAT.to_le_bytes());
        bytes[10] = match self.kind {
            SegmentKind::Tail => 1,
            SegmentKind::Cleaned => 2,
        };
        set_u32(&mut bytes, 12, self.group.value());
        set_u64(&mut bytes, 16, self.cluster.value());
        set_u32(&mut bytes, 24, self.number);
        set_u64(&mut bytes, 32, self.first.0.cast_unsigned());
        set_u32(&mut bytes, 40, self.first.1);
        set_u64(&mut bytes, 48, self.first_frame);
        let checksum = crc32c::crc32c(&bytes[..4092]);
        set_u32(&mut bytes, 4092, checksum);
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Bad> {
        if bytes.len() < 4096 || &bytes[..8] != MAGIC {
            return Err(Bad("there is no segment header"));
        }
        if crc32c::crc32c(&bytes[..4092]) != u32_at(bytes, 4092) {
            return Err(Bad("the segment header's checksum is wrong"));
        }
        if u32_at(bytes, 8) & 0xffff != u32::from(FORMAT) {
            return Err(Bad("the segment has an unknown version"));
        }
        let kind = match bytes[10] {
            1 => SegmentKind::Tail,
            2 => SegmentKind::Cleaned,
            _ => return Err(Bad("the segment has an unknown kind")),
        };
        Ok(Self {
            cluster: ClusterId::new(u64_at(bytes, 16)),
            group: GroupId::new(u32_at(bytes, 12)),
            kind,
            number: u32_at(bytes, 24),
            first: (i64_at(bytes, 32), u32_at(bytes, 40)),
            first_frame: u64_at(bytes, 48),
        })
    }
}

/// A frame behind which no change of an earlier revision lies, and before which none of a
/// later one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) main: i64,
    pub(crate) at: u64,
}

/// One segment, shared by the engine, jobs and all pinned roots. Its file can be read for as
/// long as anybody holds this, even when its name is gone.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) number: u32,
    pub(crate) kind: SegmentKind,
    pub(crate) first: (i64, u32),
    pub(crate) first_frame: u64,
    /// How long the file is.
    pub(crate) bytes: u64,
    file: OnceLock<Box<dyn Disk>>,
    written: AtomicU64,
    marks: RwLock<Vec<Mark>>,
}

impl Segment {
    pub(crate) const fn new(head: &SegmentHead, bytes: u64) -> Self {
        Self {
            number: head.number,
            kind: head.kind,
            first: head.first,
            first_frame: head.first_frame,
            bytes,
            file: OnceLock::new(),
            written: AtomicU64::new(SEGMENT_HEAD),
            marks: RwLock::new(Vec::new()),
        }
    }

    pub(crate) fn name(number: u32) -> String {
        format!("{number:010}.seg")
    }

    /// The number in a segment's file name.
    pub(crate) fn number_of(name: &str) -> Option<u32> {
        let number = name.strip_suffix(".seg")?.parse().ok()?;
        (Self::name(number) == name).then_some(number)
    }

    /// Gives the segment its file. Only the first one counts.
    pub(crate) fn set_file(&self, file: Box<dyn Disk>) {
        drop(self.file.set(file));
    }

    /// Up to where the file holds what belongs there.
    pub(crate) fn written(&self) -> u64 {
        self.written.load(Ordering::Acquire)
    }

    pub(crate) fn set_written(&self, end: u64) {
        self.written.store(end, Ordering::Release);
    }

    /// Notes where a frame begins, if the last note is far enough away.
    pub(crate) fn mark(&self, main: i64, at: u64) {
        let mut marks = self.marks.write().unwrap_or_else(PoisonError::into_inner);
        if marks
            .last()
            .is_none_or(|last| at.saturating_sub(last.at) >= MARK_EVERY)
        {
            marks.push(Mark { main, at });
        }
    }

    /// Forgets what lies from `end` on.
    pub(crate) fn cut(&self, end: u64) {
        let mut marks = self.marks.write().unwrap_or_else(PoisonError::into_inner);
        marks.retain(|mark| mark.at < end);
        self.set_written(end);
    }

    /// Takes over a mark from a checkpoint.
    pub(crate) fn restore(&self, mark: Mark) {
        let mut marks = self.marks.write().unwrap_or_else(PoisonError::into_inner);
        marks.push(mark);
    }

    pub(crate) fn marks(&self) -> Vec<Mark> {
        let marks = self.marks.read().unwrap_or_else(PoisonError::into_inner);
        marks.clone()
    }

    /// A frame's beginning such that no change of revision `main` or later lies before.
    pub(crate) fn before(&self, main: i64) -> u64 {
        let marks = self.marks.read().unwrap_or_else(PoisonError::into_inner);
        let later = marks.partition_point(|mark| mark.main < main);
        let mark = later.checked_sub(1).and_then(|at| marks.get(at));
        mark.map_or(SEGMENT_HEAD, |mark| mark.at)
    }

    /// Reads from the file.
    pub(crate) fn read(&self, at: u64, len: usize) -> Result<Bytes, StoreError> {
        let mut bytes = vec![0; len];
        let file = self
            .file
            .get()
            .ok_or_else(|| self.damaged(at, "nothing was written there yet"))?;
        match file.read(ByteCount::new(at), &mut bytes) {
            Ok(()) => Ok(Bytes::from(bytes)),
            Err(DiskError::Short { .. }) => Err(self.damaged(at, "the file ends early")),
            Err(source) => Err(StoreError::Disk {
                attempted: format!("read {} at {at}", Self::name(self.number)),
                source,
            }),
        }
    }

    pub(crate) fn damaged(&self, at: u64, found: &str) -> StoreError {
        StoreError::Damaged {
            file: Self::name(self.number),
            at: ByteCount::new(at),
            found: found.to_owned(),
        }
    }
}

/// All segments that a root may point to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Table {
    by_number: Vec<Arc<Segment>>,
    by_first: Vec<Arc<Segment>>,
}

impl Table {
    pub(crate) fn find(&self, number: u32) -> Option<&Arc<Segment>> {
        let at = self.by_number.binary_search_by_key(&number, |it| it.number);
        at.ok().map(|at| &self.by_number[at])
    }

    /// Adds a segment whose records can be read, but which is not a part of history yet.
    pub(crate) fn insert_copy(&mut self, segment: Arc<Segment>) {
        let at = self
            .by_number
            .partition_point(|it| it.number < segment.number);
        self.by_number.insert(at, segment);
    }

    /// Adds a segment.
    pub(crate) fn insert(&mut self, segment: Arc<Segment>) {
        self.insert_copy(Arc::clone(&segment));
        self.insert_in_order(segment);
    }

    /// Puts a copy in the place of those that it was copied from.
    pub(crate) fn replace(&mut self, victims: &[Arc<Segment>], copy: Option<u32>) {
        for victim in victims {
            self.by_number.retain(|it| it.number != victim.number);
            self.by_first.retain(|it| it.number != victim.number);
        }
        if let Some(copy) = copy.and_then(|number| self.find(number).map(Arc::clone)) {
            self.insert_in_order(copy);
        }
    }

    fn insert_in_order(&mut self, segment: Arc<Segment>) {
        let order = |it: &Segment| (it.first, it.number);
        let at = self
            .by_first
            .partition_point(|it| order(it) < order(&segment));
        self.by_first.insert(at, segment);
    }

    /// The lengths of all files together.
    pub(crate) fn bytes(&self) -> u64 {
        self.by_number.iter().map(|it| it.bytes).sum()
    }

    /// All segments in the order of the changes that they hold.
    pub(crate) fn in_order(&self) -> &[Arc<Segment>] {
        &self.by_first
    }

    /// Those that may hold changes of revision `main` or later, in order.
    pub(crate) fn from(&self, main: i64) -> &[Arc<Segment>] {
        let later = self.by_first.partition_point(|it| it.first < (main, 0));
        &self.by_first[later.saturating_sub(1)..]
    }
}

/// A record that was not written to its segment yet, or only just.
#[derive(Clone, Debug)]
pub(crate) struct Piece {
    pub(crate) place: Place,
    pub(crate) main: i64,
    pub(crate) bytes: Bytes,
}

/// Records that wait for the flush, in the order of their places. All roots share it: a place
/// never holds anything else.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    pieces: RwLock<VecDeque<Piece>>,
}

impl Pending {
    pub(crate) fn push(&self, piece: Piece) {
        let mut pieces = self.pieces.write().unwrap_or_else(PoisonError::into_inner);
        pieces.push_back(piece);
    }

    /// Forgets all pieces below `end`, which are in their file now.
    pub(crate) fn release(&self, end: Place) {
        let mut pieces = self.pieces.write().unwrap_or_else(PoisonError::into_inner);
        let kept = pieces.partition_point(|piece| piece.place < end);
        let gone: Vec<_> = pieces.drain(..kept).collect();
        drop(pieces);
        drop(gone);
    }

    pub(crate) fn get(&self, place: Place) -> Option<Bytes> {
        let pieces = self.pieces.read().unwrap_or_else(PoisonError::into_inner);
        let at = pieces
            .binary_search_by_key(&place, |piece| piece.place)
            .ok()?;
        Some(pieces[at].bytes.clone())
    }

    /// What waits for one segment's file from `start` on, of revision `main` or later: whole
    /// revisions, up to the first that brings it to `bytes_max`. `None` if the file holds more
    /// than `start` already, so that it must be read first.
    pub(crate) fn from(
        &self,
        segment: &Segment,
        start: u64,
        main: i64,
        bytes_max: usize,
    ) -> Option<Waiting> {
        let pieces = self.pieces.read().unwrap_or_else(PoisonError::into_inner);
        // Pieces leave only after `written` has passed them, so under the lock nothing can lie
        // in between.
        if segment.written() > start {
            return None;
        }
        let first = pieces.partition_point(|piece| {
            (piece.place.segment, piece.place.offset()) < (segment.number, start)
        });
        let mut bytes = 0;
        let mut found: Vec<Piece> = Vec::new();
        let here = pieces.range(first..);
        let here = here.take_while(|piece| piece.place.segment == segment.number);
        // What is no change has no revision, and no place between two of them.
        for piece in here.filter(|piece| piece.main >= main.max(1)) {
            let border = found.last().is_some_and(|last| last.main != piece.main);
            if bytes >= bytes_max && border {
                return Some(Waiting {
                    pieces: found,
                    all: false,
                });
            }
            bytes += piece.bytes.len();
            found.push(piece.clone());
        }
        Some(Waiting {
            pieces: found,
            all: true,
        })
    }
}

/// Records that wait for one segment's file.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub(crate) pieces: Vec<Piece>,
    /// Whether nothing more waits for this segment.
    pub(crate) all: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head() -> SegmentHead {
        SegmentHead {
            cluster: ClusterId::new(1),
            group: GroupId::new(2),
            kind: SegmentKind::Tail,
            number: 3,
            first: (4, 5),
            first_frame: 6,
        }
    }

    #[test]
    fn a_header_with_any_bit_changed_is_refused() {
        let good = head().encode();
        assert_eq!(SegmentHead::decode(&good), Ok(head()));
        for at in 0..good.len() {
            let mut bytes = good.clone();
            bytes[at] ^= 1;
            assert!(SegmentHead::decode(&bytes).is_err(), "byte {at}");
        }
    }

    #[test]
    fn a_search_for_a_revision_starts_before_it() {
        let segment = Segment::new(&head(), 1 << 20);
        for (main, at) in [(4, 4096), (9, 80 << 10), (9, 160 << 10), (20, 240 << 10)] {
            segment.mark(main, at);
        }
        assert_eq!(segment.before(4), SEGMENT_HEAD);
        assert_eq!(segment.before(9), SEGMENT_HEAD);
        assert_eq!(segment.before(10), 160 << 10);
        assert_eq!(segment.before(99), 240 << 10);
    }

    #[test]
    fn file_names_are_read_back_and_nothing_else_is() {
        assert_eq!(Segment::number_of(&Segment::name(12)), Some(12));
        assert_eq!(Segment::number_of("12.seg"), None);
        assert_eq!(Segment::number_of("0000000012.ckp"), None);
    }
}
