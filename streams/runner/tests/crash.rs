//! A crash at every write of log, snapshots and sink, with every survival: the sink's bytes are
//! those of a run that nothing interrupted. So they are if the crash takes the newest snapshot with
//! it, which shows whether the one before, and the log behind that one, are really kept.

mod support;

use holm_base::ByteCount;
use holm_connect::Guarantee;
use holm_virtual::{Storage, Survival};
use support::{
    BEHIND, Case, Mischief, QUERIES, REPEATS, SHARED, Step, UNION, rows, rows_of, state_of, work,
};

fn survivals(step: u64) -> [Survival; 4] {
    [
        Survival::Drop,
        Survival::Keep,
        Survival::Torn { seed: step },
        Survival::Reordered { seed: step },
    ]
}

/// What the sink holds after runs without a crash, and how many steps one takes.
fn undisturbed(case: &Case, seed: u64) -> (String, u64) {
    let storage = Storage::new();
    let opened = work(&storage, case, seed, Mischief::None).expect("it is there");
    assert_eq!(
        opened.keeper.counts().diverted,
        case.diverted,
        "the line that is no row, and rows without a value"
    );
    (rows(&storage), storage.steps())
}

/// Crashes at a step, comes back, runs to the end; what the sink holds then.
fn crashed(case: &Case, step: u64, survival: Survival, mischief: Mischief) -> String {
    let storage = Storage::new();
    storage.crash_at(step);
    work(&storage, case, 1, mischief).expect_err("the power failed");
    let after = storage.reopen(survival);
    let opened = work(&after, case, step, Mischief::None)
        .unwrap_or_else(|error| panic!("step {step}, {survival:?}: {error}"));
    assert_eq!(
        opened.keeper.counts().diverted,
        case.diverted,
        "step {step}, {survival:?}"
    );
    rows(&after)
}

fn crash_everywhere(case: &Case, name: &str) {
    let (wanted, steps) = undisturbed(case, 1);
    assert!(wanted.lines().count() > 10, "{name} has rows: {wanted}");
    for step in 1..=steps {
        for survival in survivals(step) {
            let found = crashed(case, step, survival, Mischief::None);
            assert_eq!(found, wanted, "{name}, step {step}, {survival:?}");
        }
    }
}

/// Damages the newest snapshot, if there is one; whether there is, and whether the log goes back to
/// its beginning.
fn damage(storage: &Storage) -> Option<bool> {
    let names = storage.names();
    let newest = names
        .iter()
        .rfind(|it| it.starts_with("stream/snapshot-"))?;
    if newest.ends_with(".new") {
        return None;
    }
    storage.patch(newest, ByteCount::new(40), &[0xff; 8]);
    let first = "stream/log-00000000000000000001";
    Some(names.iter().any(|name| name == first))
}

/// Crashes everywhere and damages the newest snapshot; how often the log had been cut by then.
fn crash_and_damage_everywhere(case: &Case, name: &str) {
    let (wanted, steps) = undisturbed(case, 1);
    let mut cut = 0;
    for step in 1..=steps {
        let storage = Storage::new();
        storage.crash_at(step);
        work(&storage, case, 1, Mischief::None).expect_err("the power failed");
        for survival in [Survival::Drop, Survival::Keep] {
            let after = storage.reopen(survival);
            let Some(is_whole) = damage(&after) else {
                continue;
            };
            cut += usize::from(!is_whole);
            work(&after, case, step, Mischief::None)
                .unwrap_or_else(|error| panic!("{name}, step {step}, {survival:?}: {error}"));
            assert_eq!(rows(&after), wanted, "{name}, step {step}, {survival:?}");
        }
    }
    assert!(cut > 20, "the log was cut {cut} times, which shows little");
}

#[test]
fn a_damaged_snapshot_changes_nothing() {
    for (query, is_replayable) in [(QUERIES[3], true), (QUERIES[0], false)] {
        let mut case = Case::new(query, 200);
        case.is_replayable = is_replayable;
        crash_and_damage_everywhere(&case, query.0);
    }
}

#[test]
fn order_of_the_threads_does_not_show() {
    for query in QUERIES {
        let case = Case::new(query, 150);
        let (wanted, _) = undisturbed(&case, 1);
        for seed in 2..6 {
            assert_eq!(undisturbed(&case, seed).0, wanted, "{}", query.0);
        }
    }
}

#[test]
fn sliding_sums_of_floats_survive_a_crash_anywhere() {
    crash_everywhere(&Case::new(QUERIES[0], 150), "cm1");
}

#[test]
fn enriched_rows_survive_a_crash_anywhere() {
    crash_everywhere(&Case::new(QUERIES[1], 400), "ysb");
}

#[test]
fn joined_windows_survive_a_crash_anywhere() {
    // Each run closes 3,600 windows, so each step has one survival.
    let case = Case::new(QUERIES[2], 24);
    let (wanted, steps) = undisturbed(&case, 1);
    assert!(wanted.lines().count() > 10, "it has rows: {wanted}");
    for step in 1..=steps {
        let survival = survivals(step)[usize::try_from(step % 4).expect("it is there")];
        let found = crashed(&case, step, survival, Mischief::None);
        assert_eq!(found, wanted, "step {step}, {survival:?}");
    }
}

#[test]
fn sessions_survive_a_crash_anywhere() {
    crash_everywhere(&Case::new(QUERIES[3], 300), "q11");
}

#[test]
fn first_rows_survive_a_crash_anywhere() {
    crash_everywhere(&Case::new(QUERIES[4], 80), "q5");
}

#[test]
fn rows_that_come_once_survive_in_the_log() {
    for query in [QUERIES[0], QUERIES[3]] {
        let mut case = Case::new(query, 100);
        case.is_replayable = false;
        crash_everywhere(&case, query.0);
    }
}

/// Rows that have passed filters stand in the log for all that came: some have no value on the way, some are late, and
/// first values go by the number of a row.
#[test]
fn rows_behind_filters_survive_a_crash_anywhere() {
    let mut most = 0;
    for query in BEHIND {
        let mut case = Case::new(query, 120);
        case.is_replayable = false;
        case.job.inputs[0].keeps_all = true;
        let storage = Storage::new();
        let all = work(&storage, &case, 1, Mischief::None).expect("it is there");
        case.diverted = all.keeper.counts().diverted;
        most = most.max(case.diverted);
        case.job.inputs[0].keeps_all = false;
        let cut = undisturbed(&case, 1).0;
        assert_eq!(cut, rows(&storage), "{}", query.0);
        crash_everywhere(&case, query.0);
    }
    assert!(most > 10, "rows have no value on their way: {most}");
}

/// Rows and results that stand between one another keep their order, whatever is read again.
#[test]
fn a_union_survives_a_crash_anywhere() {
    for is_replayable in [true, false] {
        let mut case = Case::new(UNION, 120);
        case.is_replayable = is_replayable;
        crash_everywhere(&case, UNION.0);
    }
}

/// Who is idle is in the log, and comes back with it: the same windows close at the same rows.
#[test]
fn silence_survives_a_crash_anywhere() {
    use Step::{Idle, Lines};
    let script = [
        Lines(0, 12),
        Lines(1, 8),
        Idle(1),
        Lines(0, 20),
        Lines(1, 18),
        Idle(0),
        Lines(1, 12),
        Idle(1),
        Lines(0, 14),
    ];
    let spoken: Vec<Step> = script
        .into_iter()
        .filter(|step| matches!(step, Lines(..)))
        .collect();
    for is_replayable in [true, false] {
        let mut case = Case::meeting(&script);
        let mut without = Case::meeting(&spoken);
        case.is_replayable = is_replayable;
        without.is_replayable = is_replayable;
        let (silent, waited) = (undisturbed(&case, 1).0, undisturbed(&without, 1).0);
        assert_ne!(silent, waited, "being idle shows");
        crash_everywhere(&case, "meeting");
    }
    let mut case = Case::meeting(&script);
    case.is_replayable = false;
    let (came, read, _) = state_of(&case);
    assert_eq!(came, read, "the state is the log's");
}

/// What was seen is remembered through a crash, also of rows that a filter dropped.
#[test]
fn a_row_that_comes_again_counts_once_through_a_crash_anywhere() {
    for is_replayable in [true, false] {
        let mut case = Case::new(REPEATS, 120);
        case.is_replayable = is_replayable;
        crash_everywhere(&case, REPEATS.0);
    }
}

/// State is the same to the byte, whether rows came or were read from the log, and wherever they were logged.
#[test]
fn state_does_not_tell_where_rows_were_logged() {
    for query in BEHIND {
        let mut case = Case::new(query, 3_000);
        case.is_replayable = false;
        let (came, read, point) = state_of(&case);
        assert_eq!(came, read, "{}", query.0);
        let point = point.expect("rows are logged");
        assert!(point.nodes > 0, "{}: {point:?}", query.0);
        let (bytes, whole) = (point.bytes, point.bytes_whole);
        assert!(bytes < whole, "{}: {point:?}", query.0);
        case.job.inputs[0].keeps_all = true;
        let (kept, _, point) = state_of(&case);
        assert_eq!(point.expect("rows are logged").nodes, 0);
        assert_eq!(kept, came, "{}: all kept", query.0);
    }
}

#[test]
fn a_second_crash_on_the_way_back_changes_nothing() {
    let case = Case::new(QUERIES[3], 100);
    let (wanted, steps) = undisturbed(&case, 1);
    for step in (1..=steps).step_by(3) {
        let storage = Storage::new();
        storage.crash_at(step);
        work(&storage, &case, 1, Mischief::None).expect_err("the power failed");
        let back = storage.reopen(Survival::Reordered { seed: step });
        for again in (1..40).step_by(2) {
            let second = back.fork();
            second.crash_at(again);
            if work(&second, &case, 2, Mischief::None).is_ok() {
                break;
            }
            let third = second.reopen(Survival::Reordered { seed: again });
            work(&third, &case, 3, Mischief::None)
                .unwrap_or_else(|error| panic!("step {step}, then {again}: {error}"));
            assert_eq!(rows(&third), wanted, "step {step}, then {again}");
        }
    }
}

/// Each of several queries gives what it gives alone, whatever they share and whatever crashes.
#[test]
fn queries_that_share_a_stream_survive_a_crash_anywhere() {
    let case = Case::of(SHARED, 120);
    let storage = Storage::new();
    work(&storage, &case, 1, Mischief::None).expect("it is there");
    for (query, text) in SHARED.1.iter().enumerate() {
        let alone = Case::of(("alone", &[text], SHARED.2), 120);
        let wanted = undisturbed(&alone, 1).0;
        assert!(wanted.lines().count() > 5, "query {query} has rows");
        assert_eq!(rows_of(&storage, query), wanted, "query {query}");
    }
    crash_everywhere(&case, "shared");
    let mut pushed = Case::of(SHARED, 60);
    pushed.is_replayable = false;
    crash_everywhere(&pushed, "shared and logged");
}

#[test]
fn a_damaged_snapshot_of_several_queries_changes_nothing() {
    crash_and_damage_everywhere(&Case::of(SHARED, 150), "shared");
}

/// A sink that keeps no numbers has every row, and each twice at most for each crash.
#[test]
fn a_sink_without_numbers_loses_nothing() {
    let mut case = Case::new(QUERIES[3], 200);
    case.guarantee = Guarantee::AtLeastOnce;
    let (wanted, steps) = undisturbed(&case, 1);
    for step in (1..=steps).step_by(2) {
        let found = crashed(&case, step, Survival::Keep, Mischief::None);
        let missing = wanted.lines().find(|row| !found.contains(row));
        assert_eq!(missing, None, "step {step}");
    }
}

/// The checker is one: a stream that hands rows on before their record is durable is caught.
#[test]
fn acknowledging_before_the_sync_is_caught() {
    let mut case = Case::new(QUERIES[3], 200);
    case.is_replayable = false;
    let (wanted, steps) = undisturbed(&case, 1);
    let is_caught = |step: u64| {
        let storage = Storage::new();
        storage.crash_at(step);
        if work(&storage, &case, 1, Mischief::AcknowledgesFirst).is_ok() {
            return false;
        }
        let after = storage.reopen(Survival::Drop);
        match work(&after, &case, step, Mischief::None) {
            Ok(_) => rows(&after) != wanted,
            // The sink has rows that the log knows nothing of.
            Err(_) => true,
        }
    };
    assert!((1..=steps).any(is_caught), "no crash showed it");
}
