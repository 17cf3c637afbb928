//! Streams: a query that a site keeps running, what feeds it and where its rows go.

use std::sync::Arc;

use holm_connect::{Format, Recipe};
use holm_engine::{Limits, Plan, Source, sources};
use holm_lanes::{Field, Kind};
use holm_runner::{Input, Job, QUERIES_MAX};
use holm_sql::{Known, Planned};
use holm_virtual::Quantiles;

use super::parts::{Site, read_sites, spans};
use super::quantity::{duration, frequency_milli, share, whole};
use super::tree::{self, Table, Value};
use super::{Beside, Length, count, read as quantity};
use crate::refusal::Refusal;

const STREAMS_MAX: usize = 16;
/// The most rows of a run: whoever sends and whoever judges hold each of them.
const ROWS_MAX: u64 = 2_000_000;
/// The most rows in a thousand seconds.
const RATE_MILLI_MAX: u64 = 1_000_000_000;

/// A stream of a site.
#[derive(Clone, Debug)]
pub(crate) struct Stream {
    /// Where it is declared.
    pub(crate) line: usize,
    pub(crate) name: String,
    pub(crate) site: usize,
    pub(crate) job: Job,
    /// For each query the columns of its rows.
    pub(crate) fields: Vec<Vec<Field>>,
    /// For each query the columns that name a row; of a keyspace only.
    pub(crate) keys: Vec<Vec<usize>>,
    pub(crate) source: Feeding,
    pub(crate) sink: Outlet,
}

/// How rows get to a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// In requests that are answered.
    Sent,
    /// Through a file of the site, which the stream follows.
    File,
}

/// Who sends rows, and how.
#[derive(Clone, Debug)]
pub(crate) struct Feeding {
    pub(crate) recipe: Recipe,
    pub(crate) way: Way,
    /// Rows in a thousand seconds.
    pub(crate) rate_milli: u32,
    /// How many in all; none while the run lasts.
    pub(crate) rows: Option<u64>,
    /// How far rows are out of order, in microseconds.
    pub(crate) disorder: i64,
    /// How many of a million requests are sent again though they were answered.
    pub(crate) duplicates: u32,
    /// Each request has a name of its own, under which it counts once.
    pub(crate) is_keyed: bool,
}

impl Feeding {
    /// How many rows there should be when so much of a run is over.
    pub(crate) fn due(&self, nanos: u64) -> u64 {
        let due = u128::from(nanos) * u128::from(self.rate_milli) / 1_000_000_000_000;
        u64::try_from(due).unwrap_or(u64::MAX)
    }

    /// When a row is due, in nanoseconds of the run; they count from 0.
    pub(crate) fn due_at(&self, row: u64) -> u64 {
        let rate = u128::from(self.rate_milli);
        let nanos = (u128::from(row) * 1_000_000_000_000).div_ceil(rate);
        u64::try_from(nanos).unwrap_or(u64::MAX)
    }
}

/// Where rows go.
#[derive(Clone, Debug)]
pub(crate) enum Outlet {
    /// A file of the site.
    File,
    /// A keyspace that is reached over a network.
    Keyspace {
        /// How long a put takes.
        delay: Quantiles,
        /// Of a million puts, how many fail before anything is done.
        fails: u32,
        /// And of how many only the answer is lost.
        loses: u32,
    },
}

pub(super) fn read(
    top: &mut Table,
    sites: &[Site],
    beside: Beside<'_>,
) -> Result<Vec<Arc<Stream>>, Refusal> {
    let mut streams: Vec<Arc<Stream>> = Vec::new();
    for table in top.tables("stream")? {
        let line = table.line;
        let one = stream(table, sites, beside)?;
        if streams.iter().any(|other| other.name == one.name) {
            return Err(top.refuse(line, format!("stream {} is declared twice", one.name)));
        }
        if streams.iter().any(|other| other.site == one.site) {
            let site = &sites[one.site].name;
            let what = format!("{site} has a stream: put each stream at a site of its own");
            return Err(top.refuse(line, what));
        }
        if streams.len() == STREAMS_MAX {
            return Err(top.refuse(
                line,
                format!("a scenario has at most {STREAMS_MAX} streams"),
            ));
        }
        streams.push(Arc::new(one));
    }
    Ok(streams)
}

/// Refuses what has no place beside streams.
pub(super) fn alone(top: &mut Table, sites: &[Site]) -> Result<(), Refusal> {
    for key in ["keyspace", "clients", "goal", "link"] {
        if let Some(table) = top.tables(key)?.first() {
            let what = format!(
                "a scenario has streams or keyspaces, not both yet: leave [[{key}]] out, or each [[stream]]"
            );
            return Err(top.refuse(table.line, what));
        }
    }
    if sites.iter().any(|site| site.nodes > 1) {
        let what = "nodes: a stream runs in one process: leave `nodes` out";
        return Err(top.refuse(top.line, what));
    }
    Ok(())
}

fn stream(mut table: Table, sites: &[Site], beside: Beside<'_>) -> Result<Stream, Refusal> {
    let declared = table.line;
    let name = table.need("name")?;
    let name = table.text(name, "name")?;
    if let Some(value) = table.take("wait") {
        let what = "wait: streams that islands share are not there yet: leave it out";
        return Err(table.refuse(value.line, what));
    }
    let at = table.need("site")?;
    let line = at.line;
    let [site] = read_sites(&table, at, "site", sites)?[..] else {
        return Err(table.refuse(line, "site: a stream runs at one site"));
    };
    let sql = table.need("sql")?;
    let (line, text) = (sql.line, text(&table, sql, beside)?);
    let source = table.need("source")?;
    let source = feeding(&table, source)?;
    let sink = match table.take("sink") {
        None => Outlet::File,
        Some(value) => outlet(&table, value)?,
    };
    let refuse = |what: String| table.refuse(line, what);
    let (job, planned) = job(&text, &source).map_err(refuse)?;
    let is_keyspace = matches!(sink, Outlet::Keyspace { .. });
    let keys = planned.iter().map(|query| keys(query, is_keyspace));
    let keys = keys.collect::<Result<_, _>>().map_err(refuse)?;
    table.finish()?;
    Ok(Stream {
        line: declared,
        name,
        site,
        fields: job.plans.iter().map(|plan| plan.fields.clone()).collect(),
        job,
        keys,
        source,
        sink,
    })
}

/// Queries as they stand in the scenario, or in a file beside it.
fn text(outer: &Table, value: Value, beside: Beside<'_>) -> Result<String, Refusal> {
    if let tree::Kind::Text(text) = value.kind {
        return Ok(text);
    }
    let mut table = inner(outer, value, "sql")?;
    let name = table.need("file")?;
    let line = name.line;
    let name = table.text(name, "file")?;
    let found = beside(&name).map_err(|why| table.refuse(line, format!("sql: {why}")))?;
    table.finish()?;
    Ok(found)
}

/// The columns that name a row in a keyspace.
fn keys(query: &Planned, is_keyspace: bool) -> Result<Vec<usize>, String> {
    if !is_keyspace {
        return Ok(Vec::new());
    }
    let key = query.into.as_ref().map_or(&[][..], |table| table.key());
    let place = |name: &String| {
        let mut fields = query.plan.fields.iter();
        fields.position(|field| field.name.eq_ignore_ascii_case(name))
    };
    let places = key.iter().filter_map(place).collect::<Vec<_>>();
    if places.is_empty() || places.len() < key.len() {
        return Err(
            "sql: rows go into a keyspace by INSERT INTO a table with PRIMARY KEY (...) NOT ENFORCED".to_owned(),
        );
    }
    Ok(places)
}

/// Plans the queries, which read one table of events.
fn job(text: &str, source: &Feeding) -> Result<(Job, Vec<Planned>), String> {
    let script = holm_sql::parse(text).map_err(|refusal| format!("sql: {refusal}"))?;
    let planned = holm_sql::plans(&script, &Known::default());
    let planned = planned.map_err(|refusal| format!("sql: {refusal}"))?;
    if planned.is_empty() || planned.len() > QUERIES_MAX {
        return Err(format!("sql: a stream has 1 to {QUERIES_MAX} queries"));
    }
    if planned.iter().any(|query| !query.tables.is_empty()) {
        return Err("sql: tables that rows are looked up in are not rehearsed yet: leave FOR SYSTEM_TIME out".to_owned());
    }
    let plans: Vec<Plan> = planned.iter().map(|query| query.plan.clone()).collect();
    let read = sources(&plans);
    let [only] = &read[..] else {
        return Err("sql: a rehearsed stream reads one table of events".to_owned());
    };
    given(only, &planned[0].beside[0], source)?;
    let mut needed = vec![false; only.fields.len()];
    for query in &planned {
        for read in &query.needed {
            needed
                .iter_mut()
                .zip(read)
                .for_each(|(any, own)| *any |= own);
        }
    }
    let table = script.tables().iter().find(|table| table.name == only.name);
    let retain = table.and_then(|table| table.options.get("retain"));
    let input = Input {
        format: Format::JsonLines,
        fields: only.fields.clone(),
        needed,
        keeps_all: retain.is_some_and(|retain| retain == "all"),
        // A table alone holds nobody.
        idle: None,
        beside: planned[0].beside[0].clone(),
    };
    let job = Job {
        plans,
        inputs: vec![input],
        description: text.as_bytes().to_vec(),
        limits: Limits::default(),
        turns: None,
    };
    Ok((job, planned))
}

/// Whether the generator gives what a table of events has.
fn given(table: &Source, beside: &[Option<String>], source: &Feeding) -> Result<(), String> {
    let given = source.recipe.fields();
    let name = &table.name;
    for (field, beside) in table.fields.iter().zip(beside) {
        let column = &field.name;
        if beside.is_some() {
            return Err(format!(
                "sql: {name} has METADATA in {column}, which no generator gives: leave METADATA out"
            ));
        }
        let Some(one) = given.iter().find(|one| one.name == *column) else {
            let names: Vec<&str> = given.iter().map(|one| one.name.as_str()).collect();
            return Err(format!(
                "sql: {name} has a column {column}, which the generator does not give; it gives {}",
                names.join(", ")
            ));
        };
        if !fits(one.kind, field.kind) {
            let (is, wanted) = (one.kind, field.kind);
            return Err(format!(
                "sql: {name} has {column} {wanted}, and the generator gives {is}: write {column} {is}"
            ));
        }
    }
    Ok(())
}

/// Whether a column can take what a generator gives; a narrow one diverts the rows that it cannot.
const fn fits(is: Kind, wanted: Kind) -> bool {
    match wanted {
        Kind::String => true,
        Kind::TinyInt | Kind::SmallInt | Kind::Int | Kind::BigInt => {
            matches!(is, Kind::Int | Kind::BigInt)
        }
        Kind::Float | Kind::Double | Kind::Decimal { .. } => {
            matches!(is, Kind::Int | Kind::BigInt | Kind::Double)
        }
        Kind::Timestamp { .. } | Kind::TimestampLtz { .. } => matches!(is, Kind::Timestamp { .. }),
        Kind::Boolean | Kind::Bytes | Kind::Date | Kind::Interval => false,
    }
}

/// Refuses more rows than can be held.
pub(super) fn few_rows(
    top: &Table,
    streams: &[Arc<Stream>],
    length: Length,
) -> Result<(), Refusal> {
    let mut all: u64 = 0;
    for stream in streams {
        let source = &stream.source;
        let while_it_lasts = match length {
            Length::Time(nanos) => source.due(nanos),
            Length::Choices(_) => u64::MAX,
        };
        all = all.saturating_add(source.rows.unwrap_or(u64::MAX).min(while_it_lasts));
        if all > ROWS_MAX {
            let what = format!(
                "a run has {ROWS_MAX} rows at most, and this one {all}: lower `rate`, `rows` or the run's `length`"
            );
            return Err(top.refuse(stream.line, what));
        }
    }
    Ok(())
}

fn inner(outer: &Table, value: Value, name: &str) -> Result<Table, Refusal> {
    let line = value.line;
    let tree::Kind::Table(mut table) = value.kind else {
        return Err(outer.refuse(line, format!("{name} is a table: write {name} = {{ ... }}")));
    };
    name.clone_into(&mut table.name);
    table.line = line;
    Ok(table)
}

/// How many of a million, by a share.
fn per_million(table: &mut Table, key: &'static str) -> Result<u32, Refusal> {
    let Some(value) = table.take(key) else {
        return Ok(0);
    };
    let line = value.line;
    let share = quantity(table, value, key, share)?;
    let whole = u32::try_from(whole(share * 1e6)).ok();
    let whole = whole.filter(|&whole| whole < 1_000_000);
    whole.ok_or_else(|| table.refuse(line, format!("{key} lies between 0 and 1")))
}

fn way(table: &mut Table) -> Result<Way, Refusal> {
    let Some(value) = table.take("kind") else {
        return Ok(Way::Sent);
    };
    let line = value.line;
    let kind = table.text(value, "kind")?;
    if kind != "file" {
        let what = format!("source kind {kind} is not rehearsed: write file, or leave kind out");
        return Err(table.refuse(line, what));
    }
    for key in ["key", "duplicates"] {
        if let Some(value) = table.take(key) {
            let what = format!("{key}: a file is read by its place: leave {key} out");
            return Err(table.refuse(value.line, what));
        }
    }
    Ok(Way::File)
}

fn feeding(outer: &Table, value: Value) -> Result<Feeding, Refusal> {
    let mut table = inner(outer, value, "source")?;
    let way = way(&mut table)?;
    let name = table.need("generator")?;
    let line = name.line;
    let name = table.text(name, "generator")?;
    let known = Recipe::ALL
        .iter()
        .filter(|(_, recipe)| *recipe != Recipe::Campaigns);
    let recipe = known.clone().find(|(known, _)| *known == name);
    let Some((_, recipe)) = recipe else {
        let names: Vec<&str> = known.map(|(name, _)| *name).collect();
        let what = format!(
            "generator {name} is not there; these are: {}",
            names.join(", ")
        );
        return Err(table.refuse(line, what));
    };
    let rate = table.need("rate")?;
    let line = rate.line;
    let rate = quantity(&table, rate, "rate", frequency_milli)?;
    let rate = (1..=RATE_MILLI_MAX).contains(&rate).then_some(rate);
    let rate_milli = rate.and_then(|rate| u32::try_from(rate).ok());
    let rate_milli =
        rate_milli.ok_or_else(|| table.refuse(line, "rate lies between 0.001/s and 1000000/s"))?;
    let rows = match table.take("rows") {
        None => None,
        Some(value) => Some(count(&table, &value, "rows", ROWS_MAX)?),
    };
    let disorder = match table.take("disorder") {
        None => 0,
        Some(value) => quantity(&table, value, "disorder", duration)?,
    };
    let duplicates = per_million(&mut table, "duplicates")?;
    let is_keyed = match table.take("key") {
        None => false,
        Some(value) => match value.kind {
            tree::Kind::Bool(is_keyed) => is_keyed,
            tree::Kind::Text(_)
            | tree::Kind::Number(_)
            | tree::Kind::List(_)
            | tree::Kind::Table(_) => {
                return Err(table.refuse(value.line, "key is true or false"));
            }
        },
    };
    table.finish()?;
    Ok(Feeding {
        recipe: *recipe,
        way,
        rate_milli,
        rows,
        disorder: i64::try_from(disorder / 1_000).unwrap_or(i64::MAX),
        duplicates,
        is_keyed,
    })
}

fn outlet(outer: &Table, value: Value) -> Result<Outlet, Refusal> {
    let line = value.line;
    let (name, table) = match value.kind {
        tree::Kind::Text(name) => (name, None),
        tree::Kind::Table(_) => {
            let mut table = inner(outer, value, "sink")?;
            let kind = table.need("kind")?;
            (table.text(kind, "kind")?, Some(table))
        }
        tree::Kind::Number(_) | tree::Kind::Bool(_) | tree::Kind::List(_) => {
            return Err(outer.refuse(line, "sink is file, or { kind = \"keyspace\", ... }"));
        }
    };
    let outlet = match (name.as_str(), table) {
        ("file", None) => Outlet::File,
        ("keyspace", None) => Outlet::Keyspace {
            delay: Quantiles::fixed(2_000_000),
            fails: 0,
            loses: 0,
        },
        ("keyspace", Some(mut table)) => {
            let delay = match table.take("delay") {
                None => Quantiles::fixed(2_000_000),
                Some(value) => spans(&table, value, "delay")?,
            };
            let (fails, loses) = (
                per_million(&mut table, "fails")?,
                per_million(&mut table, "loses")?,
            );
            if fails + loses > 1_000_000 {
                return Err(table.refuse(line, "fails and loses are 1 together at most: lower one"));
            }
            table.finish()?;
            Outlet::Keyspace {
                delay,
                fails,
                loses,
            }
        }
        (other, _) => {
            let what = format!("sink {other} is not rehearsed: write file or keyspace");
            return Err(outer.refuse(line, what));
        }
    };
    Ok(outlet)
}
