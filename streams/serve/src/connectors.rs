//! From SQL to a stream that can run: its plan, its sources, its sink.

use std::fmt;
use std::fs::File;
use std::io::{self, BufReader};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use holm_connect::{
    AtEnd, Dial, Duplex, FileSink, FileSource, Format, HttpSink, Keyspace, KeyspaceSink,
    KeyspaceSource, Login, MqttCounts, Reader, Sink, Source, Subscription, Target, fed,
};
use holm_disk::RealFolder;
use holm_engine::Limits;
use holm_lanes::{Batch, Field};
use holm_runner::{Ends, Input, Job, RunnerError};
use holm_sql::{Known, Planned, Table};

use crate::front::Door;
use crate::plane::PlaneError;

/// Bytes that may wait at a way in.
const FEED_BYTES: usize = 16 << 20;
const DIAL_TIMEOUT: Duration = Duration::from_secs(5);
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
    pub(crate) subscriptions: Vec<(Subscription, String)>,
    pub(crate) fields: Vec<Field>,
    /// What is promised, for whoever asks.
    pub(crate) promise: String,
}

fn refused(text: impl Into<String>) -> PlaneError {
    PlaneError::Refused(text.into())
}

/// Reads a query and plans it.
pub(crate) fn planned(sql: &str) -> Result<(Planned, Vec<Table>), PlaneError> {
    let script = holm_sql::parse(sql).map_err(|refusal| refused(refusal.to_string()))?;
    let planned = holm_sql::plan(&script, &Known::default());
    let planned = planned.map_err(|refusal| refused(refusal.to_string()))?;
    Ok((planned, script.tables().to_vec()))
}

/// Opens everything that a stream needs.
pub(crate) fn make(name: &str, sql: &str, ports: &dyn Ports) -> Result<Made, PlaneError> {
    let (planned, declared) = planned(sql)?;
    let find = |table: &str| {
        let found = declared.iter().find(|it| it.name == table);
        found.cloned().ok_or_else(|| {
            refused(format!(
                "{table} has no CREATE TABLE; a stream of a site reads declared tables"
            ))
        })
    };
    let into = planned.into.clone().ok_or_else(|| {
        refused("nothing says where rows go: INSERT INTO a table WITH ('connector'='file', 'path'='...')")
    })?;
    let fields = planned.plan.fields.clone();
    let mut made = Made {
        job: Job {
            plan: planned.plan.clone(),
            inputs: Vec::new(),
            description: sql.as_bytes().to_vec(),
            limits: Limits::default(),
        },
        ends: Ends {
            sources: Vec::new(),
            sinks: Vec::new(),
        },
        tables: Vec::new(),
        door: None,
        subscriptions: Vec::new(),
        promise: String::new(),
        fields,
    };
    for (source, needed) in planned.plan.sources.iter().zip(&planned.needed) {
        let table = find(&source.name)?;
        let format = format_of(&table)?;
        let input = Input {
            format,
            fields: source.fields.clone(),
            needed: needed.clone(),
        };
        let port = made.source(name, &table, &input, ports)?;
        made.job.inputs.push(input);
        made.ends.sources.push(port);
    }
    for (table, fields) in &planned.tables {
        made.tables.push((find(table)?, fields.clone()));
    }
    let sink = sink(name, &into, &made.fields, ports)?;
    made.promise = promise(&made.ends.sources, &*sink);
    made.ends.sinks.push(sink);
    Ok(made)
}

fn promise(sources: &[Box<dyn Source>], sink: &dyn Sink) -> String {
    use holm_connect::Guarantee;
    let sent = sources.iter().filter(|source| !source.replayable());
    let sent: Vec<&str> = sent.map(|source| source.name()).collect();
    match (sink.guarantee(), sent.as_slice()) {
        (Guarantee::AtLeastOnce, _) => {
            "at least once: the sink keeps no numbers, and has rows twice after a restart"
                .to_owned()
        }
        (Guarantee::ExactlyOnce, []) => "exactly once".to_owned(),
        (Guarantee::ExactlyOnce, sent) => format!(
            "exactly once for what was acknowledged; what {} sends again counts again, unless \
             it comes by HTTP with an Idempotency-Key",
            sent.join(", ")
        ),
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
        None | Some("json" | "jsonl") => Ok(Format::JsonLines),
        Some("csv") => Ok(Format::Csv),
        Some(other) => Err(refused(format!(
            "{}: {other} is no format of a stream; jsonl and csv are",
            table.name
        ))),
    }
}

impl Made {
    fn source(
        &mut self,
        stream: &str,
        table: &Table,
        input: &Input,
        ports: &dyn Ports,
    ) -> Result<Box<dyn Source>, PlaneError> {
        let name = &table.name;
        let connector = table.connector();
        if input.format == Format::Csv && !matches!(connector.as_str(), "file" | "filesystem") {
            return Err(refused(format!("{name}: CSV is read from files alone")));
        }
        match connector.as_str() {
            "file" | "filesystem" => file_source(table, input),
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
                self.door = Some(Door { feed, reader });
                Ok(Box::new(source))
            }
            "mqtt" => {
                let address = loopback(name, wanted(table, "url")?, "mqtt")?.0;
                let topics = wanted(table, "topic")?
                    .split(',')
                    .map(str::to_owned)
                    .collect();
                let (feed, source) = fed(name, None, FEED_BYTES);
                let login = Login {
                    client: format!("holm-{stream}-{name}"),
                    user: None,
                    keep_alive: 30,
                };
                let subscription = Subscription {
                    login,
                    topics,
                    feed,
                    counts: Arc::<MqttCounts>::default(),
                };
                self.subscriptions.push((subscription, address));
                Ok(Box::new(source))
            }
            "keyspace" => {
                let keyspace = option(table, "keyspace").unwrap_or_default();
                let port = ports.keyspace(keyspace).map_err(refused)?;
                let prefix = option(table, "prefix").unwrap_or_default();
                Ok(Box::new(KeyspaceSource::new(name, port, prefix)))
            }
            other => Err(refused(format!(
                "{name} is read from {}; a stream of a site reads file, http, mqtt and keyspace",
                if other.is_empty() { "nothing" } else { other }
            ))),
        }
    }
}

/// A file, which is followed unless it says that it ends.
fn file_source(table: &Table, input: &Input) -> Result<Box<dyn Source>, PlaneError> {
    let name = &table.name;
    let path = wanted(table, "path")?;
    let file =
        File::open(path).map_err(|error| PlaneError::Failed(format!("open {path}: {error}")))?;
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
            Ok(Box::new(FileSink::new(
                folder,
                file,
                format_of(table)?,
                fields,
            )))
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
            let (host, path) = loopback(name, url, "http")?;
            if option(table, "guarantee") != Some("at-least-once") {
                return Err(refused(format!(
                    "sink {name} (http) is at least once; accept with 'guarantee'='at-least-once'"
                )));
            }
            let target = Target {
                stream: stream.to_owned(),
                host: host.clone(),
                path,
                headers: Vec::new(),
            };
            Ok(Box::new(HttpSink::new(target, Box::new(Tcp(host)), fields)))
        }
        other => Err(refused(format!(
            "{name} goes to {}; a stream of a site goes to file, keyspace or http",
            if other.is_empty() { "nothing" } else { other }
        ))),
    }
}

/// Host and port of a URL without TLS, which therefore is on this machine; and its path.
fn loopback(name: &str, url: &str, scheme: &str) -> Result<(String, String), PlaneError> {
    let rest = url.strip_prefix(&format!("{scheme}://")).ok_or_else(|| {
        refused(format!(
            "{name}: {url:?} does not begin with {scheme}://; TLS is not built yet"
        ))
    })?;
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let first = host.to_socket_addrs().ok().and_then(|mut all| all.next());
    match first {
        Some(address) if address.ip().is_loopback() => Ok((host.to_owned(), format!("/{path}"))),
        Some(address) => Err(refused(format!(
            "{name}: {address} is not on this machine, and off it TLS is needed, which is not built yet"
        ))),
        None => Err(refused(format!("{name}: {host:?} is no host and port"))),
    }
}

/// Plain connections on this machine.
#[derive(Debug)]
struct Tcp(String);

impl Dial for Tcp {
    fn dial(&mut self) -> io::Result<Box<dyn Duplex>> {
        let none = || {
            io::Error::new(
                io::ErrorKind::NotFound,
                format!("{} has no address", self.0),
            )
        };
        let address: SocketAddr = self.0.to_socket_addrs()?.next().ok_or_else(none)?;
        let stream = TcpStream::connect_timeout(&address, DIAL_TIMEOUT)?;
        stream.set_read_timeout(Some(DIAL_TIMEOUT))?;
        stream.set_write_timeout(Some(DIAL_TIMEOUT))?;
        stream.set_nodelay(true)?;
        Ok(Box::new(stream))
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
                let values = all.into_iter().filter_map(|change| change.value);
                values
                    .flat_map(|value| [value, b"\n".to_vec()].concat())
                    .collect()
            }
            other => {
                return Err(no(format!(
                    "rows are looked up in file or keyspace; {name} is {other}"
                )));
            }
        };
        let (head, rows) = match format {
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
        let needed = vec![true; fields.len()];
        let reader = Reader::new(format, fields.clone(), needed, head.as_deref());
        let read = reader
            .map_err(|error| no(format!("{name}: {error}")))?
            .read(rows, 1);
        if let Some(bad) = read.bad.first() {
            return Err(no(format!("{name}, row {}: {bad}", bad.line)));
        }
        batches.push(read.batch);
    }
    Ok(batches)
}
