//! Each rule of a request's shape, and the order in which they are told.

use bytes::Bytes;

use super::*;
use crate::proto::etcdserverpb as pb;

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn put_of(key: &str) -> pb::RequestOp {
    let request = pb::PutRequest {
        key: bytes(key),
        ..pb::PutRequest::default()
    };
    op(Request::RequestPut(request))
}

fn delete_of(key: &str, end: &str) -> pb::RequestOp {
    let request = pb::DeleteRangeRequest {
        key: bytes(key),
        range_end: bytes(end),
        prev_kv: false,
    };
    op(Request::RequestDeleteRange(request))
}

fn txn_of(success: Vec<pb::RequestOp>, failure: Vec<pb::RequestOp>) -> pb::RequestOp {
    op(Request::RequestTxn(branches(success, failure)))
}

fn branches(success: Vec<pb::RequestOp>, failure: Vec<pb::RequestOp>) -> pb::TxnRequest {
    pb::TxnRequest {
        compare: Vec::new(),
        success,
        failure,
    }
}

const fn op(request: Request) -> pb::RequestOp {
    pb::RequestOp {
        request: Some(request),
    }
}

fn check(success: Vec<pb::RequestOp>) -> Result<(), Status> {
    txn(&branches(success, Vec::new()), 128)
}

#[test]
fn a_range_without_a_key_is_refused_before_its_sort_is_looked_at() {
    let mut request = pb::RangeRequest {
        sort_order: 9,
        ..pb::RangeRequest::default()
    };
    assert_eq!(range(&request), Err(errors::key_not_provided()));
    request.key = bytes("a");
    assert_eq!(range(&request), Err(errors::invalid_sort_option()));
    request.sort_order = 2;
    assert_eq!(range(&request), Ok(()));
    request.sort_target = -1;
    assert_eq!(range(&request), Err(errors::invalid_sort_option()));
}

#[test]
fn a_put_that_keeps_what_it_brings_is_refused_key_first_lease_last() {
    let mut request = pb::PutRequest {
        value: bytes("v"),
        lease: 7,
        ignore_value: true,
        ignore_lease: true,
        ..pb::PutRequest::default()
    };
    assert_eq!(put(&request), Err(errors::key_not_provided()));
    request.key = bytes("a");
    assert_eq!(put(&request), Err(errors::value_provided()));
    request.value = Bytes::new();
    assert_eq!(put(&request), Err(errors::lease_provided()));
    request.lease = 0;
    assert_eq!(put(&request), Ok(()));
}

#[test]
fn a_transaction_is_counted_before_anything_in_it_is_looked_at() {
    let full: Vec<_> = (0..129).map(|_| put_of("")).collect();
    assert_eq!(check(full), Err(errors::too_many_operations()));
    let most: Vec<_> = (0..128).map(|at| put_of(&format!("k{at}"))).collect();
    assert_eq!(check(most), Ok(()));
}

#[test]
fn a_nested_transaction_has_what_its_parent_left() {
    let inner: Vec<_> = (0..126).map(|at| put_of(&format!("k{at}"))).collect();
    assert_eq!(
        check(vec![put_of("x"), txn_of(inner.clone(), vec![])]),
        Ok(())
    );
    let full = vec![put_of("x"), put_of("y"), txn_of(inner, vec![])];
    assert_eq!(check(full), Err(errors::too_many_operations()));
}

#[test]
fn a_transaction_nests_as_deep_as_the_engine_reads_and_no_deeper() {
    let nested = |depth: usize| {
        let inner = (2..depth).fold(put_of("a"), |it, _| txn_of(vec![it], vec![]));
        branches(vec![txn_of(vec![inner], vec![])], vec![])
    };
    let deepest = nested(256);
    assert_eq!(txn(&deepest, 1_000), Ok(()));
    let command = holm_kv::command::Command::Txn(crate::convert::txn(deepest));
    let proposal = holm_kv::command::Proposal {
        caller: None,
        command,
    };
    let read = holm_kv::command::Proposal::decode(&proposal.encode());
    assert_eq!(read, Ok(proposal), "what is let through is read again");
    assert_eq!(txn(&nested(257), 1_000), Err(errors::too_many_operations()));
}

#[test]
fn comparisons_are_looked_at_before_operations_and_these_before_collisions() {
    let mut request = branches(vec![op_of_nothing(), put_of("a"), put_of("a")], vec![]);
    request.compare.push(pb::Compare::default());
    assert_eq!(txn(&request, 128), Err(errors::key_not_provided()));
    request.compare.clear();
    assert_eq!(txn(&request, 128), Err(errors::key_not_found()));
    request.success.remove(0);
    assert_eq!(txn(&request, 128), Err(errors::duplicate_key()));
}

const fn op_of_nothing() -> pb::RequestOp {
    pb::RequestOp { request: None }
}

#[test]
fn a_key_is_put_once_on_each_path() {
    let duplicate = Err(errors::duplicate_key());
    assert_eq!(check(vec![put_of("a"), put_of("b")]), Ok(()));
    assert_eq!(check(vec![put_of("a"), put_of("a")]), duplicate);
    let either = txn_of(vec![put_of("a")], vec![put_of("a")]);
    assert_eq!(check(vec![either.clone()]), Ok(()));
    assert_eq!(check(vec![either.clone(), put_of("a")]), duplicate);
    assert_eq!(
        check(vec![either, txn_of(vec![], vec![put_of("a")])]),
        duplicate
    );
    let request = branches(vec![put_of("a")], vec![put_of("a")]);
    assert_eq!(txn(&request, 128), Ok(()));
}

#[test]
fn a_put_within_a_delete_is_refused_wherever_either_stands() {
    let duplicate = Err(errors::duplicate_key());
    assert_eq!(check(vec![put_of("b"), delete_of("a", "c")]), duplicate);
    assert_eq!(check(vec![put_of("a"), delete_of("a", "")]), duplicate);
    assert_eq!(check(vec![put_of("c"), delete_of("a", "c")]), Ok(()));
    assert_eq!(
        check(vec![delete_of("a", "c"), delete_of("b", "d")]),
        Ok(())
    );
    let inner = txn_of(vec![], vec![put_of("b")]);
    assert_eq!(check(vec![inner, delete_of("a", "c")]), duplicate);
    let inner = txn_of(vec![delete_of("a", "c")], vec![]);
    assert_eq!(check(vec![inner, put_of("b")]), duplicate);
    assert_eq!(check(vec![delete_of("a", "\0"), put_of("b")]), Ok(()));
}

#[test]
fn joined_intervals_hold_what_each_of_them_held() {
    let mut all = Intervals::default();
    for (first, end) in [("b", "d"), ("x", "y"), ("c", "f"), ("a", "b"), ("m", "a")] {
        all.add(first.into(), end.into());
    }
    let held: Vec<_> = ["", "a", "b", "e", "f", "m", "x", "y"]
        .into_iter()
        .filter(|key| all.contains(key.as_bytes()))
        .collect();
    assert_eq!(held, ["a", "b", "e", "x"]);
    assert_eq!(all.0.len(), 2);
}

#[test]
fn a_request_counts_as_etcds_log_would_hold_it() {
    // Seen at etcd 3.5.30 with its default limit: a put of a key of one byte and a value of
    // 1,572,839 is taken, and one more byte is not.
    let put = |bytes| pb::PutRequest {
        key: bytes_of(1),
        value: bytes_of(bytes),
        ..pb::PutRequest::default()
    };
    let check = |bytes| size(prost::Message::encoded_len(&put(bytes)), 3 << 19);
    assert_eq!(check(1_572_839), Ok(()));
    assert_eq!(check(1_572_840), Err(errors::request_too_large()));
}

fn bytes_of(count: usize) -> Bytes {
    Bytes::from(vec![b'x'; count])
}
