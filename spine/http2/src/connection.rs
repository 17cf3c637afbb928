//! A connection: its state, and what it says of itself.

mod control;
mod incoming;
mod outgoing;
mod requests;

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;

use bytes::{BufMut as _, Bytes, BytesMut};

use crate::config::{Config, TABLE_BYTES};
use crate::event::Key;
use crate::frame::{self, MAX_31};
use crate::guard::Guard;
use crate::head::Head;
use crate::hpack::{Decoder, Encoder};
use crate::reason::Reason;
use crate::stream::Streams;

pub use outgoing::Section;

/// How many times more than full is clogged.
const CLOGGED: usize = 4;
/// Heads that are remembered with their blocks.
const RECENT_HEADS: usize = 4;
/// The longest block that is remembered.
const RECENT_BYTES_MAX: usize = 512;
/// What a client may send before it is told otherwise, and a server too.
const FIRST_WINDOW: u32 = 65_535;
/// What the ping behind a first farewell carries.
const FAREWELL: [u8; 8] = *b"farewell";
/// What any other ping of ours carries.
const QUESTION: [u8; 8] = *b"question";

/// A server's side of a connection.
#[derive(Debug)]
pub struct Connection {
    config: Config,
    out: BytesMut,
    phase: Phase,
    farewell: Farewell,
    decoder: Decoder,
    encoder: Encoder,
    streams: Streams,
    /// The newest request.
    newest: u32,
    /// A header block that has not ended.
    open: Option<Block>,
    recent: Vec<Recent>,
    recent_next: usize,
    guard: Guard,
    /// What was received on all streams and not released, and what was released and not told.
    held: u32,
    released: u32,
    /// What may be sent on all streams, and on a new one.
    credit: i64,
    first_credit: i64,
    /// Streams that could send if the output had room.
    queue: VecDeque<Key>,
    opened: VecDeque<Key>,
    has_answered: bool,
}

/// How far the connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The preface has not come.
    Preface,
    /// The client's first settings have not come.
    Settings,
    Open,
    /// Nothing is read any more.
    Closed,
}

/// How far a graceful end is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Farewell {
    None,
    /// The client was told; what it began before it knew is served.
    Told,
    /// It knows: streams above this one are not served.
    Final(u32),
}

/// A header block that comes in pieces.
#[derive(Debug)]
struct Block {
    stream: u32,
    is_last: bool,
    pieces: u32,
    bytes: Vec<u8>,
}

/// A block that was read, and what it said while the table was as it was.
#[derive(Debug)]
struct Recent {
    block: Vec<u8>,
    generation: u64,
    head: Arc<Head>,
}

impl Connection {
    /// A connection whose first words are in its output already.
    #[must_use]
    pub fn new(config: Config) -> Self {
        let mut out = BytesMut::new();
        greet(&mut out, &config);
        Self {
            out,
            phase: Phase::Preface,
            farewell: Farewell::None,
            decoder: Decoder::new(usize::try_from(TABLE_BYTES).expect("it is small")),
            encoder: Encoder::new(config.favourites.clone()),
            streams: Streams::default(),
            newest: 0,
            open: None,
            recent: Vec::new(),
            recent_next: 0,
            guard: Guard::new(config.idle_frames_max, config.resets_max),
            held: 0,
            released: 0,
            credit: i64::from(FIRST_WINDOW),
            first_credit: i64::from(FIRST_WINDOW),
            queue: VecDeque::new(),
            opened: VecDeque::new(),
            has_answered: false,
            config,
        }
    }

    /// What is to be written. Take bytes off its front as they are.
    pub const fn out(&mut self) -> &mut BytesMut {
        &mut self.out
    }

    /// Whether the output is so long that data waits for it to be written.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.out.len() >= self.config.out_bytes_max
    }

    /// Whether the output is so long that nothing more should be read until it is written: some
    /// frames demand an answer. Not as soon as it is full, for some clients read nothing while
    /// they wait for us to read.
    #[must_use]
    pub fn is_clogged(&self) -> bool {
        self.out.len() >= self.config.out_bytes_max.saturating_mul(CLOGGED)
    }

    /// Streams that are not over.
    #[must_use]
    pub fn streams(&self) -> usize {
        self.streams.len()
    }

    /// Whether the client has said that it speaks HTTP/2, and how.
    #[must_use]
    pub const fn is_greeted(&self) -> bool {
        !matches!(self.phase, Phase::Preface | Phase::Settings)
    }

    /// Whether a stream is not over.
    #[must_use]
    pub fn is_alive(&self, key: Key) -> bool {
        self.streams.get(key).is_some()
    }

    /// Whether a head or data was sent since this was last asked.
    pub const fn take_answered(&mut self) -> bool {
        core::mem::replace(&mut self.has_answered, false)
    }

    /// Whether there is nothing more to do than to write what is in the output.
    #[must_use]
    pub fn is_over(&self) -> bool {
        let is_done = matches!(self.farewell, Farewell::Final(_)) && self.streams.len() == 0;
        self.phase == Phase::Closed || is_done
    }

    /// Asks the client whether it is there.
    pub fn ask(&mut self) {
        self.put_ping(0, QUESTION);
    }

    /// Begins a graceful end: what the client has begun, or begins before it hears of this, is
    /// served.
    pub fn leave(&mut self) {
        if self.farewell == Farewell::None && self.phase != Phase::Closed {
            self.farewell = Farewell::Told;
            self.put_go_away(MAX_31, Reason::NO_ERROR, &[]);
            self.put_ping(0, FAREWELL);
        }
    }

    /// Ends the connection at once, with a text for whoever reads the client's log.
    pub fn fail(&mut self, reason: Reason, text: &[u8]) {
        if self.phase != Phase::Closed {
            self.put_go_away(self.newest, reason, text);
            self.phase = Phase::Closed;
            self.open = None;
        }
    }

    fn put_ping(&mut self, flags: u8, payload: [u8; 8]) {
        frame::put_head(&mut self.out, payload.len(), (frame::PING, flags), 0);
        self.out.put_slice(&payload);
    }

    fn put_go_away(&mut self, last: u32, reason: Reason, text: &[u8]) {
        frame::put_head(&mut self.out, 8 + text.len(), (frame::GO_AWAY, 0), 0);
        self.out.put_u32(last);
        self.out.put_u32(reason.0);
        self.out.put_slice(text);
    }

    fn put_reset(&mut self, stream: u32, reason: Reason) {
        frame::put_head(&mut self.out, 4, (frame::RST_STREAM, 0), stream);
        self.out.put_u32(reason.0);
    }

    fn put_window(&mut self, stream: u32, bytes: u32) {
        frame::put_head(&mut self.out, 4, (frame::WINDOW_UPDATE, 0), stream);
        self.out.put_u32(bytes);
    }

    /// A remembered head of the same bytes.
    fn recall(&self, block: &[u8]) -> Option<Arc<Head>> {
        let generation = self.decoder.generation();
        let found = self
            .recent
            .iter()
            .find(|it| it.generation == generation && it.block == block);
        found.map(|it| Arc::clone(&it.head))
    }

    fn remember(&mut self, block: &[u8], generation: u64, head: &Arc<Head>) {
        // A block that changed the table means something else the next time.
        if generation != self.decoder.generation() || block.len() > RECENT_BYTES_MAX {
            return;
        }
        let recent = Recent {
            block: block.to_vec(),
            generation,
            head: Arc::clone(head),
        };
        if self.recent.len() < RECENT_HEADS {
            self.recent.push(recent);
        } else {
            self.recent[self.recent_next] = recent;
            self.recent_next = (self.recent_next + 1) % RECENT_HEADS;
        }
    }
}

/// Our settings, and the connection's window.
fn greet(out: &mut BytesMut, config: &Config) {
    let settings = [
        (frame::STREAMS_MAX, config.streams_max),
        (frame::INITIAL_WINDOW, config.stream_window),
        (frame::HEADER_LIST_MAX, config.head_bytes_max),
    ];
    frame::put_head(out, settings.len() * 6, (frame::SETTINGS, 0), 0);
    for (name, value) in settings {
        out.put_u16(name);
        out.put_u32(value);
    }
    let more = config.connection_window.saturating_sub(FIRST_WINDOW);
    if more > 0 {
        frame::put_head(out, 4, (frame::WINDOW_UPDATE, 0), 0);
        out.put_u32(more);
    }
}

/// A count of bytes that lie in one frame or window.
fn narrow(bytes: usize) -> u32 {
    u32::try_from(bytes).expect("frames and windows are below 4 GiB")
}

fn wide(bytes: usize) -> i64 {
    i64::from(narrow(bytes))
}

/// An empty piece.
const NOTHING: Bytes = Bytes::new();
