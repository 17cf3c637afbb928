//! UNION ALL: against a dumb twin, and against itself with input that is cut in other places.

use std::collections::BTreeMap;

use holm_base::Prng;
use holm_connect::{Format, write};
use holm_engine::{Limits, Plan, Run};
use holm_lanes::{Batch, Lane, Loader, Origin, Saver, Values};
use holm_sql::{Known, Planned, explain, parse, plan};

const TABLES: &str = "
CREATE TABLE a (ts TIMESTAMP(3), k BIGINT, n BIGINT, WATERMARK FOR ts AS ts - INTERVAL '1' SECOND) WITH ('late'='side');
CREATE TABLE b (ts TIMESTAMP(3), k BIGINT, n BIGINT, WATERMARK FOR ts AS ts - INTERVAL '2' SECOND) WITH ('late'='side');
CREATE VIEW both_ AS SELECT * FROM a UNION ALL SELECT ts, k, n FROM b;
CREATE VIEW twice AS SELECT ts, k, n FROM a WHERE n < 60 UNION ALL SELECT ts, k, 0 - n AS n FROM a WHERE n >= 30;
CREATE VIEW sums AS
  SELECT window_start, window_end, k, SUM(n) AS n FROM TUMBLE(TABLE a, DESCRIPTOR(ts), INTERVAL '2' SECOND)
  GROUP BY window_start, window_end, k
  UNION ALL
  SELECT window_start, window_end, k, COUNT(*) FROM HOP(TABLE a, DESCRIPTOR(ts), INTERVAL '1' SECOND, INTERVAL '2' SECOND)
  WHERE n > 40 GROUP BY window_start, window_end, k;
CREATE VIEW mixed AS
  SELECT ts, n FROM a
  UNION ALL
  SELECT window_time, SUM(n) FROM TUMBLE(TABLE twice, DESCRIPTOR(ts), INTERVAL '1' SECOND) GROUP BY window_start, window_end, window_time;
";

/// What is asked, over views that are unions.
const QUERIES: [&str; 8] = [
    "SELECT k, n FROM twice",
    "SELECT k, n FROM both_",
    "SELECT window_start, k, COUNT(*) AS c, SUM(n) AS s, FIRST_VALUE(n) AS f, LAST_VALUE(n) AS l
     FROM TUMBLE(TABLE both_, DESCRIPTOR(ts), INTERVAL '2' SECOND) GROUP BY window_start, window_end, k",
    "SELECT window_start, k, SUM(n) AS n, FIRST_VALUE(n) AS f
     FROM HOP(TABLE twice, DESCRIPTOR(ts), INTERVAL '1' SECOND, INTERVAL '3' SECOND) GROUP BY window_start, window_end, k",
    "SELECT * FROM sums",
    "SELECT window_start, window_end, k, SUM(n) AS n, FIRST_VALUE(n) AS f FROM sums GROUP BY window_start, window_end, k",
    "SELECT window_start, k, n FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY window_start, window_end ORDER BY n) AS place
     FROM sums) WHERE place <= 2",
    "SELECT window_start, window_end, COUNT(*) AS c, SUM(n) AS n, FIRST_VALUE(n) AS f
     FROM SESSION(TABLE mixed, DESCRIPTOR(ts), INTERVAL '1' SECOND) GROUP BY window_start, window_end",
];

fn planned(query: &str) -> Planned {
    let script = parse(&format!("{TABLES}{query}")).unwrap_or_else(|refusal| panic!("{refusal}"));
    plan(&script, &Known::default()).unwrap_or_else(|refusal| panic!("{refusal}"))
}

/// A row: whether it is of the second table, time, key, number.
type Row = (bool, i64, i64, i64);

/// Rows that rise to 200 s, some of them far too late; tables take turns at random.
fn rows(seed: u64) -> Vec<Row> {
    let mut prng = Prng::new(seed);
    let mut below = |bound: u64| i64::try_from(prng.below(bound)).expect("small");
    let mut at = 10_000_000;
    let mut is_second = false;
    let row = |_| {
        at += below(300_000);
        let most = if below(6) == 0 { 8_000_000 } else { 900_000 };
        let behind = below(most);
        is_second ^= below(5) == 0;
        (
            is_second,
            (at - behind) / 1_000 * 1_000,
            below(4),
            below(100),
        )
    };
    (0..1_200).map(row).collect()
}

fn batch(rows: &[Row], first: u64) -> Batch {
    let lane = |of: fn(&Row) -> i64| Lane::dense(Values::Int(rows.iter().map(of).collect()));
    let lanes = vec![lane(|row| row.1), lane(|row| row.2), lane(|row| row.3)];
    let mut batch = Batch::of(lanes);
    batch.origin = Origin::Run(first);
    batch
}

/// Which source of a plan is which table, if it is read.
fn source(plan: &Plan, is_second: bool) -> Option<usize> {
    let name = if is_second { "b" } else { "a" };
    plan.sources.iter().position(|source| source.name == name)
}

/// What comes out of rows that are cut into batches of so many at most; with `saves` the state is
/// written and read back after each.
fn answer(planned: &Planned, rows: &[Row], size: usize, saves: bool) -> String {
    let plan = &planned.plan;
    let fresh = || Run::new(plan, Limits::default(), vec![]);
    let mut run = fresh();
    let (mut out, mut said, mut lines) = (String::new(), String::new(), [1, 1]);
    for stretch in rows.chunk_by(|one, other| one.0 == other.0) {
        for part in stretch.chunks(size) {
            let line = &mut lines[usize::from(part[0].0)];
            let batch = batch(part, *line);
            *line += u64::try_from(part.len()).expect("small");
            let Some(source) = source(plan, part[0].0) else {
                continue;
            };
            let batch = run.push(source, batch).expect("room");
            write(Format::JsonLines, &plan.fields, &batch, &mut out);
            let report = run.report();
            said += &format!("{:?}{:?}", report.late, report.diverted);
            if saves {
                let mut to = Saver::new();
                run.save(&mut to);
                let bytes = to.finish();
                run = fresh();
                run.load(&mut Loader::new(&bytes))
                    .expect("what was written");
            }
        }
    }
    for source in 0..plan.sources.len() {
        let batch = run.end(source).expect("room");
        write(Format::JsonLines, &plan.fields, &batch, &mut out);
    }
    let said = said.replace("[]", "").replace("][", ", ");
    format!("{out}{said}{:?}", run.counts())
}

#[test]
fn cuts_of_the_input_do_not_show_in_unions() {
    for (number, query) in QUERIES.iter().enumerate() {
        let planned = planned(query);
        for seed in 1..4 {
            let rows = rows(seed);
            let whole = answer(&planned, &rows, 10_000, false);
            assert!(whole.lines().count() > 20, "{number}: {whole}");
            for size in [1, 2, 7] {
                let cut = answer(&planned, &rows, size, false);
                assert_eq!(cut, whole, "query {number}, {size} rows a batch");
            }
            let saved = answer(&planned, &rows, 3, true);
            assert_eq!(saved, whole, "query {number}, read back");
        }
    }
}

/// Count and sum by the start of a window and its key.
type Sums = BTreeMap<(i64, i64), (i64, i64)>;

/// The third query, by a loop over rows: the watermark is the lower of two.
fn twin(rows: &[Row]) -> (Sums, usize) {
    let (mut marks, bounds) = ([i64::MIN; 2], [1_000_000, 2_000_000]);
    let (mut windows, mut late) = (Sums::new(), 0);
    for (is_second, time, key, number) in rows {
        let start = time.div_euclid(2_000_000) * 2_000_000;
        if start + 2_000_000 <= marks[0].min(marks[1]) {
            late += 1;
        } else {
            let slot = windows.entry((start, *key)).or_insert((0, 0));
            *slot = (slot.0 + 1, slot.1 + number);
        }
        let table = usize::from(*is_second);
        marks[table] = marks[table].max(time - bounds[table]);
    }
    (windows, late)
}

#[test]
fn windows_over_two_tables_wait_for_the_slower_one() {
    let planned = planned(QUERIES[2]);
    for seed in 1..20 {
        let rows = rows(seed);
        let said = answer(&planned, &rows, 50, false);
        let (windows, late) = twin(&rows);
        assert!(late > 5);
        assert!(
            said.contains(&format!("late: {late}, diverted: 0")),
            "{said}"
        );
        let mut found = said.lines().filter(|line| line.starts_with('{'));
        for ((start, key), (count, sum)) in &windows {
            let seconds = start / 1_000_000;
            let time = format!("1970-01-01T00:{:02}:{:02}.000", seconds / 60, seconds % 60);
            let wanted =
                format!("{{\"window_start\":\"{time}\",\"k\":{key},\"c\":{count},\"s\":{sum},");
            let is_there = said.lines().any(|line| line.starts_with(&wanted));
            assert!(is_there, "{wanted} of seed {seed}: {said}");
            found.next();
        }
        assert_eq!(found.next(), None, "no other window");
    }
}

#[test]
fn a_table_that_says_nothing_holds_the_windows() {
    let planned = planned(QUERIES[2]);
    let rows: Vec<Row> = (0..100).map(|at| (false, at * 1_000_000, 0, 1)).collect();
    let mut run = Run::new(&planned.plan, Limits::default(), vec![]);
    assert_eq!(run.push(0, batch(&rows, 1)).expect("room").rows, 0);
    let other = [(true, 50_000_000, 0, 1)];
    assert_eq!(run.push(1, batch(&other, 1)).expect("room").rows, 24);
    assert_eq!(
        run.end(1).expect("room").rows,
        25,
        "those that the first closed"
    );
}

#[test]
fn kinds_become_those_that_hold_both() {
    let planned = planned(
        "SELECT CAST(n AS INT) AS n, k AS x FROM a UNION ALL SELECT n, CAST(k AS DOUBLE) FROM b",
    );
    let kinds: Vec<String> = planned
        .plan
        .fields
        .iter()
        .map(|field| field.kind.to_string())
        .collect();
    assert_eq!(kinds, ["BIGINT", "DOUBLE"]);
    assert!(explain(&planned).contains("the rows of 2 queries"));
}

#[test]
fn an_order_is_of_all_rows_of_a_union() {
    let known = Known {
        bounded: vec!["a".to_owned(), "b".to_owned()],
        ..Known::default()
    };
    let query = "SELECT k, n FROM both_ WHERE n < 3 UNION ALL SELECT n, k FROM a WHERE n < 3 ORDER BY k DESC, n LIMIT 5";
    let script = parse(&format!("{TABLES}{query}")).expect("it is right");
    let planned = plan(&script, &known).expect("it is right");
    let rows = [
        (false, 1_000, 7, 1),
        (true, 2_000, 9, 2),
        (false, 3_000, 1, 0),
        (false, 1_000, 2, 9),
    ];
    let said = answer(&planned, &rows, 2, false);
    let lines: Vec<&str> = said.lines().take(5).collect();
    let wanted = [
        "{\"k\":9,\"n\":2}",
        "{\"k\":7,\"n\":1}",
        "{\"k\":1,\"n\":0}",
        "{\"k\":1,\"n\":7}",
        "{\"k\":0,\"n\":1}",
    ];
    assert_eq!(lines, wanted);
}

#[test]
fn views_that_double_are_refused_before_they_fill_the_memory() {
    let mut text = TABLES.to_owned();
    text += "CREATE VIEW v0 AS SELECT k FROM a;";
    for level in 1..30 {
        let before = level - 1;
        text += &format!(
            "CREATE VIEW v{level} AS SELECT k FROM v{before} UNION ALL SELECT k FROM v{before};"
        );
    }
    let script = parse(&format!("{text} SELECT k FROM v29")).expect("it is right");
    let refusal = plan(&script, &Known::default()).expect_err("2^29 selects");
    assert!(refusal.to_string().contains("4096 steps"), "{refusal}");
}
