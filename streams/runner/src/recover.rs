//! The way back: what the disk holds, what the sinks have, and the records between.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use holm_base::Time;
use holm_connect::{
    Columns, Guarantee, Key, Position, Read, Reader, Sink, SinkError, Source, SourceError, Taken,
};
use holm_durable::{Data, Extent, Log, Offsets, Record, Replay, fetch, keep, leftovers};
use holm_lanes::{Batch, Loader, Saver};
use holm_machine::Folder;
use holm_once::{Config, Effect, Found, Input, Once, Refusal, Snapshot};

use crate::cut::Cut;
use crate::error::RunnerError;
use crate::job::{Ends, Job, Settings, Tables};
use crate::keeper::{Arrived, Commit, Keeper, wide};
use crate::saved::{self, Saved};

const DESCRIPTION: &str = "description";
const DESCRIPTION_KIND: u32 = 2;
const TABLES: &str = "tables";
const TABLES_KIND: u32 = 3;
/// How long a source may take to give again what it gave before.
const AGAIN: Duration = Duration::from_secs(30);

/// A stream that has come back.
#[derive(Debug)]
pub struct Opened {
    /// The stream.
    pub keeper: Keeper,
    /// Its log.
    pub log: Log,
    /// Both ends, where the log ends.
    pub ends: Ends,
    /// What understands each source.
    pub readers: Vec<Reader>,
    /// What it took.
    pub spent: Spent,
}

/// What took how long while a stream came back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spent {
    /// All of it.
    pub all: Duration,
    /// Opening the log: its last records are looked at, and what was torn is cut.
    pub log: Duration,
    /// Asking the sinks what they have.
    pub sinks: Duration,
    /// Loading a snapshot.
    pub snapshot: Duration,
    /// Reading records and understanding them.
    pub reading: Duration,
    /// Running them.
    pub running: Duration,
    /// Giving sinks what there was no room to keep.
    pub putting: Duration,
    /// How many records were run again.
    pub records: u64,
}

/// Opens a stream in its folder, where it was or anew.
///
/// `tables` gives the rows that the plan looks up, and is asked only if the stream is new.
/// `is_stopped` ends the waiting for a sink that is not there.
///
/// # Errors
///
/// If the folder is another stream's, what it holds is damaged, an end fails, or a sink has what
/// the log does not know.
pub fn open(
    folder: &Arc<dyn Folder>,
    job: &Job,
    ends: Ends,
    settings: &Settings,
    (tables, is_stopped): (Tables<'_>, &dyn Fn() -> bool),
) -> Result<Opened, RunnerError> {
    let begun = Instant::now();
    leftovers(&**folder)?;
    let tables = described(&**folder, job, tables)?;
    let (log, extent) = Log::open(Arc::clone(folder), settings.log)?;
    let spent = Spent {
        log: begun.elapsed(),
        ..Spent::default()
    };
    let mut snapshots: Vec<Snapshot> = folder
        .list()?
        .iter()
        .filter_map(|name| saved::named(name))
        .collect();
    snapshots.sort_unstable();
    let mut readers = Vec::new();
    for (source, input) in ends.sources.iter().zip(&job.inputs) {
        let (fields, needed) = (input.fields.clone(), input.needed.clone());
        let reader = Reader::new(input.format, fields, needed, source.header());
        let reader = reader.map_err(|error| RunnerError::Header {
            source_name: source.name().to_owned(),
            source: error,
        })?;
        readers.push(reader.with(&input.beside));
    }
    let once = Once::new(Config {
        sinks: job.sinks(ends.sinks.len()),
        snapshot_interval_ms: settings.snapshot_interval_ms,
    });
    let run = job.run(&tables);
    let size = (ends.sources.len(), job.sinks(ends.sinks.len()));
    let mut keeper = Keeper::new(once, run, size);
    keeper.plan = job.digest();
    if let Some((turns, class)) = &job.turns {
        keeper.turn = turns.join(*class);
    }
    keeper.is_replayable = ends.sources.iter().map(|it| it.replayable()).collect();
    keeper.idle = job.inputs.iter().map(|input| input.idle).collect();
    let inputs = job.inputs.iter().enumerate();
    keeper.cuts = inputs
        .map(|(source, input)| Cut::new(&keeper.run, source, input.keeps_all))
        .collect();
    keeper.knows(&snapshots);
    let mut way = Way {
        folder,
        job,
        tables,
        is_stopped,
        opened: Opened {
            keeper,
            log,
            ends,
            readers,
            spent,
        },
        pending_rows_max: wide(settings.pending_rows_max),
        replay: None,
    };
    way.come_back(extent, snapshots)?;
    way.opened.spent.all = begun.elapsed();
    Ok(way.opened)
}

/// Checks that the folder is this stream's, or makes it so.
fn described(
    folder: &dyn Folder,
    job: &Job,
    tables: Tables<'_>,
) -> Result<Vec<Batch>, RunnerError> {
    if let Some(found) = fetch(folder, DESCRIPTION, DESCRIPTION_KIND)? {
        if found != job.description {
            return Err(RunnerError::Refused(
                "this folder holds the state of another query, or of the same one over other \
                 tables; give each query a folder of its own"
                    .to_owned(),
            ));
        }
        let missing = || RunnerError::Refused("the tables of this stream are gone".to_owned());
        let bytes = fetch(folder, TABLES, TABLES_KIND)?.ok_or_else(missing)?;
        let mut from = Loader::new(&bytes);
        let loaded = from.count(8).and_then(|count| {
            from.many(count, |from| {
                let lanes = from.count(9)?;
                Ok(Batch::of(from.many(lanes, |from| from.lane())?))
            })
        });
        return loaded.map_err(|source| RunnerError::State {
            name: TABLES.to_owned(),
            source,
        });
    }
    let tables = tables()?;
    let mut to = Saver::new();
    to.count(tables.len());
    for table in &tables {
        to.count(table.lanes.len());
        table.lanes.iter().for_each(|lane| to.lane(lane));
    }
    keep(folder, TABLES, TABLES_KIND, &to.finish())?;
    keep(folder, DESCRIPTION, DESCRIPTION_KIND, &job.description)?;
    Ok(tables)
}

struct Way<'a> {
    folder: &'a Arc<dyn Folder>,
    job: &'a Job,
    tables: Vec<Batch>,
    is_stopped: &'a dyn Fn() -> bool,
    opened: Opened,
    pending_rows_max: u64,
    replay: Option<Replay>,
}

impl Way<'_> {
    fn come_back(&mut self, extent: Extent, snapshots: Vec<Snapshot>) -> Result<(), RunnerError> {
        let found = Found {
            first: extent.first,
            last: extent.last,
            epoch: extent.epoch,
            snapshots,
        };
        let mut waiting = VecDeque::from(self.step(Input::Opened(found)));
        while let Some(effect) = waiting.pop_front() {
            waiting.extend(self.effect(effect)?);
            self.put()?;
            if let Some(refusal) = self.opened.keeper.refused {
                return Err(RunnerError::Refused(self.words(refusal)));
            }
        }
        assert!(
            self.opened.keeper.is_open,
            "once I6: the way ends at the sources"
        );
        let Opened { ends, keeper, .. } = &mut self.opened;
        let behind = keeper.reached.iter().zip(&keeper.keys);
        for (source, (reached, keys)) in ends.sources.iter_mut().zip(behind) {
            if !source.replayable() && reached.position != Position::START {
                source.go_on(&reached.position)?;
            }
            source.remember(keys);
        }
        // What is said about rows was said when they ran first.
        self.opened.keeper.take_asides();
        Ok(())
    }

    fn step(&mut self, input: Input) -> Vec<Effect> {
        self.opened.keeper.step(Time::ZERO, input)
    }

    fn effect(&mut self, effect: Effect) -> Result<Vec<Effect>, RunnerError> {
        match effect {
            Effect::Persist {
                write,
                sequence,
                record: holm_once::Record::Open { epoch },
            } => {
                self.opened.keeper.epoch = epoch;
                let entry = Record::Opened.entry(sequence, epoch);
                self.opened.log.append(&[entry])?;
                Ok(self.step(Input::Durable { write }))
            }
            Effect::Ask { sink, .. } => {
                let begun = Instant::now();
                let output = self.ask(sink)?;
                self.opened.spent.sinks += begun.elapsed();
                self.opened.keeper.has[sink] = output;
                Ok(self.step(Input::Answered { sink, output }))
            }
            Effect::Load { through } => {
                let begun = Instant::now();
                let loaded = self.load(through);
                self.opened.spent.snapshot += begun.elapsed();
                loaded
            }
            Effect::Assemble { sequence } => self.assemble(sequence),
            other => {
                self.opened.keeper.carry(other);
                Ok(Vec::new())
            }
        }
    }

    /// How many rows a sink has.
    fn ask(&mut self, sink: usize) -> Result<u64, RunnerError> {
        let port = &mut self.opened.ends.sinks[sink];
        let last = loop {
            match port.begin() {
                Ok(last) => break last,
                Err(SinkError::Unavailable { retry, .. }) => rest(retry, self.is_stopped)?,
                Err(error) => return Err(error.into()),
            }
        };
        match port.guarantee() {
            Guarantee::ExactlyOnce => Ok(last.map_or(0, |last| last + 1)),
            Guarantee::AtLeastOnce => {
                let recorded = self.recorded(sink);
                self.opened.keeper.recorded[sink] = Some(recorded);
                Ok(recorded)
            }
        }
    }

    /// How many rows the newest snapshot that can be read says that a sink had.
    fn recorded(&self, sink: usize) -> u64 {
        let mut names = self.folder.list().unwrap_or_default();
        names.retain(|name| saved::named(name).is_some());
        names.sort_unstable();
        let read = |name: &String| {
            let body = fetch(&**self.folder, name, saved::KIND).ok().flatten()?;
            Saved::read(&mut Loader::new(&body)).ok()
        };
        let newest = names.iter().rev().find_map(read);
        newest
            .and_then(|saved| saved.committed.get(sink).copied())
            .unwrap_or(0)
    }

    fn load(&mut self, through: Option<u64>) -> Result<Vec<Effect>, RunnerError> {
        let mut from = 1;
        if let Some(through) = through {
            from = through + 1;
            if !self.load_snapshot(through) {
                return Ok(self.step(Input::Damaged));
            }
        }
        self.replay = Some(self.opened.log.replay(from));
        let keeper = &self.opened.keeper;
        for (number, source) in self.opened.ends.sources.iter_mut().enumerate() {
            let reached = &keeper.reached[number];
            if source.replayable() && reached.position != Position::START {
                source.seek(&reached.position)?;
            }
        }
        Ok(self.step(Input::Loaded))
    }

    /// Takes over a snapshot; false if it cannot be read.
    fn load_snapshot(&mut self, through: u64) -> bool {
        let names = self.folder.list().unwrap_or_default();
        let is_it = |name: &String| saved::named(name).is_some_and(|it| it.through == through);
        let Some(name) = names.into_iter().find(is_it) else {
            return false;
        };
        let Ok(Some(body)) = fetch(&**self.folder, &name, saved::KIND) else {
            return false;
        };
        let mut from = Loader::new(&body);
        let mut run = self.job.run(&self.tables);
        let keeper = &mut self.opened.keeper;
        match Saved::read(&mut from) {
            Ok(saved)
                if saved.plan == keeper.plan
                    && saved.queries == run.queries()
                    && saved.reached.len() == keeper.reached.len() =>
            {
                if run.load(&mut from).is_err() || !from.is_done() {
                    return false;
                }
                keeper.reached = saved.reached;
                keeper.bad = saved.bad;
                keeper.keys = saved.keys;
                keeper.run = run;
                true
            }
            Ok(_) | Err(_) => false,
        }
    }

    fn assemble(&mut self, sequence: u64) -> Result<Vec<Effect>, RunnerError> {
        let replay = self
            .replay
            .as_mut()
            .expect("once I6: a snapshot comes first");
        let begun = Instant::now();
        let entry = replay.next().ok_or_else(|| {
            RunnerError::Refused(format!("record {sequence} of the log is gone"))
        })??;
        assert_eq!(entry.sequence, sequence, "once I6: without a gap");
        let record = Record::read(&entry);
        let record = record.map_err(|source| RunnerError::Record { sequence, source })?;
        self.opened.spent.records += 1;
        let read = begun.elapsed();
        let outs = match record {
            Record::Opened => None,
            Record::Ended { source } => {
                let source = self.source(source)?;
                self.opened.keeper.reached[source].is_over = true;
                Some(self.opened.keeper.execute(source, Arrived::End)?)
            }
            Record::Idle { source } => {
                let source = self.source(source)?;
                Some(self.opened.keeper.execute(source, Arrived::Idle)?)
            }
            Record::Offsets(offsets) => {
                let source = self.source(offsets.source)?;
                let read = self.read_again(source, &offsets)?;
                let lines = offsets.lines;
                Some(self.rows(source, read, (offsets.position, lines))?)
            }
            Record::Data(data) => Some(self.data(sequence, *data)?),
        };
        let outs = outs.unwrap_or_default();
        self.opened.spent.reading += read;
        self.opened.spent.running += begun.elapsed().saturating_sub(read);
        self.opened.keeper.came_out(Time::ZERO, sequence, outs);
        Ok(self.opened.keeper.take_replay())
    }

    /// Rows of the log, as they came or behind what they passed then.
    fn data(&mut self, sequence: u64, data: Data) -> Result<Vec<Batch>, RunnerError> {
        let source = self.source(data.source)?;
        let keeper = &mut self.opened.keeper;
        keeper.bad += data.bad;
        if let Some((name, digest)) = &data.key {
            let (name, digest) = (name.as_str().into(), *digest);
            keeper.keys[source].add(Key { name, digest });
        }
        if data.behind.is_none() {
            let read = Read {
                batch: data.batch,
                bad: Vec::new(),
                lines: 0,
            };
            return self.rows(source, read, (data.position, data.lines));
        }
        let passed = keeper.cuts[source].passed(&data).ok_or_else(|| {
            RunnerError::Refused(format!(
                "record {sequence} holds rows behind filters that this build does not put there; the build \
                 that wrote it reads it"
            ))
        })?;
        self.reach(source, (&data.position, data.lines))?;
        self.opened.keeper.resume(source, &passed)
    }

    /// Notes how far a source is.
    fn reach(
        &mut self,
        source: usize,
        (position, lines): (&[u8], u64),
    ) -> Result<Position, RunnerError> {
        let wrong = || RunnerError::Refused("the log has a position that is none".to_owned());
        let position = Position::new(position).ok_or_else(wrong)?;
        let reached = &mut self.opened.keeper.reached[source];
        (reached.position, reached.lines) = (position.clone(), lines);
        Ok(position)
    }

    fn source(&self, number: u32) -> Result<usize, RunnerError> {
        usize::try_from(number)
            .ok()
            .filter(|source| *source < self.opened.readers.len())
            .ok_or_else(|| RunnerError::Refused(format!("the log has rows of source {number}")))
    }

    fn rows(
        &mut self,
        source: usize,
        read: Read,
        (position, lines): (Vec<u8>, u64),
    ) -> Result<Vec<Batch>, RunnerError> {
        let position = self.reach(source, (&position, lines))?;
        let arrived = Arrived::Rows {
            read,
            position,
            bytes: (0, 0),
            key: None,
        };
        self.opened.keeper.execute(source, arrived)
    }

    /// What a source gave once, given again (I2).
    fn read_again(&mut self, source: usize, offsets: &Offsets) -> Result<Read, RunnerError> {
        let port = &mut self.opened.ends.sources[source];
        if let Some(until) = Position::new(&offsets.position) {
            port.again(&until);
        }
        let again = gather(&mut **port, offsets.bytes, self.is_stopped)?;
        let (position, crc) = match &again {
            Again::Text { rows, position, .. } => (position, crc32c::crc32c(rows)),
            Again::Columns(columns) => (&columns.position, columns.crc),
        };
        if position.as_bytes() != offsets.position || crc != offsets.crc {
            return Err(RunnerError::Refused(format!(
                "{}: rows up to {position:?} are not those that were read before the restart; a \
                 source that is read again must not be changed, only added to",
                port.name()
            )));
        }
        Ok(match again {
            Again::Text { rows, first, .. } => self.opened.readers[source].read(&rows, first),
            Again::Columns(Columns { batch, bad, .. }) => Read {
                lines: wide(batch.rows + bad.len()),
                batch,
                bad,
            },
        })
    }

    /// Gives the sinks what the replay brings where there is no room to keep it. The rest goes out
    /// as anything does once the stream runs: here each record would cost a commit.
    fn put(&mut self) -> Result<(), RunnerError> {
        if self.opened.keeper.pending() < self.pending_rows_max {
            return Ok(());
        }
        let begun = Instant::now();
        for sink in 0..self.opened.ends.sinks.len() {
            while let Some(commit) = self.opened.keeper.take_commit(sink) {
                let port = &mut self.opened.ends.sinks[sink];
                put_once_more(&mut **port, &commit, self.is_stopped)?;
                let output = commit.output();
                self.opened.keeper.committed(Time::ZERO, sink, output);
            }
        }
        self.opened.spent.putting += begun.elapsed();
        Ok(())
    }

    fn words(&self, refusal: Refusal) -> String {
        let name = |sink: usize| self.opened.ends.sinks[sink].name();
        match refusal {
            Refusal::SinkBehind { sink, output } => format!(
                "sink {} has {output} rows, and the rows behind those are in no snapshot and no \
                 record any more; bring the sink back as it was, or make the stream anew",
                name(sink)
            ),
            Refusal::SinkAhead {
                sink,
                output,
                known,
            } => format!(
                "sink {} has {output} rows, and this stream has made {known}: it is another \
                 stream's, or this stream's folder was lost; give the stream a sink of its own",
                name(sink)
            ),
            Refusal::LogLost { through, last } => format!(
                "a snapshot holds record {through} and the log ends with record {last}: the end \
                 of the log is lost"
            ),
            Refusal::NoSnapshot { first } => format!(
                "no snapshot can be read, and the log begins with record {first}: the state \
                 cannot be made again"
            ),
        }
    }
}

impl Keeper {
    /// The next record that is to be replayed, if the machine asked for it.
    fn take_replay(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.replayed)
    }
}

/// Puts rows until the sink takes them.
pub(crate) fn put_once_more(
    port: &mut dyn Sink,
    commit: &Commit,
    is_stopped: &dyn Fn() -> bool,
) -> Result<(), RunnerError> {
    loop {
        match port.put(commit.first, &commit.rows) {
            Ok(()) | Err(SinkError::Rejected { .. }) => return Ok(()),
            Err(SinkError::Unavailable { retry, .. }) => rest(retry, is_stopped)?,
            Err(error) => return Err(error.into()),
        }
    }
}

/// Waits, unless it is told to stop.
fn rest(wanted: Duration, is_stopped: &dyn Fn() -> bool) -> Result<(), RunnerError> {
    const STEP: Duration = Duration::from_millis(20);
    let mut left = wanted;
    while left > Duration::ZERO {
        if is_stopped() {
            return Err(RunnerError::Stopped);
        }
        std::thread::sleep(left.min(STEP));
        left = left.saturating_sub(STEP);
    }
    Ok(())
}

/// What a source gave again.
enum Again {
    /// Rows as they are written, the number of the first and the place behind them.
    Text {
        rows: Vec<u8>,
        first: u64,
        position: Position,
    },
    /// Rows that need no reading.
    Columns(Columns),
}

/// So many bytes of a source.
fn gather(
    port: &mut dyn Source,
    bytes: u64,
    is_stopped: &dyn Fn() -> bool,
) -> Result<Again, RunnerError> {
    let wanted = usize::try_from(bytes).unwrap_or(usize::MAX);
    let mut rows = Vec::new();
    let (mut first, mut position) = (0, Position::START);
    let mut waited = Duration::ZERO;
    while rows.len() < wanted {
        let step = Duration::from_millis(20);
        match port.take(wanted - rows.len(), step) {
            Ok(Taken::Rows(piece)) => {
                if rows.is_empty() {
                    first = piece.first_row;
                }
                rows.extend_from_slice(&piece.rows);
                position = piece.position;
            }
            Ok(Taken::Columns(columns)) => return Ok(Again::Columns(columns)),
            Ok(Taken::Nothing) if waited < AGAIN && !is_stopped() => waited += step,
            Err(SourceError::Unavailable { retry, .. }) => rest(retry, is_stopped)?,
            Err(error) => return Err(error.into()),
            Ok(Taken::Nothing | Taken::End) => {
                return Err(RunnerError::Refused(format!(
                    "{}: it ended before rows that it gave once; {} bytes of {} were there",
                    port.name(),
                    rows.len(),
                    wide(wanted)
                )));
            }
        }
    }
    Ok(Again::Text {
        rows,
        first,
        position,
    })
}
