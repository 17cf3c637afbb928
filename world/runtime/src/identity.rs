//! Who a data directory belongs to: the file `identity`, 64 bytes, written once.
//!
//! ```text
//!  0 8  "HOLMNODE"        16 8  cluster id
//!  8 4  version = 1       24 8  node id
//! 12 4  0                 32 28 0            60 4  crc32c of 0..60
//! ```
//!
//! Little-endian. Its presence is what makes a directory ours: a directory with other files
//! and no identity is refused, so that a mistyped path loses nothing.

use holm_base::{ByteCount, ClusterId, NodeId};
use holm_machine::{DiskError, Folder};

const NAME: &str = "identity";
const BYTES: usize = 64;
const MAGIC: &[u8; 8] = b"HOLMNODE";
const VERSION: u32 = 1;
const UNFINISHED: &str = "identity.new";
/// What may lie in a fresh directory: the lock that this process made, an identity that a crash
/// left unfinished, certificates of our own, what a site keeps of its cluster, the log of a site's process, and what file systems
/// put there.
const HARMLESS: [&str; 6] = [
    "holm.lock",
    UNFINISHED,
    "tls",
    "site",
    "holm.log",
    "lost+found",
];

/// Why a directory's identity could not be read or made.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The directory holds files, but none of ours.
    #[error(
        "the data directory holds files that holm did not write (the first is {name}): choose \
         an empty directory"
    )]
    Foreign {
        /// The first such file.
        name: String,
    },
    /// What is ours is there, but not the file that says whose it is.
    #[error(
        "the data directory holds `log` and `kv`, but the file `identity` is missing: put it \
         back, or restore a snapshot to an empty directory"
    )]
    Missing,
    /// A newer release wrote it.
    #[error(
        "the data directory has format {found}, this holm reads {known}: use the release of \
         holm that wrote it, or a newer one"
    )]
    Newer {
        /// The version found.
        found: u32,
        /// The newest version that this program knows.
        known: u32,
    },
    /// It belongs to another member than this node is to be.
    #[error(
        "the data directory belongs to member {found_node:x} of cluster {found_cluster:x}, and \
         the flags make this node member {node:x} of cluster {cluster:x}: use the directory and \
         the flags of one member"
    )]
    Other {
        /// The cluster that it belongs to.
        found_cluster: u64,
        /// The member.
        found_node: u64,
        /// The cluster that was wanted.
        cluster: u64,
        /// The member that was wanted.
        node: u64,
    },
    /// Its bytes are damaged.
    #[error(
        "the file `identity` of the data directory is damaged: restore the directory from a \
         snapshot, or put the file back"
    )]
    Damaged,
    /// The disk refused.
    #[error("read or write the file `identity`")]
    Disk(#[from] DiskError),
}

/// Reads who the directory belongs to, or makes it belong to someone new.
pub(crate) fn read_or_create(
    folder: &dyn Folder,
    fresh: impl FnOnce() -> (ClusterId, NodeId),
) -> Result<(ClusterId, NodeId), IdentityError> {
    match folder.open_read_only(NAME) {
        Ok(file) => {
            let mut bytes = [0; BYTES];
            if file.len()? < ByteCount::new(BYTES as u64) {
                return Err(IdentityError::Damaged);
            }
            file.read(ByteCount::ZERO, &mut bytes)?;
            decode(&bytes)
        }
        Err(DiskError::NotFound { .. }) => create(folder, fresh()),
        Err(error) => Err(error.into()),
    }
}

/// Makes the directory belong to this member, or refuses it if it belongs to another.
pub(crate) fn read_or_claim(
    folder: &dyn Folder,
    (cluster, node): (ClusterId, NodeId),
) -> Result<(), IdentityError> {
    let found = read_or_create(folder, || (cluster, node))?;
    if found == (cluster, node) {
        return Ok(());
    }
    Err(IdentityError::Other {
        found_cluster: found.0.value(),
        found_node: found.1.value(),
        cluster: cluster.value(),
        node: node.value(),
    })
}

/// Refuses a directory that has no identity and holds anything that a fresh one would not.
pub(crate) fn refuse_foreign(names: &mut [String]) -> Result<(), IdentityError> {
    names.sort_unstable();
    if names.iter().any(|name| name == NAME) {
        return Ok(());
    }
    if names.iter().any(|name| name == "log") && names.iter().any(|name| name == "kv") {
        return Err(IdentityError::Missing);
    }
    let foreign = names.iter().find(|name| !HARMLESS.contains(&name.as_str()));
    foreign.map_or(Ok(()), |name| {
        Err(IdentityError::Foreign { name: name.clone() })
    })
}

fn create(
    folder: &dyn Folder,
    (cluster, node): (ClusterId, NodeId),
) -> Result<(ClusterId, NodeId), IdentityError> {
    if folder.list()?.iter().any(|name| name == UNFINISHED) {
        folder.remove(UNFINISHED)?;
    }
    let mut file = folder.create(UNFINISHED, ByteCount::ZERO)?;
    file.write(ByteCount::ZERO, &encode(cluster, node))?;
    file.sync()?;
    folder.rename(UNFINISHED, NAME)?;
    folder.sync()?;
    Ok((cluster, node))
}

fn encode(cluster: ClusterId, node: NodeId) -> [u8; BYTES] {
    let mut bytes = [0; BYTES];
    bytes[..8].copy_from_slice(MAGIC);
    bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
    bytes[16..24].copy_from_slice(&cluster.value().to_le_bytes());
    bytes[24..32].copy_from_slice(&node.value().to_le_bytes());
    let sum = crc32c::crc32c(&bytes[..60]);
    bytes[60..].copy_from_slice(&sum.to_le_bytes());
    bytes
}

fn decode(bytes: &[u8; BYTES]) -> Result<(ClusterId, NodeId), IdentityError> {
    let word = |at: usize| {
        let mut part = [0; 8];
        part.copy_from_slice(&bytes[at..at + 8]);
        u64::from_le_bytes(part)
    };
    let half = |at: usize| {
        let mut part = [0; 4];
        part.copy_from_slice(&bytes[at..at + 4]);
        u32::from_le_bytes(part)
    };
    if &bytes[..8] != MAGIC {
        return Err(IdentityError::Damaged);
    }
    // A newer format may keep its checksum elsewhere, so the version counts first: between a
    // flipped bit and a newer release, the release is what an operator can look for.
    if half(60) != crc32c::crc32c(&bytes[..60]) && half(8) <= VERSION {
        return Err(IdentityError::Damaged);
    }
    if half(8) != VERSION {
        return Err(IdentityError::Newer {
            found: half(8),
            known: VERSION,
        });
    }
    Ok((ClusterId::new(word(16)), NodeId::new(word(24))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_flipped_bit_is_noticed() {
        let good = encode(ClusterId::new(7), NodeId::new(9));
        assert_eq!(
            decode(&good).expect("good bytes"),
            (ClusterId::new(7), NodeId::new(9))
        );
        for bit in 0..BYTES * 8 {
            let mut bad = good;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(&bad).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn what_is_not_ours_is_refused_and_what_is_harmless_is_not() {
        let refuse = |names: &[&str]| {
            let mut names: Vec<String> = names.iter().map(|&it| it.to_owned()).collect();
            refuse_foreign(&mut names)
        };
        refuse(&["lost+found", "holm.lock", "holm.log"]).expect("fresh");
        refuse(&["identity", "log", "kv", "notes"]).expect("ours");
        let error = refuse(&["holm.lock", "kv", "log"]).expect_err("the identity is gone");
        assert!(matches!(error, IdentityError::Missing), "{error}");
        let error = refuse(&["member", "holm.lock"]).expect_err("etcd's");
        assert!(error.to_string().contains("member"), "{error}");
    }

    #[test]
    fn a_newer_format_is_named() {
        let mut bytes = encode(ClusterId::new(7), NodeId::new(9));
        bytes[8] = 2;
        let error = decode(&bytes).expect_err("whatever its checksum covers");
        assert!(matches!(error, IdentityError::Newer { found: 2, known: 1 }));
        let sum = crc32c::crc32c(&bytes[..60]);
        bytes[60..].copy_from_slice(&sum.to_le_bytes());
        let error = decode(&bytes).expect_err("version 2 is not known");
        assert!(matches!(error, IdentityError::Newer { found: 2, known: 1 }));
    }
}
