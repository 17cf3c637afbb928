//! status, alarm and member: how the node and its cluster are.

use clap::Subcommand;
use holm_etcd::holm::{KeyspaceStatus, NodeStatus, NodeStatusRequest};
use serde_json::{Value, json};

use super::kv::revision;
use super::{Found, cluster, islands};
use crate::client::{Client, ClientError, ConnectionOptions};
use crate::probe;
use crate::quantity;
use crate::screen::{Screen, Table};
use crate::sites::replacement_json;
use crate::wire::etcdserverpb::alarm_request::AlarmAction;
use crate::wire::etcdserverpb::{
    AlarmMember, AlarmRequest, AlarmResponse, AlarmType, LeaseLeasesRequest, LeaseLeasesResponse,
    MemberListRequest, MemberListResponse, RangeRequest, RangeResponse, StatusRequest,
    StatusResponse,
};

/// gRPC's code of a method that is not there.
const UNIMPLEMENTED: u32 = 12;

/// Commands about alarms.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Alarm {
    /// Alarms that are raised
    List,
    /// Clear them all
    Disarm,
}

/// Commands about members.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Member {
    /// All members
    List,
}

/// What `holm status` asks for.
struct Facts {
    endpoint: String,
    status: StatusResponse,
    keys: i64,
    leases: usize,
    alarms: Vec<&'static str>,
    /// From the metrics, where they can be had.
    compacted: Option<u64>,
    watchers: Option<u64>,
}

/// Shows how a node is: ours with all that it knows, an etcd with what its own calls tell.
/// One of a cluster is shown with the others.
pub(super) async fn status(
    client: &mut Client,
    options: &ConnectionOptions,
    screen: Screen,
) -> anyhow::Result<Found> {
    let asked: Result<NodeStatus, ClientError> = client
        .call("/holm.v1.Node/Status", &NodeStatusRequest {})
        .await;
    match asked {
        Ok(status) if status.voters > 1 || status.certificate.is_some() => {
            return cluster::status(client, options, &status, screen).await;
        }
        Ok(status) => {
            screen.show(&node_text(&status), &node_json(client.endpoint(), &status))?;
            return Ok(Found::Yes);
        }
        Err(ClientError::Refused {
            code: UNIMPLEMENTED,
            ..
        }) => {}
        Err(error) => return Err(error.into()),
    }
    let facts = gather(client).await?;
    screen.show(&facts.text()?, &facts.json())?;
    Ok(Found::Yes)
}

pub(super) fn node_text(status: &NodeStatus) -> String {
    let names = |names: &[String]| match names {
        [] => "none".to_owned(),
        names => names.join(", "),
    };
    let cleaner = match (status.cleaner.as_str(), status.cleaner_bytes_per_second) {
        ("copying", 0) => "copying without limit".to_owned(),
        ("copying", rate) => format!("copying at up to {}/s", quantity::bytes(rate)),
        ("waiting", _) => "waiting for a checkpoint".to_owned(),
        (state, _) => state.to_owned(),
    };
    let checkpoint = match (status.checkpoint_age_ms, status.checkpoint_bytes) {
        (Some(age), _) => format!("{} s ago", quantity::count(age / 1000)),
        (None, 0) => "none yet".to_owned(),
        (None, _) => "of an earlier run".to_owned(),
    };
    let behind = match status.slow_watchers {
        0 => String::new(),
        slow => format!(" ({} behind)", quantity::count(slow)),
    };
    let indent = " ".repeat(status.keyspace.len() + 2);
    format!(
        "{}  {}  revision {}  compacted {}  keys {}  retained {}  on disk {}\n\
         {indent}{}cleaner {cleaner}  checkpoint {checkpoint}  watchers {}{behind}  leases {}  alarms {}{}",
        status.keyspace,
        status.guarantee,
        status.revision,
        status.compacted,
        quantity::count(status.keys),
        quantity::bytes(status.retained_bytes),
        quantity::bytes(status.file_bytes),
        quota_text(status.retained_bytes, status.quota_bytes),
        quantity::count(status.watchers),
        quantity::count(status.leases),
        names(&status.alarms),
        others_text(status),
    )
}

/// The other keyspaces at the node, a line each.
fn others_text(status: &NodeStatus) -> String {
    let others = status.keyspaces.iter().skip(1);
    let line = |it: &KeyspaceStatus| {
        let leads = match it.leader {
            0 => "no leader",
            leader if leader == status.node => "leads",
            _ => "follows",
        };
        // An island of one node is led by it, and that says nothing.
        let leads = match leads {
            leads if it.islands.is_empty() => leads.to_owned(),
            "leads" => "local-first".to_owned(),
            other => format!("local-first, {other}"),
        };
        format!(
            "\n{}  {leads}  revision {}  keys {}  retained {}  at {}{}{}",
            it.name,
            it.revision,
            quantity::count(it.keys),
            quantity::bytes(it.retained_bytes),
            it.addresses.join(", "),
            islands_line(it),
            islands::shut_line(it),
        )
    };
    others.map(line).collect()
}

/// What other islands have not seen, in a line of its own; nothing if they are up to date.
fn islands_line(status: &KeyspaceStatus) -> String {
    let told = status.islands.iter().filter_map(|it| {
        let (unseen, missing) = islands::differences(status, it);
        let silence = islands::silence(it);
        if unseen == 0 && missing == 0 && !it.is_cut {
            return None;
        }
        let counted =
            |count, what| (count > 0).then(|| format!("{} {what}", quantity::count(count)));
        let parts = [
            Some(format!("{}{silence}", it.name)),
            counted(unseen, "unseen there"),
            counted(missing, "missing here"),
        ];
        Some(parts.into_iter().flatten().collect::<Vec<_>>().join(", "))
    });
    let told: Vec<String> = told.collect();
    if told.is_empty() {
        return String::new();
    }
    format!("\n{}  {}", " ".repeat(status.name.len()), told.join("; "))
}

fn keyspace_json(status: &KeyspaceStatus) -> Value {
    json!({
        "name": status.name,
        "revision": status.revision,
        "keys": status.keys,
        "retained_bytes": status.retained_bytes,
        "disk_bytes": status.file_bytes,
        "leader": format!("{:x}", status.leader),
        "addresses": status.addresses,
        "alarms": status.alarms,
        "guarantee": status.guarantee,
        "conflicts": status.conflicts,
        "shut": status.shut,
        "islands": status.islands.iter().map(|it| islands::json(status, it)).collect::<Value>(),
    })
}

pub(super) fn node_json(endpoint: &str, status: &NodeStatus) -> Value {
    json!({
        "endpoint": endpoint,
        "holm": status.version,
        "keyspace": status.keyspace,
        "guarantee": status.guarantee,
        "cluster": format!("{:x}", status.cluster),
        "member": format!("{:x}", status.node),
        "is_leader": status.is_leader,
        "term": status.term,
        "applied": status.applied,
        "revision": status.revision,
        "compacted": status.compacted,
        "keys": status.keys,
        "old_versions": status.old_versions,
        "retained_bytes": status.retained_bytes,
        "disk_bytes": status.file_bytes,
        "quota_bytes": status.quota_bytes,
        "unflushed_bytes": status.unflushed_bytes,
        "cleaner": status.cleaner,
        "cleaner_bytes_per_second": status.cleaner_bytes_per_second,
        "checkpoint_age_ms": status.checkpoint_age_ms,
        "checkpoint_bytes": status.checkpoint_bytes,
        "watchers": status.watchers,
        "slow_watchers": status.slow_watchers,
        "leases": status.leases,
        "alarms": status.alarms,
        "uptime_ms": status.uptime_ms,
        "name": status.name,
        "role": status.role,
        "leader": cluster::leader_name(status),
        "committed": status.committed,
        "durable": status.durable,
        "voters": status.voters,
        "is_cut_off": status.is_cut_off,
        "is_learner": status.is_learner,
        "island": status.island,
        "certificate_until": status.certificate.map(|it| it.until),
        "is_authority": status.certificate.is_some_and(|it| it.is_authority),
        "invitations": status.invitations.iter().map(|it| json!({ "name": it.name, "expires": it.expires }))
            .collect::<Vec<_>>(),
        "replacement": status.replacement.as_ref().map(replacement_json),
        "keyspaces": status.keyspaces.iter().map(keyspace_json).collect::<Value>(),
        "links": status.links.iter().map(cluster::link_json).collect::<Vec<_>>(),
    })
}

async fn gather(client: &mut Client) -> anyhow::Result<Facts> {
    let status: StatusResponse = client
        .call(
            "/etcdserverpb.Maintenance/Status",
            &StatusRequest::default(),
        )
        .await?;
    let all = RangeRequest {
        key: (&b"\0"[..]).into(),
        range_end: (&b"\0"[..]).into(),
        count_only: true,
        ..RangeRequest::default()
    };
    let keys: RangeResponse = client.call("/etcdserverpb.KV/Range", &all).await?;
    let leases: LeaseLeasesResponse = client
        .call(
            "/etcdserverpb.Lease/LeaseLeases",
            &LeaseLeasesRequest::default(),
        )
        .await?;
    let alarms = raised(client, AlarmAction::Get).await?;
    let metrics = if client.is_tls() {
        None
    } else {
        probe::fetch(client.endpoint(), "/metrics")
    };
    let metric = |name| {
        metrics
            .as_deref()
            .and_then(|text| probe::metric(text, name))
            .map(quantity::rounded)
    };
    Ok(Facts {
        endpoint: client.endpoint().to_owned(),
        status,
        keys: keys.count,
        leases: leases.leases.len(),
        alarms: alarms.iter().map(alarm_name).collect(),
        compacted: metric("etcd_debugging_mvcc_compact_revision"),
        watchers: metric("etcd_debugging_mvcc_watcher_total"),
    })
}

impl Facts {
    fn json(&self) -> Value {
        let (status, header) = (&self.status, self.status.header.unwrap_or_default());
        json!({
            "endpoint": self.endpoint,
            "version": status.version,
            "cluster": format!("{:x}", header.cluster_id),
            "member": format!("{:x}", header.member_id),
            "is_leader": status.leader == header.member_id,
            "term": status.raft_term,
            "applied": status.raft_applied_index,
            "revision": header.revision,
            "keys": self.keys,
            "leases": self.leases,
            "compacted": self.compacted,
            "watchers": self.watchers,
            "retained_bytes": status.db_size_in_use,
            "disk_bytes": status.db_size,
            "quota_bytes": status.db_size_quota,
            "alarms": self.alarms,
            "errors": status.errors,
        })
    }

    fn text(&self) -> anyhow::Result<String> {
        let (status, header) = (&self.status, self.status.header.unwrap_or_default());
        let role = if status.leader == header.member_id {
            "leader"
        } else {
            "follower"
        };
        let (endpoint, version, term) = (&self.endpoint, &status.version, status.raft_term);
        let retained = u64::try_from(status.db_size_in_use)?;
        let alarms = if self.alarms.is_empty() {
            "none".to_owned()
        } else {
            self.alarms.join(", ")
        };
        let known = |name: &str, figure: Option<u64>| {
            figure
                .map(|figure| format!("{name} {}  ", quantity::count(figure)))
                .unwrap_or_default()
        };
        let mut text = format!(
            "{endpoint}  version {version}  {role}, term {term}\n  revision {}  {}keys {}  \
             retained {}  on disk {}\n  {}{}leases {}  alarms {alarms}\n",
            header.revision,
            known("compacted", self.compacted),
            quantity::count(u64::try_from(self.keys)?),
            quantity::bytes(retained),
            quantity::bytes(u64::try_from(status.db_size)?),
            quota_text(retained, u64::try_from(status.db_size_quota)?),
            known("watchers", self.watchers),
            self.leases,
        );
        for error in &status.errors {
            text.push_str(&format!("  error: {error}\n"));
        }
        Ok(text)
    }
}

/// Older servers do not tell their quota.
fn quota_text(retained: u64, quota: u64) -> String {
    if quota == 0 {
        return String::new();
    }
    format!(
        "quota {} ({} %)  ",
        quantity::bytes(quota),
        retained.saturating_mul(100) / quota
    )
}

/// Lists or clears alarms.
pub(super) async fn alarm(
    client: &mut Client,
    alarm: &Alarm,
    screen: Screen,
) -> anyhow::Result<Found> {
    let action = match alarm {
        Alarm::List => AlarmAction::Get,
        Alarm::Disarm => AlarmAction::Deactivate,
    };
    let alarms = raised(client, action).await?;
    let json: Vec<Value> = alarms
        .iter()
        .map(|alarm| json!({ "member": format!("{:x}", alarm.member_id), "alarm": alarm_name(alarm) }))
        .collect();
    let mut text = String::new();
    for alarm in &alarms {
        let done = if action == AlarmAction::Deactivate {
            " cleared"
        } else {
            ""
        };
        text.push_str(&format!(
            "member {:x}: {}{done}\n",
            alarm.member_id,
            alarm_name(alarm)
        ));
    }
    if alarms.is_empty() {
        text.push_str("no alarms");
    }
    screen.show(&text, &json!({ "alarms": json }))?;
    Ok(Found::Yes)
}

async fn raised(client: &mut Client, action: AlarmAction) -> anyhow::Result<Vec<AlarmMember>> {
    // Alarm type 0 means all of them.
    let request = AlarmRequest {
        action: action.into(),
        member_id: 0,
        alarm: 0,
    };
    let answer: AlarmResponse = client
        .call("/etcdserverpb.Maintenance/Alarm", &request)
        .await?;
    Ok(answer.alarms)
}

fn alarm_name(alarm: &AlarmMember) -> &'static str {
    match alarm.alarm() {
        AlarmType::None => "NONE",
        AlarmType::Nospace => "NOSPACE",
        AlarmType::Corrupt => "CORRUPT",
    }
}

/// Lists members.
pub(super) async fn member(
    client: &mut Client,
    member: &Member,
    screen: Screen,
) -> anyhow::Result<Found> {
    let Member::List = member;
    let answer: MemberListResponse = client
        .call(
            "/etcdserverpb.Cluster/MemberList",
            &MemberListRequest::default(),
        )
        .await?;
    let mut table = Table::titled(&["ID", "NAME", "CLIENTS", "SITES", "LEARNER"]);
    let mut json = Vec::new();
    for member in &answer.members {
        let id = format!("{:x}", member.id);
        json.push(json!({
            "id": id,
            "name": member.name,
            "client_urls": member.client_ur_ls,
            "peer_urls": member.peer_ur_ls,
            "is_learner": member.is_learner,
        }));
        let learner = if member.is_learner { "yes" } else { "no" };
        let (clients, sites) = (member.client_ur_ls.join(","), member.peer_ur_ls.join(","));
        table.row(vec![
            id,
            member.name.clone(),
            clients,
            sites,
            learner.to_owned(),
        ]);
    }
    let header = answer.header.as_ref();
    let cluster = header.map(|header| format!("{:x}", header.cluster_id));
    screen.show(
        &table.text(),
        &json!({ "cluster": cluster, "revision": revision(header), "members": json }),
    )?;
    Ok(Found::Yes)
}

#[cfg(test)]
mod tests {
    use holm_etcd::holm::{IslandStatus, SlotSeq};

    use super::*;

    #[test]
    fn an_islands_line_says_who_lacks_what_and_nothing_of_who_is_up_to_date() {
        let seqs = |seqs: &[u64]| {
            let all = (1..).zip(seqs);
            all.map(|(slot, seq)| SlotSeq { slot, seq: *seq }).collect()
        };
        let island = |name: &str, vector: &[u64], silent_for_ms| IslandStatus {
            name: name.to_owned(),
            vector: seqs(vector),
            is_cut: silent_for_ms > 1_000,
            silent_for_ms: Some(silent_for_ms),
            ..IslandStatus::default()
        };
        let status = KeyspaceStatus {
            name: "fleet".to_owned(),
            vector: seqs(&[5, 2, 0]),
            islands: vec![
                island("b", &[5, 2, 0], 100),
                island("c", &[3, 2, 1], 7_200),
                island("d", &[5, 2, 0], 9_000),
            ],
            ..KeyspaceStatus::default()
        };
        let line = islands_line(&status);
        assert_eq!(
            line,
            "\n       c cut 7 s, 2 unseen there, 1 missing here; d cut 9 s"
        );
    }

    #[test]
    fn a_status_reads_as_the_design_draws_it() {
        let mut status = NodeStatus {
            keyspace: "default".to_owned(),
            guarantee: "linearizable".to_owned(),
            revision: 2,
            keys: 1,
            retained_bytes: 4_198,
            file_bytes: 192 << 20,
            quota_bytes: 2 << 30,
            cleaner: "idle".to_owned(),
            cleaner_bytes_per_second: 8 << 20,
            checkpoint_age_ms: Some(12_345),
            ..NodeStatus::default()
        };
        assert_eq!(
            node_text(&status),
            "default  linearizable  revision 2  compacted 0  keys 1  retained 4.1 KiB  on disk 192 MiB\n         \
             quota 2.0 GiB (0 %)  cleaner idle  checkpoint 12 s ago  watchers 0  leases 0  alarms none"
        );
        status.cleaner = "copying".to_owned();
        status.checkpoint_age_ms = None;
        (status.watchers, status.slow_watchers) = (1_200, 3);
        status.alarms = vec!["NOSPACE".to_owned()];
        let text = node_text(&status);
        for part in [
            "cleaner copying at up to 8.0 MiB/s",
            "checkpoint none yet",
            "watchers 1,200 (3 behind)",
            "alarms NOSPACE",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}
