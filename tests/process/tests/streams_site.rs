//! Several live queries of a site, alone and beside one that reads all it can: how long an event takes to the page, and
//! how long live queries wait for their turns. It prints what it measures and asserts the rows alone.
//!
//! The ways: *solo*; *yields*, a batch as it is; *as equals*, the same rows followed as if more were to come, so that
//! nobody goes first; *apart*, another process at the lowest priority, `nice -n 19 holm stream run`.
//!
//! By hand, with the release binary and for longer: `HOLM_BIN=target/release/holm HOLM_EVENTS=500 HOLM_ROWS=20000000
//! cargo test -p holm-process-tests --test streams_site -- --nocapture`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use holm_process_tests::http::Connection;
use holm_process_tests::server::locate;
use holm_process_tests::{Program, Server, Setup};
use serde_json::{Value, json};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(120);
/// Live queries.
const LIVE: usize = 5;

fn number(name: &str, otherwise: u64) -> Result<u64> {
    match std::env::var(name) {
        Ok(said) => said.parse().with_context(|| name.to_owned()),
        Err(_unset) => Ok(otherwise),
    }
}

fn until(what: &str, mut holds: impl FnMut() -> Result<bool>) -> Result<()> {
    let begun = Instant::now();
    while !holds()? {
        ensure!(begun.elapsed() < PATIENCE, "in vain: {what}");
        sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// When each row was seen first: by its query and the begin of its window.
type Sightings = Arc<Mutex<BTreeMap<(String, String), Instant>>>;

/// Reads the events of each live query, as its page does.
fn watch(at: SocketAddr) -> Result<Sightings> {
    let seen = Sightings::default();
    for live in 0..LIVE {
        let mut stream = TcpStream::connect(at)?;
        write!(
            stream,
            "GET /views/live{live} HTTP/1.1\r\nHost: {at}\r\n\r\n"
        )?;
        let noted = Arc::clone(&seen);
        thread::spawn(move || {
            let mut kind = String::new();
            for line in BufReader::new(stream).lines().map_while(Result::ok) {
                let now = Instant::now();
                if let Some(of) = line.strip_prefix("event: ") {
                    of.clone_into(&mut kind);
                } else if let Some(data) = line.strip_prefix("data: ")
                    && kind == "rows"
                {
                    note(data, now, &noted);
                }
            }
        });
    }
    Ok(seen)
}

fn note(data: &str, now: Instant, seen: &Sightings) {
    let data: Value = serde_json::from_str(data).unwrap_or_default();
    let name = data["name"].as_str().unwrap_or_default();
    let mut seen = seen.lock().expect("nobody panics here");
    for row in data["rows"].as_array().into_iter().flatten() {
        let window = row["window_start"].as_str().unwrap_or_default();
        let of = (name.to_owned(), window.to_owned());
        seen.entry(of).or_insert(now);
    }
}

fn second(of: u64) -> String {
    let (hour, minute, second) = (of / 3_600, of / 60 % 60, of % 60);
    format!("2026-01-05T{hour:02}:{minute:02}:{second:02}.000")
}

/// How a batch runs beside the live queries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Solo,
    Yields,
    AsEquals,
    Apart,
}

struct Yard {
    folder: TempDir,
    rows: u64,
    events: u64,
}

const TASK: &str = "ts TIMESTAMP(3), job BIGINT, event_type INT, category INT, cpu DOUBLE, device STRING, n BIGINT, \
                    WATERMARK FOR ts AS ts";
/// What is greedy takes rows as fast as it may, and gives few.
const GREEDY: &str = "SELECT window_start, job, SUM(cpu) AS cpu \
                      FROM TUMBLE(TABLE task, DESCRIPTOR(ts), INTERVAL '1' DAY) \
                      GROUP BY window_start, window_end, job";

impl Yard {
    fn new() -> Result<Self> {
        let yard = Self {
            folder: TempDir::with_prefix("holm-site-")?,
            rows: number("HOLM_ROWS", 60_000)?,
            events: number("HOLM_EVENTS", 20)?,
        };
        let rows = yard.rows.to_string();
        let made = Command::new(locate(Program::Holm)?)
            .args(["stream", "gen", "cluster", "--rows", &rows])
            .stdout(File::create(yard.path("greedy.jsonl"))?)
            .status()?;
        ensure!(made.success(), "events are made");
        Ok(yard)
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    fn greedy(&self, follow: bool) -> String {
        let from = self.path("greedy.jsonl");
        format!(
            "CREATE TABLE task ({TASK}) WITH ('connector'='file', 'path'='{from}', 'follow'='{follow}'); "
        )
    }

    /// Starts what is greedy; the process, where it is one of its own.
    fn begin(&self, way: Way, at: SocketAddr) -> Result<Option<Child>> {
        let follow = way == Way::AsEquals;
        match way {
            Way::Solo => Ok(None),
            Way::Yields | Way::AsEquals => {
                let into = self.path(&format!("greedy-{follow}.out"));
                let sql = self.greedy(follow)
                    + &format!(
                        "CREATE TABLE greedy (window_start TIMESTAMP(3), job BIGINT, cpu DOUBLE) \
                         WITH ('connector'='file', 'path'='{into}'); INSERT INTO greedy {GREEDY}"
                    );
                create(at, "greedy", &sql)?;
                Ok(None)
            }
            Way::Apart => {
                let program = locate(Program::Holm)?;
                let mut command = Command::new("nice");
                command.args(["-n", "19"]).arg(program);
                command.args(["stream", "run", "--sql", &(self.greedy(false) + GREEDY)]);
                command.stdout(Stdio::null()).stderr(Stdio::null());
                Ok(Some(command.spawn()?))
            }
        }
    }

    /// One way: how long events took to the page, least first, what the site says of turns, and how far the greedy
    /// query came.
    fn measure(&self, way: Way) -> Result<(Vec<Duration>, Value, String)> {
        let server = Server::start(Setup::new(Program::Holm).with("--streams-listen=127.0.0.1:0"))?;
        let at = server.streams()?;
        for live in 0..LIVE {
            let into = self.path(&format!("{way:?}-{live}.out"));
            create(at, &format!("live{live}"), &live_sql(&into))?;
        }
        let seen = watch(at)?;
        let mut client = Connection::open(at)?;
        // All of them run once each has taken a row.
        for live in 0..LIVE {
            until("the stream has come up", || {
                Ok(post(&mut client, live, 0)?.0 == 200)
            })?;
        }
        let mut greedy = self.begin(way, at)?;
        let mut sent = BTreeMap::new();
        for event in 1..=self.events {
            for live in 0..LIVE {
                let (status, begun) = post(&mut client, live, event)?;
                ensure!(status == 200, "it was answered {status}");
                sent.insert((format!("live{live}"), second(event - 1)), begun);
                sleep(Duration::from_millis(4));
            }
        }
        until("each row is seen", || {
            let seen = seen.lock().expect("nobody panics here");
            Ok(sent.keys().all(|of| seen.contains_key(of)))
        })?;
        let list = client.ask("GET", "/streams", &[], b"")?;
        let list: Value = serde_json::from_slice(&list.body)?;
        let told = match &mut greedy {
            Some(child) => {
                let is_over = child.try_wait()?.is_some();
                // It may have ended.
                drop(child.kill());
                child.wait()?;
                format!("over: {is_over}")
            }
            None if way == Way::Solo => String::new(),
            None => list["streams"][0]["rows_in"].to_string() + " rows of it",
        };
        let seen = seen.lock().expect("nobody panics here");
        let mut delays = Vec::new();
        for (of, begun) in &sent {
            let at = seen.get(of).context("it was seen a moment ago")?;
            delays.push(*at - *begun);
        }
        delays.sort_unstable();
        Ok((delays, list["turns"].clone(), told))
    }
}

fn live_sql(into: &str) -> String {
    format!(
        "CREATE TABLE ev (ts TIMESTAMP(3), k INT, WATERMARK FOR ts AS ts) WITH ('connector'='http'); \
         CREATE TABLE live (window_start TIMESTAMP(3), n BIGINT) WITH ('connector'='file', 'path'='{into}'); \
         INSERT INTO live SELECT window_start, COUNT(*) AS n \
         FROM TUMBLE(TABLE ev, DESCRIPTOR(ts), INTERVAL '1' SECOND) GROUP BY window_start, window_end"
    )
}

fn create(at: SocketAddr, name: &str, sql: &str) -> Result<()> {
    let body = json!({ "name": name, "sql": sql }).to_string();
    let made = Connection::open(at)?.ask("POST", "/streams", &[], body.as_bytes())?;
    ensure!(made.status == 201, "{}", made.text());
    Ok(())
}

/// Sends an event, which closes the window of the one before: how it was answered, and when it was sent.
fn post(client: &mut Connection, live: usize, event: u64) -> Result<(u16, Instant)> {
    let row = format!("{{\"ts\":\"{}\",\"k\":1}}\n", second(event));
    let begun = Instant::now();
    let path = format!("/streams/live{live}/events");
    let reply = client.ask("POST", &path, &[], row.as_bytes())?;
    Ok((reply.status, begun))
}

#[test]
fn live_queries_beside_a_greedy_one() -> Result<()> {
    ensure!(Path::new("/proc").is_dir(), "it is for Linux");
    let yard = Yard::new()?;
    println!("|way|to the page, ms: p50|p99|most|turns waited for|p50, us|p99|most|greedy|");
    println!("|--|--|--|--|--|--|--|--|--|");
    for way in [Way::Solo, Way::Yields, Way::AsEquals, Way::Apart] {
        let (delays, turns, told) = yard.measure(way)?;
        let at = |hundredths: usize| {
            let delay = delays[(delays.len() - 1) * hundredths / 100];
            delay.as_secs_f64() * 1e3
        };
        let of = |name: &str| turns[name].as_f64().unwrap_or_default();
        println!(
            "|{way:?}|{:.1}|{:.1}|{:.1}|{}|{:.0}|{:.0}|{:.0}|{told}|",
            at(50),
            at(99),
            at(100),
            turns["live_waits"],
            of("p50_us"),
            of("p99_us"),
            of("most_us")
        );
    }
    Ok(())
}
