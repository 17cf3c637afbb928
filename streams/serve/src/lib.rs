//! The front of streams: events in by HTTP, live views and their page out.
//!
//! |path|answers|
//! |--|--|
//! |`GET /`|the page: a chart of windows, rate, lag and late rows for each query|
//! |`GET /views`|what is counted of each query, as JSON|
//! |`GET /views/NAME`|a query as server-sent events; `GET /events` all of them|
//! |`POST /streams/NAME/events`|takes rows: lines of JSON, or a list|
//!
//! ```text
//!   client ─ POST ─► Front ─ rows_of ─► Feed ─► query ─► View ─ bell ─► SSE ─► page
//!                      ◄── 200 once durable ──┘
//! ```
//!
//! # Invariants
//!
//! - I1 A 200 is given when the rows are durable, and not before.
//! - I2 A watcher costs a number and one frame: who does not read is given the state again.
//! - I3 A page of another origin can neither read nor write here.
//!
//! What it deliberately does not do: listen (streams of bytes are handed in), TLS, administration
//! of queries.
//!
//! Read `front.rs`, then `events.rs`, `live.rs`, `page/`.

#![forbid(unsafe_code)]

mod answer;
mod events;
mod front;
mod live;
mod page;

pub use answer::AnswerBody;
pub use front::{Door, Front};
