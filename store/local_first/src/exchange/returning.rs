//! A site that was left out and taken in again: it says nothing of what it has, for that is of a slot that does not go
//! on, and asks one that has all which counts for what differs. Its log does the rest at once, and from then on it is
//! a site like any other, under its heir.
//!
//! What would surprise: who has something of the heir knows that this site is back already. So these data are a copy of
//! before that, and would make the same again: it stops itself.

use holm_base::Time;
use holm_machine::Effects;

use super::push::Outgoing;
use super::{Effect, Exchange, Note};
use crate::island::Island;
use crate::message::Message;
use crate::vector::{Dot, Slot, Vector};

impl Exchange {
    /// The site was left out, and is to go on under this slot.
    #[must_use]
    pub const fn under(mut self, heir: Option<Slot>) -> Self {
        self.heir = heir;
        self
    }

    /// Whether another has all that this site has and that counts, and nothing that does not. Of a slot that does not go
    /// on, what one of the others has that stay, once all of them have said so: what was handed to this site alone is
    /// nobody's, and what is somebody's is not made again. Who is on its way out as lost may hand on what it has until
    /// the table has closed its slot.
    pub(super) fn may_adopt(&self, theirs: &Vector) -> bool {
        let mut others = theirs.iter();
        let counts = others.all(|(slot, seq)| {
            let last = self.closed.get(&slot);
            last.is_none_or(|last| seq <= last.through)
        });
        let mut ours = self.taken.vector().iter();
        counts
            && ours.all(|(slot, seq)| {
                let due = self.closed.get(&slot).map_or(seq, |last| {
                    let counts = seq.min(last.through);
                    self.held_of(slot).map_or(counts, |held| counts.min(held))
                });
                theirs.seq(slot) >= due
            })
    }

    /// How much of a slot those have that stay; none while one of them has not said it, says less than it has, or goes by
    /// an older table than this site: whom that has closed it may hear yet.
    fn held_of(&self, slot: Slot) -> Option<u64> {
        let mut stay = self.peers.iter().filter(|(peer, _)| !self.is_away(**peer));
        stay.try_fold(0, |most, (_, peer)| {
            let is_all = peer.said.is_some() && !peer.keeps_back;
            let has_said = is_all && peer.epoch >= self.taken.epoch();
            has_said.then(|| most.max(peer.vector.seq(slot)))
        })
    }

    /// Whether all that stay have said how far they are, or one did so long ago that the others count as cut off.
    fn has_heard(&self, now: Time) -> bool {
        let silence = self.config.silence;
        let mut first = self.peers.values().filter_map(|peer| peer.said);
        let mut peers = self.peers.iter();
        first.any(|at| now >= at + silence)
            || peers.all(|(slot, peer)| peer.said.is_some() || self.is_out(*slot))
    }

    /// Another has said how far it is.
    pub(super) fn come_back(&mut self, now: Time, from: Slot, effects: &mut Effects<Effect>) {
        let Some(heir) = self.heir else {
            return;
        };
        let seq = self.peers.get(&from).map_or(0, |it| it.vector.seq(heir));
        if seq > 0 {
            let dot = Dot { slot: heir, seq };
            self.stop_itself(now, Note::SetBack(dot), effects);
        }
        let Some(peer) = self.peers.get(&from) else {
            return;
        };
        let is_busy = self.asking.is_some() || self.taken.session().is_some();
        let stays = |slot: &Slot| !self.stopped.contains(slot);
        let may_ask = stays(&from) && stays(&heir) && self.set_back.is_none();
        if may_ask
            && !is_busy
            && now >= peer.rests_until
            && self.has_heard(now)
            && self.may_adopt(&peer.vector)
        {
            self.open(now, from, effects);
        }
    }

    /// It is back.
    pub(super) fn returned(&mut self, now: Time, island: Island, effects: &mut Effects<Effect>) {
        self.ahead = island.clone();
        self.taken = island;
        self.heir = None;
        // Nothing of its new slot was ever said: there is no older copy of it.
        self.quiet = None;
        self.set_back = None;
        self.proposed = None;
        self.waiting.clear();
        self.outgoing = Outgoing::default();
        if let Some(asking) = self.asking.take() {
            effects.push(Effect::Note(Note::SessionDone(asking.peer)));
        }
        // What it made again comes next. Who heard now how far it is would take all that it has for stable, and fold
        // what those updates have not seen.
        self.beat = Some(now);
    }
}

/// Whether a message is of account to a site that is on its way back.
pub(super) const fn is_of_account(message: &Message) -> bool {
    match message {
        Message::Beat { .. } | Message::Opened { .. } | Message::Tell(_) => true,
        Message::Updates { .. }
        | Message::Pull { .. }
        | Message::Forked { .. }
        | Message::Truncated { .. }
        | Message::Open { .. }
        | Message::Ask(_)
        | Message::Done { .. } => false,
    }
}
