//! Generated requests to two servers, their answers compared field by field.
//!
//! `HOLM_SEED` fixes the first seed and `HOLM_REQUESTS` the number per seed, so that a failure
//! replays and a long run needs no other code.

use anyhow::{Result, ensure};
use holm_process_tests::generate::{Generator, Request};
use holm_process_tests::{Answer, Gateway, Program, Server, Setup, difference};

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(default)
}

/// A run of requests against two fresh servers; what they disagree on ends it.
fn compare(
    left: Program,
    right: Program,
    seed: u64,
    requests: u64,
    mutate: fn(&mut Answer, u64),
) -> Result<()> {
    let left = Server::start(Setup::new(left).in_memory())?;
    let right = Server::start(Setup::new(right).in_memory())?;
    let (mut left, mut right) = (Gateway::new(left.address()), Gateway::new(right.address()));
    let mut generator = Generator::new(seed);
    for count in 0..requests {
        let request = generator.request();
        let expected = left.post(request.path, &request.body)?;
        let mut answer = right.post(request.path, &request.body)?;
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

fn report(seed: u64, count: u64, request: &Request, found: &[String]) -> String {
    format!(
        "seed {seed}, request {count}: {} {}\n  {}\nreplay: HOLM_SEED={seed} cargo test -p holm-process-tests --test differential",
        request.path,
        request.body,
        found.join("\n  ")
    )
}

#[test]
fn etcd_agrees_with_etcd() {
    compare(Program::Etcd, Program::Etcd, 1, 300, |_, _| {}).unwrap();
}

#[test]
fn a_seeded_difference_is_found() {
    let spoil = |answer: &mut Answer, count: u64| {
        if count == 50 {
            answer.body["header"]["revision"] = "999999".into();
        }
    };
    let error = compare(Program::Etcd, Program::Etcd, 2, 60, spoil)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("request 50") && error.contains(".header.revision"),
        "{error}"
    );
}

#[test]
fn holm_answers_what_etcd_answers() {
    let first = setting("HOLM_SEED", 1);
    for seed in first..first + setting("HOLM_SEEDS", 5) {
        compare(
            Program::Etcd,
            Program::Holm,
            seed,
            setting("HOLM_REQUESTS", 600),
            |_, _| {},
        )
        .unwrap();
    }
}
