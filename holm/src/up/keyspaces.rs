//! The keyspaces beside `default` that this site takes part in: opened, served, and removed as the table says.
//!
//! The table is a fact of keyspace `default`. This follows it and nothing else, again and again: what is to be here
//! and is not is opened, what is here and is not to be is removed. So it does not matter where a crash came.
//!
//! What would surprise: who belongs to a keyspace is changed by the site that leads that keyspace, whoever was asked.

mod islands;
mod kept;
mod open;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use holm_base::{GroupId, NodeId};
use holm_etcd::keyspaces::{Entry, Place, Table};
use holm_etcd::members::Member;
use holm_etcd::services::{Neighbours, Services};
use holm_etcd::status::{Code, Status};
use holm_net::{Certificates, Room};
use holm_runtime::{Keyspaces, MemberConfig};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::peers::Links;
use crate::config::Config;
use islands::Receiving;
use kept::Kept;
use open::Open;

/// How often the table is looked at. A look at a table that has not changed costs next to nothing.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// After how many looks what did not succeed is tried again.
const LOOKS_A_TRY: u32 = 10;

/// What others show of the keyspaces that are open here.
#[derive(Debug, Default)]
pub(super) struct Shown {
    open: Mutex<BTreeMap<String, Services>>,
    home: OnceLock<(Services, Keyspaces)>,
}

impl Shown {
    fn set(&self, open: &BTreeMap<u32, Open>) {
        let all = open.values();
        let all = all.map(|it| (it.name.clone(), it.services.clone()));
        *self.open.lock().unwrap_or_else(PoisonError::into_inner) = all.collect();
    }
}

impl Neighbours for Shown {
    fn keyspaces(&self) -> Vec<Services> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.values().cloned().collect()
    }

    fn strays(&self) -> u64 {
        let home = self.home.get();
        home.map_or(0, |(_services, keyspaces)| keyspaces.strays())
    }

    fn home(&self) -> Option<Services> {
        self.home
            .get()
            .map(|(services, _keyspaces)| services.clone())
    }
}

/// What keyspaces are opened with.
#[derive(Clone, Debug)]
pub(super) struct Means {
    pub(super) config: Config,
    pub(super) keyspaces: Keyspaces,
    pub(super) links: Arc<Links>,
    pub(super) room: Room,
    pub(super) certificates: Option<Arc<Certificates>>,
}

impl Means {
    fn cluster(&self) -> holm_base::ClusterId {
        self.keyspaces.ids().0
    }
}

/// Follows the table.
#[derive(Debug)]
pub(super) struct Hosting {
    means: Means,
    /// Keyspace `default`, which has the table.
    services: Services,
    node: NodeId,
    kept: Kept,
    open: BTreeMap<u32, Open>,
    /// The table as of which nothing is here that is not to be.
    swept: Option<Table>,
    /// Where each is reached here, or why it is not.
    places: BTreeMap<u32, Place>,
    shown: Arc<Shown>,
    /// Of local-first keyspaces that took this site in, what it is to have before it serves.
    receiving: BTreeMap<u32, Receiving>,
}

impl Hosting {
    pub(super) fn new(means: Means, services: Services, shown: Arc<Shown>) -> anyhow::Result<Self> {
        shown
            .home
            .get_or_init(|| (services.clone(), means.keyspaces.clone()));
        services.with_neighbours(Arc::<Shown>::clone(&shown));
        Ok(Self {
            kept: Kept::load(&means.config.data_dir)?,
            node: services.handle().identity().node,
            means,
            services,
            open: BTreeMap::new(),
            swept: None,
            places: BTreeMap::new(),
            shown,
            receiving: BTreeMap::new(),
        })
    }

    /// Opens what the table says that this site had when it stopped.
    pub(super) async fn begin(&mut self) {
        self.look(true).await;
    }

    /// Follows the table until told to stop; then closes the doors, and the node's threads end with the node.
    pub(super) async fn run(mut self, mut stop: watch::Receiver<bool>) {
        for look in 1_u32.. {
            let is_try = look.is_multiple_of(LOOKS_A_TRY);
            tokio::select! {
                _told = stop.wait_for(|told| *told) => break,
                () = async {
                    tokio::time::sleep(LOOK_EVERY).await;
                    self.look(is_try).await;
                    self.tell().await;
                } => {}
            }
        }
        let closing: JoinSet<()> = self.open.into_values().map(Open::shut).collect();
        closing.join_all().await;
    }

    /// Does what the table says. What did not succeed last time is tried again where `is_try`.
    async fn look(&mut self, is_try: bool) {
        let table = match self.services.keyspace_table() {
            Ok(table) => table,
            Err(error) => {
                if is_try {
                    tracing::error!(error = error.message(), "keyspaces stay as they are");
                }
                return;
            }
        };
        if self.swept.as_ref() != Some(&table) && (is_try || self.swept.is_some()) {
            self.remove_what_is_over(&table).await;
        }
        for entry in &table.keyspaces {
            let is_new = !self.places.contains_key(&entry.id);
            if entry.is_at(self.node) && !self.open.contains_key(&entry.id) && (is_new || is_try) {
                self.open(entry).await;
            }
        }
        self.follow_islands(&table).await;
        if is_try {
            self.leave_out_silent(&table).await;
            self.follow_members(&table).await;
        }
    }

    /// Says where keyspaces are reached here, if that is not known.
    async fn tell(&self) {
        if let Err(status) = self.services.tell_places(&self.places).await {
            tracing::info!(
                why = status.message(),
                "the cluster does not know where keyspaces are reached"
            );
        }
    }

    async fn remove_what_is_over(&mut self, table: &Table) {
        let keyspaces = self.means.keyspaces.clone();
        let found = tokio::task::spawn_blocking(move || keyspaces.found()).await;
        let mut over = found.unwrap_or_default();
        over.retain(|group| table.is_over(*group, self.node));
        let mut are_gone = true;
        for group in over {
            are_gone &= self.remove(group).await;
        }
        self.swept = are_gone.then(|| table.clone());
    }

    /// Closes what is here in a place and deletes it; whether it did.
    async fn remove(&mut self, group: GroupId) -> bool {
        let is_it = |(_, it): &(&u32, &Open)| it.place == group;
        let open = self.open.iter().find(is_it).map(|(id, _)| *id);
        // What has that number and is open elsewhere is of a site that came back.
        let number = group.value();
        let id = open.or_else(|| (!self.open.contains_key(&number)).then_some(number));
        if let Some(id) = id {
            self.places.remove(&id);
            self.receiving.remove(&id);
        }
        if let Some(open) = open.and_then(|id| self.open.remove(&id)) {
            self.shown.set(&self.open);
            open.shut().await;
        }
        let keyspaces = self.means.keyspaces.clone();
        let removing = tokio::task::spawn_blocking(move || keyspaces.remove(group));
        let removed = removing.await;
        let is_gone = matches!(removed, Ok(Ok(())));
        match removed {
            Ok(Ok(())) => {
                tracing::info!(%group, "a keyspace was removed, and its files are deleted");
                if let Err(error) = self.kept.forget(group) {
                    tracing::warn!(
                        error = format!("{error:#}"),
                        "a removed keyspace's port is remembered"
                    );
                }
            }
            Ok(Err(error)) => {
                let error = anyhow::Error::from(error);
                tracing::warn!(%group, error = format!("{error:#}"), "a keyspace is not removed yet");
            }
            Err(error) => tracing::error!(%group, %error, "removing a keyspace failed"),
        }
        is_gone
    }

    async fn open(&mut self, entry: &Entry) {
        let opened = match self.services.members().await {
            Ok(members) => {
                let members = founders(entry, &members);
                open::open(&self.means, entry, (self.node, members), &mut self.kept).await
            }
            Err(status) => Err(anyhow::anyhow!("{}", status.message())),
        };
        match opened {
            Ok(open) => {
                open.services
                    .with_neighbours(Arc::<Shown>::clone(&self.shown));
                let addresses = open.urls.clone();
                tracing::info!(
                    keyspace = entry.name,
                    address = addresses.join(", "),
                    "ready to serve a keyspace"
                );
                let error = String::new();
                self.places.insert(entry.id, Place { addresses, error });
                self.open.insert(entry.id, open);
                self.shown.set(&self.open);
            }
            Err(error) => {
                let error = format!("{error:#}");
                let keyspace = entry.name.as_str();
                tracing::warn!(
                    keyspace,
                    error,
                    "a keyspace is not open here; it is tried again"
                );
                let addresses = Vec::new();
                self.places.insert(entry.id, Place { addresses, error });
            }
        }
    }

    /// Has those keyspaces that this site leads follow the table in who belongs to them.
    async fn follow_members(&self, table: &Table) {
        for entry in &table.keyspaces {
            let Some(open) = self.open.get(&entry.id) else {
                continue;
            };
            let (joining, leaving) = self.changing(entry);
            let is_settled = joining.is_empty() && leaving.is_empty();
            if is_settled || open.services.handle().leader() != Some(self.node) {
                continue;
            }
            if let Err(status) = self.change_members(entry, &open.services).await {
                let (keyspace, why) = (entry.name.as_str(), status.message());
                tracing::info!(keyspace, why, "its members are not as they should be yet");
            }
        }
    }

    /// Which nodes are to come to the group that this node is of, and to go from it. Islands follow the table each by
    /// itself; of the nodes of its own site this one sees to those that come and go while the site stays.
    fn changing(&self, entry: &Entry) -> (Vec<u64>, Vec<u64>) {
        let Some(islands) = &entry.islands else {
            return (entry.joining.clone(), entry.leaving.clone());
        };
        let own = self.node.value();
        let mates: Vec<u64> = islands.mates(own).chain([own]).collect();
        let stays = mates.iter().any(|it| entry.sites.contains(it));
        if islands.going(own).is_some() || !stays {
            return (Vec::new(), Vec::new());
        }
        let mine = |all: &[u64]| {
            all.iter()
                .copied()
                .filter(|it| mates.contains(it))
                .collect()
        };
        (mine(&entry.joining), mine(&entry.leaving))
    }

    async fn change_members(&self, entry: &Entry, services: &Services) -> Result<(), Status> {
        let (joining, leaving) = self.changing(entry);
        let there = services.members().await?;
        let all = self.services.members().await?;
        for node in &joining {
            match there.iter().find(|it| it.node.value() == *node) {
                Some(member) if !member.is_learner => self.settle(entry.id, *node).await?,
                Some(_learner) => {}
                None => {
                    let known = all.iter().find(|it| it.node.value() == *node);
                    let urls = known.map_or(&[][..], |it| &it.peer_urls);
                    services.take_site_in(NodeId::new(*node), urls).await?;
                }
            }
        }
        for node in &leaving {
            if there.iter().any(|it| it.node.value() == *node) {
                services.let_site_go(NodeId::new(*node)).await?;
            }
            self.settle(entry.id, *node).await?;
        }
        Ok(())
    }

    /// What was under way with a site is done.
    pub(super) async fn settle(&self, id: u32, node: u64) -> Result<(), Status> {
        let settled = self.services.edit(|table| {
            let mut entries = table.keyspaces.iter_mut();
            if let Some(entry) = entries.find(|it| it.id == id) {
                if entry.joining.contains(&node) {
                    entry.joining.retain(|it| *it != node);
                    entry.sites.push(node);
                }
                if entry.leaving.contains(&node) {
                    entry.leaving.retain(|it| *it != node);
                    entry.left.push(node);
                    if let Some(islands) = &mut entry.islands {
                        let unreadable = |error| Status::new(Code::Internal, format!("{error}"));
                        islands.let_node_go(node).map_err(unreadable)?;
                    }
                }
            }
            Ok(())
        });
        settled.await
    }
}

/// Who belongs to a keyspace as it begins, with what the cluster knows of them.
fn founders(entry: &Entry, members: &[Member]) -> Vec<MemberConfig> {
    let known = |node: &u64| {
        let member = members.iter().find(|it| it.node.value() == *node);
        MemberConfig {
            node: NodeId::new(*node),
            name: member.map_or_else(String::new, |it| it.name.clone()),
            peer_urls: member.map_or_else(Vec::new, |it| it.peer_urls.clone()),
        }
    };
    // An island begins with itself, whenever that is.
    let islands = entry.islands.as_ref();
    let away = islands.into_iter().flat_map(|it| it.away.keys().copied());
    let late = entry.hosts().chain(away);
    let late = late.filter(|it| islands.is_some() && !entry.founders.contains(it));
    let all: Vec<u64> = entry.founders.iter().copied().chain(late).collect();
    all.iter().map(known).collect()
}
