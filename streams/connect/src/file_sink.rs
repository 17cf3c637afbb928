//! A file that holds each row once: what was committed is its length, kept beside it.
//!
//! ```text
//!   NAME            rows as lines
//!   NAME.committed  two sectors of 512 bytes, written in turn:
//!                   0 u32 "HCM1"  4 u32 crc32c of 8..32  8 u64 turn  16 u64 next row  24 u64 length
//! ```
//!
//! Rows are appended and synced, then the sector of this turn is written and synced. A crash
//! leaves rows without a sector that names them, and those are cut off at the next start; or a
//! torn sector, and then the other one counts. So the file is always a prefix of what was put.

use std::sync::Arc;

use holm_base::ByteCount;
use holm_lanes::{Batch, Field};
use holm_machine::{Disk, DiskError, Folder};

use crate::reader::Format;
use crate::sink::{Guarantee, Sink, SinkError, missing};
use crate::writer::{header, write};

const MAGIC: u32 = u32::from_le_bytes(*b"HCM1");
const SECTOR: u64 = 512;
const SLOT: usize = 32;

/// A file as a sink.
#[derive(Debug)]
pub struct FileSink {
    name: String,
    folder: Arc<dyn Folder>,
    format: Format,
    fields: Vec<Field>,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    rows: Box<dyn Disk>,
    marks: Box<dyn Disk>,
    mark: Mark,
}

/// How far the file is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Mark {
    turn: u64,
    /// The row that it wants.
    next: u64,
    length: u64,
}

impl Mark {
    fn encode(self) -> [u8; SLOT] {
        let mut slot = [0; SLOT];
        slot[0..4].copy_from_slice(&MAGIC.to_le_bytes());
        slot[8..16].copy_from_slice(&self.turn.to_le_bytes());
        slot[16..24].copy_from_slice(&self.next.to_le_bytes());
        slot[24..32].copy_from_slice(&self.length.to_le_bytes());
        let sum = crc32c::crc32c(&slot[8..]);
        slot[4..8].copy_from_slice(&sum.to_le_bytes());
        slot
    }

    fn decode(slot: &[u8; SLOT]) -> Option<Self> {
        let (halves, _) = slot.as_chunks::<4>();
        let is_whole = u32::from_le_bytes(halves[0]) == MAGIC
            && u32::from_le_bytes(halves[1]) == crc32c::crc32c(&slot[8..]);
        let (words, _) = slot.as_chunks::<8>();
        is_whole.then(|| Self {
            turn: u64::from_le_bytes(words[1]),
            next: u64::from_le_bytes(words[2]),
            length: u64::from_le_bytes(words[3]),
        })
    }
}

impl FileSink {
    /// A sink into the file of this name in a folder.
    #[must_use]
    pub fn new(folder: Arc<dyn Folder>, name: &str, format: Format, fields: &[Field]) -> Self {
        Self {
            name: name.to_owned(),
            folder,
            format,
            fields: fields.to_vec(),
            open: None,
        }
    }

    fn failed(&self, error: &DiskError) -> SinkError {
        if let DiskError::Full { .. } = error {
            return SinkError::Unavailable {
                sink: self.name.clone(),
                reason: error.to_string(),
                retry: std::time::Duration::from_secs(1),
            };
        }
        SinkError::failed(&self.name, error)
    }

    /// Opens both files, or makes them.
    fn open_files(&self) -> Result<[Box<dyn Disk>; 2], DiskError> {
        let open = |name: &str| match self.folder.open(name) {
            Err(DiskError::NotFound { .. }) => self.folder.create(name, ByteCount::ZERO),
            other => other,
        };
        let files = [
            open(&self.name)?,
            open(&format!("{}.committed", self.name))?,
        ];
        self.folder.sync()?;
        Ok(files)
    }

    fn start(&self) -> Result<Open, SinkError> {
        let failed = |error: DiskError| self.failed(&error);
        let [mut rows, mut marks] = self.open_files().map_err(failed)?;
        let found = newest(&*marks).map_err(failed)?;
        let length = rows.len().map_err(failed)?.value();
        let Some(mark) = found else {
            let is_new = marks.len().map_err(failed)? == ByteCount::ZERO;
            if length > 0 && is_new {
                let reason = format!(
                    "it holds {length} bytes that no stream committed; name another file, or move it away"
                );
                return Err(SinkError::failed(&self.name, reason));
            }
            // No sector is whole: nothing was ever committed. The sectors are there, though
            // empty, before the first row is: so the file is known as ours from then on.
            marks.set_len(ByteCount::new(2 * SECTOR)).map_err(failed)?;
            marks.sync().map_err(failed)?;
            rows.set_len(ByteCount::ZERO).map_err(failed)?;
            let head = header(self.format, &self.fields);
            let mark = Mark::default();
            let mut open = Open { rows, marks, mark };
            open.commit(head.as_bytes(), 0).map_err(failed)?;
            return Ok(open);
        };
        if length < mark.length {
            let reason = format!(
                "it holds {length} bytes, and {} were committed; rows are missing",
                mark.length
            );
            return Err(SinkError::failed(&self.name, reason));
        }
        if length > mark.length {
            rows.set_len(ByteCount::new(mark.length)).map_err(failed)?;
            rows.sync().map_err(failed)?;
        }
        Ok(Open { rows, marks, mark })
    }
}

/// The newer of the sectors that are whole.
fn newest(marks: &dyn Disk) -> Result<Option<Mark>, DiskError> {
    let length = marks.len()?.value();
    let mut found: Option<Mark> = None;
    for sector in 0..2 {
        let at = sector * SECTOR;
        if at + SECTOR > length {
            continue;
        }
        let mut slot = [0; SLOT];
        marks.read(ByteCount::new(at), &mut slot)?;
        let both = [found, Mark::decode(&slot)];
        found = both.into_iter().flatten().max_by_key(|mark| mark.turn);
    }
    Ok(found)
}

impl Open {
    fn commit(&mut self, bytes: &[u8], rows: u64) -> Result<(), DiskError> {
        let before = self.mark;
        self.rows.write(ByteCount::new(before.length), bytes)?;
        self.rows.sync()?;
        let length = u64::try_from(bytes.len()).expect("memory is smaller");
        let mark = Mark {
            turn: before.turn + 1,
            next: before.next + rows,
            length: before.length + length,
        };
        let at = ByteCount::new(mark.turn % 2 * SECTOR);
        self.marks.write(at, &mark.encode())?;
        self.marks.sync()?;
        self.mark = mark;
        Ok(())
    }
}

impl Sink for FileSink {
    fn name(&self) -> &str {
        &self.name
    }

    fn guarantee(&self) -> Guarantee {
        Guarantee::ExactlyOnce
    }

    fn begin(&mut self) -> Result<Option<u64>, SinkError> {
        self.open = None;
        let open = self.start()?;
        let committed = open.mark.next.checked_sub(1);
        self.open = Some(open);
        Ok(committed)
    }

    fn put(&mut self, first: u64, rows: &Batch) -> Result<(), SinkError> {
        let mut open = match self.open.take() {
            Some(open) => open,
            None => self.start()?,
        };
        let lacking = missing(&self.name, open.mark.next, first, rows);
        let Some(rows) = lacking? else {
            self.open = Some(open);
            return Ok(());
        };
        let mut text = String::new();
        write(self.format, &self.fields, &rows, &mut text);
        let count = u64::try_from(rows.rows).expect("memory is smaller");
        // After a failure the handles refuse everything; whoever puts again opens the files anew,
        // which cuts off what was half written.
        let done = open.commit(text.as_bytes(), count);
        done.map_err(|error| self.failed(&error))?;
        self.open = Some(open);
        Ok(())
    }
}
