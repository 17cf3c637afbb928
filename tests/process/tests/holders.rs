//! Locks and elections of etcdctl whose holder is killed: the next one gets them when the
//! holder's lease ends, and not before.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use holm_process_tests::{Gateway, Program, Server, Setup, peer};
use serde_json::json;

/// More than the least that etcd gives a lease, so that a holder on a busy machine renews in time.
const TTL: Duration = Duration::from_secs(4);
/// So long nobody else must get what is held.
const HELD: Duration = Duration::from_secs(1);
/// The longest that anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// An etcdctl that prints a line once it holds what it asked for. Killed when dropped.
struct Holder {
    child: Child,
    lines: Receiver<String>,
}

impl Holder {
    fn start(etcdctl: Program, server: &Server, words: &[&str]) -> Result<Self> {
        let mut child = Command::new(peer::tool(etcdctl, "etcdctl")?)
            .env("ETCDCTL_API", "3")
            .args(["--endpoints", &server.url()])
            .args(words)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("start etcdctl (Debian: etcd-client)")?;
        let output = child.stdout.take().context("its output is a pipe")?;
        let (tell, lines) = sync_channel(1024);
        thread::spawn(move || {
            let lines = BufReader::new(output).lines().map_while(Result::ok);
            // Who has dropped the holder reads no more.
            lines
                .take_while(|line| tell.send(line.clone()).is_ok())
                .for_each(drop);
        });
        Ok(Self { child, lines })
    }

    /// The key that it holds.
    fn key(&self) -> Result<String> {
        self.lines
            .recv_timeout(PATIENCE)
            .context("it never held it")
    }

    fn waits(&self) -> bool {
        self.lines.recv_timeout(HELD).is_err()
    }

    /// SIGKILL: it can give nothing back.
    fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        Ok(self.child.wait().map(drop)?)
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        // It may be gone already.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// etcd beside Holm shows that the test asks for nothing special.
fn each(mut act: impl FnMut(Program, &Server) -> Result<()>) -> Result<()> {
    for etcd in peer::all() {
        for program in [etcd, Program::Holm] {
            let server = Server::start(Setup::new(program).in_memory())?;
            act(etcd, &server).with_context(|| format!("{program:?} with {etcd:?}'s etcdctl"))?;
        }
    }
    Ok(())
}

#[test]
fn a_lock_of_a_killed_holder_goes_to_the_next_when_its_lease_ends() {
    each(|etcdctl, server| {
        let ttl = TTL.as_secs().to_string();
        let words = ["lock", "--ttl", &ttl, "mutex"];
        let mut first = Holder::start(etcdctl, server, &words)?;
        let held = first.key()?;
        let next = Holder::start(etcdctl, server, &words)?;
        ensure!(next.waits(), "two hold one lock");
        let killed = Instant::now();
        first.kill()?;
        let (key, waited) = (next.key()?, killed.elapsed());
        ensure!(key != held, "both hold {key}");
        // The last renewal was at most a third of the time to live ago.
        ensure!(waited > TTL / 2, "it was given away after {waited:?}");
        Ok(())
    })
    .unwrap();
}

/// An elected etcdctl asks for a lease of a minute; it is ended here to save that minute.
#[test]
fn an_election_of_a_killed_holder_goes_to_the_next_when_its_lease_ends() {
    each(|etcdctl, server| {
        let mut first = Holder::start(etcdctl, server, &["elect", "chair", "ada"])?;
        let held = first.key()?;
        let next = Holder::start(etcdctl, server, &["elect", "chair", "bob"])?;
        ensure!(next.waits(), "two are elected");
        first.kill()?;
        ensure!(next.waits(), "it was given away though the lease goes on");
        let id = held.rsplit('/').next().unwrap_or_default();
        let id = i64::from_str_radix(id, 16).with_context(|| format!("no lease in {held}"))?;
        let answer = Gateway::new(server.address()).post("lease/revoke", &json!({"ID": id}))?;
        ensure!(answer.is_ok(), "revoke {id}: {}", answer.body);
        ensure!(next.key()? != held, "both are elected");
        let value = next.lines.recv_timeout(PATIENCE)?;
        ensure!(value == "bob", "elected with {value}");
        Ok(())
    })
    .unwrap();
}
