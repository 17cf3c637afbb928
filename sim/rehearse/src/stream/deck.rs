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
use holm_virtual::{Place, Storage, Survival, Tape, Unsynced};

use super::afar::Afar;
use super::followed::Followed;

const TORN: Place = Place::new("disk.torn");
const JOB: Place = Place::new("disk.job");
const SURVIVAL: Place = Place::new("disk.survival");
/// How many steps of a job a crash may leave, at most.
const JOB_STEPS: u32 = 24;
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
    storage: Storage,
    /// None while the stream is down.
    log: Option<Log>,
    unsynced: Unsynced<Lot>,
    sinks: Vec<Box<dyn Sink>>,
    /// What is under way, and when it ends.
    jobs: Vec<(Time, Work)>,
    is_full: bool,
    /// How long a sync takes, beside those of the log.
    sync: Duration,
    afar: Afar,
}

impl Default for Deck {
    fn default() -> Self {
        let storage = Storage::new();
        storage.forget_trace();
        let held = Held {
            storage,
            log: None,
            unsynced: Unsynced::default(),
            sinks: Vec::new(),
            jobs: Vec::new(),
            is_full: false,
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
        self.held().storage.clone()
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
        self.held().storage.append(SOURCE, rows).is_ok()
    }

    /// Bytes of the log.
    pub(crate) fn log_bytes(&self) -> u64 {
        self.held().log.as_ref().map_or(0, Log::used)
    }

    /// Damages the newest snapshot, if there is one; whether there is.
    pub(crate) fn damage(&self) -> bool {
        let held = self.held();
        let names = held.storage.names();
        let prefix = format!("{STREAM}/snapshot-");
        let mut snapshots = names.iter().filter(|name| name.starts_with(&prefix));
        let newest = snapshots.rfind(|name| !name.ends_with(".new"));
        if let Some(newest) = newest {
            held.storage.patch(newest, ByteCount::new(40), &[0xff; 8]);
        }
        newest.is_some()
    }

    /// Something begins, and will end then.
    pub(crate) fn begin(&self, ends: Time, work: Work) {
        self.held().jobs.push((ends, work));
    }

    /// When the next of these ends.
    pub(crate) fn job_ends(&self) -> Option<Time> {
        self.held().jobs.iter().map(|(ends, _)| *ends).min()
    }

    /// Does what ends by now, the oldest first.
    pub(crate) fn run(&self, now: Time) -> Option<Done> {
        let mut held = self.held();
        let ends = held
            .jobs
            .iter()
            .map(|(ends, _)| *ends)
            .min()
            .filter(|ends| *ends <= now)?;
        let at = held.jobs.iter().position(|(other, _)| *other == ends)?;
        let (_, work) = held.jobs.remove(at);
        Some(held.run(work))
    }

    /// Gives rows to a sink now.
    pub(crate) fn put(&self, sink: usize, commit: Commit) -> Done {
        self.held().run(Work::Put { sink, commit })
    }
}

impl Held {
    fn folder(&self) -> Result<Arc<dyn Folder>, DiskError> {
        self.storage.root().folder(STREAM)
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

    fn limit(&self) {
        let capacity = if self.is_full {
            self.storage.used()
        } else {
            ByteCount::new(u64::MAX)
        };
        self.storage.set_capacity(capacity);
    }

    /// The power fails during this step from now on; not at all, if 0.
    fn end_within(&self, steps: u32) {
        if steps > 0 && !self.storage.has_crashed() {
            let at = self.storage.steps() + u64::from(steps);
            self.storage.crash_at(at);
        }
    }

    /// The stream ends, in the middle of whatever was under way.
    fn crash(&mut self, tape: &mut Tape) {
        let kept: Vec<Lot> = self.unsynced.crash(tape).collect();
        if !kept.is_empty() {
            let torn = tape.choose(TORN, 3);
            self.end_within(torn);
            // Whether it was written whole, the next start finds out.
            self.append(&kept).ok();
        }
        for (_, work) in std::mem::take(&mut self.jobs) {
            let steps = tape.choose(JOB, JOB_STEPS);
            if steps > 0 {
                self.end_within(steps);
                drop(self.run(work));
            }
        }
        (self.log, self.sinks) = (None, Vec::new());
        let survival = match tape.choose(SURVIVAL, 1 << 10) {
            0 => Survival::Keep,
            seed if seed % 4 == 0 => Survival::Drop,
            seed if seed % 4 == 1 => Survival::Torn {
                seed: u64::from(seed),
            },
            seed => Survival::Reordered {
                seed: u64::from(seed),
            },
        };
        self.storage = self.storage.reopen(survival);
        self.limit();
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
        self.held().storage.fail_next_sync();
    }

    fn set_full(&mut self, is_full: bool) {
        let mut held = self.held();
        held.is_full = is_full;
        held.limit();
    }

    fn heal(&mut self) {
        self.set_full(false);
        self.held().storage.heal();
    }
}
