//! A session: the keys that another site has otherwise, found, staged, and joined at once.
//!
//! ```text
//! asker: Open ─► Opened ─► Begin in the log ─► Ask ─► Tell ─► Stage ... ─► Join
//!                 ▲ the other has pinned        ▲ the asker's index is pinned, and nothing of
//!                                                 others is taken in from here on
//! ```
//!
//! The order is the point. The asker is pinned after the other side: were it before, the other
//! could have removed a newer write of the asker, which then would stay at the asker for ever.
//! Before it opens, it sees to it that it has an index, so that it is not closed while one is
//! made.

use alloc::vec::Vec;

use bytes::Bytes;
use holm_base::Time;
use holm_machine::Effects;

use super::{Effect, Exchange, Note, Proposal, RUN_SHIFT};
use crate::island::Session;
use crate::message::Message;
use crate::ranges::Short;
use crate::seek::{Named, Seek, Tell};
use crate::tree::Tree;
use crate::vector::{Dot, Slot};

/// How many answers may be on their way into the log: the next one comes while one is written, and
/// what waits is bounded, however slow this site's disk is.
const STAGING_MAX: usize = 2;

/// So many times the patience a site is not asked again whose states were not to be joined.
const RESTS: u32 = 2;

/// What this site asks of another.
#[derive(Clone, Debug)]
pub(super) struct Asking {
    id: u64,
    pub(super) peer: Slot,
    stage: Stage,
    /// Answers that are on their way into the log.
    staging: usize,
    /// The last progress.
    pub(super) since: Time,
    /// Whether this site was left out and is to have what the other has, rather than both.
    is_return: bool,
}

/// How far it has come.
#[derive(Clone, Debug)]
enum Stage {
    /// An index is made here, if there is none.
    Preparing,
    /// The other side pins.
    Opening,
    /// The log is to close this site; the other side's keys amount to this.
    Closing(Short),
    /// What differs is looked for; so many keys are on their way into the log.
    Seeking(Seek<Tree>, u64),
    /// All of it is on its way into the log.
    Joining,
}

impl Asking {
    /// Whether the log was asked to close this site to others.
    pub(super) const fn is_begun(&self) -> bool {
        self.stage.is_begun()
    }
}

impl Stage {
    const fn is_begun(&self) -> bool {
        match self {
            Self::Preparing | Self::Opening => false,
            Self::Closing(_) | Self::Seeking(..) | Self::Joining => true,
        }
    }
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
        let rests = now < peer.rests_until;
        if self.asking.is_some() || self.taken.session().is_some() || !is_lacking || rests {
            return;
        }
        self.open(now, from, effects);
    }

    /// Another site is asked for what differs.
    pub(super) fn open(&mut self, now: Time, from: Slot, effects: &mut Effects<Effect>) {
        self.sessions += 1;
        let session = (self.config.boot << RUN_SHIFT) | self.sessions;
        self.asking = Some(Asking {
            id: session,
            peer: from,
            stage: Stage::Preparing,
            staging: 0,
            since: now,
            is_return: self.heir.is_some(),
        });
        effects.push(Effect::Note(Note::SessionOpened(from)));
        effects.push(Effect::Index { session });
    }

    /// Here is the index: to begin with only that there is one matters, and once nothing of
    /// others is taken in, what it says.
    pub(super) fn indexed(
        &mut self,
        now: Time,
        session: u64,
        tree: Tree,
        effects: &mut Effects<Effect>,
    ) {
        let is_open = self.taken.session().is_some_and(|open| open.id == session);
        let Some(asking) = self.asking.as_mut().filter(|it| it.id == session) else {
            return;
        };
        match &asking.stage {
            Stage::Preparing => {
                asking.stage = Stage::Opening;
                asking.since = now;
                let (to, message) = (asking.peer, Message::Open { session });
                effects.push(Effect::Send { to, message });
            }
            Stage::Closing(total) if is_open => {
                let seek = Seek::new(session, tree, total);
                asking.stage = Stage::Seeking(seek, 0);
                asking.since = now;
                asking.ask_on(effects);
            }
            Stage::Opening | Stage::Closing(_) | Stage::Seeking(..) | Stage::Joining => {}
        }
    }

    /// The other side has pinned its states.
    pub(super) fn opened(
        &mut self,
        now: Time,
        from: Slot,
        (session, total): (Session, Short),
        effects: &mut Effects<Effect>,
    ) {
        if self.asking.is_none() {
            return;
        }
        if self.heir.is_some() {
            if !self.may_adopt(&session.vector()) {
                self.refused(now, session.id);
                return;
            }
        } else if let Some(dot) = self.parted(&session) {
            // Of two updates with one name it would be of no account which is shown where.
            self.refused(now, session.id);
            self.tell_of_fork(now, (from, dot), effects);
            return;
        }
        let may_join = self.heir.is_some() || self.taken.may_join(&session);
        let Some(asking) = self.asking.as_mut().filter(|it| it.id == session.id) else {
            return;
        };
        if asking.peer != from || !matches!(asking.stage, Stage::Opening) {
            return;
        }
        if !may_join {
            // What does not count is not joined either: the other side has yet to hear of that (I12).
            self.refused(now, session.id);
            return;
        }
        asking.since = now;
        asking.stage = Stage::Closing(total);
        effects.push(Effect::Propose(Proposal::Begin(session)));
    }

    /// An update that the other side has otherwise, as far as the newest of each slot say.
    fn parted(&self, session: &Session) -> Option<Dot> {
        let tips = self.taken.tips();
        let mut theirs = session.tips.iter();
        let parted = theirs.find(|(slot, tip)| {
            let ours = tips.get(slot).filter(|it| it.seq == tip.seq);
            ours.is_some_and(|it| it.chain != tip.chain)
        });
        parted.map(|(&slot, tip)| Dot { slot, seq: tip.seq })
    }

    /// From here on nothing of others is taken in.
    pub(super) fn began(&mut self, now: Time, session: u64, effects: &mut Effects<Effect>) {
        match self.asking.as_mut() {
            Some(asking) if asking.id == session => {
                asking.since = now;
                effects.push(Effect::Index { session });
            }
            // It came after patience had ended.
            Some(_) | None => effects.push(Effect::Propose(Proposal::GiveUp { session })),
        }
    }

    /// The other side has said what it has, and told states.
    pub(super) fn told(
        &mut self,
        now: Time,
        (from, tell): (Slot, Tell),
        effects: &mut Effects<Effect>,
    ) {
        let session = tell.session;
        let is_open = self.taken.session().is_some_and(|open| open.id == session);
        let Some(asking) = self.asking.as_mut() else {
            return;
        };
        if !is_open || asking.id != session || asking.peer != from {
            return;
        }
        let Stage::Seeking(seek, keys) = &mut asking.stage else {
            return;
        };
        asking.since = now;
        let named = seek.told(tell);
        if !named.iter().all(is_named_well) {
            // Nothing that it says is believed; patience ends the session.
            effects.push(Effect::Note(Note::Refused(from)));
            asking.stage = Stage::Joining;
            return;
        }
        let states: Vec<(Bytes, Bytes)> = named.into_iter().map(Named::staged).collect();
        *keys += u64::try_from(states.len()).expect("a message is short");
        if !states.is_empty() {
            asking.staging += 1;
            effects.push(Effect::Propose(Proposal::Stage { session, states }));
        }
        asking.ask_on(effects);
    }

    /// An answer is in the log.
    pub(super) fn staged(&mut self, now: Time, session: u64, effects: &mut Effects<Effect>) {
        if let Some(asking) = self.asking.as_mut().filter(|it| it.id == session) {
            asking.staging = asking.staging.saturating_sub(1);
            asking.since = now;
            asking.ask_on(effects);
        }
    }

    pub(super) fn installed(&mut self, id: u64, effects: &mut Effects<Effect>) {
        if let Some(asking) = self.asking.take_if(|asking| asking.id == id) {
            effects.push(Effect::Note(Note::SessionDone(asking.peer)));
        }
    }

    /// What a site has was not to be joined: its clock is too far ahead, or something was left out.
    /// Others are listened to again at once, and that one is not asked again for a while, or this
    /// site would be closed to all for the sake of one.
    pub(super) fn refused(&mut self, now: Time, id: u64) {
        if let Some(asking) = self.asking.take_if(|asking| asking.id == id)
            && let Some(peer) = self.peers.get_mut(&asking.peer)
        {
            peer.rests_until = now + RESTS * self.config.patience;
        }
    }

    /// Gives a session up that makes no progress; what is lacking is asked for again.
    pub(super) fn lose_patience(&mut self, now: Time, effects: &mut Effects<Effect>) {
        let patience = self.config.patience;
        let lost = self.asking.take_if(|asking| now >= asking.since + patience);
        if let Some(asking) = lost
            && asking.stage.is_begun()
        {
            self.give_up(now, asking.id, effects);
        }
        // One that nobody is at any more closes this site to others until it is given up; and what
        // is proposed may be refused, when the log is full.
        let open = self.taken.session().map(|open| open.id);
        let left = open.filter(|id| self.asking.as_ref().is_none_or(|asking| asking.id != *id));
        if let Some(session) = left
            && self.gave_up.is_none_or(|at| now >= at + patience)
        {
            self.give_up(now, session, effects);
        }
    }

    fn give_up(&mut self, now: Time, session: u64, effects: &mut Effects<Effect>) {
        self.gave_up = Some(now);
        effects.push(Effect::Propose(Proposal::GiveUp { session }));
    }
}

impl Asking {
    /// Asks what is to be asked next; if all is known, it is joined.
    fn ask_on(&mut self, effects: &mut Effects<Effect>) {
        let Stage::Seeking(seek, keys) = &mut self.stage else {
            return;
        };
        let (to, session, keys) = (self.peer, self.id, *keys);
        if self.staging >= STAGING_MAX {
            return;
        }
        if let Some(ask) = seek.ask() {
            let message = Message::Ask(ask);
            effects.push(Effect::Send { to, message });
        } else if seek.is_done() {
            self.stage = Stage::Joining;
            effects.push(Effect::Propose(if self.is_return {
                Proposal::Rebase { session, keys }
            } else {
                Proposal::Join { session, keys }
            }));
            let message = Message::Done { session };
            effects.push(Effect::Send { to, message });
        }
    }
}

fn is_named_well(named: &Named) -> bool {
    let found = named.found.as_ref();
    found.is_none_or(|(key, _)| Tree::name(key) == named.name)
}
