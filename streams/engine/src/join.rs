//! Pairs of rows of one window: a hash join when the window has closed on both sides.

use std::sync::Arc;

use holm_lanes::{Batch, Expr, Faults, Keys, Lane, LaneBuilder, index, number};

/// What a join is by.
#[derive(Clone, Debug)]
pub(crate) struct Terms<'a> {
    pub(crate) keys: &'a [(usize, usize)],
    pub(crate) condition: Option<&'a Expr>,
    pub(crate) keeps_left: bool,
}

/// The pairs of two windows' rows, in the order of the left, then the right.
///
/// `right_shapes` are those of the right side's lanes, for a window that has no rows there.
pub(crate) fn pairs(
    left: &Batch,
    right: Option<&Batch>,
    right_width: &[holm_lanes::Shape],
    terms: &Terms<'_>,
    faults: &mut Faults,
) -> Batch {
    let mut rows: Vec<(u32, Option<u32>)> = Vec::new();
    if let Some(right) = right {
        for (from, to) in equal(left, right, terms.keys) {
            rows.push((from, Some(to)));
        }
    }
    let mut both = beside(left, right, right_width, &rows);
    if let Some(condition) = terms.condition {
        let truths = condition.evaluate(&both, faults);
        let kept: Vec<u32> = (0..number(both.rows))
            .filter(|row| truths.is_true(index(*row)) && !faults.has(index(*row)))
            .collect();
        rows = kept.iter().map(|row| rows[index(*row)]).collect();
        both = both.take(&kept);
    }
    if !terms.keeps_left {
        return both;
    }
    let mut has_partner = vec![false; left.rows];
    rows.iter()
        .for_each(|(row, _)| has_partner[index(*row)] = true);
    let alone = (0..number(left.rows)).filter(|row| !has_partner[index(*row)]);
    rows.extend(alone.map(|row| (row, None)));
    rows.sort_by_key(|(row, _)| *row);
    beside(left, right, right_width, &rows)
}

/// Pairs with equal keys; NULL is equal to nothing.
fn equal(left: &Batch, right: &Batch, keys: &[(usize, usize)]) -> Vec<(u32, u32)> {
    let lanes = |batch: &Batch, side: fn(&(usize, usize)) -> usize| -> Vec<Arc<Lane>> {
        let columns = keys.iter().map(side);
        columns
            .map(|column| Arc::clone(&batch.lanes[column]))
            .collect()
    };
    let (ours, theirs) = (lanes(left, |key| key.0), lanes(right, |key| key.1));
    let ours: Vec<&Lane> = ours.iter().map(|lane| &**lane).collect();
    let theirs: Vec<&Lane> = theirs.iter().map(|lane| &**lane).collect();
    let shapes = theirs.iter().map(|lane| lane.shape()).collect();
    let mut table = Keys::new(shapes, usize::MAX, 0);
    let mut codes = Vec::new();
    table.code(&theirs, right.rows, &mut codes);
    let mut by_code: Vec<Vec<u32>> = vec![Vec::new(); table.len()];
    for (row, code) in codes.iter().enumerate() {
        by_code[index(*code)].push(number(row));
    }
    let mut pairs = Vec::new();
    for row in 0..left.rows {
        if ours.iter().any(|lane| lane.is_null(row)) {
            continue;
        }
        let code = if ours.is_empty() {
            (!by_code.is_empty()).then_some(0)
        } else {
            table.find(&ours, row)
        };
        if let Some(code) = code {
            pairs.extend(by_code[index(code)].iter().map(|to| (number(row), *to)));
        }
    }
    pairs
}

fn beside(
    left: &Batch,
    right: Option<&Batch>,
    shapes: &[holm_lanes::Shape],
    rows: &[(u32, Option<u32>)],
) -> Batch {
    let from: Vec<u32> = rows.iter().map(|(row, _)| *row).collect();
    let mut out = left.take(&from);
    for (column, shape) in shapes.iter().enumerate() {
        let mut builder = LaneBuilder::new(*shape);
        for (_, to) in rows {
            match (right, to) {
                (Some(right), Some(to)) => builder.push_from(&right.lanes[column], index(*to)),
                (None, _) | (_, None) => builder.push_null(),
            }
        }
        out.lanes.push(Arc::new(builder.finish()));
    }
    out
}
