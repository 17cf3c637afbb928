//! Generated requests to two servers, their answers compared field by field.
//!
//! `HOLM_SEED` fixes the first seed and `HOLM_REQUESTS` the number per seed, so that a failure
//! replays and a long run needs no other code.

use anyhow::{Result, ensure};
use holm_process_tests::generate::{Generator, Request};
use holm_process_tests::{Answer, Gateway, Grpc, Program, Server, Setup, difference};

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(default)
}

/// The two ways in.
#[derive(Clone, Copy)]
enum Door {
    Gateway,
    Grpc,
}

/// A client at one of them.
enum Client {
    Gateway(Gateway),
    Grpc(Grpc),
}

impl Client {
    fn open(door: Door, server: &Server) -> Result<Self> {
        Ok(match door {
            Door::Gateway => Self::Gateway(Gateway::new(server.address())),
            Door::Grpc => Self::Grpc(Grpc::open(server.address())?),
        })
    }

    fn post(&mut self, request: &Request) -> Result<Answer> {
        match self {
            Self::Gateway(client) => client.post(request.path, &request.body),
            Self::Grpc(client) => client.post(request.path, &request.body),
        }
    }
}

/// A run of requests against two fresh servers; what they disagree on ends it.
fn compare(
    door: Door,
    right: Program,
    seed: u64,
    requests: u64,
    mutate: fn(&mut Answer, u64),
) -> Result<()> {
    let is_peer = right == Program::Etcd;
    let left = Server::start(Setup::new(Program::Etcd).in_memory())?;
    let right = Server::start(Setup::new(right).in_memory())?;
    let (mut left, mut right) = (Client::open(door, &left)?, Client::open(door, &right)?);
    let mut generator = Generator::new(seed);
    for count in 0..requests {
        let request = generator.request();
        let expected = newer(door, left.post(&request)?);
        let mut answer = right.post(&request)?;
        if is_peer {
            answer = newer(door, answer);
        }
        mutate(&mut answer, count);
        let found = difference::between(&expected, &answer);
        ensure!(
            found.is_empty(),
            "{}",
            report(seed, count, &request, &found)
        );
        generator.learn(&expected);
    }
    Ok(())
}

/// What etcd 3.6 answers where this machine's etcd may be a 3.4 and is known to differ.
fn newer(door: Door, mut answer: Answer) -> Answer {
    match door {
        // A failed precondition (code 9) is 400 at the gateway since 3.5; 3.4 said 412.
        Door::Gateway if answer.body["code"] == 9 => answer.status = 400,
        Door::Gateway | Door::Grpc => {}
    }
    answer
}

fn report(seed: u64, count: u64, request: &Request, found: &[String]) -> String {
    format!(
        "seed {seed}, request {count}: {} {}\n  {}\nreplay: HOLM_SEED={seed} cargo test -p holm-process-tests --test differential",
        request.path,
        request.body,
        found.join("\n  ")
    )
}

fn nothing(_answer: &mut Answer, _count: u64) {}

#[test]
fn etcd_agrees_with_etcd() {
    compare(Door::Gateway, Program::Etcd, 1, 300, nothing).unwrap();
    compare(Door::Grpc, Program::Etcd, 1, 300, nothing).unwrap();
}

#[test]
fn a_seeded_difference_is_found() {
    let spoil = |answer: &mut Answer, count: u64| {
        if count == 50 {
            answer.body["header"]["revision"] = "999999".into();
        }
    };
    let error = compare(Door::Gateway, Program::Etcd, 2, 60, spoil);
    let error = error.unwrap_err().to_string();
    assert!(
        error.contains("request 50") && error.contains(".header.revision"),
        "{error}"
    );
}

fn seeds() -> std::ops::Range<u64> {
    let first = setting("HOLM_SEED", 1);
    first..first + setting("HOLM_SEEDS", 5)
}

#[test]
fn holm_answers_what_etcd_answers() {
    for seed in seeds() {
        compare(
            Door::Gateway,
            Program::Holm,
            seed,
            setting("HOLM_REQUESTS", 600),
            nothing,
        )
        .unwrap();
    }
}

#[test]
fn holm_answers_over_grpc_what_etcd_answers() {
    for seed in seeds() {
        compare(
            Door::Grpc,
            Program::Holm,
            seed,
            setting("HOLM_REQUESTS", 600),
            nothing,
        )
        .unwrap();
    }
}
