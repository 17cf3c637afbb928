//! Binds a sequencer to the log and the engine: one keyspace on one node.
//!
//! A [`Replica`] is told what happened (a proposal came in, writes became durable, another
//! replica spoke, a piece of background work is done, time passed) and says what it wants
//! (persist this, send that, answer those, wake these watch streams, run this job). It owns the
//! order of things and no thread: the driver decides where the log is written, where jobs run
//! and how messages travel.
//!
//! ```text
//!  Propose ─► Solo ─► Persist ─► (driver: log, fdatasync) ─► Durable ─► Solo ─► Apply
//!                                                                             │
//!        Answer ◄─ settle(): publish the view, then wake watchers ◄─ Keyspace ┘
//!
//!  Propose ─┐                ┌─► Persist, Send ─► (driver: log, network)
//!  Message ─┼─ settle(): Raft┤
//!  Durable ─┘  decides once  └─► Apply ─► Keyspace, and on as above
//! ```
//!
//! A node alone has the first sequencer ([`open`]), one of several the second
//! ([`open_in_group`]). What a command does, and what it costs once it is ordered, is the same.
//!
//! # Invariants
//!
//! - I1 The answer to a command leaves only after the view that holds its effects is published
//!   (kv I2): [`Replica::settle`] publishes first and hands out answers second. So does the
//!   answer to a read.
//! - I2 Lease calls are answered only by who leads, and only once everything of earlier terms is
//!   applied there. At another site they are put to the leader, which answers no earlier than
//!   it has applied what the asker had. Which leases there are any site may say (I9).
//! - I3 A request that is refused before it is ordered has changed nothing.
//! - I4 The log is cut no higher than the engine's durable op (kv I5), and in a group no higher
//!   than the slowest peer needs, unless more is kept for it than a snapshot is worth
//!   ([`GroupConfig::laggard_bytes_min`]).
//! - I5 The answer to a renewal leaves only once a restart would give the lease all its time
//!   (kv I15): what is on record from before the renewal is cleared first.
//! - I6 While a write of the log has been outstanding for longer than an election timeout, no
//!   renewal is answered with success and no end of a lease is proposed (kv I15): with other
//!   sites about, another would lead by then.
//! - I7 Raft and the engine have applied the same op at each settling, and reach the disk
//!   together (kv I16). Between the record of a snapshot and the engine's swap Raft stands still.
//! - I8 A snapshot becomes the engine's state once the log's record of it is durable, never
//!   before, and whole: a crash leaves the one or the other.
//! - I9 What was acknowledged of a lease at any site is known where it is asked next. An origin
//!   counts its quorum itself and may be ahead of its leader, so a leader first applies all
//!   that anyone may have counted by then ([`holm_raft::Raft::acknowledged_through`]): it renews no
//!   lease whose revocation was acknowledged. That costs no message, and no time unless
//!   another site's command is under way. That a lease is *unknown*, and which there are, is
//!   said only after a read, for another may lead by now. A lease that is known needs no
//!   read: a deposed leader that renews it within its last election timeout keeps nothing
//!   alive, for the one who leads gives every lease its time anew, or has ended it and its
//!   keys. In that time alone a renewal may be answered that comes too late, as in etcd. At a
//!   node alone what is applied is all there is.
//!
//! # Limits
//!
//! Raft's own ([`holm_raft::Config`]). 65,536 questions to the leader from here; one more is
//! answered [`holm_kv::Refusal::Busy`]. 65,536 that wait here ([`QUESTIONS_MAX`]); one more of
//! this site is answered `Busy`, one more of another dropped, and asked again. While the engine cannot follow and 64 MiB wait for it, entries of
//! others are dropped ([`Event::Flooded`]), and are sent again. One snapshot is given and one
//! taken at a time, with five chunks in memory; more than 64 questions for chunks are dropped,
//! and come again.
//!
//! What it does not do: talk to disks or networks of its own accord, or know a client's wire
//! format.
//!
//! Tests: `tests/replica.rs` drives a node alone over a virtual disk, `tests/group` three
//! replicas and the network between them. Start reading at `replica.rs`, then `cluster.rs`,
//! `snapshots.rs`.
#![deny(clippy::wildcard_enum_match_arm)]

mod asks;
mod cluster;
mod company;
mod founded;
mod group;
mod input;
mod message;
mod open;
mod open_group;
mod replica;
mod room;
mod shore;
mod snapshots;
mod stall;
mod standing;
mod tape;

pub use company::{Company, HERE_BYTES_MAX, HERE_RECORDS_MAX};
pub use founded::Founded;
pub use input::{Answer, Effect, Event, Input};
pub use message::{Ask, Message, MessageError, Told, Wish, Word};
pub use open::{OpenError, Opened, OpenedGroup, engine_folder, open, open_beside};
pub use open_group::{GroupConfig, open_in_group, open_in_group_beside};
pub use replica::{Replica, SWEEP_WAITS_MAX};
pub use room::QUESTIONS_MAX;
pub use shore::{Neighbour, Shores};
pub use standing::Standing;
pub use tape::Sink;
