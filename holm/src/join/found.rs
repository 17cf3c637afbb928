//! Founding: an authority, a certificate of it for this site, and a cluster of one.

use anyhow::Context;
use holm_link::Identity;
use holm_net::Authority;

use super::check_fresh;
use super::kept::{Kept, KeptMember, SiteFolder};
use crate::config::Config;

/// Founds the cluster. What an earlier attempt left is made anew.
///
/// # Errors
///
/// A folder that holds something else, names that do not fit a certificate, what the disk says.
pub(super) fn found(config: &Config, cluster: &str) -> anyhow::Result<Kept> {
    check_fresh(config, "found a cluster with --cluster")?;
    let identity = Identity::new(cluster, &config.name, &config.name)
        .context("found a cluster: --cluster and --name become part of certificates")?;
    let _lock = holm_disk::lock(&config.data_dir)?;
    let folder = SiteFolder::of(&config.data_dir);
    folder.make()?;
    let authority = Authority::create(cluster)?;
    authority.save(&folder.authority(), &folder.authority_key())?;
    authority
        .issue(&identity, config.wish.lifetime)?
        .save_as_one(&folder.node())?;
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
    kept.write(&folder)?;
    tracing::info!(cluster, name = config.name, url, "founded a cluster");
    Ok(kept)
}

/// Tells clusters of one name apart.
fn random() -> anyhow::Result<String> {
    let mut random = [0; 8];
    rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())
        .context("draw a token for the cluster")?;
    Ok(format!("{:016x}", u64::from_le_bytes(random)))
}
