//! `fuzz`: the random tests of every crate with a larger budget.
//!
//! Coverage-guided fuzzing needs a nightly compiler, which this project does not ask for. The
//! decoders are fed random and mutated bytes by `arbtest` instead; such a test reads its
//! budget from `HOLM_FUZZ_MS` and prints the seed of a failure.

use anyhow::{Context, Result, bail};

use crate::process::{cargo, tests};
use crate::tally::Tally;

pub(crate) const PAGE: &str = "
  cargo xtask fuzz                        one minute for each random test
  cargo xtask fuzz decoder                only tests whose name contains `decoder`
  cargo xtask fuzz --minutes 30 decoder

Runs the tests whose name says that they are random (`random`, `fuzz`, `noise`, `arbitrary`, `twin`)
with HOLM_FUZZ_MS and ARBTEST_BUDGET_MS set to their budget. A test that states a budget of
its own and does not read HOLM_FUZZ_MS keeps its own. A failure prints a seed; keep it.
";

/// Parts of the names of tests that take a budget.
const RANDOM: &[&str] = &["random", "fuzz", "noise", "arbitrary", "twin"];

/// What was asked for.
#[derive(Debug, PartialEq, Eq)]
struct Request {
    minutes: u64,
    filter: Option<String>,
}

/// Runs the random tests and closes with their count.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let request = parse(arguments)?;
    let budget = (request.minutes * 60_000).to_string();
    let mut tally = Tally::default();
    tally.step("fuzz", || {
        let mut command = cargo(&["test", "--workspace", "--exclude", "holm-process-tests"]);
        command.env("HOLM_FUZZ_MS", &budget);
        command.env("ARBTEST_BUDGET_MS", &budget).arg("--");
        match &request.filter {
            Some(name) => command.arg(name),
            None => command.args(RANDOM),
        };
        tests(&mut command)
    });
    tally.close()
}

fn parse(arguments: &[String]) -> Result<Request> {
    let mut request = Request {
        minutes: 1,
        filter: None,
    };
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        if word == "--minutes" {
            let minutes = words.next().context("--minutes needs a number")?;
            request.minutes = minutes.parse().context("--minutes needs a number")?;
        } else if word.starts_with('-') {
            bail!("fuzz knows no {word}");
        } else {
            request.filter = Some(word.clone());
        }
    }
    Ok(request)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_and_a_name_may_come_in_any_order() {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let wanted = Request {
            minutes: 3,
            filter: Some("frame".to_owned()),
        };
        assert_eq!(parse(&words("--minutes 3 frame")).unwrap(), wanted);
        assert_eq!(parse(&words("frame --minutes 3")).unwrap(), wanted);
        assert!(parse(&words("--hours 3")).is_err());
    }
}
