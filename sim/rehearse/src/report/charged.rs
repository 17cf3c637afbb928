//! What work cost in a rehearsal: whose costs they are, whether they may be quoted, and who used how much.

use std::sync::Arc;

use super::{digits, value};
use crate::costs::{Costs, worst};
use crate::run::{SiteUse, Used};
use crate::scenario::{Scenario, Unit};
use crate::statistics::{Interval, float};

/// What a site used, over all runs.
#[derive(Clone, Debug)]
pub(crate) struct SiteLine {
    pub(crate) name: String,
    /// Cores in use, with the front.
    pub(crate) cores: Option<Interval>,
    /// Of those, by the front.
    pub(crate) front: Option<Interval>,
    /// Flushes a second.
    pub(crate) syncs: Option<Interval>,
    /// Messages sent a second.
    pub(crate) sent: Option<Interval>,
}

/// How long work waited for a core of a host.
#[derive(Clone, Debug)]
pub(crate) struct HostLine {
    pub(crate) name: String,
    /// Cores in use.
    pub(crate) busy: Option<Interval>,
    /// Nanoseconds that a piece of work waited, on average.
    pub(crate) wait: Option<Interval>,
}

/// What work cost.
#[derive(Clone, Debug)]
pub(crate) struct Charged {
    pub(crate) costs: Arc<Costs>,
    pub(crate) sites: Vec<SiteLine>,
    pub(crate) hosts: Vec<HostLine>,
}

impl Charged {
    /// Of all runs; nothing where work is free.
    pub(crate) fn new(scenario: &Scenario, used: &[Used]) -> Option<Self> {
        let costs = Arc::clone(scenario.costs.as_ref()?);
        let confidence = scenario.confidence;
        let over = |of: &dyn Fn(&Used) -> f64| {
            let values: Vec<f64> = used.iter().filter(|one| one.nanos > 0).map(of).collect();
            Interval::of(&values, confidence)
        };
        let sites = scenario.sites.iter().enumerate().map(|(at, site)| {
            let share = |of: fn(&SiteUse) -> u64, scale: f64| {
                over(&|one: &Used| real(of(&one.sites[at])) * scale / real(one.nanos))
            };
            SiteLine {
                name: site.name.clone(),
                cores: share(SiteUse::nanos_of, 1.0),
                front: share(|one| one.front.nanos, 1.0),
                syncs: share(|one| one.node.flushes, 1e9),
                sent: share(|one| one.node.sent, 1e9),
            }
        });
        let mut names: Vec<&str> = Vec::new();
        for site in scenario.nodes() {
            let site = &scenario.sites[site];
            let own = site.host.as_deref().unwrap_or(&site.name);
            if !names.contains(&own) {
                names.push(own);
            }
        }
        let hosts = names.iter().enumerate().map(|(at, name)| HostLine {
            name: (*name).to_owned(),
            busy: over(&|one| real(one.hosts[at].busy_nanos) / real(one.nanos)),
            wait: over(&|one| real(one.hosts[at].waited_nanos) / real(one.hosts[at].pieces.max(1))),
        });
        Some(Self {
            sites: sites.collect(),
            hosts: hosts.collect(),
            costs,
        })
    }

    /// Whose costs, and how good they are.
    pub(crate) fn standing(&self) -> String {
        let costs = &self.costs;
        let own = &costs.machine;
        let whose = format!(
            "rehearsed, costs {} ({}, {} cores, holm {}, {})",
            costs.name, own.processor, own.cores, own.release, costs.date
        );
        match (costs.flaw(), worst(&costs.misses())) {
            (None, Some(miss)) => {
                let percent = miss.error.abs() * 100.0;
                format!("{whose}, validated within {percent:.0} %")
            }
            (Some(flaw), _) => format!("{whose}: NOT VALID ({flaw}), figures may not be quoted"),
            (None, None) => unreachable!("what was never validated is a flaw"),
        }
    }

    /// A line for each site and host.
    pub(crate) fn words(&self) -> Vec<String> {
        let plain = |interval: &Option<Interval>| match interval {
            Some(one) => format!(
                "{} \u{b1}{:.0}%",
                digits(one.mean),
                (one.relative() * 100.0).ceil()
            ),
            None => "-".to_owned(),
        };
        let site = |one: &SiteLine| {
            let SiteLine {
                name,
                cores,
                front,
                syncs,
                sent,
            } = one;
            format!(
                "{name}: {} cores, {} of them in the front; {} syncs/s, {} messages/s",
                plain(cores),
                plain(front),
                plain(syncs),
                plain(sent)
            )
        };
        let host = |one: &HostLine| {
            let wait = one
                .wait
                .as_ref()
                .map_or_else(|| "-".to_owned(), |it| value(it.mean, Unit::Nanos));
            format!(
                "host {}: {} cores busy, work waits {wait} for one on average",
                one.name,
                plain(&one.busy)
            )
        };
        self.sites
            .iter()
            .map(site)
            .chain(self.hosts.iter().map(host))
            .collect()
    }
}

fn real(count: u64) -> f64 {
    float(usize::try_from(count / 1_000).unwrap_or(usize::MAX)) * 1_000.0
        + float(usize::try_from(count % 1_000).unwrap_or(0))
}
