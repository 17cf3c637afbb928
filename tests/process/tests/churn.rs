//! A thousand keys of a local-first keyspace that three islands put and delete over and over: what was deleted leaves
//! nothing behind, on no disk and in no memory.
//!
//! `HOLM_CHURN=1000000` says how many puts, each with its delete, all islands together do; few by default. Some memory
//! is filled first, whatever becomes of the keys: 64 MiB of updates for who lacks them, what cut histories leave until
//! they are compacted, conflicts. So the second half is held against the first.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::thread;

use anyhow::{Context, Result, ensure};
use holm_base::Prng;
use holm_process_tests::Gateway;
use holm_process_tests::base64::encode;
use holm_process_tests::sites::{Sites, until};
use serde_json::{Value, json};

const NAMES: [&str; 3] = ["a", "b", "c"];
const KEYS: u64 = 1_000;
/// Puts, or deletes, of one transaction.
const BATCH: u64 = 50;
/// Batches between two compactions of an island.
const COMPACT_EVERY: u64 = 40;
/// MiB that a short run may fill for the first time in its second half.
const SLACK: u64 = 64;

fn place(url: &str) -> Result<SocketAddr> {
    Ok(url.trim_start_matches("http://").parse()?)
}

fn operations(keys: &[String], make: impl Fn(&str) -> Value) -> Value {
    let list: Vec<Value> = keys.iter().map(|key| make(key)).collect();
    json!({ "success": list })
}

/// So many batches of one island, each put and then deleted; in the end all of its keys are gone.
fn churn(place: SocketAddr, batches: u64, seed: u64) -> Result<()> {
    let mut gateway = Gateway::new(place);
    let mut random = Prng::new(seed);
    let value = encode(&[b'v'; 100]);
    for batch in 1..=batches {
        let first = random.below(KEYS);
        let names = (first..first + BATCH).map(|it| format!("key-{:04}", it % KEYS));
        let keys: Vec<String> = names.map(|it| encode(it.as_bytes())).collect();
        let put = |key: &str| json!({ "request_put": { "key": key, "value": value } });
        let answer = gateway.post("kv/txn", &operations(&keys, put))?;
        ensure!(answer.is_ok(), "{}", answer.body);
        let delete = |key: &str| json!({ "request_delete_range": { "key": key } });
        let answer = gateway.post("kv/txn", &operations(&keys, delete))?;
        ensure!(answer.is_ok(), "{}", answer.body);
        if batch % COMPACT_EVERY == 0 {
            let revision = answer.revision();
            let answer = gateway.post("kv/compaction", &json!({ "revision": revision }))?;
            ensure!(answer.is_ok(), "{}", answer.body);
        }
    }
    Ok(())
}

/// What an island takes up, in MiB: memory, and the files of its data directory.
#[derive(Clone, Copy, Debug)]
struct Use {
    memory: u64,
    disk: u64,
}

fn used(sites: &Sites, name: &str) -> Result<Use> {
    let id = sites.site(name)?["pid"].as_u64().context("a process")?;
    let status = fs::read_to_string(format!("/proc/{id}/status"))?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let kib = line.context("VmRSS")?.split_whitespace().nth(1);
    let kib: u64 = kib.context("a number")?.parse()?;
    Ok(Use {
        memory: kib >> 10,
        disk: bytes(&sites.data().join(name))? >> 20,
    })
}

fn bytes(place: &Path) -> Result<u64> {
    let mut sum = 0;
    for entry in fs::read_dir(place)? {
        let entry = entry?;
        sum += if entry.file_type()?.is_dir() {
            bytes(&entry.path())?
        } else {
            // One that went meanwhile takes nothing up.
            entry.metadata().map_or(0, |it| it.len())
        };
    }
    Ok(sum)
}

/// All three at it at once; then every island has seen all and shows no key.
fn round(sites: &Sites, places: &[SocketAddr], batches: u64, seed: u64) -> Result<()> {
    thread::scope(|scope| {
        let islands = (seed..).zip(places);
        let running: Vec<_> = islands
            .map(|(seed, &place)| scope.spawn(move || churn(place, batches, seed)))
            .collect();
        running
            .into_iter()
            .try_for_each(|it| it.join().expect("no writer panics"))
    })?;
    let range = json!({"key": encode(b"\0"), "range_end": encode(b"\0")});
    until("no island shows a key", || {
        let mut shown = Vec::new();
        for &place in places {
            let answer = Gateway::new(place).post("kv/range", &range)?;
            ensure!(answer.is_ok(), "{}", answer.body);
            shown.push(answer.body.get("kvs").is_some());
        }
        Ok(!shown.contains(&true))
    })?;
    for name in NAMES {
        let others: Vec<&str> = NAMES.into_iter().filter(|it| *it != name).collect();
        let others = others.join(",");
        sites.ask_at(name, &["keyspace", "wait", "churn", "--seen-by", &others])?;
    }
    Ok(())
}

#[test]
fn keys_that_are_put_and_deleted_for_ever_leave_nothing_behind() -> Result<()> {
    let puts: u64 = match std::env::var("HOLM_CHURN") {
        Ok(text) => text.parse()?,
        Err(_) => 24_000,
    };
    let sites = Sites::start(3, &[])?;
    let islands = sites.make_islands("churn", "lww")?;
    let places: Vec<SocketAddr> = islands.iter().map(|it| place(it)).collect::<Result<_>>()?;
    let batches = puts / BATCH / 3;
    round(&sites, &places, batches / 2, 1)?;
    let before: BTreeMap<_, _> = NAMES
        .into_iter()
        .map(|name| Ok((name, used(&sites, name)?)))
        .collect::<Result<_>>()?;
    round(&sites, &places, batches - batches / 2, 10)?;
    for name in NAMES {
        let (before, after) = (before[name], used(&sites, name)?);
        println!("{name}: after half {before:?}, after {puts} puts and deletes {after:?}, MiB");
        ensure!(
            2 * after.memory <= 3 * before.memory + SLACK,
            "{name}: memory {before:?}, {after:?}"
        );
        ensure!(
            2 * after.disk <= 3 * before.disk + SLACK,
            "{name}: disk {before:?}, {after:?}"
        );
    }
    Ok(())
}
