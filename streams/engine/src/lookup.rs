//! A table that rows are enriched from: all of it in memory, found by its key.

use std::sync::Arc;

use holm_lanes::{Batch, Keys, Lane, LaneBuilder, NO_CODE, number};

/// What is looked up, and what is read of what is found.
#[derive(Clone, Debug)]
pub(crate) struct Terms {
    /// The columns of the key, of the rows.
    pub(crate) columns: Vec<usize>,
    /// Whether a row without a partner stays.
    pub(crate) keeps_left: bool,
    /// The columns that are read behind it: those of the rows, then those of the table.
    pub(crate) read: Vec<bool>,
}

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
    pub(crate) fn beside(&self, batch: &Batch, terms: &Terms) -> Batch {
        let lanes: Vec<&Lane> = terms
            .columns
            .iter()
            .map(|column| &*batch.lanes[*column])
            .collect();
        let mut codes = Vec::new();
        if self.keys.find_small(&lanes, &mut codes) {
            return self.beside_codes(batch, &codes, terms);
        }
        let (mut left, mut right) = (Vec::new(), Vec::new());
        for row in 0..batch.rows {
            // NULL is equal to nothing here, unlike in a group.
            let has_null = lanes.iter().any(|lane| lane.is_null(row));
            let code = self.keys.find(&lanes, row).filter(|_| !has_null);
            let partner = code.map(|code| self.rows[holm_lanes::index(code)]);
            if partner.is_some() || terms.keeps_left {
                left.push(number(row));
                right.push(partner);
            }
        }
        self.paired(batch, (&left, &right), terms)
    }

    /// The same where each row's code is known.
    fn beside_codes(&self, batch: &Batch, codes: &[u32], terms: &Terms) -> Batch {
        let row_of = |code: u32| self.rows[holm_lanes::index(code)];
        if terms.keeps_left {
            let left: Vec<u32> = (0..number(batch.rows)).collect();
            let partner = |code: &u32| (*code != NO_CODE).then(|| row_of(*code));
            let right: Vec<Option<u32>> = codes.iter().map(partner).collect();
            return self.paired(batch, (&left, &right), terms);
        }
        let ours = |lane: usize| terms.read[lane];
        let has_all = codes.iter().all(|code| *code != NO_CODE);
        let (mut out, right): (Batch, Vec<u32>) = if has_all {
            let right = codes.iter().map(|code| row_of(*code));
            (batch.read_only(ours), right.collect())
        } else {
            let found = (0..number(batch.rows)).zip(codes);
            let found = found.filter(|(_, code)| **code != NO_CODE);
            let (left, right): (Vec<u32>, Vec<u32>) =
                found.map(|(row, code)| (row, row_of(*code))).unzip();
            (batch.take_read(&left, ours), right)
        };
        let ours = batch.lanes.len();
        let theirs = self.batch.take_read(&right, |lane| terms.read[ours + lane]);
        out.lanes.extend(theirs.lanes);
        out
    }

    fn paired(
        &self,
        batch: &Batch,
        (left, right): (&[u32], &[Option<u32>]),
        terms: &Terms,
    ) -> Batch {
        let mut out = batch.take_read(left, |lane| terms.read[lane]);
        for lane in &self.batch.lanes {
            let mut builder = LaneBuilder::new(lane.shape());
            for partner in right {
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
