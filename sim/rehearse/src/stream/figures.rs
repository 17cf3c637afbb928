//! What is measured of streams in a timed run.

use crate::histogram::Histogram;
use crate::scenario::Measure;

/// The figures of one run.
#[derive(Clone, Debug, Default)]
pub(crate) struct StreamFigures {
    sites: usize,
    /// By phase and site.
    latency: Vec<Histogram>,
    lag: Vec<Histogram>,
    /// Rows that came and those of them that were late.
    pub(crate) rows: (u64, u64),
    /// Results that there would be had all rows come once and in time, and those of them that are there.
    pub(crate) results: (u64, u64),
    /// For each stream the rows that were due at the end and not sent.
    pub(crate) behind: Vec<u64>,
    /// From crashes to the next commit: how many, and nanoseconds.
    recoveries: (u64, u64),
}

impl StreamFigures {
    pub(crate) fn new((phases, sites): (usize, usize), streams: usize) -> Self {
        Self {
            sites,
            behind: vec![0; streams],
            latency: vec![Histogram::default(); phases * sites],
            lag: vec![Histogram::default(); phases * sites],
            ..Self::default()
        }
    }

    pub(crate) fn took(&mut self, (phase, site): (usize, usize), nanos: u64) {
        self.latency[phase * self.sites + site].add(nanos);
    }

    pub(crate) fn lags(&mut self, (phase, site): (usize, usize), nanos: u64) {
        self.lag[phase * self.sites + site].add(nanos);
    }

    pub(crate) const fn recovered(&mut self, nanos: u64) {
        self.recoveries.0 += 1;
        self.recoveries.1 += nanos;
    }

    /// A figure of this run; `None` if there was nothing to measure.
    pub(crate) fn value(
        &self,
        measure: Measure,
        at: &[usize],
        phase: Option<usize>,
    ) -> Option<f64> {
        let share = |(part, all): (u64, u64)| (all > 0).then(|| lossy(part) / lossy(all));
        match measure {
            Measure::Latency(part) => self.part(&self.latency, part, (at, phase)),
            Measure::Lag(part) => self.part(&self.lag, part, (at, phase)),
            Measure::Late => share((self.rows.1, self.rows.0)),
            Measure::Completeness => share((self.results.1, self.results.0)),
            Measure::Recovery => share((self.recoveries.1, self.recoveries.0)),
            Measure::Quantile(..)
            | Measure::Mean(_)
            | Measure::Rate(_)
            | Measure::Availability(_)
            | Measure::Heal
            | Measure::Leaderless => None,
        }
    }

    fn part(
        &self,
        of: &[Histogram],
        part: Option<u32>,
        (at, phase): (&[usize], Option<usize>),
    ) -> Option<f64> {
        let mut all = Histogram::default();
        for (index, one) in of.iter().enumerate() {
            let (own_phase, site) = (index / self.sites, index % self.sites);
            let is_wanted =
                (at.is_empty() || at.contains(&site)) && phase.is_none_or(|it| it == own_phase);
            if is_wanted && one.count() > 0 {
                all.merge(one);
            }
        }
        let found = part.map_or_else(|| all.mean(), |part| all.quantile(part));
        found.map(lossy)
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "figures beyond 2^53 may lose their last digits"
)]
const fn lossy(number: u64) -> f64 {
    number as f64
}
