//! The watch oracle: the state at every revision, rebuilt from a watch alone, equals Range.

use std::collections::BTreeSet;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use holm_process_tests::base64::encode;
use holm_process_tests::gateway::{Stream, number};
use holm_process_tests::generate::Generator;
use holm_process_tests::oracle::{Key, Oracle, State};
use holm_process_tests::{Gateway, Program, Server, Setup};
use serde_json::{Value, json};

/// Requests that write, without compaction, which would take the past away.
fn write(gateway: &mut Gateway, generator: &mut Generator, requests: u64) -> Result<i64> {
    let mut revision = 0;
    for _ in 0..requests {
        let request = generator.request();
        if matches!(request.path, "kv/compaction" | "kv/range") {
            continue;
        }
        let answer = gateway.post(request.path, &request.body)?;
        generator.learn(&answer);
        revision = revision.max(answer.revision());
    }
    Ok(revision)
}

fn watch_all(gateway: &Gateway, start: i64, more: &Value) -> Result<Stream> {
    let mut create =
        json!({"key": encode(b"\0"), "range_end": encode(b"\0"), "start_revision": start});
    for (name, value) in more.as_object().into_iter().flatten() {
        create[name] = value.clone();
    }
    let mut stream = gateway.follow("watch", &json!({"create_request": create}))?;
    let first = stream
        .next_result()?
        .context("a watch begins with an answer")?;
    ensure!(
        first["created"] == true,
        "the first answer creates: {first}"
    );
    Ok(stream)
}

/// Reads a watch until it has told `revision`.
fn read_until(stream: &mut Stream, oracle: &mut Oracle, revision: i64) -> Result<()> {
    while oracle.revision() < revision {
        let response = stream.next_result()?.context("the watch ended")?;
        ensure!(response.get("canceled").is_none(), "canceled: {response}");
        oracle.take(&response).map_err(anyhow::Error::msg)?;
    }
    Ok(())
}

/// The state at a revision as Range tells it.
fn state_at(gateway: &mut Gateway, revision: i64) -> Result<State> {
    let range = json!({"key": encode(b"\0"), "range_end": encode(b"\0"), "revision": revision});
    let answer = gateway.post("kv/range", &range)?;
    ensure!(answer.is_ok(), "range at {revision}: {}", answer.body);
    Ok(answer.body["kvs"]
        .as_array()
        .into_iter()
        .flatten()
        .map(Key::read)
        .collect())
}

fn compare(gateway: &mut Gateway, oracle: &Oracle, last: i64) -> Result<()> {
    for revision in 2..=last {
        let told = oracle.at(revision).cloned().unwrap_or_default();
        let ranged = state_at(gateway, revision)?;
        ensure!(
            told == ranged,
            "at {revision} the watch told\n{told:?}\nand range tells\n{ranged:?}"
        );
    }
    Ok(())
}

/// A watch that was there from the start, one that resumes again and again, one that comes
/// late, and one that did not read until the end.
fn four_watches(program: Program, seed: u64) -> Result<()> {
    let server = Server::start(Setup::new(program).in_memory())?;
    let mut gateway = Gateway::new(server.address());
    let mut generator = Generator::new(seed);
    let previous = json!({"prev_kv": true});
    let (mut early, mut early_oracle) = (watch_all(&gateway, 1, &previous)?, Oracle::new(true));
    let mut slow = watch_all(&gateway, 1, &previous)?;
    let mut resumed = Oracle::new(true);
    let mut last = 1;
    for _ in 0..6 {
        last = last.max(write(&mut gateway, &mut generator, 60)?);
        read_until(&mut early, &mut early_oracle, last)?;
        let mut again = watch_all(&gateway, resumed.revision() + 1, &previous)?;
        read_until(&mut again, &mut resumed, last)?;
    }
    let mut slow_oracle = Oracle::new(true);
    read_until(&mut slow, &mut slow_oracle, last)?;
    let mut late = watch_all(&gateway, 1, &json!({"fragment": true}))?;
    let mut late_oracle = Oracle::new(false);
    read_until(&mut late, &mut late_oracle, last)?;
    for oracle in [&early_oracle, &resumed, &slow_oracle, &late_oracle] {
        compare(&mut gateway, oracle, last)?;
    }
    Ok(())
}

/// With filters, exactly the other kind of event is missing.
fn filters(program: Program) -> Result<()> {
    let server = Server::start(Setup::new(program).in_memory())?;
    let mut gateway = Gateway::new(server.address());
    for round in 0..20 {
        gateway.put("k", &round.to_string())?;
        gateway.post("kv/deleterange", &json!({"key": encode(b"k")}))?;
    }
    for (filter, first, wanted) in [("NOPUT", 3, 20), ("NODELETE", 2, 20)] {
        let mut stream = watch_all(&gateway, 1, &json!({"filters": [filter]}))?;
        let mut seen = BTreeSet::new();
        while seen.len() < wanted {
            let response = stream.next_result()?.context("the watch ended")?;
            for event in response["events"].as_array().into_iter().flatten() {
                let revision = number(&event["kv"]["mod_revision"]);
                ensure!(revision % 2 == first % 2, "{filter} let {event} through");
                ensure!(seen.insert(revision), "{filter}: {event} came twice");
            }
        }
    }
    Ok(())
}

/// A watch from below the compacted revision is canceled and told where to start.
fn compacted(program: Program) -> Result<()> {
    let server = Server::start(Setup::new(program).in_memory())?;
    let mut gateway = Gateway::new(server.address());
    for round in 0..10 {
        gateway.put("k", &round.to_string())?;
    }
    gateway.post("kv/compaction", &json!({"revision": 8}))?;
    let mut stream = watch_all(&gateway, 3, &json!({}))?;
    let deadline = Instant::now() + Duration::from_secs(60);
    while Instant::now() < deadline {
        let response = stream
            .next_result()?
            .context("the watch ended without a word")?;
        if response["canceled"] == true {
            ensure!(
                number(&response["compact_revision"]) == 8,
                "told the wrong revision: {response}"
            );
            return Ok(());
        }
        thread::sleep(Duration::from_millis(1));
    }
    bail!("no cancel came")
}

#[test]
fn etcds_watches_rebuild_etcds_state() {
    four_watches(Program::Etcd, 1).unwrap();
    filters(Program::Etcd).unwrap();
    compacted(Program::Etcd).unwrap();
}

#[test]
fn four_kinds_of_watch_rebuild_every_revision() {
    four_watches(Program::Holm, 1).unwrap();
    four_watches(Program::Holm, 2).unwrap();
}

#[test]
fn a_filtered_watch_misses_exactly_the_filtered_events() {
    filters(Program::Holm).unwrap();
}

#[test]
fn a_watch_below_the_compacted_revision_is_told_where_to_start() {
    compacted(Program::Holm).unwrap();
}
