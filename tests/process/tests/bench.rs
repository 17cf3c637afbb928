//! The load generator against a real server: what it writes, and that a stall cannot hide from it.

use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result};
use holm_process_tests::server::locate;
use holm_process_tests::{Gateway, Program, Server, Setup, gateway};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

/// `holm bench` with its report as JSON.
fn bench(server: &Server, words: &[&str]) -> Result<Command> {
    let mut command = Command::new(locate(Program::Holm)?);
    command.arg("bench").args(words);
    command.args(["--endpoint", &server.address().to_string(), "--json"]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    Ok(command)
}

fn report(mut command: Command) -> Result<Value> {
    let output = command.output()?;
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    serde_json::from_slice(&output.stdout).context(complaint)
}

#[test]
fn a_stall_is_seen_in_the_percentiles_of_the_open_loop() {
    let server = Server::start(Setup::new(Program::Holm).in_memory()).unwrap();
    let id = server.id().and_then(|id| i32::try_from(id).ok());
    let id = id.and_then(Pid::from_raw).expect("the server runs");
    let words = ["kv", "put", "--rate", "500", "--warmup", "0s"];
    let mut command = bench(&server, &words).unwrap();
    command.args(["--duration", "5s", "--clients", "4"]);
    let load = command.spawn().unwrap();
    sleep(Duration::from_millis(1_500));
    kill_process(id, Signal::STOP).unwrap();
    sleep(Duration::from_millis(1_250));
    kill_process(id, Signal::CONT).unwrap();
    let output = load.wait_with_output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["failed"], 0, "{report}");
    assert_eq!(report["unanswered"], 0, "{report}");
    // A quarter of the requests was due within the stall: far more than the 4 in flight.
    let late = report["latency_ns"]["p90"].as_u64().unwrap();
    assert!(late > 100_000_000, "{report}");
    let operations = report["operations"].as_u64().unwrap();
    assert!((2_000..=2_500).contains(&operations), "{report}");
}

#[test]
fn fill_writes_every_key_once_a_pass() {
    let server = Server::start(Setup::new(Program::Holm).in_memory()).unwrap();
    let words = ["kv", "fill", "--keys", "1000", "--txn-puts", "50"];
    let mut command = bench(&server, &words).unwrap();
    command.args(["--passes", "3", "--order", "sequential"]);
    let report = report(command).unwrap();
    assert_eq!(report["operations"], 3000, "{report}");
    let mut gateway = Gateway::new(server.address());
    // `/bench/` to `/bench0`, first key only.
    let range = json!({"key": "L2JlbmNoLw==", "range_end": "L2JlbmNoMA==", "limit": "1"});
    let answer = gateway.post("kv/range", &range).unwrap();
    assert_eq!(gateway::number(&answer.body["count"]), 1000);
    assert_eq!(gateway::number(&answer.body["kvs"][0]["version"]), 3);
    assert_eq!(answer.revision(), 1 + 60);
}

#[test]
fn fill_refuses_keys_that_make_no_whole_blocks() {
    let server = Server::start(Setup::new(Program::Holm).in_memory()).unwrap();
    let words = ["kv", "fill", "--keys", "1001", "--txn-puts", "50"];
    let output = bench(&server, &words).unwrap().output().unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(complaint.contains("must be a multiple"), "{complaint}");
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn ready_waits_for_a_server_and_gives_up_in_time() {
    let mut server = Server::start(Setup::new(Program::Holm).in_memory()).unwrap();
    let found = report(bench(&server, &["ready"]).unwrap()).unwrap();
    assert!(found["attempts"].as_u64() >= Some(1), "{found}");
    server.kill().unwrap();
    let words = ["ready", "--timeout", "50ms"];
    let output = bench(&server, &words).unwrap().output().unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        complaint.contains("no answer within 50.0 ms"),
        "{complaint}"
    );
    server.begin().unwrap();
    let found = report(bench(&server, &["ready"]).unwrap()).unwrap();
    assert!(
        found["nanos"].as_u64() < Some(30_000_000_000) && found["attempts"].as_u64() >= Some(1),
        "{found}"
    );
}

#[test]
fn a_floor_keeps_to_its_rate() {
    let mut command = Command::new(locate(Program::Holm).unwrap());
    let folder = std::env::temp_dir();
    command.args(["bench", "floor", "--bytes", "4KiB", "--rate", "100"]);
    command.args(["--duration", "300ms", "--json", "--data-dir"]);
    command.arg(folder).stdout(Stdio::piped());
    let report = report(command).unwrap();
    let rate = report["writes"][0]["syncs_per_second"].as_f64().unwrap();
    assert!(rate > 0.0 && rate <= 104.0, "{report}");
}
