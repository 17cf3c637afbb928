//! Which updates no site can be without any more, and which streams may be cut.
//!
//! Two different things. A stream may be cut where every other site *has* it: who lacks more
//! asks nobody for it. But a marker may go, and additions may fold, only where nothing
//! *concurrent* to them can come any more.
//!
//! ```text
//! stable here: every active site m has reported a vector that covers it, and we have taken in
//!              of m what m itself had made when it reported
//! ```
//!
//! What would surprise: the first half alone is the cut, and wrong here. A site may report that
//! it has a delete while a write that it made before it knew of that is still on its way.

use alloc::collections::BTreeMap;

use crate::vector::{Slot, Vector};

/// How long a site may be silent before it no longer holds up the cut of streams.
pub const SILENT_MS_MAX: u64 = 30 * 24 * 3_600 * 1_000;

/// What another active site said.
#[derive(Clone, Debug, Default)]
struct Member {
    /// The most that it said it has.
    reported: Vector,
    /// When it last said something.
    heard_ms: Option<u64>,
    /// The most that counts: we have all that it had made when it said so.
    counted: Vector,
    /// The oldest report that does not count yet, and the newest.
    waiting: Option<Vector>,
    newest: Option<Vector>,
}

impl Member {
    fn advance(&mut self, slot: Slot, ours: &Vector) {
        while let Some(report) = self.waiting.take_if(|it| ours.seq(slot) >= it.seq(slot)) {
            self.counted.join(&report);
            self.waiting = self.newest.take();
        }
    }
}

/// What the active sites other than this one said that they have.
#[derive(Clone, Debug, Default)]
pub struct Stability {
    members: BTreeMap<Slot, Member>,
}

impl Stability {
    /// Nothing was heard yet of these.
    pub fn new(others: impl IntoIterator<Item = Slot>) -> Self {
        let members = others.into_iter().map(|slot| (slot, Member::default()));
        Self {
            members: members.collect(),
        }
    }

    /// Another set of active sites: what is known of those that stay is kept.
    pub fn become_of(&mut self, others: impl IntoIterator<Item = Slot>) {
        let mut before = core::mem::take(&mut self.members);
        for slot in others {
            let member = before.remove(&slot).unwrap_or_default();
            self.members.insert(slot, member);
        }
    }

    /// A site said how far it is; we are at `ours`, and our clock says `unix_ms`.
    pub fn report(&mut self, from: Slot, vector: &Vector, ours: &Vector, unix_ms: u64) {
        let Some(member) = self.members.get_mut(&from) else {
            return;
        };
        member.reported.join(vector);
        member.heard_ms = member.heard_ms.max(Some(unix_ms));
        // Two are enough: the oldest, which counts soonest, and the newest, which says most.
        if member.waiting.is_none() {
            member.waiting = Some(vector.clone());
        } else {
            member.newest = Some(vector.clone());
        }
        member.advance(from, ours);
    }

    /// We have taken more in.
    pub fn advance(&mut self, ours: &Vector) {
        for (slot, member) in &mut self.members {
            member.advance(*slot, ours);
        }
    }

    /// Up to where all is stable here: nothing concurrent to it can come any more.
    #[must_use]
    pub fn stable(&self, ours: &Vector) -> Vector {
        let mut stable = ours.clone();
        let all = self.members.values();
        all.for_each(|member| stable.meet(&member.counted));
        stable
    }

    /// Up to where every active site that was heard within `silent_ms_max` has everything. Who
    /// was never heard counts as having nothing.
    #[must_use]
    pub fn cut(&self, unix_ms: u64, silent_ms_max: u64) -> Vector {
        let is_here = |member: &&Member| {
            let heard = member.heard_ms;
            heard.is_none_or(|at| at.saturating_add(silent_ms_max) >= unix_ms)
        };
        let mut cut: Option<Vector> = None;
        for member in self.members.values().filter(is_here) {
            match &mut cut {
                Some(cut) => cut.meet(&member.reported),
                None => cut = Some(member.reported.clone()),
            }
        }
        cut.unwrap_or_default()
    }

    /// Up to which update the stream of a slot may be cut, at a site that is at `ours`.
    ///
    /// Its own stream is never cut behind what at least one other site has (I10): a site that is
    /// alone for months would forget what it acknowledged.
    #[must_use]
    pub fn truncatable(&self, slot: Slot, (own, ours): (Slot, &Vector), unix_ms: u64) -> u64 {
        let all_silent = !self.is_any_heard(unix_ms);
        let others = self.members.values().map(|it| it.reported.seq(slot));
        let elsewhere = others.max().unwrap_or(0);
        let through = if all_silent {
            ours.seq(slot)
        } else {
            self.cut(unix_ms, SILENT_MS_MAX)
                .seq(slot)
                .min(ours.seq(slot))
        };
        if slot == own {
            through.min(elsewhere)
        } else {
            through
        }
    }

    fn is_any_heard(&self, unix_ms: u64) -> bool {
        let heard = self.members.values();
        let mut heard = heard.filter(|it| {
            it.heard_ms
                .is_none_or(|at| at.saturating_add(SILENT_MS_MAX) >= unix_ms)
        });
        heard.next().is_some()
    }

    /// Which active sites were not heard for so long that they are to be frozen. A site that was
    /// never heard is none of them: it may be on its way.
    pub fn silent(&self, unix_ms: u64, silent_ms_max: u64) -> impl Iterator<Item = Slot> + '_ {
        let is_silent = move |member: &Member| {
            member
                .heard_ms
                .is_some_and(|at| at.saturating_add(silent_ms_max) < unix_ms)
        };
        let all = self.members.iter();
        all.filter(move |(_, it)| is_silent(it))
            .map(|(slot, _)| *slot)
    }
}
