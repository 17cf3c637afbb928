//! What a site has taken in: how far, of whom, and what it may take in next.
//!
//! Every replica of a site keeps one, and changes it only as its log says, so all have the same.
//! It holds no keys: those are the engine's, which changes them by [`Change::apply`] and, at the
//! end of a session, by [`State::joined`].
//!
//! What would surprise: while a session is open nothing of others is taken in. A state is joined
//! as of a vector, and what came in between would be of neither (I9).

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use bytes::{Buf, Bytes, BytesMut};

use crate::clock::Hlc;
use crate::counter::Delta;
use crate::encode::DecodeError;
use crate::state::{Sibling, State};
use crate::update::{Chain, Change, Sealed, Update};
use crate::vector::{Dot, Slot, Vector};
use crate::wire::Mark;

/// The newest update of a slot that is known, as far as the next one must fit it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tip {
    /// Its number; 0 before the first.
    pub seq: u64,
    /// Its hash.
    pub chain: Chain,
    /// What it had seen.
    pub deps: Vector,
}

/// What is to be done with an update of another site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Intake {
    /// It is taken in now.
    Next(Sealed),
    /// It was, long ago.
    Known,
    /// What comes before it is missing here: of its own slot, or what it had seen.
    Waits(Dot),
    /// Its clock is too far ahead of ours.
    Ahead(Hlc),
    /// A session is open.
    Closed,
    /// It does not follow on what we have of its slot: its site has told two stories.
    Forked(Dot),
    /// Its slot does not go on, and this is behind what counts of it (I12).
    Frozen(Dot),
    /// It was made in a table of members that is not known here yet.
    Epoch(u32),
    /// It is no update.
    Wrong(DecodeError),
}

/// How far others hear that this site is, while it keeps back what it makes. Of the other slots
/// too: what is kept back was made before it had more of them, and whoever heard that would take
/// for stable what something concurrent is still to come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hush {
    /// This site's slot.
    pub slot: Slot,
    /// Of each slot the newest update that was here, and its hash.
    pub told: BTreeMap<Slot, (u64, Chain)>,
}

impl Hush {
    /// How many updates of this site were ever told of.
    #[must_use]
    pub fn through(&self) -> u64 {
        self.told.get(&self.slot).map_or(0, |it| it.0)
    }
}

/// What a site has taken in.
#[derive(Clone, Debug)]
pub struct Island {
    slot: Slot,
    epoch: u32,
    vector: Vector,
    tips: BTreeMap<Slot, Tip>,
    /// The latest time that was made or taken in.
    hlc: Hlc,
    session: Option<Session>,
    hush: Option<Hush>,
    /// Up to where slots count that do not go on; kept beside this, in the charter.
    limits: BTreeMap<Slot, u64>,
}

/// A session that is open: what is being joined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// Its number, which the site that opened it chose.
    pub id: u64,
    /// How far the other side was when it pinned its states.
    pub tips: BTreeMap<Slot, Tip>,
}

impl Session {
    /// Up to where the other side had taken in everything.
    #[must_use]
    pub fn vector(&self) -> Vector {
        let mut vector = Vector::new();
        for (slot, tip) in &self.tips {
            vector.raise(*slot, tip.seq);
        }
        vector
    }
}

impl Island {
    /// A site that has nothing yet.
    #[must_use]
    pub const fn new(slot: Slot, epoch: u32) -> Self {
        Self {
            slot,
            epoch,
            vector: Vector::new(),
            tips: BTreeMap::new(),
            hlc: Hlc::new(0),
            session: None,
            hush: None,
            limits: BTreeMap::new(),
        }
    }

    /// A site as it was.
    pub(crate) fn again(
        (slot, epoch): (Slot, u32),
        hlc: Hlc,
        tips: BTreeMap<Slot, Tip>,
        session: Option<Session>,
    ) -> Self {
        let mut vector = Vector::new();
        for (slot, tip) in &tips {
            vector.raise(*slot, tip.seq);
        }
        Self {
            slot,
            epoch,
            vector,
            tips,
            hlc,
            session,
            hush: None,
            limits: BTreeMap::new(),
        }
    }

    /// Goes by a table of members from here on, and takes in of slots only what counts.
    pub fn follow(&mut self, epoch: u32, limits: BTreeMap<Slot, u64>) {
        self.epoch = epoch;
        self.limits = limits;
    }

    /// How much of a slot that has `seq` updates somewhere counts here.
    #[must_use]
    pub fn limited(&self, slot: Slot, seq: u64) -> u64 {
        self.limits.get(&slot).map_or(seq, |limit| seq.min(*limit))
    }

    /// Whether this site originates nothing any more: its own slot does not go on.
    #[must_use]
    pub fn is_ended(&self) -> bool {
        self.limits.contains_key(&self.slot)
    }

    /// Whether a session counts: its other side has nothing that does not (I12), and of this site
    /// nothing that it was never told.
    #[must_use]
    pub fn may_join(&self, session: &Session) -> bool {
        let mut tips = session.tips.iter();
        tips.all(|(slot, tip)| {
            let is_other = *slot == self.slot && self.is_of_another_story(tip.seq);
            !is_other && self.limited(*slot, tip.seq) == tip.seq
        })
    }

    /// The table of members that it goes by.
    #[must_use]
    pub const fn epoch(&self) -> u32 {
        self.epoch
    }

    /// The latest time that was made or taken in.
    #[must_use]
    pub const fn hlc(&self) -> Hlc {
        self.hlc
    }

    /// What the next update of this site will be called, and its time.
    #[must_use]
    pub fn next(&self, unix_ms: u64) -> (Dot, Hlc) {
        let seq = self.vector.seq(self.slot) + 1;
        let slot = self.slot;
        (Dot { slot, seq }, self.hlc.next(unix_ms))
    }

    /// Its slot.
    #[must_use]
    pub const fn slot(&self) -> Slot {
        self.slot
    }

    /// Up to where it has taken in everything.
    #[must_use]
    pub const fn vector(&self) -> &Vector {
        &self.vector
    }

    /// The newest update of each slot.
    #[must_use]
    pub const fn tips(&self) -> &BTreeMap<Slot, Tip> {
        &self.tips
    }

    /// The session that is open.
    #[must_use]
    pub const fn session(&self) -> Option<&Session> {
        self.session.as_ref()
    }

    /// Makes the next update of this site, which has seen all that is here, and takes it in.
    pub fn originate(&mut self, changes: Vec<Change>, unix_ms: u64) -> Sealed {
        self.originate_in(changes, unix_ms, &mut BytesMut::new())
    }

    /// As [`Island::originate`], in the memory of `out`, which is empty before and after: what is
    /// made one after the other shares it.
    pub fn originate_in(
        &mut self,
        changes: Vec<Change>,
        unix_ms: u64,
        out: &mut BytesMut,
    ) -> Sealed {
        let none = Tip::default();
        let before = self.tips.get(&self.slot).unwrap_or(&none);
        let update = Update {
            dot: Dot {
                slot: self.slot,
                seq: before.seq + 1,
            },
            epoch: self.epoch,
            hlc: self.hlc.next(unix_ms),
            deps: self.vector.clone(),
            prev: before.chain,
            is_reissued: false,
            changes,
        };
        let sealed = Sealed::new_in(update, &before.deps, out);
        self.take(&sealed);
        sealed
    }

    /// Says what is to be done with an update of another site, at a moment of the wall clock.
    #[must_use]
    pub fn judge(&self, bytes: &Bytes, unix_ms: u64) -> Intake {
        let what = "an update";
        let Some(dot) = dot_of(bytes) else {
            return Intake::Wrong(DecodeError::Short { what });
        };
        if let Some(not_now) = self.judge_dot(dot) {
            return not_now;
        }
        let none = Tip::default();
        let tip = self.tips.get(&dot.slot).unwrap_or(&none);
        let sealed = match Sealed::decode(bytes, &tip.deps) {
            Ok(sealed) => sealed,
            Err(error) => return Intake::Wrong(error),
        };
        self.judge_next(sealed, tip, unix_ms)
    }

    /// As [`Island::judge`], of an update that was read before: nothing is hashed again. Its
    /// bytes must be those that were read.
    #[must_use]
    pub fn judge_read(&self, sealed: Sealed, unix_ms: u64) -> Intake {
        if let Some(not_now) = self.judge_dot(sealed.update.dot) {
            return not_now;
        }
        let none = Tip::default();
        let tip = self.tips.get(&sealed.update.dot.slot).unwrap_or(&none);
        // What it had seen was read as an advance on the one before it, which its chain names.
        self.judge_next(sealed, tip, unix_ms)
    }

    /// Why an update is not taken in now, as far as its name says.
    fn judge_dot(&self, dot: Dot) -> Option<Intake> {
        if self.vector.covers(dot) {
            return Some(Intake::Known);
        }
        if self.limited(dot.slot, dot.seq) < dot.seq {
            return Some(Intake::Frozen(dot));
        }
        if self.session.is_some() {
            return Some(Intake::Closed);
        }
        let seq = self.vector.seq(dot.slot) + 1;
        (dot.seq > seq).then_some(Intake::Waits(Dot { seq, ..dot }))
    }

    fn judge_next(&self, sealed: Sealed, tip: &Tip, unix_ms: u64) -> Intake {
        let update = &sealed.update;
        if update.prev != tip.chain {
            return Intake::Forked(update.dot);
        }
        if update.epoch > self.epoch {
            return Intake::Epoch(update.epoch);
        }
        let seen = update.deps.seq(self.slot);
        if self.is_of_another_story(seen) {
            return Intake::Forked(Dot {
                slot: self.slot,
                seq: seen,
            });
        }
        let lacks = |(slot, seq): &(Slot, u64)| *seq > self.vector.seq(*slot);
        if let Some((slot, _)) = update.deps.iter().find(lacks) {
            let seq = self.vector.seq(slot) + 1;
            return Intake::Waits(Dot { slot, seq });
        }
        if update.hlc.is_too_far_ahead(unix_ms) {
            return Intake::Ahead(update.hlc);
        }
        Intake::Next(sealed)
    }

    /// Takes an update in, one that [`Island::judge`] found to be the next.
    ///
    /// # Panics
    ///
    /// If it is not (I4).
    pub fn take(&mut self, sealed: &Sealed) {
        let update = &sealed.update;
        let dot = update.dot;
        assert_eq!(dot.seq, self.vector.seq(dot.slot) + 1, "I4: in slot order");
        assert!(self.vector.is_at_least(&update.deps), "I4: after its deps");
        self.vector.raise(dot.slot, dot.seq);
        self.hlc = self.hlc.max(update.hlc);
        let tip = self.tips.entry(dot.slot).or_default();
        tip.seq = dot.seq;
        tip.chain = sealed.chain;
        tip.deps.clone_from(&update.deps);
    }

    /// Opens a session, in place of one that may be open: from here on nothing of others is
    /// taken in until it is installed or given up.
    pub fn begin(&mut self, session: Session) {
        self.session = Some(session);
    }

    /// What others have heard of this site, if they are to hear no more.
    #[must_use]
    pub const fn hush(&self) -> Option<&Hush> {
        self.hush.as_ref()
    }

    /// What a hush keeps to that begins now.
    #[must_use]
    pub fn as_it_is(&self) -> Hush {
        let tips = self.tips.iter();
        Hush {
            slot: self.slot,
            told: tips
                .map(|(slot, tip)| (*slot, (tip.seq, tip.chain)))
                .collect(),
        }
    }

    /// The newest update of a slot that others may hear of, and its hash.
    #[must_use]
    pub fn told(&self, slot: Slot) -> Option<(u64, Chain)> {
        let tip = || self.tips.get(&slot).map(|tip| (tip.seq, tip.chain));
        let hush = self.hush.as_ref();
        hush.map_or_else(tip, |hush| hush.told.get(&slot).copied())
    }

    /// Whether so much of this site's slot is of another story than the one that is here: it is
    /// behind what others were ever told.
    fn is_of_another_story(&self, seq: u64) -> bool {
        let hush = self.hush.as_ref();
        hush.is_some_and(|hush| seq > hush.through())
    }

    /// Others are to hear of this site up to there: the first time counts, and only under the slot
    /// that it has.
    pub fn hush_up(&mut self, hush: Hush) {
        if self.hush.is_none() && hush.slot == self.slot {
            self.hush = Some(hush);
        }
    }

    /// Others may hear of all that it has made.
    pub fn speak(&mut self) {
        self.hush = None;
    }

    /// Gives a session up, if it is the one that is open.
    pub fn give_up(&mut self, id: u64) {
        self.session.take_if(|session| session.id == id);
    }

    /// Ends a session: what the other side had is here now. The caller joins the states in the
    /// same moment, as of [`Island::vector`] before this and [`Session::vector`].
    ///
    /// # Panics
    ///
    /// If that session is not open.
    pub fn install(&mut self, id: u64, newest: Hlc) {
        let session = self.session.take().expect("a session is open");
        assert_eq!(session.id, id, "it is that one");
        self.vector.join(&session.vector());
        self.hlc = self.hlc.max(newest);
        for (slot, tip) in session.tips {
            let known = self.tips.entry(slot).or_default();
            if tip.seq > known.seq {
                *known = tip;
            }
        }
    }
}

impl Change {
    /// Whether it touches a key.
    #[must_use]
    pub fn touches(&self, wanted: &[u8]) -> bool {
        match self {
            Self::Put { key, .. }
            | Self::Delete { key }
            | Self::Add { key, .. }
            | Self::Paths { key, .. }
            | Self::Erase { key } => key == wanted,
            Self::DeleteRange { key, end } => {
                **key <= *wanted && (end.is_empty() || *wanted < **end)
            }
            Self::Again { change, .. } => change.touches(wanted),
        }
    }

    /// Changes the state of a key that it touches, as part of an update.
    pub fn apply(&self, update: &Update, state: &mut State) {
        let (dot, hlc) = (update.dot, update.hlc);
        match self {
            Self::Again { change, .. } => {
                let then = self.in_its_time(update);
                let (then, _) = then.expect("it is made again");
                change.apply(&then, state);
            }
            Self::Put { lease, value, .. } => {
                let sibling = Sibling {
                    dot: update.dot,
                    hlc: update.hlc,
                    lease: *lease,
                    value: value.clone(),
                };
                state.put(&update.deps, sibling);
            }
            Self::Delete { .. } | Self::DeleteRange { .. } => state.delete(&update.deps),
            Self::Add { amount, .. } => {
                let amount = *amount;
                state.add(&update.deps, Delta { dot, hlc, amount });
            }
            Self::Paths { lease, writes, .. } => {
                state.write(&update.deps, *lease, Mark { dot, hlc }, writes);
            }
            Self::Erase { .. } => state.erase(&update.deps, Mark { dot, hlc }),
        }
    }
}

/// The name of an update, by its bytes alone.
#[must_use]
pub fn dot_of(bytes: &Bytes) -> Option<Dot> {
    let slot = Slot::new(*bytes.get(9)?)?;
    let seq = bytes.get(16..24)?.get_u64_le();
    (seq > 0).then_some(Dot { slot, seq })
}
