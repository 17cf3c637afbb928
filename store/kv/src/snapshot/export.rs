//! Naming the chunks of a pinned state, and making each of them again when it is wanted.
//!
//! What would surprise: chunks are not kept. Only where each begins is; to read one is to walk
//! the pinned history from there, which costs about as much as reading a file.

use std::ops::ControlFlow;

use bytes::Bytes;
use holm_base::{ByteCount, Revision};

use super::chunk::{self, End, Writer};
use super::{ChunkId, Pin};
use crate::error::StoreError;
use crate::layout::{count, narrow, wide};
use crate::store::FactKind;

/// About how much one slice of the work reads.
const SLICE: usize = 4 << 20;

/// Where a chunk begins.
#[derive(Clone, Debug, PartialEq, Eq)]
enum At {
    /// At this change, or the first one behind.
    Change(i64, u32),
    /// At this fact, or the first one behind.
    Fact(Vec<u8>),
    /// All was read.
    End,
}

/// A snapshot that is given to others.
#[derive(Debug)]
pub struct Export {
    pin: Pin,
    /// The length at which a chunk is full. One record may exceed it.
    goal: usize,
    ids: Vec<ChunkId>,
    starts: Vec<At>,
    next: At,
    bytes: u64,
}

impl Export {
    /// Of a pinned state, in chunks of about so many bytes.
    #[must_use]
    pub fn new(pin: Pin, chunk_bytes: u32) -> Self {
        Self {
            pin,
            goal: wide(chunk_bytes),
            ids: Vec::new(),
            starts: Vec::new(),
            next: At::Change(0, 0),
            bytes: 0,
        }
    }

    /// What it is of.
    #[must_use]
    pub const fn pin(&self) -> &Pin {
        &self.pin
    }

    /// The names of its chunks, in order; all of them once they are known.
    #[must_use]
    pub fn ids(&self) -> &[ChunkId] {
        &self.ids
    }

    /// How long its chunks are together.
    #[must_use]
    pub const fn bytes(&self) -> ByteCount {
        ByteCount::new(self.bytes)
    }

    /// Names some more chunks; whether all have their names.
    ///
    /// # Errors
    ///
    /// If a record could not be read.
    pub(crate) fn slice(&mut self) -> Result<bool, StoreError> {
        let mut read = 0;
        while read < SLICE && self.next != At::End {
            let (bytes, next) = self.fill(&self.next)?;
            read += bytes.len();
            self.bytes += count(bytes.len());
            self.ids.push(chunk::name(&bytes));
            self.starts.push(std::mem::replace(&mut self.next, next));
        }
        Ok(self.next == At::End)
    }

    /// A chunk's bytes.
    ///
    /// # Errors
    ///
    /// If a record could not be read.
    ///
    /// # Panics
    ///
    /// If there is no such chunk: who asks knows the names.
    pub(crate) fn read(&self, index: u32) -> Result<Bytes, StoreError> {
        let start = self.starts.get(wide(index));
        let start = start.expect("a chunk that has a name has a beginning");
        Ok(self.fill(start)?.0)
    }

    /// The chunk that begins there, and where the next one does.
    fn fill(&self, at: &At) -> Result<(Bytes, At), StoreError> {
        let mut chunk = Writer::new(self.goal);
        let next = match at {
            At::Change(main, sub) => self.changes((*main, *sub), &mut chunk)?,
            At::Fact(key) => self.facts(key, &mut chunk),
            At::End => At::End,
        };
        Ok((chunk.finish(), next))
    }

    fn changes(&self, start: (i64, u32), chunk: &mut Writer) -> Result<At, StoreError> {
        let root = &self.pin.root;
        let (mut from, mut next) = (Revision::new(start.0), None);
        while next.is_none() && from <= root.revision() {
            let upto = root.revision();
            from = root.changes_while(from, upto, (self.goal, usize::MAX), &mut |change| {
                let place = (change.main.value(), change.sub);
                if next.is_some() {
                    return ControlFlow::Break(());
                }
                if place < start {
                    return ControlFlow::Continue(());
                }
                if chunk.is_full() {
                    next = Some(place);
                    return ControlFlow::Break(());
                }
                chunk.change(&change);
                ControlFlow::Continue(())
            })?;
        }
        // Facts change more often than history does: they have chunks of their own.
        Ok(next.map_or(At::Fact(Vec::new()), |(main, sub)| At::Change(main, sub)))
    }

    fn facts(&self, start: &[u8], chunk: &mut Writer) -> At {
        let mut next = None;
        let _end = self.pin.facts.scan(start, &mut |key, fact| {
            // The sequencer's words travel apart: they are not this engine's to tell.
            if FactKind::Sequencer.owns(key) {
                return ControlFlow::Continue(());
            }
            if chunk.is_full() {
                next = Some(key.to_vec());
                return ControlFlow::Break(());
            }
            chunk.fact(key, &fact.0);
            ControlFlow::Continue(())
        });
        if let Some(key) = next {
            return At::Fact(key);
        }
        chunk.end(&End {
            revision: self.pin.root.revision,
            compacted: self.pin.root.compacted,
            applied: self.pin.applied.value(),
            term: self.pin.term.value(),
        });
        At::End
    }

    /// How many chunks have names.
    #[must_use]
    pub fn chunk_count(&self) -> u32 {
        narrow(self.ids.len())
    }
}
