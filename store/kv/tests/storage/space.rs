//! Space: given back while serving, and what a full disk does.

use bytes::Bytes;
use holm_base::{ByteCount, Op, Prng, Revision, Term};
use holm_kv::{NewVersion, Store};
use holm_virtual::Storage;

use crate::twin::{Driver, config, key};

fn put(store: &mut Store, key: &Bytes, len: usize) {
    let value = &Bytes::from(vec![7; len]);
    let lease = 0;
    store.put(NewVersion { key, value, lease });
    end(store);
}

fn end(store: &mut Store) {
    store.end_revision();
    let op = store.applied().next();
    store.end_command(op, Term::new(1));
}

fn compact(store: &mut Store) {
    store.compact(store.root().revision());
    end(store);
}

#[test]
fn overwriting_and_compacting_keeps_the_disk_flat() {
    let storage = Storage::new();
    let mut driver = Driver::open(storage.root(), config()).expect("it opens");
    let mut random = Prng::new(3);
    let mut highest = 0;
    for round in 0..60 {
        for _ in 0..100 {
            let key = key(random.below(50));
            put(&mut driver.store, &key, 900);
            driver.tick(&mut random).expect("the disk works");
        }
        compact(&mut driver.store);
        driver.settle().expect("the disk works");
        if round > 5 {
            highest = highest.max(storage.used().value());
        }
    }
    // 6000 puts of 1 KiB went by; 50 are alive. Two spares, a tail, and what the cleaner
    // leaves alone or checkpoints still need.
    let sizes = driver.store.sizes();
    let segment = config().segment_bytes.value();
    assert!(sizes.retained_bytes.value() < 60_000, "{sizes:?}");
    assert!(highest < 14 * segment, "{highest}");
    let counted = sizes.file_bytes.value();
    assert_eq!(counted, storage.used().value(), "{:?}", storage.names());
}

#[test]
fn a_full_disk_is_said_a_segment_early_and_recovers_by_deletes() {
    let storage = Storage::new();
    storage.set_capacity(ByteCount::new(12 * (32 << 10)));
    let mut driver = Driver::open(storage.root(), config()).expect("it opens");
    let mut random = Prng::new(4);
    for round in 0..5 {
        let mut puts = 0;
        while !driver.store.sizes().full {
            put(&mut driver.store, &key(puts), 900);
            driver.tick(&mut random).expect("a full disk is no failure");
            assert!(
                !driver.store.must_wait(),
                "round {round}: the reserve holds"
            );
            puts += 1;
        }
        assert!(puts > 50, "round {round}: {puts}");
        // The reserve takes the deletes; all stays readable meanwhile.
        for number in 0..puts {
            let found = driver.store.root().get(&key(number)).expect("it is there");
            driver.store.root().read(&found).expect("it can be read");
            driver.store.delete(&key(number)).expect("it is there");
            end(&mut driver.store);
            driver.tick(&mut random).expect("a full disk is no failure");
        }
        compact(&mut driver.store);
        for _ in 0..5 {
            driver.settle().expect("a full disk is no failure");
        }
        let sizes = driver.store.sizes();
        assert!(
            !sizes.full,
            "round {round}: {sizes:?} {:?}",
            storage.names()
        );
        assert_eq!((sizes.keys, sizes.retained_bytes.value() < 4096), (0, true));
    }
}

#[test]
fn without_room_it_says_so_holds_up_nobody_and_goes_on_when_there_is_some() {
    let storage = Storage::new();
    storage.set_capacity(ByteCount::new(5 * (32 << 10)));
    let mut driver = Driver::open(storage.root(), config()).expect("it opens");
    let mut puts = 0;
    let unflushed_max = config().unflushed_bytes_max;
    while driver.store.sizes().unflushed_bytes < unflushed_max {
        put(&mut driver.store, &key(puts), 900);
        driver.settle().expect("a full disk is no failure");
        puts += 1;
        assert!(puts < 10_000, "the disk never fills");
    }
    let durable = driver.store.durable_op();
    assert!(driver.store.sizes().full && durable < driver.store.applied());
    // What must still be applied is the alarm and the deletes behind it.
    assert!(!driver.store.must_wait());
    storage.set_capacity(ByteCount::new(64 * (32 << 10)));
    driver.settle().expect("there is room now");
    assert!(!driver.store.must_wait() && !driver.store.sizes().full);
    assert_eq!(driver.store.durable_op(), driver.store.applied());
    assert_eq!(driver.store.durable_op(), Op::new(puts));
    let revision = driver.store.root().revision();
    drop(driver);
    let driver = Driver::open(storage.root(), config()).expect("it opens again");
    assert_eq!(driver.store.root().revision(), revision);
    assert_eq!(
        revision,
        Revision::new(i64::try_from(puts).expect("fits") + 1)
    );
}
