//! The log over a virtual disk: what a crash leaves, what is damage, what fills.

use std::sync::Arc;

use holm_base::{ByteCount, Prng};
use holm_durable::{Config, Entry, Extent, Log, LogError, fetch, inspect, keep, leftovers};
use holm_machine::Folder;
use holm_virtual::{Storage, Survival};

mod noise;

use noise::rounds;

const CONFIG: Config = Config {
    segment_bytes: 2048,
    bytes_max: 1 << 20,
};

fn wide(count: usize) -> u64 {
    u64::try_from(count).expect("what is in memory is counted in 64 bits")
}

fn folder(storage: &Storage) -> Arc<dyn Folder> {
    storage.root().folder("log").expect("it is there")
}

fn open(storage: &Storage) -> Result<(Log, Extent), LogError> {
    Log::open(folder(storage), CONFIG)
}

fn entry(sequence: u64) -> Entry {
    let length = usize::try_from(sequence * 37 % 700).expect("it is there");
    Entry {
        sequence,
        epoch: 3,
        kind: 2,
        version: 1,
        body: (0..length)
            .map(|at| u8::try_from((at * 7) % 251).expect("it is there"))
            .collect(),
    }
}

/// A segment that version 1 wrote is read, and is still written so.
#[test]
fn segments_of_version_one_are_read() {
    let bytes = &include_bytes!("compat/v1-segment")[..];
    let name = "log/log-00000000000000000001";
    let storage = Storage::new();
    let (mut log, _) = open(&storage).expect("it is there");
    log.append(&[entry(1), entry(2)]).expect("there is room");
    log.append(&[entry(3)]).expect("there is room");
    let written = storage.bytes(name).expect("it is there");
    assert_eq!(written[..bytes.len()], *bytes, "and what is behind is room");
    assert!(written[bytes.len()..].iter().all(|byte| *byte == 0));
    let storage = Storage::new();
    folder(&storage);
    storage.put(name, bytes);
    let (log, extent) = open(&storage).expect("it is whole");
    assert_eq!((extent.first, extent.last, extent.epoch), (1, 3, 3));
    assert_eq!(all(&log), [entry(1), entry(2), entry(3)]);
}

fn all(log: &Log) -> Vec<Entry> {
    log.replay(1)
        .collect::<Result<_, _>>()
        .expect("it is there")
}

/// Flushes of different sizes over several segments; what was told durable.
fn work(storage: &Storage, durable: &mut u64) -> Result<(), LogError> {
    for _ in 0..2 {
        let (mut log, _) = open(storage)?;
        for count in [1, 3, 2, 5, 1] {
            let entries: Vec<Entry> = (0..count).map(|at| entry(log.next() + at)).collect();
            log.append(&entries)?;
            *durable = log.next() - 1;
        }
    }
    Ok(())
}

fn survivals(seed: u64) -> [Survival; 4] {
    [
        Survival::Drop,
        Survival::Keep,
        Survival::Torn { seed },
        Survival::Reordered { seed },
    ]
}

#[test]
fn a_crash_anywhere_keeps_what_was_flushed_and_goes_on() {
    let whole = Storage::new();
    work(&whole, &mut 0).expect("it is there");
    for step in 1..=whole.steps() {
        let storage = Storage::new();
        storage.crash_at(step);
        let mut durable = 0;
        work(&storage, &mut durable).expect_err("the power failed");
        for survival in survivals(step) {
            let after = storage.reopen(survival);
            let (mut log, extent) = open(&after).expect("it is there");
            assert!(extent.last >= durable, "step {step}, {survival:?}");
            let found = all(&log);
            let wanted: Vec<Entry> = (1..=extent.last).map(entry).collect();
            assert_eq!(found, wanted, "step {step}, {survival:?}");
            log.append(&[entry(log.next())]).expect("it is there");
            drop(log);
            let (log, again) = open(&after.reopen(Survival::Drop)).expect("it is there");
            assert_eq!(again.last, extent.last + 1);
            assert_eq!(all(&log).last(), Some(&entry(again.last)));
        }
    }
}

const THREE: Config = Config {
    segment_bytes: 4096,
    bytes_max: 1 << 20,
};

fn three_flushes() -> Storage {
    let storage = Storage::new();
    let (mut log, _) = Log::open(folder(&storage), THREE).expect("it is there");
    for flush in [1..=2, 3..=4, 5..=6] {
        log.append(&flush.map(entry).collect::<Vec<_>>())
            .expect("it is there");
    }
    storage
}

const SEGMENT: &str = "log/log-00000000000000000001";

/// Where each frame of [`three_flushes`] begins.
fn frames() -> Vec<u64> {
    let mut at = 32;
    let mut frames = Vec::new();
    for sequence in 1..=6 {
        frames.push(at);
        let body = wide(entry(sequence).body.len());
        at += 32 + body.next_multiple_of(8);
    }
    frames
}

#[test]
fn a_frame_that_is_not_whole_is_torn_in_the_last_flush_and_damage_before() {
    for (frame, kept) in [(5, Some(5)), (4, Some(4)), (3, None), (2, None), (0, None)] {
        let storage = three_flushes();
        storage.flip(SEGMENT, ByteCount::new(frames()[frame] + 33), 1);
        match (open(&storage), kept) {
            (Ok((_, extent)), Some(kept)) => assert_eq!(extent.last, kept, "frame {frame}"),
            (Err(LogError::Damaged { at, .. }), None) => {
                assert_eq!(wide(at), frames()[frame], "the place is named");
            }
            (found, _) => panic!("frame {frame}: {found:?}"),
        }
    }
}

#[test]
fn damage_in_an_older_segment_is_refused_with_its_place() {
    let storage = Storage::new();
    work(&storage, &mut 0).expect("it is there");
    let names = storage.names();
    let first = names
        .iter()
        .find(|name| name.starts_with("log/log-"))
        .expect("it is there");
    storage.flip(first, ByteCount::new(70), 1);
    let refused = open(&storage).expect_err("it is refused").to_string();
    assert!(refused.contains("is damaged at byte 32"), "{refused}");
    storage.flip(first, ByteCount::new(70), 1);
    storage.flip(first, ByteCount::new(17), 1);
    let refused = open(&storage).expect_err("it is refused").to_string();
    assert!(refused.contains("another checksum"), "{refused}");
}

#[test]
fn a_segment_that_is_gone_is_missed() {
    let storage = Storage::new();
    work(&storage, &mut 0).expect("it is there");
    let mut names = folder(&storage).list().expect("it is there");
    names.retain(|name| name.starts_with("log-"));
    assert!(names.len() > 3);
    folder(&storage).remove(&names[1]).expect("it is there");
    let refused = open(&storage).expect_err("it is refused").to_string();
    assert!(refused.contains("should be here"), "{refused}");
}

#[test]
fn truncation_keeps_what_is_needed() {
    let storage = Storage::new();
    work(&storage, &mut 0).expect("it is there");
    let (mut log, before) = open(&storage).expect("it is there");
    log.truncate(9).expect("it is there");
    drop(log);
    let (log, after) = open(&storage).expect("it is there");
    assert!(after.first > before.first && after.first <= 9, "{after:?}");
    let found: Vec<u64> = log
        .replay(9)
        .map(|it| it.expect("it is there").sequence)
        .collect();
    assert_eq!(found, (9..=after.last).collect::<Vec<_>>());
}

#[test]
fn a_full_disk_changes_nothing_and_can_be_tried_again() {
    let storage = Storage::new();
    let (mut log, _) = open(&storage).expect("it is there");
    storage.set_capacity(ByteCount::new(1000));
    let full = log.append(&[entry(1)]).expect_err("it is refused");
    assert!(full.is_full(), "{full}");
    storage.set_capacity(ByteCount::new(1 << 20));
    log.append(&[entry(1)]).expect("it is there");
    assert_eq!(all(&log), [entry(1)]);
}

#[test]
fn the_limit_on_bytes_is_kept() {
    let storage = Storage::new();
    let config = Config {
        segment_bytes: 2048,
        bytes_max: 5000,
    };
    let (mut log, _) = Log::open(folder(&storage), config).expect("it is there");
    let mut refused = None;
    while refused.is_none() && log.next() < 100 {
        refused = log.append(&[entry(log.next())]).err();
    }
    assert!(
        matches!(refused, Some(LogError::Full { .. })),
        "{refused:?}"
    );
    assert!(log.bytes() <= 5000);
    let last = log.next() - 1;
    log.truncate(last).expect("it is there");
    log.append(&[entry(last + 1)]).expect("it is there");
}

/// A segment that begins with a large flush has room for more such, unless the limit forbids it.
#[test]
fn large_flushes_share_a_segment() {
    let flush = |sequence: u64| Entry {
        body: vec![7; 200 << 10],
        ..entry(sequence)
    };
    for (limit, wanted) in [(64 << 20, 1), (2 << 20, 9)] {
        let storage = Storage::new();
        let config = Config {
            segment_bytes: 2048,
            bytes_max: limit,
        };
        let (mut log, _) = Log::open(folder(&storage), config).expect("it is there");
        for sequence in 1..=9 {
            log.append(&[flush(sequence)]).expect("there is room");
        }
        let names = folder(&storage).list().expect("it is there");
        let segments = names.iter().filter(|name| name.starts_with("log-"));
        assert_eq!(segments.count(), wanted, "a limit of {limit} bytes");
        assert!(log.bytes() <= limit);
        assert_eq!(all(&log).len(), 9);
    }
}

#[test]
fn inspecting_reads_all_and_changes_nothing() {
    let storage = three_flushes();
    let before = storage.bytes(SEGMENT);
    let mut seen = Vec::new();
    inspect(&*folder(&storage), &mut |entry| seen.push(entry.sequence)).expect("it is there");
    assert_eq!(seen, [1, 2, 3, 4, 5, 6]);
    assert_eq!(storage.bytes(SEGMENT), before);
    storage.flip(SEGMENT, ByteCount::new(frames()[1] + 5), 1);
    inspect(&*folder(&storage), &mut |_| {}).expect_err("it is damaged");
}

#[test]
fn checked_files_are_there_whole_or_not_at_all() {
    let count = |storage: &Storage| {
        let folder = folder(storage);
        keep(&*folder, "a", 1, b"first")?;
        keep(&*folder, "a", 1, b"second")
    };
    let whole = Storage::new();
    count(&whole).expect("it is there");
    for step in 1..=whole.steps() {
        let storage = Storage::new();
        storage.crash_at(step);
        count(&storage).expect_err("the power failed");
        for survival in survivals(step) {
            let after = storage.reopen(survival);
            let folder = folder(&after);
            let found = fetch(&*folder, "a", 1).expect("it is there");
            let is_one = matches!(found.as_deref(), None | Some(b"first" | b"second"));
            assert!(is_one, "step {step}, {survival:?}: {found:?}");
            leftovers(&*folder).expect("it is there");
            keep(&*folder, "a", 1, b"third").expect("it is there");
            assert_eq!(fetch(&*folder, "a", 1), Ok(Some(b"third".to_vec())));
        }
    }
}

#[test]
fn a_checked_file_that_is_damaged_or_another_is_refused() {
    let storage = Storage::new();
    let folder = folder(&storage);
    keep(&*folder, "a", 1, b"words").expect("it is there");
    fetch(&*folder, "a", 2).expect_err("it is of another kind");
    for at in 0..37 {
        storage.flip("log/a", ByteCount::new(at), 1);
        let found = fetch(&*folder, "a", 1);
        // The four bytes behind the checksum say nothing.
        assert_eq!(found.is_ok(), (28..32).contains(&at), "byte {at}");
        storage.flip("log/a", ByteCount::new(at), 1);
    }
}

#[test]
fn noise_is_no_log() {
    let mut prng = Prng::new(5);
    for _ in 0..rounds(1_000) {
        let storage = three_flushes();
        for _ in 0..=prng.below(4) {
            let at = prng.below(3_000);
            storage.flip(SEGMENT, ByteCount::new(at), 1);
        }
        // Whatever it says, what it gives is what was written.
        if let Ok((log, extent)) = open(&storage) {
            assert_eq!(all(&log), (1..=extent.last).map(entry).collect::<Vec<_>>());
        }
    }
}
