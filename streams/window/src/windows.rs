//! Windows of one query on a grid: rows into panes, panes into windows when the watermark passes
//! their end. All of it is [`Shared`], with one member.

use holm_lanes::{Batch, Keys, LoadError, Loader, Saver, Shape};

use crate::aggregate::Call;
use crate::assembler::Strategy;
use crate::closed::Pushed;
use crate::gauge::Gauge;
use crate::grid::Grid;
use crate::limits::Limits;
use crate::shared::{Query, Shared};

/// Aggregates of windows on a grid, by key.
#[derive(Clone, Debug)]
pub struct Windows {
    alone: Shared,
}

impl Windows {
    /// Windows over the times of a column, by the columns of a key, with the cheapest strategy.
    ///
    /// # Panics
    ///
    /// Never: a query shares with itself.
    #[must_use]
    pub fn new(
        grid: Grid,
        time: usize,
        keys: &[(usize, Shape)],
        calls: Vec<Call>,
        limits: Limits,
    ) -> Self {
        let strategy = None;
        let query = Query {
            grid,
            calls,
            strategy,
        };
        let alone = Shared::new(time, keys, &[query], limits);
        Self {
            alone: alone.expect("a query shares with itself"),
        }
    }

    /// The same with a strategy that is named, whatever it costs.
    #[must_use]
    pub fn with_strategy(mut self, strategy: Strategy) -> Self {
        self.alone.set_strategy(0, strategy);
        self
    }

    /// What comes out is grouped again, by some parts of the key: how many keys each group has,
    /// as so many results.
    #[must_use]
    pub fn counted_by(mut self, parts: &[(usize, Shape)], results: usize) -> Self {
        self.alone.count_by(0, parts, results);
        self
    }

    /// The key of each code that comes out.
    #[must_use]
    pub fn keys(&self) -> &Keys {
        self.alone.keys_of(0)
    }

    /// How much it keeps.
    #[must_use]
    pub fn gauge(&self) -> Gauge {
        self.alone.gauge()
    }

    /// Takes a batch, and closes what its watermark passes.
    ///
    /// # Panics
    ///
    /// If the column of times holds no times.
    pub fn push(&mut self, batch: &Batch) -> Pushed {
        self.alone.push(batch).pop().expect("it has one member")
    }

    /// Writes all that it holds.
    pub fn save(&self, to: &mut Saver) {
        self.alone.save(to);
    }

    /// Takes over what windows of the same query wrote; these must have seen nothing yet.
    ///
    /// # Errors
    ///
    /// If it is not what was written.
    pub fn load(&mut self, from: &mut Loader<'_>) -> Result<(), LoadError> {
        self.alone.load(from)
    }
}
