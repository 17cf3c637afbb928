//! Recordings of runs as files, and their replay: one file a run, of a size that is bounded.
//!
//! What would surprise: a file that is full gets a frame that says so and nothing after it, while
//! the node goes on. Each batch is written at once, so that a process that is killed leaves all
//! of it; nothing is synced, so a machine that loses power loses the end.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use holm_base::NodeId;
use holm_raft::{Ended, Recorder, RecordingError, Replayed};
use holm_replica::Sink;

/// The end of such a file's name.
const SUFFIX: &str = "steps";

/// What is kept for the last frame.
const END_BYTES: u64 = 64;

/// Where a run is recorded, and how much of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordingConfig {
    /// The directory; created if missing. Each run makes a file of its own.
    pub place: PathBuf,
    /// How large a file may become.
    pub bytes_max: u64,
}

impl RecordingConfig {
    /// A quarter of a gibibyte in that directory.
    #[must_use]
    pub const fn new(place: PathBuf) -> Self {
        let bytes_max = 256 << 20;
        Self { place, bytes_max }
    }

    /// Makes the file of one run.
    pub(crate) fn create(&self, node: NodeId, boot: u64) -> io::Result<FileSink> {
        std::fs::create_dir_all(&self.place)?;
        let name = format!("{:016x}-{boot}.{SUFFIX}", node.value());
        let place = self.place.join(name);
        // A run that is there already is another node's, or another directory's: keep it.
        let mut options = File::options();
        // It holds what clients write, as the data do.
        let file = options
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&place)?;
        tracing::info!(place = %place.display(), bytes_max = self.bytes_max, "records this run");
        Ok(FileSink {
            file,
            place,
            left: self.bytes_max,
        })
    }
}

/// A recording's file.
#[derive(Debug)]
pub(crate) struct FileSink {
    file: File,
    place: PathBuf,
    left: u64,
}

impl FileSink {
    fn put(&mut self, frame: &[u8]) -> io::Result<bool> {
        let bytes = u64::try_from(frame.len()).unwrap_or(u64::MAX);
        if bytes.saturating_add(END_BYTES) > self.left {
            self.file.write_all(&Recorder::default().end(Ended::Full))?;
            let place = self.place.display();
            tracing::warn!(%place, "the recording is as large as it may be, it ends here");
            return Ok(false);
        }
        self.left -= bytes;
        self.file.write_all(frame)?;
        Ok(true)
    }
}

impl Sink for FileSink {
    fn write(&mut self, frame: &[u8]) -> bool {
        match self.put(frame) {
            Ok(goes_on) => goes_on,
            Err(error) => {
                let place = self.place.display();
                tracing::warn!(%place, %error, "the recording cannot be written, it ends here");
                false
            }
        }
    }
}

/// Why a recording was not replayed.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The directory cannot be read.
    #[error("list the recordings in {}", place.display())]
    List {
        /// The directory.
        place: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There is none.
    #[error("no recording (*.{SUFFIX}) lies in {}", place.display())]
    Nothing {
        /// The directory.
        place: PathBuf,
    },
    /// A file cannot be read.
    #[error("read {}", place.display())]
    Read {
        /// The file.
        place: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is none, or damaged.
    #[error("replay {}", place.display())]
    Recording {
        /// The file.
        place: PathBuf,
        /// Why.
        source: RecordingError,
    },
}

/// The recordings in a directory, in order of their names, or the one file that is named.
///
/// # Errors
///
/// [`ReplayError::List`], [`ReplayError::Nothing`].
pub fn recordings(place: &Path) -> Result<Vec<PathBuf>, ReplayError> {
    if place.is_file() {
        return Ok(vec![place.to_owned()]);
    }
    let list = |source| ReplayError::List {
        place: place.to_owned(),
        source,
    };
    let mut found = Vec::new();
    for entry in std::fs::read_dir(place).map_err(list)? {
        let path = entry.map_err(list)?.path();
        if path.extension().is_some_and(|it| it == SUFFIX) {
            found.push(path);
        }
    }
    if found.is_empty() {
        let place = place.to_owned();
        return Err(ReplayError::Nothing { place });
    }
    found.sort();
    Ok(found)
}

/// Replays one recording. The whole of it is in memory meanwhile.
///
/// # Errors
///
/// [`ReplayError::Read`], [`ReplayError::Recording`].
pub fn replay(place: &Path) -> Result<Replayed, ReplayError> {
    let bytes = std::fs::read(place).map_err(|source| ReplayError::Read {
        place: place.to_owned(),
        source,
    })?;
    holm_raft::replay(&bytes.into()).map_err(|source| ReplayError::Recording {
        place: place.to_owned(),
        source,
    })
}
