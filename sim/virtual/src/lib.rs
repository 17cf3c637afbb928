//! The virtual world: the same machines as in the real one, in virtual time, under faults.
//!
//! A [`World`] runs nodes, each a [`Machine`](holm_machine::Machine) behind the
//! [`Driver`](holm_machine::Driver) that the real world uses, and plays everything around them:
//! links, disks, clocks, cores, crashes. Whatever is not determined by what went before is asked
//! of a [`Tape`]. A run is therefore a value: the same spec, the same build and the same tape
//! give the same steps, on any machine, today and next year.
//!
//! ```text
//!             Tape: choose(place, n), 0 is the most normal answer
//!               │ delays, losses, crashes, what a disk keeps, who goes next
//!               ▼
//!   caller ─► World ─► Agenda ─► Driver ─► Node ─► effects ─┐
//!     ▲  request, alarm    ▲      (one per process)         │
//!     │                    ├── Link: delay, loss, cuts ◄────┤ Send
//!     │                    ├── Shelf: what a crash leaves ◄─┤ Persist
//!     └── replies, notes ◄─┴────────────────────────────────┘ Answer, Note
//! ```
//!
//! # Time and order
//!
//! `Order::Timed` lets things happen by virtual arrival. `Order::Hunt` lets a [`Scheduler`] pick
//! among all that is due within reach, and since an odd order is only an odd delay, time still
//! rises and arguments about clocks stay honest. What a scheduler picked is on the tape, as the
//! place in timed order: a replay needs no scheduler, and zeros are timed order.
//!
//! # The virtual disk
//!
//! [`Storage`] is a disk that tears, loses, fills and fails on demand. Everything that changes
//! something is one numbered *step*, so that a test can run a workload once, count its steps,
//! and run it again with a crash, a failure or a full disk at each. Synced bytes and names
//! survive a crash, always; of the rest, by [`Survival`]: all, nothing, all but a torn last
//! write, or any mixture, sector by sector. A name survives apart from the bytes of its file.
//! [`Filed`] keeps a node's records there; [`Records`] keeps them typed, and is faster.
//!
//! # Invariants
//!
//! Of the disk: I1 to I4. Of a run: I5 to I12.
//!
//! - I1 What was synced before the crash is there after it, whatever the survival.
//! - I2 A handle whose write or sync failed refuses everything afterwards.
//! - I3 Equal calls, faults and seeds give equal bytes.
//! - I4 The files never hold more than the capacity; room that cannot be had is
//!   [`DiskError::Full`](holm_machine::DiskError::Full).
//! - I5 A seed run twice, in two processes with different environment, working folder and
//!   address layout, gives equal hashes: SHA-256 over `(now, node, input, effects)`.
//! - I6 Looking changes nothing: recording, report and checkpoints on or off, equal hashes.
//! - I7 Going on from a checkpoint equals running from the beginning.
//! - I8 `choose(place, 1)` consumes nothing, and the tape of zeros has no fault.
//! - I9 Virtual time never falls, and no node's monotone clock does.
//! - I10 A flush is on disk after every flush that began before it.
//! - I11 A node that ended loses what it held, and nothing of its earlier run reaches it but
//!   messages that were under way.
//! - I12 Everything is bounded: 64 streams and 16 M choices a tape, 2^20 things on the agenda,
//!   65,536 untaken answers; beyond, the run halts and says so.
//!
//! # What it deliberately does not do
//!
//! It judges nothing: histories and checkers are of another crate. It has no clients: the caller
//! asks, and sets alarms to ask later. It does not simulate threads, kernels or TLS, and it
//! never looks into a message.
//!
//! # Limits
//!
//! Typed records lose a tail in a crash but are never damaged in the middle; that takes
//! [`Filed`] or a log of one's own. A delay beyond 292 years saturates.
//!
//! ```
//! use holm_virtual::{Distribution, Place, Quantiles, Storage, Survival, Tape};
//! use holm_base::ByteCount;
//! use holm_machine::Folder;
//!
//! let delay = Quantiles::of(&Distribution::LogNormal(1_000_000, 0.5));
//! let mut tape = Tape::fresh(7);
//! let drawn = delay.draw(Place::new("example"), &mut tape);
//! let mut again = Tape::decode(&tape.encode()).expect("it was written a moment ago");
//! assert_eq!(delay.draw(Place::new("example"), &mut again), drawn);
//!
//! let storage = Storage::new();
//! let root = storage.root();
//! let mut file = root.create("a", ByteCount::new(512))?;
//! root.sync()?;
//! file.write(ByteCount::ZERO, b"kept")?;
//! file.sync()?;
//! file.write(ByteCount::ZERO, b"lost")?;
//! let after = storage.reopen(Survival::Drop);
//! assert_eq!(&after.bytes("a").expect("its name was synced")[..4], b"kept");
//! # Ok::<(), holm_machine::DiskError>(())
//! ```
//!
//! Where to read next: `node.rs` for what a machine must bring, `world.rs` for what happens,
//! `tape.rs` for what is decided. A small protocol that goes through all of it is in
//! `tests/register`.
#![forbid(unsafe_code)]
#![deny(clippy::wildcard_enum_match_arm)]

mod agenda;
mod clock;
mod disk;
mod faults;
mod link;
mod mutate;
mod node;
mod order;
mod quantiles;
mod shelf;
mod shrink;
mod spec;
mod tape;
mod timeline;
mod trace;
mod world;

pub use clock::{ClockSpec, WallTime};
pub use disk::{Fault, Storage, Survival};
pub use faults::{FaultKind, FaultPlan, FaultRate};
pub use link::{LinkSpec, Overtaking};
pub use mutate::{Aim, mutate};
pub use node::{Node, Want};
pub use order::{Candidate, Order, Races, Scheduler};
pub use quantiles::{Distribution, Quantiles};
pub use shelf::{Encoded, Filed, Records, Shelf, Unsynced, sync_failed};
pub use shrink::{Shrunk, shrink};
pub use spec::{HostSpec, NodeSpec, SyncTime, Wake, Work, WorldSpec};
pub use tape::{CHOICES_MAX, Fill, Place, Recording, STREAMS_MAX, Tape, TapeError, TapeFault};
pub use timeline::{Marks, mix};
pub use trace::{Report, first_difference};
pub use world::{Caller, Counts, Halted, Moment, Noted, Queueing, Reply, Usage, World};
