//! Safety under faults, then the faults end and all must heal.

use holm_virtual::{HostSpec, Order, Report, Scheduler, Tape, WorldSpec};

use crate::machine::{Bug, Register, Setup};
use crate::workload::{Ending, Plan, Run, calm, plan, shaky, with};

fn finish(spec: &WorldSpec<Register>, seed: u64) -> Ending {
    Run::new(spec.clone(), plan(), Tape::fresh(seed)).finish()
}

#[test]
fn a_correct_register_keeps_its_promises_in_timed_order() {
    let (mut answered, mut crashes, mut elections) = (0, 0, 0);
    let spec = shaky();
    for seed in 0..60 {
        let ending = finish(&spec, seed);
        assert_eq!(ending.halted, None, "seed {seed}");
        assert_eq!(ending.violations, [], "seed {seed}");
        answered += ending.answered;
        crashes += ending.counts.crashed;
        elections += ending.elections;
    }
    // A suite that tested nothing must not pass.
    assert!(answered > 60 * 60, "{answered} requests were answered");
    assert!(crashes > 60, "{crashes} nodes ended");
    assert!(elections > 60, "{elections} leaders were elected");
}

#[test]
fn a_correct_register_keeps_its_promises_under_every_scheduler() {
    let schedulers = [
        Scheduler::Random,
        Scheduler::Pct {
            depth: 3,
            length: 4_000,
        },
        Scheduler::Pos,
        Scheduler::PosPlus {
            races: holm_virtual::Races::default(),
        },
    ];
    let spec = shaky();
    for scheduler in schedulers {
        let mut answered = 0;
        let order = Order::Hunt {
            scheduler: scheduler.clone(),
            reach_nanos: 250_000_000,
        };
        let spec = with(&spec, Bug::None, &order);
        for seed in 0..15 {
            let ending = finish(&spec, seed);
            assert_eq!(ending.halted, None, "{scheduler:?} seed {seed}");
            assert_eq!(ending.violations, [], "{scheduler:?} seed {seed}");
            answered += ending.answered;
        }
        assert!(answered > 15 * 20, "{scheduler:?} had {answered} answers");
    }
}

#[test]
fn the_tape_of_zeros_has_no_fault() {
    let spec = shaky();
    for order in [
        Order::Timed,
        Order::Hunt {
            scheduler: Scheduler::Random,
            reach_nanos: 250_000_000,
        },
    ] {
        let ending = Run::new(with(&spec, Bug::None, &order), plan(), Tape::normal()).finish();
        assert_eq!(ending.violations, []);
        assert_eq!((ending.counts.lost, ending.counts.crashed), (0, 0), "I8");
        assert_eq!(ending.counts.dropped, 0, "I8");
        assert_eq!(ending.elections, 1);
        assert_eq!(ending.tape.abnormal(), 0);
    }
}

#[test]
fn a_plan_without_faults_has_none() {
    let spec = WorldSpec::plain(
        &Setup {
            nodes: 3,
            bug: Bug::None,
        },
        3,
    );
    let plan = Plan {
        faults: calm(),
        ..plan()
    };
    let ending = Run::new(spec, plan, Tape::fresh(1)).finish();
    assert_eq!(ending.violations, []);
    assert_eq!((ending.counts.lost, ending.counts.crashed), (0, 0));
}

#[test]
fn a_world_may_use_few_cores_and_slow_links() {
    let mut spec = shaky();
    spec.hosts = vec![HostSpec::of(1)];
    spec.link.bytes_per_second = Some(1_000_000);
    spec.link.queue_nanos = 50_000_000;
    spec.report = Report::On;
    for node in &mut spec.nodes {
        node.host = 0;
        node.work = holm_virtual::Work {
            batch_nanos: 20_000,
            input_nanos: 5_000,
            effect_nanos: 2_000,
            wake_nanos: 3_000,
            flush_nanos: 4_000,
            ..holm_virtual::Work::default()
        };
        node.wake = holm_virtual::Quantiles::fixed(10_000);
    }
    for seed in 0..20 {
        let ending = Run::new(spec.clone(), plan(), Tape::fresh(seed)).finish();
        assert_eq!(ending.violations, [], "seed {seed}");
        assert!(ending.answered > 20, "seed {seed}: {}", ending.answered);
    }
}
