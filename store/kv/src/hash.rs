//! The hash by which members and tools compare keyspaces, as etcd computes it.
//!
//! What would surprise: it covers history, not only what is alive. Of the revisions at and
//! below the compaction line it takes only those that are still visible at the revision asked
//! for, and never the deletes exactly on the line, so that members agree however far their
//! sweeps have come.

use holm_base::Revision;

use crate::record::{Parts, Record};
use crate::refusal::Refusal;
use crate::root::{Change, ChangeKind, Root};

/// How many bytes of records are held at a time.
const SLICE_BYTES: usize = 1 << 20;

/// What hashing gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hash {
    /// CRC-32C over the bucket's name and each kept revision's key and message.
    pub hash: u32,
    /// The compacted revision; -1 if nothing was compacted.
    pub compact_revision: i64,
    /// The revision that was hashed.
    pub hash_revision: i64,
}

/// Hashes everything up to `revision`, 0 for all. O(history), in slices of 1 MiB.
pub(crate) fn hash(root: &Root, revision: i64) -> Result<Hash, Refusal> {
    crate::read::check_revision(root, revision)?;
    let at = if revision > 0 {
        Revision::new(revision)
    } else {
        root.revision()
    };
    let all = crate::range::KeyRange::From(bytes::Bytes::new());
    let mut any_alive = false;
    root.scan(&all, Some(at), &mut |_, _| {
        any_alive = true;
        std::ops::ControlFlow::Break(())
    });
    let mut sum = crc32c::crc32c(b"key");
    let mut from = Revision::ZERO;
    while from <= at {
        from = root.changes(from, at, SLICE_BYTES, &mut |change| {
            if is_hashed(root, &change, at, any_alive) {
                sum = add(sum, &change);
            }
        })?;
    }
    let compacted = root.compacted().value();
    Ok(Hash {
        hash: sum,
        compact_revision: if compacted == 0 { -1 } else { compacted },
        hash_revision: at.value(),
    })
}

fn is_hashed(root: &Root, change: &Change, at: Revision, any_alive: bool) -> bool {
    if change.main > root.compacted() {
        return true;
    }
    let is_delete = change.kind == ChangeKind::Delete;
    if is_delete && change.main == root.compacted() {
        return false;
    }
    !any_alive
        || root
            .get_at(&change.key, at)
            .is_some_and(|it| (it.modified, it.sub) == (change.main, change.sub))
}

#[expect(
    clippy::big_endian_bytes,
    reason = "the hash covers revisions as etcd stores them"
)]
fn add(sum: u32, change: &Change) -> u32 {
    let mut key = [0; 18];
    key[..8].copy_from_slice(&change.main.value().to_be_bytes());
    key[8] = b'_';
    key[9..17].copy_from_slice(&u64::from(change.sub).to_be_bytes());
    key[17] = b't';
    match change.kind {
        ChangeKind::Put => {
            let sum = crc32c::crc32c_append(sum, &key[..17]);
            crc32c::crc32c_append(sum, change.record.bytes())
        }
        ChangeKind::Delete => {
            let parts = Parts {
                key: change.key.clone(),
                ..Parts::default()
            };
            let sum = crc32c::crc32c_append(sum, &key);
            crc32c::crc32c_append(sum, Record::encode(&parts).bytes())
        }
    }
}
