//! The events of an island's watch make its view, at every revision.

use std::collections::BTreeMap;

use super::{Key, Mark, Shown};
use crate::verdict::Violation;

const JUDGE: &str = "watch";

/// How many bits of a revision count within a millisecond and a slot.
const COUNT_BITS: u32 = 14;

/// What a read showed of a range of keys at a revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// The island's revision, as the answer said.
    pub revision: u64,
    /// The first and the last key that were asked for.
    pub keys: (Key, Key),
    /// What was there: the write of each key, and the revision that it has.
    pub cells: BTreeMap<Key, (Mark, u64)>,
}

/// Replays an island's events from the beginning and holds what was read against it. An answer
/// need not have a revision at which something happened.
///
/// # Errors
///
/// The first event or read that does not fit.
pub fn oracle(shown: &[Shown], mut views: Vec<View>) -> Result<(), Violation> {
    views.sort_by_key(|view| view.revision);
    let mut state: BTreeMap<Key, (Mark, u64)> = BTreeMap::new();
    let (mut views, mut last) = (views.into_iter().peekable(), 0);
    for one in shown {
        let count = one.revision & ((1 << COUNT_BITS) - 1);
        if one.revision <= last {
            return broken("revisions rise", format!("{} after {last}", one.revision));
        }
        if count == 0 || count == (1 << COUNT_BITS) - 1 {
            let place = format!("{} counts {count}", one.revision);
            return broken("the first and the last count are never issued", place);
        }
        while let Some(view) = views.next_if(|view| view.revision < one.revision) {
            fits(&state, &view)?;
        }
        last = one.revision;
        for (key, mark) in &one.touches {
            match mark {
                Some(mark) => state.insert(*key, (*mark, one.revision)),
                None => state.remove(key),
            };
        }
    }
    views.try_for_each(|view| fits(&state, &view))
}

fn fits(state: &BTreeMap<Key, (Mark, u64)>, view: &View) -> Result<(), Violation> {
    let (first, last) = view.keys;
    let expected: BTreeMap<Key, (Mark, u64)> = state
        .range(first..=last)
        .map(|(key, cell)| (*key, *cell))
        .collect();
    if view.cells == expected {
        return Ok(());
    }
    let all = expected.keys().chain(view.cells.keys());
    let differs = |key: &&Key| expected.get(key) != view.cells.get(key);
    let key = all.copied().find(|key| differs(&key)).unwrap_or(first);
    let (made, read) = (expected.get(&key), view.cells.get(&key));
    let place = format!(
        "key {key} at {}: events make {made:?}, and {read:?} was read",
        view.revision
    );
    broken("the events make the view at every revision", place)
}

fn broken<T>(rule: &'static str, place: String) -> Result<T, Violation> {
    Err(Violation::new(JUDGE, rule, place))
}

#[cfg(test)]
mod tests {
    use super::super::tests::shows;
    use super::*;

    fn view(revision: u64, cells: &[(Key, Mark, u64)]) -> View {
        let cells = cells.iter();
        View {
            revision,
            keys: (0, 9),
            cells: cells.map(|&(key, mark, at)| (key, (mark, at))).collect(),
        }
    }

    fn judged(shown: &[Shown], views: &[View]) -> Result<(), &'static str> {
        oracle(shown, views.to_vec()).map_err(|violation| violation.rule)
    }

    fn three() -> [Shown; 3] {
        [
            shows(5, &[(1, 7), (2, 7)]),
            shows(6, &[(1, 0)]),
            shows(9, &[(2, 8)]),
        ]
    }

    #[test]
    fn views_that_events_make_pass_between_revisions_too() {
        let views = [
            view(4, &[]),
            view(5, &[(1, 7, 5), (2, 7, 5)]),
            view(8, &[(2, 7, 5)]),
            view(9, &[(2, 8, 9)]),
        ];
        assert_eq!(judged(&three(), &views), Ok(()));
    }

    #[test]
    fn each_rule_has_events_that_break_it() {
        let made = "the events make the view at every revision";
        for wrong in [
            view(5, &[(1, 7, 5)]),
            view(6, &[(1, 7, 5), (2, 7, 5)]),
            view(9, &[(2, 8, 8)]),
            view(9, &[]),
        ] {
            assert_eq!(judged(&three(), &[wrong]), Err(made));
        }
        let again = [shows(5, &[(1, 7)]), shows(5, &[(2, 7)])];
        assert_eq!(judged(&again, &[]), Err("revisions rise"));
        for revision in [1 << 14, (2 << 14) - 1] {
            let rule = "the first and the last count are never issued";
            assert_eq!(judged(&[shows(revision, &[(1, 7)])], &[]), Err(rule));
        }
    }
}
