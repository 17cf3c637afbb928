//! The log's thread: one flush at a time, everything that came meanwhile in the next.
//!
//! What would surprise: a write that is alone is not flushed here. The engine does it where it
//! is, by [`Shelf::flush_here`], and saves two hand-overs between threads.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use holm_base::{GroupId, NodeId, Op, WriteId};
use holm_log::{Log, LogError, Preparation, Urgency};
use holm_sequencer::Record;
use holm_telemetry::Metrics;

use crate::inbox::{Inbox, Letter};
use crate::node::Failure;

/// How long to wait before trying again when even the reserve is used up.
const RETRY: Duration = Duration::from_millis(100);
/// How long to sleep at most when there is nothing to do.
const IDLE: Duration = Duration::from_secs(1);

/// After how much writing a cut is not put off any longer: under load that never pauses the log
/// would grow for as long as that lasts.
const CUT_BYTES: u64 = 16 << 20;
/// The least that a flush takes.
const FLUSH_BYTES: u64 = 4096;

#[derive(Debug, Default)]
struct Waiting {
    records: Vec<Record>,
    through: WriteId,
    cut: Op,
    /// What peers lack, oldest first; at most one for each.
    fetches: VecDeque<Fetch>,
    /// Whether something else wrote the log, so that preparing is to be looked at.
    is_used: bool,
    is_stopping: bool,
    is_given_up: bool,
}

/// Entries that a peer lacks and that are in memory no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fetch {
    pub(crate) first: Op,
    pub(crate) last: Op,
    pub(crate) bytes_max: u64,
    pub(crate) peer: NodeId,
}

/// What the engine hands to the log writer. Bounded by what the sequencer lets wait.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    waiting: Mutex<Waiting>,
    bell: Condvar,
}

impl Outbox {
    /// Adds records (draining `records`), of which `through` is the last.
    pub(crate) fn persist(&self, records: &mut Vec<Record>, through: WriteId) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.records.append(records);
        waiting.through = through;
        drop(waiting);
        self.bell.notify_one();
    }

    /// Entries up to `through` are not needed any more. Done when there is nothing to write, or
    /// when much was written meanwhile.
    pub(crate) fn cut(&self, through: Op) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.cut = waiting.cut.max(through);
        drop(waiting);
        self.bell.notify_one();
    }

    /// Reads entries back, and gives them to the engine.
    pub(crate) fn fetch(&self, fetch: Fetch) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.fetches.retain(|it| it.peer != fetch.peer);
        waiting.fetches.push_back(fetch);
        drop(waiting);
        self.bell.notify_one();
    }

    /// Up to where entries are not needed any more.
    fn cut_wanted(&self) -> Op {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.cut
    }

    /// Waits for something to do. Writing comes first, unless a cut was put off for long.
    fn next(&self, chores: &Chores) -> Task {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let is_cut_wanted = waiting.cut > chores.cut;
            if waiting.is_given_up {
                return Task::Stop;
            }
            if is_cut_wanted && chores.written >= CUT_BYTES {
                return Task::Cut(waiting.cut);
            }
            // They take turns with writing: neither waits for the other to end.
            if (waiting.records.is_empty() || !chores.has_fetched)
                && !waiting.is_stopping
                && let Some(fetch) = waiting.fetches.pop_front()
            {
                return Task::Fetch(fetch);
            }
            if !waiting.records.is_empty() {
                let records = core::mem::take(&mut waiting.records);
                return Task::Flush(records, waiting.through);
            }
            if waiting.is_stopping {
                return Task::Stop;
            }
            if is_cut_wanted {
                return Task::Cut(waiting.cut);
            }
            if core::mem::take(&mut waiting.is_used) || !chores.is_prepared {
                return Task::Prepare;
            }
            let (woken, timeout) = self
                .bell
                .wait_timeout(waiting, IDLE)
                .unwrap_or_else(PoisonError::into_inner);
            waiting = woken;
            if timeout.timed_out() {
                return Task::Prepare;
            }
        }
    }

    /// The log was written elsewhere and has fallen behind with preparing.
    fn prepare(&self) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.is_used = true;
        drop(waiting);
        self.bell.notify_one();
    }

    /// Ends the thread once all is written.
    pub(crate) fn stop(&self) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.is_stopping = true;
        drop(waiting);
        self.bell.notify_one();
    }

    /// Ends the thread though not all is written: nobody was told that it is, and nobody waits
    /// for it any more. A write that is under way is finished; one that waits for room is not.
    pub(crate) fn give_up(&self) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.is_given_up = true;
        drop(waiting);
        self.bell.notify_one();
    }

    /// What waits to be flushed, for tests that stand in for the log's thread.
    #[cfg(test)]
    pub(crate) fn take_waiting(&self) -> Option<(Vec<Record>, WriteId)> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let records = core::mem::take(&mut waiting.records);
        (!records.is_empty()).then_some((records, waiting.through))
    }

    pub(crate) fn is_given_up(&self) -> bool {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.is_given_up
    }
}

/// The log, where the engine reaches it too.
#[derive(Debug)]
pub(crate) struct Shelf {
    /// `None` once it is closed.
    log: Mutex<Option<Log>>,
    group: GroupId,
    metrics: Arc<Metrics>,
}

impl Shelf {
    pub(crate) fn new(log: Log, group: GroupId, metrics: Arc<Metrics>) -> Self {
        Self {
            log: Mutex::new(Some(log)),
            group,
            metrics,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Log>> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes records durable on the calling thread, if nobody uses the log and there is room;
    /// whether it did. Only for a caller that knows that no earlier record waits.
    ///
    /// # Errors
    ///
    /// What the disk says; the log then refuses everything.
    pub(crate) fn flush_here(&self, records: &[Record], outbox: &Outbox) -> Result<bool, LogError> {
        let mut slot = match self.log.try_lock() {
            Ok(slot) => slot,
            Err(TryLockError::Poisoned(slot)) => slot.into_inner(),
            Err(TryLockError::WouldBlock) => return Ok(false),
        };
        let Some(log) = slot.as_mut() else {
            return Ok(false);
        };
        let started = Instant::now();
        match log.flush(self.group, records, Urgency::Ordinary) {
            Ok(()) => {}
            // Nothing was written; the log's thread knows how to wait for room.
            Err(LogError::Full { .. }) => return Ok(false),
            Err(error) => return Err(error),
        }
        let is_behind = log.is_behind();
        drop(slot);
        self.observe(started.elapsed(), records);
        if is_behind {
            outbox.prepare();
        }
        Ok(true)
    }

    fn observe(&self, took: Duration, records: &[Record]) {
        let bytes: u64 = records.iter().map(|it| it.body_bytes().value()).sum();
        let disk = &self.metrics.disk;
        disk.wal_fsync_duration.observe(took);
        disk.wal_write_bytes.inc_by(bytes);
        disk.entries_per_sync
            .observe(u32::try_from(records.len()).unwrap_or(u32::MAX));
    }
}

/// The thread's own state.
#[derive(Debug)]
pub(crate) struct LogWriter {
    pub(crate) shelf: Arc<Shelf>,
    pub(crate) outbox: Arc<Outbox>,
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) failure: Failure,
}

/// How far what can be put off has come.
#[derive(Debug, Default)]
struct Chores {
    /// The op that the log was last cut to.
    cut: Op,
    /// Bytes written since.
    written: u64,
    is_prepared: bool,
    /// Whether the last task was to read.
    has_fetched: bool,
}

/// What the writer found to do.
#[derive(Debug)]
enum Task {
    Flush(Vec<Record>, WriteId),
    Cut(Op),
    Fetch(Fetch),
    Prepare,
    Stop,
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
            chores.has_fetched = matches!(task, Task::Fetch(_));
            let result = match task {
                Task::Fetch(fetch) => self.fetch(log, fetch),
                Task::Flush(records, through) => self.flush(log, &records, through, &mut chores),
                Task::Cut(through) => self.cut(log, through, &mut chores),
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

    /// Reads entries back; what is cut away by now is answered with nothing.
    fn fetch(&self, log: &mut Log, fetch: Fetch) -> Result<(), LogError> {
        let Fetch {
            first,
            last,
            bytes_max,
            peer,
        } = fetch;
        let group = self.shelf.group;
        let entries = if first < log.first(group) {
            Vec::new()
        } else {
            log.entries(group, first, last, bytes_max)?
        };
        self.inbox.tell(Letter::Fetched(peer, entries));
        Ok(())
    }

    fn cut(&self, log: &mut Log, through: Op, chores: &mut Chores) -> Result<(), LogError> {
        *chores = Chores {
            cut: through,
            written: 0,
            is_prepared: false,
            has_fetched: chores.has_fetched,
        };
        log.cut(self.shelf.group, through).or_else(tolerate_full)
    }

    fn flush(
        &self,
        log: &mut Log,
        records: &[Record],
        through: WriteId,
        chores: &mut Chores,
    ) -> Result<(), LogError> {
        let started = Instant::now();
        let mut urgency = Urgency::Ordinary;
        while let Err(error) = log.flush(self.shelf.group, records, urgency) {
            if !matches!(error, LogError::Full { .. }) {
                return Err(error);
            }
            if matches!(urgency, Urgency::Reserve) {
                if self.outbox.is_given_up() {
                    tracing::warn!("the disk is full: writes without an answer are not kept");
                    return Ok(());
                }
                // What the engine has let go meanwhile is room, and perhaps all there is.
                self.cut(log, self.outbox.cut_wanted(), chores)?;
                tracing::warn!("the disk is full and the log's reserve used up: writes wait");
                std::thread::sleep(RETRY);
            }
            urgency = Urgency::Reserve;
        }
        let took = started.elapsed();
        self.inbox.tell(Letter::Durable(through, took));
        let bytes: u64 = records.iter().map(|it| it.body_bytes().value()).sum();
        chores.written += bytes + FLUSH_BYTES;
        self.shelf.observe(took, records);
        if log.is_behind() {
            log.prepare_next().map(drop)
        } else {
            Ok(())
        }
    }
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
    use holm_base::{ByteCount, ClusterId, Term};
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
        let (outbox, inbox) = (Arc::default(), Arc::new(Inbox::new(1 << 20)));
        let failure = Failure::new(Arc::clone(&inbox), Arc::new(|_: &str| {}));
        let metrics = Arc::new(Metrics::new("0", "0"));
        let shelf = Shelf::new(log, GroupId::new(1), metrics);
        let writer = LogWriter {
            shelf: Arc::new(shelf),
            outbox: Arc::clone(&outbox),
            inbox: Arc::clone(&inbox),
            failure,
        };
        outbox.give_up();
        let mut slot = writer.shelf.lock();
        let log = slot.as_mut().expect("it is open");
        let (records, chores) = (entries(40), &mut Chores::default());
        let flushed = writer.flush(log, &records, WriteId::new(40), chores);
        flushed.expect("a full disk is no failure");
        drop(slot);
        writer.run();
        let mut told = Vec::new();
        inbox.take(&mut told, Duration::ZERO);
        assert!(told.is_empty(), "nothing was said to be durable: {told:?}");
        assert!(!inbox.is_closed(), "and nothing has failed");
    }

    #[test]
    fn what_is_given_up_is_not_written_later() {
        let outbox = busy();
        outbox.give_up();
        assert!(matches!(outbox.next(&Chores::default()), Task::Stop));
    }

    /// An outbox with something to write and something to cut.
    fn busy() -> Outbox {
        let outbox = Outbox::default();
        let term = Term::new(1);
        outbox.persist(&mut vec![Record::of_term(term)], WriteId::new(1));
        outbox.cut(Op::new(7));
        outbox
    }

    #[test]
    fn writing_comes_before_a_cut() {
        let outbox = busy();
        let chores = Chores::default();
        assert!(matches!(outbox.next(&chores), Task::Flush(..)));
        assert!(matches!(outbox.next(&chores), Task::Cut(through) if through == Op::new(7)));
    }

    #[test]
    fn a_cut_does_not_wait_for_an_idle_moment_for_ever() {
        let outbox = busy();
        let mut chores = Chores {
            written: CUT_BYTES,
            ..Chores::default()
        };
        assert!(matches!(outbox.next(&chores), Task::Cut(through) if through == Op::new(7)));
        chores.cut = Op::new(7);
        assert!(matches!(outbox.next(&chores), Task::Flush(..)));
    }
}
