//! Figures of streams: records a second through the engine, for the queries of LightSaber's
//! paper, and the figures that LightSaber itself reached on a machine of this class.
//!
//! *Rows in*: records of fixed width lie one behind the other in memory, and are taken apart into
//! lanes within the clock. *Columns in*: lanes are there, and keys are coded within the clock.
//! Neither is quoted for the other. Runs are on one thread, from DRAM, but for *two threads*: one
//! takes records apart and one runs the query. Each prints how many bytes a record is, how many
//! bytes a second that makes, and what part of the memory's measured bandwidth that is.

#![forbid(unsafe_code)]

mod case;
mod data;
mod differential;
mod files;
mod measure;
mod once;
mod paced;
mod peers;
mod priorities;
mod row_engine;
mod sharing;
mod sizes;

use std::io::Write as _;
use std::process::ExitCode;

use measure::{Asked, Once, Only, bandwidth, measure};

/// As the binary has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const PAGE: &str = "
  cargo xtask bench streams                     every query
  cargo xtask bench streams CM1 YSB             some of them
  cargo xtask bench streams --rows 4000000 --rounds 5
  cargo xtask bench streams --only sharing      ten queries together, and each alone
  cargo xtask bench streams --only priorities   a live query beside one that reads all it can
  cargo xtask bench streams --only row-engine   beside an engine of our own that takes a row at a time
  cargo xtask bench streams --only sizes        windows of eight sizes together, and two stacks for each
  cargo xtask bench streams --only slides       sums of integers, a slide of 64, beside scalar two stacks
  cargo xtask bench streams --only latency      ten million records a second, 50 us of linger
  cargo xtask bench streams --best              the best of rounds, not their median
  cargo xtask bench streams --peers             beside DuckDB and DataFusion, where they are installed
  cargo xtask bench streams --differential duckdb  random queries, whose rows are compared; or flink
  cargo xtask bench streams --files             one file in, rows out, beside Flink and DuckDB
  cargo xtask bench streams --once              exactly once beside none, and how long it takes to come back
  cargo xtask bench streams --once CM1 YSB --seconds 5 --rounds 3 --kills 20

Prints medians of rounds that take turns, or the best of them: rows in, columns in.
";

fn asked() -> Result<Asked, String> {
    let mut asked = Asked {
        rows: 4_000_000,
        rounds: 3,
        is_best: false,
        only: None,
        once: None,
        names: Vec::new(),
    };
    let mut once = Once {
        seconds: 3,
        kills: 10,
        child: None,
    };
    let mut is_once = false;
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut number = || words.next().and_then(|text| text.parse::<u64>().ok());
        match word.as_str() {
            "--rows" => asked.rows = count(number()).ok_or("--rows N")?,
            "--rounds" => asked.rounds = count(number()).ok_or("--rounds N")?,
            "--only" => asked.only = Some(only(words.next().as_deref())?),
            "--best" => asked.is_best = true,
            "--once" => is_once = true,
            "--seconds" => once.seconds = number().ok_or("--seconds N")?,
            "--kills" => once.kills = number().ok_or("--kills N")?,
            // How a process that is to be killed is told what it is.
            "--in" => {
                let folder = words.next().ok_or("--in FOLDER RATE")?;
                let rate = words.next().and_then(|text| text.parse().ok());
                once.child = Some((folder, rate.ok_or("--in FOLDER RATE")?));
            }
            name if case::all().any(|case| case.name == name) => asked.names.push(word),
            other => return Err(format!("{other} is no query here{PAGE}")),
        }
    }
    asked.once = is_once.then_some(once);
    if asked.rounds == 0 || asked.rows < 100_000 {
        return Err("at least one round of 100,000 rows".to_owned());
    }
    Ok(asked)
}

fn count(number: Option<u64>) -> Option<usize> {
    number.and_then(|number| usize::try_from(number).ok())
}

fn only(word: Option<&str>) -> Result<Only, String> {
    match word {
        Some("sharing") => Ok(Only::Sharing),
        Some("priorities") => Ok(Only::Priorities),
        Some("row-engine") => Ok(Only::RowEngine),
        Some("sizes") => Ok(Only::Sizes),
        Some("slides") => Ok(Only::Slides),
        Some("latency") => Ok(Only::Latency),
        Some(_) | None => Err(format!("--only one of those that follow{PAGE}")),
    }
}

/// Says what is wrong with the command line.
fn refuse(text: &str) -> ExitCode {
    drop(writeln!(std::io::stderr(), "{text}"));
    ExitCode::from(2)
}

fn main() -> ExitCode {
    if std::env::args().any(|word| word == "--peers") {
        return peers::main();
    }
    if std::env::args().any(|word| word == "--files") {
        return files::main();
    }
    if std::env::args().any(|word| word == "--differential") {
        return differential::main();
    }
    let mut out = std::io::stdout().lock();
    let asked = match asked() {
        Ok(asked) => asked,
        Err(text) => return refuse(&text),
    };
    if let Some(once) = &asked.once {
        return once::main(&asked, once);
    }
    if let Some(only) = asked.only {
        let text = match only {
            Only::Sharing => sharing::measure(&asked),
            Only::Priorities => priorities::measure(&asked),
            Only::RowEngine => row_engine::measure(&asked),
            Only::Sizes => sizes::sizes(&asked),
            Only::Slides => sizes::slides(&asked),
            Only::Latency => paced::measure(&asked),
        };
        drop(write!(out, "{text}"));
        return ExitCode::SUCCESS;
    }
    let memory = bandwidth();
    let head = format!(
        "one thread reads {:.1} GB/s from DRAM; {} records, {} of {}\n\n\
         |query|row B|rows in, M/s|GB/s|of memory|two threads, M/s|columns B|columns in, M/s|GB/s|of memory|LightSaber, M/s|rows x|two x|columns x|rows out|digest|\n\
         |--|--|--|--|--|--|--|--|--|--|--|--|--|--|--|--|",
        memory / 1e9,
        asked.rows,
        if asked.is_best { "the best" } else { "medians" },
        asked.rounds
    );
    if writeln!(out, "{head}").is_err() {
        return ExitCode::SUCCESS;
    }
    for case in case::all() {
        if !asked.names.is_empty() && !asked.names.iter().any(|name| name == case.name) {
            continue;
        }
        let line = measure(case, &asked, memory);
        if writeln!(out, "{line}").is_err() {
            return ExitCode::SUCCESS;
        }
    }
    ExitCode::SUCCESS
}
