//! Opening one keyspace: its doors first, so that its address is known, then its threads.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use holm_base::{GroupId, NodeId};
use holm_etcd::front::Front;
use holm_etcd::keyspaces::{Entry, Islands};
use holm_etcd::services::Services;
use holm_kv::IslandConfig;
use holm_local_first::{Exists, Rules, Schema, Type};
use holm_net::{Limits, ListenConfig, Listener};
use holm_replica::Shores;
use holm_runtime::{KeyspaceConfig, MemberConfig, keyspace_cluster_id};
use holm_telemetry::Metrics;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::Means;
use super::kept::Kept;
use crate::command::ETCD_VERSION;
use crate::config::Tls;
use crate::up::{alarms, compaction, parts, serve};

/// How long requests in hand may take once the doors close.
const GRACE: Duration = Duration::from_secs(5);

/// Where ports for keyspaces begin, from that of keyspace `default`, and how many are tried: sites of one machine are
/// a hundred apart.
const PORTS_BEGIN: u16 = 10;
const PORTS: u16 = 80;

/// A keyspace that is served here.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) name: String,
    /// Its number in the log and the files of this node.
    pub(super) place: GroupId,
    pub(super) services: Services,
    /// Where clients reach it.
    pub(super) urls: Vec<String>,
    stop: watch::Sender<bool>,
    serving: JoinSet<()>,
    helpers: JoinSet<()>,
}

impl Open {
    /// Closes the doors, lets requests in hand be answered, and ends what looks after the keyspace.
    pub(super) async fn shut(self) {
        let Self {
            stop,
            mut serving,
            helpers,
            ..
        } = self;
        drop(helpers);
        stop.send_replace(true);
        let all_left = async { while serving.join_next().await.is_some() {} };
        // What has not left by then is cut off as the set is dropped.
        tokio::time::timeout(GRACE, all_left).await.ok();
    }
}

/// Opens a keyspace at this site.
///
/// # Errors
///
/// If an address cannot be had, or its files or its part of the log cannot be read.
pub(super) async fn open(
    means: &Means,
    entry: &Entry,
    (node, members): (NodeId, Vec<MemberConfig>),
    kept: &mut Kept,
) -> anyhow::Result<Open> {
    let place = entry.place(node);
    let listeners = listeners(means, entry, node, kept)?;
    let bound: Vec<SocketAddr> = listeners.iter().map(Listener::address).collect();
    kept.keep(place, bound.clone())?;
    let urls: Vec<String> = bound.iter().map(|it| url(means, *it)).collect();
    let metrics = Arc::new(Metrics::new(env!("CARGO_PKG_VERSION"), ETCD_VERSION));
    let mut config = KeyspaceConfig {
        group: entry.group(),
        place,
        name: entry.name.clone(),
        cluster: keyspace_cluster_id(means.cluster(), entry.group()),
        client_urls: urls.clone(),
        members,
        // An island is a group of its own: nobody votes it in, but a node that came to its site later.
        is_joining: match &entry.islands {
            None => !entry.is_founder(node),
            Some(islands) => islands.late.contains(&node.value()),
        },
        kv: parts::engine(&means.config),
        shores: None,
        metrics: Arc::clone(&metrics),
    };
    if let Some(islands) = &entry.islands {
        make_island(&mut config, islands, node)?;
    }
    let keyspaces = means.keyspaces.clone();
    let opened = tokio::task::spawn_blocking(move || keyspaces.open(config));
    let handle = opened.await.context("open the keyspace")??;
    let links = Arc::clone(&means.links);
    let (front, services) =
        parts::keyspace_front(&means.config, (&handle, links), &means.room, &metrics)?;
    super::islands::set_door(&services, entry, node);
    let mut helpers = JoinSet::new();
    helpers.spawn(alarms::tell(handle.clone()));
    helpers.spawn(compaction::keep(handle, means.config.retention));
    let tended = services.clone();
    helpers.spawn(async move { tended.tend().await });
    let (stop, stopped) = watch::channel(false);
    Ok(Open {
        name: entry.name.clone(),
        place,
        services,
        urls,
        stop,
        serving: serve_all(listeners, &front, &stopped),
        helpers,
    })
}

/// A local-first keyspace is a cluster of its own at each site, of the nodes that this has, which exchanges what was
/// written with the others.
fn make_island(config: &mut KeyspaceConfig, islands: &Islands, node: NodeId) -> anyhow::Result<()> {
    // One that was left out has what it had, and is shut.
    let own = islands.last_slot(node.value());
    let own = own.context("this site has no slot in the keyspace")?;
    let peers = islands.heard_at_first(own);
    let mut peers: Vec<_> = peers
        .map(|(slot, node)| (slot, NodeId::new(node)))
        .collect();
    peers.sort_unstable_by_key(|(slot, _)| *slot);
    // Clients that were moved to another site find another cluster there, and do not go on with its revisions.
    let place = GroupId::new(u32::from(own.value()));
    config.cluster = keyspace_cluster_id(config.cluster, place);
    // Its nodes are one group: who follows has what the leader acknowledged.
    let nodes = islands.slots.iter().chain(&islands.away);
    let nodes = nodes.filter(|(_, it)| **it == own.value());
    let nodes = nodes.map(|(node, _)| *node);
    let first: Vec<u64> = nodes
        .filter(|it| config.is_joining || !islands.late.contains(it))
        .collect();
    config.members.retain(|it| first.contains(&it.node.value()));
    let since = islands.table()?.active().get(&own).copied();
    let kind = Type::named(&islands.merge);
    let rules = Rules {
        kind: kind.with_context(|| format!("this release has no type {}", islands.merge))?,
        schema: match islands.schema.as_str() {
            "" => Schema::default(),
            schema => Schema::parse(schema.as_bytes())?,
        },
        exists: match islands.exists.as_str() {
            "" => Exists::AddWins,
            "delete-wins" => Exists::DeleteWins,
            other => anyhow::bail!("this release does not know what {other} means for deletes"),
        },
    };
    config.kv.island = Some(IslandConfig {
        slot: own,
        epoch: 1,
        since_unix_ms: since.unwrap_or(islands.since_unix_ms),
        rules,
        updates_bytes_max: holm_local_first::UPDATES_BYTES_MAX,
    });
    config.shores = Some(Shores::new(peers));
    Ok(())
}

fn serve_all(
    listeners: Vec<Listener>,
    front: &Front,
    stopped: &watch::Receiver<bool>,
) -> JoinSet<()> {
    let mut serving = JoinSet::new();
    for listener in listeners {
        serve::clients(&mut serving, listener, front, stopped);
    }
    serving
}

/// Listens where it was told to, where it did before, or at a free port beside that of keyspace `default`.
fn listeners(
    means: &Means,
    entry: &Entry,
    node: NodeId,
    kept: &Kept,
) -> anyhow::Result<Vec<Listener>> {
    if let Some(told) = entry.listen.get(&node.value()) {
        let told = told.iter().map(|text| text.parse::<SocketAddr>());
        let told: Vec<SocketAddr> = told.collect::<Result<_, _>>().context("read --listen")?;
        return told.into_iter().map(|it| listener(means, it)).collect();
    }
    if let Some(before) = kept.listen(entry.place(node)) {
        return before.iter().map(|it| listener(means, *it)).collect();
    }
    let beside = means.config.listen.first();
    let beside = beside.context("this site has no address for clients")?;
    let free = ports_beside(beside.port(), entry.id);
    let mut free = free.map(|port| listener(means, SocketAddr::new(beside.ip(), port)));
    match free.find(Result::is_ok) {
        Some(found) => Ok(vec![found?]),
        None => Ok(vec![listener(means, SocketAddr::new(beside.ip(), 0))?]),
    }
}

/// Ports to try: close to that of keyspace `default`, for those that the system chooses are also what it gives to
/// connections that go out, and a port that is kept must be free at the next start too.
fn ports_beside(port: u16, id: u32) -> impl Iterator<Item = u16> {
    let first = u16::try_from(id % u32::from(PORTS)).unwrap_or(0);
    let offsets = (0..PORTS).map(move |at| PORTS_BEGIN + (first + at) % PORTS);
    offsets.filter_map(move |offset| port.checked_add(offset))
}

fn listener(means: &Means, address: SocketAddr) -> anyhow::Result<Listener> {
    let config = ListenConfig {
        address,
        certificates: means.certificates.clone(),
        room: means.room.clone(),
        limits: Limits::default(),
    };
    Ok(Listener::bind(config)?)
}

/// What clients are told: where keyspace `default` is told to be elsewhere than it listens, so is this.
fn url(means: &Means, address: SocketAddr) -> String {
    let config = &means.config;
    let scheme = if config.tls == Tls::Off {
        "http"
    } else {
        "https"
    };
    let is_beside = config
        .listen
        .first()
        .is_some_and(|it| it.ip() == address.ip());
    let told = config.client_urls.first().filter(|_| is_beside);
    let host = told.and_then(|url| {
        let (_scheme, place) = url.split_once("://")?;
        let (host, _port) = place.rsplit_once(':')?;
        Some(host)
    });
    match host {
        Some(host) => format!("{scheme}://{host}:{}", address.port()),
        None => format!("{scheme}://{address}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_close_and_each_is_tried_once() {
        let mut ports: Vec<u16> = ports_beside(2379, 2).collect();
        assert_eq!(ports[0], 2391);
        ports.sort_unstable();
        assert_eq!(ports, (2389..2469).collect::<Vec<u16>>());
        assert_eq!(ports_beside(65_530, 2).count(), 0, "there are none");
    }
}
