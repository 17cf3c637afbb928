//! A table that rows are enriched from: all of it in memory, found by its key.

use std::sync::Arc;

use holm_lanes::{Batch, Keys, Lane, LaneBuilder, number};

/// A table by key. Of two rows with one key the later counts.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    batch: Batch,
    keys: Keys,
    rows: Vec<u32>,
}

impl Table {
    pub(crate) fn new(batch: &Batch, columns: &[usize]) -> Self {
        let lanes: Vec<&Lane> = columns
            .iter()
            .map(|column| &*batch.lanes[*column])
            .collect();
        let shapes = lanes.iter().map(|lane| lane.shape()).collect();
        let mut keys = Keys::new(shapes, usize::MAX, 0);
        let mut codes = Vec::new();
        keys.code(&lanes, batch.rows, &mut codes);
        let mut rows = vec![0; keys.len()];
        for (row, code) in codes.iter().enumerate() {
            rows[holm_lanes::index(*code)] = number(row);
        }
        Self {
            batch: batch.clone(),
            keys,
            rows,
        }
    }

    /// Rows beside those of the table.
    pub(crate) fn beside(&self, batch: &Batch, columns: &[usize], keeps_left: bool) -> Batch {
        let lanes: Vec<&Lane> = columns
            .iter()
            .map(|column| &*batch.lanes[*column])
            .collect();
        let (mut left, mut right) = (Vec::new(), Vec::new());
        for row in 0..batch.rows {
            // NULL is equal to nothing here, unlike in a group.
            let has_null = lanes.iter().any(|lane| lane.is_null(row));
            let code = self.keys.find(&lanes, row).filter(|_| !has_null);
            let partner = code.map(|code| self.rows[holm_lanes::index(code)]);
            if partner.is_some() || keeps_left {
                left.push(number(row));
                right.push(partner);
            }
        }
        let mut out = batch.take(&left);
        for lane in &self.batch.lanes {
            let mut builder = LaneBuilder::new(lane.shape());
            for partner in &right {
                match partner {
                    Some(row) => builder.push_from(lane, holm_lanes::index(*row)),
                    None => builder.push_null(),
                }
            }
            out.lanes.push(Arc::new(builder.finish()));
        }
        out
    }
}
