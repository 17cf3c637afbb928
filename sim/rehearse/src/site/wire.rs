//! Calls of a rehearsal as commands of the engine, and its answers as a rehearsal's.
//!
//! Keys are `k` and eight digits, so that ranges of numbers are ranges of keys. A value is its
//! mark and zeros.

use bytes::{BufMut, Bytes, BytesMut};
use holm_kv::command::{
    Command, Compare, CompareResult, CompareTarget, DeleteRange, Proposal, Put, Range, Txn, TxnOp,
};
use holm_kv::outcome::{Applied, Outcome, RangeOutcome};
use holm_kv::record::Parts;
use holm_kv::{KeyRange, Record, Refusal, WatchAnswer};

use super::{Answer, LeaseCall, LeaseReply};
use crate::calls::{Call, Cell, Change, Key, Reply, Touch};

/// Leases live a second at least: what is asked for is what there is.
const TTL_MIN: i64 = 1;

pub(super) fn key(key: Key) -> Bytes {
    Bytes::from(format!("k{key:08}"))
}

/// All keys that clients write.
pub(super) fn all_keys() -> KeyRange {
    KeyRange::Between(Bytes::from_static(b"k"), Bytes::from_static(b"l"))
}

fn number(key: &[u8]) -> Option<Key> {
    let digits = key.strip_prefix(b"k")?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

fn value(mark: u64, len: u32) -> Bytes {
    let len = usize::try_from(len).expect("values are small").max(8);
    let mut bytes = BytesMut::zeroed(len);
    (&mut bytes[..8]).put_u64_le(mark);
    bytes.freeze()
}

fn mark(value: &[u8]) -> u64 {
    value
        .first_chunk()
        .map_or(0, |head| u64::from_le_bytes(*head))
}

pub(super) fn range(first: Key, last: Key) -> Range {
    Range {
        key: key(first),
        range_end: key(last + 1),
        ..Range::default()
    }
}

fn put(of: Key, mark: u64, len: u32) -> Put {
    Put {
        key: key(of),
        value: value(mark, len),
        ..Put::default()
    }
}

/// A call that changes something, as it is proposed, and whether it takes space.
pub(super) fn proposal(call: &Call, len: u32) -> (Bytes, bool) {
    let command = match *call {
        Call::Put { key, mark } => Command::Put(put(key, mark, len)),
        Call::Attach {
            key: of,
            lease,
            mark,
        } => Command::Put(Put {
            lease,
            ..put(of, mark, len)
        }),
        Call::Delete { key: of, .. } => Command::DeleteRange(DeleteRange {
            key: key(of),
            ..DeleteRange::default()
        }),
        Call::Txn {
            key: of,
            other,
            expected,
            mark,
        } => Command::Txn(Txn {
            compare: vec![Compare {
                key: key(of),
                range_end: Bytes::new(),
                result: CompareResult::Equal,
                target: CompareTarget::Mod(signed(expected)),
            }],
            success: vec![
                TxnOp::Put(put(of, mark, len)),
                TxnOp::Put(put(other, mark, len)),
            ],
            failure: vec![TxnOp::Range(range(of, of))],
        }),
        Call::Compact { revision } => Command::Compact {
            revision: signed(revision),
        },
        Call::Range { .. } | Call::Gone { .. } => {
            unreachable!("nobody proposes {call:?}")
        }
    };
    let takes_space = !matches!(command, Command::DeleteRange(_) | Command::Compact { .. });
    (encode(command), takes_space)
}

/// A call about a lease that is ordered with the others, as it is proposed.
pub(super) fn lease_proposal(call: LeaseCall) -> Option<Bytes> {
    match call {
        LeaseCall::Grant { id, ttl } => Some(encode(Command::LeaseGrant {
            id,
            ttl,
            ttl_min: TTL_MIN,
        })),
        LeaseCall::Revoke { id } => Some(encode(Command::LeaseRevoke { id })),
        LeaseCall::Renew { .. } | LeaseCall::TimeToLive { .. } => None,
    }
}

fn encode(command: Command) -> Bytes {
    Proposal {
        caller: None,
        command,
    }
    .encode()
}

const fn signed(revision: u64) -> i64 {
    revision.cast_signed()
}

pub(super) const fn unsigned(revision: i64) -> u64 {
    revision.cast_unsigned()
}

/// What a client hears of an applied call.
pub(super) fn reply(call: &Call, applied: Applied) -> Answer {
    let revision = unsigned(applied.revision.value());
    match (call, applied.result) {
        (
            Call::Compact { .. },
            Ok(_) | Err(Refusal::Compacted { .. } | Refusal::FutureRevision { .. }),
        ) => Answer::Done(Reply::Unchanged { revision }),
        (_, Err(_)) => Answer::Refused,
        (_, Ok(Outcome::DeleteRange { deleted: 0, .. })) => {
            Answer::Done(Reply::Unchanged { revision })
        }
        (
            _,
            Ok(Outcome::Txn {
                succeeded: false,
                responses,
            }),
        ) => match responses.into_iter().next() {
            Some(Outcome::Range(found)) => Answer::Done(self::found(revision, &found)),
            other => unreachable!("a range was asked for, and {other:?} was answered"),
        },
        (_, Ok(_)) => Answer::Done(Reply::Wrote { revision }),
    }
}

pub(super) fn lease_reply(call: LeaseCall, applied: &Applied) -> Answer {
    match (call, &applied.result) {
        (_, Ok(Outcome::LeaseGrant { ttl, .. })) => {
            Answer::Lease(LeaseReply::Granted { ttl: *ttl })
        }
        (LeaseCall::Revoke { .. }, Ok(_)) => Answer::Lease(LeaseReply::Revoked),
        (_, Err(Refusal::LeaseNotFound)) => Answer::Lease(LeaseReply::Missing),
        (_, Ok(_) | Err(_)) => Answer::Refused,
    }
}

/// What a client hears of a read.
pub(super) fn found(revision: u64, found: &RangeOutcome) -> Reply {
    let cells = found.records.iter().filter_map(|record| {
        let parts = record.decode()?;
        Some((number(&parts.key)?, cell(&parts)))
    });
    Reply::Found {
        revision,
        cells: cells.collect(),
    }
}

fn cell(parts: &Parts) -> Cell {
    Cell {
        mark: mark(&parts.value),
        made: unsigned(parts.modified),
    }
}

/// The changes of an answer on a watch; none if the bytes are not what they should be.
pub(super) fn changes(answer: &WatchAnswer) -> Option<Vec<Change>> {
    let mut changes: Vec<Change> = Vec::new();
    for bytes in &answer.events {
        let (is_delete, parts) = event(bytes)?;
        let revision = unsigned(parts.modified);
        let touch = Touch {
            key: number(&parts.key)?,
            mark: if is_delete { 0 } else { mark(&parts.value) },
            is_delete,
        };
        match changes.last_mut() {
            Some(last) if last.revision == revision => last.touches.push(touch),
            Some(_) | None => changes.push(Change {
                revision,
                touches: vec![touch],
            }),
        }
    }
    Some(changes)
}

/// An event message: 1 is its type, 2 the key and value, 3 those before.
fn event(bytes: &Bytes) -> Option<(bool, Parts)> {
    let (mut at, mut is_delete, mut parts) = (0, false, None);
    while at < bytes.len() {
        let tag = *bytes.get(at)?;
        at += 1;
        let number = varint(bytes, &mut at)?;
        match tag {
            0x08 => is_delete = number == 1,
            0x12 | 0x1a => {
                let end = at.checked_add(number).filter(|&end| end <= bytes.len())?;
                if tag == 0x12 {
                    parts = Record::from_bytes(bytes.slice(at..end)).decode();
                }
                at = end;
            }
            _ => return None,
        }
    }
    Some((is_delete, parts?))
}

fn varint(bytes: &[u8], at: &mut usize) -> Option<usize> {
    let mut value = 0_usize;
    for shift in (0..63).step_by(7) {
        let byte = *bytes.get(*at)?;
        *at += 1;
        value |= usize::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}
