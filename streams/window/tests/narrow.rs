//! Narrow lanes against wide ones of the same values: equal to the last bit.

use holm_base::Prng;
use holm_lanes::{Batch, Keys, Kind, Lane, Marks, Narrow, Origin, Shape, Values};
use holm_window::{Aggregate, Call, Grid, Limits, Pushed, Watermark, Windows};

fn below(prng: &mut Prng, bound: u64) -> i32 {
    i32::try_from(prng.below(bound)).expect("small numbers")
}

/// Columns: time, two keys, an integer, a float; all but the time are narrow.
fn batch(prng: &mut Prng, (first, rows): (u64, usize)) -> Batch {
    let keys: Vec<i8> = (0..rows)
        .map(|_| i8::try_from(below(prng, 5)).expect("small"))
        .collect();
    let others = (0..rows).map(|_| i16::try_from(below(prng, 700)).expect("small"));
    let others = others.collect();
    let ints = (0..rows).map(|_| below(prng, 1 << 31)).collect();
    #[expect(clippy::cast_precision_loss, reason = "any float will do")]
    let singles = (0..rows).map(|_| 1.0 / (below(prng, 997) - 400) as f32);
    let singles = singles.collect();
    let times = (first..).take(rows).map(u64::cast_signed).collect();
    let mut batch = Batch::of(vec![
        Lane::dense(Values::Int(times)),
        Lane::narrow(Narrow::Bytes(keys)),
        Lane::narrow(Narrow::Halves(others)),
        Lane::narrow(Narrow::Ints(ints)),
        Lane::narrow(Narrow::Singles(singles)),
    ]);
    batch.origin = Origin::Run(first);
    batch
}

fn widened(batch: &Batch) -> Batch {
    let lanes = batch.lanes.iter();
    let mut wide = Batch::of(
        lanes
            .map(|lane| Lane::dense(lane.values().clone()))
            .collect(),
    );
    wide.origin = batch.origin.clone();
    wide.marks = batch.marks.clone();
    assert!(wide.lanes.iter().all(|lane| lane.narrow_values().is_none()));
    wide
}

fn calls() -> Vec<Call> {
    let call = |aggregate, column| Call {
        aggregate,
        column,
        filter: None,
    };
    let (int, double) = (Kind::BigInt, Kind::Double);
    vec![
        call(Aggregate::CountRows, None),
        call(Aggregate::Sum(int), Some(1)),
        call(Aggregate::Sum(int), Some(2)),
        call(Aggregate::Average(int), Some(3)),
        call(Aggregate::Sum(double), Some(4)),
        call(Aggregate::Average(double), Some(4)),
        call(Aggregate::Least(int), Some(3)),
        call(Aggregate::Greatest(double), Some(4)),
        call(Aggregate::CountDistinct, Some(2)),
    ]
}

fn shown(pushed: Pushed, keys: &Keys) -> String {
    let tuples = keys.tuples(&pushed.closed.codes);
    let starts = format!("{:?} {tuples:?}", pushed.closed.starts);
    format!("{starts} {:?}", pushed.closed.into_results())
}

#[test]
fn what_is_narrow_gives_what_is_wide() {
    let keys: [&[(usize, Shape)]; 4] = [
        &[],
        &[(1, Shape::Int)],
        &[(1, Shape::Int), (2, Shape::Int)],
        &[(2, Shape::Int), (3, Shape::Int)],
    ];
    let mut prng = Prng::new(17);
    for (number, keys) in (0..).zip(keys.into_iter().cycle().take(40)) {
        let grid = if number % 2 == 0 {
            Grid::hop(20, 100, 0)
        } else {
            Grid::tumble(50, 0)
        };
        let grid = grid.expect("such grids are");
        let new = || Windows::new(grid, 0, keys, calls(), Limits::default());
        let (mut narrow, mut wide) = (new(), new());
        let mut mark = Watermark::new(0);
        let mut first = 0;
        for _ in 0..12 {
            let rows = usize::try_from(below(&mut prng, 300)).expect("small");
            let mut batch = batch(&mut prng, (first, rows));
            first += u64::try_from(rows).expect("small");
            batch.marks = mark.pass(batch.lanes[0].ints().expect("times"));
            let other = widened(&batch);
            let (ours, theirs) = (narrow.push(&batch), wide.push(&other));
            assert_eq!(shown(ours, narrow.keys()), shown(theirs, wide.keys()));
        }
        let mut end = batch(&mut prng, (first, 0));
        end.marks.after = Marks::END;
        let (ours, theirs) = (narrow.push(&end), wide.push(&end));
        assert_eq!(shown(ours, narrow.keys()), shown(theirs, wide.keys()));
    }
}
