//! `holm rehearse`: a scenario in virtual time. Files, the clock and the terminal are here; what
//! is done with them is the library's.

pub(crate) mod validate;

use std::fs::File;
use std::io::Write;
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;
use holm_rehearse::{Feedback, Options, Report, Scenario, parse_beside, replay, run};
use sha2::{Digest, Sha256};
use validate::Pricing;

use crate::progress;
use crate::quantity::parse_duration;

pub(crate) const EXAMPLES: &str = "\
Examples:
  holm rehearse scenarios/cut-wan.toml                      until all intervals are narrow
  holm rehearse scenarios/cut-wan.toml --set link.wan.loss=0.02 --report cut-wan.html
  holm rehearse scenarios/three-sites.toml --against scenarios/slow-disk.toml    the ratio of both, seed by seed
  holm rehearse scenarios/three-sites.toml --costs bench/costs/two-core.toml    work costs what it cost there
  holm rehearse --validate --costs bench/costs/two-core.toml    is the model within 15 % of what was real?
  holm rehearse scenarios/hunt-members.toml --explore 10m   hunt for a broken promise
  holm rehearse scenarios/hunt-streams.toml --runs 1000     hunt through streams: each row once, whatever ends
  holm rehearse scenarios/hunt-members.toml --tape hunt-members-25fdfea6.tape --step
  holm rehearse --recorded steps                            replay what `holm up --record steps` recorded

Exit codes: 0 all promises kept; 1 one broke; 2 the scenario or the costs are refused; 3 too little is known,
or costs that are not valid; 4 one seed gave two traces.";

/// What the command line says.
#[derive(Debug, Args)]
pub(crate) struct Rehearse {
    /// The scenario, a TOML file
    #[arg(value_name = "SCENARIO", required_unless_present_any = ["recorded", "validate"])]
    scenario: Option<PathBuf>,
    /// Replay recordings of real runs, a folder of them or one file: equal, or the first step that differs
    #[arg(long, value_name = "PATH", conflicts_with_all = ["scenario", "costs", "validate", "against", "explore",
        "tape", "step", "seed", "runs", "jobs", "feedback", "set", "report"])]
    recorded: Option<PathBuf>,
    #[command(flatten)]
    pricing: Pricing,
    /// Run this scenario with the same seeds, and compare
    #[arg(long, value_name = "OTHER", conflicts_with_all = ["explore", "tape"])]
    against: Option<PathBuf>,
    /// Hunt for a broken promise, in odd orders and under faults, for so long
    #[arg(long, value_name = "TIME", num_args = 0..=1, default_missing_value = "5m",
        value_parser = parse_duration)]
    explore: Option<Duration>,
    /// Replay one run exactly, from a file that an earlier rehearsal left
    #[arg(long, value_name = "FILE", conflicts_with_all = ["explore", "seed", "runs"])]
    tape: Option<PathBuf>,
    /// Show every step of the replay
    #[arg(long, requires = "tape")]
    step: bool,
    /// The seed of the first run
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Exactly so many runs
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    runs: Option<u64>,
    /// On how many threads runs are made; on each core if nothing is said. What comes of it is
    /// the same
    #[arg(long, value_name = "N")]
    jobs: Option<NonZeroUsize>,
    /// Whether a hunt makes runs like those that showed a new order: off, counted (off, and the
    /// orders are counted) or on
    #[arg(long, value_name = "HOW", default_value = "off", value_parser = parse_feedback)]
    feedback: Feedback,
    /// Override a field, such as link.wan.loss=0.02; may be repeated
    #[arg(long, value_name = "FIELD=VALUE", value_parser = parse_setting)]
    set: Vec<(String, String)>,
    /// Write the report as a page, too
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

fn parse_feedback(text: &str) -> Result<Feedback, String> {
    match text {
        "off" => Ok(Feedback::Off),
        "counted" => Ok(Feedback::Counted),
        "on" => Ok(Feedback::On),
        other => Err(format!("{other}: feedback is off, counted or on")),
    }
}

fn parse_setting(text: &str) -> Result<(String, String), String> {
    let parts = text.split_once('=');
    let (field, value) = parts.ok_or_else(|| format!("{text}: write FIELD=VALUE"))?;
    Ok((field.to_owned(), value.to_owned()))
}

/// Shows how far a rehearsal is, and knows how long it has taken.
#[derive(Debug)]
struct Watcher {
    begun: Instant,
    line: progress::Progress,
}

impl holm_rehearse::Progress for Watcher {
    fn elapsed(&mut self) -> Duration {
        self.begun.elapsed()
    }

    fn ran(&mut self, done: u64) {
        let seconds = self.begun.elapsed().as_secs();
        self.line.show(&format!("{done} runs in {seconds} s"));
    }

    fn shrinks(&mut self, runs: u64) {
        self.line
            .show(&format!("a promise broke; made smaller in {runs} runs"));
    }
}

/// Rehearses; the code is what the report says.
pub(crate) fn command(asked: &Rehearse) -> ExitCode {
    match rehearse(asked) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            // With standard error gone there is nobody left to tell.
            drop(writeln!(std::io::stderr(), "error: {error:#}"));
            ExitCode::from(2)
        }
    }
}

fn rehearse(asked: &Rehearse) -> Result<u8> {
    if let Some(place) = &asked.recorded {
        return crate::recorded::replay_all(place, asked.json);
    }
    let scenario = asked.scenario.as_deref();
    let mut scenario = scenario.map(|file| read(file, &asked.set)).transpose()?;
    if asked.pricing.validate {
        let (code, said) = asked.pricing.validate(scenario.as_ref(), asked.json)?;
        say(&said)?;
        return Ok(code);
    }
    let scenario = scenario.as_mut().context("name a scenario")?;
    asked.pricing.charge(scenario)?;
    let mut against = asked
        .against
        .as_deref()
        .map(|file| read(file, &asked.set))
        .transpose()?;
    if let Some(other) = &mut against {
        asked.pricing.charge(other)?;
    }
    let tape = asked.tape.as_deref().map(read_tape).transpose()?;
    if let Some(page) = &asked.report {
        check_place(page)?;
    }
    let options = Options {
        seed: asked.seed,
        runs: asked.runs,
        explore: asked.explore,
        tape,
        shrink: None,
        jobs: asked
            .jobs
            .or_else(|| std::thread::available_parallelism().ok()),
        feedback: asked.feedback,
        steps: asked.step,
        build: build()?,
        against: against.map(Box::new),
    };
    let report = play(scenario, &options)?;
    keep(asked, &report)?;
    let said = if asked.json {
        report.to_json()
    } else {
        report.to_text()
    };
    say(&said)?;
    Ok(report.exit_code())
}

fn read(file: &Path, sets: &[(String, String)]) -> Result<Scenario> {
    let name = file.display().to_string();
    let text =
        std::fs::read_to_string(file).with_context(|| format!("read the scenario {name}"))?;
    let folder = file.parent().unwrap_or_else(|| Path::new(""));
    let beside = |name: &str| {
        let path = folder.join(name);
        std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))
    };
    Ok(parse_beside(&text, &name, sets, &beside)?)
}

fn say(said: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(said.as_bytes()).context("write the report")?;
    out.flush().context("write the report")
}

/// An assertion that fails in a run breaks a promise, and the run becomes a tape. Anywhere else
/// it is a fault of the rehearsal's own.
fn play(scenario: &Scenario, options: &Options) -> Result<Report> {
    let words = Arc::new(Mutex::new(String::new()));
    let said = Arc::clone(&words);
    std::panic::set_hook(Box::new(move |panic| {
        *said.lock().unwrap_or_else(PoisonError::into_inner) = panic.to_string();
    }));
    let mut watcher = Watcher {
        begun: Instant::now(),
        line: progress::Progress::new(),
    };
    let played = catch_unwind(AssertUnwindSafe(|| {
        if options.tape.is_some() {
            replay(scenario, options, &mut watcher).context("replay the tape")
        } else {
            Ok(run(scenario, options, &mut watcher))
        }
    }));
    crate::assertion::ends_the_process();
    played.unwrap_or_else(|_panic| {
        let words = words.lock().unwrap_or_else(PoisonError::into_inner);
        bail!("the rehearsal itself failed, which is a bug of ours: {words}")
    })
}

fn read_tape(file: &Path) -> Result<Vec<u8>> {
    std::fs::read(file).with_context(|| format!("read the tape {}", file.display()))
}

/// SHA-256 of this program, so that a tape knows who made it.
fn build() -> Result<[u8; 32]> {
    let program = std::env::current_exe().context("find this program")?;
    let bytes = std::fs::read(&program).context("read this program")?;
    Ok(Sha256::digest(&bytes).into())
}

/// A page that cannot be written is refused before all the runs that it is to tell of.
fn check_place(page: &Path) -> Result<()> {
    let opened = File::options().append(true).create(true).open(page);
    let opened = opened.map(drop);
    opened.with_context(|| format!("write the page {}", page.display()))
}

/// Writes the page, and the tape of a failure.
fn keep(asked: &Rehearse, report: &Report) -> Result<()> {
    if let Some(page) = &asked.report {
        std::fs::write(page, report.to_html())
            .with_context(|| format!("write the page {}", page.display()))?;
    }
    if let (Some(name), Some(failure), None) = (report.tape_name(), report.failure(), &asked.tape) {
        std::fs::write(&name, &failure.tape).with_context(|| format!("write the tape {name}"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_that_cannot_be_written_is_refused_before_the_runs() {
        let folder = tempfile::tempdir().unwrap();
        let page = folder.path().join("cut-wan.html");
        check_place(&page).unwrap();
        let nowhere = folder.path().join("none").join("cut-wan.html");
        let error = check_place(&nowhere).unwrap_err().to_string();
        assert!(error.starts_with("write the page"), "{error}");
    }
}
