//! Keyspaces: created, shown, removed, and at which sites each is.
//!
//! A call here changes the table of keyspaces and nothing else. Every site follows the table, in
//! its own time: it opens what is to be there, and removes what is not to be any more. So a crash
//! anywhere leaves nothing half done for long.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use holm_base::NodeId;
use holm_kv::command::{Command, Proposal};
use holm_kv::outcome::Outcome;
use holm_local_first::Vector;
use holm_runtime::DEFAULT;

use super::{Services, island_sites};
use crate::context::Context;
use crate::holm::{
    KeyspaceCreateRequest, KeyspaceList, KeyspaceListRequest, KeyspaceMemberRequest,
    KeyspaceRemoveRequest, KeyspaceStatus, KeyspaceView, SlotSeq,
};
use crate::keyspaces::{self, Entry, KEYSPACES_MAX, Place, Table};
use crate::members::Member;
use crate::status::{Code, Status};

/// How long a change of a keyspace's sites may take until its caller is told that it goes on.
const CHANGE_PATIENCE: Duration = Duration::from_secs(7);
const CHANGE_LOOK: Duration = Duration::from_millis(50);

pub(super) const LOCAL_FIRST: &str = "local-first";
const GUARANTEES: &str = "`linearizable` and `local-first`";

/// How often a change is tried that others were faster with.
const TRIES: usize = 16;

pub(super) fn invalid(text: impl Into<String>) -> Status {
    Status::new(Code::InvalidArgument, text.into())
}

pub(super) fn not_now(text: impl Into<String>) -> Status {
    Status::new(Code::FailedPrecondition, text.into())
}

pub(super) fn no_such(name: &str) -> Status {
    let text = format!("there is no keyspace {name}: `holm keyspace list` shows all");
    Status::new(Code::NotFound, text)
}

impl Services {
    /// Creates a keyspace. Its sites open it as soon as they hear of it.
    ///
    /// # Errors
    ///
    /// If the name is taken or none, the guarantee is not built, a site is unknown, there are too
    /// many keyspaces, or users are enforced and the caller is no administrator.
    pub async fn keyspace_create(
        &self,
        cx: &Context,
        request: KeyspaceCreateRequest,
    ) -> Result<KeyspaceView, Status> {
        self.check_is_default()?;
        self.check_admin(cx)?;
        if let Some(why) = keyspaces::misnamed(&request.name) {
            return Err(invalid(why));
        }
        check_guarantee(&request.guarantee, &request.merge)?;
        super::local_first::check_options(&request)?;
        super::local_first::check_schema(&request)?;
        let members = self.members().await?;
        let sites = chosen(&members, &request.sites)?;
        if guarantee(&request) == LOCAL_FIRST {
            let mut named = request.sites.iter();
            named.try_for_each(|name| check_whole(&members, name))?;
        }
        let islands = self.islands(&request, &sites, &members)?;
        let listen = places(&members, &sites, &request.listen)?;
        let nodes: Vec<u64> = sites.iter().map(|it| it.value()).collect();
        self.edit(|table| {
            if table.find(&request.name).is_some() {
                let name = &request.name;
                return Err(Status::new(
                    Code::AlreadyExists,
                    format!("there is a keyspace {name} already: choose another name, or `holm keyspace remove` it"),
                ));
            }
            if table.keyspaces.len() + 1 >= KEYSPACES_MAX {
                return Err(Status::new(
                    Code::ResourceExhausted,
                    format!("a cluster holds {KEYSPACES_MAX} keyspaces and has them: remove one with `holm keyspace remove`"),
                ));
            }
            check_unused(table, &listen)?;
            let added = table.add(Entry {
                name: request.name.clone(),
                guarantee: guarantee(&request).to_owned(),
                founders: nodes.clone(),
                sites: nodes.clone(),
                listen: listen.clone(),
                islands: islands.clone(),
                ..Entry::default()
            });
            let used_up = || not_now("all ids of keyspaces have been used");
            added.map(drop).ok_or_else(used_up)
        })
        .await?;
        self.shown(&request.name, &members)
    }

    /// All keyspaces, or one.
    ///
    /// # Errors
    ///
    /// If there is none of that name; if users are enforced and the caller has not logged in.
    pub async fn keyspace_list(
        &self,
        cx: &Context,
        request: KeyspaceListRequest,
    ) -> Result<KeyspaceList, Status> {
        self.check_is_default()?;
        self.catch_up_if_led().await?;
        self.check_login(cx)?;
        let members = self.members().await?;
        let table = self.keyspace_table()?;
        let mut all = vec![self.default_view(&members)];
        all.extend(table.keyspaces.iter().map(|it| self.view_of(it, &members)));
        all[1..].sort_by(|one, two| one.name.cmp(&two.name));
        if !request.name.is_empty() {
            all.retain(|it| it.name == request.name);
            if all.is_empty() {
                return Err(no_such(&request.name));
            }
        }
        Ok(KeyspaceList { keyspaces: all })
    }

    /// Removes a keyspace with all that is in it, for ever.
    ///
    /// # Errors
    ///
    /// If there is none of that name, it is `default`, or users are enforced and the caller is no
    /// administrator.
    pub async fn keyspace_remove(
        &self,
        cx: &Context,
        request: KeyspaceRemoveRequest,
    ) -> Result<KeyspaceList, Status> {
        self.check_is_default()?;
        self.check_admin(cx)?;
        check_not_default(&request.name)?;
        self.edit(|table| {
            if table.find(&request.name).is_none() {
                return Err(no_such(&request.name));
            }
            table.keyspaces.retain(|it| it.name != request.name);
            Ok(())
        })
        .await?;
        Ok(KeyspaceList::default())
    }

    /// Takes a site into a keyspace, or lets it go. That is under way when this returns.
    ///
    /// # Errors
    ///
    /// If there is no such keyspace or site, the site was let go once, or is the last one.
    pub async fn keyspace_member(
        &self,
        cx: &Context,
        request: KeyspaceMemberRequest,
    ) -> Result<KeyspaceView, Status> {
        self.check_is_default()?;
        self.check_admin(cx)?;
        check_not_default(&request.name)?;
        let members = self.members().await?;
        let nodes = match site_nodes(&members, &request.site) {
            Ok(nodes) => nodes.iter().map(|it| it.value()).collect(),
            Err(unknown) => self.stranger(&request).ok_or(unknown)?,
        };
        self.edit(|table| {
            let place = island_sites::place_of(table, &nodes, &request)?;
            let found = table.keyspaces.iter_mut();
            let entry = found.into_iter().find(|it| it.name == request.name);
            let entry = entry.ok_or_else(|| no_such(&request.name))?;
            let is_node = entry.islands.is_some() && check_whole(&members, &request.site).is_err();
            if is_node && request.is_leaving {
                return leave_node(entry, &nodes, &request);
            }
            if entry.islands.is_some() {
                check_whole(&members, &request.site)?;
            }
            if request.is_leaving {
                begin_leaving(entry, &nodes, &request)
            } else {
                begin_joining(entry, &nodes, &request, place)
            }
        })
        .await?;
        self.shown(&request.name, &members)
    }

    pub(super) fn check_is_default(&self) -> Result<(), Status> {
        if self.handle().group() == DEFAULT {
            return Ok(());
        }
        let name = self.handle().keyspace();
        Err(not_now(format!(
            "this is the address of keyspace {name}: ask keyspace default, which has the table of all"
        )))
    }

    /// The table as this node has it.
    ///
    /// # Errors
    ///
    /// If this release cannot read it.
    pub fn keyspace_table(&self) -> Result<Table, Status> {
        let table = Table::of(&self.handle().view());
        table.map_err(|error| Status::new(Code::Internal, error.to_string()))
    }

    /// Changes the table, however many others do at the same time.
    ///
    /// # Errors
    ///
    /// What `change` says; if no quorum answers.
    pub async fn edit(
        &self,
        change: impl Fn(&mut Table) -> Result<(), Status>,
    ) -> Result<(), Status> {
        for _ in 0..TRIES {
            self.catch_up().await?;
            let view = self.handle().view();
            let before = self.keyspace_table()?;
            let mut table = before.clone();
            change(&mut table)?;
            if table == before || self.swap(table.swap(&view)).await? {
                return Ok(());
            }
        }
        let text = "others change keyspaces all the time: try again";
        Err(Status::new(Code::Unavailable, text))
    }

    async fn swap(&self, command: Command) -> Result<bool, Status> {
        let caller = None;
        let applied = self.order(Proposal { caller, command }).await?;
        match applied.result? {
            Outcome::Txn { succeeded, .. } => Ok(succeeded),
            other => unreachable!("a swap was answered with {other:?}"),
        }
    }

    /// Says where a keyspace is reached at this site, and forgets what sites said of keyspaces
    /// that are gone.
    ///
    /// # Errors
    ///
    /// If no quorum answers.
    pub async fn tell_places(&self, places: &BTreeMap<u32, Place>) -> Result<(), Status> {
        let view = self.handle().view();
        let table = self.keyspace_table()?;
        let node = self.handle().identity().node;
        let is_here = |id| {
            table
                .at(holm_base::GroupId::new(id))
                .is_some_and(|it| it.is_at(node))
        };
        let known = places.iter().filter(|(id, _)| is_here(**id));
        let told =
            known.filter_map(|(id, place)| keyspaces::tell_place(&view, *id, node.value(), place));
        let mut told: Vec<Command> = told.collect();
        if self.handle().leader() == Some(node) {
            told.extend(keyspaces::forget_places(&view, &table));
        }
        self.remember_now(told).await
    }

    /// Takes a site in among the members of this keyspace, whose leader this node is.
    ///
    /// # Errors
    ///
    /// As for any member.
    pub async fn take_site_in(&self, node: NodeId, urls: &[String]) -> Result<(), Status> {
        match self.handle().bootstrap() {
            Some(bootstrap) => self.take_in_as(bootstrap, node, urls, false).await,
            None => Ok(()),
        }
    }

    /// Lets a site go from among the members of this keyspace.
    ///
    /// # Errors
    ///
    /// As for any member.
    pub async fn let_site_go(&self, node: NodeId) -> Result<(), Status> {
        match self.handle().bootstrap() {
            Some(bootstrap) => self.let_go(bootstrap, node).await.map(drop),
            None => Ok(()),
        }
    }

    /// How the keyspaces that are open here are, this one first.
    pub(super) fn keyspace_statuses(&self) -> Vec<KeyspaceStatus> {
        let mut all = vec![self.keyspace_status()];
        let is_home = self.handle().group() == DEFAULT;
        let others = self.shared.neighbours.get().filter(|_| is_home);
        let others = others.map(|it| it.keyspaces());
        all.extend(others.unwrap_or_default().iter().map(Self::keyspace_status));
        all
    }

    pub(super) fn keyspace_status(&self) -> KeyspaceStatus {
        let (handle, view) = (self.handle(), self.handle().view());
        KeyspaceStatus {
            name: handle.keyspace().to_owned(),
            revision: view.revision().value(),
            keys: view.sizes.keys,
            retained_bytes: view.sizes.retained_bytes.value(),
            file_bytes: view.sizes.file_bytes.value(),
            leader: handle.leader().map_or(0, NodeId::value),
            addresses: handle.identity().client_urls.clone(),
            alarms: u64::try_from(view.alarms.len()).unwrap_or(u64::MAX),
            guarantee: self.guarantee().to_owned(),
            vector: view
                .island
                .as_ref()
                .map_or_else(Vec::new, |it| seqs(&it.vector)),
            conflicts: view.island.as_ref().map_or(0, |it| it.conflicts),
            islands: Vec::new(),
            shut: self.shut_why().unwrap_or_default(),
        }
    }

    /// What the keyspace guarantees.
    #[must_use]
    pub fn guarantee(&self) -> &'static str {
        match self.handle().view().island {
            Some(_) => LOCAL_FIRST,
            None => "linearizable",
        }
    }

    /// The gauges of all keyspaces that are open here, as text for a scrape.
    #[must_use]
    pub fn keyspace_gauges(&self) -> String {
        let all = self.keyspace_statuses();
        let own = self.handle().identity().node.value();
        let mut text = String::new();
        let mut gauge = |name: &str, help: &str, read: &dyn Fn(&KeyspaceStatus) -> i64| {
            text.push_str(&format!("# HELP {name} {help}\n# TYPE {name} gauge\n"));
            for status in &all {
                let line = format!("{name}{{keyspace=\"{}\"}} {}\n", status.name, read(status));
                text.push_str(&line);
            }
        };
        let signed = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        gauge(
            "holm_keyspace_revision",
            "The keyspace's revision.",
            &|it| it.revision,
        );
        gauge("holm_keyspace_keys", "Live keys of the keyspace.", &|it| {
            signed(it.keys)
        });
        gauge(
            "holm_keyspace_file_bytes",
            "Bytes of the keyspace's files.",
            &|it| signed(it.file_bytes),
        );
        gauge(
            "holm_keyspace_is_leader",
            "Whether this node leads the keyspace.",
            &|it| i64::from(it.leader == own),
        );
        if let Some(strays) = self.shared.neighbours.get().map(|it| it.strays()) {
            let name = "holm_network_strays_total";
            let help = "Messages of other nodes for keyspaces that are not here.";
            text.push_str(&format!(
                "# HELP {name} {help}\n# TYPE {name} counter\n{name} {strays}\n"
            ));
        }
        text
    }

    /// Takes the site that is reached there into this keyspace, as `etcdctl member add` asks for
    /// it, and waits until it belongs to it.
    pub(super) async fn add_site_by_url(&self, urls: &[String]) -> Result<NodeId, Status> {
        self.check_is_one_for_all()?;
        let home = self.home()?;
        let known = home.members().await?;
        let found = known
            .iter()
            .find(|it| it.peer_urls.iter().any(|url| urls.contains(url)));
        let site = found.ok_or_else(|| {
            not_now(format!(
                "no site of the cluster is reached at {}: let it join with `holm site add` first",
                urls.join(", ")
            ))
        })?;
        self.change_site(&home, site, false).await?;
        Ok(site.node)
    }

    /// Lets a site go from this keyspace, as `etcdctl member remove` asks for it.
    pub(super) async fn remove_site_by_id(&self, node: NodeId) -> Result<(), Status> {
        self.check_is_one_for_all()?;
        let home = self.home()?;
        let there = self.members().await?;
        let site = there.iter().find(|it| it.node == node);
        let site = site.ok_or_else(crate::errors::member_not_found)?;
        self.change_site(&home, site, true).await
    }

    async fn change_site(
        &self,
        home: &Self,
        site: &Member,
        is_leaving: bool,
    ) -> Result<(), Status> {
        let nodes = [site.node.value()];
        let name = self.handle().keyspace();
        let request = KeyspaceMemberRequest {
            name: name.to_owned(),
            site: site.name.clone(),
            is_leaving,
            is_lost: false,
        };
        home.edit(|table| {
            let mut entries = table.keyspaces.iter_mut();
            let entry = entries
                .find(|it| it.name == name)
                .ok_or_else(|| no_such(name))?;
            if is_leaving {
                begin_leaving(entry, &nodes, &request)
            } else {
                begin_joining(entry, &nodes, &request, None)
            }
        })
        .await?;
        let begun = self.handle().now();
        while self.handle().now().since(begun) < CHANGE_PATIENCE {
            let members = self.members().await?;
            if members.iter().any(|it| it.node == site.node) != is_leaving {
                return Ok(());
            }
            tokio::time::sleep(CHANGE_LOOK).await;
        }
        Err(crate::errors::timed_out())
    }

    pub(super) fn home(&self) -> Result<Self, Status> {
        let home = self.shared.neighbours.get().and_then(|it| it.home());
        home.ok_or_else(|| not_now("this node does not know keyspace default yet: try again"))
    }
}

pub(super) fn seqs(vector: &Vector) -> Vec<SlotSeq> {
    let all = vector.iter().map(|(slot, seq)| SlotSeq {
        slot: u32::from(slot.value()),
        seq,
    });
    all.collect()
}

fn begin_joining(
    entry: &mut Entry,
    nodes: &[u64],
    request: &KeyspaceMemberRequest,
    place: Option<u32>,
) -> Result<(), Status> {
    let (site, name) = (&request.site, &request.name);
    if place.is_some() {
        return island_sites::join(entry, nodes, request, place);
    }
    if entry.islands.is_some() && nodes.iter().all(|it| entry.leaving.contains(it)) {
        return Err(not_now(format!(
            "site {site} is on its way out of keyspace {name}: it can come back once it has gone"
        )));
    }
    let goes = |node: &&u64| entry.left.contains(node) || entry.leaving.contains(node);
    // One node of a site may have gone, and others come.
    let nodes: Vec<u64> = nodes.iter().filter(|it| !goes(it)).copied().collect();
    if nodes.is_empty() {
        return Err(not_now(format!(
            "site {site} was let go from keyspace {name}, and who was let go cannot come back: \
             take another site in, or make a new keyspace"
        )));
    }
    if entry.islands.is_some() {
        return island_sites::join(entry, &nodes, request, None);
    }
    for node in nodes {
        if !entry.hosts().any(|it| it == node) {
            entry.joining.push(node);
        }
    }
    Ok(())
}

/// One node of a site goes from a local-first keyspace.
fn leave_node(
    entry: &mut Entry,
    nodes: &[u64],
    request: &KeyspaceMemberRequest,
) -> Result<(), Status> {
    let (site, name) = (&request.site, &request.name);
    let there = nodes
        .iter()
        .find(|node| entry.hosts().any(|it| it == **node));
    let Some(node) = there.copied() else {
        return Err(not_now(format!(
            "keyspace {name} is not at node {site}: `holm keyspace members {name}` shows where it is"
        )));
    };
    if entry.leaving.contains(&node) {
        return Ok(());
    }
    island_sites::leave_site(entry, node, site)
}

fn begin_leaving(
    entry: &mut Entry,
    nodes: &[u64],
    request: &KeyspaceMemberRequest,
) -> Result<(), Status> {
    let (site, name) = (&request.site, &request.name);
    if entry.islands.is_none() && request.is_lost {
        return Err(not_now(format!(
            "keyspace {name} is linearizable: most of its sites let a lost one go without asking it; leave out --lost"
        )));
    }
    if nodes.iter().all(|it| entry.leaving.contains(it)) && !request.is_lost {
        return island_sites::check_word(entry, nodes, request);
    }
    if island_sites::forget(entry, nodes) {
        return Ok(());
    }
    if !entry.hosts().any(|it| nodes.contains(&it)) {
        return Err(not_now(format!(
            "keyspace {name} is not at site {site}: `holm keyspace members {name}` shows where it is"
        )));
    }
    if entry.sites.iter().all(|it| nodes.contains(it)) {
        let which = match &entry.islands {
            Some(_) => "last one of",
            None => "only one with a vote in",
        };
        return Err(not_now(format!(
            "site {site} is the {which} keyspace {name}: add another first, or `holm keyspace remove {name}`"
        )));
    }
    if entry.islands.is_some() {
        return island_sites::leave(entry, nodes, request);
    }
    for node in nodes {
        let is_here = entry.hosts().any(|it| it == *node);
        entry.sites.retain(|it| it != node);
        entry.joining.retain(|it| it != node);
        if is_here && !entry.leaving.contains(node) {
            entry.leaving.push(*node);
        }
    }
    Ok(())
}

pub(super) fn guarantee(request: &KeyspaceCreateRequest) -> &str {
    match request.guarantee.as_str() {
        "" => "linearizable",
        other => other,
    }
}

fn check_guarantee(guarantee: &str, merge: &str) -> Result<(), Status> {
    match guarantee {
        "" | "linearizable" if merge.is_empty() => Ok(()),
        "" | "linearizable" => Err(invalid(format!(
            "--type {merge} says how concurrent writes become one, and a linearizable keyspace has none: \
             leave it out, or add --guarantee local-first"
        ))),
        LOCAL_FIRST => super::local_first::merge(merge).map(drop),
        "ledger" => Err(Status::new(
            Code::Unimplemented,
            format!("guarantee {guarantee} is not built yet: this release has {GUARANTEES}"),
        )),
        other => Err(invalid(format!(
            "there is no guarantee `{other}`: this release has {GUARANTEES}"
        ))),
    }
}

fn check_not_default(name: &str) -> Result<(), Status> {
    if name == "default" {
        return Err(invalid(
            "keyspace default holds the table of all others: it cannot be removed, and its members are changed with \
             `holm site add` and `etcdctl member`",
        ));
    }
    Ok(())
}

/// The sites of these names, or all that have a vote.
fn chosen(members: &[Member], names: &[String]) -> Result<Vec<NodeId>, Status> {
    if names.is_empty() {
        let voting = members.iter().filter(|it| !it.is_learner);
        return Ok(voting.map(|it| it.node).collect());
    }
    let mut nodes = Vec::new();
    for name in names {
        for node in site_nodes(members, name)? {
            if !nodes.contains(&node) {
                nodes.push(node);
            }
        }
    }
    Ok(nodes)
}

/// The nodes of the site of that name, or the node of that name.
pub(super) fn site_nodes(members: &[Member], name: &str) -> Result<Vec<NodeId>, Status> {
    let at_site = members.iter().filter(|it| it.site == name);
    let at_site: Vec<NodeId> = at_site.map(|it| it.node).collect();
    if !at_site.is_empty() {
        return Ok(at_site);
    }
    let found = members.iter().find(|it| it.name == name);
    found.map(|it| vec![it.node]).ok_or_else(|| {
        // One that was added and has not come yet has no name.
        let named = members.iter().map(|it| it.site.as_str());
        let known: BTreeSet<&str> = named.filter(|it| !it.is_empty()).collect();
        let known: Vec<&str> = known.into_iter().collect();
        invalid(format!(
            "there is no site {name}: the sites are {}",
            known.join(", ")
        ))
    })
}

/// A local-first keyspace is at whole sites: one that is named by a node is that node alone.
pub(super) fn check_whole(members: &[Member], name: &str) -> Result<(), Status> {
    let is_site = members.iter().any(|it| it.site == name);
    match members.iter().find(|it| it.name == name) {
        Some(node) if !is_site => Err(invalid(format!(
            "{name} is a node of site {site}, and a local-first keyspace is at whole sites: name {site}",
            site = node.site
        ))),
        Some(_) | None => Ok(()),
    }
}

pub(super) fn name_of(members: &[Member], node: u64) -> String {
    let found = members.iter().find(|it| it.node.value() == node);
    found.map_or_else(|| format!("{node:x}"), |it| it.name.clone())
}

/// What the site of a node is called.
pub(super) fn site_of(members: &[Member], node: u64) -> String {
    let found = members.iter().find(|it| it.node.value() == node);
    found.map_or_else(|| format!("{node:x}"), |it| it.site.clone())
}

/// Where each site is to listen, if it was said.
fn places(
    members: &[Member],
    sites: &[NodeId],
    listen: &[String],
) -> Result<BTreeMap<u64, Vec<String>>, Status> {
    let mut places: BTreeMap<u64, Vec<String>> = BTreeMap::new();
    for text in listen {
        let (at, address) = match text.split_once('=') {
            Some((site, address)) => (site_nodes(members, site)?, address),
            None => (sites.to_vec(), text.as_str()),
        };
        let is_place = address.parse::<SocketAddr>().is_ok_and(|it| it.port() > 0);
        if !is_place {
            return Err(invalid(format!(
                "--listen: `{text}` is no address: write 127.0.0.1:2479, or SITE=10.0.0.7:2479"
            )));
        }
        for node in at {
            if !sites.contains(&node) {
                return Err(invalid(format!(
                    "--listen: `{text}` is for a site that is not among --sites"
                )));
            }
            places
                .entry(node.value())
                .or_default()
                .push(address.to_owned());
        }
    }
    Ok(places)
}

fn check_unused(table: &Table, listen: &BTreeMap<u64, Vec<String>>) -> Result<(), Status> {
    for entry in &table.keyspaces {
        for (node, addresses) in listen {
            let theirs = entry.listen.get(node).into_iter().flatten();
            let mut both = theirs.filter(|it| addresses.contains(it));
            if let Some(address) = both.next() {
                return Err(not_now(format!(
                    "keyspace {} listens at {address} already: choose another --listen",
                    entry.name
                )));
            }
        }
    }
    Ok(())
}
