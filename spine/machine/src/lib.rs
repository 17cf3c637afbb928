//! The contract between what Holm decides and what the world does.
//!
//! A protocol is a [`Machine`]: a value that is told what happened and says what it wants.
//! It never blocks, fails, logs, or reads a clock. Storage is ordinary blocking code over
//! [`Disk`] and [`Folder`]. Both run unchanged on real hardware and in the simulator.
//!
//! ```text
//!             Input                    Effect
//!   driver ──────────► Machine::step ──────────► driver: log, sockets, clients
//!      ▲                                            │
//!      └──────── wake_at() says when to call again ─┘
//! ```
//!
//! # Invariants of a driver
//!
//! - I1 `now` never decreases between steps of one machine.
//! - I2 An effect with `after: Some(w)` leaves only when all writes through `w` are durable,
//!   and at once if they already are.
//! - I3 `WriteId` rises by one per `Persist`; durability is reported in that order.
//! - I4 A wake before the deadline changes nothing; at or past it all due timers fire, and then
//!   `wake_at` is `None` or later than `now`.
//! - I5 Equal configuration, seed and `(now, input)` sequence give equal effects and state on
//!   every platform.
//! - I6 One step emits at most the number of effects that its configuration allows.
//! - I7 A crash loses held effects; a restored machine knows only what was durable.
//! - I8 Sends have no order among themselves but `after`.
//!
//! # Storage
//!
//! After a failed write or sync a handle refuses everything: what the device holds is then
//! unknown, and a second sync may report success for bytes that the first one lost.
//! A folder that cannot *allocate* a file is different: that is [`DiskError::Full`], nothing
//! was lost, and the caller may go on.
#![no_std]
#![forbid(unsafe_code)]
#![deny(clippy::wildcard_enum_match_arm)]

extern crate alloc;

mod disk;
mod machine;

pub use disk::{Disk, DiskError, Folder};
pub use machine::{Effects, Machine};
