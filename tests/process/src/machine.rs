//! Sites on machines of their own, as far as they know: each a folder, a port and a process, joined by tokens.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::ports::Ports;
use crate::server::locate;
use crate::sites::{ended, signal_process, until};
use crate::{Gateway, Program};

/// One machine: a folder, a port for sites, a process.
#[derive(Debug)]
pub struct Machine {
    /// What it is called.
    pub name: &'static str,
    /// Where all that it keeps lies.
    pub folder: TempDir,
    /// Where the others reach it.
    pub peer: SocketAddr,
    _ports: Ports,
    /// The site's process, if one runs.
    pub process: Option<Child>,
    /// What it was started with the last time.
    words: Vec<String>,
}

impl Machine {
    /// One with a free port.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn new(name: &'static str) -> Result<Self> {
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

    /// The data directory.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// What the process has said so far.
    #[must_use]
    pub fn said(&self) -> String {
        fs::read_to_string(self.folder.path().join("said")).unwrap_or_default()
    }

    /// How a site is started that was a site before.
    #[must_use]
    pub fn words(&self, words: &[&str]) -> Vec<String> {
        let mut all = vec![
            "up".to_owned(),
            format!("--data-dir={}", self.data().display()),
        ];
        all.extend(words.iter().map(|&word| word.to_owned()));
        all
    }

    /// How a site is started that founds or joins.
    #[must_use]
    pub fn first(&self, words: &[&str]) -> Vec<String> {
        let mut all = self.words(words);
        all.extend([
            format!("--name={}", self.name),
            format!("--peer={}", self.peer),
            "--listen=127.0.0.1:0".to_owned(),
            "--console=none".to_owned(),
        ]);
        all
    }

    /// Starts the process and waits until it serves.
    ///
    /// # Errors
    ///
    /// That it ended, and what it said.
    pub fn start(&mut self, words: &[String]) -> Result<()> {
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

    /// Starts it as the last time.
    ///
    /// # Errors
    ///
    /// As [`Machine::start`].
    pub fn again(&mut self) -> Result<()> {
        self.start(&self.words.clone())
    }

    /// Asks it to end, and waits.
    ///
    /// # Errors
    ///
    /// If it ends in another way.
    pub fn stop(&mut self) -> Result<()> {
        let process = self.process.take().context("it runs")?;
        signal_process(process.id().into(), Signal::TERM)?;
        let status = ended(process)?;
        ensure!(status.success(), "{status}: {}", self.said());
        Ok(())
    }

    /// Kills it.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn kill(&mut self) -> Result<()> {
        if let Some(mut process) = self.process.take() {
            process.kill()?;
            process.wait()?;
        }
        Ok(())
    }

    /// Where clients reach it.
    ///
    /// # Errors
    ///
    /// If it has not said so.
    pub fn endpoint(&self) -> Result<SocketAddr> {
        let said = self.said();
        let place = said.split("etcd API ").nth(1).context("it serves")?;
        let place = place.split_whitespace().next().context("an address")?;
        Ok(place.parse()?)
    }

    /// A client of it.
    ///
    /// # Errors
    ///
    /// As [`Machine::endpoint`].
    pub fn client(&self) -> Result<Gateway> {
        Ok(Gateway::new(self.endpoint()?))
    }

    /// What a command says of it, as JSON.
    ///
    /// # Errors
    ///
    /// What the command says.
    pub fn ask(&self, words: &[&str]) -> Result<Value> {
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

    /// A token for another site.
    ///
    /// # Errors
    ///
    /// What the command says.
    pub fn token(&self, name: &str, ttl: &str) -> Result<String> {
        let answer = self.ask(&["site", "add", name, "--ttl", ttl])?;
        let token = answer["token"].as_str().context("a token")?;
        Ok(token.to_owned())
    }

    /// What a start says that is refused.
    ///
    /// # Errors
    ///
    /// If it is not refused.
    pub fn refusal(&self, words: &[String]) -> Result<String> {
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

/// Runs a command to its end.
///
/// # Errors
///
/// If it cannot be run.
pub fn holm(words: &[&str]) -> Result<Output> {
    let mut command = Command::new(locate(Program::Holm)?);
    command.args(words).stdin(Stdio::null());
    command.output().context("run holm")
}

/// Three machines that joined, their certificates good for so long.
///
/// # Errors
///
/// What one of them says.
pub fn three(ttl: &str) -> Result<[Machine; 3]> {
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
            // Who is a learner still may refuse to say.
            let is_ready = site.ask(&["status"]).is_ok_and(|status| {
                status["voters"] == 3
                    && status["is_authority"] == true
                    && status["leader"].is_string()
            });
            ready += usize::from(is_ready);
        }
        Ok(ready == 3)
    })?;
    Ok([a, b, c])
}
