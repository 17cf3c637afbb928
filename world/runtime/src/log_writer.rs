//! The log's thread: one flush at a time, everything that came meanwhile in the next.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
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

    /// Entries up to `through` are not needed any more. Done when there is nothing to write, or
    /// when much was written meanwhile.
    pub(crate) fn cut(&self, through: Op) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.cut = waiting.cut.max(through);
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
            if is_cut_wanted && chores.written >= CUT_BYTES {
                return Task::Cut(waiting.cut);
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
            if !chores.is_prepared {
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

    /// Ends the thread once all is written.
    pub(crate) fn stop(&self) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.is_stopping = true;
        drop(waiting);
        self.bell.notify_one();
    }
}

/// The thread's own state.
#[derive(Debug)]
pub(crate) struct LogWriter {
    pub(crate) log: Log,
    pub(crate) group: GroupId,
    pub(crate) outbox: Arc<Outbox>,
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) metrics: Arc<Metrics>,
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
}

/// What the writer found to do.
#[derive(Debug)]
enum Task {
    Flush(Vec<Record>, WriteId),
    Cut(Op),
    Prepare,
    Stop,
}

impl LogWriter {
    /// Runs until it is stopped or the disk fails.
    pub(crate) fn run(mut self) {
        let mut chores = Chores::default();
        loop {
            let result = match self.outbox.next(&chores) {
                Task::Flush(records, through) => self.flush(&records, through, &mut chores),
                Task::Cut(through) => self.cut(through, &mut chores),
                Task::Prepare => self.log.prepare_next().map(|done| {
                    chores.is_prepared = done != Preparation::More;
                }),
                Task::Stop => return self.close(),
            };
            chores.is_prepared &= !self.log.is_behind();
            if let Err(error) = result {
                self.failure.report("write the log", &error);
                return;
            }
        }
    }

    fn cut(&mut self, through: Op, chores: &mut Chores) -> Result<(), LogError> {
        *chores = Chores {
            cut: through,
            written: 0,
            is_prepared: false,
        };
        self.log.cut(self.group, through).or_else(tolerate_full)
    }

    fn flush(
        &mut self,
        records: &[Record],
        through: WriteId,
        chores: &mut Chores,
    ) -> Result<(), LogError> {
        let started = Instant::now();
        let mut urgency = Urgency::Ordinary;
        while let Err(error) = self.log.flush(self.group, records, urgency) {
            if !matches!(error, LogError::Full { .. }) {
                return Err(error);
            }
            if matches!(urgency, Urgency::Reserve) {
                // What the engine has let go meanwhile is room, and perhaps all there is.
                self.cut(self.outbox.cut_wanted(), chores)?;
                tracing::warn!("the disk is full and the log's reserve used up: writes wait");
                std::thread::sleep(RETRY);
            }
            urgency = Urgency::Reserve;
        }
        let took = started.elapsed();
        self.inbox.tell(Letter::Durable(through, took));
        let bytes: u64 = records.iter().map(|it| it.body_bytes().value()).sum();
        chores.written += bytes + FLUSH_BYTES;
        let disk = &self.metrics.disk;
        disk.wal_fsync_duration.observe(took);
        disk.wal_write_bytes.inc_by(bytes);
        disk.entries_per_sync
            .observe(u32::try_from(records.len()).unwrap_or(u32::MAX));
        if self.log.is_behind() {
            self.log.prepare_next().map(drop)
        } else {
            Ok(())
        }
    }

    fn close(self) {
        if let Err(error) = self.log.close() {
            tracing::warn!(%error, "close the log; nothing acknowledged depends on it");
        }
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
    use holm_base::Term;

    use super::*;

    /// An outbox with something to write and something to cut.
    fn busy() -> Outbox {
        let outbox = Outbox::default();
        let term = Term::new(1);
        outbox.persist(&mut vec![Record::Hard { term }], WriteId::new(1));
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
