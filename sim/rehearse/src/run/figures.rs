//! What is measured in a timed run: latencies, answers, and how long nobody led.

use std::time::Duration;

use holm_base::{NodeId, Time};
use holm_check::islands::Took;
use holm_raft as raft;

use crate::histogram::Histogram;
use crate::scenario::{Measure, OP_NAMES, Scenario};
use crate::stream::StreamFigures;

const OPS: usize = OP_NAMES.len();
/// The phase before the first fault.
pub(crate) const BEFORE: usize = 0;
/// The phase behind any fault.
pub(crate) const AFTER: usize = 1;
const SECOND: u64 = 1_000_000_000;
/// How much of a run's end is looked at, to see when it is as before.
const HEAL_WINDOW: u64 = SECOND;
const HEAL_STEP: u64 = SECOND / 20;
const HEAL_SAMPLES_MAX: usize = 400_000;

/// One second of a site.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Second {
    pub(crate) answered: u32,
    pub(crate) failed: u32,
    /// The sum of the latencies, in microseconds.
    pub(crate) micros: u64,
}

/// What one operation did at one site in one phase.
#[derive(Clone, Debug, Default)]
struct Tally {
    latencies: Histogram,
    asked: u64,
}

/// The figures of one run.
#[derive(Clone, Debug)]
pub(crate) struct Figures {
    /// Before, after, and then the faults by name, each name once.
    pub(crate) phases: Vec<String>,
    /// Which phase each fault is.
    phase_of: Vec<usize>,
    /// By phase, site and operation.
    tallies: Vec<Tally>,
    sites: usize,
    /// How many nodes must have what was there when the last fault ended.
    members: usize,
    warmup: u64,
    is_stopped: bool,
    /// Faults that last, newest behind.
    active: Vec<usize>,
    /// When the phase began, and how long each lasted in all.
    since: (usize, Time),
    lasted: Vec<u64>,
    /// By site, then second.
    pub(crate) seconds: Vec<Vec<Second>>,
    /// Since when nobody leads, and how long nobody did in all.
    leaderless: (Option<Time>, u64),
    leader: Option<NodeId>,
    healing: Option<Healing>,
    /// When each fault began and ended.
    pub(crate) spans: Vec<(usize, u64, u64)>,
    /// Who led from when on.
    pub(crate) led: Vec<(u64, Option<NodeId>)>,
    /// What is measured of streams.
    pub(crate) streams: StreamFigures,
}

/// What is watched behind the last fault.
#[derive(Clone, Debug)]
struct Healing {
    since: Time,
    /// What everybody must have.
    revision: u64,
    reached: Vec<bool>,
    agreed: Option<Time>,
    /// Puts: asked after the end, and how long they took.
    puts: Vec<(u64, u64)>,
}

impl Figures {
    pub(crate) fn new(scenario: &Scenario, members: usize) -> Self {
        let mut phases = vec!["before".to_owned(), "after".to_owned()];
        let mut phase_of = Vec::new();
        for fault in &scenario.faults {
            let known = phases.iter().position(|name| *name == fault.name);
            phase_of.push(known.unwrap_or_else(|| {
                phases.push(fault.name.clone());
                phases.len() - 1
            }));
        }
        let sites = scenario.sites.len();
        Self {
            tallies: vec![Tally::default(); phases.len() * sites * OPS],
            lasted: vec![0; phases.len()],
            phases,
            phase_of,
            sites,
            members,
            warmup: scenario.warmup,
            is_stopped: false,
            active: Vec::new(),
            since: (BEFORE, Time::from_nanos(scenario.warmup)),
            seconds: vec![Vec::new(); sites],
            leaderless: (Some(Time::from_nanos(scenario.warmup)), 0),
            leader: None,
            healing: None,
            spans: Vec::new(),
            led: Vec::new(),
            streams: StreamFigures::default(),
        }
    }

    /// The phase that it is, if that is measured.
    pub(crate) const fn phase(&self, now: Time) -> Option<usize> {
        if self.is_stopped || now.nanos() < self.warmup {
            None
        } else {
            Some(self.since.0)
        }
    }

    fn tally(&mut self, phase: usize, site: usize, op: usize) -> &mut Tally {
        &mut self.tallies[(phase * self.sites + site) * OPS + op]
    }

    /// Somebody asks; says in which phase, if it is measured.
    pub(crate) fn asked(&mut self, now: Time, site: usize, op: usize) -> Option<usize> {
        if self.is_stopped || now.nanos() < self.warmup {
            return None;
        }
        let phase = self.since.0;
        self.tally(phase, site, op).asked += 1;
        Some(phase)
    }

    pub(crate) fn acknowledged(
        &mut self,
        now: Time,
        (site, op): (usize, usize),
        phase: Option<usize>,
        took: u64,
        _revision: u64,
    ) {
        let Some(phase) = phase else { return };
        self.tally(phase, site, op).latencies.add(took);
        let asked = now.nanos() - took;
        let second = self.second(asked, site);
        second.answered += 1;
        second.micros += took / 1_000;
        if op == 0
            && let Some(healing) = &mut self.healing
            && asked >= healing.since.nanos()
            && healing.puts.len() < HEAL_SAMPLES_MAX
        {
            healing.puts.push((asked - healing.since.nanos(), took));
        }
    }

    pub(crate) fn failed(&mut self, asked: Time, site: usize) {
        if !self.is_stopped && asked.nanos() >= self.warmup {
            self.second(asked.nanos(), site).failed += 1;
        }
    }

    fn second(&mut self, nanos: u64, site: usize) -> &mut Second {
        let at = usize::try_from(nanos / SECOND).expect("runs are short");
        let seconds = &mut self.seconds[site];
        if seconds.len() <= at {
            seconds.resize(at + 1, Second::default());
        }
        &mut seconds[at]
    }

    fn enter(&mut self, now: Time, phase: usize) {
        let (old, since) = self.since;
        self.lasted[old] += now.nanos().saturating_sub(since.nanos());
        self.since = (phase, now);
    }

    pub(crate) fn begin(&mut self, now: Time, fault: usize) {
        self.active.push(fault);
        self.healing = None;
        self.spans
            .push((self.phase_of[fault], now.nanos(), u64::MAX));
        self.enter(now, self.phase_of[fault]);
    }

    pub(crate) fn end(&mut self, now: Time, fault: usize, newest: u64) {
        self.active.retain(|&other| other != fault);
        let phase = self.phase_of[fault];
        let open = |span: &&mut (usize, u64, u64)| span.0 == phase && span.2 == u64::MAX;
        if let Some(span) = self.spans.iter_mut().find(open) {
            span.2 = now.nanos();
        }
        let next = self
            .active
            .last()
            .map_or(AFTER, |&other| self.phase_of[other]);
        self.enter(now, next);
        if self.active.is_empty() {
            self.healing = Some(Healing {
                since: now,
                revision: newest,
                reached: Vec::new(),
                agreed: None,
                puts: Vec::new(),
            });
        }
    }

    /// A node has come to this revision.
    pub(crate) fn reached(&mut self, now: Time, node: NodeId, revision: u64) {
        let Some(healing) = &mut self.healing else {
            return;
        };
        if healing.agreed.is_some() || revision < healing.revision {
            return;
        }
        let at = usize::try_from(node.value() - 1).expect("nodes are few");
        if healing.reached.len() <= at {
            healing.reached.resize(at + 1, false);
        }
        healing.reached[at] = true;
        let count = healing.reached.iter().filter(|&&reached| reached).count();
        if count >= self.members {
            healing.agreed = Some(now);
        }
    }

    pub(crate) fn noted(&mut self, now: Time, node: NodeId, event: &raft::Event) {
        if let raft::Event::LeaderElected { .. } = event {
            self.led_by(now, Some(node));
        }
        if let raft::Event::SteppedDown { .. } = event
            && self.leader == Some(node)
        {
            self.led_by(now, None);
        }
    }

    /// A node has ended.
    pub(crate) fn ended(&mut self, now: Time, node: NodeId) {
        if self.leader == Some(node) {
            self.led_by(now, None);
        }
    }

    fn led_by(&mut self, now: Time, leader: Option<NodeId>) {
        self.leader = leader;
        if self.is_stopped {
            return;
        }
        self.led.push((now.nanos(), leader));
        let (since, total) = &mut self.leaderless;
        match (leader, *since) {
            (Some(_), Some(begun)) => {
                *total += now.nanos().saturating_sub(begun.nanos());
                *since = None;
            }
            (None, None) => *since = Some(now.max(Time::from_nanos(self.warmup))),
            (Some(_), None) | (None, Some(_)) => {}
        }
    }

    /// Nothing is measured any more.
    pub(crate) const fn stop(&mut self) {
        self.is_stopped = true;
    }

    pub(crate) fn close(&mut self, now: Time) {
        let phase = self.since.0;
        self.enter(now, phase);
        if let (Some(begun), total) = self.leaderless {
            let more = now.nanos().saturating_sub(begun.nanos());
            self.leaderless = (None, total + more);
        }
    }

    /// A figure of this run; `None` if there was nothing to measure.
    pub(crate) fn value(
        &self,
        measure: Measure,
        at: &[usize],
        phase: Option<usize>,
    ) -> Option<f64> {
        let op = match measure {
            Measure::Heal => return self.heal(),
            Measure::Leaderless => return Some(lossy(self.leaderless.1)),
            Measure::Latency(_)
            | Measure::Lag(_)
            | Measure::Late
            | Measure::Completeness
            | Measure::Recovery => return self.streams.value(measure, at, phase),
            Measure::Quantile(op, _)
            | Measure::Mean(op)
            | Measure::Rate(op)
            | Measure::Availability(op) => op,
        };
        let (latencies, asked) = self.gather(op, at, phase);
        match measure {
            Measure::Quantile(_, per_mille) => latencies.quantile(per_mille).map(lossy),
            Measure::Mean(_) => latencies.mean().map(lossy),
            Measure::Availability(_) => {
                (asked > 0).then(|| lossy(latencies.count()) / lossy(asked))
            }
            Measure::Rate(_)
            | Measure::Heal
            | Measure::Leaderless
            | Measure::Latency(_)
            | Measure::Lag(_)
            | Measure::Late
            | Measure::Completeness
            | Measure::Recovery => {
                let nanos = match phase {
                    Some(phase) => self.lasted[phase],
                    None => self.lasted.iter().sum(),
                };
                (nanos > 0).then(|| lossy(latencies.count()) * 1e9 / lossy(nanos))
            }
        }
    }

    /// How long puts at a site took in a phase.
    pub(crate) fn took_of_puts(&self, site: usize, phase: &str) -> Took {
        let Some(phase) = self.phases.iter().position(|it| it == phase) else {
            return Took::default();
        };
        let (latencies, _asked) = self.gather(0, &[site], Some(phase));
        let at = |per_mille| Duration::from_nanos(latencies.quantile(per_mille).unwrap_or(0));
        Took {
            answers: latencies.count(),
            median: at(500),
            tail: at(990),
        }
    }

    fn gather(&self, op: usize, at: &[usize], phase: Option<usize>) -> (Histogram, u64) {
        let (mut latencies, mut asked) = (Histogram::default(), 0);
        for (index, tally) in self.tallies.iter().enumerate() {
            let (of_phase, of_site) = (index / OPS / self.sites, index / OPS % self.sites);
            let is_wanted = index % OPS == op
                && (at.is_empty() || at.contains(&of_site))
                && phase.is_none_or(|phase| phase == of_phase);
            if is_wanted && tally.asked > 0 {
                latencies.merge(&tally.latencies);
                asked += tally.asked;
            }
        }
        (latencies, asked)
    }

    /// From the end of the last fault until all nodes have what was there then, and puts take
    /// at most a tenth longer than before any fault.
    fn heal(&self) -> Option<f64> {
        let healing = self.healing.as_ref()?;
        let agreed = healing.agreed?.nanos() - healing.since.nanos();
        let before = self.gather(0, &[], Some(BEFORE)).0.quantile(500)?;
        let mut puts = healing.puts.clone();
        puts.sort_unstable();
        let last = puts.last()?.0;
        let mut from = agreed;
        while from + HEAL_WINDOW <= last {
            let begin = puts.partition_point(|put| put.0 < from);
            let end = puts.partition_point(|put| put.0 < from + HEAL_WINDOW);
            let mut took: Vec<u64> = puts[begin..end].iter().map(|put| put.1).collect();
            if !took.is_empty() {
                let middle = took.len() / 2;
                let median = *took.select_nth_unstable(middle).1;
                if median <= before + before / 10 {
                    return Some(lossy(from));
                }
            }
            from += HEAL_STEP;
        }
        None
    }

    /// How much the second half of a run without faults differs from the first, as a share.
    pub(crate) fn drift(&self) -> Option<f64> {
        let seconds = self.seconds.iter().map(Vec::len).max()?;
        let begin = usize::try_from(self.warmup / SECOND).ok()?;
        if seconds < begin + 4 {
            return None;
        }
        let middle = usize::midpoint(begin, seconds);
        let mean = |range: std::ops::Range<usize>| {
            let chosen = self.seconds.iter().flat_map(|site| {
                let end = range.end.min(site.len());
                site[range.start.min(end)..end].iter()
            });
            let (mut sum, mut number) = (0, 0);
            for second in chosen {
                sum += second.micros;
                number += u64::from(second.answered);
            }
            (number > 0).then(|| lossy(sum) / lossy(number))
        };
        let (first, second) = (mean(begin..middle)?, mean(middle..seconds)?);
        Some((second - first).abs() / first.max(1.0))
    }

    /// How many phases lasted at all.
    pub(crate) fn seen_phases(&self) -> Vec<usize> {
        // In the order of time: before, the faults, after.
        let faults = 2..self.phases.len();
        let order = std::iter::once(BEFORE).chain(faults).chain([AFTER]);
        order.filter(|&phase| self.lasted[phase] > 0).collect()
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "figures beyond 2^53 may lose their last digits"
)]
const fn lossy(nanos: u64) -> f64 {
    nanos as f64
}
