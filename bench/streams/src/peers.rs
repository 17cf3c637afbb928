//! The engine beside others that are installed: the same columns in memory, runs that take turns,
//! and answers that are compared.
//!
//! Peers are reached through Python: `HOLM_PYTHON` names one that can import `duckdb`,
//! `datafusion`, `pyarrow` and `numpy`; else it is the one on the search path. Peers run on one
//! thread, as ours does, and on two. Where a query hops, peers are given the way that costs them
//! least: sums by second, then a frame over those. What neither can be asked without a rewrite
//! that would be slow (CM2, SG2, LRB, NBQ5) is not asked.
//!
//! Windows that begin before the first record or end behind the last one are left out of what is
//! compared; sums of floats may differ by a part in 10^9, for peers add in another order.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitCode, Stdio};

use holm_lanes::{Batch, Narrow, Values};
use holm_sql::Planned;

use crate::case::{self, Case};
use crate::data::{self, BATCH};
use crate::measure::{columns_in, finish, middle, planned, real, run_of};

const SCRIPT: &str = include_str!("peers.py");
const PAGE: &str = "
  cargo xtask bench streams --peers                     SUMS, CM1, SG1, ME1, YSB and KEYS
  cargo xtask bench streams --peers YSB --rows 4000000 --rounds 5

Peers come from PyPI: python3 -m venv V, V/bin/pip install duckdb datafusion pyarrow numpy, and
HOLM_PYTHON=V/bin/python.
";
/// Queries, how many of the first columns of their rows are keys, and how long their windows are
/// in microseconds.
const ASKED: &[(&str, usize, i64)] = &[
    ("SUMS", 2, 1_000_000),
    ("CM1", 2, 60_000_000),
    ("SG1", 1, 3_600_000_000),
    ("ME1", 1, 60_000_000),
    ("YSB", 2, 10_000_000),
    ("KEYS", 1, 0),
];

/// What peers are asked, and with how much.
pub(crate) struct Asked {
    pub(crate) rows: usize,
    pub(crate) rounds: usize,
    pub(crate) names: Vec<String>,
}

/// The words behind `flag`: how much, if it is not as `usual`, and queries that are `known`.
pub(crate) fn asked(
    flag: &str,
    usual: (usize, usize),
    known: impl Fn(&str) -> bool,
    page: &str,
) -> Result<Asked, String> {
    let mut asked = Asked {
        rows: usual.0,
        rounds: usual.1,
        names: Vec::new(),
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut number = || words.next().and_then(|text| text.parse().ok());
        match word.as_str() {
            "--rows" => asked.rows = number().filter(|it| *it > 0).ok_or("--rows N")?,
            "--rounds" => asked.rounds = number().filter(|it| *it > 0).ok_or("--rounds N")?,
            name if known(name) => asked.names.push(word),
            other if other == flag => {}
            other => return Err(format!("{other} is nothing that peers are asked{page}")),
        }
    }
    Ok(asked)
}

/// Python with a query's rows.
pub(crate) struct Peers {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

impl Peers {
    /// Starts a program with its arguments.
    pub(crate) fn start(script: &str, words: &[&OsStr]) -> Result<Self, String> {
        let python = std::env::var("HOLM_PYTHON").unwrap_or_else(|_unset| "python3".to_owned());
        let mut command = Command::new(&python);
        command.args(["-u", "-c", script]).args(words);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command
            .spawn()
            .map_err(|error| format!("{python}: {error}{PAGE}"))?;
        let to = child.stdin.take().expect("it is piped");
        let from = BufReader::new(child.stdout.take().expect("it is piped"));
        Ok(Self { child, to, from })
    }

    pub(crate) fn ask(&mut self, command: &str) -> Result<String, String> {
        let gone = |what: String| format!("{command}: {what}{PAGE}");
        writeln!(self.to, "{command}").map_err(|error| gone(error.to_string()))?;
        let mut line = String::new();
        let read = self.from.read_line(&mut line);
        read.map_err(|error| gone(error.to_string()))?;
        if line.is_empty() {
            return Err(gone("the peers' program has ended".to_owned()));
        }
        Ok(line.trim().to_owned())
    }

    fn seconds(&mut self, engine: &str, threads: usize) -> Result<f64, String> {
        let said = self.ask(&format!("run {engine} {threads}"))?;
        said.parse().map_err(|_odd| format!("{engine} said {said}"))
    }
}

impl Drop for Peers {
    fn drop(&mut self) {
        // It is ours, and has nothing that it must keep.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn write<T: Copy, const N: usize>(values: &[T], bytes: fn(T) -> [u8; N], out: &mut Vec<u8>) {
    values
        .iter()
        .for_each(|value| out.extend_from_slice(&bytes(*value)));
}

/// Writes each column that is read as a file; their names.
fn write_columns<'a>(
    planned: &'a Planned,
    columns: &[Batch],
    folder: &Path,
) -> Result<Vec<&'a str>, String> {
    let fields = &planned.plan.sources[0].fields;
    let mut names = Vec::new();
    for (at, field) in fields.iter().enumerate() {
        if !planned.needed[0][at] {
            continue;
        }
        let mut bytes = Vec::new();
        for batch in columns {
            let lane = &batch.lanes[at];
            match (lane.narrow_values(), lane) {
                (Some(Narrow::Ints(values)), _) => write(values, |it| it.to_le_bytes(), &mut bytes),
                // Peers are given doubles, as the query says.
                (_, lane) => match lane.values() {
                    Values::Int(values) => write(values, |it| it.to_le_bytes(), &mut bytes),
                    Values::Real(values) => write(values, |it| it.to_le_bytes(), &mut bytes),
                    other => panic!("no column here has {} of these", other.len()),
                },
            }
        }
        let path = folder.join(&field.name);
        std::fs::write(&path, bytes).map_err(|error| format!("{}: {error}", path.display()))?;
        names.push(field.name.as_str());
    }
    Ok(names)
}

/// Rows as doubles, in the order of their keys.
pub(crate) type Rows = Vec<Vec<f64>>;

pub(crate) fn ours(case: &Case, planned: &Planned, columns: &[Batch]) -> Rows {
    let mut run = run_of(case, planned);
    let mut rows = Rows::new();
    let mut note = |out: &Batch| {
        for row in 0..out.rows {
            let value = |lane: &std::sync::Arc<holm_lanes::Lane>| match lane.values() {
                Values::Int(values) => double(values[row]),
                Values::Real(values) => values[row],
                other => panic!("no query here gives {} of these", other.len()),
            };
            rows.push(out.lanes.iter().map(value).collect());
        }
    };
    for (at, batch) in columns.iter().enumerate() {
        let batch = data::numbered(batch.clone(), at * BATCH);
        note(&run.push(0, batch).expect("it holds what it must"));
    }
    finish(case, &mut run).iter().for_each(note);
    rows
}

/// Times and counts here are far below 2^53.
#[expect(clippy::cast_precision_loss, reason = "it is lossless here")]
const fn double(value: i64) -> f64 {
    value as f64
}

pub(crate) fn theirs(path: &Path, count: usize) -> Result<Rows, String> {
    let bytes = std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let (words, _) = bytes.as_chunks::<8>();
    let values: Vec<f64> = words.iter().map(|word| f64::from_le_bytes(*word)).collect();
    let width = values.len() / count.max(1);
    Ok(values.chunks(width.max(1)).map(<[f64]>::to_vec).collect())
}

/// Rows of windows that lie within the input, in order.
pub(crate) fn whole(mut rows: Rows, (keys, size): (usize, i64), (first, last): (i64, i64)) -> Rows {
    if size > 0 {
        rows.retain(|row| row[0] >= double(first) && row[0] + double(size) <= double(last));
    }
    rows.sort_by(|a, b| {
        let keys = a[..keys].iter().zip(&b[..keys]);
        keys.map(|(a, b)| a.total_cmp(b))
            .find(|order| order.is_ne())
            .unwrap_or(std::cmp::Ordering::Equal)
    });
    rows
}

/// What differs, if anything does.
pub(crate) fn difference(ours: &Rows, theirs: &Rows) -> Option<String> {
    const PART: f64 = 1e-9;
    if ours.len() != theirs.len() {
        return Some(format!("{} rows, and ours {}", theirs.len(), ours.len()));
    }
    let is_near = |(a, b): (&f64, &f64)| (a - b).abs() <= PART * a.abs().max(b.abs());
    let mut pairs = ours.iter().zip(theirs);
    let differ =
        |(a, b): &(&Vec<f64>, &Vec<f64>)| a.len() != b.len() || !a.iter().zip(*b).all(is_near);
    let (a, b) = pairs.find(differ)?;
    Some(format!("{b:?}, and ours {a:?}"))
}

/// A query's lines: one for each engine.
fn compare(name: &str, (keys, size): (usize, i64), asked: &Asked) -> Result<String, String> {
    let case = case::all().find(|case| case.name == name);
    let case = case.expect("it is one of them");
    let planned = planned(case);
    let made = data::rows(case, asked.rows);
    let columns = data::columns_read(case, &planned.needed[0], &made);
    drop(made);
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let names = write_columns(&planned, &columns, folder.path())?;
    let names = names.join(",");
    let words = [
        folder.path().as_os_str(),
        case.name.as_ref(),
        names.as_ref(),
    ];
    let mut peers = Peers::start(SCRIPT, &words)?;
    let known = peers.ask("peers")?;
    let known: Vec<&str> = known.split(' ').collect();
    let ends = || columns.iter().filter_map(|batch| batch.lanes[0].ints());
    let first = ends().find_map(|times| times.first().copied());
    let last = ends().filter_map(|times| times.last().copied()).next_back();
    let span = (first.unwrap_or(0), last.unwrap_or(0));
    let right = whole(ours(case, &planned, &columns), (keys, size), span);
    let path = folder.path().join("answer");
    for engine in known.chunks(2) {
        let count = peers.ask(&format!("answer {} {}", engine[0], path.display()))?;
        let count = count
            .parse()
            .map_err(|_odd| format!("{} said {count}", engine[0]))?;
        let rows = whole(theirs(&path, count)?, (keys, size), span);
        if let Some(what) = difference(&right, &rows) {
            return Err(format!("{name}: {} answers otherwise: {what}", engine[0]));
        }
    }
    let ways: Vec<(&[&str], usize)> = known
        .chunks(2)
        .flat_map(|engine| [(engine, 1), (engine, 2)])
        .collect();
    let mut own = Vec::new();
    let mut times = vec![Vec::new(); ways.len()];
    for _ in 0..asked.rounds {
        own.push(columns_in(case, &planned, &columns).0);
        for ((engine, threads), times) in ways.iter().zip(&mut times) {
            times.push(peers.seconds(engine[0], *threads)?);
        }
    }
    let rate = |seconds: f64| real(asked.rows) / seconds / 1e6;
    let own = rate(middle(own, false));
    let mut text = String::new();
    for ((engine, threads), times) in ways.iter().zip(times) {
        let theirs = rate(middle(times, false));
        let (ratio, rows) = (own / theirs, right.len());
        let engine = engine.join(" ");
        writeln!(
            text,
            "|{name}|{own:.1}|{engine}|{threads}|{theirs:.1}|{ratio:.2}|{rows}|"
        )
        .expect("a string takes all");
    }
    Ok(text)
}

/// Prints the table.
pub(crate) fn main() -> ExitCode {
    let known = |name: &str| ASKED.iter().any(|(known, ..)| *known == name);
    let asked = match asked("--peers", (4_000_000, 5), known, PAGE) {
        Ok(asked) => asked,
        Err(text) => return crate::refuse(&text),
    };
    let mut out = std::io::stdout().lock();
    let head = format!(
        "columns in, {} records in memory, medians of {} rounds that take turns; ours on one thread\n\n\
         |query|Holm, M/s|peer|its threads|peer, M/s|ratio|equal rows|\n|--|--|--|--|--|--|--|",
        asked.rows, asked.rounds
    );
    if writeln!(out, "{head}").is_err() {
        return ExitCode::SUCCESS;
    }
    for (name, keys, size) in ASKED {
        if !asked.names.is_empty() && !asked.names.iter().any(|it| it == name) {
            continue;
        }
        match compare(name, (*keys, *size), &asked) {
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
