//! The log's thread: one flush at a time, everything that came meanwhile in the next.
//!
//! What would surprise: a write that is alone is not flushed here. The engine does it where it
//! is, by [`Shelf::flush_here`], and saves two hand-overs between threads.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use holm_base::{GroupId, Op, WriteId};
use holm_log::{Log, LogError, Preparation, Urgency};
use holm_sequencer::Record;
use holm_telemetry::Metrics;

use crate::inbox::{Inbox, Letter};
use crate::node::Failure;

/// How long to wait before trying again when even the reserve is used up.
const RETRY: Duration = Duration::from_millis(100);
/// How long to sleep at most when there is nothing to do.
const IDLE: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
struct Waiting {
    records: Vec<Record>,
    through: WriteId,
    cut: Op,
    /// Whether something else wrote the log, so that preparing is to be looked at.
    is_used: bool,
    is_stopping: bool,
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

    /// Entries up to `through` are not needed any more. Done when there is nothing to write.
    pub(crate) fn cut(&self, through: Op) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.cut = waiting.cut.max(through);
        drop(waiting);
        self.bell.notify_one();
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
        self.observe(started, records);
        if is_behind {
            outbox.prepare();
        }
        Ok(true)
    }

    fn observe(&self, started: Instant, records: &[Record]) {
        let bytes: u64 = records.iter().map(|it| it.body_bytes().value()).sum();
        let disk = &self.metrics.disk;
        disk.wal_fsync_duration.observe(started.elapsed());
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

/// What the writer found to do.
enum Task {
    Flush(Vec<Record>, WriteId),
    Cut(Op),
    Prepare,
    Stop,
}

impl LogWriter {
    /// Runs until it is stopped or the disk fails.
    pub(crate) fn run(self) {
        let mut cut = Op::ZERO;
        let mut is_prepared = false;
        loop {
            let task = self.next(cut, is_prepared);
            let mut slot = self.shelf.lock();
            let Some(log) = slot.as_mut() else {
                return;
            };
            let result = match task {
                Task::Flush(records, through) => self.flush(log, &records, through),
                Task::Cut(through) => {
                    cut = through;
                    is_prepared = false;
                    log.cut(self.shelf.group, through).or_else(tolerate_full)
                }
                Task::Prepare => log.prepare_next().map(|done| {
                    is_prepared = done != Preparation::More;
                }),
                Task::Stop => return close(slot.take()),
            };
            is_prepared &= !log.is_behind();
            if let Err(error) = result {
                self.failure.report("write the log", &error);
                return;
            }
        }
    }

    /// Waits for something to do. Writing comes first, unless preparing has fallen behind.
    fn next(&self, cut: Op, is_prepared: bool) -> Task {
        let mut waiting = self
            .outbox
            .waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        loop {
            if !waiting.records.is_empty() {
                let records = core::mem::take(&mut waiting.records);
                return Task::Flush(records, waiting.through);
            }
            if waiting.is_stopping {
                return Task::Stop;
            }
            if waiting.cut > cut {
                return Task::Cut(waiting.cut);
            }
            if core::mem::take(&mut waiting.is_used) || !is_prepared {
                return Task::Prepare;
            }
            let (woken, timeout) = self
                .outbox
                .bell
                .wait_timeout(waiting, IDLE)
                .unwrap_or_else(PoisonError::into_inner);
            waiting = woken;
            if timeout.timed_out() {
                return Task::Prepare;
            }
        }
    }

    fn flush(&self, log: &mut Log, records: &[Record], through: WriteId) -> Result<(), LogError> {
        let started = Instant::now();
        let mut urgency = Urgency::Ordinary;
        while let Err(error) = log.flush(self.shelf.group, records, urgency) {
            if !matches!(error, LogError::Full { .. }) {
                return Err(error);
            }
            if matches!(urgency, Urgency::Reserve) {
                tracing::warn!("the disk is full and the log's reserve used up: writes wait");
                std::thread::sleep(RETRY);
            }
            urgency = Urgency::Reserve;
        }
        self.inbox.tell(Letter::Durable(through));
        self.shelf.observe(started, records);
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
