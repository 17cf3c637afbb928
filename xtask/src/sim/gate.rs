//! Runs the gate: one copy of the tree, one target folder, one patch after the other.
//!
//! What would surprise: mutants come crate by crate and not by name, so that least is built. At
//! the end the copy is whole again and every finder that found something runs once more: what
//! fails there too has found nothing. What was found out is kept, and a call that was ended is
//! taken up by the next.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::Request;
use super::bank::{self, BUDGET_S, Finder, Mutant};
use super::kept::Kept;
use super::scratch::Scratch;
use super::table::{self, Fate, Row};
use crate::tally::SaidAlready;

/// Hunts all mutants, then the tree itself.
pub(super) fn run(root: &Path, request: &Request) -> Result<()> {
    let bank = bank::read(root, &request.names)?;
    let scratch = Scratch::new(root, &request.scratch)?;
    let mut kept = Kept::open(&scratch.results, &scratch.digest, request.is_afresh)?;
    let turns = bank::in_turn(&bank);
    let budget = |mutant: &Mutant| mutant.budget_s.min(request.cpu_s);
    let (known, left): (Vec<_>, Vec<_>) = turns
        .into_iter()
        .map(|mutant| (mutant, kept.row(mutant, budget(mutant))))
        .partition(|(_, row)| row.is_some());
    let mut rows: Vec<Row> = known.into_iter().filter_map(|(_, row)| row).collect();
    if !rows.is_empty() {
        eprintln!("{} were hunted by a call before", rows.len());
    }
    eprintln!("{}", table::head());
    let begun = Instant::now();
    for (done, (mutant, _)) in left.iter().enumerate() {
        let row = match hunt(&scratch, mutant, budget(mutant)) {
            Ok(row) => row,
            Err(error) => {
                // One that cannot be hunted does not keep the others from it.
                let why = format!("{error:#}");
                Row::new(mutant, Fate::Spoiled { why })
            }
        };
        scratch.restore(root)?;
        kept.add(&row, budget(mutant))?;
        let progress = progress(begun.elapsed(), done + 1, left.len());
        eprintln!("{}  {progress}", row.line());
        rows.push(row);
    }
    rows.sort_by_key(|row| bank::place(&row.mutant.name));
    let mut problems = table::problems(&rows);
    for (finder, seconds) in costs(&rows) {
        if let Some(problem) = baseline(&scratch, &mut kept, &finder, seconds)? {
            problems.push(format!("without a patch, {finder}: {problem}"));
        } else {
            eprintln!("without a patch, {finder} finds nothing");
        }
    }
    conclude(root, request, &rows, &problems)
}

/// How far a call is, and what it has before it if the rest is like what was.
fn progress(elapsed: Duration, done: usize, all: usize) -> String {
    let per = elapsed / u32::try_from(done).unwrap_or(u32::MAX).max(1);
    let left = per * u32::try_from(all - done).unwrap_or(u32::MAX);
    let (elapsed, left) = (elapsed.as_secs() / 60, left.as_secs() / 60);
    format!("({done} of {all}, {elapsed} min, about {left} left)")
}

fn conclude(root: &Path, request: &Request, rows: &[Row], problems: &[String]) -> Result<()> {
    if request.is_json {
        println!("{}", table::to_json(rows, problems));
    } else {
        println!("\n{}", table::head());
        for row in rows {
            println!("{}", row.line());
        }
    }
    for line in table::foot(rows) {
        eprintln!("{line}");
    }
    for (name, why) in bank::waivers(root)? {
        eprintln!("waived {name}: {why}");
    }
    for problem in problems {
        eprintln!("problem: {problem}");
    }
    if problems.is_empty() {
        Ok(())
    } else {
        Err(SaidAlready.into())
    }
}

/// Tries a mutant's finders in turn, all within one budget: none takes more than its share of
/// what is left, so that the last has some.
fn hunt(scratch: &Scratch, mutant: &Mutant, budget_s: u64) -> Result<Row> {
    scratch.apply(mutant)?;
    let mut row = Row::new(mutant, Fate::Missed);
    for (at, finder) in mutant.finders.iter().enumerate() {
        match scratch.build(finder) {
            Ok(built_s) => row.built_s += built_s,
            Err(error) => {
                eprintln!("{}: {error:#}", mutant.name);
                let why = "does not compile".to_owned();
                row.fate = Fate::Spoiled { why };
                break;
            }
        }
        let to_come = u64::try_from(mutant.finders.len() - at).unwrap_or(1);
        let share_s = budget_s.saturating_sub(whole(row.cpu_s)) / to_come;
        let said = scratch.ask(finder, share_s.max(1))?;
        row.cpu_s += said.cpu_s;
        row.runs = said.runs;
        if let Some(said) = said.broken {
            let by = finder.clone();
            row.fate = Fate::Found { by, said };
            break;
        }
        if let Some(why) = said.failed {
            let why = format!("{finder}: {why}");
            row.fate = Fate::Spoiled { why };
        }
    }
    Ok(row)
}

/// What each finder took at most, of those that found something.
fn costs(rows: &[Row]) -> BTreeMap<Finder, u64> {
    let mut costs: BTreeMap<Finder, u64> = BTreeMap::new();
    for row in rows {
        if let Fate::Found { by, .. } = &row.fate {
            let cost = costs.entry(by.clone()).or_default();
            *cost = (*cost).max(whole(row.cpu_s));
        }
    }
    costs
}

/// What a finder says of the tree without a patch, in at least the time that mutants took.
fn baseline(
    scratch: &Scratch,
    kept: &mut Kept,
    finder: &Finder,
    seconds: u64,
) -> Result<Option<String>> {
    let budget_s = match finder {
        Finder::Scenario(_) => (seconds + 5).min(BUDGET_S),
        Finder::Suite(_) => BUDGET_S,
    };
    if kept.is_quiet(finder, budget_s) {
        return Ok(None);
    }
    scratch.build(finder)?;
    let said = scratch.ask(finder, budget_s)?;
    let problem = said.broken.or(said.failed);
    if problem.is_none() {
        kept.add_quiet(finder, budget_s)?;
    }
    Ok(problem)
}

fn whole(seconds: f64) -> u64 {
    Duration::try_from_secs_f64(seconds).map_or(BUDGET_S, |it| {
        it.as_secs() + u64::from(it.subsec_nanos() > 0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_says_what_is_left() {
        let said = progress(Duration::from_secs(600), 10, 40);
        assert_eq!(said, "(10 of 40, 10 min, about 30 left)");
    }
}
