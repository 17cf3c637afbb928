//! What a watcher saw is what happened: in order, once, whole, without a gap.

use std::collections::BTreeMap;
use std::fmt::Debug;

use crate::verdict::Violation;

const JUDGE: &str = "watch";

/// Something that a watcher received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen<E> {
    /// All events of a revision that it asked for.
    Events {
        /// The revision.
        revision: u64,
        /// Its events, in their order.
        events: Vec<E>,
    },
    /// Everything through this revision has been sent.
    Progress {
        /// The revision.
        revision: u64,
    },
    /// Revisions below this one are compacted; the stream ends.
    Compacted {
        /// The first that is still there.
        first: u64,
    },
}

/// All that one watcher received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stream<E> {
    /// The first revision that it wants.
    pub start: u64,
    /// What came.
    pub seen: Vec<Seen<E>>,
    /// Through which revision it was served when it ended; at the least, no gap before that.
    pub through: u64,
}

/// Holds a stream against what happened: the events of each revision that the watcher asked for,
/// and the first revision that was not compacted when the watch began.
///
/// # Errors
///
/// The first violation in the stream.
pub fn watch<E: PartialEq + Debug>(
    happened: &BTreeMap<u64, Vec<E>>,
    first_kept: u64,
    stream: &Stream<E>,
) -> Result<(), Violation> {
    let mut next = stream.start;
    let mut has_ended = false;
    for seen in &stream.seen {
        if has_ended {
            return broken("nothing comes after the end", format!("{seen:?}"));
        }
        match seen {
            Seen::Events { revision, events } => {
                let (from, revision) = (next, *revision);
                if revision < stream.start {
                    return broken("nothing comes from before the start", format!("{revision}"));
                }
                if revision < from {
                    let place = format!("{revision} after {}", from - 1);
                    return broken("revisions rise, and none comes behind its progress", place);
                }
                no_gap(happened, from, revision)?;
                whole(happened, revision, events)?;
                next = revision + 1;
            }
            Seen::Progress { revision } => {
                no_gap(happened, next, revision + 1)?;
                next = next.max(revision + 1);
            }
            Seen::Compacted { first } => {
                if stream.start >= *first {
                    let place = format!("{first}, and it began at {}", stream.start);
                    return broken("what is there is not called compacted", place);
                }
                has_ended = true;
            }
        }
    }
    if has_ended {
        return Ok(());
    }
    if stream.start < first_kept && !stream.seen.is_empty() {
        let place = format!("{} was gone, {first_kept} is the first", stream.start);
        return broken("what is gone is called compacted", place);
    }
    no_gap(happened, next, stream.through + 1)
}

fn broken<T>(rule: &'static str, place: String) -> Result<T, Violation> {
    Err(Violation::new(JUDGE, rule, place))
}

fn no_gap<E>(happened: &BTreeMap<u64, Vec<E>>, from: u64, until: u64) -> Result<(), Violation> {
    if from >= until {
        return Ok(());
    }
    match happened.range(from..until).next() {
        None => Ok(()),
        Some((missing, _)) => broken("there is no gap", format!("{missing} did not come")),
    }
}

fn whole<E: PartialEq + Debug>(
    happened: &BTreeMap<u64, Vec<E>>,
    revision: u64,
    events: &[E],
) -> Result<(), Violation> {
    match happened.get(&revision) {
        Some(expected) if expected == events => Ok(()),
        Some(expected) => {
            let place = format!("{revision} came as {events:?}, not {expected:?}");
            broken("revisions come whole", place)
        }
        None => broken("what comes has happened", format!("{revision}: {events:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(revision: u64, events: &str) -> Seen<char> {
        let events = events.chars().collect();
        Seen::Events { revision, events }
    }

    /// Revision 3 did not concern the watcher.
    fn judged(start: u64, through: u64, seen: Vec<Seen<char>>) -> Result<(), &'static str> {
        let happened = [(2, "a"), (4, "bc"), (5, "d")];
        let happened = happened.map(|(at, events)| (at, events.chars().collect()));
        let stream = Stream {
            start,
            seen,
            through,
        };
        watch(&BTreeMap::from(happened), 2, &stream).map_err(|violation| violation.rule)
    }

    #[test]
    fn a_whole_stream_passes_from_any_start() {
        let progress = Seen::Progress { revision: 3 };
        let all = vec![events(2, "a"), progress, events(4, "bc"), events(5, "d")];
        assert_eq!(judged(2, 5, all), Ok(()));
        assert_eq!(judged(3, 5, vec![events(4, "bc"), events(5, "d")]), Ok(()));
        assert_eq!(
            judged(9, 5, Vec::new()),
            Ok(()),
            "nothing before a future start"
        );
        assert_eq!(judged(1, 0, vec![Seen::Compacted { first: 2 }]), Ok(()));
    }

    #[test]
    fn each_rule_has_a_stream_that_breaks_it() {
        let progress = |revision| Seen::Progress { revision };
        let cases = [
            (2, vec![events(4, "bc")], "there is no gap"),
            (2, vec![events(2, "a"), progress(4)], "there is no gap"),
            (2, vec![events(2, "a")], "there is no gap"),
            (
                2,
                vec![events(2, "a"), events(2, "a")],
                "revisions rise, and none comes behind its progress",
            ),
            (4, vec![events(4, "b")], "revisions come whole"),
            (3, vec![events(3, "x")], "what comes has happened"),
            (
                5,
                vec![events(4, "bc")],
                "nothing comes from before the start",
            ),
            (1, vec![events(2, "a")], "what is gone is called compacted"),
            (
                2,
                vec![Seen::Compacted { first: 2 }],
                "what is there is not called compacted",
            ),
            (
                1,
                vec![Seen::Compacted { first: 2 }, progress(2)],
                "nothing comes after the end",
            ),
        ];
        for (start, seen, rule) in cases {
            assert_eq!(judged(start, 5, seen.clone()), Err(rule), "{seen:?}");
        }
    }
}
