//! What an end knows before it talks.

use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use holm_base::{ClusterId, NodeId};
use sha2::{Digest, Sha256};

use crate::hello::{Hello, Offer};
use crate::identity::Identity;
use crate::layers::Floor;

/// The versions of a plane's language that an end speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PlaneRange {
    /// The plane; 1 is the store.
    pub plane: u8,
    /// The lowest version.
    pub lowest: u16,
    /// The highest version.
    pub highest: u16,
}

/// A row of the member table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Who.
    pub node: NodeId,
    /// The name that its certificate must carry. Empty for one that was just added and has told
    /// nobody its name: then any name that no other row has.
    pub name: String,
    /// The highest boot of it that was seen; lower ones are fenced.
    pub boot_seen: u64,
    /// Which process of that boot was seen: [`crate::Hello::run`].
    pub run_seen: Option<[u8; 16]>,
}

impl Member {
    /// A member of which no boot was seen yet.
    #[must_use]
    pub fn new(node: NodeId, name: &str) -> Self {
        Self {
            node,
            name: name.to_owned(),
            boot_seen: 0,
            run_seen: None,
        }
    }
}

/// An end's side of things.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The cluster's id.
    pub cluster: ClusterId,
    /// This node's id.
    pub node: NodeId,
    /// How this node's certificate names it.
    pub identity: Identity,
    /// This run of this node.
    pub boot: u64,
    /// Random bytes: 16 of this run of the process, 16 of this connection.
    pub nonce: [u8; 32],
    /// Who may talk, this node or not.
    pub members: Vec<Member>,
    /// Who must be at the other end, for the end that dialled.
    pub expected: Option<NodeId>,
    /// What this end can do.
    pub offer: Offer,
    /// What the policy demands.
    pub floors: Vec<Floor>,
    /// How long equal Binds may take.
    pub bind_timeout: Duration,
    /// How often this end says that it lives.
    pub ping_interval: Duration,
    /// How long the other end may be silent.
    pub silence_max: Duration,
    /// How long both ends may take to end a connection that was replaced.
    pub drain_timeout: Duration,
}

impl Config {
    /// The defaults: 5 s to bind, a ping each 250 ms, silence of 1 s, 10 s to drain; no
    /// members, planes, layers or floors, and a nonce of zeros.
    #[must_use]
    pub fn new(cluster: ClusterId, node: NodeId, identity: Identity) -> Self {
        Self {
            cluster,
            node,
            identity,
            boot: 1,
            nonce: [0; 32],
            members: Vec::new(),
            expected: None,
            offer: Offer::default(),
            floors: Vec::new(),
            bind_timeout: Duration::from_secs(5),
            ping_interval: Duration::from_millis(250),
            silence_max: Duration::from_secs(1),
            drain_timeout: Duration::from_secs(10),
        }
    }

    /// What this end says of itself.
    pub(crate) fn hello(&self) -> Hello {
        Hello {
            cluster: self.cluster,
            node: self.node,
            boot: self.boot,
            nonce: self.nonce,
            policy: self.policy(),
            offer: self.offer.clone(),
        }
    }

    /// The digest of the policy.
    pub(crate) fn policy(&self) -> [u8; 32] {
        let mut digest = Sha256::new();
        for floor in &self.floors {
            digest.update(floor.layer.value().to_le_bytes());
            digest.update([floor.rank_min]);
        }
        digest.finalize().into()
    }

    pub(crate) fn member(&self, node: NodeId) -> Option<&Member> {
        self.members.iter().find(|member| member.node == node)
    }

    /// Whether a node with that name is known, this one included.
    pub(crate) fn has_name(&self, name: &str) -> bool {
        let is_named = |member: &Member| member.name == name;
        self.identity.node() == name || self.members.iter().any(is_named)
    }
}
