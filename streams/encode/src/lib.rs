//! Columns as few bytes, and back bit for bit.
//!
//! A lane is cut into blocks of 1,024 values, and each block is written in the way that takes the
//! fewest bytes for it. Decoding gives the same bits, always: of floats too, and what a way
//! cannot give back it does not take.
//!
//! |id|way|for|refused when|
//! |--|--|--|--|
//! |0|raw|all|never|
//! |1|constant|numbers|two differ|
//! |2|runs|numbers|a run has fewer than five values, on average|
//! |3|frame of reference, bit-packed|integers|never|
//! |4|differences, then 3|integers|one overflows|
//! |5|codes into the column's own values|strings|more than half of them differ|
//! |6|decimal: an integer and a power of ten|floats|more than one in 16 is none|
//! |7|XOR with the value before|floats|never|
//! |8|lengths bit-packed, and LZ4 of the text; with codes or without|strings|it spares less than a tenth|
//! |9|as 6, rounded to a single float|floats that are single ones|more than one in 16 is none|
//!
//! # Layout
//!
//! ```text
//! lane     0 u8 shape   1 u8 1 if there are NULLs   2 u16 0   4 u32 rows   NULLs, a bit each
//!          then blocks of 1,024; strings are one block
//! block    0 u8 way   1 u8 width in bits, or power   2 u16 0   4 u32 bytes   8 bytes
//! way 8    1 u8 0 if the strings are all rows', or 1 and the width of codes into them
//!          8 u32 strings, if there are codes   u8 width of a length   lengths   u32 bytes   LZ4
//!          codes
//! ```
//!
//! # Invariants
//!
//! - I1 decode(encode(x)) = x, bit for bit, NULLs' values among them.
//! - I2 Whatever bytes are given, decoding gives a lane or an error, and takes memory in
//!   proportion to the rows that it was allowed.
//! - I3 What was encoded is decoded again before anybody relies on it: every lane where debug
//!   assertions are on, one in 1,024 elsewhere; a difference ends the process.
//!
//! What it deliberately does not do: searching, computing on encoded values.
//!
//! ```
//! use holm_encode::{Decoder, Encoder};
//! use holm_lanes::{Lane, Values};
//!
//! let lane = Lane::dense(Values::Int((0..1_000).map(|at| 1_000_000 + at * 20).collect()));
//! let mut bytes = Vec::new();
//! Encoder::default().lane(&lane, &mut bytes);
//! assert!(bytes.len() < 64);
//! assert_eq!(Decoder::new(&bytes).lane(1_000)?, lane);
//! # Ok::<(), holm_encode::DecodeError>(())
//! ```
//!
//! Read `encoder.rs`, `decoder.rs`, then `bits.rs`, `decimal.rs`, `texts.rs`.

#![forbid(unsafe_code)]
#![deny(clippy::wildcard_enum_match_arm)]

mod bits;
mod decimal;
mod decoder;
mod encoder;
mod texts;

pub use decoder::{DecodeError, Decoder};
pub use encoder::Encoder;

/// Values of a block.
pub const BLOCK: usize = 1_024;

pub(crate) const RAW: u8 = 0;
pub(crate) const CONSTANT: u8 = 1;
pub(crate) const RUNS: u8 = 2;
pub(crate) const PACKED: u8 = 3;
pub(crate) const DELTA: u8 = 4;
pub(crate) const CODES: u8 = 5;
pub(crate) const DECIMAL: u8 = 6;
pub(crate) const XOR: u8 = 7;
pub(crate) const LZ4: u8 = 8;
pub(crate) const SINGLE: u8 = 9;
