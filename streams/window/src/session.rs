//! Sessions: for each key, rows that follow one another within a gap.
//!
//! A row at t opens `[t, t + gap)`; sessions that overlap or touch are one. A session closes when
//! the watermark reaches its end. They come out by end, then key.

use std::collections::{BTreeMap, BTreeSet};

use holm_lanes::{Batch, Fault, Keys, LoadError, Loader, Marks, NO_CODE, Saver, Shape};

use crate::aggregate::Call;
use crate::closed::Pushed;
use crate::gauge::Gauge;
use crate::limits::Limits;
use crate::rows::{Coder, Rows};
use crate::slice::Slice;

/// A session that is open.
#[derive(Clone, Debug)]
struct Open {
    end: i64,
    states: Slice,
}

/// Aggregates of sessions, by key.
#[derive(Clone, Debug)]
pub struct Sessions {
    gap: i64,
    time: usize,
    coder: Coder,
    calls: Vec<Call>,
    limits: Limits,
    /// By (code, start).
    open: BTreeMap<(u32, i64), Open>,
    /// (end, code, start) of each.
    ends: BTreeSet<(i64, u32, i64)>,
}

impl Sessions {
    /// Sessions over the times of a column, by the columns of a key.
    #[must_use]
    pub fn new(
        gap: i64,
        time: usize,
        keys: &[(usize, Shape)],
        calls: Vec<Call>,
        limits: Limits,
    ) -> Self {
        Self {
            gap,
            time,
            coder: Coder::new(keys, &calls, limits),
            calls,
            limits,
            open: BTreeMap::new(),
            ends: BTreeSet::new(),
        }
    }

    /// The key of each code.
    #[must_use]
    pub const fn keys(&self) -> &Keys {
        self.coder.keys()
    }

    /// How much it keeps.
    #[must_use]
    pub fn gauge(&self) -> Gauge {
        // An entry of each tree beside the states.
        const ENTRIES: usize = 40 + 24;
        let open = self.open.values();
        Gauge {
            panes: self.open.len(),
            keys: self.keys().len(),
            bytes: open
                .map(|open| open.states.bytes() + ENTRIES)
                .sum::<usize>()
                + self.coder.bytes(),
        }
    }

    /// Takes a batch, and closes what its watermark passes.
    ///
    /// # Panics
    ///
    /// If the column of times holds no times.
    pub fn push(&mut self, batch: &Batch) -> Pushed {
        let mut pushed = Pushed::new(&self.calls);
        let rows = self
            .coder
            .rows(batch, &self.calls, Some(self.time), &batch.origin);
        for (row, (code, time)) in rows.codes.iter().zip(rows.times()).enumerate() {
            let mark = batch
                .marks
                .rows
                .as_ref()
                .map_or(Marks::START, |marks| marks[row]);
            if *time <= mark {
                self.close(mark, &mut pushed);
            }
            if *code == NO_CODE {
                let limit = self.coder.keys().limit();
                pushed.diverted.push((row, Fault::Keys { limit }));
                continue;
            }
            self.add(&rows, (row, *code), mark, &mut pushed);
        }
        self.close(batch.marks.after, &mut pushed);
        pushed
    }

    fn add(&mut self, rows: &Rows<'_>, (row, code): (usize, u32), mark: i64, pushed: &mut Pushed) {
        let time = rows.times()[row];
        let (mut start, mut end) = (time, time + self.gap);
        // Sessions of a key do not touch, so that those that this row touches lie together.
        let mut touched = Vec::new();
        for ((_, from), open) in self.open.range((code, i64::MIN)..=(code, end)).rev() {
            if open.end < time {
                break;
            }
            touched.push((*from, open.end));
        }
        if touched.is_empty() {
            if end <= mark {
                pushed.late.push(row);
                return;
            }
            if self.open.len() >= self.limits.panes {
                let limit = self.limits.panes;
                pushed.diverted.push((row, Fault::Panes { limit }));
                return;
            }
        }
        let mut states: Option<Slice> = None;
        // The earliest first: floats are added in the order of time, whatever touched them.
        for (from, to) in touched.into_iter().rev() {
            self.ends.remove(&(to, code, from));
            let open = self.open.remove(&(code, from)).expect("it was just found");
            (start, end) = (start.min(from), end.max(to));
            match &mut states {
                None => states = Some(open.states),
                Some(states) => states.merge(&self.calls, &open.states),
            }
        }
        let mut states = states.unwrap_or_else(|| Slice::new(&self.calls, true));
        states.add(&self.calls, row..row + 1, (&[0], 1), |call| {
            rows.input(call)
        });
        self.ends.insert((end, code, start));
        self.open.insert((code, start), Open { end, states });
    }

    /// Closes the sessions that end at or before a mark.
    fn close(&mut self, mark: i64, pushed: &mut Pushed) {
        while let Some((end, code, start)) = self.ends.first().copied() {
            if end > mark {
                break;
            }
            self.ends.remove(&(end, code, start));
            let open = self.open.remove(&(code, start));
            let open = open.expect("each end is that of an open session");
            let slot = (&open.states, 0);
            pushed
                .closed
                .add_slot(&self.calls, (start, end), code, slot);
        }
    }
}

/// State as bytes, and back.
impl Sessions {
    /// Writes all that it holds.
    pub fn save(&self, to: &mut Saver) {
        self.coder.save(to);
        to.count(self.open.len());
        for ((code, start), open) in &self.open {
            to.small(*code);
            to.int(*start);
            to.int(open.end);
            open.states.save(to);
        }
    }

    /// Takes over what sessions of the same query wrote; these must have seen nothing yet.
    ///
    /// # Errors
    ///
    /// If it is not what was written.
    pub fn load(&mut self, from: &mut Loader<'_>) -> Result<(), LoadError> {
        self.coder.load(from)?;
        for _ in 0..from.count(20)? {
            let (code, start, end) = (from.small()?, from.int()?, from.int()?);
            let states = Slice::load(&self.calls, from)?;
            self.ends.insert((end, code, start));
            self.open.insert((code, start), Open { end, states });
        }
        Ok(())
    }
}
