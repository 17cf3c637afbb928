//! A session that looks for what differs, instead of listing all keys.
//!
//! ```text
//! asker: Ask{ranges, wants} ─► Tell{ranges, states, rest} ─► Ask ... until nothing is open
//!        ▲ pinned after the other side                       then the states are installed
//! ```
//!
//! Both sides have pinned an index (a copy of a [`Tree`](crate::Tree)) and the states with it. The asker
//! drives; who answers keeps nothing but its pin. A list of keys that the answering side reads
//! is answered with the states of those that differ, at once; what does not fit is named in
//! `rest` and asked for. So a million keys of which ten differ take three round trips.
//!
//! ```text
//! ask    u8 version 3, u64 session, varint number, varint length, ranges, names, [16] total
//! tell   u8 version 2, u64 session, varint number, varint length, ranges, names,
//!        varint n, n x (varint length, name, u8 0 or u8 1, varint length, key, varint length, state)
//! names  varint n, n x (varint length, name)
//! ```
//!
//! Questions have numbers, and an answer says which one it is of: a network may bring one twice,
//! and taken for the next one's it would leave keys out. And a question says what the pinned keys
//! amount to: an opening that the network doubled may pin anew at a side that was restarted.
//!
//! What would surprise: what is open is kept by the asker and asked for in parts, so that no
//! message grows with the number of differences. And a key that the answering side lacks is told
//! of as well: that it is absent there is what differs.

use alloc::collections::{BTreeSet, VecDeque};
use alloc::vec::Vec;

use bytes::{BufMut, Bytes, BytesMut};

use crate::encode::{DecodeError, Reader, put_body, put_varint};
use crate::ranges::{Claim, Index, Ranges, Short};
use crate::state::State;

/// Version 1 had no numbers; nothing ever sent it.
const VERSION: u8 = 2;
/// Version 2 of a question did not say what the pinned keys amount to.
const VERSION_OF_ASK: u8 = 3;
/// How many ranges one question says something of, and how many names it has.
pub const CLAIMS_MAX: usize = 4096;
/// About how many bytes of each a question has.
pub const ASK_BYTES_MAX: usize = 1 << 20;

/// What the asker says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ask {
    /// Of which session.
    pub session: u64,
    /// Which question of it.
    pub number: u64,
    /// What it has.
    pub ranges: Ranges,
    /// The keys whose states it wants, by their names in the index.
    pub wants: Vec<Bytes>,
    /// What all keys of the other side amounted to when it pinned them: from other ones it must
    /// not answer.
    pub total: Short,
}

/// A key by its name in the index, and what it is: the whole key and its state, or absent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// Its name in the index: the key itself unless that is long.
    pub name: Bytes,
    /// The key and its state, as it is written; none if the side that tells does not have it.
    pub found: Option<(Bytes, Bytes)>,
}

impl Named {
    /// How it is staged: a key that the other side lacks with an empty state, under its name, for
    /// only who has it knows what it is called.
    #[must_use]
    pub fn staged(self) -> (Bytes, Bytes) {
        let Self { name, found } = self;
        found.unwrap_or_else(|| (name, State::new().encode()))
    }
}

/// What the other side says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tell {
    /// Of which session.
    pub session: u64,
    /// Of which question.
    pub number: u64,
    /// What it has, of the ranges that differ.
    pub ranges: Ranges,
    /// Keys that differ, or that were asked for.
    pub states: Vec<Named>,
    /// Keys of which the same is true and which did not fit.
    pub rest: Vec<Bytes>,
}

/// The asker of a session, as far as it has come.
#[derive(Clone, Debug)]
pub struct Seek<I> {
    session: u64,
    /// The newest question.
    number: u64,
    /// What the other side's keys amount to.
    theirs: Short,
    index: I,
    /// What is yet to be said: begin and end of a range, and the claim.
    open: VecDeque<(Bytes, Bytes, Claim)>,
    wants: BTreeSet<Bytes>,
    /// What was asked for and has not come.
    asked: BTreeSet<Bytes>,
    is_waiting: bool,
}

impl<I: Index> Seek<I> {
    /// Begins, with an index that was pinned after the other side said what its own amounts to.
    #[must_use]
    pub fn new(session: u64, index: I, theirs: &Short) -> Self {
        let mut seek = Self {
            session,
            number: 0,
            theirs: *theirs,
            open: VecDeque::new(),
            wants: BTreeSet::new(),
            asked: BTreeSet::new(),
            is_waiting: false,
            index,
        };
        let first = Ranges::first(&seek.index, theirs);
        seek.keep(first);
        seek
    }

    /// What to ask next: nothing while an answer is awaited, or when all is known.
    #[must_use]
    pub fn ask(&mut self) -> Option<Ask> {
        if self.is_waiting || self.is_done() {
            return None;
        }
        self.is_waiting = true;
        self.number += 1;
        let mut ranges = Ranges::default();
        let mut said = Bytes::new();
        let mut bytes = 0;
        while ranges.parts.len() < CLAIMS_MAX
            && bytes < ASK_BYTES_MAX
            && let Some((from, to, claim)) = self.open.pop_front()
        {
            bytes += from.len() + to.len() + claim.bytes();
            if from > said {
                ranges.parts.push((from, Claim::Skip));
            }
            said.clone_from(&to);
            ranges.parts.push((to, claim));
        }
        if !ranges.is_empty() && !said.is_empty() {
            ranges.parts.push((Bytes::new(), Claim::Skip));
        }
        bytes = 0;
        while self.asked.len() < CLAIMS_MAX
            && bytes < ASK_BYTES_MAX
            && let Some(name) = self.wants.pop_first()
        {
            bytes += name.len();
            self.asked.insert(name);
        }
        Some(Ask {
            session: self.session,
            number: self.number,
            ranges,
            wants: self.asked.iter().cloned().collect(),
            total: self.theirs,
        })
    }

    /// The other side answered. Gives the states that came, to be staged.
    ///
    /// Nothing if it is no answer to what was asked last.
    pub fn told(&mut self, tell: Tell) -> Vec<Named> {
        let is_awaited = self.is_waiting && tell.number == self.number;
        if !is_awaited || tell.session != self.session {
            return Vec::new();
        }
        self.is_waiting = false;
        let answer = tell.ranges.answer(&self.index);
        self.wants.append(&mut self.asked);
        self.wants.extend(answer.differing);
        self.wants.extend(tell.rest);
        for named in &tell.states {
            self.wants.remove(&named.name);
        }
        self.keep(answer.ranges);
        tell.states
    }

    /// Whether all that differs was told.
    #[must_use]
    pub fn is_done(&self) -> bool {
        !self.is_waiting && self.open.is_empty() && self.wants.is_empty()
    }

    fn keep(&mut self, ranges: Ranges) {
        let mut from = Bytes::new();
        let mut open: Vec<(Bytes, Bytes, Claim)> = Vec::new();
        for (to, claim) in ranges.parts {
            if claim != Claim::Skip {
                open.push((from, to.clone(), claim));
            }
            from = to;
        }
        // In order of keys: what was said of earlier ranges comes before what is still open.
        for part in open.into_iter().rev() {
            self.open.push_front(part);
        }
    }
}

/// Answers a question from a pinned index. `find` gives the key of a name and its state, none if
/// there is no such key. About `bytes_max` bytes are told of ranges, and so many of states; of
/// each at least one.
pub fn tell(
    ask: &Ask,
    index: &impl Index,
    bytes_max: usize,
    mut find: impl FnMut(&Bytes) -> Option<(Bytes, Bytes)>,
) -> Tell {
    let answer = ask.ranges.answer_within(index, bytes_max);
    let names = ask.wants.iter().chain(&answer.differing);
    let (mut states, mut rest, mut bytes) = (Vec::new(), Vec::new(), 0);
    for name in names {
        if bytes >= bytes_max && !states.is_empty() {
            rest.push(name.clone());
            continue;
        }
        let found = find(name);
        let length = found.as_ref().map(|(key, state)| key.len() + state.len());
        bytes += name.len() + length.unwrap_or_default();
        let name = name.clone();
        states.push(Named { name, found });
    }
    Tell {
        session: ask.session,
        number: ask.number,
        ranges: answer.ranges,
        states,
        rest,
    }
}

impl Ask {
    /// Writes it down.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let question = (self.session, self.number);
        let mut out = begin(VERSION_OF_ASK, question, &self.ranges);
        put_names(&mut out, &self.wants);
        out.put_slice(&self.total);
        out.freeze()
    }

    /// Reads what [`Ask::encode`] wrote.
    ///
    /// # Errors
    ///
    /// As [`DecodeError`] says.
    pub fn decode(bytes: Bytes) -> Result<Self, DecodeError> {
        let what = "a question";
        let (mut reader, (session, number), ranges) = opened(VERSION_OF_ASK, bytes, what)?;
        let wants = names(&mut reader)?;
        let total = reader.array(what)?;
        reader.end(what)?;
        Ok(Self {
            session,
            number,
            ranges,
            wants,
            total,
        })
    }
}

impl Tell {
    /// How many bytes it takes, at most.
    #[must_use]
    pub fn size_hint(&self) -> usize {
        /// Lengths, marks and the head, generously.
        const EACH: usize = 32;
        let ranges = self.ranges.parts.iter();
        let ranges: usize = ranges
            .map(|(to, it)| to.len() + it.size_hint() + EACH)
            .sum();
        let rest: usize = self.rest.iter().map(|it| it.len() + EACH).sum();
        let states = self.states.iter().map(|it| {
            let found = it.found.as_ref();
            let found = found.map(|(key, state)| key.len() + state.len());
            it.name.len() + found.unwrap_or_default() + EACH
        });
        ranges + rest + states.sum::<usize>() + EACH
    }

    /// Writes it down.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = begin(VERSION, (self.session, self.number), &self.ranges);
        put_names(&mut out, &self.rest);
        put_varint(&mut out, count(self.states.len()));
        for named in &self.states {
            put_body(&mut out, &named.name);
            out.put_u8(u8::from(named.found.is_some()));
            if let Some((key, state)) = &named.found {
                put_body(&mut out, key);
                put_body(&mut out, state);
            }
        }
        out.freeze()
    }

    /// Reads what [`Tell::encode`] wrote.
    ///
    /// # Errors
    ///
    /// As [`DecodeError`] says.
    pub fn decode(bytes: Bytes) -> Result<Self, DecodeError> {
        let what = "an answer";
        let (mut reader, (session, number), ranges) = opened(VERSION, bytes, what)?;
        let rest = names(&mut reader)?;
        let mut states = Vec::new();
        for _ in 0..reader.varint(what)? {
            let name = reader.body(what)?;
            let found = match reader.byte(what)? {
                0 => None,
                1 => Some((reader.body(what)?, reader.body(what)?)),
                _other => return Err(DecodeError::Wrong { what }),
            };
            states.push(Named { name, found });
        }
        reader.end(what)?;
        Ok(Self {
            session,
            number,
            ranges,
            states,
            rest,
        })
    }
}

fn begin(version: u8, (session, number): (u64, u64), ranges: &Ranges) -> BytesMut {
    let mut out = BytesMut::new();
    out.put_u8(version);
    out.put_u64_le(session);
    put_varint(&mut out, number);
    put_body(&mut out, &ranges.encode());
    out
}

fn opened(
    expected: u8,
    bytes: Bytes,
    what: &'static str,
) -> Result<(Reader, (u64, u64), Ranges), DecodeError> {
    let mut reader = Reader::new(bytes);
    let version = reader.byte(what)?;
    if version != expected {
        return Err(DecodeError::Version { what, version });
    }
    let question = (reader.u64(what)?, reader.varint(what)?);
    let ranges = Ranges::decode(reader.body(what)?)?;
    Ok((reader, question, ranges))
}

fn put_names(out: &mut BytesMut, names: &[Bytes]) {
    put_varint(out, count(names.len()));
    names.iter().for_each(|name| put_body(out, name));
}

fn names(reader: &mut Reader) -> Result<Vec<Bytes>, DecodeError> {
    let what = "names of keys";
    let mut names = Vec::new();
    for _ in 0..reader.varint(what)? {
        names.push(reader.body(what)?);
    }
    Ok(names)
}

fn count(length: usize) -> u64 {
    u64::try_from(length).expect("a length fits 64 bits")
}
