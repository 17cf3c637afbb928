//! Snapshots between Holm and a real etcd, in both directions, with etcd's own tools.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use holm_process_tests::foreign::must;
use holm_process_tests::{Program, Server, Setup};
use serde_json::Value;

/// Runs etcdctl against a server. Without a scheme: with one, 3.4 sends a whole URL as the
/// authority of `endpoint hashkv`, which is none.
fn ask(server: &Server, words: &[&str]) -> Result<String> {
    let endpoint = format!("--endpoints={}", server.address());
    let mut all = vec!["etcdctl", &endpoint];
    all.extend_from_slice(words);
    must(Path::new("."), &all)
}

fn json(text: &str) -> Result<Value> {
    let line = text.lines().find(|line| line.starts_with(['{', '[']));
    Ok(serde_json::from_str(line.context("no JSON")?)?)
}

/// All that must survive: keys with their revisions, an older state, leases, users, a hash.
fn state(server: &Server, older: &str) -> Result<Vec<Value>> {
    let keys = json(&ask(server, &["get", "", "--from-key", "-w", "json"])?)?;
    let before = ["get", "", "--from-key", "--rev", older, "-w", "json"];
    let before = json(&ask(server, &before)?)?;
    let hash = json(&ask(server, &["endpoint", "hashkv", "-w", "json"])?)?;
    let others = [
        ["lease", "list"],
        ["user", "list"],
        ["user", "get"],
        ["role", "get"],
    ];
    let mut all = vec![
        keys["kvs"].clone(),
        keys["header"]["revision"].clone(),
        before["kvs"].clone(),
        hash[0]["HashKV"]["hash"].clone(),
    ];
    for words in others {
        let mut words = words.to_vec();
        if words[1] == "get" {
            words.push("reader");
        }
        all.push(Value::String(ask(server, &words)?));
    }
    Ok(all)
}

/// Overwritten, deleted and leased keys, values longer than a page, users, a compaction.
fn fill(server: &Server) -> Result<()> {
    let lease = ask(server, &["lease", "grant", "3600"])?;
    let lease = lease.split_whitespace().nth(1).context("a lease's id")?;
    ask(server, &["put", "leased", "1", "--lease", lease])?;
    for round in 0..40 {
        let (key, value) = (format!("key {}", round % 17), "v".repeat(round * 400));
        ask(server, &["put", &key, &value])?;
        if round % 5 == 4 {
            ask(server, &["del", &key])?;
        }
    }
    for words in [
        &["user", "add", "reader:secret"][..],
        &["role", "add", "reader"],
        &["role", "grant-permission", "reader", "read", "key", "kez"],
        &["user", "grant-role", "reader", "reader"],
        &["compact", "30"],
    ] {
        ask(server, words)?;
    }
    Ok(())
}

/// Saves a snapshot with etcdctl; it and Holm must count the same in it.
fn save(server: &Server, folder: &Path) -> Result<String> {
    let file = folder.join("snapshot.db").display().to_string();
    ask(server, &["snapshot", "save", &file])?;
    let theirs = must(
        folder,
        &["etcdctl", "snapshot", "status", &file, "-w", "json"],
    )?;
    let theirs = json(&theirs)?;
    let holm = holm()?;
    let ours = json(&must(
        folder,
        &[&holm, "snapshot", "status", &file, "--json"],
    )?)?;
    for count in ["hash", "revision", "totalKey", "totalSize"] {
        ensure!(theirs[count] == ours[count], "{count}: {theirs} and {ours}");
    }
    Ok(file)
}

fn holm() -> Result<String> {
    let program = holm_process_tests::server::locate(Program::Holm)?;
    Ok(program.display().to_string())
}

/// A server of this kind over what the snapshot holds.
fn restored(program: Program, file: &str) -> Result<Server> {
    let mut server = Server::prepare(Setup::new(program).in_memory())?;
    let data = server.data().display().to_string();
    let holm = holm()?;
    let restore = ["snapshot", "restore", file, "--data-dir", &data];
    let mut words = vec![match program {
        Program::Etcd => "etcdctl",
        Program::Holm => &holm,
    }];
    words.extend_from_slice(&restore);
    must(Path::new("."), &words)?;
    server.begin()?;
    server.wait_until_ready()?;
    Ok(server)
}

/// There and back: each server is filled from the one before, and holds the same.
fn round(first: Program, second: Program) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let origin = Server::start(Setup::new(first).in_memory())?;
    fill(&origin)?;
    let copy = restored(second, &save(&origin, folder.path())?)?;
    ensure!(
        state(&origin, "35")? == state(&copy, "35")?,
        "the copy differs"
    );
    drop(origin);
    for words in [
        &["put", "late", "1"][..],
        &["del", "key 3"],
        &["compact", "40"],
    ] {
        ask(&copy, words)?;
    }
    let mut back = restored(first, &save(&copy, folder.path())?)?;
    let held = state(&copy, "42")?;
    ensure!(held == state(&back, "42")?, "the copy of the copy differs");
    ask(&back, &["put", "after", "1"])?;
    let held = state(&back, "42")?;
    back.stop()?;
    back.again()?;
    ensure!(held == state(&back, "42")?, "a restart lost something");
    Ok(())
}

#[test]
fn holms_snapshot_restores_in_etcd_and_back() -> Result<()> {
    round(Program::Holm, Program::Etcd)
}

#[test]
fn etcds_snapshot_restores_in_holm_and_back() -> Result<()> {
    round(Program::Etcd, Program::Holm)
}
