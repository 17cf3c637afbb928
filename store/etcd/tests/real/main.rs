//! The front against a real node in a temporary directory: no port, no other process.

mod cluster;
mod frames;
mod joins;
mod node;
mod services;
mod shell;
mod sites;
mod turns;
mod users;
mod watches;
mod wire;
