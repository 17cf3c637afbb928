//! What islands say to each other, what goes into a site's log, and what it keeps, as bytes.
//!
//! ```text
//! message   u8 version 1, u8 kind, then the fields in the order of their declaration
//! proposal  likewise
//! island    u8 version 1, u8 slot, u32 epoch, u64 hlc, tips, u8 1 and a session or u8 0
//!
//! slot      u8                          number   varint
//! key       varint length, bytes        list     varint count, the elements
//! vector    u8 n, n x (u8 slot, varint seq)
//! session   u64 id, tips            ask, tell  a body, as `seek` says
//! tips      u8 n, n x (u8 slot, varint seq, [32] chain, vector)
//! roster    a body, as `roster` says
//! ```
//!
//! A word of how far a site is had kind 1 before it named its table and its newest update, and kind
//! 13 before it named everybody's newest; both are still read. Kinds 6 to 8 of messages were a session that listed all keys; proposal 4 ends one, and stands
//! in logs. Numbers of a fixed length are little-endian. What is large in what was read is a slice of
//! the bytes that it was read from.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use bytes::{BufMut, Bytes, BytesMut};

use crate::clock::Hlc;
use crate::encode::{DecodeError, Reader, put_body, put_varint};
use crate::exchange::Proposal;
use crate::island::{Hush, Island, Session, Tip};
use crate::message::Message;
use crate::ranges::Short;
use crate::roster::Roster;
use crate::seek::{Ask, Tell};
use crate::update::Chain;
use crate::vector::{Dot, Slot, Vector};

const VERSION: u8 = 1;

impl Message {
    /// Adds its bytes to `out`.
    pub fn encode(&self, out: &mut BytesMut) {
        out.put_u8(VERSION);
        match self {
            Self::Beat {
                vector,
                epoch,
                head,
                chains,
                asks,
                keeps_back,
            } => {
                // Releases that do not know 16 hear of such a site once it says all that it has.
                out.put_u8(if *keeps_back { 16 } else { 15 });
                vector.encode(out);
                out.put_u8(u8::from(*asks));
                out.put_u32_le(*epoch);
                out.put_slice(&head.0);
                out.put_u8(u8::try_from(chains.len()).expect("one a slot"));
                chains.iter().for_each(|it| out.put_u64_le(*it));
            }
            Self::Forked { dot } => {
                out.put_u8(14);
                out.put_u8(dot.slot.value());
                put_varint(out, dot.seq);
            }
            Self::Updates { slot, updates } => {
                out.reserve(updates.iter().map(|it| it.len() + 5).sum::<usize>() + 16);
                out.put_u8(2);
                out.put_u8(slot.value());
                put_bodies(out, updates);
            }
            Self::Pull { slot, after } => {
                out.put_u8(3);
                out.put_u8(slot.value());
                put_varint(out, *after);
            }
            Self::Truncated { slot } => {
                out.put_u8(4);
                out.put_u8(slot.value());
            }
            Self::Open { session } => {
                out.put_u8(5);
                out.put_u64_le(*session);
            }
            Self::Opened {
                session,
                tips,
                total,
            } => {
                out.put_u8(9);
                out.put_u64_le(*session);
                put_tips(out, tips);
                out.put_slice(total);
            }
            Self::Ask(ask) => {
                out.put_u8(10);
                put_body(out, &ask.encode());
            }
            Self::Tell(tell) => {
                out.put_u8(11);
                put_body(out, &tell.encode());
            }
            Self::Done { session } => {
                out.put_u8(12);
                out.put_u64_le(*session);
            }
        }
    }

    /// Reads what [`Message::encode`] wrote.
    ///
    /// # Errors
    ///
    /// As [`DecodeError`] says; the bytes may come from anybody.
    pub fn decode(bytes: &Bytes) -> Result<Self, DecodeError> {
        let what = "a message between islands";
        let mut reader = opened(bytes, what)?;
        let message = match reader.byte(what)? {
            1 => Self::Beat {
                vector: Vector::decode(&mut reader)?,
                asks: flag(&mut reader, what)?,
                epoch: 1,
                head: Chain::default(),
                chains: Vec::new(),
                keeps_back: false,
            },
            13 => Self::Beat {
                vector: Vector::decode(&mut reader)?,
                asks: flag(&mut reader, what)?,
                epoch: reader.u32(what)?,
                head: hash(&mut reader, what)?,
                chains: Vec::new(),
                keeps_back: false,
            },
            tag @ (15 | 16) => Self::Beat {
                vector: Vector::decode(&mut reader)?,
                asks: flag(&mut reader, what)?,
                epoch: reader.u32(what)?,
                head: hash(&mut reader, what)?,
                chains: chains(&mut reader, what)?,
                keeps_back: tag == 16,
            },
            14 => Self::Forked {
                dot: Dot {
                    slot: reader.slot()?,
                    seq: reader.varint(what)?,
                },
            },
            2 => Self::Updates {
                slot: reader.slot()?,
                updates: bodies(&mut reader, what)?,
            },
            3 => Self::Pull {
                slot: reader.slot()?,
                after: reader.varint(what)?,
            },
            4 => Self::Truncated {
                slot: reader.slot()?,
            },
            5 => Self::Open {
                session: reader.u64(what)?,
            },
            9 => Self::Opened {
                session: reader.u64(what)?,
                tips: tips(&mut reader, what)?,
                total: short(&mut reader, what)?,
            },
            10 => Self::Ask(Ask::decode(reader.body(what)?)?),
            11 => Self::Tell(Tell::decode(reader.body(what)?)?),
            12 => Self::Done {
                session: reader.u64(what)?,
            },
            _unknown => return Err(DecodeError::Wrong { what }),
        };
        reader.end(what)?;
        Ok(message)
    }
}

impl Proposal {
    /// Adds its bytes to `out`.
    pub fn encode(&self, out: &mut BytesMut) {
        out.put_u8(VERSION);
        match self {
            Self::Updates(updates) => {
                out.put_u8(1);
                put_bodies(out, updates);
            }
            Self::Begin(session) => {
                out.put_u8(2);
                put_session(out, session);
            }
            Self::Stage { session, states } => {
                out.put_u8(3);
                out.put_u64_le(*session);
                put_states(out, states);
            }
            Self::Install { session, keys } => {
                out.put_u8(4);
                out.put_u64_le(*session);
                put_varint(out, *keys);
            }
            Self::GiveUp { session } => {
                out.put_u8(5);
                out.put_u64_le(*session);
            }
            Self::Forget(stable) => {
                out.put_u8(6);
                stable.encode(out);
            }
            Self::Join { session, keys } => {
                out.put_u8(7);
                out.put_u64_le(*session);
                put_varint(out, *keys);
            }
            Self::Follow(roster) => {
                out.put_u8(8);
                put_body(out, &roster.encode());
            }
            Self::Stop(slot) => {
                out.put_u8(9);
                out.put_u8(slot.value());
            }
            Self::SetBack { run } => {
                out.put_u8(10);
                out.put_u64_le(*run);
            }
            Self::Rebase { session, keys } => {
                out.put_u8(11);
                out.put_u64_le(*session);
                put_varint(out, *keys);
            }
            Self::Hush { run, hush } => {
                out.put_u8(12);
                out.put_u64_le(*run);
                put_hush(out, hush);
            }
            Self::Speak { run } => {
                out.put_u8(13);
                out.put_u64_le(*run);
            }
        }
    }

    /// About how many bytes it takes.
    #[must_use]
    pub fn size_hint(&self) -> usize {
        let bodies = match self {
            Self::Updates(updates) => updates.iter().map(|it| it.len() + 5).sum(),
            Self::Stage { states, .. } => {
                let each = states.iter();
                each.map(|(key, state)| key.len() + state.len() + 10).sum()
            }
            Self::Begin(session) => session.tips.len() * 64,
            Self::Forget(stable) => stable.iter().count() * 11,
            Self::Hush { hush, .. } => hush.told.len() * 43,
            Self::Follow(roster) => roster.nodes.values().map(|it| 64 + it.len() * 8).sum(),
            Self::Install { .. }
            | Self::Join { .. }
            | Self::GiveUp { .. }
            | Self::Stop(_)
            | Self::Rebase { .. }
            | Self::SetBack { .. }
            | Self::Speak { .. } => 0,
        };
        bodies + 32
    }

    /// Reads what [`Proposal::encode`] wrote.
    ///
    /// # Errors
    ///
    /// As [`DecodeError`] says.
    pub fn decode(bytes: &Bytes) -> Result<Self, DecodeError> {
        let what = "an island's entry";
        let mut reader = opened(bytes, what)?;
        let proposal = match reader.byte(what)? {
            1 => Self::Updates(bodies(&mut reader, what)?),
            2 => Self::Begin(session(&mut reader, what)?),
            3 => Self::Stage {
                session: reader.u64(what)?,
                states: states(&mut reader, what)?,
            },
            4 => Self::Install {
                session: reader.u64(what)?,
                keys: reader.varint(what)?,
            },
            5 => Self::GiveUp {
                session: reader.u64(what)?,
            },
            6 => Self::Forget(Vector::decode(&mut reader)?),
            7 => Self::Join {
                session: reader.u64(what)?,
                keys: reader.varint(what)?,
            },
            8 => Self::Follow(Roster::decode(reader.body(what)?)?),
            9 => Self::Stop(reader.slot()?),
            10 => Self::SetBack {
                run: reader.u64(what)?,
            },
            11 => Self::Rebase {
                session: reader.u64(what)?,
                keys: reader.varint(what)?,
            },
            12 => Self::Hush {
                run: reader.u64(what)?,
                hush: hush(&mut reader, what)?,
            },
            13 => Self::Speak {
                run: reader.u64(what)?,
            },
            _unknown => return Err(DecodeError::Wrong { what }),
        };
        reader.end(what)?;
        Ok(proposal)
    }
}

impl Island {
    /// All of it, to be kept beside the keys.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(128);
        out.put_u8(VERSION);
        out.put_u8(self.slot().value());
        out.put_u32_le(self.epoch());
        out.put_u64_le(self.hlc().value());
        put_tips(&mut out, self.tips());
        match self.session() {
            None => out.put_u8(0),
            Some(session) => {
                out.put_u8(1);
                put_session(&mut out, session);
            }
        }
        // Older releases wrote nothing here.
        if let Some(hush) = self.hush() {
            put_hush(&mut out, hush);
        }
        out.freeze()
    }

    /// Reads what [`Island::encode`] wrote.
    ///
    /// # Errors
    ///
    /// As [`DecodeError`] says.
    pub fn decode(bytes: &Bytes) -> Result<Self, DecodeError> {
        let what = "what an island has taken in";
        let mut reader = opened(bytes, what)?;
        let (slot, epoch) = (reader.slot()?, reader.u32(what)?);
        let hlc = Hlc::new(reader.u64(what)?);
        let tips = tips(&mut reader, what)?;
        let session = if flag(&mut reader, what)? {
            Some(session(&mut reader, what)?)
        } else {
            None
        };
        let mut island = Self::again((slot, epoch), hlc, tips, session);
        if !reader.is_at_end() {
            island.hush_up(hush(&mut reader, what)?);
        }
        reader.end(what)?;
        Ok(island)
    }
}

fn opened(bytes: &Bytes, what: &'static str) -> Result<Reader, DecodeError> {
    let mut reader = Reader::new(bytes.clone());
    let version = reader.byte(what)?;
    if version != VERSION {
        return Err(DecodeError::Version { what, version });
    }
    Ok(reader)
}

fn flag(reader: &mut Reader, what: &'static str) -> Result<bool, DecodeError> {
    match reader.byte(what)? {
        0 => Ok(false),
        1 => Ok(true),
        _other => Err(DecodeError::Wrong { what }),
    }
}

fn hash(reader: &mut Reader, what: &'static str) -> Result<Chain, DecodeError> {
    let mut hash = Chain::default();
    hash.0.copy_from_slice(&reader.take(32, what)?);
    Ok(hash)
}

fn chains(reader: &mut Reader, what: &'static str) -> Result<Vec<u64>, DecodeError> {
    let count = reader.byte(what)?;
    (0..count).map(|_| reader.u64(what)).collect()
}

fn short(reader: &mut Reader, what: &'static str) -> Result<Short, DecodeError> {
    reader.array(what)
}

fn put_count(out: &mut BytesMut, count: usize) {
    put_varint(out, u64::try_from(count).expect("a length fits 64 bits"));
}

fn put_bodies(out: &mut BytesMut, bodies: &[Bytes]) {
    put_count(out, bodies.len());
    bodies.iter().for_each(|body| put_body(out, body));
}

/// A list; what its count says is not believed before it is there.
fn list<T>(
    reader: &mut Reader,
    what: &'static str,
    each: impl Fn(&mut Reader) -> Result<T, DecodeError>,
) -> Result<Vec<T>, DecodeError> {
    let mut found = Vec::new();
    for _ in 0..reader.varint(what)? {
        found.push(each(reader)?);
    }
    Ok(found)
}

fn bodies(reader: &mut Reader, what: &'static str) -> Result<Vec<Bytes>, DecodeError> {
    list(reader, what, |reader| reader.body(what))
}

fn put_states(out: &mut BytesMut, states: &[(Bytes, Bytes)]) {
    put_count(out, states.len());
    for (key, state) in states {
        put_body(out, key);
        put_body(out, state);
    }
}

fn states(reader: &mut Reader, what: &'static str) -> Result<Vec<(Bytes, Bytes)>, DecodeError> {
    list(reader, what, |reader| {
        Ok((reader.body(what)?, reader.body(what)?))
    })
}

fn put_tips(out: &mut BytesMut, tips: &BTreeMap<Slot, Tip>) {
    out.put_u8(u8::try_from(tips.len()).expect("there are 255 slots"));
    for (slot, tip) in tips {
        out.put_u8(slot.value());
        put_varint(out, tip.seq);
        out.put_slice(&tip.chain.0);
        tip.deps.encode(out);
    }
}

fn tips(reader: &mut Reader, what: &'static str) -> Result<BTreeMap<Slot, Tip>, DecodeError> {
    let mut tips = BTreeMap::new();
    for _ in 0..reader.byte(what)? {
        let slot = reader.slot()?;
        let seq = reader.varint(what)?;
        let chain = Chain(reader.array(what)?);
        let deps = Vector::decode(reader)?;
        let is_in_order = tips.last_key_value().is_none_or(|(last, _)| *last < slot);
        if !is_in_order || seq == 0 {
            return Err(DecodeError::Wrong { what });
        }
        tips.insert(slot, Tip { seq, chain, deps });
    }
    Ok(tips)
}

fn put_session(out: &mut BytesMut, session: &Session) {
    out.put_u64_le(session.id);
    put_tips(out, &session.tips);
}

fn put_hush(out: &mut BytesMut, hush: &Hush) {
    out.put_u8(hush.slot.value());
    out.put_u8(u8::try_from(hush.told.len()).expect("there are 255 slots"));
    for (slot, (seq, chain)) in &hush.told {
        out.put_u8(slot.value());
        put_varint(out, *seq);
        out.put_slice(&chain.0);
    }
}

fn hush(reader: &mut Reader, what: &'static str) -> Result<Hush, DecodeError> {
    let slot = reader.slot()?;
    let mut told = BTreeMap::new();
    for _ in 0..reader.byte(what)? {
        let of = reader.slot()?;
        let tip = (reader.varint(what)?, hash(reader, what)?);
        if told.insert(of, tip).is_some() {
            return Err(DecodeError::Wrong { what });
        }
    }
    Ok(Hush { slot, told })
}

fn session(reader: &mut Reader, what: &'static str) -> Result<Session, DecodeError> {
    Ok(Session {
        id: reader.u64(what)?,
        tips: tips(reader, what)?,
    })
}

/// Which update wrote what a key shows, and when: what a record of an engine carries of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The update.
    pub dot: Dot,
    /// Its time.
    pub hlc: Hlc,
}

impl Mark {
    /// As bytes: slot, number, time; 10 to 19 of them.
    #[must_use]
    pub fn encode(self) -> Bytes {
        let mut out = BytesMut::with_capacity(19);
        out.put_u8(self.dot.slot.value());
        put_varint(&mut out, self.dot.seq);
        out.put_u64_le(self.hlc.value());
        out.freeze()
    }

    /// Reads what [`Mark::encode`] wrote.
    ///
    /// # Errors
    ///
    /// As [`DecodeError`] says.
    pub fn decode(bytes: &Bytes) -> Result<Self, DecodeError> {
        let what = "a mark";
        let mut reader = Reader::new(bytes.clone());
        let (slot, seq) = (reader.slot()?, reader.varint(what)?);
        let hlc = Hlc::new(reader.u64(what)?);
        reader.end(what)?;
        let dot = Dot { slot, seq };
        Ok(Self { dot, hlc })
    }
}
