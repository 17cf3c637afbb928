//! SQL over events: grammar, binder, plan and its explanation.
//!
//! The dialect is Flink's for window functions: what is accepted here means there what it means
//! here. [`parse`] makes a [`Script`] of a text, [`plan`] makes of it a plan for the engine, once
//! the schema of every table is known. What cannot be is a [`Refusal`]: it points at the word
//! that is wrong and says what would be right.
//!
//! ```text
//!   text ─ lexer ─► tokens ─ parser ─► Script ─ binder, types ─► Plan ─► explain
//!                                                 ▲
//!                              schemas of tables ─┘
//! ```
//!
//! # Invariants
//!
//! - I1 Every refusal has a place in the text.
//! - I2 Types are settled here: the engine converts nothing by itself.
//! - I3 Nesting is bounded, so that no text exhausts the stack.
//!
//! What it deliberately does not do: optimise, beyond reading only the columns that are needed;
//! correlated subqueries; joins that would keep rows for ever.
//!
//! ```
//! use holm_sql::{Known, parse, plan};
//!
//! let script = parse("CREATE TABLE t (ts TIMESTAMP(3), n INT, WATERMARK FOR ts AS ts) \
//!     WITH ('connector'='stdin'); \
//!     SELECT window_start, SUM(n) AS n FROM TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '1' MINUTE) \
//!     GROUP BY window_start, window_end")?;
//! let planned = plan(&script, &Known::default())?;
//! assert_eq!(planned.plan.fields[1].name, "n");
//! let wrong = parse("SELEC 1").unwrap_err();
//! assert!(wrong.to_string().contains("1:1"));
//! # Ok::<(), holm_sql::Refusal>(())
//! ```
//!
//! Read `syntax.rs`, `parser.rs`, `bind.rs` and what it calls, `explain.rs`.

#![forbid(unsafe_code)]
#![deny(clippy::wildcard_enum_match_arm)]

mod bind;
mod bind_call;
mod bind_expression;
mod bind_group;
mod bind_join;
mod bind_json;
mod bind_source;
mod bind_union;
mod catalog;
mod coerce;
mod explain;
mod lexer;
mod needed;
mod options;
mod parse_expression;
mod parser;
mod push_down;
mod refusal;
mod relation;
mod sort;
mod syntax;

pub use bind::{Planned, plan, plans};
pub use catalog::{Known, Table, TableShape};
pub use explain::{explain, length};
pub use parser::parse;
pub use refusal::{Refusal, Span};
pub use syntax::Script;
