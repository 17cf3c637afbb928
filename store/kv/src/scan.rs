//! Reads a segment's frames and records from front to back, a window at a time.

use bytes::Bytes;

use crate::error::StoreError;
use crate::frame::{FRAME_HEAD, FrameHead, RECORD_HEAD, Stored, decode_record, record_len};
use crate::history::Place;
use crate::layout::{Bad, count, u32_at, wide};
use crate::segment::Segment;

const WINDOW: u64 = 256 << 10;

/// What a segment holds, piece by piece.
#[derive(Debug)]
pub(crate) enum Item {
    /// A frame begins. Its header's bytes are there for the chain.
    Frame(FrameHead, Bytes),
    /// The next record of that frame.
    Record(Place, Stored),
}

/// A reader over a part of a segment that begins at a frame.
#[derive(Debug)]
pub(crate) struct Scanner<'a> {
    segment: &'a Segment,
    at: u64,
    end: u64,
    /// Records are only read up to here; then comes a frame.
    frame_end: u64,
    window: Bytes,
    window_at: u64,
}

impl<'a> Scanner<'a> {
    pub(crate) const fn new(segment: &'a Segment, at: u64, end: u64) -> Self {
        Self {
            segment,
            at,
            end,
            frame_end: at,
            window: Bytes::new(),
            window_at: at,
        }
    }

    /// Where the next piece begins.
    pub(crate) const fn at(&self) -> u64 {
        self.at
    }

    /// Whether the next piece is a frame's header, or nothing.
    pub(crate) const fn between_frames(&self) -> bool {
        self.at == self.frame_end
    }

    /// The next frame or record; `None` at the end.
    ///
    /// # Errors
    ///
    /// [`StoreError::Damaged`] where the bytes are neither. The scanner stays there.
    pub(crate) fn next(&mut self) -> Result<Option<Item>, StoreError> {
        if self.between_frames() {
            return self.frame();
        }
        let head = self.bytes(RECORD_HEAD)?;
        let len = record_len(wide(u32_at(&head, 4)));
        if count(len) > self.frame_end - self.at {
            return Err(self.bad(Bad("a record is longer than its frame")));
        }
        let stored = decode_record(&self.bytes(len)?).map_err(|bad| self.bad(bad))?;
        let place = Place {
            segment: self.segment.number,
            unit: unit(self.at),
        };
        self.at += count(len);
        Ok(Some(Item::Record(place, stored)))
    }

    fn frame(&mut self) -> Result<Option<Item>, StoreError> {
        if self.end.saturating_sub(self.at) < count(FRAME_HEAD) {
            return Ok(None);
        }
        let bytes = self.bytes(FRAME_HEAD)?;
        let head = FrameHead::decode(&bytes).map_err(|bad| self.bad(bad))?;
        let start = self.at + count(FRAME_HEAD);
        if u64::from(head.payload) > self.end - start {
            return Err(self.bad(Bad("a frame is longer than its segment")));
        }
        self.at = start;
        self.frame_end = start + u64::from(head.payload);
        Ok(Some(Item::Frame(head, bytes)))
    }

    fn bytes(&mut self, len: usize) -> Result<Bytes, StoreError> {
        let from = self.at - self.window_at;
        if from + count(len) > count(self.window.len()) {
            let rest = self.end - self.at;
            if count(len) > rest {
                return Err(self.bad(Bad("a record is cut off")));
            }
            let wanted = WINDOW.max(count(len)).min(rest);
            let wanted = usize::try_from(wanted).expect("a window fits in memory");
            self.window = self.segment.read(self.at, wanted)?;
            self.window_at = self.at;
        }
        let from = usize::try_from(self.at - self.window_at).expect("within the window");
        Ok(self.window.slice(from..from + len))
    }

    pub(crate) fn bad(&self, bad: Bad) -> StoreError {
        self.segment.damaged(self.at, bad.0)
    }
}

/// An offset in units of 16 bytes.
pub(crate) fn unit(at: u64) -> u32 {
    u32::try_from(at / 16).expect("segments are far below 64 GiB")
}
