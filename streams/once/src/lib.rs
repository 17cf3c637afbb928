//! Decides when a stream may acknowledge, commit, snapshot and forget, and how it comes back.
//!
//! A stream takes batches of rows, keeps them (or where they came from) in a log, computes on
//! them in the order of the log, and hands what comes out to sinks. Whatever a crash takes away
//! is computed again from the log. So the whole of "exactly once" is a matter of order: what
//! may happen only after what is durable. [`Once`] is that order as a machine, and nothing else;
//! it sees numbers, never rows. A stream has one query or several over the same batches; the
//! outputs of each are numbered by themselves, and go to sinks of its own.
//!
//! ```text
//!   Received ─► Persist(batch n) ── synced ──► Acknowledge(n)
//!      │                              │
//!      └─► Assemble(n) ─► Assembled ──┴──────► Commit(outputs of n) ─► Committed
//!              │
//!              └ every interval: Snapshot(n) ── synced ─► Snapshotted ─► Truncate, Forget
//! ```
//!
//! # Invariants
//!
//! - I1 A source hears that a batch is taken only after its record is durable.
//! - I2 A sink is handed only outputs of durable batches, each once a run, in order, densely.
//! - I3 The snapshot that is loaded is one that no sink is behind; the newest of those.
//! - I4 Truncation stays below two good snapshots and below every sink's first missing output.
//! - I5 The epoch rises with each start, and is durable before a sink is asked anything.
//! - I6 Batches are replayed in order, without a gap, before a source is opened again.
//!
//! # Inputs and effects
//!
//! |input|meaning||effect|meaning|
//! |--|--|--|--|--|
//! |`Opened`|what the disk holds||`Persist`|make this record durable, in order|
//! |`Answered`|what a sink has||`Ask`|what does this sink have?|
//! |`Loaded`, `Damaged`|of the snapshot that was wanted||`Load`|this snapshot, or a fresh start|
//! |`Received`|a batch is there||`Assemble`|run this batch|
//! |`Assembled`|it ran; so many outputs of each query in all||`Commit`|give these outputs to this sink|
//! |`Durable`|writes up to here are safe||`Acknowledge`|this batch is safe|
//! |`Committed`|a sink has outputs up to here||`Snapshot`|save the state as it is now|
//! |`Snapshotted`|a snapshot is durable||`Truncate`, `Forget`|log below, a snapshot|
//! |`Wake`|the time has come||`Open`|sources, where the log ends|
//! ||||`Refuse`|it cannot go on, and why|
//!
//! `Ask`, `Commit`, `Acknowledge` and `Snapshot` carry the write that they wait for; whoever
//! runs the machine holds them until then. All else may happen at once: running ahead of the
//! disk costs nothing but what a crash throws away.
//!
//! What it deliberately does not do: hold rows, bytes or offsets; threads; limits on memory,
//! which whoever runs it keeps by not giving it more.
//!
//! ```
//! use holm_base::{Time, WriteId};
//! use holm_machine::{Effects, Machine};
//! use holm_once::{Config, Effect, Found, Input, Once, Outputs};
//!
//! let mut once = Once::new(Config { sinks: vec![0], snapshot_interval_ms: 250 });
//! let mut effects = Effects::new();
//! let mut step = |input| {
//!     once.step(Time::ZERO, input, &mut effects);
//!     effects.drain().collect::<Vec<_>>()
//! };
//! step(Input::Opened(Found::default()));
//! step(Input::Answered { sink: 0, output: 0 });
//! step(Input::Loaded);
//! step(Input::Assembled { sequence: 1, outputs: Outputs::NONE }); // the record that opens a run
//! let wanted = step(Input::Received { source: 0 });
//! let write = WriteId::new(2);
//! let after = Some(write);
//! assert_eq!(wanted[1], Effect::Acknowledge { source: 0, sequence: 2, after });
//! ```
//!
//! Read `boundary.rs`, then `once.rs`, `recovery.rs` and `kept.rs`.
#![no_std]
#![forbid(unsafe_code)]
#![deny(clippy::wildcard_enum_match_arm)]

extern crate alloc;

mod boundary;
mod kept;
mod once;
mod recovery;

pub use boundary::{Config, Effect, Found, Input, Outputs, QUERIES_MAX, Record, Refusal, Snapshot};
pub use once::Once;
