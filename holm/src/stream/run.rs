//! `holm stream run`: a query over input that ends.

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use holm_connect::{Format, Read, View};
use holm_engine::{Counts, Limits, Repeated, Run};
use holm_lanes::Batch;
use serde_json::json;

use super::Ended;
use super::aside::{Aside, OnError, say};
use super::flows::{Flows, Turn, idle_after};
use super::input::Flow;
use super::kept;
use super::live::Live;
use super::named::{Named, Prepared, parse_written};
use super::output::{Into, Output, grouped, parse_into};
use crate::progress::Progress;

pub(crate) const EXAMPLES: &str = "\
Examples:
  holm stream run query.sql < events.jsonl
  holm stream run query.sql --input events.csv --time ts --late 5s
  holm stream run query.sql --input events.parquet                a file's suffix says its format, or --format
  holm stream run query.sql --table task=events.jsonl --into file:out.jsonl
  holm stream run query.sql --live < events.jsonl                 open windows too, dimmed
  tail -f events.jsonl | holm stream run query.sql --page 127.0.0.1:8080
  holm stream run query.sql --input events.jsonl --into file:out.jsonl --state run.state
  holm stream run --sql 'SELECT category, COUNT(*) AS n FROM stdin GROUP BY category' < events.jsonl

Rows go to standard output as JSON lines; what is to be known besides goes to standard error. A row without a value
where it needs one is diverted and counted, as is a row that comes after its windows closed.
With --state a run that was ended goes on where it was, whatever ended it; a file that it writes then holds each row
once. Exit codes: 0 complete; 1 input or output failed; 2 refused; 3 rows late or diverted (--strict).";

/// What the command line says.
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
#[derive(Debug, Args)]
pub(crate) struct Asked {
    #[command(flatten)]
    pub(super) named: Named,
    /// Where rows go: stdout or file:PATH; else where INSERT INTO says
    #[arg(long, value_name = "SINK", value_parser = parse_into)]
    into: Option<Into>,
    /// How rows are written: jsonl or csv
    #[arg(long, value_name = "FORMAT", value_parser = parse_written)]
    into_format: Option<Format>,
    /// What becomes of a row without a value
    #[arg(long, value_name = "WHAT", default_value = "divert")]
    pub(super) on_error: OnError,
    /// Write rows that were diverted, and late ones of tables with 'late'='side', into this file
    #[arg(long, value_name = "FILE")]
    pub(super) diverted: Option<PathBuf>,
    /// End with 3 if a row was late or diverted
    #[arg(long)]
    strict: bool,
    /// Draw the latest rows on the terminal, and open windows dimmed
    #[arg(long)]
    live: bool,
    /// Show a page with charts at this loopback address while it runs
    #[arg(long, value_name = "ADDRESS")]
    page: Option<std::net::SocketAddr>,
    /// Keep what is needed to go on after a crash in this folder: each row is answered exactly once
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// Wait for more rows at the end of a file; with --state
    #[arg(long, requires = "state")]
    pub(super) follow: bool,
    /// Print the closing line as JSON
    #[arg(long)]
    json: bool,
}

/// Runs the query to the end of its input.
pub(crate) fn run(asked: &Asked) -> Result<u8, Ended> {
    if asked.named.is_explained()? {
        return super::explain::print(&asked.named);
    }
    if let Some(state) = &asked.state {
        return kept::run(asked, state);
    }
    let begun = Instant::now();
    let Prepared {
        planned,
        inputs,
        tables,
        notes,
    } = asked.named.prepare()?;
    notes.iter().for_each(|note| say(note));
    let (into, format) = sink(asked, planned.into.as_ref())?;
    let mut aside = Aside::open(asked.diverted.as_deref(), asked.on_error, false)?;
    let mut held = Vec::new();
    for (input, (_, fields)) in tables.into_iter().zip(&planned.tables) {
        let flow = input.start(fields, &vec![true; fields.len()])?;
        held.push(whole(flow, &mut aside)?);
    }
    let (mut flows, mut idle) = (Vec::new(), Vec::new());
    for (number, input) in inputs.into_iter().enumerate() {
        idle.push(idle_after(planned.idle[number], input.is_whole()));
        let fields = &planned.plan.sources[number].fields;
        flows.push(input.start(fields, &planned.needed[number])?);
    }
    let mut output = Output::open(&into, format, &planned.plan.fields)?;
    let mut run = Run::new(&planned.plan, Limits::default(), held);
    let mut live = asked.watch(&planned.plan.fields)?;
    let is_drawn = live.as_ref().is_some_and(Live::is_drawn);
    let is_printed = !is_drawn || into != Into::Stdout || !std::io::stdout().is_terminal();
    let mut progress = Progress::new();
    let mut budget = Budget::new();
    let names: Vec<String> = flows.iter().map(|flow| flow.name.clone()).collect();
    let mut flows = Flows::new(flows, idle);
    while let Some((source, turn)) = flows.next(&run)? {
        let mut began = None;
        let out = match turn {
            Turn::Rows(read) => {
                let batch = admit(read, &names[source], &mut aside)?;
                began = Some(Instant::now());
                run.push(source, batch)
            }
            Turn::End => run.end(source),
            Turn::Idle => run.idle(source),
        };
        let out = out.map_err(|full| Ended::Failed(full.to_string()))?;
        budget.look(&run)?;
        tell(&mut run, &names, &mut aside)?;
        if out.rows > 0 && is_printed {
            output.rows(&out)?;
        }
        if let Some(live) = &mut live {
            let took = began.map_or(Duration::ZERO, |began: Instant| began.elapsed());
            live.step(&run, &out, (aside.bad, took));
        }
        if !is_drawn {
            progress.show(&format!("{} rows in", grouped(run.counts().rows)));
        }
    }
    drop(progress);
    if let Some(live) = &mut live {
        live.end(&run, aside.bad);
    }
    Ok(close(asked, &run, &aside, begun))
}

impl Asked {
    /// What the run is watched with, if anybody asks for it.
    fn watch(&self, fields: &[holm_lanes::Field]) -> Result<Option<Live>, Ended> {
        let view = View::new(&self.named.title(), &self.named.text()?, fields);
        Live::open(self.live, self.page, view)
    }
}

/// What a run may keep in memory; it is measured now and then, for that looks at all of it.
struct Budget {
    limit: usize,
    looked_at: Instant,
}

impl Budget {
    const EVERY: Duration = Duration::from_millis(250);

    fn new() -> Self {
        Self {
            limit: holm_serve::state_bytes_max(),
            looked_at: Instant::now(),
        }
    }

    fn look(&mut self, run: &Run) -> Result<(), Ended> {
        if self.looked_at.elapsed() < Self::EVERY {
            return Ok(());
        }
        let kept = holm_runner::within(run.gauge().bytes, self.limit);
        // Measuring takes its time where there is much.
        self.looked_at = Instant::now();
        kept.map_err(|error| Ended::Failed(error.to_string()))
    }
}

/// The rows of a piece, after those that are none were set aside.
pub(super) fn admit(read: Read, name: &str, aside: &mut Aside) -> Result<Batch, Ended> {
    for bad in &read.bad {
        aside.bad += 1;
        aside.divert(name, Some(bad.line), &bad.to_string())?;
    }
    Ok(read.batch)
}

/// All rows of a table.
pub(super) fn whole(mut flow: Flow, aside: &mut Aside) -> Result<Batch, Ended> {
    let name = flow.name.clone();
    let mut whole: Option<Batch> = None;
    while let Some(read) = flow.read()? {
        let batch = admit(read, &name, aside)?;
        whole = Some(match whole {
            None => batch,
            Some(before) => before.and(&batch),
        });
    }
    whole.ok_or_else(|| Ended::Failed(format!("{name} is empty, and rows are enriched from it")))
}

/// Sets aside what the engine could not use.
fn tell(run: &mut Run, names: &[String], aside: &mut Aside) -> Result<(), Ended> {
    let report = run.report();
    for diverted in report.diverted {
        let (place, line) = match diverted.line {
            Some((source, line)) => (names[source].as_str(), Some(line)),
            None => ("a result", None),
        };
        aside.divert(place, line, &diverted.fault.to_string())?;
    }
    for late in report.late {
        let name = &names[late.source];
        aside
            .keep(&json!({ "table": format!("{name}$late"), "place": name, "line": late.line }))?;
    }
    Ok(())
}

/// Where rows go: where the command line says, else where the INSERT does.
pub(super) fn sink(
    asked: &Asked,
    table: Option<&holm_sql::Table>,
) -> Result<(Into, Format), Ended> {
    let option = |name: &str| table.and_then(|table| table.options.get(name));
    let format = match (asked.into_format, option("format")) {
        (Some(format), _) => format,
        (None, Some(format)) => parse_written(format).map_err(Ended::Refused)?,
        (None, None) => Format::JsonLines,
    };
    if let Some(into) = &asked.into {
        return Ok((into.clone(), format));
    }
    let Some(table) = table else {
        return Ok((Into::Stdout, format));
    };
    let into = match (table.connector().as_str(), option("path")) {
        ("stdout" | "print", _) => Into::Stdout,
        ("file" | "filesystem", Some(path)) => Into::File(PathBuf::from(path)),
        ("file" | "filesystem", None) => {
            return Err(Ended::Refused(format!(
                "{} is a file without 'path'",
                table.name
            )));
        }
        (other, _) => {
            let name = &table.name;
            return Err(Ended::Refused(format!(
                "{name} goes to {other}, which is not built yet; --into stdout or --into file:PATH sends its rows there"
            )));
        }
    };
    Ok((into, format))
}

/// The closing line, and the code.
fn close(asked: &Asked, run: &Run, aside: &Aside, begun: Instant) -> u8 {
    let mut counts = run.counts();
    counts.rows += aside.bad;
    counts.diverted += aside.bad;
    closing(asked, counts, &run.repeated(), begun)
}

pub(super) fn closing(asked: &Asked, counts: Counts, again: &[Repeated], begun: Instant) -> u8 {
    let repeated: u64 = again.iter().map(|of| of.dropped).sum();
    let (rows, diverted) = (counts.rows, counts.diverted);
    let seconds = begun.elapsed().as_secs_f64();
    if asked.json {
        let line = json!({
            "rows_in": rows, "late": counts.late, "diverted": diverted, "repeated": repeated,
            "rows_out": counts.out, "seconds": seconds,
        });
        say(&line.to_string());
    } else {
        let said = if again.is_empty() {
            String::new()
        } else {
            format!(", {} repeated", grouped(repeated))
        };
        say(&format!(
            "{} rows in, {} late, {} diverted{said}; {} out; {seconds:.1} s",
            grouped(rows),
            grouped(counts.late),
            grouped(diverted),
            grouped(counts.out)
        ));
    }
    if asked.strict && counts.late + diverted > 0 {
        3
    } else {
        0
    }
}
