//! Replacing the authority of a cluster: what the cluster remembers of it, and the rule by which
//! its sites go on.
//!
//! ```text
//! authority/next              {"certificate":"PEM","fingerprint":"64 hex","by":"4e4cf2bd59c087e4"}
//! authority/done              {"fingerprint":"64 hex"}            this one has replaced all others
//! authority/sites/<id, 16 hex>  {"trusts":["64 hex"],"signed_by":"64 hex","key":"64 hex","ready":null}
//! ```
//!
//! The private key is in none of them. A site reports what it has, not what it is about to do, and
//! every site decides alone, by what all *members* have reported:
//!
//! ```text
//! Trust    until all trust the next one as well           a site adds it to those that it trusts
//! Sign     until it has signed all certificates, and      who has its key begins to sign with it, others
//!          every site with a vote has its key             are handed it, and all renew their certificates
//! Drop     until all trust the next one alone             a site lets go of every other
//! Finish   then it is done                                a site says so
//! ```
//!
//! # Invariants
//!
//! - I1 Every member trusts the authority that signed any member's certificate, at every moment.
//! - I2 What a site has reported of the next authority stays true until another is begun: it goes
//!   on trusting it, and goes from an older certificate or key to a newer one and never back.
//! - I3 Time decides nothing. A member that says nothing makes all wait.
//!
//! That a decision is old when it is acted on does no harm by I2. That somebody joins meanwhile
//! does none either: who answers it does so after it has become a member, so either the answer
//! holds what that site has reported, or the others wait for the newcomer's own report.
//!
//! What would surprise: facts have no compare-and-set, so two may begin at once, and the later one
//! counts. The other is then one more that is trusted until the drop.

mod rule;

use std::fmt;

use bytes::Bytes;
use holm_base::NodeId;
use holm_kv::View;
use holm_kv::command::Command;
use serde::{Deserialize, Serialize};

pub use rule::{Lack, Site, Stage, Step, is_lost, lack, stage, step};

use crate::sites::{forget, hex, read, remember};

const NEXT: &str = "authority/next";
const DONE: &str = "authority/done";
const SITES: &str = "authority/sites/";

/// SHA-256 of an authority's certificate.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Fingerprint(pub [u8; 32]);

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0[..4]))
    }
}

impl From<Fingerprint> for String {
    fn from(fingerprint: Fingerprint) -> Self {
        fingerprint.to_string()
    }
}

impl TryFrom<String> for Fingerprint {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let no = || format!("`{text}` is no fingerprint of 64 hex digits");
        let mut bytes = [0; 32];
        if text.len() != 64 || !text.is_ascii() {
            return Err(no());
        }
        for (at, byte) in bytes.iter_mut().enumerate() {
            let digits = &text[2 * at..2 * at + 2];
            *byte = u8::from_str_radix(digits, 16).map_err(|_no_digits| no())?;
        }
        Ok(Self(bytes))
    }
}

/// The authority that is to replace all others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Next {
    /// Its certificate, PEM.
    pub certificate: String,
    /// The certificate's fingerprint.
    pub fingerprint: Fingerprint,
    by: String,
}

impl Next {
    /// One that was made at a site.
    #[must_use]
    pub fn new(certificate: String, fingerprint: Fingerprint, by: NodeId) -> Self {
        Self {
            certificate,
            fingerprint,
            by: format!("{:016x}", by.value()),
        }
    }

    /// The site that made it, and so had its key first.
    #[must_use]
    pub fn by(&self) -> Option<NodeId> {
        u64::from_str_radix(&self.by, 16).ok().map(NodeId::new)
    }
}

/// What a site has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Report {
    /// Whom it trusts, the oldest first.
    pub trusts: Vec<Fingerprint>,
    /// Who of them signed its certificate.
    pub signed_by: Option<Fingerprint>,
    /// For whom of them it can sign.
    pub key: Option<Fingerprint>,
    /// Whose key lies ready at it, and has signed nothing yet.
    pub ready: Option<Fingerprint>,
}

impl Report {
    /// Whether going from one authority to another is going on, or staying: never back to one that
    /// was trusted earlier.
    #[must_use]
    pub fn is_onward(&self, from: Option<Fingerprint>, to: Fingerprint) -> bool {
        let rank = |it: Fingerprint| self.trusts.iter().position(|trusted| *trusted == it);
        let from = from.and_then(rank);
        rank(to).is_some_and(|to| from.is_none_or(|from| from <= to))
    }
}

/// All that the cluster remembers of its authority, and who belongs to the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The authority that is to replace the others, while it has not yet.
    pub next: Option<Next>,
    /// All members.
    pub sites: Vec<Site>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Done {
    fingerprint: Fingerprint,
}

/// Remembers which authority is to replace the others.
pub(crate) fn remember_next(next: &Next) -> Command {
    remember(NEXT.to_owned(), next)
}

/// Remembers that one has replaced all others.
pub(crate) fn remember_done(fingerprint: Fingerprint) -> Command {
    remember(DONE.to_owned(), &Done { fingerprint })
}

/// Remembers what a site has.
pub(crate) fn remember_report(node: NodeId, report: &Report) -> Command {
    remember(format!("{SITES}{:016x}", node.value()), report)
}

/// The authority that is to replace the others, while it has not yet.
///
/// That one is done is a fact of its own, and which is next is never taken back: so nobody who is
/// late can take back another's.
pub(crate) fn next(view: &View) -> Option<Next> {
    let next: Next = read(view.cluster.get(NEXT)?)?;
    let done = view.cluster.get(DONE).and_then(read::<Done>);
    (done.map(|done| done.fingerprint) != Some(next.fingerprint)).then_some(next)
}

/// What a site has reported.
pub(crate) fn report(view: &View, node: NodeId) -> Option<Report> {
    read(view.cluster.get(&format!("{SITES}{:016x}", node.value()))?)
}

/// Forgets what those reported who are no members.
pub(crate) fn forget_others(view: &View, members: &[NodeId]) -> Vec<Command> {
    let facts = view.cluster.range(SITES.to_owned()..);
    let named = facts.map_while(|(name, _value): (&String, &Bytes)| {
        let id = name.strip_prefix(SITES)?;
        Some((name, u64::from_str_radix(id, 16).ok().map(NodeId::new)))
    });
    let is_other = |node: Option<NodeId>| node.is_none_or(|node| !members.contains(&node));
    let others = named.filter(|(_name, node)| is_other(*node));
    others.map(|(name, _node)| forget(name.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_is_its_hex_digits_and_nothing_else_is() {
        let fingerprint = Fingerprint([0xab; 32]);
        let text = fingerprint.to_string();
        assert_eq!(text, "ab".repeat(32));
        assert_eq!(Fingerprint::try_from(text), Ok(fingerprint));
        for other in ["", "ab", &"zz".repeat(32), &"é".repeat(32)] {
            assert!(Fingerprint::try_from(other.to_owned()).is_err(), "{other}");
        }
    }

    #[test]
    fn nobody_goes_back_to_an_authority_that_was_trusted_earlier() {
        let [old, next, other] = [1, 2, 3].map(|it| Fingerprint([it; 32]));
        let report = Report {
            trusts: vec![old, next],
            ..Report::default()
        };
        assert!(report.is_onward(Some(old), next) && report.is_onward(Some(next), next));
        assert!(report.is_onward(None, old) && report.is_onward(Some(other), old));
        assert!(!report.is_onward(Some(next), old) && !report.is_onward(None, other));
    }
}
