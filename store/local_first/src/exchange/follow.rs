//! Other sites than before: who is spoken to from here on.

use holm_base::Time;
use holm_machine::Effects;

use super::{Effect, Exchange};
use crate::roster::Charter;

impl Exchange {
    /// The site goes by this from here on. Who is new is greeted; who left is told nothing more.
    pub(super) fn follow(&mut self, now: Time, charter: &Charter, effects: &mut Effects<Effect>) {
        let epoch = charter.roster().map(|it| it.members.epoch());
        let epoch = epoch.unwrap_or_else(|| self.taken.epoch());
        self.taken.follow(epoch, charter.limits());
        // What was proposed and is not there yet was judged by the table of before.
        self.ahead = self.taken.clone();
        self.proposed = None;
        self.waiting.clear();
        self.stopped = charter.stops().keys().copied().collect();
        self.is_told_set_back = charter.set_back().is_some();
        let Some(roster) = charter.roster() else {
            return;
        };
        self.closed.clone_from(roster.members.frozen());
        let own = self.taken.slot();
        let goes_on = roster.members.heir(own);
        let heir = goes_on.filter(|heir| *heir != own);
        if heir != self.heir {
            // Of that one nobody has anything yet.
            self.set_back = None;
        }
        self.heir = heir;
        if self.heir.is_none() {
            self.seek_astray(now, effects);
        } else {
            // Nothing of its old slot is told any more.
            self.quiet = None;
            self.taken.speak();
            self.ahead.speak();
        }
        let others = roster.members.active().keys().copied();
        let others = others.filter(|slot| *slot != own && Some(*slot) != self.heir);
        self.config.peers = others.collect();
        let mut before = core::mem::take(&mut self.peers);
        for slot in &self.config.peers {
            let peer = before.remove(slot);
            let mut peer = peer.unwrap_or_default();
            peer.pulling = None;
            self.peers.insert(*slot, peer);
        }
        for (to, gone) in before {
            if gone.pinned.is_some() {
                effects.push(Effect::Unpin { to });
            }
        }
        for to in self.config.peers.clone() {
            self.beat_one(now, to, true, effects);
        }
    }
}
