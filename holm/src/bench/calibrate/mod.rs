//! `holm bench calibrate`: what work costs on this machine, for rehearsals of it.
//!
//! Three real sites and the generator run here, each load at a time, and the CPU clocks of their threads say what was
//! spent ([`threads`]). Some prices are timed by themselves ([`alone`]): threads that wake, and syncs of some sizes, on
//! cores that work and on cores that sleep. The others follow from loads at both ends, two clients and many
//! ([`holm_rehearse::solve`]). The loads of the table of validation are others, and no price is fitted to them. All are
//! measured in turn, five times over, and what counts is the median: a machine that is slower for a while is so for all
//! of them.

mod alone;
mod machine;
mod sites;
mod threads;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::thread;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use clap::{Args, Parser};
use holm_rehearse::{
    Cell, Costs, FEW, FOREIGN_MAX, Load, MANY, MOST, Measured, Parts, SITES, Work, solve, worst,
};

use self::alone::{Alone, Timing};
use self::sites::Sites;
use self::threads::{Snapshot, Spent};
use super::options::{KvOptions, Workload};
use super::tally::Clock;
use super::{call, load, plan, window};
use crate::progress::Progress;
use crate::quantity::{parse_duration, rounded};
pub(crate) use machine::this_machine;

/// Flags of `holm bench calibrate`.
#[derive(Clone, Debug, Args)]
pub(crate) struct CalibrateOptions {
    /// The file to write
    #[arg(long, value_name = "FILE")]
    pub(super) out: PathBuf,

    /// A folder on the disk that the sites are to use; what is put there is removed again
    #[arg(long, value_name = "FOLDER", default_value = ".")]
    data_dir: PathBuf,

    /// How long each load is measured, five times; 15 loads are
    #[arg(long, value_name = "TIME", default_value = "700ms", value_parser = parse_duration)]
    duration: Duration,

    /// Find the prices anew from what an earlier file says was measured; nothing is measured
    #[arg(long, value_name = "FILE", conflicts_with = "beside_others")]
    from: Option<PathBuf>,

    /// Measure although others use the machine; nothing that follows from such a file is valid
    #[arg(long)]
    beside_others: bool,
}

pub(super) const EXAMPLES: &str = "\
Examples:
  holm bench calibrate --out bench/costs/two-core.toml    some three minutes, on a machine that does nothing else
  holm rehearse --validate --costs bench/costs/two-core.toml    does the model say what was real?
  holm rehearse scenarios/three-sites.toml --costs bench/costs/two-core.toml    work costs what it cost there

Starts three sites and the generator on this machine. A machine of which others use more than 8 % is refused.";

/// How often a load is measured again because others were at work.
const TRIES: u32 = 3;
/// Load before measuring begins.
const WARMUP: Duration = Duration::from_millis(300);
/// Keys that are read and written.
const KEYS: u64 = 20_000;
/// The clients of the table of validation.
pub(crate) const CLIENTS: [u32; 4] = [1, 10, 100, 1_000];

/// What was seen under one load.
#[derive(Clone, Debug)]
struct Seen {
    rate: f64,
    p50_us: f64,
    p99_us: f64,
    /// Nanoseconds for each answer.
    spent: Spent,
    /// How long a sync of a site's log waited for the disk, in nanoseconds.
    sync: f64,
    foreign: f64,
}

/// A load: what is asked for, by how many clients, over how many connections.
type Asked = (Workload, u32, u32);

/// The loads that prices come from: none of the table of validation is among them. Requests that do nothing, with one
/// connection to each of 64 clients and 16 clients to a connection; then two clients, many, and of those who write more
/// than the table has.
const ENDS: [Asked; 7] = [
    (Workload::Echo, 64, 64),
    (Workload::Echo, 64, 4),
    (Workload::Put, FEW, 1),
    (Workload::Put, MANY, 25),
    (Workload::Put, MOST, 100),
    (Workload::Get, FEW, 1),
    (Workload::Get, MANY, 25),
];

/// And once at a site without others.
const ALONE: Asked = (Workload::Put, MANY, 25);

/// How often each load is measured, all of them in turn; what counts is the median.
const ROUNDS: usize = 5;

/// Calibrates; says how far the model is from what was real.
pub(super) fn run(options: &CalibrateOptions) -> anyhow::Result<String> {
    ensure!(
        !options.out.is_dir(),
        "{} is a folder: name the file to write",
        options.out.display()
    );
    let mut progress = Progress::new();
    let (mut costs, mut remarks) = match &options.from {
        Some(file) => (earlier(file, options)?, Vec::new()),
        None => measured(options, &mut progress)?,
    };
    progress.show("solving for the prices");
    remarks.append(&mut solve(&mut costs).map_err(anyhow::Error::msg)?);
    costs.model = table(&costs, &mut progress)?;
    let text = costs.to_toml();
    Costs::parse(&text, "the new file").context("read the file that is to be written")?;
    std::fs::write(&options.out, text)
        .with_context(|| format!("write {}", options.out.display()))?;
    Ok(summary(&costs, &remarks))
}

/// What an earlier file says was measured.
fn earlier(file: &std::path::Path, options: &CalibrateOptions) -> anyhow::Result<Costs> {
    let name = file.display().to_string();
    let text = std::fs::read_to_string(file).with_context(|| format!("read {name}"))?;
    let mut costs = Costs::parse(&text, &name)?;
    costs.name = options.out.display().to_string();
    Ok(costs)
}

/// What is measured now, and remarks on it.
fn measured(
    options: &CalibrateOptions,
    progress: &mut Progress,
) -> anyhow::Result<(Costs, Vec<String>)> {
    let machine = this_machine()?;
    let foreign = machine::foreign_at_rest()?;
    if !options.beside_others {
        refuse_busy(foreign, "before anything was measured")?;
    }
    let mut costs = Costs::new(options.out.display().to_string(), machine);
    let folder = options
        .data_dir
        .join(format!("holm-calibrate-{}", std::process::id()));
    let mut steps = Steps {
        progress,
        options,
        foreign,
        remarks: Vec::new(),
    };
    let measured = steps.measure(&folder, &mut costs);
    // What cannot be removed stays where it can be seen.
    drop(std::fs::remove_dir_all(&folder));
    measured?;
    costs.foreign = steps.foreign;
    costs.date = machine::today()?;
    costs.build = machine::build()?;
    Ok((costs, steps.remarks))
}

/// What was timed by itself.
fn timed(costs: &mut Costs, alone: Alone) {
    costs.search = u32::try_from(rounded(alone.search * 1e6)).unwrap_or(0);
    costs.wake = alone.wake;
    costs.idle = alone.idle;
    costs.sync = alone.sync;
    costs.set(Work::ThreadWake, rounded(alone.wake_cpu));
    costs.set(Work::LogFlush, rounded(alone.flush_cpu));
    costs.set(Work::IdleFlush, rounded(alone.flush_idle_cpu));
}

fn refuse_busy(foreign: f64, when: &str) -> anyhow::Result<()> {
    ensure!(
        foreign <= FOREIGN_MAX,
        "others used {:.0} % of this machine {when}, and at most {:.0} % is allowed: what is measured beside them says \
         nothing; stop them and calibrate again",
        foreign * 100.0,
        FOREIGN_MAX * 100.0
    );
    Ok(())
}

/// What the model says of every cell of the table.
pub(crate) fn table(costs: &Costs, progress: &mut Progress) -> anyhow::Result<Vec<Cell>> {
    let mut cells = Vec::new();
    for load in [Load::Put, Load::Range] {
        for clients in CLIENTS {
            progress.show(&format!("rehearsing {} of {clients} clients", load.name()));
            let said = holm_rehearse::model(costs, load, clients, 2);
            cells.push(said.map_err(anyhow::Error::msg)?.cell);
        }
    }
    Ok(cells)
}

fn summary(costs: &Costs, remarks: &[String]) -> String {
    let mut text = crate::rehearse::validate::written(costs, &costs.model);
    for remark in remarks {
        text.push_str(&format!("note: {remark}\n"));
    }
    let misses = costs.misses();
    let verdict = match (costs.flaw(), worst(&misses)) {
        (Some(flaw), _) => format!("NOT VALID ({flaw})"),
        (None, Some(miss)) => format!("valid within {:.0} %", miss.error.abs() * 100.0),
        (None, None) => "nothing to compare".to_owned(),
    };
    format!("{text}{verdict}; written to {}\n", costs.name)
}

/// Measures one load after the other.
struct Steps<'a> {
    progress: &'a mut Progress,
    options: &'a CalibrateOptions,
    foreign: f64,
    remarks: Vec<String>,
}

impl Steps<'_> {
    fn measure(&mut self, folder: &std::path::Path, costs: &mut Costs) -> anyhow::Result<()> {
        self.progress.show("starting three sites");
        let sites = Sites::start(folder)?;
        let fill = options_of(&sites, (Workload::Get, 64, 8), self.options.duration)?;
        call::fill(&fill, KEYS)?;
        let cells = [Workload::Put, Workload::Get].into_iter();
        let own = |clients: u32| (clients / 10).clamp(1, 100);
        let cells = cells.flat_map(|load| CLIENTS.map(|clients| (load, clients, own(clients))));
        let asked: Vec<Asked> = ENDS.into_iter().chain(cells).collect();
        let mut seen: Vec<Vec<Seen>> = vec![Vec::new(); asked.len()];
        let mut timing = Timing::default();
        for _ in 0..ROUNDS {
            self.progress.show("timing threads that wake, and syncs");
            timing.round(&self.options.data_dir)?;
            for (asked, rounds) in asked.iter().zip(&mut seen) {
                rounds.push(self.patiently(&sites, *asked)?);
            }
        }
        for (at, (asked, rounds)) in asked.iter().zip(&seen).enumerate() {
            if at < ENDS.len() {
                costs.measured.push(end(SITES, *asked, rounds));
            } else {
                self.remarks.push(spread(*asked, rounds));
                costs.real.push(cell(*asked, rounds));
            }
        }
        drop(sites);
        timed(costs, timing.ended()?);
        costs.measured.push(self.alone(&folder.join("alone"))?);
        Ok(())
    }

    /// A site that has no others: what its front does has nothing to do with links.
    fn alone(&mut self, folder: &std::path::Path) -> anyhow::Result<Measured> {
        self.progress.show("starting a site alone");
        let sites = Sites::alone(folder)?;
        let mut rounds = Vec::new();
        for _ in 0..ROUNDS {
            rounds.push(self.patiently(&sites, ALONE)?);
        }
        Ok(end(1, ALONE, &rounds))
    }

    /// Measures a load, again if others were at work.
    fn patiently(&mut self, sites: &Sites, asked: Asked) -> anyhow::Result<Seen> {
        let (workload, clients, _) = asked;
        let what = format!("{workload:?} of {clients} clients").to_lowercase();
        let mut least = f64::INFINITY;
        for _ in 0..TRIES {
            self.progress.show(&format!("measuring {what}"));
            let options = options_of(sites, asked, self.options.duration)?;
            let seen = observe(sites, &options).with_context(|| format!("measure {what}"))?;
            least = least.min(seen.foreign);
            if seen.foreign <= FOREIGN_MAX || self.options.beside_others {
                self.foreign = self.foreign.max(seen.foreign);
                return Ok(seen);
            }
        }
        refuse_busy(
            least,
            &format!("during each of {TRIES} tries to measure {what}"),
        )?;
        bail!("{what} was not measured")
    }
}

fn load_of(workload: Workload) -> Option<Load> {
    match workload {
        Workload::Put => Some(Load::Put),
        Workload::Get => Some(Load::Range),
        Workload::List | Workload::Txn | Workload::Fill | Workload::Watch | Workload::Echo => None,
    }
}

/// The median of what rounds say, of which there is one at least.
fn median<T>(rounds: &[T], of: impl Fn(&T) -> f64) -> f64 {
    let mut values: Vec<f64> = rounds.iter().map(of).collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn end(sites: u32, (workload, clients, connections): Asked, rounds: &[Seen]) -> Measured {
    let parts = |of: fn(&Spent) -> &Parts| Parts {
        front: median(rounds, |one| of(&one.spent).front),
        engine: median(rounds, |one| of(&one.spent).engine),
        log: median(rounds, |one| of(&one.spent).log),
        other: median(rounds, |one| of(&one.spent).other),
    };
    Measured {
        load: load_of(workload),
        sites,
        clients,
        connections,
        leader: parts(|spent| &spent.leader),
        follower: parts(|spent| &spent.follower),
        generator: median(rounds, |one| one.spent.generator),
        sync: median(rounds, |one| one.sync),
    }
}

fn cell((workload, clients, _): Asked, rounds: &[Seen]) -> Cell {
    Cell {
        load: load_of(workload).expect("the table has puts and ranges"),
        clients,
        rate: median(rounds, |one| one.rate),
        p50_us: median(rounds, |one| one.p50_us),
        p99_us: median(rounds, |one| one.p99_us),
        cpu_us: median(rounds, |one| one.spent.sites() / 1e3),
    }
}

/// How far rounds of a real load lie apart: the model cannot be nearer to them than they to each other.
fn spread((workload, clients, _): Asked, rounds: &[Seen]) -> String {
    let over = |of: fn(&Seen) -> f64| {
        let all = rounds.iter().map(of);
        let (least, most) = all.fold((f64::INFINITY, 0.0_f64), |(least, most), one| {
            (least.min(one), most.max(one))
        });
        (most - least) / median(rounds, of) * 100.0
    };
    format!(
        "rounds of {workload:?} with {clients} clients lie apart by {:.0} % in throughput, {:.0} % in p50, {:.0} % in CPU",
        over(|one| one.rate),
        over(|one| one.p50_us),
        over(|one| one.spent.sites())
    )
    .to_lowercase()
    .replace("cpu", "CPU")
}

/// The flags of `holm bench kv` that mean this load.
fn options_of(
    sites: &Sites,
    (workload, clients, connections): Asked,
    duration: Duration,
) -> anyhow::Result<KvOptions> {
    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        options: KvOptions,
    }
    let words = [
        "kv".to_owned(),
        format!("{workload:?}").to_lowercase(),
        format!("--endpoint={}", sites.leader()?.client),
        format!("--clients={clients}"),
        format!("--connections={connections}"),
        format!("--keys={KEYS}"),
        format!("--warmup={}ms", WARMUP.as_millis()),
        format!("--duration={}ms", duration.as_millis()),
    ];
    Ok(Line::try_parse_from(words).context("say the load")?.options)
}

fn observe(sites: &Sites, options: &KvOptions) -> anyhow::Result<Seen> {
    let stop = Arc::new(AtomicU64::new(u64::MAX));
    let plan = plan(options, 0, &stop)?;
    let counter = AtomicU64::new(0);
    let clock = Clock::start();
    let (from, until) = window(options);
    let (tally, first, last) = thread::scope(|scope| -> anyhow::Result<_> {
        let worker = thread::Builder::new()
            .name(threads::LOAD.to_owned())
            .spawn_scoped(scope, || load::run(&plan, clock, &counter))
            .context("start the generator's thread")?;
        sleep_until(clock, from);
        let first = Snapshot::take(sites);
        sleep_until(clock, until);
        let last = Snapshot::take(sites);
        let tally = worker
            .join()
            .map_err(|_panic| anyhow::anyhow!("the generator panicked"))??;
        Ok((tally, first?, last?))
    })?;
    if let Some(failure) = tally.first_failure {
        bail!("{} answers were errors, the first: {failure}", tally.failed);
    }
    ensure!(tally.completed > 0, "nothing was answered");
    let leader = sites.lead()?;
    let used = last.since(&first);
    let at = |quantile| tally.latency.value_at_quantile(quantile) as f64 / 1e3;
    Ok(Seen {
        rate: tally.completed as f64 / options.duration.as_secs_f64(),
        p50_us: at(0.5),
        p99_us: at(0.99),
        spent: used.spent(leader, tally.completed)?,
        sync: used.sync_waits(),
        foreign: used.foreign(),
    })
}

fn sleep_until(clock: Clock, at: u64) {
    let left = Duration::from_nanos(at.saturating_sub(clock.now()));
    thread::sleep(left);
}
