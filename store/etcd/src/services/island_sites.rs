//! Changing the sites of a local-first keyspace: what is asked for, and what its sites say of it.

use std::collections::BTreeSet;

use holm_base::NodeId;
use holm_kv::command::{Command, Proposal};
use holm_local_first::{Chain, ISLANDS_MAX, Proposal as Entry, Slot};
use holm_runtime::unix_ms;

use super::Services;
use super::keyspaces::not_now;
use crate::holm::KeyspaceMemberRequest;
use crate::keyspaces::{Entry as Keyspace, Islands, IslandsError, Table};
use crate::status::{Code, Status};

impl Services {
    /// Has this site's log take an entry about which sites the keyspace has.
    ///
    /// # Errors
    ///
    /// If it was not taken; it is tried again.
    pub async fn log_island(&self, entry: Entry) -> Result<(), Status> {
        let caller = None;
        let command = Command::Island(entry);
        let applied = self.order(Proposal { caller, command }).await?;
        applied.result?;
        Ok(())
    }

    /// A site says how far a slot is that is on its way out; see [`Islands::tell`].
    ///
    /// # Errors
    ///
    /// If no quorum answers.
    pub async fn tell_island(
        &self,
        id: u32,
        (slot, from): (Slot, NodeId),
        tip: (u64, Chain),
    ) -> Result<(), Status> {
        self.edit(|table| {
            let mut entries = table.keyspaces.iter_mut();
            let Some(entry) = entries.find(|it| it.id == id) else {
                return Ok(());
            };
            let Some(islands) = &mut entry.islands else {
                return Ok(());
            };
            let closed = islands.tell(slot, from.value(), tip).map_err(unreadable)?;
            left(entry, closed);
            Ok(())
        })
        .await
    }

    /// Leaves a site out as lost that was not heard for too long. Nothing if it is not there any more.
    ///
    /// # Errors
    ///
    /// If no quorum answers.
    pub async fn leave_out(&self, id: u32, slot: Slot) -> Result<(), Status> {
        let members = self.members().await?;
        self.edit(|table| {
            let mut entries = table.keyspaces.iter_mut();
            let Some(entry) = entries.find(|it| it.id == id) else {
                return Ok(());
            };
            let islands = entry.islands.iter();
            let nodes: Vec<u64> = islands.flat_map(|it| it.at(slot.value())).collect();
            let Some(first) = nodes.first() else {
                return Ok(());
            };
            let request = KeyspaceMemberRequest {
                name: entry.name.clone(),
                site: super::keyspaces::site_of(&members, *first),
                is_leaving: true,
                is_lost: true,
            };
            leave(entry, &nodes, &request)
        })
        .await
    }

    /// A site says that its data is an older copy.
    ///
    /// # Errors
    ///
    /// If no quorum answers.
    pub async fn tell_set_back(&self, id: u32, slot: Slot) -> Result<(), Status> {
        self.edit(|table| {
            let entry = table.keyspaces.iter_mut().find(|it| it.id == id);
            if let Some(islands) = entry.and_then(|it| it.islands.as_mut()) {
                islands.set_back.insert(slot.value());
            }
            Ok(())
        })
        .await
    }

    /// The node that is to go from a keyspace and is no member of the cluster any more: its id is all that names it.
    pub(super) fn stranger(&self, request: &KeyspaceMemberRequest) -> Option<Vec<u64>> {
        let table = self.keyspace_table().ok()?;
        let node = table.find(&request.name)?.node_of(&request.site)?;
        request.is_leaving.then(|| vec![node])
    }

    /// Shuts the keyspace to clients of this site with what they are told, or opens it.
    pub fn shut(&self, why: Option<(Code, &str)>) {
        self.shared.door.set(why);
    }

    /// An island's members are itself alone, so etcd's calls say nothing of the keyspace's sites.
    pub(super) fn check_is_one_for_all(&self) -> Result<(), Status> {
        if self.handle().view().island.is_none() {
            return Ok(());
        }
        let name = self.handle().keyspace();
        Err(not_now(format!(
            "keyspace {name} is local-first, and its member list is this site alone: change its sites with \
             `holm keyspace members {name} add SITE` or `remove SITE`"
        )))
    }

    /// Why the keyspace is shut to clients of this site.
    #[must_use]
    pub fn shut_why(&self) -> Option<String> {
        let why = self.shared.door.why();
        why.map(|status| status.message().to_owned())
    }
}

fn unreadable(error: IslandsError) -> Status {
    Status::new(Code::FailedPrecondition, error.to_string())
}

fn islands(entry: &mut Keyspace) -> &mut Islands {
    entry.islands.as_mut().expect("it is local-first")
}

/// The slots of these are closed.
fn left(entry: &mut Keyspace, closed: Vec<u64>) {
    entry.leaving.retain(|it| !closed.contains(it));
    let gone = closed.into_iter();
    let gone: Vec<u64> = gone.filter(|it| !entry.is_away(*it)).collect();
    entry.left.extend(gone);
}

/// An id for what a site will have of a local-first keyspace that it comes back to.
pub(super) fn place_of(
    table: &mut Table,
    nodes: &[u64],
    request: &KeyspaceMemberRequest,
) -> Result<Option<u32>, Status> {
    let entry = table.find(&request.name);
    let comes_back = |it: &Keyspace| !request.is_leaving && comes_back(it, nodes);
    if !entry.is_some_and(comes_back) {
        return Ok(None);
    }
    let used_up = || not_now("all ids of keyspaces have been used");
    table.take_id().map(Some).ok_or_else(used_up)
}

/// Whether a site of these nodes was let go from a local-first keyspace, and nothing of it is there
/// any more.
fn comes_back(entry: &Keyspace, nodes: &[u64]) -> bool {
    let has_left = nodes.iter().any(|it| entry.left.contains(it));
    let is_there = nodes.iter().any(|node| entry.hosts().any(|it| it == *node));
    entry.islands.is_some() && has_left && !is_there
}

/// Takes a site in, with all of its nodes: others speak to it from the next table on. One that was
/// here before gets another place, for it has nothing of what it had.
pub(super) fn join(
    entry: &mut Keyspace,
    nodes: &[u64],
    request: &KeyspaceMemberRequest,
    place: Option<u32>,
) -> Result<(), Status> {
    let name = &request.name;
    let slots = nodes.iter();
    let slots = slots.filter_map(|node| islands(entry).slot(*node));
    if let Some(slot) = slots.min() {
        return join_site(entry, nodes, slot);
    }
    let slots: BTreeSet<u8> = islands(entry).slots.values().copied().collect();
    if slots.len() >= ISLANDS_MAX {
        return Err(not_now(format!(
            "a local-first keyspace is at {ISLANDS_MAX} sites at most, and {name} has them"
        )));
    }
    let back = islands(entry).take_back(nodes, unix_ms());
    let back = back.map_err(unreadable)?;
    if !back.is_empty() {
        // What others it has come to it once it is back.
        entry.joining.extend(back);
        return Ok(());
    }
    islands(entry)
        .take_in(nodes, unix_ms(), place)
        .map_err(unreadable)?;
    entry.joining.extend(nodes);
    entry.left.retain(|it| !nodes.contains(it));
    Ok(())
}

/// Takes those nodes of a site in that came to it later.
fn join_site(entry: &mut Keyspace, nodes: &[u64], slot: Slot) -> Result<(), Status> {
    for node in nodes {
        if islands(entry).slot(*node).is_none() {
            islands(entry)
                .take_node_in(slot, *node)
                .map_err(unreadable)?;
            entry.joining.push(*node);
        }
    }
    Ok(())
}

/// Lets one node of a site go; the site stays with the others. They let it go without asking it.
///
/// # Errors
///
/// If none of the others has a vote.
pub(super) fn leave_site(entry: &mut Keyspace, node: u64, name: &str) -> Result<(), Status> {
    let mates: Vec<u64> = islands(entry).mates(node).collect();
    if !mates.iter().any(|it| entry.sites.contains(it)) {
        return Err(not_now(format!(
            "{name} is the last node of its site with a vote: let the site go, or have another node join it first"
        )));
    }
    entry.sites.retain(|it| *it != node);
    entry.joining.retain(|it| *it != node);
    entry.leaving.push(node);
    Ok(())
}

/// Lets a site go for ever that was left out as lost. Whether there was one.
pub(super) fn forget(entry: &mut Keyspace, nodes: &[u64]) -> bool {
    let gone = entry.islands.as_mut().map(|it| it.forget(nodes));
    let gone = gone.unwrap_or_default();
    let is_any = !gone.is_empty();
    entry.left.extend(gone);
    is_any
}

/// That a site which is let go in order can say how far it is.
pub(super) fn check_word(
    entry: &Keyspace,
    nodes: &[u64],
    request: &KeyspaceMemberRequest,
) -> Result<(), Status> {
    let (site, name) = (&request.site, &request.name);
    let of_copy = |it: &Islands| nodes.iter().any(|node| it.is_older_copy(*node));
    if !request.is_lost && entry.islands.as_ref().is_some_and(of_copy) {
        return Err(not_now(format!(
            "the data of site {site} is an older copy, so it cannot say which of its writes count: \
             `holm keyspace members {name} remove {site} --lost`"
        )));
    }
    Ok(())
}

/// Lets a site go: itself says how far it is, unless it is lost.
///
/// # Errors
///
/// If its data is an older copy and it is not given up as lost; if the table of members cannot be read.
pub(super) fn leave(
    entry: &mut Keyspace,
    nodes: &[u64],
    request: &KeyspaceMemberRequest,
) -> Result<(), Status> {
    check_word(entry, nodes, request)?;
    let is_lost = request.is_lost;
    entry.sites.retain(|it| !nodes.contains(it));
    entry.joining.retain(|it| !nodes.contains(it));
    for node in nodes {
        if !entry.leaving.contains(node) {
            entry.leaving.push(*node);
        }
        islands(entry).begin_going(*node, is_lost);
    }
    // Of another lost one no more is waited for from this.
    let closed = islands(entry).close_agreed().map_err(unreadable)?;
    left(entry, closed);
    Ok(())
}
