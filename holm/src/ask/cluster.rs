//! status of a cluster: every site that its members or the command line name, asked at once.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use holm_etcd::holm::{NodeLink, NodeStatus, NodeStatusRequest};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::Found;
use super::node::{node_json, node_text};
use crate::client::{Client, ConnectionOptions};
use crate::quantity;
use crate::screen::{Screen, Table};
use crate::sites::replacement_text;
use crate::wire::etcdserverpb::{Member, MemberListRequest, MemberListResponse};

/// How long one site may take: whoever is cut off answers at once, whoever is down does not.
const PATIENCE: Duration = Duration::from_secs(2);

/// A member and what it said of itself.
struct Row {
    name: String,
    endpoint: String,
    answer: Option<NodeStatus>,
}

/// Shows the cluster of the node that `status` is of.
pub(super) async fn status(
    client: &mut Client,
    options: &ConnectionOptions,
    status: &NodeStatus,
    screen: Screen,
) -> anyhow::Result<Found> {
    let list: MemberListResponse = client
        .call(
            "/etcdserverpb.Cluster/MemberList",
            &MemberListRequest::default(),
        )
        .await?;
    let mut answers = vec![(client.endpoint().to_owned(), Some(status.clone()))];
    answers.extend(ask_all(targets(client, options, &list.members), options).await);
    let (rows, silent) = rows(&list.members, answers);
    let text = format!(
        "{}\n\n{}",
        node_text(status),
        cluster_text(status, &rows, &silent)
    );
    let mut json = node_json(client.endpoint(), status);
    json["sites"] = rows.iter().map(|row| row.json(&rows)).collect();
    json["silent_endpoints"] = json!(silent);
    screen.show(&text, &json)?;
    Ok(Found::Yes)
}

/// Whom to ask besides the one that was: whoever is named on the command line, and the members.
fn targets(client: &Client, options: &ConnectionOptions, members: &[Member]) -> Vec<String> {
    let members = members
        .iter()
        .filter_map(|member| member.client_ur_ls.first());
    let mut targets: Vec<String> = Vec::new();
    for endpoint in options.endpoints.iter().chain(members) {
        let is_known = |other: &String| place(other) == place(endpoint);
        if place(endpoint) != client.endpoint() && !targets.iter().any(is_known) {
            targets.push(endpoint.clone());
        }
    }
    targets
}

/// host:port of an endpoint.
fn place(endpoint: &str) -> &str {
    let place = endpoint
        .split_once("://")
        .map_or(endpoint, |(_, place)| place);
    place.trim_end_matches('/')
}

async fn ask_all(
    targets: Vec<String>,
    options: &ConnectionOptions,
) -> Vec<(String, Option<NodeStatus>)> {
    let mut asking = JoinSet::new();
    for endpoint in targets {
        let options = ConnectionOptions {
            endpoints: vec![endpoint.clone()],
            timeout: options.timeout.min(PATIENCE),
            ..options.clone()
        };
        asking.spawn(async move {
            let asked = async {
                let mut client = Client::connect(&options).await?;
                let request = NodeStatusRequest {};
                client.call("/holm.v1.Node/Status", &request).await
            };
            let answer = tokio::time::timeout(PATIENCE, asked).await;
            // Why a site is silent is not known here; its links tell more.
            (
                place(&endpoint).to_owned(),
                answer.ok().and_then(Result::ok),
            )
        });
    }
    let mut answers = asking.join_all().await;
    answers.sort_by(|(one, _), (two, _)| one.cmp(two));
    answers
}

/// A row for each member, by name; and the endpoints that are silent and no member's.
fn rows(members: &[Member], answers: Vec<(String, Option<NodeStatus>)>) -> (Vec<Row>, Vec<String>) {
    let mut silent = Vec::new();
    let mut given = Vec::new();
    for (endpoint, answer) in answers {
        match answer {
            Some(answer) => given.push((endpoint, answer)),
            None => silent.push(endpoint),
        }
    }
    let mut rows = Vec::new();
    for member in members {
        let found = given.iter().find(|(_, answer)| answer.node == member.id);
        let told = member.client_ur_ls.first().map_or("-", |url| place(url));
        silent.retain(|endpoint| endpoint != told);
        rows.push(Row {
            name: member.name.clone(),
            endpoint: found.map_or_else(|| told.to_owned(), |(endpoint, _)| endpoint.clone()),
            answer: found.map(|(_, answer)| answer.clone()),
        });
    }
    rows.sort_by(|one, two| one.name.cmp(&two.name));
    (rows, silent)
}

impl Row {
    /// How many committed ops it has not applied.
    fn behind(&self, all: &[Self]) -> Option<u64> {
        let newest = all.iter().filter_map(|row| row.answer.as_ref());
        let newest = newest
            .map(|answer| answer.committed.max(answer.applied))
            .max();
        let answer = self.answer.as_ref()?;
        Some(newest?.saturating_sub(answer.applied))
    }

    fn json(&self, all: &[Self]) -> Value {
        match &self.answer {
            Some(answer) => {
                let mut json = node_json(&self.endpoint, answer);
                json["behind"] = json!(self.behind(all));
                json
            }
            None => json!({ "name": self.name, "endpoint": self.endpoint, "role": null }),
        }
    }
}

/// What the node that was asked thinks who leads, by name.
pub(super) fn leader_name(status: &NodeStatus) -> Option<&str> {
    if status.leader == 0 {
        return None;
    }
    if status.leader == status.node {
        return Some(&status.name);
    }
    let link = status.links.iter().find(|link| link.node == status.leader);
    link.map(|link| link.name.as_str())
}

fn cluster_text(status: &NodeStatus, rows: &[Row], silent: &[String]) -> String {
    // Whoever leads in the newest term leads; an island may still think of an older one.
    let answers = rows.iter().filter_map(|row| row.answer.as_ref());
    let newest = answers.max_by_key(|answer| (answer.term, answer.leader != 0));
    let newest = newest.unwrap_or(status);
    let leader =
        leader_name(newest).map_or_else(|| "no leader".to_owned(), |name| format!("leader {name}"));
    let count = rows.len();
    let sites = if count == 1 { "site" } else { "sites" };
    let mut text = format!("{count} {sites}  {leader}  term {}\n", newest.term);
    let mut table = Table::titled(&["SITE", "ROLE", "REVISION", "BEHIND", "LINKS", "ENDPOINT"]);
    for row in rows {
        let Some(answer) = &row.answer else {
            let dash = || "-".to_owned();
            let (name, endpoint) = (row.name.clone(), row.endpoint.clone());
            table.row(vec![
                name,
                "no answer".to_owned(),
                dash(),
                dash(),
                dash(),
                endpoint,
            ]);
            continue;
        };
        let role = if answer.is_learner {
            "learner"
        } else {
            &answer.role
        };
        let cut_off = if answer.is_cut_off { ", cut off" } else { "" };
        let role = format!("{role}{cut_off}");
        let links: Vec<String> = answer.links.iter().map(link_text).collect();
        table.row(vec![
            row.name.clone(),
            role,
            answer.revision.to_string(),
            quantity::count(row.behind(rows).unwrap_or(0)),
            links.join(", "),
            row.endpoint.clone(),
        ]);
    }
    text.push_str(&table.text());
    for row in rows {
        let cut_off = row.answer.as_ref().filter(|answer| answer.is_cut_off);
        if let Some(answer) = cut_off {
            let says = match answer.island.as_str() {
                "" => String::new(),
                island => format!(" ({island})"),
            };
            text.push_str(&format!(
                "{} is cut off from the majority{says}: until a link is back it answers serializable reads only\n",
                row.name
            ));
        }
    }
    text.push_str(&loopback_text(rows));
    text.push_str(&joining_text(status, rows, now()));
    let replacement = status.replacement.as_ref().map(replacement_text);
    text.push_str(&replacement.unwrap_or_default());
    for endpoint in silent {
        text.push_str(&format!(
            "{endpoint}: no answer, and no member has this address\n"
        ));
    }
    text
}

/// Sites whose address for clients leads to another one: on each machine, loopback is that machine.
fn loopback_text(rows: &[Row]) -> String {
    let is_anothers = |row: &&Row| {
        let has_answered = |it: &Row| it.answer.is_some() && it.endpoint == row.endpoint;
        row.answer.is_none() && rows.iter().any(has_answered)
    };
    let line = |row: &Row| {
        let (name, endpoint) = (&row.name, &row.endpoint);
        format!(
            "{name} tells clients {endpoint}, which leads elsewhere from here: ask on its machine, or give it a --listen \
             that others reach\n"
        )
    };
    rows.iter().filter(is_anothers).map(line).collect()
}

/// Who may join, and how long certificates are good.
fn joining_text(status: &NodeStatus, rows: &[Row], now: u64) -> String {
    let mut text = String::new();
    let mut ends = Vec::new();
    for row in rows {
        let certificate = row.answer.as_ref().and_then(|it| it.certificate);
        if let Some(certificate) = certificate {
            let left = certificate.until.saturating_sub(now);
            ends.push(format!("{} {}", row.name, span(left)));
        }
    }
    if !ends.is_empty() {
        text.push_str(&format!("certificates end in: {}\n", ends.join(", ")));
    }
    for invitation in &status.invitations {
        let left = span(invitation.expires.saturating_sub(now));
        text.push_str(&format!(
            "{} may join, for another {left}\n",
            invitation.name
        ));
    }
    text
}

/// A time in its largest unit, rounded down.
pub(crate) fn span(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        seconds => format!("{} days", seconds / 86_400),
    }
}

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

fn link_text(link: &NodeLink) -> String {
    let name = &link.name;
    match link.round_trip_us {
        _ if !link.is_up => {
            let seconds = quantity::count(link.for_ms / 1000);
            format!("{name} down for {seconds} s")
        }
        Some(time) => format!("{name} {}", quantity::nanos(time as f64 * 1e3)),
        None => format!("{name} up"),
    }
}

/// A link as JSON.
pub(super) fn link_json(link: &NodeLink) -> Value {
    json!({
        "node": format!("{:x}", link.node),
        "name": link.name,
        "address": link.address,
        "is_up": link.is_up,
        "for_ms": link.for_ms,
        "round_trip_us": link.round_trip_us,
        "dropped": link.dropped,
        "error": link.error,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, node: u64, leader: u64) -> NodeStatus {
        let link = |other: u64| NodeLink {
            node: other,
            name: ["a", "b", "c"][usize::try_from(other).unwrap() - 1].to_owned(),
            is_up: node != 3 && other != 3,
            for_ms: 12_400,
            round_trip_us: Some(30_200),
            ..NodeLink::default()
        };
        NodeStatus {
            name: name.to_owned(),
            node,
            leader,
            role: if node == leader { "leader" } else { "follower" }.to_owned(),
            term: 4,
            revision: 9,
            committed: 12,
            applied: 12,
            voters: 3,
            links: (1..=3).filter(|other| *other != node).map(link).collect(),
            ..NodeStatus::default()
        }
    }

    fn member(name: &str, id: u64) -> Member {
        Member {
            id,
            name: name.to_owned(),
            client_ur_ls: vec![format!("http://127.0.0.1:{id}")],
            ..Member::default()
        }
    }

    #[test]
    fn a_cluster_reads_as_the_design_draws_it() {
        let (a, b, mut c) = (node("a", 1, 1), node("b", 2, 1), node("c", 3, 0));
        (c.is_cut_off, c.applied, c.committed, c.revision) = (true, 5, 5, 4);
        c.term = 3;
        c.island = "no-quorum since 12s".to_owned();
        let members = [member("c", 3), member("a", 1), member("b", 2)];
        let at = |endpoint: &str| endpoint.to_owned();
        let answers = vec![
            (at("127.0.0.1:3"), Some(c)),
            (at("127.0.0.1:1"), Some(a.clone())),
            (at("127.0.0.1:2"), None),
            (at("10.0.0.9:2379"), None),
        ];
        let (rows, silent) = rows(&members, answers);
        let text = cluster_text(&a, &rows, &silent);
        let expected = "\
3 sites  leader a  term 4
SITE  ROLE               REVISION  BEHIND  LINKS                             ENDPOINT
a     leader             9         0       b 30.2 ms, c down for 12 s        127.0.0.1:1
b     no answer          -         -       -                                 127.0.0.1:2
c     follower, cut off  4         7       a down for 12 s, b down for 12 s  127.0.0.1:3
c is cut off from the majority (no-quorum since 12s): until a link is back it answers serializable reads only
10.0.0.9:2379: no answer, and no member has this address
";
        assert_eq!(text, expected);
        assert_eq!(leader_name(&b), Some("a"));
        let json = rows[2].json(&rows);
        assert_eq!(
            (&json["behind"], &json["leader"]),
            (&json!(7), &json!(null))
        );
    }

    #[test]
    fn a_loopback_address_of_another_machine_is_told() {
        let mut b = member("b", 2);
        b.client_ur_ls = vec!["http://127.0.0.1:1".to_owned()];
        let answers = vec![("127.0.0.1:1".to_owned(), Some(node("a", 1, 1)))];
        let (rows, silent) = rows(&[member("a", 1), b], answers);
        assert!(silent.is_empty());
        let text = loopback_text(&rows);
        assert!(
            text.starts_with("b tells clients 127.0.0.1:1, which leads elsewhere"),
            "{text}"
        );
        assert_eq!(text.lines().count(), 1, "{text}");
    }

    #[test]
    fn ends_of_certificates_and_who_may_join_are_told() {
        let mut a = node("a", 1, 1);
        a.certificate = Some(holm_etcd::holm::NodeCertificate {
            until: 1_000 + 29 * 86_400,
            is_authority: true,
        });
        let invitation = |name: &str, expires| holm_etcd::holm::Invitation {
            name: name.to_owned(),
            expires,
        };
        a.invitations = vec![invitation("b", 4_600), invitation("c", 1_007)];
        let answers = vec![("127.0.0.1:1".to_owned(), Some(a.clone()))];
        let (rows, _silent) = rows(&[member("a", 1)], answers);
        assert_eq!(
            joining_text(&a, &rows, 1_000),
            "certificates end in: a 29 days\nb may join, for another 60 min\nc may join, for another 7 s\n"
        );
        assert_eq!((span(0), span(7_200)), ("0 s".to_owned(), "2 h".to_owned()));
    }

    #[test]
    fn an_endpoint_is_asked_once_however_it_is_written() {
        assert_eq!(place("http://h:1/"), place("h:1"));
        assert_eq!(place("https://h:1"), "h:1");
    }
}
