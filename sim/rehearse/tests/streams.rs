//! Streams in scenarios: what is refused, what a run shows, and that a tape is a run.

use holm_rehearse::{Options, Report, Silent, parse, parse_beside, replay, run};

const STREAM: &str = r#"
[[stream]]
name = "load"
site = "a"
source = { generator = "cluster", rate = "100/s", rows = 300, disorder = "1s" }
sql = '''
CREATE TABLE task (ts TIMESTAMP(3), category INT, n BIGINT, WATERMARK FOR ts AS ts - INTERVAL '1' SECOND)
  WITH ('connector'='http');
SELECT window_start, window_end, category, COUNT(*) AS n
FROM TUMBLE(TABLE task, DESCRIPTOR(ts), INTERVAL '1' SECOND) GROUP BY window_start, window_end, category;
'''
"#;

const PROMISE: &str = r#"
[[promise]]
check = ["once", "watermark", "bounded", "heals"]
"#;

fn scenario(order: &str, more: &str) -> String {
    format!(
        "format = 1\nname = \"s\"\nwhy = \"To see.\"\n[run]\n{order}\n[[site]]\nnames = [\"a\", \"b\"]\n{STREAM}{more}{PROMISE}"
    )
}

const HUNT: &str = "order = \"hunt\"\nlength = \"3000 choices\"\nheal = \"60s\"\ninformative = 5";
const TIMED: &str = "length = \"10s\"\nwarmup = \"1s\"\ninformative = 5";

fn played(text: &str, runs: u64) -> Report {
    let scenario = parse(text, "s.toml", &[]).unwrap_or_else(|refusal| panic!("{refusal}"));
    let options = Options {
        runs: Some(runs),
        ..Options::default()
    };
    run(&scenario, &options, &mut Silent)
}

fn refused(text: &str) -> String {
    let refusal = parse(text, "s.toml", &[]).expect_err("it is refused");
    refusal.to_string()
}

#[test]
fn what_streams_have_not_is_refused_by_name() {
    let with = |from: &str, to: &str| refused(&scenario(HUNT, "").replace(from, to));
    for (from, to, wanted) in [
        ("site = \"a\"", "site = \"c\"", "site names c"),
        (
            "site = \"a\"",
            "site = \"a\"\nwait = \"all\"",
            "wait: streams that islands share",
        ),
        ("\"cluster\"", "\"campaigns\"", "these are: cluster, grid"),
        ("rows = 300", "keys = 3", "source knows no `keys`"),
        (", rows = 300", "", "a hunt's sources need `rows`"),
        (
            "category INT",
            "category INT, color INT",
            "a column color, which the generator does not give",
        ),
        ("GROUP BY", "GROUPED BY", "sql: 4:"),
        (
            "source =",
            "sink = \"kafka\"\nsource =",
            "sink kafka is not rehearsed",
        ),
        (
            "source =",
            "sink = \"keyspace\"\nsource =",
            "with PRIMARY KEY",
        ),
        (
            "\"once\", ",
            "\"linearizable\", ",
            "linearizable is not judged of streams",
        ),
        (", \"b\"]", "]\nnodes = 2", "leave `nodes` out"),
    ] {
        let said = with(from, to);
        assert!(said.contains(wanted), "{to}: {said}");
    }
}

#[test]
fn queries_may_stand_in_a_file_beside_the_scenario() {
    let whole = scenario(HUNT, "");
    let (head, rest) = whole.split_once("sql = '''").expect("it has queries");
    let (sql, tail) = rest.split_once("'''").expect("they end");
    let text = format!("{head}sql = {{ file = \"load.sql\" }}{tail}");
    let beside = |name: &str| match name {
        "load.sql" => Ok(sql.to_owned()),
        other => Err(format!("{other} is not there")),
    };
    parse_beside(&text, "s.toml", &[], &beside).expect("it is there");
    let other = text.replace("load.sql", "other.sql");
    let refusal = parse_beside(&other, "s.toml", &[], &beside).expect_err("it is not there");
    assert_eq!(
        refusal.to_string(),
        "s.toml:16: sql: other.sql is not there"
    );
}

#[test]
fn streams_and_keyspaces_are_not_in_one_scenario() {
    for more in [
        "[[keyspace]]\nname = \"k\"\nsites = [\"a\"]\n",
        "[[clients]]\nat = \"a\"\n",
        "[[link]]\nname = \"wan\"\nbetween = [\"a\", \"b\"]\none_way = \"1ms\"\n",
    ] {
        let said = refused(&scenario(HUNT, more));
        assert!(
            said.contains("streams or keyspaces, not both yet"),
            "{said}"
        );
    }
    let cut = "[[fault]]\nat = \"1s\"\ncut = \"a\"\n";
    assert!(refused(&scenario(TIMED, cut)).contains("hears no other site"));
    let drop = "[faults]\nweights = { drop = 3 }\n";
    assert!(refused(&scenario(HUNT, drop)).contains("drop strikes no stream"));
    let second = STREAM.replace("\"load\"", "\"other\"");
    assert!(refused(&scenario(HUNT, &second)).contains("a has a stream"));
    let figure = "[[promise]]\nmeasure = \"put.p50\"\nat_most = \"1s\"\n";
    assert!(refused(&scenario(TIMED, figure)).contains("put.p50 is not measured of streams"));
}

#[test]
fn a_run_of_streams_is_a_function_of_its_seed_and_has_figures() {
    let crash = "[[fault]]\nat = \"4s\"\nfor = \"2s\"\ncrash = \"a\"\n\
                 [[promise]]\nmeasure = \"recovery\"\nat_most = \"3s\"\n\
                 [[promise]]\nmeasure = \"completeness\"\nat_least = \"100%\"\n";
    // Rows without end: the run is as long as it says.
    let text = scenario(TIMED, crash).replace(", rows = 300", "");
    let (first, again) = (played(&text, 4), played(&text, 4));
    let said = first.to_text();
    assert_eq!(first.hash(), again.hash());
    assert_eq!(first.exit_code(), 0, "{said}");
    for wanted in [
        "stream.latency.p50",
        "stream.lag.p50",
        "late 0 %",
        "completeness 100 %",
        "recovery",
    ] {
        assert!(said.contains(wanted), "{wanted}: {said}");
    }
    assert!(said.contains("may not be quoted"), "work is free: {said}");
    assert!(first.to_html().contains("stream.latency.p50"));
}

/// More disorder than the bound: rows are late, and windows that they belong to are not complete.
#[test]
fn late_rows_are_counted_and_leave_results_incomplete() {
    let promise = "[[promise]]\nmeasure = \"late\"\nat_least = \"10%\"\n\
                   [[promise]]\nmeasure = \"completeness\"\nat_most = \"30%\"\n";
    let text = scenario(TIMED, promise).replace(", rows = 300", "");
    let text = text.replace("disorder = \"1s\"", "disorder = \"5s\"");
    let report = played(&text, 3);
    assert_eq!(report.exit_code(), 0, "{}", report.to_text());
}

/// A bound that nothing can keep is broken, with what was measured.
#[test]
fn a_promise_about_streams_can_break() {
    let promise = "[[promise]]\nmeasure = \"stream.lag.p50\"\nat_most = \"900ms\"\n";
    let text = scenario(TIMED, promise).replace(", rows = 300", "");
    let report = played(&text, 3);
    assert_eq!(report.exit_code(), 1, "{}", report.to_text());
}

#[test]
fn sinks_afar_that_lose_answers_get_each_row_once() {
    let sink =
        "sink = { kind = \"keyspace\", delay = \"exp(20ms)\", fails = 0.1, loses = 0.2 }\nsource =";
    let table = "CREATE TABLE sums (window_start TIMESTAMP(3), window_end TIMESTAMP(3), category INT, n BIGINT,\n\
                 PRIMARY KEY (window_start, category) NOT ENFORCED) WITH ('connector'='keyspace');\nINSERT INTO sums SELECT";
    let text = scenario(HUNT, "")
        .replace("source =", sink)
        .replace("SELECT", table);
    let report = played(&text, 60);
    assert_eq!(report.exit_code(), 0, "{}", report.to_text());
}

#[test]
fn a_tape_of_streams_replays_to_the_same_trace() {
    // Results wait for the bound, so that a second before them is never kept, and the run fails.
    let text = scenario(HUNT, "").replace("heal = \"60s\"", "heal = \"1ns\"");
    let scenario = parse(&text, "s.toml", &[]).expect("it is well formed");
    let options = Options {
        runs: Some(20),
        shrink: Some(std::time::Duration::ZERO),
        ..Options::default()
    };
    let report = run(&scenario, &options, &mut Silent);
    let failure = report.failure().expect("nothing settles in a nanosecond");
    assert_eq!(failure.judge, "heals");
    let options = Options {
        tape: Some(failure.tape.clone()),
        ..options
    };
    let again = replay(&scenario, &options, &mut Silent).expect("it is a tape");
    let said = again.failure().map(|found| found.place.clone());
    assert_eq!(said.as_deref(), Some(failure.place.as_str()));
}

/// A site that one fault holds down stays down, whatever else ends meanwhile.
#[test]
fn an_outage_lasts_as_long_as_it_says() {
    let long = "[[fault]]\nname = \"long\"\nat = \"3s\"\nfor = \"5s\"\ncrash = \"a\"\n\
                [[promise]]\nmeasure = \"recovery\"\nat_least = \"4900ms\"\n";
    let short = "[[fault]]\nname = \"short\"\nat = \"4s\"\nfor = \"1s\"\npower = \"a\"\n";
    // The stream ends by itself, and would be started again in the middle.
    let failed = "[[fault]]\nname = \"failed\"\nat = \"2500ms\"\nsync_fail = \"a\"\n";
    for more in [short, failed] {
        let text = scenario(TIMED, &format!("{long}{more}")).replace(", rows = 300", "");
        let report = played(&text, 3);
        assert_eq!(report.exit_code(), 0, "{}", report.to_text());
    }
}

/// Lines that are no rows are diverted, by the stream and by who judges it.
#[test]
fn lines_that_are_no_rows_are_counted_and_not_missed() {
    let text = scenario(HUNT, "").replace("n BIGINT", "job TINYINT, n BIGINT");
    let text = text.replace("COUNT(*) AS n", "COUNT(*) AS n, SUM(job) AS jobs");
    let report = played(&text, 20);
    assert_eq!(report.exit_code(), 0, "{}", report.to_text());
}

/// Rows of one time count in the order in which they came.
#[test]
fn results_that_depend_on_the_order_of_rows_are_complete() {
    let promise = "[[promise]]\nmeasure = \"completeness\"\nat_least = \"100%\"\n";
    let text = scenario(TIMED, promise)
        .replace("\"100/s\", rows = 300", "\"2000/s\"")
        .replace("category INT", "category INT, job BIGINT")
        .replace("COUNT(*) AS n", "COUNT(*) AS n, LAST_VALUE(job) AS job");
    let report = played(&text, 2);
    assert_eq!(report.exit_code(), 0, "{}", report.to_text());
}

/// Rows that only carry their window come out before it ends.
#[test]
fn only_windows_that_close_are_held_against_the_watermark() {
    let text = scenario(HUNT, "")
        .replace("COUNT(*) AS n", "n")
        .replace(" GROUP BY window_start, window_end, category", "");
    let report = played(&text, 10);
    assert_eq!(report.exit_code(), 0, "{}", report.to_text());
}
