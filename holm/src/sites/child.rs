//! One site's process: how it is started, what is done to it, and how it ended.
//!
//! Its standard input is a pipe that nobody writes to: when this process is gone, however it went, the pipe ends and
//! so does the site. A site is in a process group of its own, so that Ctrl-C reaches this process alone.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use anyhow::{Context, ensure};
use rustix::process::{Pid, Signal, kill_process};

use super::plan::Site;
use super::protocol::{Act, SiteRow};
use crate::probe;

/// A log beyond this is put aside at the next start.
const LOG_BYTES_MAX: u64 = 16 << 20;
/// What is read of a log's end.
const LOG_END_BYTES: u64 = 8 << 10;
/// What is shown of it.
const LOG_END_LINES: usize = 8;
const LOG: &str = "holm.log";

/// How a site is, as far as this process has to do with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It runs.
    Running,
    /// It is held.
    Paused,
    /// It was told to end, and may not have ended yet.
    Stopped,
    /// It was ended.
    Killed,
    /// It ended by itself.
    Died(String),
}

/// A site and its process, if there is one.
#[derive(Debug)]
pub(super) struct SiteProcess {
    site: Site,
    folder: PathBuf,
    words: Vec<String>,
    process: Option<Child>,
    fate: Fate,
}

impl SiteProcess {
    /// A site that does not run yet; `words` is how it is started.
    pub(super) fn new(site: Site, data_dir: &Path, words: Vec<String>) -> Self {
        Self {
            folder: site.folder(data_dir),
            site,
            words,
            process: None,
            fate: Fate::Stopped,
        }
    }

    /// The site.
    pub(super) const fn site(&self) -> &Site {
        &self.site
    }

    /// How it is.
    pub(super) const fn fate(&self) -> &Fate {
        &self.fate
    }

    /// Whether there is a process.
    pub(super) const fn is_there(&self) -> bool {
        self.process.is_some()
    }

    /// Starts the process.
    ///
    /// # Errors
    ///
    /// It runs already, or the system refuses.
    pub(super) fn start(&mut self) -> anyhow::Result<()> {
        let name = &self.site.name;
        ensure!(
            self.fate != Fate::Paused,
            "site {name} is paused: `holm site resume {name}` lets it go on"
        );
        ensure!(self.process.is_none(), "site {name} runs already");
        fs::create_dir_all(&self.folder)
            .with_context(|| format!("make {}", self.folder.display()))?;
        let log = self.open_log()?;
        let binary = std::env::current_exe().context("find this program's file")?;
        let process = Command::new(binary)
            .args(&self.words)
            .stdin(Stdio::piped())
            .stdout(log.try_clone().context("share the log")?)
            .stderr(log)
            .process_group(0)
            .spawn()
            .with_context(|| format!("start site {}", self.site.name))?;
        self.process = Some(process);
        self.fate = Fate::Running;
        Ok(())
    }

    fn open_log(&self) -> anyhow::Result<File> {
        let path = self.folder.join(LOG);
        let failed = || format!("write {}", path.display());
        if fs::metadata(&path).is_ok_and(|facts| facts.len() > LOG_BYTES_MAX) {
            fs::rename(&path, path.with_extension("log.old")).with_context(failed)?;
        }
        let mut options = File::options();
        options
            .create(true)
            .append(true)
            .open(&path)
            .with_context(failed)
    }

    /// Does something to the process. Asked to end, it may take a while.
    ///
    /// # Errors
    ///
    /// There is no process, it is paused or not, or the system refuses.
    pub(super) fn act(&mut self, act: Act) -> anyhow::Result<()> {
        let name = self.site.name.clone();
        if act == Act::Start {
            return self.start();
        }
        ensure!(
            self.is_there(),
            "site {name} does not run: `holm site start {name}` starts it"
        );
        let is_paused = self.fate == Fate::Paused;
        match act {
            Act::Start => {}
            Act::Kill => {
                self.signal(Signal::KILL)?;
                self.fate = Fate::Killed;
            }
            Act::Stop => {
                // A held process would hear of it only when it goes on.
                self.signal(Signal::TERM)?;
                self.signal(Signal::CONT)?;
                self.fate = Fate::Stopped;
            }
            Act::Pause => {
                ensure!(!is_paused, "site {name} is paused already");
                self.signal(Signal::STOP)?;
                self.fate = Fate::Paused;
            }
            Act::Resume => {
                ensure!(is_paused, "site {name} is not paused");
                self.signal(Signal::CONT)?;
                self.fate = Fate::Running;
            }
        }
        Ok(())
    }

    /// The process is ours and not waited for yet, so that its id is still its own.
    fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let id = self.process.as_ref().map(Child::id);
        let id = id.and_then(|id| i32::try_from(id).ok());
        let id = id.and_then(Pid::from_raw).context("there is no process")?;
        kill_process(id, signal).with_context(|| format!("signal site {}", self.site.name))
    }

    /// Looks whether the process has ended. What ended by itself is told, once.
    pub(super) fn look(&mut self) -> Option<String> {
        let ended = self.process.as_mut()?.try_wait();
        let status = match ended {
            Ok(None) => return None,
            Ok(Some(status)) => how(status),
            Err(error) => error.to_string(),
        };
        self.process = None;
        if !matches!(self.fate, Fate::Running | Fate::Paused) {
            return None;
        }
        let name = &self.site.name;
        let log = self.folder.join(LOG);
        let report = format!(
            "site {name} ended by itself, {status}; the end of {}:\n{}\n  It stays down until `holm site start {name}`.",
            log.display(),
            log_end(&log)
        );
        self.fate = Fate::Died(status);
        Some(report)
    }

    /// What a table says of it, once `answer` is known of its console.
    pub(super) fn row(&self, answer: Option<Health>) -> SiteRow {
        let state = match (&self.fate, answer) {
            (Fate::Running, Some(Health::Serving)) => "serving",
            (Fate::Running, Some(Health::NoLeader)) => "no leader",
            (Fate::Running, None) => "starting",
            (Fate::Paused, _) => "paused",
            (Fate::Stopped, _) => "stopped",
            (Fate::Killed, _) => "killed",
            (Fate::Died(_), _) => "died",
        };
        let ended = match &self.fate {
            Fate::Died(how) => Some(how.clone()),
            Fate::Running | Fate::Paused | Fate::Stopped | Fate::Killed => None,
        };
        SiteRow {
            name: self.site.name.clone(),
            state: state.to_owned(),
            pid: self.process.as_ref().map(Child::id),
            endpoint: self.site.client.to_string(),
            console: self.site.console.to_string(),
            data: self.folder.display().to_string(),
            ended,
        }
    }
}

/// What a console says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Health {
    /// All is well.
    Serving,
    /// The site runs, and cannot take writes.
    NoLeader,
}

/// Asks a console; `None` if nobody answers there. Blocks, for a second at most.
pub(super) fn health(site: &Site) -> Option<Health> {
    let answer = probe::fetch_within(&site.console.to_string(), "/health", probe::SHORTLY)?;
    let status = answer.split(' ').nth(1)?;
    Some(if status == "200" {
        Health::Serving
    } else {
        Health::NoLeader
    })
}

fn how(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "nobody knows how".to_owned(),
    }
}

/// The last lines of a log, indented.
fn log_end(path: &Path) -> String {
    let mut text = Vec::new();
    let read = File::open(path).and_then(|mut file| {
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(LOG_END_BYTES)))?;
        file.take(LOG_END_BYTES).read_to_end(&mut text)
    });
    if let Err(error) = read {
        return format!("    {error}");
    }
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<String> = text.lines().map(|line| format!("    {line}")).collect();
    lines[lines.len().saturating_sub(LOG_END_LINES)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_log_is_its_last_lines() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(LOG);
        let lines: Vec<String> = (0..5_000).map(|at| format!("line {at}")).collect();
        fs::write(&path, lines.join("\n")).unwrap();
        let end = log_end(&path);
        assert_eq!(end.lines().count(), LOG_END_LINES);
        assert!(end.ends_with("    line 4999"), "{end}");
        assert!(log_end(&folder.path().join("nothing")).contains("No such file"));
    }

    #[test]
    fn what_does_not_run_is_not_signalled() {
        let folder = tempfile::tempdir().unwrap();
        let address = "127.0.0.1:1".parse().unwrap();
        let site = Site {
            name: "a".to_owned(),
            of: None,
            client: address,
            peer: address,
            console: address,
        };
        let mut process = SiteProcess::new(site, folder.path(), Vec::new());
        for act in [Act::Kill, Act::Stop, Act::Pause, Act::Resume] {
            let error = process.act(act).unwrap_err().to_string();
            assert_eq!(error, "site a does not run: `holm site start a` starts it");
        }
        assert_eq!(process.row(None).state, "stopped");
        assert_eq!(process.look(), None);
    }
}
