//! `EIO` and `ENOSPC` at every step: an error, never a panic, and nothing acknowledged is lost.

mod support;

use holm_base::Op;
use holm_log::{Log, LogError};
use holm_virtual::{Fault, Storage, Survival};
use support::{GROUP, Told, append, body, check, open};

fn work(storage: &Storage, told: &mut Told) -> Result<(), LogError> {
    let mut log = open(storage)?;
    told.opens = log.opens();
    for (count, len) in [(3, 100), (1, 6000), (10, 300), (1, 6000), (2, 2000)] {
        append_until_there_is_room(&mut log, told, count, len)?;
        log.prepare_next()?;
        let through = log.last(GROUP).value() - 1;
        told.cut = through;
        retry_while_full(|| log.cut(GROUP, Op::new(through)))?;
    }
    log.close()
}

fn append_until_there_is_room(
    log: &mut Log,
    told: &mut Told,
    count: u64,
    len: usize,
) -> Result<(), LogError> {
    let first = log.last(GROUP).value() + 1;
    let batch = (first..first + count).map(|op| (0, op, body(op, len)));
    told.attempted = batch.collect();
    retry_while_full(|| append(log, GROUP, count, len))?;
    let done = std::mem::take(&mut told.attempted);
    told.acknowledged.extend(done);
    Ok(())
}

/// A full disk is no end: the fault goes away, and the same call succeeds.
fn retry_while_full(mut call: impl FnMut() -> Result<(), LogError>) -> Result<(), LogError> {
    match call() {
        Err(LogError::Full { .. }) => call(),
        other => other,
    }
}

fn fails_everywhere(fault: Fault) -> (u64, u64) {
    let storage = Storage::new();
    work(&storage, &mut Told::default()).expect("nothing fails without a fault");
    let (mut ended, mut survived) = (0, 0);
    for step in 1..=storage.steps() {
        let storage = Storage::new();
        storage.fail_at(step, fault);
        let mut told = Told::default();
        match work(&storage, &mut told) {
            Ok(()) => survived += 1,
            Err(_) => ended += 1,
        }
        for survival in [
            Survival::Keep,
            Survival::Drop,
            Survival::Reordered { seed: step },
        ] {
            let after = storage.reopen(survival);
            let log = open(&after)
                .unwrap_or_else(|refused| panic!("step {step}, {survival:?}: {refused}"));
            check(&told, &log, GROUP)
                .unwrap_or_else(|wrong| panic!("step {step}, {survival:?}: {wrong}"));
        }
    }
    (ended, survived)
}

#[test]
fn an_input_output_error_ends_the_log_and_loses_nothing() {
    let (ended, survived) = fails_everywhere(Fault::Io);
    assert!(ended > 0);
    assert_eq!(survived, 0, "no failed step goes unnoticed");
}

#[test]
fn a_full_disk_ends_the_log_only_where_bytes_were_promised() {
    let (ended, survived) = fails_everywhere(Fault::Full);
    assert!(
        survived > 0,
        "a segment that cannot be had is refused, and the log goes on"
    );
    assert!(
        ended > 0,
        "a device that refuses allocated blocks has broken its word"
    );
}
