//! `bench`: figures as ratios against a peer, from runs that take turns.
//!
//! A figure of one day on one machine says little; a ratio of medians from A, B, A, B under
//! the same load says what it seems to. The load printed beside it says how quiet it was, and
//! the floor beneath it what no server on this machine could beat.

pub(crate) mod case;
mod figure;
mod generator;
mod server;
mod work;

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use crate::ci::target;
use crate::process::{cargo, find, output};
use case::{Case, Work};
use figure::{Row, rows, verdict, word};
use server::{Form, Programs, Server, Side};
use work::{Floor, Round};

pub(crate) const PAGE: &str = "
  cargo xtask bench kv --peer etcd                    every case, some ten minutes
  cargo xtask bench kv --case put-64                  one of them
  cargo xtask bench kv --case 'put-*' --case reclaim  several; * stands for any text
  cargo xtask bench kv --duration 3s --rounds 3       how long each run, how many turns
  cargo xtask bench kv --etcd /opt/etcd/bin/etcd      another etcd than the installed one
  cargo xtask bench kv --members 3                    three members each on this machine
  cargo xtask bench kv --islands                      an island of three against an etcd alone
  cargo xtask bench kv --json                         the whole table as one JSON object
  cargo xtask bench streams                           rows in and columns in, beside LightSaber's
  cargo xtask bench streams CM1 YSB --rows 4000000    some queries
  cargo xtask bench streams --once                    exactly once beside none, and the way back
  cargo xtask bench streams --peers                   beside DuckDB and DataFusion, where installed
  cargo xtask bench streams --differential duckdb     random queries, whose rows are compared; or flink
  cargo xtask bench streams --files                   one file in, rows out, beside Flink and DuckDB
  cargo xtask bench streams --only sharing            ten queries together, and each alone
  cargo xtask bench streams --only priorities         a live query beside a greedy one

Builds holm for release, starts `holm up` and etcd on free loopback ports, each with a fresh
data directory on the same disk, and lets `holm bench kv` load one and the other in turn:
A, B, A, B. Prints medians, their ratios, the target of each figure that has one and whether
it is held, and beside the figures their floors: fdatasync of one 4 KiB write, measured
alone, and echoes of as many clients at the same server. `x floor` is Holm's distance.

Cases
  put-1 put-64 put-1000       puts of 256-byte values by so many clients
  txn-64                      transactions of 4 puts
  get-64 get-64-serializable  gets
  list-10000                  lists of 10,000 keys of 1 KiB by 2 clients
  list-100000                 300 puts and 300 gets a second, with and without one client that
                              lists 100,000 keys of 1 KiB over and over; memory
  watch-1000                  1 writer, 1,000 watchers
  watch-1000-stalled          the same with and without one that never reads; memory
  million                     a million keys of 256 bytes: memory, disk, restart after kill -9
  reclaim                     300,000 keys, each written 4 times, then compacted (etcd: and
                              defragmented) under 500 puts a second
million and reclaim run once, whatever --rounds says, and reclaim until space is reclaimed, 90
seconds at most.

Cases with --members 3
  put-1-leader put-64-leader put-1000-leader get-64-leader   all clients at the member that leads
  put-1-spread put-64-spread put-1000-spread get-64-spread   clients spread over all three
CPU is the sum over all members. Cases with --islands, at the first of three islands of a
local-first keyspace, all on this machine, so that the others' work is in the figures
  island-1 island-64              puts of 256-byte values by so many clients
  island-1-cut island-64-cut      the same, the other two held as if they were cut off
  island-1-alone island-64-alone  the same, of a keyspace that is at one site only
  island-joined-cut               1,000 puts a second while the others answer, and while they do not
  island-each                     4,000 puts a second at one, and at each of the three at once
Holm's members speak TLS 1.3 to each other, etcd's plain TCP.

HOLM_ETCD names the etcd, if --etcd does not; else it is the one on the search path.
HOLM_BENCH_FOLDER names the disk; the system's folder for temporary files if not set.
The release binary is the one of `cargo build --release -p holm`, or HOLM_BIN.
";

/// What was asked for.
#[derive(Debug)]
struct Request {
    duration: Duration,
    rounds: usize,
    cases: Vec<String>,
    etcd: Option<String>,
    form: Form,
    json: bool,
}

/// Runs the benchmark and prints its table.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    if let Some((first, rest)) = arguments.split_first()
        && first == "streams"
    {
        return streams(rest);
    }
    let request = parse(arguments)?;
    let cases = case::select(request.form, &request.cases).map_err(|pattern| {
        let names = names(request.form);
        anyhow::anyhow!("no case is named {pattern}; there are {names}")
    })?;
    let programs = Programs {
        etcd: etcd(&request)?,
        holm: holm()?,
    };
    let versions = [
        version(&programs.holm, "version")?,
        version(&programs.etcd, "--version")?,
    ];
    let before = load();
    let slow = cases.iter().any(|case| matches!(case.work, Work::Reclaim));
    eprintln!("the disk's floor");
    let disk = Floor::measure(&programs.holm, slow)?;
    if !request.json {
        println!("{} against {}", versions[0], versions[1]);
        println!("load average before: {before}");
        println!(
            "disk alone, fdatasync of 4 KiB: p50 {:.3} ms, p99 {:.3} ms",
            disk.p50_ms, disk.p99_ms
        );
        println!("\n| case | figure | holm | etcd | ratio | target | verdict | floor | x floor |");
        println!("|--|--|--|--|--|--|--|--|--|");
    }
    let mut done = Vec::new();
    for case in cases {
        let rows = measured(case, &programs, &request, &disk)?;
        if !request.json {
            for row in &rows {
                println!("| {} | {} |", case.name, row.line());
            }
        }
        done.push((case, rows));
    }
    if request.json {
        let report = report(&request, &versions, &disk, &done, [before, load()]);
        println!("{report}");
        return Ok(());
    }
    println!("\nload average after: {}", load());
    for (case, rows) in &done {
        println!("{}", conclusion(case.name, rows));
    }
    Ok(())
}

/// Streams have no server: their engine is loaded where it is.
fn streams(rest: &[String]) -> Result<()> {
    let mut command = cargo(&["run", "--release", "-q", "-p", "holm-streams", "--"]);
    let ended = command.args(rest).status().context("run cargo")?;
    ensure!(
        ended.success(),
        "the benchmark of streams ended with {ended}"
    );
    Ok(())
}

fn names(form: Form) -> String {
    case::of(form)
        .iter()
        .map(|case| case.name)
        .collect::<Vec<_>>()
        .join(", ")
}

fn parse(arguments: &[String]) -> Result<Request> {
    let mut request = Request {
        duration: Duration::from_secs(5),
        rounds: 2,
        cases: Vec::new(),
        etcd: None,
        form: Form::Members(1),
        json: false,
    };
    let mut words = arguments.iter().map(String::as_str);
    ensure!(
        words.next() == Some("kv"),
        "there are two benchmarks: `cargo xtask bench kv --peer etcd` and `cargo xtask bench streams`"
    );
    while let Some(word) = words.next() {
        if word == "--json" {
            request.json = true;
            continue;
        }
        if word == "--islands" {
            request.form = Form::Islands;
            continue;
        }
        ensure!(
            [
                "--peer",
                "--etcd",
                "--duration",
                "--rounds",
                "--case",
                "--members"
            ]
            .contains(&word),
            "bench knows no {word}; `cargo xtask bench --help` has all it knows"
        );
        let value = words
            .next()
            .filter(|value| !value.starts_with("--"))
            .with_context(|| format!("{word} needs a value"))?;
        match word {
            "--peer" => ensure!(value == "etcd", "--peer {value}: the one peer is etcd"),
            "--etcd" => request.etcd = Some(value.to_owned()),
            "--members" => {
                ensure!(matches!(value, "1" | "3"), "--members {value}: 1 or 3");
                request.form = Form::Members(if value == "1" { 1 } else { 3 });
            }
            "--duration" => request.duration = duration(value)?,
            "--rounds" => {
                request.rounds = value
                    .parse()
                    .ok()
                    .filter(|rounds| (1..=100).contains(rounds))
                    .with_context(|| format!("--rounds {value}: a number from 1 to 100"))?;
            }
            "--case" => request.cases.push(value.to_owned()),
            other => bail!("bench knows no {other}"),
        }
    }
    Ok(request)
}

/// `500ms`, `3s`, `1m`.
fn duration(text: &str) -> Result<Duration> {
    let split = text.find(|sign: char| !sign.is_ascii_digit());
    let (number, unit) = text.split_at(split.unwrap_or(text.len()));
    let factor = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        _ => 0,
    };
    let millis = number.parse().unwrap_or(0_u64).saturating_mul(factor);
    ensure!(
        (100..=3_600_000).contains(&millis),
        "--duration {text}: a number and ms, s or m, from 100ms to 60m"
    );
    Ok(Duration::from_millis(millis))
}

/// The release binary; built here unless one is named.
fn holm() -> Result<String> {
    if let Ok(path) = std::env::var("HOLM_BIN") {
        return Ok(path);
    }
    eprintln!("building holm for release");
    output(&mut cargo(&[
        "build",
        "--release",
        "--quiet",
        "--package",
        "holm",
    ]))?;
    Ok(format!("{}/release/holm", target()?))
}

/// The etcd to hold Holm against.
fn etcd(request: &Request) -> Result<String> {
    let named = request
        .etcd
        .clone()
        .or_else(|| std::env::var("HOLM_ETCD").ok());
    match named {
        Some(path) => {
            ensure!(
                std::path::Path::new(&path).is_file(),
                "--etcd {path}: there is no such file"
            );
            Ok(path)
        }
        None => find("etcd")
            .map(|path| path.to_string_lossy().into_owned())
            .context("etcd is not installed (Debian: etcd-server); or name one with --etcd"),
    }
}

/// The first line that a program prints of its version.
fn version(program: &str, word: &str) -> Result<String> {
    let text = output(Command::new(program).arg(word))?;
    Ok(text.lines().next().unwrap_or("unknown").to_owned())
}

/// The machine's load over the last minute, for a reader who doubts the figures.
fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or("unknown").to_owned()
}

/// Both servers, in turn, through one case.
fn measured(case: &Case, programs: &Programs, request: &Request, disk: &Floor) -> Result<Vec<Row>> {
    let name = case.name;
    let round = Round {
        duration: request.duration,
        disk,
    };
    // One server at a time where a run takes all of the machine's memory or disk for long.
    let (rounds, alone) = match case.work.runs_once() {
        true => (1, true),
        false => (request.rounds, false),
    };
    let start = |side: Side| -> Result<Server> {
        eprintln!("{name}: preparing {}", side.name());
        let mut server = Server::start(side, programs, request.form)?;
        server.aim(case.at)?;
        case.work.prepare(&server)?;
        Ok(server)
    };
    let mut samples = [Vec::new(), Vec::new()];
    let sides = [Side::Holm, Side::Etcd];
    let mut servers = [None, None];
    for number in 1..=rounds {
        for (at, side) in sides.into_iter().enumerate() {
            let mut server = match servers[at].take() {
                Some(server) => server,
                None => start(side)?,
            };
            eprintln!("{name}: round {number} of {rounds}, {}", side.name());
            let sample = case.work.round(&mut server, &round);
            samples[at].push(sample.with_context(|| format!("case {name}"))?);
            if !alone {
                servers[at] = Some(server);
            }
        }
    }
    Ok(rows(case, &samples[0], &samples[1]))
}

/// One line on a case: held, or what was missed and by how much.
fn conclusion(name: &str, rows: &[Row]) -> String {
    let Some(held) = verdict(rows) else {
        return format!("{name}: no target");
    };
    let missed: Vec<String> = rows
        .iter()
        .filter(|row| row.held == Some(false))
        .map(Row::miss)
        .collect();
    let colon = if held { "" } else { ": " };
    format!("{name}: {}{colon}{}", word(held), missed.join("; "))
}

fn report(
    request: &Request,
    versions: &[String; 2],
    disk: &Floor,
    done: &[(&Case, Vec<Row>)],
    [before, after]: [String; 2],
) -> Value {
    let cases = done.iter().map(|(case, rows)| {
        json!({
            "case": case.name,
            "verdict": verdict(rows).map(word),
            "rounds": if case.work.runs_once() { 1 } else { request.rounds },
            "figures": rows.iter().map(Row::json).collect::<Vec<_>>(),
        })
    });
    json!({
        "holm": versions[0],
        "etcd": versions[1],
        "members": match request.form {
            Form::Members(count) => json!(count),
            Form::Islands => json!("islands"),
        },
        "duration_ms": u64::try_from(request.duration.as_millis()).unwrap_or(u64::MAX),
        "load_average_before": before,
        "load_average_after": after,
        "fdatasync_ms": {"p50": disk.p50_ms, "p99": disk.p99_ms, "max": disk.max_ms},
        "cases": cases.collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(words: &str) -> Result<Request> {
        let words: Vec<String> = words.split(' ').map(str::to_owned).collect();
        parse(&words)
    }

    #[test]
    fn the_flags_are_read() {
        let request =
            asked("kv --peer etcd --case put-* --case reclaim --json --rounds 3 --duration 500ms");
        let request = request.unwrap();
        assert_eq!(request.cases, ["put-*", "reclaim"]);
        assert_eq!((request.rounds, request.json), (3, true));
        assert_eq!(request.duration, Duration::from_millis(500));
        assert_eq!(asked("kv --etcd /x").unwrap().etcd.as_deref(), Some("/x"));
    }

    #[test]
    fn a_wrong_flag_is_named_with_what_would_be_right() {
        for (words, complaint) in [
            ("sql", "there are two benchmarks"),
            ("kv --speed 3", "bench knows no --speed"),
            ("kv --rounds", "--rounds needs a value"),
            ("kv --rounds --json", "--rounds needs a value"),
            ("kv --rounds 0", "a number from 1 to 100"),
            ("kv --duration 3", "a number and ms, s or m"),
            ("kv --duration 1ms", "from 100ms"),
            ("kv --peer redis", "the one peer is etcd"),
            ("kv --members 2", "1 or 3"),
        ] {
            let error = asked(words).unwrap_err().to_string();
            assert!(error.contains(complaint), "{words}: {error}");
        }
    }

    #[test]
    fn the_page_names_every_case() {
        for case in case::CASES
            .iter()
            .chain(case::OF_THREE)
            .chain(case::OF_ISLANDS)
        {
            assert!(PAGE.contains(case.name), "{}", case.name);
        }
    }

    #[test]
    fn a_miss_is_told_with_its_measure() {
        let put = case::CASES.iter().find(|case| case.name == "put-1");
        let (holm, etcd) = ([vec![(case::RATE, 50.0)]], [vec![(case::RATE, 100.0)]]);
        let rows = rows(put.unwrap(), &holm, &etcd);
        assert_eq!(
            conclusion("put-1", &rows),
            "put-1: missed: operations/s 50.0 against 100 (0.50x), at least 1.00x etcd's"
        );
        assert_eq!(conclusion("put-1", &[]), "put-1: no target");
    }
}
