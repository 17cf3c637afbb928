//! `kill -9` under load, again and again: every acknowledged write, lease and transaction is
//! there afterwards, and what was in doubt happened wholly or not at all.
//!
//! Beside the writers runs one who compacts, takes snapshots, defragments, and grants leases
//! that end by themselves, so that kills fall into those too. One end in eight is a polite one.
//!
//! `HOLM_KILLS=5000` kills that often, by hand; CI kills for `HOLM_KILL_SECONDS`, 60 if not
//! set. `HOLM_SEED` fixes the first seed, and `HOLM_KILL_LEASES` how many leases each writer
//! keeps. How long starts took is printed at the end, and every 250 kills on the way.
#![expect(
    clippy::print_stdout,
    reason = "how many kills, writes and how slow a start is worth a line in a log"
)]

use std::collections::BTreeSet;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use holm_base::Prng;
use holm_process_tests::base64::encode;
use holm_process_tests::gateway::{number, text};
use holm_process_tests::ledger::{Change, Doubt, Found, Ledger};
use holm_process_tests::{Gateway, Program, Server, Setup};
use serde_json::{Value, json};

const WRITERS: u64 = 4;
const KEYS_PER_WRITER: u64 = 40;
const LEASES_PER_WRITER: usize = 20;
/// After so many kills a long run says where it is.
const KILLS_PER_LINE: usize = 250;
/// Keys whose leases end by themselves.
const PASSING: &str = "passing/";

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

/// One writer: its own keys, its own knowledge, one request at a time.
struct Writer {
    name: String,
    prng: Prng,
    ledger: Ledger,
    count: u64,
    leases: usize,
}

impl Writer {
    fn new(index: u64, seed: u64) -> Self {
        Self {
            name: format!("w{index}/"),
            prng: Prng::new(seed * 1_000 + index),
            ledger: Ledger::default(),
            count: 0,
            leases: setting("HOLM_KILL_LEASES")
                .and_then(|leases| usize::try_from(leases).ok())
                .unwrap_or(LEASES_PER_WRITER),
        }
    }

    /// Writes until the server goes. A refusal is a failure: nothing here may be refused.
    fn run(&mut self, server: std::net::SocketAddr) -> Result<()> {
        let mut gateway = Gateway::new(server);
        loop {
            self.count += 1;
            let (path, body, doubt) = self.request();
            self.ledger.begin(doubt);
            let Ok(answer) = gateway.post(path, &body) else {
                return Ok(());
            };
            // A server that is being killed may answer that it stops; that is no acknowledgement.
            if answer.status >= 500 {
                return Ok(());
            }
            ensure!(answer.is_ok(), "{path} {body}: {}", answer.body);
            self.ledger.acknowledge(answer.revision());
        }
    }

    fn request(&mut self) -> (&'static str, Value, Doubt) {
        match self.prng.below(10) {
            0 => self.grant(),
            1..=3 => self.txn(),
            4 => self.delete(),
            _ => self.put(),
        }
    }

    fn key(&mut self) -> String {
        format!("{}{}", self.name, self.prng.below(KEYS_PER_WRITER))
    }

    fn put(&mut self) -> (&'static str, Value, Doubt) {
        let (key, value) = (self.key(), format!("value {}", self.count));
        let body = json!({"key": encode(key.as_bytes()), "value": encode(value.as_bytes())});
        ("kv/put", body, Doubt::Write(vec![(key, Some(value))]))
    }

    /// A delete of a missing key changes nothing, and the ledger agrees.
    fn delete(&mut self) -> (&'static str, Value, Doubt) {
        let key = self.key();
        (
            "kv/deleterange",
            json!({"key": encode(key.as_bytes())}),
            Doubt::Write(vec![(key, None)]),
        )
    }

    fn txn(&mut self) -> (&'static str, Value, Doubt) {
        let value = format!("txn {}", self.count);
        let keys: BTreeSet<String> = (0..3).map(|_| self.key()).collect();
        let changes: Vec<Change> = keys
            .into_iter()
            .map(|key| (key, Some(value.clone())))
            .collect();
        let operations: Vec<Value> = changes
            .iter()
            .map(|(key, _)| json!({"request_put": {"key": encode(key.as_bytes()), "value": encode(value.as_bytes())}}))
            .collect();
        (
            "kv/txn",
            json!({"success": operations}),
            Doubt::Write(changes),
        )
    }

    /// A further lease, or the end of one where there are enough.
    fn grant(&mut self) -> (&'static str, Value, Doubt) {
        if let Some(id) = self.ledger.spare_lease(self.leases) {
            return ("lease/revoke", json!({"ID": id}), Doubt::Revoke(id));
        }
        let id = i64::try_from(1_000 + self.prng.below(1 << 40)).expect("forty bits fit");
        (
            "lease/grant",
            json!({"ID": id, "TTL": 100_000}),
            Doubt::Grant(id),
        )
    }

    /// Reads this writer's keys and all leases, and holds them against what it knows.
    fn check(&mut self, server: std::net::SocketAddr) -> Result<()> {
        let mut gateway = Gateway::new(server);
        let end = self.name.replace('/', "0");
        let range =
            json!({"key": encode(self.name.as_bytes()), "range_end": encode(end.as_bytes())});
        let answer = gateway.post("kv/range", &range)?;
        ensure!(answer.is_ok(), "range: {}", answer.body);
        let rows = answer.body["kvs"].as_array().into_iter().flatten();
        let found: Found = rows
            .map(|kv| {
                (
                    text(&kv["key"]),
                    (text(&kv["value"]), number(&kv["mod_revision"])),
                )
            })
            .collect();
        let leases = gateway.post("lease/leases", &json!({}))?;
        let rows = leases.body["leases"].as_array().into_iter().flatten();
        let leases: BTreeSet<i64> = rows.map(|lease| number(&lease["ID"])).collect();
        let settled = self.ledger.settle(&found, &leases, answer.revision());
        settled.map_err(|text| anyhow::anyhow!("writer {}: {text}", self.name))
    }
}

/// Compacts, saves, defragments, and lets leases end, until the server goes.
fn disturb(server: std::net::SocketAddr, seed: u64) -> Result<()> {
    let (mut gateway, mut prng) = (Gateway::new(server), Prng::new(seed));
    let mut revision = 1;
    loop {
        thread::sleep(Duration::from_millis(prng.below(40)));
        let id = i64::try_from(1 + prng.below(500)).expect("hundreds fit");
        let key = encode(format!("{PASSING}{id}").as_bytes());
        let value = encode(b"passes");
        let requests = match prng.below(8) {
            0 => vec![("maintenance/snapshot", json!({}))],
            1 => vec![("maintenance/defragment", json!({}))],
            2 | 3 => vec![(
                "kv/compaction",
                json!({"revision": revision, "physical": prng.below(2) == 0}),
            )],
            _ => vec![
                ("lease/grant", json!({"ID": id, "TTL": 1})),
                ("kv/put", json!({"key": key, "value": value, "lease": id})),
            ],
        };
        for (path, body) in requests {
            let Ok(answer) = gateway.post(path, &body) else {
                return Ok(());
            };
            if answer.status >= 500 {
                return Ok(());
            }
            // A revision compacted twice, a lease granted twice or ended: all refusals, no failures.
            let refused = [5, 9, 11].contains(&number(&answer.body["code"]));
            let whole = answer.is_ok() || refused;
            ensure!(whole, "{path} {body}: {} {}", answer.status, answer.body);
            revision = revision.max(answer.revision());
        }
    }
}

/// A key whose lease is gone must be gone with it.
fn check_passing(server: std::net::SocketAddr) -> Result<()> {
    let mut gateway = Gateway::new(server);
    let end = PASSING.replace('/', "0");
    let range = json!({"key": encode(PASSING.as_bytes()), "range_end": encode(end.as_bytes())});
    let keys = gateway.post("kv/range", &range)?;
    for kv in keys.body["kvs"].as_array().into_iter().flatten() {
        let id = number(&kv["lease"]);
        let lease = gateway.post("lease/timetolive", &json!({"ID": id}))?;
        if number(&lease.body["TTL"]) >= 0 {
            continue;
        }
        let (key, now) = (
            &kv["key"],
            gateway.post("kv/range", &json!({"key": kv["key"]}))?,
        );
        let same = now.body["kvs"][0]["mod_revision"] == kv["mod_revision"];
        ensure!(!same, "{} outlived its lease {id}", text(key));
    }
    Ok(())
}

/// What a loop has seen.
#[derive(Debug, Default)]
struct Seen {
    /// How long each start took until a client got an answer.
    starts: Vec<Duration>,
    writes: u64,
}

impl Seen {
    const fn kills(&self) -> usize {
        self.starts.len()
    }
}

impl std::fmt::Display for Seen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut starts = self.starts.clone();
        starts.sort_unstable();
        let kills = starts.len();
        let [half, most] = [kills / 2, kills * 99 / 100].map(|at| starts.get(at).copied());
        let (half, most) = (half.unwrap_or_default(), most.unwrap_or_default());
        let slowest = starts.last().copied().unwrap_or_default();
        write!(
            f,
            "{kills} kills, {} acknowledged writes, none lost; starts took {half:.3?} (median), {most:.3?} (p99), {slowest:.3?} (slowest)",
            self.writes
        )
    }
}

/// Kills a server under load until `enough` says so of the number of kills.
fn kill_loop(program: Program, seed: u64, enough: impl Fn(usize) -> bool) -> Result<Seen> {
    let mut server = Server::start(Setup::new(program))?;
    let mut writers: Vec<Writer> = (0..WRITERS).map(|index| Writer::new(index, seed)).collect();
    let mut prng = Prng::new(seed);
    let mut seen = Seen::default();
    while !enough(seen.kills()) {
        let load = Duration::from_millis(20 + prng.below(400));
        under_load(&mut writers, &mut server, load, prng.below(8) == 0)?;
        let kills = seen.kills() + 1;
        let begun = Instant::now();
        server
            .again()
            .with_context(|| format!("restart after kill {kills}, seed {seed}"))?;
        seen.starts.push(begun.elapsed());
        check_all(&mut writers, &server).with_context(|| format!("kill {kills}, seed {seed}"))?;
        seen.writes = writers.iter().map(|it| it.ledger.acknowledged()).sum();
        if kills.is_multiple_of(KILLS_PER_LINE) {
            println!("{seen}");
        }
    }
    Ok(seen)
}

fn check_all(writers: &mut [Writer], server: &Server) -> Result<()> {
    for writer in writers {
        writer.check(server.address())?;
    }
    check_passing(server.address())
}

/// All writers at once, and the kill in the midst of it, or a request to stop.
fn under_load(
    writers: &mut [Writer],
    server: &mut Server,
    load: Duration,
    is_polite: bool,
) -> Result<()> {
    let address = server.address();
    let seed = u64::try_from(load.as_millis()).unwrap_or_default();
    thread::scope(|scope| {
        let running: Vec<_> = writers
            .iter_mut()
            .map(|writer| scope.spawn(move || writer.run(address)))
            .collect();
        let disturbing = scope.spawn(move || disturb(address, seed));
        thread::sleep(load);
        if is_polite {
            let status = server.stop()?;
            ensure!(status.success(), "asked to stop, it ended with {status}");
        } else {
            server.kill()?;
        }
        let others = [disturbing];
        for writer in running.into_iter().chain(others) {
            match writer.join() {
                Ok(result) => result?,
                Err(_) => bail!("a writer panicked"),
            }
        }
        Ok(())
    })
}

#[test]
fn no_acknowledged_write_is_lost_by_kill_9() {
    let seed = setting("HOLM_SEED").unwrap_or(1);
    let start = Instant::now();
    let limit = Duration::from_secs(setting("HOLM_KILL_SECONDS").unwrap_or(60));
    let wanted = setting("HOLM_KILLS").and_then(|kills| usize::try_from(kills).ok());
    let enough =
        |kills: usize| wanted.map_or_else(|| start.elapsed() > limit, |wanted| kills >= wanted);
    let seen = kill_loop(Program::Holm, seed, enough).unwrap();
    println!("{seen}");
    assert!(
        seen.writes > u64::try_from(seen.kills()).unwrap(),
        "{seen}: that is no load"
    );
}

/// The checker sees a store that comes back with what it held some writes ago.
#[test]
fn a_store_that_forgets_is_found_out() -> Result<()> {
    let mut server = Server::start(Setup::new(Program::Holm))?;
    let mut writers: Vec<Writer> = (0..WRITERS).map(|index| Writer::new(index, 3)).collect();
    let (data, folder) = (server.data(), tempfile::tempdir()?);
    let copy = |from: &std::path::Path, to: &std::path::Path| {
        let words = [from, to].map(|path| path.display().to_string());
        let words = ["cp", "-r", words[0].as_str(), words[1].as_str()];
        holm_process_tests::foreign::must(folder.path(), &words)
    };
    let earlier = folder.path().join("earlier");
    for round in 0..2 {
        under_load(&mut writers, &mut server, Duration::from_millis(300), false)?;
        if round == 0 {
            copy(&data, &earlier)?;
            server.again()?;
            check_all(&mut writers, &server)?;
        }
    }
    std::fs::remove_dir_all(&data)?;
    copy(&earlier, &data)?;
    server.again()?;
    let error = check_all(&mut writers, &server).unwrap_err().to_string();
    ensure!(error.starts_with("writer"), "told something else: {error}");
    Ok(())
}

#[test]
fn the_kill_loop_holds_for_etcd_too() {
    let seen = kill_loop(Program::Etcd, 1, |kills| kills >= 2).unwrap();
    assert!(seen.kills() == 2 && seen.writes > 0);
}
