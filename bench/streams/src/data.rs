//! Records that are made: the same ones as rows and as columns.

use std::sync::Arc;

use holm_base::Prng;
use holm_lanes::{Batch, Lane, Origin, Values};

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
    let made = match column.made {
        Made::Time => 1_767_607_200_000_000 + row * 1_000_000 / case.rate,
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

/// Takes records apart, column by column.
pub(crate) fn lanes(case: &Case, records: &[u8]) -> Batch {
    let lane = |column: &Column| {
        let rows = records.chunks_exact(case.row);
        let (at, end) = (column.at, column.at + 8);
        Arc::new(Lane::dense(match column.wire {
            Wire::Long => Values::Int(
                rows.map(|row| {
                    i64::from_le_bytes(*row[at..end].first_chunk().expect("eight bytes"))
                })
                .collect(),
            ),
            Wire::Int => Values::Int(
                rows.map(|row| {
                    i64::from(i32::from_le_bytes(
                        *row[at..].first_chunk().expect("four bytes"),
                    ))
                })
                .collect(),
            ),
            Wire::F32 => Values::Real(
                rows.map(|row| {
                    f64::from(f32::from_le_bytes(
                        *row[at..].first_chunk().expect("four bytes"),
                    ))
                })
                .collect(),
            ),
        }))
    };
    let lanes: Vec<Arc<Lane>> = case.columns.iter().map(lane).collect();
    let rows = records.len() / case.row;
    let mut batch = Batch::of(Vec::new());
    batch.lanes = lanes;
    batch.rows = rows;
    batch
}

/// All records as columns, batch by batch.
pub(crate) fn columns(case: &Case, rows: &Rows) -> Vec<Batch> {
    let pieces = rows.bytes.chunks(case.row * BATCH);
    pieces.map(|piece| lanes(case, piece)).collect()
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
