//! A stream on one thread: the machine, the engine, and queues of what is to be done outside.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use holm_base::{Time, WriteId};
use holm_connect::{Columns, Key, KeyRing, Position, Read};
use holm_durable::{Data, Entry, Offsets, Record};
use holm_engine::{Full, Passed, Several};
use holm_lanes::Batch;
use holm_machine::{DiskError, Effects, Folder, Machine};
use holm_once::{Effect, Once, Outputs, Snapshot};

use crate::cut::Cut;
use crate::error::RunnerError;
use crate::job::Aside;
use crate::saved::{Frozen, Reached, Saved};
use crate::turns::Turn;

/// What a source gave, understood.
#[derive(Clone, Debug)]
pub enum Arrived {
    /// Rows.
    Rows {
        /// What was read of them.
        read: Read,
        /// How far the source is with them.
        position: Position,
        /// How many bytes they were, and their checksum.
        bytes: (u64, u32),
        /// Under which name they would be sent again.
        key: Option<Key>,
    },
    /// There are no more.
    End,
    /// There have been none for long.
    Idle,
}

impl Arrived {
    /// Rows that need no reading.
    #[must_use]
    pub fn of_columns(columns: Columns) -> Self {
        Self::Rows {
            read: Read {
                lines: wide(columns.batch.rows + columns.bad.len()),
                batch: columns.batch,
                bad: columns.bad,
            },
            position: columns.position,
            bytes: (wide(columns.bytes), columns.crc),
            key: None,
        }
    }
}

/// A record with its place in the log; its bytes are made where there is time for it.
#[derive(Debug)]
pub struct Filed {
    sequence: u64,
    epoch: u64,
    record: Record,
    entry: OnceLock<Entry>,
}

impl Filed {
    /// The record as the log has it, made by the first thread that asks; others wait for it.
    #[must_use]
    pub fn entry(&self) -> &Entry {
        let entry = || self.record.entry(self.sequence, self.epoch);
        self.entry.get_or_init(entry)
    }

    /// Makes the record as the log will want it.
    pub(crate) fn encode(&self) {
        let made = self.entry();
        assert_eq!(made.sequence, self.sequence, "it is this record's");
    }

    /// Rows that are encoded in it.
    #[must_use]
    pub(crate) const fn rows(&self) -> usize {
        match &self.record {
            Record::Data(data) => data.batch.rows,
            Record::Opened | Record::Offsets(_) | Record::Ended { .. } | Record::Idle { .. } => 0,
        }
    }
}

/// Rows for a sink.
#[derive(Clone, Debug)]
pub struct Commit {
    /// The number of the first one, from 0.
    pub first: u64,
    /// The rows.
    pub rows: Arc<Batch>,
}

impl Commit {
    /// How many rows there are with these.
    #[must_use]
    pub fn output(&self) -> u64 {
        self.first + wide(self.rows.rows)
    }
}

/// State that is to be saved: as it was, to be written whenever.
#[derive(Clone, Debug)]
pub struct Save(Box<Frozen>);

impl Save {
    /// The file's name.
    #[must_use]
    pub fn name(&self) -> String {
        crate::saved::name(self.0.saved.of, self.0.saved.queries)
    }

    /// The last record in it.
    #[must_use]
    pub const fn through(&self) -> u64 {
        self.0.saved.of.through
    }

    /// How many rows each sink had by then.
    #[must_use]
    pub fn committed(&self) -> &[u64] {
        &self.0.saved.committed
    }

    /// The state as bytes. This is most of the work of a snapshot, and any thread may do it.
    #[must_use]
    pub fn body(&self) -> Vec<u8> {
        self.0.bytes()
    }

    /// Writes it, whole or not at all; how many bytes it has.
    ///
    /// # Errors
    ///
    /// If the disk refuses.
    pub fn keep(&self, folder: &dyn Folder) -> Result<u64, DiskError> {
        let body = self.body();
        holm_durable::keep(folder, &self.name(), crate::saved::KIND, &body)?;
        Ok(wide(body.len()))
    }
}

/// A stream, and what it wants done.
#[derive(Debug)]
pub struct Keeper {
    pub(crate) once: Once,
    pub(crate) run: Several,
    /// For each sink the query that it is of.
    pub(crate) sinks: Vec<usize>,
    pub(crate) turn: Turn,
    pub(crate) epoch: u64,
    /// The plan's digest.
    pub(crate) plan: u32,
    pub(crate) reached: Vec<Reached>,
    /// Whether a source gives its rows again.
    pub(crate) is_replayable: Vec<bool>,
    /// For each source after how much silence it is left out of watermarks.
    pub(crate) idle: Vec<Option<Duration>>,
    /// For each source where its rows are logged, if they are.
    pub(crate) cuts: Vec<Cut>,
    /// For each source the names under which rows were sent last.
    pub(crate) keys: Vec<KeyRing>,
    /// Lines that were no rows.
    pub(crate) bad: u64,
    /// For each sink that keeps no numbers, what a snapshot that is durable says it has; those
    /// that do say it themselves.
    pub(crate) recorded: Vec<Option<u64>>,
    /// What each sink has, as it said last.
    pub(crate) has: Vec<u64>,
    effects: Effects<Effect>,
    /// What waits for a write, oldest first.
    held: VecDeque<Effect>,
    positions: BTreeMap<u64, (usize, Position)>,
    /// For each query the batches that came out, by the number of their first row, until each of
    /// its sinks has them.
    outputs: Vec<VecDeque<(u64, Arc<Batch>)>>,
    /// The writes of `records` end with this one.
    write: WriteId,
    /// To be flushed.
    pub(crate) records: Vec<Arc<Filed>>,
    /// To be put, for each sink.
    pub(crate) commits: Vec<VecDeque<Commit>>,
    /// Sources that are to hear of it.
    pub(crate) acknowledged: Vec<(usize, Position)>,
    pub(crate) save: Option<Save>,
    saving: Vec<u64>,
    pub(crate) forget: Vec<Snapshot>,
    pub(crate) truncate: Option<u64>,
    pub(crate) is_open: bool,
    pub(crate) refused: Option<holm_once::Refusal>,
    snapshots: Vec<Snapshot>,
    asides: Vec<Aside>,
    /// Records that are to run again.
    pub(crate) replayed: Vec<Effect>,
}

impl Keeper {
    pub(crate) fn new(once: Once, run: Several, (sources, of): (usize, Vec<usize>)) -> Self {
        let sinks = of.len();
        Self {
            once,
            outputs: vec![VecDeque::new(); run.queries()],
            run,
            sinks: of,
            turn: Turn::alone(),
            epoch: 0,
            plan: 0,
            reached: vec![Reached::default(); sources],
            is_replayable: vec![false; sources],
            idle: vec![None; sources],
            cuts: Vec::new(),
            keys: vec![KeyRing::default(); sources],
            bad: 0,
            recorded: vec![None; sinks],
            has: vec![0; sinks],
            effects: Effects::new(),
            held: VecDeque::new(),
            positions: BTreeMap::new(),
            write: WriteId::ZERO,
            records: Vec::new(),
            commits: vec![VecDeque::new(); sinks],
            acknowledged: Vec::new(),
            save: None,
            saving: Vec::new(),
            forget: Vec::new(),
            truncate: None,
            is_open: false,
            refused: None,
            snapshots: Vec::new(),
            asides: Vec::new(),
            replayed: Vec::new(),
        }
    }

    pub(crate) fn step(&mut self, now: Time, input: holm_once::Input) -> Vec<Effect> {
        self.once.step(now, input, &mut self.effects);
        self.effects.drain().collect()
    }

    /// Takes what a source gave: it is numbered, logged and run at once, and nobody hears of it
    /// before its record is durable.
    ///
    /// # Errors
    ///
    /// If the engine holds more rows than it may.
    ///
    /// # Panics
    ///
    /// If the source has ended.
    pub fn take(&mut self, now: Time, source: usize, arrived: Arrived) -> Result<(), RunnerError> {
        assert!(!self.reached[source].is_over, "a source ends once");
        let mut record = Some(self.record(source, &arrived));
        let mut arrived = Some(arrived);
        let mut numbered = None;
        for effect in self.step(now, holm_once::Input::Received { source }) {
            match effect {
                Effect::Persist {
                    write, sequence, ..
                } => {
                    self.write = write;
                    numbered = Some(sequence);
                    let position = self.reached[source].position.clone();
                    self.positions.insert(sequence, (source, position));
                }
                Effect::Assemble { sequence } => {
                    let arrived = arrived.take().expect("a batch runs once");
                    let record = record.take().expect("a batch is one record");
                    assert_eq!(numbered, Some(sequence), "a batch is logged and run");
                    let (out, record) = self.execute_logged(source, arrived, record)?;
                    self.records.push(Arc::new(Filed {
                        sequence,
                        epoch: self.epoch,
                        record,
                        entry: OnceLock::new(),
                    }));
                    self.came_out(now, sequence, out);
                }
                other => self.carry(other),
            }
        }
        Ok(())
    }

    /// Runs a batch, and cuts its record where that takes the fewest bytes.
    fn execute_logged(
        &mut self,
        source: usize,
        arrived: Arrived,
        record: Record,
    ) -> Result<(Vec<Batch>, Record), RunnerError> {
        let Record::Data(came) = record else {
            return Ok((self.execute(source, arrived)?, record));
        };
        let watched = self.cuts[source].watched();
        let (out, passed) = self.execute_watched(source, arrived, &watched)?;
        let data = self.cuts[source].logged(*came, &passed);
        Ok((out, Record::Data(Box::new(data))))
    }

    /// The record of a batch as it came; notes how far the source is.
    fn record(&mut self, source: usize, arrived: &Arrived) -> Record {
        let number = u32::try_from(source).expect("sources are few");
        let reached = &mut self.reached[source];
        match arrived {
            Arrived::End => {
                reached.is_over = true;
                Record::Ended { source: number }
            }
            Arrived::Idle => Record::Idle { source: number },
            Arrived::Rows {
                read,
                position,
                bytes: (bytes, crc),
                key,
            } => {
                if let Some(key) = key {
                    self.keys[source].add(key.clone());
                }
                reached.position = position.clone();
                reached.lines += read.lines;
                let position = position.as_bytes().to_vec();
                if self.is_replayable[source] {
                    return Record::Offsets(Offsets {
                        source: number,
                        position,
                        lines: reached.lines,
                        bytes: *bytes,
                        crc: *crc,
                    });
                }
                Record::Data(Box::new(Data {
                    source: number,
                    position,
                    lines: reached.lines,
                    bad: wide(read.bad.len()),
                    key: key.clone().map(|key| (key.name.to_string(), key.digest)),
                    batch: read.batch.clone(),
                    behind: None,
                }))
            }
        }
    }

    /// Runs a batch; what comes out, by query.
    pub(crate) fn execute(
        &mut self,
        source: usize,
        arrived: Arrived,
    ) -> Result<Vec<Batch>, RunnerError> {
        let (out, _none) = self.execute_watched(source, arrived, &[])?;
        Ok(out)
    }

    /// The same, and what passed nodes on its way.
    fn execute_watched(
        &mut self,
        source: usize,
        arrived: Arrived,
        watched: &[usize],
    ) -> Result<(Vec<Batch>, Vec<Passed>), RunnerError> {
        let out = match arrived {
            Arrived::End => {
                let _stint = self.turn.wait();
                (self.run.end(source)?, Vec::new())
            }
            Arrived::Idle => {
                let _stint = self.turn.wait();
                (self.run.idle(source)?, Vec::new())
            }
            Arrived::Rows { read, .. } => {
                self.bad += wide(read.bad.len());
                for bad in &read.bad {
                    self.aside(Some((source, bad.line)), Some(bad.to_string()));
                }
                self.push(source, read.batch, watched)?
            }
        };
        self.report();
        Ok(out)
    }

    /// Runs what passed a point before its record was made.
    pub(crate) fn resume(
        &mut self,
        source: usize,
        passed: &Passed,
    ) -> Result<Vec<Batch>, RunnerError> {
        let out = {
            let _stint = self.turn.wait();
            self.run.resume(source, passed)?
        };
        self.report();
        Ok(out)
    }

    /// Says which rows were set aside.
    fn report(&mut self) {
        let mut told = BTreeSet::new();
        for query in 0..self.run.queries() {
            let report = self.run.report(query);
            let diverted = report.diverted.into_iter();
            let diverted = diverted.map(|it| (it.line, Some(it.fault.to_string())));
            let late = report.late.into_iter();
            let late = late.map(|it| (Some((it.source, it.line)), None));
            for (row, why) in diverted.chain(late) {
                // What has no value in several queries is told once.
                if self.run.queries() == 1 || told.insert((row, why.clone())) {
                    self.aside(row, why);
                }
            }
        }
    }

    /// Rows in as many pieces as turns they need: no output depends on where they are cut.
    fn push(
        &mut self,
        source: usize,
        batch: Batch,
        watched: &[usize],
    ) -> Result<(Vec<Batch>, Vec<Passed>), Full> {
        let rows = batch.rows;
        let mut at = 0_usize;
        let mut found: Option<(Vec<Batch>, Vec<Passed>)> = None;
        loop {
            let mut stint = self.turn.wait();
            let end = rows.min(at.saturating_add(stint.rows));
            if at == 0 && end == rows {
                stint.rows = rows;
                return self.run.push_watched(source, batch, watched);
            }
            stint.rows = end - at;
            let part = batch.slice(at..end);
            let (out, passed) = self.run.push_watched(source, part, watched)?;
            found = Some(match found {
                Some((outs, before)) => {
                    let cut = &self.cuts[source];
                    let pairs = before.iter().zip(&passed);
                    let passed = pairs.map(|(one, next)| one.and(next, cut.read(one.node)));
                    let outs = outs.iter().zip(&out).map(|it| it.0.and(it.1));
                    (outs.collect(), passed.collect())
                }
                None => (out, passed),
            });
            at = end;
            if at == rows {
                return Ok(found.unwrap_or_default());
            }
        }
    }

    fn aside(&mut self, row: Option<(usize, u64)>, why: Option<String>) {
        const ASIDES_MAX: usize = 1 << 16;
        if self.asides.len() < ASIDES_MAX {
            self.asides.push(Aside { row, why });
        }
    }

    /// Numbers what came out of a record, by query.
    pub(crate) fn came_out(&mut self, now: Time, sequence: u64, outs: Vec<Batch>) {
        let mut outputs = self.once.outputs();
        for (query, out) in outs.into_iter().enumerate() {
            let first = outputs.at(query);
            outputs.set(query, first + wide(out.rows));
            if out.rows > 0 {
                self.outputs[query].push_back((first, Arc::new(out)));
            }
        }
        for effect in self.step(now, holm_once::Input::Assembled { sequence, outputs }) {
            self.carry(effect);
        }
        self.let_outputs_go();
    }

    /// Puts an effect where it belongs, or holds it until its write is durable.
    pub(crate) fn carry(&mut self, effect: Effect) {
        if effect.after().is_some() {
            // Snapshots are of the state as it is now, whenever they are saved.
            if let Effect::Snapshot { of, .. } = &effect {
                self.snapshot(*of);
            }
            return self.held.push_back(effect);
        }
        if let Effect::Snapshot { of, .. } = &effect {
            self.snapshot(*of);
        }
        self.perform(effect);
    }

    fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::Acknowledge { sequence, .. } => {
                if let Some(of) = self.positions.remove(&sequence) {
                    self.acknowledged.push(of);
                }
            }
            Effect::Commit {
                sink, first, last, ..
            } => self.commit(sink, (first - 1, last)),
            Effect::Snapshot { of, .. } => self.saving.push(of.through),
            Effect::Truncate { below } => self.truncate = Some(below),
            Effect::Forget { through } => {
                let found = self.snapshots.iter().position(|it| it.through == through);
                let found = found.map(|at| self.snapshots.remove(at));
                self.forget.extend(found);
            }
            Effect::Open => self.is_open = true,
            Effect::Refuse(refusal) => self.refused = Some(refusal),
            Effect::Assemble { .. } => self.replayed.push(effect),
            Effect::Persist { .. } | Effect::Ask { .. } | Effect::Load { .. } => {
                panic!("these are carried out where they are wanted: {effect:?}")
            }
        }
    }

    /// Rows `from.0..from.1` for a sink.
    fn commit(&mut self, sink: usize, from: (u64, u64)) {
        for (first, batch) in &self.outputs[self.sinks[sink]] {
            let end = first + wide(batch.rows);
            if end <= from.0 || *first >= from.1 {
                continue;
            }
            let skipped = from.0.saturating_sub(*first);
            let commit = if skipped == 0 {
                Commit {
                    first: *first,
                    rows: Arc::clone(batch),
                }
            } else {
                let from = u32::try_from(skipped).expect("a batch is smaller");
                let rows: Vec<u32> = (from..holm_lanes::number(batch.rows)).collect();
                Commit {
                    first: first + skipped,
                    rows: Arc::new(batch.take(&rows)),
                }
            };
            self.commits[sink].push_back(commit);
        }
    }

    fn snapshot(&mut self, of: Snapshot) {
        let saved = Saved {
            plan: self.plan,
            of,
            queries: self.run.queries(),
            bad: self.bad,
            reached: self.reached.clone(),
            committed: self.has.clone(),
            keys: self.keys.clone(),
        };
        self.save = Some(Save(Box::new(Frozen {
            saved,
            run: self.run.clone(),
        })));
        self.snapshots.push(of);
    }

    /// The records up to the last that was appended are durable.
    pub fn flushed(&mut self, now: Time, write: WriteId) {
        for effect in self.step(now, holm_once::Input::Durable { write }) {
            self.carry(effect);
        }
        while let Some(effect) = self.held.pop_front_if(|it| it.after() <= Some(write)) {
            self.perform(effect);
        }
    }

    /// A sink has so many rows.
    pub fn committed(&mut self, now: Time, sink: usize, output: u64) {
        self.has[sink] = self.has[sink].max(output);
        self.let_outputs_go();
        if self.recorded[sink].is_none() {
            for effect in self.step(now, holm_once::Input::Committed { sink, output }) {
                self.carry(effect);
            }
        }
    }

    /// A snapshot is durable, and in it how many rows each sink had.
    pub fn saved(&mut self, now: Time, through: u64, committed: &[u64]) {
        for effect in self.step(now, holm_once::Input::Snapshotted { through }) {
            self.carry(effect);
        }
        for (sink, output) in committed.iter().copied().enumerate() {
            if self.recorded[sink].is_some() {
                self.recorded[sink] = Some(output);
                for effect in self.step(now, holm_once::Input::Committed { sink, output }) {
                    self.carry(effect);
                }
            }
        }
    }

    /// The time has come to look whether state should be saved. Whether it is being saved now.
    pub fn wake(&mut self, now: Time) -> bool {
        let effects = self.step(now, holm_once::Input::Wake);
        let is_saved = !effects.is_empty();
        for effect in effects {
            self.carry(effect);
        }
        is_saved
    }

    fn let_outputs_go(&mut self) {
        let had = self.had();
        for (query, outputs) in self.outputs.iter_mut().enumerate() {
            while outputs
                .pop_front_if(|(first, batch)| *first + wide(batch.rows) <= had.at(query))
                .is_some()
            {}
        }
    }

    /// What the slowest sink of each query has; all of it where there is no sink.
    fn had(&self) -> Outputs {
        let of = |query: usize| {
            let sinks = self.sinks.iter().zip(&self.has);
            let own = sinks.filter(|(own, _)| **own == query);
            let least = own.map(|(_, has)| *has).min();
            least.unwrap_or_else(|| self.once.outputs().at(query))
        };
        Outputs::of((0..self.run.queries()).map(of))
    }

    /// Takes the records that are to be flushed, and the write that they end with.
    pub fn take_records(&mut self) -> Option<(Vec<Arc<Filed>>, WriteId)> {
        let records = std::mem::take(&mut self.records);
        (!records.is_empty()).then_some((records, self.write))
    }

    /// Takes what a sink is to be given next: all that waits for it, up to a bound, for each
    /// commit costs it a sync.
    pub fn take_commit(&mut self, sink: usize) -> Option<Commit> {
        const ROWS_MAX: usize = 1 << 14;
        let waiting = &mut self.commits[sink];
        let first = waiting.pop_front()?;
        let mut parts = vec![Arc::clone(&first.rows)];
        let mut rows = first.rows.rows;
        while let Some(next) = waiting.pop_front_if(|next| rows + next.rows.rows <= ROWS_MAX) {
            rows += next.rows.rows;
            parts.push(next.rows);
        }
        if parts.len() == 1 {
            return Some(first);
        }
        let rows = Batch::together(&parts);
        Some(Commit {
            first: first.first,
            rows: Arc::new(rows),
        })
    }

    /// Takes what sources are to hear.
    pub fn take_acknowledged(&mut self) -> Vec<(usize, Position)> {
        std::mem::take(&mut self.acknowledged)
    }

    /// Takes the state that is to be saved, once the log holds what it rests on.
    pub fn take_save(&mut self) -> Option<Save> {
        let through = self.save.as_ref()?.through();
        let at = self.saving.iter().position(|it| *it == through)?;
        self.saving.remove(at);
        self.save.take()
    }

    /// Takes the names of snapshots that nobody needs, and the first record that is needed.
    pub fn take_tidying(&mut self) -> (Vec<String>, Option<u64>) {
        let gone = std::mem::take(&mut self.forget);
        let queries = self.run.queries();
        let name = |of| crate::saved::name(of, queries);
        let names = gone.into_iter().map(name).collect();
        (names, self.truncate.take())
    }

    /// Takes the rows that were set aside since it was last asked.
    pub fn take_asides(&mut self) -> Vec<Aside> {
        std::mem::take(&mut self.asides)
    }

    pub(crate) fn knows(&mut self, snapshots: &[Snapshot]) {
        self.snapshots = snapshots.to_vec();
    }

    /// The watermark of a source.
    #[must_use]
    pub fn mark(&self, source: usize) -> i64 {
        self.run.mark(source)
    }

    /// Whether a source has ended.
    #[must_use]
    pub fn is_over(&self, source: usize) -> bool {
        self.reached[source].is_over
    }

    /// How far a source is.
    #[must_use]
    pub fn position(&self, source: usize) -> &Position {
        &self.reached[source].position
    }

    /// How many sources it has.
    #[must_use]
    pub fn sources(&self) -> usize {
        self.reached.len()
    }

    /// The number of records.
    #[must_use]
    pub const fn records(&self) -> u64 {
        self.once.assembled()
    }

    /// How many rows came out of each query, and how many of them each sink has.
    #[must_use]
    pub fn outputs(&self) -> (Vec<u64>, &[u64]) {
        let outputs = self.once.outputs();
        let queries = 0..self.run.queries();
        (queries.map(|query| outputs.at(query)).collect(), &self.has)
    }

    /// Rows that came out of all queries and that some sink lacks.
    #[must_use]
    pub fn pending(&self) -> u64 {
        let (outputs, had) = (self.once.outputs(), self.had());
        let queries = 0..self.run.queries();
        // A stream that comes back has yet to make again what its sinks have.
        let lacking = |query| outputs.at(query).saturating_sub(had.at(query));
        queries.map(lacking).sum()
    }

    /// The last record that a crash would not run again.
    pub(crate) fn spared(&self) -> u64 {
        self.once.spared()
    }

    /// Whether what was taken is not yet all that a crash could spare: a sink lacks rows, or a
    /// snapshot is being made.
    pub(crate) fn is_behind(&self) -> bool {
        self.once.is_saving() || self.pending() > 0
    }

    /// Whether nothing is left to do for what was taken.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.records.is_empty() && self.held.is_empty() && self.pending() == 0
    }

    /// When it wants to be woken.
    #[must_use]
    pub fn wake_at(&self) -> Option<Time> {
        self.once.wake_at()
    }
}

pub(crate) fn wide(count: usize) -> u64 {
    u64::try_from(count).expect("what is in memory is counted in 64 bits")
}
