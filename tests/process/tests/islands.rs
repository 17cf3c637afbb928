//! Local-first keyspaces at three real sites: cut apart they all write on, healed they are one; and what no island can
//! promise is refused with the reason.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use holm_base::Prng;
use holm_process_tests::base64::encode;
use holm_process_tests::gateway::{Stream, number};
use holm_process_tests::lan::{Lan, SITES};
use holm_process_tests::oracle::{Key, Oracle, State};
use holm_process_tests::sites::{Sites, eventually, island_urls, signal_process, until};
use holm_process_tests::trio::{Plan, Trio};
use holm_process_tests::{Gateway, Program, Server, Setup, not_tested, server};
use rustix::process::Signal;
use serde_json::json;

const LINKS: [(&str, &str); 3] = [("a", "b"), ("a", "c"), ("b", "c")];

fn etcdctl(endpoint: &str, words: &[&str]) -> Result<Output> {
    let program = server::installed("etcdctl").context("no etcdctl on this machine")?;
    let output = Command::new(program)
        .env("ETCDCTL_API", "3")
        .args(["--endpoints", endpoint])
        .args(words)
        .output()?;
    Ok(output)
}

fn done(endpoint: &str, words: &[&str]) -> Result<String> {
    let output = etcdctl(endpoint, words)?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "etcdctl {words:?}: {said}");
    Ok(String::from_utf8(output.stdout)?)
}

fn refused(endpoint: &str, words: &[&str]) -> Result<String> {
    let output = etcdctl(endpoint, words)?;
    ensure!(!output.status.success(), "etcdctl {words:?} was taken");
    Ok(String::from_utf8_lossy(&output.stderr).into_owned())
}

fn refusal(sites: &Sites, words: &[&str]) -> Result<String> {
    let output = sites.run_at("a", words)?;
    ensure!(!output.status.success(), "{words:?} was taken");
    // Wrapped to the width of a terminal.
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    Ok(said.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// Makes a keyspace of three islands in networks of their own; where clients reach each there.
fn create_apart(lan: &Lan) -> Result<Vec<SocketAddr>> {
    let program = server::locate(Program::Holm)?;
    let words = ["keyspace", "create", "fleet", "--guarantee", "local-first"];
    let output = lan.space(0).within(|| {
        let mut command = Command::new(program);
        command
            .args(words)
            .args(["--endpoints", "127.0.0.1:2379", "--json"]);
        Ok(command.output()?)
    })?;
    ensure!(output.status.success(), "{output:?}");
    island_urls(&serde_json::from_slice(&output.stdout)?)?
        .iter()
        .map(|it| Ok(it.trim_start_matches("http://").parse()?))
        .collect()
}

fn gateway(address: &str) -> Result<Gateway> {
    let place = address.trim_start_matches("http://");
    Ok(Gateway::new(place.parse::<SocketAddr>()?))
}

fn cut_all(sites: &Sites) -> Result<()> {
    for (one, two) in LINKS {
        let output = sites.run(&["link", "cut", one, two])?;
        ensure!(output.status.success(), "{output:?}");
    }
    Ok(())
}

fn heal(sites: &Sites) -> Result<()> {
    let output = sites.run(&["link", "heal"])?;
    ensure!(output.status.success(), "{output:?}");
    Ok(())
}

/// All keys with their values, and the revision that they were read at.
fn all(gateway: &mut Gateway) -> Result<(BTreeMap<String, String>, i64)> {
    let range = json!({"key": encode(b"\0"), "range_end": encode(b"\0")});
    let answer = gateway.post("kv/range", &range)?;
    ensure!(answer.is_ok(), "{}", answer.body);
    let kvs = answer.body["kvs"].as_array().into_iter().flatten();
    let state: State = kvs.map(Key::read).collect();
    let values = state
        .iter()
        .map(|(key, it)| (key.clone(), it.value.clone()));
    Ok((values.collect(), answer.revision()))
}

fn watch(gateway: &Gateway, start: i64) -> Result<Stream> {
    let create = json!({"key": encode(b"\0"), "range_end": encode(b"\0"), "start_revision": start});
    let mut stream = gateway.follow("watch", &json!({"create_request": create}))?;
    let first = stream.next_result()?.context("an answer")?;
    ensure!(first["created"] == true, "{first}");
    Ok(stream)
}

/// The state that a watch alone rebuilds, up to a revision that it comes by.
fn rebuilt(gateway: &Gateway, start: i64, last: i64) -> Result<State> {
    let (mut stream, mut oracle) = (watch(gateway, start)?, Oracle::new(false));
    while oracle.revision() < last {
        let response = stream.next_result()?.context("the watch ended")?;
        ensure!(response.get("canceled").is_none(), "canceled: {response}");
        oracle.take(&response).map_err(anyhow::Error::msg)?;
    }
    Ok(oracle.at(last).cloned().unwrap_or_default())
}

/// Random writes at an island until told to stop: when each began, and how long it took.
fn write(mut gateway: Gateway, seed: u64, stop: &AtomicBool) -> Result<Vec<(Instant, Duration)>> {
    let mut prng = Prng::new(seed);
    let mut taken = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let key = format!("k{}", prng.below(40));
        let begun = Instant::now();
        if prng.below(6) == 0 {
            let answer = gateway.post("kv/deleterange", &json!({"key": encode(key.as_bytes())}))?;
            ensure!(answer.is_ok(), "{}", answer.body);
        } else {
            gateway.put(&key, &format!("{seed}-{}", taken.len()))?;
        }
        taken.push((begun, begun.elapsed()));
        thread::sleep(Duration::from_millis(prng.below(4)));
    }
    Ok(taken)
}

fn seconds() -> Result<u64> {
    let said = std::env::var("HOLM_ISLANDS_SECONDS").unwrap_or_else(|_unset| "6".to_owned());
    said.parse().context("HOLM_ISLANDS_SECONDS")
}

#[test]
fn three_islands_write_apart_and_become_one() -> Result<()> {
    let mut sites = Sites::start(3, &["--election-timeout=500", "--heartbeat-interval=50"])?;
    let islands = sites.make_islands("fleet", "lww")?;
    let mut starts = Vec::new();
    for address in &islands {
        starts.push(all(&mut gateway(address)?)?.1 + 1);
    }
    let seconds = seconds()?;
    let stop = AtomicBool::new(false);
    let taken = thread::scope(|scope| -> Result<usize> {
        let stop = &stop;
        let writers: Vec<_> = (1_u64..)
            .zip(&islands)
            .map(|(seed, address)| scope.spawn(move || write(gateway(address)?, seed, stop)))
            .collect();
        let acts = || -> Result<()> {
            thread::sleep(Duration::from_millis(500));
            cut_all(&sites)?;
            thread::sleep(Duration::from_secs(seconds));
            heal(&sites)?;
            thread::sleep(Duration::from_millis(1_500));
            Ok(())
        };
        let acted = acts();
        stop.store(true, Ordering::Relaxed);
        let mut taken = 0;
        for writer in writers {
            let count = writer.join().expect("a writer does not panic")?.len();
            ensure!(count > 0, "an island took nothing");
            taken += count;
        }
        acted.map(|()| taken)
    })?;
    ensure!(taken > 100, "only {taken} writes");
    let mut gateways = Vec::new();
    for address in &islands {
        gateways.push(gateway(address)?);
    }
    until("they are equal", || {
        let (first, ..) = all(&mut gateways[0])?;
        for other in &mut gateways[1..] {
            if all(other)?.0 != first {
                return Ok(false);
            }
        }
        Ok(true)
    })?;
    // Each island's watch alone, from its beginning, rebuilds what it shows.
    for (gateway, start) in gateways.iter_mut().zip(&starts) {
        // A delete leaves no key that names it: one write more is the newest for sure.
        let last = gateway.put("newest", "of all")?;
        let told = rebuilt(gateway, *start, last)?;
        until("a read at that revision tells the same", || {
            let range = json!({"key": encode(b"\0"), "range_end": encode(b"\0"), "revision": last});
            let answer = gateway.post("kv/range", &range)?;
            let kvs = answer.body["kvs"].as_array().into_iter().flatten();
            let read: State = kvs.map(Key::read).collect();
            ensure!(read == told, "the watch told {told:?}, a read {read:?}");
            Ok(true)
        })?;
    }
    sites.stop()?;
    Ok(())
}

/// What a watch tells from a revision on, until a key of that name has come.
fn follow(gateway: &Gateway, start: i64, until: &str) -> Result<State> {
    let (mut stream, mut oracle) = (watch(gateway, start)?, Oracle::new(false));
    loop {
        let response = stream.next_result()?.context("the watch ended")?;
        ensure!(response.get("canceled").is_none(), "canceled: {response}");
        oracle.take(&response).map_err(anyhow::Error::msg)?;
        oracle.forget();
        let state = oracle.at(oracle.revision());
        if let Some(state) = state.filter(|it| it.contains_key(until)) {
            return Ok(state.clone());
        }
    }
}

fn state(gateway: &mut Gateway) -> Result<State> {
    let range = json!({"key": encode(b"\0"), "range_end": encode(b"\0")});
    let answer = gateway.post("kv/range", &range)?;
    ensure!(answer.is_ok(), "{}", answer.body);
    let kvs = answer.body["kvs"].as_array().into_iter().flatten();
    Ok(kvs.map(Key::read).collect())
}

/// How many writes there were, and what half and ninety-nine of a hundred took at most.
fn told(name: &str, taken: impl Iterator<Item = Duration>) -> Result<String> {
    let mut taken: Vec<Duration> = taken.collect();
    taken.sort_unstable();
    let count = taken.len();
    ensure!(count > 100, "only {count} writes while {name}");
    let (half, most) = (taken[count / 2], taken[count * 99 / 100]);
    Ok(format!(
        "{name}: {count} writes, p50 {half:.2?}, p99 {most:.2?}"
    ))
}

/// By hand, for minutes: `HOLM_ISLANDS_SECONDS=180 cargo test -p holm-process-tests --test islands kernel -- --nocapture`.
#[test]
fn islands_that_the_kernel_cuts_apart_write_on_and_become_one() -> Result<()> {
    let words = ["--election-timeout=500", "--heartbeat-interval=50"];
    let Some(trio) = Trio::apart(&Plan::new(Program::Holm, &words))? else {
        not_tested("only root can make networks of its own, where the kernel has veth and bridge");
        return Ok(());
    };
    let lan = trio.lan()?;
    let islands = create_apart(lan)?;
    let client = |at: usize| Gateway::in_space(islands[at], Arc::clone(lan.space(at)));
    let starts = (0..SITES).map(|at| Ok(all(&mut client(at))?.1 + 1));
    let starts: Vec<i64> = starts.collect::<Result<_>>()?;
    let (seconds, stop, client) = (seconds()?, AtomicBool::new(false), &client);
    let (stop, starts) = (&stop, &starts);
    thread::scope(|scope| -> Result<()> {
        let followers: Vec<_> = (0..SITES)
            .map(|at| scope.spawn(move || follow(&client(at), starts[at], "newest")))
            .collect();
        let writers: Vec<_> = (1..)
            .zip(0..SITES)
            .map(|(seed, at)| scope.spawn(move || write(client(at), seed, stop)))
            .collect();
        let acts = || -> Result<(Instant, Instant)> {
            thread::sleep(Duration::from_secs(seconds / 2));
            (0..SITES).try_for_each(|at| lan.unplug(at))?;
            let cut = Instant::now();
            thread::sleep(Duration::from_secs(seconds));
            let healed = Instant::now();
            lan.heal()?;
            thread::sleep(Duration::from_secs(2));
            Ok((cut, healed))
        };
        let acted = acts();
        stop.store(true, Ordering::Relaxed);
        let mut taken = Vec::new();
        for writer in writers {
            taken.extend(writer.join().expect("a writer does not panic")?);
        }
        let (cut, healed) = acted?;
        let of = |from: Option<Instant>, to: Instant| {
            let within = move |at: &Instant| from.is_none_or(|from| *at >= from) && *at < to;
            taken.iter().filter(move |it| within(&it.0)).map(|it| it.1)
        };
        println!("{}", told("joined", of(None, cut))?);
        println!("{}", told("cut", of(Some(cut), healed))?);
        let begun = Instant::now();
        until("they are equal", || {
            let first = all(&mut client(0))?.0;
            Ok((1..SITES).all(|at| all(&mut client(at)).is_ok_and(|it| it.0 == first)))
        })?;
        println!("equal {:.1?} after the last write", begun.elapsed());
        client(0).put("newest", "of all")?;
        for (at, follower) in followers.into_iter().enumerate() {
            let told = follower.join().expect("a follower does not panic")?;
            let read = state(&mut client(at))?;
            ensure!(
                told == read,
                "at {at} a watch told {told:?}, a read {read:?}"
            );
        }
        Ok(())
    })
}

/// It is not lost unseen.
fn what_lost_is_told(sites: &Sites) -> Result<()> {
    let met = sites.ask_at("a", &["keyspace", "conflicts", "fleet"])?;
    let first = &met["conflicts"][0];
    ensure!(
        first["kind"] == "concurrent_put" && first["key"] == "before",
        "{met}"
    );
    ensure!(
        first["winner"]["value"] == "3" && first["winner"]["site"] == "c",
        "{met}"
    );
    ensure!(
        first["losers"][0]["value"] == "2" && first["losers"][0]["site"] == "a",
        "{met}"
    );
    Ok(())
}

#[test]
fn an_island_that_was_killed_while_it_was_cut_off_has_lost_nothing() -> Result<()> {
    let mut sites = Sites::start(3, &["--election-timeout=500", "--heartbeat-interval=50"])?;
    let islands = sites.make_islands("fleet", "lww")?;
    done(&islands[0], &["put", "before", "1"])?;
    until("all have it", || {
        let found = done(&islands[2], &["get", "before", "--print-value-only"])?;
        Ok(found == "1\n")
    })?;
    cut_all(&sites)?;
    done(&islands[2], &["put", "alone", "at c"])?;
    done(&islands[0], &["put", "before", "2"])?;
    let id = sites.site("c")?["pid"].as_u64().context("a process")?;
    signal_process(id, Signal::KILL)?;
    eventually("c is started again", || {
        let output = sites.run(&["site", "start", "c"])?;
        ensure!(output.status.success(), "{output:?}");
        Ok(())
    })?;
    // Its own keys are there while it is still cut off, and it takes writes.
    eventually("it serves again", || {
        let found = done(&islands[2], &["get", "alone", "--print-value-only"])?;
        ensure!(found == "at c\n", "{found}");
        Ok(())
    })?;
    let log = std::fs::read_to_string(sites.data().join("c").join("holm.log"))?;
    ensure!(log.contains("keyspace fleet  local-first"), "{log}");
    done(&islands[2], &["put", "again", "at c"])?;
    done(&islands[2], &["put", "before", "3"])?;
    ensure!(
        !sites
            .run_at("a", &["keyspace", "conflicts", "fleet"])?
            .status
            .success()
    );
    // What others have not seen is told, and waited for.
    let status = sites.ask_at("a", &["keyspace", "status", "fleet"])?;
    ensure!(
        status["islands"].as_array().map(Vec::len) == Some(2),
        "{status}"
    );
    let said = refusal(
        &sites,
        &[
            "keyspace",
            "wait",
            "fleet",
            "--seen-by",
            "c",
            "--within",
            "1",
        ],
    )?;
    ensure!(said.contains("not seen within 1 s by c"), "{said}");
    heal(&sites)?;
    let seen = sites.ask_at("a", &["keyspace", "wait", "fleet", "--seen-by", "b,c"])?;
    ensure!(seen["seen_by"] == json!(["b", "c"]), "{seen}");
    for island in &islands {
        until("all have all", || {
            let found = done(island, &["get", "", "--prefix"])?;
            Ok(found == "again\nat c\nalone\nat c\nbefore\n3\n")
        })?;
    }
    what_lost_is_told(&sites)?;
    sites.stop()?;
    Ok(())
}

#[test]
fn additions_at_islands_that_are_cut_apart_all_count() -> Result<()> {
    let mut sites = Sites::start(3, &["--election-timeout=500", "--heartbeat-interval=50"])?;
    let islands = sites.make_islands("fleet", "counter")?;
    done(&islands[0], &["put", "parts", "100"])?;
    until("all have it", || {
        Ok(done(&islands[1], &["get", "parts", "--print-value-only"])? == "100\n")
    })?;
    cut_all(&sites)?;
    for island in &islands[..2] {
        done(island, &["put", "parts", "+7"])?;
        done(island, &["put", "--", "parts", "-2"])?;
        ensure!(done(island, &["get", "parts", "--print-value-only"])? == "105\n");
    }
    let said = refused(&islands[0], &["put", "parts", "some"])?;
    ensure!(said.contains("a counter takes a whole number"), "{said}");
    heal(&sites)?;
    for island in &islands {
        until("all count", || {
            Ok(done(island, &["get", "parts", "--print-value-only"])? == "110\n")
        })?;
    }
    sites.stop()?;
    Ok(())
}

/// A client that was moved here with revisions of there lists anew, as after a compaction.
fn revisions_of_another_island_are_none(
    here: &str,
    gateway: &mut Gateway,
    theirs: i64,
) -> Result<()> {
    let said = refused(here, &["get", "door", "--rev", &theirs.to_string()])?;
    ensure!(said.contains("has been compacted"), "{said}");
    let mut stream = gateway.follow(
        "watch",
        &json!({"create_request": {"key": encode(b"door"), "start_revision": theirs}}),
    )?;
    let told = stream.next_result()?.context("an answer")?;
    let told = if told["canceled"] == true {
        told
    } else {
        stream.next_result()?.context("an end")?
    };
    ensure!(
        told["canceled"] == true && number(&told["compact_revision"]) > 0,
        "{told}"
    );
    let compare = |result: &str| {
        json!({
            "compare": [{"key": encode(b"door"), "target": "MOD", "result": result, "mod_revision": theirs}],
            "success": [{"request_put": {"key": encode(b"door"), "value": encode(b"shut")}}],
        })
    };
    let equal = gateway.post("kv/txn", &compare("EQUAL"))?;
    ensure!(
        equal.is_ok() && equal.body.get("succeeded").is_none(),
        "{}",
        equal.body
    );
    let greater = gateway.post("kv/txn", &compare("GREATER"))?;
    ensure!(
        greater.message().contains("belongs to another site"),
        "{}",
        greater.body
    );
    Ok(())
}

fn what_cannot_be_made_is_refused(sites: &Sites) -> Result<()> {
    for (words, text) in [
        (
            &[
                "keyspace",
                "create",
                "x",
                "--guarantee",
                "local-first",
                "--type",
                "escrow",
            ][..],
            "there is no type",
        ),
        (
            &["keyspace", "create", "x", "--type", "mv"],
            "linearizable keyspace has none",
        ),
        (
            &["keyspace", "create", "x", "--leave-out-after", "7d"],
            "--leave-out-after is for islands",
        ),
        (&["keyspace", "status", "x"], "there is no keyspace x"),
        (&["keyspace", "status", "default"], "only a local-first one"),
        (
            &["keyspace", "wait", "fleet", "--seen-by", "z"],
            "at no site z beside a",
        ),
    ] {
        let said = refusal(sites, words)?;
        ensure!(said.contains(text), "{words:?}: {said}");
    }
    Ok(())
}

#[test]
fn what_islands_cannot_promise_is_refused_with_the_reason() -> Result<()> {
    let words = [
        "--election-timeout=500",
        "--heartbeat-interval=50",
        "--max-request-bytes=8MiB",
    ];
    let mut sites = Sites::start(3, &words)?;
    let islands = sites.make_islands("fleet", "mv")?;
    let [a, b] = [&islands[0], &islands[1]];
    for words in [&["lock", "it", "true"][..], &["elect", "it", "me"]] {
        let said = refused(a, words)?;
        ensure!(
            said.contains("cannot promise mutual exclusion"),
            "{words:?}: {said}"
        );
    }
    let mut gateways = [gateway(a)?, gateway(b)?];
    let lock = gateways[0].ask("POST", "/v3/lock/lock", b"{\"name\": \"aXQ=\"}")?;
    ensure!(
        lock.message().contains("cannot promise mutual exclusion"),
        "{}",
        lock.body
    );
    // What one island takes all others must be able to take.
    let long = json!({"key": encode(b"long"), "value": encode(&vec![b'v'; 3 << 20])});
    let said = gateways[0].post("kv/put", &long)?;
    ensure!(
        said.message().contains("request is too large"),
        "{}",
        said.body
    );
    let theirs = gateways[1].put("door", "open")?;
    until("it has come", || {
        Ok(gateways[0].value("door")?.as_deref() == Some("open"))
    })?;
    revisions_of_another_island_are_none(a, &mut gateways[0], theirs)?;
    let said = refused(a, &["user", "add", "ann:secret"])?;
    ensure!(
        said.contains("no users") || said.contains("users of a local-first"),
        "{said}"
    );
    what_cannot_be_made_is_refused(&sites)?;
    // Each island is a cluster of one member to its clients: they never spread over islands.
    let members = done(a, &["member", "list"])?;
    ensure!(
        members.lines().count() == 1 && members.contains(a.as_str()),
        "{members}"
    );
    sites.stop()?;
    Ok(())
}

#[test]
fn a_node_alone_is_no_island() -> Result<()> {
    let alone = Server::start(Setup::new(Program::Holm).in_memory())?;
    let output = Command::new(server::locate(Program::Holm)?)
        .args(["keyspace", "create", "x", "--guarantee", "local-first"])
        .args(["--endpoints", &alone.address().to_string()])
        .output()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(
        !output.status.success() && said.contains("this node is alone"),
        "{said}"
    );
    Ok(())
}
