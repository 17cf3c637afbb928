//! The table of keyspaces: one fact of keyspace `default`, replicated like the member table.
//!
//! ```text
//! keyspaces               {"next":4,"keyspaces":[{"id":2,"name":"orders","guarantee":"linearizable",
//!                          "founders":[..],"sites":[..],"joining":[],"leaving":[],"left":[],"listen":{}}]}
//! keyspaces/2/at/<node>   {"addresses":["http://127.0.0.1:41000"],"error":""}      said by each of its sites
//! ```
//!
//! What would surprise: an id may also be the place of a site that came back to its keyspace, for
//! its first one has ended there. The table is changed as a whole, and only if nobody else has changed it
//! meanwhile ([`Command::ClusterSwap`]). So ids are given out in order and once: who finds an id
//! below `next` that is not in the table knows that its keyspace was removed for ever, and who
//! finds one above knows that this table is old.

mod islands;

use std::collections::BTreeMap;

use bytes::Bytes;
use holm_base::{GroupId, NodeId};
use holm_kv::View;
use holm_kv::command::Command;
use serde::{Deserialize, Serialize};

pub(crate) use islands::a_month;
pub use islands::{Going, Islands, IslandsError};

/// How many keyspaces a cluster may have, `default` among them.
pub const KEYSPACES_MAX: usize = 64;

/// The first id that is not that of keyspace `default`.
const FIRST: u32 = 2;

const TABLE: &str = "keyspaces";

/// A keyspace beside `default`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its number: the group in logs and between sites.
    pub id: u32,
    /// Its name.
    pub name: String,
    /// What it guarantees.
    pub guarantee: String,
    /// The sites that it began with.
    pub founders: Vec<u64>,
    /// The sites that have a vote.
    pub sites: Vec<u64>,
    /// Those that are being taken in.
    #[serde(default)]
    pub joining: Vec<u64>,
    /// Those that are being let go, and take part until they are.
    #[serde(default)]
    pub leaving: Vec<u64>,
    /// Those that were let go, for ever.
    #[serde(default)]
    pub left: Vec<u64>,
    /// Where sites are to listen, if that was said.
    #[serde(default)]
    pub listen: BTreeMap<u64, Vec<String>>,
    /// What a local-first keyspace is beyond that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub islands: Option<Islands>,
}

impl Entry {
    /// Its group.
    #[must_use]
    pub const fn group(&self) -> GroupId {
        GroupId::new(self.id)
    }

    /// Its number in a node's log and files: its own, unless the node's site was let go and came
    /// back.
    #[must_use]
    pub fn place(&self, node: NodeId) -> GroupId {
        let islands = self.islands.as_ref();
        let place = islands.and_then(|it| it.place(node.value()));
        place.map_or_else(|| self.group(), GroupId::new)
    }

    /// Whether a node takes part in it, or its site was left out and may come back.
    #[must_use]
    pub fn is_at(&self, node: NodeId) -> bool {
        self.hosts().any(|it| it == node.value()) || self.is_away(node.value())
    }

    /// Whether the site of a node was left out as lost, and may come back.
    #[must_use]
    pub fn is_away(&self, node: u64) -> bool {
        let islands = self.islands.as_ref();
        islands.is_some_and(|it| it.away.contains_key(&node))
    }

    /// The node of that id in hexadecimal, if it takes part or may come back.
    #[must_use]
    pub fn node_of(&self, id: &str) -> Option<u64> {
        let node = u64::from_str_radix(id, 16).ok()?;
        self.is_at(NodeId::new(node)).then_some(node)
    }

    /// Whether a node was there from its beginning.
    #[must_use]
    pub fn is_founder(&self, node: NodeId) -> bool {
        self.founders.contains(&node.value())
    }

    /// All that take part.
    pub fn hosts(&self) -> impl Iterator<Item = u64> {
        let all = self.sites.iter().chain(&self.joining).chain(&self.leaving);
        all.copied()
    }
}

/// All keyspaces beside `default`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table {
    /// The next id.
    next: u32,
    /// Sorted by id.
    pub keyspaces: Vec<Entry>,
}

impl Default for Table {
    fn default() -> Self {
        Self {
            next: FIRST,
            keyspaces: Vec::new(),
        }
    }
}

/// Why the table cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("read the table of keyspaces: {0}")]
pub struct NoTable(#[from] serde_json::Error);

impl Table {
    /// The table as a state of keyspace `default` has it.
    ///
    /// # Errors
    ///
    /// If this release cannot read it.
    pub fn of(view: &View) -> Result<Self, NoTable> {
        match view.cluster.get(TABLE) {
            None => Ok(Self::default()),
            Some(bytes) => Ok(serde_json::from_slice(bytes)?),
        }
    }

    /// The keyspace of that name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&Entry> {
        self.keyspaces.iter().find(|it| it.name == name)
    }

    /// The keyspace of that id.
    #[must_use]
    pub fn at(&self, group: GroupId) -> Option<&Entry> {
        self.keyspaces.iter().find(|it| it.group() == group)
    }

    /// Whether a group that a node has on its disk is of no use to it any more: its keyspace was
    /// removed, or the node let go, if only once. An id that this table has not given out is of a
    /// later one.
    #[must_use]
    pub fn is_over(&self, group: GroupId, node: NodeId) -> bool {
        let is_known = group.value() < self.next;
        let mut all = self.keyspaces.iter();
        is_known && !all.any(|it| it.is_at(node) && it.place(node) == group)
    }

    /// Whether what a node said of a keyspace is of no use any more: that was removed, or the node let go. Where a
    /// site came back, its nodes say the same of it from another place.
    fn is_past(&self, id: GroupId, node: NodeId) -> bool {
        id.value() < self.next && !self.at(id).is_some_and(|it| it.is_at(node))
    }

    /// An id that is given out once.
    pub(crate) fn take_id(&mut self) -> Option<u32> {
        let id = self.next;
        self.next = self.next.checked_add(1)?;
        Some(id)
    }

    /// Adds a keyspace under the next id.
    pub(crate) fn add(&mut self, entry: Entry) -> Option<u32> {
        let id = self.take_id()?;
        self.keyspaces.push(Entry { id, ..entry });
        Some(id)
    }

    /// The change to this table from what a state has.
    pub(crate) fn swap(&self, view: &View) -> Command {
        let value = serde_json::to_vec(self).expect("texts and numbers are JSON");
        Command::ClusterSwap {
            name: TABLE.to_owned(),
            expected: view.cluster.get(TABLE).cloned(),
            value: Bytes::from(value),
        }
    }
}

/// Where clients reach a keyspace at one of its sites.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The URLs; none while it is not open there.
    pub addresses: Vec<String>,
    /// Why it is not; empty if it is.
    #[serde(default)]
    pub error: String,
}

fn fact(id: u32, node: u64) -> String {
    format!("{TABLE}/{id}/at/{node:016x}")
}

/// Where a keyspace is reached at a site, as that has said.
pub(crate) fn place(view: &View, id: u32, node: u64) -> Option<Place> {
    serde_json::from_slice(view.cluster.get(&fact(id, node))?).ok()
}

/// Has the cluster remember where a keyspace is reached at a site; `None` if it knows.
pub(crate) fn tell_place(view: &View, id: u32, node: u64, place: &Place) -> Option<Command> {
    let name = fact(id, node);
    let value = serde_json::to_vec(place).expect("texts are JSON");
    let is_known = view.cluster.get(&name).is_some_and(|it| *it == value);
    (!is_known).then(|| Command::Cluster {
        name,
        value: Some(Bytes::from(value)),
    })
}

/// Has the cluster forget what sites said of keyspaces that are not theirs any more.
pub(crate) fn forget_places(view: &View, table: &Table) -> Vec<Command> {
    let begin = format!("{TABLE}/");
    let facts = view.cluster.range(begin.clone()..);
    let facts = facts.map_while(|(name, _value)| Some((name, name.strip_prefix(&begin)?)));
    let is_old = |rest: &str| {
        let (id, node) = rest.split_once("/at/")?;
        let node = NodeId::new(u64::from_str_radix(node, 16).ok()?);
        Some(table.is_past(GroupId::new(id.parse().ok()?), node))
    };
    facts
        .filter(|(_name, rest)| is_old(rest) == Some(true))
        .map(|(name, _rest)| Command::Cluster {
            name: name.clone(),
            value: None,
        })
        .collect()
}

/// What is wrong with a name, if something is.
pub(crate) fn misnamed(name: &str) -> Option<&'static str> {
    let is_fine = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let begins_well = name
        .bytes()
        .next()
        .is_some_and(|it| it.is_ascii_lowercase());
    if name == "default" {
        Some("keyspace default is always there: choose another name")
    } else if !begins_well || name.len() > 63 || !name.bytes().all(is_fine) {
        Some(
            "a keyspace's name is 1 to 63 small letters, digits and dashes, a letter first: \
             `orders`, `orders-eu`",
        )
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: NodeId = NodeId::new(7);

    #[test]
    fn ids_are_given_out_once() {
        let mut table = Table::default();
        let entry = |name: &str| Entry {
            name: name.to_owned(),
            sites: vec![7],
            ..Entry::default()
        };
        assert_eq!(table.add(entry("a")), Some(2));
        assert_eq!(table.add(entry("b")), Some(3));
        table.keyspaces.retain(|it| it.name != "b");
        assert_eq!(table.add(entry("b")), Some(4), "never 3 again");
        let is_over = |id| table.is_over(GroupId::new(id), NODE);
        assert!(!is_over(2), "it is there");
        assert!(is_over(3), "it was removed");
        assert!(!is_over(5), "this table is older than that");
        assert!(
            table.is_over(GroupId::new(2), NodeId::new(8)),
            "not its own"
        );
    }

    #[test]
    fn what_a_site_says_counts_until_it_is_let_go_and_once_it_is_back() {
        let mut table = Table::default();
        let islands =
            r#"{"merge":"lww","schema":"","since_unix_ms":1,"slots":{"7":2},"places":{"2":3}}"#;
        table.add(Entry {
            name: "a".to_owned(),
            sites: vec![7],
            islands: Some(serde_json::from_str(islands).unwrap()),
            ..Entry::default()
        });
        table.take_id();
        let id = GroupId::new(2);
        assert_eq!(table.keyspaces[0].place(NODE), GroupId::new(3));
        assert!(table.is_over(id, NODE), "its files are in another place");
        assert!(
            !table.is_past(id, NODE),
            "and are reached under the same id"
        );
        assert!(table.is_past(id, NodeId::new(8)), "it is not there");
        let named = ["7", "8", "c"].map(|it| table.keyspaces[0].node_of(it));
        assert_eq!(named, [Some(7), None, None]);
        table.keyspaces[0].sites.clear();
        assert!(table.is_past(id, NODE), "it was let go");
        assert!(!table.is_past(GroupId::new(4), NODE), "of a later table");
    }

    #[test]
    fn a_table_comes_back_as_it_was() {
        let mut table = Table::default();
        let listen = BTreeMap::from([(u64::MAX >> 1, vec!["127.0.0.1:1".to_owned()])]);
        table.add(Entry {
            name: "a".to_owned(),
            listen,
            ..Entry::default()
        });
        let bytes = serde_json::to_vec(&table).unwrap();
        assert_eq!(serde_json::from_slice::<Table>(&bytes).unwrap(), table);
    }

    #[test]
    fn names_are_short_and_plain() {
        for name in ["a", "orders", "orders-eu-2"] {
            assert_eq!(misnamed(name), None, "{name}");
        }
        for name in ["", "A", "2a", "a b", "a/b", "default", &"a".repeat(64)] {
            assert!(misnamed(name).is_some(), "{name}");
        }
    }
}
