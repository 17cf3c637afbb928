//! Two processes that differ in environment, working folder and address layout make the same
//! run of the same seed; and where a machine looks at such things, the difference is seen.

#[path = "../../../sim/virtual/tests/register/machine.rs"]
#[expect(dead_code, reason = "its own tests use more of it")]
mod machine;
#[path = "../../../sim/virtual/tests/register/workload.rs"]
#[expect(dead_code, reason = "its own tests use more of it")]
mod workload;

use std::process::Command;

use holm_virtual::{Order, Races, Scheduler, Tape};
use machine::{Bug, IMPURE};
use workload::{Run, plan, shaky, with};

/// Which of the impure machines a child runs; none of them without it.
const IMPURITY: &str = "HOLM_TEST_IMPURITY";

/// The hash of a run in timed order and of a hunt.
fn hashes(bug: Bug) -> String {
    let shaky = shaky();
    let races = Races::default();
    let hunt = Order::Hunt {
        scheduler: Scheduler::PosPlus { races },
        reach_nanos: 250_000_000,
    };
    let hash = |order: &Order| {
        let run = Run::new(with(&shaky, bug, order), plan(), Tape::fresh(11)).finish();
        let bytes = run.hash.iter();
        bytes.map(|byte| format!("{byte:02x}")).collect::<String>()
    };
    format!("{}-{}-{}", hash(&Order::Timed), hash(&hunt), rehearsed())
}

/// The hash of a few runs of the real protocol, hunted through.
fn rehearsed() -> String {
    let text = include_str!("../../../scenarios/hunt-members.toml");
    let scenario = holm_rehearse::parse(text, "hunt-members", &[]).expect("it is shipped");
    let options = holm_rehearse::Options {
        runs: Some(5),
        ..holm_rehearse::Options::default()
    };
    let report = holm_rehearse::run(&scenario, &options, &mut holm_rehearse::Silent);
    let bytes = report.hash().iter();
    bytes.map(|byte| format!("{byte:02x}")).collect()
}

/// What the children run; by itself it is a run made twice.
#[test]
fn a_run_says_its_hash() {
    let wanted = std::env::var(IMPURITY).ok();
    let wanted = wanted.and_then(|index| IMPURE.get(index.parse::<usize>().ok()?).copied());
    let hashes = hashes(wanted.unwrap_or(Bug::None));
    assert_eq!(hashes.len(), 64 + 1 + 64 + 1 + 64);
    println!("hash {hashes} ends");
}

/// Runs this very program again, only that test, with so much of the surroundings changed.
fn child(impurity: Option<usize>, padding: usize) -> String {
    let folder = tempfile::tempdir().expect("there is room for a folder");
    let program = std::env::current_exe().expect("a test knows its program");
    let mut command = Command::new(program);
    command
        .args(["--exact", "a_run_says_its_hash", "--nocapture"])
        .current_dir(folder.path())
        .env_clear()
        .env("HOLM_TEST_PADDING", "x".repeat(padding));
    if let Some(index) = impurity {
        command.env(IMPURITY, index.to_string());
    }
    let output = command.output().expect("the program runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}");
    let hash = text
        .split_once("hash ")
        .and_then(|(_, rest)| rest.split_once(" ends"));
    hash.expect("it says its hash").0.to_owned()
}

#[test]
fn a_seed_gives_the_same_run_in_two_processes() {
    let here = hashes(Bug::None);
    assert_eq!(child(None, 1), here, "virtual I5");
    assert_eq!(child(None, 50_000), here, "virtual I5");
}

#[test]
fn planted_impurity_is_seen_between_processes() {
    for (index, bug) in IMPURE.into_iter().enumerate() {
        // One count of machines is the same in both; a process that ran others before differs.
        if bug == Bug::Static {
            let before = hashes(bug);
            assert_ne!(hashes(bug), before, "{bug:?} went unseen");
        } else {
            assert_ne!(
                child(Some(index), 1),
                child(Some(index), 50_000),
                "{bug:?} went unseen"
            );
        }
    }
}
