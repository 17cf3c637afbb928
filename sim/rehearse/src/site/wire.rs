//! Calls of a rehearsal as commands of the engine, and its answers as a rehearsal's.
//!
//! Keys are `k` and eight digits, so that ranges of numbers are ranges of keys. A value is its
//! mark and zeros.

use bytes::{BufMut, Bytes, BytesMut};
use holm_base::NodeId;
use holm_kv::command::{
    Command, Compare, CompareResult, CompareTarget, DeleteRange, Proposal, Put, Range, Txn, TxnOp,
};
use holm_kv::outcome::{Applied, Outcome, RangeOutcome};
use holm_kv::record::Parts;
use holm_kv::{KeyRange, Record, Refusal, WatchAnswer};
use holm_local_first::{ConflictKind, Entry, Proposal as IsleEntry, Roster, Slot, Type};

use super::{Answer, IsleCall, Isles, LeaseCall, LeaseReply, Scene, Setup};
use crate::calls::{Call, Cell, Change, Key, Reply, Touch};

/// Leases live a second at least: what is asked for is what there is.
const TTL_MIN: i64 = 1;

pub(super) fn key(key: Key) -> Bytes {
    Bytes::from(format!("k{key:08}"))
}

/// Behind all keys that anybody writes.
pub(crate) const LAST_KEY: Key = 99_999_998;

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

/// A mark, or the number of a counter. No digit is a zero byte, and no mark needs its last.
fn mark(value: &[u8]) -> u64 {
    match value.first_chunk::<8>() {
        Some(head) if head[7] == 0 => u64::from_le_bytes(*head),
        Some(_) | None => {
            let number = std::str::from_utf8(value).ok();
            let number = number.and_then(|text| text.parse::<i64>().ok());
            number.map_or(0, i64::cast_unsigned)
        }
    }
}

pub(super) fn range(first: Key, last: Key) -> Range {
    Range {
        key: key(first),
        range_end: key(last + 1),
        ..Range::default()
    }
}

/// An entry about which sites a keyspace has; none if it says nothing.
pub(super) fn isle(call: IsleCall) -> Option<IsleEntry> {
    match call {
        IsleCall::Follow(bytes) => Roster::decode(bytes).ok().map(IsleEntry::Follow),
        IsleCall::Stop(slot) => Slot::new(slot).map(IsleEntry::Stop),
    }
}

/// How what a site writes looks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Form {
    isles: Option<Isles>,
    node: NodeId,
}

impl Form {
    pub(super) const fn new(setup: &Setup, node: NodeId) -> Self {
        Self {
            isles: setup.islands,
            node,
        }
    }

    pub(super) const fn is_island(self) -> bool {
        self.isles.is_some()
    }

    fn trace(self, call: &Call) -> Option<Key> {
        self.isles.and_then(|isles| isles.trace(self.node, call))
    }

    fn put(self, of: Key, mark: u64, len: u32) -> Put {
        let is_number = self.isles.is_some_and(|it| it.kind == Type::Counter);
        let value = if is_number {
            Bytes::from(mark.to_string())
        } else {
            value(mark, len)
        };
        Put {
            key: key(of),
            value,
            ..Put::default()
        }
    }
}

impl Isles {
    /// The key that a write of a node's island leaves its mark at beside those that it is about, if it
    /// does. What a counter shows says nothing of who wrote it; of deletes it is every other one,
    /// so that bare ones are there too.
    pub(crate) fn trace(&self, node: NodeId, call: &Call) -> Option<Key> {
        let is_number = self.kind == Type::Counter;
        let leaves = match call {
            Call::Put { .. } => is_number,
            Call::Delete { mark, .. } => is_number || mark.is_multiple_of(2),
            Call::Txn { .. } | Call::Add { .. } => true,
            Call::Attach { .. } | Call::Range { .. } | Call::Compact { .. } | Call::Gone { .. } => {
                false
            }
        };
        let number = u32::try_from(self.place(node)).expect("islands are few");
        leaves.then_some(self.trace + number)
    }

    /// Which island a node is of, from 0.
    pub(crate) fn place(&self, node: NodeId) -> usize {
        let place = (node.value() - 1) / self.each;
        usize::try_from(place).expect("nodes are few")
    }

    /// How many islands so many nodes are, those that are not taken in yet among them.
    pub(crate) fn among(&self, nodes: usize) -> usize {
        let each = usize::try_from(self.each).expect("nodes are few");
        nodes / each
    }

    /// The slot of a node's island.
    pub(crate) fn slot(&self, node: NodeId) -> Slot {
        let number = u8::try_from(self.place(node) + 1).expect("islands are few");
        Slot::new(number).expect("slots count from 1")
    }

    /// The nodes of a node's island.
    pub(super) fn mates(&self, node: NodeId) -> Vec<NodeId> {
        let before = (node.value() - 1) / self.each * self.each;
        let all = before + 1..=before + self.each;
        all.map(NodeId::new).collect()
    }
}

/// A call that changes something, as it is proposed, and whether it takes space.
pub(super) fn proposal(call: &Call, len: u32, form: Form) -> (Proposal, bool) {
    let trace = form.trace(call).zip(call.mark());
    let trace = trace.map(|(of, mark)| TxnOp::Put(form.put(of, mark, len)));
    let command = match *call {
        Call::Put { key, mark } => with(trace, TxnOp::Put(form.put(key, mark, len))),
        Call::Add {
            key: of, amount, ..
        } => {
            let put = Put {
                key: key(of),
                value: Bytes::from(format!("{amount:+}")),
                ..Put::default()
            };
            with(trace, TxnOp::Put(put))
        }
        Call::Attach {
            key: of,
            lease,
            mark,
        } => Command::Put(Put {
            lease,
            ..form.put(of, mark, len)
        }),
        Call::Delete { key: of, .. } => {
            let delete = DeleteRange {
                key: key(of),
                ..DeleteRange::default()
            };
            with(trace, TxnOp::DeleteRange(delete))
        }
        Call::Txn {
            key: of,
            other,
            expected,
            mark,
        } => {
            let puts = [of, other].map(|of| TxnOp::Put(form.put(of, mark, len)));
            Command::Txn(Txn {
                compare: vec![Compare {
                    key: key(of),
                    range_end: Bytes::new(),
                    result: CompareResult::Equal,
                    target: CompareTarget::Mod(signed(expected)),
                }],
                success: puts.into_iter().chain(trace).collect(),
                failure: vec![TxnOp::Range(range(of, of))],
            })
        }
        Call::Compact { revision } => Command::Compact {
            revision: signed(revision),
        },
        Call::Range { .. } | Call::Gone { .. } => {
            unreachable!("nobody proposes {call:?}")
        }
    };
    let takes_space = !matches!(command, Command::DeleteRange(_) | Command::Compact { .. });
    let caller = None;
    (Proposal { caller, command }, takes_space)
}

/// One operation, in a transaction if it leaves a trace.
fn with(trace: Option<TxnOp>, op: TxnOp) -> Command {
    match (trace, op) {
        (None, TxnOp::Put(put)) => Command::Put(put),
        (None, TxnOp::DeleteRange(delete)) => Command::DeleteRange(delete),
        (trace, op) => Command::Txn(Txn {
            compare: Vec::new(),
            success: std::iter::once(op).chain(trace).collect(),
            failure: Vec::new(),
        }),
    }
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

/// What an island shows of all keys, and which concurrent writes it names.
pub(super) fn scene(all: &RangeOutcome, lines: impl Iterator<Item = Bytes>) -> Scene {
    let mut scene = Scene::default();
    for parts in all.records.iter().filter_map(Record::decode) {
        if let Some(number) = number(&parts.key) {
            scene.marks.insert(number, mark(&parts.value));
        }
        scene.bytes.insert(parts.key, (parts.value, parts.lease));
    }
    for line in lines {
        let Ok(Entry::Met {
            revision, conflict, ..
        }) = Entry::decode(line)
        else {
            continue;
        };
        let Some(key) = number(&conflict.key) else {
            continue;
        };
        if conflict.kind == ConflictKind::LeftOut {
            scene.left_out.insert(key);
        }
        let all = std::iter::once(&conflict.winner).chain(&conflict.losers);
        for it in all {
            let told = scene.named.entry((key, mark(&it.value)));
            told.or_insert_with(|| unsigned(revision));
        }
    }
    scene
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
