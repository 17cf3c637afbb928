//! Groups of rows that carry their window, or of all rows of a bounded input.
//!
//! Rows that come out of windows know where these begin and end. Rows of one window are grouped
//! by key and leave when the watermark passes its end. Without a window there is one group of
//! groups, and it leaves at the end.

use std::collections::BTreeMap;

use holm_lanes::{Batch, Fault, Keys, LoadError, Loader, Marks, NO_CODE, Origin, Saver, Shape};

use crate::aggregate::Call;
use crate::closed::Pushed;
use crate::gauge::Gauge;
use crate::limits::Limits;
use crate::rows::Coder;
use crate::slice::Slice;

/// Aggregates of rows that carry their window.
#[derive(Clone, Debug)]
pub struct Grouped {
    /// Lanes of start and end; none for all rows together.
    window: Option<(usize, usize)>,
    coder: Coder,
    calls: Vec<Call>,
    /// By (end, start).
    open: BTreeMap<(i64, i64), Slice>,
    seen: u64,
}

impl Grouped {
    /// Groups by window, where there is one, and by the columns of a key.
    #[must_use]
    pub fn new(
        window: Option<(usize, usize)>,
        keys: &[(usize, Shape)],
        calls: Vec<Call>,
        limits: Limits,
    ) -> Self {
        Self {
            window,
            coder: Coder::new(keys, &calls, limits),
            calls,
            open: BTreeMap::new(),
            seen: 0,
        }
    }

    /// The key of each code.
    #[must_use]
    pub const fn keys(&self) -> &Keys {
        self.coder.keys()
    }

    /// The lane of the end of a window.
    #[must_use]
    pub const fn end(&self) -> Option<usize> {
        match self.window {
            Some((_, end)) => Some(end),
            None => None,
        }
    }

    /// How much it keeps.
    #[must_use]
    pub fn gauge(&self) -> Gauge {
        Gauge {
            panes: self.open.len(),
            keys: self.keys().len(),
            bytes: self.open.values().map(Slice::bytes).sum::<usize>() + self.coder.bytes(),
        }
    }

    /// Takes a batch, and lets go what its watermark passes.
    pub fn push(&mut self, batch: &Batch) -> Pushed {
        let mut pushed = Pushed::new(&self.calls);
        let origin = Origin::Run(self.seen);
        self.seen += u64::try_from(batch.rows).expect("a batch is smaller");
        let calls = &self.calls;
        let rows = self.coder.rows(batch, calls, None, &origin);
        let codes = &rows.codes;
        let ints = |lane: usize| batch.lanes[lane].ints().unwrap_or_default();
        let window = self.window.map(|(start, end)| (ints(start), ints(end)));
        let of =
            |row: usize| window.map_or((Marks::END, 0), |(starts, ends)| (ends[row], starts[row]));
        let is_all = self.window.is_none();
        let mut from = 0;
        while from < batch.rows {
            let window = of(from);
            let run = (from..batch.rows)
                .take_while(|row| codes[*row] != NO_CODE && of(*row) == window)
                .count();
            if run == 0 {
                let limit = self.coder.keys().limit();
                pushed.diverted.push((from, Fault::Keys { limit }));
                from += 1;
                continue;
            }
            let slice = self.open.entry(window);
            // Without windows each key has rows: its code is as good a slot as any.
            let slice = slice.or_insert_with(|| Slice::new(calls, is_all));
            let run = from..from + run;
            from = run.end;
            let mine = (&codes[run.clone()], self.coder.keys().len());
            slice.add(calls, run, mine, |call| rows.input(call));
        }
        self.close(batch.marks.after, &mut pushed);
        pushed
    }

    fn close(&mut self, mark: i64, pushed: &mut Pushed) {
        while let Some(entry) = self.open.first_entry() {
            if entry.key().0 > mark {
                break;
            }
            let ((end, start), slice) = entry.remove_entry();
            pushed.closed.add(&self.calls, (start, end), &slice);
        }
        // All rows together have a row even where there is none.
        let is_all = self.window.is_none() && self.coder.is_keyless();
        if is_all && mark == Marks::END && self.seen == 0 {
            let mut slice = Slice::new(&self.calls, true);
            slice.add_empty();
            pushed
                .closed
                .add_slot(&self.calls, (0, Marks::END), 0, (&slice, 0));
        }
    }
}

/// State as bytes, and back.
impl Grouped {
    /// Writes all that it holds.
    pub fn save(&self, to: &mut Saver) {
        to.word(self.seen);
        self.coder.save(to);
        to.count(self.open.len());
        for ((end, start), slice) in &self.open {
            to.int(*end);
            to.int(*start);
            slice.save(to);
        }
    }

    /// Takes over what groups of the same query wrote; these must have seen nothing yet.
    ///
    /// # Errors
    ///
    /// If it is not what was written.
    pub fn load(&mut self, from: &mut Loader<'_>) -> Result<(), LoadError> {
        self.seen = from.word()?;
        self.coder.load(from)?;
        for _ in 0..from.count(16)? {
            let window = (from.int()?, from.int()?);
            self.open.insert(window, Slice::load(&self.calls, from)?);
        }
        Ok(())
    }
}
