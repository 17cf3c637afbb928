//! Counts what passed and what failed, and closes a run with one line.
//!
//! A failure never ends the run: who reads the closing line wants to know of all of them.

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::Result;

/// The error of a run whose closing lines have said what failed; they are its last words.
#[derive(Debug)]
pub(crate) struct SaidAlready;

impl fmt::Display for SaidAlready {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("something failed, and the closing lines say what")
    }
}

impl std::error::Error for SaidAlready {}

/// The running count of a command that does many things.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    passed: u64,
    failed: u64,
    broken: Vec<String>,
    untested: Vec<String>,
    times: Vec<(String, Duration)>,
}

impl Tally {
    /// Runs one step under a heading and counts what it reports.
    pub(crate) fn step(&mut self, name: &str, work: impl FnOnce() -> Result<Counts>) {
        println!("\n== {name}");
        let start = Instant::now();
        match work() {
            Ok(counts) => self.add(name, counts),
            Err(error) => {
                eprintln!("{name}: {error:#}");
                self.add(name, Counts::FAILED);
            }
        }
        let took = start.elapsed();
        println!("-- {name}: {:.1} s", took.as_secs_f64());
        self.times.push((name.to_owned(), took));
    }

    fn add(&mut self, name: &str, counts: Counts) {
        self.passed += counts.passed.saturating_sub(counts.untested);
        if counts.untested > 0 {
            let what = format!("{} of {name}, as said above", counts.untested);
            self.untested.push(what);
        }
        self.failed += counts.failed;
        if counts.failed > 0 {
            self.broken.push(name.to_owned());
        }
    }

    /// Notes something that this run did not test; the closing lines repeat it.
    pub(crate) fn untested(&mut self, what: impl Into<String>) {
        let what = what.into();
        println!("not tested: {what}");
        self.untested.push(what);
    }

    /// Prints the closing lines; an error if anything failed.
    pub(crate) fn close(self) -> Result<()> {
        println!();
        for (name, took) in &self.times {
            println!("{:>8.1} s  {name}", took.as_secs_f64());
        }
        for what in &self.untested {
            println!("not tested: {what}");
        }
        for name in &self.broken {
            println!("failed: {name}");
        }
        println!("{} passed, {} failed", self.passed, self.failed);
        if self.failed > 0 {
            return Err(SaidAlready.into());
        }
        Ok(())
    }
}

/// What one step reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    /// Passed to their runner, and said themselves that they could not test anything.
    pub(crate) untested: u64,
}

impl Counts {
    /// One thing, and it holds.
    pub(crate) const PASSED: Self = Self {
        passed: 1,
        failed: 0,
        untested: 0,
    };
    /// One thing, and it does not.
    pub(crate) const FAILED: Self = Self {
        passed: 0,
        failed: 1,
        untested: 0,
    };

    /// The sum of two reports.
    pub(crate) const fn and(self, other: Self) -> Self {
        Self {
            passed: self.passed + other.passed,
            failed: self.failed + other.failed,
            untested: self.untested + other.untested,
        }
    }
}

#[cfg(test)]
mod tests {
    use anyhow::bail;

    use super::*;

    #[test]
    fn a_failed_step_does_not_hide_the_next_but_fails_the_run() {
        let mut tally = Tally::default();
        tally.step("first", || bail!("broken"));
        tally.step("second", || {
            Ok(Counts {
                passed: 3,
                failed: 0,
                untested: 1,
            })
        });
        assert_eq!((tally.passed, tally.failed), (2, 1));
        assert_eq!(tally.untested, ["1 of second, as said above"]);
        assert!(tally.close().is_err());
    }
}
