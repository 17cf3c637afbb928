//! Seeded requests of several users: who they are, what they may, and what they then try.
//!
//! Few users, roles and passwords, so that all of them change under a running login. Root
//! comes back again and again, for without it users are not enforced and nothing is refused.

use holm_base::Prng;
use serde_json::{Map, Value, json};

use super::{Generator, KEYS, Request};
use crate::base64;
use crate::gateway::Answer;

/// Who never logs in.
const STRANGER: &str = "stranger";
const USERS: &[&str] = &["root", "ada", "bob", "cyd"];
const ROLES: &[&str] = &["root", "r1", "r2", "r3"];
const PASSWORDS: &[&str] = &["p", "q"];
/// After so many requests the opening comes again.
const ROUND: usize = 120;

/// An endless source of requests of users.
#[derive(Clone, Debug)]
pub struct Users {
    prng: Prng,
    keys: Generator,
    count: usize,
}

impl Users {
    /// A source whose requests are fixed by `seed` and by the answers it is told.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            prng: Prng::new(seed ^ 0x5eed),
            keys: Generator::new(seed),
            count: 0,
        }
    }

    /// Learns the store's revision from an answer.
    pub fn learn(&mut self, answer: &Answer) {
        self.keys.learn(answer);
    }

    /// The next request, and whose it is.
    pub fn request(&mut self) -> Request {
        let place = self.count % ROUND;
        self.count += 1;
        if let Some(request) = opening().into_iter().nth(place) {
            return request;
        }
        let mut request = match self.below(5) {
            0 | 1 => self.administration(),
            2 => self.login(),
            _ => self.keys.request(),
        };
        let bystander = request.path.starts_with("auth") && self.below(4) > 0;
        request.user = if bystander {
            Some("root")
        } else if self.below(30) == 0 {
            Some(STRANGER)
        } else {
            Some(self.pick(USERS))
        };
        request
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.prng.below(bound)
    }

    fn pick(&mut self, list: &[&'static str]) -> &'static str {
        let bound = u64::try_from(list.len()).expect("lists are short");
        list[usize::try_from(self.below(bound)).expect("the index of a short list fits")]
    }

    /// A user's name, at times none or nobody's.
    fn user(&mut self) -> &'static str {
        match self.below(24) {
            0 => "",
            1 => "nobody",
            _ => self.pick(USERS),
        }
    }

    fn role(&mut self) -> &'static str {
        match self.below(24) {
            0 => "",
            1 => "none",
            _ => self.pick(ROLES),
        }
    }

    fn login(&mut self) -> Request {
        let password = match self.below(12) {
            0 => "",
            _ => self.pick(PASSWORDS),
        };
        let body = json!({"name": self.user(), "password": password});
        Request::new("auth/authenticate", body)
    }

    fn administration(&mut self) -> Request {
        let (path, body) = match self.below(30) {
            0 => ("auth/disable", json!({})),
            1..=3 => ("auth/enable", json!({})),
            4 => ("auth/status", json!({})),
            5..=7 => ("auth/user/add", self.user_add()),
            8 => ("auth/user/delete", json!({"name": self.user()})),
            9 => (
                "auth/user/changepw",
                json!({"name": self.user(), "password": self.pick(PASSWORDS)}),
            ),
            10 | 11 => ("auth/user/get", json!({"name": self.user()})),
            12 => ("auth/user/list", json!({})),
            13..=15 => (
                "auth/user/grant",
                json!({"user": self.user(), "role": self.role()}),
            ),
            16 => (
                "auth/user/revoke",
                json!({"name": self.user(), "role": self.role()}),
            ),
            17 => ("auth/role/add", json!({"name": self.role()})),
            18 => ("auth/role/delete", json!({"role": self.role()})),
            19 | 20 => ("auth/role/get", json!({"role": self.role()})),
            21 => ("auth/role/list", json!({})),
            22..=27 => ("auth/role/grant", self.permission()),
            _ => ("auth/role/revoke", self.permission_taken()),
        };
        Request::new(path, body)
    }

    fn user_add(&mut self) -> Value {
        let mut body = Map::new();
        body.insert("name".to_owned(), json!(self.user()));
        if self.below(5) > 0 {
            body.insert("password".to_owned(), json!(self.pick(PASSWORDS)));
        }
        if self.below(6) == 0 {
            body.insert("options".to_owned(), json!({"no_password": true}));
        }
        Value::Object(body)
    }

    /// One key, a range, all from a key on, or all there is.
    fn span(&mut self) -> Map<String, Value> {
        let mut span = Map::new();
        let key = match self.below(12) {
            0 => "",
            1 => "\0",
            _ => self.pick(KEYS),
        };
        span.insert("key".to_owned(), json!(base64::encode(key.as_bytes())));
        let end = match self.below(6) {
            0..=2 => return span,
            3 => "\0",
            _ => self.pick(&["b", "ac", "c", "f"]),
        };
        span.insert(
            "range_end".to_owned(),
            json!(base64::encode(end.as_bytes())),
        );
        span
    }

    fn permission(&mut self) -> Value {
        if self.below(30) == 0 {
            return json!({"name": self.role()});
        }
        let mut permission = self.span();
        let kind = self.pick(&["READ", "WRITE", "READWRITE"]);
        permission.insert("permType".to_owned(), json!(kind));
        json!({"name": self.role(), "perm": permission})
    }

    fn permission_taken(&mut self) -> Value {
        let mut body = self.span();
        body.insert("role".to_owned(), json!(self.role()));
        Value::Object(body)
    }
}

/// Root and three users with something to do, all logged in.
fn opening() -> Vec<Request> {
    let key = |key: &str| base64::encode(key.as_bytes());
    let mut requests = vec![Request::new("auth/enable", json!({}))];
    for user in USERS {
        let body = json!({"name": user, "password": "p"});
        requests.push(Request::new("auth/user/add", body));
    }
    for role in ROLES {
        requests.push(Request::new("auth/role/add", json!({"name": role})));
    }
    for (role, kind, first, end) in [
        ("r1", "READ", "a", "c"),
        ("r2", "WRITE", "b", "\0"),
        ("r3", "READWRITE", "aa", ""),
    ] {
        let span = json!({"permType": kind, "key": key(first), "range_end": key(end)});
        let body = json!({"name": role, "perm": span});
        requests.push(Request::new("auth/role/grant", body));
    }
    for (user, role) in [
        ("root", "root"),
        ("ada", "r1"),
        ("bob", "r1"),
        ("bob", "r2"),
        ("cyd", "r3"),
    ] {
        let body = json!({"user": user, "role": role});
        requests.push(Request::new("auth/user/grant", body));
    }
    requests.push(Request::new("auth/enable", json!({})));
    for request in &mut requests {
        request.user = Some("root");
    }
    for user in USERS {
        let body = json!({"name": user, "password": "p"});
        requests.push(Request::new("auth/authenticate", body));
    }
    requests
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_seeds_give_equal_requests() {
        let (mut left, mut right) = (Users::new(5), Users::new(5));
        for _ in 0..300 {
            assert_eq!(left.request(), right.request());
        }
    }

    #[test]
    fn every_call_about_users_appears_and_all_users_ask_for_keys() {
        let mut users = Users::new(1);
        let requests: Vec<Request> = (0..2_000).map(|_| users.request()).collect();
        let mut paths: Vec<&str> = requests.iter().map(|request| request.path).collect();
        paths.retain(|path| path.starts_with("auth/"));
        paths.sort_unstable();
        paths.dedup();
        assert_eq!(paths.len(), 17, "{paths:?}");
        for user in USERS {
            let asks = |request: &Request| request.path == "kv/txn" && request.user == Some(user);
            assert!(requests.iter().any(asks), "{user} has no transaction");
        }
    }
}
