//! Noticing that a site has told two stories: its data was set back to an older copy, or copied.
//!
//! ```text
//! it has less of itself than another has of it        it stops itself
//! as much, and its newest update has another hash     who notices tells it
//! more, and that does not follow on what another has  who notices tells it
//! two others have another newest update of it         both notice, and tell it
//! ```
//!
//! What would surprise: nobody takes in what contradicts what it has, and nothing is undone. Who had less of the first
//! story than where the two part may take in the second. The site that told both originates nothing more under its
//! slot: what it would say next might be a third. Once a table says which update of that slot is the last, who has
//! another story of it, or more of it, is astray, and stops itself as well: what it shows is not what counts. More of it may be had
//! by who said how far it is, and was set back to before that.

use holm_base::Time;
use holm_machine::Effects;

use super::{Effect, Exchange, Note, Proposal};
use crate::members::Frozen;
use crate::message::Message;
use crate::update::Chain;
use crate::vector::{Dot, Slot, Vector};

impl Exchange {
    /// A site said how far it is, and which update of its own is its newest.
    pub(super) fn compare(
        &mut self,
        now: Time,
        (from, vector, head): (Slot, &Vector, Chain),
        effects: &mut Effects<Effect>,
    ) {
        let own = self.taken.slot();
        let seq = vector.seq(own);
        // What it keeps back nobody has of this story.
        if seq > self.taken.told(own).map_or(0, |it| it.0) {
            self.heard_of_itself(now, Dot { slot: own, seq }, effects);
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

    /// A site said which updates are the newest that it has: of each slot of which it has as many
    /// as this site, they are to be the same.
    pub(super) fn compare_all(
        &mut self,
        now: Time,
        (from, vector, chains): (Slot, &Vector, &[u64]),
        effects: &mut Effects<Effect>,
    ) {
        let said = || vector.iter().zip(chains);
        let own = self.taken.slot();
        let differs = |((slot, seq), chain): &((Slot, u64), &u64)| {
            let tip = self.taken.tips().get(slot).map(|tip| (tip.seq, tip.chain));
            let ours = if *slot == own {
                self.taken.told(own)
            } else {
                tip
            };
            let ours = ours.filter(|ours| ours.0 == *seq && *slot != from);
            ours.is_some_and(|ours| ours.1.short() != **chain)
        };
        let parted = said().find(differs);
        let is_last = |((slot, seq), chain): ((Slot, u64), &u64)| {
            let last = self.closed.get(&slot)?;
            let is_it = last.through == seq && last.chain.short() == *chain;
            is_it.then_some(slot)
        };
        let whole = said().filter_map(is_last).collect();
        if let Some(peer) = self.peers.get_mut(&from) {
            peer.whole = whole;
        }
        if let Some(((slot, seq), _)) = parted {
            self.tell_of_fork(now, (from, Dot { slot, seq }), effects);
        }
    }

    /// Whether what is here of a slot that does not go on is what counts of it, and no more.
    pub(super) fn seek_astray(&mut self, now: Time, effects: &mut Effects<Effect>) {
        let tips = self.taken.tips();
        let differs = |(slot, last): &(&Slot, &Frozen)| {
            let tip = tips.get(slot);
            tip.is_some_and(|tip| {
                let is_another = tip.seq == last.through && tip.chain != last.chain;
                is_another || tip.seq > last.through
            })
        };
        let parted = self.closed.iter().find(differs);
        if let Some((&slot, last)) = parted {
            let seq = tips.get(&slot).map_or(last.through, |tip| tip.seq);
            self.stop_itself(now, Note::Astray(Dot { slot, seq }), effects);
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
        let to = dot.slot;
        if self.peers.contains_key(&to) {
            let message = Message::Forked { dot };
            effects.push(Effect::Send { to, message });
        }
        self.heard_of_itself(now, dot, effects);
        let has_last = |peer: &super::Peer| peer.whole.contains(&dot.slot);
        if self.peers.get(&from).is_some_and(has_last) {
            // What it has is what counts.
            self.stop_itself(now, Note::Astray(dot), effects);
        }
    }

    /// Another has an update of this site that is not here, or another one in its place.
    pub(super) fn heard_of_itself(&mut self, now: Time, dot: Dot, effects: &mut Effects<Effect>) {
        if dot.slot == self.taken.slot() {
            self.stop_itself(now, Note::SetBack(dot), effects);
        }
    }

    /// The log is asked to end this site's slot, or the one under which it would go on, again if that does not come to
    /// pass.
    pub(super) fn stop_itself(&mut self, now: Time, why: Note, effects: &mut Effects<Effect>) {
        let patience = self.config.patience;
        let is_asked = self.set_back.is_some_and(|at| now < at + patience);
        if is_asked {
            return;
        }
        self.set_back = Some(now);
        // Of one that is on its way out in order it is said all the same: how far it is does not count.
        let slot = self.heir.unwrap_or_else(|| self.taken.slot());
        if self.is_told_set_back || self.closed.contains_key(&slot) {
            return;
        }
        effects.push(Effect::Note(why));
        let run = self.config.boot;
        effects.push(Effect::Propose(Proposal::SetBack { run }));
    }
}
