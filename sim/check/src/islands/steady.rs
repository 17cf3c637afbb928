//! A cut changes nothing for those who write: their island answers within the same time.

use std::time::Duration;

use crate::verdict::Violation;

const JUDGE: &str = "steady";

/// So many answers say where their median lies, and so many more where the slowest hundredth does.
const MEDIAN_MIN: u64 = 500;
const TAIL_MIN: u64 = 10_000;

/// How long answers took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Took {
    /// How many there were.
    pub answers: u64,
    /// Half of them took at most this long.
    pub median: Duration,
    /// All but a hundredth of them.
    pub tail: Duration,
}

/// Holds how long an island's answers took while it was cut off against before: neither is more
/// than a tenth above the other. Of too few answers nothing is said.
///
/// # Errors
///
/// The first of the two figures that a cut changed.
pub fn steady(site: &str, before: Took, cut: Took) -> Result<(), Violation> {
    let answers = before.answers.min(cut.answers);
    let figures = [
        ("half of the answers", MEDIAN_MIN, before.median, cut.median),
        ("all but a hundredth", TAIL_MIN, before.tail, cut.tail),
    ];
    for (what, least, before, cut) in figures {
        let is_near = before.min(cut) * 11 >= before.max(cut) * 10;
        if answers >= least && !is_near {
            let place = format!("{site}: {what} within {before:?} before and {cut:?} while cut");
            return Err(Violation::new(
                JUDGE,
                "an island answers as fast when it is cut off as before",
                place,
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn took(answers: u64, median: u64, tail: u64) -> Took {
        Took {
            answers,
            median: Duration::from_micros(median),
            tail: Duration::from_micros(tail),
        }
    }

    #[test]
    fn a_tenth_more_or_less_is_the_same() {
        let before = took(20_000, 1_000, 4_000);
        for cut in [took(10_000, 1_100, 4_400), took(10_000, 910, 3_700)] {
            assert_eq!(steady("a", before, cut), Ok(()));
        }
    }

    #[test]
    fn a_cut_that_is_felt_is_found() {
        let before = took(20_000, 1_000, 4_000);
        for cut in [
            took(10_000, 1_101, 4_000),
            took(10_000, 900, 4_000),
            took(10_000, 1_000, 4_401),
            took(500, 2_000, 4_000),
        ] {
            assert!(steady("a", before, cut).is_err(), "{cut:?}");
        }
    }

    #[test]
    fn of_few_answers_nothing_is_said() {
        let before = took(20_000, 1_000, 4_000);
        assert_eq!(steady("a", before, took(9_999, 1_000, 9_000)), Ok(()));
        assert_eq!(steady("a", before, took(499, 9_000, 9_000)), Ok(()));
    }
}
