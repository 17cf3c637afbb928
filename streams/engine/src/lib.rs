//! A plan of stages over batches, and what runs it.
//!
//! A [`Plan`] is a list of nodes, each after those that it reads: sources, filters, projections,
//! windows, groups, joins of windows, unions, the first rows of windows, order. A [`Run`] pushes batches
//! of sources through it, one after the other on the caller's thread, and hands out the rows of
//! the last node. Each row that goes in is used, filtered, late or diverted, and counted.
//!
//! ```text
//!   Run::push(source, batch) ─► watermark ─► node ─► node ─┬► node ─► rows out
//!                                                          └► node (a view that is read twice)
//! ```
//!
//! # Invariants
//!
//! - I1 Output depends on the rows and their order alone, not on how they were cut into batches.
//! - I2 Rows of a window leave a node in the order of (end, start, first appearance of the key).
//! - I3 What has no value is diverted with its reason; nothing is dropped without being counted.
//! - I4 A join, an order and a list of first rows hold no more rows than the limit, and say so.
//!
//! What it deliberately does not do: threads, reading and writing, corrections.
//!
//! ```
//! use holm_engine::{Limits, Node, Plan, Run, Source};
//! use holm_lanes::{Batch, Field, Kind, Lane, Values};
//!
//! let field = Field { name: "n".into(), kind: Kind::BigInt, nullable: false };
//! let plan = Plan {
//!     sources: vec![Source { name: "stdin".into(), fields: vec![field.clone()], computed: vec![],
//!         time: None, bound: 0, keeps_late: false }],
//!     nodes: vec![Node::Source(0)],
//!     kinds: vec![vec![Kind::BigInt]],
//!     fields: vec![field],
//! };
//! let mut run = Run::new(&plan, Limits::default(), vec![]);
//! let out = run.push(0, Batch::of(vec![Lane::dense(Values::Int(vec![1, 2]))])).unwrap();
//! assert_eq!(out.rows, 2);
//! ```
//!
//! Several queries over the same sources run as one ([`Several`]): equal nodes run once, and windows
//! share panes.
//!
//! Read `plan.rs`, then `run.rs` and the stages that it names, `several.rs`.

#![forbid(unsafe_code)]
#![deny(clippy::wildcard_enum_match_arm)]

mod buffer;
mod fold;
mod head;
mod join;
mod lookup;
mod order;
mod plan;
mod quiet;
mod read;
mod repeats;
mod report;
mod run;
mod several;
mod stage;
mod stints;
mod top;
mod traced;
mod union;

pub use head::{Passed, Point, points_of};
pub use holm_window::Gauge;
pub use plan::{Limits, Node, Plan, Source, WindowKind};
pub use repeats::Repeated;
pub use report::{Counts, Diverted, Late, Report};
pub use run::{Full, Run};
pub use several::{Several, shares, sources};
pub use stints::{Class, Stints};
