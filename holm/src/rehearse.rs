//! `holm rehearse`: a scenario in virtual time. Files, the clock and the terminal are here; what
//! is done with them is the library's.

pub(crate) mod validate;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Args;
use holm_rehearse::{Options, Report, Scenario, parse, replay, run};
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
  holm rehearse scenarios/hunt-members.toml --tape hunt-members-25fdfea6.tape --step

Exit codes: 0 all promises kept; 1 one broke; 2 the scenario or the costs are refused; 3 too little is known,
or costs that are not valid; 4 one seed gave two traces.";

/// What the command line says.
#[derive(Debug, Args)]
pub(crate) struct Rehearse {
    /// The scenario, a TOML file
    #[arg(value_name = "SCENARIO", required_unless_present = "validate")]
    scenario: Option<PathBuf>,
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
    /// For the last words of a process whose node failed an assertion.
    seed: Arc<AtomicU64>,
}

impl holm_rehearse::Progress for Watcher {
    fn elapsed(&mut self) -> Duration {
        self.begun.elapsed()
    }

    fn begins(&mut self, _run: u64, seed: u64) {
        self.seed.store(seed, Ordering::Relaxed);
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
    let file = asked
        .scenario
        .as_ref()
        .map_or_else(String::new, |it| it.display().to_string());
    let tape = asked.tape.as_deref().map(read_tape).transpose()?;
    let options = Options {
        seed: asked.seed,
        runs: asked.runs,
        explore: asked.explore,
        tape,
        shrink: None,
        steps: asked.step,
        build: build()?,
        against: against.map(Box::new),
    };
    let report = play(scenario, &options, &file)?;
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
    Ok(parse(&text, &name, sets)?)
}

fn say(said: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(said.as_bytes()).context("write the report")?;
    out.flush().context("write the report")
}

fn play(scenario: &Scenario, options: &Options, file: &str) -> Result<Report> {
    let seed = Arc::new(AtomicU64::new(0));
    last_words(Arc::clone(&seed), file.to_owned());
    let mut watcher = Watcher {
        begun: Instant::now(),
        line: progress::Progress::new(),
        seed,
    };
    if options.tape.is_some() {
        replay(scenario, options, &mut watcher).context("replay the tape")
    } else {
        Ok(run(scenario, options, &mut watcher))
    }
}

/// Where an assertion ends the process, it at least says which run it was. A build that unwinds
/// goes on, and shrinks the run.
fn last_words(seed: Arc<AtomicU64>, file: String) {
    std::panic::set_hook(Box::new(move |panic| {
        if cfg!(panic = "abort") {
            let seed = seed.load(Ordering::Relaxed);
            drop(writeln!(
                std::io::stderr(),
                "BROKEN invariants: {panic}\nin the run of seed {seed} of {file}; a debug build \
                 of holm makes a tape of it and shrinks it"
            ));
        }
    }));
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
