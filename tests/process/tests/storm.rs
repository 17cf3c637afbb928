//! Three real sites under cuts, kills and pauses, and a history that the witness judges.
//!
//! By hand, for longer: `HOLM_STORM_SECONDS=600 cargo test -p holm-process-tests --test storm`.

mod cells;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use cells::{Call, Cell, Cells, KEYS, Reply};
use holm_base::Prng;
use holm_check::{Acknowledged, History, Operation, Published, durable, witness};
use holm_process_tests::Gateway;
use holm_process_tests::sites::{Sites, until};

const NAMES: [&str; 3] = ["a", "b", "c"];
/// Clients at each site.
const CLIENTS: u64 = 3;
/// A storm in which less was answered shows nothing.
const ANSWERED_MIN: usize = 500;

/// What the clients share.
#[derive(Debug)]
struct Shared {
    history: Mutex<History<Call, Reply>>,
    marks: AtomicU64,
    is_over: AtomicBool,
}

impl Shared {
    fn with<T>(&self, act: impl FnOnce(&mut History<Call, Reply>) -> T) -> T {
        act(&mut self.history.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Asks one thing after the other. Whatever is no success has an unknown outcome.
fn client(shared: &Shared, mut gateway: Gateway, (id, seed): (u64, u64)) {
    let mut prng = Prng::new(seed.wrapping_mul(1000) + id);
    let mut seen = [0; KEYS];
    while !shared.is_over.load(Ordering::Acquire) {
        let mark = shared.marks.fetch_add(1, Ordering::Relaxed);
        let call = cells::draw(&mut prng, mark, &seen);
        let operation = shared.with(|history| history.invoke(id, call));
        match cells::ask(&mut gateway, call) {
            Ok(reply) => {
                reply.note(&mut seen);
                shared.with(|history| history.returned(operation, reply));
            }
            Err(_unknown) => thread::sleep(Duration::from_millis(20)),
        }
    }
}

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

/// What happened at each revision, asked of one site once all agree.
fn published(sites: &Sites) -> Result<Published> {
    let mut gateways = Vec::new();
    for name in NAMES {
        gateways.push(sites.client(name)?);
    }
    until("all sites agree", || {
        let states: Result<Vec<_>> = gateways.iter_mut().map(cells::own_state).collect();
        Ok(states.is_ok_and(|states| states.windows(2).all(|pair| pair[0] == pair[1])))
    })?;
    let (last, _) = cells::own_state(&mut gateways[0])?;
    let mut published = Published::new();
    for revision in 2..=last {
        let mark = cells::made_at(&mut gateways[0], revision)?;
        published.insert(revision, mark);
    }
    Ok(published)
}

fn judge(history: &History<Call, Reply>, published: &Published, cells: &[Cell]) -> Result<()> {
    if let Err(violation) = witness(&Cells, history, published) {
        bail!("{violation}");
    }
    let last = cells.iter();
    let last = last.map(|&(key, mark, made)| (key, (made, mark))).collect();
    let told = |it: &Operation<Call, Reply>| match (it.call, it.reply()) {
        (Call::Put { key, mark }, Some(reply)) => Some(Acknowledged {
            key,
            revision: reply.revision(),
            value: mark,
        }),
        (Call::Put { .. } | Call::Swap { .. } | Call::Range, _) => None,
    };
    let told: Vec<_> = history.operations().iter().filter_map(told).collect();
    if let Err(violation) = durable(&told, &last) {
        bail!("{violation}");
    }
    Ok(())
}

#[test]
fn a_storm_over_three_sites_leaves_a_linearizable_history() -> Result<()> {
    let (seconds, seed) = (seconds()?, 7);
    let sites = Sites::start(3, &["--election-timeout=500", "--heartbeat-interval=50"])?;
    let shared = Shared {
        history: Mutex::new(History::new()),
        marks: AtomicU64::new(1),
        is_over: AtomicBool::new(false),
    };
    let mut gateways = Vec::new();
    for id in 0..3 * CLIENTS {
        let name = NAMES[usize::try_from(id % 3)?];
        gateways.push((id, sites.client(name)?));
    }
    let blown = thread::scope(|scope| {
        for (id, gateway) in gateways {
            let shared = &shared;
            scope.spawn(move || client(shared, gateway, (id, seed)));
        }
        let (begun, mut prng) = (Instant::now(), Prng::new(seed));
        let mut blown = Vec::new();
        while begun.elapsed() < Duration::from_secs(seconds) {
            match blow(&sites, &mut prng) {
                Ok(what) => blown.push(what),
                Err(error) => {
                    shared.is_over.store(true, Ordering::Release);
                    return Err(error);
                }
            }
        }
        shared.is_over.store(true, Ordering::Release);
        Ok(blown)
    })?;
    let history = shared.with(|history| history.clone());
    let (asked, answered) = (history.operations().len(), history.answered());
    println!(
        "{} faults, {asked} operations, {answered} answered",
        blown.len()
    );
    ensure!(answered >= ANSWERED_MIN, "only {answered} answers");
    let published = published(&sites)?;
    let (_, last) = cells::own_state(&mut sites.client("a")?)?;
    judge(&history, &published, &last)?;
    // The judge can say no: a read that had missed the last write it saw would be found.
    let mut stale = history;
    ensure!(cells::make_stale(&mut stale), "nothing to make stale");
    ensure!(
        judge(&stale, &published, &last).is_err(),
        "a stale read went unseen"
    );
    Ok(())
}
