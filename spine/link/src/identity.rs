//! Whom a certificate names: `holm://<cluster>/<site>/<node>`.

use alloc::borrow::ToOwned;
use alloc::string::String;
use core::fmt;
use core::str::FromStr;

/// The longest name of a cluster, site or node.
const NAME_MAX: usize = 64;

/// A node as certificates name it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Identity {
    cluster: String,
    site: String,
    node: String,
}

/// Why a text names no node.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// It has another form.
    #[error("{text:?} is not of the form holm://cluster/site/node")]
    Form {
        /// What there was, cut short.
        text: String,
    },
    /// A name is empty, too long, or has characters that a URI would have to escape.
    #[error("{name:?} is no name: 1 to {NAME_MAX} letters, digits, '-', '_' or '.'")]
    Name {
        /// What there was, cut short.
        name: String,
    },
}

impl Identity {
    /// The node `node` at `site` of `cluster`.
    ///
    /// # Errors
    ///
    /// [`IdentityError::Name`] for names that do not fit a certificate.
    pub fn new(cluster: &str, site: &str, node: &str) -> Result<Self, IdentityError> {
        for name in [cluster, site, node] {
            check(name)?;
        }
        Ok(Self {
            cluster: cluster.to_owned(),
            site: site.to_owned(),
            node: node.to_owned(),
        })
    }

    /// The cluster's name.
    #[must_use]
    pub fn cluster(&self) -> &str {
        &self.cluster
    }

    /// The site's name.
    #[must_use]
    pub fn site(&self) -> &str {
        &self.site
    }

    /// The node's name.
    #[must_use]
    pub fn node(&self) -> &str {
        &self.node
    }
}

fn check(name: &str) -> Result<(), IdentityError> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if !name.is_empty() && name.len() <= NAME_MAX && name.bytes().all(fits) {
        return Ok(());
    }
    let name = shortened(name);
    Err(IdentityError::Name { name })
}

fn shortened(text: &str) -> String {
    text.chars().take(NAME_MAX).collect()
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "holm://{}/{}/{}", self.cluster, self.site, self.node)
    }
}

impl FromStr for Identity {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let form = || IdentityError::Form {
            text: shortened(text),
        };
        let rest = text.strip_prefix("holm://").ok_or_else(form)?;
        let mut names = rest.split('/');
        match (names.next(), names.next(), names.next(), names.next()) {
            (Some(cluster), Some(site), Some(node), None) => Self::new(cluster, site, node),
            (_, _, _, _) => Err(form()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn an_identity_survives_its_text_and_odd_ones_are_refused() {
        let identity = Identity::new("shop-7", "north", "n_1.a").unwrap();
        assert_eq!(identity.to_string(), "holm://shop-7/north/n_1.a");
        assert_eq!(identity.to_string().parse(), Ok(identity));
        for bad in [
            "",
            "http://a/b/c",
            "holm://a/b",
            "holm://a/b/c/d",
            "holm://a//c",
            "holm://a/b/c d",
            "holm://a/b/%63",
        ] {
            assert!(bad.parse::<Identity>().is_err(), "{bad}");
        }
        assert!(Identity::new("a", "b", &"x".repeat(65)).is_err());
    }
}
