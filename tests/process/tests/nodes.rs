//! A site of several nodes: one island, whichever of them is asked, whichever of them leads, and whatever the links
//! between sites do.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use holm_process_tests::Gateway;
use holm_process_tests::machine::Machine;
use holm_process_tests::sites::{Sites, eventually, until};
use serde_json::{Value, json};

const NODES: [&str; 4] = ["a1", "a2", "a3", "b"];
const NAMED: &str = "--names=a/a1,a/a2,a/a3,b";

fn start() -> Result<Sites> {
    Sites::start(
        4,
        &[NAMED, "--election-timeout=500", "--heartbeat-interval=50"],
    )
}

/// Where clients reach the keyspace at a node.
fn address(view: &Value, node: &str) -> Result<SocketAddr> {
    let all = view["sites"].as_array().into_iter().flatten();
    let mut found = all.filter(|it| it["name"] == node);
    let found = found.next().with_context(|| format!("{node} in {view}"))?;
    let url = found["addresses"][0].as_str().context("an address")?;
    Ok(url.trim_start_matches("http://").parse()?)
}

fn create(sites: &Sites) -> Result<Value> {
    let create = ["keyspace", "create", "fleet", "--guarantee", "local-first"];
    sites.ask_at("a1", &create)
}

/// Which of the nodes of site a leads its island.
fn leader(view: &Value, alive: &[&'static str]) -> Result<&'static str> {
    for node in alive {
        let mut client = Gateway::new(address(view, node)?);
        let status = client.post("maintenance/status", &json!({}))?;
        let (own, leads) = (&status.body["header"]["member_id"], &status.body["leader"]);
        if own == leads {
            return Ok(node);
        }
    }
    anyhow::bail!("none of {alive:?} leads")
}

/// Puts keys at any node of site a, one after the other, and says which were acknowledged.
struct Writer {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<Mutex<Vec<String>>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Writer {
    fn start(name: &str, at: Vec<SocketAddr>) -> Self {
        let (stop, acknowledged) = (Arc::new(AtomicBool::new(false)), Arc::default());
        let writer = Self {
            stop: Arc::clone(&stop),
            acknowledged: Arc::clone(&acknowledged),
            thread: None,
        };
        let name = name.to_owned();
        let work = move || {
            let mut clients: Vec<Gateway> = at.into_iter().map(Gateway::new).collect();
            for number in 0_u32.. {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                let at = usize::try_from(number).unwrap_or(0) % clients.len();
                let key = format!("{name}{number}");
                // One that was not answered may be there or not.
                if clients[at].put(&key, &key).is_ok() {
                    let mut known = acknowledged.lock().expect("no thread panics");
                    known.push(key);
                }
                thread::sleep(Duration::from_millis(2));
            }
        };
        Self {
            thread: Some(thread::spawn(work)),
            ..writer
        }
    }

    fn count(&self) -> usize {
        self.acknowledged.lock().expect("no thread panics").len()
    }

    fn end(mut self) -> Vec<String> {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("it ends");
        }
        let known = self.acknowledged.lock().expect("no thread panics");
        known.clone()
    }
}

/// All keys at a node, with their values and revisions.
fn all(at: SocketAddr) -> Result<Value> {
    let range = json!({"key": "AA==", "range_end": "AA=="});
    let answer = Gateway::new(at).post("kv/range", &range)?;
    ensure!(answer.is_ok(), "{}", answer.message());
    Ok(answer.body["kvs"].clone())
}

fn names(found: &Value) -> BTreeSet<String> {
    let kvs = found.as_array().into_iter().flatten();
    kvs.map(|it| it["key"].to_string()).collect()
}

/// All nodes come to have all that was acknowledged, and the same; those of site a to the revision. All take writes.
fn become_one(at_a: &[SocketAddr], at_b: SocketAddr, acknowledged: &[String]) -> Result<()> {
    let mut expected = BTreeSet::new();
    for key in acknowledged {
        let key = holm_process_tests::base64::encode(key.as_bytes());
        expected.insert(format!("\"{key}\""));
    }
    let everywhere: Vec<SocketAddr> = at_a.iter().copied().chain([at_b]).collect();
    until("all nodes have all", || {
        for at in &everywhere {
            let Ok(found) = all(*at) else {
                return Ok(false);
            };
            if !names(&found).is_superset(&expected) {
                return Ok(false);
            }
        }
        let first = names(&all(everywhere[0])?);
        let others = everywhere[1..].iter().map(|at| Ok(names(&all(*at)?)));
        let others: Vec<BTreeSet<String>> = others.collect::<Result<_>>()?;
        Ok(others.iter().all(|it| *it == first))
    })?;
    // Of one site they are alike to the revision.
    until("the nodes of site a are alike", || {
        let first = all(at_a[0])?;
        Ok(all(at_a[1])? == first && all(at_a[2])? == first)
    })?;
    for at in &everywhere {
        Gateway::new(*at).put("last", "goes on")?;
    }
    Ok(())
}

fn run(sites: &Sites, words: &[&str]) -> Result<()> {
    let output = sites.run(words)?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "{words:?}: {said}");
    Ok(())
}

#[test]
fn any_node_of_a_site_answers_for_it() -> Result<()> {
    let sites = start()?;
    let view = create(&sites)?;
    let shown = view["sites"].as_array().context("sites")?;
    let of: Vec<&str> = shown.iter().filter_map(|it| it["site"].as_str()).collect();
    ensure!(of == ["a", "a", "a", "b"], "{view}");
    let client = |node: &str| Ok::<_, anyhow::Error>(Gateway::new(address(&view, node)?));
    until("all nodes of site a lead or follow", || {
        Ok(client("a1")?.put("first", "1").is_ok())
    })?;
    // Whatever was acknowledged at one is read at the others from then on.
    for round in 0..20 {
        let (writer, value) = (NODES[round % 3], round.to_string());
        client(writer)?.put("k", &value)?;
        for reader in &NODES[..3] {
            let found = client(reader)?.value("k")?;
            ensure!(found.as_ref() == Some(&value), "{reader}: {found:?}");
        }
    }
    until("site b has it", || {
        Ok(client("b")?.value("k")?.as_deref() == Some("19"))
    })?;
    let list = client("a2")?.post("cluster/member/list", &json!({}))?;
    let members = list.body["members"].as_array().context("members")?;
    ensure!(members.len() == 3, "{members:?}");
    // Each of them knows of the other site, and that one of this.
    for (node, other) in [("a1", "b"), ("a2", "b"), ("a3", "b"), ("b", "a")] {
        until("the other site is in reach", || {
            let status = sites.ask_at(node, &["keyspace", "status", "fleet"])?;
            let islands = status["islands"].as_array().context("islands")?;
            Ok(islands.len() == 1 && islands[0]["site"] == other && islands[0]["is_cut"] == false)
        })?;
    }
    sites.ask_at("a3", &["keyspace", "wait", "fleet", "--seen-by", "b"])?;
    let refused = sites.run_at(
        "a1",
        &[
            "keyspace",
            "create",
            "other",
            "--guarantee",
            "local-first",
            "--sites",
            "a1,b",
        ],
    )?;
    let refused = String::from_utf8_lossy(&refused.stderr).into_owned();
    let refused = refused.split_whitespace().collect::<Vec<_>>().join(" ");
    ensure!(refused.contains("a1 is a node of site a"), "{refused}");
    Ok(())
}

#[test]
fn a_leader_killed_under_writes_and_sites_cut_apart_lose_nothing() -> Result<()> {
    let mut sites = start()?;
    let view = create(&sites)?;
    let at_a: Vec<SocketAddr> = NODES[..3]
        .iter()
        .map(|node| address(&view, node))
        .collect::<Result<_>>()?;
    let at_b = address(&view, "b")?;
    until("both sites write", || {
        let a = Gateway::new(at_a[0]).put("first", "a").is_ok();
        Ok(a && Gateway::new(at_b).put("first", "b").is_ok())
    })?;
    let writers: Vec<Writer> = ["w", "x", "y"]
        .iter()
        .map(|name| Writer::start(name, at_a.clone()))
        .chain([Writer::start("z", vec![at_b])])
        .collect();
    let written = |writers: &[Writer]| writers[..3].iter().map(Writer::count).sum::<usize>();
    thread::sleep(Duration::from_secs(1));

    let killed = leader(&view, &NODES[..3])?;
    let before = written(&writers);
    let begun = Instant::now();
    run(&sites, &["site", "kill", killed])?;
    until("the others go on", || Ok(written(&writers) > before + 50))?;
    let took = begun.elapsed();
    println!("50 more puts were acknowledged {took:?} after the leader was killed");

    // The sites are cut apart; each goes on, site a with two of its nodes.
    run(&sites, &["link", "cut", "a", "b"])?;
    let (before, other) = (written(&writers), writers[3].count());
    until("both go on", || {
        Ok(written(&writers) > before + 50 && writers[3].count() > other + 50)
    })?;
    let alive = if killed == "a1" { "a2" } else { "a1" };
    until("it is told that they are cut", || {
        let status = sites.ask_at(alive, &["keyspace", "status", "fleet"])?;
        Ok(status["islands"][0]["is_cut"] == true)
    })?;
    run(&sites, &["link", "heal"])?;
    run(&sites, &["site", "start", killed])?;
    // One that is held for longer than the others wait leads on for a moment when it goes on, and hears from the other
    // site what its successor wrote.
    let held = eventually("one leads", || leader(&view, &NODES[..3]))?;
    run(&sites, &["site", "pause", held])?;
    thread::sleep(Duration::from_secs(2));
    run(&sites, &["site", "resume", held])?;
    let (before, other) = (written(&writers), writers[3].count());
    until("all go on", || {
        Ok(written(&writers) > before + 50 && writers[3].count() > other + 50)
    })?;
    let acknowledged: Vec<String> = writers.into_iter().flat_map(Writer::end).collect();

    become_one(&at_a, at_b, &acknowledged)?;
    println!(
        "{} puts were acknowledged, and are everywhere",
        acknowledged.len()
    );
    sites.stop()?;
    Ok(())
}

#[test]
fn a_site_of_several_nodes_comes_to_a_keyspace_and_another_leaves_it() -> Result<()> {
    let sites = start()?;
    let create = ["keyspace", "create", "fleet", "--guarantee", "local-first"];
    let view = sites.ask_at("b", &[&create[..], &["--sites", "b"]].concat())?;
    let mut b = Gateway::new(address(&view, "b")?);
    until("b writes", || Ok(b.put("first", "of b").is_ok()))?;
    for number in 0..50 {
        b.put(&format!("k{number}"), "of b")?;
    }
    let members = ["keyspace", "members", "fleet"];
    let node = sites.run_at("b", &[&members[..], &["add", "a1"]].concat())?;
    ensure!(!node.status.success(), "a node is no site");
    let view = sites.ask_at("b", &[&members[..], &["add", "a"]].concat())?;
    for node in &NODES[..3] {
        let mut client = Gateway::new(address(&view, node)?);
        until("a node of a serves", || {
            let Ok(found) = client.value("k49") else {
                return Ok(false);
            };
            ensure!(found.as_deref() == Some("of b"), "it has all: {found:?}");
            Ok(true)
        })?;
    }
    let mut a = Gateway::new(address(&view, "a2")?);
    a.put("k0", "of a")?;
    until("b has it", || Ok(b.value("k0")?.as_deref() == Some("of a")))?;
    b.put("last", "of b")?;
    let output = sites.run_at("a3", &[&members[..], &["remove", "b"]].concat())?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let is_begun = output.status.success() || said.contains("it goes on by itself");
    ensure!(is_begun, "{said}");
    until("b has gone", || {
        let view = sites.ask_at("a1", &["keyspace", "show", "fleet"])?;
        Ok(address(&view, "b").is_err())
    })?;
    for node in &NODES[..3] {
        let mut client = Gateway::new(address(&view, node)?);
        let found = client.value("last")?;
        ensure!(found.as_deref() == Some("of b"), "{node}: {found:?}");
        client.put(node, "goes on")?;
    }
    Ok(())
}

/// Four nodes that joined by tokens: a1 with b has the keyspace, a2 and a3 came to its site later.
fn grown() -> Result<Vec<Machine>> {
    let names = ["a1", "b", "a2", "a3"];
    let mut machines: Vec<Machine> = names
        .iter()
        .map(|name| Machine::new(name))
        .collect::<Result<_>>()?;
    let flags = ["--election-timeout=500", "--heartbeat-interval=50"];
    let first = [&flags[..], &["--cluster=shop", "--site=a"]].concat();
    let words = machines[0].first(&first);
    machines[0].start(&words)?;
    for at in 1..machines.len() {
        let name = machines[at].name;
        let join = format!("--join={}", machines[0].token(name, "10m")?);
        let site = format!("--site={}", &name[..1]);
        let words = machines[at].first(&[&flags[..], &[&join, &site]].concat());
        machines[at].start(&words)?;
        let voters = at + 1;
        until("it has a vote", || {
            Ok(machines[0].ask(&["status"])?["voters"] == voters)
        })?;
        if name != "b" {
            continue;
        }
        let create = ["keyspace", "create", "fleet", "--guarantee", "local-first"];
        let view = machines[0].ask(&create)?;
        let mut a = Gateway::new(address(&view, "a1")?);
        until("a1 writes", || Ok(a.put("first", "of a1").is_ok()))?;
    }
    // They say of which site they are once they have started.
    until("all are known", || {
        let view = machines[0].ask(&["keyspace", "show", "default"])?;
        let shown = view["sites"].as_array().context("sites")?.iter();
        Ok(shown.filter(|it| it["site"] == "a").count() == 3)
    })?;
    Ok(machines)
}

#[test]
fn nodes_come_to_a_site_and_a_lost_one_goes() -> Result<()> {
    let mut machines = grown()?;
    let members = ["keyspace", "members", "fleet"];
    let view = machines[0].ask(&[&members[..], &["add", "a"]].concat())?;
    let shown = view["sites"].as_array().context("sites")?;
    ensure!(shown.len() == 4, "{view}");
    ensure!(shown.iter().all(|it| it["standing"] == "member"), "{view}");
    for node in ["a2", "a3"] {
        let mut client = Gateway::new(address(&view, node)?);
        let found = eventually("it serves", || client.value("first"))?;
        ensure!(found.as_deref() == Some("of a1"), "{node}: {found:?}");
    }
    let mut a2 = Gateway::new(address(&view, "a2")?);
    a2.put("second", "of a2")?;
    let mut b = Gateway::new(address(&view, "b")?);
    until("b has it", || Ok(b.value("second")?.is_some()))?;

    // The first node of the site is lost; the others go on, and let it go.
    machines[0].kill()?;
    eventually("the site goes on", || a2.put("third", "of a2"))?;
    until("b hears of it from another", || {
        Ok(b.value("third")?.is_some())
    })?;
    let goes = |name: &str| {
        // The command may give up waiting; what it began goes on.
        let begun = machines[2].ask(&[&members[..], &["remove", name]].concat());
        until("it has gone", || {
            let Ok(view) = machines[3].ask(&["keyspace", "show", "fleet"]) else {
                return Ok(false);
            };
            Ok(address(&view, name).is_err())
        })
        .with_context(|| format!("{name}: {begun:?}"))
    };
    goes("a1")?;
    let list = a2.post("cluster/member/list", &json!({}))?;
    let left = list.body["members"].as_array().context("members")?;
    ensure!(left.len() == 2, "{left:?}");
    goes("b")?;
    a2.put("fourth", "of a2")?;
    let mut a3 = Gateway::new(address(&view, "a3")?);
    ensure!(a3.value("fourth")?.is_some(), "one island of two nodes");
    Ok(())
}
