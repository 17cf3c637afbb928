//! Rows that travel together: their lanes, where they came from and what the watermark was.

use std::sync::Arc;

use crate::index;
use crate::lane::{Lane, LaneBuilder};

/// Where rows came from: line numbers of the input, for messages and for order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Consecutive, from this one on.
    Run(u64),
    /// One for each row.
    Rows(Vec<u64>),
}

impl Origin {
    /// The number of a row.
    #[must_use]
    pub fn at(&self, row: usize) -> u64 {
        match self {
            Self::Run(first) => first + u64::try_from(row).expect("a row's place fits 64 bits"),
            Self::Rows(rows) => rows[row],
        }
    }
}

/// The watermark around a batch: no row below it is expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Marks {
    /// As it stands after the batch.
    pub after: i64,
    /// As it stood before each row; left out where every row is above it.
    pub rows: Option<Vec<i64>>,
}

impl Marks {
    /// The watermark of a stream that has not begun.
    pub const START: i64 = i64::MIN;
    /// The watermark of a stream that has ended.
    pub const END: i64 = i64::MAX;
}

/// Rows in lanes.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// The columns.
    pub lanes: Vec<Arc<Lane>>,
    /// How many rows each has (I1).
    pub rows: usize,
    /// Where the rows came from.
    pub origin: Origin,
    /// The watermark.
    pub marks: Marks,
}

impl Batch {
    /// A batch of lanes, for tests and results: from row 0 on, with a watermark that has not begun.
    ///
    /// # Panics
    ///
    /// If lanes differ in length (I1).
    #[must_use]
    pub fn of(lanes: Vec<Lane>) -> Self {
        let rows = lanes.first().map_or(0, Lane::len);
        assert!(
            lanes.iter().all(|lane| lane.len() == rows),
            "I1: lanes of one batch are equally long"
        );
        Self {
            lanes: lanes.into_iter().map(Arc::new).collect(),
            rows,
            origin: Origin::Run(0),
            marks: Marks {
                after: Marks::START,
                rows: None,
            },
        }
    }

    /// The rows that are named, with their origins and marks.
    #[must_use]
    pub fn take(&self, rows: &[u32]) -> Self {
        Self {
            lanes: self
                .lanes
                .iter()
                .map(|lane| Arc::new(lane.take(rows)))
                .collect(),
            rows: rows.len(),
            origin: Origin::Rows(rows.iter().map(|row| self.origin.at(index(*row))).collect()),
            marks: Marks {
                after: self.marks.after,
                rows: self
                    .marks
                    .rows
                    .as_ref()
                    .map(|marks| rows.iter().map(|row| marks[index(*row)]).collect()),
            },
        }
    }

    /// These rows, and those of another batch of the same columns after them.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        let lanes = self.lanes.iter().zip(&other.lanes).map(|(ours, theirs)| {
            let mut lane = LaneBuilder::new(ours.shape());
            (0..self.rows).for_each(|row| lane.push_from(ours, row));
            (0..other.rows).for_each(|row| lane.push_from(theirs, row));
            lane.finish()
        });
        Self::of(lanes.collect())
    }

    /// The same rows with other lanes.
    ///
    /// # Panics
    ///
    /// If a lane is not as long as the batch (I1).
    #[must_use]
    pub fn with_lanes(&self, lanes: Vec<Arc<Lane>>) -> Self {
        assert!(
            lanes.iter().all(|lane| lane.len() == self.rows),
            "I1: lanes of one batch are equally long"
        );
        Self {
            lanes,
            rows: self.rows,
            origin: self.origin.clone(),
            marks: self.marks.clone(),
        }
    }
}
