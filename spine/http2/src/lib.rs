//! A server's side of HTTP/2 (RFC 9113) as a pure machine: bytes in, events out; commands in,
//! bytes out.
//!
//! It is made for what gRPC clients do: many short streams whose heads are the same bytes over
//! and over, answered by a message and two blocks that are the same each time. All that a
//! connection's streams say goes into one buffer, so that one write sends it.
//!
//! ```text
//!  bytes ──► receive ──► Event: Began, Data, Ended, Reset, Over, Pinged, Failed
//!                                  │
//!            out ◄── head, data, end, answer, reset, release, ask, leave, fail
//!             │
//!             └──► written, then pump: what waited for the output or for a window
//! ```
//!
//! # Invariants
//!
//! - I1 However a connection's bytes are cut, they come to the same events.
//! - I2 No more data is sent than both windows allow, and none of a stream behind its end.
//! - I3 A stream's key is never used again; a command for a stream that is over does nothing.
//! - I4 What a client may have us hold is bounded: one frame's bytes that are not whole, a block
//!   of [`Config::head_bytes_max`], a table of 4 KiB, [`Config::streams_max`] streams, and for
//!   each what its owner gave to be sent. What a client may have us say is bounded if nothing is
//!   read while [`Connection::is_clogged`].
//! - I5 What brings nothing forward is counted, and ends the connection when it is too much.
//!
//! |too much of|answer|
//! |--|--|
//! |streams at once|`REFUSED_STREAM`|
//! |fields of a head|status 431|
//! |pieces or bytes of a header block|GOAWAY `ENHANCE_YOUR_CALM`|
//! |streams that are begun and broken off, or refused|GOAWAY `ENHANCE_YOUR_CALM`|
//! |pings, settings, empty data and the like in a row|GOAWAY `ENHANCE_YOUR_CALM`|
//! |data beyond a stream's window|`FLOW_CONTROL_ERROR` on the stream|
//! |data beyond the connection's window|GOAWAY `FLOW_CONTROL_ERROR`|
//!
//! # What it does not do
//!
//! It reads no clock: who pings too often, or takes too long, is its driver's to say. It knows
//! no client's side, no push, no priorities (RFC 9113 lets them be), no protocols beyond
//! HTTP/2, and checks of a request's target only that it is there.
//!
//! ```
//! use bytes::Bytes;
//! use holm_http2::{Config, Connection, Event, Favourites};
//!
//! let usual = |name: &'static str, value: &'static str| (name.into(), value.into());
//! let mut connection = Connection::new(Config {
//!     streams_max: 100,
//!     stream_window: 1 << 20,
//!     connection_window: 4 << 20,
//!     head_bytes_max: 64 << 10,
//!     out_bytes_max: 64 << 10,
//!     idle_frames_max: 10_000,
//!     resets_max: 1_000,
//!     pieces_max: 16,
//!     favourites: Favourites {
//!         head: usual("content-type", "application/grpc"),
//!         tail: usual("grpc-status", "0"),
//!     },
//! });
//! let said = [
//!     &b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..],
//!     &[0, 0, 0, 4, 0, 0, 0, 0, 0],                      // settings
//!     &[0, 0, 3, 1, 5, 0, 0, 0, 1, 0x82, 0x84, 0x86],    // GET / over http
//! ]
//! .concat();
//! let (read, event) = connection.receive(&said);
//! let Some(Event::Began { key, head, is_whole: true }) = event else {
//!     panic!("a request has come");
//! };
//! assert_eq!((read, &head.path[..]), (said.len(), &b"/"[..]));
//! connection.answer(key, b"hello");
//! assert!(connection.out().ends_with(b"\x0bgrpc-status\x010"));
//! ```
//!
//! Tests: the examples of RFC 7541 are in `hpack`, `tests/twin.rs` holds random conversations
//! with another implementation, `tests/rules.rs` and `tests/floods.rs` say what no good client
//! says, `tests/noise.rs` feeds what nobody says. Start at `connection.rs`.
#![no_std]
#![forbid(unsafe_code)]
#![deny(clippy::wildcard_enum_match_arm)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod config;
mod connection;
mod event;
mod frame;
mod guard;
mod head;
mod hpack;
mod reason;
mod stream;

pub use config::Config;
pub use connection::{Connection, Section};
pub use event::{Event, Key};
pub use head::Head;
pub use hpack::{Decoder, Favourites, Field, HpackError, Outcome};
pub use reason::Reason;
