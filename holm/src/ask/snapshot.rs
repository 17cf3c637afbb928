//! snapshot: the whole store into a file, and whether such a file is whole.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use serde_json::json;
use sha2::{Digest, Sha256};

use super::Found;
use crate::client::Client;
use crate::progress::Progress;
use crate::quantity;
use crate::restore::{self, RESTORE_EXAMPLES, RestoreOptions};
use crate::screen::Screen;
use crate::wire::etcdserverpb::{SnapshotRequest, SnapshotResponse};

/// Commands about snapshots.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Snapshot {
    /// Save the store while it serves
    Save(FileOptions),
    /// Check that a saved file is whole, and show what is in it; needs no node
    Status(FileOptions),
    /// Make a data directory from a saved file, Holm's or etcd's; needs no node
    #[command(after_help = RESTORE_EXAMPLES)]
    Restore(RestoreOptions),
}

/// The one argument of both.
#[derive(Clone, Debug, Args)]
pub(crate) struct FileOptions {
    /// The file
    file: PathBuf,
}

/// A snapshot ends with the SHA-256 of all before it.
const SUM_BYTES: usize = 32;
const PAGE_BYTES: usize = 512;

/// Runs what needs no node, if it is that.
pub(super) fn run_alone(snapshot: &Snapshot, screen: Screen) -> Option<anyhow::Result<Found>> {
    match snapshot {
        Snapshot::Save(_) => None,
        Snapshot::Status(options) => Some(restore::status(&options.file, screen)),
        Snapshot::Restore(options) => Some(restore::restore(options, screen)),
    }
}

/// Runs what needs a node.
pub(super) async fn run(
    client: &mut Client,
    snapshot: &Snapshot,
    screen: Screen,
) -> anyhow::Result<Found> {
    match snapshot {
        Snapshot::Save(options) => save(client, options, screen).await,
        Snapshot::Status(_) | Snapshot::Restore(_) => unreachable!("these need no node"),
    }
}

/// Writes beside the target first, so that a broken snapshot never has the name of a whole one.
async fn save(client: &mut Client, options: &FileOptions, screen: Screen) -> anyhow::Result<Found> {
    let mut name = options.file.clone().into_os_string();
    name.push(".part");
    let part = PathBuf::from(name);
    let saved = receive(client, &part).await;
    let finished = saved.and_then(|bytes| {
        check(&part)?;
        std::fs::rename(&part, &options.file).context("give the snapshot its name")?;
        Ok(bytes)
    });
    let bytes = match finished {
        Ok(bytes) => bytes,
        Err(error) => {
            // The error that matters is the one we have; a file left over is named by it.
            drop(std::fs::remove_file(&part));
            return Err(error);
        }
    };
    let file = options.file.display();
    let text = format!("saved {file}, {}, checksum right", quantity::bytes(bytes));
    screen.show(&text, &json!({ "file": file.to_string(), "bytes": bytes }))?;
    Ok(Found::Yes)
}

async fn receive(client: &mut Client, part: &Path) -> anyhow::Result<u64> {
    let write = || format!("write {}", part.display());
    let mut stream = client
        .open(
            "/etcdserverpb.Maintenance/Snapshot",
            &SnapshotRequest::default(),
            true,
        )
        .await?;
    let mut file = File::create(part).with_context(write)?;
    let mut progress = Progress::new();
    let mut bytes = 0_u64;
    while let Some(piece) = stream.next::<SnapshotResponse>().await? {
        file.write_all(&piece.blob).with_context(write)?;
        bytes += u64::try_from(piece.blob.len())?;
        let total = bytes.saturating_add(piece.remaining_bytes);
        progress.show(&format!(
            "saving: {} of {}",
            quantity::bytes(bytes),
            quantity::bytes(total)
        ));
    }
    file.sync_all().with_context(write)?;
    Ok(bytes)
}

/// Compares a file's end with the sum of what is before it; returns its size and sum.
fn check(path: &Path) -> anyhow::Result<(u64, String)> {
    let read = || format!("read snapshot {}", path.display());
    let mut file = File::open(path).with_context(read)?;
    let bytes = file.metadata().with_context(read)?.len();
    let sum_bytes = u64::try_from(SUM_BYTES)?;
    if bytes < sum_bytes || bytes % u64::try_from(PAGE_BYTES)? != sum_bytes {
        bail!(
            "{} is no snapshot: its size of {bytes} bytes leaves no room for a checksum",
            path.display()
        );
    }
    let mut hash = Sha256::new();
    let mut body = Read::by_ref(&mut file).take(bytes - sum_bytes);
    let mut buffer = vec![0; 1 << 20];
    loop {
        let count = body.read(&mut buffer).with_context(read)?;
        if count == 0 {
            break;
        }
        hash.update(&buffer[..count]);
    }
    let mut stated = [0; SUM_BYTES];
    file.read_exact(&mut stated).with_context(read)?;
    let found = hash.finalize();
    if found.as_slice() != stated {
        bail!("{} is damaged: its checksum does not fit", path.display());
    }
    Ok((
        bytes,
        stated.iter().map(|byte| format!("{byte:02x}")).collect(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(spoil: bool) -> anyhow::Result<(u64, String)> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let mut bytes = vec![7; 1024];
        let sum = Sha256::digest(&bytes);
        bytes.extend_from_slice(&sum);
        bytes[3] ^= u8::from(spoil);
        std::fs::write(&path, bytes).unwrap();
        check(&path)
    }

    #[test]
    fn whole_file_is_right_and_spoiled_file_is_not() {
        assert_eq!(snapshot(false).unwrap().0, 1056);
        assert!(
            snapshot(true)
                .unwrap_err()
                .to_string()
                .ends_with("its checksum does not fit")
        );
    }
}
