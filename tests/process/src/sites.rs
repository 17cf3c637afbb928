//! Three sites that one command starts, and the commands that play with them.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::gateway::Gateway;
use crate::ports::Ports;
use crate::server::{Program, locate};

/// How long anything may take: long, for the machine may be shared with builds.
const PATIENCE: Duration = Duration::from_secs(60);
/// From one site's ports to the next one's.
const PORTS_APART: u16 = 100;
/// What is said of a site that has died.
const DIED: &str = "ended by itself";
/// What is said when the sites serve.
const GREETED: &str = "Ctrl-C stops all sites";

/// Sites that `holm up --sites` runs, and their folder.
#[derive(Debug)]
pub struct Sites {
    folder: TempDir,
    process: Option<Child>,
    words: Vec<String>,
    _ports: Ports,
}

impl Sites {
    /// Starts so many sites on ports of their own and waits until all serve. `words` are further flags.
    ///
    /// # Errors
    ///
    /// Sites that do not serve in time, or one that died; the error holds what was said.
    pub fn start(count: usize, words: &[&str]) -> Result<Self> {
        let memory = PathBuf::from("/dev/shm");
        let folder = if memory.is_dir() {
            TempDir::with_prefix_in("holm-sites-", memory)?
        } else {
            TempDir::with_prefix("holm-sites-")?
        };
        let apart = (0..count).map(|at| u16::try_from(at).map(|at| at * PORTS_APART));
        let apart: Vec<u16> = apart.collect::<Result<_, _>>()?;
        let offsets: Vec<u16> = apart.iter().flat_map(|at| [*at, at + 1, at + 2]).collect();
        let ports = Ports::hold(&offsets)?;
        let mut all = vec![
            "up".to_owned(),
            format!("--sites={count}"),
            format!("--data-dir={}", folder.path().join("data").display()),
        ];
        // A test may want them to find their own.
        if !words.iter().any(|word| word.starts_with("--listen")) {
            all.push(format!("--listen={}", ports.address(0)));
            all.push(format!("--peer={}", ports.address(1)));
            all.push(format!("--console={}", ports.address(2)));
        }
        all.extend(words.iter().map(|&word| word.to_owned()));
        let mut sites = Self {
            folder,
            process: None,
            words: all,
            _ports: ports,
        };
        sites.again()?;
        Ok(sites)
    }

    /// Starts them once more on their data.
    ///
    /// # Errors
    ///
    /// As [`Self::start`].
    pub fn again(&mut self) -> Result<()> {
        let said = File::create(self.folder.path().join("said"))?;
        let process = Command::new(locate(Program::Holm)?)
            .args(&self.words)
            .stdin(Stdio::null())
            .stdout(said.try_clone()?)
            .stderr(said)
            .spawn()
            .context("start the sites")?;
        self.process = Some(process);
        let deadline = Instant::now() + PATIENCE;
        while !self.said().contains(GREETED) {
            let process = self.process.as_mut().context("just started")?;
            if let Some(status) = process.try_wait()? {
                bail!("the sites ended with {status}:\n{}", self.said());
            }
            ensure!(Instant::now() < deadline, "no greeting:\n{}", self.said());
            sleep(Duration::from_millis(20));
        }
        // They are greeted for too when one of them has died: what answers there is no site then.
        let said = self.said();
        ensure!(!said.contains(DIED), "a site died at the start:\n{said}");
        Ok(())
    }

    /// All that was said on both outputs since the last start.
    #[must_use]
    pub fn said(&self) -> String {
        fs::read_to_string(self.folder.path().join("said")).unwrap_or_default()
    }

    /// The folder of all sites.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Runs a command about these sites.
    ///
    /// # Errors
    ///
    /// The program is not there.
    pub fn run(&self, words: &[&str]) -> Result<Output> {
        let mut command = Command::new(locate(Program::Holm)?);
        command.args(words).arg("--data-dir").arg(self.data());
        command.output().context("run holm")
    }

    /// The JSON that a command about these sites answers with.
    ///
    /// # Errors
    ///
    /// The command failed, or answered something else.
    pub fn ask(&self, words: &[&str]) -> Result<Value> {
        let output = self.run(&[words, &["--json"]].concat())?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.success(), "{words:?}: {said}");
        serde_json::from_slice(&output.stdout).with_context(|| format!("{words:?}"))
    }

    /// Runs a client's command at one site.
    ///
    /// # Errors
    ///
    /// No such site.
    pub fn run_at(&self, site: &str, words: &[&str]) -> Result<Output> {
        let mut command = Command::new(locate(Program::Holm)?);
        command.args(words).arg("--endpoints");
        command.arg(self.endpoint(site)?.to_string());
        command.output().context("run holm")
    }

    /// The JSON that a client's command at one site answers with.
    ///
    /// # Errors
    ///
    /// The command failed, or answered something else.
    pub fn ask_at(&self, site: &str, words: &[&str]) -> Result<Value> {
        let output = self.run_at(site, &[words, &["--json"]].concat())?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.success(), "{words:?}: {said}");
        serde_json::from_slice(&output.stdout).with_context(|| format!("{words:?}"))
    }

    /// Makes a local-first keyspace of this type; the URLs at which clients reach its islands.
    ///
    /// # Errors
    ///
    /// As [`Self::ask_at`].
    pub fn make_islands(&self, name: &str, merge: &str) -> Result<Vec<String>> {
        let create = ["keyspace", "create", name];
        let kind = ["--guarantee", "local-first", "--type", merge];
        let view = self.ask_at("a", &[&create[..], &kind].concat())?;
        ensure!(view["guarantee"] == "local-first", "{view}");
        island_urls(&view)
    }

    /// What a command that is refused says.
    ///
    /// # Errors
    ///
    /// It was not refused.
    pub fn refusal(&self, words: &[&str]) -> Result<String> {
        let output = self.run(words)?;
        ensure!(!output.status.success(), "{words:?} was not refused");
        Ok(String::from_utf8_lossy(&output.stderr).into_owned())
    }

    /// What `holm site` says of a site.
    ///
    /// # Errors
    ///
    /// No such site.
    pub fn site(&self, name: &str) -> Result<Value> {
        let all = self.ask(&["site"])?;
        let rows = all["sites"].as_array().context("a list of sites")?;
        let row = rows.iter().find(|row| row["name"] == name);
        row.cloned()
            .with_context(|| format!("{name} is not in {all}"))
    }

    /// Where etcd clients reach a site.
    ///
    /// # Errors
    ///
    /// No such site.
    pub fn endpoint(&self, name: &str) -> Result<SocketAddr> {
        let row = self.site(name)?;
        let endpoint = row["endpoint"].as_str().context("an endpoint")?;
        Ok(endpoint.parse()?)
    }

    /// A client of a site.
    ///
    /// # Errors
    ///
    /// No such site.
    pub fn client(&self, name: &str) -> Result<Gateway> {
        Ok(Gateway::new(self.endpoint(name)?))
    }

    /// Asks all sites to end, as an operator does.
    ///
    /// # Errors
    ///
    /// They do not end in time.
    pub fn stop(&mut self) -> Result<ExitStatus> {
        self.signal(Signal::TERM)?;
        let process = self.process.take().context("the sites do not run")?;
        ended(process).with_context(|| format!("stop the sites:\n{}", self.said()))
    }

    /// Ends the process that runs the sites with nothing said to it.
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

    fn signal(&self, signal: Signal) -> Result<()> {
        let process = self.process.as_ref().context("the sites do not run")?;
        signal_process(process.id().into(), signal)
    }
}

impl Drop for Sites {
    fn drop(&mut self) {
        // The sites end with the process that runs them. An error here would hide the test's own.
        self.kill().ok();
        // They do so a moment later, and a file that one of them makes meanwhile would leave the
        // folder behind, with hundreds of megabytes of memory.
        let deadline = Instant::now() + PATIENCE;
        while fs::remove_dir_all(self.folder.path()).is_err()
            && self.folder.path().exists()
            && Instant::now() < deadline
        {
            sleep(Duration::from_millis(20));
        }
    }
}

/// The URLs at which clients reach the islands of a keyspace, of which this was said.
///
/// # Errors
///
/// They are not there.
pub fn island_urls(view: &Value) -> Result<Vec<String>> {
    let islands = view["sites"].as_array().context("sites")?.iter();
    let url = |site: &Value| Some(site["addresses"][0].as_str()?.to_owned());
    let found: Option<Vec<String>> = islands.map(url).collect();
    found.with_context(|| format!("an island without an address: {view}"))
}

/// Waits for the end of a process that was asked to end.
///
/// # Errors
///
/// It does not end in time, and is killed.
pub fn ended(mut process: Child) -> Result<ExitStatus> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(status) = process.try_wait()? {
            return Ok(status);
        }
        if Instant::now() >= deadline {
            process.kill()?;
            process.wait()?;
            bail!("it did not end in {PATIENCE:?}");
        }
        sleep(Duration::from_millis(10));
    }
}

/// Signals a process that this test has started, or that it knows by a site's row.
///
/// # Errors
///
/// It is gone, or no process id.
pub fn signal_process(id: u64, signal: Signal) -> Result<()> {
    let id = i32::try_from(id).ok().and_then(Pid::from_raw);
    kill_process(id.context("a process id is a small number")?, signal)?;
    Ok(())
}

/// Copies a site's data as they are, or puts a copy back where nothing is.
///
/// # Errors
///
/// The system refuses.
pub fn copy(from: &Path, to: &Path) -> Result<()> {
    let output = Command::new("cp").arg("-a").arg(from).arg(to).output()?;
    ensure!(output.status.success(), "{output:?}");
    Ok(())
}

/// Repeats until it holds.
///
/// # Errors
///
/// It did not, in time.
pub fn until(what: &str, mut holds: impl FnMut() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !holds()? {
        ensure!(Instant::now() < deadline, "not in {PATIENCE:?}: {what}");
        sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// Repeats until it succeeds: what a busy machine may fail now and do later.
///
/// # Errors
///
/// It did not, in time; the last failure says why.
pub fn eventually<T>(what: &str, mut act: impl FnMut() -> Result<T>) -> Result<T> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match act() {
            Ok(found) => return Ok(found),
            Err(error) if Instant::now() >= deadline => {
                return Err(error.context(format!("not in {PATIENCE:?}: {what}")));
            }
            Err(_early) => sleep(Duration::from_millis(50)),
        }
    }
}
