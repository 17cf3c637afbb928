//! Keeps a stream running: source, log, engine, sink, and the way back after a crash.
//!
//! A [`Keeper`] is a stream on one thread: what it takes in it logs, runs and counts, and what is
//! to be done outside lies in its queues: records to flush, rows to commit, snapshots to save.
//! When each of these may be done is decided by streams/once. A [`Flow`] is that with what its
//! ends report: which batch is next, when sources wait. [`start`] gives every queue a thread; a
//! rehearsal has them in virtual time; a test may empty them in any order, and crash in between.
//!
//! ```text
//!   source ─ take, decode ─►┐                    ┌─► log: one write, one sync for all that waits
//!   source ─ take, decode ─►┼─► Keeper: number, ─┼─► sink: commit by number
//!         ▲                 │   log, run         ├─► snapshot: save, then forget older ones
//!         └─ acknowledge ◄──┴────────────────────┘
//! ```
//!
//! # Invariants
//!
//! - I1 The state after record n is that of the plan and of the records up to n: replay gives the
//!   same bytes.
//! - I2 What a replayable source gave is logged as its place, length and checksum; what cannot be
//!   had again is logged itself. If what is read again differs, the stream refuses.
//!   Rows may be logged where they have passed filters, if that takes fewer bytes.
//! - I3 A sink gets each row of its query once in a run, numbered densely from 0.
//! - I4 No more than the credit is held between source and sink.
//!
//! Several queries over the same sources are one stream: one reading, one log, one snapshot of all,
//! and panes that are shared where they can be. Streams of a site take [`Turns`].
//!
//! What it deliberately does not do: know files, sockets or keyspaces; those are behind
//! [`Source`](holm_connect::Source), [`Sink`](holm_connect::Sink) and
//! [`Folder`](holm_machine::Folder).
//!
//! Read `job.rs`, `keeper.rs`, `cut.rs`, `recover.rs`, `flow.rs`, then `threads.rs`, `desk.rs`, `ends.rs`, `pace.rs` and `turns.rs`.

#![forbid(unsafe_code)]

mod cut;
mod desk;
mod ends;
mod error;
mod figures;
mod flow;
mod job;
mod keeper;
mod mail;
mod pace;
mod recover;
mod saved;
mod silence;
mod threads;
mod turns;
mod verify;
mod waiting;
mod waits;

pub use cut::LogPoint;
pub use desk::within;
pub use error::RunnerError;
pub use flow::{Flow, Given};
pub use holm_once::QUERIES_MAX;
pub use job::{Aside, Ends, Input, Job, Settings};
pub use keeper::{Arrived, Commit, Filed, Keeper, Save};
pub use recover::{Opened, Spent, open};
pub use threads::{Handle, Listener, Phase, Status, TableRows, start};
pub use turns::Turns;
pub use verify::{Verified, verify};
pub use waits::Waits;
