//! A crash at every write, sync and naming, with every survival; and again during the repair.

mod support;

use holm_base::{Op, Term};
use holm_log::{Log, LogError, Urgency};
use holm_sequencer::Record;
use holm_virtual::{Storage, Survival};
use support::{Entry, GROUP, Told, body, check, check_entries, kept, open, record, survivals};

/// When the client believes that an entry is safe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Belief {
    /// When the flush returned: what the log promises.
    AfterFlush,
    /// When the flush began: a lie that the checker must catch.
    BeforeFlush,
}

fn flush(
    log: &mut Log,
    told: &mut Told,
    records: &[Record],
    belief: Belief,
) -> Result<(), LogError> {
    told.attempted = records.iter().filter_map(entry).collect();
    if belief == Belief::BeforeFlush {
        let all = std::mem::take(&mut told.attempted);
        told.acknowledged.extend(all);
    }
    log.flush(GROUP, records, Urgency::Ordinary)?;
    let all = std::mem::take(&mut told.attempted);
    told.acknowledged.extend(all);
    for record in records {
        if let Record::Hard { term, .. } = record {
            told.term = term.value();
        }
    }
    Ok(())
}

fn entry(record: &Record) -> Option<Entry> {
    match record {
        Record::Entry { term, op, body, .. } => Some((term.value(), op.value(), body.to_vec())),
        Record::Hard { .. } | Record::CutTo { .. } | Record::Installed { .. } => None,
    }
}

/// Flushes of all sizes over several segments, terms, preparation, cuts, a close and a reopening.
fn work(storage: &Storage, told: &mut Told, belief: Belief) -> Result<(), LogError> {
    for run in 1..=2 {
        let mut log = open(storage)?;
        told.opens = log.opens();
        let term = run * 10;
        flush(&mut log, told, &[Record::of_term(Term::new(term))], belief)?;
        for (round, lens) in [
            &[10, 700, 0][..],
            &[4000],
            &[1, 2, 3, 4],
            &[6000],
            &[300; 12],
        ]
        .into_iter()
        .enumerate()
        {
            let last = log.last(GROUP).value();
            let records: Vec<Record> = (last + 1..)
                .zip(lens)
                .map(|(op, &len)| record(term, op, len))
                .collect();
            flush(&mut log, told, &records, belief)?;
            for _ in 0..round {
                log.prepare_next()?;
            }
            if round % 2 == 1 {
                let through = log.last(GROUP).value() - 1;
                told.cut = through;
                log.cut(GROUP, Op::new(through))?;
            }
        }
        log.close()?;
    }
    Ok(())
}

fn steps() -> u64 {
    let storage = Storage::new();
    work(&storage, &mut Told::default(), Belief::AfterFlush)
        .expect("nothing fails without a fault");
    storage.steps()
}

/// Runs the work up to a crash at `step`, and answers what the client knows.
fn crashed_at(step: u64, belief: Belief) -> (Storage, Told) {
    let storage = Storage::new();
    storage.crash_at(step);
    let mut told = Told::default();
    work(&storage, &mut told, belief).expect_err("the power failed");
    (storage, told)
}

#[test]
fn a_crash_anywhere_loses_nothing_that_was_acknowledged() {
    for step in 1..=steps() {
        let (storage, told) = crashed_at(step, Belief::AfterFlush);
        for survival in survivals() {
            let after = storage.reopen(survival);
            let log = open(&after)
                .unwrap_or_else(|refused| panic!("step {step}, {survival:?}: {refused}"));
            check(&told, &log, GROUP).unwrap_or_else(|wrong| {
                panic!(
                    "step {step}, {survival:?}: {wrong}\n{:?}",
                    storage.trace().last()
                );
            });
            go_on(log, &after);
        }
    }
}

/// A repaired log can be written and read again.
fn go_on(mut log: Log, storage: &Storage) {
    let next = log.last(GROUP).value() + 1;
    let term = log.hard(GROUP).term.value();
    log.flush(GROUP, &[record(term, next, 5000)], Urgency::Ordinary)
        .expect("a repaired log takes records");
    drop(log);
    let log = open(&storage.reopen(Survival::Drop)).expect("it opens once more");
    let last = kept(&log, GROUP).pop().expect("an entry was written");
    assert_eq!(last, (term, next, body(next, 5000)));
}

#[test]
fn a_crash_during_the_repair_loses_nothing_either() {
    for step in 1..=steps() {
        let (storage, told) = crashed_at(step, Belief::AfterFlush);
        for seed in 0..2 {
            let survival = Survival::Reordered { seed };
            let repaired = storage.reopen(survival);
            drop(open(&repaired).expect("the first test has shown that it opens"));
            for again in 1..=repaired.steps() {
                let second = storage.reopen(survival);
                second.crash_at(again);
                open(&second).expect_err("the power failed during the repair");
                for survival in [Survival::Drop, Survival::Reordered { seed: seed + again }] {
                    let third = second.reopen(survival);
                    let log = open(&third).unwrap_or_else(|refused| {
                        panic!("step {step}, repair {again}, {survival:?}: {refused}")
                    });
                    check(&told, &log, GROUP).expect("a second crash changes no promise");
                }
            }
        }
    }
}

#[test]
fn acknowledging_before_the_sync_is_caught() {
    let caught = (1..=steps()).any(|step| {
        let (storage, told) = crashed_at(step, Belief::BeforeFlush);
        let log = open(&storage.reopen(Survival::Drop)).expect("it opens");
        check(&told, &log, GROUP).is_err()
    });
    assert!(caught, "a checker that accepts a lost write is none");
}

#[test]
fn the_checker_refuses_a_loss_an_invention_a_change_and_a_gap() {
    let entry = |op: u64| (1, op, body(op, 9));
    let told = Told {
        acknowledged: vec![entry(1), entry(2), entry(3)],
        attempted: vec![entry(4)],
        ..Told::default()
    };
    let accepts = |found: &[Entry]| check_entries(&told, 1, found).is_ok();
    assert!(accepts(&[entry(1), entry(2), entry(3)]));
    assert!(accepts(&[entry(1), entry(2), entry(3), entry(4)]));
    assert!(!accepts(&[entry(1), entry(2)]), "a loss");
    assert!(
        !accepts(&[entry(1), entry(2), entry(3), entry(4), entry(5)]),
        "an invention"
    );
    assert!(
        !accepts(&[entry(1), (1, 2, b"other".to_vec()), entry(3)]),
        "a change"
    );
    assert!(!accepts(&[entry(1), entry(3), entry(4)]), "a gap");
}
