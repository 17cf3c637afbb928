//! Ten queries over one stream: together, with panes that are shared, and each alone.

use std::fmt::Write as _;
use std::hint::black_box;
use std::time::Instant;

use holm_engine::{Limits, Plan, Run, Several};
use holm_lanes::Batch;

use crate::case::CASES;
use crate::data;
use crate::measure::{Asked, middle, planned_of, real};

/// A column more or less, and windows from a second to ten minutes: COUNT, SUM, MIN, MAX by category.
fn queries() -> Vec<Plan> {
    let window = |slide: u64, size: u64, results: &str| {
        let sql = format!(
            "CREATE TABLE task (ts TIMESTAMP(3), job BIGINT, event_type INT, category INT, cpu DOUBLE, \
             WATERMARK FOR ts AS ts) WITH ('connector'='stdin'); \
             SELECT window_start, category, {results} \
             FROM HOP(TABLE task, DESCRIPTOR(ts), INTERVAL '{slide}' SECOND, INTERVAL '{size}' SECOND) \
             GROUP BY window_start, window_end, category"
        );
        planned_of(&sql).plan
    };
    vec![
        window(1, 1, "COUNT(*) AS n"),
        window(1, 5, "COUNT(*) AS n, SUM(job) AS jobs"),
        window(1, 10, "SUM(job) AS jobs"),
        window(1, 30, "MAX(job) AS most"),
        window(1, 60, "SUM(cpu) AS cpu"),
        window(2, 60, "COUNT(*) AS n"),
        window(5, 60, "MIN(job) AS least, MAX(job) AS most"),
        window(10, 60, "SUM(job) AS jobs, COUNT(*) AS n"),
        window(60, 60, "COUNT(*) AS n"),
        window(60, 600, "AVG(job) AS jobs"),
    ]
}

/// Seconds of each query by itself, and the rows that came out.
fn alone(plans: &[Plan], batches: &[Batch]) -> (f64, Vec<u64>) {
    let mut runs: Vec<Run> = plans
        .iter()
        .map(|plan| Run::new(plan, Limits::default(), vec![]))
        .collect();
    let begun = Instant::now();
    for run in &mut runs {
        for batch in batches {
            let out = run.push(0, batch.clone()).expect("it holds what it must");
            black_box(out.rows);
        }
    }
    let seconds = begun.elapsed().as_secs_f64();
    (seconds, runs.iter().map(|run| run.counts().out).collect())
}

fn several(plans: &[Plan]) -> Several {
    let none: &[Batch] = &[];
    let queries: Vec<(&Plan, &[Batch])> = plans.iter().map(|plan| (plan, none)).collect();
    Several::new(&queries, Limits::default())
}

fn together(plans: &[Plan], batches: &[Batch]) -> (f64, Vec<u64>) {
    let mut several = several(plans);
    let begun = Instant::now();
    for batch in batches {
        let out = several.push(0, batch.clone());
        black_box(out.expect("it holds what it must").len());
    }
    let seconds = begun.elapsed().as_secs_f64();
    let of = |query| several.report(query).counts.out;
    (seconds, (0..plans.len()).map(of).collect())
}

pub(crate) fn measure(asked: &Asked) -> String {
    let case = CASES.first().expect("there are queries");
    let plans = queries();
    let rows = data::rows(case, asked.rows);
    let batches: Vec<Batch> = (0..)
        .zip(data::columns(case, &rows))
        .map(|(at, batch)| data::numbered(batch, at * data::BATCH))
        .collect();
    let (mut by_one, mut by_all) = (Vec::new(), Vec::new());
    for _ in 0..asked.rounds {
        let (seconds, apart) = alone(&plans, &batches);
        by_one.push(seconds);
        let (seconds, shared) = together(&plans, &batches);
        by_all.push(seconds);
        assert_eq!(apart, shared, "the same rows come out");
    }
    let (apart, shared) = (middle(by_one, asked.is_best), middle(by_all, asked.is_best));
    let mut text = String::new();
    for (queries, pane) in several(&plans).shares() {
        let pane = holm_sql::length(pane);
        writeln!(text, "queries {queries:?} share panes of {pane}").expect("a string takes all");
    }
    writeln!(
        text,
        "{} queries over {} records: each alone {:.3} s, together {:.3} s: {:.1} times as fast; {:.1} M records/s for all",
        plans.len(),
        asked.rows,
        apart,
        shared,
        apart / shared,
        real(asked.rows) / shared / 1e6,
    )
    .expect("a string takes all");
    text
}
