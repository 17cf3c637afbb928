//! `holm status`, asked over the wire of a node elsewhere, as text and as JSON; and of an etcd.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use holm_process_tests::base64::encode;
use holm_process_tests::foreign::Certificates;
use holm_process_tests::{Gateway, Program, Server, Setup, server};
use serde_json::{Value, json};

fn holm(words: &[&str]) -> Result<String> {
    let output = Command::new(server::locate(Program::Holm)?)
        .args(words)
        .output()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "{words:?}: {said}");
    Ok(String::from_utf8(output.stdout)?)
}

#[test]
fn a_node_tells_what_the_design_draws() -> Result<()> {
    let server = Server::start(Setup::new(Program::Holm))?;
    let mut gateway = Gateway::new(server.address());
    for value in ["1", "2", "3"] {
        gateway.put("a", value)?;
    }
    gateway.post("lease/grant", &json!({"TTL": "60"}))?;
    gateway.post("kv/compaction", &json!({"revision": "3", "physical": true}))?;
    let watch = json!({"create_request": {"key": encode(b"a")}});
    let mut stream = gateway.follow("watch", &watch)?;
    stream.next_result()?.context("created")?;
    let address = server.address().to_string();
    let text = holm(&["status", "--endpoint", &address])?;
    for part in [
        "default  linearizable  revision 4  compacted 3  keys 1  retained ",
        "  on disk ",
        "quota 2.0 GiB (0 %)  cleaner idle  checkpoint none yet  watchers 1  leases 1  alarms none",
    ] {
        ensure!(text.contains(part), "{part:?} is not in {text}");
    }
    let json: Value = serde_json::from_str(&holm(&["status", "--endpoint", &address, "--json"])?)?;
    ensure!(
        json["revision"] == 4 && json["compacted"] == 3 && json["watchers"] == 1,
        "{json}"
    );
    ensure!(
        json["cleaner"] == "idle" && json["alarms"] == json!([]),
        "{json}"
    );
    ensure!(json["cleaner_bytes_per_second"] == 8 << 20, "{json}");
    ensure!(
        json["old_versions"] == 1,
        "the version at the line stays: {json}"
    );
    Ok(())
}

#[test]
fn it_works_over_tls_where_nothing_else_can_be_asked() -> Result<()> {
    let certificates = Certificates::make("localhost")?;
    let mut setup = Setup::new(Program::Holm).in_memory();
    setup.tls = Some((certificates.certificate.clone(), certificates.key.clone()));
    let server = Server::start(setup)?;
    let (url, authority) = (
        format!("https://{}", server.address()),
        &certificates.authority,
    );
    let authority = authority.display().to_string();
    let text = holm(&["status", "--endpoint", &url, "--cacert", &authority])?;
    ensure!(
        text.contains("cleaner idle") && text.contains("compacted 0"),
        "{text}"
    );
    Ok(())
}

#[test]
fn an_etcd_is_shown_as_far_as_it_tells() -> Result<()> {
    if server::locate(Program::Etcd).is_err() {
        ensure!(
            std::env::var_os("HOLM_REQUIRE_PEERS").is_none(),
            "etcd is not installed"
        );
        println!("not tested: etcd is not installed");
        return Ok(());
    }
    let server = Server::start(Setup::new(Program::Etcd))?;
    let text = holm(&["status", "--endpoint", &server.address().to_string()])?;
    ensure!(
        text.contains("leader, term") && text.contains("revision 1"),
        "{text}"
    );
    Ok(())
}
