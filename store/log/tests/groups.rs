//! Several groups over one log: one sync for all, and none stands in another's way.

mod support;

use std::collections::BTreeMap;

use holm_base::{ByteCount, GroupId, Op, Prng, Term};
use holm_log::{Log, LogError, Urgency};
use holm_sequencer::Record;
use holm_virtual::{Storage, Survival};
use support::{GROUP, append, body, entries, open, open_among_others, raft_record, record};

const OTHER: GroupId = GroupId::new(8);

fn run(first: u64, count: u64, len: usize) -> Vec<Record> {
    (first..first + count)
        .map(|op| record(1, op, len))
        .collect()
}

/// The writes to segments after so many steps.
fn writes(storage: &Storage, steps: u64) -> Vec<String> {
    let steps = usize::try_from(steps).expect("they are in memory");
    let mut trace = storage.trace().split_off(steps);
    trace.retain(|step| step.starts_with("write log/") && step.contains(".seg "));
    trace
}

#[test]
fn what_waits_of_all_groups_costs_one_write_and_one_sync() {
    let storage = Storage::new();
    let mut log = open(&storage).unwrap();
    let (one, two) = (run(1, 3, 100), run(1, 2, 300));
    let (steps, syncs) = (storage.steps(), storage.syncs());
    let batches = [(GROUP, one.as_slice()), (OTHER, two.as_slice())];
    log.flush_all(&batches, Urgency::Ordinary).unwrap();
    assert_eq!(storage.syncs() - syncs, 1, "{:?}", storage.trace());
    assert_eq!(writes(&storage, steps).len(), 1, "{:?}", storage.trace());
    let log = open(&storage.reopen(Survival::Drop)).unwrap();
    assert_eq!(entries(&log, GROUP, 0).len(), 3);
    assert_eq!(entries(&log, OTHER, 1), [(1, 2, body(2, 300))]);
}

#[test]
fn a_batch_of_many_groups_spans_segments_and_cuts_begin_flushes() {
    let storage = Storage::new();
    let mut log = open(&storage).unwrap();
    let all: Vec<(GroupId, Vec<Record>)> = (1..=5)
        .map(|group| (GroupId::new(group), run(1, 20, 700)))
        .collect();
    let batches: Vec<(GroupId, &[Record])> = all
        .iter()
        .map(|(group, it)| (*group, it.as_slice()))
        .collect();
    log.flush_all(&batches, Urgency::Ordinary).unwrap();
    let back = |last, mut then: Vec<Record>| {
        then.insert(
            0,
            Record::CutTo {
                last: Op::new(last),
            },
        );
        then
    };
    let (one, two) = (back(7, run(8, 2, 10)), back(19, run(20, 1, 10)));
    let batches = [
        (GroupId::new(1), one.as_slice()),
        (GroupId::new(4), two.as_slice()),
    ];
    log.flush_all(&batches, Urgency::Ordinary).unwrap();
    let log = open(&storage.reopen(Survival::Drop)).unwrap();
    let last = |group| log.last(GroupId::new(group)).value();
    assert_eq!([1, 2, 3, 4, 5].map(last), [9, 20, 20, 20, 20]);
    assert_eq!(entries(&log, GroupId::new(4), 19), [(1, 20, body(20, 10))]);
}

#[test]
fn a_group_that_lags_keeps_its_segment_until_it_is_released() {
    let storage = Storage::new();
    let mut log = open(&storage).unwrap();
    // More than is carried forward, so that it holds its segments.
    append(&mut log, OTHER, 800, 1500).unwrap();
    append(&mut log, GROUP, 1, 100).unwrap();
    let kept = log.file_bytes();
    for _ in 0..20 {
        append(&mut log, GROUP, 2, 1500).unwrap();
        let last = log.last(GROUP);
        log.cut(GROUP, last).unwrap();
    }
    assert!(log.file_bytes() >= kept, "what is needed stays");
    assert_eq!(entries(&log, OTHER, 0).len(), 800);
    log.release(OTHER).unwrap();
    while log.prepare_next().unwrap() == holm_log::Preparation::More {}
    assert!(
        log.file_bytes().value() < kept.value() / 4,
        "{} of {kept} are left",
        log.file_bytes()
    );
    assert!(!log.knows(OTHER));
    // A new segment begins without its state, and the log opens.
    append(&mut log, GROUP, 30, 1500).unwrap();
    let log = open(&storage.reopen(Survival::Drop)).unwrap();
    assert!(log.first(OTHER) > log.last(OTHER), "nothing of it is left");
    assert_eq!(log.last(GROUP), Op::new(71));
}

#[test]
fn a_released_group_whose_records_are_still_there_is_released_again() {
    let storage = Storage::new();
    let mut log = open(&storage).unwrap();
    append(&mut log, OTHER, 3, 100).unwrap();
    append(&mut log, GROUP, 3, 100).unwrap();
    log.release(OTHER).unwrap();
    log.release(OTHER).unwrap();
    let storage = storage.reopen(Survival::Drop);
    let mut log = open(&storage).unwrap();
    assert!(log.first(OTHER) > log.last(OTHER), "nothing is needed");
    log.release(OTHER).unwrap();
    append(&mut log, GROUP, 40, 1000).unwrap();
    let last = log.last(GROUP);
    log.cut(GROUP, last).unwrap();
    let log = open(&storage.reopen(Survival::Drop)).unwrap();
    assert!(!log.knows(OTHER), "no segment speaks of it any more");
    assert_eq!(log.last(GROUP), Op::new(43));
}

#[test]
fn damage_to_one_groups_records_does_not_stop_another() {
    let storage = Storage::new();
    let mut log = open_among_others(&storage).unwrap();
    let raft = |first, count, len| -> Vec<Record> {
        (first..first + count)
            .map(|op| raft_record(1, op, len))
            .collect()
    };
    log.flush(GROUP, &raft(1, 3, 100), Urgency::Ordinary)
        .unwrap();
    log.flush(OTHER, &raft(1, 1, 100), Urgency::Ordinary)
        .unwrap();
    let steps = storage.steps();
    log.flush(OTHER, &raft(2, 1, 100), Urgency::Ordinary)
        .unwrap();
    let step = writes(&storage, steps).remove(0);
    let path = step.split(' ').nth(1).unwrap();
    let at = step.rsplit(' ').next().and_then(|it| it.split_once('+'));
    let at: u64 = at.and_then(|(from, _)| from.parse().ok()).unwrap();
    log.flush(OTHER, &raft(3, 20, 1500), Urgency::Ordinary)
        .unwrap();
    drop(log);
    storage.flip(path, ByteCount::new(at + 600), 4);
    let log = open_among_others(&storage.reopen(Survival::Drop)).unwrap();
    assert!(log.is_damaged(OTHER), "op 2 is missing");
    assert!(log.hard(OTHER).is_recovering);
    assert!(!log.is_damaged(GROUP), "it ended before the damage");
    assert_eq!(entries(&log, GROUP, 0).len(), 3);
    assert!(!log.hard(GROUP).is_recovering);
}

/// Random batches of several groups, and a crash at any step.
#[test]
fn a_crash_anywhere_leaves_of_each_group_what_was_acknowledged() -> Result<(), LogError> {
    for seed in 0..60 {
        let mut prng = Prng::new(seed);
        let storage = Storage::new();
        let mut log = open(&storage)?;
        storage.crash_at(storage.steps() + 1 + prng.below(60));
        let mut told: BTreeMap<u32, u64> = BTreeMap::new();
        for _ in 0..20 {
            if live(&mut log, &mut prng, &mut told).is_err() {
                break;
            }
        }
        let log = open(&storage.reopen(Survival::Drop))?;
        for (&group, &last) in &told {
            let found = entries(&log, GroupId::new(group), 0);
            assert!(found.len() as u64 >= last, "seed {seed}, group {group}");
            let dense = (1..).zip(&found).all(|(op, entry)| entry.1 == op);
            assert!(dense, "seed {seed}, group {group}");
        }
    }
    Ok(())
}

fn live(log: &mut Log, prng: &mut Prng, told: &mut BTreeMap<u32, u64>) -> Result<(), LogError> {
    let mut all = Vec::new();
    for group in 1..=3 {
        let group = GroupId::new(group);
        let (first, count) = (log.last(group).value() + 1, prng.below(4));
        let len = usize::try_from(prng.below(900)).unwrap_or(1);
        all.push((group, run(first, count, len)));
    }
    let batches: Vec<(GroupId, &[Record])> = all
        .iter()
        .filter(|(_, it)| !it.is_empty())
        .map(|(group, it)| (*group, it.as_slice()))
        .collect();
    log.flush_all(&batches, Urgency::Ordinary)?;
    for (group, records) in &batches {
        let last = told.entry(group.value()).or_default();
        *last += records.len() as u64;
    }
    let hard = Record::of_term(Term::new(1));
    log.flush(GroupId::new(2), &[hard], Urgency::Ordinary)
}
