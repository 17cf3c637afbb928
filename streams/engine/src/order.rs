//! Rows in an order of columns: NULLs first when it rises, last when it falls, as in Flink.

use std::cmp::Ordering;

use holm_lanes::{Batch, Lane, number, order};

/// The order of two rows of a batch.
fn compare(batch: &Batch, columns: &[(usize, bool)], left: u32, right: u32) -> Ordering {
    for (column, falls) in columns {
        let lane: &Lane = &batch.lanes[*column];
        let (left, right) = (holm_lanes::index(left), holm_lanes::index(right));
        let order = match (lane.is_null(left), lane.is_null(right)) {
            (true, true) => Ordering::Equal,
            (true, false) => Ordering::Less,
            (false, true) => Ordering::Greater,
            (false, false) => order(lane, left, lane, right),
        };
        let order = if *falls { order.reverse() } else { order };
        if order.is_ne() {
            return order;
        }
    }
    Ordering::Equal
}

/// The rows in order; equal ones as they came.
pub(crate) fn sorted(batch: &Batch, columns: &[(usize, bool)]) -> Vec<u32> {
    let mut rows: Vec<u32> = (0..number(batch.rows)).collect();
    rows.sort_by(|left, right| compare(batch, columns, *left, *right));
    rows
}
