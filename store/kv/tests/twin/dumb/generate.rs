//! Random commands over few keys, values and leases, so that they meet.

use arbtest::arbitrary::{Result, Unstructured};
use bytes::Bytes;
use holm_kv::command::{
    Command, Compare, CompareResult, CompareTarget, DeleteRange, Put, Range, SortOrder, SortTarget,
    Txn, TxnOp,
};

const KEYS: [&str; 6] = ["a", "ab", "b", "c", "ca", "d"];
const ENDS: [&str; 6] = ["", "", "b", "c", "e", "\0"];
const VALUES: [&str; 4] = ["", "x", "y", "a longer value"];

fn bytes(u: &mut Unstructured<'_>, from: &[&'static str]) -> Result<Bytes> {
    Ok(Bytes::from_static(u.choose(from)?.as_bytes()))
}

/// A revision near the current one, on either side.
pub(crate) fn revision(u: &mut Unstructured<'_>, current: i64) -> Result<i64> {
    u.int_in_range(1..=current + 2)
}

pub(crate) fn lease(u: &mut Unstructured<'_>) -> Result<i64> {
    Ok(*u.choose(&[0, 0, 0, 7, 8, 9])?)
}

pub(crate) fn put(u: &mut Unstructured<'_>) -> Result<Put> {
    let keeps = u.ratio(1, 6)?;
    let (ignore_value, ignore_lease) = (keeps && u.arbitrary()?, keeps && u.arbitrary()?);
    Ok(Put {
        key: bytes(u, &KEYS)?,
        value: if ignore_value {
            Bytes::new()
        } else {
            bytes(u, &VALUES)?
        },
        lease: if ignore_lease { 0 } else { lease(u)? },
        prev_kv: u.arbitrary()?,
        ignore_value,
        ignore_lease,
    })
}

pub(crate) fn delete(u: &mut Unstructured<'_>) -> Result<DeleteRange> {
    Ok(DeleteRange {
        key: bytes(u, &KEYS)?,
        range_end: bytes(u, &ENDS)?,
        prev_kv: u.arbitrary()?,
    })
}

pub(crate) fn range(u: &mut Unstructured<'_>, current: i64) -> Result<Range> {
    let bounds = u.ratio(1, 4)?;
    let bound = |u: &mut Unstructured<'_>| {
        if bounds && u.ratio(1, 2)? {
            revision(u, current)
        } else {
            Ok(0)
        }
    };
    Ok(Range {
        min_mod_revision: bound(u)?,
        max_mod_revision: bound(u)?,
        min_create_revision: bound(u)?,
        max_create_revision: bound(u)?,
        key: bytes(u, &KEYS)?,
        range_end: bytes(u, &ENDS)?,
        limit: u.int_in_range(0..=3)?,
        revision: if u.ratio(1, 2)? {
            0
        } else {
            revision(u, current)?
        },
        sort_order: *u.choose(&[SortOrder::None, SortOrder::Ascend, SortOrder::Descend])?,
        sort_target: *u.choose(&[
            SortTarget::Key,
            SortTarget::Version,
            SortTarget::Create,
            SortTarget::Mod,
            SortTarget::Value,
        ])?,
        keys_only: u.ratio(1, 5)?,
        count_only: u.ratio(1, 5)?,
    })
}

pub(crate) fn compare(u: &mut Unstructured<'_>, current: i64) -> Result<Compare> {
    let target = match u.int_in_range(0..=4)? {
        0 => CompareTarget::Version(u.int_in_range(0..=2)?),
        1 => CompareTarget::Create(u.int_in_range(0..=current)?),
        2 => CompareTarget::Mod(u.int_in_range(0..=current)?),
        3 => CompareTarget::Value(bytes(u, &VALUES)?),
        _ => CompareTarget::Lease(lease(u)?),
    };
    let results = [
        CompareResult::Equal,
        CompareResult::Greater,
        CompareResult::Less,
        CompareResult::NotEqual,
    ];
    Ok(Compare {
        key: bytes(u, &KEYS)?,
        range_end: bytes(u, &ENDS)?,
        result: *u.choose(&results)?,
        target,
    })
}

/// A transaction that a front would let through: no key is put twice, or put and deleted.
pub(crate) fn txn(u: &mut Unstructured<'_>, current: i64, depth: u32) -> Result<Txn> {
    let mut txn = Txn::default();
    for _ in 0..u.int_in_range(0..=2)? {
        txn.compare.push(compare(u, current)?);
    }
    txn.success = branch(u, current, depth)?;
    txn.failure = branch(u, current, depth)?;
    Ok(txn)
}

fn branch(u: &mut Unstructured<'_>, current: i64, depth: u32) -> Result<Vec<TxnOp>> {
    let mut ops = Vec::new();
    for _ in 0..u.int_in_range(0..=3)? {
        ops.push(match u.int_in_range(0..=if depth > 0 { 3 } else { 2 })? {
            0 => TxnOp::Range(range(u, current)?),
            1 => TxnOp::Put(put(u)?),
            2 => TxnOp::DeleteRange(delete(u)?),
            _ => TxnOp::Txn(txn(u, current, depth - 1)?),
        });
        let (mut puts, mut deletes) = (Vec::new(), Vec::new());
        written(&ops, &mut puts, &mut deletes);
        let twice = puts
            .iter()
            .enumerate()
            .any(|(at, key)| puts[..at].contains(key));
        if twice
            || puts
                .iter()
                .any(|key| deletes.iter().any(|it| it.contains(key)))
        {
            ops.pop();
        }
    }
    Ok(ops)
}

fn written(ops: &[TxnOp], puts: &mut Vec<Bytes>, deletes: &mut Vec<holm_kv::KeyRange>) {
    for op in ops {
        match op {
            TxnOp::Range(_) => {}
            TxnOp::Put(put) => puts.push(put.key.clone()),
            TxnOp::DeleteRange(it) => {
                deletes.push(holm_kv::KeyRange::new(it.key.clone(), it.range_end.clone()));
            }
            TxnOp::Txn(inner) => {
                written(&inner.success, puts, deletes);
                written(&inner.failure, puts, deletes);
            }
        }
    }
}

/// Any command that the twin knows.
pub(crate) fn command(u: &mut Unstructured<'_>, current: i64) -> Result<Command> {
    Ok(match u.int_in_range(0..=19)? {
        0..=6 => Command::Put(put(u)?),
        7..=9 => Command::DeleteRange(delete(u)?),
        10..=15 => Command::Txn(txn(u, current, 2)?),
        16 => Command::Compact {
            revision: revision(u, current)?,
        },
        17..=18 => Command::LeaseGrant {
            id: *u.choose(&[7, 8, 9])?,
            ttl: *u.choose(&[0, 60, 9_000_000_001])?,
            ttl_min: 2,
        },
        _ => Command::LeaseRevoke {
            id: *u.choose(&[7, 8, 9])?,
        },
    })
}
