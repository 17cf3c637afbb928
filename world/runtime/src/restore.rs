//! Making a data directory from a history that comes from elsewhere.
//!
//! What would surprise: it is made beside its place and renamed at the end, so a directory of
//! that name is whole or not there.

use std::error::Error;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use holm_base::{ClusterId, NodeId, Op, Term};
use holm_kv::{Restore, RestoreError, Restored, StoreConfig};
use holm_log::{Log, LogConfig, LogError, Urgency};
use holm_replica::Founded;
use holm_sequencer::Record;

use crate::keyspaces::DEFAULT;
use crate::node::{StartError, claim, identity_of, open_folder};

/// Why no data directory was made.
#[derive(Debug, thiserror::Error)]
pub enum SeedError<E: Error + 'static> {
    /// There is something at its place.
    #[error("{} is not empty: choose a directory that is empty or missing", place.display())]
    Taken {
        /// The place.
        place: PathBuf,
    },
    /// Nothing can be renamed to its place.
    #[error(
        "{} is a mount point, and a data directory that is made of a snapshot is renamed to its \
         place: name a directory within it",
        place.display()
    )]
    MountPoint {
        /// The place.
        place: PathBuf,
    },
    /// An earlier attempt was broken off.
    #[error("{} is there, from an attempt that was broken off: remove it", place.display())]
    Unfinished {
        /// The place.
        place: PathBuf,
    },
    /// The directory could not be made or given its name.
    #[error("make the data directory {}", place.display())]
    Directory {
        /// The place.
        place: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The directory could not be made ours.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The engine refused.
    #[error("begin the restore")]
    Begin(#[from] RestoreError),
    /// The log could not be made.
    #[error("begin the write-ahead log")]
    Log(#[from] LogError),
    /// What belongs beside the data could not be written.
    #[error("write what belongs beside the data")]
    Beside(#[source] Box<dyn Error + Send + Sync>),
    /// What fills it failed.
    #[error(transparent)]
    Fill(E),
}

/// Makes a data directory at `place` that holds what `fill` restores, with a cluster id and a
/// node id of its own. Removes what it made if anything fails.
///
/// # Errors
///
/// As [`SeedError`] says; `place` is then as it was.
pub fn seed<E: Error>(
    place: &Path,
    fill: impl FnOnce(Restore) -> Result<Restored, E>,
) -> Result<Restored, SeedError<E>> {
    whole(place, |part| make(part, None, fill))
}

/// As [`seed`], for the node that founds a cluster of this id. What `beside` writes into the
/// directory comes with the rest or not at all.
///
/// # Errors
///
/// As [`SeedError`] says; `place` is then as it was.
pub fn seed_founder<E: Error>(
    place: &Path,
    ids: (ClusterId, NodeId),
    fill: impl FnOnce(Restore) -> Result<Restored, E>,
    beside: impl FnOnce(&Path) -> Result<(), Box<dyn Error + Send + Sync>>,
) -> Result<Restored, SeedError<E>> {
    clear_unfinished(place)?;
    whole(place, |part| {
        let restored = make(part, Some(ids), fill)?;
        beside(part).map_err(SeedError::Beside)?;
        let synced = fs::File::open(part).and_then(|folder| folder.sync_all());
        synced.map_err(failed(part))?;
        Ok(restored)
    })
}

/// Takes away what an attempt to found has left that was broken off: who found a cluster are
/// started again by themselves.
fn clear_unfinished<E: Error>(place: &Path) -> Result<(), SeedError<E>> {
    let part = part_of(place);
    if !part.join("holm.lock").exists() {
        return Ok(());
    }
    // Held by an attempt that is under way.
    let lock = holm_disk::lock(&part).map_err(StartError::from)?;
    fs::remove_dir_all(&part).map_err(failed(&part))?;
    drop(lock);
    Ok(())
}

fn part_of(place: &Path) -> PathBuf {
    let mut part = place.as_os_str().to_owned();
    part.push(".part");
    PathBuf::from(part)
}

/// Whether something is mounted there, so that nothing can be given its name.
fn is_mount_point(place: &Path) -> io::Result<bool> {
    if !place.exists() {
        return Ok(false);
    }
    let place = fs::canonicalize(place)?;
    let Some(parent) = place.parent() else {
        return Ok(true);
    };
    Ok(fs::metadata(&place)?.dev() != fs::metadata(parent)?.dev())
}

fn whole<E: Error>(
    place: &Path,
    make: impl FnOnce(&Path) -> Result<Restored, SeedError<E>>,
) -> Result<Restored, SeedError<E>> {
    if !is_free(place).map_err(failed(place))? {
        return Err(SeedError::Taken {
            place: place.to_owned(),
        });
    }
    if is_mount_point(place).map_err(failed(place))? {
        return Err(SeedError::MountPoint {
            place: place.to_owned(),
        });
    }
    let part = part_of(place);
    if part.exists() {
        return Err(SeedError::Unfinished { place: part });
    }
    let made = make(&part).and_then(|made| {
        fs::rename(&part, place).map_err(failed(place))?;
        sync_parent(place).map_err(failed(place))?;
        Ok(made)
    });
    if made.is_err() && part.exists() {
        // The error that matters is the one we have; the next attempt will name what is left.
        fs::remove_dir_all(&part).ok();
    }
    made
}

fn failed<E: Error>(place: &Path) -> impl Fn(io::Error) -> SeedError<E> {
    move |source| SeedError::Directory {
        place: place.to_owned(),
        source,
    }
}

fn is_free(place: &Path) -> io::Result<bool> {
    match fs::read_dir(place) {
        Ok(mut entries) => Ok(entries.next().is_none()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(error),
    }
}

fn make<E: Error>(
    part: &Path,
    founder: Option<(ClusterId, NodeId)>,
    fill: impl FnOnce(Restore) -> Result<Restored, E>,
) -> Result<Restored, SeedError<E>> {
    let _lock = holm_disk::lock(part).map_err(StartError::from)?;
    let folder = open_folder(part)?;
    let (cluster, node) = match founder {
        Some(ids) => claim(&*folder, part, ids)?,
        None => identity_of(&*folder, part)?,
    };
    let founded = founder.map(|(_, node)| Founded::by(node));
    let unreachable = |source| StartError::Folder {
        place: part.to_owned(),
        source,
    };
    let engine = holm_replica::engine_folder(&*folder, DEFAULT);
    let engine = engine.map_err(|source| StartError::Open {
        name: "default".into(),
        place: part.to_owned(),
        source,
    })?;
    let config = StoreConfig {
        cluster,
        group: DEFAULT,
        ..StoreConfig::default()
    };
    let restore = match &founded {
        Some(founded) => founded.restore(engine, config)?,
        None => Restore::new(engine, config)?,
    };
    let restored = fill(restore).map_err(SeedError::Fill)?;
    let log = folder.folder("log").map_err(unreachable)?;
    let mut log = Log::open(log, LogConfig::new(cluster, node))?;
    match founded {
        Some(founded) => founded.begin_log(&mut log, DEFAULT)?,
        None => fill_log(&mut log, restored.applied)?,
    }
    log.close()?;
    folder.sync().map_err(unreachable)?;
    Ok(restored)
}

/// A log has no gaps: the ops that the engine has applied already are in it, without bodies.
fn fill_log(log: &mut Log, applied: Op) -> Result<(), LogError> {
    let entry = |op| Record::plain(Term::new(1), Op::new(op), Bytes::new());
    let records: Vec<Record> = (1..=applied.value()).map(entry).collect();
    for records in records.chunks(1000) {
        log.flush(DEFAULT, records, Urgency::Ordinary)?;
    }
    Ok(())
}

fn sync_parent(place: &Path) -> io::Result<()> {
    let parent = place.parent().filter(|it| !it.as_os_str().is_empty());
    fs::File::open(parent.unwrap_or_else(|| Path::new(".")))?.sync_all()
}
