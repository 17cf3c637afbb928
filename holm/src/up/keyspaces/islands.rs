//! How this site follows the table in which sites a local-first keyspace has.
//!
//! What would surprise: nobody leads. Each site compares the table with what its own island goes by, has its island's
//! log take what is new, and says in the table what only it can know: that it has received what it was to have, how far
//! a slot is that is on its way out.

use std::time::Duration;

use holm_base::{NodeId, Time};
use holm_etcd::keyspaces::{Entry, Islands, Table};
use holm_etcd::services::Services;
use holm_etcd::status::{Code, Status};
use holm_kv::IslandView;
use holm_local_first::{Chain, Proposal, Slot, Vector, still_due};
use holm_replica::Neighbour;

use super::Hosting;

/// What a site that was taken in is to have before it serves.
#[derive(Clone, Debug)]
pub(super) struct Receiving(Vector);

/// Shuts an island to clients, or opens it, as the table says of this site.
pub(super) fn set_door(services: &Services, entry: &Entry, node: NodeId) {
    let Some(islands) = &entry.islands else {
        return;
    };
    let name = &entry.name;
    let site = &services.handle().identity().site;
    let refused = |text| (Code::FailedPrecondition, text);
    let going = islands.going(node.value());
    let is_lost = going.is_some_and(|it| it.is_lost);
    let lost = is_lost.then(|| {
        refused(format!(
            "site {site} was given up as lost by keyspace {name}: ask another of its sites"
        ))
    });
    let leaving = going.map(|_| {
        refused(format!(
            "site {site} leaves keyspace {name}: ask another of its sites"
        ))
    });
    let joining = entry.joining.contains(&node.value()).then(|| {
        let text = format!(
            "site {site} was taken into keyspace {name} and has not received all of it yet"
        );
        (Code::Unavailable, text)
    });
    let left_out = entry.is_away(node.value()).then(|| {
        let text = format!(
            "site {site} was left out of keyspace {name}, as if it were lost: `holm keyspace members {name} add {site}` \
             takes it in again, with what only it has (`--dry-run` tells what that is); `holm keyspace members {name} remove \
             {site}` lets it go for good"
        );
        refused(text)
    });
    let island = services.handle().view().island.clone();
    let says_so = island.is_some_and(|it| is_set_back(&it, islands, node));
    let set_back = (says_so || islands.is_set_back(node.value())).then(|| {
        refused(format!(
            "the data of site {site} is an older copy, or follows one: other sites have updates that it has not. It takes no \
             part in keyspace {name} any more: `holm keyspace members {name} remove {site} --lost`"
        ))
    });
    let why = left_out.or(lost).or(set_back).or(leaving).or(joining);
    services.shut(why.as_ref().map(|(code, text)| (*code, text.as_str())));
}

impl Hosting {
    /// Does for each island that is open here what the table asks of it.
    pub(super) async fn follow_islands(&mut self, table: &Table) {
        for entry in &table.keyspaces {
            let (Some(islands), Some(open)) = (&entry.islands, self.open.get(&entry.id)) else {
                continue;
            };
            let services = open.services.clone();
            let Some(island) = services.handle().view().island.clone() else {
                continue;
            };
            set_door(&services, entry, self.node);
            if let Err(status) = self
                .follow_island((entry, islands), &services, &island)
                .await
            {
                let (keyspace, why) = (entry.name.as_str(), status.message());
                tracing::info!(keyspace, why, "its sites are not as they should be yet");
            }
        }
    }

    async fn follow_island(
        &mut self,
        (entry, islands): (&Entry, &Islands),
        services: &Services,
        island: &IslandView,
    ) -> Result<(), Status> {
        let unreadable = |error| Status::new(Code::FailedPrecondition, format!("{error}"));
        let roster = islands.roster().map_err(unreadable)?;
        if roster.members.epoch() > island.epoch {
            services.log_island(Proposal::Follow(roster)).await?;
        }
        let own = islands.slot(self.node.value());
        let is_older_copy = is_set_back(island, islands, self.node);
        if let Some(slot) = own
            && is_older_copy
            && !islands.is_set_back(self.node.value())
        {
            self.services.tell_set_back(entry.id, slot).await?;
        }
        if let Some(own) = own.filter(|own| *own != island.slot) {
            // It was left out, and is not back: what it has is no word about what counts.
            return self
                .stop_lost((entry, islands), services, (island, own))
                .await;
        }
        for (number, going) in &islands.going {
            let Some(slot) = Slot::new(*number) else {
                continue;
            };
            let is_own = own == Some(slot);
            let has_told = going.told.contains_key(&self.node.value());
            if is_own == going.is_lost || has_told || is_own && is_older_copy {
                continue;
            }
            if let Some(tip) = stopped(services, island, slot).await?
                && (!is_own || is_elsewhere(services, entry, island).await?)
            {
                let from = (slot, self.node);
                self.services.tell_island(entry.id, from, tip).await?;
            }
        }
        // One that comes to a site which serves is taken in by its leader.
        let comes_late = islands.late.contains(&self.node.value());
        if entry.joining.contains(&self.node.value())
            && !comes_late
            && self.has_received(entry, services, island).await?
        {
            self.settle(entry.id, self.node.value()).await?;
            self.receiving.remove(&entry.id);
        }
        Ok(())
    }

    /// Who is on its way back takes in nothing of sites that are lost, and says that it has nothing of them: so they are
    /// let go without waiting for it, and it need not wait for what those alone have.
    async fn stop_lost(
        &self,
        (entry, islands): (&Entry, &Islands),
        services: &Services,
        (island, own): (&IslandView, Slot),
    ) -> Result<(), Status> {
        for (number, going) in islands.going.iter().filter(|(_, it)| it.is_lost) {
            let slot = Slot::new(*number).filter(|it| *it != own);
            if let Some(slot) = slot
                && stopped(services, island, slot).await?.is_some()
                && !going.told.contains_key(&self.node.value())
            {
                let nothing = (0, Chain::default());
                self.services
                    .tell_island(entry.id, (slot, self.node), nothing)
                    .await?;
            }
        }
        Ok(())
    }

    /// Leaves those sites out that were not heard for longer than their keyspace allows: as lost, and two that hear
    /// each other stay.
    pub(super) async fn leave_out_silent(&self, table: &Table) {
        for entry in &table.keyspaces {
            let (Some(islands), Some(open)) = (&entry.islands, self.open.get(&entry.id)) else {
                continue;
            };
            let limit = Duration::from_millis(islands.leave_out_after_ms);
            let handle = open.services.handle();
            let leads = handle.leader() == Some(self.node);
            if limit.is_zero() || !leads || !entry.sites.contains(&self.node.value()) {
                continue;
            }
            let Ok(others) = neighbours(&open.services, entry).await else {
                continue;
            };
            // Of one that was never heard since, the time begins with this process.
            let up = handle.now().since(Time::ZERO);
            let is_silent = |it: &&Neighbour| {
                it.is_cut
                    && it.silent_for.unwrap_or(up) >= limit
                    && !islands.going.contains_key(&it.slot.value())
            };
            if others.iter().all(|it| it.is_cut) {
                continue;
            }
            for it in others.iter().filter(is_silent) {
                let (keyspace, silent_for) = (entry.name.as_str(), it.silent_for.unwrap_or(up));
                match self.services.leave_out(entry.id, it.slot).await {
                    Ok(()) => tracing::warn!(
                        keyspace, slot = %it.slot, node = %it.node, silent_for_s = silent_for.as_secs(),
                        "a site was not heard for too long: it is left out"
                    ),
                    // It is tried again with the next look.
                    Err(status) => {
                        let why = status.message();
                        tracing::debug!(keyspace, why, "a silent site is not left out yet");
                    }
                }
            }
        }
    }

    /// Whether this site, which was taken in, has what another had when it was first heard.
    async fn has_received(
        &mut self,
        entry: &Entry,
        services: &Services,
        island: &IslandView,
    ) -> Result<bool, Status> {
        let others = neighbours(services, entry).await?;
        if let Some(Receiving(wanted)) = self.receiving.get(&entry.id) {
            let members = entry.islands.as_ref().and_then(|it| it.table().ok());
            let there = others.iter().map(|it| (it.slot, &it.vector));
            let due = members.map_or_else(|| wanted.clone(), |it| still_due(&it, wanted, there));
            return Ok(island.vector.is_at_least(&due));
        }
        if let Some(first) = others.into_iter().find(|it| !it.is_cut) {
            self.receiving.insert(entry.id, Receiving(first.vector));
        }
        Ok(false)
    }
}

/// How far a slot is of which this site takes in nothing more; it is told to take in nothing more if it was not yet.
async fn stopped(
    services: &Services,
    island: &IslandView,
    slot: Slot,
) -> Result<Option<(u64, Chain)>, Status> {
    if let Some(tip) = island.stops.get(&slot) {
        return Ok(Some(*tip));
    }
    services.log_island(Proposal::Stop(slot)).await?;
    Ok(None)
}

/// Whether another site that stays has all that this one has.
async fn is_elsewhere(
    services: &Services,
    entry: &Entry,
    island: &IslandView,
) -> Result<bool, Status> {
    let standing = services.handle().standing().await?;
    let mut members = standing.neighbours.iter();
    let has_all = members.any(|it| {
        let judged = it.judged.as_ref().filter(|_| stays(it, entry));
        judged.is_some_and(|it| it.is_at_least(&island.vector))
    });
    // The log may not have it yet that its data is an older copy: what it says does not count.
    Ok(has_all && !standing.is_set_back)
}

/// Whether the island's log has it that this site's data are an older copy. Releases that did not write that down
/// stopped its slot, which nobody had asked for.
fn is_set_back(island: &IslandView, islands: &Islands, node: NodeId) -> bool {
    islands.slot(node.value()).is_some_and(|own| {
        let is_asked = islands.going.contains_key(&own.value());
        island.set_back == Some(own) || !is_asked && island.stops.contains_key(&own)
    })
}

fn stays(it: &Neighbour, entry: &Entry) -> bool {
    entry.sites.contains(&it.node.value())
}

/// The other sites that serve the keyspace and stay.
async fn neighbours(services: &Services, entry: &Entry) -> Result<Vec<Neighbour>, Status> {
    let mut all = services.handle().standing().await?.neighbours;
    all.retain(|it| stays(it, entry));
    Ok(all)
}
