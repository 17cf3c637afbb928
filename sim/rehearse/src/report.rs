//! What came of a rehearsal, as text, as JSON and as a page.

mod charged;
mod coverage;
mod html;
mod json;
mod text;

use std::time::Duration;

use crate::run::Figures;
use crate::scenario::{Bound, Check, Purpose, Scenario, Unit};
use crate::statistics::{Interval, Ratio, Verdict};
pub(crate) use charged::Charged;
pub(crate) use coverage::Coverage;

/// How a rehearsal ended.
#[derive(Clone, Debug)]
pub(crate) enum Outcome {
    /// Everything was tried that was to be tried, and every interval is as narrow as asked.
    Met,
    /// The number of runs ended first.
    NotMet,
    /// A judge found something.
    Failed(Failure),
    /// Too little happened for anything to be said.
    Uninformative { acknowledged: u64, elections: u64 },
    /// A run could not go on.
    Halted(String),
    /// One seed gave two traces.
    TwoTraces,
}

/// A broken promise, and how to see it again.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Who found it.
    pub judge: &'static str,
    /// What is demanded.
    pub rule: &'static str,
    /// Where it was not so.
    pub place: String,
    /// In which run, counted from 0.
    pub run: u64,
    /// The seed of that run.
    pub seed: u64,
    /// How many choices were not the normal ones.
    pub choices: usize,
    /// How many are left, and how long that took.
    pub shrunk: Option<(usize, Duration)>,
    /// The tape to replay.
    pub tape: Vec<u8>,
    /// How each node stood at the end.
    pub(crate) nodes: Vec<String>,
    /// The steps of the smallest run, in words.
    pub(crate) lines: Vec<String>,
}

/// What stands below figures in parentheses.
pub(crate) const RARE: &str =
    "in parentheses: under half was answered, and the figure is of what was";

/// A line of the table.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) site: String,
    pub(crate) unit: Unit,
    /// By phase; the last says whether so little was answered that it means little.
    pub(crate) cells: Vec<(String, Option<Interval>, bool)>,
}

/// Figures over those of another scenario with the same seeds.
#[derive(Clone, Debug)]
pub(crate) struct Ratios {
    pub(crate) against: String,
    pub(crate) lines: Vec<(String, Ratio)>,
}

impl Ratios {
    /// `put.p50 at a: 1.31x (1.29 to 1.33)`.
    pub(crate) fn words(&self) -> Vec<String> {
        let line = |(what, ratio): &(String, Ratio)| {
            let Ratio {
                mean, low, high, ..
            } = ratio;
            let apart = if ratio.differs() {
                ""
            } else {
                ", no difference seen"
            };
            format!("{what}: {mean:.3}x ({low:.3} to {high:.3}){apart}")
        };
        self.lines.iter().map(line).collect()
    }
}

/// What became of a promise.
#[derive(Clone, Debug)]
pub(crate) struct PromiseLine {
    pub(crate) text: String,
    pub(crate) interval: Option<Interval>,
    pub(crate) bound: Option<Bound>,
    pub(crate) unit: Option<Unit>,
    pub(crate) verdict: Verdict,
}

impl PromiseLine {
    /// What became of a judge's promise: where a run broke one, or could not go on, the others are open.
    pub(crate) fn of_check(scenario: &Scenario, check: Check, outcome: &Outcome) -> Self {
        Self {
            text: match check.words() {
                Some(words) => format!("{}{}: {words}", scenario.prefix(), check.name()),
                None => format!("{}{}", scenario.prefix(), check.name()),
            },
            interval: None,
            bound: None,
            unit: None,
            verdict: match outcome {
                Outcome::Met | Outcome::NotMet => Verdict::Kept,
                // Of several keyspaces it is not known here whose it was.
                Outcome::Failed(failure)
                    if scenario.prefix().is_empty() && failure.judge == check.name() =>
                {
                    Verdict::Broken
                }
                Outcome::Failed(_)
                | Outcome::Uninformative { .. }
                | Outcome::Halted(_)
                | Outcome::TwoTraces => Verdict::Undecided,
            },
        }
    }
}

/// The words that name a scenario on a command line.
fn asked(scenario: &Scenario) -> String {
    let sets = scenario.sets.iter();
    let sets = sets.map(|(field, value)| format!(" --set {}", quoted(&format!("{field}={value}"))));
    quoted(&scenario.file) + &sets.collect::<String>()
}

/// A word that a shell leaves as it is.
fn quoted(word: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-=/,:+%".contains(&byte);
    if word.bytes().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

/// What came of a rehearsal.
#[derive(Clone, Debug)]
pub struct Report {
    pub(crate) name: String,
    pub(crate) why: String,
    /// The scenario's file and what was set beside it, as a shell takes them.
    pub(crate) asked: String,
    pub(crate) scenario: String,
    pub(crate) purpose: Purpose,
    /// It is of streams.
    pub(crate) has_streams: bool,
    pub(crate) within: f64,
    pub(crate) confidence: f64,
    pub(crate) first_seed: u64,
    pub(crate) outcome: Outcome,
    pub(crate) runs: u64,
    /// Runs in which less happened than the scenario asks for.
    pub(crate) poor: u64,
    pub(crate) unsteady: u64,
    pub(crate) virtual_nanos: u128,
    pub(crate) elapsed: Duration,
    pub(crate) delivered: u64,
    pub(crate) acknowledged: u64,
    pub(crate) elections: u64,
    pub(crate) struck: u64,
    pub(crate) coverage: Coverage,
    pub(crate) hash: [u8; 32],
    pub(crate) phases: Vec<String>,
    pub(crate) sites: Vec<String>,
    pub(crate) rows: Vec<Row>,
    pub(crate) promises: Vec<PromiseLine>,
    pub(crate) remarks: Vec<String>,
    /// The first run's figures, for series over time.
    pub(crate) first: Option<Figures>,
    /// What work cost; nothing where it is free.
    pub(crate) charged: Option<Charged>,
    /// Figures over those of another scenario.
    pub(crate) ratios: Option<Ratios>,
    /// The steps of a replay, if they were asked for.
    pub(crate) lines: Vec<String>,
}

impl Report {
    pub(crate) fn new(scenario: &Scenario, outcome: Outcome, first_seed: u64) -> Self {
        Self {
            name: scenario.name.clone(),
            why: scenario.why.clone(),
            asked: asked(scenario),
            scenario: scenario.text.clone(),
            purpose: scenario.purpose,
            has_streams: scenario.has_streams(),
            within: scenario.within,
            confidence: scenario.confidence,
            first_seed,
            outcome,
            runs: 0,
            poor: 0,
            unsteady: 0,
            virtual_nanos: 0,
            elapsed: Duration::ZERO,
            delivered: 0,
            acknowledged: 0,
            elections: 0,
            struck: 0,
            coverage: Coverage::new(scenario),
            hash: [0; 32],
            phases: Vec::new(),
            sites: scenario
                .sites
                .iter()
                .map(|site| site.name.clone())
                .collect(),
            rows: Vec::new(),
            promises: Vec::new(),
            remarks: Vec::new(),
            first: None,
            charged: None,
            ratios: None,
            lines: Vec::new(),
        }
    }

    /// What a process ends with: 0 all kept; 1 a promise broke; 3 too little is known; 4 one
    /// seed gave two traces. 2 is for scenarios that are refused, which have no report.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        let has = |verdict| self.promises.iter().any(|one| one.verdict == verdict);
        match &self.outcome {
            Outcome::TwoTraces => 4,
            Outcome::Failed(_) => 1,
            Outcome::Met | Outcome::NotMet if has(Verdict::Broken) => 1,
            Outcome::Met if !has(Verdict::Undecided) => 0,
            Outcome::Met | Outcome::NotMet => 3,
            Outcome::Uninformative { .. } | Outcome::Halted(_) => 3,
        }
    }

    /// Whether a figure is of the few that were answered.
    pub(crate) fn has_rare(&self) -> bool {
        let mut cells = self.rows.iter().flat_map(|row| &row.cells);
        cells.any(|(_, interval, is_rare)| *is_rare && interval.is_some())
    }

    /// The broken promise, if a judge found one.
    #[must_use]
    pub const fn failure(&self) -> Option<&Failure> {
        match &self.outcome {
            Outcome::Failed(failure) => Some(failure),
            Outcome::Met
            | Outcome::NotMet
            | Outcome::Uninformative { .. }
            | Outcome::Halted(_)
            | Outcome::TwoTraces => None,
        }
    }

    /// A name for the tape's file, from what is on it.
    #[must_use]
    pub fn tape_name(&self) -> Option<String> {
        let tape = &self.failure()?.tape;
        Some(format!("{}-{:08x}.tape", self.name, short_name(tape)))
    }

    /// How many runs there were.
    #[must_use]
    pub const fn runs(&self) -> u64 {
        self.runs
    }

    /// SHA-256 over the hashes of all runs.
    #[must_use]
    pub const fn hash(&self) -> &[u8; 32] {
        &self.hash
    }

    /// Messages that reached a node, in all runs.
    #[must_use]
    pub const fn delivered(&self) -> u64 {
        self.delivered
    }

    /// Operations that were answered, in all runs.
    #[must_use]
    pub const fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    /// How much virtual time has passed, in all runs.
    #[must_use]
    pub fn virtual_time(&self) -> Duration {
        let nanos = u64::try_from(self.virtual_nanos).unwrap_or(u64::MAX);
        Duration::from_nanos(nanos)
    }

    /// What its figures are worth.
    pub(crate) fn standing(&self) -> String {
        let free =
            || "rehearsed without costs: work is free, so figures may not be quoted".to_owned();
        self.charged.as_ref().map_or_else(free, Charged::standing)
    }

    /// For people, in a terminal.
    #[must_use]
    pub fn to_text(&self) -> String {
        text::write(self)
    }

    /// For programs: one object.
    #[must_use]
    pub fn to_json(&self) -> String {
        json::write(self)
    }

    /// For people, as one page without anything else.
    #[must_use]
    pub fn to_html(&self) -> String {
        html::write(self)
    }
}

/// A short name for bytes.
fn short_name(bytes: &[u8]) -> u32 {
    use sha2::{Digest, Sha256};
    let hash = Sha256::digest(bytes);
    u32::from_le_bytes([hash[0], hash[1], hash[2], hash[3]])
}

/// A value with its unit, three digits or so.
pub(crate) fn value(number: f64, unit: Unit) -> String {
    match unit {
        Unit::Share => format!("{} %", digits(number * 100.0)),
        Unit::PerSecond => format!("{}/s", digits(number)),
        Unit::Nanos if number.abs() < 1e3 => format!("{} ns", digits(number)),
        Unit::Nanos if number.abs() < 1e6 => format!("{} us", digits(number / 1e3)),
        Unit::Nanos if number.abs() < 1e9 => format!("{} ms", digits(number / 1e6)),
        Unit::Nanos => format!("{} s", digits(number / 1e9)),
    }
}

fn digits(number: f64) -> String {
    let size = number.abs();
    if number.fract() == 0.0 || size >= 100.0 {
        format!("{number:.0}")
    } else if size >= 10.0 {
        format!("{number:.1}")
    } else {
        format!("{number:.2}")
    }
}

/// A mean with how far the truth may lie from it.
pub(crate) fn with_interval(interval: &Interval, unit: Unit) -> String {
    let mean = value(interval.mean, unit);
    match unit {
        Unit::Share if interval.half == 0.0 => mean,
        Unit::Share => format!("{mean} \u{b1}{}", digits(interval.half * 100.0)),
        Unit::Nanos | Unit::PerSecond => {
            format!("{mean} \u{b1}{:.0}%", (interval.relative() * 100.0).ceil())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_with_signs_of_a_shell_is_quoted() {
        assert_eq!(quoted("link.wan.loss=0.02"), "link.wan.loss=0.02");
        assert_eq!(quoted("delay=exp(20ms)"), "'delay=exp(20ms)'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
    }
}
