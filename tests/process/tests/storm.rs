//! Three real sites under cuts, kills and pauses, and a history that the witness judges.
//!
//! By hand, for longer: `HOLM_STORM_SECONDS=600 cargo test -p holm-process-tests --test storm`.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use holm_base::Prng;
use holm_process_tests::Gateway;
use holm_process_tests::crowd::Crowd;
use holm_process_tests::sites::Sites;

const NAMES: [&str; 3] = ["a", "b", "c"];
/// Clients at each site.
const CLIENTS: usize = 3;
/// A storm in which less was answered shows nothing.
const ANSWERED_MIN: usize = 500;

/// One thing goes wrong for a while, and is mended.
fn blow(sites: &Sites, prng: &mut Prng) -> Result<&'static str> {
    let pick = |prng: &mut Prng| usize::try_from(prng.below(3)).expect("a small number");
    let (first, turn) = (pick(prng), 1 + pick(prng) % 2);
    let (one, two, three) = (
        NAMES[first],
        NAMES[(first + turn) % 3],
        NAMES[(first + 2 * turn) % 3],
    );
    let lasting = Duration::from_millis(200 + prng.below(1800));
    let (what, begin, end): (_, &[&[&str]], &[&[&str]]) = match prng.below(7) {
        0 => (
            "island",
            &[&["link", "cut", one, two], &["link", "cut", one, three]],
            &[&["link", "heal"]],
        ),
        1 => ("cut", &[&["link", "cut", one, two]], &[&["link", "heal"]]),
        2 => (
            "one way",
            &[&["link", "cut", one, two, "--one-way"]],
            &[&["link", "heal"]],
        ),
        3 => (
            "slow",
            &[&["link", "slow", one, two, "--delay", "30ms"]],
            &[&["link", "heal"]],
        ),
        4 => (
            "kill",
            &[&["site", "kill", one]],
            &[&["site", "start", one]],
        ),
        5 => (
            "two killed",
            &[&["site", "kill", one], &["site", "kill", two]],
            &[&["site", "start", one], &["site", "start", two]],
        ),
        _ => (
            "pause",
            &[&["site", "pause", one]],
            &[&["site", "resume", one]],
        ),
    };
    for words in begin {
        sites.ask(words)?;
    }
    thread::sleep(lasting);
    for words in end {
        sites.ask(words)?;
    }
    thread::sleep(Duration::from_millis(100 + prng.below(700)));
    Ok(what)
}

fn seconds() -> Result<u64> {
    let said = std::env::var("HOLM_STORM_SECONDS").unwrap_or_else(|_unset| "20".to_owned());
    said.parse().context("HOLM_STORM_SECONDS")
}

#[test]
fn a_storm_over_three_sites_leaves_a_linearizable_history() -> Result<()> {
    let (seconds, seed) = (seconds()?, 7);
    let sites = Sites::start(3, &["--election-timeout=500", "--heartbeat-interval=50"])?;
    let crowd = Crowd::new();
    let all = || -> Result<Vec<Gateway>> { NAMES.iter().map(|name| sites.client(name)).collect() };
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        clients.extend(all()?.into_iter().map(|gateway| vec![gateway]));
    }
    let blown = crowd.during(clients, seed, || {
        let (begun, mut prng) = (Instant::now(), Prng::new(seed));
        let mut blown = Vec::new();
        while begun.elapsed() < Duration::from_secs(seconds) {
            blown.push(blow(&sites, &mut prng)?);
        }
        Ok(blown)
    })?;
    println!("{} faults", blown.len());
    println!("{}", crowd.judge(&mut all()?, ANSWERED_MIN)?);
    Ok(())
}
