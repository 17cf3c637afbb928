//! What was promised of streams: each row counts once, watermarks only rise, what is held has a bound.
//!
//! What would surprise: how often a row may count is decided by who sent it. What was acknowledged
//! counts at least as often as it was acknowledged, and no row more often than it was sent.

use std::collections::BTreeMap;

use crate::verdict::Violation;

const ONCE: &str = "once";
const WATERMARK: &str = "watermark";
const BOUNDED: &str = "bounded";

/// How often a row was acknowledged, logged and sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Times {
    /// Requests with it that were answered.
    pub acknowledged: u64,
    /// Records of the log that hold it.
    pub logged: u64,
    /// Requests with it that reached the stream.
    pub sent: u64,
}

/// Holds the rows of the log against what senders did and heard.
///
/// # Errors
///
/// The first row that is missing, or there too often.
pub fn logged(stream: &str, rows: &BTreeMap<&[u8], Times>) -> Result<(), Violation> {
    for (row, times) in rows {
        let place = || {
            let (
                row,
                Times {
                    acknowledged,
                    logged,
                    sent,
                },
            ) = (String::from_utf8_lossy(row), times);
            format!(
                "{stream}: {row}: sent {sent}, acknowledged {acknowledged}, logged {logged} times"
            )
        };
        if times.logged < times.acknowledged {
            return Err(Violation::new(
                ONCE,
                "an acknowledged row is in the log",
                place(),
            ));
        }
        if times.logged > times.sent {
            return Err(Violation::new(
                ONCE,
                "a row is logged as often as it was sent at most",
                place(),
            ));
        }
    }
    Ok(())
}

/// Holds the bytes of a sink against those of a run that nothing disturbed.
///
/// # Errors
///
/// The first line that differs.
pub fn once(sink: &str, found: &[u8], wanted: &[u8]) -> Result<(), Violation> {
    if found == wanted {
        return Ok(());
    }
    let (mut found, mut wanted) = (
        found.split(|byte| *byte == b'\n'),
        wanted.split(|byte| *byte == b'\n'),
    );
    let mut line = 0_u64;
    loop {
        line += 1;
        let pair = (found.next(), wanted.next());
        if pair.0 == pair.1 && pair.0.is_some() {
            continue;
        }
        let said = |row: Option<&[u8]>| match row {
            None | Some([]) => "nothing".to_owned(),
            Some(row) => String::from_utf8_lossy(row).into_owned(),
        };
        let place = format!(
            "{sink}: line {line} is {}, wanted {}",
            said(pair.0),
            said(pair.1)
        );
        return Err(Violation::new(
            ONCE,
            "a sink holds what an undisturbed run gives",
            place,
        ));
    }
}

/// How many rows came, were late, and had no value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Rows that came.
    pub rows: u64,
    /// Those of them that were late.
    pub late: u64,
    /// And those that were set aside.
    pub diverted: u64,
}

/// Holds what a stream counted against what an undisturbed run counts.
///
/// # Errors
///
/// If they differ.
pub fn counted(stream: &str, told: Counts, wanted: Counts) -> Result<(), Violation> {
    if told == wanted {
        return Ok(());
    }
    let place = format!("{stream}: {told:?}, wanted {wanted:?}");
    Err(Violation::new(
        ONCE,
        "rows are counted as in an undisturbed run",
        place,
    ))
}

/// A watermark behind a record, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The record.
    pub record: u64,
    /// What the stream said.
    pub told: i64,
    /// What the rows up to there make it.
    pub wanted: i64,
    /// The last end of the windows that came out with it.
    pub closed: Option<i64>,
}

/// Judges watermarks, in the order of the log.
///
/// # Errors
///
/// The first that falls, is another than the rows make it, or that a window came out before.
pub fn watermark(stream: &str, marks: &[Mark]) -> Result<(), Violation> {
    let mut before = i64::MIN;
    for mark in marks {
        let Mark {
            record,
            told,
            wanted,
            closed,
        } = mark;
        let broken = |rule, place: String| Err(Violation::new(WATERMARK, rule, place));
        if *told < before {
            let place = format!("{stream}: {told} behind record {record}, after {before}");
            return broken("a watermark never falls", place);
        }
        if told != wanted {
            let place =
                format!("{stream}: {told} behind record {record}, where its rows make it {wanted}");
            return broken("a watermark follows the rows of the log", place);
        }
        if closed.is_some_and(|end| end > *told) {
            let place = format!(
                "{stream}: a window until {} came out of record {record} at {told}",
                closed.unwrap_or(0)
            );
            return broken("no window comes out before the watermark", place);
        }
        before = *told;
    }
    Ok(())
}

/// Judges what is held, of one kind.
///
/// # Errors
///
/// If it is more than may be.
pub fn bounded(stream: &str, what: &str, (held, limit): (u64, u64)) -> Result<(), Violation> {
    if held <= limit {
        return Ok(());
    }
    let place = format!("{stream}: {held} {what}, and {limit} may be");
    Err(Violation::new(
        BOUNDED,
        "what is held stays within the budget",
        place,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(judged: Result<(), Violation>) -> &'static str {
        judged.expect_err("it is broken").rule
    }

    #[test]
    fn a_row_that_is_gone_or_counts_too_often_is_found() {
        let of = |acknowledged, logged_times, sent| {
            let times = Times {
                acknowledged,
                logged: logged_times,
                sent,
            };
            logged("s", &BTreeMap::from([(&b"row"[..], times)]))
        };
        assert_eq!(of(1, 1, 1), Ok(()));
        assert_eq!(of(1, 2, 3), Ok(()), "it was sent again, for nobody heard");
        assert_eq!(of(0, 0, 2), Ok(()));
        assert_eq!(rule(of(2, 1, 2)), "an acknowledged row is in the log");
        assert_eq!(
            rule(of(1, 3, 2)),
            "a row is logged as often as it was sent at most"
        );
    }

    #[test]
    fn a_sink_with_another_line_more_or_fewer_is_found() {
        assert_eq!(once("s", b"a\nb\n", b"a\nb\n"), Ok(()));
        for found in [&b"a\n"[..], b"a\nb\nb\n", b"a\nc\n", b"b\na\n", b""] {
            let judged = once("s", found, b"a\nb\n");
            assert_eq!(rule(judged), "a sink holds what an undisturbed run gives");
        }
        let place = once("s", b"a\n", b"a\nb\n")
            .expect_err("a row is missing")
            .place;
        assert_eq!(place, "s: line 2 is nothing, wanted b");
    }

    #[test]
    fn a_row_that_is_counted_twice_is_found() {
        let wanted = Counts {
            rows: 3,
            late: 1,
            diverted: 0,
        };
        assert_eq!(counted("s", wanted, wanted), Ok(()));
        let told = Counts { rows: 4, ..wanted };
        assert_eq!(
            rule(counted("s", told, wanted)),
            "rows are counted as in an undisturbed run"
        );
    }

    #[test]
    fn a_watermark_that_falls_lies_or_comes_late_is_found() {
        let mark = |told, wanted, closed| Mark {
            record: 3,
            told,
            wanted,
            closed,
        };
        assert_eq!(
            watermark("s", &[mark(1, 1, None), mark(1, 1, Some(1))]),
            Ok(())
        );
        let judged = watermark("s", &[mark(2, 2, None), mark(1, 1, None)]);
        assert_eq!(rule(judged), "a watermark never falls");
        let judged = watermark("s", &[mark(2, 1, None)]);
        assert_eq!(rule(judged), "a watermark follows the rows of the log");
        let judged = watermark("s", &[mark(2, 2, Some(3))]);
        assert_eq!(rule(judged), "no window comes out before the watermark");
    }

    #[test]
    fn more_than_may_be_held_is_found() {
        assert_eq!(bounded("s", "bytes", (7, 7)), Ok(()));
        assert_eq!(
            rule(bounded("s", "bytes", (8, 7))),
            "what is held stays within the budget"
        );
    }
}
