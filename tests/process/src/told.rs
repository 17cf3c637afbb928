//! What each watch of a stream was told, so that two servers can be compared.
//!
//! Servers may gather revisions into one response or spread them over several, so a watch is
//! a list of events here, with the answers to requests among them. What must hold of one
//! server alone is refused at once: revisions out of order, one that is split over two
//! responses, and a header behind its events.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::difference;
use crate::gateway::number;

/// What a stream has told since it was last compared.
#[derive(Clone, Debug, Default)]
pub struct Told {
    watches: BTreeMap<i64, Vec<Value>>,
    /// The last revision of each watch that lives.
    revisions: BTreeMap<i64, i64>,
    compacted: BTreeSet<i64>,
    events: u64,
}

impl Told {
    /// Takes one response.
    ///
    /// # Errors
    ///
    /// What no server may tell, in words.
    pub fn take(&mut self, response: &Value) -> Result<(), String> {
        let id = number(&response["watch_id"]);
        if response["created"] == true {
            self.revisions.insert(id, 0);
        }
        let before = self.revisions.get(&id).copied();
        let told = self.watches.entry(id).or_default();
        let mut last = before.unwrap_or_default();
        let events = response["events"].as_array().into_iter().flatten();
        for event in events.clone() {
            let Some(before) = before else {
                return Err(format!("watch {id} has an event and does not exist"));
            };
            let revision = number(&event["kv"]["mod_revision"]);
            if revision <= before || revision < last {
                return Err(format!(
                    "watch {id}: revision {revision} came after {last}, {before} being whole"
                ));
            }
            last = revision;
            told.push(event.clone());
            self.events += 1;
        }
        if number(&response["header"]["revision"]) < last && events.clone().next().is_some() {
            return Err(format!("watch {id}: the header is behind revision {last}"));
        }
        self.revisions.entry(id).and_modify(|it| *it = last);
        if events.clone().next().is_none() {
            told.push(answer(response));
        }
        if response["canceled"] == true {
            self.revisions.remove(&id);
            if number(&response["compact_revision"]) == 0 {
                self.compacted.remove(&id);
            } else {
                self.compacted.insert(id);
            }
        }
        Ok(())
    }

    /// How many events have come, over all watches and comparisons.
    #[must_use]
    pub const fn events(&self) -> u64 {
        self.events
    }

    /// The watches that compaction has ended, and that the client has not cancelled since.
    #[must_use]
    pub const fn compacted(&self) -> &BTreeSet<i64> {
        &self.compacted
    }

    /// Where the two disagree, in words; empty when they agree.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Vec<String> {
        let all = |told: &Self| json!(told.watches);
        let mut found = Vec::new();
        difference::values("", &all(self), &all(other), &mut found);
        found
    }

    /// Forgets what was compared.
    pub fn clear(&mut self) {
        self.watches.clear();
    }
}

/// An answer without what depends on the moment: a watch that compaction ended is told so
/// sooner or later, and so under one revision or another.
fn answer(response: &Value) -> Value {
    let mut answer = response.clone();
    if number(&answer["compact_revision"]) != 0 {
        answer["header"]["revision"] = Value::Null;
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    fn created() -> Value {
        json!({"header": {"revision": "1"}, "created": true})
    }

    fn events(revisions: &[i64]) -> Value {
        let events: Vec<Value> = revisions
            .iter()
            .map(|it| json!({"kv": {"key": "YQ==", "mod_revision": it.to_string()}}))
            .collect();
        json!({"header": {"revision": "9"}, "events": events})
    }

    fn told(responses: &[Value]) -> Result<Told, String> {
        let mut told = Told::default();
        for response in responses {
            told.take(response)?;
        }
        Ok(told)
    }

    #[test]
    fn responses_may_be_cut_anywhere_but_within_a_revision() {
        let one = told(&[created(), events(&[2, 3, 3])]).unwrap();
        let two = told(&[created(), events(&[2]), events(&[3, 3])]).unwrap();
        assert!(one.difference(&two).is_empty());
        assert_eq!((one.events(), two.events()), (3, 3));
        let error = told(&[created(), events(&[2, 3]), events(&[3])]).unwrap_err();
        assert!(error.contains("whole"), "{error}");
    }

    #[test]
    fn a_missing_event_and_a_changed_one_are_seen() {
        let whole = told(&[created(), events(&[2, 3])]).unwrap();
        let short = told(&[created(), events(&[2])]).unwrap();
        let other = told(&[created(), events(&[2, 4])]).unwrap();
        assert_eq!(whole.difference(&short), [".0: 3 and 2 elements"]);
        let found = whole.difference(&other);
        assert_eq!(found, [".0[2].kv.mod_revision: \"3\" and \"4\""]);
    }

    #[test]
    fn what_no_server_may_tell_is_refused() {
        assert!(told(&[created(), events(&[3, 2])]).is_err());
        assert!(told(&[events(&[2])]).unwrap_err().contains("exist"));
        let ended = json!({"header": {"revision": "3"}, "canceled": true});
        assert!(told(&[created(), ended, events(&[4])]).is_err());
        let behind = json!({"header": {"revision": "1"}, "events": events(&[2])["events"]});
        let error = told(&[created(), behind]).unwrap_err();
        assert!(error.contains("header"), "{error}");
    }

    #[test]
    fn answers_are_compared_but_for_when_compaction_was_told() {
        let ended = |revision: &str, compacted: &str| {
            let header = json!({"revision": revision});
            told(&[json!({"header": header, "canceled": true, "compact_revision": compacted})])
        };
        let one = ended("5", "3").unwrap();
        assert!(one.difference(&ended("6", "3").unwrap()).is_empty());
        assert!(!one.difference(&ended("5", "4").unwrap()).is_empty());
        assert!(
            !ended("5", "0")
                .unwrap()
                .difference(&ended("6", "0").unwrap())
                .is_empty()
        );
    }
}
