//! Windows against a dumb twin that keeps every row and computes each window anew.
//!
//! Random times out of order and before 1970, NULLs, keys, grids, strategies; the same rows cut
//! into batches of 1, 7 and 64 Ki. Floats are eighths, so that every sum is exact and bytes are equal.

#![expect(
    clippy::cast_possible_truncation,
    reason = "floats are eighths of small numbers"
)]

use std::collections::BTreeMap;

use holm_base::Prng;
use holm_lanes::{Batch, Kind, Lane, LaneBuilder, Origin, Scalar, Shape, Values};
use holm_window::{Aggregate, Call, Grid, Limits, Pushed, Sessions, Strategy, Watermark, Windows};

#[derive(Clone, Debug)]
struct Row {
    time: i64,
    key: Option<i64>,
    int: Option<i64>,
    real: Option<f64>,
    kept: bool,
}

/// Start, end, key: the results.
type Answer = BTreeMap<(i64, i64, Option<i64>), Vec<Scalar>>;

fn below(prng: &mut Prng, bound: i64) -> i64 {
    i64::try_from(prng.below(bound.unsigned_abs())).expect("small numbers")
}

fn rows(prng: &mut Prng, count: usize, disorder: i64) -> Vec<Row> {
    let mut at = -500;
    (0..count)
        .map(|_| {
            at += below(prng, 4);
            if below(prng, 60) == 0 {
                at += 400;
            }
            Row {
                time: at - below(prng, disorder + 1),
                key: (below(prng, 8) > 0).then(|| below(prng, 5)),
                int: (below(prng, 5) > 0).then(|| below(prng, 2_000) - 1_000),
                real: (below(prng, 5) > 0).then(|| (below(prng, 4_000) - 2_000) as f64 / 8.0),
                kept: below(prng, 2) == 0,
            }
        })
        .collect()
}

fn call(aggregate: Aggregate, column: Option<usize>, filter: Option<usize>) -> Call {
    Call {
        aggregate,
        column,
        filter,
    }
}

/// Columns: 0 time, 1 key, 2 int, 3 real, 4 kept.
fn exact_calls() -> Vec<Call> {
    let big = Kind::BigInt;
    vec![
        call(Aggregate::CountRows, None, None),
        call(Aggregate::Count, Some(2), None),
        call(Aggregate::Sum(big), Some(2), None),
        call(Aggregate::Average(big), Some(2), Some(4)),
        call(Aggregate::CountRows, None, Some(4)),
    ]
}

fn all_calls() -> Vec<Call> {
    let (big, double) = (Kind::BigInt, Kind::Double);
    let mut calls = exact_calls();
    calls.extend([
        call(Aggregate::Sum(double), Some(3), None),
        call(Aggregate::Average(double), Some(3), Some(4)),
        call(Aggregate::Least(big), Some(2), None),
        call(Aggregate::Greatest(double), Some(3), Some(4)),
        call(Aggregate::First(big), Some(2), None),
        call(Aggregate::Last(double), Some(3), None),
        call(Aggregate::CountDistinct, Some(3), None),
        call(Aggregate::AboutDistinct, Some(3), None),
        call(
            Aggregate::Quantile {
                millionths: 250_000,
            },
            Some(3),
            Some(4),
        ),
    ]);
    calls
}

fn batch(rows: &[Row], first: usize, mark: &mut Watermark) -> Batch {
    let times: Vec<i64> = rows.iter().map(|row| row.time).collect();
    let mut keys = LaneBuilder::new(Shape::Int);
    let mut ints = LaneBuilder::new(Shape::Int);
    let mut reals = LaneBuilder::new(Shape::Real);
    for row in rows {
        keys.push(&row.key.map_or(Scalar::Null, Scalar::Int));
        ints.push(&row.int.map_or(Scalar::Null, Scalar::Int));
        reals.push(&row.real.map_or(Scalar::Null, Scalar::Real));
    }
    let marks = mark.pass(&times);
    let kept = rows.iter().map(|row| row.kept).collect();
    let mut batch = Batch::of(vec![
        Lane::dense(Values::Int(times)),
        keys.finish(),
        ints.finish(),
        reals.finish(),
        Lane::dense(Values::Bool(kept)),
    ]);
    batch.marks = marks;
    batch.origin = Origin::Run(u64::try_from(first).expect("small numbers"));
    batch
}

/// Every result in the order in which it came, and how many rows were late.
fn run(
    rows: &[Row],
    size: usize,
    bound: i64,
    mut push: impl FnMut(&Batch) -> (Pushed, Vec<Lane>),
) -> (Vec<String>, Answer, usize) {
    let mut mark = Watermark::new(bound);
    let (mut lines, mut answer, mut late) = (Vec::new(), Answer::new(), 0);
    let mut batches: Vec<Batch> = rows
        .chunks(size)
        .enumerate()
        .map(|(at, part)| batch(part, at * size, &mut mark))
        .collect();
    let mut end = batch(&[], rows.len(), &mut mark);
    end.marks.after = i64::MAX;
    batches.push(end);
    let mut last_end = i64::MIN;
    for batch in &batches {
        let (pushed, keys) = push(batch);
        late += pushed.late.len();
        assert!(pushed.closed.faults.is_empty() && pushed.diverted.is_empty());
        let (starts, ends) = (pushed.closed.starts.clone(), pushed.closed.ends.clone());
        let results = pushed.closed.into_results();
        for row in 0..starts.len() {
            assert!(
                ends[row] >= last_end,
                "windows close in the order of their ends"
            );
            last_end = ends[row];
            let key = match keys[0].scalar(row) {
                Scalar::Int(key) => Some(key),
                _ => None,
            };
            let values: Vec<Scalar> = results.iter().map(|lane| lane.scalar(row)).collect();
            lines.push(format!("{} {} {key:?} {values:?}", starts[row], ends[row]));
            let twice = answer.insert((starts[row], ends[row], key), values);
            assert_eq!(twice, None, "I3: a window closes once");
        }
    }
    (lines, answer, late)
}

/// The result of one aggregate over rows, given in the order in which they came.
fn plain(call: &Call, rows: &[(usize, &Row)]) -> Scalar {
    let rows = rows
        .iter()
        .filter(|(_, row)| call.filter.is_none() || row.kept);
    let ints: Vec<(i64, usize, i64)> = rows
        .clone()
        .filter_map(|(at, row)| Some((row.time, *at, row.int?)))
        .collect();
    let reals: Vec<(i64, usize, f64)> = rows
        .clone()
        .filter_map(|(at, row)| Some((row.time, *at, row.real?)))
        .collect();
    let eighths: i128 = reals.iter().map(|(_, _, real)| (real * 8.0) as i128).sum();
    let sum: i128 = ints.iter().map(|(_, _, int)| i128::from(*int)).sum();
    let count = |count: usize| Scalar::Int(i64::try_from(count).expect("small numbers"));
    let int = |value: Option<i64>| value.map_or(Scalar::Null, Scalar::Int);
    let real = |value: Option<f64>| value.map_or(Scalar::Null, Scalar::Real);
    match call.aggregate {
        Aggregate::CountRows => count(rows.count()),
        Aggregate::Count => count(ints.len()),
        Aggregate::Sum(Kind::BigInt) => {
            int((!ints.is_empty()).then(|| i64::try_from(sum).expect("small numbers")))
        }
        Aggregate::Average(Kind::BigInt) => int((!ints.is_empty()).then(|| {
            i64::try_from(sum / i128::try_from(ints.len()).expect("small numbers"))
                .expect("small numbers")
        })),
        Aggregate::Sum(_) => real((!reals.is_empty()).then(|| eighths as f64 / 8.0)),
        Aggregate::Average(_) => {
            real((!reals.is_empty()).then(|| eighths as f64 / 8.0 / reals.len() as f64))
        }
        Aggregate::Least(_) => int(ints.iter().map(|it| it.2).min()),
        Aggregate::Greatest(_) => real(reals.iter().map(|it| it.2).max_by(f64::total_cmp)),
        Aggregate::First(_) => int(ints.iter().min().map(|it| it.2)),
        Aggregate::Quantile { millionths } => {
            let mut all: Vec<f64> = reals.iter().map(|it| it.2).collect();
            all.sort_unstable_by(f64::total_cmp);
            let last = all.len().saturating_sub(1);
            let rank = last * usize::try_from(millionths).expect("small numbers") / 1_000_000;
            real(all.get(rank).map(|value| about(*value)))
        }
        Aggregate::Last(_) => {
            let last = reals.iter().max_by_key(|it| (it.0, it.1));
            real(last.map(|it| it.2))
        }
        _ => {
            let mut eighths: Vec<i64> = reals.iter().map(|it| (it.2 * 8.0) as i64).collect();
            eighths.sort_unstable();
            eighths.dedup();
            count(eighths.len())
        }
    }
}

/// The middle of the values that a sketch does not tell from this one.
fn about(value: f64) -> f64 {
    const GROWTH: f64 = 1.01 / 0.99;
    if value == 0.0 {
        return 0.0;
    }
    let size = libm::ceil(libm::log(value.abs()) / libm::log(GROWTH));
    value.signum() * 2.0 * libm::pow(GROWTH, size) / (GROWTH + 1.0)
}

/// What each row finds the watermark to be.
fn marks(rows: &[Row], bound: i64) -> Vec<i64> {
    let mut now = i64::MIN;
    rows.iter()
        .map(|row| {
            let stood = now;
            now = now.max(row.time - bound);
            stood
        })
        .collect()
}

fn twin_of_grid(
    rows: &[Row],
    bound: i64,
    calls: &[Call],
    windows: &dyn Fn(i64) -> Vec<(i64, i64)>,
) -> (Answer, usize) {
    let mut groups: BTreeMap<_, Vec<(usize, &Row)>> = BTreeMap::new();
    let mut late = 0;
    for (at, (row, mark)) in rows.iter().zip(marks(rows, bound)).enumerate() {
        let all = windows(row.time);
        let open: Vec<_> = all.iter().filter(|(_, end)| *end > mark).collect();
        late += usize::from(open.is_empty() && !all.is_empty());
        for (start, end) in open {
            groups
                .entry((*start, *end, row.key))
                .or_default()
                .push((at, row));
        }
    }
    let result = |rows: &Vec<(usize, &Row)>| calls.iter().map(|call| plain(call, rows)).collect();
    (
        groups
            .iter()
            .map(|(key, rows)| (*key, result(rows)))
            .collect(),
        late,
    )
}

/// Windows of a time, found by looking at all of them.
fn hopping(slide: i64, size: i64, offset: i64) -> impl Fn(i64) -> Vec<(i64, i64)> {
    move |time| {
        let first = (time - offset).div_euclid(slide) - size / slide - 1;
        (first..first + 2 * (size / slide) + 4)
            .map(|window| (offset + window * slide, offset + window * slide + size))
            .filter(|(start, end)| (*start..*end).contains(&time))
            .collect()
    }
}

fn cumulating(step: i64, size: i64, offset: i64) -> impl Fn(i64) -> Vec<(i64, i64)> {
    move |time| {
        let start = offset + (time - offset).div_euclid(size) * size;
        (1..=size / step)
            .map(|count| (start, start + count * step))
            .filter(|(start, end)| (*start..*end).contains(&time))
            .collect()
    }
}

fn check(grid: Grid, windows: &dyn Fn(i64) -> Vec<(i64, i64)>, calls: &[Call], strategy: Strategy) {
    for seed in 0..12 {
        let mut prng = Prng::new(seed);
        let disorder = [0, 5, 40][usize::try_from(seed % 3).expect("small numbers")];
        let bound = [0, 3, 60][usize::try_from(seed / 3 % 3).expect("small numbers")];
        let rows = rows(&mut prng, 400, disorder);
        let (expected, expected_late) = twin_of_grid(&rows, bound, calls, windows);
        let mut first: Option<Vec<String>> = None;
        for size in [1, 7, 1 << 16] {
            let keys = vec![(1, Shape::Int)];
            let mut made = Windows::new(grid, 0, &keys, calls.to_vec(), Limits::default())
                .with_strategy(strategy);
            let (lines, answer, late) = run(&rows, size, bound, |batch| {
                let pushed = made.push(batch);
                let tuples = made.keys().tuples(&pushed.closed.codes);
                (pushed, tuples)
            });
            assert_eq!(
                answer, expected,
                "{grid:?} {strategy} seed {seed} batches of {size}"
            );
            assert_eq!(late, expected_late, "{grid:?} {strategy} seed {seed}");
            assert_eq!(
                *first.get_or_insert_with(|| lines.clone()),
                lines,
                "I1: equal bytes"
            );
        }
    }
}

#[test]
fn hopping_windows_equal_their_twin_by_every_strategy() {
    // The last has panes so long that many late rows come in one.
    for (slide, size, offset) in [
        (2, 6, 0),
        (10, 10, 3),
        (4, 6, 1),
        (1, 30, 0),
        (9, 4, 0),
        (60, 240, 7),
    ] {
        let grid = Grid::hop(slide, size, offset).expect("small numbers");
        let windows = hopping(slide, size, offset);
        for strategy in [Strategy::Recompute, Strategy::TwoStacks] {
            check(grid, &windows, &all_calls(), strategy);
        }
        check(grid, &windows, &exact_calls(), Strategy::Running);
    }
}

#[test]
fn cumulating_windows_equal_their_twin() {
    for (step, size, offset) in [(2, 8, 0), (5, 50, 7), (3, 3, 0)] {
        let grid = Grid::cumulate(step, size, offset).expect("small numbers");
        for strategy in [Strategy::Recompute, Strategy::Prefix] {
            check(
                grid,
                &cumulating(step, size, offset),
                &all_calls(),
                strategy,
            );
        }
    }
}

/// Sessions as a list that is searched for every row.
fn twin_of_sessions(rows: &[Row], bound: i64, gap: i64, calls: &[Call]) -> (Answer, usize) {
    type Session<'a> = (Option<i64>, i64, i64, Vec<(usize, &'a Row)>);
    let (mut open, mut closed): (Vec<Session<'_>>, Vec<Session<'_>>) = (Vec::new(), Vec::new());
    let mut late = 0;
    for (at, (row, mark)) in rows.iter().zip(marks(rows, bound)).enumerate() {
        let (ended, still): (Vec<_>, Vec<_>) = open.into_iter().partition(|it| it.2 <= mark);
        closed.extend(ended);
        let (time, end) = (row.time, row.time + gap);
        let (touched, mut others): (Vec<_>, Vec<_>) = still
            .into_iter()
            .partition(|it| it.0 == row.key && it.1 <= end && time <= it.2);
        if touched.is_empty() && end <= mark {
            late += 1;
        } else {
            let mut session: Session<'_> = (row.key, time, end, vec![(at, row)]);
            for (_, start, end, rows) in touched {
                session.1 = session.1.min(start);
                session.2 = session.2.max(end);
                session.3.extend(rows);
            }
            others.push(session);
        }
        open = others;
    }
    closed.extend(open);
    let answer = closed
        .into_iter()
        .map(|(key, start, end, rows)| {
            let results = calls.iter().map(|call| plain(call, &rows)).collect();
            ((start, end, key), results)
        })
        .collect();
    (answer, late)
}

#[test]
fn sessions_equal_their_twin() {
    let calls = all_calls();
    for seed in 0..30 {
        let mut prng = Prng::new(seed);
        let disorder = [0, 8, 50][usize::try_from(seed % 3).expect("small numbers")];
        let (gap, bound) = (1 + below(&mut prng, 12), below(&mut prng, 30));
        let rows = rows(&mut prng, 300, disorder);
        let (expected, expected_late) = twin_of_sessions(&rows, bound, gap, &calls);
        let mut first: Option<Vec<String>> = None;
        for size in [1, 7, 1 << 16] {
            let keys = vec![(1, Shape::Int)];
            let mut made = Sessions::new(gap, 0, &keys, calls.clone(), Limits::default());
            let (lines, answer, late) = run(&rows, size, bound, |batch| {
                let pushed = made.push(batch);
                let tuples = made.keys().tuples(&pushed.closed.codes);
                (pushed, tuples)
            });
            assert_eq!(
                (answer, late),
                (expected.clone(), expected_late),
                "seed {seed}, {size}"
            );
            assert_eq!(
                *first.get_or_insert_with(|| lines.clone()),
                lines,
                "I1: equal bytes"
            );
        }
    }
}

/// A checker that cannot fail proves nothing: a twin that misses one row differs.
#[test]
fn the_twin_sees_a_row_that_is_missing() {
    let rows = rows(&mut Prng::new(1), 200, 0);
    let windows = hopping(2, 6, 0);
    let (whole, _) = twin_of_grid(&rows, 5, &all_calls(), &windows);
    let (less, _) = twin_of_grid(&rows[1..], 5, &all_calls(), &windows);
    assert_ne!(whole, less);
}

#[test]
fn limits_have_answers() {
    let rows: Vec<Row> = (0..10)
        .map(|at| Row {
            time: at * 10,
            key: Some(at),
            int: Some(1),
            real: None,
            kept: true,
        })
        .collect();
    let calls = || vec![call(Aggregate::CountRows, None, None)];
    let grid = Grid::tumble(10, 0).expect("small numbers");
    let few_keys = Limits {
        keys: 3,
        ..Limits::default()
    };
    let few_panes = Limits {
        panes: 4,
        ..Limits::default()
    };
    for (limits, expected) in [(few_keys, 7), (few_panes, 6)] {
        let mut windows = Windows::new(grid, 0, &[(1, Shape::Int)], calls(), limits);
        let pushed = windows.push(&batch(&rows, 0, &mut Watermark::new(1_000)));
        assert_eq!(pushed.diverted.len(), expected);
    }
    let mut sessions = Sessions::new(5, 0, &[(1, Shape::Int)], calls(), few_panes);
    let pushed = sessions.push(&batch(&rows, 0, &mut Watermark::new(1_000)));
    assert_eq!(pushed.diverted.len(), 6);
}

#[test]
fn the_cheapest_strategy_is_chosen() {
    use holm_window::Cost;
    let of = |grid: Result<Grid, _>, calls: &[Call]| {
        Cost::of(&grid.expect("small numbers"), calls).cheapest()
    };
    assert_eq!(of(Grid::tumble(10, 0), &all_calls()), Strategy::Recompute);
    assert_eq!(of(Grid::hop(1, 60, 0), &exact_calls()), Strategy::Running);
    assert_eq!(of(Grid::hop(1, 60, 0), &all_calls()), Strategy::TwoStacks);
    assert_eq!(of(Grid::hop(1, 2, 0), &exact_calls()), Strategy::Recompute);
    assert_eq!(of(Grid::cumulate(1, 60, 0), &all_calls()), Strategy::Prefix);
}
