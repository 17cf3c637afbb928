//! Sites that join by a token: three commands, no shared file; a second use, a wrong cluster, a changed certificate.

use std::fs;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use holm_process_tests::Program;
use holm_process_tests::machine::{Machine, three};
use holm_process_tests::server::locate;
use holm_process_tests::sites::until;
use holm_process_tests::writers::Writers;

#[test]
fn three_commands_make_three_sites_that_restart_without_flags() -> Result<()> {
    let [mut a, mut b, c] = three("1h")?;
    let revision = b.client()?.put("k", "v")?;
    ensure!(revision == 2, "{revision}");
    b.kill()?;
    b.start(&b.words(&[]))?;
    until("the site has what was written", || {
        Ok(b.client()?.value("k")? == Some("v".to_owned()))
    })?;
    let members = c.ask(&["member", "list"])?;
    let members = members["members"].as_array().context("members")?;
    ensure!(members.len() == 3, "{members:?}");
    ensure!(
        members.iter().all(|it| it["is_learner"] == false),
        "{members:?}"
    );
    let key = fs::metadata(a.data().join("site/authority-key.pem"))?;
    let mode = std::os::unix::fs::PermissionsExt::mode(&key.permissions());
    ensure!(mode & 0o777 == 0o600, "{mode:o}");
    // The founder knew nobody when it began, and leads: it hands that on to whoever there is now.
    let status = c.ask(&["status"])?;
    ensure!(status["leader"] == "a", "{status}");
    a.stop()?;
    ensure!(a.said().contains("leadership is handed on"), "{}", a.said());
    Ok(())
}

#[test]
fn a_node_alone_becomes_a_cluster_by_its_snapshot() -> Result<()> {
    let (mut alone, mut a, mut b) = (Machine::new("a")?, Machine::new("a")?, Machine::new("b")?);
    alone.start(&alone.first(&[]))?;
    let mut client = alone.client()?;
    for number in 0..300 {
        client.put(&format!("k{}", number % 7), &number.to_string())?;
    }
    let lease = alone.ask(&["lease", "grant", "600"])?;
    let id = lease["lease"].as_str().context("a lease")?.to_owned();
    alone.ask(&["put", "leased", "1", "--lease", &id])?;
    alone.ask(&["compact", "100"])?;
    let file = a.folder.path().join("backup.db");
    let file = file.to_str().context("a path")?;
    alone.ask(&["snapshot", "save", file])?;
    let revision = alone.ask(&["status"])?["revision"].clone();
    // Its own folder has another form, and the refusal says what to do.
    alone.stop()?;
    let refusal = alone.refusal(&alone.words(&["--cluster=shop"]))?;
    ensure!(refusal.contains("--from-snapshot FILE"), "{refusal}");
    let from = format!("--from-snapshot={file}");
    let lonely = a.refusal(&a.first(&[&from]))?;
    ensure!(lonely.contains("add --cluster NAME"), "{lonely}");
    let missing = a.refusal(&a.first(&["--cluster=shop", "--from-snapshot=/nowhere/x"]))?;
    ensure!(missing.contains("/nowhere/x"), "{missing}");
    ensure!(!a.data().exists(), "a refusal left a folder");

    a.start(&a.first(&["--cluster=shop", &from]))?;
    let join = format!("--join={}", a.token("b", "10m")?);
    b.start(&b.first(&[&join]))?;
    until(
        "both have a vote",
        || Ok(b.ask(&["status"])?["voters"] == 2),
    )?;
    a.kill()?;
    a.again()?;
    b.kill()?;
    b.again()?;
    for site in [&a, &b] {
        until("the site leads or follows", || {
            Ok(site.ask(&["status"])?["leader"].is_string())
        })?;
        ensure!(site.ask(&["status"])?["revision"] == revision);
        let mut client = site.client()?;
        for number in 293..300 {
            let found = client.value(&format!("k{}", number % 7))?;
            ensure!(found == Some(number.to_string()), "{number}: {found:?}");
        }
        let old = site.ask(&["get", "k1", "--rev", "150"])?;
        let old = &old["kvs"][0];
        ensure!(old["mod_revision"] == 150, "{old}");
        let kept = site.ask(&["lease", "timetolive", &id])?;
        ensure!(kept["granted_ttl"] == 600, "{kept}");
    }
    let next = b.client()?.put("next", "1")?;
    ensure!(revision == next - 1, "{revision} and then {next}");
    Ok(())
}

#[test]
fn a_token_is_refused_where_it_must_be_and_nothing_changes() -> Result<()> {
    let (mut a, mut b) = (Machine::new("a")?, Machine::new("b")?);
    let (mut other, stranger) = (Machine::new("x")?, Machine::new("b")?);
    a.start(&a.first(&["--cluster=shop"]))?;
    other.start(&other.first(&["--cluster=shop"]))?;
    let used = format!("--join={}", a.token("b", "10m")?);
    b.start(&b.first(&[&used]))?;
    let again = stranger.refusal(&stranger.first(&[&used]))?;
    ensure!(again.contains("was used already, by b at"), "{again}");
    let name = format!("--join={}", a.token("d", "10m")?);
    let name = stranger.refusal(&stranger.first(&[&name]))?;
    ensure!(name.contains("start it with --name d"), "{name}");
    let short = format!("--join={}", a.token("b", "1s")?);
    sleep(Duration::from_millis(2_100));
    let late = stranger.refusal(&stranger.first(&[&short]))?;
    ensure!(late.contains("expired"), "{late}");
    let twice = format!("--join={}", a.token("b", "10m")?);
    let twice = stranger.refusal(&stranger.first(&[&twice]))?;
    ensure!(twice.contains("the cluster has a site called b"), "{twice}");
    let foreign = format!("--join={}", other.token("b", "10m")?);
    b.kill()?;
    let foreign = b.refusal(&b.words(&[&foreign]))?;
    ensure!(
        foreign.contains("the token of --join is of another"),
        "{foreign}"
    );
    b.start(&b.words(&[&used]))?;
    until("two members as before", || {
        let members = a.ask(&["member", "list"])?;
        Ok(members["members"].as_array().map(Vec::len) == Some(2))
    })
}

#[test]
fn a_join_whose_member_is_killed_is_completed_by_the_same_command() -> Result<()> {
    let (mut a, mut b) = (Machine::new("a")?, Machine::new("b")?);
    a.start(&a.first(&["--cluster=shop"]))?;
    let join = format!("--join={}", a.token("b", "10m")?);
    a.kill()?;
    let words = b.first(&[&join]);
    let process = Command::new(locate(Program::Holm)?)
        .args(&words)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    b.process = Some(process);
    until("the key is made", || {
        Ok(b.data().join("site/key.pem").exists())
    })?;
    b.kill()?;
    a.start(&a.words(&[]))?;
    b.start(&words)?;
    until("two sites with a vote", || {
        Ok(a.ask(&["status"])?["voters"] == 2)
    })
}

#[test]
fn certificates_change_under_traffic_and_no_request_fails() -> Result<()> {
    let mut sites = three("6s")?;
    let until_of = |site: &Machine| -> Result<i64> {
        let until = site.ask(&["status"])?["certificate_until"].as_i64();
        until.context("a certificate")
    };
    let before: Vec<i64> = sites.iter().map(until_of).collect::<Result<_>>()?;
    let writers = Writers::at(&sites)?;
    let begun = Instant::now();
    until("each certificate was renewed twice", || {
        let now: Vec<i64> = sites.iter().map(until_of).collect::<Result<_>>()?;
        // Renewed after four seconds of six, so eight later is two renewals.
        Ok(now
            .iter()
            .zip(&before)
            .all(|(now, before)| now - before >= 7))
    })?;
    let done = writers.end()?;
    ensure!(
        done > 100,
        "{done} requests in {:?} show nothing",
        begun.elapsed()
    );
    for site in &sites {
        let said = site.said();
        let renewed = said
            .matches("the certificate for links was renewed")
            .count();
        ensure!(renewed >= 2, "{}: {said}", site.name);
        ensure!(!said.contains("ERROR"), "{}: {said}", site.name);
    }
    // Away for longer than its certificate, and the token in its words was used long ago: it signs for itself.
    let [_, b, _] = &mut sites;
    b.stop()?;
    sleep(Duration::from_secs(7));
    b.again()?;
    until("it is linked and has what others write", || {
        let mut client = b.client()?;
        Ok(client.put("back", "1").is_ok() && client.value("back")?.as_deref() == Some("1"))
    })
}
