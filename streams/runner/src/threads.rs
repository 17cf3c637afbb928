//! A stream on threads: one that keeps it, one that encodes, one for the log, one for snapshots,
//! and one for each source and sink. Here is what the outside has of them.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use holm_engine::{Counts, Gauge, Repeated};
use holm_lanes::Batch;
use holm_machine::Folder;

use crate::cut::LogPoint;
use crate::desk::Desk;
use crate::error::RunnerError;
use crate::job::{Aside, Ends, Job, Settings};
use crate::mail::Mail;
use crate::recover::{Spent, open};
use crate::waiting::{Post, hold};

/// What a stream is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It comes back.
    Recovering,
    /// It runs.
    Running,
    /// Its sources wait, and why.
    Waiting(String),
    /// It was told to pause.
    Paused,
    /// Its sources have ended, and all of it is with the sinks.
    Complete,
    /// It was told to stop.
    Stopped,
    /// It cannot go on, and why.
    Failed(String),
}

/// How a stream is.
#[derive(Clone, Debug)]
pub struct Status {
    /// What it is doing.
    pub phase: Phase,
    /// Rows by what became of them, of all queries.
    pub counts: Counts,
    /// The same of each query, without lines that were no rows.
    pub queries: Vec<Counts>,
    /// The watermark of each source, in microseconds since 1970.
    pub marks: Vec<i64>,
    /// Whether each source is left out of watermarks.
    pub is_idle: Vec<bool>,
    /// Rows that came out of each query.
    pub outputs: Vec<u64>,
    /// How many of them each sink has.
    pub committed: Vec<u64>,
    /// The last record of the log.
    pub records: u64,
    /// Bytes of the log.
    pub log_bytes: u64,
    /// Bytes that were logged since it was started, and rows that came since then.
    pub logged: (u64, u64),
    /// For each source where its rows are logged, if they are.
    pub log_points: Vec<Option<LogPoint>>,
    /// Rows of sources that came again, where tables say what tells them apart.
    pub repeated: Vec<Repeated>,
    /// How much its windows keep.
    pub gauge: Gauge,
    /// For how long rows were run.
    pub busy: Duration,
    /// Bytes that were taken and not yet run.
    pub credit_bytes: usize,
    /// The record of the last snapshot, and its bytes.
    pub snapshot: (u64, u64),
    /// What it took to come back.
    pub recovered: Spent,
    /// The last rows that were set aside.
    pub asides: Vec<Aside>,
}

impl Status {
    fn new(queries: usize, sources: usize, sinks: usize) -> Self {
        Self {
            phase: Phase::Recovering,
            counts: Counts::default(),
            queries: vec![Counts::default(); queries],
            marks: vec![i64::MIN; sources],
            is_idle: vec![false; sources],
            outputs: vec![0; queries],
            committed: vec![0; sinks],
            records: 0,
            log_bytes: 0,
            logged: (0, 0),
            log_points: vec![None; sources],
            repeated: Vec::new(),
            gauge: Gauge::default(),
            busy: Duration::ZERO,
            credit_bytes: 0,
            snapshot: (0, 0),
            recovered: Spent::default(),
            asides: Vec::new(),
        }
    }
}

/// Rows that were set aside, as whoever started the stream hears of them.
pub type Listener = Box<dyn FnMut(Vec<Aside>) + Send>;

/// What the outside tells a stream.
#[derive(Debug, Default)]
pub(crate) struct Orders {
    pub(crate) is_stopped: AtomicBool,
    pub(crate) is_paused: AtomicBool,
    pub(crate) is_draining: AtomicBool,
}

/// A stream that runs.
#[derive(Debug)]
pub struct Handle {
    orders: Arc<Orders>,
    status: Arc<Mutex<Status>>,
    mail: Arc<Post<Mail>>,
    thread: Option<JoinHandle<()>>,
}

impl Handle {
    /// How it is.
    #[must_use]
    pub fn status(&self) -> Status {
        hold(&self.status).clone()
    }

    /// Takes no more rows until it is resumed.
    pub fn pause(&self, is_paused: bool) {
        self.orders.is_paused.store(is_paused, Ordering::SeqCst);
        self.mail.push(Mail::Look);
    }

    /// Ends its sources, so that all windows close and all rows go to the sinks.
    pub fn drain(&self) {
        self.orders.is_draining.store(true, Ordering::SeqCst);
        self.mail.push(Mail::Look);
    }

    /// Tells it to stop; it will go on where it stopped.
    pub fn stop(&self) {
        self.orders.is_stopped.store(true, Ordering::SeqCst);
        self.mail.push(Mail::Look);
    }

    /// Whether it has ended.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Waits until it has ended, and says how.
    #[must_use]
    pub fn join(mut self) -> Phase {
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            return Phase::Failed("its thread has panicked".to_owned());
        }
        self.status().phase
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The rows of the tables that a plan looks up.
pub type TableRows = Box<dyn FnMut() -> Result<Vec<Batch>, RunnerError> + Send>;

/// Starts a stream in its folder. Threads come back from the disk by themselves; its status says
/// when it runs, and why it does not.
#[must_use]
pub fn start(
    folder: Arc<dyn Folder>,
    job: Job,
    ends: Ends,
    settings: Settings,
    tables: TableRows,
    listener: Listener,
) -> Handle {
    let orders = Arc::new(Orders::default());
    let status = Status::new(job.plans.len(), ends.sources.len(), ends.sinks.len());
    let status = Arc::new(Mutex::new(status));
    let mail = Arc::new(Post::default());
    let seen = (Arc::clone(&orders), Arc::clone(&status), Arc::clone(&mail));
    let thread = thread::spawn(move || {
        let (orders, status, mail) = seen;
        let ended = live(
            (&folder, &job, settings),
            ends,
            (tables, listener),
            (&orders, &status, &mail),
        );
        hold(&status).phase = ended.unwrap_or_else(|error| match error {
            RunnerError::Stopped => Phase::Stopped,
            error => Phase::Failed(error.to_string()),
        });
    });
    Handle {
        orders,
        status,
        mail,
        thread: Some(thread),
    }
}

type Shared<'a> = (&'a Arc<Orders>, &'a Arc<Mutex<Status>>, &'a Arc<Post<Mail>>);

fn live(
    (folder, job, settings): (&Arc<dyn Folder>, &Job, Settings),
    ends: Ends,
    (mut tables, listener): (TableRows, Listener),
    (orders, status, mail): Shared<'_>,
) -> Result<Phase, RunnerError> {
    let begun = Instant::now();
    let is_stopped = || orders.is_stopped.load(Ordering::SeqCst);
    let opened = open(folder, job, ends, &settings, (&mut *tables, &is_stopped))?;
    {
        let mut status = hold(status);
        status.recovered = opened.spent;
        status.phase = Phase::Running;
    }
    let mut desk = Desk::new(folder, opened, settings, (begun, listener), mail);
    let ended = desk.serve(orders, status);
    desk.close();
    desk.show(status, None);
    ended
}
