//! The machine of a costs file, rehearsed: three sites and the generator on its cores, one load at a time.

use holm_base::NodeId;
use holm_virtual::{Order, Queueing, Recording, Report as Lines, Tape};

use crate::costs::{Cell, Costs, Load};
use crate::run::{Ending, FrontUse, Run, SiteUse};
use crate::scenario::{Measure, Scenario, parse};
use crate::stage::Stage;

/// How long one run is measured.
const MEASURED_MS: u64 = 400;
/// Before that somebody is elected; the last tenth of it is under load.
const WARMUP_MS: u64 = 3_000;
/// A seed whose leader is not the site asked costs an election; this many in a row are no chance.
const SEEDS_MAX: u64 = 200;

/// How often something happened for each answer.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Share {
    /// Batches of the engine.
    pub turns: f64,
    /// Those of them that a worker did in its place.
    pub turns_here: f64,
    /// Batches that wanted something logged.
    pub logging: f64,
    /// Those of them that a worker did in the engine's place.
    pub logging_here: f64,
    /// Times that its thread woke.
    pub wakes: f64,
    /// Times that a thread woke on a core that had slept for long, after its site had written its log.
    pub cold: f64,
    /// How long flushes waited for the disk, in nanoseconds.
    pub sync_nanos: f64,
    /// What it spent on that, on waking others and on flushes, in nanoseconds: all that has been timed by itself.
    pub timed_nanos: f64,
    /// The same of the log's thread.
    pub log_timed_nanos: f64,
    /// And of the workers.
    pub worker_timed_nanos: f64,
    /// Messages sent.
    pub sent: f64,
    /// Flushes of the log.
    pub flushes: f64,
    /// Those of them that the engine's thread made itself.
    pub own_flushes: f64,
    /// Those of these that a worker made in its place.
    pub flushes_here: f64,
    /// Records logged.
    pub records: f64,
    /// Those that a worker's batches wanted logged, in the engine's place.
    pub records_here: f64,
    /// Times that a worker woke.
    pub worker_wakes: f64,
    /// Times that somebody wrote to a link.
    pub writes: f64,
    /// Those of them that the engine's own thread made.
    pub own_writes: f64,
    /// Times that a worker read from one.
    pub reads: f64,
    /// 1,024 bytes written there.
    pub link_kib: f64,
    /// And read.
    pub read_kib: f64,
    /// Times that a worker read from a connection and wrote to it; once each is one.
    pub polls: f64,
    /// What its engine's thread spent, in nanoseconds.
    pub engine_nanos: f64,
    /// What its log's thread spent.
    pub log_nanos: f64,
    /// And its workers.
    pub worker_nanos: f64,
}

/// What happened for each answer, in the model.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Counts {
    /// At the site that leads and is asked.
    pub leader: Share,
    /// At each of the others, on average.
    pub follower: Share,
    /// Times that the generator turned to a connection.
    pub generator_polls: f64,
    /// Times that it woke for one.
    pub generator_wakes: f64,
    /// What it spent on that and on waking others, in nanoseconds.
    pub generator_wake_nanos: f64,
    /// What it spent in all.
    pub generator_nanos: f64,
    /// Cores that were in use, on average.
    pub busy: f64,
    /// The part of the time in which a thread waited for one core while another slept.
    pub beside: f64,
}

/// What the model says of a load.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Modelled {
    /// As a row of the table.
    pub cell: Cell,
    /// Why it costs what it does.
    pub counts: Counts,
}

/// Rehearses one load on the machine of the costs, so many runs of it.
///
/// # Errors
///
/// If nothing can be said, for nobody leads or a run does not go on.
pub fn model(costs: &Costs, load: Load, clients: u32, runs: u64) -> Result<Modelled, String> {
    let scenario = scenario(costs, load, clients)?;
    let stage = Stage::new(&scenario);
    let (mut sum, mut done) = (None, 0);
    for seed in 1..=SEEDS_MAX {
        let tape = Tape::fresh(seed).recording(Recording::Off);
        let mut run = Run::new(&scenario, &stage, Order::Timed, Lines::Off, tape);
        let leader = run.elect().map_err(|halted| halted.to_string())?;
        if leader != Some(NodeId::new(1)) {
            continue;
        }
        let one = of_run(&run.finish(), load, clients)?;
        sum = Some(sum.map_or(one, |sum| plus(&sum, &one)));
        done += 1;
        if done == runs {
            break;
        }
    }
    let sum = sum.filter(|_| done == runs);
    let sum = sum.ok_or_else(|| "in the model the site that is asked never leads".to_owned())?;
    Ok(scaled(&sum, 1.0 / float(runs)))
}

fn scenario(costs: &Costs, load: Load, clients: u32) -> Result<Scenario, String> {
    let text = format!(
        "format = 1\nname = \"{op}-{clients}\"\nwhy = \"The calibrated machine, rehearsed.\"\n\
         [run]\nlength = \"{length}ms\"\nwarmup = \"{WARMUP_MS}ms\"\n\
         [[site]]\nnames = [\"a\", \"b\", \"c\"]\nhost = \"machine\"\ncores = {cores}\n\
         [[link]]\nname = \"loopback\"\namong = [\"a\", \"b\", \"c\"]\none_way = \"0ms\"\n\
         [[keyspace]]\nname = \"k\"\nsites = [\"a\", \"b\", \"c\"]\n\
         [[clients]]\nat = \"a\"\ncount = {clients}\nmix = {{ {op} = 1 }}\n\
         keys = \"uniform(100000)\"\nvalue = \"{bytes}B\"\n\
         [[promise]]\ncheck = [\"invariants\"]\n",
        op = load.name(),
        length = WARMUP_MS + MEASURED_MS,
        cores = costs.machine.cores,
        bytes = costs.value_bytes,
    );
    let mut scenario = parse(&text, "validation", &[]).map_err(|refusal| refusal.to_string())?;
    scenario.charge(costs.clone())?;
    scenario.has_generator = true;
    Ok(scenario)
}

fn of_run(ending: &Ending, load: Load, clients: u32) -> Result<Modelled, String> {
    if let Some(halted) = &ending.halted {
        return Err(halted.to_string());
    }
    if let Some(violation) = ending.violations.first() {
        return Err(format!("in the model a promise broke: {}", violation.place));
    }
    let op = match load {
        Load::Put => 0,
        Load::Range => 3,
    };
    let figure = |measure| ending.figures.value(measure, &[], None);
    let known = (
        figure(Measure::Quantile(op, 500)),
        figure(Measure::Quantile(op, 990)),
        ending.used.as_ref(),
    );
    let (Some(p50), Some(p99), Some(used)) = known else {
        return Err("in the model nothing is answered".to_owned());
    };
    // As the generator of the real sites counts: all that was answered meanwhile, whenever it was asked.
    let answers = float(used.answered);
    let rate = answers * 1e9 / float(used.nanos);
    let all: u64 = used.sites.iter().map(SiteUse::nanos_of).sum();
    let FrontUse {
        halves,
        wakes,
        wake_nanos,
        nanos: generator_nanos,
    } = used.generator;
    let of_time = |of: fn(&Queueing) -> u64| {
        let all: u64 = used.hosts.iter().map(of).sum();
        float(all) / float(used.nanos)
    };
    let [leader, first, second] = used.sites.as_slice() else {
        return Err("the model has three sites".to_owned());
    };
    Ok(Modelled {
        cell: Cell {
            load,
            clients,
            rate,
            p50_us: p50 / 1e3,
            p99_us: p99 / 1e3,
            cpu_us: float(all) / answers / 1e3,
        },
        counts: Counts {
            leader: share(leader, answers),
            follower: share(first, answers)
                .both(share(second, answers))
                .times(0.5),
            generator_polls: float(halves) / 2.0 / answers,
            generator_wakes: float(wakes) / answers,
            generator_wake_nanos: float(wake_nanos) / answers,
            generator_nanos: float(generator_nanos) / answers,
            busy: of_time(|host| host.busy_nanos),
            beside: of_time(|host| host.beside_nanos),
        },
    })
}

/// What a site did, for each answer.
fn share(site: &SiteUse, answers: f64) -> Share {
    Share {
        turns: float(site.node.turns) / answers,
        turns_here: float(site.node.turns_here) / answers,
        logging: float(site.node.logging) / answers,
        logging_here: float(site.node.logging_here) / answers,
        wakes: float(site.node.wakes) / answers,
        cold: float(site.node.cold) / answers,
        sync_nanos: float(site.node.sync_nanos) / answers,
        timed_nanos: float(site.node.timed_nanos) / answers,
        log_timed_nanos: float(site.node.log_timed_nanos) / answers,
        worker_timed_nanos: float(site.node.worker_timed_nanos) / answers,
        sent: float(site.node.sent) / answers,
        flushes: float(site.node.flushes) / answers,
        own_flushes: float(site.node.own_flushes) / answers,
        flushes_here: float(site.node.flushes_here) / answers,
        records: float(site.node.records) / answers,
        records_here: float(site.node.records_here) / answers,
        worker_wakes: float(site.node.worker_wakes) / answers,
        writes: float(site.node.writes) / answers,
        own_writes: float(site.node.own_writes) / answers,
        reads: float(site.node.reads) / answers,
        link_kib: float(site.node.link_bytes) / 1024.0 / answers,
        read_kib: float(site.node.read_bytes) / 1024.0 / answers,
        polls: float(site.front.halves) / 2.0 / answers,
        engine_nanos: float(site.node.engine_nanos) / answers,
        log_nanos: float(site.node.log_nanos) / answers,
        worker_nanos: float(site.nanos_of() - site.node.engine_nanos - site.node.log_nanos)
            / answers,
    }
}

impl Share {
    /// Batches that the engine's own thread did.
    pub(crate) fn own_turns(&self) -> f64 {
        self.turns - self.turns_here
    }

    /// Times that a worker wrote to a link or read from one.
    pub(crate) fn calls(&self) -> f64 {
        self.writes - self.own_writes + self.reads
    }

    fn both(self, other: Self) -> Self {
        self.with(&other, |one, more| one + more)
    }

    fn times(self, by: f64) -> Self {
        self.with(&self, |one, _| one * by)
    }

    /// Of both, each with its like.
    fn with(&self, other: &Self, of: impl Fn(f64, f64) -> f64) -> Self {
        Self {
            turns: of(self.turns, other.turns),
            turns_here: of(self.turns_here, other.turns_here),
            logging: of(self.logging, other.logging),
            logging_here: of(self.logging_here, other.logging_here),
            wakes: of(self.wakes, other.wakes),
            cold: of(self.cold, other.cold),
            sync_nanos: of(self.sync_nanos, other.sync_nanos),
            timed_nanos: of(self.timed_nanos, other.timed_nanos),
            log_timed_nanos: of(self.log_timed_nanos, other.log_timed_nanos),
            worker_timed_nanos: of(self.worker_timed_nanos, other.worker_timed_nanos),
            flushes_here: of(self.flushes_here, other.flushes_here),
            records: of(self.records, other.records),
            records_here: of(self.records_here, other.records_here),
            sent: of(self.sent, other.sent),
            flushes: of(self.flushes, other.flushes),
            polls: of(self.polls, other.polls),
            own_flushes: of(self.own_flushes, other.own_flushes),
            worker_wakes: of(self.worker_wakes, other.worker_wakes),
            writes: of(self.writes, other.writes),
            own_writes: of(self.own_writes, other.own_writes),
            reads: of(self.reads, other.reads),
            link_kib: of(self.link_kib, other.link_kib),
            read_kib: of(self.read_kib, other.read_kib),
            engine_nanos: of(self.engine_nanos, other.engine_nanos),
            log_nanos: of(self.log_nanos, other.log_nanos),
            worker_nanos: of(self.worker_nanos, other.worker_nanos),
        }
    }
}

fn plus(one: &Modelled, other: &Modelled) -> Modelled {
    let (a, b) = (one.cell, other.cell);
    let (c, d) = (one.counts, other.counts);
    Modelled {
        cell: Cell {
            rate: a.rate + b.rate,
            p50_us: a.p50_us + b.p50_us,
            p99_us: a.p99_us + b.p99_us,
            cpu_us: a.cpu_us + b.cpu_us,
            ..a
        },
        counts: Counts {
            leader: c.leader.both(d.leader),
            follower: c.follower.both(d.follower),
            generator_polls: c.generator_polls + d.generator_polls,
            generator_wakes: c.generator_wakes + d.generator_wakes,
            generator_wake_nanos: c.generator_wake_nanos + d.generator_wake_nanos,
            generator_nanos: c.generator_nanos + d.generator_nanos,
            busy: c.busy + d.busy,
            beside: c.beside + d.beside,
        },
    }
}

fn scaled(one: &Modelled, by: f64) -> Modelled {
    let (a, c) = (one.cell, one.counts);
    Modelled {
        cell: Cell {
            rate: a.rate * by,
            p50_us: a.p50_us * by,
            p99_us: a.p99_us * by,
            cpu_us: a.cpu_us * by,
            ..a
        },
        counts: Counts {
            leader: c.leader.times(by),
            follower: c.follower.times(by),
            generator_polls: c.generator_polls * by,
            generator_wakes: c.generator_wakes * by,
            generator_wake_nanos: c.generator_wake_nanos * by,
            generator_nanos: c.generator_nanos * by,
            busy: c.busy * by,
            beside: c.beside * by,
        },
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "counts of a run are far below 2^53"
)]
const fn float(count: u64) -> f64 {
    count as f64
}
