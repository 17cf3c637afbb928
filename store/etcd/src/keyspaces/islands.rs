//! What a local-first keyspace is beyond its sites, and how those change.
//!
//! ```text
//! "islands":{"merge":"lww","since_unix_ms":1,"slots":{"<node>":1,..},
//!            "members":"<hex>", "former":{"3":<node>}, "going":{"2":{"is_lost":true,"told":{..}}}}
//! ```
//!
//! A site is taken in at once: the next table of members has it, and it serves once it has what
//! another one had. A site goes in two steps. It says itself how far it is, once another site has
//! all of that; if it is lost, all that stay stop taking in of its slot and say how far they are.
//! Then the next table says how far its slot counts.

use std::collections::BTreeMap;

use bytes::Bytes;
use holm_local_first::{Chain, Frozen, Members, MembersError, Roster, Slot};
use serde::{Deserialize, Serialize};

/// What a local-first keyspace is beyond its sites.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Islands {
    /// What the values are: `lww`, `mv`, `set`, `counter`, `json`.
    pub merge: String,
    /// Which parts of documents merge, as a JSON schema says it; empty for none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub schema: String,
    /// `delete-wins` where a delete wins over a write that it did not see; else empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub exists: String,
    /// When it was created, in milliseconds of Unix time: its revisions begin there.
    pub since_unix_ms: u64,
    /// Each site's place in vectors, 1 to 255.
    pub slots: BTreeMap<u64, u8>,
    /// The table of members in hexadecimal, once the sites are others than in the beginning.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub members: String,
    /// Whose slots were that do not go on.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub former: BTreeMap<u8, u64>,
    /// The slots of sites that are on their way out.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub going: BTreeMap<u8, Going>,
}

/// A slot that is on its way out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Going {
    /// Whether its site is lost, so that the others say how far it is.
    #[serde(default)]
    pub is_lost: bool,
    /// Which nodes have said so: how far, and the hash of that update in hexadecimal.
    #[serde(default)]
    pub told: BTreeMap<u64, (u64, String)>,
}

/// Why the sites are not as asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IslandsError {
    /// The table of members cannot be read.
    #[error("the keyspace's table of members cannot be read by this release")]
    Unreadable,
    /// The next table cannot be as asked for.
    #[error(transparent)]
    Members(#[from] MembersError),
}

impl Islands {
    /// The table of members.
    ///
    /// # Errors
    ///
    /// If this release cannot read it.
    pub fn table(&self) -> Result<Members, IslandsError> {
        if self.members.is_empty() {
            let slots = self.slots.values().filter_map(|it| Slot::new(*it));
            return Ok(Members::new(slots.map(|slot| (slot, self.since_unix_ms))));
        }
        let bytes = unhex(&self.members).ok_or(IslandsError::Unreadable)?;
        Members::decode(Bytes::from(bytes)).map_err(|_damage| IslandsError::Unreadable)
    }

    /// The table of members with their nodes, as sites' logs take it.
    ///
    /// # Errors
    ///
    /// If this release cannot read it.
    pub fn roster(&self) -> Result<Roster, IslandsError> {
        let nodes = self.slots.iter();
        let nodes = nodes.filter_map(|(node, slot)| Some((Slot::new(*slot)?, *node)));
        Ok(Roster {
            members: self.table()?,
            nodes: nodes.collect(),
        })
    }

    /// The slot of a node.
    #[must_use]
    pub fn slot(&self, node: u64) -> Option<Slot> {
        self.slots.get(&node).copied().and_then(Slot::new)
    }

    /// The slot of a node, if that is on its way out.
    #[must_use]
    pub fn going(&self, node: u64) -> Option<&Going> {
        self.going.get(self.slots.get(&node)?)
    }

    /// Takes a site in under a slot that was never used.
    ///
    /// # Errors
    ///
    /// If there is none, or the table cannot be read.
    pub fn take_in(&mut self, node: u64, unix_ms: u64) -> Result<(), IslandsError> {
        let members = self.table()?;
        let slot = members.unused()?;
        self.set(&members.with(slot, unix_ms)?);
        self.slots.insert(node, slot.value());
        Ok(())
    }

    /// A site shall go. One that is lost is not asked.
    pub fn begin_going(&mut self, node: u64, is_lost: bool) {
        if let Some(slot) = self.slots.get(&node) {
            let going = self.going.entry(*slot).or_default();
            if is_lost && !going.is_lost {
                going.is_lost = true;
                going.told.clear();
            }
        }
    }

    /// A node says how far a slot is that is on its way out: of itself that it is all there will
    /// be, of another that it takes in no more. Gives the node whose slot it was once enough have
    /// said so: then the slot is closed.
    ///
    /// # Errors
    ///
    /// If the table cannot be read, or nobody would be left.
    pub fn tell(
        &mut self,
        slot: Slot,
        from: u64,
        (through, chain): (u64, Chain),
    ) -> Result<Option<u64>, IslandsError> {
        let owner = self.slots.iter().find(|(_, it)| **it == slot.value());
        let owner = owner.map(|(node, _)| *node);
        let (Some(owner), Some(going)) = (owner, self.going.get_mut(&slot.value())) else {
            return Ok(None);
        };
        if going.is_lost == (from == owner) {
            return Ok(None);
        }
        going.told.insert(from, (through, hex(&chain.0)));
        let told = going.told.clone();
        let is_lost = going.is_lost;
        let stay = self.slots.iter().filter(|(node, _)| **node != owner);
        let mut stay = stay.filter(|(_, slot)| !self.going.contains_key(*slot));
        if is_lost && !stay.all(|(node, _)| told.contains_key(node)) {
            return Ok(None);
        }
        let most = told.into_values().max_by_key(|(through, _)| *through);
        let (through, chain) = most.unwrap_or_default();
        let mut hash = Chain::default();
        let bytes = unhex(&chain).filter(|it| it.len() == hash.0.len());
        hash.0
            .copy_from_slice(&bytes.ok_or(IslandsError::Unreadable)?);
        let next = self.table()?.let_go(slot, through, hash)?;
        self.set(&next);
        self.slots.remove(&owner);
        self.going.remove(&slot.value());
        self.former.insert(slot.value(), owner);
        Ok(Some(owner))
    }

    /// Whose each slot is or was.
    pub fn nodes(&self) -> impl Iterator<Item = (u8, u64)> + '_ {
        let now = self.slots.iter().map(|(node, slot)| (*slot, *node));
        let former = self.former.iter().map(|(slot, node)| (*slot, *node));
        now.chain(former)
    }

    fn set(&mut self, members: &Members) {
        self.members = hex(&members.encode());
    }

    /// How far the slots count that do not go on, for who shows it.
    ///
    /// # Errors
    ///
    /// If this release cannot read the table.
    pub fn frozen(&self) -> Result<BTreeMap<Slot, Frozen>, IslandsError> {
        Ok(self.table()?.frozen().clone())
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|it| format!("{it:02x}")).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes().chunks(2);
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    digits.map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn three() -> Islands {
        Islands {
            merge: "lww".to_owned(),
            schema: String::new(),
            exists: String::new(),
            since_unix_ms: 7,
            slots: BTreeMap::from([(10, 1), (20, 2), (30, 3)]),
            members: String::new(),
            former: BTreeMap::new(),
            going: BTreeMap::new(),
        }
    }

    fn slot(number: u8) -> Slot {
        Slot::new(number).expect("it is not 0")
    }

    #[test]
    fn a_site_goes_once_it_has_said_how_far_it_is_and_its_slot_is_never_used_again() {
        let mut islands = three();
        islands.begin_going(30, false);
        let chain = Chain([4; 32]);
        let other = islands.tell(slot(3), 10, (5, chain));
        assert_eq!(other, Ok(None), "others are not asked");
        assert_eq!(islands.tell(slot(3), 30, (9, chain)), Ok(Some(30)));
        let table = islands.table().expect("it was just written");
        assert_eq!((table.epoch(), table.frozen()[&slot(3)].through), (2, 9));
        assert_eq!(table.frozen()[&slot(3)].chain, chain);
        islands.take_in(40, 8).expect("there is room");
        assert_eq!(islands.slot(40), Some(slot(4)));
        assert_eq!(islands.roster().expect("readable").members.epoch(), 3);
        let text = serde_json::to_string(&islands).expect("texts and numbers");
        assert_eq!(
            serde_json::from_str::<Islands>(&text).expect("its own"),
            islands
        );
    }

    #[test]
    fn of_a_lost_site_all_that_stay_say_how_far_it_is_and_the_most_counts() {
        let mut islands = three();
        islands.begin_going(30, false);
        islands.begin_going(30, true);
        let said = |number| (number, Chain([4; 32]));
        assert_eq!(islands.tell(slot(3), 10, said(5)), Ok(None));
        assert_eq!(islands.tell(slot(3), 30, said(9)), Ok(None), "it is lost");
        assert_eq!(islands.tell(slot(3), 20, said(4)), Ok(Some(30)));
        let table = islands.table().expect("it was just written");
        assert_eq!(table.frozen()[&slot(3)].through, 5);
        assert_eq!(islands.nodes().count(), 3, "conflicts still name it");
    }
}
