//! From messages to the engine's requests.
//!
//! What would surprise: keys and values share the memory of the frame they came in, so a
//! request that waits keeps its whole frame. Enumerations that do not exist become the first
//! of their kind, as etcd reads them, where [`crate::validate`] does not refuse them.

use bytes::Bytes;
use holm_kv::command::{
    Access, Compare, CompareResult, CompareTarget, DeleteRange, Permission, Put, Range, SortOrder,
    SortTarget, Txn, TxnOp,
};

use crate::proto::authpb;
use crate::proto::etcdserverpb as pb;
use crate::proto::etcdserverpb::compare::TargetUnion;
use crate::proto::etcdserverpb::request_op::Request;

/// Whether a transaction that only reads is content with what this node has: etcd's rule, by
/// which one without operations is, and one within another is not.
#[must_use]
pub fn is_serializable(txn: &pb::TxnRequest) -> bool {
    txn.success
        .iter()
        .chain(&txn.failure)
        .all(|op| match &op.request {
            Some(Request::RequestRange(range)) => range.serializable,
            Some(
                Request::RequestPut(_) | Request::RequestDeleteRange(_) | Request::RequestTxn(_),
            )
            | None => false,
        })
}

/// A range request, of which the engine does not need to know whether it is serializable.
#[must_use]
pub fn range(request: pb::RangeRequest) -> Range {
    Range {
        sort_order: sort_order(request.sort_order()),
        sort_target: sort_target(request.sort_target()),
        key: request.key,
        range_end: request.range_end,
        limit: request.limit,
        revision: request.revision,
        keys_only: request.keys_only,
        count_only: request.count_only,
        min_mod_revision: request.min_mod_revision,
        max_mod_revision: request.max_mod_revision,
        min_create_revision: request.min_create_revision,
        max_create_revision: request.max_create_revision,
    }
}

const fn sort_order(order: pb::range_request::SortOrder) -> SortOrder {
    match order {
        pb::range_request::SortOrder::None => SortOrder::None,
        pb::range_request::SortOrder::Ascend => SortOrder::Ascend,
        pb::range_request::SortOrder::Descend => SortOrder::Descend,
    }
}

const fn sort_target(target: pb::range_request::SortTarget) -> SortTarget {
    match target {
        pb::range_request::SortTarget::Key => SortTarget::Key,
        pb::range_request::SortTarget::Version => SortTarget::Version,
        pb::range_request::SortTarget::Create => SortTarget::Create,
        pb::range_request::SortTarget::Mod => SortTarget::Mod,
        pb::range_request::SortTarget::Value => SortTarget::Value,
    }
}

/// A put.
#[must_use]
pub fn put(request: pb::PutRequest) -> Put {
    Put {
        key: request.key,
        value: request.value,
        lease: request.lease,
        prev_kv: request.prev_kv,
        ignore_value: request.ignore_value,
        ignore_lease: request.ignore_lease,
    }
}

/// A delete.
#[must_use]
pub fn delete_range(request: pb::DeleteRangeRequest) -> DeleteRange {
    DeleteRange {
        key: request.key,
        range_end: request.range_end,
        prev_kv: request.prev_kv,
    }
}

/// A transaction that [`crate::validate::txn`] has let through.
#[must_use]
pub fn txn(request: pb::TxnRequest) -> Txn {
    Txn {
        compare: request.compare.into_iter().map(compare).collect(),
        success: request.success.into_iter().filter_map(txn_op).collect(),
        failure: request.failure.into_iter().filter_map(txn_op).collect(),
    }
}

/// `None` for an operation that is none, which validation refuses before.
fn txn_op(op: pb::RequestOp) -> Option<TxnOp> {
    Some(match op.request? {
        Request::RequestRange(request) => TxnOp::Range(range(request)),
        Request::RequestPut(request) => TxnOp::Put(put(request)),
        Request::RequestDeleteRange(request) => TxnOp::DeleteRange(delete_range(request)),
        Request::RequestTxn(request) => TxnOp::Txn(txn(request)),
    })
}

fn compare(compare: pb::Compare) -> Compare {
    Compare {
        result: match compare.result() {
            pb::compare::CompareResult::Equal => CompareResult::Equal,
            pb::compare::CompareResult::Greater => CompareResult::Greater,
            pb::compare::CompareResult::Less => CompareResult::Less,
            pb::compare::CompareResult::NotEqual => CompareResult::NotEqual,
        },
        target: compare_target(compare.target(), compare.target_union),
        key: compare.key,
        range_end: compare.range_end,
    }
}

/// What is compared with what: a union that belongs to another target counts as its zero.
fn compare_target(target: pb::compare::CompareTarget, union: Option<TargetUnion>) -> CompareTarget {
    use pb::compare::CompareTarget as Target;
    match (target, union) {
        (Target::Version, Some(TargetUnion::Version(version))) => CompareTarget::Version(version),
        (Target::Version, _) => CompareTarget::Version(0),
        (Target::Create, Some(TargetUnion::CreateRevision(at))) => CompareTarget::Create(at),
        (Target::Create, _) => CompareTarget::Create(0),
        (Target::Mod, Some(TargetUnion::ModRevision(at))) => CompareTarget::Mod(at),
        (Target::Mod, _) => CompareTarget::Mod(0),
        (Target::Value, Some(TargetUnion::Value(value))) => CompareTarget::Value(value),
        (Target::Value, _) => CompareTarget::Value(Bytes::new()),
        (Target::Lease, Some(TargetUnion::Lease(lease))) => CompareTarget::Lease(lease),
        (Target::Lease, _) => CompareTarget::Lease(0),
    }
}

/// A role's permission.
#[must_use]
pub fn permission(permission: authpb::Permission) -> Permission {
    Permission {
        access: match permission.perm_type() {
            authpb::permission::Type::Read => Access::Read,
            authpb::permission::Type::Write => Access::Write,
            authpb::permission::Type::Readwrite => Access::ReadWrite,
        },
        key: permission.key,
        range_end: permission.range_end,
    }
}

/// A role's permission as clients see it.
#[must_use]
pub fn shown_permission(permission: &Permission) -> authpb::Permission {
    let access = match permission.access {
        Access::Read => authpb::permission::Type::Read,
        Access::Write => authpb::permission::Type::Write,
        Access::ReadWrite => authpb::permission::Type::Readwrite,
    };
    authpb::Permission {
        perm_type: access.into(),
        key: permission.key.clone(),
        range_end: permission.range_end.clone(),
    }
}
