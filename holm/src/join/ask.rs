//! Joining: a visit to a member's desk with the token, and what is kept of the answer.
//!
//! The key is made here and stays here. Whoever is visited has to show the authority that the token names before it
//! hears the secret.

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
    keep(config, (token, &key), joined)
}

/// Asks at one address after the other, and again, until somebody lets the site in or refuses it.
async fn ask(token: &JoinToken, question: &Question) -> anyhow::Result<Joined> {
    let trust = Trust::Fingerprint(token.fingerprint);
    let question = question.encode();
    let mut last = String::new();
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
            if why != last {
                tracing::warn!(why, "not joined yet");
                last = why;
            }
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
    joined: Joined,
) -> anyhow::Result<Kept> {
    let folder = SiteFolder::of(&config.data_dir);
    holm_net::replace(&folder.authority(), joined.authority.as_bytes())?;
    let found = holm_net::fingerprint_of_file(&folder.authority())?;
    ensure!(
        found == token.fingerprint,
        "the member that answered names another authority than the token: nothing was joined"
    );
    ensure!(
        holm_runtime::cluster_id(&joined.token) == token.cluster,
        "the member that answered is of another cluster than the token: nothing was joined"
    );
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

/// An authority of the cluster, from a key that another member handed over.
pub(super) fn take_over(folder: &SiteFolder, key: &str) -> anyhow::Result<()> {
    let certificate = fs::read_to_string(folder.authority()).context("read the authority")?;
    let authority = Authority::from_pem(&certificate, key)?;
    holm_net::replace(&folder.authority_key(), authority.key().as_bytes())?;
    Ok(())
}
