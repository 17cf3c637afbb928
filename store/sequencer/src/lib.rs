//! What a sequencer takes and gives, and [`Solo`], the sequencer of a keyspace of one node.
//!
//! A keyspace's guarantee is a choice of sequencer: the thing that says which command comes
//! next. Everything behind it (log, engine, watches, leases, the etcd front) knows only the
//! types of this crate, so a keyspace of one node runs the path that three sites will run.
//!
//! ```text
//!   Request ─► sequencer ─► Persist ─► log ─► Durable ─► sequencer ─► Apply ─► engine
//! ```
//!
//! # Invariants
//!
//! - I1 Commands are applied once, in op order, without a gap.
//! - I2 A command is applied only when its entry is durable at a quorum; here, a quorum of one.
//! - I3 The term rises with each start, so nothing of an earlier run can be taken for this one.
//! - I4 Commands that wait for durability take at most `uncommitted_bytes_max` bytes and
//!   `uncommitted_count_max` places; beyond, a request is refused and changes nothing.
//!
//! # Inputs and effects
//!
//! |input|meaning||effect|meaning|
//! |--|--|--|--|--|
//! |`Start`|begin, once||`Persist`|make this record durable, in order|
//! |`Request`|order this command||`Apply`|the next command, committed|
//! |`Durable`|writes up to here are safe||`Refuse`|this request changed nothing|
//! |||| `Note`|an event for whoever listens|
//!
//! What it does not do: elections, replication, reads. A node alone reads its own applied
//! state, and that holds every acknowledged command.
//!
//! ```
//! use holm_base::{Op, RequestId, Term, Time, WriteId};
//! use holm_machine::{Effects, Machine};
//! use holm_sequencer::{Command, Config, Durable, Effect, Input, Solo};
//!
//! let mut solo = Solo::restore(Config::default(), Durable { term: Term::ZERO, last: Op::ZERO });
//! let mut effects = Effects::new();
//! solo.step(Time::ZERO, Input::Start, &mut effects);
//! solo.step(Time::ZERO, Input::Durable { through: WriteId::new(1) }, &mut effects);
//! let command = Command { request: RequestId::new(1), body: b"put".to_vec().into() };
//! solo.step(Time::ZERO, Input::Request { command }, &mut effects);
//! solo.step(Time::ZERO, Input::Durable { through: WriteId::new(2) }, &mut effects);
//! let last = effects.drain().last();
//! assert!(matches!(last, Some(Effect::Apply { op, .. }) if op == Op::new(1)));
//! ```
#![no_std]
#![forbid(unsafe_code)]
#![deny(clippy::wildcard_enum_match_arm)]

extern crate alloc;

mod boundary;
mod solo;

pub use boundary::{Command, Effect, Event, Form, Input, Record, Refused};
pub use solo::{Config, Durable, Solo};
