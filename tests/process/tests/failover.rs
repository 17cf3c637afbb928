//! How long nobody can write after `kill -9` of the leader: Holm beside etcd, with equal timeouts, in turns.
//!
//! `HOLM_FAILOVERS=10 cargo test -p holm-process-tests --test failover -- --nocapture` prints the table, with so many
//! kills of each leader; `HOLM_ETCD` says which etcd it is. Without it, one leader of Holm's is killed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use holm_process_tests::lan::SITES;
use holm_process_tests::sites::eventually;
use holm_process_tests::trio::{Plan, Trio};
use holm_process_tests::{Gateway, Program, peer};

/// Between two tries at one survivor.
const TRY_EVERY: Duration = Duration::from_millis(10);
/// A cluster that takes longer is broken.
const PATIENCE: Duration = Duration::from_secs(60);

/// Tries a new write every few milliseconds, each on a connection of its own, for a server may hold one until its own
/// time is up. Tells of the first that was accepted.
fn knock(
    gateway: impl Fn() -> Gateway + Send + Sync + 'static,
    is_over: &Arc<AtomicBool>,
    tell: &SyncSender<Instant>,
) {
    let gateway = Arc::new(gateway);
    let mut next = Instant::now();
    while !is_over.load(Ordering::Acquire) {
        let (gateway, tell, is_over) = (Arc::clone(&gateway), tell.clone(), Arc::clone(is_over));
        thread::spawn(move || {
            if gateway().put("failover", "1").is_ok() {
                is_over.store(true, Ordering::Release);
                // Who was first is all that is asked.
                tell.try_send(Instant::now()).ok();
            }
        });
        next += TRY_EVERY;
        sleep(next.saturating_duration_since(Instant::now()));
    }
}

/// Kills the leader and waits until a survivor has accepted a write; the leader is started again.
fn failover(trio: &mut Trio) -> Result<Duration> {
    let leader = trio.leader()?;
    let (tell, told) = sync_channel(1);
    let is_over = Arc::new(AtomicBool::new(false));
    let killed = Instant::now();
    trio.kill(leader)?;
    for at in (0..SITES).filter(|at| *at != leader) {
        let (address, tell, is_over) = (trio.address(at), tell.clone(), Arc::clone(&is_over));
        thread::spawn(move || knock(move || Gateway::new(address), &is_over, &tell));
    }
    let first = told.recv_timeout(PATIENCE);
    is_over.store(true, Ordering::Release);
    let waited = first
        .context("nobody accepted a write")?
        .saturating_duration_since(killed);
    trio.begin(leader)?;
    trio.serves(leader)?;
    eventually("all take writes", || {
        (0..SITES).try_for_each(|at| trio.client(at).put("settled", "1").map(drop))
    })?;
    // What still knocks goes away, and the returned one catches up.
    sleep(Duration::from_millis(1_000));
    Ok(waited)
}

fn row(name: &str, mut times: Vec<Duration>) -> String {
    times.sort_unstable();
    let (half, most) = (times[times.len() / 2], times[times.len() - 1]);
    let all: Vec<String> = times.iter().map(|it| it.as_millis().to_string()).collect();
    format!(
        "{name:<6} median {:>5} ms  max {:>5} ms  ({})",
        half.as_millis(),
        most.as_millis(),
        all.join(" ")
    )
}

fn beside(words: &[&str], count: usize) -> Result<[Vec<Duration>; 2]> {
    let plan = |program| {
        let mut plan = Plan::new(program, words);
        plan.is_on_disk = true;
        plan
    };
    let mut sides = [
        Trio::start(&plan(Program::Holm))?,
        Trio::start(&plan(Program::Etcd))?,
    ];
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..count {
        for (side, times) in sides.iter_mut().zip(&mut times) {
            times.push(failover(side)?);
        }
    }
    Ok(times)
}

#[test]
fn a_killed_leader_is_replaced_while_writes_knock() -> Result<()> {
    if let Ok(count) = std::env::var("HOLM_FAILOVERS") {
        println!("{}", holm_and_etcd_in_turns(count.parse()?)?);
        return Ok(());
    }
    let words = ["--election-timeout=500", "--heartbeat-interval=50"];
    let mut trio = Trio::start(&Plan::new(Program::Holm, &words))?;
    let waited = failover(&mut trio)?;
    ensure!(waited < Duration::from_secs(30), "{waited:?}");
    println!("{waited:.0?}");
    Ok(())
}

fn holm_and_etcd_in_turns(count: usize) -> Result<String> {
    let version = peer::version(Program::Etcd)?;
    let mut lines = vec![format!(
        "etcd {version:?}, first write accepted after kill -9 of the leader"
    )];
    for (heartbeat, election) in [(50, 500), (100, 1_000)] {
        let words = [
            format!("--heartbeat-interval={heartbeat}"),
            format!("--election-timeout={election}"),
        ];
        let [holm, etcd] = beside(&[&words[0], &words[1]], count)?;
        lines.push(format!(
            "heartbeat {heartbeat} ms, election timeout {election} ms"
        ));
        lines.push(format!("  {}", row("holm", holm)));
        lines.push(format!("  {}", row("etcd", etcd)));
    }
    Ok(lines.join("\n"))
}
