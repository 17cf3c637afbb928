//! A local-first keyspace at its site: the island that the engine's keys are.
//!
//! Commands of clients change keys as ever, and each that changed something becomes an update
//! for other islands. Updates of others come as commands too, through the same log, and change
//! keys by the rules of `holm-local-first`.
//!
//! ```text
//! record of a key: ... 100 mark (who wrote it)     all that most keys need
//! fact State/key:  all writes that none saw        only keys with several, or whose record
//!                                                  has another mark
//! fact Island:     what was taken in               with the sequencer's words (I16)
//! fact Island/charter: which sites it goes by     once they are others than at the beginning
//! fact Staged/key: what another has                while a session is open
//! fact Conflict/n: which concurrent writes met     the newest, by number
//! ```
//!
//! What would surprise: nothing is decided by this node's clock. The time of an entry stands in
//! it, so that every replay comes to the same.

mod digests;
mod expected;
mod face;
mod foretold;
mod gone;
mod lease;
mod list;
mod members;
mod met;
mod plain;
mod rebase;
mod room;
mod streams;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use bytes::{Bytes, BytesMut};
use holm_base::{Revision, Term};
use holm_local_first::{
    Applied, Chain, Change, Charter, Conflict, Dot, Exists, Hlc, Intake, Island, Mark, Proposal,
    Rules, Sealed, Session, Sibling, Slot, Stamp, State, Type, Update, Vector,
};

use crate::apply::Work;
use crate::error::StoreError;
use crate::layout::count;
use crate::outcome::Outcome;
use crate::range::KeyRange;
use crate::refusal::Refusal;
use crate::root::Root;
use crate::store::{FactKind, Store};

pub use digests::Indexed;
use digests::{Digests, named};
use expected::Expected;
pub use foretold::{Foretelling, ForetoldFrom};
use gone::is_calm;
pub use list::States;
use met::Met;
pub use met::MetLine;
pub(crate) use met::behind;
use plain::Written;
pub(crate) use room::Room;
use streams::Streams;

/// What a keyspace must know of itself to be an island.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IslandConfig {
    /// Its place among the sites of the keyspace.
    pub slot: Slot,
    /// The table of members that it goes by.
    pub epoch: u32,
    /// When it got its slot, in milliseconds of Unix time: its revisions begin there.
    pub since_unix_ms: u64,
    /// What its values are: what concurrent writes of a key become.
    pub rules: Rules,
    /// How many bytes of updates are kept for sites that lack them; who lacks older ones is sent
    /// the keys that differ.
    pub updates_bytes_max: usize,
}

/// What readers are shown of an island.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IslandView {
    /// Its slot; of one that was left out and is not back, the one that it had.
    pub slot: Slot,
    /// Up to where it has taken in everything.
    pub vector: Vector,
    /// How many keys have concurrent writes of which one is shown.
    pub conflicts: u64,
    /// The number of the table of members that it goes by.
    pub epoch: u32,
    /// Of which slots it takes in nothing more until the next table, and how far it is with each.
    pub stops: BTreeMap<Slot, (u64, Chain)>,
    /// Whether it takes no writes any more: its own slot does not go on.
    pub is_ended: bool,
    /// The slot of this site, or the one under which it would go on, of which others know more than itself: its data
    /// are an older copy.
    pub set_back: Option<Slot>,
}

/// The island of a keyspace.
#[derive(Debug)]
pub(crate) struct Isle {
    config: IslandConfig,
    charter: Charter,
    island: Island,
    streams: Streams,
    /// Of the command in hand: its time, and what it changed.
    unix_ms: u64,
    changes: Vec<Change>,
    /// What is left of the update of leases that end.
    room: Room,
    /// Own updates are written here, so that many share an allocation.
    block: BytesMut,
    /// What was taken in since it was last asked for.
    applied: Vec<Applied>,
    /// Updates that are on their way through the log, as they were read before that.
    expected: Expected,
    /// How many keys have a fact beside their record.
    conflicts: u64,
    /// What was written when.
    written: Written,
    /// How many of them have a marker and no writes side by side.
    calm: u64,
    met: Met,
    /// Keys with additions that are not folded yet, or with markers.
    loose: BTreeSet<Bytes>,
    digests: Digests,
    /// Keys that the command in hand touches, while there is an index.
    touched: BTreeSet<Bytes>,
}

impl Isle {
    /// The island of a store. Fails if what it kept is damaged.
    pub(crate) fn open(config: IslandConfig, store: &mut Store) -> Result<Self, StoreError> {
        let damaged = |error: holm_local_first::DecodeError| StoreError::Damaged {
            file: "the island's fact".to_owned(),
            at: holm_base::ByteCount::ZERO,
            found: error.to_string(),
        };
        let island = match store.fact(FactKind::Island, b"") {
            Some(kept) => Island::decode(&kept).map_err(damaged)?,
            None => Island::new(config.slot, config.epoch),
        };
        let charter = members::kept(store).map_err(damaged)?;
        // One that was left out has its old slot until it is back.
        let is_back = island.slot() == config.slot;
        let since = if is_back { config.since_unix_ms } else { 0 };
        store.begin_at(Stamp::since(island.slot(), since));
        let (mut conflicts, mut calm, mut loose) = (0, 0, BTreeSet::new());
        store.facts(FactKind::State, &mut |key, state| {
            conflicts += 1;
            let Ok(state) = State::decode(state.clone()) else {
                return;
            };
            calm += u64::from(is_calm(&state));
            if is_loose(&state) {
                loose.insert(Bytes::copy_from_slice(key));
            }
        });
        let mut isle = Self {
            streams: Streams::new(config.updates_bytes_max, island.vector()),
            written: Written::new(store.root().revision(), island.vector()),
            charter,
            config,
            island,
            unix_ms: 0,
            changes: Vec::new(),
            room: Room::default(),
            block: BytesMut::with_capacity(streams::BLOCK),
            applied: Vec::new(),
            expected: Expected::default(),
            conflicts,
            calm,
            met: Met::open(store),
            loose,
            digests: Digests::default(),
            touched: BTreeSet::new(),
        };
        isle.apply_charter();
        Ok(isle)
    }

    pub(crate) const fn island(&self) -> &Island {
        &self.island
    }

    pub(crate) fn view(&self) -> IslandView {
        IslandView {
            slot: self.island.slot(),
            vector: self.island.vector().clone(),
            conflicts: self.conflicts - self.calm,
            epoch: self.island.epoch(),
            stops: self.stops(),
            is_ended: self.is_ended(),
            set_back: self.charter.set_back(),
        }
    }

    fn stops(&self) -> BTreeMap<Slot, (u64, Chain)> {
        let stops = self.charter.stops().keys();
        let tip = |slot: &Slot| self.island.tips().get(slot).cloned().unwrap_or_default();
        stops
            .map(|slot| (*slot, tip(slot)))
            .map(|(slot, tip)| (slot, (tip.seq, tip.chain)))
            .collect()
    }

    /// What was taken in since this was last asked.
    pub(crate) fn take_applied(&mut self) -> Vec<Applied> {
        std::mem::take(&mut self.applied)
    }

    pub(crate) fn expect(&mut self, updates: Vec<Sealed>) {
        updates.into_iter().for_each(|it| self.expected.push(it));
    }

    /// What is to be done with an update of another. It was mostly read before it was proposed:
    /// then it is not hashed again, and all comes to the same.
    fn judge(&mut self, bytes: &Bytes) -> Intake {
        match self.expected.find(bytes) {
            Some(read) => self.island.judge_read(read, self.unix_ms),
            None => self.island.judge(bytes, self.unix_ms),
        }
    }

    /// Updates of a slot behind a number, as many as fit and at least one. `None` if the first
    /// of them is not kept any more.
    pub(crate) fn read(&self, slot: Slot, after: u64, bytes_max: usize) -> Option<Vec<Bytes>> {
        let last = self.island.vector().seq(slot);
        self.streams.read(slot, (after, last), bytes_max)
    }

    /// All keys as they are now.
    pub(crate) fn states(&self, store: &Store) -> States {
        States {
            root: store.snapshot(),
            facts: store.facts.clone(),
            tips: self.island.tips().clone(),
            tree: match self.digests.indexed() {
                Indexed::Whole(tree) => Some(tree),
                Indexed::NotYet | Indexed::Damaged => None,
            },
        }
    }

    /// The index of all keys; from here on one is made, if there is none.
    pub(crate) fn index(&mut self) -> Indexed {
        self.digests.begin();
        self.digests.indexed()
    }

    pub(crate) const fn is_indexing(&self) -> bool {
        self.digests.is_making()
    }

    pub(crate) fn index_some(&mut self, store: &Store) -> bool {
        self.digests.make_some(store, self.conflicts > 0)
    }

    fn touch(&mut self, key: &[u8]) {
        if self.digests.is_kept() {
            self.touched.insert(Bytes::copy_from_slice(key));
        }
    }

    /// Whether there are additions that are not folded.
    pub(crate) fn is_loose(&self) -> bool {
        !self.loose.is_empty()
    }

    /// A command begins, which was proposed at that time.
    pub(crate) fn begin(&mut self, store: &mut Store, unix_ms: u64) {
        self.unix_ms = unix_ms;
        self.room = Room::default();
        store.begin_revision(next(store.root(), unix_ms));
    }

    /// A command of a client has ended: what it changed is an update.
    pub(crate) fn end(&mut self, store: &Store) {
        let has_kept = self.conflicts > 0;
        self.digests
            .note_touched(store, &mut self.touched, has_kept);
        self.originate(store);
    }

    /// A client's command writes a key. Gives the record's mark.
    pub(crate) fn wrote(
        &mut self,
        store: &mut Store,
        key: &Bytes,
        value: &Bytes,
        lease: i64,
    ) -> Bytes {
        let (key, value) = (key.clone(), value.clone());
        // A client has seen all that is here.
        self.keep_state(store, &key, None);
        self.changes.push(Change::Put { key, lease, value });
        let (dot, hlc) = self.island.next(self.unix_ms);
        Mark { dot, hlc }.encode()
    }

    /// A client's command deletes the keys of a range, of which these were there. Gives the mark
    /// of the deletes' records.
    pub(crate) fn deleted(&mut self, store: &mut Store, range: &KeyRange, keys: &[Bytes]) -> Bytes {
        if keys.is_empty() {
            return Bytes::new();
        }
        let mark = self.own_mark();
        if self.deletes_win() {
            self.erase(store, keys, mark);
            return mark.encode();
        }
        for key in keys {
            self.keep_state(store, key, None);
        }
        self.changes.push(match range {
            KeyRange::One(key) => Change::Delete { key: key.clone() },
            KeyRange::Between(key, end) => Change::DeleteRange {
                key: key.clone(),
                end: end.clone(),
            },
            KeyRange::From(key) => Change::DeleteRange {
                key: key.clone(),
                end: Bytes::new(),
            },
        });
        mark.encode()
    }

    fn kept_state(&self, store: &Store, key: &[u8]) -> Option<Bytes> {
        let may_be = self.conflicts > 0;
        may_be.then(|| store.fact(FactKind::State, key)).flatten()
    }

    /// Keeps a key's whole state beside its record, or nothing.
    fn keep_state(&mut self, store: &mut Store, key: &[u8], state: Option<&State>) {
        self.touch(key);
        let kept = self.kept_state(store, key);
        let was = kept.is_some();
        if state.is_none() && !was {
            return;
        }
        let was_calm = kept.is_some_and(|it| State::decode(it).is_ok_and(|it| is_calm(&it)));
        self.calm += u64::from(state.is_some_and(is_calm));
        self.calm -= u64::from(was_calm);
        store.set_fact(FactKind::State, key, state.map(State::encode));
        self.conflicts += u64::from(state.is_some());
        self.conflicts -= u64::from(was);
        if state.is_some_and(is_loose) {
            self.loose.insert(Bytes::copy_from_slice(key));
        }
    }

    /// Whether what a put changes depends on what is there.
    const fn reads_first(&self) -> bool {
        matches!(self.config.rules.kind, Type::Counter | Type::Json)
            || matches!(self.config.rules.exists, Exists::DeleteWins)
    }

    /// All that is known of a key, and which update its record names.
    fn state(&self, store: &Store, key: &[u8]) -> Result<(State, Option<Dot>), Refusal> {
        let kept = self.kept_state(store, key);
        state_of(store.root(), key, kept)
    }

    /// Whether clients are shown something else. A write is, as in etcd, whatever was there.
    fn is_seen(&self, was: &State, is: &State) -> bool {
        let dot = |it: &Sibling| it.dot;
        match self.config.rules.kind {
            Type::Lww | Type::Set => was.shown().map(dot) != is.shown().map(dot),
            Type::Mv => !was
                .siblings()
                .iter()
                .map(dot)
                .eq(is.siblings().iter().map(dot)),
            kind @ (Type::Counter | Type::Json) => {
                let seen = |state: &State| kind.shown(state).map(|it| (it.value, it.lease));
                seen(was) != seen(is)
            }
        }
    }
}

/// A key's whole state: what is kept beside its record, or what the record says.
fn state_of(root: &Root, key: &[u8], kept: Option<Bytes>) -> Result<(State, Option<Dot>), Refusal> {
    let corrupt = |found: String| Refusal::Corrupt {
        place: format!("the state of a key of {} bytes: {found}", key.len()),
    };
    if let Some(kept) = kept {
        let state = State::decode(kept).map_err(|error| corrupt(error.to_string()))?;
        return Ok((state, None));
    }
    let Some(meta) = root.get(key) else {
        return Ok((State::new(), None));
    };
    let parts = root.read(&meta)?.decode();
    let parts = parts.ok_or_else(|| corrupt("its record is none".to_owned()))?;
    let mark = Mark::decode(&parts.mark).map_err(|error| corrupt(error.to_string()))?;
    let mut state = State::new();
    let sibling = Sibling {
        dot: mark.dot,
        hlc: mark.hlc,
        lease: parts.lease,
        value: parts.value,
    };
    state.put(&Vector::new(), sibling);
    Ok((state, Some(mark.dot)))
}

/// Whether a state has something that goes once it is stable.
fn is_loose(state: &State) -> bool {
    !state.deltas().is_empty() || !state.markers().is_empty()
}

/// A state that was staged.
fn sent(state: Bytes) -> Result<State, Refusal> {
    State::decode(state).map_err(|error| Refusal::Corrupt {
        place: format!("a state that another island sent: {error}"),
    })
}

/// The revision that a command makes which was proposed at that time.
fn next(root: &Root, unix_ms: u64) -> Revision {
    let now = Stamp::of(root.revision()).expect("I1: an island's revisions are stamps");
    now.next(unix_ms).revision()
}

/// What the keys are that were staged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Staged {
    /// All that the other side has: what is not among them it lacks. So older logs have it.
    All,
    /// Those that differ.
    Differing,
}

/// A key that is about to become another.
#[derive(Debug)]
struct Turn {
    was: State,
    is: State,
    /// The change that last touched it, by its place in the update.
    by: Option<usize>,
    /// The update that its record names.
    recorded: Option<Dot>,
    /// The mark of the update that changes it; empty for a session, which stands for many.
    mark: Bytes,
}

impl Work<'_> {
    /// A client's command writes a key of an island. What it writes fits: that was checked.
    pub(crate) fn put_island(
        &mut self,
        key: &Bytes,
        (value, lease): (&Bytes, i64),
    ) -> Result<(), Refusal> {
        let isle = self.isle.as_deref_mut().expect("it was asked for");
        if !isle.reads_first() {
            let mark = isle.wrote(self.store, key, value, lease);
            self.write(key, (value, lease), mark, lease);
            return Ok(());
        }
        let mut turn = self.turn(key)?;
        let isle = self.isle();
        let written = (key.clone(), lease, value.clone());
        let change = isle.config.rules.put(&turn.was, written)?;
        let (dot, hlc) = isle.island.next(isle.unix_ms);
        let update = Update {
            dot,
            epoch: isle.island.epoch(),
            hlc,
            deps: isle.island.vector().clone(),
            prev: Chain::default(),
            is_reissued: false,
            changes: Vec::new(),
        };
        change.apply(&update, &mut turn.is);
        isle.changes.push(change);
        self.show_one(key, &turn, true);
        Ok(())
    }

    /// Something of other islands is taken in, or prepared.
    pub(crate) fn island(&mut self, term: Term, entry: &Proposal) -> Result<Outcome, Refusal> {
        if self.isle.is_none() {
            let place = "an island's entry in a keyspace that is none".to_owned();
            return Err(Refusal::Corrupt { place });
        }
        match entry {
            Proposal::Updates(updates) => {
                for bytes in updates {
                    self.take_in(bytes)?;
                }
            }
            Proposal::Begin(session) => {
                self.clear_staged();
                let isle = self.isle();
                if isle.may_take(session) {
                    isle.island.begin(session.clone());
                    isle.applied.push(Applied::Began(session.clone()));
                } else {
                    isle.applied.push(Applied::GaveUp(session.id));
                }
            }
            Proposal::Stage { session, states } => {
                if self.is_open(*session) {
                    // What is no state is left out: then the count is wrong, and nothing is installed.
                    let are_fit = |it: &&(Bytes, Bytes)| State::decode(it.1.clone()).is_ok();
                    let absent = State::new().encode();
                    for (key, state) in states.iter().filter(are_fit) {
                        // What is absent there goes by its name in the index.
                        let is_absent = *state == absent;
                        let whole = is_absent
                            .then(|| named(self.store.root(), &self.store.facts, key))
                            .flatten();
                        let key = whole.as_ref().unwrap_or(key);
                        // A copy: a slice would keep the whole entry in memory.
                        let state = Bytes::copy_from_slice(state);
                        self.store.set_fact(FactKind::Staged, key, Some(state));
                    }
                }
                self.isle().applied.push(Applied::Staged(*session));
            }
            Proposal::Install { session, keys } => self.install((*session, *keys), Staged::All)?,
            Proposal::Join { session, keys } => {
                self.install((*session, *keys), Staged::Differing)?;
            }
            Proposal::GiveUp { session } => self.give_up(*session),
            Proposal::Forget(stable) => self.settle(stable)?,
            Proposal::Follow(roster) => self.follow(roster),
            Proposal::Stop(slot) => self.stop(*slot),
            Proposal::SetBack { run } => self.set_back(*run == term.value()),
            Proposal::Rebase { session, keys } => self.rebase(*session, *keys)?,
            Proposal::Hush { run, hush } => self.hush(*run == term.value(), hush),
            Proposal::Speak { run } => self.speak(*run == term.value()),
        }
        Ok(Outcome::Done)
    }

    fn isle(&mut self) -> &mut Isle {
        self.isle.as_deref_mut().expect("it was asked for")
    }

    fn is_open(&mut self, id: u64) -> bool {
        let session = self.isle().island.session();
        session.is_some_and(|open| open.id == id)
    }

    /// An update of another, if it is the next: as one revision.
    fn take_in(&mut self, bytes: &Bytes) -> Result<(), Refusal> {
        let isle = self.isle();
        let Intake::Next(sealed) = isle.judge(bytes) else {
            // It came twice, or before what it needs: whoever has it sends it again.
            return Ok(());
        };
        let Some(sealed) = self.take_plainly(sealed) else {
            return Ok(());
        };
        let (dot, hlc) = (sealed.update.dot, sealed.update.hlc);
        let mark = Mark { dot, hlc }.encode();
        let mut turns = BTreeMap::new();
        for (at, change) in sealed.update.changes.iter().enumerate() {
            for key in self.touched(change) {
                if !turns.contains_key(&key) {
                    let turn = self.turn(&key)?;
                    turns.insert(key.clone(), turn);
                }
                let turn = turns.get_mut(&key).expect("it was just added");
                change.apply(&sealed.update, &mut turn.is);
                turn.by = Some(at);
                turn.mark = mark.clone();
            }
        }
        let isle = self.isle.as_deref_mut().expect("it was asked for");
        let unix_ms = isle.unix_ms;
        let met = isle.met_at(self.store, &turns, Some(&sealed.update))?;
        isle.island.take(&sealed);
        isle.keep(sealed);
        self.show(turns, unix_ms);
        self.remember_met(met, unix_ms);
        Ok(())
    }

    /// The keys that a change may touch: of a range, those that are there.
    fn touched(&self, change: &Change) -> Vec<Bytes> {
        let (key, end) = match change {
            Change::Put { key, .. }
            | Change::Delete { key }
            | Change::Add { key, .. }
            | Change::Paths { key, .. }
            | Change::Erase { key } => return vec![key.clone()],
            Change::Again { change, .. } => return self.touched(change),
            Change::DeleteRange { key, end } => (key.clone(), end.clone()),
        };
        let range = if end.is_empty() {
            KeyRange::From(key)
        } else {
            KeyRange::Between(key, end)
        };
        let mut keys = Vec::new();
        self.store.root().scan(&range, None, &mut |key, _meta| {
            keys.push(Bytes::copy_from_slice(key));
            ControlFlow::Continue(())
        });
        keys
    }

    fn turn(&mut self, key: &Bytes) -> Result<Turn, Refusal> {
        let isle = self.isle.as_deref().expect("it was asked for");
        let (was, recorded) = isle.state(self.store, key)?;
        let is = was.clone();
        Ok(Turn {
            was,
            is,
            by: None,
            recorded,
            mark: Bytes::new(),
        })
    }

    /// Shows keys as they are from now on, all in one revision.
    fn show(&mut self, turns: BTreeMap<Bytes, Turn>, unix_ms: u64) {
        self.store.begin_revision(next(self.store.root(), unix_ms));
        for (key, turn) in turns {
            self.show_one(&key, &turn, false);
        }
        self.store.end_revision();
    }

    /// A client's own write is a change even if it changes nothing.
    fn show_one(&mut self, key: &Bytes, turn: &Turn, is_own: bool) {
        let isle = self.isle.as_deref_mut().expect("it was asked for");
        let is_seen = is_own || isle.is_seen(&turn.was, &turn.is);
        let Some(shown) = isle.config.rules.kind.shown(&turn.is) else {
            let kept = (!turn.is.is_empty()).then_some(&turn.is);
            isle.keep_state(self.store, key, kept);
            self.delete_key(key, turn.mark.clone());
            return;
        };
        let is_recorded = is_seen || turn.recorded == Some(shown.mark.dot);
        let kept = (!turn.is.is_plain() || !is_recorded).then_some(&turn.is);
        isle.keep_state(self.store, key, kept);
        if is_seen {
            let value = (&shown.value, shown.lease);
            self.show_put(key, value, shown.mark.encode());
        }
    }

    fn show_put(&mut self, key: &Bytes, (value, lease): (&Bytes, i64), mark: Bytes) {
        // Other islands' leases do not end here.
        let is_held = self.leases.contains(lease);
        let holder = if is_held { lease } else { 0 };
        self.write(key, (value, lease), mark, holder);
    }

    /// Folds additions that no island can be without any more.
    fn settle(&mut self, stable: &Vector) -> Result<(), Refusal> {
        for key in std::mem::take(&mut self.isle().loose) {
            let isle = self.isle.as_deref_mut().expect("it was asked for");
            let Some(kept) = isle.kept_state(self.store, &key) else {
                continue;
            };
            let (before, _recorded) = state_of(self.store.root(), &key, Some(kept))?;
            let mut state = before.clone();
            state.settle(stable);
            if state == before && is_loose(&state) {
                // Nothing is written for a key that stays as it is.
                let isle = self.isle.as_deref_mut().expect("it was asked for");
                isle.loose.insert(key);
                continue;
            }
            // Without its markers a key's record may say all of it, or there is nothing to say.
            let (told, recorded) = state_of(self.store.root(), &key, None)?;
            let is_told = state.is_plain() && told == state && recorded.is_some();
            let kept = (!state.is_empty() && !is_told).then_some(&state);
            isle.keep_state(self.store, &key, kept);
        }
        Ok(())
    }

    /// What was staged and what is here become one.
    fn install(&mut self, (id, keys): (u64, u64), staged: Staged) -> Result<(), Refusal> {
        if !self.is_open(id) {
            return Ok(());
        }
        let theirs = self.staged();
        if count(theirs.len()) != keys {
            self.give_up(id);
            return Ok(());
        }
        let isle = self.isle();
        let session = isle.island.session().expect("it is open").clone();
        if !isle.island.may_join(&session) {
            // A slot went while it was open, and the other side has more of it than counts.
            self.give_up(id);
            return Ok(());
        }
        let seen = isle.island.vector().clone();
        let (turns, newest) = self.joined((theirs, staged), &seen, &session)?;
        if newest.is_too_far_ahead(self.isle().unix_ms) {
            // As an update is held whose clock is that far ahead: it would carry ours with it.
            self.give_up(id);
            return Ok(());
        }
        self.clear_staged();
        let isle = self.isle.as_deref_mut().expect("it was asked for");
        let unix_ms = isle.unix_ms;
        let met = isle.met_at(self.store, &turns, None)?;
        isle.island.install(id, newest);
        isle.streams.skip_to(isle.island.vector());
        isle.applied.push(Applied::Installed(id, newest));
        self.show(turns, unix_ms);
        self.remember_met(met, unix_ms);
        Ok(())
    }

    fn staged(&self) -> BTreeMap<Bytes, Bytes> {
        let mut staged = BTreeMap::new();
        self.store.facts(FactKind::Staged, &mut |key, state| {
            staged.insert(Bytes::copy_from_slice(key), state.clone());
        });
        staged
    }

    fn remember_met(&mut self, met: Vec<Conflict>, unix_ms: u64) {
        let revision = self.store.root().revision();
        let isle = self.isle.as_deref_mut().expect("it was asked for");
        for conflict in met {
            isle.met.push(self.store, (revision, unix_ms), conflict);
        }
    }

    /// Those keys that joining changes, and the latest time of what the other side has.
    fn joined(
        &mut self,
        (theirs, staged): (BTreeMap<Bytes, Bytes>, Staged),
        seen: &Vector,
        session: &Session,
    ) -> Result<(BTreeMap<Bytes, Turn>, Hlc), Refusal> {
        let told = session.vector();
        let none = State::new();
        let (mut turns, mut newest) = (BTreeMap::new(), Hlc::default());
        let mut join = |key: &Bytes, other: &State, mut turn: Turn| {
            newest = other.newest().map_or(newest, |it| it.hlc.max(newest));
            turn.is = State::joined((&turn.was, seen), (other, &told));
            if turn.is != turn.was {
                turns.insert(key.clone(), turn);
            }
        };
        let mut ours = Vec::new();
        if staged == Staged::All {
            let every = KeyRange::From(Bytes::new());
            self.store.root().scan(&every, None, &mut |key, _meta| {
                if !theirs.contains_key(key) {
                    ours.push(Bytes::copy_from_slice(key));
                }
                ControlFlow::Continue(())
            });
        }
        for key in ours {
            let turn = self.turn(&key)?;
            join(&key, &none, turn);
        }
        for (key, state) in theirs {
            let other = sent(state)?;
            let turn = self.turn(&key)?;
            join(&key, &other, turn);
        }
        Ok((turns, newest))
    }

    fn give_up(&mut self, id: u64) {
        if self.is_open(id) {
            self.clear_staged();
        }
        let isle = self.isle();
        isle.island.give_up(id);
        isle.applied.push(Applied::GaveUp(id));
    }

    fn clear_staged(&mut self) {
        let mut keys = Vec::new();
        self.store.facts(FactKind::Staged, &mut |key, _state| {
            keys.push(Bytes::copy_from_slice(key));
        });
        for key in keys {
            self.store.set_fact(FactKind::Staged, &key, None);
        }
    }
}
