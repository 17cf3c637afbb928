//! What islands that write apart have shown, and what was written to them: what all their judges
//! go by.
//!
//! Clients see keys, values and revisions, so the judges do too. Each write carries a mark that no
//! other has, in its value, and what has seen what follows from where marks were shown: a write at
//! a site has seen all that this site had shown before. That is less than the site had taken in,
//! so a judge that goes by it accuses nobody wrongly.

mod atomic;
mod available;
mod causality;
mod convergence;
mod intentions;
mod oracle;
mod sessions;
mod steady;
mod sums;

use std::collections::{BTreeMap, BTreeSet};

pub use atomic::atomic;
pub use available::{Unanswered, available};
pub use causality::causality;
pub use convergence::convergence;
pub use intentions::{Ended, intentions};
pub use oracle::{View, oracle};
pub use sessions::{Answered, sessions};
pub use steady::{Took, steady};
pub use sums::{Count, sums};

/// A key, by its number.
pub type Key = u64;

/// What makes a write unlike any other of a run; never 0.
pub type Mark = u64;

/// What one revision of an island showed: keys, each with its write or, if it is gone, none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// The island's revision.
    pub revision: u64,
    /// In the order of their events.
    pub touches: Vec<(Key, Option<Mark>)>,
}

/// A write that a client asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Intent {
    /// In the values of the keys that it puts.
    pub mark: Mark,
    /// Where it was asked for.
    pub site: usize,
    /// The keys that it puts.
    pub puts: Vec<Key>,
    /// The keys that it deletes.
    pub deletes: Vec<Key>,
    /// At which revision of its site it was acknowledged, if it was.
    pub acknowledged: Option<u64>,
}

/// How far an island had come with what each other did: its revisions, at which it showed a write
/// that was later at its own site than any before, and when that was, there.
type Reach = Vec<Vec<(u64, u64)>>;

/// All islands of a run.
#[derive(Clone, Debug, Default)]
pub struct Islands {
    /// What each showed, in the order of revisions.
    shown: Vec<Vec<Shown>>,
    /// At which revision each mark was first shown, island by island.
    first: Vec<BTreeMap<Mark, u64>>,
    reach: Vec<Reach>,
    /// The same of what islands had shown before their data were set back, and when that ended.
    former: BTreeMap<usize, (u64, Reach)>,
    /// And at which revision each mark was first shown there.
    formerly: BTreeMap<usize, BTreeMap<Mark, u64>>,
    intents: BTreeMap<Mark, Intent>,
    /// Marks of writes that delete a key.
    deletes: BTreeMap<Key, BTreeSet<Mark>>,
    returns: Returns,
}

/// Islands that were left out as if they were lost, and what those told that came back.
///
/// Who comes back makes again what only it had. Of another that was left out as well it makes
/// nothing, for that one may come back itself: it tells of such writes. Where they stand at a key
/// nobody knows which of the two removed what is there; and what was removed of the other's may
/// come with that one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Returns {
    /// All that were ever left out.
    pub absent: BTreeSet<usize>,
    /// Keys of which one that came back told that a write was left out.
    pub told: BTreeSet<Key>,
}

impl Islands {
    /// What was shown, island by island, and what was written.
    #[must_use]
    pub fn new(shown: Vec<Vec<Shown>>, intents: Vec<Intent>) -> Self {
        let mut deletes: BTreeMap<Key, BTreeSet<Mark>> = BTreeMap::new();
        for intent in &intents {
            for key in &intent.deletes {
                deletes.entry(*key).or_default().insert(intent.mark);
            }
        }
        let mut islands = Self {
            first: shown.iter().map(|all| first(all)).collect(),
            reach: Vec::new(),
            former: BTreeMap::new(),
            formerly: BTreeMap::new(),
            shown,
            intents: intents.into_iter().map(|it| (it.mark, it)).collect(),
            deletes,
            returns: Returns::default(),
        };
        islands.measure();
        islands
    }

    fn measure(&mut self) {
        let reach = self.shown.iter().map(|it| self.measured(it));
        self.reach = reach.collect();
    }

    /// The same, with what islands had shown before their data were set back: what they wrote then
    /// had seen that.
    #[must_use]
    pub fn with_former(mut self, former: &BTreeMap<usize, Vec<Shown>>) -> Self {
        let formerly = former.iter().map(|(site, shown)| (*site, first(shown)));
        self.formerly = formerly.collect();
        self.measure();
        let reach = former.iter().map(|(site, shown)| {
            let until = shown.last().map_or(0, |it| it.revision);
            (*site, (until, self.measured(shown)))
        });
        self.former = reach.collect();
        self
    }

    /// The same, where islands were left out.
    #[must_use]
    pub fn with_returns(mut self, returns: Returns) -> Self {
        self.returns = returns;
        self
    }

    /// Whether what an island replaced or removed at a key may be there all the same.
    fn may_come_back(&self, key: Key, mark: Mark, removed_at: usize) -> bool {
        let Returns { absent, told } = &self.returns;
        let other = self.intents.get(&mark).map(|it| it.site);
        let other = other.filter(|site| *site != removed_at && absent.contains(site));
        told.contains(&key) || (absent.contains(&removed_at) && other.is_some())
    }

    fn measured(&self, shown: &[Shown]) -> Reach {
        let mut reach = vec![Vec::new(); self.shown.len()];
        for one in shown {
            for mark in one.touches.iter().filter_map(|(_, mark)| *mark) {
                let intent = self.intents.get(&mark);
                let Some((intent, at)) = intent.and_then(|it| Some((it, self.at(it)?))) else {
                    continue;
                };
                let Some(reach) = reach.get_mut(intent.site) else {
                    continue;
                };
                if reach.last().is_none_or(|(_, newest)| *newest < at) {
                    reach.push((one.revision, at));
                }
            }
        }
        reach
    }

    /// What each island showed.
    #[must_use]
    pub fn shown(&self) -> &[Vec<Shown>] {
        &self.shown
    }

    /// All writes, by mark.
    #[must_use]
    pub const fn intents(&self) -> &BTreeMap<Mark, Intent> {
        &self.intents
    }

    /// At which revision of its own site a write happened; none if nobody knows that it did.
    fn at(&self, intent: &Intent) -> Option<u64> {
        let is = self.first.get(intent.site);
        let was = self.formerly.get(&intent.site);
        let mut shown = [is, was].into_iter().flatten();
        let shown = || shown.find_map(|it| it.get(&intent.mark).copied());
        intent.acknowledged.or_else(shown)
    }

    /// Whether one of these islands had come so far with what a write's island did up to a
    /// revision, or behind that if the write is.
    fn reached_any(&self, intent: &Intent, until: u64, among: impl Fn(usize) -> bool) -> bool {
        let Some(at) = self.at(intent) else {
            return false;
        };
        let until = if at <= until { until } else { u64::MAX };
        let others = self.reach.iter().enumerate();
        let mut others = others.filter(|(site, _)| *site != intent.site && among(*site));
        others.any(|(_, reach)| {
            let reached = reach.get(intent.site).into_iter().flatten();
            let mut reached = reached.map(|(_, newest)| *newest);
            reached.any(|newest| (at..=until).contains(&newest))
        })
    }

    /// Whether an island showed a write.
    #[must_use]
    pub fn showed(&self, site: usize, mark: Mark) -> bool {
        let first = self.first.get(site);
        first.is_some_and(|first| first.contains_key(&mark))
    }

    /// Whether a write had surely seen another: its site had shown that, or a later one of the
    /// same site, before.
    fn saw(&self, later: &Intent, mark: Mark) -> bool {
        let write = self.intents.get(&mark);
        let write = write.and_then(|write| Some((write, self.at(write)?)));
        let (Some((write, made)), Some(at)) = (write, self.at(later)) else {
            return false;
        };
        if write.site == later.site {
            return made < at;
        }
        let former = self.former.get(&later.site);
        let former = former.filter(|(until, _)| at <= *until);
        let former = former.map(|(_, reach)| reach);
        let reach = former.or_else(|| self.reach.get(later.site));
        let reach = reach.and_then(|it| it.get(write.site));
        let reach = reach.map_or(&[][..], Vec::as_slice);
        let before = reach.partition_point(|(revision, _)| *revision < at);
        before > 0 && reach[before - 1].1 >= made
    }

    /// Whether one mark's write had surely seen another's.
    fn has_seen(&self, later: Mark, mark: Mark) -> bool {
        let later = self.intents.get(&later);
        later.is_some_and(|later| self.saw(later, mark))
    }

    /// Whether a delete that was never answered may have ended a write: nobody knows when it was
    /// made, and its site had shown the write, and then that the key was gone.
    fn may_be_ended(&self, key: Key, mark: Mark) -> bool {
        let all = self.deletes.get(&key).into_iter().flatten();
        let mut unknown = all.filter_map(|delete| self.intents.get(delete));
        unknown.any(|delete| {
            let known = self.first.get(delete.site).and_then(|it| it.get(&mark));
            let shown = self.shown.get(delete.site).map_or(&[][..], Vec::as_slice);
            let is_gone = |one: &Shown| one.touches.contains(&(key, None));
            let after = |since: &u64| shown.iter().any(|it| it.revision > *since && is_gone(it));
            self.at(delete).is_none() && known.is_some_and(after)
        })
    }

    /// Whether a key may be gone though this write of it is there: somebody deleted it, and not
    /// surely before.
    fn may_be_gone(&self, key: Key, mark: Mark) -> bool {
        let all = self.deletes.get(&key).into_iter().flatten();
        let write = self.intents.get(&mark);
        let is_before = |delete: &Mark| {
            let delete = self.intents.get(delete);
            delete.zip(write).is_some_and(|(delete, write)| {
                let both = self.at(delete).zip(self.at(write));
                delete.site == write.site && both.is_some_and(|(delete, write)| delete <= write)
            })
        };
        all.into_iter().any(|delete| !is_before(delete))
    }
}

/// At which revision each mark was first shown.
fn first(shown: &[Shown]) -> BTreeMap<Mark, u64> {
    let mut first = BTreeMap::new();
    for one in shown {
        for mark in one.touches.iter().filter_map(|(_, mark)| *mark) {
            first.entry(mark).or_insert(one.revision);
        }
    }
    first
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A revision at which one key showed a write; or none, for 0.
    pub(crate) fn shows(revision: u64, touches: &[(Key, Mark)]) -> Shown {
        let touches = touches.iter();
        Shown {
            revision,
            touches: touches
                .map(|&(key, mark)| (key, (mark != 0).then_some(mark)))
                .collect(),
        }
    }

    /// A write that was acknowledged at a revision; not at all, for 0.
    pub(crate) fn wrote(site: usize, mark: Mark, puts: &[Key], at: u64) -> Intent {
        Intent {
            mark,
            site,
            puts: puts.to_vec(),
            deletes: Vec::new(),
            acknowledged: (at != 0).then_some(at),
        }
    }

    pub(crate) fn deleted(site: usize, mark: Mark, key: Key, at: u64) -> Intent {
        Intent {
            deletes: vec![key],
            ..wrote(site, mark, &[], at)
        }
    }

    #[test]
    fn a_write_has_seen_what_its_site_showed_before() {
        let shown = vec![
            vec![shows(10, &[(1, 5)]), shows(12, &[(1, 6)])],
            vec![shows(3, &[(1, 5)])],
        ];
        let islands = Islands::new(shown, vec![wrote(1, 5, &[1], 3), wrote(0, 6, &[1], 12)]);
        assert!(islands.has_seen(6, 5) && !islands.has_seen(5, 6));
        assert!(!islands.may_be_gone(1, 5), "nobody deleted it");
    }

    #[test]
    fn what_was_made_before_a_set_back_has_seen_what_its_site_showed_then() {
        let shown = vec![vec![shows(20, &[(1, 8)])], vec![shows(3, &[(1, 5)])]];
        let intents = vec![
            wrote(1, 5, &[1], 3),
            deleted(0, 7, 1, 12),
            wrote(0, 8, &[1], 20),
        ];
        let islands = Islands::new(shown, intents);
        assert!(!islands.has_seen(7, 5));
        let former = vec![shows(10, &[(1, 5)]), shows(12, &[(1, 0)])];
        let islands = islands.with_former(&BTreeMap::from([(0, former)]));
        assert!(islands.has_seen(7, 5) && !islands.has_seen(8, 5));
    }

    #[test]
    fn of_two_that_were_left_out_neither_removes_what_the_other_wrote() {
        let intents = vec![wrote(0, 5, &[1], 10), wrote(2, 6, &[1], 10)];
        let islands = Islands::new(vec![vec![]; 3], intents);
        let among = |absent: &[usize], told: &[Key]| {
            islands.clone().with_returns(Returns {
                absent: absent.iter().copied().collect(),
                told: told.iter().copied().collect(),
            })
        };
        let both = among(&[0, 1], &[]);
        assert!(both.may_come_back(1, 5, 1));
        assert!(!both.may_come_back(1, 5, 0), "it is its own");
        assert!(!both.may_come_back(1, 6, 1) && !both.may_come_back(1, 5, 2));
        assert!(!among(&[0], &[]).may_come_back(1, 5, 1));
        let told = among(&[0], &[1]);
        assert!(told.may_come_back(1, 6, 0) && !told.may_come_back(2, 6, 0));
    }

    #[test]
    fn when_an_unanswered_write_was_made_its_site_showed_before_it_was_set_back() {
        let shown = vec![vec![], vec![shows(15, &[(1, 9)])]];
        let intents = vec![wrote(0, 8, &[1], 10), wrote(0, 9, &[1], 0)];
        let islands = Islands::new(shown, intents);
        assert!(!islands.has_seen(9, 8), "nobody knows when it was made");
        let former = vec![shows(10, &[(1, 8)]), shows(12, &[(1, 9)])];
        let islands = islands.with_former(&BTreeMap::from([(0, former)]));
        assert!(islands.has_seen(9, 8) && !islands.has_seen(8, 9));
        assert!(islands.reached_any(&islands.intents()[&8], 12, |site| site == 1));
    }
}
