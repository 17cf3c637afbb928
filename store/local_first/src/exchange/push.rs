//! Own updates on their way to others: several go together. And asking others for theirs.
//!
//! What would surprise: the first after a pause does not wait. And who asked for what it lacked
//! and was sent all that there is, is in step from then on without a word.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use bytes::Bytes;
use holm_base::Time;
use holm_machine::Effects;

use super::session::Asking;
use super::{Effect, Exchange};
use crate::island::dot_of;
use crate::message::Message;
use crate::vector::Slot;

/// So many bytes do not wait for more.
const TOGETHER: usize = 64 << 10;
/// How much may be on its way to a peer, in times of what is asked for at once.
const FLIGHTS: usize = 4;

/// Own updates that are committed here and were sent to nobody, in order.
#[derive(Clone, Debug, Default)]
pub(super) struct Outgoing {
    first: u64,
    updates: VecDeque<Bytes>,
    bytes: usize,
    /// Before which time nothing goes, unless it is much.
    not_before: Time,
}

impl Outgoing {
    pub(super) fn add(&mut self, seq: u64, bytes: Bytes) {
        if self.updates.is_empty() {
            self.first = seq;
        }
        self.bytes += bytes.len();
        self.updates.push_back(bytes);
    }

    /// How many wait.
    pub(super) fn count(&self) -> u64 {
        u64::try_from(self.updates.len()).expect("a length fits 64 bits")
    }

    /// Whether it goes now.
    pub(super) fn is_ripe(&self, now: Time) -> bool {
        let is_time = now >= self.not_before || self.bytes >= TOGETHER;
        is_time && !self.updates.is_empty()
    }

    /// When it goes at the latest.
    pub(super) fn due(&self) -> Option<Time> {
        (!self.updates.is_empty()).then_some(self.not_before)
    }
}

impl Exchange {
    /// Sends what waits to those who have all before it, as far as they have room.
    pub(super) fn push(&mut self, now: Time, effects: &mut Effects<Effect>) {
        if self.outgoing.updates.is_empty() {
            return;
        }
        let Outgoing { first, updates, .. } = core::mem::take(&mut self.outgoing);
        self.outgoing.not_before = now + self.config.push_every;
        let own = self.taken.slot();
        for to in self.config.peers.clone() {
            let is_heard = self.is_heard(to, now);
            let Some(peer) = self.peers.get_mut(&to).filter(|_| is_heard) else {
                continue;
            };
            let known = peer.vector.seq(own);
            let after = peer.pushed.max(known);
            let Some(skipped) = (after + 1).checked_sub(first) else {
                // It lacks something before: it will ask.
                continue;
            };
            let bytes_max = FLIGHTS * self.config.bytes_max;
            let (mut last, mut bytes) = (after, 0);
            let flying = usize::try_from(after - known).unwrap_or(usize::MAX);
            let room = self.config.updates_max.saturating_sub(flying);
            let behind = updates
                .iter()
                .skip(usize::try_from(skipped).unwrap_or(usize::MAX));
            let sent = behind.take(room).take_while(|it| {
                bytes += it.len();
                let fits = peer.on_way_bytes + bytes <= bytes_max;
                last += u64::from(fits);
                fits
            });
            let sent: Vec<Bytes> = sent.cloned().collect();
            if !sent.is_empty() {
                let bytes = sent.iter().map(Bytes::len).sum();
                peer.send(last, bytes);
                let message = Message::Updates {
                    slot: own,
                    updates: sent,
                };
                effects.push(Effect::Send { to, message });
            }
        }
    }

    /// Asks a site for something that it has and this one lacks, if nothing is asked of it.
    ///
    /// A slot's own site is asked; another only if that one is not heard.
    pub(super) fn pull(&mut self, now: Time, from: Slot, effects: &mut Effects<Effect>) {
        let is_closing = self.asking.as_ref().is_some_and(Asking::is_begun);
        if is_closing || self.ahead.session().is_some() || !self.has_room() {
            return;
        }
        let Some(peer) = self.peers.get(&from) else {
            return;
        };
        let is_waiting = peer
            .pulling
            .is_some_and(|(_, at)| now < at + self.config.patience);
        if is_waiting {
            return;
        }
        let lacks = |slot: Slot| {
            let there = self.ahead.limited(slot, peer.vector.seq(slot));
            let is_there = there > self.came(slot) && !self.waits_much(slot);
            is_there && (slot == from || !self.is_heard(slot, now))
        };
        let first = peer.wants.filter(|slot| lacks(*slot));
        let slot = first.or_else(|| {
            peer.vector
                .iter()
                .map(|(slot, _)| slot)
                .find(|it| lacks(*it))
        });
        let Some(slot) = slot.filter(|slot| *slot != self.taken.slot()) else {
            return;
        };
        let after = self.came(slot);
        if let Some(peer) = self.peers.get_mut(&from) {
            peer.wants = None;
            peer.pulling = Some((slot, now));
        }
        let message = Message::Pull { slot, after };
        effects.push(Effect::Send { to: from, message });
    }

    /// What a site asked for.
    pub(super) fn found(
        &mut self,
        now: Time,
        (to, slot): (Slot, Slot),
        updates: Option<Vec<Bytes>>,
        effects: &mut Effects<Effect>,
    ) {
        let Some(updates) = updates else {
            let message = Message::Truncated { slot };
            effects.push(Effect::Send { to, message });
            return;
        };
        let updates = self.shareable(slot, updates);
        let last = updates.last().and_then(dot_of).map(|dot| dot.seq);
        let bytes = updates.iter().map(Bytes::len).sum();
        if slot == self.taken.slot()
            && let Some((peer, last)) = self.peers.get_mut(&to).zip(last)
            && last > peer.pushed
        {
            peer.send(last, bytes);
        }
        let message = Message::Updates { slot, updates };
        effects.push(Effect::Send { to, message });
        let is_kept_back = self.quiet.is_some() && slot == self.taken.slot();
        if !is_kept_back && last.is_some_and(|last| last < self.taken.vector().seq(slot)) {
            // There is more than was said when it asked.
            self.beat_one(now, to, false, effects);
        }
    }
}

impl super::Peer {
    /// Own updates up to a number are on their way.
    fn send(&mut self, last: u64, bytes: usize) {
        self.pushed = last;
        self.on_way.push_back((last, bytes));
        self.on_way_bytes += bytes;
    }
}
