//! What a site does of a replacement of the cluster's authority: one step at a time, each of them one file renamed.
//!
//! What is to be done follows from what all members have reported (`holm_etcd::authority`); here is how. A site that
//! is killed anywhere finds by its files where it was. The order of each step matters: a file is durable and in use
//! before it is reported.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use anyhow::{Context, ensure};
use holm_etcd::authority::{Fingerprint, Next, Report, Standing, Step, stage, step};
use holm_etcd::services::{MadeAuthority, Services};
use holm_net::{Authority, Peers, Rotating, Trusted};

use super::kept::SiteFolder;
use super::upkeep::{entrust, renew};

/// An authority that was made and never begun is taken up within this time; it is good for ten years.
const YOUNG: Duration = Duration::from_secs(9 * 365 * 24 * 3_600);

/// Whoever looks at the key that lies ready and then replaces or renames its file.
static READY: Mutex<()> = Mutex::new(());

/// A site's part in a replacement.
#[derive(Debug)]
pub(super) struct Replacing<'a> {
    pub(super) folder: &'a SiteFolder,
    pub(super) certificates: &'a Arc<Rotating>,
    pub(super) lifetime: Duration,
    pub(super) peers: &'a Peers,
    pub(super) services: &'a Services,
}

/// Whether there is more to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pace {
    /// At once.
    Busy,
    /// Others are waited for.
    Waiting,
    /// No replacement is going on.
    Idle,
}

impl Replacing<'_> {
    /// Tells the others what this site has, if that is news, and does the next step, if there is one.
    pub(super) async fn go_on(&self) -> anyhow::Result<Pace> {
        let own = own(self.folder, self.certificates);
        if !self.services.is_authority_due(&own) {
            return Ok(Pace::Idle);
        }
        let standing = self.services.tell_authority(&own).await?;
        let node = self.services.handle().identity().node;
        let site = standing.sites.iter().find(|site| site.node == node);
        let (Some(next), Some(site)) = (&standing.next, site) else {
            return Ok(Pace::Idle);
        };
        let stage = stage(next.fingerprint, &standing.sites);
        let step = step(next.fingerprint, stage, &own, site.has_vote);
        if step == Step::Rest {
            return Ok(Pace::Waiting);
        }
        tracing::info!(?stage, ?step, authority = %next.fingerprint, "the authority is being replaced");
        self.take(step, next, &standing)
            .await
            .with_context(|| format!("replace the authority: {step:?}"))?;
        Ok(Pace::Busy)
    }

    async fn take(&self, step: Step, next: &Next, standing: &Standing) -> anyhow::Result<()> {
        match step {
            Step::Trust => self.trust(next),
            Step::TakeKey => self.take_key(next),
            Step::AskKey => entrust(self.folder, self.certificates, self.peers).await,
            Step::LoseKey => remove(&self.folder.authority_key()),
            Step::Renew => {
                let certificates = (self.certificates, self.lifetime);
                renew(self.folder, certificates, self.peers).await
            }
            Step::Drop => self.let_go(next),
            Step::Finish => Ok(self.services.finish_authority(standing).await?),
            Step::Rest => Ok(()),
        }
    }

    /// Signs with the key that lies ready from now on.
    fn take_key(&self, next: &Next) -> anyhow::Result<()> {
        let _alone = READY.lock().unwrap_or_else(PoisonError::into_inner);
        let ready = self.folder.ready_authority();
        ensure!(
            ready.is_some_and(|it| it.fingerprint() == next.fingerprint.0),
            "another key lies ready by now"
        );
        fs::rename(self.folder.next_authority(), self.folder.authority_key())?;
        self.folder.sync()
    }

    /// Adds the next authority to those that are trusted. What the file held stays in front.
    fn trust(&self, next: &Next) -> anyhow::Result<()> {
        check(next)?;
        let mut trusted = self.folder.trusted()?;
        trusted.push_str(&next.certificate);
        self.trust_only(&trusted, next)
    }

    /// Trusts the next authority alone, and lets go of keys of others.
    fn let_go(&self, next: &Next) -> anyhow::Result<()> {
        check(next)?;
        self.trust_only(&next.certificate, next)?;
        if let Some(signer) = self.folder.ready_authority()
            && signer.fingerprint() != next.fingerprint.0
        {
            remove(&self.folder.next_authority())?;
        }
        // Whoever was let in by a certificate of the old one has to show another.
        self.peers.rotate();
        tracing::info!(authority = %next.fingerprint, "the old authority is trusted no more");
        Ok(())
    }

    fn trust_only(&self, trusted: &str, next: &Next) -> anyhow::Result<()> {
        holm_net::replace(&self.folder.authority(), trusted.as_bytes())?;
        self.certificates.reload();
        let expected = holm_net::trusted_of_pem(trusted)?;
        ensure!(
            self.certificates.trusted() == expected,
            "the links did not take up that {} is trusted",
            next.fingerprint
        );
        Ok(())
    }
}

/// A certificate that is not what it is said to be would make the file of all authorities unreadable.
fn check(next: &Next) -> anyhow::Result<()> {
    let found = holm_net::trusted_of_pem(&next.certificate)?;
    let is_it = |it: &Trusted| it.fingerprint == next.fingerprint.0;
    ensure!(
        found.len() == 1 && found.iter().all(is_it) && next.certificate.ends_with('\n'),
        "what is remembered as the next authority is none"
    );
    Ok(())
}

fn remove(path: &Path) -> anyhow::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("remove {}", path.display()))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// What this site has: by what its links use now, and by the keys that lie here.
pub(super) fn own(folder: &SiteFolder, certificates: &Rotating) -> Report {
    let signer = folder.signer().ok().flatten();
    let ready = folder.ready_authority();
    Report {
        trusts: certificates
            .trusted()
            .iter()
            .map(|it| Fingerprint(it.fingerprint))
            .collect(),
        signed_by: certificates.signed_by().map(Fingerprint),
        key: signer.map(|it| Fingerprint(it.fingerprint())),
        ready: ready.map(|it| Fingerprint(it.fingerprint())),
    }
}

/// Makes the next authority of a cluster, or takes up the one that was made and that nobody knows yet.
///
/// # Errors
///
/// What the disk says.
pub(crate) fn next_authority(
    folder: &SiteFolder,
    cluster: &str,
    known: &[[u8; 32]],
) -> anyhow::Result<MadeAuthority> {
    let _alone = READY.lock().unwrap_or_else(PoisonError::into_inner);
    let lying = folder.ready_authority().filter(|it| is_fresh(it, known));
    let made = match lying {
        Some(made) => made,
        None => {
            let made = Authority::create(cluster)?;
            made.save_as_one(&folder.next_authority())?;
            made
        }
    };
    Ok(MadeAuthority {
        certificate: made.certificate().to_owned(),
        fingerprint: made.fingerprint(),
    })
}

fn is_fresh(made: &Authority, known: &[[u8; 32]]) -> bool {
    let term = holm_net::term_of_pem(made.certificate());
    let is_young = term.is_ok_and(|term| term.until > SystemTime::now() + YOUNG);
    is_young && !known.contains(&made.fingerprint())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_that_was_made_is_taken_up_until_somebody_knows_it() {
        let data = tempfile::tempdir().unwrap();
        let folder = SiteFolder::of(data.path());
        folder.make().unwrap();
        let first = next_authority(&folder, "shop", &[]).unwrap();
        assert_eq!(next_authority(&folder, "shop", &[]).unwrap(), first);
        let other = next_authority(&folder, "shop", &[first.fingerprint]).unwrap();
        assert_ne!(other.fingerprint, first.fingerprint);
        let ready = folder.ready_authority().unwrap();
        assert_eq!(ready.fingerprint(), other.fingerprint);
        // Once it is renamed, the file signs for the certificate that is trusted beside others.
        let old = Authority::create("shop").unwrap();
        old.save(&folder.authority(), &folder.authority_key())
            .unwrap();
        let signer = folder.signer().unwrap().unwrap();
        assert_eq!(signer.fingerprint(), old.fingerprint());
        let both = format!("{}{}", old.certificate(), other.certificate);
        holm_net::replace(&folder.authority(), both.as_bytes()).unwrap();
        assert_eq!(folder.trusted().unwrap(), both);
        fs::rename(folder.next_authority(), folder.authority_key()).unwrap();
        let signer = folder.signer().unwrap().unwrap();
        assert_eq!(signer.fingerprint(), other.fingerprint);
    }

    #[test]
    fn what_is_no_authority_is_not_trusted() {
        let made = Authority::create("shop").unwrap();
        let next = |certificate: &str, fingerprint| {
            let certificate = certificate.to_owned();
            Next::new(
                certificate,
                Fingerprint(fingerprint),
                holm_base::NodeId::new(1),
            )
        };
        check(&next(made.certificate(), made.fingerprint())).unwrap();
        check(&next(made.certificate(), [1; 32])).unwrap_err();
        check(&next("", made.fingerprint())).unwrap_err();
        let twice = made.certificate().repeat(2);
        check(&next(&twice, made.fingerprint())).unwrap_err();
    }
}
