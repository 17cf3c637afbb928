//! Events in and out: JSON lines, CSV, inferred schemas, generators.
//!
//! A [`Reader`] makes a batch of whole lines and is shared by as many threads as there are; a
//! row that is none is named with its line and its column, and the others go on. [`infer`] finds
//! the schema of lines that nobody described. [`write()`] is the way out. A [`Generator`] makes
//! events of its own, the same ones for the same seed, on every machine.
//!
//! ```text
//!   bytes ─ whole lines ─► Reader::read ─► Batch, Bad rows
//!   Batch ─► write ─► bytes
//! ```
//!
//! # Invariants
//!
//! - I1 What a row becomes depends on that row and on the schema alone.
//! - I2 Every line is read, refused with a reason, or blank.
//! - I3 No input exhausts the stack: nested values are passed over without recursion.
//!
//! What it deliberately does not do: files, sockets, threads; values with line breaks in CSV.
//!
//! ```
//! use holm_connect::{Format, Reader};
//! use holm_lanes::{Field, Kind};
//!
//! let fields = vec![Field { name: "n".into(), kind: Kind::Int, nullable: true }];
//! let reader = Reader::new(Format::JsonLines, fields, vec![true], None)?;
//! let read = reader.read(b"{\"n\":1,\"m\":[2]}\n{\"n\":\"x\"}\n", 1);
//! assert_eq!((read.batch.rows, read.bad.len()), (1, 1));
//! assert_eq!(read.bad[0].to_string(), "n: \"x\" is not INT");
//! # Ok::<(), holm_connect::HeaderError>(())
//! ```
//!
//! Read `reader.rs`, `json.rs`, `csv.rs`, then `generate.rs`.

#![forbid(unsafe_code)]

mod csv;
mod generate;
mod guess;
mod json;
mod reader;
mod value;
mod writer;

pub use generate::{Generator, Recipe};
pub use guess::{Guess, infer};
pub use reader::{Bad, Format, HeaderError, Read, Reader};
pub use writer::{header, write};
