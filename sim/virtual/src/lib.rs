//! A virtual disk that tears, loses, fills and fails on demand.
//!
//! Storage code runs over it unchanged. Everything that changes something (a write, a sync, a
//! creation, a renaming, a removal) is one numbered *step*, so that a test can run a workload
//! once, count its steps, and then run it again with a crash, a failure or a full disk at each.
//!
//! ```text
//!   Storage::new ─► root() ─► dyn Folder, dyn Disk ─► step 1, 2, 3, ...
//!        │                                               │
//!   crash_at(n), fail_at(n, fault)  ◄────────────────────┘
//!        │
//!   reopen(Survival) ─► another Storage: what a reboot finds
//! ```
//!
//! # What a crash leaves
//!
//! Synced bytes and synced names, always. Of the rest, by [`Survival`]: all, nothing, all but a
//! torn last write, or any mixture, sector by sector. A name survives on its own account, apart
//! from the bytes of its file, and so does a file's length: real file systems differ, and
//! storage must rest on nothing but what it has synced.
//!
//! # Invariants
//!
//! - I1 What was synced before the crash is there after it, whatever the survival.
//! - I2 A handle whose write or sync failed refuses everything afterwards.
//! - I3 Equal calls, faults and seeds give equal bytes.
//! - I4 The files never hold more than the capacity; room that cannot be had is
//!   [`DiskError::Full`](holm_machine::DiskError::Full).
//!
//! What it does not do: time (a sync takes none), networks, threads of its own.
//!
//! ```
//! use holm_base::ByteCount;
//! use holm_machine::Folder;
//! use holm_virtual::{Storage, Survival};
//!
//! let storage = Storage::new();
//! let root = storage.root();
//! let mut file = root.create("a", ByteCount::new(512))?;
//! root.sync()?;
//! file.write(ByteCount::ZERO, b"kept")?;
//! file.sync()?;
//! file.write(ByteCount::ZERO, b"lost")?;
//!
//! let after = storage.reopen(Survival::Drop);
//! assert_eq!(&after.bytes("a").expect("its name was synced")[..4], b"kept");
//! # Ok::<(), holm_machine::DiskError>(())
//! ```
//!
//! Where to read next: `storage.rs` for what a test can do, `world.rs` for what happens inside.
#![forbid(unsafe_code)]
#![deny(clippy::wildcard_enum_match_arm)]

mod handle;
mod storage;
mod survival;
mod world;

pub use storage::{Fault, Storage};
pub use survival::Survival;
