//! Which sites there are, and where: decided once, and then kept in the folder.
//!
//! A site's id follows from its address for the others and the cluster's token, so both must stay what they were as
//! long as the data do. They are in `sites.json`, and a later start takes them from there.

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use serde::{Deserialize, Serialize};

use super::ports::Ports;
use crate::config::SitesBase;

const FILE: &str = "sites.json";
const VERSION: u32 = 1;
/// From one site's ports to the next one's.
const PORTS_APART: u16 = 100;
/// What a site is called if nobody says.
const NAMES: [&str; 7] = ["a", "b", "c", "d", "e", "f", "g"];

/// All sites of a folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Plan {
    version: u32,
    /// What tells this cluster from others.
    pub(super) token: String,
    /// The sites in their order.
    pub(super) sites: Vec<Site>,
}

/// One site.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Site {
    /// What it is called.
    pub(super) name: String,
    /// The site that it is one of the nodes of, where a site has several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) of: Option<String>,
    /// Where etcd clients connect.
    pub(super) client: SocketAddr,
    /// Where the other sites connect, through a cable.
    pub(super) peer: SocketAddr,
    /// Where health and metrics are.
    pub(super) console: SocketAddr,
}

impl Site {
    /// As it was said: `NAME`, or `SITE/NAME`.
    fn word(&self) -> String {
        match &self.of {
            Some(of) => format!("{of}/{}", self.name),
            None => self.name.clone(),
        }
    }

    /// The site that it is of, itself where it is one.
    pub(super) fn site(&self) -> &str {
        self.of.as_ref().unwrap_or(&self.name)
    }

    /// The URL that stands for it in the list of members.
    pub(super) fn peer_url(&self) -> String {
        format!("https://{}", self.peer)
    }

    /// Where its data and its log lie.
    pub(super) fn folder(&self, data_dir: &Path) -> PathBuf {
        data_dir.join(&self.name)
    }
}

impl Plan {
    /// The plan that the folder holds, or a new one, which is to be [kept](Plan::keep). For port 0, `ports` finds
    /// addresses and holds them.
    ///
    /// # Errors
    ///
    /// A folder of something else, and words that differ from what the folder holds.
    pub(super) fn settle(
        base: &SitesBase,
        said: &[String],
        ports: &mut Ports,
    ) -> anyhow::Result<Self> {
        let path = base.data_dir.join(FILE);
        if !path.exists() {
            refuse_other_data(&base.data_dir)?;
            return Self::new(base, said, ports);
        }
        let plan = Self::read(&path)?;
        let remedy = format!(
            "{} holds the data of sites {}: start those, or choose another --data-dir",
            base.data_dir.display(),
            plan.words().join(", ")
        );
        ensure!(plan.words() == said, "{remedy}");
        if base.is_said && base.listen.port() != 0 {
            let first = &plan.sites[0];
            let found = (first.client, first.peer, first.console);
            ensure!(
                found == (base.listen, base.peer, base.console),
                "{remedy}. Their addresses cannot change: the first has --listen {} --peer {} --console {}",
                first.client,
                first.peer,
                first.console
            );
        }
        Ok(plan)
    }

    /// Has the folder hold the plan, if it holds none yet.
    ///
    /// # Errors
    ///
    /// It cannot be written.
    pub(super) fn keep(&self, data_dir: &Path) -> anyhow::Result<()> {
        let path = data_dir.join(FILE);
        if path.exists() {
            return Ok(());
        }
        let text = serde_json::to_string_pretty(self)?;
        let fresh = path.with_extension("new");
        fs::write(&fresh, text + "\n")
            .and_then(|()| fs::rename(&fresh, &path))
            .with_context(|| format!("write {}", path.display()))
    }

    fn read(path: &Path) -> anyhow::Result<Self> {
        let wrong = || format!("read {}", path.display());
        let text = fs::read_to_string(path).with_context(wrong)?;
        let plan: Self = serde_json::from_str(&text).with_context(wrong)?;
        ensure!(
            plan.version == VERSION,
            "{} has format {}, this holm reads {VERSION}: use the release that wrote it",
            path.display(),
            plan.version
        );
        ensure!(
            (2..=NAMES.len()).contains(&plan.sites.len()),
            "{} names {} sites, which nobody can start: put the file back as it was",
            path.display(),
            plan.sites.len()
        );
        Ok(plan)
    }

    fn new(base: &SitesBase, names: &[String], ports: &mut Ports) -> anyhow::Result<Self> {
        let counted = |first, at| counted(first, at, names.len());
        let mut free = Vec::new();
        if base.listen.port() == 0 {
            free = ports.find(names.len() * 3)?;
        }
        let mut sites = Vec::new();
        for (at, name) in names.iter().enumerate() {
            let (client, peer, console) = match free.get(at * 3..at * 3 + 3) {
                Some(free) => (free[0], free[1], free[2]),
                None => (
                    counted(base.listen, at)?,
                    counted(base.peer, at)?,
                    counted(base.console, at)?,
                ),
            };
            let (of, name) = match name.split_once('/') {
                Some((of, name)) => (Some(of.to_owned()), name),
                None => (None, name.as_str()),
            };
            sites.push(Site {
                name: name.to_owned(),
                of,
                client,
                peer,
                console,
            });
        }
        let mut taken = BTreeSet::new();
        for address in sites.iter().flat_map(|it| [it.client, it.peer, it.console]) {
            ensure!(
                taken.insert(address),
                "two listeners would have {address}: choose --listen, --peer and --console further apart"
            );
        }
        Ok(Self {
            version: VERSION,
            token: token()?,
            sites,
        })
    }

    /// Where a site serves streams, if the first serves them there.
    ///
    /// # Errors
    ///
    /// Ports that end too high, and addresses that sites have for something else.
    pub(super) fn streams(&self, first: SocketAddr) -> anyhow::Result<Vec<SocketAddr>> {
        let count = self.sites.len();
        let places: Vec<_> = (0..count)
            .map(|at| counted(first, at, count))
            .collect::<anyhow::Result<_>>()?;
        for site in &self.sites {
            for taken in [site.client, site.peer, site.console] {
                ensure!(
                    first.port() == 0 || !places.contains(&taken),
                    "two listeners would have {taken}: choose another --streams-listen"
                );
            }
        }
        Ok(places)
    }

    /// The names in their order.
    pub(super) fn names(&self) -> Vec<String> {
        self.sites.iter().map(|site| site.name.clone()).collect()
    }

    fn words(&self) -> Vec<String> {
        self.sites.iter().map(Site::word).collect()
    }

    /// The list of members as nodes are told.
    pub(super) fn initial_cluster(&self) -> String {
        let members = self.sites.iter();
        let members = members.map(|site| format!("{}={}", site.name, site.peer_url()));
        members.collect::<Vec<_>>().join(",")
    }

    /// The id that all sites will compute for their cluster.
    pub(super) fn cluster(&self) -> holm_base::ClusterId {
        holm_runtime::cluster_id(&self.token)
    }
}

/// The address of one of so many sites, counted up from the first one's; port 0 stays.
fn counted(first: SocketAddr, at: usize, count: usize) -> anyhow::Result<SocketAddr> {
    let apart = if first.port() == 0 { 0 } else { PORTS_APART };
    let port = u16::try_from(at)
        .ok()
        .and_then(|at| first.port().checked_add(at * apart));
    let too_high = || format!("{first}: the ports of {count} sites end above 65535");
    Ok(SocketAddr::new(first.ip(), port.with_context(too_high)?))
}

/// The names of that many sites: those that were said, or letters.
///
/// # Errors
///
/// Names that cannot be folders, certificates and words of a command line, or too few of them.
pub(super) fn names(count: Option<u8>, said: Option<&str>) -> anyhow::Result<Vec<String>> {
    let Some(said) = said else {
        let names = NAMES.iter().take(usize::from(count.unwrap_or(0)));
        return Ok(names.map(|&name| name.to_owned()).collect());
    };
    let names: Vec<String> = said.split(',').map(|it| it.trim().to_owned()).collect();
    let node = |word: &str| word.rsplit_once('/').map_or(word, |it| it.1).to_owned();
    let mut nodes: Vec<String> = Vec::new();
    for word in &names {
        let sign = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        let is_name = |name: &str| {
            (1..=32).contains(&name.len()) && name.bytes().all(sign) && !name.starts_with('-')
        };
        let fits = match word.split_once('/') {
            Some((site, name)) => is_name(site) && is_name(name),
            None => is_name(word),
        };
        ensure!(
            fits,
            "--names: `{word}` is no site: 1 to 32 letters, digits, - or _; a node of a site of several is SITE/NODE"
        );
        let name = node(word);
        ensure!(
            name != "pki",
            "--names: pki is the folder of the certificates"
        );
        ensure!(!nodes.contains(&name), "--names: {name} is there twice");
        nodes.push(name);
    }
    let fits = (2..=NAMES.len()).contains(&names.len());
    ensure!(
        fits,
        "--names: 2 to {} sites, not {}",
        NAMES.len(),
        names.len()
    );
    if let Some(count) = count
        && usize::from(count) != names.len()
    {
        bail!("--sites {count} and --names {said}: name as many, or leave --sites out");
    }
    Ok(names)
}

/// A folder with a node's own data is no place for several.
fn refuse_other_data(data_dir: &Path) -> anyhow::Result<()> {
    for name in ["identity", "log", "kv", "member"] {
        ensure!(
            !data_dir.join(name).exists(),
            "{} holds the data of one node alone: choose another --data-dir for the sites",
            data_dir.display()
        );
    }
    Ok(())
}

/// Whether a folder holds sites, for who would start one node in it.
pub(crate) fn holds_sites(data_dir: &Path) -> bool {
    data_dir.join(FILE).is_file()
}

fn token() -> anyhow::Result<String> {
    let mut random = [0; 8];
    rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())
        .context("draw a token for the cluster")?;
    Ok(format!("holm-{:016x}", u64::from_le_bytes(random)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base(data_dir: &Path, ports: [u16; 3]) -> SitesBase {
        let [listen, peer, console] = ports.map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        SitesBase {
            data_dir: data_dir.to_owned(),
            listen,
            peer,
            console,
            streams: None,
            is_said: ports != [2379, 2380, 2381],
        }
    }

    fn settle(base: &SitesBase, said: &[String]) -> anyhow::Result<Plan> {
        let plan = Plan::settle(base, said, &mut Ports::default())?;
        plan.keep(&base.data_dir)?;
        Ok(plan)
    }

    fn letters(count: u8) -> Vec<String> {
        names(Some(count), None).unwrap()
    }

    #[test]
    fn ports_are_counted_up_and_kept() {
        let folder = tempfile::tempdir().unwrap();
        let base = |ports| base(folder.path(), ports);
        let usual = [2379, 2380, 2381];
        let plan = settle(&base(usual), &letters(3)).unwrap();
        let ports: Vec<u16> = plan.sites.iter().map(|site| site.client.port()).collect();
        assert_eq!(ports, [2379, 2479, 2579]);
        assert_eq!(plan.sites[2].console.port(), 2581);
        let streams = plan.streams("127.0.0.1:2385".parse().unwrap()).unwrap();
        assert_eq!(streams[2].port(), 2585);
        let taken = plan.streams("127.0.0.1:2279".parse().unwrap());
        let taken = taken.unwrap_err().to_string();
        assert!(taken.contains("127.0.0.1:2379: choose"), "{taken}");
        assert_eq!(settle(&base(usual), &letters(3)).unwrap(), plan);
        assert!(holds_sites(folder.path()));
        let fewer = settle(&base(usual), &letters(2)).unwrap_err().to_string();
        assert!(
            fewer.contains("holds the data of sites a, b, c: start those"),
            "{fewer}"
        );
        let moved = settle(&base([3379, 3380, 3381]), &letters(3)).unwrap_err();
        assert!(
            moved
                .to_string()
                .contains("the first has --listen 127.0.0.1:2379")
        );
    }

    #[test]
    fn free_ports_are_taken_for_port_0_and_kept() {
        let folder = tempfile::tempdir().unwrap();
        let base = base(folder.path(), [0, 0, 0]);
        let plan = settle(&base, &letters(3)).unwrap();
        assert!(plan.sites.iter().all(|site| site.client.port() != 0));
        assert_eq!(settle(&base, &letters(3)).unwrap(), plan);
    }

    #[test]
    fn a_site_may_have_several_nodes_and_that_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let said = names(None, Some("a/a1,a/a2,b")).unwrap();
        let plan = settle(&base(folder.path(), [2379, 2380, 2381]), &said).unwrap();
        assert_eq!(plan.names(), ["a1", "a2", "b"]);
        let sites: Vec<&str> = plan.sites.iter().map(Site::site).collect();
        assert_eq!(sites, ["a", "a", "b"]);
        let again = settle(&base(folder.path(), [2379, 2380, 2381]), &said).unwrap();
        assert_eq!(again, plan);
        let other = names(None, Some("a1,a2,b")).unwrap();
        let error = settle(&base(folder.path(), [2379, 2380, 2381]), &other);
        let error = error.unwrap_err().to_string();
        assert!(
            error.contains("holds the data of sites a/a1, a/a2, b"),
            "{error}"
        );
    }

    #[test]
    fn places_that_cannot_be_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let error = |ports| {
            let settled = settle(&base(folder.path(), ports), &letters(7));
            settled.unwrap_err().to_string()
        };
        assert!(error([65_500, 2380, 2381]).contains("end above 65535"));
        assert!(error([2380, 2380, 2381]).contains("two listeners would have 127.0.0.1:2380"));
        fs::create_dir(folder.path().join("kv")).unwrap();
        assert!(error([2379, 2380, 2381]).contains("the data of one node alone"));
    }

    #[test]
    fn names_are_folders_and_words() {
        let refusal = |count, said| names(count, Some(said)).unwrap_err().to_string();
        assert_eq!(
            names(None, Some("oslo, bergen")).unwrap(),
            ["oslo", "bergen"]
        );
        assert!(refusal(None, "a,../b").contains("`../b` is no site"));
        assert!(refusal(None, "a,pki").contains("pki is the folder"));
        assert!(refusal(None, "a,b,a").contains("a is there twice"));
        assert!(refusal(None, "a").contains("2 to 7 sites, not 1"));
        assert!(refusal(None, "a/x,b/x").contains("x is there twice"));
        assert!(refusal(None, "a/b/c,d").contains("SITE/NODE"));
        assert!(refusal(Some(3), "a,b").contains("name as many"));
    }
}
