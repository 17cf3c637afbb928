//! Several queries as one run against each alone, and folded groups against the same unfolded.

use holm_base::Prng;
use holm_engine::{Limits, Node, Passed, Plan, Run, Several, Source, WindowKind};
use holm_lanes::{
    Arithmetic, Batch, Comparison, Expr, Field, Kind, Lane, Origin, Saver, Scalar, Values,
};
use holm_window::{Aggregate, Call, Grid};

/// Columns: 0 time, 1 and 2 parts of a key, 3 what is added up.
const KINDS: [Kind; 4] = [
    Kind::Timestamp { digits: 3 },
    Kind::BigInt,
    Kind::BigInt,
    Kind::BigInt,
];

fn source(name: &str) -> Source {
    let field = |(at, kind): (usize, &Kind)| Field {
        name: format!("c{at}"),
        kind: *kind,
        nullable: false,
    };
    Source {
        name: name.to_owned(),
        fields: KINDS.iter().enumerate().map(field).collect(),
        computed: vec![],
        time: Some(0),
        bound: 20,
        keeps_late: true,
    }
}

fn call(aggregate: Aggregate, column: Option<usize>) -> Call {
    Call {
        aggregate,
        column,
        filter: None,
    }
}

/// Filter, windows by the first part of the key, a projection.
fn plan(name: &str, grid: Grid, calls: Vec<Call>, least: i64) -> Plan {
    let literal = Expr::Literal(Scalar::Int(least), Kind::BigInt);
    let condition = Expr::Compare(
        Comparison::GreaterOrEqual,
        Box::new(Expr::Column(3)),
        Box::new(literal),
    );
    let time = KINDS[0];
    let mut kinds = vec![time, time, Kind::BigInt];
    kinds.extend(calls.iter().map(|call| call.aggregate.gives()));
    let columns = (0..kinds.len()).rev().map(Expr::Column).collect();
    Plan {
        sources: vec![source(name)],
        nodes: vec![
            Node::Source(0),
            Node::Filter {
                input: 0,
                condition,
            },
            Node::Window {
                input: 1,
                kind: WindowKind::Grid(grid),
                time: 0,
                keys: vec![1],
                calls,
                strategy: None,
            },
            Node::Project { input: 2, columns },
        ],
        kinds: vec![
            KINDS.to_vec(),
            KINDS.to_vec(),
            kinds.clone(),
            kinds.into_iter().rev().collect(),
        ],
        fields: vec![],
    }
}

fn batches(seed: u64) -> Vec<Batch> {
    let mut prng = Prng::new(seed);
    let mut below = |bound: u64| i64::try_from(prng.below(bound)).expect("small");
    let (mut at, mut first) = (0, 0);
    (0..40)
        .map(|_| {
            let rows = below(50);
            let mut lanes: [Vec<i64>; 4] = Default::default();
            for _ in 0..rows {
                at += below(5);
                lanes[0].push(at - below(40));
                lanes[1].push(below(7) * 1_000_003);
                lanes[2].push(below(3));
                lanes[3].push(below(100));
            }
            let lanes = lanes.map(|lane| Lane::dense(Values::Int(lane)));
            let mut batch = Batch::of(lanes.into());
            batch.origin = Origin::Run(first);
            first += rows.unsigned_abs();
            batch
        })
        .collect()
}

fn said(run: &mut Run) -> String {
    format!("{:?}", run.report())
}

/// What passed the filter, however it was cut into pieces, gives what all rows gave: results, counts and state.
#[test]
fn rows_behind_a_filter_stand_for_all_that_came() {
    let calls = || {
        vec![
            call(Aggregate::Sum(Kind::BigInt), Some(3)),
            call(Aggregate::First(Kind::BigInt), Some(2)),
        ]
    };
    let grid = Grid::hop(5, 10, 0).expect("a grid");
    let plan = plan("s", grid, calls(), 40);
    let mut late = 0;
    for seed in 0..40 {
        let mut prng = Prng::new(seed);
        let start = || Several::new(&[(&plan, &[])], Limits::default());
        let (mut whole, mut again) = (start(), start());
        assert!(whole.is_ordered());
        let point = whole.points(0).remove(0);
        for batch in batches(seed).into_iter().filter(|batch| batch.rows > 0) {
            let mut passed: Option<Passed> = None;
            let (mut at, mut outs) = (0, Vec::new());
            while at < batch.rows {
                let left = u64::try_from(batch.rows - at).expect("small");
                let end = at + 1 + usize::try_from(prng.below(left)).expect("small");
                let part = batch.slice(at..end);
                let watched = whole.push_watched(0, part, &[point.node]);
                let (out, own) = watched.expect("there is room");
                outs.extend(out);
                passed = Some(match passed {
                    Some(before) => before.and(&own[0], &point.read),
                    None => own[0].clone(),
                });
                at = end;
            }
            let passed = passed.expect("it has rows");
            assert!(passed.batch.rows <= batch.rows);
            let out = again.resume(0, &passed).expect("there is room");
            assert_eq!(Batch::together(&outs).lanes, out[0].lanes, "seed {seed}");
            assert_eq!(whole.counts(0), again.counts(0), "seed {seed}");
        }
        late += whole.counts(0).late;
        let state = |of: &Several| {
            let mut to = Saver::new();
            of.save(&mut to);
            to.finish()
        };
        assert!(state(&whole) == state(&again), "seed {seed}");
    }
    assert!(late > 100, "{late} rows were late, which shows little");
}

#[test]
fn several_queries_give_what_each_alone_gives() {
    let rows = || vec![call(Aggregate::CountRows, None)];
    let sums = || {
        vec![
            call(Aggregate::Sum(Kind::BigInt), Some(3)),
            call(Aggregate::CountRows, None),
        ]
    };
    let plans = [
        plan("s", Grid::tumble(30, 0).expect("a grid"), rows(), 10),
        plan("s", Grid::hop(10, 60, 0).expect("a grid"), sums(), 10),
        plan("s", Grid::hop(20, 40, 20).expect("a grid"), sums(), 10),
        plan("s", Grid::hop(20, 40, 20).expect("a grid"), sums(), 50),
        plan("other", Grid::tumble(30, 0).expect("a grid"), rows(), 10),
    ];
    let none: &[Batch] = &[];
    let queries: Vec<(&Plan, &[Batch])> = plans.iter().map(|plan| (plan, none)).collect();
    let mut several = Several::new(&queries, Limits::default());
    assert_eq!(several.sources().len(), 2);
    assert_eq!(several.shares(), [(vec![0, 1, 2], 10)]);
    let foreseen = holm_engine::shares(&plans, &vec![Vec::new(); plans.len()]);
    assert_eq!(foreseen, several.shares());
    assert_eq!(holm_engine::sources(&plans), several.sources());
    let mut alone: Vec<Run> = plans
        .iter()
        .map(|plan| Run::new(plan, Limits::default(), vec![]))
        .collect();
    let mut came = 0;
    for batch in batches(3) {
        let together = several.push(0, batch.clone()).expect("room");
        for (query, rows) in together.iter().enumerate().take(4) {
            let own = alone[query].push(0, batch.clone()).expect("room");
            assert_eq!(rows.lanes, own.lanes, "query {query}");
            came += own.rows;
        }
        assert_eq!(together[4].rows, 0, "its source is another");
    }
    let came_in: u64 = batches(3)
        .iter()
        .map(|batch| u64::try_from(batch.rows).expect("small"))
        .sum();
    assert_eq!(several.rows(), came_in);
    let mut kept = Saver::new();
    several.save(&mut kept);
    let kept = kept.finish();
    let mut again = Several::new(&queries, Limits::default());
    again
        .load(&mut holm_lanes::Loader::new(&kept))
        .expect("what was written");
    assert_eq!(
        (again.rows(), again.counts(1)),
        (came_in, several.counts(1))
    );
    let (together, mut late) = (several.end(0).expect("room"), 0);
    for (query, rows) in together.iter().enumerate().take(4) {
        assert_eq!(rows.lanes, alone[query].end(0).expect("room").lanes);
        let report = several.report(query);
        assert_eq!(
            format!("{report:?}"),
            said(&mut alone[query]),
            "query {query}"
        );
        late += report.counts.late;
    }
    assert!(came > 1_000 && late > 0);
}

/// Windows by two parts of a key, counted by the second: `is_folded` leaves nothing between.
fn counted(is_folded: bool) -> Plan {
    let grid = WindowKind::Grid(Grid::hop(10, 60, 0).expect("a grid"));
    let (time, big) = (KINDS[0], Kind::BigInt);
    let mut columns: Vec<Expr> = [0, 1, 3].map(Expr::Column).into();
    if !is_folded {
        // Something that nobody reads, and that may fail: a row must be there for it.
        columns.push(Expr::Arithmetic {
            op: Arithmetic::Add,
            left: Box::new((Expr::Column(3), big)),
            right: Box::new((Expr::Literal(Scalar::Int(1), big), big)),
            kind: big,
        });
    }
    Plan {
        sources: vec![source("s")],
        nodes: vec![
            Node::Source(0),
            Node::Window {
                input: 0,
                kind: grid,
                time: 0,
                keys: vec![1, 2],
                calls: vec![],
                strategy: None,
            },
            Node::Project { input: 1, columns },
            Node::Group {
                input: 2,
                window: Some((0, 1)),
                keys: vec![2],
                calls: vec![call(Aggregate::CountRows, None); 2],
            },
        ],
        kinds: vec![
            KINDS.to_vec(),
            vec![time, time, big, big],
            vec![time, time, big, big],
            vec![time, time, big, big, big],
        ],
        fields: vec![],
    }
}

#[test]
fn groups_of_keys_count_what_rows_of_them_would() {
    let limits = Limits {
        window: holm_window::Limits {
            keys: 12,
            ..Limits::default().window
        },
        ..Limits::default()
    };
    for limits in [Limits::default(), limits] {
        let mut folded = Run::new(&counted(true), limits, vec![]);
        let mut plain = Run::new(&counted(false), limits, vec![]);
        let mut came = 0;
        for batch in batches(5) {
            let (ours, theirs) = (folded.push(0, batch.clone()), plain.push(0, batch));
            let (ours, theirs) = (ours.expect("room"), theirs.expect("room"));
            assert_eq!(ours.lanes, theirs.lanes);
            came += ours.rows;
            let bytes = |run: &Run| {
                let mut to = Saver::new();
                run.save(&mut to);
                to.finish()
            };
            assert_eq!(bytes(&folded), bytes(&plain), "state is what it was");
        }
        assert_eq!(
            folded.end(0).expect("room").lanes,
            plain.end(0).expect("room").lanes
        );
        assert_eq!(said(&mut folded), said(&mut plain));
        assert!(came > 500);
    }
}
