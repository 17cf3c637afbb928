//! Where an engine and what comes to replace it lie within a node's folder.
//!
//! ```text
//! kv/<group>          the engine, until a snapshot replaced it the first time
//! kv/<group>.other    the engine, every other time; else what is being built
//! kv/<group>.engine   which of the two is the engine; without it the first is
//! kv/<group>.building something is, or was, built in the other
//! kv/<group>.built    as .engine: that it is complete. Counts once the log says `Installed`
//! kv/<group>.chunks   chunks that were received, by name
//!
//! .engine and .built, little-endian
//!  0 8 "HOLMKVE1"     12 4 1: the other folder, 0: the first    32 4 crc32c of 0..32
//!  8 2 version, 1     16 8 op
//! 10 2 0              24 8 its term
//! ```
//!
//! A swap is one renaming, of `.built` to `.engine`. Until then the old engine counts, from then
//! on the new one; what is left of the other is removed later, or when the node starts.
//!
//! What would surprise: chunks are not synced. Whoever reads one checks its name, so after a
//! crash what is torn is fetched again, and nothing else is.

use std::sync::Arc;

use bytes::Bytes;
use holm_base::{ByteCount, GroupId, Op, Term};
use holm_machine::{DiskError, Folder};

use super::ChunkId;
use super::chunk;
use crate::checkpoint::remove_if_there;
use crate::error::StoreError;
use crate::layout::{count, set_u32, set_u64, u32_at, u64_at};

const MAGIC: &[u8; 8] = b"HOLMKVE1";
const VERSION: u16 = 1;
const LEN: usize = 36;

/// How many chunks are looked at in one slice.
const SURVEY_SLICE: usize = 8;

/// One of the two folders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seat {
    First,
    Other,
}

impl Seat {
    const fn swapped(self) -> Self {
        match self {
            Self::First => Self::Other,
            Self::Other => Self::First,
        }
    }
}

/// Where the engine of one group and what comes to replace it lie.
#[derive(Clone, Debug)]
pub struct Places {
    parent: Arc<dyn Folder>,
    group: String,
    seat: Seat,
}

impl Places {
    /// Finds the engine of a group. `installed` is the snapshot that the log says the state comes
    /// from, by op and term: if a store of just that was built, it becomes the engine. What else
    /// an earlier run has left is removed, but for chunks: their transfer goes on.
    ///
    /// # Errors
    ///
    /// If the disk fails, or what says where the engine lies is damaged.
    pub fn open(
        parent: Arc<dyn Folder>,
        group: GroupId,
        installed: Option<(Op, Term)>,
    ) -> Result<Self, StoreError> {
        let group = group.to_string();
        let mut places = Self {
            parent,
            group,
            seat: Seat::First,
        };
        let files = places.parent.list().map_err(failed("list its folders"))?;
        let is_there = |what: &str| files.contains(&places.file(what));
        let (has_engine, has_built) = (is_there("engine"), is_there("built"));
        let has_leftovers = is_there("building") || has_built || has_engine;
        if has_engine {
            let (seat, ..) = places.read("engine")?;
            places.seat = seat;
        }
        if has_built {
            let (seat, op, term) = places.read("built")?;
            if installed == Some((op, term)) && seat != places.seat {
                places = places.place()?;
            }
        }
        if has_leftovers {
            places.empty_spare()?;
        }
        Ok(places)
    }

    fn file(&self, what: &str) -> String {
        format!("{}.{what}", self.group)
    }

    fn folder(&self, seat: Seat) -> Result<Arc<dyn Folder>, StoreError> {
        let folder = match seat {
            Seat::First => self.parent.folder(&self.group),
            Seat::Other => self.parent.folder(&self.file("other")),
        };
        folder.map_err(failed("open an engine's folder"))
    }

    /// The engine's folder.
    ///
    /// # Errors
    ///
    /// If it cannot be reached or made.
    pub fn engine(&self) -> Result<Arc<dyn Folder>, StoreError> {
        self.folder(self.seat)
    }

    fn shelf(&self) -> Result<Arc<dyn Folder>, StoreError> {
        let folder = self.parent.folder(&self.file("chunks"));
        folder.map_err(failed("open the folder of chunks"))
    }

    fn read(&self, what: &str) -> Result<(Seat, Op, Term), StoreError> {
        let name = self.file(what);
        let damaged = |found: &str| StoreError::Damaged {
            file: name.clone(),
            at: ByteCount::ZERO,
            found: found.to_owned(),
        };
        let disk = self.parent.open_read_only(&name);
        let disk = disk.map_err(failed("open what says where the engine lies"))?;
        let mut bytes = [0; LEN];
        match disk.read(ByteCount::ZERO, &mut bytes) {
            Ok(()) => {}
            Err(DiskError::Short { .. }) => return Err(damaged("it is too short")),
            Err(error) => return Err(failed("read what says where the engine lies")(error)),
        }
        if &bytes[..8] != MAGIC || crc32c::crc32c(&bytes[..32]) != u32_at(&bytes, 32) {
            return Err(damaged("its checksum is wrong"));
        }
        let version = u16::from_le_bytes([bytes[8], bytes[9]]);
        if version != VERSION {
            return Err(StoreError::Newer {
                found: version,
                reads: VERSION,
            });
        }
        let seat = match u32_at(&bytes, 12) {
            0 => Seat::First,
            _ => Seat::Other,
        };
        Ok((
            seat,
            Op::new(u64_at(&bytes, 16)),
            Term::new(u64_at(&bytes, 24)),
        ))
    }

    /// Says that a store is complete in the spare folder, durably.
    pub(super) fn mark_built(&self, (op, term): (Op, Term)) -> Result<(), StoreError> {
        let mut bytes = [0; LEN];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..10].copy_from_slice(&VERSION.to_le_bytes());
        let is_other = self.seat.swapped() == Seat::Other;
        set_u32(&mut bytes, 12, u32::from(is_other));
        set_u64(&mut bytes, 16, op.value());
        set_u64(&mut bytes, 24, term.value());
        let checksum = crc32c::crc32c(&bytes[..32]);
        set_u32(&mut bytes, 32, checksum);
        self.write_built(&bytes)
            .map_err(failed("say that a snapshot is complete"))
    }

    fn write_built(&self, bytes: &[u8]) -> Result<(), DiskError> {
        let name = self.file("built.new");
        remove_if_there(&*self.parent, &name)?;
        let mut disk = self.parent.create(&name, ByteCount::new(count(LEN)))?;
        disk.write(ByteCount::ZERO, bytes)?;
        disk.sync()?;
        self.parent.rename(&name, &self.file("built"))?;
        self.parent.sync()
    }

    /// Empties the spare folder for a store to be built in it.
    pub(super) fn begin_spare(&self) -> Result<Arc<dyn Folder>, StoreError> {
        self.empty_spare()?;
        self.mark_begun().map_err(failed("begin to build"))?;
        self.folder(self.seat.swapped())
    }

    fn mark_begun(&self) -> Result<(), DiskError> {
        self.parent
            .create(&self.file("building"), ByteCount::new(1))?;
        self.parent.sync()
    }

    /// Removes all that is in the spare folder, and what said that there is something.
    fn empty_spare(&self) -> Result<(), StoreError> {
        let attempted = "remove what a snapshot left";
        for what in ["built", "built.new"] {
            remove_if_there(&*self.parent, &self.file(what)).map_err(failed(attempted))?;
        }
        // First it counts no more, then it goes.
        self.parent.sync().map_err(failed(attempted))?;
        let spare = self.folder(self.seat.swapped())?;
        empty(&*spare).map_err(failed(attempted))?;
        let building = self.file("building");
        remove_if_there(&*self.parent, &building).map_err(failed(attempted))?;
        self.parent.sync().map_err(failed(attempted))
    }

    /// Makes the store that was built the engine, durably. The old one's files stay.
    ///
    /// # Errors
    ///
    /// If the disk fails.
    pub(super) fn place(&self) -> Result<Self, StoreError> {
        let (built, engine) = (self.file("built"), self.file("engine"));
        let renamed = self.parent.rename(&built, &engine);
        let renamed = renamed.and_then(|()| self.parent.sync());
        renamed.map_err(failed("put a snapshot in the engine's place"))?;
        Ok(Self {
            seat: self.seat.swapped(),
            ..self.clone()
        })
    }

    /// Removes the files of what is not the engine, and all chunks.
    pub(super) fn tidy(&self) -> Result<(), StoreError> {
        self.empty_spare()?;
        let shelf = self.shelf()?;
        empty(&*shelf).map_err(failed("remove chunks"))
    }

    /// Keeps a chunk, unless its bytes have another name.
    pub(super) fn keep(&self, id: &ChunkId, bytes: &Bytes) -> Result<bool, StoreError> {
        if chunk::name(bytes) != *id {
            return Ok(false);
        }
        let shelf = self.shelf()?;
        let (name, part) = (hex(id), format!("{}.new", hex(id)));
        let kept = remove_if_there(&*shelf, &part).and_then(|()| {
            let mut disk = shelf.create(&part, ByteCount::new(count(bytes.len())))?;
            disk.write(ByteCount::ZERO, bytes)?;
            shelf.rename(&part, &name)
        });
        kept.map_err(failed("keep a chunk of a snapshot"))?;
        Ok(true)
    }

    /// A chunk that was kept; one whose bytes have another name is removed.
    pub(super) fn chunk(&self, id: &ChunkId) -> Result<Option<Bytes>, StoreError> {
        let shelf = self.shelf()?;
        let found = read_file(&*shelf, &hex(id)).map_err(failed("read a chunk"))?;
        match found {
            Some(bytes) if chunk::name(&bytes) == *id => Ok(Some(bytes)),
            Some(_) => {
                remove_if_there(&*shelf, &hex(id)).map_err(failed("remove a damaged chunk"))?;
                Ok(None)
            }
            None => Ok(None),
        }
    }
}

fn failed(attempted: &'static str) -> impl Fn(DiskError) -> StoreError {
    move |source| StoreError::Disk {
        attempted: attempted.to_owned(),
        source,
    }
}

fn empty(folder: &dyn Folder) -> Result<(), DiskError> {
    for name in folder.list()? {
        remove_if_there(folder, &name)?;
    }
    folder.sync()
}

fn read_file(folder: &dyn Folder, name: &str) -> Result<Option<Bytes>, DiskError> {
    let disk = match folder.open_read_only(name) {
        Ok(disk) => disk,
        Err(DiskError::NotFound { .. }) => return Ok(None),
        Err(error) => return Err(error),
    };
    let len = usize::try_from(disk.len()?.value()).unwrap_or(usize::MAX);
    // Longer than any message is: none of ours.
    if len > 64 << 20 {
        return Ok(Some(Bytes::new()));
    }
    let mut bytes = vec![0; len];
    disk.read(ByteCount::ZERO, &mut bytes)?;
    Ok(Some(bytes.into()))
}

fn hex(id: &ChunkId) -> String {
    use std::fmt::Write;
    let mut name = String::with_capacity(64);
    for byte in id {
        write!(name, "{byte:02x}").expect("a string takes what is written");
    }
    name
}

/// Looks which chunks of a snapshot are here, and removes those of others.
#[derive(Debug)]
pub struct Survey {
    places: Places,
    ids: Arc<[ChunkId]>,
    next: usize,
    missing: Vec<u32>,
}

impl Survey {
    /// For chunks of these names.
    #[must_use]
    pub const fn new(places: Places, ids: Arc<[ChunkId]>) -> Self {
        Self {
            places,
            ids,
            next: 0,
            missing: Vec::new(),
        }
    }

    /// The indexes of those that are not here, once all were looked for.
    #[must_use]
    pub fn missing(&self) -> &[u32] {
        &self.missing
    }

    /// Looks for some; whether that was all.
    pub(super) fn slice(&mut self) -> Result<bool, StoreError> {
        if self.next == 0 {
            self.remove_others()?;
        }
        for _ in 0..SURVEY_SLICE {
            let Some(id) = self.ids.get(self.next) else {
                return Ok(true);
            };
            if self.places.chunk(id)?.is_none() {
                let index = u32::try_from(self.next);
                self.missing
                    .push(index.expect("a manifest is a message's size"));
            }
            self.next += 1;
        }
        Ok(self.next >= self.ids.len())
    }

    fn remove_others(&self) -> Result<(), StoreError> {
        let shelf = self.places.shelf()?;
        let wanted: std::collections::BTreeSet<String> = self.ids.iter().map(hex).collect();
        let names = shelf.list().map_err(failed("list chunks"))?;
        for name in names.iter().filter(|name| !wanted.contains(*name)) {
            remove_if_there(&*shelf, name).map_err(failed("remove a chunk"))?;
        }
        Ok(())
    }
}
