//! Local-first keyspaces: what one is made of, and how its islands are, as far as this one knows.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use holm_base::NodeId;
use holm_local_first::{Exists, ISLANDS_MAX, Schema, Type};
use holm_runtime::{DEFAULT, unix_ms};

use super::Services;
use super::keyspaces::{LOCAL_FIRST, guarantee, invalid, not_now, seqs, site_of};
use crate::holm::{IslandStatus, KeyspaceCreateRequest, KeyspaceStatus};
use crate::keyspaces::{Islands, a_month};
use crate::members::Member;
use crate::status::Status;

/// The longest schema, in bytes: it is in the table of keyspaces.
const SCHEMA_MAX: usize = 64 << 10;

impl Services {
    /// As [`Services::keyspace_statuses`], with what the engines' threads know of other islands.
    pub(super) async fn keyspace_statuses_told(&self) -> Result<Vec<KeyspaceStatus>, Status> {
        let mut all = vec![self.status_told().await?];
        let is_home = self.handle().group() == DEFAULT;
        let others = self.shared.neighbours.get().filter(|_| is_home);
        for other in others.map(|it| it.keyspaces()).unwrap_or_default() {
            all.push(other.status_told().await?);
        }
        Ok(all)
    }

    async fn status_told(&self) -> Result<KeyspaceStatus, Status> {
        let mut status = self.keyspace_status();
        if self.handle().view().island.is_none() {
            return Ok(status);
        }
        let names = match self.home() {
            Ok(home) => home.members().await.unwrap_or_default(),
            Err(_unknown) => Vec::new(),
        };
        let standing = self.handle().standing().await?;
        let islands = standing.neighbours.iter().map(|it| {
            let member = names.iter().find(|member| member.node == it.node);
            IslandStatus {
                node: it.node.value(),
                name: member.map_or_else(String::new, |member| member.site.clone()),
                slot: u32::from(it.slot.value()),
                silent_for_ms: it.silent_for.map(millis),
                is_cut: it.is_cut,
                vector: seqs(&it.vector),
            }
        });
        status.islands = islands.collect();
        Ok(status)
    }

    /// A keyspace beside this one that is open here.
    pub(super) fn neighbour(&self, name: &str) -> Option<Self> {
        let others = self.shared.neighbours.get()?.keyspaces();
        others.into_iter().find(|it| it.handle().keyspace() == name)
    }

    /// What the sites of a local-first keyspace are called, by slot.
    pub(super) async fn sites_by_slot(&self, name: &str) -> Result<Vec<(u32, String)>, Status> {
        let members = self.members().await?;
        let table = self.keyspace_table()?;
        let islands = table.find(name).and_then(|it| it.islands.as_ref());
        let slots = islands.into_iter().flat_map(Islands::nodes);
        let named = slots.map(|(slot, node)| (u32::from(slot), site_of(&members, node)));
        Ok(named.collect::<BTreeMap<_, _>>().into_iter().collect())
    }

    /// What a local-first keyspace is beyond its sites.
    pub(super) fn islands(
        &self,
        request: &KeyspaceCreateRequest,
        sites: &[NodeId],
        members: &[Member],
    ) -> Result<Option<Islands>, Status> {
        if guarantee(request) != LOCAL_FIRST {
            return Ok(None);
        }
        if self.handle().bootstrap().is_none() {
            return Err(not_now(
                "a local-first keyspace is for several sites, and this node is alone: start sites with `holm up \
                 --sites 3` or `holm up --join`, or create a linearizable keyspace",
            ));
        }
        let named: BTreeSet<String> = sites
            .iter()
            .map(|node| site_of(members, node.value()))
            .collect();
        if named.len() > ISLANDS_MAX {
            return Err(not_now(format!(
                "a local-first keyspace is at {ISLANDS_MAX} sites at most: name fewer with --sites"
            )));
        }
        // Slots are in the order of names, so that tables and vectors are read alike; the nodes of a site have one.
        let numbers: BTreeMap<&String, u8> = named.iter().zip(1..).collect();
        let slots = sites.iter().filter_map(|node| {
            let number = numbers.get(&site_of(members, node.value()))?;
            Some((node.value(), *number))
        });
        Ok(Some(Islands {
            merge: merge(&request.merge)?.name().to_owned(),
            schema: request.schema.clone(),
            exists: match exists(&request.exists)? {
                Exists::AddWins => String::new(),
                Exists::DeleteWins => DELETE_WINS.to_owned(),
            },
            since_unix_ms: unix_ms(),
            slots: slots.collect(),
            late: BTreeSet::new(),
            members: String::new(),
            former: BTreeMap::new(),
            places: BTreeMap::new(),
            going: BTreeMap::new(),
            set_back: BTreeSet::new(),
            away: BTreeMap::new(),
            leave_out_after_ms: request.leave_out_after_ms.unwrap_or(a_month()),
        }))
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

pub(super) fn merge(name: &str) -> Result<Type, Status> {
    let named = match name {
        "" => Some(Type::Lww),
        name => Type::named(name),
    };
    named.ok_or_else(|| {
        invalid(format!(
            "there is no type `{name}`: there are `lww` (the latest is shown), `mv` (all concurrent writes are siblings), \
             `set` (keys are members), `counter` (additions all count) and `json` (documents merge part by part)"
        ))
    })
}

/// Where deletes win.
pub(super) const DELETE_WINS: &str = "delete-wins";

/// Who wins, a write or a delete.
pub(super) fn exists(name: &str) -> Result<Exists, Status> {
    match name {
        "" | "add-wins" => Ok(Exists::AddWins),
        DELETE_WINS => Ok(Exists::DeleteWins),
        other => Err(invalid(format!(
            "there is no `--exists {other}`: there are `add-wins` (a write stays that a delete did not see) and \
             `delete-wins` (it goes)"
        ))),
    }
}

/// What only islands have is refused for a keyspace of another guarantee.
pub(super) fn check_options(request: &KeyspaceCreateRequest) -> Result<(), Status> {
    let deletes_win = exists(&request.exists)? == Exists::DeleteWins;
    let says = match request.leave_out_after_ms {
        _ if guarantee(request) == LOCAL_FIRST => return Ok(()),
        _ if deletes_win => {
            "--exists says what becomes of concurrent writes and deletes, and a linearizable keyspace has none"
        }
        Some(_) => "--leave-out-after is for islands, and a linearizable keyspace has none",
        None => return Ok(()),
    };
    Err(invalid(format!(
        "{says}: leave it out, or add --guarantee local-first"
    )))
}

/// A schema is for documents, and one that can be read.
pub(super) fn check_schema(request: &KeyspaceCreateRequest) -> Result<(), Status> {
    if request.schema.is_empty() {
        return Ok(());
    }
    if request.merge != Type::Json.name() {
        return Err(invalid(
            "--schema says how documents merge: add --type json",
        ));
    }
    if request.schema.len() > SCHEMA_MAX {
        return Err(invalid(format!("--schema has at most {SCHEMA_MAX} bytes")));
    }
    let read = Schema::parse(request.schema.as_bytes());
    read.map(drop)
        .map_err(|why| invalid(format!("--schema: {why}")))
}
