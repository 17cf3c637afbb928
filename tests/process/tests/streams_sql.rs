//! The dialect through the real binary: the design's queries over generated events, EXPLAIN, and a union of a site.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use holm_process_tests::http::Connection;
use holm_process_tests::server::locate;
use holm_process_tests::sites::eventually;
use holm_process_tests::{Program, Server, Setup};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(30);

/// Recipes of events, and the tables that they fill.
const TABLES: [(&str, &str); 7] = [
    ("cluster", "task"),
    ("grid", "plug"),
    ("road", "car"),
    ("ads", "ad_event"),
    ("campaigns", "campaign"),
    ("auction", "bid"),
    ("manufacturing", "machine"),
];

fn holm(words: &[&str]) -> Result<Output> {
    Ok(Command::new(locate(Program::Holm)?).args(words).output()?)
}

fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Where the queries are that the engine's own test has, with the rows that come out.
fn queries() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../streams/connect/tests/queries")
}

/// As recorded: all of what is short, else head, tail and a sum.
fn short(rows: &str) -> String {
    let lines: Vec<&str> = rows.lines().collect();
    if lines.len() <= 24 {
        return rows.to_owned();
    }
    let sum = rows.bytes().fold(17_u64, |sum, byte| {
        (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3)
    });
    let (head, tail) = (lines[..12].join("\n"), lines[lines.len() - 8..].join("\n"));
    let count = lines.len();
    format!("{head}\n... {count} lines, sum {sum:016x}\n{tail}\n")
}

#[test]
fn the_designs_queries_give_the_recorded_rows() -> Result<()> {
    let folder = TempDir::with_prefix("holm-sql-")?;
    let mut tables = Vec::new();
    for (recipe, table) in TABLES {
        let path = folder.path().join(table).display().to_string();
        let into = format!("file:{path}");
        let words = [
            "--rows",
            "200",
            "--seed",
            "7",
            "--rate",
            "20",
            "--disorder",
            "2s",
            "--into",
            &into,
        ];
        let made = holm(&[&["stream", "gen", recipe], &words[..]].concat())?;
        ensure!(made.status.success(), "{}", told(&made));
        tables.push(format!("--table={table}={path}"));
    }
    let declared = fs::read_to_string(queries().join("tables.txt"))?;
    for name in [
        "cm1", "cm2", "sg1", "sg2", "sg3", "lrb1", "lrb2", "ysb", "q5", "q11", "me1",
    ] {
        let query = fs::read_to_string(queries().join(format!("{name}.sql")))?;
        let text = format!("{declared}{query}");
        let mut words = vec!["stream", "run", "--sql", &text];
        words.extend(tables.iter().map(String::as_str));
        let ran = holm(&words)?;
        ensure!(ran.status.success(), "{name}: {}", told(&ran));
        let told = told(&ran);
        let counts = told.lines().last().context("it says what it did")?;
        // 1,036 out; 0.0 s
        let (counts, _) = counts.rsplit_once("; ").context("and how long it took")?;
        let counts: Vec<String> = counts
            .replace("; ", ", ")
            .replace(" rows in", " in")
            .split(", ")
            .map(|count| count.replace(',', ""))
            .collect();
        let rows = String::from_utf8(ran.stdout)?;
        let said = format!("{rows}{}\n", counts.join(", "));
        let wanted = fs::read_to_string(queries().join(format!("{name}.rows")))?;
        ensure!(short(&said) == wanted, "{name}: {}", short(&said));
    }
    Ok(())
}

#[test]
fn explain_as_a_statement_says_what_the_command_says() -> Result<()> {
    let table = "CREATE TABLE t (ts TIMESTAMP(3), k INT, WATERMARK FOR ts AS ts) WITH ('connector'='stdin'); ";
    let query = "SELECT window_start, COUNT(*) AS n FROM TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '1' SECOND) \
                 GROUP BY window_start, window_end";
    let wanted = holm(&["stream", "explain", "--sql", &format!("{table}{query}")])?;
    ensure!(String::from_utf8(wanted.stdout.clone())?.contains("tumbling 1 s"));
    for word in ["EXPLAIN", "explain plan for"] {
        for command in ["run", "explain"] {
            let said = holm(&[
                "stream",
                command,
                "--sql",
                &format!("{table}{word} {query}"),
            ])?;
            ensure!(
                said.stdout == wanted.stdout,
                "{word} {command}: {}",
                told(&said)
            );
        }
    }
    for (text, wanted) in [
        (
            "EXPLAIN CREATE TABLE u (k INT)",
            "of a query or of an INSERT INTO",
        ),
        ("EXPLAIN PLAN SELECT k FROM t", "expected FOR"),
        (
            "EXPLAIN INSERT INTO a SELECT k FROM t; INSERT INTO b SELECT k FROM t",
            "of the only query",
        ),
    ] {
        let said = holm(&["stream", "run", "--sql", &format!("{table}{text}")])?;
        ensure!(
            said.status.code() == Some(2) && told(&said).contains(wanted),
            "{}",
            told(&said)
        );
    }
    Ok(())
}

/// Sends rows, again until the stream has come up.
fn post(server: &Server, stream: &str, body: &str) -> Result<()> {
    let (begun, path) = (Instant::now(), format!("/streams/{stream}/events"));
    loop {
        let mut client = Connection::open(server.streams()?)?;
        let reply = client.ask("POST", &path, &[], body.as_bytes())?;
        if reply.status == 200 {
            return Ok(());
        }
        ensure!(begun.elapsed() < PATIENCE, "{}", reply.text());
        sleep(Duration::from_millis(10));
    }
}

fn row(second: u32, k: &str) -> String {
    format!("{{\"ts\":\"2026-01-05T10:00:{second:02}\",\"k\":\"{k}\"}}\n")
}

/// A file and a door of HTTP in one window, which waits for both, through a kill.
#[test]
fn a_union_of_a_site_waits_for_both_tables_and_lives_through_a_kill() -> Result<()> {
    let folder = TempDir::with_prefix("holm-sql-")?;
    let (from, into) = (
        folder.path().join("in.jsonl"),
        folder.path().join("out.jsonl"),
    );
    fs::write(&from, row(0, "file") + &row(1, "file"))?;
    let mut server = Server::start(Setup::new(Program::Holm).with("--streams-listen=127.0.0.1:0"))?;
    let columns = "(ts TIMESTAMP(3), k STRING, WATERMARK FOR ts AS ts)";
    let sql = format!(
        "CREATE TABLE a {columns} WITH ('connector'='file', 'path'='{}'); \
         CREATE TABLE b {columns} WITH ('connector'='http'); \
         CREATE TABLE rows_out (window_start TIMESTAMP(3), k STRING, n BIGINT) WITH ('connector'='file', 'path'='{}'); \
         CREATE VIEW u AS SELECT ts, k FROM a UNION ALL SELECT ts, k FROM b UNION ALL SELECT ts, 'both' AS k FROM b; \
         INSERT INTO rows_out SELECT window_start, k, COUNT(*) AS n \
         FROM TUMBLE(TABLE u, DESCRIPTOR(ts), INTERVAL '10' SECOND) GROUP BY window_start, window_end, k",
        from.display(),
        into.display()
    );
    let at = server.streams()?.to_string();
    let refused = holm(&[
        "stream",
        "create",
        "u",
        "--at",
        &at,
        "--sql",
        &sql.replace("INSERT", "EXPLAIN INSERT"),
    ])?;
    ensure!(
        told(&refused).contains("EXPLAIN makes no stream"),
        "{}",
        told(&refused)
    );
    let made = holm(&["stream", "create", "u", "--at", &at, "--sql", &sql])?;
    ensure!(made.status.success(), "{}", told(&made));
    let post = |server: &Server, body: &str| post(server, "u", body);
    post(&server, &(row(3, "http") + &row(12, "http")))?;
    server.kill()?;
    server.again()?;
    post(&server, &row(4, "late by its table, not by both"))?;
    ensure!(
        fs::read_to_string(&into).unwrap_or_default().is_empty(),
        "the file is at 1 s yet"
    );
    let mut file = fs::OpenOptions::new().append(true).open(&from)?;
    std::io::Write::write_all(&mut file, row(11, "file").as_bytes())?;
    let line = |k: &str, n: u32| {
        format!("{{\"window_start\":\"2026-01-05T10:00:00.000\",\"k\":\"{k}\",\"n\":{n}}}")
    };
    let wanted = [
        line("both", 2),
        line("file", 2),
        line("http", 1),
        line("late by its table, not by both", 1),
    ];
    let begun = Instant::now();
    loop {
        let found = fs::read_to_string(&into).unwrap_or_default();
        let mut found: Vec<&str> = found.lines().collect();
        found.sort_unstable();
        if found == wanted {
            return Ok(());
        }
        ensure!(begun.elapsed() < PATIENCE, "{found:?}");
        sleep(Duration::from_millis(10));
    }
}

/// Rows that a client sends again without a key, before and after a kill: `dedup` says which they are.
#[test]
fn a_row_with_the_same_columns_counts_once_through_a_kill() -> Result<()> {
    let folder = TempDir::with_prefix("holm-sql-")?;
    let into = folder.path().join("out.jsonl");
    let mut server = Server::start(Setup::new(Program::Holm).with("--streams-listen=127.0.0.1:0"))?;
    let sql = format!(
        "CREATE TABLE ev (ts TIMESTAMP(3), device STRING, n BIGINT, WATERMARK FOR ts AS ts) \
         WITH ('connector'='http', 'dedup'='device,n'); \
         CREATE TABLE rows_out (window_start TIMESTAMP(3), n BIGINT) WITH ('connector'='file', 'path'='{}'); \
         INSERT INTO rows_out SELECT window_start, COUNT(*) AS n \
         FROM TUMBLE(TABLE ev, DESCRIPTOR(ts), INTERVAL '10' SECOND) GROUP BY window_start, window_end",
        into.display()
    );
    let at = server.streams()?.to_string();
    let made = holm(&["stream", "create", "once", "--at", &at, "--sql", &sql])?;
    let promise = String::from_utf8(made.stdout.clone())? + &told(&made);
    ensure!(
        promise.contains("what ev sends again counts once by device, n"),
        "{promise}"
    );
    let row = |device: &str, n: u32, second: u32| {
        format!("{{\"ts\":\"2026-01-05T10:00:{second:02}\",\"device\":\"{device}\",\"n\":{n}}}\n")
    };
    let post = |server: &Server, body: &str| post(server, "once", body);
    let first = row("a", 1, 0) + &row("b", 1, 1) + &row("a", 2, 2);
    post(&server, &(first.clone() + &first))?;
    server.kill()?;
    server.again()?;
    post(&server, &first)?;
    post(&server, &(row("b", 2, 3) + &row("a", 3, 12)))?;
    let begun = Instant::now();
    loop {
        let found = fs::read_to_string(&into).unwrap_or_default();
        if !found.is_empty() {
            ensure!(
                found == "{\"window_start\":\"2026-01-05T10:00:00.000\",\"n\":4}\n",
                "{found}"
            );
            break;
        }
        ensure!(begun.elapsed() < PATIENCE, "in vain");
        sleep(Duration::from_millis(10));
    }
    // What is shown follows what is written.
    eventually("the repeats are shown", || {
        let at = server.streams()?.to_string();
        let shown = String::from_utf8(holm(&["stream", "show", "once", "--at", &at])?.stdout)?;
        ensure!(
            shown.contains("6 of ev came again; 5 are remembered, 0 forgotten"),
            "{shown}"
        );
        Ok(())
    })?;
    let lines = folder.path().join("in.jsonl");
    fs::write(&lines, first.clone() + &first)?;
    let table = format!("ev={}", lines.display());
    let query = "CREATE TABLE ev (device STRING, n BIGINT) WITH ('connector'='mqtt', 'dedup'='device,n'); SELECT n FROM ev";
    let ran = holm(&["stream", "run", "--table", &table, "--sql", query])?;
    ensure!(
        told(&ran).contains("6 rows in, 0 late, 0 diverted, 3 repeated; 3 out"),
        "{}",
        told(&ran)
    );
    Ok(())
}
