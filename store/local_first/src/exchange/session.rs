//! A session: everything that another site has, listed, staged, and joined at once.
//!
//! ```text
//! asker: Open ─► Opened ─► Begin in the log ─► More ─► States ─► Stage ... ─► Install
//!                 ▲ the other has pinned        ▲ nothing of others is taken in from here on
//! ```
//!
//! The order is the point. The asker is pinned after the other side: were it before, the other
//! could have removed a newer write of the asker, which then would stay at the asker for ever.

use alloc::vec::Vec;

use bytes::Bytes;
use holm_base::Time;
use holm_machine::Effects;

use super::{Effect, Exchange, Note, Proposal};
use crate::island::Session;
use crate::message::Message;
use crate::vector::Slot;

/// What this site asks of another.
#[derive(Clone, Debug)]
pub(super) struct Asking {
    id: u64,
    peer: Slot,
    /// The last key that was listed.
    after: Option<Bytes>,
    keys: u64,
    is_begun: bool,
    /// Whether all that the other side has is on its way into the log.
    is_listed: bool,
    /// The last progress.
    pub(super) since: Time,
}

impl Exchange {
    /// What this site lacks of a slot is not kept there any more.
    pub(super) fn truncated(
        &mut self,
        now: Time,
        (from, slot): (Slot, Slot),
        effects: &mut Effects<Effect>,
    ) {
        let Some(peer) = self.peers.get_mut(&from) else {
            return;
        };
        peer.pulling = None;
        let is_lacking = peer.vector.seq(slot) > self.ahead.vector().seq(slot);
        if self.asking.is_some() || self.taken.session().is_some() || !is_lacking {
            return;
        }
        self.sessions += 1;
        let id = (self.config.boot << 16) | self.sessions;
        self.asking = Some(Asking {
            id,
            peer: from,
            after: None,
            keys: 0,
            is_begun: false,
            is_listed: false,
            since: now,
        });
        effects.push(Effect::Note(Note::SessionOpened(from)));
        let message = Message::Open { session: id };
        effects.push(Effect::Send { to: from, message });
    }

    /// The other side has pinned its states.
    pub(super) fn opened(
        &mut self,
        now: Time,
        from: Slot,
        session: Session,
        effects: &mut Effects<Effect>,
    ) {
        let Some(asking) = self.asking.as_mut() else {
            return;
        };
        if asking.id == session.id && asking.peer == from && !asking.is_begun {
            asking.since = now;
            asking.is_begun = true;
            effects.push(Effect::Propose(Proposal::Begin(session)));
        }
    }

    /// From here on nothing of others is taken in.
    pub(super) fn began(&mut self, now: Time, id: u64, effects: &mut Effects<Effect>) {
        match self.asking.as_mut() {
            Some(asking) if asking.id == id => {
                asking.since = now;
                let message = Message::More {
                    session: id,
                    after: None,
                };
                let to = asking.peer;
                effects.push(Effect::Send { to, message });
            }
            // It came after patience had ended.
            Some(_) | None => effects.push(Effect::Propose(Proposal::GiveUp { session: id })),
        }
    }

    /// States of the other side have come.
    pub(super) fn staged(
        &mut self,
        now: Time,
        session: u64,
        (after, states, is_last): (Option<Bytes>, Vec<(Bytes, Bytes)>, bool),
        effects: &mut Effects<Effect>,
    ) {
        let is_open = self.taken.session().is_some_and(|open| open.id == session);
        let Some(asking) = self.asking.as_mut() else {
            return;
        };
        if !is_open || asking.id != session || asking.is_listed || asking.after != after {
            return;
        }
        asking.since = now;
        asking.keys += u64::try_from(states.len()).expect("a message is short");
        let last = states.last().map(|(key, _)| key.clone());
        if !states.is_empty() {
            effects.push(Effect::Propose(Proposal::Stage { session, states }));
        }
        if is_last {
            let keys = asking.keys;
            asking.is_listed = true;
            effects.push(Effect::Propose(Proposal::Install { session, keys }));
        } else {
            asking.after = last;
            let message = Message::More {
                session,
                after: asking.after.clone(),
            };
            let to = asking.peer;
            effects.push(Effect::Send { to, message });
        }
    }

    pub(super) fn installed(&mut self, id: u64, effects: &mut Effects<Effect>) {
        if let Some(asking) = self.asking.take_if(|asking| asking.id == id) {
            effects.push(Effect::Note(Note::SessionDone(asking.peer)));
        }
    }

    /// Gives a session up that makes no progress; what is lacking is asked for again.
    pub(super) fn lose_patience(&mut self, now: Time, effects: &mut Effects<Effect>) {
        let patience = self.config.patience;
        let lost = self.asking.take_if(|asking| now >= asking.since + patience);
        if let Some(asking) = lost
            && asking.is_begun
        {
            let session = asking.id;
            effects.push(Effect::Propose(Proposal::GiveUp { session }));
        }
    }
}
