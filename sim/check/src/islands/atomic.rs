//! A transaction is shown whole, in one revision, at every island.
//!
//! What is demanded: at the revision at which an island first shows anything of a transaction,
//! each key that it puts shows it, or a write that had not been seen by it, or nothing if somebody
//! deleted that key who did not surely come before; and each key that it deletes is gone, or shows
//! a write that it had not seen. Such writes are concurrent or later, and an island may have taken
//! them in before, or in the same revision.

use std::collections::{BTreeMap, BTreeSet};

use super::{Intent, Islands, Key, Mark, Shown};
use crate::verdict::Violation;

const JUDGE: &str = "atomic";

/// Holds each island's revisions against the transactions among the writes.
///
/// # Errors
///
/// The first transaction that an island shows a part of.
pub fn atomic(islands: &Islands) -> Result<(), Violation> {
    for (site, shown) in islands.shown().iter().enumerate() {
        let mut view = BTreeMap::new();
        let mut begun = BTreeSet::new();
        for one in shown {
            for (key, mark) in &one.touches {
                match mark {
                    Some(mark) => view.insert(*key, *mark),
                    None => view.remove(key),
                };
            }
            for mark in one.touches.iter().filter_map(|(_, mark)| *mark) {
                let several = |it: &&Intent| it.puts.len() + it.deletes.len() > 1;
                let intent = islands.intents().get(&mark).filter(several);
                if let Some(intent) = intent
                    && begun.insert(mark)
                {
                    whole(islands, intent, &view).map_err(|what| of(site, one, intent, &what))?;
                }
            }
        }
    }
    Ok(())
}

fn of(site: usize, shown: &Shown, intent: &Intent, what: &str) -> Violation {
    let place = format!(
        "island {site} shows write {} of island {} at revision {}, and {what}",
        intent.mark, intent.site, shown.revision
    );
    Violation::new(JUDGE, "a transaction is shown whole", place)
}

fn whole(islands: &Islands, intent: &Intent, view: &BTreeMap<Key, Mark>) -> Result<(), String> {
    for key in &intent.puts {
        let is_fit = match view.get(key) {
            None => islands.may_be_gone(*key, intent.mark),
            Some(mark) => {
                *mark == intent.mark
                    || !islands.saw(intent, *mark)
                    || islands.may_come_back(*key, *mark, intent.site)
            }
        };
        if !is_fit {
            return Err(format!("key {key} is {:?}", view.get(key)));
        }
    }
    for key in &intent.deletes {
        let shown = view.get(key);
        let shown = shown.filter(|mark| !islands.may_come_back(*key, **mark, intent.site));
        if let Some(mark) = shown.filter(|mark| islands.saw(intent, **mark)) {
            return Err(format!("key {key}, which it deletes, is {mark}"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::tests::{deleted, shows, wrote};
    use super::*;

    /// Island 0 puts keys 1 and 2 as 7, over what was there; then island 1 shows this.
    fn judged(there: &[Shown], more: &[Intent]) -> bool {
        let before = shows(1, &[(1, 5), (2, 6)]);
        let here = vec![before.clone(), shows(4, &[(1, 7), (2, 7)])];
        let mut shown = vec![before];
        shown.extend_from_slice(there);
        let mut intents = vec![
            wrote(0, 5, &[1], 0),
            wrote(0, 6, &[2], 0),
            wrote(0, 7, &[1, 2], 4),
        ];
        intents.extend_from_slice(more);
        atomic(&Islands::new(vec![here, shown], intents)).is_ok()
    }

    #[test]
    fn whole_ones_pass_and_so_do_those_that_others_are_above() {
        assert!(judged(&[shows(3, &[(1, 7), (2, 7)])], &[]));
        let own = [shows(2, &[(2, 9)]), shows(3, &[(1, 7)])];
        assert!(judged(&own, &[wrote(1, 9, &[2], 2)]), "9 is concurrent");
        let gone = [shows(3, &[(1, 7), (2, 0)])];
        assert!(judged(&gone, &[deleted(1, 9, 2, 0)]), "by a later delete");
    }

    #[test]
    fn a_part_is_a_violation() {
        assert!(!judged(&[shows(3, &[(1, 7)])], &[]), "2 is as before");
        let later = [shows(3, &[(1, 7)]), shows(5, &[(2, 7)])];
        assert!(!judged(&later, &[]), "in two revisions");
        assert!(!judged(&[shows(3, &[(1, 7), (2, 0)])], &[]), "2 is gone");
    }

    #[test]
    fn a_delete_beside_a_put_counts_too() {
        let both = Intent {
            deletes: vec![2],
            ..wrote(0, 7, &[1], 4)
        };
        let before = shows(1, &[(2, 6)]);
        let here = vec![before.clone(), shows(4, &[(2, 0), (1, 7)])];
        let judged = |there: Shown| {
            let intents = vec![wrote(0, 6, &[2], 0), both.clone()];
            atomic(&Islands::new(
                vec![here.clone(), vec![before.clone(), there]],
                intents,
            ))
        };
        assert!(judged(shows(3, &[(2, 0), (1, 7)])).is_ok());
        assert!(judged(shows(3, &[(1, 7)])).is_err(), "2 is still there");
    }
}
