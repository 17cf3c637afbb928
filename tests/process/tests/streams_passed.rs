//! Messages of a broker that can never be rows are told of, with the reason: by a broker of ours that says what it is
//! told to, for a real one is not everywhere.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Output};
use std::thread;

use anyhow::{Context, Result, ensure};
use holm_process_tests::server::locate;
use holm_process_tests::sites::eventually;
use holm_process_tests::{Program, Server, Setup};
use serde_json::Value;
use tempfile::TempDir;

fn holm(words: &[&str]) -> Result<Output> {
    Ok(Command::new(locate(Program::Holm)?).args(words).output()?)
}

/// A packet of MQTT 3.1.1.
fn packet(kind: u8, body: &[u8]) -> Result<Vec<u8>> {
    let mut bytes = vec![kind];
    let mut rest = body.len();
    while rest > 127 {
        bytes.push(u8::try_from(rest & 127)? | 128);
        rest >>= 7;
    }
    bytes.push(u8::try_from(rest)?);
    bytes.extend_from_slice(body);
    Ok(bytes)
}

/// A message at least once, with an id.
fn message(id: u8, payload: &[u8]) -> Result<Vec<u8>> {
    packet(0x32, &[b"\0\x07plant/7\0", &[id][..], payload].concat())
}

/// Serves one connection: welcomes whoever connects, sends what there is, and waits until so many are acknowledged.
fn broker(mut stream: TcpStream, messages: &[u8], count: usize) -> Result<()> {
    let mut head = [0; 2];
    for answer in [&[0x20, 2, 0, 0][..], &[0x90, 3, 0, 1, 1]] {
        stream.read_exact(&mut head)?;
        ensure!(head[1] < 128, "hello and subscription are short");
        stream.read_exact(&mut vec![0; usize::from(head[1])])?;
        stream.write_all(answer)?;
    }
    stream.write_all(messages)?;
    stream.read_exact(&mut vec![0; 4 * count])?;
    // It goes on for as long as the site does.
    stream.read_to_end(&mut Vec::new()).ok();
    Ok(())
}

#[test]
fn a_message_that_can_never_be_a_row_is_told_of() -> Result<()> {
    let folder = TempDir::with_prefix("holm-passed-")?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let url = format!("mqtt://{}", listener.local_addr()?);
    let long = message(1, &vec![b'x'; 1 << 20])?;
    let row = message(2, b"{\"n\":1}")?;
    let brokers = thread::spawn(move || {
        let (stream, _) = listener.accept()?;
        broker(stream, &[long, row].concat(), 2)
    });
    let server = Server::start(Setup::new(Program::Holm).with("--streams-listen=127.0.0.1:0"))?;
    let at = server.streams()?.to_string();
    let into = folder.path().join("out");
    let sql = format!(
        "CREATE TABLE task (n INT) WITH ('connector'='mqtt', 'url'='{url}', 'topic'='plant/+'); \
         CREATE TABLE o (n INT) WITH ('connector'='file', 'path'='{}'); INSERT INTO o SELECT n FROM task",
        into.display()
    );
    let made = holm(&["stream", "create", "s", "--at", &at, "--sql", &sql])?;
    ensure!(made.status.success(), "{made:?}");
    let why = "1048576 bytes on plant/7; 1048576 bytes is the limit";
    eventually("the row is there, and the other is told of", || {
        let found = std::fs::read_to_string(&into).unwrap_or_default();
        ensure!(found == "{\"n\":1}\n", "{found}");
        let shown = holm(&["stream", "show", "s", "--at", &at])?;
        let shown = String::from_utf8(shown.stdout)?;
        let line = format!("passed over  1 of task since it was started; the last: {why}\n");
        ensure!(shown.contains(&line), "{shown}");
        let listed = holm(&["stream", "list", "--json", "--at", &at])?;
        let listed: Value = serde_json::from_slice(&listed.stdout)?;
        let passed = &listed["streams"][0]["passed_over"][0];
        ensure!(
            passed["table"] == "task" && passed["messages"] == 1 && passed["why"] == why,
            "{listed}"
        );
        let seen = holm(&["stream", "top", "--once", "--json", "--at", &at])?;
        let seen = String::from_utf8(seen.stdout)?;
        ensure!(seen.contains("\"passed_over\":1"), "{seen}");
        Ok(())
    })?;
    drop(server);
    brokers.join().ok().context("the broker does not panic")?
}
