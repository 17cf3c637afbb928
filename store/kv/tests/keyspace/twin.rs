//! A dumb twin: full histories in a map and a transaction evaluator that copies everything.
//!
//! It knows nothing of paths, indexes or leases. What it and the keyspace answer must be equal,
//! and stay equal after a restart.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use holm_base::Prng;
use holm_kv::command::{
    Command, Compare, CompareResult, CompareTarget, DeleteRange, Put, Range, SortOrder, SortTarget,
    Txn, TxnOp,
};
use holm_kv::outcome::{Outcome, RangeOutcome};
use holm_kv::record::Parts;
use holm_kv::{Config, KeyRange, Record, Refusal};

use crate::world::{World, all, bytes};

type State = BTreeMap<Bytes, Parts>;

/// Everything that ever was.
#[derive(Default)]
struct Twin {
    /// The state at each revision; the last is the newest.
    states: BTreeMap<i64, State>,
    compacted: i64,
}

impl Twin {
    fn new() -> Self {
        let states = BTreeMap::from([(1, State::new())]);
        Self {
            states,
            compacted: 0,
        }
    }

    fn revision(&self) -> i64 {
        *self.states.last_key_value().unwrap().0
    }

    fn now(&self) -> State {
        self.states.last_key_value().unwrap().1.clone()
    }

    fn check_revision(&self, revision: i64) -> Result<(), Refusal> {
        if revision > self.revision() {
            let current = holm_base::Revision::new(self.revision());
            return Err(Refusal::FutureRevision { current });
        }
        if revision > 0 && revision < self.compacted {
            let compacted = holm_base::Revision::new(self.compacted);
            return Err(Refusal::Compacted { compacted });
        }
        Ok(())
    }

    fn txn(&mut self, txn: &Txn) -> Result<Outcome, Refusal> {
        let before = self.now();
        self.check(&before, txn, &mut |op| match op {
            TxnOp::Put(put) if put.ignore_value || put.ignore_lease => {
                before.get(&put.key).map(drop).ok_or(Refusal::KeyNotFound)
            }
            _ => Ok(()),
        })?;
        self.check(&before, txn, &mut |op| match op {
            TxnOp::Range(range) => self.check_revision(range.revision),
            _ => Ok(()),
        })?;
        let (mut after, mut changed) = (before.clone(), false);
        let outcome = self.walk(&before, &mut after, &mut changed, txn);
        if changed {
            self.states.insert(self.revision() + 1, after);
        }
        Ok(outcome)
    }

    fn check(
        &self,
        before: &State,
        txn: &Txn,
        each: &mut dyn FnMut(&TxnOp) -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        for op in taken(before, txn) {
            each(op)?;
            if let TxnOp::Txn(inner) = op {
                self.check(before, inner, each)?;
            }
        }
        Ok(())
    }

    fn walk(&self, before: &State, after: &mut State, changed: &mut bool, txn: &Txn) -> Outcome {
        let mut responses = Vec::new();
        for op in taken(before, txn) {
            responses.push(match op {
                TxnOp::Range(range) => {
                    let state = self.states.get(&range.revision).unwrap_or(after);
                    Outcome::Range(read(state, range))
                }
                TxnOp::Put(put) => {
                    *changed = true;
                    self.put(after, put)
                }
                TxnOp::DeleteRange(it) => {
                    let range = KeyRange::new(it.key.clone(), it.range_end.clone());
                    let gone: Vec<Parts> = after
                        .values()
                        .filter(|kv| range.contains(&kv.key))
                        .cloned()
                        .collect();
                    after.retain(|key, _| !range.contains(key));
                    *changed |= !gone.is_empty();
                    Outcome::DeleteRange {
                        deleted: i64::try_from(gone.len()).unwrap(),
                        prev: if it.prev_kv {
                            gone.iter().map(Record::encode).collect()
                        } else {
                            Vec::new()
                        },
                    }
                }
                TxnOp::Txn(inner) => self.walk(before, after, changed, inner),
            });
        }
        Outcome::Txn {
            succeeded: all_hold(before, txn),
            responses,
        }
    }

    fn put(&self, after: &mut State, put: &Put) -> Outcome {
        let before = after.get(&put.key).cloned();
        let main = self.revision() + 1;
        let kept = before.clone().filter(|_| put.ignore_value);
        let parts = Parts {
            key: put.key.clone(),
            create: before.as_ref().map_or(main, |it| it.create),
            modified: main,
            version: before.as_ref().map_or(0, |it| it.version) + 1,
            value: kept.map_or_else(|| put.value.clone(), |it| it.value),
            lease: 0,
            mark: Bytes::new(),
        };
        after.insert(put.key.clone(), parts);
        let prev = before.filter(|_| put.prev_kv);
        Outcome::Put {
            prev: prev.as_ref().map(Record::encode),
        }
    }
}

fn taken<'a>(before: &State, txn: &'a Txn) -> &'a [TxnOp] {
    if all_hold(before, txn) {
        &txn.success
    } else {
        &txn.failure
    }
}

fn all_hold(state: &State, txn: &Txn) -> bool {
    txn.compare.iter().all(|compare| {
        let range = KeyRange::new(compare.key.clone(), compare.range_end.clone());
        let found: Vec<&Parts> = state
            .values()
            .filter(|it| range.contains(&it.key))
            .collect();
        let is_value = matches!(compare.target, CompareTarget::Value(_));
        if found.is_empty() {
            return !is_value && holds(compare, &Parts::default());
        }
        found.into_iter().all(|it| holds(compare, it))
    })
}

fn holds(compare: &Compare, parts: &Parts) -> bool {
    let ordering = match &compare.target {
        CompareTarget::Version(it) => parts.version.cmp(it),
        CompareTarget::Create(it) => parts.create.cmp(it),
        CompareTarget::Mod(it) => parts.modified.cmp(it),
        CompareTarget::Lease(it) => parts.lease.cmp(it),
        CompareTarget::Value(it) => parts.value.cmp(it),
    };
    match compare.result {
        CompareResult::Equal => ordering.is_eq(),
        CompareResult::Greater => ordering.is_gt(),
        CompareResult::Less => ordering.is_lt(),
        CompareResult::NotEqual => ordering.is_ne(),
    }
}

fn read(state: &State, range: &Range) -> RangeOutcome {
    let keys = KeyRange::new(range.key.clone(), range.range_end.clone());
    let found: Vec<Parts> = state
        .values()
        .filter(|it| keys.contains(&it.key))
        .cloned()
        .collect();
    let count = i64::try_from(found.len()).unwrap();
    if range.count_only {
        return RangeOutcome {
            count,
            ..RangeOutcome::default()
        };
    }
    let within = |at: i64, min: i64, max: i64| (min == 0 || at >= min) && (max == 0 || at <= max);
    let mut found: Vec<Parts> = found
        .into_iter()
        .filter(|it| within(it.modified, range.min_mod_revision, range.max_mod_revision))
        .filter(|it| {
            within(
                it.create,
                range.min_create_revision,
                range.max_create_revision,
            )
        })
        .collect();
    let order = |a: &Parts, b: &Parts| match range.sort_target {
        SortTarget::Key => a.key.cmp(&b.key),
        SortTarget::Version => a.version.cmp(&b.version),
        SortTarget::Create => a.create.cmp(&b.create),
        SortTarget::Mod => a.modified.cmp(&b.modified),
        SortTarget::Value => a.value.cmp(&b.value),
    };
    let limit = usize::try_from(range.limit).unwrap();
    let bounds = [
        range.min_mod_revision,
        range.max_mod_revision,
        range.min_create_revision,
        range.max_create_revision,
    ];
    if limit > 0 && range.sort_order == SortOrder::None && bounds == [0; 4] {
        // Found in key order: without an order the limit cuts before the sort.
        found.truncate(limit + 1);
    }
    match range.sort_order {
        SortOrder::None | SortOrder::Ascend => found.sort_by(order),
        SortOrder::Descend => found.sort_by(|a, b| order(b, a)),
    }
    let more = limit > 0 && found.len() > limit;
    if more {
        found.truncate(limit);
    }
    if range.keys_only {
        found.iter_mut().for_each(|it| it.value = Bytes::new());
    }
    RangeOutcome {
        records: found.iter().map(Record::encode).collect(),
        more,
        count,
    }
}

/// Makes requests of four keys, a few values and revisions near what exists.
struct Maker {
    prng: Prng,
    revision: i64,
}

impl Maker {
    fn below(&mut self, bound: u64) -> usize {
        usize::try_from(self.prng.below(bound)).unwrap()
    }

    fn flag(&mut self) -> bool {
        self.prng.below(3) == 0
    }

    fn small(&mut self) -> i64 {
        i64::try_from(self.below(4)).unwrap()
    }

    fn near(&mut self) -> i64 {
        (self.revision + 1 - i64::try_from(self.below(6)).unwrap()).max(0)
    }

    fn range_of(&mut self) -> (Bytes, Bytes) {
        let key = ["a", "b", "c", "d"][self.below(4)];
        let end = ["", "", "c", "\0"][self.below(4)];
        (bytes(key), bytes(end))
    }

    fn value(&mut self) -> Bytes {
        bytes(["", "x", "y", "zz"][self.below(4)])
    }

    fn put(&mut self) -> Put {
        let ignore_value = self.prng.below(8) == 0;
        Put {
            key: self.range_of().0,
            value: if ignore_value {
                Bytes::new()
            } else {
                self.value()
            },
            lease: 0,
            prev_kv: self.flag(),
            ignore_value,
            ignore_lease: self.prng.below(12) == 0,
        }
    }

    fn range(&mut self) -> Range {
        let (key, range_end) = self.range_of();
        let targets = [
            SortTarget::Key,
            SortTarget::Version,
            SortTarget::Create,
            SortTarget::Mod,
            SortTarget::Value,
        ];
        let bounded = |it: &mut Self| if it.prng.below(6) == 0 { it.near() } else { 0 };
        Range {
            key,
            range_end,
            limit: self.small(),
            revision: if self.prng.below(4) == 0 {
                self.near()
            } else {
                0
            },
            sort_order: [SortOrder::None, SortOrder::Ascend, SortOrder::Descend][self.below(3)],
            sort_target: targets[self.below(5)],
            keys_only: self.flag(),
            count_only: self.prng.below(8) == 0,
            min_mod_revision: bounded(self),
            max_mod_revision: bounded(self),
            min_create_revision: bounded(self),
            max_create_revision: bounded(self),
        }
    }

    fn delete(&mut self) -> DeleteRange {
        let (key, range_end) = self.range_of();
        DeleteRange {
            key,
            range_end,
            prev_kv: self.flag(),
        }
    }

    fn compare(&mut self) -> Compare {
        let (key, range_end) = self.range_of();
        let results = [
            CompareResult::Equal,
            CompareResult::Greater,
            CompareResult::Less,
            CompareResult::NotEqual,
        ];
        Compare {
            key,
            range_end,
            result: results[self.below(4)],
            target: match self.below(5) {
                0 => CompareTarget::Version(self.small()),
                1 => CompareTarget::Create(self.near()),
                2 => CompareTarget::Mod(self.near()),
                3 => CompareTarget::Lease(self.small()),
                _ => CompareTarget::Value(self.value()),
            },
        }
    }

    fn ops(&mut self, depth: usize) -> Vec<TxnOp> {
        let count = self.below(4);
        let kinds = if depth == 0 { 5 } else { 7 };
        let mut ops: Vec<TxnOp> = Vec::new();
        for _ in 0..count {
            ops.push(match self.below(kinds) {
                0 | 1 => TxnOp::Put(self.put()),
                2 => TxnOp::DeleteRange(self.delete()),
                3 | 4 => TxnOp::Range(self.range()),
                _ => TxnOp::Txn(self.txn(depth - 1)),
            });
        }
        ops
    }

    fn txn(&mut self, depth: usize) -> Txn {
        let count = self.below(3);
        Txn {
            compare: (0..count).map(|_| self.compare()).collect(),
            success: self.ops(depth),
            failure: self.ops(depth),
        }
    }
}

/// Whether an executable path may write a key twice: a front refuses that.
fn is_legal(txn: &Txn) -> bool {
    fn writes(ops: &[TxnOp], puts: &mut Vec<Bytes>, deletes: &mut Vec<KeyRange>) {
        for op in ops {
            match op {
                TxnOp::Put(it) => puts.push(it.key.clone()),
                TxnOp::DeleteRange(it) => {
                    deletes.push(KeyRange::new(it.key.clone(), it.range_end.clone()));
                }
                TxnOp::Range(_) => {}
                TxnOp::Txn(it) => {
                    writes(&it.success, puts, deletes);
                    writes(&it.failure, puts, deletes);
                }
            }
        }
    }
    [&txn.success, &txn.failure].into_iter().all(|ops| {
        let (mut puts, mut deletes) = (Vec::new(), Vec::new());
        writes(ops, &mut puts, &mut deletes);
        let count = puts.len();
        puts.sort();
        puts.dedup();
        puts.len() == count
            && !puts
                .iter()
                .any(|key| deletes.iter().any(|it| it.contains(key)))
    })
}

fn compare_reads(world: &World, twin: &Twin, maker: &mut Maker) {
    let view = world.view();
    let range = maker.range();
    let expected = twin.check_revision(range.revision).map(|()| {
        let at = if range.revision > 0 {
            range.revision
        } else {
            twin.revision()
        };
        read(&twin.states[&at], &range)
    });
    assert_eq!(view.read(&range), expected, "{range:?}");
}

fn compare_everything(world: &World, twin: &Twin) {
    let view = world.view();
    assert_eq!(view.revision().value(), twin.revision());
    for (revision, state) in twin.states.range(twin.compacted.max(1)..) {
        let range = Range {
            revision: *revision,
            ..all()
        };
        assert_eq!(view.read(&range), Ok(read(state, &range)), "at {revision}");
    }
}

fn run(seed: u64) {
    let mut world = World::new(Config::default());
    let mut twin = Twin::new();
    let mut maker = Maker {
        prng: Prng::new(seed),
        revision: 1,
    };
    for _ in 0..80 {
        maker.revision = twin.revision();
        match maker.below(12) {
            0 => {
                let revision = maker.near();
                let applied = world.command(Command::Compact { revision });
                if applied.result.is_ok() {
                    twin.compacted = twin.compacted.max(revision);
                }
                let is_legal = revision <= twin.revision();
                assert!(applied.result.is_err() || is_legal);
                world.work();
            }
            1 => {
                world.pass(Duration::from_secs(maker.prng.below(2)));
                let before = world.view().hash_kv(0);
                world.reopen();
                assert_eq!(world.view().hash_kv(0), before);
                compare_everything(&world, &twin);
            }
            2 | 3 => compare_reads(&world, &twin, &mut maker),
            _ => {
                let txn = maker.txn(2);
                if is_legal(&txn) {
                    if txn.is_read_only() {
                        let expected = twin.txn(&txn);
                        assert_eq!(world.view().read_txn(&txn), expected, "{txn:?}");
                    }
                    let expected = twin.txn(&txn);
                    let applied = world.command(Command::Txn(txn.clone()));
                    assert_eq!(applied.result, expected, "{txn:?}");
                    assert_eq!(applied.revision.value(), twin.revision());
                }
            }
        }
    }
    compare_everything(&world, &twin);
}

#[test]
fn the_keyspace_answers_as_its_twin() {
    for seed in 0..200 {
        run(seed);
    }
}
