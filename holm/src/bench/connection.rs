//! One HTTP/2 connection of the load generator: plain TCP, not blocking, one route.
//!
//! A request is a header block and a message, both copied from prepared bytes into one output buffer; the buffer is
//! written once for all requests that became due together. The first request teaches the server's compression table
//! the fields, every later one names them by index, as stock gRPC clients do. Answers are read without copying.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;

use thiserror::Error;

use super::frame::{self, FrameError, FrameHeader, flag, kind};
use super::hpack::{Decoder, HpackError, Summary};

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
#[derive(Debug, Error)]
pub(crate) enum ConnectionError {
    /// The socket failed.
    #[error("connection to {endpoint}")]
    Io {
        /// The server's address.
        endpoint: String,
        /// The socket's answer.
        source: io::Error,
    },
    /// The server closed it.
    #[error("server closed the connection")]
    Closed,
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
    Protocol {
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

/// One connection.
#[derive(Debug)]
pub(crate) struct Connection {
    socket: TcpStream,
    endpoint: String,
    route: Route,
    input: Vec<u8>,
    filled: usize,
    output: Vec<u8>,
    written: usize,
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
    decoder: Decoder,
    block: Vec<u8>,
}

/// The largest window that HTTP/2 knows.
const WINDOW_MAX: u32 = 0x7fff_ffff;
/// Refill a window once so much of it is used.
const WINDOW_REFILL: u32 = 0x2000_0000;
const WINDOW_DEFAULT: u32 = 65_535;
const INPUT_BYTES: usize = 256 * 1024;
/// Output that does not leave is a server that does not read: requests stop until it does.
const OUTPUT_BYTES_MAX: usize = 1024 * 1024;

impl Connection {
    /// Connects and says hello; the server's own hello is read by [`Connection::receive`].
    pub(crate) fn open(endpoint: &str, route: Route) -> Result<Self, ConnectionError> {
        let failed = |source| ConnectionError::Io {
            endpoint: endpoint.to_owned(),
            source,
        };
        let socket = TcpStream::connect(endpoint).map_err(failed)?;
        socket.set_nodelay(true).map_err(failed)?;
        socket.set_nonblocking(true).map_err(failed)?;
        let mut output = frame::PREFACE.to_vec();
        frame::put_settings(&mut output, &[(2, 0), (4, WINDOW_MAX)]);
        frame::put_window_update(&mut output, 0, WINDOW_MAX - WINDOW_DEFAULT);
        Ok(Self {
            socket,
            endpoint: endpoint.to_owned(),
            route,
            input: vec![0; INPUT_BYTES],
            filled: 0,
            output,
            written: 0,
            streams: VecDeque::new(),
            first_stream: 1,
            next_stream: 1,
            open: 0,
            ready: false,
            send_window: i64::from(WINDOW_DEFAULT),
            stream_window: i64::from(WINDOW_DEFAULT),
            streams_max: u32::MAX,
            taken: 0,
            decoder: Decoder::new(),
            block: Vec::new(),
        })
    }

    /// The socket, to wait on.
    pub(crate) fn socket(&self) -> &TcpStream {
        &self.socket
    }

    /// Whether bytes wait for room in the socket.
    pub(crate) fn has_output(&self) -> bool {
        self.written < self.output.len()
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
            && self.output.len() - self.written < OUTPUT_BYTES_MAX
    }

    /// Whether no message of `bytes` can ever be sent in one piece, as this generator must.
    pub(crate) fn too_large(&self, bytes: usize) -> bool {
        self.ready && i64::try_from(bytes).is_ok_and(|bytes| bytes > self.stream_window)
    }

    /// Puts a request into the output. The caller has asked [`Connection::can_begin`].
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

    /// Writes what there is. Bytes that do not fit stay; see [`Connection::has_output`].
    pub(crate) fn flush(&mut self) -> Result<(), ConnectionError> {
        while self.has_output() {
            match self.socket.write(&self.output[self.written..]) {
                Ok(bytes) => self.written += bytes,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(source) => return Err(self.failed(source)),
            }
        }
        self.output.clear();
        self.written = 0;
        Ok(())
    }

    /// Reads what has come and hands it on.
    pub(crate) fn receive(&mut self, sink: &mut impl Sink) -> Result<(), ConnectionError> {
        loop {
            let space = self.input.len() - self.filled;
            let bytes = match self.socket.read(&mut self.input[self.filled..]) {
                Ok(0) => return Err(ConnectionError::Closed),
                Ok(bytes) => bytes,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(source) => return Err(self.failed(source)),
            };
            self.filled += bytes;
            // The buffer is out of `self` while frames borrow from it.
            let mut input = std::mem::take(&mut self.input);
            let used = self.frames(&input[..self.filled], sink);
            let used = used?;
            input.copy_within(used..self.filled, 0);
            self.filled -= used;
            self.input = input;
            if bytes < space {
                return Ok(());
            }
        }
    }

    fn failed(&self, source: io::Error) -> ConnectionError {
        ConnectionError::Io {
            endpoint: self.endpoint.clone(),
            source,
        }
    }

    /// Handles all whole frames; returns how many bytes they took.
    fn frames(&mut self, input: &[u8], sink: &mut impl Sink) -> Result<usize, ConnectionError> {
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
    ) -> Result<(), ConnectionError> {
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
            kind::GO_AWAY => Err(ConnectionError::GoAway {
                code: frame::number(payload.get(4..).unwrap_or_default()),
                detail: String::from_utf8_lossy(payload.get(8..).unwrap_or_default()).into_owned(),
            }),
            kind::PUSH_PROMISE => Err(ConnectionError::Protocol {
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
    ) -> Result<(), ConnectionError> {
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
    ) -> Result<(), ConnectionError> {
        let mut summary = Summary::default();
        if header.has(flag::END_HEADERS) && self.block.is_empty() {
            self.decoder.decode(block, &mut summary)?;
        } else {
            // Rare: a block in pieces. Its END_STREAM flag is on the first piece only, but an answer so large is an
            // error text, and those end the stream with their block.
            self.block.extend_from_slice(block);
            if self.block.len() > INPUT_BYTES {
                return Err(ConnectionError::Protocol {
                    what: "sent a header block without end",
                });
            }
            if !header.has(flag::END_HEADERS) {
                return Ok(());
            }
            let block = std::mem::take(&mut self.block);
            self.decoder.decode(&block, &mut summary)?;
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

    fn settings(&mut self, payload: &[u8]) -> Result<(), ConnectionError> {
        for pair in payload.chunks_exact(6) {
            let value = frame::number(&pair[2..]);
            match frame::number(&pair[..2]) {
                1 if value < 1024 => {
                    return Err(ConnectionError::Protocol {
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
}
