//! A server under load: one process or the members of a cluster, ours, on free ports, with a folder of their own.

use std::cell::Cell;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use crate::process::output;

/// What members are called, as `holm up --sites` calls them.
pub(crate) const NAMES: [&str; 3] = ["a", "b", "c"];
/// How long a server may take until it answers.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long one request to the gateway may take; etcd's defragmentation holds its answer back.
const GATEWAY_PATIENCE: Duration = Duration::from_secs(120);
/// After how long islands that hear nothing count as cut off, and a little more.
const CUT_NOTICED: Duration = Duration::from_secs(6);
/// How long an election may take.
const LEADER_PATIENCE: Duration = Duration::from_secs(20);

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

/// Which members of a cluster a load goes to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum At {
    /// The one that leads; a server alone leads.
    Leader,
    /// All, as many connections to each.
    All,
    /// The first island of a local-first keyspace, the others held so that they cost nothing: cut off.
    Cut,
    /// The one island of a local-first keyspace that has no other.
    Alone,
}

/// How many members a server has, and what they are to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// One, or several that agree.
    Members(usize),
    /// Of Holm three islands of a local-first keyspace, of which the first is loaded; of etcd one.
    Islands,
}

impl Form {
    fn count(self, side: Side) -> usize {
        match (self, side) {
            (Self::Members(count), _) => count,
            (Self::Islands, Side::Holm) => NAMES.len(),
            (Self::Islands, Side::Etcd) => 1,
        }
    }
}

/// A running server, alone or of several members; dropping it ends the processes and removes the folder.
pub(crate) struct Server {
    side: Side,
    holm: String,
    members: Vec<Member>,
    /// Where load goes.
    aim: Vec<usize>,
    /// Where clients reach the islands, if it is one of islands.
    islands: Vec<String>,
    /// Where they reach one that is alone.
    hermit: Option<String>,
    /// Whether all members but the first are held: they answer nobody.
    is_held: Cell<bool>,
    folder: PathBuf,
}

/// One process.
struct Member {
    words: Vec<String>,
    child: Child,
    folder: PathBuf,
    port: u16,
}

/// Where the processes of a server listen and what makes them one.
struct Plan {
    /// For clients, for peers, and a console.
    ports: Vec<[u16; 3]>,
    token: String,
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
    pub(crate) fn start(side: Side, programs: &Programs, form: Form) -> Result<Self> {
        let count = form.count(side);
        let folder = disk().join(format!("holm-bench-{}-{}", side.name(), free_port()?));
        let mut server = Self {
            side,
            holm: programs.holm.clone(),
            members: Vec::new(),
            aim: vec![0],
            islands: Vec::new(),
            hermit: None,
            is_held: Cell::new(false),
            folder,
        };
        fs::create_dir_all(&server.folder)?;
        let plan = match (side, count) {
            (Side::Holm, 2..) => Plan::of_sites(&server.holm, &server.folder, count)?,
            (Side::Holm | Side::Etcd, _) => Plan::free(count)?,
        };
        for (at, ports) in plan.ports.iter().enumerate() {
            let folder = server.folder.join(NAMES[at]);
            fs::create_dir_all(&folder)?;
            let words = side.words(programs, &server.folder, &plan, at);
            server.members.push(Member {
                child: spawn(&words, &folder)?,
                words,
                folder,
                port: ports[0],
            });
        }
        for member in &mut server.members {
            member.wait_until_ready(side)?;
        }
        if form == Form::Islands && side == Side::Holm {
            server.awaited_leader()?;
            server.islands = server.make_islands("bench", &NAMES)?;
        }
        Ok(server)
    }

    /// Creates a local-first keyspace at sites; where its islands are reached.
    fn make_islands(&self, name: &str, sites: &[&str]) -> Result<Vec<String>> {
        let mut command = Command::new(&self.holm);
        command.args(["keyspace", "create", name, "--guarantee", "local-first"]);
        command.arg(format!("--sites={}", sites.join(",")));
        command.arg("--json");
        command.arg(format!("--endpoints=127.0.0.1:{}", self.members[0].port));
        let view: Value = serde_json::from_str(&output(&mut command)?)?;
        let address = |site: usize| {
            let address = view["sites"][site]["addresses"][0].as_str();
            let address = address.and_then(|it| it.strip_prefix("http://"));
            address.map(str::to_owned)
        };
        let all: Option<Vec<String>> = (0..sites.len()).map(address).collect();
        all.context("the keyspace has an address at each site")
    }

    /// Holds all members but the first, as if they were cut off, until that is noticed; or lets
    /// them go on, until they have what they missed.
    pub(crate) fn hold_others(&self, is_held: bool) -> Result<()> {
        let signal = if is_held { "-STOP" } else { "-CONT" };
        for member in &self.members[1..] {
            let mut command = Command::new("kill");
            output(command.args([signal, &member.child.id().to_string()]))?;
        }
        self.is_held.set(is_held);
        if self.members.len() > 1 && is_held {
            sleep(CUT_NOTICED);
        } else if self.members.len() > 1 {
            self.awaited_leader()?;
            let mut command = Command::new(&self.holm);
            command.args(["keyspace", "wait", "bench", "--within=60", "--seen-by"]);
            command.arg(NAMES[1..].join(","));
            command.arg(format!("--endpoints=127.0.0.1:{}", self.members[0].port));
            output(&mut command)?;
        }
        Ok(())
    }

    /// Loads go to these members from now on.
    pub(crate) fn aim(&mut self, at: At) -> Result<()> {
        self.aim = match at {
            At::All => (0..self.members.len()).collect(),
            At::Leader if !self.islands.is_empty() => vec![0],
            At::Leader => vec![self.awaited_leader()?],
            At::Cut => {
                self.hold_others(true)?;
                vec![0]
            }
            At::Alone => {
                if !self.islands.is_empty() {
                    self.hermit = self.make_islands("alone", &NAMES[..1])?.pop();
                }
                vec![0]
            }
        };
        Ok(())
    }

    /// The leader, waited for while there is none: an election takes a second or two.
    fn awaited_leader(&self) -> Result<usize> {
        let began = Instant::now();
        loop {
            if let Some(leader) = self.leader()? {
                return Ok(leader);
            }
            if began.elapsed() > LEADER_PATIENCE {
                bail!("no member of {} leads", self.name());
            }
            sleep(Duration::from_millis(20));
        }
    }

    fn leader(&self) -> Result<Option<usize>> {
        for (at, member) in self.members.iter().enumerate() {
            let status = self.post_to(member.port, "/v3/maintenance/status", &json!({}))?;
            let own = &status["header"]["member_id"];
            if own.is_string() && status["leader"] == *own {
                return Ok(Some(at));
            }
        }
        Ok(None)
    }

    /// `kill -9`, then the same again; gives the milliseconds from its start to the first answer
    /// to a linearizable get.
    pub(crate) fn restart(&mut self) -> Result<f64> {
        for member in &mut self.members {
            member.child.kill().context("kill the server")?;
            member.child.wait().context("wait for the killed server")?;
        }
        let began = Instant::now();
        for member in &mut self.members {
            member.child = spawn(&member.words, &member.folder)?;
        }
        let mut command = Command::new(&self.holm);
        command.args(["bench", "ready", "--json", "--endpoint", &self.endpoint()]);
        output(&mut command).with_context(|| format!("restart of {}", self.name()))?;
        Ok(began.elapsed().as_secs_f64() * 1e3)
    }

    /// Posts to the JSON gateway and reads the answer.
    pub(crate) fn post(&self, path: &str, body: &Value) -> Result<Value> {
        self.post_to(self.members[self.aim[0]].port, path, body)
    }

    fn post_to(&self, port: u16, path: &str, body: &Value) -> Result<Value> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
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

    /// What the first process has in memory now.
    pub(crate) fn memory(&self) -> Result<Memory> {
        let text = fs::read_to_string(format!("/proc/{}/status", self.members[0].child.id()))?;
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
        let path = format!("/proc/{}/clear_refs", self.members[0].child.id());
        fs::write(&path, "5").with_context(|| format!("write {path}"))
    }

    /// MiB that its files take up.
    pub(crate) fn disk_mib(&self) -> Result<f64> {
        let mut command = Command::new("du");
        command.args(["-s", "-k"]).arg(&self.folder);
        let text = output(&mut command)?;
        let kib: f64 = text
            .split_whitespace()
            .next()
            .and_then(|word| word.parse().ok())
            .context("du prints a number first")?;
        Ok(kib / 1024.0)
    }

    /// The one address, or those of all members that load goes to, commas between.
    pub(crate) fn endpoint(&self) -> String {
        if let Some(island) = self.hermit.as_ref().or_else(|| self.islands.first()) {
            return island.clone();
        }
        let address = |at: &usize| format!("127.0.0.1:{}", self.members[*at].port);
        self.aim.iter().map(address).collect::<Vec<_>>().join(",")
    }

    /// Where each of the islands is reached, if it is one of islands.
    pub(crate) fn islands(&self) -> &[String] {
        &self.islands
    }

    /// The ids of all processes, commas between.
    pub(crate) fn ids(&self) -> String {
        let ids = self.members.iter().map(|it| it.child.id().to_string());
        ids.collect::<Vec<_>>().join(",")
    }

    /// Where all processes that are not held tell of themselves, commas between.
    pub(crate) fn metrics(&self) -> String {
        let telling = if self.is_held.get() {
            1
        } else {
            self.members.len()
        };
        let all = self.members.iter().take(telling);
        let all = all.map(|it| format!("127.0.0.1:{}", it.port));
        all.collect::<Vec<_>>().join(",")
    }

    /// The binary that holds the load generator.
    pub(crate) fn holm(&self) -> &str {
        &self.holm
    }

    pub(crate) const fn name(&self) -> &'static str {
        self.side.name()
    }
}

impl Member {
    fn wait_until_ready(&mut self, side: Side) -> Result<()> {
        let name = side.name();
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait()? {
                let log = fs::read_to_string(self.folder.join("log")).unwrap_or_default();
                bail!("{name} ended with {status}:\n{log}");
            }
            if healthy(self.port).unwrap_or(false) {
                return Ok(());
            }
            sleep(Duration::from_millis(20));
        }
        bail!("{name} did not serve in {PATIENCE:?}")
    }
}

impl Plan {
    fn free(count: usize) -> Result<Self> {
        Ok(Self {
            ports: free_ports(count)?,
            token: "holm-bench".to_owned(),
        })
    }

    /// Lets `holm up --sites` make certificates, ports and a token in `folder/sites`, and ends it.
    fn of_sites(holm: &str, folder: &Path, count: usize) -> Result<Self> {
        let sites = folder.join("sites");
        let mut words = vec![holm.to_owned(), "up".to_owned(), format!("--sites={count}")];
        words.push("--listen=127.0.0.1:0".to_owned());
        words.push(format!("--data-dir={}", sites.display()));
        let mut child = spawn(&words, folder)?;
        let deadline = Instant::now() + PATIENCE;
        let made = sites.join(NAMES[count - 1]).join("holm.log");
        while !made.is_file() && Instant::now() < deadline {
            let ended = child.try_wait()?;
            ensure!(
                ended.is_none(),
                "the sites that were made ended by themselves: {ended:?}"
            );
            sleep(Duration::from_millis(20));
        }
        // One that is killed leaves sites that take their ports a moment later, before they see that nobody runs them.
        output(Command::new("kill").arg(child.id().to_string()))?;
        while child.try_wait()?.is_none() {
            if Instant::now() >= deadline {
                child.kill().context("kill the sites that were made")?;
                child.wait().context("wait for them")?;
                bail!("the sites that were made did not end within {PATIENCE:?}");
            }
            sleep(Duration::from_millis(20));
        }
        let path = sites.join("sites.json");
        let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        let plan: Value = serde_json::from_str(&text)?;
        let port = |at: usize, of: &str| {
            let address = plan["sites"][at][of].as_str();
            let address: Option<SocketAddr> = address.and_then(|it| it.parse().ok());
            let found = address.map(|it| it.port());
            found.with_context(|| format!("{} names no {of}", path.display()))
        };
        let mut ports = Vec::new();
        for at in 0..count {
            ports.push([port(at, "client")?, port(at, "peer")?, port(at, "console")?]);
        }
        let token = plan["token"].as_str().context("the sites have a token")?;
        Ok(Self {
            ports,
            token: token.to_owned(),
        })
    }

    fn initial_cluster(&self, scheme: &str) -> String {
        let member =
            |(name, ports): (&&str, &[u16; 3])| format!("{name}={scheme}://127.0.0.1:{}", ports[1]);
        let members = NAMES.iter().zip(&self.ports).map(member);
        members.collect::<Vec<_>>().join(",")
    }
}

impl Side {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Holm => "holm",
            Self::Etcd => "etcd",
        }
    }

    fn words(self, programs: &Programs, folder: &Path, plan: &Plan, at: usize) -> Vec<String> {
        let [client, peer, console] = plan.ports[at];
        let name = NAMES[at];
        let data = format!("--data-dir={}", folder.join(name).join("data").display());
        match self {
            Self::Holm => {
                let mut words = vec![
                    programs.holm.clone(),
                    "up".to_owned(),
                    data,
                    format!("--listen=127.0.0.1:{client}"),
                    format!("--peer=127.0.0.1:{peer}"),
                    format!("--console=127.0.0.1:{console}"),
                ];
                if plan.ports.len() > 1 {
                    let keys = folder.join("sites").join("pki");
                    let file =
                        |flag: &str, file: &str| format!("--{flag}={}", keys.join(file).display());
                    words.push(format!("--name={name}"));
                    words.push(format!(
                        "--initial-cluster={}",
                        plan.initial_cluster("https")
                    ));
                    words.push(format!("--initial-cluster-token={}", plan.token));
                    words.push(file("peer-cert-file", &format!("{name}.pem")));
                    words.push(file("peer-key-file", &format!("{name}-key.pem")));
                    words.push(file("peer-trusted-ca-file", "authority.pem"));
                }
                words
            }
            Self::Etcd => vec![
                programs.etcd.clone(),
                format!("--name={name}"),
                data,
                format!("--listen-client-urls=http://127.0.0.1:{client}"),
                format!("--advertise-client-urls=http://127.0.0.1:{client}"),
                format!("--listen-peer-urls=http://127.0.0.1:{peer}"),
                format!("--initial-advertise-peer-urls=http://127.0.0.1:{peer}"),
                format!("--initial-cluster={}", plan.initial_cluster("http")),
                format!("--initial-cluster-token={}", plan.token),
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
        for member in &mut self.members {
            member.child.kill().ok();
            member.child.wait().ok();
        }
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

/// Three ports for each member that are free now, all different.
fn free_ports(count: usize) -> Result<Vec<[u16; 3]>> {
    let mut held = Vec::new();
    let mut all = vec![[0; 3]; count];
    for port in all.iter_mut().flatten() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        *port = listener.local_addr()?.port();
        held.push(listener);
    }
    Ok(all)
}

/// A number that no other run has now.
fn free_port() -> Result<u16> {
    Ok(free_ports(1)?[0][0])
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
