//! Histories of what clients saw, and the judges of what was promised.
//!
//! A run, simulated or real, leaves a [`History`]: who asked what when, and what came back. The
//! judges here read nothing else: no logs, no state of nodes but what a client could ask for.
//! Each judge is one file, knows one promise, and has a test that feeds it a violation.
//!
//! ```text
//!   run ─► History ─┬─► witness     order as the revisions say it      n log n
//!                   ├─► wgl         order, if there is one at all      exponential, bounded
//!                   ├─► durable     nothing acknowledged is missing    linear
//!        streams ───┼─► watch       ordered, whole, without a gap      linear
//!         times ────┼─► heals       progress, then one state
//!                   ├─► lease       as long as promised, not longer      linear
//!     revisions ────┼─► transactions  no cycle of who came before whom   n log n
//!        values ────┼─► register    one value at a time, no revisions    n log n
//!          rows ────┴─► streams     each counts once, in time, within a bound    linear
//! ```
//!
//! # The witness
//!
//! A store that numbers its writes publishes its own order. So nothing has to be searched: what
//! it says is replayed on a [`Model`], and real time is held against the numbers. That is more
//! than linearizability, since the numbers are checked too.
//!
//! # Invariants
//!
//! - I1 A judge never guesses: what it cannot decide within its limit is *undecided*, and that
//!   is neither kept nor broken.
//! - I2 A history that the witness accepts is linearizable.
//! - I3 Equal histories get equal verdicts, in words too, so that a failure has an identity.
//!
//! # What it deliberately does not do
//!
//! It runs nothing, and knows no protocol: the model says what a request should answer.
//!
//! # Limits
//!
//! 10^7 operations a history; Wing, Gong and Lowe's search takes 128 operations and by default
//! 10^6 states.
//!
//! ```
//! use holm_check::{History, Model, Verdict, wgl};
//!
//! struct Counter;
//! impl Model for Counter {
//!     type Call = ();
//!     type Reply = u64;
//!     type State = u64;
//!     fn start(&self) -> u64 { 0 }
//!     fn apply(&self, state: &mut u64, _: &()) -> u64 { *state += 1; *state }
//! }
//!
//! let mut history = History::new();
//! let (first, second) = (history.invoke(1, ()), history.invoke(2, ()));
//! history.returned(second, 1);
//! history.returned(first, 2);
//! assert_eq!(wgl(&Counter, &history, 1_000), Verdict::Kept);
//!
//! let late = history.invoke(1, ());
//! history.returned(late, 2);
//! assert!(matches!(wgl(&Counter, &history, 1_000), Verdict::Broken(_)));
//! ```
//!
//! Where to read next: `witness.rs`. The judges judge a protocol in the tests of `sim/virtual`.
#![forbid(unsafe_code)]
#![deny(clippy::wildcard_enum_match_arm)]

mod durable;
mod graph;
mod heals;
mod history;
pub mod islands;
mod lease;
mod registers;
pub mod streams;
mod transactions;
mod verdict;
mod watch;
mod wgl;
mod witness;

pub use durable::{Acknowledged, durable};
pub use heals::{Healing, heals};
pub use history::{History, Model, Operation, Outcome};
pub use lease::{Lived, lease};
pub use registers::{Access, register};
pub use transactions::{Transaction, transactions};
pub use verdict::{Verdict, Violation};
pub use watch::{Seen, Stream, watch};
pub use wgl::wgl;
pub use witness::{Numbered, Published, witness};
