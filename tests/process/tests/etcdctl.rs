//! etcdctl, all of its commands, against Holm and against etcd: same words, same exit codes.
//!
//! Ids are masked before outputs are compared; where sizes or versions must differ only the
//! exit code is.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use holm_process_tests::{Program, Server, Setup, peer};

/// How much of a step is compared.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Compare {
    /// Output and exit code.
    All,
    /// The exit code: what is printed holds sizes, times or versions.
    Code,
}

/// One call: arguments, what goes in, what is compared.
struct Step {
    line: &'static str,
    input: &'static str,
    compare: Compare,
}

const fn step(line: &'static str) -> Step {
    Step {
        line,
        input: "",
        compare: Compare::All,
    }
}

const fn fed(line: &'static str, input: &'static str) -> Step {
    Step {
        line,
        input,
        compare: Compare::All,
    }
}

const fn coded(line: &'static str) -> Step {
    Step {
        line,
        input: "",
        compare: Compare::Code,
    }
}

const KEYS: &[Step] = &[
    step("put a 1"),
    step("put b 2"),
    step("put a 3 --prev-kv"),
    step("put nothing --ignore-value"),
    step("put a --ignore-value"),
    step("get a"),
    step("get a -w fields --serializable"),
    step("get missing"),
    step("get a c"),
    step("get --prefix= --from-key a --limit 1"),
    step("get --prefix a --keys-only"),
    step("get --from-key a --order DESCEND --sort-by MODIFY"),
    step("get --from-key a --order ASCEND --sort-by VERSION --print-value-only"),
    step("get a --rev 2"),
    step("get a --rev 99"),
    step("get a --hex"),
    step("del b --prev-kv"),
    step("del b"),
    step("del --prefix zzz"),
    fed(
        "txn",
        "value(\"a\") = \"3\"\n\nput c yes\nget a\n\nput c no\n\n",
    ),
    fed(
        "txn",
        "mod(\"a\") > \"1000\"\nversion(\"x\") = \"0\"\n\nput c yes\n\nget c\ndel c\n\n",
    ),
    step("get c"),
    step("compaction 3"),
    step("compaction 3"),
    step("compaction 99"),
    step("get a --rev 1"),
];

const LEASES: &[Step] = &[
    coded("lease grant 1000"),
    step("lease revoke 123"),
    step("lease timetolive 123"),
    step("lease keep-alive --once 123"),
    step("put attached 1 --lease 123"),
    coded("lease list"),
    step("lock mutex true"),
    step("lock mutex -- sh -c 'exit 3'"),
];

const NODE: &[Step] = &[
    coded("member list"),
    coded("member list -w table"),
    step("member remove 1234"),
    coded("endpoint health"),
    coded("endpoint status -w json"),
    coded("endpoint hashkv"),
    step("alarm list"),
    step("alarm disarm"),
    coded("defrag"),
    coded("version"),
];

const USERS: &[Step] = &[
    step("user list"),
    step("user add root:pw"),
    step("user add root:pw"),
    step("role add root"),
    step("user grant-role root root"),
    step("user add ada:secret"),
    step("role add reader"),
    step("role add reader"),
    step("role grant-permission reader read a"),
    step("role grant-permission reader readwrite m n"),
    step("role grant-permission --prefix reader write p"),
    step("role grant-permission none read a"),
    step("role get reader"),
    step("role get none"),
    step("role revoke-permission reader m n"),
    step("role revoke-permission reader zzz"),
    step("user grant-role ada reader"),
    step("user grant-role nobody reader"),
    step("user get ada"),
    step("user get ada --detail"),
    step("user get nobody"),
    step("auth enable"),
    step("get a"),
    step("get a --user ada:secret"),
    step("get a --user ada:wrong"),
    step("get a --user nobody:x"),
    step("put a 9 --user ada:secret"),
    step("put p1 9 --user ada:secret"),
    step("get x --user ada:secret"),
    step("user list --user ada:secret"),
    step("user list --user root:pw"),
    step("role list --user root:pw"),
    fed(
        "user passwd ada --interactive=false --user root:pw",
        "new\n",
    ),
    step("get a --user ada:secret"),
    step("get a --user ada:new"),
    step("user revoke-role ada reader --user root:pw"),
    step("get a --user ada:new"),
    step("user delete root --user root:pw"),
    step("role delete reader --user root:pw"),
    step("user delete ada --user root:pw"),
    step("auth disable --user root:pw"),
    step("auth disable"),
    step("get a"),
];

/// One etcd's client, as a program.
fn etcdctl_of(etcd: Program) -> Result<String> {
    Ok(peer::tool(etcd, "etcdctl")?.display().to_string())
}

/// Runs a step; output and errors with ids masked, and the exit code.
fn run(etcdctl: &str, server: &Server, step: &Step) -> Result<(String, Option<i32>)> {
    let mut child = Command::new("timeout")
        .env("ETCDCTL_API", "3")
        .args(["20", etcdctl])
        // With a scheme: etcdctl 3.4 sends it along in the authority of some calls.
        .args(["--endpoints", &server.url(), "--command-timeout", "10s"])
        .args(words(step.line))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("start etcdctl (Debian: etcd-client)")?;
    let mut input = child.stdin.take().context("its input is a pipe")?;
    input.write_all(step.input.as_bytes())?;
    drop(input);
    let output = child.wait_with_output()?;
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    for line in String::from_utf8_lossy(&output.stderr).lines() {
        // The client logs retries as JSON with times; its own words follow them.
        if !line.starts_with('{') {
            text.push_str(line);
            text.push('\n');
        }
    }
    Ok((masked(&text), output.status.code()))
}

/// Splits at blanks, but not within single quotes.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (index, part) in line.split('\'').enumerate() {
        if index % 2 == 1 {
            words.push(part.to_owned());
        } else {
            words.extend(part.split_whitespace().map(str::to_owned));
        }
    }
    words
}

/// Replaces long numbers, decimal or hexadecimal: ids of clusters, members and leases.
fn masked(text: &str) -> String {
    let mut masked = String::new();
    let mut word = String::new();
    for letter in text.chars().chain(['\n']) {
        if letter.is_ascii_alphanumeric() {
            word.push(letter);
            continue;
        }
        let id = word.len() >= 13 && word.chars().all(|letter| letter.is_ascii_hexdigit());
        masked.push_str(if id { "ID" } else { &word });
        word.clear();
        masked.push(letter);
    }
    masked
}

/// `-w fields` names cluster, member and term, which differ.
fn without_header(text: &str) -> String {
    let kept = text.lines().filter(|line| {
        !["\"ClusterID\"", "\"MemberID\"", "\"RaftTerm\""]
            .iter()
            .any(|name| line.starts_with(name))
    });
    kept.map(|line| format!("{line}\n")).collect()
}

/// Every step said to an etcd and to another server, by that etcd's own etcdctl.
fn compare(left: Program, right: Program, steps: &[Step]) -> Result<()> {
    let etcdctl = etcdctl_of(left)?;
    let version = peer::version(left)?;
    let left = Server::start(Setup::new(left).in_memory())?;
    let right = Server::start(Setup::new(right).in_memory())?;
    let mut differing = Vec::new();
    for step in steps {
        let (expected, expected_code) = run(&etcdctl, &left, step)?;
        let (answer, code) = run(&etcdctl, &right, step)?;
        let same_text =
            step.compare == Compare::Code || without_header(&expected) == without_header(&answer);
        if !same_text || expected_code != code {
            let line = step.line;
            differing.push(format!(
                "etcdctl {line}\n  {expected_code:?} {expected:?}\n  {code:?} {answer:?}"
            ));
        }
    }
    ensure!(
        differing.is_empty(),
        "{version:?}: {} of {} differ:\n{}",
        differing.len(),
        steps.len(),
        differing.join("\n")
    );
    Ok(())
}

/// A snapshot is saved, and etcdctl reads it back.
fn snapshot(etcd: Program, program: Program) -> Result<()> {
    let etcdctl = etcdctl_of(etcd)?;
    let server = Server::start(Setup::new(program).in_memory())?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("snapshot.db");
    for line in [
        "put a 1".to_owned(),
        format!("snapshot save {}", file.display()),
        format!("snapshot status {}", file.display()),
    ] {
        let status = succeeds(&etcdctl, &server, &line)?;
        ensure!(status, "etcdctl {line} failed");
    }
    ensure!(
        Path::new(&file).metadata()?.len() > 0,
        "the snapshot is empty"
    );
    Ok(())
}

fn succeeds(etcdctl: &str, server: &Server, line: &str) -> Result<bool> {
    let status = Command::new(etcdctl)
        .env("ETCDCTL_API", "3")
        .args(["--endpoints", &server.url()])
        .args(line.split(' '))
        .stdout(Stdio::null())
        .status()?;
    Ok(status.success())
}

/// Each etcd with its etcdctl, beside Holm.
fn with_holm(steps: &[Step]) {
    for etcd in peer::all() {
        compare(etcd, Program::Holm, steps).expect("both answer alike");
    }
}

#[test]
fn etcdctl_says_the_same_of_two_etcds() {
    for etcd in peer::all() {
        for steps in [KEYS, LEASES, NODE, USERS] {
            compare(etcd, etcd, steps).unwrap();
        }
        snapshot(etcd, etcd).unwrap();
    }
}

#[test]
fn etcdctl_reads_and_writes_keys_of_holm() {
    with_holm(KEYS);
}

#[test]
fn etcdctl_handles_leases_and_locks_of_holm() {
    with_holm(LEASES);
}

#[test]
fn etcdctl_asks_holm_about_itself() {
    with_holm(NODE);
}

#[test]
fn etcdctl_manages_users_and_roles_of_holm() {
    with_holm(USERS);
}

#[test]
fn etcdctl_saves_a_snapshot_of_holm() {
    for etcd in peer::all() {
        snapshot(etcd, Program::Holm).unwrap();
    }
}
