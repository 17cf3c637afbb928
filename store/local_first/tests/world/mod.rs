//! Islands in a small world: each with keys, streams of updates, a log, and the machine.
//!
//! Time is a number, the network loses and holds back what it likes, and who crashes forgets
//! what its log had not committed. After each entry that a site carries out, its keys are held
//! against the twin.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use holm_base::{Prng, Time};
use holm_local_first::{
    Applied, Ask, Change, Config, Effect, Exchange, Hlc, Input, Intake, Island, Message, Note,
    Proposal, Sealed, Session, Slot, State, Tree, Update, Vector, tell,
};
use holm_machine::{Effects, Machine};

#[path = "../twins/plain.rs"]
mod plain;
pub(crate) use plain::twin;

pub(crate) type Keys = BTreeMap<Bytes, State>;

pub(crate) fn slot(number: u8) -> Slot {
    Slot::new(number).expect("slots begin at 1")
}

/// Carries an update out on keys.
pub(crate) fn carry_out(update: &Update, keys: &mut Keys) {
    for change in &update.changes {
        let again = change.in_its_time(update);
        let plain = again.as_ref().map_or(change, |(_, change)| change);
        if let Some((key, ..)) = plain.put() {
            keys.entry(key.clone()).or_default();
        }
        for (key, state) in keys.iter_mut() {
            if change.touches(key) {
                change.apply(update, state);
            }
        }
    }
    keys.retain(|_, state| !state.is_empty());
}

/// A mistake of an engine, to see that it is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mistake {
    None,
    /// Of concurrent writes only the one that is shown is kept.
    LosersDropped,
    /// States are joined by keeping everything that either side has.
    JoinedWithoutVectors,
    /// What the other side had is believed before its states are here.
    VectorJoinedEarly,
    /// Of a transaction with several changes, only the first is carried out.
    HalfTaken,
    /// The asker of a session looks for differences in an index of before the other side pinned.
    AskerPinnedFirst,
    /// A put replaces everything, though it saw only some of it.
    PutReplacesAll,
}

/// Updates of one slot that are kept.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stream {
    first: u64,
    kept: VecDeque<Bytes>,
}

/// What is kept of the states for a session of another.
#[derive(Clone, Debug)]
struct Pin {
    session: u64,
    keys: Keys,
    tree: Tree,
}

pub(crate) struct Site {
    pub(crate) island: Island,
    pub(crate) keys: Keys,
    streams: BTreeMap<Slot, Stream>,
    staged: Keys,
    pins: BTreeMap<Slot, Pin>,
    /// The index when a session of this site last asked for it.
    early: BTreeMap<u64, Tree>,
    machine: Exchange,
    /// Proposed and not committed.
    log: VecDeque<Proposal>,
    /// What was read before it was proposed.
    expected: VecDeque<Sealed>,
    boots: u64,
    clock_off_ms: u64,
}

pub(crate) struct World {
    pub(crate) sites: BTreeMap<Slot, Site>,
    pub(crate) all: Vec<Update>,
    pub(crate) notes: Vec<Note>,
    pub(crate) prng: Prng,
    pub(crate) now: Time,
    mistake: Mistake,
    network: BTreeMap<(Slot, Slot), VecDeque<Message>>,
    cut: Vec<(Slot, Slot)>,
    values: u64,
    /// How many messages with updates were sent, and how many updates in them.
    pub(crate) sent: (usize, usize),
}

const UNIX_MS: u64 = 1_800_000_000_000;

fn config(own: Slot, count: u8, boot: u64) -> Config {
    let all = (1..=count).map(slot);
    Config {
        peers: all.filter(|it| *it != own).collect(),
        beat_every: Duration::from_secs(1),
        push_every: Duration::from_millis(5),
        silence: Duration::from_secs(5),
        patience: Duration::from_secs(2),
        updates_max: 4,
        bytes_max: 600,
        boot,
    }
}

impl World {
    pub(crate) fn new(count: u8, seed: u64, mistake: Mistake) -> Self {
        let mut world = Self {
            sites: BTreeMap::new(),
            all: Vec::new(),
            notes: Vec::new(),
            prng: Prng::new(seed),
            now: Time::ZERO,
            mistake,
            network: BTreeMap::new(),
            cut: Vec::new(),
            values: 0,
            sent: (0, 0),
        };
        for own in (1..=count).map(slot) {
            let island = Island::new(own, 1);
            let site = Site {
                machine: Exchange::new(config(own, count, 0), island.clone()),
                island,
                keys: Keys::new(),
                streams: BTreeMap::new(),
                staged: Keys::new(),
                pins: BTreeMap::new(),
                early: BTreeMap::new(),
                log: VecDeque::new(),
                expected: VecDeque::new(),
                boots: 0,
                clock_off_ms: u64::from(own.value()) * 700,
            };
            world.sites.insert(own, site);
        }
        let slots: Vec<Slot> = world.sites.keys().copied().collect();
        slots
            .into_iter()
            .for_each(|own| world.tell(own, Input::Start));
        world
    }

    fn site(&mut self, own: Slot) -> &mut Site {
        self.sites.get_mut(&own).expect("it is there")
    }

    fn unix_ms(&self, own: Slot) -> u64 {
        let elapsed = u64::try_from(self.now.since(Time::ZERO).as_millis()).expect("it is short");
        UNIX_MS + elapsed + self.sites[&own].clock_off_ms
    }

    /// Steps a site's machine and does what it wants.
    fn tell(&mut self, own: Slot, input: Input) {
        let (now, mut effects) = (self.now, Effects::new());
        self.site(own).machine.step(now, input, &mut effects);
        let wanted: Vec<Effect> = effects.drain().collect();
        for effect in wanted {
            self.carry_out(own, effect);
        }
    }

    fn carry_out(&mut self, own: Slot, effect: Effect) {
        match effect {
            Effect::Send { to, message } => {
                if let Message::Updates { updates, .. } = &message {
                    self.sent.0 += 1;
                    self.sent.1 += updates.len();
                }
                self.network
                    .entry((own, to))
                    .or_default()
                    .push_back(message);
            }
            Effect::Propose(proposal) => self.site(own).log.push_back(proposal),
            Effect::Expect(updates) => self.site(own).expected.extend(updates),
            Effect::Read {
                to,
                slot,
                after,
                bytes_max,
            } => {
                let updates = self.site(own).read(slot, after, bytes_max);
                self.tell(own, Input::Found { to, slot, updates });
            }
            Effect::Pin { to, session } => {
                let site = self.site(own);
                let (tree, keys) = (site.index(), site.keys.clone());
                let total = tree.total().short();
                let pin = Pin {
                    session,
                    keys,
                    tree,
                };
                site.pins.insert(to, pin);
                let tips = site.island.tips().clone();
                let input = Input::Pinned {
                    to,
                    session,
                    tips,
                    total,
                };
                self.tell(own, input);
            }
            Effect::Index { session } => {
                let is_early = self.mistake == Mistake::AskerPinnedFirst;
                let site = self.site(own);
                let fresh = site.index();
                let kept = site.early.insert(session, fresh.clone());
                let tree = kept.filter(|_| is_early).unwrap_or(fresh);
                self.tell(own, Input::Indexed { session, tree });
            }
            Effect::Answer { to, ask, .. } => {
                if let Some(message) = self.site(own).answer(to, &ask) {
                    self.tell(own, Input::Answered { to, message });
                }
            }
            Effect::Unpin { to } => drop(self.site(own).pins.remove(&to)),
            Effect::Note(note) => self.notes.push(note),
        }
    }

    /// A client of a site changes something.
    pub(crate) fn change(&mut self, own: Slot, changes: Vec<Change>) {
        let unix_ms = self.unix_ms(own);
        let site = self.site(own);
        let sealed = site.island.originate(changes, unix_ms);
        self.all.push(sealed.update.clone());
        self.took(own, sealed);
    }

    /// A random change to one of three keys.
    pub(crate) fn change_something(&mut self, own: Slot) {
        self.values += 1;
        let value = Bytes::from(format!("{own}-{}", self.values));
        let key = |number: u64| Bytes::from(format!("k{number}"));
        let picked = self.prng.below(3);
        let put = Change::Put {
            key: key(picked),
            lease: 0,
            value,
        };
        let changes = match self.prng.below(6) {
            0 => vec![Change::Delete { key: key(picked) }],
            1 => vec![Change::DeleteRange {
                key: key(0),
                end: key(2),
            }],
            2 => vec![
                put,
                Change::Delete {
                    key: key((picked + 1) % 3),
                },
            ],
            _ => vec![put],
        };
        self.change(own, changes);
    }

    fn took(&mut self, own: Slot, sealed: Sealed) {
        let mistake = self.mistake;
        let site = self.site(own);
        let mut update = sealed.update.clone();
        match mistake {
            Mistake::HalfTaken => update.changes.truncate(1),
            Mistake::PutReplacesAll => update.deps = site.island.vector().clone(),
            Mistake::None
            | Mistake::LosersDropped
            | Mistake::JoinedWithoutVectors
            | Mistake::VectorJoinedEarly
            | Mistake::AskerPinnedFirst => {}
        }
        carry_out(&update, &mut site.keys);
        if mistake == Mistake::LosersDropped {
            site.keys.values_mut().for_each(drop_losers);
        }
        let stream = site.streams.entry(sealed.update.dot.slot).or_default();
        if stream.kept.is_empty() {
            stream.first = sealed.update.dot.seq;
        }
        stream.kept.push_back(sealed.bytes.clone());
        self.tell(own, Input::Applied(Applied::Update(sealed)));
    }

    /// A site's log commits its next entry.
    pub(crate) fn commit(&mut self, own: Slot) {
        let Some(proposal) = self.site(own).log.pop_front() else {
            return;
        };
        match proposal {
            Proposal::Updates(updates) => {
                for bytes in updates {
                    self.take_in(own, &bytes);
                }
            }
            Proposal::Begin(session) => {
                let mistake = self.mistake;
                let site = self.site(own);
                site.staged.clear();
                site.island.begin(session.clone());
                if mistake == Mistake::VectorJoinedEarly {
                    site.island.install(session.id, Hlc::default());
                    site.island.begin(session.clone());
                }
                self.tell(own, Input::Applied(Applied::Began(session)));
            }
            Proposal::Stage { session, states } => {
                self.site(own).stage(session, states);
                self.tell(own, Input::Applied(Applied::Staged(session)));
            }
            Proposal::Join { session, keys } => self.install(own, session, keys),
            Proposal::Install { .. } => unreachable!("it stands in old logs only"),
            Proposal::Forget(_) => unreachable!("plain values need it not"),
            Proposal::Follow(_) | Proposal::Rebase { .. } => {
                unreachable!("its sites stay as they are")
            }
            // A planted mistake may be noticed so; the twin is to notice it too.
            Proposal::Stop(_) | Proposal::SetBack { .. } => {}
            Proposal::Hush { hush, .. } => self.site(own).island.hush_up(hush),
            Proposal::Speak { .. } => {
                self.site(own).island.speak();
                self.tell(own, Input::Applied(Applied::Spoke));
            }
            Proposal::GiveUp { session } => {
                self.site(own).island.give_up(session);
                self.tell(own, Input::Applied(Applied::GaveUp(session)));
            }
        }
    }

    fn take_in(&mut self, own: Slot, bytes: &Bytes) {
        let unix_ms = self.unix_ms(own);
        let site = self.site(own);
        let judged = site.island.judge(bytes, unix_ms);
        while let Some(read) = site.expected.pop_front() {
            if read.bytes == *bytes {
                assert_eq!(site.island.judge_read(read, unix_ms), judged);
                break;
            }
        }
        match judged {
            Intake::Next(sealed) => {
                site.island.take(&sealed);
                self.took(own, sealed);
            }
            Intake::Known | Intake::Closed | Intake::Waits(_) => {}
            Intake::Ahead(_)
            | Intake::Forked(_)
            | Intake::Epoch(_)
            | Intake::Frozen(_)
            | Intake::Wrong(_) => {
                panic!("nobody lies here: {:?}", site.island.judge(bytes, unix_ms));
            }
        }
    }

    fn install(&mut self, own: Slot, id: u64, keys: u64) {
        let mistake = self.mistake;
        let site = self.site(own);
        let Some(session) = site.island.session().filter(|open| open.id == id).cloned() else {
            return;
        };
        if u64::try_from(site.staged.len()) != Ok(keys) {
            site.island.give_up(id);
            self.tell(own, Input::Applied(Applied::GaveUp(id)));
            return;
        }
        let newest = site.join(&session, mistake);
        site.island.install(id, newest);
        for tip in session.tips.keys() {
            // What was jumped over is not in the streams: they begin anew.
            let through = site.island.tips().get(tip).map_or(0, |it| it.seq);
            let stream = site.streams.entry(*tip).or_default();
            let next = stream.first + u64::try_from(stream.kept.len()).expect("it is short");
            if next != through + 1 {
                stream.kept.clear();
            }
        }
        self.tell(own, Input::Applied(Applied::Installed(id, newest)));
    }

    /// A site loses all that was not committed, and what was on its way to it.
    pub(crate) fn crash(&mut self, own: Slot) {
        let count = u8::try_from(self.sites.len()).expect("a few");
        self.network
            .retain(|(from, to), _| *from != own && *to != own);
        let keeps = self.prng.below(3);
        let site = self.site(own);
        site.boots += 1;
        // Some of what was proposed may be committed all the same.
        site.log.truncate(usize::try_from(keeps).expect("a few"));
        site.expected.clear();
        site.pins.clear();
        site.machine = Exchange::new(config(own, count, site.boots), site.island.clone());
        while !self.site(own).log.is_empty() {
            self.commit(own);
        }
        let site = self.site(own);
        site.machine = Exchange::new(config(own, count, site.boots), site.island.clone());
        self.tell(own, Input::Start);
    }

    /// A site forgets the oldest updates that it keeps of a slot; of its own only what another
    /// site has, or they would be lost.
    pub(crate) fn truncate(&mut self, own: Slot, of: Slot) {
        let through = if own == of {
            let others = self.sites.iter().filter(|(it, _)| **it != own);
            let known = others.map(|(_, site)| site.island.vector().seq(of));
            known.max().unwrap_or(0)
        } else {
            u64::MAX
        };
        let stream = self.site(own).streams.entry(of).or_default();
        if !stream.kept.is_empty() && stream.first <= through {
            stream.kept.pop_front();
            stream.first += 1;
        }
    }

    pub(crate) fn cut(&mut self, from: Slot, to: Slot) {
        self.cut.push((from, to));
    }

    pub(crate) fn heal(&mut self) {
        self.cut.clear();
    }

    /// The oldest message between two sites arrives, or is lost.
    pub(crate) fn deliver(&mut self, from: Slot, to: Slot, is_lost: bool) {
        let waiting = self.network.get_mut(&(from, to));
        let Some(message) = waiting.and_then(VecDeque::pop_front) else {
            return;
        };
        if is_lost || self.cut.contains(&(from, to)) {
            return;
        }
        let unix_ms = self.unix_ms(to);
        let input = Input::Message {
            from,
            message,
            unix_ms,
        };
        self.tell(to, input);
    }

    pub(crate) fn pass(&mut self, time: Duration) {
        self.now = self.now + time;
        for own in self.slots() {
            let at = self.sites[&own].machine.wake_at();
            if at.is_some_and(|at| at <= self.now) {
                self.tell(own, Input::Wake);
                let again = self.sites[&own].machine.wake_at();
                assert!(again.is_none_or(|at| at > self.now), "driver I4");
            }
        }
    }

    pub(crate) fn slots(&self) -> Vec<Slot> {
        self.sites.keys().copied().collect()
    }

    /// Nothing is lost any more: all that waits arrives and is committed, for a second.
    pub(crate) fn settle(&mut self) {
        for _ in 0..4 {
            for (from, to) in self.network.keys().copied().collect::<Vec<_>>() {
                while self
                    .network
                    .get(&(from, to))
                    .is_some_and(|it| !it.is_empty())
                {
                    self.deliver(from, to, false);
                }
            }
            for own in self.slots() {
                while !self.sites[&own].log.is_empty() {
                    self.commit(own);
                }
            }
            self.pass(Duration::from_millis(250));
        }
    }

    /// What is wrong with the keys of a site, if something is.
    pub(crate) fn wrong(&self, own: Slot) -> Option<String> {
        let site = &self.sites[&own];
        let expected = twin(&self.all, site.island.vector());
        (site.keys != expected).then(|| {
            let vector = site.island.vector();
            format!("site {own} at {vector}: {:?}, not {expected:?}", site.keys)
        })
    }

    pub(crate) fn are_equal(&self) -> bool {
        let mut all = self.sites.values();
        let first = all.next().expect("there are some");
        all.all(|it| it.island.vector() == first.island.vector() && it.keys == first.keys)
    }

    pub(crate) fn machine(&self, own: Slot) -> &Exchange {
        &self.sites[&own].machine
    }
}

impl Site {
    fn read(&self, of: Slot, after: u64, bytes_max: usize) -> Option<Vec<Bytes>> {
        let none = Stream::default();
        let stream = self.streams.get(&of).unwrap_or(&none);
        if after >= self.island.vector().seq(of) {
            return Some(Vec::new());
        }
        let skipped = usize::try_from((after + 1).checked_sub(stream.first)?).ok()?;
        let mut bytes = 0;
        let fits = |it: &&Bytes| {
            let is_first = bytes == 0;
            bytes += it.len();
            is_first || bytes <= bytes_max
        };
        let found: Vec<Bytes> = stream
            .kept
            .iter()
            .skip(skipped)
            .take_while(fits)
            .cloned()
            .collect();
        (!found.is_empty()).then_some(found)
    }

    fn index(&self) -> Tree {
        let mut tree = Tree::new();
        for (key, state) in &self.keys {
            tree.set(key, Some(state.digest(key)));
        }
        tree
    }

    /// A few bytes at a time.
    fn answer(&self, to: Slot, ask: &Ask) -> Option<Message> {
        let pin = self.pins.get(&to).filter(|it| it.session == ask.session)?;
        let pin = Some(pin).filter(|it| it.tree.total().short() == ask.total)?;
        let told = tell(ask, &pin.tree, 8, |name| {
            let state = pin.keys.get(name)?;
            Some((name.clone(), state.encode()))
        });
        Some(Message::Tell(told))
    }

    fn stage(&mut self, session: u64, states: Vec<(Bytes, Bytes)>) {
        if self.island.session().is_some_and(|open| open.id == session) {
            for (key, bytes) in states {
                let state = State::decode(bytes).expect("what was encoded can be read");
                self.staged.insert(key, state);
            }
        }
    }

    /// Joins what was staged; the latest time in it.
    fn join(&mut self, session: &Session, mistake: Mistake) -> Hlc {
        let theirs = core::mem::take(&mut self.staged);
        let (seen, told) = (self.island.vector().clone(), session.vector());
        let mut newest = Hlc::default();
        for (key, other) in &theirs {
            let ours = self.keys.get(key).cloned().unwrap_or_default();
            let nothing = Vector::new();
            let joined = if mistake == Mistake::JoinedWithoutVectors {
                State::joined((&ours, &nothing), (other, &nothing))
            } else {
                State::joined((&ours, &seen), (other, &told))
            };
            let times = joined.siblings().iter().map(|it| it.hlc);
            newest = times.max().unwrap_or_default().max(newest);
            self.keys.insert(key.clone(), joined);
        }
        self.keys.retain(|_, state| !state.is_empty());
        newest
    }
}

fn drop_losers(state: &mut State) {
    let shown = state.shown().cloned();
    let mut rest = Vector::new();
    for it in state.siblings() {
        rest.raise(it.dot.slot, it.dot.seq);
    }
    state.delete(&rest);
    if let Some(shown) = shown {
        state.put(&Vector::new(), shown);
    }
}
