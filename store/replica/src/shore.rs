//! Where an island meets the others: what its leader says to them, and what it takes from them.
//!
//! What would surprise: what other islands sent goes through this site's own log like anyone's
//! command. The machine that decides all of it is `holm_local_first::Exchange`; here it gets what
//! the engine has taken in, and is given what it asks for.
//!
//! A site has one node or several, and one of them leads the island. How far a site is goes to
//! each node of the others, so that all know who speaks for it and `holm status` knows at each;
//! all else goes to the node that spoke last. Who leads no more may speak for a moment: what it
//! says is true, for it tells only what was committed, and what it is told and lets fall is asked
//! for again.

mod follow;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use holm_base::{NodeId, Term, Time};
use holm_kv::command::{Command, Proposal};
use holm_kv::{Indexed, States};
use holm_local_first::{
    Applied, Ask, Config, Effect as Wanted, Exchange, Input as Told, Message as Word,
    Proposal as Entry, Slot, Stability, Vector,
};
use holm_machine::{Effects, Machine};

use crate::input::{Effect, Event};
use crate::message::Message;
use crate::replica::{OWN, Replica};

/// How many bytes of updates share a message, or an entry of the log, unless one alone is longer.
const TOGETHER_MAX: usize = 256 << 10;

/// How long an answer with states may be: a frame takes 8 MiB.
const TELL_MAX: usize = 7 << 20;

/// Words of others that may wait until this batch of steps ends: many, for the driver's own queue
/// of messages is bounded, and a word that is dropped here costs a pull or a session.
const WAITING_MAX: usize = 4_096;

/// How long an own update waits for others that go with it: a message costs what some ten updates
/// do, at both ends.
const PUSH_EVERY: Duration = Duration::from_millis(5);

/// How long what others sent waits for more before it goes into the log: each entry costs a sync,
/// which clients of this site wait behind, and the more islands there are, the more messages.
const GATHER_EVERY: Duration = Duration::from_millis(5);
/// So much of it does not wait: of 256 KiB, clients that came meanwhile waited longer.
const GATHERED_MAX: usize = 64 << 10;

/// Which other islands there are, and how they are spoken to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shores {
    /// The slot and the node of each of the others; of a site of several nodes, each of them.
    pub peers: Vec<(Slot, NodeId)>,
    /// How often each is told how far this site is.
    pub beat_every: Duration,
    /// After how long without a word a site counts as cut off.
    pub silence: Duration,
}

impl Shores {
    /// These others, a word a second, cut off after five.
    #[must_use]
    pub const fn new(peers: Vec<(Slot, NodeId)>) -> Self {
        Self {
            peers,
            beat_every: Duration::from_secs(1),
            silence: Duration::from_secs(5),
        }
    }

    /// The slots of the others, each once.
    fn slots(&self) -> BTreeSet<Slot> {
        self.peers.iter().map(|(slot, _)| *slot).collect()
    }

    fn config(&self, boot: u64) -> Config {
        Config {
            peers: self.slots().into_iter().collect(),
            beat_every: self.beat_every,
            push_every: PUSH_EVERY,
            silence: self.silence,
            patience: Duration::from_secs(5),
            updates_max: 8_192,
            bytes_max: 1 << 20,
            boot,
        }
    }
}

/// How another island stands, as far as is known here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// Its slot.
    pub slot: Slot,
    /// The node that spoke last for it; before any did, its first.
    pub node: NodeId,
    /// How far it said that it is.
    pub vector: Vector,
    /// How long ago it last said something here; `None` if it never did.
    pub silent_for: Option<Duration>,
    /// Whether that is too long ago.
    pub is_cut: bool,
    /// How far it said that it is, where that was held against what this site has: at the node that leads it.
    pub judged: Option<Vector>,
}

/// What a site last said.
#[derive(Debug)]
struct Heard {
    from: NodeId,
    at: Time,
    /// How far it is.
    vector: Vector,
}

/// An island's side of the exchange with others.
#[derive(Debug)]
pub(crate) struct Shore {
    shores: Shores,
    /// While this node leads, and in which term that is.
    machine: Option<Exchange>,
    run: Term,
    /// What sites said of how far they are, when, and by which node.
    heard: BTreeMap<Slot, Heard>,
    told: VecDeque<Told>,
    wanted: Effects<Wanted>,
    pins: BTreeMap<Slot, (u64, States)>,
    /// Which sessions wait for an index of the keys: of others, and an own one.
    to_pin: BTreeMap<Slot, u64>,
    to_seek: Option<u64>,
    /// What the wall clock said, and when.
    wall: (Time, u64),
    waiting: Vec<(Slot, Word)>,
    updates: Vec<Bytes>,
    /// How many bytes they are, and before which time they do not go into the log.
    gathered: usize,
    gathers_until: Time,
    /// What nothing concurrent can come to any more, and how far that was said in the log.
    stability: Stability,
    forgot: Vector,
    /// Up to where slots count that do not go on: until all of that is here, nothing is stable.
    ended: BTreeMap<Slot, u64>,
}

impl Shore {
    pub(crate) fn new(shores: Shores) -> Self {
        Self {
            stability: Stability::new(shores.slots()),
            forgot: Vector::new(),
            ended: BTreeMap::new(),
            shores,
            machine: None,
            run: Term::ZERO,
            heard: BTreeMap::new(),
            told: VecDeque::new(),
            wanted: Effects::new(),
            pins: BTreeMap::new(),
            to_pin: BTreeMap::new(),
            to_seek: None,
            wall: (Time::ZERO, 0),
            waiting: Vec::new(),
            updates: Vec::new(),
            gathered: 0,
            gathers_until: Time::ZERO,
        }
    }

    /// What the wall clock says now, in milliseconds of Unix time.
    pub(crate) fn unix_ms(&self, now: Time) -> u64 {
        let (at, unix_ms) = self.wall;
        let since = if now > at {
            now.since(at)
        } else {
            Duration::ZERO
        };
        unix_ms.saturating_add(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    fn slot(&self, node: NodeId) -> Option<Slot> {
        let found = self.shores.peers.iter().find(|(_, it)| *it == node);
        found.map(|(slot, _)| *slot)
    }

    /// The nodes of a site.
    fn nodes(&self, slot: Slot) -> impl Iterator<Item = NodeId> {
        let nodes = self.shores.peers.iter();
        nodes.filter(move |(it, _)| *it == slot).map(|(_, it)| *it)
    }

    /// Whom of a site a word is for: the node that speaks for it. Who does changes, so each is to
    /// know how far this site is; and while none is known, it is one of them.
    fn listeners(&self, slot: Slot, word: &Word) -> Vec<NodeId> {
        let speaker = self.heard.get(&slot).map(|it| it.from);
        let speaker = speaker.filter(|_| !matches!(word, Word::Beat { .. }));
        speaker.map_or_else(|| self.nodes(slot).collect(), |it| vec![it])
    }

    /// A site spoke by this node.
    fn hear(&mut self, now: Time, (slot, from): (Slot, NodeId), word: &Word) {
        let heard = self.heard.entry(slot).or_insert(Heard {
            from,
            at: now,
            vector: Vector::new(),
        });
        (heard.from, heard.at) = (from, now);
        if let Word::Beat { vector, .. } = word {
            heard.vector.clone_from(vector);
        }
    }

    pub(crate) fn wake_at(&self) -> Option<Time> {
        let machine = self.machine.as_ref().and_then(Machine::wake_at);
        let gathered = (!self.updates.is_empty()).then_some(self.gathers_until);
        [machine, gathered].into_iter().flatten().min()
    }

    /// Whether what others sent goes into the log now.
    const fn is_gathered(&self, now: Time) -> bool {
        now.nanos() >= self.gathers_until.nanos() || self.gathered >= GATHERED_MAX
    }

    /// How the others stand.
    pub(crate) fn neighbours(&self, now: Time) -> Vec<Neighbour> {
        let all = self.shores.slots().into_iter().filter_map(|slot| {
            let heard = self.heard.get(&slot);
            let node = heard
                .map(|it| it.from)
                .or_else(|| self.nodes(slot).next())?;
            Some(Neighbour {
                slot,
                node,
                vector: heard.map(|it| it.vector.clone()).unwrap_or_default(),
                silent_for: heard.map(|it| now.since(it.at)),
                is_cut: heard.is_none_or(|it| now >= it.at + self.shores.silence),
                judged: self
                    .machine
                    .as_ref()
                    .and_then(|it| it.judged(slot))
                    .cloned(),
            })
        });
        all.collect()
    }
}

impl Replica {
    /// The wall clock's time, in milliseconds of Unix time: to be said before each batch to a
    /// replica of a local-first keyspace, and of no account to others.
    pub fn set_wall(&mut self, now: Time, unix_ms: u64) {
        if let Some(shore) = &mut self.shore {
            shore.wall = (now, unix_ms);
        }
    }

    /// How the other islands stand, as far as is known here; nobody, if this is none.
    #[must_use]
    pub fn neighbours(&self, now: Time) -> Vec<Neighbour> {
        let shore = self.shore.as_ref();
        shore.map_or_else(Vec::new, |shore| shore.neighbours(now))
    }

    /// Whether the other islands know more of this one than it does itself, as far as was heard here.
    #[must_use]
    pub fn is_set_back(&self) -> bool {
        let machine = self.shore.as_ref().and_then(|it| it.machine.as_ref());
        machine.is_some_and(Exchange::is_set_back)
    }

    /// Whether its keyspace is local-first: then its commands are to have their time.
    #[must_use]
    pub const fn is_island(&self) -> bool {
        self.shore.is_some()
    }

    /// Another island spoke, by that slot if it said so. A node that was let go and came back has
    /// another slot than an older table says: what it says is of no account until the new one comes.
    pub(crate) fn hear_island(
        &mut self,
        now: Time,
        (from, by): (NodeId, Option<Slot>),
        word: Word,
    ) {
        let leads = self.is_leading();
        let Some(shore) = &mut self.shore else {
            return;
        };
        let slot = shore.slot(from);
        let Some(slot) = slot.filter(|slot| by.is_none_or(|by| by == *slot)) else {
            return;
        };
        shore.hear(now, (slot, from), &word);
        // Another node of this site answers it; and what is too much is a lost message to its
        // sender, who says it again.
        if leads && shore.waiting.len() < WAITING_MAX {
            shore.waiting.push((slot, word));
        }
    }

    /// There is an exchange while this node leads, one for each term, and none while it does not.
    fn begin_shore(&mut self, leads: bool) {
        let term = self.term();
        let Some(shore) = &mut self.shore else {
            return;
        };
        let is_another = shore.machine.is_some() && shore.run != term;
        if !leads || is_another {
            shore.machine = None;
            shore.waiting.clear();
            shore.updates.clear();
            shore.gathered = 0;
            shore.pins.clear();
            shore.to_pin.clear();
            shore.to_seek = None;
            shore.told.clear();
        }
        if !leads {
            self.follow_on();
            return;
        }
        if shore.machine.is_some() {
            return;
        }
        // What was applied before it led is not told: which sites there are is looked up.
        drop(self.keyspace.take_applied());
        self.follow_charter();
        let island = self.keyspace.island().expect("it is one").clone();
        let charter = self.keyspace.charter().cloned();
        let shore = self.shore.as_mut().expect("it was there");
        shore.run = term;
        let roster = charter.as_ref().and_then(holm_local_first::Charter::roster);
        let heir = roster.and_then(|it| it.members.heir(island.slot()));
        let heir = heir.filter(|heir| *heir != island.slot());
        let machine = Exchange::new(shore.shores.config(term.value()), island);
        shore.machine = Some(machine.under(heir));
        shore.told.push_back(Told::Start);
        let charter = charter.filter(|it| *it != holm_local_first::Charter::default());
        let followed = charter.map(|it| Told::Applied(Applied::Followed(it)));
        shore.told.extend(followed);
    }

    /// Tells the exchange what was taken in and what was heard, and does what it wants.
    pub(crate) fn tend_shore(&mut self, now: Time, effects: &mut Effects<Effect>) {
        let leads = self.is_leading();
        self.begin_shore(leads);
        let Some(shore) = self.shore.as_mut().filter(|_| leads) else {
            return;
        };
        let applied = self.keyspace.take_applied();
        let own = self.keyspace.island().expect("it is one").slot();
        for it in &applied {
            match it {
                Applied::Followed(charter) => shore.follow(charter, own),
                Applied::Rebased(_) => {
                    let charter = self.keyspace.charter();
                    shore.follow(charter.expect("it is an island"), own);
                }
                Applied::Update(_)
                | Applied::Began(_)
                | Applied::Staged(_)
                | Applied::Installed(..)
                | Applied::GaveUp(_)
                | Applied::Spoke => {}
            }
        }
        shore.told.extend(applied.into_iter().map(Told::Applied));
        let unix_ms = shore.unix_ms(now);
        let island = self.keyspace.island().expect("it is one");
        let (ours, own_epoch) = (island.vector(), island.epoch());
        shore.stability.advance(ours);
        for (from, message) in shore.waiting.drain(..) {
            // Whoever goes by a newer table may have told a site of which nothing is known here
            // what it has, before what it says now: that does not count yet.
            if let Word::Beat { vector, epoch, .. } = &message
                && *epoch <= own_epoch
            {
                shore.stability.report(from, vector, ours, unix_ms);
            }
            shore.told.push_back(Told::Message {
                from,
                message,
                unix_ms,
            });
        }
        let machine = shore.machine.as_ref().and_then(Machine::wake_at);
        let is_due = machine.is_some_and(|at| at <= now);
        let mut forget = None;
        if is_due {
            shore.told.push_back(Told::Wake);
            let stable = shore.stable(ours);
            if self.keyspace.has_to_forget() && stable != shore.forgot {
                shore.forgot.clone_from(&stable);
                forget = Some(stable);
            }
        }
        self.serve_index(effects);
        self.step_shore(now, effects);
        if let Some(stable) = forget {
            self.propose_island(now, Entry::Forget(stable), effects);
        }
    }

    fn step_shore(&mut self, now: Time, effects: &mut Effects<Effect>) {
        let own = self.keyspace.island().expect("it is one").slot();
        // Who was left out and is on its way back speaks by the slot that it will have.
        let roster = self.keyspace.charter().and_then(|it| it.roster());
        let heir = roster.and_then(|it| it.members.heir(own));
        let mut said = Said::by(heir.unwrap_or(own));
        loop {
            let Some(shore) = &mut self.shore else {
                return;
            };
            let (Some(machine), Some(told)) = (&mut shore.machine, shore.told.pop_front()) else {
                break;
            };
            machine.step(now, told, &mut shore.wanted);
            let mut wanted = core::mem::take(&mut shore.wanted);
            for effect in wanted.drain() {
                self.obey_shore(now, effect, (&mut said, effects));
            }
            if let Some(shore) = &mut self.shore {
                shore.wanted = wanted;
            }
        }
        said.end(effects);
        if self.shore.as_ref().is_some_and(|it| it.is_gathered(now)) {
            self.propose_updates(now, effects);
        }
    }

    fn obey_shore(
        &mut self,
        now: Time,
        effect: Wanted,
        (said, effects): (&mut Said, &mut Effects<Effect>),
    ) {
        let Some(shore) = &mut self.shore else {
            return;
        };
        match effect {
            Wanted::Send { to, message } => {
                let mut listeners = shore.listeners(to, &message);
                let last = listeners.pop();
                for node in listeners {
                    said.say(node, message.clone(), effects);
                }
                if let Some(node) = last {
                    said.say(node, message, effects);
                }
            }
            Wanted::Expect(updates) => self.keyspace.expect(updates),
            Wanted::Propose(Entry::Updates(updates)) => {
                shore.gathered += updates.iter().map(Bytes::len).sum::<usize>();
                shore.updates.extend(updates);
            }
            Wanted::Propose(proposal) => {
                self.propose_updates(now, effects);
                self.propose_island(now, proposal, effects);
            }
            Wanted::Read {
                to,
                slot,
                after,
                bytes_max,
            } => {
                let updates = self.keyspace.updates(slot, after, bytes_max);
                shore.told.push_back(Told::Found { to, slot, updates });
            }
            Wanted::Pin { to, session } => {
                shore.pins.remove(&to);
                shore.to_pin.insert(to, session);
                self.serve_index(effects);
            }
            Wanted::Index { session } => {
                shore.to_seek = Some(session);
                self.serve_index(effects);
            }
            Wanted::Answer { to, ask, bytes_max } => {
                if let Err(what) = shore.answer(to, &ask, bytes_max) {
                    effects.push(Effect::Note(Event::Broken { what }));
                }
            }
            Wanted::Unpin { to } => {
                shore.to_pin.remove(&to);
                shore.pins.remove(&to);
            }
            Wanted::Note(note) => effects.push(Effect::Note(Event::Island(note))),
        }
    }

    /// Pins the keys for those who wait for an index of them, once there is one.
    fn serve_index(&mut self, effects: &mut Effects<Effect>) {
        let Some(shore) = &mut self.shore else {
            return;
        };
        if shore.to_pin.is_empty() && shore.to_seek.is_none() {
            return;
        }
        let tree = match self.keyspace.index().expect("it is an island") {
            Indexed::NotYet => return,
            Indexed::Whole(tree) => tree,
            Indexed::Damaged => {
                shore.to_pin.clear();
                shore.to_seek = None;
                let what = "a key's state is damaged: no session with another island is possible";
                effects.push(Effect::Note(Event::Broken { what }));
                return;
            }
        };
        for (to, session) in core::mem::take(&mut shore.to_pin) {
            let states = self.keyspace.states().expect("it is an island");
            let (tips, total) = (states.tips().clone(), tree.total().short());
            shore.pins.insert(to, (session, states));
            shore.told.push_back(Told::Pinned {
                to,
                session,
                tips,
                total,
            });
        }
        if let Some(session) = shore.to_seek.take() {
            shore.told.push_back(Told::Indexed { session, tree });
        }
    }

    /// Puts what others did into this site's log.
    fn propose_updates(&mut self, now: Time, effects: &mut Effects<Effect>) {
        let Some(shore) = &mut self.shore else {
            return;
        };
        if shore.updates.is_empty() {
            return;
        }
        shore.gathers_until = now + GATHER_EVERY;
        shore.gathered = 0;
        let (mut together, mut bytes) = (Vec::new(), 0);
        for update in core::mem::take(&mut shore.updates) {
            if bytes + update.len() > TOGETHER_MAX && !together.is_empty() {
                let full = core::mem::take(&mut together);
                self.propose_island(now, Entry::Updates(full), effects);
                bytes = 0;
            }
            bytes += update.len();
            together.push(update);
        }
        if !together.is_empty() {
            self.propose_island(now, Entry::Updates(together), effects);
        }
    }

    fn propose_island(&mut self, now: Time, entry: Entry, effects: &mut Effects<Effect>) {
        let unix_ms = self.shore.as_ref().map_or(0, |it| it.unix_ms(now));
        let proposal = Proposal {
            caller: None,
            command: Command::Island(entry),
        };
        // What is not taken is asked for again.
        self.propose(now, OWN, proposal.encode_at(unix_ms), false, effects);
    }
}

impl Shore {
    fn answer(&mut self, to: Slot, ask: &Ask, bytes_max: usize) -> Result<(), &'static str> {
        let is_meant = |(session, states): &&(u64, States)| {
            let total = states.tree().map(|it| it.total().short());
            *session == ask.session && total == Some(ask.total)
        };
        let Some((_, states)) = self.pins.get(&to).filter(is_meant) else {
            return Ok(());
        };
        // Damage must not pass for keys that are not there: the other side gives up.
        let Ok(told) = states.tell(ask, bytes_max) else {
            return Err("a key's state is damaged: another island cannot be told of it");
        };
        let told = told.expect("it was pinned with its index");
        if told.size_hint() > TELL_MAX {
            return Err(
                "concurrent writes of a key are too long to be sent: write the key once more",
            );
        }
        let message = Word::Tell(told);
        self.told.push_back(Told::Answered { to, message });
        Ok(())
    }
}

/// Updates that are said in one message to each.
#[derive(Debug)]
struct Said {
    by: Slot,
    last: BTreeMap<NodeId, (Slot, Vec<Bytes>, usize)>,
}

impl Said {
    const fn by(by: Slot) -> Self {
        let last = BTreeMap::new();
        Self { by, last }
    }

    fn say(&mut self, to: NodeId, message: Word, effects: &mut Effects<Effect>) {
        let Word::Updates { slot, updates } = message else {
            self.end_one(to, effects);
            let message = Message::Island(Some(self.by), message);
            let after = None;
            effects.push(Effect::Send { to, message, after });
            return;
        };
        let bytes: usize = updates.iter().map(Bytes::len).sum();
        if let Some((of, all, length)) = self.last.get_mut(&to)
            && *of == slot
            && *length + bytes <= TOGETHER_MAX
        {
            *length += bytes;
            all.extend(updates);
            return;
        }
        self.end_one(to, effects);
        self.last.insert(to, (slot, updates, bytes));
    }

    /// What was said to a site arrives in order.
    fn end_one(&mut self, to: NodeId, effects: &mut Effects<Effect>) {
        if let Some((slot, updates, _)) = self.last.remove(&to) {
            let word = Word::Updates { slot, updates };
            let message = Message::Island(Some(self.by), word);
            let after = None;
            effects.push(Effect::Send { to, message, after });
        }
    }

    fn end(&mut self, effects: &mut Effects<Effect>) {
        while let Some(to) = self.last.keys().next().copied() {
            self.end_one(to, effects);
        }
    }
}
