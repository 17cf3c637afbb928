//! Parquet files as a source of columns, and the schema that they bring along.
//!
//! Of each row group the columns that somebody reads are decoded, 4,096 rows at a time; so a batch
//! is the same one whenever it is read, and its checksum says whether the file still is. What is
//! nested is no column. A file does not grow: it ends.

mod column;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use holm_lanes::{Batch, Field, Lane, Marks, Origin, Saver, Values};
use parquet::column::reader::ColumnReader;
use parquet::errors::ParquetError;
use parquet::file::reader::{ChunkReader, FileReader, SerializedFileReader};

use crate::guess::Guess;
use crate::reader::{Bad, blank};
use crate::source::{Columns, Position, Repeats, Source, SourceError, Taken};
use column::Have;

/// Rows of a batch.
const ROWS: usize = 4_096;
/// Rows that are looked at to find out how far they are out of order.
const LOOKED_AT: usize = 1_000;

/// A column that is read: its place in the file, and what it has.
#[derive(Clone, Copy, Debug)]
struct Place {
    leaf: usize,
    have: Have,
    is_optional: bool,
}

/// A Parquet file.
///
/// Its position is three numbers: the row group, the rows of it that were given, and the rows of
/// all.
pub struct ParquetSource {
    name: String,
    file: Box<dyn FileReader>,
    fields: Vec<Field>,
    /// For each column where it lies, if it is read.
    places: Vec<Option<Place>>,
    /// The columns of the row group that is being read, and how many rows it still has.
    group: Option<(Vec<Option<ColumnReader>>, usize)>,
    at: (usize, usize),
    given: u64,
    is_stopped: bool,
}

impl std::fmt::Debug for ParquetSource {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = formatter.debug_struct("ParquetSource");
        shown.field("name", &self.name).field("at", &self.at);
        shown.finish_non_exhaustive()
    }
}

impl ParquetSource {
    /// A source of columns of a file.
    ///
    /// # Errors
    ///
    /// If it is no Parquet, lacks a column that is needed, or has one of another type.
    pub fn open<R: ChunkReader + 'static>(
        name: &str,
        file: R,
        fields: &[Field],
        needed: &[bool],
    ) -> Result<Self, SourceError> {
        Self::new(name, reader(name, file)?, fields, needed)
    }

    /// The same of bytes in memory.
    ///
    /// # Errors
    ///
    /// As for a file.
    pub fn of_bytes(
        name: &str,
        bytes: Vec<u8>,
        fields: &[Field],
        needed: &[bool],
    ) -> Result<Self, SourceError> {
        Self::new(name, reader(name, Bytes::from(bytes))?, fields, needed)
    }

    fn new(
        name: &str,
        file: Box<dyn FileReader>,
        fields: &[Field],
        needed: &[bool],
    ) -> Result<Self, SourceError> {
        let mut places = Vec::new();
        for (field, is_needed) in fields.iter().zip(needed) {
            let place = is_needed.then(|| place(&*file, field)).transpose();
            places.push(place.map_err(|reason| SourceError::refused(name, reason))?);
        }
        Ok(Self {
            name: name.to_owned(),
            file,
            fields: fields.to_vec(),
            places,
            group: None,
            at: (0, 0),
            given: 0,
            is_stopped: false,
        })
    }

    fn failed(&self, error: &ParquetError) -> SourceError {
        SourceError::failed(&self.name, words(error))
    }

    fn rows_of(&self, group: usize) -> usize {
        let rows = self.file.metadata().row_group(group).num_rows();
        usize::try_from(rows).unwrap_or(0)
    }

    /// Opens the columns of the row group that is next, behind the rows of it that were given.
    fn open_group(&mut self) -> Result<(), ParquetError> {
        let group = self.file.get_row_group(self.at.0)?;
        let mut columns = Vec::new();
        for place in &self.places {
            let column = place.map(|place| group.get_column_reader(place.leaf));
            columns.push(column.transpose()?);
        }
        for column in columns.iter_mut().flatten() {
            skip(column, self.at.1)?;
        }
        let rest = self.rows_of(self.at.0).saturating_sub(self.at.1);
        self.group = Some((columns, rest));
        Ok(())
    }

    /// The next rows of the row group that is open.
    fn batch(&mut self, rows: usize) -> Result<Columns, ParquetError> {
        let mut faults = Vec::new();
        let mut lanes: Vec<Arc<Lane>> = Vec::new();
        let (columns, rest) = self.group.as_mut().expect("it was opened");
        let mut bad: Vec<Bad> = Vec::new();
        let first = self.given + 1;
        for ((column, place), field) in columns.iter_mut().zip(&self.places).zip(&self.fields) {
            let (Some(column), Some(place)) = (column, place) else {
                lanes.push(Arc::new(blank(field.kind.shape(), rows)));
                continue;
            };
            let wanted = (place.have, field.kind, field.nullable);
            let lane = column::read(column, (rows, place.is_optional), wanted, &mut faults)?;
            lanes.push(Arc::new(lane.finish()));
            for (row, fault) in faults.drain(..) {
                bad.push(Bad {
                    line: first + long(row),
                    column: Some(field.name.clone()),
                    fault: Some(fault),
                    reason: String::new(),
                });
            }
        }
        *rest -= rows;
        self.at.1 += rows;
        self.given += long(rows);
        let mut batch = Batch {
            lanes,
            rows,
            origin: Origin::Run(first),
            marks: Marks {
                after: Marks::START,
                rows: None,
            },
        };
        let crc = crc(&batch);
        bad.sort_by_key(|bad| bad.line);
        bad.dedup_by_key(|bad| bad.line);
        if !bad.is_empty() {
            let is_good = |row: &u32| {
                let line = first + u64::from(*row);
                bad.binary_search_by_key(&line, |bad| bad.line).is_err()
            };
            let kept: Vec<u32> = (0..holm_lanes::number(rows)).filter(is_good).collect();
            batch = batch.take(&kept);
        }
        Ok(Columns {
            bytes: size(&batch),
            batch,
            bad,
            position: Position::of(&[long(self.at.0), long(self.at.1), self.given]),
            crc,
        })
    }
}

impl Source for ParquetSource {
    fn name(&self) -> &str {
        &self.name
    }

    fn header(&self) -> Option<&str> {
        None
    }

    /// The next 4,096 rows or those that their row group still has, however many bytes they are:
    /// batches are the same ones when they are read again.
    fn take(&mut self, credit: usize, _wait: Duration) -> Result<Taken, SourceError> {
        loop {
            if self.is_stopped || self.at.0 >= self.file.num_row_groups() {
                return Ok(Taken::End);
            }
            if credit == 0 {
                return Ok(Taken::Nothing);
            }
            if self.group.is_none() {
                self.open_group().map_err(|error| self.failed(&error))?;
            }
            let rest = self.group.as_ref().map_or(0, |group| group.1);
            if rest == 0 {
                self.group = None;
                self.at = (self.at.0 + 1, 0);
                continue;
            }
            let columns = self.batch(rest.min(ROWS));
            return columns
                .map(Taken::Columns)
                .map_err(|error| self.failed(&error));
        }
    }

    fn acknowledge(&mut self, _through: &Position) {}

    fn seek(&mut self, position: &Position) -> Result<(), SourceError> {
        self.group = None;
        let numbers = position.numbers().unwrap_or_default();
        let place = |number: u64| usize::try_from(number).ok();
        match numbers.as_slice() {
            [] => (self.at, self.given) = ((0, 0), 0),
            [group, row, given] => {
                let at = place(*group).zip(place(*row));
                let is_there = |at: &(usize, usize)| {
                    at.0 < self.file.num_row_groups() && at.1 <= self.rows_of(at.0)
                };
                let at = at.filter(is_there).ok_or_else(|| {
                    let reason = format!(
                        "it was read to row {row} of row group {group}, which is not there; it is another file"
                    );
                    SourceError::refused(&self.name, reason)
                })?;
                (self.at, self.given) = (at, *given);
            }
            _ => {
                let reason = "the position is none of a Parquet file's";
                return Err(SourceError::refused(&self.name, reason));
            }
        }
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

/// The schema of a Parquet file. `time` names the column of event time; without it that is the only
/// column of times.
///
/// # Errors
///
/// If it is no Parquet, or cannot be read.
pub fn infer_parquet<R: ChunkReader + 'static>(
    name: &str,
    file: R,
    time: Option<&str>,
) -> Result<Guess, SourceError> {
    guess(name, reader(name, file)?, time)
}

fn guess(name: &str, file: Box<dyn FileReader>, time: Option<&str>) -> Result<Guess, SourceError> {
    let schema = file.metadata().file_metadata().schema_descr_ptr();
    let (mut fields, mut nested) = (Vec::new(), Vec::new());
    for column in schema.columns() {
        let root = column.path().parts().first().cloned().unwrap_or_default();
        let is_flat = column.path().parts().len() == 1 && column.max_rep_level() == 0;
        match Have::of(column) {
            Ok(have) if is_flat => fields.push(Field {
                name: root,
                kind: have.kind(),
                nullable: column.max_def_level() > 0,
            }),
            _ if !nested.contains(&root) => nested.push(root),
            _ => {}
        }
    }
    let time = crate::guess::time_of(&fields, time);
    let rows = file.metadata().file_metadata().num_rows();
    let looked_at = usize::try_from(rows).unwrap_or(0).min(LOOKED_AT);
    let mut disorder = 0;
    if let Some(time) = &time {
        let field: Vec<Field> = fields
            .iter()
            .filter(|it| it.name == *time)
            .cloned()
            .collect();
        let mut source = ParquetSource::new(name, file, &field, &[true])?;
        let mut most = i64::MIN;
        let mut seen = 0;
        while seen < looked_at
            && let Taken::Columns(columns) = source.take(usize::MAX, Duration::ZERO)?
        {
            let times = columns.batch.lanes[0].ints().unwrap_or_default();
            for time in times.iter().take(looked_at - seen) {
                most = most.max(*time);
                disorder = disorder.max(most - time);
            }
            seen += times.len().max(1);
        }
    }
    Ok(Guess {
        fields,
        rows: looked_at,
        time,
        disorder,
        nested,
    })
}

fn reader<R: ChunkReader + 'static>(
    name: &str,
    from: R,
) -> Result<Box<dyn FileReader>, SourceError> {
    let opened = SerializedFileReader::new(from);
    let opened = opened.map_err(|error| SourceError::refused(name, words(&error)))?;
    Ok(Box::new(opened))
}

/// What is wrong, with what would help.
fn words(error: &ParquetError) -> String {
    let text = error.to_string();
    let is_codec = text.contains("Disabled feature") || text.contains("compression");
    if is_codec {
        return format!("{text}; SNAPPY and none are read: write it with one of those");
    }
    format!("no Parquet that can be read: {text}")
}

/// Where a column lies in a file.
fn place(file: &dyn FileReader, field: &Field) -> Result<Place, String> {
    let schema = file.metadata().file_metadata().schema_descr_ptr();
    let is_it = |parts: &[String]| parts.first() == Some(&field.name);
    let found = schema.columns().iter().enumerate();
    let mut found = found.filter(|(_, column)| is_it(column.path().parts()));
    let Some((leaf, column)) = found.next() else {
        let roots = schema.root_schema().get_fields();
        let names: Vec<&str> = roots.iter().map(|root| root.name()).collect();
        let names = names.join(", ");
        return Err(format!("there is no column {}; it has {names}", field.name));
    };
    if column.path().parts().len() > 1 || column.max_rep_level() > 0 {
        return Err(format!(
            "column {} is nested; flat columns are read",
            field.name
        ));
    }
    let have = Have::of(column);
    let have =
        have.map_err(|have| format!("column {} is {have}, which is not read", field.name))?;
    if !have.fits(field.kind) {
        return Err(format!(
            "column {} is {} and the table says {}; declare it so, and CAST it in the query",
            field.name,
            have.kind(),
            field.kind
        ));
    }
    Ok(Place {
        leaf,
        have,
        is_optional: column.max_def_level() > 0,
    })
}

fn skip(column: &mut ColumnReader, rows: usize) -> Result<(), ParquetError> {
    let skipped = match column {
        ColumnReader::BoolColumnReader(reader) => reader.skip_records(rows),
        ColumnReader::Int32ColumnReader(reader) => reader.skip_records(rows),
        ColumnReader::Int64ColumnReader(reader) => reader.skip_records(rows),
        ColumnReader::Int96ColumnReader(reader) => reader.skip_records(rows),
        ColumnReader::FloatColumnReader(reader) => reader.skip_records(rows),
        ColumnReader::DoubleColumnReader(reader) => reader.skip_records(rows),
        ColumnReader::ByteArrayColumnReader(reader) => reader.skip_records(rows),
        ColumnReader::FixedLenByteArrayColumnReader(reader) => reader.skip_records(rows),
    };
    let skipped = skipped?;
    if skipped == rows {
        return Ok(());
    }
    Err(ParquetError::General(format!(
        "{rows} rows were to be skipped, and {skipped} are there"
    )))
}

/// A checksum of rows as they were read.
fn crc(batch: &Batch) -> u32 {
    let mut to = Saver::new();
    batch.lanes.iter().for_each(|lane| to.lane(lane));
    crc32c::crc32c(&to.finish())
}

/// About how many bytes rows take.
fn size(batch: &Batch) -> usize {
    let of = |lane: &Arc<Lane>| match lane.values() {
        Values::Text(texts) => texts.size() + 8 * lane.len(),
        Values::Bool(_) => lane.len(),
        Values::Wide(_) => 16 * lane.len(),
        Values::Int(_) | Values::Real(_) => 8 * lane.len(),
    };
    batch.lanes.iter().map(of).sum()
}

fn long(count: usize) -> u64 {
    u64::try_from(count).expect("memory is smaller")
}
