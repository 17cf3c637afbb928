//! What a run holds is bounded, and each bound has its answer.

use holm_connect::{Generator, Recipe};
use holm_engine::{Limits, Run};
use holm_sql::{Known, Planned, parse, plan};

const TABLES: &str = include_str!("queries/tables.txt");
const OF_WINDOWS: &str = "SELECT window_start, window_end, job, SUM(cpu) AS cpu \
    FROM TUMBLE(TABLE task, DESCRIPTOR(ts), INTERVAL '10' SECOND) GROUP BY window_start, window_end, job";

fn planned(query: &str) -> Planned {
    let script = parse(&format!("{TABLES}{query}")).unwrap_or_else(|refusal| panic!("{refusal}"));
    let bounded = script.tables().iter().map(|table| table.name.clone());
    let known = Known {
        bounded: bounded.collect(),
        ..Known::default()
    };
    plan(&script, &known).unwrap_or_else(|refusal| panic!("{refusal}"))
}

/// Runs over so many events; how it ended, with what was counted and the most bytes held.
fn ended(query: &str, limits: Limits, rows: u64) -> (Result<(), String>, Run, usize) {
    let planned = planned(query);
    let mut run = Run::new(&planned.plan, limits, vec![]);
    let mut generator = Generator::new(Recipe::Cluster, 1, rows, (20_000, 0));
    let mut most = 0;
    while let Some(batch) = generator.batch(500) {
        if let Err(full) = run.push(0, batch) {
            return (Err(full.to_string()), run, most);
        }
        most = most.max(run.gauge().bytes);
    }
    let end = run.end(0).map(|_| ()).map_err(|full| full.to_string());
    (end, run, most)
}

#[test]
fn a_sort_a_join_and_first_rows_end_at_their_limit_and_say_so() {
    let limits = |rows| Limits {
        rows,
        ..Limits::default()
    };
    let order = "SELECT ts, cpu FROM task ORDER BY cpu".to_owned();
    let join = format!(
        "CREATE VIEW a AS {OF_WINDOWS}; CREATE VIEW b AS {OF_WINDOWS}; SELECT a.job, a.cpu, b.cpu AS other \
         FROM a JOIN b ON a.window_start = b.window_start AND a.window_end = b.window_end AND a.job = b.job"
    );
    let first = format!(
        "SELECT job, cpu FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY window_start, window_end ORDER BY cpu DESC) \
         AS place FROM ({OF_WINDOWS})) WHERE place <= 3"
    );
    for (query, what) in [
        (order, "an order"),
        (join, "a join"),
        (first, "a list of first rows"),
    ] {
        let (end, ..) = ended(&query, limits(50), 2_000);
        assert_eq!(
            end,
            Err(format!("{what} holds 50 rows, which is the limit"))
        );
        let (end, run, _) = ended(&query, limits(10_000), 2_000);
        assert_eq!((end, run.counts().diverted), (Ok(()), 0));
        assert!(run.counts().out > 0, "{query}");
    }
}

#[test]
fn rows_with_keys_beyond_the_limit_are_diverted_and_the_others_count() {
    let mut limits = Limits::default();
    limits.window.keys = 10;
    let (end, mut run, most) = ended(OF_WINDOWS, limits, 5_000);
    assert_eq!(end, Ok(()));
    let report = run.report();
    assert!(report.counts.diverted > 1_000 && report.counts.out > 0);
    assert!(report.diverted[0].fault.to_string().contains("10"));
    assert!(most < 1 << 20, "{most} bytes");
}

#[test]
fn a_hot_key_and_a_long_stream_hold_no_more_than_a_short_one() {
    let query = "SELECT window_start, event_type, COUNT(*) AS n, MAX(cpu) AS cpu \
                 FROM HOP(TABLE task, DESCRIPTOR(ts), INTERVAL '1' SECOND, INTERVAL '10' SECOND) \
                 GROUP BY window_start, window_end, event_type";
    let (_, _, short) = ended(query, Limits::default(), 5_000);
    let (end, _, long) = ended(query, Limits::default(), 50_000);
    assert_eq!(end, Ok(()));
    assert!(
        long <= short + short / 10,
        "{long} bytes after ten times the rows, {short} before"
    );
}

#[test]
fn an_absurd_window_is_refused_in_planning() {
    let text = format!(
        "{TABLES}SELECT window_start, COUNT(*) AS n FROM HOP(TABLE task, DESCRIPTOR(ts), INTERVAL '0.007' SECOND, \
         INTERVAL '1' HOUR) GROUP BY window_start, window_end"
    );
    let script = parse(&text).unwrap_or_else(|refusal| panic!("{refusal}"));
    let refused = plan(&script, &Known::default()).unwrap_err().to_string();
    assert!(
        refused.contains("3600000") || refused.contains("3,600,000"),
        "{refused}"
    );
}
