//! The keyspace through its boundary: what clients see of applying, reading and watching.

mod auth;
mod lease;
mod oracle;
mod space;
mod watch;
mod world;
