//! The cluster that a node belongs to: its members, its token, the certificates of its links.
//!
//! The names are etcd's. One member of the node's own name is a node alone, as etcd's scripts start one.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{bail, ensure};
use holm_base::{ClusterId, NodeId};
use holm_link::JoinToken;

use super::layer::Said;
use super::{Values, value};
use crate::join::{Kept, Wish};

/// Voters that a cluster can have.
const MEMBERS_MAX: usize = 7;

/// How long certificates may be good.
const LIFETIME_MIN: Duration = Duration::from_secs(5);
const LIFETIME_MAX: Duration = Duration::from_secs(8_760 * 3_600);

/// Settings that a site keeps when it founds or joins, and that hold from then on where nobody says otherwise.
pub(super) const KEPT: [&str; 7] = [
    "name",
    "site",
    "peer",
    "listen",
    "console",
    "advertise-client-urls",
    "initial-advertise-peer-urls",
];

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
    /// The cluster's name, if its sites join by tokens and sign each other's certificates.
    pub(crate) site: Option<String>,
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
            site: None,
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

/// Settings that a cluster made by hand needs, and one that is founded or joined makes by itself.
pub(super) const BY_HAND: [&str; 7] = [
    "initial-cluster",
    "initial-cluster-state",
    "initial-cluster-token",
    "peer-cert-file",
    "peer-key-file",
    "peer-trusted-ca-file",
    "peer-via",
];

/// What was said about a cluster whose sites join by tokens.
///
/// # Errors
///
/// Both ways at once, a token that is none, a name that the data directory does not keep.
pub(super) fn wish(values: &Values, kept: Option<Kept>) -> anyhow::Result<Wish> {
    let found = values.given("cluster");
    let join = values.given("join");
    if let (Some(found), Some(join)) = (&found, &join) {
        let (found, join) = (&found.source, &join.source);
        bail!("{found} founds a cluster and {join} joins one: leave one of them out");
    }
    let snapshot = values.given("from-snapshot");
    if let Some(snapshot) = &snapshot
        && found.is_none()
        && kept.is_none()
    {
        bail!(
            "{}: it is for who founds a cluster: add --cluster NAME; a node alone is restored with `holm snapshot \
             restore`",
            snapshot.source
        );
    }
    let wanted = [&found, &join].into_iter().flatten().next();
    let is_wished = wanted.is_some() || kept.is_some();
    if let Some(said) = BY_HAND.iter().find_map(|name| values.said.get(name))
        && is_wished
    {
        let source = &said.source;
        match wanted {
            Some(wanted) => bail!(
                "{source}: {} makes this by itself: leave it out",
                wanted.source
            ),
            None => bail!(
                "{source}: this data directory is of a cluster that makes this by itself: leave it out"
            ),
        }
    }
    let read = |said: &Said| {
        let token = said.text.parse::<JoinToken>();
        token.map_err(|error| anyhow::anyhow!("{}: {error}", said.source))
    };
    let join = join.as_ref().map(read).transpose()?;
    let lifetime = values.read_with("peer-cert-ttl", value::seconds)?;
    ensure!(
        (LIFETIME_MIN..=LIFETIME_MAX).contains(&lifetime),
        "{}: certificates are good for 5s to 8760h",
        values.text("peer-cert-ttl").source
    );
    let settings = KEPT.iter().filter_map(|name| {
        let said = values.said.get(name)?;
        Some((*name, said.text.clone()))
    });
    Ok(Wish {
        found: found.map(|said| said.text),
        snapshot: snapshot.map(|said| PathBuf::from(said.text)),
        join,
        lifetime,
        kept,
        settings: settings.collect(),
    })
}

/// Where the others are told to reach a site that founds or joins.
///
/// # Errors
///
/// An address that others cannot dial, a URL that is none.
pub(super) fn own_url(values: &Values, peer: SocketAddr) -> anyhow::Result<String> {
    if let Some(said) = values.given("initial-advertise-peer-urls") {
        let source = &said.source;
        let urls = values.read_with("initial-advertise-peer-urls", value::urls)?;
        let [url] = &urls[..] else {
            bail!(
                "{source}: a site has one URL for the others, and these are {}",
                urls.len()
            );
        };
        check_url("this site", url).map_err(|hint| anyhow::anyhow!("{source}: {hint}"))?;
        return Ok(url.clone());
    }
    let source = values.text("peer").source;
    ensure!(
        !peer.ip().is_unspecified() && peer.port() != 0,
        "{source}: {peer} is no address that other sites can dial: name one, or say with \
         --initial-advertise-peer-urls https://host:port where they reach this site"
    );
    Ok(format!("https://{peer}"))
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
        "peer-cert-ttl",
    ];
    let said = names.iter().filter_map(|name| values.said.get(name));
    said.map(|said| {
        let (source, text) = (&said.source, &said.text);
        format!("{source}={text} has no meaning for a node alone and is ignored")
    })
    .collect()
}
