//! The thread that keeps a stream, with the posts of the others.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::Ordering;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use holm_base::{Time, WriteId};
use holm_connect::{Position, SinkError};
use holm_durable::{Log, LogError};
use holm_engine::Gauge;
use holm_machine::Folder;

use crate::ends::{serve_encoding, serve_files, serve_log, serve_sink, serve_source};
use crate::error::RunnerError;
use crate::job::{Aside, Settings};
use crate::keeper::{Arrived, Commit, Filed, Keeper, wide};
use crate::mail::{FileWork, LogWork, Mail};
use crate::pace::{Pace, Redo};
use crate::recover::Opened;
use crate::silence::Silence;
use crate::threads::{Listener, Orders, Phase, Status};
use crate::waiting::{Credit, Post, hold};

/// How many set-aside rows a status shows.
const SHOWN: usize = 20;
/// How long a stream that is told to stop waits for its sinks.
const PARTING: Duration = Duration::from_secs(5);
/// Sources wait while a crash would cost so many times what state is saved for: then the disk or a
/// sink is behind, and recovery would grow with it.
const REDO: u32 = 3;
/// How often state is measured, all of which is looked at for it.
const GAUGED: Duration = Duration::from_millis(250);
/// Records of fewer rows than this are encoded when they are written: it takes less than handing
/// them to another thread.
const AHEAD: usize = 1_024;
/// How often a full log is tried again.
const FULL_RETRY: Duration = Duration::from_millis(500);

/// What a source gave and the keeper has not taken: its bytes, and how long it took to read.
type Waiting = (Arrived, usize, Duration);

/// Ends a stream before its state ends the process. All of it is on the disk: with more memory, or a
/// higher limit, it goes on where it is.
///
/// # Errors
///
/// If there are more bytes than may be.
pub fn within(bytes: usize, limit: usize) -> Result<(), RunnerError> {
    if bytes <= limit {
        return Ok(());
    }
    let (bytes, limit) = (bytes >> 20, limit >> 20);
    Err(RunnerError::Refused(format!(
        "its state has {bytes} MiB, and {limit} MiB is the limit; shorter windows, fewer keys or \
         fewer distinct values keep less"
    )))
}

/// The keeper, and what it is between.
pub(crate) struct Desk {
    keeper: Keeper,
    settings: Settings,
    begun: Instant,
    listener: Listener,
    mail: Arc<Post<Mail>>,
    credit: Arc<Credit>,
    threads: Vec<JoinHandle<()>>,
    heard: Vec<Arc<Post<Position>>>,
    log: Arc<Post<LogWork>>,
    encoding: Arc<Post<Arc<Filed>>>,
    files: Arc<Post<FileWork>>,
    sinks: Vec<Arc<Post<Commit>>>,
    /// For each source what it gave and the keeper has not taken.
    taken: Vec<VecDeque<Waiting>>,
    is_idle: Vec<bool>,
    silence: Silence,
    is_gone: Vec<bool>,
    is_flushing: bool,
    /// What found the log full, and when it is tried again.
    unflushed: Option<(Vec<Arc<Filed>>, WriteId, Instant)>,
    is_putting: Vec<bool>,
    /// Bytes of batches that are not yet durable.
    undurable: usize,
    flushing: usize,
    waits: Option<String>,
    log_bytes: u64,
    logged: u64,
    /// Rows that were there when it was started.
    rows_before: u64,
    busy: Duration,
    gauge: (Gauge, Option<Instant>),
    snapshot: (u64, u64),
    pace: Pace,
    redo: Redo,
    asides: VecDeque<Aside>,
    shown_at: Instant,
}

impl Desk {
    pub(crate) fn new(
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
            spent,
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
            encoding: Arc::default(),
            files: Arc::default(),
            sinks: Vec::new(),
            taken: (0..sources).map(|_| VecDeque::new()).collect(),
            is_idle: vec![false; sources],
            silence: Silence::new(keeper.idle.clone()),
            is_gone: vec![false; sources],
            is_flushing: false,
            unflushed: None,
            is_putting: vec![false; sinks],
            undurable: 0,
            flushing: 0,
            waits: None,
            log_bytes: log.used(),
            logged: 0,
            rows_before: keeper.counts().rows,
            busy: Duration::ZERO,
            gauge: (Gauge::default(), None),
            snapshot: (0, 0),
            pace: Pace::new(settings.replay_max),
            redo: Redo::default(),
            asides: VecDeque::new(),
            shown_at: begun,
            keeper,
        };
        // What was done again once would be done again a second time.
        desk.worked(spent.reading + spent.running);
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
            let turn = desk.keeper.turn.another();
            let work = move || {
                let ends = (source, reader, turn);
                serve_source(ends, (number, piece), &post, &mail, &credit);
            };
            desk.threads.push(thread::spawn(work));
        }
        desk
    }

    fn spawn_disk(&mut self, folder: &Arc<dyn Folder>, log: Log) {
        let (post, mail) = (Arc::clone(&self.log), Arc::clone(&self.mail));
        self.threads
            .push(thread::spawn(move || serve_log(log, &post, &mail)));
        let post = Arc::clone(&self.encoding);
        self.threads
            .push(thread::spawn(move || serve_encoding(&post)));
        let (post, mail) = (Arc::clone(&self.files), Arc::clone(&self.mail));
        let folder = Arc::clone(folder);
        self.threads
            .push(thread::spawn(move || serve_files(&*folder, &post, &mail)));
    }

    fn now(&self) -> Time {
        let nanos = self.begun.elapsed().as_nanos();
        Time::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    pub(crate) fn serve(
        &mut self,
        orders: &Orders,
        status: &Mutex<Status>,
    ) -> Result<Phase, RunnerError> {
        let mut told: Option<Instant> = None;
        loop {
            for mail in self.mail.drain(Duration::from_millis(20)) {
                self.open_mail(mail)?;
            }
            let is_stopped = orders.is_stopped.load(Ordering::SeqCst);
            let is_paused = orders.is_paused.load(Ordering::SeqCst);
            self.credit.pause(is_paused && !is_stopped);
            if is_paused {
                self.silence.forget();
            }
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
                if self.keeper.wake_at().is_some_and(|at| at <= now)
                    && self.pace.is_due(now, self.log_bytes)
                {
                    let begun = self.now();
                    if self.keeper.wake(now) {
                        self.pace.froze(begun, self.now(), self.log_bytes);
                        self.redo.froze(self.keeper.records());
                    }
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
                within(self.gauge.0.bytes, self.settings.state_bytes_max)?;
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
                took,
            } => {
                self.is_idle[source] = false;
                self.silence.rows(source);
                self.taken[source].push_back((arrived, bytes, took));
            }
            Mail::Idle { source } => {
                self.is_idle[source] = true;
                self.silent(source)?;
            }
            Mail::Gone { source } => self.is_gone[source] = true,
            Mail::SourceFailed(error) => return Err(error.into()),
            Mail::SourceWaits { source, why } => {
                self.waits = Some(why);
                self.silent(source)?;
            }
            Mail::Flushed {
                records,
                write,
                ended,
            } => self.flushed(records, write, ended)?,
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
                took,
                ended,
            } => {
                ended?;
                self.pace.wrote(took);
                self.snapshot = (through, bytes);
                self.keeper.saved(now, through, &committed);
            }
            Mail::Truncated(ended) => ended?,
        }
        Ok(())
    }

    fn flushed(
        &mut self,
        records: Vec<Arc<Filed>>,
        write: WriteId,
        ended: Result<(u64, u64), LogError>,
    ) -> Result<(), RunnerError> {
        self.is_flushing = false;
        match ended {
            Ok((bytes, added)) => {
                self.log_bytes = bytes;
                self.logged += added;
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
                self.unflushed = Some((records, write, Instant::now() + FULL_RETRY));
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
            let is_full = self.keeper.pending() >= wide(self.settings.pending_rows_max);
            if is_full || self.is_too_far() {
                return Ok(());
            }
            let Some(source) = self.next() else {
                return Ok(());
            };
            let next = self.taken[source].pop_front();
            let (arrived, bytes, took) = next.expect("it has something");
            let now = self.now();
            self.keeper.take(now, source, arrived)?;
            let newest = self.keeper.records.last();
            if let Some(filed) = newest.filter(|filed| filed.rows() >= AHEAD) {
                self.encoding.push(Arc::clone(filed));
            }
            let ran = self.now() - now;
            self.busy += ran;
            self.worked(took + ran);
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

    fn worked(&mut self, work: Duration) {
        self.pace.worked(work);
        self.redo.worked(work);
    }

    /// Whether a crash would have too much to do again, and what is under way will change that.
    fn is_too_far(&mut self) -> bool {
        let redo = self.redo.since(self.keeper.spared());
        redo >= self.settings.replay_max * REDO && self.keeper.is_behind()
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

    /// A source has nothing; if that has been so for long, the others no longer wait for it.
    fn silent(&mut self, source: usize) -> Result<(), RunnerError> {
        let now = self.now();
        let is_open = !self.keeper.is_over(source) && self.taken[source].is_empty();
        if self.silence.nothing(now, source) && is_open && !self.keeper.is_idle(source) {
            self.keeper.take(now, source, Arrived::Idle)?;
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
                Some((records, write, _)) => Some((records, write)),
                None if self.unflushed.is_some() => None,
                None => {
                    let work = self.keeper.take_records();
                    if work.is_some() {
                        self.flushing = std::mem::take(&mut self.undurable);
                    }
                    work
                }
            };
            if let Some((records, write)) = work {
                self.is_flushing = true;
                self.log.push(LogWork::Append(records, write));
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

    pub(crate) fn show(&mut self, status: &Mutex<Status>, phase: Option<Phase>) {
        self.shown_at = Instant::now();
        let measured = self.gauge.1;
        if measured.is_none_or(|at| at.elapsed() > GAUGED) || phase.is_none() {
            self.gauge = (self.keeper.gauge(), Some(self.shown_at));
        }
        let mut status = hold(status);
        if let Some(phase) = phase {
            status.phase = phase;
        }
        let (outputs, committed) = self.keeper.outputs();
        status.counts = self.keeper.counts();
        status.queries = self.keeper.counts_of_each();
        status.outputs = outputs;
        status.committed = committed.to_vec();
        let sources = 0..self.taken.len();
        status.marks = sources.clone().map(|it| self.keeper.mark(it)).collect();
        status.is_idle = sources.map(|it| self.keeper.is_idle(it)).collect();
        status.records = self.keeper.records();
        status.log_bytes = self.log_bytes;
        let rows = status.counts.rows - self.rows_before;
        status.logged = (self.logged, rows);
        status.log_points = self.keeper.log_points();
        status.repeated = self.keeper.repeated();
        status.busy = self.busy;
        status.gauge = self.gauge.0;
        status.credit_bytes = self.credit.held();
        status.snapshot = self.snapshot;
        status.asides = self.asides.iter().cloned().collect();
    }

    /// Ends all threads, and waits for them.
    pub(crate) fn close(&mut self) {
        self.credit.end();
        self.log.close();
        self.encoding.close();
        self.files.close();
        self.sinks.iter().for_each(|post| post.close());
        self.heard.iter().for_each(|post| post.close());
        for thread in self.threads.drain(..) {
            // One that panicked has said so.
            drop(thread.join());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn state_beyond_its_limit_is_named() {
        const MIB: usize = 1 << 20;
        within(4 * MIB, 4 * MIB).expect("as much as may be");
        let told = within(9 * MIB, 4 * MIB).expect_err("it is too much");
        assert!(
            told.to_string()
                .contains("has 9 MiB, and 4 MiB is the limit"),
            "{told}"
        );
    }
}
