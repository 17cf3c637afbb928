//! A client that carries what it has seen from site to site of a local-first keyspace: it reads its own writes, or is
//! told what is missing.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Output;

use anyhow::{Context, Result, ensure};
use holm_process_tests::sites::{Sites, until};
use serde_json::Value;

fn text(output: &Output) -> String {
    let said = [&output.stdout[..], &output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    said.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// An answer of the JSON gateway, with its head.
fn ask(view: &Value, site: &str, (path, head, body): (&str, &str, &str)) -> Result<String> {
    let mut sites = view["sites"].as_array().into_iter().flatten();
    let found = sites.find(|it| it["name"] == site).context("a site")?;
    let url = found["addresses"][0].as_str().context("an address")?;
    let address = url.trim_start_matches("http://");
    let mut stream = TcpStream::connect(address)?;
    let length = body.len();
    write!(
        stream,
        "POST /v3/{path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{head}\r\nContent-Length: {length}\r\n\r\n{body}"
    )?;
    let mut said = String::new();
    stream.read_to_string(&mut said)?;
    Ok(said)
}

/// The gateway gives and takes the same: what was written at one site is waited for at another.
fn the_gateway_carries_it_too(view: &Value) -> Result<()> {
    let put = r#"{"key":"bGlk","value":"b24="}"#;
    let wrote = ask(
        view,
        "a",
        ("kv/put", "Grpc-Metadata-Holm-Want: context", put),
    )?;
    let mut lines = wrote.lines();
    let token = lines.find_map(|line| {
        let (name, token) = line.split_once(':')?;
        let is_it = name.eq_ignore_ascii_case("grpc-metadata-holm-context-bin");
        is_it.then(|| token.trim().to_owned())
    });
    let token = token.with_context(|| format!("a token in {wrote}"))?;
    let head = format!("Grpc-Metadata-Holm-Context-Bin: {token}");
    let (get, watch) = (r#"{"key":"bGlk"}"#, r#"{"create_request":{"key":"bGlk"}}"#);
    for (path, body) in [("kv/range", get), ("watch", watch)] {
        let said = ask(view, "b", (path, &head, body))?;
        ensure!(
            said.contains("has not seen the presented context"),
            "{said}"
        );
    }
    let said = ask(view, "a", ("kv/range", &head, get))?;
    ensure!(said.contains("b24="), "it has it: {said}");
    let bare = ask(
        view,
        "b",
        ("kv/range", "Grpc-Metadata-Holm-Want: nothing", get),
    )?;
    let is_given = bare.to_lowercase().contains("holm-context-bin");
    ensure!(!is_given, "nobody asked for it: {bare}");
    Ok(())
}

/// What was lost with a site for ever is said to be so.
fn what_was_lost_is_not_waited_for(
    sites: &Sites,
    at: &dyn Fn(&str, &[&str]) -> Result<Output>,
) -> Result<()> {
    for other in ["b", "c"] {
        let cut = sites.run(&["link", "cut", "a", other])?;
        ensure!(cut.status.success(), "cut");
    }
    let put = at("a", &["put", "lamp", "off"])?;
    ensure!(put.status.success(), "a serves");
    sites.ask(&["site", "kill", "a"])?;
    let remove = ["keyspace", "members", "fleet", "remove", "a", "--lost"];
    sites.ask_at("b", &remove)?;
    let said = text(&at("b", &["get", "lamp"])?);
    ensure!(said.contains("lost with it"), "{said}");
    Ok(())
}

#[test]
fn a_client_reads_its_own_writes_at_another_site_or_is_told_what_is_missing() -> Result<()> {
    let words = ["--election-timeout=500", "--heartbeat-interval=50"];
    let mut sites = Sites::start(3, &words)?;
    sites.make_islands("fleet", "lww")?;
    let seen = sites.data().join("seen");
    let seen = ["--keyspace", "fleet", "--context", &seen.to_string_lossy()].map(str::to_owned);
    let at = |site: &str, words: &[&str]| {
        let seen: Vec<&str> = seen.iter().map(String::as_str).collect();
        sites.run_at(site, &[words, &seen].concat())
    };
    // What is there at both sites is there at once.
    ensure!(
        at("a", &["put", "door", "shut"])?.status.success(),
        "a serves"
    );
    let read = at("b", &["get", "door", "--value"])?;
    ensure!(text(&read) == "shut", "{}", text(&read));
    let view = sites.ask_at("a", &["keyspace", "show", "fleet"])?;
    for (one, two) in [("a", "b"), ("a", "c"), ("b", "c")] {
        ensure!(
            sites.run(&["link", "cut", one, two])?.status.success(),
            "cut"
        );
    }
    ensure!(
        at("a", &["put", "door", "open"])?.status.success(),
        "a serves"
    );
    let missing = at("b", &["get", "door"])?;
    let said = text(&missing);
    ensure!(!missing.status.success(), "{said}");
    ensure!(
        said.contains("site b has not seen the presented context (1 behind on a)"),
        "{said}"
    );
    let missing = at("b", &["watch", "door", "--events", "1"])?;
    let said = text(&missing);
    ensure!(said.contains("1 behind on a"), "a watch, too: {said}");
    the_gateway_carries_it_too(&view)?;
    // Who carries nothing waits for nothing.
    let read = sites.run_at("b", &["get", "door", "--value", "--keyspace", "fleet"])?;
    ensure!(text(&read) == "shut", "{}", text(&read));
    ensure!(sites.run(&["link", "heal"])?.status.success(), "heal");
    until("b has it", || {
        let read = at("b", &["get", "door", "--value"])?;
        // Whatever it answers, never what was there before.
        ensure!(
            !read.status.success() || text(&read) == "open",
            "{}",
            text(&read)
        );
        Ok(read.status.success())
    })?;
    let before = sites.ask_at("c", &["keyspace", "status", "fleet"])?;
    let before = before["revision"].to_string();
    ensure!(
        at("b", &["put", "lamp", "on"])?.status.success(),
        "b serves"
    );
    // A watch that waits for what its client has seen hears all that it asks for.
    let told = at(
        "c",
        &["watch", "lamp", "--events", "1", "--revision", &before],
    )?;
    ensure!(text(&told).contains("lamp"), "{}", text(&told));
    let read = at("c", &["get", "lamp", "--value"])?;
    ensure!(text(&read) == "on", "{}", text(&read));
    // A context of another keyspace is none here.
    sites.make_islands("other", "lww")?;
    let other = ["get", "door", "--keyspace", "other", "--context", &seen[3]];
    let said = text(&sites.run_at("a", &other)?);
    ensure!(said.contains("of another keyspace"), "{said}");
    what_was_lost_is_not_waited_for(&sites, &at)?;
    sites.stop()?;
    Ok(())
}
