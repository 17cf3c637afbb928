//! Generated requests to two servers, their answers compared field by field.
//!
//! `HOLM_SEED` fixes the first seed, `HOLM_SEEDS` their number and `HOLM_REQUESTS` the requests
//! per seed, so that a failure replays and a long run needs no other code. `HOLM_ETCD` names
//! another etcd.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use holm_process_tests::generate::users::Users;
use holm_process_tests::generate::{Generator, Request};
use holm_process_tests::peer::{self, Version, older};
use holm_process_tests::{Answer, Gateway, Grpc, Program, Server, Setup, difference};

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(default)
}

/// The two ways in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Door {
    Gateway,
    Grpc,
}

const DOORS: [Door; 2] = [Door::Gateway, Door::Grpc];

/// What is generated.
#[derive(Clone, Copy, Debug)]
enum Subject {
    Keys,
    Users,
}

enum Source {
    Keys(Generator),
    Users(Users),
}

impl Source {
    fn new(subject: Subject, seed: u64) -> Self {
        match subject {
            Subject::Keys => Self::Keys(Generator::new(seed)),
            Subject::Users => Self::Users(Users::new(seed)),
        }
    }

    fn request(&mut self) -> Request {
        match self {
            Self::Keys(source) => source.request(),
            Self::Users(source) => source.request(),
        }
    }

    fn learn(&mut self, answer: &Answer) {
        match self {
            Self::Keys(source) => source.learn(answer),
            Self::Users(source) => source.learn(answer),
        }
    }
}

/// A client at one door, with the tokens of all who logged in through it.
struct Client {
    door: Connection,
    tokens: BTreeMap<String, String>,
}

enum Connection {
    Gateway(Gateway),
    Grpc(Grpc),
}

impl Client {
    fn open(door: Door, server: &Server) -> Result<Self> {
        Ok(Self {
            door: match door {
                Door::Gateway => Connection::Gateway(Gateway::new(server.address())),
                Door::Grpc => Connection::Grpc(Grpc::open(server.address())?),
            },
            tokens: BTreeMap::new(),
        })
    }

    fn post(&mut self, request: &Request) -> Result<Answer> {
        let token = request.user.and_then(|user| self.tokens.get(user)).cloned();
        let answer = match &mut self.door {
            Connection::Gateway(client) => {
                client.authorize(token);
                client.post(request.path, &request.body)?
            }
            Connection::Grpc(client) => {
                client.authorize(token);
                client.post(request.path, &request.body)?
            }
        };
        if let (Some(token), Some(name)) =
            (answer.body["token"].as_str(), request.body["name"].as_str())
        {
            self.tokens.insert(name.to_owned(), token.to_owned());
        }
        Ok(answer)
    }
}

/// A run of requests to two fresh servers, the first of them an etcd.
struct Run {
    door: Door,
    subject: Subject,
    etcd: Program,
    other: Program,
    seed: u64,
    requests: u64,
}

impl Run {
    fn server(program: Program) -> Result<Server> {
        let setup = Setup::new(program).in_memory();
        Server::start(setup.with("--bcrypt-cost=4"))
    }

    /// What the two disagree on ends the run.
    fn compare(&self, mutate: fn(&mut Answer, u64)) -> Result<()> {
        let version = peer::version(self.etcd)?;
        let is_peer = self.other != Program::Holm;
        let (left, right) = (Self::server(self.etcd)?, Self::server(self.other)?);
        let mut left = Client::open(self.door, &left)?;
        let mut right = Client::open(self.door, &right)?;
        let mut source = Source::new(self.subject, self.seed);
        for count in 0..self.requests {
            let request = source.request();
            if older::unasked(version, &request).is_some() {
                continue;
            }
            let plain = left.post(&request)?;
            let forgets = request.path == "auth/disable" && plain.is_ok();
            let expected = newer(self.door, version, plain);
            let mut answer = right.post(&request)?;
            if forgets && older::refuses_old_tokens(version) {
                left.tokens.clear();
                right.tokens.clear();
            }
            if is_peer {
                answer = newer(self.door, version, answer);
            }
            mutate(&mut answer, count);
            let found = difference::between(&expected, &answer);
            ensure!(found.is_empty(), "{}", self.report(count, &request, &found));
            source.learn(&expected);
        }
        Ok(())
    }

    fn report(&self, count: u64, request: &Request, found: &[String]) -> String {
        let Self {
            door,
            subject,
            seed,
            ..
        } = self;
        let Request { path, body, user } = request;
        format!(
            "{subject:?} by {door:?}, seed {seed}, request {count}: {path} {body} by {user:?}\n  {}\nreplay: HOLM_SEED={seed} cargo test -p holm-process-tests --test differential",
            found.join("\n  ")
        )
    }
}

/// What the newest etcd answers where an older one answered this.
fn newer(door: Door, version: Version, answer: Answer) -> Answer {
    match door {
        Door::Gateway => older::gateway_answer(version, answer),
        Door::Grpc => answer,
    }
}

fn nothing(_answer: &mut Answer, _count: u64) {}

/// Each etcd with itself: what differs here is the test's own fault.
fn with_itself(subject: Subject) {
    for etcd in peer::all() {
        for door in DOORS {
            let run = Run {
                door,
                subject,
                etcd,
                other: etcd,
                seed: 1,
                requests: 300,
            };
            run.compare(nothing).expect("both answer alike");
        }
    }
}

#[test]
fn etcd_agrees_with_etcd_on_keys() {
    with_itself(Subject::Keys);
}

#[test]
fn etcd_agrees_with_etcd_on_users() {
    with_itself(Subject::Users);
}

#[test]
fn a_seeded_difference_is_found() {
    let spoil = |answer: &mut Answer, count: u64| {
        let revision = answer.body.pointer_mut("/header/revision");
        if let Some(revision) = revision.filter(|_| count >= 50) {
            *revision = "999999".into();
        }
    };
    let run = Run {
        door: Door::Gateway,
        subject: Subject::Keys,
        etcd: Program::Etcd,
        other: Program::Etcd,
        seed: 2,
        requests: 60,
    };
    let error = run.compare(spoil).unwrap_err().to_string();
    assert!(
        error.contains("request 5") && error.contains(".header.revision"),
        "{error}"
    );
}

/// Holm beside each etcd.
fn with_holm(door: Door, subject: Subject) {
    let first = setting("HOLM_SEED", 1);
    for etcd in peer::all() {
        // The 3.5 that is fetched leaves much unchecked that later ones refuse, nested operations
        // among it: users are compared with what HOLM_ETCD names, 3.5.30 or newer.
        if matches!(subject, Subject::Users) && etcd == Program::Newer {
            continue;
        }
        for seed in first..first + setting("HOLM_SEEDS", 2) {
            let run = Run {
                door,
                subject,
                etcd,
                other: Program::Holm,
                seed,
                requests: setting("HOLM_REQUESTS", 600),
            };
            if let Err(error) = run.compare(nothing) {
                panic!("{etcd:?} {:?}: {error:#}", peer::version(etcd));
            }
        }
    }
}

#[test]
fn holm_answers_what_etcd_answers() {
    with_holm(Door::Gateway, Subject::Keys);
}

#[test]
fn holm_answers_over_grpc_what_etcd_answers() {
    with_holm(Door::Grpc, Subject::Keys);
}

#[test]
fn holm_answers_users_what_etcd_answers() {
    with_holm(Door::Gateway, Subject::Users);
}

#[test]
fn holm_answers_users_over_grpc_what_etcd_answers() {
    with_holm(Door::Grpc, Subject::Users);
}
