//! Updates that put keys and saw all that stands there: taken in without reading what does.
//!
//! Nearly all are such. What they replace need not be known, only that they saw it, and that
//! follows from when it was written here: whatever was written up to a revision is covered by
//! what the island had taken in at that revision.
//!
//! What would surprise: this is a shortcut and decides nothing. What is kept here is forgotten at
//! a start, and an update for which it does not suffice is taken in the long way, to the same.

use std::collections::VecDeque;

use holm_base::Revision;
use holm_local_first::{Change, Dot, Mark, Sealed, Type, Vector};

use super::gone::removed_by;
use super::{Isle, next};
use crate::apply::Work;
use crate::store::Store;

/// How many of the newest revisions are known by their updates.
const RECENT_MAX: usize = 8_192;
/// After how many revisions it is kept what the island had taken in.
const FLOOR_EVERY: usize = 256;
/// How many of these are kept; the older, the fewer.
const FLOORS_MAX: usize = 48;

/// What was written here, by revision.
#[derive(Debug)]
pub(super) struct Written {
    /// Revisions, and what had been taken in by then: it covers all that was written up to them.
    floors: VecDeque<(Revision, Vector)>,
    /// Revisions whose puts all have the mark of one update.
    recent: VecDeque<(Revision, Dot)>,
    since_floor: usize,
}

impl Written {
    /// All that is there was written by what was taken in.
    pub(super) fn new(revision: Revision, vector: &Vector) -> Self {
        Self {
            floors: VecDeque::from([(revision, vector.clone())]),
            recent: VecDeque::new(),
            since_floor: 0,
        }
    }

    /// An update made a revision, and its mark is on all that it put.
    pub(super) fn note(&mut self, revision: Revision, dot: Dot, vector: &Vector) {
        if self.recent.len() >= RECENT_MAX {
            self.recent.pop_front();
        }
        self.recent.push_back((revision, dot));
        self.since_floor += 1;
        if self.since_floor < FLOOR_EVERY {
            return;
        }
        self.since_floor = 0;
        self.floors.push_back((revision, vector.clone()));
        if self.floors.len() > FLOORS_MAX {
            let mut at = 0;
            self.floors.retain(|_| {
                at += 1;
                at > FLOORS_MAX / 2 || at % 2 == 1
            });
        }
    }

    /// A revision up to which an update saw everything that was written.
    fn floor(&self, deps: &Vector) -> Revision {
        let seen = |it: &&(Revision, Vector)| deps.is_at_least(&it.1);
        let found = self.floors.iter().rev().find(seen);
        found.map_or(Revision::ZERO, |it| it.0)
    }

    /// Which update's mark is on what a revision put, if that is known.
    fn by(&self, revision: Revision) -> Option<Dot> {
        let found = self.recent.binary_search_by_key(&revision, |it| it.0);
        found.ok().map(|at| self.recent[at].1)
    }
}

impl Isle {
    /// Whether an update that saw `deps`, and so all that was written up to `floor`, surely saw
    /// all that is known of a key.
    fn is_seen_by(&self, store: &Store, key: &[u8], (deps, floor): (&Vector, Revision)) -> bool {
        if self.kept_state(store, key).is_some() {
            return false;
        }
        let root = store.root();
        let (is_there, newest) = match root.get(key) {
            Some(meta) => (true, Some(meta)),
            None => (false, root.deleted(key)),
        };
        let Some(newest) = newest else {
            return true;
        };
        let by = || self.written.by(newest.modified);
        if newest.modified <= floor || by().is_some_and(|dot| deps.covers(dot)) {
            return true;
        }
        // A delete that it did not see is told as a conflict.
        let removed = || removed_by(root, key);
        !is_there && removed().is_ok_and(|it| it.is_none_or(|it| deps.covers(it.dot)))
    }

    /// Whether each change puts a key of which the update saw all that is known.
    fn only_replaces(&self, store: &Store, sealed: &Sealed) -> bool {
        if !matches!(self.config.rules.kind, Type::Lww | Type::Mv | Type::Set) {
            return false;
        }
        let deps = &sealed.update.deps;
        let floor = self.written.floor(deps);
        sealed.update.changes.iter().all(|change| match change {
            Change::Put { key, .. } => self.is_seen_by(store, key, (deps, floor)),
            Change::Delete { .. }
            | Change::DeleteRange { .. }
            | Change::Add { .. }
            | Change::Paths { .. }
            | Change::Erase { .. }
            | Change::Again { .. } => false,
        })
    }
}

impl Work<'_> {
    /// Takes an update in, if it only replaces what it saw; gives it back otherwise.
    pub(super) fn take_plainly(&mut self, sealed: Sealed) -> Option<Sealed> {
        let isle = self.isle.as_deref_mut().expect("it was asked for");
        if !isle.only_replaces(self.store, &sealed) {
            return Some(sealed);
        }
        isle.island.take(&sealed);
        let (dot, hlc) = (sealed.update.dot, sealed.update.hlc);
        let mark = Mark { dot, hlc }.encode();
        let revision = next(self.store.root(), isle.unix_ms);
        self.store.begin_revision(revision);
        let changes = &sealed.update.changes;
        let mut puts: Vec<_> = changes.iter().filter_map(Change::put).collect();
        // In the order in which they are shown that are looked at.
        puts.sort_unstable_by_key(|(key, ..)| *key);
        for (key, value, lease) in puts {
            self.isle().touch(key);
            self.show_put(key, (value, lease), mark.clone());
        }
        self.store.end_revision();
        let isle = self.isle();
        isle.written.note(revision, dot, isle.island.vector());
        isle.keep(sealed);
        None
    }
}

#[cfg(test)]
mod tests {
    use holm_local_first::Slot;

    use super::*;

    /// So many updates of one slot, each of which made a revision of its number.
    fn written(count: u64) -> (Written, impl Fn(u64) -> Vector) {
        let slot = Slot::new(1).expect("it is not 0");
        let upto = move |seq| {
            let mut vector = Vector::new();
            vector.raise(slot, seq);
            vector
        };
        let mut written = Written::new(Revision::ZERO, &Vector::new());
        for seq in 1..=count {
            let revision = Revision::new(i64::try_from(seq).expect("it is small"));
            written.note(revision, Dot { slot, seq }, &upto(seq));
        }
        (written, upto)
    }

    #[test]
    fn the_newest_revisions_are_known_by_their_updates_and_no_more() {
        let count = RECENT_MAX + 10;
        let (written, _upto) = written(u64::try_from(count).expect("it is small"));
        assert_eq!(written.recent.len(), RECENT_MAX);
        assert_eq!(written.by(Revision::new(10)), None, "it was let go");
        let first = written.by(Revision::new(11)).expect("it is the oldest");
        assert_eq!(first.seq, 11);
    }

    #[test]
    fn floors_grow_sparser_and_never_say_too_much() {
        let every = u64::try_from(FLOOR_EVERY).expect("it is small");
        let count = every * 3 * u64::try_from(FLOORS_MAX).expect("it is small");
        let (written, upto) = written(count);
        assert!(written.floors.len() <= FLOORS_MAX);
        for seq in (0..=count).step_by(97) {
            let floor = written.floor(&upto(seq)).value();
            assert!(floor <= i64::try_from(seq).expect("it is small"));
        }
        let newest = written.floor(&upto(count)).value();
        assert_eq!(newest, i64::try_from(count).expect("it is small"));
    }
}
