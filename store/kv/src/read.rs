//! Which versions a range request selects, in which order, and how many there are.
//!
//! What would surprise: `count` is the number of keys in the range whatever the filters and
//! the limit say, and only a limit that cut something sets `more`.

use std::cmp::Reverse;
use std::ops::ControlFlow;

use bytes::Bytes;
use holm_base::Revision;

use crate::command::{Range, SortOrder, SortTarget};
use crate::error::StoreError;
use crate::outcome::RangeOutcome;
use crate::range::KeyRange;
use crate::record::Record;
use crate::refusal::Refusal;
use crate::root::{Meta, Root};

/// What a range request selects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// The versions, in the order asked for. Empty if only the count was.
    pub metas: Vec<Meta>,
    /// Whether the limit cut some off.
    pub more: bool,
    /// How many keys the range holds at that revision, whatever the limit and the filters.
    pub count: i64,
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Damaged { file, at, .. } => Self::Corrupt {
                place: format!("{file} at byte {at}"),
            },
            StoreError::Foreign { .. } | StoreError::Newer { .. } | StoreError::Disk { .. } => {
                Self::Stopped
            }
        }
    }
}

/// Whether a revision can be read: 0 and below mean now.
pub(crate) fn check_revision(root: &Root, revision: i64) -> Result<(), Refusal> {
    if revision > 0 && root.is_foreign(revision) {
        let compacted = root.oldest();
        return Err(Refusal::Compacted { compacted });
    }
    if revision > root.revision().value() {
        let current = root.revision();
        return Err(Refusal::FutureRevision { current });
    }
    if revision > 0 && revision < root.compacted().value() {
        let compacted = root.compacted();
        return Err(Refusal::Compacted { compacted });
    }
    Ok(())
}

/// Selects at `at`, which the caller has checked; `None` is the working state. O(log n) and
/// O(selected) for a current range in key order, else O(keys of the range).
pub(crate) fn select(
    root: &Root,
    range: &Range,
    at: Option<Revision>,
) -> Result<Selection, Refusal> {
    let keys = KeyRange::new(range.key.clone(), range.range_end.clone());
    if range.count_only {
        let count = count(root, &keys, at);
        return Ok(Selection {
            count,
            ..Selection::default()
        });
    }
    let limit = usize::try_from(range.limit).unwrap_or(0);
    if limit > 0 && at.is_none() && is_plain(range) {
        return Ok(first_of(root, &keys, limit));
    }
    let (mut metas, count) = filtered(root, range, &keys, at);
    if limit > 0 && is_cut_first(range) {
        // As etcd: who names a target and no order sorts the first keys and one more.
        metas.truncate(limit.saturating_add(1));
    }
    sort(root, range, &mut metas)?;
    let more = limit > 0 && metas.len() > limit;
    if more {
        metas.truncate(limit);
    }
    Ok(Selection { metas, more, count })
}

fn count(root: &Root, keys: &KeyRange, at: Option<Revision>) -> i64 {
    let found = match (keys, at) {
        (KeyRange::One(key), None) => u64::from(root.get(key).is_some()),
        (_, None) => root.count(keys),
        (_, Some(_)) => {
            let mut found = 0;
            root.scan(keys, at, &mut |_, _| {
                found += 1;
                ControlFlow::Continue(())
            });
            found
        }
    };
    i64::try_from(found).expect("keys are fewer than their bytes")
}

/// Whether neither order nor filters need more than the first keys.
const fn is_plain(range: &Range) -> bool {
    let rising = !matches!(range.sort_order, SortOrder::Descend);
    rising && matches!(range.sort_target, SortTarget::Key) && !is_filtered(range)
}

/// Whether the limit cuts in key order, before another target sorts what is left.
const fn is_cut_first(range: &Range) -> bool {
    matches!(range.sort_order, SortOrder::None) && !is_filtered(range)
}

const fn is_filtered(range: &Range) -> bool {
    range.min_mod_revision != 0
        || range.max_mod_revision != 0
        || range.min_create_revision != 0
        || range.max_create_revision != 0
}

fn first_of(root: &Root, keys: &KeyRange, limit: usize) -> Selection {
    let mut metas = Vec::new();
    root.scan(keys, None, &mut |_, meta| {
        metas.push(*meta);
        if metas.len() > limit {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    });
    if metas.len() > limit {
        metas.truncate(limit);
        let count = count(root, keys, None);
        return Selection {
            metas,
            more: true,
            count,
        };
    }
    let count = i64::try_from(metas.len()).expect("keys are fewer than their bytes");
    Selection {
        metas,
        more: false,
        count,
    }
}

fn filtered(root: &Root, range: &Range, keys: &KeyRange, at: Option<Revision>) -> (Vec<Meta>, i64) {
    let (mut metas, mut count) = (Vec::new(), 0);
    root.scan(keys, at, &mut |_, meta| {
        count += 1;
        if passes(range, meta) {
            metas.push(*meta);
        }
        ControlFlow::Continue(())
    });
    (metas, count)
}

fn passes(range: &Range, meta: &Meta) -> bool {
    let within = |value: Revision, min: i64, max: i64| {
        (min == 0 || value.value() >= min) && (max == 0 || value.value() <= max)
    };
    within(
        meta.modified,
        range.min_mod_revision,
        range.max_mod_revision,
    ) && within(
        meta.create,
        range.min_create_revision,
        range.max_create_revision,
    )
}

/// Sorts what comes in key order. Equal ones stay in key order, in both directions.
fn sort(root: &Root, range: &Range, metas: &mut Vec<Meta>) -> Result<(), Refusal> {
    let falling = range.sort_order == SortOrder::Descend;
    match (range.sort_target, falling) {
        (SortTarget::Key, false) => {}
        (SortTarget::Key, true) => metas.reverse(),
        (SortTarget::Version, false) => metas.sort_by_key(|it| it.version),
        (SortTarget::Version, true) => metas.sort_by_key(|it| Reverse(it.version)),
        (SortTarget::Create, false) => metas.sort_by_key(|it| it.create),
        (SortTarget::Create, true) => metas.sort_by_key(|it| Reverse(it.create)),
        (SortTarget::Mod, false) => metas.sort_by_key(|it| it.modified),
        (SortTarget::Mod, true) => metas.sort_by_key(|it| Reverse(it.modified)),
        (SortTarget::Value, _) => sort_by_value(root, falling, metas)?,
    }
    Ok(())
}

fn sort_by_value(root: &Root, falling: bool, metas: &mut Vec<Meta>) -> Result<(), Refusal> {
    let mut values = Vec::with_capacity(metas.len());
    root.read_many(metas, &mut |record| values.push(value_of(&record)))?;
    let mut pairs: Vec<(Bytes, Meta)> = values.into_iter().zip(metas.drain(..)).collect();
    if falling {
        pairs.sort_by(|left, right| right.0.cmp(&left.0));
    } else {
        pairs.sort_by(|left, right| left.0.cmp(&right.0));
    }
    metas.extend(pairs.into_iter().map(|(_, meta)| meta));
    Ok(())
}

/// The value within a record; empty if the record has none.
pub(crate) fn value_of(record: &Record) -> Bytes {
    record.decode().map(|it| it.value).unwrap_or_default()
}

/// How many bytes reading a range takes in memory, or any number above `enough` if that is
/// more: the records that are selected; all that may be, if they are sorted by their values.
pub(crate) fn bytes(root: &Root, range: &Range, enough: u64) -> Result<u64, Refusal> {
    let at = (range.revision > 0).then(|| Revision::new(range.revision));
    let is_cut = range.limit > 0 && range.sort_target != SortTarget::Value;
    if is_cut {
        let selected = select(root, range, at)?;
        return Ok(selected
            .metas
            .iter()
            .map(|it| u64::from(it.record_bytes))
            .sum());
    }
    let keys = KeyRange::new(range.key.clone(), range.range_end.clone());
    let is_bare = range.keys_only && range.sort_target != SortTarget::Value;
    let mut bytes = 0;
    root.scan(&keys, at, &mut |key, meta| {
        if passes(range, meta) {
            let whole = u64::from(meta.record_bytes);
            bytes += if is_bare {
                whole.min(key.len() as u64 + 64)
            } else {
                whole
            };
        }
        if bytes > enough {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    });
    Ok(bytes)
}

/// A selection with its records read.
pub(crate) fn outcome(
    root: &Root,
    range: &Range,
    at: Option<Revision>,
) -> Result<RangeOutcome, Refusal> {
    let selection = select(root, range, at)?;
    let mut records = Vec::with_capacity(selection.metas.len());
    root.read_many(&selection.metas, &mut |record| {
        let bare = range.keys_only.then(|| record.without_value()).flatten();
        records.push(bare.unwrap_or(record));
    })?;
    Ok(RangeOutcome {
        records,
        more: selection.more,
        count: selection.count,
    })
}
