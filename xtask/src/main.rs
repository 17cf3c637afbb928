//! The commands of the project: `cargo xtask check`, `test`, `ci` and their kin.
//!
//! CI holds no logic of its own: whatever it runs, a person runs here under the same name.
//! `check`, `test`, `ci`, `promises` and `stats` never write into the tree; `fix` and `bless`
//! exist to write. Plain `cargo` always works beside them.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command line speaks through its output"
)]

mod bench;
mod bless;
mod check;
mod ci;
mod fuzz;
mod packages;
mod peers;
mod process;
mod promises;
mod sim;
mod stats;
mod tally;
mod test;
mod tidy;
mod tree;

use std::process::ExitCode;

use anyhow::{Result, bail};

/// One command: its name, what a list of commands says of it, its page, its work.
struct Command {
    name: &'static str,
    summary: &'static str,
    page: &'static str,
    run: fn(&[String]) -> Result<()>,
}

const COMMANDS: &[Command] = &[
    Command {
        name: "check",
        summary: "formatting, clippy and the rules of the tree; never writes",
        page: check::PAGE,
        run: check::run,
    },
    Command {
        name: "test",
        summary: "every test that needs no other process, and the doctests",
        page: test::PAGE,
        run: test::run,
    },
    Command {
        name: "ci",
        summary: "all that CI runs: check, test, real processes, documentation",
        page: ci::PAGE,
        run: ci::run,
    },
    Command {
        name: "fix",
        summary: "formats, and lets clippy mend what it can; writes",
        page: check::FIX_PAGE,
        run: check::fix,
    },
    Command {
        name: "bless",
        summary: "renews goldens, generated code and generated tables; writes",
        page: bless::PAGE,
        run: bless::run,
    },
    Command {
        name: "bench",
        summary: "a figure as a ratio against a peer in the same run",
        page: bench::PAGE,
        run: bench::run,
    },
    Command {
        name: "promises",
        summary: "which figures of PROMISES.md are held, and which pend",
        page: promises::PAGE,
        run: promises::run,
    },
    Command {
        name: "stats",
        summary: "sizes of files and functions, against the ratchet",
        page: stats::PAGE,
        run: stats::run,
    },
    Command {
        name: "sim",
        summary: "the shipped scenarios, and the mutants that they must find",
        page: sim::PAGE,
        run: sim::run,
    },
    Command {
        name: "fuzz",
        summary: "the random tests with a larger budget",
        page: fuzz::PAGE,
        run: fuzz::run,
    },
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match dispatch(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            if !error.is::<tally::SaidAlready>() {
                eprintln!("error: {error:#}");
            }
            ExitCode::FAILURE
        }
    }
}

fn dispatch(arguments: &[String]) -> Result<()> {
    let Some((name, rest)) = arguments.split_first() else {
        print!("{}", overview());
        return Ok(());
    };
    if name == "help" || is_help(name) {
        return explain(rest.first().map(String::as_str));
    }
    let Some(command) = COMMANDS.iter().find(|command| command.name == name) else {
        bail!("there is no command `{name}`; `cargo xtask --help` lists them");
    };
    if rest.iter().any(|argument| is_help(argument)) {
        return explain(Some(name));
    }
    std::env::set_current_dir(tree::root()?)?;
    (command.run)(rest)
}

fn is_help(argument: &str) -> bool {
    matches!(argument, "--help" | "-h")
}

fn explain(name: Option<&str>) -> Result<()> {
    let Some(name) = name else {
        print!("{}", overview());
        return Ok(());
    };
    match COMMANDS.iter().find(|command| command.name == name) {
        Some(command) => {
            println!(
                "cargo xtask {}: {}\n{}",
                name, command.summary, command.page
            );
            Ok(())
        }
        None => bail!("there is no command `{name}`; `cargo xtask --help` lists them"),
    }
}

fn overview() -> String {
    let mut text =
        "The commands of the project. `cargo xtask COMMAND --help` tells more.\n\n".to_owned();
    for command in COMMANDS {
        text.push_str(&format!("  {:<10}{}\n", command.name, command.summary));
    }
    text.push_str(
        "\nWhile working: `cargo xtask check`, and the tests of the crate at hand with\n\
         `cargo test -p CRATE`. Before handing over: `cargo xtask ci`.\n",
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_page_and_a_place_in_the_overview() {
        let overview = overview();
        for command in COMMANDS {
            assert!(
                !command.page.trim().is_empty(),
                "{} has no page",
                command.name
            );
            assert!(overview.contains(command.summary));
        }
    }

    #[test]
    fn an_unknown_command_is_refused_by_name() {
        let error = dispatch(&["polish".to_owned()]).expect_err("there is no such command");
        assert!(error.to_string().contains("polish"), "{error}");
    }
}
