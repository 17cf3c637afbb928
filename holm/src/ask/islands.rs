//! The islands of a local-first keyspace: how far each is, and waiting until others have seen what one has.

use std::time::{Duration, Instant};

use anyhow::{bail, ensure};
use clap::Args;
use holm_etcd::holm::{IslandStatus, KeyspaceStatus, NodeStatus, NodeStatusRequest, SlotSeq};
use serde_json::{Value, json};

use super::{Found, keyspace};
use crate::client::Client;
use crate::quantity;
use crate::screen::{Screen, Table};

/// How often it is looked whether others have seen something.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// For whom is waited.
#[derive(Clone, Debug, Args)]
pub(crate) struct Wait {
    /// The keyspace's name
    name: String,
    /// The sites that shall have seen it, commas between; all others if left out
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    seen_by: Vec<String>,
    /// A revision that the site which is asked has reached; waited for is all that it has now
    revision: Option<i64>,
    /// How long at most; a bare number is seconds
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = within)]
    within: Duration,
}

/// A duration; a number without a unit is seconds, as it always was.
pub(super) fn within(text: &str) -> Result<Duration, String> {
    match text.parse() {
        Ok(seconds) => Ok(Duration::from_secs(seconds)),
        Err(_not_a_number) => quantity::parse_duration(text),
    }
}

/// A duration that somebody chose: `30 s`, `500 ms`.
fn whole(time: Duration) -> String {
    match time.subsec_nanos() {
        0 => format!("{} s", time.as_secs()),
        _ => format!("{} ms", time.as_millis()),
    }
}

/// Shows how far each island is, as the site that is asked knows.
pub(super) async fn status(
    client: &mut Client,
    name: &str,
    screen: Screen,
) -> anyhow::Result<Found> {
    let (node, keyspace) = asked(client, name).await?;
    let shown = json!({
        "keyspace": keyspace.name,
        "site": site_name(&node),
        "node": format!("{:016x}", node.node),
        "name": node.name,
        "revision": keyspace.revision,
        "vector": vector(&keyspace.vector),
        "conflicts": keyspace.conflicts,
        "shut": keyspace.shut,
        "islands": keyspace.islands.iter().map(|it| json(&keyspace, it)).collect::<Value>(),
    });
    screen.show(&text(&node, &keyspace), &shown)?;
    Ok(Found::Yes)
}

/// Waits until other sites have seen all that the one that is asked has.
pub(super) async fn wait(
    client: &mut Client,
    wait: &Wait,
    screen: Screen,
) -> anyhow::Result<Found> {
    let begun = Instant::now();
    let (node, wanted) = asked(client, &wait.name).await?;
    if let Some(revision) = wait.revision {
        ensure!(
            revision <= wanted.revision,
            "revision {revision} is yet to come at this site, which is at {}",
            wanted.revision
        );
    }
    for site in &wait.seen_by {
        let is_known = wanted.islands.iter().any(|it| it.name == *site);
        ensure!(
            is_known,
            "keyspace {} is at no site {site} beside {}, which is asked: `holm keyspace show {0}` shows where it is",
            wait.name,
            site_name(&node)
        );
    }
    let is_asked = |it: &&IslandStatus| wait.seen_by.is_empty() || wait.seen_by.contains(&it.name);
    loop {
        let (_node, now) = asked(client, &wait.name).await?;
        let lacking = now.islands.iter().filter(is_asked);
        let lacking: Vec<&IslandStatus> = lacking
            .filter(|it| lacks(&wanted.vector, &it.vector) > 0)
            .collect();
        if lacking.is_empty() {
            let seen = now
                .islands
                .iter()
                .filter(is_asked)
                .map(|it| it.name.as_str());
            let seen: Vec<&str> = seen.collect();
            let took = begun.elapsed();
            screen.show(
                &format!("seen by {} within {} ms", seen.join(", "), took.as_millis()),
                &json!({ "seen_by": seen, "revision": wanted.revision, "ms": took.as_millis() }),
            )?;
            return Ok(Found::Yes);
        }
        if begun.elapsed() >= wait.within {
            let who = lacking.iter().map(|it| {
                let lacks = lacks(&wanted.vector, &it.vector);
                let updates = if lacks == 1 { "update" } else { "updates" };
                let lacks = quantity::count(lacks);
                format!("{}{} ({lacks} {updates})", it.name, silence(it))
            });
            bail!(
                "not seen within {} by {}; it is kept here and goes to them when they can be reached",
                whole(wait.within),
                who.collect::<Vec<_>>().join(", ")
            );
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// The site that is asked, and its part of a local-first keyspace.
async fn asked(client: &mut Client, name: &str) -> anyhow::Result<(NodeStatus, KeyspaceStatus)> {
    let node: NodeStatus = client
        .call("/holm.v1.Node/Status", &NodeStatusRequest {})
        .await?;
    let found = node.keyspaces.iter().find(|it| it.name == name).cloned();
    let Some(keyspace) = found else {
        let _elsewhere = keyspace::one(client, name).await?;
        bail!(
            "{} does not serve keyspace {name}: `holm keyspace show {name}` tells where it is",
            place(&node)
        );
    };
    ensure!(
        keyspace.guarantee == "local-first",
        "keyspace {name} is {}: only a local-first one has islands",
        keyspace.guarantee
    );
    Ok((node, keyspace))
}

/// What the site is called that the node is of; one of an older release does not say.
fn site_name(node: &NodeStatus) -> &str {
    if node.site.is_empty() {
        &node.name
    } else {
        &node.site
    }
}

/// Which node it is, and of which site where that has several.
fn place(node: &NodeStatus) -> String {
    match site_name(node) {
        site if site == node.name => format!("site {site}"),
        site => format!("node {} of site {site}", node.name),
    }
}

/// How many updates one has that another lacks.
fn lacks(has: &[SlotSeq], other: &[SlotSeq]) -> u64 {
    let seq = |slot: u32| {
        other
            .iter()
            .find(|it| it.slot == slot)
            .map_or(0, |it| it.seq)
    };
    has.iter()
        .map(|it| it.seq.saturating_sub(seq(it.slot)))
        .sum()
}

/// How many updates an island has not seen, and how many it has that are missing here.
pub(super) fn differences(here: &KeyspaceStatus, other: &IslandStatus) -> (u64, u64) {
    (
        lacks(&here.vector, &other.vector),
        lacks(&other.vector, &here.vector),
    )
}

/// That an island is cut off, and since when.
pub(super) fn silence(other: &IslandStatus) -> String {
    match other.silent_for_ms {
        _ if !other.is_cut => String::new(),
        Some(ms) => format!(" cut {} s", quantity::count(ms / 1_000)),
        None => " cut, not heard of since this site started".to_owned(),
    }
}

fn text(node: &NodeStatus, keyspace: &KeyspaceStatus) -> String {
    let mut table = Table::titled(&["SITE", "SLOT", "STATE", "UNSEEN THERE", "MISSING HERE"]);
    for it in &keyspace.islands {
        let (unseen, missing) = differences(keyspace, it);
        let state = match silence(it) {
            silence if silence.is_empty() => "in reach".to_owned(),
            silence => silence.trim().to_owned(),
        };
        table.row(vec![
            it.name.clone(),
            it.slot.to_string(),
            state,
            quantity::count(unseen),
            quantity::count(missing),
        ]);
    }
    let conflicts = match keyspace.conflicts {
        0 => "no conflicts".to_owned(),
        1 => "1 key with concurrent writes".to_owned(),
        many => format!("{} keys with concurrent writes", quantity::count(many)),
    };
    format!(
        "keyspace {} at {}  local-first  revision {}  keys {}  {conflicts}{}\n\n{}",
        keyspace.name,
        place(node),
        keyspace.revision,
        quantity::count(keyspace.keys),
        shut_line(keyspace),
        table.text()
    )
}

/// Why clients are refused at the site, in a line of its own; nothing if they are not.
pub(super) fn shut_line(status: &KeyspaceStatus) -> String {
    match status.shut.as_str() {
        "" => String::new(),
        why => format!("\n  refuses: {why}"),
    }
}

fn vector(vector: &[SlotSeq]) -> Value {
    let all = vector.iter().map(|it| (it.slot.to_string(), json!(it.seq)));
    Value::Object(all.collect())
}

pub(super) fn json(here: &KeyspaceStatus, other: &IslandStatus) -> Value {
    let (unseen, missing) = differences(here, other);
    json!({
        "site": other.name,
        "node": format!("{:016x}", other.node),
        "slot": other.slot,
        "is_cut": other.is_cut,
        "silent_for_ms": other.silent_for_ms,
        "vector": vector(&other.vector),
        "unseen": unseen,
        "missing": missing,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_long_is_waited_takes_units_and_is_seconds_without() {
        let said = |text| within(text).map(whole);
        assert_eq!(said("30"), Ok("30 s".to_owned()));
        assert_eq!(said("2m"), Ok("120 s".to_owned()));
        assert_eq!(said("500ms"), Ok("500 ms".to_owned()));
        assert!(within("soon").is_err_and(|why| why.contains("no duration")));
    }

    #[test]
    fn nodes_are_called_nodes_and_sites_sites() {
        let node = |name: &str, site: &str| NodeStatus {
            name: name.to_owned(),
            site: site.to_owned(),
            ..NodeStatus::default()
        };
        assert_eq!(place(&node("b", "b")), "site b");
        assert_eq!(place(&node("a1", "a")), "node a1 of site a");
        assert_eq!(place(&node("a1", "")), "site a1", "of an older release");
        let shown = text(&node("a1", "a"), &KeyspaceStatus::default());
        assert!(
            shown.contains(" at node a1 of site a  local-first"),
            "{shown}"
        );
    }

    #[test]
    fn what_others_lack_is_counted_slot_by_slot() {
        let seq = |slot, seq| SlotSeq { slot, seq };
        let here = KeyspaceStatus {
            vector: vec![seq(1, 10), seq(2, 4)],
            ..KeyspaceStatus::default()
        };
        let other = IslandStatus {
            vector: vec![seq(1, 7), seq(2, 9), seq(3, 1)],
            is_cut: true,
            silent_for_ms: Some(41_300),
            ..IslandStatus::default()
        };
        assert_eq!(differences(&here, &other), (3, 6));
        assert_eq!(silence(&other), " cut 41 s");
    }
}
