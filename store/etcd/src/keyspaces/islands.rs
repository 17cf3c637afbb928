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
use holm_local_first::{
    Chain, Departure, DepartureError, Departures, Frozen, Members, MembersError, Reach, Roster,
    Slot,
};
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
    /// Under which number the nodes of a slot keep it, where that is not the keyspace's: their site
    /// was let go and came back.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub places: BTreeMap<u8, u32>,
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

    /// Under which number a node keeps it, where that is not the keyspace's.
    #[must_use]
    pub fn place(&self, node: u64) -> Option<u32> {
        let slot = self.last_slot(node)?;
        self.places.get(&slot.value()).copied()
    }

    /// The slot of a node, if that is on its way out.
    #[must_use]
    pub fn going(&self, node: u64) -> Option<&Going> {
        self.going.get(self.slots.get(&node)?)
    }

    /// Takes a site of these nodes in under a slot that was never used, and in a place of its own
    /// where one of them was here before.
    ///
    /// # Errors
    ///
    /// If there is none, or the table cannot be read.
    pub fn take_in(
        &mut self,
        nodes: &[u64],
        unix_ms: u64,
        place: Option<u32>,
    ) -> Result<(), IslandsError> {
        let members = self.table()?;
        let slot = members.unused()?;
        self.set(&members.with(slot, unix_ms)?);
        self.slots
            .extend(nodes.iter().map(|node| (*node, slot.value())));
        self.places.extend(place.map(|place| (slot.value(), place)));
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
        if let Some(place) = self.places.remove(&slot.value()) {
            self.places.insert(heir.value(), place);
        }
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
        for node in &gone {
            let slot = self.away.remove(node);
            slot.map(|slot| self.places.remove(&slot));
        }
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

    /// Slots and nodes that an island of a slot hears as it begins, until its log has this table: of other sites, and
    /// of none that is given up. Such a one may have what does not count.
    pub fn heard_at_first(&self, own: Slot) -> impl Iterator<Item = (Slot, u64)> {
        let all = self.slots.iter();
        let all = all.filter_map(|(node, slot)| Some((Slot::new(*slot)?, *node)));
        let is_lost = |slot: Slot| self.going.get(&slot.value()).is_some_and(|it| it.is_lost);
        all.filter(move |(slot, _)| *slot != own && !is_lost(*slot))
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

    /// Whether a node's data is an older copy and nobody has given it up yet: so it waits for the operator.
    #[must_use]
    pub fn is_older_copy(&self, node: u64) -> bool {
        self.is_set_back(node) && !self.going(node).is_some_and(|it| it.is_lost)
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
    pub fn tell(&mut self, slot: Slot, from: u64, reach: Reach) -> Result<Vec<u64>, IslandsError> {
        let number = slot.value();
        let Some(site) = self.slot(from) else {
            return Ok(Vec::new());
        };
        let is_own = site == slot;
        let Some(going) = self.going.get(&number) else {
            return Ok(Vec::new());
        };
        // Of one whose data is an older copy its word does not count.
        if going.is_lost == is_own || is_own && self.set_back.contains(&number) {
            return Ok(Vec::new());
        }
        let mut departures = self.departures()?;
        let closed = departures.tell(slot, site, reach);
        let closed = closed.map_err(|error| self.named(error, from))?;
        if let Some(going) = self.going.get_mut(&number) {
            going.told.insert(from, (reach.0, hex(&reach.1.0)));
        }
        Ok(self.closed(&departures, &closed))
    }

    /// Closes the slots of lost sites of which all has been said that will be.
    ///
    /// # Errors
    ///
    /// If the table cannot be read.
    pub fn close_agreed(&mut self) -> Result<Vec<u64>, IslandsError> {
        let mut departures = self.departures()?;
        let closed = departures.close_agreed();
        let closed = closed.map_err(|error| self.named(error, 0))?;
        Ok(self.closed(&departures, &closed))
    }

    /// Who is on the way out, by slots: of a site, what that of its nodes said which has the most.
    fn departures(&self) -> Result<Departures, IslandsError> {
        let mut going = BTreeMap::new();
        for (number, it) in &self.going {
            let slot = Slot::new(*number).ok_or(IslandsError::Unreadable)?;
            let mut told: BTreeMap<Slot, Reach> = BTreeMap::new();
            for (node, (through, chain)) in &it.told {
                let reach = (
                    *through,
                    unhex_chain(chain).ok_or(IslandsError::Unreadable)?,
                );
                let Some(site) = self.slot(*node) else {
                    continue;
                };
                let known = told.entry(site).or_insert(reach);
                if reach.0 > known.0 {
                    *known = reach;
                }
            }
            let is_lost = it.is_lost;
            going.insert(slot, Departure { is_lost, told });
        }
        let members = self.table()?;
        Ok(Departures { members, going })
    }

    /// An error with nodes in place of slots.
    fn named(&self, error: DepartureError, from: u64) -> IslandsError {
        match error {
            DepartureError::Members(error) => IslandsError::Members(error),
            DepartureError::TwoStories {
                slot,
                through,
                other,
                ..
            } => {
                let mut nodes = self.at(other.value());
                let other = nodes.next().unwrap_or_default();
                IslandsError::TwoStories {
                    slot,
                    through,
                    from,
                    other,
                }
            }
        }
    }

    /// From the next table on these slots count so far. Gives their nodes.
    fn closed(&mut self, departures: &Departures, closed: &[Slot]) -> Vec<u64> {
        if closed.is_empty() {
            return Vec::new();
        }
        self.set(&departures.members);
        let mut gone = Vec::new();
        for slot in closed {
            let number = slot.value();
            let nodes: Vec<u64> = self.at(number).collect();
            self.slots.retain(|_, it| *it != number);
            let is_lost = self.going.get(&number).is_some_and(|it| it.is_lost);
            if is_lost {
                self.away.extend(nodes.iter().map(|node| (*node, number)));
            } else {
                self.places.remove(&number);
            }
            self.going.remove(&number);
            self.set_back.remove(&number);
            self.late.retain(|it| !nodes.contains(it));
            // One of them says what the site was called.
            self.former
                .extend(nodes.first().map(|node| (number, *node)));
            gone.extend(nodes);
        }
        gone
    }

    /// The nodes of a slot, in order.
    pub(crate) fn at(&self, slot: u8) -> impl Iterator<Item = u64> {
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

fn unhex_chain(text: &str) -> Option<Chain> {
    let mut chain = Chain::default();
    let bytes = unhex(text).filter(|it| it.len() == chain.0.len())?;
    chain.0.copy_from_slice(&bytes);
    Some(chain)
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
            places: BTreeMap::new(),
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
        islands.take_in(&[40], 8, None).expect("there is room");
        assert_eq!((islands.slot(40), islands.place(40)), (Some(slot(4)), None));
        assert_eq!(islands.roster().expect("readable").members.epoch(), 3);
        let text = serde_json::to_string(&islands).expect("texts and numbers");
        assert_eq!(
            serde_json::from_str::<Islands>(&text).expect("its own"),
            islands
        );
    }

    #[test]
    fn the_word_of_an_older_copy_does_not_count() {
        let mut islands = three();
        islands.begin_going(30, false);
        islands.set_back.insert(3);
        assert!(islands.is_older_copy(30));
        let said = (5, Chain([4; 32]));
        assert_eq!(islands.tell(slot(3), 30, said), Ok(vec![]));
        assert_eq!(islands.slot(30), Some(slot(3)), "it waits for --lost");
        islands.begin_going(30, true);
        assert!(!islands.is_older_copy(30), "nobody waits for it");
        assert_eq!(islands.tell(slot(3), 10, said), Ok(vec![]));
        assert_eq!(islands.tell(slot(3), 20, said), Ok(vec![30]));
    }

    #[test]
    fn a_site_that_was_let_go_comes_back_under_another_slot_and_in_another_place() {
        let mut islands = three();
        islands.late.insert(30);
        islands.begin_going(30, false);
        let said = (5, Chain([4; 32]));
        assert_eq!(islands.tell(slot(3), 30, said), Ok(vec![30]));
        assert_eq!(islands.tell(slot(3), 30, said), Ok(vec![]), "it is gone");
        islands.take_in(&[30], 8, Some(9)).expect("there is room");
        assert_eq!(islands.slot(30), Some(slot(4)));
        assert_eq!((islands.place(30), islands.place(10)), (Some(9), None));
        assert!(
            islands.late.is_empty(),
            "it begins anew, with its whole site"
        );
        assert_eq!(islands.nodes().filter(|(_, node)| *node == 30).count(), 2);
        islands.begin_going(30, false);
        assert_eq!(islands.tell(slot(4), 30, said), Ok(vec![30]));
        assert!(islands.places.is_empty());
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
        islands.take_in(&[40, 41], 8, None).expect("there is room");
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
    fn an_island_that_begins_hears_none_that_is_given_up() {
        let mut islands = three();
        islands.begin_going(10, false);
        islands.begin_going(20, true);
        let heard: Vec<_> = islands.heard_at_first(slot(3)).collect();
        assert_eq!(heard, [(slot(1), 10)]);
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
