//! Bytes that change behind the store's back: reported or healed, never wrong data.

use std::time::Duration;

use holm_base::{ByteCount, ClusterId, Op, Prng, Revision};
use holm_kv::{ChangeKind, JobKind, Store, StoreConfig, StoreError};
use holm_virtual::Storage;

use crate::twin::{Command, Driver, Twin, apply, command, compare_all, key};

fn tiny() -> StoreConfig {
    StoreConfig {
        segment_bytes: ByteCount::new(12 << 10),
        flush_bytes: ByteCount::new(2 << 10),
        checkpoint_bytes_min: ByteCount::new(3 << 10),
        ..StoreConfig::default()
    }
}

/// A store with two checkpoints, cleaned segments and frames behind the last checkpoint.
fn small_store() -> (Storage, Vec<Command>) {
    let storage = Storage::new();
    let mut random = Prng::new(21);
    let commands: Vec<_> = (0..60).map(|_| command(&mut random, 50)).collect();
    let mut driver = Driver::open(storage.root(), tiny()).expect("it opens");
    for (op, command) in (1..).zip(&commands) {
        apply(&mut driver.store, command, op);
        if op <= 50 {
            driver.tick(&mut random).expect("the disk works");
        }
        if op <= 50 && op % 10 == 0 {
            driver.settle().expect("the disk works");
        }
    }
    let now = driver.now + Duration::from_secs(5);
    let flush = driver.store.next_job(now);
    let flush = flush.or_else(|| driver.store.next_job(now + Duration::from_secs(5)));
    let flush = flush.expect("frames wait");
    assert_eq!(flush.kind(), JobKind::Flush);
    driver.store.finish(flush.run()).expect("the disk works");
    (storage, commands)
}

/// All that can be read must be right; what cannot must be said to be damaged. Gives how many
/// records were.
fn check(store: &Store, twin: &Twin) -> usize {
    assert_eq!(store.applied().value(), twin.op);
    let root = store.root();
    let mut damaged = 0;
    for number in 0..61 {
        let key = key(number);
        for at in (twin.compacted.max(1)..=twin.revision).rev().step_by(5) {
            let meta = root.get_at(&key, Revision::new(at));
            let wanted = twin.at(&key, at);
            assert_eq!(meta.is_some(), wanted.is_some());
            let Some((meta, wanted)) = meta.zip(wanted) else {
                continue;
            };
            match root.read(&meta) {
                Ok(record) => assert_eq!(record.decode().as_ref(), Some(wanted)),
                Err(StoreError::Damaged { .. }) => damaged += 1,
                Err(other) => panic!("{other}"),
            }
        }
    }
    let mut changes = 0;
    let walked = root.changes(
        root.compacted().next(),
        root.revision(),
        1 << 20,
        &mut |change| {
            let wanted = twin.at(&change.key, change.main.value());
            if change.kind == ChangeKind::Put
                && wanted.is_some_and(|it| it.modified == change.main.value())
            {
                changes += 1;
            }
        },
    );
    match walked {
        Ok(_) => {}
        Err(StoreError::Damaged { .. }) => damaged += 1,
        Err(other) => panic!("{other}"),
    }
    damaged
}

#[test]
fn any_flipped_byte_is_reported_or_healed() {
    let (storage, commands) = small_store();
    let twin = Twin::after(&commands);
    let (mut refused, mut damaged, mut harmless) = (0, 0, 0);
    for name in storage.names() {
        if name.starts_with("spare") {
            continue;
        }
        let bytes = storage.bytes(&name).expect("it is listed");
        for at in 0..bytes.len() {
            if bytes[at] == 0 && at % 64 != 0 {
                continue;
            }
            let mut changed = bytes.clone();
            changed[at] ^= 1 << (at % 8);
            storage.put(&name, &changed);
            let copy = storage.reopen(holm_virtual::Survival::Keep);
            match Store::open(copy.root(), tiny()) {
                Ok(store) => match check(&store, &twin) {
                    0 => harmless += 1,
                    _ => damaged += 1,
                },
                Err(StoreError::Damaged { .. }) => refused += 1,
                Err(other) => panic!("{name} byte {at}: {other}"),
            }
        }
        storage.put(&name, &bytes);
    }
    assert!(
        refused > 100 && damaged > 100 && harmless > 100,
        "{refused} {damaged} {harmless}"
    );
}

#[test]
fn a_damaged_checkpoint_is_replaced_by_the_one_before() {
    let (storage, commands) = small_store();
    let names = storage.names();
    let newest = names.iter().rfind(|name| name.ends_with(".ckp"));
    let newest = newest.expect("there are checkpoints");
    storage.flip(newest, ByteCount::new(5000), 1);
    let mut driver = Driver::open(storage.root(), tiny()).expect("the older one serves");
    compare_all(&mut driver.store, &Twin::after(&commands), 1000);
    driver.store.hurry();
    driver.settle().expect("the disk works");
    assert!(
        storage.bytes(newest).is_none(),
        "the next checkpoint removes it"
    );
    drop(driver);
    let mut driver = Driver::open(storage.root(), tiny()).expect("it opens");
    compare_all(&mut driver.store, &Twin::after(&commands), 1000);
}

#[test]
fn damage_to_one_record_leaves_all_others_readable_and_its_segment_in_place() {
    let (storage, commands) = small_store();
    let mut twin = Twin::after(&commands);
    let names = storage.names();
    let mut segments = names.iter().filter(|name| name.ends_with(".seg"));
    // Some are only kept for the older checkpoint; damage to those is not seen.
    let storage = segments.find_map(|name| {
        let copy = storage.reopen(holm_virtual::Survival::Keep);
        for record in 0..8 {
            let at = 4096 + 64 + 40 + record * 512;
            copy.flip(name, ByteCount::new(at), 1);
        }
        let store = Store::open(copy.root(), tiny()).ok()?;
        (check(&store, &twin) > 0).then_some(copy)
    });
    let storage = storage.expect("one segment is read and behind no checkpoint");
    let mut random = Prng::new(5);
    let mut driver = Driver::open(storage.root(), tiny()).expect("a checkpoint covers it");
    for op in twin.op + 1..twin.op + 60 {
        let next = command(&mut random, 120);
        apply(&mut driver.store, &next, op);
        twin.apply(&next);
        driver
            .tick(&mut random)
            .expect("damage in one record is no failure");
    }
    driver.settle().expect("damage in one record is no failure");
    check(&driver.store, &twin);
}

#[test]
fn what_is_no_store_or_not_this_one_is_refused_and_left_alone() {
    let storage = Storage::new();
    storage.put("notes.txt", b"mine");
    let error = Store::open(storage.root(), tiny()).expect_err("it is foreign");
    assert!(matches!(error, StoreError::Foreign { .. }), "{error}");
    assert_eq!(storage.names(), ["notes.txt"]);

    let storage = Storage::new();
    storage.put("head", &[9; 8192]);
    let error = Store::open(storage.root(), tiny()).expect_err("it is foreign");
    assert!(matches!(error, StoreError::Foreign { .. }), "{error}");

    let (storage, _) = small_store();
    let other = StoreConfig {
        cluster: ClusterId::new(7),
        ..tiny()
    };
    let error = Store::open(storage.root(), other).expect_err("it is another cluster's");
    assert!(matches!(error, StoreError::Foreign { .. }), "{error}");

    let storage = storage.reopen(holm_virtual::Survival::Keep);
    storage.root().remove("head").expect("it is there");
    let error = Store::open(storage.root(), tiny()).expect_err("the head is missing");
    assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
}

#[test]
fn a_newer_format_is_refused_with_both_numbers() {
    let (storage, _) = small_store();
    let mut head = storage.bytes("head").expect("it is there");
    for slot in [0, 4096] {
        head[slot + 8] = 2;
        let checksum = crc32c::crc32c(&head[slot..slot + 4092]).to_le_bytes();
        head[slot + 4092..slot + 4096].copy_from_slice(&checksum);
    }
    storage.put("head", &head);
    let error = Store::open(storage.root(), tiny()).expect_err("it is newer");
    assert_eq!(error, StoreError::Newer { found: 2, reads: 1 });
}

#[test]
fn arbitrary_bytes_in_any_file_never_panic_nor_give_wrong_data() {
    let (storage, commands) = small_store();
    let twin = Twin::after(&commands);
    let names = storage.names();
    arbtest::arbtest(|input| {
        let copy = storage.reopen(holm_virtual::Survival::Keep);
        for _ in 0..input.int_in_range(1..=3)? {
            let name = input.choose(&names)?;
            let mut bytes = copy.bytes(name).expect("it is listed");
            let at = input.choose_index(bytes.len())?;
            let junk: &[u8] = input.arbitrary()?;
            let end = (at + junk.len()).min(bytes.len());
            bytes[at..end].copy_from_slice(&junk[..end - at]);
            if input.ratio(1, 4)? {
                bytes.truncate(input.choose_index(bytes.len())?);
            }
            copy.put(name, &bytes);
        }
        if let Ok(store) = Store::open(copy.root(), tiny())
            && store.applied().value() == twin.op
        {
            check(&store, &twin);
        }
        Ok(())
    })
    .budget_ms(1500);
}

/// With the newest checkpoint gone bad, the one before must lead to the same.
fn older_checkpoint_is_whole(storage: &Storage, number: u64) -> bool {
    let names = storage.names();
    let checkpoints: Vec<_> = names.iter().filter(|it| it.ends_with(".ckp")).collect();
    let [.., _, newest] = checkpoints.as_slice() else {
        return false;
    };
    let copy = storage.reopen(holm_virtual::Survival::Keep);
    copy.flip(newest, ByteCount::ZERO, 1);
    if let Err(error) = Store::open(copy.root(), tiny()) {
        panic!("run {number}: {error}, without {newest} of {names:?}");
    }
    true
}

#[test]
fn the_older_checkpoint_is_of_use_at_every_moment() {
    let mut looked = 0;
    for number in 0..8 {
        let storage = Storage::new();
        let mut random = Prng::new(number);
        let mut store = Store::open(storage.root(), tiny()).expect("it opens");
        let (mut now, mut jobs) = (holm_base::Time::ZERO, std::collections::VecDeque::new());
        for op in 1..=300 {
            apply(&mut store, &command(&mut random, 300), op);
            now = now + Duration::from_millis(random.below(400));
            // As the engine does: all that is due is asked for before any of it is done.
            while let Some(job) = store.next_job(now) {
                jobs.push_back(job);
            }
            if let Some(job) = jobs.pop_front() {
                store.finish(job.run()).expect("the disk works");
                looked += u64::from(older_checkpoint_is_whole(&storage, number));
            }
            store.sweep(usize::try_from(random.below(40)).expect("it is small"));
        }
    }
    assert!(looked > 100, "{looked}");
}

/// What the log holds, and whether damage to durable frames may be made good with it.
fn open_with(storage: &Storage, first: u64, last: u64) -> Result<Store, StoreError> {
    Store::open_with(storage.root(), tiny(), (Op::new(first), Op::new(last)))
}

/// Applies again what the log holds above what the store knows.
fn apply_again(store: &mut Store, commands: &[Command]) {
    for (op, command) in (1..).zip(commands) {
        if op > store.applied().value() {
            apply(store, command, op);
        }
    }
}

#[test]
fn damage_to_durable_frames_is_made_good_by_a_log_that_holds_them_and_by_no_other() {
    let (storage, commands) = small_store();
    let twin = Twin::after(&commands);
    let (mut healed, mut refused) = (0, 0);
    for name in storage.names() {
        if name == "head" || name.starts_with("spare") {
            continue;
        }
        let bytes = storage.bytes(&name).expect("it is listed");
        for at in (0..bytes.len()).filter(|at| bytes[*at] != 0 && at % 3 == 0) {
            let mut changed = bytes.clone();
            changed[at] ^= 1 << (at % 8);
            storage.put(&name, &changed);
            let copy = || storage.reopen(holm_virtual::Survival::Keep);
            if Store::open(copy().root(), tiny()).is_ok() {
                continue;
            }
            let all = copy();
            match open_with(&all, 1, 60) {
                Ok(mut store) => {
                    assert!(store.healed().is_some(), "{name} {at}");
                    let known = store.applied().value();
                    assert!(known < 60, "{name} {at}: nothing was damaged");
                    let exact = open_with(&copy(), known + 1, 60);
                    assert!(exact.is_ok(), "{name} {at}: the log begins right behind");
                    for (first, last) in [(known + 2, 60), (1, 59)] {
                        let short = open_with(&copy(), first, last);
                        assert!(short.is_err(), "{name} {at}: {first} to {last}");
                    }
                    apply_again(&mut store, &commands);
                    check(&store, &twin);
                    healed += 1;
                }
                Err(StoreError::Damaged { .. }) => refused += 1,
                Err(other) => panic!("{name} byte {at}: {other}"),
            }
        }
        storage.put(&name, &bytes);
    }
    assert!(healed > 50, "{healed} healed, {refused} refused");
}

#[test]
fn a_healed_store_is_whole_after_its_next_flush_and_after_a_crash_before_it() {
    let (storage, commands) = small_store();
    let names = storage.names();
    let newest = names.iter().rfind(|name| name.ends_with(".seg"));
    let newest = newest.expect("there are segments");
    let end = storage.bytes(newest).expect("it is listed");
    let last = end
        .iter()
        .rposition(|byte| *byte != 0)
        .expect("it holds frames");
    storage.flip(
        newest,
        ByteCount::new(u64::try_from(last).expect("it is short")),
        1,
    );
    let error = Store::open(storage.root(), tiny()).expect_err("a durable frame is damaged");
    assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
    // Opened, and the process dies before anything is flushed: as before.
    let mut store = open_with(&storage, 1, 60).expect("the log holds it");
    assert!(store.healed().is_some());
    apply_again(&mut store, &commands);
    drop(store);
    let storage = storage.reopen(holm_virtual::Survival::Drop);
    let mut store = open_with(&storage, 1, 60).expect("the log still holds it");
    apply_again(&mut store, &commands);
    let mut driver = Driver::over(store);
    driver.store.hurry();
    driver.settle().expect("the disk works");
    drop(driver);
    let mut driver = Driver::open(storage.root(), tiny()).expect("nothing is damaged any more");
    assert!(driver.store.healed().is_none());
    compare_all(&mut driver.store, &Twin::after(&commands), 1000);
}
