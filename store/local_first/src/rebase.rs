//! How a site comes back that was left out: it takes the group's keys as they are, and makes
//! again what the group never got.
//!
//! ```text
//! what it wrote    old.1 .. old.F | old.F+1 .. old.n       the group has the first, and goes on
//! a key there      own writes that stand, own writes and deletes that removed something
//! made again       the same under the heir, each at its time, as of what it saw of the key
//! ```
//!
//! Its updates need not be kept for that. What stands of them in its own keys is all that they
//! come to, and a write that it has seen, that the group still has and that it lacks is one that
//! they removed. What an update had seen of a key follows from the key: a write removes all of a
//! slot up to what its site had of it then, so what stands of that slot came later.
//!
//! What would surprise: nothing is merged, for a slot's numbers behind F mean nothing to others.
//! And nothing is made as if it were new: a value of a month ago would replace what was written
//! since. It stands beside what it did not see, and is shown if it is the later one.
//!
//! Where a site has writes of *another* that was left out as well, and they stand at a key, it
//! is not known which of the two removed what the group still has there. Nothing is removed at
//! such a key; what stands of its own stands beside it. The other's writes are told and not made
//! again, for that one may come back itself.
//!
//! And a copy of its data from before it came back makes nothing again: the group has that, under
//! the slot that it had in between.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;

use bytes::Bytes;

use crate::clock::Hlc;
use crate::conflict::Party;
use crate::document::{Row, Write};
use crate::island::{Island, Tip};
use crate::members::Members;
use crate::state::State;
use crate::update::{CHANGES_BYTES_MAX, CHANGES_MAX, Change, Sealed, Update};
use crate::vector::{Dot, Slot, Vector};
use crate::wire::Mark;

/// A site that was left out, as it was.
#[derive(Clone, Copy, Debug)]
pub struct Absent<'a> {
    /// The slot that it had.
    pub slot: Slot,
    /// What it had taken in.
    pub vector: &'a Vector,
    /// Up to where slots count that do not go on, its own among them.
    pub limits: &'a BTreeMap<Slot, u64>,
}

/// What is to be made again of one key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Made {
    /// Deletes that win; they come in an update before the rest, for the rest saw them.
    pub erases: Vec<Change>,
    /// What comes in one update.
    pub changes: Vec<Change>,
    /// What does not fit beside it there: a key has one addition an update.
    pub more: Vec<Change>,
    /// What counts for nobody and is not made again: writes of another that was left out, and a
    /// base of a counter that saw a part of what the group has added up since.
    pub left_out: Vec<Party>,
}

impl Made {
    /// Whether there is nothing to do or to tell.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        let is_made = !self.changes.is_empty() || !self.erases.is_empty() || !self.more.is_empty();
        !is_made && self.left_out.is_empty()
    }
}

impl Absent<'_> {
    /// Whether an update counts for nobody.
    #[must_use]
    pub fn is_beyond(&self, dot: Dot) -> bool {
        let limit = self.limits.get(&dot.slot);
        limit.is_some_and(|limit| dot.seq > *limit)
    }

    fn is_own(&self, dot: Dot) -> bool {
        dot.slot == self.slot && self.is_beyond(dot)
    }

    /// What it had taken in of what counts.
    #[must_use]
    pub fn counted(&self) -> Vector {
        let mut counted = self.vector.clone();
        for (slot, limit) in self.limits {
            counted.lower(*slot, *limit);
        }
        counted
    }

    /// Whether a site may be taken over from another: that one has all that this one has and that
    /// counts.
    #[must_use]
    pub fn may_adopt(&self, theirs: &Vector) -> bool {
        theirs.is_at_least(&self.counted())
    }

    /// What of a key it stands for that is nobody else's: own writes behind what counts.
    pub fn own<'a>(&'a self, state: &'a State) -> impl Iterator<Item = Dot> + 'a {
        let markers = state.markers().iter().map(|it| it.dot);
        dots(state).chain(markers).filter(|dot| self.is_own(*dot))
    }

    /// What its writes had seen of what the group has, where these stand that they had not.
    fn seen(&self, standing: impl Iterator<Item = Dot>, apart: &[Dot]) -> Vector {
        let mut seen = self.counted();
        for dot in standing.chain(apart.iter().copied()) {
            seen.lower(dot.slot, dot.seq - 1);
        }
        seen
    }

    /// What of a key it makes again, given what it had and what the group has.
    #[must_use]
    pub fn made(&self, key: &Bytes, (ours, theirs): (&State, &State)) -> Made {
        let (ours, theirs) = (ours.broken_like(theirs), theirs.broken_like(ours));
        let is_foreign = |dot: &Dot| dot.slot != self.slot && self.is_beyond(*dot);
        let apart: Vec<Dot> = if dots(&ours).any(|dot| is_foreign(&dot)) {
            dots(&theirs).collect()
        } else {
            Vec::new()
        };
        let seen = self.seen(dots(&ours), &apart);
        let mut made = Made {
            erases: self.erases(key, &ours, &apart),
            left_out: parties(&ours, &|dot| is_foreign(&dot)),
            ..Made::default()
        };
        let mut whole = self.puts(key, &ours, &seen);
        if whole.is_empty() && made.erases.is_empty() {
            whole.extend(removal(key, &theirs, &seen));
        }
        let is_partly = |run: &crate::counter::Run| {
            seen.covers(run.begin()) && !seen.covers(run.end()) && !whole.is_empty()
        };
        if theirs.runs().iter().any(is_partly) {
            made.left_out
                .extend(parties(&ours, &|dot| self.is_own(dot)));
            whole.clear();
        }
        let gone = if whole.is_empty() && made.erases.is_empty() {
            Vector::new()
        } else {
            seen.clone()
        };
        made.changes = whole;
        self.additions(key, &ours, &seen, &mut made);
        self.parts(key, (&ours, &theirs), (&gone, &apart), &mut made.changes);
        made
    }

    /// What of a key it tells, and makes nothing again: its data are a copy of before it came back.
    /// What it made again then is there with the time that it had.
    #[must_use]
    pub fn told(&self, (ours, theirs): (&State, &State)) -> Made {
        let there = parties(theirs, &|_| true);
        let mut left_out = parties(ours, &|dot| self.is_beyond(dot));
        left_out.retain(|it| !there.iter().any(|other| other.hlc == it.hlc));
        Made {
            left_out,
            ..Made::default()
        }
    }

    /// Of other deletes it takes those away that it saw.
    fn erases(&self, key: &Bytes, ours: &State, apart: &[Dot]) -> Vec<Change> {
        let markers = ours.markers().iter().map(|it| it.dot);
        let seen = self.seen(dots(ours).chain(markers), apart);
        let own = ours.markers().iter().filter(|it| self.is_own(it.dot));
        own.map(|it| again(&seen, it.hlc, Change::Erase { key: key.clone() }))
            .collect()
    }

    fn puts(&self, key: &Bytes, ours: &State, seen: &Vector) -> Vec<Change> {
        let own = ours.siblings().iter().filter(|it| self.is_own(it.dot));
        let put = |it: &crate::state::Sibling| {
            let (key, lease, value) = (key.clone(), it.lease, it.value.clone());
            again(seen, it.hlc, Change::Put { key, lease, value })
        };
        own.map(put).collect()
    }

    /// All additions as one, or as few as hold their sum.
    fn additions(&self, key: &Bytes, ours: &State, seen: &Vector, made: &mut Made) {
        let mut sums: Vec<(Hlc, i64)> = Vec::new();
        for it in ours.deltas().iter().filter(|it| self.is_own(it.dot)) {
            let last = sums.last_mut();
            let sum = last.and_then(|last| Some((last.1.checked_add(it.amount)?, last)));
            match sum {
                Some((sum, last)) => *last = (last.0.max(it.hlc), sum),
                None => sums.push((it.hlc, it.amount)),
            }
        }
        let add = |(hlc, amount)| {
            let key = key.clone();
            again(seen, hlc, Change::Add { key, amount })
        };
        let mut all = sums.into_iter().map(add);
        made.changes.extend(all.next());
        made.more.extend(all);
    }

    /// Parts of a document: those that it wrote, and those that it removed.
    fn parts(
        &self,
        key: &Bytes,
        (ours, theirs): (&State, &State),
        (gone, apart): (&Vector, &[Dot]),
        changes: &mut Vec<Change>,
    ) {
        let wholes = || ours.siblings().iter().map(|it| it.dot);
        let own = ours.rows().iter().filter(|it| self.is_own(it.dot));
        let own: Vec<&Row> = own.collect();
        let mut write = |seen: &Vector, (hlc, lease): (Hlc, i64), write: Write| {
            let (key, writes) = (key.clone(), vec![write]);
            changes.push(again(seen, hlc, Change::Paths { key, lease, writes }));
        };
        let seen_at = |is_there: &dyn Fn(&Row) -> bool| {
            let standing = ours.rows().iter().filter(|it| is_there(it));
            self.seen(standing.map(|it| it.dot).chain(wholes()), apart)
        };
        let counted = self.counted();
        let mut last: Option<&Bytes> = None;
        for row in theirs.rows() {
            let stands = |it: &Row| it.path == row.path && it.dot == row.dot;
            let is_gone = counted.covers(row.dot) && !ours.rows().iter().any(stands);
            let is_replaced = own.iter().any(|it| it.path == row.path);
            if !is_gone || gone.covers(row.dot) || is_replaced || last == Some(&row.path) {
                continue;
            }
            let seen = seen_at(&|it| it.path.starts_with(&row.path));
            if seen.covers(row.dot) {
                last = Some(&row.path);
                write(&seen, (row.hlc.next(0), 0), Write::Remove(row.path.clone()));
            }
        }
        for row in &own {
            let seen = seen_at(&|it| it.path == row.path);
            let set = Write::Set(row.path.clone(), row.node, row.value.clone());
            write(&seen, (row.hlc, row.lease), set);
        }
    }
}

/// A delete of whole values and additions that are gone where nothing took their place. When that
/// was is not known, but that it was later than they.
fn removal(key: &Bytes, theirs: &State, seen: &Vector) -> Option<Change> {
    let wholes = theirs.siblings().iter().map(|it| (it.dot, it.hlc));
    let deltas = theirs.deltas().iter().map(|it| (it.dot, it.hlc));
    let runs = theirs.runs().iter().map(|it| (it.begin(), it.hlc));
    let gone = wholes.chain(deltas).chain(runs);
    let gone = gone.filter(|(dot, _)| seen.covers(*dot));
    let latest = gone.map(|(_, hlc)| hlc).max()?;
    let key = key.clone();
    Some(again(seen, latest.next(0), Change::Delete { key }))
}

/// The writes of a key that stand and are such; a part of a document and an addition without
/// their values.
fn parties(state: &State, is_such: &dyn Fn(Dot) -> bool) -> Vec<Party> {
    let nothing = Bytes::new();
    let party = |dot, hlc, value: &Bytes| Party::new(Mark { dot, hlc }, value);
    let wholes = state.siblings().iter();
    let wholes = wholes.map(|it| party(it.dot, it.hlc, &it.value));
    let deltas = state.deltas().iter();
    let deltas = deltas.map(|it| party(it.dot, it.hlc, &nothing));
    let rows = state.rows().iter();
    let rows = rows.map(|it| party(it.dot, it.hlc, &nothing));
    let mut all: Vec<Party> = wholes.chain(deltas).chain(rows).collect();
    all.retain(|it| is_such(it.dot));
    all.sort_unstable();
    all.dedup_by_key(|it| it.dot);
    all
}

fn again(seen: &Vector, hlc: Hlc, change: Change) -> Change {
    let (seen, change) = (seen.clone(), Box::new(change));
    Change::Again { seen, hlc, change }
}

/// All writes of a key that stand, of those that are folded the first.
fn dots(state: &State) -> impl Iterator<Item = Dot> + '_ {
    let wholes = state.siblings().iter().map(|it| it.dot);
    let deltas = state.deltas().iter().map(|it| it.dot);
    let runs = state.runs().iter().map(crate::counter::Run::begin);
    let rows = state.rows().iter().map(|it| it.dot);
    wholes.chain(deltas).chain(runs).chain(rows)
}

/// The island of a site that takes another's keys and tips as they are, and goes on under its
/// heir. `newest` is the latest time in them.
#[must_use]
pub fn adopted(members: &Members, heir: Slot, tips: BTreeMap<Slot, Tip>, newest: Hlc) -> Island {
    Island::again((heir, members.epoch()), newest, tips, None)
}

/// Makes the updates of what is made again under the heir, on top of what was adopted, and takes
/// them in. As few as hold it, in order of time: what was one update mostly stays one. No time is
/// later than it was, nor than `latest`.
///
/// # Panics
///
/// If a change alone is longer than an update. It was part of one before.
pub fn reissue(island: &mut Island, all: Vec<Made>, latest: Hlc) -> Vec<Sealed> {
    let (mut erases, mut changes, mut more) = (Vec::new(), Vec::new(), Vec::new());
    for made in all {
        let has_erased = !made.erases.is_empty();
        erases.extend(made.erases.into_iter().map(|it| (it, false)));
        changes.push((made.changes, has_erased));
        more.extend(made.more.into_iter().map(|it| (it, has_erased)));
    }
    let mut reissued = Vec::new();
    pack(island, erases, latest, &mut reissued);
    // Of one key they stay in their order.
    changes.sort_by_key(|(of_key, _)| of_key.iter().map(time).min());
    let changes = changes.into_iter();
    let changes = changes.flat_map(|(of_key, has_erased)| {
        let each = of_key.into_iter();
        each.map(move |it| (it, has_erased))
    });
    pack(island, changes.collect(), latest, &mut reissued);
    for one in more {
        pack(island, vec![one], latest, &mut reissued);
    }
    reissued
}

fn time(change: &Change) -> Hlc {
    match change {
        Change::Again { hlc, .. } => *hlc,
        Change::Put { .. }
        | Change::Delete { .. }
        | Change::DeleteRange { .. }
        | Change::Add { .. }
        | Change::Paths { .. }
        | Change::Erase { .. } => Hlc::default(),
    }
}

/// What saw deletes that were made again just before is told so.
fn pack(
    island: &mut Island,
    changes: Vec<(Change, bool)>,
    latest: Hlc,
    reissued: &mut Vec<Sealed>,
) {
    let before = island.vector().clone();
    let own = island.slot();
    let (mut together, mut bytes) = (Vec::new(), 0);
    for (mut change, has_erased) in changes {
        if let Change::Again { seen, hlc, .. } = &mut change {
            *hlc = (*hlc).min(latest);
            if has_erased {
                seen.raise(own, before.seq(own));
            }
        }
        let size = change.size();
        if bytes + size > CHANGES_BYTES_MAX || together.len() >= CHANGES_MAX {
            reissued.push(seal(island, core::mem::take(&mut together)));
            bytes = 0;
        }
        bytes += size;
        together.push(change);
    }
    if !together.is_empty() {
        reissued.push(seal(island, together));
    }
}

fn seal(island: &mut Island, changes: Vec<Change>) -> Sealed {
    let own = island.slot();
    let before = island.tips().get(&own).cloned().unwrap_or_default();
    let update = Update {
        dot: Dot {
            slot: own,
            seq: before.seq + 1,
        },
        epoch: island.epoch(),
        hlc: changes.iter().map(time).max().unwrap_or_default(),
        deps: island.vector().clone(),
        prev: before.chain,
        is_reissued: true,
        changes,
    };
    let sealed = Sealed::new(update, &before.deps);
    island.take(&sealed);
    sealed
}
