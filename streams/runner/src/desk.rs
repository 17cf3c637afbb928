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
use crate::flow::Flow;
use crate::job::{Aside, Settings};
use crate::keeper::{Arrived, Commit, Filed};
use crate::mail::{FileWork, LogWork, Mail};
use crate::recover::Opened;
use crate::threads::{Listener, Orders, Phase, Status};
use crate::waiting::{Credit, Post, hold};

/// How many set-aside rows a status shows.
const SHOWN: usize = 20;
/// How long a stream that is told to stop waits for its sinks.
const PARTING: Duration = Duration::from_secs(5);
/// How often state is measured, all of which is looked at for it.
const GAUGED: Duration = Duration::from_millis(250);
/// Records of fewer rows than this are encoded when they are written: it takes less than handing
/// them to another thread.
const AHEAD: usize = 1_024;

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
    flow: Flow,
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
    is_gone: Vec<bool>,
    waits: Option<String>,
    logged: u64,
    /// Rows that were there when it was started.
    rows_before: u64,
    busy: Duration,
    gauge: (Gauge, Option<Instant>),
    snapshot: (u64, u64),
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
        let sources = ends.sources.len();
        let rows_before = keeper.counts().rows;
        // What was done again once would be done again a second time.
        let again = spent.reading + spent.running;
        let mut desk = Self {
            flow: Flow::new(keeper, settings, log.used(), again),
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
            is_gone: vec![false; sources],
            waits: None,
            logged: 0,
            rows_before,
            busy: Duration::ZERO,
            gauge: (Gauge::default(), None),
            snapshot: (0, 0),
            asides: VecDeque::new(),
            shown_at: begun,
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
            if desk.flow.keeper().is_over(number) {
                continue;
            }
            let (mail, credit) = (Arc::clone(mail), Arc::clone(&desk.credit));
            let piece = settings.piece_bytes;
            let turn = desk.flow.keeper().turn.another();
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
        since(self.begun)
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
                self.flow.paused();
            }
            if is_stopped {
                let at = *told.get_or_insert_with(Instant::now);
                self.credit.end();
                if self.flow.keeper().is_settled() || at.elapsed() > PARTING {
                    return Ok(Phase::Stopped);
                }
            } else {
                if orders.is_draining.load(Ordering::SeqCst) {
                    self.end_sources()?;
                }
                if !is_paused {
                    self.take()?;
                }
                let (now, begun) = (self.now(), self.begun);
                self.flow.save_if_due(now, &|| since(begun));
            }
            self.hand_out();
            if self.flow.is_complete() {
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
            } => self.flow.arrived(source, arrived, bytes, took),
            Mail::Idle { source } => {
                self.flow.idle(source);
                self.flow.silent(now, source)?;
            }
            Mail::Gone { source } => self.is_gone[source] = true,
            Mail::SourceFailed(error) => return Err(error.into()),
            Mail::SourceWaits { source, why } => {
                self.waits = Some(why);
                self.flow.silent(now, source)?;
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
                match ended {
                    Ok(()) => self.waits = None,
                    Err(SinkError::Rejected { reason, .. }) => {
                        let why = Some(format!("rows up to {output}: {reason}"));
                        self.listen(vec![Aside { row: None, why }]);
                    }
                    Err(error) => return Err(error.into()),
                }
                self.flow.put(now, sink, output);
            }
            Mail::SinkWaits { sink, why } => {
                self.waits = Some(format!("sink {sink} takes no rows: {why}"));
            }
            Mail::Saved {
                through,
                committed,
                took,
                ended,
            } => {
                self.snapshot = (through, ended?);
                self.flow.saved(now, through, &committed, took);
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
        let now = self.now();
        match ended {
            Ok((bytes, added)) => {
                self.logged += added;
                if self
                    .waits
                    .as_ref()
                    .is_some_and(|why| why.starts_with("log"))
                {
                    self.waits = None;
                }
                self.credit.free(self.flow.flushed(now, write, bytes));
                Ok(())
            }
            Err(error) if error.is_full() => {
                self.waits = Some(format!("log full: {error}; nothing is lost"));
                self.flow.found_full(now, records, write);
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Runs what sources gave.
    fn take(&mut self) -> Result<(), RunnerError> {
        // Reports of the disk and of sinks wait no longer than this many batches take.
        const TURN: usize = 16;
        for _ in 0..TURN {
            let now = self.now();
            let Some(took) = self.flow.run_next(now)? else {
                return Ok(());
            };
            let newest = self.flow.keeper().records.last();
            if let Some(filed) = newest.filter(|filed| filed.rows() >= AHEAD) {
                self.encoding.push(Arc::clone(filed));
            }
            let ran = self.now() - now;
            self.busy += ran;
            self.flow.worked(took + ran);
            let asides = self.flow.keeper_mut().take_asides();
            if !asides.is_empty() {
                self.listen(asides);
            }
            if !self.flow.is_flushing() {
                self.hand_out();
            }
        }
        self.mail.push(Mail::Look);
        Ok(())
    }

    fn end_sources(&mut self) -> Result<(), RunnerError> {
        self.credit.end();
        for source in 0..self.is_gone.len() {
            let is_dry = self.is_gone[source] && self.flow.is_dry(source);
            if is_dry && !self.flow.keeper().is_over(source) {
                let now = self.now();
                self.flow.keeper_mut().take(now, source, Arrived::End)?;
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
        let given = self.flow.hand_out(self.now());
        if let Some((records, write)) = given.append {
            self.log.push(LogWork::Append(records, write));
        }
        for (sink, commit) in given.commits {
            self.sinks[sink].push(commit);
        }
        for (source, position) in given.acknowledged {
            self.heard[source].push(position);
        }
        if let Some(save) = given.save {
            self.files.push(FileWork::Save(save));
        }
        if let Some(below) = given.truncate {
            self.log.push(LogWork::Truncate(below));
        }
        for name in given.forget {
            self.files.push(FileWork::Forget(name));
        }
    }

    pub(crate) fn show(&mut self, status: &Mutex<Status>, phase: Option<Phase>) {
        self.shown_at = Instant::now();
        let measured = self.gauge.1;
        if measured.is_none_or(|at| at.elapsed() > GAUGED) || phase.is_none() {
            self.gauge = (self.flow.keeper().gauge(), Some(self.shown_at));
        }
        let mut status = hold(status);
        if let Some(phase) = phase {
            status.phase = phase;
        }
        let keeper = self.flow.keeper();
        let (outputs, committed) = keeper.outputs();
        status.counts = keeper.counts();
        status.queries = keeper.counts_of_each();
        status.outputs = outputs;
        status.committed = committed.to_vec();
        let sources = 0..self.is_gone.len();
        status.marks = sources.clone().map(|it| keeper.mark(it)).collect();
        status.is_idle = sources.map(|it| keeper.is_idle(it)).collect();
        status.records = keeper.records();
        status.log_bytes = self.flow.log_bytes();
        let rows = status.counts.rows - self.rows_before;
        status.logged = (self.logged, rows);
        status.log_points = keeper.log_points();
        status.repeated = keeper.repeated();
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

fn since(begun: Instant) -> Time {
    let nanos = begun.elapsed().as_nanos();
    Time::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
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
