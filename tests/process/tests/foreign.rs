//! Suites of clients that we did not write, run against Holm and, as a baseline, against etcd.
//!
//! What one site cannot pass is named here with its reason, and so is what etcd itself fails.
#![expect(
    clippy::print_stdout,
    reason = "how many tests passed is worth a line in CI's log"
)]

use anyhow::{Result, ensure};
use holm_process_tests::foreign::{self, Certificates, Report};
use holm_process_tests::{Gateway, Program, Server, Setup};
use serde_json::json;

/// Python tests that need three members, or that no server can pass.
const PYTHON_LEFT_OUT: &[&str] = &[
    // These stop two of three members by the names of their processes.
    "TestEtcd3::test_get_key_serializable",
    "TestEtcd3::test_get_prefix_serializable",
    // This counts three members.
    "TestEtcd3::test_member_list",
    // This patches a module under a name that is not importable, so it fails against etcd too.
    "TestClient::test_user_pwd_auth",
];

/// Rust tests that want `--auth-token-ttl=2`, a flag that etcd has since 3.5.
const RUST_SINCE_3_5: &[&str] = &[
    "test_auth_refresh_token",
    "test_auth_refresh_token_once_for_concurrent_calls",
];

fn whole(mut report: Report, least: u64, excused: &[&str]) -> Result<()> {
    report
        .failed
        .retain(|name| !excused.contains(&name.as_str()));
    let Report {
        passed,
        failed,
        tail,
    } = report;
    ensure!(failed.is_empty(), "failed: {failed:#?}\n{tail}");
    ensure!(
        passed >= least,
        "{passed} passed, at least {least} should\n{tail}"
    );
    println!("{passed} passed");
    Ok(())
}

fn python(program: Program) -> Result<()> {
    let mut setup = Setup::new(program).in_memory();
    setup.name = "pifpaf0".to_owned();
    let server = Server::start(setup)?;
    whole(foreign::python(&server, PYTHON_LEFT_OUT)?, 78, &[])
}

fn python_gateway(program: Program) -> Result<()> {
    let suite = match foreign::fetch_python_gateway() {
        Ok(suite) => suite,
        Err(error) => {
            println!("not tested: etcd3gw's suite: {error:#}");
            return Ok(());
        }
    };
    let server = Server::start(Setup::new(program).in_memory())?;
    whole(foreign::python_gateway(&suite, &server)?, 39, &[])
}

fn npm(program: Program) -> Result<()> {
    let certificates = Certificates::make("etcd0.localhost")?;
    let mut setup = Setup::new(program).in_memory();
    setup.tls = Some((certificates.certificate.clone(), certificates.key.clone()));
    let server = Server::start(setup)?;
    whole(foreign::npm(&server, &certificates)?, 143, &[])
}

/// The crate's tests want a user root to exist, and enable and disable auth themselves.
fn rust(program: Program) -> Result<()> {
    let (setup, excused) = match program {
        Program::Holm => (Setup::new(program).with("--auth-token-ttl=2"), &[][..]),
        Program::Etcd | Program::Newer => (Setup::new(program), RUST_SINCE_3_5),
    };
    let server = Server::start(setup.in_memory())?;
    let mut gateway = Gateway::new(server.address());
    let user = json!({"name": "root", "password": "rootpwd"});
    ensure!(gateway.post("auth/user/add", &user)?.is_ok(), "add root");
    // The role root is made by hand only where the server does not know it by itself.
    gateway.post("auth/role/add", &json!({"name": "root"}))?;
    ensure!(
        gateway
            .post("auth/user/grant", &json!({"user": "root", "role": "root"}))?
            .is_ok(),
        "grant root"
    );
    whole(foreign::rust(&server)?, 23, excused)
}

/// What etcd itself passes, to tell a failure of ours from one of the suite's. It takes as
/// long again, so it runs by hand: `HOLM_BASELINE=1 cargo test -p holm-process-tests --test foreign`.
#[test]
fn etcd_passes_what_holm_must_pass() {
    if std::env::var_os("HOLM_BASELINE").is_some() {
        python(Program::Etcd).unwrap();
        python_gateway(Program::Etcd).unwrap();
        npm(Program::Etcd).unwrap();
        rust(Program::Etcd).unwrap();
    }
}

#[test]
fn holm_passes_the_python_suite() {
    python(Program::Holm).unwrap();
}

#[test]
fn holm_passes_the_python_gateway_suite() {
    python_gateway(Program::Holm).unwrap();
}

#[test]
fn holm_passes_the_npm_suite() {
    npm(Program::Holm).unwrap();
}

#[test]
fn holm_passes_the_rust_suite() {
    rust(Program::Holm).unwrap();
}
