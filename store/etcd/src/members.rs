//! The table of members: names and addresses, which Raft does not know.
//!
//! Raft's configuration says who belongs to the cluster and who votes. What the members are
//! called and where they are reached is remembered by the cluster as facts, replicated like
//! everything else; for the first members the configuration that they were started with stands
//! in until they have told it themselves.
//!
//! ```text
//! members/<id, 16 hex>/peers        ["https://10.0.0.1:2380"]           where other nodes reach it
//! members/<id, 16 hex>/attributes   {"name":"a","clientURLs":["..."]}   what it says of itself;
//!                                   "site":"shop" beside, where a site has several nodes
//! members/<id, 16 hex>/removed      []                                  it never comes back
//! ```
//!
//! What would surprise: an id that was removed is never used again, for its node's numbers
//! would begin anew and its commands be taken for old ones.

use std::collections::BTreeMap;

use bytes::Bytes;
use holm_base::NodeId;
use holm_kv::View;
use holm_kv::command::Command;
use holm_runtime::{Bootstrap, Identity};
use serde::{Deserialize, Serialize};

/// A member of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its id.
    pub node: NodeId,
    /// What it calls itself; empty until it has started once.
    pub name: String,
    /// The site that it is of; its own name where it said none.
    pub site: String,
    /// Where other nodes reach it.
    pub peer_urls: Vec<String>,
    /// Where clients reach it; none until it has started once.
    pub client_urls: Vec<String>,
    /// Whether it has no vote, or none yet.
    pub is_learner: bool,
}

/// What a member says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Attributes {
    name: String,
    #[serde(rename = "clientURLs", default)]
    client_urls: Vec<String>,
    /// Empty where the node is a site by itself.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    site: String,
}

const PEERS: &str = "peers";
const ATTRIBUTES: &str = "attributes";
const REMOVED: &str = "removed";

fn fact(node: NodeId, what: &str) -> String {
    format!("members/{:016x}/{what}", node.value())
}

fn json(value: &impl Serialize) -> Bytes {
    Bytes::from(serde_json::to_vec(value).expect("texts are JSON"))
}

/// Remembers where a member is reached.
pub(crate) fn remember_peers(node: NodeId, urls: &[String]) -> Command {
    Command::Cluster {
        name: fact(node, PEERS),
        value: Some(json(&urls)),
    }
}

/// Remembers that a member was removed.
pub(crate) fn remember_removed(node: NodeId) -> Command {
    Command::Cluster {
        name: fact(node, REMOVED),
        value: Some(Bytes::from_static(b"[]")),
    }
}

/// Takes back that a member was removed: it was not.
pub(crate) fn forget_removed(node: NodeId) -> Command {
    Command::Cluster {
        name: fact(node, REMOVED),
        value: None,
    }
}

/// Forgets what was remembered of a member, but not that it was removed.
pub(crate) fn forget(node: NodeId) -> [Command; 2] {
    [PEERS, ATTRIBUTES].map(|what| Command::Cluster {
        name: fact(node, what),
        value: None,
    })
}

/// Whether a member of that id was removed once.
pub(crate) fn was_removed(view: &View, node: NodeId) -> bool {
    view.cluster.contains_key(&fact(node, REMOVED))
}

/// What a node has to tell of itself that the cluster does not remember yet.
///
/// Where it is reached is not among it: the first members are told of each other by flags, the
/// later ones were added under an address, and an update must not be undone by who tells late.
pub(crate) fn unpublished(view: &View, identity: &Identity) -> Option<Command> {
    let attributes = Attributes {
        name: identity.name.clone(),
        client_urls: identity.client_urls.clone(),
        site: if identity.site == identity.name {
            String::new()
        } else {
            identity.site.clone()
        },
    };
    let (name, value) = (fact(identity.node, ATTRIBUTES), json(&attributes));
    let is_known = view.cluster.get(&name) == Some(&value);
    (!is_known).then_some(Command::Cluster {
        name,
        value: Some(value),
    })
}

/// What is known of these members, sorted by id.
pub(crate) fn table(
    view: &View,
    bootstrap: &Bootstrap,
    nodes: impl IntoIterator<Item = (NodeId, bool)>,
) -> Vec<Member> {
    let first: BTreeMap<_, _> = bootstrap.members.iter().map(|it| (it.node, it)).collect();
    let mut members: Vec<Member> = nodes
        .into_iter()
        .map(|(node, is_learner)| {
            let first = first.get(&node);
            let peers = read::<Vec<String>>(view, &fact(node, PEERS));
            let attributes = read::<Attributes>(view, &fact(node, ATTRIBUTES));
            let attributes = attributes.unwrap_or_else(|| Attributes {
                name: first.map_or_else(String::new, |it| it.name.clone()),
                ..Attributes::default()
            });
            Member {
                node,
                site: if attributes.site.is_empty() {
                    attributes.name.clone()
                } else {
                    attributes.site
                },
                name: attributes.name,
                peer_urls: peers
                    .or_else(|| first.map(|it| it.peer_urls.clone()))
                    .unwrap_or_default(),
                client_urls: attributes.client_urls,
                is_learner,
            }
        })
        .collect();
    members.sort_unstable_by_key(|it| it.node);
    members
}

/// A fact, if it is there and can be read.
fn read<T: for<'de> Deserialize<'de>>(view: &View, name: &str) -> Option<T> {
    let value = view.cluster.get(name)?;
    serde_json::from_slice(value)
        .inspect_err(|error| tracing::warn!(name, %error, "a fact about a member cannot be read"))
        .ok()
}
