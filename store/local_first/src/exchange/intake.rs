//! Updates of others: judged as they come, and proposed if they can be taken in.
//!
//! ```text
//! message ─► run of its slot ─► judged in order ─► proposed
//!                  ▲ stays while its first needs what another slot has
//! ```
//!
//! What would surprise: what came before what it needs is kept, not asked for once more. All slots
//! see each other's updates, so if one of them is late the others wait for it; were they dropped,
//! each would have to be sent again, and would come too early again.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;
use core::time::Duration;

use bytes::Bytes;
use holm_base::Time;
use holm_machine::Effects;

use super::{Config, Effect, Exchange, Note, Proposal};
use crate::island::{Intake, dot_of};
use crate::update::Sealed;
use crate::vector::{Dot, Slot};

/// Updates of one slot that came and are not taken in, dense from the first.
#[derive(Clone, Debug)]
struct Run {
    /// Who sent the newest.
    from: Slot,
    first: u64,
    updates: VecDeque<Bytes>,
    bytes: usize,
    /// What the first of them waits for.
    needs: Option<Dot>,
    /// When the first became the first.
    since: Time,
}

impl Run {
    fn last(&self) -> u64 {
        let count = u64::try_from(self.updates.len()).expect("a length fits 64 bits");
        self.first + count - 1
    }

    fn is_much(&self, config: &Config) -> bool {
        self.bytes >= config.bytes_max || self.updates.len() >= config.updates_max
    }

    fn pop(&mut self, now: Time) {
        if let Some(gone) = self.updates.pop_front() {
            self.bytes -= gone.len();
            self.first += 1;
            self.since = now;
        }
    }
}

/// What came and is not taken in, of all slots. Of each no more than may be asked for at once, and
/// of no more slots than there are peers: what is beyond that is dropped, and asked for again.
#[derive(Clone, Debug, Default)]
pub(super) struct Waiting {
    runs: BTreeMap<Slot, Run>,
    /// What the wall clock said last.
    unix_ms: u64,
    /// Whether the log had no room for more.
    is_held_up: bool,
}

impl Waiting {
    pub(super) fn clear(&mut self) {
        self.runs.clear();
    }

    /// What has waited for too long is let go: it may be another story than the one that counts.
    pub(super) fn let_go(&mut self, now: Time, patience: Duration) {
        self.runs.retain(|_, run| now < run.since + patience);
    }
}

impl Exchange {
    /// How many updates may still be proposed.
    fn room(&self) -> usize {
        let waiting = self.ahead.vector().count() - self.taken.vector().count();
        let waiting = usize::try_from(waiting).unwrap_or(usize::MAX);
        self.config.updates_max.saturating_sub(waiting)
    }

    /// Whether something may be asked for. If the log has no room, it is once there is some.
    pub(super) fn has_room(&mut self) -> bool {
        let has_room = self.room() > 0;
        self.waiting.is_held_up |= !has_room;
        has_room
    }

    /// Up to which update of a slot all is here, taken in or not.
    pub(super) fn came(&self, slot: Slot) -> u64 {
        let seq = self.ahead.vector().seq(slot);
        let run = self.waiting.runs.get(&slot);
        let run = run.filter(|run| run.first <= seq + 1);
        run.map_or(seq, |run| run.last().max(seq))
    }

    /// Whether of a slot as much waits as may.
    pub(super) fn waits_much(&self, slot: Slot) -> bool {
        let run = self.waiting.runs.get(&slot);
        run.is_some_and(|run| run.is_much(&self.config))
    }

    /// A site sent updates of a slot.
    pub(super) fn hear_updates(
        &mut self,
        now: Time,
        (from, slot): (Slot, Slot),
        updates: Vec<Bytes>,
        unix_ms: u64,
        effects: &mut Effects<Effect>,
    ) {
        self.waiting.unix_ms = unix_ms;
        let mut next = self.came(slot) + 1;
        // What does not join on to what is here is of no use: that went back, or on without it.
        let seq = self.ahead.vector().seq(slot);
        let joins = |run: &Run| run.first <= seq + 1 && run.last() >= seq;
        self.waiting
            .runs
            .retain(|of, run| *of != slot || joins(run));
        for bytes in updates {
            let Some(dot) = dot_of(&bytes).filter(|dot| dot.slot == slot) else {
                effects.push(Effect::Note(Note::Refused(from)));
                break;
            };
            if dot.seq < next {
                continue;
            }
            if dot.seq > next {
                if let Some(peer) = self.peers.get_mut(&from) {
                    peer.wants = Some(slot);
                }
                break;
            }
            let run = self.waiting.runs.entry(slot).or_insert_with(|| Run {
                from,
                first: next,
                updates: VecDeque::new(),
                bytes: 0,
                needs: None,
                since: now,
            });
            if run.is_much(&self.config) {
                break;
            }
            run.from = from;
            run.bytes += bytes.len();
            run.updates.push_back(bytes);
            next += 1;
        }
        self.take_in(now, effects);
        if self.waiting.runs.len() > self.peers.len() {
            self.waiting.runs.remove(&slot);
        }
    }

    /// The log has carried out more: what was held up by that goes on.
    pub(super) fn go_on(&mut self, now: Time, effects: &mut Effects<Effect>) {
        if !self.waiting.is_held_up || self.room() <= self.config.updates_max / 2 {
            return;
        }
        self.waiting.is_held_up = false;
        self.take_in(now, effects);
        for from in self.config.peers.clone() {
            if self.is_heard(from, now) {
                self.pull(now, from, effects);
            }
        }
    }

    /// Proposes those of what waits that can be taken in.
    fn take_in(&mut self, now: Time, effects: &mut Effects<Effect>) {
        let mut next = Vec::new();
        loop {
            let before = next.len();
            let slots: Vec<Slot> = self.waiting.runs.keys().copied().collect();
            for slot in slots {
                self.take_run(now, slot, &mut next, effects);
            }
            // What goes on may be what another slot waits for.
            if next.len() == before || self.waiting.runs.is_empty() {
                break;
            }
        }
        if !next.is_empty() {
            self.proposed = Some(now);
            let updates = next.iter().map(|it| it.bytes.clone()).collect();
            effects.push(Effect::Expect(next));
            effects.push(Effect::Propose(Proposal::Updates(updates)));
        }
    }

    /// Takes in what can be of a slot, in order.
    fn take_run(
        &mut self,
        now: Time,
        slot: Slot,
        next: &mut Vec<Sealed>,
        effects: &mut Effects<Effect>,
    ) {
        let mut room = self.room();
        while let Some(run) = self.waiting.runs.get_mut(&slot) {
            let covers = |dot: Dot| self.ahead.vector().covers(dot);
            if run.needs.is_some_and(|dot| !covers(dot)) {
                return;
            }
            let Some(bytes) = run.updates.front() else {
                self.waiting.runs.remove(&slot);
                return;
            };
            if room == 0 {
                self.waiting.is_held_up = true;
                return;
            }
            match self.ahead.judge(bytes, self.waiting.unix_ms) {
                Intake::Next(sealed) => {
                    self.ahead.take(&sealed);
                    next.push(sealed);
                    room -= 1;
                    run.pop(now);
                }
                Intake::Known => run.pop(now),
                Intake::Waits(dot) if dot.slot != slot => {
                    run.needs = Some(dot);
                    if let Some(peer) = self.peers.get_mut(&run.from) {
                        peer.wants = Some(dot.slot);
                    }
                    return;
                }
                reason @ (Intake::Waits(_)
                | Intake::Ahead(_)
                | Intake::Closed
                | Intake::Forked(_)
                | Intake::Frozen(_)
                | Intake::Epoch(_)
                | Intake::Wrong(_)) => {
                    let seq = run.first;
                    let from = run.from;
                    self.waiting.runs.remove(&slot);
                    self.drop_run(now, (from, Dot { slot, seq }), reason, effects);
                    return;
                }
            }
        }
    }

    /// Updates of a slot are not taken in, nor kept: for this reason.
    fn drop_run(
        &mut self,
        now: Time,
        (from, first): (Slot, Dot),
        reason: Intake,
        effects: &mut Effects<Effect>,
    ) {
        let peer = self.peers.get_mut(&from);
        match reason {
            Intake::Waits(dot) => {
                if let Some(peer) = peer {
                    peer.wants = Some(dot.slot);
                }
            }
            // Until this site has that table, asking at once again would be for nothing.
            Intake::Epoch(_) => {
                if let Some(peer) = peer {
                    peer.pulling = Some((first.slot, now));
                }
            }
            Intake::Ahead(hlc) => effects.push(Effect::Note(Note::Held(first, hlc))),
            Intake::Forked(dot) => {
                // What follows on another story will not do so a moment later either.
                if let Some(peer) = peer {
                    peer.pulling = Some((first.slot, now));
                }
                self.tell_of_fork(now, (from, dot), effects);
            }
            Intake::Wrong(_) => effects.push(Effect::Note(Note::Refused(from))),
            Intake::Next(_) | Intake::Known | Intake::Closed | Intake::Frozen(_) => {}
        }
    }
}
