//! What a site that was left out would bring along, were it taken in again: for operators, before they do. Nothing is
//! changed by asking.
//!
//! What would surprise: only that site can say it, for nobody else has what it is about. So it is asked itself, also
//! while it refuses its clients.

use bytes::Bytes;
use holm_base::NodeId;
use holm_kv::{Foretelling, ForetoldFrom};
use holm_local_first::{Foretold, path_text};
use tokio::task::spawn_blocking;

use super::Services;
use super::conflicts::party;
use super::keyspaces::{no_such, not_now, site_nodes, site_of};
use crate::context::Context;
use crate::holm::{ForetoldPlace, ForetoldWrite, ReturnForetoldRequest, ReturnForetoldResponse};
use crate::keyspaces::Entry;
use crate::members::Member;
use crate::status::{Code, Status};

impl Services {
    /// What this site would bring along that was left out of a local-first keyspace, a part at a
    /// time.
    ///
    /// # Errors
    ///
    /// If the site was not left out, or another is asked; if users are enforced and the caller is
    /// no administrator, for values are shown.
    pub async fn return_foretold(
        &self,
        cx: &Context,
        request: ReturnForetoldRequest,
    ) -> Result<ReturnForetoldResponse, Status> {
        self.check_is_default()?;
        self.check_admin(cx)?;
        let (name, members) = (request.name.as_str(), self.members().await?);
        let table = self.keyspace_table()?;
        let entry = table.find(name).ok_or_else(|| no_such(name))?;
        let here = self.handle().identity().node;
        check_asked((entry, &members), here, &request.site)?;
        let unheard = || {
            let site = &request.site;
            let text =
                format!("site {site} has not heard of all of keyspace {name} yet: try again");
            Status::new(Code::Unavailable, text)
        };
        let keyspace = self.neighbour(name).ok_or_else(unheard)?;
        let from = request.from.map(place).unwrap_or_default();
        if from == ForetoldFrom::default() {
            keyspace.catch_up().await?;
        }
        let view = keyspace.handle().view();
        let told = spawn_blocking(move || view.foretold(&from)).await;
        let told = told.map_err(|error| {
            Status::new(Code::Internal, format!("the read broke off: {error}"))
        })??;
        let mut answer = shown(told.ok_or_else(unheard)?);
        let sites = self.sites_by_slot(name).await?;
        for party in answer.writes.iter_mut().filter_map(|it| it.write.as_mut()) {
            let site = sites.iter().find(|it| it.0 == party.slot);
            party.site = site.map_or_else(String::new, |it| it.1.clone());
        }
        Ok(answer)
    }
}

/// Whether this node is one of a site that was left out, and may say so of itself.
fn check_asked(
    (entry, members): (&Entry, &[Member]),
    here: NodeId,
    site: &str,
) -> Result<(), Status> {
    let (nodes, name) = (site_nodes(members, site)?, &entry.name);
    let asked = site_of(members, here.value());
    let Some(islands) = &entry.islands else {
        return Err(not_now(format!(
            "keyspace {name} is linearizable: a site that is taken into it has nothing of its own"
        )));
    };
    let is_back = |node: &NodeId| entry.joining.contains(&node.value());
    let is_away = |node: &NodeId| entry.is_away(node.value());
    // One that is on its way back has had another slot.
    let was_away = |node: &NodeId| islands.former.values().any(|it| *it == node.value());
    let is_out = |node: &NodeId| is_away(node) || (is_back(node) && was_away(node));
    if !nodes.iter().any(is_out) {
        return Err(not_now(format!(
            "site {site} was not left out of keyspace {name}, as far as site {asked} has heard, so it has nothing to make \
             again: `holm keyspace members {name}` shows its standing"
        )));
    }
    if nodes.contains(&here) {
        return Ok(());
    }
    let places = addresses(members, &nodes);
    Err(not_now(format!(
        "site {asked} was asked, and only site {site} knows what only it has: ask it{places}"
    )))
}

fn addresses(members: &[Member], nodes: &[NodeId]) -> String {
    let all = members.iter().filter(|it| nodes.contains(&it.node));
    let all: Vec<&str> = all
        .flat_map(|it| it.client_urls.iter().map(String::as_str))
        .collect();
    if all.is_empty() {
        return String::new();
    }
    format!(", with --endpoints {}", all.join(","))
}

fn place(place: ForetoldPlace) -> ForetoldFrom {
    ForetoldFrom {
        key: place.key.into(),
        told: usize::try_from(place.told).unwrap_or(usize::MAX),
    }
}

fn shown(told: Foretelling) -> ReturnForetoldResponse {
    let (own, was_back) = (told.slot, told.was_back);
    let write = |(key, it): (Bytes, Foretold)| ForetoldWrite {
        key: key.to_vec(),
        kind: it.kind.name().to_owned(),
        path: if it.path.is_empty() {
            String::new()
        } else {
            path_text(&it.path)
        },
        is_made: it.party.dot.slot == own && !was_back,
        write: Some(party(it.party)),
    };
    let next = |it: ForetoldFrom| ForetoldPlace {
        key: it.key.to_vec(),
        told: u64::try_from(it.told).unwrap_or(u64::MAX),
    };
    ReturnForetoldResponse {
        writes: told.writes.into_iter().map(write).collect(),
        next: told.next.map(next),
        made: told.made,
        counted: told.counted,
        was_back,
    }
}

#[cfg(test)]
mod tests {
    use holm_local_first::{Dot, Hlc, Mark, Slot};

    use super::*;
    use crate::keyspaces::Islands;

    fn members() -> Vec<Member> {
        let member = |(number, site): (u64, &str)| Member {
            node: NodeId::new(number),
            name: site.to_owned(),
            site: site.to_owned(),
            peer_urls: Vec::new(),
            client_urls: vec![format!("http://10.0.0.{number}:2379")],
            is_learner: false,
        };
        [(1, "a"), (2, "b"), (3, "c")].map(member).into()
    }

    fn fleet(islands: &str) -> Entry {
        let islands: Islands = serde_json::from_str(islands).expect("it is well");
        Entry {
            name: "fleet".to_owned(),
            sites: vec![1, 2],
            islands: Some(islands),
            ..Entry::default()
        }
    }

    fn refusal(entry: &Entry, here: u64, site: &str) -> String {
        let asked = check_asked((entry, &members()), NodeId::new(here), site);
        asked.map_or_else(|status| status.message().to_owned(), |()| String::new())
    }

    #[test]
    fn who_was_left_out_is_asked_itself_and_others_say_where() {
        let away = r#"{"merge":"lww","since_unix_ms":1,"slots":{"1":1,"2":2},"former":{"3":3},"away":{"3":3}}"#;
        let away = fleet(away);
        assert_eq!(refusal(&away, 3, "c"), "");
        assert_eq!(
            refusal(&away, 1, "c"),
            "site a was asked, and only site c knows what only it has: ask it, with --endpoints http://10.0.0.3:2379"
        );
        assert!(refusal(&away, 2, "b").contains("was not left out"));
        assert!(refusal(&away, 2, "d").contains("there is no site d"));
        let linear = Entry {
            islands: None,
            ..away
        };
        assert!(refusal(&linear, 3, "c").contains("is linearizable"));
    }

    #[test]
    fn who_is_on_its_way_back_still_tells_and_who_is_new_has_nothing() {
        let joining = |former: &str| {
            let islands = format!(
                r#"{{"merge":"lww","since_unix_ms":1,"slots":{{"1":1,"2":2,"3":4}},"former":{former}}}"#
            );
            let joining = vec![3];
            Entry {
                joining,
                ..fleet(&islands)
            }
        };
        assert_eq!(refusal(&joining(r#"{"3":3}"#), 3, "c"), "");
        assert!(refusal(&joining("{}"), 3, "c").contains("was not left out"));
    }

    #[test]
    fn of_a_copy_of_before_a_return_all_is_told() {
        let slot = |number| Slot::new(number).expect("it is not 0");
        let write = |number| {
            let (slot, seq, hlc) = (slot(number), 7, Hlc::default());
            let dot = Dot { slot, seq };
            (Bytes::from("k"), Foretold::delete(Mark { dot, hlc }))
        };
        for (was_back, expected) in [(false, [true, false]), (true, [false, false])] {
            let told = Foretelling {
                slot: slot(3),
                made: 9,
                counted: 6,
                was_back,
                writes: vec![write(3), write(2)],
                next: None,
            };
            let shown = shown(told).writes;
            let made: Vec<bool> = shown.iter().map(|it| it.is_made).collect();
            assert_eq!(made, expected);
        }
    }
}
