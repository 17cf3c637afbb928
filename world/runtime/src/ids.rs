//! The ids of a cluster's members, which each of them computes alone.
//!
//! Nobody hands out ids: every node is told the same addresses and token, and from these alone
//! follow the same ids. Another token gives another cluster, so that two clusters made from one
//! template never take each other's messages for their own. The token alone makes the cluster's
//! id: who joins later need not know who founded it.
//!
//! What would surprise: a member's name does not count. Who adds a member to a running cluster
//! says where it will be reached and not what it will call itself, and the id must be the same
//! as the one that the newcomer computes.

use holm_base::{ClusterId, GroupId, NodeId};
use sha2::{Digest, Sha256};

/// The id of the member that others reach at `urls`, whatever their order.
#[must_use]
pub fn member_id(token: &str, urls: &[String]) -> NodeId {
    let mut urls: Vec<&str> = urls.iter().map(String::as_str).collect();
    urls.sort_unstable();
    let mut parts = vec!["holm member", token];
    parts.extend(urls);
    NodeId::new(id(parts.into_iter().map(str::as_bytes)))
}

/// The id of the cluster with this token.
#[must_use]
pub fn cluster_id(token: &str) -> ClusterId {
    let words = ["holm cluster", token].into_iter().map(str::as_bytes);
    ClusterId::new(id(words))
}

/// The id that clients of another keyspace than `default` are shown as their cluster's: each is a
/// cluster of its own to them.
#[must_use]
pub fn keyspace_cluster_id(cluster: ClusterId, group: GroupId) -> ClusterId {
    let numbers = (cluster.value().to_le_bytes(), group.value().to_le_bytes());
    let parts: [&[u8]; 3] = [b"holm keyspace", &numbers.0, &numbers.1];
    ClusterId::new(id(parts.into_iter()))
}

/// Eight bytes of a hash over the parts, each with its length before it. The highest bit stays
/// clear, for some clients read ids as signed; zero means "none".
fn id<'a>(parts: impl Iterator<Item = &'a [u8]>) -> u64 {
    let mut hash = Sha256::new();
    for part in parts {
        let length = u64::try_from(part.len()).expect("a text in memory is shorter than 2^64");
        hash.update(length.to_le_bytes());
        hash.update(part);
    }
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&hash.finalize()[..8]);
    (u64::from_le_bytes(bytes) & 0x7fff_ffff_ffff_ffff).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn urls(urls: &[&str]) -> Vec<String> {
        urls.iter().map(|&url| url.to_owned()).collect()
    }

    #[test]
    fn ids_stay_what_they_are() {
        // Data directories hold them: a change here locks every cluster out of its data.
        let a = member_id("holm", &urls(&["https://127.0.0.1:2380"]));
        let b = member_id("holm", &urls(&["https://127.0.0.1:2480"]));
        assert_eq!(
            (a.value(), b.value(), cluster_id("holm").value()),
            (
                0x4e4c_f2bd_59c0_87e4,
                0x4e48_5f7a_4838_6be8,
                0x3080_ac6a_530b_66b3
            )
        );
    }

    #[test]
    fn order_means_nothing_and_all_else_does() {
        let id = |token, list: &[&str]| member_id(token, &urls(list));
        assert_eq!(id("t", &["u", "v"]), id("t", &["v", "u"]));
        let all = [
            id("t", &["u", "v"]),
            id("t", &["uv"]),
            id("t", &["u"]),
            id("t", &["w"]),
            id("x", &["u"]),
            id("tu", &[]),
        ];
        for (at, one) in all.iter().enumerate() {
            assert!(!all[..at].contains(one), "{at}");
            assert_eq!(one.value() >> 63, 0);
        }
        assert_ne!(cluster_id("t"), cluster_id("x"));
    }
}
