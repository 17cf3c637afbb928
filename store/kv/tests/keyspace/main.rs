//! The keyspace through its boundary: what clients see of applying, reading and watching.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod auth;
mod exhaustive;
mod lease;
mod oracle;
mod sequencer;
mod snapshot;
mod space;
mod twin;
mod txn;
mod watch;
mod world;
