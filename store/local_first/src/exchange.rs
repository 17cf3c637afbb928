//! What the leader of a site does so that its island gets what others have, and they what it has.
//!
//! ```text
//! log of this site ──Applied──► Exchange ──Updates, Beat──► other sites
//!        ▲                         │  ▲
//!        └──────── Propose ────────┘  └── Updates, Beat, States ──
//! ```
//!
//! In step, own updates are pushed once they are committed here: those of a few milliseconds
//! together, for a message costs what many updates do. Who was away sees from a beat what it lacks
//! and pulls it. Where that is not kept any more, a session finds the keys that differ.
//!
//! What would surprise: two views of the island are kept. One is what the site's log has
//! committed, the only one that others are told of (I8). The other runs ahead of it by what was
//! proposed, so that the next update can be judged at once; what was proposed and never came is
//! forgotten after a while, and pulled again.

mod follow;
mod intake;
mod push;
mod quiet;
mod returning;
mod session;
mod stories;

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec::Vec;
use core::time::Duration;

use bytes::Bytes;
use holm_base::Time;
use holm_machine::{Effects, Machine};

use crate::clock::Hlc;
use crate::island::{Hush, Island, Session, Tip};
use crate::members::Frozen;
use crate::message::Message;
use crate::ranges::Short;
use crate::roster::{Charter, Roster};
use crate::seek::Ask;
use crate::tree::Tree;
use crate::update::{Chain, Sealed};
use crate::vector::{Dot, Slot, Vector};
use intake::Waiting;
use push::Outgoing;
use quiet::Quiet;
use session::Asking;

/// After so many times the patience, what is pinned for a site that asks nothing more goes.
const PINNED: u32 = 4;

/// Limits and times; all of them are in every site's table of settings.
#[derive(Clone, Debug)]
pub struct Config {
    /// The other sites.
    pub peers: Vec<Slot>,
    /// How often a peer is told how far this site is.
    pub beat_every: Duration,
    /// How long an own update waits for others that go with it, unless it is the first for as
    /// long.
    pub push_every: Duration,
    /// After how long without a word a peer counts as cut off.
    pub silence: Duration,
    /// How long an answer, or a proposal, is waited for.
    pub patience: Duration,
    /// How many updates may be on their way to a peer, and in this site's log.
    pub updates_max: usize,
    /// How many bytes of updates are asked for at once, and told at once of a session. Four
    /// times as many may be on their way to a peer.
    pub bytes_max: usize,
    /// Which run of which leader this is, its term: sessions of two are never taken for one.
    pub boot: u64,
}

/// What can happen.
#[derive(Clone, Debug)]
pub enum Input {
    /// The site has a leader, this one. Comes first.
    Start,
    /// The time that was asked for has come.
    Wake,
    /// This site's log has carried something out.
    Applied(Applied),
    /// A site spoke; the wall clock says `unix_ms`.
    Message {
        /// Who.
        from: Slot,
        /// What it said.
        message: Message,
        /// Milliseconds of Unix time, here.
        unix_ms: u64,
    },
    /// What [`Effect::Read`] asked for: the updates that come behind it, as many as fit.
    Found {
        /// Who wants them.
        to: Slot,
        /// Whose they are.
        slot: Slot,
        /// Each as its site wrote it; none if what comes first is not kept any more.
        updates: Option<Vec<Bytes>>,
    },
    /// The states are pinned with their index, as of these tips.
    Pinned {
        /// For whom.
        to: Slot,
        /// For which session.
        session: u64,
        /// How far this site was in that moment.
        tips: BTreeMap<Slot, Tip>,
        /// What all keys amount to.
        total: Short,
    },
    /// The index of all keys as they are now.
    Indexed {
        /// For which session.
        session: u64,
        /// The index.
        tree: Tree,
    },
    /// An answer from what was pinned.
    Answered {
        /// Who wants it.
        to: Slot,
        /// The message that is it.
        message: Message,
    },
}

/// What a site's log carried out.
#[derive(Clone, Debug)]
pub enum Applied {
    /// An update was taken in, an own one or another's.
    Update(Sealed),
    /// A session was opened.
    Began(Session),
    /// States of a session were staged, or left out: it is not the open one.
    Staged(u64),
    /// A session was installed; the latest time in it.
    Installed(u64, Hlc),
    /// A session was given up.
    GaveUp(u64),
    /// The site goes by another table of members, or has stopped a slot.
    Followed(Charter),
    /// The site was left out and came back: it has what the other side of a session had, and goes
    /// on under its heir. What it made again comes next, as updates.
    Rebased(Box<Island>),
    /// Others may hear of all that this site has made.
    Spoke,
}

/// What is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Tell a site something. May be lost; what is said to one site arrives in order.
    Send {
        /// Whom.
        to: Slot,
        /// What.
        message: Message,
    },
    /// Put something into this site's log.
    Propose(Proposal),
    /// These updates are proposed next, in this order. Who carries them out may take them as they
    /// were read here, if their bytes are the same, with [`Island::judge_read`].
    Expect(Vec<Sealed>),
    /// Find updates of a slot behind a number.
    Read {
        /// For whom.
        to: Slot,
        /// Whose.
        slot: Slot,
        /// Behind which.
        after: u64,
        /// As many as fit, and at least one.
        bytes_max: usize,
    },
    /// Keep all states and their index as they are in one moment, now or once there is an index,
    /// in place of what was kept for that site.
    Pin {
        /// For whom.
        to: Slot,
        /// For which session.
        session: u64,
    },
    /// Give the index of all keys as they are, now or once there is one.
    Index {
        /// For which session.
        session: u64,
    },
    /// Answer from what is pinned for the session that the question names.
    Answer {
        /// Whom.
        to: Slot,
        /// The question.
        ask: Ask,
        /// As many bytes as may be told, and one thing at least.
        bytes_max: usize,
    },
    /// States need not be kept any more.
    Unpin {
        /// For whom they were.
        to: Slot,
    },
    /// Something that an operator or a test should know.
    Note(Note),
}

/// An entry for this site's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proposal {
    /// Updates of others, in an order in which they can be taken in.
    Updates(Vec<Bytes>),
    /// A session is to be opened.
    Begin(Session),
    /// States of the other side, unseen until they are installed.
    Stage {
        /// Of which session.
        session: u64,
        /// Keys with their states, as they are written.
        states: Vec<(Bytes, Bytes)>,
    },
    /// What was staged is to be joined with what is here, if all of it was staged: the whole of
    /// what the other side has. Not proposed any more; it stands in logs.
    Install {
        /// The session.
        session: u64,
        /// How many keys were staged.
        keys: u64,
    },
    /// The session is given up; what was staged is forgotten.
    GiveUp {
        /// The session.
        session: u64,
    },
    /// Nothing concurrent to what this covers can come any more.
    Forget(Vector),
    /// What was staged is to be joined with what is here, if all of it was staged: the keys that
    /// differ, an empty state for one that the other side lacks.
    Join {
        /// The session.
        session: u64,
        /// How many keys were staged.
        keys: u64,
    },
    /// From here on the site goes by this table of members, if it is newer than its own.
    Follow(Roster),
    /// From here on nothing more of a slot is taken in, until the next table; of its own slot
    /// nothing is originated.
    Stop(Slot),
    /// Others know more of this site's slot than its leader, or otherwise: as a stop of it, if the
    /// log takes this in during the very run of the leader that says so. A leader that was replaced
    /// and has not heard of it lacks what its successor wrote, and that is no older copy.
    SetBack {
        /// The run, as in [`Config::boot`].
        run: u64,
    },
    /// From here on others hear of this site only up to there, however often it begins anew;
    /// nothing behind it was ever said. If the log takes this in during the very run of the leader
    /// that says so: what one that was replaced says comes late.
    Hush {
        /// The run, as in [`Config::boot`].
        run: u64,
        /// What others hear.
        hush: Hush,
    },
    /// From here on others hear of all that this site makes; as a hush, in the very run that says
    /// so.
    Speak {
        /// The run.
        run: u64,
    },
    /// This site was left out and has an heir: what was staged takes the place of what is here, if
    /// all of it was staged, and what only this site had is made again.
    Rebase {
        /// The session.
        session: u64,
        /// How many keys were staged.
        keys: u64,
    },
}

/// What an operator or a test should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// A site has told two stories about one update.
    Forked(Dot),
    /// Another site has an update of this one that is not here, or another one in its place: the
    /// data of this site is an older copy. It takes no more writes.
    SetBack(Dot),
    /// This site took in another story of a slot than the one that counts, and that slot does not
    /// go on: what it shows is not what others show. It takes no more writes.
    Astray(Dot),
    /// An update is held back: its site's clock is too far ahead.
    Held(Dot, Hlc),
    /// A site sent what is no update.
    Refused(Slot),
    /// A site is asked for what differs.
    SessionOpened(Slot),
    /// All that it had is here.
    SessionDone(Slot),
}

/// Numbers of sessions: their run above, and which one of it.
const RUN_SHIFT: u32 = 32;

/// What is known of another site.
#[derive(Clone, Debug, Default)]
struct Peer {
    /// How far it said it is.
    vector: Vector,
    /// Whether it has more than that.
    keeps_back: bool,
    /// By which table of members it goes.
    epoch: u32,
    /// When it first said so since this site began.
    said: Option<Time>,
    heard: Option<Time>,
    /// How far it was told that this site is.
    told: Vector,
    /// The newest own update that was sent to it.
    pushed: u64,
    /// What is on its way: the last of each message and its length, and all of them together.
    on_way: VecDeque<(u64, usize)>,
    on_way_bytes: usize,
    /// How many bytes of its updates were taken in since it was told how far this site is.
    untold_bytes: usize,
    /// What it was asked for, and when.
    pulling: Option<(Slot, Time)>,
    /// What to ask for next, where order is known.
    wants: Option<Slot>,
    /// When something that is pinned for it was last asked for.
    pinned: Option<Time>,
    /// The newest session that it has opened.
    opened: u64,
    /// When a fork was last told because of it.
    forked: Option<Time>,
    /// Of which slots that do not go on it has the last update, the one that counts.
    whole: BTreeSet<Slot>,
    /// Until when no session is opened with it: what it had was not to be joined.
    rests_until: Time,
}

/// The machine.
#[derive(Clone, Debug)]
pub struct Exchange {
    config: Config,
    /// As this site's log has committed it.
    taken: Island,
    /// With what was proposed and not committed yet.
    ahead: Island,
    proposed: Option<Time>,
    peers: BTreeMap<Slot, Peer>,
    asking: Option<Asking>,
    /// When a session was last given up.
    gave_up: Option<Time>,
    sessions: u64,
    beat: Option<Time>,
    /// Own updates that wait to be sent together.
    outgoing: Outgoing,
    /// Updates of others that came before what they need.
    waiting: Waiting,
    /// When the log was last asked to end this site's slot, for others know more of it.
    set_back: Option<Time>,
    /// While others do not hear of what it made since it began.
    quiet: Option<Quiet>,
    /// The slots that do not go on, and which update of each is the last.
    closed: BTreeMap<Slot, Frozen>,
    /// The slots of which this site takes in nothing more until a table says which update is the last.
    stopped: BTreeSet<Slot>,
    /// The log has it that others know more of this site.
    is_told_set_back: bool,
    /// This site was left out and is to go on under this slot, once it has what others have.
    heir: Option<Slot>,
}

impl Exchange {
    /// A machine of a site that has taken in what `island` says.
    #[must_use]
    pub fn new(config: Config, island: Island) -> Self {
        let peers = config.peers.iter().map(|slot| (*slot, Peer::default()));
        Self {
            peers: peers.collect(),
            ahead: island.clone(),
            taken: island,
            proposed: None,
            asking: None,
            gave_up: None,
            sessions: 0,
            beat: None,
            outgoing: Outgoing::default(),
            waiting: Waiting::default(),
            set_back: None,
            quiet: None,
            closed: BTreeMap::new(),
            stopped: BTreeSet::new(),
            is_told_set_back: false,
            heir: None,
            config,
        }
    }

    /// How far another site said that it is, and when it last said something.
    #[must_use]
    pub fn peer(&self, slot: Slot) -> Option<(&Vector, Option<Time>)> {
        let peer = self.peers.get(&slot)?;
        Some((&peer.vector, peer.heard))
    }

    /// Whether others know more of this site than it does, as far as was heard or its log has it: what it says of itself
    /// is not what counts.
    #[must_use]
    pub const fn is_set_back(&self) -> bool {
        self.set_back.is_some() || self.is_told_set_back
    }

    /// How far another said that it is, once that was held against what this site has.
    #[must_use]
    pub fn judged(&self, slot: Slot) -> Option<&Vector> {
        let peer = self.peers.get(&slot)?;
        peer.said.map(|_| &peer.vector)
    }

    /// What every site has: updates up to here need not be kept for any of them. Who was never
    /// heard of has nothing.
    #[must_use]
    pub fn acknowledged(&self) -> Vector {
        let mut all = self.taken.vector().clone();
        self.peers.values().for_each(|peer| all.meet(&peer.vector));
        all
    }

    fn is_heard(&self, slot: Slot, now: Time) -> bool {
        let heard = self.peers.get(&slot).and_then(|peer| peer.heard);
        heard.is_some_and(|at| now < at + self.config.silence)
    }

    fn applied(&mut self, now: Time, applied: Applied, effects: &mut Effects<Effect>) {
        match applied {
            Applied::Update(sealed) => self.took(now, &sealed, effects),
            Applied::Began(session) => {
                self.taken.begin(session.clone());
                self.ahead = self.taken.clone();
                self.began(now, session.id, effects);
            }
            Applied::Staged(session) => self.staged(now, session, effects),
            Applied::Installed(id, newest) => {
                self.taken.install(id, newest);
                self.ahead = self.taken.clone();
                self.installed(id, effects);
                self.beat_all(now, effects);
            }
            Applied::GaveUp(id) => {
                self.taken.give_up(id);
                self.ahead = self.taken.clone();
                self.refused(now, id);
            }
            Applied::Followed(charter) => self.follow(now, &charter, effects),
            Applied::Rebased(island) => self.returned(now, *island, effects),
            Applied::Spoke => self.spoke(now, effects),
        }
    }

    /// An update is committed here.
    fn took(&mut self, now: Time, sealed: &Sealed, effects: &mut Effects<Effect>) {
        let dot = sealed.update.dot;
        self.taken.take(sealed);
        if !self.ahead.vector().covers(dot) {
            self.ahead.take(sealed);
        }
        if self.ahead.vector() == self.taken.vector() {
            self.proposed = None;
        }
        self.go_on(now, effects);
        if dot.slot == self.taken.slot() {
            if self.quiet.is_none() {
                self.outgoing.add(dot.seq, sealed.bytes.clone());
            }
            if self.outgoing.is_ripe(now) {
                self.push(now, effects);
            }
        } else if let Some(peer) = self.peers.get_mut(&dot.slot) {
            peer.untold_bytes += sealed.bytes.len();
            let untold = dot.seq - peer.told.seq(dot.slot).min(dot.seq);
            let is_much = peer.untold_bytes >= self.config.bytes_max;
            if is_much || untold >= self.quarter() {
                self.beat_one(now, dot.slot, false, effects);
            }
        }
    }

    /// After how many updates their site is told at the latest that they are here.
    fn quarter(&self) -> u64 {
        u64::try_from(self.config.updates_max / 4 + 1).unwrap_or(u64::MAX)
    }

    fn beat_all(&mut self, now: Time, effects: &mut Effects<Effect>) {
        self.beat = Some(now + self.config.beat_every);
        for to in self.config.peers.clone() {
            self.beat_one(now, to, false, effects);
        }
    }

    /// Tells a site how far this one is. What that speaks of and is on nobody's way yet goes
    /// first, or it would be asked for.
    fn beat_one(&mut self, now: Time, to: Slot, asks: bool, effects: &mut Effects<Effect>) {
        if self.heir.is_some() {
            // What it has is of account to nobody until it is back.
            return;
        }
        self.push(now, effects);
        let (vector, head, chains) = self.word();
        let keeps_back = self.taken.hush().is_some() && vector != *self.taken.vector();
        if let Some(peer) = self.peers.get_mut(&to) {
            peer.told = vector.clone();
            peer.untold_bytes = 0;
            let epoch = self.taken.epoch();
            let message = Message::Beat {
                vector,
                epoch,
                head,
                chains,
                asks,
                keeps_back,
            };
            effects.push(Effect::Send { to, message });
        }
    }

    /// A site says how far it is.
    fn beaten(
        &mut self,
        now: Time,
        (from, vector): (Slot, Vector),
        (head, chains): (Chain, Vec<u64>),
        (asks, keeps_back, epoch): (bool, bool, u32),
        effects: &mut Effects<Effect>,
    ) {
        let own = self.taken.slot();
        let Some(peer) = self.peers.get_mut(&from) else {
            return;
        };
        // A site that begins anew may say less than it did; what it says now counts.
        let seq = vector.seq(own);
        let mut has_arrived = false;
        while let Some((_, length)) = peer.on_way.pop_front_if(|it| it.0 <= seq) {
            peer.on_way_bytes -= length;
            has_arrived = true;
        }
        // All that it had room for is there: it hears that there is more.
        let mut is_behind = false;
        if peer.on_way.is_empty() {
            peer.pushed = peer.pushed.min(seq);
            let taken = self.taken.vector().seq(own);
            let sent = taken.saturating_sub(self.outgoing.count());
            is_behind = has_arrived && seq < sent;
        }
        peer.vector = vector.clone();
        peer.keeps_back = keeps_back;
        peer.epoch = epoch;
        peer.said.get_or_insert(now);
        if self.heir.is_some() {
            self.come_back(now, from, effects);
            return;
        }
        self.compare(now, (from, &vector, head), effects);
        self.compare_all(now, (from, &vector, &chains), effects);
        self.speak_up(now, effects);
        if asks || is_behind {
            self.beat_one(now, from, false, effects);
        }
        self.pull(now, from, effects);
    }

    fn message(
        &mut self,
        now: Time,
        (from, message): (Slot, Message),
        unix_ms: u64,
        effects: &mut Effects<Effect>,
    ) {
        let Some(peer) = self.peers.get_mut(&from) else {
            return;
        };
        peer.heard = Some(now);
        if self.heir.is_some() && !returning::is_of_account(&message) {
            return;
        }
        match message {
            Message::Beat {
                vector,
                head,
                chains,
                asks,
                keeps_back,
                epoch,
            } => {
                let rest = (asks, keeps_back, epoch);
                self.beaten(now, (from, vector), (head, chains), rest, effects);
            }
            Message::Updates { slot, updates } => {
                if peer.pulling.is_some_and(|(wanted, _)| wanted == slot) {
                    peer.pulling = None;
                }
                self.hear_updates(now, (from, slot), updates, unix_ms, effects);
                self.pull(now, from, effects);
            }
            Message::Pull { slot, after } => {
                let bytes_max = self.config.bytes_max;
                let to = from;
                effects.push(Effect::Read {
                    to,
                    slot,
                    after,
                    bytes_max,
                });
            }
            Message::Forked { dot } => self.heard_of_itself(now, dot, effects),
            Message::Truncated { slot } => self.truncated(now, (from, slot), effects),
            // A message may come twice. States pinned anew for a session that has its tips would
            // hold more than those cover, and a write that is in them and not covered comes back
            // after it was deleted (I6). Numbers of sessions rise, but where a site began anew.
            Message::Open { session } if is_again(session, peer.opened) => {}
            Message::Open { .. } if self.quiet.is_some() => {}
            Message::Open { session } => {
                peer.opened = peer.opened.max(session);
                peer.pinned = Some(now);
                effects.push(Effect::Pin { to: from, session });
            }
            Message::Opened {
                session,
                tips,
                total,
            } => {
                let session = Session { id: session, tips };
                self.opened(now, from, (session, total), effects);
            }
            Message::Ask(ask) => {
                peer.pinned = peer.pinned.map(|_| now);
                let (to, bytes_max) = (from, self.config.bytes_max);
                effects.push(Effect::Answer { to, ask, bytes_max });
            }
            Message::Tell(tell) => self.told(now, (from, tell), effects),
            // Whose it was is not asked: a pin that is missed is asked for again.
            Message::Done { .. } => {
                if peer.pinned.take().is_some() {
                    effects.push(Effect::Unpin { to: from });
                }
            }
        }
    }

    /// When something is to be done that is not sending what waits.
    fn due(&self) -> Option<Time> {
        let patience = self.config.patience;
        let proposed = self.proposed.map(|at| at + patience);
        let asking = self.asking.as_ref().map(|asking| asking.since + patience);
        let quiet = self.quiet.as_ref().and_then(Quiet::until);
        let all = [self.beat, proposed, asking, quiet];
        all.into_iter().flatten().min()
    }

    fn wake(&mut self, now: Time, effects: &mut Effects<Effect>) {
        if self.outgoing.is_ripe(now) {
            self.push(now, effects);
        }
        if self.due().is_none_or(|at| at > now) {
            // Sites are not asked more often because updates are sent more often.
            return;
        }
        if self
            .proposed
            .is_some_and(|at| now >= at + self.config.patience)
        {
            // It may still come; then it is taken all the same.
            self.proposed = None;
            self.ahead = self.taken.clone();
        }
        self.waiting.let_go(now, self.config.patience);
        self.lose_patience(now, effects);
        self.speak_up(now, effects);
        if self.beat.is_some_and(|at| now >= at) {
            self.beat_all(now, effects);
        }
        let patience = self.config.patience;
        for to in self.config.peers.clone() {
            let is_heard = self.is_heard(to, now);
            if let Some(peer) = self.peers.get_mut(&to)
                && !is_heard
            {
                peer.on_way.clear();
                peer.on_way_bytes = 0;
                peer.pushed = 0;
                peer.pulling = None;
            }
            let peer = self.peers.get_mut(&to);
            let is_over = |at: &mut Time| !is_heard || now >= *at + PINNED * patience;
            if peer.is_some_and(|it| it.pinned.take_if(is_over).is_some()) {
                effects.push(Effect::Unpin { to });
            }
            if is_heard {
                self.pull(now, to, effects);
            }
        }
    }
}

/// Whether a session was opened before the newest of the same run.
const fn is_again(session: u64, newest: u64) -> bool {
    session <= newest && session >> RUN_SHIFT == newest >> RUN_SHIFT
}

impl Machine for Exchange {
    type Input = Input;
    type Effect = Effect;

    fn step(&mut self, now: Time, input: Input, effects: &mut Effects<Effect>) {
        match input {
            Input::Start => {
                if let Some(session) = self.taken.session() {
                    // Another leader's: what it was at is not known here.
                    let session = session.id;
                    effects.push(Effect::Propose(Proposal::GiveUp { session }));
                }
                self.beat = Some(now + self.config.beat_every);
                self.be_quiet(effects);
                for to in self.config.peers.clone() {
                    self.beat_one(now, to, true, effects);
                }
            }
            Input::Wake => self.wake(now, effects),
            Input::Applied(applied) => self.applied(now, applied, effects),
            Input::Message {
                from,
                message,
                unix_ms,
            } => self.message(now, (from, message), unix_ms, effects),
            Input::Found { to, slot, updates } => self.found(now, (to, slot), updates, effects),
            Input::Pinned {
                to,
                session,
                tips,
                total,
            } => {
                let message = Message::Opened {
                    session,
                    tips,
                    total,
                };
                effects.push(Effect::Send { to, message });
            }
            Input::Indexed { session, tree } => self.indexed(now, session, tree, effects),
            Input::Answered { to, message } => effects.push(Effect::Send { to, message }),
        }
    }

    fn wake_at(&self) -> Option<Time> {
        let both = [self.due(), self.outgoing.due()];
        both.into_iter().flatten().min()
    }
}
