//! The log's thread: one flush at a time, everything that came meanwhile in the next.
//!
//! What would surprise: a write that is alone is not flushed here. The engine does it where it
//! is, by [`Shelf::flush_here`], and saves two hand-overs between threads.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use holm_base::{GroupId, Op};
use holm_log::{Log, LogError, Preparation, Urgency};
use holm_sequencer::Record;
use holm_telemetry::Metrics;

use crate::inbox::{Inbox, Letter};
use crate::node::Failure;
use crate::outbox::{Batch, Chores, Fetch, Outbox, Task};

/// How long to wait before trying again when even the reserve is used up.
const RETRY: Duration = Duration::from_millis(100);

/// The least that a flush takes.
const FLUSH_BYTES: u64 = 4096;

/// The log, where the engines reach it too.
#[derive(Debug)]
pub(crate) struct Shelf {
    /// `None` once it is closed.
    log: Mutex<Option<Log>>,
    metrics: Arc<Metrics>,
}

impl Shelf {
    pub(crate) fn new(log: Log, metrics: Arc<Metrics>) -> Self {
        Self {
            log: Mutex::new(Some(log)),
            metrics,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Log>> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something with the log, and keeps all others from it meanwhile; `None` if it is
    /// closed.
    pub(crate) fn with<T>(&self, act: impl FnOnce(&mut Log) -> T) -> Option<T> {
        self.lock().as_mut().map(act)
    }

    /// Makes records durable on the calling thread, if nobody uses the log and there is room;
    /// whether it did. Only for a caller that knows that no earlier record of its keyspace
    /// waits.
    ///
    /// # Errors
    ///
    /// What the disk says; the log then refuses everything.
    pub(crate) fn flush_here(
        &self,
        group: GroupId,
        records: &[Record],
        outbox: &Outbox,
    ) -> Result<bool, LogError> {
        let mut slot = match self.log.try_lock() {
            Ok(slot) => slot,
            Err(TryLockError::Poisoned(slot)) => slot.into_inner(),
            Err(TryLockError::WouldBlock) => return Ok(false),
        };
        let Some(log) = slot.as_mut() else {
            return Ok(false);
        };
        let started = Instant::now();
        match log.flush(group, records, Urgency::Ordinary) {
            Ok(()) => {}
            // Nothing was written; the log's thread knows how to wait for room.
            Err(LogError::Full { .. }) => return Ok(false),
            Err(error) => return Err(error),
        }
        let is_behind = log.is_behind();
        drop(slot);
        self.observe(started.elapsed(), bytes(records), records.len());
        if is_behind {
            outbox.prepare();
        }
        Ok(true)
    }

    fn observe(&self, took: Duration, bytes: u64, records: usize) {
        let disk = &self.metrics.disk;
        disk.wal_fsync_duration.observe(took);
        disk.wal_write_bytes.inc_by(bytes);
        disk.entries_per_sync
            .observe(u32::try_from(records).unwrap_or(u32::MAX));
    }
}

fn bytes(records: &[Record]) -> u64 {
    records.iter().map(|it| it.body_bytes().value()).sum()
}

/// The thread's own state.
#[derive(Debug)]
pub(crate) struct LogWriter {
    pub(crate) shelf: Arc<Shelf>,
    pub(crate) outbox: Arc<Outbox>,
    pub(crate) failure: Failure,
}

impl LogWriter {
    /// Runs until it is stopped or the disk fails.
    pub(crate) fn run(self) {
        let mut chores = Chores::default();
        loop {
            let task = self.outbox.next(&chores);
            let mut slot = self.shelf.lock();
            let Some(log) = slot.as_mut() else {
                return;
            };
            chores.has_fetched = matches!(task, Task::Fetch(..));
            let result = match task {
                Task::Fetch(group, fetch, inbox) => give_back(log, group, fetch, &inbox),
                Task::Flush(mut batches) => {
                    // Who left since they were taken may be gone from the log too.
                    self.outbox.drop_left(&mut batches);
                    self.flush(log, &batches, &mut chores)
                }
                Task::Cut(cuts) => cut(log, &cuts, &mut chores),
                Task::Prepare => log.prepare_next().map(|done| {
                    chores.is_prepared = done != Preparation::More;
                }),
                Task::Stop => return close(slot.take()),
            };
            chores.is_prepared &= !log.is_behind();
            if let Err(error) = result {
                self.failure.report("write the log", &error);
                return;
            }
        }
    }

    fn flush(&self, log: &mut Log, batches: &[Batch], chores: &mut Chores) -> Result<(), LogError> {
        if batches.is_empty() {
            return Ok(());
        }
        let started = Instant::now();
        let mut urgency = Urgency::Ordinary;
        let records: Vec<(GroupId, &[Record])> = batches
            .iter()
            .map(|it| (it.group, it.records.as_slice()))
            .collect();
        while let Err(error) = log.flush_all(&records, urgency) {
            if !matches!(error, LogError::Full { .. }) {
                return Err(error);
            }
            if matches!(urgency, Urgency::Reserve) {
                if self.outbox.is_given_up(batches) {
                    tracing::warn!("the disk is full: writes without an answer are not kept");
                    return Ok(());
                }
                // What the engines have let go meanwhile is room, and perhaps all there is.
                cut(log, &self.outbox.cuts_wanted(), chores)?;
                tracing::warn!("the disk is full and the log's reserve used up: writes wait");
                std::thread::sleep(RETRY);
            }
            urgency = Urgency::Reserve;
        }
        let took = started.elapsed();
        let (mut bytes_all, mut records_all) = (0, 0);
        for batch in batches {
            batch.inbox.tell(Letter::Durable(batch.through, took));
            bytes_all += bytes(&batch.records);
            records_all += batch.records.len();
        }
        chores.written += bytes_all + FLUSH_BYTES;
        self.shelf.observe(took, bytes_all, records_all);
        if log.is_behind() {
            log.prepare_next().map(drop)
        } else {
            Ok(())
        }
    }
}

/// Reads entries back; what is cut away by now is answered with nothing.
fn give_back(log: &Log, group: GroupId, fetch: Fetch, inbox: &Inbox) -> Result<(), LogError> {
    let Fetch {
        first,
        last,
        bytes_max,
        peer,
    } = fetch;
    let entries = if first < log.first(group) {
        Vec::new()
    } else {
        log.entries(group, first, last, bytes_max)?
    };
    inbox.tell(Letter::Fetched(peer, entries));
    Ok(())
}

fn cut(log: &mut Log, cuts: &[(GroupId, Op)], chores: &mut Chores) -> Result<(), LogError> {
    chores.written = 0;
    chores.is_prepared = false;
    for &(group, through) in cuts {
        // Who was released meanwhile has nothing to cut.
        if log.knows(group) {
            log.cut(group, through).or_else(tolerate_full)?;
        }
    }
    Ok(())
}

fn close(log: Option<Log>) {
    if let Some(Err(error)) = log.map(Log::close) {
        tracing::warn!(%error, "close the log; nothing acknowledged depends on it");
    }
}

/// A cut that finds no room to note itself is tried again with the next one.
fn tolerate_full(error: LogError) -> Result<(), LogError> {
    if matches!(error, LogError::Full { .. }) {
        Ok(())
    } else {
        Err(error)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use bytes::Bytes;
    use holm_base::{ByteCount, ClusterId, NodeId, Term, WriteId};
    use holm_disk::RealFolder;
    use holm_log::LogConfig;
    use holm_machine::{Disk, DiskError, Folder};

    use super::*;

    /// A folder whose disk can be made to have no room for another file.
    #[derive(Debug)]
    struct Filling {
        inner: Arc<dyn Folder>,
        is_full: Arc<AtomicBool>,
    }

    impl Folder for Filling {
        fn create(&self, name: &str, len: ByteCount) -> Result<Box<dyn Disk>, DiskError> {
            if self.is_full.load(Ordering::Relaxed) {
                let attempted = format!("create {name} with {len}");
                return Err(DiskError::Full { attempted });
            }
            self.inner.create(name, len)
        }

        fn open(&self, name: &str) -> Result<Box<dyn Disk>, DiskError> {
            self.inner.open(name)
        }

        fn open_read_only(&self, name: &str) -> Result<Box<dyn Disk>, DiskError> {
            self.inner.open_read_only(name)
        }

        fn rename(&self, from: &str, to: &str) -> Result<(), DiskError> {
            self.inner.rename(from, to)
        }

        fn remove(&self, name: &str) -> Result<(), DiskError> {
            self.inner.remove(name)
        }

        fn list(&self) -> Result<Vec<String>, DiskError> {
            self.inner.list()
        }

        fn sync(&self) -> Result<(), DiskError> {
            self.inner.sync()
        }

        fn free(&self) -> Result<ByteCount, DiskError> {
            self.inner.free()
        }

        fn folder(&self, name: &str) -> Result<Arc<dyn Folder>, DiskError> {
            self.inner.folder(name)
        }
    }

    fn entries(count: u64) -> Vec<Record> {
        let entry = |op| Record::plain(Term::new(1), Op::new(op), Bytes::from(vec![b'x'; 3_000]));
        (1..=count).map(entry).collect()
    }

    #[test]
    fn a_stop_does_not_wait_for_room_that_never_comes() {
        let place = tempfile::tempdir().expect("a place for files");
        let is_full = Arc::new(AtomicBool::new(false));
        let folder = Arc::new(Filling {
            inner: RealFolder::open(place.path()).expect("it was just made"),
            is_full: Arc::clone(&is_full),
        });
        let config = LogConfig {
            segment_bytes: ByteCount::new(16 << 10),
            ..LogConfig::new(ClusterId::new(1), NodeId::new(2))
        };
        let log = Log::open(folder, config).expect("the folder is empty");
        is_full.store(true, Ordering::Relaxed);
        let (outbox, inbox) = (Arc::<Outbox>::default(), Arc::new(Inbox::new(1 << 20)));
        let failure = Failure::new(&inbox, Arc::new(|_: &str| {}));
        let metrics = Arc::new(Metrics::new("0", "0"));
        let shelf = Shelf::new(log, metrics);
        let writer = LogWriter {
            shelf: Arc::new(shelf),
            outbox: Arc::clone(&outbox),
            failure,
        };
        outbox.give_up();
        let mut slot = writer.shelf.lock();
        let log = slot.as_mut().expect("it is open");
        let batch = Batch {
            group: GroupId::new(1),
            records: entries(40),
            through: WriteId::new(40),
            inbox: Arc::clone(&inbox),
        };
        let flushed = writer.flush(log, &[batch], &mut Chores::default());
        flushed.expect("a full disk is no failure");
        drop(slot);
        writer.run();
        let mut told = Vec::new();
        inbox.take(&mut told, Duration::ZERO);
        assert!(told.is_empty(), "nothing was said to be durable: {told:?}");
        assert!(!inbox.is_closed(), "and nothing has failed");
    }
}
