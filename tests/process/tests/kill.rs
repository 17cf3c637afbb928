//! `kill -9` under load, again and again: every acknowledged write, lease and transaction is
//! there afterwards, and what was in doubt happened wholly or not at all.
//!
//! `HOLM_KILLS=5000` kills that often, by hand; CI kills for `HOLM_KILL_SECONDS`, 60 if not
//! set. `HOLM_SEED` fixes the first seed.

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

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

/// One writer: its own keys, its own knowledge, one request at a time.
struct Writer {
    name: String,
    prng: Prng,
    ledger: Ledger,
    count: u64,
}

impl Writer {
    fn new(index: u64, seed: u64) -> Self {
        Self {
            name: format!("w{index}/"),
            prng: Prng::new(seed * 1_000 + index),
            ledger: Ledger::default(),
            count: 0,
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

    fn grant(&mut self) -> (&'static str, Value, Doubt) {
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

/// Kills a server under load until `enough` says so; gives the number of kills and writes.
fn kill_loop(program: Program, seed: u64, enough: impl Fn(u64) -> bool) -> Result<(u64, u64)> {
    let mut server = Server::start(Setup::new(program))?;
    let mut writers: Vec<Writer> = (0..WRITERS).map(|index| Writer::new(index, seed)).collect();
    let mut prng = Prng::new(seed);
    let mut kills = 0;
    while !enough(kills) {
        let load = Duration::from_millis(20 + prng.below(400));
        under_load(&mut writers, &mut server, load)?;
        kills += 1;
        server
            .again()
            .with_context(|| format!("restart after kill {kills}, seed {seed}"))?;
        for writer in &mut writers {
            writer
                .check(server.address())
                .with_context(|| format!("kill {kills}, seed {seed}"))?;
        }
    }
    Ok((
        kills,
        writers
            .iter()
            .map(|writer| writer.ledger.acknowledged())
            .sum(),
    ))
}

/// All writers at once, and the kill in the midst of it.
fn under_load(writers: &mut [Writer], server: &mut Server, load: Duration) -> Result<()> {
    let address = server.address();
    thread::scope(|scope| {
        let running: Vec<_> = writers
            .iter_mut()
            .map(|writer| scope.spawn(move || writer.run(address)))
            .collect();
        thread::sleep(load);
        server.kill()?;
        for writer in running {
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
    let enough = |kills: u64| {
        setting("HOLM_KILLS").map_or_else(|| start.elapsed() > limit, |wanted| kills >= wanted)
    };
    let (kills, writes) = kill_loop(Program::Holm, seed, enough).unwrap();
    println!("{kills} kills, {writes} acknowledged writes, none lost");
    assert!(
        writes > kills,
        "{writes} writes in {kills} kills is no load"
    );
}

#[test]
fn the_kill_loop_holds_for_etcd_too() {
    let (kills, writes) = kill_loop(Program::Etcd, 1, |kills| kills >= 2).unwrap();
    assert!(kills == 2 && writes > 0);
}
