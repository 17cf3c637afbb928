//! The cases of `bench kv`: what each does, and the targets that it is held against.
//!
//! A target lives beside its case, so that the table says by itself what is held.

use crate::bench::server::{At, Form};

/// One case: a piece of work and what is promised of it.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    /// Where its load goes.
    pub(crate) at: At,
    pub(crate) work: Work,
    pub(crate) targets: &'static [Target],
}

/// What a case does with each server.
pub(crate) enum Work {
    /// One run of the load generator, and echoes of as many clients as its floor.
    Load {
        arguments: &'static [&'static str],
        clients: &'static str,
    },
    /// The same while other members answer, and while they do not.
    Apart { arguments: &'static [&'static str] },
    /// The same at one island, and at each of all at once.
    Each { arguments: &'static [&'static str] },
    /// Puts and gets at a fixed rate, with and without somebody who lists all keys.
    Lists,
    /// One writer and many watchers, with and without one that never reads.
    Stalled,
    /// A million keys: memory, disk, and restarts after kill -9.
    Million,
    /// Overwritten keys, compacted and reclaimed under puts at a fixed rate.
    Reclaim,
}

impl Work {
    /// Whether a case takes so long that it runs once, however many rounds are asked for.
    pub(crate) const fn runs_once(&self) -> bool {
        match self {
            Self::Load { .. }
            | Self::Apart { .. }
            | Self::Each { .. }
            | Self::Lists
            | Self::Stalled => false,
            Self::Million | Self::Reclaim => true,
        }
    }
}

/// A bound on one figure.
pub(crate) struct Target {
    /// The figure's name in the table.
    pub(crate) figure: &'static str,
    pub(crate) of: Of,
    pub(crate) bound: Bound,
}

/// What a bound speaks of.
#[derive(Clone, Copy)]
pub(crate) enum Of {
    /// Holm's figure over etcd's.
    Ratio,
    /// Holm's figure alone.
    Holm,
}

/// A bound; it belongs to what it allows.
#[derive(Clone, Copy)]
pub(crate) enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

pub(crate) const RATE: &str = "operations/s";
pub(crate) const CPU: &str = "CPU us/operation";
pub(crate) const TAIL: &str = "p99 ms";
pub(crate) const MIDDLE_JOINED: &str = "p50 joined / cut";
pub(crate) const TAIL_JOINED: &str = "p99 joined / cut";
pub(crate) const EACH_KEPT: &str = "puts/s of each of all / of one";
pub(crate) const PUT_GROWTH: &str = "put p99 with lists / without";
pub(crate) const GET_GROWTH: &str = "get p99 with lists / without";
pub(crate) const MEMORY_GROWTH: &str = "peak growth MiB";
pub(crate) const EVENTS_KEPT: &str = "events/s stalled / free";
pub(crate) const STALLED_TAIL: &str = "p99 stalled / free";
pub(crate) const LOADED: &str = "resident MiB, loaded";
pub(crate) const RESTARTED: &str = "resident MiB, restarted";
pub(crate) const RESTART: &str = "restart to first answer ms";
pub(crate) const SLOWEST: &str = "put max / median";

const fn ratio(figure: &'static str, bound: Bound) -> Target {
    let of = Of::Ratio;
    Target { figure, of, bound }
}

const fn holm(figure: &'static str, bound: Bound) -> Target {
    let of = Of::Holm;
    Target { figure, of, bound }
}

const fn load(
    name: &'static str,
    arguments: &'static [&'static str],
    clients: &'static str,
    targets: &'static [Target],
) -> Case {
    let work = Work::Load { arguments, clients };
    Case {
        name,
        at: At::Leader,
        work,
        targets,
    }
}

/// The same, spread over all members.
const fn spread(mut case: Case, name: &'static str) -> Case {
    case.name = name;
    case.at = At::All;
    case
}

/// A third, as a bound.
const THIRD: Bound = Bound::AtMost(1.0 / 3.0);
const HALF: Bound = Bound::AtMost(0.5);

const CROWD: &[Target] = &[
    ratio(RATE, Bound::AtLeast(3.0)),
    ratio(CPU, THIRD),
    ratio(TAIL, HALF),
];

/// What must stay bounded may grow by so many MiB: the hub's ring or a list's buffers.
const BOUNDED: Bound = Bound::AtMost(64.0);

/// The figures that PROMISES.md holds.
pub(crate) const CASES: &[Case] = &[
    load(
        "put-1",
        &["put", "--clients", "1"],
        "1",
        &[ratio(RATE, Bound::AtLeast(1.0)), ratio(CPU, THIRD)],
    ),
    load("put-64", &["put", "--clients", "64"], "64", CROWD),
    load("put-1000", &["put", "--clients", "1000"], "1000", CROWD),
    load("txn-64", &["txn", "--clients", "64"], "64", &[]),
    load(
        "get-64",
        &["get", "--clients", "64"],
        "64",
        &[ratio(RATE, Bound::AtLeast(2.5))],
    ),
    load(
        "get-64-serializable",
        &["get", "--clients", "64", "--serializable"],
        "64",
        &[],
    ),
    load(
        "list-10000",
        &[
            "list",
            "--clients",
            "2",
            "--keys",
            "20000",
            "--range-keys",
            "10000",
            "--value-bytes",
            "1024",
        ],
        "2",
        &[ratio(RATE, Bound::AtLeast(2.0))],
    ),
    Case {
        name: "list-100000",
        at: At::Leader,
        work: Work::Lists,
        targets: &[
            holm(PUT_GROWTH, Bound::AtMost(2.0)),
            holm(GET_GROWTH, Bound::AtMost(2.0)),
            holm(MEMORY_GROWTH, BOUNDED),
        ],
    },
    load(
        "watch-1000",
        &["watch", "--clients", "1", "--watchers", "1000"],
        "1000",
        &[ratio(RATE, Bound::AtLeast(3.0))],
    ),
    Case {
        name: "watch-1000-stalled",
        at: At::Leader,
        work: Work::Stalled,
        // Nobody slower, but for what two runs of the same differ by on a shared machine.
        targets: &[
            holm(EVENTS_KEPT, Bound::AtLeast(0.9)),
            holm(STALLED_TAIL, Bound::AtMost(1.25)),
            holm(MEMORY_GROWTH, BOUNDED),
        ],
    },
    Case {
        name: "million",
        at: At::Leader,
        work: Work::Million,
        targets: &[
            ratio(LOADED, HALF),
            ratio(RESTARTED, HALF),
            ratio(RESTART, THIRD),
        ],
    },
    Case {
        name: "reclaim",
        at: At::Leader,
        work: Work::Reclaim,
        targets: &[holm(SLOWEST, Bound::AtMost(10.0))],
    },
];

const PUT_1: Case = load(
    "put-1-leader",
    &["put", "--clients", "1"],
    "1",
    &[
        ratio(RATE, Bound::AtLeast(1.2)),
        ratio(CPU, THIRD),
        ratio(TAIL, HALF),
    ],
);
const PUT_64: Case = load("put-64-leader", &["put", "--clients", "64"], "64", CROWD);
const PUT_1000: Case = load(
    "put-1000-leader",
    &["put", "--clients", "1000"],
    "1000",
    &[
        ratio(RATE, Bound::AtLeast(4.0)),
        ratio(CPU, THIRD),
        ratio(TAIL, HALF),
    ],
);
const GET_64: Case = load(
    "get-64-leader",
    &["get", "--clients", "64"],
    "64",
    &[ratio(RATE, Bound::AtLeast(3.0))],
);

/// The figures of three members on one machine.
pub(crate) const OF_THREE: &[Case] = &[
    PUT_1,
    spread(PUT_1, "put-1-spread"),
    PUT_64,
    spread(PUT_64, "put-64-spread"),
    PUT_1000,
    spread(PUT_1000, "put-1000-spread"),
    GET_64,
    spread(GET_64, "get-64-spread"),
];

/// The first island of three, cut off from the others.
const fn cut(mut case: Case, name: &'static str) -> Case {
    case.name = name;
    case.at = At::Cut;
    case
}

const ISLAND_1: Case = load(
    "island-1",
    &["put", "--clients", "1"],
    "1",
    &[ratio(TAIL, Bound::AtMost(1.2))],
);
const ISLAND_64: Case = load(
    "island-64",
    &["put", "--clients", "64"],
    "64",
    &[
        ratio(RATE, Bound::AtLeast(3.0)),
        ratio(TAIL, Bound::AtMost(1.2)),
    ],
);

/// An island that has no other, for what the guarantee costs by itself.
const fn alone(mut case: Case, name: &'static str) -> Case {
    case.name = name;
    case.at = At::Alone;
    case
}

/// A cut changes a put's latency by so much at most, at a rate that leaves the cores room.
const UNCHANGED: &[Target] = &[
    holm(MIDDLE_JOINED, Bound::AtMost(1.1)),
    holm(TAIL_JOINED, Bound::AtMost(1.1)),
];

/// The figures of one of three islands on one machine, against an etcd alone.
pub(crate) const OF_ISLANDS: &[Case] = &[
    ISLAND_1,
    cut(ISLAND_1, "island-1-cut"),
    alone(ISLAND_1, "island-1-alone"),
    ISLAND_64,
    cut(ISLAND_64, "island-64-cut"),
    alone(ISLAND_64, "island-64-alone"),
    Case {
        name: "island-joined-cut",
        at: At::Leader,
        work: Work::Apart {
            arguments: &["put", "--clients", "8", "--rate", "1000"],
        },
        targets: UNCHANGED,
    },
    Case {
        name: "island-each",
        at: At::Leader,
        work: Work::Each {
            arguments: &["put", "--clients", "8", "--rate", "4000"],
        },
        targets: &[holm(EACH_KEPT, Bound::AtLeast(0.9))],
    },
];

/// The cases of a form that one of the patterns names, all if there are none. `*` stands for any text.
///
/// The error is a pattern that names no case.
pub(crate) fn select(form: Form, patterns: &[String]) -> Result<Vec<&'static Case>, String> {
    let cases = of(form);
    let named = |pattern: &String, case: &Case| matches(pattern.as_bytes(), case.name.as_bytes());
    for pattern in patterns {
        if !cases.iter().any(|case| named(pattern, case)) {
            return Err(pattern.clone());
        }
    }
    let wanted =
        |case: &&Case| patterns.is_empty() || patterns.iter().any(|pattern| named(pattern, case));
    Ok(cases.iter().filter(wanted).collect())
}

/// All cases of a form.
pub(crate) const fn of(form: Form) -> &'static [Case] {
    match form {
        Form::Members(1) => CASES,
        Form::Members(_) => OF_THREE,
        Form::Islands => OF_ISLANDS,
    }
}

fn matches(pattern: &[u8], name: &[u8]) -> bool {
    match (pattern.split_first(), name.split_first()) {
        (None, None) => true,
        (Some((b'*', rest)), None) => matches(rest, name),
        (Some((b'*', rest)), Some((_, after))) => matches(rest, name) || matches(pattern, after),
        (Some((sign, rest)), Some((letter, after))) => sign == letter && matches(rest, after),
        (Some(_), None) | (None, Some(_)) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selected(patterns: &[&str]) -> Result<Vec<&'static str>, String> {
        let patterns: Vec<String> = patterns.iter().map(|it| (*it).to_owned()).collect();
        select(Form::Members(1), &patterns)
            .map(|cases| cases.iter().map(|case| case.name).collect())
    }

    #[test]
    fn a_pattern_names_the_cases_it_fits() {
        assert_eq!(
            selected(&["put-*"]),
            Ok(vec!["put-1", "put-64", "put-1000"])
        );
        assert_eq!(
            selected(&["*-1000", "million"]),
            Ok(vec!["put-1000", "watch-1000", "million"])
        );
        assert_eq!(selected(&[]).map(|all| all.len()), Ok(CASES.len()));
    }

    #[test]
    fn a_pattern_that_fits_nothing_is_given_back() {
        assert_eq!(selected(&["put-*", "pet-1"]), Err("pet-1".to_owned()));
        assert_eq!(selected(&["put"]), Err("put".to_owned()));
    }
}
