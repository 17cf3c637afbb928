//! What the log does, call by call.

mod support;

use std::sync::Arc;

use holm_base::{ByteCount, ClusterId, GroupId, NodeId, Op, Term};
use holm_log::{Log, LogConfig, LogError, Preparation, Urgency};
use holm_sequencer::Record;
use holm_virtual::{Fault, Storage, Survival};
use support::{GROUP, append, body, config, entries, kept, open, record};

fn hard(term: u64) -> Record {
    Record::of_term(Term::new(term))
}

#[test]
fn a_fresh_log_is_empty_and_open_for_the_first_time() {
    let log = open(&Storage::new()).unwrap();
    assert_eq!(log.opens(), 1);
    assert_eq!(
        (log.hard(GROUP).term, log.last(GROUP)),
        (Term::ZERO, Op::ZERO)
    );
    assert_eq!(log.first(GROUP), Op::new(1));
    assert_eq!(entries(&log, GROUP, 0), []);
}

#[test]
fn what_was_flushed_is_there_after_the_power_failed() {
    let storage = Storage::new();
    let mut log = open(&storage).unwrap();
    log.flush(
        GROUP,
        &[hard(3), record(3, 1, 20), record(3, 2, 700)],
        Urgency::Ordinary,
    )
    .unwrap();
    log.flush(GROUP, &[record(3, 3, 0)], Urgency::Ordinary)
        .unwrap();
    let log = open(&storage.reopen(Survival::Drop)).unwrap();
    assert_eq!(log.opens(), 2);
    assert_eq!(
        (log.hard(GROUP).term, log.last(GROUP)),
        (Term::new(3), Op::new(3))
    );
    let all = [
        (3, 1, body(1, 20)),
        (3, 2, body(2, 700)),
        (3, 3, body(3, 0)),
    ];
    assert_eq!(entries(&log, GROUP, 0), all);
    assert_eq!(entries(&log, GROUP, 2), all[2..]);
    assert_eq!(entries(&log, GROUP, 3), []);
}

#[test]
fn a_flush_costs_one_write_and_one_sync() {
    let storage = Storage::new();
    let mut log = open(&storage).unwrap();
    while log.prepare_next().unwrap() == Preparation::More {}
    let before = storage.steps();
    append(&mut log, GROUP, 20, 100).unwrap();
    let steps = storage.trace().split_off(usize::try_from(before).unwrap());
    assert_eq!(steps.len(), 2, "{steps:?}");
    assert!(steps[0].starts_with("write log/0000000000000000.seg"));
    assert_eq!(steps[1], "sync log/0000000000000000.seg");
}

#[test]
fn a_new_segment_costs_no_second_sync_once_it_is_prepared() {
    let storage = Storage::new();
    let mut log = open(&storage).unwrap();
    while log.prepare_next().unwrap() == Preparation::More {}
    append(&mut log, GROUP, 1, 3000).unwrap();
    let before = storage.steps();
    append(&mut log, GROUP, 1, 7000).unwrap();
    let steps = storage.trace().split_off(usize::try_from(before).unwrap());
    // The reserve is allocated anew, with no byte written; the rest is the flush.
    let steps: Vec<&String> = steps
        .iter()
        .filter(|step| !step.starts_with("create"))
        .collect();
    assert_eq!(
        steps,
        [
            "write log/0000000000004000.seg 0+12288",
            "sync log/0000000000004000.seg"
        ]
    );
}

#[test]
fn groups_share_flushes_but_not_ops() {
    let storage = Storage::new();
    let other = GroupId::new(8);
    let mut log = open(&storage).unwrap();
    for _ in 0..12 {
        append(&mut log, GROUP, 3, 300).unwrap();
        append(&mut log, other, 1, 3000).unwrap();
    }
    log.flush(other, &[hard(9)], Urgency::Ordinary).unwrap();
    let log = open(&storage.reopen(Survival::Drop)).unwrap();
    assert_eq!(
        (log.last(GROUP), log.last(other)),
        (Op::new(36), Op::new(12))
    );
    assert_eq!(
        (log.hard(GROUP).term, log.hard(other).term),
        (Term::ZERO, Term::new(9))
    );
    assert_eq!(
        entries(&log, other, 10),
        [(0, 11, body(11, 3000)), (0, 12, body(12, 3000))]
    );
    assert_eq!(entries(&log, GROUP, 0).len(), 36);
}

#[test]
fn a_batch_larger_than_a_segment_spans_several() {
    let storage = Storage::new();
    let mut log = open(&storage).unwrap();
    append(&mut log, GROUP, 100, 900).unwrap();
    let log = open(&storage.reopen(Survival::Drop)).unwrap();
    assert_eq!(entries(&log, GROUP, 0).len(), 100);
    assert!(storage.names().len() > 6, "{:?}", storage.names());
}

#[test]
fn a_record_that_fits_no_segment_is_refused_and_changes_nothing() {
    let storage = Storage::new();
    let mut log = open(&storage).unwrap();
    let before = storage.steps();
    let answer = append(&mut log, GROUP, 1, 20_000);
    assert!(
        matches!(answer, Err(LogError::TooLarge { .. })),
        "{answer:?}"
    );
    assert_eq!(storage.steps(), before);
    append(&mut log, GROUP, 1, 7_000).unwrap();
}

#[test]
fn a_clean_close_is_known_at_the_next_open() {
    let storage = Storage::new();
    let mut log = open(&storage).unwrap();
    append(&mut log, GROUP, 1, 10).unwrap();
    assert!(!log.was_closed());
    log.close().unwrap();
    let log = open(&storage).unwrap();
    assert!(log.was_closed());
    assert_eq!((log.opens(), log.last(GROUP)), (2, Op::new(1)));
    drop(log);
    assert!(!open(&storage).unwrap().was_closed());
}

#[test]
fn cutting_removes_whole_segments_and_keeps_the_rest() {
    let storage = Storage::new();
    let mut log = open(&storage).unwrap();
    for _ in 0..20 {
        append(&mut log, GROUP, 2, 1500).unwrap();
    }
    let files = storage.names().len();
    log.cut(GROUP, Op::new(30)).unwrap();
    while log.prepare_next().unwrap() == Preparation::More {}
    assert!(storage.names().len() < files);
    assert_eq!(log.first(GROUP), Op::new(31));
    assert_eq!(kept(&log, GROUP).len(), 10);
    let gone = log.replay(GROUP, Op::new(12), &mut |_, _, _, _| {});
    assert!(matches!(gone, Err(LogError::Gone { .. })), "{gone:?}");
    let log = open(&storage.reopen(Survival::Drop)).unwrap();
    assert_eq!(log.last(GROUP), Op::new(40));
    assert_eq!(entries(&log, GROUP, 30).len(), 10);
}

#[test]
fn a_cut_that_frees_no_segment_costs_nothing() {
    let storage = Storage::new();
    let mut log = open(&storage).unwrap();
    append(&mut log, GROUP, 5, 100).unwrap();
    let before = storage.steps();
    log.cut(GROUP, Op::new(5)).unwrap();
    assert_eq!(storage.steps(), before);
    assert_eq!(log.first(GROUP), Op::new(6));
}

#[test]
fn a_quiet_group_does_not_hold_old_segments() {
    let storage = Storage::new();
    let quiet = GroupId::new(1);
    let mut log = open(&storage).unwrap();
    append(&mut log, quiet, 3, 200).unwrap();
    log.cut(quiet, Op::new(1)).unwrap();
    for round in 0..30 {
        append(&mut log, GROUP, 2, 1500).unwrap();
        log.cut(GROUP, Op::new(round * 2)).unwrap();
    }
    assert!(storage.names().len() < 8, "{:?}", storage.names());
    assert_eq!(
        entries(&log, quiet, 1),
        [(0, 2, body(2, 200)), (0, 3, body(3, 200))]
    );
    let storage = storage.reopen(Survival::Drop);
    let mut log = open(&storage).unwrap();
    assert_eq!(
        entries(&log, quiet, 1),
        [(0, 2, body(2, 200)), (0, 3, body(3, 200))]
    );
    append(&mut log, quiet, 1, 50).unwrap();
    let log = open(&storage.reopen(Survival::Drop)).unwrap();
    assert_eq!(entries(&log, quiet, 1).len(), 3);
}

#[test]
fn a_full_disk_refuses_ordinary_flushes_and_spares_the_reserve() {
    let storage = Storage::new();
    let mut log = open(&storage).unwrap();
    while log.prepare_next().unwrap() == Preparation::More {}
    storage.set_capacity(storage.used());
    // The tail and the next segment may be filled; the reserve may not.
    let mut refused = None;
    for _ in 0..20 {
        refused = append(&mut log, GROUP, 1, 3000).err();
        if refused.is_some() {
            break;
        }
    }
    assert!(
        matches!(refused, Some(LogError::Full { .. })),
        "{refused:?}"
    );
    let mut prepared = Preparation::More;
    while prepared == Preparation::More {
        prepared = log.prepare_next().unwrap();
    }
    assert_eq!(prepared, Preparation::Full);
    let last = log.last(GROUP).value();
    assert!(last >= 3);
    let urgent = [record(0, last + 1, 3000)];
    log.flush(GROUP, &urgent, Urgency::Reserve).unwrap();
    assert!(matches!(
        append(&mut log, GROUP, 1, 10),
        Err(LogError::Full { .. })
    ));
    // What compaction frees brings the reserve back, and with it ordinary flushes.
    log.cut(GROUP, Op::new(last)).unwrap();
    append(&mut log, GROUP, 1, 10).unwrap();
    let log = open(&storage.reopen(Survival::Drop)).unwrap();
    assert_eq!(log.last(GROUP), Op::new(last + 2));
}

#[test]
fn preparing_on_a_full_disk_readies_what_there_is_and_ends() {
    let storage = Storage::new();
    let mut log = open(&storage).unwrap();
    append(&mut log, GROUP, 1, 10).unwrap();
    storage.set_capacity(storage.used());
    let mut calls = 0;
    while log.is_behind() {
        log.prepare_next().unwrap();
        calls += 1;
        assert!(calls < 10, "a full disk must not be asked for ever");
    }
    while log.prepare_next().unwrap() == Preparation::More {}
    assert!(!log.is_behind());
    let spare = "log/0000000000004000.seg".to_owned();
    assert!(storage.names().contains(&spare), "{:?}", storage.names());
}

#[test]
fn room_that_returns_is_used_without_a_restart() {
    let storage = Storage::new();
    let mut log = open(&storage).unwrap();
    storage.set_capacity(storage.used());
    assert!(matches!(
        append(&mut log, GROUP, 1, 10),
        Err(LogError::Full { .. })
    ));
    storage.set_capacity(ByteCount::new(1 << 20));
    append(&mut log, GROUP, 1, 10).unwrap();
}

#[test]
fn after_a_failed_sync_everything_is_refused() {
    let storage = Storage::new();
    let mut log = open(&storage).unwrap();
    append(&mut log, GROUP, 1, 10).unwrap();
    storage.fail_at(storage.steps() + 2, Fault::Io);
    assert!(matches!(
        append(&mut log, GROUP, 1, 10),
        Err(LogError::Disk(_))
    ));
    let steps = storage.steps();
    assert_eq!(append(&mut log, GROUP, 1, 10), Err(LogError::Broken));
    assert_eq!(log.cut(GROUP, Op::new(1)), Err(LogError::Broken));
    assert_eq!(log.prepare_next(), Err(LogError::Broken));
    assert_eq!(log.close(), Err(LogError::Broken));
    assert_eq!(storage.steps(), steps, "a sync is never retried");
}

#[test]
fn another_nodes_log_is_refused() {
    let storage = Storage::new();
    drop(open(&storage).unwrap());
    let folder = storage.root().folder("log").unwrap();
    let other = LogConfig {
        node: NodeId::new(0xB),
        ..config()
    };
    let answer = Log::open(Arc::clone(&folder), other);
    assert!(
        matches!(answer, Err(LogError::Foreign { node: 0xA, .. })),
        "{answer:?}"
    );
    let other = LogConfig {
        cluster: ClusterId::new(1),
        ..config()
    };
    assert!(matches!(
        Log::open(folder, other),
        Err(LogError::Foreign { .. })
    ));
}

#[test]
fn a_segment_size_that_cannot_be_is_refused() {
    let folder = Storage::new().root();
    for bytes in [0, 4096, 16385, 20_000] {
        let config = LogConfig {
            segment_bytes: ByteCount::new(bytes),
            ..config()
        };
        let answer = Log::open(Arc::clone(&folder), config);
        assert!(matches!(answer, Err(LogError::Config { .. })), "{bytes}");
    }
}

#[test]
fn another_segment_size_takes_over_an_old_log() {
    let storage = Storage::new();
    let mut log = open(&storage).unwrap();
    append(&mut log, GROUP, 10, 900).unwrap();
    while log.prepare_next().unwrap() == Preparation::More {}
    drop(log);
    let larger = LogConfig {
        segment_bytes: ByteCount::new(64 << 10),
        ..config()
    };
    let folder = storage.root().folder("log").unwrap();
    let mut log = Log::open(Arc::clone(&folder), larger).unwrap();
    append(&mut log, GROUP, 60, 900).unwrap();
    drop(log);
    let mut log = open(&storage.reopen(Survival::Drop)).unwrap();
    assert_eq!(entries(&log, GROUP, 0).len(), 70);
    append(&mut log, GROUP, 60, 900).unwrap();
    let log = Log::open(storage.root().folder("log").unwrap(), larger).unwrap();
    assert_eq!(log.last(GROUP), Op::new(70));
}

#[test]
fn a_lost_segment_is_damage_wherever_it_was() {
    let storage = Storage::new();
    let mut log = open(&storage).unwrap();
    for _ in 0..20 {
        append(&mut log, GROUP, 2, 1500).unwrap();
    }
    drop(log);
    let names = storage.names();
    let segments: Vec<&String> = names.iter().filter(|name| name.ends_with(".seg")).collect();
    for lost in &segments[..segments.len() - 1] {
        let copy = storage.reopen(Survival::Keep);
        copy.root()
            .folder("log")
            .unwrap()
            .remove(&lost[4..])
            .unwrap();
        let answer = open(&copy);
        assert!(
            matches!(answer, Err(LogError::Damaged { .. })),
            "{lost}: {answer:?}"
        );
    }
}

#[test]
fn the_longest_entry_is_taken_in_a_new_segment_and_in_an_old_one() {
    for segment in [16 << 10, 64 << 10, 8 << 20, 64 << 20] {
        let config = LogConfig {
            segment_bytes: ByteCount::new(segment),
            ..config()
        };
        let longest = usize::try_from(config.entry_bytes_max().value()).expect("it fits");
        let storage = Storage::new();
        let folder = storage.root().folder("log").expect("it is only a name");
        let mut log = Log::open(folder, config).expect("a fresh log opens");
        for group in 1..=3 {
            let entry = record(1, 1, longest);
            log.flush(GroupId::new(group), &[entry], Urgency::Ordinary)
                .unwrap_or_else(|refused| panic!("{segment}: {refused}"));
        }
    }
}

#[test]
fn what_is_let_go_is_freed_under_load_too() {
    let storage = Storage::new();
    let mut log = open(&storage).unwrap();
    append(&mut log, GROUP, 100, 3_000).unwrap();
    let last = log.last(GROUP);
    append(&mut log, GROUP, 1, 3_000).unwrap();
    log.cut(GROUP, last).unwrap();
    let retired = || {
        let names = storage.root().folder("log").unwrap().list().unwrap();
        names.iter().filter(|name| name.ends_with(".old")).count()
    };
    assert!(retired() > 10, "many segments are not needed any more");
    // A writer that is never idle prepares only what cannot wait.
    for _ in 0..100 {
        append(&mut log, GROUP, 1, 100).unwrap();
        if log.is_behind() {
            log.prepare_next().unwrap();
        }
    }
    assert!(retired() <= 2, "{} are left", retired());
}
