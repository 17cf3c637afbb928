//! `holm stream gen`: events of our own, for the examples and for trying things out.

use std::time::Duration;

use clap::Args;
use holm_connect::{Format, Generator, Recipe};

use super::Ended;
use super::named::parse_format;
use super::output::{Into, Output, parse_into};
use crate::quantity::parse_duration;

pub(crate) const EXAMPLES: &str = "\
Examples:
  holm stream gen cluster --rows 100000 > events.jsonl
  holm stream gen auction --rows 5000 --seed 7 --disorder 3s
  holm stream gen campaigns --rows 1000 --into-format csv > campaigns.csv

Recipes: cluster, grid, road, ads (with campaigns, the table for it), auction, manufacturing. Equal seeds give
equal rows on every machine. Times begin at 2026-01-05T10:00:00.";

/// What the command line says.
#[derive(Debug, Args)]
pub(crate) struct Asked {
    /// What is made
    #[arg(value_parser = parse_recipe)]
    recipe: Recipe,
    /// How many rows
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    rows: u64,
    /// Equal seeds give equal rows
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Rows to a second of event time
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(i64).range(1..=1_000_000_000))]
    rate: i64,
    /// How far rows are out of order, at most
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = parse_duration)]
    disorder: Duration,
    /// Where rows go: stdout or file:PATH
    #[arg(long, value_name = "SINK", default_value = "stdout", value_parser = parse_into)]
    into: Into,
    /// How rows are written: jsonl or csv
    #[arg(long, value_name = "FORMAT", default_value = "jsonl", value_parser = parse_format)]
    into_format: Format,
}

fn parse_recipe(text: &str) -> Result<Recipe, String> {
    let found = Recipe::ALL.iter().find(|(name, _)| *name == text);
    found.map(|(_, recipe)| *recipe).ok_or_else(|| {
        let names: Vec<&str> = Recipe::ALL.iter().map(|(name, _)| *name).collect();
        format!("there are {}", names.join(", "))
    })
}

/// Writes the rows.
pub(crate) fn generate(asked: &Asked) -> Result<u8, Ended> {
    const BATCH: u64 = 4_096;
    const YEAR: i64 = 366 * 86_400_000_000;
    let disorder = i64::try_from(asked.disorder.as_micros()).unwrap_or(i64::MAX);
    if disorder > YEAR {
        return Err(Ended::Refused("--disorder is a year at most".to_owned()));
    }
    let spacing = (asked.rate * 1_000, disorder);
    let mut generator = Generator::new(asked.recipe, asked.seed, asked.rows, spacing);
    let mut output = Output::open(&asked.into, asked.into_format, &asked.recipe.fields())?;
    while let Some(batch) = generator.batch(BATCH) {
        output.rows(&batch)?;
    }
    Ok(0)
}
