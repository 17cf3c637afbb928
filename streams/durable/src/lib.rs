//! What a stream keeps on disk: its log, its snapshots, and the bytes of both.
//!
//! A [`Log`] is a row of records in segments. What was flushed is there after any crash; what a
//! crash tore is cut away; what is damaged is refused, with the place. A *checked file* is small
//! and whole: it appears complete or not at all ([`keep`], [`fetch`]); snapshots and the
//! stream's description are such files. [`Record`] is what the log's records say.
//!
//! ```text
//!   Record ─ encode ─► frame ─┐
//!   Record ─ encode ─► frame ─┴ one write, one sync ─► segment log-00000000000000000017
//! ```
//!
//! # Invariants
//!
//! - I1 When [`Log::append`] has returned, its records are there after any crash, in order.
//! - I2 Only the tail of the last flush is ever cut, and only if it was never whole.
//! - I3 A number is missing nowhere: records are numbered densely, across segments too.
//! - I4 What is read back has the bytes that were written, or is refused with its place.
//!
//! # Layout
//!
//! All numbers are little-endian. A segment is named `log-` and its first record:
//!
//! ```text
//! segment  0 "HOLMSTRM"   8 u32 version 1   12 u32 crc of 16..32   16 u64 first record   24 u64 0
//! frame    0 u32 crc of 4..   4 u32 body bytes   8 u64 record   16 u64 epoch
//!          24 u8 kind   25 u8 version   26 u16 0   28 u32 bytes back to where its flush began
//!          32 body, then zeros to a multiple of 8
//! checked  0 "HOLMKEPT"   8 u32 version 1   12 u32 kind   16 u64 body bytes
//!          24 u32 crc of 8..24 and of the body   28 u32 0   32 body
//! ```
//!
//! Checksums are CRC32C. `back` says which frames were one flush: a frame that is not whole was
//! torn if what is whole behind it belongs to the same flush, and is damage otherwise.
//!
//! What it deliberately does not do: decide when (that is streams/once), threads, retries. After
//! a write or sync that failed the log refuses everything; only a full disk, found before
//! anything was written, can be tried again.
//!
//! ```no_run
//! use std::sync::Arc;
//!
//! use holm_durable::{Config, Entry, Log, LogError};
//! use holm_machine::Folder;
//!
//! fn one_more(folder: Arc<dyn Folder>) -> Result<(), LogError> {
//!     let (mut log, found) = Log::open(folder, Config::default())?;
//!     let (sequence, body) = (found.last + 1, vec![]);
//!     log.append(&[Entry { sequence, epoch: 1, kind: 1, version: 1, body }])
//! }
//! ```
//!
//! Read `frame.rs`, `log.rs`, then `record.rs`, `data.rs` and `checked.rs`.

#![forbid(unsafe_code)]
#![deny(clippy::wildcard_enum_match_arm)]

mod checked;
mod data;
mod frame;
mod log;
mod record;

pub use checked::{CheckedError, fetch, keep, leftovers};
pub use frame::Entry;
pub use log::{Config, Extent, Log, LogError, Replay, inspect};
pub use record::{Behind, Data, Offsets, Record, RecordError};
