//! A server under load: a process of ours on free ports, with a folder of its own.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// How long a server may take until it answers.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running server; dropping it ends the process and removes the folder.
pub(crate) struct Server {
    name: &'static str,
    child: Child,
    folder: PathBuf,
    port: u16,
}

impl Server {
    /// Starts `holm up`.
    pub(crate) fn holm(binary: &str) -> Result<Self> {
        Self::start("holm", binary, |folder, [client, peer, console]| {
            vec![
                "up".to_owned(),
                format!("--data-dir={folder}/data"),
                format!("--listen=127.0.0.1:{client}"),
                format!("--peer=127.0.0.1:{peer}"),
                format!("--console=127.0.0.1:{console}"),
            ]
        })
    }

    /// Starts the etcd that is installed, with its defaults.
    pub(crate) fn etcd() -> Result<Self> {
        Self::start("etcd", "etcd", |folder, [client, peer, _]| {
            vec![
                format!("--data-dir={folder}/data"),
                format!("--listen-client-urls=http://127.0.0.1:{client}"),
                format!("--advertise-client-urls=http://127.0.0.1:{client}"),
                format!("--listen-peer-urls=http://127.0.0.1:{peer}"),
                format!("--initial-advertise-peer-urls=http://127.0.0.1:{peer}"),
                format!("--initial-cluster=default=http://127.0.0.1:{peer}"),
            ]
        })
    }

    fn start(
        name: &'static str,
        binary: &str,
        arguments: impl Fn(&str, [u16; 3]) -> Vec<String>,
    ) -> Result<Self> {
        let ports = free_ports()?;
        let base =
            std::env::var_os("HOLM_BENCH_FOLDER").map_or_else(std::env::temp_dir, PathBuf::from);
        let folder = base.join(format!("holm-bench-{name}-{}", ports[0]));
        fs::create_dir_all(&folder)?;
        let log = File::create(folder.join("log"))?;
        let child = Command::new(binary)
            .args(arguments(&folder.to_string_lossy(), ports))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("start {binary}"))?;
        let mut server = Self {
            name,
            child,
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
                bail!("{} ended with {status}:\n{log}", self.name);
            }
            if healthy(self.port).unwrap_or(false) {
                return Ok(());
            }
            sleep(Duration::from_millis(20));
        }
        bail!("{} did not serve in {PATIENCE:?}", self.name)
    }

    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) const fn name(&self) -> &'static str {
        self.name
    }
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
