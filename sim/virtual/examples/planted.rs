//! Which order finds which planted bug in how many runs, and how far a failure shrinks.
//!
//! `cargo run --release -p holm-virtual --example planted`
#![expect(clippy::disallowed_types, reason = "it measures real time")]
#![expect(clippy::print_stdout, reason = "it is a program")]

#[path = "../tests/register/machine.rs"]
#[expect(dead_code, reason = "the tests use more of it")]
mod machine;
#[path = "../tests/register/workload.rs"]
#[expect(dead_code, reason = "the tests use more of it")]
mod workload;

use std::time::Instant;

use holm_virtual::{Order, Races, Scheduler, Tape, shrink};
use machine::Bug;
use workload::{Run, plan, shaky, with};

const RUNS_MAX: u64 = 3_000;

fn main() {
    let hunt = |scheduler| Order::Hunt {
        scheduler,
        reach_nanos: 250_000_000,
    };
    let races = Races::default();
    let orders = [
        ("timed", Order::Timed),
        ("random", hunt(Scheduler::Random)),
        (
            "pct",
            hunt(Scheduler::Pct {
                depth: 15,
                length: 4_000,
            }),
        ),
        ("pos", hunt(Scheduler::Pos)),
        ("pos+", hunt(Scheduler::PosPlus { races })),
    ];
    let bugs = [
        Bug::AckBeforeDurable,
        Bug::VoteBeforeDurable,
        Bug::CommitsAlone,
        Bug::ReadsAlone,
        Bug::AnswersOnlyNews,
        Bug::NoticeCountsAsVote,
        Bug::None,
    ];
    let shaky = shaky();
    for bug in bugs {
        for (name, order) in &orders {
            let spec = with(&shaky, bug, order);
            let begun = Instant::now();
            let run = |tape: &Tape| Run::new(spec.clone(), plan(), tape.clone()).finish();
            let mut runs = (0..RUNS_MAX).map(|seed| (seed, run(&Tape::fresh(seed))));
            let found = runs.find(|(_, ending)| !ending.violations.is_empty());
            let seconds = begun.elapsed().as_secs_f64();
            let Some((seed, ending)) = found else {
                println!("{bug:?} {name}: none in {RUNS_MAX} runs, {seconds:.1} s");
                continue;
            };
            let judges: Vec<&str> = ending.violations.iter().map(|one| one.judge).collect();
            println!("{bug:?} {name}: run {seed}, {seconds:.1} s, {judges:?}");
            let failure = ending.failure();
            let begun = Instant::now();
            let fails = |tape: &Tape| run(tape).failure() == failure;
            match shrink(&ending.tape, 1_000, fails) {
                Some(shrunk) => println!(
                    "    {} became {}, {} runs, {:.1} s",
                    ending.tape,
                    shrunk.tape,
                    shrunk.runs,
                    begun.elapsed().as_secs_f64()
                ),
                None => println!("    does not fail with normal fill"),
            }
        }
    }
}
