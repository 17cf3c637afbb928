//! Sites that join by a token: three commands, no shared file; a second use, a wrong cluster, a changed certificate.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use holm_process_tests::ports::Ports;
use holm_process_tests::server::locate;
use holm_process_tests::sites::{ended, signal_process, until};
use holm_process_tests::{Gateway, Program};
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

/// One machine: a folder, a port for sites, a process.
struct Machine {
    name: &'static str,
    folder: TempDir,
    peer: SocketAddr,
    _ports: Ports,
    process: Option<Child>,
    /// What it was started with the last time.
    words: Vec<String>,
}

impl Machine {
    fn new(name: &'static str) -> Result<Self> {
        let ports = Ports::hold(&[0])?;
        Ok(Self {
            name,
            folder: TempDir::with_prefix("holm-join-")?,
            peer: ports.address(0),
            _ports: ports,
            process: None,
            words: Vec::new(),
        })
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn said(&self) -> String {
        fs::read_to_string(self.folder.path().join("said")).unwrap_or_default()
    }

    fn words(&self, words: &[&str]) -> Vec<String> {
        let mut all = vec![
            "up".to_owned(),
            format!("--data-dir={}", self.data().display()),
        ];
        all.extend(words.iter().map(|&word| word.to_owned()));
        all
    }

    /// How a site is started that founds or joins.
    fn first(&self, words: &[&str]) -> Vec<String> {
        let mut all = self.words(words);
        all.extend([
            format!("--name={}", self.name),
            format!("--peer={}", self.peer),
            "--listen=127.0.0.1:0".to_owned(),
            "--console=none".to_owned(),
        ]);
        all
    }

    fn start(&mut self, words: &[String]) -> Result<()> {
        let said = fs::File::create(self.folder.path().join("said"))?;
        let process = Command::new(locate(Program::Holm)?)
            .args(words)
            .stdin(Stdio::null())
            .stdout(said.try_clone()?)
            .stderr(said)
            .spawn()?;
        self.process = Some(process);
        self.words = words.to_vec();
        until("the site serves", || {
            let process = self.process.as_mut().context("just started")?;
            let ended = process.try_wait()?;
            let said = fs::read_to_string(self.folder.path().join("said"))?;
            ensure!(ended.is_none(), "it ended: {said}");
            Ok(said.contains("etcd API"))
        })
    }

    fn again(&mut self) -> Result<()> {
        self.start(&self.words.clone())
    }

    fn stop(&mut self) -> Result<()> {
        let process = self.process.take().context("it runs")?;
        signal_process(process.id().into(), Signal::TERM)?;
        let status = ended(process)?;
        ensure!(status.success(), "{status}: {}", self.said());
        Ok(())
    }

    fn kill(&mut self) -> Result<()> {
        if let Some(mut process) = self.process.take() {
            process.kill()?;
            process.wait()?;
        }
        Ok(())
    }

    fn endpoint(&self) -> Result<SocketAddr> {
        let said = self.said();
        let place = said.split("etcd API ").nth(1).context("it serves")?;
        let place = place.split_whitespace().next().context("an address")?;
        Ok(place.parse()?)
    }

    fn client(&self) -> Result<Gateway> {
        Ok(Gateway::new(self.endpoint()?))
    }

    fn ask(&self, words: &[&str]) -> Result<Value> {
        let output = holm(
            &[
                words,
                &["--json", "--endpoints", &self.endpoint()?.to_string()],
            ]
            .concat(),
        )?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.success(), "{words:?}: {said}");
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    fn token(&self, name: &str, ttl: &str) -> Result<String> {
        let answer = self.ask(&["site", "add", name, "--ttl", ttl])?;
        let token = answer["token"].as_str().context("a token")?;
        Ok(token.to_owned())
    }

    /// What a start says that is refused.
    fn refusal(&self, words: &[String]) -> Result<String> {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let output = holm(&words)?;
        ensure!(!output.status.success(), "{words:?} was not refused");
        Ok(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // A process that has ended already is what is wanted.
        self.kill().ok();
    }
}

fn holm(words: &[&str]) -> Result<Output> {
    let mut command = Command::new(locate(Program::Holm)?);
    command.args(words).stdin(Stdio::null());
    command.output().context("run holm")
}

/// Three machines that joined, their certificates good for so long.
fn three(ttl: &str) -> Result<[Machine; 3]> {
    let [mut a, mut b, mut c] = [Machine::new("a")?, Machine::new("b")?, Machine::new("c")?];
    let ttl = format!("--peer-cert-ttl={ttl}");
    a.start(&a.first(&["--cluster=shop", &ttl]))?;
    for site in [&mut b, &mut c] {
        let join = format!("--join={}", a.token(site.name, "10m")?);
        site.start(&site.first(&[&join, &ttl]))?;
    }
    until("all three have a vote and can sign", || {
        let mut ready = 0;
        for site in [&a, &b, &c] {
            let status = site.ask(&["status"])?;
            let is_ready = status["voters"] == 3 && status["is_authority"] == true;
            ready += usize::from(is_ready && status["leader"].is_string());
        }
        Ok(ready == 3)
    })?;
    Ok([a, b, c])
}

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
    let stop = Arc::new(AtomicBool::new(false));
    let done = Arc::new(AtomicU64::new(0));
    let mut writers = Vec::new();
    for site in &sites {
        let (stop, done, mut client) = (Arc::clone(&stop), Arc::clone(&done), site.client()?);
        let key = format!("key of {}", site.name);
        writers.push(std::thread::spawn(move || -> Result<()> {
            while !stop.load(Ordering::Relaxed) {
                let number = done.fetch_add(1, Ordering::Relaxed).to_string();
                client.put(&key, &number)?;
                let found = client.value(&key)?;
                ensure!(found.as_deref() == Some(number.as_str()), "{found:?}");
            }
            Ok(())
        }));
    }
    let begun = Instant::now();
    until("each certificate was renewed twice", || {
        let now: Vec<i64> = sites.iter().map(until_of).collect::<Result<_>>()?;
        // Renewed after four seconds of six, so eight later is two renewals.
        Ok(now
            .iter()
            .zip(&before)
            .all(|(now, before)| now - before >= 7))
    })?;
    stop.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.join().expect("no writer panics")?;
    }
    let done = done.load(Ordering::Relaxed);
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
