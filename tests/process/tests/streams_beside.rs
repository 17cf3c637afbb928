//! METADATA columns through the real binary: keys of a keyspace and times of requests, through a kill.

use std::fs;
use std::process::{Command, Output};

use anyhow::{Result, ensure};
use holm_process_tests::http::Connection;
use holm_process_tests::server::locate;
use holm_process_tests::sites::eventually;
use holm_process_tests::{Program, Server, Setup};
use tempfile::TempDir;

fn holm(words: &[&str]) -> Result<Output> {
    Ok(Command::new(locate(Program::Holm)?).args(words).output()?)
}

fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn put(server: &Server, key: &str, value: &str) -> Result<()> {
    let made = holm(&[
        "put",
        key,
        value,
        "--endpoints",
        &server.address().to_string(),
    ])?;
    ensure!(made.status.success(), "{}", told(&made));
    Ok(())
}

fn post(server: &Server, body: &str) -> Result<()> {
    eventually("the stream takes rows", || {
        let mut client = Connection::open(server.streams()?)?;
        let reply = client.ask("POST", "/streams/seen/events", &[], body.as_bytes())?;
        let at = server.streams()?.to_string();
        let shown = told(&holm(&["stream", "show", "seen", "--at", &at])?);
        ensure!(reply.status == 200, "{}\n{shown}", reply.text());
        Ok(())
    })
}

#[test]
fn keys_and_times_stand_beside_rows_through_a_kill() -> Result<()> {
    let folder = TempDir::with_prefix("holm-beside-")?;
    let path = |name: &str| folder.path().join(name).display().to_string();
    let mut server = Server::start(Setup::new(Program::Holm).with("--streams-listen=127.0.0.1:0"))?;
    put(&server, "shop/7", "{\"town\":\"Ulm\"}")?;
    let sql = format!(
        "CREATE TABLE put (town STRING, id STRING METADATA FROM 'key') WITH ('connector'='keyspace', 'prefix'='shop/'); \
         CREATE TABLE shop (town STRING, id STRING METADATA FROM 'key', PRIMARY KEY (id) NOT ENFORCED) \
         WITH ('connector'='keyspace', 'prefix'='shop/'); \
         CREATE TABLE ev (ts TIMESTAMP(3), at STRING, came TIMESTAMP_LTZ(3) METADATA FROM 'timestamp', WATERMARK FOR ts AS ts) \
         WITH ('connector'='http'); \
         CREATE TABLE puts (id STRING, town STRING) WITH ('connector'='file', 'path'='{}'); \
         CREATE TABLE seen (town STRING, came TIMESTAMP_LTZ(3)) WITH ('connector'='file', 'path'='{}'); \
         INSERT INTO puts SELECT id, town FROM put; \
         INSERT INTO seen SELECT s.town, e.came FROM ev AS e JOIN shop FOR SYSTEM_TIME AS OF e.ts AS s ON e.at = s.id",
        path("puts"),
        path("seen")
    );
    let at = server.streams()?.to_string();
    let made = holm(&["stream", "create", "seen", "--at", &at, "--sql", &sql])?;
    ensure!(made.status.success(), "{}", told(&made));
    let row =
        "{\"ts\":\"2026-01-05T10:00:00\",\"at\":\"shop/7\",\"came\":\"1999-01-01T00:00:00Z\"}\n";
    post(&server, row)?;
    let mut first = String::new();
    eventually("the row is there", || {
        first = fs::read_to_string(path("seen"))?;
        ensure!(
            first.starts_with("{\"town\":\"Ulm\",\"came\":\"2"),
            "{first}"
        );
        ensure!(first.ends_with("Z\"}\n"), "{first}");
        Ok(())
    })?;
    server.kill()?;
    server.again()?;
    post(&server, row)?;
    put(&server, "shop/8", "{\"town\":\"Bonn\"}")?;
    eventually("both rows are there", || {
        let found = fs::read_to_string(path("seen"))?;
        ensure!(found.starts_with(&first), "{found}, not {first}");
        ensure!(found.lines().count() == 2, "{found}");
        let puts = fs::read_to_string(path("puts"))?;
        let wanted =
            "{\"id\":\"shop/7\",\"town\":\"Ulm\"}\n{\"id\":\"shop/8\",\"town\":\"Bonn\"}\n";
        ensure!(puts == wanted, "{puts}");
        Ok(())
    })
}
