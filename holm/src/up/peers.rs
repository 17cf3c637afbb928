//! The node's links to the other nodes of its cluster: what the engine says goes out, what they say goes in.
//!
//! The engine starts before the links do, for it knows which run of the node this is. What it says until then is
//! lost, as on any network.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use anyhow::Context;
use holm_base::{GroupId, NodeId};
use holm_etcd::holm::NodeLink;
use holm_etcd::members::Member;
use holm_etcd::services::{self, LinkCertificate, MadeAuthority, Services, TrustedAuthority};
use holm_net::{Class, Deliver, Desk, LinkFiles, Peer, Peers, PeersConfig, Rotating};
use holm_runtime::{ClusterConfig, Keyspaces, MemberConfig, Network, Parcel};
use holm_wire::Frame;

use crate::config::{Cluster, Config};
use crate::join::{self, SiteDesk, SiteFolder};

/// The store's plane, and the version of what is said in it.
const PLANE: u8 = 1;
const VERSION: u16 = 1;

/// The links, once they are there.
#[derive(Debug, Default)]
pub(super) struct Links {
    peers: OnceLock<Peers>,
    certificates: OnceLock<Arc<Rotating>>,
    site: OnceLock<SiteLinks>,
}

/// What the links have besides at a site that joined with a token, or founded.
#[derive(Debug)]
struct SiteLinks {
    folder: SiteFolder,
    cluster: String,
    desk: Arc<SiteDesk>,
}

impl Links {
    /// Listens for the others and dials them. Must be called within a runtime.
    ///
    /// # Errors
    ///
    /// Certificates that cannot be used or are another node's, an address that cannot be had.
    pub(super) fn start(
        &self,
        config: &Config,
        cluster: &Cluster,
        keyspaces: &Keyspaces,
        boot: u64,
    ) -> anyhow::Result<SocketAddr> {
        let desk = self.site(config, cluster)?;
        let certificates = certificates(config, cluster)?;
        self.certificates.get_or_init(|| Arc::clone(&certificates));
        let members = cluster.members.iter();
        let others = members.filter(|member| member.node != cluster.node);
        let peers = others.map(|member| Peer {
            node: member.node,
            name: member.name.clone(),
            address: member.address.clone(),
        });
        let links = PeersConfig {
            boot,
            listen: config.peer,
            peers: peers.collect(),
            election_timeout: config.election_timeout,
            desk: desk.map(|desk| desk as Arc<dyn Desk>),
            ..PeersConfig::new(cluster.cluster, (cluster.node, &config.name), certificates)
        };
        let delivery = Arc::new(Delivery {
            keyspaces: keyspaces.clone(),
        });
        let peers = Peers::start(links, delivery).context("open --peer")?;
        let address = peers.address();
        self.peers.get_or_init(|| peers);
        Ok(address)
    }

    /// The other nodes whose links are up, and their names.
    pub(super) fn reached(&self) -> Vec<(NodeId, String)> {
        let views = self.peers.get().map(Peers::links).unwrap_or_default();
        let up = views.into_iter().filter(|link| link.is_up);
        up.map(|link| (link.node, link.name)).collect()
    }

    /// What a site has that joined with a token, or founded: its desk, for one.
    fn site(&self, config: &Config, cluster: &Cluster) -> anyhow::Result<Option<Arc<SiteDesk>>> {
        let Some(name) = &cluster.site else {
            return Ok(None);
        };
        let folder = SiteFolder::of(&config.data_dir);
        let desk = SiteDesk::new(folder.clone(), name, config.wish.lifetime);
        let site = SiteLinks {
            cluster: name.clone(),
            folder,
            desk: Arc::new(desk),
        };
        let site = self.site.get_or_init(|| site);
        Ok(Some(Arc::clone(&site.desk)))
    }

    /// Opens the desk and looks after the certificate, for as long as the node runs. Ends at once where certificates
    /// come from elsewhere.
    pub(super) async fn tend(&self, services: Services, lifetime: Duration) {
        let (site, certificates) = (self.site.get(), self.certificates.get());
        if let (Some(site), Some(certificates), Some(peers)) =
            (site, certificates, self.peers.get())
        {
            site.desk.open(services.clone());
            let certificates = (Arc::clone(certificates), lifetime);
            join::tend(site.folder.clone(), certificates, peers.clone(), services).await;
        }
    }

    /// Links to whoever becomes a member and to nobody who has left, for as long as the node runs.
    pub(super) async fn follow(&self, services: Services, cluster: Cluster) {
        let mut known = Vec::new();
        while let Ok(members) = services.members_after(&known).await {
            if let Some(peers) = self.peers.get() {
                peers.set_peers(members.iter().filter_map(|it| peer(it, &cluster)).collect());
            }
            known = members;
        }
    }
}

/// A member as links need it; the address is what the command line said of it, if it did.
fn peer(member: &Member, cluster: &Cluster) -> Option<Peer> {
    let said = cluster.members.iter().find(|it| it.node == member.node);
    // What a site keeps of the others is as old as its joining; what flags say may be a detour.
    let is_kept = cluster.site.is_some();
    let address = match (said, member.peer_urls.first()) {
        (Some(said), Some(_)) if !is_kept => said.address.clone(),
        (_, Some(url)) => crate::config::place(url),
        (Some(said), None) => said.address.clone(),
        (None, None) => return None,
    };
    let name = if member.name.is_empty() {
        said.map(|it| it.name.clone()).unwrap_or_default()
    } else {
        member.name.clone()
    };
    Some(Peer {
        node: member.node,
        name,
        address,
    })
}

impl Network for Links {
    fn send(&self, to: NodeId, parcel: Parcel) {
        if let Some(peers) = self.peers.get() {
            let (class, frame) = frame(parcel);
            peers.send(to, class, frame);
        }
    }

    fn send_here(&self, to: NodeId, parcels: &mut Vec<Parcel>) {
        let frames = parcels.drain(..).map(frame);
        if let Some(peers) = self.peers.get() {
            peers.send_here(to, frames);
        }
    }
}

/// A parcel as links carry it.
fn frame(parcel: Parcel) -> (Class, Frame) {
    let class = if parcel.is_control {
        Class::Control
    } else {
        Class::Bulk
    };
    let frame = Frame {
        kind: parcel.kind,
        plane: PLANE,
        version: VERSION,
        group: parcel.group.value(),
        body: parcel.body,
    };
    (class, frame)
}

impl services::Links for Links {
    fn links(&self) -> Vec<NodeLink> {
        let views = self.peers.get().map_or_else(Vec::new, Peers::links);
        let link = |view: holm_net::LinkView| NodeLink {
            node: view.node.value(),
            name: view.name,
            address: view.address,
            is_up: view.is_up,
            for_ms: u64::try_from(view.since.elapsed().as_millis()).unwrap_or(u64::MAX),
            round_trip_us: view
                .rtt
                .map(|rtt| u64::try_from(rtt.as_micros()).unwrap_or(u64::MAX)),
            dropped: view.dropped,
            error: view.error.unwrap_or_default(),
        };
        let mut links: Vec<NodeLink> = views.into_iter().map(link).collect();
        links.sort_by(|one, two| one.name.cmp(&two.name));
        links
    }

    fn certificate(&self) -> Option<LinkCertificate> {
        let certificates = self.certificates.get()?;
        let site = self.site.get();
        Some(LinkCertificate {
            until: seconds(certificates.term().until),
            fingerprint: site.and_then(|_site| certificates.signed_by()),
            is_authority: site.is_some_and(|site| site.folder.authority_key().exists()),
        })
    }

    fn trusted(&self) -> Vec<TrustedAuthority> {
        let trusted = self.certificates.get().map(|it| it.trusted());
        let shown = |it: holm_net::Trusted| TrustedAuthority {
            fingerprint: it.fingerprint,
            until: seconds(it.until),
        };
        trusted.unwrap_or_default().into_iter().map(shown).collect()
    }

    fn next_authority(&self, known: &[[u8; 32]]) -> Result<MadeAuthority, String> {
        let site = self.site.get().ok_or("there are no links yet")?;
        let made = join::next_authority(&site.folder, &site.cluster, known);
        made.map_err(|error| format!("make the next authority: {error:#}"))
    }

    fn wall_seconds(&self) -> u64 {
        seconds(SystemTime::now())
    }
}

/// Seconds since 1970.
fn seconds(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

fn certificates(config: &Config, cluster: &Cluster) -> anyhow::Result<Arc<Rotating>> {
    if cluster.site.is_some() {
        let files = SiteFolder::of(&config.data_dir).link_files();
        return Rotating::load(files).context("read the site's certificate");
    }
    let files = LinkFiles {
        certificate: cluster.tls.certificate.clone(),
        key: cluster.tls.key.clone(),
        authorities: cluster.tls.authorities.clone(),
    };
    Rotating::load(files).context("--peer-cert-file, --peer-key-file, --peer-trusted-ca-file")
}

/// Takes what comes to the engines.
#[derive(Debug)]
struct Delivery {
    keyspaces: Keyspaces,
}

impl Deliver for Delivery {
    fn deliver(&self, from: NodeId, frames: &mut Vec<Frame>) {
        let mut spoken_to = Vec::new();
        for frame in frames.drain(..) {
            let message = (frame.kind, &frame.body);
            let group = GroupId::new(frame.group);
            if let Err(error) = self.keyspaces.hear(from, group, message) {
                tracing::warn!(%from, kind = frame.kind, %error, "a message that is none was dropped");
            } else if !spoken_to.contains(&group) {
                spoken_to.push(group);
            }
        }
        for group in spoken_to {
            self.keyspaces.attend(group);
        }
    }

    fn hung_up(&self, from: NodeId) {
        self.keyspaces.suspect(from);
    }
}

/// What the node's threads are told of its cluster.
pub(super) fn cluster_config(
    config: &Config,
    cluster: &Cluster,
    links: &Arc<Links>,
) -> ClusterConfig {
    let member = |member: &crate::config::Member| MemberConfig {
        node: member.node,
        name: member.name.clone(),
        peer_urls: vec![member.url.clone()],
    };
    let network: Arc<dyn Network> = Arc::<Links>::clone(links);
    ClusterConfig {
        cluster: cluster.cluster,
        node: cluster.node,
        token: cluster.token.clone(),
        members: cluster.members.iter().map(member).collect(),
        is_joining: cluster.is_joining,
        election_timeout: config.election_timeout,
        request_timeout: ClusterConfig::request_timeout_of(config.election_timeout),
        heartbeat_interval: config.heartbeat,
        network,
    }
}
