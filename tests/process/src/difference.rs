//! What two answers disagree on, field by field, ids and times apart.

use serde_json::{Map, Value};

use crate::gateway::{Answer, number};

/// Fields that name a cluster, a member or a time, and so differ between any two servers.
const APART: &[&str] = &[
    "cluster_id",
    "member_id",
    "raft_term",
    "memberID",
    "token",
    "raftIndex",
    "raftAppliedIndex",
];

/// Fields of seconds, which may differ by one: two servers are never asked at one instant.
const SECONDS: &[&str] = &["TTL"];

/// Lists without an order: etcd names a lease's keys as its map happens to have them.
const SETS: &[&str] = &["keys"];

/// Where two answers disagree, in words; empty when they agree.
#[must_use]
pub fn between(left: &Answer, right: &Answer) -> Vec<String> {
    let mut found = Vec::new();
    if left.status != right.status {
        found.push(format!("status: {} and {}", left.status, right.status));
    }
    values("", &left.body, &right.body, &mut found);
    found
}

/// Where two JSON values disagree, each line beginning with the path to the place.
pub fn values(path: &str, left: &Value, right: &Value, found: &mut Vec<String>) {
    match (left, right) {
        (Value::Object(left), Value::Object(right)) => objects(path, left, right, found),
        (Value::Array(left), Value::Array(right)) => {
            if left.len() != right.len() {
                found.push(format!(
                    "{path}: {} and {} elements",
                    left.len(),
                    right.len()
                ));
            }
            for (index, (left, right)) in left.iter().zip(right).enumerate() {
                values(&format!("{path}[{index}]"), left, right, found);
            }
        }
        (left, right) if left == right => {}
        (left, right) => found.push(format!("{path}: {left} and {right}")),
    }
}

fn objects(
    path: &str,
    left: &Map<String, Value>,
    right: &Map<String, Value>,
    found: &mut Vec<String>,
) {
    let mut names: Vec<&String> = left.keys().chain(right.keys()).collect();
    names.sort();
    names.dedup();
    for name in names {
        if APART.contains(&name.as_str()) {
            continue;
        }
        let inner = format!("{path}.{name}");
        match (left.get(name), right.get(name)) {
            (Some(left), Some(right)) if SECONDS.contains(&name.as_str()) => {
                if (number(left) - number(right)).abs() > 1 {
                    found.push(format!("{inner}: {left} and {right}"));
                }
            }
            (Some(Value::Array(left)), Some(Value::Array(right)))
                if SETS.contains(&name.as_str()) =>
            {
                let sorted = |list: &[Value]| {
                    let mut list = list.to_vec();
                    list.sort_by_key(Value::to_string);
                    Value::Array(list)
                };
                values(&inner, &sorted(left), &sorted(right), found);
            }
            (Some(left), Some(right)) => values(&inner, left, right, found),
            (Some(left), None) => found.push(format!("{inner}: {left} and nothing")),
            (None, Some(right)) => found.push(format!("{inner}: nothing and {right}")),
            (None, None) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn answer(body: Value) -> Answer {
        Answer { status: 200, body }
    }

    #[test]
    fn ids_differ_and_that_is_no_difference() {
        let left = answer(json!({"header": {"cluster_id": "1", "revision": "7"}}));
        let right = answer(json!({"header": {"cluster_id": "2", "revision": "7"}}));
        assert!(between(&left, &right).is_empty());
    }

    #[test]
    fn a_seeded_difference_is_seen_wherever_it_hides() {
        let body = json!({"header": {"revision": "7"}, "kvs": [{"key": "YQ==", "version": "1"}], "count": "1"});
        let left = answer(body.clone());
        let mutants = [
            ("/header/revision", json!("8")),
            ("/kvs/0/version", json!("2")),
            ("/kvs/0/key", json!("Yg==")),
            ("/kvs", json!([])),
            ("/count", json!("2")),
        ];
        for (place, value) in mutants {
            let mut body = body.clone();
            *body.pointer_mut(place).unwrap() = value;
            assert!(
                !between(&left, &answer(body)).is_empty(),
                "{place} went through"
            );
        }
        let missing = answer(json!({"header": {"revision": "7"}}));
        assert_eq!(between(&left, &missing).len(), 2);
        assert_eq!(between(&left, &Answer { status: 400, body }).len(), 1);
    }

    #[test]
    fn the_keys_of_a_lease_have_no_order() {
        let with = |keys: &[&str]| answer(json!({"keys": keys}));
        assert!(between(&with(&["a", "b"]), &with(&["b", "a"])).is_empty());
        assert!(!between(&with(&["a", "b"]), &with(&["b", "c"])).is_empty());
        let kvs = |kvs: &[&str]| answer(json!({"kvs": kvs}));
        assert!(!between(&kvs(&["a", "b"]), &kvs(&["b", "a"])).is_empty());
    }

    #[test]
    fn a_time_to_live_may_differ_by_a_second_and_no_more() {
        let with = |ttl: &str| answer(json!({"TTL": ttl}));
        assert!(between(&with("30"), &with("29")).is_empty());
        assert!(!between(&with("30"), &with("27")).is_empty());
    }
}
