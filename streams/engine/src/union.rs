//! Rows of several inputs as one: in the order in which they came, under the lowest watermark.

use std::sync::Arc;

use holm_lanes::{Batch, Kind, Lane, LaneBuilder, Marks, Origin, Values, index, number};

use crate::quiet::Standing;
use crate::stage::empty;

/// What a union keeps: how far each input is.
#[derive(Clone, Debug)]
pub(crate) struct Union {
    pub(crate) marks: Vec<i64>,
    kinds: Vec<Kind>,
    /// The columns that are read behind it.
    read: Vec<bool>,
}

impl Union {
    pub(crate) fn new(inputs: usize, kinds: &[Kind], read: Vec<bool>) -> Self {
        Self {
            marks: vec![Marks::START; inputs],
            kinds: kinds.to_vec(),
            read,
        }
    }

    /// Takes what its inputs have of a round. Each batch is in the order of the lines that made its
    /// rows come, so that one batch cut in two gives the same order.
    pub(crate) fn step(&mut self, inputs: &[Option<&Batch>], standing: &Standing) -> Batch {
        let mut before = Marks::END;
        for (mark, batch) in self.marks.iter_mut().zip(inputs) {
            if let Some(batch) = batch {
                before = before.min(*mark);
                *mark = batch.marks.after;
            }
        }
        let (given, after) = (standing.given, standing.lowest(&self.marks));
        let parts = inputs.iter().flatten().copied();
        let parts: Vec<&Batch> = parts.filter(|batch| batch.rows > 0).collect();
        let mut out = match parts.as_slice() {
            [] => empty(&self.kinds, after),
            [only] => (*only).clone(),
            several => self.merged(several),
        };
        // The marks of a row are the lowest that inputs had then: those of this round rose
        // together, and the others stood still.
        for mark in out.marks.rows.iter_mut().flatten() {
            *mark = (*mark).min(after).max(given);
        }
        // Rows of one that was idle may lie behind what was given out without it.
        if given > before && out.marks.rows.is_none() && out.rows > 0 {
            out.marks.rows = Some(vec![given; out.rows]);
        }
        out.marks.after = after;
        out
    }

    /// The rows of all parts by line; of one line, those of the first part first.
    fn merged(&self, parts: &[&Batch]) -> Batch {
        let rows: usize = parts.iter().map(|part| part.rows).sum();
        let each = || {
            let rows = |part: &&Batch| 0..part.rows;
            let of = move |part| rows(part).map(move |row| (*part, row));
            parts.iter().flat_map(of)
        };
        let lines: Vec<u64> = each().map(|(part, row)| part.origin.at(row)).collect();
        let mut order: Vec<u32> = (0..number(rows)).collect();
        order.sort_by_key(|row| lines[index(*row)]);
        let lane = |(column, kind): (usize, &Kind)| {
            if !self.read[column] {
                return Lane::dense(Values::Bool(vec![false; rows]));
            }
            let mut lane = LaneBuilder::new(kind.shape());
            for part in parts {
                lane.extend_from(&part.lanes[column], 0..part.rows);
            }
            lane.finish()
        };
        let lanes = self.kinds.iter().enumerate().map(lane).map(Arc::new);
        let whole = Batch {
            lanes: lanes.collect(),
            rows,
            origin: Origin::Rows(lines),
            marks: Marks {
                after: Marks::START,
                rows: None,
            },
        };
        let mut out = whole.take_read(&order, |column| self.read[column]);
        if parts.iter().any(|part| part.marks.rows.is_some()) {
            let mark = |(part, row): (&Batch, usize)| Some(part.marks.rows.as_ref()?[row]);
            let marks: Vec<Option<i64>> = each().map(mark).collect();
            // Results of windows have none: they stand where they came.
            let mut now = Marks::START;
            let stood = order.iter().map(|row| {
                now = marks[index(*row)].unwrap_or(now);
                now
            });
            out.marks.rows = Some(stood.collect());
        }
        out
    }
}

/// The lines of a round, by how far the watermark was behind each.
#[derive(Debug)]
pub(crate) struct Lines<'a> {
    batch: &'a Batch,
    after: Vec<i64>,
}

impl<'a> Lines<'a> {
    /// Those of a batch of a source, with its column of times and its bound.
    pub(crate) fn new(batch: &'a Batch, time: Option<usize>, bound: i64) -> Self {
        let times = time.and_then(|time| batch.lanes[time].ints());
        let mut now = Marks::START;
        let after = times.unwrap_or_default().iter().map(|time| {
            now = now.max(time.saturating_sub(bound));
            now
        });
        Self {
            batch,
            after: after.collect(),
        }
    }

    /// The line that closed a window; the first where none did, as at the end of the input.
    fn closing(&self, end: i64) -> u64 {
        let row = self.after.partition_point(|mark| *mark < end);
        let last = self.batch.rows.checked_sub(1);
        last.map_or(0, |last| self.batch.origin.at(row.min(last)))
    }

    /// The lines that made results come, by the ends of their windows.
    pub(crate) fn of(&self, rows: usize, ends: Option<&Lane>) -> Origin {
        let ends = ends.and_then(Lane::ints);
        let (mut last, mut line) = (None, 0);
        let line = |row: usize| {
            let Some(ends) = ends else { return 0 };
            if last != Some(ends[row]) {
                (last, line) = (Some(ends[row]), self.closing(ends[row]));
            }
            line
        };
        Origin::Rows((0..rows).map(line).collect())
    }
}
