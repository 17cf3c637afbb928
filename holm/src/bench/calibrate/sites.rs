//! Three sites of this program on free ports of loopback, each a process of its own, linked directly.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use serde_json::Value;

use crate::probe;

/// How long they may take to serve.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(20);
pub(super) const COUNT: usize = 3;

/// One of them; it ends with this value.
#[derive(Debug)]
pub(super) struct Site {
    child: Child,
    /// Where clients connect.
    pub(super) client: String,
}

impl Site {
    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    /// How often its log was synced, and how many seconds that took.
    pub(super) fn syncs(&self) -> Option<(f64, f64)> {
        let text = probe::fetch(&self.client, "/metrics")?;
        let of = |part: &str| {
            probe::metric(
                &text,
                &format!("etcd_disk_wal_fsync_duration_seconds_{part}"),
            )
        };
        Some((of("count")?, of("sum")?))
    }

    /// What a metric of it says.
    fn metric(&self, name: &str) -> Option<f64> {
        probe::metric(&probe::fetch(&self.client, "/metrics")?, name)
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        // What was measured is known; there is nobody left to tell.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// All of them.
#[derive(Debug)]
pub(super) struct Sites {
    sites: Vec<Site>,
}

/// Where a site listens.
#[derive(Clone, Debug)]
struct Place {
    name: String,
    client: SocketAddr,
    peer: SocketAddr,
    console: SocketAddr,
}

impl Sites {
    /// Starts them in a folder of their own and waits until one leads.
    pub(super) fn start(folder: &Path) -> anyhow::Result<Self> {
        fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
        let folder = folder
            .canonicalize()
            .with_context(|| format!("find {}", folder.display()))?;
        let program = std::env::current_exe().context("find this program")?;
        let (places, token) = planned(&program, &folder)?;
        let mut sites = Vec::new();
        for place in &places {
            let words = words(place, &places, &token, &folder);
            sites.push(Site {
                child: spawn(
                    &program,
                    &words,
                    &folder.join(format!("{}.log", place.name)),
                )?,
                client: place.client.to_string(),
            });
        }
        let mut started = Self { sites };
        let deadline = Instant::now() + PATIENCE;
        while started.lead().is_err() || !started.all_follow() {
            for (site, place) in started.sites.iter_mut().zip(&places) {
                if let Some(status) = site.child.try_wait()? {
                    let log = folder.join(format!("{}.log", place.name));
                    let log = fs::read_to_string(&log).unwrap_or_default();
                    bail!("site {} ended with {status}:\n{log}", place.name);
                }
            }
            ensure!(
                Instant::now() < deadline,
                "no site led within {} s",
                PATIENCE.as_secs()
            );
            sleep(LOOK_EVERY);
        }
        Ok(started)
    }

    /// Starts one that has no others.
    pub(super) fn alone(folder: &Path) -> anyhow::Result<Self> {
        fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
        let program = std::env::current_exe().context("find this program")?;
        let free = TcpListener::bind("127.0.0.1:0").context("find a free port")?;
        let client = free.local_addr()?;
        drop(free);
        let words = [
            "up".to_owned(),
            format!("--listen={client}"),
            format!("--data-dir={}", folder.join("data").display()),
        ];
        let started = Self {
            sites: vec![Site {
                child: spawn(&program, &words, &folder.join("alone.log"))?,
                client: client.to_string(),
            }],
        };
        let deadline = Instant::now() + PATIENCE;
        while started.lead().is_err() {
            ensure!(Instant::now() < deadline, "a site alone does not serve");
            sleep(LOOK_EVERY);
        }
        Ok(started)
    }

    pub(super) fn all(&self) -> &[Site] {
        &self.sites
    }

    /// Which of them leads.
    pub(super) fn lead(&self) -> anyhow::Result<usize> {
        let leads = |site: &Site| site.metric("etcd_server_is_leader") == Some(1.0);
        self.sites.iter().position(leads).context("no site leads")
    }

    pub(super) fn leader(&self) -> anyhow::Result<&Site> {
        Ok(&self.sites[self.lead()?])
    }

    fn all_follow(&self) -> bool {
        let follows = |site: &Site| site.metric("etcd_server_has_leader") == Some(1.0);
        self.sites.iter().all(follows)
    }
}

/// Lets `holm up --sites` choose ports, a token and certificates, and ends it.
fn planned(program: &Path, folder: &Path) -> anyhow::Result<(Vec<Place>, String)> {
    let made = folder.join("sites");
    let words = [
        "up".to_owned(),
        format!("--sites={COUNT}"),
        "--listen=127.0.0.1:0".to_owned(),
        format!("--data-dir={}", made.display()),
    ];
    let mut child = spawn(program, &words, &folder.join("sites.log"))?;
    let deadline = Instant::now() + PATIENCE;
    let plan = plan_of(&mut child, &made, deadline);
    child.kill().context("end the sites that were planned")?;
    child.wait().context("wait for them")?;
    let (places, token) = plan?;
    let all = places
        .iter()
        .flat_map(|it| [it.client, it.peer, it.console]);
    for address in all {
        // They end by themselves, once they see that nobody runs them.
        while TcpListener::bind(address).is_err() {
            ensure!(Instant::now() < deadline, "{address} is still in use");
            sleep(LOOK_EVERY);
        }
    }
    Ok((places, token))
}

/// What the sites that are being started have chosen, once all of them listen: one that is still
/// on its way to its ports would take them from those that follow.
fn plan_of(
    child: &mut Child,
    made: &Path,
    deadline: Instant,
) -> anyhow::Result<(Vec<Place>, String)> {
    let mut wait_until = |what: &str, holds: &dyn Fn() -> bool| -> anyhow::Result<()> {
        while !holds() {
            let ended = child.try_wait()?;
            ensure!(ended.is_none(), "the sites ended before {what}");
            ensure!(Instant::now() < deadline, "waited in vain until {what}");
            sleep(LOOK_EVERY);
        }
        Ok(())
    };
    // A site's own log is there once everything else is.
    let last = made.join("c").join("holm.log");
    wait_until("they were planned", &|| last.is_file())?;
    let plan = made.join("sites.json");
    let text = fs::read_to_string(&plan).with_context(|| format!("read {}", plan.display()))?;
    let said: Value = serde_json::from_str(&text)?;
    let places = (0..COUNT).map(|at| place(&said["sites"][at]));
    let places: Vec<Place> = places.collect::<anyhow::Result<_>>()?;
    let is_open = |it: &Place| TcpStream::connect(it.client).is_ok();
    wait_until("they listened", &|| places.iter().all(is_open))?;
    let token = said["token"].as_str().context("the sites have a token")?;
    Ok((places, token.to_owned()))
}

/// Where a site is, as the plan has it.
fn place(site: &Value) -> anyhow::Result<Place> {
    let text = |of: &str| {
        let text = site[of].as_str();
        text.with_context(|| format!("a site of the plan has no {of}"))
    };
    let address = |of: &str| -> anyhow::Result<SocketAddr> {
        let text = text(of)?;
        text.parse()
            .with_context(|| format!("{text} is no address"))
    };
    Ok(Place {
        name: text("name")?.to_owned(),
        client: address("client")?,
        peer: address("peer")?,
        console: address("console")?,
    })
}

fn words(place: &Place, places: &[Place], token: &str, folder: &Path) -> Vec<String> {
    let members = places
        .iter()
        .map(|it| format!("{}=https://{}", it.name, it.peer));
    let keys = folder.join("sites").join("pki");
    let name = &place.name;
    let file = |flag: &str, file: String| format!("--{flag}={}", keys.join(file).display());
    vec![
        "up".to_owned(),
        format!("--name={name}"),
        format!("--data-dir={}", folder.join(name).display()),
        format!("--listen={}", place.client),
        format!("--peer={}", place.peer),
        format!("--console={}", place.console),
        format!(
            "--initial-cluster={}",
            members.collect::<Vec<_>>().join(",")
        ),
        format!("--initial-cluster-token={token}"),
        file("peer-cert-file", format!("{name}.pem")),
        file("peer-key-file", format!("{name}-key.pem")),
        file("peer-trusted-ca-file", "authority.pem".to_owned()),
    ]
}

fn spawn(program: &Path, words: &[String], log: &Path) -> anyhow::Result<Child> {
    let log = File::create(log).with_context(|| format!("write {}", log.display()))?;
    let child = Command::new(program)
        .args(words)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn();
    child.context("start a site")
}
