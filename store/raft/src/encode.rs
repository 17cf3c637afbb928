//! The bytes of what replicas say to each other and of what they keep. All numbers are
//! little-endian.
//!
//! ```text
//! message     0 u8 version 1; 1 u8 kind; 2 u8 flags; 3 u8 0; 4 u64 term; 12 ..
//!   1 PreVote         position                       flags: none
//!   2 PreVoteReply    -                              1 granted
//!   3 Vote            position                       1 transfer
//!   4 VoteReply       -                              1 granted
//!   5 Append          position, u64 commit, u32 count, count x {u64 term, u32 bytes, payload}
//!   6 Commit          u64 commit
//!   7 Ack             u64 matched                    1 recovering
//!   8 Conflict        u64 at, u64 term, u64 first
//!   9 Heartbeat       u64 round, u64 commit, u64 stamp
//!  10 HeartbeatReply  u64 round, u64 stamp, u64 seen, u64 matched, u64 last; 1 recovering
//!  11 ReadProbe       u64 boot, u64 number
//!  12 ReadProbeReply  u64 boot, u64 number; 1 a read point: u64 op, position
//!  13 Forward         u32 count, count x {u32 bytes, payload of kind 1}
//!  14 TimeoutNow      -
//!  15 Offer           manifest
//!  16 Want            u64 op, u32 count, count x u32
//!  17 Chunk           u64 op, u32 index, the chunk
//! position    u64 term, u64 op
//! payload     0 u8 version 1; 1 u8 kind; 2 u8 flags; 3 u8 0; 4 ..
//!   0 Blank           -
//!   1 Command         u64 node, u64 boot, u64 sequence, the body; 1 numbered, 2 origin counted
//!   2 Configuration   u16 incoming, u16 outgoing, u16 learners, u16 joining; then of each
//!                     u64 node; of joining a second u64, who is replaced (0: nobody)
//! checkpoint  0 u8 version 1; 1 3 0; 4 position; 20 position of the configuration;
//!             36 u32 bytes, configuration; windows
//! windows     0 u8 version 1; 1 3 0; 4 u32 count;
//!             count x {u64 node, u64 boot, u64 highest, u32 words, runs}
//!   run       u32: upper 30 bits the words, lower 2 bits 0 zeros, 1 ones, 2 as follows
//! manifest    0 u8 version 1; 1 3 0; 4 u32 chunk bytes; 8 u32 bytes, checkpoint;
//!             u32 count, count x [u8; 32]; the context
//! ```
//!
//! Decoding believes nothing: each length is checked against what is there before anything is
//! allocated for it, and all that is allocated is a small multiple of the input, but windows,
//! which have limits of their own. Bodies are slices of the input: nothing is copied, and they
//! keep it in memory.

pub(crate) mod reader;
pub(crate) mod recording;

use alloc::sync::Arc;
use alloc::vec::Vec;

use bytes::{BufMut, Bytes, BytesMut};
use holm_base::NodeId;
use holm_quorum::Voters;

use crate::config::ORIGIN_WINDOW_MAX;
use crate::membership::{Configuration, Joining};
use crate::message::{Body, Command, Entry, Flags, Message, Origin, Payload, Position};
use crate::origin::Windows;
use crate::snapshot::{Checkpoint, ChunkId, Manifest};

use reader::{Reader, narrow, wide};

const VERSION: u8 = 1;

/// How many windows may be decoded: more nodes than any group has.
const WINDOWS_MAX: usize = 64;

/// Why bytes are not what they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// They end too early, or a length in them says more than there is.
    #[error("{what} is cut short")]
    Short {
        /// What was being read.
        what: &'static str,
    },
    /// Something stands behind what was read.
    #[error("{extra} bytes behind {what}")]
    Long {
        /// What was read.
        what: &'static str,
        /// How much stands behind it.
        extra: usize,
    },
    /// Another release wrote them.
    #[error("{what} has version {version}, this release reads version {VERSION}")]
    Version {
        /// What has it.
        what: &'static str,
        /// The version found.
        version: u8,
    },
    /// They have a kind that is not known.
    #[error("{what} has the unknown kind {kind}")]
    Kind {
        /// What has it.
        what: &'static str,
        /// The kind found.
        kind: u8,
    },
    /// They say something that cannot be.
    #[error("{what} makes no sense")]
    Nonsense {
        /// What was being read.
        what: &'static str,
    },
}

impl Message {
    /// Appends the bytes of the message.
    ///
    /// # Panics
    ///
    /// If the entries of an Append do not follow each other, as everywhere.
    pub fn encode(&self, out: &mut BytesMut) {
        let (kind, flags) = head_of(&self.body);
        put_head(out, kind, flags);
        out.put_u64_le(self.term.value());
        put_body(out, &self.body);
    }

    /// Reads a message, all of the input.
    ///
    /// # Errors
    ///
    /// As [`DecodeError`] says.
    pub fn decode(input: &Bytes) -> Result<Self, DecodeError> {
        let mut from = Reader::new(input, "a message");
        let (kind, flags) = from.head()?;
        let term = from.term()?;
        let body = body(&mut from, kind, flags & 1 != 0)?;
        from.end()?;
        Ok(Self { term, body })
    }
}

impl Payload {
    /// Appends the bytes of the payload.
    pub fn encode(&self, out: &mut BytesMut) {
        match self {
            Self::Blank => put_head(out, BLANK, 0),
            Self::Command(command) => put_command(out, command),
            Self::Configuration(configuration) => {
                put_head(out, CONFIGURATION, 0);
                put_configuration(out, configuration);
            }
        }
    }

    /// Reads a payload, all of the input. The body of a command is a slice of it.
    ///
    /// # Errors
    ///
    /// As [`DecodeError`] says.
    pub fn decode(input: &Bytes) -> Result<Self, DecodeError> {
        let mut from = Reader::new(input, "a payload");
        let (kind, flags) = from.head()?;
        let payload = match kind {
            BLANK => Self::Blank,
            COMMAND => Self::Command(command(&mut from, flags)?),
            CONFIGURATION => Self::Configuration(Arc::new(configuration(&mut from)?)),
            kind => return Err(from.unknown(kind)),
        };
        from.end()?;
        Ok(payload)
    }
}

impl Checkpoint {
    /// Appends the bytes of the checkpoint.
    pub fn encode(&self, out: &mut BytesMut) {
        put_head(out, 0, 0);
        put_position(out, self.at);
        put_position(out, self.configured);
        put_sized(out, |out| put_configuration(out, &self.configuration));
        self.windows.encode(out);
    }

    /// Reads a checkpoint, all of the input.
    ///
    /// # Errors
    ///
    /// As [`DecodeError`] says.
    pub fn decode(input: &Bytes) -> Result<Self, DecodeError> {
        let mut from = Reader::new(input, "a checkpoint");
        let _no_kind = from.head()?;
        let at = from.position()?;
        let configured = from.position()?;
        let part = from.sized()?;
        let mut inner = Reader::new(&part, "a configuration");
        let configuration = Arc::new(configuration(&mut inner)?);
        inner.end()?;
        let windows = Windows::decode(&from.rest())?;
        Ok(Self {
            at,
            configuration,
            configured,
            windows,
        })
    }
}

impl Windows {
    /// Appends the bytes of the windows: a few dozen for each node whose commands were applied
    /// without long gaps.
    pub fn encode(&self, out: &mut BytesMut) {
        put_head(out, 0, 0);
        out.put_u32_le(narrow(self.parts().count()));
        for (origin, highest, bits) in self.parts() {
            put_origin(out, origin);
            out.put_u64_le(highest);
            out.put_u32_le(narrow(bits.len()));
            put_runs(out, bits);
        }
    }

    /// Reads windows, all of the input. At most 64 nodes, and a mebibit of each.
    ///
    /// # Errors
    ///
    /// As [`DecodeError`] says.
    pub fn decode(input: &Bytes) -> Result<Self, DecodeError> {
        let mut from = Reader::new(input, "windows");
        let _no_kind = from.head()?;
        let mut windows = Self::new();
        let count = from.count(WINDOW_LEAST)?;
        if count > WINDOWS_MAX {
            return Err(from.nonsense());
        }
        for _ in 0..count {
            let origin = from.origin()?;
            let highest = from.u64()?;
            let words = wide(from.u32()?);
            if u64::from(narrow(words)) * 64 > ORIGIN_WINDOW_MAX {
                return Err(from.nonsense());
            }
            let bits = runs(&mut from, words)?;
            windows.restore(origin, highest, bits);
        }
        from.end()?;
        Ok(windows)
    }
}

impl Manifest {
    /// Appends the bytes of the manifest.
    pub fn encode(&self, out: &mut BytesMut) {
        put_head(out, 0, 0);
        out.put_u32_le(self.chunk_bytes);
        put_sized(out, |out| self.checkpoint.encode(out));
        out.put_u32_le(narrow(self.chunks.len()));
        for chunk in &self.chunks {
            out.put_slice(&chunk.0);
        }
        out.put_slice(&self.context);
    }

    /// Reads a manifest, all of the input. Its context is a slice of it.
    ///
    /// # Errors
    ///
    /// As [`DecodeError`] says.
    pub fn decode(input: &Bytes) -> Result<Self, DecodeError> {
        let mut from = Reader::new(input, "a manifest");
        let _no_kind = from.head()?;
        let chunk_bytes = from.u32()?;
        let checkpoint = Checkpoint::decode(&from.sized()?)?;
        let count = from.count(32)?;
        let mut chunks = Vec::with_capacity(count);
        for _ in 0..count {
            chunks.push(ChunkId(from.array()?));
        }
        let context = from.rest();
        Ok(Self {
            checkpoint,
            chunk_bytes,
            chunks,
            context,
        })
    }
}

const PRE_VOTE: u8 = 1;
const PRE_VOTE_REPLY: u8 = 2;
const VOTE: u8 = 3;
const VOTE_REPLY: u8 = 4;
const APPEND: u8 = 5;
const COMMIT: u8 = 6;
const ACK: u8 = 7;
const CONFLICT: u8 = 8;
const HEARTBEAT: u8 = 9;
const HEARTBEAT_REPLY: u8 = 10;
const READ_PROBE: u8 = 11;
const READ_PROBE_REPLY: u8 = 12;
const FORWARD: u8 = 13;
const TIMEOUT_NOW: u8 = 14;
const OFFER: u8 = 15;
const WANT: u8 = 16;
const CHUNK: u8 = 17;

const BLANK: u8 = 0;
const COMMAND: u8 = 1;
const CONFIGURATION: u8 = 2;

const NUMBERED: u8 = 1;
const ORIGIN_COUNTED: u8 = 2;

const ZEROS: u32 = 0;
const ONES: u32 = 1;
const LITERAL: u32 = 2;

/// The least an entry of an Append takes.
const ENTRY_LEAST: usize = 12 + HEAD;
/// The least a command of a Forward takes.
const FORWARDED_LEAST: usize = 4 + HEAD + 24;
/// The least a window takes.
const WINDOW_LEAST: usize = 28;
/// What everything begins with.
const HEAD: usize = 4;

/// A body's kind and flags.
const fn head_of(body: &Body) -> (u8, u8) {
    let (kind, flag) = match body {
        Body::PreVote { .. } => (PRE_VOTE, false),
        Body::PreVoteReply { is_granted } => (PRE_VOTE_REPLY, *is_granted),
        Body::Vote { is_transfer, .. } => (VOTE, *is_transfer),
        Body::VoteReply { is_granted } => (VOTE_REPLY, *is_granted),
        Body::Append { .. } => (APPEND, false),
        Body::Commit { .. } => (COMMIT, false),
        Body::Ack { is_recovering, .. } => (ACK, *is_recovering),
        Body::Conflict { .. } => (CONFLICT, false),
        Body::Heartbeat { .. } => (HEARTBEAT, false),
        Body::HeartbeatReply { is_recovering, .. } => (HEARTBEAT_REPLY, *is_recovering),
        Body::ReadProbe { .. } => (READ_PROBE, false),
        Body::ReadProbeReply { read, .. } => (READ_PROBE_REPLY, read.is_some()),
        Body::Forward { .. } => (FORWARD, false),
        Body::TimeoutNow => (TIMEOUT_NOW, false),
        Body::Offer { .. } => (OFFER, false),
        Body::Want { .. } => (WANT, false),
        Body::Chunk { .. } => (CHUNK, false),
    };
    (kind, if flag { 1 } else { 0 })
}

fn put_head(out: &mut BytesMut, kind: u8, flags: u8) {
    out.put_slice(&[VERSION, kind, flags, 0]);
}

fn put_body(out: &mut BytesMut, body: &Body) {
    match body {
        Body::PreVote { last } | Body::Vote { last, .. } => put_position(out, *last),
        Body::PreVoteReply { .. } | Body::VoteReply { .. } | Body::TimeoutNow => {}
        Body::Append {
            previous,
            commit,
            entries,
        } => {
            put_position(out, *previous);
            out.put_u64_le(commit.value());
            put_entries(out, *previous, entries);
        }
        Body::Commit { commit: op } | Body::Ack { matched: op, .. } => out.put_u64_le(op.value()),
        Body::Conflict { at, term, first } => {
            put_numbers(out, &[at.value(), term.value(), first.value()]);
        }
        Body::Heartbeat {
            round,
            commit,
            stamp,
        } => put_numbers(out, &[*round, commit.value(), stamp.nanos()]),
        Body::HeartbeatReply {
            round,
            stamp,
            seen,
            matched,
            last,
            is_recovering: _,
        } => {
            put_numbers(out, &[*round, stamp.nanos()]);
            put_numbers(out, &[seen.value(), matched.value(), last.value()]);
        }
        Body::ReadProbe { round } => put_numbers(out, &[round.boot, round.number]),
        Body::ReadProbeReply { round, read } => {
            put_numbers(out, &[round.boot, round.number]);
            if let Some(read) = read {
                out.put_u64_le(read.op.value());
                put_position(out, read.configuration);
            }
        }
        Body::Forward { commands } => {
            out.put_u32_le(narrow(commands.len()));
            for command in commands {
                put_sized(out, |out| put_command(out, command));
            }
        }
        Body::Offer { manifest } => manifest.encode(out),
        Body::Want { op, chunks } => {
            out.put_u64_le(op.value());
            out.put_u32_le(narrow(chunks.len()));
            for chunk in chunks {
                out.put_u32_le(*chunk);
            }
        }
        Body::Chunk { op, index, bytes } => {
            out.put_u64_le(op.value());
            out.put_u32_le(*index);
            out.put_slice(bytes);
        }
    }
}

fn put_entries(out: &mut BytesMut, previous: Position, entries: &[Entry]) {
    out.put_u32_le(narrow(entries.len()));
    let mut before = previous.op;
    for entry in entries {
        assert!(entry.op == before.next(), "I2: entries are dense");
        before = entry.op;
        out.put_u64_le(entry.term.value());
        put_sized(out, |out| entry.payload.encode(out));
    }
}

fn put_command(out: &mut BytesMut, command: &Command) {
    let Flags {
        is_numbered,
        is_origin_counted,
    } = command.flags;
    let numbered = if is_numbered { NUMBERED } else { 0 };
    let counted = if is_origin_counted { ORIGIN_COUNTED } else { 0 };
    put_head(out, COMMAND, numbered | counted);
    put_origin(out, command.origin);
    out.put_u64_le(command.sequence);
    out.put_slice(&command.body);
}

fn put_configuration(out: &mut BytesMut, configuration: &Configuration) {
    let voters = configuration.voters();
    let lists = [
        voters.incoming(),
        voters.outgoing(),
        configuration.learners(),
    ];
    let short = |len: usize| u16::try_from(len).expect("a group has few members");
    for list in lists {
        out.put_u16_le(short(list.len()));
    }
    out.put_u16_le(short(configuration.joining().len()));
    for node in lists.into_iter().flatten() {
        out.put_u64_le(node.value());
    }
    for joining in configuration.joining() {
        let replaces = joining.replaces.map_or(0, NodeId::value);
        put_numbers(out, &[joining.node.value(), replaces]);
    }
}

/// Words of one kind that follow each other become one run.
fn put_runs(out: &mut BytesMut, bits: &[u64]) {
    let kind_of = |word: u64| match word {
        0 => ZEROS,
        u64::MAX => ONES,
        _ => LITERAL,
    };
    for run in bits.chunk_by(|left, right| kind_of(*left) == kind_of(*right)) {
        let kind = kind_of(run[0]);
        out.put_u32_le(narrow(run.len()) << 2 | kind);
        if kind == LITERAL {
            put_numbers(out, run);
        }
    }
}

fn put_origin(out: &mut BytesMut, origin: Origin) {
    put_numbers(out, &[origin.node.value(), origin.boot]);
}

fn put_position(out: &mut BytesMut, position: Position) {
    put_numbers(out, &[position.term.value(), position.op.value()]);
}

fn put_numbers(out: &mut BytesMut, numbers: &[u64]) {
    for number in numbers {
        out.put_u64_le(*number);
    }
}

/// A part behind its length.
fn put_sized(out: &mut BytesMut, part: impl FnOnce(&mut BytesMut)) {
    let at = out.len();
    out.put_u32_le(0);
    part(out);
    let bytes = narrow(out.len() - at - 4);
    out[at..at + 4].copy_from_slice(&bytes.to_le_bytes());
}

fn body(from: &mut Reader, kind: u8, flag: bool) -> Result<Body, DecodeError> {
    Ok(match kind {
        PRE_VOTE => Body::PreVote {
            last: from.position()?,
        },
        PRE_VOTE_REPLY => Body::PreVoteReply { is_granted: flag },
        VOTE => Body::Vote {
            last: from.position()?,
            is_transfer: flag,
        },
        VOTE_REPLY => Body::VoteReply { is_granted: flag },
        APPEND => append(from)?,
        COMMIT => Body::Commit { commit: from.op()? },
        ACK => Body::Ack {
            matched: from.op()?,
            is_recovering: flag,
        },
        CONFLICT => Body::Conflict {
            at: from.op()?,
            term: from.term()?,
            first: from.op()?,
        },
        HEARTBEAT => Body::Heartbeat {
            round: from.u64()?,
            commit: from.op()?,
            stamp: from.time()?,
        },
        HEARTBEAT_REPLY => Body::HeartbeatReply {
            round: from.u64()?,
            stamp: from.time()?,
            seen: from.op()?,
            matched: from.op()?,
            last: from.op()?,
            is_recovering: flag,
        },
        READ_PROBE => Body::ReadProbe {
            round: from.round()?,
        },
        READ_PROBE_REPLY => Body::ReadProbeReply {
            round: from.round()?,
            read: if flag { Some(from.read()?) } else { None },
        },
        FORWARD => forward(from)?,
        TIMEOUT_NOW => Body::TimeoutNow,
        OFFER => Body::Offer {
            manifest: Arc::new(Manifest::decode(&from.rest())?),
        },
        WANT => want(from)?,
        CHUNK => Body::Chunk {
            op: from.op()?,
            index: from.u32()?,
            bytes: from.rest(),
        },
        kind => return Err(from.unknown(kind)),
    })
}

fn append(from: &mut Reader) -> Result<Body, DecodeError> {
    let previous = from.position()?;
    let commit = from.op()?;
    let count = from.count(ENTRY_LEAST)?;
    if previous
        .op
        .value()
        .checked_add(u64::from(narrow(count)))
        .is_none()
    {
        return Err(from.nonsense());
    }
    let mut entries = Vec::with_capacity(count);
    let mut op = previous.op;
    for _ in 0..count {
        op = op.next();
        let term = from.term()?;
        let payload = Payload::decode(&from.sized()?)?;
        entries.push(Entry { op, term, payload });
    }
    Ok(Body::Append {
        previous,
        commit,
        entries,
    })
}

fn forward(from: &mut Reader) -> Result<Body, DecodeError> {
    let count = from.count(FORWARDED_LEAST)?;
    let mut commands = Vec::with_capacity(count);
    for _ in 0..count {
        match Payload::decode(&from.sized()?)? {
            Payload::Command(command) => commands.push(command),
            Payload::Blank | Payload::Configuration(_) => return Err(from.nonsense()),
        }
    }
    Ok(Body::Forward { commands })
}

fn want(from: &mut Reader) -> Result<Body, DecodeError> {
    let op = from.op()?;
    let count = from.count(4)?;
    let mut chunks = Vec::with_capacity(count);
    for _ in 0..count {
        chunks.push(from.u32()?);
    }
    Ok(Body::Want { op, chunks })
}

fn command(from: &mut Reader, flags: u8) -> Result<Command, DecodeError> {
    Ok(Command {
        origin: from.origin()?,
        sequence: from.u64()?,
        flags: Flags {
            is_numbered: flags & NUMBERED != 0,
            is_origin_counted: flags & ORIGIN_COUNTED != 0,
        },
        body: from.rest(),
    })
}

fn configuration(from: &mut Reader) -> Result<Configuration, DecodeError> {
    let mut counts = [0; 4];
    for count in &mut counts {
        *count = usize::from(from.u16()?);
    }
    let [incoming, outgoing, learners, joining] = counts;
    let incoming = from.nodes(incoming)?;
    let outgoing = from.nodes(outgoing)?;
    let learners = from.nodes(learners)?;
    let pairs = from.nodes(2 * joining)?;
    let joining = pairs.chunks_exact(2).map(|pair| Joining {
        node: pair[0],
        replaces: Some(pair[1]).filter(|node| node.value() > 0),
    });
    let voters = Voters::joint(incoming, outgoing);
    Ok(Configuration::from_parts(
        voters,
        learners,
        joining.collect(),
    ))
}

fn runs(from: &mut Reader, words: usize) -> Result<Vec<u64>, DecodeError> {
    let mut bits = Vec::with_capacity(words);
    while bits.len() < words {
        let run = from.u32()?;
        let count = wide(run >> 2);
        if count == 0 || count > words - bits.len() {
            return Err(from.nonsense());
        }
        match run & 3 {
            ZEROS => bits.resize(bits.len() + count, 0),
            ONES => bits.resize(bits.len() + count, u64::MAX),
            LITERAL => {
                for _ in 0..count {
                    bits.push(from.u64()?);
                }
            }
            _unknown => return Err(from.nonsense()),
        }
    }
    Ok(bits)
}
