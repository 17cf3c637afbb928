//! The authority of a cluster: shown, and replaced by another while the cluster serves.
//!
//! Here is what is asked of any member and what the sites tell each other; the rule by which they
//! go on is in `authority.rs`, and what a site does with its files is not here.

use holm_base::NodeId;
use holm_raft::Configuration;

use super::Services;
use super::island::is_learner;
use crate::authority::{
    self, Fingerprint, Lack, Next, Report, Site, Stage, Standing, is_lost, lack, stage,
};
use crate::context::Context;
use crate::holm::{
    AuthorityReplacement, AuthoritySite, AuthorityWait, NodeLink, SiteAuthorityReplaceRequest,
    SiteAuthorityRequest, SiteAuthorityResponse,
};
use crate::members::Member;
use crate::status::{Code, Status};

/// How many authorities a site may trust at once: each replacement that was given up is one.
const TRUSTED_MAX: usize = 8;

impl Services {
    /// Shows the cluster's authority, and how far a replacement of it is.
    ///
    /// # Errors
    ///
    /// If users are enforced and the caller has not logged in, no quorum answers, or the members'
    /// certificates come from elsewhere.
    pub async fn site_authority(
        &self,
        cx: &Context,
        _request: SiteAuthorityRequest,
    ) -> Result<SiteAuthorityResponse, Status> {
        self.check_is_default()?;
        self.check_login(cx)?;
        self.check_own_authority()?;
        self.catch_up().await?;
        self.authority_shown().await
    }

    /// Begins to replace the authority, or goes on. What is left to do the sites do by themselves.
    ///
    /// # Errors
    ///
    /// If users are enforced and the caller is no administrator, no quorum answers, this site
    /// cannot sign, or the members' certificates come from elsewhere.
    pub async fn site_authority_replace(
        &self,
        cx: &Context,
        _request: SiteAuthorityReplaceRequest,
    ) -> Result<SiteAuthorityResponse, Status> {
        self.check_is_default()?;
        self.check_admin(cx)?;
        self.check_own_authority()?;
        self.catch_up().await?;
        let Standing { next, sites } = self.authority_standing().await?;
        let goes_on = next.is_some_and(|it| !is_lost(it.fingerprint, it.by(), &sites));
        if !goes_on {
            self.begin_replacing(&sites).await?;
        }
        self.authority_shown().await
    }

    async fn begin_replacing(&self, sites: &[Site]) -> Result<(), Status> {
        let refused = |text: String| Err(Status::new(Code::FailedPrecondition, text));
        if !self.link_certificate().is_some_and(|it| it.is_authority) {
            return refused(
                "this site cannot sign, for it has no vote, or has it only since now: ask one that can, `holm site \
                 authority` says which"
                    .to_owned(),
            );
        }
        let reports = || sites.iter().filter_map(|site| site.report.as_ref());
        if reports().any(|it| it.trusts.len() >= TRUSTED_MAX) {
            return refused(format!(
                "a site trusts {TRUSTED_MAX} authorities already, for replacements were begun and given up: see who is \
                 waited for with `holm site authority`"
            ));
        }
        let known: Vec<[u8; 32]> = reports()
            .flat_map(|it| it.trusts.iter().map(|it| it.0))
            .collect();
        let links = self.shared.links.get();
        let links =
            links.ok_or_else(|| Status::new(Code::Unavailable, "there are no links yet"))?;
        let made = links.next_authority(&known);
        let made = made.map_err(|why| Status::new(Code::Internal, why))?;
        let own = self.handle().identity().node;
        let next = Next::new(made.certificate, Fingerprint(made.fingerprint), own);
        tracing::info!(authority = %next.fingerprint, "the authority is to be replaced");
        self.remember_now([authority::remember_next(&next)]).await
    }

    /// All that the cluster remembers of its authority, as this site knows it.
    ///
    /// What was reported is read before the members are: who became one before a report was made
    /// is among them.
    async fn authority_standing(&self) -> Result<Standing, Status> {
        let view = self.handle().view();
        let configuration: Configuration = self.standing().await?.configuration;
        let site = |node: NodeId| Site {
            node,
            has_vote: !is_learner(&configuration, node),
            report: authority::report(&view, node),
        };
        Ok(Standing {
            next: authority::next(&view),
            sites: configuration.members().into_iter().map(site).collect(),
        })
    }

    /// Whether this site has something to tell or to do, for it has `own`: cheap, and by what it
    /// knows alone.
    #[must_use]
    pub fn is_authority_due(&self, own: &Report) -> bool {
        let view = self.handle().view();
        let node = self.handle().identity().node;
        authority::next(&view).is_some() || authority::report(&view, node).as_ref() != Some(own)
    }

    /// Tells the others what this site has, if they do not know it, and gives what all have, as
    /// new as anybody knows.
    ///
    /// # Errors
    ///
    /// If no quorum answers, or the site is no member yet.
    pub async fn tell_authority(&self, own: &Report) -> Result<Standing, Status> {
        let node = self.handle().identity().node;
        self.catch_up().await?;
        if authority::report(&self.handle().view(), node).as_ref() != Some(own) {
            self.remember_now([authority::remember_report(node, own)])
                .await?;
            self.catch_up().await?;
        }
        self.authority_standing().await
    }

    /// Has the cluster remember that an authority has replaced all others.
    ///
    /// # Errors
    ///
    /// If no quorum answers.
    pub async fn finish_authority(&self, standing: &Standing) -> Result<(), Status> {
        let Some(next) = &standing.next else {
            return Ok(());
        };
        let members: Vec<NodeId> = standing.sites.iter().map(|site| site.node).collect();
        let mut told = authority::forget_others(&self.handle().view(), &members);
        told.push(authority::remember_done(next.fingerprint));
        self.remember_now(told).await
    }

    /// Refuses where members do not sign each other's certificates.
    fn check_own_authority(&self) -> Result<(), Status> {
        const ELSEWHERE: &str = "the certificates of this cluster come from elsewhere, so their authority is replaced \
            there. Files are read again by themselves: have --peer-trusted-ca-file hold the old and the new authority \
            at every site, then renew each --peer-cert-file by the new one, then take the old one out. Sites of `holm \
            up --sites` get another with the next start, if the folder pki is removed while they are down";
        const ALONE: &str = "this node is alone and has no authority: found a cluster in a new folder with `holm up \
            --cluster NAME --data-dir FOLDER`";
        let certificate = self.link_certificate();
        if certificate.is_some_and(|it| it.fingerprint.is_some()) {
            return Ok(());
        }
        let why = if self.handle().is_of_cluster() {
            ELSEWHERE
        } else {
            ALONE
        };
        Err(Status::new(Code::FailedPrecondition, why))
    }

    async fn authority_shown(&self) -> Result<SiteAuthorityResponse, Status> {
        let standing = self.authority_standing().await?;
        let members = self.members().await?;
        let trusted = self.shared.links.get().map(|links| links.trusted());
        let trusted = trusted.unwrap_or_default();
        let next = standing.next.as_ref().map(|it| it.fingerprint.0);
        // The one in force: the newest but for the one that is to be.
        let mut old = trusted
            .iter()
            .rev()
            .filter(|it| Some(it.fingerprint) != next);
        let shown = old.next().or_else(|| trusted.last());
        let site = |site: &Site| {
            let report = site.report.clone().unwrap_or_default();
            let bytes = |it: Option<Fingerprint>| it.map_or_else(Vec::new, |it| it.0.to_vec());
            AuthoritySite {
                node: site.node.value(),
                name: name(&members, site.node),
                has_vote: site.has_vote,
                has_reported: site.report.is_some(),
                trusts: report.trusts.iter().map(|it| it.0.to_vec()).collect(),
                signed_by: bytes(report.signed_by),
                signs_for: bytes(report.key),
            }
        };
        Ok(SiteAuthorityResponse {
            fingerprint: shown.map_or_else(Vec::new, |it| it.fingerprint.to_vec()),
            until: shown.map_or(0, |it| it.until),
            sites: standing.sites.iter().map(site).collect(),
            replacement: self.replacement_of(&standing, &members),
        })
    }

    /// How far a replacement is, as this site knows it.
    pub(super) async fn replacement(&self) -> Result<Option<AuthorityReplacement>, Status> {
        if authority::next(&self.handle().view()).is_none() {
            return Ok(None);
        }
        let (standing, members) = (self.authority_standing().await?, self.members().await?);
        Ok(self.replacement_of(&standing, &members))
    }

    fn replacement_of(
        &self,
        standing: &Standing,
        members: &[Member],
    ) -> Option<AuthorityReplacement> {
        let next = standing.next.as_ref()?;
        let stage = stage(next.fingerprint, &standing.sites);
        let links = self.links();
        let waits = standing.sites.iter().filter_map(|site| {
            let lack = lack(next.fingerprint, stage, site)?;
            Some(AuthorityWait {
                node: site.node.value(),
                name: name(members, site.node),
                why: why(lack, links.iter().find(|it| it.node == site.node.value())),
            })
        });
        Some(AuthorityReplacement {
            fingerprint: next.fingerprint.0.to_vec(),
            stage: stage_name(stage).to_owned(),
            by: next.by().map_or_else(String::new, |by| name(members, by)),
            waits_for: waits.collect(),
            is_lost: is_lost(next.fingerprint, next.by(), &standing.sites),
        })
    }
}

/// What a member is called, or its id if it has told no name.
fn name(members: &[Member], node: NodeId) -> String {
    let member = members.iter().find(|it| it.node == node);
    let named = member.map(|it| it.name.clone());
    let named = named.filter(|name| !name.is_empty());
    named.unwrap_or_else(|| format!("member {:x}", node.value()))
}

const fn stage_name(stage: Stage) -> &'static str {
    match stage {
        Stage::Trust => "trust",
        Stage::Sign => "sign",
        Stage::Drop => "drop",
        Stage::Finish => "finish",
    }
}

/// What a member is waited for, for people.
fn why(lack: Lack, link: Option<&NodeLink>) -> String {
    let what = match lack {
        Lack::Report => {
            "has told nothing of its certificates: it has not started yet, or is of an older release"
        }
        Lack::Trust => "is to trust the next authority",
        Lack::Key => "is to be given the next authority's key",
        Lack::Certificate => "is to renew its certificate",
        Lack::Drop => "is to let go of the old authority",
    };
    match link {
        Some(link) if !link.is_up => format!("{what}; no link for {} s", link.for_ms / 1_000),
        _ => what.to_owned(),
    }
}
