//! `holm keyspace members NAME add|remove SITE`: changes at which sites a keyspace is, and waits until that has come to
//! pass.
//!
//! What would surprise: a site that the table calls a member may refuse its clients for a moment more, until it has read
//! that itself. So a site that was added is asked, too.

use std::time::{Duration, Instant};

use anyhow::bail;
use holm_etcd::holm::{
    KeyspaceMemberRequest, KeyspaceSite, KeyspaceView, NodeStatus, NodeStatusRequest, OLDER_COPY,
};

use super::Found;
use super::foretold::{self, Add};
use super::keyspace::{one, site_name, text, view_json, wait};
use crate::client::{Client, ClientError, ConnectionOptions};
use crate::progress::Progress;
use crate::screen::Screen;

const PATH: &str = "/holm.v1.Node/KeyspaceMember";
/// How often is looked.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// After how long a wait is shown.
const SHOWN_AFTER: Duration = Duration::from_secs(1);
/// How long a member that cannot be reached from here is asked whether it serves.
const ASKED_FOR: Duration = Duration::from_secs(3);

/// How far a site is that was added.
enum Coming {
    /// It serves.
    There,
    /// It is a member. Whether it serves cannot be asked from here.
    Unasked(ClientError),
    /// It does not serve yet: why.
    UnderWay(String),
}

/// Takes a site in, and waits until it serves.
pub(super) async fn add(
    client: &mut Client,
    (name, add): (&str, &Add),
    (connection, screen): (&ConnectionOptions, Screen),
) -> anyhow::Result<Found> {
    let site = &add.site;
    let view = one(client, name).await?;
    let comes_back = of(&view, site).any(|it| it.standing == "left out");
    let request = request(name, site);
    let _begun: KeyspaceView = client.call(PATH, &request).await?;
    let (view, coming) = come(client, (name, add), connection).await?;
    let is_member = !matches!(coming, Coming::UnderWay(_));
    let mut shown = text(&view);
    if comes_back {
        let after = foretold::after(client, (name, site), is_member).await;
        shown = format!("{}\n\n{after}", shown.trim_end());
    }
    if let Coming::Unasked(error) = &coming {
        let after = format!("site {site} is a member; from here it is not seen to serve: {error}");
        shown = format!("{}\n\n{after}", shown.trim_end());
    }
    screen.show(&shown, &view_json(&view))?;
    if let Coming::UnderWay(why) = coming {
        bail!(
            "site {site} was added to keyspace {name}, and does not serve it after {} s: {why}; it goes on by itself: \
             `holm keyspace show {name}` tells when",
            add.within.as_secs()
        );
    }
    Ok(Found::Yes)
}

/// Lets a site go, and waits until it has gone.
pub(super) async fn remove(
    client: &mut Client,
    (name, site, is_lost): (&str, &str, bool),
    (patience, screen): (Duration, Screen),
) -> anyhow::Result<Found> {
    let request = KeyspaceMemberRequest {
        is_leaving: true,
        is_lost,
        ..request(name, site)
    };
    let _begun: KeyspaceView = client.call(PATH, &request).await?;
    let of_copy = |view: &KeyspaceView| {
        let mut found = view.sites.iter().filter(|it| site_name(it) == site);
        !is_lost && found.any(|it| it.standing == OLDER_COPY)
    };
    let is_done = |view: &KeyspaceView| {
        let mut found = of(view, site).peekable();
        match found.peek() {
            None => true,
            Some(_) if is_lost => found.all(|it| it.standing == "left out"),
            Some(_) => found.all(|it| it.standing == "member"),
        }
    };
    let is_over = |view: &KeyspaceView| is_done(view) || of_copy(view);
    let view = wait(client, name, (patience, &is_over)).await?;
    screen.show(&text(&view), &view_json(&view))?;
    if of_copy(&view) {
        // That came out behind the request: asked again, it is refused with the reason.
        let _view: KeyspaceView = client.call(PATH, &request).await?;
    }
    if !is_done(&view) {
        bail!(
            "site {site} is not done within {} s; it goes on by itself: `holm keyspace show {name}` tells when",
            patience.as_secs()
        );
    }
    Ok(Found::Yes)
}

fn request(name: &str, site: &str) -> KeyspaceMemberRequest {
    KeyspaceMemberRequest {
        name: name.to_owned(),
        site: site.to_owned(),
        is_leaving: false,
        is_lost: false,
    }
}

/// What a keyspace has of a site, or of one node.
fn of<'a>(view: &'a KeyspaceView, site: &str) -> impl Iterator<Item = &'a KeyspaceSite> {
    let found = view.sites.iter();
    found.filter(move |it| it.site == site || it.name == site)
}

/// Waits until a site serves that was added, or for as long as was said.
async fn come(
    client: &mut Client,
    (name, add): (&str, &Add),
    connection: &ConnectionOptions,
) -> anyhow::Result<(KeyspaceView, Coming)> {
    let begun = Instant::now();
    let mut progress = Progress::new();
    let mut unheard: Option<Instant> = None;
    loop {
        let view = one(client, name).await?;
        let coming = coming(&view, &add.site, connection).await;
        let why = match coming {
            Coming::There => return Ok((view, Coming::There)),
            Coming::Unasked(error) => {
                let since = *unheard.get_or_insert_with(Instant::now);
                if since.elapsed() >= ASKED_FOR {
                    return Ok((view, Coming::Unasked(error)));
                }
                format!("{error}")
            }
            Coming::UnderWay(why) => {
                unheard = None;
                why
            }
        };
        let waited = begun.elapsed();
        if waited >= add.within {
            return Ok((view, Coming::UnderWay(why)));
        }
        if waited >= SHOWN_AFTER {
            progress.show(&format!(
                "adding site {}: {why}: {} s",
                add.site,
                waited.as_secs()
            ));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// How far all nodes of a site are, as the table says and they themselves.
async fn coming(view: &KeyspaceView, site: &str, connection: &ConnectionOptions) -> Coming {
    if let Some(why) = under_way(view, site) {
        return Coming::UnderWay(why);
    }
    for node in of(view, site) {
        match ask(node, connection).await {
            Ok(status) => {
                if let Some(why) = refusal(&status) {
                    return Coming::UnderWay(why);
                }
            }
            Err(error) => return Coming::Unasked(error),
        }
    }
    Coming::There
}

/// What the table of keyspaces does not say of a site yet.
fn under_way(view: &KeyspaceView, site: &str) -> Option<String> {
    if of(view, site).next().is_none() {
        return Some("the node that is asked does not know of it yet".to_owned());
    }
    of(view, site).find_map(|it| match (it.standing.as_str(), it.error.as_str()) {
        (_, error) if !error.is_empty() => Some(format!("{} is not open: {error}", it.name)),
        ("member" | "joining", _) if it.addresses.is_empty() => {
            Some(format!("{} has not opened it yet", it.name))
        }
        ("member", _) => None,
        ("joining", _) => Some(format!("{} receives what is there", it.name)),
        (standing, _) => Some(format!("{} is {standing}", it.name)),
    })
}

/// Asks a node at the keyspace's own address.
async fn ask(
    node: &KeyspaceSite,
    connection: &ConnectionOptions,
) -> Result<NodeStatus, ClientError> {
    // It says how it is without a login: the keyspace's users are others than those of `default`.
    let there = ConnectionOptions {
        endpoints: node.addresses.clone(),
        keyspace: None,
        user: None,
        context: None,
        timeout: connection.timeout.min(ASKED_FOR),
        ..connection.clone()
    };
    let mut client = Client::connect(&there).await?;
    let path = "/holm.v1.Node/Status";
    client.call(path, &NodeStatusRequest {}).await
}

/// Why a node does not serve the keyspace whose address was asked; none if it does.
fn refusal(status: &NodeStatus) -> Option<String> {
    let shut = status.keyspaces.first().map_or("", |it| it.shut.as_str());
    if !shut.is_empty() {
        return Some(shut.to_owned());
    }
    if status.is_learner {
        return Some(format!("{} does not know of its vote yet", status.name));
    }
    let knows = status.is_leader || status.leader != 0;
    (!knows).then(|| format!("{} knows of no leader yet", status.name))
}

#[cfg(test)]
mod tests {
    use holm_etcd::holm::KeyspaceStatus;

    use super::*;

    fn view(standing: &str, addresses: &[&str], error: &str) -> KeyspaceView {
        let site = |name: &str| KeyspaceSite {
            name: name.to_owned(),
            site: "c".to_owned(),
            standing: "member".to_owned(),
            addresses: vec!["http://127.0.0.1:2399".to_owned()],
            ..KeyspaceSite::default()
        };
        let second = KeyspaceSite {
            standing: standing.to_owned(),
            addresses: addresses.iter().map(|it| (*it).to_owned()).collect(),
            error: error.to_owned(),
            ..site("c2")
        };
        KeyspaceView {
            sites: vec![site("c1"), second],
            ..KeyspaceView::default()
        }
    }

    #[test]
    fn a_site_is_there_once_each_of_its_nodes_is_an_open_member() {
        let there = ["http://127.0.0.1:2499"];
        let why = |view: &KeyspaceView| under_way(view, "c").unwrap_or_default();
        assert_eq!(why(&view("member", &there, "")), "");
        assert_eq!(why(&view("member", &[], "")), "c2 has not opened it yet");
        assert_eq!(
            why(&view("joining", &there, "")),
            "c2 receives what is there"
        );
        assert_eq!(
            why(&view("joining", &[], "no port")),
            "c2 is not open: no port"
        );
        assert!(why(&KeyspaceView::default()).contains("does not know of it"));
    }

    #[test]
    fn a_member_serves_once_it_knows_that_it_may() {
        let serves = NodeStatus {
            name: "c".to_owned(),
            leader: 7,
            keyspaces: vec![KeyspaceStatus::default()],
            ..NodeStatus::default()
        };
        assert_eq!(refusal(&serves), None);
        let mut shut = serves.clone();
        shut.keyspaces[0].shut = "has not received all of it yet".to_owned();
        assert_eq!(refusal(&shut), Some(shut.keyspaces[0].shut.clone()));
        let learner = NodeStatus {
            is_learner: true,
            ..serves.clone()
        };
        assert!(refusal(&learner).is_some_and(|why| why.contains("vote")));
        let lost = NodeStatus {
            leader: 0,
            ..serves
        };
        assert!(refusal(&lost).is_some_and(|why| why.contains("leader")));
    }
}
