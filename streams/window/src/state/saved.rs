//! States as bytes, and back.

use holm_lanes::{LoadError, Loader, Saver};

use super::{Edge, Moments, State};
use crate::counts::Counts;
use crate::sketch::Sketch;

impl State {
    pub(crate) fn save(&self, rows: &[u64], to: &mut Saver) {
        match self {
            Self::Rows => {}
            Self::Count(counts) => {
                to.count(rows.len());
                counts.save(rows, to);
            }
            Self::Exact(sums, counts) => {
                to.count(sums.len());
                sums.iter().for_each(|sum| to.wide(*sum));
                counts.save(rows, to);
            }
            Self::Real(sums, counts) => {
                to.count(sums.len());
                sums.iter().for_each(|sum| to.real(*sum));
                counts.save(rows, to);
            }
            Self::Best(values) => {
                to.count(values.len());
                for value in values {
                    to.truth(value.is_some());
                    if let Some(value) = value {
                        to.scalar(value);
                    }
                }
            }
            Self::BestInt(values, set) => {
                to.count(values.len());
                values.iter().for_each(|value| to.int(*value));
                set.iter().for_each(|set| to.truth(*set));
            }
            Self::BestReal(values, set) => {
                to.count(values.len());
                values.iter().for_each(|value| to.real(*value));
                set.iter().for_each(|set| to.truth(*set));
            }
            Self::Edges(edges) => {
                to.count(edges.len());
                for edge in edges {
                    to.truth(edge.is_some());
                    if let Some(edge) = edge {
                        to.int(edge.time);
                        to.word(edge.sequence);
                        to.scalar(&edge.value);
                    }
                }
            }
            Self::Distinct(sets) => {
                to.count(sets.len());
                for set in sets {
                    to.count(set.len());
                    set.iter().for_each(|value| to.int(*value));
                }
            }
            Self::Sketches(sketches) => {
                to.count(sketches.len());
                sketches.iter().for_each(|sketch| sketch.save(to));
            }
            Self::Moments(moments) => {
                to.count(moments.len());
                for moments in moments {
                    to.word(moments.count);
                    to.real(moments.mean);
                    to.real(moments.squares);
                }
            }
        }
    }

    /// Reads what a state of the same aggregate wrote; there are as many as slots.
    pub(crate) fn load(&mut self, rows: &[u64], from: &mut Loader<'_>) -> Result<(), LoadError> {
        if matches!(self, Self::Rows) {
            return Ok(());
        }
        let n = from.count(1)?;
        if n != rows.len() {
            return Err(LoadError::Invalid { what: "state" });
        }
        match self {
            Self::Rows => {}
            Self::Count(counts) => *counts = Counts::load(rows, from)?,
            Self::Exact(sums, counts) => {
                *sums = from.many(n, Loader::wide)?;
                *counts = Counts::load(rows, from)?;
            }
            Self::Real(sums, counts) => {
                *sums = from.many(n, Loader::real)?;
                *counts = Counts::load(rows, from)?;
            }
            Self::Best(values) => {
                *values = from.many(n, |from| optional(from, |from| from.scalar()))?;
            }
            Self::BestInt(values, set) => {
                *values = from.many(n, Loader::int)?;
                *set = from.many(n, Loader::truth)?;
            }
            Self::BestReal(values, set) => {
                *values = from.many(n, Loader::real)?;
                *set = from.many(n, Loader::truth)?;
            }
            Self::Edges(edges) => *edges = from.many(n, |from| optional(from, edge))?,
            Self::Distinct(sets) => {
                *sets = from.many(n, |from| {
                    let count = from.count(8)?;
                    Ok(from.many(count, Loader::int)?.into_iter().collect())
                })?;
            }
            Self::Sketches(all) => *all = from.many(n, Sketch::load)?,
            Self::Moments(all) => *all = from.many(n, moments)?,
        }
        Ok(())
    }
}

fn optional<T>(
    from: &mut Loader<'_>,
    one: impl FnOnce(&mut Loader<'_>) -> Result<T, LoadError>,
) -> Result<Option<T>, LoadError> {
    if from.truth()? {
        one(from).map(Some)
    } else {
        Ok(None)
    }
}

fn edge(from: &mut Loader<'_>) -> Result<Edge, LoadError> {
    Ok(Edge {
        time: from.int()?,
        sequence: from.word()?,
        value: from.scalar()?,
    })
}

fn moments(from: &mut Loader<'_>) -> Result<Moments, LoadError> {
    Ok(Moments {
        count: from.word()?,
        mean: from.real()?,
        squares: from.real()?,
    })
}
