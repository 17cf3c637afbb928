//! The state at each revision, rebuilt from a watch alone.
//!
//! The oracle believes nothing but events, and refuses those that contradict what it rebuilt:
//! out of order, twice, or with versions and previous values that do not follow.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::gateway::{number, text};

/// A live key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Key {
    /// Its value.
    pub value: String,
    /// The revision that made it.
    pub create: i64,
    /// The revision that last changed it.
    pub modified: i64,
    /// How often it was written since it was made.
    pub version: i64,
    /// The lease it hangs on; 0 for none.
    pub lease: i64,
}

impl Key {
    /// Reads a KeyValue as the gateway writes it.
    #[must_use]
    pub fn read(kv: &Value) -> (String, Self) {
        let key = Self {
            value: text(&kv["value"]),
            create: number(&kv["create_revision"]),
            modified: number(&kv["mod_revision"]),
            version: number(&kv["version"]),
            lease: number(&kv["lease"]),
        };
        (text(&kv["key"]), key)
    }
}

/// All live keys.
pub type State = BTreeMap<String, Key>;

/// What a watch has told so far.
#[derive(Clone, Debug, Default)]
pub struct Oracle {
    state: State,
    revision: i64,
    past: BTreeMap<i64, State>,
    with_previous: bool,
}

impl Oracle {
    /// An oracle of a watch over all keys from revision 1, with previous values or without.
    #[must_use]
    pub fn new(with_previous: bool) -> Self {
        Self {
            with_previous,
            ..Self::default()
        }
    }

    /// The last revision of which an event came.
    #[must_use]
    pub const fn revision(&self) -> i64 {
        self.revision
    }

    /// The state at `revision`, if the watch has come that far.
    #[must_use]
    pub fn at(&self, revision: i64) -> Option<&State> {
        if revision > self.revision {
            return None;
        }
        self.past
            .range(..=revision)
            .next_back()
            .map(|(_, state)| state)
    }

    /// Forgets what was before the last revision: for a watch that is followed for long.
    pub fn forget(&mut self) {
        self.past = self.past.split_off(&self.revision);
    }

    /// Takes one response of the watch.
    ///
    /// # Errors
    ///
    /// An event that cannot follow, in words.
    pub fn take(&mut self, response: &Value) -> Result<(), String> {
        let first = self.revision;
        for event in response["events"].as_array().into_iter().flatten() {
            self.event(event, first)?;
        }
        let header = number(&response["header"]["revision"]);
        if self.revision > first && header < self.revision {
            return Err(format!(
                "header revision {header} is below an event's {}",
                self.revision
            ));
        }
        Ok(())
    }

    fn event(&mut self, event: &Value, before_response: i64) -> Result<(), String> {
        let (name, key) = Key::read(&event["kv"]);
        if key.modified <= before_response {
            return Err(format!(
                "{name}@{} came after revision {before_response} was whole",
                key.modified
            ));
        }
        if key.modified < self.revision {
            return Err(format!(
                "{name}@{} came after {}",
                key.modified, self.revision
            ));
        }
        let previous = self.state.get(&name).cloned();
        if self.with_previous {
            Self::check_previous(&name, previous.as_ref(), &event["prev_kv"])?;
        }
        self.revision = key.modified;
        if event["type"] == "DELETE" {
            if self.state.remove(&name).is_none() {
                return Err(format!(
                    "{name}@{} was deleted and did not exist",
                    key.modified
                ));
            }
        } else {
            follows(&name, previous.as_ref(), &key)?;
            self.state.insert(name, key);
        }
        self.past.insert(self.revision, self.state.clone());
        Ok(())
    }

    fn check_previous(name: &str, wanted: Option<&Key>, told: &Value) -> Result<(), String> {
        let told = told.is_object().then(|| Key::read(told).1);
        if told.as_ref() == wanted {
            return Ok(());
        }
        Err(format!(
            "{name}: previous value {told:?}, but the watch told {wanted:?}"
        ))
    }
}

/// Whether a put can stand behind what was there.
fn follows(name: &str, previous: Option<&Key>, key: &Key) -> Result<(), String> {
    let (create, version) = match previous {
        Some(previous) if previous.modified == key.modified => {
            return Err(format!("{name}@{} was written twice", key.modified));
        }
        Some(previous) => (previous.create, previous.version + 1),
        None => (key.modified, 1),
    };
    if (key.create, key.version) == (create, version) {
        return Ok(());
    }
    Err(format!(
        "{name}@{}: created at {} with version {}, but {create} and {version} follow",
        key.modified, key.create, key.version
    ))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::base64::encode;

    fn put(key: &str, create: i64, modified: i64, version: i64) -> Value {
        json!({"kv": {
            "key": encode(key.as_bytes()), "value": encode(b"v"),
            "create_revision": create.to_string(), "mod_revision": modified.to_string(), "version": version.to_string(),
        }})
    }

    fn delete(key: &str, modified: i64) -> Value {
        json!({"type": "DELETE", "kv": {"key": encode(key.as_bytes()), "mod_revision": modified.to_string()}})
    }

    fn respond(oracle: &mut Oracle, events: &[Value]) -> Result<(), String> {
        oracle.take(&json!({"header": {"revision": "100"}, "events": events}))
    }

    fn run(events: &[Value]) -> Result<Oracle, String> {
        let mut oracle = Oracle::new(false);
        respond(&mut oracle, events)?;
        Ok(oracle)
    }

    #[test]
    fn the_state_at_each_revision_is_rebuilt() {
        let oracle = run(&[
            put("a", 2, 2, 1),
            put("b", 3, 3, 1),
            put("a", 2, 4, 2),
            delete("b", 5),
        ])
        .unwrap();
        assert_eq!(oracle.at(2).unwrap().len(), 1);
        assert_eq!(oracle.at(3).unwrap().len(), 2);
        assert_eq!(oracle.at(5).unwrap()["a"].version, 2);
        assert!(oracle.at(1).is_none() && oracle.at(6).is_none());
    }

    #[test]
    fn an_event_out_of_order_or_twice_is_refused() {
        assert!(run(&[put("a", 3, 3, 1), put("b", 2, 2, 1)]).is_err());
        assert!(run(&[put("a", 2, 2, 1), put("a", 2, 2, 1)]).is_err());
    }

    #[test]
    fn a_missing_event_shows_in_the_next() {
        assert!(
            run(&[put("a", 2, 2, 1), put("a", 2, 4, 3)])
                .unwrap_err()
                .contains("version 3")
        );
        assert!(
            run(&[delete("a", 2)])
                .unwrap_err()
                .contains("did not exist")
        );
    }

    #[test]
    fn a_revision_split_over_two_responses_is_refused() {
        let mut oracle = Oracle::new(false);
        respond(&mut oracle, &[put("a", 2, 2, 1)]).unwrap();
        assert!(
            respond(&mut oracle, &[put("b", 2, 2, 1)])
                .unwrap_err()
                .contains("whole")
        );
    }

    #[test]
    fn a_wrong_previous_value_is_refused() {
        let mut oracle = Oracle::new(true);
        respond(&mut oracle, &[put("a", 2, 2, 1)]).unwrap();
        assert!(
            respond(&mut oracle, &[put("a", 2, 3, 2)])
                .unwrap_err()
                .contains("previous")
        );
    }

    #[test]
    fn a_header_behind_its_events_is_refused() {
        let mut oracle = Oracle::new(false);
        let response = json!({"header": {"revision": "1"}, "events": [put("a", 2, 2, 1)]});
        assert!(oracle.take(&response).unwrap_err().contains("below"));
    }
}
