//! The bytes of what happens to a replica and of what it starts from, for recordings of runs.
//!
//! ```text
//! start   config; u64 term, u64 vote (0: none), u8 1 recovering, u8 1 damaged; position of the
//!         base; u32 bytes, checkpoint; entries
//! config  25 numbers, each u64: in the order of `Config`, durations as nanoseconds
//! entries u32 count, count x {u64 op, u64 term, u32 bytes, payload}
//! input   u8 kind:
//!   1 Wake      -                             8 Release  u64 through, u64 limit
//!   2 Message   u64 from, u32 bytes, message  9 Lacking  u64 op, u32 count, count x u32
//!   3 Request   u64 request, u32 bytes, body 10 Loaded   u64 peer, u64 op, u32 index,
//!   4 Read      u64 request                              u8 1 found, u32 bytes, chunk
//!   5 Durable   u64 through                  11 Stored   u64 op, u32 index, u8 1 good
//!   6 Fetched   u64 peer, entries            12 Operate  u64 request, u8 which, u64, u64
//!   7 Saved     u32 bytes, manifest          13 Suspect  u64 peer
//! ```

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use bytes::{BufMut, BytesMut};
use holm_base::{NodeId, RequestId, WriteId};

use super::reader::{Reader, narrow};
use super::{DecodeError, put_numbers, put_position, put_sized};
use crate::config::{Config, ReadMode};
use crate::effect::Hard;
use crate::input::{Input, Operation};
use crate::membership::Change;
use crate::message::{Entry, Message, Payload};
use crate::node::Restored;
use crate::snapshot::{Checkpoint, Manifest};

/// The least an entry takes.
const ENTRY_LEAST: usize = 24;

pub(crate) fn put_start(out: &mut BytesMut, config: &Config, restored: &Restored) {
    put_config(out, config);
    let Hard {
        term,
        vote,
        is_recovering,
    } = restored.hard;
    put_numbers(out, &[term.value(), vote.map_or(0, NodeId::value)]);
    out.put_u8(u8::from(is_recovering));
    out.put_u8(u8::from(restored.is_damaged));
    put_position(out, restored.base);
    put_sized(out, |out| restored.checkpoint.encode(out));
    put_entries(out, &restored.entries);
}

pub(crate) fn start(from: &mut Reader) -> Result<(Config, Restored), DecodeError> {
    let config = config(from)?;
    let hard = Hard {
        term: from.term()?,
        vote: Some(NodeId::new(from.u64()?)).filter(|node| node.value() > 0),
        is_recovering: flag(from)?,
    };
    let restored = Restored {
        hard,
        is_damaged: flag(from)?,
        base: from.position()?,
        checkpoint: Checkpoint::decode(&from.sized()?)?,
        entries: entries(from)?,
    };
    // What no driver may hand to a replica is refused here, where it may come from anywhere.
    let mut before = restored.base.op;
    for entry in &restored.entries {
        if before.value().checked_add(1) != Some(entry.op.value()) {
            return Err(from.nonsense());
        }
        before = entry.op;
    }
    if config.check().is_err() || restored.base.op > restored.checkpoint.at.op {
        return Err(from.nonsense());
    }
    Ok((config, restored))
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn long(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

fn put_config(out: &mut BytesMut, config: &Config) {
    let Config {
        node,
        boot,
        seed,
        election_timeout,
        heartbeat_interval,
        read_mode,
        uncommitted_bytes_max,
        origin_bytes_max,
        origin_count_max,
        origin_patience,
        origin_window,
        reads_max,
        read_rounds_max,
        request_bytes_max,
        append_bytes_max,
        append_count_max,
        in_flight_bytes_max,
        cache_bytes_max,
        kept_ops,
        voters_max,
        learners_max,
        promotion_lag_max,
        chunks_in_flight_max,
        chunk_timeout,
        chunk_rate,
    } = config;
    let mode = match read_mode {
        ReadMode::Quorum => 0,
        ReadMode::Lease => 1,
    };
    put_numbers(out, &[node.value(), *boot, *seed]);
    put_numbers(out, &[nanos(*election_timeout), nanos(*heartbeat_interval)]);
    put_numbers(out, &[mode, *uncommitted_bytes_max, *origin_bytes_max]);
    let patience = origin_patience.map_or(u64::MAX, nanos);
    put_numbers(out, &[long(*origin_count_max), patience, *origin_window]);
    put_numbers(out, &[long(*reads_max), long(*read_rounds_max)]);
    put_numbers(out, &[*request_bytes_max, *append_bytes_max]);
    put_numbers(out, &[long(*append_count_max), *in_flight_bytes_max]);
    put_numbers(out, &[*cache_bytes_max, *kept_ops, long(*voters_max)]);
    put_numbers(out, &[long(*learners_max), *promotion_lag_max]);
    put_numbers(out, &[long(*chunks_in_flight_max), nanos(*chunk_timeout)]);
    out.put_u64_le(*chunk_rate);
}

fn config(from: &mut Reader) -> Result<Config, DecodeError> {
    let node = NodeId::new(from.u64()?);
    let boot = from.u64()?;
    Ok(Config {
        seed: from.u64()?,
        election_timeout: Duration::from_nanos(from.u64()?),
        heartbeat_interval: Duration::from_nanos(from.u64()?),
        read_mode: match from.u64()? {
            0 => ReadMode::Quorum,
            1 => ReadMode::Lease,
            _unknown => return Err(from.nonsense()),
        },
        uncommitted_bytes_max: from.u64()?,
        origin_bytes_max: from.u64()?,
        origin_count_max: size(from)?,
        origin_patience: Some(from.u64()?)
            .filter(|nanos| *nanos < u64::MAX)
            .map(Duration::from_nanos),
        origin_window: from.u64()?,
        reads_max: size(from)?,
        read_rounds_max: size(from)?,
        request_bytes_max: from.u64()?,
        append_bytes_max: from.u64()?,
        append_count_max: size(from)?,
        in_flight_bytes_max: from.u64()?,
        cache_bytes_max: from.u64()?,
        kept_ops: from.u64()?,
        voters_max: size(from)?,
        learners_max: size(from)?,
        promotion_lag_max: from.u64()?,
        chunks_in_flight_max: size(from)?,
        chunk_timeout: Duration::from_nanos(from.u64()?),
        chunk_rate: from.u64()?,
        ..Config::new(node, boot)
    })
}

fn size(from: &mut Reader) -> Result<usize, DecodeError> {
    usize::try_from(from.u64()?).map_err(|_narrow| from.nonsense())
}

fn flag(from: &mut Reader) -> Result<bool, DecodeError> {
    match from.array()? {
        [0] => Ok(false),
        [1] => Ok(true),
        [_other] => Err(from.nonsense()),
    }
}

fn put_entries(out: &mut BytesMut, entries: &[Entry]) {
    out.put_u32_le(narrow(entries.len()));
    for entry in entries {
        put_numbers(out, &[entry.op.value(), entry.term.value()]);
        put_sized(out, |out| entry.payload.encode(out));
    }
}

fn entries(from: &mut Reader) -> Result<Vec<Entry>, DecodeError> {
    let count = from.count(ENTRY_LEAST)?;
    let mut entries = Vec::with_capacity(count);
    for _ in 0..count {
        entries.push(Entry {
            op: from.op()?,
            term: from.term()?,
            payload: Payload::decode(&from.sized()?)?,
        });
    }
    Ok(entries)
}

pub(crate) fn put_input(out: &mut BytesMut, input: &Input) {
    match input {
        Input::Wake => out.put_u8(1),
        Input::Message { from, message } => {
            out.put_u8(2);
            out.put_u64_le(from.value());
            put_sized(out, |out| message.encode(out));
        }
        Input::Request { request, body } => {
            out.put_u8(3);
            out.put_u64_le(request.value());
            put_sized(out, |out| out.put_slice(body));
        }
        Input::Read { request } => {
            out.put_u8(4);
            out.put_u64_le(request.value());
        }
        Input::Durable { through } => {
            out.put_u8(5);
            out.put_u64_le(through.value());
        }
        Input::Fetched { peer, entries } => {
            out.put_u8(6);
            out.put_u64_le(peer.value());
            put_entries(out, entries);
        }
        Input::Saved { manifest } => {
            out.put_u8(7);
            put_sized(out, |out| manifest.encode(out));
        }
        Input::Release { through, limit } => {
            out.put_u8(8);
            put_numbers(out, &[through.value(), limit.value()]);
        }
        Input::Lacking { op, chunks } => {
            out.put_u8(9);
            out.put_u64_le(op.value());
            out.put_u32_le(narrow(chunks.len()));
            for chunk in chunks {
                out.put_u32_le(*chunk);
            }
        }
        Input::Loaded {
            peer,
            op,
            index,
            bytes,
        } => {
            out.put_u8(10);
            put_numbers(out, &[peer.value(), op.value()]);
            out.put_u32_le(*index);
            out.put_u8(u8::from(bytes.is_some()));
            put_sized(out, |out| {
                out.put_slice(bytes.as_deref().unwrap_or_default())
            });
        }
        Input::Stored { op, index, is_good } => {
            out.put_u8(11);
            out.put_u64_le(op.value());
            out.put_u32_le(*index);
            out.put_u8(u8::from(*is_good));
        }
        Input::Operate { request, operation } => {
            out.put_u8(12);
            out.put_u64_le(request.value());
            put_operation(out, operation);
        }
        Input::Suspect { peer } => {
            out.put_u8(13);
            out.put_u64_le(peer.value());
        }
    }
}

pub(crate) fn input(from: &mut Reader) -> Result<Input, DecodeError> {
    let [kind] = from.array()?;
    Ok(match kind {
        1 => Input::Wake,
        2 => Input::Message {
            from: NodeId::new(from.u64()?),
            message: Message::decode(&from.sized()?)?,
        },
        3 => Input::Request {
            request: RequestId::new(from.u64()?),
            body: from.sized()?,
        },
        4 => Input::Read {
            request: RequestId::new(from.u64()?),
        },
        5 => Input::Durable {
            through: WriteId::new(from.u64()?),
        },
        6 => Input::Fetched {
            peer: NodeId::new(from.u64()?),
            entries: entries(from)?,
        },
        7 => Input::Saved {
            manifest: Arc::new(Manifest::decode(&from.sized()?)?),
        },
        8 => Input::Release {
            through: from.op()?,
            limit: from.op()?,
        },
        9 => {
            let op = from.op()?;
            let count = from.count(4)?;
            let chunks: Result<Vec<u32>, _> = (0..count).map(|_| from.u32()).collect();
            Input::Lacking {
                op,
                chunks: chunks?,
            }
        }
        10 => loaded(from)?,
        11 => Input::Stored {
            op: from.op()?,
            index: from.u32()?,
            is_good: flag(from)?,
        },
        12 => Input::Operate {
            request: RequestId::new(from.u64()?),
            operation: operation(from)?,
        },
        13 => Input::Suspect {
            peer: NodeId::new(from.u64()?),
        },
        kind => return Err(from.unknown(kind)),
    })
}

fn loaded(from: &mut Reader) -> Result<Input, DecodeError> {
    let (peer, op, index) = (NodeId::new(from.u64()?), from.op()?, from.u32()?);
    let (is_found, bytes) = (flag(from)?, from.sized()?);
    Ok(Input::Loaded {
        peer,
        op,
        index,
        bytes: is_found.then_some(bytes),
    })
}

fn put_operation(out: &mut BytesMut, operation: &Operation) {
    let (which, one, other) = match operation {
        Operation::Change(Change::AddLearner(node)) => (1, *node, *node),
        Operation::Change(Change::AddVoter(node)) => (2, *node, *node),
        Operation::Change(Change::Promote(node)) => (3, *node, *node),
        Operation::Change(Change::Demote(node)) => (4, *node, *node),
        Operation::Change(Change::Remove(node)) => (5, *node, *node),
        Operation::Change(Change::Replace { outgoing, incoming }) => (6, *outgoing, *incoming),
        Operation::MoveLeader { to } => (7, *to, *to),
        Operation::Seal => (8, NodeId::new(0), NodeId::new(0)),
    };
    out.put_u8(which);
    put_numbers(out, &[one.value(), other.value()]);
}

fn operation(from: &mut Reader) -> Result<Operation, DecodeError> {
    let [which] = from.array()?;
    let (one, incoming) = (NodeId::new(from.u64()?), NodeId::new(from.u64()?));
    Ok(match which {
        1 => Operation::Change(Change::AddLearner(one)),
        2 => Operation::Change(Change::AddVoter(one)),
        3 => Operation::Change(Change::Promote(one)),
        4 => Operation::Change(Change::Demote(one)),
        5 => Operation::Change(Change::Remove(one)),
        6 => Operation::Change(Change::Replace {
            outgoing: one,
            incoming,
        }),
        7 => Operation::MoveLeader { to: one },
        8 => Operation::Seal,
        which => return Err(from.unknown(which)),
    })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use holm_base::{Op, Term, Time};

    use super::*;
    use crate::membership::Configuration;
    use crate::message::{Body, Position};

    #[test]
    #[expect(clippy::too_many_lines, reason = "one input of each kind")]
    fn inputs_of_every_kind_come_back() {
        let node = NodeId::new(7);
        let (op, request) = (Op::new(9), RequestId::new(11));
        let checkpoint = Checkpoint::genesis(Configuration::new([node]));
        let manifest = Arc::new(Manifest {
            checkpoint,
            chunk_bytes: 5,
            chunks: Vec::new(),
            context: Bytes::from_static(b"context"),
        });
        let entry = Entry {
            op,
            term: Term::new(2),
            payload: Payload::Blank,
        };
        let message = Message {
            term: Term::new(3),
            body: Body::Heartbeat {
                round: 1,
                commit: op,
                stamp: Time::from_nanos(4),
            },
        };
        let found = Some(Bytes::from_static(b"chunk"));
        let loaded = |bytes| Input::Loaded {
            peer: node,
            op,
            index: 3,
            bytes,
        };
        let replace = Change::Replace {
            outgoing: node,
            incoming: NodeId::new(8),
        };
        let operate = |operation| Input::Operate { request, operation };
        let inputs = [
            Input::Wake,
            Input::Message {
                from: node,
                message,
            },
            Input::Request {
                request,
                body: Bytes::from_static(b"put"),
            },
            Input::Read { request },
            Input::Durable {
                through: WriteId::new(5),
            },
            Input::Fetched {
                peer: node,
                entries: alloc::vec![entry],
            },
            Input::Saved { manifest },
            Input::Release {
                through: op,
                limit: Op::ZERO,
            },
            Input::Lacking {
                op,
                chunks: alloc::vec![1, 2],
            },
            loaded(found),
            loaded(None),
            Input::Stored {
                op,
                index: 1,
                is_good: true,
            },
            operate(Operation::Change(Change::AddLearner(node))),
            operate(Operation::Change(Change::AddVoter(node))),
            operate(Operation::Change(Change::Promote(node))),
            operate(Operation::Change(Change::Demote(node))),
            operate(Operation::Change(Change::Remove(node))),
            operate(Operation::Change(replace)),
            operate(Operation::MoveLeader { to: node }),
            operate(Operation::Seal),
            Input::Suspect { peer: node },
        ];
        for wanted in inputs {
            let mut out = BytesMut::new();
            put_input(&mut out, &wanted);
            let bytes = out.freeze();
            let mut from = Reader::new(&bytes, "an input");
            assert_eq!(input(&mut from), Ok(wanted));
            assert_eq!(from.end(), Ok(()));
            let cut = bytes.slice(..bytes.len() - 1);
            let mut from = Reader::new(&cut, "an input");
            assert!(input(&mut from).is_err(), "cut short");
        }
    }

    #[test]
    fn a_start_comes_back_and_one_that_cannot_be_is_refused() {
        let node = NodeId::new(7);
        let mut config = Config::new(node, 3);
        config.origin_patience = Some(Duration::from_secs(7));
        config.read_mode = ReadMode::Lease;
        config.kept_ops = 17;
        let mut restored = Restored::fresh(Configuration::new([node]));
        restored.hard.vote = Some(node);
        restored.hard.term = Term::new(4);
        let entry = |op| Entry {
            op: Op::new(op),
            term: Term::new(4),
            payload: Payload::Blank,
        };
        restored.entries = alloc::vec![entry(1), entry(2)];
        let there_and_back = |config: &Config, restored: &Restored| {
            let mut out = BytesMut::new();
            put_start(&mut out, config, restored);
            start(&mut Reader::new(&out.freeze(), "a start"))
        };
        let back = there_and_back(&config, &restored);
        assert_eq!(back, Ok((config.clone(), restored.clone())));
        let mut gap = restored.clone();
        gap.entries.remove(0);
        assert!(there_and_back(&config, &gap).is_err());
        let mut high = restored.clone();
        high.base = Position {
            term: Term::new(1),
            op: Op::new(1),
        };
        assert!(there_and_back(&config, &high).is_err());
        config.chunk_rate = 0;
        assert!(there_and_back(&config, &restored).is_err());
    }
}
