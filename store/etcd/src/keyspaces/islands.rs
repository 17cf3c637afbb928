//! What a local-first keyspace is beyond its sites, and how those change.
//!
//! ```text
//! "islands":{"merge":"lww","since_unix_ms":1,"slots":{"<node>":1,"<node>":1,"<node>":2,..},
//!            "members":"<hex>", "former":{"3":<node>}, "going":{"2":{"is_lost":true,"told":{..}}}}
//! ```
//!
//! A site is taken in at once: the next table of members has it, and it serves once it has what
//! another one had. A site goes in two steps. It says itself how far it is, once another site has
//! all of that; if it is lost, all that stay stop taking in of its slot and say how far they are.
//! Then the next table says how far its slot counts.

use std::collections::{BTreeMap, BTreeSet};

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
    /// Each node's place in vectors, 1 to 255: the nodes of a site have one.
    pub slots: BTreeMap<u64, u8>,
    /// Nodes that came to their site when this had the keyspace already.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub late: BTreeSet<u64>,
    /// The table of members in hexadecimal, once the sites are others than in the beginning.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub members: String,
    /// Whose slots were that do not go on.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub former: BTreeMap<u8, u64>,
    /// The slots of sites that are on their way out.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub going: BTreeMap<u8, Going>,
    /// The slots of sites that said that their data is an older copy.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub set_back: BTreeSet<u8>,
    /// The slots that nodes had whose site was left out as lost. They keep what they have, and
    /// may be taken in again.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub away: BTreeMap<u64, u8>,
    /// After how many milliseconds without a word a site is left out; 0 for never.
    #[serde(default = "a_month")]
    pub leave_out_after_ms: u64,
}

/// How long a site may be silent where nothing else was said.
pub(crate) const fn a_month() -> u64 {
    30 * 24 * 3_600 * 1_000
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
    /// Two sites know another update each under one name: a third told two stories.
    #[error(
        "nodes {from} and {other} know another update each as number {through} of slot {slot}: its site told two \
         stories. Let that of the two which is to give way go with --lost"
    )]
    TwoStories {
        /// Of which slot.
        slot: Slot,
        /// Which update.
        through: u64,
        /// Who said so now.
        from: u64,
        /// Who said otherwise before.
        other: u64,
    },
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
        let mut nodes: BTreeMap<Slot, Vec<u64>> = BTreeMap::new();
        for (node, number) in &self.slots {
            let slot = Slot::new(*number).ok_or(IslandsError::Unreadable)?;
            nodes.entry(slot).or_default().push(*node);
        }
        let members = self.table()?;
        Ok(Roster { members, nodes })
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

    /// Takes a site of these nodes in under a slot that was never used.
    ///
    /// # Errors
    ///
    /// If there is none, or the table cannot be read.
    pub fn take_in(&mut self, nodes: &[u64], unix_ms: u64) -> Result<(), IslandsError> {
        let members = self.table()?;
        let slot = members.unused()?;
        self.set(&members.with(slot, unix_ms)?);
        self.slots
            .extend(nodes.iter().map(|node| (*node, slot.value())));
        Ok(())
    }

    /// Takes a site in again that was left out as lost: under another slot, and with what only it
    /// has. Gives its nodes; none if it was not left out.
    ///
    /// # Errors
    ///
    /// If there is no slot, or the table cannot be read.
    pub fn take_back(&mut self, nodes: &[u64], unix_ms: u64) -> Result<Vec<u64>, IslandsError> {
        let is_away = |node: &&u64| self.away.contains_key(node);
        let back: Vec<u64> = nodes.iter().filter(is_away).copied().collect();
        let slot = back.first().and_then(|node| self.last_slot(*node));
        let Some(slot) = slot else {
            return Ok(back);
        };
        let members = self.table()?;
        let heir = members.unused()?;
        self.set(&members.taken_back(slot, heir, unix_ms)?);
        for node in &back {
            self.away.remove(node);
            self.slots.insert(*node, heir.value());
        }
        Ok(back)
    }

    /// Lets those nodes go for ever that were left out as lost.
    pub fn forget(&mut self, nodes: &[u64]) -> Vec<u64> {
        let is_away = |node: &&u64| self.away.contains_key(node);
        let gone: Vec<u64> = nodes.iter().filter(is_away).copied().collect();
        self.away.retain(|node, _| !gone.contains(node));
        gone
    }

    /// The slot of a node, or the one that it had if its site was left out.
    #[must_use]
    pub fn last_slot(&self, node: u64) -> Option<Slot> {
        let before = || self.away.get(&node).copied().and_then(Slot::new);
        self.slot(node).or_else(before)
    }

    /// Takes a node in at a site that is there: it gets the site's slot, and others hear of it by
    /// the next table.
    ///
    /// # Errors
    ///
    /// If the table cannot be read.
    pub fn take_node_in(&mut self, slot: Slot, node: u64) -> Result<(), IslandsError> {
        let next = self.table()?.again();
        self.set(&next);
        self.slots.insert(node, slot.value());
        self.late.insert(node);
        Ok(())
    }

    /// Lets a node go whose site stays, with others.
    ///
    /// # Errors
    ///
    /// If the table cannot be read.
    pub fn let_node_go(&mut self, node: u64) -> Result<(), IslandsError> {
        if self.slots.remove(&node).is_some() {
            let next = self.table()?.again();
            self.set(&next);
        }
        self.late.remove(&node);
        Ok(())
    }

    /// The other nodes of a node's site.
    pub fn mates(&self, node: u64) -> impl Iterator<Item = u64> {
        let slot = self.slots.get(&node).copied();
        let nodes = slot.into_iter().flat_map(|slot| self.at(slot));
        nodes.filter(move |it| *it != node)
    }

    /// Whether a node said that its data is an older copy: what it says of itself does not count,
    /// so it goes as one that is lost.
    #[must_use]
    pub fn is_set_back(&self, node: u64) -> bool {
        let slot = self.slots.get(&node);
        slot.is_some_and(|slot| self.set_back.contains(slot))
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

    /// A node says how far a slot is that is on its way out: of its own that it is all there will
    /// be, of another that its site takes in no more. Gives the nodes whose slots are closed by
    /// that.
    ///
    /// # Errors
    ///
    /// If the table cannot be read, nobody would be left, or another has another update there.
    pub fn tell(
        &mut self,
        slot: Slot,
        from: u64,
        (through, chain): (u64, Chain),
    ) -> Result<Vec<u64>, IslandsError> {
        let number = slot.value();
        let is_own = self.slots.get(&from) == Some(&number);
        let is_there = self.slots.values().any(|it| *it == number);
        let going = self.going.get_mut(&number).filter(|_| is_there);
        let Some(going) = going.filter(|it| it.is_lost != is_own) else {
            return Ok(Vec::new());
        };
        let said = (through, hex(&chain.0));
        let parts = |(_, it): &(&u64, &(u64, String))| it.0 == through && it.1 != said.1;
        if let Some((other, _)) = going.told.iter().find(parts) {
            let other = *other;
            return Err(IslandsError::TwoStories {
                slot,
                through,
                from,
                other,
            });
        }
        going.told.insert(from, said.clone());
        let mut closed = Vec::new();
        if !going.is_lost {
            closed = self.close(slot, said)?;
        }
        closed.extend(self.close_agreed()?);
        Ok(closed)
    }

    /// Closes the slots of lost sites of which all has been said that will be.
    ///
    /// # Errors
    ///
    /// If the table cannot be read.
    pub fn close_agreed(&mut self) -> Result<Vec<u64>, IslandsError> {
        let lost = self.going.iter().filter(|(_, going)| going.is_lost);
        let lost = lost.filter_map(|(number, going)| {
            let slot = Slot::new(*number)?;
            Some((slot, self.agreed(*number, &going.told)?))
        });
        let lost: Vec<(Slot, (u64, String))> = lost.collect();
        let mut closed = Vec::new();
        for (slot, said) in lost {
            closed.extend(self.close(slot, said)?);
        }
        Ok(closed)
    }

    /// How far a lost site's slot counts, once every site has said how far it is that can still
    /// hand on what it has, by one of its nodes: one that leaves by itself does, and its writes
    /// may hang on those of the lost one; another lost one does not, whatever it said before.
    fn agreed(&self, lost: u8, told: &BTreeMap<u64, (u64, String)>) -> Option<(u64, String)> {
        let is_lost = |slot: &u8| self.going.get(slot).is_some_and(|it| it.is_lost);
        let others = self.slots.values().copied();
        let others = others.filter(|slot| *slot != lost && !is_lost(slot));
        let others: BTreeSet<u8> = others.collect();
        let by_one = |slot: &u8| {
            let said = self.at(*slot).filter_map(|node| told.get(&node));
            said.max_by_key(|(through, _)| *through).cloned()
        };
        let said: Option<Vec<_>> = others.iter().map(by_one).collect();
        said?.into_iter().max_by_key(|(through, _)| *through)
    }

    /// From the next table on a slot counts so far. Gives its nodes.
    fn close(
        &mut self,
        slot: Slot,
        (through, chain): (u64, String),
    ) -> Result<Vec<u64>, IslandsError> {
        let mut hash = Chain::default();
        let bytes = unhex(&chain).filter(|it| it.len() == hash.0.len());
        hash.0
            .copy_from_slice(&bytes.ok_or(IslandsError::Unreadable)?);
        let next = self.table()?.let_go(slot, through, hash)?;
        self.set(&next);
        let number = slot.value();
        let nodes: Vec<u64> = self.at(number).collect();
        self.slots.retain(|_, it| *it != number);
        let is_lost = self.going.get(&number).is_some_and(|it| it.is_lost);
        if is_lost {
            self.away.extend(nodes.iter().map(|node| (*node, number)));
            self.late.retain(|it| !nodes.contains(it));
        }
        self.going.remove(&number);
        self.set_back.remove(&number);
        // One of them says what the site was called.
        self.former
            .extend(nodes.first().map(|node| (number, *node)));
        Ok(nodes)
    }

    /// The nodes of a slot, in order.
    fn at(&self, slot: u8) -> impl Iterator<Item = u64> {
        let nodes = self.slots.iter().filter(move |(_, it)| **it == slot);
        nodes.map(|(node, _)| *node)
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
            late: BTreeSet::new(),
            members: String::new(),
            former: BTreeMap::new(),
            going: BTreeMap::new(),
            set_back: BTreeSet::new(),
            away: BTreeMap::new(),
            leave_out_after_ms: a_month(),
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
        assert_eq!(other, Ok(vec![]), "others are not asked");
        assert_eq!(islands.tell(slot(3), 30, (9, chain)), Ok(vec![30]));
        let table = islands.table().expect("it was just written");
        assert_eq!((table.epoch(), table.frozen()[&slot(3)].through), (2, 9));
        assert_eq!(table.frozen()[&slot(3)].chain, chain);
        islands.take_in(&[40], 8).expect("there is room");
        assert_eq!(islands.slot(40), Some(slot(4)));
        assert_eq!(islands.roster().expect("readable").members.epoch(), 3);
        let text = serde_json::to_string(&islands).expect("texts and numbers");
        assert_eq!(
            serde_json::from_str::<Islands>(&text).expect("its own"),
            islands
        );
    }

    #[test]
    fn a_site_of_several_nodes_is_one_slot_and_any_of_its_nodes_speaks_for_it() {
        let mut islands = three();
        islands.slots = BTreeMap::from([(10, 1), (11, 1), (20, 2), (21, 2), (30, 3)]);
        let nodes = islands.roster().expect("readable").nodes;
        assert_eq!(nodes[&slot(1)], vec![10, 11]);
        assert_eq!(nodes[&slot(3)], vec![30]);
        islands.begin_going(21, true);
        let said = |number| (number, Chain([4; 32]));
        assert_eq!(islands.tell(slot(2), 20, said(9)), Ok(vec![]), "it is lost");
        assert_eq!(islands.tell(slot(2), 11, said(5)), Ok(vec![]));
        assert_eq!(islands.tell(slot(2), 30, said(4)), Ok(vec![20, 21]));
        let table = islands.table().expect("it was just written");
        assert_eq!(table.frozen()[&slot(2)].through, 5, "of site 1 one spoke");
        islands.begin_going(10, false);
        assert_eq!(
            islands.tell(slot(1), 30, said(7)),
            Ok(vec![]),
            "not its own"
        );
        assert_eq!(islands.tell(slot(1), 11, said(7)), Ok(vec![10, 11]));
        islands.take_node_in(slot(3), 31).expect("readable");
        let roster = islands.roster().expect("readable");
        assert_eq!(
            (roster.members.epoch(), &roster.nodes[&slot(3)][..]),
            (4, &[30, 31][..])
        );
        assert_eq!(islands.mates(31).collect::<Vec<_>>(), [30]);
        islands.let_node_go(30).expect("readable");
        let roster = islands.roster().expect("readable");
        assert_eq!(
            (roster.members.epoch(), &roster.nodes[&slot(3)][..]),
            (5, &[31][..])
        );
        islands.take_in(&[40, 41], 8).expect("there is room");
        let nodes = islands.roster().expect("readable").nodes;
        assert_eq!(nodes[&slot(4)], vec![40, 41]);
    }

    #[test]
    fn of_a_lost_site_all_that_stay_say_how_far_it_is_and_the_most_counts() {
        let mut islands = three();
        islands.begin_going(30, false);
        islands.begin_going(30, true);
        let said = |number| (number, Chain([4; 32]));
        assert_eq!(islands.tell(slot(3), 10, said(5)), Ok(vec![]));
        assert_eq!(islands.tell(slot(3), 30, said(9)), Ok(vec![]), "it is lost");
        assert_eq!(islands.tell(slot(3), 20, said(4)), Ok(vec![30]));
        let table = islands.table().expect("it was just written");
        assert_eq!(table.frozen()[&slot(3)].through, 5);
        assert_eq!(islands.nodes().count(), 3, "conflicts still name it");
    }

    #[test]
    fn a_lost_site_keeps_what_it_has_and_is_taken_back_under_another_slot_or_forgotten() {
        let mut islands = three();
        let said = (5, Chain([4; 32]));
        islands.begin_going(30, true);
        assert_eq!(islands.tell(slot(3), 10, said), Ok(vec![]));
        assert_eq!(islands.tell(slot(3), 20, said), Ok(vec![30]));
        assert_eq!(
            (islands.slot(30), islands.last_slot(30)),
            (None, Some(slot(3)))
        );
        assert_eq!(
            islands.take_back(&[10], 8),
            Ok(vec![]),
            "it was not left out"
        );
        let text = serde_json::to_string(&islands).expect("texts and numbers");
        let mut other: Islands = serde_json::from_str(&text).expect("its own");
        assert_eq!(other, islands);
        assert_eq!(islands.take_back(&[30], 8), Ok(vec![30]));
        assert_eq!(islands.slot(30), Some(slot(4)));
        let table = islands.table().expect("it was just written");
        assert_eq!(table.heir(slot(3)), Some(slot(4)));
        // It is lost once more, and comes back once more.
        islands.begin_going(30, true);
        let said = (0, Chain::default());
        assert_eq!(islands.tell(slot(4), 10, said), Ok(vec![]));
        assert_eq!(islands.tell(slot(4), 20, said), Ok(vec![30]));
        assert_eq!(islands.take_back(&[30], 9), Ok(vec![30]));
        let table = islands.table().expect("it was just written");
        assert_eq!(table.heir(slot(3)), Some(slot(5)));
        assert_eq!(other.forget(&[10, 30]), vec![30]);
        assert_eq!(other.last_slot(30), None);
    }

    #[test]
    fn of_a_lost_site_also_counts_what_one_has_that_leaves_by_itself() {
        let mut islands = three();
        islands.begin_going(20, true);
        islands.begin_going(30, false);
        let said = |number| (number, Chain([4; 32]));
        assert_eq!(islands.tell(slot(2), 10, said(5)), Ok(vec![]));
        // What it wrote itself may hang on that.
        assert_eq!(islands.tell(slot(2), 30, said(12)), Ok(vec![20]));
        let table = islands.table().expect("it was just written");
        assert_eq!(table.frozen()[&slot(2)].through, 12);
        assert_eq!(islands.tell(slot(3), 30, said(2)), Ok(vec![30]));
    }

    #[test]
    fn of_a_lost_site_does_not_count_what_only_another_lost_one_has() {
        let said = |number| (number, Chain([4; 32]));
        for last in [10, 30] {
            let mut islands = three();
            islands.begin_going(20, true);
            if last == 10 {
                assert_eq!(islands.tell(slot(2), 30, said(12)), Ok(vec![]));
                islands.begin_going(30, true);
                assert_eq!(islands.tell(slot(2), 10, said(5)), Ok(vec![20]));
            } else {
                assert_eq!(islands.tell(slot(2), 10, said(5)), Ok(vec![]));
                islands.begin_going(30, true);
                assert_eq!(islands.close_agreed(), Ok(vec![20]), "nobody need say more");
            }
            let table = islands.table().expect("it was just written");
            assert_eq!(table.frozen()[&slot(2)].through, 5);
            assert_eq!(islands.tell(slot(3), 10, said(1)), Ok(vec![30]));
        }
    }

    #[test]
    fn two_stories_of_a_lost_site_are_named_and_one_of_those_who_know_them_gives_way() {
        let mut islands = three();
        islands.begin_going(10, true);
        assert_eq!(islands.tell(slot(1), 20, (8, Chain([1; 32]))), Ok(vec![]));
        let error = islands.tell(slot(1), 30, (8, Chain([2; 32])));
        assert!(matches!(error, Err(IslandsError::TwoStories { .. })));
        islands.begin_going(30, true);
        assert_eq!(islands.close_agreed(), Ok(vec![10]));
        let table = islands.table().expect("it was just written");
        assert_eq!(table.frozen()[&slot(1)].chain, Chain([1; 32]));
    }
}
