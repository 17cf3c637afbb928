//! Joining: a visit to a member's desk with the token, and what is kept of the answer.
//!
//! The key is made here and stays here. Whoever is visited has to show the authority that the token names before it
//! hears the secret.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, SystemTime};

use anyhow::{Context, bail, ensure};
use holm_link::{Identity, JoinToken};
use holm_net::{Authority, Issued, NodeKey, Trust, VisitError, requested_key, visit};

use super::kept::{Kept, SiteFolder, id};
use super::message::{Answer, Join, Joined, Question, Wish};
use super::{check_fresh, seconds_now};
use crate::config::Config;

/// How often all addresses are tried before this gives up, and how long it rests between.
const ROUNDS: u32 = 20;
const REST: Duration = Duration::from_secs(1);

/// Joins with a token. `before` is what is kept already by a site whose certificate has ended.
///
/// # Errors
///
/// Why it was refused or nobody answered, and what to do. The same command takes up what was done so far.
pub(super) fn join(
    config: &Config,
    token: &JoinToken,
    before: Option<&Kept>,
) -> anyhow::Result<Kept> {
    if before.is_none() {
        check_fresh(config, "join a cluster with --join")?;
    }
    Identity::new("cluster", &config.name, &config.name)
        .context("join the cluster: --name becomes part of a certificate")?;
    let folder = SiteFolder::of(&config.data_dir);
    // A join that was begun may be completed for longer.
    if !folder.key().exists() {
        token
            .check_time(seconds_now())
            .context("join the cluster")?;
    }
    let _lock = holm_disk::lock(&config.data_dir)?;
    folder.make()?;
    let key = NodeKey::kept(&folder.key())?;
    let wish = Join {
        cluster: token.cluster.value(),
        secret: token.secret,
        name: config.name.clone(),
        url: config.peer_urls.concat(),
        request: key.request()?,
        node: before.map(Kept::node).transpose()?.map(|node| node.value()),
    };
    let question = Question::new(Wish::Join(wish));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start a thread to join")?;
    let joined = runtime
        .block_on(ask(token, &question))
        .context("join the cluster")?;
    keep(config, (token, &key), (joined, before.is_some()))
}

/// Asks at one address after the other, and again, until somebody lets the site in or refuses it.
async fn ask(token: &JoinToken, question: &Question) -> anyhow::Result<Joined> {
    let trust = Trust::Fingerprint(token.fingerprint);
    let question = question.encode();
    let mut last = String::new();
    let mut said: BTreeMap<&str, String> = BTreeMap::new();
    for round in 0..ROUNDS {
        if round > 0 {
            tokio::time::sleep(REST).await;
        }
        // What is wrong with certificates and clocks does not pass by waiting.
        let mut is_hopeless = true;
        for address in &token.addresses {
            let why = match visit(address, &trust, &question).await {
                Ok(answer) => match Answer::decode(&answer) {
                    Answer::Joined(joined) => return Ok(*joined),
                    Answer::Refused { why } => bail!("{why}"),
                    Answer::Later { why } => {
                        is_hopeless = false;
                        format!("{address}: {why}")
                    }
                    Answer::Renewed { .. } | Answer::Entrusted { .. } => {
                        bail!("{address} answers what was not asked")
                    }
                },
                Err(error) => {
                    let is_final =
                        matches!(error, VisitError::Stranger { .. } | VisitError::Tls { .. });
                    is_hopeless &= is_final;
                    format!("{:#}", anyhow::Error::from(error))
                }
            };
            if said.insert(address, why.clone()).as_ref() != Some(&why) {
                tracing::warn!(why, "not joined yet");
            }
            last = why;
        }
        if is_hopeless {
            break;
        }
    }
    bail!(
        "no member at {} lets this site in, the last says: {last}; the same command tries again",
        token.addresses.join(", ")
    )
}

/// Checks what was answered, and keeps it.
fn keep(
    config: &Config,
    (token, key): (&JoinToken, &NodeKey),
    (joined, is_member): (Joined, bool),
) -> anyhow::Result<Kept> {
    let folder = SiteFolder::of(&config.data_dir);
    ensure!(
        fingerprints(&joined.authority)?.contains(&token.fingerprint),
        "the member that answered names another authority than the token: nothing was joined"
    );
    ensure!(
        holm_runtime::cluster_id(&joined.token) == token.cluster,
        "the member that answered is of another cluster than the token: nothing was joined"
    );
    // What a member trusts it has told the others, so it stays; nobody signs by another before it is trusted here.
    let trusted = if is_member {
        folder.trusted()?
    } else {
        joined.authority
    };
    ensure!(
        holm_net::signer_of_pem(&joined.certificate, &trusted).is_some(),
        "the member that answered signs by an authority that this site does not trust: nothing was joined"
    );
    if is_member {
        check_onward(&folder, &trusted, &joined.certificate)?;
    }
    if !is_member {
        holm_net::replace(&folder.authority(), trusted.as_bytes())?;
    }
    let issued = Issued {
        certificate: joined.certificate,
        key: key.pem(),
    };
    issued.save_as_one(&folder.node())?;
    let term = holm_net::term_of_file(&folder.node())?;
    let now = SystemTime::now();
    ensure!(
        term.from <= now && now < term.until,
        "the new certificate is not good by this machine's clock: compare it with the members' clocks, then use the \
         same command again"
    );
    let kept = Kept::new(
        (&joined.cluster, &joined.token),
        (&config.name, id(&joined.node)?),
        joined.members,
        &config.wish.settings,
    );
    kept.write(&folder)?;
    // The certificate has the key; what is left of the file is used by nobody.
    fs::remove_file(folder.key()).context("remove the key that was kept while joining")?;
    tracing::info!(cluster = kept.cluster, name = kept.name, "joined");
    Ok(kept)
}

/// A member goes on to newer authorities and never back: the others may have heard that it has a certificate of the newer.
fn check_onward(folder: &SiteFolder, trusted: &str, certificate: &str) -> anyhow::Result<()> {
    let order = fingerprints(trusted)?;
    let rank = |pem: &str| {
        let signer = holm_net::signer_of_pem(pem, trusted)?;
        order.iter().position(|it| *it == signer)
    };
    let had = fs::read_to_string(folder.node()).context("read the site's certificate")?;
    ensure!(
        rank(&had) <= rank(certificate),
        "the member that answered signs by an older authority than this site's certificate is of, for the authority is \
         being replaced: the same command tries again"
    );
    Ok(())
}

/// Whether another node may sign: its answer, or what it says instead.
pub(super) async fn ask_member(address: &str, trust: &Trust, wish: Wish) -> Result<Answer, String> {
    let question = Question::new(wish).encode();
    match visit(address, trust, &question).await {
        Ok(answer) => match Answer::decode(&answer) {
            Answer::Refused { why } | Answer::Later { why } => Err(format!("{address}: {why}")),
            answer => Ok(answer),
        },
        Err(error) => Err(format!("{:#}", anyhow::Error::from(error))),
    }
}

/// The key of a request as a member remembers it.
pub(super) fn key_of(request: &[u8]) -> anyhow::Result<[u8; 32]> {
    requested_key(request).context("read the request for a certificate")
}

/// The authority of the cluster that a key is of which another member handed over. Whether it is newer than what this
/// site had, and so was taken.
pub(super) fn take_over(folder: &SiteFolder, key: &str) -> anyhow::Result<bool> {
    let trusted = folder.trusted()?;
    let authority = Authority::from_pem(&trusted, key)?;
    let rank = |fingerprint: [u8; 32]| {
        let all = holm_net::trusted_of_pem(&trusted).unwrap_or_default();
        all.iter().position(|it| it.fingerprint == fingerprint)
    };
    let had = folder.signer().ok().flatten();
    let had = had.and_then(|it| rank(it.fingerprint()));
    if had.is_some() && had >= rank(authority.fingerprint()) {
        return Ok(false);
    }
    holm_net::replace(&folder.authority_key(), authority.key().as_bytes())?;
    Ok(true)
}

fn fingerprints(pem: &str) -> anyhow::Result<Vec<[u8; 32]>> {
    let trusted = holm_net::trusted_of_pem(pem)?;
    Ok(trusted.iter().map(|it| it.fingerprint).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_taken_over_onward_and_never_back() {
        let data = tempfile::tempdir().unwrap();
        let folder = SiteFolder::of(data.path());
        folder.make().unwrap();
        let [old, next, foreign] = [1, 2, 3].map(|_| Authority::create("shop").unwrap());
        let both = format!("{}{}", old.certificate(), next.certificate());
        holm_net::replace(&folder.authority(), both.as_bytes()).unwrap();
        take_over(&folder, &foreign.key()).unwrap_err();
        assert!(take_over(&folder, &old.key()).unwrap());
        assert!(!take_over(&folder, &old.key()).unwrap());
        assert!(take_over(&folder, &next.key()).unwrap());
        assert!(!take_over(&folder, &old.key()).unwrap());
        let signer = folder.signer().unwrap().unwrap();
        assert_eq!(signer.fingerprint(), next.fingerprint());
    }
}
