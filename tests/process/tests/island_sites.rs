//! Other sites for a local-first keyspace: one is taken in and serves once it has what is there, one goes with all that
//! it wrote kept by others and comes back, one is lost and the others go on.

use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use holm_process_tests::Gateway;
use holm_process_tests::sites::{Sites, copy, until};
use serde_json::{Value, json};

fn gateway(view: &Value, site: &str) -> Result<Gateway> {
    Ok(Gateway::new(address(view, site)?.parse::<SocketAddr>()?))
}

fn address(view: &Value, name: &str) -> Result<String> {
    let sites = view["sites"].as_array().into_iter().flatten();
    let mut sites = sites.filter(|it| it["name"] == name);
    let site = sites.next().with_context(|| format!("{name} in {view}"))?;
    let url = site["addresses"][0].as_str().context("an address")?;
    Ok(url.trim_start_matches("http://").to_owned())
}

fn said(sites: &Sites, words: &[&str]) -> Result<String> {
    let output = sites.run_at("a", words)?;
    ensure!(!output.status.success(), "{words:?} was taken");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    Ok(said.split_whitespace().collect::<Vec<_>>().join(" "))
}

fn shows(gateway: &mut Gateway, key: &str, value: &str) -> Result<()> {
    until("it has come", || {
        Ok(gateway.value(key)?.as_deref() == Some(value))
    })
}

/// Lets a site go, and waits until it has gone: the command itself waits for 10 s only, and an election or a message
/// that was lost may take that.
fn let_go(sites: &Sites, words: &[&str]) -> Result<()> {
    let remove = ["keyspace", "members", "fleet", "remove"];
    let output = sites.run_at("a", &[&remove[..], words].concat())?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let is_begun = output.status.success() || said.contains("it goes on by itself");
    ensure!(is_begun, "{words:?}: {said}");
    let site = *words.first().context("a site")?;
    until("it has gone", || {
        let view = sites.ask_at("a", &["keyspace", "show", "fleet"])?;
        Ok(address(&view, site).is_err())
    })
}

/// What etcd's own call is told at an island.
fn etcds_call_is_refused(island: &mut Gateway) -> Result<()> {
    let add = json!({"peerURLs": ["http://127.0.0.1:1"]});
    let answer = island.post("cluster/member/add", &add)?;
    let said = answer.message();
    ensure!(said.contains("holm keyspace members fleet add"), "{said}");
    Ok(())
}

#[test]
fn sites_come_and_go_and_nothing_that_was_written_is_lost() -> Result<()> {
    let words = ["--election-timeout=500", "--heartbeat-interval=50"];
    let mut sites = Sites::start(4, &words)?;
    let create = ["keyspace", "create", "fleet", "--guarantee", "local-first"];
    let view = sites.ask_at("a", &[&create[..], &["--sites", "a,b,c"]].concat())?;
    let (mut a, mut b) = (gateway(&view, "a")?, gateway(&view, "b")?);
    let mut c = gateway(&view, "c")?;
    for number in 0..50 {
        a.put(&format!("k{number}"), "of a")?;
    }
    shows(&mut c, "k49", "of a")?;
    etcds_call_is_refused(&mut a)?;

    // One is taken in. It refuses until it has received all, and until it serves the command waits.
    let view = sites.ask_at("b", &["keyspace", "members", "fleet", "add", "d"])?;
    let mut d = gateway(&view, "d")?;
    let first = d.value("k49")?;
    ensure!(first.as_deref() == Some("of a"), "it has all: {first:?}");
    ensure!(d.value("k0")?.as_deref() == Some("of a"), "it has all");
    d.put("k1", "of d")?;
    shows(&mut a, "k1", "of d")?;
    shows(&mut c, "k1", "of d")?;

    // One goes while it cannot reach another: what it wrote last is there all the same. Its link to the leader of
    // keyspace default is left alone: over that it says in the table how far it is.
    let leader = sites.ask_at("a", &["status"])?["leader"].clone();
    let other = if leader == "b" { "d" } else { "b" };
    ensure!(
        sites.run(&["link", "cut", other, "c"])?.status.success(),
        "cut"
    );
    c.put("last", "of c")?;
    let_go(&sites, &["c"])?;
    for site in [&mut a, &mut b, &mut d] {
        shows(site, "last", "of c")?;
    }
    until("c has closed its door", || {
        Ok(c.put("late", "of c").is_err())
    })?;
    until("c has deleted what it had", || {
        let elsewhere = sites.run_at("c", &["keyspace", "status", "fleet"])?;
        let elsewhere = String::from_utf8_lossy(&elsewhere.stderr).into_owned();
        Ok(elsewhere.contains("does not serve keyspace"))
    })?;

    // It comes back: as one that was never there, with all that is there now.
    ensure!(sites.run(&["link", "heal"])?.status.success(), "healed");
    comes_back(&sites, "c", &[("last", "of c"), ("k1", "of d")], &mut a)?;

    // One is lost; those who stay go on, and do not wait for it.
    sites.ask(&["site", "kill", "d"])?;
    let_go(&sites, &["d", "--lost"])?;
    b.put("k2", "of b")?;
    shows(&mut a, "k2", "of b")?;
    until("a goes by the table", || {
        let status = sites.ask_at("a", &["keyspace", "status", "fleet"])?;
        Ok(status["islands"].as_array().map(Vec::len) == Some(2))
    })?;
    let refused = said(
        &sites,
        &["keyspace", "members", "fleet", "remove", "nobody"],
    )?;
    ensure!(refused.contains("there is no site nobody"), "{refused}");
    sites.stop()?;
    Ok(())
}

/// A site that was let go is taken in again. What it shows first is all that is there, it writes, and
/// another has that; and it is the same after a start.
fn comes_back(
    sites: &Sites,
    name: &str,
    there: &[(&str, &str)],
    other: &mut Gateway,
) -> Result<()> {
    sites.ask_at("a", &["keyspace", "members", "fleet", "add", name])?;
    let serves = |value: &str| {
        let view = sites.ask_at("a", &["keyspace", "show", "fleet"])?;
        let Ok(mut here) = gateway(&view, name) else {
            return Ok(false);
        };
        let Ok(first) = here.value(there[0].0) else {
            return Ok(false);
        };
        ensure!(
            first.as_deref() == Some(there[0].1),
            "it has all: {first:?}"
        );
        for (key, value) in there {
            ensure!(here.value(key)?.as_deref() == Some(*value), "{key}");
        }
        here.put("back", value)?;
        Ok(true)
    };
    until("it serves again", || serves("of it"))?;
    shows(other, "back", "of it")?;
    sites.ask(&["site", "stop", name])?;
    sites.ask(&["site", "start", name])?;
    until("it serves after a start", || serves("later"))?;
    shows(other, "back", "later")?;
    // Where it is reached is said once.
    let applied = || Ok::<_, anyhow::Error>(sites.ask_at("a", &["status"])?["applied"].clone());
    until("keyspace default is left alone", || {
        let before = applied()?;
        thread::sleep(Duration::from_millis(500));
        Ok(applied()? == before)
    })
}

#[test]
fn a_site_whose_data_was_set_back_is_told_and_refuses_and_nothing_of_it_is_lost() -> Result<()> {
    let words = ["--election-timeout=500", "--heartbeat-interval=50"];
    let mut sites = Sites::start(3, &words)?;
    let create = ["keyspace", "create", "fleet", "--guarantee", "local-first"];
    let view = sites.ask_at("a", &create)?;
    let (mut a, mut b) = (gateway(&view, "a")?, gateway(&view, "b")?);
    gateway(&view, "c")?.put("early", "of c")?;
    shows(&mut a, "early", "of c")?;
    let (folder, kept) = (sites.data().join("c"), sites.data().join("kept"));
    sites.ask(&["site", "stop", "c"])?;
    copy(&folder, &kept)?;
    sites.ask(&["site", "start", "c"])?;
    until("c takes it", || {
        Ok(gateway(&view, "c")?.put("late", "of c").is_ok())
    })?;
    shows(&mut a, "late", "of c")?;
    shows(&mut b, "late", "of c")?;
    sites.ask(&["site", "stop", "c"])?;
    std::fs::remove_dir_all(&folder)?;
    copy(&kept, &folder)?;
    sites.ask(&["site", "start", "c"])?;
    // Others have seen this very boot of it as another process, so that its links are refused.
    until("c is refused as a copy", || {
        let log = std::fs::read_to_string(folder.join("holm.log"))?;
        Ok(log.contains("the data directory was copied"))
    })?;
    // The next boot is new to them, so they talk to it: now it hears how it stands.
    sites.ask(&["site", "stop", "c"])?;
    sites.ask(&["site", "start", "c"])?;
    until("c says what is wrong", || {
        let status = sites.ask_at("c", &["keyspace", "status", "fleet"]);
        let shut = status.is_ok_and(|it| {
            it["shut"]
                .as_str()
                .is_some_and(|it| it.contains("older copy"))
        });
        Ok(shut)
    })?;
    let said = sites.run_at("c", &["status"])?;
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    ensure!(
        said.contains("other sites have updates that it has not"),
        "{said}"
    );
    let mut c = gateway(&view, "c")?;
    ensure!(c.put("late", "again").is_err(), "it was taken");
    let here = json!({"key": "ZWFybHk=", "serializable": true});
    let read = c.post("kv/range", &here)?;
    ensure!(read.message().contains("older copy"), "{read:?}");
    // It says so in the table of keyspaces within a tenth of a second.
    thread::sleep(Duration::from_secs(1));
    let remove = ["keyspace", "members", "fleet", "remove", "c"];
    let refused = self::said(&sites, &remove)?;
    ensure!(refused.contains("remove c --lost"), "{refused}");
    let_go(&sites, &["c", "--lost"])?;
    b.put("on", "of b")?;
    shows(&mut a, "on", "of b")?;
    shows(&mut a, "late", "of c")?;
    until("c says how it comes back", || {
        let status = sites.ask_at("c", &["keyspace", "status", "fleet"])?;
        let shut = status["shut"].as_str().unwrap_or_default();
        Ok(shut.contains("members fleet add c"))
    })?;
    comes_back(&sites, "c", &[("late", "of c"), ("early", "of c")], &mut b)?;
    sites.stop()?;
    Ok(())
}
