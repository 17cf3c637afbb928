//! What the cluster remembers of sites that may join: facts, replicated like the member table.
//!
//! ```text
//! joins/<id, 32 hex>                          {"name":"b","expires":1800000000,"url":"https://..."}
//! joins/<id, 32 hex>/claims/<key, 64 hex>     {"name":"b","node":"4e4cf2bd59c087e4","url":"https://..."}
//! ```
//!
//! The id is a hash of the token's secret, which is nowhere: who reads the facts cannot join. A
//! claim says that a site with this key came with the token. One claim wins, and a second site
//! is told that the token was used; see `services/sites.rs` for why there are never two winners.

use bytes::Bytes;
use holm_base::NodeId;
use holm_kv::View;
use holm_kv::command::Command;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::holm::Invitation;

/// How long after its end a token still completes a join that it began, and is remembered.
const KEPT_SECONDS: u64 = 24 * 3_600;

const FACTS: &str = "joins/";
const CLAIMS: &str = "/claims/";

/// What a token allows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Pass {
    /// What the site will be called.
    pub(crate) name: String,
    /// Until when, in seconds since 1970.
    pub(crate) expires: u64,
    /// Where the others will reach it; empty if it may say so itself.
    #[serde(default)]
    pub(crate) url: String,
}

/// A site that came with a token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Claim {
    /// What it is called.
    pub(crate) name: String,
    /// The id that it gets, 16 hex digits.
    node: String,
    /// Where the others reach it.
    pub(crate) url: String,
}

impl Claim {
    pub(crate) fn new(name: &str, node: NodeId, url: &str) -> Self {
        Self {
            name: name.to_owned(),
            node: format!("{:016x}", node.value()),
            url: url.to_owned(),
        }
    }

    /// The id that the site gets.
    pub(crate) fn node(&self) -> Option<NodeId> {
        u64::from_str_radix(&self.node, 16).ok().map(NodeId::new)
    }
}

/// What a secret is remembered as.
pub(crate) fn id(secret: &[u8; 16]) -> String {
    let mut hash = Sha256::new();
    hash.update(b"holm join");
    hash.update(secret);
    hex(&hash.finalize()[..16])
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn remember(name: String, value: &impl Serialize) -> Command {
    let value = serde_json::to_vec(value).expect("texts and numbers are JSON");
    Command::Cluster {
        name,
        value: Some(Bytes::from(value)),
    }
}

pub(crate) const fn forget(name: String) -> Command {
    Command::Cluster { name, value: None }
}

/// Remembers what a token allows.
pub(crate) fn remember_pass(id: &str, pass: &Pass) -> Command {
    remember(format!("{FACTS}{id}"), pass)
}

/// Remembers that a site came with a token.
pub(crate) fn remember_claim(id: &str, key: &[u8; 32], claim: &Claim) -> Command {
    remember(format!("{FACTS}{id}{CLAIMS}{}", hex(key)), claim)
}

/// Forgets that a site came with a token.
pub(crate) fn forget_claim(id: &str, key: &[u8; 32]) -> Command {
    forget(format!("{FACTS}{id}{CLAIMS}{}", hex(key)))
}

/// What a token allows, if it is known.
pub(crate) fn pass(view: &View, id: &str) -> Option<Pass> {
    read(view.cluster.get(&format!("{FACTS}{id}"))?)
}

/// Who came with a token: the site with this key, and whether there was another.
pub(crate) fn claims(view: &View, id: &str, key: &[u8; 32]) -> (Option<Claim>, Option<Claim>) {
    let own = hex(key);
    let (mut ours, mut other) = (None, None);
    for (name, value) in joins(view) {
        let Some(shown) = name.strip_prefix(id).and_then(|it| it.strip_prefix(CLAIMS)) else {
            continue;
        };
        if shown == own {
            ours = read(value);
        } else {
            other = other.or_else(|| read(value));
        }
    }
    (ours, other)
}

/// All claims, of whichever token.
pub(crate) fn all_claims(view: &View) -> Vec<Claim> {
    let claims = joins(view).filter(|(name, _value)| name.contains(CLAIMS));
    claims.filter_map(|(_name, value)| read(value)).collect()
}

/// Whether a token may still be used at `now`; one that has begun a join completes it for a day.
pub(crate) const fn is_good(pass: &Pass, now: u64, has_begun: bool) -> bool {
    let kept = if has_begun { KEPT_SECONDS } else { 0 };
    now < pass.expires.saturating_add(kept)
}

/// Sites that may join and have not, by name.
pub(crate) fn pending(view: &View, now: u64) -> Vec<Invitation> {
    let is_claimed = |id: &str| {
        let begin = format!("{id}{CLAIMS}");
        joins(view).any(|(name, _value)| name.starts_with(&begin))
    };
    let passes = joins(view).filter(|(name, _value)| !name.contains(CLAIMS));
    let mut pending: Vec<Invitation> = passes
        .filter(|(id, _value)| !is_claimed(id))
        .filter_map(|(_id, value)| read::<Pass>(value))
        .filter(|pass| is_good(pass, now, false))
        .map(|pass| Invitation {
            name: pass.name,
            expires: pass.expires,
        })
        .collect();
    pending.sort_by(|one, two| (&one.name, one.expires).cmp(&(&two.name, two.expires)));
    pending
}

/// Forgets tokens that ended long ago, with who came with them.
pub(crate) fn forget_old(view: &View, now: u64) -> Vec<Command> {
    let is_old = |id: &str| pass(view, id).is_none_or(|pass| !is_good(&pass, now, true));
    let facts = joins(view).filter(|(name, _value)| {
        let id = name.split('/').next().unwrap_or_default();
        is_old(id)
    });
    facts
        .map(|(name, _value)| forget(format!("{FACTS}{name}")))
        .collect()
}

/// The facts about joining, their names without what all have in common.
fn joins(view: &View) -> impl Iterator<Item = (&str, &Bytes)> {
    let facts = view.cluster.range(FACTS.to_owned()..);
    let named = facts.map(|(name, value)| (name.strip_prefix(FACTS), value));
    named.map_while(|(name, value)| Some((name?, value)))
}

pub(crate) fn read<T: for<'de> Deserialize<'de>>(value: &Bytes) -> Option<T> {
    serde_json::from_slice(value)
        .inspect_err(|error| tracing::warn!(%error, "a fact about a site cannot be read"))
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_remembered_as_something_else() {
        let id = id(&[7; 16]);
        assert_eq!(id.len(), 32);
        assert_ne!(id, hex(&[7; 16]));
        assert_ne!(id, super::id(&[8; 16]));
    }

    #[test]
    fn a_token_ends_and_completes_what_it_began_for_another_day() {
        let pass = Pass {
            name: "b".to_owned(),
            expires: 1_000,
            url: String::new(),
        };
        assert!(is_good(&pass, 999, false) && !is_good(&pass, 1_000, false));
        assert!(is_good(&pass, 87_399, true) && !is_good(&pass, 87_400, true));
    }

    #[test]
    fn a_claim_keeps_the_id_whole() {
        let claim = Claim::new("b", NodeId::new(0x0fff_0000_0000_0001), "https://b:1");
        assert_eq!(claim.node(), Some(NodeId::new(0x0fff_0000_0000_0001)));
    }
}
