//! The store against its dumb twin, on random commands.

use holm_base::{ByteCount, Prng};
use holm_kv::StoreConfig;
use holm_virtual::{Storage, Survival};

use crate::twin::{Driver, Twin, apply, command, compare, compare_all, config};

/// What one run saw, so that a test that never met a checkpoint or a cleaning is noticed.
#[derive(Debug, Default)]
struct Seen {
    checkpoints: usize,
    cleaned: usize,
    restarts: usize,
}

fn run(seed: u64, commands: u64, value_max: u64, config: fn() -> StoreConfig, seen: &mut Seen) {
    let mut random = Prng::new(seed);
    let storage = Storage::new();
    let mut driver = Driver::open(storage.root(), config()).expect("a fresh store opens");
    let mut twin = Twin::new();
    let mut log = Vec::new();
    let mut pinned = Vec::new();
    for op in 1..=commands {
        let next = command(&mut random, value_max);
        apply(&mut driver.store, &next, op);
        twin.apply(&next);
        log.push(next);
        driver.tick(&mut random).expect("the disk works");
        if random.below(40) == 0 {
            pinned.push((driver.store.snapshot(), twin.clone()));
        }
        if op % 50 == 0 {
            compare(driver.store.root(), &twin, 20);
        }
        if random.below(150) == 0 {
            // A stop without warning: what no flush has written comes from the log again. Who
            // read ended, too.
            for (root, twin) in pinned.drain(..) {
                compare(&root, &twin, 10);
            }
            let after = driver.store.applied();
            drop(driver);
            driver = Driver::open(storage.root(), config()).expect("it opens again");
            let from = driver.store.applied();
            assert!(from <= after && driver.store.durable_op() == from);
            for (at, command) in log
                .iter()
                .enumerate()
                .skip(usize::try_from(from.value()).expect("fits"))
            {
                apply(
                    &mut driver.store,
                    command,
                    u64::try_from(at).expect("fits") + 1,
                );
            }
            compare_all(&mut driver.store, &twin, 30);
            seen.restarts += 1;
        }
    }
    driver.settle().expect("the disk works");
    compare_all(&mut driver.store, &twin, 1000);
    for (root, twin) in &pinned {
        compare(root, twin, 10);
    }
    let trace = storage.trace();
    seen.checkpoints += trace
        .iter()
        .filter(|step| step.starts_with("rename") && step.ends_with(".ckp"))
        .count();
    seen.cleaned += trace
        .iter()
        .filter(|step| step.starts_with("remove") && step.ends_with(".seg"))
        .count();
    drop(driver);
    let mut driver = Driver::open(storage.root(), config()).expect("it opens again");
    compare_all(&mut driver.store, &twin, 1000);
    let dropped = storage.reopen(Survival::Drop);
    let mut driver = Driver::open(dropped.root(), config()).expect("all was synced");
    compare_all(&mut driver.store, &twin, 30);
}

/// Segments that are searched from the middle.
fn wide() -> StoreConfig {
    StoreConfig {
        segment_bytes: ByteCount::new(1 << 20),
        flush_bytes: ByteCount::new(100 << 10),
        unflushed_bytes_max: ByteCount::new(1 << 20),
        checkpoint_bytes_min: ByteCount::new(1 << 20),
        ..config()
    }
}

#[test]
fn a_store_answers_as_its_twin_through_restarts_and_cleaning() {
    let mut seen = Seen::default();
    for seed in 0..12 {
        run(seed, 600, 400, config, &mut seen);
    }
    run(99, 300, 9000, config, &mut seen);
    run(100, 160, 4000, wide, &mut seen);
    assert!(seen.checkpoints > 20, "{seen:?}");
    assert!(seen.cleaned > 50, "{seen:?}");
    assert!(seen.restarts > 20, "{seen:?}");
}
