//! The cluster that a node belongs to: its members, its token, the certificates of its links.
//!
//! The names are etcd's. One member of the node's own name is a node alone, as etcd's scripts start one.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{bail, ensure};
use holm_base::{ClusterId, NodeId};

use super::{Values, value};

/// Voters that a cluster can have.
const MEMBERS_MAX: usize = 7;

/// A member as `--initial-cluster` names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Member {
    /// Its id, which follows from token and URL.
    pub(crate) node: NodeId,
    /// What it is called.
    pub(crate) name: String,
    /// Where the others reach it.
    pub(crate) url: String,
    /// Where this node dials to reach it, host:port.
    pub(crate) address: String,
}

/// Where the certificate for links lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PeerTls {
    /// The certificate and its chain, PEM.
    pub(crate) certificate: PathBuf,
    /// Its private key, PEM.
    pub(crate) key: PathBuf,
    /// Who signs the others' certificates, PEM.
    pub(crate) authorities: PathBuf,
}

/// What a node of a cluster is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cluster {
    /// The cluster's id.
    pub(crate) cluster: ClusterId,
    /// This node's id.
    pub(crate) node: NodeId,
    /// The token that ids follow from.
    pub(crate) token: String,
    /// All members, this node among them.
    pub(crate) members: Vec<Member>,
    /// The cluster is there already and will take this node in.
    pub(crate) is_joining: bool,
    /// The certificates of links.
    pub(crate) tls: PeerTls,
}

impl Cluster {
    /// This node among the members.
    pub(crate) fn own(&self) -> &Member {
        let own = self.members.iter().find(|member| member.node == self.node);
        own.expect("a cluster is made only of a list with this node in it")
    }

    /// What was said about a cluster by the node of that name; `None` if it is alone.
    ///
    /// # Errors
    ///
    /// A list without this node, a name or an address twice, a plain address, a certificate that is not named.
    pub(super) fn of(values: &Values, name: &str) -> anyhow::Result<Option<Self>> {
        let Some(said) = values.given("initial-cluster") else {
            return Ok(None);
        };
        let source = &said.source;
        let list = values.read_with("initial-cluster", pairs)?;
        let known = || names(&list);
        ensure!(
            list.iter().any(|(member, _url)| member == name),
            "{source}: this node is called {name} and the list names {}: write {name}=URL into it, or set --name \
             to one of them",
            known()
        );
        if list.len() == 1 {
            return Ok(None);
        }
        ensure!(
            list.len() <= MEMBERS_MAX,
            "{source}: {} members are more than the limit of {MEMBERS_MAX}",
            list.len()
        );
        for (at, (member, url)) in list.iter().enumerate() {
            let before = &list[..at];
            ensure!(
                before.iter().all(|(other, _url)| other != member),
                "{source}: {member} is in the list twice: give each member a name and one URL of its own"
            );
            if let Some((other, _url)) = before.iter().find(|(_name, other)| other == url) {
                bail!("{source}: {other} and {member} have the same URL {url}: each needs its own");
            }
            check_url(member, url).map_err(|hint| anyhow::anyhow!("{source}: {hint}"))?;
        }
        let via = via(values, &list, name)?;
        let token = values.text("initial-cluster-token").text;
        let members: Vec<Member> = list
            .into_iter()
            .map(|(name, url)| member(&token, name, url, &via))
            .collect();
        let own = members.iter().find(|member| member.name == name);
        Ok(Some(Self {
            cluster: holm_runtime::cluster_id(&token),
            node: own.expect("looked for above").node,
            token,
            members,
            is_joining: values.read_with("initial-cluster-state", joining)?,
            tls: tls(values)?,
        }))
    }
}

fn member(token: &str, name: String, url: String, via: &BTreeMap<String, String>) -> Member {
    let urls = [url];
    let node = holm_runtime::member_id(token, &urls);
    let [url] = urls;
    let address = via.get(&name).cloned().unwrap_or_else(|| place(&url));
    Member {
        node,
        name,
        url,
        address,
    }
}

/// host:port of a URL that was checked.
pub(crate) fn place(url: &str) -> String {
    let place = url.strip_prefix("https://").unwrap_or(url);
    place.trim_end_matches('/').to_owned()
}

fn names(list: &[(String, String)]) -> String {
    let names: Vec<&str> = list.iter().map(|(name, _url)| name.as_str()).collect();
    names.join(", ")
}

/// `a=https://host:port,b=...`.
fn pairs(text: &str) -> Result<Vec<(String, String)>, String> {
    let pair = |part: &str| {
        let (name, url) = part.trim().split_once('=').ok_or_else(|| {
            format!("`{part}` is no member: write name=https://host:port, commas between")
        })?;
        let urls = value::urls(url)?;
        Ok((value::name(name)?, urls.concat()))
    };
    text.split(',').map(pair).collect()
}

fn check_url(member: &str, url: &str) -> Result<(), String> {
    if url.starts_with("http://") {
        return Err(format!(
            "{member}={url}: sites talk to each other over TLS only: write https://"
        ));
    }
    let port = place(url)
        .rsplit_once(':')
        .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
    if port {
        Ok(())
    } else {
        Err(format!("{member}={url}: write https://host:port"))
    }
}

/// Where this node dials instead, by name.
fn via(
    values: &Values,
    list: &[(String, String)],
    own: &str,
) -> anyhow::Result<BTreeMap<String, String>> {
    let mut via = BTreeMap::new();
    let Some(said) = values.given("peer-via") else {
        return Ok(via);
    };
    let source = &said.source;
    for part in said.text.split(',') {
        let Some((name, address)) = part.trim().split_once('=') else {
            bail!("{source}: `{part}` is no detour: write name=host:port, commas between");
        };
        value::address(address).map_err(|hint| anyhow::anyhow!("{source}: {hint}"))?;
        ensure!(
            name != own && list.iter().any(|(member, _url)| member == name),
            "{source}: {name} is no other member: the list names {}",
            names(list)
        );
        via.insert(name.to_owned(), address.to_owned());
    }
    Ok(via)
}

/// Whether `--initial-cluster-state` says that the cluster is there already.
fn joining(text: &str) -> Result<bool, String> {
    match text {
        "new" => Ok(false),
        "existing" => Ok(true),
        other => Err(format!("`{other}` is neither new nor existing")),
    }
}

fn tls(values: &Values) -> anyhow::Result<PeerTls> {
    let file = |name: &'static str| {
        let Some(said) = values.given(name) else {
            bail!(
                "--initial-cluster names other sites, and sites talk over TLS only: add --{name} (`holm up --sites 3` \
                 makes all of this by itself)"
            );
        };
        let path = PathBuf::from(&said.text);
        ensure!(
            path.is_file(),
            "{}: there is no file {}",
            said.source,
            path.display()
        );
        Ok(path)
    };
    Ok(PeerTls {
        certificate: file("peer-cert-file")?,
        key: file("peer-key-file")?,
        authorities: file("peer-trusted-ca-file")?,
    })
}

/// Settings of a cluster that a node alone was given, for the log.
pub(super) fn remarks(values: &Values) -> Vec<String> {
    let names = [
        "initial-cluster-state",
        "initial-cluster-token",
        "peer-cert-file",
        "peer-key-file",
        "peer-trusted-ca-file",
        "peer-via",
    ];
    let said = names.iter().filter_map(|name| values.said.get(name));
    said.map(|said| {
        let (source, text) = (&said.source, &said.text);
        format!("{source}={text} has no meaning for a node alone and is ignored")
    })
    .collect()
}
