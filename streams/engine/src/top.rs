//! The first rows of each window and key, with their place.

use std::sync::Arc;

use holm_lanes::{Batch, Keys, Lane, Shape, Values, index};

use crate::order;

/// The first rows of a window's, parted by keys; parts in the order in which they first appear.
pub(crate) fn first(
    batch: &Batch,
    keys: &[(usize, Shape)],
    columns: &[(usize, bool)],
    count: usize,
) -> Batch {
    let mut table = Keys::new(
        keys.iter().map(|(_, shape)| *shape).collect(),
        usize::MAX,
        0,
    );
    let lanes: Vec<&Lane> = keys
        .iter()
        .map(|(column, _)| &*batch.lanes[*column])
        .collect();
    let mut codes = Vec::new();
    table.code(&lanes, batch.rows, &mut codes);
    let mut parts: Vec<Vec<u32>> = vec![Vec::new(); table.len()];
    for row in order::sorted(batch, columns) {
        let part = &mut parts[index(codes[index(row)])];
        if part.len() < count {
            part.push(row);
        }
    }
    let rows: Vec<u32> = parts.iter().flatten().copied().collect();
    let places = parts
        .iter()
        .flat_map(|part| 1..=i64::try_from(part.len()).expect("a part is in memory"))
        .collect();
    let mut first = batch.take(&rows);
    first.lanes.push(Arc::new(Lane::dense(Values::Int(places))));
    first
}
