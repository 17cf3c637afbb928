//! Rows that come again: those whose columns were seen before are dropped, and counted.
//!
//! What was seen lies in two tables, the newer and the older one. When the newer is half of what
//! may be remembered, or half an hour of the rows' own time old, it becomes the older, and what was
//! there is forgotten. When that is depends on rows alone, not on how they are cut or on a clock.

use holm_lanes::{Batch, Keys, Lane, LoadError, Loader, Marks, NO_CODE, Saver, Shape, number};
use holm_window::Gauge;

/// Half of the time for which a row is remembered, in microseconds.
const HALF: i64 = 1_800_000_000;

/// How many rows of a source came again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Repeated {
    /// The source.
    pub source: usize,
    /// Rows that were dropped, for they were seen before.
    pub dropped: u64,
    /// Rows that are remembered.
    pub known: u64,
    /// Rows that were remembered and are no more: if they come again, they count again.
    pub forgotten: u64,
}

/// What was seen.
#[derive(Clone, Debug)]
pub(crate) struct Repeats {
    columns: Vec<usize>,
    shapes: Vec<Shape>,
    time: Option<usize>,
    half: usize,
    newer: Keys,
    older: Keys,
    /// The largest time when the newer table was begun, and the largest of all.
    begun: i64,
    latest: i64,
    dropped: u64,
    forgotten: u64,
}

impl Repeats {
    /// Nothing was seen of these columns, and `limit` rows are remembered at most.
    pub(crate) fn new(columns: &[(usize, Shape)], time: Option<usize>, limit: usize) -> Self {
        let shapes: Vec<Shape> = columns.iter().map(|(_, shape)| *shape).collect();
        let keys = || Keys::new(shapes.clone(), usize::MAX, 0);
        Self {
            columns: columns.iter().map(|(column, _)| *column).collect(),
            time,
            half: (limit / 2).max(1),
            newer: keys(),
            older: keys(),
            begun: Marks::START,
            latest: Marks::START,
            dropped: 0,
            forgotten: 0,
            shapes,
        }
    }

    /// The rows that were not seen before. One with a NULL among its columns always counts.
    pub(crate) fn pass(&mut self, batch: &Batch) -> Batch {
        let lanes = self.columns.iter().map(|column| &*batch.lanes[*column]);
        let lanes: Vec<&Lane> = lanes.collect();
        let times = self.time.and_then(|time| batch.lanes[time].ints());
        let mut kept = Vec::with_capacity(batch.rows);
        for row in 0..batch.rows {
            if let Some(times) = times {
                self.grow_older(times[row]);
            }
            if lanes.iter().any(|lane| lane.is_null(row)) {
                kept.push(number(row));
            } else if self.older.find(&lanes, row).is_some() || self.is_known(&lanes, row) {
                self.dropped += 1;
            } else {
                kept.push(number(row));
                if self.newer.len() >= self.half {
                    self.turn();
                }
            }
        }
        if kept.len() == batch.rows {
            return batch.clone();
        }
        batch.take(&kept)
    }

    /// Whether the newer table has a row; it has it afterwards.
    fn is_known(&mut self, lanes: &[&Lane], row: usize) -> bool {
        let before = self.newer.len();
        let code = self.newer.code_of(lanes, row);
        assert_ne!(code, NO_CODE, "half of what is remembered has codes");
        self.newer.len() == before
    }

    fn grow_older(&mut self, time: i64) {
        if self.latest == Marks::START {
            self.begun = time;
        }
        self.latest = self.latest.max(time);
        let age = self.latest.saturating_sub(self.begun);
        if age >= HALF {
            self.turn();
        }
        if age >= 2 * HALF {
            self.turn();
        }
    }

    fn turn(&mut self) {
        let empty = Keys::new(self.shapes.clone(), usize::MAX, 0);
        let newer = std::mem::replace(&mut self.newer, empty);
        self.forgotten += wide(self.older.len());
        self.older = newer;
        self.begun = self.latest;
    }

    pub(crate) fn gauge(&self) -> Gauge {
        Gauge {
            panes: 0,
            keys: 0,
            bytes: self.newer.bytes() + self.older.bytes(),
        }
    }

    pub(crate) fn repeated(&self, source: usize) -> Repeated {
        Repeated {
            source,
            dropped: self.dropped,
            known: wide(self.newer.len() + self.older.len()),
            forgotten: self.forgotten,
        }
    }

    pub(crate) fn save(&self, to: &mut Saver) {
        self.newer.save(to);
        self.older.save(to);
        to.int(self.begun);
        to.int(self.latest);
        to.word(self.dropped);
        to.word(self.forgotten);
    }

    pub(crate) fn load(&mut self, from: &mut Loader<'_>) -> Result<(), LoadError> {
        self.newer.load(from)?;
        self.older.load(from)?;
        self.begun = from.int()?;
        self.latest = from.int()?;
        self.dropped = from.word()?;
        self.forgotten = from.word()?;
        Ok(())
    }
}

fn wide(count: usize) -> u64 {
    u64::try_from(count).expect("what is in memory is counted in 64 bits")
}
