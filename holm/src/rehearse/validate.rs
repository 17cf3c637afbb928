//! `holm rehearse --validate`: the machine of a costs file, rehearsed and held against what was real there; and costs
//! for a scenario.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;
use holm_rehearse::{Cell, Costs, FOREIGN_MAX, Scenario, TOLERANCE, misses, worst};

use crate::bench::calibrate::{table, this_machine};
use crate::progress::Progress;

/// Flags about costs.
#[derive(Debug, Args)]
pub(crate) struct Pricing {
    /// What work costs, from `holm bench calibrate`; overrides what the sites name
    #[arg(long, value_name = "FILE")]
    costs: Option<PathBuf>,
    /// Rehearse the machine of the costs, and compare with what was real there
    #[arg(long, conflicts_with_all = ["explore", "tape", "seed", "runs", "against", "report"])]
    pub(super) validate: bool,
}

impl Pricing {
    /// Lets the scenario cost what its file of costs says, if there is one.
    pub(super) fn charge(&self, scenario: &mut Scenario) -> Result<()> {
        let wanted = scenario.costs_wanted().map_err(anyhow::Error::msg)?;
        let wanted = self.costs.clone().or_else(|| wanted.map(PathBuf::from));
        match wanted {
            Some(file) => scenario.charge(read(&file)?).map_err(anyhow::Error::msg),
            None => Ok(()),
        }
    }

    /// Validates; the code of the process and what it says.
    pub(super) fn validate(&self, scenario: Option<&Scenario>, json: bool) -> Result<(u8, String)> {
        let named = scenario
            .map(Scenario::costs_wanted)
            .transpose()
            .map_err(anyhow::Error::msg)?;
        let file = self
            .costs
            .clone()
            .or_else(|| named.flatten().map(PathBuf::from));
        let Some(file) = file else {
            bail!("--validate needs --costs FILE, or a scenario whose sites name one");
        };
        let costs = read(&file)?;
        let mut progress = Progress::new();
        let model = table(&costs, &mut progress)?;
        drop(progress);
        let misses = misses(&costs.real, &model);
        let is_complete = misses.len() == 4 * model.len();
        let judged = worst(&misses);
        let is_quiet = costs.foreign <= FOREIGN_MAX;
        let is_near = judged.is_some_and(|miss| miss.error.abs() <= TOLERANCE);
        let is_valid = is_complete && is_quiet && is_near;
        if json {
            let cells = misses.iter().map(|miss| {
                serde_json::json!({
                    "load": miss.load.name(), "clients": miss.clients, "figure": miss.figure,
                    "error": miss.error, "judged": miss.is_judged(),
                })
            });
            let said = serde_json::json!({
                "costs": costs.name, "valid": is_valid, "cells": cells.collect::<Vec<_>>(),
            });
            return Ok((code(is_valid), format!("{said}\n")));
        }
        let mut text = written(&costs, &model);
        if let Some(words) = costs.elsewhere(&this_machine()?) {
            writeln!(text, "note: {words}")?;
        }
        if !is_complete {
            writeln!(
                text,
                "NOT VALID ({} lacks real cells: calibrate again)",
                costs.name
            )?;
        }
        if !is_quiet {
            let percent = costs.foreign * 100.0;
            writeln!(
                text,
                "NOT VALID (calibrated while others used {percent:.0} % of the machine)"
            )?;
        }
        let mut wrong: Vec<_> = misses.iter().filter(|miss| miss.is_judged()).collect();
        wrong.retain(|miss| miss.error.abs() > TOLERANCE);
        for miss in &wrong {
            writeln!(text, "NOT VALID ({miss})")?;
        }
        if let Some(miss) = judged.filter(|_| is_valid) {
            writeln!(
                text,
                "valid within {:.0} % (worst: {miss})",
                miss.error.abs() * 100.0
            )?;
        }
        Ok((code(is_valid), text))
    }
}

/// Too little is known if the model is wrong: nothing that it says may be quoted.
const fn code(is_valid: bool) -> u8 {
    if is_valid { 0 } else { 3 }
}

/// Reads a file of costs, if this release may use it.
fn read(file: &Path) -> Result<Costs> {
    let name = file.display().to_string();
    let text = std::fs::read_to_string(file).with_context(|| format!("read the costs {name}"))?;
    let costs = Costs::parse(&text, &name)?;
    match costs.foreign_to(&this_machine()?) {
        Some(why) => bail!(why),
        None => Ok(costs),
    }
}

/// The table of validation: what was real, what the model says, and how far off that is.
pub(crate) fn written(costs: &Costs, model: &[Cell]) -> String {
    let mut text = format!(
        "{}: {}, {} cores, kernel {}, holm {}, {}\n",
        costs.name,
        costs.machine.processor,
        costs.machine.cores,
        costs.machine.kernel,
        costs.machine.release,
        costs.date
    );
    text.push_str("                       throughput /s            p50 us                   CPU us, all sites        p99 us\n");
    text.push_str("load   clients     real    model         real    model         real    model         real    model\n");
    for cell in &costs.real {
        let said = model
            .iter()
            .find(|one| (one.load, one.clients) == (cell.load, cell.clients));
        let Some(said) = said else { continue };
        let mut line = format!("{:6} {:>7}", cell.load.name(), cell.clients);
        let pairs = [
            (cell.rate, said.rate),
            (cell.p50_us, said.p50_us),
            (cell.cpu_us, said.cpu_us),
            (cell.p99_us, said.p99_us),
        ];
        for (real, said) in pairs {
            let digits = if real < 100.0 { 1 } else { 0 };
            let off = (said / real - 1.0) * 100.0;
            line.push_str(&format!(
                " {real:>8.digits$} {said:>8.digits$} {off:>+4.0}%"
            ));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}
