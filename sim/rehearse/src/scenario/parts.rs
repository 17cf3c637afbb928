//! Sites, disks, clocks, links and the keyspace.

use std::collections::BTreeMap;
use std::sync::Arc;

use holm_virtual::{Distribution, Quantiles};

use super::islands::{self, Islands};
use super::quantity::{bandwidth, distribution, duration, share, span, split, whole};
use super::streams::{self, Stream};
use super::tree::{Kind, Table, Value};
use super::{Beside, Purpose, count};
use crate::refusal::Refusal;
use crate::site::Engine;

const SITES_MAX: usize = 64;
const NODES_MAX: usize = 256;
const LINKS_MAX: usize = 1_024;
/// Each has a number in every alarm.
const KEYSPACES_MAX: usize = 8;

/// A place with power of its own.
#[derive(Clone, Debug)]
pub(crate) struct Site {
    pub(crate) name: String,
    pub(crate) nodes: usize,
    pub(crate) cores: usize,
    /// Sites of one host share its cores.
    pub(crate) host: Option<String>,
    pub(crate) disk: Disk,
    pub(crate) clock: Clock,
    /// The file that says what its work costs.
    pub(crate) costs: Option<String>,
}

/// How a disk behaves.
#[derive(Clone, Debug)]
pub(crate) struct Disk {
    pub(crate) sync: Quantiles,
    /// Nobody said how it behaves: with costs it is the disk that was measured.
    pub(crate) is_usual: bool,
}

/// How a clock behaves; drawn once for each node.
#[derive(Clone, Debug)]
pub(crate) struct Clock {
    pub(crate) offset: Quantiles,
    pub(crate) drift_ppb: Quantiles,
    pub(crate) error: u64,
}

/// A link between two sites, or each two of several.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    pub(crate) name: String,
    /// Pairs of sites.
    pub(crate) pairs: Vec<(usize, usize)>,
    pub(crate) forth: LinkEnd,
    pub(crate) back: LinkEnd,
}

/// One direction of a link.
#[derive(Clone, Debug)]
pub(crate) struct LinkEnd {
    pub(crate) delay: Quantiles,
    pub(crate) loss_per_million: u32,
    pub(crate) duplicate_per_million: u32,
    pub(crate) bytes_per_second: Option<u64>,
    pub(crate) queue_nanos: u64,
}

/// What the nodes keep together.
#[derive(Clone, Debug)]
pub(crate) struct Keyspace {
    pub(crate) name: String,
    pub(crate) sites: Vec<usize>,
    pub(crate) spare: Vec<usize>,
    pub(crate) election_timeout: u64,
    pub(crate) heartbeat: u64,
    pub(crate) reads_by_lease: bool,
    pub(crate) engine: Engine,
    /// How many operations the log keeps for who lags.
    pub(crate) kept: Option<u64>,
    /// What it is if it is local-first.
    pub(crate) islands: Option<Islands>,
}

/// What other tables refer to.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) sites: Vec<Site>,
    pub(crate) links: Vec<Link>,
    /// One at least; where there are streams, one without sites.
    pub(crate) keyspaces: Vec<Keyspace>,
    pub(crate) streams: Vec<Arc<Stream>>,
    pub(crate) disks: BTreeMap<String, Disk>,
}

impl Parts {
    pub(crate) fn site(&self, name: &str) -> Option<usize> {
        self.sites.iter().position(|site| site.name == name)
    }

    /// Which keyspace a table is about: it says so, unless there is only one.
    pub(crate) fn keyspace_of(&self, table: &mut Table) -> Result<usize, Refusal> {
        let names = self.keyspaces.iter().map(|one| one.name.as_str());
        let names = names.collect::<Vec<_>>();
        let Some(value) = table.take("keyspace") else {
            if self.keyspaces.len() == 1 {
                return Ok(0);
            }
            let what = format!(
                "there are several keyspaces: say which, such as keyspace = \"{}\"",
                names[0]
            );
            return Err(table.refuse(table.line, what));
        };
        let line = value.line;
        let name = table.text(value, "keyspace")?;
        let found = names.iter().position(|known| *known == name);
        found.ok_or_else(|| {
            let what = format!(
                "keyspace {name} is declared by no [[keyspace]]; these are: {}",
                names.join(", ")
            );
            table.refuse(line, what)
        })
    }
}

pub(crate) fn read_sites(
    table: &Table,
    value: Value,
    key: &str,
    sites: &[Site],
) -> Result<Vec<usize>, Refusal> {
    let line = value.line;
    let names = table.names(value, key)?;
    let find = |name: &String| {
        let found = sites.iter().position(|site| site.name == *name);
        found.ok_or_else(|| {
            let what = format!("{key} names {name}, which no [[site]] declares");
            table.refuse(line, what)
        })
    };
    names.iter().map(find).collect()
}

pub(crate) fn read(
    top: &mut Table,
    purpose: Purpose,
    beside: Beside<'_>,
) -> Result<Parts, Refusal> {
    let disks = disks(top)?;
    let clocks = clocks(top)?;
    let mut sites = Vec::new();
    for table in top.tables("site")? {
        site(table, (&disks, &clocks), purpose, &mut sites)?;
    }
    if sites.is_empty() || sites.len() > SITES_MAX {
        let what = format!("a scenario has 1 to {SITES_MAX} sites: write [[site]]");
        return Err(top.refuse(top.line, what));
    }
    let nodes: usize = sites.iter().map(|site: &Site| site.nodes).sum();
    if nodes > NODES_MAX {
        return Err(top.refuse(
            top.line,
            format!("a scenario has at most {NODES_MAX} nodes"),
        ));
    }
    let streams = streams::read(top, &sites, beside)?;
    if !streams.is_empty() {
        streams::alone(top, &sites)?;
    }
    let mut links = Vec::new();
    for table in top.tables("link")? {
        links.push(link(table, &sites)?);
    }
    if links.len() > LINKS_MAX {
        return Err(top.refuse(
            top.line,
            format!("a scenario has at most {LINKS_MAX} links"),
        ));
    }
    if !streams.is_empty() {
        return Ok(Parts {
            sites,
            links,
            keyspaces: vec![Keyspace::none()],
            streams,
            disks,
        });
    }
    let keyspaces = keyspaces(top, &sites)?;
    if purpose == Purpose::Timed {
        for keyspace in &keyspaces {
            joined(top, &sites, &links, keyspace)?;
        }
    }
    Ok(Parts {
        sites,
        links,
        keyspaces,
        streams,
        disks,
    })
}

impl Keyspace {
    /// What stands in the place of a keyspace where there are streams.
    fn none() -> Self {
        Self {
            name: String::new(),
            sites: Vec::new(),
            spare: Vec::new(),
            election_timeout: 1_000_000_000,
            heartbeat: 100_000_000,
            reads_by_lease: false,
            engine: Engine::Store,
            kept: None,
            islands: None,
        }
    }
}

fn keyspaces(top: &mut Table, sites: &[Site]) -> Result<Vec<Keyspace>, Refusal> {
    let tables = top.tables("keyspace")?;
    if tables.is_empty() {
        return Err(top.refuse(top.line, "a scenario has a [[keyspace]]"));
    }
    let mut keyspaces: Vec<Keyspace> = Vec::new();
    for table in tables {
        let (line, at) = (table.line, keyspaces.len());
        let refuse = |what: String| Err(top.refuse(line, what));
        if at == KEYSPACES_MAX {
            return refuse(format!("a scenario has at most {KEYSPACES_MAX} keyspaces"));
        }
        if at == 1 && sites.iter().any(|site| site.costs.is_some()) {
            let what = "prices are known of one keyspace alone: leave `costs` out of the sites, \
                        or this keyspace";
            return refuse(what.to_owned());
        }
        let one = keyspace(table, sites)?;
        if keyspaces.iter().any(|other| other.name == one.name) {
            return refuse(format!("keyspace {} is declared twice", one.name));
        }
        keyspaces.push(one);
    }
    Ok(keyspaces)
}

/// Every two sites of the keyspace have a link, or nothing could be said of their delay.
fn joined(top: &Table, sites: &[Site], links: &[Link], keyspace: &Keyspace) -> Result<(), Refusal> {
    let all: Vec<usize> = keyspace
        .sites
        .iter()
        .chain(&keyspace.spare)
        .copied()
        .collect();
    for &left in &all {
        for &right in all.iter().filter(|&&right| right > left) {
            let has = |link: &Link| {
                link.pairs.contains(&(left, right)) || link.pairs.contains(&(right, left))
            };
            if !links.iter().any(has) {
                let (left, right) = (&sites[left].name, &sites[right].name);
                let what = format!("no [[link]] joins {left} and {right}: write one");
                return Err(top.refuse(top.line, what));
            }
        }
    }
    Ok(())
}

fn disks(top: &mut Table) -> Result<BTreeMap<String, Disk>, Refusal> {
    let mut disks = BTreeMap::new();
    let Some(mut tables) = top.table("disk")? else {
        return Ok(disks);
    };
    for (name, value) in tables.rest() {
        let mut table = inner(&tables, value, &format!("[disk.{name}]"))?;
        let sync = table.need("sync")?;
        let sync = spans(&table, sync, "sync")?;
        // Reads are answered from memory, and writes are charged with their sync.
        for key in ["read", "write"] {
            if let Some(value) = table.take(key) {
                spans(&table, value, key)?;
            }
        }
        if let Some(value) = table.take("rate") {
            super::read(&table, value, "rate", bandwidth)?;
        }
        if let Some(value) = table.take("size") {
            let what = "size: full disks are not rehearsed yet: leave it out";
            return Err(table.refuse(value.line, what));
        }
        table.finish()?;
        let is_usual = false;
        disks.insert(name, Disk { sync, is_usual });
    }
    Ok(disks)
}

fn clocks(top: &mut Table) -> Result<BTreeMap<String, Clock>, Refusal> {
    let mut clocks = BTreeMap::new();
    let Some(mut tables) = top.table("clock")? else {
        return Ok(clocks);
    };
    for (name, value) in tables.rest() {
        let mut table = inner(&tables, value, &format!("[clock.{name}]"))?;
        let mut clock = Clock::exact();
        if let Some(value) = table.take("offset") {
            clock.offset = spans(&table, value, "offset")?;
        }
        if let Some(value) = table.take("drift_ppm") {
            let one = |text: &str| Ok(whole(split(text)?.0 * 1_000.0));
            let drift = super::read(&table, value, "drift_ppm", |text| distribution(text, &one))?;
            clock.drift_ppb = Quantiles::of(&drift);
        }
        if let Some(value) = table.take("error") {
            clock.error = super::read(&table, value, "error", duration)?;
        }
        table.finish()?;
        clocks.insert(name, clock);
    }
    Ok(clocks)
}

impl Clock {
    fn exact() -> Self {
        Self {
            offset: Quantiles::fixed(0),
            drift_ppb: Quantiles::fixed(0),
            error: 0,
        }
    }
}

fn inner(outer: &Table, value: Value, name: &str) -> Result<Table, Refusal> {
    let line = value.line;
    match value.kind {
        Kind::Table(mut table) => {
            name.clone_into(&mut table.name);
            table.line = line;
            Ok(table)
        }
        Kind::Text(_) | Kind::Number(_) | Kind::Bool(_) | Kind::List(_) => {
            Err(outer.refuse(line, format!("{name} is a table")))
        }
    }
}

pub(crate) fn spans(table: &Table, value: Value, key: &str) -> Result<Quantiles, Refusal> {
    let read = super::read(table, value, key, |text| distribution(text, &span))?;
    Ok(Quantiles::of(&read))
}

fn site(
    mut table: Table,
    (disks, clocks): (&BTreeMap<String, Disk>, &BTreeMap<String, Clock>),
    purpose: Purpose,
    sites: &mut Vec<Site>,
) -> Result<(), Refusal> {
    let value = table.need("names")?;
    let line = value.line;
    let names = table.names(value, "names")?;
    let mut small = |key, default| match table.take(key) {
        None => Ok(default),
        Some(value) => {
            let whole = count(&table, &value, key, 64)?;
            let whole = usize::try_from(whole).expect("it is at most 64");
            if whole == 0 {
                return Err(table.refuse(value.line, format!("{key} is at least 1")));
            }
            Ok(whole)
        }
    };
    let (nodes, cores) = (small("nodes", 1)?, small("cores", 2)?);
    let host = table.take("host");
    let host = host.map(|value| table.text(value, "host")).transpose()?;
    let disk = match table.take("disk") {
        None => Disk {
            sync: Quantiles::fixed(1_000_000),
            is_usual: true,
        },
        Some(value) => named(&table, value, "disk", disks)?,
    };
    let clock = match table.take("clock") {
        None => Clock::exact(),
        Some(value) => named(&table, value, "clock", clocks)?,
    };
    let costs = match table.take("costs") {
        Some(value) if purpose == Purpose::Hunt => {
            let what = "costs: a hunt has no figures, so its work costs nothing: leave it out";
            return Err(table.refuse(value.line, what));
        }
        Some(value) => Some(table.text(value, "costs")?),
        None => None,
    };
    table.take("name");
    for name in names {
        if sites.iter().any(|site| site.name == name) {
            return Err(table.refuse(line, format!("{name} is declared twice")));
        }
        sites.push(Site {
            name,
            nodes,
            cores,
            host: host.clone(),
            disk: disk.clone(),
            clock: clock.clone(),
            costs: costs.clone(),
        });
    }
    table.finish()
}

pub(crate) fn named<T: Clone>(
    table: &Table,
    value: Value,
    key: &str,
    known: &BTreeMap<String, T>,
) -> Result<T, Refusal> {
    let line = value.line;
    let name = table.text(value, key)?;
    known.get(&name).cloned().ok_or_else(|| {
        let what = format!("{key} is {name}, which no [{key}.{name}] declares");
        table.refuse(line, what)
    })
}

fn link(mut table: Table, sites: &[Site]) -> Result<Link, Refusal> {
    let name = table.need("name")?;
    let name = table.text(name, "name")?;
    let (between, among) = (table.take("between"), table.take("among"));
    let ends = match (between, among) {
        (Some(value), None) => {
            let line = value.line;
            let ends = ends(&table, value, &name, sites)?;
            if ends.len() != 2 {
                let what = "between names two sites; for more, write among";
                return Err(table.refuse(line, what));
            }
            ends
        }
        (None, Some(value)) => ends(&table, value, &name, sites)?,
        (None, None) | (Some(_), Some(_)) => {
            let what = format!("link {name} has either between or among");
            return Err(table.refuse(table.line, what));
        }
    };
    let delay = table.need("one_way")?;
    let delay = spans(&table, delay, "one_way")?;
    let back = table.take("back");
    let back = back.map(|value| spans(&table, value, "back")).transpose()?;
    let mut per_million = |key| match table.take(key) {
        None => Ok(0),
        Some(value) => {
            let line = value.line;
            let share = super::read(&table, value, key, share)?;
            let whole = u32::try_from(whole(share * 1e6)).ok();
            let whole = whole.filter(|&whole| whole <= 1_000_000);
            whole.ok_or_else(|| table.refuse(line, format!("{key} lies between 0 and 1")))
        }
    };
    let (loss_per_million, duplicate_per_million) =
        (per_million("loss")?, per_million("duplicate")?);
    let rate = table.take("rate");
    let rate = rate.map(|value| super::read(&table, value, "rate", bandwidth));
    let queue = table.take("queue");
    let queue = queue.map(|value| super::read(&table, value, "queue", duration));
    let forth = LinkEnd {
        delay,
        loss_per_million,
        duplicate_per_million,
        bytes_per_second: rate.transpose()?,
        queue_nanos: queue.transpose()?.unwrap_or(1_000_000_000),
    };
    let back = back.map_or_else(
        || forth.clone(),
        |delay| LinkEnd {
            delay,
            ..forth.clone()
        },
    );
    table.finish()?;
    let pairs = ends.iter().enumerate();
    let pairs =
        pairs.flat_map(|(at, &left)| ends[at + 1..].iter().map(move |&right| (left, right)));
    Ok(Link {
        name,
        pairs: pairs.collect(),
        forth,
        back,
    })
}

fn ends(table: &Table, value: Value, name: &str, sites: &[Site]) -> Result<Vec<usize>, Refusal> {
    let line = value.line;
    let names = table.names(value, "between or among")?;
    let find = |site: &String| {
        let found = sites.iter().position(|one| one.name == *site);
        found.ok_or_else(|| {
            let what = format!("link {name} joins {site}, which no [[site]] declares");
            table.refuse(line, what)
        })
    };
    names.iter().map(find).collect()
}

fn keyspace(mut table: Table, sites: &[Site]) -> Result<Keyspace, Refusal> {
    let name = table.need("name")?;
    let name = table.text(name, "name")?;
    let mut islands = islands::read(&mut table)?;
    let own = table.need("sites")?;
    let own = read_sites(&table, own, "sites", sites)?;
    let spare = match table.take("spare") {
        None => Vec::new(),
        Some(value) => read_sites(&table, value, "spare", sites)?,
    };
    let mut of = |key, default| match table.take(key) {
        None => Ok(default),
        Some(value) => super::read(&table, value, key, duration),
    };
    let election_timeout = of("election_timeout", 1_000_000_000)?;
    let heartbeat = of("heartbeat", 100_000_000)?;
    if heartbeat == 0 || election_timeout < 2 * heartbeat {
        let what = "election_timeout is at least two heartbeats, and a heartbeat is not 0";
        return Err(table.refuse(table.line, what));
    }
    let engine = engine(&mut table)?;
    let kept = super::kept::read(&mut table, engine)?;
    let reads_by_lease = match table.take("reads") {
        None => false,
        Some(value) => {
            let line = value.line;
            match table.text(value, "reads")?.as_str() {
                "quorum" => false,
                "lease" if engine == Engine::Store => {
                    let what = "the store reads by quorum: for lease, write engine = \"table\"";
                    return Err(table.refuse(line, what));
                }
                "lease" => true,
                other => {
                    let what = format!("reads is quorum or lease, not {other}");
                    return Err(table.refuse(line, what));
                }
            }
        }
    };
    if own.iter().any(|site| spare.contains(site)) {
        return Err(table.refuse(table.line, "a site is either in sites or in spare"));
    }
    if let Some(islands) = &mut islands {
        islands.fit(&table, (&own, &spare, sites), (engine, kept))?;
    }
    table.finish()?;
    Ok(Keyspace {
        islands,
        name,
        sites: own,
        spare,
        election_timeout,
        heartbeat,
        reads_by_lease,
        engine,
        kept,
    })
}

fn engine(table: &mut Table) -> Result<Engine, Refusal> {
    let Some(value) = table.take("engine") else {
        return Ok(Engine::Store);
    };
    let line = value.line;
    match table.text(value, "engine")?.as_str() {
        "store" => Ok(Engine::Store),
        "table" => Ok(Engine::Table),
        other => Err(table.refuse(line, format!("engine is store or table, not {other}"))),
    }
}

/// What a hunt without links has: short delays as a rule, and now and then one that is longer
/// than an election.
pub(crate) fn hunting_delay(election_timeout: u64) -> Quantiles {
    let long = i64::try_from(election_timeout * 3 / 2).unwrap_or(i64::MAX);
    let parts = vec![
        (0.97, Distribution::Exponential(2_000_000)),
        (0.03, Distribution::Uniform(0, long)),
    ];
    Quantiles::of(&Distribution::Mix(parts))
}
