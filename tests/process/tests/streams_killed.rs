//! Streams of the real binary that are killed again and again: the sink's bytes are those of a run that nothing
//! interrupted.
//!
//! By hand, for longer: `HOLM_KILLS=200 cargo test -p holm-process-tests --test streams_killed`.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use holm_base::Prng;
use holm_process_tests::server::locate;
use holm_process_tests::{Program, Server, Setup};
use serde_json::Value;
use tempfile::TempDir;

const ROWS: &str = "60000";
const CM1: &str = "SELECT window_start, category, SUM(cpu) AS cpu
FROM HOP(TABLE task, DESCRIPTOR(ts), INTERVAL '1' SECOND, INTERVAL '60' SECOND)
GROUP BY window_start, window_end, category;";
const TASK: &str = "ts TIMESTAMP(3), job BIGINT, event_type INT, category INT, cpu DOUBLE, device STRING, n BIGINT, \
                    WATERMARK FOR ts AS ts - INTERVAL '2' SECOND";

fn kills() -> Result<u64> {
    let said = std::env::var("HOLM_KILLS").unwrap_or_else(|_unset| "20".to_owned());
    said.parse().context("HOLM_KILLS")
}

/// A folder with events and what comes of them when nothing goes wrong.
struct Yard {
    folder: TempDir,
    events: Vec<u8>,
    wanted: Vec<u8>,
    program: PathBuf,
}

impl Yard {
    fn new() -> Result<Self> {
        let mut yard = Self {
            folder: TempDir::with_prefix("holm-streams-")?,
            events: Vec::new(),
            wanted: Vec::new(),
            program: locate(Program::Holm)?,
        };
        let made = yard.holm(&[
            "stream",
            "gen",
            "cluster",
            "--rows",
            ROWS,
            "--disorder",
            "2s",
        ])?;
        yard.events = made.stdout;
        fs::write(yard.path("all.jsonl"), &yard.events)?;
        fs::write(yard.path("query.sql"), yard.query("file", "all.jsonl"))?;
        let plain = yard.holm(&["stream", "run", &yard.text("query.sql")])?;
        yard.wanted = plain.stdout;
        ensure!(yard.wanted.len() > 10_000, "the query has rows");
        Ok(yard)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    fn query(&self, connector: &str, file: &str) -> String {
        let path = self.text(file);
        format!(
            "CREATE TABLE task ({TASK}) WITH ('connector'='{connector}', 'path'='{path}');\n{CM1}"
        )
    }

    fn holm(&self, words: &[&str]) -> Result<Output> {
        let output = Command::new(&self.program).args(words).output()?;
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.success(), "holm {words:?}: {told}");
        Ok(output)
    }

    fn begin(&self, words: &[&str]) -> Result<Child> {
        let mut command = Command::new(&self.program);
        command
            .args(words)
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        Ok(command.spawn()?)
    }

    fn found(&self, name: &str) -> Result<Vec<u8>> {
        Ok(fs::read(self.path(name)).unwrap_or_default())
    }

    /// What the sink has is always what an uninterrupted run has first.
    fn is_beginning(&self, name: &str) -> Result<usize> {
        let found = self.found(name)?;
        ensure!(
            found.len() <= self.wanted.len() && self.wanted.starts_with(&found) || {
                // Behind what was committed there may be more, until the next start cuts it off.
                let whole = found
                    .iter()
                    .rposition(|byte| *byte == b'\n')
                    .map_or(0, |end| end + 1);
                self.wanted.starts_with(&found[..whole])
            }
        );
        Ok(found.len())
    }
}

/// Adds some of the events to a file, whole lines or not.
fn grow(file: &mut File, events: &mut &[u8], count: usize) -> Result<()> {
    let (next, rest) = events.split_at(count.min(events.len()));
    file.write_all(next)?;
    *events = rest;
    Ok(())
}

#[test]
fn a_run_that_is_killed_again_and_again_answers_once() -> Result<()> {
    let yard = Yard::new()?;
    let mut prng = Prng::new(1);
    let mut growing = File::create(yard.path("growing.jsonl"))?;
    let mut events = yard.events.as_slice();
    let share = events.len() / usize::try_from(kills()?)?;
    fs::write(
        yard.path("growing.sql"),
        yard.query("file", "growing.jsonl"),
    )?;
    let (query, state) = (yard.text("growing.sql"), yard.text("state"));
    let into = format!("file:{}", yard.text("out.jsonl"));
    let words = ["stream", "run", &query, "--state", &state, "--into", &into];
    let follow = [words.as_slice(), &["--follow"]].concat();
    for _ in 0..kills()? {
        let mut child = yard.begin(&follow)?;
        grow(&mut growing, &mut events, share / 2)?;
        sleep(Duration::from_millis(20 + prng.below(250)));
        grow(&mut growing, &mut events, share / 2)?;
        sleep(Duration::from_millis(prng.below(50)));
        child.kill()?;
        child.wait()?;
        yard.is_beginning("out.jsonl")?;
    }
    growing.write_all(events)?;
    drop(growing);
    let last = yard.holm(&words)?;
    ensure!(
        yard.found("out.jsonl")? == yard.wanted,
        "the bytes are those of a plain run"
    );
    let told = String::from_utf8(last.stderr)?;
    ensure!(
        told.contains("60,000 rows in, 0 late, 0 diverted"),
        "{told}"
    );
    // Whoever asks again gets the same answer, and nothing is done.
    yard.holm(&words)?;
    ensure!(yard.found("out.jsonl")? == yard.wanted, "once more");
    Ok(())
}

/// A site with streams, and the commands that speak to it.
struct Site<'a> {
    yard: &'a Yard,
    server: Server,
}

impl Site<'_> {
    /// Where its streams are; the system chose the port.
    fn at(&self) -> Result<String> {
        let begun = Instant::now();
        loop {
            let log = self.server.log();
            let line = log
                .lines()
                .rfind(|line| line.contains("streams are served"));
            if let Some((_, address)) = line.and_then(|line| line.split_once("address=")) {
                return Ok(address.trim().to_owned());
            }
            ensure!(
                begun.elapsed() < Duration::from_secs(20),
                "no streams are served: {log}"
            );
            sleep(Duration::from_millis(10));
        }
    }

    fn ask(&self, words: &[&str]) -> Result<Value> {
        let at = self.at()?;
        let words = [&["stream"], words, &["--json", "--at", &at]].concat();
        let output = self.yard.holm(&words)?;
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    fn refuses(&self, words: &[&str], wanted: (i32, &str)) -> Result<()> {
        let at = self.at()?;
        let mut command = Command::new(&self.yard.program);
        let output = command
            .arg("stream")
            .args(words)
            .args(["--at", &at])
            .output()?;
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.code() == Some(wanted.0), "{words:?}: {told}");
        ensure!(told.contains(wanted.1), "{words:?}: {told}");
        Ok(())
    }

    fn await_rows(&self, rows: u64) -> Result<Value> {
        let begun = Instant::now();
        loop {
            let shown = self.ask(&["show", "cm"])?;
            let committed = shown["committed"].as_array().into_iter().flatten();
            let committed: u64 = committed.filter_map(Value::as_u64).sum();
            if shown["rows_in"].as_u64() == Some(rows) && shown["rows_out"] == committed {
                return Ok(shown);
            }
            ensure!(begun.elapsed() < Duration::from_secs(60), "{shown}");
            sleep(Duration::from_millis(20));
        }
    }
}

fn made(yard: &Yard, from: &Path, into: &Path) -> String {
    let (from, into) = (from.display(), into.display());
    let file = yard
        .query("file", "x")
        .replace(&yard.text("x"), &from.to_string());
    let (table, query) = file.split_once('\n').unwrap_or_default();
    format!(
        "{table}\nCREATE TABLE cm (window_start TIMESTAMP(3), category INT, cpu DOUBLE) \
         WITH ('connector'='file', 'path'='{into}');\nINSERT INTO cm {query}"
    )
}

#[test]
fn a_stream_of_a_site_goes_on_after_each_kill_and_drains() -> Result<()> {
    let yard = Yard::new()?;
    let server = Server::start(Setup::new(Program::Holm).with("--streams-listen=127.0.0.1:0"))?;
    let mut site = Site {
        yard: &yard,
        server,
    };
    let (from, into) = (yard.path("site.jsonl"), yard.path("site.out"));
    let mut growing = File::create(&from)?;
    let sql = made(&yard, &from, &into);
    site.refuses(&["show", "cm"], (1, "there is no stream cm"))?;
    site.refuses(&["create", "Cm", "--sql", &sql], (2, "is no name"))?;
    site.refuses(&["create", "cm", "--sql", CM1], (2, "did you mean"))
        .or_else(|_| site.refuses(&["create", "cm", "--sql", CM1], (2, "task")))?;
    let shown = site.ask(&["create", "cm", "--sql", &sql])?;
    ensure!(shown["promise"] == "exactly once", "{shown}");
    site.refuses(
        &["create", "cm", "--sql", &sql],
        (1, "there is a stream cm already"),
    )?;
    let mut events = yard.events.as_slice();
    let share = events.len() / 4;
    for _ in 0..3 {
        grow(&mut growing, &mut events, share)?;
        sleep(Duration::from_millis(150));
        site.server.kill()?;
        site.server.again()?;
        yard.is_beginning("site.out")?;
    }
    growing.write_all(events)?;
    let shown = site.await_rows(60_000)?;
    ensure!(
        shown["phase"] == "running" && shown["diverted"] == 0,
        "{shown}"
    );
    ensure!(site.ask(&["pause", "cm"])?["name"] == "cm");
    site.server.kill()?;
    site.server.again()?;
    let paused = site.ask(&["list"])?;
    ensure!(paused["streams"][0]["sql"] == sql.as_str(), "{paused}");
    site.ask(&["resume", "cm"])?;
    site.await_rows(60_000)?;
    let verified = site.ask(&["verify", "cm"])?;
    ensure!(verified["last"].as_u64() > Some(3), "{verified}");
    site.ask(&["drop", "cm", "--drain"])?;
    ensure!(
        yard.found("site.out")? == yard.wanted,
        "the bytes are those of a plain run"
    );
    ensure!(site.ask(&["list"])?["streams"] == serde_json::json!([]));
    site.server.kill()?;
    site.server.again()?;
    ensure!(
        site.ask(&["list"])?["streams"] == serde_json::json!([]),
        "dropped is dropped"
    );
    Ok(())
}

/// Three queries in one text: one reading and one log, and each sink has what its query gives alone.
#[test]
fn queries_that_share_a_stream_go_on_after_each_kill() -> Result<()> {
    const EACH: [(&str, &str, &str); 3] = [
        (
            "minutes",
            "window_start TIMESTAMP(3), category INT, n BIGINT",
            "SELECT window_start, category, COUNT(*) AS n \
             FROM TUMBLE(TABLE task, DESCRIPTOR(ts), INTERVAL '1' MINUTE) GROUP BY window_start, window_end, category",
        ),
        (
            "halves",
            "window_start TIMESTAMP(3), category INT, jobs BIGINT",
            "SELECT window_start, category, SUM(job) AS jobs \
             FROM HOP(TABLE task, DESCRIPTOR(ts), INTERVAL '30' SECOND, INTERVAL '90' SECOND) \
             GROUP BY window_start, window_end, category",
        ),
        (
            "plain",
            "ts TIMESTAMP(3), job BIGINT",
            "SELECT ts, job FROM task WHERE event_type = 1",
        ),
    ];
    let yard = Yard::new()?;
    let mut site = Site {
        yard: &yard,
        server: Server::start(Setup::new(Program::Holm).with("--streams-listen=127.0.0.1:0"))?,
    };
    let declared = |file: &str| {
        let path = yard.text(file);
        format!("CREATE TABLE task ({TASK}) WITH ('connector'='file', 'path'='{path}');\n")
    };
    let mut sql = declared("shared.jsonl");
    let mut wanted = Vec::new();
    for (name, columns, query) in EACH {
        let into = yard.text(name);
        sql += &format!(
            "CREATE TABLE {name} ({columns}) WITH ('connector'='file', 'path'='{into}');\nINSERT INTO {name} {query};\n"
        );
        let alone = declared("all.jsonl") + query;
        wanted.push(yard.holm(&["stream", "run", "--sql", &alone])?.stdout);
    }
    let mut growing = File::create(yard.path("shared.jsonl"))?;
    let made = site.ask(&["create", "cm", "--sql", &sql])?;
    ensure!(made["promise"] == "exactly once", "{made}");
    ensure!(
        made["shares"] == serde_json::json!(["minutes, halves share panes of 30 s"]),
        "{made}"
    );
    let mut events = yard.events.as_slice();
    let share = events.len() / 5;
    for _ in 0..4 {
        grow(&mut growing, &mut events, share)?;
        sleep(Duration::from_millis(120));
        site.server.kill()?;
        site.server.again()?;
    }
    growing.write_all(events)?;
    let shown = site.await_rows(60_000)?;
    ensure!(shown["queries"][2]["name"] == "cm.plain", "{shown}");
    ensure!(shown["queries"][0]["rows_in"] == 60_000, "{shown}");
    site.ask(&["drop", "cm", "--drain"])?;
    for ((name, ..), wanted) in EACH.iter().zip(&wanted) {
        ensure!(
            !wanted.is_empty() && yard.found(name)? == *wanted,
            "{name} has what it gives alone"
        );
    }
    Ok(())
}

#[test]
fn another_query_over_the_same_state_is_refused() -> Result<()> {
    let yard = Yard::new()?;
    let (query, state) = (yard.text("query.sql"), yard.text("state"));
    let into = format!("file:{}", yard.text("out.jsonl"));
    yard.holm(&["stream", "run", &query, "--state", &state, "--into", &into])?;
    let other = yard
        .query("file", "all.jsonl")
        .replace("SUM(cpu)", "MAX(cpu)");
    let words = [
        "stream", "run", "--sql", &other, "--state", &state, "--into", &into,
    ];
    let output = Command::new(&yard.program).args(words).output()?;
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(
        output.status.code() == Some(1) && told.contains("another query"),
        "{told}"
    );
    Ok(())
}

/// A file that was read is only added to; one that was changed is noticed.
#[test]
fn a_file_that_was_changed_is_refused() -> Result<()> {
    let yard = Yard::new()?;
    let from = yard.path("changed.jsonl");
    let half = yard.events.len() / 2;
    fs::write(&from, &yard.events[..half])?;
    fs::write(
        yard.path("changed.sql"),
        yard.query("file", "changed.jsonl"),
    )?;
    let (query, state) = (yard.text("changed.sql"), yard.text("state"));
    let into = format!("file:{}", yard.text("out.jsonl"));
    let words = ["stream", "run", &query, "--state", &state, "--into", &into];
    let follow = [words.as_slice(), &["--follow"]].concat();
    let mut child = yard.begin(&follow)?;
    let begun = Instant::now();
    while yard.is_beginning("out.jsonl")? == 0 {
        ensure!(begun.elapsed() < Duration::from_secs(60), "rows come out");
        sleep(Duration::from_millis(1));
    }
    child.kill()?;
    child.wait()?;
    fs::write(&from, &yard.events[..100])?;
    let output = Command::new(&yard.program).args(words).output()?;
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.code() == Some(1), "{told}");
    ensure!(told.contains("changed.jsonl"), "the file is named: {told}");
    Ok(())
}
