//! What replicas say to each other: Raft's messages, and questions to the leader that are not
//! ordered by the log.
//!
//! What would surprise: a question names the op that its asker has applied, and the leader
//! answers it no earlier. A site may know that a command is committed before its leader does,
//! and a lease that was granted here must not be unknown there.
//!
//! ```text
//! question and answer, 40 bytes, little-endian
//!  0 1  version = 1     8 8  id          24 8  first number (lease, node, seconds, op)
//!  1 1  what           16 8  op          32 8  second number, or 0
//!  2 6  0
//!
//! of islands   0 1  slot of who speaks     1 ..  the word
//! ```

use bytes::{Buf, BufMut, Bytes, BytesMut};
use holm_base::{NodeId, Op};
use holm_local_first::{DecodeError, Message as IslandWord, Slot};
use holm_raft::{Change, Outcome, Refused};

const VERSION: u8 = 1;
const BYTES: usize = 40;

/// What replicas say to each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// Raft's own words.
    Raft(holm_raft::Message),
    /// A question to the leader.
    Ask(Ask),
    /// The leader's answer.
    Told(Told),
    /// What an island of a local-first keyspace says, and by which slot: a node that was let go and
    /// came back has another. None where that is not said, as before there were such nodes.
    Island(Option<Slot>, IslandWord),
}

/// A question to the leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ask {
    /// The asker's number for it.
    pub id: u64,
    /// What the asker has applied: the answer must know as much.
    pub op: Op,
    /// What is wanted.
    pub wish: Wish,
}

/// What a leader can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// Keep a lease alive.
    Renew {
        /// The lease.
        lease: i64,
    },
    /// Say how long a lease has to live.
    TimeToLive {
        /// The lease.
        lease: i64,
    },
    /// Change who belongs to the group.
    Change(Change),
}

/// An answer to [`Ask`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    /// The asker's number.
    pub id: u64,
    /// What the leader had applied.
    pub op: Op,
    /// What it says.
    pub word: Word,
}

/// What a leader answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// The lease lives on, for so many seconds.
    Renewed {
        /// Seconds.
        ttl: i64,
    },
    /// How a lease stands.
    Left {
        /// Seconds that are left; -1 if there is no such lease.
        ttl: i64,
        /// Seconds that were granted.
        granted: i64,
    },
    /// The change is committed.
    Done(Outcome),
    /// The change was not made.
    NotDone(Refused),
    /// There is no such lease.
    NoLease,
    /// Too much waits there.
    Busy,
    /// Its log is stuck.
    Stalled,
    /// It does not lead: ask another.
    NotLeader,
}

/// Why bytes are no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// No such kind.
    #[error("there is no message of kind {kind}")]
    Kind {
        /// What was found.
        kind: u8,
    },
    /// Raft's part is malformed.
    #[error("decode a message of raft")]
    Raft(#[from] holm_raft::DecodeError),
    /// An island's words are malformed.
    #[error("decode a message between islands")]
    Island(#[from] DecodeError),
    /// A question or an answer is malformed.
    #[error("decode a question to the leader or its answer")]
    Malformed,
}

impl Message {
    /// The kind of frame that carries Raft's words.
    pub const KIND_RAFT: u8 = 16;
    /// The kind of frame that carries a question.
    pub const KIND_ASK: u8 = 17;
    /// The kind of frame that carries an answer.
    pub const KIND_TOLD: u8 = 18;
    /// The kind of frame that carries what islands say without their slot. Not sent any more.
    const KIND_ISLAND_UNNAMED: u8 = 19;
    /// The kind of frame that carries what islands say.
    pub const KIND_ISLAND: u8 = 20;

    /// Whether frames of this kind carry what islands say.
    #[must_use]
    pub const fn is_of_islands(kind: u8) -> bool {
        matches!(kind, Self::KIND_ISLAND | Self::KIND_ISLAND_UNNAMED)
    }

    /// The kind of frame that carries it.
    #[must_use]
    pub const fn kind(&self) -> u8 {
        match self {
            Self::Raft(_) => Self::KIND_RAFT,
            Self::Ask(_) => Self::KIND_ASK,
            Self::Told(_) => Self::KIND_TOLD,
            Self::Island(None, _) => Self::KIND_ISLAND_UNNAMED,
            Self::Island(Some(_), _) => Self::KIND_ISLAND,
        }
    }

    /// Whether it is short and urgent: it must not wait behind entries and chunks.
    #[must_use]
    pub const fn is_control(&self) -> bool {
        match self {
            Self::Raft(message) => !matches!(
                message.body,
                holm_raft::Body::Append { .. }
                    | holm_raft::Body::Forward { .. }
                    | holm_raft::Body::Offer { .. }
                    | holm_raft::Body::Chunk { .. }
            ),
            Self::Ask(_) | Self::Told(_) => true,
            // What one island says to another must arrive in order.
            Self::Island(..) => false,
        }
    }

    /// Adds its bytes to `out`.
    pub fn encode(&self, out: &mut BytesMut) {
        match self {
            Self::Raft(message) => message.encode(out),
            Self::Ask(ask) => {
                let (what, first, second) = wish_numbers(ask.wish);
                put(out, what, (ask.id, ask.op), (first, second));
            }
            Self::Told(told) => {
                let (what, first, second) = word_numbers(told.word);
                put(out, what, (told.id, told.op), (first, second));
            }
            Self::Island(by, word) => {
                by.iter().for_each(|slot| out.put_u8(slot.value()));
                word.encode(out);
            }
        }
    }

    /// Reads a message from a frame of this kind. What is large in it shares `bytes`.
    ///
    /// # Errors
    ///
    /// If the bytes are no such message; they may come from anybody.
    pub fn decode(kind: u8, bytes: &Bytes) -> Result<Self, MessageError> {
        match kind {
            Self::KIND_RAFT => Ok(Self::Raft(holm_raft::Message::decode(bytes)?)),
            Self::KIND_ASK => {
                let (what, (id, op), numbers) = take(bytes)?;
                let wish = wish(what, numbers).ok_or(MessageError::Malformed)?;
                Ok(Self::Ask(Ask { id, op, wish }))
            }
            Self::KIND_TOLD => {
                let (what, (id, op), numbers) = take(bytes)?;
                let word = word(what, numbers).ok_or(MessageError::Malformed)?;
                Ok(Self::Told(Told { id, op, word }))
            }
            Self::KIND_ISLAND_UNNAMED => Ok(Self::Island(None, IslandWord::decode(bytes)?)),
            Self::KIND_ISLAND => {
                let slot = bytes.first().copied().and_then(Slot::new);
                let slot = slot.ok_or(MessageError::Malformed)?;
                let word = IslandWord::decode(&bytes.slice(1..))?;
                Ok(Self::Island(Some(slot), word))
            }
            1..=15 | 21..=u8::MAX | 0 => Err(MessageError::Kind { kind }),
        }
    }
}

fn put(out: &mut BytesMut, what: u8, (id, op): (u64, Op), (first, second): (u64, u64)) {
    out.reserve(BYTES);
    out.put_u8(VERSION);
    out.put_u8(what);
    out.put_bytes(0, 6);
    for number in [id, op.value(), first, second] {
        out.put_u64_le(number);
    }
}

type Numbers = (u64, u64);

fn take(bytes: &Bytes) -> Result<(u8, (u64, Op), Numbers), MessageError> {
    let mut rest: &[u8] = bytes;
    if rest.len() != BYTES || rest[0] != VERSION || rest[2..8] != [0; 6] {
        return Err(MessageError::Malformed);
    }
    let what = rest[1];
    rest.advance(8);
    let (id, op) = (rest.get_u64_le(), Op::new(rest.get_u64_le()));
    Ok((what, (id, op), (rest.get_u64_le(), rest.get_u64_le())))
}

const fn wish_numbers(wish: Wish) -> (u8, u64, u64) {
    match wish {
        Wish::Renew { lease } => (1, lease.cast_unsigned(), 0),
        Wish::TimeToLive { lease } => (2, lease.cast_unsigned(), 0),
        Wish::Change(Change::AddLearner(node)) => (3, node.value(), 0),
        Wish::Change(Change::AddVoter(node)) => (4, node.value(), 0),
        Wish::Change(Change::Promote(node)) => (5, node.value(), 0),
        Wish::Change(Change::Demote(node)) => (6, node.value(), 0),
        Wish::Change(Change::Remove(node)) => (7, node.value(), 0),
        Wish::Change(Change::Replace { outgoing, incoming }) => {
            (8, outgoing.value(), incoming.value())
        }
    }
}

const fn wish(what: u8, (first, second): Numbers) -> Option<Wish> {
    let (lease, node) = (first.cast_signed(), NodeId::new(first));
    Some(match what {
        1 => Wish::Renew { lease },
        2 => Wish::TimeToLive { lease },
        3 => Wish::Change(Change::AddLearner(node)),
        4 => Wish::Change(Change::AddVoter(node)),
        5 => Wish::Change(Change::Promote(node)),
        6 => Wish::Change(Change::Demote(node)),
        7 => Wish::Change(Change::Remove(node)),
        8 => Wish::Change(Change::Replace {
            outgoing: node,
            incoming: NodeId::new(second),
        }),
        0 | 9..=u8::MAX => return None,
    })
}

const fn word_numbers(word: Word) -> (u8, u64, u64) {
    match word {
        Word::Renewed { ttl } => (1, ttl.cast_unsigned(), 0),
        Word::Left { ttl, granted } => (2, ttl.cast_unsigned(), granted.cast_unsigned()),
        Word::Done(Outcome::Changed { op }) => (3, op.value(), 0),
        Word::Done(Outcome::Moved { leader }) => (4, leader.value(), 0),
        Word::NoLease => (16, 0, 0),
        Word::Busy => (17, 0, 0),
        Word::Stalled => (18, 0, 0),
        Word::NotLeader => (19, 0, 0),
        Word::NotDone(Refused::NotLeader { leader }) => {
            let leader = match leader {
                Some(leader) => leader.value(),
                None => 0,
            };
            (32, leader, 0)
        }
        Word::NotDone(Refused::Busy) => (33, 0, 0),
        Word::NotDone(Refused::TooLarge) => (34, 0, 0),
        Word::NotDone(Refused::NotReady) => (35, 0, 0),
        Word::NotDone(Refused::NotMember) => (36, 0, 0),
        Word::NotDone(Refused::LeaderChanged) => (37, 0, 0),
        Word::NotDone(Refused::NoSuchChange) => (38, 0, 0),
        Word::NotDone(Refused::NotInSync) => (39, 0, 0),
        Word::NotDone(Refused::NoLiveQuorum) => (40, 0, 0),
        Word::NotDone(Refused::TooManyMembers) => (41, 0, 0),
        Word::NotDone(Refused::TransferTimedOut) => (42, 0, 0),
        Word::NotDone(Refused::Unsupported) => (43, 0, 0),
        Word::NotDone(Refused::TimedOut) => (44, 0, 0),
    }
}

fn word(what: u8, (first, second): Numbers) -> Option<Word> {
    Some(match what {
        1 => Word::Renewed {
            ttl: first.cast_signed(),
        },
        2 => Word::Left {
            ttl: first.cast_signed(),
            granted: second.cast_signed(),
        },
        3 => Word::Done(Outcome::Changed { op: Op::new(first) }),
        4 => Word::Done(Outcome::Moved {
            leader: NodeId::new(first),
        }),
        16 => Word::NoLease,
        17 => Word::Busy,
        18 => Word::Stalled,
        19 => Word::NotLeader,
        32 => Word::NotDone(Refused::NotLeader {
            leader: Some(first).filter(|it| *it > 0).map(NodeId::new),
        }),
        33 => Word::NotDone(Refused::Busy),
        34 => Word::NotDone(Refused::TooLarge),
        35 => Word::NotDone(Refused::NotReady),
        36 => Word::NotDone(Refused::NotMember),
        37 => Word::NotDone(Refused::LeaderChanged),
        38 => Word::NotDone(Refused::NoSuchChange),
        39 => Word::NotDone(Refused::NotInSync),
        40 => Word::NotDone(Refused::NoLiveQuorum),
        41 => Word::NotDone(Refused::TooManyMembers),
        42 => Word::NotDone(Refused::TransferTimedOut),
        43 => Word::NotDone(Refused::Unsupported),
        44 => Word::NotDone(Refused::TimedOut),
        0 | 5..=15 | 20..=31 | 45..=u8::MAX => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(message: &Message) -> Result<Message, MessageError> {
        let mut bytes = BytesMut::new();
        message.encode(&mut bytes);
        Message::decode(message.kind(), &bytes.freeze())
    }

    #[test]
    fn every_question_and_answer_survives_the_wire() {
        let (id, op) = (7, Op::new(9));
        let mut read = 0;
        for what in 0..=u8::MAX {
            if let Some(wish) = wish(what, (u64::MAX, 5)) {
                let message = Message::Ask(Ask { id, op, wish });
                assert_eq!(round(&message), Ok(message), "wish {what}");
                read += 1;
            }
            if let Some(word) = word(what, (u64::MAX, 5)) {
                let message = Message::Told(Told { id, op, word });
                assert_eq!(round(&message), Ok(message), "word {what}");
                read += 1;
            }
        }
        assert_eq!(read, 8 + 8 + 13, "all are known");
    }

    #[test]
    fn what_an_island_says_comes_with_its_slot_or_as_before_without() {
        let word = IslandWord::Done { session: 9 };
        for by in [None, Slot::new(1), Slot::new(255)] {
            let message = Message::Island(by, word.clone());
            assert_eq!(round(&message), Ok(message));
        }
        let mut bytes = BytesMut::from(&[0][..]);
        word.encode(&mut bytes);
        let nobody = Message::decode(Message::KIND_ISLAND, &bytes.freeze());
        assert_eq!(nobody, Err(MessageError::Malformed));
    }

    #[test]
    fn what_is_no_question_is_refused() {
        let wish = Wish::Renew { lease: -1 };
        let op = Op::new(9);
        let mut good = BytesMut::new();
        Message::Ask(Ask { id: 1, op, wish }).encode(&mut good);
        let decode = |bytes: &[u8]| Message::decode(17, &Bytes::copy_from_slice(bytes));
        assert!(decode(&good).is_ok());
        for len in 0..good.len() {
            assert_eq!(decode(&good[..len]), Err(MessageError::Malformed), "{len}");
        }
        for (at, byte) in [(0, 2), (1, 0), (1, 99), (2, 1)] {
            let mut bad = good.clone();
            bad[at] = byte;
            assert_eq!(decode(&bad), Err(MessageError::Malformed), "{at}");
        }
        let error = Message::decode(3, &good.freeze());
        assert_eq!(error, Err(MessageError::Kind { kind: 3 }));
    }
}
