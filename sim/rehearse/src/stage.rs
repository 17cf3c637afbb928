//! The world that a scenario describes, built once and copied for each run.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use holm_base::NodeId;
use holm_machine::Limits;
use holm_raft::ReadMode;
use holm_virtual::{
    ClockSpec, Distribution, FaultKind, FaultPlan, FaultRate, HostSpec, LinkSpec, NodeSpec, Order,
    Overtaking, Place, Quantiles, Report, SyncTime, Tape, Wake, Work, World, WorldSpec,
};

use crate::costs::{Costs, Work as Priced};
use crate::run::Fronts;
use crate::scenario::{LinkEnd, Purpose, Scenario, Target, whole};
use crate::site::{Isles, Setup, Site};

pub(crate) const OFFSET: Place = Place::new("clock.offset");
pub(crate) const DRIFT: Place = Place::new("clock.drift");

/// Between the nodes of one site.
const WITHIN_SITE_NANOS: i64 = 100_000;
/// What a weight of 1 is, of a million moments.
const FAULT_SCALE: u32 = 400;
/// What a weight of 1 is, of a million messages.
const MESSAGE_SCALE: u32 = 1_000;

/// Everything that all runs of a scenario have in common.
#[derive(Clone, Debug)]
pub(crate) struct Stage {
    /// Of the nodes of all keyspaces; of those beside the first, only their own.
    spec: WorldSpec<Site>,
    /// The nodes of the other keyspaces, each counted from 1.
    pub(crate) beside: Vec<Self>,
    /// Which site each node belongs to.
    pub(crate) site_of: Vec<usize>,
    /// How many of the nodes are voters at first.
    pub(crate) voters: usize,
    pub(crate) faults: FaultPlan,
    /// Of each kind of clients: the time between two arrivals at a site.
    pub(crate) gaps: Vec<Option<Quantiles>>,
    /// How many hosts there are.
    pub(crate) hosts: usize,
    /// What islands have in common, if the keyspace is local-first.
    pub(crate) isles: Option<Isles>,
}

impl Stage {
    pub(crate) fn new(scenario: &Scenario) -> Self {
        let mut stage = Self::of_keyspace(scenario, 0);
        for part in &scenario.beside {
            let before = stage.spec.nodes.len();
            let own = Self::of_keyspace(part, before);
            stage.spec.nodes.extend(own.spec.nodes.iter().cloned());
            stage.spec.links.extend(own.spec.links.iter().cloned());
            stage.beside.push(own);
        }
        if !stage.beside.is_empty() {
            stage.share_hosts(scenario);
            stage.faults = faults(scenario, stage.spec.nodes.len());
        }
        stage
    }

    /// All nodes of a site are on its cores, whichever keyspace they keep.
    fn share_hosts(&mut self, scenario: &Scenario) {
        let mut hosts: Vec<(&str, usize)> = Vec::new();
        for node in &mut self.spec.nodes {
            let part = &scenario.sites[node.site];
            let own = part.host.as_deref().unwrap_or(&part.name);
            let known = hosts.iter().position(|(name, _)| *name == own);
            node.host = known.unwrap_or_else(|| {
                hosts.push((own, part.cores));
                hosts.len() - 1
            });
        }
        self.spec.hosts = hosts
            .iter()
            .map(|(_, cores)| host_spec(scenario, *cores))
            .collect();
        self.hosts = hosts.len();
    }

    /// The nodes of one keyspace, of which so many of others stand before.
    fn of_keyspace(scenario: &Scenario, before: usize) -> Self {
        let site_of = scenario.nodes();
        let keyspace = &scenario.keyspace;
        let first = keyspace
            .sites
            .iter()
            .map(|&site| scenario.sites[site].nodes);
        let voters = first.sum();
        let setup = Setup {
            before: u64::try_from(before).expect("nodes are few"),
            ..setup(scenario, voters)
        };
        let mut hosts: Vec<(Option<&str>, usize)> = Vec::new();
        let mut nodes = Vec::new();
        for &site in &site_of {
            let part = &scenario.sites[site];
            // A site without a named host is one of its own.
            let own = part.host.as_deref().unwrap_or(&part.name);
            let known = hosts.iter().position(|(name, _)| *name == Some(own));
            let host = known.unwrap_or_else(|| {
                hosts.push((Some(own), part.cores));
                hosts.len() - 1
            });
            nodes.push(node_spec(scenario, site, host, setup.clone()));
        }
        let link = usual_link(scenario);
        let mut links = links(scenario, &site_of);
        for (source, target, _) in &mut links {
            *source += before;
            *target += before;
        }
        let limits = limits(scenario.costs.is_some());
        let gap = |rate: u64| {
            let mean = 1_000_000_000_000 / rate.max(1);
            Quantiles::of(&Distribution::Exponential(
                i64::try_from(mean).unwrap_or(i64::MAX),
            ))
        };
        let gaps = scenario.clients.iter();
        Self {
            beside: Vec::new(),
            isles: setup.islands,
            spec: WorldSpec {
                nodes,
                hosts: hosts
                    .iter()
                    .map(|(_, cores)| host_spec(scenario, *cores))
                    .collect(),
                link,
                links,
                order: Order::Timed,
                limits,
                report: Report::Off,
            },
            faults: faults(scenario, site_of.len()),
            site_of,
            voters,
            gaps: gaps.map(|one| one.rate_milli.map(gap)).collect(),
            hosts: hosts.len(),
        }
    }

    /// A world at its beginning.
    pub(crate) fn world(
        &self,
        scenario: &Scenario,
        order: Order,
        report: Report,
        mut tape: Tape,
    ) -> World<Site> {
        let mut spec = self.spec.clone();
        // The nodes of several keyspaces at a site have one clock.
        let mut drawn: BTreeMap<usize, ClockSpec> = BTreeMap::new();
        for node in &mut spec.nodes {
            let known = drawn.get(&node.site).filter(|_| !self.beside.is_empty());
            node.clock = known.copied().unwrap_or_else(|| {
                let clock = &scenario.sites[node.site].clock;
                ClockSpec {
                    offset: clock.offset.draw(OFFSET, &mut tape),
                    drift_ppb: clock.drift_ppb.draw(DRIFT, &mut tape),
                    error: Duration::from_nanos(clock.error),
                }
            });
            drawn.insert(node.site, node.clock);
        }
        spec.order = order;
        spec.report = report;
        World::new(spec, tape)
    }

    /// A world in which there is nothing.
    pub(crate) fn nowhere(&self) -> World<Site> {
        let spec = WorldSpec {
            nodes: Vec::new(),
            hosts: Vec::new(),
            link: self.spec.link.clone(),
            links: Vec::new(),
            order: Order::Timed,
            limits: self.spec.limits,
            report: Report::Off,
        };
        World::new(spec, Tape::fresh(0))
    }

    /// What a run of several keyspaces is made of: each with how many nodes stand before it.
    pub(crate) fn parts(&self) -> Vec<(&Self, u64)> {
        let mut before = 0;
        let all = std::iter::once(self).chain(&self.beside);
        let place = |stage: &Self| {
            let first = before;
            before += u64::try_from(stage.site_of.len()).expect("nodes are few");
            first
        };
        let places: Vec<u64> = all.clone().map(place).collect();
        all.zip(places).collect()
    }

    /// Where the front's work is paid for, if work costs something. `groups` are the site and
    /// the number of clients of each group.
    pub(crate) fn fronts(&self, scenario: &Scenario, groups: &[(usize, u32)]) -> Option<Fronts> {
        let costs = Arc::clone(scenario.costs.as_ref()?);
        let nodes = (0..scenario.sites.len()).map(|site| self.of_site(site).next());
        let nodes = nodes.map(|node| node.expect("a site has a node")).collect();
        let generator = scenario.has_generator.then_some(0);
        Some(Fronts::new(costs, nodes, groups, generator))
    }

    pub(crate) fn ids(&self) -> impl Iterator<Item = NodeId> + use<> {
        (1..).map(NodeId::new).take(self.site_of.len())
    }

    /// The nodes of a site.
    pub(crate) fn of_site(&self, site: usize) -> impl Iterator<Item = NodeId> + '_ {
        let nodes = self.ids().zip(&self.site_of);
        nodes.filter(move |(_, of)| **of == site).map(|(id, _)| id)
    }

    pub(crate) fn site(&self, node: NodeId) -> usize {
        let index = usize::try_from(node.value() - 1).expect("nodes are few");
        self.site_of[index]
    }

    /// The nodes that a target names; none for links.
    pub(crate) fn nodes(&self, target: &Target) -> Vec<NodeId> {
        match *target {
            Target::Site(site) => self.of_site(site).collect(),
            Target::Node(site, node) => self.of_site(site).skip(node).take(1).collect(),
            Target::Link(_) | Target::End(_, _) => Vec::new(),
        }
    }

    /// The directed pairs of nodes whose messages a target carries; only those that leave the
    /// target, if it is not `both_ways`.
    pub(crate) fn pairs(
        &self,
        scenario: &Scenario,
        target: &Target,
        both_ways: bool,
    ) -> Vec<(NodeId, NodeId)> {
        let mut pairs = Vec::new();
        for source in self.ids() {
            for other in self.ids().filter(|&other| other != source) {
                let leaves = self.is_across(scenario, target, source, other);
                let enters = both_ways && self.is_across(scenario, target, other, source);
                if leaves || enters {
                    pairs.push((source, other));
                }
            }
        }
        pairs
    }

    /// Whether what goes from `source` to `other` leaves the target.
    fn is_across(
        &self,
        scenario: &Scenario,
        target: &Target,
        source: NodeId,
        other: NodeId,
    ) -> bool {
        let (from, to) = (self.site(source), self.site(other));
        let joins = |link: usize| {
            let pairs = &scenario.links[link].pairs;
            pairs.contains(&(from, to)) || pairs.contains(&(to, from))
        };
        match *target {
            Target::Site(site) => from == site && to != site,
            Target::Node(..) => self.nodes(target).contains(&source),
            Target::Link(link) => joins(link),
            Target::End(link, site) => from == site && joins(link),
        }
    }
}

/// So many cores, whose system looks for idle ones as often as that of the costs did.
fn host_spec(scenario: &Scenario, cores: usize) -> HostSpec {
    let costs = scenario.costs.as_ref();
    costs.map_or_else(
        || HostSpec::of(cores),
        |costs| HostSpec {
            search: costs.search,
            cores,
        },
    )
}

/// What it takes to wake a thread where a core sleeps.
fn wake_idle(costs: &Costs) -> Vec<Wake> {
    let shortest = costs.idle.iter().map(|one| one.slept).min().unwrap_or(0);
    let timed = costs.idle.iter();
    let timed = timed.map(|one| {
        let is_cold = one.slept > shortest;
        Wake {
            slept_nanos: one.slept,
            own_nanos: one.wake,
            is_cold,
            cold_nanos: u64::from(is_cold) * costs.of(Priced::Cold),
            call_nanos: one.call,
            delay: measured(&one.delay),
        }
    });
    timed.collect()
}

/// A table of measured spans, each so many times as long.
fn loaded(nanos: &[u64], times: f64) -> Quantiles {
    #[expect(clippy::cast_precision_loss, reason = "spans are far below 2^53")]
    let longer = nanos.iter().map(|one| whole(*one as f64 * times));
    Quantiles::of(&Distribution::Measured(longer.collect()))
}

/// How long a flush waits for the disk.
fn sync_timed(costs: &Costs) -> Vec<SyncTime> {
    let timed = costs.sync.iter();
    let timed = timed.map(|one| SyncTime {
        bytes: one.bytes,
        alone: loaded(&one.alone, one.load),
        beside: loaded(&one.beside, one.load),
    });
    timed.collect()
}

/// A node at a site, on one of the hosts.
fn node_spec(scenario: &Scenario, site: usize, host: usize, setup: Setup) -> NodeSpec<Site> {
    let (costs, part) = (scenario.costs.as_deref(), &scenario.sites[site]);
    NodeSpec {
        setup,
        host,
        site,
        clock: ClockSpec::default(),
        sync: part.disk.sync.clone(),
        sync_timed: match costs {
            Some(costs) if part.disk.is_usual => sync_timed(costs),
            Some(_) | None => Vec::new(),
        },
        work: costs.map_or_else(Work::default, |costs| work(costs, part.cores)),
        wake: costs.map_or_else(|| Quantiles::fixed(0), |costs| measured(&costs.wake)),
        wake_idle: costs.map_or_else(Vec::new, wake_idle),
    }
}

/// The limits of a node's driver.
pub(crate) fn limits(has_costs: bool) -> Limits {
    let usual = Limits {
        waiting_inputs_max: 1 << 16,
        held_effects_max: 1 << 18,
        step_effects_max: 1 << 16,
        ..Limits::default()
    };
    if has_costs {
        // As the threads of a node have it: all that waits is one batch, and what comes
        // while a flush is under way is the next flush.
        Limits {
            batch_inputs_max: usual.waiting_inputs_max,
            writes_in_flight_max: 1,
            ..usual
        }
    } else {
        usual
    }
}

/// A table of measured spans.
fn measured(nanos: &[u64]) -> Quantiles {
    loaded(nanos, 1.0)
}

/// What of a node's work depends on no message: the rest is [`Site`]'s to say. It has a worker for each core.
fn work(costs: &Costs, cores: usize) -> Work {
    Work {
        batch_nanos: costs.of(Priced::EngineTurn),
        wake_nanos: costs.of(Priced::ThreadWake),
        flush_nanos: costs.of(Priced::LogFlush),
        flush_idle_nanos: costs.of(Priced::IdleFlush),
        workers: cores,
        write_nanos: costs.of(Priced::LinkCall),
        read_nanos: costs.of(Priced::LinkCall),
        kib_nanos: costs.of(Priced::LinkKib),
        read_kib_nanos: costs.of(Priced::LinkReadKib),
        ..Work::default()
    }
}

fn setup(scenario: &Scenario, voters: usize) -> Setup {
    let keyspace = &scenario.keyspace;
    let values = scenario.clients.iter().map(|one| one.value);
    Setup {
        before: 0,
        engine: keyspace.engine,
        kept: keyspace.kept,
        value_bytes_max: values.max().unwrap_or(0),
        voters: u64::try_from(voters).expect("nodes are few"),
        election_timeout: Duration::from_nanos(keyspace.election_timeout),
        heartbeat_interval: Duration::from_nanos(keyspace.heartbeat),
        read_mode: if keyspace.reads_by_lease {
            ReadMode::Lease
        } else {
            ReadMode::Quorum
        },
        is_tight: scenario.purpose == Purpose::Hunt,
        costs: scenario.costs.clone(),
        islands: scenario.islands().map(|islands| Isles {
            kind: islands.kind,
            updates: islands.updates,
            count: u64::try_from(voters).expect("nodes are few"),
            each: islands.each,
            trace: scenario.keys(),
        }),
    }
}

/// What joins nodes that no [[link]] joins: in a hunt all, else those of one site.
fn usual_link(scenario: &Scenario) -> LinkSpec {
    if scenario.purpose == Purpose::Timed {
        return LinkSpec::plain(WITHIN_SITE_NANOS);
    }
    let per_million = |kind| scenario.chances.of(kind).0 * MESSAGE_SCALE;
    LinkSpec {
        delay: crate::scenario::hunting_delay(scenario.keyspace.election_timeout),
        loss_per_million: per_million("drop"),
        duplicate_per_million: per_million("duplicate"),
        ..LinkSpec::plain(0)
    }
}

fn links(scenario: &Scenario, site_of: &[usize]) -> Vec<(usize, usize, LinkSpec)> {
    let mut links = Vec::new();
    for link in &scenario.links {
        for (source, &from) in site_of.iter().enumerate() {
            for (target, &to) in site_of.iter().enumerate() {
                if link.pairs.contains(&(from, to)) {
                    links.push((source, target, direction(scenario, &link.forth)));
                } else if link.pairs.contains(&(to, from)) {
                    links.push((source, target, direction(scenario, &link.back)));
                }
            }
        }
    }
    links
}

fn direction(scenario: &Scenario, end: &LinkEnd) -> LinkSpec {
    let hunted = |kind| match scenario.purpose {
        Purpose::Timed => 0,
        Purpose::Hunt => scenario.chances.of(kind).0 * MESSAGE_SCALE,
    };
    LinkSpec {
        delay: end.delay.clone(),
        overtaking: Overtaking::Allowed,
        loss_per_million: end.loss_per_million.max(hunted("drop")),
        duplicate_per_million: end.duplicate_per_million.max(hunted("duplicate")),
        flip_per_million: 0,
        bytes_per_second: end.bytes_per_second,
        queue_nanos: end.queue_nanos,
    }
}

pub(crate) fn faults(scenario: &Scenario, nodes: usize) -> FaultPlan {
    let kinds = [
        ("crash", FaultKind::Crash),
        ("power", FaultKind::Power),
        ("pause", FaultKind::Pause),
        ("cut", FaultKind::Cut),
        ("cut_from", FaultKind::CutOneWay),
        ("slow", FaultKind::Slow),
        ("sync_fail", FaultKind::SyncFailure),
        ("step", FaultKind::ClockStep),
        ("freeze", FaultKind::ClockFreeze),
        ("full", FaultKind::Full),
    ];
    let rates = kinds.into_iter().filter_map(|(name, kind)| {
        let (weight, at_most) = scenario.chances.of(name);
        (weight > 0).then_some(FaultRate {
            kind,
            per_million: weight * FAULT_SCALE,
            at_most,
        })
    });
    // What is not synced may be lost, and what is, may not: so all may be down at once, and an
    // order is as safe as ever. To make progress in between, most runs keep a quorum.
    let down_max = if scenario.chances.is_recoverable {
        nodes.div_ceil(2)
    } else {
        nodes
    };
    let timeout = i64::try_from(scenario.keyspace.election_timeout).unwrap_or(i64::MAX);
    // Some come back before anybody has missed them, some when others have long gone on.
    let lasts = Distribution::Mix(vec![
        (0.5, Distribution::Exponential(timeout / 3)),
        (0.5, Distribution::Exponential(timeout * 2)),
    ]);
    FaultPlan::new(rates.collect(), down_max, Quantiles::of(&lasts))
}

pub(crate) const fn moments_scale() -> u32 {
    FAULT_SCALE
}
