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

/// What would only show as a promise that breaks is refused where it is said.
#[test]
fn what_could_not_be_kept_is_refused_before_the_run() {
    let with = |head: &str, from: &str, to: &str| refused(&scenario(head, "").replace(from, to));
    let keyspace = "sink = { kind = \"keyspace\", fails = 0.6, loses = 0.5 }\nsource =";
    for (from, to, wanted) in [
        (
            "source =",
            keyspace,
            "s.toml:15: fails and loses are 1 together at most",
        ),
        (
            "ts TIMESTAMP(3)",
            "ts TIMESTAMP_LTZ(3) METADATA FROM 'timestamp'",
            "s.toml:16: sql: task has METADATA in ts, which no generator gives: leave METADATA out",
        ),
        (
            "category INT",
            "category BOOLEAN",
            "s.toml:16: sql: task has category BOOLEAN, and the generator gives INT: write category INT",
        ),
        (
            "n BIGINT",
            "device INT, n BIGINT",
            "s.toml:16: sql: task has device INT, and the generator gives STRING: write device STRING",
        ),
    ] {
        let said = with(HUNT, from, to);
        assert!(said.contains(wanted), "{to}: {said}");
    }
    let flips = "[faults]\nat_most = { flip = 2 }\n";
    let said = refused(&scenario(HUNT, flips));
    assert!(said.contains("write flip = 1"), "{said}");
    let elsewhere = "[[promise]]\nmeasure = \"stream.lag.p50\"\nat = \"b\"\nat_most = \"1s\"\n";
    let said = refused(&scenario(TIMED, elsewhere));
    assert!(
        said.contains("at names b, where no stream runs; one runs at a"),
        "{said}"
    );
    let said = with(TIMED, "\"100/s\", rows = 300", "\"300000/s\"");
    let wanted = "s.toml:11: a run has 2000000 rows at most, and this one 3000000: lower `rate`, `rows` or the run's `length`";
    assert!(said.contains(wanted), "{said}");
    let said = with(TIMED, "\"100/s\"", "\"0.0001/s\"");
    assert!(
        said.contains("rate lies between 0.001/s and 1000000/s"),
        "{said}"
    );
}

/// All rows that are due are sent, however many or few they are.
#[test]
fn rates_are_played_as_they_are_promised() {
    let text = |length: &str, rate: &str| {
        let timed = format!("length = \"{length}\"\nwarmup = \"100ms\"\ninformative = 5");
        scenario(&timed, "").replace("\"100/s\", rows = 300", &format!("\"{rate}\""))
    };
    // A row each two seconds, each of them a request.
    let report = played(&text("60s", "0.5/s"), 2);
    let runs = report.runs();
    let requests = report.acknowledged();
    assert!(
        (29 * runs..=31 * runs).contains(&requests),
        "{requests} in {runs} runs"
    );
    // Requests have 1,024 rows at most.
    let report = played(&text("1s", "150000/s"), 1);
    let (runs, requests) = (report.runs(), report.acknowledged());
    assert!(requests >= 146 * runs, "{requests} in {runs} runs");
}

/// Rows of a long outage are as old as when they were due, not as when there was room for them.
#[test]
fn rows_are_as_old_as_they_were_due() {
    let timed = "length = \"35s\"\nwarmup = \"1s\"\ninformative = 5";
    let crash = "[[fault]]\nat = \"1s\"\nfor = \"30s\"\ncrash = \"a\"\n\
                 [[promise]]\nmeasure = \"stream.latency.p50\"\nphase = \"after\"\nat_least = \"10s\"\n";
    let text = scenario(timed, crash).replace(", rows = 300", "");
    let report = played(&text, 3);
    assert_eq!(report.exit_code(), 0, "{}", report.to_text());
}

/// What a sender could not send is said.
#[test]
fn a_sender_at_its_limit_is_reported() {
    let timed = "length = \"30s\"\nwarmup = \"1s\"\ninformative = 5";
    let crash = "[[fault]]\nat = \"2s\"\nfor = \"60s\"\ncrash = \"a\"\n";
    let text = scenario(timed, crash).replace(", rows = 300", "");
    let report = played(&text, 3);
    let wanted = "rows were due and not sent, for 1024 requests waited for answers";
    assert!(report.to_text().contains(wanted), "{}", report.to_text());
    assert!(report.to_json().contains(wanted), "{}", report.to_json());
    let calm = played(&scenario(TIMED, ""), 3);
    assert!(!calm.to_text().contains("not sent"), "{}", calm.to_text());
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

/// A file that a site's stream follows is read by its place: each row once, whatever ends when.
#[test]
fn a_followed_file_gets_each_row_once() {
    let file = |head: &str, more: &str| {
        let from = "{ generator = \"cluster\"";
        scenario(head, more).replace(from, "{ kind = \"file\", generator = \"cluster\"")
    };
    let report = played(&file(HUNT, ""), 100);
    assert_eq!(report.exit_code(), 0, "{}", report.to_text());
    let promises = "[[fault]]\nat = \"4s\"\nfor = \"2s\"\npower = \"a\"\n\
                    [[promise]]\nmeasure = \"completeness\"\nat_least = \"100%\"\n\
                    [[promise]]\nmeasure = \"stream.latency.p50\"\nphase = \"before\"\nat_most = \"30ms\"\n";
    let text = file(TIMED, promises).replace(", rows = 300", "");
    let report = played(&text, 3);
    assert_eq!(report.exit_code(), 0, "{}", report.to_text());
    let keyed = file(HUNT, "").replace("rows = 300", "rows = 300, key = true");
    assert!(refused(&keyed).contains("a file is read by its place"));
}
