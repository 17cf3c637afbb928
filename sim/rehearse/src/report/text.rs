//! The report for a terminal.

use std::fmt::Write;
use std::time::Duration;

use super::{Failure, Outcome, PromiseLine, Report, Row, digits, value, with_interval};
use crate::scenario::{Bound, Purpose, Unit};
use crate::statistics::{Verdict, unseen, unseen_percent};

pub(super) fn write(report: &Report) -> String {
    let mut text = String::new();
    let Report { name, why, .. } = report;
    line(&mut text, format_args!("{name}: {why}"));
    line(&mut text, format_args!("{}", effort(report)));
    match report.purpose {
        Purpose::Timed => table(&mut text, report),
        Purpose::Hunt => {}
    }
    for words in report.charged.iter().flat_map(super::Charged::words) {
        line(&mut text, format_args!("{words}"));
    }
    if let Some(ratios) = &report.ratios {
        let against = &ratios.against;
        line(&mut text, format_args!("over {against}, seed by seed:"));
        for words in ratios.words() {
            line(&mut text, format_args!("  {words}"));
        }
    }
    outcome(&mut text, report);
    promises(&mut text, report);
    if report.purpose == Purpose::Hunt {
        for said in report.coverage.lines() {
            line(&mut text, format_args!("{said}"));
        }
    }
    for remark in &report.remarks {
        line(&mut text, format_args!("note: {remark}"));
    }
    if report.purpose == Purpose::Timed && !report.rows.is_empty() {
        let standing = report.standing();
        line(&mut text, format_args!("{standing}"));
    }
    let hash: String = report
        .hash
        .iter()
        .take(4)
        .fold(String::new(), |mut all, byte| {
            line_part(&mut all, format_args!("{byte:02x}"));
            all
        });
    let last = report
        .first_seed
        .wrapping_add(report.runs.saturating_sub(1));
    let first = report.first_seed;
    line(
        &mut text,
        format_args!("seeds {first} to {last}; trace {hash}"),
    );
    for step in &report.lines {
        line(&mut text, format_args!("{step}"));
    }
    text
}

fn line(text: &mut String, what: std::fmt::Arguments<'_>) {
    line_part(text, what);
    text.push('\n');
}

fn line_part(text: &mut String, what: std::fmt::Arguments<'_>) {
    text.write_fmt(what)
        .expect("a string takes all that is written to it");
}

/// How much was done, and in what time.
pub(super) fn effort(report: &Report) -> String {
    let simulated = report.virtual_time();
    let mut text = format!("{}, {} virtual", count(report.runs), span(simulated));
    if !report.elapsed.is_zero() {
        let ratio = simulated.as_secs_f64() / report.elapsed.as_secs_f64();
        line_part(
            &mut text,
            format_args!(
                " in {}, {} times real time",
                span(report.elapsed),
                digits(ratio)
            ),
        );
    }
    match report.purpose {
        Purpose::Timed => {
            let (confidence, within) = (report.confidence * 100.0, report.within * 100.0);
            line_part(
                &mut text,
                format_args!(
                    "; {} % intervals, target \u{b1}{} %",
                    digits(confidence),
                    digits(within)
                ),
            );
        }
        Purpose::Hunt if report.has_streams => line_part(
            &mut text,
            format_args!(
                "; {} requests answered, {} times a stream ended",
                report.acknowledged, report.struck
            ),
        ),
        Purpose::Hunt => line_part(
            &mut text,
            format_args!(
                "; {} operations answered, {} elections, {} nodes ended, {} messages",
                report.acknowledged, report.elections, report.struck, report.delivered
            ),
        ),
    }
    text
}

fn count(runs: u64) -> String {
    match runs {
        1 => "1 run".to_owned(),
        runs => format!("{runs} runs"),
    }
}

pub(super) fn span(span: Duration) -> String {
    let seconds = span.as_secs_f64();
    if seconds >= 7_200.0 {
        format!("{} h", digits(seconds / 3_600.0))
    } else if seconds >= 120.0 {
        format!("{} min", digits(seconds / 60.0))
    } else if seconds >= 1.0 {
        format!("{} s", digits(seconds))
    } else {
        format!("{} ms", digits(seconds * 1e3))
    }
}

fn table(text: &mut String, report: &Report) {
    let mut lines: Vec<Vec<String>> = vec![vec![String::new(), String::new()]];
    lines[0].extend(report.phases.iter().cloned());
    let mut wholes = Vec::new();
    for row in &report.rows {
        if row.cells.iter().all(|(phase, _, _)| phase.is_empty()) {
            wholes.push(row);
            continue;
        }
        let mut cells = vec![row.name.clone(), row.site.clone()];
        cells.extend(report.phases.iter().map(|phase| cell(row, phase)));
        lines.push(cells);
    }
    let columns = lines[0].len();
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|at| width(at).unwrap_or(0)).collect();
    for cells in &lines {
        let mut whole = String::new();
        for (cell, width) in cells.iter().zip(&widths) {
            line_part(&mut whole, format_args!("{cell:<width$}  "));
        }
        line(text, format_args!("{}", whole.trim_end()));
    }
    if report.has_rare() {
        line(text, format_args!("{}", super::RARE));
    }
    for row in wholes {
        let said = row
            .cells
            .first()
            .and_then(|(_, interval, _)| interval.as_ref());
        let said = said.map_or_else(|| "-".to_owned(), |one| with_interval(one, row.unit));
        let (name, site) = (&row.name, &row.site);
        let place = if site.is_empty() {
            String::new()
        } else {
            format!(" {site}")
        };
        line(text, format_args!("{name}{place} {said}"));
    }
}

fn cell(row: &Row, phase: &str) -> String {
    let found = row.cells.iter().find(|(name, _, _)| name == phase);
    match found {
        Some((_, Some(interval), is_rare)) => {
            let said = with_interval(interval, row.unit);
            if *is_rare { format!("({said})") } else { said }
        }
        Some((_, None, _)) | None => "-".to_owned(),
    }
}

fn outcome(text: &mut String, report: &Report) {
    match &report.outcome {
        Outcome::Met => {
            if report.purpose == Purpose::Timed
                && report.promises.iter().any(|one| one.bound.is_none())
            {
                let unseen = unseen(report.runs);
                line(
                    text,
                    format_args!("what the judges look for comes {unseen}"),
                );
            }
            if report.purpose == Purpose::Hunt {
                let runs = report.runs;
                let percent = unseen_percent(runs);
                let what = if percent < 100.0 {
                    let percent = digits(percent);
                    format!("failures come in under {percent} % of such runs, at 95 %")
                } else {
                    "too few to say how rare failures are".to_owned()
                };
                line(text, format_args!("no failure in {}: {what}", count(runs)));
            }
        }
        Outcome::NotMet => line(
            text,
            format_args!("the intervals are wider than asked for, and the runs are used up"),
        ),
        Outcome::Uninformative { acknowledged, .. } if report.has_streams => line(
            text,
            format_args!(
                "UNINFORMATIVE: {acknowledged} requests answered are less than the scenario asks for"
            ),
        ),
        Outcome::Uninformative {
            acknowledged,
            elections,
        } => line(
            text,
            format_args!(
                "UNINFORMATIVE: {acknowledged} operations answered and {elections} leaders \
                 elected are less than the scenario asks for"
            ),
        ),
        Outcome::Halted(why) => line(text, format_args!("HALTED: {why}")),
        Outcome::TwoTraces => line(
            text,
            format_args!("NOT DETERMINISTIC: one seed gave two traces; this is a bug of ours"),
        ),
        Outcome::Failed(failure) => broken(text, report, failure),
    }
    if report.poor > 0 {
        let (poor, runs) = (report.poor, report.runs);
        line(
            text,
            format_args!("{poor} of {runs} runs answered less than the scenario asks for"),
        );
    }
    if report.unsteady > 0 {
        let unsteady = report.unsteady;
        line(text, format_args!("{unsteady} runs were not steady"));
    }
}

fn broken(text: &mut String, report: &Report, failure: &Failure) {
    let (judge, rule, place) = (failure.judge, failure.rule, &failure.place);
    line(text, format_args!("BROKEN {judge}: {rule}: {place}"));
    let (run, seed, choices) = (failure.run, failure.seed, failure.choices);
    match failure.shrunk {
        Some((left, took)) => line(
            text,
            format_args!(
                "run {run}, seed {seed}; shrunk from {choices} choices to {left} in {}",
                span(took)
            ),
        ),
        None => line(
            text,
            format_args!("run {run}, seed {seed}; {choices} choices"),
        ),
    }
    for node in &failure.nodes {
        line(text, format_args!("  {node}"));
    }
    if let Some(tape) = report.tape_name() {
        let asked = &report.asked;
        line(
            text,
            format_args!("replay: holm rehearse {asked} --tape {tape}"),
        );
    }
}

fn promises(text: &mut String, report: &Report) {
    let of = |verdict| {
        let all = report
            .promises
            .iter()
            .filter(move |one| one.verdict == verdict);
        all.map(promise).collect::<Vec<_>>().join("; ")
    };
    for (word, verdict) in [
        ("kept", Verdict::Kept),
        ("BROKEN", Verdict::Broken),
        ("undecided", Verdict::Undecided),
    ] {
        let all = of(verdict);
        // What broke in a run has been told, and of the others nothing is known.
        if !all.is_empty() && report.failure().is_none() {
            line(text, format_args!("{word}: {all}"));
        }
    }
}

/// `heal 2.40 s, at most 10 s`, with how far off it may be.
pub(super) fn promise(one: &PromiseLine) -> String {
    let unit = one.unit.unwrap_or(Unit::Share);
    let mut text = one.text.clone();
    if let Some(interval) = &one.interval {
        line_part(
            &mut text,
            format_args!(" {}", with_interval(interval, unit)),
        );
    } else if one.bound.is_some() {
        text.push_str(" was not seen");
    }
    match one.bound {
        Some(Bound::AtMost(limit)) => {
            line_part(&mut text, format_args!(", at most {}", value(limit, unit)));
        }
        Some(Bound::AtLeast(limit)) => {
            line_part(&mut text, format_args!(", at least {}", value(limit, unit)));
        }
        None => {}
    }
    text
}
