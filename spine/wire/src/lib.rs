//! The frame in which sites talk to each other: sixteen bytes of header and a body.
//!
//! A link is a stream of bytes; this cuts it into [`Frame`]s. The header says how long the body
//! is, whose it is (plane and kind) and for which group, and carries a checksum of all of it.
//! TLS below already guards against change on the way; the checksum guards against us: a wrong
//! slice, a buffer used twice, bad memory.
//!
//! ```text
//!   0        4    5     6        8        12       16
//!   | length | kind | plane | version | group | crc32c | body ...      little-endian
//! ```
//!
//! `length` is the body's; `crc32c` is of bytes 0 to 12 and then the body.
//!
//! # Invariants
//!
//! - I1 No length is believed before it was held against the limit, and nothing is allocated for
//!   a body before its bytes are there.
//! - I2 A stream that was refused once gives no frame any more: after a wrong length nobody
//!   knows where the next frame begins.
//! - I3 However a stream is cut into pieces, it gives the same frames.
//!
//! # What it does not do
//!
//! It reads no socket, knows no kinds, and compresses nothing. Bodies are slices of what was
//! read, so a small body that is kept keeps its neighbours in memory.
//!
//! ```
//! use bytes::{Bytes, BytesMut};
//! use holm_wire::{Decoder, Frame};
//!
//! let frame = Frame { kind: 16, plane: 1, version: 1, group: 0, body: Bytes::from("vote") };
//! let mut stream = BytesMut::new();
//! frame.encode(&mut stream);
//! let mut decoder = Decoder::new();
//! assert_eq!(decoder.next(&mut stream), Ok(Some(frame)));
//! assert_eq!(decoder.next(&mut stream), Ok(None));
//! ```
//!
//! Limits: 8 MiB a body. Tests: `tests/script/torn.txt` is a stream cut short, `tests/hostile.rs`
//! feeds noise, `tests/compat` keeps the bytes of version 1. Start at `frame.rs`.
#![no_std]
#![forbid(unsafe_code)]
#![deny(clippy::wildcard_enum_match_arm)]

mod decoder;
mod frame;

pub use decoder::{Decoder, WireError};
pub use frame::{BODY_MAX, Frame, HEADER, checksum};
