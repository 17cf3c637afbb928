//! Reads all that a stream keeps, and changes nothing.

use holm_durable::{Record, fetch, inspect};
use holm_lanes::Loader;
use holm_machine::{DiskError, Folder};

use crate::error::RunnerError;
use crate::saved::{self, Saved};

/// What was found of a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// The first record.
    pub first: u64,
    /// The last one.
    pub last: u64,
    /// Records that are batches.
    pub batches: u64,
    /// Rows that are in records themselves.
    pub rows: u64,
    /// Bytes of records.
    pub bytes: u64,
    /// Snapshots.
    pub snapshots: usize,
}

/// Reads log and snapshots of a stream, which may be running.
///
/// # Errors
///
/// The first thing that is damaged, with its place.
pub fn verify(folder: &dyn Folder) -> Result<Verified, RunnerError> {
    let mut found = Verified::default();
    let mut wrong = None;
    inspect(folder, &mut |entry| {
        if found.first == 0 {
            found.first = entry.sequence;
        }
        found.last = entry.sequence;
        found.bytes += crate::keeper::wide(entry.body.len());
        match Record::read(entry) {
            Ok(Record::Data(data)) => {
                found.batches += 1;
                found.rows += crate::keeper::wide(data.batch.rows);
            }
            Ok(Record::Offsets(_)) => found.batches += 1,
            Ok(Record::Opened | Record::Ended { .. } | Record::Idle { .. }) => {}
            Err(source) => {
                let sequence = entry.sequence;
                wrong.get_or_insert(RunnerError::Record { sequence, source });
            }
        }
    })?;
    if let Some(wrong) = wrong {
        return Err(wrong);
    }
    for name in folder.list()? {
        if saved::named(&name).is_none() {
            continue;
        }
        let body = match fetch(folder, &name, saved::KIND) {
            // One that was let go meanwhile is none that is damaged.
            Ok(None) | Err(holm_durable::CheckedError::Disk(DiskError::NotFound { .. })) => {
                continue;
            }
            other => other?,
        };
        let body = body.unwrap_or_default();
        let read = Saved::read(&mut Loader::new(&body));
        read.map_err(|source| RunnerError::State { name, source })?;
        found.snapshots += 1;
    }
    Ok(found)
}
