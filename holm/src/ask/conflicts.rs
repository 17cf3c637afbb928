//! `holm keyspace conflicts`: which concurrent writes met at a site, and what the others said.

use std::time::Duration;

use clap::Args;
use holm_etcd::holm::{ConflictParty, ConflictView, ConflictsRequest, ConflictsResponse};
use serde_json::{Value, json};

use super::Found;
use crate::client::Client;
use crate::screen::{Screen, Table};

/// How often it is looked for more.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// As much of a value is shown in a table.
const SHOWN: usize = 40;

/// Which are shown.
#[derive(Clone, Debug, Args)]
pub(crate) struct Conflicts {
    /// The keyspace's name
    name: String,
    /// Go on, a line for each that comes; Ctrl-C ends it
    #[arg(long)]
    follow: bool,
    /// Only those behind this number
    #[arg(long, value_name = "NUMBER")]
    after: Option<u64>,
}

/// Shows them.
pub(super) async fn run(
    client: &mut Client,
    wanted: &Conflicts,
    screen: Screen,
) -> anyhow::Result<Found> {
    let (mut after, mut all, mut oldest) = (wanted.after, Vec::new(), 0);
    loop {
        let request = ConflictsRequest {
            name: wanted.name.clone(),
            after,
        };
        let answer: ConflictsResponse = client.call("/holm.v1.Node/Conflicts", &request).await?;
        after = answer.conflicts.last().map(|it| it.number).or(after);
        oldest = answer.oldest.max(oldest);
        if wanted.follow {
            for conflict in &answer.conflicts {
                screen.show(&line(conflict), &json(conflict))?;
            }
        } else {
            all.extend(answer.conflicts);
        }
        match (answer.has_more, wanted.follow) {
            (true, _) => {}
            (false, true) => tokio::time::sleep(LOOK_EVERY).await,
            (false, false) => break,
        }
    }
    let shown = json!({
        "keyspace": wanted.name,
        "dropped": oldest,
        "conflicts": all.iter().map(json).collect::<Value>(),
    });
    screen.show(&text(&all, oldest), &shown)?;
    Ok(if all.is_empty() {
        Found::No
    } else {
        Found::Yes
    })
}

fn text(all: &[ConflictView], oldest: u64) -> String {
    if all.is_empty() {
        return "no concurrent writes met at this site".to_owned();
    }
    let mut table = Table::titled(&["NUMBER", "KIND", "KEY", "SHOWN", "NOT SHOWN"]);
    for it in all {
        let losers: Vec<String> = it.losers.iter().map(party).collect();
        table.row(vec![
            it.number.to_string(),
            it.kind.clone(),
            place(it),
            it.winner.as_ref().map(party).unwrap_or_default(),
            losers.join(", "),
        ]);
    }
    let gone = match oldest {
        0 => String::new(),
        gone => format!("{gone} older ones are not kept any more\n"),
    };
    format!("{gone}{}", table.text())
}

fn line(it: &ConflictView) -> String {
    let winner = it.winner.as_ref().map(party).unwrap_or_default();
    let losers: Vec<String> = it.losers.iter().map(party).collect();
    format!(
        "{} {} {}: {winner} over {}",
        it.number,
        it.kind,
        place(it),
        losers.join(", ")
    )
}

/// The key, and where in its document.
fn place(it: &ConflictView) -> String {
    match it.path.as_str() {
        "" => readable(&it.key),
        path => format!("{} {}", readable(&it.key), readable(path.as_bytes())),
    }
}

fn party(party: &ConflictParty) -> String {
    let site = match party.site.as_str() {
        "" => format!("slot {}", party.slot),
        name => name.to_owned(),
    };
    if party.length == 0 {
        return format!("deleted at {site}");
    }
    let mut value = readable(&party.value);
    let is_longer = usize::try_from(party.length).is_ok_and(|it| it > party.value.len());
    if value.chars().count() > SHOWN || is_longer {
        value = value.chars().take(SHOWN).collect::<String>() + "...";
    }
    format!("{value} of {site}")
}

fn readable(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

fn json(it: &ConflictView) -> Value {
    json!({
        "number": it.number,
        "id": hex(&it.id),
        "kind": it.kind,
        "key": String::from_utf8_lossy(&it.key),
        "path": it.path,
        "revision": it.revision,
        "unix_ms": it.unix_ms,
        "winner": it.winner.as_ref().map(party_json),
        "losers": it.losers.iter().map(party_json).collect::<Value>(),
    })
}

fn party_json(party: &ConflictParty) -> Value {
    json!({
        "site": party.site,
        "slot": party.slot,
        "seq": party.seq,
        "unix_ms": party.unix_ms,
        "sha256": hex(&party.digest),
        "length": party.length,
        "value": String::from_utf8_lossy(&party.value),
    })
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_conflict_reads_as_who_is_shown_and_who_is_not() {
        let of = |site: &str, value: &str| ConflictParty {
            site: site.to_owned(),
            length: u64::try_from(value.len()).unwrap_or_default(),
            value: value.as_bytes().to_vec(),
            ..ConflictParty::default()
        };
        let conflict = ConflictView {
            number: 7,
            kind: "concurrent_put".to_owned(),
            key: b"door".to_vec(),
            winner: Some(of("b", "shut")),
            losers: vec![of("a", "open"), of("", "")],
            ..ConflictView::default()
        };
        assert_eq!(
            line(&conflict),
            "7 concurrent_put door: shut of b over open of a, deleted at slot 0"
        );
        let in_a_document = ConflictView {
            kind: "path_lost".to_owned(),
            path: ".spec".to_owned(),
            ..conflict
        };
        assert_eq!(
            line(&in_a_document),
            "7 path_lost door .spec: shut of b over open of a, deleted at slot 0"
        );
        assert_eq!(text(&[], 0), "no concurrent writes met at this site");
    }
}
