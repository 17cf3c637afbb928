//! A stream on threads: one that keeps it, one for the log, one for snapshots, and one for each
//! source and sink.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use holm_base::{Time, WriteId};
use holm_connect::{Position, Reader, Sink, SinkError, Source, SourceError, Taken};
use holm_durable::{Entry, Log, LogError, keep};
use holm_engine::Counts;
use holm_lanes::Batch;
use holm_machine::{DiskError, Folder};

use crate::error::RunnerError;
use crate::job::{Aside, Ends, Job, Settings};
use crate::keeper::{Arrived, Commit, Keeper, Save, wide};
use crate::recover::{Opened, open};
use crate::saved;
use crate::waiting::{Credit, Post, hold};

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
    /// Rows by what became of them.
    pub counts: Counts,
    /// The watermark of each source, in microseconds since 1970.
    pub marks: Vec<i64>,
    /// Rows that came out.
    pub output: u64,
    /// How many of them each sink has.
    pub committed: Vec<u64>,
    /// The last record of the log.
    pub records: u64,
    /// Bytes of the log.
    pub log_bytes: u64,
    /// Bytes that were taken and not yet run.
    pub credit_bytes: usize,
    /// The record of the last snapshot, and its bytes.
    pub snapshot: (u64, u64),
    /// How long it took to come back, and how many records were run again.
    pub recovered: (Duration, u64),
    /// The last rows that were set aside.
    pub asides: Vec<Aside>,
}

impl Status {
    fn new(sources: usize, sinks: usize) -> Self {
        Self {
            phase: Phase::Recovering,
            counts: Counts::default(),
            marks: vec![i64::MIN; sources],
            output: 0,
            committed: vec![0; sinks],
            records: 0,
            log_bytes: 0,
            credit_bytes: 0,
            snapshot: (0, 0),
            recovered: (Duration::ZERO, 0),
            asides: Vec::new(),
        }
    }
}

/// Rows that were set aside, as whoever started the stream hears of them.
pub type Listener = Box<dyn FnMut(Vec<Aside>) + Send>;

/// How many set-aside rows a status shows.
const SHOWN: usize = 20;
/// How long a stream that is told to stop waits for its sinks.
const PARTING: Duration = Duration::from_secs(5);
/// How often a full log is tried again.
const FULL_RETRY: Duration = Duration::from_millis(500);

/// What the outside tells a stream.
#[derive(Debug, Default)]
struct Orders {
    is_stopped: AtomicBool,
    is_paused: AtomicBool,
    is_draining: AtomicBool,
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

/// What a thread tells the keeper.
#[derive(Debug)]
enum Mail {
    Look,
    Taken {
        source: usize,
        arrived: Arrived,
        bytes: usize,
    },
    /// A source has nothing for now.
    Idle {
        source: usize,
    },
    /// A source's thread takes no more.
    Gone {
        source: usize,
    },
    SourceFailed(SourceError),
    SourceWaits(String),
    Flushed {
        entries: Vec<Entry>,
        write: WriteId,
        ended: Result<u64, LogError>,
    },
    Put {
        sink: usize,
        output: u64,
        ended: Result<(), SinkError>,
    },
    SinkWaits {
        sink: usize,
        why: String,
    },
    Saved {
        through: u64,
        bytes: u64,
        committed: Vec<u64>,
        ended: Result<(), DiskError>,
    },
    Truncated(Result<(), LogError>),
}

enum LogWork {
    Append(Vec<Entry>, WriteId),
    Truncate(u64),
}

enum FileWork {
    Save(Save),
    Forget(String),
}

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
    let status = Status::new(ends.sources.len(), ends.sinks.len());
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
        status.recovered = (begun.elapsed(), opened.replayed);
        status.phase = Phase::Running;
    }
    let mut desk = Desk::new(folder, opened, settings, (begun, listener), mail);
    let ended = desk.serve(orders, status);
    desk.close();
    desk.show(status, None);
    ended
}

/// The thread that keeps a stream, with the posts of the others.
struct Desk {
    keeper: Keeper,
    settings: Settings,
    begun: Instant,
    listener: Listener,
    mail: Arc<Post<Mail>>,
    credit: Arc<Credit>,
    threads: Vec<JoinHandle<()>>,
    heard: Vec<Arc<Post<Position>>>,
    log: Arc<Post<LogWork>>,
    files: Arc<Post<FileWork>>,
    sinks: Vec<Arc<Post<Commit>>>,
    /// For each source what it gave and the keeper has not taken.
    taken: Vec<VecDeque<(Arrived, usize)>>,
    is_idle: Vec<bool>,
    is_gone: Vec<bool>,
    is_flushing: bool,
    /// What found the log full, and when it is tried again.
    unflushed: Option<(Vec<Entry>, WriteId, Instant)>,
    is_putting: Vec<bool>,
    /// Bytes of batches that are not yet durable.
    undurable: usize,
    flushing: usize,
    waits: Option<String>,
    log_bytes: u64,
    snapshot: (u64, u64),
    asides: VecDeque<Aside>,
    shown_at: Instant,
}

impl Desk {
    fn new(
        folder: &Arc<dyn Folder>,
        opened: Opened,
        settings: Settings,
        (begun, listener): (Instant, Listener),
        mail: &Arc<Post<Mail>>,
    ) -> Self {
        let Opened {
            keeper,
            log,
            ends,
            readers,
            ..
        } = opened;
        let (sources, sinks) = (ends.sources.len(), ends.sinks.len());
        let mut desk = Self {
            settings,
            begun,
            listener,
            mail: Arc::clone(mail),
            credit: Arc::new(Credit::new(settings.credit_bytes)),
            threads: Vec::new(),
            heard: Vec::new(),
            log: Arc::default(),
            files: Arc::default(),
            sinks: Vec::new(),
            taken: (0..sources).map(|_| VecDeque::new()).collect(),
            is_idle: vec![false; sources],
            is_gone: vec![false; sources],
            is_flushing: false,
            unflushed: None,
            is_putting: vec![false; sinks],
            undurable: 0,
            flushing: 0,
            waits: None,
            log_bytes: log.bytes(),
            snapshot: (0, 0),
            asides: VecDeque::new(),
            shown_at: begun,
            keeper,
        };
        desk.spawn_disk(folder, log);
        for (number, sink) in ends.sinks.into_iter().enumerate() {
            let (post, mail) = (Arc::<Post<Commit>>::default(), Arc::clone(mail));
            desk.sinks.push(Arc::clone(&post));
            let work = move || serve_sink(sink, number, &post, &mail);
            desk.threads.push(thread::spawn(work));
        }
        for ((number, source), reader) in ends.sources.into_iter().enumerate().zip(readers) {
            let post = Arc::<Post<Position>>::default();
            desk.heard.push(Arc::clone(&post));
            if desk.keeper.is_over(number) {
                continue;
            }
            let (mail, credit) = (Arc::clone(mail), Arc::clone(&desk.credit));
            let piece = settings.piece_bytes;
            let work = move || {
                let ends = (source, reader);
                serve_source(ends, (number, piece), &post, &mail, &credit);
            };
            desk.threads.push(thread::spawn(work));
        }
        desk
    }

    fn spawn_disk(&mut self, folder: &Arc<dyn Folder>, mut log: Log) {
        let (post, mail) = (Arc::clone(&self.log), Arc::clone(&self.mail));
        self.threads.push(thread::spawn(move || {
            while let Some(work) = post.pop() {
                match work {
                    LogWork::Append(entries, write) => {
                        let ended = log.append(&entries).map(|()| log.bytes());
                        mail.push(Mail::Flushed {
                            entries,
                            write,
                            ended,
                        });
                    }
                    LogWork::Truncate(below) => mail.push(Mail::Truncated(log.truncate(below))),
                }
            }
        }));
        let (post, mail) = (Arc::clone(&self.files), Arc::clone(&self.mail));
        let folder = Arc::clone(folder);
        self.threads.push(thread::spawn(move || {
            while let Some(work) = post.pop() {
                match work {
                    FileWork::Save(save) => {
                        let ended = keep(&*folder, &save.name, saved::KIND, &save.body);
                        mail.push(Mail::Saved {
                            through: save.through,
                            bytes: wide(save.body.len()),
                            committed: save.committed,
                            ended,
                        });
                    }
                    // One that is left behind is found and let go another time.
                    FileWork::Forget(name) => drop(folder.remove(&name)),
                }
            }
        }));
    }

    fn now(&self) -> Time {
        let nanos = self.begun.elapsed().as_nanos();
        Time::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    fn serve(&mut self, orders: &Orders, status: &Mutex<Status>) -> Result<Phase, RunnerError> {
        let mut told: Option<Instant> = None;
        loop {
            for mail in self.mail.drain(Duration::from_millis(20)) {
                self.open_mail(mail)?;
            }
            let is_stopped = orders.is_stopped.load(Ordering::SeqCst);
            let is_paused = orders.is_paused.load(Ordering::SeqCst);
            self.credit.pause(is_paused && !is_stopped);
            if is_stopped {
                let at = *told.get_or_insert_with(Instant::now);
                self.credit.end();
                if self.keeper.is_settled() || at.elapsed() > PARTING {
                    return Ok(Phase::Stopped);
                }
            } else {
                if orders.is_draining.load(Ordering::SeqCst) {
                    self.end_sources()?;
                }
                if !is_paused {
                    self.take()?;
                }
                let now = self.now();
                if self.keeper.wake_at().is_some_and(|at| at <= now) {
                    self.keeper.wake(now);
                }
            }
            self.hand_out();
            let sources = 0..self.taken.len();
            let all_over = sources.clone().all(|source| self.keeper.is_over(source));
            if all_over && self.keeper.is_settled() && self.unflushed.is_none() {
                return Ok(Phase::Complete);
            }
            if self.shown_at.elapsed() > Duration::from_millis(20) {
                let phase = match &self.waits {
                    _ if is_paused => Phase::Paused,
                    Some(why) => Phase::Waiting(why.clone()),
                    None => Phase::Running,
                };
                self.show(status, Some(phase));
            }
        }
    }

    fn open_mail(&mut self, mail: Mail) -> Result<(), RunnerError> {
        let now = self.now();
        match mail {
            Mail::Look => {}
            Mail::Taken {
                source,
                arrived,
                bytes,
            } => {
                self.is_idle[source] = false;
                self.taken[source].push_back((arrived, bytes));
            }
            Mail::Idle { source } => self.is_idle[source] = true,
            Mail::Gone { source } => self.is_gone[source] = true,
            Mail::SourceFailed(error) => return Err(error.into()),
            Mail::SourceWaits(why) => self.waits = Some(why),
            Mail::Flushed {
                entries,
                write,
                ended,
            } => self.flushed(entries, write, ended)?,
            Mail::Put {
                sink,
                output,
                ended,
            } => {
                self.is_putting[sink] = false;
                match ended {
                    Ok(()) => self.waits = None,
                    Err(SinkError::Rejected { reason, .. }) => {
                        let why = Some(format!("rows up to {output}: {reason}"));
                        self.listen(vec![Aside { row: None, why }]);
                    }
                    Err(error) => return Err(error.into()),
                }
                self.keeper.committed(now, sink, output);
            }
            Mail::SinkWaits { sink, why } => {
                self.waits = Some(format!("sink {sink} takes no rows: {why}"));
            }
            Mail::Saved {
                through,
                bytes,
                committed,
                ended,
            } => {
                ended?;
                self.snapshot = (through, bytes);
                self.keeper.saved(now, through, &committed);
            }
            Mail::Truncated(ended) => ended?,
        }
        Ok(())
    }

    fn flushed(
        &mut self,
        entries: Vec<Entry>,
        write: WriteId,
        ended: Result<u64, LogError>,
    ) -> Result<(), RunnerError> {
        self.is_flushing = false;
        match ended {
            Ok(bytes) => {
                self.log_bytes = bytes;
                self.credit.free(std::mem::take(&mut self.flushing));
                if self
                    .waits
                    .as_ref()
                    .is_some_and(|why| why.starts_with("log"))
                {
                    self.waits = None;
                }
                let now = self.now();
                self.keeper.flushed(now, write);
                Ok(())
            }
            Err(error) if error.is_full() => {
                self.waits = Some(format!("log full: {error}; nothing is lost"));
                self.unflushed = Some((entries, write, Instant::now() + FULL_RETRY));
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Runs what sources gave: of several the one with the lowest watermark first.
    fn take(&mut self) -> Result<(), RunnerError> {
        // Reports of the disk and of sinks wait no longer than this many batches take.
        const TURN: usize = 16;
        for _ in 0..TURN {
            if self.keeper.pending() >= wide(self.settings.pending_rows_max) {
                return Ok(());
            }
            let Some(source) = self.next() else {
                return Ok(());
            };
            let (arrived, bytes) = self.taken[source].pop_front().expect("it has something");
            let now = self.now();
            self.keeper.take(now, source, arrived)?;
            self.undurable += bytes;
            let asides = self.keeper.take_asides();
            if !asides.is_empty() {
                self.listen(asides);
            }
            if !self.is_flushing {
                self.hand_out();
            }
        }
        self.mail.push(Mail::Look);
        Ok(())
    }

    fn next(&self) -> Option<usize> {
        let open = |source: &usize| !self.keeper.is_over(*source);
        let sources = || (0..self.taken.len()).filter(open);
        let lowest = sources().min_by_key(|source| self.keeper.mark(*source))?;
        if !self.taken[lowest].is_empty() {
            return Some(lowest);
        }
        // Behind one that has nothing the others go on.
        let ready = sources().filter(|source| !self.taken[*source].is_empty());
        ready
            .min_by_key(|source| self.keeper.mark(*source))
            .filter(|_| self.is_idle[lowest])
    }

    fn end_sources(&mut self) -> Result<(), RunnerError> {
        self.credit.end();
        for source in 0..self.taken.len() {
            let is_dry = self.is_gone[source] && self.taken[source].is_empty();
            if is_dry && !self.keeper.is_over(source) {
                let now = self.now();
                self.keeper.take(now, source, Arrived::End)?;
            }
        }
        Ok(())
    }

    fn listen(&mut self, asides: Vec<Aside>) {
        for aside in &asides {
            self.asides.push_back(aside.clone());
        }
        while self.asides.len() > SHOWN {
            self.asides.pop_front();
        }
        (self.listener)(asides);
    }

    /// Gives each thread that waits what there is for it.
    fn hand_out(&mut self) {
        if !self.is_flushing {
            let retried = self.unflushed.take_if(|(_, _, at)| *at <= Instant::now());
            let work = match retried {
                Some((entries, write, _)) => Some((entries, write)),
                None if self.unflushed.is_some() => None,
                None => {
                    let work = self.keeper.take_entries();
                    if work.is_some() {
                        self.flushing = std::mem::take(&mut self.undurable);
                    }
                    work
                }
            };
            if let Some((entries, write)) = work {
                self.is_flushing = true;
                self.log.push(LogWork::Append(entries, write));
            }
        }
        for sink in 0..self.sinks.len() {
            if !self.is_putting[sink]
                && let Some(commit) = self.keeper.take_commit(sink)
            {
                self.is_putting[sink] = true;
                self.sinks[sink].push(commit);
            }
        }
        for (source, position) in self.keeper.take_acknowledged() {
            self.heard[source].push(position);
        }
        if let Some(save) = self.keeper.take_save() {
            self.files.push(FileWork::Save(save));
        }
        let (names, truncate) = self.keeper.take_tidying();
        if let Some(below) = truncate {
            self.log.push(LogWork::Truncate(below));
        }
        for name in names {
            self.files.push(FileWork::Forget(name));
        }
    }

    fn show(&mut self, status: &Mutex<Status>, phase: Option<Phase>) {
        self.shown_at = Instant::now();
        let mut status = hold(status);
        if let Some(phase) = phase {
            status.phase = phase;
        }
        let (output, committed) = self.keeper.outputs();
        status.counts = self.keeper.counts();
        status.output = output;
        status.committed = committed.to_vec();
        let sources = 0..self.taken.len();
        status.marks = sources.map(|source| self.keeper.mark(source)).collect();
        status.records = self.keeper.records();
        status.log_bytes = self.log_bytes;
        status.credit_bytes = self.credit.held();
        status.snapshot = self.snapshot;
        status.asides = self.asides.iter().cloned().collect();
    }

    /// Ends all threads, and waits for them.
    fn close(&mut self) {
        self.credit.end();
        self.log.close();
        self.files.close();
        self.sinks.iter().for_each(|post| post.close());
        self.heard.iter().for_each(|post| post.close());
        for thread in self.threads.drain(..) {
            // One that panicked has said so.
            drop(thread.join());
        }
    }
}

fn serve_sink(mut sink: Box<dyn Sink>, number: usize, post: &Post<Commit>, mail: &Post<Mail>) {
    while let Some(commit) = post.pop() {
        let ended = loop {
            match sink.put(commit.first, &commit.rows) {
                Err(SinkError::Unavailable { retry, reason, .. }) => {
                    mail.push(Mail::SinkWaits {
                        sink: number,
                        why: reason,
                    });
                    if post.is_closed() {
                        return;
                    }
                    thread::sleep(retry.min(Duration::from_secs(1)));
                }
                ended => break ended,
            }
        };
        mail.push(Mail::Put {
            sink: number,
            output: commit.output(),
            ended,
        });
    }
}

fn serve_source(
    (mut source, reader): (Box<dyn Source>, Reader),
    (number, piece): (usize, usize),
    heard: &Post<Position>,
    mail: &Post<Mail>,
    credit: &Credit,
) {
    // A row may be longer than a piece; the source waits for more credit then.
    const ROW: usize = 1 << 20;
    let mut wanted = piece;
    let mut unheard = 0_usize;
    while !credit.is_over() {
        for position in heard.drain(Duration::ZERO) {
            source.acknowledge(&position);
            unheard = unheard.saturating_sub(1);
        }
        let free = credit.wait(Duration::from_millis(5));
        if free == 0 {
            continue;
        }
        // Whoever waits for an acknowledgement shall not wait for the next row.
        let wait = Duration::from_millis(if unheard > 0 { 1 } else { 50 });
        match source.take(wanted.min(free), wait) {
            Ok(Taken::Rows(rows)) => {
                let bytes = rows.rows.len();
                wanted = piece;
                credit.charge(bytes);
                let read = reader.read(&rows.rows, rows.first_row);
                let arrived = Arrived::Rows {
                    read,
                    position: rows.position,
                    bytes: (wide(bytes), crc32c::crc32c(&rows.rows)),
                };
                unheard += 1;
                mail.push(Mail::Taken {
                    source: number,
                    arrived,
                    bytes,
                });
            }
            Ok(Taken::Nothing) => {
                wanted = piece.max(ROW);
                mail.push(Mail::Idle { source: number });
            }
            Ok(Taken::End) => {
                mail.push(Mail::Taken {
                    source: number,
                    arrived: Arrived::End,
                    bytes: 0,
                });
                break;
            }
            Err(SourceError::Unavailable { retry, reason, .. }) => {
                mail.push(Mail::SourceWaits(reason));
                thread::sleep(retry.min(Duration::from_millis(500)));
            }
            Err(error) => {
                mail.push(Mail::SourceFailed(error));
                break;
            }
        }
    }
    source.stop();
    mail.push(Mail::Gone { source: number });
    while let Some(position) = heard.pop() {
        source.acknowledge(&position);
    }
}
