//! Links to the other nodes of a cluster: two connections each, kept up for as long as this runs.
//!
//! The lower node of a pair dials both connections, *control* and *bulk*, and dials again when
//! one is gone. A frame for a node goes into the queue of its class, and what has gathered there
//! leaves in one write. While a connection is down its frames are dropped and counted, for
//! protocols send again what still matters and stale news would only be in the way.
//!
//! ```text
//!   send ─► queue ─► write loop ─┐               ┌─ read loop ─► decoder ─► Link ─► Deliver
//!           1 MiB / 64 MiB       └─► TLS 1.3 ────┘
//!           full: newest dropped
//! ```

mod accept;
mod backoff;
mod connection;
mod desk;
mod dial;
mod drive;
mod lane;
mod outbox;
mod pen;
mod table;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use holm_base::{ClusterId, NodeId, Time};
use holm_link::{CHANNEL, Choice, Floor, Layer, Offer, PlaneRange};
use holm_wire::Frame;
use rustls::crypto::SecureRandom;
use tokio::sync::{Semaphore, watch};

use crate::gate::Limits;
use crate::rotating::Rotating;

pub use desk::Desk;
pub(crate) use desk::{read as read_message, write as write_message};
pub use table::{LinkView, RefusalView};

use table::Table;

const HAS_RANDOM: &str = "the system has random bytes, or TLS would not work either";

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// Votes, heartbeats, acknowledgements: small, and late is as bad as lost.
    Control,
    /// Entries and chunks.
    Bulk,
}

impl Class {
    pub(crate) const BOTH: [Self; 2] = [Self::Control, Self::Bulk];

    /// Its choice in the layer `channel`.
    pub(crate) const fn choice(self) -> u32 {
        match self {
            Self::Control => 1,
            Self::Bulk => 2,
        }
    }

    pub(crate) fn of_choice(choice: u32) -> Option<Self> {
        Self::BOTH.into_iter().find(|it| it.choice() == choice)
    }
}

/// Another node of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its id.
    pub node: NodeId,
    /// The name that its certificate carries.
    pub name: String,
    /// Where it listens, `host:port`.
    pub address: String,
}

/// Who takes what arrives.
pub trait Deliver: Send + Sync {
    /// Takes all frames of one read, and leaves none. Called on the threads of the runtime, in
    /// order per connection; it must not block for longer than a disk takes, for everything
    /// else on that connection waits.
    fn deliver(&self, from: NodeId, frames: &mut Vec<Frame>);

    /// The last connection with a node has ended and nobody said goodbye or fell silent first:
    /// the system reset or closed it, as it does when the process at the other end has gone. A
    /// hint only, for something in between may have done so. Called as [`Deliver::deliver`] is.
    fn hung_up(&self, from: NodeId);
}

/// A node's side of its links.
#[derive(Clone, Debug)]
pub struct PeersConfig {
    /// The cluster's id.
    pub cluster: ClusterId,
    /// This node's id.
    pub node: NodeId,
    /// This node's name, which its certificate must carry.
    pub name: String,
    /// This run of this node; must rise with each.
    pub boot: u64,
    /// Where to listen; port 0 lets the system choose.
    pub listen: SocketAddr,
    /// This node's certificate and whom it trusts.
    pub certificates: Arc<Rotating>,
    /// The other nodes; this node itself may be among them and is passed over.
    pub peers: Vec<Peer>,
    /// The planes that this node speaks, in rising order.
    pub planes: Vec<PlaneRange>,
    /// What the policy demands.
    pub floors: Vec<Floor>,
    /// How long a link may be silent.
    pub election_timeout: Duration,
    /// Bytes that may wait for one node's control connection.
    pub control_bytes_max: usize,
    /// Bytes that may wait for one node's bulk connection.
    pub bulk_bytes_max: usize,
    /// Bounds on connections that have not shown who they are.
    pub limits: Limits,
    /// Who answers those that want to join or a new certificate; nobody, if there is none.
    pub desk: Option<Arc<dyn Desk>>,
}

impl PeersConfig {
    /// The defaults: 1 MiB and 64 MiB of queue, 1 s of silence, 64 handshakes of 5 s, the
    /// store's plane in version 1, no floors, no peers, no desk, boot 1, a free port of loopback.
    #[must_use]
    pub fn new(
        cluster: ClusterId,
        (node, name): (NodeId, &str),
        certificates: Arc<Rotating>,
    ) -> Self {
        Self {
            cluster,
            node,
            name: name.to_owned(),
            boot: 1,
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            certificates,
            peers: Vec::new(),
            planes: vec![PlaneRange {
                plane: 1,
                lowest: 1,
                highest: 1,
            }],
            floors: Vec::new(),
            election_timeout: Duration::from_secs(1),
            control_bytes_max: 1 << 20,
            bulk_bytes_max: 64 << 20,
            limits: Limits {
                handshakes_max: 64,
                handshake_timeout: Duration::from_secs(5),
            },
            desk: None,
        }
    }
}

/// Why links cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum PeersError {
    /// The certificate is another node's.
    #[error("this node is {name}, its link certificate names {certificate}")]
    Name {
        /// The name that was given.
        name: String,
        /// Whom the certificate names.
        certificate: String,
    },
    /// The address cannot be had.
    #[error("listen for peers on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
}

/// The running links of a node; cheap to clone. They end with [`Peers::stop`], or when the last
/// clone is dropped; a [`Deliver`] that holds a clone must be stopped.
#[derive(Clone, Debug)]
pub struct Peers {
    shared: Arc<Shared>,
    last: Arc<StopWhenDropped>,
}

/// What all tasks of a node's links share.
pub(crate) struct Shared {
    pub(crate) config: PeersConfig,
    pub(crate) deliver: Arc<dyn Deliver>,
    pub(crate) table: Table,
    pub(crate) handshakes: Arc<Semaphore>,
    pub(crate) visitors: Arc<Semaphore>,
    /// Tells this process from any other with the same boot.
    run: [u8; 16],
    pub(crate) stopped: watch::Receiver<bool>,
    address: SocketAddr,
    runtime: tokio::runtime::Handle,
    started: Instant,
    random: Box<dyn SecureRandom>,
}

#[derive(Debug)]
struct StopWhenDropped(watch::Sender<bool>);

impl Drop for StopWhenDropped {
    fn drop(&mut self) {
        self.0.send_replace(true);
    }
}

impl Peers {
    /// Listens, and begins to dial. Must be called within a tokio runtime.
    ///
    /// # Errors
    ///
    /// [`PeersError::Name`] if the certificate is another node's, [`PeersError::Listen`].
    pub fn start(config: PeersConfig, deliver: Arc<dyn Deliver>) -> Result<Self, PeersError> {
        let identity = config.certificates.identity();
        if identity.node() != config.name {
            return Err(PeersError::Name {
                name: config.name,
                certificate: identity.to_string(),
            });
        }
        let address = config.listen;
        let listen = |source| PeersError::Listen { address, source };
        let listener = crate::listener::open(address).map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        let random = Ring(rustls::crypto::ring::default_provider());
        let mut run = [0; 16];
        random.fill(&mut run).expect(HAS_RANDOM);
        let (stop, stopped) = watch::channel(false);
        let peers = config.peers.clone();
        let shared = Arc::new(Shared {
            handshakes: Arc::new(Semaphore::new(config.limits.handshakes_max)),
            visitors: Arc::new(Semaphore::new(desk::VISITORS_MAX)),
            run,
            table: Table::new(config.node),
            config,
            deliver,
            stopped,
            address,
            runtime: tokio::runtime::Handle::current(),
            started: Instant::now(),
            random: Box::new(random),
        });
        tokio::spawn(accept::accept(Arc::clone(&shared), listener));
        let running = Self {
            shared,
            last: Arc::new(StopWhenDropped(stop)),
        };
        running.set_peers(peers);
        Ok(running)
    }

    /// Where it listens, with the port that the system chose.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.shared.address
    }

    /// Replaces the member table: begins to dial who is new, lets go of who is gone. A changed
    /// address counts from the next dialling on. Never blocks, and may be called on any thread.
    pub fn set_peers(&self, peers: Vec<Peer>) {
        for node in self.shared.table.replace(peers, &self.shared.config) {
            if self.shared.config.node < node.id {
                for class in Class::BOTH {
                    let shared = Arc::clone(&self.shared);
                    let dialling = dial::keep_up(shared, Arc::clone(&node), class);
                    self.shared.runtime.spawn(dialling);
                }
            }
        }
    }

    /// Hands over a frame; never blocks. It is dropped and counted if the queue is full, the
    /// connection is down, the node is unknown, or the frame is longer than a frame may be.
    pub fn send(&self, to: NodeId, class: Class, frame: Frame) {
        if let Some(node) = self.shared.table.node(to)
            && let Some(connection) = node.push(class, frame)
        {
            connection.wake_writer();
        }
    }

    /// As [`Peers::send`], but what the system takes at once is written on the calling thread: for
    /// a few short frames, where waking another thread costs more than to write.
    pub fn send_here(&self, to: NodeId, frames: impl IntoIterator<Item = (Class, Frame)>) {
        let Some(node) = self.shared.table.node(to) else {
            return;
        };
        let mut to_tell = Class::BOTH.map(|_class| None);
        for (class, frame) in frames {
            let place = usize::from(class == Class::Bulk);
            let told = node.push(class, frame);
            to_tell[place] = to_tell[place].take().or(told);
        }
        for connection in to_tell.into_iter().flatten() {
            connection.write_here();
        }
    }

    /// How each link is, in rising order of the nodes' ids.
    #[must_use]
    pub fn links(&self) -> Vec<LinkView> {
        self.shared.table.views()
    }

    /// The last connections that were refused here, oldest first; at most 64.
    #[must_use]
    pub fn refusals(&self) -> Vec<RefusalView> {
        self.shared.table.refusals()
    }

    /// Changes whenever a link goes up or down, ends for another reason than before, or one is
    /// refused.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.shared.table.changes()
    }

    /// Looks at the certificates' files and replaces all connections by new ones, each of which
    /// takes over before the old one is drained: no frame that was queued is lost.
    ///
    /// Returns at once. The node that dials opens the new connection; the other asks it to.
    pub fn rotate(&self) {
        self.shared.config.certificates.reload();
        for node in self.shared.table.nodes() {
            for class in Class::BOTH {
                let lane = node.lane(class);
                if self.shared.config.node < node.id {
                    lane.renew.notify_one();
                } else if let Some(connection) = lane.carrier() {
                    connection.step(&self.shared, holm_link::Input::Renew);
                }
            }
        }
    }

    /// Ends all links. Queued frames are lost.
    pub fn stop(&self) {
        self.last.0.send_replace(true);
    }
}

impl Shared {
    /// The moment, on the clock that the links of this process count with.
    pub(crate) fn now(&self) -> Time {
        Time::ZERO + self.started.elapsed()
    }

    /// The configuration of a new connection. Whoever dials says what the connection is for.
    pub(crate) fn link_config(&self, dialled: Option<(NodeId, Class)>) -> holm_link::Config {
        let config = &self.config;
        let classes = Class::BOTH.into_iter();
        let choices = classes
            .filter(|class| dialled.is_none_or(|(_, wanted)| wanted == *class))
            .map(|class| Choice::new(class.choice(), 1))
            .collect();
        let identity = config.certificates.identity();
        let mut link = holm_link::Config::new(config.cluster, config.node, identity);
        link.boot = config.boot;
        self.random.fill(&mut link.nonce).expect(HAS_RANDOM);
        link.nonce[..self.run.len()].copy_from_slice(&self.run);
        link.members = self.table.members();
        link.expected = dialled.map(|(node, _)| node);
        link.offer = Offer {
            planes: config.planes.clone(),
            layers: vec![Layer {
                id: CHANNEL,
                is_required: true,
                choices,
            }],
        };
        link.floors.clone_from(&config.floors);
        link.bind_timeout = config.limits.handshake_timeout;
        link.silence_max = config.election_timeout;
        link.ping_interval = config.election_timeout / 4;
        link
    }

    /// A seed for jitter.
    pub(crate) fn seed(&self) -> u64 {
        let mut bytes = [0; 8];
        match self.random.fill(&mut bytes) {
            Ok(()) => u64::from_le_bytes(bytes),
            Err(_) => self.now().nanos() ^ self.config.node.value(),
        }
    }

    /// Comes when the links are to end.
    pub(crate) async fn stop(&self) {
        let mut stopped = self.stopped.clone();
        // An error means that the sender is gone, which is the same news.
        drop(stopped.wait_for(|is_stopped| *is_stopped).await);
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("config", &self.config)
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

/// The random source of the provider that TLS uses.
#[derive(Debug)]
struct Ring(rustls::crypto::CryptoProvider);

impl SecureRandom for Ring {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), rustls::crypto::GetRandomFailed> {
        self.0.secure_random.fill(bytes)
    }
}
