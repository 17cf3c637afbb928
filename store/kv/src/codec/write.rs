//! The writing half: one function for each kind of field.
//!
//! What would surprise: nothing here can fail. Lengths and numbers of any size have a form.

use bytes::{BufMut, Bytes, BytesMut};

use crate::command::{
    Access, AlarmKind, AuthChange, Command, Compare, CompareResult, CompareTarget, DeleteRange,
    Permission, Put, Range, SortOrder, SortTarget, Txn, TxnOp,
};
use crate::record::put_varint;

/// About how many bytes a command takes: exact enough for puts, so that they need one buffer.
pub(super) fn size_hint(command: &Command) -> usize {
    match command {
        Command::Put(put) => put.key.len() + put.value.len() + 64,
        Command::Txn(txn) => {
            let ops = txn.success.iter().chain(&txn.failure);
            let written = ops.map(|op| match op {
                TxnOp::Put(put) => put.key.len() + put.value.len() + 32,
                TxnOp::Range(range) => range.key.len() + range.range_end.len() + 48,
                TxnOp::DeleteRange(delete) => delete.key.len() + delete.range_end.len() + 16,
                TxnOp::Txn(_) => 128,
            });
            written.sum::<usize>() + txn.compare.len() * 64 + 64
        }
        Command::DeleteRange(_)
        | Command::Compact { .. }
        | Command::LeaseGrant { .. }
        | Command::LeaseRevoke { .. }
        | Command::LeaseCheckpoint { .. }
        | Command::LeaseExpire { .. }
        | Command::Alarm { .. }
        | Command::Auth(_)
        | Command::Cluster { .. }
        | Command::ClusterSwap { .. } => 128,
        Command::Island(proposal) => proposal.size_hint() + 16,
    }
}

pub(super) fn number(out: &mut BytesMut, value: u64) {
    put_varint(out, value);
}

fn signed(out: &mut BytesMut, value: i64) {
    put_varint(out, value.cast_unsigned());
}

pub(crate) fn bytes(out: &mut BytesMut, value: &[u8]) {
    count(out, value.len());
    out.put_slice(value);
}

pub(crate) fn count(out: &mut BytesMut, value: usize) {
    put_varint(
        out,
        u64::try_from(value).expect("a length in memory fits 64 bits"),
    );
}

fn boolean(out: &mut BytesMut, value: bool) {
    out.put_u8(u8::from(value));
}

fn flags(out: &mut BytesMut, bits: &[bool]) {
    let mut byte = 0;
    for (at, &bit) in bits.iter().enumerate() {
        byte |= u8::from(bit) << at;
    }
    out.put_u8(byte);
}

pub(super) fn command(out: &mut BytesMut, command: &Command) {
    match command {
        Command::Put(it) => {
            out.put_u8(1);
            put(out, it);
        }
        Command::DeleteRange(it) => {
            out.put_u8(2);
            delete(out, it);
        }
        Command::Txn(it) => {
            out.put_u8(3);
            txn(out, it);
        }
        Command::Compact { revision } => {
            out.put_u8(4);
            signed(out, *revision);
        }
        Command::LeaseGrant { .. }
        | Command::LeaseRevoke { .. }
        | Command::LeaseCheckpoint { .. }
        | Command::LeaseExpire { .. } => lease(out, command),
        Command::Alarm {
            raise,
            member,
            kind,
            by_node,
        } => {
            out.put_u8(9);
            flags(out, &[*raise, *by_node]);
            number(out, *member);
            out.put_u8(match kind {
                AlarmKind::NoSpace => 1,
                AlarmKind::Corrupt => 2,
            });
        }
        Command::Auth(change) => {
            out.put_u8(10);
            auth(out, change);
        }
        Command::Cluster { name, value } => {
            out.put_u8(11);
            bytes(out, name.as_bytes());
            optional(out, value.as_ref());
        }
        Command::ClusterSwap {
            name,
            expected,
            value,
        } => {
            out.put_u8(12);
            bytes(out, name.as_bytes());
            optional(out, expected.as_ref());
            bytes(out, value);
        }
        Command::Island(proposal) => {
            out.put_u8(13);
            proposal.encode(out);
        }
    }
}

fn optional(out: &mut BytesMut, value: Option<&Bytes>) {
    boolean(out, value.is_some());
    if let Some(value) = value {
        bytes(out, value);
    }
}

fn lease(out: &mut BytesMut, command: &Command) {
    if let Command::LeaseGrant { id, ttl, ttl_min } = command {
        out.put_u8(5);
        signed(out, *id);
        signed(out, *ttl);
        signed(out, *ttl_min);
    }
    if let Command::LeaseRevoke { id } = command {
        out.put_u8(6);
        signed(out, *id);
    }
    if let Command::LeaseCheckpoint { remaining } = command {
        out.put_u8(7);
        count(out, remaining.len());
        for (id, seconds) in remaining {
            signed(out, *id);
            signed(out, *seconds);
        }
    }
    if let Command::LeaseExpire { term, ids } = command {
        out.put_u8(8);
        number(out, term.value());
        count(out, ids.len());
        for id in ids {
            signed(out, *id);
        }
    }
}

fn put(out: &mut BytesMut, it: &Put) {
    bytes(out, &it.key);
    bytes(out, &it.value);
    signed(out, it.lease);
    flags(out, &[it.prev_kv, it.ignore_value, it.ignore_lease]);
}

fn delete(out: &mut BytesMut, it: &DeleteRange) {
    bytes(out, &it.key);
    bytes(out, &it.range_end);
    flags(out, &[it.prev_kv]);
}

fn range(out: &mut BytesMut, it: &Range) {
    bytes(out, &it.key);
    bytes(out, &it.range_end);
    signed(out, it.limit);
    signed(out, it.revision);
    out.put_u8(match it.sort_order {
        SortOrder::None => 0,
        SortOrder::Ascend => 1,
        SortOrder::Descend => 2,
    });
    out.put_u8(match it.sort_target {
        SortTarget::Key => 0,
        SortTarget::Version => 1,
        SortTarget::Create => 2,
        SortTarget::Mod => 3,
        SortTarget::Value => 4,
    });
    flags(out, &[it.keys_only, it.count_only]);
    signed(out, it.min_mod_revision);
    signed(out, it.max_mod_revision);
    signed(out, it.min_create_revision);
    signed(out, it.max_create_revision);
}

fn txn(out: &mut BytesMut, it: &Txn) {
    count(out, it.compare.len());
    for one in &it.compare {
        compare(out, one);
    }
    for branch in [&it.success, &it.failure] {
        count(out, branch.len());
        for op in branch {
            txn_op(out, op);
        }
    }
}

fn txn_op(out: &mut BytesMut, op: &TxnOp) {
    match op {
        TxnOp::Range(it) => {
            out.put_u8(1);
            range(out, it);
        }
        TxnOp::Put(it) => {
            out.put_u8(2);
            put(out, it);
        }
        TxnOp::DeleteRange(it) => {
            out.put_u8(3);
            delete(out, it);
        }
        TxnOp::Txn(it) => {
            out.put_u8(4);
            txn(out, it);
        }
    }
}

fn compare(out: &mut BytesMut, it: &Compare) {
    bytes(out, &it.key);
    bytes(out, &it.range_end);
    out.put_u8(match it.result {
        CompareResult::Equal => 0,
        CompareResult::Greater => 1,
        CompareResult::Less => 2,
        CompareResult::NotEqual => 3,
    });
    let (tag, value) = match &it.target {
        CompareTarget::Version(value) => (0, *value),
        CompareTarget::Create(value) => (1, *value),
        CompareTarget::Mod(value) => (2, *value),
        CompareTarget::Lease(value) => (4, *value),
        CompareTarget::Value(value) => {
            out.put_u8(3);
            return bytes(out, value);
        }
    };
    out.put_u8(tag);
    signed(out, value);
}

fn auth(out: &mut BytesMut, change: &AuthChange) {
    let mut named = |tag: u8, names: &[&str]| {
        out.put_u8(tag);
        for name in names {
            bytes(out, name.as_bytes());
        }
    };
    match change {
        AuthChange::Enable => named(1, &[]),
        AuthChange::Disable => named(2, &[]),
        AuthChange::UserAdd {
            name,
            password_hash,
            no_password,
        } => {
            named(3, &[name, password_hash]);
            boolean(out, *no_password);
        }
        AuthChange::UserDelete { name } => named(4, &[name]),
        AuthChange::UserChangePassword {
            name,
            password_hash,
        } => named(5, &[name, password_hash]),
        AuthChange::UserGrantRole { user, role } => named(6, &[user, role]),
        AuthChange::UserRevokeRole { name, role } => named(7, &[name, role]),
        AuthChange::RoleAdd { name } => named(8, &[name]),
        AuthChange::RoleDelete { role } => named(9, &[role]),
        AuthChange::RoleGrantPermission {
            name,
            permission: it,
        } => {
            named(10, &[name]);
            permission(out, it);
        }
        AuthChange::RoleRevokePermission {
            role,
            key,
            range_end,
        } => {
            named(11, &[role]);
            bytes(out, key);
            bytes(out, range_end);
        }
    }
}

/// A permission, here and in the durable form of a role.
pub(crate) fn permission(out: &mut BytesMut, it: &Permission) {
    out.put_u8(match it.access {
        Access::Read => 0,
        Access::Write => 1,
        Access::ReadWrite => 2,
    });
    bytes(out, &it.key);
    bytes(out, &it.range_end);
}
