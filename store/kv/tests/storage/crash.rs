//! A crash, a failure or a full disk at every write, sync, creation, renaming and removal.

use holm_base::{ByteCount, Prng};
use holm_kv::{StoreConfig, StoreError};
use holm_virtual::{Fault, Storage, Survival};

use crate::twin::{Command, Driver, Twin, apply, command, compare_all};

const SURVIVALS: [Survival; 6] = [
    Survival::Keep,
    Survival::Drop,
    Survival::Torn { seed: 1 },
    Survival::Torn { seed: 2 },
    Survival::Reordered { seed: 3 },
    Survival::Reordered { seed: 4 },
];

fn small() -> StoreConfig {
    StoreConfig {
        segment_bytes: ByteCount::new(16 << 10),
        flush_bytes: ByteCount::new(3 << 10),
        checkpoint_bytes_min: ByteCount::new(12 << 10),
        ..StoreConfig::default()
    }
}

fn commands(seed: u64) -> Vec<Command> {
    let mut random = Prng::new(seed);
    (0..90).map(|_| command(&mut random, 500)).collect()
}

/// How far a run came.
#[derive(Debug)]
struct End {
    driver: Option<Driver>,
    durable: u64,
    applied: u64,
    error: Option<StoreError>,
}

/// Applies the commands that the store lacks, with jobs in between, until the disk fails.
fn run(storage: &Storage, commands: &[Command], seed: u64) -> End {
    let mut end = End {
        driver: None,
        durable: 0,
        applied: 0,
        error: None,
    };
    let mut random = Prng::new(seed);
    let mut driver = match Driver::open(storage.root(), small()) {
        Ok(driver) => driver,
        Err(error) => {
            end.error = Some(error);
            return end;
        }
    };
    let first = driver.store.applied().value();
    for op in first..u64::try_from(commands.len()).expect("fits") {
        let at = usize::try_from(op).expect("fits");
        apply(&mut driver.store, &commands[at], op + 1);
        end.applied = op + 1;
        let result = driver.tick(&mut random);
        end.durable = driver.store.durable_op().value();
        if let Err(error) = result {
            end.error = Some(error);
            return end;
        }
    }
    end.error = driver.settle().err();
    end.durable = driver.store.durable_op().value();
    end.driver = Some(driver);
    end
}

/// What a reboot finds must be all that was durable and a prefix of the rest, and from there
/// it must go on.
fn check_reboot(storage: &Storage, commands: &[Command], end: &End, what: &str) {
    let mut driver =
        Driver::open(storage.root(), small()).unwrap_or_else(|error| panic!("{what}: {error}"));
    let applied = driver.store.applied().value();
    assert!(applied >= end.durable, "{what}: {applied} of {end:?}");
    assert!(applied <= end.applied.max(end.durable), "{what}");
    let at = usize::try_from(applied).expect("fits");
    compare_all(&mut driver.store, &Twin::after(&commands[..at]), 3);
    drop(driver);
    let again = run(storage, commands, 77);
    assert_eq!(again.error, None, "{what}");
    let mut driver = again.driver.expect("it ran to its end");
    compare_all(&mut driver.store, &Twin::after(commands), 3);
}

fn steps(commands: &[Command], seed: u64) -> u64 {
    let storage = Storage::new();
    assert_eq!(run(&storage, commands, seed).error, None);
    let trace = storage.trace();
    let ckp = trace.iter().filter(|it| it.contains(".ckp.new ")).count();
    let gone = trace
        .iter()
        .filter(|it| it.starts_with("remove") && it.contains(".seg"));
    let gone = gone.count();
    assert!(
        ckp > 3 && gone > 1,
        "the workload crosses all: {ckp} {gone}"
    );
    storage.steps()
}

#[test]
fn a_crash_at_any_step_loses_nothing_durable_and_nothing_halfway() {
    let seed = 5;
    let commands = commands(seed);
    for step in 1..=steps(&commands, seed) {
        let storage = Storage::new();
        storage.crash_at(step);
        let end = run(&storage, &commands, seed);
        assert!(storage.has_crashed(), "step {step}");
        for survival in SURVIVALS {
            let what = format!("step {step}, {survival:?}");
            check_reboot(&storage.reopen(survival), &commands, &end, &what);
        }
    }
}

#[test]
fn a_failure_at_any_step_ends_the_store_and_loses_nothing_durable() {
    let seed = 6;
    let commands = commands(seed);
    for step in 1..=steps(&commands, seed) {
        let storage = Storage::new();
        storage.fail_at(step, Fault::Io);
        let end = run(&storage, &commands, seed);
        assert!(
            matches!(end.error, Some(StoreError::Disk { .. })),
            "step {step}: {:?}",
            end.error
        );
        for survival in [Survival::Keep, Survival::Drop] {
            let what = format!("step {step}, {survival:?}");
            check_reboot(&storage.reopen(survival), &commands, &end, &what);
        }
    }
}

#[test]
fn a_creation_that_finds_the_disk_full_is_said_and_tried_again() {
    let seed = 7;
    let commands = commands(seed);
    let storage = Storage::new();
    assert_eq!(run(&storage, &commands, seed).error, None);
    let creates = storage.trace();
    let creates = creates
        .iter()
        .enumerate()
        .filter(|it| it.1.starts_with("create"));
    let mut tried = 0;
    for (at, name) in creates {
        let storage = Storage::new();
        storage.fail_at(u64::try_from(at).expect("fits") + 1, Fault::Full);
        let end = run(&storage, &commands, seed);
        if name.contains("head") {
            assert!(end.error.is_some(), "a fresh store needs its head");
            continue;
        }
        assert_eq!(end.error, None, "{name}");
        let mut driver = end.driver.expect("it ran to its end");
        assert!(driver.saw_full, "{name}");
        assert!(!driver.store.sizes().full, "{name}: it was cleared");
        compare_all(&mut driver.store, &Twin::after(&commands), 3);
        tried += 1;
    }
    assert!(tried > 8, "{tried}");
}
