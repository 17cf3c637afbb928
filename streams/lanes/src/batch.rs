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

    /// The numbers of the rows that are named.
    #[must_use]
    pub fn take(&self, rows: &[u32]) -> Self {
        Self::Rows(match self {
            Self::Run(first) => rows.iter().map(|row| first + u64::from(*row)).collect(),
            Self::Rows(numbers) => rows.iter().map(|row| numbers[index(*row)]).collect(),
        })
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
        self.take_read(rows, |_lane| true)
    }

    /// The same of lanes that somebody reads; one of those stands where nobody does.
    #[must_use]
    pub fn take_read(&self, rows: &[u32], is_read: impl Fn(usize) -> bool) -> Self {
        Self {
            lanes: self.each_read(is_read, |lane| Arc::new(lane.take(rows))),
            rows: rows.len(),
            origin: self.origin.take(rows),
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

    /// All rows of lanes that somebody reads; one of those stands where nobody does.
    #[must_use]
    pub fn read_only(&self, is_read: impl Fn(usize) -> bool) -> Self {
        self.with_lanes(self.each_read(is_read, Arc::clone))
    }

    fn each_read(
        &self,
        is_read: impl Fn(usize) -> bool,
        made: impl Fn(&Arc<Lane>) -> Arc<Lane>,
    ) -> Vec<Arc<Lane>> {
        let lanes = 0..self.lanes.len();
        let first = lanes.clone().find(|lane| is_read(*lane)).unwrap_or(0);
        let standing = self.lanes.get(first).map(&made);
        let lane = |at: usize| match &standing {
            Some(standing) if at == first || !is_read(at) => Arc::clone(standing),
            Some(_) | None => made(&self.lanes[at]),
        };
        lanes.map(lane).collect()
    }

    /// These rows, and those of another batch of the same columns after them.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        Self::together(&[self, other])
    }

    /// The rows of batches of the same columns, one after the other; one at least.
    ///
    /// # Panics
    ///
    /// If there is none.
    #[must_use]
    pub fn together<B: std::borrow::Borrow<Self>>(parts: &[B]) -> Self {
        let lanes = (0..parts[0].borrow().lanes.len()).map(|at| {
            let mut lane = LaneBuilder::new(parts[0].borrow().lanes[at].shape());
            for part in parts {
                let part = part.borrow();
                lane.extend_from(&part.lanes[at], 0..part.rows);
            }
            lane.finish()
        });
        Self::of(lanes.collect())
    }

    /// Some rows that follow one another, as they come from a source: it has no marks yet.
    ///
    /// # Panics
    ///
    /// If it has marks: those of a part are others.
    #[must_use]
    pub fn slice(&self, rows: std::ops::Range<usize>) -> Self {
        assert_eq!(
            self.marks.after,
            Marks::START,
            "a batch is cut before it is marked"
        );
        let origin = match &self.origin {
            Origin::Run(_) => Origin::Run(self.origin.at(rows.start)),
            Origin::Rows(numbers) => Origin::Rows(numbers[rows.clone()].to_vec()),
        };
        let lanes = self.lanes.iter();
        Self {
            lanes: lanes
                .map(|lane| Arc::new(lane.slice(rows.clone())))
                .collect(),
            rows: rows.len(),
            origin,
            marks: self.marks.clone(),
        }
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
