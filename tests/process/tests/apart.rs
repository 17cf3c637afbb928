//! Three sites, each in a network of its own, with real addresses and TLS between them; links that the kernel cuts,
//! one way or both, and a history that the witness judges.
//!
//! It needs root and network namespaces; elsewhere it says that it did not run, and `HOLM_REQUIRE_ROOT` makes that a
//! failure. By hand, for longer: `HOLM_STORM_SECONDS=600 cargo test -p holm-process-tests --test apart`.

use std::net::UdpSocket;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use holm_base::Prng;
use holm_process_tests::crowd::Crowd;
use holm_process_tests::lan::{Lan, SITES, Wrong, address};
use holm_process_tests::sites::eventually;
use holm_process_tests::trio::{Plan, Trio};
use holm_process_tests::{Gateway, Program, not_tested};

const CLIENTS: usize = 3;
const ANSWERED_MIN: usize = 300;
const WHY: &str = "only root can make networks of its own, where the kernel has veth and bridge";

fn plan() -> Plan {
    Plan::new(
        Program::Holm,
        &["--election-timeout=500", "--heartbeat-interval=50"],
    )
}

/// Whether a packet that one site sends reaches another.
fn passes(lan: &Lan, from: usize, to: usize) -> Result<bool> {
    let there = lan
        .space(to)
        .within(|| Ok(UdpSocket::bind((address(to), 0))?))?;
    let target = there.local_addr()?;
    there.set_read_timeout(Some(Duration::from_millis(300)))?;
    let mut heard = [0; 8];
    for _ in 0..3 {
        // A refusal is one way of not passing; so is a first packet that waits for an address.
        let sent = lan.space(from).within(|| {
            let here = UdpSocket::bind((address(from), 0))?;
            Ok(here.send_to(b"packet", target)?)
        });
        if sent.is_ok() && there.recv(&mut heard).is_ok() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Which of the six ways are open.
fn open(lan: &Lan) -> Result<Vec<(usize, usize)>> {
    let mut open = Vec::new();
    for from in 0..SITES {
        for to in (0..SITES).filter(|to| *to != from) {
            if passes(lan, from, to)? {
                open.push((from, to));
            }
        }
    }
    Ok(open)
}

/// Waits until all six are: a network that was just laid, or mended, loses a packet or two.
fn all_open(lan: &Lan) -> Result<()> {
    eventually("all ways are open", || {
        let found = open(lan)?;
        ensure!(found.len() == 6, "{found:?}");
        Ok(())
    })
}

#[test]
fn each_cut_loses_what_it_says_and_no_more() -> Result<()> {
    let Some(lan) = Lan::lay()? else {
        not_tested(WHY);
        return Ok(());
    };
    all_open(&lan)?;
    lan.spoil(0, 1, Wrong::Lost)?;
    let all = open(&lan)?;
    ensure!(all.len() == 5 && !all.contains(&(0, 1)), "{all:?}");
    lan.spoil(1, 2, Wrong::Refused)?;
    let all = open(&lan)?;
    ensure!(all.len() == 4 && !all.contains(&(1, 2)), "{all:?}");
    lan.heal()?;
    all_open(&lan)?;
    lan.unplug(2)?;
    let all = open(&lan)?;
    ensure!(all == [(0, 1), (1, 0)], "{all:?}");
    lan.heal()?;
    lan.down(0)?;
    let all = open(&lan)?;
    ensure!(all == [(1, 2), (2, 1)], "{all:?}");
    lan.heal()?;
    all_open(&lan)?;
    Ok(())
}

/// One thing goes wrong for a while, and is mended.
fn blow(trio: &mut Trio, prng: &mut Prng) -> Result<&'static str> {
    let pick = |prng: &mut Prng| usize::try_from(prng.below(3)).expect("a small number");
    let (one, turn) = (pick(prng), 1 + pick(prng) % 2);
    let two = (one + turn) % 3;
    let lasting = Duration::from_millis(200 + prng.below(2_300));
    let lan = trio.lan()?;
    let slow = Wrong::Slow(Duration::from_millis(30));
    let both = |wrong| {
        lan.spoil(one, two, wrong)?;
        lan.spoil(two, one, wrong)
    };
    let what = match prng.below(9) {
        0 => lan.unplug(one).map(|()| "unplugged"),
        1 => lan.down(one).map(|()| "interface down"),
        2 => both(Wrong::Lost).map(|()| "cut"),
        3 => lan.spoil(one, two, Wrong::Lost).map(|()| "one way"),
        4 => lan.spoil(one, two, Wrong::Refused).map(|()| "refused"),
        5 => both(slow).map(|()| "slow"),
        6 => lan.spoil(one, two, slow).map(|()| "slow one way"),
        7 => {
            trio.kill(one)?;
            thread::sleep(lasting);
            trio.begin(one).map(|()| "killed")
        }
        _ => {
            lan.unplug(two)?;
            trio.kill(one)?;
            thread::sleep(lasting);
            trio.begin(one).map(|()| "unplugged and killed")
        }
    }?;
    thread::sleep(lasting);
    trio.lan()?.heal()?;
    thread::sleep(Duration::from_millis(100 + prng.below(900)));
    Ok(what)
}

fn seconds() -> Result<u64> {
    let said = std::env::var("HOLM_STORM_SECONDS").unwrap_or_else(|_unset| "20".to_owned());
    said.parse().context("HOLM_STORM_SECONDS")
}

fn all(trio: &Trio) -> Vec<Gateway> {
    (0..SITES).map(|at| trio.client(at)).collect()
}

#[test]
fn a_storm_over_three_networks_leaves_a_linearizable_history() -> Result<()> {
    let (seconds, seed) = (seconds()?, 11);
    let Some(mut trio) = Trio::apart(&plan())? else {
        not_tested(WHY);
        return Ok(());
    };
    let crowd = Crowd::new();
    let clients = (0..SITES * CLIENTS).map(|id| vec![trio.client(id % SITES)]);
    let blown = crowd.during(clients.collect(), seed, || {
        let (begun, mut prng) = (Instant::now(), Prng::new(seed));
        let mut blown = Vec::new();
        while begun.elapsed() < Duration::from_secs(seconds) {
            blown.push(blow(&mut trio, &mut prng)?);
        }
        Ok(blown)
    })?;
    println!("{} faults: {}", blown.len(), blown.join(", "));
    let judged = crowd.judge(&mut all(&trio), ANSWERED_MIN);
    let said = || {
        let said: Vec<String> = (0..SITES).map(|at| trio.said(at)).collect();
        said.join("\n--\n")
    };
    println!("{}", judged.with_context(said)?);
    Ok(())
}

/// A leader whose words arrive nowhere, and which hears all: another one must lead, and write.
#[test]
fn a_leader_that_is_cut_one_way_is_replaced() -> Result<()> {
    let Some(trio) = Trio::apart(&plan())? else {
        not_tested(WHY);
        return Ok(());
    };
    let leader = trio.leader()?;
    let rest: Vec<usize> = (0..SITES).filter(|at| *at != leader).collect();
    let crowd = Crowd::new();
    let clients = rest.iter().map(|at| vec![trio.client(*at)]).collect();
    crowd.during(clients, 5, || {
        let lan = trio.lan()?;
        for to in &rest {
            lan.spoil(leader, *to, Wrong::Lost)?;
        }
        let cut = Instant::now();
        eventually("another one leads", || {
            let found = trio.leader()?;
            ensure!(found != leader, "{leader} still leads");
            Ok(())
        })?;
        let (led, before) = (cut.elapsed(), crowd.answered());
        eventually("the others go on", || {
            let more = crowd.answered() - before;
            ensure!(more >= 50, "{more} answers since another one leads");
            Ok(())
        })?;
        println!("led anew after {led:.1?}");
        trio.lan()?.heal()
    })?;
    println!("{}", crowd.judge(&mut all(&trio), 50)?);
    Ok(())
}
