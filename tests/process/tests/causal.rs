//! A client that carries what it has seen from site to site of a local-first keyspace: it reads its own writes, or is
//! told what is missing.

use std::process::Output;

use anyhow::{Result, ensure};
use holm_process_tests::sites::{Sites, until};

fn text(output: &Output) -> String {
    let said = [&output.stdout[..], &output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    said.split_whitespace().collect::<Vec<_>>().join(" ")
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
    ensure!(
        at("b", &["put", "lamp", "on"])?.status.success(),
        "b serves"
    );
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
