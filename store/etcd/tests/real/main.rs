//! The front against a real node in a temporary directory: no port, no other process.

mod frames;
mod node;
mod services;
mod shell;
mod turns;
mod users;
mod watches;
mod wire;
