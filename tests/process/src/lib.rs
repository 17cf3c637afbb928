//! Real processes, real clients, real crashes: the harness of the tests that need a port.
//!
//! Everything below this folder tests through arguments and in virtual time. Here, and only
//! here, a test may start servers, sleep, open sockets and read a clock. There are few such
//! tests, for they are slow, and what they find should become a scenario one layer down.
//!
//! ```text
//! Server ── starts holm, or etcd as its peer, on free ports in a folder of its own
//!   │          and ends it by its process id, politely or not
//!   ├── Gateway ── asks it over the JSON gateway, with answers as JSON values
//!   ├── Grpc ───── the same over gRPC
//!   └── foreign ── runs suites of clients that we did not write against it
//!
//! Browser ── looks at its pages
//!
//! Sites ── starts several sites by one command and plays with them
//! Machine ── a site of its own that founds or joins by a token
//! Writers ── clients that nothing may fail while sites change
//! Crowd ── clients of numbered cells while things go wrong, and the judge of what they saw
//! Trio ── starts three members itself, of Holm or of etcd
//!   └── Lan ── a network for them, each in a Space of its own, to be broken
//! small ── a small file system, to be filled
//! Ports ── holds the ports of a test, so that no other test or connection gets them
//!
//! peer ────── which etcds there are, where their tools lie, what each answers differently
//! generate ── seeded requests        difference ── what two answers disagree on
//! ledger ──── what must have survived a kill -9
//! oracle ──── the state at each revision, rebuilt from a watch alone
//! vigil ───── when a lease may end, and what ended too early
//! told ────── what each watch of a stream was told, for two servers to be compared
//! ```
//!
//! The checkers (`difference`, `ledger`, `oracle`, `told`, `vigil`) are plain code with tests of their own that
//! feed each a violation.

pub mod base64;
pub mod browser;
pub mod cells;
pub mod crowd;
pub mod difference;
pub mod foreign;
pub mod gateway;
pub mod generate;
pub mod grpc;
pub mod http;
pub mod lan;
pub mod ledger;
pub mod machine;
pub mod oracle;
pub mod peer;
pub mod ports;
pub mod server;
pub mod sites;
pub mod small;
pub mod space;
pub mod told;
pub mod trio;
pub mod vigil;
pub mod writers;

pub use gateway::{Answer, Gateway};
pub use grpc::Grpc;
pub use server::{Program, Server, Setup};

/// Says that something was not tested here, and why: what a run of all tests repeats at its end
/// instead of counting it as passed. Where `HOLM_REQUIRE_ROOT` is set, it is a failure.
///
/// # Panics
///
/// With `HOLM_REQUIRE_ROOT`.
pub fn not_tested(why: &str) {
    use std::io::Write;
    assert!(
        std::env::var_os("HOLM_REQUIRE_ROOT").is_none(),
        "not tested: {why}"
    );
    // Past the runner, which shows what a test prints only if it fails. Who closed our output
    // has no need of it.
    writeln!(std::io::stdout(), "\nnot tested: {why}").ok();
}
