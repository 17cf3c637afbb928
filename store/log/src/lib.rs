//! The write-ahead log of a node: the one place where an acknowledged write must have been.
//!
//! One log serves all groups of a node, so that many groups cost one sync. It is written in
//! *flushes*: whatever waited when the last flush was synced goes out in one write and one
//! `fdatasync`. One flush is outstanding at a time, and from that everything about damage
//! follows: a later flush proves that an earlier one was durable.
//!
//! ```text
//!  segment 0 (full)          segment 1 (tail)                  segment 2, 3 (spare)
//!  [header|flush|flush|...]  [header|flush|flush|  blank    ]  [       blank       ]
//!                                   |
//!              flush = [header | record | record | ... | padding to 4 KiB]
//!              carried by 512-byte sectors, each stamped with its checksum and place
//! ```
//!
//! No block that holds an acknowledged record is written again. Blank means never written, so
//! a flush that was cut short by a crash (*torn*) can be told from one that went bad
//! (*damaged*). The bytes are drawn in `layout.rs` and `sector.rs`.
//!
//! # Invariants
//!
//! - I2 A group is cut back only to an op that is here.
//! - I11 A snapshot keeps entries behind it only if its own op is here.
//! - I12 After a failed write or sync the log refuses everything; a sync is never retried.
//! - I13 Damage is never truncated; only a torn flush is.
//!
//! - I14 A log that lost acknowledged entries says so before it says anything else.
//!
//! They keep their numbers from the design of replication. Besides: records come back in the
//! order in which they were flushed; a flush is there as a whole or not at all.
//!
//! [`Log::flush_all`] writes what waits of all groups at once; [`Log::release`] forgets a group
//! that has ended for good, so that it holds no segment.
//!
//! # Among others
//!
//! A group whose node has peers also holds votes, logical truncation (`CutTo`) and snapshots
//! (`Installed`). What is above a `CutTo` is void but stays where it is. A snapshot is given
//! back by [`Log::installed`] until the owner cuts to its op, for then the engine holds it.
//! [`Log::base`] is the place below the oldest entry, [`Log::entries`] reads a range for a peer
//! that lags. With [`LogConfig::has_peers`] a damaged log opens if no hard state can be missing:
//! the group ends before the damage and [`Log::is_damaged`].
//!
//! # A full disk
//!
//! One blank segment is held in reserve. An ordinary flush is refused with [`LogError::Full`],
//! nothing written, when it would leave no reserve and none can be had;
//! [`Urgency::Reserve`] may use it. When space returns the reserve does too, by itself.
//!
//! # Limits
//!
//! |what|limit|answer|
//! |--|--|--|
//! |a record|16 MiB, and less than a segment|[`LogError::TooLarge`]|
//! |a flush|4 MiB of records, or one record|split, each synced|
//! |blank segments|2 made, 3 kept|the rest is freed in slices|
//! |a snapshot's manifest|a record; kept in memory|[`LogError::TooLarge`]|
//!
//! What it deliberately does not do: threads, clocks, batching (the caller batches), fetching
//! from peers. A node alone that finds damage refuses to open; so does one with peers if the
//! damage is in a segment's header or first flush, for there the hard states stand.
//!
//! ```
//! use holm_base::{ClusterId, GroupId, NodeId, Op, Term};
//! use holm_log::{Log, LogConfig, Urgency};
//! use holm_sequencer::Record;
//! use holm_virtual::{Storage, Survival};
//!
//! let storage = Storage::new();
//! let config = LogConfig::new(ClusterId::new(1), NodeId::new(1));
//! let mut log = Log::open(storage.root(), config)?;
//! let (group, term, op) = (GroupId::new(0), Term::new(1), Op::new(1));
//! let entry = Record::plain(term, op, "put".into());
//! log.flush(group, &[Record::of_term(term), entry], Urgency::Ordinary)?;
//!
//! let log = Log::open(storage.reopen(Survival::Drop).root(), config)?;
//! assert_eq!((log.opens(), log.hard(group).term, log.last(group)), (2, term, op));
//! log.replay(group, Op::ZERO, &mut |_, _, _, body| assert_eq!(body, "put"))?;
//! # Ok::<(), holm_log::LogError>(())
//! ```
//!
//! Differences from the design: the first sector of a flush is stamped with its place + 1 (so
//! that no client's bytes can pass for a flush); a CutTo record carries the chain; damage in the
//! middle ends the log there and is not mended entry by entry.
//!
//! Where to read next: `log.rs`, then `scan.rs` for opening, `write.rs` for the flush; the
//! tests are in `tests/`, the crash tests in `tests/crash.rs`.
#![forbid(unsafe_code)]
#![deny(clippy::wildcard_enum_match_arm)]

mod config;
mod error;
mod group;
mod layout;
mod log;
mod plan;
mod replay;
mod scan;
mod sector;
mod segment;
mod spare;
mod write;

pub use config::LogConfig;
pub use error::LogError;
pub use group::{Hard, Installed};
pub use log::{Log, Urgency};
pub use spare::Preparation;
