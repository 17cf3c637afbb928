//! Who asks for what, and what goes wrong.

use super::parts::{Disk, Keyspace, Parts, named, read_sites};
use super::quantity::{bytes, duration, frequency_milli, span, split, whole};
use super::tree::{Kind, Table, Value};
use super::{count, read};
use crate::refusal::Refusal;
use crate::site::Engine;

const CLIENTS_MAX: u64 = 100_000;
const OPS_MAX: u64 = 10_000_000;
const KEYS_MAX: u64 = 1_000_000;

/// The operations of a mix, in the order of their weights.
pub(crate) const OP_NAMES: [&str; 7] = ["put", "delete", "txn", "range", "compact", "lease", "add"];

/// How often each operation is wanted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mix(pub(crate) [u32; 7]);

/// Which keys are asked for.
#[derive(Clone, Debug)]
pub(crate) struct Keys {
    /// How much of 2^24 lies at each key or before; empty if all are equally likely.
    pub(crate) until: Vec<u32>,
    pub(crate) count: u32,
}

/// Clients of one kind.
#[derive(Clone, Debug)]
pub(crate) struct Clients {
    pub(crate) at: Vec<usize>,
    /// How many at each site.
    pub(crate) count: u32,
    /// Operations in a thousand seconds and site, whether answered or not; `None` waits for
    /// each answer.
    pub(crate) rate_milli: Option<u64>,
    /// How many each client makes.
    pub(crate) ops: Option<u64>,
    pub(crate) mix: Mix,
    pub(crate) keys: Keys,
    pub(crate) value: u32,
    pub(crate) watches: bool,
}

/// What something happens to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    Site(usize),
    /// A site's node, counted from 0.
    Node(usize, usize),
    Link(usize),
    /// A site's end of a link.
    End(usize, usize),
}

/// What goes wrong.
#[derive(Clone, Debug)]
pub(crate) enum Action {
    Cut,
    /// Only what it sends.
    CutFrom,
    /// What it sends takes so much longer.
    SlowLink(u64),
    SlowDisk(Disk),
    Crash,
    Pause,
    Power,
    SyncFail,
    Full,
    Step(i64),
    Freeze,
    Add(usize),
    Remove(usize),
    Replace(usize, usize),
    Lead(usize),
}

/// A fault of a timed run.
#[derive(Clone, Debug)]
pub(crate) struct Fault {
    pub(crate) name: String,
    pub(crate) at: u64,
    pub(crate) lasts: u64,
    pub(crate) every: Option<u64>,
    pub(crate) targets: Vec<Target>,
    pub(crate) action: Action,
}

/// What may go wrong in a hunt: weights, and how often at most.
#[derive(Clone, Debug)]
pub(crate) struct Chances {
    pub(crate) weights: Vec<(&'static str, u32, u32)>,
    pub(crate) is_recoverable: bool,
}

/// The faults of a hunt, with their usual weights and limits. A weight of 1 is a thousandth of
/// messages for the first two, and 400 of a million moments for the others.
const USUAL: [(&str, u32, u32); 11] = [
    ("drop", 20, u32::MAX),
    ("duplicate", 10, u32::MAX),
    ("crash", 8, 12),
    ("power", 2, 4),
    ("pause", 4, 6),
    ("cut", 6, 8),
    ("cut_from", 4, 6),
    ("slow", 2, 4),
    ("sync_fail", 2, 4),
    ("step", 2, 4),
    ("freeze", 2, 4),
];

/// The same where there are streams, of which each is one process.
const OF_STREAMS: [(&str, u32, u32); 7] = [
    ("crash", 12, 8),
    ("power", 4, 4),
    ("pause", 4, 4),
    ("freeze", 2, 2),
    ("sync_fail", 3, 3),
    ("full", 3, 3),
    // Of two damaged snapshots a stream need not come back.
    ("flip", 3, 1),
];

const RARE: [&str; 5] = ["members", "flip", "full", "suspect", "set_back"];

impl Chances {
    pub(crate) fn usual() -> Self {
        Self {
            weights: USUAL.to_vec(),
            is_recoverable: true,
        }
    }

    pub(crate) fn of_streams() -> Self {
        Self {
            weights: OF_STREAMS.to_vec(),
            is_recoverable: true,
        }
    }

    pub(crate) fn of(&self, kind: &str) -> (u32, u32) {
        let found = self.weights.iter().find(|(name, _, _)| *name == kind);
        found.map_or((0, 0), |&(_, weight, most)| (weight, most))
    }
}

/// Each kind of clients, and the keyspace that it asks.
pub(crate) fn clients(top: &mut Table, parts: &Parts) -> Result<Vec<(usize, Clients)>, Refusal> {
    let tables = top.tables("clients")?;
    if !parts.streams.is_empty() {
        return Ok(Vec::new());
    }
    if tables.is_empty() {
        return Err(top.refuse(top.line, "nobody asks for anything: write [[clients]]"));
    }
    let clients = tables.into_iter().map(|table| client(table, parts));
    let clients = clients.collect::<Result<Vec<_>, _>>()?;
    for (at, keyspace) in parts.keyspaces.iter().enumerate() {
        if clients.iter().all(|(of, _)| *of != at) {
            let what = format!(
                "nobody asks keyspace {} for anything: write [[clients]] with keyspace = \"{0}\"",
                keyspace.name
            );
            return Err(top.refuse(top.line, what));
        }
    }
    Ok(clients)
}

fn client(mut table: Table, parts: &Parts) -> Result<(usize, Clients), Refusal> {
    let at = table.need("at")?;
    let line = at.line;
    let at = read_sites(&table, at, "at", &parts.sites)?;
    let of = parts.keyspace_of(&mut table)?;
    let keyspace = &parts.keyspaces[of];
    let (sites, spare) = (&keyspace.sites, &keyspace.spare);
    if let Some(&other) = at
        .iter()
        .find(|at| !sites.contains(at) && !spare.contains(at))
    {
        let name = &parts.sites[other].name;
        let what = format!(
            "{name} keeps no part of keyspace {}, so nobody can ask there",
            keyspace.name
        );
        return Err(table.refuse(line, what));
    }
    let mut number = |key, default, max| match table.take(key) {
        None => Ok(default),
        Some(value) => count(&table, &value, key, max).map(Some),
    };
    let (number_of, ops) = (
        number("count", Some(1), CLIENTS_MAX)?.unwrap_or(1),
        number("ops", None, OPS_MAX)?,
    );
    let rate = table.take("rate");
    let rate = rate.map(|value| read(&table, value, "rate", frequency_milli));
    let mix = mix(&mut table, keyspace)?;
    let keys = match table.take("keys") {
        None => Keys::uniform(100),
        Some(value) => read(&table, value, "keys", keys)?,
    };
    let value = match table.take("value") {
        None => 64,
        Some(value) => read(&table, value, "value", bytes)?,
    };
    let watches = match table.take("watch") {
        None => false,
        Some(value) => {
            table.text(value, "watch")?;
            true
        }
    };
    let rate_milli = rate.transpose()?;
    table.finish()?;
    let clients = Clients {
        at,
        count: u32::try_from(number_of).expect("it is within its limit"),
        rate_milli,
        ops,
        mix,
        keys,
        value: u32::try_from(value).unwrap_or(u32::MAX),
        watches,
    };
    Ok((of, clients))
}

fn mix(table: &mut Table, keyspace: &Keyspace) -> Result<Mix, Refusal> {
    let Some(value) = table.take("mix") else {
        return Ok(Mix([1, 0, 0, 1, 0, 0, 0]));
    };
    let line = value.line;
    let Kind::Table(mut weights) = value.kind else {
        return Err(table.refuse(line, "mix is a table, such as { put = 50, range = 50 }"));
    };
    let mut mix = [0; 7];
    for (name, value) in weights.rest() {
        let Some(at) = OP_NAMES.iter().position(|known| *known == name) else {
            let what = format!(
                "mix: {name} is not rehearsed yet; these are: {}",
                OP_NAMES.join(", ")
            );
            return Err(table.refuse(value.line, what));
        };
        if let Some(what) = keyspace.lacks(&name) {
            return Err(table.refuse(value.line, what));
        }
        if keyspace.engine == Engine::Table && at > 3 {
            let what = format!("mix: a table has no {name}: write engine = \"store\"");
            return Err(table.refuse(value.line, what));
        }
        let weight = count(table, &value, "a weight", 1_000_000)?;
        mix[at] = u32::try_from(weight).expect("it is within its limit");
    }
    if mix.iter().all(|&weight| weight == 0) {
        return Err(table.refuse(line, "mix asks for nothing: give an operation a weight"));
    }
    Ok(Mix(mix))
}

impl Keys {
    const fn uniform(count: u32) -> Self {
        Self {
            until: Vec::new(),
            count,
        }
    }

    /// Key `n` is asked for in proportion to `1 / (n + 1)^skew`.
    fn zipf(count: u32, skew: f64) -> Self {
        let weight = |key: u32| libm::pow(f64::from(key) + 1.0, -skew);
        let total: f64 = (0..count).map(weight).sum();
        let mut sum = 0.0;
        let until = (0..count).map(|key| {
            sum += weight(key);
            let share = whole(sum / total * f64::from(1_u32 << 24));
            u32::try_from(share).unwrap_or(1 << 24).min(1 << 24)
        });
        Self {
            until: until.collect(),
            count,
        }
    }
}

fn keys(text: &str) -> Result<Keys, String> {
    let wrong = || format!("{text}: keys are uniform(COUNT) or zipf(COUNT, SKEW)");
    let (name, inside) = text.trim().split_once('(').ok_or_else(wrong)?;
    let inside = inside.strip_suffix(')').ok_or_else(wrong)?;
    let mut arguments = inside.split(',');
    let number = split(arguments.next().ok_or_else(wrong)?)?.0;
    let number = u64::try_from(whole(number)).map_err(|_negative| wrong())?;
    let number = u32::try_from(number.min(KEYS_MAX + 1)).map_err(|_large| wrong())?;
    if number == 0 || u64::from(number) > KEYS_MAX {
        return Err(format!("{text}: there are 1 to {KEYS_MAX} keys"));
    }
    let skew = arguments.next().map(split).transpose()?;
    match (name.trim(), skew, arguments.next()) {
        ("uniform", None, None) => Ok(Keys::uniform(number)),
        ("zipf", Some((skew, "")), None) => Ok(Keys::zipf(number, skew)),
        _ => Err(wrong()),
    }
}

const KINDS: [&str; 13] = [
    "cut",
    "cut_from",
    "slow",
    "crash",
    "pause",
    "power",
    "sync_fail",
    "step",
    "freeze",
    "members",
    "restart_as",
    "full",
    "flip",
];

pub(crate) fn faults(top: &mut Table, parts: &Parts) -> Result<Vec<Fault>, Refusal> {
    let tables = top.tables("fault")?;
    let faults = tables.into_iter().map(|table| fault(table, parts));
    faults.collect()
}

fn fault(mut table: Table, parts: &Parts) -> Result<Fault, Refusal> {
    let at = table.need("at")?;
    let at = read(&table, at, "at", duration)?;
    let lasts = match table.take("for") {
        None => 0,
        Some(value) => read(&table, value, "for", duration)?,
    };
    let every = table.take("every");
    let every = every.map(|value| read(&table, value, "every", duration));
    let name = table.take("name");
    let name = name.map(|value| table.text(value, "name")).transpose()?;
    let mut found = None;
    for kind in KINDS {
        if let Some(value) = table.take(kind) {
            if found.is_some() {
                return Err(table.refuse(value.line, "a fault is of one kind: write two faults"));
            }
            found = Some((kind, value));
        }
    }
    let Some((kind, value)) = found else {
        let what = format!("a fault says what happens: one of {}", KINDS.join(", "));
        return Err(table.refuse(table.line, what));
    };
    if kind == "members" && parts.keyspaces.len() > 1 {
        let what = "members change in scenarios of one keyspace so far: leave the fault out";
        return Err(table.refuse(value.line, what));
    }
    if kind == "members" && parts.keyspaces[0].islands.is_some() {
        let what = "members: the sites of a local-first keyspace change in hunts, by a weight in [faults]: leave the fault out";
        return Err(table.refuse(value.line, what));
    }
    let is_apart = matches!(kind, "cut" | "cut_from" | "step" | "members" | "flip");
    if is_apart && !parts.streams.is_empty() {
        let what = format!(
            "{kind}: a rehearsed stream hears no other site and goes by no clock: leave the fault out"
        );
        return Err(table.refuse(value.line, what));
    }
    let (action, targets) = if kind == "members" {
        (change(&table, value, parts)?, Vec::new())
    } else {
        let line = value.line;
        let names = table.names(value, kind)?;
        let targets = names.iter().map(|name| target(&table, line, name, parts));
        let targets: Vec<Target> = targets.collect::<Result<_, _>>()?;
        (action(&mut table, line, kind, &targets, parts)?, targets)
    };
    let every = every.transpose()?;
    if every.is_some_and(|every| every <= lasts) {
        let what = "a fault ends before it comes again: `every` is longer than `for`";
        return Err(table.refuse(table.line, what));
    }
    table.finish()?;
    Ok(Fault {
        name: name.unwrap_or_else(|| kind.to_owned()),
        at,
        lasts,
        every,
        targets,
        action,
    })
}

fn target(table: &Table, line: usize, name: &str, parts: &Parts) -> Result<Target, Refusal> {
    let unknown = || {
        let what = format!(
            "{name} is neither a site, a node such as a/0, a link, nor a link's end such as wan:a"
        );
        table.refuse(line, what)
    };
    let link = |name: &str| parts.links.iter().position(|link| link.name == name);
    if let Some((wire, site)) = name.split_once(':') {
        let (wire, site) = (link(wire), parts.site(site));
        let both = wire.zip(site).ok_or_else(unknown)?;
        return Ok(Target::End(both.0, both.1));
    }
    if let Some((site, node)) = name.split_once('/') {
        let site = parts.site(site).ok_or_else(unknown)?;
        let node = node.parse::<usize>().ok();
        let node = node.filter(|&node| node < parts.sites[site].nodes);
        return Ok(Target::Node(site, node.ok_or_else(unknown)?));
    }
    let as_site = parts.site(name).map(Target::Site);
    let found = as_site.or_else(|| link(name).map(Target::Link));
    found.ok_or_else(unknown)
}

fn action(
    table: &mut Table,
    line: usize,
    kind: &str,
    targets: &[Target],
    parts: &Parts,
) -> Result<Action, Refusal> {
    let is_link = |target: &Target| matches!(target, Target::Link(_) | Target::End(_, _));
    let needs_nodes = !matches!(kind, "cut" | "cut_from" | "slow");
    if needs_nodes && targets.iter().any(is_link) {
        return Err(table.refuse(
            line,
            format!("{kind} happens to sites and nodes, not to links"),
        ));
    }
    Ok(match kind {
        "cut" => Action::Cut,
        "cut_from" => Action::CutFrom,
        "slow" => match (table.take("by"), table.take("disk")) {
            (Some(value), None) => Action::SlowLink(read(table, value, "by", duration)?),
            (None, Some(value)) => {
                if targets.iter().any(is_link) {
                    return Err(table.refuse(line, "a disk belongs to a site or a node"));
                }
                Action::SlowDisk(named(table, value, "disk", &parts.disks)?)
            }
            (Some(_), Some(_)) | (None, None) => {
                let what = "slow says either `by`, how much longer, or `disk`, which instead";
                return Err(table.refuse(line, what));
            }
        },
        "crash" => Action::Crash,
        "pause" => Action::Pause,
        "power" => Action::Power,
        "sync_fail" => Action::SyncFail,
        "full"
            if parts
                .keyspaces
                .iter()
                .any(|one| one.engine == Engine::Table) =>
        {
            let what = "full: a table takes no room: write engine = \"store\"";
            return Err(table.refuse(line, what));
        }
        "full" => Action::Full,
        "step" => {
            let by = table.need("by")?;
            Action::Step(read(table, by, "by", span)?)
        }
        "freeze" => Action::Freeze,
        "restart_as" => {
            let what = "restart_as: there is no older release to run yet: leave the fault out";
            return Err(table.refuse(line, what));
        }
        other => {
            let what = format!("{other} is not rehearsed yet: leave the fault out");
            return Err(table.refuse(line, what));
        }
    })
}

/// `add d`, `remove c`, `replace c d`, `lead b`.
fn change(table: &Table, value: Value, parts: &Parts) -> Result<Action, Refusal> {
    let line = value.line;
    let text = table.text(value, "members")?;
    let words: Vec<&str> = text.split_whitespace().collect();
    let site = |name: &str| {
        let what = format!("members names {name}, which no [[site]] declares");
        parts.site(name).ok_or_else(|| table.refuse(line, what))
    };
    match words[..] {
        ["add", one] => Ok(Action::Add(site(one)?)),
        ["remove", one] => Ok(Action::Remove(site(one)?)),
        ["replace", one, other] => Ok(Action::Replace(site(one)?, site(other)?)),
        ["lead", one] => Ok(Action::Lead(site(one)?)),
        _ => {
            let what = "members is one of: add SITE, remove SITE, replace SITE SITE, lead SITE";
            Err(table.refuse(line, what))
        }
    }
}

pub(crate) fn chances(top: &mut Table, parts: &Parts) -> Result<Chances, Refusal> {
    let mut chances = if parts.streams.is_empty() {
        Chances::usual()
    } else {
        Chances::of_streams()
    };
    let Some(mut table) = top.table("faults")? else {
        return Ok(chances);
    };
    if let Some(value) = table.take("budget") {
        let line = value.line;
        chances.is_recoverable = match table.text(value, "budget")?.as_str() {
            "recoverable" => true,
            "unlimited" => false,
            other => {
                let what = format!("budget is recoverable or unlimited, not {other}");
                return Err(table.refuse(line, what));
            }
        };
    }
    if let Some(value) = table.take("weights") {
        chances.weights = weights(&table, value, parts)?;
    }
    if let Some(value) = table.take("at_most") {
        let line = value.line;
        for (name, most) in numbers(&table, value, "at_most", u32::MAX)? {
            let found = chances.weights.iter_mut().find(|one| one.0 == name);
            if let Some(found) = found {
                found.2 = most;
            }
            if name == "flip" && most > 1 && !parts.streams.is_empty() {
                let what =
                    "at_most: of two damaged snapshots a stream need not come back: write flip = 1";
                return Err(table.refuse(line, what));
            }
        }
    }
    table.finish()?;
    Ok(chances)
}

/// The weights of a hunt's faults, of those that can strike what is there.
fn weights(
    table: &Table,
    value: Value,
    parts: &Parts,
) -> Result<Vec<(&'static str, u32, u32)>, Refusal> {
    let keyspaces = &parts.keyspaces;
    let has = |engine| keyspaces.iter().any(|one| one.engine == engine);
    let line = value.line;
    let weights = numbers(table, value, "weights", 900)?;
    let is_known = |name: &str| OF_STREAMS.iter().any(|(known, ..)| *known == name);
    if !parts.streams.is_empty()
        && let Some((name, _)) = weights.iter().find(|one| !is_known(one.0))
    {
        let known = OF_STREAMS.map(|(known, ..)| known).join(", ");
        let what = format!("{name} strikes no stream; these do: {known}");
        return Err(table.refuse(line, what));
    }
    if parts.streams.is_empty()
        && has(Engine::Store)
        && weights.iter().any(|one| one.0 == "flip" && one.1 > 0)
    {
        let what = "flip is rehearsed with engine = \"table\" only: leave its weight out";
        return Err(table.refuse(line, what));
    }
    if has(Engine::Table) && weights.iter().any(|one| one.0 == "full" && one.1 > 0) {
        let what = "full: a table takes no room: write engine = \"store\"";
        return Err(table.refuse(line, what));
    }
    let is_group =
        |one: &&(&str, u32)| matches!(one.0, "members" | "suspect" | "set_back") && one.1 > 0;
    if keyspaces.len() > 1
        && let Some((name, _)) = weights.iter().find(is_group)
    {
        let what = format!("{name}: in scenarios of one keyspace so far: leave its weight out");
        return Err(table.refuse(line, what));
    }
    let has = |wanted: &str| weights.iter().any(|one| one.0 == wanted && one.1 > 0);
    let is_island = keyspaces[0].islands.is_some();
    if is_island && has("suspect") {
        let what = "suspect: an island is a group of one: leave its weight out";
        return Err(table.refuse(line, what));
    }
    if has("set_back") && !is_island {
        let what = "set_back: only islands notice it: write guarantee = \"local-first\"";
        return Err(table.refuse(line, what));
    }
    let usual = |(name, weight): (&'static str, u32)| {
        let all = if parts.streams.is_empty() {
            &USUAL[..]
        } else {
            &OF_STREAMS[..]
        };
        let usual = all.iter().find(|(known, _, _)| *known == name);
        (name, weight, usual.map_or(8, |&(_, _, most)| most))
    };
    Ok(weights.into_iter().map(usual).collect())
}

fn numbers(
    table: &Table,
    value: Value,
    key: &str,
    max: u32,
) -> Result<Vec<(&'static str, u32)>, Refusal> {
    let line = value.line;
    let Kind::Table(mut inner) = value.kind else {
        return Err(table.refuse(line, format!("{key} is a table of faults and numbers")));
    };
    let known: Vec<&'static str> = USUAL.iter().map(|(name, _, _)| *name).chain(RARE).collect();
    let mut numbers = Vec::new();
    for (name, value) in inner.rest() {
        let Some(name) = known.iter().find(|known| **known == name) else {
            let what = format!(
                "{key}: {name} is not rehearsed yet; these are: {}",
                known.join(", ")
            );
            return Err(table.refuse(value.line, what));
        };
        let number = count(table, &value, name, u64::from(max))?;
        numbers.push((
            *name,
            u32::try_from(number).expect("it is within its limit"),
        ));
    }
    Ok(numbers)
}
