//! Queries that share panes against the same queries, each alone: equal to the last bit.
//!
//! Random rows out of order, with NULLs and floats that round; random windows and aggregates; the
//! state is written and read on the way.

use holm_base::Prng;
use holm_lanes::{Batch, Kind, LaneBuilder, Loader, Marks, Origin, Saver, Shape};
use holm_window::{
    Aggregate, Call, Grid, Limits, Pushed, Query, Shared, Strategy, Watermark, Windows,
};

/// Columns: 0 time, 1 key, 2 integer, 3 float, 4 which rows are kept.
const KEYS: &[(usize, Shape)] = &[(1, Shape::Int)];

fn below(prng: &mut Prng, bound: i64) -> i64 {
    i64::try_from(prng.below(bound.unsigned_abs())).expect("small numbers")
}

fn batches(prng: &mut Prng, disorder: i64) -> Vec<Batch> {
    let (mut at, mut first) = (-300, 0);
    let mut mark = Watermark::new(disorder / 2);
    let mut batches: Vec<Batch> = (0..30)
        .map(|_| {
            let rows = below(prng, 40);
            let mut lanes = [Shape::Int, Shape::Int, Shape::Int, Shape::Real, Shape::Bool]
                .map(LaneBuilder::new);
            for _ in 0..rows {
                at += below(prng, 4) + if below(prng, 50) == 0 { 90 } else { 0 };
                lanes[0].push_int(at - below(prng, disorder + 1));
                lanes[1].push_int(below(prng, 6));
                if below(prng, 5) == 0 {
                    lanes[2].push_null();
                    lanes[3].push_null();
                } else {
                    lanes[2].push_int(below(prng, 2_000) - 1_000);
                    lanes[3].push_real(1.0 / (below(prng, 997) - 400) as f64);
                }
                lanes[4].push_bool(below(prng, 2) == 0);
            }
            let mut batch = Batch::of(lanes.map(LaneBuilder::finish).into());
            batch.origin = Origin::Run(first);
            first += rows.unsigned_abs();
            batch.marks = mark.pass(batch.lanes[0].ints().expect("times"));
            batch
        })
        .collect();
    let mut end = batches[0].take(&[]);
    end.marks.after = Marks::END;
    batches.push(end);
    batches
}

fn call(aggregate: Aggregate, column: Option<usize>, filter: Option<usize>) -> Call {
    Call {
        aggregate,
        column,
        filter,
    }
}

fn exact(prng: &mut Prng) -> Vec<Call> {
    let big = Kind::BigInt;
    let all = [
        call(Aggregate::CountRows, None, None),
        call(Aggregate::Count, Some(2), Some(4)),
        call(Aggregate::Sum(big), Some(2), None),
        call(Aggregate::Average(big), Some(2), Some(4)),
        call(Aggregate::Least(big), Some(2), None),
        call(Aggregate::CountDistinct, Some(2), None),
        call(Aggregate::First(big), Some(2), None),
        call(Aggregate::Last(Kind::Double), Some(3), None),
    ];
    all.into_iter().filter(|_| below(prng, 2) == 0).collect()
}

fn floats() -> Vec<Call> {
    vec![
        call(Aggregate::Sum(Kind::Double), Some(3), None),
        call(Aggregate::Average(Kind::Double), Some(3), Some(4)),
        call(Aggregate::Greatest(Kind::Double), Some(3), None),
    ]
}

fn grid(prng: &mut Prng) -> Grid {
    let (slide, panes) = (1 + below(prng, 6), 1 + below(prng, 9));
    match below(prng, 4) {
        0 => Grid::tumble(2 * slide, 0),
        1 => Grid::hop(3 * slide, slide * panes, 3 * slide),
        2 => Grid::cumulate(slide, slide * panes, 0),
        _ => Grid::hop(slide, slide * panes, -slide),
    }
    .expect("such grids are")
}

fn query(prng: &mut Prng) -> Query {
    let mut calls = exact(prng);
    if below(prng, 3) == 0 {
        calls.extend(floats());
    }
    Query {
        grid: grid(prng),
        calls,
        strategy: (below(prng, 3) == 0).then_some(Strategy::Recompute),
    }
}

/// All that was pushed out, as text that shows every bit.
fn shown(pushed: Pushed, keys: &holm_lanes::Keys) -> String {
    let (late, diverted) = (pushed.late, pushed.diverted);
    let closed = pushed.closed;
    let tuples = keys.tuples(&closed.codes);
    let windows = format!("{:?} {:?} {tuples:?}", closed.starts, closed.ends);
    format!(
        "{windows} {:?} {late:?} {diverted:?}",
        closed.into_results()
    )
}

/// Runs queries together and each alone, and says whether they could run together.
fn equal_their_own(seed: u64, limits: Limits) -> bool {
    let mut prng = Prng::new(seed);
    let queries: Vec<Query> = (0..2 + below(&mut prng, 3))
        .map(|_| query(&mut prng))
        .collect();
    let Some(mut shared) = Shared::new(0, KEYS, &queries, limits) else {
        return false;
    };
    let mut alone: Vec<Windows> = queries
        .iter()
        .map(|query| {
            let windows = Windows::new(query.grid, 0, KEYS, query.calls.clone(), limits);
            match query.strategy {
                Some(strategy) => windows.with_strategy(strategy),
                None => windows,
            }
        })
        .collect();
    let disorder = below(&mut prng, 40);
    for (number, batch) in batches(&mut prng, disorder).into_iter().enumerate() {
        let together = shared.push(&batch);
        for (member, pushed) in together.into_iter().enumerate() {
            let own = alone[member].push(&batch);
            assert_eq!(
                shown(pushed, shared.keys_of(member)),
                shown(own, alone[member].keys()),
                "seed {seed}, batch {number}, query {member} of {queries:?}"
            );
        }
        if number == 12 {
            let mut to = Saver::new();
            shared.save(&mut to);
            let bytes = to.finish();
            shared = Shared::new(0, KEYS, &queries, limits).expect("it was there");
            shared
                .load(&mut Loader::new(&bytes))
                .expect("it was written");
        }
    }
    true
}

#[test]
fn queries_that_share_give_what_each_alone_gives() {
    let shared = (0..600).filter(|seed| equal_their_own(*seed, Limits::default()));
    let count = shared.count();
    assert!((60..600).contains(&count), "{count} of 600 could share");
}

#[test]
fn a_key_too_many_is_diverted_from_each() {
    let limits = Limits {
        keys: 3,
        ..Limits::default()
    };
    let shared = (600..700).filter(|seed| equal_their_own(*seed, limits));
    assert!(shared.count() > 10);
}

#[test]
fn sums_of_floats_keep_their_panes() {
    let query = |slide: i64, calls: Vec<Call>| Query {
        grid: Grid::hop(slide, 60, 0).expect("it is one"),
        calls,
        strategy: None,
    };
    let rows = || vec![call(Aggregate::CountRows, None, None)];
    assert!(Shared::grids(&[query(10, floats()), query(10, rows())]).is_some());
    assert!(Shared::grids(&[query(10, floats()), query(20, rows())]).is_some());
    assert_eq!(
        Shared::grids(&[query(10, rows()), query(20, floats())]),
        None
    );
}

#[test]
fn windows_that_begin_elsewhere_do_not_share() {
    let query = |offset: i64| Query {
        grid: Grid::tumble(10, offset).expect("it is one"),
        calls: vec![call(Aggregate::CountRows, None, None)],
        strategy: None,
    };
    assert!(Shared::grids(&[query(0), query(30)]).is_some());
    assert_eq!(Shared::grids(&[query(0), query(5)]), None);
}
