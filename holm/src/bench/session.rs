//! What one HTTP/2 connection of the load generator knows, apart from its socket.
//!
//! A request is a header block and a message, both copied from prepared bytes into one output buffer. The first
//! request teaches the server's compression table the fields, every later one names them by index, as stock gRPC
//! clients do. Answers are read where they lie. Bytes go in by [`Session::take`] and come out in [`Session::output`]:
//! no socket here, so that tests can be the server.

use std::collections::VecDeque;

use thiserror::Error;

use super::frame::{self, FrameError, FrameHeader, flag, kind};
use super::hpack::{Blocks, HpackError, Summary};

/// Where payload and ends of streams go. `tag` is what the request was begun with.
pub(crate) trait Sink {
    /// Some payload of an answer; a message may come in several pieces.
    fn data(&mut self, tag: u32, payload: &[u8]);
    /// The end of a stream; nothing more comes for it.
    fn end(&mut self, tag: u32, outcome: Result<(), Failure>);
}

/// How a request failed.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("gRPC status {status}: {message}")]
pub(crate) struct Failure {
    /// The gRPC status.
    pub(crate) status: u32,
    /// The text beside it, as it came.
    pub(crate) message: String,
}

/// Why a connection cannot go on.
#[derive(Debug, Error, PartialEq, Eq)]
pub(crate) enum SessionError {
    /// The server said that it takes no more requests.
    #[error("server ended the connection with HTTP/2 error {code}: {detail}")]
    GoAway {
        /// HTTP/2's error code.
        code: u32,
        /// What the server wrote beside it.
        detail: String,
    },
    /// The bytes are no frames.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// A header block has no meaning.
    #[error(transparent)]
    Header(#[from] HpackError),
    /// Something that HTTP/2 forbids, or that this generator does not take.
    #[error("server {what}")]
    Forbidden {
        /// What it did.
        what: &'static str,
    },
}

/// The fields of every request of one connection.
#[derive(Clone, Debug)]
pub(crate) struct Route {
    first: Vec<u8>,
    again: Vec<u8>,
}

impl Route {
    /// A route to one gRPC method, such as `/etcdserverpb.KV/Put`.
    pub(crate) fn new(endpoint: &str, path: &str, token: Option<&str>) -> Self {
        // The name is an index into the static table, or 0 and a name.
        let mut fields: Vec<(u8, &str, &str)> = vec![
            (4, "", path),
            (1, "", endpoint),
            (31, "", "application/grpc"),
            (0, "te", "trailers"),
            (58, "", "holm-bench"),
        ];
        if let Some(token) = token {
            fields.push((0, "token", token));
        }
        let mut first = vec![0x83, 0x86];
        let mut again = first.clone();
        for (at, (index, name, value)) in fields.iter().enumerate() {
            first.push(0x40 | index);
            if *index == 0 {
                put_text(&mut first, name);
            }
            put_text(&mut first, value);
            let newer = fields.len() - 1 - at;
            let index = 62 + u8::try_from(newer).expect("there are at most six fields");
            again.push(0x80 | index);
        }
        Self { first, again }
    }
}

/// A string of a header block, its length with a prefix of seven bits.
fn put_text(block: &mut Vec<u8>, text: &str) {
    let mut rest = text.len();
    if rest < 0x7f {
        block.push(u8::try_from(rest).expect("checked to be below 127"));
    } else {
        block.push(0x7f);
        rest -= 0x7f;
        while rest >= 0x80 {
            block.push(0x80 | u8::try_from(rest & 0x7f).expect("seven bits fit into a byte"));
            rest >>= 7;
        }
        block.push(u8::try_from(rest).expect("the loop left seven bits"));
    }
    block.extend_from_slice(text.as_bytes());
}

#[derive(Debug)]
struct Stream {
    tag: u32,
    open: bool,
    /// Payload taken since its window was last refilled.
    taken: u32,
}

/// One connection's state.
#[derive(Debug)]
pub(crate) struct Session {
    route: Route,
    /// Bytes to be sent; whoever sends them empties it.
    pub(crate) output: Vec<u8>,
    /// Streams from `first_stream` on, every second number.
    streams: VecDeque<Stream>,
    first_stream: u32,
    next_stream: u32,
    open: u32,
    ready: bool,
    send_window: i64,
    stream_window: i64,
    streams_max: u32,
    taken: u32,
    blocks: Blocks,
    block: Vec<u8>,
}

/// The largest window that HTTP/2 knows.
const WINDOW_MAX: u32 = 0x7fff_ffff;
/// Refill a window once so much of it is used.
const WINDOW_REFILL: u32 = 0x2000_0000;
const WINDOW_DEFAULT: u32 = 65_535;
/// The largest header block that is put together from pieces.
const BLOCK_BYTES_MAX: usize = 256 * 1024;

impl Session {
    /// A connection that has said hello; the server's own hello is still to come.
    pub(crate) fn new(route: Route) -> Self {
        let mut output = frame::PREFACE.to_vec();
        frame::put_settings(&mut output, &[(2, 0), (4, WINDOW_MAX)]);
        frame::put_window_update(&mut output, 0, WINDOW_MAX - WINDOW_DEFAULT);
        Self::greeted(route, output)
    }

    /// The same with HTTP/2's own windows of 64 KiB, so that a server soon notices who does not read.
    pub(crate) fn narrow(route: Route) -> Self {
        let mut output = frame::PREFACE.to_vec();
        frame::put_settings(&mut output, &[(2, 0)]);
        Self::greeted(route, output)
    }

    fn greeted(route: Route, output: Vec<u8>) -> Self {
        Self {
            route,
            output,
            streams: VecDeque::new(),
            first_stream: 1,
            next_stream: 1,
            open: 0,
            ready: false,
            send_window: i64::from(WINDOW_DEFAULT),
            stream_window: i64::from(WINDOW_DEFAULT),
            streams_max: u32::MAX,
            taken: 0,
            blocks: Blocks::new(),
            block: Vec::new(),
        }
    }

    /// Streams that have no end yet.
    pub(crate) fn open_streams(&self) -> u32 {
        self.open
    }

    /// Whether a message of `bytes` may be sent now.
    pub(crate) fn can_begin(&self, bytes: usize) -> bool {
        let bytes = i64::try_from(bytes).expect("messages are far below 2^63 bytes");
        self.ready
            && self.open < self.streams_max
            && self.send_window >= bytes
            && self.stream_window >= bytes
    }

    /// Whether no message of `bytes` can ever be sent in one piece, as this generator must.
    pub(crate) fn too_large(&self, bytes: usize) -> bool {
        self.ready && i64::try_from(bytes).is_ok_and(|bytes| bytes > self.stream_window)
    }

    /// Puts a request into the output. The caller has asked [`Session::can_begin`].
    pub(crate) fn begin(&mut self, tag: u32, message: &[u8], last: u8) {
        let id = self.next_stream;
        self.next_stream += 2;
        self.open += 1;
        self.streams.push_back(Stream {
            tag,
            open: true,
            taken: 0,
        });
        let fields = if id == 1 {
            &self.route.first
        } else {
            &self.route.again
        };
        frame::put(
            &mut self.output,
            kind::HEADERS,
            flag::END_HEADERS,
            id,
            fields,
        );
        let mut chunks = message.chunks(frame::PAYLOAD_BYTES_MAX).peekable();
        while let Some(chunk) = chunks.next() {
            let flags = if chunks.peek().is_none() { last } else { 0 };
            frame::put(&mut self.output, kind::DATA, flags, id, chunk);
        }
        self.send_window -=
            i64::try_from(message.len()).expect("messages are far below 2^63 bytes");
    }

    /// Handles all whole frames; returns how many bytes they took.
    pub(crate) fn take(
        &mut self,
        input: &[u8],
        sink: &mut impl Sink,
    ) -> Result<usize, SessionError> {
        let mut rest = input;
        while let Some((header, payload)) = frame::first(rest)? {
            rest = &rest[frame::HEADER_BYTES + header.length..];
            self.frame(header, payload, sink)?;
        }
        Ok(input.len() - rest.len())
    }

    fn frame(
        &mut self,
        header: FrameHeader,
        payload: &[u8],
        sink: &mut impl Sink,
    ) -> Result<(), SessionError> {
        match header.kind {
            kind::DATA => self.data(header, payload, sink),
            kind::HEADERS => {
                let block = frame::unpadded(header, payload)?;
                self.header_block(header, block, sink)
            }
            kind::CONTINUATION => self.header_block(header, payload, sink),
            kind::RESET => {
                let message = format!("stream reset, HTTP/2 error {}", frame::number(payload));
                self.end(
                    header.stream,
                    Err(Failure {
                        status: 14,
                        message,
                    }),
                    sink,
                );
                Ok(())
            }
            kind::SETTINGS if !header.has(flag::ACK) => self.settings(payload),
            kind::PING if !header.has(flag::ACK) => {
                frame::put(&mut self.output, kind::PING, flag::ACK, 0, payload);
                Ok(())
            }
            kind::WINDOW_UPDATE if header.stream == 0 => {
                self.send_window += i64::from(frame::number(payload) & WINDOW_MAX);
                Ok(())
            }
            kind::GO_AWAY => Err(SessionError::GoAway {
                code: frame::number(payload.get(4..).unwrap_or_default()),
                detail: String::from_utf8_lossy(payload.get(8..).unwrap_or_default()).into_owned(),
            }),
            kind::PUSH_PROMISE => Err(SessionError::Forbidden {
                what: "pushed an answer that nobody asked for",
            }),
            // Acknowledgements, stream windows (a request never waits for one) and unknown types.
            _ => Ok(()),
        }
    }

    fn data(
        &mut self,
        header: FrameHeader,
        payload: &[u8],
        sink: &mut impl Sink,
    ) -> Result<(), SessionError> {
        let body = frame::unpadded(header, payload)?;
        let bytes = u32::try_from(header.length).expect("frames are at most 16 KiB");
        self.taken += bytes;
        if self.taken >= WINDOW_REFILL {
            frame::put_window_update(&mut self.output, 0, self.taken);
            self.taken = 0;
        }
        if let Some(stream) = self.stream(header.stream) {
            stream.taken += bytes;
            let (tag, taken) = (stream.tag, stream.taken);
            if taken >= WINDOW_REFILL {
                stream.taken = 0;
                frame::put_window_update(&mut self.output, header.stream, taken);
            }
            sink.data(tag, body);
        }
        if header.has(flag::END_STREAM) {
            let message = "answer ended without a status".to_owned();
            self.end(
                header.stream,
                Err(Failure {
                    status: 13,
                    message,
                }),
                sink,
            );
        }
        Ok(())
    }

    fn header_block(
        &mut self,
        header: FrameHeader,
        block: &[u8],
        sink: &mut impl Sink,
    ) -> Result<(), SessionError> {
        let mut summary = Summary::default();
        if header.has(flag::END_HEADERS) && self.block.is_empty() {
            self.blocks.read(block, &mut summary)?;
        } else {
            // Rare: a block in pieces. Its END_STREAM flag is on the first piece only, but an answer so large is an
            // error text, and those end the stream with their block.
            self.block.extend_from_slice(block);
            if self.block.len() > BLOCK_BYTES_MAX {
                return Err(SessionError::Forbidden {
                    what: "sent a header block without end",
                });
            }
            if !header.has(flag::END_HEADERS) {
                return Ok(());
            }
            let block = std::mem::take(&mut self.block);
            self.blocks.read(&block, &mut summary)?;
        }
        if header.has(flag::END_STREAM) || summary.grpc.is_some() {
            let outcome = match summary.grpc {
                Some(0) => Ok(()),
                Some(status) => Err(Failure {
                    status,
                    message: summary.message.unwrap_or_default(),
                }),
                None => Err(Failure {
                    status: 2,
                    message: format!("HTTP status {:?} without a gRPC status", summary.http),
                }),
            };
            self.end(header.stream, outcome, sink);
        }
        Ok(())
    }

    fn settings(&mut self, payload: &[u8]) -> Result<(), SessionError> {
        for pair in payload.chunks_exact(6) {
            let value = frame::number(&pair[2..]);
            match frame::number(&pair[..2]) {
                1 if value < 1024 => {
                    return Err(SessionError::Forbidden {
                        what: "allows no header compression",
                    });
                }
                3 => self.streams_max = value,
                4 => self.stream_window = i64::from(value),
                _ => {}
            }
        }
        frame::put(&mut self.output, kind::SETTINGS, flag::ACK, 0, &[]);
        self.ready = true;
        Ok(())
    }

    fn stream(&mut self, id: u32) -> Option<&mut Stream> {
        let at = usize::try_from(id.checked_sub(self.first_stream)? / 2).ok()?;
        self.streams.get_mut(at).filter(|stream| stream.open)
    }

    fn end(&mut self, id: u32, outcome: Result<(), Failure>, sink: &mut impl Sink) {
        let Some(stream) = self.stream(id) else {
            return;
        };
        stream.open = false;
        let tag = stream.tag;
        self.open -= 1;
        while self.streams.front().is_some_and(|stream| !stream.open) {
            self.streams.pop_front();
            self.first_stream += 2;
        }
        sink.end(tag, outcome);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_requests_name_fields_by_index() {
        let route = Route::new("127.0.0.1:2379", "/etcdserverpb.KV/Put", None);
        assert_eq!(route.again, [0x83, 0x86, 0xc2, 0xc1, 0xc0, 0xbf, 0xbe]);
        assert!(
            route
                .first
                .starts_with(b"\x83\x86\x44\x14/etcdserverpb.KV/Put\x41\x0e127.0.0.1:2379")
        );
    }

    #[test]
    fn long_text_has_a_long_length() {
        let mut block = Vec::new();
        put_text(&mut block, &"x".repeat(300));
        assert_eq!(block[..3], [0x7f, 0xad, 0x01]);
    }

    /// What a sink was told.
    #[derive(Debug, Default, PartialEq)]
    struct Told {
        data: Vec<(u32, Vec<u8>)>,
        ends: Vec<(u32, Result<(), Failure>)>,
    }

    impl Sink for Told {
        fn data(&mut self, tag: u32, payload: &[u8]) {
            match self.data.last_mut() {
                Some((last, bytes)) if *last == tag => bytes.extend_from_slice(payload),
                _ => self.data.push((tag, payload.to_vec())),
            }
        }

        fn end(&mut self, tag: u32, outcome: Result<(), Failure>) {
            self.ends.push((tag, outcome));
        }
    }

    fn hello() -> Vec<u8> {
        let mut bytes = Vec::new();
        frame::put_settings(&mut bytes, &[(3, 100), (4, 1000)]);
        bytes
    }

    /// A session that has taken the server's hello and begun so many requests, with tags from 0.
    fn begun(requests: u32) -> Session {
        let mut session = Session::new(Route::new("h:1", "/a/B", None));
        session.take(&hello(), &mut Told::default()).unwrap();
        (0..requests).for_each(|tag| session.begin(tag, b"12345", flag::END_STREAM));
        session.output.clear();
        session
    }

    fn frames(parts: &[(u8, u8, u32, &[u8])]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (kind, flags, stream, payload) in parts {
            frame::put(&mut bytes, *kind, *flags, *stream, payload);
        }
        bytes
    }

    /// Two answers, one of them a refusal, with a header block in two pieces and padding.
    fn answers() -> Vec<u8> {
        let end = flag::END_HEADERS | flag::END_STREAM;
        frames(&[
            (kind::HEADERS, flag::END_HEADERS, 3, b"\x88"),
            (kind::DATA, flag::PADDED, 3, b"\x02yes\0\0"),
            (
                kind::HEADERS,
                flag::END_STREAM,
                1,
                b"\x88\x40\x0bgrpc-status\x018",
            ),
            (
                kind::CONTINUATION,
                flag::END_HEADERS,
                1,
                b"\x40\x0cgrpc-message\x02no",
            ),
            (kind::HEADERS, end, 3, b"\x00\x0bgrpc-status\x010"),
        ])
    }

    fn expected() -> Told {
        let refused = Failure {
            status: 8,
            message: "no".to_owned(),
        };
        Told {
            data: vec![(1, b"yes".to_vec())],
            ends: vec![(0, Err(refused)), (1, Ok(()))],
        }
    }

    #[test]
    fn answers_reach_their_requests() {
        let mut session = begun(2);
        let mut told = Told::default();
        let bytes = answers();
        assert_eq!(session.take(&bytes, &mut told), Ok(bytes.len()));
        assert_eq!(told, expected());
        assert_eq!(session.open_streams(), 0);
    }

    #[test]
    fn answers_may_come_in_any_pieces() {
        let bytes = answers();
        for size in 1..bytes.len() {
            let mut session = begun(2);
            let (mut told, mut waiting) = (Told::default(), Vec::new());
            for piece in bytes.chunks(size) {
                waiting.extend_from_slice(piece);
                let used = session.take(&waiting, &mut told).unwrap();
                waiting.drain(..used);
            }
            assert_eq!(told, expected(), "pieces of {size}");
        }
    }

    #[test]
    fn nothing_is_sent_before_the_server_has_said_hello() {
        let mut session = Session::new(Route::new("h:1", "/a/B", None));
        assert!(session.output.starts_with(frame::PREFACE));
        assert!(!session.can_begin(1));
        session.take(&hello(), &mut Told::default()).unwrap();
        assert!(session.can_begin(1));
    }

    #[test]
    fn windows_and_stream_limits_hold_requests_back() {
        let mut session = begun(0);
        assert!(session.can_begin(1000) && !session.can_begin(1001));
        assert!(session.too_large(1001));
        (0..65).for_each(|tag| session.begin(tag, &[0; 1000], flag::END_STREAM));
        assert!(
            !session.can_begin(1000),
            "the connection's window is used up"
        );
        let more = frames(&[(kind::WINDOW_UPDATE, 0, 0, &[0, 0, 100, 0])]);
        session.take(&more, &mut Told::default()).unwrap();
        assert!(session.can_begin(1000));
        (65..100).for_each(|tag| session.begin(tag, b"", flag::END_STREAM));
        assert!(!session.can_begin(1), "the server takes 100 streams");
    }

    #[test]
    fn pings_and_settings_are_answered() {
        let mut session = begun(0);
        let bytes = frames(&[
            (kind::PING, 0, 0, b"12345678"),
            (kind::PING, flag::ACK, 0, b"87654321"),
            (kind::SETTINGS, 0, 0, &[]),
        ]);
        session.take(&bytes, &mut Told::default()).unwrap();
        let answer = frames(&[
            (kind::PING, flag::ACK, 0, b"12345678"),
            (kind::SETTINGS, flag::ACK, 0, &[]),
        ]);
        assert_eq!(session.output, answer);
    }

    #[test]
    fn broken_streams_and_connections_are_told_apart() {
        let mut session = begun(1);
        let mut told = Told::default();
        session
            .take(&frames(&[(kind::RESET, 0, 1, &[0, 0, 0, 8])]), &mut told)
            .unwrap();
        assert_eq!(told.ends.len(), 1);
        assert!(told.ends[0].1.is_err());
        let farewell = frames(&[(kind::GO_AWAY, 0, 0, b"\0\0\0\x01\0\0\0\x0bcalm down")]);
        let error = session.take(&farewell, &mut told).unwrap_err();
        assert_eq!(
            error,
            SessionError::GoAway {
                code: 11,
                detail: "calm down".to_owned()
            }
        );
    }

    #[test]
    fn noise_never_panics() {
        let mut noise = holm_base::Prng::new(7);
        for _round in 0..2000 {
            let mut session = begun(3);
            let mut bytes = answers();
            for _change in 0..4 {
                let at = usize::try_from(noise.next() % bytes.len() as u64).unwrap();
                bytes[at] = u8::try_from(noise.next() & 0xff).unwrap();
            }
            // Whatever comes of it, it is an answer or an error.
            drop(session.take(&bytes, &mut Told::default()));
        }
    }
}
