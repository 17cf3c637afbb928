//! A site that begins says nothing new of itself until it has heard how far all others are, or has
//! waited for as long as makes one count as cut off.
//!
//! ```text
//! start ─► its own number as it was then is said, what it makes is kept back ─► all have spoken, or time is over
//! ```
//!
//! The reason: its data may be an older copy. Then the first that it makes has a name that was
//! given away, and who has less than the others would take it in. Whoever has more says so first.
//!
//! What would surprise: clients of the site wait for nothing, it reads and writes. And what is
//! kept back is not buffered here: others pull it, once they hear that it is there.

use alloc::vec::Vec;

use bytes::Bytes;
use holm_base::Time;
use holm_machine::Effects;

use super::{Effect, Exchange};
use crate::island::dot_of;
use crate::update::Chain;
use crate::vector::{Slot, Vector};

/// How far a site was when it began.
#[derive(Clone, Debug)]
pub(super) struct Quiet {
    until: Time,
    seq: u64,
    chain: Chain,
}

impl Quiet {
    /// When it ends at the latest, unless this site has told two stories.
    pub(super) const fn until(&self) -> Time {
        self.until
    }
}

impl Exchange {
    /// It begins.
    pub(super) fn be_quiet(&mut self, now: Time) {
        if self.peers.is_empty() {
            return;
        }
        self.quiet = Some(Quiet {
            until: now + self.config.silence,
            seq: self.taken.vector().seq(self.taken.slot()),
            chain: self.head(),
        });
    }

    /// All others have spoken, or were waited for long enough.
    pub(super) fn speak_up(&mut self, now: Time, effects: &mut Effects<Effect>) {
        let Some(quiet) = &mut self.quiet else {
            return;
        };
        let have_spoken = self.peers.values().all(|peer| peer.has_said);
        if !have_spoken && now < quiet.until {
            return;
        }
        if self.set_back.is_some() {
            // What it made since is another story, and stays here.
            quiet.until = now + self.config.silence;
            return;
        }
        self.quiet = None;
        self.beat_all(now, effects);
    }

    /// How far this site says it is: by number, its own newest hash, and each slot's beginning.
    pub(super) fn said(&self) -> (Vector, Chain, Vec<u64>) {
        let own = self.taken.slot();
        let mut vector = Vector::new();
        let mut chains = Vec::with_capacity(self.taken.tips().len());
        for (slot, tip) in self.taken.tips() {
            let kept_back = self.quiet.as_ref().filter(|_| *slot == own);
            let (seq, chain) = kept_back.map_or((tip.seq, tip.chain), |it| (it.seq, it.chain));
            if seq > 0 {
                vector.raise(*slot, seq);
                chains.push(chain.short());
            }
        }
        let head = self
            .quiet
            .as_ref()
            .map_or_else(|| self.head(), |it| it.chain);
        (vector, head, chains)
    }

    /// Those of found updates that others may have.
    pub(super) fn shareable(&self, slot: Slot, mut updates: Vec<Bytes>) -> Vec<Bytes> {
        if let Some(quiet) = self.quiet.as_ref().filter(|_| slot == self.taken.slot()) {
            updates.retain(|it| dot_of(it).is_some_and(|dot| dot.seq <= quiet.seq));
        }
        updates
    }
}
