//! What closed windows give: rows of (start, end, key code, results), in the order of closing.

use holm_lanes::{Fault, Lane, LaneBuilder, Shape, index};

use crate::aggregate::Call;
use crate::slice::Slice;

/// Rows of closed windows.
#[derive(Clone, Debug)]
pub struct Closed {
    /// Where each row's window begins.
    pub starts: Vec<i64>,
    /// Where it ends.
    pub ends: Vec<i64>,
    /// The code of its key.
    pub codes: Vec<u32>,
    results: Vec<LaneBuilder>,
    /// Rows whose result does not fit, with why: such a row is not among the others.
    pub faults: Vec<Fault>,
}

impl Closed {
    pub(crate) fn new(calls: &[Call]) -> Self {
        Self {
            starts: Vec::new(),
            ends: Vec::new(),
            codes: Vec::new(),
            results: calls
                .iter()
                .map(|call| LaneBuilder::new(call.aggregate.gives().shape()))
                .collect(),
            faults: Vec::new(),
        }
    }

    /// With results that are integers.
    pub(crate) fn of_counts(results: usize) -> Self {
        let results = (0..results).map(|_| LaneBuilder::new(Shape::Int));
        Self {
            results: results.collect(),
            ..Self::new(&[])
        }
    }

    /// Adds all keys of a window, a result after the other.
    pub(crate) fn add(&mut self, calls: &[Call], (start, end): (i64, i64), slice: &Slice) {
        let present = slice.present();
        let rows = self.codes.len();
        let states = slice.states().iter().zip(calls);
        let is_whole = states
            .zip(&mut self.results)
            .all(|((state, call), result)| {
                let slots = (&*present, slice.rows());
                state.finish_all(call.aggregate, slots, result).is_ok()
            });
        if is_whole {
            let all = rows + present.len();
            self.starts.resize(all, start);
            self.ends.resize(all, end);
            self.codes.extend(present.iter().map(|(code, _)| *code));
            return;
        }
        // Some result does not fit: each key by itself.
        self.results
            .iter_mut()
            .for_each(|result| result.truncate(rows));
        for (code, slot) in present {
            self.add_slot(calls, (start, end), code, (slice, slot));
        }
    }

    /// Adds a window's counts by code, each as all results, and leaves zeros.
    pub(crate) fn add_counts(&mut self, (start, end): (i64, i64), counts: &mut [i64]) {
        let rows = self.codes.len();
        let found = (0..).zip(&*counts).filter(|(_, count)| **count > 0);
        self.codes.extend(found.map(|(code, _)| code));
        self.starts.resize(self.codes.len(), start);
        self.ends.resize(self.codes.len(), end);
        for result in &mut self.results {
            let codes = self.codes[rows..].iter();
            result.extend_ints(codes.map(|code| counts[index(*code)]));
        }
        counts.fill(0);
    }

    pub(crate) fn add_slot(
        &mut self,
        calls: &[Call],
        (start, end): (i64, i64),
        code: u32,
        (slice, slot): (&Slice, usize),
    ) {
        let rows = self.codes.len();
        let calls = slice.states().iter().zip(calls);
        for ((state, call), result) in calls.zip(&mut self.results) {
            let finished = state.finish(call.aggregate, slot, slice.rows()[slot], result);
            if let Err(fault) = finished {
                // A row that does not fit leaves no part of itself.
                self.results
                    .iter_mut()
                    .for_each(|result| result.truncate(rows));
                self.faults.push(fault);
                return;
            }
        }
        self.starts.push(start);
        self.ends.push(end);
        self.codes.push(code);
    }

    /// The lanes of results.
    #[must_use]
    pub fn into_results(self) -> Vec<Lane> {
        self.results.into_iter().map(LaneBuilder::finish).collect()
    }
}

/// What a batch, or the end, led to.
#[derive(Clone, Debug)]
pub struct Pushed {
    /// The windows that closed.
    pub closed: Closed,
    /// Rows that came too late for all of their windows, in order.
    pub late: Vec<usize>,
    /// Rows that did not fit a limit.
    pub diverted: Vec<(usize, Fault)>,
}

impl Pushed {
    pub(crate) fn new(calls: &[Call]) -> Self {
        Self {
            closed: Closed::new(calls),
            late: Vec::new(),
            diverted: Vec::new(),
        }
    }
}
