//! Copying what is alive out of neighbouring segments into one new segment, so that the old
//! ones can go.
//!
//! Slice by slice it reads the victims in order, asks a pinned root whether each record is
//! still pointed to, and writes those that are. The engine then points the index to the
//! copies, a few at a time. The victims' files go when no checkpoint that is kept needs them.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use holm_base::ByteCount;
use holm_machine::{Disk, DiskError, Folder};

use crate::checkpoint::remove_if_there;
use crate::error::StoreError;
use crate::flush::CLEAN_SPARE;
use crate::frame::{FRAME_GOAL, FRAME_HEAD, FrameHead, RecordKind, Stored, digest};
use crate::head::Owner;
use crate::history::Place;
use crate::layout::{count, narrow, wide};
use crate::root::{Root, key_in};
use crate::scan::{Item, Scanner, unit};
use crate::segment::{SEGMENT_HEAD, Segment, SegmentHead, SegmentKind};

/// How much one slice of the work reads.
pub(crate) const SLICE: u64 = 2 << 20;

/// The cleaning of a run of segments.
#[derive(Debug)]
pub(crate) struct Clean {
    pub(crate) folder: Arc<dyn Folder>,
    pub(crate) owner: Owner,
    /// Let go at the end of the last slice, for that may free much.
    pub(crate) root: Option<Root>,
    pub(crate) victims: Vec<Arc<Segment>>,
    /// The new segment's number.
    pub(crate) number: u32,
    /// An upper bound of what the new segment will hold.
    pub(crate) bytes_max: u64,
    pub(crate) segment_bytes: u64,
    /// Whether there was no room but the one that is kept for this.
    pub(crate) took_spare: bool,
    pub(crate) copy: Option<Copy>,
    /// The next victim, and where in it.
    pub(crate) at: (usize, u64),
    pub(crate) moves: Moves,
    pub(crate) done: Option<Arc<Segment>>,
}

/// The new segment under way.
#[derive(Debug)]
pub(crate) struct Copy {
    disk: Box<dyn Disk>,
    at: u64,
    pieces: Vec<Bytes>,
    frame: u64,
    digest: u32,
    marks: Vec<(i64, u64)>,
}

/// Which records went where. Keys lie side by side, for there may be many.
#[derive(Debug, Default)]
pub(crate) struct Moves {
    keys: Vec<u8>,
    moves: Vec<Move>,
}

/// Where a record was and is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Move {
    key_end: usize,
    pub(crate) change: (i64, u32),
    pub(crate) from: Place,
    pub(crate) to: Place,
}

impl Moves {
    fn push(&mut self, key: &[u8], change: (i64, u32), from: Place, to: Place) {
        self.keys.extend_from_slice(key);
        self.moves.push(Move {
            key_end: self.keys.len(),
            change,
            from,
            to,
        });
    }

    pub(crate) fn get(&self, at: usize) -> Option<(&[u8], Move)> {
        let found = *self.moves.get(at)?;
        let start = at.checked_sub(1).map_or(0, |at| self.moves[at].key_end);
        Some((&self.keys[start..found.key_end], found))
    }
}

/// How long the new segment's file is if it holds `retained` bytes of records.
pub(crate) const fn file_bytes(retained: u64) -> u64 {
    let heads = (retained / FRAME_GOAL + 2) * 64;
    (SEGMENT_HEAD + retained + heads).next_multiple_of(4096)
}

impl Clean {
    /// Does one slice of the work. Finished when `done` is there.
    ///
    /// # Errors
    ///
    /// [`StoreError::Damaged`] if a victim is: it must stay as it is. [`DiskError::Full`]
    /// within [`StoreError::Disk`] if there is no room for the copy. Nothing is left behind
    /// in either case but a file that the next start removes.
    pub(crate) fn run(&mut self) -> Result<(), StoreError> {
        let failed = |source| StoreError::Disk {
            attempted: "clean segments".to_owned(),
            source,
        };
        if self.copy.is_none() {
            self.copy = Some(self.begin().map_err(failed)?);
            return Ok(());
        }
        let mut left = SLICE;
        while left > 0 {
            let Some(victim) = self.victims.get(self.at.0).map(Arc::clone) else {
                self.done = Some(self.end().map_err(failed)?);
                self.root = None;
                return Ok(());
            };
            let mut scanner = Scanner::new(&victim, self.at.1, victim.written());
            let start = scanner.at();
            let mut ended = false;
            while scanner.at() - start < left || !scanner.between_frames() {
                match scanner.next()? {
                    Some(Item::Record(place, stored)) => {
                        self.record(&victim, place, &stored)?;
                    }
                    Some(Item::Frame(..)) => {}
                    None => {
                        ended = true;
                        break;
                    }
                }
            }
            left = left.saturating_sub(scanner.at() - start);
            self.at = if ended {
                (self.at.0 + 1, SEGMENT_HEAD)
            } else {
                (self.at.0, scanner.at())
            };
        }
        // All of it at the end would hold up whoever syncs meanwhile.
        let copy = self.copy.as_mut().expect("begin made it");
        copy.disk.sync().map_err(failed)
    }

    /// Removes what was written so far, after a failure.
    pub(crate) fn abandon(&mut self) -> Result<(), DiskError> {
        self.copy = None;
        remove_if_there(self.folder.as_ref(), &Segment::name(self.number))
    }

    fn head(&self) -> SegmentHead {
        SegmentHead {
            cluster: self.owner.cluster,
            group: self.owner.group,
            kind: SegmentKind::Cleaned,
            number: self.number,
            first: self.victims[0].first,
            first_frame: 0,
        }
    }

    fn begin(&mut self) -> Result<Copy, DiskError> {
        let name = Segment::name(self.number);
        let mut disk = match self.folder.create(&name, ByteCount::new(self.bytes_max)) {
            Err(DiskError::Full { .. }) if self.bytes_max <= self.segment_bytes => {
                self.take_spare(&name)?;
                self.folder.open(&name)?
            }
            other => other?,
        };
        disk.write(ByteCount::ZERO, &self.head().encode())?;
        Ok(Copy {
            disk,
            at: SEGMENT_HEAD,
            pieces: Vec::new(),
            frame: SEGMENT_HEAD,
            digest: 0,
            marks: Vec::new(),
        })
    }

    fn take_spare(&mut self, name: &str) -> Result<(), DiskError> {
        match self.folder.rename(CLEAN_SPARE, name) {
            Ok(()) => {
                self.took_spare = true;
                Ok(())
            }
            Err(DiskError::NotFound { .. }) => Err(DiskError::Full {
                attempted: format!("create {name}"),
            }),
            Err(error) => Err(error),
        }
    }

    fn record(
        &mut self,
        victim: &Segment,
        place: Place,
        stored: &Stored,
    ) -> Result<(), StoreError> {
        match stored.head.kind {
            RecordKind::Put | RecordKind::Delete => {}
            RecordKind::Fact | RecordKind::FactRemoved | RecordKind::Compacted => return Ok(()),
        }
        let change = (stored.head.main, stored.head.sub);
        let damaged = || victim.damaged(place.offset(), "a record has no key");
        let key = key_in(stored).ok_or_else(damaged)?;
        let found = self.root.as_ref().and_then(|root| root.find(&key, change));
        if found.is_none_or(|slot| slot.place != place) {
            return Ok(());
        }
        let copy = self.copy.as_mut().expect("begin made it");
        let to = Place {
            segment: self.number,
            unit: unit(copy.add(change.0, stored)),
        };
        self.moves.push(&key, change, place, to);
        if copy.frame_bytes() >= FRAME_GOAL {
            copy.close_frame().map_err(|source| StoreError::Disk {
                attempted: "clean segments".to_owned(),
                source,
            })?;
        }
        Ok(())
    }

    /// Makes the copy durable and readable.
    fn end(&mut self) -> Result<Arc<Segment>, DiskError> {
        let mut copy = self.copy.take().expect("begin made it");
        copy.close_frame()?;
        let bytes = copy.at.next_multiple_of(4096);
        copy.disk.set_len(ByteCount::new(bytes))?;
        copy.disk.sync()?;
        self.folder.sync()?;
        let segment = Segment::new(&self.head(), bytes);
        for (main, at) in &copy.marks {
            segment.mark(*main, *at);
        }
        segment.set_written(copy.at);
        let name = Segment::name(self.number);
        segment.set_file(self.folder.open_read_only(&name)?);
        Ok(Arc::new(segment))
    }
}

impl Copy {
    /// Adds a record and gives its offset.
    fn add(&mut self, main: i64, stored: &Stored) -> u64 {
        if self.pieces.is_empty() {
            self.marks.push((main, self.frame));
            self.at = self.frame + count(FRAME_HEAD);
        }
        let at = self.at;
        self.at += count(stored.raw.len());
        self.digest = digest(self.digest, stored.checksum);
        self.pieces.push(stored.raw.clone());
        at
    }

    const fn frame_bytes(&self) -> u64 {
        self.at - self.frame
    }

    fn close_frame(&mut self) -> Result<(), DiskError> {
        if self.pieces.is_empty() {
            return Ok(());
        }
        let payload = self.at - self.frame - count(FRAME_HEAD);
        let head = FrameHead {
            payload: u32::try_from(payload).expect("a frame is bounded"),
            records: narrow(self.pieces.len()),
            digest: self.digest,
            copied: true,
            ..FrameHead::default()
        };
        let mut out = BytesMut::with_capacity(wide(head.payload) + FRAME_HEAD);
        out.extend_from_slice(&head.encode(0).0);
        for piece in self.pieces.drain(..) {
            out.extend_from_slice(&piece);
        }
        self.disk.write(ByteCount::new(self.frame), &out)?;
        self.frame = self.at;
        self.digest = 0;
        Ok(())
    }
}
