//! What the records of a stream's log say.
//!
//! |kind|record|says|
//! |--|--|--|
//! |1|opened|the log was opened; the epoch is in the frame|
//! |2|data|a batch of a source that gives its rows once: columns, line numbers, place; in version 2
//! with the name under which it would be sent again; in version 3 the rows that passed filters, in
//! the columns that are read behind those|
//! |3|offsets|a batch of a source that gives them again: where it ended, how long, checksum|
//! |4|ended|a source has ended|
//! |5|idle|a source has been silent for long: `u32 source`|

use holm_lanes::{Batch, LoadError, Loader, Saver};
use thiserror::Error;

use crate::data::{self, BEHIND, KEYED, VERSION};
use crate::frame::Entry;

const DATA: u8 = 2;

/// A batch with its rows.
///
/// ```text
/// in version 2: bytes name of the key   u64 digest of the body
/// u32 source   bytes position   u64 lines   u64 bad   u64 rows
/// u8 0, u64 first line  or  u8 1, and the lines as the first of the columns
/// u32 columns   bytes columns, as streams/encode writes them
/// ```
///
/// In version 3 these stand first, and the columns are, where the flags say so, lines and
/// watermarks, and then those that are read:
///
/// ```text
/// u8 flags: 1 a key   2 lines   4 watermarks
/// with a key: bytes name   u64 digest of the body
/// u32 digest of the way   u32 nodes   u64 rows that came   u64 without a value   i64 watermark behind
/// bytes one for each column: 1 if it is read
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
    /// Where on their way they were, if these are not all that came.
    pub behind: Option<Behind>,
}

/// A place between filters, and what is not in the rows that came there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Behind {
    /// What lies before it.
    pub way: u32,
    /// How many nodes that is.
    pub nodes: u32,
    /// Rows that came.
    pub rows: u64,
    /// Rows that had no value on the way.
    pub diverted: u64,
    /// Which columns are read behind it: the others are not there.
    pub read: Vec<bool>,
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
    /// A source is left out of watermarks until it has rows again.
    Idle {
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
                version = match (&data.behind, &data.key) {
                    (Some(_), _) => BEHIND,
                    (None, Some(_)) => KEYED,
                    (None, None) => VERSION,
                };
                data::write(data, sequence, &mut to);
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
            Self::Idle { source } => {
                to.small(*source);
                5
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
        let is_data = kind == DATA && (KEYED..=BEHIND).contains(&version);
        if version != VERSION && !is_data {
            return Err(RecordError::Unknown { kind, version });
        }
        let mut from = Loader::new(&entry.body);
        let record = match kind {
            1 => Ok(Self::Opened),
            DATA => data::read(&mut from, version).map(|data| Self::Data(Box::new(data))),
            3 => read_offsets(&mut from).map(Self::Offsets),
            4 => from.small().map(|source| Self::Ended { source }),
            5 => from.small().map(|source| Self::Idle { source }),
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

fn read_offsets(from: &mut Loader<'_>) -> Result<Offsets, LoadError> {
    Ok(Offsets {
        source: from.small()?,
        position: from.bytes()?.to_vec(),
        lines: from.word()?,
        bytes: from.word()?,
        crc: from.small()?,
    })
}
