//! Messages of all kinds, random ones and fixed ones.

use std::sync::Arc;

use bytes::Bytes;
use holm_base::{NodeId, Op, Prng, Term, Time};
use holm_quorum::Voters;
use holm_raft::{
    Body, Checkpoint, ChunkId, Command, Configuration, Entry, Flags, Joining, Manifest, Message,
    Origin, Payload, Position, ReadPoint, Round, Windows,
};

/// How many kinds of message there are.
pub(crate) const KINDS: u64 = 17;
/// What a byte of input may become in memory: a blank entry of 16 bytes is the worst.
pub(crate) const ROOM_PER_BYTE: usize = 12;
/// What windows may take besides: 64 of a mebibit.
pub(crate) const ROOM: usize = 8 << 20;

pub(crate) fn pick(random: &mut Prng, below: u64) -> usize {
    usize::try_from(random.below(below)).expect("small")
}

/// Often small, sometimes anything.
fn number(random: &mut Prng) -> u64 {
    match random.below(4) {
        0 => random.next(),
        _ => random.below(300),
    }
}

fn op(random: &mut Prng) -> Op {
    Op::new(number(random))
}

fn flip(random: &mut Prng) -> bool {
    random.below(2) == 0
}

fn node(random: &mut Prng) -> NodeId {
    NodeId::new(1 + random.below(9))
}

fn position(random: &mut Prng) -> Position {
    Position {
        term: Term::new(number(random)),
        op: Op::new(random.below(1 << 40)),
    }
}

fn bytes(random: &mut Prng) -> Bytes {
    let len = pick(random, 40);
    (0..len).map(|_| random.next().to_le_bytes()[0]).collect()
}

fn origin(random: &mut Prng) -> Origin {
    Origin {
        node: node(random),
        boot: number(random),
    }
}

fn command(random: &mut Prng) -> Command {
    Command {
        origin: origin(random),
        sequence: number(random),
        flags: Flags {
            is_numbered: flip(random),
            is_origin_counted: flip(random),
        },
        body: bytes(random),
    }
}

fn configuration(random: &mut Prng) -> Configuration {
    let mut nodes = |most| -> Vec<NodeId> {
        let count = pick(random, most);
        (0..count).map(|_| node(random)).collect()
    };
    let (incoming, outgoing, learners) = (nodes(8), nodes(8), nodes(5));
    let joining: Vec<Joining> = (0..pick(random, 4))
        .map(|_| Joining {
            node: node(random),
            replaces: flip(random).then(|| node(random)),
        })
        .collect();
    Configuration::from_parts(Voters::joint(incoming, outgoing), learners, joining)
}

pub(crate) fn payload(random: &mut Prng) -> Payload {
    match random.below(5) {
        0 => Payload::Blank,
        1 => Payload::Configuration(Arc::new(configuration(random))),
        _ => Payload::Command(command(random)),
    }
}

pub(crate) fn windows(random: &mut Prng) -> Windows {
    let mut windows = Windows::new();
    for _ in 0..pick(random, 4) {
        let origin = origin(random);
        let size = 64 * (1 + random.below(20));
        for _ in 0..pick(random, 200) {
            let sequence = random.below(3 * size);
            windows.admit(origin, sequence, size);
        }
    }
    windows
}

pub(crate) fn checkpoint(random: &mut Prng) -> Checkpoint {
    Checkpoint {
        at: position(random),
        configuration: Arc::new(configuration(random)),
        configured: position(random),
        windows: windows(random),
    }
}

pub(crate) fn manifest(random: &mut Prng) -> Manifest {
    let chunks = (0..pick(random, 5)).map(|_| {
        let mut id = [0; 32];
        id.fill_with(|| random.next().to_le_bytes()[0]);
        ChunkId(id)
    });
    let chunks = chunks.collect();
    Manifest {
        checkpoint: checkpoint(random),
        chunk_bytes: 1 << 20,
        chunks,
        context: bytes(random),
    }
}

fn entries(random: &mut Prng, previous: Position) -> Vec<Entry> {
    let mut op = previous.op;
    let count = pick(random, 6);
    let next = |_| {
        op = op.next();
        Entry {
            op,
            term: Term::new(number(random)),
            payload: payload(random),
        }
    };
    (0..count).map(next).collect()
}

fn round(random: &mut Prng) -> Round {
    Round {
        boot: number(random),
        number: number(random),
    }
}

/// A message of one kind.
#[expect(clippy::too_many_lines, reason = "one arm for each kind")]
pub(crate) fn message(random: &mut Prng, kind: u64) -> Message {
    let term = Term::new(number(random));
    let body = match kind {
        0 => Body::PreVote {
            last: position(random),
        },
        1 => Body::PreVoteReply {
            is_granted: flip(random),
        },
        2 => Body::Vote {
            last: position(random),
            is_transfer: flip(random),
        },
        3 => Body::VoteReply {
            is_granted: flip(random),
        },
        4 => {
            let previous = position(random);
            Body::Append {
                previous,
                commit: op(random),
                entries: entries(random, previous),
            }
        }
        5 => Body::Commit { commit: op(random) },
        6 => Body::Ack {
            matched: op(random),
            is_recovering: flip(random),
        },
        7 => Body::Conflict {
            at: op(random),
            term: Term::new(number(random)),
            first: op(random),
        },
        8 => Body::Heartbeat {
            round: number(random),
            commit: op(random),
            stamp: Time::from_nanos(number(random)),
        },
        9 => Body::HeartbeatReply {
            round: number(random),
            stamp: Time::from_nanos(number(random)),
            seen: op(random),
            matched: op(random),
            last: op(random),
            is_recovering: flip(random),
        },
        10 => Body::ReadProbe {
            round: round(random),
        },
        11 => Body::ReadProbeReply {
            round: round(random),
            read: flip(random).then(|| ReadPoint {
                op: op(random),
                configuration: position(random),
            }),
        },
        12 => Body::Forward {
            commands: (0..pick(random, 5)).map(|_| command(random)).collect(),
        },
        13 => Body::TimeoutNow,
        14 => Body::Offer {
            manifest: Arc::new(manifest(random)),
        },
        15 => Body::Want {
            op: op(random),
            chunks: (0..).take(pick(random, 9)).collect(),
        },
        _ => Body::Chunk {
            op: op(random),
            index: 7,
            bytes: bytes(random),
        },
    };
    Message { term, body }
}

/// Some of each kind, the same for ever.
pub(crate) fn messages() -> Vec<Message> {
    let mut random = Prng::new(20_261_127);
    let mut all: Vec<Message> = (0..KINDS)
        .chain(0..KINDS)
        .map(|kind| message(&mut random, kind))
        .collect();
    let command = Command {
        origin: Origin {
            node: NodeId::new(1),
            boot: 2,
        },
        sequence: 3,
        flags: Flags {
            is_numbered: true,
            is_origin_counted: true,
        },
        body: Bytes::from_static(b"put"),
    };
    let voters = [1, 2, 3].map(NodeId::new);
    let payloads = [
        Payload::Blank,
        Payload::Command(command),
        Payload::Configuration(Arc::new(Configuration::new(voters))),
    ];
    let entries = (8..).zip(payloads).map(|(op, payload)| Entry {
        op: Op::new(op),
        term: Term::new(5),
        payload,
    });
    let body = Body::Append {
        previous: Position {
            term: Term::new(4),
            op: Op::new(7),
        },
        commit: Op::new(6),
        entries: entries.collect(),
    };
    let term = Term::new(5);
    all.insert(0, Message { term, body });
    all
}

/// About what a message takes in memory, beside the slices of its input.
pub(crate) fn weight(message: &Message) -> usize {
    let entry = |entry: &Entry| {
        let inner = match &entry.payload {
            Payload::Configuration(it) => 8 * it.members().len() + 24 * it.joining().len() + 100,
            Payload::Blank | Payload::Command(_) => 0,
        };
        size_of::<Entry>() + inner
    };
    match &message.body {
        Body::Append { entries, .. } => entries.iter().map(entry).sum(),
        Body::Forward { commands } => size_of_val(commands.as_slice()),
        Body::Want { chunks, .. } => size_of_val(chunks.as_slice()),
        Body::Offer { manifest } => {
            let windows = manifest.checkpoint.windows.parts();
            let words: usize = windows.map(|it| it.2.len()).sum();
            size_of_val(manifest.chunks.as_slice()) + 8 * words
        }
        _ => 0,
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn unhex(text: &str) -> Bytes {
    let digits: Vec<u8> = text
        .chars()
        .filter(|it| !it.is_whitespace())
        .map(|it| u8::try_from(it.to_digit(16).expect("a hex digit")).expect("small"))
        .collect();
    digits
        .chunks(2)
        .map(|pair| pair[0] << 4 | pair[1])
        .collect()
}
