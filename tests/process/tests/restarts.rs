//! Members of three that are killed, held and restarted under load: what was acknowledged stays, and all that clients
//! saw has one order.
//!
//! By hand, for longer: `HOLM_STORM_SECONDS=600 cargo test -p holm-process-tests --test restarts`.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use holm_process_tests::crowd::{Crowd, End, Told};
use holm_process_tests::lan::SITES;
use holm_process_tests::sites::eventually;
use holm_process_tests::trio::{NAMES, Plan, Trio};
use holm_process_tests::{Gateway, Program};
use rustix::process::Signal;

const CLIENTS: usize = 6;
const ANSWERED_MIN: usize = 300;
/// Far above the election timeout of these members.
const HELD: Duration = Duration::from_millis(2_500);
/// The longest that no client at all may be answered, while one of three restarts.
const GAP_MAX: Duration = Duration::from_secs(30);

fn plan() -> Plan {
    Plan::new(
        Program::Holm,
        &["--election-timeout=500", "--heartbeat-interval=50"],
    )
}

fn all(trio: &Trio) -> Vec<Gateway> {
    (0..SITES).map(|at| trio.client(at)).collect()
}

/// Clients that know all members, and turn to the next when one fails.
fn clients(trio: &Trio) -> Vec<Vec<Gateway>> {
    let rotated = |id: usize| (0..SITES).map(move |at| trio.client((id + at) % SITES));
    (0..CLIENTS).map(|id| rotated(id).collect()).collect()
}

/// For how long these tests go on: a few rounds, or as long as is said.
fn lasting() -> Result<Duration> {
    let said = std::env::var("HOLM_STORM_SECONDS").unwrap_or_else(|_unset| "0".to_owned());
    Ok(Duration::from_secs(
        said.parse().context("HOLM_STORM_SECONDS")?,
    ))
}

/// Waits until so many more were answered.
fn goes_on(crowd: &Crowd, more: usize) -> Result<()> {
    let before = crowd.answered();
    eventually("requests are answered", || {
        let since = crowd.answered() - before;
        ensure!(since >= more, "{since} since");
        Ok(())
    })
}

#[test]
fn each_is_killed_and_then_all_and_nothing_acknowledged_is_lost() -> Result<()> {
    let mut trio = Trio::start(&plan())?;
    let (crowd, lasting) = (Crowd::new(), lasting()?);
    let kills = crowd.during(clients(&trio), 21, || {
        let (begun, mut kills) = (Instant::now(), 0);
        loop {
            for (at, name) in NAMES.iter().enumerate() {
                goes_on(&crowd, 30)?;
                trio.kill(at)?;
                goes_on(&crowd, 30).with_context(|| format!("without {name}"))?;
                trio.begin(at)?;
                trio.serves(at)?;
            }
            goes_on(&crowd, 30)?;
            (0..SITES).try_for_each(|at| trio.kill(at))?;
            (0..SITES).try_for_each(|at| trio.begin(at))?;
            (0..SITES).try_for_each(|at| trio.serves(at))?;
            goes_on(&crowd, 30).context("after all were killed")?;
            kills += 2 * SITES;
            if begun.elapsed() >= lasting {
                return Ok(kills);
            }
        }
    })?;
    let judged = crowd.judge(&mut all(&trio), ANSWERED_MIN)?;
    println!("{kills} kills: {judged}");
    Ok(())
}

/// A leader that is held past the election timeout goes on as if nothing were, until it hears of the next one. What it
/// says then must not be old.
#[test]
fn a_held_leader_and_a_held_follower_disturb_no_order() -> Result<()> {
    let trio = Trio::start(&plan())?;
    let (crowd, lasting) = (Crowd::new(), lasting()?);
    // Some clients stay with the one that is held, and ask it at the moment at which it goes on.
    let mut asking = clients(&trio);
    asking.extend(all(&trio).into_iter().map(|gateway| vec![gateway]));
    let held = crowd.during(asking, 22, || {
        let (begun, mut held) = (Instant::now(), 0);
        loop {
            for turn in 0..2 {
                goes_on(&crowd, 30)?;
                let leader = trio.leader()?;
                let at = (leader + turn) % SITES;
                trio.signal(at, Signal::STOP)?;
                sleep(HELD);
                let went_on = goes_on(&crowd, 1);
                trio.signal(at, Signal::CONT)?;
                went_on.with_context(|| format!("{} was held", NAMES[at]))?;
                held += 1;
            }
            if begun.elapsed() >= lasting {
                return Ok(held);
            }
        }
    })?;
    let judged = crowd.judge(&mut all(&trio), ANSWERED_MIN)?;
    println!("{held} times held: {judged}");
    Ok(())
}

/// What clients were told between two moments.
#[derive(Debug, Default)]
struct Window {
    answered: usize,
    unsent: usize,
    failed: usize,
    /// The longest that nobody was answered.
    gap: Duration,
    /// The slowest answer.
    slowest: Duration,
}

impl Window {
    fn of(told: &[Told], from: Instant, to: Instant) -> Self {
        let mut window = Self::default();
        let inside = |it: &&Told| (from..to).contains(&it.at);
        let mut answers = vec![from, to];
        for it in told.iter().filter(inside) {
            match it.end {
                End::Answered => {
                    window.answered += 1;
                    window.slowest = window.slowest.max(it.took);
                    answers.push(it.at);
                }
                End::Unsent => window.unsent += 1,
                End::Failed => window.failed += 1,
            }
        }
        answers.sort_unstable();
        let gaps = answers.windows(2).map(|pair| pair[1] - pair[0]);
        window.gap = gaps.max().unwrap_or_default();
        window
    }
}

#[test]
fn a_rolling_restart_under_load_loses_nothing() -> Result<()> {
    let mut trio = Trio::start(&plan())?;
    let crowd = Crowd::new();
    let turns = crowd.during(clients(&trio), 23, || {
        let mut turns = Vec::new();
        for (at, name) in NAMES.iter().enumerate() {
            goes_on(&crowd, 50)?;
            let was_leader = trio.leader()? == at;
            let begun = Instant::now();
            let status = trio.stop(at)?;
            ensure!(status.success(), "{name} ended with {status}");
            let stopped = begun.elapsed();
            trio.begin(at)?;
            trio.serves(at)?;
            sleep(Duration::from_secs(1));
            turns.push((at, was_leader, begun, stopped, Instant::now()));
        }
        Ok(turns)
    })?;
    let told = crowd.told();
    for (at, was_leader, begun, stopped, ended) in turns {
        let window = Window::of(&told, begun, ended);
        let who = if was_leader {
            "the leader"
        } else {
            "a follower"
        };
        println!(
            "{} ({who}): stopped in {stopped:.2?}; {} answered, {} failed, {} found nobody; longest gap {:.0?}, slowest {:.0?}",
            NAMES[at], window.answered, window.failed, window.unsent, window.gap, window.slowest
        );
        ensure!(window.gap < GAP_MAX, "{window:?}");
        ensure!(window.answered > 0, "{window:?}");
    }
    println!("{}", crowd.judge(&mut all(&trio), ANSWERED_MIN)?);
    Ok(())
}

#[test]
fn a_gap_and_what_failed_are_counted() {
    let begun = Instant::now();
    let at = |millis: u64| begun + Duration::from_millis(millis);
    let told = |millis, end| Told {
        at: at(millis),
        took: Duration::from_millis(3),
        end,
    };
    let all = [
        told(10, End::Answered),
        told(20, End::Failed),
        told(25, End::Unsent),
        told(500, End::Answered),
        told(900, End::Answered),
    ];
    let window = Window::of(&all, at(0), at(600));
    assert_eq!((window.answered, window.failed, window.unsent), (2, 1, 1));
    assert_eq!(window.gap, Duration::from_millis(490));
}
