//! Records that are made: the same ones as rows and as columns.

use std::sync::Arc;

use holm_base::Prng;
use holm_lanes::{Batch, Lane, Narrow, Origin, Values};

use crate::case::{Case, Column, Made, Wire};

/// Records of a batch: their lanes fit half of a core's second cache.
pub(crate) const BATCH: usize = 16_384;

/// Cars on the roads.
const CARS: u64 = 50_000;

/// Records, one behind the other.
pub(crate) struct Rows {
    pub(crate) bytes: Vec<u8>,
}

fn value(column: &Column, case: &Case, row: u64, prng: &mut Prng) -> i64 {
    let time = || 1_767_607_200_000_000 + row * 1_000_000 / case.rate;
    let made = match column.made {
        Made::Time => time(),
        Made::LateTime if prng.below(10) > 0 => time(),
        Made::LateTime => time() - prng.below(90_000_000),
        Made::Below(bound) | Made::Real(bound) => prng.below(bound),
        Made::Kind(of) => u64::from(prng.below(of) == 0),
        Made::Car => row % CARS,
        Made::Highway => row % CARS % 10,
        Made::Direction => row % CARS / 10 % 2,
        Made::Position => (row % CARS / 20 * 5_280 + row / CARS * 300) % 528_000,
    };
    made.cast_signed()
}

fn real(thousandths: i64) -> f64 {
    let small = i32::try_from(thousandths).expect("a reading is small");
    f64::from(small) / 1_000.0
}

/// Makes records.
pub(crate) fn rows(case: &Case, count: usize) -> Rows {
    let mut bytes = vec![0; case.row * count];
    let mut prng = Prng::new(11);
    for (row, record) in (0_u64..).zip(bytes.chunks_exact_mut(case.row)) {
        for column in case.columns {
            let made = value(column, case, row, &mut prng);
            let place = &mut record[column.at..];
            match column.wire {
                Wire::Long => place[..8].copy_from_slice(&made.to_le_bytes()),
                Wire::Int => {
                    let made = i32::try_from(made).expect("it is made small");
                    place[..4].copy_from_slice(&made.to_le_bytes());
                }
                Wire::F32 => place[..4].copy_from_slice(&single(real(made)).to_le_bytes()),
            }
        }
    }
    Rows { bytes }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "records hold single floats"
)]
const fn single(value: f64) -> f32 {
    value as f32
}

/// Records that are taken apart together: they stay in a core's first cache while they are.
const BLOCK: usize = 128;

/// Values of a column so far.
enum Part {
    Longs(Vec<i64>),
    Ints(Vec<i32>),
    Singles(Vec<f32>),
}

/// Takes records apart, a few at a time, and of those the columns that somebody reads.
pub(crate) fn lanes(case: &Case, needed: &[bool], records: &[u8]) -> Batch {
    match case.row {
        32 => apart::<32>(case, needed, records),
        64 => apart::<64>(case, needed, records),
        128 => apart::<128>(case, needed, records),
        other => panic!("records have 32, 64 or 128 bytes, not {other}"),
    }
}

fn apart<const ROW: usize>(case: &Case, needed: &[bool], records: &[u8]) -> Batch {
    let (rows, _) = records.as_chunks::<ROW>();
    let columns = || case.columns.iter().zip(needed);
    let mut parts: Vec<Part> = columns()
        .map(|(column, is_needed)| match (column.wire, is_needed) {
            (_, false) => Part::Ints(Vec::new()),
            (Wire::Long, true) => Part::Longs(Vec::with_capacity(rows.len())),
            (Wire::Int, true) => Part::Ints(Vec::with_capacity(rows.len())),
            (Wire::F32, true) => Part::Singles(Vec::with_capacity(rows.len())),
        })
        .collect();
    for block in rows.chunks(BLOCK) {
        for ((column, is_needed), part) in columns().zip(&mut parts) {
            if *is_needed {
                take_apart(column, block, part);
            }
        }
    }
    let lane = |part| {
        Arc::new(match part {
            Part::Longs(values) => Lane::dense(Values::Int(values)),
            Part::Ints(values) => Lane::narrow(Narrow::Ints(values)),
            Part::Singles(values) => Lane::narrow(Narrow::Singles(values)),
        })
    };
    let mut lanes: Vec<Arc<Lane>> = parts.into_iter().map(lane).collect();
    // Where nobody reads, times stand as well as anything.
    let times = Arc::clone(&lanes[0]);
    for (lane, is_needed) in lanes.iter_mut().zip(needed) {
        if !is_needed {
            *lane = Arc::clone(&times);
        }
    }
    let mut batch = Batch::of(Vec::new());
    batch.lanes = lanes;
    batch.rows = rows.len();
    batch
}

fn take_apart<const ROW: usize>(column: &Column, block: &[[u8; ROW]], part: &mut Part) {
    let at = column.at;
    let wide = if column.wire == Wire::Long { 8 } else { 4 };
    assert!(at + wide <= ROW, "a column lies within its record");
    let four = |row: &[u8; ROW]| *row[at..].first_chunk::<4>().expect("four bytes");
    match (part, column.wire) {
        (Part::Longs(values), Wire::Long) => values.extend(
            block
                .iter()
                .map(|row| i64::from_le_bytes(*row[at..].first_chunk().expect("eight bytes"))),
        ),
        (Part::Ints(values), Wire::Int) => {
            values.extend(block.iter().map(|row| i32::from_le_bytes(four(row))));
        }
        (Part::Singles(values), Wire::F32) => {
            values.extend(block.iter().map(|row| f32::from_le_bytes(four(row))));
        }
        (Part::Longs(_) | Part::Ints(_) | Part::Singles(_), _) => {
            panic!("a column keeps its type")
        }
    }
}

/// All records as columns, batch by batch.
pub(crate) fn columns(case: &Case, rows: &Rows) -> Vec<Batch> {
    columns_read(case, &vec![true; case.columns.len()], rows)
}

/// The same of those columns that somebody reads.
pub(crate) fn columns_read(case: &Case, needed: &[bool], rows: &Rows) -> Vec<Batch> {
    let pieces = rows.bytes.chunks(case.row * BATCH);
    pieces.map(|piece| lanes(case, needed, piece)).collect()
}

/// The table of ads: each is of one of a hundred campaigns.
pub(crate) fn table() -> Batch {
    let ads = (0..1_000).collect();
    let campaigns = (0..1_000).map(|ad| ad % 100).collect();
    Batch::of(vec![
        Lane::dense(Values::Int(ads)),
        Lane::dense(Values::Int(campaigns)),
    ])
}

/// A batch as it comes from a source: its first record has this number.
pub(crate) fn numbered(mut batch: Batch, first: usize) -> Batch {
    batch.origin = Origin::Run(u64::try_from(first).expect("memory is smaller"));
    batch
}
