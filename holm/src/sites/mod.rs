//! `holm up --sites N`: several sites on this machine, and the links between them to play with.
//!
//! ```text
//!   holm up --sites 3 ──── starts ───► holm up --name a ...   ◄─ cable ─► b, c
//!     │  cables: one a pair            holm up --name b ...
//!     │  control.sock ◄─ holm link, holm site
//!     └─ ends: asks all sites to end, waits, ends
//! ```
//!
//! Nothing here is part of a site: each is the node that it would be on a machine of its own, told by a hidden flag to
//! dial the others through a cable. `plan.rs` decides who is where, `ports.rs` keeps the places free, `keys.rs` makes
//! certificates, `child.rs` holds a process, `crew.rs` all of them with the cables, `control.rs` takes questions and
//! `ask.rs` asks them. `invite.rs` and `authority.rs` ask a member of any cluster.

mod ask;
mod authority;
mod child;
mod control;
mod crew;
mod invite;
mod keys;
mod plan;
mod ports;
mod protocol;

use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use holm_telemetry::LogConfig;
use tokio::sync::watch;
use tokio::time::Instant;

pub(crate) use ask::{LINK_EXAMPLES, LinkCommand, SITE_EXAMPLES, SiteCommand, link, site};
pub(crate) use authority::{replacement_json, replacement_text};
pub(crate) use plan::holds_sites;

use crate::config::{Environment, Flags, SitesBase};
use crate::progress::Progress;
use crate::up::{Calling, Ends};
use crew::{Crew, LOOK_EVERY};
use keys::Keys;
use plan::{Plan, Site};
use ports::Ports;
use protocol::SiteRow;

/// How long the table waits for the sites: it is shown then, whatever they are.
const START_PATIENCE: Duration = Duration::from_secs(60);

/// Runs the sites until told to stop.
///
/// # Errors
///
/// What kept them from starting, or that none of them could.
pub(crate) fn run(flags: &Flags) -> anyhow::Result<()> {
    let environment = Environment::of_process(Calling::Holm);
    let base = SitesBase::load(flags, environment).context("read the configuration")?;
    let names = plan::names(flags.sites, flags.names.as_deref())?;
    holm_telemetry::log_to_stderr(&LogConfig {
        level: "warn".to_owned(),
        ..LogConfig::default()
    })?;
    let mut ports = Ports::default();
    let plan = Plan::settle(&base, &names, &mut ports)?;
    let _lock = holm_disk::lock(&base.data_dir)?;
    // An address that another has must not become part of the plan.
    ports.hold(&plan)?;
    plan.keep(&base.data_dir)?;
    let keys = Keys::make(&base.data_dir, &plan)?;
    let threads = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .thread_name("holm-sites")
        .build()
        .context("start the threads of the links")?;
    let passed_on = SitesBase::passed_on(flags);
    let streams = match base.streams {
        Some(first) => plan.streams(first)?,
        None => Vec::new(),
    };
    let ended = threads.block_on(live(&base.data_dir, plan, &keys, (&passed_on, &streams)));
    threads.shutdown_background();
    ended
}

async fn live(
    data_dir: &Path,
    plan: Plan,
    keys: &Keys,
    (passed_on, streams): (&[String], &[SocketAddr]),
) -> anyhow::Result<()> {
    // Nobody reports a failure here: a site that fails ends, and that is seen.
    let (_failure, never) = watch::channel(None);
    let mut ends = Ends::listen(never, false).context("listen for signals")?;
    let socket = control::open(data_dir)?;
    let template = plan.clone();
    let words = |site: &Site, via: &str| {
        let mut own = passed_on.to_vec();
        let at = template.sites.iter().position(|it| it.name == site.name);
        if let Some(place) = at.and_then(|at| streams.get(at)) {
            own.push(format!("--streams-listen={place}"));
        }
        words(&template, data_dir, keys, (site, via), &own)
    };
    let crew = Crew::gather(plan, data_dir, words).await?;
    let started = crew.start_all();
    tokio::spawn(control::serve(socket, crew.clone()));
    let begun = match started {
        Ok(()) => begin(&crew, &mut ends).await,
        Err(error) => Err(error),
    };
    match begun {
        Ok(Some(rows)) => {
            say(&greeting(crew.plan(), data_dir, &rows));
            if streams.iter().any(|place| place.port() != 0) {
                let places: Vec<String> = streams.iter().map(ToString::to_string).collect();
                say(&format!("Streams, site by site: {}", places.join(", ")));
            }
            watch_over(&crew, &mut ends).await;
            say("stopping all sites; again to stop at once");
        }
        Ok(None) => {}
        Err(error) => {
            crew.stop_all().await;
            return Err(error);
        }
    }
    let late = tokio::select! {
        late = crew.stop_all() => late,
        // The pipes to the sites end with this process, and then they do.
        _again = ends.next() => bail!("stopped before all sites were"),
    };
    if !late.is_empty() {
        bail!(
            "site {} did not end when asked and was killed",
            late.join(", ")
        );
    }
    // What is left of the socket would only be asked in vain.
    std::fs::remove_file(data_dir.join(protocol::SOCKET)).ok();
    say("all sites have stopped");
    Ok(())
}

/// Waits until every site serves or has ended; `None` if it was told to stop before.
async fn begin(crew: &Crew, ends: &mut Ends) -> anyhow::Result<Option<Vec<SiteRow>>> {
    let mut progress = Progress::new();
    let begun = Instant::now();
    loop {
        let reports = crew.look();
        let rows = crew.rows().await;
        if !reports.is_empty() {
            drop(progress);
            reports.iter().for_each(|report| complain(report));
            progress = Progress::new();
        }
        let is_up = |row: &SiteRow| !matches!(row.state.as_str(), "starting" | "no leader");
        if rows.iter().all(|row| row.ended.is_some()) {
            bail!("no site could start");
        }
        if rows.iter().all(is_up) || begun.elapsed() >= START_PATIENCE {
            return Ok(Some(rows));
        }
        let states: Vec<String> = rows
            .iter()
            .map(|row| format!("{} {}", row.name, row.state))
            .collect();
        let seconds = begun.elapsed().as_secs();
        progress.show(&format!("sites: {}  {seconds} s", states.join(", ")));
        tokio::select! {
            _end = ends.next() => return Ok(None),
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
    }
}

/// Tells of sites that end by themselves, until it is told to stop.
async fn watch_over(crew: &Crew, ends: &mut Ends) {
    loop {
        tokio::select! {
            _end = ends.next() => return,
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
        crew.look().iter().for_each(|report| complain(report));
    }
}

/// The command line of a site.
fn words(
    plan: &Plan,
    data_dir: &Path,
    keys: &Keys,
    (site, via): (&Site, &str),
    passed_on: &[String],
) -> Vec<String> {
    let file = |flag: &str, path: &Path| format!("--{flag}={}", path.display());
    let mut words = vec![
        "up".to_owned(),
        format!("--name={}", site.name),
        format!("--site={}", site.site()),
        file("data-dir", &site.folder(data_dir)),
        format!("--listen={}", site.client),
        format!("--peer={}", site.peer),
        format!("--console={}", site.console),
        format!("--initial-cluster={}", plan.initial_cluster()),
        format!("--initial-cluster-token={}", plan.token),
        "--initial-cluster-state=new".to_owned(),
        file("peer-cert-file", &keys.certificate(site)),
        file("peer-key-file", &keys.key(site)),
        file("peer-trusted-ca-file", &keys.authority()),
        format!("--peer-via={via}"),
        "--ends-with-input".to_owned(),
    ];
    words.extend(passed_on.iter().cloned());
    words
}

/// What is shown once the sites serve: where they are, and what to try.
fn greeting(plan: &Plan, data_dir: &Path, rows: &[SiteRow]) -> String {
    let endpoints: Vec<String> = rows.iter().map(|row| row.endpoint.clone()).collect();
    let at = if data_dir == Path::new("holm.data") {
        String::new()
    } else {
        format!(" --data-dir {}", data_dir.display())
    };
    let names = plan.names();
    let (first, last) = (&names[0], &names[names.len() - 1]);
    let (here, there) = (&endpoints[0], &endpoints[endpoints.len() - 1]);
    format!(
        "holm {}  {} sites  keyspace default  linearizable\n\n{}\n\
         Try, in another terminal:\n  \
         holm put greeting hello --endpoints {here}\n  \
         holm get greeting --endpoints {there}\n  \
         etcdctl --endpoints {} endpoint status -w table\n  \
         holm status --endpoints {here}\n  \
         holm link cut {first} {last}{at}\n  \
         holm link heal{at}\n  \
         holm site kill {first}{at}\n\
         Ctrl-C stops all sites; the same command starts them again on their data.\n",
        env!("CARGO_PKG_VERSION"),
        rows.len(),
        ask::site_table(rows),
        endpoints.join(","),
    )
}

/// Whoever closed our output still has the sites.
fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    drop(writeln!(out, "{}", text.trim_end()).and_then(|()| out.flush()));
}

fn complain(text: &str) {
    drop(writeln!(std::io::stderr(), "{text}"));
}
