//! Whoever shows a write shows, or covers, everything that its island had shown before.
//!
//! A write of an island replaces all that this island showed at its keys; a key that is gone lost
//! all that it showed. What is replaced is *dead* there, and at every island that shows anything
//! its own island wrote later. The dead are shown nowhere again, at the island itself neither:
//! that is causality between islands, and reading forwards within one. And what is alive must
//! have come: a key of which an island has the news may be gone only if somebody deleted it.

use std::collections::{BTreeMap, BTreeSet};

use super::{Intent, Islands, Key, Mark, Shown};
use crate::verdict::Violation;

const JUDGE: &str = "causality";

/// What one revision of an island ended, and what it tells of other islands.
#[derive(Clone, Debug, Default)]
struct Step {
    died: Vec<(Key, Mark)>,
    /// Everything of that island before this place in what it showed.
    covers: Vec<(usize, usize)>,
}

/// What an island is known to have taken in.
#[derive(Debug, Default)]
struct Known {
    view: BTreeMap<Key, Mark>,
    dead: BTreeSet<(Key, Mark)>,
    /// How much of what each island showed.
    covered: Vec<usize>,
    seen: BTreeSet<(Key, Mark)>,
}

/// Holds what each island showed against what the writes in it had seen.
///
/// # Errors
///
/// The first revision that shows something that was replaced, or lacks what must be there.
pub fn causality(islands: &Islands) -> Result<(), Violation> {
    let steps: Vec<Vec<Step>> = islands
        .shown()
        .iter()
        .enumerate()
        .map(|(site, shown)| steps(islands, site, shown))
        .collect();
    for (site, shown) in islands.shown().iter().enumerate() {
        let mut known = Known {
            covered: vec![0; steps.len()],
            ..Known::default()
        };
        for (at, one) in shown.iter().enumerate() {
            known.show(one);
            let mut news = Vec::new();
            known.cover((site, at + 1), &steps, &mut news);
            known
                .judge(islands, &news)
                .map_err(|(rule, what)| of((site, one.revision), rule, &what))?;
        }
    }
    Ok(())
}

fn of((site, revision): (usize, u64), rule: &'static str, what: &str) -> Violation {
    let place = format!("island {site} at revision {revision}: {what}");
    Violation::new(JUDGE, rule, place)
}

/// What each revision of an island ended and covers.
fn steps(islands: &Islands, site: usize, shown: &[Shown]) -> Vec<Step> {
    let mut alive: BTreeMap<Key, Vec<Mark>> = BTreeMap::new();
    let mut steps = Vec::new();
    for one in shown {
        let mut step = Step::default();
        let intents = one.touches.iter().filter_map(|(_, mark)| *mark);
        let intents = intents.filter_map(|mark| islands.intents().get(&mark));
        // An own write may also come to light once more, when what hid it was deleted.
        let is_new = |it: &Intent| it.site == site && islands.at(it) == Some(one.revision);
        let is_own = intents.clone().any(is_new);
        for intent in intents.filter(|intent| intent.site != site) {
            // Its own island may not have told of it any more, if it ended just then.
            let theirs = &islands.shown()[intent.site];
            if let Some(at) = islands.at(intent) {
                let until = theirs.partition_point(|other| other.revision <= at);
                step.covers.push((intent.site, until));
            }
        }
        for (key, mark) in &one.touches {
            let marks = alive.entry(*key).or_default();
            let ended: Vec<Mark> = match mark {
                None => std::mem::take(marks),
                Some(_) if is_own => std::mem::take(marks),
                Some(mark) => marks
                    .extract_if(.., |old| islands.has_seen(*mark, *old))
                    .collect(),
            };
            let ended = ended.into_iter();
            let ended = ended.filter(|mark| !islands.may_come_back(*key, *mark, site));
            step.died.extend(ended.map(|mark| (*key, mark)));
            marks.extend(*mark);
        }
        steps.push(step);
    }
    steps
}

impl Known {
    fn show(&mut self, one: &Shown) {
        for (key, mark) in &one.touches {
            match mark {
                Some(mark) => {
                    self.seen.insert((*key, *mark));
                    self.view.insert(*key, *mark)
                }
                None => self.view.remove(key),
            };
        }
    }

    /// Everything of an island before a place in what it showed is known now, and what it had
    /// taken in by then.
    fn cover(&mut self, from: (usize, usize), steps: &[Vec<Step>], news: &mut Vec<(usize, usize)>) {
        let mut open = vec![from];
        while let Some((site, until)) = open.pop() {
            let covered = self.covered[site];
            for (at, step) in steps[site].iter().enumerate().take(until).skip(covered) {
                self.dead.extend(step.died.iter().copied());
                open.extend(step.covers.iter().copied());
                news.push((site, at));
            }
            self.covered[site] = self.covered[site].max(until);
        }
    }

    fn judge(
        &self,
        islands: &Islands,
        news: &[(usize, usize)],
    ) -> Result<(), (&'static str, String)> {
        for (site, at) in news {
            for (key, mark) in &islands.shown()[*site][*at].touches {
                let here = self.view.get(key);
                if let Some(here) = here.filter(|here| self.dead.contains(&(*key, **here))) {
                    let what = format!("key {key} shows {here}, which was replaced or deleted");
                    return Err(("what was replaced does not come back", what));
                }
                let Some(mark) = mark else { continue };
                let has_come = here.is_some()
                    || self.seen.contains(&(*key, *mark))
                    || islands.may_be_gone(*key, *mark)
                    || islands.returns.told.contains(key);
                if !has_come {
                    let what = format!("key {key} is not there, and {mark} of it was to come");
                    return Err(("what a write had seen comes before it", what));
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{deleted, shows, wrote};
    use super::*;

    fn judged(shown: [&[Shown]; 2], intents: &[Intent]) -> Result<(), &'static str> {
        let shown = shown.into_iter().map(<[Shown]>::to_vec).collect();
        let islands = Islands::new(shown, intents.to_vec());
        causality(&islands).map_err(|violation| violation.rule)
    }

    /// Island 0 writes 5, then 6 over it, then 7 elsewhere.
    fn first() -> [Shown; 3] {
        [
            shows(10, &[(1, 5)]),
            shows(20, &[(1, 6)]),
            shows(30, &[(2, 7)]),
        ]
    }

    fn writes() -> Vec<Intent> {
        vec![
            wrote(0, 5, &[1], 10),
            wrote(0, 6, &[1], 20),
            wrote(0, 7, &[2], 30),
        ]
    }

    const BACK: &str = "what was replaced does not come back";
    const BEFORE: &str = "what a write had seen comes before it";

    #[test]
    fn the_same_order_passes_and_so_does_one_revision_for_all() {
        let same = [
            shows(1, &[(1, 5)]),
            shows(2, &[(1, 6)]),
            shows(3, &[(2, 7)]),
        ];
        assert_eq!(judged([&first(), &same], &writes()), Ok(()));
        let at_once = [shows(1, &[(1, 6), (2, 7)])];
        assert_eq!(judged([&first(), &at_once], &writes()), Ok(()));
        let mut all = writes();
        all.push(wrote(1, 9, &[1], 1));
        let own = [shows(1, &[(1, 9)]), shows(2, &[(2, 7)])];
        assert_eq!(judged([&first(), &own], &all), Ok(()), "9 is concurrent");
    }

    #[test]
    fn going_back_and_running_ahead_are_violations() {
        let back = [shows(1, &[(1, 6)]), shows(2, &[(1, 5)])];
        assert_eq!(judged([&first(), &back], &writes()), Err(BACK));
        let ahead = [shows(1, &[(2, 7)])];
        assert_eq!(judged([&first(), &ahead], &writes()), Err(BEFORE));
        let old = [shows(1, &[(1, 5)]), shows(2, &[(2, 7)])];
        assert_eq!(judged([&first(), &old], &writes()), Err(BACK));
    }

    #[test]
    fn what_was_deleted_does_not_come_back() {
        let mut all = writes();
        all.push(deleted(0, 8, 2, 40));
        let mut here = first().to_vec();
        here.push(shows(40, &[(2, 0)]));
        here.push(shows(50, &[(3, 9)]));
        all.push(wrote(0, 9, &[3], 50));
        let mut there = first().to_vec();
        there.push(shows(60, &[(3, 9)]));
        assert_eq!(judged([&here, &there], &all), Err(BACK), "2 is still there");
        there.insert(3, shows(55, &[(2, 0)]));
        assert_eq!(judged([&here, &there], &all), Ok(()));
        there.push(shows(70, &[(2, 7)]));
        assert_eq!(judged([&here, &there], &all), Err(BACK));
    }

    #[test]
    fn what_others_had_seen_counts_too() {
        // Island 1 saw 6 and wrote 9; whoever shows 9 must have 6, though 9 says nothing of it.
        let mut all = writes();
        all.push(wrote(1, 9, &[4], 3));
        let middle = [
            shows(1, &[(1, 5)]),
            shows(2, &[(1, 6)]),
            shows(3, &[(4, 9)]),
        ];
        let last = [shows(1, &[(1, 5)]), shows(2, &[(4, 9)])];
        let shown = vec![first().to_vec(), middle.to_vec(), last.to_vec()];
        let rule = causality(&Islands::new(shown, all)).map_err(|it| it.rule);
        assert_eq!(rule, Err(BACK));
    }
}
