//! The index on disk, so that a restart reads it and the frames behind it, nothing else.
//!
//! ```text
//! file <number>.ckp, little-endian
//! header, 4 KiB
//!  0 8 "HOLMKVC1"                48 8 frames before it    88 8 compacted
//!  8 2 version, 1; 10 2 0        56 8 chain               96 8 first history entry
//! 12 4 group                     64 8 op                 104 8 next history entry
//! 16 8 cluster                   72 8 term               .. 0
//! 24 8 checkpoint number         80 8 revision           4092 4 crc32c of 0..4092
//! 32 4 segment; 36 4 0
//! 40 8 offset
//! blocks, about 64 KiB each
//!  0 4 crc32c of 4..16 + bytes    8 4 block number, from 0
//!  4 4 bytes                     12 1 kind; 13 3 0        16 . entries, packed
//! last a block of kind 5: the number of entries of kinds 1 to 4, and the crc32c over all
//! blocks' checksums before it
//! ```
//!
//! | kind | entry, numbers packed to base 128, byte strings behind their length |
//! |--|--|
//! | 1 segment | number, kind, first main, first sub, first frame, file bytes, used bytes, marks: count, (main, offset) each |
//! | 2 history | a version, the revision that superseded it |
//! | 3 key | bytes shared with the key before in this block, the rest, a version |
//! | 4 fact | key, value |
//!
//! A version is: modified, create, version, lease, older, sub, segment, unit, record bytes.
//!
//! It is written from a pinned root in slices, under another name, each slice synced, and
//! renamed. What is not needed any more goes only then. The two newest are kept, with all that the
//! older one needs, so that damage to one file is never the end.

use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use holm_base::{ByteCount, ClusterId, GroupId};
use holm_machine::{Disk, DiskError, Folder};

use crate::error::StoreError;
use crate::head::{Owner, Position};
use crate::history::{History, Old, Place, Slot};
use crate::index::{Builder, Index, Value};
use crate::layout::{
    Bad, Unpacker, count, i64_at, narrow, pack_bytes, set_u32, set_u64, u32_at, u64_at, wide,
};
use crate::record::put_varint;
use crate::root::Root;
use crate::segment::{FORMAT, Mark, Segment, SegmentHead, SegmentKind};

const MAGIC: &[u8; 8] = b"HOLMKVC1";
const HEAD: u64 = 4096;
const BLOCK_HEAD: usize = 16;
const BLOCK_GOAL: usize = 64 << 10;
/// A block holds at least one entry, and an entry at most a key or a fact.
const BLOCK_MAX: usize = 64 << 20;
/// How much one slice of the work writes.
const SLICE: u64 = 4 << 20;

const SEGMENTS: u8 = 1;
const HISTORY: u8 = 2;
const KEYS: u8 = 3;
const FACTS: u8 = 4;
const END: u8 = 5;

/// A fact's value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fact(pub(crate) Bytes);

impl Value for Fact {
    fn is_live(&self) -> bool {
        true
    }
}

/// All of a store's state between two frames.
#[derive(Clone, Debug)]
pub(crate) struct Pinned {
    pub(crate) root: Root,
    pub(crate) facts: Index<Fact>,
    pub(crate) position: Position,
    /// An upper bound of what the file will take up.
    pub(crate) bytes_max: u64,
    /// The segments that were retired by then: those that it does not name.
    pub(crate) retired: Vec<u32>,
}

pub(crate) fn name(number: u64) -> String {
    format!("{number:010}.ckp")
}

pub(crate) fn new_name(number: u64) -> String {
    format!("{number:010}.ckp.new")
}

/// The number in a checkpoint's file name.
pub(crate) fn number_of(file: &str) -> Option<u64> {
    let number = file.strip_suffix(".ckp")?.parse().ok()?;
    (name(number) == file).then_some(number)
}

/// What one entry takes up at most, besides its key or value.
pub(crate) const ENTRY_MAX: u64 = 90;

/// The writing of one checkpoint, slice by slice.
#[derive(Debug)]
pub(crate) struct Checkpoint {
    pub(crate) folder: Arc<dyn Folder>,
    pub(crate) owner: Owner,
    pub(crate) number: u64,
    /// Let go at the end of the last slice, for that may free much.
    pub(crate) pinned: Option<Pinned>,
    /// The segments that were retired when its state was pinned.
    pub(crate) retired: Vec<u32>,
    pub(crate) stage: Stage,
}

/// How far the writing has come.
#[derive(Debug)]
pub(crate) enum Stage {
    Start,
    Writing(Writing),
    Done { bytes: u64 },
}

/// A checkpoint under way.
#[derive(Debug)]
pub(crate) struct Writing {
    disk: Box<dyn Disk>,
    at: u64,
    block: u32,
    digest: u32,
    entries: [u64; 4],
    next: Next,
    out: BytesMut,
}

#[derive(Debug)]
enum Next {
    Segments,
    History(u64),
    Keys(Vec<u8>),
    Facts(Vec<u8>),
    End,
}

impl Checkpoint {
    /// Does one slice of the work.
    ///
    /// # Errors
    ///
    /// [`DiskError::Full`] if there is no room for it: the temporary file is gone again.
    pub(crate) fn run(&mut self) -> Result<(), DiskError> {
        match std::mem::replace(&mut self.stage, Stage::Start) {
            Stage::Start => {
                if let Some(pinned) = &self.pinned {
                    self.stage = Stage::Writing(self.begin(pinned)?);
                }
            }
            Stage::Writing(mut writing) => {
                let goal = writing.at + SLICE;
                while writing.at < goal {
                    match &self.pinned {
                        Some(pinned) if !matches!(writing.next, Next::End) => {
                            writing.block(pinned)?;
                        }
                        Some(_) | None => {
                            self.stage = self.end(writing)?;
                            self.pinned = None;
                            return Ok(());
                        }
                    }
                }
                // All of it at the end would hold up whoever syncs meanwhile.
                writing.disk.sync()?;
                self.stage = Stage::Writing(writing);
            }
            done @ Stage::Done { .. } => self.stage = done,
        }
        Ok(())
    }

    fn begin(&self, pinned: &Pinned) -> Result<Writing, DiskError> {
        let temporary = new_name(self.number);
        remove_if_there(self.folder.as_ref(), &temporary)?;
        let bytes = ByteCount::new(pinned.bytes_max);
        let mut disk = self.folder.create(&temporary, bytes)?;
        disk.write(ByteCount::ZERO, &self.header(pinned))?;
        Ok(Writing {
            disk,
            at: HEAD,
            block: 0,
            digest: 0,
            entries: [0; 4],
            next: Next::Segments,
            out: BytesMut::new(),
        })
    }

    fn header(&self, pinned: &Pinned) -> Vec<u8> {
        let (position, root) = (&pinned.position, &pinned.root);
        let mut bytes = vec![0; 4096];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..10].copy_from_slice(&FORMAT.to_le_bytes());
        set_u32(&mut bytes, 12, self.owner.group.value());
        set_u64(&mut bytes, 16, self.owner.cluster.value());
        set_u64(&mut bytes, 24, self.number);
        set_u32(&mut bytes, 32, position.segment);
        set_u64(&mut bytes, 40, position.end);
        set_u64(&mut bytes, 48, position.frame);
        set_u64(&mut bytes, 56, position.chain);
        set_u64(&mut bytes, 64, position.op);
        set_u64(&mut bytes, 72, position.term);
        set_u64(&mut bytes, 80, position.revision.cast_unsigned());
        set_u64(&mut bytes, 88, root.compacted.cast_unsigned());
        set_u64(&mut bytes, 96, root.history.base());
        set_u64(&mut bytes, 104, root.history.next());
        let checksum = crc32c::crc32c(&bytes[..4092]);
        set_u32(&mut bytes, 4092, checksum);
        bytes
    }

    /// Makes the file durable under its name.
    fn end(&self, mut writing: Writing) -> Result<Stage, DiskError> {
        writing.end_block()?;
        writing.disk.set_len(ByteCount::new(writing.at))?;
        writing.disk.sync()?;
        self.folder
            .rename(&new_name(self.number), &name(self.number))?;
        self.folder.sync()?;
        Ok(Stage::Done { bytes: writing.at })
    }
}

/// Removes a file that may be gone already.
pub(crate) fn remove_if_there(folder: &dyn Folder, name: &str) -> Result<(), DiskError> {
    match folder.remove(name) {
        Ok(()) | Err(DiskError::NotFound { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

impl Writing {
    /// Fills and writes one block of what comes next.
    fn block(&mut self, pinned: &Pinned) -> Result<(), DiskError> {
        self.out.clear();
        self.out.resize(BLOCK_HEAD, 0);
        match std::mem::replace(&mut self.next, Next::End) {
            Next::Segments => {
                for segment in pinned.root.table.in_order() {
                    pack_segment(&mut self.out, segment);
                    self.entries[0] += 1;
                }
                self.next = Next::History(pinned.root.history.base());
                self.write(SEGMENTS)
            }
            Next::History(number) => {
                let next = self.pack_history(&pinned.root.history, number);
                self.next = next;
                self.write(HISTORY)
            }
            Next::Keys(from) => {
                let mut previous = Vec::new();
                let next = self.pack(&pinned.root.index, from, |out, key, slot| {
                    pack_key(out, &previous, key);
                    pack_slot(out, slot);
                    key.clone_into(&mut previous);
                });
                self.entries[2] += next.0;
                self.next = next.1.map_or(Next::Facts(Vec::new()), Next::Keys);
                self.write(KEYS)
            }
            Next::Facts(from) => {
                let next = self.pack(&pinned.facts, from, |out, key, fact: &Fact| {
                    pack_bytes(out, key);
                    pack_bytes(out, &fact.0);
                });
                self.entries[3] += next.0;
                self.next = next.1.map_or(Next::End, Next::Facts);
                self.write(FACTS)
            }
            Next::End => Ok(()),
        }
    }

    fn pack_history(&mut self, history: &History, mut number: u64) -> Next {
        while let Some(old) = history.get(number) {
            if self.out.len() >= BLOCK_GOAL {
                return Next::History(number);
            }
            pack_slot(&mut self.out, &old.slot);
            put_varint(&mut self.out, old.superseded.cast_unsigned());
            self.entries[1] += 1;
            number += 1;
        }
        Next::Keys(Vec::new())
    }

    /// Packs entries from `from` on until the block is full. Gives how many there were, and
    /// where to go on unless that was all.
    fn pack<V: Value>(
        &mut self,
        index: &Index<V>,
        from: Vec<u8>,
        mut pack: impl FnMut(&mut BytesMut, &[u8], &V),
    ) -> (u64, Option<Vec<u8>>) {
        let (mut entries, mut next) = (0, None);
        let out = &mut self.out;
        let _end = index.scan(&from, &mut |key, value| {
            if out.len() >= BLOCK_GOAL {
                next = Some(key.to_vec());
                return ControlFlow::Break(());
            }
            pack(out, key, value);
            entries += 1;
            ControlFlow::Continue(())
        });
        (entries, next)
    }

    fn end_block(&mut self) -> Result<(), DiskError> {
        self.out.clear();
        self.out.resize(BLOCK_HEAD, 0);
        for entries in self.entries {
            put_varint(&mut self.out, entries);
        }
        put_varint(&mut self.out, u64::from(self.digest));
        self.write(END)
    }

    fn write(&mut self, kind: u8) -> Result<(), DiskError> {
        let len = self.out.len() - BLOCK_HEAD;
        if len == 0 {
            return Ok(());
        }
        set_u32(&mut self.out, 4, narrow(len));
        set_u32(&mut self.out, 8, self.block);
        self.out[12] = kind;
        let checksum = crc32c::crc32c(&self.out[4..]);
        set_u32(&mut self.out, 0, checksum);
        self.digest = crc32c::crc32c_append(self.digest, &checksum.to_le_bytes());
        self.block += 1;
        self.disk.write(ByteCount::new(self.at), &self.out)?;
        self.at += count(self.out.len());
        Ok(())
    }
}

fn pack_segment(out: &mut BytesMut, segment: &Segment) {
    let kind = match segment.kind {
        SegmentKind::Tail => 1,
        SegmentKind::Cleaned => 2,
    };
    let marks = segment.marks();
    let fixed = [
        u64::from(segment.number),
        kind,
        segment.first.0.cast_unsigned(),
        u64::from(segment.first.1),
        segment.first_frame,
        segment.bytes,
        segment.written(),
        count(marks.len()),
    ];
    for value in fixed {
        put_varint(out, value);
    }
    for mark in marks {
        put_varint(out, mark.main.cast_unsigned());
        put_varint(out, mark.at);
    }
}

fn pack_key(out: &mut BytesMut, previous: &[u8], key: &[u8]) {
    let shared = previous.iter().zip(key).take_while(|it| it.0 == it.1);
    let shared = shared.count();
    put_varint(out, count(shared));
    pack_bytes(out, &key[shared..]);
}

fn pack_slot(out: &mut BytesMut, slot: &Slot) {
    let values = [
        slot.modified.cast_unsigned(),
        slot.create.cast_unsigned(),
        slot.version.cast_unsigned(),
        slot.lease.cast_unsigned(),
        slot.older,
        u64::from(slot.sub),
        u64::from(slot.place.segment),
        u64::from(slot.place.unit),
        u64::from(slot.bytes),
    ];
    for value in values {
        put_varint(out, value);
    }
}

fn unpack_slot(from: &mut Unpacker<'_>) -> Result<Slot, Bad> {
    Ok(Slot {
        modified: from.i64()?,
        create: from.i64()?,
        version: from.i64()?,
        lease: from.i64()?,
        older: from.u64()?,
        sub: from.u32()?,
        place: Place {
            segment: from.u32()?,
            unit: from.u32()?,
        },
        bytes: from.u32()?,
    })
}

/// What a checkpoint held.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) number: u64,
    pub(crate) position: Position,
    pub(crate) compacted: i64,
    pub(crate) segments: Vec<Arc<Segment>>,
    pub(crate) history: History,
    pub(crate) index: Index<Slot>,
    pub(crate) facts: Index<Fact>,
    /// The sum of all keys' lengths.
    pub(crate) key_bytes: u64,
    pub(crate) bytes: u64,
}

/// Reads a checkpoint's header and table of segments only.
pub(crate) fn outline(
    folder: &dyn Folder,
    number: u64,
    owner: Owner,
) -> Result<(Position, u64, Vec<Arc<Segment>>), StoreError> {
    let mut reader = Reader::open(folder, number)?;
    let (loaded, _next) = reader.header(owner)?;
    let mut loading = Loading::new(loaded);
    if let Some(block) = reader.block()?
        && block.kind == SEGMENTS
    {
        loading
            .segments(&block.bytes, owner)
            .map_err(|bad| reader.bad(bad))?;
    }
    Ok((loading.loaded.position, reader.len, loading.loaded.segments))
}

/// Reads a checkpoint whole and checks every byte of it.
///
/// # Errors
///
/// [`StoreError::Damaged`], [`StoreError::Foreign`] or [`StoreError::Newer`]; nothing of it
/// can be used then.
pub(crate) fn load(folder: &dyn Folder, number: u64, owner: Owner) -> Result<Loaded, StoreError> {
    let mut reader = Reader::open(folder, number)?;
    let (loaded, next) = reader.header(owner)?;
    let mut loading = Loading::new(loaded);
    loop {
        let before = reader.digest;
        let Some(block) = reader.block()? else {
            return Err(reader.bad(Bad("the file ends early")));
        };
        if block.kind == END {
            loading
                .end(&block.bytes, before, next)
                .map_err(|bad| reader.bad(bad))?;
            if reader.at != reader.len {
                return Err(reader.bad(Bad("bytes follow the end")));
            }
            loading.loaded.bytes = reader.at;
            let index = std::mem::replace(&mut loading.keys, Builder::new());
            loading.loaded.index = index.finish();
            return Ok(loading.loaded);
        }
        loading
            .block(&block, owner)
            .map_err(|bad| reader.bad(bad))?;
    }
}

struct Reader {
    name: String,
    disk: Box<dyn Disk>,
    at: u64,
    len: u64,
    block: u32,
    digest: u32,
}

struct Block {
    kind: u8,
    bytes: Vec<u8>,
}

impl Reader {
    fn open(folder: &dyn Folder, number: u64) -> Result<Self, StoreError> {
        let name = name(number);
        let failed = |source| StoreError::Disk {
            attempted: format!("open {name}"),
            source,
        };
        let disk = folder.open_read_only(&name).map_err(failed)?;
        let len = disk.len().map_err(failed)?.value();
        Ok(Self {
            name,
            disk,
            at: 0,
            len,
            block: 0,
            digest: 0,
        })
    }

    fn read(&mut self, len: usize) -> Result<Vec<u8>, StoreError> {
        let end = self.at.checked_add(count(len));
        if end.is_none_or(|end| end > self.len) {
            return Err(self.bad(Bad("the file ends early")));
        }
        let mut bytes = vec![0; len];
        let read = self.disk.read(ByteCount::new(self.at), &mut bytes);
        read.map_err(|source| StoreError::Disk {
            attempted: format!("read {} at {}", self.name, self.at),
            source,
        })?;
        self.at += count(len);
        Ok(bytes)
    }

    fn header(&mut self, owner: Owner) -> Result<(Loaded, u64), StoreError> {
        let bytes = self.read(4096)?;
        if &bytes[..8] != MAGIC || crc32c::crc32c(&bytes[..4092]) != u32_at(&bytes, 4092) {
            self.at = 0;
            return Err(self.bad(Bad("the header is not whole")));
        }
        let found = u16::from_le_bytes([bytes[8], bytes[9]]);
        if found != FORMAT {
            let reads = FORMAT;
            return Err(StoreError::Newer { found, reads });
        }
        let found = Owner {
            cluster: ClusterId::new(u64_at(&bytes, 16)),
            group: GroupId::new(u32_at(&bytes, 12)),
        };
        if found != owner {
            let Owner { cluster, group } = found;
            return Err(StoreError::Foreign {
                file: self.name.clone(),
                found: format!("it is of cluster {cluster}, group {group}"),
            });
        }
        let position = Position {
            segment: u32_at(&bytes, 32),
            end: u64_at(&bytes, 40),
            frame: u64_at(&bytes, 48),
            chain: u64_at(&bytes, 56),
            op: u64_at(&bytes, 64),
            term: u64_at(&bytes, 72),
            revision: i64_at(&bytes, 80),
        };
        let base = u64_at(&bytes, 96);
        if base == 0 {
            return Err(self.bad(Bad("history begins at entry 0")));
        }
        let loaded = Loaded {
            number: u64_at(&bytes, 24),
            position,
            compacted: i64_at(&bytes, 88),
            segments: Vec::new(),
            history: History::starting_at(base),
            index: Index::new(),
            facts: Index::new(),
            key_bytes: 0,
            bytes: 0,
        };
        Ok((loaded, u64_at(&bytes, 104)))
    }

    fn block(&mut self) -> Result<Option<Block>, StoreError> {
        if self.at == self.len {
            return Ok(None);
        }
        let start = self.at;
        let mut head = self.read(BLOCK_HEAD)?;
        let len = wide(u32_at(&head, 4));
        let kind = head[12];
        if len > BLOCK_MAX || u32_at(&head, 8) != self.block {
            self.at = start;
            return Err(self.bad(Bad("a block's header is wrong")));
        }
        let bytes = self.read(len)?;
        let checksum = crc32c::crc32c_append(crc32c::crc32c(&head[4..]), &bytes);
        if checksum != u32_at(&head, 0) {
            self.at = start;
            return Err(self.bad(Bad("a block's checksum is wrong")));
        }
        head.clear();
        self.block += 1;
        self.digest = crc32c::crc32c_append(self.digest, &checksum.to_le_bytes());
        Ok(Some(Block { kind, bytes }))
    }

    fn bad(&self, bad: Bad) -> StoreError {
        StoreError::Damaged {
            file: self.name.clone(),
            at: ByteCount::new(self.at),
            found: bad.0.to_owned(),
        }
    }
}

struct Loading {
    loaded: Loaded,
    keys: Builder<Slot>,
    last_key: Vec<u8>,
    entries: [u64; 4],
}

impl Loading {
    fn new(loaded: Loaded) -> Self {
        Self {
            loaded,
            keys: Builder::new(),
            last_key: Vec::new(),
            entries: [0; 4],
        }
    }

    fn block(&mut self, block: &Block, owner: Owner) -> Result<(), Bad> {
        let mut from = Unpacker::new(&block.bytes);
        match block.kind {
            SEGMENTS => return self.segments(&block.bytes, owner),
            HISTORY => {
                while !from.is_empty() {
                    let slot = unpack_slot(&mut from)?;
                    self.loaded.history.push(slot, from.i64()?);
                    self.entries[1] += 1;
                }
            }
            KEYS => self.keys(&mut from)?,
            FACTS => {
                while !from.is_empty() {
                    let key = from.bytes()?;
                    let value = Bytes::copy_from_slice(from.bytes()?);
                    self.loaded.facts.insert(key, Fact(value));
                    self.entries[3] += 1;
                }
            }
            _ => return Err(Bad("a block has an unknown kind")),
        }
        Ok(())
    }

    fn segments(&mut self, bytes: &[u8], owner: Owner) -> Result<(), Bad> {
        let mut from = Unpacker::new(bytes);
        while !from.is_empty() {
            let number = from.u32()?;
            let kind = match from.u64()? {
                1 => SegmentKind::Tail,
                2 => SegmentKind::Cleaned,
                _ => return Err(Bad("a segment has an unknown kind")),
            };
            let head = SegmentHead {
                cluster: owner.cluster,
                group: owner.group,
                kind,
                number,
                first: (from.i64()?, from.u32()?),
                first_frame: from.u64()?,
            };
            let segment = Segment::new(&head, from.u64()?);
            segment.set_written(from.u64()?);
            for _ in 0..from.u64()? {
                let (main, at) = (from.i64()?, from.u64()?);
                segment.restore(Mark { main, at });
            }
            self.loaded.segments.push(Arc::new(segment));
            self.entries[0] += 1;
        }
        Ok(())
    }

    fn keys(&mut self, from: &mut Unpacker<'_>) -> Result<(), Bad> {
        let mut key: Vec<u8> = Vec::new();
        while !from.is_empty() {
            let shared = wide(from.u32()?);
            if shared > key.len() {
                return Err(Bad("a key shares more than there is"));
            }
            key.truncate(shared);
            key.extend_from_slice(from.bytes()?);
            if self.entries[2] > 0 && key <= self.last_key {
                return Err(Bad("keys are out of order"));
            }
            self.keys.push(&key, unpack_slot(from)?);
            self.last_key.clone_from(&key);
            self.loaded.key_bytes += count(key.len());
            self.entries[2] += 1;
        }
        Ok(())
    }

    fn end(&self, bytes: &[u8], digest: u32, next: u64) -> Result<(), Bad> {
        let mut from = Unpacker::new(bytes);
        for entries in self.entries {
            if from.u64()? != entries {
                return Err(Bad("entries are missing"));
            }
        }
        if from.u32()? != digest || self.loaded.history.next() != next {
            return Err(Bad("blocks are missing"));
        }
        Ok(())
    }
}

/// Visits every version of an index and its history.
pub(crate) fn versions(root: &Root, each: &mut dyn FnMut(&Slot)) {
    let _end = root.index.scan(b"", &mut |_, slot| {
        each(slot);
        ControlFlow::Continue(())
    });
    let mut number = root.history.base();
    while let Some(Old { slot, .. }) = root.history.get(number) {
        each(slot);
        number += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checksums keep nearly all bad bytes from here; what passes them must not panic either.
    #[test]
    fn arbitrary_blocks_are_refused_or_read_but_never_panic() {
        let owner = Owner {
            cluster: ClusterId::ZERO,
            group: GroupId::ZERO,
        };
        arbtest::arbtest(|input| {
            let mut loading = Loading::new(Loaded {
                number: 1,
                position: Position::START,
                compacted: 0,
                segments: Vec::new(),
                history: History::starting_at(1),
                index: Index::new(),
                facts: Index::new(),
                key_bytes: 0,
                bytes: 0,
            });
            for _ in 0..input.int_in_range(1..=4)? {
                let block = Block {
                    kind: input.int_in_range(0..=6)?,
                    bytes: input.arbitrary()?,
                };
                if loading.block(&block, owner).is_err() {
                    return Ok(());
                }
            }
            let bytes: &[u8] = input.arbitrary()?;
            if loading.end(bytes, 0, 1).is_ok() {
                assert_eq!(loading.loaded.history.next(), 1);
            }
            Ok(())
        })
        .budget_ms(500);
    }
}
