//! One file in, its rows out: the binary beside Flink and DuckDB, in runs that take turns.
//!
//! Flink reads the file with commas, as the binary does in the same line of the table, and DuckDB the lines of JSON;
//! each writes its rows into a file. The binary's time is that of its process from start to end, and so are those of
//! the others without their start: Flink's clock runs from a job's submission to its end. Of Flink all ways are
//! tried, streaming and batch, with one core and two, and each is a line.
//!
//! Rows are compared as those of `--peers` are.

use std::fmt::Write as _;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use holm_connect::{Format, header, write};

use crate::case::{self, Case};
use crate::data;
use crate::measure::{middle, planned, real};
use crate::peers::{Asked, Peers, asked, difference, theirs, whole};

const SCRIPT: &str = include_str!("file_peers.py");
const PAGE: &str = "
  cargo xtask bench streams --files                     CM1 and YSB, beside Flink and DuckDB
  cargo xtask bench streams --files YSB --rows 4000000 --rounds 3

The binary is the one that HOLM_BIN names, or target/release/holm. Peers come from PyPI: python3 -m venv V,
V/bin/pip install apache-flink duckdb, and HOLM_PYTHON=V/bin/python; Flink wants Java 17.
";
/// Queries, and how long their windows are in microseconds.
const ASKED: &[(&str, i64)] = &[("CM1", 60_000_000), ("YSB", 10_000_000)];

/// The binary that is measured.
pub(crate) fn binary() -> Result<PathBuf, String> {
    let named = std::env::var_os("HOLM_BIN").map(PathBuf::from);
    let built = || Some(std::env::current_exe().ok()?.with_file_name("holm"));
    let found = named.or_else(built).filter(|path| path.is_file());
    found.ok_or_else(|| "there is no binary: cargo build --release -p holm, or HOLM_BIN".to_owned())
}

/// Writes the rows of a case in both formats; first and last time.
fn write_rows(case: &Case, rows: usize, folder: &Path) -> Result<(i64, i64), String> {
    let planned = planned(case);
    let fields = &planned.plan.sources[0].fields;
    let made = data::columns(case, &data::rows(case, rows));
    let mut span = (i64::MAX, i64::MIN);
    for (format, name) in [(Format::Csv, "rows.csv"), (Format::JsonLines, "rows.jsonl")] {
        let mut text = header(format, fields);
        for batch in &made {
            let times = batch.lanes[0].ints().unwrap_or_default();
            span.0 = span.0.min(times.first().copied().unwrap_or(i64::MAX));
            span.1 = span.1.max(times.last().copied().unwrap_or(i64::MIN));
            write(format, fields, batch, &mut text);
        }
        // As all of them understand it: with a blank between day and time.
        let text = text.replace("-05T", "-05 ");
        let path = folder.join(name);
        std::fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    let each = |row: fn(u32) -> String| (0..1_000).map(row).collect::<String>();
    let comma = "ad,campaign\n".to_owned() + &each(|ad| format!("{ad},{}\n", ad % 100));
    let object = |ad: u32| format!("{{\"ad\":{ad},\"campaign\":{}}}\n", ad % 100);
    for (text, name) in [(comma, "ads.csv"), (each(object), "ads.jsonl")] {
        let path = folder.join(name);
        std::fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(span)
}

/// Seconds that the binary takes over a file.
fn ours(binary: &Path, case: &Case, folder: &Path, format: Format) -> Result<f64, String> {
    let (from, ads, word) = match format {
        Format::Csv => ("rows.csv", "ads.csv", "csv"),
        Format::JsonLines | Format::Parquet => ("rows.jsonl", "ads.jsonl", "jsonl"),
    };
    let out = File::create(folder.join("ours.out")).map_err(|error| error.to_string())?;
    let mut command = Command::new(binary);
    command.args(["stream", "run", "--sql", case.sql, "--format", word]);
    let source = &planned(case).plan.sources[0].name;
    let table = |name: &str, file: &str| format!("{name}={}", folder.join(file).display());
    command.arg("--table").arg(table(source, from));
    if case.has_table {
        command.arg("--table").arg(table("campaign", ads));
    }
    command.stdout(out).stderr(Stdio::piped());
    let begun = Instant::now();
    let ended = command.output().map_err(|error| error.to_string())?;
    let seconds = begun.elapsed().as_secs_f64();
    if ended.status.success() {
        return Ok(seconds);
    }
    Err(String::from_utf8_lossy(&ended.stderr).into_owned())
}

fn count(said: &str) -> Result<usize, String> {
    said.parse().map_err(|_odd| format!("it said {said}"))
}

/// The lines of a query.
fn compare(name: &str, size: i64, asked: &Asked, binary: &Path) -> Result<String, String> {
    let case = case::all().find(|case| case.name == name);
    let case = case.expect("it is one of them");
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let span = write_rows(case, asked.rows, folder.path())?;
    let mut peers = Peers::start(SCRIPT, &[folder.path().as_os_str(), name.as_ref()])?;
    let known = peers.ask("peers")?;
    let known: Vec<&str> = known.split(' ').collect();
    let answer = folder.path().join("answer");
    let mut text = String::new();
    for engine in known.chunks(2) {
        let [engine, version] = engine else {
            return Err(format!("no peer can be imported{PAGE}"));
        };
        let format = if *engine == "Flink" {
            Format::Csv
        } else {
            Format::JsonLines
        };
        let ways = peers.ask(&format!("ways {engine}"))?;
        for way in ways.split(' ') {
            let (mut own, mut times) = (Vec::new(), Vec::new());
            for _ in 0..asked.rounds {
                own.push(ours(binary, case, folder.path(), format)?);
                let said = peers.ask(&format!("run {engine} {way}"))?;
                times.push(
                    said.parse()
                        .map_err(|_odd| format!("{engine} said {said}"))?,
                );
            }
            let said = peers.ask(&format!("answer {engine} {}", answer.display()))?;
            let found = whole(theirs(&answer, count(&said)?)?, (2, size), span);
            let out = folder.path().join("ours.out");
            let said = peers.ask(&format!("rows {} {}", out.display(), answer.display()))?;
            let right = whole(theirs(&answer, count(&said)?)?, (2, size), span);
            if let Some(what) = difference(&right, &found) {
                return Err(format!("{name}: {engine} answers otherwise: {what}"));
            }
            let rate = |times| real(asked.rows) / middle(times, false) / 1e6;
            let (own, theirs) = (rate(own), rate(times));
            let (ratio, rows) = (own / theirs, right.len());
            writeln!(
                text,
                "|{name}|{format:?}|{own:.2}|{engine} {version}|{way}|{theirs:.2}|{ratio:.1}|{rows}|"
            )
            .expect("a string takes all");
        }
    }
    Ok(text)
}

/// Prints the table.
pub(crate) fn main() -> ExitCode {
    use std::io::Write as _;
    let known = |name: &str| ASKED.iter().any(|(known, ..)| *known == name);
    let asked = asked("--files", (2_000_000, 3), known, PAGE);
    let (asked, binary) = match asked.and_then(|asked| Ok((asked, binary()?))) {
        Ok(both) => both,
        Err(text) => return crate::refuse(&text),
    };
    let mut out = std::io::stdout().lock();
    let head = format!(
        "one file in, rows in a file out; {} records, medians of {} rounds that take turns\n\n\
         |query|format|Holm, M/s|peer|way|peer, M/s|ratio|equal rows|\n|--|--|--|--|--|--|--|--|",
        asked.rows, asked.rounds
    );
    if writeln!(out, "{head}").is_err() {
        return ExitCode::SUCCESS;
    }
    for (name, size) in ASKED {
        if !asked.names.is_empty() && !asked.names.iter().any(|it| it == name) {
            continue;
        }
        match compare(name, *size, &asked, &binary) {
            Ok(lines) => {
                if write!(out, "{lines}").is_err() {
                    return ExitCode::SUCCESS;
                }
            }
            Err(text) => return crate::refuse(&text),
        }
    }
    ExitCode::SUCCESS
}
