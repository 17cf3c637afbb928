//! The desk of a site: lets others join, renews their certificates, and entrusts the authority to those with a vote.

use std::pin::Pin;
use std::sync::OnceLock;
use std::time::Duration;

use holm_base::{ClusterId, NodeId};
use holm_etcd::members::Member;
use holm_etcd::services::{Applicant, NotAdmitted, Services};
use holm_link::Identity;
use holm_net::{Authority, Desk};

use super::ask::key_of;
use super::kept::{KeptMember, SiteFolder};
use super::message::{Answer, Join, Joined, Question, Wish};

/// Answers those that come.
#[derive(Debug)]
pub(crate) struct SiteDesk {
    folder: SiteFolder,
    cluster: String,
    lifetime: Duration,
    services: OnceLock<Services>,
}

impl SiteDesk {
    /// A desk that says `later` until it is opened. It signs for `lifetime`.
    pub(crate) fn new(folder: SiteFolder, cluster: &str, lifetime: Duration) -> Self {
        Self {
            folder,
            cluster: cluster.to_owned(),
            lifetime,
            services: OnceLock::new(),
        }
    }

    /// Opens it, the first time this is called.
    pub(crate) fn open(&self, services: Services) {
        self.services.get_or_init(|| services);
    }

    async fn answered(&self, whom: Option<Identity>, question: &[u8]) -> Answer {
        let wish = match Question::decode(question) {
            Ok(question) => question.wish,
            Err(answer) => return answer,
        };
        let Some(services) = self.services.get() else {
            return later("it is only starting");
        };
        if let Err(answer) = self.signer() {
            return answer;
        }
        let answered = match wish {
            Wish::Join(join) => self.join(services, &join).await,
            Wish::Renew { request } => self.renew(services, whom, &request).await,
            Wish::Entrust => self.entrust(services, whom).await,
        };
        answered.unwrap_or_else(|refusal| refusal)
    }

    /// Who signs here, as the files are now.
    fn signer(&self) -> Result<Authority, Answer> {
        match self.folder.signer() {
            Ok(Some(signer)) => Ok(signer),
            Ok(None) => Err(later("it has no vote yet, so it cannot sign")),
            Err(error) => {
                tracing::warn!(error = format!("{error:#}"), "the desk cannot sign");
                Err(later("it cannot sign: its log says why"))
            }
        }
    }

    async fn renew(
        &self,
        services: &Services,
        whom: Option<Identity>,
        request: &[u8],
    ) -> Result<Answer, Answer> {
        let (identity, _member) = self.member(services, whom).await?;
        self.sign(&self.signer()?, request, &identity)
            .map(|certificate| Answer::Renewed { certificate })
    }

    async fn entrust(&self, services: &Services, whom: Option<Identity>) -> Result<Answer, Answer> {
        let (_identity, member) = self.member(services, whom).await?;
        if member.is_learner {
            return Err(later("it has no vote yet"));
        }
        let key = self.signer()?.key();
        tracing::info!(
            to = member.name,
            "the authority is entrusted to another site"
        );
        Ok(Answer::Entrusted { key })
    }

    async fn join(&self, services: &Services, join: &Join) -> Result<Answer, Answer> {
        let key = match key_of(&join.request) {
            Ok(key) => key,
            Err(error) => return Err(refused(format!("{error:#}"))),
        };
        let identity = match Identity::new(&self.cluster, &join.name, &join.name) {
            Ok(identity) => identity,
            Err(error) => return Err(refused(error.to_string())),
        };
        let applicant = Applicant {
            cluster: ClusterId::new(join.cluster),
            secret: join.secret,
            name: join.name.clone(),
            url: join.url.clone(),
            key,
            node: join.node.map(NodeId::new),
        };
        let admitted = match services.admit(&applicant).await {
            Ok(admitted) => admitted,
            Err(NotAdmitted::Refused(why)) => {
                tracing::warn!(site = join.name, url = join.url, why, "a site was refused");
                return Err(refused(why));
            }
            Err(NotAdmitted::Unavailable(why)) => return Err(later(&why)),
        };
        // Only now: what this site has reported of authorities since the other became a member is in these files, and
        // what it has not reported yet the replacement of one waits for.
        let signer = self.signer()?;
        let trusted = self.folder.trusted();
        let trusted = trusted.map_err(|error| later(&format!("it cannot sign: {error:#}")))?;
        let certificate = self.sign(&signer, &join.request, &identity)?;
        tracing::info!(site = join.name, url = join.url, "a site joined");
        let name = |member: &Member| {
            if member.node == admitted.node {
                join.name.clone()
            } else {
                member.name.clone()
            }
        };
        let members = admitted.members.iter().map(|member| {
            let url = member.peer_urls.first().map_or("", String::as_str);
            KeptMember::new(member.node, &name(member), url)
        });
        Ok(Answer::Joined(Box::new(Joined {
            node: format!("{:016x}", admitted.node.value()),
            cluster: self.cluster.clone(),
            token: admitted.token.clone(),
            certificate,
            authority: trusted,
            members: members.collect(),
        })))
    }

    /// Who shows a certificate, as the member that it is.
    async fn member(
        &self,
        services: &Services,
        whom: Option<Identity>,
    ) -> Result<(Identity, Member), Answer> {
        let Some(identity) = whom.filter(|it| it.cluster() == self.cluster) else {
            return Err(refused(
                "only who shows a certificate of this cluster is answered that".to_owned(),
            ));
        };
        let members = services.members().await;
        let members = members.map_err(|status| later(status.message()))?;
        let member = members.into_iter().find(|it| it.name == identity.node());
        let Some(member) = member else {
            let name = identity.node();
            return Err(later(&format!(
                "{name} is no member, or has not told its name yet"
            )));
        };
        Ok((identity, member))
    }

    fn sign(
        &self,
        signer: &Authority,
        request: &[u8],
        identity: &Identity,
    ) -> Result<String, Answer> {
        let signed = signer.sign(request, identity, self.lifetime);
        signed.map_err(|error| refused(format!("sign a certificate: {error}")))
    }
}

impl Desk for SiteDesk {
    fn answer(
        &self,
        whom: Option<Identity>,
        question: Vec<u8>,
    ) -> Pin<Box<dyn Future<Output = Vec<u8>> + Send + '_>> {
        Box::pin(async move { self.answered(whom, &question).await.encode() })
    }
}

fn later(why: &str) -> Answer {
    Answer::Later {
        why: why.to_owned(),
    }
}

const fn refused(why: String) -> Answer {
    Answer::Refused { why }
}
