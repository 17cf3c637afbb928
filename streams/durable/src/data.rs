//! Bytes of records with rows, in each version.

use std::sync::Arc;

use holm_encode::{Decoder, Encoder};
use holm_lanes::{Batch, Lane, LoadError, Loader, Marks, Origin, Saver, Values};

use crate::record::{Behind, Data};

pub(crate) const VERSION: u8 = 1;
/// Of data with a key.
pub(crate) const KEYED: u8 = 2;
/// Of data behind filters, with a key or without.
pub(crate) const BEHIND: u8 = 3;
/// The most rows of a batch: 16 MiB of the shortest ones, which is what a feed holds, has fewer.
const ROWS_MAX: usize = 1 << 23;
/// Flags of version 3.
const HAS_KEY: u8 = 1;
const HAS_LINES: u8 = 2;
const HAS_MARKS: u8 = 4;

fn invalid(what: &'static str) -> LoadError {
    LoadError::Invalid { what }
}

fn lane_of(numbers: Vec<i64>) -> Lane {
    Lane::dense(Values::Int(numbers))
}

pub(crate) fn write(data: &Data, sequence: u64, to: &mut Saver) {
    if let Some(behind) = &data.behind {
        return write_behind(data, behind, sequence, to);
    }
    if let Some(key) = &data.key {
        write_key(key, to);
    }
    write_head(data, to);
    let mut columns = Vec::new();
    let mut encoder = encoder(data.batch.lanes.len(), sequence);
    match &data.batch.origin {
        Origin::Run(first) => {
            to.byte(0);
            to.word(*first);
        }
        Origin::Rows(rows) => {
            to.byte(1);
            encoder.lane(&lines_of(rows), &mut columns);
        }
    }
    let lanes = &data.batch.lanes;
    to.small(u32::try_from(lanes.len()).expect("a batch has few columns"));
    lanes
        .iter()
        .for_each(|lane| encoder.lane(lane, &mut columns));
    to.bytes(&columns);
}

fn encoder(lanes: usize, sequence: u64) -> Encoder {
    let lanes = u64::try_from(lanes).expect("a batch has few columns");
    Encoder::after(sequence.wrapping_mul(lanes))
}

fn lines_of(rows: &[u64]) -> Lane {
    lane_of(rows.iter().map(|row| row.cast_signed()).collect())
}

fn write_key((name, digest): &(String, u64), to: &mut Saver) {
    to.bytes(name.as_bytes());
    to.word(*digest);
}

fn write_head(data: &Data, to: &mut Saver) {
    to.small(data.source);
    to.bytes(&data.position);
    to.word(data.lines);
    to.word(data.bad);
    to.count(data.batch.rows);
}

fn write_behind(data: &Data, behind: &Behind, sequence: u64, to: &mut Saver) {
    let batch = &data.batch;
    let (lines, marks) = (&batch.origin, &batch.marks.rows);
    let flag = |is_set: bool, flag: u8| if is_set { flag } else { 0 };
    let has_lines = matches!(lines, Origin::Rows(_));
    let flags = [
        flag(data.key.is_some(), HAS_KEY),
        flag(has_lines, HAS_LINES),
        flag(marks.is_some(), HAS_MARKS),
    ];
    to.byte(flags.iter().sum());
    if let Some(key) = &data.key {
        write_key(key, to);
    }
    to.small(behind.way);
    to.small(behind.nodes);
    to.word(behind.rows);
    to.word(behind.diverted);
    to.int(batch.marks.after);
    let read: Vec<u8> = behind.read.iter().copied().map(u8::from).collect();
    to.bytes(&read);
    write_head(data, to);
    let mut columns = Vec::new();
    let mut encoder = encoder(batch.lanes.len(), sequence);
    match lines {
        Origin::Run(first) => to.word(*first),
        Origin::Rows(rows) => encoder.lane(&lines_of(rows), &mut columns),
    }
    if let Some(marks) = marks {
        encoder.lane(&lane_of(marks.clone()), &mut columns);
    }
    for (lane, is_read) in batch.lanes.iter().zip(&behind.read) {
        if *is_read {
            encoder.lane(lane, &mut columns);
        }
    }
    to.bytes(&columns);
}

pub(crate) fn read(from: &mut Loader<'_>, version: u8) -> Result<Data, LoadError> {
    match version {
        BEHIND => read_behind(from),
        version => read_whole(from, version == KEYED),
    }
}

fn read_key(from: &mut Loader<'_>) -> Result<(String, u64), LoadError> {
    let name = std::str::from_utf8(from.bytes()?);
    let name = name.map_err(|_wrong| invalid("key"))?;
    Ok((name.to_owned(), from.word()?))
}

/// What stands before the rows, without those.
fn read_head(from: &mut Loader<'_>) -> Result<(Data, usize), LoadError> {
    let data = Data {
        source: from.small()?,
        position: from.bytes()?.to_vec(),
        lines: from.word()?,
        bad: from.word()?,
        key: None,
        batch: Batch::of(Vec::new()),
        behind: None,
    };
    let rows = from.word()?;
    let rows = usize::try_from(rows).map_err(|_large| invalid("count"))?;
    Ok((data, rows))
}

fn column(columns: &mut Decoder<'_>) -> Result<Lane, LoadError> {
    let lane = columns.lane(ROWS_MAX);
    lane.map_err(|_wrong| invalid("column"))
}

/// A column of numbers, one for each row.
fn numbers(columns: &mut Decoder<'_>, rows: usize) -> Result<Vec<i64>, LoadError> {
    let lane = column(columns)?;
    let numbers = lane.ints().filter(|numbers| numbers.len() == rows);
    Ok(numbers.ok_or_else(|| invalid("lines"))?.to_vec())
}

fn lines(columns: &mut Decoder<'_>, rows: usize) -> Result<Origin, LoadError> {
    let lines = numbers(columns, rows)?.into_iter();
    Ok(Origin::Rows(lines.map(i64::cast_unsigned).collect()))
}

fn read_whole(from: &mut Loader<'_>, is_keyed: bool) -> Result<Data, LoadError> {
    let key = is_keyed.then(|| read_key(from)).transpose()?;
    let (mut data, rows) = read_head(from)?;
    let first = match from.byte()? {
        0 => Some(from.word()?),
        1 => None,
        _ => return Err(invalid("origin")),
    };
    let count = from.small()?;
    let mut columns = Decoder::new(from.bytes()?);
    let origin = match first {
        Some(first) => Origin::Run(first),
        None => lines(&mut columns, rows)?,
    };
    let mut lanes = Vec::new();
    for _ in 0..count {
        lanes.push(Arc::new(column(&mut columns)?));
    }
    if lanes.iter().any(|lane| lane.len() != rows) || !columns.rest().is_empty() {
        return Err(invalid("rows"));
    }
    data.key = key;
    data.batch = Batch {
        lanes,
        rows,
        origin,
        marks: Marks {
            after: Marks::START,
            rows: None,
        },
    };
    Ok(data)
}

fn read_behind(from: &mut Loader<'_>) -> Result<Data, LoadError> {
    let flags = from.byte()?;
    if flags > HAS_KEY + HAS_LINES + HAS_MARKS {
        return Err(invalid("flags"));
    }
    let has = |flag: u8| flags & flag != 0;
    let key = has(HAS_KEY).then(|| read_key(from)).transpose()?;
    let mut behind = Behind {
        way: from.small()?,
        nodes: from.small()?,
        rows: from.word()?,
        diverted: from.word()?,
        read: Vec::new(),
    };
    let after = from.int()?;
    for is_read in from.bytes()? {
        match is_read {
            0 | 1 => behind.read.push(*is_read == 1),
            _ => return Err(invalid("columns")),
        }
    }
    let (mut data, rows) = read_head(from)?;
    let first = (!has(HAS_LINES)).then(|| from.word()).transpose()?;
    let mut columns = Decoder::new(from.bytes()?);
    let origin = match first {
        Some(first) => Origin::Run(first),
        None => lines(&mut columns, rows)?,
    };
    let marks = has(HAS_MARKS).then(|| numbers(&mut columns, rows));
    let marks = marks.transpose()?;
    let mut lanes = vec![None; behind.read.len()];
    for at in (0..lanes.len()).filter(|at| behind.read[*at]) {
        let lane = column(&mut columns)?;
        lanes[at] = Some(Arc::new(lane));
    }
    let mut found = lanes.iter().flatten();
    if found.any(|lane| lane.len() != rows) || !columns.rest().is_empty() {
        return Err(invalid("rows"));
    }
    // One that is read stands where nobody reads.
    let first = lanes.iter().flatten().next().cloned();
    let first = first.ok_or_else(|| invalid("columns"))?;
    let lanes = lanes.into_iter();
    data.key = key;
    data.behind = Some(behind);
    data.batch = Batch {
        lanes: lanes
            .map(|lane| lane.unwrap_or_else(|| Arc::clone(&first)))
            .collect(),
        rows,
        origin,
        marks: Marks { after, rows: marks },
    };
    Ok(data)
}
