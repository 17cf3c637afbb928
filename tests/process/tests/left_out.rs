//! A site that was left out of a local-first keyspace keeps what only it has, refuses its clients with the reason, and
//! brings it along when it is taken in again; one that is silent for too long is left out by itself.

use std::net::SocketAddr;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use holm_process_tests::Gateway;
use holm_process_tests::sites::{Sites, copy, until};
use serde_json::Value;

const WORDS: [&str; 2] = ["--election-timeout=500", "--heartbeat-interval=50"];
const CREATE: [&str; 5] = ["keyspace", "create", "fleet", "--guarantee", "local-first"];

fn site<'a>(view: &'a Value, name: &str) -> Result<&'a Value> {
    let sites = view["sites"].as_array().into_iter().flatten();
    let mut sites = sites.filter(|it| it["name"] == name);
    sites.next().with_context(|| format!("{name} in {view}"))
}

fn gateway(view: &Value, name: &str) -> Result<Gateway> {
    let url = site(view, name)?["addresses"][0].as_str();
    let url = url.context("an address")?.trim_start_matches("http://");
    Ok(Gateway::new(url.parse::<SocketAddr>()?))
}

fn shows(gateway: &mut Gateway, key: &str, value: &str) -> Result<()> {
    let mut last = None;
    let has_come = until("it has come", || {
        last = gateway.value(key)?;
        Ok(last.as_deref() == Some(value))
    });
    has_come.with_context(|| format!("{key} is {last:?}, not {value}"))
}

fn has_standing(sites: &Sites, name: &str, standing: &str) -> Result<bool> {
    let view = sites.ask_at("a", &["keyspace", "show", "fleet"])?;
    Ok(site(&view, name)?["standing"] == standing)
}

fn change(sites: &Sites, words: &[&str]) -> Result<()> {
    let members = ["keyspace", "members", "fleet"];
    let output = sites.run_at("a", &[&members[..], words].concat())?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let is_begun = output.status.success() || said.contains("it goes on by itself");
    ensure!(is_begun, "{words:?}: {said}");
    Ok(())
}

fn cut(sites: &Sites, name: &str) -> Result<()> {
    for other in ["a", "b"] {
        let cut = sites.run(&["link", "cut", other, name])?;
        ensure!(cut.status.success(), "cut");
    }
    Ok(())
}

fn heal(sites: &Sites) -> Result<()> {
    ensure!(sites.run(&["link", "heal"])?.status.success(), "healed");
    Ok(())
}

fn why_shut(sites: &Sites) -> Result<String> {
    let status = sites.ask_at("c", &["keyspace", "status", "fleet"])?;
    Ok(status["shut"].as_str().unwrap_or_default().to_owned())
}

/// Asked itself, the site says what it would make again; another says where to ask.
fn foretells(sites: &Sites) -> Result<()> {
    let words = ["keyspace", "members", "fleet", "add", "c", "--dry-run"];
    let elsewhere = sites.run_at("a", &words)?;
    let said = String::from_utf8_lossy(&elsewhere.stderr).into_owned();
    let place = format!("--endpoints http://{}", sites.endpoint("c")?);
    ensure!(!elsewhere.status.success(), "a knows what only c has");
    ensure!(
        said.contains("only site c knows") && said.contains(&place),
        "{said}"
    );

    let told = sites.ask_at("c", &words)?;
    let writes = told["writes"].as_array().context("writes")?;
    let line =
        |it: &Value| format!("{} {} {}", it["key"], it["write"], it["value"]).replace('"', "");
    let found: Vec<String> = writes.iter().map(line).collect();
    let expected = [
        "gone delete ",
        "only put of c",
        "over put of c",
        "shared put of c",
    ];
    ensure!(found == expected, "{found:?}");
    ensure!(
        writes
            .iter()
            .all(|it| it["becomes"] == "made_again" && it["site"] == "c"),
        "{told}"
    );
    let sums = ["made_again", "left_out", "own_updates", "counted"].map(|it| told[it].as_u64());
    ensure!(sums == [Some(4), Some(0), Some(5), Some(1)], "{told}");

    let shown = sites.run_at("c", &[&words[..], &["--limit", "1"]].concat())?;
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    let sum = "site c would make 4 writes again at 4 keys: 1 of its 5 updates count";
    ensure!(
        shown.contains(sum) && shown.contains("and 3 more"),
        "{shown}"
    );
    Ok(())
}

/// It is taken in again, after it was asked what it would make again.
fn comes_back(sites: &Sites) -> Result<()> {
    foretells(sites)?;
    ensure!(
        has_standing(sites, "c", "left out")?,
        "a dry run took it in"
    );
    let add = ["keyspace", "members", "fleet", "add", "c"];
    let added = sites.run_at("a", &add)?;
    let said = String::from_utf8_lossy(&added.stdout).into_owned();
    ensure!(
        said.contains("holm keyspace conflicts fleet --endpoints"),
        "{said}"
    );
    until("it is back", || has_standing(sites, "c", "member"))?;
    let again = sites.run_at("c", &[&add[..], &["--dry-run"]].concat())?;
    let said = String::from_utf8_lossy(&again.stderr).into_owned();
    ensure!(
        said.contains("was not left out of keyspace fleet"),
        "{said}"
    );
    Ok(())
}

#[test]
fn what_only_a_lost_site_had_is_there_once_it_is_taken_in_again() -> Result<()> {
    let mut sites = Sites::start(3, &WORDS)?;
    let view = sites.ask_at("a", &CREATE)?;
    let (mut a, mut b) = (gateway(&view, "a")?, gateway(&view, "b")?);
    let mut c = gateway(&view, "c")?;
    for key in ["gone", "over", "shared"] {
        a.put(key, "of a")?;
    }
    shows(&mut c, "shared", "of a")?;
    c.put("early", "of c")?;
    shows(&mut a, "early", "of c")?;
    shows(&mut b, "early", "of c")?;

    cut(&sites, "c")?;
    c.put("only", "of c")?;
    c.put("over", "of c")?;
    c.put("shared", "of c")?;
    let gone = serde_json::json!({"key": "Z29uZQ=="});
    c.post("kv/deleterange", &gone)?;
    // Of one millisecond either might be the later one.
    sleep(Duration::from_millis(20));
    a.put("shared", "of a, later")?;
    change(&sites, &["remove", "c", "--lost"])?;
    until("it is left out", || has_standing(&sites, "c", "left out"))?;
    b.put("since", "of b")?;
    heal(&sites)?;
    until("c says why it is shut", || {
        Ok(why_shut(&sites)?.contains("members fleet add c"))
    })?;
    ensure!(c.put("late", "of c").is_err(), "it took a write");

    // It keeps what it has, whatever comes between.
    sites.ask(&["site", "stop", "c"])?;
    sites.ask(&["site", "start", "c"])?;
    until("c says it again", || {
        let why = why_shut(&sites);
        Ok(why.is_ok_and(|why| why.contains("members fleet add c")))
    })?;
    comes_back(&sites)?;
    let mut c = gateway(&sites.ask_at("a", &["keyspace", "show", "fleet"])?, "c")?;
    until("c serves", || Ok(c.value("only").is_ok()))?;
    for island in [&mut a, &mut b, &mut c] {
        shows(island, "only", "of c")?;
        shows(island, "over", "of c")?;
        shows(island, "early", "of c")?;
        shows(island, "since", "of b")?;
        shows(island, "shared", "of a, later")?;
        ensure!(island.value("gone")?.is_none(), "what c deleted is there");
    }
    let told = sites.run_at("a", &["keyspace", "conflicts", "fleet"])?;
    let told = String::from_utf8_lossy(&told.stdout).into_owned();
    ensure!(told.contains("reissued"), "{told}");
    c.put("again", "of c")?;
    shows(&mut a, "again", "of c")?;
    a.put("to c", "of a")?;
    shows(&mut c, "to c", "of a")?;

    // And it stays what it is.
    sites.ask(&["site", "stop", "c"])?;
    sites.ask(&["site", "start", "c"])?;
    until("c serves", || Ok(c.value("only").is_ok()))?;
    shows(&mut c, "again", "of c")?;
    c.put("last", "of c")?;
    shows(&mut b, "last", "of c")?;
    sites.stop()?;
    Ok(())
}

#[test]
fn who_is_silent_for_too_long_is_left_out_by_itself_and_two_stay() -> Result<()> {
    let mut sites = Sites::start(3, &WORDS)?;
    let view = sites.ask_at("a", &[&CREATE[..], &["--leave-out-after", "6s"]].concat())?;
    let (mut a, mut c) = (gateway(&view, "a")?, gateway(&view, "c")?);
    a.put("k", "of a")?;
    shows(&mut c, "k", "of a")?;
    cut(&sites, "c")?;
    c.put("only", "of c")?;
    until("it is left out", || has_standing(&sites, "c", "left out"))?;
    // Two are left: none of them is left out.
    sites.ask(&["site", "kill", "b"])?;
    heal(&sites)?;
    until("c says why it is shut", || {
        Ok(why_shut(&sites)?.contains("members fleet add c"))
    })?;
    sleep(Duration::from_secs(8));
    ensure!(has_standing(&sites, "b", "member")?, "b was left out");
    sites.ask(&["site", "start", "b"])?;
    change(&sites, &["add", "c"])?;
    shows(&mut gateway(&view, "a")?, "only", "of c")?;
    // Who is let go for good deletes what it has.
    cut(&sites, "c")?;
    until("it is left out", || has_standing(&sites, "c", "left out"))?;
    heal(&sites)?;
    change(&sites, &["remove", "c"])?;
    until("c has deleted what it had", || {
        let status = sites.run_at("c", &["keyspace", "status", "fleet"])?;
        let said = String::from_utf8_lossy(&status.stderr).into_owned();
        Ok(said.contains("does not serve keyspace"))
    })?;
    sites.stop()?;
    Ok(())
}

/// Lets the third site go as lost, and takes it in again.
fn let_go_and_back(sites: &Sites) -> Result<()> {
    change(sites, &["remove", "c", "--lost"])?;
    until("it is left out", || has_standing(sites, "c", "left out"))?;
    change(sites, &["add", "c"])?;
    until("it is back", || has_standing(sites, "c", "member"))
}

#[test]
fn a_copy_of_before_a_return_adds_nothing_twice() -> Result<()> {
    let mut sites = Sites::start(3, &WORDS)?;
    let view = sites.ask_at("a", &[&CREATE[..], &["--type", "counter"]].concat())?;
    let (mut a, mut c) = (gateway(&view, "a")?, gateway(&view, "c")?);
    a.put("n", "+1")?;
    shows(&mut c, "n", "1")?;
    cut(&sites, "c")?;
    c.put("n", "+10")?;
    change(&sites, &["remove", "c", "--lost"])?;
    until("it is left out", || has_standing(&sites, "c", "left out"))?;
    sites.ask(&["site", "stop", "c"])?;
    let (folder, kept) = (sites.data().join("c"), sites.data().join("kept"));
    copy(&folder, &kept)?;
    sites.ask(&["site", "start", "c"])?;
    heal(&sites)?;
    change(&sites, &["add", "c"])?;
    shows(&mut a, "n", "11")?;
    until("it is back", || has_standing(&sites, "c", "member"))?;

    sites.ask(&["site", "stop", "c"])?;
    std::fs::remove_dir_all(&folder)?;
    copy(&kept, &folder)?;
    // Others have seen that very boot of it, and refuse it as another process.
    for _ in 0..2 {
        sites.ask(&["site", "start", "c"])?;
        sites.ask(&["site", "stop", "c"])?;
    }
    sites.ask(&["site", "start", "c"])?;
    // It is let go in order before anybody knows: then it says so on its way out.
    until("nobody takes it for well", || {
        let plain = sites.run_at("a", &["keyspace", "members", "fleet", "remove", "c"])?;
        Ok(String::from_utf8_lossy(&plain.stderr).contains("remove c --lost"))
    })?;
    ensure!(has_standing(&sites, "c", "older copy")?, "it is told");
    until("c says what is wrong", || {
        Ok(why_shut(&sites).is_ok_and(|why| why.contains("older copy")))
    })?;
    let_go_and_back(&sites)?;
    a.put("n", "+100")?;
    for name in ["a", "b", "c"] {
        let mut island = gateway(&sites.ask_at("a", &["keyspace", "show", "fleet"])?, name)?;
        until("it serves", || Ok(island.value("n").is_ok()))?;
        shows(&mut island, "n", "111")?;
    }
    let told = sites.run_at("c", &["keyspace", "conflicts", "fleet"])?;
    let told = String::from_utf8_lossy(&told.stdout).into_owned();
    ensure!(!told.contains("reissued"), "{told}");
    sites.stop()?;
    Ok(())
}
