//! What two stacks cost where other ways do better, or should: windows of eight sizes over one stream, and sums of
//! integers that slide by 64.
//!
//! *Sizes*: SUM(job) by category over windows of 2 s to 256 s that hop by a second. Holm runs the eight together, with
//! panes that they share, each by the way that costs it least; beside it each of them runs alone, told to use two
//! stacks.
//!
//! *Slides*: values of four bytes that lie in memory, windows of 4,096 of them that hop by 64. Holm runs a query with a
//! value each microsecond; beside it a loop pushes each value on two stacks and asks after each 64th.

use std::fmt::Write as _;
use std::hint::black_box;
use std::time::Instant;

use holm_base::Prng;
use holm_engine::{Limits, Node, Plan, Run, Several};
use holm_lanes::{Batch, Lane, Narrow, Values};
use holm_window::Strategy;

use crate::case::CASES;
use crate::data::{self, BATCH};
use crate::measure::{Asked, middle, planned_of, real};

fn query(size: u64) -> Plan {
    let sql = format!(
        "CREATE TABLE task (ts TIMESTAMP(3), job BIGINT, event_type INT, category INT, cpu DOUBLE, \
         WATERMARK FOR ts AS ts) WITH ('connector'='stdin'); \
         SELECT window_start, category, SUM(job) AS jobs \
         FROM HOP(TABLE task, DESCRIPTOR(ts), INTERVAL '1' SECOND, INTERVAL '{size}' SECOND) \
         GROUP BY window_start, window_end, category"
    );
    planned_of(&sql).plan
}

fn by(mut plan: Plan, way: Strategy) -> Plan {
    for node in &mut plan.nodes {
        if let Node::Window { strategy, .. } = node {
            *strategy = Some(way);
        }
    }
    plan
}

fn batches(asked: &Asked) -> Vec<Batch> {
    let case = CASES.first().expect("there are queries");
    let columns = data::columns(case, &data::rows(case, asked.rows));
    let numbered = (0..).zip(columns);
    numbered
        .map(|(at, batch)| data::numbered(batch, at * BATCH))
        .collect()
}

/// Seconds of each by itself, and how many rows came out of each.
fn alone(plans: &[Plan], batches: &[Batch]) -> (f64, Vec<u64>) {
    let mut runs: Vec<Run> = plans
        .iter()
        .map(|plan| Run::new(plan, Limits::default(), vec![]))
        .collect();
    let begun = Instant::now();
    for run in &mut runs {
        for batch in batches {
            black_box(run.push(0, batch.clone()).expect("it holds what it must"));
        }
    }
    let seconds = begun.elapsed().as_secs_f64();
    (seconds, runs.iter().map(|run| run.counts().out).collect())
}

fn together(plans: &[Plan], batches: &[Batch]) -> (f64, Vec<u64>) {
    let none: &[Batch] = &[];
    let queries: Vec<(&Plan, &[Batch])> = plans.iter().map(|plan| (plan, none)).collect();
    let mut several = Several::new(&queries, Limits::default());
    let begun = Instant::now();
    for batch in batches {
        black_box(
            several
                .push(0, batch.clone())
                .expect("it holds what it must"),
        );
    }
    let seconds = begun.elapsed().as_secs_f64();
    let out = (0..plans.len()).map(|query| several.report(query).counts.out);
    (seconds, out.collect())
}

/// Eight sizes together, and two stacks for each.
pub(crate) fn sizes(asked: &Asked) -> String {
    let plans: Vec<Plan> = (1..=8).map(|power| query(1 << power)).collect();
    let stacks = plans.iter().cloned();
    let stacks: Vec<Plan> = stacks.map(|plan| by(plan, Strategy::TwoStacks)).collect();
    let batches = batches(asked);
    let (mut own, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..asked.rounds {
        let (seconds, out) = together(&plans, &batches);
        own.push(seconds);
        let (seconds, other) = alone(&stacks, &batches);
        theirs.push(seconds);
        assert_eq!(out, other, "the same rows come out");
    }
    let (own, theirs) = (middle(own, asked.is_best), middle(theirs, asked.is_best));
    let rate = |seconds: f64| real(asked.rows) / seconds / 1e6;
    format!(
        "eight sizes, {} records: together {:.1} M/s, two stacks for each {:.1} M/s: {:.2} times as fast\n",
        asked.rows,
        rate(own),
        rate(theirs),
        theirs / own
    )
}

const SLIDE: usize = 64;
const WINDOW: usize = 4_096;

/// Two stacks, a value at a time: the sum of the last window after each slide.
fn scalar(values: &[i32]) -> (i64, usize) {
    let mut ring = vec![0_i64; WINDOW];
    // What is left of the front, from each value on.
    let mut front = vec![0_i64; WINDOW + 1];
    let (mut back, mut pushed, mut left) = (0_i64, 0_usize, 0_usize);
    let (mut all, mut windows) = (0_i64, 0_usize);
    for (at, value) in values.iter().enumerate() {
        if pushed + left == WINDOW {
            if left == 0 {
                // The back becomes the front.
                let mut sum = 0;
                for place in 0..WINDOW {
                    sum += ring[(at + WINDOW - 1 - place) % WINDOW];
                    front[place + 1] = sum;
                }
                (left, back, pushed) = (WINDOW, 0, 0);
            }
            left -= 1;
        }
        ring[at % WINDOW] = i64::from(*value);
        back += i64::from(*value);
        pushed += 1;
        if (at + 1) % SLIDE == 0 && pushed + left == WINDOW {
            all = all.wrapping_add(front[left] + back);
            windows += 1;
        }
    }
    (all, windows)
}

/// The same by a query: the sum of all windows that are whole, and how many there are.
fn queried(run: &mut Run, batches: &[Batch]) -> (i64, usize) {
    let (mut all, mut windows) = (0_i64, 0);
    for batch in batches {
        let out = run.push(0, batch.clone()).expect("it holds what it must");
        let sums = out.lanes[1].ints().expect("sums of integers are such");
        let starts = out.lanes[0].ints().expect("a time is an integer");
        for (start, sum) in starts.iter().zip(sums) {
            if *start >= 0 {
                all = all.wrapping_add(*sum);
                windows += 1;
            }
        }
    }
    (all, windows)
}

/// Sums of integers that slide by 64.
pub(crate) fn slides(asked: &Asked) -> String {
    let sql = format!(
        "CREATE TABLE t (ts TIMESTAMP(6), v INT, WATERMARK FOR ts AS ts) WITH ('connector'='stdin'); \
         SELECT window_start, SUM(v) AS v \
         FROM HOP(TABLE t, DESCRIPTOR(ts), INTERVAL '0.{SLIDE:06}' SECOND, INTERVAL '0.{WINDOW:06}' SECOND) \
         GROUP BY window_start, window_end"
    );
    let planned = planned_of(&sql);
    let mut prng = Prng::new(3);
    let made =
        (0..asked.rows / SLIDE * SLIDE).map(|_| i32::try_from(prng.below(1_000)).expect("small"));
    let values: Vec<i32> = made.collect();
    // A value behind them closes the last window.
    let last = [0];
    let batches: Vec<Batch> = (0..)
        .zip(values.chunks(BATCH).chain([last.as_slice()]))
        .map(|(at, piece)| {
            let first = i64::try_from(values.len().min(at * BATCH)).expect("memory is smaller");
            let times = (first..).take(piece.len()).collect();
            let lanes = vec![
                Lane::dense(Values::Int(times)),
                Lane::narrow(Narrow::Ints(piece.to_vec())),
            ];
            data::numbered(Batch::of(lanes), at * BATCH)
        })
        .collect();
    let (mut own, mut theirs, mut found) = (Vec::new(), Vec::new(), 0);
    for _ in 0..asked.rounds {
        let mut run = Run::new(&planned.plan, Limits::default(), vec![]);
        let begun = Instant::now();
        let (sum, windows) = queried(&mut run, &batches);
        own.push(begun.elapsed().as_secs_f64());
        let begun = Instant::now();
        let (other, more) = scalar(&values);
        theirs.push(begun.elapsed().as_secs_f64());
        assert_eq!((sum, windows), (other, more), "both see the same windows");
        found = windows;
    }
    let (own, theirs) = (middle(own, asked.is_best), middle(theirs, asked.is_best));
    let rate = |seconds: f64| real(asked.rows) / seconds / 1e6;
    let mut text = String::new();
    writeln!(
        text,
        "a slide of {SLIDE}, windows of {WINDOW}, {} values, {found} windows: Holm {:.1} M/s, scalar two stacks {:.1} M/s: {:.2} times as fast",
        asked.rows,
        rate(own),
        rate(theirs),
        theirs / own
    )
    .expect("a string takes all");
    text
}
