//! Raft as a pure machine: the order of a keyspace that several sites keep.
//!
//! A [`Raft`] is one replica of one group. It is told what happened and says what it wants;
//! disks, sockets, clocks and the engine are somebody else's. Differences from the paper make
//! a write cost one wide-area round trip from any of three sites, and so does a read.
//!
//! ```text
//!   client of B ─ Request ─► B ─ Forward ─► L ─ Append ─► B, C     (L leads)
//!                            B ◄──────── Ack ─────────── C, L      B counts a quorum itself
//!                            B ─ Apply ─► engine of B ─► answer
//!   client of B ─ Read ────► B ─ ReadProbe ─► L, C ─ answers ─► B ─ ReadAt ─► engine of B
//! ```
//!
//! # Invariants
//!
//! - I1 One leader a term at most; one vote a term, sent only after (term, vote) is durable.
//! - I2 An Append is accepted only where its `previous` matches, and the log is cut only at a
//!   real mismatch of terms, never because a message is short.
//! - I3 An op is committed when a quorum of the configuration in force at it has it durably,
//!   counted in its own term. That is stable, so anyone may count it.
//! - I4 Whatever states a durable fact carries `after`.
//! - I5 The leader counts itself only at its durable op.
//! - I6 No message tells a follower a commit beyond its match.
//! - I7 A read sees every op acknowledged to anyone before it was asked. So the leader's read
//!   op is its commit point or the last op that an origin may have counted, and an origin
//!   counts as far as such ops and no further.
//! - I8 Logs compare by last term, then last op.
//! - I9 Joint configurations decide votes, commits, read rounds, leases and tallies in both
//!   halves.
//! - I10 Ops apply once, in order, when committed and durable here.
//! - I11 A snapshot's receiver keeps entries behind it only if its own entry there has the
//!   snapshot's term. A snapshot no newer than the commit point is refused.
//! - I12 A failed write or sync is final. Kept by the log.
//! - I13 Damage is never truncated. Kept by the log.
//! - I14 Who may have lost acknowledged entries neither votes, acknowledges, answers probes nor
//!   campaigns until its log reaches a read op that a quorum without it confirmed. A leader
//!   that sees acknowledged ops vanish says so and stops counting that peer.
//! - I15 Revisions are dense and come from the committed prefix. Kept by the engine.
//! - I16 Applied op and data reach disk together. Kept by the engine.
//! - I17 Applying reads no clock and no local setting. Kept by the engine.
//! - I18 A command is applied at most once, however often it is forwarded.
//! - I19 Nothing is acted on before a link is bound. Kept by the link.
//! - I20 A link's certificate, greeting and member table agree. Kept by the link.
//!
//! # Inputs and effects
//!
//! |input|meaning||effect|meaning|
//! |--|--|--|--|--|
//! |`Wake`|time has passed||`Persist`|make this record durable, in order|
//! |`Message`|a peer spoke||`Send`|after this write, say that|
//! |`Request`, `Read`|a client here wants something||`Apply`, `Advance`|the next op, committed|
//! |`Durable`|writes up to here are safe||`ReadAt`|this read may execute now|
//! |`Fetched`, `Release`|entries came back; they may go||`Fetch`, `Cut`|read entries; drop entries|
//! |`Saved`, `Lacking`, `Loaded`, `Stored`|snapshots||`Receive`, `Load`, `Store`, `Install`|snapshots|
//! |`Suspect`|a peer's process has perhaps ended||||
//! |`Operate`|an operator wants something||`Reply`, `Refuse`|what came of it|
//! |||| `Note`|an event for whoever listens|
//!
//! What it does not do: keep bytes, read clocks, know keys or revisions, or seal a group for
//! another protocol (refused as `Unsupported`). Requests wait while there is no leader; giving
//! up on them is the caller's, and their outcome is then unknown.
//!
//! ```
//! use holm_base::{NodeId, RequestId, Time, WriteId};
//! use holm_machine::{Effects, Machine};
//! use holm_raft::{Config, Configuration, Effect, Input, Raft, Restored};
//!
//! let node = NodeId::new(1);
//! let fresh = Restored::fresh(Configuration::new([node]));
//! let mut raft = Raft::restore(Config::new(node, 1), fresh, Time::ZERO);
//! let mut effects = Effects::new();
//! raft.step(Time::ZERO, Input::Wake, &mut effects); // alone, it votes for itself: write 1
//! raft.step(Time::ZERO, Input::Durable { through: WriteId::new(1) }, &mut effects);
//! let request = RequestId::new(7);
//! raft.step(Time::ZERO, Input::Request { request, body: "put".into() }, &mut effects);
//! raft.step(Time::ZERO, Input::Durable { through: WriteId::new(3) }, &mut effects);
//! let last = effects.drain().last();
//! assert!(matches!(last, Some(Effect::Apply { request: Some(id), .. }) if id == request));
//! ```
//!
//! # Differences from the paper
//!
//! Pre-vote and check-quorum are always on. Origins count quorums themselves. Reads are
//! confirmed by whoever asks, not by the leader. Membership is joint always; configurations are
//! in force from their append on, for counting at the op where they stand. A moved commit point
//! is told at once by a message of its own. `Conflict` backs off a whole term. Followers that
//! are told that their leader has perhaps ended campaign in turn, once its lease is over.
//!
//! # Limits
//!
//! All in [`Config`], each with its answer. Tests: `tests/script` has a scenario a trap,
//! `tests/paper.rs` a test a claim, `tests/exhaustive.rs` all small worlds, `tests/random.rs`
//! a hostile network. Start reading at `node.rs`, then `follower.rs` and `leader.rs`.
#![no_std]
#![forbid(unsafe_code)]
#![deny(clippy::wildcard_enum_match_arm)]

extern crate alloc;

mod candidate;
mod config;
mod effect;
mod encode;
mod event;
mod follower;
mod input;
mod invariants;
mod leader;
mod log;
mod membership;
mod message;
mod node;
mod origin;
mod progress;
mod reads;
mod recording;
mod snapshot;
mod state;
mod timers;

pub use config::{Config, ConfigError, ReadMode};
pub use effect::{Advance, Effect, Hard, Outcome, Record, Refused};
pub use encode::DecodeError;
pub use event::{Event, Rejected, SteppedDown};
pub use input::{Input, Operation};
pub use membership::{Change, Configuration, Joining};
pub use message::{
    Body, Command, Entry, Flags, Message, Origin, Payload, Position, ReadPoint, Round,
};
pub use node::{Raft, Restored, RoleName};
pub use origin::Windows;
pub use progress::PeerView;
pub use recording::{Difference, Ended, Ending, Recorder, RecordingError, Replayed, replay};
pub use snapshot::{Checkpoint, ChunkId, Manifest};
