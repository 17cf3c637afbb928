//! What becomes of too much, with how much memory it takes: a sink that takes nothing, a key that has nearly all
//! rows, very many keys, a window of very many panes. docs/STREAMS.md states the answers; here they are asked for.
//!
//! By hand, with the release binary and as many keys as may be:
//! `HOLM_BIN=target/release/holm HOLM_KEYS=10000000 cargo test -p holm-process-tests --test streams_bounds -- --nocapture`.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, BufWriter, Read as _, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use holm_process_tests::http::Connection;
use holm_process_tests::server::locate;
use holm_process_tests::{Program, Server, Setup};
use serde_json::Value;
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(120);
/// What a process takes in MiB that has nothing to do, and more.
const BARE: u64 = 96;

/// The most memory that a process had so far, in MiB; none once it has ended.
fn peak(id: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib >> 10)
}

fn until(what: &str, mut holds: impl FnMut() -> Result<bool>) -> Result<()> {
    let begun = Instant::now();
    while !holds()? {
        ensure!(begun.elapsed() < PATIENCE, "in vain: {what}");
        sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// What a run said and took.
struct Ran {
    told: String,
    peak: u64,
    code: Option<i32>,
}

/// Runs a query over rows that are written to it.
fn run(
    sql: &str,
    mut rows: impl FnMut(&mut dyn Write) -> std::io::Result<()> + Send,
) -> Result<Ran> {
    let mut child = Command::new(locate(Program::Holm)?)
        .args(["stream", "run", "--sql", sql, "--format", "csv"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    let to = child.stdin.take().context("it is piped")?;
    let mut from = child.stderr.take().context("it is piped")?;
    let (peak, told) = thread::scope(|scope| -> Result<_> {
        // Whoever refuses the query does not read.
        scope.spawn(move || drop(rows(&mut BufWriter::with_capacity(1 << 20, to))));
        let told = scope.spawn(move || {
            let mut told = String::new();
            from.read_to_string(&mut told).map(|_bytes| told)
        });
        let mut most = 0;
        while child.try_wait()?.is_none() {
            most = most.max(peak(child.id()).unwrap_or(0));
            sleep(Duration::from_millis(5));
        }
        Ok((most, told.join().expect("it only reads")?))
    })?;
    let code = child.wait()?.code();
    Ok(Ran { told, peak, code })
}

fn table(columns: &str) -> String {
    format!(
        "CREATE TABLE stdin (ts TIMESTAMP(3), {columns}, WATERMARK FOR ts AS ts) WITH ('connector'='stdin'); "
    )
}

/// A time of a day, so many milliseconds after its begin.
fn time(millis: u64) -> String {
    let (seconds, millis) = (millis / 1_000, millis % 1_000);
    let (hours, minutes, seconds) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    format!("2026-01-05T{hours:02}:{minutes:02}:{seconds:02}.{millis:03}")
}

/// A key is one slot of each pane, however many rows it has: twice the rows take no more memory.
#[test]
fn a_hot_key_takes_no_more_memory_than_a_cold_one() -> Result<()> {
    let sql = table("k BIGINT, v BIGINT")
        + "SELECT window_start, k, SUM(v) AS v \
           FROM HOP(TABLE stdin, DESCRIPTOR(ts), INTERVAL '1' SECOND, INTERVAL '60' SECOND) \
           GROUP BY window_start, window_end, k";
    let of = |rows: u64| {
        run(&sql, move |to| {
            writeln!(to, "ts,k,v")?;
            // Of a hundred rows 99 have one key.
            (0..rows).try_for_each(|row| {
                let key = if row % 100 == 0 { row % 1_000 } else { 7 };
                writeln!(to, "{},{key},{row}", time(row / 10))
            })
        })
    };
    let (one, two) = (of(200_000)?, of(400_000)?);
    println!(
        "a hot key: 200,000 rows {} MiB, 400,000 rows {} MiB",
        one.peak, two.peak
    );
    ensure!(
        two.told.contains("400,000 rows in, 0 late, 0 diverted"),
        "{}",
        two.told
    );
    ensure!(
        two.peak <= one.peak + one.peak / 4 + 8 && two.peak <= BARE,
        "{}",
        two.peak
    );
    Ok(())
}

/// As many keys as may be are counted; rows with one more are diverted and named.
#[test]
fn keys_beyond_the_limit_are_diverted() -> Result<()> {
    const LIMIT: u64 = 10_000_000;
    const MORE: u64 = 1_000;
    let keys: u64 = match std::env::var("HOLM_KEYS") {
        Ok(said) => said.parse().context("HOLM_KEYS")?,
        Err(_unset) => 200_000,
    };
    let sql = table("k BIGINT")
        + "SELECT window_start, k, COUNT(*) AS n FROM TUMBLE(TABLE stdin, DESCRIPTOR(ts), INTERVAL '1' DAY) \
           GROUP BY window_start, window_end, k";
    let ran = run(&sql, move |to| {
        writeln!(to, "ts,k")?;
        (0..keys + MORE).try_for_each(|row| writeln!(to, "{},{row}", time(row / 1_000)))
    })?;
    let told = ran.told.lines().last().unwrap_or_default();
    println!("{keys} keys and {MORE} more: {} MiB; {told}", ran.peak);
    let diverted = (keys + MORE).saturating_sub(LIMIT);
    ensure!(
        told.contains(&format!(", {} diverted", grouped(diverted))),
        "{}",
        ran.told
    );
    ensure!(
        diverted == 0 || ran.told.contains("a new key"),
        "{}",
        ran.told
    );
    ensure!(ran.peak <= BARE + ((keys * 300) >> 20), "{} MiB", ran.peak);
    Ok(())
}

fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let (head, tail) = digits.split_at(digits.len() % 3);
    let threes = tail
        .as_bytes()
        .chunks(3)
        .map(|three| String::from_utf8_lossy(three).into_owned());
    let head = (!head.is_empty()).then(|| head.to_owned());
    head.into_iter().chain(threes).collect::<Vec<_>>().join(",")
}

/// A window that would need too many panes is refused before a row is read.
#[test]
fn an_absurd_window_is_refused_with_its_panes() -> Result<()> {
    let sql = table("k BIGINT")
        + "SELECT window_start, COUNT(*) AS n \
           FROM HOP(TABLE stdin, DESCRIPTOR(ts), INTERVAL '0.007' SECOND, INTERVAL '1' HOUR) \
           GROUP BY window_start, window_end";
    let ran = run(&sql, |to| writeln!(to, "ts,k"))?;
    println!("an absurd window: {} MiB; {}", ran.peak, ran.told.trim());
    ensure!(ran.code == Some(2), "{:?}", ran.code);
    ensure!(
        ran.told.contains("3600000 panes") && ran.told.contains("the limit is 1048576"),
        "{}",
        ran.told
    );
    ensure!(ran.peak <= BARE, "{} MiB", ran.peak);
    Ok(())
}

/// Where rows go by HTTP: it takes none until it is told to.
struct Target {
    at: SocketAddr,
    is_open: Arc<AtomicBool>,
    /// Rows by the key of their request: what is sent again is the same.
    rows: Arc<Mutex<BTreeMap<String, u64>>>,
}

impl Target {
    fn serve() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let target = Self {
            at: listener.local_addr()?,
            is_open: Arc::default(),
            rows: Arc::default(),
        };
        let (is_open, rows) = (Arc::clone(&target.is_open), Arc::clone(&target.rows));
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                // Whoever sends comes again when its connection breaks.
                drop(answer(client, &is_open, &rows));
            }
        });
        Ok(target)
    }

    fn rows(&self) -> u64 {
        self.rows.lock().expect("nobody panics here").values().sum()
    }
}

fn answer(
    client: std::net::TcpStream,
    is_open: &AtomicBool,
    rows: &Mutex<BTreeMap<String, u64>>,
) -> std::io::Result<()> {
    let mut to = client.try_clone()?;
    let mut from = BufReader::new(client);
    loop {
        let (mut key, mut length) = (String::new(), 0);
        loop {
            let mut line = String::new();
            if from.read_line(&mut line)? == 0 {
                return Ok(());
            }
            match line.trim_end().split_once(": ") {
                Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                    length = value.parse().unwrap_or(0);
                }
                Some((name, value)) if name.eq_ignore_ascii_case("idempotency-key") => {
                    value.clone_into(&mut key);
                }
                Some(_) => {}
                None if line.trim_end().is_empty() => break,
                None => {}
            }
        }
        let mut body = vec![0; length];
        from.read_exact(&mut body)?;
        let status = if is_open.load(Ordering::SeqCst) {
            let count = body.iter().filter(|byte| **byte == b'\n').count();
            let count = u64::try_from(count).unwrap_or(u64::MAX);
            rows.lock().expect("nobody panics here").insert(key, count);
            "200 OK"
        } else {
            "503 Not now"
        };
        write!(to, "HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n")?;
    }
}

fn events(path: &Path, rows: u64) -> Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    for row in 0..rows {
        writeln!(file, "{{\"ts\":\"{}\",\"k\":{row}}}", time(row / 20))?;
    }
    Ok(file.flush()?)
}

/// While a sink takes nothing, sources wait: memory does not grow, `show` says why, and all of it comes in the end.
#[test]
fn a_sink_that_takes_nothing_makes_sources_wait() -> Result<()> {
    const ROWS: u64 = 1_500_000;
    let folder = TempDir::with_prefix("holm-bounds-")?;
    let path = folder.path().join("events.jsonl");
    events(&path, ROWS)?;
    let target = Target::serve()?;
    let server = Server::start(Setup::new(Program::Holm).with("--streams-listen=127.0.0.1:0"))?;
    let sql = format!(
        "CREATE TABLE ev (ts TIMESTAMP(3), k INT, WATERMARK FOR ts AS ts) \
         WITH ('connector'='file', 'path'='{}', 'format'='json'); \
         CREATE TABLE gone (ts TIMESTAMP(3), k INT) \
         WITH ('connector'='http', 'url'='http://{}/in', 'guarantee'='at-least-once'); \
         INSERT INTO gone SELECT ts, k FROM ev",
        path.display(),
        target.at
    );
    let mut client = Connection::open(server.streams()?)?;
    let body = serde_json::json!({ "name": "slow", "sql": sql }).to_string();
    let made = client.ask("POST", "/streams", &[], body.as_bytes())?;
    ensure!(made.status == 201, "{}", made.text());
    let mut show = || -> Result<Value> {
        let shown = client.ask("GET", "/streams/slow", &[], b"")?;
        Ok(serde_json::from_slice(&shown.body)?)
    };
    let id = server.id().context("it runs")?;
    let memory = || peak(id).context("it runs");
    let (mut before, mut same) = (0, 0);
    until("its source waits", || {
        sleep(Duration::from_millis(200));
        let rows = show()?["rows_in"].as_u64().unwrap_or(0);
        same = if rows == before && rows > 0 {
            same + 1
        } else {
            0
        };
        before = rows;
        Ok(same == 5)
    })?;
    let (stood, held) = (show()?, memory()?);
    sleep(Duration::from_secs(2));
    let (later, still) = (show()?, memory()?);
    println!(
        "a sink that takes nothing: {before} rows in, {held} MiB, and 2 s later {still} MiB; {}",
        later["why"]
    );
    ensure!(
        before < ROWS && later["rows_in"] == stood["rows_in"],
        "{later}"
    );
    ensure!(
        later["why"].as_str().is_some_and(|why| why.contains("503")),
        "{later}"
    );
    ensure!(
        still <= held + 8 && held <= BARE + 256,
        "{held} and {still} MiB"
    );
    target.is_open.store(true, Ordering::SeqCst);
    until("all rows come", || Ok(target.rows() == ROWS))?;
    println!("all {ROWS} rows came; {} MiB", memory()?);
    ensure!(memory()? <= held + 128, "{} MiB", memory()?);
    Ok(())
}
