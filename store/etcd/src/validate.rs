//! What a request must look like before anything else is asked of it, in etcd's order.
//!
//! Pure: none of these look at the keyspace. The first fault found is the one that is told.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use holm_kv::codec::DEPTH_MAX;

use crate::errors;
use crate::proto::etcdserverpb as pb;
use crate::proto::etcdserverpb::request_op::Request;
use crate::status::Status;

/// A range needs a key, and an order and a target that exist.
///
/// # Errors
///
/// The first of the two that does not hold.
pub fn range(request: &pb::RangeRequest) -> Result<(), Status> {
    has_key(&request.key)?;
    let is_order = pb::range_request::SortOrder::try_from(request.sort_order).is_ok();
    let is_target = pb::range_request::SortTarget::try_from(request.sort_target).is_ok();
    refuse_unless(is_order && is_target, errors::invalid_sort_option)
}

/// A put needs a key; what it keeps it must not bring.
///
/// # Errors
///
/// The first that does not hold: key, value, lease.
pub fn put(request: &pb::PutRequest) -> Result<(), Status> {
    has_key(&request.key)?;
    let brings_value = request.ignore_value && !request.value.is_empty();
    refuse_unless(!brings_value, errors::value_provided)?;
    let brings_lease = request.ignore_lease && request.lease != 0;
    refuse_unless(!brings_lease, errors::lease_provided)
}

/// A delete needs a key.
///
/// # Errors
///
/// If it has none.
pub fn delete_range(request: &pb::DeleteRangeRequest) -> Result<(), Status> {
    has_key(&request.key)
}

/// A transaction holds at most `operations_max` comparisons or operations in a list, sound
/// ones, nests no deeper than the engine reads, and writes no key twice on one path.
///
/// Cost: proportional to the operations, times the logarithm of the keys that are put.
///
/// # Errors
///
/// The first fault: number, comparisons, success, failure (each down to its leaves), and then
/// writes that collide in success, in failure.
pub fn txn(request: &pb::TxnRequest, operations_max: usize) -> Result<(), Status> {
    txn_shape(request, operations_max, DEPTH_MAX)?;
    writes(&request.success)?;
    writes(&request.failure)?;
    Ok(())
}

fn txn_shape(
    request: &pb::TxnRequest,
    operations_max: usize,
    depth_max: u32,
) -> Result<(), Status> {
    let Some(depth) = depth_max.checked_sub(1) else {
        return Err(errors::too_many_operations());
    };
    let lists = [
        request.compare.len(),
        request.success.len(),
        request.failure.len(),
    ];
    let count = lists.into_iter().max().unwrap_or(0);
    let Some(rest) = operations_max.checked_sub(count) else {
        return Err(errors::too_many_operations());
    };
    for compare in &request.compare {
        has_key(&compare.key)?;
    }
    for op in request.success.iter().chain(&request.failure) {
        op_shape(op, rest, depth)?;
    }
    Ok(())
}

fn op_shape(op: &pb::RequestOp, operations_max: usize, depth_max: u32) -> Result<(), Status> {
    match &op.request {
        Some(Request::RequestRange(request)) => range(request),
        Some(Request::RequestPut(request)) => put(request),
        Some(Request::RequestDeleteRange(request)) => delete_range(request),
        Some(Request::RequestTxn(request)) => txn_shape(request, operations_max, depth_max),
        None => Err(errors::key_not_found()),
    }
}

/// The keys that a list of operations puts, and the intervals that it deletes.
#[derive(Default)]
struct Writes<'a> {
    puts: BTreeSet<&'a [u8]>,
    deletes: Intervals,
}

impl<'a> Writes<'a> {
    fn add_put(&mut self, key: &'a [u8]) -> Result<(), Status> {
        let is_new = !self.deletes.contains(key) && self.puts.insert(key);
        refuse_unless(is_new, errors::duplicate_key)
    }

    /// Adds both branches of a transaction within. Only one of them will be carried out, so
    /// they may collide with each other, but not with what is outside.
    fn add_branches(&mut self, success: Self, failure: Self) -> Result<(), Status> {
        for key in &success.puts {
            self.add_put(key)?;
        }
        for key in failure.puts {
            if success.puts.contains(key) {
                refuse_unless(!self.deletes.contains(key), errors::duplicate_key)?;
            } else {
                self.add_put(key)?;
            }
        }
        self.deletes.extend(success.deletes);
        self.deletes.extend(failure.deletes);
        Ok(())
    }
}

/// Intervals of keys, joined where they overlap: first key to end, so that a look-up takes
/// logarithmic time however many a hostile request holds.
#[derive(Default)]
struct Intervals(BTreeMap<Vec<u8>, Vec<u8>>);

impl Intervals {
    fn contains(&self, key: &[u8]) -> bool {
        let below = self
            .0
            .range::<[u8], _>((Bound::Unbounded, Bound::Included(key)));
        below.last().is_some_and(|(_, end)| key < end.as_slice())
    }

    fn add(&mut self, mut first: Vec<u8>, mut end: Vec<u8>) {
        if first >= end {
            return;
        }
        // Each turn takes one interval that overlaps out, the one that begins last.
        while let Some((other, other_end)) = self.0.range::<[u8], _>(through(&end)).next_back()
            && *other_end >= first
        {
            let other = other.clone();
            end = end.max(other_end.clone());
            self.0.remove(&other);
            first = first.min(other);
        }
        self.0.insert(first, end);
    }

    fn extend(&mut self, other: Self) {
        for (first, end) in other.0 {
            self.add(first, end);
        }
    }
}

const fn through(key: &[u8]) -> (Bound<&[u8]>, Bound<&[u8]>) {
    (Bound::Unbounded, Bound::Included(key))
}

/// Collects a list's writes: its own deletes first, then transactions within, then its own puts.
///
/// A delete from a key on does not count against puts, for etcd reads that interval as empty
/// here; carried out in order, the two do not contradict each other.
fn writes(ops: &[pb::RequestOp]) -> Result<Writes<'_>, Status> {
    let mut writes = Writes::default();
    for op in ops {
        if let Some(Request::RequestDeleteRange(request)) = &op.request {
            let first = request.key.to_vec();
            let end = if request.range_end.is_empty() {
                [&first, &b"\0"[..]].concat()
            } else {
                request.range_end.to_vec()
            };
            writes.deletes.add(first, end);
        }
    }
    for op in ops {
        if let Some(Request::RequestTxn(request)) = &op.request {
            let success = self::writes(&request.success)?;
            let failure = self::writes(&request.failure)?;
            writes.add_branches(success, failure)?;
        }
    }
    for op in ops {
        if let Some(Request::RequestPut(request)) = &op.request {
            writes.add_put(&request.key)?;
        }
    }
    Ok(writes)
}

/// The header that etcd puts before a request in its log: a tag of two bytes, a length, and an
/// id of nine or ten bytes behind its tag, for the id begins with bits of the member's.
const LOG_HEADER_BYTES: usize = 14;

/// A request's size as etcd's log would hold it: behind a header, in a field.
///
/// # Errors
///
/// If it is above `bytes_max`.
pub fn size(encoded_bytes: usize, bytes_max: usize) -> Result<(), Status> {
    let length = u64::try_from(encoded_bytes).unwrap_or(u64::MAX);
    let field = 1 + prost::encoding::encoded_len_varint(length);
    let logged = encoded_bytes.saturating_add(field + LOG_HEADER_BYTES);
    refuse_unless(logged <= bytes_max, errors::request_too_large)
}

fn has_key(key: &[u8]) -> Result<(), Status> {
    refuse_unless(!key.is_empty(), errors::key_not_provided)
}

fn refuse_unless(holds: bool, refusal: fn() -> Status) -> Result<(), Status> {
    if holds { Ok(()) } else { Err(refusal()) }
}

#[cfg(test)]
mod tests;
