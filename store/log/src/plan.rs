//! Which records go into which flush, decided before anything is written.
//!
//! So a batch that needs another segment, and cannot have one, is refused whole.

use std::ops::Range;

use holm_base::ByteCount;
use holm_sequencer::Record;

use crate::config::{FLUSH_BYTES_TARGET, LogConfig, RECORD_BYTES_MAX};
use crate::error::LogError;
use crate::layout::{
    CUT_BODY_2, CUT_TO_BODY, FLUSH_HEADER, HARD_BODY_2, INSTALLED_BODY, RECORD_HEADER, RecordView,
    STATE_BODY_2,
};
use crate::sector::{self, BLOCK};

/// One flush to come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Chunk {
    /// Which of the records it takes, counted over all groups.
    pub(crate) range: Range<usize>,
    /// Whether it begins a new segment.
    pub(crate) rolls: bool,
}

/// The flushes of one batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    chunks: Vec<Chunk>,
}

/// What fits where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Room {
    /// Disk bytes left for flushes in the tail.
    pub(crate) free: u64,
    /// Disk bytes to hold back in a new segment, for a note.
    pub(crate) held_back: u64,
    /// Payload bytes that a new segment's state records take.
    pub(crate) states: u64,
}

impl Room {
    /// The same with a block less: for a batch that one small record goes before.
    pub(crate) const fn less_a_block(self) -> Self {
        Self {
            free: self.free.saturating_sub(BLOCK as u64),
            held_back: self.held_back + BLOCK as u64,
            states: self.states,
        }
    }

    /// The same with a full tail.
    const fn of_a_new_segment(self) -> Self {
        Self {
            free: 0,
            held_back: self.held_back,
            states: self.states,
        }
    }
}

/// A plan as it grows.
struct Draft {
    chunks: Vec<Chunk>,
    start: usize,
    bytes: u64,
    rolls: bool,
    free: u64,
}

impl Plan {
    pub(crate) fn of<'r>(
        records: impl IntoIterator<Item = &'r Record>,
        room: Room,
        config: &LogConfig,
    ) -> Result<Self, LogError> {
        let fresh = (config.segment_bytes.value() - BLOCK as u64).saturating_sub(room.held_back);
        let limit = RECORD_BYTES_MAX.min(payload(fresh).saturating_sub(room.states));
        let mut draft = Draft {
            chunks: Vec::new(),
            start: 0,
            bytes: 0,
            rolls: false,
            free: room.free,
        };
        let mut count = 0;
        for (index, record) in records.into_iter().enumerate() {
            count = index + 1;
            let bytes = encoded_bytes(record);
            if bytes > limit {
                return Err(LogError::TooLarge {
                    bytes: ByteCount::new(bytes),
                    limit: ByteCount::new(limit),
                });
            }
            if matches!(record, Record::CutTo { .. }) {
                // The chain there is read back, so what goes before must be on the disk.
                draft.close(index);
            }
            draft.close_if_full(index, bytes);
            if draft.bytes + bytes > payload(draft.free) {
                draft.rolls = true;
                draft.free = fresh;
                draft.bytes = room.states;
            }
            draft.bytes += bytes;
        }
        draft.close(count);
        Ok(Self {
            chunks: draft.chunks,
        })
    }

    /// A plan of a single flush, in the tail or in a new segment, if there is one.
    pub(crate) fn in_one_flush(records: &[Record], room: Room, config: &LogConfig) -> Option<Self> {
        [room, room.of_a_new_segment()]
            .into_iter()
            .filter_map(|room| Self::of(records, room, config).ok())
            .find(|plan| plan.chunks.len() == 1)
    }

    pub(crate) fn chunks(&self) -> &[Chunk] {
        &self.chunks
    }

    /// How many new segments it begins.
    pub(crate) fn rolls(&self) -> usize {
        self.chunks.iter().filter(|chunk| chunk.rolls).count()
    }
}

impl Draft {
    /// Ends the flush in hand if `bytes` more do not fit into it or would make it too long.
    fn close_if_full(&mut self, index: usize, bytes: u64) {
        let all = self.bytes + bytes;
        if all > payload(self.free) || all > FLUSH_BYTES_TARGET {
            self.close(index);
        }
    }

    fn close(&mut self, end: usize) {
        if end == self.start {
            return;
        }
        self.chunks.push(Chunk {
            range: self.start..end,
            rolls: self.rolls,
        });
        self.free -= sector::disk_bytes(FLUSH_HEADER as u64 + self.bytes);
        self.start = end;
        self.bytes = 0;
        self.rolls = false;
    }
}

/// How many payload bytes fit into `disk` free bytes.
fn payload(disk: u64) -> u64 {
    let blocks = disk / BLOCK as u64 * BLOCK as u64;
    sector::stream_bytes(blocks).saturating_sub(FLUSH_HEADER as u64)
}

/// What a note of `groups` records with the longest body in question takes on disk.
pub(crate) const fn note_disk_bytes(groups: u64, is_state: bool) -> u64 {
    let body = if is_state { STATE_BODY_2 } else { CUT_BODY_2 };
    let records = groups * (RECORD_HEADER + body) as u64;
    sector::disk_bytes(FLUSH_HEADER as u64 + records)
}

fn encoded_bytes(record: &Record) -> u64 {
    let body = match record {
        Record::Entry { body, .. } => body.len(),
        Record::Hard { .. } => HARD_BODY_2,
        Record::CutTo { .. } => CUT_TO_BODY,
        Record::Installed { body, .. } => INSTALLED_BODY + body.len(),
    };
    RecordView::encoded_bytes(body) as u64
}

/// The payload bytes of the state records of `groups` groups.
pub(crate) fn states_bytes(groups: usize) -> u64 {
    (groups * RecordView::encoded_bytes(STATE_BODY_2)) as u64
}

const _: () = assert!(CUT_BODY_2.is_multiple_of(8) && STATE_BODY_2.is_multiple_of(8));
