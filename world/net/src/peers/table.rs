//! The member table: who may talk, how it goes with each, and who was refused.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use holm_base::NodeId;
use holm_link::Member;
use holm_wire::{BODY_MAX, Frame};
use tokio::sync::watch;

use crate::peers::connection::Connection;
use crate::peers::lane::Lane;
use crate::peers::{Class, Peer, PeersConfig};

/// Refused connections that are remembered.
const REFUSALS_MAX: usize = 64;
/// A refusal is said again in the log after so long without one.
const REFUSAL_SAID: Duration = Duration::from_secs(60);

/// How a link is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkView {
    /// The other node.
    pub node: NodeId,
    /// Its name.
    pub name: String,
    /// Where it listens.
    pub address: String,
    /// Whether both connections carry frames.
    pub is_up: bool,
    /// Since when it is so.
    pub since: Instant,
    /// The round-trip time of the control connection, smoothed; `None` before the first.
    pub rtt: Option<Duration>,
    /// Connections of either class that were bound so far.
    pub connections: u64,
    /// Frames handed to a connection.
    pub sent: u64,
    /// Frames that came.
    pub received: u64,
    /// Frames that were not sent: queue full, or connection down.
    pub dropped: u64,
    /// Why a connection ended or was refused, the last time.
    pub error: Option<String>,
}

/// A connection that was refused here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusalView {
    /// Where it came from.
    pub address: SocketAddr,
    /// When.
    pub at: Instant,
    /// Why.
    pub reason: String,
}

/// All that is known of the other nodes.
#[derive(Debug)]
pub(crate) struct Table {
    own: NodeId,
    nodes: RwLock<BTreeMap<NodeId, Arc<Node>>>,
    refusals: Mutex<VecDeque<RefusalView>>,
    changes: watch::Sender<u64>,
}

/// Another node.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) id: NodeId,
    lanes: [Lane; 2],
    status: Mutex<Status>,
    /// Becomes true when it is no member any more.
    gone: watch::Sender<bool>,
    changes: watch::Sender<u64>,
}

#[derive(Debug)]
struct Status {
    name: String,
    address: String,
    boot_seen: u64,
    /// Which process of that boot.
    run_seen: Option<[u8; 16]>,
    connections: Vec<Arc<Connection>>,
    connections_count: u64,
    is_up: bool,
    since: Instant,
    error: Option<String>,
}

impl Table {
    pub(crate) fn new(own: NodeId) -> Self {
        Self {
            own,
            nodes: RwLock::new(BTreeMap::new()),
            refusals: Mutex::new(VecDeque::new()),
            changes: watch::Sender::new(0),
        }
    }

    /// Rises whenever a view or the refusals have changed, counts aside.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Takes a new list; gives back who was not in the old one.
    pub(crate) fn replace(&self, peers: Vec<Peer>, config: &PeersConfig) -> Vec<Arc<Node>> {
        let mut nodes = self.nodes.write().unwrap_or_else(PoisonError::into_inner);
        let mut old = std::mem::take(&mut *nodes);
        let mut fresh = Vec::new();
        for peer in peers.into_iter().filter(|peer| peer.node != self.own) {
            let node = match old.remove(&peer.node) {
                Some(node) => {
                    let mut status = node.lock();
                    status.name = peer.name;
                    status.address = peer.address;
                    drop(status);
                    node
                }
                None => {
                    let node = Arc::new(Node::new(peer, config, self.changes.clone()));
                    fresh.push(Arc::clone(&node));
                    node
                }
            };
            nodes.insert(node.id, node);
        }
        drop(nodes);
        for node in old.into_values() {
            node.gone.send_replace(true);
        }
        fresh
    }

    pub(crate) fn node(&self, id: NodeId) -> Option<Arc<Node>> {
        let nodes = self.nodes.read().unwrap_or_else(PoisonError::into_inner);
        nodes.get(&id).map(Arc::clone)
    }

    pub(crate) fn nodes(&self) -> Vec<Arc<Node>> {
        let nodes = self.nodes.read().unwrap_or_else(PoisonError::into_inner);
        nodes.values().map(Arc::clone).collect()
    }

    /// The rows that a link holds a greeting against.
    pub(crate) fn members(&self) -> Vec<Member> {
        let nodes = self.nodes();
        let row = |node: &Arc<Node>| {
            let status = node.lock();
            Member {
                node: node.id,
                name: status.name.clone(),
                boot_seen: status.boot_seen,
                run_seen: status.run_seen,
            }
        };
        nodes.iter().map(row).collect()
    }

    pub(crate) fn views(&self) -> Vec<LinkView> {
        self.nodes().iter().map(|node| node.view()).collect()
    }

    pub(crate) fn refuse(&self, address: SocketAddr, reason: String) {
        let at = Instant::now();
        let mut refusals = self.lock();
        if !is_said(&refusals, (address, &reason), at) {
            tracing::warn!(%address, %reason, "link refused");
        }
        if refusals.len() == REFUSALS_MAX {
            refusals.pop_front();
        }
        refusals.push_back(RefusalView {
            address,
            at,
            reason,
        });
        drop(refusals);
        rise(&self.changes);
    }

    pub(crate) fn refusals(&self) -> Vec<RefusalView> {
        self.lock().iter().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<RefusalView>> {
        self.refusals.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Node {
    fn new(peer: Peer, config: &PeersConfig, changes: watch::Sender<u64>) -> Self {
        Self {
            id: peer.node,
            lanes: [
                Lane::new(config.control_bytes_max),
                Lane::new(config.bulk_bytes_max),
            ],
            status: Mutex::new(Status {
                name: peer.name,
                address: peer.address,
                boot_seen: 0,
                run_seen: None,
                connections: Vec::new(),
                connections_count: 0,
                is_up: false,
                since: Instant::now(),
                error: None,
            }),
            gone: watch::Sender::new(false),
            changes,
        }
    }

    pub(crate) const fn lane(&self, class: Class) -> &Lane {
        let [control, bulk] = &self.lanes;
        match class {
            Class::Control => control,
            Class::Bulk => bulk,
        }
    }

    /// Queues a frame, as [`Lane::push`] does, unless it is longer than a frame may be.
    pub(crate) fn push(&self, class: Class, frame: Frame) -> Option<Arc<Connection>> {
        let lane = self.lane(class);
        let length = frame.body.len();
        if length > BODY_MAX {
            let to = self.id;
            tracing::error!(%to, length, "a frame longer than the limit was dropped");
            lane.count_dropped();
            return None;
        }
        lane.push(frame)
    }

    pub(crate) fn address(&self) -> String {
        self.lock().address.clone()
    }

    /// Counts a bound connection in, and gives back all of this node's with the highest boot
    /// that was seen: the older ones among them are to be fenced. `None` if another process of
    /// that very boot was seen, between this one's greeting and now.
    pub(crate) fn enter(
        &self,
        connection: &Arc<Connection>,
        (boot, run): (u64, [u8; 16]),
    ) -> Option<(Vec<Arc<Connection>>, u64)> {
        let mut status = self.lock();
        if boot > status.boot_seen || status.run_seen.is_none() {
            status.run_seen = Some(run);
        }
        if boot == status.boot_seen && status.run_seen != Some(run) {
            return None;
        }
        status.boot_seen = status.boot_seen.max(boot);
        status.connections.push(Arc::clone(connection));
        status.connections_count += 1;
        rise(&self.changes);
        Some((status.connections.clone(), status.boot_seen))
    }

    /// Counts a connection out.
    pub(crate) fn leave(&self, connection: &Arc<Connection>) {
        let mut status = self.lock();
        status
            .connections
            .retain(|other| !Arc::ptr_eq(other, connection));
    }

    /// Looks whether the link is up now, and says when that changes.
    pub(crate) fn refresh(&self) {
        let is_up = Class::BOTH
            .into_iter()
            .all(|class| self.lane(class).carrier().is_some());
        let mut status = self.lock();
        if status.is_up != is_up {
            status.is_up = is_up;
            status.since = Instant::now();
            let (node, name) = (self.id, &status.name);
            tracing::info!(%node, name, is_up, "link changed");
            rise(&self.changes);
        }
    }

    /// Remembers why a connection ended; said once for as long as it stays the same.
    pub(crate) fn ended(&self, error: String) {
        let mut status = self.lock();
        if status.error.as_ref() != Some(&error) {
            let (node, name) = (self.id, &status.name);
            tracing::info!(%node, name, error, "connection ended");
            status.error = Some(error);
            rise(&self.changes);
        }
    }

    /// Whether this node is no member any more.
    pub(crate) fn is_gone(&self) -> bool {
        *self.gone.borrow()
    }

    /// Comes when this node is no member any more.
    pub(crate) async fn gone(&self) {
        let mut gone = self.gone.subscribe();
        // The sender lives in this very node, so there is no error.
        drop(gone.wait_for(|is_gone| *is_gone).await);
    }

    fn view(&self) -> LinkView {
        let counts = Class::BOTH.map(|class| self.lane(class).counts());
        let rtt = self.lane(Class::Control).rtt();
        let status = self.lock();
        LinkView {
            node: self.id,
            name: status.name.clone(),
            address: status.address.clone(),
            is_up: status.is_up,
            since: status.since,
            rtt,
            connections: status.connections_count,
            sent: counts.iter().map(|it| it.sent).sum(),
            received: counts.iter().map(|it| it.received).sum(),
            dropped: counts.iter().map(|it| it.dropped).sum(),
            error: status.error.clone(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Status> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the same was said of that machine lately: whoever is refused dials again at once, from another port.
fn is_said(
    refusals: &VecDeque<RefusalView>,
    (address, reason): (SocketAddr, &str),
    now: Instant,
) -> bool {
    let is_it = |it: &RefusalView| {
        it.address.ip() == address.ip()
            && it.reason == reason
            && now.saturating_duration_since(it.at) < REFUSAL_SAID
    };
    refusals.iter().any(is_it)
}

fn rise(changes: &watch::Sender<u64>) {
    changes.send_modify(|count| *count += 1);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_said_once_for_as_long_as_it_goes_on() {
        let at = Instant::now();
        let address: SocketAddr = "10.0.0.2:40000".parse().unwrap();
        let reason = "no TLS".to_owned();
        let refusals = VecDeque::from([RefusalView {
            address,
            at,
            reason,
        }]);
        let again: SocketAddr = "10.0.0.2:40001".parse().unwrap();
        let soon = at + Duration::from_secs(59);
        assert!(is_said(&refusals, (again, "no TLS"), soon));
        assert!(!is_said(&refusals, (again, "another reason"), soon));
        let other: SocketAddr = "10.0.0.3:40001".parse().unwrap();
        assert!(!is_said(&refusals, (other, "no TLS"), soon));
        assert!(!is_said(&refusals, (again, "no TLS"), at + REFUSAL_SAID));
    }
}
