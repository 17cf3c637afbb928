//! snapshot restore, snapshot status: what is done with a snapshot's file and without a node.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;
use holm_base::{ClusterId, NodeId};
use holm_disk::RealFolder;
use holm_etcd::snapshot::import::SumCheck;
use holm_etcd::snapshot::{Import, ImportError};
use holm_kv::{Restore, Restored};
use holm_machine::Disk;
use holm_runtime::SeedError;
use serde_json::json;

use crate::ask::Found;
use crate::progress::Progress;
use crate::quantity;
use crate::screen::Screen;

pub(crate) const RESTORE_EXAMPLES: &str = "\
Examples:
  holm snapshot restore backup.db --data-dir /var/lib/holm && holm up --data-dir /var/lib/holm
  holm snapshot restore member/snap/db --data-dir new --skip-hash-check

The file may come from `holm snapshot save` or `etcdctl snapshot save` (3.4 and newer). Keys keep their
revisions and versions; leases, users, roles and alarms stay; the cluster and its member are new ones.
A cluster of several sites is founded with such a file: holm up --cluster NAME --from-snapshot FILE";

/// What a person can do with a file that has no checksum, by what was done with it.
const SKIP: &str =
    "if it is a database copied from a stopped member's folder, say --skip-hash-check";
const SKIP_FIRST: &str = "save one with `holm snapshot save`; a database copied from a stopped \
    member's folder becomes a node with `holm snapshot restore FILE --data-dir DIR \
    --skip-hash-check` and `holm up --data-dir DIR`, which can be asked for one";
const NOT_SHOWN: &str = "only such a file is shown; `holm snapshot restore FILE --data-dir DIR \
    --skip-hash-check` takes a database copied from a stopped member's folder";

/// What fills a store in the making.
type Fill<'a> = dyn FnMut(Restore) -> Result<Restored, ImportError> + 'a;

/// What to restore, and where to.
#[derive(Clone, Debug, Args)]
pub(crate) struct RestoreOptions {
    /// The snapshot's file
    file: PathBuf,
    /// The directory to make; it must be empty or missing
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,
    /// Take a file without a checksum: a database copied from a stopped etcd's folder
    #[arg(long)]
    skip_hash_check: bool,
}

/// Makes a data directory from a file.
pub(crate) fn restore(options: &RestoreOptions, screen: Screen) -> anyhow::Result<Found> {
    let check = if options.skip_hash_check {
        SumCheck::Skip
    } else {
        SumCheck::Demand
    };
    let restored = import(&options.file, (check, SKIP), |fill| {
        holm_runtime::seed(&options.data_dir, fill)
    })?;
    let directory = options.data_dir.display();
    let (revision, compacted) = (restored.revision.value(), restored.compacted.value());
    let keys = restored.sizes.keys;
    let text = format!(
        "restored {directory}: revision {revision}, compacted {compacted}, {keys} keys\n\
         start it with: holm up --data-dir {directory}"
    );
    let data = json!({
        "data_dir": directory.to_string(),
        "revision": revision,
        "compacted": compacted,
        "keys": keys,
    });
    screen.show(&text, &data)?;
    Ok(Found::Yes)
}

/// Makes the data directory of a node that founds a cluster of these ids from a file. What
/// `beside` writes there comes with it or not at all.
///
/// # Errors
///
/// A file that is no snapshot, a directory that is not empty, what the disk says.
pub(crate) fn restore_founder(
    file: &Path,
    data_dir: &Path,
    ids: (ClusterId, NodeId),
    beside: impl FnOnce(&Path) -> anyhow::Result<()>,
) -> anyhow::Result<Restored> {
    import(file, (SumCheck::Demand, SKIP_FIRST), |fill| {
        holm_runtime::seed_founder(data_dir, ids, fill, |part| beside(part).map_err(Into::into))
    })
}

/// Reads a snapshot's file into what `seed` makes, and shows how far that is.
fn import(
    file: &Path,
    check: (SumCheck, &'static str),
    seed: impl FnOnce(&mut Fill<'_>) -> Result<Restored, SeedError<ImportError>>,
) -> anyhow::Result<Restored> {
    let disk = open(file)?;
    let mut progress = Progress::new();
    progress.show("checking the snapshot");
    let import = read(file, &*disk, check)?;
    let total = import.summary().total_keys;
    let restored = seed(&mut |restore| {
        import.run(restore, &mut |done| {
            progress.show(&format!("restoring: {done} of at most {total}"));
        })
    });
    restored.with_context(|| format!("restore {}", file.display()))
}

/// Shows what a file holds, in the numbers of `etcdctl snapshot status`.
pub(crate) fn status(file: &Path, screen: Screen) -> anyhow::Result<Found> {
    let disk = open(file)?;
    let check = (SumCheck::Demand, NOT_SHOWN);
    let summary = read(file, &*disk, check)?.summary();
    let text = format!(
        "{}  whole  revision {}  keys {}  size {}  hash {:08x}",
        file.display(),
        summary.revision,
        summary.total_keys,
        quantity::bytes(summary.total_bytes),
        summary.hash
    );
    let data = json!({
        "file": file.display().to_string(),
        "hash": summary.hash,
        "revision": summary.revision,
        "totalKey": summary.total_keys,
        "totalSize": summary.total_bytes,
    });
    screen.show(&text, &data)?;
    Ok(Found::Yes)
}

fn open(file: &Path) -> anyhow::Result<Box<dyn Disk>> {
    let read = || format!("read snapshot {}", file.display());
    if !std::fs::metadata(file).with_context(read)?.is_file() {
        bail!("{} is no file", file.display());
    }
    let parent = file.parent().filter(|it| !it.as_os_str().is_empty());
    let folder = RealFolder::open(parent.unwrap_or_else(|| Path::new("."))).with_context(read)?;
    let name = file.file_name().and_then(|it| it.to_str());
    let name = name.with_context(|| format!("{} is no UTF-8 name", file.display()))?;
    folder.open_read_only(name).with_context(read)
}

/// Opens a file. `advice` is for one that has no checksum.
fn read<'a>(
    file: &Path,
    disk: &'a dyn Disk,
    (check, advice): (SumCheck, &str),
) -> anyhow::Result<Import<'a>> {
    let import = Import::open(disk, check).map_err(|error| match error {
        ImportError::NoSum => anyhow::anyhow!("{error}; {advice}"),
        other => other.into(),
    });
    import.with_context(|| format!("read snapshot {}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_a_checksum_is_refused_with_what_the_command_can_do() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("db");
        std::fs::write(&file, [7; 100]).expect("a file");
        let ids = (ClusterId::new(1), NodeId::new(1));
        let data_dir = folder.path().join("data");
        let founded = restore_founder(&file, &data_dir, ids, |_| Ok(()));
        let said = format!("{:#}", founded.expect_err("it has no checksum"));
        assert!(
            said.contains("save one with `holm snapshot save`"),
            "{said}"
        );
        assert!(!said.contains("say --skip-hash-check"), "{said}");
        let options = RestoreOptions {
            file: file.clone(),
            data_dir,
            skip_hash_check: false,
        };
        let restored = restore(&options, Screen::new(false));
        let said = format!("{:#}", restored.expect_err("it has no checksum"));
        assert!(said.ends_with("say --skip-hash-check"), "{said}");
        let shown = status(&file, Screen::new(false));
        let said = format!("{:#}", shown.expect_err("it has no checksum"));
        assert!(said.contains("only such a file is shown"), "{said}");
    }
}
