//! What one writer knows of its own keys: what was acknowledged, and what hangs in doubt.
//!
//! A writer has one request open at a time and keys that nobody else writes. After a crash
//! every acknowledged write must be there with its revision, and the one request in doubt must
//! have happened wholly or not at all.

use std::collections::{BTreeMap, BTreeSet};

/// A change of one key; `None` deletes it.
pub type Change = (String, Option<String>);

/// A key as a server shows it: its value and the revision of its last change.
pub type Found = BTreeMap<String, (String, i64)>;

/// One writer's knowledge.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    keys: Found,
    leases: BTreeSet<i64>,
    revoked: BTreeSet<i64>,
    doubt: Option<Doubt>,
    revision: i64,
    acknowledged: u64,
}

/// A request whose answer has not come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// All of these, or none.
    Write(Vec<Change>),
    /// A lease of this id.
    Grant(i64),
    /// No more lease of this id.
    Revoke(i64),
}

impl Ledger {
    /// Notes a request before it is sent.
    ///
    /// # Panics
    ///
    /// If another is still in doubt: a writer has one request open.
    pub fn begin(&mut self, doubt: Doubt) {
        assert!(self.doubt.is_none(), "a writer has one request open");
        self.doubt = Some(doubt);
    }

    /// Notes that the open request was acknowledged at `revision`.
    ///
    /// # Panics
    ///
    /// If no request is open.
    pub fn acknowledge(&mut self, revision: i64) {
        let doubt = self
            .doubt
            .take()
            .expect("an acknowledgement follows a request");
        self.acknowledged += 1;
        self.revision = self.revision.max(revision);
        match doubt {
            Doubt::Write(changes) => write(&mut self.keys, &changes, revision),
            Doubt::Grant(id) => {
                self.leases.insert(id);
            }
            Doubt::Revoke(id) => self.ended(id),
        }
    }

    /// A lease that was granted and not yet revoked, if there are more than `enough`.
    #[must_use]
    pub fn spare_lease(&self, enough: usize) -> Option<i64> {
        let first = self.leases.first().copied();
        first.filter(|_| self.leases.len() > enough)
    }

    fn ended(&mut self, id: i64) {
        self.leases.remove(&id);
        self.revoked.insert(id);
    }

    /// How many requests were acknowledged so far.
    #[must_use]
    pub const fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    /// Compares with what a restarted server shows, and settles what was in doubt.
    ///
    /// # Errors
    ///
    /// What is missing, changed or half done, in words.
    pub fn settle(
        &mut self,
        found: &Found,
        leases: &BTreeSet<i64>,
        revision: i64,
    ) -> Result<(), String> {
        if revision < self.revision {
            return Err(format!(
                "revision {revision} is below the acknowledged {}",
                self.revision
            ));
        }
        if let Some(Doubt::Revoke(id)) = self.doubt
            && !leases.contains(&id)
        {
            self.ended(id);
        }
        if let Some(back) = self.revoked.intersection(leases).next() {
            return Err(format!("lease {back} was revoked and is there"));
        }
        if let Some(lost) = self.leases.difference(leases).next() {
            return Err(format!("lease {lost} was acknowledged and is gone"));
        }
        match self.doubt.take() {
            Some(Doubt::Grant(id)) if leases.contains(&id) => {
                self.leases.insert(id);
            }
            Some(Doubt::Write(changes)) if *found != self.keys => {
                return self.adopt(found, &changes);
            }
            Some(Doubt::Grant(_) | Doubt::Write(_) | Doubt::Revoke(_)) | None => {}
        }
        same(&self.keys, found)
    }

    /// The write in doubt must explain the whole difference.
    fn adopt(&mut self, found: &Found, changes: &[Change]) -> Result<(), String> {
        let revisions = changes
            .iter()
            .filter_map(|(key, _)| found.get(key))
            .map(|(_, revision)| *revision);
        let revision = revisions.max().unwrap_or(0);
        let mut keys = self.keys.clone();
        write(&mut keys, changes, revision);
        same(&keys, found)
            .map_err(|text| format!("{text} (a write of {} keys was in doubt)", changes.len()))?;
        self.keys = keys;
        Ok(())
    }
}

fn write(keys: &mut Found, changes: &[Change], revision: i64) {
    for (key, value) in changes {
        match value {
            Some(value) => keys.insert(key.clone(), (value.clone(), revision)),
            None => keys.remove(key),
        };
    }
}

fn same(wanted: &Found, found: &Found) -> Result<(), String> {
    for (key, state) in wanted {
        match found.get(key) {
            None => return Err(format!("{key} = {state:?} was acknowledged and is gone")),
            Some(other) if other != state => {
                return Err(format!(
                    "{key}: {state:?} was acknowledged, {other:?} is there"
                ));
            }
            Some(_) => {}
        }
    }
    match found.keys().find(|key| !wanted.contains_key(*key)) {
        Some(key) => Err(format!("{key} is there and should not be")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(key: &str, value: &str) -> Change {
        (key.to_owned(), Some(value.to_owned()))
    }

    fn found(rows: &[(&str, &str, i64)]) -> Found {
        rows.iter()
            .map(|(key, value, revision)| ((*key).to_owned(), ((*value).to_owned(), *revision)))
            .collect()
    }

    fn acknowledged() -> Ledger {
        let mut ledger = Ledger::default();
        ledger.begin(Doubt::Write(vec![put("a", "1"), put("b", "1")]));
        ledger.acknowledge(5);
        ledger.begin(Doubt::Grant(9));
        ledger.acknowledge(5);
        ledger
    }

    fn settle(ledger: &mut Ledger, rows: &[(&str, &str, i64)]) -> Result<(), String> {
        ledger.settle(&found(rows), &BTreeSet::from([9]), 7)
    }

    #[test]
    fn what_was_acknowledged_must_be_there() {
        let whole = [("a", "1", 5), ("b", "1", 5)];
        assert_eq!(settle(&mut acknowledged(), &whole), Ok(()));
        assert!(
            settle(&mut acknowledged(), &whole[..1])
                .unwrap_err()
                .contains("b")
        );
        assert!(settle(&mut acknowledged(), &[("a", "0", 5), ("b", "1", 5)]).is_err());
        assert!(settle(&mut acknowledged(), &[("a", "1", 4), ("b", "1", 5)]).is_err());
        assert!(
            settle(
                &mut acknowledged(),
                &[("a", "1", 5), ("b", "1", 5), ("c", "1", 6)]
            )
            .is_err()
        );
    }

    #[test]
    fn a_lost_lease_or_a_revision_that_went_back_is_seen() {
        let whole = found(&[("a", "1", 5), ("b", "1", 5)]);
        assert!(
            acknowledged()
                .settle(&whole, &BTreeSet::new(), 7)
                .unwrap_err()
                .contains("lease 9")
        );
        assert!(
            acknowledged()
                .settle(&whole, &BTreeSet::from([9]), 4)
                .unwrap_err()
                .contains("below")
        );
    }

    #[test]
    fn a_revoked_lease_must_stay_away_and_one_in_doubt_may_be_either() {
        let whole = found(&[("a", "1", 5), ("b", "1", 5)]);
        let (with, without) = (BTreeSet::from([9]), BTreeSet::new());
        let mut revoked = acknowledged();
        revoked.begin(Doubt::Revoke(9));
        let mut doubtful = revoked.clone();
        assert_eq!(doubtful.clone().settle(&whole, &with, 7), Ok(()));
        assert_eq!(doubtful.settle(&whole, &without, 7), Ok(()));
        assert!(doubtful.settle(&whole, &with, 7).is_err());
        revoked.acknowledge(5);
        assert_eq!(revoked.settle(&whole, &without, 7), Ok(()));
        let error = revoked.settle(&whole, &with, 7).unwrap_err();
        assert!(error.contains("revoked"), "{error}");
    }

    #[test]
    fn a_write_in_doubt_happened_wholly_or_not_at_all() {
        let doubtful = || {
            let mut ledger = acknowledged();
            ledger.begin(Doubt::Write(vec![put("a", "2"), ("b".to_owned(), None)]));
            ledger
        };
        assert_eq!(
            settle(&mut doubtful(), &[("a", "1", 5), ("b", "1", 5)]),
            Ok(())
        );
        assert_eq!(settle(&mut doubtful(), &[("a", "2", 6)]), Ok(()));
        assert!(settle(&mut doubtful(), &[("a", "2", 6), ("b", "1", 5)]).is_err());
        assert!(settle(&mut doubtful(), &[("a", "1", 5)]).is_err());
    }
}
