//! No intention is lost: each acknowledged write is shown everywhere in the end, or somebody who
//! had seen it replaced it, or it was told of as a conflict.

use std::collections::{BTreeMap, BTreeSet};

use super::{Intent, Islands, Key, Mark};
use crate::verdict::Violation;

const JUDGE: &str = "intentions";

/// How a run of islands ended.
#[derive(Clone, Debug, Default)]
pub struct Ended {
    /// What each key shows, everywhere.
    pub shown: BTreeMap<Key, Mark>,
    /// Keys with writes that some island told of as concurrent.
    pub named: BTreeSet<(Key, Mark)>,
    /// Keys are members of a set: one that was put at the same time as another put is there, and
    /// nothing is told.
    pub is_set: bool,
    /// Islands whose writes others hold back, and said so.
    pub held: BTreeSet<usize>,
    /// Islands that were given up as lost, or whose data were set back, or that left in order and
    /// handed what they had to such alone: of what they wrote counts what an island that stays had. With it the newest revision before they were set back, for
    /// what they wrote behind it does not follow on that; the greatest there is for the others.
    pub lost: BTreeMap<usize, u64>,
    /// Islands that are not there any more, in order or not. Who left in order has handed on what
    /// it had until then; what it had of a lost one behind that counts no more than that one's.
    pub gone: BTreeSet<usize>,
    /// Which write of a key such an island told of as concurrent, and at which revision of it: what
    /// it wrote there after that had seen it, if it never showed it.
    pub met: BTreeMap<(usize, Key, Mark), u64>,
}

impl Ended {
    /// Whether a write must not be lost: its island stays, or left in order and handed it on, or
    /// one that stays had it.
    fn counts(&self, islands: &Islands, intent: &Intent) -> bool {
        let is_lost = |site: usize| self.lost.contains_key(&site);
        let stays = |site: usize| !is_lost(site) && !self.gone.contains(&site);
        let until = self.lost.get(&intent.site).copied();
        let is_kept = || islands.reached_any(intent, until.unwrap_or(u64::MAX), stays);
        !self.held.contains(&intent.site) && (stays(intent.site) || is_kept() || until.is_none())
    }

    /// Whether a write of an island that does not stay had seen another that it told of.
    fn had_met(&self, islands: &Islands, later: &Intent, (key, mark): (Key, Mark)) -> bool {
        let met = self.met.get(&(later.site, key, mark));
        met.zip(islands.at(later))
            .is_some_and(|(met, at)| at > *met)
    }
}

/// Asks of each acknowledged write what became of it.
///
/// # Errors
///
/// The first that is not shown and of which nothing is known, or that is there though a later
/// delete had seen it.
pub fn intentions(islands: &Islands, ended: &Ended) -> Result<(), Violation> {
    // Who wrote or deleted each key.
    let mut by_key: BTreeMap<Key, Vec<&Intent>> = BTreeMap::new();
    for intent in islands.intents().values() {
        for key in intent.puts.iter().chain(&intent.deletes) {
            by_key.entry(*key).or_default().push(intent);
        }
    }
    let acknowledged = islands.intents().values();
    let acknowledged = acknowledged.filter(|it| it.acknowledged.is_some());
    let counts = |it: &&Intent| ended.counts(islands, it);
    for intent in acknowledged.filter(|it| counts(it)) {
        for key in &intent.puts {
            let others = by_key.get(key).map_or(&[][..], Vec::as_slice);
            let is_kept = ended.shown.get(key) == Some(&intent.mark)
                || ended.named.contains(&(*key, intent.mark))
                || (ended.is_set && ended.shown.contains_key(key))
                || others.iter().any(|later| {
                    let met = || ended.had_met(islands, later, (*key, intent.mark));
                    islands.saw(later, intent.mark) || (met() && counts(later))
                })
                || islands.may_be_ended(*key, intent.mark);
            if !is_kept {
                let place = format!(
                    "write {} of key {key} at island {}, acknowledged at {:?}: {:?} is shown",
                    intent.mark,
                    intent.site,
                    intent.acknowledged,
                    ended.shown.get(key)
                );
                let rule = "an acknowledged write is shown, covered by one that saw it, or told of";
                return Err(Violation::new(JUDGE, rule, place));
            }
        }
        for key in &intent.deletes {
            let shown = ended.shown.get(key);
            let shown = shown.filter(|mark| !islands.may_come_back(*key, **mark, intent.site));
            if let Some(mark) = shown.filter(|mark| islands.saw(intent, **mark)) {
                let place = format!(
                    "key {key} shows {mark}, which delete {} of island {} had seen",
                    intent.mark, intent.site
                );
                let rule = "what a delete had seen is gone";
                return Err(Violation::new(JUDGE, rule, place));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::tests::{deleted, shows, wrote};
    use super::*;

    /// Island 0 shows 5, island 1 shows 6 of the same key, and in the end 6 is shown.
    fn judged(ended: Ended, more: &[Intent], first: &[(u64, Mark)]) -> Result<(), &'static str> {
        let shown = vec![
            first
                .iter()
                .map(|&(at, mark)| shows(at, &[(1, mark)]))
                .collect(),
            vec![shows(10, &[(1, 6)])],
        ];
        let mut intents = vec![wrote(0, 5, &[1], 10), wrote(1, 6, &[1], 10)];
        intents.extend_from_slice(more);
        let islands = Islands::new(shown, intents);
        intentions(&islands, &ended).map_err(|violation| violation.rule)
    }

    fn ends(mark: Mark) -> Ended {
        Ended {
            shown: BTreeMap::from([(1, mark)]),
            ..Ended::default()
        }
    }

    const LOST: &str = "an acknowledged write is shown, covered by one that saw it, or told of";

    #[test]
    fn a_delete_that_was_never_answered_may_have_ended_a_write() {
        let mut unknown = deleted(0, 8, 1, 20);
        unknown.acknowledged = None;
        let gone = [(10, 5), (20, 0)];
        assert_eq!(judged(ends(6), &[unknown.clone()], &gone), Ok(()));
        let before = [(5, 0), (10, 5)];
        assert_eq!(judged(ends(6), &[unknown.clone()], &before), Err(LOST));
        assert_eq!(
            judged(ends(6), &[unknown], &[(10, 5)]),
            Err(LOST),
            "it is not gone"
        );
        assert_eq!(judged(ends(6), &[], &gone), Err(LOST), "nobody deleted it");
    }

    #[test]
    fn a_loser_that_was_told_of_or_covered_is_no_loss() {
        let told = Ended {
            named: BTreeSet::from([(1, 5)]),
            ..ends(6)
        };
        assert_eq!(judged(told, &[], &[(10, 5)]), Ok(()));
        let later = [wrote(0, 7, &[1], 20)];
        let named = BTreeSet::from([(1, 6)]);
        let covered = Ended { named, ..ends(7) };
        assert_eq!(judged(covered, &later, &[(10, 5), (20, 7)]), Ok(()));
        let is_set = true;
        let set = Ended { is_set, ..ends(6) };
        assert_eq!(judged(set, &[], &[(10, 5)]), Ok(()), "the member is there");
        let held = Ended {
            held: BTreeSet::from([0]),
            ..ends(6)
        };
        assert_eq!(judged(held, &[], &[(10, 5)]), Ok(()));
    }

    #[test]
    fn of_a_lost_island_counts_what_another_had() {
        let lost = |until| Ended {
            lost: BTreeMap::from([(0, until)]),
            ..ends(6)
        };
        assert_eq!(
            judged(lost(u64::MAX), &[], &[(10, 5)]),
            Ok(()),
            "nobody had it"
        );
        // Island 1 showed what island 0 wrote after it.
        let shown = vec![
            vec![shows(10, &[(1, 5)]), shows(20, &[(2, 7)])],
            vec![shows(10, &[(1, 6)]), shows(30, &[(2, 7)])],
        ];
        let intents = vec![
            wrote(0, 5, &[1], 10),
            wrote(1, 6, &[1], 10),
            wrote(0, 7, &[2], 20),
        ];
        let islands = Islands::new(shown, intents);
        let judged = |until| {
            let mut ended = lost(until);
            ended.shown.insert(2, 7);
            intentions(&islands, &ended).map_err(|violation| violation.rule)
        };
        assert_eq!(judged(u64::MAX), Err(LOST));
        assert_eq!(judged(15), Ok(()), "7 does not follow on 5");
        let mut ended = lost(u64::MAX);
        ended.shown.insert(2, 7);
        ended.gone.insert(1);
        assert_eq!(intentions(&islands, &ended), Ok(()), "it left with it");
    }

    #[test]
    fn who_left_in_order_has_handed_on_what_it_had() {
        let shown = [
            vec![shows(10, &[(1, 5)])],
            vec![shows(10, &[(1, 6)])],
            vec![shows(30, &[(1, 5)])],
        ];
        let intents = vec![wrote(0, 5, &[1], 10), wrote(1, 6, &[1], 10)];
        let judged = |until, lost: &[usize]| {
            let islands = Islands::new(shown[..until].to_vec(), intents.clone());
            let mut ended = ends(6);
            ended.gone.insert(0);
            ended.lost = lost.iter().map(|site| (*site, u64::MAX)).collect();
            intentions(&islands, &ended).map_err(|violation| violation.rule)
        };
        assert_eq!(judged(2, &[]), Err(LOST));
        assert_eq!(judged(2, &[0]), Ok(()), "to one that was lost");
        assert_eq!(judged(3, &[0]), Err(LOST), "2 has it and stays");
    }

    #[test]
    fn what_met_at_an_island_that_was_lost_was_seen_by_what_it_wrote_then() {
        // Island 1 told of write 5 at 10, and never showed it. It is lost; island 2 has its 7.
        let shown = [
            vec![shows(10, &[(1, 5)])],
            vec![shows(10, &[(1, 6)]), shows(20, &[(1, 7)])],
            vec![shows(30, &[(1, 7)])],
        ];
        let intents = vec![
            wrote(0, 5, &[1], 10),
            wrote(1, 6, &[1], 10),
            wrote(1, 7, &[1], 20),
        ];
        let judged = |met: &[(usize, u64)], until| {
            let islands = Islands::new(shown[..until].to_vec(), intents.clone());
            let mut ended = ends(7);
            ended.lost.insert(1, u64::MAX);
            let met = met.iter().map(|&(site, at)| ((site, 1, 5), at));
            ended.met = met.collect();
            intentions(&islands, &ended).map_err(|violation| violation.rule)
        };
        assert_eq!(judged(&[(1, 10)], 3), Ok(()));
        assert_eq!(judged(&[], 3), Err(LOST));
        assert_eq!(judged(&[(1, 20)], 3), Err(LOST), "it met what came later");
        assert_eq!(judged(&[(1, 10)], 2), Err(LOST), "7 is lost");
    }

    #[test]
    fn a_write_that_nobody_knows_of_is_lost() {
        assert_eq!(judged(ends(6), &[], &[(10, 5)]), Err(LOST));
        let set = Ended {
            is_set: true,
            ..Ended::default()
        };
        assert_eq!(judged(set, &[], &[(10, 5)]), Err(LOST), "add wins");
    }

    #[test]
    fn what_a_delete_had_seen_must_be_gone() {
        let delete = [deleted(0, 8, 1, 20)];
        let gone = "what a delete had seen is gone";
        let named = BTreeSet::from([(1, 5), (1, 6)]);
        let back = Ended {
            named: named.clone(),
            ..ends(5)
        };
        assert_eq!(judged(back, &delete, &[(10, 5), (20, 0)]), Err(gone));
        let fine = Ended { named, ..ends(6) };
        assert_eq!(judged(fine, &delete, &[(10, 5), (20, 0)]), Ok(()));
    }
}
