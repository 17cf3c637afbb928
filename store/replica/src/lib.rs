//! Binds a sequencer to the log and the engine: one keyspace on one node.
//!
//! A [`Replica`] is told what happened (a proposal came in, writes became durable, a piece of
//! background work is done, time passed) and says what it wants (persist this, answer that,
//! wake these watch streams, run this job). It owns the order of things and no thread: the
//! driver decides where the log is written and where jobs run.
//!
//! ```text
//!  Propose ─► Solo ─► Persist ─► (driver: log, fdatasync) ─► Durable ─► Solo ─► Apply
//!                                                                             │
//!        Answer ◄─ settle(): publish the view, then wake watchers ◄─ Keyspace ┘
//! ```
//!
//! # Invariants
//!
//! - I1 The answer to a command leaves only after the view that holds its effects is published
//!   (kv I2): [`Replica::settle`] publishes first and hands out answers second.
//! - I2 Lease calls are answered only once this term leads.
//! - I3 A request that is refused before it is ordered has changed nothing.
//! - I4 The log is cut no higher than the engine's durable op (kv I5).
//! - I5 The answer to a renewal leaves only once a restart would give the lease all its time
//!   (kv I15): what is on record from before the renewal is cleared first.
//! - I6 While a write of the log has been outstanding for longer than an election timeout, no
//!   renewal is answered with success and no end of a lease is proposed (kv I15): with other
//!   sites about, another would lead by then.
//!
//! What it does not do: talk to disks of its own accord, or know a wire format.
//! Tests: `tests/replica.rs` drives one over a virtual disk.
#![deny(clippy::wildcard_enum_match_arm)]

mod asks;
mod cluster;
mod group;
mod input;
mod message;
mod open;
mod open_group;
mod replica;
mod stall;
mod standing;

pub use input::{Answer, Effect, Event, Input};
pub use message::{Ask, Message, MessageError, Told, Wish, Word};
pub use open::{OpenError, Opened, engine_folder, open};
pub use open_group::{GroupConfig, open_in_group};
pub use replica::{Replica, SWEEP_WAITS_MAX};
pub use standing::Standing;
