//! Determinism: a run is a function of its spec and its tape, and looking at it changes nothing.

use holm_virtual::{Order, Recording, Report, Scheduler, Tape, WorldSpec, first_difference};

use crate::machine::{Bug, IMPURE, Register};
use crate::workload::{Run, plan, shaky, with};

fn orders() -> [Order; 2] {
    let scheduler = Scheduler::PosPlus {
        races: holm_virtual::Races::default(),
    };
    [
        Order::Timed,
        Order::Hunt {
            scheduler,
            reach_nanos: 250_000_000,
        },
    ]
}

fn run(spec: &WorldSpec<Register>, tape: Tape) -> Run {
    Run::new(spec.clone(), plan(), tape)
}

#[test]
fn recording_and_reporting_change_nothing() {
    let spec = shaky();
    for order in orders() {
        let spec = with(&spec, Bug::None, &order);
        for seed in 0..5 {
            let plain = run(&spec, Tape::fresh(seed)).finish();
            let off = Tape::fresh(seed).recording(Recording::Off);
            assert_eq!(run(&spec, off).finish().hash, plain.hash, "I6");
            let mut wordy = spec.clone();
            wordy.report = Report::On;
            let reported = Run::new(wordy, plan(), Tape::fresh(seed)).finish();
            assert_eq!(reported.hash, plain.hash, "I6");
            let replayed = run(&spec, plain.tape.rewound(holm_virtual::Fill::Normal)).finish();
            assert_eq!(replayed.hash, plain.hash, "a replay is the run again");
        }
    }
}

#[test]
fn going_on_from_a_checkpoint_equals_running_from_the_beginning() {
    let spec = shaky();
    for order in orders() {
        let spec = with(&spec, Bug::None, &order);
        for seed in 0..5 {
            let whole = run(&spec, Tape::fresh(seed)).finish();
            let mut going = run(&spec, Tape::fresh(seed));
            let mut checkpoints = Vec::new();
            for moment in 0_u64.. {
                if going.is_over() {
                    break;
                }
                if moment % 200 == 0 {
                    checkpoints.push(going.clone());
                }
                going.moment().expect("a fresh tape fits");
            }
            assert!(checkpoints.len() > 2, "I7 was put to the test");
            assert_eq!(
                going.finish().hash,
                whole.hash,
                "I6: keeping them changed nothing"
            );
            for checkpoint in checkpoints {
                assert_eq!(checkpoint.finish(), whole, "I7");
            }
        }
    }
}

/// Runs one seed twice and says in which step the two differ first.
fn differs(bug: Bug) -> Option<String> {
    let lines = |_| {
        let mut spec = with(&shaky(), bug, &Order::Timed);
        spec.report = Report::On;
        let mut run = Run::new(spec, plan(), Tape::fresh(3));
        for _ in 0..2_000 {
            run.moment().expect("a fresh tape fits");
        }
        (run.world.hash(), run.world.report().to_vec())
    };
    let [left, right] = [0, 1].map(lines);
    let difference = first_difference(&left.1, &right.1);
    assert_eq!(
        left.0 == right.0,
        difference.is_none(),
        "hash and report agree"
    );
    difference.map(|(at, left, right)| format!("line {at}: {left} / {right}"))
}

#[test]
fn planted_nondeterminism_is_caught_and_the_first_differing_step_named() {
    assert_eq!(differs(Bug::None), None);
    // Where memory lies differs between processes only: see the tests of real processes.
    for bug in IMPURE.into_iter().filter(|&bug| bug != Bug::Address) {
        let difference = differs(bug).unwrap_or_else(|| panic!("{bug:?} was not caught"));
        assert!(difference.starts_with("line "), "{difference}");
    }
}
