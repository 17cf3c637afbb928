//! Seeded requests: few keys, many collisions, every option, and a good share of nonsense.
//!
//! Two servers that start empty and get the same requests have the same revisions, so that
//! answers can be compared whole. Leases are named by us for the same reason.

pub mod users;
pub mod watches;

use std::collections::VecDeque;

use holm_base::Prng;
use serde_json::{Map, Value, json};

use crate::base64;
use crate::gateway::Answer;

/// A request: the gateway's path below `/v3/` and its body.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// Such as `kv/put`.
    pub path: &'static str,
    /// The message as JSON.
    pub body: Value,
    /// The user who asks; nobody in particular if `None`.
    pub user: Option<&'static str>,
}

impl Request {
    fn new(path: &'static str, body: Value) -> Self {
        Self {
            path,
            body,
            user: None,
        }
    }
}

/// Keys are few, so that requests meet each other's work.
const KEYS: &[&str] = &["a", "b", "c", "d", "e", "aa", "ab"];
/// Lease ids are few for the same reason.
const LEASES: u64 = 4;
/// The lease that would not live long, and so is revoked by the requests right behind its own.
const SHORT_LEASE: i64 = 99;
/// The deepest nesting of transactions.
const DEPTH: u64 = 2;

/// An endless source of requests.
#[derive(Clone, Debug)]
pub struct Generator {
    prng: Prng,
    revision: i64,
    next: VecDeque<Request>,
}

impl Generator {
    /// A source whose requests are fixed by `seed` and by the revisions it is told.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            prng: Prng::new(seed),
            revision: 1,
            next: VecDeque::new(),
        }
    }

    /// Learns the store's revision from an answer, for requests about the past.
    pub fn learn(&mut self, answer: &Answer) {
        self.revision = self.revision.max(answer.revision());
    }

    /// Whether the next request belongs to the last one and must follow it soon.
    #[must_use]
    pub fn is_midway(&self) -> bool {
        !self.next.is_empty()
    }

    /// The next request.
    pub fn request(&mut self) -> Request {
        if let Some(request) = self.next.pop_front() {
            return request;
        }
        let (path, body) = match self.below(44) {
            0..=9 => ("kv/put", self.put()),
            10..=18 => ("kv/range", self.range()),
            19..=22 => ("kv/deleterange", self.delete()),
            23..=33 => ("kv/txn", self.txn(0)),
            34 => ("kv/compaction", self.compact()),
            35..=37 => ("lease/grant", self.grant()),
            38 => ("lease/revoke", json!({"ID": self.lease()})),
            39 => return self.short_lease(),
            40 | 41 => (
                "lease/timetolive",
                json!({"ID": self.lease(), "keys": self.chance(2)}),
            ),
            42 => ("lease/keepalive", json!({"ID": self.lease()})),
            _ => ("lease/leases", json!({})),
        };
        Request::new(path, body)
    }

    /// A lease below the least time to live, used, looked at, and revoked before it could end.
    fn short_lease(&mut self) -> Request {
        let time_to_live = [1, 0, -5][usize::try_from(self.below(3)).expect("below three")];
        let id = SHORT_LEASE;
        let put = json!({"key": base64::encode(self.pick(KEYS).as_bytes()), "lease": id});
        let later = [
            ("kv/put", put),
            ("lease/timetolive", json!({"ID": id, "keys": true})),
            ("lease/keepalive", json!({"ID": id})),
            ("lease/revoke", json!({"ID": id})),
            ("lease/keepalive", json!({"ID": id})),
        ];
        self.next
            .extend(later.map(|(path, body)| Request::new(path, body)));
        Request::new("lease/grant", json!({"ID": id, "TTL": time_to_live}))
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.prng.below(bound)
    }

    /// True once in `of` times.
    fn chance(&mut self, of: u64) -> bool {
        self.below(of) == 0
    }

    fn pick<'list>(&mut self, list: &[&'list str]) -> &'list str {
        let bound = u64::try_from(list.len()).expect("lists are short");
        let index = usize::try_from(self.below(bound)).expect("the index of a short list fits");
        list[index]
    }

    fn key(&mut self) -> String {
        if self.chance(40) {
            return String::new();
        }
        base64::encode(self.pick(KEYS).as_bytes())
    }

    /// Often none, often a prefix's end, at times all keys, at times an end before the key.
    fn range_end(&mut self) -> Option<String> {
        let end = match self.below(8) {
            0..=3 => return None,
            4 => "\0",
            5 => self.pick(KEYS),
            _ => self.pick(&["b", "ac", "e", "f", "z"]),
        };
        Some(base64::encode(end.as_bytes()))
    }

    fn lease(&mut self) -> i64 {
        i64::try_from(self.below(LEASES)).expect("few leases") + 77
    }

    /// Around now, the past, the future, and what has been compacted.
    fn past(&mut self) -> i64 {
        let span = u64::try_from(self.revision).expect("revisions are positive") + 3;
        i64::try_from(self.below(span)).expect("a revision fits") - i64::from(self.chance(30))
    }

    fn put(&mut self) -> Value {
        let mut put = Map::new();
        put.insert("key".to_owned(), json!(self.key()));
        let ignores_value = self.chance(10);
        if !ignores_value || self.chance(6) {
            let value = format!("v{}", self.below(50));
            put.insert("value".to_owned(), json!(base64::encode(value.as_bytes())));
        }
        if ignores_value {
            put.insert("ignore_value".to_owned(), json!(true));
        }
        if self.chance(5) {
            put.insert("lease".to_owned(), json!(self.lease()));
        }
        if self.chance(10) {
            put.insert("ignore_lease".to_owned(), json!(true));
        }
        if self.chance(3) {
            put.insert("prev_kv".to_owned(), json!(true));
        }
        Value::Object(put)
    }

    fn span(&mut self) -> Map<String, Value> {
        let mut span = Map::new();
        span.insert("key".to_owned(), json!(self.key()));
        if let Some(end) = self.range_end() {
            span.insert("range_end".to_owned(), json!(end));
        }
        span
    }

    fn range(&mut self) -> Value {
        let mut range = self.span();
        if self.chance(5) {
            let everything = base64::encode(b"\0");
            range.insert("key".to_owned(), json!(everything));
            range.insert("range_end".to_owned(), json!(everything));
        }
        if self.chance(3) {
            range.insert("limit".to_owned(), json!(self.below(4)));
        }
        if self.chance(4) {
            range.insert("revision".to_owned(), json!(self.past()));
        }
        if self.chance(3) {
            range.insert(
                "sort_order".to_owned(),
                json!(self.pick(&["NONE", "ASCEND", "DESCEND"])),
            );
            let target = self.pick(&["KEY", "VERSION", "CREATE", "MOD", "VALUE"]);
            range.insert("sort_target".to_owned(), json!(target));
        }
        for flag in ["keys_only", "count_only", "serializable"] {
            if self.chance(8) {
                range.insert(flag.to_owned(), json!(true));
            }
        }
        for filter in [
            "min_mod_revision",
            "max_mod_revision",
            "min_create_revision",
            "max_create_revision",
        ] {
            if self.chance(12) {
                range.insert(filter.to_owned(), json!(self.past()));
            }
        }
        Value::Object(range)
    }

    fn delete(&mut self) -> Value {
        let mut delete = self.span();
        if self.chance(2) {
            delete.insert("prev_kv".to_owned(), json!(true));
        }
        Value::Object(delete)
    }

    fn txn(&mut self, depth: u64) -> Value {
        let compares: Vec<Value> = (0..self.below(3)).map(|_| self.compare()).collect();
        json!({"compare": compares, "success": self.branch(depth), "failure": self.branch(depth)})
    }

    fn branch(&mut self, depth: u64) -> Vec<Value> {
        (0..self.below(4)).map(|_| self.operation(depth)).collect()
    }

    fn operation(&mut self, depth: u64) -> Value {
        match self.below(8) {
            0..=2 => json!({"request_put": self.put()}),
            3 | 4 => json!({"request_range": self.range()}),
            5 => json!({"request_delete_range": self.delete()}),
            _ if depth < DEPTH => json!({"request_txn": self.txn(depth + 1)}),
            _ => json!({"request_put": self.put()}),
        }
    }

    fn compare(&mut self) -> Value {
        let mut compare = Map::new();
        compare.insert("key".to_owned(), json!(self.key()));
        let result = self.pick(&["EQUAL", "GREATER", "LESS", "NOT_EQUAL"]);
        compare.insert("result".to_owned(), json!(result));
        let target = self.pick(&["VERSION", "CREATE", "MOD", "VALUE", "LEASE"]);
        compare.insert("target".to_owned(), json!(target));
        let (field, against) = match target {
            "VERSION" => ("version", json!(self.below(4))),
            "CREATE" => ("create_revision", json!(self.past())),
            "MOD" => ("mod_revision", json!(self.past())),
            "LEASE" => (
                "lease",
                json!(if self.chance(2) { 0 } else { self.lease() }),
            ),
            _ => (
                "value",
                json!(base64::encode(format!("v{}", self.below(50)).as_bytes())),
            ),
        };
        compare.insert(field.to_owned(), against);
        if self.chance(4)
            && let Some(end) = self.range_end()
        {
            compare.insert("range_end".to_owned(), json!(end));
        }
        Value::Object(compare)
    }

    fn compact(&mut self) -> Value {
        json!({"revision": self.past(), "physical": self.chance(2)})
    }

    fn grant(&mut self) -> Value {
        let time_to_live = match self.below(12) {
            0 => 9_000_000_001_i64,
            1 => 9_000_000_000,
            _ => 1_000,
        };
        json!({"ID": self.lease(), "TTL": time_to_live})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_seeds_give_equal_requests() {
        let (mut left, mut right) = (Generator::new(5), Generator::new(5));
        for _ in 0..200 {
            assert_eq!(left.request(), right.request());
        }
    }

    #[test]
    fn every_path_and_a_nested_transaction_appear() {
        let mut generator = Generator::new(1);
        let requests: Vec<Request> = (0..500).map(|_| generator.request()).collect();
        let paths =
            ["put", "range", "deleterange", "txn", "compaction"].map(|name| format!("kv/{name}"));
        for path in paths {
            assert!(
                requests.iter().any(|request| request.path == path),
                "no {path}"
            );
        }
        assert!(
            requests
                .iter()
                .any(|request| request.body.to_string().contains("request_txn"))
        );
    }
}
