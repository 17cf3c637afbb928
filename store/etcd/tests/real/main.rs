//! The front against a real node in a temporary directory: no port, no other process.

mod node;
mod services;
mod turns;
mod users;
