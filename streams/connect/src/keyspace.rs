//! A keyspace as a source and as a sink, in etcd's words. Who fills the port talks to a Holm site
//! or to a stock etcd; nothing here knows which.
//!
//! As a source each put below the prefix is a row, its value an object of JSON; a delete is none.
//! As a sink each row is a key, and a marker that says how far it is goes with the rows in one
//! transaction:
//!
//! ```text
//!   PREFIX/a/b        {"a":..,"b":..,..}
//!   MARKER            "EPOCH NEXT": who writes, and the row that is wanted next
//! ```

use std::collections::BTreeMap;
use std::time::Duration;

use holm_lanes::{Batch, Field};
use thiserror::Error;

use crate::beside::Beside;
use crate::reader::Format;
use crate::sink::{Guarantee, Sink, SinkError, missing};
use crate::source::{Piece, Position, Repeats, Source, SourceError, Taken};
use crate::writer::write;

/// Rows of one transaction: etcd takes 128 operations, and one is the marker.
const ROWS_MAX: usize = 127;
/// Bytes of one transaction.
const BYTES_MAX: usize = 1 << 20;
/// What waits of a watch before it is taken.
const HELD_MAX: usize = 64 << 20;
const RETRY: Duration = Duration::from_millis(200);

/// Why a keyspace did not do it.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum KeyspaceError {
    /// What is asked for is no longer there.
    #[error("compacted to {to}")]
    Compacted {
        /// The oldest revision that is.
        to: i64,
    },
    /// Not now; whether it was done is not known.
    #[error("{0}")]
    Unavailable(String),
    /// Never: the user may not, or the request is refused.
    #[error("{0}")]
    Refused(String),
}

/// A put or a delete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Its key.
    pub key: Vec<u8>,
    /// What is there now; `None` after a delete.
    pub value: Option<Vec<u8>>,
    /// The revision that made it.
    pub revision: i64,
}

/// A keyspace, or a stock etcd.
pub trait Keyspace: Send + std::fmt::Debug {
    /// The value of a key.
    ///
    /// # Errors
    ///
    /// As [`KeyspaceError`] says.
    fn value(&mut self, key: &[u8]) -> Result<Option<Vec<u8>>, KeyspaceError>;

    /// All that is below a prefix, in the order of keys, and the revision of that.
    ///
    /// # Errors
    ///
    /// As [`KeyspaceError`] says.
    fn all(&mut self, prefix: &[u8]) -> Result<(Vec<Change>, i64), KeyspaceError>;

    /// The same as it was at a revision.
    ///
    /// # Errors
    ///
    /// As [`KeyspaceError`] says.
    fn all_at(&mut self, prefix: &[u8], revision: i64) -> Result<Vec<Change>, KeyspaceError>;

    /// Watches a prefix from a revision on, in place of any watch before.
    ///
    /// # Errors
    ///
    /// As [`KeyspaceError`] says.
    fn watch(&mut self, prefix: &[u8], from: i64) -> Result<(), KeyspaceError>;

    /// What the watch saw, whole revisions in order; nothing if nothing came while it waited.
    ///
    /// # Errors
    ///
    /// As [`KeyspaceError`] says; after that it is to be watched anew.
    fn changes(&mut self, wait: Duration) -> Result<Vec<Change>, KeyspaceError>;

    /// Puts all keys in one transaction, if a key has this value still; whether it had.
    ///
    /// # Errors
    ///
    /// As [`KeyspaceError`] says.
    fn put_if(
        &mut self,
        guard: (&[u8], Option<&[u8]>),
        puts: &[(Vec<u8>, Vec<u8>)],
    ) -> Result<bool, KeyspaceError>;
}

/// The changes below a prefix as rows.
///
/// Its position is a revision: all of its changes were given. From the start it gives what is
/// there first.
#[derive(Debug)]
pub struct KeyspaceSource {
    name: String,
    keyspace: Box<dyn Keyspace>,
    prefix: Vec<u8>,
    /// The revision behind what was given; none before the start.
    revision: Option<i64>,
    /// The revision behind what is held.
    held_to: Option<i64>,
    is_watching: bool,
    held: std::collections::VecDeque<Change>,
    rows: u64,
    is_stopped: bool,
    beside: Beside,
    /// The revision up to which it gives again what it gave before.
    until: Option<i64>,
}

impl KeyspaceSource {
    /// A source of what changes below a prefix.
    #[must_use]
    pub fn new(name: &str, keyspace: Box<dyn Keyspace>, prefix: &str) -> Self {
        Self {
            name: name.to_owned(),
            keyspace,
            prefix: prefix.as_bytes().to_vec(),
            revision: None,
            held_to: None,
            is_watching: false,
            held: std::collections::VecDeque::new(),
            rows: 0,
            is_stopped: false,
            beside: Beside::default(),
            until: None,
        }
    }

    /// The same, with what is wanted beside each row: its key.
    #[must_use]
    pub fn with(mut self, beside: Beside) -> Self {
        self.beside = beside;
        self
    }

    fn refused(&self, error: KeyspaceError) -> SourceError {
        let read = self.revision.unwrap_or(0);
        match error {
            KeyspaceError::Compacted { to } => SourceError::refused(
                &self.name,
                format!(
                    "keyspace compacted to {to}, read to {read}; accept the gap with resume --from {to}"
                ),
            ),
            KeyspaceError::Unavailable(reason) => SourceError::Unavailable {
                source_name: self.name.clone(),
                reason,
                retry: RETRY,
            },
            KeyspaceError::Refused(reason) => SourceError::refused(&self.name, reason),
        }
    }

    fn watch(&mut self) -> Result<(), KeyspaceError> {
        if self.is_watching {
            return Ok(());
        }
        let held_to = match self.held_to {
            Some(revision) => revision,
            None => {
                let (found, revision) = match self.until {
                    Some(until) => (self.keyspace.all_at(&self.prefix, until)?, until),
                    None => self.keyspace.all(&self.prefix)?,
                };
                // They are one step: all of them belong to the revision at which they were read.
                let at = found
                    .into_iter()
                    .map(|change| Change { revision, ..change });
                self.held.extend(at);
                self.held_to = Some(revision);
                revision
            }
        };
        self.keyspace.watch(&self.prefix, held_to + 1)?;
        self.is_watching = true;
        Ok(())
    }

    fn fill(&mut self, wait: Duration) -> Result<(), KeyspaceError> {
        self.watch()?;
        let held: usize = self.held.iter().map(weight).sum();
        if held >= HELD_MAX {
            return Ok(());
        }
        let wait = if self.held.is_empty() {
            wait
        } else {
            Duration::ZERO
        };
        let changes = self.keyspace.changes(wait).inspect_err(|_error| {
            self.is_watching = false;
        })?;
        if let Some(last) = changes.last() {
            self.held_to = Some(last.revision);
        }
        self.held.extend(changes);
        Ok(())
    }

    /// Whole revisions, as long as the next one may come, by how many bytes there are.
    fn given(&mut self, may: impl Fn(&Change, usize) -> bool) -> Taken {
        let first_row = self.rows + 1;
        let mut rows = Vec::new();
        while let Some(next) = self.held.front()
            && may(next, rows.len())
            && let Some((more, at)) = self.step()
        {
            rows.extend(more);
            self.revision = Some(at);
        }
        let lines = rows.iter().filter(|byte| **byte == b'\n').count();
        self.rows += u64::try_from(lines).expect("memory is smaller");
        if rows.is_empty() {
            return Taken::Nothing;
        }
        let revision = self.revision.unwrap_or_default();
        Taken::Rows(Piece {
            rows,
            first_row,
            position: Position::of(&[revision.cast_unsigned(), self.rows]),
            key: None,
        })
    }

    /// The first revision that waits, as rows.
    fn step(&mut self) -> Option<(Vec<u8>, i64)> {
        let revision = self.held.front()?.revision;
        let mut rows = Vec::new();
        while self
            .held
            .front()
            .is_some_and(|next| next.revision == revision)
        {
            let change = self.held.pop_front()?;
            if let Some(value) = change.value {
                rows.extend(row_of(&change.key, &value, &self.beside));
            }
        }
        Some((rows, revision))
    }
}

/// A value as a line, with what is wanted beside it.
#[must_use]
pub fn row_of(key: &[u8], value: &[u8], beside: &Beside) -> Vec<u8> {
    let line = value.iter().map(|byte| match byte {
        b'\n' | b'\r' => b' ',
        other => *other,
    });
    let line: Vec<u8> = line.chain([b'\n']).collect();
    let head = beside.head(&[("key", std::str::from_utf8(key).ok())]);
    head.before(&line)
}

fn weight(change: &Change) -> usize {
    change.key.len() + change.value.as_ref().map_or(0, Vec::len) + 64
}

impl Source for KeyspaceSource {
    fn name(&self) -> &str {
        &self.name
    }

    fn header(&self) -> Option<&str> {
        None
    }

    fn take(&mut self, credit: usize, wait: Duration) -> Result<Taken, SourceError> {
        if self.is_stopped {
            return Ok(Taken::End);
        }
        self.fill(wait).map_err(|error| self.refused(error))?;
        if let Some(until) = self.until {
            if self.held_to.is_none_or(|held| held < until) {
                return Ok(Taken::Nothing);
            }
            self.until = None;
            return Ok(self.given(|next, _rows| next.revision <= until));
        }
        let Some(first) = self.held.front().map(|change| change.revision) else {
            return Ok(Taken::Nothing);
        };
        let of_first = self.held.iter().take_while(|next| next.revision == first);
        let weight_of_first: usize = of_first.map(weight).sum();
        if weight_of_first > HELD_MAX {
            let reason =
                format!("{weight_of_first} bytes at one revision; the limit is {HELD_MAX}");
            return Err(SourceError::refused(&self.name, reason));
        }
        if weight_of_first > credit {
            return Ok(Taken::Nothing);
        }
        Ok(self.given(|next, rows| {
            rows < credit && (next.revision == first || rows + weight(next) <= credit)
        }))
    }

    fn acknowledge(&mut self, _through: &Position) {}

    fn again(&mut self, until: &Position) {
        let numbers = until.numbers().unwrap_or_default();
        self.until = numbers.first().map(|revision| revision.cast_signed());
    }

    fn seek(&mut self, position: &Position) -> Result<(), SourceError> {
        let (revision, rows) = match position.numbers().as_deref() {
            Some([]) => (None, 0),
            Some([revision, rows]) => (Some(revision.cast_signed()), *rows),
            _ => {
                let reason = "the position is none of a keyspace's";
                return Err(SourceError::refused(&self.name, reason));
            }
        };
        self.held.clear();
        (self.revision, self.held_to, self.rows) = (revision, revision, rows);
        self.is_watching = false;
        Ok(())
    }

    fn replayable(&self) -> bool {
        true
    }

    fn repeats(&self) -> Repeats {
        Repeats::CountOnce
    }

    fn stop(&mut self) {
        self.is_stopped = true;
    }
}

/// Rows as keys, with a marker that moves in the same transaction.
#[derive(Debug)]
pub struct KeyspaceSink {
    name: String,
    keyspace: Box<dyn Keyspace>,
    prefix: String,
    marker: Vec<u8>,
    fields: Vec<Field>,
    /// The columns that name a row.
    keys: Vec<usize>,
    /// Our epoch and the row that is wanted next, once it has begun.
    at: Option<(u64, u64)>,
    is_sure: bool,
}

impl KeyspaceSink {
    /// A sink below a prefix; `keys` are the columns whose values make a row's key, `marker` is
    /// the key that says how far it is.
    #[must_use]
    pub fn new(
        keyspace: Box<dyn Keyspace>,
        prefix: &str,
        marker: &str,
        fields: &[Field],
        keys: &[usize],
    ) -> Self {
        Self {
            name: format!("keyspace:{prefix}"),
            keyspace,
            prefix: prefix.to_owned(),
            marker: marker.as_bytes().to_vec(),
            fields: fields.to_vec(),
            keys: keys.to_vec(),
            at: None,
            is_sure: false,
        }
    }

    fn failed(&self, error: KeyspaceError) -> SinkError {
        match error {
            KeyspaceError::Unavailable(reason) => SinkError::Unavailable {
                sink: self.name.clone(),
                reason,
                retry: RETRY,
            },
            other @ (KeyspaceError::Compacted { .. } | KeyspaceError::Refused(_)) => {
                SinkError::failed(&self.name, other)
            }
        }
    }

    fn marked(&mut self) -> Result<Option<(u64, u64)>, SinkError> {
        let value = self.keyspace.value(&self.marker);
        let value = value.map_err(|error| self.failed(error))?;
        let Some(value) = value else {
            return Ok(None);
        };
        let text = String::from_utf8_lossy(&value).into_owned();
        let words = text.split_once(' ');
        let parsed =
            words.and_then(|(epoch, next)| Some((epoch.parse().ok()?, next.parse().ok()?)));
        parsed.map(Some).ok_or_else(|| {
            let marker = String::from_utf8_lossy(&self.marker);
            let reason = format!("{marker} holds {text:?}, which is no marker of ours");
            SinkError::failed(&self.name, reason)
        })
    }

    /// Whoever reads the marker after an uncertain end knows what was done.
    fn make_sure(&mut self) -> Result<(u64, u64), SinkError> {
        let Some(ours) = self.at else {
            return Err(SinkError::failed(&self.name, "it was not begun"));
        };
        if self.is_sure {
            return Ok(ours);
        }
        match self.marked()? {
            Some(found) if found.0 == ours.0 => {
                self.at = Some(found);
                self.is_sure = true;
                Ok(found)
            }
            _ => Err(self.taken_over()),
        }
    }

    fn taken_over(&self) -> SinkError {
        let reason = "another process writes this stream's rows; this one stops";
        SinkError::failed(&self.name, reason)
    }

    /// The marker was moved between the look at it and the put.
    fn overtaken(&self) -> SinkError {
        SinkError::Unavailable {
            sink: self.name.clone(),
            reason: "a put that was given up was carried out late".to_owned(),
            retry: RETRY,
        }
    }

    fn key(&self, rows: &Batch, row: usize) -> Vec<u8> {
        let mut key = self.prefix.clone();
        for (at, column) in self.keys.iter().enumerate() {
            if at > 0 {
                key.push('/');
            }
            let lane = rows.lanes[*column].take(&[holm_lanes::number(row)]);
            let single = Batch::of(vec![lane]);
            let mut text = String::new();
            write(
                Format::Csv,
                std::slice::from_ref(&self.fields[*column]),
                &single,
                &mut text,
            );
            key.push_str(text.trim_end_matches('\n'));
        }
        key.into_bytes()
    }

    /// The rows from a place on that fit one transaction, and how many they are. Of rows with one
    /// key the last counts: a transaction may put a key once.
    fn transaction(&self, rows: &Batch, from: usize, lines: &[&str]) -> (usize, Puts) {
        let mut puts = BTreeMap::new();
        let mut bytes = 0;
        let mut count = 0;
        for (row, line) in lines.iter().enumerate().skip(from) {
            let key = self.key(rows, row);
            bytes += key.len() + line.len();
            if count > 0 && (count == ROWS_MAX || bytes > BYTES_MAX) {
                break;
            }
            puts.insert(key, line.as_bytes().to_vec());
            count += 1;
        }
        (count, puts.into_iter().collect())
    }
}

type Puts = Vec<(Vec<u8>, Vec<u8>)>;

fn marker((epoch, next): (u64, u64)) -> Vec<u8> {
    format!("{epoch} {next}").into_bytes()
}

impl Sink for KeyspaceSink {
    fn name(&self) -> &str {
        &self.name
    }

    fn guarantee(&self) -> Guarantee {
        Guarantee::ExactlyOnce
    }

    fn begin(&mut self) -> Result<Option<u64>, SinkError> {
        let found = self.marked()?;
        let (epoch, next) = found.unwrap_or((0, 0));
        let ours = (epoch + 1, next);
        let before = found.map(marker);
        let puts = [(self.marker.clone(), marker(ours))];
        let taken = self
            .keyspace
            .put_if((&self.marker, before.as_deref()), &puts);
        if !taken.map_err(|error| self.failed(error))? {
            return Err(self.overtaken());
        }
        (self.at, self.is_sure) = (Some(ours), true);
        Ok(next.checked_sub(1))
    }

    fn put(&mut self, first: u64, rows: &Batch) -> Result<(), SinkError> {
        let (_, next) = self.make_sure()?;
        let Some(rows) = missing(&self.name, next, first, rows)? else {
            return Ok(());
        };
        let mut text = String::new();
        write(Format::JsonLines, &self.fields, &rows, &mut text);
        let lines: Vec<&str> = text.lines().collect();
        let mut from = 0;
        while from < lines.len() {
            let (epoch, next) = self.make_sure()?;
            let (count, mut puts) = self.transaction(&rows, from, &lines);
            let after = (epoch, next + u64::try_from(count).expect("a few rows"));
            puts.push((self.marker.clone(), marker(after)));
            let before = marker((epoch, next));
            self.is_sure = false;
            let done = self.keyspace.put_if((&self.marker, Some(&before)), &puts);
            if !done.map_err(|error| self.failed(error))? {
                // Another's marker ends it; one of ours was moved by a put that was given up.
                self.make_sure()?;
                return Err(self.overtaken());
            }
            (self.at, self.is_sure) = (Some(after), true);
            from += count;
        }
        Ok(())
    }
}
