//! What sites used of their cores and disks in the measured part of a run.

use holm_base::Time;
use holm_virtual::{Queueing, Usage};

use super::Run;
use super::front::FrontUse;

/// What one site used.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct SiteUse {
    /// Of its nodes, without the front.
    pub(crate) node: Usage,
    /// Of its front.
    pub(crate) front: FrontUse,
}

impl SiteUse {
    /// CPU of all of it.
    pub(crate) const fn nanos_of(&self) -> u64 {
        self.node.busy_nanos + self.front.nanos
    }
}

/// What was used from the end of the warm-up to the end of the load.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Used {
    pub(crate) nanos: u64,
    /// Requests that were answered.
    pub(crate) answered: u64,
    pub(crate) sites: Vec<SiteUse>,
    pub(crate) generator: FrontUse,
    pub(crate) hosts: Vec<Queueing>,
}

/// Reads the meters when measuring starts and when it ends.
#[derive(Debug, Default)]
pub(super) struct Meter {
    first: Option<Used>,
    last: Option<Used>,
}

impl Run<'_> {
    pub(super) fn meter_starts(&mut self) {
        if self.fronts.is_some()
            && self.meter.first.is_none()
            && self.world.now() >= Time::from_nanos(self.scenario.warmup)
        {
            self.meter.first = Some(self.readings());
        }
    }

    pub(super) fn meter_stops(&mut self) {
        self.meter.last = Some(self.readings());
    }

    fn readings(&self) -> Used {
        let fronts = self.fronts.as_ref();
        let sites = (0..self.scenario.sites.len()).map(|site| {
            let nodes = self.stage.of_site(site).map(|node| self.world.usage(node));
            let front = fronts.and_then(|fronts| fronts.used.get(site));
            SiteUse {
                node: nodes.fold(Usage::default(), |sum, more| sum.plus(more)),
                front: front.copied().unwrap_or_default(),
            }
        });
        Used {
            nanos: self.world.now().nanos(),
            answered: self.askers.acknowledged(),
            sites: sites.collect(),
            generator: fronts
                .and_then(|fronts| fronts.used.last().copied())
                .unwrap_or_default(),
            hosts: (0..self.stage.hosts)
                .map(|host| self.world.queueing(host))
                .collect(),
        }
    }

    /// What was used while it was measured.
    pub(super) fn used(&self) -> Option<Used> {
        let (first, last) = (self.meter.first.as_ref()?, self.meter.last.as_ref()?);
        let sites = first
            .sites
            .iter()
            .zip(&last.sites)
            .map(|(first, last)| SiteUse {
                node: last.node.since(first.node),
                front: last.front.since(first.front),
            });
        let hosts = first.hosts.iter().zip(&last.hosts);
        Some(Used {
            nanos: last.nanos.saturating_sub(first.nanos),
            answered: last.answered - first.answered,
            sites: sites.collect(),
            generator: last.generator.since(first.generator),
            hosts: hosts.map(|(first, last)| last.since(*first)).collect(),
        })
    }
}
