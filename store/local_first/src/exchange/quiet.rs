//! A site that begins says nothing new of itself until it has heard how far all others are, or has
//! waited, from the first that spoke on, for as long as makes one count as cut off.
//!
//! ```text
//! start ─► Hush in the log: how far it was then is said, what it makes is kept back
//!       ─► all have spoken, or the first did and time is over ─► Speak in the log ─► all is said
//! ```
//!
//! The reason: its data may be an older copy. Then the first that it makes has a name that was
//! given away, and who has less than the others would take it in. Whoever has more says so first.
//! Nothing behind a hush was ever said, so whoever has more than that has it of another story.
//!
//! What would surprise: a run that ends before it has spoken leaves its hush in the log, and the
//! next one keeps to it: both are one silence. While nobody is heard it lasts, for nobody would
//! hear. Clients of the site wait for nothing, it reads and writes. And what is kept back is not
//! buffered here: others pull it, once they hear that it is there.

use alloc::vec::Vec;

use bytes::Bytes;
use holm_base::Time;
use holm_machine::Effects;

use super::{Effect, Exchange, Proposal};
use crate::island::dot_of;
use crate::update::Chain;
use crate::vector::{Slot, Vector};

/// How long the hush of the island lasts.
#[derive(Clone, Debug, Default)]
pub(super) struct Quiet {
    /// When to look again, once another has spoken.
    until: Option<Time>,
    /// When the log was last asked to end it.
    asked: Option<Time>,
}

impl Quiet {
    /// When it is to be looked at next.
    pub(super) const fn until(&self) -> Option<Time> {
        self.until
    }
}

impl Exchange {
    /// It begins.
    pub(super) fn be_quiet(&mut self, effects: &mut Effects<Effect>) {
        if self.peers.is_empty() || self.heir.is_some() {
            return;
        }
        self.quiet = Some(Quiet::default());
        if self.taken.hush().is_none() {
            let hush = self.taken.as_it_is();
            self.taken.hush_up(hush.clone());
            self.ahead.hush_up(hush.clone());
            let run = self.config.boot;
            effects.push(Effect::Propose(Proposal::Hush { run, hush }));
        }
    }

    /// Another has spoken, or time has passed: whether that is enough.
    pub(super) fn speak_up(&mut self, now: Time, effects: &mut Effects<Effect>) {
        let (silence, patience) = (self.config.silence, self.config.patience);
        let mut peers = self.peers.iter();
        let have_spoken = peers.all(|(slot, peer)| peer.said.is_some() || self.is_out(*slot));
        let Some(quiet) = &mut self.quiet else {
            return;
        };
        if !have_spoken && !self.peers.values().any(|peer| peer.said.is_some()) {
            return;
        }
        let until = *quiet.until.get_or_insert(now + silence);
        let is_over = now >= until;
        if is_over {
            quiet.until = Some(now + silence);
        }
        // Of a slot that does not go on nothing new comes: there is time to hear all.
        let is_enough = have_spoken || is_over && !self.taken.is_ended();
        let is_asked = quiet.asked.is_some_and(|at| now < at + patience);
        // What a site that told two stories made since is the other one, and stays here.
        if is_enough && !is_asked && self.set_back.is_none() {
            quiet.asked = Some(now);
            let run = self.config.boot;
            effects.push(Effect::Propose(Proposal::Speak { run }));
        }
    }

    /// Whether a site need not be heard: it is given up as lost, or says nothing until it is back.
    pub(super) fn is_out(&self, slot: Slot) -> bool {
        self.stopped.contains(&slot) || self.is_away(slot)
    }

    /// Whether a site was left out and is not back, as far as is known here: it says nothing until it is, and it may
    /// wait for what this site has.
    pub(super) fn is_away(&self, slot: Slot) -> bool {
        let is_heir = self.closed.values().any(|it| it.heir == Some(slot));
        is_heir && self.taken.vector().seq(slot) == 0
    }

    /// The log has ended it.
    pub(super) fn spoke(&mut self, now: Time, effects: &mut Effects<Effect>) {
        if self.quiet.is_none() {
            return;
        }
        if self.set_back.is_some() {
            // That was heard meanwhile.
            if let Some(hush) = self.taken.hush().cloned() {
                let run = self.config.boot;
                effects.push(Effect::Propose(Proposal::Hush { run, hush }));
            }
            return;
        }
        self.quiet = None;
        self.taken.speak();
        self.ahead.speak();
        self.beat_all(now, effects);
    }

    /// How far this site says it is: by number, its own newest hash, and each slot's beginning.
    pub(super) fn word(&self) -> (Vector, Chain, Vec<u64>) {
        let mut vector = Vector::new();
        let mut chains = Vec::with_capacity(self.taken.tips().len());
        for slot in self.taken.tips().keys() {
            if let Some((seq, chain)) = self.taken.told(*slot).filter(|it| it.0 > 0) {
                vector.raise(*slot, seq);
                chains.push(chain.short());
            }
        }
        let own = self.taken.told(self.taken.slot());
        (vector, own.map(|it| it.1).unwrap_or_default(), chains)
    }

    /// Those of found updates that others may have.
    pub(super) fn shareable(&self, slot: Slot, mut updates: Vec<Bytes>) -> Vec<Bytes> {
        if slot == self.taken.slot() {
            let through = self.taken.told(slot).map_or(0, |it| it.0);
            updates.retain(|it| dot_of(it).is_some_and(|dot| dot.seq <= through));
        }
        updates
    }
}
