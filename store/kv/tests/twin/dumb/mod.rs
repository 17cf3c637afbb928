//! A keyspace that keeps every version for ever and looks through all of them: the twin that
//! the engine is compared with. It follows etcd's rules in the plainest way that there is.
//!
//! What would surprise: it shares no code with the engine but the vocabulary.

pub(crate) mod generate;
pub(crate) mod site;
pub(crate) mod watch;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use holm_base::Revision;
use holm_kv::command::{
    Command, Compare, CompareResult, CompareTarget, DeleteRange, Put, Range, SortOrder, SortTarget,
    Txn, TxnOp,
};
use holm_kv::outcome::{Outcome, RangeOutcome};
use holm_kv::record::Parts;
use holm_kv::{KeyRange, Record, Refusal};

/// One change of one key. `parts` is `None` for a delete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Version {
    pub(crate) main: i64,
    pub(crate) sub: usize,
    pub(crate) key: Bytes,
    pub(crate) parts: Option<Parts>,
}

/// The whole history, and the leases.
#[derive(Clone, Debug)]
pub(crate) struct Dumb {
    pub(crate) revision: i64,
    pub(crate) compacted: i64,
    /// Every change there ever was, in order.
    pub(crate) log: Vec<Version>,
    pub(crate) leases: BTreeMap<i64, i64>,
    subs: usize,
}

type Answer = Result<Outcome, Refusal>;

impl Dumb {
    pub(crate) fn new() -> Self {
        Self {
            revision: 1,
            compacted: 0,
            log: Vec::new(),
            leases: BTreeMap::new(),
            subs: 0,
        }
    }

    pub(crate) fn apply(&mut self, command: &Command) -> Answer {
        let answer = match command {
            Command::Put(put) => self.put_alone(put),
            Command::DeleteRange(delete) => Ok(self.delete(delete)),
            Command::Txn(txn) => self.txn(txn),
            Command::Compact { revision } => self.compact(*revision),
            Command::LeaseGrant { id, ttl, ttl_min } => self.grant(*id, *ttl, *ttl_min),
            Command::LeaseRevoke { id } => self.revoke(*id),
            Command::LeaseCheckpoint { .. }
            | Command::LeaseExpire { .. }
            | Command::Alarm { .. }
            | Command::Auth(_)
            | Command::Cluster { .. }
            | Command::ClusterSwap { .. }
            | Command::Island(_) => panic!("the twin is not asked this"),
        };
        self.end_revision();
        answer
    }

    fn end_revision(&mut self) {
        if self.subs > 0 {
            self.revision += 1;
            self.subs = 0;
        }
    }

    /// The newest version of a key at or below a revision.
    pub(crate) fn at(&self, key: &[u8], revision: i64) -> Option<Parts> {
        let of_key = |it: &&Version| it.key.as_ref() == key && it.main <= revision;
        self.log.iter().rev().find(of_key)?.parts.clone()
    }

    /// All keys within the range that live at a revision, in order.
    pub(crate) fn all(&self, range: &KeyRange, revision: i64) -> Vec<Parts> {
        let keys: BTreeSet<_> = self.log.iter().map(|it| it.key.clone()).collect();
        let within = keys.iter().filter(|key| range.contains(key));
        within.filter_map(|key| self.at(key, revision)).collect()
    }

    fn put_alone(&mut self, put: &Put) -> Answer {
        if put.lease != 0 && !self.leases.contains_key(&put.lease) {
            return Err(Refusal::LeaseNotFound);
        }
        let keeps = put.ignore_value || put.ignore_lease;
        if keeps && self.at(&put.key, i64::MAX).is_none() {
            return Err(Refusal::KeyNotFound);
        }
        Ok(self.put(put))
    }

    fn put(&mut self, put: &Put) -> Outcome {
        let previous = self.at(&put.key, i64::MAX);
        let old = previous.clone().unwrap_or_default();
        let main = self.revision + 1;
        let parts = Parts {
            key: put.key.clone(),
            create: if previous.is_some() { old.create } else { main },
            modified: main,
            version: old.version + 1,
            value: if put.ignore_value {
                old.value
            } else {
                put.value.clone()
            },
            lease: if put.ignore_lease {
                old.lease
            } else {
                put.lease
            },
            mark: Bytes::new(),
        };
        self.push(&put.key, Some(parts));
        let prev = previous.filter(|_| put.prev_kv);
        Outcome::Put {
            prev: prev.map(|it| Record::encode(&it)),
        }
    }

    fn delete(&mut self, delete: &DeleteRange) -> Outcome {
        let range = KeyRange::new(delete.key.clone(), delete.range_end.clone());
        let gone = self.all(&range, i64::MAX);
        for parts in &gone {
            self.push(&parts.key, None);
        }
        let prev = if delete.prev_kv { gone.as_slice() } else { &[] };
        Outcome::DeleteRange {
            deleted: i64::try_from(gone.len()).expect("few"),
            prev: prev.iter().map(Record::encode).collect(),
        }
    }

    fn push(&mut self, key: &Bytes, parts: Option<Parts>) {
        self.log.push(Version {
            main: self.revision + 1,
            sub: self.subs,
            key: key.clone(),
            parts,
        });
        self.subs += 1;
    }

    /// A read; checked against the revisions that may be read.
    pub(crate) fn range(&self, range: &Range) -> Result<RangeOutcome, Refusal> {
        if range.revision > self.revision {
            return Err(Refusal::FutureRevision {
                current: Revision::new(self.revision),
            });
        }
        if range.revision > 0 && range.revision < self.compacted {
            return Err(Refusal::Compacted {
                compacted: Revision::new(self.compacted),
            });
        }
        Ok(self.select(range))
    }

    fn select(&self, range: &Range) -> RangeOutcome {
        let keys = KeyRange::new(range.key.clone(), range.range_end.clone());
        let at = if range.revision > 0 {
            range.revision
        } else {
            i64::MAX
        };
        let mut found = self.all(&keys, at);
        let count = i64::try_from(found.len()).expect("few");
        if range.count_only {
            return RangeOutcome {
                count,
                ..RangeOutcome::default()
            };
        }
        let bounds = [
            (range.min_mod_revision, range.max_mod_revision),
            (range.min_create_revision, range.max_create_revision),
        ];
        found.retain(|it| {
            let of = [it.modified, it.create];
            bounds.iter().zip(of).all(|(&(low, high), number)| {
                (low == 0 || number >= low) && (high == 0 || number <= high)
            })
        });
        let limit = usize::try_from(range.limit).unwrap_or(0);
        let is_filtered = bounds.iter().any(|&(low, high)| low != 0 || high != 0);
        if range.sort_order == SortOrder::None && limit > 0 && !is_filtered {
            found.sort_by(|left, right| left.key.cmp(&right.key));
            found.truncate(limit + 1);
        }
        sort(&mut found, range);
        let more = limit > 0 && found.len() > limit;
        if more {
            found.truncate(limit);
        }
        if range.keys_only {
            for parts in &mut found {
                parts.value = Bytes::new();
            }
        }
        RangeOutcome {
            records: found.iter().map(Record::encode).collect(),
            more,
            count,
        }
    }

    fn txn(&mut self, txn: &Txn) -> Answer {
        let path = self.choose(txn);
        self.check_puts(&path)?;
        self.check_ranges(&path)?;
        Ok(self.run(&path))
    }

    fn choose<'a>(&self, txn: &'a Txn) -> Path<'a> {
        let succeeded = txn.compare.iter().all(|it| self.holds(it));
        let branch = if succeeded {
            &txn.success
        } else {
            &txn.failure
        };
        let steps = branch.iter().map(|op| match op {
            TxnOp::Txn(inner) => Step::Txn(self.choose(inner)),
            TxnOp::Range(_) | TxnOp::Put(_) | TxnOp::DeleteRange(_) => Step::Op(op),
        });
        Path {
            succeeded,
            steps: steps.collect(),
        }
    }

    fn holds(&self, compare: &Compare) -> bool {
        let range = KeyRange::new(compare.key.clone(), compare.range_end.clone());
        let found = self.all(&range, i64::MAX);
        if found.is_empty() {
            let is_value = matches!(compare.target, CompareTarget::Value(_));
            return !is_value && satisfies(compare, &Parts::default());
        }
        found.iter().all(|parts| satisfies(compare, parts))
    }

    fn check_puts(&self, path: &Path<'_>) -> Result<(), Refusal> {
        for step in &path.steps {
            match step {
                Step::Op(TxnOp::Put(put)) => {
                    let keeps = put.ignore_value || put.ignore_lease;
                    if keeps && self.at(&put.key, i64::MAX).is_none() {
                        return Err(Refusal::KeyNotFound);
                    }
                    if put.lease != 0 && !self.leases.contains_key(&put.lease) {
                        return Err(Refusal::LeaseNotFound);
                    }
                }
                Step::Op(_) => {}
                Step::Txn(inner) => self.check_puts(inner)?,
            }
        }
        Ok(())
    }

    fn check_ranges(&self, path: &Path<'_>) -> Result<(), Refusal> {
        for step in &path.steps {
            match step {
                Step::Op(TxnOp::Range(range)) => drop(self.range(range)?),
                Step::Op(_) => {}
                Step::Txn(inner) => self.check_ranges(inner)?,
            }
        }
        Ok(())
    }

    fn run(&mut self, path: &Path<'_>) -> Outcome {
        let mut responses = Vec::new();
        for step in &path.steps {
            responses.push(match step {
                Step::Op(TxnOp::Range(range)) => Outcome::Range(self.select(range)),
                Step::Op(TxnOp::Put(put)) => self.put(put),
                Step::Op(TxnOp::DeleteRange(delete)) => self.delete(delete),
                Step::Op(TxnOp::Txn(_)) => unreachable!("choose makes these a path"),
                Step::Txn(inner) => self.run(inner),
            });
        }
        Outcome::Txn {
            succeeded: path.succeeded,
            responses,
        }
    }

    fn compact(&mut self, revision: i64) -> Answer {
        if revision <= self.compacted {
            return Err(Refusal::Compacted {
                compacted: Revision::new(self.compacted),
            });
        }
        if revision > self.revision {
            return Err(Refusal::FutureRevision {
                current: Revision::new(self.revision),
            });
        }
        self.compacted = revision;
        Ok(Outcome::Done)
    }

    fn grant(&mut self, id: i64, ttl: i64, ttl_min: i64) -> Answer {
        if ttl > 9_000_000_000 {
            return Err(Refusal::LeaseTtlTooLarge);
        }
        if self.leases.contains_key(&id) {
            return Err(Refusal::LeaseExists);
        }
        let ttl = ttl.max(ttl_min);
        self.leases.insert(id, ttl);
        Ok(Outcome::LeaseGrant { id, ttl })
    }

    fn revoke(&mut self, id: i64) -> Answer {
        self.leases.remove(&id).ok_or(Refusal::LeaseNotFound)?;
        for key in self.keys_of(id) {
            self.push(&key, None);
        }
        Ok(Outcome::Done)
    }

    /// The keys that hang on a lease, sorted.
    pub(crate) fn keys_of(&self, lease: i64) -> Vec<Bytes> {
        let all = self.all(&KeyRange::From(Bytes::new()), i64::MAX);
        let hanging = all.into_iter().filter(|it| it.lease == lease);
        hanging.map(|it| it.key).collect()
    }

    /// What a watch from `start` must deliver: the changes within the range, in order, numbered
    /// anew within each revision.
    pub(crate) fn events(&self, range: &KeyRange, start: i64) -> Vec<Version> {
        let wanted = |it: &&Version| it.main >= start && range.contains(&it.key);
        let (mut main, mut sub) = (0, 0);
        let renumbered = self.log.iter().filter(wanted).map(|it| {
            sub = if it.main == main { sub + 1 } else { 0 };
            main = it.main;
            Version { sub, ..it.clone() }
        });
        renumbered.collect()
    }
}

#[derive(Debug)]
struct Path<'a> {
    succeeded: bool,
    steps: Vec<Step<'a>>,
}

#[derive(Debug)]
enum Step<'a> {
    Op(&'a TxnOp),
    Txn(Path<'a>),
}

fn satisfies(compare: &Compare, parts: &Parts) -> bool {
    let order = match &compare.target {
        CompareTarget::Version(value) => parts.version.cmp(value),
        CompareTarget::Create(value) => parts.create.cmp(value),
        CompareTarget::Mod(value) => parts.modified.cmp(value),
        CompareTarget::Value(value) => parts.value.cmp(value),
        CompareTarget::Lease(value) => parts.lease.cmp(value),
    };
    match compare.result {
        CompareResult::Equal => order.is_eq(),
        CompareResult::Greater => order.is_gt(),
        CompareResult::Less => order.is_lt(),
        CompareResult::NotEqual => order.is_ne(),
    }
}

/// By the target, then by key; falling turns the target's order only.
fn sort(found: &mut [Parts], range: &Range) {
    let falling = range.sort_order == SortOrder::Descend;
    found.sort_by(|left, right| {
        let order = match range.sort_target {
            SortTarget::Key => left.key.cmp(&right.key),
            SortTarget::Version => left.version.cmp(&right.version),
            SortTarget::Create => left.create.cmp(&right.create),
            SortTarget::Mod => left.modified.cmp(&right.modified),
            SortTarget::Value => left.value.cmp(&right.value),
        };
        let order = if falling { order.reverse() } else { order };
        order.then_with(|| left.key.cmp(&right.key))
    });
}
