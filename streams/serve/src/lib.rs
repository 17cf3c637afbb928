//! The front of streams: events in by HTTP, live views and their page out.
//!
//! |path|answers|
//! |--|--|
//! |`GET /`|the page: a chart of windows, rate, lag and late rows for each query|
//! |`GET /views`|what is counted of each query, as JSON|
//! |`GET /views/NAME`|a query as server-sent events; `GET /events` all of them|
//! |`POST /streams/NAME/events`|takes rows: lines of JSON, or a list|
//! |`GET /streams`, `POST /streams`|all streams; makes one of `{"name":..,"sql":..}`|
//! |`GET /streams/NAME`|how a stream is|
//! |`POST /streams/NAME/pause`, `resume`, `verify`|it rests, goes on, is read from its disk|
//! |`DELETE /streams/NAME`|drops it; with `?drain` its windows close first|
//!
//! ```text
//!   client ─ POST ─► Front ─ rows_with ─► Feed ─► query ─► View ─ bell ─► SSE ─► page
//!                      ◄── 200 once durable ──┘
//! ```
//!
//! # Invariants
//!
//! - I1 A 200 is given when the rows are durable, and not before.
//! - I2 A watcher costs a number and one frame: who does not read is given the state again.
//! - I3 A page of another origin can neither read nor write here.
//!
//! - I4 A stream that was made is there after any restart, and goes on where it was; one that was
//!   dropped is not.
//!
//! What it deliberately does not do: listen (streams of bytes are handed in), TLS, users: whoever
//! reaches it may do everything.
//!
//! Read `plane.rs`, `definition.rs`, `connectors.rs`, `admin.rs`; `front.rs`, then `events.rs`,
//! `live.rs`, `page/`.

#![forbid(unsafe_code)]

mod admin;
mod answer;
mod connection;
mod connectors;
mod definition;
mod events;
mod front;
mod live;
mod page;
mod plane;
mod reach;
mod tap;

pub use admin::Service;
pub use answer::AnswerBody;
pub use connectors::{NoPorts, Ports};
pub use front::{Door, Front};
pub use plane::{Plane, PlaneError, state_bytes_max};
