//! Founding: an authority, a certificate of it for this site, and a cluster of one, which begins
//! with nothing or with what a snapshot holds.

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use holm_link::Identity;
use holm_net::Authority;

use super::check_fresh;
use super::kept::{Kept, KeptMember, SiteFolder};
use crate::config::Config;
use crate::restore;

/// Founds the cluster. What an earlier attempt left is made anew.
///
/// # Errors
///
/// A folder that holds something else, names that do not fit a certificate, a snapshot that is
/// none, what the disk says.
pub(super) fn found(
    config: &Config,
    cluster: &str,
    snapshot: Option<&Path>,
) -> anyhow::Result<Kept> {
    check_fresh(config, "found a cluster with --cluster")?;
    let identity = Identity::new(cluster, &config.name, &config.name)
        .context("found a cluster: --cluster and --name become part of certificates")?;
    let token = format!("{cluster}-{}", random()?);
    let node = holm_runtime::member_id(&token, &config.peer_urls);
    let url = config.peer_urls.concat();
    let own = KeptMember::new(node, &config.name, &url);
    let kept = Kept::new(
        (cluster, &token),
        (&config.name, node),
        vec![own],
        &config.wish.settings,
    );
    let lifetime = config.wish.lifetime;
    match snapshot {
        Some(file) => {
            let ids = (holm_runtime::cluster_id(&token), node);
            let restored = restore::restore_founder(file, &config.data_dir, ids, |data_dir| {
                found_in(data_dir, (&identity, lifetime), &kept)
            })?;
            let (file, revision) = (file.display(), restored.revision.value());
            tracing::info!(%file, revision, keys = restored.sizes.keys, "restored a snapshot");
        }
        None => {
            let _lock = holm_disk::lock(&config.data_dir)?;
            found_in(&config.data_dir, (&identity, lifetime), &kept)?;
        }
    }
    tracing::info!(cluster, name = config.name, url, "founded a cluster");
    Ok(kept)
}

fn found_in(
    data_dir: &Path,
    (identity, lifetime): (&Identity, Duration),
    kept: &Kept,
) -> anyhow::Result<()> {
    let folder = SiteFolder::of(data_dir);
    folder.make()?;
    let authority = Authority::create(&kept.cluster)?;
    authority.save(&folder.authority(), &folder.authority_key())?;
    authority
        .issue(identity, lifetime)?
        .save_as_one(&folder.node())?;
    kept.write(&folder)
}

/// Tells clusters of one name apart.
fn random() -> anyhow::Result<String> {
    let mut random = [0; 8];
    rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())
        .context("draw a token for the cluster")?;
    Ok(format!("{:016x}", u64::from_le_bytes(random)))
}
