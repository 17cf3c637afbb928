//! A full disk at one of three sites, and at all: writes are refused in etcd's words or go on, reads go on, no process
//! ends, and once there is space again all by themselves take writes and agree, with nothing lost.
//!
//! It needs small file systems, which only root can mount; elsewhere it says that it did not run, and
//! `HOLM_REQUIRE_ROOT` makes that a failure.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use holm_process_tests::base64::encode;
use holm_process_tests::lan::SITES;
use holm_process_tests::sites::eventually;
use holm_process_tests::small::Small;
use holm_process_tests::trio::{NAMES, Plan, Trio};
use holm_process_tests::{Program, not_tested};
use serde_json::json;

const WHY: &str = "only root can mount a small file system";
/// Room for a site's segments and for the 384 MiB that must be free before the alarm is cleared, and little beside.
const MEBIBYTES: u64 = 1_280;
/// What each put writes.
const VALUE_BYTES: usize = 100_000;
/// So long the sites are written to while a disk is full: more than a site needs to notice.
const FULL: Duration = Duration::from_secs(6);
/// What a site that has no space says.
const NO_SPACE: &str = "etcdserver: mvcc: database space exceeded";

/// What puts were told, at any site that is not asked for its disk's sake.
#[derive(Debug, Default)]
struct Puts {
    taken: u64,
    no_space: u64,
    other: Vec<String>,
}

/// Puts at a site, over a few keys, for so long.
fn put_for(trio: &Trio, at: usize, lasting: Duration) -> Puts {
    let (mut client, mut puts) = (trio.client(at), Puts::default());
    let value = encode("x".repeat(VALUE_BYTES).as_bytes());
    let begun = Instant::now();
    while begun.elapsed() < lasting {
        let key = encode(format!("fill/{}", puts.taken % 20).as_bytes());
        match client.post("kv/put", &json!({"key": key, "value": value})) {
            Ok(answer) if answer.is_ok() => puts.taken += 1,
            Ok(answer) if answer.message() == NO_SPACE => {
                puts.no_space += 1;
                sleep(Duration::from_millis(50));
            }
            Ok(answer) => puts.other.push(answer.body.to_string()),
            Err(error) => puts.other.push(format!("{error:#}")),
        }
    }
    puts
}

fn wait_until_refused(trio: &Trio, at: usize) -> Result<()> {
    eventually("a full disk is noticed", || {
        let puts = put_for(trio, at, Duration::from_secs(1));
        ensure!(puts.no_space > 0, "{puts:?}");
        Ok(())
    })
}

/// All take writes again, and have the same.
fn recover(trio: &mut Trio) -> Result<()> {
    for (at, name) in NAMES.iter().enumerate() {
        eventually("it takes writes again", || {
            ensure!(trio.lives(at)?, "{name} has ended");
            trio.client(at).put("recovered", name).map(drop)
        })
        .with_context(|| trio.said(at))?;
    }
    eventually("all have the same", || {
        let mut states = Vec::new();
        for at in 0..SITES {
            let all =
                json!({"key": encode(b"\0"), "range_end": encode(b"\0"), "serializable": true});
            let answer = trio.client(at).post("kv/range", &all)?;
            ensure!(answer.is_ok(), "{}", answer.body);
            states.push((answer.revision(), answer.body["kvs"].clone()));
        }
        let agreed = states.windows(2).all(|pair| pair[0] == pair[1]);
        ensure!(
            agreed,
            "revisions {:?}",
            states.iter().map(|it| it.0).collect::<Vec<_>>()
        );
        Ok(())
    })?;
    let kept = trio.client(0).value("kept")?;
    ensure!(kept.as_deref() == Some("value"), "{kept:?} was kept");
    Ok(())
}

fn start(small: &Small, full: &[usize]) -> Result<Trio> {
    let mut plan = Plan::new(Program::Holm, &[]);
    for at in full {
        plan.folders[*at] = Some(small.path().to_owned());
    }
    let trio = Trio::start(&plan)?;
    eventually("a first put", || trio.client(0).put("kept", "value"))?;
    eventually("a second put", || trio.client(0).put("unwanted", "value"))?;
    Ok(trio)
}

#[test]
fn a_full_disk_at_one_site_ends_nothing_and_it_catches_up() -> Result<()> {
    let Some(small) = Small::mount(MEBIBYTES)? else {
        not_tested(WHY);
        return Ok(());
    };
    let mut trio = start(&small, &[2])?;
    // A leader without space can order nothing: it hands the lead on when it is stopped.
    if trio.leader()? == 2 {
        trio.stop(2)?;
        trio.begin(2)?;
        trio.serves(2)?;
    }
    small.fill()?;
    let puts = put_for(&trio, 0, FULL);
    println!(
        "with one disk full: {} taken, {} refused for space, {} others",
        puts.taken,
        puts.no_space,
        puts.other.len()
    );
    ensure!(puts.other.is_empty(), "{:?}", &puts.other[..1]);
    // The one site raises etcd's alarm, which holds for all; until then the two others go on.
    ensure!(puts.no_space > 0, "{puts:?}");
    let kept = trio.client(2).value("kept")?;
    ensure!(
        kept.as_deref() == Some("value"),
        "reads go on there: {kept:?}"
    );
    for (at, name) in NAMES.iter().enumerate() {
        ensure!(trio.lives(at)?, "{name} has ended:\n{}", trio.said(at));
    }
    small.empty()?;
    recover(&mut trio)
}

#[test]
fn a_full_disk_at_all_sites_refuses_writes_and_all_recover() -> Result<()> {
    let Some(small) = Small::mount(2 * MEBIBYTES)? else {
        not_tested(WHY);
        return Ok(());
    };
    let mut trio = start(&small, &[0, 1, 2])?;
    small.fill()?;
    wait_until_refused(&trio, 1)?;
    for at in 0..SITES {
        let kept = trio.client(at).value("kept")?;
        ensure!(kept.as_deref() == Some("value"), "reads go on: {kept:?}");
    }
    let delete = trio
        .client(2)
        .post("kv/deleterange", &json!({"key": encode(b"unwanted")}))?;
    ensure!(delete.is_ok(), "deletes go on: {}", delete.body);
    small.empty()?;
    recover(&mut trio)
}
