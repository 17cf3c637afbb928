//! `holm keyspace members NAME add SITE --dry-run`: what a site that was left out of a local-first keyspace would bring
//! along, were it taken in again. And what comes after that, once it is.

use std::time::Duration;

use clap::Args;
use holm_etcd::holm::{
    ForetoldPlace, ForetoldWrite, KeyspaceList, KeyspaceListRequest, ReturnForetoldRequest,
    ReturnForetoldResponse,
};
use serde_json::{Map, Value, json};

use super::Found;
use super::cluster::{now, span};
use super::conflicts::hex;
use super::islands::within;
use crate::client::Client;
use crate::quantity;
use crate::screen::{Screen, Table, put_bytes, readable};

/// As much of a value is shown in a table.
const SHOWN: usize = 40;

/// What cannot be known before, by names for programs.
const UNKNOWN: [&str; 4] = [
    "compacted_deletes",
    "removed_parts",
    "folded_counters",
    "earlier_returns",
];

/// Which site is taken in.
#[derive(Clone, Debug, Args)]
pub(crate) struct Add {
    /// Its name
    pub(super) site: String,
    /// Change nothing, and tell which writes only this site has that was left out, and would make again: ask it itself
    #[arg(long)]
    pub(super) dry_run: bool,
    /// So many of those writes are shown; all are counted
    #[arg(
        long,
        value_name = "NUMBER",
        default_value_t = 100,
        requires = "dry_run"
    )]
    limit: usize,
    /// How long at most is waited until the site serves; it goes on by itself after that. A bare number is seconds
    #[arg(
        long,
        value_name = "TIME",
        default_value = "60s",
        value_parser = within,
        conflicts_with = "dry_run"
    )]
    pub(super) within: Duration,
}

/// What was told so far.
#[derive(Debug, Default)]
struct Told {
    /// The first of the writes.
    shown: Vec<ForetoldWrite>,
    made: u64,
    left_out: u64,
    keys: u64,
    newest: Option<Vec<u8>>,
    /// The last answer, without its writes.
    last: ReturnForetoldResponse,
}

impl Told {
    fn add(&mut self, mut answer: ReturnForetoldResponse, limit: usize) {
        for write in std::mem::take(&mut answer.writes) {
            let count = if write.is_made {
                &mut self.made
            } else {
                &mut self.left_out
            };
            *count += 1;
            if self.newest.as_ref() != Some(&write.key) {
                self.keys += 1;
                self.newest = Some(write.key.clone());
            }
            if self.shown.len() < limit {
                self.shown.push(write);
            }
        }
        self.last = answer;
    }

    fn more(&self) -> u64 {
        let shown = u64::try_from(self.shown.len()).unwrap_or(u64::MAX);
        (self.made + self.left_out).saturating_sub(shown)
    }

    /// The site has less of itself than others have of it.
    const fn is_older_copy(&self) -> bool {
        self.last.made < self.last.counted
    }
}

/// Asks the site part by part, and shows what it says.
pub(super) async fn dry_run(
    client: &mut Client,
    (name, add): (&str, &Add),
    screen: Screen,
) -> anyhow::Result<Found> {
    let (mut told, mut from): (Told, Option<ForetoldPlace>) = (Told::default(), None);
    loop {
        let request = ReturnForetoldRequest {
            name: name.to_owned(),
            site: add.site.clone(),
            from: from.take(),
        };
        let path = "/holm.v1.Node/ReturnForetold";
        let answer: ReturnForetoldResponse = client.call(path, &request).await?;
        from = answer.next.clone();
        told.add(answer, add.limit);
        if from.is_none() {
            break;
        }
    }
    let shown = text((name, &add.site), &told);
    screen.show(&shown, &told_json((name, &add.site), &told))?;
    Ok(Found::Yes)
}

fn text((name, site): (&str, &str), told: &Told) -> String {
    let mut text = format!("nothing is changed by a dry run\n\n{}\n", sum(site, told));
    if !told.shown.is_empty() {
        let mut table = Table::titled(&["KEY", "WRITE", "VALUE", "WRITTEN", "BECOMES"]);
        told.shown.iter().for_each(|it| table.row(row(it)));
        text += &format!("\n{}\n", table.text().trim_end());
    }
    let more = told.more();
    if more > 0 {
        let more = quantity::count(more);
        text += &format!("and {more} more: --limit NUMBER shows more of them\n");
    }
    text += "\nMade again with its time, beside what others wrote since: the later is shown. Deletes take what they had \
             seen, if others still have it.\n";
    text += "Not known before: compacted deletes, removed parts of documents, counters set anew where others added since, \
             and what an earlier return made already if these data are a copy of before it.\n";
    text += &format!(
        "Next: `holm keyspace members {name} add {site}`; then `holm keyspace conflicts {name}`, asked of site {site}, tells \
         what met (reissued) and what counts for nobody (left_out)."
    );
    text
}

/// What it comes to.
fn sum(site: &str, told: &Told) -> String {
    let writes = |count| counted(count, "write");
    let made = match told.made {
        0 => format!("site {site} would make nothing again"),
        made => format!("site {site} would make {} again", writes(made)),
    };
    let left_out = match told.left_out {
        0 => String::new(),
        left_out => format!(
            ", and only tell {} as left out (of another site that was left out, or already made again)",
            writes(left_out)
        ),
    };
    let keys = match told.keys {
        0 => String::new(),
        keys => format!(" at {}", counted(keys, "key")),
    };
    let (has, others_have) = (told.last.made, quantity::count(told.last.counted));
    let mut text = format!(
        "{made}{left_out}{keys}: {others_have} of its {} count",
        counted(has, "update")
    );
    if told.last.was_back {
        text = format!(
            "{text}\nsite {site} came back before, and these data are a copy of before that: nothing of them is made again"
        );
    }
    if told.is_older_copy() {
        text = format!(
            "{made}{left_out}{keys}: its data are an older copy, with {} of its own where others have {others_have}. What it \
             wrote since that others know otherwise would be told as left out too",
            counted(has, "update")
        );
    }
    text
}

fn counted(count: u64, what: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{} {what}{plural}", quantity::count(count))
}

fn row(it: &ForetoldWrite) -> Vec<String> {
    let write = it.write.clone().unwrap_or_default();
    let what = match it.path.as_str() {
        "" => it.kind.clone(),
        path => format!("{} {path}", it.kind),
    };
    let mut value = readable(&write.value);
    let is_longer = usize::try_from(write.length).is_ok_and(|it| it > write.value.len());
    if value.chars().count() > SHOWN || is_longer {
        value = value.chars().take(SHOWN).collect::<String>() + "...";
    }
    let age = span(now().saturating_sub(write.unix_ms / 1_000));
    let site = match write.site.as_str() {
        "" => format!("slot {}", write.slot),
        name => format!("site {name}"),
    };
    let becomes = if it.is_made {
        "made again".to_owned()
    } else {
        format!("told, of {site}")
    };
    vec![
        readable(&it.key),
        what,
        value,
        format!("{age} ago"),
        becomes,
    ]
}

fn told_json((name, site): (&str, &str), told: &Told) -> Value {
    json!({
        "keyspace": name,
        "site": site,
        "dry_run": true,
        "made_again": told.made,
        "left_out": told.left_out,
        "keys": told.keys,
        "own_updates": told.last.made,
        "counted": told.last.counted,
        "is_older_copy": told.is_older_copy(),
        "came_back_before": told.last.was_back,
        "writes": told.shown.iter().map(write_json).collect::<Value>(),
        "more": told.more(),
        "unknown": UNKNOWN,
    })
}

fn write_json(it: &ForetoldWrite) -> Value {
    let write = it.write.clone().unwrap_or_default();
    let mut shown = Map::new();
    put_bytes(&mut shown, "key", &it.key);
    put_bytes(&mut shown, "value", &write.value);
    let rest = json!({
        "write": it.kind,
        "path": it.path,
        "becomes": if it.is_made { "made_again" } else { "left_out" },
        "site": write.site,
        "slot": write.slot,
        "seq": write.seq,
        "unix_ms": write.unix_ms,
        "length": write.length,
        "sha256": hex(&write.digest),
    });
    if let Value::Object(rest) = rest {
        shown.extend(rest);
    }
    Value::Object(shown)
}

/// What whoever took a site in again may do next: how it goes, or what came of it.
pub(super) async fn after(
    client: &mut Client,
    (name, site): (&str, &str),
    is_done: bool,
) -> String {
    let request = KeyspaceListRequest {
        name: "default".to_owned(),
    };
    let path = "/holm.v1.Node/KeyspaceList";
    let list: Result<KeyspaceList, _> = client.call(path, &request).await;
    // Without its address it is told all the same.
    let list = list.map(|it| it.keyspaces).unwrap_or_default();
    let sites = list.iter().flat_map(|it| &it.sites);
    let of_it = sites.filter(|it| it.site == site || it.name == site);
    let addresses: Vec<&str> = of_it
        .flat_map(|it| it.addresses.iter().map(String::as_str))
        .collect();
    let ask = |what: &str| match addresses.first() {
        Some(address) => format!("`holm keyspace {what} {name} --endpoints {address}`"),
        None => format!("`holm keyspace {what} {name}`, asked of site {site},"),
    };
    let met = ask("conflicts");
    if is_done {
        return format!(
            "site {site} has what the others have, and made again what only it had: {met} tells what met"
        );
    }
    format!(
        "site {site} takes the others' keys, and then makes again what only it had: {} tells how it goes, and {met} \
         afterwards what met",
        ask("status")
    )
}

#[cfg(test)]
mod tests {
    use holm_etcd::holm::ConflictParty;

    use super::*;

    fn write(key: &str, kind: &str, value: &str, is_made: bool) -> ForetoldWrite {
        let length = u64::try_from(value.len()).unwrap_or_default();
        ForetoldWrite {
            key: key.as_bytes().to_vec(),
            kind: kind.to_owned(),
            write: Some(ConflictParty {
                site: if is_made { "c" } else { "d" }.to_owned(),
                value: value.as_bytes().to_vec(),
                length,
                ..ConflictParty::default()
            }),
            is_made,
            ..ForetoldWrite::default()
        }
    }

    fn told(limit: usize) -> Told {
        let mut told = Told::default();
        let answer = |writes, next| ReturnForetoldResponse {
            writes,
            next,
            made: 9,
            counted: 7,
            was_back: false,
        };
        let first = vec![
            write("door", "put", "open", true),
            write("door", "put", "shut", false),
        ];
        let last = vec![
            write("door", "add", "+3", true),
            write("gone", "delete", "", true),
        ];
        told.add(answer(first, Some(ForetoldPlace::default())), limit);
        told.add(answer(last, None), limit);
        told
    }

    #[test]
    fn all_writes_are_counted_and_so_many_shown_as_were_asked_for() {
        let shown = text(("fleet", "c"), &told(3));
        let sum = "site c would make 3 writes again, and only tell 1 write as left out";
        assert!(shown.contains(sum), "{shown}");
        assert!(shown.contains("at 2 keys: 7 of its 9 updates count"));
        assert!(shown.contains("and 1 more: --limit"), "{shown}");
        assert!(shown.contains("told, of site d") && !shown.contains("gone"));
        let all = told_json(("fleet", "c"), &told(9));
        assert_eq!(all["writes"][3]["write"], "delete");
        assert_eq!(
            (&all["made_again"], &all["left_out"], &all["more"]),
            (&json!(3), &json!(1), &json!(0))
        );
        let none = told_json(("fleet", "c"), &told(0));
        assert_eq!((&none["writes"], &none["more"]), (&json!([]), &json!(4)));
    }

    #[test]
    fn copies_are_named_as_such() {
        let mut older = told(0);
        older.last.made = 5;
        let shown = text(("fleet", "c"), &older);
        assert!(
            shown.contains("an older copy, with 5 updates of its own where others have 7"),
            "{shown}"
        );
        let mut before = told(0);
        before.last.was_back = true;
        let shown = text(("fleet", "c"), &before);
        assert!(
            shown.contains("a copy of before that: nothing of them"),
            "{shown}"
        );
    }
}
