//! How a node is, with all that etcd's own status has no field for.

use std::time::Duration;

use holm_base::{NodeId, Time};
use holm_kv::Cleaner;
use holm_kv::command::AlarmKind;
use holm_raft::RoleName;
use holm_replica::Standing;

use super::{LinkCertificate, Services};
use crate::context::Context;
use crate::holm::{NodeCertificate, NodeLink, NodeStatus, NodeStatusRequest};
use crate::status::Status;

impl Services {
    /// How this node is. Anybody may ask, as for etcd's status.
    ///
    /// # Errors
    ///
    /// If too much waits or the node is stopping.
    pub async fn node_status(
        &self,
        _cx: &Context,
        _request: NodeStatusRequest,
    ) -> Result<NodeStatus, Status> {
        let handle = self.handle();
        let (view, now, hub) = (handle.view(), handle.now(), handle.hub());
        let (sizes, background) = (view.sizes, view.background);
        let age = |at: Time| millis(now.since(at));
        let standing = handle.standing().await?;
        let links = self.links();
        let certificate = self.link_certificate();
        Ok(NodeStatus {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            keyspace: handle.keyspace().to_owned(),
            guarantee: self.guarantee().to_owned(),
            cluster: handle.identity().cluster.value(),
            node: handle.identity().node.value(),
            is_leader: handle.leader() == Some(handle.identity().node),
            term: self.term_of(&view),
            applied: view.applied.value(),
            revision: view.revision().value(),
            compacted: view.root.compacted().value(),
            keys: sizes.keys,
            old_versions: sizes.old_versions,
            retained_bytes: sizes.retained_bytes.value(),
            file_bytes: sizes.file_bytes.value(),
            quota_bytes: handle.quota_bytes(),
            unflushed_bytes: sizes.unflushed_bytes.value(),
            cleaner: cleaner_name(background.cleaner).to_owned(),
            cleaner_bytes_per_second: background.cleaner_rate.unwrap_or(0),
            checkpoint_age_ms: background.checkpointed.map(age),
            checkpoint_bytes: sizes.checkpoint_bytes.value(),
            watchers: count(hub.watchers()),
            slow_watchers: count(hub.slow_watchers()),
            leases: count(view.leases),
            alarms: view
                .alarms
                .iter()
                .map(|it| alarm_name(it.kind).to_owned())
                .collect(),
            uptime_ms: age(Time::ZERO),
            leader: handle.leader().map_or(0, NodeId::value),
            is_learner: self.is_learner(),
            island: self.island().unwrap_or_default(),
            name: handle.identity().name.clone(),
            role: role_name(standing.role).to_owned(),
            committed: standing.commit.value(),
            durable: standing.durable.value(),
            voters: count(standing.configuration.voters().iter().count()),
            is_cut_off: is_cut_off(handle.identity().node, &standing, &links),
            links,
            certificate: certificate.map(|it| NodeCertificate {
                until: it.until,
                is_authority: it.is_authority,
            }),
            invitations: self.invitations(),
            keyspaces: self.keyspace_statuses_told().await?,
            replacement: self.replacement().await?,
            site: handle.identity().site.clone(),
        })
    }

    pub(crate) fn link_certificate(&self) -> Option<LinkCertificate> {
        let links = self.shared.links.get()?;
        links.certificate()
    }

    pub(super) fn links(&self) -> Vec<NodeLink> {
        let links = self.shared.links.get();
        links.map_or_else(Vec::new, |links| links.links())
    }
}

/// Whether those voters that can be reached, this node included, are no quorum. A node alone is not cut off.
fn is_cut_off(own: NodeId, standing: &Standing, links: &[NodeLink]) -> bool {
    let is_up = |node: NodeId| {
        let mut links = links.iter();
        node == own || links.any(|link| link.is_up && link.node == node.value())
    };
    standing.configuration.voters().agreed(is_up) == Some(false)
}

const fn role_name(role: RoleName) -> &'static str {
    match role {
        RoleName::Leader => "leader",
        RoleName::Follower => "follower",
        RoleName::PreCandidate | RoleName::Candidate => "candidate",
        RoleName::Recovering => "recovering",
    }
}

const fn cleaner_name(cleaner: Cleaner) -> &'static str {
    match cleaner {
        Cleaner::Idle => "idle",
        Cleaner::Copying => "copying",
        Cleaner::Relinking => "relinking",
        Cleaner::Waiting => "waiting",
    }
}

const fn alarm_name(kind: AlarmKind) -> &'static str {
    match kind {
        AlarmKind::NoSpace => "NOSPACE",
        AlarmKind::Corrupt => "CORRUPT",
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}
