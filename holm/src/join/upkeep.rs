//! What a site does by itself for its certificate: renews it when a third of its time is left, takes over the
//! authority once it has a vote, and takes part when the authority is replaced.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context, bail};
use holm_etcd::authority::Fingerprint;
use holm_etcd::services::Services;
use holm_net::{CertificateTerm, Issued, NodeKey, Peers, Rotating, Trust};

use super::ask::{ask_member, take_over};
use super::kept::SiteFolder;
use super::message::{Answer, Wish};
use super::replacing::{Pace, Replacing, own};

/// The longest rest after a renewal that failed, and how often it is looked whether something is due. The wall clock
/// may jump, so never seldom.
const REST_MAX: Duration = Duration::from_secs(600);
const LOOK_SOON: Duration = Duration::from_secs(1);

/// A certificate of ours is made valid from so long before it was made.
const SLACK: Duration = Duration::from_secs(3_600);

/// How soon the next step of a replacement follows, and how soon it is looked whether others are done with theirs.
const STEP_AGAIN: Duration = Duration::from_millis(50);
const WAIT_AGAIN: Duration = Duration::from_millis(500);

/// Looks after a site's certificate, and takes part in replacing the authority, for as long as it is polled.
pub(crate) async fn tend(
    folder: SiteFolder,
    (certificates, lifetime): (Arc<Rotating>, Duration),
    peers: Peers,
    services: Services,
) {
    let replacing = Replacing {
        folder: &folder,
        certificates: &certificates,
        lifetime,
        peers: &peers,
        services: &services,
    };
    let mut said = String::new();
    loop {
        let pace = match replacing.go_on().await {
            Ok(pace) => pace,
            Err(error) => {
                // A site that waits for its quorum says so once.
                let error = format!("{error:#}");
                if error != said {
                    tracing::info!(error, "the authority is looked after later");
                    said = error;
                }
                Pace::Waiting
            }
        };
        if folder.signer().ok().flatten().is_none()
            && let Err(error) = entrust(&folder, &certificates, &peers).await
        {
            let error = format!("{error:#}");
            tracing::debug!(error, "the authority is not entrusted yet");
        }
        let left = left(certificates.term(), SystemTime::now());
        let Some(until_due) = left else {
            let pause = match renew(&folder, (&certificates, lifetime), &peers).await {
                // One that is due again at once, by a clock that is behind, is not made without end.
                Ok(()) => LOOK_SOON,
                Err(error) => {
                    let error = format!("{error:#}");
                    tracing::warn!(
                        error,
                        "the certificate for links was not renewed, trying on"
                    );
                    rest(certificates.term(), SystemTime::now())
                }
            };
            tokio::time::sleep(pause).await;
            continue;
        };
        let look = match pace {
            Pace::Busy => STEP_AGAIN,
            Pace::Waiting => WAIT_AGAIN,
            Pace::Idle => LOOK_SOON,
        };
        tokio::time::sleep(until_due.clamp(STEP_AGAIN, look)).await;
    }
}

/// How long until the certificate is to be renewed; `None` if it is, also because it was made by a clock that was
/// ahead.
fn left(term: CertificateTerm, now: SystemTime) -> Option<Duration> {
    if now < term.from {
        return None;
    }
    let whole = term.until.duration_since(term.from).unwrap_or_default();
    let whole = whole.saturating_sub(SLACK);
    let due = term.until.checked_sub(whole / 3)?;
    due.duration_since(now).ok().filter(|it| !it.is_zero())
}

/// How long to rest after a failure: the more time there is, the longer.
fn rest(term: CertificateTerm, now: SystemTime) -> Duration {
    let left = term.until.duration_since(now).unwrap_or_default();
    (left / 8).clamp(LOOK_SOON, REST_MAX)
}

/// A new key and a certificate for it, and links change over to it. It is of the authority that signed the last one or
/// of a newer one, for the others may have heard that there will be none of an older one any more.
pub(super) async fn renew(
    folder: &SiteFolder,
    (certificates, lifetime): (&Arc<Rotating>, Duration),
    peers: &Peers,
) -> anyhow::Result<()> {
    let key = NodeKey::make()?;
    let request = key.request()?;
    let is_onward = |signer: [u8; 32]| {
        let own = own(folder, certificates);
        own.is_onward(own.signed_by, Fingerprint(signer))
    };
    let signer = folder.signer()?.filter(|it| is_onward(it.fingerprint()));
    let certificate = match signer {
        Some(signer) => signer.sign(&request, &certificates.identity(), lifetime)?,
        None => {
            let trusted = folder.trusted()?;
            let is_good = |pem: &str| holm_net::signer_of_pem(pem, &trusted).is_some_and(is_onward);
            ask_all(certificates, peers, &request, &is_good).await?
        }
    };
    let issued = Issued {
        certificate,
        key: key.pem(),
    };
    let term = holm_net::term_of_pem(&issued.certificate)?;
    let now = SystemTime::now();
    if term.from > now || term.until <= now {
        bail!(
            "the new certificate is not good by this machine's clock: compare it with the other sites' clocks"
        );
    }
    issued.save_as_one(&folder.node())?;
    // Takes up the files and opens new connections, each of which carries on before the old one is drained.
    peers.rotate();
    let seconds = term.until.duration_since(now).unwrap_or_default().as_secs();
    tracing::info!(seconds, "the certificate for links was renewed");
    Ok(())
}

async fn ask_all(
    certificates: &Arc<Rotating>,
    peers: &Peers,
    request: &[u8],
    is_good: &(dyn Fn(&str) -> bool + Sync),
) -> anyhow::Result<String> {
    let trust = Trust::Member(Arc::clone(certificates));
    let mut said = Vec::new();
    for link in peers.links() {
        let wish = Wish::Renew {
            request: request.to_vec(),
        };
        match ask_member(&link.address, &trust, wish).await {
            Ok(Answer::Renewed { certificate }) if is_good(&certificate) => return Ok(certificate),
            Ok(Answer::Renewed { .. }) => {
                said.push(format!("{}: it signs by an older authority", link.address));
            }
            Ok(_) => said.push(format!("{}: it answers something else", link.address)),
            Err(why) => said.push(why),
        }
    }
    bail!("no member renews the certificate: {}", said.join("; "))
}

/// Asks for the authority's key, which is given to sites with a vote: for one of a newer authority than this site has.
///
/// # Errors
///
/// What each said that did not give it.
pub(super) async fn entrust(
    folder: &SiteFolder,
    certificates: &Arc<Rotating>,
    peers: &Peers,
) -> anyhow::Result<()> {
    let trust = Trust::Member(Arc::clone(certificates));
    let mut said = Vec::new();
    for link in peers.links().into_iter().filter(|link| link.is_up) {
        match ask_member(&link.address, &trust, Wish::Entrust).await {
            Ok(Answer::Entrusted { key }) => {
                if take_over(folder, &key).context("take over the authority")? {
                    tracing::info!(from = link.name, "this site can sign certificates now");
                    return Ok(());
                }
                said.push(format!("{}: it has no newer key", link.name));
            }
            Ok(_) => said.push(format!("{}: it answers something else", link.name)),
            Err(why) => said.push(why),
        }
    }
    bail!("no member entrusts the authority: {}", said.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_renewed_when_a_third_of_its_time_is_left() {
        let begin = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let day = Duration::from_secs(86_400);
        let term = CertificateTerm {
            from: begin - SLACK,
            until: begin + 30 * day,
        };
        assert_eq!(left(term, begin), Some(20 * day));
        assert_eq!(left(term, begin + 20 * day), None);
        assert_eq!(left(term, begin + 40 * day), None);
        assert_eq!(
            left(term, begin - day),
            None,
            "the clock was ahead when it was made"
        );
        assert_eq!(rest(term, begin + 40 * day), LOOK_SOON);
        assert_eq!(rest(term, begin), REST_MAX);
        let short = CertificateTerm {
            from: begin - SLACK,
            until: begin + Duration::from_secs(9),
        };
        assert_eq!(left(short, begin), Some(Duration::from_secs(6)));
    }
}
