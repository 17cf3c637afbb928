//! Sites that become one cluster by a token, and take care of their certificates.
//!
//! ```text
//!   holm up --cluster shop      makes an authority, signs itself, is a cluster of one
//!   holm site add b             has the cluster remember a token, prints it
//!   holm up --join TOKEN        visits a member's desk: token and key's request in, certificate and members out
//!   from then on                renews its certificate at a desk before it ends, and links change over to it
//!   holm site authority replace another authority, in steps that each site takes when all are ready for it
//! ```
//!
//! Everything lies in the folder `site` of the data directory. `membership.json` is written last, and its presence is
//! what makes a site of the cluster: until then the same command does it all again, with the same key, and comes to
//! the same end. `kept.rs` has the folder, `found.rs` and `ask.rs` fill it, `desk.rs` answers others, `upkeep.rs`
//! renews, `replacing.rs` goes from one authority to the next. What the cluster remembers of tokens is in `store/etcd`.

mod ask;
mod desk;
mod found;
mod kept;
mod message;
mod replacing;
mod upkeep;

use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{bail, ensure};
use holm_link::JoinToken;

pub(crate) use desk::SiteDesk;
pub(crate) use kept::{Kept, SiteFolder};
pub(crate) use replacing::next_authority;
pub(crate) use upkeep::tend;

use crate::config::Config;

/// What was said about a cluster whose sites join by tokens.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wish {
    /// The name of the cluster to found, or of the one that was founded.
    pub(crate) found: Option<String>,
    /// What the founded cluster begins with.
    pub(crate) snapshot: Option<PathBuf>,
    /// The token to join with.
    pub(crate) join: Option<JoinToken>,
    /// How long certificates are good that this site signs.
    pub(crate) lifetime: Duration,
    /// What the data directory keeps.
    pub(crate) kept: Option<Kept>,
    /// The settings to keep, as they were said.
    pub(crate) settings: Vec<(&'static str, String)>,
}

/// Founds or joins, if that is wished and was not done before; tells the configuration of it.
///
/// # Errors
///
/// Why it cannot be, and what to do; what was done so far is taken up by the same command.
pub(crate) fn settle(config: &mut Config) -> anyhow::Result<()> {
    let wish = config.wish.clone();
    if let Some(kept) = &wish.kept {
        return go_on(config, kept, &wish);
    }
    let kept = match (&wish.found, &wish.join) {
        (None, None) => return Ok(()),
        (Some(cluster), _) => found::found(config, cluster, wish.snapshot.as_deref())?,
        (None, Some(token)) => ask::join(config, token, None)?,
    };
    config.take_up(kept)
}

/// A site that is of a cluster already: a token has nothing to do any more, unless the certificate has ended.
fn go_on(config: &mut Config, kept: &Kept, wish: &Wish) -> anyhow::Result<()> {
    let place = config.data_dir.display();
    if let Some(cluster) = &wish.found {
        ensure!(
            *cluster == kept.cluster,
            "{place} is of cluster {}, and --cluster says {cluster}: leave the flag out, or choose another --data-dir",
            kept.cluster
        );
    }
    let Some(token) = &wish.join else {
        return Ok(());
    };
    if token.cluster != holm_runtime::cluster_id(&kept.token) {
        bail!(
            "{place} is of cluster {}, and the token of --join is of another: choose an empty --data-dir to join that \
             one",
            kept.cluster
        );
    }
    let folder = SiteFolder::of(&config.data_dir);
    // Who has the authority's key makes a certificate by itself, however old the token is.
    let renews_itself = folder.authority_key().exists();
    if renews_itself || folder.certificate_ends()? > SystemTime::now() {
        tracing::info!(
            cluster = kept.cluster,
            "joined already, so --join has nothing to do"
        );
        return Ok(());
    }
    tracing::warn!(
        cluster = kept.cluster,
        "the site's certificate has ended: the token is used for a new one"
    );
    let kept = ask::join(config, token, Some(kept))?;
    config.take_up(kept)
}

/// Refuses a data directory that was begun in another way.
fn check_fresh(config: &Config, wanted: &str) -> anyhow::Result<()> {
    let place = config.data_dir.display();
    ensure!(
        !config.data_dir.join("identity").exists(),
        "{wanted}: {place} holds the data of a node that was started without it, and its log has another form: choose \
         an empty --data-dir; the keys come along with `holm snapshot save FILE` from the old one and --from-snapshot FILE"
    );
    Ok(())
}

fn seconds_now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}
