//! Groups of a window's keys by some of their parts, counted without a row for each key.
//!
//! "How many vehicles in each segment" is windows by vehicle and segment, and then a count by
//! segment. A key's group is the same in every window, so that it is found once; after that a
//! window costs one look at each of its keys.

use holm_lanes::{Fault, Keys, Lane, LoadError, Loader, NO_CODE, Saver, Shape, index};

use crate::closed::Pushed;
use crate::limits::Limits;
use crate::slice::Slice;

/// The group of a key that no window has shown yet.
const UNKNOWN: u32 = NO_CODE - 1;

/// Groups of keys.
#[derive(Clone, Debug)]
pub(crate) struct Regroup {
    /// The parts of a key that make its group.
    parts: Vec<usize>,
    groups: Keys,
    /// The group of each key's code.
    of: Vec<u32>,
    /// How many keys of a window each group has; zero between windows.
    counts: Vec<i64>,
    /// How many results say so.
    results: usize,
    /// Keys of all windows so far.
    seen: u64,
}

impl Regroup {
    pub(crate) fn new(parts: &[(usize, Shape)], results: usize, limits: Limits) -> Self {
        let shapes = parts.iter().map(|(_, shape)| *shape).collect();
        Self {
            parts: parts.iter().map(|(part, _)| *part).collect(),
            groups: Keys::new(shapes, limits.keys, limits.seed),
            of: Vec::new(),
            counts: Vec::new(),
            results,
            seen: 0,
        }
    }

    /// The group of each code.
    pub(crate) const fn groups(&self) -> &Keys {
        &self.groups
    }

    /// How many results each group has.
    pub(crate) const fn results(&self) -> usize {
        self.results
    }

    /// About how many bytes it takes.
    pub(crate) fn bytes(&self) -> usize {
        self.groups.bytes() + 4 * self.of.len() + 8 * self.counts.len()
    }

    /// Adds the groups of a window's keys, each with how many keys it has.
    pub(crate) fn add(
        &mut self,
        keys: &Keys,
        (start, end): (i64, i64),
        slice: &Slice,
        pushed: &mut Pushed,
    ) {
        self.of.resize(keys.len(), UNKNOWN);
        let (mut unknown, mut beyond) = (Vec::new(), 0_usize);
        slice.each_present(|code| {
            self.seen += 1;
            let group = self.of[index(code)];
            match self.counts.get_mut(index(group)) {
                Some(count) => *count += 1,
                None if group == UNKNOWN => unknown.push(code),
                None => beyond += 1,
            }
        });
        for group in self.learn(keys, unknown) {
            match self.counts.get_mut(index(group)) {
                Some(count) => *count += 1,
                None => beyond += 1,
            }
        }
        let limit = self.groups.limit();
        let faults = std::iter::repeat_n(Fault::Keys { limit }, beyond);
        pushed.closed.faults.extend(faults);
        pushed.closed.add_counts((start, end), &mut self.counts);
    }

    /// Finds the groups of keys that no window has shown yet, in the order of their codes.
    fn learn(&mut self, keys: &Keys, mut unknown: Vec<u32>) -> Vec<u32> {
        let mut groups = Vec::new();
        if unknown.is_empty() {
            return groups;
        }
        unknown.sort_unstable();
        let tuples = keys.parts(&self.parts, &unknown);
        let tuples: Vec<&Lane> = tuples.iter().collect();
        self.groups.code(&tuples, unknown.len(), &mut groups);
        for (code, group) in unknown.iter().zip(&groups) {
            self.of[index(*code)] = *group;
        }
        self.counts.resize(self.groups.len(), 0);
        groups
    }
}

/// State as bytes, and back: as groups of rows write it when none is open.
impl Regroup {
    pub(crate) fn save(&self, to: &mut Saver) {
        to.word(self.seen);
        self.groups.save(to);
        (0..self.results).for_each(|_| to.truth(false));
        to.count(0);
    }

    pub(crate) fn load(&mut self, from: &mut Loader<'_>) -> Result<(), LoadError> {
        self.seen = from.word()?;
        self.groups.load(from)?;
        for _ in 0..self.results {
            if from.truth()? {
                return Err(LoadError::Invalid { what: "groups" });
            }
        }
        if from.count(1)? != 0 {
            return Err(LoadError::Invalid { what: "groups" });
        }
        self.counts.resize(self.groups.len(), 0);
        Ok(())
    }
}
