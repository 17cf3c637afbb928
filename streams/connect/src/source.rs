//! Where rows come from, as the runner of a query sees it: a port that gives whole rows on
//! credit, and hears when they are durable.
//!
//! Most sources hand out bytes, not values: what they give is written in their format, row after
//! row, and a [`Reader`](crate::Reader) understands it. Some have columns. Behind each piece stands a [`Position`], which
//! means something to the source alone.

use std::fmt;
use std::time::Duration;

use holm_lanes::Batch;
use thiserror::Error;

use crate::keys::{Key, KeyRing};
use crate::reader::Bad;

/// The longest position.
pub const POSITION_MAX: usize = 64;

/// How far a source has been read: a byte, a revision, a number. Opaque to all but the source,
/// and kept in the log.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(Vec<u8>);

impl Position {
    /// Before the first row of any source.
    pub const START: Self = Self(Vec::new());

    /// A position of these bytes, as one that was logged; `None` if they are too many.
    #[must_use]
    pub fn new(bytes: &[u8]) -> Option<Self> {
        (bytes.len() <= POSITION_MAX).then(|| Self(bytes.to_vec()))
    }

    /// A position of so many numbers; eight at most.
    ///
    /// # Panics
    ///
    /// If there are more, which is a bug of the source's.
    #[must_use]
    pub fn of(numbers: &[u64]) -> Self {
        assert!(
            numbers.len() * 8 <= POSITION_MAX,
            "a position is short: it goes into each record of the log"
        );
        Self(
            numbers
                .iter()
                .flat_map(|number| number.to_le_bytes())
                .collect(),
        )
    }

    /// The numbers of [`Position::of`]; none at the start, `None` where the bytes are others.
    #[must_use]
    pub fn numbers(&self) -> Option<Vec<u64>> {
        let (words, rest) = self.0.as_chunks::<8>();
        rest.is_empty()
            .then(|| words.iter().map(|word| u64::from_le_bytes(*word)).collect())
    }

    /// What is logged of it.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Position {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.numbers() {
            Some(numbers) => write!(formatter, "Position{numbers:?}"),
            None => write!(formatter, "Position({:?})", self.0),
        }
    }
}

/// Whole rows, as they are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// The rows, each with its line end, but for the last of all.
    pub rows: Vec<u8>,
    /// The number of the first one: its line in a file, counted from one; its place among all
    /// that came, where there is no file.
    pub first_row: u64,
    /// How far the source has been read with these rows.
    pub position: Position,
    /// The name under which a client sends these very rows again if it heard nothing; rows with
    /// a key are a piece of their own.
    pub key: Option<Key>,
}

/// Rows that need no reading: they come as columns.
#[derive(Clone, Debug, PartialEq)]
pub struct Columns {
    /// The rows.
    pub batch: Batch,
    /// Rows that have no value where they need one.
    pub bad: Vec<Bad>,
    /// How far the source has been read with these rows. A source that gives its rows again gives
    /// them in the same batches.
    pub position: Position,
    /// About how many bytes they take, for the credit.
    pub bytes: usize,
    /// A checksum of what they were made of.
    pub crc: u32,
}

/// What a source gave.
#[derive(Clone, Debug, PartialEq)]
pub enum Taken {
    /// Rows, as they are written.
    Rows(Piece),
    /// Rows as columns.
    Columns(Columns),
    /// None came while it waited, or the next one is longer than the credit.
    Nothing,
    /// There are no more, now and ever.
    End,
}

/// What becomes of rows that are sent again: what a source promises across restarts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeats {
    /// No row counts twice: it is read by its place, or what was taken is known and not taken again.
    CountOnce,
    /// What whoever sends does not know to be acknowledged it sends again, and that counts again.
    CountAgain,
    /// The same, but that what comes again under a key of its own does not.
    CountAgainWithoutKey,
}

/// Why a source gives no rows.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum SourceError {
    /// It will not give them however often it is asked: there is a gap, or it cannot go back.
    #[error("{source_name}: {reason}")]
    Refused {
        /// Which source.
        source_name: String,
        /// Why, and what can be done.
        reason: String,
    },
    /// It cannot give them now.
    #[error("{source_name}: {reason}")]
    Unavailable {
        /// Which source.
        source_name: String,
        /// Why.
        reason: String,
        /// When to ask again.
        retry: Duration,
    },
    /// What it is read from failed.
    #[error("read {source_name}: {reason}")]
    Failed {
        /// Which source.
        source_name: String,
        /// What the system answered.
        reason: String,
    },
}

impl SourceError {
    /// What no repetition helps.
    #[must_use]
    pub fn refused(source_name: &str, reason: impl fmt::Display) -> Self {
        Self::Refused {
            source_name: source_name.to_owned(),
            reason: reason.to_string(),
        }
    }

    /// What the system refused.
    #[must_use]
    pub fn failed(source_name: &str, reason: impl fmt::Display) -> Self {
        Self::Failed {
            source_name: source_name.to_owned(),
            reason: reason.to_string(),
        }
    }
}

/// Where rows come from.
///
/// One thread calls it: `take`, and `acknowledge` once what it gave is durable. Positions of one
/// source grow from call to call.
pub trait Source: Send + fmt::Debug {
    /// Its name, for messages.
    fn name(&self) -> &str;

    /// The first line, where the format has one that names the columns. It is there before the
    /// first row is taken.
    fn header(&self) -> Option<&str>;

    /// The next whole rows, at most `credit` bytes of them, waiting no longer than `wait` for the
    /// first. One row that is longer than the credit waits until there is more; a row that is
    /// longer than any credit is refused by the source itself, or cut off and named.
    ///
    /// # Errors
    ///
    /// As [`SourceError`] says. After `Unavailable` it may be asked again.
    fn take(&mut self, credit: usize, wait: Duration) -> Result<Taken, SourceError>;

    /// All rows up to a position that it gave are durable: whoever sent them may be told.
    /// Positions that were acknowledged before do nothing.
    fn acknowledge(&mut self, through: &Position);

    /// After a seek: what is taken next are the rows up to this place, which were given before.
    fn again(&mut self, _until: &Position) {}

    /// Goes on behind a position: the next rows are those that follow it.
    ///
    /// # Errors
    ///
    /// If it cannot go back, or what followed is no longer there.
    fn seek(&mut self, position: &Position) -> Result<(), SourceError>;

    /// Whether rows that it gave can be had again after a restart, by their position. What
    /// cannot is logged before it is acknowledged.
    fn replayable(&self) -> bool;

    /// What becomes of rows that come again.
    fn repeats(&self) -> Repeats;

    /// Its rows up to this position are in the log. A source that cannot give rows again hears it
    /// once after a restart, before anything is taken; any other is told by `seek`.
    ///
    /// # Errors
    ///
    /// If the position is none of its own.
    fn go_on(&mut self, _position: &Position) -> Result<(), SourceError> {
        Ok(())
    }

    /// What clients sent last under names of their own, by the log: the same again is not taken.
    /// Called once, before anything is taken.
    fn remember(&mut self, _keys: &KeyRing) {}

    /// Takes no more from outside: those who send are told to come again. What was taken in
    /// before is still given.
    fn stop(&mut self);
}
