//! 'dedup': a row that is sent again counts once, against a dumb twin, however rows are cut.

use std::collections::VecDeque;

use holm_base::Prng;
use holm_connect::{Format, write};
use holm_engine::{Limits, Run};
use holm_lanes::{Batch, Lane, LaneBuilder, Loader, Marks, Origin, Saver, Scalar, Shape, Values};
use holm_sql::{Known, Planned, explain, parse, plan};

const TABLE: &str = "CREATE TABLE t (ts TIMESTAMP(3), device STRING, n BIGINT, v BIGINT, WATERMARK FOR ts AS ts - INTERVAL '1' HOUR) \
    WITH ('connector'='mqtt', 'dedup'='device, n'); ";
const QUERY: &str = "SELECT device, n, v FROM t";
/// Half an hour.
const HALF: i64 = 1_800_000_000;

fn planned(query: &str) -> Result<Planned, String> {
    let script = parse(&format!("{TABLE}{query}")).map_err(|refusal| refusal.to_string())?;
    plan(&script, &Known::default()).map_err(|refusal| refusal.to_string())
}

/// Time, device, number, value.
type Row = (i64, Option<u8>, i64, i64);

/// Rows of four devices that count; one in three is one of the last rows again, and some have no
/// device.
fn rows(seed: u64, step: u64) -> Vec<Row> {
    let mut prng = Prng::new(seed);
    let mut below = |bound: u64| i64::try_from(prng.below(bound)).expect("small");
    let (mut made, mut at): (Vec<Row>, i64) = (Vec::new(), 0);
    for value in 0..3_000 {
        at += below(step);
        let back = usize::try_from(below(200)).expect("small");
        if below(3) == 0 && back < made.len() {
            let row = made[made.len() - 1 - back];
            made.push((row.0, row.1, row.2, value));
            continue;
        }
        let device = below(5);
        let device = u8::try_from(device).ok().filter(|device| *device < 4);
        made.push((at / 1_000 * 1_000, device, below(1 << 40), value));
    }
    made
}

fn batch(rows: &[Row], first: u64) -> Batch {
    let ints = |of: fn(&Row) -> i64| Lane::dense(Values::Int(rows.iter().map(of).collect()));
    let mut devices = LaneBuilder::new(Shape::Text);
    for row in rows {
        let name = row.1.map(|device| Scalar::Text(format!("d{device}")));
        devices.push(&name.unwrap_or(Scalar::Null));
    }
    let lanes = vec![
        ints(|row| row.0),
        devices.finish(),
        ints(|row| row.2),
        ints(|row| row.3),
    ];
    let mut batch = Batch::of(lanes);
    batch.origin = Origin::Run(first);
    batch.marks.after = Marks::START;
    batch
}

/// The values of the rows that count: two lists, the newer and the older.
fn twin(rows: &[Row], half: usize) -> (Vec<i64>, u64) {
    let (mut newer, mut older) = (VecDeque::new(), VecDeque::new());
    let (mut begun, mut latest, mut forgotten) = (None, i64::MIN, 0);
    let mut kept = Vec::new();
    for (time, device, number, value) in rows {
        begun.get_or_insert(*time);
        latest = latest.max(*time);
        let age = latest - begun.expect("it is there");
        for _ in 0..(age / HALF).min(2) {
            forgotten += older.len();
            older = std::mem::take(&mut newer);
            begun = Some(latest);
        }
        let key = (device, number);
        if device.is_some() && (newer.contains(&key) || older.contains(&key)) {
            continue;
        }
        kept.push(*value);
        if device.is_some() {
            newer.push_back(key);
        }
        if newer.len() == half {
            forgotten += older.len();
            older = std::mem::take(&mut newer);
            begun = Some(latest);
        }
    }
    (kept, u64::try_from(forgotten).expect("small"))
}

#[test]
fn a_row_that_comes_again_counts_once_as_long_as_it_is_remembered() {
    let planned = planned(QUERY).expect("it is right");
    // All is remembered; few rows are; rows are an hour apart after a while.
    for (limit, step) in [
        (1 << 20, 10),
        (60, 10),
        (1 << 20, 40_000_000),
        (500, 300_000_000),
    ] {
        for size in [1, 7, 5_000] {
            let limits = Limits {
                repeats: limit,
                ..Limits::default()
            };
            let rows = rows(limit as u64 + step, step);
            let fresh = || Run::new(&planned.plan, limits, vec![]);
            let (mut run, mut out, mut line) = (fresh(), String::new(), 1);
            for part in rows.chunks(size) {
                let batch = run.push(0, batch(part, line)).expect("room");
                line += u64::try_from(part.len()).expect("small");
                write(Format::Csv, &planned.plan.fields, &batch, &mut out);
                if size == 7 {
                    let mut to = Saver::new();
                    run.save(&mut to);
                    let bytes = to.finish();
                    run = fresh();
                    run.load(&mut Loader::new(&bytes))
                        .expect("what was written");
                }
            }
            let values = out
                .lines()
                .map(|line| line.rsplit(',').next().and_then(|it| it.parse().ok()));
            let values: Option<Vec<i64>> = values.collect();
            let (kept, forgotten) = twin(&rows, limit / 2);
            let all = u64::try_from(rows.len() - kept.len()).expect("small");
            assert_eq!(
                values,
                Some(kept),
                "limit {limit}, step {step}, pieces of {size}"
            );
            let [said] = run.repeated()[..] else {
                panic!("one table");
            };
            assert_eq!(
                (said.source, said.dropped, said.forgotten),
                (0, all, forgotten)
            );
            assert!(all > 20 && said.known > 0, "{all}");
            assert!(said.known <= u64::try_from(limit).expect("small"));
            assert_eq!(run.counts().rows, 3_000);
        }
    }
}

#[test]
fn queries_that_share_a_table_share_what_it_remembers() {
    let queries = [
        "SELECT v FROM t WHERE n > 5",
        "SELECT n, COUNT(*) AS c FROM TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '1' SECOND) GROUP BY window_start, window_end, n",
    ];
    let plans = queries.map(|query| planned(query).expect("it is right").plan);
    let none: &[Batch] = &[];
    let both = [(&plans[0], none), (&plans[1], none)];
    let several = holm_engine::Several::new(&both, Limits::default());
    assert_eq!(several.repeated().len(), 1);
    assert!(
        several.points(0).is_empty(),
        "rows that a filter drops must be known again after a crash"
    );
}

#[test]
fn what_is_remembered_is_explained_and_what_is_no_column_refused() {
    let said = explain(&planned(QUERY).expect("it is right"));
    assert!(
        said.contains("rows with the same device, n count once"),
        "{said}"
    );
    let text = format!("{}{QUERY}", TABLE.replace("'device, n'", "'device,m'"));
    let script = parse(&text).expect("it is text");
    let refusal = plan(&script, &Known::default())
        .expect_err("no such column")
        .to_string();
    assert!(refusal.contains("'dedup' names \"m\""), "{refusal}");
}
