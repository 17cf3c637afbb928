//! What is promised: that a judge finds nothing, or that a figure keeps within a bound.

use super::islands::Islands;
use super::load::{Fault, OP_NAMES};
use super::parts::{Parts, read_sites};
use super::quantity::{duration, share, split};
use super::read as quantity;
use super::tree::{Table, Value};
use crate::refusal::Refusal;

/// A judge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Check {
    Linearizable,
    Watch,
    Durable,
    Transactions,
    Lease,
    Invariants,
    Heals,
    Convergence,
    Atomic,
    Sessions,
    Causality,
    Intentions,
    Available,
    Steady,
    Once,
    Watermark,
    Bounded,
}

/// What is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Of {
    /// A keyspace with one order.
    Order,
    /// Islands that write apart.
    Islands,
    Streams,
}

impl Of {
    const fn words(self) -> &'static str {
        match self {
            Self::Order => "in a linearizable keyspace",
            Self::Islands => "in a local-first keyspace",
            Self::Streams => "of streams",
        }
    }
}

impl Check {
    pub(crate) const ALL: [(&'static str, Self); 17] = [
        ("linearizable", Self::Linearizable),
        ("watch", Self::Watch),
        ("durable", Self::Durable),
        ("transactions", Self::Transactions),
        ("lease", Self::Lease),
        ("invariants", Self::Invariants),
        ("heals", Self::Heals),
        ("convergence", Self::Convergence),
        ("atomic", Self::Atomic),
        ("sessions", Self::Sessions),
        ("causality", Self::Causality),
        ("intentions", Self::Intentions),
        ("available", Self::Available),
        ("steady", Self::Steady),
        ("once", Self::Once),
        ("watermark", Self::Watermark),
        ("bounded", Self::Bounded),
    ];

    /// Whether it is judged of such.
    const fn fits(self, of: Of) -> bool {
        match self {
            Self::Invariants | Self::Heals => true,
            Self::Watch => !matches!(of, Of::Streams),
            Self::Linearizable | Self::Durable | Self::Transactions | Self::Lease => {
                matches!(of, Of::Order)
            }
            Self::Convergence
            | Self::Atomic
            | Self::Sessions
            | Self::Causality
            | Self::Intentions
            | Self::Available
            | Self::Steady => matches!(of, Of::Islands),
            Self::Once | Self::Watermark | Self::Bounded => matches!(of, Of::Streams),
        }
    }

    /// Those that are judged of such.
    fn fitting(of: Of) -> impl Iterator<Item = (&'static str, Self)> {
        let all = Self::ALL.into_iter();
        all.filter(move |(_, check)| check.fits(of))
    }

    /// What it demands, in words, where its name says less.
    pub(crate) const fn words(self) -> Option<&'static str> {
        match self {
            Self::Convergence => Some("healed, all islands show the same"),
            Self::Atomic => Some("a transaction is shown whole, in one revision, at each island"),
            Self::Sessions => Some("clients of one island see one order, their own writes in it"),
            Self::Causality => Some("whoever shows a write shows or covers all that it had seen"),
            Self::Intentions => {
                Some("each acknowledged write is shown, covered by one that saw it, or told of")
            }
            Self::Available => Some("an island answers whatever its links do"),
            Self::Steady => Some("an island answers puts as fast when it is cut off as before"),
            Self::Once => {
                Some("sinks hold what an undisturbed run over the logged rows gives, to the byte")
            }
            Self::Watermark => {
                Some("it never falls, survives restarts, and no window comes out before it")
            }
            Self::Bounded => Some("rows that are held stay within the stream's budget"),
            Self::Linearizable
            | Self::Watch
            | Self::Durable
            | Self::Transactions
            | Self::Lease
            | Self::Invariants
            | Self::Heals => None,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        let found = Self::ALL.iter().find(|(_, check)| *check == self);
        found.map_or("", |(name, _)| name)
    }
}

/// A figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Measure {
    /// An operation's latency below which so many thousandths lie.
    Quantile(usize, u32),
    Mean(usize),
    /// Acknowledged operations a second.
    Rate(usize),
    /// Acknowledged, of those asked for.
    Availability(usize),
    Heal,
    /// How long nobody led, in all.
    Leaderless,
    /// From the sending of the row that brings a result out until the sink has it, so many
    /// thousandths of the results; the mean, if none are said.
    Latency(Option<u32>),
    /// How far the watermark is behind the event time of what is sent now.
    Lag(Option<u32>),
    /// Rows that came too late, of all.
    Late,
    /// Results that are as if all rows had come once and in time, of all.
    Completeness,
    /// From a crash until the sink has something new.
    Recovery,
}

/// What a figure is counted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    Nanos,
    PerSecond,
    Share,
}

impl Measure {
    pub(crate) const fn unit(self) -> Unit {
        match self {
            Self::Quantile(..)
            | Self::Mean(_)
            | Self::Heal
            | Self::Leaderless
            | Self::Latency(_)
            | Self::Lag(_)
            | Self::Recovery => Unit::Nanos,
            Self::Rate(_) => Unit::PerSecond,
            Self::Availability(_) | Self::Late | Self::Completeness => Unit::Share,
        }
    }

    /// Whether it is one figure for the whole run.
    pub(crate) const fn is_whole(self) -> bool {
        matches!(
            self,
            Self::Heal | Self::Leaderless | Self::Late | Self::Completeness | Self::Recovery
        )
    }

    /// Whether it is of streams.
    pub(crate) const fn is_of_streams(self) -> bool {
        matches!(
            self,
            Self::Latency(_) | Self::Lag(_) | Self::Late | Self::Completeness | Self::Recovery
        )
    }

    pub(crate) fn name(self) -> String {
        match self {
            Self::Quantile(op, 500) => format!("{}.p50", OP_NAMES[op]),
            Self::Quantile(op, 900) => format!("{}.p90", OP_NAMES[op]),
            Self::Quantile(op, 990) => format!("{}.p99", OP_NAMES[op]),
            Self::Quantile(op, other) => format!("{}.p{other}", OP_NAMES[op]),
            Self::Mean(op) => format!("{}.mean", OP_NAMES[op]),
            Self::Rate(op) => format!("{}.rate", OP_NAMES[op]),
            Self::Availability(op) => format!("availability.{}", OP_NAMES[op]),
            Self::Heal => "heal".to_owned(),
            Self::Leaderless => "leaderless".to_owned(),
            Self::Latency(part) => format!("stream.latency.{}", part_name(part)),
            Self::Lag(part) => format!("stream.lag.{}", part_name(part)),
            Self::Late => "late".to_owned(),
            Self::Completeness => "completeness".to_owned(),
            Self::Recovery => "recovery".to_owned(),
        }
    }

    fn read(text: &str) -> Result<Self, String> {
        let op = |name: &str| {
            let found = OP_NAMES.iter().position(|known| *known == name);
            found.ok_or_else(|| format!("{name} is no operation: use {}", OP_NAMES.join(", ")))
        };
        let of_streams = [("stream.latency.", true), ("stream.lag.", false)];
        for (prefix, is_latency) in of_streams {
            let part = text.strip_prefix(prefix);
            let part = part.and_then(|name| PARTS.iter().find(|(known, _)| *known == name));
            if let Some((_, part)) = part {
                let of = if is_latency { Self::Latency } else { Self::Lag };
                return Ok(of(*part));
            }
        }
        match text.split_once('.') {
            None if text == "late" => Ok(Self::Late),
            None if text == "completeness" => Ok(Self::Completeness),
            None if text == "recovery" => Ok(Self::Recovery),
            None if text == "heal" => Ok(Self::Heal),
            None if text == "leaderless" => Ok(Self::Leaderless),
            Some(("availability", name)) => Ok(Self::Availability(op(name)?)),
            Some((name, "p50")) => Ok(Self::Quantile(op(name)?, 500)),
            Some((name, "p90")) => Ok(Self::Quantile(op(name)?, 900)),
            Some((name, "p99")) => Ok(Self::Quantile(op(name)?, 990)),
            Some((name, "p999")) => Ok(Self::Quantile(op(name)?, 999)),
            Some((name, "mean")) => Ok(Self::Mean(op(name)?)),
            Some((name, "rate")) => Ok(Self::Rate(op(name)?)),
            Some(_) | None => Err(format!(
                "{text} is not measured; OP.p50, p90, p99, p999, mean and rate, \
                 availability.OP, heal and leaderless are, and of streams stream.latency.p50 and \
                 stream.lag.p50, p90, p99, p999, mean, late, completeness and recovery"
            )),
        }
    }
}

/// What may be asked of latencies and lags.
const PARTS: [(&str, Option<u32>); 5] = [
    ("p50", Some(500)),
    ("p90", Some(900)),
    ("p99", Some(990)),
    ("p999", Some(999)),
    ("mean", None),
];

fn part_name(part: Option<u32>) -> &'static str {
    let found = PARTS.iter().find(|(_, known)| *known == part);
    found.map_or("", |(name, _)| name)
}

/// Where a figure must lie.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Bound {
    AtMost(f64),
    AtLeast(f64),
}

/// Something promised.
#[derive(Clone, Debug)]
pub(crate) enum Promise {
    Check(Vec<Check>),
    Figure {
        measure: Measure,
        /// At each of these sites; everywhere together, if empty.
        at: Vec<usize>,
        /// In this phase; in the whole run, if none is named.
        phase: Option<String>,
        bound: Bound,
    },
}

pub(crate) fn read(
    top: &mut Table,
    parts: &Parts,
    faults: &[Fault],
) -> Result<Vec<(usize, Promise)>, Refusal> {
    let tables = top.tables("promise")?;
    if tables.is_empty() {
        return Err(top.refuse(top.line, "nothing is promised: write [[promise]]"));
    }
    let promises = tables.into_iter().map(|mut table| {
        let of = parts.keyspace_of(&mut table)?;
        Ok((of, promise(table, parts, of, faults)?))
    });
    let promises = promises.collect::<Result<Vec<_>, _>>()?;
    for (at, keyspace) in parts.keyspaces.iter().enumerate() {
        if promises.iter().all(|(of, _)| *of != at) {
            let what = format!(
                "nothing is promised of keyspace {}: write [[promise]] with keyspace = \"{0}\"",
                keyspace.name
            );
            return Err(top.refuse(top.line, what));
        }
    }
    Ok(promises)
}

/// What judges are asked for, among those that judge such a keyspace.
fn checks(
    table: Table,
    value: Value,
    (of, islands): (Of, Option<&Islands>),
) -> Result<Promise, Refusal> {
    let line = value.line;
    let names = table.names(value, "check")?;
    let find = |name: &String| {
        let found = Check::fitting(of).find(|(known, _)| known == name);
        found.map(|(_, check)| check).ok_or_else(|| {
            let known = Check::fitting(of).map(|(name, _)| name);
            let known: Vec<&str> = known.collect();
            let what = format!(
                "{name} is not judged {}; these are: {}",
                of.words(),
                known.join(", ")
            );
            table.refuse(line, what)
        })
    };
    let checks = names.iter().map(find).collect::<Result<Vec<_>, _>>()?;
    if islands.is_some_and(|it| it.each > 1) && checks.contains(&Check::Available) {
        let what = "an island of several nodes answers while most of them hear each other: leave available out";
        return Err(table.refuse(line, what));
    }
    table.finish()?;
    Ok(Promise::Check(checks))
}

/// The sites of a figure, at each of which there is something to measure.
fn sites(table: &Table, value: Value, parts: &Parts) -> Result<Vec<usize>, Refusal> {
    let line = value.line;
    let found = read_sites(table, value, "at", &parts.sites)?;
    let runs_there = |site: &usize| parts.streams.iter().any(|stream| stream.site == *site);
    let Some(bare) = found.iter().find(|site| !runs_there(site)) else {
        return Ok(found);
    };
    if parts.streams.is_empty() {
        return Ok(found);
    }
    let name = |site: usize| parts.sites[site].name.as_str();
    let there: Vec<&str> = parts
        .streams
        .iter()
        .map(|stream| name(stream.site))
        .collect();
    let what = format!(
        "at names {}, where no stream runs; one runs at {}",
        name(*bare),
        there.join(", ")
    );
    Err(table.refuse(line, what))
}

fn promise(
    mut table: Table,
    parts: &Parts,
    of: usize,
    faults: &[Fault],
) -> Result<Promise, Refusal> {
    let islands = parts.keyspaces[of].islands.as_ref();
    let are_islands = islands.is_some();
    let whose = match (parts.streams.is_empty(), are_islands) {
        (false, _) => Of::Streams,
        (true, true) => Of::Islands,
        (true, false) => Of::Order,
    };
    if let Some(value) = table.take("check") {
        return checks(table, value, (whose, islands));
    }
    let measure = table.need("measure")?;
    let line = measure.line;
    let measure = quantity(&table, measure, "measure", Measure::read)?;
    if measure.is_of_streams() != (whose == Of::Streams) {
        let what = format!("{} is not measured {}", measure.name(), whose.words());
        return Err(table.refuse(line, what));
    }
    let at = match table.take("at") {
        None => Vec::new(),
        Some(value) => sites(&table, value, parts)?,
    };
    let phase = table.take("phase");
    let phase = phase.map(|value| table.text(value, "phase")).transpose()?;
    if let Some(phase) = &phase {
        let is_known = phase == "before"
            || phase == "after"
            || faults.iter().any(|fault| fault.name == *phase);
        if !is_known {
            let what = format!("phase {phase}: there are before, after, and the faults by name");
            return Err(table.refuse(line, what));
        }
    }
    if measure.is_whole() && are_islands {
        let what = format!(
            "{} is measured where one leads: for islands, promise check = \"heals\"",
            measure.name()
        );
        return Err(table.refuse(line, what));
    }
    if measure.is_whole() && (phase.is_some() || !at.is_empty()) {
        let what = format!(
            "{} is one figure a run: leave `at` and `phase` out",
            measure.name()
        );
        return Err(table.refuse(line, what));
    }
    let reader = |text: &str| match measure.unit() {
        Unit::Nanos => duration(text).map(|nanos| libm::rint(lossy(nanos))),
        Unit::PerSecond => split(text).map(|(number, _)| number),
        Unit::Share => share(text),
    };
    let (most, least) = (table.take("at_most"), table.take("at_least"));
    let bound = match (most, least) {
        (Some(value), None) => Bound::AtMost(quantity(&table, value, "at_most", reader)?),
        (None, Some(value)) => Bound::AtLeast(quantity(&table, value, "at_least", reader)?),
        (None, None) | (Some(_), Some(_)) => {
            return Err(table.refuse(line, "a figure has either at_most or at_least"));
        }
    };
    table.finish()?;
    Ok(Promise::Figure {
        measure,
        at,
        phase,
        bound,
    })
}

/// Spans as they are averaged: exact up to 104 days.
#[expect(
    clippy::cast_precision_loss,
    reason = "spans beyond 2^53 ns, 104 days, may lose their last nanoseconds"
)]
pub(crate) const fn lossy(nanos: u64) -> f64 {
    nanos as f64
}
