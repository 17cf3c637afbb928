//! `bench`: figures as ratios against a peer, from runs that take turns.
//!
//! A figure of one day on one machine says little; a ratio of medians from A, B, A, B under
//! the same load says what it seems to. The load printed beside it says how quiet it was.

mod case;
mod server;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::ci::target;
use crate::process::{cargo, must};
use case::{CASES, Case};
use server::Server;

pub(crate) const PAGE: &str = "
  cargo xtask bench kv --peer etcd                    every case
  cargo xtask bench kv --peer etcd --case put-64      one of them
  cargo xtask bench kv --peer etcd --duration 10s --rounds 3

Builds holm for release, starts `holm up` and etcd on free loopback ports, each with a fresh
data directory on the same disk, and lets `holm bench kv` load one and the other in turn:
A, B, A, B. Prints medians and their ratios, server CPU per operation, and syncs of the log
per 1,000 writes, as a table for PROMISES.md.

HOLM_BENCH_FOLDER names the disk; the system's folder for temporary files if not set.
The release binary is the one of `cargo build --release -p holm`, or HOLM_BIN.
";

/// What was asked for.
struct Request {
    duration: String,
    rounds: usize,
    case: Option<String>,
}

/// Runs the benchmark and prints its table.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let request = parse(arguments)?;
    let holm = holm()?;
    println!("load average before: {}", load());
    println!(
        "| case | holm/s | etcd/s | ratio | holm p99 ms | etcd p99 ms | ratio | holm CPU us/op | etcd CPU us/op | ratio | holm syncs/1000 | etcd syncs/1000 | holm MiB | etcd MiB |"
    );
    println!("|--|--|--|--|--|--|--|--|--|--|--|--|--|--|");
    let mut found = 0;
    for case in CASES {
        if request
            .case
            .as_ref()
            .is_none_or(|wanted| wanted == case.name)
        {
            found += 1;
            println!("{}", row(&holm, case, &request)?);
        }
    }
    ensure!(found > 0, "there is no such case; there are {}", names());
    println!("load average after: {}", load());
    Ok(())
}

fn names() -> String {
    CASES
        .iter()
        .map(|case| case.name)
        .collect::<Vec<_>>()
        .join(", ")
}

fn parse(arguments: &[String]) -> Result<Request> {
    let mut request = Request {
        duration: "5s".to_owned(),
        rounds: 2,
        case: None,
    };
    let mut words = arguments.iter().map(String::as_str);
    ensure!(
        words.next() == Some("kv"),
        "there is one benchmark: `cargo xtask bench kv --peer etcd`"
    );
    while let Some(word) = words.next() {
        let value = words
            .next()
            .with_context(|| format!("{word} needs a value"))?;
        match word {
            "--peer" => ensure!(value == "etcd", "the one peer is etcd"),
            "--duration" => value.clone_into(&mut request.duration),
            "--rounds" => request.rounds = value.parse().context("--rounds needs a number")?,
            "--case" => request.case = Some(value.to_owned()),
            other => bail!("bench knows no {other}"),
        }
    }
    ensure!(request.rounds > 0, "--rounds needs at least one");
    Ok(request)
}

/// The release binary; built here unless one is named.
fn holm() -> Result<String> {
    if let Ok(path) = std::env::var("HOLM_BIN") {
        return Ok(path);
    }
    must(&mut cargo(&[
        "build",
        "--release",
        "--quiet",
        "--package",
        "holm",
    ]))?;
    Ok(format!("{}/release/holm", target()?))
}

/// The machine's load over the last minute, for a reader who doubts the figures.
fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or("unknown").to_owned()
}

/// Both servers, in turn, through one case.
fn row(holm: &str, case: &Case, request: &Request) -> Result<String> {
    let ours = Server::holm(holm)?;
    let theirs = Server::etcd()?;
    let (mut left, mut right) = (Vec::new(), Vec::new());
    for _ in 0..request.rounds {
        left.push(case.run(holm, &ours, &request.duration)?);
        right.push(case.run(holm, &theirs, &request.duration)?);
    }
    Ok(table_row(case.name, &left, &right))
}

/// The medians of both sides and their ratios, as a table's row.
fn table_row(name: &str, left: &[Value], right: &[Value]) -> String {
    let pair = |place: &str, scale: f64, digits: usize| {
        let (left, right) = (median(left, place), median(right, place));
        let show = |value: Option<f64>| {
            value.map_or_else(
                || "-".to_owned(),
                |value| format!("{:.digits$}", value / scale),
            )
        };
        (show(left), show(right), ratio(left, right))
    };
    let rate = pair("/operations_per_second", 1.0, 0);
    let tail = pair("/latency_ns/p99", 1e6, 2);
    let cpu = pair("/server/cpu_us_per_operation", 1.0, 1);
    let syncs = pair("/log_syncs_per_1000", 1.0, 1);
    let memory = pair("/server/resident_bytes_peak", 1_048_576.0, 0);
    format!(
        "| {name} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} |",
        rate.0,
        rate.1,
        rate.2,
        tail.0,
        tail.1,
        tail.2,
        cpu.0,
        cpu.1,
        cpu.2,
        syncs.0,
        syncs.1,
        memory.0,
        memory.1
    )
}

fn ratio(left: Option<f64>, right: Option<f64>) -> String {
    match (left, right) {
        (Some(left), Some(right)) if right > 0.0 => format!("{:.2}x", left / right),
        (Some(_) | None, Some(_) | None) => "-".to_owned(),
    }
}

fn median(reports: &[Value], place: &str) -> Option<f64> {
    let mut values: Vec<f64> = reports
        .iter()
        .filter_map(|report| report.pointer(place).and_then(Value::as_f64))
        .collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        count if count % 2 == 1 => Some(values[middle]),
        _ => Some(f64::midpoint(values[middle - 1], values[middle])),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_median_of_an_even_number_lies_between_the_middle_two() {
        let reports = [4.0, 1.0, 3.0, 100.0].map(|value| json!({"a": {"b": value}}));
        assert_eq!(median(&reports, "/a/b"), Some(3.5));
        assert_eq!(median(&reports[..3], "/a/b"), Some(3.0));
        assert_eq!(median(&reports, "/a/c"), None);
    }

    #[test]
    fn a_row_holds_both_sides_and_their_ratio() {
        let ours = [json!({"operations_per_second": 300.0, "latency_ns": {"p99": 2_000_000}})];
        let theirs = [json!({"operations_per_second": 100.0, "latency_ns": {"p99": 4_000_000}})];
        let row = table_row("put-64", &ours, &theirs);
        assert!(
            row.starts_with("| put-64 | 300 | 100 | 3.00x | 2.00 | 4.00 | 0.50x | - | - | - |"),
            "{row}"
        );
    }
}
