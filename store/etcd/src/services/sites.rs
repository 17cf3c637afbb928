//! Sites that join with a one-time token: handed out here, and taken back here.
//!
//! A token may be used once, at any member, and any member may hear of it first. The facts have
//! no compare-and-set, so a site that comes with a token first claims it under its own key, then
//! waits until it has read all that was said before, and only then looks: whoever sees another's
//! claim takes back its own and is refused. Of two that come at once the one whose claim is
//! ordered later sees the other's, so there are never two winners; there may be none, and then
//! the token's owner tries again. A site that comes back with the key that it had goes on where
//! it was.
//!
//! What would surprise: a site's id follows from its address and the token, not from its address
//! alone. So a site that has lost its disk can join again at the address that it had.

use holm_base::{ClusterId, NodeId};
use holm_link::{Identity, JoinToken};
use holm_runtime::{Bootstrap, member_id};

use super::Services;
use crate::context::Context;
use crate::holm::{Invitation, SiteAddRequest, SiteAddResponse};
use crate::members::Member;
use crate::random;
use crate::sites::{self, Claim, Pass};
use crate::status::{Code, Status};

/// How long a token may be good: who needs longer makes another.
const SECONDS_MAX: u64 = 7 * 24 * 3_600;

/// Addresses in a token: enough that one of them answers.
const ADDRESSES_MAX: usize = 8;

/// Tokens that may wait at once.
const PENDING_MAX: usize = 64;

/// A site that comes with a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applicant {
    /// The cluster that its token is for.
    pub cluster: ClusterId,
    /// The token's secret.
    pub secret: [u8; 16],
    /// What it is called.
    pub name: String,
    /// Where the others will reach it.
    pub url: String,
    /// SHA-256 of the key that it wants a certificate for.
    pub key: [u8; 32],
    /// Who it is, if it is a member already and only its certificate has ended.
    pub node: Option<NodeId>,
}

/// A site that was let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admitted {
    /// Its id.
    pub node: NodeId,
    /// The token that ids follow from.
    pub token: String,
    /// Everyone, the site among them.
    pub members: Vec<Member>,
}

/// Why a site was not let in. The texts are for its operator.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAdmitted {
    /// It will not be, with this token or in this way.
    #[error("{0}")]
    Refused(String),
    /// Not now: the cluster has no quorum.
    #[error("{0}")]
    Unavailable(String),
}

fn refused<T>(why: impl Into<String>) -> Result<T, NotAdmitted> {
    Err(NotAdmitted::Refused(why.into()))
}

impl Services {
    /// Makes a token with which one site can join, once.
    ///
    /// # Errors
    ///
    /// If users are enforced and the caller is no administrator, the name does not fit a
    /// certificate, or the members' certificates come from elsewhere.
    pub async fn site_add(
        &self,
        cx: &Context,
        request: SiteAddRequest,
    ) -> Result<SiteAddResponse, Status> {
        self.check_is_default()?;
        self.check_admin(cx)?;
        let invalid = |text: String| Status::new(Code::InvalidArgument, text);
        Identity::new("cluster", &request.name, &request.name)
            .map_err(|error| invalid(error.to_string()))?;
        if request.seconds == 0 || request.seconds > SECONDS_MAX {
            return Err(invalid(
                "a token may be good for 1 second to 7 days".to_owned(),
            ));
        }
        let fingerprint = self.link_certificate().and_then(|it| it.fingerprint);
        let Some(fingerprint) = fingerprint.filter(|_| self.handle().is_of_cluster()) else {
            return Err(Status::new(Code::FailedPrecondition, self.no_authority()));
        };
        let members = self.members().await?;
        let now = self.wall_seconds()?;
        let view = self.handle().view();
        self.remember_now(sites::forget_old(&view, now)).await?;
        if sites::pending(&view, now).len() >= PENDING_MAX {
            return Err(Status::new(
                Code::ResourceExhausted,
                format!("{PENDING_MAX} tokens wait already: let some of them be used, or end"),
            ));
        }
        let secret = random::bytes::<16>()
            .map_err(|error| Status::new(Code::Internal, error.to_string()))?;
        let pass = Pass {
            name: request.name,
            expires: now + request.seconds,
            url: request.peer_url,
        };
        let places = members.iter().filter_map(|it| it.peer_urls.first());
        let token = JoinToken {
            cluster: self.handle().identity().cluster,
            fingerprint,
            addresses: places.take(ADDRESSES_MAX).map(|url| place(url)).collect(),
            secret,
            expires: pass.expires,
        };
        let text = token.encode();
        let text = text.map_err(|error| Status::new(Code::Internal, error.to_string()))?;
        self.remember_now([sites::remember_pass(&sites::id(&secret), &pass)])
            .await?;
        Ok(SiteAddResponse {
            token: text,
            expires: pass.expires,
            addresses: token.addresses,
            is_member: members.iter().any(|it| it.name == pass.name),
        })
    }

    fn no_authority(&self) -> &'static str {
        if self.handle().is_of_cluster() {
            "the certificates of this cluster come from elsewhere, so no site can join with a token: make one for it \
             and use `etcdctl member add`"
        } else {
            "this node is alone, and a node alone takes no others in: found a cluster in a new folder with `holm up \
             --cluster NAME --data-dir FOLDER`"
        }
    }

    /// Sites that may join and have not, by name.
    pub(super) fn invitations(&self) -> Vec<Invitation> {
        let now = self.wall_seconds();
        now.map_or_else(
            |_no_links| Vec::new(),
            |now| sites::pending(&self.handle().view(), now),
        )
    }

    fn wall_seconds(&self) -> Result<u64, Status> {
        let links = self.shared.links.get();
        let none = || Status::new(Code::Unavailable, "the node has no links yet");
        links.map(|links| links.wall_seconds()).ok_or_else(none)
    }

    /// Lets a site in that comes with a token, or lets one go on that had begun.
    ///
    /// # Errors
    ///
    /// [`NotAdmitted`]; who belongs to the cluster is then as it was, as far as is known.
    pub async fn admit(&self, applicant: &Applicant) -> Result<Admitted, NotAdmitted> {
        let Some(bootstrap) = self.handle().bootstrap() else {
            return refused(self.no_authority());
        };
        if applicant.cluster != self.handle().identity().cluster {
            return refused("the token is of another cluster");
        }
        self.catch_up().await?;
        let id = sites::id(&applicant.secret);
        let begun = self.check_pass(&id, applicant)?;
        let members = self.members().await?;
        let node = begun.as_ref().and_then(Claim::node).or(applicant.node);
        let node = node.unwrap_or_else(|| {
            let parts = [applicant.url.clone(), format!("holm join {id}")];
            member_id(&bootstrap.token, &parts)
        });
        self.check_name(applicant, node, &members)?;
        check_url(applicant, node, &members)?;
        if begun.is_none() {
            self.claim(&id, applicant, node).await?;
        }
        self.let_in(bootstrap, applicant, (node, &members)).await?;
        Ok(Admitted {
            node,
            token: bootstrap.token.clone(),
            members: self.members().await?,
        })
    }

    /// Whether the token lets this site in; what it has begun, if it has.
    fn check_pass(&self, id: &str, applicant: &Applicant) -> Result<Option<Claim>, NotAdmitted> {
        const AGAIN: &str = "make a new one with `holm site add`";
        let view = self.handle().view();
        let Some(pass) = sites::pass(&view, id) else {
            return refused(format!(
                "the token is not known here, or it ended long ago: {AGAIN}"
            ));
        };
        let (ours, other) = sites::claims(&view, id, &applicant.key);
        if let (None, Some(other)) = (&ours, other) {
            let Claim { name, url, .. } = other;
            return refused(format!(
                "the token was used already, by {name} at {url}: {AGAIN} (or start that site again where it was)"
            ));
        }
        let now = self.wall_seconds()?;
        if !sites::is_good(&pass, now, ours.is_some()) {
            let ago = now.saturating_sub(pass.expires);
            return refused(format!("the token expired {ago} seconds ago: {AGAIN}"));
        }
        if pass.name != applicant.name {
            return refused(format!(
                "the token is for a site called {}, and this one is called {}: start it with --name {}",
                pass.name, applicant.name, pass.name
            ));
        }
        let wanted = ours.as_ref().map_or(&pass.url, |claim| &claim.url);
        if !wanted.is_empty() && *wanted != applicant.url {
            return refused(format!(
                "the token is for a site at {wanted}, and this one would be at {}: start it with \
                 --initial-advertise-peer-urls {wanted}, or make another token",
                applicant.url
            ));
        }
        Ok(ours)
    }

    /// Whether the name is free, or this very member's.
    fn check_name(
        &self,
        applicant: &Applicant,
        node: NodeId,
        members: &[Member],
    ) -> Result<(), NotAdmitted> {
        let name = &applicant.name;
        if let Some(claimed) = applicant.node {
            let is_it = |it: &&Member| it.node == claimed && it.name == *name;
            if members.iter().any(|it| is_it(&it)) {
                return Ok(());
            }
            return refused(format!(
                "this data directory is that of member {:x}, which is none any more: let {name} join from an empty \
                 one",
                claimed.value()
            ));
        }
        let is_other = |it: NodeId| it != node && members.iter().any(|member| member.node == it);
        let claims = sites::all_claims(&self.handle().view());
        let is_claimed = claims
            .iter()
            .any(|claim| claim.name == *name && claim.node().is_some_and(is_other));
        let named = members.iter().any(|it| it.name == *name && it.node != node);
        if named || is_claimed {
            return refused(format!(
                "the cluster has a site called {name}: if it is lost for good, `etcdctl member remove` it first; \
                 otherwise choose another name"
            ));
        }
        Ok(())
    }

    /// Takes the token for this site, or finds that another has it.
    async fn claim(
        &self,
        id: &str,
        applicant: &Applicant,
        node: NodeId,
    ) -> Result<(), NotAdmitted> {
        let claim = Claim::new(&applicant.name, node, &applicant.url);
        self.remember_now([sites::remember_claim(id, &applicant.key, &claim)])
            .await?;
        self.catch_up().await?;
        let (_ours, other) = sites::claims(&self.handle().view(), id, &applicant.key);
        if other.is_none() {
            return Ok(());
        }
        self.remember_now([sites::forget_claim(id, &applicant.key)])
            .await?;
        refused(
            "another site came with this token at the same moment: try again, or make a new one",
        )
    }

    async fn let_in(
        &self,
        bootstrap: &Bootstrap,
        applicant: &Applicant,
        (node, members): (NodeId, &[Member]),
    ) -> Result<(), NotAdmitted> {
        if members.iter().any(|it| it.node == node) {
            return Ok(());
        }
        let urls = [applicant.url.clone()];
        Ok(self.take_in_as(bootstrap, node, &urls, false).await?)
    }
}

/// Whether the address is free, or this very member's. Before a claim: who is refused may come again with another.
fn check_url(applicant: &Applicant, node: NodeId, members: &[Member]) -> Result<(), NotAdmitted> {
    let urls = [applicant.url.clone()];
    let mut others = members.iter().filter(|it| it.node != node);
    let Some(taken) = others.find(|it| it.peer_urls == urls) else {
        return Ok(());
    };
    let id = taken.node.value();
    let url = &applicant.url;
    refused(format!(
        "member {id:x} is reached at {url} already: if it is lost for good, `etcdctl member remove {id:x}` first; \
         otherwise choose another --peer"
    ))
}

impl From<Status> for NotAdmitted {
    fn from(status: Status) -> Self {
        let text = status.message().to_owned();
        match status.code() {
            Code::Unavailable | Code::DeadlineExceeded | Code::ResourceExhausted => {
                Self::Unavailable(text)
            }
            _ => Self::Refused(text),
        }
    }
}

fn place(url: &str) -> String {
    let place = url.split_once("://").map_or(url, |(_scheme, place)| place);
    place.trim_end_matches('/').to_owned()
}
