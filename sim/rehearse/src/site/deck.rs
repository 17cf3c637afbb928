//! A node's disk: the real log over the virtual storage, and what a crash leaves of both.
//!
//! What would surprise: the log belongs to the disk, not to the node, since it is flushed when
//! the world says so, and the node reads from it and cuts it. Background jobs wait here too: a
//! crash may strike in the middle of one.

use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use holm_base::{GroupId, NodeId, Op, Term, Time, WriteId};
use holm_kv::{Job, JobDone};
use holm_log::{Log, LogError, Preparation, Urgency};
use holm_machine::DiskError;
use holm_sequencer::{Form, Record};
use holm_virtual::{Storage, Survival, Tape, Unsynced};

use super::journal::Journal;
use super::seat::Seat;
use super::{Engine, Stored};
use crate::disk::{Drive, Jobs};

/// The one keyspace's group.
pub(crate) const GROUP: GroupId = GroupId::new(1);

/// What a node keeps its records on.
#[derive(Debug)]
pub(crate) enum Shelf {
    Deck(Deck),
    Journal(Journal),
}

impl Shelf {
    pub(crate) fn new(engine: Engine) -> Self {
        match engine {
            Engine::Store => Self::Deck(Deck::new()),
            Engine::Table => Self::Journal(Journal::default()),
        }
    }

    /// How many entries [`Shelf::damage`] could lose.
    pub(crate) fn loose(&self) -> usize {
        match self {
            Self::Deck(_) => 0,
            Self::Journal(journal) => journal.loose(),
        }
    }

    /// Loses up to `count` of the newest entries, as damage that a start notices.
    pub(crate) fn damage(&mut self, count: usize) -> usize {
        match self {
            Self::Deck(_) => 0,
            Self::Journal(journal) => journal.damage(count),
        }
    }

    /// What its disk holds while its node is down, to be put back later; none of a table.
    pub(crate) fn image(&self) -> Option<Image> {
        match self {
            Self::Deck(deck) => Some(Image(deck.storage().fork())),
            Self::Journal(_) => None,
        }
    }

    /// What the table of sites says to its node, from its next start on.
    pub(crate) fn tell_seat(&self, seat: Seat) {
        match self {
            Self::Deck(deck) => deck.held().seat = Some(seat),
            Self::Journal(_) => {}
        }
    }

    /// Puts an older copy in the place of all that a node has which is down.
    pub(crate) fn set_back(&mut self, image: &Image) {
        match self {
            Self::Deck(deck) => deck.held().drive.replace(image.0.fork()),
            Self::Journal(_) => {}
        }
    }
}

/// A copy of a node's disk.
#[derive(Clone, Debug)]
pub(crate) struct Image(Storage);

impl Default for Shelf {
    fn default() -> Self {
        Self::new(Engine::Store)
    }
}

/// The disk and what is about to happen to it, shared by the world and the node.
#[derive(Clone, Debug)]
pub(crate) struct Deck {
    held: Arc<Mutex<Held>>,
}

#[derive(Debug)]
struct Held {
    drive: Drive,
    /// None while the node is down.
    log: Option<Log>,
    unsynced: Unsynced<Record>,
    /// Ops through here may go, and went.
    cut: (Op, Op),
    is_prepared: bool,
    /// What the table of sites says of its island, if it has said anything.
    seat: Option<Seat>,
    /// Jobs under way, and when they end.
    jobs: Jobs<Job>,
}

impl Deck {
    fn new() -> Self {
        let held = Held {
            drive: Drive::default(),
            log: None,
            unsynced: Unsynced::default(),
            cut: (Op::ZERO, Op::ZERO),
            is_prepared: false,
            seat: None,
            jobs: Jobs::default(),
        };
        Self {
            held: Arc::new(Mutex::new(held)),
        }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn storage(&self) -> Storage {
        self.held().drive.storage().clone()
    }

    /// What the table of sites says of its island, if it has said anything.
    pub(crate) fn seat(&self) -> Option<Seat> {
        self.held().seat.clone()
    }

    /// The disk has no room for more than it holds, or has it again.
    pub(crate) fn set_full(&self, is_full: bool) {
        self.held().drive.set_full(is_full);
    }

    pub(crate) fn is_full(&self) -> bool {
        self.held().drive.is_full()
    }

    /// What was not synced is gone.
    pub(crate) fn turn_off(&self) {
        self.held().drive.reopen(Survival::Drop);
    }

    /// The log was opened.
    pub(crate) fn hold(&self, log: Log) {
        let mut held = self.held();
        held.cut = (Op::ZERO, Op::ZERO);
        held.is_prepared = false;
        held.log = Some(log);
    }

    /// Entries from the log; none if they are not there.
    pub(crate) fn entries(
        &self,
        (first, last): (Op, Op),
        bytes_max: u64,
    ) -> Result<Vec<(Term, Op, Form, Bytes)>, LogError> {
        let held = self.held();
        let log = held.log.as_ref().expect("it is open while its node is up");
        if first < log.first(GROUP) {
            return Ok(Vec::new());
        }
        log.entries(GROUP, first, last, bytes_max)
    }

    /// Entries through here may go, once there is time.
    pub(crate) fn cut(&self, through: Op) {
        self.held().cut.0 = through;
    }

    /// A job begins, and will end then.
    pub(crate) fn begin(&self, ends: Time, job: Job) {
        self.held().jobs.begin(ends, job);
    }

    /// When the next job ends.
    pub(crate) fn job_ends(&self) -> Option<Time> {
        self.held().jobs.ends()
    }

    /// Carries out a job that ends by now.
    pub(crate) fn run(&self, now: Time) -> Option<JobDone> {
        let job = self.held().jobs.done(now);
        job.map(Job::run)
    }
}

impl Held {
    /// Records for which there is no room wait where they are.
    fn sync(&mut self, through: WriteId) -> Result<(), LogError> {
        let records: Vec<Record> = self.unsynced.through(through).cloned().collect();
        let flushed = self.flush(&records);
        if !matches!(flushed, Err(LogError::Full { .. })) {
            drop(self.unsynced.take(through));
        }
        flushed
    }

    fn flush(&mut self, records: &[Record]) -> Result<(), LogError> {
        let Some(log) = &mut self.log else {
            return Ok(());
        };
        if !records.is_empty() {
            let mut flushed = log.flush(GROUP, records, Urgency::Ordinary);
            if matches!(flushed, Err(LogError::Full { .. })) {
                flushed = log.flush(GROUP, records, Urgency::Reserve);
            }
            if matches!(flushed, Err(LogError::Full { .. })) && self.cut.0 <= log.last(GROUP) {
                // What the engine has let go meanwhile is room, and perhaps all there is.
                log.cut(GROUP, self.cut.0).or_else(tolerate_full)?;
            }
            flushed?;
        }
        // What can be put off, as the log's thread does it between flushes.
        if self.cut.0 > self.cut.1 && self.cut.0 <= log.last(GROUP) {
            self.cut.1 = self.cut.0;
            self.is_prepared = false;
            log.cut(GROUP, self.cut.0).or_else(tolerate_full)?;
        }
        if log.is_behind() || !self.is_prepared {
            self.is_prepared = log.prepare_next()? != Preparation::More;
        }
        Ok(())
    }

    /// The node ends, in the middle of whatever was under way.
    fn crash(&mut self, tape: &mut Tape) {
        let kept: Vec<Record> = self.unsynced.crash(tape).collect();
        if !kept.is_empty() {
            self.drive.tear(tape);
            // Whether it was written whole, the next start finds out.
            self.flush(&kept).ok();
        }
        for job in self.jobs.take() {
            if self.drive.interrupt(tape) {
                drop(job.run());
            }
        }
        self.log = None;
        self.drive.survive(tape);
    }
}

impl holm_virtual::Shelf<Stored> for Shelf {
    fn append(&mut self, records: Vec<(WriteId, Stored)>) -> Result<(), DiskError> {
        match self {
            Self::Deck(deck) => {
                let own = records
                    .into_iter()
                    .filter_map(|(write, record)| match record {
                        Stored::Store(record) => Some((write, record)),
                        Stored::Table(_) => None,
                    });
                deck.held().unsynced.append(own.collect());
                Ok(())
            }
            Self::Journal(journal) => {
                let own = records
                    .into_iter()
                    .filter_map(|(write, record)| match record {
                        Stored::Table(record) => Some((write, record)),
                        Stored::Store(_) => None,
                    });
                journal.append(own.collect())
            }
        }
    }

    fn sync(&mut self, through: WriteId) -> Result<(), DiskError> {
        match self {
            Self::Deck(deck) => deck.held().sync(through).map_err(|error| {
                let attempted = format!("sync records through {through}");
                if matches!(error, LogError::Full { .. }) {
                    return DiskError::Full { attempted };
                }
                DiskError::Failed {
                    attempted,
                    reason: error.to_string(),
                }
            }),
            Self::Journal(journal) => journal.sync(through),
        }
    }

    fn crash(&mut self, tape: &mut Tape) {
        match self {
            Self::Deck(deck) => deck.held().crash(tape),
            Self::Journal(journal) => journal.crash(tape),
        }
    }

    fn records(&self) -> Vec<Stored> {
        match self {
            // The log is opened by its node, which reads them.
            Self::Deck(_) => Vec::new(),
            Self::Journal(journal) => journal.records().into_iter().map(Stored::Table).collect(),
        }
    }

    fn fail_next_sync(&mut self) {
        match self {
            Self::Deck(deck) => deck.held().drive.storage().fail_next_sync(),
            Self::Journal(journal) => journal.fail_next_sync(),
        }
    }

    fn set_full(&mut self, is_full: bool) {
        match self {
            Self::Deck(deck) => deck.set_full(is_full),
            Self::Journal(_) => unreachable!("a scenario with a table is refused such a fault"),
        }
    }

    fn heal(&mut self) {
        match self {
            Self::Deck(deck) => deck.held().drive.heal(),
            Self::Journal(journal) => journal.heal(),
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

/// Hashes a record as what it says.
pub(crate) fn record_hash<H: Hasher>(record: &Record, state: &mut H) {
    match record {
        Record::Entry {
            term,
            op,
            form,
            body,
        } => (0_u8, term, op, form, body).hash(state),
        Record::Hard {
            term,
            vote,
            is_recovering,
        } => (1_u8, term, vote.map(NodeId::value), is_recovering).hash(state),
        Record::CutTo { last } => (2_u8, last).hash(state),
        Record::Installed {
            term,
            op,
            is_suffix_kept,
            body,
        } => (3_u8, term, op, is_suffix_kept, body).hash(state),
    }
}
