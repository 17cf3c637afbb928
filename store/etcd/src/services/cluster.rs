//! The cluster's members: shown, taken in, let go, moved, given a vote.
//!
//! What would surprise: a node alone refuses a second member, whereas etcd takes it and then
//! waits for it in vain. See docs/etcd-differences.md.

use std::net::SocketAddr;

use holm_base::NodeId;

use super::Services;
use super::membership::shown;
use crate::context::Context;
use crate::errors;
use crate::members::Member;
use crate::proto::etcdserverpb as pb;
use crate::status::Status;

impl Services {
    /// All members, as this node knows them or, if that is asked for, as all do.
    ///
    /// # Errors
    ///
    /// If users are enforced and the caller has not logged in; if all are asked for and no
    /// quorum answers.
    pub async fn member_list(
        &self,
        cx: &Context,
        request: pb::MemberListRequest,
    ) -> Result<pb::MemberListResponse, Status> {
        if request.linearizable {
            self.catch_up().await?;
        }
        self.check_login(cx)?;
        let members = self.members().await?;
        Ok(pb::MemberListResponse {
            header: Some(self.member_header()),
            members: members.iter().map(shown).collect(),
        })
    }

    /// Takes a member in: a learner, which a voter is too until it has caught up.
    ///
    /// # Errors
    ///
    /// For URLs that are none or taken; if it was removed once; if the others could not agree
    /// without it. A node alone takes nobody in.
    pub async fn member_add(
        &self,
        cx: &Context,
        request: pb::MemberAddRequest,
    ) -> Result<pb::MemberAddResponse, Status> {
        check_urls(&request.peer_ur_ls)?;
        self.check_admin(cx)?;
        if self.check_is_default().is_err() {
            let node = self.add_site_by_url(&request.peer_ur_ls).await?;
            let members = self.members().await?;
            return Ok(pb::MemberAddResponse {
                header: Some(self.member_header()),
                member: members.iter().find(|it| it.node == node).map(shown),
                members: members.iter().map(shown).collect(),
            });
        }
        if let Some(bootstrap) = self.handle().bootstrap() {
            return self.take_in(bootstrap, request).await;
        }
        let taken = &self.handle().identity().peer_urls;
        if request.peer_ur_ls.iter().any(|url| taken.contains(url)) {
            return Err(errors::peer_url_exists());
        }
        Err(errors::not_enough_started_members())
    }

    /// Lets a member go, for ever.
    ///
    /// # Errors
    ///
    /// If there is no such member, it is the last one, or those who stay could not agree.
    pub async fn member_remove(
        &self,
        cx: &Context,
        request: pb::MemberRemoveRequest,
    ) -> Result<pb::MemberRemoveResponse, Status> {
        self.check_admin(cx)?;
        let Some(bootstrap) = self.handle().bootstrap() else {
            self.check_member(request.id)?;
            return Err(errors::not_enough_started_members());
        };
        let node = NodeId::new(request.id);
        let left = if self.check_is_default().is_err() {
            self.remove_site_by_id(node).await?;
            self.members().await?
        } else {
            self.let_go(bootstrap, node).await?
        };
        Ok(pb::MemberRemoveResponse {
            header: Some(self.member_header()),
            members: left.iter().map(shown).collect(),
        })
    }

    /// Remembers another address of a member. A node alone takes only the one it has.
    ///
    /// # Errors
    ///
    /// For URLs that are none or another's, or if there is no such member; at a node alone for
    /// other URLs: where it listens is its configuration's to say.
    pub async fn member_update(
        &self,
        cx: &Context,
        request: pb::MemberUpdateRequest,
    ) -> Result<pb::MemberUpdateResponse, Status> {
        check_urls(&request.peer_ur_ls)?;
        self.check_is_default()?;
        self.check_admin(cx)?;
        let members = if self.handle().is_of_cluster() {
            let node = NodeId::new(request.id);
            self.move_member(node, &request.peer_ur_ls).await?
        } else {
            self.check_member(request.id)?;
            if request.peer_ur_ls != self.handle().identity().peer_urls {
                return Err(errors::not_enough_started_members());
            }
            self.members().await?
        };
        Ok(pb::MemberUpdateResponse {
            header: Some(self.member_header()),
            members: members.iter().map(shown).collect(),
        })
    }

    /// Gives a learner its vote.
    ///
    /// # Errors
    ///
    /// If there is no such member, it votes already, or it lacks too much.
    pub async fn member_promote(
        &self,
        cx: &Context,
        request: pb::MemberPromoteRequest,
    ) -> Result<pb::MemberPromoteResponse, Status> {
        self.check_admin(cx)?;
        let Some(bootstrap) = self.handle().bootstrap() else {
            self.check_member(request.id)?;
            return Err(errors::member_not_learner());
        };
        let node = NodeId::new(request.id);
        let members: Vec<Member> = self.give_vote(bootstrap, node).await?;
        Ok(pb::MemberPromoteResponse {
            header: Some(self.member_header()),
            members: members.iter().map(shown).collect(),
        })
    }

    fn check_member(&self, id: u64) -> Result<(), Status> {
        if id == self.handle().identity().node.value() {
            Ok(())
        } else {
            Err(errors::member_not_found())
        }
    }

    /// Answers about members say nothing of the keyspace: they have no revision.
    pub(super) fn member_header(&self) -> pb::ResponseHeader {
        self.header(0, self.term_of(&self.handle().view()))
    }
}

/// URLs as members have them: http or https, an address and a port, no path.
fn check_urls(urls: &[String]) -> Result<(), Status> {
    if !urls.is_empty() && urls.iter().all(|url| is_url(url)) {
        Ok(())
    } else {
        Err(errors::bad_member_urls())
    }
}

fn is_url(url: &str) -> bool {
    let place = url
        .strip_prefix("http://")
        .or_else(|| url.strip_prefix("https://"));
    let Some(place) = place else {
        return false;
    };
    let named = place.rsplit_once(':').is_some_and(|(host, port)| {
        !host.is_empty() && !host.contains(['/', ':', '@']) && port.parse::<u16>().is_ok()
    });
    named || place.parse::<SocketAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_of_members_have_a_scheme_a_host_and_a_port() {
        for url in [
            "http://127.0.0.1:2380",
            "https://site-a:2380",
            "http://[::1]:2380",
        ] {
            assert!(is_url(url), "{url}");
        }
        for url in [
            "",
            "x",
            "127.0.0.1:2380",
            "http://a",
            "ftp://a:1",
            "http://a:1/b",
            "http://:1",
        ] {
            assert!(!is_url(url), "{url}");
        }
    }

    #[test]
    fn no_urls_at_all_are_refused() {
        assert_eq!(check_urls(&[]), Err(errors::bad_member_urls()));
    }
}
