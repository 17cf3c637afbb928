//! The MVCC engine: revisions, transactions, watches, leases, users.
//!
//! One writer applies committed commands in order; any number of readers hold immutable
//! snapshots. Every version of every key is kept until compaction moves the line past it, and
//! space is given back while all of that goes on.
//!
//! ```text
//! command ──► Keyspace ──► Store ──► frames ──► segments (files)
//!                │           └────► index, history (memory) ──► Root ──► View ──► readers
//!                └──► Hub ──► watches
//! ```
//!
//! # Invariants
//!
//! - I1 A command is visible after a restart wholly or not at all.
//! - I2 A view shows committed commands only, in order; the one that an acknowledgement rests
//!   on is published first.
//! - I3 Every revision above the compacted one stays readable until compaction passes it.
//! - I4 Segments, in the order of their table, hold disjoint and rising ranges of changes.
//! - I5 The log is never cut above the op that is durable here.
//! - I6 Above the durable mark, the first frame that does not fit ends the tail: it is written
//!   again, and that is no damage.
//! - I7 At or below the mark a bad byte is damage: reported with its file and place, never cut.
//! - I8 A file goes only when nothing durable names it and no snapshot holds it.
//! - I9 Applying entries again gives the same index, the same records and the same hash.
//! - I10 The bytes retained in each segment equal a recount.
//! - I11 A watcher receives exactly the retained events that it asked for, once, in order, a
//!   revision whole; else a cancel that says why.
//! - I12 A watcher never passes an event that it was not given, nor does progress.
//! - I13 The hub's memory is bounded by its ring, its watchers and its streams.
//! - I14 An expiry that another leader proposed changes nothing.
//! - I15 No lease ends before its time has passed since the last renewal that was acknowledged.
//! - I16 What the sequencer said of an op is found after a crash with the data of that op, or
//!   neither is: a flush's frames are one batch, and its last one holds the words.
//! - I17 Applying reads no clock and no setting of the node. What a node's own damage does to an
//!   answer is told by [`Keyspace::harm`].
//!
//! - I18 The engine is one of two stores at every moment of a swap, and after a crash in it;
//!   revisions never go back over one.
//!
//! What it deliberately does not do: threads, clocks, sockets, ordering. The log below is
//! `holm-log`, the order comes from a sequencer, and `holm-replica` binds the three.
#![deny(clippy::wildcard_enum_match_arm)]

mod alarm;
mod apply;
pub mod auth;
mod checkpoint;
mod clean;
pub mod codec;
pub mod command;
mod config;
mod counts;
mod error;
mod flush;
mod frame;
mod free;
mod hash;
mod head;
mod history;
pub mod hub;
mod index;
mod island;
mod job;
mod keys;
mod keyspace;
mod layout;
pub mod lease;
mod open;
pub mod outcome;
mod pace;
pub mod range;
mod read;
pub mod record;
pub mod refusal;
pub mod restore;
mod root;
mod scan;
mod segment;
pub mod snapshot;
mod store;
mod tail;
mod txn;
mod upkeep;
mod view;

pub use auth::{AuthState, UserView};
pub use codec::DecodeError;
pub use config::{Config, StoreConfig};
pub use counts::Counts;
pub use error::StoreError;
pub use hash::Hash;
pub use hub::{Hub, HubConfig, StreamId, WatchAnswer, WatchRequest};
pub use island::{Foretelling, ForetoldFrom, Indexed, IslandConfig, IslandView, MetLine, States};
pub use job::{Job, JobDone, JobKind};
pub use keyspace::Keyspace;
pub use range::KeyRange;
pub use read::Selection;
pub use record::Record;
pub use refusal::Refusal;
pub use restore::{Restore, RestoreError, Restored, RestoredAuth};
pub use root::{Change, ChangeKind, Meta, Root};
pub use store::{Deleted, FactKind, NewVersion, Put, Sizes, Store, SweepProgress};
pub use upkeep::{Background, Cleaner};
pub use view::{Reader, View};
