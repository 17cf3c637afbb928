//! Three sites from one command: written at one, read at another, cut, killed, held, healed, started again.

use std::collections::BTreeSet;
use std::fs;
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use holm_process_tests::Gateway;
use holm_process_tests::base64::encode;
use holm_process_tests::ports::Ports;
use holm_process_tests::sites::{Sites, eventually, signal_process, until};
use rustix::process::Signal;
use serde_json::{Value, json};

const NAMES: [&str; 3] = ["a", "b", "c"];

/// How a site sees the cluster.
fn status(sites: &Sites, name: &str) -> Result<Value> {
    let endpoint = sites.endpoint(name)?.to_string();
    let binary = holm_process_tests::server::locate(holm_process_tests::Program::Holm)?;
    let output = std::process::Command::new(binary)
        .args(["status", "--json", "--endpoints", &endpoint])
        .output()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "status of {name}: {said}");
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// Who leads, once all agree on one that is there.
fn leader(sites: &Sites, among: &[&'static str]) -> Result<&'static str> {
    eventually("a leader", || {
        let mut leaders = Vec::new();
        for name in among {
            leaders.push(status(sites, name)?["leader"].clone());
        }
        let agreed = leaders.windows(2).all(|pair| pair[0] == pair[1]);
        ensure!(agreed, "they follow {leaders:?}");
        let leader = leaders[0].as_str().unwrap_or_default();
        let found = among.iter().find(|name| **name == leader).copied();
        found.with_context(|| format!("`{leader}` leads"))
    })
}

/// What a site has under all keys, asked of that site alone.
fn own_state(client: &mut Gateway) -> Result<Value> {
    let all = json!({"key": encode(b"\0"), "range_end": encode(b"\0"), "serializable": true});
    let answer = client.post("kv/range", &all)?;
    ensure!(answer.is_ok(), "{}", answer.body);
    Ok(json!({"revision": answer.revision(), "kvs": answer.body["kvs"]}))
}

fn all_equal(sites: &Sites) -> Result<()> {
    let mut clients = Vec::new();
    for name in NAMES {
        clients.push(sites.client(name)?);
    }
    eventually("all sites have the same", || {
        let states: Result<Vec<Value>> = clients.iter_mut().map(own_state).collect();
        let states = states?;
        let agreed = states.windows(2).all(|pair| pair[0] == pair[1]);
        ensure!(agreed, "they differ: {states:?}");
        Ok(())
    })
}

/// Puts at a site until it is taken, which an election may hold up.
fn put_somehow(sites: &Sites, name: &str, key: &str, value: &str) -> Result<()> {
    eventually("a put is taken", || {
        sites.client(name)?.put(key, value).map(drop)
    })
}

/// Reads at a site until it answers what was written.
fn reads(sites: &Sites, name: &str, key: &str, value: &str) -> Result<()> {
    eventually("a read finds what was written", || {
        let found = sites.client(name)?.value(key)?;
        ensure!(found.as_deref() == Some(value), "{key} is {found:?}");
        Ok(())
    })
}

fn others(name: &str) -> Vec<&'static str> {
    NAMES.into_iter().filter(|it| *it != name).collect()
}

#[test]
fn a_site_that_is_cut_off_says_so_and_the_others_go_on() -> Result<()> {
    let sites = Sites::start(3, &["--election-timeout=500", "--heartbeat-interval=50"])?;
    let clients: Result<Vec<Gateway>> = NAMES.iter().map(|name| sites.client(name)).collect();
    let [mut a, mut b, mut c] =
        <[Gateway; 3]>::try_from(clients?).map_err(|_left| anyhow::anyhow!("three"))?;
    // On a busy machine, an election may come between any two of these.
    eventually("the sites act as one", || {
        let first = a.put("greeting", "hello")?;
        let found = c.value("greeting")?;
        ensure!(found.as_deref() == Some("hello"), "c reads {found:?}");
        let second = b.put("greeting", "again")?;
        ensure!(second == first + 1, "{second} follows {first}");
        Ok(())
    })?;

    let island = leader(&sites, &NAMES)?;
    let rest = others(island);
    for other in &rest {
        sites.ask(&["link", "cut", island, other])?;
    }
    put_somehow(&sites, rest[0], "majority", "goes on")?;
    reads(&sites, rest[1], "majority", "goes on")?;

    let mut alone = sites.client(island)?;
    let begun = Instant::now();
    let body = json!({"key": encode(b"island"), "value": encode(b"lost")});
    let refused = alone.post("kv/put", &body)?;
    ensure!(!refused.is_ok(), "an island took a write: {}", refused.body);
    let message = refused.message();
    // The last is what a change is told that never found a leader.
    let texts = [
        "request timed out",
        "no leader",
        "context deadline exceeded",
    ];
    ensure!(
        texts.iter().any(|text| message.contains(text)),
        "{}",
        refused.body
    );
    ensure!(
        begun.elapsed() < Duration::from_secs(40),
        "{:?}",
        begun.elapsed()
    );
    eventually("the island says that it is cut off", || {
        let status = status(&sites, island)?;
        ensure!(status["is_cut_off"] == true, "{status}");
        Ok(())
    })?;
    let links = sites.ask(&["link"])?;
    let cut = links["links"].as_array().context("links")?.iter();
    let cut = cut.filter(|link| link["there"] == "cut" && link["back"] == "cut");
    ensure!(cut.count() == 2, "{links}");

    sites.ask(&["link", "heal"])?;
    reads(&sites, island, "majority", "goes on")?;
    put_somehow(&sites, island, "healed", "yes")?;
    all_equal(&sites)
}

#[test]
fn a_killed_leader_is_replaced_and_catches_up() -> Result<()> {
    let sites = Sites::start(3, &["--election-timeout=500", "--heartbeat-interval=50"])?;
    let dead = leader(&sites, &NAMES)?;
    put_somehow(&sites, dead, "before", "1")?;
    let killed = sites.ask(&["site", "kill", dead])?;
    ensure!(killed["sites"][0]["state"] == "killed", "{killed}");
    let rest = others(dead);
    put_somehow(&sites, rest[0], "after", "2")?;
    reads(&sites, rest[1], "before", "1")?;
    let refusal = sites.refusal(&["site", "kill", dead])?;
    ensure!(
        refusal.contains("does not run: `holm site start"),
        "{refusal}"
    );
    let started = sites.ask(&["site", "start", dead])?;
    ensure!(started["sites"][0]["pid"].is_u64(), "{started}");
    until("it serves again", || {
        Ok(sites.site(dead)?["state"] == "serving")
    })?;
    all_equal(&sites)
}

#[test]
fn a_held_site_misses_nothing_and_a_slow_link_is_only_slow() -> Result<()> {
    let sites = Sites::start(3, &[])?;
    let leads = leader(&sites, &NAMES)?;
    let rest = others(leads);
    let held = sites.ask(&["site", "pause", rest[0]])?;
    ensure!(held["sites"][0]["state"] == "paused", "{held}");
    put_somehow(&sites, leads, "held", "1")?;
    sites.ask(&["site", "resume", rest[0]])?;
    for (from, to) in [(leads, rest[0]), (leads, rest[1]), (rest[0], rest[1])] {
        sites.ask(&["link", "slow", from, to, "--delay", "40ms"])?;
    }
    put_somehow(&sites, leads, "slow", "0")?;
    let mut client = sites.client(leads)?;
    let begun = Instant::now();
    client.put("slow", "1")?;
    let took = begun.elapsed();
    ensure!(
        took >= Duration::from_millis(80),
        "a round trip of 80 ms took {took:?}"
    );
    ensure!(took < Duration::from_secs(30), "{took:?}");
    sites.ask(&["link", "heal"])?;
    all_equal(&sites)
}

#[test]
fn all_are_stopped_and_started_again_on_their_data() -> Result<()> {
    let mut sites = Sites::start(3, &[])?;
    put_somehow(&sites, "b", "kept", "yes")?;
    let before = sites.endpoint("c")?;
    let begun = Instant::now();
    let status = sites.stop()?;
    // Who leads waits for nobody to take that over: all the others stop as well.
    let took = begun.elapsed();
    ensure!(took < Duration::from_secs(3), "{took:?}");
    ensure!(status.success(), "{status}:\n{}", sites.said());
    ensure!(
        sites.said().contains("all sites have stopped"),
        "{}",
        sites.said()
    );
    let nothing = sites.refusal(&["site"])?;
    ensure!(
        nothing.contains("start some with `holm up --sites 3`"),
        "{nothing}"
    );
    sites.again()?;
    ensure!(sites.endpoint("c")? == before, "addresses stay");
    reads(&sites, "c", "kept", "yes")?;
    all_equal(&sites)
}

#[test]
fn a_site_that_dies_is_told_of_and_stays_down_and_all_end_with_their_parent() -> Result<()> {
    let mut sites = Sites::start(3, &[])?;
    let id = sites.site("b")?["pid"].as_u64().context("a process")?;
    signal_process(id, Signal::KILL)?;
    until("it is told", || {
        Ok(sites.said().contains("site b ended by itself, signal 9"))
    })?;
    let row = sites.site("b")?;
    ensure!(
        row["state"] == "died" && row["ended"] == "signal 9",
        "{row}"
    );
    ensure!(row["pid"].is_null(), "{row}");
    sites.ask(&["site", "pause", "c"])?;
    let (a, c) = (sites.endpoint("a")?, sites.endpoint("c")?);
    sites.kill()?;
    until("a and even the held c are gone", || {
        Ok(TcpStream::connect(a).is_err() && TcpStream::connect(c).is_err())
    })
}

/// With port 0 the sites find their ports themselves: outside of what the system hands out, and
/// held, so that two that start at once get different ones.
#[test]
fn sites_that_find_their_own_ports_share_none_and_keep_them() -> Result<()> {
    let starts: Vec<_> = (0..2)
        .map(|_| thread::spawn(|| Sites::start(2, &["--listen=127.0.0.1:0"])))
        .collect();
    let mut both = Vec::new();
    for start in starts {
        let started = start.join().map_err(|_panic| anyhow::anyhow!("a panic"))?;
        both.push(started?);
    }
    let mut all = Vec::new();
    for sites in &both {
        for name in ["a", "b"] {
            all.push(sites.endpoint(name)?.port());
        }
    }
    let distinct: BTreeSet<u16> = all.iter().copied().collect();
    ensure!(distinct.len() == 4, "{all:?}");
    let handed_out = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range")?;
    let ends: Result<Vec<u16>, _> = handed_out.split_whitespace().map(str::parse).collect();
    let ends = ends?;
    let inside = |port: &&u16| (ends[0]..=ends[1]).contains(*port);
    ensure!(!all.iter().any(|it| inside(&it)), "{all:?} and {ends:?}");
    // The port of a site that was killed stays its own.
    both[0].ask(&["site", "kill", "a"])?;
    let address = both[0].endpoint("a")?;
    let stolen = Ports::exactly(address.port());
    ensure!(stolen.is_err(), "{address} is free for anybody");
    Ok(())
}

#[test]
fn refusals_say_what_there_is() -> Result<()> {
    let mut sites = Sites::start(2, &[])?;
    sites.ask(&["site", "pause", "b"])?;
    let cases: [(&[&str], &str); 4] = [
        (
            &["link", "cut", "a", "z"],
            "no site is called z: there are a, b",
        ),
        (&["link", "cut", "b", "b"], "b and b are one site"),
        (&["site", "resume", "a"], "site a is not paused"),
        (&["site", "start", "b"], "`holm site resume b`"),
    ];
    for (words, expected) in cases {
        let text = sites.refusal(words)?;
        ensure!(text.contains(expected), "{words:?}: {text}");
    }
    let twice = sites.refusal(&["up", "--sites=2", "--listen=127.0.0.1:0"])?;
    ensure!(twice.contains("has this directory open"), "{twice}");
    sites.stop()?;
    let fewer = sites.refusal(&["up", "--sites=3"])?;
    ensure!(
        fewer.contains("holds the data of sites a, b: start those"),
        "{fewer}"
    );
    let alone = sites.refusal(&["up", "--listen=127.0.0.1:0", "--console=none"])?;
    ensure!(alone.contains("holds the data of several sites"), "{alone}");
    Ok(())
}
