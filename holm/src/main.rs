//! The holm binary: the command line, the configuration, and the composition of all the parts.
//!
//! Route map: [`command`] names every command. [`config`] makes a node's configuration, [`up`]
//! runs the node, [`join`] makes it one of a cluster, [`sites`] runs several on one machine. [`ask`] has the client's commands over
//! [`client`], their output goes to [`screen`]. [`mod@bench`] measures servers, [`rehearse`]
//! plays scenarios in virtual time, [`stream`] runs SQL over events, [`cache`] answers
//! reads far from home. [`assertion`] ends the process
//! when an invariant is broken. [`quantity`] reads and writes durations, sizes and counts.

mod ask;
mod assertion;
mod bench;
mod cache;
mod client;
mod command;
mod config;
mod help;
mod join;
mod probe;
mod progress;
mod quantity;
mod recorded;
mod rehearse;
mod restore;
mod screen;
mod sites;
mod stream;
mod up;
mod wire;

use std::process::ExitCode;

use mimalloc::MiMalloc;

/// A put's memory is taken on one thread and given back on another; the system's allocator finds
/// that dear (docs/adr/2026-11-28-where-a-put-of-three-goes.md).
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    // The allocator asks for huge pages. With one client, a site that touches a little of many
    // then held six times the memory, and the zeroing of them made one put in a hundred slow.
    // A kernel that cannot switch them off has none.
    rustix::thread::disable_transparent_huge_pages(true).ok();
    assertion::ends_the_process();
    command::run(std::env::args_os().collect())
}
