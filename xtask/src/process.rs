//! Runs other programs: shown as they speak, and read for the counts of a test run.

use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;

use anyhow::{Context, Result, bail};

use crate::tally::Counts;

/// How a test begins a line that says what it could not test, and why.
const NOT_TESTED: &str = "not tested: ";

/// The cargo that runs us, so that a toolchain override holds for what we start too.
pub(crate) fn cargo(arguments: &[&str]) -> Command {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(arguments).env("CARGO_TERM_COLOR", "never");
    command
}

/// The formatter of the toolchain that runs us, for one file.
pub(crate) fn formatter() -> Command {
    let mut command = Command::new("rustfmt");
    command.args(["--edition", "2024"]);
    command
}

/// Runs a program to its end; an error says which one failed.
pub(crate) fn must(command: &mut Command) -> Result<()> {
    let words = describe(command);
    println!("$ {words}");
    let status = command.status().with_context(|| format!("start {words}"))?;
    if !status.success() {
        bail!("`{words}` failed ({status})");
    }
    Ok(())
}

/// Runs a program to its end and gives what it printed, or an error with what it complained of.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let words = describe(command);
    let output = command.output().with_context(|| format!("start {words}"))?;
    if !output.status.success() {
        let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
        bail!("`{words}` failed ({}): {}", output.status, complaint.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs tests, shows their output line by line, and counts what passed and failed.
///
/// A run that fails without naming a failed test (it did not compile, say) counts one failure.
pub(crate) fn tests(command: &mut Command) -> Result<Counts> {
    let words = describe(command);
    println!("$ {words}");
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("start {words}"))?;
    let errors = child
        .stderr
        .take()
        .context("the child's stderr is a pipe")?;
    let beside = thread::spawn(move || show(errors));
    let lines = child
        .stdout
        .take()
        .context("the child's stdout is a pipe")?;
    let counted = show(lines);
    let Ok(counted_beside) = beside.join() else {
        bail!("the reader of `{words}` panicked");
    };
    let status = child.wait().with_context(|| format!("wait for {words}"))?;
    let counts = counted.and(counted_beside);
    if !status.success() && counts.failed == 0 {
        println!("`{words}` failed ({status})");
        return Ok(counts.and(Counts::FAILED));
    }
    Ok(counts)
}

fn show(stream: impl Read) -> Counts {
    let mut sum = Counts {
        passed: 0,
        failed: 0,
        untested: 0,
    };
    let mut lines = BufReader::new(stream);
    let mut line = Vec::new();
    while let Ok(1..) = lines.read_until(b'\n', &mut line) {
        let text = String::from_utf8_lossy(&line);
        print!("{text}");
        sum = sum.and(count(&text));
        sum.untested += u64::from(text.trim_start().starts_with(NOT_TESTED));
        line.clear();
    }
    sum
}

/// Reads the closing line of cargo's or nextest's test run.
fn count(line: &str) -> Counts {
    // What nextest shows of a test's own output is indented, and would be counted again.
    let summary = line.strip_prefix("test result: ").or_else(|| {
        let line = line.trim();
        line.strip_prefix("Summary [")
            .and_then(|rest| rest.split_once("tests run: "))
            .map(|(_, rest)| rest)
    });
    let Some(summary) = summary else {
        return Counts {
            passed: 0,
            failed: 0,
            untested: 0,
        };
    };
    Counts {
        passed: number_before(summary, " passed"),
        failed: number_before(summary, " failed") + number_before(summary, " timed out"),
        untested: 0,
    }
}

fn number_before(text: &str, word: &str) -> u64 {
    let Some((before, _)) = text.split_once(word) else {
        return 0;
    };
    let digits = before
        .rsplit(|letter: char| !letter.is_ascii_digit())
        .next();
    digits.and_then(|digits| digits.parse().ok()).unwrap_or(0)
}

/// The command as one would type it.
fn describe(command: &Command) -> String {
    let program = PathBuf::from(command.get_program());
    let name = program.file_name().unwrap_or_else(|| command.get_program());
    let mut words = vec![name.to_string_lossy().into_owned()];
    words.extend(
        command
            .get_args()
            .map(|word| word.to_string_lossy().into_owned()),
    );
    words.join(" ")
}

/// Where a program of that name lies on the search path.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_closing_lines_of_both_runners_are_counted() {
        let cargo =
            "test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out";
        assert_eq!(
            count(cargo),
            Counts {
                passed: 3,
                failed: 2,
                untested: 0,
            }
        );
        assert_eq!(count(&format!("    {cargo}")), count("anything"));
        let nextest =
            "     Summary [   0.034s] 15 tests run: 14 passed (1 slow), 1 failed, 0 skipped";
        assert_eq!(
            count(nextest),
            Counts {
                passed: 14,
                failed: 1,
                untested: 0,
            }
        );
        assert_eq!(
            count("test wal::a ... ok"),
            Counts {
                passed: 0,
                failed: 0,
                untested: 0,
            }
        );
    }

    #[test]
    fn a_test_that_could_not_test_is_no_passed_one() {
        let said = "test a ... \nnot tested: no rights\nok\n\ntest result: ok. 2 passed; 0 failed; 0 ignored\n";
        let counts = tests(Command::new("printf").arg(said)).unwrap();
        assert_eq!((counts.passed, counts.untested), (2, 1));
    }

    #[test]
    fn a_run_that_dies_without_a_word_counts_as_a_failure() {
        let counts = tests(Command::new("sh").args(["-c", "exit 3"])).unwrap();
        assert_eq!(counts, Counts::FAILED);
    }
}
