//! `promises`: reads the tables of PROMISES.md and says which figures are held.
//!
//! A row is: claim, setting, our figure, machine, command, test, state. A row without a
//! command, or with a state of its own invention, fails.

use anyhow::{Context, Result, bail};

use crate::bench::case::{CASES, OF_ISLANDS, OF_THREE};
use crate::tally::{Counts, Tally};
use crate::tree::{Tree, root};

pub(crate) const PAGE: &str = "
Reads the tables of PROMISES.md and prints each claim with its state: held, held in
rehearsal, missed or pending. Fails on a row that names no command or a case that the benchmark
has not, or has another state; and on a case of the benchmark with targets that no row names.
";

const PAGE_OF_PROMISES: &str = "PROMISES.md";
const COLUMNS: usize = 7;
const STATES: &[&str] = &["held", "held in rehearsal", "missed", "pending"];

/// Prints the states and fails if a row is not as it must be.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    if !arguments.is_empty() {
        bail!("promises takes no arguments");
    }
    let mut tally = Tally::default();
    tally.step("promises", check);
    tally.close()
}

/// The work of the command, for `ci` too.
pub(crate) fn check() -> Result<Counts> {
    let tree = Tree::read(&root()?)?;
    let text = tree
        .text(PAGE_OF_PROMISES)
        .context("there is no PROMISES.md")?;
    let mut counts = Counts {
        passed: 0,
        failed: 0,
        untested: 0,
    };
    for row in rows(text) {
        let fault = fault(&row);
        counts = counts.and(if fault.is_some() {
            Counts::FAILED
        } else {
            Counts::PASSED
        });
        println!("{:<18}{}", row.last().map_or("", String::as_str), row[0]);
        if let Some(fault) = fault {
            println!("  {PAGE_OF_PROMISES}: `{}`: {fault}", row[0]);
        }
    }
    for case in unpromised(text) {
        counts = counts.and(Counts::FAILED);
        println!("  {PAGE_OF_PROMISES}: no row has the command `--case {case}`, which has targets");
    }
    if counts.passed + counts.failed == 0 {
        bail!("{PAGE_OF_PROMISES} has no table of promises");
    }
    Ok(counts)
}

/// The rows of every table that begins with a column `claim`.
fn rows(text: &str) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    let mut inside = false;
    for line in text.lines() {
        let Some(cells) = cells(line) else {
            inside = false;
            continue;
        };
        if cells[0] == "claim" {
            inside = true;
        } else if inside && !cells[0].starts_with("--") {
            rows.push(cells);
        }
    }
    rows
}

fn cells(line: &str) -> Option<Vec<String>> {
    let inner = line.trim().strip_prefix('|')?;
    let inner = inner.strip_suffix('|').unwrap_or(inner);
    Some(
        inner
            .split('|')
            .map(|cell| cell.trim().to_owned())
            .collect(),
    )
}

/// The benchmark's cases with targets that no row names.
fn unpromised(text: &str) -> Vec<&'static str> {
    let rows = rows(text);
    let named = |name: &str| {
        let words = format!("--case {name}`");
        rows.iter()
            .any(|row| row.len() > 4 && row[4].ends_with(&words))
    };
    let cases = CASES.iter().chain(OF_THREE);
    let cases = cases.filter(|case| !case.targets.is_empty());
    cases
        .map(|case| case.name)
        .filter(|name| !named(name))
        .collect()
}

fn fault(row: &[String]) -> Option<String> {
    if row.len() != COLUMNS {
        return Some(format!("{} columns instead of {COLUMNS}", row.len()));
    }
    if !row[4].contains('`') {
        return Some("no command: a figure without one is no figure".to_owned());
    }
    if let Some((_, rest)) = row[4].split_once("--case ") {
        let name = rest.split(['`', ' ']).next().unwrap_or_default();
        if !CASES
            .iter()
            .chain(OF_THREE)
            .chain(OF_ISLANDS)
            .any(|case| case.name == name)
        {
            return Some(format!("the benchmark has no case `{name}`"));
        }
    }
    let state = row[6].as_str();
    if !STATES.contains(&state) {
        return Some(format!(
            "the state `{state}` is none of: {}",
            STATES.join(", ")
        ));
    }
    (state == "held" && row[2].is_empty()).then(|| "held, yet no figure".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(row: &str) -> Option<String> {
        let text = format!(
            "| claim | setting | figure | machine | command | test | state |\n|--|--|--|--|--|--|--|\n{row}\n"
        );
        let rows = rows(&text);
        assert_eq!(rows.len(), 1);
        fault(&rows[0])
    }

    #[test]
    fn a_row_with_a_command_and_a_state_is_fine() {
        assert_eq!(
            faults(
                "| puts | 64 clients | 3.1x | two cores | `cargo xtask bench kv` | `a_b` | held |"
            ),
            None
        );
    }

    #[test]
    fn a_row_without_a_command_fails() {
        assert!(
            faults("| puts | 64 | 3.1x | two cores | | `a_b` | held |")
                .unwrap()
                .contains("no command")
        );
    }

    #[test]
    fn a_state_of_its_own_invention_fails() {
        assert!(
            faults("| puts | 64 | 3.1x | two cores | `x` | `a_b` | mostly |")
                .unwrap()
                .contains("mostly")
        );
    }

    #[test]
    fn a_case_that_the_benchmark_has_not_fails() {
        let row = |case: &str| {
            format!(
                "| puts | 64 | 3x | two cores | `cargo xtask bench kv --case {case}` | | held |"
            )
        };
        assert_eq!(faults(&row("put-64")), None);
        assert!(faults(&row("pet-64")).unwrap().contains("pet-64"));
    }

    #[test]
    fn a_case_with_targets_needs_a_row() {
        let head = "| claim | setting | figure | machine | command | test | state |\n";
        let row = "| puts | 1 | | A | `cargo xtask bench kv --case put-1` | | pending |\n";
        let missing = unpromised(&format!("{head}|--|--|--|--|--|--|--|\n{row}"));
        assert!(!missing.contains(&"put-1") && !missing.contains(&"txn-64"));
        assert!(missing.contains(&"put-1000") && missing.contains(&"million"));
    }

    #[test]
    fn other_tables_are_not_promises() {
        assert!(rows("| name | size |\n|--|--|\n| a | 1 |\n").is_empty());
    }
}
