//! Rehearsals: the protocol of a deployment in virtual time, faults and all.
//!
//! A [`Scenario`] is text: sites, links, clients, faults, promises. [`run`] plays it, as often as
//! it takes, and its [`Report`] says which promises were kept, with intervals, or how to see a
//! broken one again.
//!
//! ```text
//!   text ─► parse ─► Scenario ─► Stage: one WorldSpec for all runs
//!                                  │
//!            timed: seed after seed, until intervals are narrow ──┐
//!            hunt:  scheduler after scheduler, until one breaks ──┤
//!                                  ▼                              ▼
//!                    Run: World of Sites,                    Report: text, JSON, page
//!                    clients, watchers, faults, judges
//!                          │
//!       Site = store/replica: Raft + store/kv + store/log ─► virtual disk
//! ```
//!
//! What is rehearsed is what runs: `store/replica`, opened as a node opens it, its log and its
//! engine's files on a virtual disk, its background jobs in virtual time, its words the bytes
//! that would travel. What the engine's and the log's threads do between them is redone here,
//! in `site/store_site.rs` and `site/deck.rs`; the front is not there, and clients hand typed
//! requests over.
//!
//! [`Costs`] let work take time on the cores of its host: that of replicas, of the front, which
//! is not there but in this, and of syncs. Where they are given, a replica decides once a batch,
//! as behind the engine's thread, and one flush is under way at a time. [`model`] holds them
//! against the machine that they come from.
//!
//! `engine = "table"` in the keyspace puts a table of numbered keys above the same Raft
//! instead. A run costs a fifth to a third of it, and Raft's snapshots, damaged logs and reads
//! by lease are rehearsed only there.
//!
//! # Invariants
//!
//! - I1 A run is a function of scenario, build and tape. The first run of each rehearsal is made
//!   twice, and two traces are an outcome of their own.
//! - I2 Nothing unknown is read over: an unknown key, unit, name or fault is refused, with its
//!   line and what to do.
//! - I3 A promise is kept or broken only by a whole interval.
//! - I4 A run in which too little happened says nothing, and that is no success.
//! - I5 No figure is quotable while work is free, or costs were never found to be right. Work of
//!   a kind without a price is refused, never free.
//!
//! # What it deliberately does not do
//!
//! No files, clocks or processes: text goes in and out, and real time is asked of
//! [`Progress`]. Only a hunt starts threads, in `hunt/crew.rs`. Old releases,
//! flipped bytes below the real log and users are not rehearsed, and scenarios that ask for them
//! are refused.
//!
//! # Differences from the design
//!
//! Shares (`availability`) must be known to within so many points, not percent of themselves.
//! Latencies of which under half was answered are shown in parentheses and not waited for; so
//! is the 99th percentile. A hunt's search with feedback is asked for, keeps no checkpoints, and
//! shares its runs by what was gained for a step, not for a second.
//!
//! ```
//! use holm_rehearse::{Options, Silent, parse, run};
//!
//! let text = r#"
//! format = 1
//! name = "quiet"
//! why = "Three sites answer."
//! [run]
//! length = "4s"
//! warmup = "2s"
//! informative = 10
//! [[site]]
//! names = ["a", "b", "c"]
//! [[link]]
//! name = "wan"
//! among = ["a", "b", "c"]
//! one_way = "5ms"
//! [[keyspace]]
//! name = "k"
//! sites = ["a", "b", "c"]
//! [[clients]]
//! at = "a"
//! rate = "20/s"
//! [[promise]]
//! check = ["linearizable", "durable"]
//! "#;
//! let scenario = parse(text, "quiet.toml", &[])?;
//! let options = Options { runs: Some(2), ..Options::default() };
//! let report = run(&scenario, &options, &mut Silent);
//! assert_eq!(report.exit_code(), 0, "{}", report.to_text());
//! # Ok::<(), holm_rehearse::Refusal>(())
//! ```
//!
//! Where to read next: `scenario.rs` for what can be said, `run.rs` for what happens.
#![forbid(unsafe_code)]
#![deny(clippy::wildcard_enum_match_arm)]

mod calls;
mod costs;
mod disk;
mod histogram;
mod hunt;
mod options;
mod outages;
mod refusal;
mod report;
mod run;
mod scenario;
mod site;
mod solve;
mod stage;
mod statistics;
mod stream;
mod timed;
mod validate;

pub use costs::{
    Cell, Costs, FOREIGN_MAX, IdleWake, Load, Machine, Measured, Miss, Parts, SyncWait, TABLE,
    TOLERANCE, Work, misses, worst,
};
pub use holm_virtual::TapeError;
pub use options::{Feedback, Options, Progress, Silent};
pub use refusal::Refusal;
pub use report::{Failure, Report};
pub use scenario::{Beside, Purpose, Scenario, parse, parse_beside};
pub use solve::{FEW, MANY, MOST, SITES, solve};
pub use statistics::{Interval, Ratio, Verdict};
pub use validate::{Counts, Modelled, Share, model};

/// Rehearses a scenario.
///
/// A hunt goes on for [`Options::explore`], or for [`Options::runs`]; a timed one until its
/// intervals are met. With [`Options::explore`] a timed scenario is hunted through.
///
/// # Panics
///
/// If [`Options::tape`] is given: that is for [`replay`].
#[must_use]
pub fn run(scenario: &Scenario, options: &Options, progress: &mut dyn Progress) -> Report {
    assert!(options.tape.is_none(), "a tape is replayed, not run");
    if options.explore.is_some() && scenario.purpose() == Purpose::Timed {
        return hunt::explore(&scenario.clone().hunted(), options, progress);
    }
    match scenario.purpose() {
        Purpose::Timed => timed::rehearse(scenario, options, progress),
        Purpose::Hunt => hunt::explore(scenario, options, progress),
    }
}

/// Replays [`Options::tape`].
///
/// # Errors
///
/// If there is none, or it is no tape.
pub fn replay(
    scenario: &Scenario,
    options: &Options,
    progress: &mut dyn Progress,
) -> Result<Report, TapeError> {
    let bytes = options.tape.as_deref().unwrap_or_default();
    hunt::replay(scenario, options, bytes, progress)
}
