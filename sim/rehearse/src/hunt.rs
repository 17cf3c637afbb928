//! Hunts: runs in odd orders under faults, until one breaks a promise; then a smaller one.

pub(crate) mod crew;
mod search;

use std::num::NonZeroUsize;
use std::time::Duration;

use holm_virtual::{Fill, Order, Races, Report as Lines, Scheduler, Tape, TapeError, shrink};
use sha2::{Digest, Sha256};

use self::crew::in_order;
use self::search::{Mutant, Search, Showing};
use crate::options::{Feedback, Options, Progress};
use crate::report::{Failure, Outcome, PromiseLine, Report};
use crate::run::{Ending, play};
use crate::scenario::{Check, Length, Promise, Purpose, Scenario, SchedulerKind};
use crate::stage::Stage;
use crate::timed::failure;

/// How long a hunt is, if nobody says.
const EXPLORE: Duration = Duration::from_secs(300);
/// How many runs a failure is shrunk in at most, and for how long.
const SHRINK_RUNS: u32 = 20_000;
const SHRINK_TIME: Duration = Duration::from_secs(60);

/// How many runs are planned at once: all of them know what those before the first of them
/// learned, and nothing else, on however many threads they run.
const ROUND: u64 = 32;

pub(crate) fn explore(
    scenario: &Scenario,
    options: &Options,
    progress: &mut dyn Progress,
) -> Report {
    let stage = Stage::new(scenario);
    let mut hunt = Hunt::new(scenario, options, &stage);
    while hunt.is_wanted(progress) {
        hunt.round(progress);
    }
    let failed = hunt.failed.take();
    let mut report = hunt.end();
    if let Some((run, ending)) = failed {
        let mut found = failure(scenario, options, run, &ending);
        let room = options.shrink.unwrap_or(SHRINK_TIME);
        make_smaller(scenario, &stage, &ending, &mut found, (room, progress));
        let tape = Tape::decode(&found.tape).ok();
        found.tape = tape.map_or(found.tape, |tape| {
            tape.bound_to(scenario.identity, options.build).encode()
        });
        report.outcome = Outcome::Failed(found);
    }
    report.elapsed = progress.elapsed();
    conclude(scenario, &mut report);
    report
}

/// A hunt under way.
struct Hunt<'a> {
    scenario: &'a Scenario,
    options: &'a Options,
    stage: &'a Stage,
    races: Races,
    search: Search,
    report: Report,
    hash: Sha256,
    /// The first run in which a judge found something, and its number.
    failed: Option<(u64, Ending)>,
    is_over: bool,
}

/// A run that is to be made.
struct Plan {
    tape: Tape,
    order: Order,
    /// Which of the scenario's schedulers it has.
    scheduler: usize,
    /// The signal whose parent it has, if it is like an earlier one.
    signal: Option<usize>,
}

impl<'a> Hunt<'a> {
    fn new(scenario: &'a Scenario, options: &'a Options, stage: &'a Stage) -> Self {
        let first_seed = options.seed.unwrap_or(1);
        Self {
            scenario,
            options,
            stage,
            races: Races::default(),
            search: Search::new(first_seed),
            report: Report::new(scenario, Outcome::Met, first_seed),
            hash: Sha256::new(),
            failed: None,
            is_over: false,
        }
    }

    fn is_wanted(&self, progress: &mut dyn Progress) -> bool {
        let budget = self.options.explore.unwrap_or(EXPLORE);
        !self.is_over
            && match self.options.runs {
                Some(runs) => self.report.runs < runs,
                None => progress.elapsed() < budget,
            }
    }

    /// Makes the next runs. What they taught counts from the next round on.
    fn round(&mut self, progress: &mut dyn Progress) {
        let begin = self.report.runs;
        let left = self.options.runs.map_or(ROUND, |runs| runs - begin);
        let plans: Vec<Plan> = (begin..)
            .take(index(left.min(ROUND)))
            .map(|run| self.plan(run))
            .collect();
        let (scenario, stage) = (self.scenario, self.stage);
        let is_observed = self.options.feedback != Feedback::Off;
        let work = |number| {
            let plan: &Plan = &plans[index(number)];
            plan.play(scenario, stage, is_observed)
        };
        let mut learned = Races::default();
        let jobs = self.options.jobs.unwrap_or(NonZeroUsize::MIN);
        in_order(jobs, left.min(ROUND), work, |ending| {
            let plan = &plans[index(self.report.runs - begin)];
            if let Some(races) = &ending.races {
                learned.merge(races);
            }
            self.add(plan, ending);
            progress.ran(self.report.runs);
            self.is_wanted(progress)
        });
        self.races.merge(&learned);
    }

    fn plan(&mut self, run: u64) -> Plan {
        let mutant = match self.options.feedback {
            Feedback::On => self.search.mutant(run),
            Feedback::Off | Feedback::Counted => None,
        };
        let (tape, scheduler, signal) = match mutant {
            Some(Mutant {
                tape,
                scheduler,
                signal,
            }) => (tape, scheduler, Some(signal)),
            None => {
                let count = u64::try_from(self.scenario.schedulers.len());
                let count = count.expect("schedulers are few");
                let seed = self.report.first_seed.wrapping_add(run);
                (Tape::fresh(seed), index(run % count), None)
            }
        };
        Plan {
            tape,
            order: order(self.scenario, scheduler, &self.races),
            scheduler,
            signal,
        }
    }

    fn add(&mut self, plan: &Plan, ending: Ending) {
        self.hash.update(ending.hash);
        if self.report.runs == 0 {
            let is_observed = self.options.feedback == Feedback::Off;
            let again = plan.play(self.scenario, self.stage, is_observed);
            if again.hash != ending.hash {
                return self.end_with(Outcome::TwoTraces);
            }
        }
        if let Some(halted) = &ending.halted {
            return self.end_with(Outcome::Halted(halted.to_string()));
        }
        let (acknowledged, elections) = self.scenario.informative;
        let is_poor = ending.acknowledged < acknowledged || ending.elections < elections;
        self.report.poor += u64::from(is_poor);
        count(&mut self.report, &ending);
        self.report.coverage.add(&ending.reached);
        if self.options.feedback != Feedback::Off {
            let showing = showing(&ending);
            let made = (&ending.tape.cut(), plan.scheduler);
            self.search.learn(&showing, made, ending.steps, plan.signal);
        }
        if !ending.violations.is_empty() {
            self.is_over = true;
            self.failed = Some((self.report.runs - 1, ending));
        }
    }

    fn end_with(&mut self, outcome: Outcome) {
        self.report.outcome = outcome;
        self.is_over = true;
    }

    fn end(self) -> Report {
        let mut report = self.report;
        // Some runs of a hunt die young; that most do means that nothing was hunted.
        if report.poor * 2 > report.runs && matches!(report.outcome, Outcome::Met) {
            report.outcome = Outcome::Uninformative {
                acknowledged: report.acknowledged / report.runs.max(1),
                elections: report.elections / report.runs.max(1),
            };
        }
        report.hash = self.hash.finalize().into();
        if self.options.feedback != Feedback::Off {
            let (marks, timelines) = self.search.coverage();
            report.coverage.seen = Some((marks, timelines));
        }
        report
    }
}

impl Plan {
    fn play(&self, scenario: &Scenario, stage: &Stage, is_observed: bool) -> Ending {
        let how = (self.order.clone(), Lines::Off);
        play(scenario, stage, how, self.tape.clone(), is_observed)
    }
}

/// What a run showed, signal by signal.
fn showing(ending: &Ending) -> Showing {
    [
        ending.orders.clone(),
        ending.shapes.clone(),
        ending.reached.marks(),
    ]
}

fn index(number: u64) -> usize {
    usize::try_from(number).expect("rounds are short")
}

/// Replays one tape.
pub(crate) fn replay(
    scenario: &Scenario,
    options: &Options,
    bytes: &[u8],
    progress: &mut dyn Progress,
) -> Result<Report, TapeError> {
    let tape = Tape::decode(bytes)?;
    let stage = Stage::new(scenario);
    let mut report = Report::new(scenario, Outcome::Met, tape.seed());
    let (made_for, made_by) = tape.made_with();
    if *made_for != scenario.identity {
        report
            .remarks
            .push("the tape was made with another scenario text".to_owned());
    }
    if *made_by != options.build {
        report
            .remarks
            .push("the tape was made by another build".to_owned());
    }
    let lines = if options.steps { Lines::On } else { Lines::Off };
    // What a scheduler chose is on the tape; which one it was no longer matters.
    let order = match scenario.purpose {
        Purpose::Timed => Order::Timed,
        Purpose::Hunt => hunting(scenario, Scheduler::Random),
    };
    let ending = run(scenario, &stage, &order, lines, tape);
    count(&mut report, &ending);
    report.coverage.add(&ending.reached);
    report.hash = ending.hash;
    report.outcome = match (&ending.halted, ending.violations.is_empty()) {
        (Some(halted), _) => Outcome::Halted(halted.to_string()),
        (None, true) => Outcome::Met,
        (None, false) => {
            let mut found = failure(scenario, options, 0, &ending);
            found.tape = bytes.to_vec();
            Outcome::Failed(found)
        }
    };
    report.lines = ending.report;
    report.elapsed = progress.elapsed();
    conclude(scenario, &mut report);
    Ok(report)
}

fn conclude(scenario: &Scenario, report: &mut Report) {
    for part in scenario.parts() {
        for promise in &part.promises {
            if let Promise::Check(checks) = promise {
                let line = |check: &Check| PromiseLine::of_check(part, *check, &report.outcome);
                report.promises.extend(checks.iter().map(line));
            }
        }
    }
}

fn count(report: &mut Report, ending: &Ending) {
    report.runs += 1;
    report.virtual_nanos += u128::from(ending.virtual_nanos);
    report.delivered += ending.counts.delivered;
    report.acknowledged += ending.acknowledged;
    report.elections += ending.elections;
    report.struck += ending.struck;
}

fn order(scenario: &Scenario, scheduler: usize, races: &Races) -> Order {
    let length = match scenario.length {
        Length::Choices(choices) => choices / 3,
        Length::Time(_) => 10_000,
    };
    let scheduler = match scenario.schedulers[scheduler] {
        SchedulerKind::Random => Scheduler::Random,
        SchedulerKind::Pct(depth) => Scheduler::Pct { depth, length },
        SchedulerKind::Pos => Scheduler::Pos,
        SchedulerKind::PosPlus => Scheduler::PosPlus {
            races: races.clone(),
        },
    };
    hunting(scenario, scheduler)
}

const fn hunting(scenario: &Scenario, scheduler: Scheduler) -> Order {
    Order::Hunt {
        scheduler,
        reach_nanos: scenario.keyspace.election_timeout / 2,
    }
}

fn run(scenario: &Scenario, stage: &Stage, order: &Order, lines: Lines, tape: Tape) -> Ending {
    play(scenario, stage, (order.clone(), lines), tape, false)
}

/// Finds a smaller tape that breaks the same rule.
fn make_smaller(
    scenario: &Scenario,
    stage: &Stage,
    ending: &Ending,
    found: &mut Failure,
    (room, progress): (Duration, &mut dyn Progress),
) {
    if room.is_zero() {
        return;
    }
    let wanted = ending.failure();
    // What the scheduler chose is on the tape; this one is cheap, and is not asked.
    let order = &hunting(scenario, Scheduler::Random);
    let begun = progress.elapsed();
    let mut runs = 0;
    let fails = |tape: &Tape| {
        runs += 1;
        progress.shrinks(runs);
        let is_late = progress.elapsed() >= begun + room;
        !is_late && run(scenario, stage, order, Lines::Off, tape.clone()).failure() == wanted
    };
    let Some(shrunk) = shrink(&ending.tape, SHRINK_RUNS, fails) else {
        return;
    };
    let tape = shrunk.tape.rewound(Fill::Normal);
    let again = run(scenario, stage, order, Lines::On, tape.clone());
    if again.failure() != wanted {
        return;
    }
    found.place = again
        .violations
        .first()
        .map_or_else(String::new, |one| one.place.clone());
    found.shrunk = Some((
        shrunk.tape.abnormal(),
        progress.elapsed().saturating_sub(begun),
    ));
    found.nodes = again.nodes;
    found.lines = again.report;
    found.tape = tape.encode();
}
