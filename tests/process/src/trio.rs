//! Three members of one cluster, each a process that this test has started: of Holm or of etcd.
//!
//! Holm's members know each other by certificates and speak TLS; etcd's speak plainly, which
//! costs them less. They are on loopback, or each in a network of its own ([`Lan`]).

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use holm_link::Identity;
use holm_net::Authority;
use rustix::process::Signal;
use serde_json::json;
use tempfile::TempDir;

use crate::gateway::Gateway;
use crate::lan::{self, Lan, SITES};
use crate::ports::Ports;
use crate::server::{Program, locate};
use crate::sites::{ended, eventually, signal_process};
use crate::space::Space;

/// What the members are called.
pub const NAMES: [&str; SITES] = ["a", "b", "c"];
/// Whose certificates are made here are good for so long.
const LIFETIME: Duration = Duration::from_secs(24 * 3_600);
const TOKEN: &str = "trio";

/// How members are started.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What they are.
    pub program: Program,
    /// Further flags, for each of them.
    pub words: Vec<String>,
    /// Where a member's data lie, if not with the others'.
    pub folders: [Option<PathBuf>; SITES],
    /// Whether all lie on a disk, and not in memory.
    pub is_on_disk: bool,
}

impl Plan {
    /// Members with these flags, their data in memory.
    #[must_use]
    pub fn new(program: Program, words: &[&str]) -> Self {
        Self {
            program,
            words: words.iter().map(|&word| word.to_owned()).collect(),
            folders: [None, None, None],
            is_on_disk: false,
        }
    }
}

/// Three members and their folder.
#[derive(Debug)]
pub struct Trio {
    members: Vec<Member>,
    lan: Option<Lan>,
    _ports: Option<Ports>,
    // Last, for the members write to it.
    _folder: TempDir,
}

#[derive(Debug)]
struct Member {
    space: Option<Arc<Space>>,
    client: SocketAddr,
    program: PathBuf,
    words: Vec<String>,
    log: PathBuf,
    process: Option<Child>,
}

/// Where a member listens and dials.
#[derive(Clone, Debug)]
struct Place {
    client: SocketAddr,
    peer: SocketAddr,
    console: SocketAddr,
    via: Vec<String>,
}

impl Trio {
    /// Starts three on loopback and waits until all serve.
    ///
    /// # Errors
    ///
    /// A member that does not serve in time, with what it said.
    pub fn start(plan: &Plan) -> Result<Self> {
        let ports = Ports::hold(&[0, 1, 2, 3, 4, 5, 6, 7, 8])?;
        let place = |at: usize| Place {
            client: ports.address(3 * at),
            peer: ports.address(3 * at + 1),
            console: ports.address(3 * at + 2),
            via: Vec::new(),
        };
        let places = [place(0), place(1), place(2)];
        let mut trio = Self::make(plan, &places, None)?;
        trio._ports = Some(ports);
        trio.begin_all()?;
        Ok(trio)
    }

    /// Starts three, each in a network of its own; `None` where rights or the kernel forbid it.
    ///
    /// # Errors
    ///
    /// As [`Self::start`].
    pub fn apart(plan: &Plan) -> Result<Option<Self>> {
        let Some(lan) = Lan::lay()? else {
            return Ok(None);
        };
        let home = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let place = |at: usize| {
            let door = |to: usize| Some(format!("{}={}", NAMES[to], lan.door(at, to)?));
            Place {
                client: home(2379),
                peer: lan::peer(at),
                console: home(2381),
                via: (0..SITES).filter_map(door).collect(),
            }
        };
        let places = [place(0), place(1), place(2)];
        let mut trio = Self::make(plan, &places, Some(lan))?;
        trio.begin_all()?;
        Ok(Some(trio))
    }

    fn make(plan: &Plan, places: &[Place; SITES], lan: Option<Lan>) -> Result<Self> {
        let memory = Path::new("/dev/shm");
        let folder = if memory.is_dir() && !plan.is_on_disk {
            TempDir::with_prefix_in("holm-trio-", memory)?
        } else {
            TempDir::with_prefix("holm-trio-")?
        };
        if plan.program == Program::Holm {
            certify(folder.path())?;
        }
        let mut members = Vec::new();
        for (at, place) in places.iter().enumerate() {
            let home = plan.folders[at].as_deref().unwrap_or_else(|| folder.path());
            let data = home.join(NAMES[at]);
            let mut words = match plan.program {
                Program::Holm => holm_words(at, places, &data, folder.path()),
                Program::Etcd | Program::Newer => etcd_words(at, places, &data),
            };
            words.extend(plan.words.iter().cloned());
            members.push(Member {
                space: lan.as_ref().map(|lan| Arc::clone(lan.space(at))),
                client: place.client,
                program: locate(plan.program)?,
                words,
                log: folder.path().join(format!("{}.log", NAMES[at])),
                process: None,
            });
        }
        Ok(Self {
            members,
            lan,
            _ports: None,
            _folder: folder,
        })
    }

    fn begin_all(&mut self) -> Result<()> {
        for at in 0..SITES {
            self.begin(at)?;
        }
        (0..SITES).try_for_each(|at| self.serves(at))
    }

    /// Starts a member on the data that it has; it may not serve yet.
    ///
    /// # Errors
    ///
    /// It runs, or the system refuses.
    pub fn begin(&mut self, at: usize) -> Result<()> {
        let member = &mut self.members[at];
        ensure!(member.process.is_none(), "{} runs", NAMES[at]);
        let log = File::options()
            .create(true)
            .append(true)
            .open(&member.log)?;
        let mut command = Command::new(&member.program);
        // The pipe ends with this test, and a member of Holm with the pipe.
        command.args(&member.words).stdin(Stdio::piped());
        command.stdout(log.try_clone()?).stderr(log);
        let mut spawn = || command.spawn().context("start a member");
        let process = match &member.space {
            Some(space) => space.within(spawn)?,
            None => spawn()?,
        };
        member.process = Some(process);
        Ok(())
    }

    /// Waits until a member answers that it is well.
    ///
    /// # Errors
    ///
    /// It ended, or did not do so in time.
    pub fn serves(&mut self, at: usize) -> Result<()> {
        let served = eventually("a member serves", || {
            let process = self.members[at].process.as_mut();
            let process = process.context("it does not run")?;
            // Who has ended will not serve, however long one waits.
            if let Some(ended) = process.try_wait()? {
                return Ok(Err(anyhow::anyhow!("it ended: {ended}")));
            }
            let answer = self.client(at).get("/health")?;
            ensure!(answer.is_ok(), "{}", answer.body);
            Ok(Ok(()))
        });
        let served = served.and_then(|it| it);
        served.with_context(|| format!("{} said:\n{}", NAMES[at], self.said(at)))
    }

    /// The end of what a member wrote.
    #[must_use]
    pub fn said(&self, at: usize) -> String {
        let log = std::fs::read_to_string(&self.members[at].log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(15)..].join("\n")
    }

    /// A client of a member.
    #[must_use]
    pub fn client(&self, at: usize) -> Gateway {
        let member = &self.members[at];
        match &member.space {
            Some(space) => Gateway::in_space(member.client, Arc::clone(space)),
            None => Gateway::new(member.client),
        }
    }

    /// Where a member's clients connect.
    #[must_use]
    pub fn address(&self, at: usize) -> SocketAddr {
        self.members[at].client
    }

    /// The network, for members that are apart.
    ///
    /// # Errors
    ///
    /// They are on loopback.
    pub fn lan(&self) -> Result<&Lan> {
        self.lan.as_ref().context("they are not apart")
    }

    /// `kill -9`.
    ///
    /// # Errors
    ///
    /// It does not run.
    pub fn kill(&mut self, at: usize) -> Result<()> {
        let mut process = self.members[at].process.take().context("it does not run")?;
        process.kill()?;
        process.wait()?;
        Ok(())
    }

    /// Asks a member to end, as an operator does, and waits for it.
    ///
    /// # Errors
    ///
    /// It does not end in time.
    pub fn stop(&mut self, at: usize) -> Result<ExitStatus> {
        self.signal(at, Signal::TERM)?;
        let process = self.members[at].process.take().context("it does not run")?;
        ended(process).with_context(|| format!("stop {}", NAMES[at]))
    }

    /// Sends a signal to a member: SIGSTOP holds it, SIGCONT lets it go on.
    ///
    /// # Errors
    ///
    /// It does not run.
    pub fn signal(&self, at: usize, signal: Signal) -> Result<()> {
        let process = self.members[at].process.as_ref();
        let process = process.context("it does not run")?;
        signal_process(process.id().into(), signal)
    }

    /// Whether a member's process lives.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn lives(&mut self, at: usize) -> Result<bool> {
        match &mut self.members[at].process {
            Some(process) => Ok(process.try_wait()?.is_none()),
            None => Ok(false),
        }
    }

    /// Who says that it leads, waiting until exactly one does.
    ///
    /// # Errors
    ///
    /// Nobody does, in time.
    pub fn leader(&self) -> Result<usize> {
        eventually("a leader", || {
            let leads = |at: &usize| {
                let asked = self.client(*at).post("maintenance/status", &json!({}));
                asked.is_ok_and(|answer| {
                    // As text: etcd's ids may be beyond what a signed number holds.
                    let (own, leader) =
                        (&answer.body["header"]["member_id"], &answer.body["leader"]);
                    answer.is_ok() && own.is_string() && own == leader
                })
            };
            let leaders: Vec<usize> = (0..SITES).filter(leads).collect();
            ensure!(leaders.len() == 1, "{leaders:?} say that they lead");
            Ok(leaders[0])
        })
    }
}

impl Drop for Trio {
    fn drop(&mut self) {
        for member in &mut self.members {
            if let Some(process) = &mut member.process {
                // The test is over, well or not; an error here would hide its own.
                process.kill().ok();
                process.wait().ok();
            }
        }
    }
}

/// Makes an authority and a certificate for each.
fn certify(folder: &Path) -> Result<()> {
    let cluster = format!("{:016x}", holm_runtime::cluster_id(TOKEN).value());
    let authority = Authority::create(&cluster)?;
    let file = |name: &str| folder.join(name);
    authority.save(&file("authority.pem"), &file("authority-key.pem"))?;
    for name in NAMES {
        let identity = Identity::new(&cluster, name, name)?;
        let issued = authority.issue(&identity, LIFETIME)?;
        issued.save(
            &file(&format!("{name}.pem")),
            &file(&format!("{name}-key.pem")),
        )?;
    }
    Ok(())
}

fn holm_words(at: usize, places: &[Place; SITES], data: &Path, keys: &Path) -> Vec<String> {
    let (name, place) = (NAMES[at], &places[at]);
    let key = |file: &str| keys.join(file).display().to_string();
    let member = |(at, place): (usize, &Place)| format!("{}=https://{}", NAMES[at], place.peer);
    let members: Vec<String> = places.iter().enumerate().map(member).collect();
    let mut words = vec![
        "up".to_owned(),
        format!("--name={name}"),
        format!("--data-dir={}", data.display()),
        format!("--listen={}", place.client),
        format!("--peer={}", place.peer),
        format!("--console={}", place.console),
        format!("--initial-cluster={}", members.join(",")),
        format!("--initial-cluster-token={TOKEN}"),
        "--initial-cluster-state=new".to_owned(),
        format!("--peer-cert-file={}", key(&format!("{name}.pem"))),
        format!("--peer-key-file={}", key(&format!("{name}-key.pem"))),
        format!("--peer-trusted-ca-file={}", key("authority.pem")),
        "--ends-with-input".to_owned(),
    ];
    if !place.via.is_empty() {
        words.push(format!("--peer-via={}", place.via.join(",")));
    }
    words
}

fn etcd_words(at: usize, places: &[Place; SITES], data: &Path) -> Vec<String> {
    let (name, place) = (NAMES[at], &places[at]);
    let member = |(at, place): (usize, &Place)| format!("{}=http://{}", NAMES[at], place.peer);
    let members: Vec<String> = places.iter().enumerate().map(member).collect();
    vec![
        format!("--name={name}"),
        format!("--data-dir={}", data.display()),
        format!("--listen-client-urls=http://{}", place.client),
        format!("--advertise-client-urls=http://{}", place.client),
        format!("--listen-peer-urls=http://{}", place.peer),
        format!("--initial-advertise-peer-urls=http://{}", place.peer),
        format!("--initial-cluster={}", members.join(",")),
        format!("--initial-cluster-token={TOKEN}"),
        "--initial-cluster-state=new".to_owned(),
    ]
}
