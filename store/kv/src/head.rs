//! The file `head`: up to where the frames are durable, in two slots written in turn.
//!
//! ```text
//! slot, 4 KiB, little-endian; generation g lies in slot g mod 2
//!  0 8 "HOLMKVH1"                48 8 frames that are durable
//!  8 2 version, 1; 10 2 0        56 8 chain of the last of them
//! 12 4 group                     64 8 op that they complete
//! 16 8 cluster                   72 8 its term
//! 24 8 generation                80 8 revision after it
//! 32 4 segment that they end in  .. 0
//! 36 4 0                         4092 4 crc32c of 0..4092
//! 40 8 offset that they end at
//! ```
//!
//! The other slot is what counts if a crash tears one. Bytes of frames below the newer
//! slot's mark are never cut off: there, anything bad is damage (I7).

use holm_base::{ByteCount, ClusterId, GroupId};
use holm_machine::{Disk, DiskError, Folder};

use crate::error::StoreError;
use crate::layout::{i64_at, set_u32, set_u64, u32_at, u64_at};
use crate::segment::{FORMAT, SEGMENT_HEAD};

pub(crate) const NAME: &str = "head";
pub(crate) const NEW_NAME: &str = "head.new";

const MAGIC: &[u8; 8] = b"HOLMKVH1";
const SLOT: usize = 4096;

/// A point between two frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Position {
    /// The segment of the frame before.
    pub(crate) segment: u32,
    /// Where that frame ends.
    pub(crate) end: u64,
    /// How many frames lie before; the next one's number.
    pub(crate) frame: u64,
    /// The chain of the frame before.
    pub(crate) chain: u64,
    /// The op that is complete here.
    pub(crate) op: u64,
    /// Its term.
    pub(crate) term: u64,
    /// The revision here.
    pub(crate) revision: i64,
}

impl Position {
    /// Before the first frame of a fresh store.
    pub(crate) const START: Self = Self {
        segment: 1,
        end: SEGMENT_HEAD,
        frame: 0,
        chain: 0,
        op: 0,
        term: 0,
        revision: 1,
    };
}

/// Whose files these are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) cluster: ClusterId,
    pub(crate) group: GroupId,
}

/// The open file.
#[derive(Debug)]
pub(crate) struct HeadFile {
    disk: Box<dyn Disk>,
    owner: Owner,
    generation: u64,
}

enum Slot {
    Good(u64, Owner, Position),
    Newer(u16),
    Bad,
    /// Neither the letters nor the checksum are right.
    Foreign,
}

impl HeadFile {
    /// Makes the file of a fresh store, durably.
    pub(crate) fn create(folder: &dyn Folder, owner: Owner) -> Result<Self, DiskError> {
        match folder.remove(NEW_NAME) {
            Ok(()) | Err(DiskError::NotFound { .. }) => {}
            Err(error) => return Err(error),
        }
        let disk = folder.create(NEW_NAME, ByteCount::new(8192))?;
        let generation = 0;
        let mut head = Self {
            disk,
            owner,
            generation,
        };
        head.save(&Position::START)?;
        folder.rename(NEW_NAME, NAME)?;
        folder.sync()?;
        Ok(head)
    }

    /// Opens the file and finds the newer of its slots that are whole.
    pub(crate) fn open(folder: &dyn Folder, owner: Owner) -> Result<(Self, Position), StoreError> {
        let failed = |source| StoreError::Disk {
            attempted: format!("read {NAME}"),
            source,
        };
        let disk = folder.open(NAME).map_err(failed)?;
        let mut bytes = vec![0; 2 * SLOT];
        match disk.read(ByteCount::ZERO, &mut bytes) {
            Ok(()) => {}
            Err(DiskError::Short { .. }) => return Err(foreign("it is too short")),
            Err(source) => return Err(failed(source)),
        }
        let mut newest = None;
        let mut foreign_slots = 0;
        for slot in [decode(&bytes[..SLOT]), decode(&bytes[SLOT..])] {
            match slot {
                Slot::Good(generation, found, position) => {
                    if newest.is_none_or(|(other, _, _)| other < generation) {
                        newest = Some((generation, found, position));
                    }
                }
                Slot::Newer(found) => {
                    let reads = FORMAT;
                    return Err(StoreError::Newer { found, reads });
                }
                Slot::Bad => {}
                Slot::Foreign => foreign_slots += 1,
            }
        }
        let Some((generation, found, position)) = newest else {
            if foreign_slots == 2 {
                return Err(foreign("it is not a kv store's"));
            }
            return Err(StoreError::Damaged {
                file: NAME.to_owned(),
                at: ByteCount::ZERO,
                found: "neither slot is whole".to_owned(),
            });
        };
        if found != owner {
            let Owner { cluster, group } = found;
            return Err(foreign(&format!(
                "it is of cluster {cluster}, group {group}"
            )));
        }
        let head = Self {
            disk,
            owner,
            generation,
        };
        Ok((head, position))
    }

    /// Writes the mark into the older slot and syncs.
    pub(crate) fn save(&mut self, position: &Position) -> Result<(), DiskError> {
        self.generation += 1;
        let bytes = encode(self.generation, self.owner, position);
        let at = if self.generation.is_multiple_of(2) {
            0
        } else {
            SLOT
        };
        let at = ByteCount::new(crate::layout::count(at));
        self.disk.write(at, &bytes)?;
        self.disk.sync()
    }
}

fn foreign(found: &str) -> StoreError {
    StoreError::Foreign {
        file: NAME.to_owned(),
        found: found.to_owned(),
    }
}

fn encode(generation: u64, owner: Owner, position: &Position) -> Vec<u8> {
    let mut bytes = vec![0; SLOT];
    bytes[..8].copy_from_slice(MAGIC);
    bytes[8..10].copy_from_slice(&FORMAT.to_le_bytes());
    set_u32(&mut bytes, 12, owner.group.value());
    set_u64(&mut bytes, 16, owner.cluster.value());
    set_u64(&mut bytes, 24, generation);
    set_u32(&mut bytes, 32, position.segment);
    set_u64(&mut bytes, 40, position.end);
    set_u64(&mut bytes, 48, position.frame);
    set_u64(&mut bytes, 56, position.chain);
    set_u64(&mut bytes, 64, position.op);
    set_u64(&mut bytes, 72, position.term);
    set_u64(&mut bytes, 80, position.revision.cast_unsigned());
    let checksum = crc32c::crc32c(&bytes[..4092]);
    set_u32(&mut bytes, 4092, checksum);
    bytes
}

fn decode(bytes: &[u8]) -> Slot {
    let letters = &bytes[..8] == MAGIC;
    if crc32c::crc32c(&bytes[..4092]) != u32_at(bytes, 4092) {
        let empty = bytes.iter().all(|byte| *byte == 0);
        return if letters || empty {
            Slot::Bad
        } else {
            Slot::Foreign
        };
    }
    if !letters {
        return Slot::Foreign;
    }
    let version = u16::from_le_bytes([bytes[8], bytes[9]]);
    if version != FORMAT {
        return Slot::Newer(version);
    }
    let owner = Owner {
        cluster: ClusterId::new(u64_at(bytes, 16)),
        group: GroupId::new(u32_at(bytes, 12)),
    };
    let position = Position {
        segment: u32_at(bytes, 32),
        end: u64_at(bytes, 40),
        frame: u64_at(bytes, 48),
        chain: u64_at(bytes, 56),
        op: u64_at(bytes, 64),
        term: u64_at(bytes, 72),
        revision: i64_at(bytes, 80),
    };
    Slot::Good(u64_at(bytes, 24), owner, position)
}
