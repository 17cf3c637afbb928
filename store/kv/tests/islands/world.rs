//! Islands with engines: clients' commands at each, updates carried between them, crashes, and
//! a twin that keeps every update.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use holm_base::{ByteCount, Op, Prng, Revision, Term, Time};
use holm_kv::command::{Command, DeleteRange, Proposal, Put, Txn, TxnOp};
use holm_kv::outcome::Applied;
use holm_kv::{ChangeKind, Config, Indexed, IslandConfig, KeyRange, Keyspace, View};
use holm_local_first::{
    Index as _, Named, Proposal as Entry, Rules, Sealed, Seek, Session, Short, Slot, Stamp, State,
    Tree, Type, Update, Vector, whose,
};
use holm_virtual::Storage;

#[path = "../../../local_first/tests/twins/plain.rs"]
mod plain;

pub(crate) const UNIX_MS: u64 = 1_800_000_000_000;

pub(crate) fn slot(number: u8) -> Slot {
    Slot::new(number).expect("slots begin at 1")
}

pub(crate) fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

/// A mistake of whoever carries updates, to see that it is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mistake {
    None,
    /// Of a session, a key is left out, and the count with it.
    KeyLeftOut,
    /// An island whose files are gone goes on under its old slot.
    SlotReused,
}

pub(crate) struct Site {
    storage: Storage,
    config: Config,
    pub(crate) keyspace: Keyspace,
    log: Vec<Bytes>,
    sessions: u64,
    /// What the last look at the history found: keys with values, and the revision.
    rebuilt: (BTreeMap<Bytes, Bytes>, i64),
}

pub(crate) struct World {
    pub(crate) sites: Vec<Site>,
    pub(crate) all: Vec<Update>,
    pub(crate) unix_ms: u64,
    now: Time,
    pub(crate) mistake: Mistake,
}

pub(crate) fn config(number: u8, kind: Type) -> Config {
    let mut config = Config {
        island: Some(IslandConfig {
            slot: slot(number),
            epoch: 1,
            since_unix_ms: UNIX_MS,
            rules: Rules {
                kind,
                ..Rules::default()
            },
            updates_bytes_max: 1_200,
        }),
        ..Config::default()
    };
    config.store.segment_bytes = ByteCount::new(1 << 20);
    config
}

/// As [`config`], where deletes win.
pub(crate) fn deleting(number: u8, kind: Type) -> Config {
    let mut config = config(number, kind);
    if let Some(island) = &mut config.island {
        island.rules.exists = holm_local_first::Exists::DeleteWins;
    }
    config
}

impl Site {
    fn new(number: u8, kind: Type) -> Self {
        Self::of(config(number, kind))
    }

    pub(crate) fn of(config: Config) -> Self {
        let storage = Storage::new();
        let mut keyspace = Keyspace::open(storage.root(), config.clone()).expect("an empty disk");
        keyspace.set_sequencer(Bytes::new());
        let first = keyspace.reader().view().revision().value();
        Self {
            storage,
            config,
            keyspace,
            log: Vec::new(),
            sessions: 0,
            rebuilt: (BTreeMap::new(), first),
        }
    }

    pub(crate) fn view(&self) -> Arc<View> {
        self.keyspace.reader().view()
    }

    pub(crate) fn vector(&self) -> Vector {
        self.keyspace.island().expect("it is one").vector().clone()
    }

    fn log_it(&mut self, unix_ms: u64, command: Command) -> Applied {
        let caller = None;
        let body = Proposal { caller, command }.encode_at(unix_ms);
        self.log.push(body.clone());
        let op = Op::new(u64::try_from(self.log.len()).expect("it fits"));
        let applied = self.keyspace.apply(Time::ZERO, op, Term::new(1), &body);
        self.keyspace.publish(&mut Vec::new());
        applied
    }

    fn log_entry(&mut self, unix_ms: u64, entry: Entry) {
        drop(self.log_it(unix_ms, Command::Island(entry)));
    }

    /// The index, as a session gets it.
    pub(crate) fn index(&mut self) -> Tree {
        loop {
            match self.keyspace.index().expect("it is an island") {
                Indexed::Whole(tree) => return tree,
                Indexed::NotYet => drop(self.keyspace.sweep()),
                Indexed::Damaged => panic!("nothing is damaged"),
            }
        }
    }

    /// Keys with what they show.
    pub(crate) fn shown(&self) -> BTreeMap<Bytes, Bytes> {
        let states = self.states();
        let shown = states.into_iter();
        let shown = shown.filter_map(|(key, state)| Some((key, state.shown()?.value.clone())));
        shown.collect()
    }

    /// Keys with all that is known of them, as a session gets them.
    pub(crate) fn states(&self) -> BTreeMap<Bytes, State> {
        let states = self.keyspace.states().expect("it is an island");
        let (mut all, mut after) = (BTreeMap::new(), None);
        loop {
            let (found, is_last) = states.list(after.as_ref(), 40).expect("nothing is damaged");
            after = found.last().map(|(key, _)| key.clone());
            for (key, state) in found {
                all.insert(key, State::decode(state).expect("it was just written"));
            }
            if is_last {
                return all;
            }
        }
    }

    /// What is wrong with the index, if there is one and something is.
    fn wrong_index(&self, states: &BTreeMap<Bytes, State>) -> Option<String> {
        let pinned = self.keyspace.states().expect("it is an island");
        let tree = pinned.tree()?;
        let expected = states
            .iter()
            .map(|(key, it)| (Tree::name(key), it.digest(key).short()));
        let expected: BTreeMap<Bytes, Short> = expected.collect();
        let found: BTreeMap<Bytes, Short> = tree.list(b"", b"").into_iter().collect();
        (found != expected).then(|| format!("its index has {found:?}, not {expected:?}"))
    }

    /// What a client reads now.
    pub(crate) fn read(&self) -> BTreeMap<Bytes, Bytes> {
        let view = self.view();
        let mut all = BTreeMap::new();
        let every = KeyRange::From(Bytes::new());
        view.root.scan(&every, None, &mut |key, meta| {
            let record = view.root.read(meta).expect("it is there");
            let value = record.decode().expect("it is a record").value;
            all.insert(Bytes::copy_from_slice(key), value);
            std::ops::ControlFlow::Continue(())
        });
        all
    }

    /// Local-first I3: the events alone rebuild what is read, revision by revision, and each is
    /// one that this island may issue.
    fn check_history(&mut self) -> Result<(), String> {
        let view = self.view();
        let island = self.config.island.as_ref().expect("it is one");
        let since = Stamp::since(island.slot, island.since_unix_ms);
        let (keys, mut from) = (&mut self.rebuilt.0, self.rebuilt.1 + 1);
        let mut wrong = None;
        let upto = view.revision().value();
        while from <= upto {
            let (first, last) = (Revision::new(from), Revision::new(upto));
            let next = view.root.changes(first, last, 1 << 20, &mut |change| {
                if whose(change.main, since) != holm_local_first::Whose::Ours {
                    wrong = Some(format!("revision {} is not its own", change.main));
                }
                let parts = change.record.decode().expect("it is a record");
                let was = keys.get(&change.key).cloned();
                match change.kind {
                    ChangeKind::Put => drop(keys.insert(change.key, parts.value)),
                    ChangeKind::Delete if was.is_some() => drop(keys.remove(&change.key)),
                    ChangeKind::Delete => wrong = Some("what is not there is deleted".to_owned()),
                }
            });
            from = next.expect("nothing is damaged").value();
        }
        self.rebuilt.1 = upto;
        let read = self.read();
        if self.rebuilt.0 != read {
            wrong = Some(format!("events give {:?}, reads {read:?}", self.rebuilt.0));
        }
        wrong.map_or(Ok(()), Err)
    }

    /// Ends without warning and starts again from what is on its disk and in its log.
    pub(crate) fn crash(&mut self) {
        let folder = self.storage.root();
        self.keyspace = Keyspace::open(folder, self.config.clone()).expect("its own");
        if self.keyspace.sequencer().is_none() {
            self.keyspace.set_sequencer(Bytes::new());
        }
        let applied = usize::try_from(self.keyspace.applied().value()).expect("it fits");
        for (at, body) in self.log.iter().enumerate().skip(applied) {
            let op = Op::new(u64::try_from(at + 1).expect("it fits"));
            self.keyspace.apply(Time::ZERO, op, Term::new(1), body);
        }
        self.keyspace.publish(&mut Vec::new());
    }

    fn work(&mut self, now: Time) {
        if self.keyspace.is_sequencer_due(now) {
            self.keyspace.set_sequencer(Bytes::from_static(b"here"));
        }
        while let Some(job) = self.keyspace.next_job(now) {
            self.keyspace.finish(job.run()).expect("the disk is well");
        }
    }
}

impl World {
    pub(crate) fn new(count: u8, kind: Type) -> Self {
        Self {
            sites: (1..=count).map(|it| Site::new(it, kind)).collect(),
            all: Vec::new(),
            unix_ms: UNIX_MS,
            now: Time::ZERO,
            mistake: Mistake::None,
        }
    }

    /// A client's command at a site.
    pub(crate) fn command(&mut self, at: usize, command: Command) -> Applied {
        let site = &mut self.sites[at];
        let applied = site.log_it(self.unix_ms, command);
        self.all.extend(own_updates(&mut site.keyspace));
        applied
    }

    pub(crate) fn put(&mut self, at: usize, key: &str, value: &str) -> Applied {
        self.command(at, put(key, value, 0))
    }

    /// A site takes in what it lacks of another: one by one, or all keys if they are gone.
    pub(crate) fn carry(&mut self, from: usize, to: usize) {
        let slots: Vec<Slot> = self.sites[from].vector().iter().map(|it| it.0).collect();
        let mut lacks_more = true;
        while std::mem::take(&mut lacks_more) {
            for slot in &slots {
                let after = self.sites[to].vector().seq(*slot);
                if after >= self.sites[from].vector().seq(*slot) {
                    continue;
                }
                let Some(found) = self.sites[from].keyspace.updates(*slot, after, 300) else {
                    self.session(from, to);
                    continue;
                };
                let entry = Entry::Updates(found);
                let applied = self.sites[to].log_it(self.unix_ms, Command::Island(entry));
                applied.result.expect("nothing is damaged");
                // What comes first may need what another slot did.
                lacks_more |= self.sites[to].vector().seq(*slot) > after;
            }
        }
        drop(self.sites[to].keyspace.take_applied());
    }

    pub(crate) fn session(&mut self, from: usize, to: usize) {
        self.sites[from].index();
        let states = self.sites[from].keyspace.states().expect("it is an island");
        let theirs = states.tree().expect("there is an index");
        let (unix_ms, mistake) = (self.unix_ms, self.mistake);
        let site = &mut self.sites[to];
        site.sessions += 1;
        let session = site.sessions;
        site.log_entry(
            unix_ms,
            Entry::Begin(Session {
                id: session,
                tips: states.tips().clone(),
            }),
        );
        let mut seek = Seek::new(session, site.index(), &theirs.total().short());
        let mut keys = 0;
        while let Some(ask) = seek.ask() {
            let told = states.tell(&ask, 60).expect("it is well");
            let mut named = seek.told(told.expect("there is an index"));
            if mistake == Mistake::KeyLeftOut {
                named.pop();
            }
            keys += u64::try_from(named.len()).expect("it fits");
            let states = named.into_iter().map(Named::staged).collect();
            site.log_entry(unix_ms, Entry::Stage { session, states });
        }
        site.log_entry(unix_ms, Entry::Join { session, keys });
    }

    /// As nodes did it before there were indexes: all keys are listed.
    pub(crate) fn old_session(&mut self, from: usize, to: usize) {
        let states = self.sites[from].keyspace.states().expect("it is an island");
        let unix_ms = self.unix_ms;
        let site = &mut self.sites[to];
        site.sessions += 1;
        let session = site.sessions;
        let tips = states.tips().clone();
        site.log_entry(unix_ms, Entry::Begin(Session { id: session, tips }));
        let (states, _is_last) = states.list(None, usize::MAX).expect("it is well");
        let keys = u64::try_from(states.len()).expect("it fits");
        site.log_entry(unix_ms, Entry::Stage { session, states });
        site.log_entry(unix_ms, Entry::Install { session, keys });
    }

    /// A random command of a client.
    pub(crate) fn change_something(&mut self, prng: &mut Prng, at: usize) {
        self.unix_ms += prng.below(3);
        let number = self.all.len();
        let key = |number: u64| format!("k{number}");
        let picked = prng.below(4);
        let value = format!("{at}-{number}");
        let command = match prng.below(8) {
            0 => delete(&key(picked), ""),
            1 => delete("k1", "k3"),
            2 => delete("k2", "\0"),
            3 => Command::Txn(Txn {
                compare: Vec::new(),
                success: vec![
                    TxnOp::Put(as_put(put(&key(picked), &value, 0))),
                    TxnOp::DeleteRange(as_delete(delete(&key((picked + 1) % 4), ""))),
                ],
                failure: Vec::new(),
            }),
            _ => put(&key(picked), &value, 0),
        };
        self.command(at, command);
    }

    /// What a site has in memory goes to its disk.
    pub(crate) fn flush(&mut self, at: usize) {
        for _ in 0..3 {
            self.now = self.now + Duration::from_secs(2);
            self.sites[at].work(self.now);
        }
    }

    pub(crate) fn pass(&mut self, prng: &mut Prng) {
        self.now = self.now + Duration::from_millis(prng.below(1_500));
        let at = usize::try_from(prng.below(self.sites.len() as u64)).expect("it fits");
        self.sites[at].work(self.now);
    }

    /// A site whose files were lost begins anew under its old slot.
    pub(crate) fn begin_anew(&mut self, at: usize) {
        let number = u8::try_from(at + 1).expect("it fits");
        self.sites[at] = Site::new(number, Type::Lww);
    }

    /// What is wrong, if something is.
    pub(crate) fn wrong(&mut self) -> Option<String> {
        for at in 0..self.sites.len() {
            let site = &mut self.sites[at];
            let (vector, states) = (site.vector(), site.states());
            let expected = plain::twin(&self.all, &vector);
            if states != expected {
                return Some(format!(
                    "site {at} at {vector}: {states:?}, not {expected:?}"
                ));
            }
            if let Some(wrong) = site.wrong_index(&states) {
                return Some(format!("site {at}: {wrong}"));
            }
            if site.shown() != site.read() {
                return Some(format!("site {at} shows {:?}", site.read()));
            }
            if let Err(wrong) = site.check_history() {
                return Some(format!("site {at}: {wrong}"));
            }
        }
        None
    }
}

fn own_updates(keyspace: &mut Keyspace) -> Vec<Update> {
    let own = keyspace.island().expect("it is one").slot();
    let taken = keyspace.take_applied().into_iter();
    let updates = taken.filter_map(|it| match it {
        holm_local_first::Applied::Update(Sealed { update, .. }) => Some(update),
        holm_local_first::Applied::Began(_)
        | holm_local_first::Applied::Staged(_)
        | holm_local_first::Applied::Installed(..)
        | holm_local_first::Applied::GaveUp(_)
        | holm_local_first::Applied::Followed(_)
        | holm_local_first::Applied::Rebased(_)
        | holm_local_first::Applied::Spoke => None,
    });
    updates.filter(|it| it.dot.slot == own).collect()
}

pub(crate) fn put(key: &str, value: &str, lease: i64) -> Command {
    Command::Put(Put {
        key: bytes(key),
        value: bytes(value),
        lease,
        ..Put::default()
    })
}

pub(crate) fn delete(key: &str, range_end: &str) -> Command {
    Command::DeleteRange(DeleteRange {
        key: bytes(key),
        range_end: bytes(range_end),
        prev_kv: false,
    })
}

fn as_put(command: Command) -> Put {
    match command {
        Command::Put(put) => put,
        other => panic!("{other:?}"),
    }
}

fn as_delete(command: Command) -> DeleteRange {
    match command {
        Command::DeleteRange(delete) => delete,
        other => panic!("{other:?}"),
    }
}
