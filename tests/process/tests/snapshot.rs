//! Snapshots between Holm and each real etcd, in both directions, with that etcd's own tools.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use holm_process_tests::foreign::must;
use holm_process_tests::{Program, Server, Setup, peer};
use serde_json::Value;

/// Runs etcdctl against a server. Without a scheme: with one, 3.4 sends a whole URL as the
/// authority of `endpoint hashkv`, which is none.
fn ask(etcd: Program, server: &Server, words: &[&str]) -> Result<String> {
    let endpoint = format!("--endpoints={}", server.address());
    let etcdctl = peer::tool(etcd, "etcdctl")?.display().to_string();
    let mut all = vec![etcdctl.as_str(), &endpoint];
    all.extend_from_slice(words);
    must(Path::new("."), &all)
}

fn json(text: &str) -> Result<Value> {
    let line = text.lines().find(|line| line.starts_with(['{', '[']));
    Ok(serde_json::from_str(line.context("no JSON")?)?)
}

/// All that must survive: keys with their revisions, an older state, leases, users, a hash.
fn state(etcd: Program, server: &Server, older: &str) -> Result<Vec<Value>> {
    let keys = json(&ask(
        etcd,
        server,
        &["get", "", "--from-key", "-w", "json"],
    )?)?;
    let before = ["get", "", "--from-key", "--rev", older, "-w", "json"];
    let before = json(&ask(etcd, server, &before)?)?;
    let hash = json(&ask(etcd, server, &["endpoint", "hashkv", "-w", "json"])?)?;
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
        all.push(Value::String(ask(etcd, server, &words)?));
    }
    Ok(all)
}

/// Overwritten, deleted and leased keys, values longer than a page, users, a compaction.
fn fill(etcd: Program, server: &Server) -> Result<()> {
    let lease = ask(etcd, server, &["lease", "grant", "3600"])?;
    let lease = lease.split_whitespace().nth(1).context("a lease's id")?;
    ask(etcd, server, &["put", "leased", "1", "--lease", lease])?;
    for round in 0..40 {
        let (key, value) = (format!("key {}", round % 17), "v".repeat(round * 400));
        ask(etcd, server, &["put", &key, &value])?;
        if round % 5 == 4 {
            ask(etcd, server, &["del", &key])?;
        }
    }
    for words in [
        &["user", "add", "reader:secret"][..],
        &["role", "add", "reader"],
        &["role", "grant-permission", "reader", "read", "key", "kez"],
        &["user", "grant-role", "reader", "reader"],
        &["compact", "30"],
    ] {
        ask(etcd, server, words)?;
    }
    Ok(())
}

/// Saves a snapshot with etcdctl; it and Holm must count the same in it.
fn save(etcd: Program, server: &Server, folder: &Path) -> Result<String> {
    let file = folder.join("snapshot.db").display().to_string();
    ask(etcd, server, &["snapshot", "save", &file])?;
    let tool = offline(etcd)?;
    let theirs = must(folder, &[&tool, "snapshot", "status", &file, "-w", "json"])?;
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

/// What works on files: etcdutl since 3.5, etcdctl before.
fn offline(etcd: Program) -> Result<String> {
    let name = if peer::has(etcd, "etcdutl")? {
        "etcdutl"
    } else {
        "etcdctl"
    };
    Ok(peer::tool(etcd, name)?.display().to_string())
}

fn holm() -> Result<String> {
    let program = holm_process_tests::server::locate(Program::Holm)?;
    Ok(program.display().to_string())
}

/// A server of this kind over what the snapshot holds.
fn restored(program: Program, file: &str) -> Result<Server> {
    let mut server = Server::prepare(Setup::new(program).in_memory())?;
    let data = server.data().display().to_string();
    let tool = match program {
        Program::Holm => holm()?,
        Program::Etcd | Program::Newer => offline(program)?,
    };
    let restore = ["snapshot", "restore", file, "--data-dir", &data];
    let mut words = vec![tool.as_str()];
    words.extend_from_slice(&restore);
    must(Path::new("."), &words)?;
    server.begin()?;
    server.wait_until_ready()?;
    Ok(server)
}

/// There and back: each server is filled from the one before, and holds the same.
fn round(etcd: Program, first: Program, second: Program) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let origin = Server::start(Setup::new(first).in_memory())?;
    fill(etcd, &origin)?;
    let copy = restored(second, &save(etcd, &origin, folder.path())?)?;
    ensure!(
        state(etcd, &origin, "35")? == state(etcd, &copy, "35")?,
        "the copy differs"
    );
    drop(origin);
    for words in [
        &["put", "late", "1"][..],
        &["del", "key 3"],
        &["compact", "40"],
    ] {
        ask(etcd, &copy, words)?;
    }
    let mut back = restored(first, &save(etcd, &copy, folder.path())?)?;
    let held = state(etcd, &copy, "42")?;
    ensure!(
        held == state(etcd, &back, "42")?,
        "the copy of the copy differs"
    );
    ask(etcd, &back, &["put", "after", "1"])?;
    let held = state(etcd, &back, "42")?;
    back.stop()?;
    back.again()?;
    ensure!(
        held == state(etcd, &back, "42")?,
        "a restart lost something"
    );
    Ok(())
}

#[test]
fn holms_snapshot_restores_in_etcd_and_back() -> Result<()> {
    for etcd in peer::all() {
        round(etcd, Program::Holm, etcd).with_context(|| format!("{:?}", peer::version(etcd)))?;
    }
    Ok(())
}

#[test]
fn etcds_snapshot_restores_in_holm_and_back() -> Result<()> {
    for etcd in peer::all() {
        round(etcd, etcd, Program::Holm).with_context(|| format!("{:?}", peer::version(etcd)))?;
    }
    Ok(())
}
