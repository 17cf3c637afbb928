//! Columns of values, key codes, and expressions over them.
//!
//! Streams never look at one event at a time. Events come as a [`Batch`]: a [`Lane`] for each
//! column, dense values of one machine type beside a mask of NULLs. An [`Expr`] reads lanes and
//! makes a lane; [`Keys`] turns tuples of a batch into small numbers by first appearance, so that
//! aggregates index an array.
//!
//! ```text
//!   Batch ── lanes ──► Expr::evaluate ──► Lane, and Faults: rows that have no value
//!     │
//!     └──── key lanes ──► Keys::code ──► u32 a row
//! ```
//!
//! # Invariants
//!
//! - I1 Every lane of a batch has a value, or a NULL, for each of its rows.
//! - I2 An expression's value for a row depends on that row alone.
//! - I3 What does not fit its type is a fault of its row: nothing wraps and nothing saturates.
//! - I4 A row outside the evaluated branch (CASE, AND, OR, COALESCE) has no fault from it.
//! - I5 A code is given by first appearance: it does not depend on how rows were cut into batches.
//!
//! Integers have 64 bits here, whatever their type says, and floats are double. A source may give
//! [`Narrow`] ones all the same: filters, keys and sums read those as they are, and to all else
//! the lane is as wide as any.
//!
//! What it deliberately does not do: bitmaps for NULLs, explicit vector instructions. No `unsafe`
//! is needed for what it does.
//!
//! ```
//! use holm_lanes::{Batch, Expr, Faults, Lane, Scalar, Values};
//!
//! let lane = Lane::dense(Values::Int(vec![1, 2, 3]));
//! let batch = Batch::of(vec![lane]);
//! let mut faults = Faults::default();
//! let same = Expr::Column(0).evaluate(&batch, &mut faults);
//! assert_eq!(same.scalar(2), Scalar::Int(3));
//! assert!(faults.is_empty());
//! ```
//!
//! Read `lane.rs`, then `batch.rs`, `keys.rs`, and `expression.rs` with what it calls.

#![forbid(unsafe_code)]
#![deny(clippy::wildcard_enum_match_arm)]

mod arithmetic;
mod batch;
mod bytes;
mod call;
mod cast;
mod civil;
mod compare;
mod decimal;
mod expression;
mod fault;
mod json_path;
mod json_value;
mod keys;
mod kind;
mod lane;
mod narrow;
mod save;
mod scalar;
mod text;

pub use batch::{Batch, Marks, Origin};
pub use bytes::{bytes_of, letters_of, parse_base64, parse_hex, write_base64};
pub use call::{Function, Math, Part, Rounding, Words};
pub use cast::{convert, parse_boolean, parse_double, parse_integer};
pub use civil::{Civil, parse_date, parse_timestamp, write_date, write_timestamp};
pub use compare::{Comparison, Pattern, order};
pub use decimal::{parse_decimal, rescale, write_decimal};
pub use expression::{Arithmetic, Expr, OnFault};
pub use fault::{Fault, Faults};
pub use json_path::JsonPath;
pub use json_value::{Instead, JsonValue};
pub use keys::{Keys, NO_CODE};
pub use kind::{Field, Kind, Shape};
pub use lane::{Lane, LaneBuilder, Values};
pub use narrow::Narrow;
pub use save::{LoadError, Loader, Saver};
pub use scalar::Scalar;
pub use text::Text;

/// A row number or code as an index.
///
/// # Panics
///
/// Never where a pointer has 32 bits or more.
#[inline]
#[must_use]
pub fn index(number: u32) -> usize {
    usize::try_from(number).expect("a pointer has 32 bits at least")
}

/// An index as a row number or code.
///
/// # Panics
///
/// If it is beyond 32 bits: batches and tables are bounded far below that.
#[inline]
#[must_use]
pub fn number(index: usize) -> u32 {
    u32::try_from(index).expect("batches and tables have fewer than 2^32 rows")
}
