//! Rows that wait for their window to end.

use std::collections::BTreeMap;

use holm_lanes::{Batch, Lane, LaneBuilder, LoadError, Loader, Marks, Saver};
use holm_window::Gauge;

use crate::run::Full;

/// Rows of one window, lane by lane.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    builders: Vec<LaneBuilder>,
}

impl Held {
    fn like(batch: &Batch) -> Self {
        let builder = |lane: &std::sync::Arc<Lane>| LaneBuilder::new(lane.shape());
        Self {
            builders: batch.lanes.iter().map(builder).collect(),
        }
    }

    pub(crate) fn into_batch(self) -> Batch {
        Batch::of(self.builders.into_iter().map(LaneBuilder::finish).collect())
    }
}

/// Rows by the end and start of their window.
#[derive(Clone, Debug)]
pub(crate) struct Buffer {
    window: Option<(usize, usize)>,
    open: BTreeMap<(i64, i64), Held>,
    rows: usize,
    limit: usize,
}

impl Buffer {
    pub(crate) const fn new(window: Option<(usize, usize)>, limit: usize) -> Self {
        Self {
            window,
            open: BTreeMap::new(),
            rows: 0,
            limit,
        }
    }

    /// Holds the rows of a batch.
    pub(crate) fn hold(&mut self, batch: &Batch, what: &'static str) -> Result<(), Full> {
        self.rows += batch.rows;
        if self.rows > self.limit {
            let limit = self.limit;
            return Err(Full { what, limit });
        }
        let ints = |lane: usize| batch.lanes[lane].ints().unwrap_or_default();
        let window = self.window.map(|(start, end)| (ints(start), ints(end)));
        let of =
            |row: usize| window.map_or((Marks::END, 0), |(starts, ends)| (ends[row], starts[row]));
        let mut from = 0;
        while from < batch.rows {
            let key = of(from);
            let end = (from..batch.rows)
                .find(|row| of(*row) != key)
                .unwrap_or(batch.rows);
            let held = self.open.entry(key).or_insert_with(|| Held::like(batch));
            for (builder, lane) in held.builders.iter_mut().zip(&batch.lanes) {
                builder.extend_from(lane, from..end);
            }
            from = end;
        }
        Ok(())
    }

    /// The column with the end of a window.
    pub(crate) const fn end(&self) -> Option<usize> {
        match self.window {
            Some((_, end)) => Some(end),
            None => None,
        }
    }

    /// How much it keeps.
    pub(crate) fn gauge(&self) -> Gauge {
        let held = self.open.values().flat_map(|held| &held.builders);
        Gauge {
            panes: self.open.len(),
            keys: 0,
            bytes: held.map(LaneBuilder::bytes).sum(),
        }
    }

    /// The end and start of the first window that a mark has passed.
    pub(crate) fn due(&self, mark: i64) -> Option<(i64, i64)> {
        let key = self.open.keys().next()?;
        (key.0 <= mark).then_some(*key)
    }

    /// Lets a window's rows go.
    pub(crate) fn release(&mut self, key: (i64, i64)) -> Option<Batch> {
        let batch = self.open.remove(&key)?.into_batch();
        self.rows -= batch.rows;
        Some(batch)
    }
}

/// State as bytes, and back.
impl Buffer {
    pub(crate) fn save(&self, to: &mut Saver) {
        to.count(self.open.len());
        for ((end, start), held) in &self.open {
            to.int(*end);
            to.int(*start);
            to.count(held.builders.len());
            held.builders.iter().for_each(|lane| to.builder(lane));
        }
    }

    pub(crate) fn load(&mut self, from: &mut Loader<'_>) -> Result<(), LoadError> {
        for _ in 0..from.count(24)? {
            let window = (from.int()?, from.int()?);
            let lanes = from.count(9)?;
            let builders = from.many(lanes, |from| {
                let lane = from.lane()?;
                let mut builder = LaneBuilder::new(lane.shape());
                (0..lane.len()).for_each(|row| builder.push_from(&lane, row));
                Ok(builder)
            })?;
            let rows = builders.first().map_or(0, LaneBuilder::len);
            if builders.iter().any(|builder| builder.len() != rows) {
                return Err(LoadError::Invalid { what: "rows" });
            }
            self.rows += rows;
            self.open.insert(window, Held { builders });
        }
        Ok(())
    }
}
