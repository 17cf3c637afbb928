//! A dumb twin of the store: full histories in a sorted map, everything else computed.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use holm_base::{ByteCount, Op, Prng, Revision, Term, Time};
use holm_kv::record::Parts;
use holm_kv::{
    ChangeKind, FactKind, JobDone, KeyRange, NewVersion, Record, Root, Store, StoreConfig,
    StoreError, SweepProgress,
};
use holm_machine::Folder;

/// One step of a command.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Put {
        key: Bytes,
        value: Bytes,
        lease: i64,
    },
    Delete {
        key: Bytes,
    },
    EndRevision,
    Fact {
        id: u8,
        value: Option<Bytes>,
    },
    /// Moves the line this many revisions forward, as far as there are so many.
    Compact {
        by: i64,
    },
}

pub(crate) type Command = Vec<Step>;

/// A version, or a delete if it is without a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Version {
    main: i64,
    sub: u32,
    parts: Option<Parts>,
}

impl Version {
    fn stored_bytes(&self, key: &Bytes) -> u64 {
        let record = match &self.parts {
            Some(parts) => Record::encode(parts),
            None => tombstone(key, self.main),
        };
        u64::try_from((32 + record.bytes().len()).next_multiple_of(16)).expect("fits")
    }
}

fn tombstone(key: &Bytes, main: i64) -> Record {
    Record::encode(&Parts {
        key: key.clone(),
        modified: main,
        ..Parts::default()
    })
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Twin {
    pub(crate) keys: BTreeMap<Bytes, Vec<Version>>,
    pub(crate) facts: BTreeMap<u8, Bytes>,
    pub(crate) revision: i64,
    pub(crate) compacted: i64,
    pub(crate) op: u64,
}

impl Twin {
    pub(crate) fn new() -> Self {
        Self {
            revision: 1,
            ..Self::default()
        }
    }

    /// The twin after the first commands.
    pub(crate) fn after(commands: &[Command]) -> Self {
        let mut twin = Self::new();
        for command in commands {
            twin.apply(command);
        }
        twin
    }

    pub(crate) fn apply(&mut self, command: &Command) {
        let mut sub = 0;
        for step in command {
            match step {
                Step::Put { key, value, lease } => {
                    let before = self.live(key).and_then(|it| it.parts.clone());
                    let parts = Parts {
                        key: key.clone(),
                        create: before.as_ref().map_or(self.revision + 1, |it| it.create),
                        modified: self.revision + 1,
                        version: before.map_or(0, |it| it.version) + 1,
                        value: value.clone(),
                        lease: *lease,
                        mark: Bytes::new(),
                    };
                    self.add(key, sub, Some(parts));
                    sub += 1;
                }
                Step::Delete { key } => {
                    if self.live(key).is_some() {
                        self.add(key, sub, None);
                        sub += 1;
                    }
                }
                Step::EndRevision => {
                    self.revision += i64::from(sub > 0);
                    sub = 0;
                }
                Step::Fact { id, value } => {
                    match value {
                        Some(value) => self.facts.insert(*id, value.clone()),
                        None => self.facts.remove(id),
                    };
                }
                Step::Compact { by } => {
                    self.compacted = (self.compacted + by).min(self.revision);
                }
            }
        }
        self.op += 1;
    }

    fn live(&self, key: &Bytes) -> Option<&Version> {
        self.keys.get(key)?.last().filter(|it| it.parts.is_some())
    }

    fn add(&mut self, key: &Bytes, sub: u32, parts: Option<Parts>) {
        let main = self.revision + 1;
        let version = Version { main, sub, parts };
        let versions = self.keys.entry(key.clone()).or_default();
        let last = versions.last();
        if last.is_some_and(|it| it.parts.is_none() && it.main < self.compacted) {
            versions.clear();
        }
        versions.push(version);
    }

    pub(crate) fn at(&self, key: &Bytes, at: i64) -> Option<&Parts> {
        let versions = self.keys.get(key)?;
        let newest = versions.iter().rev().find(|it| it.main <= at)?;
        newest.parts.as_ref()
    }

    /// What compaction leaves, if it has run to its end: the bytes of all records (I10).
    pub(crate) fn retained(&self) -> u64 {
        let mut bytes = 0;
        for (key, versions) in &self.keys {
            for (at, version) in versions.iter().enumerate() {
                let gone = match versions.get(at + 1) {
                    Some(next) => next.main <= self.compacted,
                    None => version.parts.is_none() && version.main < self.compacted,
                };
                if !gone {
                    bytes += version.stored_bytes(key);
                }
            }
        }
        bytes
    }
}

/// A random command, from a small universe of keys.
pub(crate) fn command(random: &mut Prng, value_max: u64) -> Command {
    let mut command = Vec::new();
    for _ in 0..=random.below(3) {
        for _ in 0..=random.below(4) {
            command.push(step(random, value_max));
        }
        command.push(Step::EndRevision);
    }
    if random.below(12) == 0 {
        let by = i64::try_from(random.below(60)).expect("fits");
        command.push(Step::Compact { by });
    }
    command
}

fn step(random: &mut Prng, value_max: u64) -> Step {
    let key = key(random.below(60));
    match random.below(10) {
        0..=6 => {
            let len = usize::try_from(random.below(value_max)).expect("fits");
            let fill = u8::try_from(random.below(256)).expect("fits");
            let value = Bytes::from(vec![fill; len]);
            let lease = i64::try_from(random.below(3)).expect("fits");
            Step::Put { key, value, lease }
        }
        7 | 8 => Step::Delete { key },
        _ => {
            let id = u8::try_from(random.below(5)).expect("fits");
            let value = (random.below(3) > 0).then_some(key);
            Step::Fact { id, value }
        }
    }
}

pub(crate) fn key(number: u64) -> Bytes {
    Bytes::from(format!("key/{}/{number}", number % 4))
}

/// Applies a command as op `op`.
pub(crate) fn apply(store: &mut Store, command: &Command, op: u64) {
    for step in command {
        match step {
            Step::Put { key, value, lease } => {
                let lease = *lease;
                let before = store.root().get(key);
                let put = store.put(NewVersion { key, value, lease });
                assert_eq!(put.previous, before);
                assert_eq!(store.root().get(key), Some(put.meta));
                assert_eq!(store.root().read(&put.meta), Ok(put.record));
            }
            Step::Delete { key } => {
                let before = store.root().get(key);
                let deleted = store.delete(key);
                assert_eq!(deleted.map(|it| it.previous), before);
                assert_eq!(store.root().get(key), None);
            }
            Step::EndRevision => store.end_revision(),
            Step::Fact { id, value } => {
                store.set_fact(FactKind::Lease, &[*id], value.clone());
            }
            Step::Compact { by } => {
                let line = store.root().compacted().value() + by;
                let line = line.min(store.root().revision().value());
                store.compact(Revision::new(line));
            }
        }
    }
    store.end_command(Op::new(op), Term::new(3));
}

/// Compares everything that can be asked. `depth` bounds how many revisions are looked at.
pub(crate) fn compare(root: &Root, twin: &Twin, depth: i64) {
    assert_eq!(root.revision().value(), twin.revision);
    assert_eq!(root.compacted().value(), twin.compacted);
    for number in 0..61 {
        let key = key(number);
        let meta = root.get(&key);
        let wanted = twin.at(&key, twin.revision);
        assert_eq!(meta.is_some(), wanted.is_some(), "{key:?}");
        if let (Some(meta), Some(wanted)) = (meta, wanted) {
            let record = root.read(&meta).expect("it can be read");
            assert_eq!(record.decode().as_ref(), Some(wanted));
            assert_eq!(
                (meta.create.value(), meta.version),
                (wanted.create, wanted.version)
            );
            assert_eq!(
                (meta.modified.value(), meta.lease),
                (wanted.modified, wanted.lease)
            );
        }
    }
    let all = KeyRange::From(Bytes::from_static(b"\0"));
    let some = KeyRange::Between(key(1), key(2));
    for range in [&all, &some] {
        let live = |key: &&Bytes| range.contains(key) && twin.at(key, twin.revision).is_some();
        let count = twin.keys.keys().filter(live).count();
        assert_eq!(root.count(range), u64::try_from(count).expect("fits"));
        let first = twin.compacted.max(twin.revision - depth).max(1);
        for at in first..=twin.revision {
            compare_at(root, twin, range, at);
        }
    }
    compare_changes(root, twin, 0);
    compare_changes(root, twin, twin.compacted.max(twin.revision - depth));
}

fn compare_at(root: &Root, twin: &Twin, range: &KeyRange, at: i64) {
    let mut metas = Vec::new();
    let mut keys = Vec::new();
    root.scan(range, Some(Revision::new(at)), &mut |key, meta| {
        keys.push(Bytes::copy_from_slice(key));
        metas.push(*meta);
        assert_eq!(root.get_at(key, Revision::new(at)), Some(*meta));
        ControlFlow::Continue(())
    });
    let mut found = Vec::new();
    root.read_many(&metas, &mut |record| {
        found.push(record.decode().expect("a record"));
    })
    .expect("all can be read");
    let wanted: Vec<_> = twin
        .keys
        .keys()
        .filter(|key| range.contains(key))
        .filter_map(|key| twin.at(key, at).cloned())
        .collect();
    assert_eq!(found, wanted, "at {at}");
    assert!(keys.iter().eq(wanted.iter().map(|it| &it.key)));
}

fn compare_changes(root: &Root, twin: &Twin, from: i64) {
    let mut wanted = Vec::new();
    for (key, versions) in &twin.keys {
        for (at, version) in versions.iter().enumerate() {
            let next = versions.get(at + 1);
            let below = version.main <= twin.compacted;
            let kept = next.is_none_or(|next| next.main > twin.compacted)
                && (version.parts.is_some() || version.main == twin.compacted);
            if version.main >= from && (!below || kept) {
                wanted.push((
                    version.main,
                    version.sub,
                    key.clone(),
                    version.parts.clone(),
                ));
            }
        }
    }
    wanted.sort_by_key(|it| (it.0, it.1));
    let mut found = Vec::new();
    let (mut next, upto) = (Revision::new(from), root.revision());
    let mut rounds = 0;
    while next <= upto {
        let before = next;
        let limit = [1, 300, 5000, 1 << 20][rounds % 4];
        next = root
            .changes(next, upto, limit, &mut |change| found.push(change))
            .expect("all can be read");
        assert!(next > before, "it gets on");
        rounds += 1;
    }
    let places = |all: &mut dyn Iterator<Item = (i64, u32)>| all.collect::<Vec<_>>();
    assert_eq!(
        places(&mut found.iter().map(|it| (it.main.value(), it.sub))),
        places(&mut wanted.iter().map(|it| (it.0, it.1))),
        "from {from}, compacted {}",
        twin.compacted
    );
    for (found, (main, sub, key, parts)) in found.iter().zip(wanted) {
        assert_eq!(
            (found.main.value(), found.sub, &found.key),
            (main, sub, &key)
        );
        let kind = if parts.is_some() {
            ChangeKind::Put
        } else {
            ChangeKind::Delete
        };
        assert_eq!(found.kind, kind);
        let record = parts.map_or_else(|| tombstone(&key, main), |parts| Record::encode(&parts));
        assert_eq!(found.record, record);
    }
}

pub(crate) fn compare_facts(store: &Store, twin: &Twin) {
    let mut facts = BTreeMap::new();
    store.facts(FactKind::Lease, &mut |id, value| {
        facts.insert(id[0], value.clone());
    });
    assert_eq!(facts, twin.facts);
    for (id, value) in &twin.facts {
        assert_eq!(store.fact(FactKind::Lease, &[*id]).as_ref(), Some(value));
    }
}

/// Compares all, and counts retained bytes again (I10).
pub(crate) fn compare_all(store: &mut Store, twin: &Twin, depth: i64) {
    while store.sweep(16) == SweepProgress::More {}
    assert_eq!(store.applied().value(), twin.op);
    compare(store.root(), twin, depth);
    compare_facts(store, twin);
    assert_eq!(store.sizes().retained_bytes.value(), twin.retained());
}

/// Small files, so that a short test sees many of them.
pub(crate) fn config() -> StoreConfig {
    StoreConfig {
        segment_bytes: ByteCount::new(32 << 10),
        flush_bytes: ByteCount::new(8 << 10),
        unflushed_bytes_max: ByteCount::new(64 << 10),
        checkpoint_bytes_min: ByteCount::new(32 << 10),
        ..StoreConfig::default()
    }
}

/// Runs all jobs that become due within two seconds, and sweeps. Gives whether there was no room
/// at some time.
pub(crate) fn settle(store: &mut Store, now: &mut Time) -> Result<bool, StoreError> {
    let mut saw_full = false;
    let end = *now + Duration::from_secs(2);
    while *now < end {
        let soon = *now + Duration::from_millis(100);
        // What is due already and does not come waits for something else.
        let due = store.job_at().filter(|due| due > now);
        *now = due.map_or(soon, |due| due.min(soon));
        tell(store, *now);
        while let Some(job) = store.next_job(*now) {
            store.finish(job.run())?;
            saw_full |= store.sizes().full;
            while store.sweep(16) == SweepProgress::More {}
            tell(store, *now);
        }
    }
    Ok(saw_full)
}

/// What a sequencer would say behind an op.
pub(crate) fn words(op: Op) -> Bytes {
    Bytes::from(format!("all through op {op}"))
}

/// Says it where it is due: never, if the store was not told at its beginning.
fn tell(store: &mut Store, now: Time) {
    if store.is_sequencer_due(now) {
        store.set_sequencer(words(store.applied()));
    }
}

/// A store whose jobs run while commands go on, in an order that chance decides.
#[derive(Debug)]
pub(crate) struct Driver {
    pub(crate) store: Store,
    pub(crate) now: Time,
    /// Whether there was no room at some time.
    pub(crate) saw_full: bool,
    done: Vec<JobDone>,
}

impl Driver {
    pub(crate) fn open(folder: Arc<dyn Folder>, config: StoreConfig) -> Result<Self, StoreError> {
        Ok(Self::over(Store::open(folder, config)?))
    }

    pub(crate) const fn over(store: Store) -> Self {
        Self {
            store,
            now: Time::ZERO,
            saw_full: false,
            done: Vec::new(),
        }
    }

    /// Lets a little happen beside the engine.
    pub(crate) fn tick(&mut self, random: &mut Prng) -> Result<(), StoreError> {
        self.now = self.now + Duration::from_millis(random.below(300));
        tell(&mut self.store, self.now);
        if random.below(3) > 0
            && let Some(job) = self.store.next_job(self.now)
        {
            self.done.push(job.run());
        }
        if random.below(2) == 0 && !self.done.is_empty() {
            self.store.finish(self.done.remove(0))?;
            self.saw_full |= self.store.sizes().full;
        }
        self.store
            .sweep(usize::try_from(random.below(40)).expect("fits"));
        Ok(())
    }

    /// Waits for all that is under way.
    pub(crate) fn settle(&mut self) -> Result<(), StoreError> {
        for done in self.done.drain(..) {
            self.store.finish(done)?;
            self.saw_full |= self.store.sizes().full;
        }
        self.saw_full |= settle(&mut self.store, &mut self.now)?;
        Ok(())
    }
}
