//! All small worlds: three nodes, two writes, and every fault of a kind at every moment.

use std::time::Duration;

use holm_virtual::{FaultKind, FaultPlan, FaultRate, Place, Quantiles, Tape, WorldSpec};

use crate::machine::{Bug, Setup};
use crate::workload::{Ending, Plan, Run};

fn run(kind: FaultKind, tape: Tape) -> Ending {
    let setup = Setup {
        nodes: 3,
        bug: Bug::None,
    };
    let rate = FaultRate {
        kind,
        per_million: 500_000,
        at_most: 1,
    };
    let plan = Plan {
        clients: 1,
        requests: 2,
        length: Duration::from_secs(2),
        faults: FaultPlan::new(vec![rate], 1, Quantiles::fixed(40_000_000)),
    };
    Run::new(WorldSpec::plain(&setup, 3), plan, tape).finish()
}

/// Runs every world with one fault of this kind: at each moment, at each node, and with each
/// loss of what was not synced. Says how many, and how often a node ended.
fn all(kind: FaultKind) -> (u64, u64) {
    let places = ["fault.kind", "fault.target", "disk.keep"].map(Place::new);
    let mut tape = Tape::first_of_all(&places);
    let (mut runs, mut crashes) = (0, 0);
    loop {
        assert!(runs < 5_000, "the world is small");
        let ending = run(kind, tape);
        assert_eq!(ending.violations, [], "{kind:?}: {}", ending.tape);
        runs += 1;
        crashes += ending.counts.crashed;
        match ending.tape.successor() {
            Some(next) => tape = next,
            None => return (runs, crashes),
        }
    }
}

#[test]
fn no_crash_at_any_moment_of_a_small_world_breaks_a_promise() {
    let (runs, crashes) = all(FaultKind::Crash);
    assert!(runs > 100, "{runs} runs");
    assert_eq!(crashes, runs - 1, "every run but the first has its crash");
}

#[test]
fn no_other_fault_at_any_moment_of_a_small_world_breaks_a_promise() {
    for kind in [
        FaultKind::Pause,
        FaultKind::Cut,
        FaultKind::CutOneWay,
        FaultKind::SyncFailure,
        FaultKind::ClockFreeze,
    ] {
        let (runs, _) = all(kind);
        assert!(runs > 100, "{kind:?}: {runs} runs");
    }
}
