//! Real files behind [`Disk`](holm_machine::Disk) and [`Folder`](holm_machine::Folder).
//!
//! Storage code decides what to write, in which order, and when it must be safe. This crate
//! only says it to the operating system, and keeps the two promises that storage rests on:
//! a handle whose write or sync failed refuses everything afterwards, and a file that was
//! created with a length owns its blocks.
//!
//! ```text
//!   store/log, store/kv ─► dyn Folder ─► RealFolder ─► openat, fallocate, renameat, fsync
//!                          dyn Disk   ─► a file      ─► pread, pwrite, fdatasync
//! ```
//!
//! # Invariants
//!
//! - I1 After a failed write or sync a handle answers `Poisoned` to every call. A sync is never
//!   tried again: Linux drops the pages that it could not write and then reports success.
//! - I2 `create` either gives a file whose blocks are allocated, or leaves no file behind.
//! - I3 One process at a time holds the [`Lock`] of a data directory, and the refusal names the
//!   process that does.
//!
//! What it deliberately does not do: cache, retry, read ahead, asynchronous I/O.
//! One `pwrite` and one `fdatasync` per flush is what the log needs, and the page cache serves
//! the engine's reads. What the log writes passes by that cache where the system allows it
//! ([`Disk::write_through`](holm_machine::Disk::write_through)): a third less CPU for a small flush.
//!
//! ```no_run
//! use holm_base::ByteCount;
//! use holm_disk::{RealFolder, lock};
//! use holm_machine::Folder;
//!
//! let path = std::path::Path::new("data");
//! let held = lock(path)?;
//! let folder = RealFolder::open(path)?;
//! let mut file = folder.create("example", ByteCount::new(4096))?;
//! file.write(ByteCount::ZERO, b"bytes")?;
//! file.sync()?;
//! folder.sync()?;
//! # drop(held);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Where to read next: `file.rs`, `direct.rs`, `folder.rs`, `lock.rs`; the contract is in spine/machine.

mod direct;
mod file;
mod folder;
mod lock;

pub use folder::RealFolder;
pub use lock::{Lock, LockError, lock};
