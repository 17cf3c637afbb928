//! Whose stint is next: live queries before batch queries, in pieces short enough that nobody waits.
//!
//! Queries that share a thread take turns, a stint each. A stint is a batch of so many rows as the query is
//! expected to need 100 us for, by what its stints took so far: whoever comes waits no longer than
//! that for the stint that runs. A live query that has rows goes before every batch query, but for
//! one stint in twenty while both have rows, so that a batch query ends some day. Within a class
//! the one that waited longest goes first.
//!
//! To suspend a query is not to push its next piece: no output depends on where its input is cut.
//! A stint is as long as its piece makes it, also where that closes a window of very many keys.
//!
//! It is pure: the caller measures, and says what it measured.

/// How urgent a query is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Somebody waits for what it says of rows as they come.
    Live,
    /// It reads what is there already.
    Batch,
}

/// The time that a stint is to take, in nanoseconds.
const STINT: u64 = 100_000;
/// Rows of a stint at least and at most.
const ROWS: (usize, usize) = (64, 16_384);
/// Of so many stints one is a batch query's while live ones wait, too.
const SHARE: u32 = 20;

/// What is known of a query.
#[derive(Clone, Copy, Debug)]
struct Known {
    class: Class,
    /// Picoseconds a row, an average in which the last stint counts a quarter.
    cost: u64,
    /// When it last had a stint.
    last: u64,
}

impl Known {
    const fn new(class: Class) -> Self {
        Self {
            class,
            // A tenth of a microsecond a row: what is not known yet is taken for slow.
            cost: 100_000,
            last: 0,
        }
    }
}

/// Stints of queries on one thread, one after the other.
#[derive(Clone, Debug, Default)]
pub struct Stints {
    known: Vec<Known>,
    /// Stints so far.
    stints: u64,
    /// Stints of live queries since a batch query that waited had one.
    passed: u32,
}

impl Stints {
    /// Nobody has had one.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes a query in, and gives its number.
    pub fn add(&mut self, class: Class) -> usize {
        self.known.push(Known::new(class));
        self.known.len() - 1
    }

    /// Gives the number of a query that is gone to another one.
    pub fn renew(&mut self, query: usize, class: Class) {
        self.known[query] = Known::new(class);
    }

    /// Whose stint is next, of those that have rows.
    pub fn next(&mut self, has_rows: impl Fn(usize) -> bool) -> Option<usize> {
        let of = |class: Class| {
            let queries = (0..self.known.len()).filter(|query| has_rows(*query));
            let queries = queries.filter(|query| self.known[*query].class == class);
            queries.min_by_key(|query| self.known[*query].last)
        };
        let (live, batch) = (of(Class::Live), of(Class::Batch));
        let is_due = self.passed + 1 >= SHARE;
        let chosen = match (live, batch) {
            (Some(_), Some(batch)) if is_due => batch,
            (Some(live), Some(_)) => {
                self.passed += 1;
                live
            }
            (live, batch) => live.or(batch)?,
        };
        if self.known[chosen].class == Class::Batch {
            self.passed = 0;
        }
        self.stints += 1;
        self.known[chosen].last = self.stints;
        Some(chosen)
    }

    /// How many rows a stint of a query is.
    #[must_use]
    pub fn rows(&self, query: usize) -> usize {
        let rows = STINT * 1_000 / self.known[query].cost.max(1);
        usize::try_from(rows)
            .unwrap_or(ROWS.1)
            .clamp(ROWS.0, ROWS.1)
    }

    /// Notes what a stint took. A stint that took longer than it was to is taken at its word, so
    /// that the next one is short.
    pub fn took(&mut self, query: usize, rows: usize, nanoseconds: u64) {
        let rows = u64::try_from(rows.max(1)).unwrap_or(u64::MAX);
        let cost = nanoseconds.saturating_mul(1_000) / rows;
        let known = &mut self.known[query];
        known.cost = if nanoseconds > 2 * STINT {
            known.cost.max(cost)
        } else {
            (known.cost / 4).saturating_mul(3).saturating_add(cost / 4)
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn live_queries_go_before_batch_queries_but_for_one_turn_in_twenty() {
        let mut stints = Stints::new();
        let batch = stints.add(Class::Batch);
        let live = stints.add(Class::Live);
        let of: Vec<usize> = (0..60).filter_map(|_| stints.next(|_| true)).collect();
        assert_eq!(of.iter().filter(|query| **query == batch).count(), 3);
        assert_eq!(of[..19], [live; 19]);
        assert_eq!(stints.next(|query| query == batch), Some(batch));
        assert_eq!(stints.next(|_| true), Some(live));
        assert_eq!(stints.next(|_| false), None);
    }

    #[test]
    fn a_class_goes_round() {
        let mut stints = Stints::new();
        let three: Vec<usize> = (0..3).map(|_| stints.add(Class::Batch)).collect();
        let of: Vec<usize> = (0..6).filter_map(|_| stints.next(|_| true)).collect();
        assert_eq!(of[..3], three);
        assert_eq!(of[3..], three);
    }

    #[test]
    fn a_turn_is_as_many_rows_as_fit_its_time() {
        let mut stints = Stints::new();
        let query = stints.add(Class::Batch);
        assert_eq!(stints.rows(query), 1_000);
        for _ in 0..40 {
            stints.took(query, 1_000, 20_000);
        }
        assert!((4_900..5_300).contains(&stints.rows(query)), "20 ns a row");
        stints.took(query, 5_000, 5_000_000);
        assert_eq!(stints.rows(query), 100, "one stint was far too long");
        stints.took(query, 1, u64::MAX);
        assert_eq!(stints.rows(query), 64);
    }
}
