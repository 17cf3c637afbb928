//! Runs that take turns, and what they come to.

use std::hint::black_box;
use std::sync::mpsc::sync_channel;
use std::time::Instant;

use holm_engine::{Limits, Run};
use holm_lanes::{Batch, Values};
use holm_sql::{Known, Planned, parse, plan};

use crate::case::{Case, Wire};
use crate::data::{self, BATCH, Rows};

/// What was asked for.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) rows: usize,
    pub(crate) rounds: usize,
    /// The best of all rounds, not their median: where others use the machine, too.
    pub(crate) is_best: bool,
    pub(crate) names: Vec<String>,
    pub(crate) only: Option<Only>,
    /// Exactly once beside none, in place of the table.
    pub(crate) once: Option<Once>,
}

/// What else is asked for of exactly once.
#[derive(Debug)]
pub(crate) struct Once {
    pub(crate) seconds: u64,
    pub(crate) kills: u64,
    /// The folder of a process that is to be killed, and its records a second.
    pub(crate) child: Option<(String, f64)>,
}

/// What is measured in place of the table.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Only {
    Sharing,
    Priorities,
    RowEngine,
    Sizes,
    Slides,
    Latency,
}

/// Bytes a second that one thread reads from memory, the best of five.
pub(crate) fn bandwidth() -> f64 {
    const WORDS: usize = 1 << 26;
    let words: Vec<u64> = (0..WORDS)
        .map(|at| u64::try_from(at).expect("small"))
        .collect();
    let mut best: f64 = 0.0;
    for _ in 0..5 {
        let begun = Instant::now();
        let mut sums = [0_u64; 16];
        let (blocks, _) = words.as_chunks::<16>();
        for block in blocks {
            for (sum, word) in sums.iter_mut().zip(block) {
                *sum = sum.wrapping_add(*word);
            }
        }
        black_box(sums);
        best = best.max(real(WORDS * 8) / begun.elapsed().as_secs_f64());
    }
    best
}

pub(crate) fn planned(case: &Case) -> Planned {
    planned_of(case.sql)
}

/// The plan of a query that is known to be right.
pub(crate) fn planned_of(sql: &str) -> Planned {
    let script = parse(sql).unwrap_or_else(|refusal| panic!("{sql}: {refusal}"));
    let tables = script.tables().iter().map(|table| table.name.clone());
    let known = Known {
        bounded: tables.collect(),
        ..Known::default()
    };
    plan(&script, &known).unwrap_or_else(|refusal| panic!("{sql}: {refusal}"))
}

pub(crate) fn run_of(case: &Case, planned: &Planned) -> Run {
    let tables = if case.has_table {
        vec![data::table()]
    } else {
        vec![]
    };
    Run::new(&planned.plan, Limits::default(), tables)
}

/// Ends the input, where that is what rows come from.
pub(crate) fn finish(case: &Case, run: &mut Run) -> Option<Batch> {
    case.ends
        .then(|| run.end(0).expect("it holds what it must"))
}

pub(crate) fn push(run: &mut Run, batch: Batch) {
    let out = run.push(0, batch).expect("it holds what it must");
    black_box(out.rows);
}

/// What comes out, as one number: two builds that give equal rows give equal numbers.
fn digest(case: &Case, planned: &Planned, columns: &[Batch]) -> u32 {
    let mut run = run_of(case, planned);
    let mut digest = 0xcbf2_9ce4_8422_2325_u64;
    let mut note = |word: u64| {
        let mixed = (digest ^ word).wrapping_mul(0x0100_0000_01b3);
        digest = mixed.rotate_left(29);
    };
    let mut note_all = |out: &Batch| {
        for lane in &out.lanes {
            match lane.values() {
                Values::Int(values) => values.iter().for_each(|value| note(value.cast_unsigned())),
                Values::Real(values) => values.iter().for_each(|value| note(value.to_bits())),
                other => panic!("no query here gives {:?}", other.len()),
            }
        }
    };
    for (at, batch) in columns.iter().enumerate() {
        let batch = data::numbered(batch.clone(), at * BATCH);
        note_all(&run.push(0, batch).expect("it holds what it must"));
    }
    finish(case, &mut run).iter().for_each(note_all);
    u32::try_from(digest >> 32).expect("half of a word")
}

/// Seconds for all records as rows, and how many rows came out.
pub(crate) fn rows_in(case: &Case, planned: &Planned, rows: &Rows) -> (f64, u64) {
    let mut run = run_of(case, planned);
    let begun = Instant::now();
    for (at, piece) in rows.bytes.chunks(case.row * BATCH).enumerate() {
        push(
            &mut run,
            data::numbered(data::lanes(case, &planned.needed[0], piece), at * BATCH),
        );
    }
    black_box(finish(case, &mut run));
    (begun.elapsed().as_secs_f64(), run.counts().out)
}

/// The same with one thread that takes records apart and one that runs the query, as sources and
/// keepers of streams are.
fn rows_in_two(case: &Case, planned: &Planned, rows: &Rows) -> f64 {
    let mut run = run_of(case, planned);
    let begun = Instant::now();
    std::thread::scope(|scope| {
        let (full, batches) = sync_channel(2);
        scope.spawn(move || {
            for (at, piece) in rows.bytes.chunks(case.row * BATCH).enumerate() {
                let batch = data::lanes(case, &planned.needed[0], piece);
                full.send(data::numbered(batch, at * BATCH))
                    .expect("the query takes all batches");
            }
        });
        for batch in batches {
            push(&mut run, batch);
        }
        black_box(finish(case, &mut run));
    });
    begun.elapsed().as_secs_f64()
}

/// Seconds for all records as columns.
pub(crate) fn columns_in(case: &Case, planned: &Planned, columns: &[Batch]) -> (f64, u64) {
    let mut run = run_of(case, planned);
    let begun = Instant::now();
    for (at, batch) in columns.iter().enumerate() {
        push(&mut run, data::numbered(batch.clone(), at * BATCH));
    }
    black_box(finish(case, &mut run));
    (begun.elapsed().as_secs_f64(), run.counts().out)
}

pub(crate) fn middle(mut values: Vec<f64>, is_best: bool) -> f64 {
    values.sort_by(f64::total_cmp);
    values[if is_best { 0 } else { values.len() / 2 }]
}

/// A case as a line of the table.
pub(crate) fn measure(case: &Case, asked: &Asked, memory: f64) -> String {
    let planned = planned(case);
    let rows = data::rows(case, asked.rows);
    let columns = data::columns_read(case, &planned.needed[0], &rows);
    let digest = digest(case, &planned, &columns);
    let (mut by_rows, mut by_two, mut by_columns) = (Vec::new(), Vec::new(), Vec::new());
    let mut came = 0;
    for _ in 0..asked.rounds {
        let (seconds, out) = rows_in(case, &planned, &rows);
        by_rows.push(seconds);
        by_two.push(rows_in_two(case, &planned, &rows));
        let (seconds, other) = columns_in(case, &planned, &columns);
        by_columns.push(seconds);
        assert_eq!(out, other, "rows and columns are the same records");
        came = out;
    }
    // Columns that the query does not read are not counted: nobody touches them.
    let columns = case.columns.iter().zip(&planned.needed[0]);
    let width = columns.map(|(column, is_needed)| match (is_needed, column.wire) {
        (false, _) => 0,
        (true, Wire::Long) => 8,
        (true, Wire::Int | Wire::F32) => 4,
    });
    let width = width.sum();
    let records = real(asked.rows);
    let figure = |seconds: f64, bytes: usize| {
        let rate = records / seconds;
        let speed = rate * real(bytes);
        (rate / 1e6, speed / 1e9, speed / memory * 100.0)
    };
    let (rate, speed, part) = figure(middle(by_rows, asked.is_best), case.row);
    let (two, ..) = figure(middle(by_two, asked.is_best), case.row);
    let (column_rate, column_speed, column_part) = figure(middle(by_columns, asked.is_best), width);
    let beside = case.lightsaber.map_or_else(
        || "-|-|-|-".to_owned(),
        |theirs| {
            let [rows, two, columns] = [rate, two, column_rate].map(|ours| ours / theirs);
            format!("{theirs}|{rows:.2}|{two:.2}|{columns:.2}")
        },
    );
    format!(
        "|{}|{}|{rate:.1}|{speed:.2}|{part:.0} %|{two:.1}|{}|{column_rate:.1}|{column_speed:.2}|{column_part:.0} %|{beside}|{came}|{digest:08x}|",
        case.name, case.row, width,
    )
}

#[expect(clippy::cast_precision_loss, reason = "figures have three digits")]
pub(crate) const fn real(count: usize) -> f64 {
    count as f64
}
