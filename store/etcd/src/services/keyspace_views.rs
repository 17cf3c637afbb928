//! Keyspaces as they are shown.

use holm_runtime::DEFAULT;

use super::Services;
use super::keyspaces::{name_of, no_such, site_of};
use crate::holm::{KeyspaceSite, KeyspaceView, OLDER_COPY};
use crate::keyspaces::{self, Entry, Islands};
use crate::members::Member;
use crate::status::Status;

impl Services {
    pub(super) fn shown(&self, name: &str, members: &[Member]) -> Result<KeyspaceView, Status> {
        let table = self.keyspace_table()?;
        let entry = table.find(name).ok_or_else(|| no_such(name))?;
        Ok(self.view_of(entry, members))
    }

    pub(super) fn view_of(&self, entry: &Entry, members: &[Member]) -> KeyspaceView {
        let view = self.handle().view();
        let site = |(node, standing): (&u64, &str)| {
            let islands = entry.islands.as_ref();
            let is_older_copy = islands.is_some_and(|it| it.is_older_copy(*node));
            let standing = if is_older_copy { OLDER_COPY } else { standing };
            let place = keyspaces::place(&view, entry.id, *node).unwrap_or_default();
            KeyspaceSite {
                name: name_of(members, *node),
                node: *node,
                standing: standing.to_owned(),
                addresses: place.addresses,
                error: place.error,
                slot: entry.islands.as_ref().map_or(0, |it| slot(it, *node)),
                site: site_of(members, *node),
            }
        };
        let voting = entry.sites.iter().map(|it| (it, "member"));
        let joining = entry.joining.iter().map(|it| (it, "joining"));
        let leaving = entry.leaving.iter().map(|it| (it, "leaving"));
        let mut sites: Vec<KeyspaceSite> = voting.chain(joining).chain(leaving).map(site).collect();
        let is_ready = sites.iter().all(|it| !it.addresses.is_empty());
        let away = entry.islands.iter().flat_map(|it| it.away.keys());
        sites.extend(away.map(|it| KeyspaceSite {
            // Nobody is to ask it.
            addresses: Vec::new(),
            ..site((it, "left out"))
        }));
        sites.sort_by(|one, two| (&one.site, &one.name).cmp(&(&two.site, &two.name)));
        KeyspaceView {
            id: entry.id,
            name: entry.name.clone(),
            guarantee: entry.guarantee.clone(),
            state: if is_ready { "ready" } else { "opening" }.to_owned(),
            sites,
            merge: entry
                .islands
                .as_ref()
                .map_or("", |it| it.merge.as_str())
                .to_owned(),
            here: self.handle().identity().node.value(),
        }
    }

    pub(super) fn default_view(&self, members: &[Member]) -> KeyspaceView {
        let here = self.handle().identity().node.value();
        default_view(members, here)
    }
}

fn slot(islands: &Islands, node: u64) -> u32 {
    islands.slots.get(&node).copied().map_or(0, u32::from)
}

fn default_view(members: &[Member], here: u64) -> KeyspaceView {
    let site = |member: &Member| KeyspaceSite {
        name: member.name.clone(),
        node: member.node.value(),
        standing: if member.is_learner {
            "joining"
        } else {
            "member"
        }
        .to_owned(),
        addresses: member.client_urls.clone(),
        error: String::new(),
        slot: 0,
        site: member.site.clone(),
    };
    let mut sites: Vec<KeyspaceSite> = members.iter().map(site).collect();
    sites.sort_by(|one, two| one.name.cmp(&two.name));
    let is_ready = sites.iter().all(|it| !it.addresses.is_empty());
    KeyspaceView {
        id: DEFAULT.value(),
        name: "default".to_owned(),
        guarantee: "linearizable".to_owned(),
        state: if is_ready { "ready" } else { "opening" }.to_owned(),
        sites,
        merge: String::new(),
        here,
    }
}
