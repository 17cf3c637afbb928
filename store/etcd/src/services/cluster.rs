//! The cluster: one member, and the answers that one member gives.
//!
//! What would surprise: a second member is refused, whereas etcd takes it and then waits for
//! it in vain. See docs/etcd-differences.md.

use std::net::SocketAddr;

use super::Services;
use crate::context::Context;
use crate::errors;
use crate::proto::etcdserverpb as pb;
use crate::status::Status;

impl Services {
    /// All members.
    ///
    /// # Errors
    ///
    /// If users are enforced and the caller has not logged in.
    pub async fn member_list(
        &self,
        cx: &Context,
        _request: pb::MemberListRequest,
    ) -> Result<pb::MemberListResponse, Status> {
        self.check_login(cx)?;
        Ok(pb::MemberListResponse {
            header: Some(self.member_header()),
            members: vec![self.member()],
        })
    }

    /// Refuses another member.
    ///
    /// # Errors
    ///
    /// Always: for URLs that are none or taken, and else because nobody is there to agree.
    pub async fn member_add(
        &self,
        cx: &Context,
        request: pb::MemberAddRequest,
    ) -> Result<pb::MemberAddResponse, Status> {
        check_urls(&request.peer_ur_ls)?;
        self.check_admin(cx)?;
        let taken = &self.handle().identity().peer_urls;
        if request.peer_ur_ls.iter().any(|url| taken.contains(url)) {
            return Err(errors::peer_url_exists());
        }
        Err(errors::not_enough_started_members())
    }

    /// Refuses to remove a member.
    ///
    /// # Errors
    ///
    /// Always: there is no such member, or it is the last one.
    pub async fn member_remove(
        &self,
        cx: &Context,
        request: pb::MemberRemoveRequest,
    ) -> Result<pb::MemberRemoveResponse, Status> {
        self.check_admin(cx)?;
        self.check_member(request.id)?;
        Err(errors::not_enough_started_members())
    }

    /// Takes a member's URLs if they are those it has.
    ///
    /// # Errors
    ///
    /// For URLs that are none, another member, or other URLs: where this node listens is its
    /// configuration's to say.
    pub async fn member_update(
        &self,
        cx: &Context,
        request: pb::MemberUpdateRequest,
    ) -> Result<pb::MemberUpdateResponse, Status> {
        check_urls(&request.peer_ur_ls)?;
        self.check_admin(cx)?;
        self.check_member(request.id)?;
        if request.peer_ur_ls != self.handle().identity().peer_urls {
            return Err(errors::not_enough_started_members());
        }
        Ok(pb::MemberUpdateResponse {
            header: Some(self.member_header()),
            members: vec![self.member()],
        })
    }

    /// Refuses to promote a member.
    ///
    /// # Errors
    ///
    /// Always: there is no such member, or it votes already.
    pub async fn member_promote(
        &self,
        cx: &Context,
        request: pb::MemberPromoteRequest,
    ) -> Result<pb::MemberPromoteResponse, Status> {
        self.check_admin(cx)?;
        self.check_member(request.id)?;
        Err(errors::member_not_learner())
    }

    fn check_member(&self, id: u64) -> Result<(), Status> {
        if id == self.handle().identity().node.value() {
            Ok(())
        } else {
            Err(errors::member_not_found())
        }
    }

    fn member(&self) -> pb::Member {
        let identity = self.handle().identity();
        pb::Member {
            id: identity.node.value(),
            name: identity.name.clone(),
            peer_ur_ls: identity.peer_urls.clone(),
            client_ur_ls: identity.client_urls.clone(),
            is_learner: false,
        }
    }

    /// Answers about members say nothing of the keyspace: they have no revision.
    fn member_header(&self) -> pb::ResponseHeader {
        self.header(0, self.handle().view().term.value())
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
