//! Making a failing tape small enough to read.
//!
//! A smaller tape has fewer choices that are not zero, and shorter streams. Each attempt is a
//! run with normal fill; the caller says whether it fails in the same way.

use crate::tape::{Fill, Tape};
use crate::world::SCHEDULE;

/// What came of shrinking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shrunk {
    /// The smallest tape found that still fails; it replays with normal fill.
    pub tape: Tape,
    /// How many runs it took.
    pub runs: u32,
}

/// Shrinks a tape for which `fails` holds, in at most `runs_max` runs.
///
/// In this order, again and again until nothing helps: whole streams to zero, which removes a
/// class of faults; streams cut short; timed order restored from the front; segments deleted or
/// set to zero, the longest of all streams first; single values lowered.
///
/// `None` if the tape does not fail with normal fill behind its end.
pub fn shrink(tape: &Tape, runs_max: u32, fails: impl FnMut(&Tape) -> bool) -> Option<Shrunk> {
    let mut search = Search {
        best: tape.rewound(Fill::Normal),
        runs: 0,
        runs_max,
        fails,
    };
    let candidate = search.best.clone();
    if !search.fails(&candidate) {
        return None;
    }
    search.trim();
    loop {
        let before = search.best.clone();
        search.streams();
        search.lengths();
        search.schedule();
        search.segments();
        search.values();
        if search.best == before || search.runs >= runs_max {
            return Some(Shrunk {
                tape: search.best,
                runs: search.runs,
            });
        }
    }
}

/// What is done with a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Edit {
    Delete,
    Zero,
}

struct Search<F> {
    best: Tape,
    runs: u32,
    runs_max: u32,
    fails: F,
}

impl<F: FnMut(&Tape) -> bool> Search<F> {
    fn fails(&mut self, tape: &Tape) -> bool {
        if self.runs >= self.runs_max {
            return false;
        }
        self.runs += 1;
        (self.fails)(tape)
    }

    /// Keeps an edit of one stream if the run still fails. Says whether it did.
    fn attempt(&mut self, stream: usize, edit: impl FnOnce(&mut Vec<u32>)) -> bool {
        let mut candidate = self.best.clone();
        let Some(values) = candidate.stream_values().nth(stream) else {
            return false;
        };
        edit(values);
        trim(values);
        if candidate == self.best || !self.fails(&candidate) {
            return false;
        }
        self.best = candidate;
        true
    }

    fn count(&mut self) -> usize {
        self.best.stream_values().count()
    }

    fn len(&mut self, stream: usize) -> usize {
        self.best
            .stream_values()
            .nth(stream)
            .map_or(0, |one| one.len())
    }

    /// Zeros at an end are what normal fill gives anyway.
    fn trim(&mut self) {
        self.best.stream_values().for_each(trim);
    }

    fn streams(&mut self) {
        for stream in 0..self.count() {
            self.attempt(stream, Vec::clear);
        }
    }

    fn lengths(&mut self) {
        for stream in 0..self.count() {
            let mut cut = self.len(stream) / 2;
            while cut > 0 {
                let keep = self.len(stream).saturating_sub(cut);
                if !self.attempt(stream, |values| values.truncate(keep)) {
                    cut /= 2;
                }
            }
        }
    }

    fn schedule(&mut self) {
        let Some(stream) = self.best.index(SCHEDULE) else {
            return;
        };
        let mut step = self.len(stream);
        let mut done = 0;
        while step > 0 && done < self.len(stream) {
            let end = (done + step).min(self.len(stream));
            if self.attempt(stream, |values| values[done..end].fill(0)) {
                done = end;
            } else {
                step /= 2;
            }
        }
    }

    /// Halves of all streams first, then quarters, and so on: time may run out, and what removes
    /// most comes first.
    fn segments(&mut self) {
        let mut parts = 2;
        loop {
            let lengths: Vec<usize> = (0..self.count()).map(|at| self.len(at)).collect();
            if lengths.iter().all(|&len| len < parts) {
                return;
            }
            for stream in 0..lengths.len() {
                for edit in [Edit::Delete, Edit::Zero] {
                    let size = self.len(stream) / parts;
                    if size > 0 {
                        self.sweep(stream, edit, size);
                    }
                }
            }
            parts *= 2;
        }
    }

    fn sweep(&mut self, stream: usize, edit: Edit, size: usize) {
        let mut at = 0;
        while at + size <= self.len(stream) {
            let kept = self.attempt(stream, |values| match edit {
                Edit::Delete => drop(values.drain(at..at + size)),
                Edit::Zero => values[at..at + size].fill(0),
            });
            if !kept || edit == Edit::Zero {
                at += size;
            }
        }
    }

    fn values(&mut self) {
        for stream in 0..self.count() {
            let mut at = 0;
            while at < self.len(stream) {
                self.lower(stream, at);
                at += 1;
            }
        }
    }

    fn lower(&mut self, stream: usize, at: usize) {
        let value = |search: &mut Self| {
            let values = search.best.stream_values().nth(stream)?;
            values.get(at).copied()
        };
        let Some(mut high) = value(self).filter(|&value| value > 0) else {
            return;
        };
        if self.attempt(stream, |values| values[at] = 0) {
            return;
        }
        // 0 does not fail and `high` does: close in between, as if failing were monotone.
        let mut low = 0;
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            if self.attempt(stream, |values| values[at] = middle) {
                high = middle;
            } else {
                low = middle;
            }
        }
    }
}

fn trim(values: &mut Vec<u32>) {
    let kept = values.iter().rposition(|&value| value != 0);
    values.truncate(kept.map_or(0, |last| last + 1));
}
