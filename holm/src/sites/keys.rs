//! The certificates by which the sites of one machine know each other, in the folder `pki`.
//!
//! The authority is made once. Whoever moves a site to another machine takes its certificate and `authority.pem`
//! along, and leaves `authority-key.pem` behind.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::Context;
use holm_link::Identity;
use holm_net::Authority;

use super::plan::{Plan, Site};

/// How long a site's certificate is good for.
const LIFETIME: Duration = Duration::from_secs(365 * 24 * 3_600);
/// A certificate older than this is made anew when the sites start.
const RENEWED_AFTER: Duration = Duration::from_secs(30 * 24 * 3_600);

/// Where the certificates lie.
#[derive(Clone, Debug)]
pub(super) struct Keys {
    folder: PathBuf,
}

impl Keys {
    /// Makes what is missing or old.
    ///
    /// # Errors
    ///
    /// Files that cannot be read or written, or hold something else.
    pub(super) fn make(data_dir: &Path, plan: &Plan) -> anyhow::Result<Self> {
        let folder = data_dir.join("pki");
        fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
        let keys = Self { folder };
        let (certificate, key) = (keys.authority(), keys.folder.join("authority-key.pem"));
        let cluster = format!("{:016x}", plan.cluster().value());
        let authority = if certificate.exists() {
            Authority::load(&certificate, &key)?
        } else {
            let made = Authority::create(&cluster)?;
            made.save(&certificate, &key)?;
            made
        };
        for site in &plan.sites {
            let (certificate, key) = (keys.certificate(site), keys.key(site));
            if is_young(&certificate) && key.exists() {
                continue;
            }
            // One node a site, by the same name: it is what the others look for.
            let identity = Identity::new(&cluster, &site.name, &site.name)?;
            authority
                .issue(&identity, LIFETIME)?
                .save(&certificate, &key)?;
        }
        Ok(keys)
    }

    /// Whom the sites trust.
    pub(super) fn authority(&self) -> PathBuf {
        self.folder.join("authority.pem")
    }

    /// A site's certificate.
    pub(super) fn certificate(&self, site: &Site) -> PathBuf {
        self.folder.join(format!("{}.pem", site.name))
    }

    /// Its private key.
    pub(super) fn key(&self, site: &Site) -> PathBuf {
        self.folder.join(format!("{}-key.pem", site.name))
    }
}

/// A file whose date is in the future may be as old as any.
fn is_young(path: &Path) -> bool {
    let made = fs::metadata(path).and_then(|facts| facts.modified());
    let age = made.ok().map(|made| SystemTime::now().duration_since(made));
    age.is_some_and(|age| age.is_ok_and(|age| age < RENEWED_AFTER))
}
