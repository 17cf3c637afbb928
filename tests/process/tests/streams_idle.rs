//! Tables that fall silent: the others go on without them, in a site that is killed and in a run over pipes.

use std::fs::{self, OpenOptions};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, ensure};
use holm_process_tests::server::locate;
use holm_process_tests::sites::eventually;
use holm_process_tests::{Program, Server, Setup};
use tempfile::TempDir;

fn holm(words: &[&str]) -> Result<Output> {
    Ok(Command::new(locate(Program::Holm)?).args(words).output()?)
}

fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn rows(seconds: std::ops::Range<u32>) -> String {
    let row = |second| format!("{{\"ts\":\"2026-01-05T10:00:{second:02}\"}}\n");
    seconds.map(row).collect()
}

fn window(second: u32, n: u32) -> String {
    format!("{{\"window_start\":\"2026-01-05T10:00:{second:02}.000\",\"n\":{n}}}\n")
}

const COLUMNS: &str = "(ts TIMESTAMP(3), WATERMARK FOR ts AS ts)";
const QUERY: &str = "CREATE VIEW u AS SELECT ts FROM a UNION ALL SELECT ts FROM b; ";
const COUNTS: &str = "SELECT window_start, COUNT(*) AS n \
                      FROM TUMBLE(TABLE u, DESCRIPTOR(ts), INTERVAL '10' SECOND) GROUP BY window_start, window_end";

fn append(path: &Path, text: &str) -> Result<()> {
    let mut file = OpenOptions::new().append(true).open(path)?;
    Ok(file.write_all(text.as_bytes())?)
}

/// Who is idle is known after a kill, too; what comes back behind the others is late.
#[test]
fn a_site_goes_on_without_a_table_that_is_silent() -> Result<()> {
    let folder = TempDir::with_prefix("holm-idle-")?;
    let path = |name: &str| folder.path().join(name);
    fs::write(path("a"), rows(0..32))?;
    fs::write(path("b"), rows(0..2))?;
    let mut server = Server::start(Setup::new(Program::Holm).with("--streams-listen=127.0.0.1:0"))?;
    let table = |name: &str, more: &str| {
        let path = path(name);
        let path = path.display();
        format!("CREATE TABLE {name} {COLUMNS} WITH ('connector'='file', 'path'='{path}'{more}); ")
    };
    let tables = table("a", "") + &table("b", ", 'idle'='500 ms'");
    let into = format!(
        "CREATE TABLE o (window_start TIMESTAMP(3), n BIGINT) WITH ('connector'='file', 'path'='{}'); ",
        path("out").display()
    );
    let sql = format!("{tables}{into}{QUERY}INSERT INTO o {COUNTS}");
    let at = server.streams()?.to_string();
    let made = holm(&["stream", "create", "s", "--at", &at, "--sql", &sql])?;
    ensure!(made.status.success(), "{}", told(&made));
    let is_there = |server: &Server, wanted: &str, shown: &str| {
        eventually("the windows are there", || {
            let found = fs::read_to_string(path("out")).unwrap_or_default();
            ensure!(found == wanted, "{found}");
            let at = server.streams()?.to_string();
            let said = told(&holm(&["stream", "show", "s", "--at", &at])?);
            ensure!(said.contains(shown), "{said}");
            Ok(())
        })
    };
    let mut wanted = window(0, 12) + &window(10, 10) + &window(20, 10);
    is_there(
        &server,
        &wanted,
        "idle         b: left out of it until there are rows again",
    )?;
    server.kill()?;
    server.again()?;
    append(&path("a"), &rows(32..42))?;
    wanted += &window(30, 10);
    is_there(&server, &wanted, "idle         b")?;
    append(&path("b"), &(rows(2..12) + &rows(44..45)))?;
    is_there(&server, &wanted, "10 late")?;
    append(&path("a"), &rows(42..52))?;
    append(&path("b"), &rows(50..51))?;
    wanted += &window(40, 11);
    is_there(&server, &wanted, "10 late")?;
    let verified = holm(&[
        "stream",
        "verify",
        "s",
        "--at",
        &server.streams()?.to_string(),
    ])?;
    ensure!(verified.status.success(), "{}", told(&verified));
    Ok(())
}

/// Pipes have a clock, too: one that says nothing is not waited for, and heard when it speaks again.
#[test]
fn a_run_over_pipes_goes_on_without_one_that_is_silent() -> Result<()> {
    let folder = TempDir::with_prefix("holm-idle-")?;
    let path = |name: &str| folder.path().join(name);
    for name in ["a", "b"] {
        let made = Command::new("mkfifo").arg(path(name)).status()?;
        ensure!(made.success(), "mkfifo");
    }
    let table = |name: &str| format!("{name}={}", path(name).display());
    let sql = format!(
        "CREATE TABLE a {COLUMNS} WITH ('connector'='mqtt'); \
         CREATE TABLE b {COLUMNS} WITH ('connector'='mqtt', 'idle'='300 ms'); {QUERY}{COUNTS}"
    );
    let words = [
        "stream",
        "run",
        "--table",
        &table("a"),
        "--table",
        &table("b"),
        "--sql",
        &sql,
    ];
    let mut command = Command::new(locate(Program::Holm)?);
    let command = command
        .args(words)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut running = command.spawn()?;
    let mut a = OpenOptions::new().write(true).open(path("a"))?;
    let mut b = OpenOptions::new().write(true).open(path("b"))?;
    a.write_all(rows(0..22).as_bytes())?;
    let mut out = BufReader::new(running.stdout.take().context("its output")?);
    let mut line = String::new();
    for wanted in [window(0, 10), window(10, 10)] {
        line.clear();
        out.read_line(&mut line)?;
        ensure!(line == wanted, "{line}");
    }
    b.write_all((rows(5..6) + &rows(25..26)).as_bytes())?;
    drop(b);
    a.write_all(rows(22..24).as_bytes())?;
    drop(a);
    let mut rest = String::new();
    out.read_to_string(&mut rest)?;
    let mut said = String::new();
    running
        .stderr
        .take()
        .context("its words")?
        .read_to_string(&mut said)?;
    ensure!(running.wait()?.success(), "{said}");
    ensure!(rest == window(20, 5), "{rest}");
    ensure!(
        said.contains("26 rows in, 1 late, 0 diverted; 3 out"),
        "{said}"
    );
    Ok(())
}
