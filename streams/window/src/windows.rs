//! Windows on a grid: rows into panes, panes into windows when the watermark passes their end.

use std::collections::BTreeMap;

use holm_lanes::{Batch, Fault, Keys, LoadError, Loader, Marks, NO_CODE, Saver, Shape};

use crate::aggregate::Call;
use crate::assembler::{Assembler, Cost, Panes, Strategy, load_panes, save_panes};
use crate::closed::{Closed, Pushed};
use crate::gauge::Gauge;
use crate::grid::Grid;
use crate::limits::Limits;
use crate::regroup::Regroup;
use crate::rows::{Coder, Rows};
use crate::slice::Slice;

/// A slice may have a slot for each code while this many fit all of its panes.
const DENSE_SLOTS: usize = 1 << 16;

/// Aggregates of windows on a grid, by key.
#[derive(Clone, Debug)]
pub struct Windows {
    grid: Grid,
    time: usize,
    coder: Coder,
    calls: Vec<Call>,
    limits: Limits,
    panes: Panes,
    assembler: Assembler,
    regroup: Option<Regroup>,
    /// The first window that has not closed.
    next: i64,
    mark: i64,
}

impl Windows {
    /// Windows over the times of a column, by the columns of a key, with the cheapest strategy.
    #[must_use]
    pub fn new(
        grid: Grid,
        time: usize,
        keys: &[(usize, Shape)],
        calls: Vec<Call>,
        limits: Limits,
    ) -> Self {
        let strategy = Cost::of(&grid, &calls).cheapest();
        Self {
            grid,
            time,
            coder: Coder::new(keys, &calls, limits),
            assembler: Assembler::new(strategy, &calls),
            calls,
            limits,
            regroup: None,
            panes: BTreeMap::new(),
            next: i64::MIN,
            mark: Marks::START,
        }
    }

    /// The same with a strategy that is named, whatever it costs.
    #[must_use]
    pub fn with_strategy(mut self, strategy: Strategy) -> Self {
        self.assembler = Assembler::new(strategy, &self.calls);
        self
    }

    /// What comes out is grouped again, by some parts of the key: how many keys each group has,
    /// as so many results.
    #[must_use]
    pub fn counted_by(mut self, parts: &[(usize, Shape)], results: usize) -> Self {
        self.regroup = Some(Regroup::new(parts, results, self.limits));
        self
    }

    /// The key of each code that comes out.
    #[must_use]
    pub fn keys(&self) -> &Keys {
        let groups = self.regroup.as_ref().map(Regroup::groups);
        groups.unwrap_or(self.coder.keys())
    }

    /// How much it keeps.
    #[must_use]
    pub fn gauge(&self) -> Gauge {
        let panes: usize = self.panes.values().map(Slice::bytes).sum();
        Gauge {
            panes: self.panes.len(),
            keys: self.coder.keys().len(),
            bytes: panes
                + self.assembler.bytes()
                + self.coder.bytes()
                + self.regroup.as_ref().map_or(0, Regroup::bytes),
        }
    }

    /// Takes a batch, and closes what its watermark passes.
    ///
    /// # Panics
    ///
    /// If the column of times holds no times.
    pub fn push(&mut self, batch: &Batch) -> Pushed {
        let mut pushed = Pushed::new(&self.calls);
        if let Some(regroup) = &self.regroup {
            pushed.closed = Closed::of_counts(regroup.results());
        }
        let rows = self
            .coder
            .rows(batch, &self.calls, Some(self.time), &batch.origin);
        let times = rows.times();
        match &batch.marks.rows {
            None => self.add_all(&rows, 0..batch.rows, &mut pushed),
            Some(marks) => {
                let mut from = 0;
                for (row, mark) in marks.iter().enumerate() {
                    // The pane of a row that is not below the mark ends above it.
                    if times[row] >= *mark {
                        continue;
                    }
                    let pane = self.grid.pane_of(times[row]);
                    if self.grid.start_of(pane + 1) <= *mark {
                        self.add_all(&rows, from..row, &mut pushed);
                        self.advance(*mark, &mut pushed);
                        self.add_late(&rows, row, &mut pushed);
                        from = row + 1;
                    }
                }
                self.add_all(&rows, from..batch.rows, &mut pushed);
            }
        }
        self.advance(batch.marks.after, &mut pushed);
        pushed.diverted.sort_by_key(|(row, _)| *row);
        pushed
    }

    /// Adds rows none of which is late for any window.
    fn add_all(&mut self, rows: &Rows<'_>, range: std::ops::Range<usize>, pushed: &mut Pushed) {
        let (times, mut from) = (rows.times(), range.start);
        while from < range.end {
            let pane = self.grid.pane_of(times[from]);
            let (start, end) = (self.grid.start_of(pane), self.grid.start_of(pane + 1));
            let run = run_within(&times[from..range.end], start, end);
            self.add_run(rows, (pane, from..from + run), pushed);
            from += run;
        }
    }

    fn add_run(
        &mut self,
        rows: &Rows<'_>,
        (pane, run): (i64, std::ops::Range<usize>),
        pushed: &mut Pushed,
    ) {
        if self.grid.first_with(pane) > self.grid.last_with(pane) {
            return;
        }
        if !self.panes.contains_key(&pane) {
            if self.panes.len() >= self.limits.panes {
                let limit = self.limits.panes;
                pushed
                    .diverted
                    .extend(run.map(|row| (row, Fault::Panes { limit })));
                return;
            }
            let slice = Slice::new(&self.calls, self.is_dense());
            self.panes.insert(pane, slice);
        }
        let slice = self.panes.get_mut(&pane).expect("it was just made");
        let mine = &rows.codes[run.clone()];
        let keys = self.coder.keys();
        if !keys.is_full() || !mine.contains(&NO_CODE) {
            let mine = (mine, keys.len());
            slice.add(&self.calls, run, mine, |call| rows.input(call));
            return;
        }
        let limit = self.coder.keys().limit();
        for row in run {
            if rows.codes[row] == NO_CODE {
                pushed.diverted.push((row, Fault::Keys { limit }));
            } else {
                let code = (&rows.codes[row..=row], keys.len());
                slice.add(&self.calls, row..row + 1, code, |call| rows.input(call));
            }
        }
    }

    /// Whether a new pane has a slot for each code: few do no harm, and many are used if the
    /// pane before used a quarter.
    fn is_dense(&self) -> bool {
        let panes = usize::try_from(self.grid.panes()).unwrap_or(usize::MAX);
        let keys = self.coder.keys().len();
        let slots = keys.saturating_mul(panes.saturating_add(1));
        let before = || self.panes.last_key_value().map_or(0, |(_, it)| it.live());
        slots <= DENSE_SLOTS || before() * 4 >= keys
    }

    /// Adds a row whose pane is due: it counts in those of its windows that are open (I4).
    fn add_late(&mut self, rows: &Rows<'_>, row: usize, pushed: &mut Pushed) {
        let pane = self.grid.pane_of(rows.times()[row]);
        let (first, last) = (self.grid.first_with(pane), self.grid.last_with(pane));
        if first > last {
            return;
        }
        if last < self.next {
            pushed.late.push(row);
            return;
        }
        if rows.codes[row] == NO_CODE {
            let limit = self.coder.keys().limit();
            pushed.diverted.push((row, Fault::Keys { limit }));
            return;
        }
        if !self.panes.contains_key(&pane) && self.panes.len() >= self.limits.panes {
            let limit = self.limits.panes;
            pushed.diverted.push((row, Fault::Panes { limit }));
            return;
        }
        let calls = &self.calls;
        let code = (&rows.codes[row..=row], self.coder.keys().len());
        self.assembler.amend(pane, |sum| {
            sum.add(calls, row..row + 1, code, |call| rows.input(call));
        });
        self.add_run(rows, (pane, row..row + 1), pushed);
    }

    /// Closes the windows that end at or before a mark.
    fn advance(&mut self, mark: i64, pushed: &mut Pushed) {
        if mark <= self.mark {
            return;
        }
        self.mark = mark;
        let is_end = mark == Marks::END;
        while let Some((pane, _)) = self.panes.first_key_value() {
            let window = self.grid.first_with(*pane).max(self.next);
            let end = self.grid.end_of(window);
            if !is_end && end > mark {
                break;
            }
            let range = self.grid.range(window);
            let (calls, start) = (&self.calls, self.grid.start_of(range.0));
            let (keys, regroup) = (self.coder.keys(), &mut self.regroup);
            let out = |slice: &Slice| match regroup {
                Some(regroup) => regroup.add(keys, (start, end), slice, pushed),
                None => pushed.closed.add(calls, (start, end), slice),
            };
            self.assembler.close(calls, &self.panes, range, out);
            self.next = window + 1;
            self.retire();
        }
        if !is_end {
            self.next = self.next.max(self.grid.open_at(mark));
            self.retire();
        }
    }

    /// Lets go of panes that are part of no open window.
    fn retire(&mut self) {
        let needed = self.grid.range(self.next).0;
        while let Some(entry) = self.panes.first_entry() {
            if *entry.key() >= needed {
                break;
            }
            let (pane, slice) = entry.remove_entry();
            self.assembler.retire(pane, &slice);
        }
    }
}

/// How many times from the first on lie in a pane.
fn run_within(times: &[i64], start: i64, end: i64) -> usize {
    const BLOCK: usize = 256;
    let mut run = 0;
    for block in times.chunks(BLOCK) {
        // Of a time outside one of the two differences is below zero, also where it wraps.
        let outside = |time: &i64| time.wrapping_sub(start) | (end - 1).wrapping_sub(*time);
        if block.iter().fold(0, |any, time| any | outside(time)) < 0 {
            return run + block.iter().take_while(|time| outside(time) >= 0).count();
        }
        run += block.len();
    }
    run
}

/// State as bytes, and back.
impl Windows {
    /// Writes all that it holds.
    pub fn save(&self, to: &mut Saver) {
        to.int(self.next);
        to.int(self.mark);
        self.coder.save(to);
        save_panes(&self.panes, to);
        self.assembler.save(to);
        self.regroup.iter().for_each(|regroup| regroup.save(to));
    }

    /// Takes over what windows of the same query wrote; these must have seen nothing yet.
    ///
    /// # Errors
    ///
    /// If it is not what was written.
    pub fn load(&mut self, from: &mut Loader<'_>) -> Result<(), LoadError> {
        self.next = from.int()?;
        self.mark = from.int()?;
        self.coder.load(from)?;
        self.panes = load_panes(&self.calls, from)?;
        self.assembler = Assembler::load(&self.calls, from)?;
        match &mut self.regroup {
            Some(regroup) => regroup.load(from),
            None => Ok(()),
        }
    }
}
