//! Windows over lanes: panes, watermarks, aggregates, assemblers, sessions.
//!
//! Rows go into *panes*, the largest pieces of time of which every window of a grid is made; a
//! pane holds for each key the partial state of each aggregate. When the watermark passes a
//! window's end, an *assembler* puts the panes of the window together, by the strategy that costs
//! least ([`Strategy`]). Sessions have no grid: each key has its own.
//!
//! ```text
//!  Batch ─► Keys::code ─► panes (Slice: key x aggregate) ─► assembler ─► Closed: one window's rows
//!             │                     ▲                           ▲
//!             └ watermark per row ──┴─ late? ───────────────────┘ W >= end
//! ```
//!
//! # Invariants
//!
//! - I1 What comes out does not depend on how rows were cut into batches, to the last bit.
//! - I2 The watermark never falls; a row is judged by it as it stood before that row.
//! - I3 Each window with at least one row closes exactly once, and no other does.
//! - I4 A row that is late for a window never enters it; it counts in those still open.
//! - I5 Integers and decimals are exact; floats are added in the order of rows, and never
//!   subtracted.
//! - I6 Open panes, keys and panes of a window are bounded; each bound has an answer.
//! - I7 Queries that share panes ([`Shared`]) give what each alone gives, to the last bit.
//!
//! What it deliberately does not do: threads, corrections of closed windows.
//!
//! ```
//! use holm_lanes::{Batch, Lane, Values};
//! use holm_window::{Aggregate, Call, Grid, Limits, Windows};
//!
//! let grid = Grid::tumble(10, 0)?;
//! let calls = vec![Call { aggregate: Aggregate::CountRows, column: None, filter: None }];
//! let mut windows = Windows::new(grid, 0, &[], calls, Limits::default());
//! let mut batch = Batch::of(vec![Lane::dense(Values::Int(vec![1, 12, 13]))]);
//! batch.marks.after = i64::MAX;
//! let out = windows.push(&batch);
//! assert_eq!(out.closed.starts, [0, 10]);
//! # Ok::<(), holm_window::GridError>(())
//! ```
//!
//! Read `rows.rs`, `grid.rs`, `slice.rs`, `assembler.rs`, `shared.rs`, then `session.rs`.

#![forbid(unsafe_code)]
#![deny(clippy::wildcard_enum_match_arm)]

mod aggregate;
mod assembler;
mod closed;
mod counts;
mod gauge;
mod grid;
mod grouped;
mod limits;
mod regroup;
mod rows;
mod session;
mod shared;
mod sketch;
mod slice;
mod state;
mod watermark;
mod windows;

pub use aggregate::{Aggregate, Call};
pub use assembler::{Cost, Strategy};
pub use closed::{Closed, Pushed};
pub use gauge::Gauge;
pub use grid::{Grid, GridError, PANES_MAX};
pub use grouped::Grouped;
pub use limits::Limits;
pub use session::Sessions;
pub use shared::{Query, Shared};
pub use watermark::Watermark;
pub use windows::Windows;
