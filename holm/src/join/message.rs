//! What is said at a desk: a question and an answer, both JSON.
//!
//! Every question begins with the version of this language and the release that speaks it, so that one of another
//! version is refused by name whatever else it holds.

use serde::{Deserialize, Serialize};

use super::kept::KeptMember;

/// The version of this language.
pub(super) const VERSION: u32 = 1;

/// A question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Question {
    /// The version of the language.
    pub(super) version: u32,
    /// The release that speaks.
    pub(super) release: String,
    /// What is wanted.
    pub(super) wish: Wish,
}

/// The head of a question of whichever version.
#[derive(Clone, Debug, Deserialize)]
struct Head {
    version: u32,
    release: String,
}

/// What is wanted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Wish {
    /// To become a site of the cluster.
    Join(Join),
    /// A new certificate for who shows a good one.
    Renew {
        /// The request, PKCS #10, DER.
        request: Vec<u8>,
    },
    /// The authority's key, for a site with a vote.
    Entrust,
}

/// What a site says that wants to join.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Join {
    /// The cluster, as the token has it.
    pub(super) cluster: u64,
    /// The token's secret.
    pub(super) secret: [u8; 16],
    /// What the site is called.
    pub(super) name: String,
    /// Where the others reach it.
    pub(super) url: String,
    /// The request for its certificate, PKCS #10, DER.
    pub(super) request: Vec<u8>,
    /// Who it is already, if only its certificate has ended.
    pub(super) node: Option<u64>,
}

/// The secret is not printed.
impl std::fmt::Debug for Join {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Join")
            .field("name", &self.name)
            .field("url", &self.url)
            .finish_non_exhaustive()
    }
}

/// An answer.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Answer {
    /// It is a site of the cluster.
    Joined(Box<Joined>),
    /// Its new certificate, PEM.
    Renewed {
        /// The certificate.
        certificate: String,
    },
    /// The authority's key, PEM.
    Entrusted {
        /// The key.
        key: String,
    },
    /// Not this way.
    Refused {
        /// Why, and what to do.
        why: String,
    },
    /// Not here or not now: another desk may do it, or this one later.
    Later {
        /// Why.
        why: String,
    },
}

/// What a new site is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Joined {
    /// Its id, 16 hex digits.
    pub(super) node: String,
    /// What the cluster is called.
    pub(super) cluster: String,
    /// The token that ids follow from.
    pub(super) token: String,
    /// Its certificate, PEM.
    pub(super) certificate: String,
    /// The certificates of all authorities that the member trusts, PEM, the oldest first.
    pub(super) authority: String,
    /// All members, itself among them.
    pub(super) members: Vec<KeptMember>,
}

impl Question {
    /// A question of this release.
    pub(super) fn new(wish: Wish) -> Self {
        Self {
            version: VERSION,
            release: env!("CARGO_PKG_VERSION").to_owned(),
            wish,
        }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("texts and numbers are JSON")
    }

    /// Reads a question.
    ///
    /// # Errors
    ///
    /// What to answer to one that is none, or of another version.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Answer> {
        let refused = |why: String| Answer::Refused { why };
        let senseless = |_error| refused("the question makes no sense here".to_owned());
        let head: Head = serde_json::from_slice(bytes).map_err(senseless)?;
        if head.version != VERSION {
            let Head { version, release } = head;
            return Err(refused(format!(
                "this site is holm {release} and joins in version {version}, the cluster's is holm {} and takes \
                 version {VERSION}: use one release, the newer of the two, at both",
                env!("CARGO_PKG_VERSION")
            )));
        }
        serde_json::from_slice(bytes).map_err(senseless)
    }
}

impl Answer {
    pub(super) fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("texts and numbers are JSON")
    }

    /// Reads an answer; one that is none counts as a refusal.
    pub(super) fn decode(bytes: &[u8]) -> Self {
        serde_json::from_slice(bytes).unwrap_or_else(|_error| Self::Refused {
            why: "the answer makes no sense here: is the member of another release?".to_owned(),
        })
    }
}

/// The key is not printed.
impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Joined(joined) => f.debug_tuple("Joined").field(joined).finish(),
            Self::Renewed { certificate } => f.debug_tuple("Renewed").field(certificate).finish(),
            Self::Entrusted { key: _ } => f.write_str("Entrusted"),
            Self::Refused { why } => f.debug_tuple("Refused").field(why).finish(),
            Self::Later { why } => f.debug_tuple("Later").field(why).finish(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_survives_its_bytes_and_another_version_is_refused_by_name() {
        let question = Question::new(Wish::Renew {
            request: vec![1, 2],
        });
        assert_eq!(Question::decode(&question.encode()), Ok(question));
        let old = br#"{"version":0,"release":"0.0.9","something":"else"}"#;
        let Err(Answer::Refused { why }) = Question::decode(old) else {
            panic!("version 0 is refused");
        };
        assert!(why.contains("holm 0.0.9 and joins in version 0"), "{why}");
        assert!(Question::decode(b"hello").is_err());
    }
}
