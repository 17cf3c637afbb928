//! `holm keyspace`: keyspaces beside `default`, and at which sites they are.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use clap::{Args, Subcommand};
use holm_etcd::holm::{
    KeyspaceCreateRequest, KeyspaceList, KeyspaceListRequest, KeyspaceRemoveRequest, KeyspaceSite,
    KeyspaceView, OLDER_COPY,
};
use serde_json::{Value, json};

use super::Found;
use super::conflicts::{self, Conflicts};
use super::foretold::{self, Add};
use super::islands::{self, Wait};
use super::members;
use crate::client::{Client, ClientError, ConnectionOptions};
use crate::quantity;
use crate::screen::{Screen, Table};

pub(super) const EXAMPLES: &str = "\
Examples:
  holm keyspace create orders                     at all sites, each on a free port
  holm keyspace create orders --sites a,b,c --listen 127.0.0.1:2479
  holm keyspace create orders --listen a=10.0.0.1:2479,b=10.0.0.2:2479
  holm keyspace create fleet --guarantee local-first --type mv
  holm keyspace create fleet --guarantee local-first --exists delete-wins
  holm keyspace create fleet --guarantee local-first --leave-out-after 7d
  holm keyspace status fleet                      what other sites have not seen, since when they are cut off
  holm keyspace wait fleet --seen-by b,c          until they have what this site has now
  holm keyspace conflicts fleet --follow          which concurrent writes met, and what was not shown
  holm keyspace list                              a line for each
  holm keyspace show orders                       all its sites and addresses
  holm keyspace members orders add d              returns once d serves it
  holm keyspace members orders remove b
  holm keyspace members fleet remove c --lost     of a local-first one, when c is not to be waited for, or its data are an older copy
  holm keyspace members fleet add c --dry-run     asked of c: what would it make again that was left out? Changes nothing
  holm keyspace members fleet add c               takes c in again, with what only it had
  holm keyspace remove orders --yes               with all that is in it
  holm get a --keyspace orders                    any client command can name one

A keyspace is an etcd cluster of its own to its clients: keys, revisions, leases, users, watches and quota are its alone.
Any etcd client uses it at its addresses: etcdctl --endpoints ADDRESS put a 1. All keyspaces of a site share one log.";

/// How wide the sites' names of a keyspace may be in the list of all.
const NAMES_WIDTH: usize = 20;

/// Commands about keyspaces.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Keyspace {
    /// Make one; prints where clients reach it
    Create(Create),
    /// Show all, each with where clients reach it at the node that is asked, or at the first that has it
    List,
    /// Show one
    Show {
        /// Its name
        name: String,
    },
    /// Show of a local-first one what other sites have not seen, and since when they are cut off
    Status {
        /// Its name
        name: String,
    },
    /// Show which concurrent writes of a local-first one met at this site, and what the others said
    Conflicts(Conflicts),
    /// Wait until other sites of a local-first one have seen what this one has: durability chosen after the fact
    Wait(Wait),
    /// Remove one for ever, with all that is in it
    Remove(Remove),
    /// Show at which sites one is, take a site in or let one go
    Members {
        /// Its name
        name: String,
        #[command(subcommand)]
        change: Option<Change>,
    },
}

/// What a keyspace is made with.
#[derive(Clone, Debug, Args)]
pub(crate) struct Create {
    /// Its name: small letters, digits and dashes
    name: String,
    /// What it promises: linearizable (one order for all), or local-first (each site reads and writes on when cut off)
    #[arg(long, value_name = "GUARANTEE", default_value = "linearizable")]
    guarantee: String,
    /// What the values of a local-first keyspace are: lww (the latest is shown), mv (all concurrent writes are siblings),
    /// set (keys are members), counter (+n and -n add, and all count), json (documents merge part by part)
    #[arg(
        long = "type",
        value_name = "TYPE",
        default_value = "",
        hide_default_value = true
    )]
    merge: String,
    /// Who wins in a local-first keyspace where one site writes a key and another deletes it, neither having seen the
    /// other: add-wins (the write stays), delete-wins (it goes)
    #[arg(
        long,
        value_name = "WHO",
        default_value = "",
        hide_default_value = true
    )]
    exists: String,
    /// After how long without a word a site of a local-first keyspace is left out as if it were lost: 90s, 12h, 30d, or
    /// never. It keeps what it has, and may be taken in again [default: 30d]
    #[arg(long, value_name = "TIME", value_parser = leave_out_after)]
    leave_out_after: Option<u64>,
    /// A JSON schema whose x-kubernetes-list-type says which lists of documents merge
    #[arg(long, value_name = "FILE")]
    schema: Option<PathBuf>,
    /// Its sites by name, commas between; all that vote if left out
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    sites: Vec<String>,
    /// Where its clients connect: ADDRESS:PORT at every site or SITE=ADDRESS:PORT; a free port if left out
    #[arg(long, value_name = "ADDRESSES", value_delimiter = ',')]
    listen: Vec<String>,
}

/// In milliseconds; 0 for never.
fn leave_out_after(text: &str) -> Result<u64, String> {
    if text == "never" {
        return Ok(0);
    }
    let ms = quantity::parse_duration(text)?.as_millis();
    if ms < 1_000 {
        return Err(
            "a site may be silent for a second at least: 90s, 12h, 30d, or never".to_owned(),
        );
    }
    u64::try_from(ms).map_err(|_long| "that is too long: say never".to_owned())
}

/// What is removed.
#[derive(Clone, Debug, Args)]
pub(crate) struct Remove {
    /// Its name
    name: String,
    /// Yes, with all that is in it
    #[arg(long)]
    yes: bool,
}

/// What is changed about a keyspace's sites.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Change {
    /// Show them
    List,
    /// Take a site in, and wait until it serves: it gets a vote, or of a local-first one serves, once it has what is
    /// there; one that was left out makes again what only it had
    Add(Add),
    /// Let a site go: what it has of the keyspace is deleted
    Remove {
        /// Its name
        site: String,
        /// Of a local-first one, when the site is not to be waited for: what no other site has of it does not count, but
        /// that it keeps it, and may be taken in again
        #[arg(long)]
        lost: bool,
    },
}

/// Runs a command about keyspaces.
pub(super) async fn run(
    client: &mut Client,
    keyspace: &Keyspace,
    (connection, screen): (&ConnectionOptions, Screen),
) -> anyhow::Result<Found> {
    let patience = connection.timeout;
    match keyspace {
        Keyspace::Create(create) => self::create(client, create, (patience, screen)).await,
        Keyspace::List => {
            let list = list(client, "").await?;
            let json: Value = list.iter().map(view_json).collect();
            screen.show(&table(&list), &json)?;
            Ok(Found::Yes)
        }
        Keyspace::Show { name }
        | Keyspace::Members { name, change: None }
        | Keyspace::Members {
            name,
            change: Some(Change::List),
        } => {
            let view = one(client, name).await?;
            screen.show(&text(&view), &view_json(&view))?;
            Ok(Found::Yes)
        }
        Keyspace::Status { name } => islands::status(client, name, screen).await,
        Keyspace::Conflicts(wanted) => conflicts::run(client, wanted, screen).await,
        Keyspace::Wait(wait) => islands::wait(client, wait, screen).await,
        Keyspace::Remove(remove) => self::remove(client, remove, screen).await,
        Keyspace::Members {
            name,
            change: Some(Change::Add(add)),
        } if add.dry_run => foretold::dry_run(client, (name, add), screen).await,
        Keyspace::Members {
            name,
            change: Some(Change::Add(add)),
        } => members::add(client, (name, add), (connection, screen)).await,
        Keyspace::Members {
            name,
            change: Some(Change::Remove { site, lost }),
        } => members::remove(client, (name, site, *lost), (patience, screen)).await,
    }
}

async fn create(
    client: &mut Client,
    create: &Create,
    (patience, screen): (Duration, Screen),
) -> anyhow::Result<Found> {
    let request = KeyspaceCreateRequest {
        name: create.name.clone(),
        guarantee: create.guarantee.clone(),
        sites: create.sites.clone(),
        listen: create.listen.clone(),
        merge: create.merge.clone(),
        exists: create.exists.clone(),
        leave_out_after_ms: create.leave_out_after,
        schema: match &create.schema {
            Some(path) => std::fs::read_to_string(path)
                .with_context(|| format!("read --schema {}", path.display()))?,
            None => String::new(),
        },
    };
    let path = "/holm.v1.Node/KeyspaceCreate";
    let _begun: KeyspaceView = client.call(path, &request).await?;
    // Who is cut off opens it later; whoever asked here need not wait for that.
    let is_open = |view: &KeyspaceView| {
        let is_settled = |it: &KeyspaceSite| !it.addresses.is_empty() || !it.error.is_empty();
        view.sites.iter().all(is_settled)
    };
    let view = wait(client, &create.name, (patience, &is_open)).await?;
    screen.show(&text(&view), &view_json(&view))?;
    let is_served = view.sites.iter().any(|it| !it.addresses.is_empty());
    ensure!(
        is_served,
        "keyspace {name} was created, and no site serves it yet: `holm keyspace show {name}` tells why",
        name = create.name
    );
    Ok(Found::Yes)
}

async fn remove(client: &mut Client, remove: &Remove, screen: Screen) -> anyhow::Result<Found> {
    let name = &remove.name;
    if !remove.yes {
        let view = one(client, name).await?;
        bail!(
            "this deletes keyspace {name} at {} with all that is in it, for ever: `holm snapshot save FILE --keyspace \
             {name}` saves it first; then say `holm keyspace remove {name} --yes`",
            names(&view)
        );
    }
    let path = "/holm.v1.Node/KeyspaceRemove";
    let request = KeyspaceRemoveRequest { name: name.clone() };
    let _removed: KeyspaceList = client.call(path, &request).await?;
    screen.show(&format!("removed {name}"), &json!({ "removed": name }))?;
    Ok(Found::Yes)
}

/// The addresses of a keyspace, by way of keyspace `default`.
///
/// # Errors
///
/// If there is no such keyspace, or none of its sites serves it.
pub(super) async fn addresses(client: &mut Client, name: &str) -> anyhow::Result<Vec<String>> {
    let view = one(client, name).await?;
    // An island is asked by itself: another one has other revisions.
    let here = |site: &&KeyspaceSite| site.node == view.here;
    let own = view.sites.iter().find(here).map(|it| it.slot);
    let is_served = view.sites.iter().any(|it| !it.addresses.is_empty());
    let is_asked = |site: &&KeyspaceSite| view.merge.is_empty() || Some(site.slot) == own;
    let mut asked: Vec<&KeyspaceSite> = view.sites.iter().filter(is_asked).collect();
    asked.sort_by_key(|it| !here(it));
    let all: Vec<String> = asked.iter().flat_map(|it| it.addresses.clone()).collect();
    ensure!(
        is_served,
        "no site serves keyspace {name}: `holm keyspace show {name}` tells why"
    );
    ensure!(
        !all.is_empty(),
        "the site that is asked does not serve keyspace {name}: name one that does with --endpoints; \
         `holm keyspace show {name}` tells which do"
    );
    Ok(all)
}

async fn list(client: &mut Client, name: &str) -> Result<Vec<KeyspaceView>, ClientError> {
    let request = KeyspaceListRequest {
        name: name.to_owned(),
    };
    let answer: KeyspaceList = client.call("/holm.v1.Node/KeyspaceList", &request).await?;
    Ok(answer.keyspaces)
}

/// One keyspace, as keyspace `default` knows it.
pub(super) async fn one(client: &mut Client, name: &str) -> anyhow::Result<KeyspaceView> {
    ensure!(
        !name.is_empty(),
        "name a keyspace: `holm keyspace list` shows all"
    );
    let found = list(client, name).await?.into_iter().next();
    found.ok_or_else(|| {
        anyhow::anyhow!("there is no keyspace {name}: `holm keyspace list` shows all")
    })
}

/// Asks until it is as wanted, or for so long.
pub(super) async fn wait(
    client: &mut Client,
    name: &str,
    (patience, is_done): (Duration, &(dyn Fn(&KeyspaceView) -> bool + Sync)),
) -> anyhow::Result<KeyspaceView> {
    let begun = Instant::now();
    loop {
        let view = one(client, name).await?;
        if is_done(&view) || begun.elapsed() >= patience {
            return Ok(view);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn names(view: &KeyspaceView) -> String {
    let mut names: Vec<&str> = view.sites.iter().map(site_name).collect();
    names.dedup();
    names.join(", ")
}

/// What the site is called that a node is of; one of an older release does not say.
pub(super) fn site_name(site: &KeyspaceSite) -> &str {
    if site.site.is_empty() {
        &site.name
    } else {
        &site.site
    }
}

/// One line a keyspace, in 80 columns for ordinary names: `show` and `--json` have all names and addresses.
fn table(list: &[KeyspaceView]) -> String {
    let mut table = Table::titled(&["KEYSPACE", "GUARANTEE", "STATE", "SITES", "ADDRESS"]);
    for view in list {
        table.row(vec![
            view.name.clone(),
            view.guarantee.clone(),
            view.state.clone(),
            names_cut(view),
            address_cut(view),
        ]);
    }
    table.text()
}

/// As many names as have room, and how many more there are.
fn names_cut(view: &KeyspaceView) -> String {
    let all = names(view);
    if all.len() <= NAMES_WIDTH {
        return all;
    }
    let names: Vec<&str> = all.split(", ").collect();
    let room = NAMES_WIDTH - " +99".len();
    let fits = |count: &usize| names[..*count].join(", ").len() <= room;
    let shown = (1..names.len()).rev().find(fits).unwrap_or(1);
    and_more(&names[..shown].join(", "), names.len() - shown)
}

/// Where clients reach the node that is asked, or the first that has an address, and how many more there are.
fn address_cut(view: &KeyspaceView) -> String {
    let here = view.sites.iter().filter(|it| it.node == view.here);
    let mut all = here.chain(&view.sites).flat_map(|it| &it.addresses);
    let first = all.next().map_or("", String::as_str);
    let first = first.split_once("://").map_or(first, |(_, place)| place);
    let count: usize = view.sites.iter().map(|it| it.addresses.len()).sum();
    and_more(first, count.saturating_sub(1))
}

fn and_more(shown: &str, more: usize) -> String {
    match more {
        0 => shown.to_owned(),
        more => format!("{shown} +{more}"),
    }
}

pub(super) fn text(view: &KeyspaceView) -> String {
    let has_nodes = view.sites.iter().any(|it| site_name(it) != it.name);
    let mut table = Table::titled(if has_nodes {
        &["SITE", "NODE", "STANDING", "ADDRESS"]
    } else {
        &["SITE", "STANDING", "ADDRESS"]
    });
    for site in &view.sites {
        let place = match (site.addresses.as_slice(), site.error.as_str()) {
            (_, "") if ["left out", OLDER_COPY].contains(&site.standing.as_str()) => {
                "refuses clients".to_owned()
            }
            ([], "") => "not open yet".to_owned(),
            ([], error) => format!("not open: {error}"),
            (addresses, _) => addresses.join(","),
        };
        let mut row = vec![site_name(site).to_owned()];
        row.extend(has_nodes.then(|| site.name.clone()));
        row.extend([site.standing.clone(), place]);
        table.row(row);
    }
    format!(
        "keyspace {}  {}  {}  id {}\n\n{}",
        view.name,
        view.guarantee,
        view.state,
        view.id,
        table.text()
    )
}

pub(super) fn view_json(view: &KeyspaceView) -> Value {
    let site = |site: &KeyspaceSite| {
        json!({
            "name": site.name,
            "site": site_name(site),
            "node": format!("{:016x}", site.node),
            "standing": site.standing,
            "addresses": site.addresses,
            "error": site.error,
        })
    };
    json!({
        "name": view.name,
        "id": view.id,
        "guarantee": view.guarantee,
        "state": view.state,
        "sites": view.sites.iter().map(site).collect::<Value>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keyspace(name: &str, sites: &[&str], address: &str) -> KeyspaceView {
        let site = |(node, name): (u64, &&str)| KeyspaceSite {
            name: (*name).to_owned(),
            node,
            site: (*name).to_owned(),
            standing: "member".to_owned(),
            addresses: vec![format!("{address}:{}", 42_379 + 100 * node)],
            ..KeyspaceSite::default()
        };
        KeyspaceView {
            name: name.to_owned(),
            guarantee: "linearizable".to_owned(),
            state: "opening".to_owned(),
            sites: (0..).zip(sites).map(site).collect(),
            here: 1,
            ..KeyspaceView::default()
        }
    }

    #[test]
    fn the_list_of_keyspaces_is_80_columns_wide() {
        let cities = ["bergen", "kristiansand", "oslo", "tromso", "trondheim"];
        let shown = table(&[
            keyspace("default", &["bergen", "oslo", "tromso"], "http://127.0.0.1"),
            keyspace("price-labels", &cities, "https://10.100.12.30"),
            keyspace("alone", &["a"], "http://127.0.0.1"),
        ]);
        assert_eq!(
            shown,
            "KEYSPACE      GUARANTEE     STATE    SITES                 ADDRESS\n\
             default       linearizable  opening  bergen, oslo, tromso  127.0.0.1:42479 +2\n\
             price-labels  linearizable  opening  bergen +4             10.100.12.30:42479 +4\n\
             alone         linearizable  opening  a                     127.0.0.1:42379\n"
        );
        assert!(shown.lines().all(|line| line.len() <= 80), "{shown}");
    }
}
