//! Groups of rows that carry their window, or of all rows of a bounded input.
//!
//! Rows that come out of windows know where these begin and end. Rows of one window are grouped
//! by key and leave when the watermark passes its end. Without a window there is one group of
//! groups, and it leaves at the end.

use std::collections::BTreeMap;

use holm_lanes::{Batch, Fault, Keys, Lane, Marks, NO_CODE, Origin, Shape};

use crate::aggregate::{Aggregate, Call};
use crate::closed::Pushed;
use crate::limits::Limits;
use crate::slice::Slice;
use crate::state::Input;

/// Aggregates of rows that carry their window.
#[derive(Clone, Debug)]
pub struct Grouped {
    /// Lanes of start and end; none for all rows together.
    window: Option<(usize, usize)>,
    key_columns: Vec<usize>,
    calls: Vec<Call>,
    limits: Limits,
    keys: Keys,
    distinct: Vec<Option<Keys>>,
    /// By (end, start).
    open: BTreeMap<(i64, i64), Slice>,
    seen: u64,
}

impl Grouped {
    /// Groups by window, where there is one, and by the columns of a key.
    #[must_use]
    pub fn new(
        window: Option<(usize, usize)>,
        keys: Vec<(usize, Shape)>,
        calls: Vec<Call>,
        limits: Limits,
    ) -> Self {
        let shapes = keys.iter().map(|(_, shape)| *shape).collect();
        Self {
            window,
            key_columns: keys.iter().map(|(column, _)| *column).collect(),
            distinct: calls.iter().map(|_| None).collect(),
            calls,
            limits,
            keys: Keys::new(shapes, limits.keys, limits.seed),
            open: BTreeMap::new(),
            seen: 0,
        }
    }

    /// The key of each code.
    #[must_use]
    pub const fn keys(&self) -> &Keys {
        &self.keys
    }

    /// Takes a batch, and lets go what its watermark passes.
    pub fn push(&mut self, batch: &Batch) -> Pushed {
        let mut pushed = Pushed::new(&self.calls);
        let lanes: Vec<&Lane> = self
            .key_columns
            .iter()
            .map(|column| &*batch.lanes[*column])
            .collect();
        let mut codes = Vec::new();
        self.keys.code(&lanes, batch.rows, &mut codes);
        let coded: Vec<Option<Lane>> = self
            .calls
            .iter()
            .zip(&mut self.distinct)
            .map(|(call, keys)| {
                let is_distinct = call.aggregate == Aggregate::CountDistinct;
                let column = call.column.filter(|_| is_distinct)?;
                Some(crate::windows::coded(
                    &batch.lanes[column],
                    keys,
                    self.limits,
                ))
            })
            .collect();
        let filters: Vec<Option<Vec<bool>>> = self
            .calls
            .iter()
            .map(|call| call.filter.map(|column| batch.lanes[column].truths()))
            .collect();
        let origin = Origin::Run(self.seen);
        self.seen += u64::try_from(batch.rows).expect("a batch is smaller");
        let calls = &self.calls;
        let input = |call: usize| Input {
            lane: coded[call]
                .as_ref()
                .or_else(|| calls[call].column.map(|column| &*batch.lanes[column])),
            filter: filters[call].as_deref(),
            times: None,
            sequences: &origin,
        };
        let mut from = 0;
        while from < batch.rows {
            let window = self.window_of(batch, from);
            let run = (from..batch.rows)
                .take_while(|row| codes[*row] != NO_CODE && self.window_of(batch, *row) == window)
                .count();
            if run == 0 {
                let limit = self.keys.limit();
                pushed.diverted.push((from, Fault::Keys { limit }));
                from += 1;
                continue;
            }
            let slice = self.open.entry(window);
            let slice = slice.or_insert_with(|| Slice::new(calls, false));
            slice.add(calls, from..from + run, &codes[from..from + run], input);
            from += run;
        }
        self.close(batch.marks.after, &mut pushed);
        pushed
    }

    fn window_of(&self, batch: &Batch, row: usize) -> (i64, i64) {
        self.window.map_or((Marks::END, 0), |(start, end)| {
            let at = |lane: usize| batch.lanes[lane].ints().map_or(0, |times| times[row]);
            (at(end), at(start))
        })
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
        let is_all = self.window.is_none() && self.key_columns.is_empty();
        if is_all && mark == Marks::END && self.seen == 0 {
            let mut slice = Slice::new(&self.calls, true);
            slice.add_empty();
            pushed
                .closed
                .add_slot(&self.calls, (0, Marks::END), 0, (&slice, 0));
        }
    }
}
