//! From SQL to a stream that can run: its plan, its sources, its sink.

use std::fmt;
use std::fs::File;
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use holm_connect::{
    AtEnd, Beside, FileSink, FileSource, Format, HttpSink, Keyspace, KeyspaceSink, KeyspaceSource,
    Login, MqttCounts, Page, ParquetSource, PullSource, Reader, Repeats, Sink, Source,
    Subscription, Taken, Target, fed, row_of,
};
use holm_disk::RealFolder;
use holm_engine::{Class, Limits, Plan};
use holm_lanes::{Batch, Field};
use holm_runner::{Ends, Input, Job, QUERIES_MAX, RunnerError, Turns};
use holm_sql::{Known, Planned, Table};

use crate::front::Door;
use crate::plane::{PlaneError, clock};
use crate::reach::{self, Reach};

/// Bytes that may wait at a way in.
const FEED_BYTES: usize = 16 << 20;
/// How often a page is looked at.
const PULL_INTERVAL: Duration = Duration::from_secs(10);
/// URLs in the clear and by TLS, and the port of the second.
const HTTP: (&str, &str, u16) = ("http", "https", 443);
const MQTT: (&str, &str, u16) = ("mqtt", "mqtts", 8883);
/// The largest table that rows are enriched from.
const TABLE_BYTES_MAX: u64 = 256 << 20;

/// What a site gives its streams.
pub trait Ports: Send + Sync + fmt::Debug {
    /// A keyspace by its name; the empty name is the site's own.
    ///
    /// # Errors
    ///
    /// Why there is none.
    fn keyspace(&self, name: &str) -> Result<Box<dyn Keyspace>, String>;
}

/// A site without anything for its streams.
#[derive(Clone, Copy, Debug)]
pub struct NoPorts;

impl Ports for NoPorts {
    fn keyspace(&self, name: &str) -> Result<Box<dyn Keyspace>, String> {
        Err(format!("keyspace {name} cannot be reached from here"))
    }
}

/// A stream that can be started.
#[derive(Debug)]
pub(crate) struct Made {
    pub(crate) job: Job,
    pub(crate) ends: Ends,
    pub(crate) tables: Vec<(Table, Vec<Field>)>,
    pub(crate) door: Option<Door>,
    /// Each with the table that it is of.
    pub(crate) subscriptions: Vec<(String, Subscription, Reach)>,
    pub(crate) queries: Vec<Asked>,
    /// Which queries share panes, in words.
    pub(crate) shares: Vec<String>,
    /// What is promised, for whoever asks.
    pub(crate) promise: String,
}

/// A query of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    /// What it is called: as its stream, and of several as its stream and its table.
    pub(crate) name: String,
    /// The table that its rows go into.
    pub(crate) into: String,
    pub(crate) sql: String,
    pub(crate) fields: Vec<Field>,
}

fn refused(text: impl Into<String>) -> PlaneError {
    PlaneError::Refused(text.into())
}

/// Reads a text and plans its queries.
fn planned(sql: &str) -> Result<(Vec<Planned>, Vec<Table>), PlaneError> {
    let script = holm_sql::parse(sql).map_err(|refusal| refused(refusal.to_string()))?;
    if script.is_explained() {
        return Err(refused(
            "EXPLAIN makes no stream; `holm stream explain` shows the plan",
        ));
    }
    let planned = holm_sql::plans(&script, &Known::default());
    let planned = planned.map_err(|refusal| refused(refusal.to_string()))?;
    if planned.len() > QUERIES_MAX {
        return Err(refused(format!(
            "{} queries; {QUERIES_MAX} share a stream at most, another stream may have the others",
            planned.len()
        )));
    }
    Ok((planned, script.tables().to_vec()))
}

/// Opens everything that a stream needs. `turns` are those of the site.
pub(crate) fn make(
    name: &str,
    sql: &str,
    ports: &dyn Ports,
    turns: &Turns,
) -> Result<Made, PlaneError> {
    let (planned, declared) = planned(sql)?;
    let find = |table: &str| {
        let found = declared.iter().find(|it| it.name == table);
        found.cloned().ok_or_else(|| {
            refused(format!(
                "{table} has no CREATE TABLE; a stream of a site reads declared tables"
            ))
        })
    };
    let plans: Vec<Plan> = planned.iter().map(|it| it.plan.clone()).collect();
    let sources = holm_engine::sources(&plans);
    let read: Result<Vec<Table>, _> = sources.iter().map(|source| find(&source.name)).collect();
    let read = read?;
    let class = if read.iter().all(is_batch) {
        Class::Batch
    } else {
        Class::Live
    };
    let mut made = Made {
        job: Job {
            plans,
            inputs: Vec::new(),
            description: sql.as_bytes().to_vec(),
            limits: Limits::default(),
            turns: Some((turns.clone(), class)),
        },
        ends: Ends {
            sources: Vec::new(),
            sinks: Vec::new(),
        },
        tables: Vec::new(),
        door: None,
        subscriptions: Vec::new(),
        queries: Vec::new(),
        shares: Vec::new(),
        promise: String::new(),
    };
    for (source, table) in sources.iter().zip(&read) {
        let (idle, beside) = said(source, &planned);
        let input = Input {
            format: format_of(table)?,
            fields: source.fields.clone(),
            needed: needed(source, &planned),
            keeps_all: keeps_all(table)?,
            idle,
            beside,
        };
        let port = made.source(name, table, &input, ports)?;
        made.job.inputs.push(input);
        made.ends.sources.push(port);
    }
    for (table, fields) in planned.iter().flat_map(|it| &it.tables) {
        made.tables.push((find(table)?, fields.clone()));
    }
    made.sinks(name, &planned, ports)?;
    let once = read.iter().filter_map(|table| {
        let columns = option(table, "dedup")?.split(',').map(str::trim);
        Some((table.name.as_str(), columns.collect::<Vec<_>>().join(", ")))
    });
    made.promise = promise(
        &made.ends.sources,
        &made.ends.sinks,
        &once.collect::<Vec<_>>(),
    );
    Ok(made)
}

/// The columns of a source that any query reads.
fn needed(source: &holm_engine::Source, planned: &[Planned]) -> Vec<bool> {
    let mut needed = vec![false; source.fields.len()];
    for query in planned {
        for (_, read) in query
            .plan
            .sources
            .iter()
            .zip(&query.needed)
            .filter(|it| it.0 == source)
        {
            needed
                .iter_mut()
                .zip(read)
                .for_each(|(any, own)| *any |= own);
        }
    }
    needed
}

/// What queries say of a source, each of them the same: after how much silence it is left out of
/// watermarks, and what of its columns stands beside its rows.
fn said(
    source: &holm_engine::Source,
    planned: &[Planned],
) -> (Option<Duration>, Vec<Option<String>>) {
    let mut found = planned.iter().flat_map(|query| {
        let sources = query.plan.sources.iter().zip(&query.idle);
        let own = sources.zip(&query.beside).filter(|it| it.0.0 == source);
        own.map(|((_, idle), beside)| (*idle, beside.clone()))
    });
    let (idle, beside) = found.next().unwrap_or_default();
    let micros = idle.and_then(|idle| u64::try_from(idle).ok());
    (micros.map(Duration::from_micros), beside)
}

/// What a connector is to say of each row.
fn beside_of(names: &[Option<String>]) -> Beside {
    Beside::of(names.iter().flatten().cloned())
}

/// Whether rows that come once are logged as they came.
fn keeps_all(table: &Table) -> Result<bool, PlaneError> {
    match option(table, "retain") {
        None => Ok(false),
        Some("all") => Ok(true),
        Some(other) => Err(refused(format!(
            "{}: 'retain' is 'all' or is left out, not '{other}'",
            table.name
        ))),
    }
}

/// Whether a table is read to its end, so that nobody waits for what comes.
fn is_batch(table: &Table) -> bool {
    let is_file = matches!(table.connector().as_str(), "file" | "filesystem");
    let ends = option(table, "follow") == Some("false")
        || format_of(table).is_ok_and(|format| format == Format::Parquet);
    is_file && ends
}

/// A table, and the columns by which its rows count once.
type CountedOnce<'a> = (&'a str, String);

fn promise(
    sources: &[Box<dyn Source>],
    sinks: &[Box<dyn Sink>],
    once: &[CountedOnce<'_>],
) -> String {
    use holm_connect::Guarantee;
    let sinks: Vec<&dyn Sink> = sinks.iter().map(AsRef::as_ref).collect();
    let weak = |sink: &&&dyn Sink| sink.guarantee() == Guarantee::AtLeastOnce;
    let weakest = sinks.iter().find(weak);
    let weakest = weakest.map_or(Guarantee::ExactlyOnce, |sink| sink.guarantee());
    match weakest {
        Guarantee::AtLeastOnce if sinks.len() > 1 => {
            let weak: Vec<&str> = sinks.iter().filter(weak).map(|sink| sink.name()).collect();
            format!(
                "at least once: {} keeps no numbers, and has rows twice after a restart",
                weak.join(", ")
            )
        }
        Guarantee::AtLeastOnce => {
            "at least once: the sink keeps no numbers, and has rows twice after a restart"
                .to_owned()
        }
        Guarantee::ExactlyOnce => format!("exactly once{}", repeated(sources, once)),
    }
}

/// What counts twice of what sources are sent twice.
fn repeated(sources: &[Box<dyn Source>], once: &[CountedOnce<'_>]) -> String {
    let of = |wanted: Repeats| {
        let names = sources.iter().filter(|source| source.repeats() == wanted);
        let names = names.map(|source| source.name());
        let is_once = |name: &&str| once.iter().any(|(table, _)| table == name);
        names.filter(|name| !is_once(name)).collect::<Vec<_>>()
    };
    let kinds = [
        (Repeats::CountAgain, ""),
        (
            Repeats::CountAgainWithoutKey,
            ", unless it comes with an Idempotency-Key",
        ),
    ];
    let said = kinds.map(|(kind, unless)| match of(kind).as_slice() {
        [] => String::new(),
        names => format!(
            "; what {} sends again counts again{unless}",
            names.join(", ")
        ),
    });
    let by = once.iter().map(|(table, columns)| {
        format!("; what {table} sends again counts once by {columns}, as long as it is remembered")
    });
    let said = said.into_iter().chain(by).collect::<String>();
    match said {
        none if none.is_empty() => none,
        some => format!(" for what was acknowledged{some}"),
    }
}

fn option<'a>(table: &'a Table, name: &str) -> Option<&'a str> {
    table.options.get(name).map(String::as_str)
}

fn wanted<'a>(table: &'a Table, name: &str) -> Result<&'a str, PlaneError> {
    option(table, name).ok_or_else(|| {
        let (connector, own) = (table.connector(), &table.name);
        refused(format!("{own} is {connector} without '{name}'"))
    })
}

fn format_of(table: &Table) -> Result<Format, PlaneError> {
    match option(table, "format") {
        None if option(table, "path").is_some_and(|path| path.ends_with(".parquet")) => {
            Ok(Format::Parquet)
        }
        None | Some("json" | "jsonl") => Ok(Format::JsonLines),
        Some("csv") => Ok(Format::Csv),
        Some("parquet") => Ok(Format::Parquet),
        Some(other) => Err(refused(format!(
            "{}: {other} is no format of a stream; jsonl, csv and parquet are",
            table.name
        ))),
    }
}

impl Made {
    /// A sink for each query, and what is shared and promised.
    fn sinks(
        &mut self,
        stream: &str,
        planned: &[Planned],
        ports: &dyn Ports,
    ) -> Result<(), PlaneError> {
        let mut paths: Vec<&str> = Vec::new();
        for query in planned {
            let into = query.into.as_ref().ok_or_else(|| {
                refused("nothing says where rows go: INSERT INTO a table WITH ('connector'='file', 'path'='...')")
            })?;
            let path = option(into, "path");
            if let Some(path) = path.filter(|path| paths.contains(path)) {
                return Err(refused(format!(
                    "{}: two queries write {path}; give each a file of its own",
                    into.name
                )));
            }
            paths.extend(path);
            let name = if planned.len() == 1 {
                stream.to_owned()
            } else {
                format!("{stream}.{}", into.name)
            };
            let fields = query.plan.fields.clone();
            self.ends.sinks.push(sink(&name, into, &fields, ports)?);
            let (into, sql) = (into.name.clone(), query.text.clone());
            self.queries.push(Asked {
                name,
                into,
                sql,
                fields,
            });
        }
        let names = |it: &Planned| it.tables.iter().map(|table| table.0.clone()).collect();
        let tables: Vec<Vec<String>> = planned.iter().map(names).collect();
        for (queries, pane) in holm_engine::shares(&self.job.plans, &tables) {
            let names: Vec<&str> = queries
                .iter()
                .map(|it| self.queries[*it].into.as_str())
                .collect();
            let (names, pane) = (names.join(", "), holm_sql::length(pane));
            self.shares.push(format!("{names} share panes of {pane}"));
        }
        Ok(())
    }

    fn source(
        &mut self,
        stream: &str,
        table: &Table,
        input: &Input,
        ports: &dyn Ports,
    ) -> Result<Box<dyn Source>, PlaneError> {
        let name = &table.name;
        let connector = table.connector();
        let is_file = matches!(connector.as_str(), "file" | "filesystem");
        if input.format != Format::JsonLines && !is_file {
            return Err(refused(format!(
                "{name}: CSV and Parquet are read from files alone"
            )));
        }
        match connector.as_str() {
            "file" | "filesystem" => file_source(table, input),
            "http" if option(table, "url").is_some() => {
                let reach = Reach::of(table, wanted(table, "url")?, HTTP)?;
                let page = Page {
                    host: reach.host.clone(),
                    path: reach.path.clone(),
                    headers: reach::bearer(table)?,
                    interval: reach::interval(table, "interval", PULL_INTERVAL)?,
                };
                Ok(Box::new(PullSource::new(name, page, reach.dial())))
            }
            "http" => {
                if self.door.is_some() {
                    return Err(refused(format!(
                        "{name}: one table of a stream takes rows by HTTP, and another does already"
                    )));
                }
                let (feed, source) = fed(name, None, FEED_BYTES);
                let fields = (input.fields.clone(), input.needed.clone());
                let reader = Reader::new(input.format, fields.0, fields.1, None);
                let reader = reader.map_err(|error| refused(error.to_string()))?;
                self.door = Some(Door {
                    feed,
                    reader: reader.with(&input.beside),
                    beside: beside_of(&input.beside),
                });
                Ok(Box::new(source.keyed()))
            }
            "mqtt" => self.subscribe(stream, table, input),
            "keyspace" => {
                let keyspace = option(table, "keyspace").unwrap_or_default();
                let port = ports.keyspace(keyspace).map_err(refused)?;
                let prefix = option(table, "prefix").unwrap_or_default();
                let source = KeyspaceSource::new(name, port, prefix);
                Ok(Box::new(source.with(beside_of(&input.beside))))
            }
            other => Err(refused(format!(
                "{name} is read from {}; a stream of a site reads file, http, mqtt and keyspace",
                if other.is_empty() { "nothing" } else { other }
            ))),
        }
    }

    fn subscribe(
        &mut self,
        stream: &str,
        table: &Table,
        input: &Input,
    ) -> Result<Box<dyn Source>, PlaneError> {
        let name = &table.name;
        let reach = Reach::of(table, wanted(table, "url")?, MQTT)?;
        let topics = wanted(table, "topic")?
            .split(',')
            .map(str::to_owned)
            .collect();
        let (feed, source) = fed(name, None, FEED_BYTES);
        let login = Login {
            client: format!("holm-{stream}-{name}"),
            user: user(table)?,
            keep_alive: 30,
        };
        let subscription = Subscription {
            login,
            topics,
            feed,
            counts: Arc::<MqttCounts>::default(),
            beside: beside_of(&input.beside),
            clock,
        };
        self.subscriptions.push((name.clone(), subscription, reach));
        Ok(Box::new(source))
    }
}

/// Who a broker is told that the stream is.
fn user(table: &Table) -> Result<Option<(String, String)>, PlaneError> {
    let password = reach::secret(table, "password-file")?;
    match (option(table, "user"), password) {
        (None, None) => Ok(None),
        (Some(user), Some(password)) => Ok(Some((user.to_owned(), password))),
        (user, _) => Err(refused(format!(
            "{}: 'user' and 'password-file' go together, and {} is missing",
            table.name,
            if user.is_some() {
                "'password-file'"
            } else {
                "'user'"
            }
        ))),
    }
}

/// A file, which is followed unless it says that it ends.
fn file_source(table: &Table, input: &Input) -> Result<Box<dyn Source>, PlaneError> {
    let name = &table.name;
    let path = wanted(table, "path")?;
    let file =
        File::open(path).map_err(|error| PlaneError::Failed(format!("open {path}: {error}")))?;
    if input.format == Format::Parquet {
        if option(table, "follow") == Some("true") {
            return Err(refused(format!("{name}: a Parquet file does not grow")));
        }
        let source = ParquetSource::open(path, file, &input.fields, &input.needed);
        return Ok(Box::new(
            source.map_err(|error| refused(error.to_string()))?,
        ));
    }
    let at_end = match option(table, "follow") {
        None | Some("true") => AtEnd::Follow,
        Some("false") => AtEnd::Stop,
        Some(other) => {
            return Err(refused(format!(
                "{name}: 'follow' is true or false, not {other}"
            )));
        }
    };
    let source = FileSource::new(path, Box::new(file), input.format, at_end);
    let source = source.map_err(|error| PlaneError::Failed(error.to_string()))?;
    Ok(Box::new(source))
}

fn sink(
    stream: &str,
    table: &Table,
    fields: &[Field],
    ports: &dyn Ports,
) -> Result<Box<dyn Sink>, PlaneError> {
    let name = &table.name;
    match table.connector().as_str() {
        "file" | "filesystem" => {
            let path = Path::new(wanted(table, "path")?);
            let named = path.file_name().and_then(|file| file.to_str());
            let file = named.ok_or_else(|| refused(format!("{} is no file", path.display())))?;
            let parent = path.parent().filter(|parent| *parent != Path::new(""));
            let parent = parent.map_or_else(|| PathBuf::from("."), Path::to_owned);
            let folder = RealFolder::open(&parent)?;
            let format = format_of(table)?;
            if format == Format::Parquet {
                return Err(refused(format!("{name}: rows are written as jsonl or csv")));
            }
            Ok(Box::new(FileSink::new(folder, file, format, fields)))
        }
        "keyspace" => {
            let keyspace = option(table, "keyspace").unwrap_or_default();
            let prefix = option(table, "prefix").unwrap_or_default();
            let column = |key: &String| fields.iter().position(|field| field.name == *key);
            let keys: Option<Vec<usize>> = table.key().iter().map(column).collect();
            let keys = keys.filter(|keys| !keys.is_empty()).ok_or_else(|| {
                refused(format!(
                    "{name} needs a PRIMARY KEY of columns of the query: it names the keys below {prefix:?}"
                ))
            })?;
            let port = ports.keyspace(keyspace).map_err(refused)?;
            let marker = format!("holm.streams/{stream}");
            Ok(Box::new(KeyspaceSink::new(
                port, prefix, &marker, fields, &keys,
            )))
        }
        "http" => {
            let url = wanted(table, "url")?;
            let reach = Reach::of(table, url, HTTP)?;
            if option(table, "guarantee") != Some("at-least-once") {
                return Err(refused(format!(
                    "sink {name} (http) is at least once; accept with 'guarantee'='at-least-once'"
                )));
            }
            let target = Target {
                stream: stream.to_owned(),
                host: reach.host.clone(),
                path: reach.path.clone(),
                headers: reach::bearer(table)?,
            };
            Ok(Box::new(HttpSink::new(target, reach.dial(), fields)))
        }
        other => Err(refused(format!(
            "{name} goes to {}; a stream of a site goes to file, keyspace or http",
            if other.is_empty() { "nothing" } else { other }
        ))),
    }
}

/// The rows of the tables that a stream looks up, as they are when it is made.
pub(crate) fn rows_of_tables(
    tables: &[(Table, Vec<Field>)],
    ports: &dyn Ports,
) -> Result<Vec<Batch>, RunnerError> {
    let no = |text: String| RunnerError::Refused(text);
    let mut batches = Vec::new();
    for (table, fields) in tables {
        let name = &table.name;
        let format = format_of(table).map_err(|error| no(error.to_string()))?;
        let text = match table.connector().as_str() {
            "file" | "filesystem" => {
                let path = wanted(table, "path").map_err(|error| no(error.to_string()))?;
                let failed = |error: io::Error| no(format!("read {path}: {error}"));
                let file = File::open(path).map_err(failed)?;
                let size = file.metadata().map_err(failed)?.len();
                if size > TABLE_BYTES_MAX {
                    return Err(no(format!(
                        "{path} has {size} bytes, and {TABLE_BYTES_MAX} is the limit"
                    )));
                }
                let mut text = Vec::new();
                io::Read::read_to_end(&mut BufReader::new(file), &mut text).map_err(failed)?;
                text
            }
            "keyspace" => {
                let keyspace = option(table, "keyspace").unwrap_or_default();
                let mut port = ports.keyspace(keyspace).map_err(no)?;
                let prefix = option(table, "prefix").unwrap_or_default();
                let all = port.all(prefix.as_bytes());
                let (all, _) = all.map_err(|error| no(format!("{name}: {error}")))?;
                let beside = beside_of(&table.beside());
                let rows = all.into_iter().filter_map(|change| {
                    let value = change.value?;
                    Some(row_of(&change.key, &value, &beside))
                });
                rows.flatten().collect()
            }
            other => {
                return Err(no(format!(
                    "rows are looked up in file or keyspace; {name} is {other}"
                )));
            }
        };
        let needed = vec![true; fields.len()];
        let (head, rows) = match format {
            Format::Parquet => {
                let source = ParquetSource::of_bytes(name, text, fields, &needed);
                batches.push(whole(source.map_err(|error| no(error.to_string()))?)?);
                continue;
            }
            Format::JsonLines => (None, text.as_slice()),
            Format::Csv => {
                let end = text.iter().position(|byte| *byte == b'\n');
                let (head, rows) = text.split_at(end.map_or(text.len(), |end| end + 1));
                (
                    Some(String::from_utf8_lossy(head).trim_end().to_owned()),
                    rows,
                )
            }
        };
        let reader = Reader::new(format, fields.clone(), needed, head.as_deref());
        let read = reader
            .map_err(|error| no(format!("{name}: {error}")))?
            .with(&table.beside())
            .read(rows, 1);
        if let Some(bad) = read.bad.first() {
            return Err(no(format!("{name}, row {}: {bad}", bad.line)));
        }
        batches.push(read.batch);
    }
    Ok(batches)
}

/// All rows of a Parquet file.
fn whole(mut source: ParquetSource) -> Result<Batch, RunnerError> {
    let no = |text: String| RunnerError::Refused(text);
    let mut parts = Vec::new();
    while let Taken::Columns(columns) = source
        .take(usize::MAX, Duration::ZERO)
        .map_err(|error| no(error.to_string()))?
    {
        if let Some(bad) = columns.bad.first() {
            return Err(no(format!("{}, row {}: {bad}", source.name(), bad.line)));
        }
        parts.push(columns.batch);
    }
    if parts.is_empty() {
        return Err(no(format!("{} has no rows", source.name())));
    }
    Ok(Batch::together(&parts))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn promised(options: &str) -> String {
        let folder = tempfile::tempdir().expect("a folder of ours");
        let into = folder.path().join("rows").display().to_string();
        let sql = format!(
            "CREATE TABLE ev (ts TIMESTAMP(3), k INT, WATERMARK FOR ts AS ts) WITH ({options}); \
             CREATE TABLE rows_out (ts TIMESTAMP(3), k INT) WITH ('connector'='file', 'path'='{into}'); \
             INSERT INTO rows_out SELECT ts, k FROM ev"
        );
        let made = make("s", &sql, &NoPorts, &Turns::new(1)).expect("it can be made");
        made.promise
    }

    #[test]
    fn what_is_promised_is_what_the_source_says() {
        let page = "'connector'='http', 'url'='http://127.0.0.1:1/rows'";
        assert_eq!(promised(page), "exactly once");
        assert_eq!(
            promised("'connector'='http'"),
            "exactly once for what was acknowledged; what ev sends again counts again, unless it comes with an \
             Idempotency-Key"
        );
        assert_eq!(
            promised("'connector'='mqtt', 'url'='mqtt://127.0.0.1:1', 'topic'='a'"),
            "exactly once for what was acknowledged; what ev sends again counts again"
        );
    }
}
