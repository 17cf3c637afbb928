//! Where new records go: into frames in memory, each with its place in a segment already,
//! until a flush takes them.
//!
//! What would surprise: a record's place is known before its file exists.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use crate::frame::{
    FRAME_GOAL, FRAME_HEAD, FRAME_MAX, FrameHead, RecordHead, digest, encode_record,
};
use crate::head::Position;
use crate::history::Place;
use crate::layout::{count, narrow, u32_at};
use crate::scan::unit;
use crate::segment::{Pending, Piece, SEGMENT_HEAD, Segment};

/// Records share allocations of this size.
const BLOCK: usize = 64 << 10;

/// A whole frame that waits for its flush.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) segment: Arc<Segment>,
    pub(crate) at: u64,
    pub(crate) head: [u8; FRAME_HEAD],
    pub(crate) pieces: Vec<Bytes>,
    /// Behind this frame.
    pub(crate) position: Position,
    pub(crate) continues: bool,
}

impl Frame {
    pub(crate) const fn bytes(&self) -> u64 {
        self.position.end - self.at
    }
}

/// What is complete at the end of a frame.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stamp {
    pub(crate) op: u64,
    pub(crate) term: u64,
    pub(crate) revision: i64,
}

#[derive(Debug)]
struct Open {
    at: u64,
    digest: u32,
    pieces: Vec<Bytes>,
}

/// The end of the line of frames.
#[derive(Debug)]
pub(crate) struct Tail {
    segment: Arc<Segment>,
    pending: Arc<Pending>,
    /// The next free byte of the segment.
    at: u64,
    open: Option<Open>,
    closed: Vec<Frame>,
    closed_bytes: u64,
    /// Behind the last closed frame.
    position: Position,
    block: BytesMut,
}

impl Tail {
    pub(crate) fn new(segment: Arc<Segment>, pending: Arc<Pending>, position: Position) -> Self {
        Self {
            segment,
            pending,
            at: position.end,
            open: None,
            closed: Vec::new(),
            closed_bytes: 0,
            position,
            block: BytesMut::new(),
        }
    }

    /// Behind the last closed frame.
    pub(crate) const fn position(&self) -> &Position {
        &self.position
    }

    /// The number that the next frame after this one will have.
    pub(crate) const fn next_frame(&self) -> u64 {
        match self.open {
            Some(_) => self.position.frame + 1,
            None => self.position.frame,
        }
    }

    /// Encodes a record whose body is about `size` bytes, without placing it.
    pub(crate) fn encode(
        &mut self,
        head: RecordHead,
        size: usize,
        body: impl FnOnce(&mut BytesMut),
    ) -> Bytes {
        let needed = size + 128;
        if self.block.capacity() < needed {
            self.block = BytesMut::with_capacity(needed.max(BLOCK));
        }
        encode_record(&mut self.block, head, body)
    }

    /// Whether a record of `len` bytes can be placed in the segment at hand.
    pub(crate) fn fits(&self, len: usize) -> bool {
        let head = if self.open.is_none() {
            count(FRAME_HEAD)
        } else {
            0
        };
        self.at + head + count(len) <= self.segment.bytes
    }

    /// How long a segment must be for a record of `len` bytes to fit.
    pub(crate) fn segment_bytes(len: usize) -> u64 {
        SEGMENT_HEAD + count(FRAME_HEAD + len)
    }

    /// Goes on in another segment.
    pub(crate) fn roll(&mut self, segment: Arc<Segment>, stamp: Stamp, continues: bool) {
        self.close(stamp, continues);
        self.segment = segment;
        self.at = SEGMENT_HEAD;
    }

    /// Places an encoded record that fits. `main` is its change's revision, 0 if it is none;
    /// `next` the revision that changes belong to now.
    pub(crate) fn place(&mut self, main: i64, next: i64, record: Bytes) -> Place {
        let start = self.at;
        let open = self.open.get_or_insert_with(|| Open {
            at: start,
            digest: 0,
            pieces: Vec::new(),
        });
        if open.pieces.is_empty() {
            self.segment.mark(next, start);
            self.at += count(FRAME_HEAD);
        }
        let place = Place {
            segment: self.segment.number,
            unit: unit(self.at),
        };
        self.at += count(record.len());
        open.digest = digest(open.digest, u32_at(&record, 0));
        open.pieces.push(record.clone());
        let bytes = record;
        self.pending.push(Piece { place, main, bytes });
        place
    }

    /// Closes the frame at a command's end if it is long enough. If the batch continues, it
    /// counts only once a later frame ends it.
    pub(crate) fn end_command(&mut self, stamp: Stamp, continues: bool) {
        if self.open_bytes() >= FRAME_GOAL {
            self.close(stamp, continues);
        }
    }

    /// Closes the frame within a command if it would grow beyond all bounds.
    pub(crate) fn bound(&mut self, stamp: Stamp) {
        if self.open_bytes() >= FRAME_MAX {
            self.close(stamp, true);
        }
    }

    const fn open_bytes(&self) -> u64 {
        match &self.open {
            Some(open) => self.at - open.at,
            None => 0,
        }
    }

    fn close(&mut self, stamp: Stamp, continues: bool) {
        let Some(open) = self.open.take() else {
            return;
        };
        let payload = self.at - open.at - count(FRAME_HEAD);
        let (head, chain) = FrameHead {
            payload: u32::try_from(payload).expect("a frame is bounded"),
            number: self.position.frame,
            op: stamp.op,
            term: stamp.term,
            revision: stamp.revision,
            records: narrow(open.pieces.len()),
            continues,
            copied: false,
            digest: open.digest,
        }
        .encode(self.position.chain);
        self.position = Position {
            segment: self.segment.number,
            end: self.at,
            frame: self.position.frame + 1,
            chain,
            op: stamp.op,
            term: stamp.term,
            revision: stamp.revision,
        };
        self.closed_bytes += self.at - open.at;
        self.closed.push(Frame {
            segment: Arc::clone(&self.segment),
            at: open.at,
            head,
            pieces: open.pieces,
            position: self.position,
            continues,
        });
    }

    /// How many bytes wait for a flush.
    pub(crate) const fn waiting(&self) -> u64 {
        self.closed_bytes + self.open_bytes()
    }

    /// Whether a flush would bring the durable op forward.
    pub(crate) fn is_behind(&self, op: u64) -> bool {
        self.waiting() > 0 || self.position.op < op
    }

    /// Takes all frames, between commands. If nothing was written but ops went by, they get a
    /// frame without records, provided that it fits.
    pub(crate) fn take(&mut self, stamp: Stamp) -> Vec<Frame> {
        let idle = self.open.is_none() && self.position.op < stamp.op;
        if idle && self.fits(0) {
            self.open = Some(Open {
                at: self.at,
                digest: 0,
                pieces: Vec::new(),
            });
            self.at += count(FRAME_HEAD);
        }
        self.close(stamp, false);
        self.closed_bytes = 0;
        std::mem::take(&mut self.closed)
    }

    /// Takes back frames that a flush could not write.
    pub(crate) fn put_back(&mut self, mut frames: Vec<Frame>) {
        self.closed_bytes += frames.iter().map(Frame::bytes).sum::<u64>();
        frames.append(&mut self.closed);
        self.closed = frames;
    }
}
