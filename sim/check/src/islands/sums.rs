//! A counter shows the base that won and every addition that no base and no delete had seen.
//!
//! What had seen what follows from marks, as everywhere: each addition and each base leaves its
//! mark at a key that only its island writes. Where several bases stand side by side any of them
//! may have won. An addition that nobody knows the outcome of may count or not, and so may one of an island whose data
//! were set back, or that stays lost, unless another showed it. None counts twice.

use std::collections::{BTreeMap, BTreeSet};

use super::{Ended, Intent, Islands, Key, Mark};
use crate::verdict::Violation;

const JUDGE: &str = "intentions";

/// Sums of so many additions of unknown outcome are tried, in every combination.
const UNKNOWN_MAX: usize = 16;

/// A change of a counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    /// So much was added.
    Add(i64),
    /// It was set.
    Base(i64),
    /// It was deleted.
    Delete,
}

/// Holds what counters show in the end against what was asked of them, write by write.
///
/// # Errors
///
/// The first counter that shows another number.
pub fn sums(
    islands: &Islands,
    counts: &BTreeMap<Key, Vec<(Mark, Count)>>,
    numbers: &BTreeMap<Key, i64>,
    ended: &Ended,
) -> Result<(), Violation> {
    // What is told of as left out is not counted; who counted it cannot be told.
    let is_told = |key: &Key| islands.returns.told.contains(key);
    for (key, counts) in counts.iter().filter(|it| !is_told(it.0)) {
        let shown = numbers.get(key).copied();
        let possible = possible(islands, (*key, counts), ended);
        if let Some(possible) = possible.filter(|all| !all.contains(&shown)) {
            let place = format!("counter {key} shows {shown:?}, and should one of {possible:?}");
            let rule = "a counter shows its base and every addition since";
            return Err(Violation::new(JUDGE, rule, place));
        }
    }
    Ok(())
}

/// What a counter may show; none if too little is known to say.
fn possible(
    islands: &Islands,
    (key, counts): (Key, &[(Mark, Count)]),
    ended: &Ended,
) -> Option<BTreeSet<Option<i64>>> {
    let intent = |mark: &Mark| islands.intents().get(mark);
    let is_kept = |it: &Intent| {
        let stays = |site: &usize| !ended.lost.contains_key(site) && !ended.gone.contains(site);
        let mut others = (0..islands.shown().len()).filter(stays);
        !ended.lost.contains_key(&it.site) || others.any(|site| islands.showed(site, it.mark))
    };
    let happened =
        |it: &Intent| is_kept(it) && (it.acknowledged.is_some() || islands.at(it).is_some());
    let mut certain = Vec::new();
    let mut unknown = Vec::new();
    for (mark, count) in counts {
        match intent(mark) {
            Some(it) if happened(it) => certain.push((it, *count)),
            Some(it) => unknown.push((it, *count)),
            None => {}
        }
    }
    let ends: Vec<&Intent> = certain
        .iter()
        .filter(|(_, count)| !matches!(count, Count::Add(_)))
        .map(|(it, _)| *it)
        .collect();
    let ended_by = |it: &Intent| {
        let mark = it.mark;
        let all = ends.iter().filter(move |end| islands.saw(end, mark));
        all.map(move |end| !islands.may_come_back(key, mark, end.site))
    };
    let alive: Vec<&(&Intent, Count)> = certain
        .iter()
        .filter(|(it, _)| ended_by(it).next().is_none())
        .collect();
    // What one that was left out had ended of another's may count, if that one came back.
    let may_be = certain.iter().filter(|(it, _)| {
        let mut ended = ended_by(it).peekable();
        ended.peek().is_some() && !ended.any(|is_final| is_final)
    });
    unknown.extend(may_be);
    // Whether an addition is behind a base of unknown outcome cannot be told.
    let are_additions = unknown.iter().all(|(_, it)| matches!(it, Count::Add(_)));
    if !are_additions || unknown.len() > UNKNOWN_MAX {
        return None;
    }
    let amount = |count: &Count| match count {
        Count::Add(amount) => Some(*amount),
        Count::Base(_) | Count::Delete => None,
    };
    let added: i64 = alive.iter().filter_map(|(_, count)| amount(count)).sum();
    let has_additions = alive.iter().any(|(_, count)| amount(count).is_some());
    let bases = alive.iter().filter_map(|(_, count)| match count {
        Count::Base(base) => Some(*base),
        Count::Add(_) | Count::Delete => None,
    });
    let mut bases: Vec<Option<i64>> = bases.map(Some).collect();
    if bases.is_empty() {
        bases.push(None);
    }
    let mut totals = BTreeSet::from([(added, has_additions)]);
    for amount in unknown.iter().filter_map(|(_, count)| amount(count)) {
        let more: Vec<(i64, bool)> = totals.iter().map(|(sum, _)| (sum + amount, true)).collect();
        totals.extend(more);
    }
    let shown = bases.iter().flat_map(|base| {
        let shown = totals.iter().map(move |(sum, is_there)| {
            (base.is_some() || *is_there).then(|| base.unwrap_or(0) + sum)
        });
        shown.collect::<Vec<_>>()
    });
    Some(shown.collect())
}

#[cfg(test)]
mod tests {
    use super::super::tests::{shows, wrote};
    use super::*;

    /// Island 0 adds 5 (mark 11), then sets 100 (12), which island 1 does not see: it adds 7 (13).
    fn judged(shown: Option<i64>, more: &[(Mark, Count)]) -> bool {
        judged_without(&Ended::default(), shown, more)
    }

    fn judged_without(ended: &Ended, shown: Option<i64>, more: &[(Mark, Count)]) -> bool {
        let marks = vec![
            vec![shows(10, &[(90, 11)]), shows(20, &[(90, 12)])],
            vec![shows(10, &[(91, 13)])],
        ];
        let mut intents = vec![
            wrote(0, 11, &[90], 10),
            wrote(0, 12, &[90], 20),
            wrote(1, 13, &[91], 10),
        ];
        let mut counts = vec![
            (11, Count::Add(5)),
            (12, Count::Base(100)),
            (13, Count::Add(7)),
        ];
        for (mark, count) in more {
            intents.push(wrote(1, *mark, &[91], 0));
            counts.push((*mark, *count));
        }
        let counts = BTreeMap::from([(1, counts)]);
        let numbers = shown.map(|shown| (1, shown)).into_iter().collect();
        sums(&Islands::new(marks, intents), &counts, &numbers, ended).is_ok()
    }

    #[test]
    fn the_base_and_what_it_had_not_seen_count() {
        assert!(judged(Some(107), &[]));
        for unknown in [107, 110] {
            assert!(
                judged(Some(unknown), &[(14, Count::Add(3))]),
                "or {unknown}"
            );
        }
    }

    #[test]
    fn a_lost_addition_and_one_that_came_back_are_violations() {
        assert!(!judged(Some(100), &[]), "7 is lost");
        assert!(!judged(Some(112), &[]), "5 came back");
        assert!(!judged(None, &[]), "all is lost");
    }

    #[test]
    fn what_only_a_lost_island_had_may_count_once() {
        let lost = BTreeMap::from([(1, u64::MAX)]);
        let ended = Ended {
            lost,
            ..Ended::default()
        };
        let judged = |shown| judged_without(&ended, Some(shown), &[]);
        assert!(judged(100) && judged(107));
        assert!(!judged(114), "7 counts twice");
    }
}
