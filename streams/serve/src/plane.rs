//! All streams of a site: a folder for each, started with the site and stopped with it.

use std::collections::BTreeMap;
use std::fs;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use holm_connect::{Figures, MqttCounts, Subscription, View};
use holm_disk::RealFolder;
use holm_durable::CheckedError;
use holm_engine::Class;
use holm_machine::DiskError;
use holm_runner::{Handle, Phase, Settings, Status, Turns, start};
use serde_json::{Value, json};
use thiserror::Error;

use crate::connectors::{self, Asked, Made, Ports};
use crate::definition::{Definition, SQL_MAX, check_name};
use crate::front::Front;
use crate::reach::{DIAL_TIMEOUT, Reach, Tls};
use crate::tap::Tap;

/// The most streams of a site.
const STREAMS_MAX: usize = 256;
/// How often figures are shown.
const TICK: Duration = Duration::from_millis(250);
/// How long a stream may take to drain.
const DRAIN: Duration = Duration::from_secs(60);

/// Why something was not done.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum PlaneError {
    /// It makes no sense.
    #[error("{0}")]
    Refused(String),
    /// There is no such stream.
    #[error("there is no stream {0}")]
    Missing(String),
    /// There is one of that name.
    #[error("there is a stream {0} already; drop it first, or take another name")]
    Exists(String),
    /// It cannot be done now.
    #[error("{0}")]
    Unavailable(String),
    /// What was needed failed.
    #[error("{0}")]
    Failed(String),
}

impl From<DiskError> for PlaneError {
    fn from(error: DiskError) -> Self {
        Self::Failed(error.to_string())
    }
}

impl From<CheckedError> for PlaneError {
    fn from(error: CheckedError) -> Self {
        Self::Failed(error.to_string())
    }
}

#[derive(Debug)]
struct Stream {
    definition: Definition,
    handle: Option<Handle>,
    /// Why it could not be started.
    refused: Option<String>,
    promise: String,
    queries: Vec<Asked>,
    shares: Vec<String>,
    /// The tables that it reads, in the order of their sources.
    sources: Vec<String>,
    /// Whether it reads what is there already, and therefore yields to those that do not.
    is_batch: bool,
    /// Tables that a broker feeds, and what is counted of each since it was started.
    brokers: Vec<(String, Arc<MqttCounts>)>,
    /// For each query what it shows.
    views: Vec<View>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Stream {
    /// The tables that are left out of watermarks.
    fn idle(&self, status: &Status) -> Vec<&str> {
        let sources = self.sources.iter().zip(&status.is_idle);
        let idle = sources.filter(|(_, is_idle)| **is_idle);
        idle.map(|(name, _)| name.as_str()).collect()
    }

    /// Where the rows of each table are logged that come once, and the bytes that each takes.
    fn log_points(&self, status: &Status) -> Vec<Value> {
        let points = self.sources.iter().zip(&status.log_points);
        let shown = points.filter_map(|(table, point)| {
            let point = point.as_ref()?;
            let bytes = |of: Option<u64>| {
                of.and_then(|it| u32::try_from(it).ok())
                    .map(|it| f64::from(it) / 1_024.0)
            };
            Some(json!({
                "table": table, "nodes": point.nodes, "behind": point.behind,
                "row_bytes": bytes(point.bytes), "row_bytes_whole": bytes(point.bytes_whole),
            }))
        });
        shown.collect()
    }

    /// Messages that can never be rows, of each table that was sent any.
    fn passed_over(&self) -> Vec<Value> {
        let brokers = self.brokers.iter();
        let passed = brokers.map(|(table, counts)| (table, counts.passed_over()));
        let some = passed.filter(|(_, passed)| passed.messages > 0);
        some.map(|(table, passed)| {
            json!({ "table": table, "messages": passed.messages, "why": passed.why })
        })
        .collect()
    }

    /// Rows that came again, of each table that says what tells them apart.
    fn repeated(&self, status: &Status) -> Vec<Value> {
        let of = status.repeated.iter().map(|of| {
            json!({
                "table": self.sources.get(of.source), "dropped": of.dropped, "known": of.known,
                "forgotten": of.forgotten,
            })
        });
        of.collect()
    }
}

/// All streams of a site. Cheap to clone: all clones are one.
#[derive(Clone, Debug)]
pub struct Plane(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    root: PathBuf,
    ports: Arc<dyn Ports>,
    front: Front,
    runtime: tokio::runtime::Handle,
    turns: Turns,
    streams: Mutex<BTreeMap<String, Stream>>,
}

impl Plane {
    /// Opens the plane in a folder, and starts the streams that are there. Must be called within a
    /// runtime. A stream that cannot be started is listed with the reason.
    ///
    /// # Errors
    ///
    /// If the folder cannot be read.
    pub fn open(root: &Path, front: Front, ports: Arc<dyn Ports>) -> Result<Self, PlaneError> {
        RealFolder::open(root)?;
        let plane = Self(Arc::new(Inner {
            root: root.to_owned(),
            ports,
            front,
            runtime: tokio::runtime::Handle::current(),
            turns: Turns::new(thread::available_parallelism().map_or(1, NonZero::get)),
            streams: Mutex::default(),
        }));
        let failed = |error| PlaneError::Failed(format!("read {}: {error}", root.display()));
        let mut folders = Vec::new();
        for entry in fs::read_dir(root).map_err(failed)? {
            folders.push(entry.map_err(failed)?.path());
        }
        folders.sort_unstable();
        for path in folders.into_iter().filter(|path| path.is_dir()) {
            match Definition::read(&path)? {
                Some(definition) if !definition.is_dropped => plane.begin(definition),
                Some(_) | None => remove(&path)?,
            }
        }
        let ticking = plane.clone();
        plane.0.runtime.spawn(async move {
            loop {
                tokio::time::sleep(TICK).await;
                ticking.tick();
            }
        });
        Ok(plane)
    }

    fn streams(&self) -> MutexGuard<'_, BTreeMap<String, Stream>> {
        // A map is changed in one step.
        self.0
            .streams
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.root.join(name)
    }

    /// Makes a stream and starts it.
    ///
    /// # Errors
    ///
    /// If name or query are refused, there is one of that name, or an end cannot be opened; then
    /// nothing is left of it.
    pub fn create(&self, name: &str, sql: &str) -> Result<Value, PlaneError> {
        check_name(name)?;
        if sql.len() > SQL_MAX {
            let text = format!(
                "the query has {} bytes, and {SQL_MAX} is the limit",
                sql.len()
            );
            return Err(PlaneError::Refused(text));
        }
        {
            let streams = self.streams();
            if streams.contains_key(name) {
                return Err(PlaneError::Exists(name.to_owned()));
            }
            if streams.len() >= STREAMS_MAX {
                let text = format!("{STREAMS_MAX} streams are the limit; drop one first");
                return Err(PlaneError::Unavailable(text));
            }
        }
        // What cannot run is refused before anything is kept.
        let made = self.make(name, sql)?;
        let definition = Definition {
            name: name.to_owned(),
            sql: sql.to_owned(),
            is_paused: false,
            is_dropped: false,
        };
        definition.write(&self.path(name))?;
        let stream = self.run(definition, Ok(made));
        self.streams().insert(name.to_owned(), stream);
        tracing::info!(stream = name, "stream created");
        self.show(name)
    }

    /// Takes up a stream that was made before.
    fn begin(&self, definition: Definition) {
        let name = definition.name.clone();
        let made = self.make(&name, &definition.sql);
        if let Err(error) = &made {
            tracing::warn!(stream = name, %error, "stream does not start");
        }
        let stream = self.run(definition, made);
        self.streams().insert(name, stream);
    }

    fn make(&self, name: &str, sql: &str) -> Result<Made, PlaneError> {
        connectors::make(name, sql, &*self.0.ports, &self.0.turns)
    }

    fn run(&self, definition: Definition, made: Result<Made, PlaneError>) -> Stream {
        let name = definition.name.clone();
        let mut stream = Stream {
            handle: None,
            refused: None,
            promise: String::new(),
            queries: Vec::new(),
            shares: Vec::new(),
            sources: Vec::new(),
            is_batch: false,
            brokers: Vec::new(),
            views: vec![View::new(&name, &definition.sql, &[])],
            tasks: Vec::new(),
            definition,
        };
        let started = made.and_then(|made| self.launch(&name, made, &mut stream));
        match started {
            Ok(handle) => {
                handle.pause(stream.definition.is_paused);
                stream.handle = Some(handle);
            }
            Err(error) => stream.refused = Some(error.to_string()),
        }
        stream.views.iter().for_each(|view| self.0.front.show(view));
        stream
    }

    fn launch(&self, name: &str, made: Made, stream: &mut Stream) -> Result<Handle, PlaneError> {
        let Made {
            job,
            mut ends,
            tables,
            door,
            subscriptions,
            queries,
            shares,
            promise,
        } = made;
        let shown = |it: &Asked| View::new(&it.name, &it.sql, &it.fields);
        stream.views = queries.iter().map(shown).collect();
        (stream.promise, stream.queries, stream.shares) = (promise, queries, shares);
        let names = job.sources().into_iter().map(|source| source.name);
        stream.sources = names.collect();
        let class = job.turns.as_ref().map(|(_, class)| *class);
        stream.is_batch = class == Some(Class::Batch);
        let folder = RealFolder::open(&self.path(name))?;
        let sinks = ends.sinks.into_iter().zip(&stream.views);
        let tapped = sinks.map(|(sink, view)| {
            let view = view.clone();
            Box::new(Tap { sink, view }) as Box<dyn holm_connect::Sink>
        });
        ends.sinks = tapped.collect();
        match door {
            Some(door) => self.0.front.open(name, door),
            None => self.0.front.close(name),
        }
        for (table, subscription, broker) in subscriptions {
            let counts = Arc::clone(&subscription.counts);
            stream.brokers.push((table, counts));
            let task = subscribed(name.to_owned(), subscription, broker);
            stream.tasks.push(self.0.runtime.spawn(task));
        }
        let ports = Arc::clone(&self.0.ports);
        let rows = move || connectors::rows_of_tables(&tables, &*ports);
        let listener = Box::new(|_asides| {});
        let settings = Settings {
            state_bytes_max: state_bytes_max(),
            ..Settings::default()
        };
        Ok(start(folder, job, ends, settings, Box::new(rows), listener))
    }

    /// How all streams are.
    #[must_use]
    pub fn list(&self) -> Value {
        let streams = self.streams();
        let list: Vec<Value> = streams.values().map(shown).collect();
        json!({ "streams": list, "turns": turns(&self.0.turns) })
    }

    /// How a stream is.
    ///
    /// # Errors
    ///
    /// If there is none.
    pub fn show(&self, name: &str) -> Result<Value, PlaneError> {
        let streams = self.streams();
        let stream = streams.get(name);
        stream
            .map(shown)
            .ok_or_else(|| PlaneError::Missing(name.to_owned()))
    }

    /// Lets a stream rest, or go on; one that failed is started again.
    ///
    /// # Errors
    ///
    /// If there is none, or it cannot be started.
    pub fn pause(&self, name: &str, is_paused: bool) -> Result<Value, PlaneError> {
        let mut restarted = None;
        {
            let mut streams = self.streams();
            let missing = || PlaneError::Missing(name.to_owned());
            let stream = streams.get_mut(name).ok_or_else(missing)?;
            stream.definition.is_paused = is_paused;
            stream.definition.write(&self.path(name))?;
            let is_over = stream.handle.as_ref().is_none_or(Handle::is_over);
            if is_over && !is_paused {
                restarted = Some((stream.definition.clone(), stream.handle.take()));
            } else if let Some(handle) = &stream.handle {
                handle.pause(is_paused);
            }
        }
        if let Some((definition, handle)) = restarted {
            if let Some(handle) = handle {
                // It has ended, so this does not wait.
                let _phase: Phase = handle.join();
            }
            self.stop_tasks(name);
            let made = self.make(name, &definition.sql)?;
            let stream = self.run(definition, Ok(made));
            self.streams().insert(name.to_owned(), stream);
        }
        self.show(name)
    }

    fn stop_tasks(&self, name: &str) {
        if let Some(stream) = self.streams().get_mut(name) {
            stream.tasks.drain(..).for_each(|task| task.abort());
        }
    }

    /// Drops a stream and all that it kept; what its sink has stays. With `drains` its windows
    /// close first, and their rows go to the sink.
    ///
    /// # Errors
    ///
    /// If there is none, it does not drain in time, or its folder cannot be removed.
    pub fn drop_stream(&self, name: &str, drains: bool) -> Result<Value, PlaneError> {
        let missing = || PlaneError::Missing(name.to_owned());
        if drains {
            self.drain(name)?;
        }
        let mut stream = self.streams().remove(name).ok_or_else(missing)?;
        self.0.front.close(name);
        let views = stream.views.iter();
        views.for_each(|view| self.0.front.hide(view.name()));
        stream.tasks.drain(..).for_each(|task| task.abort());
        stream.definition.is_dropped = true;
        stream.definition.write(&self.path(name))?;
        if let Some(handle) = stream.handle.take() {
            handle.stop();
            // However it ended, it is gone.
            let _phase: Phase = handle.join();
        }
        remove(&self.path(name))?;
        tracing::info!(stream = name, "stream dropped");
        Ok(json!({ "dropped": name, "drained": drains }))
    }

    fn drain(&self, name: &str) -> Result<(), PlaneError> {
        const STEP: Duration = Duration::from_millis(10);
        self.0.front.close(name);
        let mut waited = Duration::ZERO;
        loop {
            {
                let streams = self.streams();
                let missing = || PlaneError::Missing(name.to_owned());
                let stream = streams.get(name).ok_or_else(missing)?;
                let Some(handle) = &stream.handle else {
                    let text = format!("{name} does not run, so it cannot drain; drop it without");
                    return Err(PlaneError::Unavailable(text));
                };
                handle.pause(false);
                handle.drain();
                if handle.is_over() {
                    return match handle.status().phase {
                        Phase::Complete => Ok(()),
                        other => Err(PlaneError::Unavailable(format!(
                            "{name} did not drain: {other:?}; nothing was dropped"
                        ))),
                    };
                }
            }
            if waited > DRAIN {
                let text = format!("{name} did not drain within {DRAIN:?}; nothing was dropped");
                return Err(PlaneError::Unavailable(text));
            }
            thread::sleep(STEP);
            waited += STEP;
        }
    }

    /// Reads all that a stream keeps, from its disk.
    ///
    /// # Errors
    ///
    /// If there is none, or what it keeps is damaged.
    pub fn verify(&self, name: &str) -> Result<Value, PlaneError> {
        self.show(name)?;
        let folder = RealFolder::open(&self.path(name))?;
        let found = holm_runner::verify(&*folder);
        let found = found.map_err(|error| PlaneError::Failed(format!("{name}: {error}")))?;
        Ok(json!({
            "name": name, "first": found.first, "last": found.last, "batches": found.batches,
            "log_bytes": found.bytes, "logged_rows": found.rows, "snapshots": found.snapshots,
        }))
    }

    /// Stops all streams; they go on where they were when the plane is opened again.
    pub fn stop(&self) {
        let mut handles = Vec::new();
        for stream in self.streams().values_mut() {
            stream.tasks.drain(..).for_each(|task| task.abort());
            handles.extend(stream.handle.take());
        }
        handles.iter().for_each(Handle::stop);
        for handle in handles {
            // However it ended, it is over.
            let _phase: Phase = handle.join();
        }
    }

    fn tick(&self) {
        for stream in self.streams().values() {
            if let Some(handle) = &stream.handle {
                let (status, is_over) = (handle.status(), handle.is_over());
                for (query, view) in stream.views.iter().enumerate() {
                    let brokers = stream.brokers.iter();
                    let passed = brokers.map(|(_, counts)| counts.passed_over().messages);
                    view.figures(Figures {
                        passed_over: passed.sum(),
                        ..figures(&status, query, is_over)
                    });
                }
            }
        }
    }
}

/// Microseconds since 1970.
pub(crate) fn clock() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| i64::try_from(since.as_micros()).unwrap_or(0))
}

/// What is shown of a query: its rows are its own, and panes, keys, state and time are those of all
/// that share its stream.
fn figures(status: &Status, query: usize, is_ended: bool) -> Figures {
    let counts = match status.queries.as_slice() {
        [_] => status.counts,
        several => several[query],
    };
    let marks = || status.marks.iter().zip(&status.is_idle);
    let speaking = marks().filter(|(_, is_idle)| !**is_idle);
    let lowest = speaking.map(|(mark, _)| *mark).min();
    let lowest = lowest.or_else(|| status.marks.iter().max().copied());
    Figures {
        rows: counts.rows,
        out: counts.out,
        late: counts.late,
        diverted: counts.diverted,
        log_bytes: status.log_bytes,
        logged: status.logged,
        state_bytes: wide(status.gauge.bytes),
        panes: wide(status.gauge.panes),
        keys: wide(status.gauge.keys),
        busy_ns: u64::try_from(status.busy.as_nanos()).unwrap_or(u64::MAX),
        watermark: lowest.filter(|mark| *mark != i64::MIN && *mark != i64::MAX),
        clock: clock(),
        is_ended,
        together: wide(status.queries.len()),
        ..Figures::default()
    }
}

/// How much state a query of this machine may keep: a quarter of its memory, where that is known.
#[must_use]
pub fn state_bytes_max() -> usize {
    let known = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = known
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"));
    let total = total.and_then(|text| text.trim().trim_end_matches(" kB").parse::<usize>().ok());
    let otherwise = Settings::default().state_bytes_max;
    total.map_or(otherwise, |kib| kib.saturating_mul(1_024) / 4)
}

fn wide(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

/// A stream as JSON.
fn shown(stream: &Stream) -> Value {
    let Definition { name, sql, .. } = &stream.definition;
    let Some(handle) = &stream.handle else {
        let why = &stream.refused;
        return json!({ "name": name, "sql": sql, "phase": "failed", "why": why });
    };
    let status = handle.status();
    let (phase, why) = match &status.phase {
        Phase::Recovering => ("recovering", None),
        Phase::Running => ("running", None),
        Phase::Waiting(why) => ("waiting", Some(why.clone())),
        Phase::Paused => ("paused", None),
        Phase::Complete => ("complete", None),
        Phase::Stopped => ("stopped", None),
        Phase::Failed(why) => ("failed", Some(why.clone())),
    };
    let time = |mark: &i64| {
        (*mark != i64::MIN && *mark != i64::MAX).then(|| {
            let mut text = String::new();
            holm_lanes::write_timestamp(*mark, 3, &mut text);
            text
        })
    };
    let asides: Vec<Value> = status
        .asides
        .iter()
        .map(|aside| json!({ "row": aside.row.map(|row| row.1), "why": aside.why }))
        .collect();
    let recovered = status.recovered;
    let class = if stream.is_batch { "batch" } else { "live" };
    json!({
        "name": name, "sql": sql, "phase": phase, "why": why, "promise": stream.promise,
        "rows_in": status.counts.rows, "late": status.counts.late,
        "diverted": status.counts.diverted, "rows_out": status.outputs.iter().sum::<u64>(),
        "class": class, "queries": shown_queries(stream, &status), "shares": stream.shares,
        "committed": status.committed, "records": status.records,
        "log_points": stream.log_points(&status), "repeated": stream.repeated(&status),
        "passed_over": stream.passed_over(),
        "panes": status.gauge.panes, "keys": status.gauge.keys,
        "log_bytes": status.log_bytes, "logged_bytes": status.logged.0, "credit_bytes": status.credit_bytes,
        "snapshot": { "record": status.snapshot.0, "bytes": status.snapshot.1 },
        "watermarks": status.marks.iter().map(time).collect::<Vec<_>>(), "idle": stream.idle(&status),
        "recovered_ms": recovered.all.as_secs_f64() * 1e3, "replayed": recovered.records, "asides": asides,
    })
}

/// How long live streams waited for their turns.
fn turns(turns: &Turns) -> Value {
    let waits = turns.waits();
    let micros = |time: Duration| time.as_secs_f64() * 1e6;
    json!({
        "live_waits": waits.count(), "p50_us": micros(waits.at(50)), "p99_us": micros(waits.at(99)),
        "most_us": micros(waits.most()),
    })
}

fn shown_queries(stream: &Stream, status: &Status) -> Vec<Value> {
    let queries = stream.queries.iter().zip(&status.queries).enumerate();
    let shown = queries.map(|(number, (asked, counts))| {
        json!({
            "name": asked.name, "into": asked.into, "rows_in": counts.rows, "late": counts.late,
            "diverted": counts.diverted, "rows_out": status.outputs[number],
            "committed": status.committed.get(number),
        })
    });
    shown.collect()
}

fn remove(path: &Path) -> Result<(), PlaneError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(PlaneError::Failed(
            format!("remove {}: {error}", path.display()),
        )),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Keeps a subscription to a broker, whatever becomes of its connections.
async fn subscribed(stream: String, subscription: Subscription, broker: Reach) {
    const RETRY: Duration = Duration::from_millis(500);
    loop {
        let ended = session(&subscription, &broker).await;
        if let Err(error) = ended {
            tracing::warn!(stream, broker = broker.host, error, "broker lost");
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// One connection to a broker, until it ends.
async fn session(subscription: &Subscription, broker: &Reach) -> Result<(), String> {
    let connected = tokio::net::TcpStream::connect(&broker.host);
    let plain = in_time(connected).await?;
    let served = match &broker.tls {
        None => subscription.serve(plain).await,
        Some(Tls { config, name }) => {
            let connector = tokio_rustls::TlsConnector::from(Arc::clone(config));
            let secure = in_time(connector.connect(name.clone(), plain)).await?;
            subscription.serve(secure).await
        }
    };
    served.map_err(|error| error.to_string())
}

async fn in_time<T>(work: impl Future<Output = std::io::Result<T>>) -> Result<T, String> {
    match tokio::time::timeout(DIAL_TIMEOUT, work).await {
        Ok(done) => done.map_err(|error| format!("it is not reached: {error}")),
        Err(_late) => Err("it does not answer".to_owned()),
    }
}
