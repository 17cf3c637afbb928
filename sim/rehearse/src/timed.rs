//! Timed rehearsals: independent runs until every interval is narrow enough.

use holm_virtual::{Order, Recording, Report as Lines, Tape};
use sha2::{Digest, Sha256};

use crate::options::{Options, Progress};
use crate::report::{Failure, Outcome, PromiseLine, Report, Row};
use crate::run::{Ending, Figures, Run};
use crate::scenario::{Check, Measure, Promise, Scenario};
use crate::stage::Stage;
use crate::statistics::{Interval, Verdict, looks};

/// Of so small a share answered, latencies are shown and not waited for.
const RARE: f64 = 0.5;
/// A run whose second half differs so much from its first is not steady.
const DRIFT: f64 = 0.1;

/// One figure that is followed through all runs.
#[derive(Clone, Debug)]
pub(crate) struct Followed {
    pub(crate) measure: Measure,
    pub(crate) at: Vec<usize>,
    pub(crate) phase: Option<usize>,
    /// Runs go on until its interval is narrow enough.
    is_awaited: bool,
    values: Vec<f64>,
}

/// All runs so far.
struct Series<'a> {
    scenario: &'a Scenario,
    followed: Vec<Followed>,
    /// Which of them each promise looks at.
    promised: Vec<Option<usize>>,
    runs: u64,
    virtual_nanos: u128,
    delivered: u64,
    acknowledged: u64,
    unsteady: u64,
    hash: Sha256,
    first: Option<Figures>,
}

pub(crate) fn rehearse(
    scenario: &Scenario,
    options: &Options,
    progress: &mut dyn Progress,
) -> Report {
    let stage = Stage::new(scenario);
    let (least, most) = options.runs.map_or(scenario.runs, |runs| (runs, runs));
    let first_seed = options.seed.unwrap_or(1);
    let mut series = Series::new(scenario);
    let mut looks = looks(least.max(1));
    let mut next_look = looks.next().unwrap_or(most);
    let mut first_hash = None;
    let outcome = loop {
        let seed = first_seed.wrapping_add(series.runs);
        progress.begins(series.runs, seed);
        let ending = run(scenario, &stage, seed, Recording::Off);
        if let Some(outcome) = series.unusable(&ending) {
            break outcome;
        }
        if !ending.violations.is_empty() {
            let recorded = run(scenario, &stage, seed, Recording::On);
            break Outcome::Failed(failure(scenario, options, series.runs, &recorded));
        }
        first_hash.get_or_insert(ending.hash);
        series.add(&ending);
        progress.ran(series.runs);
        let is_last = series.runs >= most;
        if series.runs >= next_look || is_last {
            next_look = looks.next().unwrap_or(most);
            if series.is_met() {
                break Outcome::Met;
            }
            if is_last {
                break if options.runs.is_some() {
                    Outcome::Met
                } else {
                    Outcome::NotMet
                };
            }
        }
    };
    // The first run again, recorded this time: its steps must be the same.
    let again = first_hash.map(|_| run(scenario, &stage, first_seed, Recording::On).hash);
    let outcome = if again == first_hash {
        outcome
    } else {
        Outcome::TwoTraces
    };
    series.report(outcome, first_seed, progress)
}

fn run(scenario: &Scenario, stage: &Stage, seed: u64, recording: Recording) -> Ending {
    let tape = Tape::fresh(seed).recording(recording);
    Run::new(scenario, stage, Order::Timed, Lines::Off, tape).finish()
}

pub(crate) fn failure(
    scenario: &Scenario,
    options: &Options,
    run: u64,
    ending: &Ending,
) -> Failure {
    let violation = ending.violations.first();
    let tape = ending.tape.clone();
    let tape = tape.bound_to(scenario.identity, options.build);
    Failure {
        judge: violation.map_or("", |one| one.judge),
        rule: violation.map_or("", |one| one.rule),
        place: violation.map_or_else(String::new, |one| one.place.clone()),
        run,
        seed: ending.tape.seed(),
        choices: ending.tape.abnormal(),
        shrunk: None,
        tape: tape.encode(),
        nodes: ending.nodes.clone(),
        lines: Vec::new(),
    }
}

impl<'a> Series<'a> {
    fn new(scenario: &'a Scenario) -> Self {
        Self {
            scenario,
            followed: Vec::new(),
            promised: Vec::new(),
            runs: 0,
            virtual_nanos: 0,
            delivered: 0,
            acknowledged: 0,
            unsteady: 0,
            hash: Sha256::new(),
            first: None,
        }
    }

    /// Why a run says nothing, if it does not.
    fn unusable(&self, ending: &Ending) -> Option<Outcome> {
        if let Some(halted) = &ending.halted {
            return Some(Outcome::Halted(halted.to_string()));
        }
        let (acknowledged, elections) = self.scenario.informative;
        let is_poor = ending.acknowledged < acknowledged || ending.elections < elections;
        (is_poor && ending.violations.is_empty()).then_some(Outcome::Uninformative {
            acknowledged: ending.acknowledged,
            elections: ending.elections,
        })
    }

    fn add(&mut self, ending: &Ending) {
        if self.first.is_none() {
            self.follow(&ending.figures);
            self.first = Some(ending.figures.clone());
        }
        for one in &mut self.followed {
            one.values
                .extend(ending.figures.value(one.measure, &one.at, one.phase));
        }
        let is_calm = self.scenario.faults.is_empty();
        let drift = ending.figures.drift().filter(|_| is_calm);
        self.unsteady += u64::from(drift.is_some_and(|drift| drift > DRIFT));
        self.hash.update(ending.hash);
        self.runs += 1;
        self.virtual_nanos += u128::from(ending.virtual_nanos);
        self.delivered += ending.counts.delivered;
        self.acknowledged += ending.acknowledged;
    }

    /// Decides what to follow: what is promised, and what every report shows.
    fn follow(&mut self, figures: &Figures) {
        let mut ops: Vec<usize> = Vec::new();
        let mut sites: Vec<usize> = Vec::new();
        for clients in &self.scenario.clients {
            let wanted = clients.mix.0.iter().enumerate();
            ops.extend(wanted.filter(|(_, weight)| **weight > 0).map(|(op, _)| op));
            sites.extend(&clients.at);
        }
        ops.sort_unstable();
        ops.dedup();
        sites.sort_unstable();
        sites.dedup();
        let phases = figures.seen_phases();
        for &op in &ops {
            for measure in [
                Measure::Quantile(op, 500),
                Measure::Quantile(op, 990),
                Measure::Availability(op),
            ] {
                for &site in &sites {
                    for &phase in &phases {
                        // The 99th is for the eye; to wait for it would take for ever.
                        let is_awaited = !matches!(measure, Measure::Quantile(_, 990));
                        self.find_or_follow(measure, &[site], Some(phase), is_awaited);
                    }
                }
            }
            self.find_or_follow(Measure::Rate(op), &[], None, true);
        }
        if !self.scenario.faults.is_empty() {
            self.find_or_follow(Measure::Leaderless, &[], None, false);
            self.find_or_follow(Measure::Heal, &[], None, false);
        }
        for promise in &self.scenario.promises {
            let Promise::Figure {
                measure, at, phase, ..
            } = promise
            else {
                self.promised.push(None);
                continue;
            };
            let named = phase.as_ref();
            let phase = named.and_then(|name| figures.phases.iter().position(|one| one == name));
            let found = self.find_or_follow(*measure, at, phase, true);
            self.promised.push(Some(found));
        }
    }

    fn find_or_follow(
        &mut self,
        measure: Measure,
        at: &[usize],
        phase: Option<usize>,
        is_awaited: bool,
    ) -> usize {
        let known = self
            .followed
            .iter()
            .position(|one| one.measure == measure && one.at == at && one.phase == phase);
        if let Some(known) = known {
            self.followed[known].is_awaited |= is_awaited;
            return known;
        }
        self.followed.push(Followed {
            measure,
            at: at.to_vec(),
            phase,
            is_awaited,
            values: Vec::new(),
        });
        self.followed.len() - 1
    }

    fn interval(&self, at: usize) -> Option<Interval> {
        Interval::of(&self.followed[at].values, self.scenario.confidence)
    }

    /// Whether everything is known as well as it was asked for.
    fn is_met(&self) -> bool {
        let within = self.scenario.within;
        let is_narrow = |(at, one): (usize, &Followed)| {
            if !one.is_awaited || self.is_rare(one) {
                return true;
            }
            let Some(interval) = self.interval(at) else {
                return one.values.is_empty();
            };
            match one.measure {
                // A share of nothing has no relative width.
                Measure::Availability(_) => interval.half <= within,
                Measure::Quantile(..)
                | Measure::Mean(_)
                | Measure::Rate(_)
                | Measure::Heal
                | Measure::Leaderless => interval.relative() <= within,
            }
        };
        self.followed.iter().enumerate().all(is_narrow)
            && self
                .verdicts()
                .iter()
                .all(|(_, verdict)| *verdict != Verdict::Undecided)
    }

    /// Whether a latency is of so few answers that it says little.
    fn is_rare(&self, one: &Followed) -> bool {
        let (Measure::Quantile(op, _) | Measure::Mean(op)) = one.measure else {
            return false;
        };
        let measure = Measure::Availability(op);
        let share = self.followed.iter().find(|other| {
            other.measure == measure && other.at == one.at && other.phase == one.phase
        });
        share.is_some_and(|share| {
            let count = u32::try_from(share.values.len()).unwrap_or(u32::MAX);
            share.values.iter().sum::<f64>() < RARE * f64::from(count)
        })
    }

    fn verdicts(&self) -> Vec<(usize, Verdict)> {
        let promises = self.scenario.promises.iter().zip(&self.promised);
        let verdicts = promises.filter_map(|(promise, at)| {
            let (Promise::Figure { bound, .. }, Some(at)) = (promise, at) else {
                return None;
            };
            let interval = self.interval(*at);
            let verdict = interval.map_or(Verdict::Undecided, |one| bound.judge(&one));
            Some((*at, verdict))
        });
        verdicts.collect()
    }

    fn report(self, outcome: Outcome, first_seed: u64, progress: &mut dyn Progress) -> Report {
        let sites: Vec<String> = self
            .scenario
            .sites
            .iter()
            .map(|one| one.name.clone())
            .collect();
        let phases = self.first.as_ref().map(|first| first.phases.clone());
        let phases = phases.unwrap_or_default();
        let rows = self.rows(&sites, &phases);
        let verdicts = self.verdicts();
        let mut promises = Vec::new();
        for promise in &self.scenario.promises {
            if let Promise::Check(checks) = promise {
                let line = |check: &Check| PromiseLine::of_check(*check, &outcome);
                promises.extend(checks.iter().map(line));
            }
        }
        let figures = self
            .scenario
            .promises
            .iter()
            .filter_map(|promise| match promise {
                Promise::Figure { bound, .. } => Some(*bound),
                Promise::Check(_) => None,
            });
        for ((at, verdict), bound) in verdicts.into_iter().zip(figures) {
            let one = &self.followed[at];
            promises.push(PromiseLine {
                text: describe(one, &sites, &phases),
                interval: self.interval(at),
                bound: Some(bound),
                unit: Some(one.measure.unit()),
                verdict,
            });
        }
        let mut report = Report::new(self.scenario, outcome, first_seed);
        report.runs = self.runs;
        report.virtual_nanos = self.virtual_nanos;
        report.elapsed = progress.elapsed();
        report.delivered = self.delivered;
        report.acknowledged = self.acknowledged;
        report.unsteady = self.unsteady;
        report.hash = self.hash.finalize().into();
        report.phases =
            self.first
                .as_ref()
                .map(Figures::seen_phases)
                .map_or_else(Vec::new, |seen| {
                    seen.into_iter()
                        .map(|phase| phases[phase].clone())
                        .collect()
                });
        report.rows = rows;
        report.promises = promises;
        report.first = self.first;
        report
    }

    /// The table of the report: a row for each figure and site, a column for each phase.
    fn rows(&self, sites: &[String], phases: &[String]) -> Vec<Row> {
        let mut rows: Vec<Row> = Vec::new();
        for (at, one) in self.followed.iter().enumerate() {
            let site = one.at.iter().map(|&site| sites[site].as_str());
            let site = site.collect::<Vec<_>>().join(", ");
            let name = one.measure.name();
            let phase = one.phase.map_or("", |phase| phases[phase].as_str());
            let cell = (phase.to_owned(), self.interval(at), self.is_rare(one));
            let known = rows
                .iter_mut()
                .find(|row| row.name == name && row.site == site);
            match known {
                Some(row) => row.cells.push(cell),
                None => rows.push(Row {
                    name,
                    site,
                    unit: one.measure.unit(),
                    cells: vec![cell],
                }),
            }
        }
        rows
    }
}

fn describe(one: &Followed, sites: &[String], phases: &[String]) -> String {
    let mut text = one.measure.name();
    if !one.at.is_empty() {
        let names: Vec<&str> = one.at.iter().map(|&site| sites[site].as_str()).collect();
        text.push_str(&format!(" at {}", names.join(" and ")));
    }
    if let Some(phase) = one.phase {
        text.push_str(&format!(" in {}", phases[phase]));
    }
    text
}
