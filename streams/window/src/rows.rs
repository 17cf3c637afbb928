//! A batch as aggregates see it: codes of keys, columns, filters. All three kinds of window begin here.

use std::borrow::Cow;

use holm_lanes::{Batch, Keys, Lane, LoadError, Loader, Origin, Saver, Shape, Values, index};

use crate::aggregate::{Aggregate, Call};
use crate::limits::Limits;
use crate::state::Input;

/// Gives keys, and what is counted by how many differ, their codes.
#[derive(Clone, Debug)]
pub(crate) struct Coder {
    columns: Vec<usize>,
    keys: Keys,
    distinct: Vec<Option<Keys>>,
    limits: Limits,
}

impl Coder {
    pub(crate) fn new(keys: &[(usize, Shape)], calls: &[Call], limits: Limits) -> Self {
        let shapes = keys.iter().map(|(_, shape)| *shape).collect();
        Self {
            columns: keys.iter().map(|(column, _)| *column).collect(),
            keys: Keys::new(shapes, limits.keys, limits.seed),
            distinct: calls.iter().map(|_| None).collect(),
            limits,
        }
    }

    /// The key of each code.
    pub(crate) const fn keys(&self) -> &Keys {
        &self.keys
    }

    /// About how many bytes it takes.
    pub(crate) fn bytes(&self) -> usize {
        let distinct = self.distinct.iter().flatten();
        self.keys.bytes() + distinct.map(Keys::bytes).sum::<usize>()
    }

    /// Whether all rows have one key, for it has no columns.
    pub(crate) const fn is_keyless(&self) -> bool {
        self.columns.is_empty()
    }

    /// Codes a batch whose times are in a column, if it has any. `origin` says where its rows
    /// come from.
    ///
    /// # Panics
    ///
    /// If the column of times holds no times.
    pub(crate) fn rows<'a>(
        &mut self,
        batch: &'a Batch,
        calls: &[Call],
        time: Option<usize>,
        origin: &'a Origin,
    ) -> Rows<'a> {
        let columns = self.columns.iter();
        let keys: Vec<&Lane> = columns.map(|column| &*batch.lanes[*column]).collect();
        let mut codes = Vec::new();
        self.keys.code(&keys, batch.rows, &mut codes);
        let mut lanes = Vec::with_capacity(calls.len());
        for (call, keys) in calls.iter().zip(&mut self.distinct) {
            let lane = call.column.map(|column| &*batch.lanes[column]);
            lanes.push(match lane {
                Some(lane) if call.aggregate == Aggregate::CountDistinct => {
                    Some(Cow::Owned(coded(lane, keys, self.limits)))
                }
                Some(lane) if call.aggregate == Aggregate::AboutDistinct => {
                    let nulls = lane.nulls().map(<[bool]>::to_vec);
                    let hashes = Values::Int(crate::sketch::hashes(lane));
                    Some(Cow::Owned(Lane::new(hashes, nulls)))
                }
                other => other.map(Cow::Borrowed),
            });
        }
        let times = time.map(|time| batch.lanes[time].ints().expect("a time is an integer"));
        let filters = calls.iter();
        let filters = filters.map(|call| call.filter.map(|column| batch.lanes[column].truths()));
        Rows {
            codes,
            times: times.map(Cow::Borrowed),
            filters: filters.collect(),
            lanes,
            origin: Cow::Borrowed(origin),
            is_ordered: calls.iter().any(|call| call.aggregate.is_edge()),
        }
    }
}

/// A batch as aggregates see it.
#[derive(Debug)]
pub(crate) struct Rows<'a> {
    /// The key of each row; none where keys are used up.
    pub(crate) codes: Vec<u32>,
    times: Option<Cow<'a, [i64]>>,
    filters: Vec<Option<Vec<bool>>>,
    lanes: Vec<Option<Cow<'a, Lane>>>,
    origin: Cow<'a, Origin>,
    /// Whether an aggregate depends on which row came first.
    is_ordered: bool,
}

impl Rows<'_> {
    /// The rows that are named.
    pub(crate) fn take(&self, rows: &[u32]) -> Self {
        let lanes = self.lanes.iter();
        let lanes = lanes.map(|lane| Some(Cow::Owned(lane.as_ref()?.take(rows))));
        let filters = self.filters.iter();
        let filters = filters.map(|filter| Some(picked(filter.as_ref()?, rows)));
        Rows {
            codes: picked(&self.codes, rows),
            times: self
                .times
                .as_ref()
                .map(|times| Cow::Owned(picked(times, rows))),
            filters: filters.collect(),
            lanes: lanes.collect(),
            origin: Cow::Owned(if self.is_ordered {
                self.origin.take(rows)
            } else {
                // Nobody asks where they come from.
                Origin::Run(0)
            }),
            is_ordered: self.is_ordered,
        }
    }

    /// The time of each row.
    ///
    /// # Panics
    ///
    /// If they have none.
    pub(crate) fn times(&self) -> &[i64] {
        self.times
            .as_deref()
            .expect("these rows have a column of times")
    }

    pub(crate) fn input(&self, call: usize) -> Input<'_> {
        Input {
            lane: self.lanes[call].as_deref(),
            filter: self.filters[call].as_deref(),
            times: self.times.as_deref(),
            sequences: &self.origin,
        }
    }
}

fn picked<T: Copy>(values: &[T], rows: &[u32]) -> Vec<T> {
    rows.iter().map(|row| values[index(*row)]).collect()
}

/// Values as codes, for counting how many differ.
fn coded(lane: &Lane, keys: &mut Option<Keys>, limits: Limits) -> Lane {
    let shape = match lane.values() {
        Values::Bool(_) => Shape::Bool,
        Values::Int(_) => return lane.clone(),
        Values::Wide(_) => Shape::Wide,
        Values::Real(_) => Shape::Real,
        Values::Text(_) => Shape::Text,
    };
    // Integers need none; what is counted of others is bounded by memory, as their sets are.
    let keys = keys.get_or_insert_with(|| Keys::new(vec![shape], usize::MAX, limits.seed));
    let mut codes = Vec::new();
    keys.code(&[lane], lane.len(), &mut codes);
    let values = codes.iter().map(|code| i64::from(*code)).collect();
    Lane::new(Values::Int(values), lane.nulls().map(<[bool]>::to_vec))
}

/// State as bytes, and back.
impl Coder {
    pub(crate) fn save(&self, to: &mut Saver) {
        self.keys.save(to);
        for keys in &self.distinct {
            to.truth(keys.is_some());
            if let Some(keys) = keys {
                to.shape(keys.shapes()[0]);
                keys.save(to);
            }
        }
    }

    pub(crate) fn load(&mut self, from: &mut Loader<'_>) -> Result<(), LoadError> {
        self.keys.load(from)?;
        for keys in &mut self.distinct {
            if from.truth()? {
                let mut loaded = Keys::new(vec![from.shape()?], usize::MAX, self.limits.seed);
                loaded.load(from)?;
                *keys = Some(loaded);
            }
        }
        Ok(())
    }
}
