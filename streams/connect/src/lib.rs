//! Events in and out: JSON lines, CSV, Parquet, inferred schemas, generators.
//!
//! A [`Reader`] makes a batch of whole lines and is shared by as many threads as there are; a
//! row that is none is named with its line and its column, and the others go on. [`infer`] finds
//! the schema of lines that nobody described. [`write()`] is the way out. A [`Generator`] makes
//! events of its own, the same ones for the same seed, on every machine.
//!
//! What runs a query sees two ports: a [`Source`] gives whole rows on credit, with the
//! [`Position`] behind them, and hears when they are durable; a [`Sink`] commits rows by number.
//!
//! ```text
//!   file, pipe, HTTP, MQTT ─► Source::take ─► Piece, Position      Source::acknowledge ◄─ durable
//!                                              │
//!                               whole lines ─► Reader::read ─► Batch, Bad rows
//!   Batch ─► Sink::put ─► write ─► bytes, and the number of the last row
//! ```
//!
//! # Invariants
//!
//! - I1 What a row becomes depends on that row and on the schema alone.
//! - I2 Every line is read, refused with a reason, or blank.
//! - I3 No input exhausts the stack: nested values are passed over without recursion.
//!
//! - I4 A source hears of a position only when all rows up to it are durable.
//! - I5 A file sink holds a prefix of the rows that were put, whatever crashed when.
//!
//! What it deliberately does not do: open files or sockets, start threads (both are handed in);
//! values with line breaks in CSV.
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
//! Read `source.rs` and `sink.rs`, then `reader.rs`, `json.rs`, `csv.rs`, `file_source.rs`, `parquet.rs`, `fed.rs`, `pull.rs`,
//! `file_sink.rs`; `generate.rs` stands apart.

#![forbid(unsafe_code)]

mod beside;
mod csv;
mod fed;
mod file_sink;
mod file_source;
mod generate;
mod guess;
mod http_sink;
mod json;
mod keys;
mod keyspace;
mod line_sink;
mod mqtt;
mod parquet;
mod pull;
mod push;
mod reader;
#[cfg(test)]
mod scripted;
mod sink;
mod source;
mod value;
mod view;
mod writer;

pub use beside::{Beside, Head};
pub use fed::{FedSource, Feed, Offered, Told, Unfed, fed};
pub use file_sink::FileSink;
pub use file_source::{AtEnd, Bytes, FileSource};
pub use generate::{Generator, Recipe};
pub use guess::{Guess, infer};
pub use http_sink::{Dial, Duplex, HttpSink, Target};
pub use keys::{KEY_BYTES_MAX, KEYS_MAX, Key, KeyRing};
pub use keyspace::{Change, Keyspace, KeyspaceError, KeyspaceSink, KeyspaceSource, row_of};
pub use line_sink::LineSink;
pub use mqtt::{Login, Malformed, MqttCounts, MqttError, PassedOver, Subscription};
pub use parquet::{ParquetSource, infer_parquet};
pub use pull::{PAGE_MAX, Page, PullSource};
pub use push::{BadBody, BodyError, rows_of, rows_with};
pub use reader::{Bad, Format, HeaderError, Read, Reader};
pub use sink::{Guarantee, Sink, SinkError};
pub use source::{Columns, POSITION_MAX, Piece, Position, Repeats, Source, SourceError, Taken};
pub use view::{Figures, Seen, Shown, View};
pub use writer::{header, write};
