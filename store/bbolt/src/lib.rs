//! The database files that etcd's snapshots are made of, read and written.
//!
//! etcd keeps its state in one file of a B+ tree library, and a snapshot of it is that file
//! with its SHA-256 behind it. Holm keeps nothing in this format; it speaks it, so that a
//! snapshot of either restores in the other.
//!
//! # The idea
//!
//! A stream cannot go back to fill in where its root is, and a store may be larger than the
//! memory. So the writer runs twice over the same keys in order: a measuring pass that only
//! counts pages, and a writing pass that emits each page when it is full, children before
//! their branch. Both hold one open page per level, whatever the size. The reader trusts no
//! number in the file before it has compared it with the page that it is in.
//!
//! ```text
//!   meta 0 │ meta 1 │ leaf leaf .. branch │ leaf .. │ .. │ root leaf │ SHA-256
//!      └── root ────────────────────────────────────────────┘ names each bucket's root
//!
//!   page          0 u64 id   8 u16 flags   10 u16 count   12 u32 overflow   16 body
//!                 flags: 1 branch, 2 leaf, 4 meta, 16 freelist; overflow: pages that follow
//!   meta body     0 u32 0xED0CDAED   4 u32 version 2   8 u32 page size   12 u32 0
//!                 16 u64 root page   24 u64 sequence   32 u64 freelist page (all ones: none)
//!                 40 u64 first unused page   48 u64 txid   56 u64 FNV-1a-64 of 0..56
//!   branch item   0 u32 position   4 u32 key bytes   8 u64 page
//!   leaf item     0 u32 flags (1: a bucket)   4 u32 position   8 u32 key bytes   12 u32 value
//!                 bytes; positions count from the item itself
//!   bucket value  0 u64 root page (0: a page follows in the value)   8 u64 sequence
//! ```
//!
//! # Invariants
//!
//! - I1 The file is exactly as long as the plan said, and its root where the plan said.
//! - I2 Every page of a written file but the metas is in the tree once; a branch has two
//!   children or more.
//! - I3 No byte of a file makes the reader panic, read outside it, or hold more than a path of
//!   pages and one bit per page.
//!
//! What it does not do: change a file, follow buckets within buckets, or know what etcd keeps
//! in which bucket (`holm_etcd::snapshot` does).
//!
//! ```
//! use bytes::Bytes;
//! use holm_bbolt::{Closed, Sink, Writer};
//!
//! struct File(Vec<u8>);
//! impl Sink for File {
//!     fn take(&mut self, bytes: &[u8]) -> Result<(), Closed> {
//!         self.0.extend_from_slice(bytes);
//!         Ok(())
//!     }
//! }
//!
//! fn fill(writer: &mut Writer<'_>) -> Result<(), holm_bbolt::WriteError> {
//!     writer.bucket(b"key")?;
//!     writer.put(Bytes::from_static(b"a"), Bytes::from_static(b"1"))
//! }
//!
//! let mut measure = Writer::measure();
//! fill(&mut measure).expect("one key is in order");
//! let plan = measure.plan().expect("it was filled");
//!
//! let mut file = File(Vec::new());
//! let mut writer = Writer::write(plan, 1, &mut file).expect("memory takes all");
//! fill(&mut writer).expect("it is the same");
//! let sum = writer.finish().expect("it is the same");
//! assert_eq!(file.0.len(), 4 * 4096);
//! assert_eq!(plan.file_bytes(), 4 * 4096);
//! # assert_ne!(sum, [0; 32]);
//! ```
//!
//! Limits: keys and values below 4 GiB when writing; when reading, a page with its overflow up
//! to 256 MiB, 1,024 buckets, trees of 64 levels.
//!
//! Tests: `tests/bbolt` (round trips, damage, a file that etcd made), and
//! `tests/process/tests/snapshot.rs` against etcd itself.
#![deny(clippy::wildcard_enum_match_arm)]

mod layout;
mod reader;
mod writer;

pub use reader::{Database, Entry, ReadError, Sum, check_sum};
pub use writer::{Closed, Plan, Sink, WriteError, Writer};
