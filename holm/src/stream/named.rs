//! The query of a command line and the tables that it reads: which file is which table.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use holm_connect::Format;
use holm_sql::{Known, Planned, Script, TableShape};
use holm_window::Strategy;

use super::Ended;
use super::input::{Input, Place};
use crate::quantity::parse_duration;

/// What `run` and `explain` have in common.
#[derive(Debug, Args)]
pub(crate) struct Named {
    /// The query, a file of SQL
    #[arg(value_name = "QUERY", required_unless_present = "sql")]
    file: Option<PathBuf>,
    /// The query itself
    #[arg(long, value_name = "TEXT", conflicts_with = "file")]
    sql: Option<String>,
    /// Where the rows of stdin come from; `-` is standard input
    #[arg(long, value_name = "FILE", default_value = "-")]
    input: PathBuf,
    /// Read a table's rows from a file, whatever its connector is; may be repeated
    #[arg(long, value_name = "NAME=FILE", value_parser = parse_table)]
    table: Vec<(String, PathBuf)>,
    /// How input is written: jsonl, csv or parquet; else by the file's suffix, and jsonl without one
    #[arg(long, value_name = "FORMAT", value_parser = parse_format)]
    format: Option<Format>,
    /// The column of event time of stdin, where nothing says it
    #[arg(long, value_name = "COLUMN")]
    time: Option<String>,
    /// How far rows may be out of order; later ones are late
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    late: Option<Duration>,
    /// Put windows together in this way, whatever it costs: recompute, running, two-stacks or prefix
    #[arg(long, value_name = "WAY", value_parser = parse_strategy)]
    strategy: Option<Strategy>,
}

fn parse_table(text: &str) -> Result<(String, PathBuf), String> {
    let parts = text.split_once('=');
    let (name, file) = parts.ok_or_else(|| format!("{text}: write NAME=FILE"))?;
    Ok((name.to_owned(), PathBuf::from(file)))
}

/// Reads the name of a format.
pub(crate) fn parse_format(text: &str) -> Result<Format, String> {
    match text {
        "jsonl" | "json" => Ok(Format::JsonLines),
        "csv" => Ok(Format::Csv),
        "parquet" => Ok(Format::Parquet),
        other => Err(format!("{other}: a format is jsonl, csv or parquet")),
    }
}

/// Reads the name of a format that rows are written in.
pub(crate) fn parse_written(text: &str) -> Result<Format, String> {
    match parse_format(text) {
        Ok(Format::Parquet) | Err(_) => Err(format!("{text}: rows are written as jsonl or csv")),
        format => format,
    }
}

fn parse_strategy(text: &str) -> Result<Strategy, String> {
    match text {
        "recompute" => Ok(Strategy::Recompute),
        "running" => Ok(Strategy::Running),
        "two-stacks" => Ok(Strategy::TwoStacks),
        "prefix" => Ok(Strategy::Prefix),
        other => Err(format!("{other}: recompute, running, two-stacks or prefix")),
    }
}

/// A query with its plan and its opened input.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) planned: Planned,
    /// For each source its input.
    pub(crate) inputs: Vec<Input>,
    /// For each table that rows are enriched from.
    pub(crate) tables: Vec<Input>,
    /// What was found out about undeclared tables.
    pub(crate) notes: Vec<String>,
}

/// What was found out about the tables of a text.
struct Looked {
    known: Known,
    notes: Vec<String>,
    undeclared: Vec<(String, Input)>,
}

/// A query with its plan and the places of its input.
#[derive(Debug)]
pub(crate) struct Placed {
    pub(crate) planned: Planned,
    /// For each source.
    pub(crate) sources: Vec<(Place, Format)>,
    /// For each source whether its rows are logged as they came, whatever that takes.
    pub(crate) keeps_all: Vec<bool>,
    /// For each table that rows are enriched from.
    pub(crate) tables: Vec<(Place, Format)>,
    /// What was found out about undeclared tables.
    pub(crate) notes: Vec<String>,
}

/// Gives the first rows of a table, which are the same ones whenever it is asked.
pub(crate) type Sampler<'a> = &'a dyn Fn(&str, Input) -> Result<Vec<u8>, Ended>;

impl Named {
    /// Reads the query and plans it, and says where its input lies. Of an undeclared table the
    /// columns are found from rows that do not change when the file grows.
    pub(crate) fn place_all(
        &self,
        is_bounded: bool,
        sampler: Sampler<'_>,
    ) -> Result<Placed, Ended> {
        let script = self.script()?;
        let mut known = self.known();
        if is_bounded {
            let declared = script.tables().iter().map(|table| table.name.clone());
            known.bounded.extend(declared);
        }
        let mut notes = Vec::new();
        let undeclared = self.table.iter().map(|(name, _)| name.as_str());
        for name in undeclared.chain(["stdin"]) {
            if !script.reads_undeclared(name) || known.shapes.contains_key(name) {
                continue;
            }
            let place = self.place(name, None)?;
            if place == Place::Stdin {
                return Err(Ended::Refused(format!(
                    "{name} is standard input, which is read once, and --state wants to know its columns for ever; \
                     CREATE TABLE {name}, or read a file with --input FILE"
                )));
            }
            let format = self.format_at(&place);
            let wanted = self.time.clone().or_else(|| script.time_of(name));
            let mut input = Input::open(place, format)?;
            let guess = if format == Format::Parquet {
                // Its schema is part of it.
                input.guess(wanted.as_deref())?
            } else {
                let text = sampler(name, input)?;
                holm_connect::infer(format, &text, wanted.as_deref())
            };
            let (shape, note) = shape_of(name, &guess, self)?;
            notes.push(note);
            known.shapes.insert(name.to_owned(), shape);
            if is_bounded {
                known.bounded.push(name.to_owned());
            }
        }
        let planned = holm_sql::plan(&script, &known).map_err(|refusal| self.refused(&refusal))?;
        let lies = |name: &str| {
            let table = script.tables().iter().find(|table| table.name == name);
            let place = self.place(name, table)?;
            let format = self.format_of(name, (table, &place))?;
            Ok((place, format))
        };
        let names = || planned.plan.sources.iter().map(|source| &source.name);
        let sources: Result<_, Ended> = names().map(|name| lies(name)).collect();
        let tables_of = |name: &String| script.tables().iter().find(|table| table.name == *name);
        let retains = |name| tables_of(name)?.options.get("retain").map(|it| it == "all");
        let keeps_all = names().map(|name| retains(name).unwrap_or(false)).collect();
        let tables: Result<_, Ended> = planned.tables.iter().map(|(name, _)| lies(name)).collect();
        Ok(Placed {
            sources: sources?,
            keeps_all,
            tables: tables?,
            planned,
            notes,
        })
    }

    fn known(&self) -> Known {
        Known {
            late: self
                .late
                .map(|late| i64::try_from(late.as_micros()).unwrap_or(i64::MAX)),
            strategy: self.strategy,
            ..Known::default()
        }
    }

    /// What says that a query is the same one: its text, and all that decides what it means.
    pub(crate) fn description(&self) -> Result<Vec<u8>, Ended> {
        let (late, strategy, time) = (self.late, self.strategy, &self.time);
        let text = self.text()?;
        let format = self.format.unwrap_or(Format::JsonLines);
        let input = (&self.input, &self.table, format);
        Ok(format!("{text}\n-- {late:?} {strategy:?} {time:?} {input:?}").into_bytes())
    }

    fn format_of(
        &self,
        name: &str,
        (table, place): (Option<&holm_sql::Table>, &Place),
    ) -> Result<Format, Ended> {
        let format = table.and_then(|table| table.options.get("format"));
        match format.map(String::as_str) {
            None => Ok(self.format_at(place)),
            Some(_) if self.table.iter().any(|(own, _)| own == name) => Ok(self.format_at(place)),
            Some(format) => parse_format(format).map_err(Ended::Refused),
        }
    }

    /// How rows are written: as the command line says, or by the suffix of the file.
    fn format_at(&self, place: &Place) -> Format {
        self.format.unwrap_or_else(|| place.format())
    }

    /// The query's name, for messages.
    fn name(&self) -> String {
        let name = self.file.as_ref().map(|file| file.display().to_string());
        name.unwrap_or_else(|| "--sql".to_owned())
    }

    /// What the query is called where it is shown.
    pub(crate) fn title(&self) -> String {
        let stem = self.file.as_ref().and_then(|file| file.file_stem());
        stem.map_or_else(
            || "query".to_owned(),
            |stem| stem.to_string_lossy().into_owned(),
        )
    }

    /// The query's text.
    pub(super) fn text(&self) -> Result<String, Ended> {
        Ok(match (&self.sql, &self.file) {
            (Some(text), _) => text.clone(),
            (None, Some(file)) => std::fs::read_to_string(file)
                .map_err(|error| Ended::failed(format!("read {}", file.display()), error))?,
            (None, None) => String::new(),
        })
    }

    fn script(&self) -> Result<Script, Ended> {
        holm_sql::parse(&self.text()?).map_err(|refusal| self.refused(&refusal))
    }

    fn refused(&self, refusal: &holm_sql::Refusal) -> Ended {
        Ended::Refused(format!("{}:{refusal}", self.name()))
    }

    /// What is known of the tables that a text reads: of undeclared ones their columns are found,
    /// and their inputs are open.
    fn look(&self, script: &Script) -> Result<Looked, Ended> {
        let mut known = self.known();
        for table in script.tables() {
            if self.place(&table.name, Some(table)).is_ok() {
                known.bounded.push(table.name.clone());
            }
        }
        let mut notes = Vec::new();
        let mut undeclared: Vec<(String, Input)> = Vec::new();
        let names = self
            .table
            .iter()
            .map(|(name, _)| name.as_str())
            .chain(["stdin"]);
        for name in names {
            if !script.reads_undeclared(name) || known.shapes.contains_key(name) {
                continue;
            }
            let place = self.place(name, None)?;
            let format = self.format_at(&place);
            let mut input = Input::open(place, format)?;
            let wanted = self.time.clone().or_else(|| script.time_of(name));
            let guess = input.guess(wanted.as_deref())?;
            let (shape, note) = shape_of(name, &guess, self)?;
            notes.push(note);
            known.shapes.insert(name.to_owned(), shape);
            known.bounded.push(name.to_owned());
            undeclared.push((name.to_owned(), input));
        }
        Ok(Looked {
            known,
            notes,
            undeclared,
        })
    }

    /// Reads the queries of a text and plans them, without opening what they read; and what was
    /// found out about undeclared tables.
    pub(crate) fn explained(&self) -> Result<(Vec<Planned>, Vec<String>), Ended> {
        let script = self.script()?;
        let looked = self.look(&script)?;
        let planned = holm_sql::plans(&script, &looked.known);
        let planned = planned.map_err(|refusal| self.refused(&refusal))?;
        Ok((planned, looked.notes))
    }

    /// Whether EXPLAIN stands before the query.
    pub(super) fn is_explained(&self) -> Result<bool, Ended> {
        Ok(self.script()?.is_explained())
    }

    /// Reads the query, finds out what it reads, plans it and opens its input.
    pub(crate) fn prepare(&self) -> Result<Prepared, Ended> {
        let script = self.script()?;
        let Looked {
            known,
            notes,
            mut undeclared,
        } = self.look(&script)?;
        let planned = holm_sql::plan(&script, &known).map_err(|refusal| self.refused(&refusal))?;
        let mut open = |name: &str| -> Result<Input, Ended> {
            let found = undeclared.iter().position(|(own, _)| own == name);
            if let Some(found) = found {
                return Ok(undeclared.swap_remove(found).1);
            }
            let table = script.tables().iter().find(|table| table.name == name);
            let place = self.place(name, table)?;
            let format = self.format_of(name, (table, &place))?;
            Input::open(place, format)
        };
        let mut inputs = Vec::new();
        for source in &planned.plan.sources {
            inputs.push(open(&source.name)?);
        }
        let mut tables = Vec::new();
        for (name, _) in &planned.tables {
            tables.push(open(name)?);
        }
        Ok(Prepared {
            planned,
            inputs,
            tables,
            notes,
        })
    }

    /// Where a table's rows come from.
    fn place(&self, name: &str, table: Option<&holm_sql::Table>) -> Result<Place, Ended> {
        if let Some((_, file)) = self.table.iter().find(|(own, _)| own == name) {
            let beside = table.map(holm_sql::Table::beside).unwrap_or_default();
            if let Some(beside) = beside.into_iter().flatten().next() {
                return Err(Ended::Refused(format!(
                    "{name} has a column of METADATA '{beside}', and no file says that of its rows"
                )));
            }
            return Ok(Place::of(file));
        }
        let Some(table) = table else {
            return Ok(Place::of(&self.input));
        };
        match table.connector().as_str() {
            "stdin" => Ok(Place::of(&self.input)),
            "file" | "filesystem" => match table.options.get("path") {
                Some(path) => Ok(Place::of(std::path::Path::new(path))),
                None => Err(Ended::Refused(format!("{name} is a file without 'path'"))),
            },
            other => {
                let other = if other.is_empty() {
                    "no connector"
                } else {
                    other
                };
                Err(Ended::Refused(format!(
                    "{name} is read from {other}, which is not built yet; --table {name}=FILE reads its rows from a file"
                )))
            }
        }
    }
}

fn shape_of(
    name: &str,
    guess: &holm_connect::Guess,
    named: &Named,
) -> Result<(TableShape, String), Ended> {
    const SECOND: i64 = 1_000_000;
    if guess.fields.is_empty() {
        return Err(Ended::Failed(format!(
            "{name} has no rows to find its columns from; CREATE TABLE it"
        )));
    }
    if let Some(time) = &named.time
        && guess.time.is_none()
    {
        let known = guess.fields.iter().find(|field| field.name == *time);
        let why = known.map_or_else(
            || "there is no such column".to_owned(),
            |field| {
                format!(
                    "it is {}, not a time; CREATE TABLE {name} with a computed column",
                    field.kind
                )
            },
        );
        return Err(Ended::Refused(format!("--time {time}: {why}")));
    }
    let fields: Vec<String> = guess
        .fields
        .iter()
        .map(|field| format!("{} {}", field.name, field.kind))
        .collect();
    let mut note = format!(
        "{name}: {} (from {} rows)",
        fields.join(", "),
        super::output::grouped(guess.rows)
    );
    // Twice what was seen, in whole seconds: later rows may be a little worse.
    let bound = (guess.disorder * 2 + SECOND - 1).div_euclid(SECOND) * SECOND;
    if let Some(time) = &guess.time {
        note += &format!("; time {time}, ");
        note += &match (guess.disorder, named.late) {
            (0, None) => "in order".to_owned(),
            (_, Some(late)) => format!("up to {late:?} out of order"),
            (disorder, None) => format!(
                "out of order by {}; rows more than {} behind are late (--late)",
                holm_sql::length(disorder),
                holm_sql::length(bound)
            ),
        };
    }
    if !guess.nested.is_empty() {
        note += &format!(
            "; not flat and therefore no column: {}",
            guess.nested.join(", ")
        );
    }
    let shape = TableShape {
        fields: guess.fields.clone(),
        time: guess.time.clone(),
        bound,
    };
    Ok((shape, note))
}
