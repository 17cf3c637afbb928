//! A stream's disk: its real log, snapshots and sinks over the virtual storage, and what a crash leaves of them.
//!
//! What would surprise: log and sinks belong to the disk, not to the stream, since a crash strikes in the middle of what
//! is done with them, after the stream's process is gone.

use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use holm_base::{ByteCount, Time, WriteId};
use holm_connect::{Sink, SinkError};
use holm_durable::{Entry, Log, LogError};
use holm_machine::{DiskError, Folder};
use holm_runner::{Commit, Filed, Save};
use holm_virtual::{Storage, Tape, Unsynced};

use super::afar::Afar;
use super::followed::Followed;
use crate::disk::{Drive, Jobs};

/// The folder of the stream, and that of its sinks.
pub(crate) const STREAM: &str = "stream";
pub(crate) const SINKS: &str = "sinks";
/// The file that a stream follows.
const SOURCE: &str = "source/rows";

/// Records that are appended together.
#[derive(Clone, Debug)]
pub(crate) struct Lot(pub(crate) Vec<Arc<Filed>>);

impl PartialEq for Lot {
    fn eq(&self, other: &Self) -> bool {
        let bytes = |lot: &Self| {
            lot.entries()
                .map(|it| (it.sequence, it.body.clone()))
                .collect::<Vec<_>>()
        };
        bytes(self) == bytes(other)
    }
}

impl Eq for Lot {}

impl Lot {
    fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.0.iter().map(|filed| filed.entry())
    }
}

impl Hash for Lot {
    fn hash<H: Hasher>(&self, state: &mut H) {
        for entry in self.entries() {
            (entry.sequence, entry.epoch, entry.kind, &entry.body).hash(state);
        }
    }
}

/// What is done beside the log.
#[derive(Debug)]
pub(crate) enum Work {
    Save(Save),
    Tidy {
        forget: Vec<String>,
        truncate: Option<u64>,
    },
    Put {
        sink: usize,
        commit: Commit,
    },
}

/// What became of it.
#[derive(Debug)]
pub(crate) enum Done {
    Saved {
        through: u64,
        committed: Vec<u64>,
    },
    Tidied,
    Put {
        sink: usize,
        commit: Commit,
        ended: Result<(), SinkError>,
    },
    Failed(String),
}

/// The disk, shared by the world and the stream.
#[derive(Clone, Debug)]
pub(crate) struct Deck {
    held: Arc<Mutex<Held>>,
}

#[derive(Debug)]
struct Held {
    drive: Drive,
    /// None while the stream is down.
    log: Option<Log>,
    unsynced: Unsynced<Lot>,
    sinks: Vec<Box<dyn Sink>>,
    jobs: Jobs<Work>,
    /// How long a sync takes, beside those of the log.
    sync: Duration,
    afar: Afar,
}

impl Default for Deck {
    fn default() -> Self {
        let held = Held {
            drive: Drive::default(),
            log: None,
            unsynced: Unsynced::default(),
            sinks: Vec::new(),
            jobs: Jobs::default(),
            sync: Duration::from_millis(1),
            afar: Afar::default(),
        };
        Self {
            held: Arc::new(Mutex::new(held)),
        }
    }
}

impl Deck {
    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn storage(&self) -> Storage {
        self.held().drive.storage().clone()
    }

    pub(crate) fn afar(&self) -> Afar {
        self.held().afar.clone()
    }

    /// How long a sync takes from now on.
    pub(crate) fn set_sync(&self, sync: Duration) {
        self.held().sync = sync;
    }

    pub(crate) fn sync_takes(&self) -> Duration {
        self.held().sync
    }

    /// The stream has come back.
    pub(crate) fn hold(&self, log: Log, sinks: Vec<Box<dyn Sink>>) {
        let mut held = self.held();
        held.log = Some(log);
        held.sinks = sinks;
    }

    /// The file that the stream follows.
    pub(crate) fn followed(&self) -> Result<Followed, DiskError> {
        let storage = self.storage();
        if storage.bytes(SOURCE).is_none() {
            storage.put(SOURCE, b"");
        }
        let disk = storage.root().open_read_only(SOURCE)?;
        Ok(Followed::new(disk))
    }

    /// Somebody adds rows to it; whether there was room.
    pub(crate) fn write(&self, rows: &[u8]) -> bool {
        self.held().drive.storage().append(SOURCE, rows).is_ok()
    }

    /// Bytes of the log.
    pub(crate) fn log_bytes(&self) -> u64 {
        self.held().log.as_ref().map_or(0, Log::used)
    }

    /// Damages the newest snapshot, if there is one; whether there is.
    pub(crate) fn damage(&self) -> bool {
        let held = self.held();
        let storage = held.drive.storage();
        let names = storage.names();
        let prefix = format!("{STREAM}/snapshot-");
        let mut snapshots = names.iter().filter(|name| name.starts_with(&prefix));
        let newest = snapshots.rfind(|name| !name.ends_with(".new"));
        if let Some(newest) = newest {
            storage.patch(newest, ByteCount::new(40), &[0xff; 8]);
        }
        newest.is_some()
    }

    /// Something begins, and will end then.
    pub(crate) fn begin(&self, ends: Time, work: Work) {
        self.held().jobs.begin(ends, work);
    }

    /// When the next of these ends.
    pub(crate) fn job_ends(&self) -> Option<Time> {
        self.held().jobs.ends()
    }

    /// Does what ends by now, the oldest first.
    pub(crate) fn run(&self, now: Time) -> Option<Done> {
        let mut held = self.held();
        let work = held.jobs.done(now)?;
        Some(held.run(work))
    }

    /// Gives rows to a sink now.
    pub(crate) fn put(&self, sink: usize, commit: Commit) -> Done {
        self.held().run(Work::Put { sink, commit })
    }
}

impl Held {
    fn folder(&self) -> Result<Arc<dyn Folder>, DiskError> {
        self.drive.storage().root().folder(STREAM)
    }

    fn run(&mut self, work: Work) -> Done {
        match work {
            Work::Save(save) => {
                let kept = self.folder().and_then(|folder| save.keep(&*folder));
                match kept {
                    Ok(_bytes) => Done::Saved {
                        through: save.through(),
                        committed: save.committed().to_vec(),
                    },
                    Err(error) => Done::Failed(error.to_string()),
                }
            }
            Work::Tidy { forget, truncate } => {
                if let (Some(log), Some(below)) = (&mut self.log, truncate)
                    && let Err(error) = log.truncate(below)
                {
                    return Done::Failed(error.to_string());
                }
                if let Ok(folder) = self.folder() {
                    // One that is left behind is found and let go another time.
                    forget.iter().for_each(|name| drop(folder.remove(name)));
                }
                Done::Tidied
            }
            Work::Put { sink, commit } => Done::Put {
                ended: self.sinks[sink].put(commit.first, &commit.rows),
                sink,
                commit,
            },
        }
    }

    fn append(&mut self, lots: &[Lot]) -> Result<(), LogError> {
        let entries: Vec<&Entry> = lots.iter().flat_map(Lot::entries).collect();
        match &mut self.log {
            Some(log) if !entries.is_empty() => log.append(&entries),
            Some(_) | None => Ok(()),
        }
    }

    /// The stream ends, in the middle of whatever was under way.
    fn crash(&mut self, tape: &mut Tape) {
        let kept: Vec<Lot> = self.unsynced.crash(tape).collect();
        if !kept.is_empty() {
            self.drive.tear(tape);
            // Whether it was written whole, the next start finds out.
            self.append(&kept).ok();
        }
        for work in self.jobs.take() {
            if self.drive.interrupt(tape) {
                drop(self.run(work));
            }
        }
        (self.log, self.sinks) = (None, Vec::new());
        self.drive.survive(tape);
    }
}

impl holm_virtual::Shelf<Lot> for Deck {
    fn append(&mut self, records: Vec<(WriteId, Lot)>) -> Result<(), DiskError> {
        self.held().unsynced.append(records);
        Ok(())
    }

    /// What finds no room waits where it is.
    fn sync(&mut self, through: WriteId) -> Result<(), DiskError> {
        let mut held = self.held();
        let lots: Vec<Lot> = held.unsynced.through(through).cloned().collect();
        let appended = held.append(&lots);
        let attempted = format!("sync records through {through}");
        match appended {
            Err(error) if error.is_full() => Err(DiskError::Full { attempted }),
            Ok(()) => {
                drop(held.unsynced.take(through));
                Ok(())
            }
            Err(error) => {
                drop(held.unsynced.take(through));
                Err(DiskError::Failed {
                    attempted,
                    reason: error.to_string(),
                })
            }
        }
    }

    fn crash(&mut self, tape: &mut Tape) {
        self.held().crash(tape);
    }

    fn records(&self) -> Vec<Lot> {
        // The stream opens its log, and reads them.
        Vec::new()
    }

    fn fail_next_sync(&mut self) {
        self.held().drive.storage().fail_next_sync();
    }

    fn set_full(&mut self, is_full: bool) {
        self.held().drive.set_full(is_full);
    }

    fn heal(&mut self) {
        self.held().drive.heal();
    }
}
