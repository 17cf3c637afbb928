//! A full disk refuses writes with etcd's error, keeps reads and deletes going, recovers by
//! itself when there is space, and never ends the process.
//!
//! It needs a small file system of its own, which only root can mount; elsewhere the test says
//! that it did not run, and `HOLM_REQUIRE_ROOT` makes that a failure.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use holm_process_tests::base64::encode;
use holm_process_tests::small::Small;
use holm_process_tests::{Gateway, Program, Server, Setup, not_tested};
use serde_json::json;

/// Room for the log's and the engine's segments and for the 384 MiB that must be free before the
/// alarm is cleared, and little beside.
const MEBIBYTES: u64 = 1_280;

/// Asks until `wanted` holds of the answer to a put.
fn put_until(
    gateway: &mut Gateway,
    wanted: impl Fn(&holm_process_tests::Answer) -> bool,
) -> Result<()> {
    let value = encode("x".repeat(100_000).as_bytes());
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut count = 0_u64;
    while Instant::now() < deadline {
        let key = format!("fill/{}", count % 50);
        let answer = gateway.post(
            "kv/put",
            &json!({"key": encode(key.as_bytes()), "value": value}),
        )?;
        if wanted(&answer) {
            return Ok(());
        }
        if !answer.is_ok() {
            sleep(Duration::from_millis(100));
        }
        count += 1;
    }
    bail!("it did not happen within a minute and {count} puts")
}

fn full_disk(small: &Small) -> Result<()> {
    let mut setup = Setup::new(Program::Holm);
    setup.folder = Some(small.path().to_owned());
    let mut server = Server::start(setup)?;
    let done = fill_and_recover(small, &mut server);
    done.with_context(|| format!("the server said:\n{}", server.log()))
}

fn fill_and_recover(small: &Small, server: &mut Server) -> Result<()> {
    let mut gateway = Gateway::new(server.address());
    gateway.put("kept", "value")?;
    gateway.put("unwanted", "value")?;
    small.fill()?;
    put_until(&mut gateway, |answer| {
        answer.message() == "etcdserver: mvcc: database space exceeded"
    })?;
    ensure!(
        gateway.value("kept")?.as_deref() == Some("value"),
        "reads go on"
    );
    let delete = gateway.post("kv/deleterange", &json!({"key": encode(b"unwanted")}))?;
    ensure!(delete.is_ok(), "deletes go on: {}", delete.body);
    ensure!(server.ended()?.is_none(), "the process lives");
    small.empty()?;
    put_until(&mut gateway, holm_process_tests::Answer::is_ok).context("recover by itself")?;
    // The log is written twice a second.
    sleep(Duration::from_secs(2));
    let log = server.log();
    for said in ["an alarm is raised", "NOSPACE", "an alarm is cleared"] {
        ensure!(log.contains(said), "the log says {said:?}");
    }
    ensure!(server.ended()?.is_none(), "the process lives");
    server.kill()?;
    server.again()?;
    ensure!(
        Gateway::new(server.address()).value("kept")?.as_deref() == Some("value"),
        "and nothing is lost"
    );
    Ok(())
}

#[test]
fn a_full_disk_refuses_writes_and_recovers_by_itself() {
    match Small::mount(MEBIBYTES).unwrap() {
        Some(small) => full_disk(&small).unwrap(),
        None => not_tested("only root can mount a small file system"),
    }
}
