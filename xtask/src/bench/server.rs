//! A server under load: a process of ours on free ports, with a folder of its own.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::process::output;

/// How long a server may take until it answers.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long one request to the gateway may take; etcd's defragmentation holds its answer back.
const GATEWAY_PATIENCE: Duration = Duration::from_secs(120);

/// The programs of one run: what is measured, and what measures.
pub(crate) struct Programs {
    pub(crate) holm: String,
    pub(crate) etcd: String,
}

/// Which of the two.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Holm,
    Etcd,
}

/// A running server; dropping it ends the process and removes the folder.
pub(crate) struct Server {
    side: Side,
    holm: String,
    words: Vec<String>,
    child: Child,
    folder: PathBuf,
    port: u16,
}

/// What a process has in memory, in MiB.
pub(crate) struct Memory {
    pub(crate) resident: f64,
    /// Without the pages of files, which the system can take back.
    pub(crate) anonymous: f64,
    /// The most that was resident since the last [`Server::forget_peak`].
    pub(crate) peak: f64,
}

impl Server {
    /// Starts a server with its defaults and waits until it serves.
    pub(crate) fn start(side: Side, programs: &Programs) -> Result<Self> {
        let ports = free_ports()?;
        let folder = disk().join(format!("holm-bench-{}-{}", side.name(), ports[0]));
        fs::create_dir_all(&folder)?;
        let words = side.words(programs, &folder.to_string_lossy(), ports);
        let mut server = Self {
            side,
            holm: programs.holm.clone(),
            child: spawn(&words, &folder)?,
            words,
            folder,
            port: ports[0],
        };
        server.wait_until_ready()?;
        Ok(server)
    }

    fn wait_until_ready(&mut self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait()? {
                let log = fs::read_to_string(self.folder.join("log")).unwrap_or_default();
                bail!("{} ended with {status}:\n{log}", self.name());
            }
            if healthy(self.port).unwrap_or(false) {
                return Ok(());
            }
            sleep(Duration::from_millis(20));
        }
        bail!("{} did not serve in {PATIENCE:?}", self.name())
    }

    /// `kill -9`, then the same again; gives the milliseconds from its start to the first answer
    /// to a linearizable get.
    pub(crate) fn restart(&mut self) -> Result<f64> {
        self.child.kill().context("kill the server")?;
        self.child.wait().context("wait for the killed server")?;
        let began = Instant::now();
        self.child = spawn(&self.words, &self.folder)?;
        let mut command = Command::new(&self.holm);
        command.args(["bench", "ready", "--json", "--endpoint", &self.address()]);
        output(&mut command).with_context(|| format!("restart of {}", self.name()))?;
        Ok(began.elapsed().as_secs_f64() * 1e3)
    }

    /// Posts to the JSON gateway and reads the answer.
    pub(crate) fn post(&self, path: &str, body: &Value) -> Result<Value> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port))?;
        stream.set_read_timeout(Some(GATEWAY_PATIENCE))?;
        let body = body.to_string();
        let length = body.len();
        write!(
            stream,
            "POST {path} HTTP/1.0\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n\
             Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        )?;
        let mut answer = String::new();
        stream
            .read_to_string(&mut answer)
            .with_context(|| format!("{path} at {}", self.name()))?;
        let (head, body) = answer
            .split_once("\r\n\r\n")
            .with_context(|| format!("{path} at {}: no HTTP answer", self.name()))?;
        let status = head.split(' ').nth(1).unwrap_or_default();
        ensure!(
            status == "200",
            "{path} at {}: {status}: {body}",
            self.name()
        );
        serde_json::from_str(body).with_context(|| format!("{path} at {}: {body}", self.name()))
    }

    /// What it has in memory now.
    pub(crate) fn memory(&self) -> Result<Memory> {
        let text = fs::read_to_string(format!("/proc/{}/status", self.id()))?;
        let mib = |name: &str| {
            kib(&text, name)
                .map(|kib| kib / 1024.0)
                .with_context(|| format!("/proc has no {name}"))
        };
        Ok(Memory {
            resident: mib("VmRSS:")?,
            anonymous: mib("RssAnon:")?,
            peak: mib("VmHWM:")?,
        })
    }

    /// Counts the peak of the memory from now on.
    pub(crate) fn forget_peak(&self) -> Result<()> {
        let path = format!("/proc/{}/clear_refs", self.id());
        fs::write(&path, "5").with_context(|| format!("write {path}"))
    }

    /// MiB that its files take up.
    pub(crate) fn disk_mib(&self) -> Result<f64> {
        let mut command = Command::new("du");
        command.args(["-s", "-k"]).arg(self.folder.join("data"));
        let text = output(&mut command)?;
        let kib: f64 = text
            .split_whitespace()
            .next()
            .and_then(|word| word.parse().ok())
            .context("du prints a number first")?;
        Ok(kib / 1024.0)
    }

    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// The binary that holds the load generator.
    pub(crate) fn holm(&self) -> &str {
        &self.holm
    }

    pub(crate) const fn name(&self) -> &'static str {
        self.side.name()
    }
}

impl Side {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Holm => "holm",
            Self::Etcd => "etcd",
        }
    }

    fn words(
        self,
        programs: &Programs,
        folder: &str,
        [client, peer, console]: [u16; 3],
    ) -> Vec<String> {
        match self {
            Self::Holm => vec![
                programs.holm.clone(),
                "up".to_owned(),
                format!("--data-dir={folder}/data"),
                format!("--listen=127.0.0.1:{client}"),
                format!("--peer=127.0.0.1:{peer}"),
                format!("--console=127.0.0.1:{console}"),
            ],
            Self::Etcd => vec![
                programs.etcd.clone(),
                format!("--data-dir={folder}/data"),
                format!("--listen-client-urls=http://127.0.0.1:{client}"),
                format!("--advertise-client-urls=http://127.0.0.1:{client}"),
                format!("--listen-peer-urls=http://127.0.0.1:{peer}"),
                format!("--initial-advertise-peer-urls=http://127.0.0.1:{peer}"),
                format!("--initial-cluster=default=http://127.0.0.1:{peer}"),
            ],
        }
    }
}

/// The folder on the disk that is measured.
pub(crate) fn disk() -> PathBuf {
    std::env::var_os("HOLM_BENCH_FOLDER").map_or_else(std::env::temp_dir, PathBuf::from)
}

fn spawn(words: &[String], folder: &Path) -> Result<Child> {
    let log = File::options()
        .create(true)
        .append(true)
        .open(folder.join("log"))?;
    Command::new(&words[0])
        .args(&words[1..])
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .with_context(|| format!("start {}", words[0]))
}

fn kib(text: &str, name: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

impl Drop for Server {
    fn drop(&mut self) {
        // The figures are taken; there is nobody left to tell of a failure here.
        self.child.kill().ok();
        self.child.wait().ok();
        fs::remove_dir_all(&self.folder).ok();
    }
}

fn healthy(port: u16) -> Result<bool> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    stream.write_all(b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")?;
    let mut answer = [0; 64];
    let length = stream.read(&mut answer)?;
    Ok(answer[..length].starts_with(b"HTTP/1.1 200"))
}

/// Three ports that are free now, all different.
fn free_ports() -> Result<[u16; 3]> {
    let mut held = Vec::new();
    let mut ports = [0; 3];
    for port in &mut ports {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        *port = listener.local_addr()?.port();
        held.push(listener);
    }
    Ok(ports)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_by_its_name() {
        let text = "VmHWM:\t  2048 kB\nVmRSS:\t  1024 kB\n";
        assert_eq!(kib(text, "VmRSS:"), Some(1024.0));
        assert_eq!(kib(text, "RssAnon:"), None);
    }
}
