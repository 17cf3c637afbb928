//! How a node's words reach the other nodes of its cluster.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use holm_base::{ClusterId, GroupId, NodeId};

/// Something for another node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parcel {
    /// The kind of frame that it fills, as [`holm_replica::Message::kind`] says.
    pub kind: u8,
    /// Whose it is.
    pub group: GroupId,
    /// Whether it is short and urgent, and must not wait behind entries.
    pub is_control: bool,
    /// The message.
    pub body: Bytes,
}

/// Carries parcels to other nodes. They may be lost, doubled and overtake each other.
///
/// What comes in from others goes to [`crate::Handle::hear`].
pub trait Network: Send + Sync + fmt::Debug {
    /// Takes a parcel along, or drops it if there is no room. Never blocks; called on any
    /// thread.
    fn send(&self, to: NodeId, parcel: Parcel);

    /// As [`Network::send`], of a few short parcels, and leaves none: they leave on the calling
    /// thread, if that is possible at once.
    fn send_here(&self, to: NodeId, parcels: &mut Vec<Parcel>) {
        for parcel in parcels.drain(..) {
            self.send(to, parcel);
        }
    }
}

/// A node that the cluster begins with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberConfig {
    /// Its id.
    pub node: NodeId,
    /// The name it gives itself.
    pub name: String,
    /// Where the others reach it.
    pub peer_urls: Vec<String>,
}

/// What a node of a cluster is told when it starts.
#[derive(Clone, Debug)]
pub struct ClusterConfig {
    /// The cluster. A data directory keeps it and refuses another.
    pub cluster: ClusterId,
    /// This node. A data directory keeps it and refuses another.
    pub node: NodeId,
    /// The token that ids follow from, those of later members too.
    pub token: String,
    /// Who belongs to the cluster at its beginning, this node among them.
    pub members: Vec<MemberConfig>,
    /// The cluster is there already and will take this node in: it waits for its leader.
    pub is_joining: bool,
    /// The shortest silence after which an election begins.
    pub election_timeout: Duration,
    /// How often a leader speaks.
    pub heartbeat_interval: Duration,
    /// How long a client waits before it is told that its request timed out.
    pub request_timeout: Duration,
    /// How the others are reached.
    pub network: Arc<dyn Network>,
}

/// What a node of a cluster was told when it started, as far as a front needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bootstrap {
    /// The token that ids follow from.
    pub token: String,
    /// Who belonged to the cluster at its beginning, or when this node joined it.
    pub members: Vec<MemberConfig>,
    /// The shortest silence after which an election begins.
    pub election_timeout: Duration,
    /// How long a client waits before it is told that its request timed out.
    pub request_timeout: Duration,
}

impl ClusterConfig {
    /// What a front of one of its keyspaces needs of it, with who belongs to that.
    pub(crate) fn bootstrap(&self, members: Vec<MemberConfig>) -> Bootstrap {
        Bootstrap {
            token: self.token.clone(),
            members,
            election_timeout: self.election_timeout,
            request_timeout: self.request_timeout,
        }
    }

    /// How long clients of etcd wait with such an election timeout.
    #[must_use]
    pub fn request_timeout_of(election_timeout: Duration) -> Duration {
        Duration::from_secs(5) + election_timeout * 2
    }
}
