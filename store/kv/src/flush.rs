//! Writing frames and moving the durable mark.
//!
//! Order: frames, sync, then `head`, sync. A new segment's name is made durable before the
//! mark moves into it.

use std::sync::Arc;

use holm_base::ByteCount;
use holm_machine::{Disk, DiskError, Folder};

use crate::frame::FRAME_HEAD;
use crate::head::{HeadFile, Owner, Position};
use crate::layout::count;
use crate::segment::{Segment, SegmentHead};
use crate::tail::Frame;

/// The next segment's file, made ahead so that a full disk is noticed a segment early.
pub(crate) const SPARE: &str = "spare";
/// As [`SPARE`], kept for the cleaner, which is what makes room.
pub(crate) const CLEAN_SPARE: &str = "spare.clean";

/// Bytes of frames in one write, unless one frame is longer.
const WRITE_MAX: usize = 256 << 10;

/// The handles that frames are written through. One flush at a time holds it.
#[derive(Debug)]
pub(crate) struct Writer {
    pub(crate) folder: Arc<dyn Folder>,
    pub(crate) owner: Owner,
    pub(crate) head: HeadFile,
    pub(crate) file: Option<(u32, Box<dyn Disk>)>,
    pub(crate) segment_bytes: u64,
    /// Whether the spare files are known to be there.
    pub(crate) spares: bool,
    /// What is put together before it is written: the same memory each time, unless one frame is long.
    pub(crate) buffer: Vec<u8>,
}

/// Frames to write.
#[derive(Debug)]
pub(crate) struct Flush {
    pub(crate) writer: Writer,
    pub(crate) frames: Vec<Frame>,
}

/// What came of a flush.
#[derive(Debug)]
pub(crate) struct Flushed {
    pub(crate) writer: Writer,
    /// The durable mark, if it moved.
    pub(crate) position: Option<Position>,
    /// What could not be written because there was no room for a segment.
    pub(crate) left: Vec<Frame>,
    /// Whether a file could not be allocated.
    pub(crate) full: bool,
    /// A failure after which the store is of no use.
    pub(crate) failed: Option<DiskError>,
}

impl Flush {
    pub(crate) fn run(self) -> Flushed {
        let Self { writer, frames } = self;
        let mut done = Flushed {
            writer,
            position: None,
            left: frames,
            full: false,
            failed: None,
        };
        match done.write().and_then(|()| done.writer.fill_spares()) {
            Ok(()) => {}
            Err(DiskError::Full { .. }) => done.full = true,
            Err(error) => done.failed = Some(error),
        }
        done
    }
}

impl Flushed {
    /// Writes as many frames as there is room for; then moves the mark behind the last whole
    /// batch.
    fn write(&mut self) -> Result<(), DiskError> {
        let mut full = None;
        let mut written = 0;
        while let Some(frame) = self.left.get(written) {
            match self.writer.enter(&frame.segment) {
                Ok(()) => {}
                Err(error @ DiskError::Full { .. }) => {
                    full = Some(error);
                    break;
                }
                Err(error) => return Err(error),
            }
            let number = frame.segment.number;
            let here = |frame: &&Frame| frame.segment.number == number;
            let run = self.left[written..].iter().take_while(here).count();
            self.writer.append(&self.left[written..written + run])?;
            written += run;
        }
        let left = self.left.split_off(written);
        let whole = self.left.iter().rev().find(|frame| !frame.continues);
        self.position = whole.map(|frame| frame.position);
        self.left = left;
        if written > 0 {
            self.writer.sync()?;
        }
        if let Some(position) = &self.position {
            self.writer.head.save(position)?;
        }
        full.map_or(Ok(()), Err)
    }
}

impl Writer {
    /// Makes `segment` the one that is written to, with what was written before durable.
    fn enter(&mut self, segment: &Arc<Segment>) -> Result<(), DiskError> {
        if self.file.as_ref().is_some_and(|it| it.0 == segment.number) {
            return Ok(());
        }
        let name = Segment::name(segment.number);
        let mut disk = self.allocate(&name, segment.bytes)?;
        let head = SegmentHead {
            cluster: self.owner.cluster,
            group: self.owner.group,
            kind: segment.kind,
            number: segment.number,
            first: segment.first,
            first_frame: segment.first_frame,
        };
        disk.write(ByteCount::ZERO, &head.encode())?;
        segment.set_file(self.folder.open_read_only(&name)?);
        self.sync()?;
        self.folder.sync()?;
        self.file = Some((segment.number, disk));
        Ok(())
    }

    fn allocate(&mut self, name: &str, bytes: u64) -> Result<Box<dyn Disk>, DiskError> {
        self.spares = false;
        if bytes == self.segment_bytes {
            match self.folder.rename(SPARE, name) {
                Ok(()) => return self.folder.open(name),
                Err(DiskError::NotFound { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        self.folder.create(name, ByteCount::new(bytes))
    }

    /// Writes neighbouring frames of the segment that was entered.
    fn append(&mut self, frames: &[Frame]) -> Result<(), DiskError> {
        let (_, disk) = self.file.as_mut().expect("a segment was entered");
        let mut buffer = std::mem::take(&mut self.buffer);
        let mut start = frames[0].at;
        for frame in frames {
            if !buffer.is_empty() && frame.position.end - start > count(WRITE_MAX) {
                disk.write(ByteCount::new(start), &buffer)?;
                start = frame.at;
                buffer.clear();
            }
            buffer.extend_from_slice(&frame.head);
            for piece in &frame.pieces {
                buffer.extend_from_slice(piece);
            }
            assert_eq!(
                count(buffer.len()),
                frame.position.end - start,
                "frames lie side by side, {FRAME_HEAD} bytes of header before each"
            );
        }
        if !buffer.is_empty() {
            disk.write(ByteCount::new(start), &buffer)?;
            buffer.clear();
        }
        if buffer.capacity() <= 2 * WRITE_MAX {
            self.buffer = buffer;
        }
        let last = &frames[frames.len() - 1];
        last.segment.set_written(last.position.end);
        Ok(())
    }

    fn sync(&mut self) -> Result<(), DiskError> {
        match &mut self.file {
            Some((_, disk)) => disk.sync(),
            None => Ok(()),
        }
    }

    /// Makes the files that the next segment and the cleaner need.
    fn fill_spares(&mut self) -> Result<(), DiskError> {
        if self.spares {
            return Ok(());
        }
        for name in [SPARE, CLEAN_SPARE] {
            match self.folder.create(name, ByteCount::new(self.segment_bytes)) {
                Ok(_) | Err(DiskError::Exists { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        self.spares = true;
        Ok(())
    }
}
