//! Noticing that a site has told two stories: its data was set back to an older copy, or copied.
//!
//! ```text
//! it has less of itself than another has of it        it stops itself
//! as much, and its newest update has another hash     who notices tells it
//! more, and that does not follow on what another has  who notices tells it
//! ```
//!
//! What would surprise: nobody takes in what contradicts what it has, and nothing is undone. Who had less of the first
//! story than where the two part may take in the second. The site that told both originates nothing more under its
//! slot: what it would say next might be a third.

use holm_base::Time;
use holm_machine::Effects;

use super::{Effect, Exchange, Note, Proposal};
use crate::message::Message;
use crate::update::Chain;
use crate::vector::{Dot, Slot, Vector};

impl Exchange {
    /// The hash of this site's newest update.
    pub(super) fn head(&self) -> Chain {
        let tip = self.taken.tips().get(&self.taken.slot());
        tip.map_or_else(Chain::default, |tip| tip.chain)
    }

    /// A site said how far it is, and which update of its own is its newest.
    pub(super) fn compare(
        &mut self,
        now: Time,
        (from, vector, head): (Slot, &Vector, Chain),
        effects: &mut Effects<Effect>,
    ) {
        let own = self.taken.slot();
        let seq = vector.seq(own);
        if seq > self.taken.vector().seq(own) {
            self.is_set_back(now, Dot { slot: own, seq }, effects);
        }
        let tip = self.taken.tips().get(&from);
        // Without a hash nothing is said: so did releases that had none.
        let is_known = head != Chain::default();
        if let Some(tip) =
            tip.filter(|tip| is_known && tip.seq == vector.seq(from) && tip.chain != head)
        {
            let (slot, seq) = (from, tip.seq);
            self.tell_of_fork(now, (from, Dot { slot, seq }), effects);
        }
    }

    /// An update of a slot does not follow on what is here of it. That is noted once; its site is
    /// told for as long as it is so, for a message may be lost.
    pub(super) fn tell_of_fork(
        &mut self,
        now: Time,
        (from, dot): (Slot, Dot),
        effects: &mut Effects<Effect>,
    ) {
        let patience = self.config.patience;
        let Some(peer) = self.peers.get_mut(&from) else {
            return;
        };
        if peer.forked.is_some_and(|at| now < at + patience) {
            return;
        }
        if peer.forked.replace(now).is_none() {
            effects.push(Effect::Note(Note::Forked(dot)));
        }
        if from == dot.slot {
            let message = Message::Forked { dot };
            effects.push(Effect::Send { to: from, message });
        }
    }

    /// Another has an update of this site that is not here, or another one in its place.
    pub(super) fn is_set_back(&mut self, now: Time, dot: Dot, effects: &mut Effects<Effect>) {
        let own = self.taken.slot();
        let patience = self.config.patience;
        let is_asked = self.set_back.is_some_and(|at| now < at + patience);
        if dot.slot != own || self.taken.is_ended() || is_asked {
            return;
        }
        self.set_back = Some(now);
        effects.push(Effect::Note(Note::SetBack(dot)));
        let run = self.config.boot;
        effects.push(Effect::Propose(Proposal::SetBack { run }));
    }
}
