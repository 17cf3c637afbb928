//! What the records of a stream's log say.
//!
//! |kind|record|says|
//! |--|--|--|
//! |1|opened|the log was opened; the epoch is in the frame|
//! |2|data|a batch of a source that gives its rows once: columns, line numbers, place; in version 2
//! with the name under which it would be sent again|
//! |3|offsets|a batch of a source that gives them again: where it ended, how long, checksum|
//! |4|ended|a source has ended|

use std::sync::Arc;

use holm_encode::{Decoder, Encoder};
use holm_lanes::{Batch, Lane, LoadError, Loader, Marks, Origin, Saver, Values};
use thiserror::Error;

use crate::frame::Entry;

const VERSION: u8 = 1;
/// Of data with a key.
const KEYED: u8 = 2;
const DATA: u8 = 2;
/// The most rows of a batch: 16 MiB of the shortest ones, which is what a feed holds, has fewer.
const ROWS_MAX: usize = 1 << 23;

/// A batch with its rows.
///
/// ```text
/// in version 2: bytes name of the key   u64 digest of the body
/// u32 source   bytes position   u64 lines   u64 bad   u64 rows
/// u8 0, u64 first line  or  u8 1, and the lines as the first of the columns
/// u32 columns   bytes columns, as streams/encode writes them
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Data {
    /// Which source.
    pub source: u32,
    /// The source's place behind it.
    pub position: Vec<u8>,
    /// Lines of the source up to here.
    pub lines: u64,
    /// Lines of this batch that were no rows.
    pub bad: u64,
    /// The name under which a client sends it again, and a digest of what it sent.
    pub key: Option<(String, u64)>,
    /// The rows.
    pub batch: Batch,
}

/// A batch whose rows the source can give again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offsets {
    /// Which source.
    pub source: u32,
    /// The source's place behind it.
    pub position: Vec<u8>,
    /// Lines of the source up to here.
    pub lines: u64,
    /// How many bytes it is.
    pub bytes: u64,
    /// Their checksum.
    pub crc: u32,
}

/// A record of a stream's log.
#[derive(Clone, Debug, PartialEq)]
pub enum Record {
    /// The log was opened.
    Opened,
    /// A batch with its rows.
    Data(Box<Data>),
    /// A batch that the source can give again.
    Offsets(Offsets),
    /// A source has ended.
    Ended {
        /// Which.
        source: u32,
    },
}

/// A record that is none.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum RecordError {
    /// Of a kind or version that this build does not know.
    #[error("record of kind {kind}, version {version}: this build does not read it")]
    Unknown {
        /// Its kind.
        kind: u8,
        /// Its version.
        version: u8,
    },
    /// Its body is not what its kind has.
    #[error("record of kind {kind}: {source}")]
    Body {
        /// Its kind.
        kind: u8,
        /// What is wrong.
        source: LoadError,
    },
}

impl Record {
    /// The record as the log has it.
    #[must_use]
    pub fn entry(&self, sequence: u64, epoch: u64) -> Entry {
        let mut to = Saver::new();
        let mut version = VERSION;
        let kind = match self {
            Self::Opened => 1,
            Self::Data(data) => {
                if let Some((name, digest)) = &data.key {
                    version = KEYED;
                    to.bytes(name.as_bytes());
                    to.word(*digest);
                }
                write_data(data, sequence, &mut to);
                DATA
            }
            Self::Offsets(offsets) => {
                to.small(offsets.source);
                to.bytes(&offsets.position);
                to.word(offsets.lines);
                to.word(offsets.bytes);
                to.small(offsets.crc);
                3
            }
            Self::Ended { source } => {
                to.small(*source);
                4
            }
        };
        Entry {
            sequence,
            epoch,
            kind,
            version,
            body: to.finish(),
        }
    }

    /// What a record of the log says.
    ///
    /// # Errors
    ///
    /// If it is of a kind that this build does not know, or says nothing.
    pub fn read(entry: &Entry) -> Result<Self, RecordError> {
        let (kind, version) = (entry.kind, entry.version);
        let is_keyed = kind == DATA && version == KEYED;
        if version != VERSION && !is_keyed {
            return Err(RecordError::Unknown { kind, version });
        }
        let mut from = Loader::new(&entry.body);
        let record = match kind {
            1 => Ok(Self::Opened),
            DATA => read_data(&mut from, is_keyed).map(|data| Self::Data(Box::new(data))),
            3 => read_offsets(&mut from).map(Self::Offsets),
            4 => from.small().map(|source| Self::Ended { source }),
            _ => return Err(RecordError::Unknown { kind, version }),
        };
        record
            .and_then(|record| {
                let what = LoadError::Invalid { what: "end" };
                from.is_done().then_some(record).ok_or(what)
            })
            .map_err(|source| RecordError::Body { kind, source })
    }
}

fn write_data(data: &Data, sequence: u64, to: &mut Saver) {
    to.small(data.source);
    to.bytes(&data.position);
    to.word(data.lines);
    to.word(data.bad);
    to.count(data.batch.rows);
    let mut columns = Vec::new();
    let lanes = u64::try_from(data.batch.lanes.len()).expect("a batch has few columns");
    let mut encoder = Encoder::after(sequence.wrapping_mul(lanes));
    match &data.batch.origin {
        Origin::Run(first) => {
            to.byte(0);
            to.word(*first);
        }
        Origin::Rows(rows) => {
            to.byte(1);
            let rows = rows.iter().map(|row| row.cast_signed()).collect();
            encoder.lane(&Lane::dense(Values::Int(rows)), &mut columns);
        }
    }
    let lanes = &data.batch.lanes;
    to.small(u32::try_from(lanes.len()).expect("a batch has few columns"));
    lanes
        .iter()
        .for_each(|lane| encoder.lane(lane, &mut columns));
    to.bytes(&columns);
}

fn read_data(from: &mut Loader<'_>, is_keyed: bool) -> Result<Data, LoadError> {
    let mut key = None;
    if is_keyed {
        let name = std::str::from_utf8(from.bytes()?);
        let name = name.map_err(|_wrong| LoadError::Invalid { what: "key" })?;
        key = Some((name.to_owned(), from.word()?));
    }
    let source = from.small()?;
    let position = from.bytes()?.to_vec();
    let (lines, bad) = (from.word()?, from.word()?);
    let rows = from.word()?;
    let rows = usize::try_from(rows).map_err(|_large| LoadError::Invalid { what: "count" })?;
    let first = match from.byte()? {
        0 => Some(from.word()?),
        1 => None,
        _ => return Err(LoadError::Invalid { what: "origin" }),
    };
    let count = from.small()?;
    let mut columns = Decoder::new(from.bytes()?);
    let mut lane = || {
        let lane = columns.lane(ROWS_MAX);
        lane.map_err(|_wrong| LoadError::Invalid { what: "column" })
    };
    let origin = match first {
        Some(first) => Origin::Run(first),
        None => {
            let lines = lane()?;
            let lines = lines.ints().filter(|lines| lines.len() == rows);
            let lines = lines.ok_or(LoadError::Invalid { what: "lines" })?;
            Origin::Rows(lines.iter().map(|line| line.cast_unsigned()).collect())
        }
    };
    let mut lanes = Vec::new();
    for _ in 0..count {
        lanes.push(lane()?);
    }
    if lanes.iter().any(|lane| lane.len() != rows) || !columns.rest().is_empty() {
        return Err(LoadError::Invalid { what: "rows" });
    }
    Ok(Data {
        source,
        position,
        lines,
        bad,
        key,
        batch: Batch {
            lanes: lanes.into_iter().map(Arc::new).collect(),
            rows,
            origin,
            marks: Marks {
                after: Marks::START,
                rows: None,
            },
        },
    })
}

fn read_offsets(from: &mut Loader<'_>) -> Result<Offsets, LoadError> {
    Ok(Offsets {
        source: from.small()?,
        position: from.bytes()?.to_vec(),
        lines: from.word()?,
        bytes: from.word()?,
        crc: from.small()?,
    })
}
