//! Planted bugs: who finds them, how soon, and how small the failing tape becomes.

use holm_virtual::{Fill, Order, Races, Scheduler, Tape, World, WorldSpec, shrink};

use crate::machine::{Bug, Register};
use crate::workload::{Ending, Run, plan, shaky, with};

const REACH_NANOS: u64 = 250_000_000;

fn orders() -> [(&'static str, Order); 5] {
    let hunt = |scheduler| Order::Hunt {
        scheduler,
        reach_nanos: REACH_NANOS,
    };
    [
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
        (
            "pos+",
            hunt(Scheduler::PosPlus {
                races: Races::default(),
            }),
        ),
    ]
}

fn run(spec: &WorldSpec<Register>, tape: Tape) -> Ending {
    Run::new(spec.clone(), plan(), tape).finish()
}

/// The first failing run, and its seed.
fn hunt(spec: &WorldSpec<Register>, seeds: u64) -> Option<(u64, Ending)> {
    let mut runs = (0..seeds).map(|seed| (seed, run(spec, Tape::fresh(seed))));
    runs.find(|(_, ending)| !ending.violations.is_empty())
}

/// Each of these orders finds the bug within so many runs, and one of the judges names it.
/// The figures for all orders are printed by the example `planted`.
fn found(bug: Bug, judges: &[&str], names: &[&str], seeds: u64) {
    let spec = shaky();
    for (name, order) in orders().iter().filter(|(name, _)| names.contains(name)) {
        let (_, ending) = hunt(&with(&spec, bug, order), seeds)
            .unwrap_or_else(|| panic!("{bug:?} was not found by {name} in {seeds} runs"));
        let found = ending.violations.iter();
        let found: Vec<_> = found.map(|one| (one.judge, one.rule)).collect();
        let is_expected = found.iter().any(|(judge, _)| judges.contains(judge));
        assert!(is_expected, "{bug:?} by {found:?}");
    }
}

const ALL: [&str; 5] = ["timed", "random", "pct", "pos", "pos+"];
const ORDER: [&str; 3] = ["invariants", "durable", "linearizable"];

#[test]
fn an_acknowledgement_before_durability_is_found() {
    found(Bug::AckBeforeDurable, &ORDER, &["pos", "pos+"], 100);
}

#[test]
fn a_vote_before_durability_is_found() {
    found(Bug::VoteBeforeDurable, &ORDER, &["random"], 200);
}

#[test]
fn a_commit_without_a_majority_is_found_by_every_order() {
    found(Bug::CommitsAlone, &["durable", "linearizable"], &ALL, 100);
}

#[test]
fn a_read_without_a_majority_is_found() {
    found(Bug::ReadsAlone, &["linearizable"], &["timed"], 400);
}

#[test]
fn a_hang_after_a_lost_answer_is_found() {
    found(Bug::AnswersOnlyNews, &["heals"], &["timed", "random"], 100);
}

#[test]
fn a_notice_that_reads_like_a_vote_is_found() {
    found(Bug::NoticeCountsAsVote, &["invariants"], &["random"], 200);
}

#[test]
fn a_found_failure_replays_from_its_bytes_and_shrinks() {
    let (spec, orders) = (shaky(), orders());
    let (name, order) = &orders[1];
    let wrong = with(&spec, Bug::CommitsAlone, order);
    let (_, found) = hunt(&wrong, 100).expect("random finds it");
    let kept = Tape::decode(&found.tape.encode()).expect("it was just written");
    // A replay asks no scheduler: any hunt will do.
    let other = with(&spec, Bug::CommitsAlone, &orders[3].1);
    let replayed = run(&other, kept.clone());
    assert_eq!(replayed.hash, found.hash, "{name}");
    assert_eq!(replayed.violations, found.violations);

    let failure = found.failure();
    let fails = |tape: &Tape| run(&wrong, tape.clone()).failure() == failure;
    let shrunk = shrink(&kept, 150, fails).expect("the replay failed the same way");
    assert!(shrunk.tape.abnormal() < kept.abnormal(), "{}", shrunk.tape);
    let again = run(&wrong, shrunk.tape.rewound(Fill::Normal));
    assert_eq!(again.failure(), failure);
    let right = run(
        &with(&spec, Bug::None, order),
        shrunk.tape.rewound(Fill::Normal),
    );
    assert_eq!(right.violations, [], "the tape is bad, not the world");
}

#[test]
fn what_pos_plus_learned_serves_the_next_run() {
    let hunt = |races| Order::Hunt {
        scheduler: Scheduler::PosPlus { races },
        reach_nanos: REACH_NANOS,
    };
    let spec = shaky();
    let mut run = Run::new(
        with(&spec, Bug::None, &hunt(Races::default())),
        plan(),
        Tape::fresh(1),
    );
    while !run.is_over() {
        run.moment().expect("a fresh tape fits");
    }
    let races = run.world.races().expect("it hunts with POS+").clone();
    assert!(races.len() > 3, "{} kinds of delivery race", races.len());
    let next: World<Register> =
        World::new(with(&spec, Bug::None, &hunt(races.clone())), Tape::fresh(2));
    assert_eq!(next.races(), Some(&races));
}
