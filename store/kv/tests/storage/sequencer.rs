//! What the sequencer says of an op is found with the data of that op, or not at all (I16).

use std::collections::BTreeSet;
use std::time::Duration;

use holm_base::{ByteCount, Op, Prng};
use holm_kv::{Store, StoreConfig, StoreError};
use holm_virtual::{Fault, Storage, Survival};

use crate::twin::{Command, Driver, Twin, apply, command, compare_all, words};

/// A flush takes several frames, over several segments.
fn large_batches() -> StoreConfig {
    StoreConfig {
        segment_bytes: ByteCount::new(128 << 10),
        flush_bytes: ByteCount::new(160 << 10),
        flush_after: Duration::from_millis(1_900),
        checkpoint_bytes_min: ByteCount::new(300 << 10),
        ..StoreConfig::default()
    }
}

fn commands() -> Vec<Command> {
    let mut random = Prng::new(9);
    (0..100).map(|_| command(&mut random, 4_000)).collect()
}

/// Whether the store is told from its beginning on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Yes,
    No,
}

struct End {
    durable: u64,
    error: Option<StoreError>,
    saw_full: bool,
}

fn run(storage: &Storage, commands: &[Command], told: Told) -> End {
    let mut end = End {
        durable: 0,
        error: None,
        saw_full: false,
    };
    let mut driver = match Driver::open(storage.root(), large_batches()) {
        Ok(driver) => driver,
        Err(error) => {
            end.error = Some(error);
            return end;
        }
    };
    if told == Told::Yes && driver.store.sequencer().is_none() {
        assert_eq!(driver.store.applied(), Op::ZERO);
        driver.store.set_sequencer(words(Op::ZERO));
    }
    let mut random = Prng::new(5);
    let first = driver.store.applied().value();
    for op in first..commands.len() as u64 {
        let at = usize::try_from(op).expect("fits");
        apply(&mut driver.store, &commands[at], op + 1);
        let result = driver.tick(&mut random);
        end.durable = driver.store.durable_op().value();
        end.saw_full |= driver.store.sizes().full;
        if let Err(error) = result {
            end.error = Some(error);
            return end;
        }
    }
    end.error = driver.settle().err();
    end.durable = driver.store.durable_op().value();
    end
}

fn reopened(storage: &Storage) -> Store {
    Store::open(storage.root(), large_batches()).expect("all that was durable is whole")
}

/// Checks that both agree, and answers the op.
fn check(storage: &Storage, commands: &[Command], end: &End, what: &str) -> u64 {
    let mut store = reopened(storage);
    let applied = store.applied();
    let expected = (applied > Op::ZERO || store.sequencer().is_some()).then(|| words(applied));
    assert_eq!(store.sequencer(), expected, "{what}");
    assert!(applied.value() >= end.durable, "{what}");
    let at = usize::try_from(applied.value()).expect("fits");
    compare_all(&mut store, &Twin::after(&commands[..at]), 2);
    applied.value()
}

#[test]
fn after_a_crash_anywhere_applied_op_and_words_agree() {
    let commands = commands();
    let whole = Storage::new();
    assert_eq!(run(&whole, &commands, Told::Yes).error, None);
    let mut found = BTreeSet::new();
    for step in 1..=whole.steps() {
        let storage = Storage::new();
        storage.crash_at(step);
        let end = run(&storage, &commands, Told::Yes);
        assert!(storage.has_crashed(), "step {step}");
        for survival in [
            Survival::Keep,
            Survival::Drop,
            Survival::Torn { seed: step },
            Survival::Reordered { seed: step },
        ] {
            let after = storage.reopen(survival);
            let what = format!("step {step}, {survival:?}");
            found.insert(check(&after, &commands, &end, &what));
            if step % 8 > 0 {
                continue;
            }
            let end = run(&after, &commands, Told::Yes);
            assert_eq!(end.error, None, "{what}");
            check(&after, &commands, &end, &what);
        }
    }
    assert!(
        found.len() > 2,
        "crashes between several flushes: {found:?}"
    );
}

/// The frames of one flush are what crashes can part: without the words they are found one by one.
#[test]
fn a_store_that_is_not_told_is_found_at_more_ops() {
    let commands = commands();
    let ops = |told| {
        let whole = Storage::new();
        assert_eq!(run(&whole, &commands, told).error, None);
        let mut found = BTreeSet::new();
        for step in (1..=whole.steps()).step_by(3) {
            let storage = Storage::new();
            storage.crash_at(step);
            assert!(run(&storage, &commands, told).error.is_some());
            let after = storage.reopen(Survival::Torn { seed: step });
            found.insert(reopened(&after).applied());
            let after = storage.reopen(Survival::Keep);
            found.insert(reopened(&after).applied());
        }
        found.len()
    };
    let (told, untold) = (ops(Told::Yes), ops(Told::No));
    assert!(told < untold, "{told} ops with the words, {untold} without");
}

#[test]
fn a_disk_that_is_full_for_a_while_parts_nothing() {
    let commands = commands();
    let whole = Storage::new();
    assert_eq!(run(&whole, &commands, Told::Yes).error, None);
    let mut tried = 0;
    for (at, step) in whole.trace().iter().enumerate() {
        if !step.starts_with("create") || step.contains("head") {
            continue;
        }
        let storage = Storage::new();
        storage.fail_at(at as u64 + 1, Fault::Full);
        let end = run(&storage, &commands, Told::Yes);
        assert_eq!(end.error, None, "{step}");
        tried += u64::from(end.saw_full);
        check(&storage.reopen(Survival::Drop), &commands, &end, step);
    }
    assert!(tried > 2, "{tried} times it was full in between");
}

#[test]
#[should_panic(expected = "I16")]
fn data_without_their_words_do_not_reach_the_disk() {
    let mut store = reopened(&Storage::new());
    store.set_sequencer(words(Op::ZERO));
    store.end_command(Op::new(1), holm_base::Term::new(1));
    store.hurry();
    let _never = store.next_job(holm_base::Time::ZERO);
}
