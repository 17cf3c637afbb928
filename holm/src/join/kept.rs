//! The folder `site` of a data directory: what a site keeps of its cluster.
//!
//! ```text
//! site/membership.json     cluster, own id, members when it joined, settings that were said; written last
//! site/node.pem            certificate and key for links, one file so that a crash cannot part them
//! site/key.pem             the key while it joins; gone once node.pem holds it
//! site/authority.pem       whom the sites trust; several while one replaces another, the oldest first
//! site/authority-key.pem   signs for others, for the authority that it fits; at sites with a vote
//! site/authority-next.pem  key and certificate of the next authority, at the site that made it, until it signs
//! ```
//!
//! All of it is readable by its owner alone.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, bail, ensure};
use holm_base::NodeId;
use holm_net::{Authority, LinkFiles};
use serde::{Deserialize, Serialize};

use crate::config::{Cluster, Member, PeerTls, place};

/// The form of `membership.json`.
const VERSION: u32 = 1;

/// What a site keeps of its cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Kept {
    version: u32,
    /// What the site is called.
    pub(crate) name: String,
    /// What the cluster is called.
    pub(crate) cluster: String,
    /// The token that ids follow from.
    pub(crate) token: String,
    /// The site's id, 16 hex digits.
    node: String,
    /// Members when the site founded or joined, itself among them.
    members: Vec<KeptMember>,
    /// Whether others were there before.
    is_joining: bool,
    /// What was said of the settings that are kept.
    pub(crate) settings: BTreeMap<String, String>,
}

/// A member as it was when the site founded or joined.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KeptMember {
    /// Its id, 16 hex digits.
    pub(crate) node: String,
    /// What it is called; empty for one that has not started yet.
    pub(crate) name: String,
    /// Where the others reach it.
    pub(crate) url: String,
}

impl KeptMember {
    pub(crate) fn new(node: NodeId, name: &str, url: &str) -> Self {
        Self {
            node: format!("{:016x}", node.value()),
            name: name.to_owned(),
            url: url.to_owned(),
        }
    }
}

/// An id of 16 hex digits.
pub(crate) fn id(text: &str) -> anyhow::Result<NodeId> {
    let number = u64::from_str_radix(text, 16);
    Ok(NodeId::new(
        number.with_context(|| format!("`{text}` is no id"))?,
    ))
}

impl Kept {
    pub(crate) fn new(
        (cluster, token): (&str, &str),
        (name, node): (&str, NodeId),
        members: Vec<KeptMember>,
        settings: &[(&'static str, String)],
    ) -> Self {
        Self {
            version: VERSION,
            name: name.to_owned(),
            cluster: cluster.to_owned(),
            token: token.to_owned(),
            node: format!("{:016x}", node.value()),
            is_joining: members.len() > 1,
            members,
            settings: settings
                .iter()
                .map(|(name, text)| ((*name).to_owned(), text.clone()))
                .collect(),
        }
    }

    /// What a data directory keeps; `None` if it is of no such cluster.
    ///
    /// # Errors
    ///
    /// A file that cannot be read, or of a newer release.
    pub(crate) fn read(data_dir: &Path) -> anyhow::Result<Option<Self>> {
        let path = SiteFolder::of(data_dir).membership();
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error)
                if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) =>
            {
                return Ok(None);
            }
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                let advice = || {
                    format!(
                        "use the data directory {}: let the user that runs holm (uid {}) own the directory and its \
                         files, or choose another with --data-dir",
                        data_dir.display(),
                        rustix::process::geteuid().as_raw()
                    )
                };
                return Err(error).with_context(advice);
            }
            Err(error) => return Err(error).with_context(|| format!("read {}", path.display())),
        };
        let what = || format!("read {}: put it back as it was", path.display());
        let value: serde_json::Value = serde_json::from_str(&text).with_context(what)?;
        let version = value["version"].as_u64();
        if version != Some(u64::from(VERSION)) {
            bail!(
                "{} has version {}, this holm reads {VERSION}: use the release that wrote it, or a newer one",
                path.display(),
                value["version"]
            );
        }
        let kept: Self = serde_json::from_value(value).with_context(what)?;
        kept.own().with_context(what)?;
        Ok(Some(kept))
    }

    /// Keeps it: from now on the data directory is of the cluster.
    ///
    /// # Errors
    ///
    /// What the disk says.
    pub(crate) fn write(&self, folder: &SiteFolder) -> anyhow::Result<()> {
        let text = serde_json::to_string_pretty(self)?;
        holm_net::replace(&folder.membership(), format!("{text}\n").as_bytes())?;
        Ok(())
    }

    /// The site's id.
    pub(crate) fn node(&self) -> anyhow::Result<NodeId> {
        id(&self.node)
    }

    /// Where the others reach the site.
    pub(crate) fn url(&self) -> anyhow::Result<&str> {
        Ok(&self.own()?.url)
    }

    fn own(&self) -> anyhow::Result<&KeptMember> {
        let own = self.members.iter().find(|it| it.node == self.node);
        own.with_context(|| format!("member {} is not in its own list", self.node))
    }

    /// The cluster, as the node is told of it.
    ///
    /// # Errors
    ///
    /// An id that is none.
    pub(crate) fn as_cluster(&self, data_dir: &Path) -> anyhow::Result<Cluster> {
        let folder = SiteFolder::of(data_dir);
        let member = |it: &KeptMember| {
            Ok(Member {
                node: id(&it.node)?,
                name: it.name.clone(),
                address: place(&it.url),
                url: it.url.clone(),
            })
        };
        Ok(Cluster {
            cluster: holm_runtime::cluster_id(&self.token),
            node: self.node()?,
            token: self.token.clone(),
            members: self
                .members
                .iter()
                .map(member)
                .collect::<anyhow::Result<_>>()?,
            is_joining: self.is_joining,
            tls: PeerTls {
                certificate: folder.node(),
                key: folder.node(),
                authorities: folder.authority(),
            },
            site: Some(self.cluster.clone()),
        })
    }
}

/// The folder `site` of a data directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SiteFolder {
    path: PathBuf,
}

impl SiteFolder {
    /// That of a data directory, there or not.
    pub(crate) fn of(data_dir: &Path) -> Self {
        Self {
            path: data_dir.join("site"),
        }
    }

    /// Makes the folder, for its owner alone.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub(crate) fn make(&self) -> anyhow::Result<()> {
        use std::os::unix::fs::DirBuilderExt as _;
        let mut builder = fs::DirBuilder::new();
        let made = builder.recursive(true).mode(0o700).create(&self.path);
        made.with_context(|| format!("make {}", self.path.display()))
    }

    pub(crate) fn membership(&self) -> PathBuf {
        self.path.join("membership.json")
    }

    pub(crate) fn node(&self) -> PathBuf {
        self.path.join("node.pem")
    }

    pub(crate) fn key(&self) -> PathBuf {
        self.path.join("key.pem")
    }

    pub(crate) fn authority(&self) -> PathBuf {
        self.path.join("authority.pem")
    }

    pub(crate) fn authority_key(&self) -> PathBuf {
        self.path.join("authority-key.pem")
    }

    pub(crate) fn next_authority(&self) -> PathBuf {
        self.path.join("authority-next.pem")
    }

    /// Makes a renaming in the folder durable.
    ///
    /// # Errors
    ///
    /// What the disk says.
    pub(crate) fn sync(&self) -> anyhow::Result<()> {
        let synced = fs::File::open(&self.path).and_then(|folder| folder.sync_all());
        synced.with_context(|| format!("sync {}", self.path.display()))
    }

    /// The authorities that the site trusts, PEM, the oldest first.
    ///
    /// # Errors
    ///
    /// What the disk says.
    pub(crate) fn trusted(&self) -> anyhow::Result<String> {
        let path = self.authority();
        fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))
    }

    /// The next authority, at the site that made it and until it signs. One that cannot be read is none.
    pub(crate) fn ready_authority(&self) -> Option<Authority> {
        let path = self.next_authority();
        Authority::load(&path, &path).ok()
    }

    /// The files of the links.
    pub(crate) fn link_files(&self) -> LinkFiles {
        LinkFiles {
            certificate: self.node(),
            key: self.node(),
            authorities: self.authority(),
        }
    }

    /// The authority that the site's key is of, at a site that can sign.
    ///
    /// # Errors
    ///
    /// Files that cannot be read, or a key that is of none of those that are trusted.
    pub(crate) fn signer(&self) -> anyhow::Result<Option<Authority>> {
        if !self.authority_key().exists() {
            return Ok(None);
        }
        let signer = Authority::load(&self.authority(), &self.authority_key());
        signer.context("read the cluster's authority").map(Some)
    }

    /// Until when the site's certificate is good.
    ///
    /// # Errors
    ///
    /// A file that is missing or no certificate.
    pub(crate) fn certificate_ends(&self) -> anyhow::Result<SystemTime> {
        let term = holm_net::term_of_file(&self.node())?;
        ensure!(
            term.until > term.from,
            "{}: its dates are wrong",
            self.node().display()
        );
        Ok(term.until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_read_back_and_a_newer_form_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Kept::read(folder.path()).unwrap(), None);
        let site = SiteFolder::of(folder.path());
        site.make().unwrap();
        let own = KeptMember::new(NodeId::new(7), "a", "https://10.0.0.1:2380");
        let said = [("peer", "10.0.0.1:2380".to_owned())];
        let kept = Kept::new(("shop", "shop-1"), ("a", NodeId::new(7)), vec![own], &said);
        kept.write(&site).unwrap();
        assert_eq!(Kept::read(folder.path()).unwrap().as_ref(), Some(&kept));
        let cluster = kept.as_cluster(folder.path()).unwrap();
        assert!(!cluster.is_joining);
        assert_eq!(cluster.own().address, "10.0.0.1:2380");
        let newer = fs::read_to_string(site.membership()).unwrap();
        let newer = newer.replace("\"version\": 1", "\"version\": 2");
        fs::write(site.membership(), newer).unwrap();
        let refused = Kept::read(folder.path()).unwrap_err().to_string();
        assert!(
            refused.contains("has version 2, this holm reads 1"),
            "{refused}"
        );
        fs::write(site.membership(), "{").unwrap();
        assert!(Kept::read(folder.path()).is_err());
    }
}
