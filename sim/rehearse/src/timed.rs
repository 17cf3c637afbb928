//! Timed rehearsals: independent runs until every interval is narrow enough.

use std::collections::VecDeque;
use std::num::NonZeroUsize;

use holm_virtual::{Order, Recording, Report as Lines, Tape};
use sha2::{Digest, Sha256};

use crate::hunt::crew::in_order;
use crate::options::{Options, Progress};
use crate::report::{Charged, Failure, Outcome, PromiseLine, Ratios, Report, Row};
use crate::run::{Ending, Figures, Used, play};
use crate::scenario::{Check, Measure, Promise, Scenario};
use crate::stage::Stage;
use crate::statistics::{Interval, Ratio, Verdict, looks};
use crate::stream::UNANSWERED_MAX;

/// Of so small a share answered, latencies are shown and not waited for.
const RARE: f64 = 0.5;
/// A run whose second half differs so much from its first is not steady.
const DRIFT: f64 = 0.1;

/// One figure that is followed through all runs.
#[derive(Clone, Debug)]
pub(crate) struct Followed {
    /// Of which keyspace.
    part: usize,
    pub(crate) measure: Measure,
    pub(crate) at: Vec<usize>,
    pub(crate) phase: Option<usize>,
    /// Runs go on until its interval is narrow enough.
    is_awaited: bool,
    values: Vec<f64>,
    /// The same, with the runs that lack it.
    by_run: Vec<Option<f64>>,
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
    /// What each run used; nothing where work is free.
    used: Vec<Used>,
    /// For each stream the rows that its sender could not send.
    behind: Vec<u64>,
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
    let mut other = options.against.as_deref().map(Other::new);
    let mut looks = looks(least.max(1));
    let mut next_look = looks.next().unwrap_or(most);
    let mut first_hash = None;
    let mut ahead = Ahead::new(options.jobs.unwrap_or(NonZeroUsize::MIN));
    let outcome = loop {
        let seed = first_seed.wrapping_add(series.runs);
        progress.begins(series.runs, seed);
        let left = most - series.runs.min(most);
        let make = |seed| run(scenario, &stage, seed, Recording::Off);
        let ending = ahead.next((seed, left), make);
        if let Some(outcome) = series.unusable(&ending) {
            break outcome;
        }
        if !ending.violations.is_empty() {
            let recorded = run(scenario, &stage, seed, Recording::On);
            break Outcome::Failed(failure(scenario, options, series.runs, &recorded));
        }
        if let Some(outcome) = other.as_mut().and_then(|other| other.run(seed, options)) {
            break outcome;
        }
        first_hash.get_or_insert(ending.hash);
        series.add(&ending);
        progress.ran(series.runs);
        let is_last = series.runs >= most;
        if series.runs >= next_look || is_last {
            next_look = looks.next().unwrap_or(most);
            let is_told_apart = other.as_ref().is_none_or(|other| other.is_met(&series));
            if is_told_apart && (other.is_some() || series.is_met()) {
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
    let ratios = other.map(|other| other.ratios(&series));
    let mut report = series.report(outcome, first_seed, progress);
    report.ratios = ratios;
    report
}

/// Runs that were made before it was their turn: as many at a time as there are threads. What
/// comes of them is taken in the order of their seeds, so that nobody can tell how many that is.
struct Ahead {
    jobs: NonZeroUsize,
    made: VecDeque<Ending>,
}

impl Ahead {
    const fn new(jobs: NonZeroUsize) -> Self {
        Self {
            jobs,
            made: VecDeque::new(),
        }
    }

    /// The run of that seed, when so many are left at most. Each call asks for the next seed.
    fn next(&mut self, (seed, left): (u64, u64), make: impl Fn(u64) -> Ending + Sync) -> Ending {
        if self.made.is_empty() {
            let count = u64::try_from(self.jobs.get()).unwrap_or(u64::MAX);
            let work = |number| make(seed.wrapping_add(number));
            in_order(self.jobs, count.min(left).max(1), work, |ending| {
                self.made.push_back(ending);
                true
            });
        }
        self.made.pop_front().expect("at least one was made")
    }
}

/// The scenario that is compared with, run by run.
struct Other<'a> {
    stage: Stage,
    series: Series<'a>,
}

impl<'a> Other<'a> {
    fn new(scenario: &'a Scenario) -> Self {
        Self {
            stage: Stage::new(scenario),
            series: Series::new(scenario),
        }
    }

    /// Makes the run of the same seed; what ends the comparison, if something does.
    fn run(&mut self, seed: u64, options: &Options) -> Option<Outcome> {
        let scenario = self.series.scenario;
        let ending = run(scenario, &self.stage, seed, Recording::Off);
        if let Some(outcome) = self.series.unusable(&ending) {
            return Some(outcome);
        }
        if !ending.violations.is_empty() {
            let recorded = run(scenario, &self.stage, seed, Recording::On);
            let mut failure = failure(scenario, options, self.series.runs, &recorded);
            failure.place = format!("in {}: {}", scenario.file, failure.place);
            return Some(Outcome::Failed(failure));
        }
        self.series.add(&ending);
        None
    }

    /// Whether each awaited figure of both is known as a ratio as well as was asked for.
    fn is_met(&self, own: &Series<'_>) -> bool {
        let within = own.scenario.within;
        let verdicts = own.verdicts();
        let decided = verdicts
            .iter()
            .all(|(_, verdict)| *verdict != Verdict::Undecided);
        let mut awaited = own
            .followed
            .iter()
            .filter(|one| one.is_awaited && !own.is_rare(one));
        let is_narrow = |one: &Followed| {
            self.ratio(own, one)
                .is_none_or(|it| it.relative() <= within)
        };
        decided && awaited.all(is_narrow)
    }

    /// The same figure, at sites and in a phase of the same names.
    fn ratio(&self, own: &Series<'_>, one: &Followed) -> Option<Ratio> {
        let names = |series: &Series<'_>, it: &Followed| {
            let sites = it
                .at
                .iter()
                .map(|&site| series.scenario.sites[site].name.clone());
            let first = series.first.as_ref();
            let phase = first.and_then(|first| it.phase.map(|phase| first.phases[phase].clone()));
            (
                series.called(it),
                it.measure,
                sites.collect::<Vec<_>>(),
                phase,
            )
        };
        let wanted = names(own, one);
        let mut all = self.series.followed.iter();
        let other = all.find(|other| names(&self.series, other) == wanted)?;
        let pairs = one.by_run.iter().copied().zip(other.by_run.iter().copied());
        Ratio::of(&pairs.collect::<Vec<_>>(), own.scenario.confidence)
    }

    fn ratios(&self, own: &Series<'_>) -> Ratios {
        let sites: Vec<String> = own
            .scenario
            .sites
            .iter()
            .map(|one| one.name.clone())
            .collect();
        let phases = own
            .first
            .as_ref()
            .map_or_else(Vec::new, |first| first.phases.clone());
        let line = |one: &Followed| {
            let ratio = self.ratio(own, one)?;
            Some((own.called(one) + &describe(one, &sites, &phases), ratio))
        };
        Ratios {
            against: self.series.scenario.file.clone(),
            lines: own.followed.iter().filter_map(line).collect(),
        }
    }
}

fn run(scenario: &Scenario, stage: &Stage, seed: u64, recording: Recording) -> Ending {
    let tape = Tape::fresh(seed).recording(recording);
    play(scenario, stage, (Order::Timed, Lines::Off), tape, false)
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
            used: Vec::new(),
            behind: vec![0; scenario.streams.len()],
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
            for (part, figures) in ending.all_figures().enumerate() {
                self.follow(part, figures);
            }
            self.first = Some(ending.figures.clone());
        }
        for one in &mut self.followed {
            let figures = ending.all_figures().nth(one.part);
            let value = figures.and_then(|it| it.value(one.measure, &one.at, one.phase));
            one.values.extend(value);
            one.by_run.push(value);
        }
        let is_calm = self.scenario.faults.is_empty();
        let drift = ending.figures.drift().filter(|_| is_calm);
        self.unsteady += u64::from(drift.is_some_and(|drift| drift > DRIFT));
        self.used.extend(ending.used.clone());
        self.hash.update(ending.hash);
        self.runs += 1;
        self.virtual_nanos += u128::from(ending.virtual_nanos);
        self.delivered += ending.counts.delivered;
        self.acknowledged += ending.acknowledged;
        for (all, behind) in self.behind.iter_mut().zip(&ending.figures.streams.behind) {
            *all += behind;
        }
    }

    /// Decides what to follow: what is promised, and what every report shows.
    fn follow(&mut self, part: usize, figures: &Figures) {
        let Some(scenario) = self.scenario.parts().nth(part) else {
            return;
        };
        let mut ops: Vec<usize> = Vec::new();
        let mut sites: Vec<usize> = Vec::new();
        for clients in &scenario.clients {
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
                        let one = (part, measure, Some(phase));
                        self.find_or_follow(one, &[site], is_awaited);
                    }
                }
            }
            self.find_or_follow((part, Measure::Rate(op), None), &[], true);
        }
        if scenario.has_streams() {
            self.follow_streams(scenario, &phases);
        } else if !scenario.faults.is_empty() && scenario.islands().is_none() {
            self.find_or_follow((part, Measure::Leaderless, None), &[], false);
            self.find_or_follow((part, Measure::Heal, None), &[], false);
        }
        for promise in &scenario.promises {
            let Promise::Figure {
                measure, at, phase, ..
            } = promise
            else {
                self.promised.push(None);
                continue;
            };
            let named = phase.as_ref();
            let phase = named.and_then(|name| figures.phases.iter().position(|one| one == name));
            let found = self.find_or_follow((part, *measure, phase), at, true);
            self.promised.push(Some(found));
        }
    }

    /// What every report of streams shows.
    fn follow_streams(&mut self, scenario: &Scenario, phases: &[usize]) {
        let parts = [(500, true), (990, false)];
        for of in [Measure::Latency, Measure::Lag] {
            for (part, is_awaited) in parts {
                for stream in &scenario.streams {
                    for &phase in phases {
                        let one = (0, of(Some(part)), Some(phase));
                        self.find_or_follow(one, &[stream.site], is_awaited);
                    }
                }
            }
        }
        self.find_or_follow((0, Measure::Late, None), &[], true);
        self.find_or_follow((0, Measure::Completeness, None), &[], true);
        if !scenario.faults.is_empty() {
            self.find_or_follow((0, Measure::Recovery, None), &[], false);
        }
    }

    fn find_or_follow(
        &mut self,
        (part, measure, phase): (usize, Measure, Option<usize>),
        at: &[usize],
        is_awaited: bool,
    ) -> usize {
        let known = self.followed.iter().position(|one| {
            (one.part, one.measure, one.phase) == (part, measure, phase) && one.at == at
        });
        if let Some(known) = known {
            self.followed[known].is_awaited |= is_awaited;
            return known;
        }
        self.followed.push(Followed {
            part,
            measure,
            at: at.to_vec(),
            phase,
            is_awaited,
            values: Vec::new(),
            by_run: Vec::new(),
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
                Measure::Availability(_) | Measure::Late | Measure::Completeness => {
                    interval.half <= within
                }
                Measure::Quantile(..)
                | Measure::Mean(_)
                | Measure::Rate(_)
                | Measure::Heal
                | Measure::Leaderless
                | Measure::Latency(_)
                | Measure::Lag(_)
                | Measure::Recovery => interval.relative() <= within,
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
            (other.part, other.measure, other.phase) == (one.part, measure, one.phase)
                && other.at == one.at
        });
        share.is_some_and(|share| {
            let count = u32::try_from(share.values.len()).unwrap_or(u32::MAX);
            share.values.iter().sum::<f64>() < RARE * f64::from(count)
        })
    }

    fn verdicts(&self) -> Vec<(usize, Verdict)> {
        let promises = self.scenario.parts().flat_map(|part| &part.promises);
        let promises = promises.zip(&self.promised);
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
        for part in self.scenario.parts() {
            for promise in &part.promises {
                if let Promise::Check(checks) = promise {
                    let line = |check: &Check| PromiseLine::of_check(part, *check, &outcome);
                    promises.extend(checks.iter().map(line));
                }
            }
        }
        let all = self.scenario.parts().flat_map(|part| &part.promises);
        let figures = all.filter_map(|promise| match promise {
            Promise::Figure { bound, .. } => Some(*bound),
            Promise::Check(_) => None,
        });
        for ((at, verdict), bound) in verdicts.into_iter().zip(figures) {
            let one = &self.followed[at];
            promises.push(PromiseLine {
                text: self.called(one) + &describe(one, &sites, &phases),
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
        report.charged = Charged::new(self.scenario, &self.used);
        report.rows = rows;
        report.promises = promises;
        report.remarks = behind(self.scenario, &self.behind);
        report.first = self.first;
        report
    }

    /// The keyspace of a figure, if there are several.
    fn called(&self, one: &Followed) -> String {
        let part = self.scenario.parts().nth(one.part);
        part.map_or_else(String::new, Scenario::prefix)
    }

    /// The table of the report: a row for each figure and site, a column for each phase.
    fn rows(&self, sites: &[String], phases: &[String]) -> Vec<Row> {
        let mut rows: Vec<Row> = Vec::new();
        for (at, one) in self.followed.iter().enumerate() {
            let site = one.at.iter().map(|&site| sites[site].as_str());
            let site = site.collect::<Vec<_>>().join(", ");
            let name = self.called(one) + &one.measure.name();
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

/// What is said of streams whose senders could not send all.
fn behind(scenario: &Scenario, rows: &[u64]) -> Vec<String> {
    let late = scenario
        .streams
        .iter()
        .zip(rows)
        .filter(|(_, rows)| **rows > 0);
    let words = late.map(|(stream, rows)| {
        format!(
            "{}: at the end of runs {rows} rows were due and not sent, for {UNANSWERED_MAX} requests waited for answers",
            stream.name
        )
    });
    words.collect()
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
