//! Transactions: which branches are taken, what is checked first, and the order of operations.
//!
//! What would surprise: the branches of the whole tree are chosen, and everything on them is
//! checked, before the first operation runs. So an inner comparison never sees an outer write,
//! and what fails has changed nothing.

use std::cmp::Ordering;
use std::ops::ControlFlow;

use bytes::Bytes;
use holm_base::Revision;

use crate::command::{Compare, CompareResult, CompareTarget, DeleteRange, Put, Range, Txn, TxnOp};
use crate::outcome::Outcome;
use crate::range::KeyRange;
use crate::read;
use crate::refusal::Refusal;
use crate::root::{Meta, Root};

/// How many bytes the reads of a transaction may come to, those of deletes that want what was
/// there included; every node of a keyspace agrees on it. They are in memory together.
pub(crate) const READS_MAX: u64 = 64 << 20;

/// What a record takes up besides its key and value, at most.
const RECORD_MORE: usize = 64;

impl Txn {
    /// Whether no branch, nested ones included, can write.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        self.ops().all(|op| match op {
            TxnOp::Range(_) => true,
            TxnOp::Put(_) | TxnOp::DeleteRange(_) => false,
            TxnOp::Txn(inner) => inner.is_read_only(),
        })
    }

    /// Whether some branch, nested ones included, can put.
    #[must_use]
    pub fn can_put(&self) -> bool {
        self.ops().any(|op| match op {
            TxnOp::Put(_) => true,
            TxnOp::Range(_) | TxnOp::DeleteRange(_) => false,
            TxnOp::Txn(inner) => inner.can_put(),
        })
    }

    fn ops(&self) -> impl Iterator<Item = &TxnOp> {
        self.success.iter().chain(&self.failure)
    }
}

/// Who does a transaction's operations.
pub(crate) trait Runner {
    /// Reads.
    fn range(&mut self, range: &Range) -> Result<Outcome, Refusal>;
    /// Writes.
    fn put(&mut self, put: &Put) -> Result<Outcome, Refusal>;
    /// Deletes.
    fn delete(&mut self, delete: &DeleteRange) -> Result<Outcome, Refusal>;
}

/// Runs a transaction that only reads.
#[derive(Debug)]
struct Reads<'a>(&'a Root);

impl Runner for Reads<'_> {
    fn range(&mut self, range: &Range) -> Result<Outcome, Refusal> {
        let at = (range.revision > 0).then(|| Revision::new(range.revision));
        Ok(Outcome::Range(read::outcome(self.0, range, at)?))
    }

    fn put(&mut self, _put: &Put) -> Result<Outcome, Refusal> {
        unreachable!("the caller has asked whether it only reads")
    }

    fn delete(&mut self, _delete: &DeleteRange) -> Result<Outcome, Refusal> {
        unreachable!("the caller has asked whether it only reads")
    }
}

/// The branches taken, in the order in which a walk meets the transactions on them.
#[derive(Debug)]
pub(crate) struct Path(Vec<bool>);

impl Path {
    /// Chooses the branches and checks what lies on them, all on `root`: puts first.
    ///
    /// # Errors
    ///
    /// The first check that failed, or [`Refusal::Corrupt`].
    pub(crate) fn choose(
        root: &Root,
        txn: &Txn,
        check_put: &dyn Fn(&Put) -> Result<(), Refusal>,
    ) -> Result<Self, Refusal> {
        let mut path = Self(Vec::new());
        path.descend(root, txn)?;
        path.check(txn, &mut 0, &mut |op| match op {
            TxnOp::Put(put) => check_put(put),
            TxnOp::Range(_) | TxnOp::DeleteRange(_) | TxnOp::Txn(_) => Ok(()),
        })?;
        path.check(txn, &mut 0, &mut |op| match op {
            TxnOp::Range(range) => read::check_revision(root, range.revision),
            TxnOp::Put(_) | TxnOp::DeleteRange(_) | TxnOp::Txn(_) => Ok(()),
        })?;
        path.check_reads(root, txn)?;
        Ok(path)
    }

    /// Refuses reads of too many bytes before anything is done: what is there now, and what the
    /// transaction itself puts into their ranges, counted whole wherever it stands.
    fn check_reads(&self, root: &Root, txn: &Txn) -> Result<(), Refusal> {
        let mut puts = Vec::new();
        let mut note = |op: &TxnOp| {
            if let TxnOp::Put(put) = op {
                let bytes = put.key.len() + put.value.len() + RECORD_MORE;
                puts.push((put.key.clone(), bytes as u64));
            }
            Ok(())
        };
        self.check(txn, &mut 0, &mut note)?;
        let mut left = READS_MAX;
        self.check(txn, &mut 0, &mut |op| {
            let (keys, there) = match op {
                TxnOp::Range(range) if !range.count_only => {
                    let keys = KeyRange::new(range.key.clone(), range.range_end.clone());
                    (keys, read::bytes(root, range, left)?)
                }
                TxnOp::DeleteRange(delete) if delete.prev_kv => {
                    let range = Range {
                        key: delete.key.clone(),
                        range_end: delete.range_end.clone(),
                        ..Range::default()
                    };
                    let keys = KeyRange::new(delete.key.clone(), delete.range_end.clone());
                    (keys, read::bytes(root, &range, left)?)
                }
                TxnOp::Range(_) | TxnOp::Put(_) | TxnOp::DeleteRange(_) | TxnOp::Txn(_) => {
                    return Ok(());
                }
            };
            let own = puts.iter().filter(|(key, _)| keys.contains(key));
            let bytes = there + own.map(|(_, bytes)| bytes).sum::<u64>();
            left = left.checked_sub(bytes).ok_or(Refusal::ReadsTooMuch)?;
            Ok(())
        })
    }

    fn descend(&mut self, root: &Root, txn: &Txn) -> Result<(), Refusal> {
        let holds = all_hold(root, &txn.compare)?;
        self.0.push(holds);
        for op in branch(txn, holds) {
            if let TxnOp::Txn(inner) = op {
                self.descend(root, inner)?;
            }
        }
        Ok(())
    }

    /// Asks something of each operation that lies on them, until one is refused.
    pub(crate) fn check(
        &self,
        txn: &Txn,
        at: &mut usize,
        each: &mut dyn FnMut(&TxnOp) -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        for op in branch(txn, self.next(at)) {
            each(op)?;
            if let TxnOp::Txn(inner) = op {
                self.check(inner, at, each)?;
            }
        }
        Ok(())
    }

    /// Does the operations, in order.
    ///
    /// # Errors
    ///
    /// What an operation refuses although it was checked: damage found while reading.
    pub(crate) fn walk(
        &self,
        txn: &Txn,
        at: &mut usize,
        runner: &mut dyn Runner,
    ) -> Result<Outcome, Refusal> {
        let succeeded = self.next(at);
        let ops = branch(txn, succeeded);
        let mut responses = Vec::with_capacity(ops.len());
        for op in ops {
            responses.push(match op {
                TxnOp::Range(range) => runner.range(range)?,
                TxnOp::Put(put) => runner.put(put)?,
                TxnOp::DeleteRange(delete) => runner.delete(delete)?,
                TxnOp::Txn(inner) => self.walk(inner, at, runner)?,
            });
        }
        Ok(Outcome::Txn {
            succeeded,
            responses,
        })
    }

    fn next(&self, at: &mut usize) -> bool {
        let holds = self.0[*at];
        *at += 1;
        holds
    }
}

/// Chooses, checks and runs a transaction that only reads.
pub(crate) fn run_reads(root: &Root, txn: &Txn) -> Result<Outcome, Refusal> {
    Path::choose(root, txn, &|_| Ok(()))?.walk(txn, &mut 0, &mut Reads(root))
}

const fn branch(txn: &Txn, holds: bool) -> &Vec<TxnOp> {
    if holds { &txn.success } else { &txn.failure }
}

fn all_hold(root: &Root, compares: &[Compare]) -> Result<bool, Refusal> {
    for compare in compares {
        if !holds(root, compare)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether every key of the comparison's range satisfies it. A range without keys is compared
/// as one key of zeros, but values that are not there satisfy nothing, "not equal" included.
fn holds(root: &Root, compare: &Compare) -> Result<bool, Refusal> {
    let keys = KeyRange::new(compare.key.clone(), compare.range_end.clone());
    if let KeyRange::One(key) = &keys {
        return match root.get(key) {
            Some(meta) => satisfies(root, compare, &meta),
            None => Ok(absent_satisfies(compare)),
        };
    }
    let (mut any, mut verdict) = (false, Ok(true));
    root.scan(&keys, None, &mut |_, meta| {
        any = true;
        verdict = satisfies(root, compare, meta);
        if verdict == Ok(true) {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        }
    });
    if any {
        verdict
    } else {
        Ok(absent_satisfies(compare))
    }
}

fn absent_satisfies(compare: &Compare) -> bool {
    let wanted = match &compare.target {
        CompareTarget::Version(it)
        | CompareTarget::Create(it)
        | CompareTarget::Mod(it)
        | CompareTarget::Lease(it) => *it,
        CompareTarget::Value(_) => return false,
    };
    relates(compare.result, 0.cmp(&wanted))
}

fn satisfies(root: &Root, compare: &Compare, meta: &Meta) -> Result<bool, Refusal> {
    let ordering = match &compare.target {
        CompareTarget::Version(it) => meta.version.cmp(it),
        CompareTarget::Create(it) => meta.create.value().cmp(it),
        CompareTarget::Mod(it) => meta.modified.value().cmp(it),
        CompareTarget::Lease(it) => meta.lease.cmp(it),
        CompareTarget::Value(it) => value(root, meta)?.cmp(it),
    };
    Ok(relates(compare.result, ordering))
}

fn value(root: &Root, meta: &Meta) -> Result<Bytes, Refusal> {
    Ok(read::value_of(&root.read(meta)?))
}

const fn relates(result: CompareResult, ordering: Ordering) -> bool {
    match result {
        CompareResult::Equal => ordering.is_eq(),
        CompareResult::Greater => ordering.is_gt(),
        CompareResult::Less => ordering.is_lt(),
        CompareResult::NotEqual => ordering.is_ne(),
    }
}
