//! What a scenario says: the file's tables as values that a run can be built from.

mod charge;
mod goal;
mod islands;
mod kept;
mod load;
mod parts;
mod promise;
mod quantity;
mod streams;
mod tree;

use std::sync::Arc;

use sha2::{Digest, Sha256};

#[cfg(test)]
pub(crate) use goal::Test;
pub(crate) use goal::{Goal, Operand, Relation, Step};
pub(crate) use load::{Action, Chances, Clients, Fault, Keys, OP_NAMES, Target};
pub(crate) use parts::{Keyspace, Link, LinkEnd, Site, hunting_delay};
pub(crate) use promise::{Bound, Check, Measure, Promise, Unit};
pub(crate) use streams::{Outlet, Stream, Way};

use crate::costs::Costs;
use crate::refusal::Refusal;
pub(crate) use islands::Islands;
pub(crate) use quantity::whole;
use quantity::{duration, share};
pub(crate) use tree::{Kind, Table, Value, refuse};

const TEXT_MAX: usize = 1 << 20;
const RUNS_MAX: u64 = 100_000;

/// How runs are made and what is wanted of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Figures: things happen by virtual time, runs are repeated until intervals are met.
    Timed,
    /// A broken promise: schedulers and chance choose what happens.
    Hunt,
}

/// How long a run is before its faults end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Length {
    Time(u64),
    Choices(u32),
}

/// Who chooses in a hunt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SchedulerKind {
    Random,
    Pct(u32),
    Pos,
    PosPlus,
}

/// A scenario that can be run.
#[derive(Clone, Debug)]
pub struct Scenario {
    pub(crate) file: String,
    /// Fields that were said beside the text.
    pub(crate) sets: Vec<(String, String)>,
    pub(crate) text: String,
    pub(crate) name: String,
    pub(crate) why: String,
    pub(crate) purpose: Purpose,
    pub(crate) length: Length,
    pub(crate) warmup: u64,
    pub(crate) heal: u64,
    /// How narrow an interval must be: its half width over its mean.
    pub(crate) within: f64,
    pub(crate) confidence: f64,
    pub(crate) runs: (u64, u64),
    pub(crate) schedulers: Vec<SchedulerKind>,
    /// How many operations must be acknowledged, and leaders elected, for a run to say anything.
    pub(crate) informative: (u64, u64),
    pub(crate) sites: Vec<Site>,
    pub(crate) links: Vec<Link>,
    pub(crate) keyspace: Keyspace,
    /// Instead of keyspaces.
    pub(crate) streams: Vec<Arc<Stream>>,
    /// The same for each other keyspace: its clients and its promises, in the same world.
    pub(crate) beside: Vec<Self>,
    /// Whether reports name the keyspace, for there are others.
    pub(crate) has_name: bool,
    pub(crate) clients: Vec<Clients>,
    pub(crate) faults: Vec<Fault>,
    pub(crate) chances: Chances,
    pub(crate) goals: Vec<Goal>,
    pub(crate) promises: Vec<Promise>,
    /// What work costs; none if it is free.
    pub(crate) costs: Option<Arc<Costs>>,
    /// The load comes from a generator that shares the cores of the first site.
    pub(crate) has_generator: bool,
    /// SHA-256 of the text and of what was set besides.
    pub(crate) identity: [u8; 32],
}

impl Scenario {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How its runs are made.
    #[must_use]
    pub const fn purpose(&self) -> Purpose {
        self.purpose
    }

    /// The same scenario, to be hunted through whatever it says of itself.
    #[must_use]
    pub fn hunted(mut self) -> Self {
        self.costs = None;
        if self.purpose == Purpose::Timed {
            self.purpose = Purpose::Hunt;
            self.heal = self.heal.max(20_000_000_000);
            self.chances = if self.has_streams() {
                Chances::of_streams()
            } else {
                Chances::usual()
            };
            self.length = Length::Choices(20_000);
            if self.has_streams() {
                self.informative.0 = self.informative.0.min(20);
            }
            for stream in &mut self.streams {
                let rows = &mut Arc::make_mut(stream).source.rows;
                *rows = Some(rows.unwrap_or(400).min(400));
            }
            for clients in &mut self.clients {
                clients.ops = Some(clients.ops.unwrap_or(40));
                clients.count = clients.count.min(2);
                clients.rate_milli = None;
            }
        }
        self.beside = self.beside.into_iter().map(Self::hunted).collect();
        self
    }

    /// Whether it is of streams, and of no keyspace.
    pub(crate) const fn has_streams(&self) -> bool {
        !self.streams.is_empty()
    }

    /// The scenario of each keyspace.
    pub(crate) fn parts(&self) -> impl Iterator<Item = &Self> {
        std::iter::once(self).chain(&self.beside)
    }

    /// What stands before a line of a report about this keyspace, if there are others.
    pub(crate) fn prefix(&self) -> String {
        if self.has_name {
            format!("{}: ", self.keyspace.name)
        } else {
            String::new()
        }
    }

    /// All sites' nodes: which site each belongs to, in the order of their ids.
    pub(crate) fn nodes(&self) -> Vec<usize> {
        let order = self.keyspace.sites.iter().chain(&self.keyspace.spare);
        let nodes = order.flat_map(|&site| std::iter::repeat_n(site, self.sites[site].nodes));
        nodes.collect()
    }

    /// How many keys clients ask for; what lies behind belongs to others.
    pub(crate) fn keys(&self) -> u32 {
        let keys = self.clients.iter().map(|one| one.keys.count);
        keys.max().unwrap_or(0)
    }

    /// What a local-first keyspace is beside others; none, if it is not local-first.
    pub(crate) const fn islands(&self) -> Option<&Islands> {
        self.keyspace.islands.as_ref()
    }

    /// Whether the judge of this name is asked for.
    pub(crate) fn judges_named(&self, judge: &str) -> bool {
        let asked = Check::ALL.iter().find(|(name, _)| *name == judge);
        asked.is_none_or(|(_, check)| self.judges(*check))
    }

    pub(crate) fn judges(&self, check: Check) -> bool {
        self.promises
            .iter()
            .any(|promise| matches!(promise, Promise::Check(checks) if checks.contains(&check)))
    }
}

/// Reads a file that a scenario names, or says why not.
pub type Beside<'a> = &'a dyn Fn(&str) -> Result<String, String>;

/// Reads a scenario.
///
/// `file` is what refusals call it. `sets` are paths and values that override the text, such as
/// `link.wan.loss` and `0.02`.
///
/// # Errors
///
/// The first thing that cannot be run, with its line and what to do.
pub fn parse(text: &str, file: &str, sets: &[(String, String)]) -> Result<Scenario, Refusal> {
    let none = |name: &str| Err(format!("{name} is not read here"));
    parse_beside(text, file, sets, &none)
}

/// Reads a scenario that may name files, each of which `beside` reads.
///
/// # Errors
///
/// As [`parse`].
pub fn parse_beside(
    text: &str,
    file: &str,
    sets: &[(String, String)],
    beside: Beside<'_>,
) -> Result<Scenario, Refusal> {
    if text.len() > TEXT_MAX {
        return Err(refuse(file, 1, "a scenario has at most 1 MiB"));
    }
    let mut top = tree::read(text, file, sets)?;
    format(&mut top)?;
    let (name, why) = (said(&mut top, "name")?, said(&mut top, "why")?);
    let mut run = top.table("run")?;
    let purpose = purpose(&top, run.as_mut())?;
    let parts = parts::read(&mut top, purpose, beside)?;
    let clients = load::clients(&mut top, &parts)?;
    let faults = load::faults(&mut top, &parts)?;
    let chances = load::chances(&mut top, &parts)?;
    taken_in(&top, &parts.keyspaces[0], &chances)?;
    let goals = goal::read(&mut top)?;
    if parts.keyspaces.len() > 1 {
        without_goals(&top, &goals)?;
    }
    let promises = promise::read(&mut top, &parts, &faults)?;
    let identity = identity(text, sets, &parts.streams);
    let mut keyspaces = parts.keyspaces.into_iter();
    let keyspace = keyspaces.next().expect("there is one at least");
    let mut scenario = Scenario {
        file: file.to_owned(),
        sets: sets.to_vec(),
        text: text.to_owned(),
        name,
        why,
        purpose,
        length: Length::Time(60_000_000_000),
        warmup: 0,
        heal: if purpose == Purpose::Hunt {
            20_000_000_000
        } else {
            0
        },
        within: 0.05,
        confidence: 0.95,
        runs: (10, 1_000),
        schedulers: vec![
            SchedulerKind::PosPlus,
            SchedulerKind::Pct(3),
            SchedulerKind::Random,
        ],
        informative: (
            if purpose == Purpose::Hunt { 20 } else { 100 },
            u64::from(parts.streams.is_empty()),
        ),
        streams: parts.streams,
        sites: parts.sites,
        links: parts.links,
        keyspace,
        beside: Vec::new(),
        has_name: false,
        clients: of_keyspace(&clients, 0),
        faults,
        chances,
        goals,
        promises: of_keyspace(&promises, 0),
        costs: None,
        has_generator: false,
        identity,
    };
    if let Some(run) = run {
        run_table(run, &mut scenario)?;
    }
    scenario.divide(keyspaces, &clients, &promises);
    ends(&top, &scenario, &clients)?;
    top.finish()?;
    Ok(scenario)
}

/// A hunt ends when all that is to be asked and sent was.
fn ends(top: &Table, scenario: &Scenario, clients: &Numbered<Clients>) -> Result<(), Refusal> {
    if scenario.purpose == Purpose::Timed {
        return streams::few_rows(top, &scenario.streams, scenario.length);
    }
    if clients.iter().any(|(_, one)| one.ops.is_none()) {
        let what = "a hunt's clients need `ops`: how many operations each makes";
        return Err(top.refuse(1, what));
    }
    let is_endless = |stream: &Arc<Stream>| stream.source.rows.is_none();
    if scenario.streams.iter().any(is_endless) {
        let what = "a hunt's sources need `rows`: how many each sends";
        return Err(top.refuse(1, what));
    }
    streams::few_rows(top, &scenario.streams, scenario.length)
}

fn said(top: &mut Table, key: &'static str) -> Result<String, Refusal> {
    let value = top.need(key)?;
    top.text(value, key)
}

fn format(top: &mut Table) -> Result<(), Refusal> {
    let format = top.need("format")?;
    if count(top, &format, "format", 1 << 20)? == 1 {
        return Ok(());
    }
    let what = "format is 1: this build reads no other";
    Err(top.refuse(format.line, what))
}

/// A spare island is of no use if nobody takes it in; and sites of several nodes stay.
fn taken_in(top: &Table, keyspace: &Keyspace, chances: &Chances) -> Result<(), Refusal> {
    let is_idle = keyspace.islands.is_some() && !keyspace.spare.is_empty();
    if is_idle && chances.of("members").0 == 0 {
        let what = "spare: nobody takes these islands in: give `members` a weight in [faults]";
        return Err(top.refuse(top.line, what));
    }
    let has_several = keyspace.islands.as_ref().is_some_and(|it| it.each > 1);
    let changing = ["members", "set_back"];
    if has_several && let Some(name) = changing.iter().find(|name| chances.of(name).0 > 0) {
        let what = format!("{name}: only islands of one node change so far: leave its weight out");
        return Err(top.refuse(top.line, what));
    }
    Ok(())
}

fn without_goals(top: &Table, goals: &[Goal]) -> Result<(), Refusal> {
    if goals.is_empty() {
        return Ok(());
    }
    let what = "goals are of one keyspace so far: leave each [[goal]] out";
    Err(top.refuse(1, what))
}

/// What was read of all keyspaces, with the number of each.
type Numbered<T> = [(usize, T)];

impl Scenario {
    /// Gives each other keyspace its clients and its promises.
    fn divide(
        &mut self,
        keyspaces: impl Iterator<Item = Keyspace>,
        clients: &Numbered<Clients>,
        promises: &Numbered<Promise>,
    ) {
        let beside = (1..).zip(keyspaces).map(|(at, keyspace)| Self {
            keyspace,
            clients: of_keyspace(clients, at),
            promises: of_keyspace(promises, at),
            has_name: true,
            ..self.clone()
        });
        self.beside = beside.collect();
        self.has_name = !self.beside.is_empty();
    }
}

fn of_keyspace<T: Clone>(all: &[(usize, T)], at: usize) -> Vec<T> {
    let own = all.iter().filter(|(of, _)| *of == at);
    own.map(|(_, one)| one.clone()).collect()
}

fn identity(text: &str, sets: &[(String, String)], streams: &[Arc<Stream>]) -> [u8; 32] {
    let mut sha = Sha256::new();
    sha.update(text.as_bytes());
    for (path, value) in sets {
        sha.update(format!("\n--set {path}={value}").as_bytes());
    }
    for stream in streams {
        sha.update(&stream.job.description);
    }
    sha.finalize().into()
}

fn purpose(top: &Table, run: Option<&mut Table>) -> Result<Purpose, Refusal> {
    let Some(order) = run.and_then(|run| run.take("order")) else {
        return Ok(Purpose::Timed);
    };
    let line = order.line;
    match top.text(order, "order")?.as_str() {
        "timed" => Ok(Purpose::Timed),
        "hunt" => Ok(Purpose::Hunt),
        other => Err(top.refuse(line, format!("order is timed or hunt, not {other}"))),
    }
}

/// Reads a file that is no scenario.
pub(crate) fn read_tree(text: &str, file: &str) -> Result<Table, Refusal> {
    tree::read(text, file, &[])
}

/// Reads a text value with one of the readers of quantities.
pub(crate) fn read<T>(
    table: &Table,
    value: Value,
    key: &str,
    reader: impl Fn(&str) -> Result<T, String>,
) -> Result<T, Refusal> {
    let line = value.line;
    let text = match value.kind {
        Kind::Text(text) => text,
        Kind::Number(number) => number.to_string(),
        Kind::Bool(_) | Kind::List(_) | Kind::Table(_) => {
            return Err(table.refuse(line, format!("{key} is a quantity in quotes")));
        }
    };
    reader(&text).map_err(|what| table.refuse(line, format!("{key}: {what}")))
}

/// Reads a whole number within a limit.
pub(crate) fn count(table: &Table, value: &Value, key: &str, max: u64) -> Result<u64, Refusal> {
    let number = table.number(value, key)?;
    let whole = u64::try_from(whole(number));
    match whole {
        Ok(whole) if number.fract().abs() < f64::EPSILON && whole <= max => Ok(whole),
        Ok(_) | Err(_) => Err(table.refuse(
            value.line,
            format!("{key} is a whole number from 0 to {max}"),
        )),
    }
}

fn run_table(mut run: Table, scenario: &mut Scenario) -> Result<(), Refusal> {
    if let Some(value) = run.take("length") {
        scenario.length = read(&run, value, "length", length)?;
    }
    scenario.warmup = match (run.take("warmup"), scenario.length) {
        (Some(value), _) => read(&run, value, "warmup", duration)?,
        (None, Length::Time(nanos)) => nanos / 10,
        (None, Length::Choices(_)) => 0,
    };
    if let Some(value) = run.take("heal") {
        scenario.heal = read(&run, value, "heal", duration)?;
    }
    if let Some(value) = run.take("within") {
        scenario.within = read(&run, value, "within", share)?;
    }
    if let Some(value) = run.take("confidence") {
        let line = value.line;
        scenario.confidence = read(&run, value, "confidence", share)?;
        if !(0.5..1.0).contains(&scenario.confidence) {
            return Err(run.refuse(line, "confidence lies between 50% and 100%"));
        }
    }
    if let Some(value) = run.take("runs") {
        scenario.runs = runs(&run, &value)?;
    }
    if let Some(value) = run.take("schedulers") {
        let line = value.line;
        let names = run.names(value, "schedulers")?;
        let kinds = names.iter().map(|name| scheduler(name));
        let kinds: Result<Vec<_>, String> = kinds.collect();
        scenario.schedulers = kinds.map_err(|what| run.refuse(line, what))?;
        if scenario.schedulers.is_empty() {
            return Err(run.refuse(line, "schedulers names one at least"));
        }
    }
    if let Some(value) = run.take("informative") {
        scenario.informative = informative(&run, value, scenario.informative.1)?;
    }
    if let Some(value) = run.take("errors") {
        let what = "errors: no event is of level ERROR in a rehearsal yet: leave it out";
        return Err(run.refuse(value.line, what));
    }
    let is_hunt = scenario.purpose == Purpose::Hunt;
    if !is_hunt && matches!(scenario.length, Length::Choices(_)) {
        return Err(run.refuse(
            run.line,
            "a timed run's length is a span of time, such as 5m",
        ));
    }
    run.finish()
}

fn runs(run: &Table, value: &Value) -> Result<(u64, u64), Refusal> {
    match &value.kind {
        Kind::List(list) if list.len() == 2 => {
            let least = count(run, &list[0], "runs", RUNS_MAX)?;
            let most = count(run, &list[1], "runs", RUNS_MAX)?;
            if least < 2 || most < least {
                return Err(run.refuse(value.line, "runs is [at least 2, at most]"));
            }
            Ok((least, most))
        }
        Kind::List(_) | Kind::Text(_) | Kind::Number(_) | Kind::Bool(_) | Kind::Table(_) => {
            Err(run.refuse(
                value.line,
                "runs is a list of two numbers, such as [10, 1000]",
            ))
        }
    }
}

fn informative(run: &Table, value: Value, elections: u64) -> Result<(u64, u64), Refusal> {
    match value.kind {
        Kind::Table(mut table) => {
            table.name = "informative".to_owned();
            let mut of = |key| match table.take(key) {
                Some(value) => count(run, &value, key, u64::from(u32::MAX)),
                None => Ok(0),
            };
            let floor = (of("acknowledged")?, of("elections")?);
            table.finish()?;
            Ok(floor)
        }
        Kind::Number(_) => {
            let floor = count(run, &value, "informative", u64::from(u32::MAX))?;
            Ok((floor, elections))
        }
        Kind::Text(_) | Kind::Bool(_) | Kind::List(_) => {
            let what = "informative is a number, or { acknowledged = N, elections = N }";
            Err(run.refuse(value.line, what))
        }
    }
}

fn length(text: &str) -> Result<Length, String> {
    match text.strip_suffix("choices") {
        None => duration(text).map(Length::Time),
        Some(number) => {
            let number = number.trim().parse::<u32>();
            let number = number.map_err(|_error| format!("{text}: how many choices?"))?;
            Ok(Length::Choices(number))
        }
    }
}

fn scheduler(name: &str) -> Result<SchedulerKind, String> {
    match name.split_once(':') {
        Some(("pct", depth)) => {
            let depth = depth
                .parse()
                .map_err(|_error| format!("{name}: how deep?"))?;
            Ok(SchedulerKind::Pct(depth))
        }
        None if name == "random" => Ok(SchedulerKind::Random),
        None if name == "pos" => Ok(SchedulerKind::Pos),
        None if name == "pos+" => Ok(SchedulerKind::PosPlus),
        Some(_) | None => Err(format!(
            "{name} is no scheduler: use random, pct:DEPTH, pos or pos+"
        )),
    }
}
