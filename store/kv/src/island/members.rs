//! Which sites the island goes by: its charter, kept as a fact and changed by entries of the log.

use bytes::Bytes;
use holm_local_first::{Applied, Charter, DecodeError, Hush, Roster, Slot};

use super::{IslandConfig, Isle};
use crate::apply::Work;
use crate::checkpoint::Fact;
use crate::index::Index;
use crate::keyspace::Keyspace;
use crate::store::{FactKind, Store};

/// The fact's id; what was taken in has none.
const CHARTER: &[u8] = b"charter";

/// What a store has kept of it.
pub(super) fn kept(store: &Store) -> Result<Charter, DecodeError> {
    kept_in(&store.facts)
}

/// As [`kept`], of a state that was published.
pub(super) fn kept_in(facts: &Index<Fact>) -> Result<Charter, DecodeError> {
    let kept = facts.get(&FactKind::Island.key(CHARTER));
    let kept = kept.map(|fact| fact.0.clone());
    kept.map_or_else(|| Ok(Charter::default()), Charter::decode)
}

impl Isle {
    /// The sites that it goes by; those that it began with while there is no table.
    pub(crate) const fn charter(&self) -> &Charter {
        &self.charter
    }

    /// What it was opened with.
    pub(crate) const fn config(&self) -> &IslandConfig {
        &self.config
    }

    /// Whether clients' changes are refused: its own slot does not go on.
    pub(crate) fn is_ended(&self) -> bool {
        self.island.is_ended()
    }

    /// Writes it down which sites it goes by.
    pub(super) fn keep_charter(&self, store: &mut Store) {
        let kept: Bytes = self.charter.encode();
        store.set_fact(FactKind::Island, CHARTER, Some(kept));
    }

    pub(super) fn apply_charter(&mut self) {
        let roster = self.charter.roster();
        let epoch = roster.map_or_else(|| self.island.epoch(), |it| it.members.epoch());
        self.island.follow(epoch, self.charter.limits());
    }
}

impl Work<'_> {
    /// A table of members came.
    pub(super) fn follow(&mut self, roster: &Roster) {
        let isle = self.isle();
        if isle.charter.follow(roster.clone()) {
            let own = isle.island.slot();
            let heir = roster.members.heir(own);
            if heir.is_some_and(|heir| heir != own) {
                // It takes what others have, also of itself: nothing of that slot is told any more.
                isle.island.speak();
            }
            self.keep_charter();
        }
    }

    /// Nothing more of a slot is taken in.
    pub(super) fn stop(&mut self, slot: Slot) {
        let isle = self.isle();
        let through = isle.island.vector().seq(slot);
        isle.charter.stop(slot, through);
        self.keep_charter();
    }

    /// A leader found that others know more of this site than it does. If it led when the log took
    /// that in, all that the site ever committed was there, so its data is an older copy. One that
    /// was replaced meanwhile lacks what its successor wrote. Of one that is on its way back it is
    /// the slot under which it would go on: it is back already, and this is a copy of before that.
    pub(super) fn set_back(&mut self, is_of_this_run: bool) {
        if is_of_this_run {
            let isle = self.isle();
            let own = isle.island.slot();
            let members = isle.charter.roster().map(|it| &it.members);
            let slot = members.and_then(|it| it.heir(own)).unwrap_or(own);
            let through = isle.island.vector().seq(slot);
            isle.charter.set_back_at(slot, through);
            self.keep_charter();
        }
    }

    /// Others are to hear of this site up to there; what an earlier leader said comes too late.
    pub(super) fn hush(&mut self, is_of_this_run: bool, hush: &Hush) {
        if is_of_this_run {
            self.isle().island.hush_up(hush.clone());
        }
    }

    /// Others may hear of all that this site makes.
    pub(super) fn speak(&mut self, is_of_this_run: bool) {
        if is_of_this_run {
            let isle = self.isle();
            isle.island.speak();
            isle.applied.push(Applied::Spoke);
        }
    }

    fn keep_charter(&mut self) {
        let isle = self.isle.as_deref_mut().expect("it was asked for");
        isle.keep_charter(self.store);
        isle.apply_charter();
        isle.applied.push(Applied::Followed(isle.charter.clone()));
    }
}

impl Keyspace {
    /// Which sites the island goes by, if it is one.
    #[must_use]
    pub fn charter(&self) -> Option<&Charter> {
        self.isle.as_deref().map(Isle::charter)
    }
}
