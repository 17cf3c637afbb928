//! Snapshots in etcd's own form: which buckets there are and what each holds.
//!
//! ```text
//! alarm            AlarmMember                  -> nothing
//! auth             authEnabled, authRevision    -> 1 byte, 8 bytes
//! authRoles        name                         -> Role
//! authUsers        name                         -> User, with the password's hash
//! cluster          clusterVersion               -> text
//! key              main '_' sub ['t']           -> KeyValue; a delete's has the key only
//! lease            id                           -> Lease
//! members          id in hexadecimal            -> JSON
//! members_removed
//! meta             confState, consistent_index, finishedCompactRev, scheduledCompactRev,
//!                  storageVersion, term
//! ```
//!
//! Numbers are big-endian, 8 bytes; a compaction's is a revision as in `key`.
//!
//! What would surprise: the cluster version that we write is 3.5.0 although we answer as 3.6.
//! A member refuses a cluster newer than itself, and raises an older one by itself; so a
//! snapshot restores in 3.4, 3.5 and 3.6 alike.

pub mod import;
mod source;
mod stream;

use bytes::Bytes;

pub use import::{Import, ImportError, Summary};
pub use stream::{SnapshotError, stream};

pub(crate) const ALARM: &[u8] = b"alarm";
pub(crate) const AUTH: &[u8] = b"auth";
pub(crate) const ROLES: &[u8] = b"authRoles";
pub(crate) const USERS: &[u8] = b"authUsers";
pub(crate) const CLUSTER: &[u8] = b"cluster";
pub(crate) const KEY: &[u8] = b"key";
pub(crate) const LEASE: &[u8] = b"lease";
pub(crate) const MEMBERS: &[u8] = b"members";
pub(crate) const MEMBERS_REMOVED: &[u8] = b"members_removed";
pub(crate) const META: &[u8] = b"meta";

pub(crate) const AUTH_ENABLED: &[u8] = b"authEnabled";
pub(crate) const AUTH_REVISION: &[u8] = b"authRevision";
pub(crate) const FINISHED: &[u8] = b"finishedCompactRev";
pub(crate) const SCHEDULED: &[u8] = b"scheduledCompactRev";

/// A lease as etcd stores it.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub(crate) struct StoredLease {
    #[prost(int64, tag = "1")]
    id: i64,
    #[prost(int64, tag = "2")]
    ttl: i64,
    #[prost(int64, tag = "3")]
    remaining: i64,
}

/// What a change did, as its key in the file says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mark {
    Put,
    Delete,
}

/// Where a change stands among all changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    main: i64,
    sub: u32,
    mark: Mark,
}

impl Change {
    pub(crate) fn encode(self) -> Bytes {
        let mut key = Vec::with_capacity(18);
        key.extend_from_slice(&number(self.main.cast_unsigned()));
        key.push(b'_');
        key.extend_from_slice(&number(u64::from(self.sub)));
        if self.mark == Mark::Delete {
            key.push(b't');
        }
        Bytes::from(key)
    }

    pub(crate) fn decode(key: &[u8]) -> Option<Self> {
        let (main, rest) = key.split_first_chunk()?;
        let (low_line, rest) = rest.split_first()?;
        let (sub, rest) = rest.split_first_chunk()?;
        let mark = match rest {
            [] => Mark::Put,
            b"t" => Mark::Delete,
            _ => return None,
        };
        let change = Self {
            main: i64::try_from(from_number(*main)).ok()?,
            sub: u32::try_from(from_number(*sub)).ok()?,
            mark,
        };
        (*low_line == b'_').then_some(change)
    }
}

#[expect(clippy::big_endian_bytes, reason = "the file's order is etcd's")]
pub(crate) const fn number(value: u64) -> [u8; 8] {
    value.to_be_bytes()
}

#[expect(clippy::big_endian_bytes, reason = "the file's order is etcd's")]
pub(crate) const fn from_number(bytes: [u8; 8]) -> u64 {
    u64::from_be_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_keys_are_etcds() {
        let change = Change {
            main: 0x0102,
            sub: 3,
            mark: Mark::Delete,
        };
        let key = change.encode();
        assert_eq!(key.as_ref(), b"\0\0\0\0\0\0\x01\x02_\0\0\0\0\0\0\0\x03t");
        assert_eq!(Change::decode(&key), Some(change));
        for bad in [&key[..16], b"", b"\0\0\0\0\0\0\x01\x02-\0\0\0\0\0\0\0\x03"] {
            assert_eq!(Change::decode(bad), None);
        }
    }
}
